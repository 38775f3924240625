/*
 * Sketches of distinct users that sealed segments made, kept for the next who asks for the same campaign and range: a segment is
 * immutable, so what was merged of it once need not be read again. When more was sealed only that is read; when something was deleted
 * (retention) all is read anew. What is not sealed is never kept.
 *
 * Memory: CTL_USERS_KEPT_MAX sketches of 4 KiB, in place, touched when they are first used; two that meet in a slot take turns. Any
 * thread; the lock is held for a copy.
 */
#ifndef TURNPIKE_CTL_USERS_KEPT_H
#define TURNPIKE_CTL_USERS_KEPT_H

#include "ctl_cache.h"
#include "ctl_folds.h"
#include "turnpike/distinct.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CTL_USERS_KEPT_MAX = 2048 };

/* Which segments went into the sketch that is kept for `of`, a hash of all that decides. False: there is none. */
bool ctl_users_kept_find(XXH128_hash_t of, struct ctl_folds_sealed *sealed);
/* Merges it, if it is still of these segments. */
bool ctl_users_kept_take(XXH128_hash_t of, const struct ctl_folds_sealed *sealed, struct agg_distinct *into);
void ctl_users_kept_put(XXH128_hash_t of, const struct ctl_folds_sealed *sealed, const struct agg_distinct *users);

/* Hits: questions that were spared segments. */
void ctl_users_kept_count(bool hit);
void ctl_users_kept_facts(struct ctl_cache_facts *facts);

#endif
