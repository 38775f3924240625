/*
 * Recovery: what the log says happened, happened. Before any core or background thread runs.
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
 * Files are sealed first, oldest before younger, only if there are more of them than tables, or more ids in them than two generations
 * of the id table are sure to hold: an id of a file that is not sealed must be in the table, because the late lane looks in segments
 * only. If the tail needs both generations, the ids of segments stay out, and the floor rises above them: the late lane answers.
 *
 * Threads. The main thread, and for step 2 as many more as node->start_threads says; each takes the next file, oldest first, and
 * nothing is promised of who comes first. What they share:
 *
 *   a file, its table, the burst   one worker's own
 *   the id table                   inserts need no lock; `rotation` is held shared around a burst of them, and alone by who rotates
 *   the machines of a shard        under the shard's lock, a burst at a time: they take events in any order (turnpike/machine.h)
 *   sums of time, counts           a worker's own, added up by the main thread when all have ended
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
	ROOM_KEPT = 32, /* of two full generations one part in so many is for the events after the start */
};

/* Events that wait for the cache lines that they need: records in the order in which they were read. */
struct ahead {
	uint32_t count;
	uint32_t bytes;
	uint64_t hash[AHEAD]; /* agg_dedup_prefetch() */
	struct tp_rollup_seek seek[AHEAD];
	_Alignas(8) uint8_t record[AHEAD][TP_EVENT_BYTES_MAX];
};

struct recovery {
	struct dp_node *node;
	uint64_t *file_id; /* the tail, oldest first */
	struct sto_log_size *size;
	struct dp_recovered *done; /* of each file: its table; NULL: none, it has more rows than one holds, or was sealed */
	uint32_t files;
	uint32_t first;          /* those before are sealed before anything else */
	uint32_t horizon_minute; /* segments: ids from here on */
	bool segments_out;       /* the ids of segments are not loaded */
	uint32_t out_minute_end; /* first past the newest of those */
	/* between workers */
	_Atomic uint32_t next; /* file to be read */
	_Atomic int failed;    /* -errno of one: the others need not go on */
	_Atomic uint64_t told_ns;
	pthread_rwlock_t rotation;
	int rotations_left; /* under `rotation`: of the id table, before it would forget ids of the tail; -1: not yet to be counted */
	pthread_mutex_t machines[TP_SHARDS_MAX];
};

struct worker {
	struct recovery *recovery;
	struct dp_node *node;
	pthread_t thread;
	bool runs;
	uint64_t ids;
	/* what its events say about time */
	uint64_t watermark_ms, high_ms, clock_ms;
	/* the file that is being read */
	struct tp_rollup *table;
	bool overflow;
	uint64_t file_bytes;
	struct ahead ahead; /* of that file, or of segments */
};

/* ---- progress ---- */

/* Once a second the log tells; whoever comes first. */
static void progress(struct worker *w, uint64_t bytes)
{
	struct tp_live *live = w->node->live;
	w->file_bytes += bytes;
	uint64_t done = atomic_fetch_add_explicit(&live->recovery_bytes, bytes, memory_order_relaxed) + bytes;
	uint64_t now_ns = tp_mono_ns(), told_ns = atomic_load_explicit(&w->recovery->told_ns, memory_order_relaxed);
	if (now_ns - told_ns < PROGRESS_NS || !atomic_compare_exchange_strong_explicit(&w->recovery->told_ns, &told_ns, now_ns,
										       memory_order_relaxed, memory_order_relaxed))
		return;
	tp_logf(TP_INFO, "recovering", "bytes=%" PRIu64 " of=%" PRIu64, done, live->recovery_bytes_all);
}

/* The file is done: what of it was not read (room that was never used) counts as well. */
static void progress_file(struct worker *w, uint64_t size)
{
	progress(w, size > w->file_bytes ? size - w->file_bytes : 0);
	w->file_bytes = 0;
}

/* ---- one event ---- */

