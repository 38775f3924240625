/*
 * JSON events with 32-byte vectors; compiled with -mavx2 -mbmi -mbmi2, chosen at start (json_event.c). json_fast.h has the rest. Any
 * rx core; pure.
 */
#include "json_parse.h"

#include <immintrin.h>
#include <string.h>

static inline uint64_t stops32(const char *at)
{
	__m256i bytes = _mm256_loadu_si256((const __m256i *)at);
	__m256i stop = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('"'));
	stop = _mm256_or_si256(stop, _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\\')));
	/* signed: both what is below 0x20 and what is above 0x7f */
	stop = _mm256_or_si256(stop, _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), bytes));
	return (uint32_t)_mm256_movemask_epi8(stop);
}

static inline uint64_t fast_stops(const char *at)
{
	return stops32(at) | stops32(at + 32) << 32;
}

#include "json_fast.h"

static const char *find_stop(const char *at, const char *end)
{
	for (; end - at >= 32; at += 32) {
		uint64_t stops = stops32(at);
		if (stops)
			return at + __builtin_ctzll(stops);
	}
	return dp_json_scalar.find_stop(at, end);
}

const struct dp_json_variant dp_json_avx2 = {.name = "avx2", .find_stop = find_stop, .copy = fast_copy, .run = fast_run};
