/*
 * TCP connections of the socket driver. Entered by the rx core that owns the port.
 *
 *                 accept
 *                   │
 *                 open ──── reads go up; what the app sends is gathered, and leaves once a round
 *                   │ app: close                          app: abort, or a read or send fails
 *              closing ──── what is queued leaves ──┐              │
 *                   │                               │          aborting ── requests cancelled
 *              fin sent ─── peer's FIN, or LINGER ──┤              │
 *                                                   └── closed ────┘
 *
 * Reading. One receive request per connection, each into a buffer that the kernel takes from a common pool when there are bytes.
 * What the app does not take is copied to the connection's own page of `hold`, and no new receive is made until the app resumes: the
 * TCP window closes by itself. So a connection holds at most one buffer's worth, the pool is whole again after each round, and no
 * number of stalled connections starves the others. (A multishot receive would save a submission, 3 to 5% of the requests per second
 * when measured, but may have taken many buffers before it can be stopped, and those would have to be held.) Behind a receive that left
 * the socket empty the next one only waits: trying first would fail nearly always, since the peer waits for its answer.
 *
 * Sending. Two outputs per connection: `next` is filled while `current` is in the kernel. An output is the connection's own 512
 * bytes, or a block of a common pool while there are any. When all blocks lie with clients that do not read, the others still get
 * their answers, 512 bytes at a time. The kernel gives up on a peer that acknowledges nothing (TCP_USER_TIMEOUT).
 *
 * After our FIN, what still comes is read and thrown away until the peer's FIN or for LINGER: closing with unread bytes would make
 * the kernel send a reset, which can destroy an answer on its way (RFC 2525 section 2.17).
 *
 * Calls upwards are made from completions and from the round, never from inside a call of the app. A stream's slot is free again
 * only when no request of it is in the kernel.
 */
#include "socket_port.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum { LINGER_NS = 2000000000 };

static const struct dp_stream_ops stream_ops;

static inline struct dp_socket_connection *connection_of(struct dp_stream *stream)
{
	return (struct dp_socket_connection *)stream;
}

/* ---- the list of connections to look at in the next round ---- */

static void touch(struct dp_port *port, struct dp_socket_connection *connection)
{
	if (connection->dirty)
		return;
	connection->dirty = true;
	connection->dirty_next = DP_SOCKET_NONE;
	if (port->dirty_tail == DP_SOCKET_NONE)
		port->dirty_head = connection->index;
	else
		port->connection[port->dirty_tail].dirty_next = connection->index;
	port->dirty_tail = connection->index;
}

/* ---- lingering ---- */

static void linger_start(struct dp_port *port, struct dp_socket_connection *connection)
{
	connection->lingering = true;
	connection->linger_ns = port->now_ns + LINGER_NS;
	connection->linger_next = DP_SOCKET_NONE;
	connection->linger_previous = port->linger_tail;
	if (port->linger_tail == DP_SOCKET_NONE)
		port->linger_head = connection->index;
	else
		port->connection[port->linger_tail].linger_next = connection->index;
	port->linger_tail = connection->index;
}

static void linger_stop(struct dp_port *port, struct dp_socket_connection *connection)
{
	if (!connection->lingering)
		return;
	connection->lingering = false;
	if (connection->linger_previous == DP_SOCKET_NONE)
		port->linger_head = connection->linger_next;
	else
		port->connection[connection->linger_previous].linger_next = connection->linger_next;
	if (connection->linger_next == DP_SOCKET_NONE)
		port->linger_tail = connection->linger_previous;
	else
		port->connection[connection->linger_next].linger_previous = connection->linger_previous;
}

/* ---- output ---- */

static void output_release(struct dp_port *port, struct dp_socket_output *output)
{
	if (output->block)
		port->block_free[port->blocks_free++] = output->data;
	*output = (struct dp_socket_output){0};
}

/* Gives `next` room for `more` bytes if that can be had: its own small buffer first, a block when that is too small. */
static void output_room(struct dp_port *port, struct dp_socket_connection *connection, size_t more)
{
	struct dp_socket_output *next = &connection->next;

	if (next->data == NULL) {
		next->data = connection->small[connection->small_next];
		next->room = DP_SOCKET_SMALL_BYTES;
	}
	if (next->room - next->bytes < more && !next->block && port->blocks_free > 0) {
		uint8_t *block = port->block_free[--port->blocks_free];

		memcpy(block, next->data, next->bytes);
		next->data = block;
		next->room = DP_SOCKET_BLOCK_BYTES;
		next->block = true;
	}
}

