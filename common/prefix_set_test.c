/* Sets of prefixes: longest match, against a plain walk over the list. */
#include "turnpike/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct tp_prefix prefix(const char *text)
{
	struct tp_prefix parsed;
	assert_int_equal(tp_prefix_parse(text, strlen(text), &parsed), 0);
	return parsed;
}

static int64_t match(const struct tp_prefix_set *set, const char *text)
{
	struct tp_addr addr;
	assert_int_equal(tp_addr_parse(text, strlen(text), &addr), 0);
	return tp_prefix_set_match(set, &addr);
}

static void the_longest_prefix_wins(void **state)
{
	(void)state;
	const struct tp_prefix list[] = {prefix("10.0.0.0/8"),  prefix("10.1.2.3"),   prefix("10.1.0.0/16"),
					 prefix("10.1.2.0/24"), prefix("::/0"),       prefix("2001:db8::/32"),
					 prefix("2001:db8::1"), prefix("10.1.9.9/16")};
	struct tp_prefix_set *set = tp_prefix_set_build(list, sizeof list / sizeof list[0]);
	assert_non_null(set);
	assert_int_equal(match(set, "10.9.9.9"), 0);
	assert_int_equal(match(set, "10.1.2.3"), 1);
	assert_int_equal(match(set, "10.1.3.3"), 2); /* of equal prefixes the first */
	assert_int_equal(match(set, "10.1.2.4"), 3);
	assert_int_equal(match(set, "11.0.0.0"), -1); /* ::/0 is of the other family */
	assert_int_equal(match(set, "2001:db9::"), 4);
	assert_int_equal(match(set, "2001:db8::2"), 5);
	assert_int_equal(match(set, "2001:db8::1"), 6);
	const struct tp_addr none = {0};
	assert_int_equal(tp_prefix_set_match(set, &none), -1);
	tp_prefix_set_free(set);
}

static void an_empty_set_holds_nothing(void **state)
{
	(void)state;
	struct tp_prefix_set *set = tp_prefix_set_build(NULL, 0);
	assert_non_null(set);
	assert_int_equal(match(set, "10.0.0.1"), -1);
	assert_int_equal(match(set, "::"), -1);
	tp_prefix_set_free(set);
	const struct tp_prefix none = {0}, wrong = {.addr = prefix("10.0.0.0/8").addr, .bits = 99};
	const struct tp_prefix odd[] = {none, wrong};
	set = tp_prefix_set_build(odd, 2);
	assert_int_equal(match(set, "10.0.0.1"), -1);
	tp_prefix_set_free(set);
	tp_prefix_set_free(NULL);
}

static uint32_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

/* Few different bytes, so that prefixes nest and addresses hit. */
static struct tp_addr random_addr(uint64_t *seed)
{
	uint8_t byte[16];
	for (int i = 0; i < 16; i++)
		byte[i] = (uint8_t)(random_next(seed) % 3 * 127 + random_next(seed) % 2);
	byte[0] = 0x20;
	return random_next(seed) % 2 ? tp_addr_v4(byte) : tp_addr_v6(byte);
}

static void random_sets_match_a_plain_walk(void **state)
{
	(void)state;
	enum { PREFIXES = 300 };
	uint64_t seed = 11;
	int hits = 0;
	for (int round = 0; round < 20; round++) {
		struct tp_prefix list[PREFIXES];
		for (int i = 0; i < PREFIXES; i++) {
			list[i].addr = random_addr(&seed);
			list[i].bits = (uint8_t)(20 + random_next(&seed) % (list[i].addr.family == 4 ? 13 : 109));
		}
		struct tp_prefix_set *set = tp_prefix_set_build(list, PREFIXES);
		assert_non_null(set);
		for (int i = 0; i < 2000; i++) {
			struct tp_addr addr = i % 4 ? random_addr(&seed) : list[random_next(&seed) % PREFIXES].addr;
			int64_t expected = -1;
			for (int k = 0; k < PREFIXES; k++)
				if (tp_prefix_has(&list[k], &addr) && (expected < 0 || list[k].bits > list[expected].bits))
					expected = k;
			assert_int_equal(tp_prefix_set_match(set, &addr), expected);
			hits += expected >= 0;
		}
		tp_prefix_set_free(set);
	}
	assert_in_range(hits, 5000, 39000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_prefix_wins),
		cmocka_unit_test(an_empty_set_holds_nothing),
		cmocka_unit_test(random_sets_match_a_plain_walk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
