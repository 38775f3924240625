/* Chooses how blocks are hashed, before main(). See log_hash.h. */
#include "log_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static log_hash_fn chosen;

uint64_t log_hash_sse2(const void *from, uint64_t bytes, uint64_t seed)
{
	return XXH3_64bits_withSeed(from, bytes, seed);
}

const log_hash_fn *log_hash_all(void)
{
	static const log_hash_fn all[] = {log_hash_avx2, log_hash_sse2, 0};
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") ? all : all + 1;
}

static void __attribute__((constructor)) choose(void)
{
	chosen = log_hash_all()[0];
}

uint64_t log_hash(const void *from, uint64_t bytes, uint64_t seed)
{
	return chosen(from, bytes, seed);
}
