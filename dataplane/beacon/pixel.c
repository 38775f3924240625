/*
 * The pixel: see pixel.h. The query is rewritten as the JSON object that says the same, and the one JSON parser judges that: there is
 * only one place that knows the schema's limits. Pure but for the mint; one rx core.
 * Source: contract section 4; percent-encoding RFC 3986 section 2.1; '+' as HTML's application/x-www-form-urlencoded has it.
 */
#include "pixel.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum shape { TEXT, NUMBER, GEO };

static const struct parameter {
	const char *name;
	uint8_t bytes;
	uint8_t shape;
	uint8_t field; /* enum tp_field */
} parameters[] = {
#define P(name, shape, field) \
	{ \
		name, sizeof(name) - 1, shape, TP_FIELD_##field \
	}
	P("event_id", TEXT, EVENT_ID),
	P("event_type", TEXT, EVENT_TYPE),
	P("timestamp", NUMBER, TIMESTAMP),
	P("ad_id", TEXT, AD_ID),
	P("campaign_id", TEXT, CAMPAIGN_ID),
	P("advertiser_id", TEXT, ADVERTISER_ID),
	P("publisher_id", TEXT, PUBLISHER_ID),
	P("user_id", TEXT, USER_ID),
	P("device_id", TEXT, DEVICE_ID),
	P("ip_address", TEXT, IP_ADDRESS),
	P("user_agent", TEXT, USER_AGENT),
	P("referer", TEXT, REFERER),
	P("country", GEO, COUNTRY),
	P("region", GEO, REGION),
	P("city", GEO, CITY),
	P("device_type", TEXT, DEVICE_TYPE),
	P("bid_price", TEXT, BID_PRICE), /* a number in a string is as good */
	P("currency", TEXT, CURRENCY),
	P("click_position", NUMBER, CLICK_POSITION),
	P("timezone_offset_min", NUMBER, TIMEZONE),
	P("mouse_moves", NUMBER, MOUSE_MOVES),
	P("trace", TEXT, TRACE),
#undef P
};

enum { PARAMETERS = sizeof(parameters) / sizeof(parameters[0]) };

int dp_pixel_mint_init(struct dp_pixel_mint *mint)
{
	do {
		if (getrandom(mint->state, sizeof(mint->state), 0) != (ssize_t)sizeof(mint->state))
			return -errno;
	} while ((mint->state[0] | mint->state[1] | mint->state[2] | mint->state[3]) == 0);
	return 0;
}

static uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

