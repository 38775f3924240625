/*
 * One event of a UDP batch to a parsed event: the same limits and checks as JSON, in another spelling.
 *
 * Entered by rx cores with foreign bytes; no state, no allocation; strings stay where they are. All lengths are summed and compared
 * with the event's own length before a string is looked at, so nothing outside the event is ever read. The strings lie on the wire in the order
 * of the record, so they are handed on as they are (TP_STRINGS_TOGETHER). Of the common case all lengths are checked at once; what fails
 * there is looked at one by one, for its reason.
 * Source: docs/protocol.md ("An event"), contract section 4.
 */
#include "batch_format.h"

#include <smmintrin.h>

/* The strings in the order of the wire, which is that of the record: those with one-byte lengths, then user agent and referer. */
static const struct {
	uint8_t field; /* enum tp_field */
	uint16_t bytes_min, bytes_max;
} wire_string[TP_STRINGS] = {
	[TP_EVENT_ID] = {TP_FIELD_EVENT_ID, 0, TP_ID_BYTES_MAX}, /* 0: a raw UUID */
	[TP_AD_ID] = {TP_FIELD_AD_ID, 1, TP_ID_BYTES_MAX},
	[TP_CAMPAIGN_ID] = {TP_FIELD_CAMPAIGN_ID, 1, TP_ID_BYTES_MAX},
	[TP_ADVERTISER_ID] = {TP_FIELD_ADVERTISER_ID, 1, TP_ID_BYTES_MAX},
	[TP_PUBLISHER_ID] = {TP_FIELD_PUBLISHER_ID, 0, TP_ID_BYTES_MAX},
	[TP_USER_ID] = {TP_FIELD_USER_ID, 0, TP_ID_BYTES_MAX},
	[TP_DEVICE_ID] = {TP_FIELD_DEVICE_ID, 0, TP_ID_BYTES_MAX},
	[TP_REGION] = {TP_FIELD_REGION, 0, TP_ID_BYTES_MAX},
	[TP_CITY] = {TP_FIELD_CITY, 0, TP_CITY_BYTES_MAX},
	[TP_USER_AGENT] = {TP_FIELD_USER_AGENT, 0, TP_TEXT_BYTES_MAX},
	[TP_REFERER] = {TP_FIELD_REFERER, 0, TP_TEXT_BYTES_MAX},
};

enum { BYTE_LENGTHS = 9, UUID_BYTES = 16 };
static_assert(DP_BATCH_EVENT_AT_LENGTHS + BYTE_LENGTHS == DP_BATCH_EVENT_AT_ZERO, "one byte for each but the two long strings");

/* The last sixteen bytes of the fixed part: six others, the nine one-byte lengths, the zero. */
enum { AT_TAIL = DP_BATCH_EVENT_FIXED_BYTES - 16, TAIL_LENGTHS = DP_BATCH_EVENT_AT_LENGTHS - AT_TAIL };
static_assert(TAIL_LENGTHS == 6, "as the vectors below have it");

static const char zero_uuid[] = "00000000-0000-0000-0000-000000000000";

/* Device types on the wire, 0 (derive) left out. */
static const uint8_t wire_device[] = {0, TP_DESKTOP, TP_MOBILE, TP_TABLET, TP_TV, TP_BOT, TP_OTHER};
static_assert(sizeof wire_device == DP_BATCH_DEVICE_OTHER + 1, "every device code has a type");

