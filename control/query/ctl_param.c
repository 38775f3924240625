/* Reads the parameters of an analytics request; the rules are in ctl_param.h. */
#include "ctl_param.h"

#include "ctl_param_time.h"
#include "turnpike/text.h"

#include <stdio.h>
#include <string.h>

#define MINUTE_NS   60000000000ULL
#define HOUR_MS     3600000ULL
#define WINDOW_MS   HOUR_MS
#define DAY_MS      (24 * HOUR_MS)
#define TREND_MS    (5 * TP_MINUTE_MS)
#define DAY_MINUTES 1440

struct reading {
	const struct ctl_target *target;
	struct ctl_reply *reply;
	const struct ctl_zone *zone; /* whose midnights a date without a time means; NULL: a date is not a time */
};

#define BAD(reading, name, ...) (ctl_reply_problem((reading)->reply, 400, "bad-parameter", name, __VA_ARGS__), false)

/* Whether a name is a word of a list such as "window, from or to". */
static bool known(const struct ctl_text *name, const char *names)
{
	for (const char *at = names; *at != '\0';) {
		size_t bytes = strcspn(at, ", ");
		if (bytes && bytes == name->bytes && memcmp(at, name->at, bytes) == 0 && strcmp(name->at, "or") != 0)
			return true;
		at += bytes + (at[bytes] != '\0');
	}
	return false;
}

static bool check_names(const struct reading *reading, const char *names)
{
	const struct ctl_target *target = reading->target;

	for (uint32_t i = 0; i < target->params; i++) {
		const char *name = target->param[i].name.at;
		if (!known(&target->param[i].name, names))
			return BAD(reading, name, "%.64s: unknown parameter, expected %s", name, names);
		for (uint32_t j = 0; j < i; j++) {
			if (strcmp(target->param[j].name.at, name) == 0 && strcmp(name, "id") != 0)
				return BAD(reading, name, "%s: expected once, found twice", name);
		}
	}
	return true;
}

static bool read_range_ms(const struct reading *reading, uint64_t now_ms, uint64_t window_ms, uint64_t *from, uint64_t *to)
{
	const struct ctl_text *window = ctl_target_param(reading->target, "window");
	uint64_t from_ms = 0, to_ms = 0, window_ns;
	bool has_from, has_to;

	if (!ctl_param_time(reading->target, "from", reading->zone, &from_ms, &has_from, reading->reply) ||
	    !ctl_param_time(reading->target, "to", reading->zone, &to_ms, &has_to, reading->reply))
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
	*from = from_ms;
	*to = to_ms;
	return true;
}

static bool read_range(const struct reading *reading, uint64_t now_ms, uint64_t window_ms, struct ctl_query *query)
{
	uint64_t from_ms, to_ms;

	if (!read_range_ms(reading, now_ms, window_ms, &from_ms, &to_ms))
		return false;
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
				   "country, region, device, currency, found \"%.64s\"",
				   value->at);
		query->group[query->group_count++] = (uint8_t)found;
		if (at[bytes] == ',' && at[bytes + 1] == '\0')
			return BAD(reading, "group_by",
				   "group_by: expected another dimension after the last comma, found \"%.64s\"", value->at);
		at += bytes + (at[bytes] == ',');
	}
	return true;
}

static bool read_zone(const struct reading *reading, struct ctl_query *query)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "tz");

	query->zone = value ? ctl_zone_find(value->at, value->bytes) : ctl_zone_utc();
	if (query->zone)
		return true;
	if (!ctl_zone_installed())
		return BAD(reading, "tz", "tz: this machine has no time zones: install the package tzdata");
	return BAD(reading, "tz", "tz: expected a zone such as Europe/Berlin, found \"%.64s\"", value->at);
}

static int hex(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit |= 0x20;
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Undoes %XX. Returns the length, or -1. */
static int filter_value(const char *from, size_t bytes, char *to, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < bytes; i++) {
		int byte = (unsigned char)from[i];
		if (byte == '%') {
			if (bytes - i < 3 || hex(from[i + 1]) < 0 || hex(from[i + 2]) < 0)
				return -1;
			byte = hex(from[i + 1]) << 4 | hex(from[i + 2]);
			i += 2;
		}
		if (n == room)
			return -1;
		to[n++] = (char)byte;
	}
	return (int)n;
}

