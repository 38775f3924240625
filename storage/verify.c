/*
 * Checking a whole data folder: node file, manifest, each published segment and rollup file with its totals, each log file that
 * is not sealed or ought to be there, and whether a segment file shows that the manifest has lost its end.
 * Reads only. Meant for a stopped node: an open log is in flux, so a folder in use is refused.
 *
 * Threads: any; all state is local. Segments are checked by as many threads as the caller says, each one whole.
 */
#include "log_lost.h"
#include "log_read.h"
#include "rollup_file.h"
#include "store_state.h"
#include "turnpike/reader.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERIFY_THREADS_MAX = 64 };

struct verify {
	const struct sto_io *io;
	const char *data_dir;
	sto_fault_fn fn;
	void *context;
	int faults;
	uint32_t threads;
	struct manifest manifest;
	struct manifest_segment *segment; /* published; sequence 0: retired */
	uint32_t segments, segments_max;
	struct manifest_rollup *rollup;
	uint32_t rollups, rollups_max;
};

static void fault(struct verify *v, const char *path, const char *what)
{
	v->faults++;
	v->fn(v->context, path, what);
}

static int segment_take_record(struct verify *v, const struct manifest_record *record)
{
	for (uint32_t i = v->segments; record->kind != MANIFEST_SEGMENT && i-- > 0;) {
		if (v->segment[i].sequence != record->segment.sequence)
			continue;
		if (record->kind == MANIFEST_REPLACED)
			v->segment[i] = record->segment;
		else
			v->segment[i].sequence = 0;
		return 0;
	}
	if (record->kind != MANIFEST_SEGMENT)
		return -EBADMSG;
	if (v->segments == v->segments_max) {
		uint32_t max = v->segments_max ? 2 * v->segments_max : 64;
		struct manifest_segment *larger = realloc(v->segment, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		v->segment = larger;
		v->segments_max = max;
	}
	v->segment[v->segments++] = record->segment;
	return 0;
}

static int rollup_take_record(struct verify *v, const struct manifest_record *record)
{
	if (record->kind == MANIFEST_ROLLUP_GONE) {
		for (uint32_t i = 0; i < v->rollups; i++) {
			if (v->rollup[i].sequence != record->rollup.sequence)
				continue;
			v->rollup[i] = v->rollup[--v->rollups];
			return 0;
		}
		return -EBADMSG;
	}
	if (v->rollups == v->rollups_max) {
		uint32_t max = v->rollups_max ? 2 * v->rollups_max : 64;
		struct manifest_rollup *larger = realloc(v->rollup, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		v->rollup = larger;
		v->rollups_max = max;
	}
	v->rollup[v->rollups++] = record->rollup;
	return 0;
}

static int record_take(void *context, const struct manifest_record *record)
{
	switch (record->kind) {
	case MANIFEST_SEGMENT:
	case MANIFEST_RETIRED:
	case MANIFEST_REPLACED:
		return segment_take_record(context, record);
	case MANIFEST_ROLLUP:
	case MANIFEST_ROLLUP_GONE:
		return rollup_take_record(context, record);
	case MANIFEST_LOG_EMPTY:
	case MANIFEST_STATE:
	case MANIFEST_SEALED_RANGE:
	case MANIFEST_LOG_OPENED:
	case MANIFEST_LOG_LEFT:
		break;
	}
	return 0;
}

/* node_id NULL: not known. */
static int verify_manifest(struct verify *v, const uint8_t *node_id)
{
	char path[STORE_PATH_BYTES];
	uint64_t bytes = 0;
	int rc = folder_path(path, v->data_dir, "manifest");
	if (rc)
		return rc;
	int fd = v->io->open(v->io, path, O_RDONLY, 0);
	if (fd == -ENOENT) {
		fault(v, path, "missing");
		return 0;
	}
	if (fd < 0)
		return fd;
	rc = v->io->size(v->io, fd, &bytes);
	uint8_t *all = rc ? NULL : malloc(bytes + 1);
	int64_t got = all ? v->io->read(v->io, fd, all, bytes, 0) : rc ? rc : -ENOMEM;
	v->io->close(v->io, fd);
	rc = got < 0 ? (int)got : manifest_feed(&v->manifest, all, (uint64_t)got, record_take, v);
	free(all);
	if (rc == -EBADMSG || (rc >= 0 && !v->manifest.bytes)) {
		char what[96];
		snprintf(what, sizeof(what), "damaged record at offset %" PRIu64, v->manifest.bytes);
		fault(v, path, what);
		return 0;
	}
	if (rc >= 0 && node_id && memcmp(v->manifest.node_id, node_id, sizeof(v->manifest.node_id)) != 0)
		fault(v, path, "belongs to another node");
	return rc < 0 ? rc : 0;
}

/* Whose SHA-256 the manifest knows. */
static int sha256_verify(const struct verify *v, const char *path, const uint8_t told[MANIFEST_HASH_BYTES])
{
	static const uint8_t unknown[MANIFEST_HASH_BYTES];
	uint8_t found[MANIFEST_HASH_BYTES];
	if (!memcmp(told, unknown, sizeof(unknown)))
		return 0;
	int rc = file_sha256(v->io, path, found);
	return rc ? rc : memcmp(found, told, sizeof(found)) ? -EBADMSG : 0;
}

/* 0, or what is wrong with the segment: -EBADMSG, -ENOENT, -EIO; or why it could not be looked at. */
static int segment_check(const struct verify *v, const struct manifest_segment *facts, char path[STORE_PATH_BYTES])
{
	struct segment segment;
	int rc = folder_segment_path(path, v->data_dir, facts->sequence, facts->generation);
	if (!rc)
		rc = segment_open(&segment, v->io, path, facts);
	if (!rc) {
		rc = segment_verify(&segment, facts, SEGMENT_VERIFY_ALL);
		segment_close(&segment);
	}
	return rc ? rc : sha256_verify(v, path, facts->sha256);
}

/* Threads take segments in turn; `v` is only read meanwhile. */
struct checking {
	const struct verify *v;
	_Atomic uint32_t next;
	_Atomic bool stop; /* one could not be looked at */
	int *result;       /* of each segment: its taker's */
};

static bool is_fault(int rc)
{
	return rc == -EBADMSG || rc == -ENOENT || rc == -EIO;
}

static void *segments_check(void *context)
{
	struct checking *checking = context;
	char path[STORE_PATH_BYTES];
	while (!checking->stop) {
		const uint32_t i = atomic_fetch_add(&checking->next, 1);
		if (i >= checking->v->segments)
			break;
		const struct manifest_segment *facts = &checking->v->segment[i];
		const int rc = facts->sequence ? segment_check(checking->v, facts, path) : 0;
		checking->result[i] = rc;
		if (rc && !is_fault(rc))
			checking->stop = true;
	}
	return NULL;
}

/* All segments, then the faults in the order of the segments, however many threads there were. */
static int verify_segments(struct verify *v)
{
	struct checking checking = {.v = v, .result = calloc((uint64_t)v->segments + 1, sizeof(*checking.result))};
	pthread_t thread[VERIFY_THREADS_MAX];
	char path[STORE_PATH_BYTES];
	uint32_t threads = v->threads < v->segments ? v->threads : v->segments, started = 0;
	int rc = 0;
	if (!checking.result)
		return -ENOMEM;
	/* This thread is one of them; without the others it takes longer. */
	while (started + 1 < threads && !pthread_create(&thread[started], NULL, segments_check, &checking))
		started++;
	segments_check(&checking);
	while (started)
		pthread_join(thread[--started], NULL);
	for (uint32_t i = 0; i < v->segments && !rc; i++) {
		const struct manifest_segment *facts = &v->segment[i];
		const int found = checking.result[i];
		if (found && !is_fault(found))
			rc = found;
		else if (found && !(rc = folder_segment_path(path, v->data_dir, facts->sequence, facts->generation)))
			fault(v, path, found == -ENOENT ? "missing" : found == -EIO ? "unreadable" : "damaged");
	}
	free(checking.result);
	return rc;
}

/*
 * A segment file that was never published, as far as the manifest says. Its log file is still there if that is so: else the manifest has
 * lost its end, and a start is refused for it too (store.c).
 */
static int verify_stray(void *context, const char *name)
{
	struct verify *v = context;
	char path[STORE_PATH_BYTES];
	uint32_t generation;
	uint64_t sequence = folder_segment_number(name, &generation), file_id, id[2];
	if (!sequence || sequence <= v->manifest.facts.segment_max)
		return 0;
	int rc = folder_segment_path(path, v->data_dir, sequence, generation);
	if (!rc)
		rc = segment_peek(v->io, path, sequence, &file_id);
	if (!rc)
		rc = folder_log_path(path, v->data_dir, file_id);
	if (!rc)
		rc = v->io->identity(v->io, path, -1, id);
	if (rc != -ENOENT && rc != -EBADMSG)
		return rc;
	char what[128];
	snprintf(what, sizeof(what), "has lost its end: segment %" PRIx64 " is not in it, and the segment's log file is gone",
		 sequence);
	rc = folder_path(path, v->data_dir, "manifest");
	if (!rc)
		fault(v, path, what);
	return rc;
}

static int verify_rollups(struct verify *v)
{
	char path[STORE_PATH_BYTES];
	int rc = 0;
	for (uint32_t i = 0; i < v->rollups && !rc; i++) {
		const struct manifest_rollup *facts = &v->rollup[i];
		struct rollup_file file;
		rc = folder_rollup_path(path, v->data_dir, facts->sequence, false);
		if (!rc)
			rc = rollup_file_open(&file, v->io, path, facts);
		if (!rc) {
			rc = rollup_file_verify(&file, facts);
			rollup_file_close(&file);
		}
		if (!rc)
			rc = sha256_verify(v, path, facts->sha256);
		if (rc == -EBADMSG || rc == -ENOENT || rc == -EIO) {
			fault(v, path, rc == -ENOENT ? "missing" : rc == -EIO ? "unreadable" : "damaged");
			rc = 0;
		}
	}
	return rc;
}

static int verify_log(void *context, const char *name)
{
	struct verify *v = context;
	char path[STORE_PATH_BYTES];
	uint64_t id = folder_name_number(name, ".log");
	if (!id || manifest_sealed(&v->manifest, id))
		return 0;
	struct sto_log_facts facts;
	int rc = folder_log_path(path, v->data_dir, id);
	if (!rc)
		rc = log_scan(v->io, path, id, false, NULL, NULL, &facts, NULL);
	if (rc == -EBADMSG || rc == -EIO) {
		fault(v, path, rc == -EIO ? "unreadable" : "damaged: an acknowledged block is not readable");
		rc = 0;
	}
	return rc;
}

static void verify_lost(void *context, uint64_t file_id, uint32_t shard, const char *found)
{
	struct verify *v = context;
	char path[STORE_PATH_BYTES], what[160];
	snprintf(what, sizeof(what), "%s; shard %u may have had acknowledged events in it", found, shard);
	if (!folder_log_path(path, v->data_dir, file_id))
		fault(v, path, what);
}

/* Each file of a folder that every data folder has. */
static int verify_folder(struct verify *v, const char *name, sto_name_fn fn)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, v->data_dir, name);
	if (!rc)
		rc = v->io->list(v->io, path, fn, v);
	if (rc != -ENOENT)
		return rc;
	fault(v, path, "missing");
	return 0;
}

