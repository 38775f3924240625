/*
 * IPv6 neighbour discovery: solicitations for our addresses are answered, advertisements answer our own questions. Router
 * advertisements and redirects are ignored: addresses and the gateway come from the configuration, and a stranger's message must
 * not move them. One rx core. Source: RFC 4861 sections 4.3, 4.4, 4.6, 7.1, 7.2; RFC 4862 section 5.4 (duplicate detection).
 *
 *   0     1     2          4          8               24
 *   │type │code │ checksum │ flags    │ target (16)   │ options: type, length in 8 bytes, …
 */
#include "net.h"

enum {
	ND_SOLICITATION = 135,
	ND_ADVERTISEMENT = 136,
	ND_BYTES = 24,
	OPTION_SOURCE_MAC = 1,
	OPTION_TARGET_MAC = 2,
	FLAG_SOLICITED = 0x40,
	FLAG_OVERRIDE = 0x20,
};

static const struct tp_addr nobody = {.family = 6};
static const struct tp_addr all_nodes = {.byte = {0xff, 0x02, [15] = 1}, .family = 6};

/* Walks the options; *mac points at the wanted one's address or is NULL. False: malformed. */
static bool options(const struct dp_packet *packet, uint8_t wanted, const uint8_t **mac)
{
	*mac = NULL;
	for (uint32_t at = ND_BYTES; at < packet->l4_bytes;) {
		uint32_t left = packet->l4_bytes - at;
		if (left < 8)
			return false;
		uint32_t bytes = (uint32_t)packet->l4[at + 1] * 8;
		if (!bytes || bytes > left) /* section 4.6: length 0 must be discarded */
			return false;
		if (packet->l4[at] == wanted)
			*mac = packet->l4 + at + 2;
		at += bytes;
	}
	return true;
}

static void send(struct dp_stack *stack, const struct dp_link *link, uint8_t type, uint8_t flags, const struct tp_addr *from,
		 const struct tp_addr *to, const struct tp_addr *target)
{
	bool probe = dp_addr_same(from, &nobody); /* names no MAC: RFC 4861 section 4.3 */
	uint32_t bytes = ND_BYTES + (probe ? 0 : 8);
	uint8_t *nd = dp_ip_open(stack, link, from, to, DP_PROTOCOL_ICMP6, 255, bytes);
	if (!nd)
		return;
	nd[0] = type;
	nd[1] = 0;
	dp_put16(nd + 2, 0);
	dp_put32(nd + 4, (uint32_t)flags << 24);
	memcpy(nd + 8, target->byte, 16);
	if (!probe) {
		nd[24] = type == ND_SOLICITATION ? OPTION_SOURCE_MAC : OPTION_TARGET_MAC;
		nd[25] = 1;
		memcpy(nd + 26, stack->options.mac, 6);
	}
	dp_put_sum(nd + 2, dp_sum(nd, bytes, dp_ip_pseudo(from, to, DP_PROTOCOL_ICMP6, bytes)));
	dp_eth_send(stack);
}

/* Advertisements while we still probe leave others' entries as they are: RFC 4429 section 3.3. */
static uint8_t override(const struct dp_local *local)
{
	return local->claim == DP_CLAIM_PROBING ? 0 : FLAG_OVERRIDE;
}

static enum tp_counter solicitation(struct dp_stack *stack, const struct dp_packet *packet, const struct tp_addr *target)
{
	const uint8_t *mac;
	if (!options(packet, OPTION_SOURCE_MAC, &mac))
		return TP_C_FRAMES_BAD_ICMP;
	int rival = dp_local_configured(stack, &packet->peer);
	if (rival >= 0) {
		dp_claim_conflict(stack, (uint32_t)rival, &packet->link);
		return TP_C_FRAMES_BAD_ICMP;
	}
	int local = dp_local_configured(stack, target);
	if (local < 0)
		return TP_C_FRAMES_NOT_OURS;
	const struct tp_addr *ours = &stack->local[local].addr;
	uint8_t claim = stack->local[local].claim;
	if (dp_addr_same(&packet->peer, &nobody)) {
		/* Section 7.1.1: a duplicate-address probe comes to the group and names no MAC. All may hear that it is taken. */
		if (mac || packet->to_our_addr)
			return TP_C_FRAMES_BAD_ICMP;
		if (claim == DP_CLAIM_PROBING || claim == DP_CLAIM_TAKEN) { /* both want it: RFC 4862 section 5.4.3 */
			dp_claim_conflict(stack, (uint32_t)local, &packet->link);
			return TP_C_FRAMES_BAD_ICMP;
		}
		const struct dp_link group = {.mac = {0x33, 0x33, 0, 0, 0, 1}, .tci = packet->link.tci};
		send(stack, &group, ND_ADVERTISEMENT, FLAG_OVERRIDE, ours, &all_nodes, ours);
		return TP_C_FRAMES_ACCEPTED;
	}
	if (claim == DP_CLAIM_TAKEN)
		return TP_C_FRAMES_NOT_OURS;
	if (mac) {
		/* As with ARP: who speaks for another MAC than his own is not believed. */
		if (memcmp(mac, packet->link.mac, 6))
			return TP_C_FRAMES_BAD_ICMP;
		if (dp_local_onlink(stack, &packet->peer) >=
		    0) /* what contradicts a fresh entry is answered, and not learnt: arp.c */
			dp_neighbour_learn(stack, &packet->peer, &packet->link, DP_HINT_REQUEST);
	}
	send(stack, &packet->link, ND_ADVERTISEMENT, FLAG_SOLICITED | override(&stack->local[local]), ours, &packet->peer, ours);
	return TP_C_FRAMES_ACCEPTED;
}

