/*
 * GET /api/v1/analytics/{campaigns,ads,advertisers,publishers}/{id}, and the same without an id but with ?id=…&id=…: parameters to
 * query, query to snapshot, sums to JSON (ctl_analytics_json.c). Fields and their meaning: contract sections 4 and 7, docs/queries.md.
 *
 *   live rows ──────────────────────────► sums ─┐
 *   sealed files ─► kept (ctl_cache.h) ─────────┴─► added up: one snapshot
 *
 * Entered by connection threads, each with a store of its own.
 */
#include "ctl_analytics.h"

#include "ctl.h"
#include "ctl_param.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_KIND = 3, SEGMENT_ID = 4 };

/* A question to one snapshot. */
struct asking {
	struct ctl_cache *cache;
	struct ctl_answer *answer;   /* what the live rows make, and in the end all */
	struct ctl_answer sealed;    /* what sealed files make, when it was not kept */
	struct ctl_answer *into;     /* where the rows go now */
	const struct ctl_kept *kept; /* held */
	struct ctl_flight *flight;   /* ours: to be put, or to fail */
	size_t key_bytes;
	char key[CTL_CACHE_KEY_BYTES_MAX];
};

static void sealed_drop(struct asking *asking)
{
	if (asking->into == &asking->sealed)
		ctl_answer_fini(&asking->sealed);
	if (asking->kept)
		ctl_cache_give(asking->cache, asking->kept);
	if (asking->flight)
		ctl_cache_fail(asking->cache, asking->flight);
	asking->kept = NULL;
	asking->flight = NULL;
	asking->into = asking->answer;
}

static void begin(void *context)
{
	struct asking *asking = context;

	sealed_drop(asking);
	ctl_answer_reset(asking->answer);
}

static bool row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	return ctl_answer_add(((struct asking *)context)->into, one, heap);
}

static bool sealed(void *context, const uint64_t state[STO_READER_STATE])
{
	struct asking *asking = context;

	sealed_drop(asking);
	asking->kept = ctl_cache_take(asking->cache, asking->key, asking->key_bytes, state, &asking->flight);
	if (asking->kept)
		return true;
	/* without memory for a second answer the rows go into the first, and nothing is kept */
	if (asking->flight && ctl_answer_init(&asking->sealed, asking->answer->query) == 0)
		asking->into = &asking->sealed;
	return false;
}

static void sums_free(void *sums)
{
	ctl_answer_fini(sums);
	free(sums);
}

/* What sealed files make is shown to who waits for it, and kept. */
static void sealed_put(struct asking *asking)
{
	struct ctl_answer *sums = malloc(sizeof(*sums));

	if (!sums)
		return; /* sealed_drop() ends the flight */
	*sums = asking->sealed;
	sums->query = NULL; /* ours, and gone sooner */
	asking->into = asking->answer;
	ctl_cache_put(asking->cache, asking->flight, sums, ctl_answer_bytes(sums), sums_free);
	asking->flight = NULL;
}

int ctl_analytics_ask(const struct ctl_analytics_source *source, const struct ctl_query *query, struct ctl_answer *answer,
		      struct ctl_facts *facts)
{
	struct asking asking = {.cache = source->cache, .answer = answer, .into = answer};
	const struct ctl_scan scan = {
		.context = &asking,
		.from_minute = query->from_minute,
		.to_minute = query->to_minute,
		.grain = ctl_query_grain(query),
		.dimension = (enum tp_dimension)query->filter,
		.id = query->filtered && (int)query->filter < (int)TP_DIMENSIONS ? query->id : NULL,
		.id_bytes = query->id_bytes,
		.alone = query->group_count == 0 && query->filter_count == 0 && !query->only,
		.begin = begin,
		.sealed = source->cache ? sealed : NULL,
		.row = row,
	};

