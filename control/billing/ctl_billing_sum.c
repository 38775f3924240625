/* Sums of a bill: see ctl_billing_sum.h. Pure; one thread per sum. */
#include "ctl_billing_sum.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { KEY_BYTES_MAX = 2 * UINT8_MAX, ROOM_FIRST = 64 };

void ctl_billing_sum_fini(struct ctl_billing_sum *sum)
{
	free(sum->line);
	free(sum->spend);
	free(sum->key);
	free(sum->index);
	*sum = (struct ctl_billing_sum){.bound = sum->bound,
					.periods = sum->periods,
					.advertiser = sum->advertiser,
					.advertiser_bytes = sum->advertiser_bytes,
					.part = sum->part,
					.parts = sum->parts,
					.lines_max = sum->lines_max};
}

/* ---- room ---- */

static void index_put(struct ctl_billing_sum *sum, uint32_t line)
{
	uint32_t at = (uint32_t)sum->line[line].hash & (sum->index_slots - 1);

	while (sum->index[at])
		at = (at + 1) & (sum->index_slots - 1);
	sum->index[at] = line + 1;
}

static bool index_grow(struct ctl_billing_sum *sum)
{
	uint32_t slots = sum->index_slots ? 2 * sum->index_slots : 2 * ROOM_FIRST;
	uint32_t *index = calloc(slots, sizeof(*index));

	if (!index)
		return false;
	free(sum->index);
	sum->index = index;
	sum->index_slots = slots;
	for (uint32_t i = 0; i < sum->lines; i++)
		index_put(sum, i);
	return true;
}

/* Room for one more line with its key. */
static bool lines_grow(struct ctl_billing_sum *sum)
{
	if (sum->lines == sum->line_room) {
		uint32_t room = sum->line_room ? 2 * sum->line_room : ROOM_FIRST;
		struct ctl_billing_line *line = realloc(sum->line, room * sizeof(*line));
		if (!line)
			return false;
		sum->line = line;
		sum->line_room = room;
	}
	if (sum->key_room - sum->key_bytes < KEY_BYTES_MAX) {
		uint64_t room = 2 * sum->key_room + ROOM_FIRST * KEY_BYTES_MAX;
		char *key = room <= UINT32_MAX ? realloc(sum->key, room) : NULL;
		if (!key)
			return false;
		sum->key = key;
		sum->key_room = room;
	}
	return 2 * (sum->lines + 1) <= sum->index_slots || index_grow(sum);
}

/* ---- begin again ---- */

struct ctl_billing_mark ctl_billing_sum_mark(const struct ctl_billing_sum *sum)
{
	return (struct ctl_billing_mark){.lines = sum->lines, .spends = sum->spends, .key_bytes = sum->key_bytes};
}

void ctl_billing_sum_reset(struct ctl_billing_sum *sum, struct ctl_billing_mark mark)
{
	assert(!sum->sorted);
	sum->too_many = sum->no_memory = false;
	if (mark.lines == sum->lines && mark.spends == sum->spends)
		return;
	sum->lines = mark.lines;
	sum->spends = mark.spends;
	sum->key_bytes = mark.key_bytes;
	memset(sum->index, 0, sum->index_slots * sizeof(*sum->index));
	for (uint32_t i = 0; i < sum->lines; i++)
		index_put(sum, i);
}

/* ---- adding ---- */

struct ctl_billing_line *ctl_billing_line_find(struct ctl_billing_sum *sum, uint32_t period, struct tp_str advertiser,
					       struct tp_str campaign)
{
	char key[KEY_BYTES_MAX];
	uint32_t bytes = (uint32_t)advertiser.bytes + campaign.bytes;

	assert(!sum->sorted && advertiser.bytes <= UINT8_MAX && campaign.bytes <= UINT8_MAX);
	memcpy(key, advertiser.at, advertiser.bytes);
	memcpy(key + advertiser.bytes, campaign.at, campaign.bytes);
	uint64_t hash = XXH3_64bits_withSeed(key, bytes, ((uint64_t)period << 8) + advertiser.bytes);
	if (sum->index_slots) {
		for (uint32_t at = (uint32_t)hash & (sum->index_slots - 1); sum->index[at];
		     at = (at + 1) & (sum->index_slots - 1)) {
			struct ctl_billing_line *line = &sum->line[sum->index[at] - 1];
			if (line->hash == hash && line->period == period && line->advertiser_bytes == advertiser.bytes &&
			    line->campaign_bytes == campaign.bytes && memcmp(sum->key + line->key_at, key, bytes) == 0)
				return line;
		}
	}
	if (sum->lines == sum->lines_max) {
		sum->too_many = true;
		return NULL;
	}
	if (!lines_grow(sum)) {
		sum->no_memory = true;
		return NULL;
	}
	struct ctl_billing_line *line = &sum->line[sum->lines++];
	*line = (struct ctl_billing_line){.hash = hash,
					  .period = period,
					  .key_at = (uint32_t)sum->key_bytes,
					  .advertiser_bytes = (uint8_t)advertiser.bytes,
					  .campaign_bytes = (uint8_t)campaign.bytes};
	memcpy(sum->key + sum->key_bytes, key, bytes);
	sum->key_bytes += bytes;
	index_put(sum, sum->lines - 1);
	return line;
}

