/*
 * How connections begin: scripts (see net_script.h), named by the section that they hold the stack to.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HELLO \
	"< S 0:0 win 65535 mss 1460 sackok ts 100 0 ws 7\n" \
	"> S. 0:0 ack 1 win 63488 mss 1460 sackok ts * 100 ws 2\n" \
	"< . 1:1 ack 1 win 512 ts 100 0\n" \
	"app opened 1\n"
#define PLAIN \
	"< S 0:0 win 65535 mss 1460\n" \
	"> S. 0:0 ack 1 win 63488 mss 1460 nots\n" \
	"< . 1:1 ack 1\n" \
	"app opened 1\n"

static const struct script_case cases[] = {
	{"RFC 9293 3.5: three-way handshake", PLAIN "conns 1\ncount CONNECTIONS_OPENED 1\ncount FRAMES_ACCEPTED 2\nnone\n"},
	{"RFC 7323 2.2, 3.2, RFC 2018 2: options are agreed on", HELLO "none\n"},
	{"RFC 7323 3.2: timestamps alone", "< S 0:0 mss 1460 ts 7 0\n> S. 0:0 ack 1 mss 1460 ts * 7 ws 99\n< . 1:1 ack 1 ts 8 0\n"
					   "app opened 1\n"},
	{"RFC 2018 2: SACK alone", "< S 0:0 mss 1460 sackok\n> S. 0:0 ack 1 mss 1460 sackok nots\n< . 1:1 ack 1\napp opened 1\n"},
	{"RFC 9293 3.7.1: MSS clamped to our mtu", "< S 0:0 mss 9000\n> S. 0:0 ack 1 mss 1460\n< . 1:1 ack 1\napp send 2000\n"
						   "> . 1:1461 ack 1\n> P. 1461:2001 ack 1\n"},
	{"CVE-2019-11479: a tiny MSS is raised",
	 "< S 0:0 mss 1\n> S. 0:0 ack 1 mss 1460\n< . 1:1 ack 1\napp send 100\n> . 1:65\n> P. 65:101\n"},
	{"RFC 7323 appendix A: timestamps come off the MSS", HELLO "app send 1460\n> . 1:1449 ack 1 ts * 100\n> P. 1449:1461\n"},
	{"RFC 7323 2.3: window scale",
	 "< S 0:0 win 200 mss 1460 ws 7\n> S. 0:0 ack 1 mss 1460 ws 2\n< . 1:1 ack 1 win 2\napp send 500\n"
	 "> . 1:257 ack 1\n< . 1:1 ack 257 win 2\n> P. 257:501\n"},
	{"RFC 7323 2.3: a shift over 14 counts as 14", "< S 0:0 mss 1460 ws 99\n> S. 0:0 ack 1 mss 1460 ws 2\n< . 1:1 ack 1 win 1\n"
						       "app send 20000\n> .\n> .\n> .\n> .\n> .\n> .\n> .\n> .\n> .\n> .\nnone\n"},
	{"RFC 7323 2.3: the window of a SYN is not scaled",
	 "< S 0:0 win 1 mss 1460 ws 7\n> S. 0:0 ack 1 mss 1460 ws 2\n< . 1:1 ack 1 win 10\n"
	 "app send 10\n> P. 1:11\n"},
	{"RFC 9293 3.8.1: the SYN again gets the same SYN-ACK",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1 mss 1460\n< S 0:0 mss 1460\n> S. 0:0 ack 1\n"
	 "< S 0:0 mss 1460\nnone\n+101\n< S 0:0 mss 1460\n> S. 0:0 ack 1\n< . 1:1 ack 1\napp opened 1\n"},
	{"RFC 6298 5: the SYN-ACK is repeated, then the half-open reaped",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n+990\nnone\n+20\n> S. 0:0 ack 1\n+1970\nnone\n+40\n> S. 0:0 ack 1\n+4010\n> S. 0:0 ack "
	 "1\n"
	 "+8010\n> S. 0:0 ack 1\n+15900\nnone\n+200\nnone\n< . 1:1 ack 1\n> R 1:1\ncount TCP_RETRANSMITS 4\nconns 0\n"},
	{"RFC 5961 3.2: exact RST ends a half-open", "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< R 1:1\nnone\n< . 1:1 ack 1\n> R 1:1\n"},
	{"RFC 5961 3.2: inexact RST in the window is challenged", "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< R 100:100\n> . 1:1 ack 1\n"
								  "< . 1:1 ack 1\napp opened 1\n"},
	{"RFC 5961 3.2: RST outside the window is nothing to a half-open",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< R 70000:70000\nnone\n"
	 "< . 1:1 ack 1\napp opened 1\n"},
	{"RFC 9293 3.10.7.4: unacceptable ACK in SYN-RECEIVED is reset",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< . 1:1 ack 2\n> R 2:2\n"
	 "< . 1:1 ack 1\napp opened 1\n"},
	{"RFC 7323 2.3: the window of a challenge in SYN-RECEIVED is scaled",
	 "< S 0:0 mss 1460 ws 7\n> S. 0:0 ack 1 win 63488 ws 2\n< R 100:100\n> . 1:1 ack 1 win 15872\n< . 1:1 ack 1\napp opened "
	 "1\n"},
	{"RFC 9293 3.8.1: the SYN again by another way is answered that way",
	 "< S 0:0 mss 1460 mac 9\n> S. 0:0 ack 1 mac 9\n+101\n< S 0:0 mss 1460\n> S. 0:0 ack 1\n< . 1:1 ack 1\napp opened 1\n"},
	{"RFC 5961 4.2: another SYN in SYN-RECEIVED is challenged",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< S 500:500\n> . 1:1 ack 1\n< R 1:1\n"
	 "< S 500:500 mss 1460\n> S. ack 501\n< . 501:501 ack 1\napp opened 1\n"},
	{"RFC 7323 5.3: old timestamp in the last ACK",
	 "< S 0:0 mss 1460 ts 100 0\n> S. 0:0 ack 1 ts * 100\n< . 1:1 ack 1 ts 99 0\n> . 1:1 ack 1\n"
	 "< . 1:1 ack 1 ts 100 0\napp opened 1\n"},
	{"RFC 7323 3.2: the last ACK without its timestamp is dropped",
	 "< S 0:0 mss 1460 ts 100 0\n> S. 0:0 ack 1 ts * 100\n< . 1:1 ack 1\nnone\n"
	 "app opened 0\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.10.7.4: data with the last ACK",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< P. 1:101 ack 1\napp opened 1\napp got 100\n+40\n> . 1:1 ack 101\n"},
	{"RFC 9293 3.10.7.4: data and FIN with the last ACK",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< FP. 1:101 ack 1\napp got 100\napp eof 1\n> . 1:1 ack 102\n"},
	{"RFC 9293 3.10.7.4: later data completes the handshake",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< P. 101:201 ack 1\napp opened 1\napp got 0\n"
	 "> . 1:1 ack 1\n< P. 1:101 ack 1\napp got 200\n> . 1:1 ack 201\n"},
	{"RFC 9293 3.10.7.2: data in a SYN is not taken",
	 "< S 0:50 mss 1460\n> S. 0:0 ack 1\n< P. 1:51 ack 1\napp got 50\n+40\n> . 1:1 ack 51\n"},
	{"RFC 9293 3.10.7.1: SYN to a closed port",
	 "< S 0:0 mss 1460 dport 81\n> R. ack 1 dport 81\ncount FRAMES_UNKNOWN_PORT 1\n"},
	{"RFC 9293 3.10.7.1: ACK to a closed port", "< . 5:5 ack 9 dport 81\n> R 9:9 dport 81\ncount FRAMES_UNKNOWN_PORT 1\n"},
	{"RFC 9293 3.10.7.1: RST to a closed port", "< R 5:5 dport 81\nnone\n"},
	{"RFC 9293 3.10.7.1: FIN to a closed port counts its bytes", "< F 5:9 dport 81\n> R. ack 10 dport 81\n"},
	{"RFC 9293 3.10.7.2: ACK to LISTEN", "< . 5:5 ack 9\n> R 9:9\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.10.7.2: RST to LISTEN", "< R 5:5\nnone\n< R. 5:5 ack 3\nnone\n"},
	{"RFC 9293 3.10.7.2: FIN without ACK to LISTEN", "< F 5:5\nnone\n"},
	{"RFC 9293 3.10.7.2: no flags at all", "< 5:5\nnone\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.1: impossible flags", "< SF 0:0\n< SR 0:0\n< FR 0:0\n< SFRP. 0:0 ack 1\nnone\ncount FRAMES_BAD_TCP 4\n"},
	{"RFC 9293 MUST-7: option of length 0",
	 "< S 0:0 opts 020400000800000000000000\nnone\n< S 0:0 opts 03000000\nnone\ncount FRAMES_BAD_TCP 2\n"},
	{"RFC 9293 MUST-7: option over the header's end",
	 "< S 0:0 opts 0101020a\nnone\n< S 0:0 opts 01010102\nnone\ncount FRAMES_BAD_TCP 2\n"},
	{"RFC 9293 MUST-6: unknown options are skipped", "< S 0:0 opts fd0601020304020404000101\n> S. 0:0 ack 1\n"},
	{"RFC 9293 3.1: options of another length than theirs mean nothing",
	 "< S 0:0 opts 0203050008030000\n> S. 0:0 ack 1 nots\n"},
	{"RFC 9293 3.1: end of options", "< S 0:0 opts 00020400\n> S. 0:0 ack 1 nots\n"},
	{"RFC 9293 3.1: data offset below 5", "< S 0:0 doff 4\nnone\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.1: data offset past the end", "< S 0:0 doff 15\nnone\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.1: bad checksum", "< S 0:0 mss 1460 badsum\nnone\ncount FRAMES_BAD_L4_CHECKSUM 1\n"},
	{"RFC 9293 3.1: cut off", "< S 0:0 mss 1460 cut 5\nnone\ncount FRAMES_RUNT 1\n"},
	{"RFC 9293 3.10.7.4: the app refuses",
	 "app refuse\n< S 0:0 mss 1460\n> S. 0:0 ack 1\n< . 1:1 ack 1\n> R. 1:1 ack 1\nconns 0\n"
	 "count CONNECTIONS_REFUSED 1\n"},
	{"802.1Q: the tag and MAC of the flow are answered",
	 "< S 0:0 mss 1460 vlan 8292 mac 9\n> S. 0:0 ack 1 vlan 8292 mac 9\n< . 1:1 ack 1 vlan 8292 mac 9\n"
	 "app send 5\n> P. 1:6 vlan 8292 mac 9\n"},
	{"spoofing: only an acceptable segment moves the flow",
	 PLAIN "< . 1:1 ack 5000 mac 7\n> . 1:1 ack 1\n< . 900000:900000 ack 1 mac 7\napp send 5\n> P. 1:6\n< . 1:1 ack 6 mac "
	       "7\napp send 5\n> P. 6:11 mac 7\n"},
	{"blocklist: a SYN is dropped",
	 "blocked 1\n< S 0:0 mss 1460\nnone\ncount FRAMES_BLOCKLISTED 1\ncount CONNECTIONS_BLOCKLISTED 1\n"},
	{"blocklist: a connection is cut in silence", PLAIN "blocked 1\n< P. 1:10 ack 1\nnone\napp closed 1\napp got 0\nconns 0\n"
							    "count CONNECTIONS_BLOCKLISTED 1\n"},
	{"blocklist: a half-open is forgotten",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\nblocked 1\n< . 1:1 ack 1\nnone\nblocked 0\n< . 1:1 ack 1\n> R 1:1\n"},
	{"drain: a SYN is refused", "drain\n< S 0:0 mss 1460\n> R. ack 1\ncount CONNECTIONS_REFUSED 1\n"},
	{"drain: an idle connection gets a FIN",
	 PLAIN "+100\ndrain\nnone\n+200\ndrain\n> F. 1:1 ack 1\napp closed 1\n< F. 1:1 ack 2\n> . 2:2 ack 2\nconns 0\n"},
	{"drain: an answer that may be owed is waited for",
	 PLAIN "< P. 1:10 ack 1\n+400\n> . ack 10\ndrain\nnone\napp send 5\n> P. 1:6 ack 10\n< . 10:10 ack 6\n"
	       "+300\ndrain\n> F. 6:6\n"},
};

static void test_scripts(void **state)
{
	(void)state;
	script_run_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/* RFC 9293 section 3.7.1. */
