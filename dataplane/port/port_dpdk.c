/*
 * The DPDK driver of ports: receive bursts into our stack, transmit what it sends. An instance is one rx core's share of a device.
 *
 *   rte_eth_rx_burst ─┬─ own flows ─► dp_stack_input × n ─► dp_stack_flush, dp_stack_tick ─► rte_eth_tx_burst
 *                     ├─ flows of other cores ─► their ring (spread.h)       │ frame_open: an mbuf of the transmit queue's pool
 *                     └─ what the stack has no use for ─► the tap (tap.h)    │ frame_send: into tx[]
 *   rings from other cores ─► dp_stack_input
 *
 * Rx core i polls queues i, i + cores, i + 2·cores … and transmits on the first of them. A core for which no queue is left gets its
 * flows from those that have one, and sends through core (i mod queues). device_open.c decides how flows find their core.
 *
 * open and close are cold, on the main thread, close after all rx cores have ended; poll, drain, fd and waits are the rx core's.
 * Source: DPDK 22.11, ethdev and mbuf libraries, net_af_xdp guide.
 */
#include "device.h"
#include "flow.h"
#include "port.h"
#include "spread.h"
#include "tap.h"

#include "stack.h"
#include "turnpike/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

enum {
	BURST = DP_SPREAD_BURST,
	PREFETCH_AHEAD = 4,
	PREFETCH_BYTES = 1024,
	TAP_BURST = 32,
	SEND_BUFFER_BYTES = 65536,
};

struct dp_port {
	struct dp_device *device;
	struct dp_stack *stack;
	struct dp_spread *spread; /* NULL: nobody else serves the device */
	struct dp_tap *tap;
	struct tp_counters *counters;
	struct dp_device_verdicts *verdicts;
	struct tp_sight *sight;
	bool (*blocked)(void *context, const struct tp_addr *peer);
	void *blocked_context;
	void (*wake)(void *context, uint32_t rx_core);
	void *wake_context;
	struct rte_mempool *pool; /* of the transmit queue */
	struct rte_mbuf *open;    /* given to the stack by frame_open, not sent yet */
	struct rte_mbuf *tx[BURST];
	uint16_t tx_count, tx_queue;
	uint16_t core;    /* which rx core */
	uint16_t tx_core; /* who polls tx_queue */
	uint16_t port_id;
	uint16_t ingest;
	uint16_t queues; /* 0: all it gets comes from other cores */
	uint16_t queue[DP_DEVICE_QUEUES_MAX];
	bool software_spread, l4_sum_offload;
	uint64_t now_ns; /* of this round */
	uint64_t given;  /* bit per rx core that was given something in this round */
	/* frames on their way to other cores in this burst */
	struct rte_mbuf *staged[DP_SPREAD_CORES_MAX][BURST];
	uint16_t staged_count[DP_SPREAD_CORES_MAX];
	int sleep_fd;  /* what to sleep on, -1: nothing tells, DP_PORT_FD_WAKE: only other cores do */
	bool owns_fd;  /* sleep_fd is an epoll descriptor of ours, not the driver's socket */
	bool attached; /* its thread has been registered with EAL */
	bool closing;  /* the rx cores have ended: any queue may be used */
};

/* ---- transmit ---- */

/* Hands mbufs to the queue. What finds no room is counted and dropped. */
static void queue_send(struct dp_port *port, struct rte_mbuf **mbufs, uint16_t count)
{
	uint16_t sent = rte_eth_tx_burst(port->port_id, port->tx_queue, mbufs, count);

	if (sent < count) /* once more: the driver has made room meanwhile */
		sent = (uint16_t)(sent + rte_eth_tx_burst(port->port_id, port->tx_queue, mbufs + sent, (uint16_t)(count - sent)));
	TP_COUNT_ADD(port->counters, FRAMES_SENT, sent);
	if (sent < count) {
		TP_COUNT_ADD(port->counters, FRAMES_SEND_FULL, count - sent);
		rte_pktmbuf_free_bulk(mbufs + sent, count - sent);
	}
}

