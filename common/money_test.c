/* Money as text: every spelling of a value gives that value, whatever needs a seventh decimal or passes a million gives none. */
#include "turnpike/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, size_t bytes, int64_t *micros)
{
	char *copy = malloc(bytes ? bytes : 1); /* exact, so that the address sanitizer sees a read behind it */
	memcpy(copy, text, bytes);
	int status = tp_micros_parse(copy, bytes, micros);
	free(copy);
	return status;
}

static void values_are_exact(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t micros;
	} row[] = {
		{"0", 0},
		{"-0", 0},
		{"-0.000e5", 0},
		{"0.0", 0},
		{"0e0", 0},
		{"0e99999999999999999999", 0},
		{"0.000e-99999999999999999999", 0},
		{"0.0000000000000000000000000", 0},
		{"1", 1000000},
		{"0.000001", 1},
		{"1e-6", 1},
		{"0.0000001e1", 1},
		{"0.0000000000001e7", 1},
		{"10e-7", 1},
		{"1000000e-12", 1},
		{"1e2", 100000000},
		{"1E+0", 1000000},
		{"1E0002", 100000000},
		{"0.5000000", 500000},
		{"0.50000000000000000000000000000000000000000000000", 500000},
		{"2.5", 2500000},
		{"0.1", 100000},
		{"0.3", 300000},
		{"12.345678", 12345678},
		{"12345678e-6", 12345678},
		{"999999.999999", 999999999999},
		{"1000000", 1000000000000},
		{"1000000.000000000", 1000000000000},
		{"1e6", 1000000000000},
		{"1.0e6", 1000000000000},
		{"100000000e-2", 1000000000000},
		{"1000000000000000000000000000000e-24", 1000000000000},
		{"0.00000000000000000000000001e32", 1000000000000},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		int64_t micros = -1;
		if (parse(row[i].text, strlen(row[i].text), &micros))
			fail_msg("%s was refused", row[i].text);
		if (micros != row[i].micros)
			fail_msg("%s: %lld", row[i].text, (long long)micros);
	}
}

static void what_is_no_number_is_refused(void **state)
{
	(void)state;
	static const char *const text[] = {
		"",   "-",   "+1",   ".5",   "1.",   "01",  "00",   "-01",   "1e",    "1e+", "1e-",      "1e1.0", "0x10", "1,5",
		" 1", "1 ",  "1..",  "1.2.", "1.e5", "--1", "-+1",  "1e++",  "1e5x",  "NaN", "Infinity", "1_0",   "1f",   "e5",
		".",  "-.5", "1e 5", "1\n",  "0.e1", "१",   "1.5e", "\"1\"", "1e5e5", "0 0", "-a",       "1-",    "0e",
	};
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
		int64_t micros = 77;
		int status = parse(text[i], strlen(text[i]), &micros);
		if (status != -EINVAL)
			fail_msg("%s: %d", text[i], status);
		assert_int_equal(micros, 77);
	}
	int64_t micros;
	assert_int_equal(parse("1\0", 2, &micros), -EINVAL);
}

static void what_is_out_of_range_is_refused(void **state)
{
	(void)state;
	static const char *const text[] = {
		"-1",
		"-0.000001",
		"-1e-999999999999",
		"-1e999999999999",
		"0.0000001",
		"1e-7",
		"0.1234567",
		"1.0000001",
		"999999.9999999",
		"1000000.000001",
		"1000000.0000000000001",
		"1000001",
		"1e7",
		"9999999",
		"10000000000000000000000000000000000000000",
		"1e999999999999",
		"1e-999999999999",
		"1e99999999999999999999999999999999",
		"1e-99999999999999999999999999999999",
		"1e9223372036854775807",
		"1e-9223372036854775808",
		"1e18446744073709551616",
		"1e18446744073709551610",
		"0.00000000000000000000000000000000000001",
		"18446744073709551617e-6",
	};
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
		int64_t micros = 77;
		int status = parse(text[i], strlen(text[i]), &micros);
		if (status != -ERANGE)
			fail_msg("%s: %d, %lld", text[i], status, (long long)micros);
		assert_int_equal(micros, 77);
	}
}