static void test_mss_absent(void **state)
{
	(void)state;
	const struct script_options four = {.family = 4, .vlan = DP_UNTAGGED}, six = {.family = 6, .vlan = DP_UNTAGGED};
	static const struct script_case four_case = {
		"RFC 9293 3.7.1: MSS absent means 536 over IPv4",
		"< S 0:0\n> S. 0:0 ack 1 mss 1460 nots\n< . 1:1 ack 1\napp send 600\n> . 1:537 ack 1\n> P. 537:601 ack 1\n"};
	static const struct script_case six_case = {
		"RFC 9293 3.7.1: MSS absent means 1220 over IPv6",
		"< S 0:0\n> S. 0:0 ack 1 mss 1460 nots\n< . 1:1 ack 1\napp send 1300\n> . 1:1221 ack 1\n> P. 1221:1301 ack 1\n"};
	script_run(&four_case, &four);
	script_run(&six_case, &six);
}

static void test_full_table(void **state)
{
	(void)state;
	const struct script_options one = {.family = 4, .vlan = DP_UNTAGGED, .connections_max = 1};
	static const struct script_case full = {
		"RFC 4987: a full table refuses in silence and recovers",
		PLAIN "< S 0:0 mss 1460 port 5\nnone\ncount FRAMES_TCP_NO_MEMORY 1\ncount CONNECTIONS_REFUSED 1\n"
		      "< R 1:1\n< S 0:0 mss 1460 port 5\n> S. 0:0 ack 1 port 5\n< . 1:1 ack 1 port 5\napp opened 1 port 5\n"};
	script_run(&full, &one);
	static const struct script_case late = {
		"RFC 4987: a handshake that completes when the table is full stays half-open",
		"< S 0:0 mss 1460\n> S. 0:0 ack 1\n< S 0:0 mss 1460 port 5\n> S. 0:0 ack 1 port 5\n< . 1:1 ack 1\napp opened 1\n"
		"< . 1:1 ack 1 port 5\nnone\napp opened 0 port 5\n< R 1:1\n< P. 1:5 ack 1 port 5\napp opened 1 port 5\napp got 4 "
		"port 5\n"
		"+40\n> . 1:1 ack 5 port 5\n"};
	script_run(&late, &one);
}

