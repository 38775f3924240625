/*
 * Inside the socket driver: one rx core's kernel sockets behind one io_uring. All of it is entered by that core only, but for open
 * and close (main thread, before and after).
 *
 *   port_socket.c      the ring: set-up, one system call a round at most, completions to their owners; open, drain, close
 *   socket_listen.c    sockets bound and shared between cores; accept
 *   socket_stream.c    TCP connections
 *   socket_datagram.c  UDP
 *
 * A completion's user_data is its kind in the low byte and an index above. A connection's or a send slot's memory is reused only
 * after all of its requests have completed, so an index is never stale.
 */
#ifndef TURNPIKE_SOCKET_PORT_H
#define TURNPIKE_SOCKET_PORT_H

#include "port.h"

#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum {
	DP_SOCKET_CONNECTIONS_MAX = 16384, /* less when the limit of open files is lower */
	DP_SOCKET_READ_BYTES = 8192,       /* one receive */
	DP_SOCKET_READ_BUFFERS = 512,
	DP_SOCKET_SMALL_BYTES = 512, /* each connection's own, twice: answers go out even when no block is free */
	DP_SOCKET_BLOCK_BYTES = 16384,
	DP_SOCKET_BLOCKS = 512,
	DP_SOCKET_DATAGRAM_BUFFERS = 256,
	DP_SOCKET_SLOT_BYTES = 1536, /* datagrams to send; larger ones leave by a plain system call */
	DP_SOCKET_SLOTS = 512,
	DP_SOCKET_ROUND_MAX = 512, /* completions handled in one round */
};

enum dp_socket_kind {
	DP_SOCKET_CANCEL, /* of a cancellation itself: nobody cares */
	DP_SOCKET_ACCEPT,
	DP_SOCKET_READ,
	DP_SOCKET_SEND,
	DP_SOCKET_DATAGRAM,
	DP_SOCKET_DATAGRAM_SEND,
};

/* Provided buffers: the kernel takes one when there is something to put in it. */
struct dp_socket_buffers {
	struct io_uring_buf_ring *ring;
	uint8_t *memory;
	uint32_t entries, bytes;
	uint16_t group;
	int returned; /* added since the last advance */
};

/* Bytes on their way out: filled as `next`, in the kernel's hands as `current`. */
struct dp_socket_output {
	uint8_t *data; /* NULL: none */
	uint32_t bytes, sent, room;
	bool block; /* data is a block of the pool, not the connection's own */
};

struct dp_socket_connection {
	struct dp_stream stream; /* first: ops get its address */
	struct dp_port *port;
	int fd;
	uint32_t index;
	bool reading, sending; /* a request is in the kernel */
	bool emptied;          /* the last receive took all that the socket had */
	bool stalled;          /* input took less than offered; the rest is held */
	bool resumed;          /* … and may be offered again */
	bool ended;            /* the peer's FIN was seen */
	bool closing;          /* the app has closed */
	bool fin_sent;         /* our FIN is out: what still comes is thrown away */
	bool aborting;         /* no call upwards but closed any more */
	bool cancelled;        /* requests are being cancelled */
	bool want_writable;    /* send took less than asked */
	bool dirty;            /* on the list of those to look at */
	bool lingering;        /* on the list of those that wait for the peer's FIN */
	uint8_t small_next;    /* which of the two small buffers the next output takes */
	uint32_t dirty_next, linger_next, linger_previous;
	uint64_t linger_ns; /* when waiting ends */
	uint64_t opened_ns;
	uint32_t held_at, held_bytes;
	struct dp_socket_output current, next;
	uint32_t free_next;
	uint8_t small[2][DP_SOCKET_SMALL_BYTES];
};

struct dp_socket_slot {
	struct msghdr message;
	struct iovec vector;
	struct sockaddr_in6 peer;
	uint32_t free_next;
	_Alignas(8) uint8_t control[64];
	uint8_t data[DP_SOCKET_SLOT_BYTES];
};

enum dp_socket_udp_state { DP_UDP_NONE, DP_UDP_OPEN, DP_UDP_DRAINING, DP_UDP_STOPPED };

struct dp_port {
	struct io_uring ring;
	bool ring_made, enabled;
	int event_fd; /* to sleep on; the ring signals it while `awaited` */
	bool awaited;
	pid_t thread; /* that polls; 0: none yet */
	struct dp_port_options options;
	bool draining;
	uint64_t now_ns;

