/*
 * GET /api/v1/reconcile/totals: figures counted again from the raw rows, beside the reported ones; compared minute by minute, shown per
 * campaign. GET /api/v1/reconcile/runs: what the background recounts found. Contract section 7; docs/reconciliation.md.
 *
 * Threads: connection threads; one recount at a time.
 */
#include "ctl.h"
#include "ctl_ledger.h"
#include "ctl_param_time.h"
#include "ctl_reconcile.h"
#include "ctl_recount.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	CAMPAIGNS_MAX = 20000,
	CURRENCIES_MAX = 16, /* of one campaign; a recount stops at more */
	DIFFERENCES_MAX = 1000,
	RUNS = 50,
	RUNS_MAX = 500,
	ROWS_MAX = 20000000,
	TEXT_BYTES = 64,
};

#define WINDOW_MS 3600000ULL

/* ---- parameters ---- */

static bool bad(struct ctl_reply *reply, const char *name, const char *expected, const char *found)
{
	ctl_reply_problem(reply, 400, "bad-parameter", name, "%s: expected %s, found \"%.64s\"", name, expected, found);
	return false;
}

/* Whole minutes: from down, to up. By default the last hour, up to the end of this minute. */
static bool range_read(const struct ctl_target *target, uint64_t *from_minute, uint64_t *to_minute, struct ctl_reply *reply)
{
	uint64_t from_ms = UINT64_MAX, to_ms = UINT64_MAX;

	if (!ctl_param_time(target, "from", NULL, &from_ms, NULL, reply) ||
	    !ctl_param_time(target, "to", NULL, &to_ms, NULL, reply))
		return false;
	if (to_ms == UINT64_MAX)
		to_ms = from_ms == UINT64_MAX || from_ms < tp_now_ms() ? tp_now_ms() : from_ms + WINDOW_MS;
	if (from_ms == UINT64_MAX)
		from_ms = to_ms > WINDOW_MS ? to_ms - WINDOW_MS : 0;
	if (from_ms > to_ms) {
		ctl_reply_problem(reply, 400, "bad-parameter", "from", "from: expected a time not after to");
		return false;
	}
	*from_minute = from_ms / TP_MINUTE_MS;
	*to_minute = from_ms == to_ms ? *from_minute : (to_ms + TP_MINUTE_MS - 1) / TP_MINUTE_MS;
	return true;
}

/* ---- sums per campaign ---- */

struct money {
	char currency[4];
	__int128 micros[2]; /* raw, reported */
};

struct campaign {
	char *name;
	uint16_t bytes;
	bool moving;
	uint64_t differing; /* keys of it */
	struct ctl_recount_sums sums[2];
	struct money money[CURRENCIES_MAX];
	uint32_t currencies;
};

struct totals {
	struct campaign *campaign;
	uint32_t campaigns, campaigns_room;
	uint32_t *index; /* 0: free, else campaign + 1; a power of two, at least twice CAMPAIGNS_MAX */
	json_t *differences;
	uint64_t differing;
	bool no_memory, too_many;
};

enum { INDEX_SLOTS = 65536 };
static_assert(INDEX_SLOTS >= 2 * CAMPAIGNS_MAX, "look-ups end");

/* Names come sorted within a minute, so a chain that somebody makes long costs little beside the recount. */
static uint32_t slot_of(struct tp_str name)
{
	uint32_t hash = 2166136261U; /* FNV-1a */

	for (uint16_t i = 0; i < name.bytes; i++)
		hash = (hash ^ (uint8_t)name.at[i]) * 16777619U;
	return (hash ^ hash >> 16) & (INDEX_SLOTS - 1);
}

static struct campaign *campaign_find(struct totals *totals, struct tp_str name)
{
	uint32_t slot = slot_of(name);

	for (; totals->index[slot]; slot = (slot + 1) & (INDEX_SLOTS - 1)) {
		struct campaign *one = &totals->campaign[totals->index[slot] - 1];
		if (one->bytes == name.bytes && !memcmp(one->name, name.at, name.bytes))
			return one;
	}
	if (totals->campaigns == CAMPAIGNS_MAX) {
		totals->too_many = true;
		return NULL;
	}
	if (totals->campaigns == totals->campaigns_room) {
		uint32_t room = totals->campaigns_room ? 2 * totals->campaigns_room : 64;
		struct campaign *more = realloc(totals->campaign, room * sizeof(*more));
		totals->no_memory = totals->no_memory || !more;
		if (!more)
			return NULL;
		totals->campaign = more;
		totals->campaigns_room = room;
	}
	struct campaign *made = &totals->campaign[totals->campaigns];
	*made = (struct campaign){.name = malloc(name.bytes + 1U), .bytes = name.bytes};
	totals->no_memory = totals->no_memory || !made->name;
	if (!made->name)
		return NULL;
	memcpy(made->name, name.at, name.bytes);
	totals->index[slot] = ++totals->campaigns;
	return made;
}

