/*
 * Reads a TZif file, version 2 or later (RFC 9636): the transitions that it lists, and those that the rule in its footer makes beyond.
 *
 *   header ─ data with 32-bit times (skipped) ─ header ─ data with 64-bit times ─ "\n" POSIX rule "\n"
 *
 * The rule is spelled out for 400 years and a bit; after these the Gregorian calendar repeats, weekdays and all, so ctl_zone.c goes on
 * from there by whole cycles. Files with leap seconds are refused: our stamps have none.
 *
 * Pure; any thread. The bytes come from the machine's tzdata, but nothing here trusts them.
 */
#include "ctl_zone.h"

#include <stdlib.h>
#include <string.h>

#define DAY_S      86400
#define HOUR_S_MAX 167 /* of a rule's time of day, RFC 9636 section 3.3.1 */

enum { HEADER_BYTES = 44, TIMES_MAX = 4096, TYPES_MAX = 256, CYCLE_YEARS = 400, OFFSET_S_MAX = 26 * 3600 };

/* The numbers at the end of a header. */
struct counts {
	uint32_t isut, isstd, leap, time, type, chars;
};

static uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t be64(const uint8_t *at)
{
	return (int64_t)((uint64_t)be32(at) << 32 | be32(at + 4));
}

static bool header_read(const uint8_t *at, size_t left, struct counts *counts)
{
	if (left < HEADER_BYTES || memcmp(at, "TZif", 4) != 0 || at[4] < '2')
		return false;
	*counts = (struct counts){be32(at + 20), be32(at + 24), be32(at + 28), be32(at + 32), be32(at + 36), be32(at + 40)};
	return counts->leap == 0 && counts->time <= TIMES_MAX && counts->type >= 1 && counts->type <= TYPES_MAX &&
	       counts->chars <= 4096 && counts->isut <= TYPES_MAX && counts->isstd <= TYPES_MAX;
}

static size_t data_bytes(const struct counts *counts, size_t time_bytes)
{
	return counts->time * (time_bytes + 1) + counts->type * 6 + counts->chars + counts->isstd + counts->isut;
}

/* ---- making spans ---- */

static int32_t whole_minutes(int32_t offset_s)
{
	int32_t up = offset_s + (offset_s < 0 ? -30 : 30);
	return up - up % 60;
}

static void span_add(struct ctl_zone *zone, int64_t from_s, int32_t offset_s)
{
	int32_t offset = whole_minutes(offset_s);

	if (zone->spans && zone->span[zone->spans - 1].offset_s == offset)
		return;
	/* out of order: a rule with more than a year of summer, or a damaged file; the later word counts */
	while (zone->spans > 1 && zone->span[zone->spans - 1].from_s >= from_s)
		zone->spans--;
	if (zone->span[zone->spans ? zone->spans - 1 : 0].offset_s == offset && zone->spans)
		return;
	zone->span[zone->spans++] = (struct ctl_zone_span){.from_s = from_s - from_s % 60, .offset_s = offset};
}

/* ---- the rule in the footer ---- */

enum day_kind { DAY_JULIAN, DAY_ZERO, DAY_MONTH };

struct day_rule {
	enum day_kind kind;
	int32_t day, week, month;
	int32_t time_s;
};

struct rule {
	int32_t standard_s, summer_s; /* local less UTC */
	bool has_summer;
	struct day_rule begin, end;
};

static bool number(const char **at, int32_t most, int32_t *value)
{
	const char *from = *at;

	*value = 0;
	while (**at >= '0' && **at <= '9' && *at - from < 4)
		*value = 10 * *value + (*(*at)++ - '0');
	return *at > from && *value <= most;
}

static bool name_skip(const char **at)
{
	const char *from = *at;

	if (**at == '<') {
		*at += strcspn(*at, ">");
		if (**at != '>')
			return false;
		(*at)++;
		return true;
	}
	while ((**at >= 'a' && **at <= 'z') || (**at >= 'A' && **at <= 'Z'))
		(*at)++;
	return *at - from >= 3;
}

