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

static bool slots_grow(struct derive *derive, uint32_t slots)
{
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

/* Room for so many rows, and a burst of them. */
static int derive_reserve(struct derive *derive, uint32_t rows)
{
	uint32_t slots = SLOTS_FIRST;
	while (slots / 2 < rows + DERIVE_BURST)
		slots *= 2;
	return slots_grow(derive, slots) ? 0 : -ENOMEM;
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

static inline bool row_amends(uint64_t verdict, uint64_t type, uint64_t fraud)
{
	return verdict == TP_AMENDED && type == TP_CLICK && !fraud;
}

static inline bool row_adds(uint64_t verdict, uint64_t type, uint64_t fraud)
{
	return verdict == TP_ACCEPTED || verdict == TP_LATE || row_amends(verdict, type, fraud);
}

/* What a row that adds something adds. */
static inline void row_add(struct tp_sums *sums, uint64_t verdict, uint64_t type, uint64_t fraud, uint64_t flags, uint64_t bid)
{
	sums->late += verdict != TP_ACCEPTED;
	if (type == TP_IMPRESSION) {
		sums->impressions++;
	} else if (type == TP_CONVERSION) {
		sums->conversions++;
	} else if (fraud) {
		sums->flagged_clicks++;
	} else {
		sums->clicks++;
		sums->flagged_clicks -= verdict == TP_AMENDED;
		if (flags & TP_HAS_BID)
			sums->spend_micros += (int64_t)bid;
	}
}

/* An event row that adds something. */
struct adding {
	struct derive_key key;
	uint64_t hash;
	uint32_t row;
};

static uint32_t adding_make(const uint64_t *const value[DERIVE_COLUMNS], uint32_t from, uint32_t to, struct adding *adding)
{
	uint32_t count = 0;
	for (uint32_t i = from; i < to; i++) {
		if (!row_adds(value[DERIVE_VERDICT][i], value[DERIVE_TYPE][i], value[DERIVE_FRAUD][i]))
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
			if (!slots_grow(derive, derive->slots ? 2 * derive->slots : SLOTS_FIRST))
				return -ENOMEM;
		for (uint32_t i = 0; i < adds; i++)
			derive_prefetch(derive, adding[i].hash);
		for (uint32_t i = 0; i < adds; i++) {
			const uint64_t slot = derive->slot[(uint32_t)adding[i].hash & (derive->slots - 1)];
			if (slot && (slot ^ adding[i].hash) >> 32 == 0)
				__builtin_prefetch(&derive->row[(uint32_t)slot - 1]);
		}
		for (uint32_t i = 0; i < adds; i++) {
			const uint32_t row = adding[i].row;
			row_add(sums_of(derive, &adding[i].key, adding[i].hash), value[DERIVE_VERDICT][row],
				value[DERIVE_TYPE][row], value[DERIVE_FRAUD][row], value[DERIVE_FLAGS][row],
				value[DERIVE_BID][row]);
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

enum { PIECE = 4096 };

static int build_derive(const struct segment_build *build, struct derive *derive)
{
	uint64_t(*value)[PIECE] = malloc(DERIVE_COLUMNS * sizeof(*value));
	const uint64_t *column[DERIVE_COLUMNS];
	int rc = value ? 0 : -ENOMEM;
	for (uint32_t from = 0; from < build->rows && !rc; from += PIECE) {
		uint32_t count = build->rows - from < PIECE ? build->rows - from : PIECE;
		for (int c = 0; c < DERIVE_COLUMNS; c++) {
			segment_build_gather(build, derive_column[c], from, count, value[c]);
			column[c] = value[c];
		}
		rc = derive_add(derive, column, count);
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

/* Sums that are still growing: those from `open` on are of the campaign of the row that came last, one a currency. */
struct summing {
	struct campaign_sums *sums;
	uint32_t count, max, open, last;
};

/* The sums of a row; NULL: no memory. */
static inline struct tp_sums *summing_of(struct summing *summing, uint32_t campaign, uint32_t currency)
{
	struct campaign_sums *sums = summing->sums;
	if (summing->count && sums[summing->last].campaign == campaign) {
		if (sums[summing->last].currency == currency)
			return &sums[summing->last].sums;
		for (uint32_t i = summing->open; i < summing->count; i++)
			if (sums[i].currency == currency)
				return &sums[summing->last = i].sums;
	} else {
		summing->open = summing->count;
	}
	if (summing->count == summing->max) {
		summing->max = summing->max ? 2 * summing->max : 64;
		sums = realloc(sums, summing->max * sizeof(*sums));
		if (!sums)
			return NULL;
		summing->sums = sums;
	}
	summing->last = summing->count++;
	sums[summing->last] = (struct campaign_sums){.campaign = campaign, .currency = currency};
	return &sums[summing->last].sums;
}

enum sum_column { SUM_TYPE, SUM_VERDICT, SUM_FRAUD, SUM_FLAGS, SUM_CURRENCY, SUM_BID, SUM_CAMPAIGN, SUM_COLUMNS };

static int rows_sum(const struct segment_build *build, struct summing *summing)
{
	static const uint16_t of[SUM_COLUMNS] = {[SUM_TYPE] = SEGMENT_TYPE,
						 [SUM_VERDICT] = SEGMENT_VERDICT,
						 [SUM_FRAUD] = SEGMENT_FRAUD,
						 [SUM_FLAGS] = SEGMENT_FLAGS,
						 [SUM_CURRENCY] = SEGMENT_CURRENCY,
						 [SUM_BID] = SEGMENT_BID,
						 [SUM_CAMPAIGN] = SEGMENT_TEXT + TP_CAMPAIGN_ID};
	uint64_t(*value)[PIECE] = malloc(SUM_COLUMNS * sizeof(*value));
	int rc = value ? 0 : -ENOMEM;
	for (uint32_t from = 0; from < build->rows && !rc; from += PIECE) {
		const uint32_t count = build->rows - from < PIECE ? build->rows - from : PIECE;
		for (int c = 0; c < SUM_COLUMNS; c++)
			segment_build_gather(build, of[c], from, count, value[c]);
		for (uint32_t i = 0; i < count && !rc; i++) {
			if (!row_adds(value[SUM_VERDICT][i], value[SUM_TYPE][i], value[SUM_FRAUD][i]))
				continue;
			struct tp_sums *sums =
				summing_of(summing, (uint32_t)value[SUM_CAMPAIGN][i], (uint32_t)value[SUM_CURRENCY][i]);
			if (sums)
				row_add(sums, value[SUM_VERDICT][i], value[SUM_TYPE][i], value[SUM_FRAUD][i], value[SUM_FLAGS][i],
					value[SUM_BID][i]);
			else
				rc = -ENOMEM;
		}
		if (build->yield.fn)
			build->yield.fn(build->yield.context);
	}
	free(value);
	return rc;
}

/*
 * Sums by campaign and currency, ascending; the caller frees them. In the order of the segment a campaign's rows lie side by side, unless it
 * has several advertisers: neighbours are added up, so there is little to sort. NULL: no memory.
 */
static struct campaign_sums *campaigns_sum(const struct segment_build *build, uint32_t *count)
{
	struct summing summing = {.max = 64, .sums = malloc(64 * sizeof(*summing.sums))};
	uint32_t kept = 0;
	if (!summing.sums || rows_sum(build, &summing)) {
		free(summing.sums);
		return NULL;
	}
	struct campaign_sums *sums = summing.sums;
	qsort(sums, summing.count, sizeof(*sums), campaign_compare);
	for (uint32_t i = 0; i < summing.count; i++) {
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
	uint32_t campaigns = 0;
	struct campaign_sums *sums = campaigns_sum(build, &campaigns);
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
	const int rc = value && !out->failed ? 0 : -ENOMEM;
	free(value);
	free(sums);
	return rc;
}

int segment_build_follows(struct segment_build *build, const struct tp_rollup_row *rows, uint32_t count, const char *heap)
{
	static const enum tp_dimension dimension[] = {TP_DIM_AD, TP_DIM_CAMPAIGN, TP_DIM_ADVERTISER, TP_DIM_PUBLISHER,
						      TP_DIM_REGION};
	static const enum tp_string string[] = {TP_AD_ID, TP_CAMPAIGN_ID, TP_ADVERTISER_ID, TP_PUBLISHER_ID, TP_REGION};
	struct derive derive = {0};
	int rc = derive_reserve(&derive, count);
	if (!rc)
		rc = build_derive(build, &derive);
	bool follows = !rc && derive.rows == count;
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
			derive_prefetch(&derive, hash[i]);
		}
		for (uint32_t i = 0; i < here && follows; i++) {
			const struct derive_row *found = derive_find(&derive, &key[i], hash[i]);
			follows = found && !memcmp(&found->sums, &rows[from + i].sums, sizeof(found->sums));
		}
		if (from % FOLLOWS_YIELD_ROWS == 0 && build->yield.fn)
			build->yield.fn(build->yield.context);
	}
	derive_fini(&derive);
	return rc ? rc : follows;
}
