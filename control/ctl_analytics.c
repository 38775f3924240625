/*
 * GET /api/v1/analytics/{campaigns,ads,advertisers,publishers}/{id}: parameters to query, query to snapshot, sums to JSON.
 * Fields and their meaning: contract sections 4 and 7. Entered by connection threads.
 */
#include "ctl.h"
#include "ctl_param.h"
#include "ctl_query.h"
#include "turnpike/text.h"

#include <errno.h>
#include <string.h>

enum { SEGMENT_KIND = 3, SEGMENT_ID = 4, TIME_BYTES = 32, MICROS_BYTES = 64 };

static void begin(void *context)
{
	ctl_answer_reset(context);
}

static bool row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	return ctl_answer_add(context, one, heap);
}

/* ---- JSON ---- */

static json_t *money_text(__int128 micros)
{
	char text[MICROS_BYTES];
	return json_stringn(text, tp_micros_text(micros, text));
}

static json_t *time_of_minute(uint64_t minute)
{
	char text[TIME_BYTES];
	return json_stringn(text, tp_time_text(minute * TP_MINUTE_MS, text));
}

/* The counts and the money of one set of sums. `say_currency`: where a reader could not know it from the totals. */
static void sums_into(json_t *object, const struct ctl_sums *sums, bool say_currency)
{
	struct ctl_money money = ctl_sums_money(sums);

	json_object_set_new(object, "impressions", json_integer((json_int_t)sums->impressions));
	json_object_set_new(object, "clicks", json_integer((json_int_t)sums->clicks));
	json_object_set_new(object, "flagged_clicks", json_integer((json_int_t)sums->flagged_clicks));
	json_object_set_new(object, "gross_clicks", json_integer((json_int_t)(sums->clicks + sums->flagged_clicks)));
	json_object_set_new(object, "conversions", json_integer((json_int_t)sums->conversions));
	json_object_set_new(object, "spend", money.several ? json_null() : money_text(money.micros));
	json_object_set_new(object, "ctr",
			    sums->impressions ? json_real((double)sums->clicks / (double)sums->impressions) : json_null());
	if (say_currency || money.several)
		json_object_set_new(object, "currency", money.currency[0] ? ctl_json_text(money.currency, 3) : json_null());
	if (!money.several)
		return;
	json_t *each = json_object();
	for (const struct ctl_spend *spend = sums->spend; spend; spend = spend->next) {
		if (spend->micros)
			json_object_set_new(each, spend->currency, money_text(spend->micros));
	}
	json_object_set_new(object, "spend_by_currency", each);
}

static json_t *series_of(struct ctl_answer *answer, uint64_t watermark_ms, bool say_currency)
{
	const struct ctl_query *query = answer->query;
	json_t *series = json_array();

	for (uint32_t i = 0; i < answer->slots; i++) {
		struct ctl_sums sums;
		uint64_t start = answer->slot_from + (uint64_t)i * query->slide_minutes;
		json_t *bucket = json_object();
		if (!ctl_answer_bucket(answer, i, &sums)) {
			json_decref(bucket);
			json_decref(series);
			return NULL;
		}
		json_object_set_new(bucket, "start", time_of_minute(start));
		sums_into(bucket, &sums, say_currency);
		json_object_set_new(bucket, "final", json_boolean((start + query->step_minutes) * TP_MINUTE_MS <= watermark_ms));
		json_array_append_new(series, bucket);
	}
	return series;
}

json_t *ctl_json_key(struct tp_str name)
{
	return tp_rollup_is_other(name) ? json_string("(other)") : ctl_json_text(name.at, name.bytes);
}

static json_t *groups_of(struct ctl_answer *answer)
{
	json_t *groups = json_array();

	ctl_answer_sort(answer);
	for (uint32_t i = 0; i < answer->groups; i++) {
		json_t *object = json_object();
		bool other = false;
		for (uint32_t nth = 0; nth < answer->query->group_count; nth++) {
			struct tp_str value = ctl_answer_group_value(answer, &answer->group[i], nth);
			json_object_set_new(object, ctl_dimension_name((enum ctl_dimension)answer->query->group[nth]),
					    ctl_json_key(value));
			other = other || tp_rollup_is_other(value);
		}
		if (other)
			json_object_set_new(object, "overflow", json_true());
		sums_into(object, &answer->group[i].sums, true);
		json_array_append_new(groups, object);
	}
	return groups;
}

