/*
 * GET /metrics: the counter table and the node's gauges in the Prometheus text format 0.0.4.
 *
 *   turnpike_<layer>_total{state="…",reason="…"}   one family per balanced layer, summed over cores
 *   turnpike_<layer>_in_flight                     its gauge
 *   turnpike_<label>{core="0"}                     each counter of the core layer, per core; core="background" is housekeeping
 *   turnpike_…                                     the node's gauges
 *
 * Names, kinds and texts come from TP_COUNTER_TABLE; the balance is of each core's one moment. When the data process is gone its
 * last figures stay, and turnpike_up says 0. Source: prometheus.io/docs/instrumenting/exposition_formats. Connection threads.
 */
#include "ctl.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LATENCY_FIRST = 9 }; /* buckets below 1 µs add nothing: they are in the next one, which is cumulative */

struct page {
	FILE *to;
	const struct tp_live *live;
	struct tp_counters core[TP_CORES_MAX], background, sum;
};

static void family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP turnpike_%s %s\n# TYPE turnpike_%s %s\n", name, help, name, type);
}

static void gauge(FILE *to, const char *name, const char *help, uint64_t value)
{
	family(to, name, "gauge", help);
	fprintf(to, "turnpike_%s %" PRIu64 "\n", name, value);
}

static void counters_read(struct page *page)
{
	const struct tp_live *live = page->live;

	for (uint32_t i = 0; i < ctl_live_cores(live); i++) {
		(void)tp_counters_add(&live->core[i].counters, &page->core[i]);
		for (uint32_t c = 0; c < TP_COUNTERS; c++)
			page->sum.v[c] += page->core[i].v[c];
	}
	(void)tp_counters_add(&live->housekeeping, &page->background);
	for (uint32_t c = 0; c < TP_COUNTERS; c++)
		page->sum.v[c] += page->background.v[c];
}

static void layer(const struct page *page, enum tp_counter_layer which)
{
	static const char *const help[TP_LAYERS] = {
		[TP_LAYER_XDP] = "Frames before AF_XDP ports by what our XDP program made of them",
		[TP_LAYER_FRAMES] = "Frames on DPDK ports by what became of them",
		[TP_LAYER_DATAGRAMS] = "UDP datagrams to the beacon port by what became of them",
		[TP_LAYER_REQUESTS] = "HTTP requests by what became of them",
		[TP_LAYER_BATCHES] = "UDP batches by what became of them",
		[TP_LAYER_EVENTS] = "Events by what became of them",
	};
	char name[64], text[128];
	bool in_flight = false;
	int64_t flying = 0;

	snprintf(name, sizeof(name), "%s_total", tp_layer_name(which));
	family(page->to, name, "counter", help[which]);
	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if (info->layer != which)
			continue;
		if (info->kind == TP_KIND_IN_FLIGHT) {
			in_flight = true;
			flying += (int64_t)page->sum.v[c]; /* cores may count down what another counted up */
			continue;
		}
		fprintf(page->to, "turnpike_%s{state=\"%s\"", name, tp_kind_name((enum tp_counter_kind)info->kind));
		if (info->label[0])
			fprintf(page->to, ",reason=\"%s\"", info->label);
		fprintf(page->to, "} %" PRIu64 "\n", page->sum.v[c]);
	}
	if (!in_flight)
		return;
	snprintf(name, sizeof(name), "%s_in_flight", tp_layer_name(which));
	snprintf(text, sizeof(text), "Of the layer %s: taken and not decided yet", tp_layer_name(which));
	family(page->to, name, "gauge", text);
	fprintf(page->to, "turnpike_%s %" PRId64 "\n", name, flying);
}

static void core_counters(const struct page *page)
{
	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if (info->kind != TP_KIND_OTHER)
			continue;
		family(page->to, info->label, "counter", info->help);
		for (uint32_t i = 0; i < ctl_live_cores(page->live); i++)
			fprintf(page->to, "turnpike_%s{core=\"%u\"} %" PRIu64 "\n", info->label, page->live->core[i].cpu,
				page->core[i].v[c]);
		fprintf(page->to, "turnpike_%s{core=\"background\"} %" PRIu64 "\n", info->label, page->background.v[c]);
	}
}

static void latency(const struct page *page)
{
	uint64_t bucket[TP_LATENCY_BUCKETS] = {0}, below = 0, ns_sum = 0;
	FILE *to = page->to;

	for (uint32_t i = 0; i < ctl_live_cores(page->live); i++) {
		const struct tp_live_core *core = &page->live->core[i];
		for (uint32_t b = 0; b < TP_LATENCY_BUCKETS; b++)
			bucket[b] += atomic_load_explicit(&core->ack_latency[b], memory_order_relaxed);
		ns_sum += atomic_load_explicit(&core->ack_ns_sum, memory_order_relaxed);
	}
	family(to, "ack_latency_seconds", "histogram", "Time from the first byte of a request or batch to its acknowledgement");
	for (uint32_t b = 0; b < TP_LATENCY_BUCKETS; b++) {
		below += bucket[b];
		/* the last bucket also holds all that is longer: it is the +Inf one */
		if (b >= LATENCY_FIRST && b < TP_LATENCY_BUCKETS - 1)
			fprintf(to, "turnpike_ack_latency_seconds_bucket{le=\"%.9g\"} %" PRIu64 "\n", (double)(2ULL << b) / 1e9,
				below);
	}
	fprintf(to, "turnpike_ack_latency_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", below);
	fprintf(to, "turnpike_ack_latency_seconds_sum %.9f\n", (double)ns_sum / 1e9);
	fprintf(to, "turnpike_ack_latency_seconds_count %" PRIu64 "\n", below);
}

