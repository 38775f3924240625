/*
 * The client's sockets, and what it knows of the server.
 *
 * A socket asks "hello", and the answer says which receive core the question came to: so the client learns where each of its source ports
 * lands, whatever hash the network card has, and can send a batch to the core that owns its events. It asks again now and then, because
 * a server may come back with another number of cores.
 *
 *   silence: asked again after 0.2, 0.4 … 10 s          answered: asked again after 10 s
 *
 * Datagrams leave with "do not fragment" set. Where the path turns out to take less than they have, new batches get smaller, and the one
 * that does not fit goes in fragments. Source: docs/protocol.md; RFC 8899 section 3 (why not to rely on fragments).
 */
#include "client_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_FIRST_NS (TPC_SECOND_NS / 5)
#define HELLO_LAST_NS  (10 * TPC_SECOND_NS)

enum { SOCKET_BYTES = 4 << 20, IP_HEADERS_BYTES = 20 + 8, IP6_HEADERS_BYTES = 40 + 8 };

/* ---- sockets ---- */

static void fragments_allow(const struct tpc_client *client, int fd, bool allow)
{
	int value = allow ? IP_PMTUDISC_DONT : IP_PMTUDISC_DO;
	if (client->v6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &value, sizeof value);
	else
		(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof value);
}

static int socket_open(const struct tpc_client *client, const struct sockaddr *address, socklen_t address_bytes)
{
	int fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* best effort: a burst of acknowledgements should find room */
	int bytes = SOCKET_BYTES;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	fragments_allow(client, fd, false);
	struct epoll_event event = {.events = EPOLLIN};
	if (connect(fd, address, address_bytes) || epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int tpc_flows_open(struct tpc_client *client, const char *host, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
	if (!is_v4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	client->v6 = !is_v4;
	client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll_fd < 0)
		return -1;
	for (uint32_t i = 0; i < client->flows; i++) {
		struct flow *flow = &client->flow[i];
		flow->fd =
			socket_open(client, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, is_v4 ? sizeof v4 : sizeof v6);
		if (flow->fd < 0)
			return -1;
	}
	return 0;
}

void tpc_flows_close(struct tpc_client *client)
{
	for (uint32_t i = 0; i < client->flows; i++)
		if (client->flow[i].fd >= 0)
			close(client->flow[i].fd);
	if (client->epoll_fd >= 0)
		close(client->epoll_fd);
}

/* The path takes less than a datagram has: new ones get smaller. */
static void room_shrink(struct tpc_client *client, int fd)
{
	int mtu = 0;
	socklen_t bytes = sizeof mtu;
	int rc = client->v6 ? getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &bytes)
			    : getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &bytes);
	mtu -= client->v6 ? IP6_HEADERS_BYTES : IP_HEADERS_BYTES;
	if (rc == 0 && mtu >= TPC_BATCH_BYTES_MIN && (uint32_t)mtu < client->room_bytes)
		client->room_bytes = (uint32_t)mtu;
}

void tpc_flow_send(struct tpc_client *client, struct flow *flow, const uint8_t *bytes, uint32_t count)
{
	if (send(flow->fd, bytes, count, MSG_NOSIGNAL) >= 0 || errno != EMSGSIZE)
		return;
	room_shrink(client, flow->fd);
	client->stats.fragmented++;
	fragments_allow(client, flow->fd, true);
	(void)!send(flow->fd, bytes, count, MSG_NOSIGNAL);
	fragments_allow(client, flow->fd, false);
}

/* ---- the server's layout ---- */

uint64_t tpc_hellos_send(struct tpc_client *client, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	uint8_t hello[TPC_HELLO_BYTES_MAX];
	for (uint32_t i = 0; client->hellos && i < client->flows; i++) {
		struct flow *flow = &client->flow[i];
		if (flow->hello_due_ns <= now_ns) {
			flow->hello = tpc_random(client);
			flow->hello_interval_ns = flow->hello_interval_ns == 0 ? HELLO_FIRST_NS : 2 * flow->hello_interval_ns;
			if (flow->hello_interval_ns > HELLO_LAST_NS)
				flow->hello_interval_ns = HELLO_LAST_NS;
			flow->hello_due_ns = now_ns + tpc_jitter(client, flow->hello_interval_ns);
			tpc_flow_send(client, flow, hello, tpc_hello_make(hello, client->source, flow->hello, tpc_key(client)));
		}
		if (flow->hello_due_ns < next_ns)
			next_ns = flow->hello_due_ns;
	}
	return next_ns;
}

bool tpc_layout_take(struct tpc_client *client, struct flow *flow, const struct tpc_answer *answer, uint64_t now_ns)
{
	if (!client->hellos || flow->hello == 0 || answer->number != flow->hello)
		return false;
	flow->hello = 0; /* one answer each */
	flow->core = (uint16_t)answer->core;
	flow->hello_interval_ns = HELLO_LAST_NS / 2;
	flow->hello_due_ns = now_ns + tpc_jitter(client, HELLO_LAST_NS);
	client->version = 2;
	client->told_window = answer->window;
	client->cores = answer->cores;
	client->shards = answer->hash_known ? answer->shards : 0;
	memcpy(client->shard_core, answer->shard_core, answer->shards);
	if (answer->datagram_bytes < client->room_bytes)
		client->room_bytes = answer->datagram_bytes;
	return true;
}

uint32_t tpc_flow_of(struct tpc_client *client, const struct tpc_plan *plan)
{
	uint64_t hash;
	if (!client->shard_aware || client->shards == 0 || !tpc_shard_hash(plan, &hash))
		return client->turn;
	/* the upper half of hash × shards, which is what the server takes */
	uint64_t low = (hash & 0xffffffff) * client->shards, high = (hash >> 32) * client->shards;
	uint32_t shard = (uint32_t)((high + (low >> 32)) >> 32), core = client->shard_core[shard], reach = 0;
	for (uint32_t i = 0; i < client->flows; i++)
		reach += client->flow[i].core == core;
	/* several sockets land there: the same shard keeps to one of them, so that its events still share batches */
	uint32_t pick = reach ? shard % reach : 0;
	for (uint32_t i = 0; i < client->flows && reach; i++)
		if (client->flow[i].core == core && pick-- == 0)
			return i;
	return client->turn;
}
