/*
 * The port driver of a benchmark: see replay.h. It defines what dataplane/port's DPDK driver defines, so a program that links it has no
 * DPDK in it.
 *
 *   a client (TCP)   idle ─SYN─► opening ─SYN-ACK─► ready ─request─► waiting ─answer─► ready …
 *                                                                     └─ with a connection a request: FIN both ways ─► idle, next port
 *
 * open is cold; poll is the rx core's, which alone touches a port until ended_ns is set.
 */
#include "replay.h"

#include "../client/encode.h"
#include "../dataplane/port/port.h"
#include "net.h"
#include "stack.h"
#include "tcp.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

enum {
	BURST = 32, /* frames a round, as a card's burst */
	PREFETCH_AHEAD = 4,
	OUT_FRAMES = 256,
	FRAME_BYTES = 2048,
	MTU = 9000,
	SAMPLE_ROUNDS = 16,
	REPLAY_UDP_PORT = 7771,
};

enum client_state { CLIENT_IDLE, CLIENT_OPENING, CLIENT_READY, CLIENT_WAITING, CLIENT_CLOSING };

struct client {
	enum client_state state;
	uint16_t port, opened;
	uint32_t address;
	uint32_t seq, ack;      /* what it sends next, what it has received */
	uint32_t request;       /* the one on its way */
	struct rp_piece *piece; /* the next to be sent of it … */
	uint32_t pieces;        /* … and how many are left */
	uint64_t due_ns;
};

struct dp_port {
	struct dp_stack *stack;
	struct tp_counters *counters;
	const struct rp_script *script;
	struct rp_result *result;
	uint32_t number; /* which port */
	uint32_t next, owed, last_answer;
	uint64_t events_owed, answered, refused, given_events;
	uint64_t before_ns; /* when open-loop time began */
	double ns_per_event;
	struct client *client;
	uint32_t *ready; /* clients that may send; a ring */
	uint32_t ready_first, ready_next;
	uint64_t *batch_due_ns; /* of UDP batches, by number */
	uint32_t *batch_events;
	uint8_t *batch_done;
	uint64_t now_ns, rounds, inside;
	uint8_t out[OUT_FRAMES][MTU + 64], header[64];
	uint32_t out_next;
	uint8_t small[128]; /* a frame without payload */
};

static const struct rp_options *options;
static struct rp_script *scripts;
static struct rp_result *results;
static _Atomic bool going;
static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, their_mac[6] = {2, 0, 0, 0, 0, 2};

void rp_ports_set(const struct rp_options *with, struct rp_script *script, struct rp_result *result)
{
	options = with;
	scripts = script;
	results = result;
}

void rp_ports_go(void)
{
	atomic_store_explicit(&going, true, memory_order_release);
}

static bool is_tcp(void)
{
	return options->load >= RP_HTTP_SINGLE;
}

/* ---- frames to the node ---- */

static void ip_write(uint8_t *at, uint32_t from, uint8_t protocol, uint32_t bytes)
{
	uint8_t *ip = at + 14;
	memcpy(at, our_mac, 6);
	memcpy(at + 6, their_mac, 6);
	dp_put16(at + 12, DP_TYPE_IP4);
	dp_put16(ip, 0x4500);
	dp_put16(ip + 2, (uint16_t)(20 + bytes));
	dp_put32(ip + 4, 0x00004000);
	ip[8] = 64;
	ip[9] = protocol;
	dp_put16(ip + 10, 0);
	dp_put32(ip + 12, from);
	dp_put32(ip + 16, 0x0a4d0001);
	dp_put_sum(ip + 10, dp_sum(ip, 20, 0));
}

static void frame_in(struct dp_port *port, const uint8_t *frame, uint32_t bytes)
{
	if (dp_stack_input(port->stack, frame, bytes, port->now_ns) != TP_C_FRAMES_ACCEPTED)
		port->refused++;
}

/* `frame` has its payload at `frame + RP_HEADERS_BYTES`, of which `sum` is the sum. */
static void tcp_in(struct dp_port *port, struct client *client, uint8_t *frame, uint32_t bytes, uint64_t sum, uint8_t flags)
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
	frame_in(port, frame, RP_HEADERS_BYTES + bytes);
}

static void bare_in(struct dp_port *port, struct client *client, uint8_t flags)
{
	tcp_in(port, client, port->small, 0, 0, flags);
}