/* The table is full; `rotation` is held shared, and again when this returns. */
static enum agg_dedup_result __attribute__((noinline))
id_rotate(struct worker *w, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	struct recovery *r = w->recovery;
	struct agg_dedup *dedup = w->node->dedup;
	pthread_rwlock_unlock(&r->rotation);
	pthread_rwlock_wrlock(&r->rotation);
	/* another worker may have been faster */
	enum agg_dedup_result result = agg_dedup_insert(dedup, id, fingerprint, minute, UINT32_MAX, true);
	if (result == AGG_FULL && r->rotations_left != 0) {
		/* More ids than memory: the oldest go, the floor rises, and the late lane answers for them. */
		r->rotations_left -= r->rotations_left > 0;
		agg_dedup_clear_spare(dedup);
		agg_dedup_rotate(dedup);
		agg_dedup_clear_spare(dedup);
		result = agg_dedup_insert(dedup, id, fingerprint, minute, UINT32_MAX, true);
	}
	pthread_rwlock_unlock(&r->rotation);
	pthread_rwlock_rdlock(&r->rotation);
	return result;
}

/* `rotation` is held shared. */
static int id_load(struct worker *w, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	/* UINT32_MAX: nothing counts but the same id and minute, because one id may rightly be known under two minutes. */
	enum agg_dedup_result result = agg_dedup_insert(w->node->dedup, id, fingerprint, minute, UINT32_MAX, true);
	if (__builtin_expect(result == AGG_FULL, 0))
		result = id_rotate(w, id, fingerprint, minute);
	w->ids += result == AGG_NEW;
	return result == AGG_FULL ? -ENOBUFS : 0;
}

/* Main thread: of a segment. */
static int segment_id(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	struct worker *w = context;
	struct recovery *r = w->recovery;
	if (r->segments_out) {
		r->out_minute_end = r->out_minute_end > minute ? r->out_minute_end : minute + 1;
		return 0;
	}
	pthread_rwlock_rdlock(&r->rotation);
	int rc = id_load(w, id, fingerprint, minute);
	pthread_rwlock_unlock(&r->rotation);
	return rc;
}

static uint32_t shard_of(const struct dp_node *node, const struct tp_event *event)
{
	return (uint32_t)(((unsigned __int128)event->shard_hash * node->config.shard_count) >> 64);
}

/*
 * The machines of the shard that would get the event now see it again; what they say of it stands in the log already. So does the clock
 * of event time: with the stamps and when they came it goes on as if the node had been idle meanwhile, and never falls back behind
 * what was called final. The shard's lock is held.
 */
static int event_replay(void *context, const struct tp_event *event)
{
	struct worker *w = context;
	struct dp_shard *shard = &w->node->shard[shard_of(w->node, event)];
	for (uint32_t m = 0; m < shard->machines; m++) {
		const struct agg_machine *machine = &shard->machine[m];
		if (machine->ops->again && event->verdict != TP_CONFLICT)
			machine->ops->again(machine->self, event);
	}
	if (event->verdict == TP_ACCEPTED && event->timestamp_ms > w->high_ms)
		w->high_ms = event->timestamp_ms;
	if (event->verdict == TP_ACCEPTED && event->received_ms > w->clock_ms)
		w->clock_ms = event->received_ms;
	return 0;
}

static void event_sum(struct worker *w, const struct tp_event *event, const struct tp_rollup_seek *seek)
{
	w->overflow = w->overflow || !tp_rollup_has_room(w->table);
	if (!w->overflow)
		tp_rollup_add_sought(w->table, event, seek);
}

static const struct tp_event *ahead_event(const struct ahead *ahead, uint32_t i)
{
	return (const struct tp_event *)(const void *)ahead->record[i];
}

