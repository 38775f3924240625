/*
 * Opening the data folder: the lock, the node file, the manifest, and clearing away what unfinished work left behind. The folder
 * and the life of a file in it are drawn in turnpike/store.h.
 *
 * What may be deleted at start, and why that is safe:
 *   a temporary file                         it never got its name
 *   a log file that the manifest calls sealed    its events are in a published segment, or it had none
 *   a log file that holds nothing            a spare; its id goes into the manifest first, so that it is never given out again
 *   a segment that the manifest retired      retention, cut short
 *   a segment that the manifest never knew   only while its log file is still there: it will be sealed again. Without the log file
 *                                            it had been published, and the manifest's end is damaged: refuse
 * A log file that may hold a record is never deleted here.
 *
 * The manifest is synced before it is believed: a killed process may have left an append in the page cache, and what is deleted on
 * its word must not come back after a power failure.
 *
 * Threads: the opening thread, then housekeeping.
 */
#include "log_read.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- folders, lock ---- */

/*
 * Makes data_dir with all its parents, and what is in it. Each name is synced into its folder, also those that were there: a
 * process that was killed may have made them a moment ago. Above data_dir we may lack the right to do so, and then it is not ours
 * to do.
 */
static int folder_make(const struct sto_io *io, const char *path, bool inner)
{
	char parent[STORE_PATH_BYTES];
	int made = io->mkdir(io, path, 0750);
	if (made < 0)
		return made;
	strcpy(parent, path);
	char *last = strrchr(parent, '/');
	if (last && last != parent)
		*last = 0;
	else
		strcpy(parent, last ? "/" : ".");
	int rc = io->sync_folder(io, parent);
	return !made && !inner && (rc == -EACCES || rc == -EINVAL || rc == -EROFS) ? 0 : rc;
}

static int folders_make(const struct sto_io *io, const char *data_dir)
{
	char path[STORE_PATH_BYTES];
	uint64_t id[2];
	size_t length = strlen(data_dir);
	while (length > 1 && data_dir[length - 1] == '/')
		length--;
	if (!length || length >= STORE_PATH_BYTES)
		return length ? -ENAMETOOLONG : -EINVAL;
	memcpy(path, data_dir, length);
	path[length] = 0;
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		int rc = io->identity(io, path, -1, id) == 0 ? 0 : folder_make(io, path, false);
		if (rc)
			return rc;
		*slash = '/';
	}
	int rc = strcmp(path, "/") ? folder_make(io, path, false) : 0;
	static const char *const inner[] = {"log", "segments"};
	for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]) && !rc; i++) {
		rc = folder_path(path, data_dir, inner[i]);
		if (!rc)
			rc = folder_make(io, path, true);
	}
	return rc;
}

static int lock_take(struct sto_store *store)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, store->data_dir, "lock");
	if (rc)
		return rc;
	store->lock_fd = store->io->open(store->io, path, O_RDWR | O_CREAT, 0640);
	if (store->lock_fd < 0)
		return store->lock_fd;
	rc = store->io->lock(store->io, store->lock_fd);
	if (rc == -EBUSY)
		tp_logf(TP_ERROR, "another process uses this data folder", "data_dir=%s", store->data_dir);
	return rc;
}

/* ---- what is there ---- */

struct numbers {
	const char *suffix;
	uint64_t *number;
	uint32_t count, max;
};

static int number_take(void *context, const char *name)
{
	struct numbers *numbers = context;
	uint64_t number = folder_name_number(name, numbers->suffix);
	if (!number)
		return 0;
	if (numbers->count == numbers->max) {
		uint32_t max = numbers->max ? 2 * numbers->max : 64;
		uint64_t *larger = realloc(numbers->number, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		numbers->number = larger;
		numbers->max = max;
	}
	numbers->number[numbers->count++] = number;
	return 0;
}

static int number_compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

/* The numbers in the names of a folder's files with this suffix, ascending. numbers->number is the caller's to free. */
static int numbers_list(const struct sto_store *store, const char *folder, struct numbers *numbers)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, store->data_dir, folder);
	if (!rc)
		rc = store->io->list(store->io, path, number_take, numbers);
	if (rc) {
		free(numbers->number);
		numbers->number = NULL;
		numbers->count = 0;
	} else if (numbers->count) {
		qsort(numbers->number, numbers->count, sizeof(numbers->number[0]), number_compare);
	}
	return rc;
}

