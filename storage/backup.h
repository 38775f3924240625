/* What backing up and restoring share: the list of a backup, and copying a file so that its hash is proven. */
#ifndef STORAGE_BACKUP_H
#define STORAGE_BACKUP_H

#include "store_state.h"
#include "turnpike/backup.h"

struct backup_file {
	char path[FOLDER_NAME_BYTES]; /* below data_dir */
	uint64_t bytes;
	uint8_t sha256[MANIFEST_HASH_BYTES];
};

struct backup_list {
	uint8_t node_id[16];
	uint64_t made_ms;
	struct backup_file *file;
	uint32_t files, files_max;
};

void backup_list_fini(struct backup_list *list);
/* -EINVAL: a path that no data folder has. */
int backup_list_add(struct backup_list *list, const char *path, uint64_t bytes, const uint8_t sha256[MANIFEST_HASH_BYTES]);
/* Reads DIR/backup. -ENOENT, -EBADMSG (logged). */
int backup_list_read(const struct sto_io *io, const char *dir, struct backup_list *list);
/* Writes it by temporary name, sync and rename. */
int backup_list_write(const struct sto_io *io, const char *dir, const struct backup_list *list);

/* Both may be yet to be made. -EINVAL: one is the other, or lies in it; links are followed. Other -errno. */
int backup_places_apart(const char *one, const char *other);

/* DIR/files/<sha256 in hex>. 0 or -ENAMETOOLONG. */
int backup_file_path(char *to, const char *dir, const uint8_t sha256[MANIFEST_HASH_BYTES]);

/*
 * Copies a file, syncs the copy, and reads it back: *sha256 and *bytes are those of what is on the disk. With expected (may be
 * NULL): -EBADMSG if that is not it; then the copy is removed.
 */
int backup_file_copy(const struct sto_io *io, const char *from, const char *to, uint32_t mode,
		     const uint8_t expected[MANIFEST_HASH_BYTES], uint8_t sha256[MANIFEST_HASH_BYTES], uint64_t *bytes);

#endif
