/*
 * Log lines on standard error: one line each, level=… msg=… and further key=value pairs, values quoted where needed.
 * Cold code only; any thread; one write(2) a line.
 */
#ifndef TURNPIKE_LOG_H
#define TURNPIKE_LOG_H

#include <stddef.h>

enum tp_level { TP_DEBUG, TP_INFO, TP_WARN, TP_ERROR };

void tp_log_level_set(enum tp_level least);
void tp_log_program_set(const char *name); /* program=… on each line */

void tp_logf(enum tp_level level, const char *msg, const char *pairs_format, ...) __attribute__((format(printf, 3, 4)));
/* pairs_format is like "path=%s error=%s"; values with spaces are the caller's to quote with "\"%s\"". */

/* Says READY=1 (or another state) to systemd's NOTIFY_SOCKET, if there is one. */
void tp_notify(const char *state);

#endif
