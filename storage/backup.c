/*
 * Backing up a data folder; the shape of a backup is in turnpike/backup.h, its list in backup_list.c.
 *
 *   what is there is checked ─► snapshots:
 *
 *   manifest snapshot ─► each file that it names: there already? else copy, sync, read back, compare ─► list (rename) ─► clear away
 *        ▲                              │
 *        └────── a file was let go ◄────┘   the snapshot is taken again; what was copied stays useful
 *
 * The manifest goes into the backup as it was read, up to the last whole transaction, so its words and the files belong together. Of a
 * running node it gets records behind it which say that the open log files are not in this copy.
 *
 * Threads: any; all state is local.
 */
#include "backup.h"
#include "log_lost.h"
#include "reader_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SNAPSHOT_TRIES = 32 };

struct backup {
	const struct sto_io *io;
	const char *data_dir, *dir;
	struct sto_reader *reader;
	struct backup_list list;
	struct sto_backup_result *result;
};

/* Is it the name of a file of DIR/files, and which hash does it say? */
static bool name_hash(const char *name, uint8_t sha256[MANIFEST_HASH_BYTES])
{
	size_t digits = 0;
	for (; name[digits] && digits < 2 * MANIFEST_HASH_BYTES; digits++) {
		char at = name[digits];
		uint8_t digit = at >= '0' && at <= '9'   ? (uint8_t)(at - '0')
				: at >= 'a' && at <= 'f' ? (uint8_t)(at - 'a' + 10)
							 : UINT8_MAX;
		if (digit == UINT8_MAX)
			return false;
		sha256[digits / 2] = digits % 2 ? (uint8_t)(sha256[digits / 2] | digit) : (uint8_t)(digit << 4);
	}
	return digits == 2 * MANIFEST_HASH_BYTES && !name[digits];
}

static int copy_path(const struct backup *b, char path[STORE_PATH_BYTES], const char *name)
{
	char below[FOLDER_NAME_BYTES + 80];
	snprintf(below, sizeof(below), "files/%.*s", FOLDER_NAME_BYTES + 64, name);
	return folder_path(path, b->dir, below);
}

/*
 * What an earlier backup copied is read back too: a disk that holds backups gets old. A copy that is not what its name says goes, and is
 * copied anew if it is still needed. Once, before the first snapshot: it may take long, and a snapshot must not.
 */
static int copy_check(void *context, const char *name)
{
	struct backup *b = context;
	char path[STORE_PATH_BYTES];
	uint8_t told[MANIFEST_HASH_BYTES], found[MANIFEST_HASH_BYTES];
	if (!name_hash(name, told))
		return 0;
	int rc = copy_path(b, path, name);
	if (!rc)
		rc = file_sha256(b->io, path, found);
	if (rc ? rc != -EIO : !memcmp(told, found, sizeof(found)))
		return rc;
	tp_logf(TP_WARN, "a copy in the backup is damaged: it is made anew if it is still needed", "file=%s", path);
	return b->io->unlink(b->io, path);
}

static int copies_check(struct backup *b)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, b->dir, "files");
	return rc ? rc : b->io->list(b->io, path, copy_check, b);
}

/* Makes sure that the bytes of `path` are in the backup. `expected` NULL: its hash is not known before. */
static int file_keep(struct backup *b, const char *path, const uint8_t *expected, uint64_t bytes)
{
	const struct sto_io *io = b->io;
	char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES];
	uint8_t sha256[MANIFEST_HASH_BYTES];
	int rc = folder_path(from, b->data_dir, path);
	if (!rc)
		rc = folder_path(temporary, b->dir, "files/copy.tmp");
	if (rc)
		return rc;
	if (expected) {
		uint64_t there = 0;
		rc = backup_file_path(to, b->dir, expected);
		int fd = rc ? rc : io->open(io, to, O_RDONLY, 0);
		if (fd >= 0) {
			rc = io->size(io, fd, &there);
			io->close(io, fd);
			if (!rc && there == bytes)
				return backup_list_add(&b->list, path, bytes, expected);
		}
	}
	rc = backup_file_copy(io, from, temporary, 0600, expected, sha256, &bytes);
	if (rc == -EBADMSG)
		tp_logf(TP_ERROR, "a file is not what was published, not backing it up", "file=%s", from);
	if (!rc)
		rc = backup_file_path(to, b->dir, sha256);
	if (!rc)
		rc = io->rename(io, temporary, to);
	if (rc)
		return rc;
	b->result->new_files++;
	b->result->new_bytes += bytes;
	return backup_list_add(&b->list, path, bytes, sha256);
}

/*
 * Behind the manifest's own records: the log files that were open, and that go on in the running node, are not waited for in the copy.
 * What they held when the backup was asked for was sealed before. *bytes: of `all`, which may move.
 */
