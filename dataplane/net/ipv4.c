/*
 * IPv4 input. One rx core. Options are stepped over, fragments dropped and counted (beacons fit a frame, and reassembly is memory
 * that strangers control), sources that cannot be a unicast host are refused. Source: RFC 791, RFC 1122 section 3.2.1.
 */
#include "net.h"

/* The same test in words of host order: 0/8, 127/8, 224/3 cannot be the source of a packet from the wire. */
static bool bad_source(const struct dp_stack *stack, uint32_t source)
{
	uint32_t net = source >> 24;
	if (net == 0 || net == 127 || net >= 224)
		return true;
	for (uint32_t i = 0; i < stack->locals; i++) {
		const struct dp_local *local = &stack->local[i];
		if (local->addr.family != 4)
			continue;
		uint32_t ours = dp_get32(local->addr.byte + 12);
		if (source == ours) /* also the "land" attack */
			return true;
		uint32_t host_mask = local->bits < 31 ? 0xffffffffU >> local->bits : 0;
		if (host_mask && (source | host_mask) == source && ((source ^ ours) & ~host_mask) == 0)
			return true; /* the link's broadcast address */
	}
	return false;
}

enum tp_counter dp_ip4_input(struct dp_stack *stack, struct dp_packet *packet, const uint8_t *ip, size_t bytes)
{
	if (bytes < DP_IP4_BYTES)
		return TP_C_FRAMES_RUNT;
	uint32_t header_bytes = (uint32_t)(ip[0] & 15) * 4;
	if (ip[0] >> 4 != 4 || header_bytes < DP_IP4_BYTES)
		return TP_C_FRAMES_BAD_IP;
	uint32_t total = dp_get16(ip + 2);
	if (total < header_bytes)
		return TP_C_FRAMES_BAD_IP;
	if (total > bytes)
		return TP_C_FRAMES_RUNT;
	if (!(stack->checked & DP_FRAME_IP_SUM_GOOD) && dp_sum_fold(dp_sum(ip, header_bytes, 0)) != 0xffff)
		return TP_C_FRAMES_BAD_IP_CHECKSUM;
	if (bad_source(stack, dp_get32(ip + 12)))
		return TP_C_FRAMES_BAD_IP;
	struct tp_addr target = dp_addr_from4(ip + 16);
	int local = dp_local_find(stack, &target);
	if (local < 0 || !packet->to_our_mac)
		return TP_C_FRAMES_NOT_OURS; /* also our address inside a broadcast frame: RFC 1122 section 3.3.6 */
	packet->peer = dp_addr_from4(ip + 12);
	packet->local = (uint32_t)local;
	packet->to_our_addr = true;
	packet->hop_limit = ip[8];
	packet->ip = ip;
	packet->ip_bytes = total;
	packet->l4 = ip + header_bytes;
	packet->l4_bytes = total - header_bytes;
	packet->pseudo = dp_sum(ip + 12, 8, 0);
	if (stack->options.blocked && dp_blocked(stack, packet, ip[9]))
		return TP_C_FRAMES_BLOCKLISTED;
	if (dp_get16(ip + 6) & 0x3fff) /* more fragments, or an offset */
		return TP_C_FRAMES_FRAGMENT;
	switch (ip[9]) {
	case DP_PROTOCOL_TCP:
		return dp_tcp_input(stack, packet);
	case DP_PROTOCOL_UDP:
		return dp_udp_input(stack, packet);
	case DP_PROTOCOL_ICMP:
		return dp_icmp4_input(stack, packet);
	default:
		return TP_C_FRAMES_BAD_PROTOCOL;
	}
}
