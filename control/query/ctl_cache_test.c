/* What is kept, what is made once for several who ask at the same time, and what is not passed on. */
#include "ctl_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ASKERS = 6, ROUNDS = 400, KEYS = 3, FOR_EVER_MS = 600000 };

static const uint64_t one_state[STO_READER_STATE] = {1}, other_state[STO_READER_STATE] = {2};
static _Atomic int made, freed;

static int *value_new(int number)
{
	int *value = malloc(sizeof(*value));

	assert_non_null(value);
	*value = number;
	atomic_fetch_add(&made, 1);
	return value;
}

static void value_free(void *value)
{
	atomic_fetch_add(&freed, 1);
	free(value);
}

static struct ctl_cache *cache_new(uint64_t bytes_max, uint32_t wait_ms)
{
	struct ctl_cache *cache;

	atomic_store(&made, 0);
	atomic_store(&freed, 0);
	assert_int_equal(ctl_cache_open(&cache, bytes_max, wait_ms), 0);
	return cache;
}

static void cache_end(struct ctl_cache *cache)
{
	ctl_cache_close(cache);
	assert_int_equal(atomic_load(&made), atomic_load(&freed));
}

struct asker {
	struct ctl_cache *cache;
	pthread_t thread;
	int got; /* the value, or -1: to be made in a flight, -2: for himself */
	struct ctl_flight *flight;
	_Atomic bool back;
};

static void *ask(void *context)
{
	struct asker *asker = context;
	const struct ctl_kept *kept = ctl_cache_take(asker->cache, "k", 1, one_state, &asker->flight);

	asker->got = kept ? *(const int *)kept->value : asker->flight ? -1 : -2;
	if (kept)
		ctl_cache_give(asker->cache, kept);
	atomic_store(&asker->back, true);
	return NULL;
}

static void asker_start(struct asker *asker, struct ctl_cache *cache)
{
	*asker = (struct asker){.cache = cache};
	assert_int_equal(pthread_create(&asker->thread, NULL, ask, asker), 0);
}

/* Who has counted neither hit nor miss waits. */
static void until_waiting(struct ctl_cache *cache, uint32_t waiting)
{
	while (ctl_cache_waiting(cache) != waiting)
		usleep(1000);
}

static void what_is_kept_is_of_its_key_and_state(void **state)
{
	(void)state;
	struct ctl_cache *cache = cache_new(1 << 20, FOR_EVER_MS);
	struct ctl_flight *flight, *none;

	assert_null(ctl_cache_take(cache, "k", 1, one_state, &flight));
	assert_non_null(flight);
	ctl_cache_put(cache, flight, value_new(7), sizeof(int), value_free);
	const struct ctl_kept *kept = ctl_cache_take(cache, "k", 1, one_state, &none);
	assert_non_null(kept);
	assert_null(none);
	assert_int_equal(*(const int *)kept->value, 7);
	assert_null(ctl_cache_take(cache, "k2", 2, one_state, &flight));
	ctl_cache_fail(cache, flight);
	/* another state: what was kept is shown no more, and who holds it keeps it */
	assert_null(ctl_cache_take(cache, "k", 1, other_state, &flight));
	ctl_cache_put(cache, flight, value_new(8), sizeof(int), value_free);
	assert_int_equal(*(const int *)kept->value, 7);
	ctl_cache_give(cache, kept);
	struct ctl_cache_facts facts;
	ctl_cache_facts(cache, &facts);
	assert_int_equal(facts.entries, 1);
	assert_int_equal(facts.hits, 1);
	assert_int_equal(facts.misses, 3);
	cache_end(cache);
}

static void who_asks_the_same_meanwhile_gets_the_firsts(void **state)
{
	(void)state;
	/* kept, and too large to be kept */
	for (int large = 0; large < 2; large++) {
		struct ctl_cache *cache = cache_new(1 << 20, FOR_EVER_MS);
		struct ctl_flight *flight, *other;
		struct asker asker[ASKERS];

		assert_null(ctl_cache_take(cache, "k", 1, one_state, &flight));
		for (int i = 0; i < ASKERS; i++)
			asker_start(&asker[i], cache);
		until_waiting(cache, ASKERS);
		/* another key and another state wait for nobody */
		assert_null(ctl_cache_take(cache, "l", 1, one_state, &other));
		ctl_cache_fail(cache, other);
		assert_null(ctl_cache_take(cache, "k", 1, other_state, &other));
		ctl_cache_fail(cache, other);
		for (int i = 0; i < ASKERS; i++)
			assert_false(atomic_load(&asker[i].back));
		ctl_cache_put(cache, flight, value_new(5), large ? 1 << 20 : 4, value_free);
		for (int i = 0; i < ASKERS; i++) {
			pthread_join(asker[i].thread, NULL);
			assert_int_equal(asker[i].got, 5);
		}
		struct ctl_cache_facts facts;
		ctl_cache_facts(cache, &facts);
		assert_int_equal(facts.shared, ASKERS);
		assert_int_equal(facts.hits, ASKERS);
		assert_int_equal(facts.entries, !large);
		cache_end(cache);
	}
}

