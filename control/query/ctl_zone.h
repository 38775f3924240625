/*
 * Time zones by their IANA names: where hours, days and months of local time begin, and times with the zone's offset. The rules come
 * from the machine's tzdata (/usr/share/zoneinfo); the process's own zone (TZ, /etc/localtime) plays no part.
 *
 * Instants are ms since 1970 UTC. A zone is a list of spans, each with one offset:
 *
 *   local   ├─── 23:00 ───┼─── 00:00 ───┼─── 01:00 ───┼─── 03:00 ───┤      a day of 23 hours: 02:00 is not there
 *   local   ├─── 00:00 ───┼─── 01:00 ───┼─── 02:00 ───┼─── 02:00 ───┤      one of 25: 02:00 is there twice
 *
 *   - a day (month) begins at the first instant whose local date is that day or later: where midnight is skipped, when the clocks go
 *     on; where it comes twice, the first time. A day that a zone left out (Samoa, 30 December 2011) has no start.
 *   - an hour begins on each whole local hour, and wherever the offset changes.
 *
 * Offsets are whole minutes, as rollups and RFC 3339 know no less: the seconds of Monrovia before 1972 are rounded.
 *
 * Any thread. A zone that was found stays, with the rules it had, until the process ends; there are some hundred names.
 */
#ifndef TURNPIKE_CTL_ZONE_H
#define TURNPIKE_CTL_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ctl_zone;

enum ctl_zone_unit { CTL_ZONE_HOUR, CTL_ZONE_DAY, CTL_ZONE_MONTH };

/*
 * The last time that can be asked for: years have four digits in RFC 3339, and buckets that hold it, defaults of an hour ahead and local
 * time shall still have them. The year 9999 begins one millisecond later.
 */
#define CTL_TIME_MS_MAX 253370764799999ULL

enum { CTL_ZONE_NAME_BYTES_MAX = 64, CTL_ZONE_TEXT_BYTES = 40 };

/* Always there, with or without tzdata. */
const struct ctl_zone *ctl_zone_utc(void);
/* A zone such as "Europe/Berlin"; NULL: there is none of that name (or tzdata is not installed: see ctl_zone_installed()). */
const struct ctl_zone *ctl_zone_find(const char *name, size_t bytes);
/* Whether the machine has tzdata at all: for the message. */
bool ctl_zone_installed(void);
const char *ctl_zone_name(const struct ctl_zone *zone);

/* Local time less UTC. */
int32_t ctl_zone_offset_minutes(const struct ctl_zone *zone, uint64_t ms);
/* The start of the hour, day or month that holds `ms`; not before 1970 UTC. */
uint64_t ctl_zone_floor(const struct ctl_zone *zone, enum ctl_zone_unit unit, uint64_t ms);
/* The first start after `ms`. */
uint64_t ctl_zone_next(const struct ctl_zone *zone, enum ctl_zone_unit unit, uint64_t ms);
/* The instant at which a local date begins. False: no such date in the calendar, or before 1970 or beyond 9999. */
bool ctl_zone_date(const struct ctl_zone *zone, uint32_t year, uint32_t month, uint32_t day, uint64_t *ms);

/*
 * RFC 3339 with the offset in force, milliseconds only when not zero: "2026-03-29T00:00:00+01:00"; "…Z" in the zone UTC. Returns the
 * length; NUL-terminated.
 */
size_t ctl_zone_text(const struct ctl_zone *zone, uint64_t ms, char to[CTL_ZONE_TEXT_BYTES]);

/* ---- the inside, for ctl_tzif.c and tests ---- */

struct ctl_zone_span {
	int64_t from_s;   /* INT64_MIN in the first */
	int32_t offset_s; /* whole minutes; never that of the span before */
};

struct ctl_zone {
	struct ctl_zone *next;
	char name[CTL_ZONE_NAME_BYTES_MAX + 1];
	bool utc;     /* shown as Z */
	bool repeats; /* behind the last span all comes again every 400 years, from 400 years before it on */
	uint32_t spans;
	struct ctl_zone_span span[];
};

/* A zone from the bytes of a TZif file (RFC 9636). NULL: not one, or damaged, or no memory. The caller's to free(). */
struct ctl_zone *ctl_tzif_read(const uint8_t *bytes, size_t count);

/* Days from 1970-01-01 to a date of the proleptic Gregorian calendar. */
int64_t ctl_zone_days(int64_t year, uint32_t month, uint32_t day);

#endif
