/*
 * Recovery: what the log says happened, happened. Main thread, before any core or background thread runs.
 *
 *   1. the segments that reach into the last hours are read once, oldest first: ids inside the horizon go into the id table, and the
 *      fraud rules see the events again, in order, without judging anew: the log recorded the verdicts. Only a horizon beyond those
 *      hours needs a pass of its own
 *   2. every log file that is not sealed (the tail) is read once, to the end of its provable prefix: its sums go into a live table,
 *      its ids into the id table, its events before the fraud rules. Which shard wrote it, and how many shards there are now, does not
 *      matter. Then beacons can be taken: sealing these files is left to the background (sealing.c)
 *   3. the floor of the id table and the clock of event time find their places
 *
 * So the first acknowledgement waits for one pass over the tail, and for no write of a segment; a full disk does not hold it up.
 * Files are sealed first, oldest before younger, only if there are more of them than tables, or more ids in them than the id table
 * is sure to hold: an id of a file that is not sealed must be in the table, because the late lane looks in segments only.
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

enum {
	RECOVERY_ROWS = 4 * DP_TABLE_ROWS,
	RECOVERY_HEAP_BYTES = 4 * DP_TABLE_HEAP_BYTES,
	RECOVERY_WAIT_US = 200000,
	PROGRESS_NS = 1000000000,
	AHEAD = 32,
};

/* Events that wait for the cache lines that they need: records in the order in which they were read. */
struct ahead {
	uint32_t count;
	struct tp_rollup_seek seek[AHEAD];
	_Alignas(8) uint8_t record[AHEAD][TP_EVENT_BYTES_MAX];
};

struct recovery {
	struct dp_node *node;
	uint64_t *file_id; /* the tail, oldest first */
	uint32_t files;
	uint64_t ids;
	uint32_t horizon_minute; /* segments: ids from here on */
	int rotations_left;      /* of the id table, before it would forget ids of the tail; -1: not yet to be counted */
	/* what the last events say about time */
	uint64_t watermark_ms, high_ms, clock_ms;
	/* the file that is being read */
	struct tp_rollup *table;
	bool overflow;
	uint64_t file_bytes;
	uint64_t told_ns;
	struct ahead ahead; /* of that file, or of segments */
};

/* ---- progress ---- */

static void progress(struct recovery *r, uint64_t bytes)
{
	struct tp_live *live = r->node->live;
	r->file_bytes += bytes;
	atomic_store_explicit(&live->recovery_bytes, atomic_load_explicit(&live->recovery_bytes, memory_order_relaxed) + bytes,
			      memory_order_relaxed);
}

/* The file is done: what of it was not read (room that was never used) counts as well. Once a second the log tells. */
static void progress_file(struct recovery *r, uint64_t size)
{
	struct tp_live *live = r->node->live;
	progress(r, size > r->file_bytes ? size - r->file_bytes : 0);
	r->file_bytes = 0;
	uint64_t now_ns = tp_mono_ns();
	if (now_ns - r->told_ns < PROGRESS_NS)
		return;
	r->told_ns = now_ns;
	tp_logf(TP_INFO, "recovering", "bytes=%" PRIu64 " of=%" PRIu64,
		atomic_load_explicit(&live->recovery_bytes, memory_order_relaxed), live->recovery_bytes_all);
}

/* ---- one event ---- */

static int id_load(struct recovery *r, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	/* UINT32_MAX: nothing counts but the same id and minute, because one id may rightly be known under two minutes. */
	enum agg_dedup_result result = agg_dedup_insert(r->node->dedup, id, fingerprint, minute, UINT32_MAX, true);
	if (result == AGG_FULL) {
		/* More ids than memory: the oldest go, the floor rises, and the late lane answers for them. */
		if (r->rotations_left == 0)
			return -ENOBUFS;
		r->rotations_left -= r->rotations_left > 0;
		agg_dedup_clear_spare(r->node->dedup);
		agg_dedup_rotate(r->node->dedup);
		agg_dedup_clear_spare(r->node->dedup);
		result = agg_dedup_insert(r->node->dedup, id, fingerprint, minute, UINT32_MAX, true);
	}
	r->ids += result == AGG_NEW;
	return 0;
}

static int segment_id(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	return id_load(context, id, fingerprint, minute);
}

/*
 * The machines of the shard that would get the event now see it again; what they say of it stands in the log already. So does the clock
 * of event time: with the stamps and when they came it goes on as if the node had been idle meanwhile, and never falls back behind
 * what was called final.
 */
