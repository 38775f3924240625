/*
 * The clients of a replay. See replay_client.h.
 */
#include "replay_client.h"

#include "../client/encode.h"
#include "net.h"
#include "tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	PREFETCH_AHEAD = 4,
	FIRST_ADDRESS = 0x0a000002,
	REPEAT_NS = 1000000000,
	MS_NS = 1000000,
	LOOK_STEP = 4,
	ARP_REQUEST = 1,
	ARP_ANSWER = 2
};

#define BATCH_PUT_OFF UINT64_MAX /* in the place of when it was sent */

const uint8_t rp_node_mac[6] = {2, 0, 0, 0, 0, 1}, rp_client_mac[6] = {2, 0, 0, 0, 0, 2};

static bool is_tcp(const struct rp_clients *c)
{
	return c->options->load >= RP_HTTP_SINGLE;
}

static void ready_add(struct rp_clients *c, uint32_t client)
{
	c->ready[c->ready_next++ % RP_CLIENTS_MAX] = client;
}

int rp_clients_open(struct rp_clients *c)
{
	c->client = calloc(c->options->clients, sizeof(*c->client));
	c->ready = calloc(RP_CLIENTS_MAX, sizeof(*c->ready));
	if (c->options->load == RP_UDP_BATCH) {
		c->batch_due_ns = calloc(c->script->requests, sizeof(*c->batch_due_ns));
		c->batch_sent_ns = calloc(c->script->requests, sizeof(*c->batch_sent_ns));
		c->batch_done = calloc(c->script->requests, 1);
		c->later = calloc(c->options->window, sizeof(*c->later));
	}
	if (!c->client || !c->ready ||
	    (c->options->load == RP_UDP_BATCH && (!c->batch_due_ns || !c->batch_sent_ns || !c->batch_done || !c->later))) {
		rp_clients_close(c);
		return -ENOMEM;
	}
	if (c->options->rate > 0)
		c->ns_per_event = 1e9 * c->options->ports / c->options->rate;
	for (uint32_t i = 0; i < c->options->clients; i++) {
		c->client[i].address = FIRST_ADDRESS + i;
		c->client[i].window = UINT32_MAX; /* until it is told one */
		ready_add(c, i);
	}
	return 0;
}

void rp_clients_close(struct rp_clients *c)
{
	free(c->client);
	free(c->ready);
	free(c->batch_due_ns);
	free(c->batch_sent_ns);
	free(c->batch_done);
	free(c->later);
	c->client = NULL;
	c->ready = NULL;
	c->batch_due_ns = NULL;
	c->batch_sent_ns = NULL;
	c->batch_done = NULL;
	c->later = NULL;
}

/* ---- frames to the node ---- */

static void ip_write(uint8_t *at, uint32_t from, uint8_t protocol, uint32_t bytes)
{
	uint8_t *ip = at + 14;
	memcpy(at, rp_node_mac, 6);
	memcpy(at + 6, rp_client_mac, 6);
	dp_put16(at + 12, DP_TYPE_IP4);
	dp_put16(ip, 0x4500);
	dp_put16(ip + 2, (uint16_t)(20 + bytes));
	dp_put32(ip + 4, 0x00004000);
	ip[8] = 64;
	ip[9] = protocol;
	dp_put16(ip + 10, 0);
	dp_put32(ip + 12, from);
	dp_put32(ip + 16, RP_NODE_ADDRESS);
	dp_put_sum(ip + 10, dp_sum(ip, 20, 0));
}

/* `frame` has its payload at `frame + RP_HEADERS_BYTES`, of which `sum` is the sum. */
static void tcp_send(struct rp_clients *c, struct rp_client *client, uint8_t *frame, uint32_t bytes, uint64_t sum, uint8_t flags)
{
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	ip_write(frame, client->address, DP_PROTOCOL_TCP, DP_TCP_BYTES + bytes);
	dp_put16(tcp, client->port);
	dp_put16(tcp + 2, 80);
	dp_put32(tcp + 4, client->seq);
	dp_put32(tcp + 8, client->ack);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	dp_put16(tcp + 14, 0xfff0);
	dp_put32(tcp + 16, 0);
	uint64_t pseudo = dp_pseudo_add(dp_sum(ip + 12, 8, 0), DP_PROTOCOL_TCP, DP_TCP_BYTES + bytes);
	dp_put_sum(tcp + 16, dp_sum(tcp, DP_TCP_BYTES, pseudo) + sum);
	client->seq += bytes + ((flags & (DP_SYN | DP_FIN)) != 0);
	c->deliver(c->context, frame, RP_HEADERS_BYTES + bytes);
}

