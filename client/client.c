/*
 * The client: a window of batches, each kept until its acknowledgement comes, sent again when that is overdue or the server said "later".
 *
 *   free ──tpc_add()──► open ──full, or tpc_flush()──► sent ──acknowledged──► free
 *                                                     │  ▲
 *                                                     └──┘ overdue: the same bytes again, after 1, 2, 4 … times the timeout
 *
 * The window is ours or the server's, whichever is less. With shard_aware each socket has an open batch of its own.
 *
 * The timeout follows the round trips, as TCP's does: a server that is merely slow is not sent everything twice. It is never below
 * retry_ms nor above 1 s; answers to batches sent once measure it, and a batch that is overdue doubles it, once a timeout.
 *
 * One thread per client. Invariants: a sent batch never changes; a number is never used twice under one source id (numbers start at
 * the clock's nanoseconds, so a restarted program with a fixed source id goes on above its old ones); an acknowledgement is taken
 * only if it carries the checksum of the very batch. All memory is taken in tpc_open().
 * Source: docs/protocol.md; RFC 6298 sections 2, 3 and 5 (the timeout).
 */
#include "client_state.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS_MAX TPC_SECOND_NS
enum { RETRY_MS_MAX = 1000, EVENTS_MAX = 65535, RECEIVE_BURST = 256, DATAGRAM_BYTES = 1232, WINDOW = 64, RETRY_MS = 50 };

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * TPC_SECOND_NS + (uint64_t)now.tv_nsec;
}

/* ---- open and close ---- */

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
		client->slot[i].next_free = i + 1 < client->window ? i + 1 : TPC_NONE;
	}
	return true;
}

/* Fills in the options; false: one is out of range. */
static bool options_take(struct tpc_client *client, const struct tpc_options *options)
{
	uint32_t retry_ms = options->retry_ms ? options->retry_ms : RETRY_MS;
	client->window = options->window ? options->window : WINDOW;
	client->datagram_bytes = client->room_bytes = options->datagram_bytes ? options->datagram_bytes : DATAGRAM_BYTES;
	client->retry_ns = client->timeout_ns = retry_ms * 1000000ULL;
	client->flows = options->sockets ? options->sockets : 1;
	client->version = options->version == 2 ? 2 : 1;
	client->hellos = options->version != 1;
	client->shard_aware = options->shard_aware;
	client->source = options->source_id;
	if (options->key) {
		client->sign = true;
		memcpy(client->key, options->key, sizeof client->key);
	}
	return options->host && client->datagram_bytes >= TPC_BATCH_BYTES_MIN && client->datagram_bytes <= TPC_BATCH_BYTES_MAX &&
	       client->window <= 1 << 20 && retry_ms <= RETRY_MS_MAX && client->flows <= TPC_SOCKETS_MAX && options->version >= 0 &&
	       options->version <= 2 && !(options->shard_aware && options->version == 1);
}

struct tpc_client *tpc_open(const struct tpc_options *options, tpc_ack_fn fn, void *context)
{
	struct tpc_client *client = calloc(1, sizeof *client);
	if (!client)
		return NULL;
	client->epoll_fd = -1;
	for (uint32_t i = 0; i < TPC_SOCKETS_MAX; i++)
		client->flow[i] = (struct flow){.fd = -1, .core = TPC_CORE_UNKNOWN, .open = TPC_NONE};
	if (!options_take(client, options)) {
		client->flows = 0;
		errno = EINVAL;
		goto fail;
	}
	client->fn = fn;
	client->context = context;
	client->due_ns = UINT64_MAX;
	client->next_number = clock_ns(CLOCK_REALTIME);
	uint64_t drawn[2];
	while (getrandom(drawn, sizeof drawn, 0) != sizeof drawn)
		if (errno != EINTR)
			goto fail;
	client->random = drawn[0] | 1;
	if (client->source == 0)
		client->source = drawn[1] | 1;
	if (!memory_take(client)) {
		errno = ENOMEM;
		goto fail;
	}
	if (tpc_flows_open(client, options->host, options->port))
		goto fail;
	client->due_ns = tpc_hellos_send(client, clock_ns(CLOCK_MONOTONIC));
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
	tpc_flows_close(client);
	free(client->index);
	free(client->slot);
	free(client->memory);
	explicit_bzero(client->key, sizeof client->key);
	free(client);
}

