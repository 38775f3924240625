/*
 * Names of the event's enums as they stand in the API, and the sentences that explain a rejection. Pure, any thread. An index
 * out of range gives "unknown": the number may come from a damaged or newer file.
 * Source: contract section 4.
 */
#include "turnpike/event.h"

static const char *const reject_name[TP_REJECTS] = {
	[TP_OK] = "ok",
	[TP_MALFORMED] = "malformed",
	[TP_MISSING_FIELD] = "missing_field",
	[TP_BAD_TYPE] = "bad_type",
	[TP_BAD_VALUE] = "bad_value",
	[TP_TOO_LONG] = "too_long",
	[TP_DUPLICATE_KEY] = "duplicate_key",
	[TP_BAD_UTF8] = "bad_utf8",
	[TP_FUTURE] = "future",
	[TP_TOO_LARGE] = "too_large",
};

static const char *const device_name[TP_DEVICE_TYPES] = {
	[TP_OTHER] = "other",   [TP_DESKTOP] = "desktop", [TP_MOBILE] = "mobile",
	[TP_TABLET] = "tablet", [TP_TV] = "tv",           [TP_BOT] = "bot",
};

static const char *const type_name[TP_EVENT_TYPES] = {
	[TP_IMPRESSION] = "impression",
	[TP_CLICK] = "click",
	[TP_CONVERSION] = "conversion",
};

static const char *const verdict_name[TP_VERDICTS] = {
	[TP_UNDECIDED] = "undecided", [TP_ACCEPTED] = "accepted", [TP_DUPLICATE] = "duplicate", [TP_LATE] = "late",
	[TP_CONFLICT] = "conflict",   [TP_REFUSED] = "refused",   [TP_DEFERRED] = "deferred",   [TP_AMENDED] = "amended",
};

#define ID_RULE       "a string of 1 to 64 bytes"
#define OPTIONAL_RULE "a string of 0 to 64 bytes"

/* One row a field: its name, and its rule as the contract has it. Every text that names a field is made from this table. */
#define FIELDS(X) \
	X(EVENT_ID, "event_id", ID_RULE) \
	X(EVENT_TYPE, "event_type", "click, impression or conversion") \
	X(TIMESTAMP, "timestamp", "an integer of milliseconds since 1970 UTC, 0 or more") \
	X(AD_ID, "ad_id", ID_RULE) \
	X(CAMPAIGN_ID, "campaign_id", ID_RULE) \
	X(ADVERTISER_ID, "advertiser_id", ID_RULE) \
	X(PUBLISHER_ID, "publisher_id", OPTIONAL_RULE) \
	X(USER_ID, "user_id", OPTIONAL_RULE) \
	X(DEVICE_ID, "device_id", OPTIONAL_RULE) \
	X(IP_ADDRESS, "ip_address", "a string with an IPv4 or IPv6 address") \
	X(USER_AGENT, "user_agent", "a string of 0 to 1024 bytes") \
	X(REFERER, "referer", "a string of 0 to 1024 bytes") \
	X(GEO, "geo", "an object") \
	X(COUNTRY, "geo.country", "a string of 2 letters") \
	X(REGION, "geo.region", OPTIONAL_RULE) \
	X(CITY, "geo.city", "a string of 0 to 128 bytes") \
	X(DEVICE_TYPE, "device_type", "desktop, mobile, tablet, tv, bot or other") \
	X(BID_PRICE, "bid_price", "a number from 0 to 1000000 with at most 6 decimals") \
	X(CURRENCY, "currency", "an ISO 4217 code, three upper-case letters") \
	X(CLICK_POSITION, "click_position", "an integer from 0 to 65535") \
	X(TIMEZONE, "timezone_offset_min", "an integer that fits 32 bits") \
	X(MOUSE_MOVES, "mouse_moves", "an integer that fits 32 bits") \
	X(TRACE, "trace", "a W3C traceparent")

