/*
 * Restoring a data folder from a backup: into "<data_dir>.restoring" first, every file read back and compared, the whole checked as a
 * stopped node's folder is, then renamed. Until the rename there is no data folder, so nothing that starts meanwhile can take half of
 * one for the whole.
 *
 * Threads: any; all state is local. On the real file system only.
 */
#include "backup.h"
#include "turnpike/log.h"
#include "turnpike/reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const folders[] = {"", "segments", "rollups", "log"};
enum { FOLDERS = sizeof(folders) / sizeof(folders[0]) };

static int name_any(void *context, const char *name)
{
	(void)context;
	(void)name;
	return 1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static void fault(void *context, const char *path, const char *what)
{
	(void)context;
	tp_logf(TP_ERROR, "the restored folder is not whole", "file=%s found=\"%s\"", path, what);
}

static int files_restore(const struct sto_io *io, const char *dir, const char *to_dir, const struct backup_list *list)
{
	char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES];
	int rc = 0;
	for (uint32_t i = 0; i < list->files && !rc; i++) {
		const struct backup_file *file = &list->file[i];
		uint8_t sha256[MANIFEST_HASH_BYTES];
		uint64_t bytes;
		rc = backup_file_path(from, dir, file->sha256);
		if (!rc)
			rc = folder_path(to, to_dir, file->path);
		if (!rc)
			rc = backup_file_copy(io, from, to, strcmp(file->path, "node") ? 0640 : 0600, file->sha256, sha256, &bytes);
		if (rc == -ENOENT || rc == -EBADMSG) {
			tp_logf(TP_ERROR, rc == -ENOENT ? "a file of the backup is missing" : "a file of the backup is damaged",
				"file=%s for=%s", from, file->path);
			rc = -EBADMSG;
		}
	}
	return rc;
}

/* The empty lock file that a data folder has, so that the check may lock it. */
static int lock_make(const struct sto_io *io, const char *to_dir)
{
	char path[STORE_PATH_BYTES];
	int rc = folder_path(path, to_dir, "lock");
	if (rc)
		return rc;
	int fd = io->open(io, path, O_RDWR | O_CREAT, 0640);
	if (fd < 0)
		return fd;
	io->close(io, fd);
	return 0;
}

static int restore_into(const struct sto_io *io, const char *dir, const char *to_dir, const struct backup_list *list)
{
	char path[STORE_PATH_BYTES];
	int rc = 0;
	for (int i = 0; i < FOLDERS && rc >= 0; i++) {
		rc = folder_path(path, to_dir, folders[i]);
		if (!rc)
			rc = io->mkdir(io, path, 0750);
	}
	if (rc >= 0)
		rc = files_restore(io, dir, to_dir, list);
	if (!rc)
		rc = lock_make(io, to_dir);
	for (int i = 0; i < FOLDERS && !rc; i++) {
		rc = folder_path(path, to_dir, folders[i]);
		if (!rc)
			rc = io->sync_folder(io, path);
	}
	if (!rc)
		rc = sto_verify(to_dir, fault, NULL);
	return rc > 0 ? -EBADMSG : rc;
}

static void result_fill(struct sto_backup_result *result, const struct backup_list *list)
{
	*result = (struct sto_backup_result){.files = list->files, .new_files = list->files};
	for (uint32_t i = 0; i < list->files; i++) {
		result->bytes += list->file[i].bytes;
		result->segments += !strncmp(list->file[i].path, "segments/", 9);
		result->rollups += !strncmp(list->file[i].path, "rollups/", 8);
		result->logs += !strncmp(list->file[i].path, "log/", 4);
	}
	result->new_bytes = result->bytes;
}

int sto_restore(const char *dir, const char *data_dir, struct sto_backup_result *result)
{
	const struct sto_io *io = sto_io_system();
	char target[STORE_PATH_BYTES], work[STORE_PATH_BYTES], parent[STORE_PATH_BYTES];
	struct backup_list list;
	*result = (struct sto_backup_result){0};
	size_t length = strlen(data_dir);
	while (length > 1 && data_dir[length - 1] == '/')
		length--;
	if (!length || length + sizeof(".restoring") > sizeof(work))
		return length ? -ENAMETOOLONG : -EINVAL;
	snprintf(target, sizeof(target), "%.*s", (int)length, data_dir);
	snprintf(work, sizeof(work), "%.*s.restoring", (int)length, data_dir);
	int rc = backup_places_apart(dir, target);
	if (rc)
		return rc;
	rc = io->list(io, target, name_any, NULL);
	if (rc && rc != -ENOENT)
		return rc > 0 ? -ENOTEMPTY : rc;
	rc = backup_list_read(io, dir, &list);
	if (rc)
		return rc;
	/* What an earlier attempt left is ours by its name. */
	nftw(work, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	rc = restore_into(io, dir, work, &list);
	if (!rc)
		rc = io->rename(io, work, target); /* also onto an empty folder */
	if (rc) {
		nftw(work, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	} else {
		strcpy(parent, target);
		char *last = strrchr(parent, '/');
		if (last && last != parent)
			*last = 0;
		else
			strcpy(parent, last ? "/" : ".");
		rc = io->sync_folder(io, parent);
		if (rc == -EACCES)
			rc = 0; /* not ours to sync */
		result_fill(result, &list);
	}
	backup_list_fini(&list);
	return rc;
}
