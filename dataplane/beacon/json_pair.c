/*
 * One "key":value pair of an event in general: every spelling that RFC 8259 allows and every rule of contract section 4.
 *
 * This is the whole parser of the scalar variant, and what the fast variants fall back to for a pair that is not of the common kind.
 * One rx core; all state is in the scratch. How faults in one value rank: invalid UTF-8, then \u0000, then the length, then the rest.
 *
 * Decided here, where the contract is silent:
 *   - an empty required string is a bad_value; an empty ip_address, country or device_type says nothing and counts as absent
 *   - -0 is the integer 0; other negative stamps and positions are a bad_value; a fraction or exponent in an integer is a bad_type
 *     even when its value is whole
 *   - a stamp that is in the future is `future` as long as it fits 63 bits, else a bad_value
 *   - a bid_price in a string is at most 1024 bytes long, else too_long
 *   - a `trace` that is no string is ignored and counted like any other invalid one
 *
 * Source: contract section 4.
 */
#include "json_parse.h"

#include "turnpike/text.h"

#include <assert.h>
#include <string.h>

static const struct {
	const char *name;
	uint8_t type;
} device_names[] = {
	{"desktop", TP_DESKTOP}, {"mobile", TP_MOBILE}, {"tablet", TP_TABLET}, {"tv", TP_TV}, {"bot", TP_BOT}, {"other", TP_OTHER},
};

uint8_t dp_json_device(const char *text, size_t bytes)
{
	for (size_t i = 0; i < sizeof device_names / sizeof device_names[0]; i++)
		if (strlen(device_names[i].name) == bytes && memcmp(device_names[i].name, text, bytes) == 0)
			return device_names[i].type;
	return TP_OTHER;
}

static bool letter(char c)
{
	return ((unsigned char)c | 0x20u) - 'a' < 26;
}

static enum dp_json_state broken(struct dp_json_scratch *s, const char *at)
{
	s->at = at;
	return DP_JSON_BROKEN;
}

static void absent(struct dp_json_scratch *s, unsigned field)
{
	s->absent |= 1u << field;
}

/* The string's bytes, escapes undone; false (and a fault) if it may not be taken. Room for one byte more than the limit tells. */
static bool string_take(struct dp_json_scratch *s, unsigned field, const struct dp_json_raw *raw, const char *value,
			struct dp_json_span *span)
{
	if (raw->bad)
		return false;
	if (raw->nul) {
		dp_json_fault(s, TP_BAD_VALUE, field, value);
		return false;
	}
	size_t most = dp_json_fields[field].bytes_max;
	size_t bytes = (size_t)(raw->end - raw->at);
	const char *at = raw->at;
	if (raw->escaped) {
		assert(s->store_used + most <= sizeof s->store);
		char *to = s->store + s->store_used;
		bytes = dp_json_unescape(raw, to, most);
		s->store_used += (uint32_t)(bytes < most ? bytes : most);
		at = to;
	}
	*span = (struct dp_json_span){.at = at, .bytes = (uint32_t)bytes, .offset = (uint32_t)(value - s->text)};
	return true;
}

/* Strings that have no length rule of their own: any other length is just a wrong value. */
static bool exact(unsigned kind)
{
	return kind == DP_JSON_TYPE || kind == DP_JSON_COUNTRY || kind == DP_JSON_CURRENCY || kind == DP_JSON_IP ||
	       kind == DP_JSON_TRACE;
}

static bool type_set(struct tp_parsed *parsed, const struct dp_json_span *span)
{
	for (unsigned type = 0; type < TP_EVENT_TYPES; type++) {
		const char *name = tp_event_type_name((enum tp_event_type)type);
		if (strlen(name) == span->bytes && memcmp(name, span->at, span->bytes) == 0) {
			parsed->fixed.type = (uint8_t)type;
			return true;
		}
	}
	return false;
}

static bool country_set(struct tp_parsed *parsed, const struct dp_json_span *span)
{
	if (span->bytes != 2 || !letter(span->at[0]) || !letter(span->at[1]))
		return false;
	parsed->fixed.country[0] = (char)(span->at[0] & ~0x20);
	parsed->fixed.country[1] = (char)(span->at[1] & ~0x20);
	return true;
}

static bool currency_set(struct tp_parsed *parsed, const struct dp_json_span *span)
{
	if (span->bytes != 3)
		return false;
	for (int i = 0; i < 3; i++)
		if (span->at[i] < 'A' || span->at[i] > 'Z')
			return false;
	memcpy(parsed->fixed.currency, span->at, 3);
	return true;
}

static bool bid_set(struct tp_parsed *parsed, const char *text, size_t bytes)
{
	if (tp_micros_parse(text, bytes, &parsed->fixed.bid_micros) != 0)
		return false;
	parsed->fixed.flags |= TP_HAS_BID;
	return true;
}

