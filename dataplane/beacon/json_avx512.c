/*
 * JSON events with 64-byte vectors; compiled with -mavx512bw -mavx512vl and friends, chosen at start (json_event.c). json_fast.h has
 * the rest. Any rx core; pure.
 */
#include "json_parse.h"

#include <immintrin.h>
#include <string.h>

static inline uint64_t stops_of(__m512i bytes)
{
	/* signed: both what is below 0x20 and what is above 0x7f */
	return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('"')) | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('\\')) |
	       _mm512_cmpgt_epi8_mask(_mm512_set1_epi8(0x20), bytes);
}

static inline uint64_t fast_sweep(char *to, const char *from)
{
	__m512i bytes = _mm512_loadu_si512(from);
	_mm512_storeu_si512(to, bytes);
	return stops_of(bytes);
}

#include "json_fast.h"

static const char *find_stop(const char *at, const char *end)
{
	for (; end - at >= 64; at += 64) {
		uint64_t stops = stops_of(_mm512_loadu_si512(at));
		if (stops)
			return at + __builtin_ctzll(stops);
	}
	/* masked-off bytes are not read; a space stops nothing */
	__mmask64 rest = (1ULL << (end - at)) - 1;
	uint64_t stops = stops_of(_mm512_mask_loadu_epi8(_mm512_set1_epi8(' '), rest, at));
	return stops ? at + __builtin_ctzll(stops) : end;
}

const struct dp_json_variant dp_json_avx512 = {.name = "avx512", .find_stop = find_stop, .copy = fast_copy, .run = fast_run};
