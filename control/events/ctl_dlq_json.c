/* Dead letters and conflicts as JSON: see ctl_dlq_json.h. */
#include "ctl_dlq_json.h"

#include "turnpike/addr.h"
#include "turnpike/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tp_addr addr_of(const uint8_t byte[16])
{
	static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
	struct tp_addr addr = {.family = memcmp(byte, v4, sizeof(v4)) ? 6 : 4};
	memcpy(addr.byte, byte, sizeof(addr.byte));
	return addr;
}

static json_t *addr_json(const uint8_t byte[16])
{
	char text[TP_ADDR_TEXT_BYTES];
	const struct tp_addr addr = addr_of(byte);
	tp_addr_text(&addr, text);
	return json_string(text);
}

static void string_put(json_t *to, const char *name, const struct tp_event *event, enum tp_string which)
{
	struct tp_str text = tp_event_string(event, which);
	if (text.bytes)
		json_object_set_new(to, name, json_stringn(text.at, text.bytes));
}

static json_t *trace_json(const struct tp_event *event)
{
	char text[64];
	int at = snprintf(text, sizeof(text), "00-");
	for (size_t i = 0; i < sizeof(event->trace_id); i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%02x", event->trace_id[i]);
	at += snprintf(text + at, sizeof(text) - (size_t)at, "-");
	for (size_t i = 0; i < sizeof(event->span_id); i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%02x", event->span_id[i]);
	snprintf(text + at, sizeof(text) - (size_t)at, "-%02x", event->trace_flags);
	return json_string(text);
}

static void geo_put(json_t *to, const struct tp_event *event)
{
	json_t *geo = json_object();
	if (event->country[0])
		json_object_set_new(geo, "country", json_stringn(event->country, sizeof(event->country)));
	string_put(geo, "region", event, TP_REGION);
	string_put(geo, "city", event, TP_CITY);
	if (json_object_size(geo))
		json_object_set(to, "geo", geo);
	json_decref(geo);
}

json_t *ctl_dlq_event_json(const struct tp_event *event)
{
	json_t *to = json_object();
	char text[TP_ID_BYTES_MAX + 1];
	size_t bytes = tp_event_id_text(event, text);
	json_object_set_new(to, "event_id", json_stringn(text, bytes));
	json_object_set_new(to, "event_type", json_string(tp_event_type_name((enum tp_event_type)event->type)));
	json_object_set_new(to, "timestamp", json_integer((json_int_t)event->timestamp_ms));
	string_put(to, "ad_id", event, TP_AD_ID);
	string_put(to, "campaign_id", event, TP_CAMPAIGN_ID);
	string_put(to, "advertiser_id", event, TP_ADVERTISER_ID);
	string_put(to, "publisher_id", event, TP_PUBLISHER_ID);
	string_put(to, "user_id", event, TP_USER_ID);
	string_put(to, "device_id", event, TP_DEVICE_ID);
	if (event->flags & TP_IP_SENT)
		json_object_set_new(to, "ip_address", addr_json(event->ip));
	string_put(to, "user_agent", event, TP_USER_AGENT);
	string_put(to, "referer", event, TP_REFERER);
	geo_put(to, event);
	if (event->flags & TP_DEVICE_SENT)
		json_object_set_new(to, "device_type", json_string(tp_device_name((enum tp_device_type)event->device)));
	if (event->flags & TP_HAS_BID) {
		char micros[64];
		json_object_set_new(to, "bid_price", json_stringn(micros, tp_micros_text(event->bid_micros, micros)));
	}
	json_object_set_new(to, "currency", json_stringn(event->currency, sizeof(event->currency)));
	if (event->flags & TP_HAS_POSITION)
		json_object_set_new(to, "click_position", json_integer(event->click_position));
	if (event->flags & TP_HAS_TIMEZONE)
		json_object_set_new(to, "timezone_offset_min", json_integer(event->timezone_offset_min));
	if (event->flags & TP_HAS_MOUSE)
		json_object_set_new(to, "mouse_moves", json_integer(event->mouse_moves));
	if (event->flags & TP_HAS_TRACE)
		json_object_set_new(to, "trace", trace_json(event));
	return to;
}

/* RFC 4648 section 4. */
static json_t *base64_json(const uint8_t *bytes, size_t count)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((count + 2) / 3 * 4 + 1);
	size_t at = 0;
	if (!text)
		return NULL;
	for (size_t i = 0; i < count; i += 3) {
		size_t here = count - i < 3 ? count - i : 3;
		uint32_t three =
			(uint32_t)bytes[i] << 16 | (here > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (here > 2 ? bytes[i + 2] : 0);
		text[at++] = digits[three >> 18];
		text[at++] = digits[three >> 12 & 63];
		text[at++] = here > 1 ? digits[three >> 6 & 63] : '=';
		text[at++] = here > 2 ? digits[three & 63] : '=';
	}
	json_t *value = json_stringn_nocheck(text, at);
	free(text);
	return value;
}

/* Text when it is valid UTF-8, which jansson checks; a NUL is fine in JSON. Cut text may end within a character: then it is base64. */
static void data_put(json_t *to, const uint8_t *bytes, size_t count)
{
	json_t *text = json_stringn((const char *)bytes, count);
	json_object_set_new(to, "encoding", json_string(text ? "text" : "base64"));
	json_object_set_new(to, "data", text ? text : base64_json(bytes, count));
}

static void letter_put(json_t *to, const struct tp_dead_letter *letter)
{
	enum tp_reject reason = (enum tp_reject)letter->reason;
	enum tp_field field = (enum tp_field)letter->field;
	json_object_set_new(to, "reason", json_string(tp_reject_name(reason)));
	json_object_set_new(to, "detail", json_string(tp_reject_detail(reason, field)));
	json_object_set_new(to, "field", field == TP_FIELD_NONE ? json_null() : json_string(tp_field_name(field)));
	json_object_set_new(to, "received", json_integer((json_int_t)letter->received_ms));
	json_object_set_new(to, "way", json_string(tp_way_name((enum tp_way)letter->way)));
	json_object_set_new(to, "peer", letter->peer_family ? addr_json(letter->peer) : json_null());
	json_object_set_new(to, "peer_port", json_integer(letter->peer_port));
	json_object_set_new(to, "part", json_string(letter->part == TP_DEAD_BODY ? "body" : "event"));
	json_object_set_new(to, "index", json_integer(letter->index));
	json_object_set_new(to, "bytes", json_integer(letter->sent_bytes));
	json_object_set_new(to, "truncated", json_boolean(letter->kept_bytes < letter->sent_bytes));
	data_put(to, tp_dead_letter_bytes(letter), letter->kept_bytes);
}

static void conflict_put(json_t *to, const struct ctl_dlq_entry *entry)
{
	json_t *event = ctl_dlq_event_json(entry->record);
	char *text = event ? json_dumps(event, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_object_set_new(to, "reason", json_string("conflict"));
	json_object_set_new(to, "detail", json_string("event_id: another payload of this id came first, and counts"));
	json_object_set_new(to, "field", json_null());
	json_object_set_new(to, "received", json_integer((json_int_t)entry->record->received_ms));
	json_object_set_new(to, "way", json_null());
	json_object_set_new(to, "peer", json_null());
	json_object_set_new(to, "part", json_string("event"));
	json_object_set_new(to, "copies", json_integer((json_int_t)entry->copies));
	json_object_set_new(to, "bytes", json_integer(text ? (json_int_t)strlen(text) : 0));
	json_object_set_new(to, "truncated", json_false());
	json_object_set_new(to, "encoding", json_string("json"));
	json_object_set_new(to, "data", text ? json_string(text) : NULL);
	free(text);
	json_decref(event);
}

json_t *ctl_dlq_entry_json(const struct ctl_dlq_entry *entry)
{
	json_t *to = json_object();
	char name[CTL_DLQ_NAME_BYTES];
	ctl_dlq_name(&entry->key, name);
	json_object_set_new(to, "id", json_string(name));
	const struct tp_dead_letter *letter = tp_dead_letter_of(entry->record);
	if (letter)
		letter_put(to, letter);
	else
		conflict_put(to, entry);
	if (json_object_get(to, "data"))
		return to;
	json_decref(to); /* no memory for what matters */
	return NULL;
}

json_t *ctl_dlq_json(const struct ctl_dlq *found)
{
	json_t *page = json_object(), *items = json_array();
	bool good = page && items;
	char cursor[CTL_DLQ_CURSOR_BYTES];
	for (uint32_t i = 0; i < found->count && good; i++)
		good = json_array_append_new(items, ctl_dlq_entry_json(&found->entry[i])) == 0;
	if (found->more && found->count)
		ctl_dlq_cursor(&found->entry[found->count - 1].key, cursor);
	good = good && json_object_set(page, "items", items) == 0;
	good = good && json_object_set_new(page, "cursor", found->more && found->count ? json_string(cursor) : json_null()) == 0;
	json_decref(items);
	if (good)
		return page;
	json_decref(page);
	return NULL;
}
