/*
 * SipHash over 64-bit words, so that peers can neither fill one hash chain nor guess an initial sequence number. Pure. The input is whole
 * words, so the last block is only the length. See turnpike/siphash.h.
 */
#include "turnpike/siphash.h"
#include "net.h"

static inline __attribute__((always_inline)) uint64_t sip(const uint64_t key[2], const uint64_t *words, uint32_t count,
							  int per_word, int last)
{
	uint64_t v[4];

	tp_sip_begin(v, key);
	for (uint32_t i = 0; i < count; i++)
		tp_sip_word(v, words[i], per_word);
	tp_sip_word(v, (uint64_t)count << 59, per_word); /* bytes mod 256, in the top byte */
	v[2] ^= 0xff;
	return tp_sip_end(v, last);
}

uint64_t dp_siphash13(const uint64_t key[2], const uint64_t *words, uint32_t count)
{
	return sip(key, words, count, 1, 3);
}

uint64_t dp_siphash24(const uint64_t key[2], const uint64_t *words, uint32_t count)
{
	return sip(key, words, count, 2, 4);
}
