/*
 * Bytes in: straight from the frame to the app when nothing is queued before them, else into the receive ring. One rx core.
 * Source: RFC 9293 sections 3.10.7.4 and 3.8.6.2.2 (window), RFC 2018 (what is told about gaps), RFC 5681 section 4.2 (when).
 *
 *          taken by the app │ queued: acknowledged │ gap │ range │ gap │ range │
 *   ────────────────────────┼──────────────────────┼─────┴───────┴─────┴───────┼───────────
 *                       rcv_read                rcv_nxt                     rcv_adv = at most rcv_read + window_most()
 *
 * rcv_nxt moves only over bytes that the app took or the ring holds. When the pool has no chunk, bytes are dropped unacknowledged
 * and the peer sends them again: slower, never wrong.
 */
#include "tcp.h"

static uint32_t queue_end(const struct dp_conn *conn)
{
	return conn->rcv_nxt - (conn->flags & DP_C_FIN_TAKEN ? 1 : 0);
}

static uint32_t window_most(const struct dp_conn *conn)
{
	return conn->flags & DP_C_SCALED && dp_chunks_plenty(conn->tcp) ? DP_WINDOW_SCALED : DP_WINDOW_MAX;
}

uint32_t dp_conn_window_edge(const struct dp_conn *conn)
{
	uint32_t edge = conn->rcv_read + window_most(conn);
	uint32_t step = dp_min32(conn->peer_mss, DP_WINDOW_MAX / 2);
	/* Silly window avoidance: the edge moves by whole segments; a window once shown is never taken back. */
	return dp_seq_le(conn->rcv_adv + step, edge) ? edge : conn->rcv_adv;
}

static void read_up_to(struct dp_conn *conn, uint32_t to)
{
	uint32_t from = conn->rcv_read;
	conn->rcv_read = to;
	dp_rx_release(conn, from, to, to == queue_end(conn) && !conn->ranges);
}

void dp_conn_discard(struct dp_conn *conn)
{
	conn->ranges = 0;
	read_up_to(conn, queue_end(conn));
}

static void heard(struct dp_conn *conn)
{
	uint64_t now = dp_tcp_now(conn->tcp);
	conn->heard_ns = now;
	conn->flags |= DP_C_ANSWER_DUE | DP_C_SPOKE;
	conn->idle_at = now + DP_IDLE_NS;
}

/* Calls up with one piece. Returns how many bytes are done with. When that is less than asked, the app is paused (or gone). */
static uint32_t offer_piece(struct dp_conn *conn, const uint8_t *bytes, uint32_t count)
{
	heard(conn);
	size_t taken = dp_stream_input(&conn->stream, bytes, count);
	if (conn->state == DP_TCP_CLOSED || conn->flags & DP_C_DISCARD)
		return count;
	if (taken >= count)
		return count;
	conn->flags |= DP_C_PAUSED;
	return (uint32_t)taken;
}

void dp_conn_offer(struct dp_conn *conn)
{
	while (!(conn->flags & (DP_C_PAUSED | DP_C_DISCARD)) && conn->rcv_read != queue_end(conn)) {
		uint32_t run;
		const uint8_t *bytes = dp_rx_run(conn, conn->rcv_read, queue_end(conn) - conn->rcv_read, &run);
		uint32_t taken = offer_piece(conn, bytes, run);
		if (conn->state == DP_TCP_CLOSED)
			return;
		read_up_to(conn, conn->rcv_read + taken);
	}
	if (conn->flags & DP_C_DISCARD) {
		dp_conn_discard(conn);
		return;
	}
	/* The peer waits for the window when we last showed it nearly shut: RFC 9293 section 3.8.6.2.2. */
	uint32_t most = window_most(conn);
	if (dp_seq_le(conn->rcv_adv + dp_min32(2U * conn->peer_mss, DP_WINDOW_MAX / 2), conn->rcv_read + most) &&
	    conn->rcv_adv - conn->rcv_nxt < most / 2) {
		conn->flags |= DP_C_ACK_NOW;
		dp_conn_dirty(conn);
	}
	if (conn->flags & DP_C_FIN_TAKEN && !(conn->flags & DP_C_EOF_TOLD) && conn->rcv_read == queue_end(conn)) {
		conn->flags |= DP_C_EOF_TOLD;
		dp_stream_eof(&conn->stream);
	}
}

