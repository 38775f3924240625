/*
 * turnpikectl status and top: the live view, once or again and again.
 */
#include "tool.h"

#include "turnpike/text.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A live view whose heart has not beaten for this long belongs to a stopped process. */
enum { HEARTBEAT_MS_MAX = 5000 };

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static json_t *time_json(uint64_t ms)
{
	char text[32];
	tp_time_text(ms, text);
	return ms ? json_string(text) : json_null();
}

static const char *state_name(const struct tp_live *live)
{
	if (tp_now_ms() > load(&live->heartbeat_ms) + HEARTBEAT_MS_MAX)
		return "not_responding";
	return tp_refusing_name((enum tp_refusing)atomic_load_explicit(&live->refusing, memory_order_relaxed));
}

static json_t *status_json(const struct tp_live *live)
{
	struct tp_counters sum;
	ctl_tool_counters(live, &sum);
	json_t *cores = json_array(), *shards = json_array();
	for (uint32_t i = 0; i < live->cores; i++) {
		const struct tp_live_core *core = &live->core[i];
		struct tp_counters own = {0};
		tp_counters_add(&core->counters, &own);
		uint64_t busy = own.v[TP_C_CORE_BUSY_NS], all = busy + own.v[TP_C_CORE_IDLE_NS];
		json_array_append_new(cores, json_pack("{s:I, s:b, s:b, s:f}", "cpu", (json_int_t)core->cpu, "rx", core->is_rx,
						       "shard", core->is_shard, "busy", all ? (double)busy / (double)all : 0.0));
	}
	for (uint32_t i = 0; i < live->shards; i++) {
		const struct tp_live_shard *shard = &live->shard[i];
		json_array_append_new(shards, json_pack("{s:I, s:o, s:I, s:I, s:I}", "shard", (json_int_t)i, "watermark",
							time_json(load(&shard->watermark_ms)), "log_file",
							(json_int_t)load(&shard->file_id), "appended",
							(json_int_t)load(&shard->log_appended), "durable",
							(json_int_t)load(&shard->log_durable)));
	}
	json_t *alerts = json_array();
	struct tp_live_alert alert;
	for (uint32_t back = 0; back < TP_LIVE_ALERTS; back++)
		if (tp_live_alert_read(live, back, &alert))
			json_array_append_new(alerts, json_pack("{s:s, s:o, s:o, s:f, s:f}", "publisher", alert.publisher, "window",
								time_json(alert.window_ms), "told", time_json(alert.told_ms),
								"rate", alert.seen / 1e6, "usual", alert.usual / 1e6));
	json_t *status = json_pack(
		"{s:s, s:I, s:s, s:o, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "node",
		live->node, "pid", (json_int_t)live->pid, "state", state_name(live), "started", time_json(live->started_ms), "http",
		live->http, "udp", live->udp, "receive_path", live->receive_path, "watermark", time_json(load(&live->watermark_ms)),
		"events_received", (json_int_t)sum.v[TP_C_EVENTS_RECEIVED], "events_accepted",
		(json_int_t)sum.v[TP_C_EVENTS_ACCEPTED], "recovered_events", (json_int_t)load(&live->recovered_events),
		"recovery_bytes", (json_int_t)load(&live->recovery_bytes), "recovery_bytes_all",
		(json_int_t)live->recovery_bytes_all, "ids", (json_int_t)load(&live->shard[0].ids), "ids_max",
		(json_int_t)load(&live->shard[0].ids_max), "free_bytes", (json_int_t)load(&live->free_bytes), "blocklist_entries",
		(json_int_t)load(&live->blocklist_entries), "cores", cores, "shards", shards);
	json_object_set_new(status, "rule_version", json_integer(atomic_load_explicit(&live->rule_version, memory_order_relaxed)));
	json_object_set_new(status, "alerts", alerts);
	return status;
}

