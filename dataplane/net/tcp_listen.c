/*
 * Segments without a connection: SYN to the port that we listen on, the ACK that completes a handshake, strays. One rx core.
 * Source: RFC 9293 sections 3.10.7.2 (LISTEN) and 3.10.7.4 (SYN-RECEIVED), RFC 7323 (options), RFC 4987 (floods), RFC 6298 (timer).
 *
 * A half-open connection costs one small record; the SYN-ACK is repeated after 1, 2, 4 and 8 seconds and the record reaped 16
 * seconds later. When no record is free, cookies (tcp_secret.c) take over.
 *
 * Answering a SYN costs much more than reading one. In a flood the answers would take the time of the connections that are there: the
 * port's ring overflows, and their segments are lost with the rest. So when frames come faster than the loop gets round (a round was
 * crowded), for a tenth of a second at most 50,000 SYNs a second are answered by cookies, one a round. The flood is then read at the
 * cost of reading, and those that are there keep their time.
 */
#include "tcp.h"

enum { MSS_BYTES = 4, SACK_BYTES = 4, SCALE_BYTES = 4 };
#define ANSWER_GAP_NS (100 * DP_MS)

/* The largest payload of a segment without options that fits our mtu: RFC 6691. */
static uint16_t mss_ours(const struct dp_stack *stack, uint8_t family)
{
	uint32_t payload = stack->options.mtu - DP_TCP_BYTES - (family == 4 ? DP_IP4_BYTES : DP_IP6_BYTES);
	return (uint16_t)payload;
}

static void syn_ack(struct dp_stack *stack, const struct dp_mini *half)
{
	struct dp_tcp_reply reply = {
		.link = &half->link,
		.peer = &half->peer,
		.local = half->local,
		.seq = half->iss,
		.ack = half->rcv_nxt,
		.local_port = stack->options.http_port,
		.peer_port = half->peer_port,
		.window = DP_WINDOW_MAX,
		.flags = DP_SYN | DP_ACK,
	};
	uint8_t *option = reply.options;
	dp_put32(option, 0x02040000U | mss_ours(stack, half->peer.family));
	option += MSS_BYTES;
	if (half->sack) {
		dp_put32(option, 0x01010402);
		option += SACK_BYTES;
	}
	if (half->timestamps)
		option = dp_tcp_put_timestamps(option, dp_tcp_stamp(stack, half->ts_offset), half->ts_recent);
	if (half->scaling) {
		dp_put32(option, 0x01030300U | DP_RCV_SHIFT);
		option += SCALE_BYTES;
	}
	reply.options_bytes = (uint8_t)(option - reply.options);
	dp_tcp_reply(stack, &reply);
}

static enum tp_counter syn(struct dp_stack *stack, const struct dp_segment *segment, uint32_t hash, const uint32_t *least)
{
	struct dp_tcp *tcp = stack->tcp;
	const struct dp_packet *packet = segment->packet;
	if (stack->draining) {
		TP_COUNT(tcp->counters, CONNECTIONS_REFUSED);
		dp_tcp_refuse(stack, segment);
		return TP_C_FRAMES_UNKNOWN_PORT;
	}
	if (!dp_shed_place(tcp)) {
		TP_COUNT(tcp->counters, CONNECTIONS_REFUSED);
		return TP_C_FRAMES_TCP_NO_MEMORY; /* silence: the client tries again */
	}
	struct dp_mini *half = dp_half_take(tcp, &packet->peer, segment->from_port, packet->local, hash);
	if (!half) {
		if (stack->now_ns < stack->crowded_until_ns && stack->now_ns - tcp->cookie_ns < DP_COOKIE_GAP_NS)
			return TP_C_FRAMES_SYN_SHED; /* silence: an honest client tries again */
		struct dp_mini cookie = {.peer = packet->peer,
					 .peer_port = segment->from_port,
					 .local = (uint16_t)packet->local,
					 .link = packet->link,
					 .rcv_nxt = segment->seq + 1};
		dp_cookie_make(stack, segment, &cookie);
		syn_ack(stack, &cookie);
		return TP_C_FRAMES_ACCEPTED;
	}
	half->link = packet->link;
	half->iss = dp_tcp_isn(stack, &packet->peer, segment->from_port, packet->local, &half->ts_offset);
	if (least && dp_seq_le(half->iss, *least))
		half->iss = *least + DP_SEND_MAX;
	half->rcv_nxt = segment->seq + 1;
	half->mss = segment->mss ? segment->mss : packet->peer.family == 4 ? 536 : 1220; /* section 3.7.1 */
	half->timestamps = segment->timestamps;
	half->ts_recent = segment->ts_value;
	half->sack = segment->sack;
	half->scaling = segment->scaling;
	half->shift = segment->shift;
	half->sent_ns = stack->now_ns;
	syn_ack(stack, half);
	dp_wheel_set(&stack->wheel, &half->timer, stack->now_ns + DP_SECOND);
	return TP_C_FRAMES_ACCEPTED;
}