/* xoshiro256** (Blackman and Vigna, 2018). */
static uint64_t mint_next(struct dp_pixel_mint *mint)
{
	uint64_t *s = mint->state;
	uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

struct writer {
	char *at;
	const char *end; /* room is enough by DP_PIXEL_JSON_BYTES; checked all the same */
	bool full;
};

static void put(struct writer *w, const char *bytes, size_t count)
{
	if ((size_t)(w->end - w->at) < count) {
		w->full = true;
		return;
	}
	memcpy(w->at, bytes, count);
	w->at += count;
}

static void put_byte(struct writer *w, char c)
{
	put(w, &c, 1);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next byte of an encoded value; -1: a '%' without two hex digits. */
static int decode_byte(const char **at, const char *end)
{
	char c = *(*at)++;
	if (c == '+')
		return ' ';
	if (c != '%')
		return (uint8_t)c;
	if (end - *at < 2)
		return -1;
	int high = hex_value((*at)[0]), low = hex_value((*at)[1]);
	*at += 2;
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* An encoded value as the inside of a JSON string. False: bad encoding. */
static bool put_decoded(struct writer *w, const char *at, const char *end)
{
	static const char digits[] = "0123456789abcdef";
	while (at < end) {
		int c = decode_byte(&at, end);
		if (c < 0)
			return false;
		if (c < 0x20) {
			char escape[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
			put(w, escape, sizeof(escape));
			continue;
		}
		if (c == '"' || c == '\\')
			put_byte(w, '\\');
		put_byte(w, (char)c);
	}
	return true;
}

/* The JSON grammar of an integer; what it may be is the parser's to say. */
static bool is_integer(const char *at, const char *end)
{
	if (at < end && *at == '-')
		at++;
	if (at == end || (*at == '0' && end - at > 1))
		return false;
	for (; at < end; at++)
		if (*at < '0' || *at > '9')
			return false;
	return true;
}

/* `,"name":value`, the comma unless it is the object's first. False: bad encoding. */
static bool put_member(struct writer *w, const struct parameter *p, const char *value, const char *end)
{
	if (w->at[-1] != '{')
		put_byte(w, ',');
	put_byte(w, '"');
	put(w, p->name, p->bytes);
	put(w, "\":", 2);
	char *quote = w->at;
	put_byte(w, '"'); /* a number that is none stays a string, and so becomes a bad_type */
	bool good = put_decoded(w, value, end);
	if (p->shape == NUMBER && !w->full && is_integer(quote + 1, w->at)) {
		memmove(quote, quote + 1, (size_t)(--w->at - quote));
		return good;
	}
	put_byte(w, '"');
	return good;
}

static const struct parameter *find_parameter(const char *name, size_t bytes)
{
	for (size_t i = 0; i < PARAMETERS; i++)
		if (parameters[i].bytes == bytes && memcmp(parameters[i].name, name, bytes) == 0)
			return &parameters[i];
	return NULL;
}

/* Writes the members of the event (geo == false) or of geo. TP_OK, or TP_MALFORMED with *field. */
static enum tp_reject put_members(struct writer *w, const char *query, size_t bytes, bool geo, uint32_t *seen, enum tp_field *field)
{
	const char *end = query + bytes;
	for (const char *at = query; at < end;) {
		const char *stop = memchr(at, '&', (size_t)(end - at));
		if (stop == NULL)
			stop = end;
		const char *equals = memchr(at, '=', (size_t)(stop - at));
		const char *value = equals == NULL ? stop : equals + 1;
		const struct parameter *p = find_parameter(at, (size_t)((equals == NULL ? stop : equals) - at));
		at = stop + 1;
		if (p == NULL || (p->shape == GEO) != geo || value == stop)
			continue;
		*seen |= 1U << p->field;
		if (!put_member(w, p, value, stop)) {
			*field = (enum tp_field)p->field;
			return TP_MALFORMED;
		}
	}
	return TP_OK;
}

static void mint_id(struct dp_pixel_mint *mint, struct writer *w)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t half[2] = {mint_next(mint), mint_next(mint)};
	half[0] = (half[0] & ~0xf000ULL) | 0x4000ULL; /* RFC 9562 section 5.4: version 4 */
	half[1] = (half[1] & ~(3ULL << 62)) | 2ULL << 62;
	put(w, w->at[-1] == '{' ? "\"event_id\":\"" : ",\"event_id\":\"", w->at[-1] == '{' ? 12 : 13);
	for (int i = 0; i < 32; i++) {
		if (i == 8 || i == 12 || i == 16 || i == 20)
			put_byte(w, '-');
		put_byte(w, digits[half[i / 16] >> (60 - 4 * (i % 16)) & 15]);
	}
	put_byte(w, '"');
}

static void mint_timestamp(uint64_t now_ms, struct writer *w)
{
	char text[20];
	size_t at = sizeof(text);
	do {
		text[--at] = (char)('0' + now_ms % 10);
		now_ms /= 10;
	} while (now_ms != 0);
	put(w, ",\"timestamp\":", 13); /* the id is there: never the first */
	put(w, text + at, sizeof(text) - at);
}

struct dp_pixel_result dp_pixel_parse(struct dp_pixel_scratch *pixel, struct dp_json_scratch *json, const char *query, size_t bytes,
				      const struct dp_json_limits *limits, struct tp_parsed *parsed)
{
	struct dp_pixel_result result = {.reason = TP_OK, .field = TP_FIELD_NONE};
	struct writer w = {.at = pixel->json, .end = pixel->json + sizeof(pixel->json)};
	uint32_t seen = 0;
	put_byte(&w, '{');
	result.reason = put_members(&w, query, bytes, false, &seen, &result.field);
	if (result.reason != TP_OK)
		return result;
	if ((seen & 1U << TP_FIELD_EVENT_ID) == 0) {
		mint_id(&pixel->mint, &w);
		result.minted = true;
	}
	bool minted_stamp = (seen & 1U << TP_FIELD_TIMESTAMP) == 0;
	if (minted_stamp) {
		mint_timestamp(limits->now_ms, &w);
		result.minted = true;
	}
	char *geo = w.at;
	put(&w, ",\"geo\":{", 8);
	result.reason = put_members(&w, query, bytes, true, &seen, &result.field);
	if (result.reason != TP_OK)
		return result;
	if (w.at == geo + 8) /* none of them came */
		w.at = geo;
	else
		put_byte(&w, '}');
	put_byte(&w, '}');
	if (w.full) {
		result.reason = TP_TOO_LARGE;
		return result;
	}
	struct dp_json_result verdict = dp_json_event(json, pixel->json, (size_t)(w.at - pixel->json), limits, parsed);
	result.reason = verdict.reason;
	result.field = verdict.field;
	result.bad_trace = verdict.bad_trace;
	if (minted_stamp && result.reason == TP_OK) {
		/* A retry gets another stamp from us and is the same payload all the same: fingerprint what was sent. */
		uint64_t stamp = parsed->fixed.timestamp_ms;
		parsed->fixed.timestamp_ms = 0;
		tp_event_finish(parsed);
		parsed->fixed.timestamp_ms = stamp;
	}
	return result;
}
