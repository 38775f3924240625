/*
 * Below TCP over IPv6: headers, ICMPv6, neighbour discovery, UDP; frame by frame.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct script_net net;

static int setup(void **state)
{
	(void)state;
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	script_open(&net, &options);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	script_books(&net);
	script_close(&net);
	return 0;
}

/* Puts a frame in and says whether it ended in `counter`. */
static void expect_end(const uint8_t *frame, size_t bytes, enum tp_counter counter)
{
	script_end(&net, frame, bytes, counter);
}

static void expect_silence(void)
{
	assert_int_equal(net.frames, 0);
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

/* ---- IPv6 ---- */

static size_t ip6(uint8_t *frame, const uint8_t *to, uint8_t protocol, uint8_t hop_limit, const uint8_t *l4, size_t bytes)
{
	return script_wrap(frame, 6, DP_UNTAGGED, script_peer6, to, protocol, hop_limit, l4, bytes);
}

static size_t udp6_build(uint8_t *udp)
{
	put16(udp, 5555);
	put16(udp + 2, 7771);
	put16(udp + 4, 12);
	put16(udp + 6, 0);
	memcpy(udp + 8, "six!", 4);
	put16(udp + 6, script_sum(udp, 12, script_pseudo(6, script_peer6, script_our6, 17, 12)));
	return 12;
}

static void test_ip6(void **state)
{
	(void)state;
	uint8_t udp[64], frame[200], changed[200];
	size_t l4_bytes = udp6_build(udp);
	size_t bytes = ip6(frame, script_our6, 17, 64, udp, l4_bytes);
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(net.datagram_bytes, 4);
	assert_int_equal(net.path.peer.addr.family, 6);
	for (size_t cut = 14; cut < bytes; cut++)
		expect_end(frame, cut, TP_C_FRAMES_RUNT);
	static const struct {
		int at;
		uint8_t value;
		enum tp_counter counter;
	} cases[] = {
		{14, 0x45, TP_C_FRAMES_BAD_IP},   {20, 59, TP_C_FRAMES_BAD_PROTOCOL}, {20, 50, TP_C_FRAMES_BAD_PROTOCOL},
		{20, 44, TP_C_FRAMES_FRAGMENT},   {22, 0xff, TP_C_FRAMES_BAD_IP},     {53, 7, TP_C_FRAMES_NOT_OURS},
		{38, 0xff, TP_C_FRAMES_NOT_OURS},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memcpy(changed, frame, bytes);
		changed[cases[i].at] = cases[i].value;
		expect_end(changed, bytes, cases[i].counter);
	}
	static const uint8_t bad_sources[][16] = {
		{0}, {[15] = 1}, {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2}, {0xfd, 0, [7] = 1, [15] = 1}};
	for (size_t i = 0; i < sizeof(bad_sources) / 16; i++) {
		memcpy(changed, frame, bytes);
		memcpy(changed + 22, bad_sources[i], 16);
		expect_end(changed, bytes, TP_C_FRAMES_BAD_IP);
	}
	memcpy(changed, frame, bytes);
	memcpy(changed, "\x33\x33\0\0\0\1", 6);
	expect_end(changed, bytes, TP_C_FRAMES_NOT_OURS); /* our address in a group's frame */
	expect_silence();
}

/* Builds headers {next, length, …} before UDP. */
static size_t with_headers(uint8_t *frame, uint8_t first, const uint8_t *headers, size_t header_bytes)
{
	uint8_t l4[1500], udp[64];
	size_t udp_bytes = udp6_build(udp);
	memcpy(l4, headers, header_bytes);
	memcpy(l4 + header_bytes, udp, udp_bytes);
	return ip6(frame, script_our6, first, 64, l4, header_bytes + udp_bytes);
}

static void test_ip6_headers(void **state)
{
	(void)state;
	uint8_t frame[2000];
	const uint8_t three[] = {43, 0, 1, 4,  0, 0, 0, 0, 60, 0, 4, 0, 0, 0, 0, 0,
				 17, 1, 1, 12, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0};
	size_t bytes = with_headers(frame, 0, three, sizeof(three));
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(net.datagram_bytes, 4);
	const uint8_t hop_late[] = {0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0};
	bytes = with_headers(frame, 60, hop_late, sizeof(hop_late));
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP);
	const uint8_t source_route[] = {17, 0, 0, 1, 0, 0, 0, 0};
	bytes = with_headers(frame, 43, source_route, sizeof(source_route));
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP);
	const uint8_t too_long[] = {17, 9, 1, 4, 0, 0, 0, 0};
	bytes = with_headers(frame, 60, too_long, sizeof(too_long));
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP);
	const uint8_t fragment[] = {17, 0, 0, 1, 0, 0, 0, 9};
	bytes = with_headers(frame, 44, fragment, sizeof(fragment));
	expect_end(frame, bytes, TP_C_FRAMES_FRAGMENT);
	uint8_t many[72] = {0};
	for (int i = 0; i < 9; i++) {
		many[i * 8] = i == 8 ? 17 : 60;
		many[i * 8 + 2] = 1;
		many[i * 8 + 3] = 4;
	}
	bytes = with_headers(frame, 60, many, 72);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP);
	bytes = with_headers(frame, 60, many + 8, 64);
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	/* a header cut by the datagram's end */
	const uint8_t cut[] = {60, 0, 1, 4};
	bytes = ip6(frame, script_our6, 60, 64, cut, 4);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP);
	expect_silence();
}

