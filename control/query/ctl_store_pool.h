/*
 * Stores for all who ask at the same time: each question takes one, has it to itself, and gives it back, so that none waits for
 * another's reading. What they share: the page cache, the index over live tables, the answers that are kept (ctl_cache.h).
 *
 * The store that was given back last is taken first: few are warm, the rest is let go after a minute without use, and with it its
 * mappings of files that have been deleted.
 *
 * A thread of its own reads the newest days once at the start (so that the first who asks finds the pages in memory), keeps the stores
 * that wait and the index in step with the data process, and lets go what is not used. Any thread may take and give.
 */
#ifndef TURNPIKE_CTL_STORE_POOL_H
#define TURNPIKE_CTL_STORE_POOL_H

#include "ctl_cache.h"
#include "ctl_store.h"
#include "ctl_view.h"

enum { CTL_STORES_MAX = 32 };

struct ctl_store_pool;

/* `views` may be NULL, then there is no thread and no warm-up; views and data_dir outlive the pool. 0 or -errno. */
int ctl_store_pool_open(struct ctl_store_pool **pool, const char *data_dir, struct ctl_views *views);
void ctl_store_pool_close(struct ctl_store_pool *pool); /* all stores have been given back */

/* A store for this question. Waits while CTL_STORES_MAX are in use. 0 or -errno. */
int ctl_store_pool_take(struct ctl_store_pool *pool, struct ctl_store **store);
void ctl_store_pool_give(struct ctl_store_pool *pool, struct ctl_store *store);

struct ctl_cache *ctl_store_pool_cache(struct ctl_store_pool *pool);

#endif
