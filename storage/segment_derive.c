/*
 * Rollup rows from event rows: segment_derive.h; and what the writer makes of them.
 *
 * Threads: any.
 */
#include "segment_derive.h"

#include "segment_build.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS_FIRST = 64, DERIVE_BURST = 32, FOLLOWS_YIELD_ROWS = 4096 };

const uint16_t derive_column[DERIVE_COLUMNS] = {
	[DERIVE_TIME] = SEGMENT_TIME,
	[DERIVE_TYPE] = SEGMENT_TYPE,
	[DERIVE_VERDICT] = SEGMENT_VERDICT,
	[DERIVE_FRAUD] = SEGMENT_FRAUD,
	[DERIVE_FLAGS] = SEGMENT_FLAGS,
	[DERIVE_DEVICE] = SEGMENT_DEVICE,
	[DERIVE_COUNTRY] = SEGMENT_COUNTRY,
	[DERIVE_CURRENCY] = SEGMENT_CURRENCY,
	[DERIVE_BID] = SEGMENT_BID,
	[DERIVE_AD] = SEGMENT_TEXT + TP_AD_ID,
	[DERIVE_CAMPAIGN] = SEGMENT_TEXT + TP_CAMPAIGN_ID,
	[DERIVE_ADVERTISER] = SEGMENT_TEXT + TP_ADVERTISER_ID,
	[DERIVE_PUBLISHER] = SEGMENT_TEXT + TP_PUBLISHER_ID,
	[DERIVE_REGION] = SEGMENT_TEXT + TP_REGION,
};

uint64_t derive_hash(const struct derive_key *key)
{
	return XXH3_64bits(key, sizeof(*key));
}

static inline uint64_t slot_of(uint64_t hash, uint32_t index)
{
	return (hash & ~(uint64_t)UINT32_MAX) | (index + 1);
}

static bool slots_grow(struct derive *derive)
{
	uint32_t slots = derive->slots ? 2 * derive->slots : SLOTS_FIRST;
	struct derive_row *larger = realloc(derive->row, slots / 2 * sizeof(*larger));
	uint64_t *slot = larger ? calloc(slots, sizeof(*slot)) : NULL;
	if (larger)
		derive->row = larger;
	if (!slot)
		return false;
	free(derive->slot);
	derive->slot = slot;
	derive->slots = slots;
	derive->rows_max = slots / 2;
	for (uint32_t i = 0; i < derive->rows; i++) {
		const uint64_t hash = derive_hash(&derive->row[i].key);
		uint32_t at = (uint32_t)hash & (slots - 1);
		while (slot[at])
			at = (at + 1) & (slots - 1);
		slot[at] = slot_of(hash, i);
	}
	return true;
}

static inline uint32_t slot_find(const struct derive *derive, const struct derive_key *key, uint64_t hash)
{
	uint32_t at = (uint32_t)hash & (derive->slots - 1);
	for (uint64_t slot; (slot = derive->slot[at]) != 0; at = (at + 1) & (derive->slots - 1))
		if ((slot ^ hash) >> 32 == 0 && !memcmp(&derive->row[(uint32_t)slot - 1].key, key, sizeof(*key)))
			break;
	return at;
}

const struct derive_row *derive_find(const struct derive *derive, const struct derive_key *key, uint64_t hash)
{
	if (!derive->slots)
		return NULL;
	const uint64_t slot = derive->slot[slot_find(derive, key, hash)];
	return slot ? &derive->row[(uint32_t)slot - 1] : NULL;
}

/* There is room for one more. */
static inline struct tp_sums *sums_of(struct derive *derive, const struct derive_key *key, uint64_t hash)
{
	uint32_t at = slot_find(derive, key, hash);
	if (!derive->slot[at]) {
		derive->row[derive->rows] = (struct derive_row){.key = *key};
		derive->slot[at] = slot_of(hash, derive->rows++);
	}
	return &derive->row[(uint32_t)derive->slot[at] - 1].sums;
}

/* An event row that adds something. */
struct adding {
	struct derive_key key;
	uint64_t hash;
	uint32_t row;
	bool late, amends;
};

static uint32_t adding_make(const uint64_t *const value[DERIVE_COLUMNS], uint32_t from, uint32_t to, struct adding *adding)
{
	uint32_t count = 0;
	for (uint32_t i = from; i < to; i++) {
		const uint64_t verdict = value[DERIVE_VERDICT][i];
		const bool amends = verdict == TP_AMENDED && value[DERIVE_TYPE][i] == TP_CLICK && !value[DERIVE_FRAUD][i];
		if (verdict != TP_ACCEPTED && verdict != TP_LATE && !amends)
			continue;
		adding[count] = (struct adding){
			.key = {.minute = (uint32_t)(value[DERIVE_TIME][i] / TP_MINUTE_MS),
				.ad = (uint32_t)value[DERIVE_AD][i],
				.campaign = (uint32_t)value[DERIVE_CAMPAIGN][i],
				.advertiser = (uint32_t)value[DERIVE_ADVERTISER][i],
				.publisher = (uint32_t)value[DERIVE_PUBLISHER][i],
				.region = (uint32_t)value[DERIVE_REGION][i],
				.country_device = (uint32_t)(value[DERIVE_COUNTRY][i] | value[DERIVE_DEVICE][i] << 16),
				.currency = (uint32_t)value[DERIVE_CURRENCY][i]},
			.row = i,
			.late = verdict == TP_LATE,
			.amends = amends,
		};
		adding[count].hash = derive_hash(&adding[count].key);
		count++;
	}
	return count;
}