/* The checksum that comes out as zero is sent as 0xffff, also over IPv6, where zero is refused. */
static void test_udp6_checksum(void **state)
{
	(void)state;
	uint8_t udp[10] = {0}, frame[200];
	put16(udp, 5555);
	put16(udp + 2, 7771);
	put16(udp + 4, 10);
	put16(udp + 8, script_sum(udp, 10, script_pseudo(6, script_peer6, script_our6, 17, 10)));
	put16(udp + 6, 0xffff); /* the payload makes the sum zero */
	size_t bytes = script_wrap(frame, 6, DP_UNTAGGED, script_peer6, script_our6, 17, 64, udp, 10), out_bytes;
	net.echo_datagrams = true;
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	const uint8_t *out = script_next(&net, &out_bytes); /* ports and addresses swapped: the same sum */
	assert_int_equal(out[60], 0xff);
	assert_int_equal(out[61], 0xff);
	put16(frame + 60, 0);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_L4_CHECKSUM);
	expect_silence();
}

/* ---- ICMPv6 and neighbour discovery ---- */

static size_t icmp6(uint8_t *frame, const uint8_t *from, const uint8_t *to, uint8_t hop_limit, uint8_t *icmp, size_t bytes)
{
	put16(icmp + 2, 0);
	put16(icmp + 2, script_sum(icmp, bytes, script_pseudo(6, from, to, 58, bytes)));
	return script_wrap(frame, 6, DP_UNTAGGED, from, to, 58, hop_limit, icmp, bytes);
}

static void test_icmp6_echo(void **state)
{
	(void)state;
	uint8_t icmp[128], frame[256];
	memset(icmp, 0x33, sizeof(icmp));
	icmp[0] = 128;
	icmp[1] = 0;
	size_t bytes = icmp6(frame, script_peer6, script_our6, 64, icmp, 71), out_bytes;
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_int_equal(out_bytes, bytes);
	assert_int_equal(out[54], 129);
	assert_int_equal(script_sum(out + 54, 71, script_pseudo(6, script_our6, script_peer6, 58, 71)), 0);
	assert_memory_equal(out + 58, frame + 58, 67);
	frame[60] ^= 1;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_L4_CHECKSUM);
	/* the link-local address answers too */
	uint8_t local[16] = {0xfe, 0x80, [11] = 0xff, [12] = 0xfe, [15] = 1}, from[16] = {0xfe, 0x80, [15] = 9};
	bytes = icmp6(frame, from, local, 64, icmp, 16);
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	out = script_next(&net, &out_bytes);
	assert_non_null(out);
	assert_memory_equal(out + 22, local, 16);
	/* a group does not */
	const uint8_t all[16] = {0xff, 2, [15] = 1};
	bytes = icmp6(frame, from, all, 64, icmp, 16);
	memcpy(frame, "\x33\x33\0\0\0\1", 6);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	/* a router's advertisement is ignored */
	icmp[0] = 134;
	bytes = icmp6(frame, from, all, 255, icmp, 64);
	memcpy(frame, "\x33\x33\0\0\0\1", 6);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	expect_silence();
}

