/*
 * Streams of unsigned 64-bit integers, compressed: what all columns of a segment are made of.
 *
 *   stream:  0  u8 encoding    1  u8 width    2  u8 width of what is patched    3  u8 zero
 *            4  u32 extra      8  u64 base   16  what the encoding says
 *
 *   encoding 0 FRAME       value i = base + packed i; `width` bits each
 *            1 PATCHED     the same, then `extra` patches: their u16 positions (ascending), then their bits above `width`, packed
 *            2 DELTA       base, then one stream (FRAME or PATCHED) of value i - value i-1, of which the first means nothing;
 *                          with `extra` 1 of their zigzag
 *            3 RUNS        `extra` runs: a stream of values, a stream of lengths - 1
 *            4 DICTIONARY  a stream of `extra` values, a stream of codes
 *            5 PLANES      `width` planes of bytes of value i - base, lowest byte first; for what is compressed as a whole
 *            6 MAPPED      value i = table[parent code i]; `extra` rows are others: a stream of positions, a stream of values
 *
 * Packed: little endian, bit 0 first, value i at bit i * width, up to a whole byte. A stream has 1 to 65,536 values; how many is
 * known from where it stands. All arithmetic is modulo 2^64.
 *
 * Sources: frame of reference: Goldstein, Ramakrishnan, Shaft 1998; patches: Zukowski et al. 2006 (PFOR).
 *
 * Threads: any; all state is the caller's.
 */
#ifndef STORAGE_COLUMN_H
#define STORAGE_COLUMN_H

#include "buffer.h"

#include <assert.h>

enum column_encoding {
	COLUMN_FRAME,
	COLUMN_PATCHED,
	COLUMN_DELTA,
	COLUMN_RUNS,
	COLUMN_DICTIONARY,
	COLUMN_PLANES,
	COLUMN_MAPPED,
	COLUMN_ENCODINGS
};

enum {
	COLUMN_VALUES_MAX = 65536,
	COLUMN_SLACK = 16, /* bytes that may be read behind the end of a stream */
};

/* One version for each generation of vectors; clang's sanitizers cannot do with functions that are chosen at start. */
#ifdef __clang__
#define COLUMN_VECTORISED
#else
#define COLUMN_VECTORISED __attribute__((optimize("O3"), target_clones("avx512f", "avx2", "default")))
#endif

struct column_head {
	uint8_t encoding, width, width_patch, zero;
	uint32_t extra;
	uint64_t base;
};
static_assert(sizeof(struct column_head) == 16, "disk format");

const char *column_encoding_name(enum column_encoding encoding); /* NULL for an unknown number */

static inline uint64_t column_zigzag(uint64_t difference)
{
	return difference << 1 ^ (uint64_t)((int64_t)difference >> 63);
}

static inline uint64_t column_unzigzag(uint64_t z)
{
	return z >> 1 ^ -(z & 1);
}

static inline uint32_t column_width(uint64_t value)
{
	return value ? 64 - (uint32_t)__builtin_clzll(value) : 0;
}

static inline uint64_t column_packed_bytes(uint64_t count, uint32_t width)
{
	return (count * width + 7) / 8;
}

/* ---- writing (column_encode.c) ---- */

/* Memory that encoding needs; one per thread that seals. */
struct column_scratch;
struct column_scratch *column_scratch_new(void); /* NULL: no memory */
void column_scratch_free(struct column_scratch *scratch);

/* Appends the smallest stream of `count` values, 1 to COLUMN_VALUES_MAX. */
void column_encode(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count);
/* Only FRAME, PATCHED or DELTA: what streams within streams are. */
void column_encode_plain(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint32_t count);
void column_encode_planes(struct buffer *out, const uint64_t *values, uint32_t count);
/* The least and the largest of them; `count` at least one. */
void column_extremes(const uint64_t *values, uint32_t count, uint64_t *min, uint64_t *max);
/* Any number of values, in streams of COLUMN_VALUES_MAX. */
void column_encode_long(struct column_scratch *scratch, struct buffer *out, const uint64_t *values, uint64_t count);

/* ---- reading (column_decode.c) ---- */

/* What MAPPED needs. */
struct column_map {
	const uint64_t *parent; /* code of each row */
	const uint64_t *table;
	uint64_t entries;
};

/*
 * Reads `count` values from [at, end) to `values`. Bytes up to end + COLUMN_SLACK may be read, and mean nothing. `map` NULL: a MAPPED stream is refused. Returns where the stream ends, or NULL if it is not well-formed.
 */
const uint8_t *column_decode(const uint8_t *at, const uint8_t *end, const struct column_map *map, uint64_t *values, uint32_t count);
const uint8_t *column_decode_long(const uint8_t *at, const uint8_t *end, uint64_t *values, uint64_t count);

/* A RUNS stream as its runs; lengths sum up to `count`. Returns how many, 0 if it is another encoding or not well-formed. */
uint32_t column_decode_runs(const uint8_t *at, const uint8_t *end, uint64_t *value, uint64_t *length, uint32_t count);

#endif
