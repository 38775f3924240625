/*
 * Rings between the rx cores of one device, where a core gets frames that another one must see, or has none of the queues that it
 * must send on. Single producer, single consumer each; they carry mbufs.
 *
 *   queue ─ core a polls ─┬─ its own flows ─► stack a ─► queue of a
 *                         └─ flows of b ─── in[a][b] ─► stack b ─┬─► queue of b
 *                                                                └── out[b][a] ─► queue of a      (b has no queue)
 *
 * Created and destroyed by the main thread while no rx core runs.
 */
#ifndef TURNPIKE_SPREAD_H
#define TURNPIKE_SPREAD_H

#include "flow.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_SPREAD_CORES_MAX = 64, DP_SPREAD_BURST = 64 };

struct rte_mbuf;
struct rte_ring;

struct dp_spread {
	uint32_t cores;
	uint8_t owner[DP_FLOW_TABLE]; /* rx core by hash, as in a card's indirection table */
	struct rte_ring **in, **out;  /* [from * cores + to] */
};

/* `slots`: mbufs that may lie in all rings together, so that they never starve the port. 0 or -ENOMEM. */
int dp_spread_create(struct dp_spread **spread, uint32_t cores, uint32_t slots);
/* Frees the mbufs that are still in the rings. */
void dp_spread_destroy(struct dp_spread *spread);

static inline uint32_t dp_spread_owner(const struct dp_spread *spread, uint16_t hash)
{
	return spread->owner[hash & (DP_FLOW_TABLE - 1)];
}

/* Returns how many of the mbufs found room: a prefix. The rest stays the caller's. Core `from`. */
uint32_t dp_spread_give(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs, uint32_t count);
uint32_t dp_spread_send(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs, uint32_t count);
/* Takes at most DP_SPREAD_BURST that `from` put there. Core `to`. */
uint32_t dp_spread_take(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs);
uint32_t dp_spread_take_sent(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs);
/* True if something waits for core `to`. */
bool dp_spread_waits(const struct dp_spread *spread, uint32_t to);

#endif