static void bare_send(struct rp_clients *c, struct rp_client *client, uint8_t flags)
{
	tcp_send(c, client, c->small, 0, 0, flags);
}

static void udp_send(struct rp_clients *c, struct rp_piece *piece, uint32_t from, uint16_t from_port)
{
	uint8_t *frame = piece->payload - 42, *udp = frame + 34;
	ip_write(frame, from, DP_PROTOCOL_UDP, 8 + piece->bytes);
	dp_put16(udp, from_port);
	dp_put16(udp + 2, RP_UDP_PORT);
	dp_put16(udp + 4, (uint16_t)(8 + piece->bytes));
	dp_put16(udp + 6, 0);
	uint64_t pseudo = dp_pseudo_add(dp_sum(frame + 26, 8, 0), DP_PROTOCOL_UDP, 8 + piece->bytes);
	dp_put_sum(udp + 6, dp_sum(udp, 8, pseudo) + piece->sum);
	c->deliver(c->context, frame, 42 + piece->bytes);
}

/* ---- frames from the node ---- */

static void done(struct rp_clients *c, uint32_t events, uint64_t due_ns, bool well)
{
	*(well ? &c->answered : &c->refused) += events;
	blast_histogram_add(c->latency, c->now_ns > due_ns ? c->now_ns - due_ns : 0);
	c->owed--;
	c->events_owed -= events;
}

static void tcp_take(struct rp_clients *c, const uint8_t *frame)
{
	const uint8_t *tcp = frame + 34;
	const uint32_t which = (dp_get32(frame + 30) & 0xffff) - 2;
	if (which >= c->options->clients)
		return;
	struct rp_client *client = &c->client[which];
	if (client->port != dp_get16(tcp + 2))
		return; /* of a connection that it has left */
	const uint32_t header = (uint32_t)(tcp[12] >> 4) * 4, data = (uint32_t)dp_get16(frame + 16) - 20 - header;
	if (tcp[13] & DP_RST) {
		c->refused++;
		return;
	}
	if (client->state == RP_CLIENT_OPENING && tcp[13] & DP_SYN) {
		client->ack = dp_get32(tcp + 4) + 1;
		client->state = RP_CLIENT_READY;
		ready_add(c, which);
		return;
	}
	if (dp_get32(tcp + 4) != client->ack)
		return; /* sent once more */
	client->ack += data + ((tcp[13] & DP_FIN) != 0);
	if (data && client->state == RP_CLIENT_WAITING) {
		done(c, c->script->request[client->request].events, client->due_ns, tcp[header + 9] == '2');
		client->state = c->options->load == RP_HTTP_CLOSE ? RP_CLIENT_CLOSING : RP_CLIENT_READY;
		if (client->state == RP_CLIENT_READY)
			ready_add(c, which);
	}
	if (client->state == RP_CLIENT_CLOSING && tcp[13] & DP_FIN)
		ready_add(c, which); /* our FIN, and the next connection */
}

static struct rp_client *client_of(const struct rp_clients *c, uint32_t number)
{
	return &c->client[number % c->options->clients];
}

/* A batch is put off once at a time, so the ring takes all that are on their way. */
static void batch_later(struct rp_clients *c, uint32_t number, uint32_t wait_ms)
{
	if (c->batch_sent_ns[number] == BATCH_PUT_OFF || c->later_next - c->later_first == c->options->window)
		return; /* without room, after copies crossed their answers, it is overdue in time */
	c->later[c->later_next++ % c->options->window] =
		(struct rp_later){.at_ns = c->now_ns + wait_ms * (uint64_t)MS_NS, .number = number};
	c->batch_sent_ns[number] = BATCH_PUT_OFF;
	c->laters++;
}

