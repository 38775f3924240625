/*
 * The scoreboard: what the peer holds beyond snd_una, and from it what is lost and what is still under way. One rx core.
 * Source: RFC 2018 sections 3, 5 and 8, RFC 6675 sections 2 to 4; the names IsLost, SetPipe and NextSeg are of that text.
 *
 *   snd_una   sacked[0]     sacked[1]     sacked[2]        snd_max
 *      │ hole 0 ████ hole 1 █████ hole 2  ███ what nobody knows of │
 *      └──── sent again up to high_rxt ──┘
 *
 * sacked[] is sorted, does not overlap or touch, and lies inside (snd_una, snd_max]. It has a fixed number of places: a block that
 * finds none is forgotten, which costs at most a segment sent twice. Nothing is ever released from the send ring because of a block
 * (the peer may take it back: RFC 2018 section 8), and a retransmission timeout forgets them all.
 */
#include "tcp.h"

enum { BLOCK_BYTES = 8, DUP_THRESH = 3 };

/* NULL: nothing is out but what is brief, and nothing is noted. */
static struct dp_range *board(struct dp_conn *conn)
{
	return conn->rings ? dp_conn_rings(conn)->sacked : NULL;
}

void dp_sack_clear(struct dp_conn *conn)
{
	conn->sacked = 0;
}

/* Adds [from, to). True: it tells something new. */
static bool add(struct dp_conn *conn, uint32_t from, uint32_t to)
{
	struct dp_range *sacked = board(conn);
	uint32_t first = 0;
	while (first < conn->sacked && dp_seq_lt(sacked[first].to, from))
		first++;
	uint32_t last = first; /* sacked[first, last) touch the block */
	while (last < conn->sacked && dp_seq_le(sacked[last].from, to))
		last++;
	if (last == first + 1 && dp_seq_le(sacked[first].from, from) && dp_seq_le(to, sacked[first].to))
		return false;
	if (first == last) {
		if (conn->sacked == DP_SACKED_MAX)
			return false;
		memmove(sacked + first + 1, sacked + first, (conn->sacked - first) * sizeof(*sacked));
		conn->sacked++;
	} else {
		if (dp_seq_lt(sacked[first].from, from))
			from = sacked[first].from;
		if (dp_seq_lt(to, sacked[last - 1].to))
			to = sacked[last - 1].to;
		memmove(sacked + first + 1, sacked + last, (conn->sacked - last) * sizeof(*sacked));
		conn->sacked = (uint8_t)(conn->sacked - (last - first - 1));
	}
	sacked[first] = (struct dp_range){from, to};
	return true;
}

bool dp_sack_update(struct dp_conn *conn, const struct dp_segment *segment)
{
	bool news = false;
	if (!conn->rings)
		return false; /* what is out is brief: too little for a loss to show before the timer does */
	for (uint32_t at = 0; at + BLOCK_BYTES <= segment->sack_bytes; at += BLOCK_BYTES) {
		uint32_t from = dp_get32(segment->sack_blocks + at), to = dp_get32(segment->sack_blocks + at + 4);
		/* Below snd_una it is a duplicate told (RFC 2883); beyond what was sent it is a lie. */
		if (dp_seq_lt(conn->snd_una, from) && dp_seq_lt(from, to) && dp_seq_le(to, conn->snd_max))
			news |= add(conn, from, to);
	}
	return news;
}

void dp_sack_advance(struct dp_conn *conn)
{
	struct dp_range *sacked = board(conn);
	uint32_t gone = 0;
	/* Also one that begins at or before snd_una and goes on: the peer stopped there, so it does not hold what follows any more. */
	while (gone < conn->sacked && dp_seq_le(sacked[gone].from, conn->snd_una))
		gone++;
	conn->sacked = (uint8_t)(conn->sacked - gone);
	memmove(sacked, sacked + gone, conn->sacked * sizeof(*sacked));
}

/* IsLost() for the bytes right before sacked[which]. */
static bool lost(const struct dp_conn *conn, const struct dp_range *sacked, uint32_t which)
{
	if (conn->sacked - which >= DUP_THRESH)
		return true;
	uint32_t bytes = 0;
	for (uint32_t i = which; i < conn->sacked; i++)
		bytes += sacked[i].to - sacked[i].from;
	return bytes > (DUP_THRESH - 1) * (uint32_t)conn->mss;
}

bool dp_sack_lost(struct dp_conn *conn)
{
	return conn->sacked && lost(conn, board(conn), 0);
}

uint32_t dp_sack_pipe(struct dp_conn *conn)
{
	const struct dp_range *sacked = board(conn);
	uint32_t pipe = 0, at = conn->snd_una;
	for (uint32_t i = 0; i <= conn->sacked; i++) {
		uint32_t end = i < conn->sacked ? sacked[i].from : conn->snd_max;
		if (i == conn->sacked || !lost(conn, sacked, i))
			pipe += end - at;
		if (dp_seq_lt(at, conn->high_rxt))
			pipe += (dp_seq_lt(conn->high_rxt, end) ? conn->high_rxt : end) - at;
		if (i < conn->sacked)
			at = sacked[i].to;
	}
	return pipe;
}

bool dp_sack_hole(struct dp_conn *conn, bool only_lost, struct dp_range *hole)
{
	const struct dp_range *sacked = board(conn);
	uint32_t at = conn->snd_una;
	for (uint32_t i = 0; i < conn->sacked; i++) {
		hole->from = dp_seq_lt(at, conn->high_rxt) ? conn->high_rxt : at;
		hole->to = sacked[i].from;
		if (dp_seq_lt(hole->from, hole->to))
			return !only_lost || lost(conn, sacked, i);
		at = sacked[i].to;
	}
	return false;
}

uint32_t dp_sack_skip(struct dp_conn *conn, uint32_t seq, uint32_t *held, uint32_t *end)
{
	const struct dp_range *sacked = board(conn);
	*held = 0;
	*end = conn->snd_max;
	for (uint32_t i = 0; i < conn->sacked; i++) {
		if (dp_seq_lt(seq, sacked[i].from)) {
			*end = sacked[i].from;
			break;
		}
		*held += sacked[i].to - sacked[i].from;
		if (dp_seq_lt(seq, sacked[i].to))
			seq = sacked[i].to;
	}
	return seq;
}
