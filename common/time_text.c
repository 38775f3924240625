/*
 * Points in time as text (RFC 3339) and the two clocks. Any thread; the text functions are pure.
 *
 * Days are counted in the proleptic Gregorian calendar, with years that begin in March so that the leap day is the last one
 * (E. G. Richards, "Mapping Time", 1998; the form with eras of 400 years). UTC has no leap seconds here: a second 60 is read
 * as the first of the next minute, which is what POSIX time does.
 */
#include "turnpike/text.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum { DAY_MS = 86400000 };

/* Days since 1970-01-01 of a date; month 1..12. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
	year -= month <= 2;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
	return era * 146097 + day_of_era - 719468;
}

static void date_of(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	int64_t day_of_era = days - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * day_of_year + 2) / 153;
	*day = (unsigned)(day_of_year - (153 * shifted + 2) / 5 + 1);
	*month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
	*year = year_of_era + era * 400 + (*month <= 2);
}

/* `width` digits, more if the number is longer. */
static char *digits_put(char *to, uint64_t value, int width)
{
	char digit[20];
	int count = 0;
	do
		digit[count++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	while (count < width)
		digit[count++] = '0';
	while (count > 0)
		*to++ = digit[--count];
	return to;
}

size_t tp_time_text(uint64_t ms, char *to)
{
	int64_t year;
	unsigned month, day;
	date_of((int64_t)(ms / DAY_MS), &year, &month, &day);
	uint64_t rest = ms % DAY_MS;
	char *at = digits_put(to, (uint64_t)year, 4);
	*at++ = '-';
	at = digits_put(at, month, 2);
	*at++ = '-';
	at = digits_put(at, day, 2);
	*at++ = 'T';
	at = digits_put(at, rest / 3600000, 2);
	*at++ = ':';
	at = digits_put(at, rest / 60000 % 60, 2);
	*at++ = ':';
	at = digits_put(at, rest / 1000 % 60, 2);
	if (rest % 1000 > 0) {
		*at++ = '.';
		at = digits_put(at, rest % 1000, 3);
	}
	*at++ = 'Z';
	*at = 0;
	return (size_t)(at - to);
}

/* Exactly `count` digits at *at, or -1. */
static int digits_take(const char *text, size_t bytes, size_t *at, unsigned count)
{
	int value = 0;
	if (bytes - *at < count)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		char c = text[*at + i];
		if ((unsigned char)(c - '0') >= 10)
			return -1;
		value = value * 10 + (c - '0');
	}
	*at += count;
	return value;
}

static bool char_take(const char *text, size_t bytes, size_t *at, char wanted)
{
	if (*at == bytes || text[*at] != wanted)
		return false;
	++*at;
	return true;
}

static int plain_parse(const char *text, size_t bytes, uint64_t *ms)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < bytes; i++) {
		if ((unsigned char)(text[i] - '0') >= 10 || __builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)(text[i] - '0'), &sum))
			return -EINVAL;
	}
	*ms = sum;
	return 0;
}

int tp_time_parse(const char *text, size_t bytes, uint64_t *ms)
{
	if (bytes == 0)
		return -EINVAL;
	if (bytes < 5 || text[4] != '-')
		return plain_parse(text, bytes, ms);
	size_t at = 0;
	int year = digits_take(text, bytes, &at, 4);
	if (year < 0 || !char_take(text, bytes, &at, '-'))
		return -EINVAL;
	int month = digits_take(text, bytes, &at, 2);
	if (month < 1 || month > 12 || !char_take(text, bytes, &at, '-'))
		return -EINVAL;
	int day = digits_take(text, bytes, &at, 2);
	static const uint8_t month_days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	if (day < 1 || day > month_days[month - 1] + (leap && month == 2))
		return -EINVAL;
	if (at == bytes || (text[at] != 'T' && text[at] != 't' && text[at] != ' '))
		return -EINVAL;
	at++;
	int hour = digits_take(text, bytes, &at, 2);
	if (hour < 0 || hour > 23 || !char_take(text, bytes, &at, ':'))
		return -EINVAL;
	int minute = digits_take(text, bytes, &at, 2);
	if (minute < 0 || minute > 59 || !char_take(text, bytes, &at, ':'))
		return -EINVAL;
	int second = digits_take(text, bytes, &at, 2);
	if (second < 0 || second > 60)
		return -EINVAL;
	int64_t fraction_ms = 0;
	if (char_take(text, bytes, &at, '.')) {
		size_t start = at;
		for (int64_t weight = 100; at < bytes && (unsigned char)(text[at] - '0') < 10; at++, weight /= 10)
			fraction_ms += weight * (text[at] - '0');
		if (at == start || at - start > 9)
			return -EINVAL;
	}
	if (at == bytes)
		return -EINVAL;
	int64_t offset_min = 0;
	char zone = text[at++];
	if (zone == '+' || zone == '-') {
		int zone_hour = digits_take(text, bytes, &at, 2);
		if (zone_hour < 0 || zone_hour > 23 || !char_take(text, bytes, &at, ':'))
			return -EINVAL;
		int zone_minute = digits_take(text, bytes, &at, 2);
		if (zone_minute < 0 || zone_minute > 59)
			return -EINVAL;
		offset_min = (zone == '-' ? -1 : 1) * (zone_hour * 60 + zone_minute);
	} else if (zone != 'Z' && zone != 'z') {
		return -EINVAL;
	}
	if (at != bytes)
		return -EINVAL;
	int64_t sum = days_of(year, (unsigned)month, (unsigned)day) * DAY_MS;
	sum += ((hour * 60 + minute - offset_min) * 60 + second) * 1000 + fraction_ms;
	if (sum < 0) /* before 1970: no event has such a stamp */
		return -EINVAL;
	*ms = (uint64_t)sum;
	return 0;
}

uint64_t tp_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t tp_mono_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
