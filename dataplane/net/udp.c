/*
 * UDP for the beacon port. One rx core. Source: RFC 768, RFC 8200 section 8.1 (no zero checksum over IPv6).
 *
 *   0           2           4        6          8
 *   │ from port │ to port   │ length │ checksum │ payload
 */
#include "net.h"

static bool answer_try(const struct dp_datagram_path *path, const void *bytes, size_t count)
{
	struct dp_stack *stack = path->transport;
	struct dp_link link;
	if (!path->peer.port || count > UINT16_MAX - DP_UDP_BYTES || !dp_route(stack, &path->peer.addr, &link))
		return false;
	size_t l4_bytes = DP_UDP_BYTES + count;
	uint8_t *udp = dp_ip_open(stack, &link, &path->local.addr, &path->peer.addr, DP_PROTOCOL_UDP, DP_TTL, l4_bytes);
	if (!udp)
		return false;
	dp_put16(udp, path->local.port);
	dp_put16(udp + 2, path->peer.port);
	dp_put16(udp + 4, (uint16_t)l4_bytes);
	dp_put16(udp + 6, 0);
	memcpy(udp + DP_UDP_BYTES, bytes, count);
	dp_put_l4_sum(stack, udp + 6, udp, l4_bytes, dp_ip_pseudo(&path->local.addr, &path->peer.addr, DP_PROTOCOL_UDP, l4_bytes));
	if (!dp_get16(udp + 6))
		dp_put16(udp + 6, 0xffff); /* zero would say "no checksum" */
	dp_eth_send(stack);
	return true;
}

/* dp_datagram_path.send: the way is looked up now, since the frame that asked is long gone. Best effort: who misses it asks again. */
static void answer(const struct dp_datagram_path *path, const void *bytes, size_t count)
{
	struct dp_stack *stack = path->transport;

	if (!answer_try(path, bytes, count))
		TP_COUNT(dp_counters(stack), BATCH_ANSWERS_LOST);
}

enum tp_counter dp_udp_input(struct dp_stack *stack, const struct dp_packet *packet)
{
	if (packet->l4_bytes < DP_UDP_BYTES)
		return TP_C_FRAMES_BAD_UDP;
	uint32_t bytes = dp_get16(packet->l4 + 4);
	if (bytes < DP_UDP_BYTES || bytes > packet->l4_bytes)
		return TP_C_FRAMES_BAD_UDP;
	if (dp_get16(packet->l4 + 6)) {
		uint64_t pseudo = dp_pseudo_add(packet->pseudo, DP_PROTOCOL_UDP, bytes);
		if (!(stack->checked & DP_FRAME_L4_SUM_GOOD) && dp_sum_fold(dp_sum(packet->l4, bytes, pseudo)) != 0xffff)
			return TP_C_FRAMES_BAD_L4_CHECKSUM;
	} else if (packet->peer.family == 6) {
		return TP_C_FRAMES_BAD_L4_CHECKSUM;
	}
	if (!stack->options.udp_port || dp_get16(packet->l4 + 2) != stack->options.udp_port) {
		if (!stack->options.pass)
			dp_icmp_unreachable(stack, packet);
		return TP_C_FRAMES_UNKNOWN_PORT;
	}
	dp_return_path_note(stack, &packet->peer, &packet->link);
	struct dp_datagram_path path;
	memset(&path, 0, sizeof(path)); /* it is copied and kept: no stray stack bytes in the padding */
	path.send = answer;
	path.transport = stack;
	path.peer.addr = packet->peer;
	path.peer.port = dp_get16(packet->l4);
	path.local.addr = stack->local[packet->local].addr;
	path.local.port = stack->options.udp_port;
	path.ingest = stack->options.ingest;
	dp_datagram_input(stack->options.beacon, &path, packet->l4 + DP_UDP_BYTES, bytes - DP_UDP_BYTES);
	return TP_C_FRAMES_ACCEPTED;
}