static void tx_flush(struct dp_port *port)
{
	uint32_t given;

	if (port->tx_count == 0)
		return;
	if (tp_sight_on(port->sight, TP_SIGHT_FRAME_OUT)) /* here, and so behind the frames that they answer */
		for (uint16_t i = 0; i < port->tx_count; i++)
			tp_sight_frame(port->sight, port->core, TP_SIGHT_FRAME_OUT, port->ingest,
				       rte_pktmbuf_mtod(port->tx[i], const uint8_t *), port->tx[i]->data_len, TP_C_FRAMES_SENT,
				       port->now_ns);
	if (port->tx_core == port->core || port->closing) {
		queue_send(port, port->tx, port->tx_count);
	} else {
		given = dp_spread_send(port->spread, port->core, port->tx_core, port->tx, port->tx_count);
		port->given |= 1ULL << port->tx_core;
		if (given < port->tx_count) {
			TP_COUNT_ADD(port->counters, FRAMES_SEND_FULL, port->tx_count - given);
			rte_pktmbuf_free_bulk(port->tx + given, port->tx_count - given);
		}
	}
	port->tx_count = 0;
}

/* What cores without a queue want sent on ours. */
static uint32_t relay(struct dp_port *port)
{
	struct rte_mbuf *burst[BURST];
	uint32_t done = 0;

	for (uint32_t from = 0; from < port->spread->cores; from++) {
		uint32_t count;

		if (from == port->core || (count = dp_spread_take_sent(port->spread, from, port->core, burst)) == 0)
			continue;
		queue_send(port, burst, (uint16_t)count);
		done += count;
	}
	return done;
}

static struct rte_mbuf *frame_take(struct dp_port *port)
{
	if (port->tx_count == BURST)
		tx_flush(port);
	if (port->open == NULL)
		port->open = rte_pktmbuf_alloc(port->pool);
	return port->open;
}

static void *frame_open(void *context, size_t bytes)
{
	struct dp_port *port = context;
	struct rte_mbuf *mbuf = frame_take(port);

	if (mbuf == NULL || rte_pktmbuf_tailroom(mbuf) < bytes)
		return NULL;
	return rte_pktmbuf_mtod(mbuf, void *);
}

/* Tells the device where the headers end, so that it can fill the TCP or UDP checksum of a frame of our stack. */
static void offload_mark(struct rte_mbuf *mbuf, const uint8_t *frame)
{
	const uint32_t tagged = frame[12] == 0x81 && frame[13] == 0x00 ? 4 : 0;
	const uint8_t *ip = frame + 14 + tagged;
	const bool four = frame[12 + tagged] == 0x08 && frame[13 + tagged] == 0x00;
	const bool six = frame[12 + tagged] == 0x86 && frame[13 + tagged] == 0xdd;
	const uint8_t protocol = four ? ip[9] : six ? ip[6] : 0;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return;
	mbuf->l2_len = 14 + tagged;
	mbuf->l3_len = four ? 20 : 40; /* our stack writes neither options nor extension headers */
	mbuf->ol_flags |= (four ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6) |
			  (protocol == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM);
}

static void frame_send(void *context, void *frame, size_t bytes)
{
	struct dp_port *port = context;
	struct rte_mbuf *mbuf = port->open;

	RTE_ASSERT(mbuf != NULL && rte_pktmbuf_mtod(mbuf, void *) == frame);
	mbuf->data_len = (uint16_t)bytes;
	mbuf->pkt_len = (uint32_t)bytes;
	if (port->l4_sum_offload)
		offload_mark(mbuf, frame);
	port->open = NULL;
	port->tx[port->tx_count++] = mbuf;
}

/* ---- the tap ---- */

static bool source_listed(const struct dp_port *port, const uint8_t *frame, size_t bytes)
{
	struct tp_sight_flow flow;

	if (port->blocked == NULL)
		return false;
	tp_sight_flow(frame, (uint32_t)bytes, &flow);
	return flow.has_addresses && port->blocked(port->blocked_context, &flow.from.addr);
}

/* True for a request that our stack answers, and did not because of its limit: the kernel shall not answer in its place. */
static bool echo_request(const uint8_t *frame, size_t bytes)
{
	struct tp_sight_flow flow;

	tp_sight_flow(frame, (uint32_t)bytes, &flow);
	if (flow.type != TP_SIGHT_ICMP)
		return false;
	const size_t tagged = frame[12] == 0x81 && frame[13] == 0x00 ? 4 : 0;
	const size_t at = 14 + tagged + (flow.protocol == IPPROTO_ICMP ? (size_t)(frame[14 + tagged] & 15) * 4 : 40);
	return at < bytes && frame[at] == (flow.protocol == IPPROTO_ICMP ? 8 : 128);
}