/* ---- the manifest ---- */

static int manifest_make(struct sto_store *store, const char *path)
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

static int record_loaded(void *context, const struct manifest_record *record)
{
	struct sto_store *store = context;
	if (record->kind == MANIFEST_SEGMENT)
		return store_segment_add(store, &record->segment);
	if (record->kind == MANIFEST_RETIRED) {
		struct store_segment *segment = store_segment_find(store, record->segment.sequence);
		if (!segment || segment->retired)
			return -EBADMSG;
		segment->retired = true;
	}
	return 0;
}

static int manifest_load(struct sto_store *store, const char *path)
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
		rc = manifest_feed(&store->manifest, all, bytes, record_loaded, store);
	if (!rc && !store->manifest.bytes)
		rc = -EBADMSG;
	if (rc >= 0 && memcmp(store->manifest.node_id, store->node_id, sizeof(store->node_id)) != 0) {
		tp_logf(TP_ERROR, "the manifest is another node's", "file=%s", path);
		rc = -EBADMSG;
	} else if (rc == -EBADMSG) {
		tp_logf(TP_ERROR, "the manifest is damaged: put it back from a backup", "file=%s offset=%" PRIu64, path,
			store->manifest.bytes);
	}
	store->manifest_torn = rc == 1;
	store_segments_compact(store);
	free(all);
	return rc == 1 ? 0 : rc;
}

/* Only once it is clear that nothing had been done on the word of the record that is not whole. */
static int manifest_cut(struct sto_store *store)
{
	if (!store->manifest_torn)
		return 0;
	tp_logf(TP_WARN, "cutting off the manifest's last record, which was never synced", "data_dir=%s offset=%" PRIu64,
		store->data_dir, store->manifest.bytes);
	int rc = store->io->truncate(store->io, store->manifest_fd, store->manifest.bytes);
	if (!rc)
		rc = store->io->sync(store->io, store->manifest_fd);
	store->manifest_torn = false;
	return rc;
}

int store_commit(struct sto_store *store, struct manifest_record *record)
{
	const struct sto_io *io = store->io;
	uint8_t unit[MANIFEST_UNIT];
	if (store->manifest_failed)
		return -EIO;
	manifest_record_write(unit, &store->manifest, record);
	int rc = io->write(io, store->manifest_fd, unit, sizeof(unit), store->manifest.bytes);
	if (sto_io_full(rc)) {
		/* Part of it may be there: off with it. */
		int cut = io->truncate(io, store->manifest_fd, store->manifest.bytes);
		store->manifest_failed = cut != 0;
		return cut ? -EIO : -ENOSPC;
	}
	if (!rc)
		rc = io->sync(io, store->manifest_fd);
	if (rc) {
		/* Whether the record is there is not known any more: only a restart finds out. */
		store->manifest_failed = true;
		tp_logf(TP_ERROR, "the manifest cannot be written, stopping", "data_dir=%s error=\"%s\"", store->data_dir,
			strerror(-rc));
		return -EIO;
	}
	rc = manifest_feed(&store->manifest, unit, sizeof(unit), NULL, NULL);
	if (rc)
		store->manifest_failed = true; /* -ENOMEM: what is in memory is behind the file */
	return rc;
}

/* ---- leftovers ---- */