/* Fills the half-open table (16 records with a table of up to 64 connections), then shakes hands by cookie. */
static void test_cookies(void **state)
{
	(void)state;
	static char text[8192];
	int at = 0;
	for (int port = 1; port <= 16; port++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "< S 0:0 mss 1460 port %d\n> S. 0:0 ack 1 port %d\n", port,
			       port);
	snprintf(text + at, sizeof(text) - (size_t)at, "%s",
		 /* without a timestamp no options but the MSS; the state is in the number */
		 "< S 0:0 mss 1460 sackok ws 7 port 100\n> S. 0:0 ack 1 mss 1460 nots ws 99 port 100\n"
		 "< . 1:1 ack 2 port 100\n> R 2:2 port 100\n"
		 "< P. 1:11 ack 1 port 100\napp opened 1 port 100\napp got 10 port 100\n"
		 "app send 2000 port 100\n> . 1:1461 ack 11 port 100\n> P. 1461:2001 port 100\n"
		 /* the second epoch still, the third no more; the SYN-ACKs of the others come meanwhile */
		 "< S 0:0 mss 536 port 101\n> S. 0:0 ack 1 port 101\n"
		 "< S 0:0 mss 536 port 102\n> S. 0:0 ack 1 port 102\n"
		 "< R 11:11 port 100\n"
		 /* with one: all of them, kept in the low bits of ours */
		 "< S 0:0 mss 1460 sackok ts 5 0 ws 7 port 103\n> S. 0:0 ack 1 mss 1460 sackok ts * 5 ws 2 port 103\n+5\n"
		 "< . 1:1 ack 1 win 1 ts 9 0 port 103\napp send 500 port 103\n> . 1:129 ts * 9 port 103\n"
		 "< . 1:1 ack 129 win 512 ts 9 0 port 103\n> P. 129:501 port 103\n"
		 "< P. 101:201 ack 501 win 512 ts 9 0 port 103\n> . ack 1 ts * 9 sack 101:201 port 103\n"
		 "< P. 1:101 ack 501 win 512 ts 8 0 port 103\n> . ack 1 port 103\n" /* PAWS */
		 "< R 1:1 port 103\n"
		 "< S 0:0 mss 1460 ts 0xfffffff0 0 port 104\n> S. 0:0 ack 1 mss 1460 ts * 0xfffffff0 ws 99 port 104\n");
	struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	const struct script_case cookies = {"RFC 4987 3.6: SYN cookies", text};
	script_run(&cookies, &options);
	options.family = 6;
	script_run(&cookies, &options);
}

