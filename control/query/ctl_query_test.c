/* The query engine against a brute-force model, over tables filled by tp_rollup_add(). */
#include "ctl_query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { EVENTS = 3000, ROWS = 8192, HEAP = 1 << 20, FIRST_MINUTE = 28333330 };

struct one {
	uint64_t minute;
	uint8_t type, device;
	bool flagged, late;
	int64_t micros;
	char ad[4], campaign[4], advertiser[4], publisher[4], region[4], country[3], currency[4];
};

static struct one event[EVENTS];

/* Few values of each, so that all combinations meet; an empty publisher, region and country too. */
static void events_make(unsigned seed)
{
	for (int i = 0; i < EVENTS; i++) {
		struct one *one = &event[i];
		*one = (struct one){
			.minute = FIRST_MINUTE + (uint64_t)(rand_r(&seed) % 200),
			.type = (uint8_t)(rand_r(&seed) % TP_EVENT_TYPES),
			.device = (uint8_t)(rand_r(&seed) % TP_DEVICE_TYPES),
			.flagged = rand_r(&seed) % 5 == 0,
			.late = rand_r(&seed) % 9 == 0,
			.micros = rand_r(&seed) % 4 ? rand_r(&seed) : 0,
		};
		snprintf(one->ad, sizeof(one->ad), "a%d", rand_r(&seed) % 4);
		snprintf(one->campaign, sizeof(one->campaign), "c%d", rand_r(&seed) % 3);
		snprintf(one->advertiser, sizeof(one->advertiser), "v%d", rand_r(&seed) % 2);
		snprintf(one->publisher, sizeof(one->publisher), "%.*s", rand_r(&seed) % 3 ? 2 : 0,
			 rand_r(&seed) % 2 ? "p1" : "p2");
		snprintf(one->region, sizeof(one->region), "%.*s", rand_r(&seed) % 3 ? 2 : 0, rand_r(&seed) % 2 ? "r0" : "r1");
		snprintf(one->country, sizeof(one->country), "%s", rand_r(&seed) % 3 ? "DE" : rand_r(&seed) % 2 ? "FR" : "");
		snprintf(one->currency, sizeof(one->currency), "%s", rand_r(&seed) % 3 ? "USD" : "EUR");
	}
}

static void row_add(struct tp_rollup *table, const struct one *one)
{
	_Alignas(8) uint8_t record[TP_EVENT_BYTES_MAX] = {0};
	struct tp_event *to = (struct tp_event *)(void *)record;
	char *at = (char *)(to + 1);
	const char *text[TP_STRINGS] = {
		[TP_AD_ID] = one->ad,
		[TP_CAMPAIGN_ID] = one->campaign,
		[TP_ADVERTISER_ID] = one->advertiser,
		[TP_PUBLISHER_ID] = one->publisher,
		[TP_REGION] = one->region,
	};

	to->type = one->type;
	to->device = one->device;
	to->verdict = one->late ? TP_LATE : TP_ACCEPTED;
	to->fraud = one->flagged && one->type == TP_CLICK;
	to->flags = TP_HAS_BID;
	to->bid_micros = one->micros;
	to->timestamp_ms = one->minute * TP_MINUTE_MS + 1234;
	memcpy(to->country, one->country, strlen(one->country));
	memcpy(to->currency, one->currency, 3);
	for (int i = 0; i < TP_STRINGS; i++) {
		size_t bytes = text[i] ? strlen(text[i]) : 0;
		to->string_bytes[i] = (uint16_t)bytes;
		memcpy(at, text[i] ? text[i] : "", bytes);
		at += bytes;
	}
	tp_rollup_add(table, to);
}

static struct tp_rollup *table;

static int table_fill(void **state)
{
	(void)state;
	uint64_t bytes = (tp_rollup_bytes(ROWS, HEAP) + 63) / 64 * 64;
	table = aligned_alloc(64, bytes);
	if (!table)
		return -1;
	tp_rollup_format(table, ROWS, HEAP);
	tp_rollup_reset(table, 1);
	events_make(42);
	for (int i = 0; i < EVENTS; i++)
		row_add(table, &event[i]);
	return 0;
}

static int table_free(void **state)
{
	(void)state;
	free(table);
	return 0;
}

/* ---- the model ---- */

struct model {
	uint64_t impressions, clicks, flagged, conversions, late;
	__int128 usd, eur;
};

static const char *value_of(const struct one *one, enum ctl_dimension dimension)
{
	switch (dimension) {
	case CTL_AD:
		return one->ad;
	case CTL_CAMPAIGN:
		return one->campaign;
	case CTL_ADVERTISER:
		return one->advertiser;
	case CTL_PUBLISHER:
		return one->publisher;
	case CTL_REGION:
		return one->region;
	case CTL_COUNTRY:
		return one->country;
	case CTL_CURRENCY:
		return one->currency;
	default:
		return tp_device_name((enum tp_device_type)one->device);
	}
}

