/*
 * Bit-packed integers to 64 bits each (column.h, "Packed"), and sums of differences, in the widest vectors there are.
 */
#ifndef STORAGE_COLUMN_UNPACK_H
#define STORAGE_COLUMN_UNPACK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t column_load64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

/* Value i. Reads up to 16 bytes from where it starts. */
static inline uint64_t column_packed_at(const uint8_t *at, uint32_t width, uint64_t i)
{
	uint64_t bit = i * width;
	at += bit / 8;
	uint64_t value = column_load64(at) >> bit % 8;
	if (width > 56 && bit % 8)
		value |= column_load64(at + 8) << (64 - bit % 8);
	return width == 64 ? value : value & (((uint64_t)1 << width) - 1);
}

/*
 * to[i] = base + packed i, for `count` values of `width` bits, 0 to 64. Reads up to COLUMN_SLACK bytes behind the last packed byte, and
 * writes no more than `count` values.
 */
void column_unpack(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to, uint32_t count);

/* to[i] = value + the sum of what was in to[0] to to[i], of their zigzag if so. Returns the last, or `value`. */
uint64_t column_add_up(uint64_t *to, uint32_t count, uint64_t value, bool zigzag);

/* How it is done, eight values at a time. */
struct column_vectors {
	const char *name;
	void (*unpack)(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to, uint32_t groups); /* widths 1 to 56 */
	uint64_t (*add_up)(uint64_t *to, uint32_t groups, uint64_t value, bool zigzag);
};
/* For tests: what this processor can, the widest first; a name of NULL ends them. */
const struct column_vectors *column_vectors_all(void);
/* Makes that the one in use. Not while another thread decodes. */
void column_vectors_choose(const struct column_vectors *vectors);

#endif
