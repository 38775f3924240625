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

static int needs_quotes(const char *text, size_t bytes)
{
	if (!bytes)
		return 1;
	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)text[i] <= ' ' || text[i] == '"' || text[i] == '=' || text[i] == '\\' || text[i] == 127)
			return 1;
	return 0;
}

/* A string value. The caller's quotes are around it already if `quoted`; `whole`: it is all of a pair's value. */
static char *put_value(char *at, const char *end, const char *text, size_t bytes, int quoted, int whole)
{
	const int add = whole && !quoted && needs_quotes(text, bytes);

	if (add)
		at = put(at, end, "\"");
	for (size_t i = 0; i < bytes; i++) {
		const int escape = (quoted || add) && (text[i] == '"' || text[i] == '\\');
		if (end - at < 1 + escape)
			return (char *)(uintptr_t)end; /* the line is full: it says so at its end */
		if (escape)
			*at++ = '\\';
		*at++ = text[i];
	}
	return add ? put(at, end, "\"") : at;
}

/* One whole-number conversion; `spec` is its text with the length modifier, `size` what that says. */
static char *put_number(char *at, const char *end, const char *spec, char size, va_list *values)
{
	char text[64];
	const char kind = spec[strlen(spec) - 1];

	if (kind == 'p')
		snprintf(text, sizeof(text), "%p", va_arg(*values, void *));
	else if (kind == 'c')
		snprintf(text, sizeof(text), "%c", va_arg(*values, int));
	else if (size == 'l' || size == 'z')
		snprintf(text, sizeof(text), spec, va_arg(*values, long)); /* long, long long and size_t are one size here */
	else
		snprintf(text, sizeof(text), spec, va_arg(*values, int));
	return put(at, end, text);
}

/*
 * printf for pairs: like vsnprintf(), but what %s gives is escaped. `*at` is moved on, to `end` when the room did not do.
 */
static char *put_pairs(char *at, const char *end, const char *format, va_list *values)
{
	int quoted = 0;
	char before =
		0; /* a value that begins here follows an equals sign; anything else is a part of one, or pairs made elsewhere */

	while (*format && at < end) {
		if (*format != '%') {
			quoted ^= *format == '"';
			before = *format;
			*at++ = *format++;
			continue;
		}
		char spec[24] = "%";
		size_t n = 1;
		int precision = -1;
		char size = 0;
		for (format++; *format && strchr("-+ #0123456789.*lzhjt", *format); format++) {
			if (*format == '*') {
				precision = va_arg(*values, int);
				continue;
			}
			if (*format == '.' && format[1] >= '0' && format[1] <= '9')
				precision = atoi(format + 1);
			if (strchr("lzjt", *format))
				size = *format == 'z' ? 'z' : 'l';
			if (n < sizeof(spec) - 2)
				spec[n++] = *format;
		}
		if (!*format)
			break;
		spec[n++] = *format;
		if (*format == '%') {
			at = put(at, end, "%");
		} else if (*format == 's') {
			const char *text = va_arg(*values, const char *);
			text = text ? text : "(null)";
			size_t bytes = precision >= 0 ? strnlen(text, (size_t)precision) : strlen(text);
			at = put_value(at, end, text, bytes, quoted, before == '=');
		} else {
			at = put_number(at, end, spec, size, values);
		}
		before = 0;
		format++;
	}
	return at;
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
		va_list values;
		va_start(values, pairs_format);
		at = put_pairs(at, end, pairs_format, &values);
		va_end(values);
		too_long = at == end;
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

uint64_t tp_watchdog_ns(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char *end;

	if (!usec || !getenv("NOTIFY_SOCKET") || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	unsigned long long every_us = strtoull(usec, &end, 10);
	return usec[0] >= '0' && usec[0] <= '9' && !*end && every_us < UINT64_MAX / 1000 ? every_us * 1000 / 2 : 0;
}
