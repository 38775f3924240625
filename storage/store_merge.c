/*
 * Rollup files over the segments: which are made, which are merged, when.
 *
 *   segments   1 2 3 4 5 6 7 8 9 … 40 │ 41 42 43          sums of 41 to 43 come from the segments
 *   minute     [ 1 … 24 ][ 25 … 32 ][33 … 36][37…40]      sums of 1 to 40 come from files, whole for each class
 *   hour       [ 1 … 36 ]                   [37…40]
 *   day        [ 1 … 36 ]                   [37…40]
 *                                                 ▲ covered
 *
 * Covering: when enough segments wait, or the oldest has waited for a minute, their sums become one file of each class, published by
 * one transaction. Segments are never covered in part, and each by exactly one file of a class: so one manifest snapshot says which
 * figures come from where, and nothing shows twice or not at all. A late event is in a later segment, so its correction is a row in a
 * later file; no file is rewritten for it.
 *
 * Merging: FAN adjacent files of one level become one of the next, so a class has at most FAN - 1 files a level, and a row is written
 * once a level. A file never spans more sealing time than its class's bound, because retention deletes whole files; what would is
 * merged among itself as far as the bound allows, and then left for good. So the number of files is bounded by retention ÷ half the
 * bound, and a few a level.
 *
 * Threads: one step at a time (merge_lock); any thread. Long work holds no other lock.
 */
#include "rollup_file.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	FAN = 8, /* files of a level that become one of the next */
	COVER_SEGMENTS = 32,
	COVER_SEGMENTS_MAX = 256,
	COVER_ROWS_MAX = 1 << 19, /* of one step, unless one segment alone has more */
	COVER_WAIT_MS = 60000,
};
static_assert(FAN + 1 <= MANIFEST_PARTS_MAX, "a merge is one transaction");

#define DAY_MS 86400000ULL
static const uint64_t span_ms_max[MANIFEST_CLASSES] = {2 * DAY_MS, 16 * DAY_MS, 182 * DAY_MS};

/* A name for a new rollup file. One that was not used is used up all the same. */
static uint64_t rollup_sequence_take(struct sto_store *store)
{
	pthread_mutex_lock(&store->lock);
	uint64_t sequence = store->next_rollup++;
	pthread_mutex_unlock(&store->lock);
	return sequence;
}

/* Names for good, folder synced. On error no file is left. */
static int files_name(struct sto_store *store, const struct manifest_rollup *facts, uint32_t count)
{
	const struct sto_io *io = store->io;
	char temporary[STORE_PATH_BYTES], path[STORE_PATH_BYTES];
	int rc = 0;
	for (uint32_t i = 0; i < count && !rc; i++) {
		rc = folder_rollup_path(temporary, store->data_dir, facts[i].sequence, true);
		if (!rc)
			rc = folder_rollup_path(path, store->data_dir, facts[i].sequence, false);
		if (!rc)
			rc = io->rename(io, temporary, path);
	}
	if (!rc)
		rc = folder_path(path, store->data_dir, "rollups");
	if (!rc && io->sync_folder(io, path))
		rc = -EIO;
	return rc;
}

static void files_unlink(struct sto_store *store, const struct manifest_rollup *facts, uint32_t count)
{
	char path[STORE_PATH_BYTES];
	for (uint32_t i = 0; i < count; i++) {
		if (!folder_rollup_path(path, store->data_dir, facts[i].sequence, true))
			store->io->unlink(store->io, path);
		if (!folder_rollup_path(path, store->data_dir, facts[i].sequence, false))
			store->io->unlink(store->io, path);
	}
}

/* ---- covering ---- */

static int segment_collect(struct sto_store *store, const struct store_segment *segment, struct rollup_collection *collection)
{
	char path[STORE_PATH_BYTES];
	struct segment file;
	const struct tp_rollup_row *rows;
	const char *heap;
	uint32_t count;
	int rc = folder_segment_path(path, store->data_dir, segment->facts.sequence, segment->facts.generation);
	if (!rc)
		rc = segment_open(&file, store->io, path, &segment->facts);
	if (rc == -ENOENT)
		return atomic_load_explicit(&segment->gone, memory_order_acquire) ? -ESTALE : -EBADMSG;
	if (rc)
		return rc;
	rc = segment_rollup(&file, &rows, &count, &heap);
	if (!rc)
		rc = rollup_collection_add(collection, rows, count, heap);
	segment_close(&file);
	return rc;
}