uint64_t tpc_batch(const struct tpc_client *client)
{
	return client->last_number;
}

uint32_t tpc_pending(const struct tpc_client *client)
{
	uint32_t events = 0;
	for (uint32_t i = 0; i < client->flows; i++)
		if (client->flow[i].open != TPC_NONE)
			events += client->slot[client->flow[i].open].events;
	return events;
}

int tpc_fd(const struct tpc_client *client)
{
	return client->epoll_fd;
}

/* ---- sending ---- */

/* Sends a batch's bytes once more. Whatever stops it (no buffer, no server, no route) may pass, and it is tried again when due. */
static void slot_send(struct tpc_client *client, struct slot *slot, uint64_t now_ns)
{
	tpc_flow_send(client, &client->flow[slot->flow], slot->datagram, slot->bytes);
	slot->sends++;
	/* the first interval is measured, and needs no chance; a crowd can only come together later */
	slot->due_ns = now_ns + (slot->sends == 1 ? slot->interval_ns : tpc_jitter(client, slot->interval_ns));
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

/* How many batches may be sent or open now. */
static uint32_t window_now(const struct tpc_client *client)
{
	return client->told_window && client->told_window < client->window ? client->told_window : client->window;
}

static int slot_open(struct tpc_client *client, uint32_t flow)
{
	uint32_t which = client->free;
	uint64_t number = client->next_number;
	/* an old batch that waits very long may still hold the place of this number */
	if (which == TPC_NONE || client->in_flight + client->open >= window_now(client) ||
	    client->index[number & client->index_mask] != TPC_NONE)
		return -EAGAIN;
	struct slot *slot = &client->slot[which];
	client->free = slot->next_free;
	client->index[number & client->index_mask] = which;
	client->next_number++;
	client->open++;
	client->flow[flow].open = which;
	slot->state = SLOT_OPEN;
	slot->version = client->version;
	slot->flow = flow;
	slot->number = number;
	slot->told_later = false;
	slot->events = 0;
	slot->sends = 0;
	slot->bytes = tpc_batch_begin(slot->version, tpc_key(client));
	return 0;
}

static void flow_flush(struct tpc_client *client, uint32_t which)
{
	struct flow *flow = &client->flow[which];
	if (flow->open == TPC_NONE)
		return;
	struct slot *slot = &client->slot[flow->open];
	tpc_batch_seal(slot->datagram, slot->version, slot->bytes, client->source, slot->number, slot->events, tpc_key(client));
	slot->checksum = tpc_batch_checksum(slot->datagram);
	slot->state = SLOT_SENT;
	slot->interval_ns = client->timeout_ns;
	slot->first_sent_ns = clock_ns(CLOCK_MONOTONIC);
	flow->open = TPC_NONE;
	client->open--;
	client->in_flight++;
	client->stats.batches++;
	if (which == client->turn)
		client->turn = client->turn + 1 < client->flows ? client->turn + 1 : 0;
	slot_send(client, slot, slot->first_sent_ns);
}

int tpc_flush(struct tpc_client *client)
{
	for (uint32_t i = 0; i < client->flows; i++)
		flow_flush(client, i);
	return 0;
}

int tpc_add(struct tpc_client *client, const struct tpc_event *event)
{
	struct tpc_plan plan;
	int fault = tpc_plan(&plan, event);
	if (fault)
		return fault;
	uint32_t alone_bytes = tpc_batch_begin(client->version, tpc_key(client)) + plan.bytes;
	if (alone_bytes > client->datagram_bytes)
		return -EMSGSIZE;
	uint32_t which = tpc_flow_of(client, &plan);
	struct flow *flow = &client->flow[which];
	if (flow->open != TPC_NONE) {
		const struct slot *slot = &client->slot[flow->open];
		if (slot->bytes + plan.bytes > client->room_bytes || slot->events == EVENTS_MAX) {
			flow_flush(client, which);
			which = tpc_flow_of(client, &plan);
			flow = &client->flow[which];
		}
	}
	if (flow->open == TPC_NONE && (fault = slot_open(client, which))) {
		tpc_flush(client); /* else open batches of other sockets could hold the window for ever */
		return fault;
	}
	struct slot *slot = &client->slot[flow->open];
	tpc_encode(&plan, slot->datagram + slot->bytes);
	slot->bytes += plan.bytes;
	slot->events++;
	client->last_number = slot->number;
	return 0;
}

/* ---- answers ---- */

static void slot_release(struct tpc_client *client, uint32_t which)
{
	struct slot *slot = &client->slot[which];
	client->index[slot->number & client->index_mask] = TPC_NONE;
	slot->state = SLOT_FREE;
	slot->next_free = client->free;
	client->free = which;
	client->in_flight--;
}

/* The sent batch that an answer names, or TPC_NONE. */
static uint32_t slot_find(const struct tpc_client *client, const struct tpc_answer *answer)
{
	uint32_t which = client->index[answer->number & client->index_mask];
	if (which == TPC_NONE)
		return TPC_NONE; /* acknowledged already, by an answer to another copy */
	const struct slot *slot = &client->slot[which];
	bool same = slot->state == SLOT_SENT && slot->number == answer->number && slot->checksum == answer->batch_checksum &&
		    slot->version == answer->version;
	return same ? which : TPC_NONE;
}

static bool ack_take(struct tpc_client *client, struct tpc_answer *answer, uint64_t now_ns)
{
	uint32_t which = slot_find(client, answer);
	if (which == TPC_NONE || client->slot[which].events != answer->ack.events)
		return false;
	struct slot *slot = &client->slot[which];
	struct tpc_ack *ack = &answer->ack;
	struct tpc_stats *stats = &client->stats;
	ack->latency_ns = now_ns - slot->first_sent_ns;
	ack->sends = slot->sends;
	if (slot->sends == 1)
		round_trip_learn(client, ack->latency_ns);
	if (answer->window)
		client->told_window = answer->window;
	tpc_latency_add(&client->latency, ack->latency_ns);
	stats->acknowledged++;
	stats->resent += slot->sends - 1;
	stats->events += ack->events;
	stats->accepted += ack->accepted;
	stats->duplicates += ack->duplicates;
	stats->late += ack->late;
	stats->conflicts += ack->conflicts;
	stats->rejected += ack->rejected;
	slot_release(client, which); /* before the callback, which may add events */
	if (client->fn) {
		struct tpc_reject rejects[(TPC_BATCH_BYTES_MAX - TPC_ACK_BYTES) / TPC_REJECT_BYTES];
		for (uint32_t i = 0; i < ack->listed; i++)
			rejects[i] = tpc_answer_reject(client->answer, answer, i);
		ack->rejects = rejects;
		client->fn(client->context, ack);
	}
	return true;
}

/* The server is too busy for a batch. That is no loss: the timeout stays, the batch waits as it was told to. */
static bool later_take(struct tpc_client *client, const struct tpc_answer *answer, uint64_t now_ns)
{
	uint32_t which = slot_find(client, answer);
	if (which == TPC_NONE)
		return false;
	struct slot *slot = &client->slot[which];
	slot->told_later = true;
	slot->interval_ns = client->timeout_ns;
	slot->due_ns = now_ns + tpc_jitter(client, answer->wait_ms * 1000000ULL);
	if (slot->due_ns < client->due_ns)
		client->due_ns = slot->due_ns;
	if (answer->window)
		client->told_window = answer->window;
	client->stats.laters++;
	return true;
}

/* One datagram from the server's address. True if it acknowledged a batch. */
static bool answer_take(struct tpc_client *client, struct flow *flow, size_t count, uint64_t now_ns)
{
	struct tpc_answer answer;
	bool ours = tpc_answer_read(client->answer, count, tpc_key(client), &answer) == 0 && answer.source == client->source;
	bool acknowledged = false;
	if (ours && answer.kind == TPC_ANSWER_ACK)
		ours = acknowledged = ack_take(client, &answer, now_ns);
	else if (ours && answer.kind == TPC_ANSWER_LATER)
		ours = later_take(client, &answer, now_ns);
	else if (ours)
		ours = tpc_layout_take(client, flow, &answer, now_ns);
	client->stats.ignored += !ours;
	return acknowledged;
}

/* Takes what has arrived at one socket, a bounded burst. How many batches that acknowledged, or -errno. */
static int answers_receive(struct tpc_client *client, struct flow *flow)
{
	int taken = 0;
	for (int i = 0; i < RECEIVE_BURST; i++) {
		ssize_t count = recv(flow->fd, client->answer, sizeof client->answer, MSG_TRUNC);
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
			taken += answer_take(client, flow, (size_t)count, clock_ns(CLOCK_MONOTONIC));
	}
	return taken;
}

static void overdue_send(struct tpc_client *client, uint64_t now_ns)
{
	if (now_ns < client->due_ns)
		return;
	client->due_ns = tpc_hellos_send(client, now_ns);
	for (uint32_t i = 0; i < client->window; i++) {
		struct slot *slot = &client->slot[i];
		if (slot->state != SLOT_SENT)
			continue;
		if (slot->due_ns <= now_ns) {
			if (!slot->told_later)
				timeout_double(client, now_ns);
			slot->told_later = false;
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
		int taken = 0;
		for (uint32_t i = 0; i < client->flows; i++) {
			int got = answers_receive(client, &client->flow[i]);
			if (got < 0)
				return got;
			taken += got;
		}
		now_ns = clock_ns(CLOCK_MONOTONIC);
		overdue_send(client, now_ns);
		if (taken > 0 || now_ns >= until_ns)
			return (int)client->in_flight;
		uint64_t wake_ns = client->due_ns < until_ns ? client->due_ns : until_ns;
		uint64_t wait_ns = wake_ns > now_ns ? wake_ns - now_ns : 0;
		struct timespec wait = {.tv_sec = (time_t)(wait_ns / TPC_SECOND_NS), .tv_nsec = (long)(wait_ns % TPC_SECOND_NS)};
		struct pollfd poll_fd = {.fd = client->epoll_fd, .events = POLLIN};
		if (ppoll(&poll_fd, 1, &wait, NULL) < 0 && errno != EINTR)
			return -errno;
	}
}

/* ---- figures ---- */

void tpc_stats(const struct tpc_client *client, struct tpc_stats *stats)
{
	uint64_t reached[TPC_CORE_UNKNOWN / 64 + 1] = {0};
	*stats = client->stats;
	stats->latency_ns_p50 = tpc_latency_at(&client->latency, 500);
	stats->latency_ns_p99 = tpc_latency_at(&client->latency, 990);
	stats->latency_ns_max = client->latency.max_ns;
	stats->round_trip_ns = client->srtt_ns;
	stats->in_flight = client->in_flight;
	stats->window = window_now(client);
	stats->server_cores = client->cores;
	stats->server_shards = client->shards;
	stats->datagram_bytes = client->room_bytes;
	stats->version = client->version;
	for (uint32_t i = 0; i < client->flows; i++) {
		uint16_t core = client->flow[i].core;
		if (core == TPC_CORE_UNKNOWN || (reached[core / 64] & 1ULL << core % 64))
			continue;
		reached[core / 64] |= 1ULL << core % 64;
		stats->cores_reached++;
	}
}