static void udp_in(struct dp_port *port, struct rp_piece *piece, uint32_t from, uint16_t from_port)
{
	uint8_t *frame = piece->payload - 42, *udp = frame + 34;
	ip_write(frame, from, DP_PROTOCOL_UDP, 8 + piece->bytes);
	dp_put16(udp, from_port);
	dp_put16(udp + 2, REPLAY_UDP_PORT);
	dp_put16(udp + 4, (uint16_t)(8 + piece->bytes));
	dp_put16(udp + 6, 0);
	uint64_t pseudo = dp_pseudo_add(dp_sum(frame + 26, 8, 0), DP_PROTOCOL_UDP, 8 + piece->bytes);
	dp_put_sum(udp + 6, dp_sum(udp, 8, pseudo) + piece->sum);
	frame_in(port, frame, 42 + piece->bytes);
}

/* ---- frames from the node ---- */

static void ready_add(struct dp_port *port, uint32_t client)
{
	port->ready[port->ready_next++ % RP_CLIENTS_MAX] = client;
}

static void done(struct dp_port *port, uint32_t events, uint64_t due_ns, bool well)
{
	*(well ? &port->answered : &port->refused) += events;
	blast_histogram_add(&port->result->latency, port->now_ns > due_ns ? port->now_ns - due_ns : 0);
	port->owed--;
	port->events_owed -= events;
}

static void tcp_out(struct dp_port *port, const uint8_t *frame)
{
	const uint8_t *tcp = frame + 34;
	const uint32_t which = (dp_get32(frame + 30) & 0xffff) - 2;
	if (which >= options->clients)
		return;
	struct client *client = &port->client[which];
	if (client->port != dp_get16(tcp + 2))
		return; /* of a connection that it has left */
	const uint32_t header = (uint32_t)(tcp[12] >> 4) * 4, data = (uint32_t)dp_get16(frame + 16) - 20 - header;
	if (tcp[13] & DP_RST) {
		port->refused++;
		return;
	}
	if (client->state == CLIENT_OPENING && tcp[13] & DP_SYN) {
		client->ack = dp_get32(tcp + 4) + 1;
		client->state = CLIENT_READY;
		ready_add(port, which);
		return;
	}
	if (dp_get32(tcp + 4) != client->ack)
		return; /* sent once more */
	client->ack += data + ((tcp[13] & DP_FIN) != 0);
	if (data && client->state == CLIENT_WAITING) {
		done(port, port->script->request[client->request].events, client->due_ns, tcp[header + 9] == '2');
		client->state = options->load == RP_HTTP_CLOSE ? CLIENT_CLOSING : CLIENT_READY;
		if (client->state == CLIENT_READY)
			ready_add(port, which);
	}
	if (client->state == CLIENT_CLOSING && tcp[13] & DP_FIN)
		ready_add(port, which); /* our FIN, and the next connection */
}

static void udp_out(struct dp_port *port, const uint8_t *frame, size_t bytes)
{
	struct tpc_answer answer;
	if (bytes < 42 || tpc_answer_read(frame + 42, dp_get16(frame + 38) - 8u, NULL, &answer) != 0)
		return;
	const uint64_t number = answer.number - 1;
	if (number >= port->script->requests || port->batch_done[number] || answer.kind != TPC_ANSWER_ACK)
		return;
	port->batch_done[number] = 1;
	done(port, port->script->request[number].events, port->batch_due_ns[number], true);
}

static void *frame_open(void *context, size_t bytes)
{
	struct dp_port *port = context;
	return bytes <= sizeof(port->out[0]) ? port->out[port->out_next] : NULL;
}

static uint64_t own_ticks;

static void frame_send(void *context, void *frame, size_t bytes)
{
	struct dp_port *port = context;
	const uint8_t *at = frame;
	uint64_t began = __rdtsc();
	port->out_next = (port->out_next + 1) % OUT_FRAMES;
	TP_COUNT(port->counters, FRAMES_SENT);
	if (dp_get16(at + 12) != DP_TYPE_IP4)
		return;
	if (at[23] == DP_PROTOCOL_TCP)
		tcp_out(port, at);
	else if (at[23] == DP_PROTOCOL_UDP)
		udp_out(port, at, bytes);
	own_ticks += __rdtsc() - began;
}

/* ---- who may send ---- */

