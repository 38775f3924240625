/* Zones against the C library's own reading of the same tzdata, and against days that are known from the calendar. */
#include "ctl_zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define HOUR_MS  3600000ULL
#define YEARS_MS (130ULL * 365 * 24 * HOUR_MS)

static uint64_t seed = 88172645463325252ULL;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static const struct ctl_zone *zone_of(const char *name)
{
	const struct ctl_zone *zone = ctl_zone_find(name, strlen(name));
	if (!zone)
		fail_msg("%s: not found", name);
	return zone;
}

/* The C library's local time, in the zone that TZ names. */
static struct tm local(uint64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	struct tm tm;
	assert_non_null(localtime_r(&s, &tm));
	return tm;
}

/* For each zone that zone1970.tab lists, some zones whose history is odd, and fixed ones. */
static void each_zone(void (*fn)(const struct ctl_zone *zone))
{
	static const char *const odd[] = {"America/St_Johns", "Pacific/Apia",      "Pacific/Kwajalein", "Africa/Casablanca",
					  "Europe/Dublin",    "America/Sao_Paulo", "Asia/Gaza",         "Antarctica/Troll",
					  "Asia/Tehran",      "America/Nuuk",      "Etc/GMT-14",        "EST5EDT"};
	char line[512], name[512];
	FILE *list = fopen("/usr/share/zoneinfo/zone1970.tab", "r");

	assert_non_null(list);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		setenv("TZ", odd[i], 1);
		tzset();
		fn(zone_of(odd[i]));
	}
	while (fgets(line, sizeof(line), list)) {
		if (line[0] == '#' || sscanf(line, "%*s\t%*s\t%500s", name) != 1)
			continue;
		setenv("TZ", name, 1);
		tzset();
		fn(zone_of(name));
	}
	fclose(list);
	unsetenv("TZ");
	tzset();
}

static bool whole_minutes(const struct tm *tm)
{
	return tm->tm_gmtoff % 60 == 0;
}

static void offsets_of(const struct ctl_zone *zone)
{
	for (int i = 0; i < 200; i++) {
		uint64_t ms = any(YEARS_MS);
		struct tm tm = local(ms);
		if (whole_minutes(&tm) && tm.tm_gmtoff != 60 * ctl_zone_offset_minutes(zone, ms))
			fail_msg("%s at %llu: offset %d min, expected %ld s", ctl_zone_name(zone), (unsigned long long)ms,
				 ctl_zone_offset_minutes(zone, ms), tm.tm_gmtoff);
	}
}

static void test_offsets_are_those_of_the_c_library(void **state)
{
	(void)state;
	each_zone(offsets_of);
}

static int64_t day_number(const struct tm *tm)
{
	return ctl_zone_days(tm->tm_year + 1900, (uint32_t)tm->tm_mon + 1, (uint32_t)tm->tm_mday);
}

/* What must be true of a start, said with the C library alone. */
static void start_holds(const struct ctl_zone *zone, enum ctl_zone_unit unit, uint64_t start)
{
	if (start < 2 * 24 * HOUR_MS) /* the epoch itself cuts off a period */
		return;
	struct tm at = local(start), before = local(start - 1000);
	if (!whole_minutes(&at) || !whole_minutes(&before))
		return;
	bool good = day_number(&before) < day_number(&at);
	if (unit == CTL_ZONE_MONTH)
		good = good && before.tm_mon != at.tm_mon;
	if (unit == CTL_ZONE_HOUR)
		good = (at.tm_min == 0 && at.tm_sec == 0) || at.tm_gmtoff != before.tm_gmtoff;
	if (!good)
		fail_msg("%s: unit %d begins at %llu: %02d-%02d %02d:%02d after %02d-%02d %02d:%02d", ctl_zone_name(zone), unit,
			 (unsigned long long)start, at.tm_mon + 1, at.tm_mday, at.tm_hour, at.tm_min, before.tm_mon + 1,
			 before.tm_mday, before.tm_hour, before.tm_min);
}

static void units_of(const struct ctl_zone *zone)
{
	static const uint64_t longest[] = {2 * HOUR_MS, 49 * HOUR_MS, 33 * 24 * HOUR_MS};

	for (int i = 0; i < 60; i++) {
		enum ctl_zone_unit unit = (enum ctl_zone_unit)any(3);
		/* near a change of the clocks, half of the time */
		uint64_t ms = any(YEARS_MS);
		if (zone->spans > 1 && any(2)) {
			int64_t s = zone->span[1 + any(zone->spans - 1)].from_s;
			if (s > 3 * 86400)
				ms = (uint64_t)s * 1000 + any(49 * HOUR_MS) - 24 * HOUR_MS;
		}
		uint64_t from = ctl_zone_floor(zone, unit, ms), to = ctl_zone_next(zone, unit, ms);
		assert_true(from <= ms && ms < to && to - from <= longest[unit]);
		assert_int_equal(from, ctl_zone_floor(zone, unit, to - 1));
		assert_int_equal(to, ctl_zone_next(zone, unit, from));
		assert_int_equal(to, ctl_zone_floor(zone, unit, to));
		start_holds(zone, unit, from);
		start_holds(zone, unit, to);
		/* and nothing is left out in between: no other start */
		uint64_t most = to - from > 60 * 60000 ? 60 : (to - from) / 60000;
		for (uint64_t k = 0; k < most; k++)
			assert_int_equal(from, ctl_zone_floor(zone, unit, from + any(to - from)));
	}
}

