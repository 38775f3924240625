/* The id table against a simple model, and its edges: rotation, floor, horizon, a full table, ids of odd bits. One thread. */
#include "turnpike/dedup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MEMORY_BYTES = 1 << 20 };

static void *memory;
static bool alone; /* all tests run for one thread that inserts, and for one of several */

static struct agg_dedup *table_new(void)
{
	memset(memory, 0, MEMORY_BYTES);
	struct agg_dedup *dedup = agg_dedup_create(memory, MEMORY_BYTES);
	assert_non_null(dedup);
	agg_dedup_alone(dedup, alone);
	return dedup;
}

static uint64_t random_next(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* Id number k; some with a zero half, one of all ones, neighbours that differ in one bit. */
static struct tp_id id_of(uint64_t k)
{
	uint64_t seed = k / 4;
	struct tp_id id = {.hi = random_next(&seed) | 1, .lo = random_next(&seed) | 1};
	if (k == 3)
		return (struct tp_id){.hi = UINT64_MAX, .lo = UINT64_MAX};
	switch (k % 4) {
	case 0:
		id.hi = 0;
		break;
	case 1:
		id.lo = 0;
		break;
	case 2:
		id.hi ^= 2;
		break;
	}
	return id;
}

static void a_copy_is_same_another_payload_is_other(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	for (uint64_t k = 0; k < 100; k++) {
		agg_dedup_prefetch(dedup, id_of(k));
		assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, false), AGG_NEW);
	}
	for (uint64_t k = 0; k < 100; k++) {
		assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, false), AGG_SAME);
		assert_int_equal(agg_dedup_insert(dedup, id_of(k), k + 1, 100, 90, false), AGG_OTHER);
		assert_int_equal(agg_dedup_insert(dedup, id_of(k), k + 1, 101, 90, false), AGG_OTHER); /* the id alone decides */
	}
	assert_int_equal(agg_dedup_ids(dedup), 100);
}

static void fingerprint_and_minute_may_be_zero(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	assert_int_equal(agg_dedup_insert(dedup, id_of(7), 0, 0, 0, false), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id_of(7), 0, 0, 0, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id_of(7), 1, 0, 0, false), AGG_OTHER);
	assert_int_equal(agg_dedup_insert(dedup, id_of(8), 0, UINT32_MAX, 0, false), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id_of(8), 0, UINT32_MAX, UINT32_MAX, false), AGG_SAME);
}

static void beyond_the_horizon_id_and_minute_decide(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	struct tp_id id = id_of(5);
	assert_int_equal(agg_dedup_insert(dedup, id, 1, 100, 90, false), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id, 2, 200, 100, false), AGG_OTHER); /* 100 is just inside */
	assert_int_equal(agg_dedup_insert(dedup, id, 2, 200, 101, false), AGG_NEW);   /* … and just outside */
	assert_int_equal(agg_dedup_insert(dedup, id, 1, 100, 101, false), AGG_SAME);  /* each is known under its own minute */
	assert_int_equal(agg_dedup_insert(dedup, id, 2, 200, 101, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id, 1, 100, 300, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id, 2, 200, 300, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id, 3, 100, 300, false), AGG_OTHER);
	assert_int_equal(agg_dedup_insert(dedup, id, 3, 300, 300, false), AGG_NEW);
	assert_int_equal(agg_dedup_ids(dedup), 3);
}

static void the_floor_refuses_only_what_is_absent(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	assert_int_equal(agg_dedup_floor(dedup), 0);
	assert_int_equal(agg_dedup_insert(dedup, id_of(1), 1, 49, 10, false), AGG_NEW);
	agg_dedup_floor_set(dedup, 50);
	assert_int_equal(agg_dedup_insert(dedup, id_of(1), 1, 49, 10, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id_of(1), 2, 49, 10, false), AGG_OTHER);
	assert_int_equal(agg_dedup_insert(dedup, id_of(2), 1, 49, 10, false), AGG_BELOW_FLOOR);
	assert_int_equal(agg_dedup_insert(dedup, id_of(2), 1, 49, 10, false), AGG_BELOW_FLOOR); /* nothing was inserted */
	assert_int_equal(agg_dedup_insert(dedup, id_of(2), 1, 49, 10, true), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id_of(2), 1, 49, 10, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id_of(4), 1, 50, 10, false), AGG_NEW);
}

