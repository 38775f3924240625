/*
 * Ethernet II with at most one 802.1Q tag, in and out; the choice of the IP writer by family. One rx core.
 *
 *   0        6        12     14
 *   ┌────────┬────────┬──────┬─────────            tagged: 0x8100 | PCP DEI VID | type at 12, 14, 16
 *   │ to     │ from   │ type │ payload …
 *   └────────┴────────┴──────┴─────────
 *
 * An answer goes to the MAC and with the tag that the question came with: no lookup, and right behind any gateway, VLAN or pair of
 * routers. What that costs against spoofing: a neighbour on the same link can already speak for any address that the link lets it
 * claim; from further away nobody chooses MACs. TCP moves a connection to another MAC only after a segment passed the sequence and
 * acknowledgement checks (tcp_input.c), so a blind neighbour cannot pull a connection over.
 * Source: IEEE 802.3 clause 3, IEEE 802.1Q clause 9.
 */
#include "net.h"

enum tp_counter dp_eth_input(struct dp_stack *stack, const uint8_t *frame, size_t bytes)
{
	if (bytes < DP_ETH_BYTES)
		return TP_C_FRAMES_RUNT;
	struct dp_packet packet;
	packet.to_our_mac = !memcmp(frame, stack->options.mac, 6);
	if (!packet.to_our_mac && !(frame[0] & 1))
		return TP_C_FRAMES_NOT_OURS;
	memcpy(packet.link.mac, frame + 6, 6);
	packet.link.tci = DP_UNTAGGED;
	uint16_t type = dp_get16(frame + 12);
	size_t at = DP_ETH_BYTES;
	if (type == DP_TYPE_VLAN) {
		if (bytes < DP_ETH_BYTES + DP_VLAN_BYTES)
			return TP_C_FRAMES_RUNT;
		packet.link.tci = dp_get16(frame + 14);
		type = dp_get16(frame + 16);
		at += DP_VLAN_BYTES;
		if ((packet.link.tci & 0xfff) == 0xfff)
			return TP_C_FRAMES_BAD_VLAN;
		if (type == DP_TYPE_VLAN)
			return TP_C_FRAMES_BAD_VLAN;
	}
	if (type == DP_TYPE_QINQ)
		return TP_C_FRAMES_BAD_VLAN;
	/* An answer must never go to a group or back to ourselves: that would multiply or loop. */
	bool bad_source = (frame[6] & 1) || !memcmp(frame + 6, stack->options.mac, 6);
	switch (type) {
	case DP_TYPE_IP4:
		return bad_source ? TP_C_FRAMES_BAD_IP : dp_ip4_input(stack, &packet, frame + at, bytes - at);
	case DP_TYPE_IP6:
		return bad_source ? TP_C_FRAMES_BAD_IP : dp_ip6_input(stack, &packet, frame + at, bytes - at);
	case DP_TYPE_ARP:
		return bad_source ? TP_C_FRAMES_BAD_ARP : dp_arp_input(stack, &packet.link, frame + at, bytes - at);
	default:
		return TP_C_FRAMES_BAD_ETHERTYPE;
	}
}

uint8_t *dp_eth_open(struct dp_stack *stack, const struct dp_link *link, uint16_t type, size_t payload_bytes)
{
	if (payload_bytes > stack->options.mtu)
		return NULL;
	bool tagged = link->tci != DP_UNTAGGED;
	size_t header_bytes = DP_ETH_BYTES + (tagged ? DP_VLAN_BYTES : 0);
	uint8_t *frame = stack->options.frame_open(stack->options.context, header_bytes + payload_bytes);
	if (!frame)
		return NULL;
	stack->out = frame;
	stack->out_bytes = header_bytes + payload_bytes;
	memcpy(frame, link->mac, 6);
	memcpy(frame + 6, stack->options.mac, 6);
	if (tagged) {
		dp_put16(frame + 12, DP_TYPE_VLAN);
		dp_put16(frame + 14, link->tci);
	}
	dp_put16(frame + header_bytes - 2, type);
	return frame + header_bytes;
}

void dp_eth_send(struct dp_stack *stack)
{
	stack->options.frame_send(stack->options.context, stack->out, stack->out_bytes);
	stack->out = NULL;
}

static void ip4_write(uint8_t *ip, const struct tp_addr *from, const struct tp_addr *to, uint8_t protocol, uint8_t hop_limit,
		      size_t l4_bytes)
{
	ip[0] = 0x45;
	ip[1] = 0;
	dp_put16(ip + 2, (uint16_t)(DP_IP4_BYTES + l4_bytes));
	dp_put16(ip + 4, 0);      /* RFC 6864 section 4.1: an atomic datagram's id means nothing */
	dp_put16(ip + 6, 0x4000); /* do not fragment */
	ip[8] = hop_limit;
	ip[9] = protocol;
	dp_put16(ip + 10, 0);
	memcpy(ip + 12, from->byte + 12, 4);
	memcpy(ip + 16, to->byte + 12, 4);
	dp_put_sum(ip + 10, dp_sum(ip, DP_IP4_BYTES, 0));
}

static void ip6_write(uint8_t *ip, const struct tp_addr *from, const struct tp_addr *to, uint8_t protocol, uint8_t hop_limit,
		      size_t l4_bytes)
{
	dp_put32(ip, 0x60000000);
	dp_put16(ip + 4, (uint16_t)l4_bytes);
	ip[6] = protocol;
	ip[7] = hop_limit;
	memcpy(ip + 8, from->byte, 16);
	memcpy(ip + 24, to->byte, 16);
}

uint8_t *dp_ip_open(struct dp_stack *stack, const struct dp_link *link, const struct tp_addr *from, const struct tp_addr *to,
		    uint8_t protocol, uint8_t hop_limit, size_t l4_bytes)
{
	bool four = to->family == 4;
	size_t header_bytes = four ? DP_IP4_BYTES : DP_IP6_BYTES;
	uint8_t *ip = dp_eth_open(stack, link, four ? DP_TYPE_IP4 : DP_TYPE_IP6, header_bytes + l4_bytes);
	if (!ip)
		return NULL;
	if (four)
		ip4_write(ip, from, to, protocol, hop_limit, l4_bytes);
	else
		ip6_write(ip, from, to, protocol, hop_limit, l4_bytes);
	return ip + header_bytes;
}

uint64_t dp_ip_pseudo(const struct tp_addr *from, const struct tp_addr *to, uint8_t protocol, size_t l4_bytes)
{
	size_t skip = to->family == 4 ? 12 : 0;
	uint64_t sum = dp_sum(from->byte + skip, 16 - skip, 0);
	sum = dp_sum(to->byte + skip, 16 - skip, sum);
	return dp_pseudo_add(sum, protocol, (uint32_t)l4_bytes);
}