	asking.key_bytes = ctl_cache_key(query, asking.key);
	int rc = ctl_store_scan(source->store, source->live, &scan, facts);
	if (asking.into == &asking.sealed) {
		answer->too_many_rows = asking.sealed.too_many_rows;
		answer->too_many_groups = asking.sealed.too_many_groups;
		answer->no_memory = asking.sealed.no_memory;
		if (rc == 0 && ctl_answer_merge(answer, &asking.sealed))
			sealed_put(&asking);
	} else if (rc == 0 && asking.kept) {
		(void)ctl_answer_merge(answer, asking.kept->value);
	}
	sealed_drop(&asking);
	if (rc == 0 && answer->no_memory)
		rc = -ENOMEM;
	return rc == 0 && answer->too_many_groups ? -ECANCELED : rc;
}

static void fail(struct ctl_reply *reply, int rc, const struct ctl_answer *answer, const struct ctl_facts *facts)
{
	const struct ctl_query *query = answer->query;

	if (answer->too_many_groups)
		ctl_reply_problem(reply, 422, "too-many-groups", "group_by",
				  "group_by: more than %u groups: ask for fewer dimensions, a shorter range, a filter%s",
				  query->groups_max, query->limit ? "" : ", or the first ones with limit");
	else if (answer->too_many_rows)
		ctl_reply_problem(reply, 422, "too-many-rows", ctl_query_grain(query) == STO_DAYS ? "from" : "step",
				  "more than %llu rows would have to be read: ask for %s",
				  (unsigned long long)(query->rows_max ? query->rows_max : CTL_ROWS_MAX),
				  ctl_query_grain(query) == STO_DAYS    ? "a shorter range"
				  : ctl_query_grain(query) == STO_HOURS ? "step=1d or a shorter range"
									: "step=1h or step=1d, or a shorter range");
	else if (answer->no_memory || rc == -ENOMEM)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else if (rc == -EBADMSG && facts->damaged_sequence)
		ctl_reply_problem(reply, 500, "damaged-segment", NULL, "%s %llu is damaged: see turnpikectl segments verify",
				  facts->damaged_rollup ? "rollup file" : "segment", (unsigned long long)facts->damaged_sequence);
	else
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the data folder cannot be read now: %s", strerror(-rc));
}

/* Groups by money need one currency to be ordered. */
static bool order_is_possible(const struct ctl_answer *answer, struct ctl_reply *reply)
{
	char currency[4] = "";

	if (answer->query->order != CTL_SPEND)
		return true;
	for (uint32_t i = 0; i < answer->groups; i++) {
		struct ctl_money money = ctl_sums_money(&answer->group[i].sums);
		if (money.several || (money.micros && currency[0] && strcmp(currency, money.currency) != 0)) {
			ctl_reply_problem(
				reply, 422, "several-currencies", "order",
				"order: spends of several currencies cannot be compared: add filter=currency:USD or the like");
			return false;
		}
		if (money.micros)
			memcpy(currency, money.currency, sizeof(currency));
	}
	return true;
}

/* One id's answer into the text. False: *reply is the problem. */
static bool id_answer(struct ctl *ctl, const struct ctl_analytics_source *source, const struct ctl_query *query,
		      struct ctl_json *json, struct ctl_reply *reply)
{
	struct ctl_query before;
	struct ctl_answer answer = {0}, previous = {0};
	struct ctl_facts facts = {0}, of_previous, of_users;
	struct ctl_analytics_parts parts = {.answer = &answer, .facts = &facts};
	uint64_t users = 0;
	bool good = false;

	int rc = ctl_answer_init(&answer, query);
	if (rc == 0)
		rc = ctl_analytics_ask(source, query, &answer, &facts);
	if (rc == 0 && query->compare) {
		ctl_query_previous(query, &before);
		rc = ctl_answer_init(&previous, &before);
		if (rc == 0)
			rc = ctl_analytics_ask(source, &before, &previous, &of_previous);
		parts.previous = &previous;
		if (previous.too_many_rows || rc == -EBADMSG) {
			answer.too_many_rows = previous.too_many_rows;
			facts = of_previous;
		}
	}
	/* sketches do not tell advertisers apart */
	if (rc == 0 && !answer.foreign) {
		int told = ctl_users(ctl, source->store, query, source->live, &users, &of_users);
		if (told == 0)
			parts.users = &users;
		if (told && told != -ENODATA) {
			rc = told;
			facts = of_users;
		}
	}
	if (rc != 0)
		fail(reply, rc, &answer, &facts);
	else if (order_is_possible(&answer, reply))
		good = ctl_analytics_json(&parts, json);
	if (rc == 0 && !good && !reply->status)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	ctl_answer_fini(&previous);
	ctl_answer_fini(&answer);
	return good;
}

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

