/*
 * TIME_WAIT: a small record of a connection that we closed first, so that the peer's last FIN finds an answer and old segments do
 * not meet a new connection. Evicted connections (tcp_shed.c) get one before the peer's FIN. One rx core. Source: RFC 9293 sections 3.6.1 and 3.10.7.4, RFC 6191 (reuse), RFC 1337 (RST ignored).
 */
#include "tcp.h"

#define ANSWER_GAP_NS (50 * DP_MS)

void dp_conn_time_wait(struct dp_conn *conn)
{
	struct dp_tcp *tcp = conn->tcp;
	dp_conn_ack_send(conn);
	struct dp_mini *wait = dp_wait_take(tcp, &conn->stream.peer.addr, conn->stream.peer.port, conn->local, conn->hash);
	wait->link = conn->link;
	wait->iss = conn->snd_max;
	wait->rcv_nxt = conn->rcv_nxt;
	wait->timestamps = conn->flags & DP_C_TIMESTAMPS;
	wait->ts_recent = conn->ts_recent;
	wait->ts_offset = conn->ts_offset;
	wait->scaling = conn->flags & DP_C_SCALED;
	dp_conn_end(conn);
}

static void answer(struct dp_stack *stack, struct dp_mini *wait)
{
	if (wait->answered_ns && stack->now_ns - wait->answered_ns < ANSWER_GAP_NS)
		return;
	wait->answered_ns = stack->now_ns;
	struct dp_tcp_reply reply = {
		.link = &wait->link,
		.peer = &wait->peer,
		.local = wait->local,
		.seq = wait->iss,
		.ack = wait->rcv_nxt,
		.local_port = stack->options.http_port,
		.peer_port = wait->peer_port,
		.window = wait->scaling ? DP_WINDOW_MAX >> DP_RCV_SHIFT : DP_WINDOW_MAX,
		.flags = DP_ACK,
	};
	if (wait->timestamps) {
		dp_tcp_put_timestamps(reply.options, dp_tcp_stamp(stack, wait->ts_offset), wait->ts_recent);
		reply.options_bytes = 12;
	}
	dp_tcp_reply(stack, &reply);
}

/* RFC 6191 section 2: a SYN of a later incarnation, by its timestamp or else by its number. */
static bool later(const struct dp_mini *wait, const struct dp_segment *syn)
{
	if (wait->timestamps && syn->timestamps && syn->ts_value != wait->ts_recent)
		return dp_seq_lt(wait->ts_recent, syn->ts_value);
	return dp_seq_lt(wait->rcv_nxt, syn->seq);
}

/* FIN_WAIT_2 of a connection that was evicted: its FIN ends it in the usual way, bytes find nobody. */
static enum tp_counter half_closed(struct dp_stack *stack, struct dp_mini *wait, struct dp_segment *segment)
{
	if (segment->seq - wait->rcv_nxt >= DP_WINDOW_MAX) {
		answer(stack, wait);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (segment->bytes) {
		dp_tcp_refuse(stack, segment); /* a request that crossed our FIN: the client knows at once that nobody read it */
		dp_mini_give(stack->tcp, wait);
		return TP_C_FRAMES_BAD_TCP;
	}
	if (segment->flags & DP_FIN && segment->seq == wait->rcv_nxt) {
		wait->rcv_nxt++;
		wait->fin_missing = false;
		dp_wait_refresh(stack->tcp, wait);
		answer(stack, wait);
	}
	return TP_C_FRAMES_ACCEPTED;
}

enum tp_counter dp_wait_segment(struct dp_stack *stack, struct dp_mini *wait, struct dp_segment *segment, uint32_t hash)
{
	if (segment->flags & DP_RST) {
		if (!wait->fin_missing || segment->seq != wait->rcv_nxt)
			return TP_C_FRAMES_BAD_TCP;
		dp_mini_give(stack->tcp, wait);
		return TP_C_FRAMES_ACCEPTED;
	}
	if (wait->fin_missing && segment->flags & DP_ACK && !(segment->flags & DP_SYN))
		return half_closed(stack, wait, segment);
	if (segment->flags == DP_SYN && later(wait, segment)) {
		uint32_t least = wait->iss;
		dp_mini_give(stack->tcp, wait);
		return dp_tcp_listen(stack, segment, hash, &least);
	}
	bool fin_again = segment->flags & DP_FIN && segment->seq + segment->bytes + 1 == wait->rcv_nxt;
	if (fin_again)
		dp_wait_refresh(stack->tcp, wait); /* restart the 2 MSL: our ACK was lost */
	bool plain = segment->flags == DP_ACK && !segment->bytes && segment->seq == wait->rcv_nxt;
	if (!plain)
		answer(stack, wait);
	return plain || fin_again ? TP_C_FRAMES_ACCEPTED : TP_C_FRAMES_BAD_TCP;
}
