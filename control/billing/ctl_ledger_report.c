/* Bills in the ledger: see ctl_ledger_report.h. Any thread. */
#include "ctl_ledger_report.h"

#include "ctl_billing_text.h"
#include "ctl_ledger_sql.h"
#include "turnpike/sha256.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SPEND_TEXT_BYTES = 16384, CURRENCY_BYTES = 3 };

void ctl_report_name(struct ctl_report *report)
{
	uint8_t digest[TP_SHA256_BYTES];
	char about[64];
	struct tp_sha256 hash;

	/* the texts are told apart by their length; an advertiser holds any byte */
	int bytes = snprintf(about, sizeof(about), "%zu %zu %u %" PRIu64 ":", report->advertiser_bytes, strlen(report->zone),
			     report->period, report->start_ms);
	tp_sha256_init(&hash);
	tp_sha256_add(&hash, about, (size_t)bytes);
	tp_sha256_add(&hash, report->advertiser, report->advertiser_bytes);
	tp_sha256_add(&hash, report->zone, strlen(report->zone));
	tp_sha256_fini(&hash, digest);
	for (int i = 0; i < CTL_REPORT_ID_BYTES / 2; i++)
		snprintf(report->id + 2 * i, 3, "%02x", digest[i]);
}

int ctl_ledger_hold(struct ctl_ledger *ledger)
{
	ledger_lock(ledger);
	int rc = ledger_begin(ledger);
	if (rc != 0)
		ledger_unlock(ledger);
	return rc;
}

/* PRAGMA data_version: moves when another connection has committed, never by what this one does. With the lock. */
static int version_get(struct ctl_ledger *ledger, uint64_t *version)
{
	sqlite3_stmt *get = ledger_statement(ledger, SQL_VERSION);
	int rc = ledger_next(ledger, get);

	if (rc > 0)
		*version = ledger_column_u64(get, 0);
	if (get)
		sqlite3_reset(get);
	return rc > 0 ? 0 : rc == 0 ? -EIO : rc;
}

int ctl_ledger_version(struct ctl_ledger *ledger, uint64_t *version)
{
	ledger_lock(ledger);
	int rc = version_get(ledger, version);
	ledger_unlock(ledger);
	return rc;
}

int ctl_ledger_hold_if(struct ctl_ledger *ledger, uint64_t version)
{
	uint64_t now;

	int rc = ctl_ledger_hold(ledger);
	if (rc != 0)
		return rc;
	/* the transaction has begun: nobody else writes from here on */
	rc = version_get(ledger, &now);
	if (rc == 0 && now != version)
		rc = -EALREADY;
	return rc ? ctl_ledger_release(ledger, rc) : 0;
}

int ctl_ledger_release(struct ctl_ledger *ledger, int rc)
{
	rc = ledger_end(ledger, rc);
	ledger_unlock(ledger);
	return rc;
}

/* ---- writing ---- */

static int line_put(struct ctl_ledger *ledger, const char *id, uint64_t revision, const struct ctl_billing_sum *sum,
		    const struct ctl_billing_line *line)
{
	struct tp_str campaign = ctl_billing_campaign(sum, line);
	sqlite3_stmt *put = ledger_statement(ledger, SQL_LINE_PUT);
	char spend[SPEND_TEXT_BYTES];

	ctl_billing_spend_text(sum, line, spend, sizeof(spend));
	ledger_bind_text(put, 1, id);
	ledger_bind_u64(put, 2, revision);
	ledger_bind_bytes(put, 3, campaign.at, campaign.bytes);
	ledger_bind_u64(put, 4, (uint64_t)line->counts.impressions);
	ledger_bind_u64(put, 5, (uint64_t)line->counts.clicks);
	ledger_bind_u64(put, 6, (uint64_t)line->counts.flagged_clicks);
	ledger_bind_u64(put, 7, (uint64_t)line->counts.conversions);
	ledger_bind_u64(put, 8, (uint64_t)line->counts.late);
	ledger_bind_text(put, 9, spend);
	return ledger_run(ledger, put);
}

