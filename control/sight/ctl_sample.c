/* Totals of one moment and rates between two; see ctl_sample.h. */
#include "ctl_sample.h"

#include "ctl_request.h"
#include "turnpike/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STALLED_MS = 3000, TIME_BYTES = 32 };

static uint64_t load(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

static void core_take(struct ctl_sample *sample, const struct tp_live_core *from, struct ctl_core_sample *to)
{
	*to = (struct ctl_core_sample){
		.cpu = from->cpu, .is_rx = from->is_rx != 0, .is_shard = from->is_shard != 0, .shard = from->shard};
	(void)tp_counters_add(&from->counters, &to->counters);
	for (uint32_t c = 0; c < TP_COUNTERS; c++)
		sample->sum.v[c] += to->counters.v[c];
	for (uint32_t b = 0; b < TP_LATENCY_BUCKETS; b++)
		sample->ack_latency[b] += load(&from->ack_latency[b]);
	for (uint32_t p = 0; p < sample->ports; p++)
		for (uint32_t w = 0; w < TP_WAYS; w++)
			sample->way_events[p][w] += load(&from->way_events[p][w]);
}

void ctl_sample_take(struct ctl_sample *sample, const struct ctl_look *look, uint64_t now_ms, uint64_t mono_ns)
{
	const struct tp_live *live = look->now;

	*sample = (struct ctl_sample){.now_ms = now_ms, .mono_ns = mono_ns, .attached = live != NULL, .connected = look->connected};
	if (!live)
		return;
	sample->pid = live->pid;
	sample->started_ms = live->started_ms;
	sample->cores = ctl_live_cores(live);
	sample->ports = live->ports < TP_LIVE_PORTS ? live->ports : TP_LIVE_PORTS;
	for (uint32_t p = 0; p < sample->ports; p++)
		snprintf(sample->port[p], sizeof(sample->port[p]), "%.*s", (int)sizeof(live->port[p]) - 1, live->port[p]);
	sample->shards = ctl_live_shards(live);
	for (uint32_t s = 0; s < sample->shards; s++) {
		/* durable first: it never overtakes what is appended */
		uint64_t durable = load(&live->shard[s].log_durable), appended = load(&live->shard[s].log_appended);
		sample->log_waiting[s] = appended > durable ? appended - durable : 0;
		sample->ring_used[s] = load(&live->shard[s].ring_used_bytes);
		sample->ring_bytes[s] = load(&live->shard[s].ring_bytes);
	}
	for (uint32_t i = 0; i < sample->cores; i++)
		core_take(sample, &live->core[i], &sample->core[i]);
	(void)tp_counters_add(&live->housekeeping, &sample->sum);
	snprintf(sample->node, sizeof(sample->node), "%.*s", (int)sizeof(live->node), live->node);
	snprintf(sample->http, sizeof(sample->http), "%.*s", (int)sizeof(live->http), live->http);
	snprintf(sample->udp, sizeof(sample->udp), "%.*s", (int)sizeof(live->udp), live->udp);
	snprintf(sample->receive_path, sizeof(sample->receive_path), "%.*s", (int)sizeof(live->receive_path), live->receive_path);
	sample->refusing = atomic_load_explicit(&live->refusing, memory_order_relaxed);
	sample->ready = atomic_load_explicit(&live->ready, memory_order_relaxed) != 0;
	sample->heartbeat_ms = load(&live->heartbeat_ms);
	sample->watermark_ms = load(&live->watermark_ms);
	sample->free_bytes = load(&live->free_bytes);
	sample->total_bytes = load(&live->total_bytes);
	sample->ids = load(&live->shard[0].ids);
	sample->ids_max = load(&live->shard[0].ids_max);
	sample->blocklist_entries = load(&live->blocklist_entries);
}

bool ctl_sample_follows(const struct ctl_sample *late, const struct ctl_sample *early)
{
	return late->attached && early->attached && late->pid == early->pid && late->started_ms == early->started_ms &&
	       late->cores == early->cores && late->mono_ns > early->mono_ns;
}

double ctl_latency_quantile(const uint64_t bucket[TP_LATENCY_BUCKETS], double share)
{
	uint64_t count = 0;
	for (int b = 0; b < TP_LATENCY_BUCKETS; b++)
		count += bucket[b];
	if (count == 0)
		return 0;
	double wanted = share * (double)count, below = 0;
	for (int b = 0; b < TP_LATENCY_BUCKETS; b++) {
		double here = (double)bucket[b];
		if (here > 0 && below + here >= wanted)
			return ldexp(exp2((wanted - below) / here), b);
		below += here;
	}
	return ldexp(1, TP_LATENCY_BUCKETS);
}

struct ctl_ack ctl_sample_ack(const struct ctl_sample *late, const struct ctl_sample *early)
{
	struct ctl_ack ack = {.p50_ms = NAN, .p99_ms = NAN};
	uint64_t bucket[TP_LATENCY_BUCKETS];

	if (!ctl_sample_follows(late, early))
		return ack;
	for (int b = 0; b < TP_LATENCY_BUCKETS; b++) {
		bucket[b] = late->ack_latency[b] - early->ack_latency[b];
		ack.count += bucket[b];
	}
	if (ack.count) {
		ack.p50_ms = ctl_latency_quantile(bucket, 0.5) / 1e6;
		ack.p99_ms = ctl_latency_quantile(bucket, 0.99) / 1e6;
	}
	return ack;
}

/* ---- JSON ---- */

struct span {
	const struct ctl_sample *late, *early; /* early is NULL when there is nothing to compare with */
	double seconds;
};

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* One decimal; more would only be noise. */
json_t *ctl_sample_rate(const struct ctl_sample *early, uint64_t late_count, uint64_t early_count, double seconds)
{
	if (!early)
		return json_null();
	/* what a killed data process had summed but not made durable is not there after its restart */
	return json_real(late_count <= early_count ? 0 : round(10 * (double)(late_count - early_count) / seconds) / 10);
}

static json_t *rate(const struct span *span, uint64_t late, uint64_t early)
{
	return ctl_sample_rate(span->early, late, early, span->seconds);
}

static uint64_t of_kind(const struct tp_counters *counters, enum tp_counter_layer layer, enum tp_counter_kind kind)
{
	uint64_t sum = 0;
	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		if (tp_counter_info[c].layer == layer && tp_counter_info[c].kind == kind)
			sum += counters->v[c];
	}
	return sum;
}

