/*
 * What is done with an open data folder: reading unsealed logs, sealing, look-ups in segments, retention.
 *
 * Sealing:   log file ─ segment_write ─► <seq>.tmp (synced) ─ rename ─► <seq>.seg ─ sync folder ─► manifest append (synced) =
 * published A crash before the append leaves a file that nobody knows; the next start removes it and seals the log again.
 *
 * Threads: housekeeping, but sto_log_read(): any.
 */
#include "log_read.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int sto_store_unsealed(struct sto_store *store, uint64_t **file_ids, uint32_t *count)
{
	uint64_t *copy = malloc((store->unsealed_count + 1) * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->unsealed_count; i++)
		copy[i] = store->unsealed[i].file_id;
	*file_ids = copy;
	*count = store->unsealed_count;
	return 0;
}

int sto_log_read(struct sto_store *store, uint64_t file_id, sto_event_fn fn, void *context, struct sto_log_facts *facts)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_log_path(path, store->data_dir, file_id);
	return rc ? rc : log_scan(store->io, path, file_id, true, fn, context, facts, NULL);
}

/* ---- sealing ---- */

int store_unsealed_add(struct sto_store *store, uint64_t file_id, uint64_t records)
{
	if (store->unsealed_count == store->unsealed_max) {
		uint32_t max = store->unsealed_max ? 2 * store->unsealed_max : 16;
		struct store_log *larger = realloc(store->unsealed, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		store->unsealed = larger;
		store->unsealed_max = max;
	}
	store->unsealed[store->unsealed_count++] = (struct store_log){.file_id = file_id, .records = records};
	return 0;
}

static const struct store_log *unsealed_find(const struct sto_store *store, uint64_t file_id)
{
	for (uint32_t i = 0; i < store->unsealed_count; i++)
		if (store->unsealed[i].file_id == file_id)
			return &store->unsealed[i];
	return NULL;
}

static void unsealed_drop(struct sto_store *store, uint64_t file_id)
{
	for (uint32_t i = 0; i < store->unsealed_count; i++) {
		if (store->unsealed[i].file_id != file_id)
			continue;
		memmove(&store->unsealed[i], &store->unsealed[i + 1], (store->unsealed_count - i - 1) * sizeof(store->unsealed[0]));
		store->unsealed_count--;
		return;
	}
}

/* Gives the written segment its name, for good. */
static int segment_name(struct sto_store *store, const char *temporary, uint64_t sequence)
{
	const struct sto_io *io = store->io;
	char path[STORE_PATH_BYTES], folder[STORE_PATH_BYTES];
	int rc = folder_segment_path(path, store->data_dir, sequence, false);
	if (!rc)
		rc = folder_path(folder, store->data_dir, "segments");
	if (!rc)
		rc = io->rename(io, temporary, path);
	if (rc)
		io->unlink(io, temporary);
	if (!rc && io->sync_folder(io, folder))
		rc = -EIO;
	return rc;
}

int sto_seal(struct sto_store *store, uint64_t file_id, const struct tp_rollup *rollup, const struct sto_seal_options *options)
{
	if (manifest_sealed(&store->manifest, file_id))
		return -EALREADY;
	/* A file that a log writer still has is not ready, whatever it holds by now. */
	const struct store_log *log = unsealed_find(store, file_id);
	if (!log)
		return -EINVAL;
	char log_path[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES];
	struct manifest_record record = {.kind = MANIFEST_SEGMENT, .segment.sequence = store->next_sequence};
	int rc = folder_log_path(log_path, store->data_dir, file_id);
	if (!rc)
		rc = folder_segment_path(temporary, store->data_dir, store->next_sequence, true);
	if (rc)
		return rc;
	const struct segment_source source = {
		.log_path = log_path,
		.file_id = file_id,
		.expected_records = log->records,
		.rollup = rollup,
		.node_id = store->node_id,
		.sealed_ms = store->io->now_ms(store->io),
		.options = options,
	};
	rc = segment_write(store->io, temporary, &source, &record.segment);
	if (rc < 0)
		return rc;
	bool empty = rc == 0;
	if (empty) {
		record = (struct manifest_record){.kind = MANIFEST_LOG_EMPTY, .file_id = file_id};
		rc = store_commit(store, &record);
	} else {
		rc = segment_name(store, temporary, store->next_sequence);
		if (!rc)
			rc = store_commit(store, &record);
		/* Without room for the record the file stays under its name; the next try writes over it. */
		if (!rc) {
			store->next_sequence++;
			rc = store_segment_add(store, &record.segment);
		}
	}
	if (!rc)
		unsealed_drop(store, file_id);
	return sto_io_full(rc) ? -ENOSPC : rc;
}

int sto_log_delete(struct sto_store *store, uint64_t file_id)
{
	if (!manifest_sealed(&store->manifest, file_id))
		return -EINVAL;
	char path[STORE_PATH_BYTES];
	int rc = folder_log_path(path, store->data_dir, file_id);
	return rc ? rc : store->io->unlink(store->io, path);
}

/* ---- the mapped segments ---- */

int store_segment_add(struct sto_store *store, const struct manifest_segment *facts)
{
	if (store->segments == store->segments_max) {
		uint32_t max = store->segments_max ? 2 * store->segments_max : 64;
		struct store_segment *larger = realloc(store->segment, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		store->segment = larger;
		store->segments_max = max;
	}
	store->segment[store->segments++] = (struct store_segment){.facts = *facts};
	return 0;
}

struct store_segment *store_segment_find(const struct sto_store *store, uint64_t sequence)
{
	uint32_t low = 0, high = store->segments;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (store->segment[middle].facts.sequence < sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return low < store->segments && store->segment[low].facts.sequence == sequence ? &store->segment[low] : NULL;
}

void store_segments_compact(struct sto_store *store)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < store->segments; i++) {
		if (store->segment[i].retired)
			store_segment_drop(store, &store->segment[i]);
		else
			store->segment[kept++] = store->segment[i];
	}
	store->segments = kept;
}

void store_segment_drop(struct sto_store *store, struct store_segment *segment)
{
	if (!segment->file.base)
		return;
	segment_close(&segment->file);
	store->mapped--;
}

int store_segment_use(struct sto_store *store, struct store_segment *segment)
{
	segment->used = ++store->clock;
	if (segment->file.base)
		return 0;
	/* The kernel allows some 65,000 mappings a process: let the one that was not used for longest go. */
	if (store->mapped == STORE_MAPPED_MAX) {
		struct store_segment *oldest = NULL;
		for (uint32_t i = 0; i < store->segments; i++)
			if (store->segment[i].file.base && (!oldest || store->segment[i].used < oldest->used))
				oldest = &store->segment[i];
		store_segment_drop(store, oldest);
	}
	char path[STORE_PATH_BYTES];
	int rc = folder_segment_path(path, store->data_dir, segment->facts.sequence, false);
	if (!rc)
		rc = segment_open(&segment->file, store->io, path, &segment->facts);
	if (rc == -ENOENT) {
		tp_logf(TP_ERROR, "a published segment is missing", "file=%s", path);
		rc = -EBADMSG;
	}
	if (!rc)
		store->mapped++;
	return rc;
}

/* ---- look-ups ---- */

int sto_segments_lookup(struct sto_store *store, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	/* Newest first: a retry comes soon after its original. */
	for (uint32_t i = store->segments; i-- > 0;) {
		struct store_segment *segment = &store->segment[i];
		if (minute < segment->facts.minute_min || minute > segment->facts.minute_max)
			continue;
		int rc = store_segment_use(store, segment);
		if (!rc)
			rc = segment_lookup(&segment->file, id, minute, fingerprint);
		if (rc != STO_ABSENT)
			return rc;
	}
	return STO_ABSENT;
}

int sto_segments_ids(struct sto_store *store, uint32_t minute_min, sto_id_fn fn, void *context)
{
	for (uint32_t i = 0; i < store->segments; i++) {
		struct store_segment *segment = &store->segment[i];
		if (segment->facts.minute_min > segment->facts.minute_max || segment->facts.minute_max < minute_min)
			continue;
		int rc = store_segment_use(store, segment);
		if (!rc)
			rc = segment_ids(&segment->file, fn, context);
		if (rc)
			return rc;
	}
	return 0;
}

int sto_segments_events(struct sto_store *store, uint64_t min_ms, sto_event_fn fn, void *context)
{
	for (uint32_t i = 0; i < store->segments; i++) {
		struct store_segment *segment = &store->segment[i];
		if (segment->facts.to_ms <= min_ms)
			continue;
		int rc = store_segment_use(store, segment);
		if (!rc)
			rc = segment_events(&segment->file, fn, context);
		if (rc)
			return rc;
	}
	return 0;
}

uint64_t sto_segments_watermark(const struct sto_store *store)
{
	return store->manifest.watermark_ms;
}

/* ---- retention ---- */

int sto_retain(struct sto_store *store, uint64_t sealed_before_ms)
{
	int removed = 0, rc = 0;
	for (uint32_t i = 0; i < store->segments && !rc; i++) {
		struct store_segment *segment = &store->segment[i];
		if (segment->facts.sealed_ms >= sealed_before_ms)
			continue;
		char path[STORE_PATH_BYTES];
		struct manifest_record record = {.kind = MANIFEST_RETIRED, .segment.sequence = segment->facts.sequence};
		rc = folder_segment_path(path, store->data_dir, record.segment.sequence, false);
		if (!rc)
			rc = store_commit(store, &record);
		if (rc)
			break;
		segment->retired = true;
		removed++;
		/* Retired is retired: a file that stays is taken away at the next start. */
		int left = store->io->unlink(store->io, path);
		if (left)
			tp_logf(TP_WARN, "a retired segment cannot be removed", "file=%s error=\"%s\"", path, strerror(-left));
	}
	store_segments_compact(store);
	return rc ? rc : removed;
}
