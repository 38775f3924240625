/*
 * CRC-32C by tables, eight bytes at a step, and SipHash-2-4. Portable C: no instruction that a processor may lack.
 *
 * Any thread. The tables are made once. Source: RFC 3720 appendix B.4; "slicing-by-8" (Kounavis and Berry 2005);
 * J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF" (2012).
 */
#include "checksum.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { CRC32C_REFLECTED = 0x82f63b78 };

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_make(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? (uint32_t)CRC32C_REFLECTED : 0);
		table[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int slice = 1; slice < 8; slice++)
			table[slice][i] = table[slice - 1][i] >> 8 ^ table[0][table[slice - 1][i] & 255];
}

uint32_t tpc_crc32c(uint32_t crc, const void *bytes, size_t count)
{
	pthread_once(&table_once, table_make);
	const uint8_t *at = bytes;
	crc = ~crc;
	for (; count >= 8; at += 8, count -= 8) {
		crc ^= (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
		crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
		      table[3][at[4]] ^ table[2][at[5]] ^ table[1][at[6]] ^ table[0][at[7]];
	}
	for (; count > 0; at++, count--)
		crc = crc >> 8 ^ table[0][(crc ^ *at) & 255];
	return ~crc;
}

static inline uint64_t rotl(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static inline uint64_t load64(const uint8_t *at, size_t bytes)
{
	uint64_t word = 0;
	for (size_t i = 0; i < bytes; i++)
		word |= (uint64_t)at[i] << 8 * i;
	return word;
}

static uint64_t sip_end(uint64_t v[4])
{
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* All of the input; what is left is the end. */
static void sip_input(uint64_t v[4], const uint8_t key[16], const void *bytes, size_t count, bool wide)
{
	const uint8_t *at = bytes;
	uint64_t k0 = load64(key, 8), k1 = load64(key + 8, 8);
	v[0] = k0 ^ 0x736f6d6570736575ULL;
	v[1] = k1 ^ 0x646f72616e646f6dULL ^ (wide ? 0xee : 0);
	v[2] = k0 ^ 0x6c7967656e657261ULL;
	v[3] = k1 ^ 0x7465646279746573ULL;
	for (size_t left = count;; at += 8, left -= 8) {
		bool last = left < 8;
		uint64_t word = last ? load64(at, left) | (uint64_t)(count & 255) << 56 : load64(at, 8);
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
		if (last)
			break;
	}
	v[2] ^= wide ? 0xee : 0xff;
}

uint64_t tpc_siphash(const uint8_t key[16], const void *bytes, size_t count)
{
	uint64_t v[4];
	sip_input(v, key, bytes, count, false);
	return sip_end(v);
}

void tpc_siphash_wide(const uint8_t key[16], const void *bytes, size_t count, uint8_t tag[16])
{
	uint64_t v[4], half[2];
	sip_input(v, key, bytes, count, true);
	half[0] = sip_end(v);
	v[1] ^= 0xdd;
	half[1] = sip_end(v);
	for (int i = 0; i < 16; i++)
		tag[i] = (uint8_t)(half[i / 8] >> 8 * (i % 8));
}