static int manifest_leave_logs(uint8_t **all, uint64_t *bytes)
{
	struct manifest manifest = {0};
	int rc = manifest_feed(&manifest, *all, *bytes, NULL, NULL);
	uint64_t room = *bytes + (uint64_t)manifest.opens * MANIFEST_UNIT;
	uint8_t *larger = rc ? NULL : realloc(*all, room + 1);
	if (!rc && !larger)
		rc = -ENOMEM;
	if (!rc)
		*all = larger;
	while (!rc && manifest.opens) {
		const struct manifest_record record = {
			.kind = MANIFEST_LOG_LEFT, .file_id = manifest.open[0].file_id, .left = MANIFEST_NOT_IN_COPY};
		manifest_write(*all + *bytes, &manifest, &record, 1);
		rc = manifest_feed(&manifest, *all + *bytes, MANIFEST_UNIT, NULL, NULL);
		*bytes += MANIFEST_UNIT;
	}
	manifest_fini(&manifest);
	return rc;
}

/* The manifest up to where the reader has come: whole transactions, all of them checked. */
static int manifest_keep(struct backup *b)
{
	const struct sto_io *io = b->io;
	char temporary[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
	uint8_t sha256[MANIFEST_HASH_BYTES];
	uint64_t bytes = b->reader->manifest.bytes;
	uint8_t *all = malloc(bytes + 1);
	int64_t got = all ? io->read(io, b->reader->manifest_fd, all, bytes, 0) : -ENOMEM;
	int rc = got < 0 ? (int)got : (uint64_t)got != bytes ? -EIO : folder_path(temporary, b->dir, "files/copy.tmp");
	if (!rc && b->result->running)
		rc = manifest_leave_logs(&all, &bytes);
	int fd = rc ? rc : io->open(io, temporary, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd >= 0) {
		rc = io->write(io, fd, all, bytes, 0);
		if (!rc)
			rc = io->sync(io, fd);
		io->close(io, fd);
	} else {
		rc = fd;
	}
	free(all);
	if (!rc)
		rc = file_sha256(io, temporary, sha256);
	if (!rc)
		rc = backup_file_path(to, b->dir, sha256);
	if (!rc)
		rc = io->rename(io, temporary, to);
	b->result->new_files++;
	b->result->new_bytes += bytes;
	return rc ? rc : backup_list_add(&b->list, "manifest", bytes, sha256);
}

static int log_keep(void *context, const char *name)
{
	struct backup *b = context;
	char path[FOLDER_NAME_BYTES];
	uint64_t id = folder_name_number(name, ".log");
	if (!id || sto_reader_sealed(b->reader, id))
		return 0;
	snprintf(path, sizeof(path), "log/%016" PRIx64 ".log", id);
	b->result->logs++;
	return file_keep(b, path, NULL, 0);
}

static void log_lost_tell(void *context, uint64_t file_id, uint32_t shard, const char *found)
{
	const struct backup *b = context;
	tp_logf(TP_ERROR, "a log file is not there as it was made, not backing up half of a folder",
		"file=%s/log/%016" PRIx64 ".log shard=%u found=\"%s\"", b->data_dir, file_id, shard, found);
}

/* A stopped node's logs come along, all of them. */
static int logs_keep(struct backup *b)
{
	char path[STORE_PATH_BYTES];
	int rc = log_lost_each(b->io, b->data_dir, &b->reader->manifest, log_lost_tell, b);
	if (!rc)
		rc = folder_path(path, b->data_dir, "log");
	return rc > 0 ? -EBADMSG : rc ? rc : b->io->list(b->io, path, log_keep, b);
}

/* All files of one snapshot. -ENOENT: one was let go meanwhile. */
static int snapshot_keep(struct backup *b)
{
	char path[STORE_PATH_BYTES];
	struct sto_reader *reader = b->reader;
	b->list.files = 0;
	b->result->logs = 0;
	int rc = file_keep(b, "node", NULL, 0);
	for (uint32_t i = 0; i < reader->segments && !rc; i++) {
		const struct sto_segment_info *info = &reader->segment[i].info;
		sto_reader_segment_name(reader, i, path);
		rc = file_keep(b, path, info->hashed ? info->sha256 : NULL, info->bytes);
	}
	for (uint32_t i = 0; i < reader->rollups && !rc; i++) {
		sto_reader_rollup_name(reader, i, path);
		rc = file_keep(b, path, reader->rollup[i].facts.sha256, reader->rollup[i].facts.bytes);
	}
	if (rc)
		return rc;
	b->result->segments = reader->segments;
	b->result->rollups = reader->rollups;
	rc = file_keep(b, "blocklist", NULL, 0);
	if (rc == -ENOENT)
		rc = 0;
	if (!rc && !b->result->running)
		rc = logs_keep(b);
	return rc ? rc : manifest_keep(b);
}

/* ---- clearing away ---- */

struct clearing {
	struct backup *backup;
	int rc;
};

static int hash_compare(const void *left, const void *right)
{
	const struct backup_file *a = left, *b = right;
	return memcmp(a->sha256, b->sha256, MANIFEST_HASH_BYTES);
}

static int file_clear(void *context, const char *name)
{
	struct backup *b = context;
	char path[STORE_PATH_BYTES];
	struct backup_file key;
	bool ours = name_hash(name, key.sha256);
	if (!ours && strcmp(name, "copy.tmp") != 0)
		return 0; /* not of our making */
	if (ours && bsearch(&key, b->list.file, b->list.files, sizeof(key), hash_compare))
		return 0;
	int rc = copy_path(b, path, name);
	if (!rc)
		rc = b->io->unlink(b->io, path);
	b->result->removed_files += !rc;
	return rc;
}

static int clear_away(struct backup *b)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, b->dir, "files");
	qsort(b->list.file, b->list.files, sizeof(b->list.file[0]), hash_compare);
	return rc ? rc : b->io->list(b->io, path, file_clear, b);
}

