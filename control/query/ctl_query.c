/*
 * The query engine; its picture and its contract are in ctl_query.h.
 *
 * Invariants: the groups' sums add up to the totals, and without sliding the buckets' do; spends of different currencies are never
 * added; memory is bounded by CTL_BUCKETS_MAX, CTL_GROUPS_MAX and the currencies seen.
 */
#include "ctl_query.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { ARENA_SPENDS = 512, KEY_BYTES_MAX = CTL_DIMENSIONS * (1 + UINT8_MAX) };

/* Spends come and go all at once. */
struct ctl_arena {
	struct ctl_arena *next;
	uint32_t used;
	struct ctl_spend spend[ARENA_SPENDS];
};

const char *ctl_dimension_name(enum ctl_dimension dimension)
{
	static const char *const name[CTL_DIMENSIONS] = {
		[CTL_AD] = "ad",
		[CTL_CAMPAIGN] = "campaign",
		[CTL_ADVERTISER] = "advertiser",
		[CTL_PUBLISHER] = "publisher",
		[CTL_REGION] = "region",
		[CTL_COUNTRY] = "country",
		[CTL_DEVICE] = "device",
		[CTL_CURRENCY] = "currency",
	};
	return name[dimension];
}

const char *ctl_measure_name(enum ctl_measure measure)
{
	static const char *const name[CTL_MEASURES] = {
		[CTL_GROSS_CLICKS] = "gross_clicks",
		[CTL_CLICKS] = "clicks",
		[CTL_FLAGGED_CLICKS] = "flagged_clicks",
		[CTL_IMPRESSIONS] = "impressions",
		[CTL_CONVERSIONS] = "conversions",
		[CTL_SPEND] = "spend",
		[CTL_CTR] = "ctr",
	};
	return name[measure];
}

/* ---- sums ---- */

static struct ctl_spend *spend_make(struct ctl_answer *answer)
{
	struct ctl_arena *arena = answer->arena;

	if (!arena || arena->used == ARENA_SPENDS) {
		struct ctl_arena *more = malloc(sizeof(*more));
		if (!more) {
			answer->no_memory = true;
			return NULL;
		}
		more->next = arena;
		more->used = 0;
		answer->arena = arena = more;
	}
	return &arena->spend[arena->used++];
}

static void spend_add(struct ctl_answer *answer, struct ctl_sums *sums, const char *currency, __int128 micros)
{
	struct ctl_spend **at = &sums->spend;

	while (*at && memcmp((*at)->currency, currency, 3) < 0)
		at = &(*at)->next;
	if (!*at || memcmp((*at)->currency, currency, 3) != 0) {
		struct ctl_spend *made = spend_make(answer);
		if (!made)
			return;
		*made = (struct ctl_spend){.next = *at};
		memcpy(made->currency, currency, 3);
		*at = made;
	}
	(*at)->micros += micros;
}

static void sums_add(struct ctl_answer *answer, struct ctl_sums *sums, const struct ctl_sums *more)
{
	sums->impressions += more->impressions;
	sums->clicks += more->clicks;
	sums->flagged_clicks += more->flagged_clicks;
	sums->conversions += more->conversions;
	sums->late += more->late;
	for (const struct ctl_spend *spend = more->spend; spend; spend = spend->next)
		spend_add(answer, sums, spend->currency, spend->micros);
}

static void row_add(struct ctl_answer *answer, struct ctl_sums *sums, const struct tp_rollup_row *row)
{
	sums->impressions += row->sums.impressions;
	sums->clicks += row->sums.clicks;
	sums->flagged_clicks += row->sums.flagged_clicks;
	sums->conversions += row->sums.conversions;
	sums->late += row->sums.late;
	spend_add(answer, sums, row->currency, row->sums.spend_micros);
}

struct ctl_money ctl_sums_money(const struct ctl_sums *sums)
{
	struct ctl_money money = {0};
	uint32_t spent = 0;

	for (const struct ctl_spend *spend = sums->spend; spend; spend = spend->next) {
		if (spend->micros == 0)
			continue;
		spent++;
		money.micros = spend->micros;
		memcpy(money.currency, spend->currency, sizeof(money.currency));
	}
	if (spent > 1)
		return (struct ctl_money){.several = true};
	if (spent == 0 && sums->spend && !sums->spend->next)
		memcpy(money.currency, sums->spend->currency, sizeof(money.currency));
	return money;
}

