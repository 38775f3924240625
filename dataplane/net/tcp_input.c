/*
 * TCP segments in: header, checksum, options, who it is for; then the checks of a synchronised connection in the order of RFC 9293
 * section 3.10.7.4, hardened by RFC 5961. One rx core.
 *
 *   timestamps (PAWS) → sequence number → RST → SYN → ACK → bytes → FIN
 *
 * Only what passes them all moves the connection to another link (MAC, VLAN), so a neighbour that cannot see the sequence numbers
 * cannot redirect it.
 */
#include "tcp.h"

enum {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_SCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_SACK = 5,
	OPTION_TIMESTAMPS = 8,
	SHIFT_MAX = 14, /* RFC 7323 section 2.3 */
};

static void timestamps_read(struct dp_segment *segment, const uint8_t *option)
{
	segment->timestamps = true;
	segment->ts_value = dp_get32(option + 2);
	segment->ts_echo = dp_get32(option + 6);
}

/* False: an option runs over the header or has an impossible length (RFC 9293, MUST-7). */
static bool options_read(struct dp_segment *segment, const uint8_t *option, uint32_t left)
{
	/* What nearly every segment after the SYN looks like: NOP NOP timestamps. */
	if (left == 12 && dp_get32(option) == 0x0101080a) {
		timestamps_read(segment, option + 2);
		return true;
	}
	while (left) {
		if (option[0] == OPTION_END)
			return true;
		if (option[0] == OPTION_NOP) {
			option++;
			left--;
			continue;
		}
		if (left < 2 || option[1] < 2 || option[1] > left)
			return false;
		switch (option[0]) {
		case OPTION_MSS:
			if (option[1] == 4)
				segment->mss = dp_get16(option + 2);
			break;
		case OPTION_SCALE:
			if (option[1] == 3) {
				segment->scaling = true;
				segment->shift = option[2] > SHIFT_MAX ? SHIFT_MAX : option[2];
			}
			break;
		case OPTION_SACK_PERMITTED:
			if (option[1] == 2)
				segment->sack = true;
			break;
		case OPTION_TIMESTAMPS:
			if (option[1] == 10)
				timestamps_read(segment, option);
			break;
		case OPTION_SACK:
			segment->sack_blocks = option + 2;
			segment->sack_bytes = (uint8_t)(option[1] - 2);
			break;
		default:
			break;
		}
		left -= option[1];
		option += option[1];
	}
	return true;
}

enum tp_counter dp_tcp_input(struct dp_stack *stack, const struct dp_packet *packet)
{
	const uint8_t *tcp = packet->l4;
	if (packet->l4_bytes < DP_TCP_BYTES)
		return TP_C_FRAMES_BAD_TCP;
	uint32_t header_bytes = (uint32_t)(tcp[12] >> 4) * 4;
	if (header_bytes < DP_TCP_BYTES || header_bytes > packet->l4_bytes)
		return TP_C_FRAMES_BAD_TCP;
	if (!(stack->checked & DP_FRAME_L4_SUM_GOOD) &&
	    dp_sum_fold(dp_sum(tcp, packet->l4_bytes, dp_pseudo_add(packet->pseudo, DP_PROTOCOL_TCP, packet->l4_bytes))) != 0xffff)
		return TP_C_FRAMES_BAD_L4_CHECKSUM;
	struct dp_segment segment = {
		.seq = dp_get32(tcp + 4),
		.ack = dp_get32(tcp + 8),
		.bytes = packet->l4_bytes - header_bytes,
		.window = dp_get16(tcp + 14),
		.from_port = dp_get16(tcp),
		.flags = tcp[13] & (DP_FIN | DP_SYN | DP_RST | DP_PSH | DP_ACK),
		.data = tcp + header_bytes,
		.packet = packet,
	};
	uint8_t pair = segment.flags & (DP_SYN | DP_FIN | DP_RST);
	if (!segment.from_port || (pair & (pair - 1))) /* two of SYN, FIN, RST at once: only scanners send that */
		return TP_C_FRAMES_BAD_TCP;
	if (!stack->options.http_port || dp_get16(tcp + 2) != stack->options.http_port) {
		if (!stack->options.pass)
			dp_tcp_refuse(stack, &segment);
		return TP_C_FRAMES_UNKNOWN_PORT;
	}
	if (!options_read(&segment, tcp + DP_TCP_BYTES, header_bytes - DP_TCP_BYTES))
		return TP_C_FRAMES_BAD_TCP;
	uint32_t hash = dp_tcp_hash(stack, &packet->peer, segment.from_port, packet->local);
	struct dp_conn *conn = dp_conn_find(stack->tcp, &packet->peer, segment.from_port, packet->local, hash);
	if (conn)
		return dp_conn_segment(conn, &segment);
	struct dp_mini *mini = dp_mini_find(stack->tcp, &packet->peer, segment.from_port, packet->local, hash);
	if (!mini)
		return dp_tcp_listen(stack, &segment, hash, NULL);
	return mini->kind == DP_MINI_HALF ? dp_half_segment(stack, mini, &segment) : dp_wait_segment(stack, mini, &segment, hash);
}

