/*
 * Archiving: a segment gets another file, smaller, with the same rows (segment_archive.c); how one file replaces another is
 * store_replace.c's.
 *
 * Threads: any, one at a time for a segment; all work is done outside of locks.
 */
#include "store_state.h"

#include <string.h>

static int archive(struct sto_store *store, const struct manifest_segment *facts, const struct segment_yield *yield,
		   uint64_t *bytes)
{
	char path[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES];
	struct manifest_segment made = *facts;
	struct segment segment;
	int rc = folder_segment_path(path, store->data_dir, facts->sequence, facts->generation);
	if (!rc)
		rc = folder_segment_temporary(temporary, store->data_dir, facts->sequence);
	if (!rc)
		rc = segment_open(&segment, store->io, path, facts);
	if (rc)
		return rc;
	rc = segment_archive(&segment, temporary, yield, &made);
	segment_close(&segment);
	if (rc)
		return rc;
	if (made.bytes >= facts->bytes) {
		store->io->unlink(store->io, temporary);
		return 0;
	}
	rc = store_replace(store, &made);
	*bytes = made.bytes;
	return rc ? rc : 1;
}

int sto_archive(struct sto_store *store, uint64_t sequence, const struct sto_seal_options *options, uint64_t *bytes)
{
	struct segment_yield yield = {0};
	struct manifest_segment facts;
	if (options)
		yield = (struct segment_yield){.fn = options->yield, .context = options->yield_context};
	struct store_view *view = store_view_take(store);
	const struct store_segment *found = store_view_find(view, sequence);
	if (found)
		facts = found->facts;
	store_view_give(store, view);
	int rc = found ? archive(store, &facts, &yield, bytes) : -ENOENT;
	return sto_io_full(rc) ? -ENOSPC : rc;
}
