/*
 * Which log files are missing, and giving one up. See log_lost.h.
 *
 * A file's end is put on record before the file goes, and its beginning after it is stable. So whatever moment is looked at, also of a
 * running node: a file that is missing although the manifest, read again afterwards, still calls it open, was taken away by somebody.
 *
 * Threads: any; all state is local.
 */
#include "log_lost.h"

#include "log_read.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LOAD_TRIES = 3 };

/* What is wrong with it, or NULL. *rc: -errno when that cannot be told. */
static const char *look(const struct sto_io *io, const char *data_dir, const struct manifest_log *log, int *rc)
{
	char path[STORE_PATH_BYTES];
	struct manifest_log birth;
	*rc = folder_log_path(path, data_dir, log->file_id);
	int found = *rc ? *rc : log_birth(io, path, log->file_id, &birth);
	if (found == -ENOENT)
		return "missing";
	if (found == 0)
		return "its first block is not there: emptied, overwritten, or damaged";
	if (found < 0) {
		*rc = found;
		return NULL;
	}
	return birth.salt == log->salt ? NULL : "another file than the one that was made under this name";
}

int log_lost_each(const struct sto_io *io, const char *data_dir, const struct manifest *manifest, sto_log_lost_fn fn, void *context)
{
	int lost = 0;
	for (uint32_t i = 0; i < manifest->opens; i++) {
		int rc;
		const char *found = look(io, data_dir, &manifest->open[i], &rc);
		if (rc)
			return rc;
		if (found && fn)
			fn(context, manifest->open[i].file_id, manifest->open[i].shard, found);
		lost += found != NULL;
	}
	return lost;
}

/* The whole manifest. 1: with a torn end; 0, -errno. A writer may be at it: what looks like damage is read again. */
static int load(const struct sto_io *io, const char *data_dir, struct manifest *manifest)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, data_dir, "manifest");
	for (int tries = 0; !rc && tries < LOAD_TRIES; tries++) {
		uint64_t bytes = 0;
		*manifest = (struct manifest){0};
		int fd = io->open(io, path, O_RDONLY, 0);
		if (fd < 0)
			return fd;
		rc = io->size(io, fd, &bytes);
		uint8_t *all = rc ? NULL : malloc(bytes + 1);
		int64_t got = all ? io->read(io, fd, all, bytes, 0) : rc ? rc : -ENOMEM;
		io->close(io, fd);
		rc = got < 0 ? (int)got : manifest_feed(manifest, all, (uint64_t)got, NULL, NULL);
		free(all);
		if (rc >= 0 && !manifest->bytes)
			rc = -EBADMSG;
		if (rc >= 0)
			return rc;
		manifest_fini(manifest);
		if (rc == -EBADMSG && tries + 1 < LOAD_TRIES)
			rc = 0;
	}
	return rc;
}

struct again {
	const struct manifest *manifest;
	sto_log_lost_fn fn;
	void *context;
	int lost;
};

static void still(void *context, uint64_t file_id, uint32_t shard, const char *found)
{
	struct again *again = context;
	if (!manifest_opened(again->manifest, file_id))
		return;
	again->lost++;
	if (again->fn)
		again->fn(again->context, file_id, shard, found);
}

int logs_lost(const struct sto_io *io, const char *data_dir, sto_log_lost_fn fn, void *context)
{
	struct manifest before, after;
	int rc = load(io, data_dir, &before);
	if (rc < 0)
		return rc;
	rc = log_lost_each(io, data_dir, &before, NULL, NULL);
	if (rc > 0) {
		rc = load(io, data_dir, &after);
		struct again again = {.manifest = &after, .fn = fn, .context = context};
		if (rc >= 0)
			rc = log_lost_each(io, data_dir, &before, still, &again);
		if (rc >= 0)
			rc = again.lost;
		manifest_fini(&after);
	}
	manifest_fini(&before);
	return rc;
}

int sto_logs_lost(const char *data_dir, sto_log_lost_fn fn, void *context)
{
	return logs_lost(sto_io_system(), data_dir, fn, context);
}

/* Under the folder's lock. */
static int give_up(const struct sto_io *io, const char *data_dir, uint64_t file_id)
{
	char path[STORE_PATH_BYTES], log[STORE_PATH_BYTES];
	uint8_t unit[MANIFEST_UNIT];
	uint64_t id[2];
	struct manifest manifest;
	int torn = load(io, data_dir, &manifest);
	if (torn < 0)
		return torn;
	int rc = !manifest_opened(&manifest, file_id) ? -EINVAL : torn ? -EAGAIN : folder_path(path, data_dir, "manifest");
	if (!rc)
		rc = folder_log_path(log, data_dir, file_id);
	if (!rc) {
		int there = io->identity(io, log, -1, id);
		rc = there == -ENOENT ? 0 : there ? there : -EEXIST;
	}
	if (!rc) {
		const struct manifest_record record = {.kind = MANIFEST_LOG_LEFT, .file_id = file_id, .left = MANIFEST_GIVEN_UP};
		manifest_write(unit, &manifest, &record, 1);
		int fd = io->open(io, path, O_RDWR, 0);
		rc = fd < 0 ? fd : io->write(io, fd, unit, sizeof(unit), manifest.bytes);
		if (!rc)
			rc = io->sync(io, fd);
		if (fd >= 0)
			io->close(io, fd);
	}
	manifest_fini(&manifest);
	return rc;
}

int log_give_up(const struct sto_io *io, const char *data_dir, uint64_t file_id)
{
	int fd, rc = folder_lock(io, data_dir, &fd);
	if (!rc)
		rc = give_up(io, data_dir, file_id);
	if (fd >= 0)
		io->close(io, fd);
	return rc;
}

int sto_log_give_up(const char *data_dir, uint64_t file_id)
{
	return log_give_up(sto_io_system(), data_dir, file_id);
}