void dp_half_timer(struct dp_stack *stack, struct dp_mini *half)
{
	if (half->retries == DP_SYN_ACK_RETRIES) {
		dp_mini_give(stack->tcp, half);
		return;
	}
	half->retries++;
	TP_COUNT(dp_counters(stack), TCP_RETRANSMITS);
	syn_ack(stack, half);
	dp_wheel_set(&stack->wheel, &half->timer, stack->now_ns + (DP_SECOND << half->retries));
}

/* The handshake is complete: make the connection, tell the app, and look at what came along with the ACK. */
static enum tp_counter establish(struct dp_stack *stack, const struct dp_mini *half, struct dp_segment *segment, uint32_t hash)
{
	struct dp_tcp *tcp = stack->tcp;
	struct dp_conn *conn = dp_conn_take(tcp, &half->peer, half->peer_port, half->local, hash);
	if (!conn) {
		TP_COUNT(tcp->counters, CONNECTIONS_REFUSED);
		return TP_C_FRAMES_TCP_NO_MEMORY;
	}
	uint32_t mss = dp_min32(half->mss, mss_ours(stack, half->peer.family));
	conn->peer_mss = (uint16_t)(mss < DP_MSS_MIN ? DP_MSS_MIN : mss);
	conn->mss = (uint16_t)(conn->peer_mss - (half->timestamps ? 12 : 0));
	conn->link = half->link;
	conn->pseudo = dp_ip_pseudo(dp_conn_local(conn), &half->peer, 0, 0);
	conn->snd_una = conn->snd_nxt = conn->snd_max = conn->snd_end = conn->high_rxt = half->iss + 1;
	conn->rcv_nxt = conn->rcv_read = conn->rcv_acked = half->rcv_nxt;
	conn->rcv_adv = half->rcv_nxt + DP_WINDOW_MAX;
	conn->snd_shift = half->scaling ? half->shift : 0;
	conn->snd_wl1 = segment->seq - 1; /* so that this ACK's window is taken */
	conn->snd_wl2 = segment->ack;
	conn->ts_recent = half->ts_recent;
	conn->ts_offset = half->ts_offset;
	conn->flags |=
		(half->timestamps ? DP_C_TIMESTAMPS : 0U) | (half->sack ? DP_C_SACK : 0U) | (half->scaling ? DP_C_SCALED : 0U);
	conn->idle_at = stack->now_ns + DP_IDLE_NS;
	conn->heard_ns = conn->sent_ns = conn->opened_ns = stack->now_ns;
	conn->first_in = conn->rcv_nxt;
	conn->first_out = conn->snd_una;
	dp_shed_place(tcp);
	dp_conn_congestion_init(conn, half->retries > 0);
	if (half->sent_ns && !half->retries)
		dp_conn_rtt(conn, stack->now_ns - half->sent_ns);
	if (half->kind == DP_MINI_HALF) {
		struct dp_mini *done = dp_mini_find(tcp, &half->peer, half->peer_port, half->local, hash);
		dp_mini_give(tcp, done); /* `half` from here on is only a free record */
	}
	dp_conn_arm(conn);
	if (!dp_stream_opened(&conn->stream) && conn->state != DP_TCP_CLOSED) {
		conn->flags |= DP_C_APP_GONE;
		TP_COUNT(tcp->counters, CONNECTIONS_REFUSED);
		dp_conn_rst_send(conn);
		dp_conn_end(conn);
		return TP_C_FRAMES_TCP_NO_MEMORY;
	}
	return conn->state == DP_TCP_CLOSED ? TP_C_FRAMES_ACCEPTED : dp_conn_segment(conn, segment);
}