static void status_print(json_t *status)
{
	const char *key;
	json_t *value;
	json_object_foreach(status, key, value)
	{
		if (json_is_array(value))
			continue;
		if (!strcmp(key, "recovery_bytes_all")) {
			json_int_t all = json_integer_value(value);
			json_int_t done = json_integer_value(json_object_get(status, "recovery_bytes"));
			printf("%-18s %lld of %lld bytes (%lld%%)\n", "recovery", (long long)done, (long long)all,
			       all ? (long long)(done * 100 / all) : 100);
			continue;
		}
		if (!strcmp(key, "recovery_bytes"))
			continue;
		if (json_is_integer(value))
			printf("%-18s %lld\n", key, (long long)json_integer_value(value));
		else
			printf("%-18s %s\n", key, json_is_string(value) ? json_string_value(value) : "-");
	}
	size_t i;
	json_array_foreach(json_object_get(status, "cores"), i, value)
		printf("core cpu=%lld roles=%s%s busy=%.1f%%\n", (long long)json_integer_value(json_object_get(value, "cpu")),
		       json_is_true(json_object_get(value, "rx")) ? "rx " : "",
		       json_is_true(json_object_get(value, "shard")) ? "shard" : "",
		       100 * json_real_value(json_object_get(value, "busy")));
	json_array_foreach(json_object_get(status, "alerts"), i, value)
		printf("alert publisher=%s window=%s rate=%.6f usual=%.6f\n",
		       json_string_value(json_object_get(value, "publisher")), json_string_value(json_object_get(value, "window")),
		       json_real_value(json_object_get(value, "rate")), json_real_value(json_object_get(value, "usual")));
	json_array_foreach(json_object_get(status, "shards"), i, value)
	{
		const char *watermark = json_string_value(json_object_get(value, "watermark"));
		printf("shard %zu watermark=%s appended=%lld durable=%lld\n", i, watermark ? watermark : "-",
		       (long long)json_integer_value(json_object_get(value, "appended")),
		       (long long)json_integer_value(json_object_get(value, "durable")));
	}
}

int ctl_tool_status(struct ctl_tool *tool, int words, char **word)
{
	(void)word;
	if (words)
		return 2;
	const struct tp_live *live;
	int connection;
	if (ctl_tool_attach(tool, &live, &connection))
		return 1;
	json_t *status = status_json(live);
	tp_live_unmap(live);
	close(connection);
	if (tool->json)
		return ctl_tool_print(status);
	status_print(status);
	json_decref(status);
	return 0;
}

struct sample {
	uint64_t ns;
	struct tp_counters sum;
	struct tp_counters core[TP_CORES_MAX];
	uint64_t latency[TP_LATENCY_BUCKETS];
};

static void sample_take(const struct tp_live *live, struct sample *sample)
{
	memset(sample, 0, sizeof(*sample));
	sample->ns = tp_mono_ns();
	ctl_tool_counters(live, &sample->sum);
	for (uint32_t i = 0; i < live->cores; i++) {
		tp_counters_add(&live->core[i].counters, &sample->core[i]);
		for (int b = 0; b < TP_LATENCY_BUCKETS; b++)
			sample->latency[b] += load(&live->core[i].ack_latency[b]);
	}
}

static double rate(const struct sample *now, const struct sample *before, enum tp_counter counter)
{
	return (double)(now->sum.v[counter] - before->sum.v[counter]) * 1e9 / (double)(now->ns - before->ns);
}

/* Upper end of the histogram bucket that holds the quantile, in ms. */
static double latency_ms(const struct sample *now, const struct sample *before, double quantile)
{
	uint64_t all = 0, seen = 0;
	for (int b = 0; b < TP_LATENCY_BUCKETS; b++)
		all += now->latency[b] - before->latency[b];
	for (int b = 0; b < TP_LATENCY_BUCKETS; b++) {
		seen += now->latency[b] - before->latency[b];
		if (all && (double)seen >= quantile * (double)all)
			return (double)(2ULL << b) / 1e6;
	}
	return 0;
}

static double core_busy(const struct sample *now, const struct sample *before, uint32_t core)
{
	uint64_t busy = now->core[core].v[TP_C_CORE_BUSY_NS] - before->core[core].v[TP_C_CORE_BUSY_NS];
	uint64_t idle = now->core[core].v[TP_C_CORE_IDLE_NS] - before->core[core].v[TP_C_CORE_IDLE_NS];
	return busy + idle ? (double)busy / (double)(busy + idle) : 0;
}

static const struct {
	enum tp_counter counter;
	const char *name;
} shown[] = {
	{TP_C_EVENTS_RECEIVED, "events_per_s"},       {TP_C_EVENTS_ACCEPTED, "accepted_per_s"},
	{TP_C_EVENTS_DUPLICATES, "duplicates_per_s"}, {TP_C_EVENTS_LATE, "late_per_s"},
	{TP_C_EVENTS_CONFLICTS, "conflicts_per_s"},   {TP_C_REQUESTS_RECEIVED, "requests_per_s"},
	{TP_C_DATAGRAMS_RECEIVED, "datagrams_per_s"}, {TP_C_FRAMES_RECEIVED, "frames_per_s"},
	{TP_C_LOG_BYTES, "log_bytes_per_s"},
};