static const char *const field_name[TP_FIELDS] = {[TP_FIELD_NONE] = "",
#define NAME(id, name, rule) [TP_FIELD_##id] = name,
						  FIELDS(NAME)
#undef NAME
};

/* detail[reason][field]; composed by the preprocessor so that the hot path only ever hands out pointers */
static const char *const detail[TP_REJECTS][TP_FIELDS] = {
	[TP_OK] = {[TP_FIELD_NONE] = ""},
	[TP_MALFORMED] = {[TP_FIELD_NONE] = "the text is not valid JSON (RFC 8259) of at most 64 levels",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": not valid JSON (RFC 8259) of at most 64 levels",
			  FIELDS(ROW)
#undef ROW
	},
	[TP_MISSING_FIELD] = {[TP_FIELD_NONE] = "a required field is missing",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": " rule " is required",
			      FIELDS(ROW)
#undef ROW
	},
	[TP_BAD_TYPE] = {[TP_FIELD_NONE] = "an event must be a JSON object",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": wrong type, expected " rule,
			 FIELDS(ROW)
#undef ROW
	},
	[TP_BAD_VALUE] = {[TP_FIELD_NONE] = "a value is out of its range",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": bad value, expected " rule,
			  FIELDS(ROW)
#undef ROW
	},
	[TP_TOO_LONG] = {[TP_FIELD_NONE] = "a string is too long",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": too long, expected " rule,
			 FIELDS(ROW)
#undef ROW
	},
	[TP_DUPLICATE_KEY] = {[TP_FIELD_NONE] = "an object has the same key twice",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": the key occurs twice",
			      FIELDS(ROW)
#undef ROW
	},
	[TP_BAD_UTF8] = {[TP_FIELD_NONE] = "the text is not valid UTF-8, or has a lone surrogate",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": not valid UTF-8, or a lone surrogate",
			 FIELDS(ROW)
#undef ROW
	},
	[TP_FUTURE] = {[TP_FIELD_NONE] = "timestamp: further ahead of the clock than time.max_future allows",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": further ahead of the clock than time.max_future allows",
		       FIELDS(ROW)
#undef ROW
	},
	[TP_TOO_LARGE] = {[TP_FIELD_NONE] = "the event is larger than one message may be",
#define ROW(id, name, rule) [TP_FIELD_##id] = name ": the event is larger than one message may be",
			  FIELDS(ROW)
#undef ROW
	},
};

#define NAME_OF(table, count, index) ((unsigned)(index) < (unsigned)(count) ? (table)[index] : "unknown")

const char *tp_reject_name(enum tp_reject reason)
{
	return NAME_OF(reject_name, TP_REJECTS, reason);
}

const char *tp_field_name(enum tp_field field)
{
	return NAME_OF(field_name, TP_FIELDS, field);
}

const char *tp_device_name(enum tp_device_type device)
{
	return NAME_OF(device_name, TP_DEVICE_TYPES, device);
}

const char *tp_event_type_name(enum tp_event_type type)
{
	return NAME_OF(type_name, TP_EVENT_TYPES, type);
}

const char *tp_way_name(enum tp_way way)
{
	static const char *const name[TP_WAYS] = {
		[TP_WAY_HTTP] = "http", [TP_WAY_PIXEL] = "pixel", [TP_WAY_UDP_TEXT] = "udp_text", [TP_WAY_UDP_BATCH] = "udp_batch"};
	return NAME_OF(name, TP_WAYS, way);
}

const char *tp_verdict_name(enum tp_verdict verdict)
{
	return NAME_OF(verdict_name, TP_VERDICTS, verdict);
}

const char *tp_reject_detail(enum tp_reject reason, enum tp_field field)
{
	if ((unsigned)reason >= TP_REJECTS || (unsigned)field >= TP_FIELDS)
		return "unknown";
	const char *text = detail[reason][field];
	return text ? text : "";
}
