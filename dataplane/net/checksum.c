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

uint64_t dp_sum(const void *bytes, size_t count, uint64_t sum)
{
	const uint8_t *at = bytes;
	if (count >= 64) {
		const lanes low = {0xffffffff, 0xffffffff};
		lanes even = {0, 0}, odd = {0, 0}, even2 = {0, 0}, odd2 = {0, 0};
		do {
			lanes a = lanes_load(at), b = lanes_load(at + 16), c = lanes_load(at + 32), d = lanes_load(at + 48);
			even += a & low;
			odd += a >> 32;
			even2 += b & low;
			odd2 += b >> 32;
			even += c & low;
			odd += c >> 32;
			even2 += d & low;
			odd2 += d >> 32;
			at += 64;
			count -= 64;
		} while (count >= 64);
		even += even2;
		odd += odd2;
		even += odd;
		uint64_t both = even[0] + even[1];
		sum += (both & 0xffffffff) + (both >> 32);
	}
	while (count >= 8) {
		uint64_t word;
		memcpy(&word, at, 8);
		sum += (word & 0xffffffff) + (word >> 32);
		at += 8;
		count -= 8;
	}
	if (count) {
		uint64_t word = 0; /* the missing bytes count as zero */
		memcpy(&word, at, count);
		sum += (word & 0xffffffff) + (word >> 32);
	}
	return sum;
}
