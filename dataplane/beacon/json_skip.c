/*
 * Validates JSON that the schema does not ask for: unknown values, and known ones of a wrong type. Numbers, literals, white space.
 *
 * Iterative: the kinds of the open containers are the bits of one word, since there are at most 64. Keys of skipped objects are
 * checked for duplicates like all others (json_key.c). One rx core; state is the scratch's fault and key stack.
 *
 * Source: RFC 8259 sections 2 to 6; contract section 4 (nesting deeper than 64 is rejected).
 */
#include "json_parse.h"

#include <assert.h>
#include <string.h>

static inline bool digit(const char *at, const char *end)
{
	return at < end && (unsigned)(unsigned char)*at - '0' <= 9;
}

const char *dp_json_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
		at++;
	return at;
}

static const char *broken(struct dp_json_scratch *s, const char *at)
{
	s->at = at;
	return NULL;
}

const char *dp_json_number(struct dp_json_scratch *s, const char *at, bool *integer)
{
	const char *end = s->end;
	*integer = true;
	if (at < end && *at == '-')
		at++;
	if (!digit(at, end))
		return broken(s, at);
	if (*at == '0')
		at++;
	else
		while (digit(at, end))
			at++;
	if (at < end && *at == '.') {
		*integer = false;
		at++;
		if (!digit(at, end))
			return broken(s, at);
		while (digit(at, end))
			at++;
	}
	if (at < end && (*at == 'e' || *at == 'E')) {
		*integer = false;
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		if (!digit(at, end))
			return broken(s, at);
		while (digit(at, end))
			at++;
	}
	return at;
}

static const char *literal(struct dp_json_scratch *s, const char *at, const char *word, size_t bytes)
{
	if ((size_t)(s->end - at) < bytes || memcmp(at, word, bytes) != 0)
		return broken(s, at);
	return at + bytes;
}

/* A key of a skipped object, up to the value: from the quote (or not) to behind the colon and its white space. */
static const char *skip_key(struct dp_json_scratch *s, const char *at)
{
	if (at == s->end || *at != '"')
		return broken(s, at);
	struct dp_json_raw raw;
	at = dp_json_string(s, at + 1, TP_FIELD_NONE, &raw);
	if (!at)
		return NULL;
	dp_json_keys_push(s, &raw);
	at = dp_json_space(at, s->end);
	if (at == s->end || *at != ':')
		return broken(s, at);
	return dp_json_space(at + 1, s->end);
}

const char *dp_json_skip(struct dp_json_scratch *s, const char *at, unsigned depth)
{
	uint64_t objects = 0;                 /* bit per open container of ours, the innermost lowest: 1 is an object */
	uint32_t base[DP_JSON_DEPTH_MAX + 1]; /* keys_count when it was opened */
	unsigned open = 0;
	assert(depth <= DP_JSON_DEPTH_MAX);
	for (;;) {
		/* a value */
		if (at == s->end)
			return broken(s, at);
		bool integer;
		struct dp_json_raw raw;
		switch (*at) {
		case '{':
		case '[':
			if (depth + open == DP_JSON_DEPTH_MAX)
				return broken(s, at);
			bool object = *at == '{';
			at = dp_json_space(at + 1, s->end);
			if (at < s->end && *at == (object ? '}' : ']')) {
				at++;
				break;
			}
			objects = objects << 1 | object;
			base[open++] = s->keys_count;
			if (object) {
				at = skip_key(s, at);
				if (!at)
					return NULL;
			}
			continue;
		case '"':
			at = dp_json_string(s, at + 1, TP_FIELD_NONE, &raw);
			break;
		case 't':
			at = literal(s, at, "true", 4);
			break;
		case 'f':
			at = literal(s, at, "false", 5);
			break;
		case 'n':
			at = literal(s, at, "null", 4);
			break;
		default:
			at = dp_json_number(s, at, &integer);
		}
		if (!at)
			return NULL;
		/* what follows it */
		for (;;) {
			if (open == 0)
				return at;
			at = dp_json_space(at, s->end);
			if (at == s->end)
				return broken(s, at);
			bool object = objects & 1;
			if (*at == ',') {
				at = dp_json_space(at + 1, s->end);
				if (object) {
					at = skip_key(s, at);
					if (!at)
						return NULL;
				}
				break;
			}
			if (*at != (object ? '}' : ']'))
				return broken(s, at);
			at++;
			objects >>= 1;
			open--;
			if (object)
				dp_json_keys_close(s, base[open]);
		}
	}
}
