/*
 * Zones: the list of those that were asked for, and the calendar over their spans. See ctl_zone.h. Any thread.
 *
 * Sources: RFC 9636 (tzdata's files), RFC 3339; the calendar arithmetic is that of the Gregorian 400-year cycle (ISO 8601).
 */
#include "ctl_zone.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER     "/usr/share/zoneinfo"
#define HOUR_S     3600
#define DAY_S      86400
#define CYCLE_DAYS 146097 /* of 400 years */
#define CYCLE_S    ((int64_t)CYCLE_DAYS * DAY_S)

enum { FILE_BYTES_MAX = 65536, ZONES_MAX = 2048, YEAR_MAX = 9999 };

static pthread_mutex_t zones_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ctl_zone *zones; /* under zones_lock; members are immutable */
static uint32_t zones_count;

static struct ctl_zone utc = {.name = "UTC", .utc = true, .spans = 0};

/* ---- finding ---- */

const struct ctl_zone *ctl_zone_utc(void)
{
	return &utc;
}

const char *ctl_zone_name(const struct ctl_zone *zone)
{
	return zone->name;
}

bool ctl_zone_installed(void)
{
	return access(FOLDER "/tzdata.zi", R_OK) == 0 || access(FOLDER "/zone1970.tab", R_OK) == 0 ||
	       access(FOLDER "/zone.tab", R_OK) == 0;
}

/* A relative path of plain words, none of which is about this machine or counts leap seconds. */
static bool name_may_be(const char *name, size_t bytes)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-_/";
	static const char *const not [] = {"localtime", "posixrules", "Factory", "posix/", "right/"};

	if (bytes == 0 || bytes > CTL_ZONE_NAME_BYTES_MAX || strspn(name, letters) != bytes || name[0] == '/' ||
	    name[bytes - 1] == '/' || strstr(name, "//"))
		return false;
	for (size_t i = 0; i < sizeof(not ) / sizeof(not [0]); i++) {
		if (strncmp(name, not [i], strlen(not [i])) == 0)
			return false;
	}
	return true;
}

static struct ctl_zone *zone_load(const char *name)
{
	char path[sizeof(FOLDER) + 1 + CTL_ZONE_NAME_BYTES_MAX + 1];
	struct ctl_zone *zone = NULL;
	struct stat facts;

	snprintf(path, sizeof(path), FOLDER "/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return NULL;
	uint8_t *bytes = malloc(FILE_BYTES_MAX);
	if (bytes && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode)) {
		ssize_t got = pread(fd, bytes, FILE_BYTES_MAX, 0);
		if (got > 0 && got < FILE_BYTES_MAX)
			zone = ctl_tzif_read(bytes, (size_t)got);
	}
	free(bytes);
	close(fd);
	if (zone)
		snprintf(zone->name, sizeof(zone->name), "%s", name);
	return zone;
}

const struct ctl_zone *ctl_zone_find(const char *name, size_t bytes)
{
	char text[CTL_ZONE_NAME_BYTES_MAX + 1];

	if (bytes > CTL_ZONE_NAME_BYTES_MAX || memchr(name, '\0', bytes))
		return NULL;
	memcpy(text, name, bytes);
	text[bytes] = '\0';
	if (strcmp(text, "UTC") == 0 || strcmp(text, "Etc/UTC") == 0)
		return &utc;
	if (!name_may_be(text, bytes))
		return NULL;
	pthread_mutex_lock(&zones_lock);
	struct ctl_zone *zone = zones;
	while (zone && strcmp(zone->name, text) != 0)
		zone = zone->next;
	if (!zone && zones_count < ZONES_MAX) {
		zone = zone_load(text);
		if (zone) {
			zone->next = zones;
			zones = zone;
			zones_count++;
		}
	}
	pthread_mutex_unlock(&zones_lock);
	return zone;
}

/* ---- the calendar ---- */

