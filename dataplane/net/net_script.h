/*
 * For tests only: runs packet scripts against the stack under a fake clock, in the manner of packetdrill. The frames are built and
 * read here with code of its own, so that the stack is not tested with itself.
 *
 * A script is lines of text. Numbers are relative: 0 is the SYN of that side, data begins at 1.
 *
 *   < S 0:0 win 65535 mss 1460 sackok ts 100 0 ws 7     a segment to the stack, then a flush
 *   > S. 0:0 ack 1 mss 1460 ts * 100                    the next frame from the stack; what is not named is not checked
 *   burst … end                                         no flush between the segments
 *   +200                                                time passes, in milliseconds, with a tick each
 *   none                                                nothing was sent
 *   app take N | send N | close | abort | resume        the app takes N bytes more (-1: all); acts now, outside of any call
 *   app refuse | insend N | inclose | inabort           dp_stream_opened() says no; acts inside the next dp_stream_input()
 *   app opened|got|eof|closed|writable N                so many calls, or bytes, so far
 *   count FRAMES_BAD_TCP 1                              a counter
 *   conns N, drain, frames N (grant so many frames, -1: any), blocked 0|1, toobig MTU SEQ (ICMP about our segment)
 *
 * Segment words: S F R P . flags; from:to numbers; ack N; win N; mss N; sackok; ts VALUE ECHO (* any); ws N; sack from:to …; opts HEX
 * (instead of built ones); badsum; cut N (bytes off the frame's end); doff N; vlan N; mac N (last byte); port N (the client's, 40000
 * unless told, also for > and app); dport N; above (the number lies above all that was sent on that port).
 */
#ifndef TURNPIKE_NET_SCRIPT_H
#define TURNPIKE_NET_SCRIPT_H

#include "tcp.h"

enum { SCRIPT_HTTP_PORT = 80, SCRIPT_UDP_PORT = 7771 };

struct script_case {
	const char *name; /* RFC and section, and what */
	const char *text;
};

struct script_options {
	uint8_t family;
	uint16_t vlan; /* default tag, DP_UNTAGGED */
	uint32_t connections_max, reserve_max;
	bool claim;
};

/* Runs one case on a fresh stack; fails through cmocka with the line at fault. With SCRIPT_LIST set it only prints the name. */
void script_run(const struct script_case *script, const struct script_options *options);
/* Runs all cases over IPv4 untagged and over IPv6 with a VLAN tag. */
void script_run_all(const struct script_case *cases, size_t count);

/* ---- the parts, for tests of single frames ---- */

struct script_net {
	struct dp_stack *stack;
	struct tp_counters counters;
	uint64_t now_ns;
	uint8_t frame[256][2048];
	size_t frame_bytes[256];
	uint32_t frames_first, frames; /* ring of what the stack sent and nobody looked at yet */
	int32_t grant;                 /* frames that frame_open still gives, -1: any number */
	bool blocked;
	uint32_t conflicts; /* told by the stack */
	/* the latest datagram */
	uint32_t datagrams;
	size_t datagram_bytes;
	uint8_t datagram[2048];
	struct dp_datagram_path path;
	bool echo_datagrams;
};

extern const uint8_t script_our_mac[6], script_peer_mac[6];
extern const uint8_t script_our4[4], script_peer4[4], script_far4[4], script_our6[16], script_peer6[16];

void script_open(struct script_net *net, const struct script_options *options);
void script_close(struct script_net *net);
void script_input(struct script_net *net, const uint8_t *frame, size_t bytes);
/* The next frame that the stack sent, or NULL. */
const uint8_t *script_next(struct script_net *net, size_t *bytes);
/* Puts a frame in; it must end in `counter`, and the books must balance. */
void script_end(struct script_net *net, const uint8_t *frame, size_t bytes, enum tp_counter counter);
/* Numbers in network order. put returns where the next one goes. */
uint8_t *script_put(uint8_t *at, uint64_t value, int bytes);
uint32_t script_get(const uint8_t *at, int bytes);
uint16_t script_sum(const void *bytes, size_t count, uint32_t sum); /* the field's value, host order */
/* The pseudo header's sum. */
uint32_t script_pseudo(uint8_t family, const uint8_t *from, const uint8_t *to, uint8_t protocol, size_t bytes);
/* Puts Ethernet (tagged unless DP_UNTAGGED) and IP headers around l4. Returns the frame's length. */
size_t script_wrap(uint8_t *frame, uint8_t family, uint16_t vlan, const uint8_t *from, const uint8_t *to, uint8_t protocol,
		   uint8_t hop_limit, const uint8_t *l4, size_t l4_bytes);
/* received = accepted + dropped, chunks accounted for. */
void script_books(const struct script_net *net);

#endif
