/*
 * The steps of SipHash, a keyed hash whose outputs tell nothing of the key, for those who cut their input into words in ways of their own:
 *
 *   begin ─► word … word ─► v[2] ^= 0xff ─► end
 *
 * with the count of bytes modulo 256 in the top byte of the last word, and what is left of the input below it. SipHash-1-3 takes one round a
 * word and three at the end, SipHash-2-4 two and four. Pure; any thread. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF".
 */
#ifndef TURNPIKE_SIPHASH_H
#define TURNPIKE_SIPHASH_H

#include <stdint.h>

static inline uint64_t tp_sip_rotate(uint64_t value, int by)
{
	return value << by | value >> (64 - by);
}

static inline void tp_sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = tp_sip_rotate(v[1], 13) ^ v[0];
	v[0] = tp_sip_rotate(v[0], 32);
	v[2] += v[3];
	v[3] = tp_sip_rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = tp_sip_rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = tp_sip_rotate(v[1], 17) ^ v[2];
	v[2] = tp_sip_rotate(v[2], 32);
}

static inline void tp_sip_begin(uint64_t v[4], const uint64_t key[2])
{
	v[0] = key[0] ^ 0x736f6d6570736575ULL;
	v[1] = key[1] ^ 0x646f72616e646f6dULL;
	v[2] = key[0] ^ 0x6c7967656e657261ULL;
	v[3] = key[1] ^ 0x7465646279746573ULL;
}

static inline __attribute__((always_inline)) void tp_sip_word(uint64_t v[4], uint64_t word, int rounds)
{
	v[3] ^= word;
	for (int r = 0; r < rounds; r++)
		tp_sip_round(v);
	v[0] ^= word;
}

static inline __attribute__((always_inline)) uint64_t tp_sip_end(uint64_t v[4], int rounds)
{
	for (int r = 0; r < rounds; r++)
		tp_sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
