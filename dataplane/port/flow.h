/*
 * Which flow a frame belongs to, and so which rx core owns it. Pure; any thread.
 *
 * The hash is the one that network cards compute for receive-side scaling: Toeplitz over addresses and ports, with the symmetric key
 * 6d 5a 6d 5a … (Woo and Park, "Scalable TCP session monitoring with symmetric receive-side scaling", 2012), so both directions of
 * a flow, and the packet quoted in an ICMP error, give the same number. Since the key repeats after 16 bits, the hash depends only
 * on the exclusive or of all 16-bit words of its input, and each half of it is the same 16 bits.
 *
 *   x    = xor of the 16-bit words of both addresses and, for TCP and UDP that is no fragment, of both ports
 *   h    = xor of rotl16(0x6d5a, i) over the bits i of x that are set, i = 0 the most significant
 *   core = (h mod 128) mod rx cores, by a table like a card's indirection table
 *
 * A client that knows the number of rx cores can so choose its source port.
 */
#ifndef TURNPIKE_FLOW_H
#define TURNPIKE_FLOW_H

#include <stddef.h>
#include <stdint.h>

enum { DP_FLOW_KEY_BYTES = 64, DP_FLOW_TABLE = 128 };

enum dp_flow_kind {
	DP_FLOW_OTHER,     /* no IP: one core takes them all */
	DP_FLOW_IP,        /* hash tells whose it is */
	DP_FLOW_ERROR,     /* an ICMP error: hash is that of the packet it quotes */
	DP_FLOW_NEIGHBOUR, /* an ARP answer or a neighbour advertisement: every core wants to know */
};

struct dp_flow {
	uint8_t kind; /* enum dp_flow_kind */
	uint16_t hash;
};

extern const uint8_t dp_flow_key[DP_FLOW_KEY_BYTES]; /* for cards: the first rss key bytes that they want */

uint16_t dp_flow_hash(uint16_t folded);
struct dp_flow dp_flow_of(const uint8_t *frame, size_t bytes);

#endif
