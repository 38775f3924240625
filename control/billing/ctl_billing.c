/*
 * GET /api/v1/billing/reports: the bills of an advertiser, one row per period and campaign, from the figures as they are now.
 * Contract sections 4 and 7; docs/billing.md. Entered by connection threads.
 *
 * It changes nothing: what was issued is the ledger's, and a row only says which report it is in.
 */
#include "ctl.h"
#include "ctl_billing_param.h"
#include "ctl_billing_read.h"
#include "ctl_billing_text.h"
#include "ctl_ledger_report.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What is the same for all rows of a period. */
struct period {
	bool final;
	enum ctl_reconciled reconciled;
	char report[CTL_REPORT_ID_BYTES + 1]; /* "": none was issued */
};

struct bill {
	const struct ctl_billing_ask *ask;
	struct ctl_billing_sum sum;
	struct ctl_facts facts;
	struct period period[CTL_BILLING_PERIODS_MAX];
	uint64_t bound[CTL_BILLING_PERIODS_MAX + 1]; /* minutes */
	bool fresh[CTL_BILLING_PERIODS_MAX];
};

/* ---- what there is ---- */

static int figures_read(struct ctl *ctl, struct bill *bill)
{
	struct ctl_store *store;
	struct ctl_look look;
	uint64_t seen = 0;

	/* before the snapshot: a segment that comes in between is one more to be taken for new, not one less */
	int rc = ctl_ledger_segment_last(ctl->ledger, &seen);
	if (rc != 0)
		return rc;
	rc = ctl_store_pool_take(ctl->stores, &store);
	if (rc != 0)
		return rc;
	ctl_look_take(ctl->views, &look);
	rc = ctl_billing_read(store, look.figures, &bill->sum, &bill->facts);
	if (rc == 0)
		ctl_billing_fresh(store, look.figures, seen, bill->bound, bill->ask->periods, bill->fresh);
	ctl_look_give(ctl->views, &look);
	ctl_store_pool_give(ctl->stores, store);
	return rc;
}

/* The bill of a period, if it was issued: its id says what it is about. */
static int report_find(struct ctl *ctl, const struct ctl_billing_ask *ask, uint32_t index, struct period *period)
{
	struct ctl_report report = {
		.period = ask->period, .start_ms = ask->bound_ms[index], .advertiser_bytes = ask->advertiser_bytes};

	memcpy(report.advertiser, ask->advertiser, ask->advertiser_bytes);
	strncpy(report.zone, ctl_zone_name(ask->zone), sizeof(report.zone) - 1);
	ctl_report_name(&report);
	int rc = ctl_ledger_report(ctl->ledger, report.id, &report);
	if (rc == 0)
		memcpy(period->report, report.id, sizeof(period->report));
	return rc == -ENOENT ? 0 : rc;
}

