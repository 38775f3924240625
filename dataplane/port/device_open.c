/*
 * Opens and closes a DPDK device: queues, mempools, offloads, receive-side scaling. Main thread, cold.
 *
 * Queues: a device gets as many rx/tx queue pairs as there are rx cores, or as it has; net_af_xdp gets all receive queues of its
 * interface, so that no frame goes past us to the kernel. Each queue has a mempool of its own: net_af_xdp makes a queue's mempool
 * its umem, and frames from that very pool are sent without a copy.
 *
 * Flows must stay on one rx core. Where the device spreads them itself (RSS, with the symmetric key of flow.h where it takes one), each
 * core polls its own queues. Where it does not, or has fewer queues than there are cores, the cores hand frames to each other
 * (spread.h). veth has queues, but the sender's CPU chooses among them: no spreading to rely on.
 *
 * Source: DPDK 22.11, ethdev and mbuf libraries, net_af_xdp guide.
 */
#include "device.h"
#include "flow.h"
#include "rules.h"
#include "spread.h"
#include "tap.h"

#include "turnpike/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

enum {
	DESCRIPTORS = 2048,
	POOL_CACHE = 256,
	DESCRIPTORS_MAX = 1024, /* open files looked through for AF_XDP sockets */
	SPREAD_SLOTS = 2048,    /* mbufs of a queue's pool that may lie between cores */
};

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
	tx.offloads = device->tx_offloads;
	return rte_eth_tx_queue_setup(device->port_id, queue, tx_ring, (unsigned int)numa, &tx);
}

/* Checksums that the device checks and makes. All of TCP and UDP, or none: the stack knows one way per port. */
static void offloads_choose(struct dp_device *device, const struct rte_eth_dev_info *info)
{
	const uint64_t rx = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	const uint64_t tx = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;

	device->rx_offloads = info->rx_offload_capa & rx;
	device->tx_offloads = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	device->l4_sum_offload = (info->tx_offload_capa & tx) == tx;
	if (device->l4_sum_offload)
		device->tx_offloads |= tx;
}

static int configure(struct dp_device *device, uint16_t pairs, const struct rte_eth_dev_info *info)
{
	struct rte_eth_conf conf = {.rxmode.offloads = device->rx_offloads, .txmode.offloads = device->tx_offloads};
	int result;

	if (!device->af_xdp)
		conf.rxmode.mtu = device->mtu; /* net_af_xdp would set it on the interface, where it came from */
	device->rss = pairs > 1 && info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP);
	if (device->rss) {
		uint8_t key[DP_FLOW_KEY_BYTES];

		memcpy(key, dp_flow_key, sizeof(key));
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) & info->flow_type_rss_offloads;
		conf.rx_adv_conf.rss_conf.rss_key_len = info->hash_key_size != 0 ? info->hash_key_size : 40;
		conf.rx_adv_conf.rss_conf.rss_key = key;
		if (info->hash_key_size <= sizeof(key)) {
			result = rte_eth_dev_configure(device->port_id, pairs, pairs, &conf);
			device->rss_symmetric = result == 0;
			if (result == 0)
				return 0;
		}
		conf.rx_adv_conf.rss_conf.rss_key = NULL; /* its own key: flows still stay together */
		conf.rx_adv_conf.rss_conf.rss_key_len = 0;
	}
	return rte_eth_dev_configure(device->port_id, pairs, pairs, &conf);
}

/* The indirection table in turn over the queues: what it is by default on most cards, and what flow.h promises. */
static void table_set(struct dp_device *device, uint16_t entries)
{
	struct rte_eth_rss_reta_entry64 table[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE] = {0};
	int result;

	if (!device->rss || entries == 0 || entries > RTE_ETH_RSS_RETA_SIZE_512)
		return;
	for (uint16_t i = 0; i < entries; i++) {
		table[i / RTE_ETH_RETA_GROUP_SIZE].mask |= 1ULL << (i % RTE_ETH_RETA_GROUP_SIZE);
		table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
			(uint16_t)(i % DP_FLOW_TABLE % device->queue_pairs);
	}
	result = rte_eth_dev_rss_reta_update(device->port_id, table, entries);
	if (result != 0 && result != -ENOTSUP)
		tp_logf(TP_WARN, "device keeps its own indirection table", "device=%s error=\"%s\"", device->name,
			rte_strerror(-result));
}