static size_t syn_build(uint8_t *frame, uint16_t port)
{
	uint8_t l4[20] = {[12] = 0x50, [13] = DP_SYN, [14] = 0xff};
	script_put(l4, port, 2);
	script_put(l4 + 2, SCRIPT_HTTP_PORT, 2);
	script_put(l4 + 16, script_sum(l4, 20, script_pseudo(4, script_peer4, script_our4, 6, 20)), 2);
	return script_wrap(frame, 4, DP_UNTAGGED, script_peer4, script_our4, 6, 64, l4, 20);
}

/* `count` SYNs in one round. Returns how many were answered. */
static uint32_t syn_round(struct script_net *net, uint32_t count, uint16_t *port)
{
	const uint64_t shed = net->counters.v[TP_C_FRAMES_SYN_SHED];
	uint8_t frame[100];
	size_t bytes;
	for (uint32_t i = 0; i < count; i++)
		script_input(net, frame, syn_build(frame, (*port)++));
	dp_stack_flush(net->stack, net->now_ns);
	uint32_t answered = 0;
	while (script_next(net, &bytes))
		answered++;
	assert_int_equal(answered + net->counters.v[TP_C_FRAMES_SYN_SHED] - shed, count);
	return answered;
}

/* RFC 4987 3.6: cookies cost time too. When rounds are crowded they are sparse, and all come back when the crowd has gone. */
static void test_cookies_in_a_crowd(void **state)
{
	(void)state;
	struct script_net net;
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	uint16_t port = 1;
	script_open(&net, &options);
	assert_int_equal(syn_round(&net, 16, &port), 16); /* the half-open table takes them */
	assert_int_equal(syn_round(&net, 47, &port), 47); /* cookies, and no crowd */
	assert_int_equal(syn_round(&net, 47, &port), 47);
	assert_int_equal(syn_round(&net, 48, &port), 48); /* a crowd, as the next round knows */
	net.now_ns += DP_COOKIE_GAP_NS - 1;
	assert_int_equal(syn_round(&net, 10, &port), 0);
	net.now_ns += 1;
	assert_int_equal(syn_round(&net, 10, &port), 1);
	net.now_ns += DP_COOKIE_GAP_NS;
	assert_int_equal(syn_round(&net, 64, &port), 1);
	net.now_ns += DP_CROWDED_NS - 1;
	assert_int_equal(syn_round(&net, 10, &port), 1);
	net.now_ns += 1;
	assert_int_equal(syn_round(&net, 47, &port), 47);
	script_close(&net);
}

