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

/* The ends of the address space, where an interval has no successor, and nests as deep as they come. */
static void the_edges_of_the_space(void **state)
{
	(void)state;
	const struct tp_prefix ends[] = {prefix("255.255.255.255"), prefix("255.0.0.0/8"),
					 prefix("0.0.0.0"),         prefix("ffff::/16"),
					 prefix("::/128"),          prefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")};
	struct tp_prefix_set *set = tp_prefix_set_build(ends, sizeof ends / sizeof ends[0]);
	assert_non_null(set);
	assert_int_equal(match(set, "255.255.255.255"), 0);
	assert_int_equal(match(set, "255.255.255.254"), 1);
	assert_int_equal(match(set, "254.255.255.255"), -1);
	assert_int_equal(match(set, "0.0.0.0"), 2);
	assert_int_equal(match(set, "0.0.0.1"), -1);
	assert_int_equal(match(set, "ffff::"), 3);
	assert_int_equal(match(set, "fffe:ffff::"), -1);
	assert_int_equal(match(set, "::"), 4);
	assert_int_equal(match(set, "::1"), -1);
	assert_int_equal(match(set, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 5);
	tp_prefix_set_free(set);

	struct tp_prefix nest[129];
	for (uint32_t bits = 0; bits <= 128; bits++)
		nest[bits] = (struct tp_prefix){.addr = prefix("2001:db8::1").addr, .bits = (uint8_t)bits};
	set = tp_prefix_set_build(nest, 129);
	assert_non_null(set);
	assert_int_equal(match(set, "2001:db8::1"), 128);
	assert_int_equal(match(set, "2001:db8::"), 127);
	assert_int_equal(match(set, "2001:db8::2"), 126);
	assert_int_equal(match(set, "8000::"), 0);
	assert_int_equal(match(set, "4000::"), 1);
	tp_prefix_set_free(set);
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
		const uint32_t prefixes = round % 2 ? PREFIXES : 20; /* with and without a root table */
		for (uint32_t i = 0; i < prefixes; i++) {
			list[i].addr = random_addr(&seed);
			list[i].bits = (uint8_t)(20 + random_next(&seed) % (list[i].addr.family == 4 ? 13 : 109));
		}
		struct tp_prefix_set *set = tp_prefix_set_build(list, prefixes);
		assert_non_null(set);
		for (int i = 0; i < 2000; i++) {
			struct tp_addr addr = i % 4 ? random_addr(&seed) : list[random_next(&seed) % prefixes].addr;
			int64_t expected = -1;
			for (uint32_t k = 0; k < prefixes; k++)
				if (tp_prefix_has(&list[k], &addr) && (expected < 0 || list[k].bits > list[expected].bits))
					expected = (int64_t)k;
			assert_int_equal(tp_prefix_set_match(set, &addr), expected);
			hits += expected >= 0;
		}
		tp_prefix_set_free(set);
	}
	assert_in_range(hits, 3000, 39000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_prefix_wins),
		cmocka_unit_test(an_empty_set_holds_nothing),
		cmocka_unit_test(the_edges_of_the_space),
		cmocka_unit_test(random_sets_match_a_plain_walk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
