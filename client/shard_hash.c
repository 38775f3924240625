/*
 * XXH3-64 of short inputs: see checksum.h. Portable C; any thread. Multiplications are modulo 2^64; fold() is a 64 × 64 → 128 bit product,
 * its halves joined by xor. The numbers are those of the specification: three primes, two mixers, the first 64 bytes of the default secret.
 */
#include "checksum.h"

#define PRIME_1 0x9e3779b185ebca87ULL
#define PRIME_2 0xc2b2ae3d27d4eb4fULL
#define PRIME_3 0x165667b19e3779f9ULL
#define MIXER_1 0x165667919e3779f9ULL
#define MIXER_2 0x9fb21c651e98df25ULL

/* The secret, by little-endian words. */
static const uint64_t secret[8] = {0xbe4ba423396cfeb8ULL, 0x1cad21f72c81017cULL, 0xdb979083e96dd4deULL, 0x1f67b3b7a4a44072ULL,
				   0x78e5c0cc4ee679cbULL, 0x2172ffcc7dd05a82ULL, 0x8e2443f7744608b8ULL, 0x4c263a81e69035e0ULL};

static uint64_t load(const uint8_t *at, int bytes)
{
	uint64_t word = 0;
	for (int i = 0; i < bytes; i++)
		word |= (uint64_t)at[i] << 8 * i;
	return word;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	uint64_t al = a & 0xffffffff, ah = a >> 32, bl = b & 0xffffffff, bh = b >> 32;
	uint64_t low = al * bl, middle = ah * bl + (low >> 32), other = al * bh + (middle & 0xffffffff);
	return (ah * bh + (middle >> 32) + (other >> 32)) ^ (other << 32 | (low & 0xffffffff));
}

static uint64_t rotl(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static uint64_t swap(uint64_t x)
{
	uint64_t swapped = 0;
	for (int i = 0; i < 8; i++)
		swapped |= (x >> 8 * i & 255) << (56 - 8 * i);
	return swapped;
}

static uint64_t avalanche(uint64_t h)
{
	h = (h ^ h >> 37) * MIXER_1;
	return h ^ h >> 32;
}

static uint64_t hash_1_to_3(const uint8_t *at, size_t count)
{
	uint32_t joined = (uint32_t)at[0] << 16 | (uint32_t)at[count >> 1] << 24 | at[count - 1] | (uint32_t)count << 8;
	uint64_t h = joined ^ (uint32_t)((uint32_t)secret[0] ^ (uint32_t)(secret[0] >> 32));
	h = (h ^ h >> 33) * PRIME_2;
	h = (h ^ h >> 29) * PRIME_3;
	return h ^ h >> 32;
}

static uint64_t hash_4_to_8(const uint8_t *at, size_t count)
{
	uint64_t h = (load(at + count - 4, 4) + (load(at, 4) << 32)) ^ (secret[1] ^ secret[2]);
	h = (h ^ rotl(h, 49) ^ rotl(h, 24)) * MIXER_2;
	h = (h ^ ((h >> 35) + count)) * MIXER_2;
	return h ^ h >> 28;
}

static uint64_t hash_9_to_16(const uint8_t *at, size_t count)
{
	uint64_t low = load(at, 8) ^ (secret[3] ^ secret[4]), high = load(at + count - 8, 8) ^ (secret[5] ^ secret[6]);
	return avalanche(count + swap(low) + high + fold(low, high));
}

static uint64_t mix(const uint8_t *at, int which)
{
	return fold(load(at, 8) ^ secret[which], load(at + 8, 8) ^ secret[which + 1]);
}

uint64_t tpc_xxh3(const void *bytes, size_t count)
{
	const uint8_t *at = bytes;
	if (count <= 3)
		return hash_1_to_3(at, count);
	if (count <= 8)
		return hash_4_to_8(at, count);
	if (count <= 16)
		return hash_9_to_16(at, count);
	uint64_t h = count * PRIME_1;
	if (count > 32)
		h += mix(at + 16, 4) + mix(at + count - 32, 6);
	return avalanche(h + mix(at, 0) + mix(at + count - 16, 2));
}
