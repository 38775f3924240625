/*
 * Segments out. One rx core. Source: RFC 9293 sections 3.8.6.2.1 (when to send), 3.8.6.1 (shut window), RFC 5681 section 4.1
 * (restart after idle), RFC 2018 (SACK blocks), RFC 7323 (timestamps). No Nagle: the flush once a burst does that work.
 *
 *   0         2       4     8     12      13     14      16         18       20
 *   │from port│to port│ seq │ ack │length │flags │window │ checksum │ urgent │ options │ payload
 */
#include "tcp.h"

#define CHALLENGE_GAP_NS (100 * DP_MS)
/* 1,000 resets a second, bursts of 100. */
#define RESET_COST_NS  1000000ULL
#define RESET_BURST_NS 100000000ULL

enum { OPTIONS_MAX = 40, TIMESTAMPS_BYTES = 12, SACK_BLOCK_BYTES = 8 };

uint8_t *dp_tcp_put_timestamps(uint8_t *to, uint32_t value, uint32_t echo)
{
	dp_put32(to, 0x0101080a);
	dp_put32(to + 4, value);
	dp_put32(to + 8, echo);
	return to + TIMESTAMPS_BYTES;
}

static void header_write(uint8_t *tcp, uint16_t local_port, uint16_t peer_port, uint32_t seq, uint32_t ack, uint8_t flags,
			 uint32_t window, uint32_t options_bytes)
{
	dp_put16(tcp, local_port);
	dp_put16(tcp + 2, peer_port);
	dp_put32(tcp + 4, seq);
	dp_put32(tcp + 8, ack);
	tcp[12] = (uint8_t)((DP_TCP_BYTES + options_bytes) << 2);
	tcp[13] = flags;
	dp_put16(tcp + 14, (uint16_t)window);
	dp_put32(tcp + 16, 0); /* checksum for now, urgent pointer */
}

void dp_tcp_reply(struct dp_stack *stack, const struct dp_tcp_reply *reply)
{
	const struct tp_addr *from = &stack->local[reply->local].addr;
	uint32_t bytes = DP_TCP_BYTES + reply->options_bytes;
	uint8_t *tcp = dp_ip_open(stack, reply->link, from, reply->peer, DP_PROTOCOL_TCP, DP_TTL, bytes);
	if (!tcp)
		return;
	header_write(tcp, reply->local_port, reply->peer_port, reply->seq, reply->ack, reply->flags, reply->window,
		     reply->options_bytes);
	memcpy(tcp + DP_TCP_BYTES, reply->options, reply->options_bytes);
	dp_put_l4_sum(stack, tcp + 16, tcp, bytes, dp_ip_pseudo(from, reply->peer, DP_PROTOCOL_TCP, bytes));
	dp_eth_send(stack);
}

void dp_tcp_refuse(struct dp_stack *stack, const struct dp_segment *segment)
{
	if (segment->flags & DP_RST || !segment->packet->to_our_addr)
		return;
	if (!dp_limit_take(&stack->reset, stack->now_ns, RESET_COST_NS, RESET_BURST_NS))
		return;
	struct dp_tcp_reply reply = {
		.link = &segment->packet->link,
		.peer = &segment->packet->peer,
		.local = segment->packet->local,
		.local_port = dp_get16(segment->packet->l4 + 2),
		.peer_port = segment->from_port,
	};
	if (segment->flags & DP_ACK) {
		reply.seq = segment->ack;
		reply.flags = DP_RST;
	} else {
		reply.ack = segment->seq + segment->bytes + (segment->flags & (DP_SYN | DP_FIN) ? 1 : 0);
		reply.flags = DP_RST | DP_ACK;
	}
	dp_tcp_reply(stack, &reply);
}

static uint8_t *sack_write(struct dp_conn *conn, uint8_t *option, uint32_t room)
{
	uint32_t blocks = conn->ranges;
	while (blocks && 4 + blocks * SACK_BLOCK_BYTES > room)
		blocks--;
	if (!blocks)
		return option;
	const struct dp_range *range = dp_conn_rings(conn)->range;
	dp_put32(option, 0x01010500 | (2 + blocks * SACK_BLOCK_BYTES));
	option += 4;
	for (uint32_t i = 0; i < blocks; i++, option += SACK_BLOCK_BYTES) {
		dp_put32(option, range[i].from);
		dp_put32(option + 4, range[i].to);
	}
	return option;
}

