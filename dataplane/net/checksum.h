/*
 * The Internet checksum (RFC 1071). Any thread, pure.
 *
 * The ones' complement sum does not depend on byte order or word size, so whole vectors are added in the machine's own order and
 * folded to 16 bits once at the end: a sum may be carried through several pieces as long as each piece but the last is even.
 */
#ifndef TURNPIKE_CHECKSUM_H
#define TURNPIKE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds bytes[0..count), of any alignment, to `sum`. The result stays below 2^34 + sum, so dozens of pieces may be chained. */
uint64_t dp_sum(const void *bytes, size_t count, uint64_t sum);

/* Folds to 16 bits, not complemented. 0xffff over data that includes a right checksum. */
static inline uint16_t dp_sum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* What to store in a checksum field (in memory order: use memcpy, no byte swap) that was zero while summing. */
static inline uint16_t dp_sum_field(uint64_t sum)
{
	return (uint16_t)~dp_sum_fold(sum);
}

#endif
