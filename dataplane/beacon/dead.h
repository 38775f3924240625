/*
 * Dead letters on the rx core: bytes of rejected events into a ring of their own to one shard. One per rx core, part of its intake.
 *
 *   dp_dead_origin() ─ dp_dead_stage() × n ─┬─ dp_dead_commit()     they are on their way
 *                                           └─ dp_dead_rollback()   nothing happened: the same beacon comes again
 *
 * The ring is not that of events: a letter never takes an event's room, never delays an answer, and one that finds no room is counted and
 * forgotten. Beyond `per_second` letters or `bytes_per_second` a core keeps none either, so that a flood of junk costs honest clients
 * neither log nor disk.
 *
 * The books (layer DEAD_LETTERS) are kept by the rx core alone: a letter is received when its beacon's fate is final, then dropped by
 * reason, or in flight until the shard says that it is durable.
 */
#ifndef TURNPIKE_DEAD_H
#define TURNPIKE_DEAD_H

#include "turnpike/addr.h"
#include "turnpike/counter.h"
#include "turnpike/dead_letter.h"
#include "turnpike/hop.h"

enum { DP_DEAD_RING_BYTES = 512 << 10 };

/* tp_slot.index of a letter that comes back: what the shard did with it. */
enum { DP_DEAD_LOGGED, DP_DEAD_REFUSED };

struct dp_dead {
	struct tp_hop *ring; /* NULL: dead letters are neither kept nor counted (tests, benchmarks) */
	struct tp_counters *counters;
	uint64_t per_second, bytes_per_second;
	/* what may still be kept now, in thousandths, filled up to one second's worth as the clock goes */
	uint64_t letters_left, bytes_left, filled_ms;
	/* where the beacon comes from */
	struct tp_endpoint peer;
	uint16_t ingest;
	uint8_t way; /* enum tp_way */
	/* staged, not committed */
	uint32_t staged, over_rate, over_bytes, ring_full;
	uint64_t staged_bytes;
	uint64_t in_flight;
};

void dp_dead_init(struct dp_dead *dead, struct tp_hop *ring, struct tp_counters *counters, uint32_t per_second,
		  uint64_t bytes_per_second);

/* Who sent what is parsed next. */
static inline void dp_dead_origin(struct dp_dead *dead, enum tp_way way, uint16_t ingest, const struct tp_endpoint *peer)
{
	dead->way = (uint8_t)way;
	dead->ingest = ingest;
	dead->peer = *peer;
}

struct dp_dead_what {
	enum tp_reject reason;
	enum tp_field field;
	enum tp_dead_part part;
	uint32_t index;
};

/* Stages one letter, or notes why not. `bytes` is all of it, however long. */
void dp_dead_stage(struct dp_dead *dead, uint64_t now_ms, const struct dp_dead_what *what, const void *bytes, size_t count);

/* Publishes what was staged, and counts. True: the shard has something to do. */
bool dp_dead_commit(struct dp_dead *dead);
void dp_dead_rollback(struct dp_dead *dead);

/* Counts what is durable. How many came back. */
uint32_t dp_dead_poll(struct dp_dead *dead);

#endif