/* A digit string of a megabyte, with an exponent that brings it back. */
static void long_texts_are_handled(void **state)
{
	(void)state;
	enum { ZEROS = 1 << 20 };
	static char text[ZEROS + 32];
	int64_t micros;
	text[0] = '1';
	memset(text + 1, '0', ZEROS);
	int tail = sprintf(text + 1 + ZEROS, "e-%d", ZEROS);
	assert_int_equal(parse(text, 1 + ZEROS + (size_t)tail, &micros), 0);
	assert_int_equal(micros, 1000000);
	tail = sprintf(text + 1 + ZEROS, "e-%d", ZEROS + 7);
	assert_int_equal(parse(text, 1 + ZEROS + (size_t)tail, &micros), -ERANGE);
	memcpy(text, "0.", 2);
	memset(text + 2, '0', ZEROS - 2);
	tail = sprintf(text + ZEROS, "25e%d", ZEROS - 2);
	assert_int_equal(parse(text, ZEROS + (size_t)tail, &micros), 0);
	assert_int_equal(micros, 250000);
	memcpy(text, "1e", 2);
	memset(text + 2, '0', ZEROS);
	text[2 + ZEROS] = '3';
	assert_int_equal(parse(text, 3 + ZEROS, &micros), 0);
	assert_int_equal(micros, 1000000000);
}

static uint32_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

/* A value, spelled with the point anywhere and an exponent that makes up for it: digits * 10^power. */
static void every_spelling_is_the_same(void **state)
{
	(void)state;
	uint64_t seed = 5;
	for (int i = 0; i < 100000; i++) {
		uint64_t value = ((uint64_t)random_next(&seed) << 31 | random_next(&seed)) % 1200000000000;
		if (random_next(&seed) % 2)
			value /= 1000000;
		char digit[64];
		int pad = (int)(random_next(&seed) % 5), count = sprintf(digit, "%llu", (unsigned long long)value);
		while (pad-- > 0)
			digit[count++] = '0', digit[count] = 0;
		/* the digits are micros times ten to the zeros added; put the point after the `whole`-th of them */
		int zeros = count - snprintf(NULL, 0, "%llu", (unsigned long long)value);
		int whole = 1 + (int)random_next(&seed) % count;
		if (digit[0] == '0')
			whole = 1;
		int exponent = count - whole - zeros - 6;
		char text[128];
		int bytes = sprintf(text, "%.*s%s%s%c%+d", whole, digit, whole < count ? "." : "", digit + whole,
				    random_next(&seed) % 2 ? 'e' : 'E', exponent);
		int64_t micros = -1;
		int status = parse(text, (size_t)bytes, &micros);
		if (status != (value > 1000000000000 ? -ERANGE : 0))
			fail_msg("%s: %d", text, status);
		if (status == 0 && micros != (int64_t)value)
			fail_msg("%s: %lld, expected %llu", text, (long long)micros, (unsigned long long)value);
		if (status == 0 && value % 10) { /* one decimal more is one too many */
			bytes = sprintf(text, "%.*s%s%se%d", whole, digit, whole < count ? "." : "", digit + whole, exponent - 1);
			assert_int_equal(parse(text, (size_t)bytes, &micros), -ERANGE);
		}
	}
}

static void sums_have_six_decimals(void **state)
{
	(void)state;
	char text[64];
	static const struct {
		int64_t micros;
		const char *text;
	} row[] = {
		{0, "0.000000"},
		{1, "0.000001"},
		{-1, "-0.000001"},
		{999999, "0.999999"},
		{1000000, "1.000000"},
		{12345678, "12.345678"},
		{-12345678, "-12.345678"},
		{INT64_MAX, "9223372036854.775807"},
		{INT64_MIN, "-9223372036854.775808"},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		assert_int_equal(tp_micros_text(row[i].micros, text), strlen(row[i].text));
		assert_string_equal(text, row[i].text);
	}
	const __int128 most = (__int128)(~(unsigned __int128)0 >> 1);
	tp_micros_text(most, text);
	assert_string_equal(text, "170141183460469231731687303715884.105727");
	tp_micros_text(-most - 1, text);
	assert_string_equal(text, "-170141183460469231731687303715884.105728");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_exact),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(what_is_out_of_range_is_refused),
		cmocka_unit_test(long_texts_are_handled),
		cmocka_unit_test(every_spelling_is_the_same),
		cmocka_unit_test(sums_have_six_decimals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