/* True if every byte is ASCII and none is NUL: then no closer look is needed. */
static bool plain_ascii(const uint8_t *at, size_t bytes)
{
	int8_t rest = 1;
	if (bytes < 16) {
		for (; bytes > 0; at++, bytes--)
			rest = (int8_t)*at < rest ? (int8_t)*at : rest;
		return rest > 0;
	}
	/* not positive as a signed byte: NUL, or above 0x7f; the last sixteen once more */
	const uint8_t *const last = at + bytes - 16;
	__m128i least = _mm_loadu_si128((const __m128i *)last), other = least;
	for (; last - at >= 32; at += 32) {
		least = _mm_min_epi8(least, _mm_loadu_si128((const __m128i *)at));
		other = _mm_min_epi8(other, _mm_loadu_si128((const __m128i *)(at + 16)));
	}
	for (; at < last; at += 16)
		least = _mm_min_epi8(least, _mm_loadu_si128((const __m128i *)at));
	return _mm_movemask_epi8(_mm_cmpgt_epi8(_mm_min_epi8(least, other), _mm_setzero_si128())) == 0xffff;
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

/* What the numbers that `flags` names take, behind the fixed part. */
static uint32_t optional_bytes(uint16_t flags)
{
	enum { LOW = 4, LOWS = 1 << LOW, HIGHS = 1 << 5 };
	static_assert(DP_BATCH_EVENT_FLAGS == LOWS * HIGHS - 1, "every flag is in one of two tables");
#define IF(flags, flag, bytes) ((flags) & (flag) ? (bytes) : 0)
#define OF_LOW(flags) \
	(IF(flags, DP_BATCH_HAS_IPV4, 4) + IF(flags, DP_BATCH_HAS_IPV6, 16) + IF(flags, DP_BATCH_HAS_BID, 8) + \
	 IF(flags, DP_BATCH_HAS_CURRENCY, 3))
#define OF_HIGH(flags) \
	(IF((flags) << LOW, DP_BATCH_HAS_COUNTRY, 2) + IF((flags) << LOW, DP_BATCH_HAS_POSITION, 2) + \
	 IF((flags) << LOW, DP_BATCH_HAS_TIMEZONE, 4) + IF((flags) << LOW, DP_BATCH_HAS_MOUSE, 4) + \
	 IF((flags) << LOW, DP_BATCH_HAS_TRACE, 25))
#define FOUR(of, n)    of(n), of((n) + 1), of((n) + 2), of((n) + 3)
#define SIXTEEN(of, n) FOUR(of, n), FOUR(of, (n) + 4), FOUR(of, (n) + 8), FOUR(of, (n) + 12)
	static const uint8_t low[LOWS] = {SIXTEEN(OF_LOW, 0)}, high[HIGHS] = {SIXTEEN(OF_HIGH, 0), SIXTEEN(OF_HIGH, 16)};
	return low[flags % LOWS] + high[flags / LOWS];
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

/* The id, and from where the strings that are kept lie together. */
static void id_read(const uint8_t *at, uint32_t id_bytes, struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
	const char *text = (const char *)at;
	if (id_bytes == 0) {
		memcpy(&fixed->id, at, UUID_BYTES);
		parsed->packed = text + UUID_BYTES;
		if ((fixed->id.hi | fixed->id.lo) != 0)
			return;
		/* zero marks an empty slot in tables: kept like any other text, which does not stand here */
		text = zero_uuid;
		id_bytes = sizeof zero_uuid - 1;
		parsed->lie = TP_STRINGS_APART;
	} else {
		parsed->packed = text;
	}
	int uuid;
	fixed->id = tp_id_from_text(text, id_bytes, &uuid);
	if (!uuid) {
		parsed->string[TP_EVENT_ID] = (struct tp_str){.at = text, .bytes = (uint16_t)id_bytes};
		return;
	}
	parsed->packed += id_bytes;
	parsed->packed_bytes -= (uint16_t)id_bytes;
	fixed->string_bytes[TP_EVENT_ID] = 0;
}

static struct dp_batch_event reject(struct dp_batch_event result, enum tp_reject reason, enum tp_field field)
{
	result.reason = reason;
	result.field = field;
	return result;
}

/* The nine one-byte lengths are within their limits, and the byte behind them is zero. */
static inline bool lengths_fit(__m128i tail)
{
	enum { ANY = -1, ID = TP_ID_BYTES_MAX, CITY = (char)TP_CITY_BYTES_MAX };
	const __m128i most = _mm_setr_epi8(ANY, ANY, ANY, ANY, ANY, ANY, ID, ID, ID, ID, ID, ID, ID, ID, CITY, 0);
	const __m128i least = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0);
	const __m128i off = _mm_or_si128(_mm_subs_epu8(tail, most), _mm_subs_epu8(least, tail));
	return _mm_testz_si128(off, off);
}

/* Which length it is that does not fit. */
static struct dp_batch_event length_fault(struct dp_batch_event result, const struct tp_event *fixed)
{
	for (int i = 0; i < TP_STRINGS; i++) {
		if (fixed->string_bytes[i] < wire_string[i].bytes_min)
			return reject(result, TP_MISSING_FIELD, wire_string[i].field);
		if (fixed->string_bytes[i] > wire_string[i].bytes_max)
			return reject(result, TP_TOO_LONG, wire_string[i].field);
	}
	return result;
}

/* Each string by itself, since one of them is not plain. */
static struct dp_batch_event text_fault(struct dp_batch_event result, const uint8_t *text, const struct tp_event *fixed)
{
	for (int i = 0; i < TP_STRINGS; i++) {
		const size_t bytes = fixed->string_bytes[i];
		enum tp_reject bad = plain_ascii(text, bytes) ? TP_OK : text_check(text, bytes);
		if (bad != TP_OK)
			return reject(result, bad, wire_string[i].field);
		text += bytes;
	}
	return result;
}

struct dp_batch_event dp_batch_event(const uint8_t *at, const struct dp_json_limits *limits, struct tp_parsed *parsed)
{
	const uint8_t *const begin = at;
	struct dp_batch_event result = {.reason = TP_OK, .bytes = dp_batch_u16(at + DP_BATCH_EVENT_AT_BYTES)};
	struct tp_event *fixed = &parsed->fixed;
	tp_parsed_clear(parsed);

	/* shape first: all that is read below lies within the event */
	uint16_t flags = dp_batch_u16(at + DP_BATCH_EVENT_AT_FLAGS);
	if ((flags & ~DP_BATCH_EVENT_FLAGS) || (~flags & (DP_BATCH_HAS_IPV4 | DP_BATCH_HAS_IPV6)) == 0 ||
	    at[DP_BATCH_EVENT_AT_ZERO] != 0)
		return reject(result, TP_MALFORMED, TP_FIELD_NONE);
	const __m128i tail = _mm_loadu_si128((const __m128i *)(at + AT_TAIL));
	const __m128i lengths = _mm_srli_si128(tail, TAIL_LENGTHS);
	const __m128i sums = _mm_sad_epu8(lengths, _mm_setzero_si128()); /* of eight, and the ninth with the zero */
	const uint32_t agent_bytes = dp_batch_u16(at + DP_BATCH_EVENT_AT_AGENT_BYTES);
	const uint32_t referer_bytes = dp_batch_u16(at + DP_BATCH_EVENT_AT_REFERER_BYTES);
	const uint32_t text_bytes = (uint32_t)(_mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4)) + agent_bytes + referer_bytes;
	const uint32_t id_bytes = at[DP_BATCH_EVENT_AT_LENGTHS], raw_bytes = id_bytes == 0 ? UUID_BYTES : 0;
	if (DP_BATCH_EVENT_FIXED_BYTES + optional_bytes(flags) + raw_bytes + text_bytes != result.bytes)
		return reject(result, TP_MALFORMED, TP_FIELD_NONE);

	_mm_storeu_si128((__m128i *)fixed->string_bytes, _mm_cvtepu8_epi16(lengths));
	fixed->string_bytes[TP_CITY] = at[DP_BATCH_EVENT_AT_LENGTHS + TP_CITY];
	fixed->string_bytes[TP_USER_AGENT] = (uint16_t)agent_bytes;
	fixed->string_bytes[TP_REFERER] = (uint16_t)referer_bytes;
	if (!lengths_fit(tail) || agent_bytes > TP_TEXT_BYTES_MAX || referer_bytes > TP_TEXT_BYTES_MAX)
		return length_fault(result, fixed);
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
	if (!plain_ascii(text, text_bytes)) {
		result = text_fault(result, text, fixed);
		if (result.reason != TP_OK)
			return result;
	}
	assert(text + text_bytes == begin + result.bytes);
	parsed->lie = TP_STRINGS_TOGETHER;
	parsed->packed_bytes = (uint16_t)text_bytes;
	id_read(at, id_bytes, parsed);
	text += id_bytes;
	for (int i = TP_EVENT_ID + 1; i < TP_STRINGS; i++) {
		parsed->string[i] = (struct tp_str){.at = (const char *)text, .bytes = fixed->string_bytes[i]};
		text += fixed->string_bytes[i];
	}
	return result;
}
