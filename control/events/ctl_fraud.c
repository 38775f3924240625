/*
 * GET /api/v1/fraud/flagged, /api/v1/fraud/summary and /api/v1/events/{id}: parameters to question, records to JSON. docs/fraud.md and
 * docs/why.md have the fields. Entered by connection threads; they share no lock but that of ctl_events.h.
 */
#include "ctl.h"
#include "ctl_billing_why.h"
#include "ctl_fraud_param.h"
#include "turnpike/text.h"

#include <errno.h>
#include <string.h>

enum { SEGMENT_ID = 3, TIME_BYTES = 32 };

static void events_fail(struct ctl_reply *reply, int rc, const struct ctl_events_facts *facts)
{
	if (rc == -E2BIG)
		ctl_reply_problem(reply, 422, "too-much-to-read", "from",
				  "from: too many events to read for one answer: ask for a shorter range, or for one campaign");
	else if (rc == -EOVERFLOW)
		ctl_reply_problem(reply, 503, "too-much-unsealed", NULL,
				  "more flagged clicks wait to be sealed than there is memory to follow them: ask again later");
	else if (rc == -ENOMEM)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else if (rc == -EBADMSG && facts->damaged_sequence)
		ctl_reply_problem(reply, 500, "damaged-segment", NULL, "segment %llu is damaged: see turnpikectl segments verify",
				  (unsigned long long)facts->damaged_sequence);
	else
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the data folder cannot be read now: %s", strerror(-rc));
}

static json_t *time_json(uint64_t ms)
{
	char text[TIME_BYTES];
	return json_stringn(text, tp_time_text(ms, text));
}

static void text_put(json_t *object, const char *name, const struct tp_event *event, enum tp_string which)
{
	struct tp_str text = tp_event_string(event, which);
	json_object_set_new(object, name, text.bytes ? ctl_json_text(text.at, text.bytes) : json_null());
}

/* ---- the list ---- */

static json_t *item_json(const struct tp_event *event)
{
	json_t *object = json_object();
	char id[TP_ID_BYTES_MAX + 1];
	size_t id_bytes = tp_event_id_text(event, id);
	json_object_set_new(object, "event_id", ctl_json_text(id, id_bytes));
	json_object_set_new(object, "timestamp", time_json(event->timestamp_ms));
	text_put(object, "ad_id", event, TP_AD_ID);
	text_put(object, "campaign_id", event, TP_CAMPAIGN_ID);
	text_put(object, "advertiser_id", event, TP_ADVERTISER_ID);
	text_put(object, "publisher_id", event, TP_PUBLISHER_ID);
	json_object_set_new(object, "reasons", ctl_reasons_json(event->fraud));
	json_object_set_new(object, "class", json_string(tp_fraud_class_name(tp_fraud_class_of(event->fraud))));
	json_object_set_new(object, "rule_version", json_integer(event->rule_version));
	json_object_set_new(object, "evidence", ctl_evidence_json(event));
	return object;
}

void ctl_fraud_flagged(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_flagged_query query;
	struct ctl_flagged_page page;
	if (!ctl_fraud_param_flagged(target, tp_now_ms(), &query, reply))
		return;
	int rc = ctl_flagged_list(ctl->events, &query, &page);
	if (rc) {
		events_fail(reply, rc, &page.facts);
		ctl_flagged_free(&page);
		return;
	}
	json_t *object = json_object(), *items = json_array();
	char cursor[CTL_CURSOR_TEXT_BYTES];
	for (uint32_t i = 0; i < page.count; i++)
		json_array_append_new(items, item_json(page.item[i].event));
	ctl_flagged_cursor_text(&page.next, cursor);
	json_object_set_new(object, "items", items);
	json_object_set_new(object, "cursor", page.more ? json_string(cursor) : json_null());
	ctl_flagged_free(&page);
	ctl_reply_json(reply, object);
}

/* ---- the sums ---- */

static void sums_put(json_t *object, const struct ctl_fraud_sums *sums, bool zeros)
{
	json_t *classes = json_object(), *reasons = json_object();
	for (int c = TP_GIVT; c <= TP_SIVT; c++)
		json_object_set_new(classes, tp_fraud_class_name((enum tp_fraud_class)c), json_integer((json_int_t)sums->class[c]));
	for (int r = 0; r < TP_FRAUD_REASONS; r++)
		if (zeros || sums->reason[r])
			json_object_set_new(reasons, tp_fraud_reason_name((enum tp_fraud_reason)r),
					    json_integer((json_int_t)sums->reason[r]));
	json_object_set_new(object, "flagged_clicks", json_integer((json_int_t)sums->flagged_clicks));
	json_object_set_new(object, "classes", classes);
	json_object_set_new(object, "reasons", reasons);
}

static json_t *summary_json(const struct ctl_fraud_query *query, const struct ctl_fraud_answer *answer)
{
	const uint32_t minutes = query->step_minutes;
	json_t *object = json_object(), *totals = json_object(), *series = json_array();
	json_object_set_new(object, "from", time_json(query->filter.from_ms));
	json_object_set_new(object, "to", time_json(query->filter.to_ms));
	json_object_set_new(object, "step", json_string(minutes == 1 ? "1m" : minutes == 60 ? "1h" : "1d"));
	sums_put(totals, &answer->totals, true);
	json_object_set_new(object, "totals", totals);
	for (uint32_t i = 0; i < answer->buckets; i++) {
		json_t *bucket = json_object();
		json_object_set_new(bucket, "start", time_json(answer->first_ms + i * minutes * TP_MINUTE_MS));
		sums_put(bucket, &answer->bucket[i], false);
		json_array_append_new(series, bucket);
	}
	json_object_set_new(object, "series", series);
	return object;
}

void ctl_fraud_summary(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_fraud_query query;
	struct ctl_fraud_answer answer;
	if (!ctl_fraud_param_summary(target, tp_now_ms(), &query, reply))
		return;
	int rc = ctl_fraud_sum(ctl->events, ctl_store_pool_cache(ctl->stores), &query, &answer);
	if (rc)
		events_fail(reply, rc, &answer.facts);
	else
		ctl_reply_json(reply, summary_json(&query, &answer));
	ctl_fraud_free(&answer);
}

/* ---- one event ---- */

void ctl_event(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	const struct ctl_text *id = &target->segment[SEGMENT_ID];
	struct ctl_events *events;
	struct ctl_why why = {0};
	uint64_t from_ms, to_ms;
	if (!ctl_fraud_param_event(target, &from_ms, &to_ms, reply))
		return;
	if (id->bytes > TP_ID_BYTES_MAX) {
		ctl_reply_problem(reply, 404, "unknown-event", NULL, "no event has such an id: ids have 1 to %d bytes",
				  TP_ID_BYTES_MAX);
		return;
	}
	/* of its own: it reads whole log files, and nobody shall wait for that */
	int rc = ctl_events_open(&events, ctl->config.data_dir);
	if (!rc) {
		rc = ctl_why_find(events, id->at, id->bytes, from_ms, to_ms, &why);
		ctl_events_close(events);
	}
	const struct ctl_why_report bills = {.line = ctl_billing_why, .context = ctl->ledger};
	json_t *object = rc ? NULL : ctl_why_json(&why, target->only, &bills);
	if (object)
		ctl_reply_json(reply, object);
	else if (rc)
		events_fail(reply, rc, &why.facts);
	else
		ctl_reply_problem(
			reply, 404, "unknown-event", NULL,
			"no record of this event: it was never accepted here, or is beyond the retention of raw segments");
	ctl_why_free(&why);
}