/* Sums all events of the query in [from, to) that have the wanted group values. */
static struct model model_of(const struct ctl_query *query, uint64_t from, uint64_t to, const char *const *group)
{
	struct model model = {0};

	for (int i = 0; i < EVENTS; i++) {
		const struct one *one = &event[i];
		bool asked = one->minute >= from && one->minute < to;
		if (query->filtered)
			asked = asked && strlen(value_of(one, query->filter)) == query->id_bytes &&
				memcmp(value_of(one, query->filter), query->id, query->id_bytes) == 0;
		for (uint32_t g = 0; group && g < query->group_count; g++)
			asked = asked && strcmp(value_of(one, (enum ctl_dimension)query->group[g]), group[g]) == 0;
		if (!asked)
			continue;
		model.late += one->late;
		model.impressions += one->type == TP_IMPRESSION;
		model.conversions += one->type == TP_CONVERSION;
		if (one->type != TP_CLICK)
			continue;
		model.flagged += one->flagged;
		model.clicks += !one->flagged;
		if (!one->flagged && strcmp(one->currency, "USD") == 0)
			model.usd += one->micros;
		else if (!one->flagged)
			model.eur += one->micros;
	}
	return model;
}

static __int128 spend_in(const struct ctl_sums *sums, const char *currency)
{
	for (const struct ctl_spend *spend = sums->spend; spend; spend = spend->next) {
		if (strcmp(spend->currency, currency) == 0)
			return spend->micros;
	}
	return 0;
}

static void assert_sums(const struct ctl_sums *sums, const struct model *model)
{
	assert_int_equal(sums->impressions, model->impressions);
	assert_int_equal(sums->clicks, model->clicks);
	assert_int_equal(sums->flagged_clicks, model->flagged);
	assert_int_equal(sums->conversions, model->conversions);
	assert_int_equal(sums->late, model->late);
	assert_true(spend_in(sums, "USD") == model->usd);
	assert_true(spend_in(sums, "EUR") == model->eur);
	struct ctl_money money = ctl_sums_money(sums);
	assert_int_equal(money.several, model->usd && model->eur);
	if (!money.several && (model->usd || model->eur)) {
		assert_true(money.micros == model->usd + model->eur);
		assert_string_equal(money.currency, model->usd ? "USD" : "EUR");
	}
}

static void answer_fill(struct ctl_answer *answer)
{
	for (uint32_t i = 0; i < atomic_load(&table->rows); i++) {
		struct tp_rollup_row row;
		assert_true(tp_rollup_read(table, i, &row));
		assert_true(ctl_answer_add(answer, &row, tp_rollup_heap(table)));
	}
}

static void check_groups(struct ctl_answer *answer)
{
	const struct ctl_query *query = answer->query;
	struct model sum = {0};

	ctl_answer_sort(answer);
	for (uint32_t i = 0; i < answer->groups; i++) {
		char text[CTL_DIMENSIONS][16];
		const char *wanted[CTL_DIMENSIONS];
		const struct ctl_group *group = &answer->group[i];
		for (uint32_t g = 0; g < query->group_count; g++) {
			struct tp_str value = ctl_answer_group_value(answer, group, g);
			snprintf(text[g], sizeof(text[g]), "%.*s", (int)value.bytes, value.at);
			wanted[g] = text[g];
		}
		const struct model model = model_of(query, query->from_minute, query->to_minute, wanted);
		assert_sums(&group->sums, &model);
		sum.clicks += model.clicks;
		sum.impressions += model.impressions;
		sum.usd += model.usd;
		if (i > 0)
			assert_true(group[-1].sums.clicks + group[-1].sums.flagged_clicks >=
				    group->sums.clicks + group->sums.flagged_clicks);
	}
	/* no event is left without a group */
	assert_int_equal(sum.clicks, answer->totals.clicks);
	assert_int_equal(sum.impressions, answer->totals.impressions);
	assert_true(sum.usd == spend_in(&answer->totals, "USD"));
}

static void check_query(const struct ctl_query *query)
{
	struct ctl_answer answer;

	assert_int_equal(ctl_answer_init(&answer, query), 0);
	answer_fill(&answer);
	ctl_answer_reset(&answer); /* a snapshot that started over */
	answer_fill(&answer);
	const struct model model = model_of(query, query->from_minute, query->to_minute, NULL);
	assert_sums(&answer.totals, &model);

	for (uint32_t i = 0; i < answer.slots; i++) {
		struct ctl_sums sums;
		uint64_t start = answer.slot_from + (uint64_t)i * query->slide_minutes, end = start + query->step_minutes;
		assert_int_equal(start % query->slide_minutes, 0);
		assert_true(end > query->from_minute && start < query->to_minute);
		assert_true(ctl_answer_bucket(&answer, i, &sums));
		const struct model bucket = model_of(query, start > query->from_minute ? start : query->from_minute,
						     end < query->to_minute ? end : query->to_minute, NULL);
		assert_sums(&sums, &bucket);
	}
	if (query->group_count)
		check_groups(&answer);
	ctl_answer_fini(&answer);
}