/* One of those who wait makes it then, the rest waits for that one. */
static void a_first_that_fails_spoils_nothing(void **state)
{
	(void)state;
	struct ctl_cache *cache = cache_new(1 << 20, FOR_EVER_MS);
	struct ctl_flight *flight;
	struct asker asker[ASKERS];
	int took_off = 0, first = -1;

	assert_null(ctl_cache_take(cache, "k", 1, one_state, &flight));
	for (int i = 0; i < ASKERS; i++)
		asker_start(&asker[i], cache);
	until_waiting(cache, ASKERS);
	ctl_cache_fail(cache, flight);
	while (first < 0) {
		for (int i = 0; i < ASKERS; i++)
			first = atomic_load(&asker[i].back) ? i : first;
		usleep(1000);
	}
	until_waiting(cache, ASKERS - 1);
	assert_non_null(asker[first].flight);
	ctl_cache_put(cache, asker[first].flight, value_new(9), 4, value_free);
	for (int i = 0; i < ASKERS; i++) {
		pthread_join(asker[i].thread, NULL);
		took_off += asker[i].got == -1;
		assert_true(asker[i].got == -1 || asker[i].got == 9);
	}
	assert_int_equal(took_off, 1);
	cache_end(cache);
}

static void nobody_waits_for_ever(void **state)
{
	(void)state;
	struct ctl_cache *cache = cache_new(1 << 20, 20);
	struct ctl_flight *flight;
	struct asker asker;

	assert_null(ctl_cache_take(cache, "k", 1, one_state, &flight));
	asker_start(&asker, cache);
	pthread_join(asker.thread, NULL);
	assert_int_equal(asker.got, -2);
	ctl_cache_put(cache, flight, value_new(1), 4, value_free);
	asker_start(&asker, cache);
	pthread_join(asker.thread, NULL);
	assert_int_equal(asker.got, 1);
	cache_end(cache);
}

/* ---- all at once ---- */

struct crowd {
	struct ctl_cache *cache;
	_Atomic int aloft[KEYS][2]; /* flights of one key and state */
	_Atomic uint32_t seed;
};

static void *crowd_run(void *context)
{
	struct crowd *crowd = context;
	uint32_t seed = atomic_fetch_add(&crowd->seed, 1) * 2654435761u;

	for (int i = 0; i < ROUNDS; i++) {
		seed = seed * 1664525 + 1013904223;
		const uint32_t key = seed >> 24 & 3 ? (seed >> 16) % KEYS : 0, which = seed >> 30 & 1;
		const char name[] = {'a', (char)key};
		struct ctl_flight *flight;
		const struct ctl_kept *kept =
			ctl_cache_take(crowd->cache, name, sizeof(name), which ? other_state : one_state, &flight);
		if (kept) {
			assert_int_equal(*(const int *)kept->value, (int)(key * 2 + which));
			ctl_cache_give(crowd->cache, kept);
			continue;
		}
		assert_non_null(flight);
		assert_int_equal(atomic_fetch_add(&crowd->aloft[key][which], 1), 0);
		usleep(seed >> 8 & 127);
		atomic_fetch_sub(&crowd->aloft[key][which], 1);
		if ((seed >> 4 & 7) == 0)
			ctl_cache_fail(crowd->cache, flight);
		else
			ctl_cache_put(crowd->cache, flight, value_new((int)(key * 2 + which)), (seed & 7) << 10, value_free);
	}
	return NULL;
}

static void nothing_is_made_twice_at_a_time(void **state)
{
	(void)state;
	struct crowd crowd = {.cache = cache_new(16 << 10, FOR_EVER_MS)};
	pthread_t thread[ASKERS];
	struct ctl_cache_facts facts;

	for (int i = 0; i < ASKERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, crowd_run, &crowd), 0);
	for (int i = 0; i < ASKERS; i++)
		pthread_join(thread[i], NULL);
	ctl_cache_facts(crowd.cache, &facts);
	assert_int_equal(facts.hits + facts.misses, ASKERS * ROUNDS);
	assert_true(facts.shared > 0 && facts.hits > facts.shared && facts.misses > 0);
	assert_int_equal(ctl_cache_waiting(crowd.cache), 0);
	cache_end(crowd.cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_kept_is_of_its_key_and_state),
		cmocka_unit_test(who_asks_the_same_meanwhile_gets_the_firsts),
		cmocka_unit_test(a_first_that_fails_spoils_nothing),
		cmocka_unit_test(nobody_waits_for_ever),
		cmocka_unit_test(nothing_is_made_twice_at_a_time),
	};
	return cmocka_run_group_tests_name("ctl_cache", tests, NULL, NULL);
}
