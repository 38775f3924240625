/*
 * The file of source keys: see source_keys.h. Cold code, the command thread and start.
 */
#include "source_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREFIXES_MAX = 4 * DP_SOURCE_KEYS_MAX };

void dp_source_keys_free(struct dp_source_keys *keys)
{
	if (!keys)
		return;
	if (keys->entry)
		explicit_bzero(keys->entry, keys->count * sizeof *keys->entry);
	free(keys->slot);
	free(keys->entry);
	free(keys->prefix);
	free(keys);
}

static int source_parse(const char *word, uint64_t *source)
{
	bool hex = word[0] == '0' && (word[1] == 'x' || word[1] == 'X');
	const char *digits = hex ? word + 2 : word;
	size_t bytes = strlen(digits);
	if (bytes == 0 || bytes > 20 || strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") != bytes)
		return -EBADMSG;
	errno = 0;
	*source = strtoull(digits, NULL, hex ? 16 : 10);
	return errno ? -EBADMSG : 0;
}

static int key_parse(const char *word, uint64_t key[2])
{
	uint8_t byte[16];
	if (strlen(word) != 32 || strspn(word, "0123456789abcdefABCDEF") != 32)
		return -EBADMSG;
	for (int i = 0; i < 16; i++) {
		char pair[3] = {word[2 * i], word[2 * i + 1], 0};
		byte[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	memcpy(key, byte, sizeof byte);
	return 0;
}

/* Makes room for one more element; *capacity doubles. */
static int grow(void **array, uint32_t count, uint32_t *capacity, size_t each)
{
	if (count < *capacity)
		return 0;
	uint32_t more = *capacity ? 2 * *capacity : 64;
	void *made = realloc(*array, more * each);
	if (!made)
		return -ENOMEM;
	*array = made;
	*capacity = more;
	return 0;
}

struct reading {
	struct dp_source_keys *keys;
	uint32_t entries_max, prefixes, prefixes_max;
	const char *expected; /* what a wrong line should have been */
};

static int prefixes_parse(struct reading *reading, char *text, struct dp_source_key *entry)
{
	entry->prefix_at = reading->prefixes;
	for (char *word; (word = strsep(&text, ",")) != NULL;) {
		int rc = reading->prefixes == PREFIXES_MAX ? -EBADMSG
							   : grow((void **)&reading->keys->prefix, reading->prefixes,
								  &reading->prefixes_max, sizeof(struct tp_prefix));
		if (!rc && tp_prefix_parse(word, strlen(word), &reading->keys->prefix[reading->prefixes]))
			rc = -EBADMSG;
		if (rc)
			return rc;
		reading->prefixes++;
		entry->prefix_count++;
	}
	return 0;
}

/* One line, which is cut up. */
static int line_parse(struct reading *reading, char *line)
{
	struct dp_source_keys *keys = reading->keys;
	struct dp_source_key entry = {0};
	char *rest = line, *word[4] = {0};
	int words = 0;
	line[strcspn(line, "#\r\n")] = '\0';
	for (char *one; (one = strsep(&rest, " \t")) != NULL;)
		if (*one != '\0' && words < 4)
			word[words++] = one;
	if (words == 0)
		return 0;
	reading->expected = "a source number, 0 to 2^64-1, decimal or 0x…";
	if (source_parse(word[0], &entry.source))
		return -EBADMSG;
	reading->expected = "a key of 32 hex digits behind the source";
	if (words < 2 || key_parse(word[1], entry.key))
		return -EBADMSG;
	reading->expected = "prefixes such as 192.0.2.0/24,2001:db8::/32 behind the key, and nothing more";
	if (words == 4)
		return -EBADMSG;
	int rc = words == 3 ? prefixes_parse(reading, word[2], &entry) : 0;
	if (rc)
		return rc;
	reading->expected = "at most 65536 keys";
	if (keys->count == DP_SOURCE_KEYS_MAX)
		return -EBADMSG;
	rc = grow((void **)&keys->entry, keys->count, &reading->entries_max, sizeof entry);
	if (!rc)
		keys->entry[keys->count++] = entry;
	return rc;
}

static int by_source(const void *left, const void *right)
{
	const struct dp_source_key *a = left, *b = right;
	return a->source < b->source ? -1 : a->source > b->source;
}

static int index_make(struct reading *reading)
{
	struct dp_source_keys *keys = reading->keys;
	uint32_t slots = 16;
	while (slots < 2 * keys->count)
		slots *= 2;
	keys->slot = calloc(slots, sizeof *keys->slot);
	if (!keys->slot)
		return -ENOMEM;
	keys->mask = slots - 1;
	if (keys->count)
		qsort(keys->entry, keys->count, sizeof *keys->entry, by_source);
	reading->expected = "at most four keys for a source";
	for (uint32_t i = 0; i < keys->count; i++) {
		if (i >= DP_SOURCE_KEYS_EACH && keys->entry[i - DP_SOURCE_KEYS_EACH].source == keys->entry[i].source)
			return -EBADMSG;
		if (i > 0 && keys->entry[i - 1].source == keys->entry[i].source)
			continue;
		uint32_t slot = dp_source_slot(keys->entry[i].source, keys->mask);
		while (keys->slot[slot] != 0)
			slot = (slot + 1) & keys->mask;
		keys->slot[slot] = i + 1;
	}
	return 0;
}

static int file_open(const char *path, FILE **file, char *error)
{
	struct stat found;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 || fstat(fd, &found) != 0 ? -errno : found.st_mode & S_IRWXO ? -EPERM : 0;
	*file = rc ? NULL : fdopen(fd, "r");
	if (!rc && !*file)
		rc = -ENOMEM;
	if (rc && fd >= 0)
		close(fd);
	if (rc == -EPERM && fd >= 0)
		snprintf(error, DP_SOURCE_KEYS_ERROR_BYTES,
			 "expected a file that others may not touch (chmod o-rwx), found mode %04o", found.st_mode & 07777);
	else if (rc)
		snprintf(error, DP_SOURCE_KEYS_ERROR_BYTES, "%s", strerror(-rc));
	return rc;
}

int dp_source_keys_load(struct dp_source_keys **out, const char *path, char error[DP_SOURCE_KEYS_ERROR_BYTES])
{
	FILE *file;
	int rc = file_open(path, &file, error);
	if (rc)
		return rc;
	struct reading reading = {.keys = calloc(1, sizeof *reading.keys), .expected = ""};
	char *line = NULL;
	size_t room = 0;
	uint32_t lines = 0;
	if (!reading.keys)
		rc = -ENOMEM;
	while (!rc && getline(&line, &room, file) >= 0) {
		lines++;
		rc = line_parse(&reading, line);
	}
	if (!rc && ferror(file))
		rc = -EIO;
	bool inside = rc != 0;
	if (!rc)
		rc = index_make(&reading);
	if (line)
		explicit_bzero(line, room);
	free(line);
	fclose(file);
	if (rc == -EBADMSG && inside)
		snprintf(error, DP_SOURCE_KEYS_ERROR_BYTES, "line %u: expected %s", lines, reading.expected);
	else if (rc == -EBADMSG)
		snprintf(error, DP_SOURCE_KEYS_ERROR_BYTES, "expected %s", reading.expected);
	else if (rc)
		snprintf(error, DP_SOURCE_KEYS_ERROR_BYTES, "%s", strerror(-rc));
	if (rc) {
		dp_source_keys_free(reading.keys);
		return rc;
	}
	*out = reading.keys;
	return 0;
}