/* The segments [*from, *to) of the view that are covered next; false: it is not time yet. */
static bool cover_choose(struct sto_store *store, const struct store_view *view, uint64_t covered, bool now, uint32_t *from,
			 uint32_t *to)
{
	*from = view->segments;
	while (*from && view->segment[*from - 1]->facts.sequence > covered)
		--*from;
	*to = *from;
	while (*to < view->segments && *to - *from < COVER_SEGMENTS_MAX)
		++*to;
	if (*to == *from)
		return false;
	uint64_t now_ms = store->io->now_ms(store->io), sealed_ms = view->segment[*from]->facts.sealed_ms;
	return now || *to - *from >= COVER_SEGMENTS || now_ms < sealed_ms || now_ms - sealed_ms >= COVER_WAIT_MS;
}

static int cover_write(struct sto_store *store, struct rollup_collection *collection,
		       struct manifest_rollup facts[MANIFEST_CLASSES], const struct sto_merge_options *options)
{
	char path[MANIFEST_CLASSES][STORE_PATH_BYTES];
	const char *paths[MANIFEST_CLASSES];
	for (int c = 0; c < MANIFEST_CLASSES; c++) {
		facts[c].sequence = rollup_sequence_take(store);
		int rc = folder_rollup_path(path[c], store->data_dir, facts[c].sequence, true);
		if (rc)
			return rc;
		paths[c] = path[c];
	}
	int rc = rollup_collection_write(collection, store->io, paths, store->node_id, facts, options ? options->yield : NULL,
					 options ? options->yield_context : NULL);
	if (!rc)
		rc = files_name(store, facts, MANIFEST_CLASSES);
	struct manifest_record record[MANIFEST_CLASSES];
	for (int c = 0; c < MANIFEST_CLASSES; c++)
		record[c] = (struct manifest_record){.kind = MANIFEST_ROLLUP, .rollup = facts[c]};
	bool committing = !rc;
	if (!rc)
		rc = store_commit(store, record, MANIFEST_CLASSES);
	/* After any error of a commit but a full disk the files may be published: only a restart finds out. */
	if (rc && (!committing || rc == -ENOSPC))
		files_unlink(store, facts, MANIFEST_CLASSES);
	return rc;
}

/* 1: covered some; 0: nothing to do. */
static int cover(struct sto_store *store, const struct sto_merge_options *options)
{
	uint32_t from, to;
	struct store_view *view = store_view_take(store);
	pthread_mutex_lock(&store->lock);
	uint64_t covered = store->manifest.facts.covered;
	pthread_mutex_unlock(&store->lock);
	if (!cover_choose(store, view, covered, options && options->now, &from, &to)) {
		store_view_give(store, view);
		return 0;
	}
	struct rollup_collection *collection = rollup_collection_new();
	int rc = collection ? 0 : -ENOMEM;
	struct manifest_rollup facts[MANIFEST_CLASSES] = {0};
	uint64_t sealed_ms_min = UINT64_MAX, sealed_ms_max = 0;
	uint32_t at = from;
	for (; at < to && !rc; at++) {
		/* What was retired unseen (it should not be) has no sums to give. */
		rc = segment_collect(store, view->segment[at], collection);
		rc = rc == -ESTALE ? 0 : rc;
		uint64_t sealed_ms = view->segment[at]->facts.sealed_ms;
		sealed_ms_min = sealed_ms < sealed_ms_min ? sealed_ms : sealed_ms_min;
		sealed_ms_max = sealed_ms > sealed_ms_max ? sealed_ms : sealed_ms_max;
		if (options && options->yield)
			options->yield(options->yield_context);
		if (!rc && rollup_collection_rows(collection) >= COVER_ROWS_MAX)
			to = at + 1;
	}
	for (int c = 0; c < MANIFEST_CLASSES && !rc; c++)
		facts[c] = (struct manifest_rollup){
			.class = (uint8_t)c,
			.from_segment = covered + 1,
			.to_segment = view->segment[to - 1]->facts.sequence,
			.sealed_ms_min = sealed_ms_min,
			.sealed_ms_max = sealed_ms_max,
		};
	store_view_give(store, view);
	if (!rc)
		rc = cover_write(store, collection, facts, options);
	rollup_collection_free(collection);
	return rc ? rc : 1;
}

/* ---- merging ---- */

static uint64_t span_ms(const struct manifest_rollup *first, uint32_t count)
{
	uint64_t least = UINT64_MAX, most = 0;
	for (uint32_t i = 0; i < count; i++) {
		least = first[i].sealed_ms_min < least ? first[i].sealed_ms_min : least;
		most = first[i].sealed_ms_max > most ? first[i].sealed_ms_max : most;
	}
	return most > least ? most - least : 0;
}

