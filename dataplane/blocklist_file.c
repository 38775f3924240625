/*
 * A list file of the blocklist: one prefix a line.
 *
 *   # comment                      ; comment
 *   192.0.2.0/24                   a prefix; host bits do not matter
 *   198.51.100.7   scraper         an address is a host; what follows is the reason
 *   2001:db8::/32  ; SBL12345      as published lists write it
 *
 * The whole file is read at once and cut in place, so the reasons need no copies. Cold.
 */
#include "blocklist_source.h"

#include "turnpike/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 64 << 20, NAMED_LINES_MAX = 20, SHOWN_BYTES = 40 };

int dp_block_order(const struct tp_prefix *a, const struct tp_prefix *b)
{
	if (a->addr.family != b->addr.family)
		return a->addr.family < b->addr.family ? -1 : 1;
	const int order = memcmp(a->addr.byte, b->addr.byte, sizeof(a->addr.byte));
	return order ? order : (int)a->bits - (int)b->bits;
}

struct tp_prefix dp_block_masked(const struct tp_prefix *prefix)
{
	struct tp_prefix out = *prefix;
	const uint32_t bits = prefix->bits + (prefix->addr.family == 4 ? 96U : 0U);

	for (uint32_t bit = bits; bit < 128; bit = (bit / 8 + 1) * 8)
		out.addr.byte[bit / 8] &= (uint8_t) ~(0xffU >> bit % 8);
	return out;
}

/* Of one prefix the first line comes first. */
static int entry_compare(const void *left, const void *right)
{
	const struct dp_block_entry *a = left, *b = right;
	const int order = dp_block_order(&a->prefix, &b->prefix);

	return order ? order : a->line < b->line ? -1 : a->line > b->line;
}

bool dp_block_stamp_equal(const struct dp_block_stamp *a, const struct dp_block_stamp *b)
{
	return a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec && a->bytes == b->bytes &&
	       a->inode == b->inode && a->device == b->device;
}

static struct dp_block_stamp stamp_of(const struct stat *file)
{
	return (struct dp_block_stamp){
		.modified = file->st_mtim, .bytes = file->st_size, .inode = file->st_ino, .device = file->st_dev};
}

int dp_block_stamp_look(const char *path, struct dp_block_stamp *stamp)
{
	struct stat file;

	if (stat(path, &file) != 0)
		return -errno;
	*stamp = stamp_of(&file);
	return 0;
}

/* The whole file into list->text, NUL-terminated. */
static int text_read(struct dp_block_list *list, size_t *bytes)
{
	struct stat before, after;
	size_t have = 0;
	int rc = 0;
	/* without blocking: a pipe must not hold up the command thread */
	const int fd = open(list->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &before) != 0) {
		rc = -errno;
	} else {
		list->stamp = stamp_of(&before);
		rc = !S_ISREG(before.st_mode) ? -EINVAL : before.st_size > FILE_BYTES_MAX ? -EFBIG : 0;
	}
	if (rc == 0 && !(list->text = malloc((size_t)before.st_size + 1)))
		rc = -ENOMEM;
	while (rc == 0 && have < (size_t)before.st_size) {
		const ssize_t n = read(fd, list->text + have, (size_t)before.st_size - have);
		if (n == 0)
			rc = -EAGAIN;
		else if (n > 0)
			have += (size_t)n;
		else if (errno != EINTR)
			rc = -errno;
	}
	if (rc == 0 && fstat(fd, &after) == 0) {
		const struct dp_block_stamp now = stamp_of(&after);
		if (!dp_block_stamp_equal(&list->stamp, &now))
			rc = -EAGAIN;
	}
	close(fd);
	if (rc == 0)
		list->text[have] = '\0';
	*bytes = have;
	return rc;
}

static char *blanks_skip(char *at)
{
	return at + strspn(at, " \t");
}

