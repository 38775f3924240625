/* Targets and the parameters of analytics: what is read, and the problem that each wrong one gets. */
#include "ctl_param.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW_MS     1795305630250ULL /* 2026-11-22T00:00:30.250Z */
#define NOW_MINUTE (NOW_MS / TP_MINUTE_MS)

static void targets_are_split_and_decoded(void **state)
{
	(void)state;
	struct ctl_target target;

	assert_int_equal(ctl_target_parse("/api/v1/ads/a%2Fb%20+c?x=1+2&y=%2b&z&=&w=a=b", &target), 0);
	assert_int_equal(target.segments, 4);
	assert_true(ctl_text_is(&target.segment[0], "api"));
	assert_true(ctl_text_is(&target.segment[3], "a/b +c"));
	assert_int_equal(target.params, 5);
	assert_string_equal(ctl_target_param(&target, "x")->at, "1 2");
	assert_string_equal(ctl_target_param(&target, "y")->at, "+");
	assert_string_equal(ctl_target_param(&target, "z")->at, "");
	assert_string_equal(ctl_target_param(&target, "w")->at, "a=b");
	assert_null(ctl_target_param(&target, "v"));
	ctl_target_free(&target);

	assert_int_equal(ctl_target_parse("/", &target), 0);
	assert_int_equal(target.segments, 1);
	assert_int_equal(target.segment[0].bytes, 0);
	ctl_target_free(&target);
	assert_int_equal(ctl_target_parse("/a/?", &target), 0);
	assert_int_equal(target.segments, 2);
	assert_int_equal(target.params, 0);
	ctl_target_free(&target);
	assert_int_equal(ctl_target_parse("/%C3%A4%ff", &target), 0);
	assert_string_equal(target.segment[0].at, "\xc3\xa4\xff");
	ctl_target_free(&target);
}

static void broken_targets_are_refused(void **state)
{
	(void)state;
	static const char *const broken[] = {
		"",
		"*",
		"a",
		"http://host/",
		"/%",
		"/%4",
		"/%4g",
		"/%00",
		"/a?b=%00",
		"/a?%zz=1",
		"/a?b=%",
		"/1/2/3/4/5/6/7/8/9",
		"/?1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17&18&19&20&21&22&23&24&25&26&27&28&29&30&31&32&33",
	};
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct ctl_target target;
		assert_int_equal(ctl_target_parse(broken[i], &target), -EINVAL);
	}
}

struct good {
	const char *query;
	uint64_t from_minute, to_minute;
	uint32_t step, slide;
	const char *groups; /* initials */
};

#define DAY 1440ULL
static const struct good good[] = {
	{"", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, ""},
	{"window=1h", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, ""},
	{"window=30s", NOW_MINUTE, NOW_MINUTE + 1, 1, 1, ""},
	{"window=31s", NOW_MINUTE - 1, NOW_MINUTE + 1, 1, 1, ""},
	{"window=7h", NOW_MINUTE - 420, NOW_MINUTE + 1, 60, 60, ""},
	{"window=30d&step=1h", NOW_MINUTE - 30 * DAY, NOW_MINUTE + 1, 60, 60, ""},
	{"window=30d", NOW_MINUTE - 30 * DAY, NOW_MINUTE + 1, 1440, 1440, ""},
	{"window=100y", 0, NOW_MINUTE + 1, 1440, 1440, ""},
	{"from=0&to=60000", 0, 1, 1, 1, ""},
	{"from=0&to=60001", 0, 2, 1, 1, ""},
	{"from=59999&to=60000", 0, 1, 1, 1, ""},
	{"from=90000&to=90000", 1, 1, 1, 1, ""},
	{"from=2026-11-21T10:00:00Z&to=2026-11-21T11:00:00Z", 29920920, 29920980, 1, 1, ""},
	{"from=2026-11-21T12:00:00%2B02:00&to=2026-11-21T11:00:00Z", 29920920, 29920980, 1, 1, ""},
	{"from=2026-11-21T12:00:00+02:00&to=2026-11-21T11:00:00Z", 29920920, 29920980, 1, 1, ""},
	{"from=2026-11-21T23:00:00Z", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, ""},
	{"to=2026-11-22T00:00:00Z", NOW_MINUTE - 60, NOW_MINUTE, 1, 1, ""},
	{"from=2030-01-01T00:00:00Z", 31557600, 31557660, 1, 1, ""},
	{"from=0&step=1d", 0, NOW_MINUTE + 1, 1440, 1440, ""},
	{"step=1h&slide=5m", NOW_MINUTE - 60, NOW_MINUTE + 1, 60, 5, ""},
	{"step=1h&slide=1h", NOW_MINUTE - 60, NOW_MINUTE + 1, 60, 60, ""},
	{"step=1d&slide=90m", NOW_MINUTE - 60, NOW_MINUTE + 1, 1440, 90, ""},
	{"group_by=", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, ""},
	{"group_by=ad", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, "a"},
	{"group_by=ad,publisher,country,region,device", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, "apcrd"},
	{"group_by=device%2Ccampaign,advertiser", NOW_MINUTE - 60, NOW_MINUTE + 1, 1, 1, "dca"},
};

