/* All that is known of one event id; see ctl_why.h. docs/why.md has the fields. */
#include "ctl_why.h"

#include "turnpike/addr.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIME_BYTES = 32, MICROS_BYTES = 64, NAME_BYTES = 64 };
#define HOUR_MS (60 * TP_MINUTE_MS)
#define DAY_MS  (24 * HOUR_MS)

/* ---- finding ---- */

static void records_forget(void *context)
{
	struct ctl_why *why = context;
	for (uint32_t i = 0; i < why->count; i++)
		free(why->record[i].event);
	why->count = 0;
	why->more = false;
}

void ctl_why_free(struct ctl_why *why)
{
	records_forget(why);
	free(why->record);
	*why = (struct ctl_why){0};
}

static int record_take(void *context, const struct ctl_place *place, const struct tp_event *event)
{
	struct ctl_why *why = context;
	if (why->count == CTL_WHY_RECORDS_MAX) {
		why->more = true;
		return 0;
	}
	if (why->count == why->max) {
		uint32_t max = why->max ? 2 * why->max : 8;
		struct ctl_why_record *larger = realloc(why->record, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		why->record = larger;
		why->max = max;
	}
	struct tp_event *copy = malloc(event->bytes);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, event, event->bytes);
	why->record[why->count++] = (struct ctl_why_record){.place = *place, .event = copy};
	return 0;
}

static int as_received(const void *left, const void *right)
{
	const struct ctl_why_record *a = left, *b = right;
	if (a->event->received_ms != b->event->received_ms)
		return a->event->received_ms < b->event->received_ms ? -1 : 1;
	if (a->place.file_id != b->place.file_id)
		return a->place.file_id < b->place.file_id ? -1 : 1;
	return a->place.order == b->place.order ? 0 : a->place.order < b->place.order ? -1 : 1;
}

int ctl_why_find(struct ctl_events *events, const char *id, size_t id_bytes, uint64_t from_ms, uint64_t to_ms, struct ctl_why *why)
{
	*why = (struct ctl_why){0};
	int rc = ctl_events_find(events, id, id_bytes, from_ms, to_ms, records_forget, record_take, why, &why->facts);
	if (why->count)
		qsort(why->record, why->count, sizeof(*why->record), as_received);
	return rc;
}

/* ---- pieces of the answer ---- */

/* Parsers let only UTF-8 in; what damage made of it must not break the answer. */
static json_t *text_json(struct tp_str text)
{
	json_t *string = json_stringn(text.at, text.bytes);
	return string ? string : json_string("\xef\xbf\xbd");
}

static void text_put(json_t *object, const char *name, const struct tp_event *event, enum tp_string which)
{
	struct tp_str text = tp_event_string(event, which);
	if (text.bytes)
		json_object_set_new(object, name, text_json(text));
}

static json_t *time_json(uint64_t ms)
{
	char text[TIME_BYTES];
	return json_stringn(text, tp_time_text(ms, text));
}

