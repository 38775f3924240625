/*
 * The two checks of the batch format: CRC-32C against damage, SipHash-2-4 as authentication tag. Pure; any thread.
 */
#ifndef TPC_CHECKSUM_H
#define TPC_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (RFC 3720 appendix B.4). Start with crc = 0; feed pieces in order. */
uint32_t tpc_crc32c(uint32_t crc, const void *bytes, size_t count);

/* SipHash-2-4 with 64-bit result (Aumasson and Bernstein 2012), key of 16 bytes. */
uint64_t tpc_siphash(const uint8_t key[16], const void *bytes, size_t count);
/* The same with 128-bit result: `tag` gets 16 bytes. */
void tpc_siphash_wide(const uint8_t key[16], const void *bytes, size_t count, uint8_t tag[16]);

/*
 * XXH3-64 without a seed, of 1 to 64 bytes: what the server spreads events over its shards by. Source: the specification of xxHash by
 * Y. Collet, XXH3 for inputs of up to 128 bytes.
 */
uint64_t tpc_xxh3(const void *bytes, size_t count);

#endif
