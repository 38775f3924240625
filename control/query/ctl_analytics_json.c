/* An answer's JSON; fields and their meaning: contract sections 4 and 7, docs/queries.md. Pure. */
#include "ctl_analytics.h"

#include "ctl_param.h"
#include "turnpike/text.h"

#include <string.h>

static void minute_json(struct ctl_json *json, const struct ctl_query *query, uint64_t minute)
{
	char text[CTL_ZONE_TEXT_BYTES];
	size_t bytes = ctl_zone_text(query->zone ? query->zone : ctl_zone_utc(), minute * TP_MINUTE_MS, text);

	ctl_json_plain(json, text, bytes);
}

/* The counts and the money of one set of sums. `say_currency`: where a reader could not know it from the totals. */
static void sums_json(struct ctl_json *json, const struct ctl_sums *sums, bool say_currency)
{
	struct ctl_money money = ctl_sums_money(sums);

	CTL_JSON_NAME(json, "impressions");
	ctl_json_number(json, sums->impressions);
	CTL_JSON_NAME(json, "clicks");
	ctl_json_number(json, sums->clicks);
	CTL_JSON_NAME(json, "flagged_clicks");
	ctl_json_number(json, sums->flagged_clicks);
	CTL_JSON_NAME(json, "gross_clicks");
	ctl_json_number(json, sums->clicks + sums->flagged_clicks);
	CTL_JSON_NAME(json, "conversions");
	ctl_json_number(json, sums->conversions);
	CTL_JSON_NAME(json, "spend");
	if (money.several)
		ctl_json_none(json);
	else
		ctl_json_micros(json, money.micros);
	CTL_JSON_NAME(json, "ctr");
	if (sums->impressions)
		ctl_json_ratio(json, sums->clicks, sums->impressions);
	else
		ctl_json_none(json);
	if (say_currency || money.several) {
		CTL_JSON_NAME(json, "currency");
		if (money.currency[0])
			ctl_json_string(json, money.currency, 3);
		else
			ctl_json_none(json);
	}
	if (!money.several)
		return;
	CTL_JSON_NAME(json, "spend_by_currency");
	ctl_json_open(json, '{');
	for (const struct ctl_spend *spend = sums->spend; spend; spend = spend->next) {
		if (!spend->micros)
			continue;
		ctl_json_name(json, spend->currency);
		ctl_json_micros(json, spend->micros);
	}
	ctl_json_close(json, '}');
}

static bool series_json(struct ctl_json *json, struct ctl_answer *answer, uint64_t watermark_ms, bool say_currency)
{
	CTL_JSON_NAME(json, "series");
	ctl_json_open(json, '[');
	for (uint32_t i = 0; i < answer->slots; i++) {
		struct ctl_sums sums;
		if (!ctl_answer_bucket(answer, i, &sums))
			return false;
		ctl_json_open(json, '{');
		CTL_JSON_NAME(json, "start");
		minute_json(json, answer->query, ctl_answer_bucket_start(answer, i));
		sums_json(json, &sums, say_currency);
		CTL_JSON_NAME(json, "final");
		ctl_json_bool(json, ctl_answer_bucket_end(answer, i) * TP_MINUTE_MS <= watermark_ms);
		ctl_json_close(json, '}');
	}
	ctl_json_close(json, ']');
	return true;
}

static void groups_json(struct ctl_json *json, struct ctl_answer *answer)
{
	const struct ctl_query *query = answer->query;
	uint32_t shown = query->limit && query->limit < answer->groups ? query->limit : answer->groups;

	ctl_answer_sort(answer);
	CTL_JSON_NAME(json, "groups");
	ctl_json_open(json, '[');
	for (uint32_t i = 0; i < shown; i++) {
		bool other = false;
		ctl_json_open(json, '{');
		for (uint32_t nth = 0; nth < query->group_count; nth++) {
			struct tp_str value = ctl_answer_group_value(answer, &answer->group[i], nth);
			ctl_json_name(json, ctl_dimension_name((enum ctl_dimension)query->group[nth]));
			if (tp_rollup_is_other(value))
				ctl_json_plain(json, "(other)", 7);
			else
				ctl_json_string(json, value.at, value.bytes);
			other = other || tp_rollup_is_other(value);
		}
		if (other) {
			CTL_JSON_NAME(json, "overflow");
			ctl_json_bool(json, true);
		}
		sums_json(json, &answer->group[i].sums, true);
		ctl_json_close(json, '}');
	}
	ctl_json_close(json, ']');
	if (query->group_count) {
		CTL_JSON_NAME(json, "groups_total");
		ctl_json_number(json, answer->groups);
	}
}