/* When the next request is due; open loop only. */
static uint64_t due_ns(const struct dp_port *port)
{
	return port->before_ns + (uint64_t)((double)port->given_events * port->ns_per_event);
}

static bool may_begin(struct dp_port *port)
{
	return port->next < port->script->requests && (port->ns_per_event == 0 || due_ns(port) <= port->now_ns);
}

static void request_begun(struct dp_port *port)
{
	const struct rp_request *request = &port->script->request[port->next++];
	port->given_events += request->events;
	port->events_owed += request->events;
	port->owed++;
}

/* One frame of a client that may send. False: none may. */
static bool client_step(struct dp_port *port)
{
	if (port->ready_first == port->ready_next)
		return false;
	const uint32_t which = port->ready[port->ready_first % RP_CLIENTS_MAX];
	struct client *client = &port->client[which];
	if (client->state == CLIENT_CLOSING) {
		bare_in(port, client, DP_FIN | DP_ACK);
		client->state = CLIENT_IDLE;
	}
	if (client->state == CLIENT_IDLE) {
		if (options->load == RP_HTTP_CLOSE && port->next == port->script->requests) {
			port->ready_first++;
			return true;
		}
		client->port = (uint16_t)(10000 + client->opened++ % 50000);
		client->seq = client->opened * 2654435761u;
		client->state = CLIENT_OPENING;
		port->ready_first++;
		bare_in(port, client, DP_SYN);
		return true;
	}
	if (!client->pieces) {
		if (!may_begin(port))
			return false;
		client->due_ns = port->ns_per_event ? due_ns(port) : port->now_ns;
		client->request = port->next;
		const struct rp_request *request = &port->script->request[port->next];
		client->piece = (struct rp_piece *)(void *)(port->script->memory + request->at);
		client->pieces = request->pieces;
		request_begun(port);
	}
	struct rp_piece *piece = client->piece;
	client->piece = rp_piece_next(piece);
	if (--client->pieces == 0) {
		client->state = CLIENT_WAITING;
		port->ready_first++;
	}
	tcp_in(port, client, piece->payload - RP_HEADERS_BYTES, piece->bytes, piece->sum, DP_ACK | DP_PSH);
	return true;
}

static bool datagram_step(struct dp_port *port)
{
	if (!may_begin(port) ||
	    (options->load == RP_UDP_BATCH ? port->owed >= options->window : port->events_owed >= options->window))
		return false;
	const uint32_t number = port->next;
	const struct rp_request *request = &port->script->request[number];
	if (port->batch_due_ns)
		port->batch_due_ns[number] = port->ns_per_event ? due_ns(port) : port->now_ns;
	request_begun(port);
	udp_in(port, (struct rp_piece *)(void *)(port->script->memory + request->at), 0x0a000002 + number % options->clients, 5000);
	return true;
}

static void prefetch(const struct dp_port *port)
{
	if (port->next + PREFETCH_AHEAD >= port->script->requests)
		return;
	const struct rp_request *request = &port->script->request[port->next + PREFETCH_AHEAD];
	for (uint32_t line = 0; line < request->bytes + sizeof(struct rp_piece) && line < 1024; line += 64)
		__builtin_prefetch(port->script->memory + request->at + line);
}

/* Text is not answered: what the node has is what its counters say. */
static void text_look(struct dp_port *port)
{
	uint64_t inside = port->counters->v[TP_C_EVENTS_ACCEPTED] + port->counters->v[TP_C_EVENTS_DUPLICATES] +
			  port->counters->v[TP_C_EVENTS_LATE] + port->counters->v[TP_C_EVENTS_CONFLICTS];
	if (inside == port->inside)
		return;
	port->answered += inside - port->inside;
	port->events_owed -= inside - port->inside;
	port->owed -= (uint32_t)(inside - port->inside);
	port->inside = inside;
}

