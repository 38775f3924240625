/*
 * GET /api/v1/billing/reports/{id}: a bill as it was issued, its corrections, and the segments that each came from. docs/billing.md. Entered by
 * connection threads.
 */
#include "ctl.h"
#include "ctl_billing_param.h"
#include "ctl_billing_text.h"
#include "ctl_ledger_report.h"
#include "turnpike/sha256.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_ID = 4, LINES_MAX = 1 << 20 };

struct stored {
	struct ctl_report report;
	const struct ctl_zone *zone;
	struct ctl_billing_sum sum; /* a line's period is its revision; 0: of all together */
	struct ctl_report_issue *issue;
	uint32_t issues, issues_max;
	bool no_memory;
};

/* ---- reading ---- */

static bool issue_add(void *context, const struct ctl_report_issue *issue)
{
	struct stored *stored = context;

	if (stored->issues == stored->issues_max) {
		uint32_t max = stored->issues_max ? 2 * stored->issues_max : 8;
		struct ctl_report_issue *larger = realloc(stored->issue, max * sizeof(*larger));
		if (!larger) {
			stored->no_memory = true;
			return false;
		}
		stored->issue = larger;
		stored->issues_max = max;
	}
	stored->issue[stored->issues++] = *issue;
	return true;
}

/* The lines of period 0: all revisions together. */
static bool add_up(struct ctl_billing_sum *sum)
{
	const struct tp_str none = {.at = "", .bytes = 0};
	uint32_t lines = sum->lines;

	for (uint32_t i = 0; i < lines; i++) {
		char campaign[UINT8_MAX];
		struct tp_str name = ctl_billing_campaign(sum, &sum->line[i]);
		struct tp_str copy = {.at = campaign, .bytes = name.bytes};
		/* the keys may move */
		memcpy(campaign, name.at, name.bytes);
		struct ctl_billing_line *all = ctl_billing_line_find(sum, 0, none, copy);
		if (!all)
			return false;
		const struct ctl_billing_counts *counts = &sum->line[i].counts;
		all->counts.impressions += counts->impressions;
		all->counts.clicks += counts->clicks;
		all->counts.flagged_clicks += counts->flagged_clicks;
		all->counts.conversions += counts->conversions;
		all->counts.late += counts->late;
		for (uint32_t at = sum->line[i].spend; at; at = sum->spend[at - 1].next) {
			struct ctl_billing_spend spend = sum->spend[at - 1];
			if (!ctl_billing_spend_add(sum, all, spend.currency, spend.micros))
				return false;
		}
	}
	ctl_billing_sum_sort(sum);
	return true;
}

/* The lines of a revision, as [*first, return). */
static uint32_t lines_of(const struct stored *stored, uint64_t revision, uint32_t *first)
{
	uint32_t at = 0;

	while (at < stored->sum.lines && stored->sum.line[at].period < revision)
		at++;
	*first = at;
	while (at < stored->sum.lines && stored->sum.line[at].period == revision)
		at++;
	return at;
}

/* ---- JSON ---- */

static json_t *lines_json(const struct stored *stored, uint64_t revision)
{
	json_t *lines = json_array();
	uint32_t first, end = lines_of(stored, revision, &first);

	for (uint32_t i = first; i < end; i++) {
		json_t *line = json_object();
		ctl_billing_line_json(line, &stored->sum, &stored->sum.line[i]);
		json_array_append_new(lines, line);
	}
	return lines;
}

