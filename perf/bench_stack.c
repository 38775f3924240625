/*
 * The receive path on one core, without a network: frames from memory through our stack, HTTP, JSON and the intake, and the answers'
 * frames back. What a DPDK port's rx core does between rte_eth_rx_burst and rte_eth_tx_burst, and nothing of what the clients do:
 * their frames are written before the clock runs, checksums and all. The shard is played: it takes every event and calls it
 * durable at once.
 *
 *   requests              64 keep-alive connections, a POST of one 490-byte JSON event each, 204
 *   connections           handshake, FIN from the client, FIN from us, last ACK
 *   connections, a beacon the same with one POST on each
 *
 * bench_stack [--seconds S] [--connections N] [--profile MODE]. One line per mode. Processor time, the best of its rounds.
 */
#include "make_events.h"

#include "beacon.h"
#include "stack.h"
#include "tcp.h"
#include "turnpike/text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
	BURST = 32,
	ROUNDS = 64, /* requests on each connection between two generations of frames */
	CLIENTS_MAX = 1024,
	BATCH = 512, /* connections opened and closed together */
	FRAME_BYTES = 1536,
	HOP_BYTES = 64 << 20,
	OUT_FRAMES = 256,
	EVENTS = 100000,
	HEADERS_BYTES = 54,
};

struct client {
	uint32_t seq, ack; /* what it sends next, what it has received */
	uint16_t port;
};

struct frame {
	uint32_t bytes;
	uint8_t byte[FRAME_BYTES - 4];
};

static struct {
	struct dp_stack *stack;
	struct dp_beacon *beacon;
	struct dp_intake *intake;
	struct tp_hop hop;
	struct dp_late_ring late;
	struct tp_counters counters;
	struct tp_config config;
	struct tp_config_ingest ingest;
	struct tp_prefix address;
	struct perf_events events;
	uint32_t event;
	uint64_t now_ns, now_ms;
	struct client client[CLIENTS_MAX];
	struct frame *frame; /* what the clients send */
	uint8_t out[OUT_FRAMES][2048];
	uint32_t out_next;
	uint64_t data_frames;
} bench;

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, their_mac[6] = {2, 0, 0, 0, 0, 2};

/* ---- the port ---- */

static void *frame_open(void *context, size_t bytes)
{
	(void)context, (void)bytes;
	return bench.out[bench.out_next];
}

/* Keeps where the server stands, as the client's kernel would. */
static void frame_send(void *context, void *bytes, size_t count)
{
	const uint8_t *frame = bytes, *tcp = frame + 34;
	(void)context;
	bench.out_next = (bench.out_next + 1) % OUT_FRAMES;
	if (frame[12] != 8 || frame[13] != 0)
		return;
	uint32_t data = (uint32_t)dp_get16(frame + 16) - 20 - (uint32_t)(tcp[12] >> 4) * 4;
	struct client *client = &bench.client[dp_get16(tcp + 2) & (CLIENTS_MAX - 1)];
	if (client->port != dp_get16(tcp + 2))
		return; /* a connection that the clients have forgotten */
	client->ack = dp_get32(tcp + 4) + data + ((tcp[13] & (DP_SYN | DP_FIN)) != 0);
	bench.data_frames += data != 0;
	(void)count;
}

