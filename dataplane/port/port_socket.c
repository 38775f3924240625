/*
 * The socket driver of ports: kernel sockets through one io_uring per rx core.
 *
 *   a round:  what changed since the last one ─► submissions ─► one io_uring_enter, if there is anything to submit or to run
 *             ─► completions ─► accept / read / send / datagram
 *
 * An idle round makes no system call: with DEFER_TASKRUN the kernel raises a flag in the ring when it has work for us. To sleep, a
 * core asks for a descriptor: the ring's own would not do, because the kernel (6.18 too) wakes nobody who polls it when it defers
 * work. An eventfd is woken. It is told to be quiet except while the core may sleep; asking for it makes it speak, and readable at
 * once when there is work already.
 *
 * The ring is made at open, on the main thread, but belongs to one submitter, the rx core: it is made disabled, and enabled by the
 * first poll. From then on only that thread may submit; close, on the main thread again, makes plain system calls only.
 * Source: io_uring_setup(2), io_uring_enter(2), liburing 2.3. Needs Linux 6.1.
 */
#include "socket_port.h"

#include "turnpike/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SUBMISSIONS = 2048, COMPLETIONS = 16384 };

/* ---- what the parts share ---- */

void *dp_socket_memory(size_t bytes, bool populate)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : MAP_NORESERVE), -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

struct io_uring_sqe *dp_socket_sqe(struct dp_port *port, enum dp_socket_kind kind, uint32_t index)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&port->ring);

	if (sqe == NULL) {
		io_uring_submit(&port->ring);
		sqe = io_uring_get_sqe(&port->ring);
	}
	if (sqe != NULL)
		sqe->user_data = (uint64_t)index << 8 | kind; /* liburing 2.3's prep functions leave it alone */
	return sqe;
}

int dp_socket_buffers_make(struct dp_port *port, struct dp_socket_buffers *buffers, uint16_t group, uint32_t entries,
			   uint32_t bytes)
{
	struct io_uring_buf_reg reg = {.ring_entries = entries, .bgid = group};
	int result;

	buffers->entries = entries;
	buffers->bytes = bytes;
	buffers->group = group;
	buffers->ring = dp_socket_memory(entries * sizeof(struct io_uring_buf), true);
	buffers->memory = dp_socket_memory((size_t)entries * bytes, true);
	if (buffers->ring == NULL || buffers->memory == NULL)
		return -ENOMEM;
	reg.ring_addr = (uint64_t)(uintptr_t)buffers->ring;
	result = io_uring_register_buf_ring(&port->ring, &reg, 0);
	if (result != 0)
		return result;
	io_uring_buf_ring_init(buffers->ring);
	for (uint32_t i = 0; i < entries; i++)
		dp_socket_buffer_return(buffers, i);
	io_uring_buf_ring_advance(buffers->ring, buffers->returned);
	buffers->returned = 0;
	return 0;
}

void dp_socket_buffers_free(struct dp_socket_buffers *buffers)
{
	if (buffers->ring != NULL)
		munmap(buffers->ring, buffers->entries * sizeof(struct io_uring_buf));
	if (buffers->memory != NULL)
		munmap(buffers->memory, (size_t)buffers->entries * buffers->bytes);
	buffers->ring = NULL;
	buffers->memory = NULL;
}

uint8_t *dp_socket_buffer(const struct dp_socket_buffers *buffers, uint32_t number)
{
	return buffers->memory + (size_t)number * buffers->bytes;
}

/* Seen by the kernel at the end of the round. */
void dp_socket_buffer_return(struct dp_socket_buffers *buffers, uint32_t number)
{
	io_uring_buf_ring_add(buffers->ring, dp_socket_buffer(buffers, number), buffers->bytes, (uint16_t)number,
			      (int)buffers->entries - 1, buffers->returned++);
}

struct tp_endpoint dp_socket_endpoint(const struct sockaddr_in6 *name)
{
	struct tp_endpoint endpoint = {0};

	if (name->sin6_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)name;

		endpoint.addr = tp_addr_v4((const uint8_t *)&v4->sin_addr);
		endpoint.port = ntohs(v4->sin_port);
	} else if (name->sin6_family == AF_INET6) {
		endpoint.addr = tp_addr_v6(name->sin6_addr.s6_addr);
		endpoint.port = ntohs(name->sin6_port);
	}
	return endpoint;
}

/* On an IPv6 socket an IPv4 peer is ::ffff:a.b.c.d, which is how tp_addr keeps it. */
socklen_t dp_socket_name(const struct tp_endpoint *endpoint, int family, struct sockaddr_in6 *name)
{
	memset(name, 0, sizeof(*name));
	if (family == AF_INET) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)name;

		v4->sin_family = AF_INET;
		v4->sin_port = htons(endpoint->port);
		memcpy(&v4->sin_addr, endpoint->addr.byte + 12, 4);
		return sizeof(*v4);
	}
	name->sin6_family = AF_INET6;
	name->sin6_port = htons(endpoint->port);
	memcpy(&name->sin6_addr, endpoint->addr.byte, 16);
	return sizeof(*name);
}

