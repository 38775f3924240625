/*
 * IPv6 input. One rx core. Extension headers hop-by-hop, routing (with nothing left to route) and destination options are stepped
 * over, at most 8 of them and inside the datagram; a fragment header drops and counts. Source: RFC 8200, RFC 4291.
 */
#include "net.h"

enum {
	HEADERS_MAX = 8,
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_DESTINATION = 60,
};

static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};
static const uint8_t solicited_node[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};
static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

/* Which address of ours a multicast group means: RFC 4291 section 2.7.1. All nodes means any; the link-local one stands for it. */
static int group_find(const struct dp_stack *stack, const uint8_t *group)
{
	if (!memcmp(group, all_nodes, 16))
		return (int)stack->locals - 1;
	if (memcmp(group, solicited_node, 13))
		return -1;
	for (uint32_t i = 0; i < stack->locals; i++)
		if (stack->local[i].addr.family == 6 && !memcmp(stack->local[i].addr.byte + 13, group + 13, 3))
			return (int)i;
	return -1;
}

static bool bad_source(const struct tp_addr *source)
{
	static const uint8_t loopback[16] = {[15] = 1};
	return source->byte[0] == 0xff || !memcmp(source->byte, loopback, 16) || !memcmp(source->byte, mapped, 12);
}

enum tp_counter dp_ip6_input(struct dp_stack *stack, struct dp_packet *packet, const uint8_t *ip, size_t bytes)
{
	static const uint8_t none[16];
	if (bytes < DP_IP6_BYTES)
		return TP_C_FRAMES_RUNT;
	if (ip[0] >> 4 != 6)
		return TP_C_FRAMES_BAD_IP;
	uint32_t total = DP_IP6_BYTES + (uint32_t)dp_get16(ip + 4);
	if (total > bytes)
		return TP_C_FRAMES_RUNT;
	packet->peer = dp_addr_from6(ip + 8);
	bool unspecified = !memcmp(ip + 8, none, 16);
	if (bad_source(&packet->peer))
		return TP_C_FRAMES_BAD_IP;
	/* Our own address: a rival, of whom neighbour discovery (hop limit 255) should hear, or a forgery. */
	bool ours = dp_local_configured(stack, &packet->peer) >= 0;
	if (ours && (ip[6] != DP_PROTOCOL_ICMP6 || ip[7] != 255))
		return TP_C_FRAMES_BAD_IP;
	struct tp_addr target = dp_addr_from6(ip + 24);
	int local;
	packet->to_our_addr = target.byte[0] != 0xff;
	if (packet->to_our_addr) {
		local = dp_local_find(stack, &target);
		if (!packet->to_our_mac)
			local = -1;
	} else {
		local = group_find(stack, target.byte);
	}
	if (local < 0)
		return TP_C_FRAMES_NOT_OURS;
	packet->local = (uint32_t)local;
	packet->hop_limit = ip[7];
	packet->ip = ip;
	packet->ip_bytes = total;
	packet->pseudo = dp_sum(ip + 8, 32, 0);

	uint32_t at = DP_IP6_BYTES;
	uint8_t next = ip[6];
	for (int headers = 0; next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_DESTINATION; headers++) {
		if (headers == HEADERS_MAX || total - at < 8)
			return TP_C_FRAMES_BAD_IP;
		uint32_t header_bytes = ((uint32_t)ip[at + 1] + 1) * 8;
		if (header_bytes > total - at)
			return TP_C_FRAMES_BAD_IP;
		if (next == NEXT_HOP_BY_HOP && at != DP_IP6_BYTES)
			return TP_C_FRAMES_BAD_IP; /* only right after the IPv6 header */
		if (next == NEXT_ROUTING && ip[at + 3])
			return TP_C_FRAMES_BAD_IP; /* segments left: we are no router; RFC 5095 */
		next = ip[at];
		at += header_bytes;
	}
	packet->l4 = ip + at;
	packet->l4_bytes = total - at;
	if (stack->options.blocked && !unspecified && dp_blocked(stack, packet, next))
		return TP_C_FRAMES_BLOCKLISTED;
	if (next == NEXT_FRAGMENT)
		return TP_C_FRAMES_FRAGMENT;
	if (next == DP_PROTOCOL_ICMP6)
		return dp_icmp6_input(stack, packet);
	if (unspecified)
		return TP_C_FRAMES_BAD_IP;
	if (!packet->to_our_addr)
		return TP_C_FRAMES_NOT_OURS;
	if (next == DP_PROTOCOL_TCP)
		return dp_tcp_input(stack, packet);
	if (next == DP_PROTOCOL_UDP)
		return dp_udp_input(stack, packet);
	return TP_C_FRAMES_BAD_PROTOCOL;
}
