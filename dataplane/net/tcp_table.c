/*
 * The tables of connections, half-open ones and TIME_WAIT records, and the list of connections with work for the flush. One rx
 * core, memory fixed at create, nothing is ever scanned except by drain.
 *
 *   free ──dp_conn_take()──► in the hash ──dp_conn_end()──► CLOSED, on the dirty list ──flush: dp_stream_closed()──► free
 *
 * Between end and flush the record stays readable, so code that called up may look at its state.
 */
#include "tcp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { HALF_MIN = 16, HALF_MAX = 32768, WAIT_MIN = 16, WAIT_MAX = 65536, DRAIN_SCAN = 4096 };
#define DRAIN_QUIET_NS (250 * DP_MS)
#define DRAIN_OWED_NS  (5 * DP_SECOND)

static uint32_t clamp(uint32_t value, uint32_t least, uint32_t most)
{
	return value < least ? least : value > most ? most : value;
}

/* The number of hash heads for `count` entries: a power of two, at most half full. */
static uint32_t heads_for(uint32_t count)
{
	uint32_t heads = 16;
	while (heads < count * 2)
		heads *= 2;
	return heads;
}

/* Zeroed and touched, so that no page fault comes later. */
static void *zeroed(size_t count, size_t bytes)
{
	size_t total = (count * bytes + 63) & ~(size_t)63;
	void *memory = aligned_alloc(64, total);
	if (memory)
		memset(memory, 0, total);
	return memory;
}

int dp_tcp_create(struct dp_stack *stack)
{
	struct dp_tcp *tcp = calloc(1, sizeof(*tcp));
	if (!tcp)
		return -ENOMEM;
	stack->tcp = tcp;
	tcp->stack = stack;
	tcp->counters = stack->options.counters;
	tcp->conns_max = stack->options.connections_max;
	tcp->half_max = clamp(tcp->conns_max / 4, HALF_MIN, HALF_MAX);
	tcp->wait_max = clamp(tcp->conns_max, WAIT_MIN, WAIT_MAX);
	uint32_t send_chunks = (stack->options.send_buffer_bytes + DP_CHUNK_BYTES - 1) >> DP_CHUNK_BITS;
	tcp->send_bytes = clamp(send_chunks, 1, DP_SEND_MAX >> DP_CHUNK_BITS) << DP_CHUNK_BITS;
	tcp->dirty_last = &tcp->dirty_first;

	uint32_t minis = tcp->half_max + tcp->wait_max;
	uint32_t conn_heads = heads_for(tcp->conns_max), mini_heads = heads_for(minis);
	tcp->conn = zeroed(tcp->conns_max, sizeof(*tcp->conn));
	tcp->conn_heads = zeroed(conn_heads, sizeof(*tcp->conn_heads));
	tcp->mini = zeroed(minis, sizeof(*tcp->mini));
	tcp->mini_heads = zeroed(mini_heads, sizeof(*tcp->mini_heads));
	tcp->conn_mask = conn_heads - 1;
	tcp->mini_mask = mini_heads - 1;
	if (!tcp->conn || !tcp->conn_heads || !tcp->mini || !tcp->mini_heads)
		return -ENOMEM;
	for (uint32_t i = tcp->conns_max; i-- > 0;) {
		tcp->conn[i].next = tcp->conn_free;
		tcp->conn_free = i + 1;
	}
	for (uint32_t i = minis; i-- > 0;) {
		uint32_t *list = i < tcp->half_max ? &tcp->half_free : &tcp->wait_free;
		tcp->mini[i].next = *list;
		*list = i + 1;
	}
	return dp_chunks_create(tcp);
}

void dp_tcp_destroy(struct dp_stack *stack)
{
	struct dp_tcp *tcp = stack->tcp;
	if (!tcp)
		return;
	for (uint32_t i = 0; tcp->conn && i < tcp->conns_max; i++) {
		struct dp_conn *conn = &tcp->conn[i];
		if (conn->state == DP_TCP_CLOSED)
			continue;
		dp_conn_rst_send(conn);
		dp_conn_end(conn);
	}
	if (tcp->dirty_last)
		dp_tcp_flush(tcp);
	dp_chunks_destroy(tcp);
	free(tcp->conn);
	free(tcp->conn_heads);
	free(tcp->mini);
	free(tcp->mini_heads);
	free(tcp);
	stack->tcp = NULL;
}

uint32_t dp_tcp_hash(const struct dp_stack *stack, const struct tp_addr *peer, uint16_t peer_port, uint32_t local)
{
	uint64_t words[3];
	memcpy(words, peer->byte, 16);
	words[2] = (uint64_t)local << 16 | peer_port;
	return (uint32_t)dp_siphash13(stack->options.secret, words, 3);
}

/* ---- connections ---- */

struct dp_conn *dp_conn_find(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash)
{
	for (uint32_t at = tcp->conn_heads[hash & tcp->conn_mask]; at; at = tcp->conn[at - 1].next) {
		struct dp_conn *conn = &tcp->conn[at - 1];
		if (conn->hash == hash && conn->stream.peer.port == peer_port && conn->local == local &&
		    dp_addr_same(&conn->stream.peer.addr, peer))
			return conn;
	}
	return NULL;
}

