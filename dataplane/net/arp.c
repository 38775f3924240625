/*
 * ARP for our IPv4 addresses. One rx core. Source: RFC 826, RFC 5227 (probes).
 *
 *   0    2    4  5  6   8            14         18           24        28
 *   │ 1  │0800│6 │4 │op │ sender MAC │ sender IP│ target MAC │target IP│
 *
 * What is refused: a sender MAC that differs from the frame's (nobody honest does that on a plain link), a sender that claims an
 * address of ours (claim.c hears of it). Whatever contradicts an entry that was confirmed lately is not learnt (neighbour.c); nor is a
 * sender that is off the link: Linux asks with any address of its own (ip-sysctl, arp_announce 0). But who asks is told where we are: a
 * gateway that took over from another must find us at once, and a liar learns nothing that an honest question would not tell.
 */
#include "net.h"

enum { ARP_BYTES = 28, ARP_REQUEST = 1, ARP_ANSWER = 2 };

static void send(struct dp_stack *stack, const struct dp_link *to, uint16_t operation, const uint8_t from_ip[4],
		 const uint8_t target_mac[6], const uint8_t target_ip[4])
{
	uint8_t *arp = dp_eth_open(stack, to, DP_TYPE_ARP, ARP_BYTES);
	if (!arp)
		return;
	dp_put16(arp, 1);
	dp_put16(arp + 2, DP_TYPE_IP4);
	arp[4] = 6;
	arp[5] = 4;
	dp_put16(arp + 6, operation);
	memcpy(arp + 8, stack->options.mac, 6);
	memcpy(arp + 14, from_ip, 4);
	memcpy(arp + 18, target_mac, 6);
	memcpy(arp + 24, target_ip, 4);
	dp_eth_send(stack);
}

enum tp_counter dp_arp_input(struct dp_stack *stack, const struct dp_link *link, const uint8_t *arp, size_t bytes)
{
	if (bytes < ARP_BYTES)
		return TP_C_FRAMES_RUNT;
	if (dp_get16(arp) != 1 || dp_get16(arp + 2) != DP_TYPE_IP4 || arp[4] != 6 || arp[5] != 4)
		return TP_C_FRAMES_BAD_ARP;
	uint16_t operation = dp_get16(arp + 6);
	if (operation != ARP_REQUEST && operation != ARP_ANSWER)
		return TP_C_FRAMES_BAD_ARP;
	if (memcmp(arp + 8, link->mac, 6))
		return TP_C_FRAMES_BAD_ARP;
	struct tp_addr sender = dp_addr_from4(arp + 14), target = dp_addr_from4(arp + 24);
	int claimed = dp_local_configured(stack, &sender);
	bool probe = !dp_get32(arp + 14); /* RFC 5227: the sender asks whether its future address is taken */
	if (claimed < 0 && probe) {
		claimed = dp_local_configured(stack, &target);
		if (claimed >= 0 && stack->local[claimed].claim != DP_CLAIM_PROBING &&
		    stack->local[claimed].claim != DP_CLAIM_TAKEN)
			claimed =
				-1; /* it hears below that it is ours; only one that probes when we do is a rival: section 2.1.1 */
	}
	if (claimed >= 0) {
		dp_claim_conflict(stack, (uint32_t)claimed, link);
		return TP_C_FRAMES_BAD_ARP;
	}
	int local = dp_local_find(stack, &target);
	if (local < 0)
		return TP_C_FRAMES_NOT_OURS; /* talk of others, gratuitous announcements: nothing to learn from */
	bool onlink = !probe && dp_local_onlink(stack, &sender) >= 0;
	if (operation == ARP_ANSWER) {
		if (!onlink || memcmp(arp + 18, stack->options.mac, 6))
			return TP_C_FRAMES_BAD_ARP;
		return dp_neighbour_learn(stack, &sender, link, DP_HINT_ANSWER) ? TP_C_FRAMES_ACCEPTED : TP_C_FRAMES_BAD_ARP;
	}
	if (onlink)
		dp_neighbour_learn(stack, &sender, link, DP_HINT_REQUEST);
	send(stack, link, ARP_ANSWER, arp + 24, arp + 8, arp + 14);
	return TP_C_FRAMES_ACCEPTED;
}

static void ask(struct dp_stack *stack, const uint8_t sender[4], const uint8_t target[4])
{
	static const uint8_t unknown[6];
	const struct dp_link everyone = {.mac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, .tci = DP_UNTAGGED};
	send(stack, &everyone, ARP_REQUEST, sender, unknown, target);
}

void dp_arp_ask(struct dp_stack *stack, uint32_t local, const struct tp_addr *whom)
{
	ask(stack, stack->local[local].addr.byte + 12, whom->byte + 12);
}

/* RFC 5227 section 2.1.1: from nobody, so that nobody learns anything. */
void dp_arp_probe(struct dp_stack *stack, uint32_t local)
{
	static const uint8_t nobody[4];
	ask(stack, nobody, stack->local[local].addr.byte + 12);
}

/* Section 2.3: everybody who knows the address updates its entry. */
void dp_arp_announce(struct dp_stack *stack, uint32_t local)
{
	ask(stack, stack->local[local].addr.byte + 12, stack->local[local].addr.byte + 12);
}
