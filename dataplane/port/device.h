/*
 * The DPDK devices of the configuration: what the user wrote, what EAL is given, what stands behind it. Filled in before EAL starts,
 * used by port_dpdk.c; main thread, but for `covered` (command thread writes, rx cores read).
 *
 *   "net_af_xdp0,iface=tp0"  ─►  name net_af_xdp0, ifname tp0, argument "net_af_xdp0,iface=tp0,xdp_prog=/proc/self/fd/7,…"
 *   "0000:03:00.0"           ─►  name and argument as written, pci
 */
#ifndef TURNPIKE_DEVICE_H
#define TURNPIKE_DEVICE_H

#include "rules.h"
#include "turnpike/config.h"
#include "turnpike/counter.h"
#include "turnpike/xdp.h"

#include <net/if.h>
#include <stdatomic.h>

enum { DP_DEVICES_MAX = 16, DP_DEVICE_NAME_BYTES = 64, DP_DEVICE_ARGUMENT_BYTES = 512 };
enum { DP_DEVICE_QUEUES_MAX = 64 };                                   /* receive queues of one device that we bind */
enum { DP_DEVICE_MBUFS = 8191 };                                      /* per queue: both rings, the fill ring, what is on its way */
enum { DP_MTU_DEFAULT = 1500, DP_MTU_MIN = 1280, DP_MTU_MAX = 3072 }; /* a frame fits one page with its mbuf */

struct rte_mempool;
struct dp_spread;
struct dp_tap;

/* What frames of a device came to on one rx core: relaxed, its core writes. Index: counter less TP_C_FRAMES_RECEIVED. */
enum { DP_DEVICE_VERDICTS = TP_FRAME_COUNTERS };
struct dp_device_verdicts {
	_Alignas(64) _Atomic uint64_t count[DP_DEVICE_VERDICTS];
};

/* Wakes an rx core of the node. Any thread. */
struct dp_device_wake {
	void (*wake)(void *context, uint32_t rx_core);
	void *context;
};

struct dp_device {
	const struct tp_config_ingest *ingest;
	char name[DP_DEVICE_NAME_BYTES];
	char argument[DP_DEVICE_ARGUMENT_BYTES]; /* for --vdev= or --allow= */
	bool pci;
	/* net_af_xdp */
	bool af_xdp;
	bool veth;
	bool own_program; /* ours; false: the user gave xdp_prog= */
	char ifname[IF_NAMESIZE];
	uint16_t interface_queues; /* receive queues of the interface */
	int object_fd, claim_fd;   /* -1: none */
	int multicast_fd;          /* a packet socket that keeps all multicast coming, -1: none */
	struct eb_xdp *xdp;        /* NULL before the port is started, or when the program is not ours */
	_Atomic bool covered;      /* the XDP maps hold the whole blocklist: the rx core need not look */
	/* the port */
	uint16_t mtu;
	uint16_t port_id;
	uint16_t queue_pairs; /* 0: not configured yet */
	uint16_t cores;       /* rx cores of the node */
	uint16_t opened;      /* rx cores that use it */
	uint16_t table_entries;
	uint64_t rx_offloads, tx_offloads; /* RTE_ETH_*_OFFLOAD_* in use */
	bool l4_sum_offload;
	bool rss, rss_symmetric;             /* the device spreads flows over its queues, with our key */
	bool software_spread;                /* rx cores hand frames to the owner of their flow */
	struct dp_spread *spread;            /* NULL: one rx core */
	struct dp_tap *tap;                  /* NULL: not wanted */
	struct dp_rules rules;               /* drop rules of the card; not used with net_af_xdp */
	struct dp_device_verdicts *verdicts; /* per rx core */
	struct rte_mempool *pool[DP_DEVICE_QUEUES_MAX];
	int socket_fd[DP_DEVICE_QUEUES_MAX]; /* AF_XDP sockets, owned by the driver; -1: not known */
};

/*
 * Reads the device string, looks at the interface, claims it, detaches a stale program of ours, prepares ours, writes `argument`.
 * 0 or -errno, logged. -EBUSY: another process serves the interface. -EEXIST: another's program sits on it.
 */
int dp_device_prepare(struct dp_device *device, const struct tp_config_ingest *ingest, uint32_t rx_cores);
void dp_device_release(struct dp_device *device);

/* Queues, spreading, tap: ready to be polled. 0 or -errno, logged. device_open.c. */
int dp_device_open(struct dp_device *device, uint16_t cores, const struct dp_device_wake *wake);
void dp_device_close(struct dp_device *device);

/* The devices that dp_dpdk_init() prepared; the one of an ingest entry. eal.c. */
struct dp_device *dp_device_of(const struct tp_config_ingest *ingest);
uint32_t dp_device_count(void);
const struct dp_device *dp_device_at(uint32_t index);
/* Commands that dpdk-telemetry.py can ask. After EAL has started. port_info.c. */
void dp_device_telemetry_register(void);
/* Bytes that an mbuf's data room must have for frames of this MTU, headroom included. */
uint32_t dp_device_room_bytes(uint16_t mtu);

#endif
