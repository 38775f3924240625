/*
 * UDP of the socket driver: one multishot receive into provided buffers, answers as send requests. Entered by the rx core.
 *
 *   a buffer, as the kernel fills it:   struct io_uring_recvmsg_out │ peer's name │ control messages │ payload, up to 64 KiB
 *
 * A datagram is handed up from its buffer and the buffer returned at once, so the pool is only as large as a burst. When it runs out
 * within a round the request ends with ENOBUFS and is made anew; meanwhile datagrams wait in the socket, and what does not fit
 * there the kernel drops and counts: once a second its count is taken over, so that the books show it.
 *
 * Stopping: a socket filter refuses what comes from now on, what is queued is read to its end, then the request is cancelled. The
 * socket stays open for acknowledgements. Blocked sources are dropped above, by dp_datagram_input(), the same for all drivers.
 * Sources: udp(7), ip(7), io_uring_prep_recvmsg_multishot(3).
 */
#include "socket_port.h"

#include "turnpike/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	NAME_BYTES = 32,    /* struct sockaddr_in6, and what follows is aligned */
	CONTROL_BYTES = 64, /* room for one of the two packet-info messages */
	PAYLOAD_BYTES = 65536,
	BUFFER_BYTES = (sizeof(struct io_uring_recvmsg_out) + NAME_BYTES + CONTROL_BYTES + PAYLOAD_BYTES + 63) / 64 * 64,
	SOCKET_BUFFER_BYTES = 8 << 20,
	LOOK_NS = 1000000000,
};

static void datagram_send(const struct dp_datagram_path *path, const void *bytes, size_t count);

/* Which address of ours an answer leaves from, when the socket is bound to none. */
static size_t control_write(const struct dp_port *port, const struct tp_endpoint *local, uint8_t control[static CONTROL_BYTES])
{
	struct msghdr message = {.msg_control = control, .msg_controllen = CONTROL_BYTES};
	struct cmsghdr *header;

	memset(control, 0, CONTROL_BYTES);
	header = CMSG_FIRSTHDR(&message);
	if (port->udp_family == AF_INET) {
		struct in_pktinfo info = {0};

		memcpy(&info.ipi_spec_dst, local->addr.byte + 12, 4);
		*header = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof(info))};
		memcpy(CMSG_DATA(header), &info, sizeof(info));
		return CMSG_SPACE(sizeof(info));
	}
	struct in6_pktinfo info = {0};

	memcpy(&info.ipi6_addr, local->addr.byte, 16);
	*header = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof(info))};
	memcpy(CMSG_DATA(header), &info, sizeof(info));
	return CMSG_SPACE(sizeof(info));
}

/* The address of ours that a datagram came to. */
static struct tp_endpoint local_of(struct dp_port *port, struct io_uring_recvmsg_out *out)
{
	struct tp_endpoint local = port->udp_local;

	if (!port->udp_any)
		return local;
	for (struct cmsghdr *header = io_uring_recvmsg_cmsg_firsthdr(out, &port->udp_message); header != NULL;
	     header = io_uring_recvmsg_cmsg_nexthdr(out, &port->udp_message, header)) {
		if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(header), sizeof(info));
			local.addr = tp_addr_v4((const uint8_t *)&info.ipi_addr);
		} else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(header), sizeof(info));
			local.addr = tp_addr_v6(info.ipi6_addr.s6_addr);
		}
	}
	return local;
}

static void datagram_deliver(struct dp_port *port, uint8_t *buffer, int bytes)
{
	struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, bytes, &port->udp_message);
	struct tp_counters *counters = port->options.counters;
	struct sockaddr_in6 name = {0};
	struct dp_datagram_path path;

	if (out == NULL || (out->flags & MSG_TRUNC)) {
		TP_COUNT(counters, DATAGRAMS_RECEIVED);
		TP_COUNT(counters, DATAGRAMS_TRUNCATED);
		return;
	}
	memcpy(&name, io_uring_recvmsg_name(out), out->namelen < sizeof(name) ? out->namelen : sizeof(name));
	path = (struct dp_datagram_path){
		.send = datagram_send,
		.transport = port,
		.peer = dp_socket_endpoint(&name),
		.local = local_of(port, out),
		.ingest = port->options.ingest_index,
	};
	dp_datagram_input(port->options.beacon, &path, io_uring_recvmsg_payload(out, &port->udp_message),
			  io_uring_recvmsg_payload_length(out, bytes, &port->udp_message));
}

