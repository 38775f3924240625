/* Totals by type and the busiest campaigns; see ctl_tally.h. The pulse thread's own. */
#include "ctl_tally.h"

#include "ctl_request.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <stdlib.h>
#include <string.h>

struct ctl_tally {
	struct ctl_store *store;
	struct ctl_types sealed;  /* of the segments up to `sequence` */
	uint64_t sequence;        /* the newest segment that is in `sealed` */
	struct ctl_types live;    /* of this snapshot's tables */
	struct ctl_types fresh;   /* of this snapshot's new segments */
	uint64_t fresh_sequence;  /* the newest of them */
	bool in_segment, counted; /* where the rows come from; whether that segment is in `sealed` already */
	struct ctl_query query;   /* campaigns of the last minutes */
	struct ctl_answer top;
};

struct ctl_tally *ctl_tally_open(const char *data_dir)
{
	struct ctl_tally *tally = calloc(1, sizeof(*tally));
	int rc = tally ? ctl_store_open(&tally->store, data_dir) : -1;

	if (rc == 0) {
		tally->query.group[0] = CTL_CAMPAIGN;
		tally->query.group_count = 1;
		rc = ctl_answer_init(&tally->top, &tally->query);
	}
	if (rc == 0)
		return tally;
	tp_logf(TP_ERROR, "cannot read the data folder", "data_dir=\"%s\" error=\"%s\"", data_dir, strerror(-rc));
	if (tally)
		ctl_store_close(tally->store);
	free(tally);
	return NULL;
}

void ctl_tally_close(struct ctl_tally *tally)
{
	if (!tally)
		return;
	ctl_answer_fini(&tally->top);
	ctl_store_close(tally->store);
	free(tally);
}

static void types_add(struct ctl_types *types, const struct ctl_types *more)
{
	types->impressions += more->impressions;
	types->clicks += more->clicks;
	types->flagged_clicks += more->flagged_clicks;
	types->conversions += more->conversions;
}

static void begin(void *context)
{
	struct ctl_tally *tally = context;

	tally->live = tally->fresh = (struct ctl_types){0};
	tally->fresh_sequence = tally->sequence;
	tally->in_segment = false;
	ctl_answer_reset(&tally->top);
}

static bool want(void *context, const struct sto_segment_info *info)
{
	struct ctl_tally *tally = context;

	tally->in_segment = true;
	tally->counted = info->sequence <= tally->sequence;
	if (!tally->counted && info->sequence > tally->fresh_sequence)
		tally->fresh_sequence = info->sequence;
	return !tally->counted || info->to_ms / TP_MINUTE_MS >= tally->query.from_minute;
}

static bool row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	struct ctl_tally *tally = context;

	if (!tally->in_segment || !tally->counted) {
		const struct ctl_types types = {
			.impressions = one->sums.impressions,
			.clicks = one->sums.clicks,
			.flagged_clicks = one->sums.flagged_clicks,
			.conversions = one->sums.conversions,
		};
		types_add(tally->in_segment ? &tally->fresh : &tally->live, &types);
	}
	/* with more campaigns than groups the first ones are shown; the totals are exact all the same */
	(void)ctl_answer_add(&tally->top, one, heap);
	return true;
}

int ctl_tally_take(struct ctl_tally *tally, const struct tp_live *live, uint64_t high_ms, struct ctl_types *types)
{
	const struct ctl_scan scan = {.context = tally, .to_minute = UINT64_MAX, .begin = begin, .want = want, .row = row};
	struct ctl_facts facts;
	uint64_t last_minute = high_ms / TP_MINUTE_MS;

	tally->query.from_minute = last_minute >= CTL_TOP_MINUTES ? last_minute + 1 - CTL_TOP_MINUTES : 0;
	tally->query.to_minute = last_minute + 1;
	int rc = ctl_store_scan(tally->store, live, &scan, &facts);
	if (rc == 0) {
		types_add(&tally->sealed, &tally->fresh);
		tally->sequence = tally->fresh_sequence;
		tally->fresh = (struct ctl_types){0};
		ctl_answer_sort(&tally->top);
	}
	*types = tally->sealed;
	types_add(types, &tally->live);
	return rc;
}

json_t *ctl_tally_top(const struct ctl_tally *tally)
{
	const struct ctl_answer *answer = &tally->top;
	json_t *top = json_array();
	char text[64];

	for (uint32_t i = 0; i < answer->groups && i < CTL_TOP_CAMPAIGNS; i++) {
		const struct ctl_sums *sums = &answer->group[i].sums;
		struct tp_str name = ctl_answer_group_value(answer, &answer->group[i], 0);
		struct ctl_money money = ctl_sums_money(sums);
		json_t *spend = money.several ? json_null() : json_stringn(text, tp_micros_text(money.micros, text));
		json_t *currency = money.currency[0] ? json_string(money.currency) : json_null();
		json_t *ctr = sums->impressions ? json_real((double)sums->clicks / (double)sums->impressions) : json_null();
		json_array_append_new(top,
				      json_pack("{s:o, s:I, s:I, s:I, s:o, s:o, s:o}", "campaign",
						ctl_json_text(name.at, name.bytes), "clicks", (json_int_t)sums->clicks,
						"flagged_clicks", (json_int_t)sums->flagged_clicks, "impressions",
						(json_int_t)sums->impressions, "ctr", ctr, "spend", spend, "currency", currency));
	}
	return top;
}
