/*
 * Inside the network stack: what its files share below TCP. One rx core enters all of it.
 *
 *   dp_stack_input ─ dp_eth_input ─┬─ dp_arp_input
 *                                  ├─ dp_ip4_input ─┬─ dp_icmp4_input
 *                                  │                ├─ dp_udp_input ── dp_datagram_input()
 *                                  └─ dp_ip6_input ─┼─ dp_tcp_input ── dp_stream_*()
 *                                                   └─ dp_icmp6_input ─ dp_nd_input
 *
 * Every *_input() returns the one counter in which the frame ends: TP_C_FRAMES_ACCEPTED or a reason. So the books balance by
 * construction: dp_stack_input() bumps what came back, nobody else touches the FRAMES layer.
 *
 * Lengths are checked before bytes are read; fields are read with memcpy, since nothing in a frame is aligned.
 */
#ifndef TURNPIKE_NET_H
#define TURNPIKE_NET_H

#include "checksum.h"
#include "stack.h"
#include "wheel.h"

#include <string.h>

enum {
	DP_ETH_BYTES = 14,
	DP_VLAN_BYTES = 4,
	DP_IP4_BYTES = 20,
	DP_IP6_BYTES = 40,
	DP_UDP_BYTES = 8,
	DP_TYPE_IP4 = 0x0800,
	DP_TYPE_ARP = 0x0806,
	DP_TYPE_VLAN = 0x8100,
	DP_TYPE_QINQ = 0x88a8,
	DP_TYPE_IP6 = 0x86dd,
	DP_PROTOCOL_ICMP = 1,
	DP_PROTOCOL_TCP = 6,
	DP_PROTOCOL_UDP = 17,
	DP_PROTOCOL_ICMP6 = 58,
	DP_TTL = 64,
	DP_UNTAGGED = 0xffff, /* VLAN 4095 is reserved, so no tag that we take looks like this */
	DP_LOCALS_MAX = 64,
};

static inline uint16_t dp_get16(const uint8_t *at)
{
	uint16_t value;
	memcpy(&value, at, 2);
	return __builtin_bswap16(value);
}

static inline uint32_t dp_get32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, 4);
	return __builtin_bswap32(value);
}

static inline void dp_put16(uint8_t *at, uint16_t value)
{
	value = __builtin_bswap16(value);
	memcpy(at, &value, 2);
}

static inline void dp_put32(uint8_t *at, uint32_t value)
{
	value = __builtin_bswap32(value);
	memcpy(at, &value, 4);
}

static inline void dp_put_sum(uint8_t *at, uint64_t sum)
{
	uint16_t field = dp_sum_field(sum);
	memcpy(at, &field, 2);
}

static inline bool dp_addr_same(const struct tp_addr *a, const struct tp_addr *b)
{
	return !memcmp(a->byte, b->byte, 16);
}

static inline struct tp_addr dp_addr_from4(const uint8_t *four)
{
	struct tp_addr addr = {.byte = {[10] = 0xff, [11] = 0xff}, .family = 4};
	memcpy(addr.byte + 12, four, 4);
	return addr;
}

static inline struct tp_addr dp_addr_from6(const uint8_t *sixteen)
{
	struct tp_addr addr = {.family = 6};
	memcpy(addr.byte, sixteen, 16);
	return addr;
}

/* Where a frame came from on the link, and so where its answer goes: MAC and 802.1Q tag control, or DP_UNTAGGED. */
struct dp_link {
	uint8_t mac[6];
	uint16_t tci;
};

enum dp_claim { DP_CLAIM_UNASKED, DP_CLAIM_PROBING, DP_CLAIM_OURS, DP_CLAIM_TAKEN };

/* One of our addresses. The last one is the link-local address made from the MAC. */
struct dp_local {
	struct tp_addr addr;
	uint8_t bits;  /* on-link prefix, of the family */
	uint8_t claim; /* enum dp_claim: claim.c */
	uint8_t claim_step;
	uint64_t claim_ns, conflict_ns; /* the next step, 0: none; when one was told last */
};

/* What the layers below found out about a frame. `peer` may be "::" only for ND. */
struct dp_packet {
	struct dp_link link;
	bool to_our_mac; /* not a broadcast or multicast frame */
	uint8_t hop_limit;
	uint32_t local;    /* index of our address that it is for */
	bool to_our_addr;  /* not to a multicast group that we only listen to for ND */
	const uint8_t *ip; /* the IP header, for quotes in ICMP errors */
	uint32_t ip_bytes; /* the whole datagram, padding cut off */
	const uint8_t *l4; /* what follows the IP headers */
	uint32_t l4_bytes; /* of it */
	uint64_t pseudo;   /* sum over the addresses: the pseudo header lacks protocol and length */
	struct tp_addr peer;
};

