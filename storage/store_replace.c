/*
 * A published segment gets another file: the same rows in other bytes (archiving). One manifest record replaces the one by the other.
 *
 *   <seq>.tmp (synced) ─ rename ─► <seq>.<generation>.seg ─ sync folder ─► manifest append (synced) ─► the old file is removed
 *
 * The record keeps what the segment is (log file, rows, times, place in the chain) and changes what its file is (bytes, hashes,
 * generation). Who has the old file mapped keeps it; who comes for it finds it gone, and in the manifest, why.
 *
 * Threads: any; two at once on the same segment: the later one gets -EAGAIN.
 */
#include "store_state.h"
#include "turnpike/log.h"

#include <inttypes.h>
#include <string.h>

int store_replace(struct sto_store *store, const struct manifest_segment *facts)
{
	const struct sto_io *io = store->io;
	char temporary[STORE_PATH_BYTES], path[STORE_PATH_BYTES], old[STORE_PATH_BYTES], folder[STORE_PATH_BYTES];
	struct store_view *view = store_view_take(store);
	const struct store_segment *segment = store_view_find(view, facts->sequence);
	struct manifest_record record = {.kind = MANIFEST_REPLACED};
	int rc = segment ? 0 : -ENOENT;
	if (!rc) {
		record.segment = segment->facts;
		record.segment.generation++;
		record.segment.bytes = facts->bytes;
		record.segment.hash = facts->hash;
		memcpy(record.segment.sha256, facts->sha256, MANIFEST_HASH_BYTES);
		rc = segment->facts.generation == facts->generation ? 0 : -EAGAIN;
	}
	if (!rc)
		rc = folder_segment_temporary(temporary, store->data_dir, facts->sequence);
	if (!rc)
		rc = folder_segment_path(path, store->data_dir, facts->sequence, record.segment.generation);
	if (!rc)
		rc = folder_segment_path(old, store->data_dir, facts->sequence, facts->generation);
	if (!rc)
		rc = folder_path(folder, store->data_dir, "segments");
	store_view_give(store, view);
	if (rc)
		return rc;
	rc = io->rename(io, temporary, path);
	if (!rc && io->sync_folder(io, folder))
		rc = -EIO;
	if (!rc)
		rc = store_commit(store, &record, 1);
	if (rc == -ENOSPC)
		io->unlink(io, path);
	if (rc)
		return rc;
	int left = io->unlink(io, old);
	if (left)
		tp_logf(TP_WARN, "a replaced segment cannot be removed", "file=%s error=\"%s\"", old, strerror(-left));
	return 0;
}
