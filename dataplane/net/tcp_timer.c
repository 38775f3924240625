/*
 * What happens when nothing happens: retransmission, probes of a shut window, delayed acknowledgements, idle ends. One rx core.
 * Source: RFC 6298 section 5, RFC 9293 sections 3.8.3, 3.8.6.1, RFC 5681 section 3.1.
 *
 * Each connection has one node in the wheel, set to the earliest of its deadlines. A deadline that moves away leaves the node where
 * it is: when it fires too early, it is set again. So an ACK that restarts the retransmission timer costs a store.
 */
#include "tcp.h"

void dp_conn_arm(struct dp_conn *conn)
{
	uint64_t due = conn->idle_at;
	if (conn->rto_at && conn->rto_at < due)
		due = conn->rto_at;
	if (conn->ack_at && conn->ack_at < due)
		due = conn->ack_at;
	if (!conn->timer.link || due < conn->timer.due_ns)
		dp_wheel_set(&conn->tcp->stack->wheel, &conn->timer, due);
}

/* Ends it at once; the peer hears a RST. */
static void give_up(struct dp_conn *conn)
{
	dp_conn_rst_send(conn);
	dp_conn_end(conn);
}

/* RFC 9293 section 3.8.6.1: one byte past the window, or what little fits, until the peer says that there is room. */
static void probe(struct dp_conn *conn)
{
	uint32_t data = conn->snd_end - conn->snd_una;
	uint32_t bytes = dp_min32(dp_min32(data, conn->mss), conn->snd_wnd ? conn->snd_wnd : 1);
	if (dp_conn_transmit(conn, conn->snd_una, bytes, DP_ACK | (bytes == data ? DP_PSH : 0)) &&
	    dp_seq_lt(conn->snd_max, conn->snd_una + bytes))
		conn->snd_max = conn->snd_una + bytes; /* so that its ACK is acceptable */
	if (conn->retries < UINT8_MAX)
		conn->retries++;
	conn->rto_at = dp_tcp_now(conn->tcp) + dp_conn_rto(conn);
}

static void retransmit(struct dp_conn *conn)
{
	if (conn->flags & DP_C_PERSIST) {
		probe(conn);
		return;
	}
	if (conn->retries >= DP_RETRIES_MAX) {
		give_up(conn);
		return;
	}
	uint32_t flight = conn->snd_max - conn->snd_una, half = flight / 2, least = 2U * conn->mss;
	if (!conn->retries) /* RFC 5681 section 3.1: only the first timeout of a segment halves */
		conn->ssthresh = half > least ? half : least;
	conn->retries++;
	conn->cwnd = conn->mss;
	conn->cwnd_bytes = 0;
	conn->dup_acks = 0;
	conn->recover = conn->snd_max;
	conn->flags &= ~(uint32_t)(DP_C_RECOVERY | DP_C_RTT);
	conn->flags |= DP_C_OWN_RECOVER;
	dp_sack_clear(conn); /* RFC 2018 section 8: the peer may have taken its word back */

	/* The first segment again, whatever the window is now: if it is shut, this is the probe. */
	uint32_t resent = dp_conn_resend(conn, conn->snd_una, conn->snd_max, conn->snd_wnd ? conn->snd_wnd : 1);
	conn->snd_nxt = conn->snd_una + (conn->snd_wnd ? resent : 0); /* a byte into a shut window was mostly dropped */
	conn->rto_at = dp_tcp_now(conn->tcp) + dp_conn_rto(conn);
}

/* No byte moved either way for long. Keep-alive probes do not count: a peer that only says that it is there is idle. */
static void idle(struct dp_conn *conn)
{
	bool owed = dp_seq_lt(conn->snd_una, conn->snd_end);
	if (conn->flags & DP_C_FIN_QUEUED && !owed && conn->state == DP_TCP_FIN_WAIT_2)
		dp_conn_end(conn); /* the peer never closes: forget it; what still comes is refused */
	else if (conn->flags & DP_C_FIN_QUEUED || owed)
		give_up(conn);
	else
		dp_conn_retire(conn);
}

void dp_conn_timer(struct dp_conn *conn)
{
	uint64_t now = dp_tcp_now(conn->tcp);
	if (conn->ack_at && conn->ack_at <= now) {
		conn->ack_at = 0;
		dp_conn_ack_send(conn);
	}
	if (conn->rto_at && conn->rto_at <= now) {
		conn->rto_at = 0;
		retransmit(conn);
	}
	if (conn->state != DP_TCP_CLOSED && conn->idle_at <= now)
		idle(conn);
	if (conn->state != DP_TCP_CLOSED)
		dp_conn_arm(conn);
}
