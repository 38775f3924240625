/* A time as a parameter; see ctl_param_time.h. */
#include "ctl_param_time.h"

#include "turnpike/text.h"

#include <stdio.h>
#include <string.h>

/* "2026-03-29" */
static bool date_read(const struct ctl_zone *zone, const struct ctl_text *value, uint64_t *ms)
{
	unsigned year, month, day;
	int end = 0;

	return value->bytes == 10 && strspn(value->at, "0123456789-") == 10 &&
	       sscanf(value->at, "%4u-%2u-%2u%n", &year, &month, &day, &end) == 3 && end == 10 &&
	       ctl_zone_date(zone, year, month, day, ms);
}

static bool time_read(const struct ctl_text *value, uint64_t *ms)
{
	char text[64];

	if (tp_time_parse(value->at, value->bytes, ms) == 0)
		return true;
	if (value->bytes >= sizeof(text))
		return false;
	memcpy(text, value->at, value->bytes + 1);
	char *space = strrchr(text, ' ');
	if (!space || space <= text + 10) /* the one before the time of day stays */
		return false;
	*space = '+';
	return tp_time_parse(text, value->bytes, ms) == 0;
}

bool ctl_param_time(const struct ctl_target *target, const char *name, const struct ctl_zone *zone, uint64_t *ms, bool *given,
		    struct ctl_reply *reply)
{
	const struct ctl_text *value = ctl_target_param(target, name);
	uint64_t read;

	if (given)
		*given = value != NULL;
	if (!value)
		return true;
	if (!time_read(value, &read) && !(zone && date_read(zone, value, &read))) {
		ctl_reply_problem(reply, 400, "bad-parameter", name,
				  "%s: expected an RFC 3339 time%s or milliseconds since 1970, found \"%.64s\"", name,
				  zone ? ", a date" : "", value->at);
		return false;
	}
	if (read > CTL_TIME_MS_MAX) {
		ctl_reply_problem(reply, 400, "bad-parameter", name, "%s: expected a time before the year 9999, found \"%.64s\"",
				  name, value->at);
		return false;
	}
	*ms = read;
	return true;
}