/* ---- the ring ---- */

static void ring_error_log(int error)
{
	if (error == EPERM)
		tp_logf(TP_ERROR, "io_uring is not permitted here, and the socket driver needs it",
			"error=\"%s\" command=\"sysctl kernel.io_uring_disabled=0\" hint=\"in a container, its seccomp profile\"",
			strerror(error));
	else if (error == ENOSYS)
		tp_logf(TP_ERROR, "this kernel has no io_uring, and the socket driver needs it", "error=\"%s\" need=\"Linux 6.1\"",
			strerror(error));
	else if (error == EINVAL)
		tp_logf(TP_ERROR, "this kernel's io_uring is too old for the socket driver", "error=\"%s\" need=\"Linux 6.1\"",
			strerror(error));
	else
		tp_logf(TP_ERROR, "io_uring cannot be set up", "error=\"%s\"", strerror(error));
}

static int ring_make(struct dp_port *port)
{
	static const uint32_t wish[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int result = -EINVAL;

	for (size_t i = 0; i < sizeof(wish) / sizeof(wish[0]) && result == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = wish[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
			.cq_entries = COMPLETIONS,
		};

		result = io_uring_queue_init_params(SUBMISSIONS, &port->ring, &params);
	}
	if (result != 0) {
		ring_error_log(-result);
		return result;
	}
	port->ring_made = true;
	port->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (port->event_fd < 0)
		return -errno;
	io_uring_cq_eventfd_toggle(&port->ring, false);
	result = io_uring_register_eventfd(&port->ring, port->event_fd);
	if (result != 0)
		ring_error_log(-result);
	return result;
}

static void ring_enable(struct dp_port *port)
{
	/* liburing 2.3 declares io_uring_enable_rings() and does not export it. */
	if (syscall(__NR_io_uring_register, port->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) != 0) {
		tp_logf(TP_ERROR, "io_uring cannot be enabled", "error=\"%s\"", strerror(errno));
		abort(); /* the flags are ours, so this is a bug of ours */
	}
	port->enabled = true;
	port->thread = gettid();
}

/* True if the kernel waits for us to run its deferred work, or holds completions that did not fit. A plain look at the ring. */
static bool ring_has_work(const struct dp_port *port)
{
	return (IO_URING_READ_ONCE(*port->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Submits and lets the kernel post what is ready, in one system call or none. */
static void ring_enter(struct dp_port *port)
{
	if (ring_has_work(port))
		io_uring_submit_and_get_events(&port->ring);
	else if (io_uring_sq_ready(&port->ring) > 0)
		io_uring_submit(&port->ring);
}

static void completion_handle(struct dp_port *port, const struct io_uring_cqe *cqe)
{
	switch ((enum dp_socket_kind)(cqe->user_data & 0xff)) {
	case DP_SOCKET_ACCEPT:
		dp_socket_accepted(port, cqe);
		break;
	case DP_SOCKET_READ:
		dp_socket_read_done(port, cqe);
		break;
	case DP_SOCKET_SEND:
		dp_socket_send_done(port, cqe);
		break;
	case DP_SOCKET_DATAGRAM:
		dp_socket_datagram_read(port, cqe);
		break;
	case DP_SOCKET_DATAGRAM_SEND:
		dp_socket_datagram_sent(port, cqe);
		break;
	case DP_SOCKET_CANCEL:
		break;
	}
}

static void buffers_advance(struct dp_socket_buffers *buffers)
{
	if (buffers->returned > 0)
		io_uring_buf_ring_advance(buffers->ring, buffers->returned);
	buffers->returned = 0;
}

static uint32_t completions_reap(struct dp_port *port)
{
	struct io_uring_cqe *cqe;
	uint32_t count = 0;
	unsigned int head;

	io_uring_for_each_cqe(&port->ring, head, cqe)
	{
		if (count == DP_SOCKET_ROUND_MAX)
			break;
		completion_handle(port, cqe);
		count++;
	}
	io_uring_cq_advance(&port->ring, count);
	buffers_advance(&port->read);
	buffers_advance(&port->datagram);
	return count;
}

static void sleep_end(struct dp_port *port)
{
	eventfd_t count;

	port->awaited = false;
	io_uring_cq_eventfd_toggle(&port->ring, false);
	eventfd_read(port->event_fd, &count);
}

static uint32_t socket_poll(struct dp_port *port, uint64_t now_ns)
{
	uint32_t done;

	if (!port->enabled)
		ring_enable(port);
	if (port->awaited)
		sleep_end(port);
	port->now_ns = now_ns;
	dp_socket_listen_round(port);
	dp_socket_datagram_round(port);
	done = dp_socket_streams_round(port);
	ring_enter(port);
	return done + completions_reap(port);
}

static int socket_fd(struct dp_port *port)
{
	port->awaited = true;
	io_uring_cq_eventfd_toggle(&port->ring, true);
	/* full fence: the kernel sees that the descriptor may speak, or we see its work; pairs with its atomic list of work */
	atomic_thread_fence(memory_order_seq_cst);
	if (ring_has_work(port) || io_uring_cq_ready(&port->ring) > 0 || port->dirty_head != DP_SOCKET_NONE)
		eventfd_write(port->event_fd, 1);
	return port->event_fd;
}

static uint32_t socket_drain(struct dp_port *port, uint64_t now_ns)
{
	port->now_ns = now_ns;
	if (!port->draining) {
		port->draining = true;
		dp_socket_listen_stop(port);
	}
	dp_socket_datagram_drain(port);
	return dp_socket_streams_busy(port) + (port->udp_state == DP_UDP_DRAINING);
}

/* ---- open and close ---- */

/* A connection is a descriptor: take what the hard limit gives, and no more connections than that. */
static uint32_t connections_limit(const struct dp_port_options *options)
{
	const rlim_t cores = options->queues > 0 ? options->queues : 1;
	const rlim_t others = 1024; /* log files, segments, rings */
	struct rlimit limit;
	rlim_t share;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		const struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	share = limit.rlim_cur > 2 * others ? (limit.rlim_cur - others) / cores : limit.rlim_cur / 2;
	if (share >= DP_SOCKET_CONNECTIONS_MAX)
		return DP_SOCKET_CONNECTIONS_MAX;
	if (options->queue == 0)
		tp_logf(TP_WARN, "limit of open files bounds TCP connections",
			"files=%llu connections=%llu command=\"ulimit -n 65536\"", (unsigned long long)limit.rlim_cur,
			(unsigned long long)share);
	return share > 16 ? (uint32_t)share : 16;
}

static void socket_close(struct dp_port *port)
{
	if (port == NULL)
		return;
	dp_socket_streams_close(port);
	if (port->listen_fd >= 0)
		close(port->listen_fd);
	if (port->udp_fd >= 0)
		close(port->udp_fd);
	/*
	 * The memory below must outlive the kernel's use of it. A polling thread that has ended took its requests with it. If it is
	 * this thread, requests are cancelled here; a send that has been given to the socket is complete by then.
	 */
	if (port->ring_made && port->enabled && port->thread == gettid()) {
		struct io_uring_sync_cancel_reg all = {
			.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL, .fd = -1, .timeout = {.tv_sec = 1}};

		io_uring_register_sync_cancel(&port->ring, &all);
		io_uring_get_events(&port->ring);
	}
	if (port->ring_made)
		io_uring_queue_exit(&port->ring);
	if (port->event_fd >= 0)
		close(port->event_fd);
	dp_socket_datagram_close(port);
	dp_socket_buffers_free(&port->read);
	if (port->connection != NULL)
		munmap(port->connection, port->connections_max * sizeof(*port->connection));
	if (port->hold != NULL)
		munmap(port->hold, (size_t)port->connections_max * DP_SOCKET_READ_BYTES);
	if (port->block_memory != NULL)
		munmap(port->block_memory, (size_t)DP_SOCKET_BLOCKS * DP_SOCKET_BLOCK_BYTES);
	free(port);
}

static int socket_open(struct dp_port **out, const struct dp_port_options *options)
{
	struct dp_port *port = calloc(1, sizeof(*port));
	int result;

	*out = NULL;
	if (port == NULL)
		return -ENOMEM;
	port->options = *options;
	port->listen_fd = port->udp_fd = port->event_fd = -1;
	port->connections_max = connections_limit(options);
	result = ring_make(port);
	if (result == 0)
		result = dp_socket_streams_open(port);
	if (result == 0 && options->ingest->http.addr.family != 0)
		result = dp_socket_listen_open(port);
	if (result == 0 && options->ingest->udp.addr.family != 0)
		result = dp_socket_datagram_open(port);
	if (result == 0) {
		*out = port;
		return 0;
	}
	if (port->ring_made && result == -ENOMEM)
		tp_logf(TP_ERROR, "no memory for a socket port", "queue=%u", options->queue);
	socket_close(port);
	return result;
}

const struct dp_port_driver dp_port_socket = {
	.name = "socket",
	.open = socket_open,
	.poll = socket_poll,
	.fd = socket_fd,
	.list = dp_socket_list,
	.drain = socket_drain,
	.close = socket_close,
};
