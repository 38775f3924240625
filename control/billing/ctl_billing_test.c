/* Bills: what is asked for, the periods of a zone, sums against a slow model, CSV that a spreadsheet may open. */
#include "ctl_billing_param.h"
#include "ctl_billing_sum.h"
#include "ctl_billing_text.h"
#include "turnpike/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1774800000000ULL /* 2026-03-29T16:00:00Z, the day on which Berlin has 23 hours */

static const struct tp_config_billing_zone zones[] = {{(char *)"berlin", (char *)"Europe/Berlin"}};
static const struct tp_config config = {
	.billing_zone = (char *)"Asia/Kolkata", .billing_zones = (struct tp_config_billing_zone *)zones, .billing_zone_count = 1};
static struct ctl_billing_ask ask;

/* The status, 200 when it was read; the parameter at fault in `fault`. */
static uint32_t param(const char *query, const char *only, const char *accept, char fault[64])
{
	struct ctl_reply reply = {0};
	struct ctl_target target;
	char text[512];

	snprintf(text, sizeof(text), "/api/v1/billing/reports?%s", query);
	assert_int_equal(ctl_target_parse(text, &target), 0);
	target.only = only;
	bool good = ctl_billing_param(&target, accept, NOW, &config, &ask, &reply);
	fault[0] = '\0';
	if (!good) {
		json_t *problem = json_loads(reply.body, 0, NULL);
		const char *name = json_string_value(json_object_get(problem, "parameter"));
		snprintf(fault, 64, "%s", name ? name : "");
		json_decref(problem);
	}
	/* what the ask points to lies in the target */
	ask.advertiser = NULL;
	ctl_target_free(&target);
	free(reply.body);
	return good ? 200 : reply.status;
}

static void what_is_asked_for(void **state)
{
	(void)state;
	static const struct {
		const char *query, *only, *accept;
		uint32_t status;
		const char *fault;
	} cases[] = {
		{"advertiser=a", NULL, NULL, 200, ""},
		{"", NULL, NULL, 400, "advertiser"},
		{"", "a", NULL, 200, ""},
		{"advertiser=a", "a", NULL, 200, ""},
		{"advertiser=b", "a", NULL, 403, "advertiser"},
		{"advertiser=", NULL, NULL, 400, "advertiser"},
		{"advertiser=%FF", NULL, NULL, 400, "advertiser"},
		{"advertiser=12345678901234567890123456789012345678901234567890123456789012345", NULL, NULL, 400, "advertiser"},
		{"advertiser=a&advertiser=a", NULL, NULL, 400, "advertiser"},
		{"advertiser=a&period=yearly", NULL, NULL, 400, "period"},
		{"advertiser=a&tz=Europe/Nowhere", NULL, NULL, 400, "tz"},
		{"advertiser=a&tz=../../etc/passwd", NULL, NULL, 400, "tz"},
		{"advertiser=a&format=xml", NULL, NULL, 400, "format"},
		{"advertiser=a&zone=UTC", NULL, NULL, 400, "zone"},
		{"advertiser=a&from=yesterday", NULL, NULL, 400, "from"},
		{"advertiser=a&from=2&to=1", NULL, NULL, 400, "from"},
		{"advertiser=a&to=999999999999999999", NULL, NULL, 400, "to"},
		{"advertiser=a&to=253370764800000", NULL, NULL, 400, "to"},
		{"advertiser=a&period=monthly&from=9998-12-31T00:00:00Z&to=253370764799999", NULL, NULL, 200, ""},
		{"advertiser=a&period=hourly&from=0", NULL, NULL, 422, "from"},
		{"advertiser=a&period=monthly&from=0", NULL, NULL, 200, ""},
	};
	char fault[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t status = param(cases[i].query, cases[i].only, cases[i].accept, fault);
		if (status != cases[i].status || strcmp(fault, cases[i].fault) != 0)
			fail_msg("%s: %u %s", cases[i].query, status, fault);
		char last[CTL_ZONE_TEXT_BYTES];
		if (status == 200) /* RFC 3339 has four digits for a year */
			assert_int_equal(last[ctl_zone_text(ask.zone, ask.bound_ms[ask.periods], last) ? 4 : 0], '-');
	}
}