int derive_add(struct derive *derive, const uint64_t *const value[DERIVE_COLUMNS], uint32_t count)
{
	struct adding adding[DERIVE_BURST];
	for (uint32_t from = 0; from < count; from += DERIVE_BURST) {
		const uint32_t adds = adding_make(value, from, count - from < DERIVE_BURST ? count : from + DERIVE_BURST, adding);
		while (derive->rows_max - derive->rows < adds)
			if (!slots_grow(derive))
				return -ENOMEM;
		for (uint32_t i = 0; i < adds; i++)
			derive_prefetch(derive, adding[i].hash);
		for (uint32_t i = 0; i < adds; i++) {
			const uint64_t slot = derive->slot[(uint32_t)adding[i].hash & (derive->slots - 1)];
			if (slot && (slot ^ adding[i].hash) >> 32 == 0)
				__builtin_prefetch(&derive->row[(uint32_t)slot - 1]);
		}
		for (uint32_t i = 0; i < adds; i++) {
			const struct adding *one = &adding[i];
			const uint64_t type = value[DERIVE_TYPE][one->row];
			struct tp_sums *sums = sums_of(derive, &one->key, one->hash);
			sums->late += one->late || one->amends;
			if (type == TP_IMPRESSION) {
				sums->impressions++;
			} else if (type == TP_CONVERSION) {
				sums->conversions++;
			} else if (value[DERIVE_FRAUD][one->row]) {
				sums->flagged_clicks++;
			} else {
				sums->clicks++;
				sums->flagged_clicks -= one->amends;
				if (value[DERIVE_FLAGS][one->row] & TP_HAS_BID)
					sums->spend_micros += (int64_t)value[DERIVE_BID][one->row];
			}
		}
	}
	return 0;
}

void derive_fini(struct derive *derive)
{
	free(derive->row);
	free(derive->slot);
	*derive = (struct derive){0};
}

/* ---- what the writer makes of them ---- */

/* Once; both askers want the same. */
static int build_derive(struct segment_build *build)
{
	enum { PIECE = 4096 };
	if (build->derived)
		return 0;
	build->derived = calloc(1, sizeof(*build->derived));
	if (!build->derived)
		return -ENOMEM;
	uint64_t(*value)[PIECE] = malloc(DERIVE_COLUMNS * sizeof(*value));
	const uint64_t *column[DERIVE_COLUMNS];
	int rc = value ? 0 : -ENOMEM;
	for (uint32_t from = 0; from < build->rows && !rc; from += PIECE) {
		uint32_t count = build->rows - from < PIECE ? build->rows - from : PIECE;
		for (int c = 0; c < DERIVE_COLUMNS; c++) {
			segment_build_gather(build, derive_column[c], from, count, value[c]);
			column[c] = value[c];
		}
		rc = derive_add(build->derived, column, count);
		if (build->yield.fn)
			build->yield.fn(build->yield.context);
	}
	free(value);
	return rc;
}

/* Sums of a campaign in one currency. */
struct campaign_sums {
	uint32_t campaign, currency;
	struct tp_sums sums;
};

static int campaign_compare(const void *left, const void *right)
{
	const struct campaign_sums *a = left, *b = right;
	if (a->campaign != b->campaign)
		return a->campaign < b->campaign ? -1 : 1;
	return a->currency < b->currency ? -1 : a->currency > b->currency;
}

static void sums_add(struct tp_sums *sum, const struct tp_sums *one)
{
	sum->impressions += one->impressions;
	sum->clicks += one->clicks;
	sum->flagged_clicks += one->flagged_clicks;
	sum->conversions += one->conversions;
	sum->late += one->late;
	sum->spend_micros += one->spend_micros;
}

/*
 * Sums by campaign and currency, ascending; the caller frees them. Rows came in the order of the segment, where a campaign's lie side by
 * side: neighbours are added up first, so there is little to sort. NULL: no memory.
 */