/* A token bucket in time: each use costs `cost_ns`, credit is saved up to `burst_ns`. No division. */
struct dp_limit {
	uint64_t credit_ns, seen_ns;
};

static inline bool dp_limit_take(struct dp_limit *limit, uint64_t now_ns, uint64_t cost_ns, uint64_t burst_ns)
{
	limit->credit_ns += now_ns - limit->seen_ns;
	limit->seen_ns = now_ns;
	if (limit->credit_ns > burst_ns)
		limit->credit_ns = burst_ns;
	if (limit->credit_ns < cost_ns)
		return false;
	limit->credit_ns -= cost_ns;
	return true;
}

/* What a node of the wheel belongs to. */
enum dp_timer_kind { DP_TIMER_CONN, DP_TIMER_HALF, DP_TIMER_CLAIM };

struct dp_neighbours;
struct dp_tcp;

/* A round of so many frames came as fast as they could be read. Cookies are then sparse for a while: their gap, and how long. */
enum { DP_ROUND_CROWDED = 48, DP_COOKIE_GAP_NS = 20000, DP_CROWDED_NS = 100000000 };

struct dp_stack {
	uint64_t now_ns; /* of the latest call; never goes back */
	uint64_t now_ms;
	struct dp_stack_options options; /* pointers in it to addresses are ours */
	uint64_t secret_isn[2];          /* derived, so that hash values seen through one use tell nothing of the other */
	struct dp_local local[DP_LOCALS_MAX];
	uint32_t locals;
	struct tp_addr *gateway;
	bool draining;
	uint32_t checked;          /* DP_FRAME_* of the frame being read */
	uint32_t round_frames;     /* since the last flush */
	uint64_t crowded_until_ns; /* SYNs are answered by cookies sparingly: tcp_listen.c */
	/* the frame being built */
	uint8_t *out;
	size_t out_bytes;
	struct dp_limit echo, unreachable, reset, mld;
	struct dp_wheel_node claim_timer;
	uint8_t mld_reports;
	struct dp_wheel wheel;
	struct dp_neighbours *neighbours;
	struct dp_tcp *tcp;
};

static inline struct tp_counters *dp_counters(struct dp_stack *stack)
{
	return stack->options.counters;
}

/* ---- eth.c, ipv4.c, ipv6.c: frames in and out ---- */

enum tp_counter dp_eth_input(struct dp_stack *stack, const uint8_t *frame, size_t bytes);
enum tp_counter dp_ip4_input(struct dp_stack *stack, struct dp_packet *packet, const uint8_t *ip, size_t bytes);
enum tp_counter dp_ip6_input(struct dp_stack *stack, struct dp_packet *packet, const uint8_t *ip, size_t bytes);

/*
 * Opens a frame with its Ethernet header written; returns where `payload_bytes` go, or NULL when no frame is free or it would not
 * fit the mtu. Each success is followed by exactly one dp_eth_send().
 */
uint8_t *dp_eth_open(struct dp_stack *stack, const struct dp_link *link, uint16_t type, size_t payload_bytes);
void dp_eth_send(struct dp_stack *stack);
/* The same, with an IP header of the addresses' family too; returns where the l4 bytes go. */
uint8_t *dp_ip_open(struct dp_stack *stack, const struct dp_link *link, const struct tp_addr *from, const struct tp_addr *to,
		    uint8_t protocol, uint8_t hop_limit, size_t l4_bytes);
/* Sum of the pseudo header: RFC 9293 section 3.1, RFC 8200 section 8.1. */
uint64_t dp_ip_pseudo(const struct tp_addr *from, const struct tp_addr *to, uint8_t protocol, size_t l4_bytes);
static inline uint64_t dp_pseudo_add(uint64_t sum, uint8_t protocol, uint32_t l4_bytes)
{
	return sum + __builtin_bswap16(protocol) + (uint64_t)__builtin_bswap32(l4_bytes);
}