/* Whether a row can have this value; country and currency are brought to capitals. */
static bool filter_fits(enum ctl_dimension dimension, char *value, size_t bytes)
{
	if (dimension == CTL_COUNTRY || dimension == CTL_CURRENCY) {
		for (size_t i = 0; i < bytes; i++)
			value[i] = (char)(value[i] >= 'a' && value[i] <= 'z' ? value[i] - 0x20 : value[i]);
		return dimension == CTL_COUNTRY ? bytes == 2 || bytes == 0 : bytes == 3;
	}
	if (dimension != CTL_DEVICE)
		return true;
	for (uint32_t i = 0; i < TP_DEVICE_TYPES; i++) {
		const char *name = tp_device_name((enum tp_device_type)i);
		if (strlen(name) == bytes && memcmp(name, value, bytes) == 0)
			return true;
	}
	return false;
}

static enum ctl_dimension dimension_named(const char *name, size_t bytes)
{
	uint32_t i = 0;

	while (i < CTL_DIMENSIONS && (strlen(ctl_dimension_name((enum ctl_dimension)i)) != bytes ||
				      memcmp(ctl_dimension_name((enum ctl_dimension)i), name, bytes) != 0))
		i++;
	return (enum ctl_dimension)i;
}

static bool read_filters(const struct reading *reading, struct ctl_query *query)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "filter");

	query->filter_count = 0;
	for (const char *at = value ? value->at : ""; *at != '\0';) {
		char text[UINT8_MAX];
		size_t bytes = strcspn(at, ","), name_bytes = strcspn(at, ":");
		enum ctl_dimension dimension = name_bytes < bytes ? dimension_named(at, name_bytes) : CTL_DIMENSIONS;
		if (dimension == CTL_DIMENSIONS)
			return BAD(
				reading, "filter",
				"filter: expected dimension:value, separated by commas, such as country:US,device:mobile, of ad, "
				"campaign, advertiser, publisher, country, region, device, currency, found \"%.64s\"",
				at);
		int length = filter_value(at + name_bytes + 1, bytes - name_bytes - 1, text, sizeof(text));
		if (length < 0)
			return BAD(
				reading, "filter",
				"filter: expected a value of up to %d bytes with %% written %%25 and a comma %%2C, found \"%.64s\"",
				UINT8_MAX, at);
		if (!filter_fits(dimension, text, (size_t)length))
			return BAD(reading, "filter", "filter: no row has such a %s: \"%.64s\"", ctl_dimension_name(dimension), at);
		if (!ctl_query_filter(query, dimension, text, (size_t)length))
			return BAD(reading, "filter", "filter: expected at most %d values", CTL_FILTERS_MAX);
		if (at[bytes] == ',' && at[bytes + 1] == '\0')
			return BAD(reading, "filter",
				   "filter: expected another dimension:value after the last comma, found \"%.64s\"", value->at);
		at += bytes + (at[bytes] == ',');
	}
	return true;
}

static bool read_order(const struct reading *reading, struct ctl_query *query)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "order");

	query->order = CTL_GROSS_CLICKS;
	query->ascending = false;
	if (!value)
		return true;
	bool down = value->at[0] == '-';
	for (uint32_t i = 0; i < CTL_MEASURES; i++) {
		if (strcmp(value->at + down, ctl_measure_name((enum ctl_measure)i)) != 0)
			continue;
		query->order = (enum ctl_measure)i;
		query->ascending = !down;
		return true;
	}
	return BAD(reading, "order",
		   "order: expected impressions, clicks, flagged_clicks, gross_clicks, conversions, spend or ctr, with - before it "
		   "for "
		   "the largest first, found \"%.64s\"",
		   value->at);
}

static bool read_compare(const struct reading *reading, struct ctl_query *query)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "compare");

	query->compare = value != NULL;
	if (value && !ctl_text_is(value, "previous"))
		return BAD(reading, "compare", "compare: expected previous, found \"%.64s\"", value->at);
	return true;
}

static bool read_limit(const struct reading *reading, uint32_t otherwise, uint32_t most, uint32_t *limit);

bool ctl_param_analytics(const struct ctl_target *target, uint64_t now_ms, struct ctl_query *query, struct ctl_reply *reply)
{
	struct reading reading = {.target = target, .reply = reply};

	if (!check_names(&reading, "window, from, to, step, slide, tz, group_by, filter, order, limit, compare or id") ||
	    !read_zone(&reading, query))
		return false;
	reading.zone = query->zone;
	if (!read_range(&reading, now_ms, WINDOW_MS, query) || !read_step(&reading, query) || !read_slide(&reading, query) ||
	    !read_groups(&reading, query) || !read_filters(&reading, query) || !read_order(&reading, query) ||
	    !read_limit(&reading, 0, CTL_GROUPS_MAX, &query->limit) || !read_compare(&reading, query))
		return false;
	query->local_days =
		query->step_minutes == DAY_MINUTES && query->slide_minutes == DAY_MINUTES && query->zone != ctl_zone_utc();
	query->groups_max = query->limit ? CTL_TOP_GROUPS_MAX : CTL_GROUPS_MAX;
	struct ctl_query before;
	uint64_t slots = ctl_query_slots(query);
	if (query->compare && slots <= CTL_BUCKETS_MAX) {
		ctl_query_previous(query, &before);
		slots = ctl_query_slots(&before) > slots ? ctl_query_slots(&before) : slots;
	}
	if (slots > CTL_BUCKETS_MAX) {
		ctl_reply_problem(
			reply, 422, "too-many-buckets", "step",
			"step: the range has %llu buckets, at most %d are answered: ask for a shorter range or a longer step",
			(unsigned long long)slots, CTL_BUCKETS_MAX);
		return false;
	}
	return true;
}

