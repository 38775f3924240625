/* Ranges of summaries of fraud: what was named is kept to the minute, what was not lies on whole steps, so that an answer serves for long. */
#include "ctl_fraud_param.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW_MS  1795305630250ULL /* 2026-11-22T00:00:30.250Z */
#define DAY_MS  (1440 * TP_MINUTE_MS)
#define HOUR_MS (60 * TP_MINUTE_MS)
#define DAY     (NOW_MS / DAY_MS * DAY_MS) /* where it began */

static struct ctl_fraud_query asked(const char *text, uint64_t now_ms)
{
	struct ctl_fraud_query query;
	struct ctl_target target;
	struct ctl_reply reply = {0};
	assert_int_equal(ctl_target_parse(text, &target), 0);
	assert_true(ctl_fraud_param_summary(&target, now_ms, &query, &reply));
	ctl_target_free(&target);
	return query;
}

static void ranges_lie_where_they_should(void **state)
{
	static const struct {
		const char *target;
		uint64_t from_ms, to_ms;
		uint32_t step_minutes;
	} rows[] = {
		{"/s", DAY - DAY_MS, DAY + HOUR_MS, 60},
		{"/s?step=1m", DAY - DAY_MS + TP_MINUTE_MS, DAY + 2 * TP_MINUTE_MS, 1},
		{"/s?step=1d", DAY - DAY_MS, DAY + DAY_MS, 1440},
		{"/s?window=1h", DAY - HOUR_MS, DAY + 2 * TP_MINUTE_MS, 1},
		{"/s?window=1d", DAY - DAY_MS, DAY + 2 * TP_MINUTE_MS, 60},
		{"/s?from=2026-11-21T10:20:30Z&step=1h", DAY - DAY_MS + 620 * TP_MINUTE_MS, DAY + HOUR_MS, 60},
		{"/s?from=2026-11-21T10:20:30Z&to=2026-11-21T12:20:30Z&step=1h", DAY - DAY_MS + 620 * TP_MINUTE_MS,
		 DAY - DAY_MS + 741 * TP_MINUTE_MS, 60},
		{"/s?to=2026-11-21T12:20:30Z&step=1h", DAY - 2 * DAY_MS + 12 * HOUR_MS, DAY - DAY_MS + 741 * TP_MINUTE_MS, 60},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct ctl_fraud_query query = asked(rows[i].target, NOW_MS);
		if (query.filter.from_ms != rows[i].from_ms || query.filter.to_ms != rows[i].to_ms ||
		    query.step_minutes != rows[i].step_minutes)
			fail_msg("%s: from %ld to %ld of the day, step %u", rows[i].target, (long)(query.filter.from_ms - DAY),
				 (long)(query.filter.to_ms - DAY), query.step_minutes);
	}
}

/* One question for the cache, however often within the step; never an event of this moment left out. */
static void an_hour_has_one_question(void **state)
{
	const struct ctl_fraud_query first = asked("/s", DAY);
	(void)state;
	for (uint64_t at = 0; at < HOUR_MS - TP_MINUTE_MS; at += 7919) {
		const struct ctl_fraud_query query = asked("/s", DAY + at);
		assert_memory_equal(&query, &first, sizeof(query));
	}
	for (uint64_t at = 0; at < 2 * HOUR_MS; at += 7919) {
		const struct ctl_fraud_query query = asked("/s", DAY + at);
		assert_true(query.filter.to_ms >= DAY + at + TP_MINUTE_MS);
		assert_true(query.filter.from_ms <= DAY + at - DAY_MS + TP_MINUTE_MS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ranges_lie_where_they_should),
					   cmocka_unit_test(an_hour_has_one_question)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