static bool read_query(const char *text, struct ctl_query *query, struct ctl_reply *reply)
{
	char room[512];
	struct ctl_target target;

	snprintf(room, sizeof(room), "/x?%s", text);
	assert_int_equal(ctl_target_parse(room, &target), 0);
	*query = (struct ctl_query){0};
	*reply = (struct ctl_reply){0};
	bool fine = ctl_param_analytics(&target, NOW_MS, query, reply);
	ctl_target_free(&target);
	return fine;
}

static void good_parameters_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct ctl_query query;
		struct ctl_reply reply;
		char groups[CTL_DIMENSIONS + 1] = "";
		bool fine = read_query(good[i].query, &query, &reply);
		if (!fine)
			print_error("%s: %s\n", good[i].query, reply.body);
		assert_true(fine);
		for (uint32_t g = 0; g < query.group_count; g++)
			groups[g] = ctl_dimension_name((enum ctl_dimension)query.group[g])[0];
		if (query.from_minute != good[i].from_minute || query.to_minute != good[i].to_minute)
			print_error("%s: %llu to %llu\n", good[i].query, (unsigned long long)query.from_minute,
				    (unsigned long long)query.to_minute);
		assert_int_equal(query.from_minute, good[i].from_minute);
		assert_int_equal(query.to_minute, good[i].to_minute);
		assert_int_equal(query.step_minutes, good[i].step);
		assert_int_equal(query.slide_minutes, good[i].slide);
		assert_string_equal(groups, good[i].groups);
	}
}

struct bad {
	const char *query;
	uint16_t status;
	const char *parameter, *detail;
};

#define FILTER \
	"filter: expected dimension:value, separated by commas, such as country:US,device:mobile, of ad, campaign, advertiser, " \
	"publisher, country, region, device, currency, found "