static void answers_match_the_model(void **state)
{
	(void)state;
	static const struct {
		uint32_t step, slide;
	} steps[] = {{1, 1}, {60, 60}, {60, 5}, {60, 1}, {1440, 1440}, {1440, 60}, {0, 0}};
	static char *const ids[] = {(char *)"c1", (char *)"a0", (char *)"p2", (char *)"v0", (char *)"never", (char *)"c"};
	unsigned seed = 7;

	for (int round = 0; round < 60; round++) {
		size_t step = (size_t)rand_r(&seed) % (sizeof(steps) / sizeof(steps[0]));
		struct ctl_query query = {
			.filtered = round % 5 != 0,
			.filter = (enum ctl_dimension)(rand_r(&seed) % TP_DIMENSIONS),
			.id = ids[(size_t)rand_r(&seed) % (sizeof(ids) / sizeof(ids[0]))],
			.from_minute = FIRST_MINUTE - 70 + (uint64_t)(rand_r(&seed) % 200),
			.step_minutes = steps[step].step,
			.slide_minutes = steps[step].slide,
		};
		query.id_bytes = strlen(query.id);
		query.to_minute = query.from_minute + (uint64_t)(rand_r(&seed) % 300);
		for (int wanted = rand_r(&seed) % 4; wanted > 0; wanted--) {
			uint8_t dimension = (uint8_t)(rand_r(&seed) % CTL_DIMENSIONS);
			bool there = false;
			for (uint32_t g = 0; g < query.group_count; g++)
				there = there || query.group[g] == dimension;
			if (!there)
				query.group[query.group_count++] = dimension;
		}
		check_query(&query);
	}
}

static void money_is_never_added_over_currencies(void **state)
{
	(void)state;
	struct ctl_spend gbp = {.currency = "GBP", .micros = 5}, usd = {.next = &gbp, .currency = "USD", .micros = 7},
			 eur = {.next = &usd, .currency = "EUR"};
	struct ctl_sums sums = {.spend = &eur};

	assert_true(ctl_sums_money(&sums).several);
	gbp.micros = 0;
	struct ctl_money money = ctl_sums_money(&sums); /* nothing in the others */
	assert_false(money.several);
	assert_true(money.micros == 7);
	assert_string_equal(money.currency, "USD");
	usd.micros = 0;
	money = ctl_sums_money(&sums); /* nothing at all, in three currencies */
	assert_false(money.several);
	assert_true(money.micros == 0);
	assert_string_equal(money.currency, "");
	sums.spend = &gbp;
	assert_string_equal(ctl_sums_money(&sums).currency, "GBP");
	sums.spend = NULL;
	assert_string_equal(ctl_sums_money(&sums).currency, "");
}

static void too_many_groups_are_told(void **state)
{
	(void)state;
	const struct ctl_query query = {.to_minute = UINT64_MAX, .group = {CTL_AD}, .group_count = 1};
	struct ctl_answer answer;
	char heap[16];
	struct tp_rollup_row row = {.currency = "USD"};

	assert_int_equal(ctl_answer_init(&answer, &query), 0);
	for (uint32_t i = 0; i <= CTL_GROUPS_MAX; i++) {
		row.string_bytes[TP_DIM_AD] = (uint8_t)snprintf(heap, sizeof(heap), "%u", i);
		assert_int_equal(ctl_answer_add(&answer, &row, heap), i < CTL_GROUPS_MAX);
	}
	assert_true(answer.too_many_groups);
	assert_int_equal(answer.groups, CTL_GROUPS_MAX);
	ctl_answer_reset(&answer);
	assert_false(answer.too_many_groups);
	ctl_answer_fini(&answer);
}

static void a_range_has_as_many_slots_as_it_touches(void **state)
{
	(void)state;
	static const struct {
		uint64_t from, to;
		uint32_t slide;
		uint64_t slots;
	} rows[] = {{0, 60, 60, 1}, {0, 61, 60, 2}, {59, 61, 60, 2}, {59, 60, 60, 1}, {10, 10, 1, 0}, {10, 9, 1, 0}, {7, 12, 5, 2}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct ctl_query query = {.from_minute = rows[i].from,
						.to_minute = rows[i].to,
						.step_minutes = rows[i].slide,
						.slide_minutes = rows[i].slide};
		assert_int_equal(ctl_query_slots(&query), rows[i].slots);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_match_the_model),
		cmocka_unit_test(money_is_never_added_over_currencies),
		cmocka_unit_test(too_many_groups_are_told),
		cmocka_unit_test(a_range_has_as_many_slots_as_it_touches),
	};
	return cmocka_run_group_tests(tests, table_fill, table_free);
}
