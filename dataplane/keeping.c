/*
 * Keeping: open log files that grew old are finished, the id table is rotated, segments beyond their retention are retired. Background
 * thread "keep".
 *
 * Rotation: wanted ─ every file that held an old id is sealed ─► shards asked to pause ─ all do ─► rotate, go on, clear the spare.
 * Between the last two no shard decides anything, so the step comes back every 20 µs; a shard that does not pause in time (its core
 * was not run) is let go, and it is tried again.
 */
#include "node.h"

#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	KEEP_IDLE_NS = 20000000,
	PAUSE_LOOK_NS = 20000,
	PAUSE_NS_MAX = 1000000000,
	RETAIN_EVERY_MS = 60000,
};

/* Asks shards whose open file has had events for seal_after to finish it. */
static void files_age(struct dp_node *node, uint64_t now_ms)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard_keeping *keeping = &node->keeping[s];
		uint64_t file_id = atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire);
		struct tp_rollup *table = file_id ? dp_table_of(node, file_id) : NULL;
		if (!table || !atomic_load_explicit(&table->rows, memory_order_acquire)) {
			keeping->open_file = 0;
		} else if (keeping->open_file != file_id) {
			keeping->open_file = file_id;
			keeping->open_since_ms = now_ms;
		} else if (now_ms - keeping->open_since_ms >= node->config.seal_after_ms) {
			atomic_store_explicit(&node->shard[s].roll_wanted, 1, memory_order_relaxed);
			dp_core_wake(node->shard_cores[s]);
		}
	}
}

/* Each pause has its own number: a shard that has not noticed yet that the one before is over must not be taken for paused. */
static bool shards_paused(const struct dp_node *node, uint32_t pause)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		if (atomic_load_explicit(&node->shard[s].paused, memory_order_acquire) != pause)
			return false;
	return true;
}

static void shards_pause(struct dp_node *node, uint32_t pause)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		/* release: a shard that goes on sees the rotated table */
		atomic_store_explicit(&node->shard[s].pause_wanted, pause, memory_order_release);
		atomic_thread_fence(memory_order_seq_cst);
		dp_core_wake(node->shard_cores[s]);
	}
}

/*
 * True when no id of the previous generation can lie inside the horizon any more. What a generation held when it stopped taking ids
 * was stamped at most lateness + max_future above the watermark of then; minutes are whole, and the shards' clocks of events lag.
 */
static bool ids_outlived(const struct dp_node *node, uint64_t now_ms, uint64_t watermark_ms)
{
	uint64_t span = node->config.horizon_ms + node->config.lateness_ms + node->config.max_future_ms + 2 * TP_MINUTE_MS;
	/* And not at every turn of an old log that is replayed faster than it was written: each rotation ends a log file. */
	return watermark_ms - node->rotated_watermark_ms >= span && now_ms - node->rotated_ms >= node->config.horizon_ms;
}

/*
 * The id table gets a new generation when the current one is nearly full, or when the previous one has outlived the horizon of event
 * time. The previous one may be forgotten only when every log file that held one of its ids is sealed, because from then on only the
 * segments know them.
 */
static bool rotation_wanted(const struct dp_node *node, uint64_t now_ms, uint64_t watermark_ms)
{
	uint64_t ids = agg_dedup_ids(node->dedup), ids_max = agg_dedup_ids_max(node->dedup);
	bool wanted = ids > ids_max / 10 * 9 || (ids && ids_outlived(node, now_ms, watermark_ms));
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		wanted |= atomic_load_explicit(&node->shard[s].rotate_wanted, memory_order_relaxed) != 0;
	return wanted && agg_dedup_can_rotate(node->dedup);
}

/* True when all files that the previous generation waits for are sealed. Asks for those that are still open. */
static bool rotation_allowed(struct dp_node *node)
{
	bool sealed = !atomic_load_explicit(&node->recovered_left, memory_order_acquire);
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		const struct dp_shard_keeping *keeping = &node->keeping[s];
		if (atomic_load_explicit(&keeping->sealed_file, memory_order_acquire) >= keeping->rotation_file)
			continue;
		sealed = false;
		if (atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire) == keeping->rotation_file)
			atomic_store_explicit(&node->shard[s].roll_wanted, 1, memory_order_relaxed);
		dp_core_wake(node->shard_cores[s]);
	}
	return sealed;
}

/* All shards are paused. */
static void rotate(struct dp_node *node, uint64_t now_ms, uint64_t watermark_ms)
{
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		uint64_t file_id = atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire);
		struct tp_rollup *table = file_id ? dp_table_of(node, file_id) : NULL;
		bool empty = !table || !atomic_load_explicit(&table->rows, memory_order_acquire);
		struct dp_shard_keeping *keeping = &node->keeping[s];
		/* paused with release, so that what the shard last rolled from is seen */
		keeping->rotation_file =
			empty ? atomic_load_explicit(&node->shard[s].previous_file, memory_order_relaxed) : file_id;
		atomic_store_explicit(&node->shard[s].rotate_wanted, 0, memory_order_relaxed);
	}
	agg_dedup_rotate(node->dedup);
	node->rotated_ms = now_ms;
	node->rotated_watermark_ms = watermark_ms;
}

/* True while shards are being paused. */
static bool ids_rotate(struct dp_node *node, uint64_t now_ms, uint64_t now_ns)
{
	uint64_t watermark_ms = atomic_load_explicit(&node->live->watermark_ms, memory_order_relaxed);
	if (!node->pausing) {
		if (!rotation_wanted(node, now_ms, watermark_ms) || !rotation_allowed(node))
			return false;
		if (++node->pauses == 0)
			node->pauses = 1;
		node->pausing = true;
		node->pause_until_ns = now_ns + PAUSE_NS_MAX;
		shards_pause(node, node->pauses);
		return true;
	}
	bool paused = shards_paused(node, node->pauses);
	if (!paused && now_ns < node->pause_until_ns)
		return true;
	if (paused)
		rotate(node, now_ms, watermark_ms);
	node->pausing = false;
	shards_pause(node, 0);
	if (paused)
		agg_dedup_clear_spare(node->dedup);
	return false;
}

static void retain(struct dp_node *node, uint64_t now_ms)
{
	static const char *const class[STO_RETENTION_CLASSES] = {"raw", "minute", "hour", "day"};
	const struct sto_retention retention = {
		.raw_ms = node->config.retention_raw_ms,
		.minute_ms = node->config.retention_minute_ms,
		.hour_ms = node->config.retention_hour_ms,
		.day_ms = node->config.retention_day_ms,
	};
	struct sto_retained retained;
	int rc = sto_retain(node->store, &retention, now_ms, &retained);
	for (int c = 0; c < STO_RETENTION_CLASSES; c++)
		if (retained.files[c])
			tp_logf(TP_INFO, "files beyond their retention deleted", "class=%s files=%u bytes=%" PRIu64, class[c],
				retained.files[c], retained.bytes[c]);
	if (rc)
		tp_logf(TP_WARN, "cannot delete files beyond their retention", "error=\"%s\"", strerror(-rc));
}

uint64_t dp_keep_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns)
{
	if (ids_rotate(node, now_ms, now_ns))
		return PAUSE_LOOK_NS;
	files_age(node, now_ms);
	if (atomic_load_explicit(&node->low_space, memory_order_relaxed))
		sto_store_space_release(node->store);
	if (now_ms - node->retained_ms >= RETAIN_EVERY_MS) {
		retain(node, now_ms);
		node->retained_ms = now_ms;
	}
	return KEEP_IDLE_NS;
}
