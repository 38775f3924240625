/*
 * The Yahoo streaming benchmark's JSON to a tuple: ysb.h. Built like the event parser, from its parts (json_parse.h), for another schema.
 *
 *     copy with its map of stops ─► fast: strings in any order ──────────────► tuple
 *                                     │ anything that surprises it
 *                                     └► general: the text from its beginning ─► tuple or why not
 *
 * Shared with production: the vector sweep (dp_json_variant's copy), dp_json_space(), dp_json_string(), dp_json_unescape(), dp_json_skip(),
 * the stack of unknown keys, tp_id_from_text(), tp_addr_parse(). Of its own: the table of seven fields and the two loops over pairs. The
 * fast one knows nothing but strings without escapes in plain ASCII, with a blank at most where the original's generator puts one; it
 * writes nothing but the tuple, so the general one begins anew.
 *
 * One thread per parser. Pure. Source: RFC 8259; schema: yahoo/streaming-benchmarks.
 */
#include "json_parse.h"
#include "ysb.h"

#include "turnpike/addr.h"

#include <emmintrin.h>
#include <stdlib.h>
#include <string.h>

enum field { USER, PAGE, AD, AD_TYPE, EVENT_TYPE, TIME, IP, FIELDS };
enum { OPEN = FIELDS, ALL = (1 << FIELDS) - 1, VALUE_BYTES_MAX = TP_ID_BYTES_MAX, TIME_DIGITS_MAX = 15 };

/* A key with its closing quote and colon, compared at once. */
struct field_name {
	char pattern[16];
	uint32_t counts; /* bit per byte of the pattern */
	uint32_t bytes;  /* of the name */
} __attribute__((aligned(16)));

#define FIELD(name) \
	{ \
		name "\":", (1u << (sizeof(name) + 1)) - 1, sizeof(name) - 1 \
	}
static const struct field_name fields[FIELDS] = {
	[USER] = FIELD("user_id"),          [PAGE] = FIELD("page_id"),    [AD] = FIELD("ad_id"),      [AD_TYPE] = FIELD("ad_type"),
	[EVENT_TYPE] = FIELD("event_type"), [TIME] = FIELD("event_time"), [IP] = FIELD("ip_address"),
};

struct ysb_parser {
	struct dp_json_scratch *json;
	uint8_t next[FIELDS + 1]; /* which field followed this one last time */
};

struct ysb_parser *ysb_parser_new(void)
{
	struct ysb_parser *parser = calloc(1, sizeof(*parser));
	if (!parser)
		return NULL;
	parser->json = dp_json_scratch_new();
	if (!parser->json) {
		free(parser);
		return NULL;
	}
	return parser;
}

void ysb_parser_free(struct ysb_parser *parser)
{
	if (parser)
		dp_json_scratch_free(parser->json);
	free(parser);
}

static bool number_set(const char *text, size_t bytes, uint64_t *number)
{
	if (bytes - 1 >= TIME_DIGITS_MAX || (text[0] == '0' && bytes > 1))
		return false;
	*number = 0;
	for (size_t i = 0; i < bytes; i++) {
		const unsigned digit = (unsigned char)text[i] - (unsigned)'0';
		if (digit > 9)
			return false;
		*number = *number * 10 + digit;
	}
	return true;
}

static bool name_set(const char *const *name, uint32_t names, const char *text, size_t bytes, uint8_t *to)
{
	for (uint32_t i = 0; i < names; i++)
		if (strlen(name[i]) == bytes && memcmp(name[i], text, bytes) == 0) {
			*to = (uint8_t)i;
			return true;
		}
	return false;
}

/* The value of a field, escapes undone. */
static inline enum tp_reject value_set(struct ysb_tuple *tuple, unsigned field, const char *text, size_t bytes)
{
	struct tp_addr addr;
	int uuid;
	if (bytes > VALUE_BYTES_MAX)
		return TP_TOO_LONG;
	switch (field) {
	case USER:
	case PAGE:
	case AD:
		if (bytes == 0)
			return TP_BAD_VALUE;
		(field == USER ? &tuple->user : field == PAGE ? &tuple->page : &tuple->ad)[0] = tp_id_from_text(text, bytes, &uuid);
		return TP_OK;
	case AD_TYPE:
		return name_set(ysb_ad_type_name, YSB_AD_TYPES, text, bytes, &tuple->ad_type) ? TP_OK : TP_BAD_VALUE;
	case EVENT_TYPE:
		return name_set(ysb_event_type_name, YSB_EVENT_TYPES, text, bytes, &tuple->event_type) ? TP_OK : TP_BAD_VALUE;
	case TIME:
		return number_set(text, bytes, &tuple->time_ms) ? TP_OK : TP_BAD_VALUE;
	default:
		if (tp_addr_parse(text, bytes, &addr) || addr.family != 4)
			return TP_BAD_VALUE;
		memcpy(tuple->ip, addr.byte + 12, sizeof(tuple->ip));
		return TP_OK;
	}
}

/* ---- the fast case ---- */

/* The first stop at or behind `at`: there always is one. The map has two words more than the copy. */
static inline size_t stop_next(const struct dp_json_scratch *s, size_t at)
{
	size_t word = at / 64;
	uint64_t stops = s->stops[word] >> at % 64 << at % 64;
	while (!stops)
		stops = s->stops[++word];
	return word * 64 + (size_t)__builtin_ctzll(stops);
}

static inline bool key_is(const char *text, const struct field_name *field)
{
	const __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)text),
					    _mm_load_si128((const __m128i *)(const void *)field->pattern));
	return ((unsigned)_mm_movemask_epi8(same) & field->counts) == field->counts;
}

