/*
 * What is done with an open data folder: reading unsealed logs, sealing, look-ups in segments.
 *
 * Sealing:   log file ─ segment_write ─► <seq>.tmp (synced) ─ rename ─► <seq>.seg ─ sync folder ─► manifest append (synced) =
 * published A crash before the append leaves a file that nobody knows; the next start removes it and seals the log again.
 *
 * Several threads may seal, each another log file: the writing goes on side by side. They publish in the order in which they took
 * their sequences, so "all segments up to n" always means the same; who is ready early waits for the ones before, which either
 * publish or give up.
 *
 * Threads: any, see turnpike/store.h.
 */
#include "log_read.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int sto_store_unsealed(struct sto_store *store, uint64_t **file_ids, uint32_t *count)
{
	pthread_mutex_lock(&store->lock);
	uint64_t *copy = malloc((store->unsealed_count + 1) * sizeof(*copy));
	for (uint32_t i = 0; copy && i < store->unsealed_count; i++)
		copy[i] = store->unsealed[i].file_id;
	*file_ids = copy;
	*count = copy ? store->unsealed_count : 0;
	pthread_mutex_unlock(&store->lock);
	return copy ? 0 : -ENOMEM;
}

int sto_log_read(struct sto_store *store, uint64_t file_id, sto_event_fn fn, void *context, struct sto_log_facts *facts)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_log_path(path, store->data_dir, file_id);
	return rc ? rc : log_scan(store->io, path, file_id, true, fn, context, facts, NULL);
}

/* ---- names of log files ---- */

uint64_t store_file_id_take(struct sto_store *store)
{
	pthread_mutex_lock(&store->lock);
	uint64_t file_id = store->next_file_id++;
	pthread_mutex_unlock(&store->lock);
	return file_id;
}

void store_file_id_give(struct sto_store *store, uint64_t file_id)
{
	pthread_mutex_lock(&store->lock);
	if (store->next_file_id == file_id + 1)
		store->next_file_id = file_id;
	pthread_mutex_unlock(&store->lock);
}

int store_unsealed_add(struct sto_store *store, uint64_t file_id, uint64_t records)
{
	int rc = 0;
	pthread_mutex_lock(&store->lock);
	if (store->unsealed_count == store->unsealed_max) {
		uint32_t max = store->unsealed_max ? 2 * store->unsealed_max : 16;
		struct store_log *larger = realloc(store->unsealed, max * sizeof(*larger));
		if (larger) {
			store->unsealed = larger;
			store->unsealed_max = max;
		} else {
			rc = -ENOMEM;
		}
	}
	if (!rc)
		store->unsealed[store->unsealed_count++] = (struct store_log){.file_id = file_id, .records = records};
	pthread_mutex_unlock(&store->lock);
	return rc;
}

/* Under `lock`. */
static struct store_log *unsealed_find(const struct sto_store *store, uint64_t file_id)
{
	for (uint32_t i = 0; i < store->unsealed_count; i++)
		if (store->unsealed[i].file_id == file_id)
			return &store->unsealed[i];
	return NULL;
}

int sto_log_size(struct sto_store *store, uint64_t file_id, bool closely, struct sto_log_size *size)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_log_path(path, store->data_dir, file_id);
	return rc ? rc : log_size(store->io, path, file_id, closely, size);
}

/* ---- sealing ---- */

/* Takes the log file and the next sequence. 0, -EALREADY, -EINVAL, or -EBUSY: more seals at once than there may be. */
static int seal_begin(struct sto_store *store, uint64_t file_id, uint64_t *records, uint64_t *sequence)
{
	pthread_mutex_lock(&store->lock);
	/* A file that a log writer still has is not ready, whatever it holds by now. */
	struct store_log *log = unsealed_find(store, file_id);
	uint32_t slot = 0;
	while (slot < STORE_SEALS_MAX && store->sealing[slot])
		slot++;
	int rc = manifest_sealed(&store->manifest, file_id) ? -EALREADY
		 : !log || log->sealing                     ? -EINVAL
		 : slot == STORE_SEALS_MAX                  ? -EBUSY
							    : 0;
	if (!rc) {
		log->sealing = true;
		*records = log->records;
		*sequence = store->sealing[slot] = store->next_sequence++;
	}
	pthread_mutex_unlock(&store->lock);
	return rc;
}