static const struct bad bad[] = {
	{"windows=1h", 400, "windows",
	 "windows: unknown parameter, expected window, from, to, step, slide, tz, group_by, filter, order, "
	 "limit, compare or id"},
	{"window=1h&window=2h", 400, "window", "window: expected once, found twice"},
	{"window=1h&to=0", 400, "window", "window: expected either window, or from and to, found both"},
	{"window=hour", 400, "window", "window: expected a duration such as 1h, found \"hour\""},
	{"window=0", 400, "window", "window: expected a duration such as 1h, found \"0\""},
	{"window=-1h", 400, "window", "window: expected a duration such as 1h, found \"-1h\""},
	{"window=", 400, "window", "window: expected a duration such as 1h, found \"\""},
	{"from=yesterday", 400, "from", "from: expected an RFC 3339 time, a date or milliseconds since 1970, found \"yesterday\""},
	{"to=2026-02-30T00:00:00Z", 400, "to",
	 "to: expected an RFC 3339 time, a date or milliseconds since 1970, found \"2026-02-30T00:00:00Z\""},
	{"to=99999999999999999", 400, "to", "to: expected a time before the year 9999, found \"99999999999999999\""},
	{"from=253370764800000", 400, "from", "from: expected a time before the year 9999, found \"253370764800000\""},
	{"to=9998-12-31T23:59:59-00:01", 400, "to",
	 "to: expected a time before the year 9999, found \"9998-12-31T23:59:59-00:01\""},
	{"from=2&to=1", 400, "from", "from: expected a time not after to, found from 2 and to 1"},
	{"step=2m", 400, "step", "step: expected 1m, 1h or 1d, found \"2m\""},
	{"step=", 400, "step", "step: expected 1m, 1h or 1d, found \"\""},
	{"step=1h&slide=7m", 400, "slide", "slide: expected whole minutes that divide the step, such as 5m, found \"7m\""},
	{"step=1m&slide=1h", 400, "slide", "slide: expected whole minutes that divide the step, such as 5m, found \"1h\""},
	{"step=1m&slide=30s", 400, "slide", "slide: expected whole minutes that divide the step, such as 5m, found \"30s\""},
	{"slide=0", 400, "slide", "slide: expected whole minutes that divide the step, such as 5m, found \"0\""},
	{"group_by=city", 400, "group_by",
	 "group_by: expected each once, separated by commas, of ad, campaign, advertiser, publisher, country, region, device, "
	 "currency, "
	 "found "
	 "\"city\""},
	{"group_by=ad,ad", 400, "group_by",
	 "group_by: expected each once, separated by commas, of ad, campaign, advertiser, publisher, country, region, device, "
	 "currency, "
	 "found "
	 "\"ad,ad\""},
	{"group_by=ad,", 400, "group_by", "group_by: expected another dimension after the last comma, found \"ad,\""},
	{"filter=country:US,", 400, "filter",
	 "filter: expected another dimension:value after the last comma, found \"country:US,\""},
	{"group_by=ad,,device", 400, "group_by",
	 "group_by: expected each once, separated by commas, of ad, campaign, advertiser, publisher, country, region, device, "
	 "currency, "
	 "found "
	 "\"ad,,device\""},
	{"tz=Mars/Base", 400, "tz", "tz: expected a zone such as Europe/Berlin, found \"Mars/Base\""},
	{"tz=", 400, "tz", "tz: expected a zone such as Europe/Berlin, found \"\""},
	{"tz=../../etc/passwd", 400, "tz", "tz: expected a zone such as Europe/Berlin, found \"../../etc/passwd\""},
	{"from=2026-02-30&tz=Europe/Berlin", 400, "from",
	 "from: expected an RFC 3339 time, a date or milliseconds since 1970, found \"2026-02-30\""},
	{"from=2026-02-3", 400, "from", "from: expected an RFC 3339 time, a date or milliseconds since 1970, found \"2026-02-3\""},
	{"filter=city:Rome", 400, "filter", FILTER "\"city:Rome\""},
	{"filter=US", 400, "filter", FILTER "\"US\""},
	{"filter=country:US,,device:tv", 400, "filter", FILTER "\",device:tv\""},
	{"filter=country:USA", 400, "filter", "filter: no row has such a country: \"country:USA\""},
	{"filter=device:phone", 400, "filter", "filter: no row has such a device: \"device:phone\""},
	{"filter=currency:", 400, "filter", "filter: no row has such a currency: \"currency:\""},
	{"filter=ad:100%25", 400, "filter",
	 "filter: expected a value of up to 255 bytes with % written %25 and a comma %2C, found \"ad:100%\""},
	{"order=sum", 400, "order",
	 "order: expected impressions, clicks, flagged_clicks, gross_clicks, conversions, spend or ctr, with - before it for the "
	 "largest "
	 "first, found \"sum\""},
	{"order=--clicks", 400, "order",
	 "order: expected impressions, clicks, flagged_clicks, gross_clicks, conversions, spend or ctr, with - before it for the "
	 "largest "
	 "first, found \"--clicks\""},
	{"limit=0", 400, "limit", "limit: expected a whole number from 1 to 20000, found \"0\""},
	{"limit=20001", 400, "limit", "limit: expected a whole number from 1 to 20000, found \"20001\""},
	{"limit=1e3", 400, "limit", "limit: expected a whole number from 1 to 20000, found \"1e3\""},
	{"compare=yesterday", 400, "compare", "compare: expected previous, found \"yesterday\""},
	{"from=0&step=1d&tz=Europe/Berlin&to=9000-01-01", 422, "step",
	 "step: the range has 2567655 buckets, at most 50000 are answered: ask for a shorter range or a longer step"},
	/* the period before begins within a step, and has a bucket more */
	{"from=360000060000&to=539996580000&step=1h&compare=previous", 422, "step",
	 "step: the range has 50001 buckets, at most 50000 are answered: ask for a shorter range or a longer step"},
	{"from=0&step=1m", 422, "step",
	 "step: the range has 29921761 buckets, at most 50000 are answered: ask for a shorter range or a longer step"},
};