static int temporaries_clear(struct sto_store *store)
{
	const struct sto_io *io = store->io;
	char path[STORE_PATH_BYTES];
	static const char *const own[] = {"node.tmp", "manifest.tmp"};
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		int rc = folder_path(path, store->data_dir, own[i]);
		if (!rc)
			rc = io->unlink(io, path);
		if (rc && rc != -ENOENT)
			return rc;
	}
	struct numbers numbers = {.suffix = ".tmp"};
	int rc = numbers_list(store, "segments", &numbers);
	for (uint32_t i = 0; i < numbers.count && !rc; i++) {
		rc = folder_segment_path(path, store->data_dir, numbers.number[i], true);
		if (!rc)
			rc = io->unlink(io, path);
	}
	free(numbers.number);
	return rc;
}

static bool number_listed(const struct numbers *numbers, uint64_t number)
{
	return numbers->count && bsearch(&number, numbers->number, numbers->count, sizeof(number), number_compare);
}

/* A segment file that the manifest does not list. */
static int segment_stray(struct sto_store *store, uint64_t sequence, const struct numbers *logs)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_segment_path(path, store->data_dir, sequence, false);
	if (rc)
		return rc;
	/* Sequences are given out in order: at or below the highest it was published once, so it is retired now. */
	if (sequence > store->manifest.segment_max) {
		uint64_t file_id;
		rc = segment_peek(store->io, path, sequence, &file_id);
		if (rc && rc != -EBADMSG)
			return rc;
		if (rc || !number_listed(logs, file_id)) {
			tp_logf(TP_ERROR,
				"a segment is not in the manifest, and its log file is gone: the manifest has lost its end",
				"file=%s manifest_bytes=%" PRIu64, path, store->manifest.bytes);
			return -EBADMSG;
		}
	}
	tp_logf(TP_INFO, "removing a segment that is not published", "file=%s", path);
	return store->io->unlink(store->io, path);
}

static int segments_clear(struct sto_store *store, const struct numbers *logs)
{
	struct numbers files = {.suffix = ".seg"};
	int rc = numbers_list(store, "segments", &files);
	for (uint32_t i = 0; i < files.count && !rc; i++)
		if (!store_segment_find(store, files.number[i]))
			rc = segment_stray(store, files.number[i], logs);
	for (uint32_t i = 0; i < store->segments && !rc; i++) {
		uint64_t sequence = store->segment[i].facts.sequence;
		if (number_listed(&files, sequence))
			continue;
		tp_logf(TP_ERROR, "a published segment is missing: put it back from a backup", "segment=%016" PRIx64, sequence);
		rc = -EBADMSG;
	}
	free(files.number);
	return rc;
}

/* A log file that holds nothing. Its id is put on record, and is free again only if the disk is too full for that. */
static int log_discard(struct sto_store *store, const char *path, uint64_t file_id)
{
	struct manifest_record record = {.kind = MANIFEST_LOG_EMPTY, .file_id = file_id};
	int kept = store_commit(store, &record);
	if (kept && kept != -ENOSPC)
		return kept;
	int rc = store->io->unlink(store->io, path);
	if (!rc && kept)
		rc = store_commit(store, &record); /* the file's own room may be enough */
	return rc == -ENOSPC ? 0 : rc;
}

