/*
 * JSON strings in full: escapes, UTF-8, surrogates. The general case; plain ASCII strings of known fields rarely come here.
 *
 * One rx core, no state but the scratch's fault. A string that breaks the grammar (a control character, a bad escape, no end) is
 * DP_JSON_BROKEN for the whole text. Invalid UTF-8 and lone surrogates are faults of the event alone: the string's end stays
 * findable, because a quote byte ends a string whatever came before it.
 *
 *     find_stop ─► '"' done │ '\' escape │ ≥ 0x80 a UTF-8 sequence │ < 0x20 broken          (and on)
 *
 * Source: RFC 8259 section 7, RFC 3629 section 4 (the table of well-formed sequences), contract section 4.
 */
#include "json_parse.h"

#include <string.h>

/* Bytes of the well-formed UTF-8 sequence at `at`, whose first byte is >= 0x80; 0 if there is none. */
static size_t utf8_bytes(const unsigned char *at, size_t left)
{
	unsigned lead = at[0];
	unsigned low = 0x80, high = 0xbf; /* of the second byte */
	size_t bytes;
	if (lead >= 0xc2 && lead <= 0xdf) {
		bytes = 2;
	} else if (lead >= 0xe0 && lead <= 0xef) {
		bytes = 3;
		if (lead == 0xe0)
			low = 0xa0; /* shorter forms */
		else if (lead == 0xed)
			high = 0x9f; /* surrogates */
	} else if (lead >= 0xf0 && lead <= 0xf4) {
		bytes = 4;
		if (lead == 0xf0)
			low = 0x90;
		else if (lead == 0xf4)
			high = 0x8f; /* beyond U+10FFFF */
	} else {
		return 0;
	}
	if (left < bytes || at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < bytes; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return bytes;
}

/* Four hex digits to a number, or -1. */
static int hex4(const char *at)
{
	int value = 0;
	for (int i = 0; i < 4; i++) {
		unsigned c = (unsigned char)at[i], letter = (c | 0x20) - 'a';
		if (c - '0' <= 9)
			value = value << 4 | (int)(c - '0');
		else if (letter <= 5)
			value = value << 4 | (int)(letter + 10);
		else
			return -1;
	}
	return value;
}

/* The code of "\uXXXX" at `at`, or -1 if there is none. */
static int escaped_code(const char *at, const char *end)
{
	if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
		return -1;
	return hex4(at + 2);
}

/* Behind the escape at `at`, or NULL when it is none. */
static const char *escape_check(struct dp_json_scratch *s, const char *at, unsigned field, struct dp_json_raw *raw)
{
	raw->escaped = true;
	if (s->end - at < 2)
		return NULL;
	switch (at[1]) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return at + 2;
	case 'u':
		break;
	default:
		return NULL;
	}
	int code = escaped_code(at, s->end);
	if (code < 0)
		return NULL;
	raw->nul |= code == 0;
	if (code < 0xd800 || code > 0xdfff)
		return at + 6;
	int low = code <= 0xdbff ? escaped_code(at + 6, s->end) : -1;
	if (low >= 0xdc00 && low <= 0xdfff)
		return at + 12;
	raw->bad = true;
	dp_json_fault(s, TP_BAD_UTF8, field, at);
	return at + 6;
}

const char *dp_json_string(struct dp_json_scratch *s, const char *at, unsigned field, struct dp_json_raw *raw)
{
	*raw = (struct dp_json_raw){.at = at};
	for (;;) {
		at = s->variant->find_stop(at, s->end);
		while (at < s->end && (unsigned char)*at >= 0x80) {
			size_t bytes = utf8_bytes((const unsigned char *)at, (size_t)(s->end - at));
			if (bytes == 0) {
				raw->bad = true;
				dp_json_fault(s, TP_BAD_UTF8, field, at);
				bytes = 1;
			}
			at += bytes;
		}
		if (at == s->end || (unsigned char)*at < 0x20) {
			s->at = at;
			return NULL;
		}
		if (*at == '"') {
			raw->end = at;
			return at + 1;
		}
		if (*at == '\\') {
			const char *behind = escape_check(s, at, field, raw);
			if (!behind) {
				s->at = at;
				return NULL;
			}
			at = behind;
		}
	}
}

static unsigned utf8_put(unsigned code, char to[4])
{
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (char)(0xc0 | code >> 6);
		to[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (char)(0xe0 | code >> 12);
		to[1] = (char)(0x80 | (code >> 6 & 0x3f));
		to[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | code >> 18);
	to[1] = (char)(0x80 | (code >> 12 & 0x3f));
	to[2] = (char)(0x80 | (code >> 6 & 0x3f));
	to[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

unsigned dp_json_unit(const char **from, const char *end, char to[4])
{
	const char *at = *from;
	if (*at != '\\') {
		*from = at + 1;
		to[0] = *at;
		return 1;
	}
	char c = at[1];
	if (c != 'u') {
		*from = at + 2;
		to[0] = c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
		return 1;
	}
	unsigned code = (unsigned)hex4(at + 2);
	*from = at + 6;
	if (code >= 0xd800 && code <= 0xdbff) {
		int low = escaped_code(at + 6, end);
		if (low >= 0xdc00 && low <= 0xdfff) {
			*from = at + 12;
			code = 0x10000 + ((code - 0xd800) << 10) + ((unsigned)low - 0xdc00);
		}
	}
	return utf8_put(code, to);
}

size_t dp_json_unescape(const struct dp_json_raw *raw, char *to, size_t room)
{
	size_t bytes = 0;
	for (const char *at = raw->at; at < raw->end;) {
		char unit[4];
		unsigned count = dp_json_unit(&at, raw->end, unit);
		for (unsigned i = 0; i < count; i++, bytes++)
			if (bytes < room)
				to[bytes] = unit[i];
	}
	return bytes;
}
