/* Reads the parameters of the fraud and event resources; the rules are in ctl_fraud_param.h. */
#include "ctl_fraud_param.h"

#include "ctl_param_time.h"
#include "turnpike/text.h"

#include <string.h>

enum { LIMIT_DEFAULT = 100, DAY_MINUTES = 1440 };
#define DAY_MS (DAY_MINUTES * TP_MINUTE_MS)

#define BAD(name, ...) (ctl_reply_problem(reply, 400, "bad-parameter", name, __VA_ARGS__), false)

/* Whether each parameter is one of a list that ends with NULL, and none is there twice. */
static bool names_check(const struct ctl_target *target, const char *const *names, struct ctl_reply *reply)
{
	for (uint32_t i = 0; i < target->params; i++) {
		const struct ctl_text *name = &target->param[i].name;
		const char *const *known = names;
		while (*known && !ctl_text_is(name, *known))
			known++;
		if (!*known)
			return BAD(name->at, "%.64s: unknown parameter", name->at);
		for (uint32_t j = 0; j < i; j++)
			if (ctl_text_is(&target->param[j].name, *known))
				return BAD(*known, "%s: expected once, found twice", *known);
	}
	return true;
}

/* Without any of them *from_ms and *to_ms stay as they are. */
static bool range_read(const struct ctl_target *target, uint64_t now_ms, uint64_t *from_ms, uint64_t *to_ms,
		       struct ctl_reply *reply)
{
	const struct ctl_text *window = ctl_target_param(target, "window");
	const bool has_from = ctl_target_param(target, "from"), has_to = ctl_target_param(target, "to");
	uint64_t ns;
	if (window && (has_from || has_to))
		return BAD("window", "window: expected either window, or from and to, found both");
	if (window) {
		if (tp_duration_parse(window->at, window->bytes, &ns) || ns < 1000000)
			return BAD("window", "window: expected a duration such as 1h, found \"%.64s\"", window->at);
		*from_ms = now_ms > ns / 1000000 ? now_ms - ns / 1000000 : 0;
		*to_ms = 0;
	}
	if (!ctl_param_time(target, "from", NULL, from_ms, NULL, reply) || !ctl_param_time(target, "to", NULL, to_ms, NULL, reply))
		return false;
	if (has_from && has_to && *from_ms > *to_ms)
		return BAD("from", "from: expected a time not after to, found from %llu and to %llu", (unsigned long long)*from_ms,
			   (unsigned long long)*to_ms);
	return true;
}

/* An id as events have them: up to 64 bytes of UTF-8. */
static bool text_read(const struct ctl_target *target, const char *name, bool may_be_empty, struct tp_str *to,
		      struct ctl_reply *reply)
{
	const struct ctl_text *value = ctl_target_param(target, name);
	if (!value)
		return true;
	json_t *utf8 = json_stringn(value->at, value->bytes);
	json_decref(utf8);
	if (!utf8 || value->bytes > TP_ID_BYTES_MAX || (!value->bytes && !may_be_empty))
		return BAD(name, "%s: expected %s%d bytes of UTF-8", name, may_be_empty ? "up to " : "1 to ", TP_ID_BYTES_MAX);
	*to = (struct tp_str){.at = value->at, .bytes = (uint16_t)value->bytes};
	return true;
}

static bool reasons_read(const struct ctl_target *target, uint32_t *reasons, struct ctl_reply *reply)
{
	const struct ctl_text *value = ctl_target_param(target, "reason");
	for (const char *at = value ? value->at : NULL; at;) {
		size_t bytes = strcspn(at, ",");
		uint32_t before = *reasons;
		for (int r = 0; r < TP_FRAUD_REASONS; r++) {
			const char *name = tp_fraud_reason_name((enum tp_fraud_reason)r);
			if (strlen(name) == bytes && memcmp(name, at, bytes) == 0)
				*reasons |= TP_FRAUD_BIT(r);
		}
		if (*reasons == before)
			return BAD("reason", "reason: expected names of rules such as ip_velocity, each once, found \"%.64s\"",
				   value->at);
		at = at[bytes] ? at + bytes + 1 : NULL;
	}
	return true;
}

static bool class_read(const struct ctl_target *target, struct ctl_flagged_filter *filter, struct ctl_reply *reply)
{
	const struct ctl_text *value = ctl_target_param(target, "class");
	if (!value)
		return true;
	filter->has_class = true;
	filter->class = ctl_text_is(value, tp_fraud_class_name(TP_SIVT)) ? TP_SIVT : TP_GIVT;
	if (!ctl_text_is(value, tp_fraud_class_name(filter->class)))
		return BAD("class", "class: expected GIVT or SIVT, found \"%.64s\"", value->at);
	return true;
}

static bool filter_read(const struct ctl_target *target, struct ctl_flagged_filter *filter, struct ctl_reply *reply)
{
	if (!text_read(target, "advertiser", false, &filter->advertiser, reply) ||
	    !text_read(target, "campaign", false, &filter->campaign, reply) ||
	    !text_read(target, "ad", false, &filter->ad, reply) ||
	    !text_read(target, "publisher", true, &filter->publisher, reply) || !reasons_read(target, &filter->reasons, reply) ||
	    !class_read(target, filter, reply))
		return false;
	if (!target->only)
		return true;
	const struct tp_str own = {.at = target->only, .bytes = (uint16_t)strlen(target->only)};
	if (filter->advertiser.at &&
	    (filter->advertiser.bytes != own.bytes || memcmp(filter->advertiser.at, own.at, own.bytes) != 0)) {
		ctl_reply_problem(reply, 403, "forbidden", "advertiser", "advertiser: this token may see its own advertiser only");
		return false;
	}
	filter->advertiser = own;
	return true;
}