bool dp_conn_transmit(struct dp_conn *conn, uint32_t seq, uint32_t bytes, uint8_t flags)
{
	struct dp_stack *stack = conn->tcp->stack;
	uint8_t options[OPTIONS_MAX], *option = options;
	if (conn->flags & DP_C_TIMESTAMPS)
		option = dp_tcp_put_timestamps(option, dp_tcp_stamp(stack, conn->ts_offset), conn->ts_recent);
	if (!bytes && conn->ranges && conn->flags & DP_C_SACK && !(flags & DP_RST))
		option = sack_write(conn, option, (uint32_t)(options + OPTIONS_MAX - option));
	uint32_t options_bytes = (uint32_t)(option - options), l4_bytes = DP_TCP_BYTES + options_bytes + bytes;
	uint8_t *tcp =
		dp_ip_open(stack, &conn->link, dp_conn_local(conn), &conn->stream.peer.addr, DP_PROTOCOL_TCP, DP_TTL, l4_bytes);
	if (!tcp)
		return false;
	/* RFC 7323 section 2.3. What scaling rounds off was perhaps shown before and stays acceptable: rcv_adv never moves left. */
	uint32_t shift = conn->flags & DP_C_SCALED ? DP_RCV_SHIFT : 0;
	uint32_t window = (dp_conn_window_edge(conn) - conn->rcv_nxt) >> shift, shown = conn->rcv_nxt + (window << shift);
	if (dp_seq_lt(conn->rcv_adv, shown))
		conn->rcv_adv = shown;
	conn->rcv_acked = conn->rcv_nxt;
	conn->ack_pending = 0;
	conn->ack_at = 0;
	conn->flags &= ~(uint32_t)DP_C_ACK_NOW;
	header_write(tcp, stack->options.http_port, conn->stream.peer.port, seq, conn->rcv_nxt, flags, window, options_bytes);
	memcpy(tcp + DP_TCP_BYTES, options, options_bytes);
	if (bytes)
		dp_tx_read(conn, seq, tcp + DP_TCP_BYTES + options_bytes, bytes);
	dp_put_l4_sum(stack, tcp + 16, tcp, l4_bytes, dp_pseudo_add(conn->pseudo, DP_PROTOCOL_TCP, l4_bytes));
	dp_eth_send(stack);
	return true;
}

uint32_t dp_conn_resend(struct dp_conn *conn, uint32_t seq, uint32_t end, uint32_t most)
{
	uint32_t out = end - seq, data = dp_seq_lt(seq, conn->snd_end) ? conn->snd_end - seq : 0;
	uint32_t bytes = dp_min32(dp_min32(data, out), dp_min32(conn->mss, most));
	uint8_t fin = bytes == data && out > data ? DP_FIN : 0;
	TP_COUNT(conn->tcp->counters, TCP_RETRANSMITS);
	if (!dp_conn_transmit(conn, seq, bytes, DP_ACK | (bytes && bytes == data ? DP_PSH : 0) | fin))
		return 0;
	return bytes + (fin ? 1 : 0);
}

/*
 * Where the peer takes us to stand, as far as we know. A segment without data must lie at its rcv_nxt to be acceptable: what was
 * sent before the timer fired has mostly arrived, but the byte of a window probe mostly not.
 */
static uint32_t position(const struct dp_conn *conn)
{
	return conn->flags & DP_C_PERSIST ? conn->snd_nxt : conn->snd_max;
}

void dp_conn_ack_send(struct dp_conn *conn)
{
	dp_conn_transmit(conn, position(conn), 0, DP_ACK);
}

void dp_conn_challenge(struct dp_conn *conn)
{
	uint64_t now = dp_tcp_now(conn->tcp);
	if (conn->challenge_ns && now - conn->challenge_ns < CHALLENGE_GAP_NS)
		return;
	conn->challenge_ns = now;
	dp_conn_ack_send(conn);
}

void dp_conn_rst_send(struct dp_conn *conn)
{
	dp_conn_transmit(conn, position(conn), 0, DP_RST | DP_ACK);
}

/* What was sent, for the timers. `next` is the number after it. */
static void sent(struct dp_conn *conn, uint32_t next)
{
	uint64_t now = dp_tcp_now(conn->tcp);
	if (dp_seq_lt(conn->snd_nxt, conn->snd_max)) {
		TP_COUNT(conn->tcp->counters, TCP_RETRANSMITS);
		conn->flags &= ~(uint32_t)DP_C_RTT; /* Karn: RFC 6298 section 3 */
	} else if (!(conn->flags & DP_C_RTT)) {
		conn->flags |= DP_C_RTT;
		conn->rtt_seq = next;
		conn->rtt_ns = now;
	}
	conn->snd_nxt = next;
	if (dp_seq_lt(conn->snd_max, next))
		conn->snd_max = next;
	conn->sent_ns = now;
	if (!conn->rto_at)
		conn->rto_at = now + dp_conn_rto(conn);
	conn->flags &= ~(uint32_t)DP_C_PERSIST;
}

enum step { SENT, NOTHING, NO_FRAME };

/* One segment at snd_nxt, of at most `room` bytes and `most` before bytes that the peer holds. */
static enum step send_one(struct dp_conn *conn, uint32_t room, uint32_t most)
{
	uint32_t unsent = dp_seq_lt(conn->snd_nxt, conn->snd_end) ? conn->snd_end - conn->snd_nxt : 0;
	bool fin = conn->flags & DP_C_FIN_QUEUED && dp_seq_le(conn->snd_nxt, conn->snd_end);
	if (!unsent && !fin)
		return NOTHING;
	uint32_t wanted = dp_min32(unsent, most), bytes = dp_min32(dp_min32(wanted, conn->mss), room);
	/* Silly window avoidance: a full segment, all there is, or at least half of the largest window seen. */
	if (bytes < wanted && bytes < conn->mss && (!bytes || bytes < conn->max_wnd / 2))
		return NOTHING;
	bool last = bytes == unsent;
	uint8_t flags = DP_ACK | (last && bytes ? DP_PSH : 0) | (last && fin ? DP_FIN : 0);
	if (!dp_conn_transmit(conn, conn->snd_nxt, bytes, flags))
		return NO_FRAME;
	sent(conn, conn->snd_nxt + bytes + (flags & DP_FIN ? 1 : 0));
	return SENT;
}

