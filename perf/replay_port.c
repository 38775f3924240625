/*
 * The port driver of a benchmark: see replay.h. It defines what dataplane/port's DPDK driver defines, so a program that links it has no
 * DPDK in it. Its clients are those of replay_client.h.
 *
 * open is cold; poll is the rx core's, which alone touches a port until ended_ns is set.
 */
#include "replay_client.h"

#include "../dataplane/port/port.h"
#include "net.h"
#include "stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

enum {
	BURST = 32, /* frames a round, as a card's burst */
	OUT_FRAMES = 256,
	MTU = 9000,
	SAMPLE_ROUNDS = 16,
};

struct dp_port {
	struct dp_stack *stack;
	struct tp_counters *counters;
	struct rp_result *result;
	struct rp_clients clients;
	uint64_t now_ns, rounds, inside;
	uint8_t out[OUT_FRAMES][MTU + 64];
	uint32_t out_next;
};

static const struct rp_options *options;
static struct rp_script *scripts;
static struct rp_result *results;
static _Atomic bool going;

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

static void frame_in(void *context, const uint8_t *frame, uint32_t bytes)
{
	struct dp_port *port = context;
	/* An answer to ARP may come when the node has given up the question. */
	if (dp_stack_input(port->stack, frame, bytes, port->now_ns) != TP_C_FRAMES_ACCEPTED && dp_get16(frame + 12) != DP_TYPE_ARP)
		port->clients.refused++;
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
	uint64_t began = __rdtsc();
	port->out_next = (port->out_next + 1) % OUT_FRAMES;
	TP_COUNT(port->counters, FRAMES_SENT);
	rp_clients_take(&port->clients, frame, bytes);
	own_ticks += __rdtsc() - began;
}

/* Text is not answered: what the node has is what its counters say. */
static void text_look(struct dp_port *port)
{
	uint64_t inside = port->counters->v[TP_C_EVENTS_ACCEPTED] + port->counters->v[TP_C_EVENTS_DUPLICATES] +
			  port->counters->v[TP_C_EVENTS_LATE] + port->counters->v[TP_C_EVENTS_CONFLICTS];
	if (inside == port->inside)
		return;
	port->clients.answered += inside - port->inside;
	port->clients.events_owed -= inside - port->inside;
	port->clients.owed -= (uint32_t)(inside - port->inside);
	port->inside = inside;
}

static uint32_t poll(struct dp_port *port, uint64_t now_ns)
{
	uint32_t frames = 0;
	struct rp_result *result = port->result;
	const bool sampled = port->rounds++ % SAMPLE_ROUNDS == 0;

	port->now_ns = port->clients.now_ns = now_ns;
	if (!atomic_load_explicit(&going, memory_order_acquire) || atomic_load_explicit(&result->ended_ns, memory_order_relaxed)) {
		dp_stack_flush(port->stack, now_ns);
		return dp_stack_tick(port->stack, now_ns);
	}
	if (!port->clients.before_ns) {
		port->clients.before_ns = now_ns;
		atomic_store(&result->begun_ns, now_ns);
	}
	uint64_t began = __rdtsc();
	own_ticks = 0;
	if (options->load == RP_UDP_TEXT)
		text_look(port);
	while (frames < BURST && rp_clients_step(&port->clients))
		frames++;
	dp_stack_flush(port->stack, now_ns);
	uint32_t fired = dp_stack_tick(port->stack, now_ns);
	if (sampled && frames) {
		result->sampled_ticks += __rdtsc() - began;
		result->own_ticks += own_ticks;
	}
	if (rp_clients_ended(&port->clients)) {
		atomic_store_explicit(&result->answered, port->clients.answered, memory_order_relaxed);
		result->repeated = port->clients.repeated;
		result->laters = port->clients.laters;
		atomic_store_explicit(&result->refused, port->clients.refused, memory_order_relaxed);
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
	port->result = &results[with->queue];
	port->counters = with->counters;
	port->clients = (struct rp_clients){.options = options,
					    .script = &scripts[with->queue],
					    .latency = &port->result->latency,
					    .deliver = frame_in,
					    .context = port};
	int rc = rp_clients_open(&port->clients);
	if (rc) {
		free(port);
		return rc;
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
	memcpy(stack.mac, rp_node_mac, 6);
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
	return port->clients.owed;
}

static bool list(struct dp_port *port, struct dp_connection_list *connections, uint32_t *cursor, uint32_t most)
{
	return dp_stack_list(port->stack, connections, cursor, most);
}

static void port_close(struct dp_port *port)
{
	dp_stack_destroy(port->stack);
	rp_clients_close(&port->clients);
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
