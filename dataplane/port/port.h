/*
 * Ports: where beacons come in. Two drivers, one face. A port instance belongs to one rx core, which alone polls it.
 *   socket   kernel sockets through one io_uring per core: SO_REUSEPORT listener and UDP socket, multishot accept and receive
 *   dpdk     one queue of a DPDK port, our stack on top (dataplane/net)
 */
#ifndef TURNPIKE_PORT_H
#define TURNPIKE_PORT_H

#include "../beacon/beacon.h"
#include "../beacon/connection_list.h"
#include "turnpike/config.h"
#include "turnpike/sight.h"
#include "turnpike/xdp.h"

struct dp_port;

enum { DP_PORT_FD_WAKE = -2 }; /* see fd */

struct dp_port_options {
	const struct tp_config *config;
	const struct tp_config_ingest *ingest;
	uint16_t ingest_index;
	uint16_t queue; /* which rx core of how many */
	uint16_t queues;
	struct dp_beacon *beacon;
	struct tp_counters *counters;
	bool (*blocked)(void *context, const struct tp_addr *peer);
	void *blocked_context;
	struct tp_sight *sight; /* NULL: nobody ever looks */
	/*
	 * Makes an rx core run another round. Any thread; orders what was published before it. DPDK ports of several rx cores, or with
	 * a tap, need it.
	 */
	void (*wake)(void *context, uint32_t rx_core);
	void *wake_context;
	/* For port 0 in the config: the first core's socket picks, the others join it. In/out; host order. */
	uint16_t *http_port, *udp_port;
};

struct dp_port_driver {
	const char *name;
	/*
	 * Cold, on the main thread, once per rx core and in their order, before any of them polls. 0 or -errno (logged).
	 */
	int (*open)(struct dp_port **port, const struct dp_port_options *options);
	/* One round on the rx core: receive, hand up, send. Returns how much was done; 0: idle. */
	uint32_t (*poll)(struct dp_port *port, uint64_t now_ns);
	/*
	 * A descriptor that becomes readable when there is work, -1 when only polling finds out, or DP_PORT_FD_WAKE when other threads'
	 * wake-ups tell. Ask right before each sleep, after the last poll: asking arms it, poll disarms it.
	 */
	int (*fd)(struct dp_port *port);
	/* True if another thread left work for this core. Asked before each sleep, after the core has said that it sleeps. May be NULL. */
	bool (*waits)(struct dp_port *port);
	/*
	 * Stop taking new connections and datagrams; finish what is there. Each round while stopping. Returns what is left: on sockets,
	 * connections with bytes still to go up or out and a UDP socket that still has datagrams from before (idle connections do not
	 * count, close ends them); on DPDK, connections.
	 */
	uint32_t (*drain)(struct dp_port *port, uint64_t now_ns);
	/*
	 * Adds what lies in the next `most` records of the connection table from *cursor (0 at first) on. True: that was the end. The rx
	 * core.
	 */
	bool (*list)(struct dp_port *port, struct dp_connection_list *list, uint32_t *cursor, uint32_t most);
	/* Cold, after the threads of all rx cores have ended. Calls dp_stream_closed() for what is still open. */
	void (*close)(struct dp_port *port);
};

extern const struct dp_port_driver dp_port_socket;
extern const struct dp_port_driver dp_port_dpdk;

/*
 * DPDK's environment: EAL with exactly the devices of the config, hugepages reserved when lacking and permitted (given back by
 * fini), our XDP program given to net_af_xdp. Called once, before any dpdk port is opened; not at all without dpdk entries.
 * 0 or -errno with the command that would help in the log.
 */
int dp_dpdk_init(const struct tp_config *config);
void dp_dpdk_fini(void);
/* What an operator wants to know of a DPDK port. Any thread while it is open. */
enum { DP_PORT_VERDICTS = TP_FRAME_COUNTERS };
struct dp_port_info {
	int ingest;
	char driver[32], device[128], interface[16], mac[18], xdp[16], tap[16];
	const char *spread; /* "none", "device", "software" */
	bool link_up, rss_symmetric, rx_sums, tx_sums;
	uint64_t speed_mbps;
	int mtu, queues, rx_cores;
	uint32_t card_rules; /* drop rules in the card */
	uint64_t rx_packets, rx_bytes, rx_missed, rx_errors, rx_no_buffer, tx_packets, tx_bytes, tx_errors; /* the driver's */
	uint64_t verdict[DP_PORT_VERDICTS]; /* our own, since the port was opened; index: counter less TP_C_FRAMES_RECEIVED */
};
int dp_dpdk_port_info(const struct tp_config_ingest *ingest, struct dp_port_info *info); /* 0 or -ENODEV */
/* Names the receive path for people: "net_af_xdp0 on tp0, XDP native, our program". */
const char *dp_dpdk_describe(void);

/*
 * Pushes the blocklist to where packets come in before the rx core sees them: each XDP program of ours that is attached for a port.
 * Called with the whole list on each change. Command thread. 0: what a program cannot hold, the rx cores check instead (a warning
 * tells), as they do until the first call.
 */
int dp_dpdk_blocklist(const struct eb_block *list, uint32_t count);
/* Adds what the list's entries have hit there, by slot; each only ever grows. Command thread. 0 or -errno. */
int dp_dpdk_blocklist_hits(uint64_t *hits, uint32_t slots);
/* Takes over ingest[].packet_rate_limit of a reloaded configuration, by device. Command thread. */
void dp_dpdk_packet_rates(const struct tp_config *config);
/* The XDP programs' counters, summed. -ENOENT: there is none. */
int dp_dpdk_xdp_counters(uint64_t counters[EB_COUNTERS]);

#endif
