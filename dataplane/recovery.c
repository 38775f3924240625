/*
 * Recovery: what the log says happened, happened. Main thread, before any core runs.
 *
 *   1. every log file that is not sealed is read to the end of its provable prefix, its sums are built anew, and it is sealed like
 *      any finished file: which shard wrote it, and how many shards there are now, does not matter
 *   2. the id table is loaded from the segments that reach into the horizon, oldest first; its floor is the horizon's first minute,
 *      or nothing at all is below it when the segments hold nothing older
 *   3. the fraud rules see the last hours again, in order, without judging anew: the log recorded the verdicts; and the clock of
 *      event time finds its place again
 *
 * A crash in here changes nothing: the log files stay until their segment is published.
 */
#include "node.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECOVERY_ROWS = 4 * DP_TABLE_ROWS, RECOVERY_HEAP_BYTES = 4 * DP_TABLE_HEAP_BYTES, RECOVERY_WAIT_US = 200000 };

struct sums {
	struct tp_rollup *table;
	uint64_t events;
};

static int event_sum(void *context, const struct tp_event *event)
{
	struct sums *sums = context;
	if (!tp_rollup_has_room(sums->table))
		return -EOVERFLOW;
	tp_rollup_add(sums->table, event);
	sums->events++;
	return 0;
}

/* A full disk is waited out: what the log holds is safe, and nobody is promised anything meanwhile. SIGTERM and SIGINT end the wait. */
static int seal_patiently(struct dp_node *node, uint64_t file_id, const struct tp_rollup *table)
{
	int rc;
	for (bool told = false; (rc = sto_seal(node->store, file_id, table, NULL)) == -ENOSPC; told = true) {
		sigset_t pending;
		if (!told)
			tp_logf(TP_ERROR, "no space to recover the log, waiting for some", "data_dir=%s", node->config.data_dir);
		if (!sigpending(&pending) && (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT)))
			return -EINTR;
		usleep(RECOVERY_WAIT_US);
	}
	return rc;
}

static int file_recover(struct dp_node *node, struct tp_rollup *table, uint64_t file_id, uint64_t *watermark_ms)
{
	struct sums sums = {.table = table};
	struct sto_log_facts facts;
	tp_rollup_reset(table, file_id);
	int rc = sto_log_read(node->store, file_id, event_sum, &sums, &facts);
	if (!rc)
		rc = seal_patiently(node, file_id, table);
	if (rc) {
		tp_logf(TP_ERROR, "cannot recover a log file", "file=%016" PRIx64 " events=%" PRIu64 " error=\"%s\"", file_id,
			sums.events, strerror(-rc));
		return rc;
	}
	tp_logf(TP_INFO, "log file recovered",
		"file=%016" PRIx64 " shard=%u events=%" PRIu64 " blocks=%" PRIu64 " ignored_bytes=%" PRIu64, file_id, facts.shard,
		facts.events, facts.blocks, facts.tail_bytes_ignored);
	atomic_fetch_add_explicit(&node->live->recovered_events, facts.events, memory_order_relaxed);
	if (facts.watermark_ms > *watermark_ms)
		*watermark_ms = facts.watermark_ms;
	return sto_log_delete(node->store, file_id);
}

static int files_recover(struct dp_node *node, uint64_t *watermark_ms)
{
	uint64_t *file_id = NULL;
	uint32_t count = 0;
	int rc = sto_store_unsealed(node->store, &file_id, &count);
	if (rc || !count) {
		free(file_id);
		return rc;
	}
	uint64_t bytes = tp_rollup_bytes(RECOVERY_ROWS, RECOVERY_HEAP_BYTES);
	struct tp_rollup *table = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (table) {
		tp_rollup_format(table, RECOVERY_ROWS, RECOVERY_HEAP_BYTES);
		for (uint32_t i = 0; i < count && !rc; i++)
			rc = file_recover(node, table, file_id[i], watermark_ms);
	} else {
		rc = -ENOMEM;
	}
	free(table);
	free(file_id);
	return rc;
}

struct loading {
	struct agg_dedup *dedup;
	uint64_t ids;
};

