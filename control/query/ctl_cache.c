/* Sealed answers that are kept; see ctl_cache.h. */
#include "ctl_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS = 4096 };

struct ctl_cache {
	pthread_mutex_t lock; /* over all below, and over `held` and the links of what is kept */
	struct ctl_kept *slot[SLOTS];
	struct ctl_kept *newest, *oldest; /* by use */
	uint64_t bytes_max;
	struct ctl_cache_facts facts;
};

int ctl_cache_open(struct ctl_cache **cache, uint64_t bytes_max)
{
	struct ctl_cache *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	pthread_mutex_init(&made->lock, NULL);
	made->bytes_max = bytes_max;
	*cache = made;
	return 0;
}

static void kept_free(struct ctl_kept *kept)
{
	ctl_answer_fini(&kept->sums);
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
	while (cache->oldest)
		drop(cache, cache->oldest);
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

const struct ctl_kept *ctl_cache_take(struct ctl_cache *cache, const void *key, size_t key_bytes,
				      const uint64_t state[STO_READER_STATE])
{
	uint64_t hash = XXH3_64bits(key, key_bytes);

	pthread_mutex_lock(&cache->lock);
	struct ctl_kept *kept = find(cache, key, key_bytes, hash);
	if (kept && memcmp(kept->state, state, sizeof(kept->state)) != 0)
		kept = NULL;
	if (kept) {
		kept->held++;
		order_leave(cache, kept);
		order_enter(cache, kept);
		cache->facts.hits++;
	} else {
		cache->facts.misses++;
	}
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

void ctl_cache_put(struct ctl_cache *cache, const void *key, size_t key_bytes, const uint64_t state[STO_READER_STATE],
		   struct ctl_answer *sums)
{
	struct ctl_kept *made = calloc(1, sizeof(*made) + key_bytes);
	size_t bytes = sizeof(*made) + key_bytes + ctl_answer_bytes(sums);

	if (!made || bytes > cache->bytes_max / 4) {
		free(made);
		ctl_answer_fini(sums);
		return;
	}
	made->sums = *sums;
	made->sums.query = NULL;
	*sums = (struct ctl_answer){0};
	made->hash = XXH3_64bits(key, key_bytes);
	made->bytes = bytes;
	made->key_bytes = key_bytes;
	memcpy(made->key, key, key_bytes);
	memcpy(made->state, state, sizeof(made->state));
	pthread_mutex_lock(&cache->lock);
	struct ctl_kept *before = find(cache, key, key_bytes, made->hash);
	if (before) /* of another state, or made by another thread at the same time */
		drop(cache, before);
	made->next = cache->slot[made->hash % SLOTS];
	cache->slot[made->hash % SLOTS] = made;
	order_enter(cache, made);
	cache->facts.bytes += bytes;
	cache->facts.entries++;
	while (cache->facts.bytes > cache->bytes_max)
		drop(cache, cache->oldest);
	pthread_mutex_unlock(&cache->lock);
}

void ctl_cache_facts(struct ctl_cache *cache, struct ctl_cache_facts *facts)
{
	pthread_mutex_lock(&cache->lock);
	*facts = cache->facts;
	pthread_mutex_unlock(&cache->lock);
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
