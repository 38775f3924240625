/*
 * The client: a window of batches, each kept until its acknowledgement comes, sent again when that is overdue.
 *
 *   free ──tpc_add()──► open ──full, or tpc_flush()──► sent ──acknowledged──► free
 *                                                     │  ▲
 *                                                     └──┘ overdue: the same bytes again, after 1, 2, 4 … times the timeout
 *
 * The timeout follows the round trips, as TCP's does: a server that is merely slow is not sent everything twice. It is never below
 * retry_ms nor above 1 s; answers to batches sent once measure it, and a batch that is overdue doubles it, once a timeout.
 *
 * One thread per client. Invariants: a sent batch never changes; a number is never used twice under one source id (numbers start at
 * the clock's nanoseconds, so a restarted program with a fixed source id goes on above its old ones); an acknowledgement is taken
 * only if it carries the checksum of the very batch. All memory is taken in tpc_open().
 * Source: docs/protocol.md; RFC 6298 sections 2, 3 and 5 (the timeout).
 */
#include "turnpike/client.h"

#include "checksum.h"
#include "encode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS_MAX 1000000000ULL
enum { NONE = UINT32_MAX, RETRY_MS_MAX = 1000, EVENTS_MAX = 65535, RECEIVE_BURST = 256, SOCKET_BYTES = 4 << 20 };

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_SENT };

struct slot {
	enum slot_state state;
	uint32_t next_free;
	uint32_t bytes, events, sends;
	uint32_t checksum;
	uint64_t number;
	uint64_t first_sent_ns, due_ns, interval_ns;
	uint8_t *datagram;
};