/* Waits until all who took a sequence before have published or given up. */
static void seal_turn_wait(struct sto_store *store, uint64_t sequence)
{
	pthread_mutex_lock(&store->lock);
	for (;;) {
		bool first = true;
		for (uint32_t i = 0; i < STORE_SEALS_MAX && first; i++)
			first = !store->sealing[i] || store->sealing[i] >= sequence;
		if (first)
			break;
		pthread_cond_wait(&store->seal_turn, &store->lock);
	}
	pthread_mutex_unlock(&store->lock);
}

/* Gives the sequence up, or passes the turn on once it is published. */
static void seal_end(struct sto_store *store, uint64_t file_id, uint64_t sequence, bool sealed)
{
	pthread_mutex_lock(&store->lock);
	for (uint32_t i = 0; i < STORE_SEALS_MAX; i++)
		if (store->sealing[i] == sequence)
			store->sealing[i] = 0;
	/* Nobody came after: the same name again, so that a disk that is full for long does not use names up. */
	if (store->next_sequence == sequence + 1 && store->manifest.facts.segment_max < sequence)
		store->next_sequence = sequence;
	struct store_log *log = unsealed_find(store, file_id);
	log->sealing = false;
	if (sealed)
		memmove(log, log + 1, (size_t)(store->unsealed + --store->unsealed_count - log) * sizeof(*log));
	pthread_cond_broadcast(&store->seal_turn);
	pthread_mutex_unlock(&store->lock);
}

/* Gives the written segment its name, for good. */
static int segment_name(struct sto_store *store, const char *temporary, const char *path)
{
	const struct sto_io *io = store->io;
	char folder[STORE_PATH_BYTES];
	int rc = folder_path(folder, store->data_dir, "segments");
	if (!rc)
		rc = io->rename(io, temporary, path);
	if (rc)
		io->unlink(io, temporary);
	if (!rc && io->sync_folder(io, folder))
		rc = -EIO;
	return rc;
}

struct turn {
	struct sto_store *store;
	uint64_t sequence;
};

/* The chain goes into the file, so who writes a file must have seen the one before published. */
static int seal_prev(void *context, uint8_t sha256[MANIFEST_HASH_BYTES])
{
	const struct turn *turn = context;
	seal_turn_wait(turn->store, turn->sequence);
	pthread_mutex_lock(&turn->store->lock);
	memcpy(sha256, turn->store->manifest.facts.chain_sha256, MANIFEST_HASH_BYTES);
	pthread_mutex_unlock(&turn->store->lock);
	return 0;
}

static int seal(struct sto_store *store, uint64_t file_id, const struct tp_rollup *rollup, const struct sto_seal_options *options,
		uint64_t records, uint64_t sequence)
{
	char log_path[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES], path[STORE_PATH_BYTES];
	struct manifest_record record = {.kind = MANIFEST_SEGMENT, .segment.sequence = sequence};
	int rc = folder_log_path(log_path, store->data_dir, file_id);
	if (!rc)
		rc = folder_segment_temporary(temporary, store->data_dir, sequence);
	if (!rc)
		rc = folder_segment_path(path, store->data_dir, sequence, 0);
	if (rc)
		return rc;
	struct turn turn = {.store = store, .sequence = sequence};
	const struct segment_source source = {
		.log_path = log_path,
		.file_id = file_id,
		.expected_records = records,
		.rollup = rollup,
		.node_id = store->node_id,
		.sealed_ms = store->io->now_ms(store->io),
		.options = options,
		.prev = seal_prev,
		.prev_context = &turn,
	};
	rc = segment_write(store->io, temporary, &source, &record.segment);
	if (rc < 0)
		return rc;
	if (rc == 0) {
		record = (struct manifest_record){.kind = MANIFEST_LOG_EMPTY, .file_id = file_id};
		return store_commit(store, &record, 1);
	}
	rc = segment_name(store, temporary, path);
	if (rc)
		return rc;
	rc = store_commit(store, &record, 1);
	/* Without room for the record it is not published. After any other error it may be: only a restart finds out. */
	if (rc == -ENOSPC)
		store->io->unlink(store->io, path);
	return rc;
}

