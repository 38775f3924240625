/*
 * The manifest of an open data folder: loading it, the commit, the lists that follow from it, and writing it anew when it has become
 * longer than what it says.
 *
 * A commit is one append and one sync under commit_lock; then the lists in memory follow under `lock`. What the lists say is thus
 * always on stable storage already.
 *
 * Compaction: the new manifest is written under a temporary name, synced, renamed over the old one, and the folder synced, all
 * under commit_lock, so nothing is appended meanwhile. A crash leaves the one or the other, and both say the same. Readers have the
 * old file open, notice that another one has its name, and read that from its start.
 */
#include "manifest_format.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { COMPACT_UNITS = 1024 };

/* ---- the list of segments ---- */

static void segment_free(struct sto_store *store, struct store_segment *segment)
{
	if (segment->file.base) {
		segment_close(&segment->file);
		atomic_fetch_sub_explicit(&store->mapped, 1, memory_order_relaxed);
	}
	free(segment);
}

struct store_view *store_view_take(struct sto_store *store)
{
	pthread_mutex_lock(&store->lock);
	struct store_view *view = store->view;
	atomic_fetch_add_explicit(&view->held, 1, memory_order_relaxed);
	pthread_mutex_unlock(&store->lock);
	return view;
}

void store_view_give(struct sto_store *store, struct store_view *view)
{
	/* acquire and release: who frees sees all that the others did with it */
	if (atomic_fetch_sub_explicit(&view->held, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < view->segments; i++)
		if (atomic_fetch_sub_explicit(&view->segment[i]->held, 1, memory_order_acq_rel) == 1)
			segment_free(store, view->segment[i]);
	free(view);
}

static uint32_t view_at(const struct store_view *view, uint64_t sequence)
{
	uint32_t low = 0, high = view->segments;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (view->segment[middle]->facts.sequence < sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct store_segment *store_view_find(const struct store_view *view, uint64_t sequence)
{
	uint32_t at = view_at(view, sequence);
	return at < view->segments && view->segment[at]->facts.sequence == sequence ? view->segment[at] : NULL;
}

static struct store_segment *segment_make(const struct manifest_segment *facts)
{
	struct store_segment *segment = calloc(1, sizeof(*segment));
	if (segment) {
		segment->facts = *facts;
		segment->held = 1;
	}
	return segment;
}

/*
 * The list with room for one more that nobody else looks at: the current one, if only the store has it, else a copy that takes its
 * place. Under `lock`.
 */
static struct store_view *view_own(struct sto_store *store)
{
	struct store_view *old = store->view;
	bool alone = atomic_load_explicit(&old->held, memory_order_acquire) == 1;
	if (alone && old->segments < store->segments_max)
		return old;
	uint32_t max = old->segments < store->segments_max ? store->segments_max : 2 * old->segments + 64;
	struct store_view *made = malloc(sizeof(*made) + max * sizeof(made->segment[0]));
	if (!made)
		return NULL;
	made->held = 1;
	made->segments = old->segments;
	for (uint32_t i = 0; i < old->segments; i++) {
		made->segment[i] = old->segment[i];
		atomic_fetch_add_explicit(&made->segment[i]->held, 1, memory_order_relaxed);
	}
	store->segments_max = max;
	store->view = made;
	store_view_give(store, old);
	return made;
}

static int segment_listed(struct sto_store *store, const struct manifest_record *record)
{
	struct store_view *view = view_own(store);
	if (!view)
		return -ENOMEM;
	uint32_t at = view_at(view, record->segment.sequence);
	bool known = at < view->segments && view->segment[at]->facts.sequence == record->segment.sequence;
	if (known != (record->kind != MANIFEST_SEGMENT) || (!known && at != view->segments))
		return -EBADMSG;
	struct store_segment *made = record->kind == MANIFEST_RETIRED ? NULL : segment_make(&record->segment);
	if (!made && record->kind != MANIFEST_RETIRED)
		return -ENOMEM;
	if (record->kind == MANIFEST_SEGMENT) {
		view->segment[view->segments++] = made;
		return 0;
	}
	struct store_segment *old = view->segment[at];
	if (record->kind == MANIFEST_REPLACED &&
	    (made->facts.file_id != old->facts.file_id || made->facts.rows != old->facts.rows ||
	     made->facts.generation <= old->facts.generation)) {
		free(made);
		return -EBADMSG;
	}
	atomic_store_explicit(&old->gone, 1, memory_order_release);
	if (made)
		view->segment[at] = made;
	else
		memmove(&view->segment[at], &view->segment[at + 1], (--view->segments - at) * sizeof(view->segment[0]));
	if (atomic_fetch_sub_explicit(&old->held, 1, memory_order_acq_rel) == 1)
		segment_free(store, old);
	return 0;
}

/* ---- the list of rollup files ---- */

static int rollup_listed(struct sto_store *store, const struct manifest_record *record)
{
	const struct manifest_rollup *rollup = &record->rollup;
	uint32_t at = 0;
	if (record->kind == MANIFEST_ROLLUP_GONE) {
		while (at < store->rollups && store->rollup[at].sequence != rollup->sequence)
			at++;
		if (at == store->rollups)
			return -EBADMSG;
		memmove(&store->rollup[at], &store->rollup[at + 1], (--store->rollups - at) * sizeof(store->rollup[0]));
		return 0;
	}
	if (store->rollups == store->rollups_max) {
		uint32_t max = store->rollups_max ? 2 * store->rollups_max : 64;
		struct manifest_rollup *larger = realloc(store->rollup, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		store->rollup = larger;
		store->rollups_max = max;
	}
	while (at < store->rollups &&
	       (store->rollup[at].class < rollup->class ||
		(store->rollup[at].class == rollup->class && store->rollup[at].from_segment < rollup->from_segment)))
		at++;
	/* Two files of a class never cover the same segment: a merge lets its sources go before it names its result. */
	if ((at && store->rollup[at - 1].class == rollup->class && store->rollup[at - 1].to_segment >= rollup->from_segment) ||
	    (at < store->rollups && store->rollup[at].class == rollup->class &&
	     store->rollup[at].from_segment <= rollup->to_segment))
		return -EBADMSG;
	memmove(&store->rollup[at + 1], &store->rollup[at], (store->rollups++ - at) * sizeof(store->rollup[0]));
	store->rollup[at] = *rollup;
	return 0;
}

/* Under `lock`. */
static int record_listed(void *context, const struct manifest_record *record)
{
	struct sto_store *store = context;
	store->manifest_records++;
	switch (record->kind) {
	case MANIFEST_SEGMENT:
	case MANIFEST_RETIRED:
	case MANIFEST_REPLACED:
		return segment_listed(store, record);
	case MANIFEST_ROLLUP:
	case MANIFEST_ROLLUP_GONE:
		return rollup_listed(store, record);
	case MANIFEST_LOG_EMPTY:
	case MANIFEST_STATE:
	case MANIFEST_SEALED_RANGE:
	case MANIFEST_LOG_OPENED:
	case MANIFEST_LOG_LEFT:
		break;
	}
	return 0;
}

/* ---- making and loading ---- */

int store_manifest_make(struct sto_store *store, const char *path)
{
	const struct sto_io *io = store->io;
	char temporary[STORE_PATH_BYTES];
	uint8_t header[MANIFEST_UNIT];
	int rc = folder_path(temporary, store->data_dir, "manifest.tmp");
	if (rc)
		return rc;
	manifest_header_write(header, store->node_id);
	int fd = io->open(io, temporary, O_RDWR | O_CREAT | O_TRUNC, 0640);
	if (fd < 0)
		return fd;
	rc = io->write(io, fd, header, sizeof(header), 0);
	if (!rc)
		rc = io->sync(io, fd);
	io->close(io, fd);
	if (!rc)
		rc = io->rename(io, temporary, path);
	if (!rc)
		rc = io->sync_folder(io, store->data_dir);
	return rc;
}

int store_manifest_load(struct sto_store *store, const char *path)
{
	const struct sto_io *io = store->io;
	uint64_t bytes;
	uint8_t *all = NULL;
	store->manifest_fd = io->open(io, path, O_RDWR, 0);
	if (store->manifest_fd < 0)
		return store->manifest_fd;
	int rc = io->sync(io, store->manifest_fd);
	if (!rc)
		rc = io->size(io, store->manifest_fd, &bytes);
	if (!rc) {
		all = malloc(bytes + 1);
		int64_t got = all ? io->read(io, store->manifest_fd, all, bytes, 0) : -ENOMEM;
		rc = got < 0 ? (int)got : (uint64_t)got != bytes ? -EIO : 0;
	}
	if (!rc)
		rc = manifest_feed(&store->manifest, all, bytes, record_listed, store);
	if (rc >= 0 && !store->manifest.bytes)
		rc = -EBADMSG;
	if (rc >= 0 && memcmp(store->manifest.node_id, store->node_id, sizeof(store->node_id)) != 0) {
		tp_logf(TP_ERROR, "the manifest is another node's", "file=%s", path);
		rc = -EBADMSG;
	} else if (rc == -EBADMSG) {
		tp_logf(TP_ERROR, "the manifest is damaged: put it back from a backup", "file=%s offset=%" PRIu64, path,
			store->manifest.bytes);
	} else if (rc == -ENOTSUP) {
		tp_logf(TP_ERROR, "the manifest was written by a newer version of this program", "file=%s version_known=%d", path,
			MANIFEST_VERSION);
	}
	store->manifest_torn = rc == 1;
	free(all);
	return rc == 1 ? 0 : rc;
}

/* ---- the commit ---- */

int store_commit(struct sto_store *store, struct manifest_record *record, uint32_t count)
{
	const struct sto_io *io = store->io;
	uint8_t unit[MANIFEST_PARTS_MAX * MANIFEST_UNIT];
	uint64_t bytes = (uint64_t)count * MANIFEST_UNIT;
	pthread_mutex_lock(&store->commit_lock);
	int rc = store->manifest_failed ? -EIO : 0;
	const uint8_t *previous = store->manifest.facts.chain_sha256;
	for (uint32_t i = 0; i < count && !rc; i++) {
		struct manifest_segment *segment = &record[i].segment;
		if (record[i].kind != MANIFEST_SEGMENT)
			continue;
		memcpy(segment->prev_sha256, previous, MANIFEST_HASH_BYTES);
		memcpy(segment->chain_sha256, segment->sha256, MANIFEST_HASH_BYTES);
		previous = segment->chain_sha256;
	}
	if (!rc) {
		manifest_write(unit, &store->manifest, record, count);
		rc = io->write(io, store->manifest_fd, unit, bytes, store->manifest.bytes);
		if (sto_io_full(rc)) {
			/* Part of it may be there: off with it. */
			store->manifest_failed = io->truncate(io, store->manifest_fd, store->manifest.bytes) != 0;
			rc = store->manifest_failed ? -EIO : -ENOSPC;
		} else {
			if (!rc)
				rc = io->sync(io, store->manifest_fd);
			/* Whether the record is there is not known any more: only a restart finds out. */
			store->manifest_failed = rc != 0;
			if (rc)
				tp_logf(TP_ERROR, "the manifest cannot be written, stopping", "data_dir=%s error=\"%s\"",
					store->data_dir, strerror(-rc));
			rc = rc ? -EIO : 0;
		}
	}
	if (!rc) {
		pthread_mutex_lock(&store->lock);
		rc = manifest_feed(&store->manifest, unit, bytes, record_listed, store);
		pthread_mutex_unlock(&store->lock);
		if (rc)
			store->manifest_failed = true; /* -ENOMEM: what is in memory is behind the file */
	}
	pthread_mutex_unlock(&store->commit_lock);
	return rc;
}

/* ---- compaction ---- */

/* Buffered output of single-record transactions. */
struct compacting {
	const struct sto_io *io;
	int fd;
	struct manifest written; /* what was written: sequence, previous, bytes */
	uint8_t *buffer;
	uint32_t filled;
	uint64_t records;
	int rc;
};

static void compact_flush(struct compacting *c)
{
	if (!c->rc && c->filled)
		c->rc = c->io->write(c->io, c->fd, c->buffer, c->filled, c->written.bytes - c->filled);
	c->filled = 0;
}

static void compact_put(struct compacting *c, const struct manifest_record *record)
{
	if (c->filled + MANIFEST_UNIT > COMPACT_UNITS * MANIFEST_UNIT)
		compact_flush(c);
	if (c->rc)
		return;
	uint8_t *unit = c->buffer + c->filled;
	manifest_write(unit, &c->written, record, 1);
	c->rc = manifest_feed(&c->written, unit, MANIFEST_UNIT, NULL, NULL);
	assert(c->rc == 0 || c->rc == -ENOMEM);
	c->filled += MANIFEST_UNIT;
	c->records++;
}

/* All that the manifest says, in the fewest records. */
static void compact_fill(struct compacting *c, const struct sto_store *store)
{
	manifest_header_write(c->buffer, store->node_id);
	c->rc = manifest_feed(&c->written, c->buffer, MANIFEST_UNIT, NULL, NULL);
	c->filled = MANIFEST_UNIT;
	struct manifest_record record = {.kind = MANIFEST_STATE, .facts = store->manifest.facts};
	compact_put(c, &record);
	for (uint32_t i = 0; i < store->manifest.sealed_ranges; i++) {
		record = (struct manifest_record){.kind = MANIFEST_SEALED_RANGE,
						  .file_id = store->manifest.sealed[i].from,
						  .file_id_end = store->manifest.sealed[i].to};
		compact_put(c, &record);
	}
	for (uint32_t i = 0; i < store->view->segments; i++) {
		record = (struct manifest_record){.kind = MANIFEST_SEGMENT, .segment = store->view->segment[i]->facts};
		compact_put(c, &record);
	}
	for (uint32_t i = 0; i < store->rollups; i++) {
		record = (struct manifest_record){.kind = MANIFEST_ROLLUP, .rollup = store->rollup[i]};
		compact_put(c, &record);
	}
	for (uint32_t i = 0; i < store->manifest.opens; i++) {
		record = (struct manifest_record){.kind = MANIFEST_LOG_OPENED, .log = store->manifest.open[i]};
		compact_put(c, &record);
	}
	compact_flush(c);
}

/* Under commit_lock (or while opening). */
static int manifest_rewrite(struct sto_store *store)
{
	const struct sto_io *io = store->io;
	char path[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES];
	struct compacting c = {.io = io, .fd = -1};
	int rc = folder_path(path, store->data_dir, "manifest");
	if (!rc)
		rc = folder_path(temporary, store->data_dir, "manifest.tmp");
	if (rc)
		return rc;
	c.buffer = malloc(COMPACT_UNITS * MANIFEST_UNIT);
	c.fd = c.buffer ? io->open(io, temporary, O_RDWR | O_CREAT | O_TRUNC, 0640) : -ENOMEM;
	rc = c.fd < 0 ? c.fd : 0;
	if (!rc) {
		compact_fill(&c, store);
		rc = c.rc ? c.rc : io->sync(io, c.fd);
		if (rc)
			io->unlink(io, temporary);
	}
	free(c.buffer);
	bool renamed = false;
	if (!rc) {
		rc = io->rename(io, temporary, path);
		renamed = rc == 0;
	}
	if (!rc)
		rc = io->sync_folder(io, store->data_dir);
	if (rc) {
		if (c.fd >= 0)
			io->close(io, c.fd);
		manifest_fini(&c.written);
		/* Renamed, but for how long is not known: what was appended to either might be lost. */
		store->manifest_failed |= renamed;
		return renamed ? -EIO : sto_io_full(rc) ? -ENOSPC : rc;
	}
	io->close(io, store->manifest_fd);
	pthread_mutex_lock(&store->lock);
	store->manifest_fd = c.fd;
	store->manifest_records = c.records;
	assert(!memcmp(&c.written.facts, &store->manifest.facts, sizeof(c.written.facts)));
	manifest_fini(&store->manifest);
	store->manifest = c.written;
	pthread_mutex_unlock(&store->lock);
	return 0;
}

int store_manifest_compact(struct sto_store *store)
{
	int rc = 0;
	pthread_mutex_lock(&store->commit_lock);
	uint64_t live = 1 + store->manifest.sealed_ranges + store->view->segments + store->rollups + store->manifest.opens;
	if (!store->manifest_failed && store->manifest_records > store->compact_records_min && store->manifest_records > 2 * live) {
		uint64_t before = store->manifest_records;
		rc = manifest_rewrite(store);
		if (!rc)
			tp_logf(TP_INFO, "manifest written anew", "records=%" PRIu64 " before=%" PRIu64, store->manifest_records,
				before);
		rc = rc ? rc : 1;
	}
	pthread_mutex_unlock(&store->commit_lock);
	return rc;
}

int store_manifest_ready(struct sto_store *store)
{
	int rc = 0;
	if (store->manifest_torn) {
		/* Only here: by now it is clear that nothing had been done on the word of the record that is not whole. */
		tp_logf(TP_WARN, "cutting off the manifest's last record, which was never synced", "data_dir=%s offset=%" PRIu64,
			store->data_dir, store->manifest.bytes);
		rc = store->io->truncate(store->io, store->manifest_fd, store->manifest.bytes);
		if (!rc)
			rc = store->io->sync(store->io, store->manifest_fd);
		store->manifest_torn = false;
	}
	if (!rc && store->manifest.version < MANIFEST_VERSION) {
		tp_logf(TP_INFO, "writing the manifest anew in this program's version", "data_dir=%s version=%u version_new=%d",
			store->data_dir, store->manifest.version, MANIFEST_VERSION);
		rc = manifest_rewrite(store);
	}
	return rc;
}