static void test_unreachable6(void **state)
{
	(void)state;
	uint8_t udp[1460] = {0}, frame[1600];
	size_t out_bytes;
	put16(udp, 5555);
	put16(udp + 2, 9);
	put16(udp + 4, 1440);
	put16(udp + 6, script_sum(udp, 1440, script_pseudo(6, script_peer6, script_our6, 17, 1440)));
	size_t bytes = ip6(frame, script_our6, 17, 64, udp, 1440);
	expect_end(frame, bytes, TP_C_FRAMES_UNKNOWN_PORT);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_int_equal(out_bytes, 14 + 1280); /* RFC 4443 3.1: the least MTU */
	assert_int_equal(out[54], 1);
	assert_int_equal(out[55], 4);
	assert_memory_equal(out + 62, frame + 14, 1232);
	assert_int_equal(script_sum(out + 54, 1240, script_pseudo(6, script_our6, script_peer6, 58, 1240)), 0);
}

struct nd {
	uint8_t type, flags, target_last, option, option_mac;
	bool unspecified, unicast;
	uint8_t hop_limit;
};

static size_t nd_build(uint8_t *frame, const struct nd *nd)
{
	uint8_t icmp[64] = {0}, from[16], to[16] = {0xff, 2, [11] = 1, [12] = 0xff, [15] = 1};
	icmp[0] = nd->type;
	icmp[4] = nd->flags;
	memcpy(icmp + 8, script_our6, 16);
	icmp[23] = nd->target_last;
	size_t bytes = 24;
	if (nd->option) {
		icmp[24] = nd->option;
		icmp[25] = 1;
		icmp[26] = 2;
		icmp[31] = nd->option_mac;
		bytes = 32;
	}
	memcpy(from, script_peer6, 16);
	if (nd->unspecified)
		memset(from, 0, 16);
	if (nd->unicast)
		memcpy(to, script_our6, 16);
	size_t frame_bytes = icmp6(frame, from, to, nd->hop_limit ? nd->hop_limit : 255, icmp, bytes);
	if (!nd->unicast)
		memcpy(frame, "\x33\x33\xff\0\0\1", 6);
	return frame_bytes;
}

static bool knows6(uint8_t last, uint8_t mac)
{
	struct tp_addr addr = dp_addr_from6(script_peer6);
	struct dp_link link;
	addr.byte[15] = last;
	bool known = dp_route(net.stack, &addr, &link);
	size_t bytes;
	while (script_next(&net, &bytes))
		;
	return known && link.mac[5] == mac;
}

