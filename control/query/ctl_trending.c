/*
 * GET /api/v1/analytics/trending: what is clicked most in the last minutes. Ads, campaigns and publishers exactly, from the sums by
 * minute; sources (addresses) from the summaries of agg/sources.h, each with a lower and an upper bound. docs/queries.md has the fields.
 *
 * Entered by connection threads.
 */
#include "ctl.h"
#include "ctl_folds.h"
#include "ctl_param.h"
#include "turnpike/sources.h"
#include "turnpike/text.h"

#include <errno.h>
#include <string.h>

enum { TIME_BYTES = 32, GROUPS_MAX = CTL_TOP_GROUPS_MAX };

json_t *ctl_json_key(struct tp_str name)
{
	return tp_rollup_is_other(name) ? json_string("(other)") : ctl_json_text(name.at, name.bytes);
}

static json_t *time_of_minute(uint64_t minute)
{
	char text[TIME_BYTES];
	return json_stringn(text, tp_time_text(minute * TP_MINUTE_MS, text));
}

static json_t *answer_json(const struct ctl_query *query, const char *by, json_t *items, const struct ctl_facts *facts)
{
	char text[TIME_BYTES];
	json_t *object = json_object();
	json_object_set_new(object, "by", json_string(by));
	json_object_set_new(object, "from", time_of_minute(query->from_minute));
	json_object_set_new(object, "to", time_of_minute(query->to_minute));
	json_object_set_new(object, "items", items);
	json_object_set_new(object, "watermark", json_stringn(text, tp_time_text(facts->watermark_ms, text)));
	return object;
}

/* ---- sources ---- */

struct asking {
	const struct ctl_query *query;
	const char *only;
	struct agg_sources sources;
};

static void sources_begin(void *context)
{
	struct asking *asking = context;
	asking->sources = (struct agg_sources){0};
}

static bool sources_section(void *context, const void *bytes)
{
	struct asking *asking = context;
	if (asking->only) /* sections do not tell advertisers apart: read the rows */
		return true;
	agg_sources_take(bytes, (uint32_t)asking->query->from_minute, (uint32_t)asking->query->to_minute, &asking->sources);
	return true;
}

static bool sources_fold(void *context, struct agg_fold *fold)
{
	struct asking *asking = context;
	agg_fold_sources_take(fold, (uint32_t)asking->query->from_minute, (uint32_t)asking->query->to_minute, &asking->sources);
	return true;
}

static bool sources_want(void *context, const struct tp_event *event)
{
	const struct asking *asking = context;
	uint64_t minute = event->timestamp_ms / TP_MINUTE_MS;
	if (event->type != TP_CLICK || minute < asking->query->from_minute || minute >= asking->query->to_minute)
		return false;
	struct tp_str advertiser = tp_event_string(event, TP_ADVERTISER_ID);
	return !asking->only ||
	       (advertiser.bytes == strlen(asking->only) && memcmp(advertiser.at, asking->only, advertiser.bytes) == 0);
}

static json_t *source_json(const struct agg_source *source)
{
	struct tp_addr addr = tp_addr_v6(source->ip);
	char text[TP_ADDR_TEXT_BYTES];
	tp_addr_text(&addr, text);
	return json_pack("{s:s, s:I, s:I}", "key", text, "gross_clicks_min", (json_int_t)source->clicks, "gross_clicks_max",
			 (json_int_t)(source->clicks + source->over));
}

