/*
 * The XDP program in front of an AF_XDP queue, and its loader side. The program drops malformed frames, frames from blocklisted IPv4
 * and IPv6 prefixes (LPM tries) and those beyond a source's packet rate, counts each verdict per CPU, and redirects the rest to the
 * AF_XDP socket of the queue (or passes it to the kernel when there is none). DPDK's net_af_xdp loads it (devarg xdp_prog=); we find
 * its maps through the interface. Cold code.
 *
 * How it is attached: net_af_xdp hands the object to libbpf and attaches it over netlink (bpf_xdp_attach), without a bpf_link and
 * without libxdp's dispatcher. So it stays on the interface when the process is killed, and must be looked for at the next start.
 */
#ifndef TURNPIKE_XDP_H
#define TURNPIKE_XDP_H

#include "turnpike/addr.h"
#include "turnpike/xdp_shared.h"

#include <stdint.h>

#define EB_PROGRAM_NAME "turnpike_xdp"
#define EB_MAP_V4       "tp_block_v4"
#define EB_MAP_V6       "tp_block_v6"
#define EB_MAP_HITS     "tp_block_hits"
#define EB_MAP_COUNTERS "tp_xdp_count"
#define EB_MAP_SETTINGS "tp_xdp_settings"
#define EB_MAP_SOCKETS  "xsks_map" /* the name that net_af_xdp looks for */

/* Writes the object file, which is part of this binary, to a memfd. Returns it; "/proc/self/fd/N" serves as xdp_prog=. */
int eb_object_fd(void);

/*
 * Claims the interface for this process: a descriptor, held until it is closed or the process dies, however it dies. -EBUSY: a
 * live process has it, so its program is not stale.
 */
int eb_interface_claim(const char *ifname);

/* Detaches a program of ours that a killed process left on the interface. Another's program: -EEXIST. None: 0. Claim it first. */
int eb_stale_detach(const char *ifname);

/* One entry of the blocklist as those need it who enforce it: here, in a NIC's flow rules, on rx cores. */
struct eb_block {
	struct tp_prefix prefix; /* host bits clear */
	uint32_t slot;           /* below EB_SLOTS_MAX: where its hits are counted */
	bool count_only;         /* counted, never dropped, even inside a shorter prefix that drops */
};

struct eb_xdp;                                            /* handles on the maps of the program attached to an interface */
int eb_xdp_open(struct eb_xdp **xdp, const char *ifname); /* after net_af_xdp has attached it. -ENOENT: not ours */
void eb_xdp_close(struct eb_xdp *xdp);
/* How the kernel runs it: "native", "generic" or "offloaded". */
const char *eb_xdp_mode(const struct eb_xdp *xdp);
/*
 * Makes the maps hold exactly `list`. Adds before it removes, so that no listed prefix is ever open in between. -E2BIG: more than
 * EB_PREFIXES_MAX of a family, and nothing was changed. After another error, listed prefixes may be missing.
 */
int eb_xdp_blocklist(struct eb_xdp *xdp, const struct eb_block *list, uint32_t count);
/* Adds the hits of slots 0 to slots - 1, summed over CPUs, to hits[]. They only ever grow. */
int eb_xdp_hits(struct eb_xdp *xdp, uint64_t *hits, uint32_t slots);
/* Packets a second that one source may send (an IPv4 address, an IPv6 /64), with a burst of a tenth of a second; 0: no limit. */
int eb_xdp_packet_rate(struct eb_xdp *xdp, uint32_t packets_per_second);
int eb_xdp_counters(struct eb_xdp *xdp, uint64_t counters[EB_COUNTERS]); /* sums over CPUs */

#endif