/* RFC 6528: numbers differ by flow without a pattern, and grow with the clock on one flow. */
static void test_isn(void **state)
{
	(void)state;
	struct script_net net;
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	script_open(&net, &options);
	struct tp_addr peer = dp_addr_from4(script_peer4);
	uint32_t offset, offset_again;
	uint32_t first = dp_tcp_isn(net.stack, &peer, 1000, 0, &offset);
	assert_int_equal(dp_tcp_isn(net.stack, &peer, 1000, 0, &offset_again), first);
	assert_int_equal(offset, offset_again);
	uint32_t ones[32] = {0};
	for (uint16_t port = 1; port <= 1000; port++) {
		uint32_t isn = dp_tcp_isn(net.stack, &peer, port, 0, &offset);
		for (int bit = 0; bit < 32; bit++)
			ones[bit] += isn >> bit & 1;
	}
	for (int bit = 0; bit < 32; bit++)
		assert_in_range(ones[bit], 400, 600);
	dp_stack_tick(net.stack, net.now_ns + DP_SECOND);
	uint32_t later = dp_tcp_isn(net.stack, &peer, 1000, 0, &offset) - first;
	assert_in_range(later, 244140, 244141); /* a second in units of 4.096 µs */
	script_close(&net);
}

/* A cookie is good in its epoch of 69 s and the next, and not at all when none was sent lately. */
static void test_cookie_age(void **state)
{
	(void)state;
	struct script_net net;
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	script_open(&net, &options);
	struct dp_packet packet = {.peer = dp_addr_from4(script_peer4)};
	struct dp_segment syn = {.seq = 77, .mss = 1400, .from_port = 9, .packet = &packet};
	struct dp_segment ack = {.seq = 78, .from_port = 9, .packet = &packet};
	struct dp_mini made = {.kind = DP_MINI_FREE}, read = made;
	dp_cookie_make(net.stack, &syn, &made);
	ack.ack = made.iss + 1;
	assert_true(dp_cookie_check(net.stack, &ack, &read));
	assert_int_equal(read.mss, 1400);
	ack.seq++;
	assert_false(dp_cookie_check(net.stack, &ack, &read));
	ack.seq--;
	ack.from_port++;
	assert_false(dp_cookie_check(net.stack, &ack, &read));
	ack.from_port--;
	net.stack->now_ns += 1ULL << 36;
	assert_true(dp_cookie_check(net.stack, &ack, &read));
	assert_int_equal(read.mss, 1400);
	net.stack->now_ns += 1ULL << 36;
	dp_cookie_make(net.stack, &syn, &made); /* cookies are still in use */
	assert_false(dp_cookie_check(net.stack, &ack, &read));
	net.stack->now_ns += 3ULL << 36;
	dp_cookie_make(net.stack, &syn, &made);
	ack.ack = made.iss + 1;
	net.stack->tcp->cookie_ns = 0;
	assert_false(dp_cookie_check(net.stack, &ack, &read));
	script_close(&net);
}