static void csv_only_to_who_wants_it(void **state)
{
	(void)state;
	static const struct {
		const char *accept;
		bool csv;
	} cases[] = {
		{NULL, false},
		{"", false},
		{"*/*", false},
		{"text/csv", true},
		{"TEXT/CSV;header=present", true},
		{"text/*", true},
		{"application/json, text/csv", false},
		{"application/json;q=0.5, text/csv", true},
		{"text/csv;q=0.4,application/json;q=0.5", false},
		{"text/csv;q=0", false},
		{"text/csv;q=0, text/*", false},
		{"text/csv, */*;q=0.1", true},
		{"*/*, text/csv;q=0.9", false},
		{"text/csvx", false},
		{";;;,,,q=", false},
	};
	char fault[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (ctl_accept_csv(cases[i].accept) != cases[i].csv)
			fail_msg("%s", cases[i].accept);
	assert_int_equal(param("advertiser=a&format=json", NULL, "text/csv", fault), 200);
	assert_false(ask.csv);
	assert_int_equal(param("advertiser=a&format=csv", NULL, NULL, fault), 200);
	assert_true(ask.csv);
}

static void text_is(const struct ctl_zone *zone, uint64_t ms, const char *want)
{
	char text[CTL_ZONE_TEXT_BYTES];

	ctl_zone_text(zone, ms, text);
	assert_string_equal(text, want);
}

static void periods_are_whole(void **state)
{
	(void)state;
	char fault[64];

	/* an instant on either side of one midnight: two days, of 23 hours and of 24 */
	assert_int_equal(param("advertiser=berlin&from=2026-03-29T23:59:59.999%2B02:00&to=2026-03-30T00:00:00.001%2B02:00", NULL,
			       NULL, fault),
			 200);
	assert_int_equal(ask.periods, 2);
	text_is(ask.zone, ask.bound_ms[0], "2026-03-29T00:00:00+01:00");
	text_is(ask.zone, ask.bound_ms[1], "2026-03-30T00:00:00+02:00");
	text_is(ask.zone, ask.bound_ms[2], "2026-03-31T00:00:00+02:00");
	assert_int_equal(ask.bound_ms[1] - ask.bound_ms[0], 23 * 3600000);
	/* the end is not part of the range */
	assert_int_equal(
		param("advertiser=berlin&from=2026-03-29T00:00:00%2B01:00&to=2026-03-30T00:00:00%2B02:00", NULL, NULL, fault), 200);
	assert_int_equal(ask.periods, 1);
	assert_int_equal(param("advertiser=berlin&from=5&to=5", NULL, NULL, fault), 200);
	assert_int_equal(ask.periods, 0);
	/* by default up to the running one, in the advertiser's zone or that of all */
	assert_int_equal(param("advertiser=berlin", NULL, NULL, fault), 200);
	assert_int_equal(ask.periods, 31);
	text_is(ask.zone, ask.bound_ms[30], "2026-03-29T00:00:00+01:00");
	assert_int_equal(param("advertiser=x&period=hourly", NULL, NULL, fault), 200);
	assert_int_equal(ask.periods, 24);
	text_is(ask.zone, ask.bound_ms[23], "2026-03-29T21:00:00+05:30");
	assert_int_equal(param("advertiser=x&period=monthly&tz=UTC", NULL, NULL, fault), 200);
	assert_int_equal(ask.periods, 12);
	text_is(ask.zone, ask.bound_ms[0], "2025-04-01T00:00:00Z");
}

/* ---- sums ---- */

enum { ADVERTISERS = 3, CAMPAIGNS = 5, PERIODS = 7, ROWS = 4000 };
static const char *const currency[] = {"EUR", "JPY", "USD"};

struct cell {
	int64_t impressions, clicks, flagged, late;
	__int128 spend[3];
	bool seen[3], any;
};

static struct tp_rollup_row row_of(uint64_t minute, uint32_t advertiser, uint32_t campaign, const char *money, char heap[64])
{
	struct tp_rollup_row row = {.minute = (uint32_t)minute};

	/* the heap has ad, campaign, advertiser, publisher, region, one behind the other */
	int a = snprintf(heap, 64, "ad"), c = snprintf(heap + a, 32, "c%u", campaign),
	    v = snprintf(heap + a + c, 16, "adv%u", advertiser);
	row.string_bytes[TP_DIM_AD] = (uint8_t)a;
	row.string_bytes[TP_DIM_CAMPAIGN] = (uint8_t)c;
	row.string_bytes[TP_DIM_ADVERTISER] = (uint8_t)v;
	memcpy(row.currency, money, 3);
	return row;
}

static void lines_are_what_a_slow_model_says(void **state)
{
	(void)state;
	static const uint64_t bound[PERIODS + 1] = {100, 123, 147, 172, 190, 191, 250, 300};
	static struct cell model[PERIODS][ADVERTISERS][CAMPAIGNS];
	uint32_t cells = 0, lines_before = 0;

	srandom(7);
	memset(model, 0, sizeof(model));
	for (int one = 0; one < 2; one++) {
		struct ctl_billing_sum sum = {.bound = bound, .periods = PERIODS, .lines_max = 1000};
		if (one)
			sum.advertiser = "adv1", sum.advertiser_bytes = 4;
		memset(model, 0, sizeof(model));
		for (int i = 0; i < ROWS; i++) {
			char heap[64];
			uint64_t minute = 90 + (uint64_t)random() % 220;
			uint32_t advertiser = (uint32_t)random() % ADVERTISERS, campaign = (uint32_t)random() % CAMPAIGNS;
			uint32_t money = (uint32_t)random() % 3;
			struct tp_rollup_row row = row_of(minute, advertiser, campaign, currency[money], heap);
			/* now and then a click that an amendment took from the flagged ones: a negative count, modulo 2^64 */
			row.sums = (struct tp_sums){.impressions = (uint64_t)random() % 9,
						    .clicks = (uint64_t)random() % 5,
						    .flagged_clicks = (uint64_t)(random() % 3 - 1),
						    .late = (uint64_t)random() % 2,
						    .spend_micros = ((__int128)random() << 64) + random()};
			assert_true(ctl_billing_sum_add(&sum, &row, heap));
			uint32_t period = 0;
			while (period < PERIODS && !(minute >= bound[period] && minute < bound[period + 1]))
				period++;
			if (period == PERIODS || (one && advertiser != 1))
				continue;
			struct cell *cell = &model[period][advertiser][campaign];
			cell->any = cell->seen[money] = true;
			cell->impressions += (int64_t)row.sums.impressions;
			cell->clicks += (int64_t)row.sums.clicks;
			cell->flagged += (int64_t)row.sums.flagged_clicks;
			cell->late += (int64_t)row.sums.late;
			cell->spend[money] += row.sums.spend_micros;
			/* a snapshot that starts over: what came since the mark is forgotten, and comes again */
			if (i == ROWS / 2) {
				struct ctl_billing_mark mark = ctl_billing_sum_mark(&sum);
				struct tp_str other = {.at = "z", .bytes = 1};
				struct ctl_billing_line *line = ctl_billing_line_find(&sum, 99, other, other);
				assert_true(ctl_billing_line_add(&sum, line, &row.sums, "CHF"));
				ctl_billing_sum_reset(&sum, mark);
			}
		}
		ctl_billing_sum_sort(&sum);
		cells = 0;
		for (uint32_t p = 0; p < PERIODS; p++)
			for (uint32_t a = 0; a < ADVERTISERS; a++)
				for (uint32_t c = 0; c < CAMPAIGNS; c++) {
					const struct cell *cell = &model[p][a][c];
					if (!cell->any)
						continue;
					/* sorted: the lines come in the model's order */
					const struct ctl_billing_line *line = &sum.line[cells++];
					char name[16];
					snprintf(name, sizeof(name), "c%u", c);
					struct tp_str campaign = ctl_billing_campaign(&sum, line);
					assert_int_equal(line->period, p);
					assert_int_equal(campaign.bytes, strlen(name));
					assert_memory_equal(campaign.at, name, campaign.bytes);
					assert_int_equal(line->counts.impressions, cell->impressions);
					assert_int_equal(line->counts.clicks, cell->clicks);
					assert_int_equal(line->counts.flagged_clicks, cell->flagged);
					assert_int_equal(line->counts.late, cell->late);
					uint32_t at = line->spend;
					for (int m = 0; m < 3; m++) {
						if (!cell->seen[m])
							continue;
						assert_true(at != 0);
						assert_string_equal(sum.spend[at - 1].currency, currency[m]);
						assert_true(sum.spend[at - 1].micros == cell->spend[m]);
						at = sum.spend[at - 1].next;
					}
					assert_int_equal(at, 0);
				}
		assert_int_equal(sum.lines, cells);
		assert_true(cells != lines_before);
		lines_before = cells;
		ctl_billing_sum_fini(&sum);
	}
}

static void too_many_lines_are_refused(void **state)
{
	(void)state;
	static const uint64_t bound[] = {0, 10};
	struct ctl_billing_sum sum = {.bound = bound, .periods = 1, .lines_max = 2};
	char heap[64];

	for (uint32_t i = 0; i < 3; i++) {
		struct tp_rollup_row row = row_of(5, 0, i, "USD", heap);
		assert_int_equal(ctl_billing_sum_add(&sum, &row, heap), i < 2);
		/* one that is there already is no more */
		if (i < 2)
			assert_true(ctl_billing_sum_add(&sum, &row, heap));
	}
	assert_true(sum.too_many);
	ctl_billing_sum_fini(&sum);
}

/* ---- text ---- */

static void currencies_are_never_added(void **state)
{
	(void)state;
	struct ctl_billing_sum sum = {.lines_max = 10};
	struct tp_str none = {.at = "", .bytes = 0}, name = {.at = "c", .bytes = 1};
	char *text = NULL;
	size_t bytes = 0;
	static const struct {
		const char *currency;
		int64_t micros;
		const char *json, *csv;
	} steps[] = {
		{"USD", 0,
		 "{\"campaign_id\":\"c\",\"impressions\":0,\"clicks\":0,\"flagged_clicks\":0,\"spend\":\"0.000000\",\"currency\":"
		 "\"USD\"}",
		 "c,0,0,0,0.000000,USD,"},
		{"EUR", 1500000,
		 "{\"campaign_id\":\"c\",\"impressions\":0,\"clicks\":0,\"flagged_clicks\":0,\"spend\":\"1.500000\",\"currency\":"
		 "\"EUR\"}",
		 "c,0,0,0,1.500000,EUR,"},
		{"USD", -1,
		 "{\"campaign_id\":\"c\",\"impressions\":0,\"clicks\":0,\"flagged_clicks\":0,\"spend\":null,\"currency\":null,"
		 "\"spend_by_currency\":{\"EUR\":\"1.500000\",\"USD\":\"-0.000001\"}}",
		 "c,0,0,0,,,EUR=1.500000 USD=-0.000001"},
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct ctl_billing_line *line = ctl_billing_line_find(&sum, 0, none, name);
		assert_true(ctl_billing_spend_add(&sum, line, steps[i].currency, steps[i].micros));
		json_t *object = json_object();
		ctl_billing_line_json(object, &sum, line);
		char *json = json_dumps(object, JSON_COMPACT);
		assert_string_equal(json, steps[i].json);
		free(json);
		json_decref(object);
		FILE *to = open_memstream(&text, &bytes);
		ctl_billing_line_csv(to, &sum, line);
		fclose(to);
		assert_string_equal(text, steps[i].csv);
		free(text);
	}
	ctl_billing_sum_fini(&sum);
}

static void csv_holds_any_id(void **state)
{
	(void)state;
	static const struct {
		const char *text, *csv;
	} cases[] = {
		{"", ""},
		{"camp_1", "camp_1"},
		{"a b;c", "a b;c"},
		{"a,b", "\"a,b\""},
		{"say \"x\"", "\"say \"\"x\"\"\""},
		{"two\r\nlines", "\"two\r\nlines\""},
		{"=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""},
		{"+1", "\"'+1\""},
		{"@SUM(A1)", "\"'@SUM(A1)\""},
		{"-1+cmd|' /C calc'!A0", "\"'-1+cmd|' /C calc'!A0\""},
		{"-aZ09_-", "-aZ09_-"},
		{"\tx", "\"'\tx\""},
	};
	char *text = NULL;
	size_t bytes = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		FILE *to = open_memstream(&text, &bytes);
		ctl_csv_text(to, (struct tp_str){.at = cases[i].text, .bytes = (uint16_t)strlen(cases[i].text)});
		fclose(to);
		assert_string_equal(text, cases[i].csv);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_asked_for),          cmocka_unit_test(csv_only_to_who_wants_it),
		cmocka_unit_test(periods_are_whole),          cmocka_unit_test(lines_are_what_a_slow_model_says),
		cmocka_unit_test(too_many_lines_are_refused), cmocka_unit_test(currencies_are_never_added),
		cmocka_unit_test(csv_holds_any_id),
	};
	return cmocka_run_group_tests_name("ctl_billing", tests, NULL, NULL);
}
