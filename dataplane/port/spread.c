/*
 * Rings between rx cores: see spread.h. Source: DPDK 22.11, ring library.
 */
#include "spread.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_mbuf.h>
#include <rte_ring.h>

enum { RING_LEAST = 64, RING_MOST = 1024 };

static struct rte_ring *ring_make(uint32_t slots)
{
	const ssize_t bytes = rte_ring_get_memsize(slots);
	struct rte_ring *ring = bytes > 0 ? aligned_alloc(RTE_CACHE_LINE_SIZE, ((size_t)bytes + 63) & ~(size_t)63) : NULL;

	if (ring != NULL && rte_ring_init(ring, "spread", slots, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
		free(ring);
		return NULL;
	}
	return ring;
}

int dp_spread_create(struct dp_spread **out, uint32_t cores, uint32_t slots)
{
	struct dp_spread *spread = calloc(1, sizeof(*spread));
	uint32_t each = RING_MOST;

	if (spread == NULL)
		return -ENOMEM;
	while (each > RING_LEAST && each * 2 * cores * (cores - 1) > slots)
		each /= 2;
	spread->cores = cores;
	for (uint32_t i = 0; i < DP_FLOW_TABLE; i++)
		spread->owner[i] = (uint8_t)(i % cores);
	spread->in = calloc((size_t)cores * cores, sizeof(struct rte_ring *));
	spread->out = calloc((size_t)cores * cores, sizeof(struct rte_ring *));
	for (uint32_t i = 0; spread->in != NULL && spread->out != NULL && i < cores * cores; i++) {
		if (i % (cores + 1) == 0)
			continue; /* to itself */
		spread->in[i] = ring_make(each);
		spread->out[i] = ring_make(each);
		if (spread->in[i] == NULL || spread->out[i] == NULL) {
			dp_spread_destroy(spread);
			return -ENOMEM;
		}
	}
	if (spread->in == NULL || spread->out == NULL) {
		dp_spread_destroy(spread);
		return -ENOMEM;
	}
	*out = spread;
	return 0;
}

static void rings_free(struct rte_ring **ring, uint32_t count)
{
	for (uint32_t i = 0; ring != NULL && i < count; i++) {
		struct rte_mbuf *mbuf;

		while (ring[i] != NULL && rte_ring_sc_dequeue(ring[i], (void **)&mbuf) == 0)
			rte_pktmbuf_free(mbuf);
		free(ring[i]);
	}
	free(ring);
}

void dp_spread_destroy(struct dp_spread *spread)
{
	if (spread == NULL)
		return;
	rings_free(spread->in, spread->cores * spread->cores);
	rings_free(spread->out, spread->cores * spread->cores);
	free(spread);
}

uint32_t dp_spread_give(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_ring_sp_enqueue_burst(spread->in[from * spread->cores + to], (void **)mbufs, count, NULL);
}

uint32_t dp_spread_send(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_ring_sp_enqueue_burst(spread->out[from * spread->cores + to], (void **)mbufs, count, NULL);
}

uint32_t dp_spread_take(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs)
{
	return rte_ring_sc_dequeue_burst(spread->in[from * spread->cores + to], (void **)mbufs, DP_SPREAD_BURST, NULL);
}

uint32_t dp_spread_take_sent(struct dp_spread *spread, uint32_t from, uint32_t to, struct rte_mbuf **mbufs)
{
	return rte_ring_sc_dequeue_burst(spread->out[from * spread->cores + to], (void **)mbufs, DP_SPREAD_BURST, NULL);
}

bool dp_spread_waits(const struct dp_spread *spread, uint32_t to)
{
	for (uint32_t from = 0; from < spread->cores; from++)
		if (from != to && (!rte_ring_empty(spread->in[from * spread->cores + to]) ||
				   !rte_ring_empty(spread->out[from * spread->cores + to])))
			return true;
	return false;
}