static struct campaign_sums *campaigns_sum(const struct derive *derive, uint32_t *count)
{
	uint32_t runs = 0, max = 64, kept = 0;
	struct campaign_sums *sums = malloc(max * sizeof(*sums));
	for (uint32_t i = 0; sums && i < derive->rows; i++) {
		const struct derive_row *row = &derive->row[i];
		if (!runs || sums[runs - 1].campaign != row->key.campaign || sums[runs - 1].currency != row->key.currency) {
			if (runs == max) {
				struct campaign_sums *larger = realloc(sums, (max *= 2) * sizeof(*sums));
				if (!larger)
					free(sums);
				if (!(sums = larger))
					break;
			}
			sums[runs++] = (struct campaign_sums){.campaign = row->key.campaign, .currency = row->key.currency};
		}
		sums_add(&sums[runs - 1].sums, &row->sums);
	}
	if (!sums)
		return NULL;
	qsort(sums, runs, sizeof(*sums), campaign_compare);
	for (uint32_t i = 0; i < runs; i++) {
		if (kept && !campaign_compare(&sums[kept - 1], &sums[i]))
			sums_add(&sums[kept - 1].sums, &sums[i].sums);
		else
			sums[kept++] = sums[i];
	}
	*count = kept;
	return sums;
}

int segment_build_campaigns(struct segment_build *build, struct column_scratch *scratch, struct buffer *out, uint64_t *count)
{
	enum { STREAMS = 9 };
	int rc = build_derive(build);
	if (rc)
		return rc;
	uint32_t campaigns = 0;
	struct campaign_sums *sums = campaigns_sum(build->derived, &campaigns);
	const uint64_t each = (uint64_t)campaigns + 1;
	uint64_t *value = sums ? calloc(STREAMS, each * sizeof(*value)) : NULL;
	for (uint32_t i = 0; value && i < campaigns; i++) {
		const struct campaign_sums *one = &sums[i];
		const uint64_t figure[STREAMS] = {one->campaign,
						  one->currency,
						  one->sums.impressions,
						  one->sums.clicks,
						  one->sums.flagged_clicks,
						  one->sums.conversions,
						  one->sums.late,
						  (uint64_t)one->sums.spend_micros,
						  (uint64_t)(one->sums.spend_micros >> 64)};
		for (int s = 0; s < STREAMS; s++)
			value[(uint64_t)s * each + i] = figure[s];
	}
	*count = campaigns;
	for (int s = 0; value && s < STREAMS; s++)
		column_encode_long(scratch, out, value + (uint64_t)s * each, campaigns);
	rc = value && !out->failed ? 0 : -ENOMEM;
	free(value);
	free(sums);
	return rc;
}

int segment_build_follows(struct segment_build *build, const struct tp_rollup_row *rows, uint32_t count, const char *heap)
{
	static const enum tp_dimension dimension[] = {TP_DIM_AD, TP_DIM_CAMPAIGN, TP_DIM_ADVERTISER, TP_DIM_PUBLISHER,
						      TP_DIM_REGION};
	static const enum tp_string string[] = {TP_AD_ID, TP_CAMPAIGN_ID, TP_ADVERTISER_ID, TP_PUBLISHER_ID, TP_REGION};
	int rc = build_derive(build);
	bool follows = !rc && build->derived->rows == count;
	for (uint32_t from = 0; from < count && follows; from += DERIVE_BURST) {
		const uint32_t here = count - from < DERIVE_BURST ? count - from : DERIVE_BURST;
		struct derive_key key[DERIVE_BURST];
		uint64_t hash[DERIVE_BURST];
		for (uint32_t i = 0; i < here; i++) {
			const struct tp_rollup_row *row = &rows[from + i];
			uint32_t code[TP_DIMENSIONS];
			for (int d = 0; d < TP_DIMENSIONS; d++) {
				struct tp_str text = tp_rollup_string(row, heap, dimension[d]);
				code[d] = text_find(&build->texts[string[d]], text.at, text.bytes);
			}
			key[i] = (struct derive_key){
				.minute = row->minute,
				.ad = code[0],
				.campaign = code[1],
				.advertiser = code[2],
				.publisher = code[3],
				.region = code[4],
				.country_device = (uint8_t)row->country[0] | (uint32_t)(uint8_t)row->country[1] << 8 |
						  (uint32_t)row->device << 16,
				.currency = (uint8_t)row->currency[0] | (uint32_t)(uint8_t)row->currency[1] << 8 |
					    (uint32_t)(uint8_t)row->currency[2] << 16,
			};
			hash[i] = derive_hash(&key[i]);
			derive_prefetch(build->derived, hash[i]);
		}
		for (uint32_t i = 0; i < here && follows; i++) {
			const struct derive_row *found = derive_find(build->derived, &key[i], hash[i]);
			follows = found && !memcmp(&found->sums, &rows[from + i].sums, sizeof(found->sums));
		}
		if (from % FOLLOWS_YIELD_ROWS == 0 && build->yield.fn)
			build->yield.fn(build->yield.context);
	}
	return rc ? rc : follows;
}