/* Fills the TCP or UDP checksum at `field`, zero until now, of l4[0..bytes); `pseudo` is the whole pseudo header's sum. */
static inline void dp_put_l4_sum(const struct dp_stack *stack, uint8_t *field, const uint8_t *l4, size_t bytes, uint64_t pseudo)
{
	uint16_t sum = stack->options.l4_sum_offload ? dp_sum_fold(pseudo) : dp_sum_field(dp_sum(l4, bytes, pseudo));
	memcpy(field, &sum, 2);
}

/* Index of our address, or -1; not of one that another host has. */
int dp_local_find(const struct dp_stack *stack, const struct tp_addr *addr);
int dp_local_configured(const struct dp_stack *stack, const struct tp_addr *addr); /* of those too */
/* Index of the address of ours whose on-link prefix holds addr, or -1: then it is reached through the gateway. */
int dp_local_onlink(const struct dp_stack *stack, const struct tp_addr *addr);
/* True if the source is blocklisted; cuts its TCP connection too. */
bool dp_blocked(struct dp_stack *stack, const struct dp_packet *packet, uint8_t protocol);

/* ---- arp.c, nd.c, neighbour.c: who has which MAC ---- */

enum tp_counter dp_arp_input(struct dp_stack *stack, const struct dp_link *link, const uint8_t *arp, size_t bytes);
/* hop limit, checksum and length of the ICMPv6 header are checked. */
enum tp_counter dp_nd_input(struct dp_stack *stack, const struct dp_packet *packet);
void dp_arp_ask(struct dp_stack *stack, uint32_t local, const struct tp_addr *whom);
void dp_nd_ask(struct dp_stack *stack, uint32_t local, const struct tp_addr *whom);

void dp_arp_probe(struct dp_stack *stack, uint32_t local);
void dp_arp_announce(struct dp_stack *stack, uint32_t local);
void dp_nd_probe(struct dp_stack *stack, uint32_t local);
void dp_nd_announce(struct dp_stack *stack, uint32_t local);

/* ---- claim.c, mld.c: our addresses on the link ---- */

enum { DP_MLD_ROBUSTNESS = 2 };

void dp_claim_start(struct dp_stack *stack);
void dp_claim_timer(struct dp_stack *stack);
/* Somebody else at `link` says that one of our configured addresses is his. */
void dp_claim_conflict(struct dp_stack *stack, uint32_t local, const struct dp_link *link);
void dp_mld_report(struct dp_stack *stack, bool change);
enum tp_counter dp_mld_query(struct dp_stack *stack, const struct dp_packet *packet);

/* How a neighbour made itself known, weakest first. */
enum dp_hint { DP_HINT_UNASKED, DP_HINT_REQUEST, DP_HINT_ANSWER };

int dp_neighbours_create(struct dp_stack *stack);
void dp_neighbours_destroy(struct dp_stack *stack);
/* Learns or refuses. False: the message contradicts an entry that we believe, or answers no question. */
bool dp_neighbour_learn(struct dp_stack *stack, const struct tp_addr *addr, const struct dp_link *link, enum dp_hint hint);
/* The latest valid datagram of `peer` came over `link`: that is where its answer goes. */
void dp_return_path_note(struct dp_stack *stack, const struct tp_addr *peer, const struct dp_link *link);
/*
 * Where frames for `peer` go: the way its latest datagram came, else the neighbour, else the gateway. False: not known, and a
 * question has been sent if there is whom to ask.
 */
bool dp_route(struct dp_stack *stack, const struct tp_addr *peer, struct dp_link *link);

/* ---- icmp.c, udp.c ---- */

enum tp_counter dp_icmp4_input(struct dp_stack *stack, const struct dp_packet *packet);
enum tp_counter dp_icmp6_input(struct dp_stack *stack, const struct dp_packet *packet);
/* "Port unreachable" about a packet that was for us alone. Rate-limited. */
void dp_icmp_unreachable(struct dp_stack *stack, const struct dp_packet *packet);
/* tcp_input.c */
enum tp_counter dp_tcp_input(struct dp_stack *stack, const struct dp_packet *packet);
enum tp_counter dp_udp_input(struct dp_stack *stack, const struct dp_packet *packet);

/* ---- siphash.c ---- */

/* SipHash-1-3 over whole words: hash tables. SipHash-2-4: what peers may see. */
uint64_t dp_siphash13(const uint64_t key[2], const uint64_t *words, uint32_t count);
uint64_t dp_siphash24(const uint64_t key[2], const uint64_t *words, uint32_t count);

#endif
