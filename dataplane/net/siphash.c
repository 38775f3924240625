/*
 * SipHash over 64-bit words: a keyed hash whose outputs tell nothing of the key, so peers can neither fill one hash chain nor guess
 * an initial sequence number. Pure. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF"; here the input is whole
 * words, so the last block is only the length.
 */
#include "net.h"

static inline uint64_t rotate(uint64_t value, int by)
{
	return value << by | value >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static inline __attribute__((always_inline)) uint64_t sip(const uint64_t key[2], const uint64_t *words, uint32_t count,
							  int per_word, int last)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL, key[0] ^ 0x6c7967656e657261ULL,
			 key[1] ^ 0x7465646279746573ULL};
	uint64_t length = (uint64_t)count << 59; /* bytes mod 256, in the top byte */
	for (uint32_t i = 0; i <= count; i++) {
		uint64_t word = i < count ? words[i] : length;
		v[3] ^= word;
		for (int r = 0; r < per_word; r++)
			sip_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (int r = 0; r < last; r++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t dp_siphash13(const uint64_t key[2], const uint64_t *words, uint32_t count)
{
	return sip(key, words, count, 1, 3);
}

uint64_t dp_siphash24(const uint64_t key[2], const uint64_t *words, uint32_t count)
{
	return sip(key, words, count, 2, 4);
}
