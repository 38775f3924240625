/*
 * Answers over sealed files, kept for the next who asks the same: what is sealed does not change until the manifest does, so such an
 * answer is right for as long as the reader's state is the same (sto_reader_state), and wrong from then on. Live rows are never kept:
 * they are read anew for each question and added, so that no answer lacks an acknowledged event because of this cache.
 *
 * Who asks what nobody keeps is the one to make it, and whoever asks the same meanwhile waits for that: a flight.
 *
 *   take ─┬─ kept ─────────────────────────────────────────────► value
 *         ├─ in the air ─► wait ─┬─ put ───────────────────────► value, also one that is too large to be kept
 *         │                      ├─ fail ─► the first who waits takes off
 *         │                      └─ WAIT_MS have passed ───────► make it yourself, for yourself
 *         └─ neither ──────────────────────────────────────────► a flight: make it, then put or fail
 *
 * A thread that makes something takes nothing else, so nobody waits for who waits. A flight that fails leaves nothing behind.
 *
 * Bounded by bytes; what was not used for longest goes first. Any thread; the lock is held for a look-up, never while somebody reads.
 */
#ifndef TURNPIKE_CTL_CACHE_H
#define TURNPIKE_CTL_CACHE_H

#include "ctl_query.h"

struct ctl_cache;

#define CTL_CACHE_BYTES_MAX (UINT64_C(96) << 20)

enum { CTL_CACHE_WAIT_MS = 2000 };

/* What is kept: somebody's sums, immutable from ctl_cache_put() on. */
struct ctl_kept {
	const void *value;
	/* private to ctl_cache.c */
	void (*value_free)(void *value);
	struct ctl_kept *next, *newer, *older;
	uint64_t hash, state[STO_READER_STATE];
	size_t bytes, key_bytes;
	uint32_t held;
	bool gone;
	char key[];
};

/* 0 or -ENOMEM. wait_ms: how long one who asks waits for another who makes the same. */
int ctl_cache_open(struct ctl_cache **cache, uint64_t bytes_max, uint32_t wait_ms);
void ctl_cache_close(struct ctl_cache *cache); /* nobody holds anything, or is in the air */

struct ctl_flight;
/*
 * What was kept under the key in this very state, or was made in this moment by somebody else: held. NULL: the caller has to make it, and
 * to end *flight with put or fail; without one (NULL: it is made elsewhere, too slowly, or there is no memory) he makes it for himself.
 */
const struct ctl_kept *ctl_cache_take(struct ctl_cache *cache, const void *key, size_t key_bytes,
				      const uint64_t state[STO_READER_STATE], struct ctl_flight **flight);
void ctl_cache_give(struct ctl_cache *cache, const struct ctl_kept *kept);
/*
 * Shows the value to all who wait for it, and keeps it if it is not too large. It is the cache's from then on, which frees it with
 * value_free(); `bytes` is what it takes in memory.
 */
void ctl_cache_put(struct ctl_cache *cache, struct ctl_flight *flight, void *value, size_t bytes, void (*value_free)(void *value));
void ctl_cache_fail(struct ctl_cache *cache, struct ctl_flight *flight);

struct ctl_cache_facts {
	uint64_t hits;   /* kept, or made by another who asked at the same time: */
	uint64_t shared; /* of the hits, the latter */
	uint64_t misses, bytes, entries;
};
void ctl_cache_facts(struct ctl_cache *cache, struct ctl_cache_facts *facts);
/* How many wait for what another one makes. */
uint32_t ctl_cache_waiting(struct ctl_cache *cache);

/* The key of a query's sealed part: all of the query that decides about it. Returns the length. */
enum { CTL_CACHE_KEY_BYTES_MAX = 8192 };
size_t ctl_cache_key(const struct ctl_query *query, char key[CTL_CACHE_KEY_BYTES_MAX]);

#endif
