/*
 * Answers over sealed files, kept for the next who asks the same: what is sealed does not change until the manifest does, so such an
 * answer is right for as long as the reader's state is the same (sto_reader_state), and wrong from then on. Live rows are never kept:
 * they are read anew for each question and added, so that no answer lacks an acknowledged event because of this cache.
 *
 * Bounded by bytes; what was not used for longest goes first. Any thread; the lock is held for a look-up, never while somebody reads.
 */
#ifndef TURNPIKE_CTL_CACHE_H
#define TURNPIKE_CTL_CACHE_H

#include "ctl_query.h"

struct ctl_cache;

#define CTL_CACHE_BYTES_MAX (UINT64_C(96) << 20)

/* What is kept. Immutable from ctl_cache_put() on. */
struct ctl_kept {
	struct ctl_answer sums; /* `query` is NULL */
	/* private to ctl_cache.c */
	struct ctl_kept *next, *newer, *older;
	uint64_t hash, state[STO_READER_STATE];
	size_t bytes, key_bytes;
	uint32_t held;
	bool gone;
	char key[];
};

int ctl_cache_open(struct ctl_cache **cache, uint64_t bytes_max); /* 0 or -ENOMEM */
void ctl_cache_close(struct ctl_cache *cache);

/* What was kept under the key in this very state, held; NULL: nothing. */
const struct ctl_kept *ctl_cache_take(struct ctl_cache *cache, const void *key, size_t key_bytes,
				      const uint64_t state[STO_READER_STATE]);
void ctl_cache_give(struct ctl_cache *cache, const struct ctl_kept *kept);
/* Keeps a copy's worth: the answer is moved into the cache (and is empty then), or freed where there is no room. */
void ctl_cache_put(struct ctl_cache *cache, const void *key, size_t key_bytes, const uint64_t state[STO_READER_STATE],
		   struct ctl_answer *sums);

struct ctl_cache_facts {
	uint64_t hits, misses, bytes, entries;
};
void ctl_cache_facts(struct ctl_cache *cache, struct ctl_cache_facts *facts);

/* The key of a query's sealed part: all of the query that decides about it. Returns the length. */
enum { CTL_CACHE_KEY_BYTES_MAX = 8192 };
size_t ctl_cache_key(const struct ctl_query *query, char key[CTL_CACHE_KEY_BYTES_MAX]);

#endif