/* Ids of the burst. Of the tail all; of a segment those inside the horizon: the others would only take room. */
static int ahead_ids(struct worker *w)
{
	struct recovery *r = w->recovery;
	struct ahead *ahead = &w->ahead;
	int rc = 0;
	pthread_rwlock_rdlock(&r->rotation);
	for (uint32_t i = 0; i < ahead->count; i++)
		agg_dedup_prefetch_chain(w->node->dedup, ahead->hash[i]);
	for (uint32_t i = 0; i < ahead->count && !rc; i++) {
		const struct tp_event *event = ahead_event(ahead, i);
		const uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
		if (!tp_verdict_counts(event->verdict) || (!w->table && minute < r->horizon_minute))
			continue;
		if (w->table || !r->segments_out)
			rc = id_load(w, event->id, event->fingerprint, minute);
		else if (r->out_minute_end <= minute)
			r->out_minute_end = minute + 1;
	}
	pthread_rwlock_unlock(&r->rotation);
	return rc;
}

static void ahead_sums(struct worker *w)
{
	struct ahead *ahead = &w->ahead;
	for (uint32_t i = 0; i < ahead->count; i++)
		tp_rollup_prefetch_row(w->table, &ahead->seek[i]);
	for (uint32_t i = 0; i < ahead->count; i++)
		tp_rollup_prefetch_last(w->table, &ahead->seek[i]);
	for (uint32_t i = 0; i < ahead->count; i++)
		event_sum(w, ahead_event(ahead, i), &ahead->seek[i]);
}

/* Shows events [from, to) of the burst, which belong to one shard, to its machines. */
static void ahead_replay(struct worker *w, uint32_t from, uint32_t to, uint32_t number)
{
	const struct ahead *ahead = &w->ahead;
	const struct dp_shard *shard = &w->node->shard[number];
	pthread_mutex_lock(&w->recovery->machines[number]);
	for (uint32_t m = 0; m < shard->machines; m++)
		for (uint32_t i = from; i < to && shard->machine[m].ops->prefetch; i++)
			shard->machine[m].ops->prefetch(shard->machine[m].self, ahead_event(ahead, i));
	for (uint32_t i = from; i < to; i++)
		event_replay(w, ahead_event(ahead, i));
	pthread_mutex_unlock(&w->recovery->machines[number]);
}

static int ahead_load(struct worker *w)
{
	struct ahead *ahead = &w->ahead;
	int rc = ahead_ids(w);
	if (w->table)
		ahead_sums(w);
	for (uint32_t from = 0, to; from < ahead->count && !rc; from = to) {
		const uint32_t number = shard_of(w->node, ahead_event(ahead, from));
		for (to = from + 1; to < ahead->count && shard_of(w->node, ahead_event(ahead, to)) == number;)
			to++;
		ahead_replay(w, from, to, number);
	}
	if (w->table)
		progress(w, ahead->bytes);
	ahead->count = ahead->bytes = 0;
	return rc ? rc : atomic_load_explicit(&w->recovery->failed, memory_order_relaxed);
}

/*
 * Like the shard's burst: what an event needs is fetched while those before it are dealt with. A record is copied, because it is valid
 * in this call only.
 */
static int event_ahead(void *context, const struct tp_event *event)
{
	struct worker *w = context;
	struct ahead *ahead = &w->ahead;
	const uint32_t at = ahead->count;
	ahead->hash[at] = agg_dedup_prefetch(w->node->dedup, event->id);
	memcpy(ahead->record[at], event, event->bytes);
	if (w->table) {
		tp_rollup_seek(&ahead->seek[at], ahead_event(ahead, at));
		tp_rollup_prefetch_index(w->table, &ahead->seek[at]);
	}
	ahead->bytes += event->bytes;
	ahead->count++;
	return ahead->count == AHEAD ? ahead_load(w) : 0;
}

static int sums_event(void *context, const struct tp_event *event)
{
	struct tp_rollup_seek seek;
	tp_rollup_seek(&seek, event);
	event_sum(context, event, &seek);
	return ((struct worker *)context)->overflow ? -EOVERFLOW : 0;
}

/* ---- files ---- */

static int refuse(uint64_t file_id, int rc)
{
	tp_logf(TP_ERROR, "cannot recover a log file, see: turnpikectl log show", "file=%016" PRIx64 " error=\"%s\"", file_id,
		strerror(-rc));
	return rc;
}