static size_t stream_send(struct dp_stream *stream, const void *bytes, size_t count)
{
	struct dp_socket_connection *connection = connection_of(stream);
	struct dp_port *port = connection->port;
	struct dp_socket_output *next = &connection->next;
	size_t taken;

	if (connection->closing || connection->aborting)
		return 0;
	output_room(port, connection, count);
	taken = next->room - next->bytes < count ? next->room - next->bytes : count;
	memcpy(next->data + next->bytes, bytes, taken);
	next->bytes += (uint32_t)taken;
	if (taken < count)
		connection->want_writable = true;
	touch(port, connection);
	return taken;
}

static void stream_close(struct dp_stream *stream)
{
	struct dp_socket_connection *connection = connection_of(stream);

	connection->closing = true;
	touch(connection->port, connection);
}

static void stream_abort(struct dp_stream *stream)
{
	struct dp_socket_connection *connection = connection_of(stream);

	connection->aborting = true;
	touch(connection->port, connection);
}

static void stream_resume(struct dp_stream *stream)
{
	struct dp_socket_connection *connection = connection_of(stream);

	connection->resumed = true;
	touch(connection->port, connection);
}

static const struct dp_stream_ops stream_ops = {
	.send = stream_send,
	.close = stream_close,
	.abort = stream_abort,
	.resume = stream_resume,
};

/* False: the ring is full, come again. */
static bool output_submit(struct dp_port *port, struct dp_socket_connection *connection)
{
	struct dp_socket_output *current = &connection->current;
	struct io_uring_sqe *sqe;

	if (connection->sending)
		return true;
	if (current->data == NULL) {
		if (connection->next.bytes == 0)
			return true;
		*current = connection->next;
		connection->next = (struct dp_socket_output){0};
		if (!current->block)
			connection->small_next ^= 1;
	}
	sqe = dp_socket_sqe(port, DP_SOCKET_SEND, connection->index);
	if (sqe == NULL)
		return false;
	io_uring_prep_send(sqe, connection->fd, current->data + current->sent, current->bytes - current->sent,
			   MSG_NOSIGNAL | MSG_WAITALL);
	connection->sending = true;
	return true;
}

static void fail(struct dp_port *port, struct dp_socket_connection *connection)
{
	connection->aborting = true;
	touch(port, connection);
}

void dp_socket_send_done(struct dp_port *port, const struct io_uring_cqe *cqe)
{
	struct dp_socket_connection *connection = &port->connection[cqe->user_data >> 8];
	struct dp_socket_output *current = &connection->current;

	connection->sending = false;
	touch(port, connection);
	if (connection->aborting)
		return;
	if (cqe->res < 0 && cqe->res != -EINTR && cqe->res != -EAGAIN) {
		fail(port, connection);
		return;
	}
	if (cqe->res > 0)
		current->sent += (uint32_t)cqe->res;
	if (current->sent < current->bytes)
		return; /* the rest in the next round */
	output_release(port, current);
	output_submit(port, connection); /* before the app is asked for more, so that it finds room */
	if (connection->want_writable && !connection->closing) {
		connection->want_writable = false;
		dp_stream_writable(&connection->stream);
	}
}

/* ---- input ---- */