	int listen_fd; /* -1: none */
	bool accepting;
	uint64_t accept_again_ns; /* 0, or when to try after running out of descriptors */

	struct dp_socket_connection *connection;
	uint32_t connections_max, connections, free_head;
	uint32_t dirty_head, dirty_tail;
	uint32_t linger_head, linger_tail; /* in order of linger_ns */
	struct dp_socket_buffers read;
	uint8_t *hold; /* a read buffer's worth for each connection; pages come into being with the first stall */
	uint8_t *block_memory;
	uint8_t *block_free[DP_SOCKET_BLOCKS];
	uint32_t blocks_free;

	int udp_fd; /* -1: none */
	int udp_family;
	bool udp_any; /* bound to the unspecified address: each datagram tells which address of ours it came to */
	enum dp_socket_udp_state udp_state;
	bool udp_reading;
	struct tp_endpoint udp_local;
	struct msghdr udp_message; /* shape of what is received */
	struct dp_socket_buffers datagram;
	struct dp_socket_slot *slot;
	uint32_t slot_free_head;
	uint64_t udp_look_ns;
	uint32_t udp_drops; /* the kernel's count so far */
};

enum { DP_SOCKET_NONE = UINT32_MAX };

/* ---- port_socket.c ---- */
/* A submission, or NULL when the ring is full even after submitting: try in the next round. */
struct io_uring_sqe *dp_socket_sqe(struct dp_port *port, enum dp_socket_kind kind, uint32_t index);
int dp_socket_buffers_make(struct dp_port *port, struct dp_socket_buffers *buffers, uint16_t group, uint32_t entries,
			   uint32_t bytes);
void dp_socket_buffers_free(struct dp_socket_buffers *buffers);
uint8_t *dp_socket_buffer(const struct dp_socket_buffers *buffers, uint32_t number);
void dp_socket_buffer_return(struct dp_socket_buffers *buffers, uint32_t number);
void *dp_socket_memory(size_t bytes, bool populate); /* zeroed pages or NULL */
struct tp_endpoint dp_socket_endpoint(const struct sockaddr_in6 *name);
socklen_t dp_socket_name(const struct tp_endpoint *endpoint, int family, struct sockaddr_in6 *name);

/* ---- socket_listen.c ---- */
/* Binds `endpoint`; `port_shared`: the port all cores use when the configuration says 0, in and out. Returns the socket or -errno. */
int dp_socket_bind(const struct dp_port_options *options, const struct tp_endpoint *endpoint, int type, uint16_t *port_shared);
int dp_socket_listen_open(struct dp_port *port);
void dp_socket_listen_round(struct dp_port *port); /* arms accept where it is not */
void dp_socket_accepted(struct dp_port *port, const struct io_uring_cqe *cqe);
void dp_socket_listen_stop(struct dp_port *port);

/* ---- socket_stream.c ---- */
int dp_socket_streams_open(struct dp_port *port);
void dp_socket_streams_close(struct dp_port *port); /* every connection is cut */
bool dp_socket_stream_begin(struct dp_port *port, int fd, const struct tp_endpoint *peer);
void dp_socket_read_done(struct dp_port *port, const struct io_uring_cqe *cqe);
void dp_socket_send_done(struct dp_port *port, const struct io_uring_cqe *cqe);
uint32_t dp_socket_streams_round(struct dp_port *port);      /* what changed since the last round goes into the ring */
uint32_t dp_socket_streams_busy(const struct dp_port *port); /* connections with bytes still to go up or out */

/* ---- socket_list.c ---- */
bool dp_socket_list(struct dp_port *port, struct dp_connection_list *list, uint32_t *cursor, uint32_t most);

/* ---- socket_datagram.c ---- */
int dp_socket_datagram_open(struct dp_port *port);
void dp_socket_datagram_close(struct dp_port *port);
void dp_socket_datagram_round(struct dp_port *port);
void dp_socket_datagram_read(struct dp_port *port, const struct io_uring_cqe *cqe);
void dp_socket_datagram_sent(struct dp_port *port, const struct io_uring_cqe *cqe);
void dp_socket_datagram_drain(struct dp_port *port);

#endif