static void sums_add(struct ctl_recount_sums *to, const struct ctl_recount_sums *from)
{
	to->impressions += from->impressions;
	to->clicks += from->clicks;
	to->flagged_clicks += from->flagged_clicks;
	to->conversions += from->conversions;
	to->late += from->late;
}

static void money_add(struct totals *totals, struct campaign *campaign, const struct ctl_recount_line *line)
{
	uint32_t i = 0;

	while (i < campaign->currencies && memcmp(campaign->money[i].currency, line->currency, 3) != 0)
		i++;
	if (i == CURRENCIES_MAX) {
		totals->too_many = true;
		return;
	}
	if (i == campaign->currencies) {
		campaign->currencies++;
		memcpy(campaign->money[i].currency, line->currency, sizeof(line->currency));
	}
	campaign->money[i].micros[0] += line->raw.spend_micros;
	campaign->money[i].micros[1] += line->reported.spend_micros;
}

static json_t *money_text(__int128 micros)
{
	char text[TEXT_BYTES];
	return json_stringn(text, tp_micros_text(micros, text));
}

static json_t *key_sums(const struct ctl_recount_sums *sums)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "impressions", (json_int_t)sums->impressions, "clicks",
			 (json_int_t)sums->clicks, "flagged_clicks", (json_int_t)sums->flagged_clicks, "conversions",
			 (json_int_t)sums->conversions, "late", (json_int_t)sums->late, "spend", money_text(sums->spend_micros));
}

static json_t *minute_json(uint64_t minute)
{
	char text[TEXT_BYTES];
	return json_stringn(text, tp_time_text(minute * TP_MINUTE_MS, text));
}

static void line_take(void *context, const struct ctl_recount_line *line)
{
	struct totals *totals = context;
	struct campaign *campaign = totals->no_memory || totals->too_many ? NULL : campaign_find(totals, line->campaign);

	if (!campaign)
		return;
	sums_add(&campaign->sums[0], &line->raw);
	sums_add(&campaign->sums[1], &line->reported);
	money_add(totals, campaign, line);
	campaign->moving = campaign->moving || line->moving;
	campaign->differing += line->differs;
	totals->differing += line->differs;
	if (line->differs && json_array_size(totals->differences) < DIFFERENCES_MAX)
		json_array_append_new(totals->differences,
				      json_pack("{s:o, s:o, s:o, s:s, s:o, s:o}", "minute", minute_json(line->minute), "advertiser",
						ctl_json_text(line->advertiser.at, line->advertiser.bytes), "campaign",
						ctl_json_text(line->campaign.at, line->campaign.bytes), "currency", line->currency,
						"raw", key_sums(&line->raw), "reported", key_sums(&line->reported)));
}

static bool go_on(void *context)
{
	const struct totals *totals = context;
	return !totals->no_memory && !totals->too_many;
}

/* One side of a campaign. Currencies are never added: contract section 4. */
static json_t *side_json(const struct campaign *campaign, int side)
{
	const struct ctl_recount_sums *sums = &campaign->sums[side];
	const struct money *only = NULL;
	uint32_t spent = 0;

	for (uint32_t i = 0; i < campaign->currencies; i++) {
		if (campaign->money[i].micros[side]) {
			only = &campaign->money[i];
			spent++;
		}
	}
	if (!spent && campaign->currencies == 1)
		only = &campaign->money[0];
	json_t *object = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "impressions", (json_int_t)sums->impressions, "clicks",
				   (json_int_t)sums->clicks, "flagged_clicks", (json_int_t)sums->flagged_clicks, "gross_clicks",
				   (json_int_t)(sums->clicks + sums->flagged_clicks), "conversions", (json_int_t)sums->conversions,
				   "late", (json_int_t)sums->late);
	json_object_set_new(object, "spend", spent > 1 ? json_null() : money_text(only ? only->micros[side] : 0));
	json_object_set_new(object, "currency", spent > 1 || !only ? json_null() : ctl_json_text(only->currency, 3));
	if (spent <= 1)
		return object;
	json_t *each = json_object();
	for (uint32_t i = 0; i < campaign->currencies; i++)
		if (campaign->money[i].micros[side])
			json_object_set_new(each, campaign->money[i].currency, money_text(campaign->money[i].micros[side]));
	json_object_set_new(object, "spend_by_currency", each);
	return object;
}