/* The answer to what lies outside the window: bytes that we have already, or a probe, want to know where we stand. */
static void out_of_window(struct dp_conn *conn, const struct dp_segment *segment)
{
	bool probe = !segment->bytes && segment->seq == conn->rcv_nxt - 1; /* keep-alive: section 3.8.4 */
	if (segment->bytes || segment->flags & DP_FIN || probe) {
		conn->flags |= DP_C_ACK_NOW; /* once a burst */
		dp_conn_dirty(conn);
	} else {
		dp_conn_challenge(conn);
	}
}

static enum tp_counter reset(struct dp_conn *conn, const struct dp_segment *segment)
{
	/* RFC 5961 section 3.2: only the exact number resets; another one in the window might be a guess. */
	if (segment->seq == conn->rcv_nxt) {
		dp_conn_end(conn);
		return TP_C_FRAMES_ACCEPTED;
	}
	if (dp_seq_lt(conn->rcv_nxt, segment->seq) && dp_seq_lt(segment->seq, conn->rcv_adv))
		dp_conn_challenge(conn);
	return TP_C_FRAMES_BAD_TCP;
}

/* After our FIN is acknowledged. True: the connection is gone. */
static bool fin_acknowledged(struct dp_conn *conn)
{
	if (!(conn->flags & DP_C_FIN_QUEUED) || conn->snd_una != conn->snd_end + 1)
		return false;
	switch (conn->state) {
	case DP_TCP_FIN_WAIT_1:
		conn->state = DP_TCP_FIN_WAIT_2;
		return false;
	case DP_TCP_CLOSING:
		dp_conn_time_wait(conn);
		return true;
	case DP_TCP_LAST_ACK:
		dp_conn_end(conn);
		return true;
	default:
		return false;
	}
}

