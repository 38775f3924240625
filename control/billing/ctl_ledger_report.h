/*
 * Bills in the ledger: issued once, never changed, corrected by lines of a later revision. See ctl_ledger.h for the file and its lock.
 *
 *   revision 1     lines as they were issued; they came from every segment that reaches into the period, up to a sequence
 *   revision 2 …   corrections: differences to what was said before, and the segments that brought them
 *   the bill       the sum of all its revisions
 */
#ifndef TURNPIKE_CTL_LEDGER_REPORT_H
#define TURNPIKE_CTL_LEDGER_REPORT_H

#include "ctl_billing_sum.h"
#include "ctl_ledger.h"

enum { CTL_REPORT_ID_BYTES = 20, CTL_REPORT_ZONE_BYTES = 64, CTL_REPORT_ADVERTISER_BYTES = 64 };

struct ctl_report {
	char id[CTL_REPORT_ID_BYTES + 1]; /* of what it is about: see ctl_report_name() */
	char advertiser[CTL_REPORT_ADVERTISER_BYTES + 1];
	size_t advertiser_bytes;
	uint32_t period; /* enum ctl_billing_period */
	char zone[CTL_REPORT_ZONE_BYTES + 1];
	uint64_t start_ms, end_ms;
	uint64_t revision; /* the last */
	uint64_t sequence; /* segments up to this one are in it */
};

/* Fills in the id: 20 hexadecimal digits of a hash over advertiser, period, zone and start. It means the same for ever, in any ledger. */
void ctl_report_name(struct ctl_report *report);

/* A revision of a report. */
struct ctl_report_issue {
	uint64_t revision, issued_ms;
	uint64_t sequence; /* the last segment that was looked at */
};

/* ---- writing: between hold and release, which are one transaction under the lock ---- */

int ctl_ledger_hold(struct ctl_ledger *ledger); /* 0: held; -errno: not held */
/*
 * Two processes may issue at once: the control process, and an operator's `turnpikectl billing issue`. Who writes what follows from what was read
 * asks for the version before the first look, and holds the ledger only if nobody else has written since (-EALREADY: look again). One of two
 * always gets on.
 */
int ctl_ledger_version(struct ctl_ledger *ledger, uint64_t *version); /* 0 or -errno */
int ctl_ledger_hold_if(struct ctl_ledger *ledger, uint64_t version);
int ctl_ledger_release(struct ctl_ledger *ledger, int rc); /* commits; with rc != 0 takes all back. rc, or why it did not go */

/* ctl_ledger_segment_store(), in a hold. */
int ctl_ledger_segment_put(struct ctl_ledger *ledger, const struct ctl_ledger_segment *segment);
/* Revision 1 of a report, with `count` lines of the sum from `first` on. 0; -EEXIST: it was issued before; another -errno. */
int ctl_ledger_report_put(struct ctl_ledger *ledger, const struct ctl_report *report, uint64_t issued_ms,
			  const struct ctl_billing_sum *sum, uint32_t first, uint32_t count);
/*
 * The next revision, report->revision + 1: differences, and the segments that brought them. `sequence` is the last segment that was looked
 * at.
 */
int ctl_ledger_correction_put(struct ctl_ledger *ledger, const struct ctl_report *report, uint64_t issued_ms, uint64_t sequence,
			      const struct ctl_billing_sum *sum, uint32_t first, uint32_t count, const uint64_t *segment,
			      uint32_t segments);
/* How far the bills of a period and zone were issued: [from_ms, until_ms). */
int ctl_ledger_schedule_put(struct ctl_ledger *ledger, uint32_t period, const char *zone, uint64_t from_ms, uint64_t until_ms);

/* ---- reading ---- */

/* 0; -ENOENT: it has not begun; -errno. */
int ctl_ledger_schedule(struct ctl_ledger *ledger, uint32_t period, const char *zone, uint64_t *from_ms, uint64_t *until_ms);
/* Where the furthest schedule ends: no bill is of later minutes. 0 or -errno. */
int ctl_ledger_schedule_last(struct ctl_ledger *ledger, uint64_t *until_ms);
/* By its id. 0; -ENOENT; -errno. */
int ctl_ledger_report(struct ctl_ledger *ledger, const char *id, struct ctl_report *report);
/* Up to `room` reports of an advertiser that hold an instant, in *count. 0 or -errno. */
int ctl_ledger_reports_at(struct ctl_ledger *ledger, const char *advertiser, size_t advertiser_bytes, uint64_t ms,
			  struct ctl_report *report, uint32_t room, uint32_t *count);
/* Its revisions, in order. fn false: enough. 0 or -errno. */
typedef bool (*ctl_report_issue_fn)(void *context, const struct ctl_report_issue *issue);
int ctl_ledger_issues(struct ctl_ledger *ledger, const char *id, ctl_report_issue_fn fn, void *context);
/* Its lines into a sum: the `period` of a line is its revision. 0; -ECANCELED: the sum says why; -errno. */
int ctl_ledger_lines(struct ctl_ledger *ledger, const char *id, struct ctl_billing_sum *sum);
/* The segments that a revision came from, by sequence. fn false: enough. 0 or -errno. */
typedef bool (*ctl_report_segment_fn)(void *context, uint64_t sequence, const uint8_t sha256[32]);
int ctl_ledger_report_segments(struct ctl_ledger *ledger, const struct ctl_report *report, const struct ctl_report_issue *issue,
			       ctl_report_segment_fn fn, void *context);

#endif