static void events_into(json_t *message, const struct span *span)
{
	json_t *totals = json_object(), *per_second = json_object();

	for (int kind = TP_KIND_RECEIVED; kind <= TP_KIND_IN_FLIGHT; kind++) {
		const char *name = tp_kind_name((enum tp_counter_kind)kind);
		uint64_t late = of_kind(&span->late->sum, TP_LAYER_EVENTS, (enum tp_counter_kind)kind);
		json_object_set_new(totals, name, number(late));
		if (kind == TP_KIND_IN_FLIGHT)
			continue;
		uint64_t early = span->early ? of_kind(&span->early->sum, TP_LAYER_EVENTS, (enum tp_counter_kind)kind) : 0;
		json_object_set_new(per_second, name, rate(span, late, early));
	}
	static const struct ctl_types none;
	const struct ctl_types *late = &span->late->types, *early = span->early ? &span->early->types : &none;
#define TYPE(field) \
	do { \
		json_object_set_new(totals, #field, number(late->field)); \
		json_object_set_new(per_second, #field, rate(span, late->field, early->field)); \
	} while (0)
	TYPE(impressions);
	TYPE(clicks);
	TYPE(flagged_clicks);
	TYPE(conversions);
#undef TYPE
	json_object_set_new(message, "totals", totals);
	json_object_set_new(message, "per_second", per_second);
}

static json_t *core_json(const struct span *span, uint32_t index)
{
	static const struct tp_counters zero;
	const struct ctl_core_sample *core = &span->late->core[index];
	const struct tp_counters *late = &core->counters, *early = span->early ? &span->early->core[index].counters : &zero;
	double busy = (double)(late->v[TP_C_CORE_BUSY_NS] - early->v[TP_C_CORE_BUSY_NS]);
	double idle = (double)(late->v[TP_C_CORE_IDLE_NS] - early->v[TP_C_CORE_IDLE_NS]);
	json_t *load_share = span->early && busy + idle > 0 ? json_real(round(1000 * busy / (busy + idle)) / 1000) : json_null();
	uint64_t done = late->v[TP_C_EVENTS_RECEIVED] + late->v[TP_C_SHARD_TAKEN] - early->v[TP_C_EVENTS_RECEIVED] -
			early->v[TP_C_SHARD_TAKEN];
	json_t *event_ns = span->early && done > 0 ? json_real(round(busy / (double)done)) : json_null();

	return json_pack("{s:I, s:b, s:b, s:o, s:o, s:I, s:o, s:o}", "cpu", (json_int_t)core->cpu, "rx", (int)core->is_rx, "shard",
			 (int)core->is_shard, "busy", load_share, "event_ns", event_ns, "in_flight",
			 (json_int_t)late->v[TP_C_EVENTS_IN_FLIGHT], "received_per_second",
			 rate(span, late->v[TP_C_EVENTS_RECEIVED], early->v[TP_C_EVENTS_RECEIVED]), "sharded_per_second",
			 rate(span, late->v[TP_C_SHARD_TAKEN], early->v[TP_C_SHARD_TAKEN]));
}

/* Every way in which something was turned away, as far as it has happened. */
static json_t *refusals_json(const struct span *span)
{
	json_t *list = json_array();

	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if ((info->kind != TP_KIND_REJECTED && info->kind != TP_KIND_DROPPED) || span->late->sum.v[c] == 0)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:I, s:o}", "layer",
						      tp_layer_name((enum tp_counter_layer)info->layer), "state",
						      tp_kind_name((enum tp_counter_kind)info->kind), "reason", info->label, "help",
						      info->help, "total", (json_int_t)span->late->sum.v[c], "per_second",
						      rate(span, span->late->sum.v[c], span->early ? span->early->sum.v[c] : 0)));
	}
	return list;
}

