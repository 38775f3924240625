/*
 * Buffers: bytes that wait for an acknowledgement, for the app, or for a gap to close. One rx core, memory fixed at create.
 *
 * A connection sees a send ring of 64 KiB and a receive ring of 256 KiB, addressed by sequence number. Behind each 2 KiB of number
 * space there is a chunk of the pool only while bytes lie there, and the two tables of chunks themselves are there only while the
 * connection holds any: an idle connection costs neither.
 *
 *   sequence number  …│ 11 bits of place in the chunk
 *         5 or 7 bits ┴ slot in dp_conn_rings.tx or .rx
 *
 * A connection never spans more than the slots less one, so the first and the last bytes cannot meet in one slot.
 *
 * What is sent while no chunk is held, and is short, lies in the record instead (`brief`): nearly every answer is a 204, and two thousand
 * of them that wait for their ACK in a chunk each would be spread over 4 MiB. Once bytes went to the ring, all that follow do.
 *
 * Who gets a chunk: the pool holds one chunk per connection (for the first DP_RESERVE_MAX of them) and a half more. The first chunk
 * of a send ring is always granted; everything else only while more chunks are free than connections hold no send chunk. So no set
 * of peers, however slow or greedy, can keep another connection from answering. In tables larger than that an answer may find no
 * chunk; then tcp_shed.c decides who gives one back.
 */
#include "tcp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { SPARE_CHUNKS_MIN = 64 };

int dp_chunks_create(struct dp_tcp *tcp)
{
	tcp->chunks_reserved =
		dp_min32(tcp->conns_max, tcp->stack->options.reserve_max ? tcp->stack->options.reserve_max : DP_RESERVE_MAX);
	uint32_t spare = tcp->chunks_reserved / 2;
	tcp->chunks = tcp->chunks_reserved + (spare < SPARE_CHUNKS_MIN ? SPARE_CHUNKS_MIN : spare);
	tcp->chunk_base = aligned_alloc(64, (size_t)tcp->chunks << DP_CHUNK_BITS);
	tcp->chunk_free = malloc(tcp->chunks * sizeof(*tcp->chunk_free));
	if (!tcp->chunk_base || !tcp->chunk_free)
		return -ENOMEM;
	memset(tcp->chunk_base, 0, (size_t)tcp->chunks << DP_CHUNK_BITS); /* touched now, so that no page fault comes later */
	for (uint32_t i = 0; i < tcp->chunks; i++)
		tcp->chunk_free[i] = tcp->chunks - i;
	tcp->chunks_free = tcp->chunks;
	/* Each that is in use holds a chunk, so where a chunk is free one of these is, too. */
	tcp->rings_max = dp_min32(tcp->conns_max, tcp->chunks);
	size_t rings_bytes = (size_t)tcp->rings_max * sizeof(*tcp->rings);
	tcp->rings = aligned_alloc(64, (rings_bytes + 63) & ~(size_t)63);
	tcp->rings_free = malloc(tcp->rings_max * sizeof(*tcp->rings_free));
	if (!tcp->rings || !tcp->rings_free)
		return -ENOMEM;
	memset(tcp->rings, 0, rings_bytes);
	for (uint32_t i = 0; i < tcp->rings_max; i++)
		tcp->rings_free[i] = tcp->rings_max - i;
	tcp->rings_left = tcp->rings_max;
	return 0;
}

void dp_chunks_destroy(struct dp_tcp *tcp)
{
	free(tcp->chunk_base);
	free(tcp->chunk_free);
	free(tcp->rings);
	free(tcp->rings_free);
}

static uint32_t reserved(const struct dp_tcp *tcp)
{
	return tcp->chunks_reserved > tcp->tx_holders ? tcp->chunks_reserved - tcp->tx_holders : 0;
}

bool dp_chunks_plenty(const struct dp_tcp *tcp)
{
	return tcp->chunks_free > reserved(tcp) + (tcp->chunks - tcp->chunks_reserved) / 2;
}

static void rings_take(struct dp_conn *conn)
{
	struct dp_tcp *tcp = conn->tcp;
	if (conn->rings)
		return;
	assert(tcp->rings_left);
	conn->rings = tcp->rings_free[--tcp->rings_left];
}

/* They go back empty: every slot was cleared with its chunk. */
static void rings_give(struct dp_conn *conn)
{
	struct dp_tcp *tcp = conn->tcp;
	if (!conn->rings || conn->tx_chunks || conn->rx_chunks)
		return;
	conn->ranges = conn->sacked = 0;
	tcp->rings_free[tcp->rings_left++] = conn->rings;
	conn->rings = 0;
}

static uint8_t *place(const struct dp_tcp *tcp, uint32_t chunk, uint32_t seq)
{
	return tcp->chunk_base + ((size_t)(chunk - 1) << DP_CHUNK_BITS) + (seq & (DP_CHUNK_BYTES - 1));
}

static uint32_t slot_of(uint32_t seq, uint32_t slots)
{
	return (seq >> DP_CHUNK_BITS) & (slots - 1);
}

static uint32_t in_chunk(uint32_t seq, uint32_t count)
{
	return dp_min32(count, DP_CHUNK_BYTES - (seq & (DP_CHUNK_BYTES - 1)));
}

