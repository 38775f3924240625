/*
 * The Internet checksum, 64 bytes a step. Pure, any thread. Source: RFC 1071.
 *
 * Each 16-byte vector is split into its even and odd 32-bit lanes, which are added into 64-bit lanes: no carry can be lost before
 * 2^32 additions, so the loop has no carry chain. Vector extensions of the compiler: SSE2 on the floor machine, wider for free
 * when built for more.
 */
#include "checksum.h"

#include <string.h>

typedef uint64_t lanes __attribute__((vector_size(16)));

static inline lanes lanes_load(const uint8_t *at)
{
	lanes value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint64_t word_load(const uint8_t *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof(word));
	return word;
}

static inline uint64_t halves(uint64_t word)
{
	return (word & 0xffffffff) + (word >> 32);
}

/* Less than 8 bytes in all; the missing ones count as zero. */
static uint64_t crumb(const uint8_t *at, size_t count)
{
	uint64_t word = 0;
	for (size_t i = 0; i < count; i++)
		word |= (uint64_t)at[i] << 8 * i;
	return halves(word);
}

uint64_t dp_sum(const void *bytes, size_t count, uint64_t sum)
{
	const lanes low = {0xffffffff, 0xffffffff};
	const uint8_t *at = bytes;
	size_t left = count;
	if (count < 8)
		return sum + crumb(at, count);
	if (left >= 16) {
		lanes even = {0, 0}, odd = {0, 0}, even2 = {0, 0}, odd2 = {0, 0};
		for (; left >= 64; at += 64, left -= 64) {
			lanes a = lanes_load(at), b = lanes_load(at + 16), c = lanes_load(at + 32), d = lanes_load(at + 48);
			even += a & low;
			odd += a >> 32;
			even2 += b & low;
			odd2 += b >> 32;
			even += c & low;
			odd += c >> 32;
			even2 += d & low;
			odd2 += d >> 32;
		}
		for (; left >= 16; at += 16, left -= 16) {
			lanes a = lanes_load(at);
			even += a & low;
			odd += a >> 32;
		}
		even += even2;
		odd += odd2;
		even += odd;
		sum += halves(even[0]) + halves(even[1]);
	}
	if (left >= 8) {
		sum += halves(word_load(at));
		at += 8;
		left -= 8;
	}
	/* The last bytes by a load that ends with them; what lies before was added already, and is shifted out. */
	if (left)
		sum += halves(word_load(at + left - 8) >> 8 * (8 - left));
	return sum;
}
