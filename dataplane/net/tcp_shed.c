/*
 * What goes when memory runs out, so that those who use it keep it. One rx core.
 *
 * The table of connections. Half-open ones never fill it: they have a small table of their own, and beyond that cookies cost
 * nothing. When a SYN comes or a handshake completes and few places are left, one connection makes room, in this order:
 *   1. one that we have closed and whose peer just does not close
 *   2. one that never sent a byte for a second
 *   3. one that waits for a next request for a second or longer: the longest quiet one
 *   4. one whose request stopped half-way five seconds ago
 * Nothing of them is queued either way, so nothing that was accepted is lost, and no client with a request under way is touched.
 * Where no such connection is found the table fills to its end, and then the newest loses: its SYN is not answered. Forged SYNs
 * take no place, so they can cost no more connections than the few places that are kept free.
 *
 * "The longest quiet" is among the few records that a hand looks at, which goes round the table: no list to keep at every request,
 * and a bounded cost at every handshake. (Redis finds its least recently used keys like this.)
 *
 * The peer hears a FIN, as it would from any server that closes an idle connection. What follows needs only a TIME_WAIT record.
 *
 * Buffers. Tables of up to DP_RESERVE_MAX connections have a buffer for an answer set aside for each (tcp_ring.c). Larger ones do
 * not: there, an answer that finds no buffer waits in line, and who lets its answers lie unacknowledged (resent twice, or its window
 * shut) for a second is reset as long as anybody waits.
 */
#include "tcp.h"

enum { PLACES_MAX = 64, PLACES_SHARE = 16, SAMPLE = 16 };
#define QUIET_NS   DP_SECOND
#define STALLED_NS (5 * DP_SECOND)

enum rank { KEEP, HALF_A_REQUEST, WAITS, NEVER_SPOKE, CLOSED_BY_US };

static enum rank rank_of(const struct dp_conn *conn, uint64_t quiet_ns)
{
	if (conn->state == DP_TCP_FIN_WAIT_2)
		return CLOSED_BY_US;
	bool empty = conn->snd_una == conn->snd_end && conn->snd_una == conn->snd_max && !conn->rx_chunks;
	if (conn->state != DP_TCP_ESTABLISHED || !empty || conn->flags & DP_C_PAUSED || quiet_ns < QUIET_NS)
		return KEEP;
	if (!(conn->flags & DP_C_SPOKE))
		return NEVER_SPOKE;
	if (!(conn->flags & DP_C_ANSWER_DUE))
		return WAITS;
	return quiet_ns >= STALLED_NS ? HALF_A_REQUEST : KEEP;
}

static struct dp_conn *hand_next(struct dp_tcp *tcp)
{
	if (tcp->shed_hand == tcp->conns_max)
		tcp->shed_hand = 0;
	return &tcp->conn[tcp->shed_hand++];
}

static void evict(struct dp_conn *conn)
{
	struct dp_tcp *tcp = conn->tcp;
	TP_COUNT(tcp->counters, CONNECTIONS_EVICTED);
	if (conn->state == DP_TCP_ESTABLISHED)
		dp_conn_transmit(conn, conn->snd_max, 0, DP_FIN | DP_ACK);
	struct dp_mini *wait = dp_wait_take(tcp, &conn->stream.peer.addr, conn->stream.peer.port, conn->local, conn->hash);
	wait->link = conn->link;
	wait->iss = conn->snd_end + 1;
	wait->rcv_nxt = conn->rcv_nxt;
	wait->timestamps = conn->flags & DP_C_TIMESTAMPS;
	wait->ts_recent = conn->ts_recent;
	wait->ts_offset = conn->ts_offset;
	wait->scaling = conn->flags & DP_C_SCALED;
	wait->fin_missing = true;
	dp_conn_end(conn);
}

bool dp_shed_place(struct dp_tcp *tcp)
{
	uint32_t share = tcp->conns_max / PLACES_SHARE;
	if (tcp->conns_max - tcp->conns >= dp_min32(share ? share : 1, PLACES_MAX))
		return true;
	struct dp_conn *victim = NULL;
	enum rank highest = KEEP;
	uint64_t longest_ns = 0, now = dp_tcp_now(tcp);
	for (uint32_t i = dp_min32(SAMPLE, tcp->conns_max); i > 0; i--) {
		struct dp_conn *conn = hand_next(tcp);
		uint64_t quiet_ns = now - conn->heard_ns;
		enum rank rank = rank_of(conn, quiet_ns);
		if (rank == KEEP || rank < highest || (rank == highest && quiet_ns <= longest_ns))
			continue;
		victim = conn;
		highest = rank;
		longest_ns = quiet_ns;
	}
	if (victim)
		evict(victim);
	return victim || tcp->conn_free;
}

/* ---- buffers ---- */

void dp_shed_wait(struct dp_conn *conn)
{
	struct dp_tcp *tcp = conn->tcp;
	if (conn->flags & DP_C_STARVED)
		return;
	conn->flags |= DP_C_STARVED;
	conn->starved_next = 0;
	if (tcp->starved_last)
		tcp->conn[tcp->starved_last - 1].starved_next = conn->index + 1;
	else
		tcp->starved_first = conn->index + 1;
	tcp->starved_last = conn->index + 1;
}

/* One a flush: what it held is free in the next. */
static void stalled_reset(struct dp_tcp *tcp)
{
	uint64_t now = dp_tcp_now(tcp);
	for (uint32_t i = dp_min32(SAMPLE, tcp->conns_max); i > 0; i--) {
		struct dp_conn *conn = hand_next(tcp);
		if (conn->state == DP_TCP_CLOSED || !conn->tx_chunks || now - conn->heard_ns < QUIET_NS)
			continue;
		if (conn->retries < 2 && !(conn->flags & DP_C_PERSIST))
			continue;
		TP_COUNT(tcp->counters, CONNECTIONS_EVICTED);
		dp_conn_rst_send(conn);
		dp_conn_end(conn);
		return;
	}
}

void dp_shed_flush(struct dp_tcp *tcp)
{
	for (uint32_t chunks = tcp->chunks_free; tcp->starved_first;) {
		struct dp_conn *conn = &tcp->conn[tcp->starved_first - 1];
		bool closed = conn->state == DP_TCP_CLOSED;
		if (!closed && !chunks) {
			stalled_reset(tcp);
			return;
		}
		chunks -= !closed;
		tcp->starved_first = conn->starved_next;
		if (!tcp->starved_first)
			tcp->starved_last = 0;
		conn->flags &= ~(uint32_t)DP_C_STARVED;
		dp_conn_dirty(conn); /* the flush that follows asks the app again, or frees the record */
	}
}
