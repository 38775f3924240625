/*
 * One event of a UDP batch to a parsed event: the same limits and checks as JSON, in another spelling.
 *
 * Entered by rx cores with foreign bytes; no state, no allocation; strings stay where they are. All lengths are summed and compared
 * with the event's own length before a string is looked at, so nothing outside the event is ever read.
 * Source: docs/protocol.md ("An event"), contract section 4.
 */
#include "batch_format.h"

#include <emmintrin.h>

/* The one-byte lengths in wire order, and the strings' order on the wire: the same, then user agent and referer. */
static const struct {
	uint8_t string; /* enum tp_string */
	uint8_t field;  /* enum tp_field */
	uint16_t bytes_min, bytes_max;
} wire_string[TP_STRINGS] = {
	{TP_EVENT_ID, TP_FIELD_EVENT_ID, 0, TP_ID_BYTES_MAX}, /* 0: a raw UUID */
	{TP_AD_ID, TP_FIELD_AD_ID, 1, TP_ID_BYTES_MAX},
	{TP_CAMPAIGN_ID, TP_FIELD_CAMPAIGN_ID, 1, TP_ID_BYTES_MAX},
	{TP_ADVERTISER_ID, TP_FIELD_ADVERTISER_ID, 1, TP_ID_BYTES_MAX},
	{TP_PUBLISHER_ID, TP_FIELD_PUBLISHER_ID, 0, TP_ID_BYTES_MAX},
	{TP_USER_ID, TP_FIELD_USER_ID, 0, TP_ID_BYTES_MAX},
	{TP_DEVICE_ID, TP_FIELD_DEVICE_ID, 0, TP_ID_BYTES_MAX},
	{TP_REGION, TP_FIELD_REGION, 0, TP_ID_BYTES_MAX},
	{TP_CITY, TP_FIELD_CITY, 0, TP_CITY_BYTES_MAX},
	{TP_USER_AGENT, TP_FIELD_USER_AGENT, 0, TP_TEXT_BYTES_MAX},
	{TP_REFERER, TP_FIELD_REFERER, 0, TP_TEXT_BYTES_MAX},
};

enum { BYTE_LENGTHS = 9, UUID_BYTES = 16 };
static_assert(DP_BATCH_EVENT_AT_LENGTHS + BYTE_LENGTHS == DP_BATCH_EVENT_AT_ZERO, "one byte for each but the two long strings");

static const char zero_uuid[] = "00000000-0000-0000-0000-000000000000";

/* Device types on the wire, 0 (derive) left out. */
static const uint8_t wire_device[] = {0, TP_DESKTOP, TP_MOBILE, TP_TABLET, TP_TV, TP_BOT, TP_OTHER};
static_assert(sizeof wire_device == DP_BATCH_DEVICE_OTHER + 1, "every device code has a type");

/* True if every byte is ASCII and none is NUL: then no closer look is needed. */
static bool plain_ascii(const uint8_t *at, size_t bytes)
{
	const __m128i zero = _mm_setzero_si128();
	__m128i bad = zero;
	for (; bytes >= 16; at += 16, bytes -= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)at);
		/* not positive as a signed byte: NUL, or above 0x7f */
		bad = _mm_or_si128(bad, _mm_cmpgt_epi8(_mm_set1_epi8(1), v));
	}
	uint8_t rest = 0;
	for (; bytes > 0; at++, bytes--)
		rest |= (int8_t)*at <= 0;
	return _mm_movemask_epi8(bad) == 0 && rest == 0;
}

/* Well-formed UTF-8 (Unicode table 3-7) without NUL. */
static enum tp_reject text_check(const uint8_t *at, size_t bytes)
{
	enum tp_reject verdict = TP_OK;
	const uint8_t *end = at + bytes;
	while (at < end) {
		uint8_t c = *at++;
		if (c == 0)
			verdict = TP_BAD_VALUE;
		if (c < 0x80)
			continue;
		uint8_t low = 0x80, high = 0xbf; /* of the second byte */
		int more;
		if (c >= 0xc2 && c <= 0xdf) {
			more = 1;
		} else if (c >= 0xe0 && c <= 0xef) {
			more = 2;
			low = c == 0xe0 ? 0xa0 : 0x80;  /* overlong */
			high = c == 0xed ? 0x9f : 0xbf; /* surrogates */
		} else if (c >= 0xf0 && c <= 0xf4) {
			more = 3;
			low = c == 0xf0 ? 0x90 : 0x80;  /* overlong */
			high = c == 0xf4 ? 0x8f : 0xbf; /* beyond U+10FFFF */
		} else {
			return TP_BAD_UTF8;
		}
		if (end - at < more || *at < low || *at > high)
			return TP_BAD_UTF8;
		for (int i = 1; i < more; i++)
			if (at[i] < 0x80 || at[i] > 0xbf)
				return TP_BAD_UTF8;
		at += more;
	}
	return verdict;
}

