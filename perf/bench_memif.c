/*
 * Beacons over net_memif, from a process of its own: clients as in bench_path (replay_client.h), their frames through shared memory to a node whose
 * dpdk port is the other end. Prints requests per second from the first request to the last answer, and how long they took. Nothing else is
 * lent by the kernel or the machine: both sides poll, both copy each frame, and the node does all that it promises.
 *
 *   bench_memif SOCKET LOAD [--events N] [--clients N] [--seed N]
 *   LOAD  http, http-batch, http-close
 *
 * The node:  {driver: dpdk, device: 'net_memif0,role=server,id=0,socket=SOCKET,socket-abstract=no,rsize=13,mac=02:00:00:00:00:01', address: [10.77.0.1/8], …}
 * A frame that finds the ring full waits here; one that the node loses is lost, and the run with it. Run by perf/run.py "net_memif". Source: DPDK 22.11, "Memif Poll Mode Driver".
 */
#include "replay_client.h"

#include "turnpike/text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { BURST = 32, MBUFS = 16383, DESCRIPTORS = 8192, LINK_TRIES = 1000, STILL_NS = 2000000000, ENDED_NS = 100000000 };

static const char *const load_name[] = {"udp-text", "udp-batch", "http", "http-batch", "http-close"};

struct wire {
	struct rte_mempool *pool;
	struct rte_mbuf *out[BURST];
	uint16_t port, count;
};

/* False: the ring is still full. */
static bool flush(struct wire *wire)
{
	const uint16_t sent = rte_eth_tx_burst(wire->port, 0, wire->out, wire->count);
	wire->count = (uint16_t)(wire->count - sent);
	memmove(wire->out, wire->out + sent, wire->count * sizeof(*wire->out));
	return !wire->count;
}

/* There is room: the caller stops before BURST. */
static void deliver(void *context, const uint8_t *frame, uint32_t bytes)
{
	struct wire *wire = context;
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(wire->pool);
	if (!mbuf)
		rte_exit(1, "no buffer\n");
	memcpy(rte_pktmbuf_mtod(mbuf, void *), frame, bytes);
	mbuf->data_len = (uint16_t)bytes;
	mbuf->pkt_len = bytes;
	wire->out[wire->count++] = mbuf;
}