/*
 * All data that the windows allow, and the FIN. After a timeout this is what goes again, except for what the peer has told since
 * that it holds (RFC 6675 section 5.1). While up to two duplicates are in, a segment more for each: RFC 3042; with SACK that comes
 * by itself, since what the peer holds is no more under way (RFC 6675 section 5, step 3).
 */
static bool send_new(struct dp_conn *conn)
{
	for (;;) {
		uint32_t held = 0, end = conn->snd_max, cwnd = conn->cwnd;
		if (conn->sacked)
			conn->snd_nxt = dp_sack_skip(conn, conn->snd_nxt, &held, &end);
		bool again = dp_seq_lt(conn->snd_nxt, conn->snd_max);
		if (!(conn->flags & DP_C_SACK) && conn->dup_acks < DP_DUP_ACKS && !again)
			cwnd += (uint32_t)conn->dup_acks * conn->mss;
		uint32_t flight = conn->snd_nxt - conn->snd_una;
		uint32_t room = dp_min32(conn->snd_wnd > flight ? conn->snd_wnd - flight : 0,
					 cwnd > flight - held ? cwnd - (flight - held) : 0);
		enum step step = send_one(conn, room, conn->sacked && again ? end - conn->snd_nxt : UINT32_MAX);
		if (step != SENT)
			return step == NOTHING;
	}
}

/* RFC 6675 section 5, steps (C.1) to (C.5), with NextSeg() of section 4. */
static bool send_recovery(struct dp_conn *conn)
{
	for (;;) {
		uint32_t pipe = dp_sack_pipe(conn);
		if (conn->cwnd < pipe + conn->mss)
			return true;
		struct dp_range hole;
		bool found = dp_sack_hole(conn, true, &hole);
		if (!found) {
			uint32_t flight = conn->snd_nxt - conn->snd_una;
			uint32_t room = conn->snd_wnd > flight ? conn->snd_wnd - flight : 0;
			enum step step = send_one(conn, dp_min32(room, conn->cwnd - pipe), UINT32_MAX);
			if (step == NO_FRAME)
				return false;
			if (step == SENT)
				continue;
			found = dp_sack_hole(conn, false, &hole);
		}
		if (!found) {
			/* Rule 4: the very end may be lost too, and nobody would tell. Once. */
			if (conn->flags & DP_C_RESCUED || !dp_seq_lt(conn->high_rxt, conn->recover))
				return true;
			uint32_t top = dp_seq_lt(conn->snd_end, conn->snd_max) ? conn->snd_end : conn->snd_max, held, end;
			uint32_t from = top - dp_min32(conn->mss, top - conn->snd_una);
			from = dp_sack_skip(conn, from, &held, &end);
			if (from == conn->snd_max || !dp_conn_resend(conn, from, conn->snd_max, conn->mss))
				return true;
			conn->flags |= DP_C_RESCUED;
			return true;
		}
		uint32_t resent = dp_conn_resend(conn, hole.from, hole.to, dp_min32(conn->mss, hole.to - hole.from));
		if (!resent)
			return false;
		conn->high_rxt = hole.from + resent;
		conn->flags &= ~(uint32_t)DP_C_RTT;
	}
}

bool dp_conn_output(struct dp_conn *conn)
{
	uint64_t now = dp_tcp_now(conn->tcp);
	bool nothing_out = conn->snd_una == conn->snd_max;
	if (nothing_out && conn->snd_end != conn->snd_nxt && now - conn->sent_ns > conn->rto_ns) {
		uint32_t restart = DP_INITIAL_SEGMENTS * conn->mss;
		conn->cwnd = dp_min32(conn->cwnd, restart);
	}
	bool done =
		(conn->flags & (DP_C_RECOVERY | DP_C_SACK)) == (DP_C_RECOVERY | DP_C_SACK) ? send_recovery(conn) : send_new(conn);
	if (done && !conn->rto_at && dp_seq_lt(conn->snd_nxt, conn->snd_end)) {
		conn->flags |= DP_C_PERSIST; /* nobody else will wake us if the peer's window update is lost */
		conn->rto_at = now + dp_conn_rto(conn);
	}
	if (conn->flags & DP_C_ACK_NOW)
		dp_conn_ack_send(conn);
	else if (conn->ack_pending && !conn->ack_at)
		conn->ack_at = now + DP_ACK_DELAY_NS;
	return done && !(conn->flags & DP_C_ACK_NOW);
}