static void full_still_knows_what_it_holds(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	uint64_t ids_max = agg_dedup_ids_max(dedup), k = 0;
	assert_in_range(ids_max, 5000, MEMORY_BYTES / 32 / 3);
	for (; k < ids_max; k++)
		assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, false), AGG_NEW);
	assert_int_equal(agg_dedup_ids(dedup), ids_max);
	assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, false), AGG_FULL);
	assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, false), AGG_FULL);
	agg_dedup_floor_set(dedup, 101);
	assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, false), AGG_BELOW_FLOOR);
	assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 100, 90, true), AGG_FULL);
	for (uint64_t i = 0; i < ids_max; i++)
		assert_int_equal(agg_dedup_insert(dedup, id_of(i), i, 100, 90, false), AGG_SAME);
	/* a rotation makes room, and what was there is still known */
	assert_true(agg_dedup_can_rotate(dedup));
	agg_dedup_rotate(dedup);
	assert_int_equal(agg_dedup_ids(dedup), 0);
	assert_int_equal(agg_dedup_insert(dedup, id_of(k), k, 101, 90, false), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id_of(0), 1, 100, 90, false), AGG_OTHER);
	assert_int_equal(agg_dedup_ids(dedup), 1);
}

static void two_rotations_forget_and_raise_the_floor(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	assert_int_equal(agg_dedup_insert(dedup, id_of(1), 1, 100, 0, false), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id_of(2), 1, 107, 0, false), AGG_NEW);
	assert_int_equal(agg_dedup_insert(dedup, id_of(4), 1, 103, 0, false), AGG_NEW);
	agg_dedup_rotate(dedup); /* the spare taken up was clean, the one given back too */
	assert_true(agg_dedup_can_rotate(dedup));
	assert_int_equal(agg_dedup_floor(dedup), 0);
	assert_int_equal(agg_dedup_insert(dedup, id_of(5), 1, 105, 0, false), AGG_NEW);
	agg_dedup_rotate(dedup);
	assert_int_equal(agg_dedup_floor(dedup), 108);
	assert_false(agg_dedup_can_rotate(dedup));
	assert_int_equal(agg_dedup_insert(dedup, id_of(1), 1, 100, 0, false), AGG_BELOW_FLOOR);
	assert_int_equal(agg_dedup_insert(dedup, id_of(5), 1, 105, 0, false), AGG_SAME);
	agg_dedup_clear_spare(dedup);
	assert_true(agg_dedup_can_rotate(dedup));
	agg_dedup_clear_spare(dedup); /* again does no harm */
	agg_dedup_rotate(dedup);      /* forgets 105, but the floor does not fall */
	assert_int_equal(agg_dedup_floor(dedup), 108);
	assert_int_equal(agg_dedup_insert(dedup, id_of(5), 1, 108, 0, false), AGG_NEW);
	agg_dedup_clear_spare(dedup);
	for (int i = 0; i < 9; i++) {
		agg_dedup_rotate(dedup);
		agg_dedup_clear_spare(dedup);
	}
	assert_int_equal(agg_dedup_ids(dedup), 0);
	assert_int_equal(agg_dedup_floor(dedup), 109);
}

/* A generation that has held nothing is not looked into; one event of the first minute there is, and it is. */
static void one_id_of_minute_zero_outlives_a_rotation(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	assert_int_equal(agg_dedup_insert(dedup, id_of(7), 1, 0, 0, false), AGG_NEW);
	agg_dedup_rotate(dedup);
	agg_dedup_prefetch_chain(dedup, agg_dedup_prefetch(dedup, id_of(7)));
	assert_int_equal(agg_dedup_insert(dedup, id_of(7), 1, 0, 0, false), AGG_SAME);
	assert_int_equal(agg_dedup_insert(dedup, id_of(7), 2, 0, 0, false), AGG_OTHER);
	assert_int_equal(agg_dedup_insert(dedup, id_of(8), 1, 0, 0, false), AGG_NEW);
}

static void bad_memory_is_refused(void **state)
{
	(void)state;
	memset(memory, 0, MEMORY_BYTES);
	assert_null(agg_dedup_create(memory, (32 << 10) - 1));
	assert_null(agg_dedup_create((char *)memory + 8, MEMORY_BYTES));
	assert_true(agg_dedup_struct_bytes() < 1 << 14);
}

/* ---- the model: per id a list of what was inserted and when ---- */

enum { MODEL_IDS = 9000, MODEL_KEPT = 64, MODEL_STEPS = 300000 };

struct known {
	uint64_t fingerprint;
	uint32_t minute;
	uint32_t generation;
};

struct model {
	struct known known[MODEL_IDS][MODEL_KEPT];
	uint8_t count[MODEL_IDS];
	uint32_t generation; /* the current one's number; the one before is searched too */
	uint64_t ids, ids_max;
	uint32_t floor;
};

