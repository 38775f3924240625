/*
 * Our addresses on the link: probes, announcements, conflicts, multicast reports. Named by RFC section.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct script_net net;
static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, zero[16];
static const uint8_t rival_mac[6] = {0x02, 0, 0, 0, 0, 0x66};
static const uint8_t link_local[16] = {0xfe, 0x80, [11] = 0xff, [12] = 0xfe, [15] = 1}; /* of script_our_mac */
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

static const uint8_t solicited[16] = {0xff, 0x02, [11] = 1, [12] = 0xff, [15] = 1}; /* of script_our6 and link_local */

static int setup(void **state)
{
	(void)state;
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED, .claim = true};
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

static void pass(uint64_t ms)
{
	for (uint64_t i = 0; i < ms; i++) {
		net.now_ns += DP_MS;
		dp_stack_tick(net.stack, net.now_ns);
	}
}

static void none(void)
{
	assert_int_equal(net.frames, 0);
}

static const uint8_t *next(size_t least)
{
	size_t bytes;
	const uint8_t *frame = script_next(&net, &bytes);
	assert_non_null(frame);
	assert_true(bytes >= least);
	assert_memory_equal(frame + 6, script_our_mac, 6);
	return frame;
}

/* An ARP request to all: a probe when `sender` is NULL, an announcement when it is our address. */
static void expect_arp(const uint8_t *sender)
{
	const uint8_t *frame = next(42), *arp = frame + 14;
	assert_memory_equal(frame, everyone, 6);
	assert_int_equal(script_get(frame + 12, 2), 0x0806);
	assert_int_equal(script_get(arp + 6, 2), 1);
	assert_memory_equal(arp + 8, script_our_mac, 6);
	assert_memory_equal(arp + 14, sender ? sender : zero, 4);
	assert_memory_equal(arp + 18, zero, 6);
	assert_memory_equal(arp + 24, script_our4, 4);
}

/* ICMPv6, its sum checked; returns where it begins. */
static const uint8_t *expect_icmp6(uint8_t hop_limit, uint32_t skip, const uint8_t *from)
{
	const uint8_t *frame = next(14 + 40 + 8), *ip = frame + 14;
	assert_int_equal(script_get(frame + 12, 2), 0x86dd);
	assert_int_equal(ip[7], hop_limit);
	assert_memory_equal(ip + 8, from, 16);
	assert_int_equal(frame[0], 0x33);
	assert_memory_equal(frame + 2, ip + 36, 4); /* RFC 2464 section 7 */
	uint32_t bytes = script_get(ip + 4, 2) - skip;
	assert_int_equal(script_sum(ip + 40 + skip, bytes, script_pseudo(6, ip + 8, ip + 24, 58, bytes)), 0);
	return ip + 40 + skip;
}

static void expect_probe6(const uint8_t *target)
{
	const uint8_t *nd = expect_icmp6(255, 0, zero);
	assert_int_equal(nd[0], 135);
	assert_memory_equal(nd + 8, target, 16);
	assert_int_equal(script_get(nd - 36, 2), 24); /* no option: nobody is named */
	assert_memory_equal(nd - 16 + 13, target + 13, 3);
}

static void expect_announcement6(const uint8_t *ours)
{
	const uint8_t *nd = expect_icmp6(255, 0, ours);
	assert_int_equal(nd[0], 136);
	assert_int_equal(nd[4], 0x20); /* override */
	assert_memory_equal(nd - 16, all_nodes, 16);
	assert_memory_equal(nd + 8, ours, 16);
	assert_memory_equal(nd + 26, script_our_mac, 6);
}

static void expect_report(uint8_t type, const uint8_t *from)
{
	const uint8_t *mld = expect_icmp6(1, 8, from);
	static const uint8_t alert[8] = {58, 0, 5, 2, 0, 0, 1, 0};
	assert_memory_equal(mld - 8, alert, 8);
	assert_int_equal(mld[-8 - 40 + 6], 0);
	assert_int_equal(mld[0], 143);
	assert_int_equal(script_get(mld + 6, 2), 2);
	for (int i = 0; i < 2; i++) {
		const uint8_t *record = mld + 8 + i * 20, *addr = i ? link_local : script_our6;
		assert_int_equal(record[0], type);
		assert_int_equal(script_get(record + 1, 3), 0);
		assert_memory_equal(record + 4, solicited, 13);
		assert_memory_equal(record + 17, addr + 13, 3);
	}
}

static void probes(void)
{
	expect_report(4, zero);
	expect_arp(NULL);
	expect_probe6(script_our6);
	expect_probe6(link_local);
	none();
}