/* users: NULL where they are not told */
static json_t *answer_json(struct ctl_answer *answer, const struct ctl_facts *facts, const uint64_t *users)
{
	const struct ctl_query *query = answer->query;
	char text[TIME_BYTES];
	json_t *object = json_object(), *totals = json_object();
	bool several = ctl_sums_money(&answer->totals).several;

	json_object_set_new(object, "id", json_stringn(query->id, query->id_bytes));
	json_object_set_new(object, "from", time_of_minute(query->from_minute));
	json_object_set_new(object, "to", time_of_minute(query->to_minute));
	json_object_set_new(object, "step", json_string(ctl_step_text(query->step_minutes, text)));
	if (query->slide_minutes != query->step_minutes)
		json_object_set_new(object, "slide", json_string(ctl_step_text(query->slide_minutes, text)));
	sums_into(totals, &answer->totals, true);
	if (query->filter == CTL_CAMPAIGN)
		json_object_set_new(totals, "users", users ? json_integer((json_int_t)*users) : json_null());
	json_object_set_new(object, "totals", totals);
	/* once several currencies meet in the answer, each of its parts has to say its own */
	json_object_set_new(object, "series", series_of(answer, facts->watermark_ms, several));
	json_object_set_new(object, "groups", groups_of(answer));
	json_object_set_new(object, "watermark", json_stringn(text, tp_time_text(facts->watermark_ms, text)));
	json_object_set_new(object, "revision", json_integer((json_int_t)(1 + answer->totals.late)));
	return object;
}

/* ---- the request ---- */

static bool dimension_of_kind(const struct ctl_text *kind, enum ctl_dimension *dimension)
{
	static const struct {
		const char *kind;
		enum ctl_dimension dimension;
	} kinds[] = {{"campaigns", CTL_CAMPAIGN}, {"ads", CTL_AD}, {"advertisers", CTL_ADVERTISER}, {"publishers", CTL_PUBLISHER}};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!ctl_text_is(kind, kinds[i].kind))
			continue;
		*dimension = kinds[i].dimension;
		return true;
	}
	return false;
}

static void fail(struct ctl_reply *reply, int rc, const struct ctl_answer *answer, const struct ctl_facts *facts)
{
	if (answer->too_many_groups)
		ctl_reply_problem(reply, 422, "too-many-groups", "group_by",
				  "group_by: more than %d groups: ask for fewer dimensions or a shorter range", CTL_GROUPS_MAX);
	else if (answer->no_memory || rc == -ENOMEM)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else if (rc == -EBADMSG && facts->damaged_sequence)
		ctl_reply_problem(reply, 500, "damaged-segment", NULL, "%s %llu is damaged: see turnpikectl segments verify",
				  facts->damaged_rollup ? "rollup file" : "segment", (unsigned long long)facts->damaged_sequence);
	else
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the data folder cannot be read now: %s", strerror(-rc));
}

static void query_run(struct ctl *ctl, const struct ctl_query *query, struct ctl_reply *reply)
{
	struct ctl_answer answer;
	struct ctl_facts facts = {0};
	struct ctl_look look;
	uint64_t users = 0;
	bool has_users = false;
	const struct ctl_scan scan = {
		.context = &answer,
		.from_minute = query->from_minute,
		.to_minute = query->to_minute,
		.grain = ctl_query_grain(query),
		.dimension = (enum tp_dimension)query->filter,
		.id = query->filtered && (int)query->filter < (int)TP_DIMENSIONS ? query->id : NULL,
		.id_bytes = query->id_bytes,
		.alone = query->group_count == 0,
		.begin = begin,
		.row = row,
	};

	int rc = ctl_answer_init(&answer, query);
	if (rc == 0) {
		ctl_look_take(ctl->views, &look);
		pthread_mutex_lock(&ctl->store_lock);
		rc = ctl_store_scan(ctl->store, look.figures, &scan, &facts);
		if (rc == 0) {
			struct ctl_facts of_users;
			int told = ctl_users(ctl, query, look.figures, &users, &of_users);
			has_users = told == 0;
			if (told && told != -ENODATA) {
				rc = told;
				facts = of_users;
			}
		}
		pthread_mutex_unlock(&ctl->store_lock);
		ctl_look_give(ctl->views, &look);
	}
	if (rc == 0 && !answer.no_memory) {
		json_t *object = answer_json(&answer, &facts, has_users ? &users : NULL);
		if (!answer.no_memory)
			ctl_reply_json(reply, object);
		else
			json_decref(object);
	}
	if (rc != 0 || answer.no_memory)
		fail(reply, rc, &answer, &facts);
	ctl_answer_fini(&answer);
}

void ctl_analytics(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_query query = {.filtered = true};
	const struct ctl_text *id = &target->segment[SEGMENT_ID];

	if (!dimension_of_kind(&target->segment[SEGMENT_KIND], &query.filter)) {
		ctl_reply_problem(reply, 404, "not-found", NULL, "expected campaigns, ads, advertisers or publishers");
		return;
	}
	/* the rows of others may not show, not even as a sum */
	if (target->only && !(query.filter == CTL_ADVERTISER && ctl_text_is(id, target->only))) {
		ctl_reply_problem(reply, 403, "forbidden", NULL, "the token's scope does not reach this");
		return;
	}
	json_t *utf8 = json_stringn(id->at, id->bytes);
	if (!utf8) {
		ctl_reply_problem(reply, 400, "bad-parameter", "id", "id: expected UTF-8");
		return;
	}
	json_decref(utf8);
	query.id = id->at;
	query.id_bytes = id->bytes;
	if (ctl_param_analytics(target, tp_now_ms(), &query, reply))
		query_run(ctl, &query, reply);
}