uint32_t ctl_param_ids(const struct ctl_target *target, const struct ctl_text **id, struct ctl_reply *reply)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < target->params; i++) {
		if (!ctl_text_is(&target->param[i].name, "id"))
			continue;
		if (count < CTL_IDS_MAX)
			id[count] = &target->param[i].value;
		count++;
	}
	if (count >= 1 && count <= CTL_IDS_MAX)
		return count;
	ctl_reply_problem(reply, 400, "bad-parameter", "id", "id: expected from one to %d, each as id=…, found %u", CTL_IDS_MAX,
			  count);
	return 0;
}

static bool read_limit(const struct reading *reading, uint32_t otherwise, uint32_t most, uint32_t *limit)
{
	const struct ctl_text *value = ctl_target_param(reading->target, "limit");
	uint32_t number = 0;

	*limit = otherwise;
	if (!value)
		return true;
	for (size_t i = 0; i < value->bytes && number <= most; i++) {
		if (value->at[i] < '0' || value->at[i] > '9')
			number = most;
		number = 10 * number + (uint32_t)(value->at[i] - '0') % 10;
	}
	if (number == 0 || number > most)
		return BAD(reading, "limit", "limit: expected a whole number from 1 to %u, found \"%.64s\"", most, value->at);
	*limit = number;
	return true;
}

bool ctl_param_sessions(const struct ctl_target *target, uint64_t now_ms, struct ctl_sessions_query *query, struct ctl_reply *reply)
{
	const struct reading reading = {.target = target, .reply = reply};

	if (!check_names(&reading, "user, window, from, to or limit") ||
	    !read_range_ms(&reading, now_ms, DAY_MS, &query->from_ms, &query->to_ms) ||
	    !read_limit(&reading, 100, CTL_SESSIONS_MAX, &query->limit))
		return false;
	const struct ctl_text *user = ctl_target_param(target, "user");
	json_t *utf8 = user && user->bytes && user->bytes <= TP_ID_BYTES_MAX ? json_stringn(user->at, user->bytes) : NULL;
	if (!utf8)
		return BAD(&reading, "user", "user: expected 1 to %d bytes of UTF-8", TP_ID_BYTES_MAX);
	json_decref(utf8);
	query->user = user->at;
	query->user_bytes = user->bytes;
	/* what has been sent a moment ahead of the clock belongs to now */
	if (!ctl_target_param(target, "to"))
		query->to_ms += HOUR_MS;
	return true;
}

bool ctl_param_trending(const struct ctl_target *target, uint64_t now_ms, struct ctl_query *query, bool *sources, uint32_t *limit,
			struct ctl_reply *reply)
{
	static const enum ctl_dimension dimensions[] = {CTL_AD, CTL_CAMPAIGN, CTL_PUBLISHER};
	const struct reading reading = {.target = target, .reply = reply};
	const struct ctl_text *by = ctl_target_param(target, "by");

	if (!check_names(&reading, "by, window, from, to or limit") || !read_range(&reading, now_ms, TREND_MS, query) ||
	    !read_limit(&reading, 10, CTL_TRENDING_MAX, limit))
		return false;
	*sources = by && ctl_text_is(by, "source");
	for (size_t i = 0; i < sizeof(dimensions) / sizeof(dimensions[0]); i++)
		if (by ? ctl_text_is(by, ctl_dimension_name(dimensions[i])) : dimensions[i] == CTL_AD) {
			query->group[0] = (uint8_t)dimensions[i];
			query->group_count = 1;
		}
	if (!*sources && !query->group_count)
		return BAD(&reading, "by", "by: expected ad, campaign, publisher or source, found \"%.64s\"", by->at);
	/* minutes add up to no more rows than this; the window is for what happens now */
	if (query->to_minute - query->from_minute > DAY_MINUTES)
		return BAD(&reading, "window", "window: expected at most a day");
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