static uint32_t poll(struct dp_port *port, uint64_t now_ns)
{
	uint32_t frames = 0;
	struct rp_result *result = port->result;
	const bool sampled = port->rounds++ % SAMPLE_ROUNDS == 0;

	port->now_ns = now_ns;
	if (!atomic_load_explicit(&going, memory_order_acquire) || atomic_load_explicit(&result->ended_ns, memory_order_relaxed)) {
		dp_stack_flush(port->stack, now_ns);
		return dp_stack_tick(port->stack, now_ns);
	}
	if (!port->before_ns) {
		port->before_ns = now_ns;
		atomic_store(&result->begun_ns, now_ns);
	}
	uint64_t began = __rdtsc();
	own_ticks = 0;
	if (options->load == RP_UDP_TEXT)
		text_look(port);
	while (frames < BURST && (is_tcp() ? client_step(port) : datagram_step(port))) {
		prefetch(port);
		frames++;
	}
	dp_stack_flush(port->stack, now_ns);
	uint32_t fired = dp_stack_tick(port->stack, now_ns);
	if (sampled && frames) {
		result->sampled_ticks += __rdtsc() - began;
		result->own_ticks += own_ticks;
	}
	if (port->next == port->script->requests && !port->owed) {
		atomic_store_explicit(&result->answered, port->answered, memory_order_relaxed);
		atomic_store_explicit(&result->refused, port->refused, memory_order_relaxed);
		atomic_store_explicit(&result->ended_ns, now_ns, memory_order_release);
	}
	return frames + fired;
}

/* ---- the driver ---- */

static int port_open(struct dp_port **out, const struct dp_port_options *with)
{
	struct dp_port *port = calloc(1, sizeof(*port));
	if (!port)
		return -ENOMEM;
	port->number = with->queue;
	port->script = &scripts[with->queue];
	port->result = &results[with->queue];
	port->counters = with->counters;
	port->client = calloc(options->clients, sizeof(*port->client));
	port->ready = calloc(RP_CLIENTS_MAX, sizeof(*port->ready));
	if (options->load == RP_UDP_BATCH) {
		port->batch_due_ns = calloc(port->script->requests, sizeof(*port->batch_due_ns));
		port->batch_done = calloc(port->script->requests, 1);
	}
	if (options->rate > 0)
		port->ns_per_event = 1e9 * options->ports / options->rate;
	for (uint32_t i = 0; i < options->clients; i++) {
		port->client[i].address = 0x0a000002 + i;
		ready_add(port, i);
	}
	struct dp_stack_options stack = {.mtu = MTU,
					 .address = with->ingest->address,
					 .address_count = with->ingest->address_count,
					 .http_port = with->ingest->http_port,
					 .udp_port = with->ingest->udp_port,
					 .connections_max = 16384,
					 .send_buffer_bytes = 65536,
					 .secret = {1, 2},
					 .beacon = with->beacon,
					 .counters = with->counters,
					 .frame_open = frame_open,
					 .frame_send = frame_send,
					 .context = port,
					 .blocked = with->blocked,
					 .blocked_context = with->blocked_context};
	memcpy(stack.mac, our_mac, 6);
	*out = port;
	return dp_stack_create(&port->stack, &stack);
}

static int no_fd(struct dp_port *port)
{
	(void)port;
	return -1;
}

static uint32_t drain(struct dp_port *port, uint64_t now_ns)
{
	(void)now_ns;
	return port->owed;
}

static bool list(struct dp_port *port, struct dp_connection_list *connections, uint32_t *cursor, uint32_t most)
{
	return dp_stack_list(port->stack, connections, cursor, most);
}

static void port_close(struct dp_port *port)
{
	dp_stack_destroy(port->stack);
	free(port->client);
	free(port->ready);
	free(port->batch_due_ns);
	free(port->batch_done);
	free(port);
}

const struct dp_port_driver dp_port_dpdk = {
	.name = "replay", .open = port_open, .poll = poll, .fd = no_fd, .drain = drain, .list = list, .close = port_close};

int dp_dpdk_init(const struct tp_config *config)
{
	(void)config;
	return 0;
}
void dp_dpdk_fini(void)
{
}
int dp_dpdk_port_info(const struct tp_config_ingest *ingest, struct dp_port_info *info)
{
	(void)ingest, (void)info;
	return -ENODEV;
}
const char *dp_dpdk_describe(void)
{
	return "frames from memory";
}
int dp_dpdk_blocklist(const struct eb_block *blocks, uint32_t count)
{
	(void)blocks, (void)count;
	return 0;
}
int dp_dpdk_blocklist_hits(uint64_t *hits, uint32_t slots)
{
	(void)hits, (void)slots;
	return 0;
}
void dp_dpdk_packet_rates(const struct tp_config *config)
{
	(void)config;
}
int dp_dpdk_xdp_counters(uint64_t counters[EB_COUNTERS])
{
	(void)counters;
	return -ENOENT;
}