struct dp_conn *dp_conn_take(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash)
{
	if (!tcp->conn_free)
		return NULL;
	uint32_t index = tcp->conn_free - 1;
	struct dp_conn *conn = &tcp->conn[index];
	tcp->conn_free = conn->next;
	memset(conn, 0, sizeof(*conn));
	conn->index = index;
	conn->tcp = tcp;
	conn->hash = hash;
	conn->local = (uint16_t)local;
	conn->stream.ops = &dp_tcp_stream_ops;
	conn->stream.beacon = tcp->stack->options.beacon;
	conn->stream.ingest = tcp->stack->options.ingest;
	conn->stream.peer.addr = *peer;
	conn->stream.peer.port = peer_port;
	conn->timer.kind = DP_TIMER_CONN;
	conn->state = DP_TCP_ESTABLISHED;
	uint32_t *head = &tcp->conn_heads[hash & tcp->conn_mask];
	conn->next = *head;
	*head = index + 1;
	tcp->conns++;
	TP_COUNT(tcp->counters, CONNECTIONS_OPENED);
	return conn;
}

void dp_conn_dirty(struct dp_conn *conn)
{
	if (conn->flags & DP_C_DIRTY)
		return;
	conn->flags |= DP_C_DIRTY;
	conn->dirty_next = NULL;
	*conn->tcp->dirty_last = conn;
	conn->tcp->dirty_last = &conn->dirty_next;
}

void dp_conn_end(struct dp_conn *conn)
{
	assert(conn->state != DP_TCP_CLOSED);
	struct dp_tcp *tcp = conn->tcp;
	uint32_t *at = &tcp->conn_heads[conn->hash & tcp->conn_mask];
	while (*at != conn->index + 1)
		at = &tcp->conn[*at - 1].next;
	*at = conn->next;
	dp_wheel_cancel(&conn->timer);
	conn->state = DP_TCP_CLOSED;
	TP_COUNT(tcp->counters, CONNECTIONS_CLOSED);
	dp_conn_dirty(conn);
}

/* The flag DIRTY stays set until the end: what the app does to this very connection in the calls up is sent right here. */
static void flush_one(struct dp_conn *conn)
{
	struct dp_tcp *tcp = conn->tcp;
	if (conn->state != DP_TCP_CLOSED && conn->flags & DP_C_RESUME) {
		conn->flags &= ~(uint32_t)(DP_C_RESUME | DP_C_PAUSED);
		dp_conn_offer(conn);
	}
	if (conn->state != DP_TCP_CLOSED && conn->flags & DP_C_DISCARD)
		dp_conn_discard(conn);
	if (conn->state != DP_TCP_CLOSED && conn->flags & DP_C_WANT_WRITABLE &&
	    conn->snd_end - conn->snd_una <= tcp->send_bytes / 2) {
		conn->flags &= ~(uint32_t)DP_C_WANT_WRITABLE;
		if (!(conn->flags & (DP_C_APP_GONE | DP_C_FIN_QUEUED)))
			dp_stream_writable(&conn->stream);
	}
	bool done = conn->state == DP_TCP_CLOSED || dp_conn_output(conn);
	conn->flags &= ~(uint32_t)DP_C_DIRTY;
	if (conn->state != DP_TCP_CLOSED) {
		dp_conn_arm(conn);
		if (!done || conn->flags & DP_C_RESUME)
			dp_conn_dirty(conn);
		return;
	}
	if (!(conn->flags & DP_C_APP_GONE)) {
		conn->flags |= DP_C_APP_GONE;
		dp_stream_closed(&conn->stream);
	}
	/* Only now, not when it ended: that may have been inside dp_stream_input(), with the app still reading from a chunk. */
	dp_tx_release(conn, conn->snd_una, conn->snd_una, true);
	dp_rx_release(conn, conn->rcv_read, conn->rcv_read, true);
	if (conn->flags & DP_C_STARVED)
		return; /* still in that line, which gives it back here */
	conn->flags = 0;
	conn->next = tcp->conn_free;
	tcp->conn_free = conn->index + 1;
	tcp->conns--;
}

void dp_tcp_flush(struct dp_tcp *tcp)
{
	dp_shed_flush(tcp);
	/* What gets dirty meanwhile waits for the next flush: an app that keeps asking cannot hold the core. */
	struct dp_conn *list = tcp->dirty_first;
	tcp->dirty_first = NULL;
	tcp->dirty_last = &tcp->dirty_first;
	while (list) {
		struct dp_conn *conn = list;
		list = conn->dirty_next;
		flush_one(conn);
	}
}

/*
 * The stack cannot know whether the app owes an answer. It takes a connection for idle when nothing is queued either way and it
 * has been quiet for a while: a short one when the app was the last to speak, a long one when the peer was.
 */
