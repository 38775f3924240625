/*
 * JSON events with 32-byte vectors; compiled with -mavx2 -mbmi -mbmi2, chosen at start (json_event.c). json_fast.h has the rest. Any
 * rx core; pure.
 */
#include "json_parse.h"

#include <immintrin.h>
#include <string.h>

static inline uint32_t stops_of(__m256i bytes)
{
	/* by its lower half, the one byte that a byte may equal: a quote, a backslash, or none (what it is asked for never has bit 7) */
	const __m256i equals = _mm256_setr_epi8(-1, -1, '"', -1, -1, -1, -1, -1, -1, -1, -1, -1, '\\', -1, -1, -1, /* and again */
						-1, -1, '"', -1, -1, -1, -1, -1, -1, -1, -1, -1, '\\', -1, -1, -1);
	__m256i stop = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(equals, bytes), bytes);
	/* signed: both what is below 0x20 and what is above 0x7f */
	stop = _mm256_or_si256(stop, _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), bytes));
	return (uint32_t)_mm256_movemask_epi8(stop);
}

static inline uint64_t fast_sweep(char *to, const char *from)
{
	__m256i front = _mm256_loadu_si256((const __m256i *)from), back = _mm256_loadu_si256((const __m256i *)(from + 32));
	_mm256_storeu_si256((__m256i *)to, front);
	_mm256_storeu_si256((__m256i *)(to + 32), back);
	return stops_of(front) | (uint64_t)stops_of(back) << 32;
}

#include "json_fast.h"

static const char *find_stop(const char *at, const char *end)
{
	for (; end - at >= 32; at += 32) {
		uint32_t stops = stops_of(_mm256_loadu_si256((const __m256i *)at));
		if (stops)
			return at + __builtin_ctz(stops);
	}
	return dp_json_scalar.find_stop(at, end);
}

const struct dp_json_variant dp_json_avx2 = {.name = "avx2", .find_stop = find_stop, .copy = fast_copy, .run = fast_run};