static void tell(struct worker *w, const struct sto_log_facts *facts)
{
	tp_logf(TP_INFO, "log file recovered",
		"file=%016" PRIx64 " shard=%u events=%" PRIu64 " blocks=%" PRIu64 " ignored_bytes=%" PRIu64, facts->file_id,
		facts->shard, facts->events, facts->blocks, facts->tail_bytes_ignored);
	atomic_fetch_add_explicit(&w->node->live->recovered_events, facts->events, memory_order_relaxed);
	if (facts->watermark_ms > w->watermark_ms)
		w->watermark_ms = facts->watermark_ms;
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

/* Main thread. Reads the file for its sums alone, into a table as large as can ever be needed, and seals it at once. */
static int file_seal_now(struct worker *w, uint64_t file_id, bool tail_counts)
{
	uint64_t bytes = tp_rollup_bytes(RECOVERY_ROWS, RECOVERY_HEAP_BYTES);
	struct sto_log_facts facts;
	w->table = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!w->table)
		return -ENOMEM;
	tp_rollup_format(w->table, RECOVERY_ROWS, RECOVERY_HEAP_BYTES);
	tp_rollup_reset(w->table, file_id);
	w->overflow = false;
	int rc = sto_log_read(w->node->store, file_id, sums_event, w, &facts);
	if (!rc)
		rc = seal_patiently(w->node, file_id, w->table);
	free(w->table);
	w->table = NULL;
	if (rc)
		return refuse(file_id, rc);
	if (tail_counts)
		tell(w, &facts);
	return sto_log_delete(w->node->store, file_id);
}

/* Any worker. Reads one file of the tail; its table is left to sealing.c. */
static int file_read(struct worker *w, uint32_t index)
{
	struct recovery *r = w->recovery;
	const uint64_t file_id = r->file_id[index];
	struct sto_log_facts facts;
	w->table = dp_table_take(w->node);
	if (!w->table)
		return -ENOBUFS;
	/* It gets its file's id at the end: no reader sees half of it. */
	w->overflow = false;
	int rc = sto_log_read(w->node->store, file_id, event_ahead, w, &facts);
	if (!rc)
		rc = ahead_load(w);
	if (!rc)
		tell(w, &facts);
	if (!rc && !w->overflow) {
		/* release: who sees the id sees the rows */
		atomic_store_explicit(&w->table->file_id, file_id, memory_order_release);
		r->done[index] = (struct dp_recovered){.file_id = file_id, .table = w->table};
	} else {
		dp_table_give(w->node, w->table);
	}
	w->table = NULL;
	w->ahead.count = w->ahead.bytes = 0;
	if (rc && rc != atomic_load_explicit(&r->failed, memory_order_relaxed))
		refuse(file_id, rc);
	return rc;
}

static void *files_read(void *worker)
{
	struct worker *w = worker;
	struct recovery *r = w->recovery;
	while (!atomic_load_explicit(&r->failed, memory_order_relaxed)) {
		uint32_t index = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
		if (index >= r->files)
			break;
		int rc = file_read(w, index), none = 0;
		if (rc)
			atomic_compare_exchange_strong_explicit(&r->failed, &none, rc, memory_order_relaxed, memory_order_relaxed);
		progress_file(w, r->size[index].bytes);
	}
	return NULL;
}

/* What a worker has found out goes to the first one, the main thread's. */
static void worker_join(struct worker *first, struct worker *w)
{
	if (!w->runs)
		return;
	pthread_join(w->thread, NULL);
	first->ids += w->ids;
	first->watermark_ms = first->watermark_ms > w->watermark_ms ? first->watermark_ms : w->watermark_ms;
	first->high_ms = first->high_ms > w->high_ms ? first->high_ms : w->high_ms;
	first->clock_ms = first->clock_ms > w->clock_ms ? first->clock_ms : w->clock_ms;
}