/* False: let the general case say what it is. */
static bool parse_fast(struct ysb_parser *parser, size_t bytes, struct ysb_tuple *tuple)
{
	const struct dp_json_scratch *s = parser->json;
	const char *const text = s->copy; /* a zero byte stands behind it, a stop that is part of nothing */
	uint32_t seen = 0;
	unsigned previous = OPEN;

	if (text[0] != '{')
		return false;
	for (size_t at = 1;;) {
		at += text[at] == ' ';
		if (text[at] != '"')
			return false;
		unsigned field = parser->next[previous];
		if (__builtin_expect(!key_is(text + at + 1, &fields[field]), 0)) {
			for (field = 0; field < FIELDS && !key_is(text + at + 1, &fields[field]);)
				field++;
			if (field == FIELDS)
				return false;
			parser->next[previous] = (uint8_t)field;
		}
		if (seen >> field & 1)
			return false;
		seen |= 1u << field;
		previous = field;
		at += fields[field].bytes + 3;
		at += text[at] == ' ';
		if (text[at] != '"')
			return false;
		const size_t end = stop_next(s, ++at);
		if (text[end] != '"' || value_set(tuple, field, text + at, end - at) != TP_OK)
			return false;
		at = end + 1;
		if (text[at] == ',') {
			at++;
			continue;
		}
		return text[at] == '}' && at + 1 == bytes && seen == ALL;
	}
}

/* ---- the general case ---- */

static const char *broken(struct dp_json_scratch *s, const char *at)
{
	dp_json_fault(s, TP_MALFORMED, TP_FIELD_NONE, at);
	return NULL;
}

/* One pair; `at` is at its key. Behind its value, or NULL when the grammar is broken. */
static const char *pair(struct dp_json_scratch *s, const char *at, uint32_t *seen, uint32_t *absent, struct ysb_tuple *tuple)
{
	char text[VALUE_BYTES_MAX + 8] = {0};
	struct dp_json_raw raw;
	const char *const key = at;

	if (at == s->end || *at != '"')
		return broken(s, at);
	at = dp_json_string(s, at + 1, TP_FIELD_NONE, &raw);
	if (!at)
		return NULL;
	size_t bytes = dp_json_unescape(&raw, text, sizeof(text));
	unsigned field = 0;
	while (field < FIELDS && (bytes != fields[field].bytes || memcmp(text, fields[field].pattern, bytes) != 0))
		field++;
	at = dp_json_space(at, s->end);
	if (at == s->end || *at != ':')
		return broken(s, at);
	at = dp_json_space(at + 1, s->end);
	if (field == FIELDS) {
		dp_json_keys_push(s, &raw);
		return dp_json_skip(s, at, 1);
	}
	if (*seen >> field & 1)
		dp_json_fault(s, TP_DUPLICATE_KEY, TP_FIELD_NONE, key + 1);
	*seen |= 1u << field;
	if (at == s->end || *at != '"') {
		if (at < s->end && *at == 'n')
			*absent |= 1u << field; /* null; or dp_json_skip() says otherwise */
		else
			dp_json_fault(s, TP_BAD_TYPE, TP_FIELD_NONE, at);
		return dp_json_skip(s, at, 1);
	}
	const char *const value = at;
	at = dp_json_string(s, at + 1, TP_FIELD_NONE, &raw);
	if (!at || raw.bad)
		return at;
	memset(text, 0, sizeof(text));
	bytes = dp_json_unescape(&raw, text, sizeof(text));
	const enum tp_reject reason = value_set(tuple, field, text, bytes);
	if (reason != TP_OK)
		dp_json_fault(s, reason, TP_FIELD_NONE, value);
	return at;
}

static enum tp_reject parse_general(struct dp_json_scratch *s, const char *text, size_t bytes, struct ysb_tuple *tuple)
{
	uint32_t seen = 0, absent = 0;
	const char *at = text;

	s->text = text;
	s->end = text + bytes;
	s->fault = TP_OK;
	s->faults = s->store_used = s->keys_count = 0;
	if (bytes == 0 || *at != '{')
		return bytes && dp_json_skip(s, at, 0) == s->end ? TP_BAD_TYPE : TP_MALFORMED;
	at = dp_json_space(at + 1, s->end);
	if (at < s->end && *at == '}') {
		at++;
	} else {
		for (;;) {
			at = pair(s, at, &seen, &absent, tuple);
			if (!at)
				return TP_MALFORMED;
			at = dp_json_space(at, s->end);
			if (at == s->end || (*at != ',' && *at != '}'))
				return TP_MALFORMED;
			if (*at++ == '}')
				break;
			at = dp_json_space(at, s->end);
		}
		dp_json_keys_close(s, 0);
	}
	if (dp_json_space(at, s->end) != s->end)
		return TP_MALFORMED;
	if (s->fault != TP_OK)
		return (enum tp_reject)s->fault;
	return (seen & ~absent) == ALL ? TP_OK : TP_MISSING_FIELD;
}

enum tp_reject ysb_parse(struct ysb_parser *parser, const char *text, size_t bytes, bool fast, struct ysb_tuple *tuple)
{
	struct dp_json_scratch *s = parser->json;

	*tuple = (struct ysb_tuple){0};
	if (fast && s->variant->copy && bytes - 1 < DP_JSON_COPY_FIRST) {
		s->variant->copy(s, text, bytes);
		if (__builtin_expect(parse_fast(parser, bytes, tuple), 1))
			return TP_OK;
		*tuple = (struct ysb_tuple){0};
	}
	if (bytes > DP_JSON_BYTES_MAX)
		return TP_TOO_LARGE;
	return parse_general(s, text, bytes, tuple);
}