/* A validated string for `field`. */
static void string_value(struct dp_json_scratch *s, struct tp_parsed *parsed, unsigned field, const struct dp_json_raw *raw,
			 const char *value)
{
	const struct dp_json_field *f = &dp_json_fields[field];
	struct dp_json_span span;
	if (!string_take(s, field, raw, value, &span))
		return;
	if (span.bytes > f->bytes_max && !exact(f->kind)) {
		dp_json_fault(s, TP_TOO_LONG, field, value);
		return;
	}
	bool good = true;
	switch (f->kind) {
	case DP_JSON_STRING:
	case DP_JSON_ID:
		good = span.bytes >= f->bytes_min;
		if (good)
			parsed->string[f->string] = (struct tp_str){.at = span.at, .bytes = (uint16_t)span.bytes};
		break;
	case DP_JSON_TYPE:
		good = span.bytes <= f->bytes_max && type_set(parsed, &span);
		break;
	case DP_JSON_IP:
		if (span.bytes == 0)
			absent(s, field);
		else if (span.bytes > f->bytes_max)
			good = false;
		else
			s->ip = span; /* json_event.c converts it */
		break;
	case DP_JSON_COUNTRY:
		if (span.bytes == 0)
			absent(s, field);
		else
			good = country_set(parsed, &span);
		break;
	case DP_JSON_CURRENCY:
		good = currency_set(parsed, &span);
		break;
	case DP_JSON_DEVICE:
		if (span.bytes == 0) {
			absent(s, field);
		} else {
			parsed->fixed.device = dp_json_device(span.at, span.bytes);
			parsed->fixed.flags |= TP_DEVICE_SENT;
		}
		break;
	case DP_JSON_BID:
		good = bid_set(parsed, span.at, span.bytes);
		break;
	case DP_JSON_TRACE:
		if (span.bytes > f->bytes_max)
			span.bytes = 0; /* longer than any trace can be: invalid */
		s->trace = span;
		break;
	default:
		assert(false);
	}
	if (!good)
		dp_json_fault(s, TP_BAD_VALUE, field, value);
}

/* Decimal digits to a number; false when it does not fit 63 bits. */
static bool digits_value(const char *at, const char *end, uint64_t *value)
{
	uint64_t sum = 0;
	for (; at < end; at++) {
		unsigned digit = (unsigned)(*at - '0');
		if (sum > ((uint64_t)INT64_MAX - digit) / 10)
			return false;
		sum = sum * 10 + digit;
	}
	*value = sum;
	return true;
}

/* An integer token for `field`, in [at, end). */
static void integer_value(struct dp_json_scratch *s, struct tp_parsed *parsed, unsigned field, const char *at, const char *end)
{
	bool negative = *at == '-';
	uint64_t magnitude;
	bool fits = digits_value(at + negative, end, &magnitude);
	if (!fits)
		magnitude = UINT64_MAX;
	negative &= magnitude != 0;
	enum tp_reject reason = TP_OK;
	switch (dp_json_fields[field].kind) {
	case DP_JSON_TIMESTAMP:
		if (negative || !fits)
			reason = TP_BAD_VALUE;
		else if (magnitude > s->latest_ms)
			reason = TP_FUTURE;
		else
			parsed->fixed.timestamp_ms = magnitude;
		break;
	case DP_JSON_POSITION:
		if (negative || magnitude > UINT16_MAX) {
			reason = TP_BAD_VALUE;
		} else {
			parsed->fixed.click_position = (uint16_t)magnitude;
			parsed->fixed.flags |= TP_HAS_POSITION;
		}
		break;
	default:
		assert(dp_json_fields[field].kind == DP_JSON_INT32);
		if (magnitude > (uint64_t)INT32_MAX + negative) {
			reason = TP_BAD_VALUE;
			break;
		}
		int32_t value = (int32_t)(negative ? -(int64_t)magnitude : (int64_t)magnitude);
		if (field == TP_FIELD_TIMEZONE) {
			parsed->fixed.timezone_offset_min = value;
			parsed->fixed.flags |= TP_HAS_TIMEZONE;
		} else {
			parsed->fixed.mouse_moves = value;
			parsed->fixed.flags |= TP_HAS_MOUSE;
		}
	}
	if (reason != TP_OK)
		dp_json_fault(s, reason, field, at);
}

static bool wants_string(unsigned kind)
{
	return kind != DP_JSON_TIMESTAMP && kind != DP_JSON_POSITION && kind != DP_JSON_INT32 && kind != DP_JSON_GEO;
}

static bool wants_integer(unsigned kind)
{
	return kind == DP_JSON_TIMESTAMP || kind == DP_JSON_POSITION || kind == DP_JSON_INT32;
}

