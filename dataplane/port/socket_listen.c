/*
 * Sockets bound and shared between cores, and accept. One listener per rx core with SO_REUSEPORT: the kernel spreads connections.
 *
 * SO_REUSEPORT would also let a second node of the same user take half of the connections without a word. So the first core looks
 * whether the port is free before it shares it.
 *
 * Accept is one multishot request. It ends on errors: out of descriptors, it is tried again after a while; otherwise at once.
 * Sources: socket(7), tcp(7), io_uring_prep_multishot_accept(3).
 */
#include "socket_port.h"

#include "turnpike/log.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	BACKLOG = 4096,
	ACCEPT_AGAIN_NS = 100000000,
	USER_TIMEOUT_MS = 30000, /* unacknowledged that long: the peer is gone */
	KEEPALIVE_IDLE_S = 60,
	KEEPALIVE_INTERVAL_S = 10,
	KEEPALIVE_PROBES = 6,
};

static int option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* A socket bound to `name`, alone or shared. Returns it or -errno. */
static int bind_one(const struct sockaddr_in6 *name, socklen_t bytes, int type, bool shared)
{
	static const struct sockaddr_in6 any = {.sin6_family = AF_INET6};
	const int fd = socket(name->sin6_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		result = option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* connections of the last run in TIME_WAIT */
	if (result == 0 && shared)
		result = option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	/* [::] serves both families, whatever the system's default is. */
	if (result == 0 && name->sin6_family == AF_INET6)
		result = option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY,
				    memcmp(&name->sin6_addr, &any.sin6_addr, sizeof(any.sin6_addr)) != 0);
	if (result == 0 && bind(fd, (const struct sockaddr *)name, bytes) != 0)
		result = -errno;
	if (result == 0)
		return fd;
	close(fd);
	return result;
}

int dp_socket_bind(const struct dp_port_options *options, const struct tp_endpoint *endpoint, int type, uint16_t *port_shared)
{
	struct tp_endpoint wanted = *endpoint;
	struct sockaddr_in6 name;
	socklen_t bytes;
	int fd = 0;

	if (wanted.port == 0 && port_shared != NULL && options->queue > 0)
		wanted.port = *port_shared;
	bytes = dp_socket_name(&wanted, endpoint->addr.family == 4 ? AF_INET : AF_INET6, &name);
	if (options->queues > 1 && options->queue == 0 && wanted.port != 0) {
		fd = bind_one(&name, bytes, type, false);
		if (fd >= 0)
			close(fd);
	}
	if (fd >= 0)
		fd = bind_one(&name, bytes, type, options->queues > 1);
	if (fd >= 0 && type == SOCK_STREAM && listen(fd, BACKLOG) != 0) {
		const int error = errno;

		close(fd);
		fd = -error;
	}
	if (fd < 0) {
		char text[TP_ENDPOINT_TEXT_BYTES];

		tp_endpoint_text(&wanted, text);
		tp_logf(TP_ERROR, "cannot listen", "protocol=%s address=%s error=\"%s\"", type == SOCK_STREAM ? "http" : "udp",
			text, strerror(-fd));
		return fd;
	}
	bytes = sizeof(name);
	if (port_shared != NULL && getsockname(fd, (struct sockaddr *)&name, &bytes) == 0)
		*port_shared = ntohs(name.sin6_port); /* where sockaddr_in has its port too */
	return fd;
}

int dp_socket_listen_open(struct dp_port *port)
{
	const int fd = dp_socket_bind(&port->options, &port->options.ingest->http, SOCK_STREAM, port->options.http_port);

	if (fd < 0)
		return fd;
	/* Connections inherit these. That one of them fails is no reason not to serve. */
	option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
	option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	option_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	port->listen_fd = fd;
	return 0;
}

void dp_socket_listen_round(struct dp_port *port)
{
	struct io_uring_sqe *sqe;

	if (port->listen_fd < 0 || port->accepting || port->draining)
		return;
	if (port->accept_again_ns > port->now_ns)
		return;
	sqe = dp_socket_sqe(port, DP_SOCKET_ACCEPT, 0);
	if (sqe == NULL)
		return;
	io_uring_prep_multishot_accept(sqe, port->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	port->accepting = true;
	port->accept_again_ns = 0;
}

static void refuse(int fd)
{
	const struct linger reset = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

void dp_socket_accepted(struct dp_port *port, const struct io_uring_cqe *cqe)
{
	const struct dp_port_options *options = &port->options;
	struct sockaddr_in6 name;
	struct tp_endpoint peer;
	socklen_t bytes = sizeof(name);

	if (!(cqe->flags & IORING_CQE_F_MORE))
		port->accepting = false;
	if (cqe->res < 0) {
		if (cqe->res == -EMFILE || cqe->res == -ENFILE || cqe->res == -ENOBUFS || cqe->res == -ENOMEM) {
			TP_COUNT(options->counters, CONNECTIONS_REFUSED);
			port->accept_again_ns = port->now_ns + ACCEPT_AGAIN_NS;
		}
		return;
	}
	/* One request accepts many, so there is no room for each one's address in it. */
	if (getpeername(cqe->res, (struct sockaddr *)&name, &bytes) != 0) {
		close(cqe->res); /* gone already */
		return;
	}
	peer = dp_socket_endpoint(&name);
	if (options->blocked != NULL && options->blocked(options->blocked_context, &peer.addr)) {
		TP_COUNT(options->counters, CONNECTIONS_BLOCKLISTED);
		refuse(cqe->res);
	} else if (port->draining || !dp_socket_stream_begin(port, cqe->res, &peer)) {
		TP_COUNT(options->counters, CONNECTIONS_REFUSED);
		refuse(cqe->res);
	}
}

void dp_socket_listen_stop(struct dp_port *port)
{
	struct io_uring_sqe *sqe;

	if (port->listen_fd < 0)
		return;
	/* The request in the kernel keeps the listener open until it is cancelled. */
	if (port->accepting && port->enabled && (sqe = dp_socket_sqe(port, DP_SOCKET_CANCEL, 0)) != NULL) {
		io_uring_prep_cancel64(sqe, DP_SOCKET_ACCEPT, 0);
		io_uring_submit(&port->ring);
	}
	shutdown(port->listen_fd, SHUT_RDWR);
	close(port->listen_fd);
	port->listen_fd = -1;
}
