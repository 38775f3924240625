/* The pool of stores; see ctl_store_pool.h. */
#include "ctl_store_pool.h"

#include "ctl_store_index.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TICK_MS = 200, REFRESH_TICKS = 5, WARM_ROWS_MAX = 20000000, DAY_MINUTES = 1440 };

#define IDLE_NS 60000000000ULL

struct idle {
	struct ctl_store *store;
	uint64_t since_ns;
};

struct ctl_store_pool {
	const char *data_dir;
	struct ctl_views *views;
	struct ctl_store_index *index;
	struct ctl_cache *cache;
	pthread_mutex_t lock;                 /* over all below */
	pthread_cond_t given;                 /* a store was given back */
	pthread_cond_t ended;                 /* the pool ends */
	struct idle idle[CTL_STORES_MAX + 1]; /* the last one was given back last */
	uint32_t idles, stores;
	bool has_thread, stop;
	pthread_t thread;
};

/* ---- taking and giving ---- */

int ctl_store_pool_take(struct ctl_store_pool *pool, struct ctl_store **store)
{
	pthread_mutex_lock(&pool->lock);
	while (pool->idles == 0 && pool->stores == CTL_STORES_MAX)
		pthread_cond_wait(&pool->given, &pool->lock);
	if (pool->idles) {
		*store = pool->idle[--pool->idles].store;
		pthread_mutex_unlock(&pool->lock);
		return 0;
	}
	pool->stores++;
	pthread_mutex_unlock(&pool->lock);
	int rc = ctl_store_open(store, pool->data_dir);
	if (rc == 0) {
		ctl_store_index_use(*store, pool->index);
		return 0;
	}
	pthread_mutex_lock(&pool->lock);
	pool->stores--;
	pthread_cond_signal(&pool->given);
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

/* At a place among those that wait: the last one is the warmest. */
static void give(struct ctl_store_pool *pool, struct idle one, uint32_t at)
{
	pthread_mutex_lock(&pool->lock);
	assert(pool->idles < pool->stores);
	if (at > pool->idles)
		at = pool->idles;
	memmove(&pool->idle[at + 1], &pool->idle[at], (pool->idles++ - at) * sizeof(pool->idle[0]));
	pool->idle[at] = one;
	pthread_cond_signal(&pool->given);
	pthread_mutex_unlock(&pool->lock);
}

void ctl_store_pool_give(struct ctl_store_pool *pool, struct ctl_store *store)
{
	give(pool, (struct idle){.store = store, .since_ns = tp_mono_ns()}, UINT32_MAX);
}

struct ctl_cache *ctl_store_pool_cache(struct ctl_store_pool *pool)
{
	return pool->cache;
}

/* ---- the thread ---- */

struct warming {
	struct ctl_store_pool *pool;
	uint64_t rows;
};

static void warm_begin(void *context)
{
	(void)context;
}

static bool warm_row(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct warming *warming = context;

	(void)row, (void)heap;
	if (++warming->rows % 65536)
		return true;
	pthread_mutex_lock(&warming->pool->lock);
	bool stop = warming->pool->stop;
	pthread_mutex_unlock(&warming->pool->lock);
	return !stop && warming->rows < WARM_ROWS_MAX;
}

/* Reads what is asked for most: the days of two months, the hours of two days, the minutes of the last hours. */
static void warm_up(struct ctl_store_pool *pool)
{
	static const struct {
		enum sto_grain grain;
		uint64_t minutes;
	} reads[] = {{STO_DAYS, 62ULL * DAY_MINUTES}, {STO_HOURS, 2 * DAY_MINUTES}, {STO_MINUTES, 6 * 60}};
	uint64_t begun_ns = tp_mono_ns(), now = tp_now_ms() / TP_MINUTE_MS, rows = 0;
	struct ctl_store *store;

	if (ctl_store_pool_take(pool, &store) != 0)
		return;
	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		struct warming warming = {.pool = pool};
		struct ctl_facts facts;
		const struct ctl_scan scan = {
			.context = &warming,
			.from_minute = now - reads[i].minutes,
			.to_minute = now + 1,
			.grain = reads[i].grain,
			.begin = warm_begin,
			.row = warm_row,
		};
		(void)ctl_store_scan(store, NULL, &scan, &facts);
		rows += warming.rows;
	}
	ctl_store_pool_give(pool, store);
	tp_logf(TP_INFO, "warmed up", "rows=%llu ms=%llu", (unsigned long long)rows,
		(unsigned long long)((tp_mono_ns() - begun_ns) / 1000000));
}