/* UINT32_MAX: nothing counts but the same id and minute, because one id may rightly be known under two minutes. */
static int id_load(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	struct loading *loading = context;
	enum agg_dedup_result result = agg_dedup_insert(loading->dedup, id, fingerprint, minute, UINT32_MAX, true);
	if (result == AGG_FULL) {
		/* More ids than memory: the oldest go, the floor rises, and the late lane answers for them. */
		agg_dedup_clear_spare(loading->dedup);
		agg_dedup_rotate(loading->dedup);
		agg_dedup_clear_spare(loading->dedup);
		result = agg_dedup_insert(loading->dedup, id, fingerprint, minute, UINT32_MAX, true);
	}
	loading->ids += result == AGG_NEW;
	return 0;
}

/* What the last events say about time, and where they go. */
struct replay {
	struct dp_node *node;
	uint64_t high_ms, clock_ms;
};

/*
 * The machines of the shard that would get the event now see it again; what they say of it stands in the log already. So does the clock
 * of event time: with the stamps and when they came it goes on as if the node had been idle meanwhile, and never falls back behind
 * what was called final.
 */
static int event_replay(void *context, const struct tp_event *event)
{
	struct replay *replay = context;
	const struct dp_node *node = replay->node;
	uint32_t shard = (uint32_t)(((unsigned __int128)event->shard_hash * node->config.shard_count) >> 64);
	for (uint32_t m = 0; m < node->shard[shard].machines; m++) {
		const struct agg_machine *machine = &node->shard[shard].machine[m];
		if (machine->ops->again && event->verdict != TP_CONFLICT)
			machine->ops->again(machine->self, event);
	}
	if (event->verdict == TP_ACCEPTED && event->timestamp_ms > replay->high_ms)
		replay->high_ms = event->timestamp_ms;
	if (event->verdict == TP_ACCEPTED && event->received_ms > replay->clock_ms)
		replay->clock_ms = event->received_ms;
	return 0;
}

int dp_recover(struct dp_node *node)
{
	uint64_t began_ns = tp_mono_ns();
	uint64_t watermark_ms = sto_segments_watermark(node->store);
	int rc = files_recover(node, &watermark_ms);
	if (rc)
		return rc;

	uint64_t horizon_ms = watermark_ms > node->config.horizon_ms ? watermark_ms - node->config.horizon_ms : 0;
	uint32_t floor = (uint32_t)(horizon_ms / TP_MINUTE_MS);
	struct loading loading = {.dedup = node->dedup};
	rc = sto_segments_ids(node->store, floor, id_load, &loading);
	if (rc)
		return rc;
	if (floor > agg_dedup_floor(node->dedup))
		agg_dedup_floor_set(node->dedup, floor);
	struct replay replay = {.node = node};
	rc = sto_segments_events(node->store, watermark_ms > AGG_AGAIN_MS ? watermark_ms - AGG_AGAIN_MS : 0, event_replay, &replay);
	if (rc)
		return rc;
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		for (uint32_t m = 0; m < node->shard[s].machines; m++)
			if (node->shard[s].machine[m].ops->again_end)
				node->shard[s].machine[m].ops->again_end(node->shard[s].machine[m].self);
	const uint64_t now_ms = tp_now_ms(), recovered_ms = watermark_ms;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard *shard = &node->shard[s];
		agg_watermark_init(&shard->watermark, node->config.lateness_ms, recovered_ms);
		if (replay.clock_ms)
			agg_watermark_see(&shard->watermark, replay.high_ms, replay.clock_ms);
		watermark_ms = agg_watermark_advance(&shard->watermark, now_ms); /* the same for all */
		horizon_ms = watermark_ms > node->config.horizon_ms ? watermark_ms - node->config.horizon_ms : 0;
		shard->watermark_ms = watermark_ms;
		shard->horizon_minute = (uint32_t)(horizon_ms / TP_MINUTE_MS);
		atomic_store_explicit(&node->live->shard[s].watermark_ms, watermark_ms, memory_order_relaxed);
	}
	atomic_store_explicit(&node->live->watermark_ms, watermark_ms, memory_order_relaxed);
	tp_logf(TP_INFO, "recovered", "events=%" PRIu64 " ids=%" PRIu64 " took_ms=%" PRIu64,
		atomic_load_explicit(&node->live->recovered_events, memory_order_relaxed), loading.ids,
		(tp_mono_ns() - began_ns) / 1000000);
	return 0;
}
