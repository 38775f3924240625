/*
 * What acknowledgements do: free the send ring, measure the round trip, open and shut the congestion window, find losses. One rx
 * core. Source: RFC 9293 section 3.10.7.4, RFC 5681 (congestion control, byte counting by RFC 3465), RFC 6675 (recovery with SACK),
 * RFC 6582 (without: NewReno), RFC 3042 (limited transmit), RFC 6298 (retransmission timer), RFC 5961 section 5 (which ACKs to
 * believe).
 *
 *   slow start / avoidance ──3 duplicate ACKs, or SACK shows a loss──► RECOVERY: resend snd_una, cwnd = flight / 2
 *          ▲                              with SACK: as much as cwnd has room over what is under way (tcp_output.c, tcp_sack.c)
 *          │                              without: each further duplicate cwnd += 1, each partial ACK resends the next hole
 *          └───────────── ACK of all that was out when it began (recover) ───────────┘
 *
 * With SACK a duplicate is an ACK that tells of bytes not known to be there; without, one that changes nothing.
 * Growth counts bytes instead of dividing by cwnd.
 */
#include "tcp.h"

enum { DUP_ACKS = DP_DUP_ACKS };

void dp_conn_congestion_init(struct dp_conn *conn, bool syn_ack_lost)
{
	/* RFC 6928 section 2; RFC 5681 section 3.1: one segment after a lost SYN-ACK, and RFC 6298 (5.7): 3 s. */
	uint32_t mss = conn->mss, most = DP_INITIAL_SEGMENTS * 1460;
	uint32_t initial = dp_min32(DP_INITIAL_SEGMENTS * mss, most > 2 * mss ? most : 2 * mss);
	conn->cwnd = syn_ack_lost ? mss : initial;
	conn->ssthresh = UINT32_MAX;
	conn->rto_ns = syn_ack_lost ? 3 * DP_SECOND : DP_SECOND;
}

void dp_conn_rtt(struct dp_conn *conn, uint64_t sample_ns)
{
	if (!conn->srtt_ns) {
		conn->srtt_ns = sample_ns;
		conn->rttvar_ns = sample_ns / 2;
	} else {
		uint64_t off = sample_ns > conn->srtt_ns ? sample_ns - conn->srtt_ns : conn->srtt_ns - sample_ns;
		conn->rttvar_ns += off / 4 - conn->rttvar_ns / 4;
		conn->srtt_ns += sample_ns / 8 - conn->srtt_ns / 8;
	}
	uint64_t spread = 4 * conn->rttvar_ns;
	uint64_t rto = conn->srtt_ns + (spread > DP_MS ? spread : DP_MS);
	conn->rto_ns = rto < DP_RTO_MIN_NS ? DP_RTO_MIN_NS : rto > DP_RTO_MAX_NS ? DP_RTO_MAX_NS : rto;
}

uint64_t dp_conn_rto(const struct dp_conn *conn)
{
	uint64_t rto = conn->rto_ns << (conn->retries < 10 ? conn->retries : 10);
	return rto < DP_RTO_MAX_NS ? rto : DP_RTO_MAX_NS;
}

/* Sends the segment at snd_una again, whatever the windows say. */
static void resend_first(struct dp_conn *conn)
{
	conn->flags &= ~(uint32_t)DP_C_RTT; /* Karn: RFC 6298 section 3 */
	conn->high_rxt = conn->snd_una + dp_conn_resend(conn, conn->snd_una, conn->snd_max, conn->mss);
}

static void duplicate(struct dp_conn *conn)
{
	if (conn->dup_acks < UINT8_MAX)
		conn->dup_acks++;
	bool sack = conn->flags & DP_C_SACK;
	dp_conn_dirty(conn);
	if (conn->flags & DP_C_RECOVERY) {
		if (!sack)
			conn->cwnd += conn->mss; /* a segment has left the network */
		return;
	}
	if (sack ? conn->dup_acks < DUP_ACKS && !dp_sack_lost(conn) : conn->dup_acks != DUP_ACKS)
		return; /* output may send a segment of new data meanwhile: RFC 3042 */
	/*
	 * RFC 6582 section 3.2 step 1: duplicates caused by our own resending do not start another recovery. With SACK there are none:
	 * RFC 6675 section 5.1 only asks that what was out before the timeout is acknowledged.
	 */
	if (conn->flags & DP_C_OWN_RECOVER && !dp_seq_lt(conn->recover, conn->snd_una + sack))
		return;
	/* Without what limited transmit sent beyond cwnd: RFC 5681 section 3.2 step 2. */
	uint32_t flight = dp_min32(conn->snd_max - conn->snd_una, conn->cwnd), half = flight / 2, least = 2U * conn->mss;
	conn->ssthresh = half > least ? half : least;
	conn->recover = conn->snd_max;
	conn->flags |= DP_C_RECOVERY | DP_C_OWN_RECOVER;
	conn->flags &= ~(uint32_t)DP_C_RESCUED;
	conn->snd_nxt = conn->snd_max;
	resend_first(conn);
	conn->cwnd = conn->ssthresh + (sack ? 0U : DUP_ACKS * conn->mss);
	conn->rto_at = dp_tcp_now(conn->tcp) + dp_conn_rto(conn);
}