static void udp_take(struct rp_clients *c, const uint8_t *frame, size_t bytes)
{
	struct tpc_answer answer;
	if (bytes < 42 || tpc_answer_read(frame + 42, dp_get16(frame + 38) - 8u, NULL, &answer) != 0)
		return;
	const uint64_t number = answer.number - 1;
	if (number >= c->next || c->batch_done[number])
		return;
	struct rp_client *client = client_of(c, (uint32_t)number);
	if (answer.window)
		client->window = answer.window;
	if (answer.kind == TPC_ANSWER_LATER)
		batch_later(c, (uint32_t)number, answer.wait_ms);
	if (answer.kind != TPC_ANSWER_ACK)
		return;
	c->batch_done[number] = 1;
	client->owed--;
	done(c, c->script->request[number].events, c->batch_due_ns[number], true);
}

/* The node asks where a client is. Answered at the next step: this may be called from inside the node's stack. Source: RFC 826. */
static void arp_take(struct rp_clients *c, const uint8_t *frame, size_t bytes)
{
	if (bytes < 42 || dp_get16(frame + 20) != ARP_REQUEST || c->arp_count == RP_ARP_MAX ||
	    dp_get32(frame + 38) - FIRST_ADDRESS >= c->options->clients)
		return;
	uint8_t *answer = c->arp[c->arp_count++];
	memcpy(answer, frame + 6, 6);
	memcpy(answer + 6, rp_client_mac, 6);
	memcpy(answer + 12, frame + 12, 8);
	dp_put16(answer + 20, ARP_ANSWER);
	memcpy(answer + 22, rp_client_mac, 6);
	memcpy(answer + 28, frame + 38, 4);
	memcpy(answer + 32, frame + 22, 10);
}

void rp_clients_take(struct rp_clients *c, const uint8_t *frame, size_t bytes)
{
	if (bytes >= 34 && dp_get16(frame + 12) == DP_TYPE_ARP)
		arp_take(c, frame, bytes);
	if (bytes < 34 || dp_get16(frame + 12) != DP_TYPE_IP4)
		return;
	if (frame[23] == DP_PROTOCOL_TCP)
		tcp_take(c, frame);
	else if (frame[23] == DP_PROTOCOL_UDP)
		udp_take(c, frame, bytes);
}

/* ---- who may send ---- */

/* When the next request is due; open loop only. */
static uint64_t due_ns(const struct rp_clients *c)
{
	return c->before_ns + (uint64_t)((double)c->events * c->ns_per_event);
}

static bool may_begin(struct rp_clients *c)
{
	return c->next < c->script->requests && (c->ns_per_event == 0 || due_ns(c) <= c->now_ns);
}

static void request_begun(struct rp_clients *c)
{
	const struct rp_request *request = &c->script->request[c->next++];
	c->events += request->events;
	c->events_owed += request->events;
	c->owed++;
}

static bool client_step(struct rp_clients *c)
{
	if (c->ready_first == c->ready_next)
		return false;
	const uint32_t which = c->ready[c->ready_first % RP_CLIENTS_MAX];
	struct rp_client *client = &c->client[which];
	if (client->state == RP_CLIENT_CLOSING) {
		bare_send(c, client, DP_FIN | DP_ACK);
		client->state = RP_CLIENT_IDLE;
	}
	if (client->state == RP_CLIENT_IDLE) {
		if (c->options->load == RP_HTTP_CLOSE && c->next == c->script->requests) {
			c->ready_first++;
			return true;
		}
		client->port = (uint16_t)(10000 + client->opened++ % 50000);
		client->seq = client->opened * 2654435761u;
		client->state = RP_CLIENT_OPENING;
		c->ready_first++;
		bare_send(c, client, DP_SYN);
		return true;
	}
	if (!client->pieces) {
		if (!may_begin(c))
			return false;
		client->due_ns = c->ns_per_event ? due_ns(c) : c->now_ns;
		client->request = c->next;
		const struct rp_request *request = &c->script->request[c->next];
		client->piece = (struct rp_piece *)(void *)(c->script->memory + request->at);
		client->pieces = request->pieces;
		request_begun(c);
	}
	struct rp_piece *piece = client->piece;
	client->piece = rp_piece_next(piece);
	if (--client->pieces == 0) {
		client->state = RP_CLIENT_WAITING;
		c->ready_first++;
	}
	tcp_send(c, client, piece->payload - RP_HEADERS_BYTES, piece->bytes, piece->sum, DP_ACK | DP_PSH);
	return true;
}

