/*
 * One look at the node's totals, and what two looks say about the time between them. Pure but for reading shared memory; the pulse
 * thread's own.
 */
#ifndef TURNPIKE_CTL_SAMPLE_H
#define TURNPIKE_CTL_SAMPLE_H

#include "ctl_tally.h"
#include "ctl_view.h"
#include "turnpike/live.h"

#include <jansson.h>

struct ctl_core_sample {
	uint32_t cpu;
	bool is_rx, is_shard;
	uint8_t shard;
	struct tp_counters counters;
};

struct ctl_sample {
	uint64_t now_ms, mono_ns;
	bool attached, connected;
	uint32_t pid;
	uint64_t started_ms;
	uint32_t cores;
	struct ctl_core_sample core[TP_CORES_MAX];
	struct tp_counters sum; /* over cores and background */
	uint64_t ack_latency[TP_LATENCY_BUCKETS];
	uint32_t ports;
	char port[TP_LIVE_PORTS][48];
	uint64_t way_events[TP_LIVE_PORTS][TP_WAYS]; /* over cores */
	uint32_t shards;
	uint64_t log_waiting[TP_SHARDS_MAX]; /* records in the log that are not durable yet */
	uint64_t ring_used[TP_SHARDS_MAX], ring_bytes[TP_SHARDS_MAX];
	struct ctl_types types; /* events by type, from the figures */
	/* the node's lines of the live view */
	char node[64], http[128], udp[128], receive_path[128];
	uint32_t refusing;
	bool ready;
	uint64_t heartbeat_ms, watermark_ms, free_bytes, total_bytes, ids, ids_max, blocklist_entries;
};

/* Reads the live view; what it does not have is zero. `types` is the caller's to fill. */
void ctl_sample_take(struct ctl_sample *sample, const struct ctl_look *look, uint64_t now_ms, uint64_t mono_ns);

/*
 * True if `late` can be compared with `early`: the same run of the data process. Its counters then only grew.
 */
bool ctl_sample_follows(const struct ctl_sample *late, const struct ctl_sample *early);

/* The duration below which `share` (0 … 1) of the acknowledgements lie, in ns; 0 without any. Geometric inside a bucket. */
double ctl_latency_quantile(const uint64_t bucket[TP_LATENCY_BUCKETS], double share);

/* Acknowledgements between two samples: how many, and the quantiles in ms; 0 and NAN where there is nothing to say. */
struct ctl_ack {
	uint64_t count;
	double p50_ms, p99_ms;
};
struct ctl_ack ctl_sample_ack(const struct ctl_sample *late, const struct ctl_sample *early);

/* In the operator's words: "taking", "no_space", … "stalled", "gone", "absent". */
const char *ctl_sample_state(const struct ctl_sample *sample);

/* Beacons that were refused between two samples because the node was too busy: rings or request slots full, answered 503. */
uint64_t ctl_sample_shed(const struct ctl_sample *late, const struct ctl_sample *early);

/*
 * The message of the live stream (ctl_sample_json.c): late's totals, and rates against early (NULL, or of another run: rates are null). `top` is the
 * JSON of the campaigns, taken over. NULL: no memory.
 */
json_t *ctl_sample_json(const struct ctl_sample *late, const struct ctl_sample *early, json_t *top);

#endif