static int start(void)
{
	static _Atomic uint32_t refusing;
	static _Atomic uint64_t latency[40], latency_sum;
	struct tp_hop *hops[] = {&bench.hop};
	struct dp_late_ring *lates[] = {&bench.late};
	struct dp_intake_options intake = {.hop = hops,
					   .late = lates,
					   .shards = 1,
					   .requests_max = 16384,
					   .refusing = &refusing,
					   .counters = &bench.counters,
					   .ack_latency = latency,
					   .ack_ns_sum = &latency_sum};
	tp_prefix_parse("10.77.0.1/8", 11, &bench.address);
	bench.ingest =
		(struct tp_config_ingest){.driver = TP_DRIVER_DPDK, .address = &bench.address, .address_count = 1, .http_port = 80};
	bench.config = (struct tp_config){.ingest = &bench.ingest, .ingest_count = 1, .rx_count = 1, .max_future_ms = 60000};
	bench.now_ms = PERF_EVENTS_NOW_MS;
	bench.now_ns = 1000000000;
	if (tp_hop_init(&bench.hop, HOP_BYTES) || dp_intake_create(&bench.intake, &intake))
		return -1;
	dp_intake_clock(bench.intake, bench.now_ms, bench.now_ns);
	struct dp_beacon_options beacon = {.config = &bench.config,
					   .intake = bench.intake,
					   .connections_max = 16384,
					   .small_buffers = 1024,
					   .large_buffers = 4,
					   .rx_count = 1,
					   .shards = 1};
	if (dp_beacon_create(&bench.beacon, &beacon))
		return -1;
	struct dp_stack_options stack = {.mtu = 1500,
					 .address = &bench.address,
					 .address_count = 1,
					 .http_port = 80,
					 .connections_max = 16384,
					 .send_buffer_bytes = 65536,
					 .secret = {1, 2},
					 .beacon = bench.beacon,
					 .counters = &bench.counters,
					 .frame_open = frame_open,
					 .frame_send = frame_send};
	memcpy(stack.mac, our_mac, 6);
	if (dp_stack_create(&bench.stack, &stack))
		return -1;
	/* Huge pages, as a port's buffers lie on them. */
	size_t bytes = (size_t)CLIENTS_MAX * ROUNDS * sizeof(struct frame);
	bench.frame = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bench.frame == MAP_FAILED || perf_events_make(&bench.events, 1, EVENTS))
		return -1;
	madvise(bench.frame, bytes, MADV_HUGEPAGE);
	return 0;
}

/* One loop round of an rx core, and the shard's part in it. */
static void round_run(const struct frame *const *frame, uint32_t count)
{
	bench.now_ns += 20000;
	dp_intake_clock(bench.intake, bench.now_ms, bench.now_ns);
	for (uint32_t i = 0; i < count && i < 4; i++)
		__builtin_prefetch(frame[i]->byte);
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t line = 0; i + 4 < count && line < frame[i + 4]->bytes; line += 64)
			__builtin_prefetch(frame[i + 4]->byte + line);
		dp_stack_input(bench.stack, frame[i]->byte, frame[i]->bytes, bench.now_ns);
	}
	dp_stack_flush(bench.stack, bench.now_ns);
	dp_stack_tick(bench.stack, bench.now_ns);
	while (tp_hop_take(&bench.hop))
		tp_hop_decide(&bench.hop, bench.hop.taken_slots - 1, TP_ACCEPTED);
	tp_hop_durable(&bench.hop, bench.hop.taken);
	dp_intake_poll(bench.intake);
	dp_beacon_poll(bench.beacon);
}

/* ---- the clients ---- */

static void frame_write(struct frame *frame, struct client *client, uint8_t flags, const void *data, uint32_t bytes)
{
	uint8_t *at = frame->byte, *ip = at + 14, *tcp = ip + 20;
	frame->bytes = HEADERS_BYTES + bytes;
	memset(at, 0, HEADERS_BYTES);
	memcpy(at, our_mac, 6);
	memcpy(at + 6, their_mac, 6);
	dp_put16(at + 12, DP_TYPE_IP4);
	ip[0] = 0x45;
	dp_put16(ip + 2, (uint16_t)(40 + bytes));
	dp_put16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = DP_PROTOCOL_TCP;
	dp_put32(ip + 12, 0x0a000000 | (client->port & (CLIENTS_MAX - 1)) | 0x10000);
	memcpy(ip + 16, bench.address.addr.byte + 12, 4);
	dp_put_sum(ip + 10, dp_sum(ip, 20, 0));
	dp_put16(tcp, client->port);
	dp_put16(tcp + 2, 80);
	dp_put32(tcp + 4, client->seq);
	dp_put32(tcp + 8, client->ack);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	dp_put16(tcp + 14, 0xfff0);
	if (bytes)
		memcpy(tcp + 20, data, bytes);
	uint64_t pseudo = dp_pseudo_add(dp_sum(ip + 12, 8, 0), DP_PROTOCOL_TCP, 20 + bytes);
	dp_put_sum(tcp + 16, dp_sum(tcp, 20 + bytes, pseudo));
	client->seq += bytes + ((flags & (DP_SYN | DP_FIN)) != 0);
}

