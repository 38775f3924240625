/*
 * ICMP and ICMPv6: echo answered, "port unreachable" sent, "packet too big" obeyed; all with a limit, so that nobody makes us a
 * source of noise. One rx core. Source: RFC 792, RFC 4443, RFC 1191 and RFC 8201 (path MTU), RFC 5927 (what not to believe).
 *
 *   0     1     2          4          8
 *   │type │code │ checksum │ rest     │ payload, or the quoted packet
 */
#include "net.h"
#include "tcp.h"

enum {
	ICMP_BYTES = 8,
	ICMP4_ECHO_ANSWER = 0,
	ICMP4_UNREACHABLE = 3,
	ICMP4_ECHO = 8,
	ICMP4_CODE_TOO_BIG = 4,
	ICMP4_CODE_PORT = 3,
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	ICMP6_ECHO = 128,
	ICMP6_ECHO_ANSWER = 129,
	ICMP6_MLD_QUERY = 130,
	ICMP6_ND_FIRST = 133,
	ICMP6_ND_LAST = 137,
	ICMP6_CODE_PORT = 4,
	IP6_MTU_MIN = 1280,
	IP4_MTU_MIN = 552, /* RFC 1191 allows less; a forged tiny value must not make us send crumbs */
};

/* 1,000 echoes and 100 errors a second, bursts of 100. */
#define ECHO_COST_NS   1000000ULL
#define ECHO_BURST_NS  100000000ULL
#define ERROR_COST_NS  10000000ULL
#define ERROR_BURST_NS 1000000000ULL

static void send(struct dp_stack *stack, const struct dp_packet *packet, uint8_t type, uint8_t code, const uint8_t *rest,
		 const uint8_t *payload, size_t payload_bytes)
{
	const struct tp_addr *from = &stack->local[packet->local].addr;
	uint8_t protocol = from->family == 4 ? DP_PROTOCOL_ICMP : DP_PROTOCOL_ICMP6;
	size_t bytes = ICMP_BYTES + payload_bytes;
	uint8_t *icmp = dp_ip_open(stack, &packet->link, from, &packet->peer, protocol, DP_TTL, bytes);
	if (!icmp)
		return;
	icmp[0] = type;
	icmp[1] = code;
	dp_put16(icmp + 2, 0);
	memcpy(icmp + 4, rest, 4);
	memcpy(icmp + 8, payload, payload_bytes);
	uint64_t pseudo = from->family == 4 ? 0 : dp_ip_pseudo(from, &packet->peer, protocol, bytes);
	dp_put_sum(icmp + 2, dp_sum(icmp, bytes, pseudo));
	dp_eth_send(stack);
}

static enum tp_counter echo(struct dp_stack *stack, const struct dp_packet *packet, uint8_t answer)
{
	if (packet->l4[1] != 0 || !packet->to_our_addr)
		return TP_C_FRAMES_BAD_ICMP;
	if (!dp_limit_take(&stack->echo, stack->now_ns, ECHO_COST_NS, ECHO_BURST_NS))
		return TP_C_FRAMES_BAD_ICMP;
	send(stack, packet, answer, 0, packet->l4 + 4, packet->l4 + ICMP_BYTES, packet->l4_bytes - ICMP_BYTES);
	return TP_C_FRAMES_ACCEPTED;
}

/*
 * The quote inside "too big" must be of a segment that we sent and that is still unacknowledged: addresses, ports and sequence
 * number (RFC 5927 section 4.1), else a stranger could shrink any connection.
 */
static enum tp_counter too_big4(struct dp_stack *stack, const struct dp_packet *packet)
{
	const uint8_t *quote = packet->l4 + ICMP_BYTES;
	uint32_t bytes = packet->l4_bytes - ICMP_BYTES;
	if (bytes < DP_IP4_BYTES)
		return TP_C_FRAMES_BAD_ICMP;
	uint32_t header_bytes = (uint32_t)(quote[0] & 15) * 4;
	if (quote[0] >> 4 != 4 || header_bytes < DP_IP4_BYTES || bytes < header_bytes + 8 || quote[9] != DP_PROTOCOL_TCP)
		return TP_C_FRAMES_BAD_ICMP;
	struct tp_addr ours = dp_addr_from4(quote + 12), peer = dp_addr_from4(quote + 16);
	uint32_t mtu = dp_get16(packet->l4 + 6);
	return dp_tcp_too_big(stack, &ours, &peer, quote + header_bytes, mtu < IP4_MTU_MIN ? IP4_MTU_MIN : mtu)
		       ? TP_C_FRAMES_ACCEPTED
		       : TP_C_FRAMES_BAD_ICMP;
}

