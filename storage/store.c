/*
 * Opening the data folder: the lock, the node file, the manifest, and clearing away what unfinished work left behind. The folder
 * and the life of a file in it are drawn in turnpike/store.h.
 *
 * What may be deleted at start, and why that is safe:
 *   a temporary file                         it never got its name
 *   a log file that the manifest calls sealed    its events are in a published segment, or it had none
 *   a log file that holds nothing            a spare; its id goes into the manifest first, so that it is never given out again
 *   a segment or rollup file that the manifest let go    retention, merging or replacing, cut short
 *   a rollup file that the manifest never knew           merging, cut short: its sources are there
 *   a segment that the manifest never knew   only while its log file is still there: it will be sealed again. Without the log file
 *                                            it had been published, and the manifest's end is damaged: refuse
 * A log file that may hold a record is never deleted here. One that the manifest says was made, and that is not there or is another
 * one, is a reason to refuse.
 *
 * The manifest is synced before it is believed: a killed process may have left an append in the page cache, and what is deleted on
 * its word must not come back after a power failure.
 *
 * Threads: the opening thread.
 */
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { COMPACT_RECORDS_MIN = 4096 };

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
	static const char *const inner[] = {"log", "segments", "rollups"};
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
		rc = folder_segment_temporary(path, store->data_dir, numbers.number[i]);
		if (!rc)
			rc = io->unlink(io, path);
	}
	free(numbers.number);
	numbers = (struct numbers){.suffix = ".tmp"};
	if (!rc)
		rc = numbers_list(store, "rollups", &numbers);
	for (uint32_t i = 0; i < numbers.count && !rc; i++) {
		rc = folder_rollup_path(path, store->data_dir, numbers.number[i], true);
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

/* ---- segments and rollup files ---- */

struct segment_names {
	struct segment_name {
		uint64_t sequence;
		uint32_t generation;
	} * name;
	uint32_t count, max;
};

static int segment_name_take(void *context, const char *name)
{
	struct segment_names *names = context;
	struct segment_name one;
	one.sequence = folder_segment_number(name, &one.generation);
	if (!one.sequence)
		return 0;
	if (names->count == names->max) {
		uint32_t max = names->max ? 2 * names->max : 64;
		struct segment_name *larger = realloc(names->name, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		names->name = larger;
		names->max = max;
	}
	names->name[names->count++] = one;
	return 0;
}

static int segment_name_compare(const void *left, const void *right)
{
	const struct segment_name *a = left, *b = right;
	if (a->sequence != b->sequence)
		return a->sequence < b->sequence ? -1 : 1;
	return a->generation < b->generation ? -1 : a->generation > b->generation;
}

/* A segment file that the manifest does not list. */
static int segment_stray(struct sto_store *store, const struct segment_name *name, const struct numbers *logs)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_segment_path(path, store->data_dir, name->sequence, name->generation);
	if (rc)
		return rc;
	/* Sequences are published in order: at or below the highest it is retired, replaced, or was never published at all. */
	if (name->sequence > store->manifest.facts.segment_max) {
		uint64_t file_id;
		rc = segment_peek(store->io, path, name->sequence, &file_id);
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
	char path[STORE_PATH_BYTES];
	struct segment_names files = {0};
	int rc = folder_path(path, store->data_dir, "segments");
	if (!rc)
		rc = store->io->list(store->io, path, segment_name_take, &files);
	if (files.count)
		qsort(files.name, files.count, sizeof(files.name[0]), segment_name_compare);
	for (uint32_t i = 0; i < files.count && !rc; i++) {
		const struct store_segment *segment = store_view_find(store->view, files.name[i].sequence);
		if (!segment || segment->facts.generation != files.name[i].generation)
			rc = segment_stray(store, &files.name[i], logs);
	}
	for (uint32_t i = 0; i < store->view->segments && !rc; i++) {
		const struct manifest_segment *facts = &store->view->segment[i]->facts;
		const struct segment_name wanted = {facts->sequence, facts->generation};
		if (files.count && bsearch(&wanted, files.name, files.count, sizeof(wanted), segment_name_compare))
			continue;
		tp_logf(TP_ERROR, "a published segment is missing: put it back from a backup", "segment=%016" PRIx64,
			facts->sequence);
		rc = -EBADMSG;
	}
	free(files.name);
	return rc;
}

static int rollups_clear(struct sto_store *store)
{
	char path[STORE_PATH_BYTES];
	struct numbers files = {.suffix = ".rol"};
	int rc = numbers_list(store, "rollups", &files);
	for (uint32_t i = 0; i < files.count && !rc; i++) {
		bool known = false;
		for (uint32_t r = 0; r < store->rollups && !known; r++)
			known = store->rollup[r].sequence == files.number[i];
		if (known)
			continue;
		rc = folder_rollup_path(path, store->data_dir, files.number[i], false);
		if (!rc)
			rc = store->io->unlink(store->io, path);
	}
	for (uint32_t r = 0; r < store->rollups && !rc; r++) {
		if (number_listed(&files, store->rollup[r].sequence))
			continue;
		tp_logf(TP_ERROR, "a published rollup file is missing: put it back from a backup", "rollup=%016" PRIx64,
			store->rollup[r].sequence);
		rc = -EBADMSG;
	}
	free(files.number);
	return rc;
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

/*
 * A folder that is in use has these two, made and synced before its manifest. Whoever lost the logs' folder, empty or not, must say that
 * nothing was in it: else what was acknowledged and not sealed would be gone without a word.
 */
static int folders_check(const struct sto_store *store)
{
	static const char *const names[] = {"log", "segments"};
	bool manifest, there = true;
	int rc = exists(store, "manifest", &manifest);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !rc && manifest; i++) {
		rc = exists(store, names[i], &there);
		if (rc || there)
			continue;
		tp_logf(TP_ERROR, "a folder is missing: put it back from a backup; if it was empty, after a clean stop, make it",
			"folder=%s/%s", store->data_dir, names[i]);
		rc = -EBADMSG;
	}
	return rc;
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
		rc = store_manifest_make(store, path);
	return rc ? rc : store_manifest_load(store, path);
}

static int open_all(struct sto_store *store)
{
	struct numbers logs = {.suffix = ".log"}, segments = {.suffix = ".seg"};
	int rc = folders_check(store);
	if (!rc)
		rc = folders_make(store->io, store->data_dir);
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
		rc = rollups_clear(store);
	if (!rc)
		rc = store_manifest_ready(store);
	/* Behind the cut of a torn end: nothing that is on record is taken for never having been. */
	if (!rc)
		rc = store_logs_check(store);
	/* Before anything may be published: ids and names follow on whatever was ever used. */
	const struct manifest_facts *facts = &store->manifest.facts;
	store->next_file_id = facts->file_id_max + 1;
	if (logs.count && logs.number[logs.count - 1] >= store->next_file_id)
		store->next_file_id = logs.number[logs.count - 1] + 1;
	store->next_sequence = facts->segment_max + 1;
	store->next_rollup = facts->rollup_max + 1;
	if (!rc)
		rc = store_logs_clear(store, logs.number, logs.count);
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
	s->compact_records_min = COMPACT_RECORDS_MIN;
	pthread_mutex_init(&s->commit_lock, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->merge_lock, NULL);
	pthread_mutex_init(&s->map_lock, NULL);
	pthread_cond_init(&s->seal_turn, NULL);
	pthread_mutex_init(&s->pool.lock, NULL);
	s->data_dir = strdup(options->data_dir);
	s->view = calloc(1, sizeof(*s->view));
	int rc = -ENOMEM;
	if (s->view) {
		s->view->held = 1;
		rc = s->data_dir ? open_all(s) : -ENOMEM;
	}
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
	log_pool_drop(store);
	pthread_mutex_destroy(&store->pool.lock);
	if (store->view)
		store_view_give(store, store->view);
	segment_recalls_fini(&store->recalls);
	manifest_fini(&store->manifest);
	if (store->manifest_fd >= 0)
		store->io->close(store->io, store->manifest_fd);
	if (store->lock_fd >= 0)
		store->io->close(store->io, store->lock_fd); /* and with it the lock */
	pthread_cond_destroy(&store->seal_turn);
	pthread_mutex_destroy(&store->map_lock);
	pthread_mutex_destroy(&store->lock);
	pthread_mutex_destroy(&store->merge_lock);
	pthread_mutex_destroy(&store->commit_lock);
	free(store->rollup);
	free(store->unsealed);
	free(store->data_dir);
	free(store);
}
