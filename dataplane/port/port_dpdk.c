/*
 * The DPDK driver of ports: receive bursts into our stack, transmit what it sends. An instance is one rx core's share of a device.
 *
 *   rte_eth_rx_burst ─► dp_stack_input × n ─► dp_stack_flush, dp_stack_tick ─► rte_eth_tx_burst
 *                           │ frame_open: an mbuf of the transmit queue's pool, frame_send: into tx[]
 *
 * Queues: a device gets as many rx/tx queue pairs as there are rx cores, or as it has; net_af_xdp gets all receive queues of its
 * interface, so that no frame goes past us to the kernel. Rx core i polls queues i, i + cores, i + 2·cores … and transmits on the
 * first of them. A core for which no queue is left gets no port (-ENOTSUP).
 *
 * Each queue has a mempool of its own: net_af_xdp makes a queue's mempool its umem, and frames from that very pool are sent without
 * a copy. open and close are cold, on the main thread; poll, drain and fd are the rx core's. Source: DPDK 22.11, ethdev and mbuf
 * libraries, net_af_xdp guide.
 */
#include "device.h"
#include "port.h"

#include "stack.h"
#include "turnpike/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

enum {
	BURST = 64,
	PREFETCH_AHEAD = 4,
	DESCRIPTORS = 2048,
	POOL_CACHE = 256,
	CONNECTIONS_MAX = 16384,
	SEND_BUFFER_BYTES = 65536,
	DESCRIPTORS_MAX = 1024, /* open files looked through for AF_XDP sockets */
};

struct dp_port {
	struct dp_device *device;
	struct dp_stack *stack;
	struct tp_counters *counters;
	bool (*blocked)(void *context, const struct tp_addr *peer);
	void *blocked_context;
	struct rte_mempool *pool; /* of the transmit queue */
	struct rte_mbuf *open;    /* given to the stack by frame_open, not sent yet */
	struct rte_mbuf *tx[BURST];
	uint16_t tx_count, tx_queue;
	uint16_t port_id;
	uint16_t queues;
	uint16_t queue[DP_DEVICE_QUEUES_MAX];
	int sleep_fd;  /* what to sleep on, -1: nothing tells */
	bool owns_fd;  /* sleep_fd is an epoll descriptor of ours, not the driver's socket */
	bool attached; /* its thread has been registered with EAL */
};

/* ---- the device ---- */

/*
 * net_af_xdp takes a pool's first chunk as the umem and expects its objects without gaps: the default layout leaves a gap where an
 * object would cross a hugepage, and the last ones would lie outside the umem. NO_IOVA_CONTIG packs them. (For a driver in zero-copy
 * mode an object that crosses two scattered pages is refused by the kernel: one in eight hundred is lost at start.)
 */
static struct rte_mempool *pool_make(const struct dp_device *device, uint16_t queue, int numa)
{
	const uint32_t room = dp_device_room_bytes(device->mtu);
	struct rte_pktmbuf_pool_private data = {.mbuf_data_room_size = (uint16_t)room};
	struct rte_mempool *pool;
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "tp_%u_%u", device->port_id, queue);
	if (!device->af_xdp)
		return rte_pktmbuf_pool_create(name, DP_DEVICE_MBUFS, POOL_CACHE, 0, (uint16_t)room, numa);
	pool = rte_mempool_create_empty(name, DP_DEVICE_MBUFS, (unsigned int)sizeof(struct rte_mbuf) + room, POOL_CACHE,
					sizeof(data), numa, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	if (rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL) != 0)
		goto fail;
	rte_pktmbuf_pool_init(pool, &data);
	if (rte_mempool_populate_default(pool) < 0)
		goto fail;
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	if (pool->nb_mem_chunks == 1)
		return pool;
	rte_errno = ENOMEM; /* scattered: no umem can be made of it */
fail:
	rte_mempool_free(pool);
	return NULL;
}

/* Marks which open files are AF_XDP sockets. The driver keeps its sockets to itself, and they are what a core can sleep on. */
static void sockets_list(bool is_socket[static DESCRIPTORS_MAX])
{
	DIR *folder = opendir("/proc/self/fd");

	memset(is_socket, 0, DESCRIPTORS_MAX * sizeof(bool));
	if (folder == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		const int fd = atoi(entry->d_name);
		int domain = 0;
		socklen_t bytes = sizeof(domain);

		if (entry->d_name[0] != '.' && fd < DESCRIPTORS_MAX &&
		    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 && domain == AF_XDP)
			is_socket[fd] = true;
	}
	closedir(folder);
}

