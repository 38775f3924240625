/*
 * Backup and restore of a data folder.
 *
 *   DIR/backup              text: which node, when, and for each file of the folder its path, bytes and SHA-256
 *   DIR/files/<sha256>      the files' bytes, each under its own hash
 *
 * A backup is a snapshot of the manifest and of the files that it names. It is incremental by itself: files are immutable and lie
 * under their hash, so what is there already, and still is what its name says, is not copied again. DIR/backup is replaced last, by
 * rename, so an interrupted backup leaves the one before; files that nothing names any more are removed after that.
 *
 * The folder of a running node is read without disturbing it: what it has sealed is backed up. Of a stopped node the log files that
 * are not sealed yet come along, so nothing acknowledged is missing.
 *
 * Threads: any; all state is local. Details of errors go to the log.
 */
#ifndef TURNPIKE_BACKUP_H
#define TURNPIKE_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

struct sto_backup_result {
	uint64_t files, bytes;         /* in the backup */
	uint64_t new_files, new_bytes; /* copied now */
	uint64_t removed_files;        /* of an older backup, not needed any more */
	uint64_t segments, rollups, logs;
	bool running; /* a data process has the folder: without what it has not sealed */
};

/*
 * -ENOENT: no data folder; -EXDEV: DIR has the backup of another node; -EBADMSG: a file of the folder is damaged (its bytes are not
 * those that were published), or the backup's list is; -EINVAL: one folder lies in the other; other -errno.
 */
int sto_backup(const char *data_dir, const char *dir, struct sto_backup_result *result);

/*
 * Makes `data_dir`, which must not exist or be empty (-ENOTEMPTY), from the backup. Everything is copied to "<data_dir>.restoring", read
 * back and compared with its hash, checked as by sto_verify(), and only then gets its name. -EBADMSG: the backup is damaged, nothing
 * was made; -ENOENT: no backup there; -EINVAL: one folder lies in the other; other -errno.
 */
int sto_restore(const char *dir, const char *data_dir, struct sto_backup_result *result);

#endif