int64_t ctl_zone_days(int64_t year, uint32_t month, uint32_t day)
{
	/* years that begin in March, so that the leap day is the last */
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400, of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;

	return era * CYCLE_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct date {
	int64_t year;
	uint32_t month, day;
};

static struct date date_of(int64_t days)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - (CYCLE_DAYS - 1)) / CYCLE_DAYS, of_era = z - era * CYCLE_DAYS;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
	struct date date = {
		.year = year + era * 400 + (month >= 10),
		.month = (uint32_t)(month < 10 ? month + 3 : month - 9),
		.day = (uint32_t)(of_year - (153 * month + 2) / 5 + 1),
	};
	return date;
}

static int64_t floor_to(int64_t value, int64_t unit)
{
	int64_t rest = value % unit;
	return value - (rest < 0 ? rest + unit : rest);
}

/* ---- spans ---- */

/* The span that holds the second; the zone UTC has none, and offset 0. */
static uint32_t span_at(const struct ctl_zone *zone, int64_t s)
{
	uint32_t low = 0, high = zone->spans;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (zone->span[middle].from_s <= s)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/*
 * Brings a second into the part that is spelled out: *s is less by the result, a whole number of cycles. A day is kept free of the
 * end, so that what is looked for around *s is spelled out too.
 */
static int64_t into_spans(const struct ctl_zone *zone, int64_t *s)
{
	if (!zone->repeats)
		return 0;
	int64_t end = zone->span[zone->spans - 1].from_s - 64 * DAY_S;
	if (*s < end)
		return 0;
	int64_t shift = ((*s - end) / CYCLE_S + 1) * CYCLE_S;
	*s -= shift;
	return shift;
}

static int32_t offset_at(const struct ctl_zone *zone, int64_t s)
{
	return zone->spans ? zone->span[span_at(zone, s)].offset_s : 0;
}

/* The first second whose local time is at or after `local`. */
static int64_t local_reached(const struct ctl_zone *zone, int64_t local)
{
	if (!zone->spans)
		return local;
	for (uint32_t i = span_at(zone, local - 2 * DAY_S); i < zone->spans; i++) {
		int64_t from = zone->span[i].from_s, s = local - zone->span[i].offset_s;
		if (s < from)
			s = from;
		if (i + 1 == zone->spans || s < zone->span[i + 1].from_s)
			return s;
	}
	return local; /* not reached: the last span has no end */
}

/* Where the local day or month of a local time begins, and the one behind it. */
static int64_t unit_floor(enum ctl_zone_unit unit, int64_t local)
{
	int64_t day = floor_to(local, DAY_S);
	return unit == CTL_ZONE_DAY ? day : day - (int64_t)(date_of(day / DAY_S).day - 1) * DAY_S;
}

static int64_t unit_next(enum ctl_zone_unit unit, int64_t local)
{
	int64_t day = floor_to(local, DAY_S);
	if (unit == CTL_ZONE_DAY)
		return day + DAY_S;
	struct date date = date_of(day / DAY_S);
	return ctl_zone_days(date.month == 12 ? date.year + 1 : date.year, date.month == 12 ? 1 : date.month + 1, 1) * DAY_S;
}

static int64_t hour_floor(const struct ctl_zone *zone, int64_t s)
{
	int32_t offset = offset_at(zone, s);
	int64_t start = floor_to(s + offset, HOUR_S) - offset;

	if (zone->spans && zone->span[span_at(zone, s)].from_s > start)
		start = zone->span[span_at(zone, s)].from_s;
	return start;
}

static int64_t hour_next(const struct ctl_zone *zone, int64_t s)
{
	int32_t offset = offset_at(zone, s);
	int64_t next = floor_to(s + offset, HOUR_S) - offset + HOUR_S;
	uint32_t span = span_at(zone, s);

	return span + 1 < zone->spans && zone->span[span + 1].from_s < next ? zone->span[span + 1].from_s : next;
}

/* The last start at or before `s`. */
static int64_t start_floor(const struct ctl_zone *zone, enum ctl_zone_unit unit, int64_t s)
{
	if (unit == CTL_ZONE_HOUR)
		return hour_floor(zone, s);
	int64_t local = s + offset_at(zone, s), start = local_reached(zone, unit_floor(unit, local));
	/* local time has been further already, and went back over the border */
	for (;;) {
		local = unit_next(unit, local);
		int64_t next = local_reached(zone, local);
		if (next > s)
			return start;
		start = next;
	}
}

static int64_t start_next(const struct ctl_zone *zone, enum ctl_zone_unit unit, int64_t s)
{
	if (unit == CTL_ZONE_HOUR)
		return hour_next(zone, s);
	int64_t local = s + offset_at(zone, s), next;
	do {
		local = unit_next(unit, local);
		next = local_reached(zone, local);
	} while (next <= s);
	return next;
}

static uint64_t to_ms(int64_t s)
{
	return s > 0 ? (uint64_t)s * 1000 : 0;
}

int32_t ctl_zone_offset_minutes(const struct ctl_zone *zone, uint64_t ms)
{
	int64_t s = (int64_t)(ms / 1000);

	into_spans(zone, &s);
	return offset_at(zone, s) / 60;
}

uint64_t ctl_zone_floor(const struct ctl_zone *zone, enum ctl_zone_unit unit, uint64_t ms)
{
	int64_t s = (int64_t)(ms / 1000), shift = into_spans(zone, &s);
	return to_ms(start_floor(zone, unit, s) + shift);
}

uint64_t ctl_zone_next(const struct ctl_zone *zone, enum ctl_zone_unit unit, uint64_t ms)
{
	int64_t s = (int64_t)(ms / 1000), shift = into_spans(zone, &s);
	return to_ms(start_next(zone, unit, s) + shift);
}

bool ctl_zone_date(const struct ctl_zone *zone, uint32_t year, uint32_t month, uint32_t day, uint64_t *ms)
{
	if (year < 1970 || year > YEAR_MAX || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	int64_t days = ctl_zone_days(year, month, day);
	struct date same = date_of(days);
	if (same.month != month || same.day != day)
		return false;
	int64_t local = days * DAY_S, shift = into_spans(zone, &local);
	int64_t s = local_reached(zone, local) + shift;
	*ms = to_ms(s);
	return s >= 0;
}

/* The last `count` digits of a number. */
static char *digits_put(char *to, uint32_t number, int count)
{
	for (int i = count; i-- > 0; number /= 10)
		to[i] = (char)('0' + number % 10);
	return to + count;
}

size_t ctl_zone_text(const struct ctl_zone *zone, uint64_t ms, char to[CTL_ZONE_TEXT_BYTES])
{
	int32_t offset = ctl_zone_offset_minutes(zone, ms);
	uint32_t most = (uint32_t)(offset < 0 ? -offset : offset);
	int64_t local = (int64_t)(ms / 1000) + 60 * (int64_t)offset, day = floor_to(local, DAY_S);
	struct date date = date_of(day / DAY_S);
	uint32_t of_day = (uint32_t)(local - day);
	char *at = digits_put(to, (uint32_t)date.year, 4);

	*at++ = '-';
	at = digits_put(at, date.month, 2);
	*at++ = '-';
	at = digits_put(at, date.day, 2);
	*at++ = 'T';
	at = digits_put(at, of_day / HOUR_S, 2);
	*at++ = ':';
	at = digits_put(at, of_day / 60 % 60, 2);
	*at++ = ':';
	at = digits_put(at, of_day % 60, 2);
	if (ms % 1000) {
		*at++ = '.';
		at = digits_put(at, (uint32_t)(ms % 1000), 3);
	}
	if (zone->utc) {
		*at++ = 'Z';
	} else {
		*at++ = offset < 0 ? '-' : '+';
		at = digits_put(at, most / 60, 2);
		*at++ = ':';
		at = digits_put(at, most % 60, 2);
	}
	*at = '\0';
	return (size_t)(at - to);
}