static void test_hours_days_and_months_begin_where_local_time_says(void **state)
{
	(void)state;
	each_zone(units_of);
}

/* Walking from start to start meets each local date once, as the C library names them. */
static void test_every_day_of_a_year_comes_once(void **state)
{
	static const char *const names[] = {"Europe/Berlin", "America/New_York",   "America/St_Johns", "Asia/Beirut",
					    "UTC",           "Australia/Lord_Howe"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct ctl_zone *zone = zone_of(names[i]);
		setenv("TZ", names[i], 1);
		tzset();
		uint64_t ms = 0, end = 0;
		assert_true(ctl_zone_date(zone, 2010, 1, 1, &ms) && ctl_zone_date(zone, 2031, 1, 1, &end));
		struct tm tm = local(ms);
		for (int64_t day = day_number(&tm); ms < end; day++, ms = ctl_zone_next(zone, CTL_ZONE_DAY, ms)) {
			tm = local(ms);
			assert_int_equal(day_number(&tm), day);
		}
		assert_int_equal(ms, end);
	}
	unsetenv("TZ");
	tzset();
}

static uint64_t hours_of_day(const char *name, uint32_t year, uint32_t month, uint32_t day)
{
	const struct ctl_zone *zone = zone_of(name);
	uint64_t from = 0;
	assert_true(ctl_zone_date(zone, year, month, day, &from));
	return (ctl_zone_next(zone, CTL_ZONE_DAY, from) - from) / HOUR_MS;
}

static void test_days_of_23_and_25_hours(void **state)
{
	uint64_t ms = 0, from = 0;

	(void)state;
	assert_int_equal(hours_of_day("Europe/Berlin", 2026, 3, 29), 23);
	assert_int_equal(hours_of_day("Europe/Berlin", 2026, 10, 25), 25);
	assert_int_equal(hours_of_day("Europe/Berlin", 2026, 10, 26), 24);
	assert_int_equal(hours_of_day("America/New_York", 2026, 3, 8), 23);
	assert_int_equal(hours_of_day("America/New_York", 2026, 11, 1), 25);
	assert_int_equal(hours_of_day("Europe/Berlin", 2426, 3, 29), 23); /* spelled out no more: a cycle later */
	assert_int_equal(hours_of_day("UTC", 2026, 3, 29), 24);
	/* midnight itself is skipped: the day begins at one */
	const struct ctl_zone *beirut = zone_of("Asia/Beirut");
	char text[CTL_ZONE_TEXT_BYTES];
	assert_true(ctl_zone_date(beirut, 2022, 3, 27, &ms));
	ctl_zone_text(beirut, ms, text);
	assert_string_equal(text, "2022-03-27T01:00:00+03:00");
	/* a date that was left out */
	const struct ctl_zone *apia = zone_of("Pacific/Apia");
	assert_true(ctl_zone_date(apia, 2011, 12, 29, &from));
	ctl_zone_text(apia, ctl_zone_next(apia, CTL_ZONE_DAY, from), text);
	assert_string_equal(text, "2011-12-31T00:00:00+14:00");
	/* an hour that is there twice is two hours */
	const struct ctl_zone *berlin = zone_of("Europe/Berlin");
	assert_true(ctl_zone_date(berlin, 2026, 10, 25, &from));
	uint32_t hours = 0;
	for (ms = from; ms < from + 25 * HOUR_MS; ms = ctl_zone_next(berlin, CTL_ZONE_HOUR, ms))
		hours++;
	assert_int_equal(hours, 25);
}

static void test_texts(void **state)
{
	char text[CTL_ZONE_TEXT_BYTES];

	(void)state;
	assert_int_equal(ctl_zone_text(zone_of("Europe/Berlin"), 1774742400000, text), 25);
	assert_string_equal(text, "2026-03-29T01:00:00+01:00");
	ctl_zone_text(zone_of("Europe/Berlin"), 1774746000000, text);
	assert_string_equal(text, "2026-03-29T03:00:00+02:00");
	ctl_zone_text(zone_of("America/St_Johns"), 1774746000250, text);
	assert_string_equal(text, "2026-03-28T22:30:00.250-02:30");
	ctl_zone_text(zone_of("Europe/London"), 1767225600000, text);
	assert_string_equal(text, "2026-01-01T00:00:00+00:00");
	ctl_zone_text(zone_of("UTC"), 1767225600000, text);
	assert_string_equal(text, "2026-01-01T00:00:00Z");
	ctl_zone_text(zone_of("America/New_York"), 0, text);
	assert_string_equal(text, "1969-12-31T19:00:00-05:00");
}