/* (now - before) / before; null when there was nothing before. */
static void change_json(struct ctl_json *json, const char *name, __int128 now, __int128 before)
{
	ctl_json_name(json, name);
	if (before <= 0 || now < 0 || before > INT64_MAX || now > INT64_MAX)
		ctl_json_none(json);
	else if (now >= before)
		ctl_json_ratio(json, (uint64_t)(now - before), (uint64_t)before);
	else
		ctl_json_minus_ratio(json, (uint64_t)(before - now), (uint64_t)before);
}

static bool previous_json(struct ctl_json *json, struct ctl_answer *answer, struct ctl_answer *previous, uint64_t watermark_ms)
{
	const struct ctl_sums *now = &answer->totals, *before = &previous->totals;
	struct ctl_money money_now = ctl_sums_money(now), money_before = ctl_sums_money(before);
	bool comparable = !money_now.several && !money_before.several &&
			  (!money_now.micros || !money_before.micros || !strcmp(money_now.currency, money_before.currency));

	CTL_JSON_NAME(json, "previous");
	ctl_json_open(json, '{');
	CTL_JSON_NAME(json, "from");
	minute_json(json, previous->query, previous->query->from_minute);
	CTL_JSON_NAME(json, "to");
	minute_json(json, previous->query, previous->query->to_minute);
	CTL_JSON_NAME(json, "totals");
	ctl_json_open(json, '{');
	sums_json(json, before, true);
	ctl_json_close(json, '}');
	if (!series_json(json, previous, watermark_ms, money_before.several))
		return false;
	ctl_json_close(json, '}');
	CTL_JSON_NAME(json, "change");
	ctl_json_open(json, '{');
	change_json(json, "impressions", now->impressions, before->impressions);
	change_json(json, "clicks", now->clicks, before->clicks);
	change_json(json, "flagged_clicks", now->flagged_clicks, before->flagged_clicks);
	change_json(json, "gross_clicks", (__int128)now->clicks + now->flagged_clicks,
		    (__int128)before->clicks + before->flagged_clicks);
	change_json(json, "conversions", now->conversions, before->conversions);
	change_json(json, "spend", comparable ? money_now.micros : 0, comparable ? money_before.micros : 0);
	ctl_json_close(json, '}');
	return true;
}

bool ctl_analytics_json(const struct ctl_analytics_parts *parts, struct ctl_json *json)
{
	struct ctl_answer *answer = parts->answer;
	const struct ctl_query *query = answer->query;
	uint64_t watermark_ms = parts->facts->watermark_ms;
	bool several = ctl_sums_money(&answer->totals).several;
	char text[CTL_ZONE_TEXT_BYTES];

	ctl_json_open(json, '{');
	CTL_JSON_NAME(json, "id");
	ctl_json_string(json, query->id, query->id_bytes);
	CTL_JSON_NAME(json, "from");
	minute_json(json, query, query->from_minute);
	CTL_JSON_NAME(json, "to");
	minute_json(json, query, query->to_minute);
	if (query->zone && query->zone != ctl_zone_utc()) {
		CTL_JSON_NAME(json, "tz");
		ctl_json_string(json, ctl_zone_name(query->zone), strlen(ctl_zone_name(query->zone)));
	}
	CTL_JSON_NAME(json, "step");
	ctl_step_text(query->step_minutes, text);
	ctl_json_plain(json, text, strlen(text));
	if (query->slide_minutes != query->step_minutes) {
		CTL_JSON_NAME(json, "slide");
		ctl_step_text(query->slide_minutes, text);
		ctl_json_plain(json, text, strlen(text));
	}
	CTL_JSON_NAME(json, "totals");
	ctl_json_open(json, '{');
	sums_json(json, &answer->totals, true);
	if (query->filter == CTL_CAMPAIGN) {
		CTL_JSON_NAME(json, "users");
		if (parts->users)
			ctl_json_number(json, *parts->users);
		else
			ctl_json_none(json);
	}
	ctl_json_close(json, '}');
	/* once several currencies meet in the answer, each of its parts has to say its own */
	if (!series_json(json, answer, watermark_ms, several))
		return false;
	groups_json(json, answer);
	if (parts->previous && !previous_json(json, answer, parts->previous, watermark_ms))
		return false;
	CTL_JSON_NAME(json, "watermark");
	ctl_json_plain(json, text, ctl_zone_text(query->zone ? query->zone : ctl_zone_utc(), watermark_ms, text));
	CTL_JSON_NAME(json, "revision");
	ctl_json_number(json, 1 + answer->totals.late + (parts->previous ? parts->previous->totals.late : 0));
	CTL_JSON_NAME(json, "final");
	ctl_json_bool(json, query->to_minute * TP_MINUTE_MS <= watermark_ms);
	ctl_json_close(json, '}');
	return !json->failed;
}