/* dp_stack_options.pass: the kernel is offered what the stack has no use for. */
static enum tp_counter frame_pass(void *context, const uint8_t *frame, size_t bytes, enum tp_counter why)
{
	struct dp_port *port = context;

	if (why == TP_C_FRAMES_BAD_ICMP && echo_request(frame, bytes))
		return why;
	if (source_listed(port, frame, bytes))
		return TP_C_FRAMES_BLOCKLISTED;
	return dp_tap_give(port->tap, port->core, frame, bytes) ? TP_C_FRAMES_TO_TAP : TP_C_FRAMES_TAP_FULL;
}

/* What the stack took and the kernel wants to know as well: who has which MAC, what became of its packets. */
static void tap_copy(struct dp_port *port, const uint8_t *frame, size_t bytes)
{
	const struct dp_flow flow = dp_flow_of(frame, bytes);

	if (flow.kind == DP_FLOW_NEIGHBOUR || flow.kind == DP_FLOW_ERROR)
		dp_tap_give(port->tap, port->core, frame, bytes);
}

/* Frames of the kernel, to the wire. Rx core 0. */
static uint32_t tap_poll(struct dp_port *port)
{
	const uint8_t *frame;
	uint32_t done = 0;
	size_t bytes;

	while (done < TAP_BURST && (frame = dp_tap_next(port->tap, &bytes)) != NULL) {
		struct rte_mbuf *mbuf = frame_take(port);

		if (mbuf == NULL || rte_pktmbuf_tailroom(mbuf) < bytes)
			break;
		memcpy(rte_pktmbuf_mtod(mbuf, void *), frame, bytes);
		dp_tap_done(port->tap);
		mbuf->data_len = (uint16_t)bytes;
		mbuf->pkt_len = (uint32_t)bytes;
		port->open = NULL;
		port->tx[port->tx_count++] = mbuf;
		TP_COUNT(port->counters, FRAMES_FROM_TAP);
		done++;
	}
	return done;
}

/* ---- the rx core ---- */

/* XDP or the card has dropped blocked sources already, where it holds the whole list. */
static bool source_blocked(void *context, const struct tp_addr *peer)
{
	const struct dp_port *port = context;

	/* relaxed: see dp_dpdk_blocklist() */
	if (atomic_load_explicit(&port->device->covered, memory_order_relaxed))
		return false;
	return port->blocked(port->blocked_context, peer);
}

/* A mempool's per-core cache needs a registered thread. Without, all works, slower. */
static void thread_attach(struct dp_port *port)
{
	port->attached = true;
	if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0)
		tp_logf(TP_WARN, "rx core could not be registered with DPDK, buffers are slower", "error=\"%s\"",
			rte_strerror(rte_errno));
}

static void verdict_count(struct dp_port *port, enum tp_counter verdict, uint64_t count)
{
	_Atomic uint64_t *at = &port->verdicts->count[verdict - TP_C_FRAMES_RECEIVED];

	/* one writer: no locked addition */
	atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + count, memory_order_relaxed);
}

