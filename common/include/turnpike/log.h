/*
 * Log lines on standard error: one line each, level=… msg=… and further key=value pairs, values quoted where needed.
 * Cold code only; any thread; one write(2) a line.
 */
#ifndef TURNPIKE_LOG_H
#define TURNPIKE_LOG_H

#include <stddef.h>
#include <stdint.h>

enum tp_level { TP_DEBUG, TP_INFO, TP_WARN, TP_ERROR };

void tp_log_level_set(enum tp_level least);
void tp_log_program_set(const char *name); /* program=… on each line */

void tp_logf(enum tp_level level, const char *msg, const char *pairs_format, ...) __attribute__((format(printf, 3, 4)));
/*
 * pairs_format is like "path=%s bytes=%zu error=\"%s\"". Whatever a %s holds stays one value: quotes and backslashes in it are escaped, and
 * one that stands without quotes gets them when it needs them. Conversions: d i u x c s p and %%, with width, precision and l ll z h hh;
 * no floating point.
 */

/* Says READY=1 (or another state) to systemd's NOTIFY_SOCKET, if there is one. */
void tp_notify(const char *state);
/* How often WATCHDOG=1 has to be said, in ns, with a factor of two to spare; 0: nobody waits for it. Source: sd_watchdog_enabled(3). */
uint64_t tp_watchdog_ns(void);

#endif