static void bad_parameters_get_their_problem(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ctl_query query;
		struct ctl_reply reply;
		bool fine = read_query(bad[i].query, &query, &reply);
		if (fine)
			print_error("%s was taken\n", bad[i].query);
		assert_false(fine);
		assert_int_equal(reply.status, bad[i].status);
		assert_string_equal(reply.type, "application/problem+json");
		json_t *problem = json_loads(reply.body, 0, NULL);
		assert_non_null(problem);
		assert_string_equal(json_string_value(json_object_get(problem, "detail")), bad[i].detail);
		assert_string_equal(json_string_value(json_object_get(problem, "parameter")), bad[i].parameter);
		assert_int_equal(json_integer_value(json_object_get(problem, "status")), bad[i].status);
		assert_non_null(strstr(json_string_value(json_object_get(problem, "type")), "urn:turnpike:problem:"));
		json_decref(problem);
		free(reply.body);
	}
}

/* RFC 3339 has four digits for a year. */
static void the_last_times_can_be_shown(void **state)
{
	(void)state;
	static const char *const zones[] = {"UTC", "Etc/GMT-14", "Etc/GMT%2B12", "Pacific/Kiritimati"};
	static const char *const ranges[] = {"from=253370764799999", "to=253370764799999&step=1d",
					     "to=9998-12-31T23:59:59Z&compare=previous"};
	char text[128], shown[CTL_ZONE_TEXT_BYTES];

	for (size_t z = 0; z < sizeof(zones) / sizeof(zones[0]); z++) {
		for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
			struct ctl_query query;
			struct ctl_reply reply;
			snprintf(text, sizeof(text), "%s&tz=%s", ranges[r], zones[z]);
			assert_true(read_query(text, &query, &reply));
			ctl_zone_text(query.zone, query.to_minute * TP_MINUTE_MS, shown);
			assert_int_equal(shown[4], '-');
			/* and so is the end of the day that it lies in */
			ctl_zone_text(query.zone, ctl_zone_next(query.zone, CTL_ZONE_DAY, query.to_minute * TP_MINUTE_MS), shown);
			assert_int_equal(shown[4], '-');
		}
	}
}

static void filters_are_read_in_any_order(void **state)
{
	(void)state;
	struct ctl_query query;
	struct ctl_reply reply;

	assert_true(read_query(
		"filter=device:mobile,country:us,device:tv,country:De,ad:a%252Cb%2525:c,region:,currency:eur&order=-ctr&limit="
		"7&compare=previous&id=x&id=y",
		&query, &reply));
	static const struct {
		enum ctl_dimension dimension;
		const char *value;
	} expected[] = {{CTL_AD, "a,b%:c"},     {CTL_REGION, ""},   {CTL_COUNTRY, "US"},  {CTL_COUNTRY, "DE"},
			{CTL_DEVICE, "mobile"}, {CTL_DEVICE, "tv"}, {CTL_CURRENCY, "EUR"}};
	assert_int_equal(query.filter_count, 7);
	for (size_t i = 0; i < 7; i++) {
		assert_int_equal(query.filters[i].dimension, expected[i].dimension);
		assert_int_equal(query.filters[i].bytes, strlen(expected[i].value));
		assert_memory_equal(query.filter_text + query.filters[i].at, expected[i].value, strlen(expected[i].value));
	}
	assert_int_equal(query.order, CTL_CTR);
	assert_false(query.ascending);
	assert_int_equal(query.limit, 7);
	assert_true(query.compare);
	char many[512] = "filter=";
	for (int i = 0; i < CTL_FILTERS_MAX; i++)
		strcat(many, i ? ",ad:x" : "ad:x");
	assert_true(read_query(many, &query, &reply));
	strcat(many, ",ad:y");
	assert_false(read_query(many, &query, &reply));
	assert_int_equal(reply.status, 400);
	free(reply.body);
}

