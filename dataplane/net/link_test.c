/*
 * Below TCP: Ethernet and VLAN, IPv4, ARP, ICMP, UDP; frame by frame.
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

static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
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

/* ---- Ethernet ---- */

static size_t udp4(uint8_t *frame, uint16_t vlan, const char *text)
{
	uint8_t udp[1500];
	size_t bytes = 8 + strlen(text);
	put16(udp, 5555);
	put16(udp + 2, 7771);
	put16(udp + 4, (unsigned)bytes);
	put16(udp + 6, 0);
	memcpy(udp + 8, text, bytes - 8);
	put16(udp + 6, script_sum(udp, bytes, script_pseudo(4, script_peer4, script_our4, 17, bytes)));
	return script_wrap(frame, 4, vlan, script_peer4, script_our4, 17, 64, udp, bytes);
}

static void test_ethernet(void **state)
{
	(void)state;
	uint8_t frame[2000], good[2000];
	size_t bytes = udp4(good, DP_UNTAGGED, "hello");
	expect_end(good, bytes, TP_C_FRAMES_ACCEPTED);
	for (size_t cut = 0; cut < 14; cut++)
		expect_end(good, cut, TP_C_FRAMES_RUNT);
	memcpy(frame, good, bytes);
	frame[5] ^= 1;
	expect_end(frame, bytes, TP_C_FRAMES_NOT_OURS); /* another host */
	memcpy(frame, good, bytes);
	memcpy(frame, everyone, 6);
	expect_end(frame, bytes, TP_C_FRAMES_NOT_OURS); /* RFC 1122 3.3.6: our address in a broadcast frame */
	memcpy(frame, good, bytes);
	frame[6] |= 1;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP); /* from a group */
	memcpy(frame, good, bytes);
	memcpy(frame + 6, script_our_mac, 6);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP); /* from ourselves */
	memcpy(frame, good, bytes);
	put16(frame + 12, 0x88cc);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ETHERTYPE);
	memcpy(frame, good, bytes);
	put16(frame + 12, 60); /* IEEE 802.3 length */
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ETHERTYPE);
	expect_silence();
}

static void test_vlan(void **state)
{
	(void)state;
	uint8_t frame[2000], good[2000];
	size_t bytes = udp4(good, 0x6123, "hello"), out_bytes;
	net.echo_datagrams = true;
	expect_end(good, bytes, TP_C_FRAMES_ACCEPTED);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_non_null(out);
	assert_int_equal(out_bytes, bytes);
	assert_memory_equal(out + 12, good + 12, 6); /* the same tag, priority and all */
	bytes = udp4(good, 0, "hello");              /* priority tag */
	expect_end(good, bytes, TP_C_FRAMES_ACCEPTED);
	out = script_next(&net, &out_bytes);
	assert_int_equal(out[13], 0);
	assert_int_equal(out[12], 0x81);
	net.echo_datagrams = false;
	for (size_t cut = 14; cut < 18; cut++)
		expect_end(good, cut, TP_C_FRAMES_RUNT);
	memcpy(frame, good, bytes);
	put16(frame + 16, 0x8100);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_VLAN);
	memcpy(frame, good, bytes);
	put16(frame + 16, 0x88a8);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_VLAN);
	memcpy(frame, good, bytes);
	put16(frame + 12, 0x88a8);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_VLAN);
	memcpy(frame, good, bytes);
	put16(frame + 14, 0x0fff);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_VLAN);
	expect_silence();
}

/* ---- IPv4 ---- */

static void ip4_resum(uint8_t *frame)
{
	uint8_t *ip = frame + 14;
	put16(ip + 10, 0);
	put16(ip + 10, script_sum(ip, (size_t)(ip[0] & 15) * 4, 0));
}