/* Bytes that begin at rcv_nxt. Returns how many were taken or stored. */
static uint32_t in_order(struct dp_conn *conn, const uint8_t *bytes, uint32_t count)
{
	uint32_t taken = 0;
	if (!(conn->flags & (DP_C_PAUSED | DP_C_DISCARD)) && conn->rcv_read == conn->rcv_nxt) {
		taken = offer_piece(conn, bytes, count);
		if (conn->state == DP_TCP_CLOSED)
			return count;
	}
	if (conn->flags & DP_C_DISCARD) {
		conn->rcv_nxt += count;
		dp_conn_discard(conn);
		return count;
	}
	conn->rcv_nxt += taken;
	if (taken)
		read_up_to(conn, conn->rcv_nxt);
	if (taken == count)
		return count;
	uint32_t stored = dp_rx_write(conn, conn->rcv_nxt, bytes + taken, count - taken);
	conn->rcv_nxt += stored;
	return taken + stored;
}

static void range_remove(struct dp_conn *conn, uint32_t which)
{
	struct dp_range *range = dp_conn_rings(conn)->range;
	conn->ranges--;
	memmove(range + which, range + which + 1, (conn->ranges - which) * sizeof(*range));
}

/* Moves rcv_nxt over the ranges that now follow without a gap. */
static void ranges_join(struct dp_conn *conn)
{
	struct dp_range *range = dp_conn_rings(conn)->range;
	for (uint32_t i = 0; i < conn->ranges;) {
		if (dp_seq_lt(conn->rcv_nxt, range[i].from)) {
			i++;
			continue;
		}
		if (dp_seq_lt(conn->rcv_nxt, range[i].to))
			conn->rcv_nxt = range[i].to;
		range_remove(conn, i); /* no other one can follow it: ranges that touch were made one */
	}
}

/* Adds [from, to) in front, swallowing what it touches. The caller made sure that there is room for one more. */
static void range_add(struct dp_conn *conn, uint32_t from, uint32_t to)
{
	struct dp_range *range = dp_conn_rings(conn)->range;
	for (uint32_t i = 0; i < conn->ranges;) {
		if (dp_seq_lt(to, range[i].from) || dp_seq_lt(range[i].to, from)) {
			i++;
			continue;
		}
		if (dp_seq_lt(range[i].from, from))
			from = range[i].from;
		if (dp_seq_lt(to, range[i].to))
			to = range[i].to;
		range_remove(conn, i);
	}
	memmove(range + 1, range, conn->ranges * sizeof(*range));
	range[0] = (struct dp_range){from, to};
	conn->ranges++;
}

static bool range_touches(struct dp_conn *conn, uint32_t from, uint32_t to)
{
	const struct dp_range *range = dp_conn_rings(conn)->range;
	for (uint32_t i = 0; i < conn->ranges; i++)
		if (!dp_seq_lt(to, range[i].from) && !dp_seq_lt(range[i].to, from))
			return true;
	return false;
}

static enum tp_counter out_of_order(struct dp_conn *conn, uint32_t seq, const uint8_t *bytes, uint32_t count)
{
	enum tp_counter end = TP_C_FRAMES_ACCEPTED;
	uint32_t stored = 0;
	if (conn->flags & DP_C_DISCARD) {
		end = TP_C_FRAMES_BAD_TCP;
	} else if (count) {
		if (conn->ranges < DP_RANGES_MAX || range_touches(conn, seq, seq + count))
			stored = dp_rx_write(conn, seq, bytes, count);
		if (stored)
			range_add(conn, seq, seq + stored);
		else
			end = TP_C_FRAMES_TCP_NO_MEMORY;
	}
	dp_conn_ack_send(conn); /* at once and each: the peer counts duplicates */
	return end;
}

