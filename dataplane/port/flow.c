/*
 * The flow of a frame: see flow.h. Every rx core that spreads calls this once a frame; lengths are checked before bytes are read.
 * Source: RFC 791, RFC 8200, RFC 792 and RFC 4443 (what an error quotes), the RSS hash of the Toeplitz kind.
 */
#include "flow.h"

#include <stdbool.h>
#include <string.h>

enum {
	ETH_BYTES = 14,
	VLAN_BYTES = 4,
	ARP_BYTES = 8,
	IP4_BYTES = 20,
	IP6_BYTES = 40,
	IP6_HEADERS_MAX = 8,
	ICMP_BYTES = 8,
	TYPE_IP4 = 0x0800,
	TYPE_ARP = 0x0806,
	TYPE_VLAN = 0x8100,
	TYPE_IP6 = 0x86dd,
	ARP_ANSWER = 2,
	PROTOCOL_ICMP = 1,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_FRAGMENT = 44,
	PROTOCOL_ICMP6 = 58,
	ND_ADVERTISEMENT = 136,
};

#define KEY8 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a
const uint8_t dp_flow_key[DP_FLOW_KEY_BYTES] = {KEY8, KEY8, KEY8, KEY8, KEY8, KEY8, KEY8, KEY8};

/* The part of the hash that a nibble of x makes: rotations of the key, for nibble n shifted by its place. */
#define ROTATED(i) ((uint16_t)((0x6d5a << ((i)&15) | 0x6d5a >> (16 - ((i)&15))) & 0xffff))
#define PART(n, v) \
	(uint16_t)(((v)&8 ? ROTATED(4 * (n)) : 0) ^ ((v)&4 ? ROTATED(4 * (n) + 1) : 0) ^ ((v)&2 ? ROTATED(4 * (n) + 2) : 0) ^ \
		   ((v)&1 ? ROTATED(4 * (n) + 3) : 0))
#define PARTS(n) \
	{ \
		PART(n, 0), PART(n, 1), PART(n, 2), PART(n, 3), PART(n, 4), PART(n, 5), PART(n, 6), PART(n, 7), PART(n, 8), \
			PART(n, 9), PART(n, 10), PART(n, 11), PART(n, 12), PART(n, 13), PART(n, 14), PART(n, 15) \
	}

static const uint16_t part[4][16] = {PARTS(0), PARTS(1), PARTS(2), PARTS(3)};

uint16_t dp_flow_hash(uint16_t folded)
{
	return part[0][folded >> 12] ^ part[1][folded >> 8 & 15] ^ part[2][folded >> 4 & 15] ^ part[3][folded & 15];
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* The exclusive or of the 16-bit words of 8, 32 or 4 bytes. Byte order is undone once at the end. */
static uint16_t fold(const uint8_t *at, size_t bytes)
{
	uint64_t all = 0;
	for (; bytes >= 8; at += 8, bytes -= 8) {
		uint64_t word;
		memcpy(&word, at, 8);
		all ^= word;
	}
	if (bytes) {
		uint32_t word;
		memcpy(&word, at, 4);
		all ^= word;
	}
	all ^= all >> 32;
	all ^= all >> 16;
	return __builtin_bswap16((uint16_t)all);
}

static bool is_error(uint8_t protocol, uint8_t type)
{
	return protocol == PROTOCOL_ICMP ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
}

static struct dp_flow flow4(const uint8_t *ip, size_t bytes, bool quoted);
static struct dp_flow flow6(const uint8_t *ip, size_t bytes, bool quoted);

static struct dp_flow transport(uint16_t folded, uint8_t protocol, const uint8_t *l4, size_t bytes, bool quoted)
{
	if ((protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP) && bytes >= 4)
		folded ^= fold(l4, 4);
	else if (protocol == PROTOCOL_ICMP6 && bytes >= 1 && l4[0] == ND_ADVERTISEMENT && !quoted)
		return (struct dp_flow){.kind = DP_FLOW_NEIGHBOUR};
	else if ((protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMP6) && bytes > ICMP_BYTES && !quoted &&
		 is_error(protocol, l4[0])) {
		const struct dp_flow inner = protocol == PROTOCOL_ICMP ? flow4(l4 + ICMP_BYTES, bytes - ICMP_BYTES, true)
								       : flow6(l4 + ICMP_BYTES, bytes - ICMP_BYTES, true);
		return (struct dp_flow){.kind = DP_FLOW_ERROR, .hash = inner.hash};
	}
	return (struct dp_flow){.kind = DP_FLOW_IP, .hash = dp_flow_hash(folded)};
}

static struct dp_flow flow4(const uint8_t *ip, size_t bytes, bool quoted)
{
	if (bytes < IP4_BYTES)
		return (struct dp_flow){.kind = DP_FLOW_OTHER};
	const size_t header_bytes = (size_t)(ip[0] & 15) * 4;
	const uint16_t folded = fold(ip + 12, 8);
	const bool fragment = get16(ip + 6) & 0x3fff;
	if (header_bytes < IP4_BYTES || header_bytes > bytes || fragment)
		return transport(folded, 0, NULL, 0, quoted);
	return transport(folded, ip[9], ip + header_bytes, bytes - header_bytes, quoted);
}

static struct dp_flow flow6(const uint8_t *ip, size_t bytes, bool quoted)
{
	if (bytes < IP6_BYTES)
		return (struct dp_flow){.kind = DP_FLOW_OTHER};
	const uint16_t folded = fold(ip + 8, 32);
	uint8_t next = ip[6];
	size_t at = IP6_BYTES;
	for (int i = 0; i < IP6_HEADERS_MAX && (next == 0 || next == 43 || next == 60) && bytes - at >= 8; i++) {
		const size_t header_bytes = ((size_t)ip[at + 1] + 1) * 8;
		if (header_bytes > bytes - at)
			break;
		next = ip[at];
		at += header_bytes;
	}
	return transport(folded, next == PROTOCOL_FRAGMENT ? 0 : next, ip + at, bytes - at, quoted);
}

struct dp_flow dp_flow_of(const uint8_t *frame, size_t bytes)
{
	size_t at = ETH_BYTES;
	if (bytes < ETH_BYTES)
		return (struct dp_flow){.kind = DP_FLOW_OTHER};
	uint16_t type = get16(frame + 12);
	if (type == TYPE_VLAN && bytes >= ETH_BYTES + VLAN_BYTES) {
		type = get16(frame + 16);
		at += VLAN_BYTES;
	}
	switch (type) {
	case TYPE_IP4:
		return flow4(frame + at, bytes - at, false);
	case TYPE_IP6:
		return flow6(frame + at, bytes - at, false);
	case TYPE_ARP:
		if (bytes - at >= ARP_BYTES && get16(frame + at + 6) == ARP_ANSWER)
			return (struct dp_flow){.kind = DP_FLOW_NEIGHBOUR};
		return (struct dp_flow){.kind = DP_FLOW_OTHER};
	default:
		return (struct dp_flow){.kind = DP_FLOW_OTHER};
	}
}