static uint32_t request_write(char *to)
{
	const uint64_t at = bench.events.start[bench.event];
	const uint32_t bytes = (uint32_t)(bench.events.start[bench.event + 1] - at) - 1;
	bench.event = (bench.event + 1) % bench.events.count;
	int head = snprintf(
		to, 256,
		"POST /api/v1/clicks HTTP/1.1\r\nHost: 10.77.0.1\r\nContent-Type: application/json\r\nContent-Length: %u\r\n\r\n",
		bytes);
	memcpy(to + head, bench.events.text + at, bytes);
	return (uint32_t)head + bytes;
}

static void request_frame(struct frame *frame, struct client *client)
{
	char request[FRAME_BYTES];
	frame_write(frame, client, DP_ACK | DP_PSH, request, request_write(request));
}

static uint64_t cpu_ns(void)
{
	struct timespec at;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

/* Hands frames [0, count) over, in bursts, then lets the answers out. Returns the time it took. */
static uint64_t hand_over(uint32_t count)
{
	const struct frame *burst[BURST];
	uint64_t began = cpu_ns();
	for (uint32_t at = 0; at < count; at += BURST) {
		uint32_t n = count - at < BURST ? count - at : BURST;
		for (uint32_t i = 0; i < n; i++)
			burst[i] = &bench.frame[at + i];
		round_run(burst, n);
	}
	round_run(NULL, 0);
	return cpu_ns() - began;
}

static uint64_t clients_open(uint32_t count, uint16_t port)
{
	for (uint32_t i = 0; i < count; i++) {
		struct client *client = &bench.client[(port + i) & (CLIENTS_MAX - 1)];
		*client = (struct client){.seq = 1000 * i, .port = (uint16_t)(port + i)};
		frame_write(&bench.frame[i], client, DP_SYN, NULL, 0);
	}
	uint64_t took = hand_over(count);
	for (uint32_t i = 0; i < count; i++)
		frame_write(&bench.frame[i], &bench.client[(port + i) & (CLIENTS_MAX - 1)], DP_ACK, NULL, 0);
	return took;
}

static void check(uint64_t got, uint64_t wanted, const char *what)
{
	if (got == wanted)
		return;
	for (uint32_t c = 0; c < TP_COUNTERS; c++) /* what else has happened */
		if (bench.counters.v[c])
			fprintf(stderr, "%s %s %s: %llu\n", tp_layer_name(tp_counter_info[c].layer),
				tp_kind_name(tp_counter_info[c].kind), tp_counter_info[c].label,
				(unsigned long long)bench.counters.v[c]);
	fprintf(stderr, "bench_stack: %s: %llu, wanted %llu\n", what, (unsigned long long)got, (unsigned long long)wanted);
	exit(1);
}

/* ---- modes: each round returns nanoseconds, and how many in *done ---- */

static uint64_t requests(uint32_t connections, uint32_t *done)
{
	static bool open;
	static uint32_t answer_bytes;
	if (!open) {
		clients_open(connections, 4096);
		hand_over(connections);
		uint32_t before = bench.client[0].ack;
		for (uint32_t i = 0; i < connections; i++)
			request_frame(&bench.frame[i], &bench.client[i]);
		hand_over(connections);
		answer_bytes = bench.client[0].ack - before;
		open = true;
	}
	uint64_t accepted = bench.counters.v[TP_C_REQUESTS_ACCEPTED], events = bench.counters.v[TP_C_EVENTS_ACCEPTED];
	uint32_t ack[CLIENTS_MAX];
	for (uint32_t i = 0; i < connections; i++)
		ack[i] = bench.client[i].ack;
	/* Every frame acknowledges the answer before it, whose length is known: all can be written ahead. */
	for (uint32_t round = 0; round < ROUNDS; round++)
		for (uint32_t i = 0; i < connections; i++) {
			bench.client[i].ack = ack[i] + round * answer_bytes;
			request_frame(&bench.frame[round * connections + i], &bench.client[i]);
		}
	*done = ROUNDS * connections;
	uint64_t took = hand_over(*done);
	check(bench.counters.v[TP_C_REQUESTS_ACCEPTED] - accepted, *done, "requests answered 2xx");
	check(bench.counters.v[TP_C_EVENTS_ACCEPTED] - events, *done, "events accepted");
	check(bench.client[0].ack, ack[0] + ROUNDS * answer_bytes, "bytes answered");
	return took;
}

static uint64_t connections_round(uint32_t *done, bool beacon)
{
	static uint16_t port = 8192;
	uint64_t opened = bench.counters.v[TP_C_CONNECTIONS_OPENED], closed = bench.counters.v[TP_C_CONNECTIONS_CLOSED];
	uint64_t accepted = bench.counters.v[TP_C_REQUESTS_ACCEPTED];
	port = (uint16_t)(port + BATCH < 60000 ? port + BATCH : 8192);
	uint64_t took = clients_open(BATCH, port);
	took += hand_over(BATCH);
#define EACH(call) \
	do { \
		for (uint32_t i = 0; i < BATCH; i++) { \
			struct client *client = &bench.client[(port + i) & (CLIENTS_MAX - 1)]; \
			struct frame *frame = &bench.frame[i]; \
			call; \
		} \
		took += hand_over(BATCH); \
	} while (0)
	if (beacon)
		EACH(request_frame(frame, client));
	EACH(frame_write(frame, client, DP_ACK | DP_FIN, NULL, 0));
	EACH(frame_write(frame, client, DP_ACK, NULL, 0));
#undef EACH
	*done = BATCH;
	check(bench.counters.v[TP_C_CONNECTIONS_OPENED] - opened, BATCH, "connections opened");
	check(bench.counters.v[TP_C_CONNECTIONS_CLOSED] - closed, BATCH, "connections closed");
	check(bench.counters.v[TP_C_REQUESTS_ACCEPTED] - accepted, beacon ? BATCH : 0, "requests answered 2xx");
	return took;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
						{"connections", required_argument, NULL, 'c'},
						{"profile", required_argument, NULL, 'p'},
						{0}};
	static const char *const name[] = {"requests", "connections", "connections, a beacon each"};
	double seconds = 1;
	uint32_t connections = 64;
	int only = -1;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 's')
			seconds = strtod(optarg, NULL);
		else if (c == 'c')
			connections = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'p')
			only = atoi(optarg);
		else
			return 2;
	}
	if (connections < BURST || connections > CLIENTS_MAX || start() != 0) {
		fprintf(stderr, "bench_stack: expected %d to %d connections; or there is no memory\n", BURST, CLIENTS_MAX);
		return 1;
	}
	for (int mode = 0; mode < 3; mode++) {
		uint64_t end = tp_mono_ns() + (uint64_t)(seconds * 1e9);
		double best = 0;
		if (only >= 0 && mode != only)
			continue;
		for (uint32_t round = 0; tp_mono_ns() < end || round < 3; round++) {
			uint32_t done;
			uint64_t took = mode == 0 ? requests(connections, &done) : connections_round(&done, mode == 2);
			double rate = (double)done * 1e9 / (double)took;
			best = rate > best ? rate : best;
		}
		printf("%s: %.0f %s/s (%.0f ns each)\n", name[mode], best, mode == 0 ? "requests" : "connections", 1e9 / best);
	}
	return 0;
}
