/*
 * The parts without a protocol: checksum, SipHash, timer wheel; against simple models and published vectors.
 */
#include "net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t seed = 88172645463325252ULL;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint16_t plain_sum(const uint8_t *bytes, size_t count)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += i & 1 ? bytes[i] : (uint64_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void test_checksum(void **state)
{
	(void)state;
	static uint8_t bytes[9100];
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = round == 0 ? 0xff : round == 1 ? 0 : (uint8_t)random64();
		for (size_t count = 0; count < 9000; count += count < 300 ? 1 : 97) {
			for (size_t offset = 0; offset < 17; offset += 3) {
				uint16_t fast = dp_sum_fold(dp_sum(bytes + offset, count, 0));
				assert_int_equal(__builtin_bswap16(fast), plain_sum(bytes + offset, count));
			}
		}
		/* in even pieces it is the same */
		uint64_t sum = 0;
		for (size_t at = 0; at < 9000; at += 90)
			sum = dp_sum(bytes + at, 90, sum);
		assert_int_equal(dp_sum_fold(sum), dp_sum_fold(dp_sum(bytes, 9000, 0)));
	}
}

/* RFC 1071 section 3, and that a stored checksum makes the sum all ones. */
static void test_checksum_vector(void **state)
{
	(void)state;
	uint8_t bytes[10] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	assert_int_equal(__builtin_bswap16(dp_sum_fold(dp_sum(bytes, 8, 0))), 0xddf2);
	dp_put_sum(bytes + 8, dp_sum(bytes, 8, 0));
	assert_int_equal(dp_sum_fold(dp_sum(bytes, 10, 0)), 0xffff);
}

/* The reference vectors of SipHash-2-4 whose input is whole words: key 00 … 0f, input 00 01 02 … */
static void test_siphash(void **state)
{
	(void)state;
	const uint64_t key[2] = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
	const uint64_t words[2] = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
	assert_true(dp_siphash24(key, words, 0) == 0x726fdb47dd0e0e31ULL);
	assert_true(dp_siphash24(key, words, 1) == 0x93f5f5799a932462ULL);
	assert_true(dp_siphash24(key, words, 2) == 0x3f2acc7f57c29bdbULL);
	assert_true(dp_siphash13(key, words, 2) != dp_siphash24(key, words, 2));
}

enum { NODES = 500 };

struct world {
	struct dp_wheel wheel;
	struct dp_wheel_node node[NODES];
	uint64_t due[NODES]; /* 0: not set */
	uint64_t now, before;
};

static void fire(void *context, struct dp_wheel_node *node)
{
	struct world *world = context;
	size_t i = (size_t)(node - world->node);
	const uint64_t tick = 1ULL << DP_WHEEL_TICK_BITS;
	assert_true(world->due[i]);
	assert_true(node->due_ns <= world->now);
	/* not late: it was not due an advance ago, give or take a tick */
	assert_true(node->due_ns + 2 * tick > world->before);
	world->due[i] = 0;
	/* handlers set and cancel others */
	uint64_t luck = random64();
	size_t other = luck % NODES;
	if (luck & (1 << 20)) {
		dp_wheel_cancel(&world->node[other]);
		world->due[other] = 0;
	} else if (luck & (1 << 21)) {
		world->due[other] = world->now + (luck >> 24) % 2000000000ULL + 1;
		dp_wheel_set(&world->wheel, &world->node[other], world->due[other]);
	}
}

/* Against a list of deadlines: nothing is lost, early or late, over steps from a millisecond to hours. */
static void test_wheel(void **state)
{
	(void)state;
	static struct world world;
	static const uint64_t ranges[] = {10000000ULL, 2000000000ULL, 200000000000ULL, 2000000000000ULL};
	world.now = 12345678901ULL;
	dp_wheel_init(&world.wheel, world.now);
	for (int round = 0; round < 20000; round++) {
		size_t i = random64() % NODES;
		uint64_t range = ranges[random64() % 4];
		world.due[i] = world.now + random64() % range;
		dp_wheel_set(&world.wheel, &world.node[i], world.due[i]);
		world.before = world.now;
		world.now += random64() % (round % 1000 == 999 ? 4000000000000ULL : 20000000ULL);
		dp_wheel_advance(&world.wheel, world.now, fire, &world);
		const uint64_t tick = 1ULL << DP_WHEEL_TICK_BITS;
		for (size_t n = 0; n < NODES; n++) {
			assert_int_equal(world.due[n] != 0, world.node[n].link != NULL);
			if (world.due[n])
				assert_true(world.due[n] + 2 * tick > world.now);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_checksum_vector),
		cmocka_unit_test(test_siphash),
		cmocka_unit_test(test_wheel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The stack's calls up, which no test here reaches. */
bool dp_stream_opened(struct dp_stream *stream)
{
	(void)stream;
	return false;
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count)
{
	(void)stream;
	(void)bytes;
	return count;
}

void dp_stream_eof(struct dp_stream *stream)
{
	(void)stream;
}

void dp_stream_writable(struct dp_stream *stream)
{
	(void)stream;
}

void dp_stream_closed(struct dp_stream *stream)
{
	(void)stream;
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	(void)beacon;
	(void)path;
	(void)bytes;
	(void)count;
}