/* Whether a scope that sees one advertiser alone names another. */
static bool names_another(const struct ctl_query *query, const char *only, const struct ctl_text *const *id, uint32_t ids)
{
	size_t bytes = strlen(only);

	for (uint32_t i = 0; i < ids && query->filter == CTL_ADVERTISER; i++)
		if (id[i]->bytes != bytes || memcmp(id[i]->at, only, bytes) != 0)
			return true;
	for (uint32_t i = 0; i < query->filter_count; i++) {
		const struct ctl_filter *filter = &query->filters[i];
		if (filter->dimension == CTL_ADVERTISER &&
		    (filter->bytes != bytes || memcmp(query->filter_text + filter->at, only, bytes) != 0))
			return true;
	}
	return false;
}

static bool is_utf8(const struct ctl_text *text)
{
	json_t *utf8 = json_stringn(text->at, text->bytes);

	json_decref(utf8);
	return utf8 != NULL;
}

void ctl_analytics(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_query query = {.filtered = true};
	const struct ctl_text *id[CTL_IDS_MAX] = {&target->segment[SEGMENT_ID]};
	bool many = target->segments == SEGMENT_ID;
	struct ctl_analytics_source source = {.cache = ctl_store_pool_cache(ctl->stores)};
	struct ctl_json json = {0};
	struct ctl_look look;
	uint32_t ids = 1;

	if (!dimension_of_kind(&target->segment[SEGMENT_KIND], &query.filter)) {
		ctl_reply_problem(reply, 404, "not-found", NULL, "expected campaigns, ads, advertisers or publishers");
		return;
	}
	if (!many && ctl_target_param(target, "id")) {
		ctl_reply_problem(reply, 400, "bad-parameter", "id", "id: expected in the path or as parameters, found both");
		return;
	}
	if (many && !(ids = ctl_param_ids(target, id, reply)))
		return;
	/* before anything else is told about the request */
	if (target->only && names_another(&query, target->only, id, ids)) {
		ctl_reply_problem(reply, 403, "forbidden", NULL, "the token's scope does not reach this");
		return;
	}
	for (uint32_t i = 0; i < ids; i++) {
		if (!is_utf8(id[i])) {
			ctl_reply_problem(reply, 400, "bad-parameter", "id", "id: expected UTF-8");
			return;
		}
	}
	if (!ctl_param_analytics(target, tp_now_ms(), &query, reply))
		return;
	query.only = target->only;
	if (target->only && names_another(&query, target->only, id, ids)) {
		ctl_reply_problem(reply, 403, "forbidden", NULL, "the token's scope does not reach this");
		return;
	}
	int rc = ctl_store_pool_take(ctl->stores, &source.store);
	if (rc != 0) {
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the data folder cannot be read now: %s", strerror(-rc));
		return;
	}
	ctl_look_take(ctl->views, &look);
	source.live = look.figures;
	bool good = true;
	if (many) {
		ctl_json_open(&json, '{');
		CTL_JSON_NAME(&json, "items");
		ctl_json_open(&json, '[');
	}
	for (uint32_t i = 0; i < ids && good; i++) {
		query.id = id[i]->at;
		query.id_bytes = id[i]->bytes;
		good = id_answer(ctl, &source, &query, &json, reply);
	}
	if (many) {
		ctl_json_close(&json, ']');
		ctl_json_close(&json, '}');
	}
	ctl_look_give(ctl->views, &look);
	ctl_store_pool_give(ctl->stores, source.store);
	if (good)
		ctl_json_reply(&json, reply);
	else
		ctl_json_free(&json);
}