/* One line, NUL-terminated. 1: an entry, 0: none, -1: bad. */
static int line_parse(char *line, struct dp_block_entry *entry)
{
	char *at = blanks_skip(line);

	if (*at == '\0' || *at == '#' || *at == ';')
		return 0;
	const size_t bytes = strcspn(at, " \t#;,");
	if (tp_prefix_parse(at, bytes, &entry->prefix) != 0)
		return -1;
	entry->prefix = dp_block_masked(&entry->prefix);
	char *reason = at + bytes + strspn(at + bytes, " \t#;,");
	size_t length = strlen(reason);
	while (length > 0 && strchr(" \t\r", reason[length - 1]))
		length--;
	if (length >= DP_BLOCKLIST_REASON_BYTES) { /* at a character's edge */
		length = DP_BLOCKLIST_REASON_BYTES - 1;
		while (length > 0 && ((unsigned char)reason[length] & 0xc0) == 0x80)
			length--;
	}
	reason[length] = '\0';
	entry->reason = reason;
	return 1;
}

static void bad_line(struct dp_block_list *list, uint32_t number, const char *line)
{
	char shown[SHOWN_BYTES + 1];
	size_t bytes = strnlen(line, SHOWN_BYTES);

	for (size_t i = 0; i < bytes; i++)
		shown[i] = line[i] < ' ' || line[i] > '~' || line[i] == '"' ? '.' : line[i];
	shown[bytes] = '\0';
	if (list->bad_lines++ < NAMED_LINES_MAX)
		tp_logf(TP_WARN, "line of a blocklist file left out: expected a prefix such as 192.0.2.0/24 or 2001:db8::/32",
			"file=%s line=%u found=\"%s\"", list->path, number, shown);
}

static int entry_add(struct dp_block_list *list, const struct dp_block_entry *entry, uint32_t *room)
{
	if (list->entries == *room) {
		const uint32_t more = *room ? 2 * *room : 1024;
		struct dp_block_entry *grown = realloc(list->entry, more * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->entry = grown;
		*room = more;
	}
	list->entry[list->entries++] = *entry;
	return 0;
}

static void entries_normalise(struct dp_block_list *list)
{
	uint32_t kept = 0;

	if (list->entries == 0)
		return;
	qsort(list->entry, list->entries, sizeof(*list->entry), entry_compare);
	for (uint32_t i = 1; i < list->entries; i++)
		if (dp_block_order(&list->entry[kept].prefix, &list->entry[i].prefix) != 0)
			list->entry[++kept] = list->entry[i];
	list->entries = kept + 1;
}

int dp_block_list_read(struct dp_block_list *list, const char *path, bool count_only, uint64_t now_ms)
{
	size_t bytes = 0;
	uint32_t room = 0, number = 0;

	*list = (struct dp_block_list){.path = strdup(path), .count_only = count_only, .loaded_ms = now_ms};
	int rc = list->path ? text_read(list, &bytes) : -ENOMEM;
	for (char *line = list->text, *next; rc == 0 && line < list->text + bytes; line = next) {
		struct dp_block_entry entry = {.added_ms = now_ms, .line = ++number, .count_only = count_only};
		char *end = memchr(line, '\n', (size_t)(list->text + bytes - line));
		if (!end)
			end = list->text + bytes;
		*end = '\0';
		next = end + 1;
		if (end > line && end[-1] == '\r')
			end[-1] = '\0';
		/* a NUL inside is seen as what follows it being lost, and that is a bad line too */
		const int is = strlen(line) + 1 < (size_t)(end - line) ? -1 : line_parse(line, &entry);
		if (is < 0)
			bad_line(list, number, line);
		else if (is > 0)
			rc = entry_add(list, &entry, &room);
	}
	if (list->bad_lines > NAMED_LINES_MAX)
		tp_logf(TP_WARN, "more bad lines in a blocklist file", "file=%s bad_lines=%u named=%d", path, list->bad_lines,
			NAMED_LINES_MAX);
	if (rc == 0)
		entries_normalise(list);
	if (rc == 0 && list->entries > DP_BLOCKLIST_MAX)
		rc = -E2BIG;
	if (rc != 0)
		list->entries = 0;
	list->error = rc;
	return rc;
}

void dp_block_list_free(struct dp_block_list *list)
{
	free(list->path);
	free(list->entry);
	free(list->text);
	*list = (struct dp_block_list){0};
}
