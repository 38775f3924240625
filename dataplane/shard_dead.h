/*
 * Dead letters on the shard core: from the rings of some rx cores into the shard's log. Part of dp_shard_poll().
 *
 * A letter is a record like any other for the log, and nothing for anybody else: no verdict, no machine, no rollup row sees it. It is taken
 * only when nothing that events need is owed, and few at a time, so that events go first. Its ring is told once it is durable.
 */
#ifndef TURNPIKE_SHARD_DEAD_H
#define TURNPIKE_SHARD_DEAD_H

#include "beacon/dead.h"
#include "turnpike/hop.h"
#include "turnpike/wal.h"

enum { DP_DEAD_BURST = 16 };

/* One ring, its consumer this shard. */
struct dp_shard_dead {
	struct tp_hop *ring;
	uint32_t rx; /* whose */
	/* once `appended` records are durable, all below `position` is; position 0: nothing waits */
	uint64_t appended, position;
};

/*
 * Takes up to DP_DEAD_BURST letters; `reserve` gives room in the log. While the log has no space, what is left of it belongs to events:
 * letters are taken all the same, and refused. How many were taken.
 */
uint32_t dp_shard_dead_take(struct dp_shard_dead *dead, struct sto_wal *wal, void *(*reserve)(void *context, uint32_t bytes),
			    void *context, uint64_t now_ns);

/* True if the ring was told something: its rx core should look. */
bool dp_shard_dead_publish(struct dp_shard_dead *dead, uint64_t durable);

/* True when letters wait to be taken. */
static inline bool dp_shard_dead_waiting(const struct dp_shard_dead *dead)
{
	return dead->ring->taken != atomic_load_explicit(&dead->ring->head, memory_order_acquire);
}

#endif