static int revision_put(struct ctl_ledger *ledger, const char *id, const struct ctl_report_issue *issue, const uint64_t *segment,
			uint32_t segments, const struct ctl_billing_sum *sum, uint32_t first, uint32_t count)
{
	sqlite3_stmt *put = ledger_statement(ledger, SQL_ISSUE_PUT);

	ledger_bind_text(put, 1, id);
	ledger_bind_u64(put, 2, issue->revision);
	ledger_bind_u64(put, 3, issue->issued_ms);
	ledger_bind_u64(put, 4, issue->sequence);
	ledger_bind_bytes(put, 5, segment, segments * sizeof(*segment));
	int rc = ledger_run(ledger, put);
	for (uint32_t i = first; i < first + count && rc == 0; i++)
		rc = line_put(ledger, id, issue->revision, sum, &sum->line[i]);
	return rc;
}

int ctl_ledger_report_put(struct ctl_ledger *ledger, const struct ctl_report *report, uint64_t issued_ms,
			  const struct ctl_billing_sum *sum, uint32_t first, uint32_t count)
{
	const struct ctl_report_issue issue = {.revision = 1, .issued_ms = issued_ms, .sequence = report->sequence};
	sqlite3_stmt *put = ledger_statement(ledger, SQL_REPORT_PUT);

	ledger_bind_text(put, 1, report->id);
	ledger_bind_bytes(put, 2, report->advertiser, report->advertiser_bytes);
	ledger_bind_u64(put, 3, report->period);
	ledger_bind_text(put, 4, report->zone);
	ledger_bind_u64(put, 5, report->start_ms);
	ledger_bind_u64(put, 6, report->end_ms);
	ledger_bind_u64(put, 7, report->sequence);
	int rc = ledger_run(ledger, put);
	if (rc != 0)
		return rc;
	if (sqlite3_changes(sqlite3_db_handle(put)) == 0)
		return -EEXIST;
	return revision_put(ledger, report->id, &issue, NULL, 0, sum, first, count);
}

int ctl_ledger_correction_put(struct ctl_ledger *ledger, const struct ctl_report *report, uint64_t issued_ms, uint64_t sequence,
			      const struct ctl_billing_sum *sum, uint32_t first, uint32_t count, const uint64_t *segment,
			      uint32_t segments)
{
	const struct ctl_report_issue issue = {.revision = report->revision + 1, .issued_ms = issued_ms, .sequence = sequence};
	sqlite3_stmt *put = ledger_statement(ledger, SQL_REPORT_REVISE);

	ledger_bind_u64(put, 1, issue.revision);
	ledger_bind_u64(put, 2, sequence);
	ledger_bind_text(put, 3, report->id);
	int rc = ledger_run(ledger, put);
	return rc ? rc : revision_put(ledger, report->id, &issue, segment, segments, sum, first, count);
}

int ctl_ledger_schedule_put(struct ctl_ledger *ledger, uint32_t period, const char *zone, uint64_t from_ms, uint64_t until_ms)
{
	sqlite3_stmt *put = ledger_statement(ledger, SQL_SCHEDULE_PUT);

	ledger_bind_u64(put, 1, period);
	ledger_bind_text(put, 2, zone);
	ledger_bind_u64(put, 3, from_ms);
	ledger_bind_u64(put, 4, until_ms);
	return ledger_run(ledger, put);
}

/* ---- reading ---- */

/* 0 with the first row taken in by `take`; -ENOENT; -errno. With the lock. */
static int first_row(struct ctl_ledger *ledger, sqlite3_stmt *statement, void (*take)(sqlite3_stmt *statement, void *to), void *to)
{
	int rc = ledger_next(ledger, statement);
	if (rc > 0)
		take(statement, to);
	if (statement)
		sqlite3_reset(statement);
	return rc > 0 ? 0 : rc == 0 ? -ENOENT : rc;
}

static void schedule_take(sqlite3_stmt *statement, void *to)
{
	uint64_t *span = to;

	span[0] = ledger_column_u64(statement, 0);
	span[1] = ledger_column_u64(statement, 1);
}

int ctl_ledger_schedule(struct ctl_ledger *ledger, uint32_t period, const char *zone, uint64_t *from_ms, uint64_t *until_ms)
{
	uint64_t span[2] = {0, 0};

	ledger_lock(ledger);
	sqlite3_stmt *get = ledger_statement(ledger, SQL_SCHEDULE_GET);
	ledger_bind_u64(get, 1, period);
	ledger_bind_text(get, 2, zone);
	int rc = first_row(ledger, get, schedule_take, span);
	ledger_unlock(ledger);
	*from_ms = span[0];
	*until_ms = span[1];
	return rc;
}