void dp_socket_datagram_read(struct dp_port *port, const struct io_uring_cqe *cqe)
{
	if (!(cqe->flags & IORING_CQE_F_MORE))
		port->udp_reading = false; /* made anew in the next round, unless stopped */
	if (!(cqe->flags & IORING_CQE_F_BUFFER))
		return;
	const uint32_t number = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	if (cqe->res >= 0)
		datagram_deliver(port, dp_socket_buffer(&port->datagram, number), cqe->res);
	dp_socket_buffer_return(&port->datagram, number);
}

/* ---- answers ---- */

static void message_fill(const struct dp_port *port, const struct dp_datagram_path *path, struct msghdr *message,
			 struct sockaddr_in6 *peer, uint8_t control[static CONTROL_BYTES], struct iovec *vector)
{
	*message = (struct msghdr){.msg_name = peer, .msg_iov = vector, .msg_iovlen = 1};
	message->msg_namelen = dp_socket_name(&path->peer, port->udp_family, peer);
	if (port->udp_any) {
		message->msg_control = control;
		message->msg_controllen = control_write(port, &path->local, control);
	}
}

/* Best effort, as UDP is: what cannot leave is lost, and the client sends its batch again. */
static void datagram_send(const struct dp_datagram_path *path, const void *bytes, size_t count)
{
	struct dp_port *port = path->transport;
	struct io_uring_sqe *sqe = NULL;
	struct dp_socket_slot *slot;

	if (port->udp_fd < 0)
		return;
	if (count <= DP_SOCKET_SLOT_BYTES && port->slot_free_head != DP_SOCKET_NONE && port->enabled)
		sqe = dp_socket_sqe(port, DP_SOCKET_DATAGRAM_SEND, port->slot_free_head);
	if (sqe == NULL) {
		_Alignas(8) uint8_t control[CONTROL_BYTES];
		struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
		struct sockaddr_in6 peer;
		struct msghdr message;

		message_fill(port, path, &message, &peer, control, &vector);
		if (sendmsg(port->udp_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			TP_COUNT(port->options.counters, BATCH_ANSWERS_LOST);
		return;
	}
	slot = &port->slot[port->slot_free_head];
	port->slot_free_head = slot->free_next;
	memcpy(slot->data, bytes, count);
	slot->vector = (struct iovec){.iov_base = slot->data, .iov_len = count};
	message_fill(port, path, &slot->message, &slot->peer, slot->control, &slot->vector);
	io_uring_prep_sendmsg(sqe, port->udp_fd, &slot->message, MSG_NOSIGNAL);
}

void dp_socket_datagram_sent(struct dp_port *port, const struct io_uring_cqe *cqe)
{
	const uint32_t index = (uint32_t)(cqe->user_data >> 8);

	if (cqe->res < 0)
		TP_COUNT(port->options.counters, BATCH_ANSWERS_LOST);
	port->slot[index].free_next = port->slot_free_head;
	port->slot_free_head = index;
}

/* ---- round and drain ---- */

/* Takes over what the kernel has dropped at our socket. */
static void drops_take(struct dp_port *port)
{
	uint32_t info[SK_MEMINFO_VARS];
	socklen_t bytes = sizeof(info);

	if (getsockopt(port->udp_fd, SOL_SOCKET, SO_MEMINFO, info, &bytes) != 0 || bytes <= SK_MEMINFO_DROPS * sizeof(info[0]))
		return;
	TP_COUNT_ADD(port->options.counters, DATAGRAMS_RECEIVED, info[SK_MEMINFO_DROPS] - port->udp_drops);
	TP_COUNT_ADD(port->options.counters, DATAGRAMS_SOCKET_FULL, info[SK_MEMINFO_DROPS] - port->udp_drops);
	port->udp_drops = info[SK_MEMINFO_DROPS];
}

void dp_socket_datagram_round(struct dp_port *port)
{
	struct io_uring_sqe *sqe;

	if (port->udp_state != DP_UDP_OPEN && port->udp_state != DP_UDP_DRAINING)
		return;
	if (port->udp_state == DP_UDP_OPEN && port->now_ns >= port->udp_look_ns) {
		port->udp_look_ns = port->now_ns + LOOK_NS;
		drops_take(port);
	}
	if (port->udp_reading)
		return;
	sqe = dp_socket_sqe(port, DP_SOCKET_DATAGRAM, 0);
	if (sqe == NULL)
		return;
	io_uring_prep_recvmsg_multishot(sqe, port->udp_fd, &port->udp_message, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = port->datagram.group;
	port->udp_reading = true;
}

void dp_socket_datagram_drain(struct dp_port *port)
{
	struct sock_filter refuse_all = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = {.len = 1, .filter = &refuse_all};
	struct pollfd queue = {.fd = port->udp_fd, .events = POLLIN};
	struct io_uring_sqe *sqe;

	if (port->udp_state == DP_UDP_OPEN) {
		drops_take(port); /* what the filter refuses is no loss of ours */
		setsockopt(port->udp_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
		port->udp_state = DP_UDP_DRAINING;
		return;
	}
	if (port->udp_state != DP_UDP_DRAINING || !port->enabled)
		return;
	if (poll(&queue, 1, 0) != 0)
		return; /* there is more */
	port->udp_state = DP_UDP_STOPPED;
	sqe = port->udp_reading ? dp_socket_sqe(port, DP_SOCKET_CANCEL, 0) : NULL;
	if (sqe != NULL)
		io_uring_prep_cancel64(sqe, DP_SOCKET_DATAGRAM, 0);
}

/* ---- open and close ---- */

static int option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static bool is_any(const struct tp_addr *addr)
{
	static const uint8_t zero[16];

	return addr->family == 4 ? memcmp(addr->byte + 12, zero, 4) == 0 : memcmp(addr->byte, zero, 16) == 0;
}

int dp_socket_datagram_open(struct dp_port *port)
{
	const struct tp_endpoint *endpoint = &port->options.ingest->udp;
	struct sockaddr_in6 name;
	socklen_t bytes = sizeof(name);
	int fd;

	fd = dp_socket_bind(&port->options, endpoint, SOCK_DGRAM, port->options.udp_port);
	if (fd < 0)
		return fd;
	port->udp_fd = fd;
	port->udp_family = endpoint->addr.family == 4 ? AF_INET : AF_INET6;
	port->udp_any = is_any(&endpoint->addr);
	if (getsockname(fd, (struct sockaddr *)&name, &bytes) != 0)
		return -errno;
	port->udp_local = dp_socket_endpoint(&name);
	/* Above the system's limit only with CAP_NET_ADMIN; without, as much as the limit allows. */
	if (option_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES) != 0)
		option_set(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
	/* On an IPv6 socket the one message tells IPv4 addresses too, as ::ffff:a.b.c.d. */
	if (port->udp_any && port->udp_family == AF_INET)
		option_set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else if (port->udp_any)
		option_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	/* Answers are small: "do not fragment" costs nothing, and spares peers a way to have us work for forged path-MTU news. */
	option_set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	if (port->udp_family == AF_INET6)
		option_set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
	port->udp_message.msg_namelen = NAME_BYTES;
	port->udp_message.msg_controllen = port->udp_any ? CONTROL_BYTES : 0;
	port->slot = dp_socket_memory(DP_SOCKET_SLOTS * sizeof(*port->slot), true);
	if (port->slot == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < DP_SOCKET_SLOTS; i++)
		port->slot[i].free_next = i + 1 < DP_SOCKET_SLOTS ? i + 1 : DP_SOCKET_NONE;
	port->slot_free_head = 0;
	port->udp_state = DP_UDP_OPEN;
	return dp_socket_buffers_make(port, &port->datagram, 1, DP_SOCKET_DATAGRAM_BUFFERS, BUFFER_BYTES);
}

void dp_socket_datagram_close(struct dp_port *port)
{
	dp_socket_buffers_free(&port->datagram);
	if (port->slot != NULL)
		munmap(port->slot, DP_SOCKET_SLOTS * sizeof(*port->slot));
	port->slot = NULL;
}