static int device_configure(struct dp_device *device, uint16_t cores)
{
	uint16_t rx_ring = DESCRIPTORS, tx_ring = DESCRIPTORS, pairs, mtu;
	struct rte_eth_dev_info info;
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
	offloads_choose(device, &info);
	result = configure(device, pairs, &info);
	if (result == 0 && !device->af_xdp)
		result = rte_eth_dev_adjust_nb_rx_tx_desc(device->port_id, &rx_ring, &tx_ring);
	if (result != 0)
		return result;
	device->queue_pairs = pairs; /* from here on there is something to close */
	device->table_entries = info.reta_size;
	for (uint16_t queue = 0; queue < pairs && result == 0; queue++)
		result = queue_make(device, queue, numa, &info, rx_ring, tx_ring);
	return result;
}

static bool has_ipv6(const struct dp_device *device)
{
	for (uint32_t i = 0; i < device->ingest->address_count; i++)
		if (device->ingest->address[i].addr.family == 6)
			return true;
	return false;
}

/* How frames find the core that owns their flow. */
static int spread_make(struct dp_device *device)
{
	const bool spreads_itself = device->queue_pairs > 1 && (device->rss || (device->af_xdp && !device->veth));

	device->software_spread = device->cores > 1 && (!spreads_itself || device->queue_pairs < device->cores);
	if (device->cores < 2)
		return 0;
	return dp_spread_create(&device->spread, device->cores, SPREAD_SLOTS * device->queue_pairs);
}

static int tap_make(struct dp_device *device, const struct dp_device_wake *wake)
{
	struct dp_tap_options options = {.name = device->ingest->tap,
					 .mtu = device->mtu,
					 .cores = device->cores,
					 .wake = wake->wake,
					 .wake_context = wake->context};
	struct rte_ether_addr mac;
	int result;

	if (device->ingest->tap == NULL)
		return 0;
	result = rte_eth_macaddr_get(device->port_id, &mac);
	if (result != 0)
		return result;
	memcpy(options.mac, mac.addr_bytes, sizeof(options.mac));
	return dp_tap_open(&device->tap, &options);
}

int dp_device_open(struct dp_device *device, uint16_t cores, const struct dp_device_wake *wake)
{
	int result;

	device->cores = cores;
	free(device->verdicts);
	device->verdicts = aligned_alloc(64, cores * sizeof(*device->verdicts));
	if (device->verdicts == NULL)
		return -ENOMEM;
	memset(device->verdicts, 0, cores * sizeof(*device->verdicts));
	result = device_configure(device, cores);
	if (result == 0)
		result = rte_eth_dev_start(device->port_id);
	if (result == 0)
		table_set(device, device->table_entries);
	if (result == 0 && has_ipv6(device)) {
		const int multicast = rte_eth_allmulticast_enable(device->port_id);

		/* Virtual devices deliver everything, and say that they cannot choose. */
		if (multicast != 0 && multicast != -ENOTSUP)
			tp_logf(TP_WARN, "device does not take all multicast, IPv6 neighbours may not find us",
				"device=%s error=\"%s\"", device->name, rte_strerror(-multicast));
	}
	if (result == 0 && device->af_xdp && device->own_program)
		result = eb_xdp_open(&device->xdp, device->ifname);
	if (result == 0 && device->xdp != NULL)
		result = eb_xdp_packet_rate(device->xdp, device->ingest->packet_rate_limit);
	if (result == 0 && !device->af_xdp)
		result = dp_rules_init(&device->rules, &dp_rules_card, device->port_id);
	if (result == 0)
		result = spread_make(device);
	if (result == 0)
		result = tap_make(device, wake);
	if (result == 0)
		return 0;
	tp_logf(TP_ERROR, "DPDK device cannot be opened", "device=\"%s\" error=\"%s\"", device->ingest->device,
		rte_strerror(-result));
	if (device->queue_pairs > 0)
		dp_device_close(device);
	return result;
}

void dp_device_close(struct dp_device *device)
{
	dp_tap_close(device->tap);
	device->tap = NULL;
	dp_spread_destroy(device->spread);
	device->spread = NULL;
	if (device->rules.rule != NULL)
		dp_rules_fini(&device->rules);
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