static void test_solicitation(void **state)
{
	(void)state;
	uint8_t frame[256];
	size_t out_bytes, bytes = nd_build(frame, &(struct nd){.type = 135, .target_last = 1, .option = 1, .option_mac = 0x55});
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_non_null(out);
	assert_memory_equal(out, script_peer_mac, 6);
	assert_int_equal(out[21], 255);
	assert_int_equal(out[54], 136);
	assert_int_equal(out[58], 0x60); /* solicited, override */
	assert_memory_equal(out + 62, script_our6, 16);
	assert_int_equal(out[78], 2);
	assert_memory_equal(out + 80, script_our_mac, 6);
	assert_int_equal(script_sum(out + 54, 32, script_pseudo(6, script_our6, script_peer6, 58, 32)), 0);
	assert_true(knows6(2, 0x55));
	/* unicast, without option: RFC 4861 7.2.2 (reachability) */
	bytes = nd_build(frame, &(struct nd){.type = 135, .target_last = 1, .unicast = true});
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_non_null(script_next(&net, &out_bytes));
	/* its address from another MAC, as a gateway that took over asks: told where we are, not believed while the entry is fresh */
	bytes = nd_build(frame, &(struct nd){.type = 135, .target_last = 1, .option = 1, .option_mac = 0x55});
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_non_null(script_next(&net, &out_bytes));
	bytes = nd_build(frame, &(struct nd){.type = 135, .target_last = 1, .option = 1, .option_mac = 0x66});
	frame[11] = 0x66;
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	out = script_next(&net, &out_bytes);
	assert_true(out != NULL && out[5] == 0x66);
	assert_true(knows6(2, 0x55));
	/* RFC 4862 5.4.3: duplicate detection is answered to all */
	bytes = nd_build(frame, &(struct nd){.type = 135, .target_last = 1, .unspecified = true});
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	out = script_next(&net, &out_bytes);
	assert_memory_equal(out, "\x33\x33\0\0\0\1", 6);
	assert_int_equal(out[58], 0x20);
	static const struct {
		struct nd nd;
		enum tp_counter counter;
	} bad[] = {
		{{.type = 135, .target_last = 1, .hop_limit = 254}, TP_C_FRAMES_BAD_ICMP},
		{{.type = 135, .target_last = 7}, TP_C_FRAMES_NOT_OURS},
		{{.type = 135, .target_last = 1, .option = 1, .option_mac = 0x66}, TP_C_FRAMES_BAD_ICMP},
		{{.type = 135, .target_last = 1, .option = 1, .option_mac = 0x55, .unspecified = true}, TP_C_FRAMES_BAD_ICMP},
		{{.type = 135, .target_last = 1, .unspecified = true, .unicast = true}, TP_C_FRAMES_BAD_ICMP},
		{{.type = 137, .target_last = 1, .unicast = true}, TP_C_FRAMES_BAD_ICMP}, /* redirect */
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bytes = nd_build(frame, &bad[i].nd);
		expect_end(frame, bytes, bad[i].counter);
	}
	/* an option of length 0, a cut option, a cut message */
	uint8_t icmp[64] = {135, [24] = 1};
	memcpy(icmp + 8, script_our6, 16);
	bytes = icmp6(frame, script_peer6, script_our6, 255, icmp, 32);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	icmp[25] = 2;
	bytes = icmp6(frame, script_peer6, script_our6, 255, icmp, 32);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	for (size_t cut = 8; cut < 24; cut++) {
		bytes = icmp6(frame, script_peer6, script_our6, 255, icmp, cut);
		expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	}
	icmp[1] = 1;
	bytes = icmp6(frame, script_peer6, script_our6, 255, icmp, 24);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	expect_silence();
}

static void test_advertisement(void **state)
{
	(void)state;
	uint8_t frame[256];
	/* nobody asked */
	struct nd nd = {.type = 136, .flags = 0x60, .target_last = 2, .option = 2, .option_mac = 0x55, .unicast = true};
	size_t bytes = nd_build(frame, &nd);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	assert_false(knows6(2, 0x55)); /* and this asks */
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_true(knows6(2, 0x55));
	/* another MAC while the entry is fresh, whatever the flags say */
	nd.option_mac = 0x66;
	bytes = nd_build(frame, &nd);
	frame[11] = 0x66;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	assert_true(knows6(2, 0x55));
	/* stale: a solicited one may move it, an unasked one not */
	net.now_ns += 31 * DP_SECOND;
	nd.flags = 0x20;
	bytes = nd_build(frame, &nd);
	frame[11] = 0x66;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	nd.flags = 0x60;
	bytes = nd_build(frame, &nd);
	frame[11] = 0x66;
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_true(knows6(2, 0x66));
	/* somebody claims our address */
	nd = (struct nd){.type = 136, .flags = 0x60, .target_last = 1, .option = 2, .option_mac = 0x55, .unicast = true};
	bytes = nd_build(frame, &nd);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	expect_silence();
}
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_ip6),          CASE(test_ip6_headers),  CASE(test_udp6_checksum), CASE(test_icmp6_echo),
		CASE(test_unreachable6), CASE(test_solicitation), CASE(test_advertisement),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
