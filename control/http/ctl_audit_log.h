/*
 * The audit log: administrative acts, logins and failed logins, one JSON object a line, in <control.state_dir>/audit.log (mode 0600). Only ever
 * appended to, each line synced, by the control process and by turnpikectl; a lock on the file keeps their lines apart. Any thread.
 *
 *   {"time":"2026-11-22T06:00:00.123Z","who":"token 0123456789ab","scope":"admin","from":"192.0.2.7","act":"POST /api/v1/blocklist",
 *    "detail":"{\"prefix\":…}","result":"begun"}
 *
 * An act that changes something has two lines: "begun" before it, and its result after it, so that none can happen unlogged.
 */
#ifndef TURNPIKE_CTL_AUDIT_LOG_H
#define TURNPIKE_CTL_AUDIT_LOG_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { CTL_AUDIT_DETAIL_BYTES = 512, CTL_AUDIT_ITEMS_MAX = 1000 };

struct ctl_act {
	const char *who, *scope, *from, *act, *result; /* scope NULL: none */
	const char *detail;                            /* cut to CTL_AUDIT_DETAIL_BYTES; need not be text */
	size_t detail_bytes;
	uint32_t unlogged; /* acts of this kind that were left out before this one, because they were too many */
};

/* Appends a line and syncs it. 0 or -errno; then the log is as it was. */
int ctl_audit_log_add(const char *state_dir, const struct ctl_act *act);

/*
 * {"items":[…],"cursor":…}: the `limit` newest lines before `before` (a cursor; UINT64_MAX: all), newest first. A line that is damaged is
 * {"damaged":"…"}. NULL: -*error. No file: no items.
 */
json_t *ctl_audit_log_read(const char *state_dir, uint64_t before, uint32_t limit, int *error);

#endif
