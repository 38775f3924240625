/*
 * JSON events with 16-byte vectors: the floor of x86-64-v2, and json_fast.h has the rest. Any rx core; pure.
 */
#include "json_parse.h"

#include <immintrin.h>
#include <string.h>

static inline uint64_t stops16(const char *at)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *)at);
	__m128i stop = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
	stop = _mm_or_si128(stop, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
	/* signed: both what is below 0x20 and what is above 0x7f */
	stop = _mm_or_si128(stop, _mm_cmpgt_epi8(_mm_set1_epi8(0x20), bytes));
	return (unsigned)_mm_movemask_epi8(stop);
}

static inline uint64_t fast_sweep(char *to, const char *from)
{
	memcpy(to, from, 64);
	return stops16(from) | stops16(from + 16) << 16 | stops16(from + 32) << 32 | stops16(from + 48) << 48;
}

#include "json_fast.h"

static const char *find_stop(const char *at, const char *end)
{
	for (; end - at >= 16; at += 16) {
		uint64_t stops = stops16(at);
		if (stops)
			return at + __builtin_ctzll(stops);
	}
	return dp_json_scalar.find_stop(at, end);
}

const struct dp_json_variant dp_json_sse = {.name = "sse", .find_stop = find_stop, .copy = fast_copy, .run = fast_run};