/* ---- all of it ---- */

static int folders_make(struct backup *b)
{
	char path[STORE_PATH_BYTES];
	int rc = b->io->mkdir(b->io, b->dir, 0700);
	if (rc >= 0)
		rc = folder_path(path, b->dir, "files");
	if (rc >= 0)
		rc = b->io->mkdir(b->io, path, 0700);
	return rc < 0 ? rc : 0;
}

/* -EXDEV: there is a backup of another node in DIR. */
static int owner_check(struct backup *b)
{
	struct backup_list before;
	int rc = backup_list_read(b->io, b->dir, &before);
	if (rc == -ENOENT)
		return 0;
	if (!rc && memcmp(before.node_id, b->list.node_id, sizeof(before.node_id)) != 0)
		rc = -EXDEV;
	backup_list_fini(&before);
	return rc;
}

static int backup_all(struct backup *b)
{
	char path[STORE_PATH_BYTES];
	uint64_t secret[2];
	int rc = node_file_load(b->io, b->data_dir, false, b->list.node_id, secret);
	if (!rc)
		rc = folders_make(b);
	if (!rc)
		rc = owner_check(b);
	if (!rc)
		rc = copies_check(b);
	if (!rc)
		rc = reader_open(&b->reader, b->data_dir, b->io);
	for (int tries = 0; !rc && tries < SNAPSHOT_TRIES; tries++) {
		rc = sto_reader_refresh(b->reader);
		if (rc < 0)
			break;
		if (b->reader->manifest_fd < 0)
			return -ENOENT;
		rc = snapshot_keep(b);
		if (rc != -ENOENT)
			break;
		rc = tries + 1 < SNAPSHOT_TRIES ? 0 : -ENOENT;
	}
	if (!rc)
		rc = folder_path(path, b->dir, "files");
	if (!rc)
		rc = b->io->sync_folder(b->io, path);
	b->list.made_ms = b->io->now_ms(b->io);
	if (!rc)
		rc = backup_list_write(b->io, b->dir, &b->list);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < b->list.files; i++)
		b->result->bytes += b->list.file[i].bytes;
	b->result->files = b->list.files;
	return clear_away(b);
}

int store_backup(const char *data_dir, const char *dir, struct sto_backup_result *result, const struct sto_io *io)
{
	struct backup b = {.io = io, .data_dir = data_dir, .dir = dir, .result = result};
	char path[STORE_PATH_BYTES];
	*result = (struct sto_backup_result){0};
	int rc = folder_path(path, data_dir, "lock");
	if (rc)
		return rc;
	/* Held while we are at it: a node that starts now would take the logs from under us. */
	int lock_fd = io->open(io, path, O_RDONLY, 0);
	rc = lock_fd < 0 ? lock_fd : io->lock(io, lock_fd);
	result->running = rc == -EBUSY;
	if (!rc || rc == -EBUSY)
		rc = backup_all(&b);
	if (lock_fd >= 0)
		io->close(io, lock_fd);
	sto_reader_close(b.reader);
	backup_list_fini(&b.list);
	return rc;
}

int sto_backup(const char *data_dir, const char *dir, struct sto_backup_result *result)
{
	*result = (struct sto_backup_result){0};
	int rc = backup_places_apart(data_dir, dir);
	return rc ? rc : store_backup(data_dir, dir, result, sto_io_system());
}
