/* The meter of a core's stages. */
#include "turnpike/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct tp_counters counters;
static struct tp_meter meter;

static int fresh(void **state)
{
	(void)state;
	memset(&counters, 0, sizeof(counters));
	memset(&meter, 0, sizeof(meter));
	return 0;
}

static void spin(uint64_t cycles)
{
	for (uint64_t from = __rdtsc(); __rdtsc() - from < cycles;)
		;
}

/* A round in which `events` are read, parsed for a while, decided and answered. True: it was sampled. */
static bool round_run(uint64_t events, uint64_t parse_cycles, bool worked)
{
	tp_meter_begin(&meter, &counters);
	const bool sampled = meter.on;
	uint32_t before = tp_meter_enter(&meter, TP_STAGE_BEACON);
	uint32_t inner = tp_meter_enter(&meter, TP_STAGE_PARSE);
	if (sampled)
		spin(parse_cycles);
	tp_meter_leave(&meter, inner);
	if (sampled) {
		assert_int_equal(inner, TP_STAGE_BEACON);
		assert_int_equal(meter.stage, TP_STAGE_BEACON);
	}
	tp_meter_leave(&meter, before);
	TP_COUNT_ADD(&counters, EVENTS_RECEIVED, events);
	TP_COUNT_ADD(&counters, SHARD_TAKEN, events);
	TP_COUNT_ADD(&counters, EVENTS_ACCEPTED, events);
	tp_meter_end(&meter, &counters, worked);
	assert_false(meter.on);
	return sampled;
}

static uint64_t cycles(uint32_t stage)
{
	return counters.v[TP_C_STAGE_RECEIVE_CYCLES + stage];
}

static void test_one_round_in_so_many(void **state)
{
	(void)state;
	uint32_t sampled = 0;
	for (uint32_t i = 0; i < 10 * TP_METER_ROUNDS; i++)
		sampled += round_run(3, 0, true);
	assert_int_equal(sampled, 10);
	assert_int_equal(counters.v[TP_C_STAGE_READ], 30); /* of the sampled rounds alone */
	assert_int_equal(counters.v[TP_C_STAGE_DECIDED], 30);
	assert_int_equal(counters.v[TP_C_STAGE_ANSWERED], 30);
}

static void test_cycles_belong_to_the_innermost_stage(void **state)
{
	(void)state;
	enum { SPUN = 100000 };
	while (!round_run(1, SPUN, true))
		;
	assert_true(cycles(TP_STAGE_PARSE) >= SPUN);
	assert_int_equal(cycles(TP_STAGE_MACHINES), 0);
	/* Preemption may land anywhere, but the stage that did nothing is not given what parse has spun every time. */
	uint64_t least = UINT64_MAX;
	for (uint32_t i = 0; i < 20; i++) {
		fresh(NULL);
		while (!round_run(1, SPUN, true))
			;
		least = cycles(TP_STAGE_BEACON) + cycles(TP_STAGE_RECEIVE) < least
				? cycles(TP_STAGE_BEACON) + cycles(TP_STAGE_RECEIVE)
				: least;
	}
	assert_true(least < SPUN);
}

static void test_round_without_work_is_forgotten(void **state)
{
	(void)state;
	while (!round_run(0, 1000, false))
		;
	for (uint32_t s = 0; s < TP_STAGES; s++)
		assert_int_equal(cycles(s), 0);
	/* and leaves nothing for the next one */
	while (!round_run(7, 0, true))
		;
	assert_int_equal(counters.v[TP_C_STAGE_READ], 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_one_round_in_so_many, fresh),
		cmocka_unit_test_setup(test_cycles_belong_to_the_innermost_stage, fresh),
		cmocka_unit_test_setup(test_round_without_work_is_forgotten, fresh),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
