/* Points in time as text, against the C library and there and back; durations and sizes with units; the clocks. */
#include "turnpike/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void times_are_written_and_read(void **state)
{
	(void)state;
	static const struct {
		uint64_t ms;
		const char *text;
	} row[] = {
		{0, "1970-01-01T00:00:00Z"},
		{1, "1970-01-01T00:00:00.001Z"},
		{951782400000, "2000-02-29T00:00:00Z"},
		{951868799999, "2000-02-29T23:59:59.999Z"},
		{1795303530000, "2026-11-21T23:25:30Z"},
		{1795303530250, "2026-11-21T23:25:30.250Z"},
		{4107542400000, "2100-03-01T00:00:00Z"},
		{253402300799999, "9999-12-31T23:59:59.999Z"},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		char text[32];
		uint64_t ms;
		assert_int_equal(tp_time_text(row[i].ms, text), strlen(row[i].text));
		assert_string_equal(text, row[i].text);
		assert_int_equal(tp_time_parse(row[i].text, strlen(row[i].text), &ms), 0);
		assert_int_equal(ms, row[i].ms);
	}
	char text[32];
	assert_in_range(tp_time_text(UINT64_MAX, text), 20, 31); /* absurd, but within its room */
}

static void other_spellings_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t ms;
	} row[] = {
		{"0", 0},
		{"1795303530000", 1795303530000},
		{"18446744073709551615", UINT64_MAX},
		{"2026-11-22T00:25:30+01:00", 1795303530000},
		{"2026-11-21T15:25:30-08:00", 1795303530000},
		{"2026-11-22t05:10:30.0+05:45", 1795303530000},
		{"2026-11-21 23:25:30z", 1795303530000},
		{"2026-11-21T23:25:30-00:00", 1795303530000},
		{"2026-11-21T23:25:30.2z", 1795303530200},
		{"2026-11-21T23:25:30.2509Z", 1795303530250},
		{"2026-11-21T23:25:30.999999999Z", 1795303530999},
		{"2016-12-31T23:59:60Z", 1483228800000}, /* a leap second */
		{"1970-01-01T01:00:00+01:00", 0},
		{"1969-12-31T23:00:00-01:00", 0},
		{"2024-02-29T00:00:00Z", 1709164800000},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		uint64_t ms = 77;
		if (tp_time_parse(row[i].text, strlen(row[i].text), &ms))
			fail_msg("%s was refused", row[i].text);
		if (ms != row[i].ms)
			fail_msg("%s: %llu", row[i].text, (unsigned long long)ms);
	}
}

static void what_is_no_time_is_refused(void **state)
{
	(void)state;
	static const char *const text[] = {
		"",
		"-1",
		"1.5",
		"12a",
		"1e12",
		" 0",
		"18446744073709551616",
		"99999999999999999999999",
		"2026-",
		"2026-11-21",
		"2026-11-21T23:25:30",
		"2026-11-21T23:25Z",
		"2026-13-01T00:00:00Z",
		"2026-00-01T00:00:00Z",
		"2026-02-29T00:00:00Z",
		"2100-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2026-11-00T00:00:00Z",
		"2026-11-21T24:00:00Z",
		"2026-11-21T23:60:00Z",
		"2026-11-21T23:25:61Z",
		"2026-11-21T23:25:30.Z",
		"2026-11-21T23:25:30.1234567890Z",
		"2026-11-21T23:25:30+1:00",
		"2026-11-21T23:25:30+0100",
		"2026-11-21T23:25:30+24:00",
		"2026-11-21T23:25:30+01:60",
		"2026-11-21T23:25:30+01:00x",
		"2026-11-21T23:25:30Z ",
		"2026-11-21X23:25:30Z",
		"2026/11/21T23:25:30Z",
		"2026-1-21T23:25:30Z",
		"+026-11-21T23:25:30Z",
		"1969-12-31T23:59:59Z",
		"1970-01-01T00:00:00+00:01",
		"0000-01-01T00:00:00Z",
	};
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
		uint64_t ms;
		if (tp_time_parse(text[i], strlen(text[i]), &ms) != -EINVAL)
			fail_msg("%s was taken", text[i]);
	}
	/* every shorter piece of a good one is either no time or plain milliseconds */
	static const char whole[] = "2026-11-21T23:25:30.250+01:00";
	uint64_t ms;
	for (size_t bytes = 5; bytes < sizeof whole - 1; bytes++)
		assert_int_equal(tp_time_parse(whole, bytes, &ms), -EINVAL);
}