struct tpc_client {
	int fd;
	uint64_t source;
	uint64_t next_number, last_number;
	uint32_t window, datagram_bytes;
	uint64_t retry_ns;   /* the least timeout */
	uint64_t timeout_ns; /* of batches that are sent now */
	uint64_t srtt_ns, rttvar_ns;
	uint64_t doubled_ns; /* when the timeout was doubled last */
	bool sign;
	uint8_t key[16];
	tpc_ack_fn fn;
	void *context;
	uint32_t open, free, in_flight;
	uint64_t due_ns; /* no sent batch is overdue before this */
	uint32_t index_mask;
	uint32_t *index; /* slot of a number, by its low bits; NONE: no such batch */
	struct slot *slot;
	uint8_t *memory;
	uint8_t answer[TPC_BATCH_BYTES_MAX];
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static int socket_open(const char *host, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
	if (!is_v4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* best effort: a burst of acknowledgements should find room */
	int bytes = SOCKET_BYTES;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	if (connect(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, is_v4 ? sizeof v4 : sizeof v6)) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static bool memory_take(struct tpc_client *client)
{
	uint32_t index_count = 4;
	while (index_count < 4 * (uint64_t)client->window)
		index_count *= 2;
	client->index_mask = index_count - 1;
	client->index = malloc(index_count * sizeof *client->index);
	client->slot = calloc(client->window, sizeof *client->slot);
	client->memory = malloc((size_t)client->window * client->datagram_bytes);
	if (!client->index || !client->slot || !client->memory)
		return false;
	memset(client->index, 0xff, index_count * sizeof *client->index);
	for (uint32_t i = 0; i < client->window; i++) {
		client->slot[i].datagram = client->memory + (size_t)i * client->datagram_bytes;
		client->slot[i].next_free = i + 1 < client->window ? i + 1 : NONE;
	}
	return true;
}

struct tpc_client *tpc_open(const struct tpc_options *options, tpc_ack_fn fn, void *context)
{
	uint32_t datagram_bytes = options->datagram_bytes ? options->datagram_bytes : 1400;
	uint32_t window = options->window ? options->window : 64;
	uint32_t retry_ms = options->retry_ms ? options->retry_ms : 50;
	if (!options->host || datagram_bytes < TPC_BATCH_BYTES_MIN || datagram_bytes > TPC_BATCH_BYTES_MAX || window > 1 << 20 ||
	    retry_ms > RETRY_MS_MAX) {
		errno = EINVAL;
		return NULL;
	}
	struct tpc_client *client = calloc(1, sizeof *client);
	if (!client)
		return NULL;
	client->fd = -1;
	client->fn = fn;
	client->context = context;
	client->window = window;
	client->datagram_bytes = datagram_bytes;
	client->retry_ns = client->timeout_ns = retry_ms * 1000000ULL;
	client->open = NONE;
	client->due_ns = UINT64_MAX;
	client->source = options->source_id;
	client->next_number = clock_ns(CLOCK_REALTIME);
	if (options->key) {
		client->sign = true;
		memcpy(client->key, options->key, sizeof client->key);
	}
	while (client->source == 0)
		if (getrandom(&client->source, sizeof client->source, 0) < 0 && errno != EINTR)
			goto fail;
	if (!memory_take(client)) {
		errno = ENOMEM;
		goto fail;
	}
	client->fd = socket_open(options->host, options->port);
	if (client->fd < 0)
		goto fail;
	return client;
fail:;
	int error = errno;
	tpc_close(client);
	errno = error;
	return NULL;
}

void tpc_close(struct tpc_client *client)
{
	if (!client)
		return;
	if (client->fd >= 0)
		close(client->fd);
	free(client->index);
	free(client->slot);
	free(client->memory);
	free(client);
}

uint64_t tpc_batch(const struct tpc_client *client)
{
	return client->last_number;
}

uint32_t tpc_pending(const struct tpc_client *client)
{
	return client->open == NONE ? 0 : client->slot[client->open].events;
}

int tpc_fd(const struct tpc_client *client)
{
	return client->fd;
}

static const uint8_t *key_of(const struct tpc_client *client)
{
	return client->sign ? client->key : NULL;
}

/* Sends a batch's bytes once more. Whatever stops it (no buffer, no server, no route) may pass, and it is tried again when due. */
static void slot_send(struct tpc_client *client, struct slot *slot, uint64_t now_ns)
{
	(void)!send(client->fd, slot->datagram, slot->bytes, MSG_NOSIGNAL);
	slot->sends++;
	slot->due_ns = now_ns + slot->interval_ns;
	slot->interval_ns *= 2;
	if (slot->interval_ns > RETRY_NS_MAX)
		slot->interval_ns = RETRY_NS_MAX;
	if (slot->due_ns < client->due_ns)
		client->due_ns = slot->due_ns;
}

/* A round trip of a batch that was sent once: of one sent twice nobody knows which copy was answered. */
static void round_trip_learn(struct tpc_client *client, uint64_t rtt_ns)
{
	if (client->srtt_ns == 0) {
		client->srtt_ns = rtt_ns;
		client->rttvar_ns = rtt_ns / 2;
	} else {
		uint64_t off_ns = rtt_ns > client->srtt_ns ? rtt_ns - client->srtt_ns : client->srtt_ns - rtt_ns;
		client->rttvar_ns += off_ns / 4 - client->rttvar_ns / 4;
		client->srtt_ns += rtt_ns / 8 - client->srtt_ns / 8;
	}
	uint64_t timeout_ns = client->srtt_ns + 4 * client->rttvar_ns;
	if (timeout_ns < client->retry_ns)
		timeout_ns = client->retry_ns;
	client->timeout_ns = timeout_ns < RETRY_NS_MAX ? timeout_ns : RETRY_NS_MAX;
}

/* A batch is overdue. Many of one burst are one event. */
static void timeout_double(struct tpc_client *client, uint64_t now_ns)
{
	if (now_ns - client->doubled_ns < client->timeout_ns)
		return;
	client->doubled_ns = now_ns;
	client->timeout_ns = 2 * client->timeout_ns < RETRY_NS_MAX ? 2 * client->timeout_ns : RETRY_NS_MAX;
}

static int slot_open(struct tpc_client *client)
{
	uint32_t which = client->free;
	uint64_t number = client->next_number;
	/* an old batch that waits very long may still hold the place of this number */
	if (which == NONE || client->index[number & client->index_mask] != NONE)
		return -EAGAIN;
	struct slot *slot = &client->slot[which];
	client->free = slot->next_free;
	client->index[number & client->index_mask] = which;
	client->next_number++;
	client->open = which;
	slot->state = SLOT_OPEN;
	slot->number = number;
	slot->events = 0;
	slot->sends = 0;
	slot->bytes = tpc_batch_begin(key_of(client));
	return 0;
}

int tpc_flush(struct tpc_client *client)
{
	if (tpc_pending(client) == 0)
		return 0;
	struct slot *slot = &client->slot[client->open];
	tpc_batch_seal(slot->datagram, slot->bytes, client->source, slot->number, slot->events, key_of(client));
	slot->checksum = tpc_batch_checksum(slot->datagram);
	slot->state = SLOT_SENT;
	slot->interval_ns = client->timeout_ns;
	slot->first_sent_ns = clock_ns(CLOCK_MONOTONIC);
	client->open = NONE;
	client->in_flight++;
	slot_send(client, slot, slot->first_sent_ns);
	return 0;
}

int tpc_add(struct tpc_client *client, const struct tpc_event *event)
{
	struct tpc_plan plan;
	int fault = tpc_plan(&plan, event);
	if (fault)
		return fault;
	if (tpc_batch_begin(key_of(client)) + plan.bytes > client->datagram_bytes)
		return -EMSGSIZE;
	if (client->open != NONE) {
		const struct slot *slot = &client->slot[client->open];
		if (slot->bytes + plan.bytes > client->datagram_bytes || slot->events == EVENTS_MAX)
			tpc_flush(client);
	}
	if (client->open == NONE && (fault = slot_open(client)))
		return fault;
	struct slot *slot = &client->slot[client->open];
	tpc_encode(&plan, slot->datagram + slot->bytes);
	slot->bytes += plan.bytes;
	slot->events++;
	client->last_number = slot->number;
	return 0;
}

static void slot_release(struct tpc_client *client, uint32_t which)
{
	struct slot *slot = &client->slot[which];
	client->index[slot->number & client->index_mask] = NONE;
	slot->state = SLOT_FREE;
	slot->next_free = client->free;
	client->free = which;
	client->in_flight--;
}

/* One datagram from the server's address. True if it acknowledged a batch. */
static bool answer_take(struct tpc_client *client, size_t count, uint64_t now_ns)
{
	struct tpc_answer answer;
	if (tpc_answer_read(client->answer, count, &answer) || answer.source != client->source)
		return false;
	uint32_t which = client->index[answer.ack.batch & client->index_mask];
	if (which == NONE)
		return false; /* acknowledged already, by an answer to another copy */
	struct slot *slot = &client->slot[which];
	if (slot->state != SLOT_SENT || slot->number != answer.ack.batch || slot->checksum != answer.batch_checksum ||
	    slot->events != answer.ack.events)
		return false;
	struct tpc_ack *ack = &answer.ack;
	ack->latency_ns = now_ns - slot->first_sent_ns;
	ack->sends = slot->sends;
	if (slot->sends == 1)
		round_trip_learn(client, ack->latency_ns);
	slot_release(client, which); /* before the callback, which may add events */
	if (client->fn) {
		struct tpc_reject rejects[(TPC_BATCH_BYTES_MAX - TPC_ACK_BYTES) / TPC_REJECT_BYTES];
		for (uint32_t i = 0; i < ack->listed; i++)
			rejects[i] = tpc_answer_reject(client->answer, i);
		ack->rejects = rejects;
		client->fn(client->context, ack);
	}
	return true;
}

/* Takes what has arrived, a bounded burst. How many batches that acknowledged, or -errno. */
static int answers_receive(struct tpc_client *client)
{
	int taken = 0;
	for (int i = 0; i < RECEIVE_BURST; i++) {
		ssize_t count = recv(client->fd, client->answer, sizeof client->answer, MSG_TRUNC);
		if (count < 0) {
			if (errno == EAGAIN)
				break;
			/* news of an earlier datagram that met no server: the batch waits for its retry */
			if (errno == EINTR || errno == ECONNREFUSED || errno == EHOSTUNREACH || errno == ENETUNREACH ||
			    errno == EHOSTDOWN || errno == ENETDOWN || errno == EPROTO || errno == EMSGSIZE)
				continue;
			return -errno;
		}
		if ((size_t)count <= sizeof client->answer)
			taken += answer_take(client, (size_t)count, clock_ns(CLOCK_MONOTONIC));
	}
	return taken;
}

static void overdue_send(struct tpc_client *client, uint64_t now_ns)
{
	if (now_ns < client->due_ns)
		return;
	client->due_ns = UINT64_MAX;
	for (uint32_t i = 0; i < client->window; i++) {
		struct slot *slot = &client->slot[i];
		if (slot->state != SLOT_SENT)
			continue;
		if (slot->due_ns <= now_ns) {
			timeout_double(client, now_ns);
			slot_send(client, slot, now_ns);
		} else if (slot->due_ns < client->due_ns) {
			client->due_ns = slot->due_ns;
		}
	}
}

int tpc_poll(struct tpc_client *client, int timeout_ms)
{
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
	const uint64_t until_ns = now_ns + (timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000ULL : 0);
	for (;;) {
		int taken = answers_receive(client);
		if (taken < 0)
			return taken;
		now_ns = clock_ns(CLOCK_MONOTONIC);
		overdue_send(client, now_ns);
		if (taken > 0 || now_ns >= until_ns)
			return (int)client->in_flight;
		uint64_t wake_ns = client->due_ns < until_ns ? client->due_ns : until_ns;
		uint64_t wait_ns = wake_ns > now_ns ? wake_ns - now_ns : 0;
		struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000ULL), .tv_nsec = (long)(wait_ns % 1000000000ULL)};
		struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
		if (ppoll(&poll_fd, 1, &wait, NULL) < 0 && errno != EINTR)
			return -errno;
	}
}