static bool letter(uint8_t c)
{
	c |= 0x20;
	return c >= 'a' && c <= 'z';
}

static uint32_t optional_bytes(uint16_t flags)
{
	static const struct {
		uint16_t flag;
		uint8_t bytes;
	} size[] = {
		{DP_BATCH_HAS_IPV4, 4},     {DP_BATCH_HAS_IPV6, 16},   {DP_BATCH_HAS_BID, 8},
		{DP_BATCH_HAS_CURRENCY, 3}, {DP_BATCH_HAS_COUNTRY, 2}, {DP_BATCH_HAS_POSITION, 2},
		{DP_BATCH_HAS_TIMEZONE, 4}, {DP_BATCH_HAS_MOUSE, 4},   {DP_BATCH_HAS_TRACE, 25},
	};
	uint32_t bytes = 0;
	for (size_t i = 0; i < sizeof size / sizeof *size; i++)
		bytes += flags & size[i].flag ? size[i].bytes : 0;
	return bytes;
}

static bool all_zero(const uint8_t *at, size_t bytes)
{
	uint8_t any = 0;
	for (size_t i = 0; i < bytes; i++)
		any |= at[i];
	return any == 0;
}

/* The numbers behind the fixed part. Their presence has been checked against the event's length. */
static const uint8_t *optional_read(const uint8_t *at, uint16_t flags, struct tp_event *fixed, struct dp_batch_event *result)
{
	if (flags & DP_BATCH_HAS_IPV4) {
		memset(fixed->ip + 10, 0xff, 2);
		memcpy(fixed->ip + 12, at, 4);
		fixed->flags |= TP_HAS_IP | TP_IP_SENT;
		at += 4;
	}
	if (flags & DP_BATCH_HAS_IPV6) {
		memcpy(fixed->ip, at, 16);
		fixed->flags |= TP_HAS_IP | TP_IP_SENT;
		at += 16;
	}
	if (flags & DP_BATCH_HAS_BID) {
		uint64_t micros = dp_batch_u64(at);
		if (micros > (uint64_t)TP_BID_MICROS_MAX) {
			result->reason = TP_BAD_VALUE;
			result->field = TP_FIELD_BID_PRICE;
		}
		fixed->bid_micros = (int64_t)micros;
		fixed->flags |= TP_HAS_BID;
		at += 8;
	}
	if (flags & DP_BATCH_HAS_CURRENCY) {
		for (int i = 0; i < 3; i++) {
			if (at[i] < 'A' || at[i] > 'Z') {
				result->reason = TP_BAD_VALUE;
				result->field = TP_FIELD_CURRENCY;
			}
		}
		memcpy(fixed->currency, at, 3);
		at += 3;
	}
	if (flags & DP_BATCH_HAS_COUNTRY) {
		if (!letter(at[0]) || !letter(at[1])) {
			result->reason = TP_BAD_VALUE;
			result->field = TP_FIELD_COUNTRY;
		}
		fixed->country[0] = (char)(at[0] & ~0x20);
		fixed->country[1] = (char)(at[1] & ~0x20);
		at += 2;
	}
	if (flags & DP_BATCH_HAS_POSITION) {
		fixed->click_position = dp_batch_u16(at);
		fixed->flags |= TP_HAS_POSITION;
		at += 2;
	}
	if (flags & DP_BATCH_HAS_TIMEZONE) {
		fixed->timezone_offset_min = (int32_t)dp_batch_u32(at);
		fixed->flags |= TP_HAS_TIMEZONE;
		at += 4;
	}
	if (flags & DP_BATCH_HAS_MOUSE) {
		fixed->mouse_moves = (int32_t)dp_batch_u32(at);
		fixed->flags |= TP_HAS_MOUSE;
		at += 4;
	}
	if (flags & DP_BATCH_HAS_TRACE) {
		if (all_zero(at, 16) || all_zero(at + 16, 8)) {
			result->bad_trace = true;
		} else {
			memcpy(fixed->trace_id, at, 16);
			memcpy(fixed->span_id, at + 16, 8);
			fixed->trace_flags = at[24];
			fixed->flags |= TP_HAS_TRACE;
		}
		at += 25;
	}
	return at;
}