/* All that the timestamp of a cookie carries comes back, at any phase of the clock, and it never runs ahead of that. */
static void test_cookie_options(void **state)
{
	(void)state;
	struct script_net net;
	const struct script_options options = {.family = 6, .vlan = DP_UNTAGGED};
	script_open(&net, &options);
	struct dp_packet packet = {.peer = dp_addr_from6(script_peer6)};
	for (uint32_t i = 0; i < 16 * 2 * 40; i++) {
		bool scaling = (i & 15) != 15, sack = i & 16;
		struct dp_segment syn = {
			.seq = i, .mss = 1400, .from_port = 9, .packet = &packet, .timestamps = true, .ts_value = 5};
		syn.scaling = scaling;
		syn.shift = scaling ? i & 15 : 0;
		syn.sack = sack;
		struct dp_mini made = {.kind = DP_MINI_FREE}, read = made;
		dp_cookie_make(net.stack, &syn, &made);
		uint32_t stamp = dp_tcp_stamp(net.stack, made.ts_offset);
		struct dp_segment ack = {.seq = i + 1, .ack = made.iss + 1, .from_port = 9, .packet = &packet, .timestamps = true};
		ack.ts_value = 6;
		ack.ts_echo = stamp;
		net.stack->now_ms += i % 7;
		assert_true(dp_cookie_check(net.stack, &ack, &read));
		assert_true(dp_seq_le(stamp, dp_tcp_stamp(net.stack, read.ts_offset)));
		assert_true(read.timestamps && read.ts_recent == 6 && read.mss == 1400);
		assert_true(read.scaling == scaling && read.sack == sack && read.shift == syn.shift);
		ack.ts_echo += 1000; /* of the future: not ours */
		read = made = (struct dp_mini){.kind = DP_MINI_FREE};
		assert_true(dp_cookie_check(net.stack, &ack, &read) && !read.timestamps && !read.scaling && !read.sack);
	}
	script_close(&net);
}

/* Resets to strays: a hundred at once, then a thousand a second. */
static void test_reset_limit(void **state)
{
	(void)state;
	static char text[40000];
	int at = 0;
	for (int i = 0; i < 100; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "< . 5:5 ack 9\n> R 9:9\n");
	for (int i = 0; i < 100; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "< . 5:5 ack 9\nnone\n");
	snprintf(text + at, sizeof(text) - (size_t)at, "+2\n< . 5:5 ack 9\n> R 9:9\n< . 5:5 ack 9\n> R 9:9\n< . 5:5 ack 9\nnone\n");
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	const struct script_case limit = {"RFC 9293 3.5.2: resets are limited", text};
	script_run(&limit, &options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),    cmocka_unit_test(test_mss_absent),         cmocka_unit_test(test_full_table),
		cmocka_unit_test(test_cookies),    cmocka_unit_test(test_cookies_in_a_crowd), cmocka_unit_test(test_isn),
		cmocka_unit_test(test_cookie_age), cmocka_unit_test(test_cookie_options),     cmocka_unit_test(test_reset_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