static void sources_run(struct ctl *ctl, const struct ctl_query *query, uint32_t limit, struct ctl_reply *reply)
{
	struct asking asking = {.query = query, .only = query->only};
	struct ctl_facts facts = {0};
	struct ctl_look look;
	const struct ctl_folds_ask ask = {
		.context = &asking,
		.from_ms = query->from_minute * TP_MINUTE_MS,
		.to_ms = query->to_minute * TP_MINUTE_MS,
		.kind = STO_SECTION_SOURCES,
		.begin = sources_begin,
		.section = sources_section,
		.fold = sources_fold,
		.want = sources_want,
		.narrow = query->only != NULL,
	};

	struct ctl_store *store;
	int rc = ctl_store_pool_take(ctl->stores, &store);
	if (rc == 0) {
		ctl_look_take(ctl->views, &look);
		rc = ctl_folds_ask(ctl->folds, store, look.figures, &ask, &facts);
		ctl_look_give(ctl->views, &look);
		ctl_store_pool_give(ctl->stores, store);
	}
	if (rc) {
		ctl_folds_fail(reply, rc, &facts);
		return;
	}
	json_t *items = json_array();
	for (uint32_t i = 0; i < asking.sources.count && i < limit; i++)
		json_array_append_new(items, source_json(&asking.sources.source[i]));
	json_t *object = answer_json(query, "source", items, &facts);
	json_object_set_new(object, "others_max", json_integer((json_int_t)asking.sources.missed));
	ctl_reply_json(reply, object);
}

/* ---- what has sums ---- */

static void begin(void *context)
{
	ctl_answer_reset(context);
}

static bool row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	return ctl_answer_add(context, one, heap);
}

static json_t *group_json(const struct ctl_answer *answer, const struct ctl_group *group)
{
	struct tp_str name = ctl_answer_group_value(answer, group, 0);
	const struct ctl_sums *sums = &group->sums;
	json_t *item = json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "key", ctl_json_key(name), "gross_clicks",
				 (json_int_t)(sums->clicks + sums->flagged_clicks), "clicks", (json_int_t)sums->clicks,
				 "flagged_clicks", (json_int_t)sums->flagged_clicks, "impressions", (json_int_t)sums->impressions,
				 "conversions", (json_int_t)sums->conversions);
	if (tp_rollup_is_other(name))
		json_object_set_new(item, "overflow", json_true());
	return item;
}

static void sums_run(struct ctl *ctl, struct ctl_query *query, uint32_t limit, struct ctl_reply *reply)
{
	struct ctl_answer answer;
	struct ctl_facts facts = {0};
	struct ctl_look look;
	query->groups_max = GROUPS_MAX;
	const struct ctl_scan scan = {
		.context = &answer,
		.from_minute = query->from_minute,
		.to_minute = query->to_minute,
		.grain = STO_MINUTES,
		.dimension = TP_DIM_ADVERTISER,
		.id = query->only,
		.id_bytes = query->only ? strlen(query->only) : 0,
		.begin = begin,
		.row = row,
	};

	struct ctl_store *store;
	int rc = ctl_answer_init(&answer, query);
	if (rc == 0)
		rc = ctl_store_pool_take(ctl->stores, &store);
	if (rc == 0) {
		ctl_look_take(ctl->views, &look);
		rc = ctl_store_scan(store, look.figures, &scan, &facts);
		ctl_look_give(ctl->views, &look);
		ctl_store_pool_give(ctl->stores, store);
	}
	if (answer.too_many_groups) {
		ctl_reply_problem(reply, 422, "too-many-groups", "window", "window: more than %d keys: ask for a shorter one",
				  GROUPS_MAX);
	} else if (answer.too_many_rows) {
		ctl_reply_problem(reply, 422, "too-many-rows", "window",
				  "window: more than %llu rows to read: ask for a shorter one", (unsigned long long)CTL_ROWS_MAX);
	} else if (rc || answer.no_memory) {
		ctl_folds_fail(reply, rc ? rc : -ENOMEM, &facts);
	} else {
		json_t *items = json_array();
		ctl_answer_sort(&answer);
		for (uint32_t i = 0; i < answer.groups && i < limit; i++)
			json_array_append_new(items, group_json(&answer, &answer.group[i]));
		ctl_reply_json(reply, answer_json(query, ctl_dimension_name((enum ctl_dimension)query->group[0]), items, &facts));
	}
	ctl_answer_fini(&answer);
}

void ctl_trending(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_query query = {.slide_minutes = 1, .only = target->only};
	uint32_t limit;
	bool sources;

	if (!ctl_param_trending(target, tp_now_ms(), &query, &sources, &limit, reply))
		return;
	if (sources)
		sources_run(ctl, &query, limit, reply);
	else
		sums_run(ctl, &query, limit, reply);
}