/* [+-]hh[:mm[:ss]] */
static bool time_read(const char **at, int32_t hours_max, int32_t *seconds)
{
	int32_t sign = 1, hours, minutes = 0, rest = 0;

	if (**at == '-' || **at == '+')
		sign = *(*at)++ == '-' ? -1 : 1;
	if (!number(at, hours_max, &hours))
		return false;
	if (**at == ':' && ((*at)++, !number(at, 59, &minutes)))
		return false;
	if (**at == ':' && ((*at)++, !number(at, 59, &rest)))
		return false;
	*seconds = sign * (3600 * hours + 60 * minutes + rest);
	return true;
}

static bool day_read(const char **at, struct day_rule *day)
{
	day->time_s = 2 * 3600;
	if (**at == 'M') {
		day->kind = DAY_MONTH;
		(*at)++;
		if (!number(at, 12, &day->month) || day->month < 1 || *(*at)++ != '.' || !number(at, 5, &day->week) ||
		    day->week < 1 || *(*at)++ != '.' || !number(at, 6, &day->day))
			return false;
	} else {
		day->kind = **at == 'J' ? DAY_JULIAN : DAY_ZERO;
		*at += **at == 'J';
		if (!number(at, 365, &day->day) || (day->kind == DAY_JULIAN && day->day < 1))
			return false;
	}
	return **at != '/' || ((*at)++, time_read(at, HOUR_S_MAX, &day->time_s));
}

static bool rule_read(const char *at, struct rule *rule)
{
	*rule = (struct rule){0};
	if (!name_skip(&at) || !time_read(&at, 24, &rule->standard_s))
		return false;
	rule->standard_s = -rule->standard_s; /* POSIX counts westward */
	if (*at == '\0')
		return true;
	rule->has_summer = true;
	if (!name_skip(&at))
		return false;
	rule->summer_s = rule->standard_s + 3600;
	if (*at != ',') {
		if (!time_read(&at, 24, &rule->summer_s))
			return false;
		rule->summer_s = -rule->summer_s;
	}
	return *at++ == ',' && day_read(&at, &rule->begin) && *at++ == ',' && day_read(&at, &rule->end) && *at == '\0';
}

