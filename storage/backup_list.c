/*
 * The list of a backup, DIR/backup: text, so that a person can read it, and `grep ^file | …` can check it by hand:
 *
 *     turnpike backup 1
 *     node 32 hex digits
 *     made_ms 1700000000000
 *     file <sha256, 64 hex digits> <bytes> <path below the data folder>
 *     …
 *     check 16 hex digits                     XXH3-64 of everything before this line
 *
 * Threads: any; all state is the caller's.
 */
#include "backup.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COPY_BYTES = 1 << 20, LIST_BYTES_MAX = 1 << 30 };

void backup_list_fini(struct backup_list *list)
{
	free(list->file);
	*list = (struct backup_list){0};
}

/* What is in a data folder, and nothing that leads out of it. */
static bool path_sane(const char *path)
{
	static const char *const own[] = {"node", "manifest", "blocklist"};
	uint32_t generation;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (!strcmp(path, own[i]))
			return true;
	return (!strncmp(path, "segments/", 9) && folder_segment_number(path + 9, &generation)) ||
	       (!strncmp(path, "rollups/", 8) && folder_name_number(path + 8, ".rol")) ||
	       (!strncmp(path, "log/", 4) && folder_name_number(path + 4, ".log"));
}

int backup_list_add(struct backup_list *list, const char *path, uint64_t bytes, const uint8_t sha256[MANIFEST_HASH_BYTES])
{
	if (strlen(path) >= FOLDER_NAME_BYTES || !path_sane(path))
		return -EINVAL;
	if (list->files == list->files_max) {
		uint32_t max = list->files_max ? 2 * list->files_max : 64;
		struct backup_file *larger = realloc(list->file, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		list->file = larger;
		list->files_max = max;
	}
	struct backup_file *file = &list->file[list->files++];
	strcpy(file->path, path);
	file->bytes = bytes;
	memcpy(file->sha256, sha256, MANIFEST_HASH_BYTES);
	return 0;
}

static void hex_put(char *to, const uint8_t *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sprintf(to + 2 * i, "%02x", from[i]);
}

static bool hex_take(const char *from, uint8_t *to, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		unsigned byte;
		char two[3] = {from[2 * i], two[0] ? from[2 * i + 1] : 0, 0};
		if (strspn(two, "0123456789abcdef") != 2 || sscanf(two, "%x", &byte) != 1)
			return false;
		to[i] = (uint8_t)byte;
	}
	return true;
}

int backup_file_path(char *to, const char *dir, const uint8_t sha256[MANIFEST_HASH_BYTES])
{
	char name[sizeof("files/") + 2 * MANIFEST_HASH_BYTES] = "files/";
	hex_put(name + 6, sha256, MANIFEST_HASH_BYTES);
	return folder_path(to, dir, name);
}

/* ---- reading ---- */

static int line_take(struct backup_list *list, char *line)
{
	uint8_t sha256[MANIFEST_HASH_BYTES];
	char *end;
	if (!strncmp(line, "node ", 5))
		return strlen(line) == 5 + 32 && hex_take(line + 5, list->node_id, sizeof(list->node_id)) ? 0 : -EBADMSG;
	if (!strncmp(line, "made_ms ", 8)) {
		list->made_ms = strtoull(line + 8, &end, 10);
		return *end ? -EBADMSG : 0;
	}
	if (strncmp(line, "file ", 5) || strlen(line) < 5 + 64 + 4 || !hex_take(line + 5, sha256, sizeof(sha256)) ||
	    line[69] != ' ')
		return -EBADMSG;
	uint64_t bytes = strtoull(line + 70, &end, 10);
	if (end == line + 70 || *end != ' ')
		return -EBADMSG;
	int rc = backup_list_add(list, end + 1, bytes, sha256);
	return rc == -EINVAL ? -EBADMSG : rc;
}

static int text_take(struct backup_list *list, char *text)
{
	static const char head[] = "turnpike backup 1\n";
	char *check = strstr(text, "\ncheck ");
	if (strncmp(text, head, sizeof(head) - 1) != 0 || !check)
		return -EBADMSG;
	check++;
	char wanted[32];
	snprintf(wanted, sizeof(wanted), "check %016" PRIx64 "\n", (uint64_t)XXH3_64bits(text, (size_t)(check - text)));
	if (strcmp(check, wanted) != 0)
		return -EBADMSG;
	*check = 0;
	int rc = 0;
	for (char *line = text + sizeof(head) - 1; *line && !rc;) {
		char *end = strchr(line, '\n');
		*end = 0; /* there is one before `check` */
		rc = line_take(list, line);
		line = end + 1;
	}
	return rc;
}

