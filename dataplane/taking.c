/*
 * Whether beacons are taken, and the node's event time: what the live view's header says of all shards together. Command thread, a few
 * times a second. No clock and no system call of its own, so that a simulator can call it.
 */
#include "node.h"

enum { FULL_TICKS = 20 };

/* A log without room for a moment only waits for its spare: back-pressure serves. When it stays so, the disk takes no more. */
static bool logs_full(struct dp_node *node)
{
	bool full = false;
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		full |= atomic_load_explicit(&node->shard[s].no_space, memory_order_relaxed) != 0;
	node->full_ticks = full ? node->full_ticks + 1 : 0;
	return node->full_ticks >= FULL_TICKS;
}

void dp_taking_update(struct dp_node *node)
{
	struct tp_live *live = node->live;
	uint64_t watermark = UINT64_MAX;
	for (uint32_t s = 0; s < live->shards; s++) {
		uint64_t shard = atomic_load_explicit(&live->shard[s].watermark_ms, memory_order_relaxed);
		watermark = shard < watermark ? shard : watermark;
	}
	if (watermark != UINT64_MAX && watermark > atomic_load_explicit(&live->watermark_ms, memory_order_relaxed))
		atomic_store_explicit(&live->watermark_ms, watermark, memory_order_relaxed);
	atomic_store_explicit(&live->shard[0].ids, agg_dedup_ids(node->dedup), memory_order_relaxed);
	atomic_store_explicit(&live->shard[0].ids_max, agg_dedup_ids_max(node->dedup), memory_order_relaxed);
	uint32_t refusing = TP_TAKING;
	if (atomic_load_explicit(&node->stopping, memory_order_acquire))
		refusing = TP_STOPPING;
	else if (atomic_load_explicit(&node->low_space, memory_order_relaxed) || dp_node_lacks_space(node) || logs_full(node))
		refusing = TP_NO_SPACE;
	atomic_store_explicit(&live->refusing, refusing, memory_order_relaxed);
}