static int event_replay(void *context, const struct tp_event *event)
{
	struct recovery *r = context;
	const struct dp_node *node = r->node;
	uint32_t shard = (uint32_t)(((unsigned __int128)event->shard_hash * node->config.shard_count) >> 64);
	for (uint32_t m = 0; m < node->shard[shard].machines; m++) {
		const struct agg_machine *machine = &node->shard[shard].machine[m];
		if (machine->ops->again && event->verdict != TP_CONFLICT)
			machine->ops->again(machine->self, event);
	}
	if (event->verdict == TP_ACCEPTED && event->timestamp_ms > r->high_ms)
		r->high_ms = event->timestamp_ms;
	if (event->verdict == TP_ACCEPTED && event->received_ms > r->clock_ms)
		r->clock_ms = event->received_ms;
	return 0;
}

static void event_sum(struct recovery *r, const struct tp_event *event, const struct tp_rollup_seek *seek)
{
	r->overflow = r->overflow || !tp_rollup_has_room(r->table);
	if (!r->overflow)
		tp_rollup_add_sought(r->table, event, seek);
}

/* Of the tail when there is a table, else of a segment: there, ids from before the horizon would only take room. */
static int event_load(struct recovery *r, const struct tp_event *event, const struct tp_rollup_seek *seek)
{
	uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	int rc = 0;
	if (r->table)
		event_sum(r, event, seek);
	if (tp_verdict_counts(event->verdict) && (r->table || minute >= r->horizon_minute))
		rc = id_load(r, event->id, event->fingerprint, minute);
	return rc ? rc : event_replay(r, event);
}

static int ahead_load(struct recovery *r)
{
	struct ahead *ahead = &r->ahead;
	int rc = 0;
	for (uint32_t i = 0; r->table && i < ahead->count; i++)
		tp_rollup_prefetch_row(r->table, &ahead->seek[i]);
	for (uint32_t i = 0; r->table && i < ahead->count; i++)
		tp_rollup_prefetch_last(r->table, &ahead->seek[i]);
	for (uint32_t i = 0; i < ahead->count && !rc; i++)
		rc = event_load(r, (const struct tp_event *)(const void *)ahead->record[i], &ahead->seek[i]);
	ahead->count = 0;
	return rc;
}

/*
 * Like the shard's burst: what an event needs is fetched while those before it are dealt with. A record is copied, because it is valid
 * in this call only.
 */
static int event_ahead(void *context, const struct tp_event *event)
{
	struct recovery *r = context;
	struct ahead *ahead = &r->ahead;
	const struct dp_node *node = r->node;
	uint32_t shard = (uint32_t)(((unsigned __int128)event->shard_hash * node->config.shard_count) >> 64);
	agg_dedup_prefetch(node->dedup, event->id);
	for (uint32_t m = 0; m < node->shard[shard].machines; m++) {
		const struct agg_machine *machine = &node->shard[shard].machine[m];
		if (machine->ops->prefetch)
			machine->ops->prefetch(machine->self, event);
	}
	uint8_t *record = ahead->record[ahead->count];
	memcpy(record, event, event->bytes);
	if (r->table) {
		progress(r, event->bytes);
		tp_rollup_seek(&ahead->seek[ahead->count], (const struct tp_event *)(const void *)record);
		tp_rollup_prefetch_index(r->table, &ahead->seek[ahead->count]);
	}
	ahead->count++;
	return ahead->count == AHEAD ? ahead_load(r) : 0;
}

static int sums_event(void *context, const struct tp_event *event)
{
	struct tp_rollup_seek seek;
	tp_rollup_seek(&seek, event);
	event_sum(context, event, &seek);
	return ((struct recovery *)context)->overflow ? -EOVERFLOW : 0;
}

/* ---- files ---- */

static int refuse(uint64_t file_id, int rc)
{
	tp_logf(TP_ERROR, "cannot recover a log file, see: turnpikectl log show", "file=%016" PRIx64 " error=\"%s\"", file_id,
		strerror(-rc));
	return rc;
}

static void tell(struct recovery *r, const struct sto_log_facts *facts)
{
	tp_logf(TP_INFO, "log file recovered",
		"file=%016" PRIx64 " shard=%u events=%" PRIu64 " blocks=%" PRIu64 " ignored_bytes=%" PRIu64, facts->file_id,
		facts->shard, facts->events, facts->blocks, facts->tail_bytes_ignored);
	atomic_fetch_add_explicit(&r->node->live->recovered_events, facts->events, memory_order_relaxed);
	if (facts->watermark_ms > r->watermark_ms)
		r->watermark_ms = facts->watermark_ms;
}