static int wire_open(struct wire *wire, const char *socket)
{
	char device[512];
	snprintf(device, sizeof(device), "net_memif0,role=client,id=0,socket=%s,socket-abstract=no,rsize=13,mac=02:00:00:00:00:02",
		 socket);
	char *argv[] = {"bench_memif", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "--log-level=4", "-m",
			"512",         "--vdev",    device,        NULL};
	struct rte_eth_conf conf = {0};
	struct rte_eth_link link = {0};
	cpu_set_t before;
	sched_getaffinity(0, sizeof(before), &before);
	if (rte_eal_init((int)(sizeof(argv) / sizeof(argv[0])) - 1, argv) < 0)
		return -rte_errno;
	sched_setaffinity(0, sizeof(before), &before);
	wire->pool = rte_pktmbuf_pool_create("bench", MBUFS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (!wire->pool)
		return -rte_errno;
	int rc = rte_eth_dev_configure(wire->port, 1, 1, &conf);
	if (!rc)
		rc = rte_eth_rx_queue_setup(wire->port, 0, DESCRIPTORS, 0, NULL, wire->pool);
	if (!rc)
		rc = rte_eth_tx_queue_setup(wire->port, 0, DESCRIPTORS, 0, NULL);
	if (!rc)
		rc = rte_eth_dev_start(wire->port);
	for (int i = 0; !rc && i < LINK_TRIES; i++) {
		if (!rte_eth_link_get_nowait(wire->port, &link) && link.link_status)
			return 0;
		rte_delay_us_sleep(10000);
	}
	return rc ? rc : -ETIMEDOUT;
}

/* Until all is answered. False: nothing moves any more. */
static bool run(struct wire *wire, struct rp_clients *clients)
{
	struct rte_mbuf *in[BURST];
	uint64_t moved_ns = tp_mono_ns();
	while (!rp_clients_ended(clients)) {
		clients->now_ns = tp_mono_ns();
		const uint16_t count = rte_eth_rx_burst(wire->port, 0, in, BURST);
		for (uint16_t i = 0; i < count; i++)
			rp_clients_take(clients, rte_pktmbuf_mtod(in[i], const uint8_t *), in[i]->data_len);
		rte_pktmbuf_free_bulk(in, count);
		/* a step sends two frames at most */
		while (wire->count < BURST - 1 && rp_clients_step(clients))
			;
		if (wire->count && flush(wire))
			moved_ns = clients->now_ns;
		if (count)
			moved_ns = clients->now_ns;
		else if (clients->now_ns - moved_ns > STILL_NS)
			return false;
	}
	/* Leave no connection behind; what the last segments bring is not looked at. */
	for (uint64_t from = tp_mono_ns(); tp_mono_ns() - from < ENDED_NS;) {
		rte_pktmbuf_free_bulk(in, rte_eth_rx_burst(wire->port, 0, in, BURST));
		while (wire->count < BURST - 1 && rp_clients_reset(clients))
			;
		flush(wire);
	}
	return true;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {{"events", required_argument, NULL, 'e'},
						     {"clients", required_argument, NULL, 'c'},
						     {"seed", required_argument, NULL, 's'},
						     {0}};
	struct rp_options options = {.events = 1000000, .ports = 1, .clients = 64, .batch = 100};
	static struct blast_histogram latency;
	struct rp_clients clients = {.options = &options, .latency = &latency};
	struct rp_script script;
	struct wire wire = {0};
	uint32_t load = 0;

	blast_options_parse(&options.synth, 3,
			    (char *[]){(char *)(uintptr_t) "bench_memif", (char *)(uintptr_t) "--to",
				       (char *)(uintptr_t) "http://10.77.0.1:80", NULL});
	optind = 0; /* from the beginning, for our own */
	options.synth.duplicates = 0.01;
	options.synth.seed = tp_now_ms();
	for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		if (c == 'e')
			options.events = strtoull(optarg, NULL, 10);
		else if (c == 'c')
			options.clients = (uint32_t)atoi(optarg);
		else if (c == 's')
			options.synth.seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	while (argc - optind == 2 && load < 5 && strcmp(argv[optind + 1], load_name[load]) != 0)
		load++;
	if (argc - optind != 2 || load == 5 || load < RP_HTTP_SINGLE || !options.events || !options.clients ||
	    options.clients > RP_CLIENTS_MAX) {
		fprintf(stderr, "usage: bench_memif SOCKET http|http-batch|http-close [--events N] [--clients N] [--seed N]\n");
		return 2;
	}
	options.load = (enum rp_load)load;
	int rc = rp_script_make(&script, &options, 0);
	if (!rc)
		rc = wire_open(&wire, argv[optind]);
	clients.script = &script;
	clients.deliver = deliver;
	clients.context = &wire;
	if (!rc)
		rc = rp_clients_open(&clients);
	if (rc)
		return fprintf(stderr, "bench_memif: %s\n", strerror(-rc)), 1;
	const uint64_t began = tp_mono_ns();
	const bool ended = run(&wire, &clients);
	const double seconds = (double)(tp_mono_ns() - began - (ended ? ENDED_NS : 0)) / 1e9;
	printf("%s over net_memif: %.0f requests/s, %.0f events/s; events=%llu answered=%llu refused=%llu copies=%llu seconds=%.2f "
	       "p50=%.2f ms "
	       "p99=%.2f ms p99.9=%.2f ms\n",
	       load_name[load], (double)blast_histogram_count(&latency) / seconds, (double)clients.answered / seconds,
	       (unsigned long long)script.events, (unsigned long long)clients.answered, (unsigned long long)clients.refused,
	       (unsigned long long)script.copies, seconds, (double)blast_histogram_at(&latency, 0.5) / 1e6,
	       (double)blast_histogram_at(&latency, 0.99) / 1e6, (double)blast_histogram_at(&latency, 0.999) / 1e6);
	rte_eth_dev_stop(wire.port);
	rte_eth_dev_close(wire.port);
	if (ended && clients.answered == script.events && !clients.refused)
		return 0;
	fprintf(stderr, "bench_memif: %s\n", ended ? "not each event was answered well" : "nothing moves any more");
	return 1;
}
