/* Reads the parameters of an analytics request; the rules are in ctl_param.h. */
#include "ctl_param.h"

#include "turnpike/text.h"

#include <stdio.h>
#include <string.h>

#define MINUTE_NS   60000000000ULL
#define TIME_MS_MAX 253402300800000ULL /* the year 10000: times are shown as RFC 3339 */
#define HOUR_MS     3600000ULL
#define WINDOW_MS   HOUR_MS
#define DAY_MINUTES 1440

struct reading {
	const struct ctl_target *target;
	struct ctl_reply *reply;
};

#define BAD(reading, name, ...) (ctl_reply_problem((reading)->reply, 400, "bad-parameter", name, __VA_ARGS__), false)

static bool known(const struct ctl_text *name)
{
	static const char *const names[] = {"window", "from", "to", "step", "slide", "group_by"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (ctl_text_is(name, names[i]))
			return true;
	}
	return false;
}

static bool check_names(const struct reading *reading)
{
	const struct ctl_target *target = reading->target;

	for (uint32_t i = 0; i < target->params; i++) {
		const char *name = target->param[i].name.at;
		if (!known(&target->param[i].name))
			return BAD(reading, name, "%.64s: unknown parameter, expected window, from, to, step, slide or group_by",
				   name);
		for (uint32_t j = 0; j < i; j++) {
			if (strcmp(target->param[j].name.at, name) == 0)
				return BAD(reading, name, "%s: expected once, found twice", name);
		}
	}
	return true;
}

/* True with *given = false when the parameter is absent. */
static bool read_time(const struct reading *reading, const char *name, uint64_t *ms, bool *given)
{
	const struct ctl_text *value = ctl_target_param(reading->target, name);
	char text[64];

	*given = value != NULL;
	if (!value)
		return true;
	int rc = tp_time_parse(value->at, value->bytes, ms);
	if (rc != 0 && value->bytes < sizeof(text)) {
		/* "+02:00" that was not escaped has come as " 02:00" */
		memcpy(text, value->at, value->bytes + 1);
		char *space = strrchr(text, ' ');
		if (space && space > text + 10) {
			*space = '+';
			rc = tp_time_parse(text, value->bytes, ms);
		}
	}
	if (rc != 0)
		return BAD(reading, name, "%s: expected an RFC 3339 time or milliseconds since 1970, found \"%.64s\"", name,
			   value->at);
	if (*ms > TIME_MS_MAX)
		return BAD(reading, name, "%s: expected a time before the year 10000, found \"%.64s\"", name, value->at);
	return true;
}

static bool read_range(const struct reading *reading, uint64_t now_ms, struct ctl_query *query)
{
	const struct ctl_text *window = ctl_target_param(reading->target, "window");
	uint64_t from_ms = 0, to_ms = 0, window_ms = WINDOW_MS, window_ns;
	bool has_from, has_to;

	if (!read_time(reading, "from", &from_ms, &has_from) || !read_time(reading, "to", &to_ms, &has_to))
		return false;
	if (window) {
		if (has_from || has_to)
			return BAD(reading, "window", "window: expected either window, or from and to, found both");
		if (tp_duration_parse(window->at, window->bytes, &window_ns) != 0 || window_ns < 1000000)
			return BAD(reading, "window", "window: expected a duration such as 1h, found \"%.64s\"", window->at);
		window_ms = window_ns / 1000000;
	}
	if (!has_to)
		to_ms = has_from && from_ms >= now_ms ? from_ms + WINDOW_MS : now_ms;
	if (!has_from)
		from_ms = to_ms > window_ms ? to_ms - window_ms : 0;
	if (from_ms > to_ms)
		return BAD(reading, "from", "from: expected a time not after to, found from %llu and to %llu",
			   (unsigned long long)from_ms, (unsigned long long)to_ms);
	query->from_minute = from_ms / TP_MINUTE_MS;
	/* an empty range stays empty */
	query->to_minute = from_ms == to_ms ? query->from_minute : (to_ms + TP_MINUTE_MS - 1) / TP_MINUTE_MS;
	return true;
}