static enum tp_counter advertisement(struct dp_stack *stack, const struct dp_packet *packet, const struct tp_addr *target)
{
	const uint8_t *mac;
	bool solicited = packet->l4[4] & FLAG_SOLICITED;
	if (!options(packet, OPTION_TARGET_MAC, &mac))
		return TP_C_FRAMES_BAD_ICMP;
	if (solicited && !packet->to_our_addr) /* section 7.1.2 */
		return TP_C_FRAMES_BAD_ICMP;
	int local = dp_local_configured(stack, target);
	if (local >= 0)
		dp_claim_conflict(stack, (uint32_t)local, &packet->link); /* RFC 4862 section 5.4.4 */
	if (local >= 0 || (mac && memcmp(mac, packet->link.mac, 6)))
		return TP_C_FRAMES_BAD_ICMP;
	enum dp_hint hint = solicited ? DP_HINT_ANSWER : DP_HINT_UNASKED;
	return dp_neighbour_learn(stack, target, &packet->link, hint) ? TP_C_FRAMES_ACCEPTED : TP_C_FRAMES_BAD_ICMP;
}

enum tp_counter dp_nd_input(struct dp_stack *stack, const struct dp_packet *packet)
{
	/* 255 cannot have passed a router: the only thing that makes neighbour discovery local. */
	if (packet->hop_limit != 255 || packet->l4[1] != 0 || packet->l4_bytes < ND_BYTES)
		return TP_C_FRAMES_BAD_ICMP;
	struct tp_addr target = dp_addr_from6(packet->l4 + 8);
	if (target.byte[0] == 0xff)
		return TP_C_FRAMES_BAD_ICMP;
	switch (packet->l4[0]) {
	case ND_SOLICITATION:
		return solicitation(stack, packet, &target);
	case ND_ADVERTISEMENT:
		return advertisement(stack, packet, &target);
	default:
		return TP_C_FRAMES_BAD_ICMP;
	}
}

static void ask(struct dp_stack *stack, const struct tp_addr *from, const struct tp_addr *whom)
{
	struct tp_addr group = {.byte = {0xff, 0x02, [11] = 1, [12] = 0xff}, .family = 6};
	struct dp_link link = {.mac = {0x33, 0x33, 0xff}, .tci = DP_UNTAGGED};
	memcpy(group.byte + 13, whom->byte + 13, 3);
	memcpy(link.mac + 3, whom->byte + 13, 3);
	send(stack, &link, ND_SOLICITATION, 0, from, &group, whom);
}

void dp_nd_ask(struct dp_stack *stack, uint32_t local, const struct tp_addr *whom)
{
	ask(stack, &stack->local[local].addr, whom);
}

/* RFC 4862 section 5.4.2. */
void dp_nd_probe(struct dp_stack *stack, uint32_t local)
{
	ask(stack, &nobody, &stack->local[local].addr);
}

/* RFC 4861 section 7.2.6. */
void dp_nd_announce(struct dp_stack *stack, uint32_t local)
{
	const struct dp_link group = {.mac = {0x33, 0x33, 0, 0, 0, 1}, .tci = DP_UNTAGGED};
	const struct tp_addr *ours = &stack->local[local].addr;
	send(stack, &group, ND_ADVERTISEMENT, FLAG_OVERRIDE, ours, &all_nodes, ours);
}
