/*
 * The hop: a single-producer single-consumer ring of events from one rx core to one shard core.
 *
 *        tail           durable            taken              head            staged
 *   ──────┼─────────────────┼─────────────────┼──────────────────┼─────────────────┼──── positions, only growing
 *   free  │ verdicts told   │ decided, in the │ published, not   │ being written,  │ free
 *         │ by rx, next     │ log, not stable │ looked at yet    │ may roll back   │
 *
 * The producer stages slots, then commits all or rolls all back (a broken JSON array leaves nothing behind). The consumer takes
 * slots in order, notes each verdict, and later publishes `durable`: everything below it is decided and stable. The producer then
 * reaps those slots, tells the clients, and frees the room. So the ring's size bounds what is in flight.
 *
 * Slots cross from core to core once, as verdicts do on their way back: the consumer only reads slots, verdicts lie side by side in a
 * ring of bytes of their own, and what the producer has to know of a slot when its verdict is there it keeps in a ticket.
 *
 * Memory is mapped twice, end to end, so that no slot is ever split. All positions are in bytes; slots have numbers as well.
 */
#ifndef TURNPIKE_HOP_H
#define TURNPIKE_HOP_H

#include "turnpike/event.h"

#include <stdatomic.h>
#include <stdbool.h>

struct tp_slot {
	uint32_t bytes;        /* slot header and record; multiple of 8 */
	uint32_t index;        /* which event of the request; once a sampled one is decided: the lower half of when, in ns */
	uint64_t owner;        /* the producer's own: which request */
	struct tp_event event; /* with strings behind it */
};

enum { TP_HOP_AHEAD_BYTES = 48 << 10 };

enum { TP_SLOT_HEADER_BYTES = 16, TP_SLOT_BYTES_MAX = TP_SLOT_HEADER_BYTES + TP_SENT_BYTES_MAX };

/* The producer's own note of a slot. */
struct tp_ticket {
	uint64_t owner;
	uint32_t bytes;
	uint32_t pad;
};

struct tp_hop {
	/* written by the producer, read by the consumer */
	_Alignas(64) _Atomic uint64_t head;
	/* the producer's own */
	_Alignas(64) uint64_t staged;
	uint64_t tail;
	uint64_t staged_slots, head_slots, tail_slots;
	/* written by the consumer, read by the producer */
	_Alignas(64) _Atomic uint64_t durable;
	/* the consumer's own */
	_Alignas(64) uint64_t taken;
	uint64_t taken_slots;
	uint64_t fetched; /* slots before it are in this core's cache, or on their way */
	/* set at start */
	_Alignas(64) uint8_t *base;
	uint64_t capacity_bytes;
	uint64_t slots; /* at most, a power of two */
	struct tp_ticket *ticket;
	uint8_t *verdict; /* written by the consumer; published by `durable` */
};

/* Maps a ring of capacity_bytes (a power of two, page multiple) and touches it. 0 or -errno. */
int tp_hop_init(struct tp_hop *hop, uint64_t capacity_bytes);
void tp_hop_fini(struct tp_hop *hop);

static inline struct tp_slot *tp_hop_at(const struct tp_hop *hop, uint64_t position)
{
	return (struct tp_slot *)(void *)(hop->base + (position & (hop->capacity_bytes - 1)));
}

/* ---- producer ---- */

/* Room for a slot with a record of event_bytes, or NULL when the ring is full. Write it, then it counts as staged. */
static inline struct tp_slot *tp_hop_stage(struct tp_hop *hop, uint32_t event_bytes, uint64_t owner)
{
	uint64_t bytes = TP_SLOT_HEADER_BYTES + (uint64_t)event_bytes;
	if (hop->staged + bytes - hop->tail > hop->capacity_bytes || hop->staged_slots - hop->tail_slots == hop->slots)
		return NULL;
	struct tp_slot *slot = tp_hop_at(hop, hop->staged);
	slot->bytes = (uint32_t)bytes;
	slot->owner = owner;
	hop->ticket[hop->staged_slots++ & (hop->slots - 1)] = (struct tp_ticket){.owner = owner, .bytes = (uint32_t)bytes};
	hop->staged += bytes;
	return slot;
}

static inline void tp_hop_commit(struct tp_hop *hop)
{
	hop->head_slots = hop->staged_slots;
	/* release: the consumer that sees head sees the slots' bytes; pairs with the acquire in tp_hop_take() */
	atomic_store_explicit(&hop->head, hop->staged, memory_order_release);
}

static inline void tp_hop_rollback(struct tp_hop *hop)
{
	hop->staged = atomic_load_explicit(&hop->head, memory_order_relaxed);
	hop->staged_slots = hop->head_slots;
}

/* Frees the oldest slot whose verdict may be told. False: there is none. */
static inline bool tp_hop_reap(struct tp_hop *hop, uint64_t *owner, uint8_t *verdict)
{
	/* acquire: verdicts written before durable was published are seen; pairs with the release in tp_hop_durable() */
	if (hop->tail == atomic_load_explicit(&hop->durable, memory_order_acquire))
		return false;
	const uint64_t at = hop->tail_slots++ & (hop->slots - 1);
	*owner = hop->ticket[at].owner;
	*verdict = hop->verdict[at];
	hop->tail += hop->ticket[at].bytes;
	return true;
}

/* ---- consumer ---- */

/* The next published slot not taken yet, or NULL. */
static inline struct tp_slot *tp_hop_take(struct tp_hop *hop)
{
	if (hop->taken == atomic_load_explicit(&hop->head, memory_order_acquire))
		return NULL;
	struct tp_slot *slot = tp_hop_at(hop, hop->taken);
	hop->taken += slot->bytes;
	hop->taken_slots++;
	return slot;
}

/*
 * Fetches published bytes that were not fetched yet, at most `bytes` of them, up to TP_HOP_AHEAD_BYTES ahead of what is taken. They lie in
 * the producer's cache, and come several at a time only if they are asked for before they are needed: a little with each slot.
 */
static inline void tp_hop_fetch(struct tp_hop *hop, uint64_t head, uint32_t bytes)
{
	uint64_t at = hop->fetched > hop->taken ? hop->fetched : hop->taken & ~UINT64_C(63);
	uint64_t end = at + bytes;
	if (end > hop->taken + TP_HOP_AHEAD_BYTES)
		end = hop->taken + TP_HOP_AHEAD_BYTES;
	if (end > head)
		end = head;
	for (; at < end; at += 64)
		__builtin_prefetch(tp_hop_at(hop, at));
	hop->fetched = at;
}

/* Takes the slot that was taken last back: it is the first to be taken next time. */
static inline void tp_hop_untake(struct tp_hop *hop, const struct tp_slot *slot)
{
	hop->taken -= slot->bytes;
	hop->taken_slots--;
}

/* Notes the verdict (any byte) of slot `number`: the first ever taken has number 0, the one taken last taken_slots - 1. */
static inline void tp_hop_decide(struct tp_hop *hop, uint64_t number, uint8_t verdict)
{
	hop->verdict[number & (hop->slots - 1)] = verdict;
}

/* Tells the producer that all slots below `position` are decided and stable. */
static inline void tp_hop_durable(struct tp_hop *hop, uint64_t position)
{
	atomic_store_explicit(&hop->durable, position, memory_order_release);
}

#endif
