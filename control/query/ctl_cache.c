/* Sealed answers that are kept; see ctl_cache.h. */
#include "ctl_cache.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS = 4096 };

/* Something that is being made. Of who makes it until it lands, then of those who wait: the last one frees it. */
struct ctl_flight {
	struct ctl_flight *next; /* in the air */
	struct ctl_kept *made;   /* has landed well; held once for each who waits */
	bool landed;
	uint32_t waiting;
	uint64_t hash, state[STO_READER_STATE];
	size_t key_bytes;
	char key[];
};

struct ctl_cache {
	pthread_mutex_t lock; /* over all below, over `held` and the links of what is kept, and over flights */
	pthread_cond_t landed;
	struct ctl_flight *flights; /* as many as threads ask, at most */
	uint32_t wait_ms;
	struct ctl_kept *slot[SLOTS];
	struct ctl_kept *newest, *oldest; /* by use */
	uint64_t bytes_max;
	struct ctl_cache_facts facts;
};

int ctl_cache_open(struct ctl_cache **cache, uint64_t bytes_max, uint32_t wait_ms)
{
	struct ctl_cache *made = calloc(1, sizeof(*made));
	pthread_condattr_t monotonic;

	if (!made)
		return -ENOMEM;
	pthread_mutex_init(&made->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&made->landed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	made->wait_ms = wait_ms;
	made->bytes_max = bytes_max;
	*cache = made;
	return 0;
}

static void kept_free(struct ctl_kept *kept)
{
	kept->value_free((void *)(uintptr_t)kept->value);
	free(kept);
}

static void order_leave(struct ctl_cache *cache, struct ctl_kept *kept)
{
	*(kept->newer ? &kept->newer->older : &cache->newest) = kept->older;
	*(kept->older ? &kept->older->newer : &cache->oldest) = kept->newer;
	kept->newer = kept->older = NULL;
}

static void order_enter(struct ctl_cache *cache, struct ctl_kept *kept)
{
	kept->older = cache->newest;
	*(cache->newest ? &cache->newest->newer : &cache->oldest) = kept;
	cache->newest = kept;
}

/* With the lock: nobody finds it any more; it goes with the last who holds it. */
static void drop(struct ctl_cache *cache, struct ctl_kept *kept)
{
	struct ctl_kept **at = &cache->slot[kept->hash % SLOTS];

	while (*at != kept)
		at = &(*at)->next;
	*at = kept->next;
	order_leave(cache, kept);
	cache->facts.bytes -= kept->bytes;
	cache->facts.entries--;
	kept->gone = true;
	if (kept->held == 0)
		kept_free(kept);
}

void ctl_cache_close(struct ctl_cache *cache)
{
	if (!cache)
		return;
	assert(!cache->flights);
	while (cache->oldest)
		drop(cache, cache->oldest);
	pthread_cond_destroy(&cache->landed);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

static struct ctl_kept *find(struct ctl_cache *cache, const void *key, size_t key_bytes, uint64_t hash)
{
	struct ctl_kept *kept = cache->slot[hash % SLOTS];

	while (kept && (kept->hash != hash || kept->key_bytes != key_bytes || memcmp(kept->key, key, key_bytes) != 0))
		kept = kept->next;
	return kept;
}

/* ---- with the lock ---- */

/* What is kept in this state, held once more. */
static struct ctl_kept *hold(struct ctl_cache *cache, const void *key, size_t key_bytes, uint64_t hash,
			     const uint64_t state[STO_READER_STATE])
{
	struct ctl_kept *kept = find(cache, key, key_bytes, hash);

	if (!kept || memcmp(kept->state, state, sizeof(kept->state)) != 0)
		return NULL;
	kept->held++;
	order_leave(cache, kept);
	order_enter(cache, kept);
	return kept;
}

static struct ctl_flight *flight_find(struct ctl_cache *cache, const void *key, size_t key_bytes, uint64_t hash,
				      const uint64_t state[STO_READER_STATE])
{
	struct ctl_flight *flight = cache->flights;

	while (flight && (flight->hash != hash || flight->key_bytes != key_bytes || memcmp(flight->key, key, key_bytes) != 0 ||
			  memcmp(flight->state, state, sizeof(flight->state)) != 0))
		flight = flight->next;
	return flight;
}

/* NULL: no memory. */
static struct ctl_flight *take_off(struct ctl_cache *cache, const void *key, size_t key_bytes, uint64_t hash,
				   const uint64_t state[STO_READER_STATE])
{
	struct ctl_flight *flight = calloc(1, sizeof(*flight) + key_bytes);

	if (!flight)
		return NULL;
	flight->hash = hash;
	flight->key_bytes = key_bytes;
	memcpy(flight->key, key, key_bytes);
	memcpy(flight->state, state, sizeof(flight->state));
	flight->next = cache->flights;
	cache->flights = flight;
	return flight;
}

/* True: it has landed; *kept is what it brought, held, or NULL. False: it is still in the air. */
static bool wait_for(struct ctl_cache *cache, struct ctl_flight *flight, const struct timespec *until, struct ctl_kept **kept)
{
	int rc = 0;

	flight->waiting++;
	while (!flight->landed && rc == 0)
		rc = pthread_cond_timedwait(&cache->landed, &cache->lock, until);
	bool landed = flight->landed;
	*kept = flight->made;
	if (--flight->waiting == 0 && landed)
		free(flight);
	return landed;
}

static void land(struct ctl_cache *cache, struct ctl_flight *flight)
{
	struct ctl_flight **at = &cache->flights;

	while (*at != flight)
		at = &(*at)->next;
	*at = flight->next;
	flight->landed = true;
	if (flight->waiting)
		pthread_cond_broadcast(&cache->landed);
	else
		free(flight);
}

/* ---- taking and giving ---- */

static struct timespec from_now(uint32_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return until;
}

const struct ctl_kept *ctl_cache_take(struct ctl_cache *cache, const void *key, size_t key_bytes,
				      const uint64_t state[STO_READER_STATE], struct ctl_flight **flight)
{
	const uint64_t hash = XXH3_64bits(key, key_bytes);
	const struct timespec until = from_now(cache->wait_ms);
	bool patient = true, shared = false;
	struct ctl_kept *kept;

	*flight = NULL;
	pthread_mutex_lock(&cache->lock);
	while (!(kept = hold(cache, key, key_bytes, hash, state)) && patient) {
		struct ctl_flight *other = flight_find(cache, key, key_bytes, hash, state);
		if (!other) {
			*flight = take_off(cache, key, key_bytes, hash, state);
			break;
		}
		patient = wait_for(cache, other, &until, &kept);
		shared = kept != NULL;
		if (shared)
			break;
	}
	cache->facts.hits += kept != NULL;
	cache->facts.shared += shared;
	cache->facts.misses += kept == NULL;
	pthread_mutex_unlock(&cache->lock);
	return kept;
}

void ctl_cache_give(struct ctl_cache *cache, const struct ctl_kept *kept)
{
	struct ctl_kept *mine = (struct ctl_kept *)(uintptr_t)kept;

	pthread_mutex_lock(&cache->lock);
	bool free_it = --mine->held == 0 && mine->gone;
	pthread_mutex_unlock(&cache->lock);
	if (free_it)
		kept_free(mine);
}

void ctl_cache_fail(struct ctl_cache *cache, struct ctl_flight *flight)
{
	pthread_mutex_lock(&cache->lock);
	land(cache, flight);
	pthread_mutex_unlock(&cache->lock);
}

/* With the lock. */
static void keep(struct ctl_cache *cache, struct ctl_kept *made)
{
	struct ctl_kept *before = find(cache, made->key, made->key_bytes, made->hash);

	if (before) /* of another state */
		drop(cache, before);
	made->next = cache->slot[made->hash % SLOTS];
	cache->slot[made->hash % SLOTS] = made;
	order_enter(cache, made);
	cache->facts.bytes += made->bytes;
	cache->facts.entries++;
	while (cache->facts.bytes > cache->bytes_max)
		drop(cache, cache->oldest);
}

void ctl_cache_put(struct ctl_cache *cache, struct ctl_flight *flight, void *value, size_t bytes, void (*value_free)(void *value))
{
	struct ctl_kept *made = calloc(1, sizeof(*made) + flight->key_bytes);

	if (!made) {
		value_free(value);
		ctl_cache_fail(cache, flight);
		return;
	}
	made->value = value;
	made->value_free = value_free;
	made->hash = flight->hash;
	made->bytes = sizeof(*made) + flight->key_bytes + bytes;
	made->key_bytes = flight->key_bytes;
	memcpy(made->key, flight->key, flight->key_bytes);
	memcpy(made->state, flight->state, sizeof(made->state));
	pthread_mutex_lock(&cache->lock);
	made->held = flight->waiting;
	flight->made = flight->waiting ? made : NULL;
	made->gone = made->bytes > cache->bytes_max / 4;
	if (!made->gone)
		keep(cache, made);
	bool free_it = made->gone && made->held == 0;
	land(cache, flight);
	pthread_mutex_unlock(&cache->lock);
	if (free_it)
		kept_free(made);
}

void ctl_cache_facts(struct ctl_cache *cache, struct ctl_cache_facts *facts)
{
	pthread_mutex_lock(&cache->lock);
	*facts = cache->facts;
	pthread_mutex_unlock(&cache->lock);
}

uint32_t ctl_cache_waiting(struct ctl_cache *cache)
{
	uint32_t waiting = 0;

	pthread_mutex_lock(&cache->lock);
	for (const struct ctl_flight *flight = cache->flights; flight; flight = flight->next)
		waiting += flight->waiting;
	pthread_mutex_unlock(&cache->lock);
	return waiting;
}

/* ---- keys ---- */

static char *number_put(char *to, uint64_t number)
{
	memcpy(to, &number, sizeof(number));
	return to + sizeof(number);
}

static char *text_put(char *to, const char *text, size_t bytes)
{
	to = number_put(to, bytes);
	memcpy(to, text, bytes);
	return to + bytes;
}

size_t ctl_cache_key(const struct ctl_query *query, char key[CTL_CACHE_KEY_BYTES_MAX])
{
	char *to = key;
	/* an id that no row has may be of any length: one byte more than any row's tells as much */
	size_t id_bytes = query->filtered ? query->id_bytes : 0;

	to = number_put(to, query->from_minute);
	to = number_put(to, query->to_minute);
	to = number_put(to, (uint64_t)query->step_minutes << 32 | query->slide_minutes);
	to = number_put(to, (uint64_t)query->filtered << 32 | (uint64_t)query->local_days << 33 |
				    (uint64_t)(query->only != NULL) << 34 | query->groups_max);
	to = number_put(to, query->local_days ? (uint64_t)(uintptr_t)query->zone : 0);
	to = number_put(to, (uint64_t)query->filter << 32 | query->group_count);
	to = text_put(to, (const char *)query->group, query->group_count);
	to = text_put(to, query->id_bytes ? query->id : "", id_bytes <= UINT8_MAX ? id_bytes : UINT8_MAX + 1);
	to = text_put(to, query->only ? query->only : "", query->only ? strlen(query->only) : 0);
	to = number_put(to, query->filter_count);
	for (uint32_t i = 0; i < query->filter_count; i++) {
		to = number_put(to, query->filters[i].dimension);
		to = text_put(to, query->filter_text + query->filters[i].at, query->filters[i].bytes);
	}
	return (size_t)(to - key);
}