/* One of the stores that wait, in turn, is brought in step, so that it holds no file that has been deleted; or let go. */
static void idle_refresh(struct ctl_store_pool *pool, uint64_t turn)
{
	pthread_mutex_lock(&pool->lock);
	if (pool->idles == 0) {
		pthread_mutex_unlock(&pool->lock);
		return;
	}
	uint32_t at = (uint32_t)(turn % pool->idles);
	struct idle one = pool->idle[at];
	memmove(&pool->idle[at], &pool->idle[at + 1], (--pool->idles - at) * sizeof(pool->idle[0]));
	/* the last one stays, for whoever comes next */
	bool old = tp_mono_ns() - one.since_ns > IDLE_NS && pool->stores > 1;
	pool->stores -= old;
	pthread_mutex_unlock(&pool->lock);
	if (old) {
		ctl_store_close(one.store);
		return;
	}
	(void)sto_reader_refresh(ctl_store_reader(one.store));
	give(pool, one, at);
}

static void *keep(void *context)
{
	struct ctl_store_pool *pool = context;

	warm_up(pool);
	pthread_mutex_lock(&pool->lock);
	for (uint64_t tick = 1; !pool->stop; tick++) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += TICK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		while (!pool->stop && pthread_cond_timedwait(&pool->ended, &pool->lock, &until) == 0)
			continue;
		if (pool->stop)
			break;
		pthread_mutex_unlock(&pool->lock);
		struct ctl_look look;
		ctl_look_take(pool->views, &look);
		ctl_store_index_refresh(pool->index, look.figures);
		ctl_look_give(pool->views, &look);
		if (tick % REFRESH_TICKS == 0)
			idle_refresh(pool, tick / REFRESH_TICKS);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* ---- opening ---- */

int ctl_store_pool_open(struct ctl_store_pool **out, const char *data_dir, struct ctl_views *views)
{
	struct ctl_store_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->data_dir = data_dir;
	pool->views = views;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->given, NULL);
	pthread_cond_init(&pool->ended, NULL);
	int rc = ctl_store_index_open(&pool->index);
	if (rc == 0)
		rc = ctl_cache_open(&pool->cache, CTL_CACHE_BYTES_MAX, CTL_CACHE_WAIT_MS);
	if (rc == 0 && views) {
		rc = -pthread_create(&pool->thread, NULL, keep, pool);
		pool->has_thread = rc == 0;
	}
	if (rc != 0) {
		ctl_store_pool_close(pool);
		return rc;
	}
	*out = pool;
	return 0;
}

void ctl_store_pool_close(struct ctl_store_pool *pool)
{
	if (!pool)
		return;
	if (pool->has_thread) {
		pthread_mutex_lock(&pool->lock);
		pool->stop = true;
		pthread_cond_signal(&pool->ended);
		pthread_mutex_unlock(&pool->lock);
		pthread_join(pool->thread, NULL);
	}
	assert(pool->idles == pool->stores);
	while (pool->idles)
		ctl_store_close(pool->idle[--pool->idles].store);
	ctl_cache_close(pool->cache);
	ctl_store_index_close(pool->index);
	pthread_cond_destroy(&pool->given);
	pthread_cond_destroy(&pool->ended);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
