/* Where a user's hash falls in a HyperLogLog: shared by distinct.c and fold_distinct.c. */
#ifndef AGG_DISTINCT_RANK_H
#define AGG_DISTINCT_RANK_H

#include "turnpike/distinct.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint32_t distinct_register(uint64_t hash)
{
	return (uint32_t)(hash >> (64 - AGG_DISTINCT_BITS));
}

/* 1 + leading zeros of the remaining 52 bits; 53 when they are all zero. */
static inline uint8_t distinct_rank(uint64_t hash)
{
	uint64_t rest = hash << AGG_DISTINCT_BITS | UINT64_C(1) << (AGG_DISTINCT_BITS - 1);
	return (uint8_t)(1 + __builtin_clzll(rest));
}

#endif