static uint32_t checked_flags(const struct rte_mbuf *mbuf)
{
	return ((mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD ? DP_FRAME_IP_SUM_GOOD : 0U) |
	       ((mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD ? DP_FRAME_L4_SUM_GOOD : 0U);
}

/* Scattered receive is off; a driver that chains all the same shows its first part, which the stack refuses as cut. */
static void frame_input(struct dp_port *port, const struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const enum tp_counter verdict =
		dp_stack_input_checked(port->stack, frame, mbuf->data_len, checked_flags(mbuf), port->now_ns);

	verdict_count(port, verdict, 1);
	if (port->tap != NULL && verdict == TP_C_FRAMES_ACCEPTED)
		tap_copy(port, frame, mbuf->data_len);
	if (tp_sight_on(port->sight, TP_SIGHT_FRAME_IN))
		tp_sight_frame(port->sight, port->core, TP_SIGHT_FRAME_IN, port->ingest, frame, mbuf->data_len, verdict,
			       port->now_ns);
}

/* All of a beacon, not just its headers: the checksum is the first to walk over it, and would wait for each line. */
static void frame_prefetch(const struct rte_mbuf *mbuf)
{
	const uint32_t bytes = RTE_MIN(mbuf->data_len, PREFETCH_BYTES);

	for (uint32_t at = 0; at < bytes; at += RTE_CACHE_LINE_SIZE)
		rte_prefetch0(rte_pktmbuf_mtod_offset(mbuf, const void *, at));
}

static void burst_input(struct dp_port *port, struct rte_mbuf **burst, uint32_t count)
{
	for (uint32_t i = 0; i < count && i < PREFETCH_AHEAD; i++)
		frame_prefetch(burst[i]);
	for (uint32_t i = 0; i < count; i++) {
		if (i + PREFETCH_AHEAD < count)
			frame_prefetch(burst[i + PREFETCH_AHEAD]);
		frame_input(port, burst[i]);
	}
	rte_pktmbuf_free_bulk(burst, count);
	verdict_count(port, TP_C_FRAMES_RECEIVED, count);
}

/* ---- flows and their cores ---- */

static void stage(struct dp_port *port, uint32_t to, struct rte_mbuf *mbuf)
{
	port->staged[to][port->staged_count[to]++] = mbuf;
}

static void staged_give(struct dp_port *port)
{
	for (uint32_t to = 0; to < port->spread->cores; to++) {
		const uint32_t count = port->staged_count[to];
		uint32_t given;

		if (count == 0)
			continue;
		port->staged_count[to] = 0;
		given = dp_spread_give(port->spread, port->core, to, port->staged[to], count);
		port->given |= 1ULL << to;
		TP_COUNT_ADD(port->counters, FRAMES_SPREAD, given);
		if (given == count)
			continue;
		TP_COUNT_ADD(port->counters, FRAMES_RECEIVED, count - given);
		TP_COUNT_ADD(port->counters, FRAMES_SPREAD_FULL, count - given);
		verdict_count(port, TP_C_FRAMES_RECEIVED, count - given);
		verdict_count(port, TP_C_FRAMES_SPREAD_FULL, count - given);
		rte_pktmbuf_free_bulk(port->staged[to] + given, count - given);
	}
}

/* Every other core shall learn of it, and only `counts` counts and answers it. */
static void stage_copies(struct dp_port *port, struct rte_mbuf *mbuf, uint32_t counts)
{
	for (uint32_t to = 0; to < port->spread->cores; to++) {
		if (to == port->core || to == counts)
			continue;
		rte_mbuf_refcnt_update(mbuf, 1);
		stage(port, to, mbuf);
	}
}

/*
 * Sorts a burst by whose it is: ours stay, in order, in burst[]; returns how many. A frame is only read from here on, so that several
 * cores may hold it. Messages about neighbours go to all cores, and count on core 0 (or, where the device spreads, on the one that
 * got them).
 */
static uint32_t burst_spread(struct dp_port *port, struct rte_mbuf **burst, uint32_t count)
{
	uint32_t ours = 0;

	for (uint32_t i = 0; i < count && i < PREFETCH_AHEAD; i++)
		rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
	for (uint32_t i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = burst[i];
		uint32_t to = port->core;

		if (i + PREFETCH_AHEAD < count)
			rte_prefetch0(rte_pktmbuf_mtod(burst[i + PREFETCH_AHEAD], void *));
		const struct dp_flow flow = dp_flow_of(rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len);
		if (port->software_spread)
			to = flow.kind == DP_FLOW_IP || flow.kind == DP_FLOW_ERROR ? dp_spread_owner(port->spread, flow.hash) : 0;
		if (flow.kind == DP_FLOW_NEIGHBOUR || (flow.kind == DP_FLOW_ERROR && !port->software_spread)) {
			mbuf->hash.usr = to + 1; /* who counts it; 0 elsewhere */
			stage_copies(port, mbuf, to);
		} else {
			mbuf->hash.usr = 0;
		}
		if (to == port->core)
			burst[ours++] = mbuf;
		else
			stage(port, to, mbuf);
	}
	staged_give(port);
	return ours;
}

/* Frames that other cores took from their queues for us. Copies of what another core counts are only listened to. */
static uint32_t burst_inherit(struct dp_port *port)
{
	struct rte_mbuf *burst[BURST];
	uint32_t done = 0;

	for (uint32_t from = 0; from < port->spread->cores; from++) {
		uint32_t count, kept = 0;

		if (from == port->core || (count = dp_spread_take(port->spread, from, port->core, burst)) == 0)
			continue;
		done += count;
		for (uint32_t i = 0; i < count; i++) {
			struct rte_mbuf *mbuf = burst[i];

			if (mbuf->hash.usr == 0 || mbuf->hash.usr == port->core + 1U) {
				burst[kept++] = mbuf;
				continue;
			}
			dp_stack_overhear(port->stack, rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len, port->now_ns);
			rte_pktmbuf_free(mbuf);
		}
		if (kept > 0)
			burst_input(port, burst, kept);
	}
	return done;
}

static uint32_t queue_poll(struct dp_port *port, uint16_t queue)
{
	struct rte_mbuf *burst[BURST];
	const uint32_t count = rte_eth_rx_burst(port->port_id, queue, burst, BURST);
	uint32_t ours = count;

	if (count > 0 && port->spread != NULL)
		ours = burst_spread(port, burst, count);
	if (ours > 0)
		burst_input(port, burst, ours);
	return count;
}

static uint32_t dpdk_poll(struct dp_port *port, uint64_t now_ns)
{
	uint32_t done = 0;

	if (!port->attached)
		thread_attach(port);
	port->now_ns = now_ns;
	for (uint16_t i = 0; i < port->queues; i++)
		done += queue_poll(port, port->queue[i]);
	if (port->spread != NULL)
		done += burst_inherit(port);
	dp_stack_flush(port->stack, now_ns);
	done += dp_stack_tick(port->stack, now_ns);
	if (port->tap != NULL && port->core == 0)
		done += tap_poll(port);
	done += port->tx_count;
	tx_flush(port);
	if (port->spread != NULL) {
		if (port->tx_core == port->core)
			done += relay(port);
		for (; port->given != 0; port->given &= port->given - 1)
			port->wake(port->wake_context, (uint32_t)__builtin_ctzll(port->given));
	}
	return done;
}

static int dpdk_fd(struct dp_port *port)
{
	return port->sleep_fd;
}

static bool dpdk_waits(struct dp_port *port)
{
	return (port->spread != NULL && dp_spread_waits(port->spread, port->core)) ||
	       (port->tap != NULL && port->core == 0 && dp_tap_waits(port->tap));
}

static uint32_t dpdk_drain(struct dp_port *port, uint64_t now_ns)
{
	const uint32_t left = dp_stack_drain(port->stack, now_ns);

	port->now_ns = now_ns;
	tx_flush(port);
	return left;
}

static bool dpdk_list(struct dp_port *port, struct dp_connection_list *list, uint32_t *cursor, uint32_t most)
{
	return dp_stack_list(port->stack, list, cursor, most);
}

/* ---- open and close ---- */

/* One socket: that; several: an epoll descriptor over them; unknown: polling; no queue: other cores' wake-ups. */
static void sleep_prepare(struct dp_port *port)
{
	const struct dp_device *device = port->device;

	port->sleep_fd = port->queues == 0 ? DP_PORT_FD_WAKE : -1;
	if (port->queues == 0)
		return;
	for (uint16_t i = 0; i < port->queues; i++)
		if (device->socket_fd[port->queue[i]] < 0)
			return;
	if (port->queues == 1) {
		port->sleep_fd = device->socket_fd[port->queue[0]];
		return;
	}
	port->sleep_fd = epoll_create1(EPOLL_CLOEXEC);
	port->owns_fd = port->sleep_fd >= 0;
	for (uint16_t i = 0; i < port->queues && port->owns_fd; i++) {
		const int fd = device->socket_fd[port->queue[i]];
		struct epoll_event event = {.events = EPOLLIN};

		if (epoll_ctl(port->sleep_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
			close(port->sleep_fd);
			port->sleep_fd = -1;
			port->owns_fd = false;
		}
	}
}

/* At most once in 10 s and address. */
static void address_conflict(void *context, const struct tp_addr *addr, const uint8_t mac[6])
{
	char text[TP_ADDR_TEXT_BYTES];

	(void)context;
	tp_addr_text(addr, text);
	tp_logf(TP_WARN, "another host uses an address of ours", "address=%s mac=%02x:%02x:%02x:%02x:%02x:%02x", text, mac[0],
		mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static int stack_make(struct dp_port *port, const struct dp_port_options *options)
{
	const struct tp_config_ingest *ingest = options->ingest;
	struct dp_stack_options stack = {
		.mtu = port->device->mtu,
		.address = ingest->address,
		.address_count = ingest->address_count,
		.gateway = ingest->gateway,
		.gateway_count = ingest->gateway_count,
		.http_port = ingest->http_port,
		.udp_port = ingest->udp_port,
		.ingest = options->ingest_index,
		.connections_max = options->config->memory_connections,
		.send_buffer_bytes = SEND_BUFFER_BYTES,
		.beacon = options->beacon,
		.counters = options->counters,
		.frame_open = frame_open,
		.frame_send = frame_send,
		.context = port,
		.claim = options->queue == 0,
		.conflict = address_conflict,
		.l4_sum_offload = port->l4_sum_offload,
		.pass = port->tap != NULL ? frame_pass : NULL,
		.blocked = options->blocked != NULL ? source_blocked : NULL,
		.blocked_context = port,
	};
	struct rte_ether_addr mac;
	const int result = rte_eth_macaddr_get(port->port_id, &mac);

	if (result != 0)
		return result;
	memcpy(stack.mac, mac.addr_bytes, sizeof(stack.mac));
	if (getrandom(stack.secret, sizeof(stack.secret), 0) != sizeof(stack.secret))
		return -EIO;
	return dp_stack_create(&port->stack, &stack);
}

static int dpdk_open(struct dp_port **out, const struct dp_port_options *options)
{
	struct dp_device *device = dp_device_of(options->ingest);
	struct dp_port *port;
	int result;

	*out = NULL;
	if (device == NULL) {
		tp_logf(TP_ERROR, "DPDK was not started with this device", "device=\"%s\"", options->ingest->device);
		return -ENODEV;
	}
	if (device->queue_pairs == 0) {
		const struct dp_device_wake wake = {options->wake, options->wake_context};

		if (options->queues > DP_SPREAD_CORES_MAX || (options->queues > 1 && options->wake == NULL))
			return -EINVAL;
		result = dp_device_open(device, options->queues, &wake);
		if (result != 0)
			return result;
	}
	port = calloc(1, sizeof(*port));
	if (port == NULL) {
		result = -ENOMEM;
		goto fail;
	}
	port->device = device;
	port->counters = options->counters;
	port->blocked = options->blocked;
	port->blocked_context = options->blocked_context;
	port->port_id = device->port_id;
	port->core = options->queue;
	port->ingest = options->ingest_index;
	port->sight = options->sight;
	port->wake = options->wake;
	port->wake_context = options->wake_context;
	port->spread = device->spread;
	port->tap = device->tap;
	port->verdicts = &device->verdicts[port->core];
	port->software_spread = device->software_spread;
	port->l4_sum_offload = device->l4_sum_offload;
	for (uint32_t queue = options->queue; queue < device->queue_pairs; queue += options->queues)
		port->queue[port->queues++] = (uint16_t)queue;
	port->tx_queue = port->tx_core = (uint16_t)(port->core % device->queue_pairs);
	port->pool = device->pool[port->tx_queue];
	sleep_prepare(port);
	result = stack_make(port, options);
	if (result != 0)
		goto fail;
	device->opened++;
	*out = port;
	return 0;
fail:
	tp_logf(TP_ERROR, "no network stack for a DPDK device", "device=\"%s\" error=\"%s\"", options->ingest->device,
		strerror(-result));
	if (port != NULL && port->owns_fd)
		close(port->sleep_fd);
	free(port);
	if (device->opened == 0)
		dp_device_close(device);
	return result;
}

/* The core that would have sent this has ended. */
static void own_relay(struct dp_port *port)
{
	struct rte_mbuf *burst[BURST];
	uint32_t count;

	if (port->tx_core == port->core)
		return;
	while ((count = dp_spread_take_sent(port->spread, port->core, port->tx_core, burst)) > 0)
		queue_send(port, burst, (uint16_t)count);
}

static void dpdk_close(struct dp_port *port)
{
	port->closing = true;
	own_relay(port);
	dp_stack_destroy(port->stack);
	tx_flush(port);
	rte_pktmbuf_free(port->open);
	if (port->owns_fd)
		close(port->sleep_fd);
	if (--port->device->opened == 0)
		dp_device_close(port->device);
	free(port);
}

const struct dp_port_driver dp_port_dpdk = {
	.name = "dpdk",
	.open = dpdk_open,
	.poll = dpdk_poll,
	.fd = dpdk_fd,
	.waits = dpdk_waits,
	.list = dpdk_list,
	.drain = dpdk_drain,
	.close = dpdk_close,
};