uint32_t store_merge_choose(const struct manifest_rollup *rollup, uint32_t count, uint32_t *first)
{
	for (uint32_t i = 0; i < count;) {
		uint32_t run = 1;
		while (i + run < count && rollup[i + run].class == rollup[i].class && rollup[i + run].level == rollup[i].level)
			run++;
		uint64_t bound = span_ms_max[rollup[i].class];
		for (uint32_t at = i; run >= FAN && at + FAN <= i + run; at++) {
			uint32_t take = FAN;
			while (take > 1 && span_ms(&rollup[at], take) > bound)
				take--;
			/*
			 * All of them; or those that fit the bound, which then is nearly full: they can grow no more at this level. One
			 * that fits with nobody is left behind.
			 */
			if (take == 1)
				continue;
			*first = at;
			return take;
		}
		i += run;
	}
	return 0;
}

static int merge_files(struct sto_store *store, const struct manifest_rollup *source, uint32_t count,
		       const struct sto_merge_options *options)
{
	char path[STORE_PATH_BYTES];
	struct rollup_file *file = calloc(count, sizeof(*file));
	struct manifest_rollup facts = {
		.sequence = rollup_sequence_take(store),
		.class = source[0].class,
		.level = (uint16_t)(source[0].level + 1),
		.from_segment = source[0].from_segment,
		.to_segment = source[count - 1].to_segment,
		.sealed_ms_min = UINT64_MAX,
	};
	int rc = file ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < count && !rc; i++) {
		facts.sealed_ms_min = source[i].sealed_ms_min < facts.sealed_ms_min ? source[i].sealed_ms_min : facts.sealed_ms_min;
		facts.sealed_ms_max = source[i].sealed_ms_max > facts.sealed_ms_max ? source[i].sealed_ms_max : facts.sealed_ms_max;
		rc = folder_rollup_path(path, store->data_dir, source[i].sequence, false);
		if (!rc)
			rc = rollup_file_open(&file[i], store->io, path, &source[i]);
		if (rc == -ENOENT) {
			tp_logf(TP_ERROR, "a published rollup file is missing", "file=%s", path);
			rc = -EBADMSG;
		}
	}
	if (!rc)
		rc = folder_rollup_path(path, store->data_dir, facts.sequence, true);
	if (!rc)
		rc = rollup_merge(store->io, file, count, path, store->node_id, &facts, options ? options->yield : NULL,
				  options ? options->yield_context : NULL);
	for (uint32_t i = 0; file && i < count; i++)
		rollup_file_close(&file[i]);
	free(file);
	if (rc)
		return rc;
	rc = files_name(store, &facts, 1);
	struct manifest_record record[FAN + 1];
	for (uint32_t i = 0; i < count; i++) {
		record[i] = (struct manifest_record){.kind = MANIFEST_ROLLUP_GONE, .rollup = source[i]};
		record[i].rollup.reason = MANIFEST_MERGED;
	}
	record[count] = (struct manifest_record){.kind = MANIFEST_ROLLUP, .rollup = facts};
	bool committing = !rc;
	if (!rc)
		rc = store_commit(store, record, count + 1);
	if (rc && (!committing || rc == -ENOSPC))
		files_unlink(store, &facts, 1);
	/* Who reads them has them open; what cannot be removed is removed at the next start. */
	if (!rc)
		files_unlink(store, source, count);
	return rc;
}

static int merge(struct sto_store *store, const struct sto_merge_options *options)
{
	struct manifest_rollup source[FAN];
	uint32_t first = 0;
	pthread_mutex_lock(&store->lock);
	uint32_t count = store_merge_choose(store->rollup, store->rollups, &first);
	if (count)
		memcpy(source, &store->rollup[first], count * sizeof(source[0]));
	pthread_mutex_unlock(&store->lock);
	if (!count)
		return 0;
	int rc = merge_files(store, source, count, options);
	return rc ? rc : 1;
}

int sto_merge_step(struct sto_store *store, const struct sto_merge_options *options)
{
	if (pthread_mutex_trylock(&store->merge_lock))
		return 0;
	int rc = store_manifest_compact(store);
	if (!rc)
		rc = cover(store, options);
	if (!rc)
		rc = merge(store, options);
	pthread_mutex_unlock(&store->merge_lock);
	return sto_io_full(rc) ? -ENOSPC : rc;
}

uint64_t sto_covered(struct sto_store *store)
{
	pthread_mutex_lock(&store->lock);
	uint64_t covered = store->manifest.facts.covered;
	pthread_mutex_unlock(&store->lock);
	return covered;
}
