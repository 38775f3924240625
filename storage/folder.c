/*
 * The data folder's names, and its node file.
 *
 * <data_dir>/node, written once, by temporary name and rename; text, so that a person can look at it:
 *
 *     turnpike node 1
 *     id 32 hex digits
 *     secret 32 hex digits
 *     check 16 hex digits              XXH3-64 of everything before this line
 *
 * The secret keys the hashes of event ids that are no UUIDs, which the segments keep: without it old ids cannot be found again. It
 * is nobody else's business, so the file is readable by its owner only.
 */
#include "store_state.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NODE_FILE_BYTES_MAX = 256 };

int folder_path(char *to, const char *data_dir, const char *name)
{
	int length = snprintf(to, STORE_PATH_BYTES, "%s/%s", data_dir, name);
	return length < 0 || length >= STORE_PATH_BYTES ? -ENAMETOOLONG : 0;
}

int folder_log_path(char *to, const char *data_dir, uint64_t file_id)
{
	char name[32];
	snprintf(name, sizeof(name), "log/%016" PRIx64 ".log", file_id);
	return folder_path(to, data_dir, name);
}

void folder_segment_name(char to[FOLDER_NAME_BYTES], uint64_t sequence, uint32_t generation)
{
	if (generation)
		snprintf(to, FOLDER_NAME_BYTES, "segments/%016" PRIx64 ".%" PRIu32 ".seg", sequence, generation);
	else
		snprintf(to, FOLDER_NAME_BYTES, "segments/%016" PRIx64 ".seg", sequence);
}

int folder_segment_path(char *to, const char *data_dir, uint64_t sequence, uint32_t generation)
{
	char name[FOLDER_NAME_BYTES];
	folder_segment_name(name, sequence, generation);
	return folder_path(to, data_dir, name);
}

int folder_segment_temporary(char *to, const char *data_dir, uint64_t sequence)
{
	char name[48];
	snprintf(name, sizeof(name), "segments/%016" PRIx64 ".tmp", sequence);
	return folder_path(to, data_dir, name);
}

int folder_rollup_path(char *to, const char *data_dir, uint64_t sequence, bool temporary)
{
	char name[48];
	snprintf(name, sizeof(name), "rollups/%016" PRIx64 "%s", sequence, temporary ? ".tmp" : ".rol");
	return folder_path(to, data_dir, name);
}

uint64_t folder_name_number(const char *name, const char *suffix)
{
	uint64_t number = 0;
	if (strlen(name) != 16 + strlen(suffix) || strcmp(name + 16, suffix) != 0)
		return 0;
	for (int i = 0; i < 16; i++) {
		char c = name[i];
		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
			return 0;
		number = number << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return number;
}

uint64_t folder_segment_number(const char *name, uint32_t *generation)
{
	char plain[24];
	*generation = 0;
	if (strlen(name) > 16 + 4 && name[16] == '.') {
		uint64_t number = 0;
		const char *at = name + 17;
		for (; *at >= '0' && *at <= '9' && number < UINT32_MAX; at++)
			number = 10 * number + (uint64_t)(*at - '0');
		if (strcmp(at, ".seg") != 0 || name[17] == '0' || at == name + 17 || number > UINT32_MAX)
			return 0;
		*generation = (uint32_t)number;
		snprintf(plain, sizeof(plain), "%.16s.seg", name);
		name = plain;
	}
	return folder_name_number(name, ".seg");
}

static int node_file_make(const struct sto_io *io, const char *data_dir, uint8_t id[16], uint64_t secret[2])
{
	char path[STORE_PATH_BYTES], temporary[STORE_PATH_BYTES], text[NODE_FILE_BYTES_MAX];
	int rc = folder_path(path, data_dir, "node");
	if (!rc)
		rc = folder_path(temporary, data_dir, "node.tmp");
	if (!rc)
		rc = io->random(io, id, 16);
	if (!rc)
		rc = io->random(io, secret, 16);
	if (rc)
		return rc;
	int length = snprintf(text, sizeof(text), "turnpike node 1\nid ");
	for (int i = 0; i < 16; i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%02x", id[i]);
	length += snprintf(text + length, sizeof(text) - (size_t)length, "\nsecret %016" PRIx64 "%016" PRIx64 "\n", secret[0],
			   secret[1]);
	uint64_t check = XXH3_64bits(text, (size_t)length);
	length += snprintf(text + length, sizeof(text) - (size_t)length, "check %016" PRIx64 "\n", check);
	int fd = io->open(io, temporary, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	rc = io->write(io, fd, text, (uint64_t)length, 0);
	if (!rc)
		rc = io->sync(io, fd);
	io->close(io, fd);
	if (!rc)
		rc = io->rename(io, temporary, path);
	if (!rc)
		rc = io->sync_folder(io, data_dir);
	return rc;
}

static bool hex_take(const char *from, int digits, uint64_t *value)
{
	*value = 0;
	for (int i = 0; i < digits; i++) {
		const char *hex = "0123456789abcdef", *at = from[i] ? strchr(hex, from[i]) : NULL;
		if (!at)
			return false;
		*value = *value << 4 | (uint64_t)(at - hex);
	}
	return true;
}

static bool node_file_parse(const char *text, uint8_t id[16], uint64_t secret[2])
{
	static const char shape[] = "turnpike node 1\nid \nsecret \ncheck \n";
	enum { ID_AT = 19, SECRET_AT = ID_AT + 32 + 8, CHECK_LINE_AT = SECRET_AT + 32 + 1, CHECK_AT = CHECK_LINE_AT + 6 };
	if (strlen(text) != sizeof(shape) - 1 + 32 + 32 + 16 || memcmp(text, shape, ID_AT) != 0 ||
	    memcmp(text + ID_AT + 32, shape + ID_AT, 8) != 0 || memcmp(text + SECRET_AT + 32, shape + ID_AT + 8, 7) != 0)
		return false;
	for (int i = 0; i < 16; i++) {
		uint64_t byte;
		if (!hex_take(text + ID_AT + 2 * i, 2, &byte))
			return false;
		id[i] = (uint8_t)byte;
	}
	uint64_t check;
	return hex_take(text + SECRET_AT, 16, &secret[0]) && hex_take(text + SECRET_AT + 16, 16, &secret[1]) &&
	       hex_take(text + CHECK_AT, 16, &check) && text[CHECK_AT + 16] == '\n' && check == XXH3_64bits(text, CHECK_LINE_AT);
}

int node_file_load(const struct sto_io *io, const char *data_dir, bool may_make, uint8_t id[16], uint64_t secret[2])
{
	char path[STORE_PATH_BYTES], text[NODE_FILE_BYTES_MAX];
	int rc = folder_path(path, data_dir, "node");
	if (rc)
		return rc;
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd == -ENOENT && may_make)
		return node_file_make(io, data_dir, id, secret);
	if (fd < 0)
		return fd;
	int64_t got = io->read(io, fd, text, sizeof(text) - 1, 0);
	io->close(io, fd);
	if (got < 0)
		return (int)got;
	text[got] = 0;
	if (node_file_parse(text, id, secret))
		return 0;
	tp_logf(TP_ERROR, "the node file is damaged: put it back from a backup, the ids in the segments are hashed with its secret",
		"file=%s", path);
	return -EBADMSG;
}