/* Returns how many bytes found room; *held counts the ring's chunks. */
static uint32_t ring_write(struct dp_tcp *tcp, uint32_t *ring, uint32_t slots, uint8_t *held, bool first_granted, uint32_t seq,
			   const uint8_t *bytes, uint32_t count)
{
	uint32_t done = 0;
	while (done < count) {
		uint32_t *chunk = &ring[slot_of(seq + done, slots)];
		if (!*chunk) {
			bool granted = first_granted && !*held;
			if (granted ? !tcp->chunks_free : tcp->chunks_free <= reserved(tcp))
				break;
			*chunk = tcp->chunk_free[--tcp->chunks_free];
			if (granted)
				tcp->tx_holders++;
			(*held)++;
		}
		uint32_t run = in_chunk(seq + done, count - done);
		memcpy(place(tcp, *chunk, seq + done), bytes + done, run);
		done += run;
	}
	return done;
}

static void give(struct dp_tcp *tcp, uint32_t *chunk, uint8_t *held)
{
	if (!*chunk)
		return;
	tcp->chunk_free[tcp->chunks_free++] = *chunk;
	*chunk = 0;
	(*held)--;
}

static void ring_release(struct dp_tcp *tcp, uint32_t *ring, uint32_t slots, uint8_t *held, uint32_t from, uint32_t to, bool empty)
{
	for (uint32_t at = from & ~(uint32_t)(DP_CHUNK_BYTES - 1); dp_seq_le(at + DP_CHUNK_BYTES, to); at += DP_CHUNK_BYTES)
		give(tcp, &ring[slot_of(at, slots)], held);
	if (!empty)
		return;
	give(tcp, &ring[slot_of(to, slots)], held);
	for (uint32_t slot = 0; *held; slot++)
		give(tcp, &ring[slot], held);
}

uint32_t dp_tx_write(struct dp_conn *conn, uint32_t seq, const uint8_t *bytes, uint32_t count)
{
	if (!conn->tx_chunks && conn->brief_bytes + count <= DP_BRIEF_BYTES) {
		if (!conn->brief_bytes)
			conn->brief_seq = seq;
		assert(seq == conn->brief_seq + conn->brief_bytes);
		memcpy(conn->brief + conn->brief_bytes, bytes, count);
		conn->brief_bytes = (uint8_t)(conn->brief_bytes + count);
		return count;
	}
	if (!conn->rings && !conn->tcp->chunks_free)
		return 0;
	rings_take(conn);
	uint32_t done = ring_write(conn->tcp, dp_conn_rings(conn)->tx, DP_TX_CHUNKS, &conn->tx_chunks, true, seq, bytes, count);
	if (!done)
		rings_give(conn);
	return done;
}

uint32_t dp_rx_write(struct dp_conn *conn, uint32_t seq, const uint8_t *bytes, uint32_t count)
{
	if (!conn->rings && !conn->tcp->chunks_free)
		return 0;
	rings_take(conn);
	uint32_t done = ring_write(conn->tcp, dp_conn_rings(conn)->rx, DP_RX_CHUNKS, &conn->rx_chunks, false, seq, bytes, count);
	if (!done)
		rings_give(conn);
	return done;
}

void dp_tx_read(const struct dp_conn *conn, uint32_t seq, uint8_t *to, uint32_t count)
{
	if (conn->brief_bytes && dp_seq_lt(seq, conn->brief_seq + conn->brief_bytes)) {
		uint32_t at = seq - conn->brief_seq, run = dp_min32(count, conn->brief_bytes - at);
		assert(at < conn->brief_bytes);
		memcpy(to, conn->brief + at, run);
		to += run;
		seq += run;
		count -= run;
	}
	while (count) {
		uint32_t chunk = conn->tcp->rings[conn->rings - 1].tx[slot_of(seq, DP_TX_CHUNKS)], run = in_chunk(seq, count);
		assert(chunk);
		memcpy(to, place(conn->tcp, chunk, seq), run);
		to += run;
		seq += run;
		count -= run;
	}
}

const uint8_t *dp_rx_run(const struct dp_conn *conn, uint32_t seq, uint32_t count, uint32_t *run)
{
	uint32_t chunk = conn->tcp->rings[conn->rings - 1].rx[slot_of(seq, DP_RX_CHUNKS)];
	assert(chunk);
	*run = in_chunk(seq, count);
	return place(conn->tcp, chunk, seq);
}

void dp_tx_release(struct dp_conn *conn, uint32_t from, uint32_t to, bool empty)
{
	if (empty || dp_seq_le(conn->brief_seq + conn->brief_bytes, to))
		conn->brief_bytes = 0;
	if (!conn->tx_chunks)
		return;
	ring_release(conn->tcp, dp_conn_rings(conn)->tx, DP_TX_CHUNKS, &conn->tx_chunks, from, to, empty);
	if (conn->tx_chunks)
		return;
	conn->tcp->tx_holders--;
	rings_give(conn);
}

void dp_rx_release(struct dp_conn *conn, uint32_t from, uint32_t to, bool empty)
{
	if (!conn->rx_chunks)
		return;
	ring_release(conn->tcp, dp_conn_rings(conn)->rx, DP_RX_CHUNKS, &conn->rx_chunks, from, to, empty);
	if (!conn->rx_chunks)
		rings_give(conn);
}