/* Reads the tail, by several threads if there are several files. */
static int tail_read(struct recovery *r, struct worker *w)
{
	struct dp_node *node = r->node;
	uint32_t files = r->files - r->first, workers = node->start_threads < files ? node->start_threads : files;
	struct worker *more = workers > 1 ? calloc(workers - 1, sizeof(*more)) : NULL;
	atomic_store_explicit(&r->next, r->first, memory_order_relaxed);
	for (uint32_t i = 0; more && i < workers - 1; i++) {
		more[i].recovery = r;
		more[i].node = node;
		/* Without the thread the others read its files. */
		more[i].runs = pthread_create(&more[i].thread, NULL, files_read, &more[i]) == 0;
	}
	files_read(w);
	for (uint32_t i = 0; more && i < workers - 1; i++)
		worker_join(w, &more[i]);
	free(more);
	int rc = atomic_load_explicit(&r->failed, memory_order_relaxed);
	/* Oldest first, as they are to be sealed. */
	uint32_t left = 0;
	for (uint32_t i = r->first; i < r->files && !rc; i++) {
		if (r->done[i].table)
			node->recovered[left++] = r->done[i];
		else
			rc = file_seal_now(w, r->file_id[i], false);
	}
	atomic_store_explicit(&node->recovered_left, left, memory_order_relaxed);
	return rc;
}

/*
 * How many of the oldest files have to be sealed before the rest can be taken over as it is; and whether the rest fits into one
 * generation of the id table, with one rotation that forgets nothing of it, or needs two.
 */
static void seal_first(struct recovery *r)
{
	const uint32_t tables = r->node->config.shard_count * DP_TABLES_RECOVERED;
	const uint64_t ids_max = agg_dedup_ids_max(r->node->dedup), room = 2 * ids_max - ids_max / ROOM_KEPT - ids_max % 2;
	uint64_t records = 0;
	uint32_t at = r->files;
	while (at > 0 && r->files - at < tables && records + r->size[at - 1].events_max <= room)
		records += r->size[--at].events_max;
	r->first = at;
	r->segments_out = records > ids_max;
}

static int tail_sizes(struct recovery *r)
{
	int rc = sto_store_unsealed(r->node->store, &r->file_id, &r->files);
	if (rc)
		return rc;
	r->size = calloc(r->files + 1, sizeof(*r->size));
	r->done = calloc(r->files + 1, sizeof(*r->done));
	if (!r->size || !r->done)
		return -ENOMEM;
	uint64_t all = 0;
	for (uint32_t i = 0; i < r->files && !rc; i++) {
		rc = sto_log_size(r->node->store, r->file_id[i], false, &r->size[i]);
		all += r->size[i].bytes;
	}
	r->node->live->recovery_bytes_all = all;
	/* Looking closer takes a while on a cold disk: only if the files might hold more than there is room for. */
	if (all / TP_EVENT_FIXED_BYTES <= agg_dedup_ids_max(r->node->dedup))
		return rc;
	for (uint32_t i = 0; i < r->files && !rc; i++)
		rc = sto_log_size(r->node->store, r->file_id[i], true, &r->size[i]);
	return rc;
}

static int segments_load(struct recovery *r, struct worker *w)
{
	uint64_t horizon_ms = r->node->config.horizon_ms;
	uint64_t from_ms = w->watermark_ms > horizon_ms ? w->watermark_ms - horizon_ms : 0;
	uint64_t again_ms = w->watermark_ms > AGG_AGAIN_MS ? w->watermark_ms - AGG_AGAIN_MS : 0;
	r->horizon_minute = (uint32_t)(from_ms / TP_MINUTE_MS);
	int rc;
	/* A minute is known as a whole: the first one of the horizon must not begin before the hours that are read. */
	if (r->horizon_minute * (uint64_t)TP_MINUTE_MS >= again_ms) {
		rc = sto_segments_events(r->node->store, again_ms, event_ahead, w);
		return rc ? rc : ahead_load(w);
	}
	rc = sto_segments_ids(r->node->store, r->horizon_minute, segment_id, w);
	return rc ? rc : sto_segments_events(r->node->store, again_ms, event_replay, w);
}

