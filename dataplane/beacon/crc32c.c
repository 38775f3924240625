/*
 * CRC-32C by the processor's own instruction, which takes a word a cycle but three cycles each: three runs side by side are as fast as it goes.
 *
 *   bytes   ├── run a, RUN bytes ──┼── run b ──┼── run c ──┤  … again …  ┤ rest, word by word
 *   crc     (a, shifted by two runs) ^ (b, shifted by one) ^ c
 *
 * To shift a checksum by n zero bytes is to multiply it by x^8n modulo the polynomial. A carry-less product of it and the constant
 * x^(8n-33) does that, and the instruction itself reduces the product (its own x^32, and x more since the operands are bit-reversed).
 *
 * Entered by rx cores; the choice is made before main(). The plain way is the oracle of the other.
 * Source: RFC 3720 appendix B.4; V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction" (Intel, 2011).
 */
#include "crc32c.h"

#include <nmmintrin.h>
#include <stdbool.h>
#include <string.h>
#include <wmmintrin.h>

enum { RUN = 80, WORD = 8 }; /* six times three runs are most of a datagram of 1472 bytes */

static uint32_t shift_one, shift_two; /* x^(8 RUN - 33), x^(16 RUN - 33) */
static bool fast;

static inline uint64_t word_at(const uint8_t *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof word);
	return word;
}

/* x^power modulo the polynomial, bit-reversed. */
static uint32_t power_of_x(uint32_t power)
{
	uint32_t value = 0x80000000;
	for (; power > 0; power--)
		value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
	return value;
}

static void __attribute__((constructor)) choose(void)
{
	shift_one = power_of_x(8 * RUN - 33);
	shift_two = power_of_x(16 * RUN - 33);
	__builtin_cpu_init();
	fast = __builtin_cpu_supports("pclmul");
}

/* Without the inversions before and after. */
static inline uint32_t words_and_rest(uint64_t crc, const uint8_t *at, size_t count)
{
	for (; count >= WORD; at += WORD, count -= WORD)
		crc = _mm_crc32_u64(crc, word_at(at));
	uint32_t rest = (uint32_t)crc;
	for (; count > 0; at++, count--)
		rest = _mm_crc32_u8(rest, *at);
	return rest;
}

uint32_t dp_crc32c_plain(uint32_t crc, const void *bytes, size_t count)
{
	return ~words_and_rest((uint32_t)~crc, bytes, count);
}

__attribute__((target("pclmul"))) static inline uint64_t shifted(uint64_t crc, uint32_t by)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int)by), 0);
	return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("pclmul"))) static uint32_t three_runs(uint32_t crc, const uint8_t *at, size_t count)
{
	uint64_t a = (uint32_t)~crc;
	for (; count >= 3 * RUN; at += 3 * RUN, count -= 3 * RUN) {
		uint64_t b = 0, c = 0;
		_Pragma("GCC unroll 10") for (size_t i = 0; i < RUN; i += WORD)
		{
			a = _mm_crc32_u64(a, word_at(at + i));
			b = _mm_crc32_u64(b, word_at(at + RUN + i));
			c = _mm_crc32_u64(c, word_at(at + 2 * RUN + i));
		}
		a = shifted(a, shift_two) ^ shifted(b, shift_one) ^ c;
	}
	return ~words_and_rest(a, at, count);
}

uint32_t dp_crc32c(uint32_t crc, const void *bytes, size_t count)
{
	return fast ? three_runs(crc, bytes, count) : dp_crc32c_plain(crc, bytes, count);
}