/* A full disk is waited out: what the log holds is safe, and nobody is promised anything meanwhile. SIGTERM and SIGINT end the wait. */
static int seal_patiently(struct dp_node *node, uint64_t file_id, const struct tp_rollup *table)
{
	int rc;
	for (bool told = false; (rc = dp_fold_seal(node, file_id, table)) == -ENOSPC; told = true) {
		sigset_t pending;
		if (!told)
			tp_logf(TP_ERROR, "no space to recover the log, waiting for some", "data_dir=%s", node->config.data_dir);
		if (!sigpending(&pending) && (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT)))
			return -EINTR;
		usleep(RECOVERY_WAIT_US);
	}
	return rc;
}

/* Reads the file once more for its sums, into a table as large as can ever be needed, and seals it at once. */
static int file_seal_now(struct recovery *r, uint64_t file_id, bool tail_counts)
{
	uint64_t bytes = tp_rollup_bytes(RECOVERY_ROWS, RECOVERY_HEAP_BYTES);
	struct sto_log_facts facts;
	r->table = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!r->table)
		return -ENOMEM;
	tp_rollup_format(r->table, RECOVERY_ROWS, RECOVERY_HEAP_BYTES);
	tp_rollup_reset(r->table, file_id);
	r->overflow = false;
	int rc = sto_log_read(r->node->store, file_id, sums_event, r, &facts);
	if (!rc)
		rc = seal_patiently(r->node, file_id, r->table);
	free(r->table);
	r->table = NULL;
	if (rc)
		return refuse(file_id, rc);
	if (tail_counts)
		tell(r, &facts);
	return sto_log_delete(r->node->store, file_id);
}

/* Reads one file of the tail; its table is left to sealing.c. */
static int file_read(struct recovery *r, uint64_t file_id)
{
	struct dp_node *node = r->node;
	struct sto_log_facts facts;
	r->table = dp_table_take(node);
	if (!r->table)
		return -ENOBUFS;
	/* It gets its file's id at the end: no reader sees half of it. */
	r->overflow = false;
	int rc = sto_log_read(node->store, file_id, event_ahead, r, &facts);
	if (!rc)
		rc = ahead_load(r);
	if (rc) {
		dp_table_give(node, r->table);
		r->table = NULL;
		return refuse(file_id, rc);
	}
	tell(r, &facts);
	if (r->overflow) {
		dp_table_give(node, r->table);
		r->table = NULL;
		return file_seal_now(r, file_id, false);
	}
	/* release: who sees the id sees the rows */
	atomic_store_explicit(&r->table->file_id, file_id, memory_order_release);
	uint32_t n = atomic_load_explicit(&node->recovered_left, memory_order_relaxed);
	node->recovered[n] = (struct dp_recovered){.file_id = file_id, .table = r->table};
	atomic_store_explicit(&node->recovered_left, n + 1, memory_order_relaxed);
	r->table = NULL;
	return 0;
}

/* How many of the oldest files have to be sealed before the rest can be taken over as it is. */
static int seal_first(struct recovery *r, const struct sto_log_size *size, uint32_t *first)
{
	uint32_t tables = r->node->config.shard_count * DP_TABLES_RECOVERED;
	uint64_t ids_max = agg_dedup_ids_max(r->node->dedup), records = 0;
	uint32_t at = r->files;
	while (at > 0 && r->files - at < tables && records + size[at - 1].events_max <= ids_max)
		records += size[--at].events_max;
	*first = at;
	return 0;
}

static int tail_sizes(struct recovery *r, struct sto_log_size **size)
{
	int rc = sto_store_unsealed(r->node->store, &r->file_id, &r->files);
	if (rc)
		return rc;
	*size = calloc(r->files + 1, sizeof(**size));
	if (!*size)
		return -ENOMEM;
	uint64_t all = 0;
	for (uint32_t i = 0; i < r->files && !rc; i++) {
		rc = sto_log_size(r->node->store, r->file_id[i], false, &(*size)[i]);
		all += (*size)[i].bytes;
	}
	r->node->live->recovery_bytes_all = all;
	/* Looking at every block's header takes a while on a cold disk: only if the files might hold more than there is room for. */
	if (all / TP_EVENT_FIXED_BYTES <= agg_dedup_ids_max(r->node->dedup))
		return rc;
	for (uint32_t i = 0; i < r->files && !rc; i++)
		rc = sto_log_size(r->node->store, r->file_id[i], true, &(*size)[i]);
	return rc;
}

