/*
 * What the app calls: the stream operations of beacon/stream.h over a connection. One rx core, from inside any call up or outside
 * of them. They change state and leave the sending to the flush; only abort() sends (a RST) at once.
 */
#include "tcp.h"

static struct dp_conn *conn_of(struct dp_stream *stream)
{
	return (struct dp_conn *)(void *)stream; /* its first member */
}

static size_t stream_send(struct dp_stream *stream, const void *bytes, size_t count)
{
	struct dp_conn *conn = conn_of(stream);
	/* Too late: swallowed, so that nobody waits for room that never comes. */
	if (conn->state == DP_TCP_CLOSED || conn->flags & DP_C_FIN_QUEUED)
		return count;
	size_t room = conn->tcp->send_bytes - (conn->snd_end - conn->snd_una);
	uint32_t taken = dp_tx_write(conn, conn->snd_end, bytes, (uint32_t)(count < room ? count : room));
	if (taken) {
		conn->snd_end += taken;
		conn->flags &= ~(uint32_t)DP_C_ANSWER_DUE;
		conn->heard_ns = dp_tcp_now(conn->tcp);
		dp_conn_dirty(conn);
	}
	if (taken < count)
		conn->flags |= DP_C_WANT_WRITABLE;
	if (!taken && count && !conn->tx_chunks && !conn->brief_bytes)
		dp_shed_wait(conn); /* nothing is out whose ACK would wake it */
	return taken;
}

void dp_conn_close(struct dp_conn *conn)
{
	if (conn->state == DP_TCP_ESTABLISHED)
		conn->state = DP_TCP_FIN_WAIT_1;
	else if (conn->state == DP_TCP_CLOSE_WAIT)
		conn->state = DP_TCP_LAST_ACK;
	else
		return;
	/*
	 * Bytes that still come are acknowledged and dropped for a while instead of answered with a RST: a RST could overtake the
	 * answer just sent, and a client that is still uploading would never read its 413.
	 */
	conn->flags |= DP_C_FIN_QUEUED | DP_C_DISCARD;
	conn->idle_at = dp_tcp_now(conn->tcp) + dp_conn_patience(conn);
	dp_conn_dirty(conn);
}

void dp_conn_retire(struct dp_conn *conn)
{
	if (!(conn->flags & DP_C_APP_GONE)) {
		conn->flags |= DP_C_APP_GONE;
		dp_stream_closed(&conn->stream);
	}
	dp_conn_close(conn);
}

static void stream_close(struct dp_stream *stream)
{
	dp_conn_close(conn_of(stream));
}

static void stream_abort(struct dp_stream *stream)
{
	struct dp_conn *conn = conn_of(stream);
	if (conn->state == DP_TCP_CLOSED)
		return;
	dp_conn_rst_send(conn);
	dp_conn_end(conn);
}

static void stream_resume(struct dp_stream *stream)
{
	struct dp_conn *conn = conn_of(stream);
	if (conn->state == DP_TCP_CLOSED)
		return;
	conn->flags |= DP_C_RESUME;
	dp_conn_dirty(conn);
}

const struct dp_stream_ops dp_tcp_stream_ops = {
	.send = stream_send,
	.close = stream_close,
	.abort = stream_abort,
	.resume = stream_resume,
};