/* ---- groups ---- */

static struct tp_str dimension_of(const struct tp_rollup_row *row, const char *heap, enum ctl_dimension dimension)
{
	switch (dimension) {
	case CTL_COUNTRY:
		return (struct tp_str){.at = row->country, .bytes = row->country[0] ? sizeof(row->country) : 0};
	case CTL_CURRENCY:
		return (struct tp_str){.at = row->currency, .bytes = sizeof(row->currency)};
	case CTL_DEVICE: {
		const char *name = row->device < TP_DEVICE_TYPES ? tp_device_name((enum tp_device_type)row->device) : "other";
		return (struct tp_str){.at = name, .bytes = (uint16_t)strlen(name)};
	}
	default:
		return tp_rollup_string(row, heap, (enum tp_dimension)dimension);
	}
}

/* Twice the room in the index, with all groups in it again. */
static bool index_grow(struct ctl_answer *answer)
{
	uint32_t slots = answer->index_slots ? 2 * answer->index_slots : 64;
	uint32_t *index = calloc(slots, sizeof(*index));

	if (!index)
		return false;
	for (uint32_t i = 0; i < answer->groups; i++) {
		uint32_t at = (uint32_t)answer->group[i].hash & (slots - 1);
		while (index[at])
			at = (at + 1) & (slots - 1);
		index[at] = i + 1;
	}
	free(answer->index);
	answer->index = index;
	answer->index_slots = slots;
	return true;
}

static bool groups_grow(struct ctl_answer *answer, uint32_t key_bytes)
{
	if (answer->groups == answer->groups_max) {
		uint32_t max = answer->groups_max ? 2 * answer->groups_max : 32;
		struct ctl_group *group = realloc(answer->group, max * sizeof(*group));
		if (!group)
			return false;
		answer->group = group;
		answer->groups_max = max;
	}
	if (answer->key_bytes_max - answer->key_bytes < key_bytes) {
		uint32_t max = 2 * answer->key_bytes_max + KEY_BYTES_MAX;
		char *key = realloc(answer->key, max);
		if (!key)
			return false;
		answer->key = key;
		answer->key_bytes_max = max;
	}
	return 2 * (answer->groups + 1) <= answer->index_slots || index_grow(answer);
}

/* The group with that key, made if it is new; NULL: no_memory or too_many_groups says why. */
static struct ctl_group *group_of_key(struct ctl_answer *answer, const char *key, uint32_t bytes, uint64_t hash)
{
	if (!groups_grow(answer, bytes)) {
		answer->no_memory = true;
		return NULL;
	}
	uint32_t at = (uint32_t)hash & (answer->index_slots - 1);
	for (; answer->index[at]; at = (at + 1) & (answer->index_slots - 1)) {
		struct ctl_group *group = &answer->group[answer->index[at] - 1];
		if (group->hash == hash && group->key_bytes == bytes && memcmp(answer->key + group->key_at, key, bytes) == 0)
			return group;
	}
	if (answer->groups == (answer->query->groups_max ? answer->query->groups_max : CTL_GROUPS_MAX)) {
		answer->too_many_groups = true;
		return NULL;
	}
	struct ctl_group *group = &answer->group[answer->groups++];
	*group = (struct ctl_group){.key_at = answer->key_bytes, .key_bytes = bytes, .hash = hash};
	memcpy(answer->key + answer->key_bytes, key, bytes);
	answer->key_bytes += bytes;
	answer->index[at] = answer->groups;
	return group;
}

/* The group that a row belongs to. */
static struct ctl_group *group_find(struct ctl_answer *answer, const struct tp_rollup_row *row, const char *heap)
{
	char key[KEY_BYTES_MAX];
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < answer->query->group_count; i++) {
		struct tp_str value = dimension_of(row, heap, (enum ctl_dimension)answer->query->group[i]);
		key[bytes++] = (char)value.bytes;
		memcpy(key + bytes, value.at, value.bytes);
		bytes += value.bytes;
	}
	return group_of_key(answer, key, bytes, XXH3_64bits(key, bytes));
}

struct tp_str ctl_answer_group_value(const struct ctl_answer *answer, const struct ctl_group *group, uint32_t nth)
{
	const char *at = answer->key + group->key_at;

	for (uint32_t i = 0; i < nth; i++)
		at += 1 + (uint8_t)*at;
	return (struct tp_str){.at = at + 1, .bytes = (uint8_t)*at};
}

