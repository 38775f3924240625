/* Rates, quantiles and the live message, from samples made by hand. */
#include "ctl_sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void quantiles_lie_in_their_bucket(void **state)
{
	(void)state;
	uint64_t bucket[TP_LATENCY_BUCKETS] = {0};

	assert_true(ctl_latency_quantile(bucket, 0.5) == 0);
	bucket[20] = 100;
	for (double share = 0.01; share <= 1; share += 0.01) {
		double ns = ctl_latency_quantile(bucket, share);
		assert_true(ns > ldexp(1, 20) && ns <= ldexp(1, 21));
	}
	bucket[10] = 98;
	bucket[20] = 1;
	bucket[30] = 1;
	double p50 = ctl_latency_quantile(bucket, 0.5), p99 = ctl_latency_quantile(bucket, 0.99);
	assert_true(p50 > ldexp(1, 10) && p50 <= ldexp(1, 11));
	assert_true(p99 > ldexp(1, 20) && p99 <= ldexp(1, 21));
	assert_true(ctl_latency_quantile(bucket, 1) == ldexp(1, 31));
	assert_true(ctl_latency_quantile(bucket, 0.2) < p50);
}

/* Two samples two seconds apart. */
static void samples_make(struct ctl_sample *early, struct ctl_sample *late)
{
	*early = (struct ctl_sample){
		.now_ms = 1000000, .mono_ns = 5000000000, .attached = true, .connected = true, .pid = 7, .started_ms = 3};
	early->cores = 1;
	early->core[0] = (struct ctl_core_sample){.cpu = 4, .is_rx = true};
	*late = *early;
	late->now_ms += 2000;
	late->mono_ns += 2000000000;
	late->watermark_ms = 940000;
	late->sum.v[TP_C_EVENTS_RECEIVED] = 300;
	late->sum.v[TP_C_EVENTS_ACCEPTED] = 290;
	late->sum.v[TP_C_EVENTS_FUTURE] = 4;
	late->sum.v[TP_C_EVENTS_BAD_TYPE] = 6;
	late->core[0].counters.v[TP_C_EVENTS_RECEIVED] = 300;
	late->core[0].counters.v[TP_C_CORE_BUSY_NS] = 500;
	late->core[0].counters.v[TP_C_CORE_IDLE_NS] = 1500;
	late->types.clicks = 20;
	late->ack_latency[20] = 50;
}

static json_t *at(json_t *object, const char *one, const char *two)
{
	json_t *value = json_object_get(object, one);
	return two ? json_object_get(value, two) : value;
}

static void a_message_tells_totals_and_rates(void **state)
{
	(void)state;
	struct ctl_sample *early = calloc(1, sizeof(*early)), *late = calloc(1, sizeof(*late));

	samples_make(early, late);
	json_t *message = ctl_sample_json(late, early, json_array());
	assert_int_equal(json_integer_value(at(message, "totals", "received")), 300);
	assert_int_equal(json_integer_value(at(message, "totals", "rejected")), 10);
	assert_int_equal(json_integer_value(at(message, "totals", "clicks")), 20);
	assert_true(json_real_value(at(message, "per_second", "received")) == 150);
	assert_true(json_real_value(at(message, "per_second", "rejected")) == 5);
	assert_true(json_real_value(at(message, "per_second", "clicks")) == 10);
	assert_true(json_real_value(at(message, "ack", "per_second")) == 25);
	assert_true(json_real_value(at(message, "ack", "p99_ms")) > 1);
	assert_int_equal(json_integer_value(at(message, "watermark_lag_ms", NULL)), 62000);
	assert_string_equal(json_string_value(at(message, "watermark", NULL)), "1970-01-01T00:15:40Z");
	assert_string_equal(json_string_value(at(message, "state", NULL)), "taking");
	json_t *core = json_array_get(at(message, "cores", NULL), 0);
	assert_true(json_real_value(json_object_get(core, "busy")) == 0.25);
	assert_true(json_real_value(json_object_get(core, "received_per_second")) == 150);
	assert_int_equal(json_array_size(at(message, "refusals", NULL)), 2);
	json_decref(message);
	free(early);
	free(late);
}