int sto_seal(struct sto_store *store, uint64_t file_id, const struct tp_rollup *rollup, const struct sto_seal_options *options)
{
	uint64_t records, sequence;
	int rc = seal_begin(store, file_id, &records, &sequence);
	if (rc)
		return rc;
	rc = seal(store, file_id, rollup, options, records, sequence);
	seal_end(store, file_id, sequence, rc == 0);
	return sto_io_full(rc) ? -ENOSPC : rc;
}

int sto_log_delete(struct sto_store *store, uint64_t file_id)
{
	pthread_mutex_lock(&store->lock);
	bool sealed = manifest_sealed(&store->manifest, file_id);
	pthread_mutex_unlock(&store->lock);
	if (!sealed)
		return -EINVAL;
	if (log_pool_offer(store, file_id))
		return 0;
	char path[STORE_PATH_BYTES];
	int rc = folder_log_path(path, store->data_dir, file_id);
	return rc ? rc : store->io->unlink(store->io, path);
}

/* ---- the mapped segments ---- */

static void segment_drop(struct sto_store *store, struct store_segment *segment)
{
	segment_close(&segment->file);
	atomic_fetch_sub_explicit(&store->mapped, 1, memory_order_relaxed);
}

int store_segment_use(struct sto_store *store, struct store_view *view, struct store_segment *segment)
{
	segment->used = ++store->clock;
	if (segment->file.base)
		return 0;
	/* The kernel allows some 65,000 mappings a process: let the one that was not used for longest go. */
	if (atomic_load_explicit(&store->mapped, memory_order_relaxed) >= STORE_MAPPED_MAX) {
		struct store_segment *oldest = NULL;
		for (uint32_t i = 0; i < view->segments; i++)
			if (view->segment[i]->file.base && (!oldest || view->segment[i]->used < oldest->used))
				oldest = view->segment[i];
		if (oldest)
			segment_drop(store, oldest);
	}
	char path[STORE_PATH_BYTES];
	int rc = folder_segment_path(path, store->data_dir, segment->facts.sequence, segment->facts.generation);
	if (!rc)
		rc = segment_open(&segment->file, store->io, path, &segment->facts);
	if (rc == -ENOENT) {
		/* acquire: the file was removed after `gone` was set */
		if (atomic_load_explicit(&segment->gone, memory_order_acquire))
			return -ESTALE;
		tp_logf(TP_ERROR, "a published segment is missing", "file=%s", path);
		rc = -EBADMSG;
	}
	if (!rc)
		atomic_fetch_add_explicit(&store->mapped, 1, memory_order_relaxed);
	return rc;
}

/* ---- look-ups ---- */

typedef bool (*segment_wanted_fn)(const void *context, const struct manifest_segment *facts);

struct segment_work {
	segment_wanted_fn wanted;
	int (*each)(void *context, struct segment *file); /* non-zero ends */
	void *context;
	bool newest_first;
};

/*
 * Calls `each` for the wanted segments. One that is replaced meanwhile is found under its new file; one that is retired meanwhile is
 * left out, as if the question had come a moment later.
 */
static int segments_walk(struct sto_store *store, const struct segment_work *work)
{
	int rc = 0;
	struct store_view *view = store_view_take(store);
	for (uint32_t n = 0; n < view->segments && !rc; n++) {
		struct store_segment *segment = view->segment[work->newest_first ? view->segments - 1 - n : n];
		if (!work->wanted(work->context, &segment->facts))
			continue;
		pthread_mutex_lock(&store->map_lock);
		rc = store_segment_use(store, view, segment);
		if (!rc)
			rc = work->each(work->context, &segment->file);
		pthread_mutex_unlock(&store->map_lock);
		if (rc != -ESTALE)
			continue;
		rc = 0;
		struct store_view *now = store_view_take(store);
		struct store_segment *again = store_view_find(now, segment->facts.sequence);
		if (again) {
			pthread_mutex_lock(&store->map_lock);
			rc = store_segment_use(store, now, again);
			if (!rc)
				rc = work->each(work->context, &again->file);
			pthread_mutex_unlock(&store->map_lock);
		}
		store_view_give(store, now);
	}
	store_view_give(store, view);
	return rc;
}