static bool limit_read(const struct ctl_target *target, uint32_t *limit, struct ctl_reply *reply)
{
	const struct ctl_text *value = ctl_target_param(target, "limit");
	uint32_t number = 0;
	*limit = LIMIT_DEFAULT;
	if (!value)
		return true;
	for (size_t i = 0; i < value->bytes && number <= CTL_FLAGGED_MAX; i++) {
		bool digit = value->at[i] >= '0' && value->at[i] <= '9';
		number = digit ? 10 * number + (uint32_t)(value->at[i] - '0') : CTL_FLAGGED_MAX + 1;
	}
	if (number == 0 || number > CTL_FLAGGED_MAX)
		return BAD("limit", "limit: expected a whole number from 1 to %d, found \"%.64s\"", CTL_FLAGGED_MAX, value->at);
	*limit = number;
	return true;
}

bool ctl_fraud_param_flagged(const struct ctl_target *target, uint64_t now_ms, struct ctl_flagged_query *query,
			     struct ctl_reply *reply)
{
	static const char *const names[] = {"campaign", "advertiser", "publisher", "ad",    "reason", "class",
					    "from",     "to",         "window",    "limit", "cursor", NULL};
	const struct ctl_text *cursor = ctl_target_param(target, "cursor");
	*query = (struct ctl_flagged_query){0};
	if (!names_check(target, names, reply) || !filter_read(target, &query->filter, reply) ||
	    !range_read(target, now_ms, &query->filter.from_ms, &query->filter.to_ms, reply) ||
	    !limit_read(target, &query->limit, reply))
		return false;
	query->after = cursor;
	if (cursor && !ctl_flagged_cursor_parse(cursor->at, cursor->bytes, &query->cursor))
		return BAD("cursor", "cursor: expected one that a page has given, found \"%.64s\"", cursor->at);
	/* an empty range has an end, and nothing before it */
	if (ctl_target_param(target, "to") && !query->filter.to_ms)
		query->filter.from_ms = query->filter.to_ms = 1;
	return true;
}

static bool step_read(const struct ctl_target *target, struct ctl_fraud_query *query, bool has_from, bool has_to,
		      struct ctl_reply *reply)
{
	static const struct {
		const char *name;
		uint32_t minutes;
	} steps[] = {{"1m", 1}, {"1h", 60}, {"1d", DAY_MINUTES}};
	const struct ctl_text *value = ctl_target_param(target, "step");
	uint64_t minutes = (query->filter.to_ms - query->filter.from_ms) / TP_MINUTE_MS;
	query->step_minutes = minutes <= 6 * 60 ? 1 : minutes <= 14 * DAY_MINUTES ? 60 : DAY_MINUTES;
	for (size_t i = 0; value && i < sizeof(steps) / sizeof(steps[0]); i++)
		if (ctl_text_is(value, steps[i].name))
			query->step_minutes = steps[i].minutes, value = NULL;
	if (value)
		return BAD("step", "step: expected 1m, 1h or 1d, found \"%.64s\"", value->at);
	/* What nobody named lies on whole steps: one answer for all who ask in the same step, which is kept (ctl_fraud_sums.h). */
	const uint64_t step_ms = query->step_minutes * TP_MINUTE_MS;
	if (!has_from)
		query->filter.from_ms -= query->filter.from_ms % step_ms;
	if (!has_to)
		query->filter.to_ms += (step_ms - query->filter.to_ms % step_ms) % step_ms;
	if (ctl_fraud_buckets(query) <= CTL_FRAUD_BUCKETS_MAX)
		return true;
	ctl_reply_problem(reply, 422, "too-many-buckets", "step",
			  "step: the range has %llu buckets, at most %d are answered: ask for a shorter range or a longer step",
			  (unsigned long long)ctl_fraud_buckets(query), CTL_FRAUD_BUCKETS_MAX);
	return false;
}

bool ctl_fraud_param_summary(const struct ctl_target *target, uint64_t now_ms, struct ctl_fraud_query *query,
			     struct ctl_reply *reply)
{
	static const char *const names[] = {"campaign", "advertiser", "publisher", "ad",   "reason", "class",
					    "from",     "to",         "window",    "step", NULL};
	struct ctl_flagged_filter *filter = &query->filter;
	*query = (struct ctl_fraud_query){0};
	if (!names_check(target, names, reply) || !filter_read(target, filter, reply))
		return false;
	if (!range_read(target, now_ms, &filter->from_ms, &filter->to_ms, reply))
		return false;
	const bool has_window = ctl_target_param(target, "window");
	const bool has_to = ctl_target_param(target, "to"), has_from = ctl_target_param(target, "from");
	/* what has been sent a moment ahead of the clock belongs to now */
	if (!has_to)
		filter->to_ms = (has_from && filter->from_ms > now_ms ? filter->from_ms : now_ms) + TP_MINUTE_MS;
	if (!has_from && !has_window)
		filter->from_ms = filter->to_ms > DAY_MS ? filter->to_ms - DAY_MS : 0;
	filter->from_ms -= filter->from_ms % TP_MINUTE_MS;
	filter->to_ms += (TP_MINUTE_MS - filter->to_ms % TP_MINUTE_MS) % TP_MINUTE_MS;
	return step_read(target, query, has_from || has_window, has_to || has_window, reply);
}

bool ctl_fraud_param_event(const struct ctl_target *target, uint64_t *from_ms, uint64_t *to_ms, struct ctl_reply *reply)
{
	static const char *const names[] = {"from", "to", NULL};
	*from_ms = *to_ms = 0;
	return names_check(target, names, reply) && range_read(target, 0, from_ms, to_ms, reply);
}