/* Changes bytes of a good frame's IP header, makes the checksum right again, and expects the end. */
static void ip4_case(unsigned at, unsigned value, int width, enum tp_counter counter)
{
	uint8_t frame[2000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello");
	if (width == 1)
		frame[14 + at] = (uint8_t)value;
	else
		put16(frame + 14 + at, value);
	ip4_resum(frame);
	expect_end(frame, bytes, counter);
}

static void ip4_source_case(uint8_t a, uint8_t b, uint8_t c, uint8_t d, enum tp_counter counter)
{
	uint8_t frame[2000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello");
	const uint8_t source[4] = {a, b, c, d};
	memcpy(frame + 26, source, 4);
	put16(frame + 40, 0); /* no UDP checksum */
	ip4_resum(frame);
	expect_end(frame, bytes, counter);
}

static void test_ip4(void **state)
{
	(void)state;
	uint8_t frame[2000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello");
	for (size_t cut = 14; cut < bytes; cut++)
		expect_end(frame, cut, TP_C_FRAMES_RUNT);
	ip4_case(0, 0x65, 1, TP_C_FRAMES_BAD_IP);         /* version */
	ip4_case(0, 0x44, 1, TP_C_FRAMES_BAD_IP);         /* header length */
	ip4_case(2, 19, 2, TP_C_FRAMES_BAD_IP);           /* total length */
	ip4_case(2, 1000, 2, TP_C_FRAMES_RUNT);           /* more than there is */
	ip4_case(6, 0x2000, 2, TP_C_FRAMES_FRAGMENT);     /* first of several */
	ip4_case(6, 0x0001, 2, TP_C_FRAMES_FRAGMENT);     /* a later one */
	ip4_case(6, 0x8000, 2, TP_C_FRAMES_ACCEPTED);     /* the evil bit is nobody's business */
	ip4_case(9, 47, 1, TP_C_FRAMES_BAD_PROTOCOL);     /* GRE */
	ip4_case(18, 77, 2, TP_C_FRAMES_NOT_OURS);        /* to another host */
	ip4_source_case(10, 0, 0, 1, TP_C_FRAMES_BAD_IP); /* ours: land */
	ip4_source_case(0, 0, 0, 0, TP_C_FRAMES_BAD_IP);
	ip4_source_case(127, 0, 0, 1, TP_C_FRAMES_BAD_IP);
	ip4_source_case(224, 0, 0, 1, TP_C_FRAMES_BAD_IP);
	ip4_source_case(255, 255, 255, 255, TP_C_FRAMES_BAD_IP);
	ip4_source_case(10, 0, 0, 255, TP_C_FRAMES_BAD_IP); /* the link's broadcast address */
	ip4_source_case(10, 0, 1, 255, TP_C_FRAMES_ACCEPTED);
	ip4_source_case(192, 0, 2, 9, TP_C_FRAMES_ACCEPTED);
	bytes = udp4(frame, DP_UNTAGGED, "hello");
	frame[24] ^= 1;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_IP_CHECKSUM);
	net.blocked = true;
	bytes = udp4(frame, DP_UNTAGGED, "hello");
	expect_end(frame, bytes, TP_C_FRAMES_BLOCKLISTED);
	net.blocked = false;
	expect_silence();
}

/* Options are stepped over, and padding behind the datagram is not part of it. */
static void test_ip4_options(void **state)
{
	(void)state;
	uint8_t frame[2000], options[2000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello");
	memcpy(options, frame, 34);
	memset(options + 34, 1, 40);
	memcpy(options + 74, frame + 34, bytes - 34);
	options[14] = 0x4f;
	put16(options + 16, (unsigned)(bytes - 14 + 40));
	ip4_resum(options);
	expect_end(options, bytes + 40, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(net.datagram_bytes, 5);
	expect_end(options, 60, TP_C_FRAMES_RUNT);
	memset(frame + bytes, 0xee, 20);
	expect_end(frame, bytes + 20, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(net.datagram_bytes, 5);
}

/* ---- UDP ---- */

static void test_udp(void **state)
{
	(void)state;
	uint8_t frame[2000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello"), out_bytes;
	net.echo_datagrams = true;
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(net.datagrams, 1);
	assert_memory_equal(net.datagram, "hello", 5);
	assert_int_equal(net.path.peer.port, 5555);
	assert_int_equal(net.path.local.port, 7771);
	assert_int_equal(net.path.ingest, 3);
	assert_int_equal(net.path.peer.addr.family, 4);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_int_equal(out_bytes, bytes);
	assert_memory_equal(out, script_peer_mac, 6);
	assert_int_equal(script_sum(out + 14, 20, 0), 0);
	assert_int_equal(script_sum(out + 34, bytes - 34, script_pseudo(4, script_our4, script_peer4, 17, bytes - 34)), 0);
	assert_memory_equal(out + 42, "hello", 5);
	net.echo_datagrams = false;

	frame[41] ^= 1;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_L4_CHECKSUM);
	put16(frame + 40, 0);
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED); /* RFC 768: none */
	put16(frame + 38, 7);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_UDP);
	put16(frame + 38, 14);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_UDP);
	put16(frame + 38, 10);
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED); /* shorter than IP says: the rest is not the datagram's */
	assert_int_equal(net.datagram_bytes, 2);
	uint8_t tiny[7] = {0};
	size_t tiny_bytes = script_wrap(frame, 4, DP_UNTAGGED, script_peer4, script_our4, 17, 64, tiny, 7);
	expect_end(frame, tiny_bytes, TP_C_FRAMES_BAD_UDP);
	bytes = udp4(frame, DP_UNTAGGED, "");
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	assert_int_equal(net.datagram_bytes, 0);
	expect_silence();
}
static void answer_later(const char *text)
{
	net.path.send(&net.path, text, strlen(text));
}

/* Answers long after: the way back is remembered; when it is not, the neighbour is asked for. */
static void test_udp_way_back(void **state)
{
	(void)state;
	uint8_t frame[2000];
	size_t bytes = udp4(frame, 0x0123, "hello"), out_bytes;
	const uint64_t lost = net.counters.v[TP_C_BATCH_ANSWERS_LOST];
	frame[11] = 0x77;
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	net.now_ns += 500 * DP_SECOND;
	dp_stack_tick(net.stack, net.now_ns);
	answer_later("ack");
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_int_equal(out[5], 0x77);
	assert_int_equal(out[15], 0x23);

	/* A peer that never spoke, on the link: asked for by ARP, once a second. */
	net.path.peer.addr.byte[15] = 200;
	answer_later("ack");
	answer_later("ack");
	out = script_next(&net, &out_bytes);
	assert_non_null(out);
	assert_int_equal(out_bytes, 42);
	assert_memory_equal(out, everyone, 6);
	assert_int_equal(out[13], 0x06);
	assert_int_equal(out[21], 1);
	assert_int_equal(out[41], 200);
	expect_silence();
	assert_int_equal(net.counters.v[TP_C_BATCH_ANSWERS_LOST], lost + 2);
	/* It answers. */
	uint8_t arp[60];
	memcpy(arp, out, 42);
	memcpy(arp, script_our_mac, 6);
	memcpy(arp + 6, "\2\0\0\0\0\xc8", 6);
	arp[21] = 2;
	memcpy(arp + 22, arp + 6, 6);
	memcpy(arp + 28, "\12\0\0\xc8", 4);
	memcpy(arp + 32, script_our_mac, 6);
	memcpy(arp + 38, script_our4, 4);
	expect_end(arp, 42, TP_C_FRAMES_ACCEPTED);
	answer_later("ack");
	out = script_next(&net, &out_bytes);
	assert_int_equal(out[5], 0xc8);
	assert_int_equal(out_bytes, 45);
	assert_int_equal(net.counters.v[TP_C_BATCH_ANSWERS_LOST], lost + 2);

	/* A peer elsewhere: through the gateway. */
	memcpy(net.path.peer.addr.byte + 12, script_far4, 4);
	answer_later("ack");
	out = script_next(&net, &out_bytes);
	assert_int_equal(out[41], 254);

	/* Over IPv6 by neighbour solicitation; elsewhere there is no gateway, so silence. */
	net.path.local.addr = dp_addr_from6(script_our6);
	net.path.peer.addr = dp_addr_from6(script_peer6);
	net.path.peer.addr.byte[15] = 9;
	answer_later("ack");
	out = script_next(&net, &out_bytes);
	assert_int_equal(out[12], 0x86);
	assert_memory_equal(out, "\x33\x33\xff\0\0\x09", 6);
	assert_int_equal(out[21], 255);
	assert_int_equal(out[54], 135);
	assert_int_equal(script_sum(out + 54, 32, script_pseudo(6, out + 22, out + 38, 58, 32)), 0);
	net.path.peer.addr.byte[0] = 0x20;
	answer_later("ack");
	expect_silence();
	/* To port 0 nothing can be answered; nor more than fits a frame. */
	net.path.peer.port = 0;
	answer_later("ack");
	expect_silence();
	assert_int_equal(net.counters.v[TP_C_BATCH_ANSWERS_LOST], lost + 6); /* every one that did not leave */
}

static void test_udp_too_long(void **state)
{
	(void)state;
	uint8_t frame[2000];
	static uint8_t much[70000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello");
	expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
	net.path.send(&net.path, much, 1473);
	net.path.send(&net.path, much, 70000);
	expect_silence();
	net.path.send(&net.path, much, 1472);
	size_t out_bytes;
	assert_non_null(script_next(&net, &out_bytes));
	assert_int_equal(out_bytes, 1514);
}

/* ---- ARP ---- */

struct arp {
	uint16_t operation;
	uint8_t sender_mac, sender_ip, target_ip, frame_mac;
	bool broadcast;
};

static size_t arp_build(uint8_t *frame, const struct arp *arp)
{
	memset(frame, 0, 60);
	memcpy(frame, arp->broadcast ? everyone : script_our_mac, 6);
	memcpy(frame + 6, "\2\0\0\0\0", 5);
	frame[11] = arp->frame_mac;
	memcpy(frame + 12, "\x08\x06\0\1\x08\0\6\4", 8);
	put16(frame + 20, arp->operation);
	memcpy(frame + 22, "\2\0\0\0\0", 5);
	frame[27] = arp->sender_mac;
	if (arp->sender_ip)
		frame[28] = 10;
	frame[31] = arp->sender_ip;
	if (arp->operation == 2)
		memcpy(frame + 32, script_our_mac, 6);
	frame[38] = 10;
	frame[41] = arp->target_ip;
	return 60;
}

static void arp_case(struct arp arp, enum tp_counter counter, bool answered)
{
	uint8_t frame[64];
	size_t bytes = arp_build(frame, &arp), out_bytes;
	expect_end(frame, bytes, counter);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_int_equal(out != NULL, answered);
	if (!out)
		return;
	uint8_t wanted[64];
	memset(wanted, 0, 64);
	memcpy(wanted, frame + 6, 6);
	memcpy(wanted + 6, script_our_mac, 6);
	memcpy(wanted + 12, "\x08\x06\0\1\x08\0\6\4\0\2", 10);
	memcpy(wanted + 22, script_our_mac, 6);
	memcpy(wanted + 28, script_our4, 4);
	memcpy(wanted + 32, frame + 22, 10);
	assert_memory_equal(out, wanted, 42);
	assert_int_equal(out_bytes, 42);
	expect_silence();
}

static bool knows(uint8_t ip, uint8_t mac)
{
	const uint8_t four[4] = {10, 0, 0, ip};
	struct tp_addr addr = dp_addr_from4(four);
	struct dp_link link;
	bool known = dp_route(net.stack, &addr, &link);
	size_t bytes;
	while (script_next(&net, &bytes))
		;
	return known && link.mac[5] == mac;
}

static void test_arp(void **state)
{
	(void)state;
	arp_case((struct arp){1, 5, 2, 1, 5, true}, TP_C_FRAMES_ACCEPTED, true); /* RFC 826: who has us? */
	assert_true(knows(2, 5));
	arp_case((struct arp){1, 5, 2, 1, 5, false}, TP_C_FRAMES_ACCEPTED, true); /* RFC 1122 2.3.2.1: unicast poll */
	arp_case((struct arp){1, 5, 0, 1, 5, true}, TP_C_FRAMES_ACCEPTED, true);  /* RFC 5227: a probe */
	arp_case((struct arp){1, 5, 2, 9, 5, true}, TP_C_FRAMES_NOT_OURS, false); /* for another */
	arp_case((struct arp){1, 6, 3, 3, 6, true}, TP_C_FRAMES_NOT_OURS, false); /* gratuitous: nothing learnt */
	assert_false(knows(3, 6));
	arp_case((struct arp){1, 6, 4, 1, 7, true}, TP_C_FRAMES_BAD_ARP, false);  /* sender is not who sends */
	arp_case((struct arp){1, 6, 1, 1, 6, true}, TP_C_FRAMES_BAD_ARP, false);  /* claims our address */
	arp_case((struct arp){2, 6, 7, 1, 6, false}, TP_C_FRAMES_BAD_ARP, false); /* an answer to no question */
	assert_false(knows(7, 6));
	arp_case((struct arp){3, 5, 2, 1, 5, true}, TP_C_FRAMES_BAD_ARP, false); /* RARP */
	uint8_t frame[64];
	arp_build(frame, &(struct arp){1, 5, 2, 1, 5, true});
	for (size_t cut = 14; cut < 42; cut++)
		expect_end(frame, cut, TP_C_FRAMES_RUNT);
	frame[18] = 8;
	expect_end(frame, 60, TP_C_FRAMES_BAD_ARP);
	arp_build(frame, &(struct arp){1, 5, 2, 1, 5, true});
	frame[28] = 11; /* a sender that is not on the link, as Linux asks: answered, not learnt */
	expect_end(frame, 60, TP_C_FRAMES_ACCEPTED);
	size_t bytes;
	const uint8_t *out = script_next(&net, &bytes);
	assert_true(out != NULL && bytes == 42 && out[21] == 2 && !memcmp(out, frame + 6, 6) && !memcmp(out + 38, frame + 28, 4));
	expect_silence();
	arp_build(frame, &(struct arp){2, 5, 2, 1, 5, false});
	frame[28] = 11; /* but no answer comes from there */
	expect_end(frame, 60, TP_C_FRAMES_BAD_ARP);
	expect_silence();
}

/* An entry that was confirmed lately cannot be taken over; a stale one can. */
static void test_arp_spoof(void **state)
{
	(void)state;
	arp_case((struct arp){1, 5, 2, 1, 5, true}, TP_C_FRAMES_ACCEPTED, true);
	arp_case((struct arp){2, 6, 2, 1, 6, false}, TP_C_FRAMES_BAD_ARP, false);
	arp_case((struct arp){1, 6, 2, 1, 6, true}, TP_C_FRAMES_ACCEPTED, true); /* told where we are, not believed */
	assert_true(knows(2, 5));
	net.now_ns += 31 * DP_SECOND;
	arp_case((struct arp){1, 6, 2, 1, 6, true}, TP_C_FRAMES_ACCEPTED, true);
	assert_true(knows(2, 6));
}

/* ---- ICMP ---- */

static size_t icmp4(uint8_t *frame, uint8_t type, uint8_t code, size_t payload)
{
	uint8_t icmp[2000];
	memset(icmp, 0x5a, sizeof(icmp));
	icmp[0] = type;
	icmp[1] = code;
	put16(icmp + 2, 0);
	put16(icmp + 2, script_sum(icmp, 8 + payload, 0));
	return script_wrap(frame, 4, DP_UNTAGGED, script_peer4, script_our4, 1, 64, icmp, 8 + payload);
}

static void test_icmp4(void **state)
{
	(void)state;
	uint8_t frame[2100];
	size_t out_bytes;
	for (size_t payload = 0; payload < 100; payload++) { /* every alignment of the end */
		size_t bytes = icmp4(frame, 8, 0, payload);
		net.now_ns += 10 * DP_MS;
		expect_end(frame, bytes, TP_C_FRAMES_ACCEPTED);
		const uint8_t *out = script_next(&net, &out_bytes);
		assert_non_null(out);
		assert_int_equal(out_bytes, bytes);
		assert_int_equal(out[34], 0);
		assert_int_equal(script_sum(out + 34, bytes - 34, 0), 0);
		assert_memory_equal(out + 38, frame + 38, bytes - 38);
	}
	size_t bytes = icmp4(frame, 8, 0, 56);
	frame[50] ^= 4;
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP); /* checksum */
	bytes = icmp4(frame, 8, 1, 56);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP); /* code */
	bytes = icmp4(frame, 13, 0, 12);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP); /* timestamp: not spoken */
	uint8_t tiny[7] = {8};
	bytes = script_wrap(frame, 4, DP_UNTAGGED, script_peer4, script_our4, 1, 64, tiny, 7);
	expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	for (size_t payload = 0; payload < 60; payload++) { /* "too big" with any cut of the quote */
		bytes = icmp4(frame, 3, 4, payload);
		expect_end(frame, bytes, TP_C_FRAMES_BAD_ICMP);
	}
	expect_silence();
	/* A hundred at once, then one a millisecond. */
	net.now_ns += DP_SECOND;
	bytes = icmp4(frame, 8, 0, 8);
	for (int i = 0; i < 150; i++)
		script_input(&net, frame, bytes);
	assert_int_equal(net.frames, 100);
	net.frames = 0;
	net.now_ns += 3 * DP_MS;
	for (int i = 0; i < 10; i++)
		script_input(&net, frame, bytes);
	assert_int_equal(net.frames, 3);
	net.frames = 0;
}

