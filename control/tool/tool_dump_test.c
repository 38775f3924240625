/*
 * What segments dump prints of single events, as those of a version 1 segment come, and which of them its filter lets through.
 */
#include "../storage/sample.h"
#include "tool_dump.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { EVENTS = 60 };

static _Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];

/* How many lines the filter lets through; *text is the caller's. */
static int lines(const struct sto_scan_filter *filter, bool csv, char **text)
{
	size_t bytes;
	int count = 0;
	struct ctl_dump dump = {.filter = filter, .csv = csv, .to = open_memstream(text, &bytes)};
	assert_non_null(dump.to);
	for (uint64_t n = 0; n < EVENTS; n++)
		assert_int_equal(ctl_dump_event(&dump, sample_event(room, n)), 0);
	fclose(dump.to);
	for (const char *at = *text; (at = strchr(at, '\n')); at++)
		count++;
	return count;
}

static void each_filter_lets_through_what_it_names(void **state)
{
	(void)state;
	struct tp_str three = {"ad-3", 4}, prefix = {"ad-", 3}, one = {"c1", 2}, adv = {"adv", 3}, other = {"adx", 3};
	const struct {
		struct sto_scan_filter filter;
		int expected;
	} table[] = {
		{{0}, EVENTS},
		{{.ad = three}, EVENTS / 5},
		{{.ad = prefix}, 0},
		{{.campaign = one}, EVENTS / 3},
		{{.campaign = one, .ad = three}, EVENTS / 15},
		{{.advertiser = adv}, EVENTS},
		{{.advertiser = other}, 0},
		{{.types = 1u << TP_CLICK}, EVENTS / TP_EVENT_TYPES},
		{{.from_ms = SAMPLE_MS + 10 * 997}, EVENTS - 10},
		{{.to_ms = SAMPLE_MS + 10 * 997}, 10},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *text;
		int count = lines(&table[i].filter, false, &text);
		free(text);
		if (count != table[i].expected)
			fail_msg("filter %zu: expected %d lines, found %d", i, table[i].expected, count);
	}
}

static void a_csv_has_its_names_once(void **state)
{
	(void)state;
	char *text;
	assert_int_equal(lines(&(struct sto_scan_filter){0}, true, &text), EVENTS + 1);
	assert_ptr_equal(strstr(text, "event_id,event_type,timestamp,"), text);
	assert_null(strstr(text + 1, "event_id,"));
	free(text);
}

/* Of the geo object only what is there; none at all is no object. */
static void geo_is_an_object_as_it_is_sent(void **state)
{
	(void)state;
	static const struct {
		const char *country, *region, *city, *expected;
	} table[] = {
		{"", "", "", NULL},
		{"DE", "", "", "{\"country\": \"DE\"}"},
		{"", "BY", "", "{\"region\": \"BY\"}"},
		{"DE", "", "Hof", "{\"city\": \"Hof\", \"country\": \"DE\"}"},
		{"DE", "BY", "Hof", "{\"city\": \"Hof\", \"country\": \"DE\", \"region\": \"BY\"}"},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct tp_parsed parsed;
		memset(&parsed, 0, sizeof(parsed));
		parsed.fixed.type = TP_CLICK;
		memcpy(parsed.fixed.country, table[i].country, strlen(table[i].country));
		parsed.string[TP_AD_ID] = parsed.string[TP_CAMPAIGN_ID] = parsed.string[TP_ADVERTISER_ID] = (struct tp_str){"x", 1};
		parsed.string[TP_REGION] = (struct tp_str){table[i].region, (uint16_t)strlen(table[i].region)};
		parsed.string[TP_CITY] = (struct tp_str){table[i].city, (uint16_t)strlen(table[i].city)};
		tp_event_finish(&parsed);
		tp_event_encode(&parsed, (struct tp_event *)(void *)room);
		char *text;
		size_t bytes;
		struct ctl_dump dump = {.filter = &(struct sto_scan_filter){0}, .to = open_memstream(&text, &bytes)};
		assert_int_equal(ctl_dump_event(&dump, (const struct tp_event *)(const void *)room), 0);
		fclose(dump.to);
		json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(line);
		char *geo = json_dumps(json_object_get(line, "geo"), JSON_SORT_KEYS);
		if (table[i].expected)
			assert_string_equal(geo, table[i].expected);
		else
			assert_null(geo);
		free(geo);
		free(text);
		json_decref(line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_filter_lets_through_what_it_names),
		cmocka_unit_test(a_csv_has_its_names_once),
		cmocka_unit_test(geo_is_an_object_as_it_is_sent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