static void settle(void)
{
	probes();
	pass(260);
	expect_report(4, zero);
	expect_arp(NULL);
	pass(250);
	expect_arp(NULL);
	none();
	pass(480);
	none();
	pass(40);
	expect_arp(script_our4);
	expect_announcement6(script_our6);
	expect_announcement6(link_local);
	none();
	pass(2010);
	expect_arp(script_our4);
	expect_announcement6(script_our6);
	expect_announcement6(link_local);
	none();
	pass(20000);
	none();
}

/* RFC 5227 2.1.1 and 2.3, RFC 4862 5.4.2, RFC 4861 7.2.6, RFC 3810 6.1: probes, then two announcements, then silence. */
static void test_start(void **state)
{
	(void)state;
	settle();
	assert_int_equal(net.counters.v[TP_C_ADDRESS_CONFLICTS], 0);
}

static size_t arp_frame(uint8_t *frame, uint16_t operation, const uint8_t *mac, const uint8_t *sender, const uint8_t *target)
{
	memcpy(frame, everyone, 6);
	memcpy(frame + 6, mac, 6);
	uint8_t *at = script_put(frame + 12, 0x0806, 2);
	at = script_put(at, 0x0001080006040000 | operation, 8);
	memcpy(at, mac, 6);
	memcpy(at + 6, sender, 4);
	memset(at + 10, 0, 6);
	memcpy(at + 16, target, 4);
	return 42;
}

static void arp_in(uint16_t operation, const uint8_t *mac, const uint8_t *sender, const uint8_t *target, enum tp_counter end)
{
	uint8_t frame[64];
	script_end(&net, frame, arp_frame(frame, operation, mac, sender, target), end);
}

static size_t nd_frame(uint8_t *frame, uint8_t type, const uint8_t *from, const uint8_t *to, const uint8_t *target)
{
	uint8_t nd[24] = {type};
	memcpy(nd + 8, target, 16);
	script_put(nd + 2, script_sum(nd, 24, script_pseudo(6, from, to, 58, 24)), 2);
	size_t bytes = script_wrap(frame, 6, DP_UNTAGGED, from, to, 58, 255, nd, 24);
	memcpy(frame + 6, rival_mac, 6);
	return bytes;
}

static void nd_in(uint8_t type, const uint8_t *from, const uint8_t *to, const uint8_t *target, enum tp_counter end)
{
	uint8_t frame[128];
	script_end(&net, frame, nd_frame(frame, type, from, to, target), end);
}

static void ask_for_us(bool answered)
{
	arp_in(1, script_peer_mac, script_peer4, script_our4, answered ? TP_C_FRAMES_ACCEPTED : TP_C_FRAMES_NOT_OURS);
	if (answered)
		assert_int_equal(next(42)[21], 2);
	none();
}

/* RFC 5227 2.1.1: somebody answers the probe. We are silent about the address until it is free; the others are served. */
static void test_taken(void **state)
{
	(void)state;
	probes();
	ask_for_us(true); /* while we probe we serve */
	arp_in(2, rival_mac, script_our4, script_our4, TP_C_FRAMES_BAD_ARP);
	assert_int_equal(net.counters.v[TP_C_ADDRESS_CONFLICTS], 1);
	assert_int_equal(net.conflicts, 1);
	ask_for_us(false);
	uint8_t echo[16] = {8}, frame[128];
	script_put(echo + 2, script_sum(echo, 16, 0), 2);
	size_t bytes = script_wrap(frame, 4, DP_UNTAGGED, script_peer4, script_our4, 1, 64, echo, 16);
	script_end(&net, frame, bytes, TP_C_FRAMES_NOT_OURS);
	pass(3100);
	expect_report(4, zero);
	for (int i = 0; i < 2; i++) {
		expect_announcement6(script_our6);
		expect_announcement6(link_local);
	}
	none();
	/* Its owner talks, as hosts do: the pause begins anew. Told once in 10 s. */
	pass(3000);
	arp_in(1, rival_mac, script_our4, script_peer4, TP_C_FRAMES_BAD_ARP);
	assert_int_equal(net.conflicts, 1);
	pass(9900);
	none();
	pass(1200);
	expect_arp(NULL);
	ask_for_us(false);
	pass(510);
	expect_arp(NULL);
	expect_arp(NULL);
	pass(600);
	expect_arp(script_our4);
	ask_for_us(true);
	script_end(&net, frame, bytes, TP_C_FRAMES_ACCEPTED);
	next(34);
}