int ctl_ledger_schedule_last(struct ctl_ledger *ledger, uint64_t *until_ms)
{
	uint64_t span[2] = {0, 0};

	ledger_lock(ledger);
	int rc = first_row(ledger, ledger_statement(ledger, SQL_SCHEDULE_LAST), schedule_take, span);
	ledger_unlock(ledger);
	*until_ms = span[1];
	return rc;
}

static void report_take(sqlite3_stmt *statement, void *to)
{
	struct ctl_report *report = to;

	*report = (struct ctl_report){
		.period = (uint32_t)ledger_column_u64(statement, 2),
		.start_ms = ledger_column_u64(statement, 4),
		.end_ms = ledger_column_u64(statement, 5),
		.revision = ledger_column_u64(statement, 6),
		.sequence = ledger_column_u64(statement, 7),
	};
	ledger_column_copy(statement, 0, report->id, sizeof(report->id) - 1);
	ledger_column_copy(statement, 1, report->advertiser, sizeof(report->advertiser) - 1);
	report->advertiser_bytes = (size_t)sqlite3_column_bytes(statement, 1);
	if (report->advertiser_bytes > CTL_REPORT_ADVERTISER_BYTES)
		report->advertiser_bytes = CTL_REPORT_ADVERTISER_BYTES;
	ledger_column_copy(statement, 3, report->zone, sizeof(report->zone) - 1);
}

int ctl_ledger_report(struct ctl_ledger *ledger, const char *id, struct ctl_report *report)
{
	ledger_lock(ledger);
	sqlite3_stmt *get = ledger_statement(ledger, SQL_REPORT_GET);
	ledger_bind_text(get, 1, id);
	int rc = first_row(ledger, get, report_take, report);
	ledger_unlock(ledger);
	return rc;
}

int ctl_ledger_reports_at(struct ctl_ledger *ledger, const char *advertiser, size_t advertiser_bytes, uint64_t ms,
			  struct ctl_report *report, uint32_t room, uint32_t *count)
{
	int rc;

	*count = 0;
	ledger_lock(ledger);
	sqlite3_stmt *list = ledger_statement(ledger, SQL_REPORT_AT);
	ledger_bind_bytes(list, 1, advertiser, advertiser_bytes);
	ledger_bind_u64(list, 2, ms);
	ledger_bind_u64(list, 3, room);
	while ((rc = ledger_next(ledger, list)) > 0 && *count < room)
		report_take(list, &report[(*count)++]);
	if (list)
		sqlite3_reset(list);
	ledger_unlock(ledger);
	return rc < 0 ? rc : 0;
}

int ctl_ledger_issues(struct ctl_ledger *ledger, const char *id, ctl_report_issue_fn fn, void *context)
{
	int rc;

	ledger_lock(ledger);
	sqlite3_stmt *list = ledger_statement(ledger, SQL_ISSUE_LIST);
	ledger_bind_text(list, 1, id);
	while ((rc = ledger_next(ledger, list)) > 0) {
		const struct ctl_report_issue issue = {.revision = ledger_column_u64(list, 0),
						       .issued_ms = ledger_column_u64(list, 1),
						       .sequence = ledger_column_u64(list, 2)};
		if (!fn(context, &issue))
			break;
	}
	if (list)
		sqlite3_reset(list);
	ledger_unlock(ledger);
	return rc < 0 ? rc : 0;
}

/* "EUR=1.500000 USD=0.250000", as ctl_billing_spend_text() wrote it. */
static bool spend_take(struct ctl_billing_sum *sum, struct ctl_billing_line *line, const char *text)
{
	while (*text) {
		size_t bytes = strcspn(text, " ");
		if (bytes <= CURRENCY_BYTES || text[CURRENCY_BYTES] != '=')
			return true;
		if (!ctl_billing_spend_add(sum, line, text, ledger_micros(text + CURRENCY_BYTES + 1, bytes - CURRENCY_BYTES - 1)))
			return false;
		text += bytes + (text[bytes] == ' ');
	}
	return true;
}