enum tp_counter dp_tcp_listen(struct dp_stack *stack, struct dp_segment *segment, uint32_t hash, const uint32_t *least)
{
	if (segment->flags & DP_RST)
		return TP_C_FRAMES_BAD_TCP;
	if (segment->flags & DP_ACK) {
		const struct dp_packet *packet = segment->packet;
		struct dp_mini cookie = {.peer = packet->peer,
					 .peer_port = segment->from_port,
					 .local = (uint16_t)packet->local,
					 .link = packet->link,
					 .iss = segment->ack - 1,
					 .rcv_nxt = segment->seq};
		if (segment->flags & DP_SYN || stack->draining || !dp_cookie_check(stack, segment, &cookie)) {
			dp_tcp_refuse(stack, segment);
			return TP_C_FRAMES_BAD_TCP;
		}
		return establish(stack, &cookie, segment, hash);
	}
	return segment->flags & DP_SYN ? syn(stack, segment, hash, least) : TP_C_FRAMES_BAD_TCP;
}

/* An ACK that says where the handshake stands, to what does not fit it. At most one each 100 ms. */
static void half_challenge(struct dp_stack *stack, struct dp_mini *half)
{
	if (half->answered_ns && stack->now_ns - half->answered_ns < ANSWER_GAP_NS)
		return;
	half->answered_ns = stack->now_ns;
	struct dp_tcp_reply reply = {
		.link = &half->link,
		.peer = &half->peer,
		.local = half->local,
		.seq = half->iss + 1,
		.ack = half->rcv_nxt,
		.local_port = stack->options.http_port,
		.peer_port = half->peer_port,
		.window = half->scaling ? DP_WINDOW_MAX >> DP_RCV_SHIFT : DP_WINDOW_MAX,
		.flags = DP_ACK,
	};
	if (half->timestamps) {
		dp_tcp_put_timestamps(reply.options, dp_tcp_stamp(stack, half->ts_offset), half->ts_recent);
		reply.options_bytes = 12;
	}
	dp_tcp_reply(stack, &reply);
}

enum tp_counter dp_half_segment(struct dp_stack *stack, struct dp_mini *half, struct dp_segment *segment)
{
	if (segment->flags & DP_RST) {
		if (segment->seq == half->rcv_nxt) {
			dp_mini_give(stack->tcp, half);
			return TP_C_FRAMES_ACCEPTED;
		}
		if (segment->seq - half->rcv_nxt < DP_WINDOW_MAX)
			half_challenge(stack, half);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (segment->flags == DP_SYN && segment->seq + 1 == half->rcv_nxt) {
		/* The SYN again: the SYN-ACK was lost, or is late. */
		if (half->answered_ns && stack->now_ns - half->answered_ns < ANSWER_GAP_NS)
			return TP_C_FRAMES_ACCEPTED;
		half->answered_ns = stack->now_ns;
		half->link = segment->packet->link; /* if the first came by a way that does not lead back */
		syn_ack(stack, half);
		return TP_C_FRAMES_ACCEPTED;
	}
	if (segment->flags & DP_SYN) {
		half_challenge(stack, half);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (!(segment->flags & DP_ACK))
		return TP_C_FRAMES_BAD_TCP;
	if (half->timestamps && !segment->timestamps)
		return TP_C_FRAMES_BAD_TCP;
	if (half->timestamps && dp_seq_lt(segment->ts_value, half->ts_recent)) {
		half_challenge(stack, half);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (segment->seq - half->rcv_nxt >= DP_WINDOW_MAX) {
		half_challenge(stack, half);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (segment->ack != half->iss + 1) {
		dp_tcp_refuse(stack, segment);
		return TP_C_FRAMES_BAD_TCP;
	}
	return establish(stack, half, segment, half->hash);
}