static void grow(struct dp_conn *conn, uint32_t acked)
{
	if (conn->cwnd < conn->ssthresh) {
		conn->cwnd += dp_min32(acked, 2U * conn->mss); /* RFC 3465: L = 2 */
		return;
	}
	conn->cwnd_bytes += acked;
	if (conn->cwnd_bytes >= conn->cwnd) {
		conn->cwnd_bytes -= conn->cwnd;
		conn->cwnd += conn->mss;
	}
}

static void recovery_ack(struct dp_conn *conn, uint32_t acked)
{
	if (!dp_seq_lt(conn->snd_una, conn->recover)) { /* full */
		uint32_t flight = conn->snd_max - conn->snd_una;
		uint32_t mss = conn->mss, floor = (flight > mss ? flight : mss) + mss;
		conn->cwnd = dp_min32(conn->ssthresh, floor);
		conn->flags &= ~(uint32_t)DP_C_RECOVERY;
		conn->dup_acks = 0;
		return;
	}
	if (conn->flags & DP_C_SACK)
		return; /* the scoreboard knows what is missing; output sends it */
	/* Partial: the next hole is lost as well. */
	resend_first(conn);
	conn->cwnd -= dp_min32(acked, conn->cwnd - conn->mss);
	if (acked >= conn->mss)
		conn->cwnd += conn->mss;
}

static void advance(struct dp_conn *conn, uint32_t ack)
{
	uint32_t acked = ack - conn->snd_una;
	uint32_t data_end = dp_seq_lt(conn->snd_end, ack) ? conn->snd_end : ack; /* without our FIN */
	uint64_t now = dp_tcp_now(conn->tcp);
	if (conn->flags & DP_C_RTT && dp_seq_le(conn->rtt_seq, ack)) {
		conn->flags &= ~(uint32_t)DP_C_RTT;
		dp_conn_rtt(conn, now - conn->rtt_ns);
	}
	uint32_t from = conn->snd_una;
	conn->snd_una = ack;
	if (conn->sacked)
		dp_sack_advance(conn);
	if (dp_seq_lt(conn->high_rxt, ack))
		conn->high_rxt = ack;
	dp_tx_release(conn, from, data_end, data_end == conn->snd_end);
	if (dp_seq_lt(conn->snd_nxt, ack))
		conn->snd_nxt = ack;
	conn->retries = 0;
	conn->rto_at = ack == conn->snd_max ? 0 : now + dp_conn_rto(conn); /* RFC 6298 (5.2), (5.3) */
	conn->idle_at = now + dp_conn_patience(conn);
	if (conn->rto_at && conn->rto_at < conn->timer.due_ns)
		dp_conn_dirty(conn); /* it was set while it backed off, or before a round trip was known: the flush arms it anew */
	if (conn->flags & DP_C_RECOVERY) {
		recovery_ack(conn, acked);
	} else {
		conn->dup_acks = 0;
		grow(conn, acked);
	}
	if (conn->flags & DP_C_OWN_RECOVER && dp_seq_lt(conn->recover, ack))
		conn->flags &= ~(uint32_t)DP_C_OWN_RECOVER; /* so that the comparison never meets a wrapped number */
}

bool dp_conn_ack(struct dp_conn *conn, const struct dp_segment *segment)
{
	uint32_t ack = segment->ack, window = (uint32_t)segment->window << conn->snd_shift;
	if (dp_seq_lt(conn->snd_max, ack) || dp_seq_lt(ack, conn->snd_una - conn->max_wnd)) {
		dp_conn_challenge(conn); /* RFC 5961 section 5.2 */
		return false;
	}
	if (dp_seq_lt(ack, conn->snd_una))
		return true; /* overtaken by a later one */
	bool fresh = dp_seq_lt(conn->snd_wl1, segment->seq) || (conn->snd_wl1 == segment->seq && dp_seq_le(conn->snd_wl2, ack));
	bool news = segment->sack_bytes && conn->flags & DP_C_SACK && ack != conn->snd_max && dp_sack_update(conn, segment);
	if (ack != conn->snd_una)
		advance(conn, ack);
	else if (conn->flags & DP_C_SACK) {
		if (news)
			duplicate(conn);
	} else if (!segment->bytes && !(segment->flags & DP_FIN) && window == conn->snd_wnd && ack != conn->snd_max &&
		   !(conn->flags & DP_C_PERSIST)) {
		duplicate(conn); /* RFC 5681 section 2 */
	}
	if (fresh) {
		conn->snd_wl1 = segment->seq;
		conn->snd_wl2 = ack;
		if (window > conn->snd_wnd && conn->flags & DP_C_PERSIST) {
			/* Open again, perhaps: output decides, and starts probing anew when it is still too small. */
			conn->flags &= ~(uint32_t)DP_C_PERSIST;
			conn->retries = 0;
			conn->rto_at = 0;
		}
		conn->snd_wnd = window;
		if (window > conn->max_wnd)
			conn->max_wnd = window;
	}
	if (conn->snd_nxt != conn->snd_end || conn->flags & (DP_C_FIN_QUEUED | DP_C_WANT_WRITABLE | DP_C_RECOVERY))
		dp_conn_dirty(conn);
	return true;
}
