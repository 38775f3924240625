/*
 * An rx core's beacon state: what HTTP and UDP beacons share. Created at start; all memory fixed then.
 */
#ifndef TURNPIKE_BEACON_H
#define TURNPIKE_BEACON_H

#include "intake.h"
#include "permit.h"
#include "stream.h"
#include "turnpike/config.h"
#include "turnpike/live.h"
#include "turnpike/sight.h"

#include <stdatomic.h>

struct dp_source_keys;

/* The blocklist as the rx cores see it: swapped whole by the command thread, looked up per connection, request and datagram. */
struct dp_blocklist_view;

/* UDP batches between commit and acknowledgement on one rx core. */
enum { DP_BATCHES_MAX = 4096 };

struct dp_beacon_options {
	const struct tp_config *config;
	struct dp_intake *intake;
	uint32_t connections_max; /* HTTP connections at once on this core, e.g. 16384 */
	uint32_t small_buffers;   /* of 16 KiB: requests that did not arrive whole, answers that did not fit */
	uint32_t large_buffers;   /* of 1 MiB + 64 KiB: bodies, gzip output, long reports */
	/* True if a peer is blocked right now; NULL: none ever is. Any rx core, no allocation. */
	bool (*blocked)(void *context, const struct tp_addr *peer);
	void *blocked_context;
	/* Bearer tokens, for ingest entries with `auth: tokens`. */
	struct dp_permit_source permits;
	_Atomic uint64_t (*way_events)[TP_WAYS]; /* TP_LIVE_PORTS lines of the live view, this core the writer; NULL: not counted */
	struct tp_sight *sight;                  /* where requests and datagrams are shown while somebody looks; NULL: nowhere */
	/*
	 * The keys of an ingest entry with `source_keys`, valid during the call in which they are asked for; NULL: nobody's. Any rx core, no
	 * allocation.
	 */
	const struct dp_source_keys *(*source_keys)(void *context, uint16_t ingest);
	void *source_context;
	/* What batch clients are told of the node: this rx core's number, how many there are, and which of them shares a CPU with each shard. */
	uint16_t rx, rx_count, shards;
	uint8_t shard_core[64]; /* rx core, or 0xff */
};

int dp_beacon_create(struct dp_beacon **beacon, const struct dp_beacon_options *options); /* cold */
void dp_beacon_destroy(struct dp_beacon *beacon);

/* Timeouts, answers that waited, connections that waited for room. Once a loop round; returns how much was done. */
uint32_t dp_beacon_poll(struct dp_beacon *beacon);

/* HTTP connections with a request begun and not answered, plus UDP batches not acknowledged: zero when SIGTERM may go on. */
uint32_t dp_beacon_owed(const struct dp_beacon *beacon);

#endif