static int campaign_compare(const void *one, const void *other)
{
	const struct campaign *a = one, *b = other;
	int order = memcmp(a->name, b->name, a->bytes < b->bytes ? a->bytes : b->bytes);
	return order ? order : (int)a->bytes - (int)b->bytes;
}

static json_t *items_json(struct totals *totals)
{
	json_t *items = json_array();

	if (totals->campaigns)
		qsort(totals->campaign, totals->campaigns, sizeof(*totals->campaign), campaign_compare);
	for (uint32_t i = 0; i < totals->campaigns; i++) {
		const struct campaign *one = &totals->campaign[i];
		json_array_append_new(items, json_pack("{s:o, s:o, s:o, s:b, s:b, s:I}", "campaign",
						       ctl_json_text(one->name, one->bytes), "raw", side_json(one, 0), "reported",
						       side_json(one, 1), "equal", one->differing == 0, "moving", one->moving,
						       "differing", (json_int_t)one->differing));
	}
	return items;
}

/* ---- the handlers ---- */

static void recount_failed(struct ctl_reply *reply, int rc, const struct totals *totals, const struct ctl_recount_facts *facts)
{
	if (totals->too_many)
		ctl_reply_problem(reply, 422, "too-many-groups", "from",
				  "more than %d campaigns, or %d currencies of one: ask for a shorter range", CAMPAIGNS_MAX,
				  CURRENCIES_MAX);
	else if (rc == -EFBIG)
		ctl_reply_problem(
			reply, 422, "too-expensive", "from",
			"the range needs more than %d raw rows to be read: ask for a shorter one, or use turnpikectl reconcile",
			ROWS_MAX);
	else if (rc == -E2BIG)
		ctl_reply_problem(reply, 422, "too-many-groups", "from", "a minute has more keys than can be counted here");
	else if (rc == -EBADMSG)
		ctl_reply_problem(reply, 500, "damaged", NULL, "%s %" PRIu64 " is damaged",
				  facts->damaged_rollup ? "rollup file" : "segment", facts->damaged_sequence);
	else if (rc == -ENOMEM || totals->no_memory)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else
		ctl_reply_problem(reply, 503, "unreadable", NULL, "the data folder cannot be read just now");
}

static json_t *totals_json(struct totals *totals, const struct ctl_recount_ask *ask, const struct ctl_recount_facts *facts,
			   const struct ctl_recount_range *range)
{
	json_t *object =
		json_pack("{s:o, s:o, s:s, s:b, s:I, s:o, s:o, s:I, s:I, s:I, s:I}", "from", minute_json(ask->from_minute), "to",
			  minute_json(ask->to_minute), "by", "campaign", "equal", totals->differing == 0, "differing",
			  (json_int_t)totals->differing, "differences", totals->differences, "final_to",
			  minute_json(range->to_minute), "segments", (json_int_t)facts->segments, "unsealed_logs",
			  (json_int_t)facts->logs, "events", (json_int_t)facts->rows, "duplicates", (json_int_t)facts->duplicates);

	totals->differences = NULL;
	if (range->whole_minute)
		json_object_set_new(object, "raw_from", minute_json(range->whole_minute));
	json_object_set_new(object, "items", items_json(totals));
	return object;
}

static void totals_run(struct ctl *ctl, struct ctl_recount_ask *ask, struct ctl_reply *reply)
{
	struct totals totals = {.index = calloc(INDEX_SLOTS, sizeof(uint32_t)), .differences = json_array()};
	struct ctl_recount_facts facts = {0};
	struct ctl_recount_range range;
	struct ctl_look look;

	ask->context = &totals;
	ctl_look_take(ctl->views, &look);
	ask->live = look.figures;
	int rc = totals.index && totals.differences ? 0 : -ENOMEM;
	if (!rc)
		rc = ctl_recount_range(ask->data_dir, ask->live, ctl->config.max_future_ms, &range);
	if (!rc && ask->from_minute < range.whole_minute)
		ask->from_minute = range.whole_minute; /* its raw rows are gone: said by from and raw_from */
	if (!rc && ask->to_minute < ask->from_minute)
		ask->to_minute = ask->from_minute;
	if (!rc)
		rc = ctl_recount_run(ask, &facts);
	ctl_look_give(ctl->views, &look);
	if (rc || totals.no_memory || totals.too_many)
		recount_failed(reply, rc, &totals, &facts);
	else
		ctl_reply_json(reply, totals_json(&totals, ask, &facts, &range));
	for (uint32_t i = 0; i < totals.campaigns; i++)
		free(totals.campaign[i].name);
	free(totals.campaign);
	free(totals.index);
	json_decref(totals.differences);
}