static void every_day_agrees_with_the_library(void **state)
{
	(void)state;
	for (int64_t day = 0; day < 366 * 250; day++) {
		time_t seconds = (time_t)(day * 86400 + day % 86400);
		struct tm broken;
		gmtime_r(&seconds, &broken);
		char expected[64], text[32];
		strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &broken);
		tp_time_text((uint64_t)seconds * 1000, text);
		assert_string_equal(text, expected);
		uint64_t ms;
		assert_int_equal(tp_time_parse(text, strlen(text), &ms), 0);
		assert_int_equal(ms, (uint64_t)seconds * 1000);
	}
}

static void durations_have_units(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t ns;
	} row[] = {
		{"0", 0},
		{"0s", 0},
		{"7ns", 7},
		{"250us", 250000},
		{"1ms", 1000000},
		{"60s", 60000000000},
		{"15m", 900000000000},
		{"1h", 3600000000000},
		{"30d", 2592000000000000},
		{"2w", 1209600000000000},
		{"10y", 315360000000000000},
		{"18446744073709551615ns", UINT64_MAX},
		{"007s", 7000000000},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		uint64_t ns;
		if (tp_duration_parse(row[i].text, strlen(row[i].text), &ns))
			fail_msg("%s was refused", row[i].text);
		assert_int_equal(ns, row[i].ns);
	}
	static const char *const bad[] = {"",     "s",  "1",    "60", "1 s",  " 1s", "1s ",  "-1s",
					  "1.5h", "1S", "1min", "1M", "1sec", "00",  "1e3s", "+1s"};
	uint64_t ns = 77;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (tp_duration_parse(bad[i], strlen(bad[i]), &ns) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
	static const char *const far[] = {"585y", "18446744073709551616ns", "99999999999999999999999s", "18446744073709552s"};
	for (size_t i = 0; i < sizeof far / sizeof far[0]; i++)
		assert_int_equal(tp_duration_parse(far[i], strlen(far[i]), &ns), -ERANGE);
	assert_int_equal(ns, 77);
}

static void sizes_have_units(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t size;
	} row[] = {
		{"0", 0},
		{"4096", 4096},
		{"4096B", 4096},
		{"64KiB", 65536},
		{"256MiB", 1 << 28},
		{"1GiB", 1 << 30},
		{"2TiB", UINT64_C(2) << 40},
		{"18446744073709551615", UINT64_MAX},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		uint64_t size;
		assert_int_equal(tp_size_parse(row[i].text, strlen(row[i].text), &size), 0);
		assert_int_equal(size, row[i].size);
	}
	static const char *const bad[] = {
		"", "KiB", "1KB", "1kib", "1 KiB", "-1", "1.5GiB", "18446744073709551616", "17179869184GiB", "1K"};
	uint64_t size;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (tp_size_parse(bad[i], strlen(bad[i]), &size) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
}

static void clocks_go_forward(void **state)
{
	(void)state;
	assert_true(tp_now_ms() > UINT64_C(1600000000000));
	uint64_t last = tp_mono_ns();
	for (int i = 0; i < 1000; i++) {
		uint64_t now = tp_mono_ns();
		assert_true(now >= last);
		last = now;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_written_and_read), cmocka_unit_test(other_spellings_are_read),
		cmocka_unit_test(what_is_no_time_is_refused), cmocka_unit_test(every_day_agrees_with_the_library),
		cmocka_unit_test(durations_have_units),       cmocka_unit_test(sizes_have_units),
		cmocka_unit_test(clocks_go_forward),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
