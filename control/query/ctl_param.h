/* The parameters of an analytics request, read into a query. Pure; the clock is an argument. */
#ifndef TURNPIKE_CTL_PARAM_H
#define TURNPIKE_CTL_PARAM_H

#include "ctl_query.h"
#include "ctl_request.h"

/*
 * Reads window, from, to, step, slide, tz, group_by, filter, order, limit and compare; `id`, which may come several times, is passed
 * over. False: *reply is the problem to send.
 *
 * Rows are sums of whole minutes, so the range is widened to whole minutes: `from` down, `to` up. Without from and to it is the last
 * `window` (1h by default) up to the end of this minute; with one of them, the other is an hour away, or now.
 * Without `step` it is 1m up to six hours, 1h up to two weeks, else 1d. Buckets begin on whole steps in UTC; days on the midnights of
 * `tz`, unless they slide.
 *
 * filter: dimension:value, separated by commas. Several values of one dimension are alternatives, several dimensions all hold. A comma
 * in a value is written %2C, a percent sign %25 (in a URL, where % itself is escaped: %252C, %2525); any byte may be written so.
 */
bool ctl_param_analytics(const struct ctl_target *target, uint64_t now_ms, struct ctl_query *query, struct ctl_reply *reply);

enum { CTL_SESSIONS_MAX = 1000, CTL_TRENDING_MAX = 100 };

struct ctl_sessions_query {
	const char *user; /* in the target */
	size_t user_bytes;
	uint64_t from_ms, to_ms;
	uint32_t limit;
};

enum { CTL_IDS_MAX = 16 };
/* The values of all `id` parameters into id[CTL_IDS_MAX], 1 or more; 0: *reply is the problem. */
uint32_t ctl_param_ids(const struct ctl_target *target, const struct ctl_text **id, struct ctl_reply *reply);

/* Reads user, window, from, to and limit; by default the last day. */
bool ctl_param_sessions(const struct ctl_target *target, uint64_t now_ms, struct ctl_sessions_query *query,
			struct ctl_reply *reply);

/* Reads by, window, from, to and limit; by default ads of the last five minutes. *sources: by=source, and no groups. */
bool ctl_param_trending(const struct ctl_target *target, uint64_t now_ms, struct ctl_query *query, bool *sources, uint32_t *limit,
			struct ctl_reply *reply);

/* "1m", "1h" or "1d" as it goes into the answer, and any slide ("5m", "90m"). `to` has room for 24. */
const char *ctl_step_text(uint32_t minutes, char *to);

#endif
