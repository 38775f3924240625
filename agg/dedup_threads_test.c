/*
 * The id table under several shards at once: of all who insert an id, exactly one gets AGG_NEW, whatever the interleaving; ids
 * with a zero half are not mistaken for one another while they are being written; room is given out once.
 */
#include "turnpike/dedup.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MEMORY_BYTES = 1 << 20, THREADS = 4, IDS = 6000, ROUNDS = 30 };

struct worker {
	struct agg_dedup *dedup;
	pthread_barrier_t *start;
	uint32_t number;
	uint32_t minute, horizon_minute;
	uint64_t ids;
	uint64_t id_offset;      /* different ones: the workers insert different ids */
	uint8_t result[IDS * 2]; /* what each insert said */
};

static struct tp_id id_of(uint64_t k)
{
	uint64_t x = (k / 4 + 1) * 0x9e3779b97f4a7c15ULL, y = (k / 4 + 7) * 0xbf58476d1ce4e5b9ULL;
	/* four ids of the same bits: a torn read of the third looks like one of the first two */
	switch (k % 4) {
	case 0:
		return (struct tp_id){.hi = x};
	case 1:
		return (struct tp_id){.lo = y};
	case 2:
		return (struct tp_id){.hi = x, .lo = y};
	default:
		return (struct tp_id){.hi = y, .lo = x};
	}
}

static void *insert_all(void *argument)
{
	struct worker *worker = argument;
	pthread_barrier_wait(worker->start);
	for (uint64_t i = 0; i < worker->ids; i++) {
		uint64_t k = worker->id_offset + i;
		worker->result[i] = (uint8_t)agg_dedup_insert(worker->dedup, id_of(k), 1000 + worker->number, worker->minute,
							      worker->horizon_minute, false);
	}
	return NULL;
}

static void *memory;
static struct worker worker[THREADS];

static void workers_run(void)
{
	pthread_t thread[THREADS];
	pthread_barrier_t start;
	assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
	for (int t = 0; t < THREADS; t++) {
		worker[t].start = &start;
		worker[t].number = (uint32_t)t;
		assert_int_equal(pthread_create(&thread[t], NULL, insert_all, &worker[t]), 0);
	}
	for (int t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	pthread_barrier_destroy(&start);
}

static struct agg_dedup *table_new(void)
{
	memset(memory, 0, MEMORY_BYTES);
	struct agg_dedup *dedup = agg_dedup_create(memory, MEMORY_BYTES);
	assert_non_null(dedup);
	return dedup;
}

static void one_of_all_is_new(void **state)
{
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct agg_dedup *dedup = table_new();
		for (int t = 0; t < THREADS; t++) {
			worker[t].dedup = dedup;
			worker[t].minute = 100 + (uint32_t)t;
			worker[t].horizon_minute = 90;
			worker[t].ids = IDS;
			worker[t].id_offset = 0;
		}
		workers_run();
		for (uint64_t k = 0; k < IDS; k++) {
			int count[5] = {0};
			for (int t = 0; t < THREADS; t++)
				count[worker[t].result[k]]++;
			if (count[AGG_NEW] != 1 || count[AGG_OTHER] != THREADS - 1)
				fail_msg("id %llu: %d new, %d other", (unsigned long long)k, count[AGG_NEW], count[AGG_OTHER]);
		}
		assert_int_equal(agg_dedup_ids(dedup), IDS);
	}
}

/*
 * Outside of the horizon each minute may have the id once. A thread that is suspended between claim and publication makes the
 * others give up with AGG_OTHER, so none may be new for one minute; but never two, and never none at all.
 */
static void beyond_the_horizon_one_a_minute(void **state)
{
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct agg_dedup *dedup = table_new();
		uint64_t total = 0, missed = 0;
		for (int t = 0; t < THREADS; t++) {
			worker[t].dedup = dedup;
			worker[t].minute = t % 2 ? 200 : 100;
			worker[t].horizon_minute = 300;
			worker[t].ids = IDS / 2;
			worker[t].id_offset = 0;
		}
		workers_run();
		for (uint64_t k = 0; k < IDS / 2; k++) {
			int count[2] = {0};
			for (int t = 0; t < THREADS; t++)
				count[t % 2] += worker[t].result[k] == AGG_NEW;
			if (count[0] > 1 || count[1] > 1 || count[0] + count[1] == 0)
				fail_msg("id %llu: %d and %d new", (unsigned long long)k, count[0], count[1]);
			total += (uint64_t)(count[0] + count[1]);
			missed += count[0] + count[1] < 2;
		}
		assert_int_equal(agg_dedup_ids(dedup), total);
		assert_in_range(missed, 0, IDS / 100);
	}
}

static void fill_and_find(void)
{
	struct agg_dedup *dedup = table_new();
	for (int t = 0; t < THREADS; t++) {
		worker[t].dedup = dedup;
		worker[t].minute = 100;
		worker[t].horizon_minute = 90;
		worker[t].ids = (uint64_t)2 * IDS;
		worker[t].id_offset = (uint64_t)t * 2 * IDS;
	}
	workers_run();
	uint64_t total = 0;
	for (int t = 0; t < THREADS; t++) {
		for (uint64_t i = 0; i < 2 * IDS; i++) {
			uint8_t result = worker[t].result[i];
			if (result != AGG_NEW && result != AGG_FULL)
				fail_msg("thread %d, id %llu: result %d", t, (unsigned long long)i, result);
			total += result == AGG_NEW;
		}
	}
	uint64_t ids_max = agg_dedup_ids_max(dedup);
	assert_in_range(total, ids_max - THREADS * 64, ids_max);
	assert_int_equal(agg_dedup_ids(dedup), total);

	/* all that went in is found again in the full table, and as well when it is the previous one and its marks are trusted */
	for (int pass = 0; pass < 2; pass++) {
		for (int t = 0; t < THREADS; t++)
			for (uint64_t i = 0; i < 2 * IDS; i++)
				if (worker[t].result[i] == AGG_NEW)
					assert_int_equal(agg_dedup_insert(dedup, id_of(worker[t].id_offset + i), 1000 + (uint64_t)t,
									  100, 90, false),
							 AGG_SAME);
		if (pass == 0)
			agg_dedup_rotate(dedup);
	}
}

static void room_is_given_out_once_and_all_is_found(void **state)
{
	(void)state;
	for (int round = 0; round < ROUNDS; round++)
		fill_and_find();
}

int main(void)
{
	memory = aligned_alloc(64, MEMORY_BYTES);
	if (!memory)
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_all_is_new),
		cmocka_unit_test(beyond_the_horizon_one_a_minute),
		cmocka_unit_test(room_is_given_out_once_and_all_is_found),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(memory);
	return failed;
}