static void test_unreachable4(void **state)
{
	(void)state;
	uint8_t frame[2000];
	size_t bytes = udp4(frame, DP_UNTAGGED, "hello"), out_bytes;
	put16(frame + 36, 9999);
	put16(frame + 40, 0);
	expect_end(frame, bytes, TP_C_FRAMES_UNKNOWN_PORT);
	const uint8_t *out = script_next(&net, &out_bytes);
	assert_int_equal(out_bytes, 14 + 20 + 8 + 28);
	assert_int_equal(out[34], 3);
	assert_int_equal(out[35], 3);
	assert_int_equal(script_sum(out + 34, 36, 0), 0);
	assert_memory_equal(out + 42, frame + 14, 28);
	for (int i = 0; i < 300; i++)
		script_input(&net, frame, bytes);
	assert_int_equal(net.frames, 99);
	net.frames = 0;
}

/* ---- options ---- */

static void test_create(void **state)
{
	(void)state;
	struct dp_stack *stack;
	struct tp_prefix address = {.addr = dp_addr_from4(script_our4), .bits = 24};
	struct tp_counters counters;
	const struct dp_stack_options good = {
		.mtu = 1500, .address = &address, .address_count = 1, .connections_max = 1, .counters = &counters};
	struct dp_stack_options bad = good;
	bad.mtu = 100;
	assert_int_equal(dp_stack_create(&stack, &bad), -22);
	bad = good;
	bad.address_count = 0;
	assert_int_equal(dp_stack_create(&stack, &bad), -22);
	bad = good;
	bad.connections_max = 0;
	assert_int_equal(dp_stack_create(&stack, &bad), -22);
	address.bits = 33;
	assert_int_equal(dp_stack_create(&stack, &good), -22);
	address.bits = 32;
	assert_int_equal(dp_stack_create(&stack, &good), 0);
	dp_stack_destroy(stack);
	dp_stack_destroy(NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_ethernet),  CASE(test_vlan),         CASE(test_ip4),          CASE(test_ip4_options),
		CASE(test_udp),       CASE(test_udp_way_back), CASE(test_udp_too_long), CASE(test_arp),
		CASE(test_arp_spoof), CASE(test_icmp4),        CASE(test_unreachable4), cmocka_unit_test(test_create),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
