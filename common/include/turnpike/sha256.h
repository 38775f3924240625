/*
 * SHA-256 (FIPS 180-4). Pure; any thread; no allocation.
 */
#ifndef TURNPIKE_SHA256_H
#define TURNPIKE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { TP_SHA256_BYTES = 32 };

struct tp_sha256 {
	uint32_t state[8];
	uint64_t bytes;
	uint8_t block[64];
};

void tp_sha256_init(struct tp_sha256 *hash);
void tp_sha256_add(struct tp_sha256 *hash, const void *bytes, size_t count);
void tp_sha256_fini(struct tp_sha256 *hash, uint8_t digest[TP_SHA256_BYTES]);

/* All at once. */
void tp_sha256(const void *bytes, size_t count, uint8_t digest[TP_SHA256_BYTES]);

#endif
