/*
 * The query engine; its picture and its contract are in ctl_query.h.
 *
 * Invariants: the groups' sums add up to the totals, and without sliding the buckets' do; spends of different currencies are never
 * added; memory is bounded by CTL_BUCKETS_MAX, CTL_GROUPS_MAX and the currencies seen.
 */
#include "ctl_query.h"

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

/* The group that a row belongs to, made if it is new; NULL: no_memory or too_many_groups says why. */
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
	uint64_t hash = XXH3_64bits(key, bytes);
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

struct tp_str ctl_answer_group_value(const struct ctl_answer *answer, const struct ctl_group *group, uint32_t nth)
{
	const char *at = answer->key + group->key_at;

	for (uint32_t i = 0; i < nth; i++)
		at += 1 + (uint8_t)*at;
	return (struct tp_str){.at = at + 1, .bytes = (uint8_t)*at};
}

static int group_order(const void *left, const void *right, void *context)
{
	const struct ctl_group *a = left, *b = right;
	const struct ctl_answer *answer = context;
	uint64_t a_clicks = a->sums.clicks + a->sums.flagged_clicks, b_clicks = b->sums.clicks + b->sums.flagged_clicks;

	if (a_clicks != b_clicks)
		return a_clicks > b_clicks ? -1 : 1;
	if (a->sums.impressions != b->sums.impressions)
		return a->sums.impressions > b->sums.impressions ? -1 : 1;
	uint32_t least = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
	int order = memcmp(answer->key + a->key_at, answer->key + b->key_at, least);
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

/* ---- the answer ---- */

enum sto_grain ctl_query_grain(const struct ctl_query *query)
{
	/* without a series only the ends of the range matter, and those are the reader's business */
	if (query->step_minutes == 0 || query->slide_minutes % (24 * 60) == 0)
		return STO_DAYS;
	return query->slide_minutes % 60 == 0 ? STO_HOURS : STO_MINUTES;
}

uint64_t ctl_query_slots(const struct ctl_query *query)
{
	uint64_t slide = query->slide_minutes;

	if (query->step_minutes == 0 || query->from_minute >= query->to_minute)
		return 0;
	return (query->to_minute + slide - 1) / slide - query->from_minute / slide;
}

int ctl_answer_init(struct ctl_answer *answer, const struct ctl_query *query)
{
	uint64_t slots = ctl_query_slots(query);

	assert(slots <= CTL_BUCKETS_MAX);
	assert(query->step_minutes == 0 || query->step_minutes % query->slide_minutes == 0);
	*answer = (struct ctl_answer){.query = query, .slots = (uint32_t)slots};
	if (slots) {
		answer->slot_from = query->from_minute - query->from_minute % query->slide_minutes;
		answer->slot = calloc(slots, sizeof(*answer->slot));
		if (!answer->slot)
			return -ENOMEM;
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
	answer->too_many_groups = answer->no_memory = false;
}

static bool row_is_asked(const struct ctl_query *query, const struct tp_rollup_row *row, const char *heap)
{
	if (row->minute < query->from_minute || row->minute >= query->to_minute)
		return false;
	if (!query->filtered)
		return true;
	struct tp_str value = dimension_of(row, heap, query->filter);
	return value.bytes == query->id_bytes && memcmp(value.at, query->id, query->id_bytes) == 0;
}

bool ctl_answer_add(struct ctl_answer *answer, const struct tp_rollup_row *row, const char *heap)
{
	const struct ctl_query *query = answer->query;

	if (!row_is_asked(query, row, heap))
		return true;
	row_add(answer, &answer->totals, row);
	if (answer->slots)
		row_add(answer, &answer->slot[(row->minute - answer->slot_from) / query->slide_minutes], row);
	if (query->group_count) {
		struct ctl_group *group = group_find(answer, row, heap);
		if (!group)
			return false;
		row_add(answer, &group->sums, row);
	}
	return !answer->no_memory;
}

bool ctl_answer_bucket(struct ctl_answer *answer, uint32_t index, struct ctl_sums *sums)
{
	const struct ctl_query *query = answer->query;
	uint32_t width = query->step_minutes / query->slide_minutes;

	assert(index < answer->slots);
	*sums = (struct ctl_sums){0};
	for (uint32_t i = index; i < index + width && i < answer->slots; i++) {
		const struct ctl_sums *slot = &answer->slot[i];
		sums->impressions += slot->impressions;
		sums->clicks += slot->clicks;
		sums->flagged_clicks += slot->flagged_clicks;
		sums->conversions += slot->conversions;
		sums->late += slot->late;
		for (const struct ctl_spend *spend = slot->spend; spend; spend = spend->next)
			spend_add(answer, sums, spend->currency, spend->micros);
	}
	return !answer->no_memory;
}