static void days_are_the_zones(void **state)
{
	(void)state;
	struct ctl_query query, before;
	struct ctl_reply reply;

	assert_true(read_query("tz=Europe/Berlin&from=2026-03-28&to=2026-03-31&step=1d&compare=previous", &query, &reply));
	assert_true(query.local_days);
	assert_int_equal(query.from_minute, 29577540);
	assert_int_equal(query.to_minute - query.from_minute, 3 * 1440 - 60);
	assert_int_equal(ctl_query_slots(&query), 3);
	assert_int_equal(ctl_query_grain(&query), STO_HOURS);
	/* three days back, though these have an hour more */
	ctl_query_previous(&query, &before);
	assert_int_equal(before.to_minute, query.from_minute);
	assert_int_equal(before.to_minute - before.from_minute, 3 * 1440);
	assert_true(read_query("tz=Europe/Berlin&from=2026-03-30&to=2026-04-01&step=1d&compare=previous", &query, &reply));
	ctl_query_previous(&query, &before);
	assert_int_equal(before.to_minute - before.from_minute, 2 * 1440 - 60);
	assert_true(read_query("tz=Asia/Kolkata&from=2026-03-28&to=2026-03-31&step=1d", &query, &reply));
	assert_int_equal(ctl_query_grain(&query), STO_MINUTES);
	/* hours are those of UTC in any zone: half past, in one that is half an hour off */
	struct ctl_answer answer;
	char text[CTL_ZONE_TEXT_BYTES];
	assert_true(read_query("tz=Asia/Kolkata&from=2026-03-28T10:15:00Z&to=2026-03-28T12:45:00Z&step=1h", &query, &reply));
	assert_int_equal(ctl_answer_init(&answer, &query), 0);
	assert_int_equal(answer.slots, 3);
	ctl_zone_text(query.zone, ctl_answer_bucket_start(&answer, 0) * TP_MINUTE_MS, text);
	assert_string_equal(text, "2026-03-28T15:30:00+05:30");
	ctl_zone_text(query.zone, ctl_answer_bucket_start(&answer, 2) * TP_MINUTE_MS, text);
	assert_string_equal(text, "2026-03-28T17:30:00+05:30");
	ctl_answer_fini(&answer);
	assert_true(read_query("tz=UTC&from=2026-03-28&to=2026-03-31&step=1d", &query, &reply));
	assert_false(query.local_days);
	assert_int_equal(ctl_query_grain(&query), STO_DAYS);
	/* what slides does not begin at midnight */
	assert_true(read_query("tz=Europe/Berlin&step=1d&slide=1h", &query, &reply));
	assert_false(query.local_days);
	assert_true(read_query("from=10&to=600010&compare=previous", &query, &reply));
	ctl_query_previous(&query, &before); /* not before 1970 */
	assert_int_equal(before.from_minute, 0);
	assert_int_equal(before.to_minute, 0);
}

static void steps_are_written_as_they_are_asked(void **state)
{
	(void)state;
	char text[24];
	assert_string_equal(ctl_step_text(1, text), "1m");
	assert_string_equal(ctl_step_text(60, text), "1h");
	assert_string_equal(ctl_step_text(90, text), "90m");
	assert_string_equal(ctl_step_text(1440, text), "1d");
}

static void text_that_is_no_utf8_still_makes_json(void **state)
{
	(void)state;
	json_t *text = ctl_json_text("a\xff\xc3\xa4", 4);
	assert_string_equal(json_string_value(text), "a???");
	json_decref(text);
	text = ctl_json_text("\xc3\xa4\"", 3);
	assert_string_equal(json_string_value(text), "\xc3\xa4\"");
	json_decref(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(targets_are_split_and_decoded),
		cmocka_unit_test(broken_targets_are_refused),
		cmocka_unit_test(good_parameters_are_read),
		cmocka_unit_test(bad_parameters_get_their_problem),
		cmocka_unit_test(the_last_times_can_be_shown),
		cmocka_unit_test(filters_are_read_in_any_order),
		cmocka_unit_test(days_are_the_zones),
		cmocka_unit_test(steps_are_written_as_they_are_asked),
		cmocka_unit_test(text_that_is_no_utf8_still_makes_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