static void gauges(const struct page *page, bool connected)
{
	const struct tp_live *live = page->live;
	FILE *to = page->to;
	uint32_t refusing = atomic_load_explicit(&live->refusing, memory_order_relaxed);
	uint64_t watermark_ms = atomic_load_explicit(&live->watermark_ms, memory_order_relaxed);

	family(to, "ready", "gauge", "1 while beacons are taken");
	fprintf(to, "turnpike_ready %d\n",
		connected && refusing == TP_TAKING && atomic_load_explicit(&live->ready, memory_order_relaxed));
	family(to, "state", "gauge", "1 for the state that the node is in");
	for (uint32_t i = TP_TAKING; i <= TP_STOPPING; i++)
		fprintf(to, "turnpike_state{state=\"%s\"} %d\n", tp_refusing_name((enum tp_refusing)i), i == refusing);
	family(to, "watermark_seconds", "gauge", "Event time before which all figures are final, in seconds since 1970");
	fprintf(to, "turnpike_watermark_seconds %" PRIu64 ".%03" PRIu64 "\n", watermark_ms / 1000, watermark_ms % 1000);
	family(to, "start_time_seconds", "gauge", "When the data process started, in seconds since 1970");
	fprintf(to, "turnpike_start_time_seconds %" PRIu64 ".%03" PRIu64 "\n", live->started_ms / 1000, live->started_ms % 1000);
	gauge(to, "free_bytes", "Free bytes of the data folder's file system",
	      atomic_load_explicit(&live->free_bytes, memory_order_relaxed));
	gauge(to, "space_low", "1 while little disk space is left: soon beacons will be refused",
	      atomic_load_explicit(&live->space_low, memory_order_relaxed));
	gauge(to, "size_bytes", "Size of the data folder's file system",
	      atomic_load_explicit(&live->total_bytes, memory_order_relaxed));
	gauge(to, "recovered_events", "Events replayed from the log at start",
	      atomic_load_explicit(&live->recovered_events, memory_order_relaxed));
	gauge(to, "blocklist_entries", "Prefixes in the blocklist",
	      atomic_load_explicit(&live->blocklist_entries, memory_order_relaxed));
	gauge(to, "ids", "Event ids in the dedup table", atomic_load_explicit(&live->shard[0].ids, memory_order_relaxed));
	gauge(to, "ids_max", "Event ids that the dedup table can hold",
	      atomic_load_explicit(&live->shard[0].ids_max, memory_order_relaxed));
	family(to, "shard_log_appended_total", "counter", "Records appended to the log since start");
	for (uint32_t i = 0; i < ctl_live_shards(live); i++)
		fprintf(to, "turnpike_shard_log_appended_total{shard=\"%u\"} %" PRIu64 "\n", i,
			atomic_load_explicit(&live->shard[i].log_appended, memory_order_relaxed));
	family(to, "shard_log_durable_total", "counter", "Records of the log on stable storage since start");
	for (uint32_t i = 0; i < ctl_live_shards(live); i++)
		fprintf(to, "turnpike_shard_log_durable_total{shard=\"%u\"} %" PRIu64 "\n", i,
			atomic_load_explicit(&live->shard[i].log_durable, memory_order_relaxed));
}

static void page_print(struct page *page, bool connected)
{
	family(page->to, "up", "gauge", "1 while the data process lives");
	fprintf(page->to, "turnpike_up %d\n", connected);
	if (!page->live)
		return;
	counters_read(page);
	for (int i = 0; i < TP_LAYERS; i++) {
		if (i != TP_LAYER_CORE)
			layer(page, (enum tp_counter_layer)i);
	}
	core_counters(page);
	latency(page);
	gauges(page, connected);
}

void ctl_metrics(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_look look;
	struct page *page = calloc(1, sizeof(*page));
	char *text = NULL;
	size_t bytes = 0;

	(void)target;
	if (page)
		page->to = open_memstream(&text, &bytes);
	if (!page || !page->to) {
		free(page);
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	ctl_look_take(ctl->views, &look);
	page->live = look.now;
	page_print(page, look.connected);
	ctl_look_give(ctl->views, &look);
	bool bad = ferror(page->to) != 0;
	bad = fclose(page->to) != 0 || bad;
	free(page);
	if (bad) {
		free(text);
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	reply->status = 200;
	reply->type = "text/plain; version=0.0.4; charset=utf-8";
	reply->body = text;
	reply->body_bytes = bytes;
}
