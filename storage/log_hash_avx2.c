/*
 * Blocks hashed with vectors of 32 bytes: log_hash.h. Not with the 64 that there are, too: what comes after on a shard core is slower then.
 * The last thing done makes the way free for SSE, which gcc 12 leaves out on some ways out of a function.
 */
#include "log_hash.h"

#define XXH_INLINE_ALL
#include <immintrin.h>
#include <xxhash.h>

uint64_t log_hash_avx2(const void *from, uint64_t bytes, uint64_t seed)
{
	const uint64_t hash = XXH3_64bits_withSeed(from, bytes, seed);
	_mm256_zeroupper();
	return hash;
}