static int order_of(__int128 a, __int128 b)
{
	return (a > b) - (a < b);
}

/* By the measure alone: below zero when `a` is less. Rates are compared as fractions; one of nothing is none. */
static int measure_order(enum ctl_measure measure, const struct ctl_sums *a, const struct ctl_sums *b)
{
	switch (measure) {
	case CTL_CLICKS:
		return order_of(a->clicks, b->clicks);
	case CTL_FLAGGED_CLICKS:
		return order_of(a->flagged_clicks, b->flagged_clicks);
	case CTL_IMPRESSIONS:
		return order_of(a->impressions, b->impressions);
	case CTL_CONVERSIONS:
		return order_of(a->conversions, b->conversions);
	case CTL_SPEND:
		return order_of(ctl_sums_money(a).micros, ctl_sums_money(b).micros);
	case CTL_CTR:
		return order_of((__int128)a->clicks * b->impressions, (__int128)b->clicks * a->impressions);
	default:
		return order_of((__int128)a->clicks + a->flagged_clicks, (__int128)b->clicks + b->flagged_clicks);
	}
}

static int group_order(const void *left, const void *right, void *context)
{
	const struct ctl_group *a = left, *b = right;
	const struct ctl_answer *answer = context;
	const struct ctl_query *query = answer->query;
	bool no_rate = query->order == CTL_CTR && (!a->sums.impressions || !b->sums.impressions);
	int order = no_rate ? (a->sums.impressions == 0) - (b->sums.impressions == 0)
			    : measure_order(query->order, &a->sums, &b->sums) * (query->ascending ? 1 : -1);

	if (!order)
		order = -measure_order(CTL_GROSS_CLICKS, &a->sums, &b->sums);
	if (!order)
		order = -measure_order(CTL_IMPRESSIONS, &a->sums, &b->sums);
	if (order)
		return order;
	uint32_t least = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
	order = memcmp(answer->key + a->key_at, answer->key + b->key_at, least);
	return order ? order : (int)a->key_bytes - (int)b->key_bytes;
}

void ctl_answer_sort(struct ctl_answer *answer)
{
	/* the index holds places in the array, which go with the sorting */
	free(answer->index);
	answer->index = NULL;
	answer->index_slots = 0;
	if (answer->groups)
		qsort_r(answer->group, answer->groups, sizeof(*answer->group), group_order, answer);
}

/* ---- the query ---- */

bool ctl_query_filter(struct ctl_query *query, enum ctl_dimension dimension, const char *value, size_t bytes)
{
	uint32_t at = 0, used = 0;

	for (uint32_t i = 0; i < query->filter_count; i++)
		used += query->filters[i].bytes;
	if (query->filter_count == CTL_FILTERS_MAX || bytes > UINT8_MAX || used + bytes > sizeof(query->filter_text))
		return false;
	while (at < query->filter_count && query->filters[at].dimension <= dimension)
		at++;
	memmove(&query->filters[at + 1], &query->filters[at], (query->filter_count++ - at) * sizeof(query->filters[0]));
	query->filters[at] = (struct ctl_filter){.dimension = (uint8_t)dimension, .bytes = (uint8_t)bytes, .at = (uint16_t)used};
	memcpy(query->filter_text + used, value, bytes);
	return true;
}

static uint64_t day_floor(const struct ctl_query *query, uint64_t minute)
{
	return ctl_zone_floor(query->zone, CTL_ZONE_DAY, minute * TP_MINUTE_MS) / TP_MINUTE_MS;
}

static uint64_t day_next(const struct ctl_query *query, uint64_t minute)
{
	return ctl_zone_next(query->zone, CTL_ZONE_DAY, minute * TP_MINUTE_MS) / TP_MINUTE_MS;
}

enum sto_grain ctl_query_grain(const struct ctl_query *query)
{
	/* without a series only the ends of the range matter, and those are the reader's business */
	if (query->step_minutes == 0)
		return STO_DAYS;
	if (query->local_days && query->from_minute < query->to_minute) {
		enum sto_grain grain = STO_DAYS;
		for (uint64_t at = day_floor(query, query->from_minute); at < query->to_minute; at = day_next(query, at)) {
			if (at % 60)
				return STO_MINUTES;
			if (at % (24 * 60))
				grain = STO_HOURS;
		}
		return grain;
	}
	if (query->slide_minutes % (24 * 60) == 0)
		return STO_DAYS;
	return query->slide_minutes % 60 == 0 ? STO_HOURS : STO_MINUTES;
}