static void fin_take(struct dp_conn *conn)
{
	conn->flags |= DP_C_FIN_TAKEN | DP_C_ACK_NOW;
	conn->rcv_nxt++;
	if (conn->flags & DP_C_DISCARD)
		conn->rcv_read = conn->rcv_nxt - 1;
	dp_conn_dirty(conn);
	switch (conn->state) {
	case DP_TCP_ESTABLISHED:
		conn->state = DP_TCP_CLOSE_WAIT;
		return;
	case DP_TCP_FIN_WAIT_1:
		conn->state = DP_TCP_CLOSING;
		return;
	case DP_TCP_FIN_WAIT_2:
		dp_conn_time_wait(conn);
		return;
	default:
		return;
	}
}

enum tp_counter dp_conn_data(struct dp_conn *conn, const struct dp_segment *segment)
{
	if (conn->flags & DP_C_FIN_TAKEN)
		return TP_C_FRAMES_BAD_TCP; /* bytes after the end */
	uint32_t seq = segment->seq, end = seq + segment->bytes;
	const uint8_t *bytes = segment->data;
	bool fin = segment->flags & DP_FIN;
	if (dp_seq_lt(seq, conn->rcv_nxt)) {
		bytes += conn->rcv_nxt - seq;
		seq = conn->rcv_nxt;
	}
	if (dp_seq_lt(conn->rcv_adv, end) || (fin && end == conn->rcv_adv)) {
		end = conn->rcv_adv;
		fin = false;
	}
	if (conn->flags & DP_C_FIN_SEEN && dp_seq_lt(conn->fin_seq, end))
		end = conn->fin_seq;
	if (dp_seq_lt(end, seq))
		return TP_C_FRAMES_BAD_TCP; /* all of it lies after the end */
	if (fin && !(conn->flags & DP_C_FIN_SEEN)) {
		conn->flags |= DP_C_FIN_SEEN;
		conn->fin_seq = end;
	}
	uint32_t count = end - seq;
	if (seq != conn->rcv_nxt)
		return out_of_order(conn, seq, bytes, count);
	conn->flags |= count ? 0U : DP_C_ACK_NOW; /* a probe of a shut window, or a FIN alone */
	dp_conn_dirty(conn);
	enum tp_counter counter = TP_C_FRAMES_ACCEPTED;
	if (count) {
		bool had_gap = conn->ranges;
		uint32_t accepted = in_order(conn, bytes, count);
		if (conn->state == DP_TCP_CLOSED)
			return TP_C_FRAMES_ACCEPTED;
		if (!accepted)
			counter = TP_C_FRAMES_TCP_NO_MEMORY;
		if (conn->ack_pending < UINT8_MAX)
			conn->ack_pending++;
		if (conn->ack_pending >= 2 || had_gap || accepted < count)
			conn->flags |= DP_C_ACK_NOW; /* RFC 5681 section 4.2 */
	} else if (end == segment->seq && segment->bytes) {
		counter = TP_C_FRAMES_BAD_TCP; /* nothing of it fitted the window */
	}
	if (conn->ranges) {
		ranges_join(conn);
		if (conn->rcv_read == queue_end(conn))
			read_up_to(conn, conn->rcv_read); /* what lay in the ring came again in the segment */
	}
	if (conn->flags & DP_C_FIN_SEEN && conn->rcv_nxt == conn->fin_seq) {
		fin_take(conn);
		if (conn->state == DP_TCP_CLOSED)
			return counter;
	}
	dp_conn_offer(conn);
	return counter;
}
