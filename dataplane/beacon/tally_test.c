/*
 * Counts per source against a plain array, until the table is full and again empty.
 */
#include "tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_against_an_array(void **state)
{
	(void)state;
	enum { THINGS = 200, KEYS = 50, MOST = 5 };
	struct dp_tally tally;
	uint32_t count[KEYS] = {0}, place[THINGS], taken = 0, refused = 0;
	uint64_t random = 7;
	assert_int_equal(dp_tally_create(&tally, THINGS), 0);
	for (int round = 0; round < 200000; round++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		uint32_t dice = (uint32_t)(random >> 33), key = dice / 2 % KEYS;
		if (dice % 2 && taken < THINGS) {
			uint32_t at = dp_tally_take(&tally, key * 0x100000000ULL, MOST);
			assert_int_equal(at == DP_TALLY_NONE, count[key] == MOST);
			refused += at == DP_TALLY_NONE;
			if (at == DP_TALLY_NONE)
				continue;
			place[taken++] = at;
			assert_int_equal(dp_tally_count(&tally, at), ++count[key]);
		} else if (taken > 0) {
			uint32_t which = dice % taken, at = place[which];
			count[tally.source[at].key >> 32]--;
			dp_tally_give(&tally, at);
			place[which] = place[--taken];
		}
	}
	assert_true(refused > 100);
	while (taken > 0)
		dp_tally_give(&tally, place[--taken]);
	uint32_t free_places = 0;
	for (uint32_t at = tally.free; at != DP_TALLY_NONE; at = tally.source[at].next)
		free_places++;
	assert_int_equal(free_places, THINGS);
	for (uint32_t i = 0; i < THINGS; i++) /* as many sources as things */
		place[i] = dp_tally_take(&tally, i, 1);
	for (uint32_t i = 0; i < THINGS; i++)
		assert_int_equal(dp_tally_take(&tally, i, 1), DP_TALLY_NONE);
	for (uint32_t i = 0; i < THINGS; i++)
		dp_tally_give(&tally, place[i]);
	assert_int_equal(dp_tally_take(&tally, 1, 0), DP_TALLY_NONE);
	dp_tally_destroy(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_an_array)};
	return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
