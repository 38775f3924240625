/*
 * Log lines on standard error, and the word to systemd. Cold; any thread: a line is built on the caller's stack and leaves in one
 * write(2), so lines of several threads do not mix. A line that is too long is cut and ends in "…"; line breaks inside become
 * spaces.
 *
 *   level=warn msg="log block refused" program=turnpiked shard=0 file=17 error="bad checksum"
 *
 * Source of the notification: sd_notify(3), "protocol" (a datagram to $NOTIFY_SOCKET, '@' for the abstract namespace).
 */
#include "turnpike/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 2048 };

static _Atomic int level_least = TP_INFO;
static char program[32]; /* set once at start */

void tp_log_level_set(enum tp_level least)
{
	atomic_store_explicit(&level_least, least, memory_order_relaxed);
}

void tp_log_program_set(const char *name)
{
	snprintf(program, sizeof program, "%s", name);
}

static const char *level_name(enum tp_level level)
{
	static const char *const name[] = {[TP_DEBUG] = "debug", [TP_INFO] = "info", [TP_WARN] = "warn", [TP_ERROR] = "error"};
	return name[level];
}

/* Appends without ever passing the end; `at` may reach `end` and stays there. */
static char *put(char *at, const char *end, const char *text)
{
	size_t bytes = strlen(text), room = (size_t)(end - at);
	if (bytes > room)
		bytes = room;
	memcpy(at, text, bytes);
	return at + bytes;
}

/* The value of msg=…, always in quotes, quotes and backslashes escaped. */
static char *put_quoted(char *at, const char *end, const char *text)
{
	at = put(at, end, "\"");
	for (; *text && end - at >= 2; text++) {
		if (*text == '"' || *text == '\\')
			*at++ = '\\';
		*at++ = *text;
	}
	return put(at, end, "\"");
}

void tp_logf(enum tp_level level, const char *msg, const char *pairs_format, ...)
{
	if ((int)level < atomic_load_explicit(&level_least, memory_order_relaxed))
		return;
	int saved_errno = errno; /* a log line must not change what its caller reports next */
	char line[LINE_BYTES_MAX];
	static const char cut[] = "…\n";
	const char *const end = line + sizeof line - sizeof cut;
	char *at = put(line, end, "level=");
	at = put(at, end, level_name(level));
	at = put(at, end, " msg=");
	at = put_quoted(at, end, msg);
	if (program[0]) {
		at = put(at, end, " program=");
		at = put(at, end, program);
	}
	int too_long = at == end;
	if (pairs_format && pairs_format[0] && !too_long) {
		*at++ = ' ';
		size_t room = (size_t)(end - at) + 1; /* snprintf's NUL may stand at `end` */
		va_list values;
		va_start(values, pairs_format);
		int bytes = vsnprintf(at, room, pairs_format, values);
		va_end(values);
		if (bytes > 0) {
			too_long = (size_t)bytes >= room;
			at += too_long ? room - 1 : (size_t)bytes;
		}
	}
	for (char *c = line; c < at; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = ' ';
	if (too_long) {
		while (at > line && ((unsigned char)at[-1] & 0xc0) == 0x80)
			at--; /* not in the middle of a UTF-8 character … */
		if (at > line && (unsigned char)at[-1] >= 0xc0)
			at--; /* … nor behind its first byte alone */
		memcpy(at, cut, sizeof cut - 1);
		at += sizeof cut - 1;
	} else {
		*at++ = '\n';
	}
	for (const char *from = line; from < at;) {
		ssize_t written = write(STDERR_FILENO, from, (size_t)(at - from));
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			break; /* nobody listens, and there is nowhere to say so */
		from += written;
	}
	errno = saved_errno;
}

void tp_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	size_t bytes = strlen(path);
	if (bytes < 2 || bytes >= sizeof to.sun_path) {
		tp_logf(TP_WARN, "NOTIFY_SOCKET is no path that a socket can have", "bytes=%zu", bytes);
		return;
	}
	memcpy(to.sun_path, path, bytes);
	if (to.sun_path[0] == '@')
		to.sun_path[0] = 0;
	int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0) {
		tp_logf(TP_WARN, "cannot tell the service manager", "state=%s error=\"%s\"", state, strerror(errno));
		return;
	}
	socklen_t to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	if (sendto(socket_fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, to_bytes) < 0)
		tp_logf(TP_WARN, "cannot tell the service manager", "state=%s error=\"%s\"", state, strerror(errno));
	close(socket_fd);
}
