/*
 * The clients of a replay: what they send of a script, as frames, and what they make of the node's frames. They know no port: a frame
 * is delivered through a function. One thread. See replay.h.
 *
 *   a client (TCP)   idle ─SYN─► opening ─SYN-ACK─► ready ─request─► waiting ─answer─► ready …
 *                                                                     └─ with a connection a request: FIN both ways ─► idle, next port
 *
 * Over TCP nothing is sent again: frames to the node must not get lost. What the node sends again is passed over.
 *
 * With UDP batches each client is a source, and keeps to protocol.md: never more batches unacknowledged than it was told; one that is
 * answered "later" comes again when it was told to; one that is not answered within a second is sent again (the node's memory of ways
 * back is a cache, and an answer without a way is lost while it asks by ARP, which clients answer). Batches go out in their order: a
 * client that may not send holds up those behind it.
 */
#ifndef TURNPIKE_REPLAY_CLIENT_H
#define TURNPIKE_REPLAY_CLIENT_H

#include "replay.h"

enum rp_client_state { RP_CLIENT_IDLE, RP_CLIENT_OPENING, RP_CLIENT_READY, RP_CLIENT_WAITING, RP_CLIENT_CLOSING };

struct rp_client {
	enum rp_client_state state;
	uint16_t port, opened;
	uint32_t address;
	uint32_t seq, ack;      /* what it sends next, what it has received */
	uint32_t request;       /* the one on its way */
	struct rp_piece *piece; /* the next to be sent of it … */
	uint32_t pieces;        /* … and how many are left */
	uint64_t due_ns;
	uint32_t window, owed; /* UDP batches: how many it may have unacknowledged, and how many it has */
};

/* A batch that was answered "later". */
struct rp_later {
	uint64_t at_ns; /* not before */
	uint32_t number;
};

enum { RP_ARP_MAX = 32 }; /* questions beyond it are asked again */

struct rp_clients {
	const struct rp_options *options;
	const struct rp_script *script;
	struct blast_histogram *latency; /* ns of a request, from when it was due */
	void (*deliver)(void *context, const uint8_t *frame, uint32_t bytes);
	void *context;
	uint32_t next, owed;                             /* of the script's requests: the next, those on their way */
	uint64_t events_owed, answered, refused, events; /* events: of requests begun */
	uint64_t before_ns, now_ns;                      /* when open-loop time began; of this round */
	double ns_per_event;                             /* open loop; 0: as fast as answers come */
	struct rp_client *client;
	uint32_t *ready; /* clients that may send; a ring */
	uint32_t ready_first, ready_next;
	uint64_t *batch_due_ns; /* of UDP batches, by number */
	uint64_t *batch_sent_ns;
	uint8_t *batch_done;
	uint32_t batch_first, batch_look; /* all before it are answered; the next to be looked at */
	struct rp_later *later;           /* a ring: what the node put off, in the order of when it may come again */
	uint32_t later_first, later_next;
	uint64_t laters;             /* batches put off */
	uint64_t repeated;           /* events in batches that were sent again */
	uint8_t arp[RP_ARP_MAX][42]; /* answers to be sent */
	uint32_t arp_count;
	uint8_t small[128]; /* a frame without payload */
};

/* MACs of the node and of all clients, and the node's address. */
extern const uint8_t rp_node_mac[6], rp_client_mac[6];
enum { RP_NODE_ADDRESS = 0x0a4d0001, RP_UDP_PORT = 7771 };

/* `clients` with options, script, latency, deliver and context set. 0 or -ENOMEM. */
int rp_clients_open(struct rp_clients *clients);
void rp_clients_close(struct rp_clients *clients);
/* The next frame of a client that may send. False: none may. */
bool rp_clients_step(struct rp_clients *clients);
/* After the end: resets the next open connection, so that the node need not wait for a client that is gone. False: there is none. */
bool rp_clients_reset(struct rp_clients *clients);
/* A frame of the node's. */
void rp_clients_take(struct rp_clients *clients, const uint8_t *frame, size_t bytes);
static inline bool rp_clients_ended(const struct rp_clients *clients)
{
	return clients->next == clients->script->requests && !clients->owed;
}

#endif
