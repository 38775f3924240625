/*
 * The inside of a client: what its files share. One thread per client.
 *
 *   client.c   batches: open, sent, acknowledged; the timeout
 *   flow.c     sockets, what the server told of itself, which socket an event goes by
 *   latency.c  how long acknowledgements took
 */
#ifndef TPC_CLIENT_STATE_H
#define TPC_CLIENT_STATE_H

#include "turnpike/client.h"

#include "encode.h"

#define TPC_SECOND_NS 1000000000ULL

enum { TPC_NONE = UINT32_MAX, TPC_CORE_UNKNOWN = UINT16_MAX };

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_SENT };

/* A batch. */
struct slot {
	enum slot_state state;
	bool told_later; /* it waits as the server told, and is not overdue */
	int version;
	uint32_t next_free;
	uint32_t flow; /* the socket that it goes by */
	uint32_t bytes, events, sends;
	uint32_t checksum;
	uint64_t number;
	uint64_t first_sent_ns, due_ns, interval_ns;
	uint8_t *datagram;
};

/* A socket: a source port, which the server's network card gives to one of its cores. */
struct flow {
	int fd;
	uint16_t core;  /* as the server told, or TPC_CORE_UNKNOWN */
	uint32_t open;  /* slot of the open batch, or TPC_NONE */
	uint64_t hello; /* number of the last hello */
	uint64_t hello_due_ns, hello_interval_ns;
};

/* Counts by the three bits below the highest one. */
struct latency {
	uint64_t count[64 * 8];
	uint64_t total, max_ns;
};

struct tpc_client {
	int epoll_fd;
	bool v6;
	uint64_t source;
	uint64_t next_number, last_number;
	uint64_t random;
	uint32_t window, told_window; /* ours; the server's, 0: not told */
	uint32_t datagram_bytes;      /* the option */
	uint32_t room_bytes;          /* of new batches: less where the path or the server takes less */
	int version;                  /* of new batches */
	bool hellos;                  /* flows ask for the layout */
	bool shard_aware;
	uint64_t retry_ns;   /* the least timeout */
	uint64_t timeout_ns; /* of batches that are sent now */
	uint64_t srtt_ns, rttvar_ns;
	uint64_t doubled_ns; /* when the timeout was doubled last */
	bool sign;
	uint8_t key[16];
	tpc_ack_fn fn;
	void *context;
	uint32_t free, in_flight, open;
	uint64_t due_ns; /* no sent batch and no hello is due before this */
	uint32_t index_mask;
	uint32_t *index; /* slot of a number, by its low bits; TPC_NONE: no such batch */
	struct slot *slot;
	uint8_t *memory;
	uint32_t flows, turn; /* sockets, and which is next for events of no shard */
	struct flow flow[TPC_SOCKETS_MAX];
	uint32_t shards, cores; /* of the layout; 0: not told */
	uint8_t shard_core[TPC_SHARDS_MAX];
	struct tpc_stats stats; /* what is counted; the rest is filled by tpc_stats() */
	struct latency latency;
	uint8_t answer[TPC_BATCH_BYTES_MAX];
};

static inline const uint8_t *tpc_key(const struct tpc_client *client)
{
	return client->sign ? client->key : NULL;
}

/* ---- random.c ---- */

uint64_t tpc_random(struct tpc_client *client);
/* ns, give or take an eighth: so that clients that were stopped together do not come back together. */
uint64_t tpc_jitter(struct tpc_client *client, uint64_t ns);

/* ---- flow.c ---- */

/* Opens the sockets. 0, or -1 with errno; tpc_flows_close() is due in any case. */
int tpc_flows_open(struct tpc_client *client, const char *host, uint16_t port);
void tpc_flows_close(struct tpc_client *client);
/* Which socket an event should go by. */
uint32_t tpc_flow_of(struct tpc_client *client, const struct tpc_plan *plan);
/* Sends a datagram by a socket; in fragments if the path takes it in no other way. Whatever stops it may pass. */
void tpc_flow_send(struct tpc_client *client, struct flow *flow, const uint8_t *bytes, uint32_t count);
/* Asks for the layout where it is time to. Returns when it is time again. */
uint64_t tpc_hellos_send(struct tpc_client *client, uint64_t now_ns);
/* Takes a layout that came by this socket. False: it answers none of our hellos. */
bool tpc_layout_take(struct tpc_client *client, struct flow *flow, const struct tpc_answer *answer, uint64_t now_ns);

/* ---- latency.c ---- */

void tpc_latency_add(struct latency *latency, uint64_t ns);
/* At least `share` of 1,000 were not slower. 0 without any. */
uint64_t tpc_latency_at(const struct latency *latency, uint32_t share);

#endif