static enum agg_dedup_result model_insert(struct model *model, uint32_t k, uint64_t fingerprint, uint32_t minute,
					  uint32_t horizon_minute, bool ignore_floor)
{
	bool other = false;
	for (int i = 0; i < model->count[k]; i++) {
		const struct known *known = &model->known[k][i];
		if (known->minute < horizon_minute && known->minute != minute)
			continue;
		if (known->fingerprint == fingerprint)
			return AGG_SAME;
		other = true;
	}
	if (other)
		return AGG_OTHER;
	if (minute < model->floor && !ignore_floor)
		return AGG_BELOW_FLOOR;
	if (model->ids == model->ids_max)
		return AGG_FULL;
	assert_true(model->count[k] < MODEL_KEPT);
	model->known[k][model->count[k]++] =
		(struct known){.fingerprint = fingerprint, .minute = minute, .generation = model->generation};
	model->ids++;
	return AGG_NEW;
}

static void model_rotate(struct model *model)
{
	for (uint32_t k = 0; k < MODEL_IDS; k++) {
		int kept = 0;
		for (int i = 0; i < model->count[k]; i++) {
			struct known known = model->known[k][i];
			if (known.generation == model->generation)
				model->known[k][kept++] = known;
			else if (known.minute >= model->floor)
				model->floor = known.minute + 1;
		}
		model->count[k] = (uint8_t)kept;
	}
	model->generation++;
	model->ids = 0;
}

static void random_steps_match_the_model(void **state)
{
	(void)state;
	struct agg_dedup *dedup = table_new();
	struct model *model = calloc(1, sizeof *model);
	assert_non_null(model);
	model->ids_max = agg_dedup_ids_max(dedup);
	uint64_t seed = 20261121, result_count[5] = {0}, rotations = 0;
	uint32_t now = 1000;
	for (int step = 0; step < MODEL_STEPS; step++) {
		uint64_t random = random_next(&seed);
		if (random % 8000 == 0)
			now += 1 + (uint32_t)(random >> 32) % 10;
		/* hot ids come often, most ids once or twice */
		uint32_t k = (uint32_t)(random >> 16) % (random & 1 ? MODEL_IDS : 300);
		uint32_t minute = now - (uint32_t)(random >> 40) % 25;
		uint64_t fingerprint = (uint64_t)minute << 8 | (random >> 56) % 3;
		bool ignore_floor = (random >> 9) % 4 == 0;
		uint32_t horizon_minute = now - 15;
		enum agg_dedup_result expected = model_insert(model, k, fingerprint, minute, horizon_minute, ignore_floor);
		agg_dedup_prefetch_chain(dedup, agg_dedup_prefetch(dedup, id_of(k)));
		enum agg_dedup_result got = agg_dedup_insert(dedup, id_of(k), fingerprint, minute, horizon_minute, ignore_floor);
		if (got != expected)
			fail_msg("step %d, id %u, minute %u: got %d, expected %d", step, k, minute, got, expected);
		result_count[got]++;
		if ((got == AGG_FULL && random >> 60 == 0) || random % 9973 == 0) {
			agg_dedup_clear_spare(dedup);
			agg_dedup_rotate(dedup);
			model_rotate(model);
			rotations++;
		}
		assert_int_equal(agg_dedup_ids(dedup), model->ids);
		assert_int_equal(agg_dedup_floor(dedup), model->floor);
	}
	/* the walk went everywhere that it was meant to go */
	for (int i = 0; i < 5; i++)
		if (result_count[i] < 20)
			fail_msg("result %d came only %llu times", i, (unsigned long long)result_count[i]);
	assert_true(rotations > 10);
	free(model);
}

int main(void)
{
	memory = aligned_alloc(64, MEMORY_BYTES);
	if (!memory)
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_is_same_another_payload_is_other),
		cmocka_unit_test(fingerprint_and_minute_may_be_zero),
		cmocka_unit_test(beyond_the_horizon_id_and_minute_decide),
		cmocka_unit_test(the_floor_refuses_only_what_is_absent),
		cmocka_unit_test(full_still_knows_what_it_holds),
		cmocka_unit_test(two_rotations_forget_and_raise_the_floor),
		cmocka_unit_test(one_id_of_minute_zero_outlives_a_rotation),
		cmocka_unit_test(bad_memory_is_refused),
		cmocka_unit_test(random_steps_match_the_model),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	alone = true;
	failed += cmocka_run_group_tests_name("one thread inserts", tests, NULL, NULL);
	free(memory);
	return failed;
}