struct lookup {
	struct sto_store *store;
	struct tp_id id;
	uint32_t minute;
	uint64_t fingerprint;
	uint64_t wanted; /* a table that it falls to us to make; 0: none */
};

static bool lookup_wanted(const void *context, const struct manifest_segment *facts)
{
	const struct lookup *lookup = context;
	return lookup->minute >= facts->minute_min && lookup->minute <= facts->minute_max;
}

/* Under map_lock, like the recalls. */
static int lookup_each(void *context, struct segment *file)
{
	struct lookup *lookup = context;
	struct segment_recalls *recalls = &lookup->store->recalls;
	recalls->apart = true;
	int rc = segment_lookup(file, recalls, lookup->id, lookup->minute, lookup->fingerprint);
	/* One at a time, by who finds it due first; meanwhile the others ask without. */
	if (recalls->wanted && !lookup->store->recall_making) {
		lookup->wanted = recalls->wanted;
		lookup->store->recall_making = true;
	}
	recalls->wanted = 0;
	return rc;
}

/*
 * Makes the table of a segment from a mapping of its own, while others look up in the one that all share. The lock under which it is handed
 * over is what makes its contents seen. A segment that is gone by now needs none.
 */
static void recall_make(struct sto_store *store, uint64_t sequence)
{
	struct segment_recall *made = NULL;
	struct segment own;
	char path[STORE_PATH_BYTES];
	struct store_view *view = store_view_take(store);
	const struct store_segment *segment = store_view_find(view, sequence);
	int rc = segment ? folder_segment_path(path, store->data_dir, sequence, segment->facts.generation) : -ENOENT;
	if (!rc)
		rc = segment_open(&own, store->io, path, &segment->facts);
	if (!rc) {
		if (segment_recall_make(&own, &made))
			made = NULL;
		segment_close(&own);
	}
	store_view_give(store, view);
	pthread_mutex_lock(&store->map_lock);
	segment_recall_keep(&store->recalls, sequence, made);
	store->recall_making = false;
	pthread_mutex_unlock(&store->map_lock);
}

int sto_segments_lookup(struct sto_store *store, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	static_assert(STO_ABSENT == 0, "the walk goes on while an id is absent");
	struct lookup lookup = {.store = store, .id = id, .minute = minute, .fingerprint = fingerprint};
	/* Newest first: a retry comes soon after its original. */
	int rc = segments_walk(store, &(struct segment_work){lookup_wanted, lookup_each, &lookup, true});
	if (lookup.wanted)
		recall_make(store, lookup.wanted);
	return rc;
}

struct ids {
	uint32_t minute_min;
	sto_id_fn fn;
	void *context;
};

static bool ids_wanted(const void *context, const struct manifest_segment *facts)
{
	const struct ids *ids = context;
	return facts->minute_min <= facts->minute_max && facts->minute_max >= ids->minute_min;
}

static int ids_each(void *context, struct segment *file)
{
	const struct ids *ids = context;
	return segment_ids(file, ids->fn, ids->context);
}

int sto_segments_ids(struct sto_store *store, uint32_t minute_min, sto_id_fn fn, void *context)
{
	struct ids ids = {.minute_min = minute_min, .fn = fn, .context = context};
	return segments_walk(store, &(struct segment_work){ids_wanted, ids_each, &ids, false});
}

struct events {
	uint64_t min_ms;
	sto_event_fn fn;
	void *context;
};

static bool events_wanted(const void *context, const struct manifest_segment *facts)
{
	const struct events *events = context;
	return !events->min_ms || facts->to_ms > events->min_ms;
}

static int events_each(void *context, struct segment *file)
{
	const struct events *events = context;
	return segment_events(file, events->fn, events->context);
}

int sto_segments_events(struct sto_store *store, uint64_t min_ms, sto_event_fn fn, void *context)
{
	struct events events = {.min_ms = min_ms, .fn = fn, .context = context};
	return segments_walk(store, &(struct segment_work){events_wanted, events_each, &events, false});
}

uint64_t sto_segments_watermark(struct sto_store *store)
{
	pthread_mutex_lock(&store->lock);
	uint64_t watermark_ms = store->manifest.facts.watermark_ms;
	pthread_mutex_unlock(&store->lock);
	return watermark_ms;
}