static int segments_events(struct recovery *r, uint64_t again_ms)
{
	int rc = sto_segments_events(r->node->store, again_ms, event_ahead, r);
	return rc ? rc : ahead_load(r);
}

static int segments_load(struct recovery *r)
{
	uint64_t horizon_ms = r->node->config.horizon_ms;
	uint64_t from_ms = r->watermark_ms > horizon_ms ? r->watermark_ms - horizon_ms : 0;
	uint64_t again_ms = r->watermark_ms > AGG_AGAIN_MS ? r->watermark_ms - AGG_AGAIN_MS : 0;
	r->horizon_minute = (uint32_t)(from_ms / TP_MINUTE_MS);
	/* A minute is known as a whole: the first one of the horizon must not begin before the hours that are read. */
	if (r->horizon_minute * (uint64_t)TP_MINUTE_MS >= again_ms)
		return segments_events(r, again_ms);
	int rc = sto_segments_ids(r->node->store, r->horizon_minute, segment_id, r);
	return rc ? rc : sto_segments_events(r->node->store, again_ms, event_replay, r);
}

static int files_recover(struct recovery *r, const struct sto_log_size *size)
{
	uint32_t first;
	int rc = seal_first(r, size, &first);
	if (first)
		tp_logf(TP_INFO, "more log than fits into memory, sealing the oldest files first", "files=%u of=%u", first,
			r->files);
	for (uint32_t i = 0; i < first && !rc; i++) {
		rc = file_seal_now(r, r->file_id[i], true);
		progress_file(r, size[i].bytes);
	}
	if (!rc)
		rc = segments_load(r);
	/* From here on one rotation is harmless: the ids of the tail fit into what is free afterwards. */
	r->rotations_left = 1;
	for (uint32_t i = first; i < r->files && !rc; i++) {
		rc = file_read(r, r->file_id[i]);
		progress_file(r, size[i].bytes);
	}
	return rc;
}

/* ---- all of it ---- */

static void time_set(struct recovery *r, uint64_t now_ms)
{
	struct dp_node *node = r->node;
	const uint64_t recovered_ms = r->watermark_ms;
	uint64_t watermark_ms = recovered_ms;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard *shard = &node->shard[s];
		agg_watermark_init(&shard->watermark, node->config.lateness_ms, recovered_ms);
		if (r->clock_ms)
			agg_watermark_see(&shard->watermark, r->high_ms, r->clock_ms);
		watermark_ms = agg_watermark_advance(&shard->watermark, now_ms); /* the same for all */
		uint64_t horizon_ms = watermark_ms > node->config.horizon_ms ? watermark_ms - node->config.horizon_ms : 0;
		shard->watermark_ms = watermark_ms;
		shard->horizon_minute = (uint32_t)(horizon_ms / TP_MINUTE_MS);
		atomic_store_explicit(&node->live->shard[s].watermark_ms, watermark_ms, memory_order_relaxed);
	}
	atomic_store_explicit(&node->live->watermark_ms, watermark_ms, memory_order_relaxed);
}

int dp_recover(struct dp_node *node, uint64_t now_ms)
{
	uint64_t began_ns = tp_mono_ns();
	static struct recovery r; /* too large for a stack; there is one recovery, on the main thread */
	r = (struct recovery){
		.node = node, .rotations_left = -1, .watermark_ms = sto_segments_watermark(node->store), .told_ns = began_ns};
	struct sto_log_size *size = NULL;
	int rc = tail_sizes(&r, &size);
	if (!rc)
		rc = files_recover(&r, size);
	free(r.file_id);
	free(size);
	if (rc)
		return rc;
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		for (uint32_t m = 0; m < node->shard[s].machines; m++)
			if (node->shard[s].machine[m].ops->again_end)
				node->shard[s].machine[m].ops->again_end(node->shard[s].machine[m].self);
	uint64_t horizon_ms = r.watermark_ms > node->config.horizon_ms ? r.watermark_ms - node->config.horizon_ms : 0;
	uint32_t floor = (uint32_t)(horizon_ms / TP_MINUTE_MS);
	if (floor > agg_dedup_floor(node->dedup))
		agg_dedup_floor_set(node->dedup, floor);
	time_set(&r, now_ms);
	tp_logf(TP_INFO, "recovered", "events=%" PRIu64 " ids=%" PRIu64 " files=%u log_bytes=%" PRIu64 " took_ms=%" PRIu64,
		atomic_load_explicit(&node->live->recovered_events, memory_order_relaxed), r.ids, r.files,
		node->live->recovery_bytes_all, (tp_mono_ns() - began_ns) / 1000000);
	return 0;
}