static void the_machinery_has_its_parts(void **state)
{
	(void)state;
	struct ctl_sample *early = calloc(1, sizeof(*early)), *late = calloc(1, sizeof(*late));

	samples_make(early, late);
	early->ports = late->ports = 2;
	strcpy(late->port[1], "socket [::1]:80");
	early->way_events[1][TP_WAY_UDP_BATCH] = 10;
	late->way_events[1][TP_WAY_UDP_BATCH] = 50;
	late->shards = 1;
	late->log_waiting[0] = 3;
	late->ring_used[0] = 512;
	late->ring_bytes[0] = 4096;
	late->sum.v[TP_C_LOG_BYTES] = 4096;
	late->sum.v[TP_C_XDP_RECEIVED] = 100;
	late->sum.v[TP_C_XDP_BAD_TCP] = 30;
	late->sum.v[TP_C_CONNECTIONS_OPENED] = 9;
	late->sum.v[TP_C_CONNECTIONS_CLOSED] = 2;
	json_t *message = ctl_sample_json(late, early, json_array());
	json_t *port = json_array_get(at(message, "ports", NULL), 1), *batch = at(port, "ways", "udp_batch");
	assert_int_equal(json_array_size(at(message, "ports", NULL)), 2);
	assert_string_equal(json_string_value(at(port, "port", NULL)), "socket [::1]:80");
	assert_int_equal(json_integer_value(at(batch, "total", NULL)), 50);
	assert_true(json_real_value(at(batch, "per_second", NULL)) == 20);
	assert_true(json_real_value(at(message, "log", "bytes_per_second")) == 2048);
	json_t *shard = json_array_get(at(message, "shards", NULL), 0);
	assert_int_equal(json_integer_value(at(shard, "log_waiting", NULL)), 3);
	assert_int_equal(json_integer_value(at(shard, "ring_used_bytes", NULL)), 512);
	assert_int_equal(json_integer_value(at(shard, "ring_bytes", NULL)), 4096);
	assert_true(json_real_value(at(at(message, "layers", "xdp"), "dropped", "per_second")) == 15);
	assert_int_equal(json_integer_value(at(at(message, "layers", "xdp"), "received", "total")), 100);
	assert_int_equal(json_integer_value(at(message, "connections", "open")), 7);
	json_t *core = json_array_get(at(message, "cores", NULL), 0);
	assert_true(json_real_value(json_object_get(core, "event_ns")) == 2); /* 500 ns busy, 300 events, rounded */
	json_decref(message);
	/* a node that is too busy sheds; a sender that is over its limit does not make it so */
	assert_int_equal(ctl_sample_shed(late, early), 0);
	late->sum.v[TP_C_REQUESTS_429] = 8;
	assert_int_equal(ctl_sample_shed(late, early), 0);
	late->sum.v[TP_C_REQUESTS_503] = 8;
	assert_int_equal(ctl_sample_shed(late, early), 8);
	free(early);
	free(late);
}

static void what_cannot_be_compared_has_no_rate(void **state)
{
	(void)state;
	struct ctl_sample *early = calloc(1, sizeof(*early)), *late = calloc(1, sizeof(*late));

	for (int way = 0; way < 5; way++) {
		samples_make(early, late);
		switch (way) {
		case 0:
			late->pid = 8; /* another run */
			break;
		case 1:
			late->started_ms = 4;
			break;
		case 2:
			late->connected = false; /* it is gone */
			break;
		case 3:
			early->attached = false;
			break;
		default:
			late->mono_ns = early->mono_ns;
		}
		json_t *message = ctl_sample_json(late, early, json_array());
		assert_true(json_is_null(at(message, "per_second", "received")));
		assert_true(json_is_null(at(message, "per_second", "clicks")));
		assert_true(json_is_null(at(message, "ack", "p50_ms")));
		assert_true(json_is_null(json_object_get(json_array_get(at(message, "cores", NULL), 0), "busy")));
		assert_int_equal(json_integer_value(at(message, "totals", "received")), 300);
		json_decref(message);
	}
	/* sums that fell, after a kill, are no negative rate */
	samples_make(early, late);
	early->types.clicks = 25;
	json_t *message = ctl_sample_json(late, early, json_array());
	assert_true(json_real_value(at(message, "per_second", "clicks")) == 0);
	json_decref(message);
	free(early);
	free(late);
}

static void each_state_has_its_word(void **state)
{
	(void)state;
	struct ctl_sample *sample = calloc(1, sizeof(*sample));
	static const struct {
		bool attached, connected;
		uint32_t refusing;
		uint64_t heartbeat_ms;
		const char *word;
	} rows[] = {
		{false, false, TP_TAKING, 0, "absent"},   {true, false, TP_TAKING, 0, "gone"},
		{true, true, TP_TAKING, 9000, "taking"},  {true, true, TP_NO_SPACE, 9000, "no_space"},
		{true, true, TP_STARTING, 0, "starting"}, {true, true, TP_TAKING, 5000, "stalled"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		*sample = (struct ctl_sample){.now_ms = 10000,
					      .attached = rows[i].attached,
					      .connected = rows[i].connected,
					      .refusing = rows[i].refusing,
					      .heartbeat_ms = rows[i].heartbeat_ms};
		json_t *message = ctl_sample_json(sample, NULL, json_array());
		assert_string_equal(json_string_value(json_object_get(message, "state")), rows[i].word);
		json_decref(message);
	}
	free(sample);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantiles_lie_in_their_bucket), cmocka_unit_test(a_message_tells_totals_and_rates),
		cmocka_unit_test(the_machinery_has_its_parts),   cmocka_unit_test(what_cannot_be_compared_has_no_rate),
		cmocka_unit_test(each_state_has_its_word),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