static bool read_step(const struct reading *reading, struct ctl_query *query)
{
	static const struct {
		const char *name;
		uint32_t minutes;
	} steps[] = {{"1m", 1}, {"1h", 60}, {"1d", DAY_MINUTES}};
	const struct ctl_text *value = ctl_target_param(reading->target, "step");
	uint64_t minutes = query->to_minute - query->from_minute;

	if (!value) {
		query->step_minutes = minutes <= 6 * 60 ? 1 : minutes <= 14 * DAY_MINUTES ? 60 : DAY_MINUTES;
		return true;
	}
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (!ctl_text_is(value, steps[i].name))
			continue;
		query->step_minutes = steps[i].minutes;
		return true;
	}
	return BAD(reading, "step", "step: expected 1m, 1h or 1d, found \"%.64s\"", value->at);
}

static bool read_slide(const struct reading *reading, struct ctl_query *query)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "slide");
	uint64_t ns;

	query->slide_minutes = query->step_minutes;
	if (!value)
		return true;
	if (tp_duration_parse(value->at, value->bytes, &ns) != 0 || ns == 0 || ns % MINUTE_NS != 0 ||
	    ns / MINUTE_NS > query->step_minutes || query->step_minutes % (ns / MINUTE_NS) != 0)
		return BAD(reading, "slide", "slide: expected whole minutes that divide the step, such as 5m, found \"%.64s\"",
			   value->at);
	query->slide_minutes = (uint32_t)(ns / MINUTE_NS);
	return true;
}

static bool read_groups(const struct reading *reading, struct ctl_query *query)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "group_by");

	query->group_count = 0;
	for (const char *at = value ? value->at : ""; *at != '\0';) {
		size_t bytes = strcspn(at, ",");
		uint32_t found = CTL_DIMENSIONS;
		for (uint32_t i = 0; i < CTL_DIMENSIONS; i++) {
			const char *name = ctl_dimension_name((enum ctl_dimension)i);
			if (strlen(name) == bytes && memcmp(name, at, bytes) == 0)
				found = i;
		}
		bool again = false;
		for (uint32_t i = 0; i < query->group_count; i++)
			again = again || query->group[i] == found;
		if (found == CTL_DIMENSIONS || again)
			return BAD(reading, "group_by",
				   "group_by: expected each once, separated by commas, of ad, campaign, advertiser, publisher, "
				   "country, "
				   "region, device, found \"%.64s\"",
				   value->at);
		query->group[query->group_count++] = (uint8_t)found;
		at += bytes + (at[bytes] == ',');
	}
	return true;
}

bool ctl_param_analytics(const struct ctl_target *target, uint64_t now_ms, struct ctl_query *query, struct ctl_reply *reply)
{
	const struct reading reading = {.target = target, .reply = reply};

	if (!check_names(&reading) || !read_range(&reading, now_ms, query) || !read_step(&reading, query) ||
	    !read_slide(&reading, query) || !read_groups(&reading, query))
		return false;
	if (ctl_query_slots(query) > CTL_BUCKETS_MAX) {
		ctl_reply_problem(
			reply, 422, "too-many-buckets", "step",
			"step: the range has %llu buckets, at most %d are answered: ask for a shorter range or a longer step",
			(unsigned long long)ctl_query_slots(query), CTL_BUCKETS_MAX);
		return false;
	}
	return true;
}

const char *ctl_step_text(uint32_t minutes, char *to)
{
	if (minutes % DAY_MINUTES == 0)
		snprintf(to, 24, "%ud", minutes / DAY_MINUTES);
	else if (minutes % 60 == 0)
		snprintf(to, 24, "%uh", minutes / 60);
	else
		snprintf(to, 24, "%um", minutes);
	return to;
}