uint64_t ctl_query_slots(const struct ctl_query *query)
{
	uint64_t slide = query->slide_minutes, slots = 0;

	if (query->step_minutes == 0 || query->from_minute >= query->to_minute)
		return 0;
	slots = (query->to_minute + slide - 1) / slide - query->from_minute / slide;
	if (!query->local_days || slots > CTL_BUCKETS_MAX + 2)
		return slots;
	slots = 0;
	for (uint64_t at = day_floor(query, query->from_minute); at < query->to_minute; at = day_next(query, at))
		slots++;
	return slots;
}

void ctl_query_previous(const struct ctl_query *query, struct ctl_query *previous)
{
	uint64_t minutes = query->to_minute - query->from_minute;

	*previous = *query;
	previous->to_minute = query->from_minute;
	previous->from_minute = query->from_minute > minutes ? query->from_minute - minutes : 0;
	previous->group_count = 0;
	if (!query->local_days || minutes == 0 || day_floor(query, query->from_minute) != query->from_minute ||
	    day_floor(query, query->to_minute) != query->to_minute)
		return;
	/* as many days back, whatever their length */
	previous->from_minute = query->from_minute;
	for (uint64_t days = ctl_query_slots(query); days > 0 && previous->from_minute > 0; days--)
		previous->from_minute = day_floor(query, previous->from_minute - 1);
}

/* ---- the answer ---- */

static int borders_make(struct ctl_answer *answer)
{
	const struct ctl_query *query = answer->query;
	uint64_t at = day_floor(query, query->from_minute);

	answer->border = calloc(answer->slots + 1, sizeof(*answer->border));
	if (!answer->border)
		return -ENOMEM;
	answer->slot_from = at;
	for (uint32_t i = 0; i <= answer->slots; i++, at = day_next(query, at))
		answer->border[i] = at;
	return 0;
}

int ctl_answer_init(struct ctl_answer *answer, const struct ctl_query *query)
{
	uint64_t slots = ctl_query_slots(query);

	assert(slots <= CTL_BUCKETS_MAX);
	assert(query->step_minutes == 0 || query->step_minutes % query->slide_minutes == 0);
	assert(!query->local_days || (query->zone && query->step_minutes == query->slide_minutes));
	*answer = (struct ctl_answer){.query = query, .slots = (uint32_t)slots};
	if (slots) {
		answer->slot_from = query->from_minute - query->from_minute % query->slide_minutes;
		answer->slot = calloc(slots, sizeof(*answer->slot));
		if (!answer->slot || (query->local_days && borders_make(answer) != 0)) {
			free(answer->slot);
			*answer = (struct ctl_answer){.query = query};
			return -ENOMEM;
		}
	}
	return 0;
}

static void arena_free(struct ctl_answer *answer)
{
	while (answer->arena) {
		struct ctl_arena *next = answer->arena->next;
		free(answer->arena);
		answer->arena = next;
	}
}

void ctl_answer_fini(struct ctl_answer *answer)
{
	arena_free(answer);
	free(answer->slot);
	free(answer->border);
	free(answer->group);
	free(answer->index);
	free(answer->key);
	*answer = (struct ctl_answer){0};
}

void ctl_answer_reset(struct ctl_answer *answer)
{
	arena_free(answer);
	answer->totals = (struct ctl_sums){0};
	if (answer->slots)
		memset(answer->slot, 0, answer->slots * sizeof(*answer->slot));
	if (answer->index_slots)
		memset(answer->index, 0, answer->index_slots * sizeof(*answer->index));
	answer->groups = 0;
	answer->key_bytes = 0;
	answer->rows = 0;
	answer->too_many_groups = answer->no_memory = answer->too_many_rows = answer->foreign = false;
}

static bool same(struct tp_str value, const char *at, size_t bytes)
{
	return value.bytes == bytes && memcmp(value.at, at, bytes) == 0;
}

/* Of each dimension that has filters, one of its values. */
static bool filters_take(const struct ctl_query *query, const struct tp_rollup_row *row, const char *heap)
{
	for (uint32_t i = 0; i < query->filter_count;) {
		uint8_t dimension = query->filters[i].dimension;
		struct tp_str value = dimension_of(row, heap, (enum ctl_dimension)dimension);
		bool found = false;
		for (; i < query->filter_count && query->filters[i].dimension == dimension; i++)
			found = found || same(value, query->filter_text + query->filters[i].at, query->filters[i].bytes);
		if (!found)
			return false;
	}
	return true;
}