void ctl_reconcile_totals(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[] = {"from", "to", "by"};
	const struct ctl_text *by = ctl_target_param(target, "by");
	struct ctl_recount_ask ask = {.data_dir = ctl->config.data_dir,
				      .settle_ms = ctl_recount_settle_ms(ctl->config.commit_interval_ns),
				      .rows_max = ROWS_MAX,
				      .line = line_take,
				      .go_on = go_on};

	if (!ctl_target_known(target, names, sizeof(names) / sizeof(names[0]), reply) ||
	    !range_read(target, &ask.from_minute, &ask.to_minute, reply))
		return;
	if (by && !ctl_text_is(by, "campaign")) {
		bad(reply, "by", "campaign", by->at);
		return;
	}
	if (target->only)
		ask.advertiser = (struct tp_str){.at = target->only, .bytes = (uint16_t)strlen(target->only)};
	if (!ctl_reconcile_turn_take(ctl->reconcile)) {
		ctl_reply_problem(reply, 503, "busy", NULL, "another recount is running");
		return;
	}
	totals_run(ctl, &ask, reply);
	ctl_reconcile_turn_give(ctl->reconcile);
}

/* ---- what the thread found ---- */

static json_t *figures_json(const struct ctl_ledger_figures *figures)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:o}", "impressions", (json_int_t)figures->impressions, "clicks",
			 (json_int_t)figures->clicks, "flagged_clicks", (json_int_t)figures->flagged_clicks, "conversions",
			 (json_int_t)figures->conversions, "spend", money_text(figures->spend_micros));
}

static bool difference_take(void *context, const struct ctl_ledger_difference *difference)
{
	json_array_append_new(context, json_pack("{s:o, s:o, s:s, s:o, s:o}", "minute", minute_json(difference->minute), "campaign",
						 ctl_json_text(difference->campaign, difference->campaign_bytes), "currency",
						 difference->currency, "raw", figures_json(&difference->raw), "reported",
						 figures_json(&difference->reported)));
	return json_array_size(context) < DIFFERENCES_MAX;
}

static bool run_take(void *context, const struct ctl_ledger_recount *recount)
{
	char at[TEXT_BYTES], chain[65];

	tp_time_text(recount->at_ms, at);
	for (size_t i = 0; i < sizeof(recount->chain_sha256); i++)
		snprintf(chain + 2 * i, 3, "%02x", recount->chain_sha256[i]);
	json_array_append_new(context,
			      json_pack("{s:I, s:s, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:s}", "id", (json_int_t)recount->id, "at",
					at, "from", minute_json(recount->from_minute), "to", minute_json(recount->to_minute),
					"equal", recount->differences == 0, "differing", (json_int_t)recount->differences, "events",
					(json_int_t)recount->events, "segments", (json_int_t)recount->segments, "sequence",
					(json_int_t)recount->sequence, "chain_sha256", chain));
	return true;
}

void ctl_reconcile_runs(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	static const char *const names[] = {"from", "to", "limit"};
	const struct ctl_text *limit = ctl_target_param(target, "limit");
	uint64_t from_ms = 0, to_ms = CTL_TIME_MS_MAX, count = RUNS;
	json_t *run;
	size_t i;

	if (!ctl_target_known(target, names, sizeof(names) / sizeof(names[0]), reply) ||
	    !ctl_param_time(target, "from", NULL, &from_ms, NULL, reply) ||
	    !ctl_param_time(target, "to", NULL, &to_ms, NULL, reply))
		return;
	if (from_ms > to_ms) {
		ctl_reply_problem(reply, 400, "bad-parameter", "from", "from: expected a time not after to");
		return;
	}
	if (limit) {
		count = limit->bytes && limit->bytes < 5 && !limit->at[strspn(limit->at, "0123456789")]
				? strtoull(limit->at, NULL, 10)
				: 0;
		if (!count || count > RUNS_MAX) {
			bad(reply, "limit", "a number from 1 to 500", limit->at);
			return;
		}
	}
	json_t *items = json_array();
	int rc = ctl_ledger_recounts(ctl->ledger, from_ms / TP_MINUTE_MS, (to_ms + TP_MINUTE_MS - 1) / TP_MINUTE_MS,
				     (uint32_t)count, run_take, items);
	json_array_foreach(items, i, run)
	{
		json_t *differences = json_array();
		if (!rc && !json_is_true(json_object_get(run, "equal")))
			rc = ctl_ledger_differences(ctl->ledger, json_integer_value(json_object_get(run, "id")), difference_take,
						    differences);
		json_object_set_new(run, "differences", differences);
	}
	if (rc) {
		json_decref(items);
		ctl_reply_problem(reply, 503, "ledger", NULL, "the ledger cannot be read just now");
		return;
	}
	ctl_reply_json(reply, json_pack("{s:o}", "items", items));
}