static void batch_send(struct rp_clients *c, uint32_t number)
{
	const struct rp_request *request = &c->script->request[number];
	if (c->batch_sent_ns)
		c->batch_sent_ns[number] = c->now_ns;
	udp_send(c, (struct rp_piece *)(void *)(c->script->memory + request->at), FIRST_ADDRESS + number % c->options->clients,
		 5000);
}

/* A batch that was put off, when its time has come. An answer to an earlier copy of it may have come meanwhile. */
static bool later_send(struct rp_clients *c)
{
	while (c->later_first != c->later_next) {
		const struct rp_later *later = &c->later[c->later_first % c->options->window];
		if (!c->batch_done[later->number] && c->now_ns < later->at_ns)
			return false;
		c->later_first++;
		if (c->batch_done[later->number])
			continue;
		batch_send(c, later->number);
		return true;
	}
	return false;
}

/* Looks at a few of the batches on their way, in turn: one that has no answer for long is sent again. */
static bool batch_repeat(struct rp_clients *c)
{
	while (c->batch_first < c->next && c->batch_done[c->batch_first])
		c->batch_first++;
	for (uint32_t step = 0; step < LOOK_STEP && c->batch_first < c->next; step++) {
		if (c->batch_look < c->batch_first || c->batch_look >= c->next)
			c->batch_look = c->batch_first;
		const uint32_t number = c->batch_look++;
		if (c->batch_done[number] || c->batch_sent_ns[number] == BATCH_PUT_OFF ||
		    c->now_ns - c->batch_sent_ns[number] < REPEAT_NS)
			continue;
		c->repeated += c->script->request[number].events;
		batch_send(c, number);
		return true;
	}
	return false;
}

static bool datagram_step(struct rp_clients *c)
{
	const bool batches = c->options->load == RP_UDP_BATCH;
	if (batches && (later_send(c) || batch_repeat(c)))
		return true;
	if (!may_begin(c) || (batches ? c->owed : c->events_owed) >= c->options->window)
		return false;
	const uint32_t number = c->next;
	if (batches && client_of(c, number)->owed >= client_of(c, number)->window)
		return false;
	if (batches)
		client_of(c, number)->owed++;
	if (c->batch_due_ns)
		c->batch_due_ns[number] = c->ns_per_event ? due_ns(c) : c->now_ns;
	request_begun(c);
	batch_send(c, number);
	return true;
}

static void prefetch(const struct rp_clients *c)
{
	if (c->next + PREFETCH_AHEAD >= c->script->requests)
		return;
	const struct rp_request *request = &c->script->request[c->next + PREFETCH_AHEAD];
	for (uint32_t line = 0; line < request->bytes + sizeof(struct rp_piece) && line < 1024; line += 64)
		__builtin_prefetch(c->script->memory + request->at + line);
}

bool rp_clients_step(struct rp_clients *c)
{
	if (c->arp_count) {
		c->deliver(c->context, c->arp[--c->arp_count], sizeof(c->arp[0]));
		return true;
	}
	const bool stepped = is_tcp(c) ? client_step(c) : datagram_step(c);
	if (stepped)
		prefetch(c);
	return stepped;
}

bool rp_clients_reset(struct rp_clients *c)
{
	while (is_tcp(c) && c->ready_first != c->ready_next) {
		struct rp_client *client = &c->client[c->ready[c->ready_first++ % RP_CLIENTS_MAX]];
		if (client->state != RP_CLIENT_READY)
			continue;
		bare_send(c, client, DP_RST | DP_ACK);
		return true;
	}
	return false;
}