static bool leap_year(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Local seconds since 1970 at which the clocks change in that year. */
static int64_t change_of(const struct day_rule *rule, int64_t year)
{
	int64_t day;

	switch (rule->kind) {
	case DAY_JULIAN: /* 29 February is never counted */
		day = ctl_zone_days(year, 1, 1) + rule->day - 1 + (leap_year(year) && rule->day >= 60);
		break;
	case DAY_ZERO:
		day = ctl_zone_days(year, 1, 1) + rule->day;
		break;
	default: {
		int64_t first = ctl_zone_days(year, (uint32_t)rule->month, 1);
		int64_t after =
			rule->month == 12 ? ctl_zone_days(year + 1, 1, 1) : ctl_zone_days(year, (uint32_t)rule->month + 1, 1);
		int64_t weekday = (first % 7 + 7 + 4) % 7; /* 1 January 1970 was a Thursday */
		day = first + (rule->day - weekday + 7) % 7 + 7 * (rule->week - 1);
		while (day >= after)
			day -= 7;
		break;
	}
	}
	return day * DAY_S + rule->time_s;
}

/* Years `from` to `to`, whatever lies behind the last span. */
static void rule_spell(struct ctl_zone *zone, const struct rule *rule, int64_t from, int64_t to)
{
	int64_t last = zone->spans > 1 ? zone->span[zone->spans - 1].from_s : INT64_MIN;

	for (int64_t year = from; year <= to; year++) {
		int64_t summer = change_of(&rule->begin, year) - rule->standard_s;
		int64_t winter = change_of(&rule->end, year) - rule->summer_s;
		bool north = summer <= winter;
		int64_t first = north ? summer : winter, second = north ? winter : summer;
		if (first > last)
			span_add(zone, first, north ? rule->summer_s : rule->standard_s);
		if (second > last)
			span_add(zone, second, north ? rule->standard_s : rule->summer_s);
	}
	zone->repeats = zone->spans > 1;
}

/* ---- the file ---- */

static bool listed_read(struct ctl_zone *zone, const uint8_t *at, const struct counts *counts)
{
	const uint8_t *index = at + counts->time * 8, *type = index + counts->time;
	int64_t before = INT64_MIN;

	for (uint32_t i = 0; i < counts->type; i++) {
		int32_t offset = (int32_t)be32(type + 6 * i);
		if (offset < -OFFSET_S_MAX || offset > OFFSET_S_MAX)
			return false;
	}
	zone->span[zone->spans++] = (struct ctl_zone_span){.from_s = INT64_MIN, .offset_s = whole_minutes((int32_t)be32(type))};
	for (uint32_t i = 0; i < counts->time; i++) {
		int64_t from = be64(at + 8 * i);
		if (index[i] >= counts->type || from <= before)
			return false;
		before = from;
		/* of the time before 1900 no more than the end is of interest; it may be the big bang's */
		if (from < -((int64_t)70 * 366 * DAY_S))
			zone->span[0].offset_s = whole_minutes((int32_t)be32(type + 6 * index[i]));
		else
			span_add(zone, from, (int32_t)be32(type + 6 * index[i]));
	}
	return true;
}

struct ctl_zone *ctl_tzif_read(const uint8_t *bytes, size_t count)
{
	struct counts counts;
	struct rule rule;
	char footer[128];

	if (!header_read(bytes, count, &counts) || count - HEADER_BYTES < data_bytes(&counts, 4))
		return NULL;
	const uint8_t *at = bytes + HEADER_BYTES + data_bytes(&counts, 4), *end = bytes + count;
	if (!header_read(at, (size_t)(end - at), &counts) || (size_t)(end - at) - HEADER_BYTES < data_bytes(&counts, 8))
		return NULL;
	at += HEADER_BYTES;
	const uint8_t *tail = at + data_bytes(&counts, 8);
	size_t footer_bytes = tail < end && *tail == '\n' ? (size_t)(end - tail - 1) : 0;
	const uint8_t *stop = footer_bytes ? memchr(tail + 1, '\n', footer_bytes) : NULL;
	if (!stop || (size_t)(stop - tail - 1) >= sizeof(footer))
		return NULL;
	footer_bytes = (size_t)(stop - tail - 1);
	memcpy(footer, tail + 1, footer_bytes);
	footer[footer_bytes] = '\0';
	if (footer_bytes && !rule_read(footer, &rule))
		return NULL;
	size_t spans_max = 2 + counts.time + 2 * (CYCLE_YEARS + 4);
	struct ctl_zone *zone = calloc(1, sizeof(*zone) + spans_max * sizeof(zone->span[0]));
	if (!zone)
		return NULL;
	if (!listed_read(zone, at, &counts)) {
		free(zone);
		return NULL;
	}
	if (footer_bytes && counts.time == 0) /* the rule holds from the beginning */
		zone->span[0].offset_s = whole_minutes(rule.standard_s);
	if (footer_bytes && rule.has_summer) {
		int64_t last = zone->spans > 1 ? zone->span[zone->spans - 1].from_s : 0;
		int64_t year = 1970 + last / (int64_t)(365.2425 * DAY_S) - 1;
		rule_spell(zone, &rule, year, year + CYCLE_YEARS + 3);
	}
	struct ctl_zone *fit = realloc(zone, sizeof(*zone) + zone->spans * sizeof(zone->span[0]));
	return fit ? fit : zone;
}