int backup_list_read(const struct sto_io *io, const char *dir, struct backup_list *list)
{
	char path[STORE_PATH_BYTES];
	uint64_t bytes = 0;
	*list = (struct backup_list){0};
	int rc = folder_path(path, dir, "backup");
	if (rc)
		return rc;
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	rc = io->size(io, fd, &bytes);
	char *text = rc || bytes > LIST_BYTES_MAX ? NULL : malloc(bytes + 1);
	int64_t got = text ? io->read(io, fd, text, bytes, 0) : rc ? rc : -ENOMEM;
	io->close(io, fd);
	if (got >= 0) {
		text[got] = 0;
		rc = strlen(text) == (size_t)got ? text_take(list, text) : -EBADMSG;
	} else {
		rc = (int)got;
	}
	free(text);
	if (rc == -EBADMSG)
		tp_logf(TP_ERROR, "the list of the backup is damaged", "file=%s", path);
	if (rc)
		backup_list_fini(list);
	return rc;
}

/* ---- writing ---- */

static int file_put(const struct sto_io *io, const char *path, const void *bytes, uint64_t count)
{
	int fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	int rc = io->write(io, fd, bytes, count, 0);
	if (!rc)
		rc = io->sync(io, fd);
	io->close(io, fd);
	return rc;
}

int backup_list_write(const struct sto_io *io, const char *dir, const struct backup_list *list)
{
	char path[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES], hex[2 * MANIFEST_HASH_BYTES + 1];
	char *text = NULL;
	size_t bytes = 0;
	int rc = folder_path(path, dir, "backup");
	if (!rc)
		rc = folder_path(temporary, dir, "backup.tmp");
	FILE *stream = rc ? NULL : open_memstream(&text, &bytes);
	if (!stream)
		return rc ? rc : -ENOMEM;
	hex_put(hex, list->node_id, sizeof(list->node_id));
	fprintf(stream, "turnpike backup 1\nnode %s\nmade_ms %" PRIu64 "\n", hex, list->made_ms);
	for (uint32_t i = 0; i < list->files; i++) {
		hex_put(hex, list->file[i].sha256, MANIFEST_HASH_BYTES);
		fprintf(stream, "file %s %" PRIu64 " %s\n", hex, list->file[i].bytes, list->file[i].path);
	}
	fflush(stream);
	uint64_t check = XXH3_64bits(text, bytes);
	fprintf(stream, "check %016" PRIx64 "\n", check);
	rc = fclose(stream) ? -ENOMEM : file_put(io, temporary, text, bytes);
	free(text);
	if (!rc)
		rc = io->rename(io, temporary, path);
	return rc ? rc : io->sync_folder(io, dir);
}

/* ---- copying ---- */

static int bytes_copy(const struct sto_io *io, int from, int to)
{
	uint8_t *piece = malloc(COPY_BYTES);
	int rc = piece ? 0 : -ENOMEM;
	for (uint64_t at = 0; !rc;) {
		int64_t got = io->read(io, from, piece, COPY_BYTES, at);
		if (got <= 0) {
			rc = (int)got;
			break;
		}
		rc = io->write(io, to, piece, (uint64_t)got, at);
		at += (uint64_t)got;
	}
	free(piece);
	return rc ? rc : io->sync(io, to);
}

int backup_file_copy(const struct sto_io *io, const char *from, const char *to, uint32_t mode,
		     const uint8_t expected[MANIFEST_HASH_BYTES], uint8_t sha256[MANIFEST_HASH_BYTES], uint64_t *bytes)
{
	int from_fd = io->open(io, from, O_RDONLY, 0);
	if (from_fd < 0)
		return from_fd;
	int to_fd = io->open(io, to, O_RDWR | O_CREAT | O_TRUNC, mode);
	int rc = to_fd < 0 ? to_fd : bytes_copy(io, from_fd, to_fd);
	if (!rc)
		rc = io->size(io, to_fd, bytes);
	/* Read back from the disk, not from what the kernel still holds, where the file system lets us. */
	if (to_fd >= 0) {
		if (!rc && io == sto_io_system())
			posix_fadvise(to_fd, 0, 0, POSIX_FADV_DONTNEED);
		io->close(io, to_fd);
	}
	io->close(io, from_fd);
	if (!rc)
		rc = file_sha256(io, to, sha256);
	if (!rc && expected && memcmp(expected, sha256, MANIFEST_HASH_BYTES) != 0)
		rc = -EBADMSG;
	if (rc && to_fd >= 0)
		io->unlink(io, to);
	return rc;
}