static void test_names_that_are_none(void **state)
{
	static const char *const names[] = {
		"",           "Nowhere/City",  "../../../etc/passwd", "/etc/localtime",   "localtime",
		"Europe",     "Europe/",       "right/Europe/Berlin", "zone1970.tab",     "Europe//Berlin",
		"posixrules", "europe/berlin", "Europe/Berlin\n",     "leap-seconds.list"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (ctl_zone_find(names[i], strlen(names[i])))
			fail_msg("\"%s\" was found", names[i]);
	}
	assert_null(ctl_zone_find("Europe/Berlin\0x", 15));
	assert_ptr_equal(zone_of("Europe/Berlin"), zone_of("Europe/Berlin"));
	assert_true(ctl_zone_installed());
	uint64_t ms;
	assert_false(ctl_zone_date(ctl_zone_utc(), 2026, 2, 29, &ms));
	assert_false(ctl_zone_date(ctl_zone_utc(), 2026, 13, 1, &ms));
	assert_false(ctl_zone_date(ctl_zone_utc(), 1969, 12, 31, &ms));
	assert_true(ctl_zone_date(ctl_zone_utc(), 2028, 2, 29, &ms));
}

/* A file that has nothing but the rule in its footer. */
static struct ctl_zone *zone_of_rule(const char *rule)
{
	uint8_t bytes[512] = {0}, *at = bytes;

	for (int version = 1; version <= 2; version++, at += 44 + 6 + 4) {
		memcpy(at, "TZif2", 5);
		at[39] = 1; /* types */
		at[43] = 4; /* characters */
	}
	int n = snprintf((char *)at, 256, "\n%s\n", rule);
	return ctl_tzif_read(bytes, (size_t)(at - bytes) + (size_t)n);
}

/* Rules of every kind, which tzdata uses or may use one day, as the C library takes them from TZ itself. */
static void test_rules_of_a_footer(void **state)
{
	static const char *const rules[] = {
		"XXX0YYY,J60,J300",
		"XXX-1YYY,59/3,J305/25",
		"XXX5YYY4:30,M3.2.0,M11.1.0",
		"<-03>3<-02>,M3.5.0/-2,M10.5.0/-1",
		"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
		"XXX3",
		"IST-1GMT0,M10.5.0,M3.5.0/1",
		"EET-2EEST,M3.4.4/50,M10.4.4/50",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct ctl_zone *zone = zone_of_rule(rules[i]);
		if (!zone)
			fail_msg("%s: not read", rules[i]);
		setenv("TZ", rules[i], 1);
		tzset();
		for (int k = 0; k < 20000; k++) {
			uint64_t ms = 365 * 24 * HOUR_MS + any(10 * YEARS_MS); /* beyond the first cycle */
			struct tm tm = local(ms);
			if (tm.tm_gmtoff != 60 * ctl_zone_offset_minutes(zone, ms))
				fail_msg("%s at %llu: offset %d min, expected %ld s", rules[i], (unsigned long long)ms,
					 ctl_zone_offset_minutes(zone, ms), tm.tm_gmtoff);
		}
		free(zone);
	}
	unsetenv("TZ");
	tzset();
	assert_null(zone_of_rule("XXX0YYY"));
	assert_null(zone_of_rule("XX0"));
	assert_null(zone_of_rule("XXX0YYY,M13.1.0,M1.1.0"));
}

/* A damaged file is refused or read as some zone; it never makes us read or write outside, or run for ever. */
static void test_damaged_files(void **state)
{
	static const char *const names[] = {"Europe/Berlin", "America/St_Johns", "UTC"};
	static uint8_t bytes[65536], copy[65536];
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/usr/share/zoneinfo/%s", names[i]);
		FILE *file = fopen(path, "r");
		assert_non_null(file);
		size_t count = fread(bytes, 1, sizeof(bytes), file);
		fclose(file);
		for (int round = 0; round < 3000; round++) {
			size_t cut = any(4) ? count : any(count + 1);
			uint8_t *exact = malloc(cut ? cut : 1); /* so that a read beyond it is seen */
			assert_non_null(exact);
			memcpy(copy, bytes, count);
			for (uint64_t flips = 1 + any(4); flips-- > 0;)
				copy[any(3) ? any(count) : count - 1 - any(count < 40 ? count : 40)] = (uint8_t)any(256);
			memcpy(exact, copy, cut);
			struct ctl_zone *zone = ctl_tzif_read(exact, cut);
			if (zone) {
				for (int k = 0; k < 8; k++) {
					uint64_t ms = any(YEARS_MS);
					enum ctl_zone_unit unit = (enum ctl_zone_unit)any(3);
					assert_true(ctl_zone_floor(zone, unit, ms) <= ms);
					assert_true(ctl_zone_next(zone, unit, ms) > ms);
				}
			}
			free(zone);
			free(exact);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offsets_are_those_of_the_c_library),
		cmocka_unit_test(test_hours_days_and_months_begin_where_local_time_says),
		cmocka_unit_test(test_every_day_of_a_year_comes_once),
		cmocka_unit_test(test_days_of_23_and_25_hours),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_names_that_are_none),
		cmocka_unit_test(test_rules_of_a_footer),
		cmocka_unit_test(test_damaged_files),
	};
	return cmocka_run_group_tests_name("ctl_zone", tests, NULL, NULL);
}