static bool segment_add(void *context, uint64_t sequence, const uint8_t sha256[TP_SHA256_BYTES])
{
	char text[2 * TP_SHA256_BYTES + 1];
	json_t *segment = json_object();

	for (int i = 0; i < TP_SHA256_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", sha256[i]);
	json_object_set_new(segment, "sequence", json_integer((json_int_t)sequence));
	json_object_set_new(segment, "sha256", json_string(text));
	return json_array_append_new(context, segment) == 0;
}

static json_t *revision_json(struct ctl *ctl, const struct stored *stored, const struct ctl_report_issue *issue)
{
	json_t *object = json_object(), *segments = json_array();

	int rc = ctl_ledger_report_segments(ctl->ledger, &stored->report, issue, segment_add, segments);
	json_object_set_new(object, "revision", json_integer((json_int_t)issue->revision));
	json_object_set_new(object, "issued", ctl_billing_time_json(ctl_zone_utc(), issue->issued_ms));
	json_object_set_new(object, "lines", lines_json(stored, issue->revision));
	json_object_set_new(object, "segments", segments);
	if (rc == 0)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *stored_json(struct ctl *ctl, const struct stored *stored)
{
	const struct ctl_report *report = &stored->report;
	enum ctl_reconciled reconciled = CTL_RECONCILED_NO;
	json_t *object = json_object(), *corrections = json_array();
	bool failed = false;

	(void)ctl_ledger_reconciled(ctl->ledger, report->start_ms / TP_MINUTE_MS, report->end_ms / TP_MINUTE_MS, NULL, 0,
				    &reconciled);
	json_object_set_new(object, "id", json_string(report->id));
	json_object_set_new(object, "advertiser", ctl_json_text(report->advertiser, report->advertiser_bytes));
	json_object_set_new(object, "period", json_string(ctl_billing_period_name((enum ctl_billing_period)report->period)));
	json_object_set_new(object, "tz", json_string(report->zone));
	json_object_set_new(object, "start", ctl_billing_time_json(stored->zone, report->start_ms));
	json_object_set_new(object, "end", ctl_billing_time_json(stored->zone, report->end_ms));
	json_object_set_new(object, "revision", json_integer((json_int_t)report->revision));
	json_object_set_new(object, "reconciled", json_boolean(reconciled == CTL_RECONCILED_YES));
	json_object_set_new(object, "items", lines_json(stored, 0));
	for (uint32_t i = 0; i < stored->issues && !failed; i++) {
		json_t *revision = revision_json(ctl, stored, &stored->issue[i]);
		failed = !revision;
		if (stored->issue[i].revision == 1)
			json_object_set_new(object, "report", revision);
		else
			json_array_append_new(corrections, revision);
	}
	json_object_set_new(object, "corrections", corrections);
	if (!failed)
		return object;
	json_decref(object);
	return NULL;
}

/* ---- CSV ---- */

static void stored_csv(const struct stored *stored, FILE *to)
{
	char start[CTL_ZONE_TEXT_BYTES], end[CTL_ZONE_TEXT_BYTES], issued[CTL_ZONE_TEXT_BYTES];

	ctl_zone_text(stored->zone, stored->report.start_ms, start);
	ctl_zone_text(stored->zone, stored->report.end_ms, end);
	fprintf(to, "report,revision,issued,kind,start,end,%s\r\n", ctl_billing_line_csv_header);
	for (uint32_t i = 0; i < stored->issues; i++) {
		const struct ctl_report_issue *issue = &stored->issue[i];
		uint32_t first, stop = lines_of(stored, issue->revision, &first);
		ctl_zone_text(ctl_zone_utc(), issue->issued_ms, issued);
		for (uint32_t at = first; at < stop; at++) {
			fprintf(to, "%s,%" PRIu64 ",%s,%s,%s,%s,", stored->report.id, issue->revision, issued,
				issue->revision == 1 ? "report" : "correction", start, end);
			ctl_billing_line_csv(to, &stored->sum, &stored->sum.line[at]);
			fputs("\r\n", to);
		}
	}
}

/* ---- the request ---- */

static int stored_read(struct ctl *ctl, const char *id, const char *only, struct stored *stored)
{
	int rc = ctl_ledger_report(ctl->ledger, id, &stored->report);
	if (rc != 0)
		return rc;
	/* somebody else's is not there, as one that never was */
	if (only && (strlen(only) != stored->report.advertiser_bytes ||
		     memcmp(only, stored->report.advertiser, stored->report.advertiser_bytes) != 0))
		return -ENOENT;
	stored->zone = ctl_zone_find(stored->report.zone, strlen(stored->report.zone));
	if (!stored->zone)
		stored->zone = ctl_zone_utc();
	rc = ctl_ledger_issues(ctl->ledger, id, issue_add, stored);
	if (rc == 0)
		rc = ctl_ledger_lines(ctl->ledger, id, &stored->sum);
	if (rc == 0 && (stored->no_memory || !add_up(&stored->sum)))
		rc = -ENOMEM;
	return rc;
}

void ctl_billing_report(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct stored stored = {.sum = {.lines_max = LINES_MAX}};
	const struct ctl_text *format = target->params == 1 ? ctl_target_param(target, "format") : NULL;
	bool csv = format ? ctl_text_is(format, "csv") : ctl_accept_csv(ctl_target_header(target, "Accept"));
	char id[CTL_REPORT_ID_BYTES + 1];

	if (target->params && (!format || (!csv && !ctl_text_is(format, "json")))) {
		ctl_reply_problem(reply, 400, "bad-parameter", format ? "format" : target->param[0].name.at,
				  "expected format=json or format=csv, and nothing else");
		return;
	}
	const struct ctl_text *name = &target->segment[SEGMENT_ID];
	bool good = name->bytes == CTL_REPORT_ID_BYTES && strspn(name->at, "0123456789abcdef") == CTL_REPORT_ID_BYTES;
	if (good)
		memcpy(id, name->at, sizeof(id));
	int rc = good ? stored_read(ctl, id, target->only, &stored) : -ENOENT;
	if (rc == 0 && csv) {
		FILE *to = open_memstream(&reply->body, &reply->body_bytes);
		if (to)
			stored_csv(&stored, to);
		if (!to || ferror(to))
			rc = -ENOMEM;
		if (to && fclose(to) != 0)
			rc = -ENOMEM;
		reply->status = 200;
		reply->type = "text/csv; charset=utf-8; header=present";
		ctl_reply_header(reply, "Content-Disposition", "attachment; filename=\"%s.csv\"", stored.report.id);
	} else if (rc == 0) {
		json_t *object = stored_json(ctl, &stored);
		if (object)
			ctl_reply_json(reply, object);
		else
			rc = -EIO;
	}
	if (rc == -ENOENT)
		ctl_reply_problem(reply, 404, "not-found", NULL, "no bill of that id was issued");
	else if (rc == -ENOMEM || rc == -ECANCELED)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else if (rc == -EIDRM)
		ctl_reply_problem(reply, 503, "no-ledger", NULL, CTL_LEDGER_GONE);
	else if (rc != 0)
		ctl_reply_problem(reply, 503, "no-ledger", NULL, "the ledger cannot be read now: %s", strerror(-rc));
	else
		ctl_reply_header(reply, "Vary", "Accept");
	ctl_billing_sum_fini(&stored.sum);
	free(stored.issue);
}
