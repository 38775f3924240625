/*
 * Rate limits against what a limit of N a second means: N at once, then one each 1/N second; each source and entry for itself.
 */
#include "rate_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS 1000000000ULL
#define BEGIN_NS  (5000 * SECOND_NS)

static struct tp_config_ingest entries[] = {{.rate_limit = 10}, {.rate_limit = 0}, {.rate_limit = 1}, {.rate_limit = 4294967295U}};
static const struct tp_config config = {.ingest = entries, .ingest_count = 4};

static struct tp_addr addr(const char *text)
{
	struct tp_addr parsed;
	assert_int_equal(tp_addr_parse(text, strlen(text), &parsed), 0);
	return parsed;
}

static int allowed(struct dp_rate *rate, uint16_t ingest, const char *source, int tries, uint64_t now_ns)
{
	struct tp_addr from = addr(source);
	int count = 0;
	while (tries-- > 0)
		count += dp_rate_allows(rate, ingest, &from, now_ns);
	return count;
}

static struct dp_rate *create(void)
{
	struct dp_rate *rate = NULL;
	assert_int_equal(dp_rate_create(&rate, &config), 0);
	assert_non_null(rate);
	return rate;
}

static void a_second_holds_the_limit(void **state)
{
	(void)state;
	struct dp_rate *rate = create();
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 50, BEGIN_NS), 10);
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 50, BEGIN_NS + SECOND_NS / 10 - 1), 0);
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 50, BEGIN_NS + SECOND_NS / 10), 1);
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 50, BEGIN_NS + SECOND_NS / 2), 4);
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 50, BEGIN_NS + 100 * SECOND_NS), 10); /* no credit for silence */
	assert_int_equal(allowed(rate, 2, "192.0.2.1", 5, BEGIN_NS), 1);
	assert_int_equal(allowed(rate, 2, "192.0.2.1", 5, BEGIN_NS + SECOND_NS), 1);
	/* whoever keeps the rate is never refused */
	for (int i = 0; i < 100; i++)
		assert_int_equal(allowed(rate, 0, "192.0.2.9", 1, BEGIN_NS + (uint64_t)i * (SECOND_NS / 10)), 1);
	dp_rate_destroy(rate);
}

static void sources_and_entries_stand_apart(void **state)
{
	(void)state;
	struct dp_rate *rate = create();
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 50, BEGIN_NS), 10);
	assert_int_equal(allowed(rate, 0, "192.0.2.2", 50, BEGIN_NS), 10);
	assert_int_equal(allowed(rate, 1, "192.0.2.1", 50, BEGIN_NS), 50); /* no limit */
	assert_int_equal(allowed(rate, 2, "192.0.2.1", 50, BEGIN_NS), 1);
	assert_int_equal(allowed(rate, 3, "192.0.2.1", 5000, BEGIN_NS), 5000);
	assert_int_equal(allowed(rate, 0, "2001:db8:0:1::1", 5, BEGIN_NS), 5);
	assert_int_equal(allowed(rate, 0, "2001:db8:0:1:ffff::2", 50, BEGIN_NS), 5); /* the same /64 */
	assert_int_equal(allowed(rate, 0, "2001:db8:0:2::1", 50, BEGIN_NS), 10);
	dp_rate_destroy(rate);
}

/* More sources than places: none is refused its first, and the memory is what it was. */
static void a_flood_of_sources_refuses_no_newcomer(void **state)
{
	(void)state;
	struct dp_rate *rate = create();
	for (uint32_t i = 0; i < 200000; i++) {
		uint8_t four[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
		struct tp_addr from = tp_addr_v4(four);
		assert_true(dp_rate_allows(rate, 0, &from, BEGIN_NS + i));
	}
	dp_rate_destroy(rate);
}

static void without_limits_all_is_allowed(void **state)
{
	(void)state;
	struct tp_config_ingest free_entry = {.rate_limit = 0};
	struct tp_config none = {.ingest = &free_entry, .ingest_count = 1};
	struct dp_rate *rate = (struct dp_rate *)1;
	assert_int_equal(dp_rate_create(&rate, &none), 0);
	assert_null(rate);
	assert_int_equal(allowed(rate, 0, "192.0.2.1", 1000, BEGIN_NS), 1000);
	dp_rate_destroy(rate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_holds_the_limit),
		cmocka_unit_test(sources_and_entries_stand_apart),
		cmocka_unit_test(a_flood_of_sources_refuses_no_newcomer),
		cmocka_unit_test(without_limits_all_is_allowed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
