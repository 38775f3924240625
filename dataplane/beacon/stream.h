/*
 * The seam between receive and beacons. Below it: the DPDK stack or kernel sockets (dataplane/net, dataplane/port). Above it: HTTP
 * and UDP beacons (dataplane/beacon), the same code for both. All calls on one rx core, never re-entered from another thread.
 *
 * A stream is one TCP connection. The transport owns `struct dp_stream` (inside its own connection object) and calls up through
 * dp_stream_*() functions that HTTP implements; HTTP calls down through stream->ops.
 */
#ifndef TURNPIKE_STREAM_H
#define TURNPIKE_STREAM_H

#include "turnpike/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_stream;
struct dp_beacon; /* an rx core's beacon state: beacon/beacon.h */

struct dp_stream_ops {
	/*
	 * Queues bytes for sending; copies them. Takes all or as much as the send buffer has room for; returns how much. When less than
	 * asked, dp_stream_writable() is called once there is room again.
	 */
	size_t (*send)(struct dp_stream *stream, const void *bytes, size_t count);
	/* Graceful: sends what is queued, then FIN. The stream stays until dp_stream_closed(). No send after it. */
	void (*close)(struct dp_stream *stream);
	/* Reset at once. dp_stream_closed() is called before it returns or later, exactly once. */
	void (*abort)(struct dp_stream *stream);
	/* The app can take input again after it took less than offered. The transport offers the rest (not from inside this call). */
	void (*resume)(struct dp_stream *stream);
};

struct dp_stream {
	const struct dp_stream_ops *ops; /* transport sets */
	struct dp_beacon *beacon;        /* transport sets before dp_stream_opened() */
	void *app;                       /* HTTP's own */
	struct tp_endpoint peer;
	uint16_t ingest; /* index of the config's ingest entry: trusted prefixes, auth, rate limit */
};

/* ---- called by the transport, implemented in beacon/http.c ---- */

/* A connection is established. False: no room; the transport resets it. */
bool dp_stream_opened(struct dp_stream *stream);
/*
 * In-order bytes. Returns how many were taken; fewer means back-pressure: the transport keeps the rest, stops reading (the TCP
 * window closes), and offers it again after ops->resume().  The bytes need not live beyond the call.
 */
size_t dp_stream_input(struct dp_stream *stream, const uint8_t *bytes, size_t count);
/* The peer sent FIN after all offered bytes. HTTP still may send, and calls close() itself. */
void dp_stream_eof(struct dp_stream *stream);
/* Room to send again. */
void dp_stream_writable(struct dp_stream *stream);
/* The connection is gone, for whatever reason; last call. HTTP forgets it; answers still owed go nowhere. */
void dp_stream_closed(struct dp_stream *stream);

/* ---- datagrams: called by the transport, implemented in beacon/datagram.c ---- */

/* Where a datagram came from and how to answer it. Copied by the beacon layer for later acknowledgement; so plain data, 64 bytes. */
struct dp_datagram_path {
	/* Sends one datagram back along the path; copies the bytes. Best effort. */
	void (*send)(const struct dp_datagram_path *path, const void *bytes, size_t count);
	void *transport; /* the port or socket */
	struct tp_endpoint peer;
	struct tp_endpoint local; /* our address that it was sent to, the source of the answer */
	uint16_t ingest;
};

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count);

#endif
