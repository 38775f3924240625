/*
 * Multicast listener reports for the solicited-node groups of our IPv6 addresses, so that switches which watch MLD carry neighbour
 * solicitations to us. One rx core. Source: RFC 3810 sections 5.1, 5.2, 6.1 (version 2 only), RFC 3590 (source "::" while no
 * link-local address is sure), RFC 2710 section 3 (what a query looks like).
 *
 *   IPv6 │ hop-by-hop: router alert │ 143, 0, checksum, 0, records │ type, 0, 0 sources, group │ …
 *   40   │ 8                        │ 8                            │ 20 each
 */
#include "net.h"

enum {
	MLD_REPORT2 = 143,
	HOP_BYTES = 8,
	HEAD_BYTES = 8,
	RECORD_BYTES = 20,
	QUERY_BYTES = 24,
	IS_EXCLUDE = 2,
	TO_EXCLUDE = 4,
};
#define REPORT_COST_NS 1000000000ULL

void dp_mld_report(struct dp_stack *stack, bool change)
{
	static const uint8_t routers[16] = {0xff, 0x02, [15] = 0x16};
	static const uint8_t alert[HOP_BYTES] = {DP_PROTOCOL_ICMP6, 0, 5, 2, 0, 0, 1, 0};
	const struct dp_link link = {.mac = {0x33, 0x33, 0, 0, 0, 0x16}, .tci = DP_UNTAGGED};
	const struct dp_local *self = &stack->local[stack->locals - 1];
	uint32_t groups = 0;
	for (uint32_t i = 0; i < stack->locals; i++)
		groups += stack->local[i].addr.family == 6;
	if (groups > DP_LOCALS_MAX / 2) /* a frame of the least MTU holds them; nobody configures more */
		groups = DP_LOCALS_MAX / 2;
	uint32_t icmp_bytes = HEAD_BYTES + groups * RECORD_BYTES;
	uint8_t *ip = dp_eth_open(stack, &link, DP_TYPE_IP6, DP_IP6_BYTES + HOP_BYTES + icmp_bytes);
	if (!ip)
		return;
	struct tp_addr from = self->addr, to = dp_addr_from6(routers);
	if (self->claim != DP_CLAIM_OURS)
		memset(from.byte, 0, 16);
	dp_put32(ip, 0x60000000);
	dp_put16(ip + 4, (uint16_t)(HOP_BYTES + icmp_bytes));
	ip[6] = 0;
	ip[7] = 1;
	memcpy(ip + 8, from.byte, 16);
	memcpy(ip + 24, to.byte, 16);
	memcpy(ip + DP_IP6_BYTES, alert, HOP_BYTES);
	uint8_t *icmp = ip + DP_IP6_BYTES + HOP_BYTES, *record = icmp + HEAD_BYTES;
	memset(icmp, 0, icmp_bytes);
	icmp[0] = MLD_REPORT2;
	dp_put16(icmp + 6, (uint16_t)groups);
	for (uint32_t i = 0, left = groups; left; i++) {
		if (stack->local[i].addr.family != 6)
			continue;
		record[0] = change ? TO_EXCLUDE : IS_EXCLUDE;
		memcpy(record + 4, (const uint8_t[13]){0xff, 0x02, [11] = 1, [12] = 0xff}, 13);
		memcpy(record + 17, stack->local[i].addr.byte + 13, 3);
		record += RECORD_BYTES;
		left--;
	}
	dp_put_sum(icmp + 2, dp_sum(icmp, icmp_bytes, dp_ip_pseudo(&from, &to, DP_PROTOCOL_ICMP6, icmp_bytes)));
	dp_eth_send(stack);
}

enum tp_counter dp_mld_query(struct dp_stack *stack, const struct dp_packet *packet)
{
	/* RFC 3810 section 6.2: from a link-local address with a hop limit of 1, else it was forged from afar. */
	if (packet->l4_bytes < QUERY_BYTES || packet->hop_limit != 1 || packet->peer.byte[0] != 0xfe ||
	    (packet->peer.byte[1] & 0xc0) != 0x80)
		return TP_C_FRAMES_BAD_ICMP;
	if (!dp_limit_take(&stack->mld, stack->now_ns, REPORT_COST_NS, REPORT_COST_NS))
		return TP_C_FRAMES_BAD_ICMP;
	dp_mld_report(stack, false);
	return TP_C_FRAMES_ACCEPTED;
}