/* False: the ring is full, come again. */
static bool read_submit(struct dp_port *port, struct dp_socket_connection *connection)
{
	struct io_uring_sqe *sqe;

	if (connection->reading || connection->stalled || connection->ended)
		return true;
	sqe = dp_socket_sqe(port, DP_SOCKET_READ, connection->index);
	if (sqe == NULL)
		return false;
	io_uring_prep_recv(sqe, connection->fd, NULL, port->read.bytes, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = port->read.group;
	if (connection->emptied)
		sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
	connection->reading = true;
	return true;
}

static uint8_t *hold_of(const struct dp_port *port, const struct dp_socket_connection *connection)
{
	return port->hold + (size_t)connection->index * DP_SOCKET_READ_BYTES;
}

/* The app took `taken` of what was offered; the rest, if any, waits for resume. */
static void read_offered(struct dp_port *port, struct dp_socket_connection *connection, const uint8_t *bytes, size_t count,
			 size_t taken)
{
	if (taken >= count || connection->aborting || connection->closing)
		return;
	memcpy(hold_of(port, connection), bytes + taken, count - taken);
	connection->held_at = 0;
	connection->held_bytes = (uint32_t)(count - taken);
	connection->stalled = true;
}

void dp_socket_read_done(struct dp_port *port, const struct io_uring_cqe *cqe)
{
	struct dp_socket_connection *connection = &port->connection[cqe->user_data >> 8];
	const uint32_t number = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	const bool heard = !connection->aborting && !connection->closing;

	connection->reading = false;
	connection->emptied = cqe->res > 0 && !(cqe->flags & IORING_CQE_F_SOCK_NONEMPTY);
	touch(port, connection);
	if (cqe->res > 0 && heard) {
		const uint8_t *bytes = dp_socket_buffer(&port->read, number);
		const size_t count = (size_t)cqe->res;

		connection->resumed = false; /* whatever was resumed, these bytes are new */
		read_offered(port, connection, bytes, count, dp_stream_input(&connection->stream, bytes, count));
	} else if (cqe->res == 0) {
		connection->ended = true;
		if (heard)
			dp_stream_eof(&connection->stream);
	} else if (cqe->res < 0 && cqe->res != -ENOBUFS && cqe->res != -EINTR && cqe->res != -EAGAIN && cqe->res != -ECANCELED) {
		fail(port, connection);
	}
	if (cqe->flags & IORING_CQE_F_BUFFER)
		dp_socket_buffer_return(&port->read, number);
}

static void held_offer(struct dp_port *port, struct dp_socket_connection *connection)
{
	const uint8_t *bytes = hold_of(port, connection) + connection->held_at;
	const size_t count = connection->held_bytes;
	size_t taken;

	connection->resumed = false;
	taken = dp_stream_input(&connection->stream, bytes, count);
	if (taken > count)
		taken = count;
	connection->held_at += (uint32_t)taken;
	connection->held_bytes -= (uint32_t)taken;
	connection->stalled = connection->held_bytes > 0;
}

/* ---- the end ---- */

static void finish(struct dp_port *port, struct dp_socket_connection *connection)
{
	linger_stop(port, connection);
	output_release(port, &connection->current);
	output_release(port, &connection->next);
	if (connection->aborting) {
		const struct linger reset = {.l_onoff = 1};

		setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	close(connection->fd);
	connection->fd = -1;
	TP_COUNT(port->options.counters, CONNECTIONS_CLOSED);
	port->connections--;
	dp_stream_closed(&connection->stream);
	connection->free_next = port->free_head;
	port->free_head = connection->index;
}

/* Gets a connection that must end out of the kernel. True: done with it. */
static bool end_round(struct dp_port *port, struct dp_socket_connection *connection)
{
	struct io_uring_sqe *sqe;

	if (!connection->reading && !connection->sending) {
		finish(port, connection);
		return true;
	}
	if (!connection->cancelled) {
		sqe = dp_socket_sqe(port, DP_SOCKET_CANCEL, 0);
		if (sqe == NULL)
			return false;
		io_uring_prep_cancel_fd(sqe, connection->fd, IORING_ASYNC_CANCEL_ALL);
		connection->cancelled = true;
	}
	return true;
}

/* All is sent: our FIN, then the peer's. True: done with it. */
static bool close_round(struct dp_port *port, struct dp_socket_connection *connection)
{
	if (!connection->fin_sent) {
		connection->fin_sent = true;
		connection->stalled = false; /* what was held is thrown away like the rest */
		connection->held_bytes = 0;
		if (!connection->ended && shutdown(connection->fd, SHUT_WR) != 0)
			connection->ended = true; /* the peer is gone */
		linger_start(port, connection);
	}
	if (connection->ended || connection->linger_ns <= port->now_ns)
		return end_round(port, connection);
	return read_submit(port, connection);
}

/* Brings a connection into the kernel as it stands now. False: the ring is full, come again. */
static bool connection_round(struct dp_port *port, struct dp_socket_connection *connection)
{
	if (!connection->aborting && !connection->closing && connection->stalled && connection->resumed)
		held_offer(port, connection);
	if (connection->aborting)
		return end_round(port, connection);
	if (!output_submit(port, connection))
		return false;
	if (connection->closing)
		return connection->sending ? true : close_round(port, connection);
	if (connection->stalled && connection->resumed)
		touch(port, connection);
	return read_submit(port, connection);
}

uint32_t dp_socket_streams_round(struct dp_port *port)
{
	uint32_t at = port->dirty_head, count = 0;

	while (port->linger_head != DP_SOCKET_NONE && port->connection[port->linger_head].linger_ns <= port->now_ns) {
		struct dp_socket_connection *connection = &port->connection[port->linger_head];

		linger_stop(port, connection);
		touch(port, connection);
	}
	/* What is touched from here on is for the next round. */
	at = port->dirty_head;
	port->dirty_head = port->dirty_tail = DP_SOCKET_NONE;
	while (at != DP_SOCKET_NONE) {
		struct dp_socket_connection *connection = &port->connection[at];

		at = connection->dirty_next;
		connection->dirty = false;
		if (!connection_round(port, connection))
			touch(port, connection);
		count++;
	}
	return count;
}

/* ---- begin, open, close ---- */

bool dp_socket_stream_begin(struct dp_port *port, int fd, const struct tp_endpoint *peer)
{
	struct dp_socket_connection *connection;
	uint32_t index = port->free_head;

	if (index == DP_SOCKET_NONE)
		return false;
	connection = &port->connection[index];
	port->free_head = connection->free_next;
	memset(connection, 0, offsetof(struct dp_socket_connection, small));
	connection->index = index;
	connection->port = port;
	connection->fd = fd;
	connection->opened_ns = port->now_ns;
	connection->stream = (struct dp_stream){
		.ops = &stream_ops,
		.beacon = port->options.beacon,
		.peer = *peer,
		.ingest = port->options.ingest_index,
	};
	if (!dp_stream_opened(&connection->stream)) {
		connection->fd = -1;
		connection->free_next = port->free_head;
		port->free_head = index;
		return false;
	}
	TP_COUNT(port->options.counters, CONNECTIONS_OPENED);
	port->connections++;
	touch(port, connection);
	return true;
}

uint32_t dp_socket_streams_busy(const struct dp_port *port)
{
	uint32_t busy = 0, left = port->connections;

	for (uint32_t i = 0; i < port->connections_max && left > 0; i++) {
		const struct dp_socket_connection *connection = &port->connection[i];

		if (connection->fd < 0)
			continue;
		left--;
		busy += connection->sending || connection->next.bytes > 0 || connection->held_bytes > 0 || connection->closing ||
			connection->aborting;
	}
	return busy;
}

int dp_socket_streams_open(struct dp_port *port)
{
	const uint32_t count = port->connections_max;

	port->connection = dp_socket_memory(count * sizeof(*port->connection), true);
	port->hold = dp_socket_memory((size_t)count * DP_SOCKET_READ_BYTES, false);
	port->block_memory = dp_socket_memory((size_t)DP_SOCKET_BLOCKS * DP_SOCKET_BLOCK_BYTES, true);
	if (port->connection == NULL || port->hold == NULL || port->block_memory == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		port->connection[i].fd = -1;
		port->connection[i].index = i;
		port->connection[i].free_next = i + 1 < count ? i + 1 : DP_SOCKET_NONE;
	}
	port->free_head = 0;
	port->dirty_head = port->dirty_tail = port->linger_head = port->linger_tail = DP_SOCKET_NONE;
	for (uint32_t i = 0; i < DP_SOCKET_BLOCKS; i++)
		port->block_free[port->blocks_free++] = port->block_memory + (size_t)i * DP_SOCKET_BLOCK_BYTES;
	return dp_socket_buffers_make(port, &port->read, 0, DP_SOCKET_READ_BUFFERS, DP_SOCKET_READ_BYTES);
}

void dp_socket_streams_close(struct dp_port *port)
{
	for (uint32_t i = 0; port->connection != NULL && i < port->connections_max; i++) {
		struct dp_socket_connection *connection = &port->connection[i];

		if (connection->fd < 0)
			continue;
		shutdown(connection->fd, SHUT_WR);
		close(connection->fd);
		connection->fd = -1;
		TP_COUNT(port->options.counters, CONNECTIONS_CLOSED);
		port->connections--;
		dp_stream_closed(&connection->stream);
	}
}
