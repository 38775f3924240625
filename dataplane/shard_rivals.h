/*
 * Rivals: an answer to a conflict waits until the event that has the id is durable, whichever shard's log it goes to.
 *
 * The id table is one for all shards, and says of a conflict that another payload was there first, not where. Its shard may still lose it:
 * a crash in this moment, and the id would count nowhere, though somebody was told that it counts. So the shard that found the conflict
 * notes how far every other shard has come, and holds the answer back until all of them are durable up to there.
 *
 *   rival's shard     turn odd ── id claimed ── record appended ── turn even ··· block written ── durable
 *   this shard               conflict found ── note ──────── settled by: appended is known ────── and durable
 *
 * Between claim and append the other shard's count of appended records lacks the rival; both lie in one turn of its loop. So a note taken
 * in the midst of a turn (odd) waits for its end, and takes the count from there. A claim that was seen makes the odd turn before it seen:
 * the claim is a full barrier.
 *
 * Nobody waits in a circle: what a shard makes durable waits for no note. A log that has failed settles no note any more: the process ends,
 * and nobody was told. Notes settle in the order in which they were taken, since the counts only grow. With all of them in use the last one
 * takes a later count in: that only makes answers wait for more.
 *
 * One shard core; of other shards it reads struct dp_shard_turns. Without conflicts a round costs four stores.
 */
#ifndef TURNPIKE_SHARD_RIVALS_H
#define TURNPIKE_SHARD_RIVALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { DP_RIVAL_NOTES = 64 };

/* How far a shard has come. It writes, in each round; other shards read, while they have notes. */
struct dp_shard_turns {
	_Alignas(64) _Atomic uint64_t turn; /* odd while it decides */
	_Atomic uint64_t appended;          /* records, when it decided last */
	_Atomic uint64_t durable;
};

/* Of one shard, in a note: durable from `appended` on, or, where that is not known yet, as it is when `turn` has ended. */
struct dp_rival_wait {
	uint64_t turn; /* odd: not known yet */
	uint64_t appended;
};

struct dp_rivals {
	uint32_t number, shards;
	const struct dp_shard_turns *const *turns; /* of all shards, by number */
	struct dp_rival_wait *wait;                /* [DP_RIVAL_NOTES][shards] */
	uint64_t settled, taken;                   /* notes have the numbers from 1; settled <= taken */
};

/* `turns` stays the caller's; with one shard it may be NULL. 0 or -ENOMEM. Cold. */
int dp_rivals_init(struct dp_rivals *rivals, uint32_t number, uint32_t shards, const struct dp_shard_turns *const *turns);
void dp_rivals_fini(struct dp_rivals *rivals);

/* After a conflict was found: the note that its answer has to wait for; 0: none, no other shard owes anything. */
uint64_t dp_rivals_note(struct dp_rivals *rivals);
/* True once the note is settled, and so all before it. 0 always is. */
bool dp_rivals_settled(struct dp_rivals *rivals, uint64_t note);

/* True while a note is not known to be settled: nobody wakes the core when it is, so it looks again by itself. */
static inline bool dp_rivals_waiting(const struct dp_rivals *rivals)
{
	return rivals->settled != rivals->taken;
}

/* The shard's own turn. */
static inline void dp_turn_begin(struct dp_shard_turns *own)
{
	/* No barrier: the claims that follow are full ones. */
	atomic_store_explicit(&own->turn, atomic_load_explicit(&own->turn, memory_order_relaxed) + 1, memory_order_relaxed);
}

static inline void dp_turn_end(struct dp_shard_turns *own, uint64_t appended)
{
	atomic_store_explicit(&own->appended, appended, memory_order_relaxed);
	/* release: who sees the turn ended sees the count; pairs with the acquire in wait_take() */
	atomic_store_explicit(&own->turn, atomic_load_explicit(&own->turn, memory_order_relaxed) + 1, memory_order_release);
}

#endif