bool ctl_billing_spend_add(struct ctl_billing_sum *sum, struct ctl_billing_line *line, const char *currency, __int128 micros)
{
	uint32_t *at = &line->spend;

	while (*at && memcmp(sum->spend[*at - 1].currency, currency, 3) < 0)
		at = &sum->spend[*at - 1].next;
	if (*at && memcmp(sum->spend[*at - 1].currency, currency, 3) == 0) {
		sum->spend[*at - 1].micros += micros;
		return true;
	}
	uint32_t before = *at;
	if (sum->spends == sum->spend_room) {
		uint32_t room = sum->spend_room ? 2 * sum->spend_room : ROOM_FIRST;
		/* `at` may lie in what moves */
		ptrdiff_t inside = at == &line->spend ? -1 : (char *)at - (char *)sum->spend;
		struct ctl_billing_spend *spend = realloc(sum->spend, room * sizeof(*spend));
		if (!spend) {
			sum->no_memory = true;
			return false;
		}
		sum->spend = spend;
		sum->spend_room = room;
		if (inside >= 0)
			at = (uint32_t *)(void *)((char *)spend + inside);
	}
	struct ctl_billing_spend *made = &sum->spend[sum->spends++];
	*made = (struct ctl_billing_spend){.next = before, .micros = micros};
	memcpy(made->currency, currency, 3);
	*at = sum->spends;
	return true;
}

bool ctl_billing_line_add(struct ctl_billing_sum *sum, struct ctl_billing_line *line, const struct tp_sums *sums,
			  const char *currency)
{
	/* modulo 2^64: a row may show a negative count, see turnpike/rollup.h */
	struct ctl_billing_counts *counts = &line->counts;
	counts->impressions = (int64_t)((uint64_t)counts->impressions + sums->impressions);
	counts->clicks = (int64_t)((uint64_t)counts->clicks + sums->clicks);
	counts->flagged_clicks = (int64_t)((uint64_t)counts->flagged_clicks + sums->flagged_clicks);
	counts->conversions = (int64_t)((uint64_t)counts->conversions + sums->conversions);
	counts->late = (int64_t)((uint64_t)counts->late + sums->late);
	return ctl_billing_spend_add(sum, line, currency, sums->spend_micros);
}

/* The period of a minute; periods: none. Rows come in runs of one period. */
static uint32_t period_of(struct ctl_billing_sum *sum, uint64_t minute)
{
	const uint64_t *bound = sum->bound;
	uint32_t low = 0, high = sum->periods;

	if (sum->periods == 0 || minute < bound[0] || minute >= bound[sum->periods])
		return sum->periods;
	if (minute >= bound[sum->last] && minute < bound[sum->last + 1])
		return sum->last;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (minute < bound[middle])
			high = middle;
		else
			low = middle;
	}
	return sum->last = low;
}

bool ctl_billing_sum_add(struct ctl_billing_sum *sum, const struct tp_rollup_row *row, const char *heap)
{
	uint32_t period = period_of(sum, row->minute);
	struct tp_str advertiser = tp_rollup_string(row, heap, TP_DIM_ADVERTISER);

	if (period == sum->periods)
		return true;
	if (sum->advertiser &&
	    (advertiser.bytes != sum->advertiser_bytes || memcmp(advertiser.at, sum->advertiser, advertiser.bytes) != 0))
		return true;
	if (sum->parts && XXH3_64bits(advertiser.at, advertiser.bytes) % sum->parts != sum->part)
		return true;
	struct ctl_billing_line *line =
		ctl_billing_line_find(sum, period, advertiser, tp_rollup_string(row, heap, TP_DIM_CAMPAIGN));
	return line && ctl_billing_line_add(sum, line, &row->sums, row->currency);
}

/* ---- results ---- */

static int text_order(struct tp_str a, struct tp_str b)
{
	int order = memcmp(a.at, b.at, a.bytes < b.bytes ? a.bytes : b.bytes);
	return order ? order : (int)a.bytes - (int)b.bytes;
}

static int line_order(const void *left, const void *right, void *context)
{
	const struct ctl_billing_line *a = left, *b = right;
	const struct ctl_billing_sum *sum = context;

	if (a->period != b->period)
		return a->period < b->period ? -1 : 1;
	int order = text_order(ctl_billing_advertiser(sum, a), ctl_billing_advertiser(sum, b));
	return order ? order : text_order(ctl_billing_campaign(sum, a), ctl_billing_campaign(sum, b));
}

void ctl_billing_sum_sort(struct ctl_billing_sum *sum)
{
	/* the index holds places in the array, which go with the sorting */
	free(sum->index);
	sum->index = NULL;
	sum->index_slots = 0;
	sum->sorted = true;
	if (sum->lines)
		qsort_r(sum->line, sum->lines, sizeof(*sum->line), line_order, sum);
}

struct ctl_billing_money ctl_billing_line_money(const struct ctl_billing_sum *sum, const struct ctl_billing_line *line)
{
	struct ctl_billing_money money = {0};
	uint32_t spent = 0;

	for (uint32_t at = line->spend; at; at = sum->spend[at - 1].next) {
		const struct ctl_billing_spend *spend = &sum->spend[at - 1];
		if (spend->micros == 0)
			continue;
		spent++;
		money.micros = spend->micros;
		memcpy(money.currency, spend->currency, sizeof(money.currency));
	}
	if (spent > 1)
		return (struct ctl_billing_money){.several = true};
	if (spent == 0 && line->spend && !sum->spend[line->spend - 1].next)
		memcpy(money.currency, sum->spend[line->spend - 1].currency, sizeof(money.currency));
	return money;
}
