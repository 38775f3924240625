/* The counter table's own rules, and publication beside a reader. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "turnpike/counter.h"

static void the_table_keeps_its_rules(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < TP_COUNTERS; i++) {
		const struct tp_counter_info *info = &tp_counter_info[i];
		assert_non_null(info->help);
		assert_true(strlen(info->help) > 0);
		assert_int_equal(strpbrk(info->help, "\\\n") != NULL, 0);
		bool labelled = info->kind == TP_KIND_REJECTED || info->kind == TP_KIND_DROPPED || info->kind == TP_KIND_OTHER;
		if (info->kind != TP_KIND_ACCEPTED) /* "" for what we took ourselves, else where it went */
			assert_int_equal(strlen(info->label) > 0, labelled);
		assert_int_equal(strspn(info->label, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(info->label));
		/* only the core layer is out of the balance, and it is so wholly */
		assert_int_equal(info->layer == TP_LAYER_CORE, info->kind == TP_KIND_OTHER);
		for (uint32_t j = 0; j < i; j++) {
			const struct tp_counter_info *other = &tp_counter_info[j];
			assert_false(other->layer == info->layer && other->kind == info->kind &&
				     strcmp(other->label, info->label) == 0);
		}
	}
}

static void each_layer_and_kind_has_a_name(void **state)
{
	(void)state;
	for (int i = 0; i < TP_LAYERS; i++)
		assert_string_not_equal(tp_layer_name((enum tp_counter_layer)i), "unknown");
	for (int i = 0; i < TP_KINDS; i++)
		assert_string_not_equal(tp_kind_name((enum tp_counter_kind)i), "unknown");
	assert_string_equal(tp_layer_name(TP_LAYER_EVENTS), "events");
	assert_string_equal(tp_kind_name(TP_KIND_IN_FLIGHT), "in_flight");
	for (int c = 0; c < TP_FRAME_COUNTERS; c++) /* a port's own figures are indexed by this */
		assert_int_equal(tp_counter_info[TP_C_FRAMES_RECEIVED + c].layer, TP_LAYER_FRAMES);
	assert_string_equal(tp_counter_info[TP_C_EVENTS_FUTURE].label, "future");
}

static void published_is_read_and_summed(void **state)
{
	(void)state;
	static struct tp_counter_page page[2];
	struct tp_counters own = {0}, sum = {0};

	TP_COUNT(&own, EVENTS_RECEIVED);
	TP_COUNT_ADD(&own, LOG_BYTES, 4096);
	tp_counters_publish(&page[0], &own);
	TP_COUNT(&own, EVENTS_RECEIVED);
	tp_counters_publish(&page[1], &own);
	assert_true(tp_counters_add(&page[0], &sum));
	assert_true(tp_counters_add(&page[1], &sum));
	assert_int_equal(sum.v[TP_C_EVENTS_RECEIVED], 3);
	assert_int_equal(sum.v[TP_C_LOG_BYTES], 8192);
	assert_int_equal(sum.v[TP_C_EVENTS_LATE], 0);
}

struct pair {
	struct tp_counter_page page;
	_Atomic bool done;
};

static void *writer_run(void *argument)
{
	struct pair *pair = argument;
	struct tp_counters own = {0};

	while (!atomic_load(&pair->done)) {
		for (uint32_t i = 0; i < TP_COUNTERS; i++)
			own.v[i] += 1;
		tp_counters_publish(&pair->page, &own);
		for (int i = 0; i < 200; i++)
			__builtin_ia32_pause();
	}
	return NULL;
}

static void a_snapshot_is_of_one_moment(void **state)
{
	(void)state;
	static struct pair pair;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, writer_run, &pair), 0);
	for (int round = 0; round < 20000; round++) {
		struct tp_counters sum = {0};
		if (!tp_counters_add(&pair.page, &sum))
			continue;
		for (uint32_t i = 1; i < TP_COUNTERS; i++)
			assert_int_equal(sum.v[i], sum.v[0]);
	}
	atomic_store(&pair.done, true);
	pthread_join(thread, NULL);
}

static void a_dead_writer_is_told(void **state)
{
	(void)state;
	static struct tp_counter_page page;
	struct tp_counters own = {0}, sum = {0};

	TP_COUNT_ADD(&own, EVENTS_LATE, 5);
	tp_counters_publish(&page, &own);
	atomic_fetch_add(&page.version, 1);
	assert_false(tp_counters_add(&page, &sum));
	assert_int_equal(sum.v[TP_C_EVENTS_LATE], 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_keeps_its_rules),    cmocka_unit_test(each_layer_and_kind_has_a_name),
		cmocka_unit_test(published_is_read_and_summed), cmocka_unit_test(a_snapshot_is_of_one_moment),
		cmocka_unit_test(a_dead_writer_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
