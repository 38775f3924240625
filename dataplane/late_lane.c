/*
 * The late lane's look-ups: events older than what the id table covers are looked up, by id and minute, in the segments; the shard
 * then decides. Background thread "late", woken by the shard's core, and never behind a seal: only the manifest's short lock is shared.
 */
#include "node.h"

#include "turnpike/log.h"

#include <errno.h>
#include <string.h>

enum {
	LANE_BURST = 256, /* look-ups for one shard before the next has its turn */
	LATE_IDLE_NS = 100000000,
};

uint64_t dp_late_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns)
{
	uint32_t done = 0;
	(void)now_ms;
	(void)now_ns;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_late_lane *lane = &node->shard[s].lane;
		uint64_t looked = atomic_load_explicit(&lane->looked, memory_order_relaxed);
		/* acquire: the entries below given are whole */
		uint64_t given = atomic_load_explicit(&lane->given, memory_order_acquire);
		uint32_t found = 0;
		for (; looked != given && found < LANE_BURST; found++) {
			struct dp_late_entry *entry = &lane->entry[looked % DP_LATE_LANE];
			const struct tp_event *event = (const struct tp_event *)(const void *)entry->event;
			entry->lookup = sto_segments_lookup(node->store, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
							    event->fingerprint);
			if (entry->lookup < 0)
				tp_logf(TP_ERROR, "late look-up failed", "error=\"%s\"", strerror(-entry->lookup));
			/* release: the shard sees the result */
			atomic_store_explicit(&lane->looked, ++looked, memory_order_release);
		}
		if (found) {
			atomic_thread_fence(memory_order_seq_cst);
			dp_core_wake(node->shard_cores[s]);
		}
		done += found;
	}
	atomic_fetch_add_explicit(&node->late_lookups, done, memory_order_relaxed);
	return done ? 0 : LATE_IDLE_NS;
}
