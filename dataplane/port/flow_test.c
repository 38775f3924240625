/* The flow hash: equal to DPDK's Toeplitz, the same for both directions and for the ICMP error about a packet, evenly spread. */
#include "flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_thash.h>

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* An Ethernet frame with TCP inside. Returns its length. */
static size_t frame_make(uint8_t *frame, bool six, bool tagged, const uint8_t *from, const uint8_t *to, uint16_t from_port,
			 uint16_t to_port)
{
	const size_t at = tagged ? 18 : 14, addr_bytes = six ? 16 : 4, ip_bytes = six ? 40 : 20;
	memset(frame, 0, 128);
	if (tagged)
		put16(frame + 12, 0x8100);
	put16(frame + at - 2, six ? 0x86dd : 0x0800);
	uint8_t *ip = frame + at;
	ip[0] = six ? 0x60 : 0x45;
	ip[six ? 6 : 9] = 6;
	memcpy(ip + (six ? 8 : 12), from, addr_bytes);
	memcpy(ip + (six ? 24 : 16), to, addr_bytes);
	put16(ip + ip_bytes, from_port);
	put16(ip + ip_bytes + 2, to_port);
	return at + ip_bytes + 20;
}

static void random_bytes(uint8_t *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(rand() >> 7);
}

static void equals_the_cards_hash(void **state)
{
	(void)state;
	srand(1);
	for (int round = 0; round < 2000; round++) {
		uint8_t frame[128], back[128], from[16], to[16];
		const bool six = round & 1, tagged = round & 2;
		const uint16_t from_port = (uint16_t)rand(), to_port = (uint16_t)rand();
		uint32_t words[9];
		random_bytes(from, sizeof(from));
		random_bytes(to, sizeof(to));
		const size_t bytes = frame_make(frame, six, tagged, from, to, from_port, to_port);
		const struct dp_flow flow = dp_flow_of(frame, bytes);
		const uint32_t addr_words = six ? 4 : 1;
		for (uint32_t i = 0; i < addr_words; i++) {
			memcpy(&words[i], from + 4 * i, 4);
			memcpy(&words[addr_words + i], to + 4 * i, 4);
		}
		for (uint32_t i = 0; i < 2 * addr_words; i++)
			words[i] = __builtin_bswap32(words[i]);
		words[2 * addr_words] = (uint32_t)from_port << 16 | to_port;
		const uint32_t wanted = rte_softrss(words, 2 * addr_words + 1, dp_flow_key);
		assert_int_equal(flow.kind, DP_FLOW_IP);
		assert_int_equal(flow.hash, wanted & 0xffff);
		assert_int_equal(flow.hash, wanted >> 16);
		frame_make(back, six, !tagged, to, from, to_port, from_port);
		assert_int_equal(dp_flow_of(back, sizeof(back)).hash, flow.hash);
	}
}

static void errors_follow_what_they_quote(void **state)
{
	(void)state;
	for (int six = 0; six < 2; six++) {
		uint8_t frame[128], error[256] = {0}, from[16] = {10, 1, 2, 3}, to[16] = {10, 4, 5, 6}, router[16] = {172, 16};
		const size_t bytes = frame_make(frame, six, false, from, to, 80, 4242);
		const size_t ip_bytes = six ? 40 : 20;
		/* a router's error to `from` about it */
		frame_make(error, six, false, router, from, 0, 0);
		uint8_t *ip = error + 14;
		ip[six ? 6 : 9] = six ? 58 : 1;
		ip[ip_bytes] = six ? 2 : 3;
		memcpy(ip + ip_bytes + 8, frame + 14, bytes - 14);
		const struct dp_flow flow = dp_flow_of(error, 14 + ip_bytes + 8 + bytes - 14);
		assert_int_equal(flow.kind, DP_FLOW_ERROR);
		assert_int_equal(flow.hash, dp_flow_of(frame, bytes).hash);
	}
}

static void other_frames(void **state)
{
	uint8_t frame[128], from[16] = {10, 0, 0, 1}, to[16] = {10, 0, 0, 2};
	(void)state;
	memset(frame, 0, sizeof(frame));
	put16(frame + 12, 0x0806);
	put16(frame + 20, 1);
	assert_int_equal(dp_flow_of(frame, 42).kind, DP_FLOW_OTHER);
	put16(frame + 20, 2);
	assert_int_equal(dp_flow_of(frame, 42).kind, DP_FLOW_NEIGHBOUR);
	frame_make(frame, true, false, from, to, 0, 0);
	frame[14 + 6] = 58;
	frame[14 + 40] = 136;
	assert_int_equal(dp_flow_of(frame, 78).kind, DP_FLOW_NEIGHBOUR);
	/* all fragments of a datagram go one way, whatever follows their header */
	frame_make(frame, false, false, from, to, 1111, 2222);
	put16(frame + 14 + 6, 0x2000);
	const uint16_t first = dp_flow_of(frame, 54).hash;
	put16(frame + 14 + 6, 100);
	put16(frame + 34, 3333);
	assert_int_equal(dp_flow_of(frame, 54).hash, first);
	/* any cut is read within its bytes (the sanitizer watches) */
	for (int six = 0; six < 2; six++) {
		const size_t whole = frame_make(frame, six, true, from, to, 1, 2);
		for (size_t bytes = 0; bytes <= whole; bytes++) {
			uint8_t *cut = malloc(bytes + 1);
			memcpy(cut, frame, bytes);
			dp_flow_of(cut, bytes);
			free(cut);
		}
	}
}

static void ports_spread_evenly(void **state)
{
	uint8_t frame[128], from[16] = {203, 0, 113, 7}, to[16] = {10, 0, 0, 1};
	(void)state;
	for (uint32_t cores = 2; cores <= 8; cores++) {
		uint32_t count[8] = {0};
		for (uint32_t port = 32768; port < 32768 + 1024; port++) {
			const size_t bytes = frame_make(frame, false, false, from, to, (uint16_t)port, 80);
			count[dp_flow_of(frame, bytes).hash % DP_FLOW_TABLE % cores]++;
		}
		for (uint32_t i = 0; i < cores; i++)
			assert_in_range(count[i], 1024 / cores * 3 / 4, 1024 / cores * 5 / 4 + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equals_the_cards_hash),
		cmocka_unit_test(errors_follow_what_they_quote),
		cmocka_unit_test(other_frames),
		cmocka_unit_test(ports_spread_evenly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
