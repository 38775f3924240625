/*
 * A DPDK port without a network card: what clients would send lies in memory, written before the clock starts, and what the node
 * answers is read and checked. It stands in the place of dataplane/port/port_dpdk.c, so that a benchmark is the whole node, every core
 * and background thread, with everything on; only the wire is missing, and nobody has to generate load beside it.
 *
 *   script   requests in the order in which they are to be sent: payload and its checksum        replay_script.c
 *   clients  who may send, headers, handshakes, answers and how long they took                    replay_client.c
 *   port     where the node finds their frames                                                    replay_port.c
 *
 * bench_memif has the same clients in a process of their own.
 *
 * The clients' part costs the rx core time as well; it is sampled and told, not taken off.
 */
#ifndef TURNPIKE_REPLAY_H
#define TURNPIKE_REPLAY_H

#include "blast.h"
#include "blast_histogram.h"

enum rp_load {
	RP_UDP_TEXT,    /* one JSON event a datagram, no answer */
	RP_UDP_BATCH,   /* binary batches, acknowledged */
	RP_HTTP_SINGLE, /* one JSON event a request, keep-alive */
	RP_HTTP_BATCH,  /* a JSON array a request, keep-alive */
	RP_HTTP_CLOSE,  /* one event a request, a connection a request */
};

enum { RP_CLIENTS_MAX = 16384, RP_EVENT_BYTES_MAX = 4096 };

struct rp_options {
	enum rp_load load;
	uint64_t events;         /* of all ports together */
	uint32_t ports;          /* rx cores */
	uint32_t clients;        /* of each port; each has one request on its way at a time. With UDP batches each is a source */
	uint32_t window;         /* UDP batches, or text events, on their way at a time, of all clients of a port together */
	uint32_t batch;          /* events of an HTTP batch */
	uint32_t datagram_bytes; /* of a UDP batch, at most */
	uint32_t event_bytes;    /* JSON events are padded to this many with an unknown field; 0: as they come */
	double rate;             /* events a second of all ports together, open loop; 0: as fast as answers come */
	struct blast_options synth;
};

/* One segment or datagram. */
struct rp_piece {
	uint64_t sum; /* of the payload */
	uint32_t bytes;
	uint32_t pad;
	uint8_t head[64]; /* room: the headers end where the payload begins */
	uint8_t payload[];
};

struct rp_request {
	uint64_t at; /* of its first piece in the memory, which lie one behind the other, on 64 bytes */
	uint32_t pieces, bytes, events;
};

struct rp_script {
	uint8_t *memory;
	uint64_t bytes;
	struct rp_request *request;
	uint32_t requests;
	uint64_t events, copies;
};

enum { RP_HEADERS_BYTES = 54, RP_MSS = 1460 };

static inline struct rp_piece *rp_piece_next(struct rp_piece *piece)
{
	uint64_t bytes = sizeof(*piece) + piece->bytes;
	return (struct rp_piece *)(void *)((uint8_t *)piece + ((bytes + 63) & ~UINT64_C(63)));
}

/* Writes port `port`'s share. 0 or -ENOMEM. Main thread, before the node starts. */
int rp_script_make(struct rp_script *script, const struct rp_options *options, uint32_t port);
void rp_script_free(struct rp_script *script);

/* ---- the ports: what they share with the main thread ---- */

struct rp_result {
	_Atomic uint64_t begun_ns, ended_ns; /* first request out, last answer in; 0: not yet */
	_Atomic uint64_t answered, refused;  /* events in requests that were answered 2xx or acknowledged; otherwise */
	uint64_t sampled_ticks, own_ticks;   /* of rounds that were looked at, and the clients' part of them; after ended_ns */
	uint64_t repeated;                   /* events in UDP batches that were sent again; after ended_ns */
	uint64_t laters;                     /* UDP batches that were put off; after ended_ns */
	uint64_t events_inside;              /* text: events that the node says it has, at the end */
	struct blast_histogram latency;      /* ns of a request, from when it was due */
};

/* Before the node starts. Both outlive it. */
void rp_ports_set(const struct rp_options *options, struct rp_script *script, struct rp_result *result);
/* From now on the clients may send. */
void rp_ports_go(void);

#endif
