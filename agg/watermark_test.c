/* The watermark: the smaller of clock and highest stamp less lateness; never falls; flows on in a silence. */
#include "turnpike/watermark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LATENESS = 60000 };

#define CLOCK UINT64_C(1800000000000)

static void nothing_moves_before_the_first_event(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), 0);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + 3600000), 0);
}

static void it_is_the_highest_stamp_less_lateness(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, CLOCK - 10, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), CLOCK - 10 - LATENESS);
	agg_watermark_see(&w, CLOCK - 5000, CLOCK + 1); /* an older stamp changes nothing */
	assert_int_equal(agg_watermark_advance(&w, CLOCK + 1), CLOCK - 10 - LATENESS);
	agg_watermark_see(&w, CLOCK + 2, CLOCK + 2);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + 2), CLOCK + 2 - LATENESS);
}

static void a_future_stamp_does_not_push_it_past_the_clock(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, CLOCK + 30000, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), CLOCK - LATENESS);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + 10000), CLOCK + 10000 - LATENESS);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + 40000), CLOCK + 30000 - LATENESS);
	struct agg_watermark far;
	agg_watermark_init(&far, LATENESS, 0);
	agg_watermark_see(&far, UINT64_MAX, CLOCK);
	assert_int_equal(agg_watermark_advance(&far, CLOCK), CLOCK - LATENESS);
}

static void an_old_log_goes_by_its_own_time(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	const uint64_t past = CLOCK - UINT64_C(30) * 86400000;
	for (uint64_t i = 0; i < 1000; i++) { /* a second of stamps a millisecond of clock */
		agg_watermark_see(&w, past + i * 1000, CLOCK + i);
		uint64_t expected = past + i * 1000 - LATENESS;
		assert_int_equal(agg_watermark_advance(&w, CLOCK + i), expected);
	}
}

static void small_stamps_do_not_underflow(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, 0, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), 0);
	agg_watermark_see(&w, LATENESS - 1, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), 0);
	agg_watermark_see(&w, LATENESS + 1, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), 1);
	struct agg_watermark early; /* a clock that starts at nothing, as a simulator's may */
	agg_watermark_init(&early, LATENESS, 0);
	agg_watermark_see(&early, 5, 5);
	assert_int_equal(agg_watermark_advance(&early, 5), 0);
}

static void a_silence_lets_it_flow_on_to_the_clock(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, CLOCK - 100, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + LATENESS - 1), CLOCK - 100 - LATENESS);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + LATENESS), CLOCK - 100);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + LATENESS + 7), CLOCK - 100 + 7);
	/* an event ends the silence; the watermark stays until stamps pass it */
	agg_watermark_see(&w, CLOCK, CLOCK + LATENESS + 8);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + LATENESS + 9), CLOCK - 100 + 7);
}

static void a_silence_in_an_old_log_flows_at_the_pace_of_the_clock(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, 1000000, CLOCK);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + 3 * LATENESS), 1000000 + 2 * LATENESS);
	assert_int_equal(agg_watermark_advance(&w, 2 * CLOCK), 1000000 + CLOCK - LATENESS);
}

static void a_silence_never_passes_the_clock(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, CLOCK + 30000, CLOCK); /* ahead of the clock, then silence */
	for (uint64_t silence = 0; silence < 10 * LATENESS; silence += 777)
		assert_in_range(agg_watermark_advance(&w, CLOCK + silence), CLOCK - LATENESS, CLOCK + silence - LATENESS);
}

static void it_never_falls(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	uint64_t seed = 42, last = 0, clock = CLOCK;
	for (int i = 0; i < 100000; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		uint32_t random = (uint32_t)(seed >> 32);
		clock = clock + random % 1000 - (random % 97 == 0 ? 50000 : 0); /* the clock may be set back */
		if (random % 3 == 0)
			agg_watermark_see(&w, clock - 100000 + random % 160000, clock);
		uint64_t watermark = agg_watermark_advance(&w, clock);
		assert_true(watermark >= last);
		assert_true(watermark == last || watermark + LATENESS <= clock);
		last = watermark;
	}
	assert_true(last > CLOCK);
}

static void a_clock_set_back_does_not_end_the_flow_for_good(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, 0);
	agg_watermark_see(&w, CLOCK - 7200000, CLOCK);
	agg_watermark_advance(&w, CLOCK - 3600000); /* an hour back: the silence begins anew */
	assert_int_equal(agg_watermark_advance(&w, CLOCK - 3600000 + LATENESS), CLOCK - 7200000);
}

static void a_recovered_watermark_stands_and_flows(void **state)
{
	(void)state;
	struct agg_watermark w;
	agg_watermark_init(&w, LATENESS, CLOCK - 600000);
	assert_int_equal(agg_watermark_advance(&w, CLOCK), CLOCK - 600000);
	agg_watermark_see(&w, CLOCK - 900000, CLOCK); /* stamps below it do not move it */
	assert_int_equal(agg_watermark_advance(&w, CLOCK), CLOCK - 600000);
	assert_int_equal(agg_watermark_advance(&w, CLOCK + LATENESS), CLOCK - 600000 + LATENESS);
	/* ahead of the clock (which was set back while the node was down): stays, does not fall */
	struct agg_watermark ahead;
	agg_watermark_init(&ahead, LATENESS, CLOCK + 5000);
	assert_int_equal(agg_watermark_advance(&ahead, CLOCK), CLOCK + 5000);
	struct agg_watermark last;
	agg_watermark_init(&last, LATENESS, UINT64_MAX - 5);
	assert_int_equal(agg_watermark_advance(&last, CLOCK), UINT64_MAX - 5);
}

static void a_minute_closes_at_its_end(void **state)
{
	(void)state;
	assert_false(agg_minute_closed(120000, 179999));
	assert_true(agg_minute_closed(120000, 180000));
	assert_true(agg_minute_closed(179999, 180000));
	assert_false(agg_minute_closed(180000, 180000));
	assert_false(agg_minute_closed(0, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_moves_before_the_first_event),
		cmocka_unit_test(it_is_the_highest_stamp_less_lateness),
		cmocka_unit_test(a_future_stamp_does_not_push_it_past_the_clock),
		cmocka_unit_test(an_old_log_goes_by_its_own_time),
		cmocka_unit_test(small_stamps_do_not_underflow),
		cmocka_unit_test(a_silence_lets_it_flow_on_to_the_clock),
		cmocka_unit_test(a_silence_in_an_old_log_flows_at_the_pace_of_the_clock),
		cmocka_unit_test(a_silence_never_passes_the_clock),
		cmocka_unit_test(it_never_falls),
		cmocka_unit_test(a_clock_set_back_does_not_end_the_flow_for_good),
		cmocka_unit_test(a_recovered_watermark_stands_and_flows),
		cmocka_unit_test(a_minute_closes_at_its_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
