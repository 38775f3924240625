/* Reads what a request for bills asks for; the rules are in ctl_billing_param.h. */
#include "ctl_billing_param.h"

#include "ctl_billing_zone.h"
#include "ctl_param_time.h"
#include "turnpike/event.h"
#include "turnpike/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	enum ctl_zone_unit unit;
	uint32_t back; /* how many by default */
} periods[CTL_BILLING_PERIODS] = {
	[CTL_HOURLY] = {"hourly", CTL_ZONE_HOUR, 24},
	[CTL_DAILY] = {"daily", CTL_ZONE_DAY, 31},
	[CTL_MONTHLY] = {"monthly", CTL_ZONE_MONTH, 12},
};

const char *ctl_billing_period_name(enum ctl_billing_period period)
{
	return periods[period].name;
}

enum ctl_zone_unit ctl_billing_unit(enum ctl_billing_period period)
{
	return periods[period].unit;
}

/* ---- Accept ---- */

/* The weight of a range's parameters in thousandths: 1000 without one, 0 for one that is none. */
static uint32_t weight(const char *at, const char *end)
{
	while (at < end) {
		while (at < end && (*at == ';' || *at == ' ' || *at == '\t'))
			at++;
		const char *stop = memchr(at, ';', (size_t)(end - at));
		if (!stop)
			stop = end;
		if (stop - at >= 3 && (*at == 'q' || *at == 'Q') && at[1] == '=') {
			uint32_t value = at[2] == '1' ? 1000 : 0, unit = 100;
			for (const char *digit = at + 4; value == 0 && digit < stop && isdigit((unsigned char)*digit);
			     digit++, unit /= 10)
				value += unit * (uint32_t)(*digit - '0');
			return value;
		}
		at = stop;
	}
	return 1000;
}

bool ctl_accept_csv(const char *accept)
{
	uint32_t csv = 0, json = 0, csv_rank = 0, json_rank = 0;

	for (const char *at = accept ? accept : ""; *at;) {
		size_t bytes = strcspn(at, ",");
		const char *end = at + bytes;
		while (at < end && (*at == ' ' || *at == '\t'))
			at++;
		size_t name = strcspn(at, ";, \t");
		uint32_t value = weight(at + name, end);
		/* the most specific range that fits decides, wherever it stands */
		bool all = name == 3 && strncmp(at, "*/*", 3) == 0;
		uint32_t for_csv = name == 8 && strncasecmp(at, "text/csv", 8) == 0 ? 3
				   : name == 6 && strncasecmp(at, "text/*", 6) == 0 ? 2
										    : all;
		uint32_t for_json = name == 16 && strncasecmp(at, "application/json", 16) == 0 ? 3
				    : name == 13 && strncasecmp(at, "application/*", 13) == 0  ? 2
											       : all;
		if (for_csv > csv_rank) {
			csv_rank = for_csv;
			csv = value;
		}
		if (for_json > json_rank) {
			json_rank = for_json;
			json = value;
		}
		at = *end ? end + 1 : end;
	}
	return csv > json;
}

/* ---- parameters ---- */

struct reading {
	const struct ctl_target *target;
	struct ctl_reply *reply;
};

#define BAD(reading, name, ...) (ctl_reply_problem((reading)->reply, 400, "bad-parameter", name, __VA_ARGS__), false)

static bool read_names(const struct reading *reading)
{
	static const char *const names[] = {"advertiser", "period", "from", "to", "tz", "format"};
	const struct ctl_target *target = reading->target;

	for (uint32_t i = 0; i < target->params; i++) {
		const char *name = target->param[i].name.at;
		bool known = false;
		for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++)
			known = known || ctl_text_is(&target->param[i].name, names[j]);
		if (!known)
			return BAD(reading, name, "%.64s: unknown parameter, expected advertiser, period, from, to, tz or format",
				   name);
		for (uint32_t j = 0; j < i; j++)
			if (strcmp(target->param[j].name.at, name) == 0)
				return BAD(reading, name, "%s: expected once, found twice", name);
	}
	return true;
}

