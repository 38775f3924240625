/*
 * The operator's entries on disk, <data_dir>/blocklist: text, replaced whole by rename and synced, so that a crash leaves the old or
 * the new. A disk may still give back something else; then the node says so and does not start, for a list that silently lost
 * entries would let in whom the operator has shut out.
 *
 *   turnpike blocklist 1
 *   PREFIX ADDED_MS EXPIRES_MS COUNT_ONLY REASON…     EXPIRES_MS 0: never; COUNT_ONLY 0 or 1
 *   …
 *   end ENTRIES XXH3                                  XXH3-64 of all bytes before this line, hexadecimal
 */
#include "blocklist_source.h"

#include "turnpike/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define HEADER "turnpike blocklist 1\n"

enum { BYTES_MAX = 32 << 20 };

/* The text of the entries with header and end, malloc'ed. NULL: no memory. */
static char *text_make(const struct dp_block_entry *entry, uint32_t entries, size_t *bytes)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, bytes);

	if (!to)
		return NULL;
	fputs(HEADER, to);
	for (uint32_t i = 0; i < entries; i++) {
		char prefix[TP_PREFIX_TEXT_BYTES];
		tp_prefix_text(&entry[i].prefix, prefix);
		fprintf(to, "%s %" PRIu64 " %" PRIu64 " %d %s\n", prefix, entry[i].added_ms, entry[i].expires_ms,
			entry[i].count_only, entry[i].reason);
	}
	if (fflush(to) == 0)
		fprintf(to, "end %u %016" PRIx64 "\n", entries, (uint64_t)XXH3_64bits(text, *bytes));
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}

static int whole_write(int fd, const char *text, size_t bytes)
{
	while (bytes > 0) {
		const ssize_t n = write(fd, text, bytes);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			bytes -= (size_t)n;
		}
	}
	return fsync(fd) == 0 ? 0 : -errno;
}

int dp_block_store_write(const char *path, const struct dp_block_entry *entry, uint32_t entries)
{
	size_t bytes;
	char *text = text_make(entry, entries, &bytes);

	if (!text)
		return -ENOMEM;
	const int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = directory < 0 ? -errno : 0;
	const int fd = rc ? -1 : openat(directory, "blocklist.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (rc == 0)
		rc = fd < 0 ? -errno : whole_write(fd, text, bytes);
	if (fd >= 0 && close(fd) != 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && renameat(directory, "blocklist.new", directory, "blocklist") != 0)
		rc = -errno;
	if (rc == 0 && fsync(directory) != 0)
		rc = -errno;
	if (directory >= 0)
		close(directory);
	free(text);
	return rc;
}

/* The whole file, NUL-terminated. 0 or -errno. */
static int text_read(const char *path, char **text, size_t *bytes)
{
	FILE *file = fopen(path, "re");
	int rc = 0;

	*text = NULL;
	*bytes = 0;
	if (!file)
		return -errno;
	*text = malloc(BYTES_MAX + 1);
	if (*text)
		*bytes = fread(*text, 1, BYTES_MAX + 1, file);
	rc = !*text ? -ENOMEM : ferror(file) ? -EIO : *bytes > BYTES_MAX ? -EBADMSG : 0;
	fclose(file);
	if (rc == 0)
		(*text)[*bytes] = '\0';
	return rc;
}

/* Where the line "end …" begins, if what it says is so; else NULL. */
static char *end_check(char *text, size_t bytes, uint32_t *entries)
{
	uint64_t hash;
	int used = 0;

	if (strlen(text) != bytes || strncmp(text, HEADER, strlen(HEADER)) != 0 || text[bytes - 1] != '\n')
		return NULL;
	char *end = text + bytes - 1;
	while (end > text && end[-1] != '\n')
		end--;
	if (sscanf(end, "end %" SCNu32 " %" SCNx64 "\n%n", entries, &hash, &used) != 2 || end + used != text + bytes)
		return NULL;
	return hash == XXH3_64bits(text, (size_t)(end - text)) ? end : NULL;
}

static bool line_parse(const char *line, struct dp_block_entry *entry)
{
	char prefix[TP_PREFIX_TEXT_BYTES];
	int count_only, used = 0;

	if (sscanf(line, "%49s %" SCNu64 " %" SCNu64 " %d%n", prefix, &entry->added_ms, &entry->expires_ms, &count_only, &used) !=
		    4 ||
	    tp_prefix_parse(prefix, strlen(prefix), &entry->prefix) != 0 || line[used] != ' ')
		return false;
	entry->count_only = count_only != 0;
	entry->reason = line + used + 1;
	return true;
}

int dp_block_store_read(const char *directory, uint64_t now_ms, struct dp_block_entry *entry, uint32_t *entries)
{
	char path[4096], *text;
	size_t bytes;
	uint32_t said = 0, number = 1;

	*entries = 0;
	snprintf(path, sizeof(path), "%s/blocklist", directory);
	int rc = text_read(path, &text, &bytes);
	if (rc == -ENOENT)
		return 0;
	char *end = rc == 0 ? end_check(text, bytes, &said) : NULL;
	if (rc == 0 && (!end || said > DP_BLOCKLIST_OWN_MAX))
		rc = -EBADMSG;
	for (char *line = rc == 0 ? text + strlen(HEADER) : NULL, *next; rc == 0 && line < end; line = next) {
		next = strchr(line, '\n') + 1;
		next[-1] = '\0';
		number++;
		if (number - 1 > said) { /* and there may be no room for it */
			rc = -EBADMSG;
			break;
		}
		struct dp_block_entry *to = &entry[*entries];
		*to = (struct dp_block_entry){0};
		if (!line_parse(line, to) || (*entries > 0 && dp_block_order(&to[-1].prefix, &to->prefix) >= 0))
			rc = -EBADMSG;
		else if (to->expires_ms && to->expires_ms <= now_ms)
			continue;
		else if (!(to->reason = strdup(to->reason)))
			rc = -ENOMEM;
		else
			++*entries;
	}
	if (rc == 0 && number - 1 != said)
		rc = -EBADMSG;
	free(text);
	if (rc == -EBADMSG)
		tp_logf(TP_ERROR, "the blocklist's own file is damaged: put back a copy, or remove it, which loses its entries",
			"path=%s line=%u", path, number);
	else if (rc != 0)
		tp_logf(TP_ERROR, "cannot read the blocklist's own file", "path=%s error=\"%s\"", path, strerror(-rc));
	return rc;
}
