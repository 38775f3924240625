/* The audit log; see ctl_audit_log.h. Each call opens the file, so it may be moved away at any time and a new one begins. */
#include "ctl_audit_log.h"

#include "turnpike/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, READ_BYTES = 1 << 20 };

/* Locked. -errno. */
static int log_open(const char *state_dir)
{
	char path[PATH_BYTES];
	struct stat folder;

	snprintf(path, sizeof(path), "%s/audit.log", state_dir);
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* root's tool leaves a file that the control process, which runs as the folder's owner, may write */
	int rc = geteuid() == 0 && stat(state_dir, &folder) == 0 && fchown(fd, folder.st_uid, folder.st_gid) != 0 ? -errno : 0;
	while (rc == 0 && flock(fd, LOCK_EX) != 0)
		rc = errno == EINTR ? 0 : -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static json_t *text_of(const char *bytes, size_t count)
{
	json_t *text = json_stringn(bytes, count);
	char *ascii = text ? NULL : malloc(count + 1);

	for (size_t i = 0; ascii && i < count; i++)
		ascii[i] = (unsigned char)bytes[i] < 0x80 ? bytes[i] : '?';
	if (ascii)
		text = json_stringn(ascii, count);
	free(ascii);
	return text;
}

/* The line with its end; malloc'ed. */
static char *line_make(const struct ctl_act *act)
{
	char stamp[32], *text = NULL, *line = NULL;
	json_t *value = json_object();
	size_t detail_bytes = act->detail_bytes < CTL_AUDIT_DETAIL_BYTES ? act->detail_bytes : CTL_AUDIT_DETAIL_BYTES;

	tp_time_text(tp_now_ms(), stamp);
	json_object_set_new(value, "time", json_string(stamp));
	json_object_set_new(value, "who", text_of(act->who, strlen(act->who)));
	if (act->scope)
		json_object_set_new(value, "scope", text_of(act->scope, strlen(act->scope)));
	json_object_set_new(value, "from", text_of(act->from, strlen(act->from)));
	json_object_set_new(value, "act", text_of(act->act, strlen(act->act)));
	if (detail_bytes)
		json_object_set_new(value, "detail", text_of(act->detail, detail_bytes));
	json_object_set_new(value, "result", text_of(act->result, strlen(act->result)));
	if (act->unlogged)
		json_object_set_new(value, "unlogged_before", json_integer(act->unlogged));
	text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(value);
	return line;
}

/* All or nothing. */
static int bytes_append(int fd, const char *bytes, size_t count)
{
	struct stat found;
	char last = '\n';

	if (fstat(fd, &found) != 0)
		return -errno;
	/* a line that a crash has torn stays alone */
	if (found.st_size > 0 && pread(fd, &last, 1, found.st_size - 1) != 1)
		return -EIO;
	ssize_t done = last == '\n' ? 0 : write(fd, "\n", 1);
	if (done >= 0)
		done = write(fd, bytes, count);
	int rc = done < 0 ? -errno : (size_t)done != count ? -ENOSPC : 0;
	if (rc == 0 && fdatasync(fd) != 0)
		rc = -errno;
	if (rc != 0 && ftruncate(fd, found.st_size) != 0)
		rc = -EIO;
	return rc;
}

int ctl_audit_log_add(const char *state_dir, const struct ctl_act *act)
{
	char *line = line_make(act);

	if (!line)
		return -ENOMEM;
	int fd = log_open(state_dir), rc = fd < 0 ? fd : bytes_append(fd, line, strlen(line));
	if (fd >= 0)
		close(fd);
	free(line);
	return rc;
}

/* ---- reading ---- */

static json_t *item_of(const char *line, size_t bytes)
{
	json_t *item = json_loadb(line, bytes, 0, NULL);

	return item ? item : json_pack("{s:o}", "damaged", text_of(line, bytes < 256 ? bytes : 256));
}

json_t *ctl_audit_log_read(const char *state_dir, uint64_t before, uint32_t limit, int *error)
{
	char path[PATH_BYTES], *text = NULL;
	struct stat found = {0};
	json_t *items = json_array();

	*error = 0;
	snprintf(path, sizeof(path), "%s/audit.log", state_dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		*error = errno;
	if (fd >= 0 && fstat(fd, &found) != 0)
		*error = errno;
	uint64_t end = before < (uint64_t)found.st_size ? before : (uint64_t)found.st_size;
	size_t bytes = end < READ_BYTES ? (size_t)end : READ_BYTES;
	if (!*error && bytes) {
		text = malloc(bytes);
		if (!text)
			*error = ENOMEM;
		else if (pread(fd, text, bytes, (off_t)(end - bytes)) != (ssize_t)bytes)
			*error = EIO;
	}
	if (fd >= 0)
		close(fd);
	uint64_t from = end - bytes; /* of text in the file */
	size_t at = bytes;
	while (!*error && at > 0 && json_array_size(items) < limit) {
		size_t stop = text[at - 1] == '\n' ? at - 1 : at, start = stop;
		while (start > 0 && text[start - 1] != '\n')
			start--;
		if (start == 0 && from > 0 && at < bytes)
			break; /* it begins before what was read: the next page has it */
		json_array_append_new(items, item_of(text + start, stop - start));
		at = start;
	}
	free(text);
	if (!*error)
		return json_pack("{s:o, s:o}", "items", items, "cursor",
				 from + at ? json_sprintf("%llu", (unsigned long long)(from + at)) : json_null());
	json_decref(items);
	return NULL;
}