static json_t *known_ms(double ms)
{
	return isnan(ms) ? json_null() : json_real(round(ms * 1000) / 1000);
}

static json_t *ack_json(const struct span *span)
{
	struct ctl_ack ack = {.p50_ms = NAN, .p99_ms = NAN};

	if (span->early)
		ack = ctl_sample_ack(span->late, span->early);
	return json_pack("{s:o, s:o, s:o}", "p50_ms", known_ms(ack.p50_ms), "p99_ms", known_ms(ack.p99_ms), "per_second",
			 rate(span, ack.count, 0));
}

const char *ctl_sample_state(const struct ctl_sample *sample)
{
	if (!sample->attached)
		return "absent";
	if (!sample->connected)
		return "gone";
	if (sample->heartbeat_ms && sample->now_ms > sample->heartbeat_ms + STALLED_MS)
		return "stalled";
	return tp_refusing_name((enum tp_refusing)sample->refusing);
}

static void node_into(json_t *message, const struct ctl_sample *sample)
{
	char text[TIME_BYTES];
	json_t *watermark = sample->watermark_ms ? json_stringn(text, tp_time_text(sample->watermark_ms, text)) : json_null();
	json_t *lag = sample->watermark_ms ? json_integer((json_int_t)(sample->now_ms - sample->watermark_ms)) : json_null();

	json_object_set_new(message, "node", ctl_json_text(sample->node, strlen(sample->node)));
	json_object_set_new(message, "state", json_string(ctl_sample_state(sample)));
	json_object_set_new(message, "refusing",
			    sample->attached ? json_string(tp_refusing_name((enum tp_refusing)sample->refusing)) : json_null());
	json_object_set_new(message, "connected", json_boolean(sample->connected));
	json_object_set_new(message, "pid", number(sample->pid));
	json_object_set_new(message, "started_ms", number(sample->started_ms));
	json_object_set_new(message, "http", ctl_json_text(sample->http, strlen(sample->http)));
	json_object_set_new(message, "udp", ctl_json_text(sample->udp, strlen(sample->udp)));
	json_object_set_new(message, "receive_path", ctl_json_text(sample->receive_path, strlen(sample->receive_path)));
	json_object_set_new(message, "watermark", watermark);
	json_object_set_new(message, "watermark_lag_ms", lag);
	json_object_set_new(message, "free_bytes", number(sample->free_bytes));
	json_object_set_new(message, "total_bytes", number(sample->total_bytes));
	json_object_set_new(message, "ids", number(sample->ids));
	json_object_set_new(message, "ids_max", number(sample->ids_max));
	json_object_set_new(message, "blocklist_entries", number(sample->blocklist_entries));
}

json_t *ctl_sample_json(const struct ctl_sample *late, const struct ctl_sample *early, json_t *top)
{
	struct span span = {.late = late};
	char text[TIME_BYTES];
	json_t *message = json_object(), *cores = json_array();

	/* of a data process that is gone nothing is known, not even that it does nothing */
	if (early && late->connected && ctl_sample_follows(late, early)) {
		span.early = early;
		span.seconds = (double)(late->mono_ns - early->mono_ns) / 1e9;
	}
	json_object_set_new(message, "time", json_stringn(text, tp_time_text(late->now_ms, text)));
	json_object_set_new(message, "time_ms", number(late->now_ms));
	node_into(message, late);
	events_into(message, &span);
	for (uint32_t i = 0; i < late->cores; i++)
		json_array_append_new(cores, core_json(&span, i));
	json_object_set_new(message, "cores", cores);
	json_object_set_new(message, "ack", ack_json(&span));
	json_object_set_new(message, "refusals", refusals_json(&span));
	ctl_sample_parts_into(message, late, span.early, span.seconds);
	json_object_set_new(message, "top_minutes", json_integer(CTL_TOP_MINUTES));
	json_object_set_new(message, "top", top);
	return message;
}