static int logs_clear(struct sto_store *store, const struct numbers *logs)
{
	const struct sto_io *io = store->io;
	char path[STORE_PATH_BYTES];
	for (uint32_t i = 0; i < logs->count; i++) {
		uint64_t id = logs->number[i];
		int rc = folder_log_path(path, store->data_dir, id);
		if (rc)
			return rc;
		if (manifest_sealed(&store->manifest, id)) {
			rc = io->unlink(io, path);
			if (rc)
				return rc;
			continue;
		}
		struct sto_log_facts facts;
		enum log_state state;
		rc = log_scan(io, path, id, true, NULL, NULL, &facts, &state);
		if (rc && rc != -EBADMSG)
			return rc;
		/* A damaged one stays too: whoever reads it next is told. */
		bool nothing = !rc && (state == LOG_NOTHING || (!facts.blocks && !facts.tail_bytes_ignored));
		rc = nothing ? log_discard(store, path, id) : store_unsealed_add(store, id, UINT64_MAX);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- opening ---- */

static int exists(const struct sto_store *store, const char *name, bool *there)
{
	char path[STORE_PATH_BYTES];
	uint64_t id[2];
	int rc = folder_path(path, store->data_dir, name);
	if (!rc)
		rc = store->io->identity(store->io, path, -1, id);
	*there = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

/* Node file, manifest, logs and segments belong together: without the one the others cannot be understood. */
static int identity_load(struct sto_store *store, bool in_use)
{
	bool node, manifest;
	int rc = exists(store, "node", &node);
	if (!rc)
		rc = exists(store, "manifest", &manifest);
	if (rc)
		return rc;
	/* The node file is made first, then the manifest, then all else. */
	if ((!node && (manifest || in_use)) || (!manifest && in_use)) {
		tp_logf(TP_ERROR,
			"a file of the data folder is missing, and without it the rest is lost: put it back from a backup",
			"file=%s/%s", store->data_dir, node ? "manifest" : "node");
		return -EBADMSG;
	}
	uint64_t secret[2];
	rc = node_file_load(store->io, store->data_dir, !node, store->node_id, secret);
	if (rc)
		return rc;
	tp_id_secret_set(secret);
	char path[STORE_PATH_BYTES];
	rc = folder_path(path, store->data_dir, "manifest");
	if (!rc && !manifest)
		rc = manifest_make(store, path);
	return rc ? rc : manifest_load(store, path);
}

static int open_all(struct sto_store *store)
{
	struct numbers logs = {.suffix = ".log"}, segments = {.suffix = ".seg"};
	int rc = folders_make(store->io, store->data_dir);
	if (!rc)
		rc = lock_take(store);
	if (!rc)
		rc = numbers_list(store, "log", &logs);
	if (!rc)
		rc = numbers_list(store, "segments", &segments);
	if (!rc)
		rc = identity_load(store, logs.count || segments.count);
	if (!rc)
		rc = temporaries_clear(store);
	if (!rc)
		rc = segments_clear(store, &logs);
	if (!rc)
		rc = manifest_cut(store);
	if (!rc)
		rc = logs_clear(store, &logs);
	store->next_file_id = store->manifest.file_id_max + 1;
	if (logs.count && logs.number[logs.count - 1] >= store->next_file_id)
		store->next_file_id = logs.number[logs.count - 1] + 1;
	store->next_sequence = store->manifest.segment_max + 1;
	free(logs.number);
	free(segments.number);
	return rc;
}

int store_open(struct sto_store **store, const struct sto_store_options *options, const struct sto_io *io)
{
	if (options->log_file_bytes % 4096 || options->log_file_bytes < 3 * 4096)
		return -EINVAL;
	struct sto_store *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->io = io;
	s->log_file_bytes = options->log_file_bytes;
	s->preallocate = options->preallocate;
	s->lock_fd = s->manifest_fd = -1;
	s->data_dir = strdup(options->data_dir);
	int rc = s->data_dir ? open_all(s) : -ENOMEM;
	if (rc) {
		sto_store_close(s);
		return rc;
	}
	*store = s;
	return 0;
}

int sto_store_open(struct sto_store **store, const struct sto_store_options *options)
{
	return store_open(store, options, sto_io_system());
}

void sto_store_close(struct sto_store *store)
{
	if (!store)
		return;
	for (uint32_t i = 0; i < store->segments; i++)
		store_segment_drop(store, &store->segment[i]);
	free(store->segment);
	manifest_fini(&store->manifest);
	if (store->manifest_fd >= 0)
		store->io->close(store->io, store->manifest_fd);
	if (store->lock_fd >= 0)
		store->io->close(store->io, store->lock_fd); /* and with it the lock */
	free(store->unsealed);
	free(store->data_dir);
	free(store);
}
