/*
 * GET /metrics: the counter table, histograms and the node's gauges in the Prometheus text format 0.0.4.
 *
 *   turnpike_<layer>_total{state="…",reason="…"}   one family per balanced layer, summed over cores
 *   turnpike_<layer>_in_flight                     its gauge
 *   turnpike_<label>{core="0"}                     each counter of the core layer, per core; core="background" is housekeeping
 *   turnpike_{ack,commit}_latency_seconds          histograms of the data process
 *   turnpike_…                                     the node's gauges, and what the control process does itself (ctl_metrics_node.c)
 *
 * Names, kinds and texts come from TP_COUNTER_TABLE; the balance is of each core's one moment. When the data process is gone its
 * last figures stay, and turnpike_up says 0. Source: prometheus.io/docs/instrumenting/exposition_formats. Connection threads.
 */
#include "ctl_metrics.h"

#include "ctl.h"
#include "ctl_exposition.h"
#include "ctl_reconcile.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LATENCY_FIRST = 9 }; /* buckets below 1 µs add nothing: they are in the next one, which is cumulative */

struct page {
	FILE *to;
	const struct tp_live *live;
	struct tp_counters core[TP_CORES_MAX], background, sum;
};

static void histogram_add(const _Atomic uint64_t from[TP_LATENCY_BUCKETS], const _Atomic uint64_t *from_sum,
			  uint64_t bucket[TP_LATENCY_BUCKETS], uint64_t *ns_sum)
{
	for (uint32_t b = 0; b < TP_LATENCY_BUCKETS; b++)
		bucket[b] += atomic_load_explicit(&from[b], memory_order_relaxed);
	*ns_sum += atomic_load_explicit(from_sum, memory_order_relaxed);
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
		[TP_LAYER_DEAD_LETTERS] = "Bytes of rejected events by what became of them",
	};
	char name[64], text[128];
	bool in_flight = false;
	int64_t flying = 0;

	snprintf(name, sizeof(name), "%s_total", tp_layer_name(which));
	ctl_family(page->to, name, "counter", help[which]);
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
	ctl_family(page->to, name, "gauge", text);
	fprintf(page->to, "turnpike_%s %" PRId64 "\n", name, flying);
}

static void core_counter(FILE *to, const char *label, const char *core, uint64_t value)
{
	static const char seconds[] = "_seconds_total"; /* the table holds nanoseconds */
	size_t bytes = strlen(label);

	if (bytes >= sizeof(seconds) && strcmp(label + bytes + 1 - sizeof(seconds), seconds) == 0)
		fprintf(to, "turnpike_%s{core=\"%s\"} %" PRIu64 ".%09" PRIu64 "\n", label, core, value / 1000000000,
			value % 1000000000);
	else
		fprintf(to, "turnpike_%s{core=\"%s\"} %" PRIu64 "\n", label, core, value);
}

static void core_counters(const struct page *page)
{
	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if (info->kind != TP_KIND_OTHER)
			continue;
		char core[16];
		ctl_family(page->to, info->label, "counter", info->help);
		for (uint32_t i = 0; i < ctl_live_cores(page->live); i++) {
			snprintf(core, sizeof(core), "%u", page->live->core[i].cpu);
			core_counter(page->to, info->label, core, page->core[i].v[c]);
		}
		core_counter(page->to, info->label, "background", page->background.v[c]);
	}
}

static void latencies(const struct page *page)
{
	uint64_t bucket[TP_LATENCY_BUCKETS] = {0}, ns_sum = 0;

	for (uint32_t i = 0; i < ctl_live_cores(page->live); i++)
		histogram_add(page->live->core[i].ack_latency, &page->live->core[i].ack_ns_sum, bucket, &ns_sum);
	ctl_family(page->to, "ack_latency_seconds", "histogram",
		   "Time from the first byte of a request or batch to its acknowledgement");
	ctl_histogram(page->to, "ack_latency_seconds", "", bucket, ns_sum, LATENCY_FIRST, 1);
	memset(bucket, 0, sizeof(bucket));
	ns_sum = 0;
	for (uint32_t i = 0; i < ctl_live_shards(page->live); i++)
		histogram_add(page->live->shard[i].commit_latency, &page->live->shard[i].commit_ns_sum, bucket, &ns_sum);
	ctl_family(page->to, "commit_latency_seconds", "histogram",
		   "Time from a burst's decisions until they are on stable storage");
	ctl_histogram(page->to, "commit_latency_seconds", "", bucket, ns_sum, LATENCY_FIRST, 1);
}

static void page_print(const struct ctl *ctl, struct page *page, bool connected)
{
	ctl_family(page->to, "up", "gauge", "1 while the data process lives");
	fprintf(page->to, "turnpike_up %d\n", connected);
	ctl_metrics_control(page->to, ctl);
	if (!page->live)
		return;
	counters_read(page);
	for (int i = 0; i < TP_LAYERS; i++) {
		if (i != TP_LAYER_CORE)
			layer(page, (enum tp_counter_layer)i);
	}
	core_counters(page);
	latencies(page);
	ctl_metrics_node(page->to, page->live, page->core, connected);
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
	page_print(ctl, page, look.connected);
	ctl_reconcile_metrics(ctl->reconcile, page->to);
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
