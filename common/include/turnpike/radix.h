/*
 * Putting rows in order by numbers: a radix sort of row numbers, least significant digit first, so rows with equal keys stay as they were.
 * However the keys are chosen, it costs a pass of all rows for each eleven bits in which any two keys differ, and no more.
 *
 * Threads: any; memory is the caller's.
 */
#ifndef TURNPIKE_RADIX_H
#define TURNPIKE_RADIX_H

#include <stdint.h>
#include <string.h>

enum { TP_RADIX_BITS = 11, TP_RADIX = 1 << TP_RADIX_BITS, TP_RADIX_PIECE = 1 << 15 };

/* Called after every so many rows; fn may be NULL. */
struct tp_radix_yield {
	void (*fn)(void *context);
	void *context;
};

static inline void tp_radix_piece_done(const struct tp_radix_yield *yield, uint32_t i)
{
	if (i % TP_RADIX_PIECE == TP_RADIX_PIECE - 1 && yield && yield->fn)
		yield->fn(yield->context);
}

/*
 * Sorts rows[0 .. count) by key[row]. `differ`: at least the bits in which two keys of these rows differ. `spare` has room for as many; the
 * two change places with each pass: the result is where *rows points in the end.
 */
static inline void tp_radix_sort(uint32_t **rows, uint32_t **spare, uint32_t count, const uint64_t *key, uint64_t differ,
				 const struct tp_radix_yield *yield)
{
	for (uint32_t shift = 0; shift < 64; shift += TP_RADIX_BITS) {
		if (!(differ >> shift & (TP_RADIX - 1)))
			continue;
		uint32_t start[TP_RADIX] = {0};
		const uint32_t *from = *rows;
		uint32_t *to = *spare;
		for (uint32_t i = 0; i < count; i++) {
			start[key[from[i]] >> shift & (TP_RADIX - 1)]++;
			tp_radix_piece_done(yield, i);
		}
		for (uint32_t d = 0, before = 0; d < TP_RADIX; d++) {
			const uint32_t here = start[d];
			start[d] = before;
			before += here;
		}
		for (uint32_t i = 0; i < count; i++) {
			const uint32_t row = from[i];
			to[start[key[row] >> shift & (TP_RADIX - 1)]++] = row;
			tp_radix_piece_done(yield, i);
		}
		*spare = *rows;
		*rows = to;
	}
}

#endif