static int files_recover(struct recovery *r, struct worker *w)
{
	int rc = 0;
	seal_first(r);
	if (r->first)
		tp_logf(TP_INFO, "more log than fits into memory, sealing the oldest files first", "files=%u of=%u", r->first,
			r->files);
	for (uint32_t i = 0; i < r->first && !rc; i++) {
		rc = file_seal_now(w, r->file_id[i], true);
		progress_file(w, r->size[i].bytes);
	}
	if (!rc)
		rc = segments_load(r, w);
	/* From here on one rotation is harmless: the ids of the tail fit into what is free afterwards. */
	r->rotations_left = 1;
	return rc ? rc : tail_read(r, w);
}

/* ---- all of it ---- */

static void time_set(struct dp_node *node, const struct worker *w, uint64_t now_ms)
{
	const uint64_t recovered_ms = w->watermark_ms;
	uint64_t watermark_ms = recovered_ms;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		struct dp_shard *shard = &node->shard[s];
		agg_watermark_init(&shard->watermark, node->config.lateness_ms, recovered_ms);
		if (w->clock_ms)
			agg_watermark_see(&shard->watermark, w->high_ms, w->clock_ms);
		watermark_ms = agg_watermark_advance(&shard->watermark, now_ms); /* the same for all */
		uint64_t horizon_ms = watermark_ms > node->config.horizon_ms ? watermark_ms - node->config.horizon_ms : 0;
		shard->watermark_ms = watermark_ms;
		shard->horizon_minute = (uint32_t)(horizon_ms / TP_MINUTE_MS);
		atomic_store_explicit(&node->live->shard[s].watermark_ms, watermark_ms, memory_order_relaxed);
	}
	atomic_store_explicit(&node->live->watermark_ms, watermark_ms, memory_order_relaxed);
}

static int recover(struct recovery *r, struct worker *w)
{
	struct dp_node *node = r->node;
	int rc = tail_sizes(r);
	if (!rc)
		rc = files_recover(r, w);
	if (rc)
		return rc;
	for (uint32_t s = 0; s < node->config.shard_count; s++)
		for (uint32_t m = 0; m < node->shard[s].machines; m++)
			if (node->shard[s].machine[m].ops->again_end)
				node->shard[s].machine[m].ops->again_end(node->shard[s].machine[m].self);
	uint64_t horizon_ms = w->watermark_ms > node->config.horizon_ms ? w->watermark_ms - node->config.horizon_ms : 0;
	uint32_t floor = (uint32_t)(horizon_ms / TP_MINUTE_MS);
	floor = floor > r->out_minute_end ? floor : r->out_minute_end;
	if (floor > agg_dedup_floor(node->dedup))
		agg_dedup_floor_set(node->dedup, floor);
	return 0;
}

int dp_recover(struct dp_node *node, uint64_t now_ms)
{
	uint64_t began_ns = tp_mono_ns();
	struct recovery r = {.node = node, .rotations_left = -1, .told_ns = began_ns};
	struct worker *w = calloc(1, sizeof(*w)); /* too large for a stack */
	if (!w)
		return -ENOMEM;
	w->recovery = &r;
	w->node = node;
	w->watermark_ms = sto_segments_watermark(node->store);
	pthread_rwlock_init(&r.rotation, NULL);
	for (uint32_t s = 0; s < TP_SHARDS_MAX; s++)
		pthread_mutex_init(&r.machines[s], NULL);
	int rc = recover(&r, w);
	for (uint32_t s = 0; s < TP_SHARDS_MAX; s++)
		pthread_mutex_destroy(&r.machines[s]);
	pthread_rwlock_destroy(&r.rotation);
	if (!rc) {
		time_set(node, w, now_ms);
		tp_logf(TP_INFO, "recovered",
			"events=%" PRIu64 " ids=%" PRIu64 " files=%u log_bytes=%" PRIu64 " threads=%u took_ms=%" PRIu64,
			atomic_load_explicit(&node->live->recovered_events, memory_order_relaxed), w->ids, r.files,
			node->live->recovery_bytes_all, node->start_threads, (tp_mono_ns() - began_ns) / 1000000);
	}
	free(r.file_id);
	free(r.size);
	free(r.done);
	free(w);
	return rc;
}