static bool read_advertiser(const struct reading *reading, struct ctl_billing_ask *ask)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "advertiser");
	const char *only = reading->target->only;

	if (value && only && !ctl_text_is(value, only)) {
		ctl_reply_problem(reading->reply, 403, "forbidden", "advertiser", "the token's scope does not reach this");
		return false;
	}
	if (!value && !only)
		return BAD(reading, "advertiser", "advertiser: expected whose bills");
	ask->advertiser = value ? value->at : only;
	ask->advertiser_bytes = value ? value->bytes : strlen(only);
	json_t *utf8 = json_stringn(ask->advertiser, ask->advertiser_bytes);
	if (!utf8)
		return BAD(reading, "advertiser", "advertiser: expected UTF-8");
	json_decref(utf8);
	if (ask->advertiser_bytes == 0 || ask->advertiser_bytes > TP_ID_BYTES_MAX)
		return BAD(reading, "advertiser", "advertiser: expected 1 to %d bytes, found %zu", TP_ID_BYTES_MAX,
			   ask->advertiser_bytes);
	return true;
}

static bool read_period(const struct reading *reading, struct ctl_billing_ask *ask)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "period");

	ask->period = CTL_DAILY;
	for (uint32_t i = 0; value && i < CTL_BILLING_PERIODS; i++) {
		if (!ctl_text_is(value, periods[i].name))
			continue;
		ask->period = (enum ctl_billing_period)i;
		return true;
	}
	if (value)
		return BAD(reading, "period", "period: expected hourly, daily or monthly, found \"%.64s\"", value->at);
	return true;
}

static bool read_zone(const struct reading *reading, const struct tp_config *config, struct ctl_billing_ask *ask)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "tz");

	if (!value) {
		ask->zone = ctl_billing_zone_of(config, ask->advertiser, ask->advertiser_bytes);
		return true;
	}
	ask->zone = ctl_zone_find(value->at, value->bytes);
	if (ask->zone)
		return true;
	if (!ctl_zone_installed())
		return BAD(reading, "tz", "tz: this machine has no tzdata, so only UTC is known");
	return BAD(reading, "tz", "tz: expected the IANA name of a zone such as Europe/Berlin, found \"%.64s\"", value->at);
}

static bool read_format(const struct reading *reading, const char *accept, struct ctl_billing_ask *ask)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "format");

	ask->csv = value ? ctl_text_is(value, "csv") : ctl_accept_csv(accept);
	if (value && !ask->csv && !ctl_text_is(value, "json"))
		return BAD(reading, "format", "format: expected json or csv, found \"%.64s\"", value->at);
	return true;
}

/* True with *given = false when the parameter is absent. */
static bool read_range(const struct reading *reading, uint64_t now_ms, struct ctl_billing_ask *ask)
{
	const enum ctl_zone_unit unit = periods[ask->period].unit;
	uint64_t from_ms = 0, to_ms = 0;
	bool has_from, has_to;

	if (!ctl_param_time(reading->target, "from", NULL, &from_ms, &has_from, reading->reply) ||
	    !ctl_param_time(reading->target, "to", NULL, &to_ms, &has_to, reading->reply))
		return false;
	if (!has_to)
		to_ms = has_from && from_ms >= now_ms ? from_ms + 1 : now_ms;
	if (has_from && from_ms > to_ms)
		return BAD(reading, "from", "from: expected a time not after to, found from %llu and to %llu",
			   (unsigned long long)from_ms, (unsigned long long)to_ms);
	uint64_t at;
	if (has_from) {
		at = ctl_zone_floor(ask->zone, unit, from_ms);
	} else {
		at = ctl_zone_floor(ask->zone, unit, to_ms ? to_ms - 1 : 0);
		for (uint32_t i = 1; i < periods[ask->period].back && at > 0; i++)
			at = ctl_zone_floor(ask->zone, unit, at - 1);
	}
	ask->periods = 0;
	ask->bound_ms[0] = at;
	/* an empty range stays empty */
	while (at < to_ms && !(has_from && from_ms == to_ms)) {
		if (ask->periods == CTL_BILLING_PERIODS_MAX) {
			ctl_reply_problem(reading->reply, 422, "too-many-periods", "from",
					  "from: more than %d periods: ask for a shorter range, or longer periods",
					  CTL_BILLING_PERIODS_MAX);
			return false;
		}
		at = ctl_zone_next(ask->zone, unit, at);
		ask->bound_ms[++ask->periods] = at;
	}
	return true;
}

bool ctl_billing_param(const struct ctl_target *target, const char *accept, uint64_t now_ms, const struct tp_config *config,
		       struct ctl_billing_ask *ask, struct ctl_reply *reply)
{
	const struct reading reading = {.target = target, .reply = reply};

	return read_names(&reading) && read_advertiser(&reading, ask) && read_period(&reading, ask) &&
	       read_zone(&reading, config, ask) && read_format(&reading, accept, ask) && read_range(&reading, now_ms, ask);
}