static int queue_make(struct dp_device *device, uint16_t queue, int numa, const struct rte_eth_dev_info *info, uint16_t rx_ring,
		      uint16_t tx_ring)
{
	bool before[DESCRIPTORS_MAX], after[DESCRIPTORS_MAX];
	struct rte_eth_txconf tx = info->default_txconf;
	int result;

	device->pool[queue] = pool_make(device, queue, numa);
	if (device->pool[queue] == NULL)
		return -rte_errno;
	if (device->af_xdp)
		sockets_list(before);
	result = rte_eth_rx_queue_setup(device->port_id, queue, rx_ring, (unsigned int)numa, NULL, device->pool[queue]);
	if (result != 0)
		return result;
	if (device->af_xdp) {
		sockets_list(after);
		for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
			if (after[fd] && !before[fd])
				device->socket_fd[queue] = fd;
	}
	tx.offloads = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	return rte_eth_tx_queue_setup(device->port_id, queue, tx_ring, (unsigned int)numa, &tx);
}

static int device_configure(struct dp_device *device, uint16_t cores)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	uint16_t pairs, rx_ring = DESCRIPTORS, tx_ring = DESCRIPTORS, mtu;
	int result = rte_eth_dev_info_get(device->port_id, &info);
	const int numa = rte_eth_dev_socket_id(device->port_id);

	if (result != 0)
		return result;
	pairs = device->af_xdp ? device->interface_queues : cores;
	pairs = RTE_MIN(pairs, info.max_rx_queues);
	pairs = RTE_MIN(pairs, info.max_tx_queues);
	pairs = RTE_MIN(pairs, (uint16_t)DP_DEVICE_QUEUES_MAX);
	if (pairs == 0)
		return -ENOTSUP;
	if (!device->af_xdp && rte_eth_dev_get_mtu(device->port_id, &mtu) == 0)
		device->mtu = RTE_MIN(mtu, (uint16_t)DP_MTU_DEFAULT);
	if (info.max_mtu >= DP_MTU_MIN && device->mtu > info.max_mtu)
		device->mtu = info.max_mtu;
	if (device->mtu < DP_MTU_MIN) {
		tp_logf(TP_ERROR, "MTU is too small, IPv6 needs 1280", "device=%s mtu=%u", device->name, device->mtu);
		return -EINVAL;
	}
	if (!device->af_xdp)
		conf.rxmode.mtu = device->mtu; /* net_af_xdp would set it on the interface, where it came from */
	if (pairs > 1 && info.flow_type_rss_offloads != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) & info.flow_type_rss_offloads;
	}
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	result = rte_eth_dev_configure(device->port_id, pairs, pairs, &conf);
	if (result == 0 && !device->af_xdp)
		result = rte_eth_dev_adjust_nb_rx_tx_desc(device->port_id, &rx_ring, &tx_ring);
	if (result != 0)
		return result;
	device->queue_pairs = pairs; /* from here on there is something to close */
	for (uint16_t queue = 0; queue < pairs && result == 0; queue++)
		result = queue_make(device, queue, numa, &info, rx_ring, tx_ring);
	return result;
}

static void device_close(struct dp_device *device)
{
	/* The driver detaches the XDP program and closes its sockets. */
	eb_xdp_close(device->xdp);
	device->xdp = NULL;
	rte_eth_dev_stop(device->port_id);
	rte_eth_dev_close(device->port_id);
	for (uint16_t queue = 0; queue < device->queue_pairs; queue++) {
		rte_mempool_free(device->pool[queue]);
		device->pool[queue] = NULL;
		device->socket_fd[queue] = -1;
	}
	device->queue_pairs = 0;
}

static bool has_ipv6(const struct dp_device *device)
{
	for (uint32_t i = 0; i < device->ingest->address_count; i++)
		if (device->ingest->address[i].addr.family == 6)
			return true;
	return false;
}

static int device_open(struct dp_device *device, uint16_t cores)
{
	int result = device_configure(device, cores);

	if (result == 0)
		result = rte_eth_dev_start(device->port_id);
	if (result == 0 && has_ipv6(device)) {
		const int multicast = rte_eth_allmulticast_enable(device->port_id);

		/* Virtual devices deliver everything, and say that they cannot choose. */
		if (multicast != 0 && multicast != -ENOTSUP)
			tp_logf(TP_WARN, "device does not take all multicast, IPv6 neighbours may not find us",
				"device=%s error=\"%s\"", device->name, rte_strerror(-multicast));
	}
	if (result == 0 && device->af_xdp && device->own_program)
		result = eb_xdp_open(&device->xdp, device->ifname);
	if (result == 0)
		return 0;
	tp_logf(TP_ERROR, "DPDK device cannot be opened", "device=\"%s\" error=\"%s\"", device->ingest->device,
		rte_strerror(-result));
	if (device->queue_pairs > 0)
		device_close(device);
	return result;
}

/* ---- transmit ---- */