static void top_draw(const struct tp_live *live, const struct sample *now, const struct sample *before, bool terminal)
{
	char watermark[32];
	tp_time_text(load(&live->watermark_ms), watermark);
	if (terminal)
		fputs("\033[H\033[2J", stdout);
	printf("turnpike %s  %s  pid %u  watermark %s\n%s\n\n", live->node, state_name(live), live->pid, watermark,
	       live->receive_path);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		printf("  %-18s %14.0f\n", shown[i].name, rate(now, before, shown[i].counter));
	printf("  %-18s p50 %.2f ms  p99 %.2f ms\n\n", "acknowledgement", latency_ms(now, before, 0.5),
	       latency_ms(now, before, 0.99));
	for (uint32_t i = 0; i < live->cores; i++) {
		double busy = core_busy(now, before, i);
		int bar = (int)(busy * 40 + 0.5);
		printf("  cpu %-3u %-9s [%.*s%*s] %5.1f%%\n", live->core[i].cpu,
		       live->core[i].is_rx && live->core[i].is_shard ? "rx+shard"
		       : live->core[i].is_rx                         ? "rx"
								     : "shard",
		       bar, "||||||||||||||||||||||||||||||||||||||||", 40 - bar, "", 100 * busy);
	}
	printf("\n  drops and rejections since start\n");
	for (int c = 0; c < TP_COUNTERS; c++)
		if ((tp_counter_info[c].kind == TP_KIND_DROPPED || tp_counter_info[c].kind == TP_KIND_REJECTED) && now->sum.v[c])
			printf("  %-10s %-22s %14" PRIu64 "\n", tp_layer_name(tp_counter_info[c].layer), tp_counter_info[c].label,
			       now->sum.v[c]);
	fflush(stdout);
}

static json_t *top_json(const struct tp_live *live, const struct sample *now, const struct sample *before)
{
	json_t *out = json_object(), *cores = json_array();
	json_object_set_new(out, "state", json_string(state_name(live)));
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		json_object_set_new(out, shown[i].name, json_real(rate(now, before, shown[i].counter)));
	json_object_set_new(out, "ack_p50_ms", json_real(latency_ms(now, before, 0.5)));
	json_object_set_new(out, "ack_p99_ms", json_real(latency_ms(now, before, 0.99)));
	for (uint32_t i = 0; i < live->cores; i++)
		json_array_append_new(
			cores, json_pack("{s:I, s:f}", "cpu", (json_int_t)live->core[i].cpu, "busy", core_busy(now, before, i)));
	json_object_set_new(out, "cores", cores);
	return out;
}

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

int ctl_tool_top(struct ctl_tool *tool, int words, char **word)
{
	bool terminal = isatty(STDOUT_FILENO) && !tool->json;
	double interval_s = 1;
	long count = terminal ? -1 : 1; /* a script gets one sample unless it asks for more */
	for (int i = 0; i < words; i += 2) {
		if (i + 1 == words)
			return 2;
		char *end;
		if (!strcmp(word[i], "--interval"))
			interval_s = strtod(word[i + 1], &end);
		else if (!strcmp(word[i], "--count"))
			count = strtol(word[i + 1], &end, 10);
		else
			return 2;
		if (*end || !(interval_s >= 0.05 && interval_s <= 3600) || count == 0)
			return 2;
	}
	const struct tp_live *live;
	int connection;
	if (ctl_tool_attach(tool, &live, &connection))
		return 1;
	struct sample *sample = calloc(2, sizeof(*sample));
	if (!sample)
		return 1;
	signal(SIGINT, interrupt);
	sample_take(live, &sample[0]);
	for (unsigned turn = 1; count && !interrupted; turn ^= 1) {
		struct timespec time = {.tv_sec = (time_t)interval_s,
					.tv_nsec = (long)((interval_s - (double)(time_t)interval_s) * 1e9)};
		nanosleep(&time, NULL);
		if (interrupted)
			break;
		sample_take(live, &sample[turn]);
		if (tool->json)
			ctl_tool_print(top_json(live, &sample[turn], &sample[!turn]));
		else
			top_draw(live, &sample[turn], &sample[!turn], terminal);
		if (count > 0)
			count--;
	}
	free(sample);
	tp_live_unmap(live);
	close(connection);
	return 0;
}