static bool drainable(const struct dp_conn *conn)
{
	if (conn->state != DP_TCP_ESTABLISHED && conn->state != DP_TCP_CLOSE_WAIT)
		return false;
	if (conn->snd_una != conn->snd_end || conn->rx_chunks)
		return false;
	uint64_t quiet = dp_tcp_now(conn->tcp) - conn->heard_ns;
	return quiet >= (conn->flags & DP_C_ANSWER_DUE ? DRAIN_OWED_NS : DRAIN_QUIET_NS);
}

uint32_t dp_tcp_drain(struct dp_tcp *tcp)
{
	uint32_t scan = dp_min32(tcp->conns_max, DRAIN_SCAN);
	for (uint32_t i = 0; i < scan && tcp->conns; i++) {
		if (tcp->drain_cursor >= tcp->conns_max)
			tcp->drain_cursor = 0;
		struct dp_conn *conn = &tcp->conn[tcp->drain_cursor++];
		if (drainable(conn))
			dp_conn_retire(conn);
	}
	dp_tcp_flush(tcp);
	return tcp->conns;
}

/* ---- half-open and TIME_WAIT ---- */

struct dp_mini *dp_mini_find(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash)
{
	for (uint32_t at = tcp->mini_heads[hash & tcp->mini_mask]; at; at = tcp->mini[at - 1].next) {
		struct dp_mini *mini = &tcp->mini[at - 1];
		if (mini->hash == hash && mini->peer_port == peer_port && mini->local == local && dp_addr_same(&mini->peer, peer))
			return mini;
	}
	return NULL;
}

static struct dp_mini *mini_take(struct dp_tcp *tcp, uint32_t *list, uint8_t kind, const struct tp_addr *peer, uint16_t peer_port,
				 uint32_t local, uint32_t hash)
{
	uint32_t index = *list - 1;
	struct dp_mini *mini = &tcp->mini[index];
	*list = mini->next;
	uint32_t *head = &tcp->mini_heads[hash & tcp->mini_mask];
	*mini = (struct dp_mini){
		.peer = *peer, .kind = kind, .peer_port = peer_port, .local = (uint16_t)local, .hash = hash, .next = *head};
	mini->timer.kind = DP_TIMER_HALF;
	*head = index + 1;
	return mini;
}

struct dp_mini *dp_half_take(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash)
{
	if (!tcp->half_free)
		return NULL;
	tcp->halves++;
	return mini_take(tcp, &tcp->half_free, DP_MINI_HALF, peer, peer_port, local, hash);
}

static void wait_unlink(struct dp_tcp *tcp, struct dp_mini *wait)
{
	if (wait->older)
		tcp->mini[wait->older - 1].newer = wait->newer;
	else
		tcp->wait_oldest = wait->newer;
	if (wait->newer)
		tcp->mini[wait->newer - 1].older = wait->older;
	else
		tcp->wait_newest = wait->older;
}

static void wait_append(struct dp_tcp *tcp, struct dp_mini *wait)
{
	uint32_t at = (uint32_t)(wait - tcp->mini) + 1;
	wait->expires_ns = dp_tcp_now(tcp) + DP_TIME_WAIT_NS;
	wait->newer = 0;
	wait->older = tcp->wait_newest;
	if (wait->older)
		tcp->mini[wait->older - 1].newer = at;
	else
		tcp->wait_oldest = at;
	tcp->wait_newest = at;
}

void dp_wait_refresh(struct dp_tcp *tcp, struct dp_mini *wait)
{
	wait_unlink(tcp, wait);
	wait_append(tcp, wait);
}

/* All last equally long, so the list in order of making is the order of expiry: no timer. When full, the oldest goes early. */
struct dp_mini *dp_wait_take(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash)
{
	if (!tcp->wait_free)
		dp_mini_give(tcp, &tcp->mini[tcp->wait_oldest - 1]);
	struct dp_mini *wait = mini_take(tcp, &tcp->wait_free, DP_MINI_WAIT, peer, peer_port, local, hash);
	tcp->waits++;
	wait_append(tcp, wait);
	return wait;
}

void dp_mini_give(struct dp_tcp *tcp, struct dp_mini *mini)
{
	uint32_t index = (uint32_t)(mini - tcp->mini);
	uint32_t *at = &tcp->mini_heads[mini->hash & tcp->mini_mask];
	while (*at != index + 1)
		at = &tcp->mini[*at - 1].next;
	*at = mini->next;
	bool half = mini->kind == DP_MINI_HALF;
	if (half) {
		dp_wheel_cancel(&mini->timer);
		tcp->halves--;
	} else {
		wait_unlink(tcp, mini);
		tcp->waits--;
	}
	uint32_t *list = half ? &tcp->half_free : &tcp->wait_free;
	mini->kind = DP_MINI_FREE;
	mini->next = *list;
	*list = index + 1;
}

uint32_t dp_wait_expire(struct dp_tcp *tcp)
{
	uint32_t expired = 0;
	while (tcp->wait_oldest && tcp->mini[tcp->wait_oldest - 1].expires_ns <= dp_tcp_now(tcp)) {
		dp_mini_give(tcp, &tcp->mini[tcp->wait_oldest - 1]);
		expired++;
	}
	return expired;
}
