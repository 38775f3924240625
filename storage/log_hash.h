/*
 * The checksum's hash, XXH3 with 64 bits: once over each block that a shard writes, and over all that recovery reads. The same value whatever
 * the vectors; which ones is chosen before main(). Any thread.
 */
#ifndef STORAGE_LOG_HASH_H
#define STORAGE_LOG_HASH_H

#include <stdint.h>

typedef uint64_t (*log_hash_fn)(const void *from, uint64_t bytes, uint64_t seed);

uint64_t log_hash(const void *from, uint64_t bytes, uint64_t seed);

/* The ways that this processor has, the fastest first, NULL at the end: for the test that all say the same. */
const log_hash_fn *log_hash_all(void);

uint64_t log_hash_sse2(const void *from, uint64_t bytes, uint64_t seed);
uint64_t log_hash_avx2(const void *from, uint64_t bytes, uint64_t seed);

#endif