enum tp_counter dp_conn_segment(struct dp_conn *conn, struct dp_segment *segment)
{
	bool rst = segment->flags & DP_RST;
	if (conn->flags & DP_C_TIMESTAMPS && !rst) {
		if (!segment->timestamps) /* RFC 7323 section 3.2 */
			return TP_C_FRAMES_BAD_TCP;
		if (dp_seq_lt(segment->ts_value, conn->ts_recent)) { /* section 5.3, R1 */
			dp_conn_challenge(conn);
			return TP_C_FRAMES_BAD_TCP;
		}
	}
	if (rst)
		return reset(conn, segment);
	if (segment->flags & DP_SYN) { /* RFC 5961 section 4.2: whatever its number */
		dp_conn_challenge(conn);
		return TP_C_FRAMES_BAD_TCP;
	}
	/*
	 * Section 3.4 table 6, with two allowances. A segment at rcv_nxt passes a window of zero with its bytes cut off, so that its
	 * ACK counts (section 3.10.7.4). And a pure ACK may stand right at the edge: its sender has filled our window.
	 */
	uint32_t length = segment->bytes + (segment->flags & DP_FIN ? 1 : 0), end = segment->seq + length;
	bool begins_late, ends_early;
	if (length) {
		begins_late = segment->seq != conn->rcv_nxt && dp_seq_le(conn->rcv_adv, segment->seq);
		ends_early = dp_seq_le(end, conn->rcv_nxt);
	} else {
		begins_late = dp_seq_lt(conn->rcv_adv, segment->seq);
		ends_early = dp_seq_lt(segment->seq, conn->rcv_nxt);
	}
	if (begins_late || ends_early) {
		out_of_window(conn, segment);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (!(segment->flags & DP_ACK))
		return TP_C_FRAMES_BAD_TCP;
	if (conn->flags & DP_C_TIMESTAMPS && dp_seq_le(segment->seq, conn->rcv_acked)) /* RFC 7323 section 4.3 */
		conn->ts_recent = segment->ts_value;
	if (!dp_conn_ack(conn, segment))
		return TP_C_FRAMES_BAD_TCP;
	conn->link = segment->packet->link;
	if (fin_acknowledged(conn))
		return TP_C_FRAMES_ACCEPTED;
	if (!segment->bytes && !(segment->flags & DP_FIN))
		return TP_C_FRAMES_ACCEPTED;
	return dp_conn_data(conn, segment);
}

void dp_tcp_blocked(struct dp_stack *stack, const struct dp_packet *packet)
{
	if (packet->l4_bytes < DP_TCP_BYTES || dp_get16(packet->l4 + 2) != stack->options.http_port)
		return;
	uint16_t port = dp_get16(packet->l4);
	uint32_t hash = dp_tcp_hash(stack, &packet->peer, port, packet->local);
	struct dp_conn *conn = dp_conn_find(stack->tcp, &packet->peer, port, packet->local, hash);
	if (conn)
		dp_conn_end(conn);
	struct dp_mini *mini = dp_mini_find(stack->tcp, &packet->peer, port, packet->local, hash);
	if (mini)
		dp_mini_give(stack->tcp, mini);
	if (conn || packet->l4[13] & DP_SYN)
		TP_COUNT(dp_counters(stack), CONNECTIONS_BLOCKLISTED);
}

bool dp_tcp_too_big(struct dp_stack *stack, const struct tp_addr *ours, const struct tp_addr *peer, const uint8_t *quote,
		    uint32_t mtu)
{
	int local = dp_local_find(stack, ours);
	if (local < 0 || dp_get16(quote) != stack->options.http_port)
		return false;
	uint16_t port = dp_get16(quote + 2);
	uint32_t hash = dp_tcp_hash(stack, peer, port, (uint32_t)local), seq = dp_get32(quote + 4);
	struct dp_conn *conn = dp_conn_find(stack->tcp, peer, port, (uint32_t)local, hash);
	if (!conn || dp_seq_lt(seq, conn->snd_una) || dp_seq_le(conn->snd_max, seq))
		return false;
	uint32_t payload = mtu - DP_TCP_BYTES - (peer->family == 4 ? DP_IP4_BYTES : DP_IP6_BYTES);
	if (payload >= conn->peer_mss)
		return false; /* nothing that we sent was larger */
	conn->mss = (uint16_t)(conn->mss - (conn->peer_mss - payload));
	conn->peer_mss = (uint16_t)payload;
	conn->snd_nxt = conn->snd_una; /* again, in smaller pieces; not a sign of congestion: RFC 8201 section 5.4 */
	conn->flags &= ~(uint32_t)(DP_C_RTT | DP_C_RECOVERY);
	dp_conn_dirty(conn);
	return true;
}