static void id_read(const uint8_t *at, uint32_t id_bytes, struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
	const char *text = (const char *)at;
	if (id_bytes == 0) {
		memcpy(&fixed->id, at, UUID_BYTES);
		if ((fixed->id.hi | fixed->id.lo) != 0)
			return;
		/* zero marks an empty slot in tables: kept like any other text */
		text = zero_uuid;
		id_bytes = sizeof zero_uuid - 1;
	}
	int uuid;
	fixed->id = tp_id_from_text(text, id_bytes, &uuid);
	if (!uuid)
		parsed->string[TP_EVENT_ID] = (struct tp_str){.at = text, .bytes = (uint16_t)id_bytes};
}

static struct dp_batch_event reject(struct dp_batch_event result, enum tp_reject reason, enum tp_field field)
{
	result.reason = reason;
	result.field = field;
	return result;
}

struct dp_batch_event dp_batch_event(const uint8_t *at, const struct dp_json_limits *limits, struct tp_parsed *parsed)
{
	const uint8_t *const begin = at;
	struct dp_batch_event result = {.reason = TP_OK, .bytes = dp_batch_u16(at + DP_BATCH_EVENT_AT_BYTES)};
	struct tp_event *fixed = &parsed->fixed;
	memset(parsed, 0, sizeof *parsed);

	/* shape first: all that is read below lies within the event */
	uint16_t flags = dp_batch_u16(at + DP_BATCH_EVENT_AT_FLAGS);
	if ((flags & ~DP_BATCH_EVENT_FLAGS) || (~flags & (DP_BATCH_HAS_IPV4 | DP_BATCH_HAS_IPV6)) == 0 ||
	    at[DP_BATCH_EVENT_AT_ZERO] != 0)
		return reject(result, TP_MALFORMED, TP_FIELD_NONE);
	uint32_t length[TP_STRINGS], text_bytes = 0;
	for (int i = 0; i < BYTE_LENGTHS; i++)
		text_bytes += length[i] = at[DP_BATCH_EVENT_AT_LENGTHS + i];
	text_bytes += length[BYTE_LENGTHS] = dp_batch_u16(at + DP_BATCH_EVENT_AT_AGENT_BYTES);
	text_bytes += length[BYTE_LENGTHS + 1] = dp_batch_u16(at + DP_BATCH_EVENT_AT_REFERER_BYTES);
	uint32_t raw_bytes = length[0] == 0 ? UUID_BYTES : 0;
	if (DP_BATCH_EVENT_FIXED_BYTES + optional_bytes(flags) + raw_bytes + text_bytes != result.bytes)
		return reject(result, TP_MALFORMED, TP_FIELD_NONE);

	for (int i = 0; i < TP_STRINGS; i++) {
		if (length[i] < wire_string[i].bytes_min)
			return reject(result, TP_MISSING_FIELD, wire_string[i].field);
		if (length[i] > wire_string[i].bytes_max)
			return reject(result, TP_TOO_LONG, wire_string[i].field);
	}
	if (at[DP_BATCH_EVENT_AT_TYPE] >= TP_EVENT_TYPES)
		return reject(result, TP_BAD_VALUE, TP_FIELD_EVENT_TYPE);
	fixed->type = at[DP_BATCH_EVENT_AT_TYPE];
	uint8_t device = at[DP_BATCH_EVENT_AT_DEVICE];
	if (device > DP_BATCH_DEVICE_OTHER)
		return reject(result, TP_BAD_VALUE, TP_FIELD_DEVICE_TYPE);
	if (device > 0) {
		fixed->device = wire_device[device];
		fixed->flags |= TP_DEVICE_SENT;
	}
	fixed->timestamp_ms = dp_batch_u64(at + DP_BATCH_EVENT_AT_TIMESTAMP);
	if (fixed->timestamp_ms > limits->now_ms + limits->max_future_ms)
		return reject(result, TP_FUTURE, TP_FIELD_TIMESTAMP);

	at = optional_read(at + DP_BATCH_EVENT_FIXED_BYTES, flags, fixed, &result);
	if (result.reason != TP_OK)
		return result;

	const uint8_t *text = at + raw_bytes;
	bool plain = plain_ascii(text, text_bytes);
	for (int i = 0; i < TP_STRINGS; i++) {
		if (length[i] == 0)
			continue;
		enum tp_reject bad = plain ? TP_OK : text_check(text, length[i]);
		if (bad != TP_OK)
			return reject(result, bad, wire_string[i].field);
		if (i > 0)
			parsed->string[wire_string[i].string] =
				(struct tp_str){.at = (const char *)text, .bytes = (uint16_t)length[i]};
		text += length[i];
	}
	assert(text == begin + result.bytes);
	id_read(at, length[0], parsed);
	return result;
}
