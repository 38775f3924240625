/* Totals of one moment and rates between two; see ctl_sample.h. */
#include "ctl_sample.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STALLED_MS = 3000 };

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

uint64_t ctl_sample_shed(const struct ctl_sample *late, const struct ctl_sample *early)
{
	static const enum tp_counter shed[] = {TP_C_REQUESTS_503, TP_C_EVENTS_RING_FULL, TP_C_EVENTS_NO_SPACE,
					       TP_C_DATAGRAMS_RING_FULL, TP_C_DATAGRAMS_NO_REQUEST};
	uint64_t sum = 0;

	if (!ctl_sample_follows(late, early))
		return 0;
	for (size_t i = 0; i < sizeof(shed) / sizeof(shed[0]); i++)
		sum += late->sum.v[shed[i]] - early->sum.v[shed[i]];
	return sum;
}