/* The value of a known field; returns behind it, or NULL. geo's object is not taken here. */
static const char *known_value(struct dp_json_scratch *s, struct tp_parsed *parsed, unsigned field, const char *at)
{
	const struct dp_json_field *f = &dp_json_fields[field];
	const char *value = at;
	unsigned depth = f->geo ? 2 : 1;
	char first = *at;
	if (first == '"' && wants_string(f->kind)) {
		struct dp_json_raw raw;
		at = dp_json_string(s, at + 1, field, &raw);
		if (at)
			string_value(s, parsed, field, &raw, value);
		return at;
	}
	if ((first == '-' || (first >= '0' && first <= '9')) && (wants_integer(f->kind) || f->kind == DP_JSON_BID)) {
		bool integer;
		at = dp_json_number(s, at, &integer);
		if (!at)
			return NULL;
		if (f->kind == DP_JSON_BID) {
			if (!bid_set(parsed, value, (size_t)(at - value)))
				dp_json_fault(s, TP_BAD_VALUE, field, value);
		} else if (!integer) {
			dp_json_fault(s, TP_BAD_TYPE, field, value);
		} else {
			integer_value(s, parsed, field, value, at);
		}
		return at;
	}
	/* null, or the wrong type. The skip comes second, so that a fault inside the value does not outrank its type. */
	if (first == 'n')
		absent(s, field);
	else if (f->kind == DP_JSON_TRACE)
		s->trace = (struct dp_json_span){.at = value, .bytes = 0, .offset = (uint32_t)(value - s->text)};
	else
		dp_json_fault(s, TP_BAD_TYPE, field, value);
	return dp_json_skip(s, at, depth);
}

/* The key at `at`, behind its quote: sets *field, checks for a duplicate. Returns behind the closing quote, or NULL. */
static const char *key_take(struct dp_json_scratch *s, const char *at, bool geo, unsigned *field)
{
	struct dp_json_raw raw;
	const char *name = at;
	at = dp_json_string(s, at, TP_FIELD_NONE, &raw);
	if (!at)
		return NULL;
	char plain[DP_JSON_NAME_MAX + 1];
	size_t bytes = (size_t)(raw.end - raw.at);
	const char *key = raw.at;
	if (raw.escaped) {
		bytes = dp_json_unescape(&raw, plain, sizeof plain);
		key = plain;
	}
	*field = dp_json_field_find(key, bytes, geo);
	s->next[s->previous] = (uint8_t)*field;
	if (*field >= TP_FIELDS) {
		dp_json_keys_push(s, &raw);
	} else if (s->seen & 1u << *field) {
		dp_json_fault(s, TP_DUPLICATE_KEY, *field, name);
		*field = geo ? DP_JSON_UNKNOWN_GEO : DP_JSON_UNKNOWN; /* its value is validated, not taken */
	} else {
		s->seen |= 1u << *field;
	}
	return at;
}

/* "," or "}" behind a value. */
static enum dp_json_state separator(struct dp_json_scratch *s)
{
	for (;;) {
		const char *at = dp_json_space(s->at, s->end);
		if (at == s->end)
			return broken(s, at);
		if (*at == ',') {
			s->at = dp_json_space(at + 1, s->end);
			return DP_JSON_KEY;
		}
		if (*at != '}')
			return broken(s, at);
		s->at = at + 1;
		if (!dp_json_fields[s->previous].geo) {
			dp_json_keys_close(s, 0);
			return DP_JSON_DONE;
		}
		dp_json_keys_close(s, s->geo_keys);
		s->previous = TP_FIELD_GEO;
	}
}

enum dp_json_state dp_json_pair(struct dp_json_scratch *s, struct tp_parsed *parsed, enum dp_json_state state)
{
	if (state == DP_JSON_SEPARATOR)
		return separator(s);
	const char *at = dp_json_space(s->at, s->end);
	if (at == s->end)
		return broken(s, at);
	bool geo = dp_json_fields[s->previous].geo;
	if (*at == '}' && (s->previous == DP_JSON_OPEN || s->previous == DP_JSON_OPEN_GEO)) {
		s->at = at;
		return separator(s);
	}
	if (*at != '"')
		return broken(s, at);
	unsigned field;
	at = key_take(s, at + 1, geo, &field);
	if (!at)
		return DP_JSON_BROKEN;
	at = dp_json_space(at, s->end);
	if (at == s->end || *at != ':')
		return broken(s, at);
	at = dp_json_space(at + 1, s->end);
	if (at == s->end)
		return broken(s, at);
	s->previous = field;
	if (field == TP_FIELD_GEO && *at == '{') {
		s->previous = DP_JSON_OPEN_GEO;
		s->geo_keys = s->keys_count;
		s->at = at + 1;
		return DP_JSON_KEY;
	}
	at = field < TP_FIELDS ? known_value(s, parsed, field, at) : dp_json_skip(s, at, geo ? 2 : 1);
	if (!at)
		return DP_JSON_BROKEN;
	s->at = at;
	return separator(s);
}