static json_t *hex_json(const uint8_t *bytes, size_t count)
{
	char text[2 * 32 + 1] = "";
	for (size_t i = 0; i < count && i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

json_t *ctl_reasons_json(uint32_t fraud)
{
	json_t *reasons = json_array();
	for (int r = 0; r < TP_FRAUD_REASONS; r++)
		if (fraud & TP_FRAUD_BIT(r))
			json_array_append_new(reasons, json_string(tp_fraud_reason_name((enum tp_fraud_reason)r)));
	return reasons;
}

json_t *ctl_evidence_json(const struct tp_event *event)
{
	const struct tp_evidence *evidence = tp_event_evidence(event);
	json_t *all = json_array();
	for (uint32_t i = 0; i < event->evidence_count; i++) {
		const struct tp_evidence *one = &evidence[i];
		const char *name = tp_fraud_reason_name((enum tp_fraud_reason)one->reason);
		char text[sizeof(one->seen) + 1] = {0};
		json_t *object = json_object();
		json_object_set_new(object, "reason", json_string(name ? name : "unknown"));
		memcpy(text, &one->seen, sizeof(one->seen));
		json_object_set_new(object, "seen",
				    one->is_text ? text_json((struct tp_str){text, (uint16_t)strlen(text)})
						 : json_integer(one->seen));
		if (one->limit)
			json_object_set_new(object, "limit", json_integer(one->limit));
		if (one->detail)
			json_object_set_new(object, "detail", json_integer(one->detail));
		json_array_append_new(all, object);
	}
	return all;
}

/* The fields of the schema, as sent or derived. */
static json_t *event_json(const struct tp_event *event)
{
	json_t *object = json_object(), *geo = json_object();
	char id[TP_ID_BYTES_MAX + 1], money[MICROS_BYTES];
	const char *type = tp_event_type_name((enum tp_event_type)event->type);
	struct tp_str text = {.at = id, .bytes = (uint16_t)tp_event_id_text(event, id)};
	json_object_set_new(object, "event_id", text_json(text));
	json_object_set_new(object, "event_type", json_string(type ? type : "unknown"));
	json_object_set_new(object, "timestamp", time_json(event->timestamp_ms));
	text_put(object, "ad_id", event, TP_AD_ID);
	text_put(object, "campaign_id", event, TP_CAMPAIGN_ID);
	text_put(object, "advertiser_id", event, TP_ADVERTISER_ID);
	text_put(object, "publisher_id", event, TP_PUBLISHER_ID);
	text_put(object, "user_id", event, TP_USER_ID);
	text_put(object, "device_id", event, TP_DEVICE_ID);
	text_put(object, "user_agent", event, TP_USER_AGENT);
	text_put(object, "referer", event, TP_REFERER);
	if (event->country[0])
		json_object_set_new(geo, "country", text_json((struct tp_str){event->country, 2}));
	text_put(geo, "region", event, TP_REGION);
	text_put(geo, "city", event, TP_CITY);
	if (json_object_size(geo))
		json_object_set(object, "geo", geo);
	json_decref(geo);
	json_object_set_new(object, "device_type", json_string(tp_device_name((enum tp_device_type)event->device)));
	if (event->flags & TP_HAS_BID)
		json_object_set_new(object, "bid_price", json_stringn(money, tp_micros_text(event->bid_micros, money)));
	json_object_set_new(object, "currency", text_json((struct tp_str){event->currency, (uint16_t)strnlen(event->currency, 3)}));
	if (event->flags & TP_HAS_POSITION)
		json_object_set_new(object, "click_position", json_integer(event->click_position));
	if (event->flags & TP_HAS_TIMEZONE)
		json_object_set_new(object, "timezone_offset_min", json_integer(event->timezone_offset_min));
	if (event->flags & TP_HAS_MOUSE)
		json_object_set_new(object, "mouse_moves", json_integer(event->mouse_moves));
	return object;
}

/* What the node knows of where it came from. */
static json_t *source_json(const struct tp_event *event)
{
	json_t *object = json_object();
	if (event->flags & TP_HAS_IP) {
		static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
		struct tp_addr addr = {.family = memcmp(event->ip, v4, sizeof(v4)) == 0 ? 4 : 6};
		char text[TP_ADDR_TEXT_BYTES];
		memcpy(addr.byte, event->ip, sizeof(addr.byte));
		json_object_set_new(object, "ip_address", json_stringn(text, tp_addr_text(&addr, text)));
		json_object_set_new(object, "ip_from", json_string(event->flags & TP_IP_SENT ? "payload" : "connection"));
	} else {
		json_object_set_new(object, "ip_address", json_null());
	}
	json_object_set_new(object, "device_type_from", json_string(event->flags & TP_DEVICE_SENT ? "payload" : "user_agent"));
	if (event->flags & TP_HAS_TRACE) {
		json_object_set_new(object, "trace_id", hex_json(event->trace_id, sizeof(event->trace_id)));
		json_object_set_new(object, "span_id", hex_json(event->span_id, sizeof(event->span_id)));
	}
	return object;
}

static json_t *place_json(const struct ctl_place *place)
{
	json_t *object = json_object();
	char text[NAME_BYTES];
	snprintf(text, sizeof(text), "%016" PRIx64, place->file_id);
	if (!place->sealed) {
		json_object_set_new(object, "log", json_pack("{s:s, s:I}", "id", text, "offset", (json_int_t)place->offset));
		return object;
	}
	const struct sto_segment_info *info = &place->segment;
	json_t *segment = json_object();
	json_object_set_new(object, "segment", segment);
	json_object_set_new(segment, "sequence", json_integer((json_int_t)info->sequence));
	json_object_set_new(segment, "row", json_integer((json_int_t)place->row));
	if (info->hashed)
		json_object_set_new(segment, "sha256", hex_json(info->sha256, sizeof(info->sha256)));
	json_object_set_new(segment, "log_id", json_string(text));
	sto_segment_file_name(info, text);
	json_object_set_new(segment, "file", json_string(text));
	json_object_set_new(segment, "sealed", time_json(info->sealed_ms));
	return object;
}

static json_t *tags_json(const struct tp_event *event)
{
	json_t *object = json_object();
	json_object_set_new(object, "reasons", ctl_reasons_json(event->fraud));
	if (event->fraud)
		json_object_set_new(object, "class", json_string(tp_fraud_class_name(tp_fraud_class_of(event->fraud))));
	json_object_set_new(object, "rule_version", json_integer(event->rule_version));
	json_object_set_new(object, "evidence", ctl_evidence_json(event));
	return object;
}

static json_t *record_json(const struct ctl_why_record *record)
{
	const struct tp_event *event = record->event;
	json_t *object = json_object();
	json_object_set_new(object, "verdict", json_string(tp_verdict_name((enum tp_verdict)event->verdict)));
	json_object_set_new(object, "received", time_json(event->received_ms));
	json_object_set_new(object, "source", source_json(event));
	json_object_set_new(object, "event", event_json(event));
	/* clicks are judged, and what is amended is a click */
	if (event->type == TP_CLICK && (event->rule_version || event->fraud))
		json_object_set_new(object, "fraud", tags_json(event));
	json_object_set_new(object, "place", place_json(&record->place));
	return object;
}

/* ---- what it comes to ---- */

struct ctl_why_line ctl_why_line(const struct tp_event *event)
{
	const uint64_t ms = event->timestamp_ms;
	time_t seconds = (time_t)(ms / 1000);
	struct tm month = {0};
	gmtime_r(&seconds, &month);
	month.tm_mday = 1;
	month.tm_hour = month.tm_min = month.tm_sec = 0;
	return (struct ctl_why_line){
		.advertiser = tp_event_string(event, TP_ADVERTISER_ID),
		.campaign = tp_event_string(event, TP_CAMPAIGN_ID),
		.hour_ms = ms - ms % HOUR_MS,
		.day_ms = ms - ms % DAY_MS,
		.month_ms = (uint64_t)timegm(&month) * 1000,
		.timestamp_ms = ms,
	};
}

static json_t *line_json(const struct tp_event *event, const struct ctl_why_report *report)
{
	const struct ctl_why_line line = ctl_why_line(event);
	json_t *object = json_object(), *more;
	json_object_set_new(object, "advertiser_id", text_json(line.advertiser));
	json_object_set_new(object, "campaign_id", text_json(line.campaign));
	json_object_set_new(object, "hour", time_json(line.hour_ms));
	json_object_set_new(object, "day", time_json(line.day_ms));
	json_object_set_new(object, "month", time_json(line.month_ms));
	if (report && report->line && (more = report->line(report->context, &line)))
		json_object_set_new(object, "reports", more);
	return object;
}

static void not_billed(json_t *object, const char *code, const char *why)
{
	json_object_set_new(object, "billed", json_false());
	json_object_set_new(object, "not_billed_because", json_string(code));
	json_object_set_new(object, "explanation", json_string(why));
}

/* `last`: the record whose tags hold. */
static void billing_put(json_t *object, const struct tp_event *counted, const struct tp_event *last)
{
	char money[MICROS_BYTES];
	if (counted->type != TP_CLICK) {
		not_billed(object, counted->type == TP_IMPRESSION ? "impression" : "conversion",
			   "only valid clicks are billed; it is counted and reported");
	} else if (last->fraud) {
		not_billed(object, "flagged", "fraud rules tagged the click; it is reported under flagged_clicks");
	} else {
		json_object_set_new(object, "billed", json_true());
		json_object_set_new(object, "amount", json_stringn(money, tp_micros_text(counted->bid_micros, money)));
		json_object_set_new(object, "currency",
				    text_json((struct tp_str){counted->currency, (uint16_t)strnlen(counted->currency, 3)}));
		const char *why =
			counted->verdict == TP_LATE      ? "a valid click that came after its minute had closed: in a report that "
							   "was issued before, it is a correction"
			: !(counted->flags & TP_HAS_BID) ? "a valid click without bid_price: it is counted, and costs nothing"
			: last != counted ? "a valid click: a fraud rule had tagged it, and the tag was taken off again"
					  : "a valid click";
		json_object_set_new(object, "explanation", json_string(why));
	}
}

static bool is_seen(const struct ctl_why_record *record, const char *only)
{
	struct tp_str advertiser = tp_event_string(record->event, TP_ADVERTISER_ID);
	return !only || (advertiser.bytes == strlen(only) && memcmp(advertiser.at, only, advertiser.bytes) == 0);
}

/* The last amendment of a counted record, or the record itself. */
static const struct tp_event *last_of(const struct ctl_why *why, const struct ctl_why_record *counted)
{
	const struct ctl_why_record *last = counted;
	for (uint32_t i = 0; i < why->count; i++) {
		const struct ctl_why_record *one = &why->record[i];
		if (one->event->verdict != TP_AMENDED || one->event->timestamp_ms != counted->event->timestamp_ms)
			continue;
		if (last == counted || one->place.file_id > last->place.file_id ||
		    (one->place.file_id == last->place.file_id && one->place.order > last->place.order))
			last = one;
	}
	return last->event;
}

/* One per stamp under which the id counts: beyond the horizon, the same id in another minute is another event. */
static json_t *counted_json(const struct ctl_why *why, const struct ctl_why_record *record, const struct ctl_why_report *report)
{
	const struct tp_event *last = last_of(why, record);
	json_t *object = json_object();
	const char *type = tp_event_type_name((enum tp_event_type)record->event->type);
	json_object_set_new(object, "event_type", json_string(type ? type : "unknown"));
	json_object_set_new(object, "timestamp", time_json(record->event->timestamp_ms));
	json_object_set_new(object, "verdict", json_string(tp_verdict_name((enum tp_verdict)record->event->verdict)));
	if (record->event->type == TP_CLICK) {
		json_object_set_new(object, "flagged", json_boolean(last->fraud));
		json_object_set_new(object, "reasons", ctl_reasons_json(last->fraud));
		json_object_set_new(object, "amended", json_boolean(last != record->event));
	}
	billing_put(object, record->event, last);
	json_object_set_new(object, "line", line_json(record->event, report));
	return object;
}

json_t *ctl_why_json(const struct ctl_why *why, const char *only, const struct ctl_why_report *report)
{
	json_t *object = json_object(), *records = json_array(), *counted = json_array();
	char id[TP_ID_BYTES_MAX + 1];
	uint64_t conflicts = 0;
	for (uint32_t i = 0; i < why->count; i++) {
		const struct ctl_why_record *record = &why->record[i];
		if (!is_seen(record, only))
			continue;
		if (!json_array_size(records))
			json_object_set_new(object, "event_id",
					    text_json((struct tp_str){id, (uint16_t)tp_event_id_text(record->event, id)}));
		json_array_append_new(records, record_json(record));
		if (tp_verdict_counts(record->event->verdict))
			json_array_append_new(counted, counted_json(why, record, report));
		conflicts += record->event->verdict == TP_CONFLICT;
	}
	json_object_set_new(object, "counted", counted);
	json_object_set_new(object, "conflicts", json_integer((json_int_t)conflicts));
	json_object_set_new(object, "records", records);
	if (why->more)
		json_object_set_new(object, "more", json_true());
	if (json_array_size(records))
		return object;
	json_decref(object);
	return NULL;
}