static int periods_judge(struct ctl *ctl, struct bill *bill)
{
	for (uint32_t i = 0; i < bill->ask->periods; i++) {
		struct period *period = &bill->period[i];
		period->final = bill->ask->bound_ms[i + 1] <= bill->facts.watermark_ms;
		int found = period->final ? report_find(ctl, bill->ask, i, period) : 0;
		if (found != 0)
			return found;
		period->reconciled = CTL_RECONCILED_NO;
		if (!period->final || bill->fresh[i])
			continue;
		int rc = ctl_ledger_reconciled(ctl->ledger, bill->bound[i], bill->bound[i + 1], NULL, 0, &period->reconciled);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Where something of the period differs, whether it is this campaign. */
static bool line_reconciled(struct ctl *ctl, const struct bill *bill, const struct ctl_billing_line *line)
{
	const struct period *period = &bill->period[line->period];
	struct tp_str campaign = ctl_billing_campaign(&bill->sum, line);
	enum ctl_reconciled reconciled = period->reconciled;

	if (reconciled == CTL_RECONCILED_DIFFERS &&
	    ctl_ledger_reconciled(ctl->ledger, bill->bound[line->period], bill->bound[line->period + 1], campaign.at,
				  campaign.bytes, &reconciled) != 0)
		return false;
	return reconciled == CTL_RECONCILED_YES;
}

/* ---- what is said of it ---- */

static json_t *bill_json(struct ctl *ctl, const struct bill *bill)
{
	const struct ctl_billing_ask *ask = bill->ask;
	json_t *object = json_object(), *items = json_array();

	for (uint32_t i = 0; i < bill->sum.lines; i++) {
		const struct ctl_billing_line *line = &bill->sum.line[i];
		json_t *item = json_object();
		json_object_set_new(item, "start", ctl_billing_time_json(ask->zone, ask->bound_ms[line->period]));
		json_object_set_new(item, "end", ctl_billing_time_json(ask->zone, ask->bound_ms[line->period + 1]));
		ctl_billing_line_json(item, &bill->sum, line);
		json_object_set_new(item, "final", json_boolean(bill->period[line->period].final));
		json_object_set_new(item, "revision", json_integer(1 + line->counts.late));
		json_object_set_new(item, "reconciled", json_boolean(line_reconciled(ctl, bill, line)));
		json_object_set_new(item, "report",
				    bill->period[line->period].report[0] ? json_string(bill->period[line->period].report)
									 : json_null());
		json_array_append_new(items, item);
	}
	json_object_set_new(object, "advertiser", json_stringn(ask->advertiser, ask->advertiser_bytes));
	json_object_set_new(object, "period", json_string(ctl_billing_period_name(ask->period)));
	json_object_set_new(object, "tz", json_string(ctl_zone_name(ask->zone)));
	json_object_set_new(object, "from", ctl_billing_time_json(ask->zone, ask->bound_ms[0]));
	json_object_set_new(object, "to", ctl_billing_time_json(ask->zone, ask->bound_ms[ask->periods]));
	json_object_set_new(object, "watermark", ctl_billing_time_json(ctl_zone_utc(), bill->facts.watermark_ms));
	json_object_set_new(object, "items", items);
	return object;
}

static void bill_csv(struct ctl *ctl, const struct bill *bill, struct ctl_reply *reply)
{
	const struct ctl_billing_ask *ask = bill->ask;
	char *text = NULL, start[CTL_ZONE_TEXT_BYTES], end[CTL_ZONE_TEXT_BYTES];
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);

	if (to) {
		fprintf(to, "start,end,%s,final,revision,reconciled,report\r\n", ctl_billing_line_csv_header);
		for (uint32_t i = 0; i < bill->sum.lines; i++) {
			const struct ctl_billing_line *line = &bill->sum.line[i];
			ctl_zone_text(ask->zone, ask->bound_ms[line->period], start);
			ctl_zone_text(ask->zone, ask->bound_ms[line->period + 1], end);
			fprintf(to, "%s,%s,", start, end);
			ctl_billing_line_csv(to, &bill->sum, line);
			fprintf(to, ",%s,%lld,%s,%s\r\n", bill->period[line->period].final ? "true" : "false",
				1 + (long long)line->counts.late, line_reconciled(ctl, bill, line) ? "true" : "false",
				bill->period[line->period].report);
		}
	}
	bool failed = !to || ferror(to);
	if (to && fclose(to) != 0)
		failed = true;
	if (failed) {
		free(text);
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	reply->status = 200;
	reply->type = "text/csv; charset=utf-8; header=present";
	reply->body = text;
	reply->body_bytes = bytes;
	ctl_reply_header(reply, "Content-Disposition", "attachment; filename=\"%s.csv\"", ctl_billing_period_name(ask->period));
}

static void fail(struct ctl_reply *reply, int rc, const struct bill *bill)
{
	if (bill->sum.too_many)
		ctl_reply_problem(reply, 422, "too-many-rows", "from",
				  "from: more than %d rows: ask for a shorter range, or longer periods", CTL_BILLING_ROWS_MAX);
	else if (bill->sum.no_memory || rc == -ENOMEM)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else if (rc == -EBADMSG && bill->facts.damaged_sequence)
		ctl_reply_problem(reply, 500, "damaged-segment", NULL, "%s %llu is damaged: see turnpikectl segments verify",
				  bill->facts.damaged_rollup ? "rollup file" : "segment",
				  (unsigned long long)bill->facts.damaged_sequence);
	else if (rc == -EIDRM)
		ctl_reply_problem(reply, 503, "no-ledger", NULL, CTL_LEDGER_GONE);
	else
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the figures cannot be read now: %s", strerror(-rc));
}

static void bill_make(struct ctl *ctl, const struct ctl_billing_ask *ask, struct ctl_reply *reply)
{
	struct bill *bill = calloc(1, sizeof(*bill));

	if (!bill) {
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	bill->ask = ask;
	for (uint32_t i = 0; i <= ask->periods; i++)
		bill->bound[i] = ask->bound_ms[i] / TP_MINUTE_MS;
	bill->sum = (struct ctl_billing_sum){.bound = bill->bound,
					     .periods = ask->periods,
					     .advertiser = ask->advertiser,
					     .advertiser_bytes = ask->advertiser_bytes,
					     .lines_max = CTL_BILLING_ROWS_MAX};
	int rc = figures_read(ctl, bill);
	if (rc == 0)
		rc = periods_judge(ctl, bill);
	if (rc == 0) {
		ctl_billing_sum_sort(&bill->sum);
		if (ask->csv)
			bill_csv(ctl, bill, reply);
		else
			ctl_reply_json(reply, bill_json(ctl, bill));
		ctl_reply_header(reply, "Vary", "Accept");
	} else {
		fail(reply, rc, bill);
	}
	ctl_billing_sum_fini(&bill->sum);
	free(bill);
}

void ctl_billing_reports(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_billing_ask *ask = malloc(sizeof(*ask));

	if (!ask) {
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
		return;
	}
	if (ctl_billing_param(target, ctl_target_header(target, "Accept"), tp_now_ms(), &ctl->config, ask, reply))
		bill_make(ctl, ask, reply);
	free(ask);
}
