/*
 * Our network stack for one queue of one DPDK port: Ethernet (one VLAN tag), ARP, IPv4, IPv6 with neighbour discovery, ICMP echo,
 * UDP, server-side TCP. A pure state machine: frames and the clock in, frames and stream calls out; it knows no DPDK, makes no
 * system call and allocates only in dp_stack_create(). One rx core enters it.
 */
#ifndef TURNPIKE_STACK_H
#define TURNPIKE_STACK_H

#include "../beacon/connection_list.h"
#include "../beacon/stream.h"
#include "turnpike/counter.h"

struct dp_stack;

struct dp_stack_options {
	uint8_t mac[6];
	uint16_t mtu;                    /* IP bytes per frame, e.g. 1500 */
	const struct tp_prefix *address; /* ours, with on-link length */
	uint32_t address_count;
	const struct tp_addr *gateway; /* at most one per family */
	uint32_t gateway_count;
	uint16_t http_port, udp_port; /* 0: not wanted */
	uint16_t ingest;              /* index of the ingest entry, handed to streams */
	uint32_t connections_max;
	uint32_t reserve_max;       /* connections with a buffer set aside for an answer, 0: 65536 */
	uint32_t send_buffer_bytes; /* at most, per connection (2 KiB … 62 KiB); taken from a pool only while unacknowledged */
	uint64_t secret[2];         /* for initial sequence numbers and hashing, random per start */
	struct dp_beacon *beacon;   /* handed to streams and datagrams */
	struct tp_counters *counters;
	/*
	 * A frame buffer to fill: returns room for `bytes` (<= mtu + 18) or NULL when none is free; then transmit sends that buffer.
	 * Exactly one buffer is open at a time.
	 */
	void *(*frame_open)(void *context, size_t bytes);
	void (*frame_send)(void *context, void *frame, size_t bytes);
	void *context;
	/* Probe for our addresses, announce and defend them, report the multicast groups: one of the stacks of a device does. */
	bool claim;
	/* Another host uses an address of ours: for the log, at most each 10 s per address. May be NULL. */
	void (*conflict)(void *context, const struct tp_addr *addr, const uint8_t mac[6]);
	bool l4_sum_offload; /* the port computes TCP and UDP checksums: their fields leave here holding the pseudo header's sum */
	/*
	 * What the stack has no use for (another address, protocol or port) is offered to the kernel's side of the port before it is
	 * dropped for `why`; returns the counter in which the frame ends. With it the stack stays silent about ports that are not
	 * its own. NULL: nobody else is there.
	 */
	enum tp_counter (*pass)(void *context, const uint8_t *frame, size_t bytes, enum tp_counter why);
	/* True if a source is blocklisted; NULL when XDP or the NIC does that. */
	bool (*blocked)(void *context, const struct tp_addr *peer);
	void *blocked_context;
};

/*
 * Cold. Allocates and touches all memory: about 4 KiB a connection for the first 65,536, 0.4 KiB for more. 0, -EINVAL (no address, a
 * mtu below 576, or below 1280 with an IPv6 address, no connections) or -ENOMEM. Addresses and gateways are copied. A link-local
 * IPv6 address is made from the MAC.
 */
int dp_stack_create(struct dp_stack **stack, const struct dp_stack_options *options);
/* Cold. Sends a RST on every connection (frame_open and frame_send must still work), calls dp_stream_closed() for each stream. */
void dp_stack_destroy(struct dp_stack *stack);

/* What the port has checked of a frame already. */
enum { DP_FRAME_IP_SUM_GOOD = 1, DP_FRAME_L4_SUM_GOOD = 2 };

/*
 * One received frame, from the destination MAC on. It is only read, and not kept. Counts FRAMES_RECEIVED and exactly one of
 * FRAMES_ACCEPTED or a reason, which it returns. Sends little itself (ARP, ICMP, SYN-ACK, RST, ACKs of gaps): data and ACKs wait
 * for the flush.
 */
enum tp_counter dp_stack_input(struct dp_stack *stack, const uint8_t *frame, size_t bytes, uint64_t now_ns);
/* The same, with DP_FRAME_* of what need not be summed again. */
enum tp_counter dp_stack_input_checked(struct dp_stack *stack, const uint8_t *frame, size_t bytes, uint32_t checked,
				       uint64_t now_ns);
/* A frame that another core's stack counts and answers: this one only learns what it tells of neighbours (ARP answers, NAs). */
void dp_stack_overhear(struct dp_stack *stack, const uint8_t *frame, size_t bytes, uint64_t now_ns);
/*
 * After each burst: due ACKs and queued data leave, so that a burst of requests shares segments and one ACK. Call it in every round
 * of the loop, also without frames: what streams were given outside of a frame (answers after durability), resumed, closed or
 * aborted streams are worked off here. Calls dp_stream_input() after a resume, dp_stream_writable(), dp_stream_closed().
 */
void dp_stack_flush(struct dp_stack *stack, uint64_t now_ns);
/* Timers: retransmission, delayed ack, idle, TIME_WAIT, neighbour entries. Cheap when nothing is due. Returns timers fired. */
uint32_t dp_stack_tick(struct dp_stack *stack, uint64_t now_ns);
/*
 * A graceful end: from the first call on SYNs are refused with a RST; each call sends FIN on connections where nothing is queued and
 * that have been quiet for 250 ms (5 s if the peer was the last to speak: an answer may be owed). Call it in every round while
 * stopping, beside input, flush and tick. Returns connections still there.
 */
uint32_t dp_stack_drain(struct dp_stack *stack, uint64_t now_ns);

/* Adds what lies in the next `most` records from *cursor (0 at first) on. True: that was the end. */
bool dp_stack_list(const struct dp_stack *stack, struct dp_connection_list *list, uint32_t *cursor, uint32_t most);
uint32_t dp_stack_connections(const struct dp_stack *stack);

#endif