static bool row_is_asked(struct ctl_answer *answer, const struct tp_rollup_row *row, const char *heap)
{
	const struct ctl_query *query = answer->query;

	if (row->minute < query->from_minute || row->minute >= query->to_minute)
		return false;
	if (query->filtered && !same(dimension_of(row, heap, query->filter), query->id, query->id_bytes))
		return false;
	if (query->only && !same(dimension_of(row, heap, CTL_ADVERTISER), query->only, strlen(query->only))) {
		answer->foreign = true;
		return false;
	}
	return query->filter_count == 0 || filters_take(query, row, heap);
}

static uint32_t slot_of(const struct ctl_answer *answer, uint64_t minute)
{
	if (!answer->border)
		return (uint32_t)((minute - answer->slot_from) / answer->query->slide_minutes);
	uint32_t low = 0, high = answer->slots;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (answer->border[middle] <= minute)
			low = middle;
		else
			high = middle;
	}
	return low;
}

bool ctl_answer_add(struct ctl_answer *answer, const struct tp_rollup_row *row, const char *heap)
{
	const struct ctl_query *query = answer->query;

	if (++answer->rows > (query->rows_max ? query->rows_max : CTL_ROWS_MAX)) {
		answer->too_many_rows = true;
		return false;
	}
	if (!row_is_asked(answer, row, heap))
		return true;
	row_add(answer, &answer->totals, row);
	if (answer->slots)
		row_add(answer, &answer->slot[slot_of(answer, row->minute)], row);
	if (query->group_count) {
		struct ctl_group *group = group_find(answer, row, heap);
		if (!group)
			return false;
		row_add(answer, &group->sums, row);
	}
	return !answer->no_memory;
}

bool ctl_answer_merge(struct ctl_answer *answer, const struct ctl_answer *more)
{
	assert(answer->slots == more->slots && answer->slot_from == more->slot_from);
	sums_add(answer, &answer->totals, &more->totals);
	for (uint32_t i = 0; i < more->slots; i++)
		if (more->slot[i].spend)
			sums_add(answer, &answer->slot[i], &more->slot[i]);
	for (uint32_t i = 0; i < more->groups; i++) {
		const struct ctl_group *from = &more->group[i];
		struct ctl_group *group = group_of_key(answer, more->key + from->key_at, from->key_bytes, from->hash);
		if (!group)
			return false;
		sums_add(answer, &group->sums, &from->sums);
	}
	answer->foreign = answer->foreign || more->foreign;
	return !answer->no_memory;
}

size_t ctl_answer_bytes(const struct ctl_answer *answer)
{
	size_t bytes = sizeof(*answer) + answer->slots * sizeof(*answer->slot) + answer->groups_max * sizeof(*answer->group) +
		       answer->index_slots * sizeof(*answer->index) + answer->key_bytes_max +
		       (answer->border ? (answer->slots + 1) * sizeof(*answer->border) : 0);

	for (const struct ctl_arena *arena = answer->arena; arena; arena = arena->next)
		bytes += sizeof(*arena);
	return bytes;
}

uint64_t ctl_answer_bucket_start(const struct ctl_answer *answer, uint32_t index)
{
	return answer->border ? answer->border[index] : answer->slot_from + (uint64_t)index * answer->query->slide_minutes;
}

uint64_t ctl_answer_bucket_end(const struct ctl_answer *answer, uint32_t index)
{
	return answer->border ? answer->border[index + 1]
			      : answer->slot_from + (uint64_t)index * answer->query->slide_minutes + answer->query->step_minutes;
}

bool ctl_answer_bucket(struct ctl_answer *answer, uint32_t index, struct ctl_sums *sums)
{
	const struct ctl_query *query = answer->query;
	uint32_t width = query->step_minutes / query->slide_minutes;

	assert(index < answer->slots);
	if (width == 1) {
		*sums = answer->slot[index];
		return !answer->no_memory;
	}
	*sums = (struct ctl_sums){0};
	for (uint32_t i = index; i < index + width && i < answer->slots; i++)
		sums_add(answer, sums, &answer->slot[i]);
	return !answer->no_memory;
}
