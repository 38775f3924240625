/*
 * A binary fuse filter with 8-bit fingerprints: says "surely not there" or "maybe" for a set of 64-bit keys that never changes; wrong
 * once in 256. About 9 bits a key for a million keys, 9.4 for 100,000.
 *
 * Source: Graf, Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", ACM JEA 27 (2022), section 3.
 *
 * Threads: any; all state is the caller's.
 */
#ifndef STORAGE_ID_FILTER_H
#define STORAGE_ID_FILTER_H

#include "buffer.h"

#include <assert.h>

/* What lies before the fingerprints. */
struct id_filter_head {
	uint64_t seed;
	uint32_t segment_length; /* a power of two */
	uint32_t segments;       /* where the first of a key's three fingerprints may lie; two more segments follow */
};
static_assert(sizeof(struct id_filter_head) == 16, "disk format");

/* Appends the filter of `count` distinct keys, 1 to 2^31. False: no memory. */
bool id_filter_build(struct buffer *out, const uint64_t *keys, uint32_t count);

/* True if the bytes can be a filter. */
bool id_filter_sane(const uint8_t *filter, uint64_t bytes);

/* False: surely not in the set. The bytes are sane. */
bool id_filter_maybe(const uint8_t *filter, uint64_t key);

/* The key of an event: XXH3-64 of the 20 bytes id.hi, id.lo, minute. */
uint64_t id_filter_key(uint64_t hi, uint64_t lo, uint32_t minute);

#endif