static void tx_flush(struct dp_port *port)
{
	uint16_t sent;

	if (port->tx_count == 0)
		return;
	sent = rte_eth_tx_burst(port->port_id, port->tx_queue, port->tx, port->tx_count);
	if (sent < port->tx_count) /* once more: the driver has made room meanwhile */
		sent = (uint16_t)(sent + rte_eth_tx_burst(port->port_id, port->tx_queue, port->tx + sent,
							  (uint16_t)(port->tx_count - sent)));
	TP_COUNT_ADD(port->counters, FRAMES_SENT, sent);
	if (sent < port->tx_count) {
		TP_COUNT_ADD(port->counters, FRAMES_SEND_FULL, port->tx_count - sent);
		rte_pktmbuf_free_bulk(port->tx + sent, port->tx_count - sent);
	}
	port->tx_count = 0;
}

static void *frame_open(void *context, size_t bytes)
{
	struct dp_port *port = context;

	if (port->tx_count == BURST)
		tx_flush(port);
	if (port->open == NULL)
		port->open = rte_pktmbuf_alloc(port->pool);
	if (port->open == NULL || rte_pktmbuf_tailroom(port->open) < bytes)
		return NULL;
	return rte_pktmbuf_mtod(port->open, void *);
}

static void frame_send(void *context, void *frame, size_t bytes)
{
	struct dp_port *port = context;
	struct rte_mbuf *mbuf = port->open;

	RTE_ASSERT(mbuf != NULL && rte_pktmbuf_mtod(mbuf, void *) == frame);
	(void)frame;
	mbuf->data_len = (uint16_t)bytes;
	mbuf->pkt_len = (uint32_t)bytes;
	port->open = NULL;
	port->tx[port->tx_count++] = mbuf;
}

/* ---- the rx core ---- */

/* XDP has dropped blocked sources already, where its maps hold the list. */
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

static uint32_t queue_poll(struct dp_port *port, uint16_t queue, uint64_t now_ns)
{
	struct rte_mbuf *burst[BURST];
	const uint16_t count = rte_eth_rx_burst(port->port_id, queue, burst, BURST);

	for (uint16_t i = 0; i < count && i < PREFETCH_AHEAD; i++)
		rte_prefetch0(rte_pktmbuf_mtod(burst[i], void *));
	for (uint16_t i = 0; i < count; i++) {
		if (i + PREFETCH_AHEAD < count)
			rte_prefetch0(rte_pktmbuf_mtod(burst[i + PREFETCH_AHEAD], void *));
		/* Scattered receive is off; a driver that chains all the same shows its first part, which the stack refuses as cut. */
		dp_stack_input(port->stack, rte_pktmbuf_mtod(burst[i], const uint8_t *), burst[i]->data_len, now_ns);
	}
	if (count > 0)
		rte_pktmbuf_free_bulk(burst, count);
	return count;
}

static uint32_t dpdk_poll(struct dp_port *port, uint64_t now_ns)
{
	uint32_t done = 0;

	if (!port->attached)
		thread_attach(port);
	for (uint16_t i = 0; i < port->queues; i++)
		done += queue_poll(port, port->queue[i], now_ns);
	dp_stack_flush(port->stack, now_ns);
	done += dp_stack_tick(port->stack, now_ns);
	done += port->tx_count;
	tx_flush(port);
	return done;
}

static int dpdk_fd(struct dp_port *port)
{
	return port->sleep_fd;
}

static uint32_t dpdk_drain(struct dp_port *port, uint64_t now_ns)
{
	const uint32_t left = dp_stack_drain(port->stack, now_ns);

	tx_flush(port);
	return left;
}

/* ---- open and close ---- */

/* One socket: that; several: an epoll descriptor over them; unknown: polling. */
static void sleep_prepare(struct dp_port *port)
{
	const struct dp_device *device = port->device;

	port->sleep_fd = -1;
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
		.connections_max = CONNECTIONS_MAX,
		.send_buffer_bytes = SEND_BUFFER_BYTES,
		.beacon = options->beacon,
		.counters = options->counters,
		.frame_open = frame_open,
		.frame_send = frame_send,
		.context = port,
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
		result = device_open(device, options->queues);
		if (result != 0)
			return result;
	}
	if (options->queue >= device->queue_pairs)
		return -ENOTSUP;
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
	for (uint32_t queue = options->queue; queue < device->queue_pairs; queue += options->queues)
		port->queue[port->queues++] = (uint16_t)queue;
	port->tx_queue = port->queue[0];
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
		device_close(device);
	return result;
}

static void dpdk_close(struct dp_port *port)
{
	dp_stack_destroy(port->stack);
	tx_flush(port);
	rte_pktmbuf_free(port->open);
	if (port->owns_fd)
		close(port->sleep_fd);
	if (--port->device->opened == 0)
		device_close(port->device);
	free(port);
}

const struct dp_port_driver dp_port_dpdk = {
	.name = "dpdk",
	.open = dpdk_open,
	.poll = dpdk_poll,
	.fd = dpdk_fd,
	.drain = dpdk_drain,
	.close = dpdk_close,
};
