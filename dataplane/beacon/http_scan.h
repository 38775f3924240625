/*
 * How the parser of HTTP heads looks at bytes: character classes and searches, 16 bytes at a time. Pure; private to http_parser.c.
 *
 * All offsets are from `bytes`. Bytes from `end` up to `readable` may be looked at, but never decide anything. Classes are looked up
 * by nibbles: the low one chooses a row of 8 bits, the high one a bit of it (Langdale and Lemire, "Parsing Gigabytes of JSON per
 * Second", 2019, section 3.1.2, for the idea).
 */
#ifndef TURNPIKE_HTTP_SCAN_H
#define TURNPIKE_HTTP_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tmmintrin.h>

/* A class of ASCII characters: bit h of row[l] is set when the character 0xhl is in it. */
struct dp_char_class {
	_Alignas(16) uint8_t row[16];
};

/* RFC 9110 section 5.6.2: letters, digits and !#$%&'*+-.^_`|~ */
static const struct dp_char_class dp_token_char = {
	{0xe8, 0xfc, 0xf8, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xf8, 0xf8, 0xf4, 0x54, 0xd0, 0x54, 0xf4, 0x70}};
/* All that prints but '#', which ends a target: lenient with what RFC 3986 would have encoded, as the field is. */
static const struct dp_char_class dp_target_char = {
	{0xf8, 0xfc, 0xfc, 0xf8, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0x7c}};
/* RFC 3986 section 3.2 without user information: unreserved, sub-delims, '%', and []: of IP literals and ports. */
static const struct dp_char_class dp_host_char = {
	{0xa8, 0xfc, 0xf8, 0xf8, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0xfc, 0x7c, 0x54, 0x7c, 0xd4, 0x70}};

/* Offset of the first character in [at, end) that is not in the class, or end. Bytes up to `readable` >= end may be looked at. */
static inline size_t dp_scan_class(const char *bytes, size_t at, size_t end, size_t readable, const struct dp_char_class *class)
{
	const __m128i rows = _mm_load_si128((const __m128i *)(const void *)class->row), nibble = _mm_set1_epi8(15);
	const __m128i bits = _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, (char)128, 0, 0, 0, 0, 0, 0, 0, 0); /* none has 0x80 and up */
	for (; at < end && at + 16 <= readable; at += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
		__m128i row = _mm_shuffle_epi8(rows, _mm_and_si128(x, nibble));
		__m128i bit = _mm_shuffle_epi8(bits, _mm_and_si128(_mm_srli_epi16(x, 4), nibble));
		unsigned outside = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(row, bit), _mm_setzero_si128()));
		if (outside != 0) {
			at += (size_t)__builtin_ctz(outside);
			return at < end ? at : end;
		}
	}
	for (; at < end; at++) {
		uint8_t c = (uint8_t)bytes[at];
		if (c >= 0x80 || (class->row[c & 15] >> (c >> 4) & 1) == 0)
			return at;
	}
	return end;
}

/* Offset of the first `c` in [at, end), or end; likewise. */
static inline size_t dp_scan_byte(const char *bytes, size_t at, size_t end, size_t readable, char c)
{
	const __m128i wanted = _mm_set1_epi8(c);
	for (; at < end && at + 16 <= readable; at += 16) {
		unsigned found = (unsigned)_mm_movemask_epi8(
			_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)(bytes + at)), wanted));
		if (found != 0) {
			at += (size_t)__builtin_ctz(found);
			return at < end ? at : end;
		}
	}
	while (at < end && bytes[at] != c)
		at++;
	return at < end ? at : end;
}

/* `lower` is lower case and has only letters and '-', which both survive the OR. */
static inline bool dp_same_word(const char *text, size_t bytes, const char *lower, size_t lower_bytes)
{
	if (bytes != lower_bytes)
		return false;
	for (size_t i = 0; i < bytes; i++)
		if ((text[i] | 0x20) != lower[i])
			return false;
	return true;
}

#define DP_SAME_WORD(text, bytes, lower) dp_same_word(text, bytes, lower, sizeof(lower) - 1)

static inline bool dp_same_8(const char *text, const char *lower)
{
	uint64_t a, b;
	memcpy(&a, text, 8);
	memcpy(&b, lower, 8);
	return (a | 0x2020202020202020ULL) == b;
}

/* The same for a name whose length (8 to 16) is known to be right: its first and its last 8 bytes. */
#define DP_SAME_NAME(text, lower) (dp_same_8(text, lower) && dp_same_8((text) + sizeof(lower) - 9, (lower) + sizeof(lower) - 9))

/* Offset of the first control character but HTAB in [at, end), or end. */
static inline size_t dp_scan_control(const char *bytes, size_t at, size_t end)
{
	const __m128i top = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
	for (; at + 16 <= end; at += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
		__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, top), x);
		__m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), low), _mm_cmpeq_epi8(x, del));
		int mask = _mm_movemask_epi8(bad);
		if (mask != 0)
			return at + (size_t)__builtin_ctz((unsigned)mask);
	}
	for (; at < end; at++) {
		uint8_t c = (uint8_t)bytes[at];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return at;
	}
	return end;
}

#endif