int folder_lock(const struct sto_io *io, const char *data_dir, int *fd)
{
	char path[STORE_PATH_BYTES];
	*fd = -1;
	int rc = folder_path(path, data_dir, "lock");
	if (rc)
		return rc;
	*fd = io->open(io, path, O_RDONLY, 0);
	return *fd < 0 ? *fd : io->lock(io, *fd);
}

static int verify_all(struct verify *v)
{
	char path[STORE_PATH_BYTES];
	uint8_t node_id[16] = {0};
	uint64_t secret[2], id[2];
	int rc = node_file_load(v->io, v->data_dir, false, node_id, secret);
	bool known = rc == 0;
	if (rc == -EBADMSG || rc == -ENOENT) {
		if (!folder_path(path, v->data_dir, "node"))
			fault(v, path, rc == -ENOENT ? "missing" : "damaged");
		rc = 0;
	}
	if (!rc)
		rc = verify_manifest(v, known ? node_id : NULL);
	bool told = v->faults != 0; /* the manifest's own damage tells more than what follows from it */
	if (!rc)
		rc = verify_segments(v);
	if (!rc)
		rc = verify_rollups(v);
	if (!rc && !v->faults) {
		rc = verify_folder(v, "segments", verify_stray);
		told = v->faults != 0;
	}
	if (!rc)
		rc = verify_folder(v, "log", verify_log);
	if (!rc && !told && !folder_path(path, v->data_dir, "log") && !v->io->identity(v->io, path, -1, id))
		rc = log_lost_each(v->io, v->data_dir, &v->manifest, verify_lost, v);
	return rc < 0 ? rc : 0;
}

int store_verify_threads(const char *data_dir, sto_fault_fn fn, void *context, const struct sto_io *io, uint32_t threads)
{
	struct verify v = {.io = io, .data_dir = data_dir, .fn = fn, .context = context, .threads = threads};
	int lock_fd = -1;
	int rc = folder_lock(io, data_dir, &lock_fd);
	if (!rc)
		rc = verify_all(&v);
	if (lock_fd >= 0)
		io->close(io, lock_fd);
	manifest_fini(&v.manifest);
	free(v.segment);
	free(v.rollup);
	return rc ? rc : v.faults;
}

int store_verify(const char *data_dir, sto_fault_fn fn, void *context, const struct sto_io *io)
{
	return store_verify_threads(data_dir, fn, context, io, 1);
}

int sto_verify(const char *data_dir, sto_fault_fn fn, void *context)
{
	cpu_set_t cpus;
	/* As many as this process may use. */
	int count = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
	return store_verify_threads(data_dir, fn, context, sto_io_system(),
				    count < VERIFY_THREADS_MAX ? (uint32_t)count : VERIFY_THREADS_MAX);
}