static bool line_take(sqlite3_stmt *list, struct ctl_billing_sum *sum)
{
	const struct tp_str none = {.at = "", .bytes = 0};
	const char *at = sqlite3_column_blob(list, 1), *spend = (const char *)sqlite3_column_text(list, 7);
	int bytes = sqlite3_column_bytes(list, 1);
	struct tp_str campaign = {.at = at ? at : "", .bytes = (uint16_t)(bytes <= UINT8_MAX ? bytes : UINT8_MAX)};

	struct ctl_billing_line *line = ctl_billing_line_find(sum, (uint32_t)ledger_column_u64(list, 0), none, campaign);
	if (!line)
		return false;
	line->counts = (struct ctl_billing_counts){
		.impressions = sqlite3_column_int64(list, 2),
		.clicks = sqlite3_column_int64(list, 3),
		.flagged_clicks = sqlite3_column_int64(list, 4),
		.conversions = sqlite3_column_int64(list, 5),
		.late = sqlite3_column_int64(list, 6),
	};
	return spend_take(sum, line, spend ? spend : "");
}

int ctl_ledger_lines(struct ctl_ledger *ledger, const char *id, struct ctl_billing_sum *sum)
{
	int rc;
	bool taken = true;

	ledger_lock(ledger);
	sqlite3_stmt *list = ledger_statement(ledger, SQL_LINE_LIST);
	ledger_bind_text(list, 1, id);
	while ((rc = ledger_next(ledger, list)) > 0 && taken)
		taken = line_take(list, sum);
	if (list)
		sqlite3_reset(list);
	ledger_unlock(ledger);
	return rc < 0 ? rc : taken ? 0 : -ECANCELED;
}

/* ---- the segments of a revision ---- */

static bool segment_tell(sqlite3_stmt *row, ctl_report_segment_fn fn, void *context)
{
	uint8_t sha256[TP_SHA256_BYTES];

	ledger_column_copy(row, 1, sha256, sizeof(sha256));
	return fn(context, ledger_column_u64(row, 0), sha256);
}

/* Revision 1: all that reach into the period. */
static int first_segments(struct ctl_ledger *ledger, const struct ctl_report *report, const struct ctl_report_issue *issue,
			  ctl_report_segment_fn fn, void *context)
{
	sqlite3_stmt *list = ledger_statement(ledger, SQL_SEGMENT_LIST);
	int rc;

	ledger_bind_u64(list, 1, report->start_ms / TP_MINUTE_MS);
	ledger_bind_u64(list, 2, report->end_ms / TP_MINUTE_MS);
	ledger_bind_u64(list, 3, issue->sequence);
	while ((rc = ledger_next(ledger, list)) > 0)
		if (!segment_tell(list, fn, context))
			break;
	if (list)
		sqlite3_reset(list);
	return rc < 0 ? rc : 0;
}

/* A correction: those that it names. */
static int later_segments(struct ctl_ledger *ledger, const struct ctl_report *report, const struct ctl_report_issue *issue,
			  ctl_report_segment_fn fn, void *context)
{
	sqlite3_stmt *names = ledger_statement(ledger, SQL_ISSUE_SEGMENTS);
	bool go_on = true;

	ledger_bind_text(names, 1, report->id);
	ledger_bind_u64(names, 2, issue->revision);
	int rc = ledger_next(ledger, names);
	const char *bytes = rc > 0 ? sqlite3_column_blob(names, 0) : NULL;
	size_t count = rc > 0 && bytes ? (size_t)sqlite3_column_bytes(names, 0) / sizeof(uint64_t) : 0;
	for (size_t i = 0; i < count && rc > 0 && go_on; i++) {
		uint64_t sequence;
		memcpy(&sequence, bytes + i * sizeof(sequence), sizeof(sequence));
		sqlite3_stmt *get = ledger_statement(ledger, SQL_SEGMENT_GET);
		ledger_bind_u64(get, 1, sequence);
		int found = ledger_next(ledger, get);
		if (found > 0)
			go_on = segment_tell(get, fn, context);
		if (get)
			sqlite3_reset(get);
		if (found < 0)
			rc = found;
	}
	if (names)
		sqlite3_reset(names);
	return rc < 0 ? rc : 0;
}

int ctl_ledger_report_segments(struct ctl_ledger *ledger, const struct ctl_report *report, const struct ctl_report_issue *issue,
			       ctl_report_segment_fn fn, void *context)
{
	ledger_lock(ledger);
	int rc = issue->revision == 1 ? first_segments(ledger, report, issue, fn, context)
				      : later_segments(ledger, report, issue, fn, context);
	ledger_unlock(ledger);
	return rc;
}