/* RFC 5227 2.1.1: another one probes for the same address at the same time. Later it hears that the address is ours. */
static void test_rival_probe(void **state)
{
	(void)state;
	probes();
	arp_in(1, rival_mac, zero, script_our4, TP_C_FRAMES_BAD_ARP);
	assert_int_equal(net.counters.v[TP_C_ADDRESS_CONFLICTS], 1);
	ask_for_us(false);
}

static void test_late_probe(void **state)
{
	(void)state;
	settle();
	arp_in(1, rival_mac, zero, script_our4, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(next(42)[21], 2);
	nd_in(135, zero, solicited, script_our6, TP_C_FRAMES_ACCEPTED);
	expect_announcement6(script_our6);
	assert_int_equal(net.counters.v[TP_C_ADDRESS_CONFLICTS], 0);
	none();
}

/* RFC 5227 2.4 (c): defended, at most once in 10 s. */
static void test_defence(void **state)
{
	(void)state;
	settle();
	for (int round = 0; round < 3; round++) {
		arp_in(1, rival_mac, script_our4, script_our4, TP_C_FRAMES_BAD_ARP);
		expect_arp(script_our4);
		for (int i = 0; i < 5; i++)
			arp_in(2, rival_mac, script_our4, script_peer4, TP_C_FRAMES_BAD_ARP);
		none();
		nd_in(136, script_our6, all_nodes, script_our6, TP_C_FRAMES_BAD_ICMP);
		expect_announcement6(script_our6);
		nd_in(136, script_peer6, all_nodes, script_our6, TP_C_FRAMES_BAD_ICMP);
		nd_in(135, script_our6, solicited, script_our6, TP_C_FRAMES_BAD_ICMP);
		nd_in(128, script_our6, script_our6, script_our6, TP_C_FRAMES_BAD_IP); /* an echo from ourselves: forged */
		none();
		ask_for_us(true);
		pass(10000);
	}
	assert_int_equal(net.counters.v[TP_C_ADDRESS_CONFLICTS], 3 * 9);
	assert_int_equal(net.conflicts, 3 * 2);
}

/* RFC 4862 5.4.3 and 5.4.4: the address is somebody's, told by an advertisement or by a probe like ours. */
static void test_taken6(void **state)
{
	(void)state;
	for (int how = 0; how < 2; how++) {
		probes();
		/* RFC 4429 3.3: served meanwhile, but nobody's entry is overridden. */
		nd_in(135, script_peer6, solicited, script_our6, TP_C_FRAMES_ACCEPTED);
		size_t bytes;
		const uint8_t *frame = script_next(&net, &bytes);
		assert_int_equal(frame[14 + 40 + 4], 0x40);
		if (how)
			nd_in(136, script_our6, all_nodes, script_our6, TP_C_FRAMES_BAD_ICMP);
		else
			nd_in(135, zero, solicited, script_our6, TP_C_FRAMES_BAD_ICMP);
		assert_int_equal(net.conflicts, 1);
		nd_in(135, script_peer6, solicited, script_our6, TP_C_FRAMES_NOT_OURS);
		none();
		ask_for_us(true);
		if (!how) {
			teardown(state);
			setup(state);
		}
	}
}

/* RFC 3810 5.1 and 6.2: a query is answered, a forged one is not, and not more than once a second. */
static void test_query(void **state)
{
	(void)state;
	settle();
	uint8_t query[28] = {130}, frame[128];
	static const uint8_t router[16] = {0xfe, 0x80, [15] = 0x99};
	const struct {
		const uint8_t *from;
		uint8_t hop_limit;
		uint8_t bytes;
		bool good;
	} rows[] = {{router, 1, 28, true},
		    {router, 2, 28, false},
		    {script_peer6, 1, 28, false},
		    {router, 1, 20, false},
		    {router, 1, 28, true}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		script_put(query + 2, 0, 2);
		script_put(query + 2,
			   script_sum(query, rows[i].bytes, script_pseudo(6, rows[i].from, all_nodes, 58, rows[i].bytes)), 2);
		size_t bytes =
			script_wrap(frame, 6, DP_UNTAGGED, rows[i].from, all_nodes, 58, rows[i].hop_limit, query, rows[i].bytes);
		pass(1000);
		script_end(&net, frame, bytes, rows[i].good ? TP_C_FRAMES_ACCEPTED : TP_C_FRAMES_BAD_ICMP);
		if (rows[i].good)
			expect_report(2, link_local);
		script_end(&net, frame, bytes, TP_C_FRAMES_BAD_ICMP);
		none();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rival_probe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_probe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_defence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken6, setup, teardown),
		cmocka_unit_test_setup_teardown(test_query, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