static enum tp_counter too_big6(struct dp_stack *stack, const struct dp_packet *packet)
{
	const uint8_t *quote = packet->l4 + ICMP_BYTES;
	uint32_t bytes = packet->l4_bytes - ICMP_BYTES;
	if (!packet->to_our_addr || bytes < DP_IP6_BYTES + 8 || quote[0] >> 4 != 6 || quote[6] != DP_PROTOCOL_TCP)
		return TP_C_FRAMES_BAD_ICMP;
	struct tp_addr ours = dp_addr_from6(quote + 8), peer = dp_addr_from6(quote + 24);
	uint32_t mtu = dp_get32(packet->l4 + 4);
	return dp_tcp_too_big(stack, &ours, &peer, quote + DP_IP6_BYTES, mtu < IP6_MTU_MIN ? IP6_MTU_MIN : mtu)
		       ? TP_C_FRAMES_ACCEPTED
		       : TP_C_FRAMES_BAD_ICMP;
}

enum tp_counter dp_icmp4_input(struct dp_stack *stack, const struct dp_packet *packet)
{
	if (packet->l4_bytes < ICMP_BYTES)
		return TP_C_FRAMES_BAD_ICMP;
	if (dp_sum_fold(dp_sum(packet->l4, packet->l4_bytes, 0)) != 0xffff)
		return TP_C_FRAMES_BAD_ICMP;
	if (packet->l4[0] == ICMP4_ECHO)
		return echo(stack, packet, ICMP4_ECHO_ANSWER);
	if (packet->l4[0] == ICMP4_UNREACHABLE && packet->l4[1] == ICMP4_CODE_TOO_BIG)
		return too_big4(stack, packet);
	return TP_C_FRAMES_BAD_ICMP; /* other errors are hints that TCP does without: RFC 5927 */
}

enum tp_counter dp_icmp6_input(struct dp_stack *stack, const struct dp_packet *packet)
{
	if (packet->l4_bytes < ICMP_BYTES)
		return TP_C_FRAMES_BAD_ICMP;
	uint64_t pseudo = dp_pseudo_add(packet->pseudo, DP_PROTOCOL_ICMP6, packet->l4_bytes);
	if (dp_sum_fold(dp_sum(packet->l4, packet->l4_bytes, pseudo)) != 0xffff)
		return TP_C_FRAMES_BAD_L4_CHECKSUM;
	uint8_t type = packet->l4[0];
	if (type >= ICMP6_ND_FIRST && type <= ICMP6_ND_LAST)
		return dp_nd_input(stack, packet);
	static const struct tp_addr none = {.family = 6};
	if (dp_addr_same(&packet->peer, &none) || dp_local_configured(stack, &packet->peer) >= 0)
		return TP_C_FRAMES_BAD_IP;
	if (type == ICMP6_MLD_QUERY)
		return dp_mld_query(stack, packet);
	if (type == ICMP6_ECHO)
		return echo(stack, packet, ICMP6_ECHO_ANSWER);
	if (type == ICMP6_TOO_BIG)
		return too_big6(stack, packet);
	return TP_C_FRAMES_BAD_ICMP;
}

void dp_icmp_unreachable(struct dp_stack *stack, const struct dp_packet *packet)
{
	static const uint8_t zero[4];
	if (!packet->to_our_addr || !dp_limit_take(&stack->unreachable, stack->now_ns, ERROR_COST_NS, ERROR_BURST_NS))
		return;
	if (packet->peer.family == 4) {
		/* RFC 792: the header and 8 bytes, enough to find the socket; more would only be echo for a forged source. */
		uint32_t header_bytes = (uint32_t)(packet->l4 - packet->ip);
		uint32_t bytes = header_bytes + (packet->l4_bytes < 8 ? packet->l4_bytes : 8);
		send(stack, packet, ICMP4_UNREACHABLE, ICMP4_CODE_PORT, zero, packet->ip, bytes);
		return;
	}
	/* RFC 4443 section 3.1: as much as fits the least MTU. */
	uint32_t room = IP6_MTU_MIN - DP_IP6_BYTES - ICMP_BYTES;
	send(stack, packet, ICMP6_UNREACHABLE, ICMP6_CODE_PORT, zero, packet->ip,
	     packet->ip_bytes < room ? packet->ip_bytes : room);
}
