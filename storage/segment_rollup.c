/*
 * The rollup rows of a segment: from its sections if it has them, else derived from its rows (segment_derive.h), once, into memory.
 *
 * Threads: the segment's owner.
 */
#include "segment_derive.h"
#include "segment_rows.h"
#include "segment_state.h"
#include "segment_v1.h"

static const enum tp_string dimension_string[TP_DIMENSIONS] = {
	[TP_DIM_AD] = TP_AD_ID,
	[TP_DIM_CAMPAIGN] = TP_CAMPAIGN_ID,
	[TP_DIM_ADVERTISER] = TP_ADVERTISER_ID,
	[TP_DIM_PUBLISHER] = TP_PUBLISHER_ID,
	[TP_DIM_REGION] = TP_REGION,
};

static const char *stored_check(const struct tp_rollup_row *row, uint64_t count, uint64_t heap_bytes)
{
	uint32_t minute = 0;
	for (uint64_t i = 0; i < count; i++, row++) {
		uint64_t end = row->string_at;
		for (int d = 0; d < TP_DIMENSIONS; d++)
			end += row->string_bytes[d];
		if (end > heap_bytes)
			return "strings beyond the heap";
		if (row->minute < minute || row->device >= TP_DEVICE_TYPES)
			return "rows out of order, or an unknown device";
		minute = row->minute;
	}
	return NULL;
}

static int stored(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap)
{
	const void *row_bytes, *heap_bytes;
	uint64_t bytes, heap_length;
	int rc = segment_section_read(segment, SEGMENT_ROLLUP, &row_bytes, &bytes);
	if (rc)
		return rc;
	rc = segment_section_read(segment, SEGMENT_ROLLUP_HEAP, &heap_bytes, &heap_length);
	if (rc)
		return rc == -ENOENT ? -EBADMSG : rc;
	const char *found = bytes % sizeof(**rows) || bytes / sizeof(**rows) > UINT32_MAX
				    ? "its length"
				    : stored_check(row_bytes, bytes / sizeof(**rows), heap_length);
	if (found)
		return segment_damage(segment->sequence, "rollup", found);
	*rows = row_bytes;
	*count = (uint32_t)(bytes / sizeof(**rows));
	*heap = heap_bytes;
	return 0;
}

/* ---- deriving ---- */

/* Ranks of codes, so that rows sort by the bytes of their texts. */
struct ranks {
	uint32_t *rank[TP_DIMENSIONS];
};

struct ranking {
	const struct text_dictionary *dictionary;
};

static int code_compare(const void *left, const void *right, void *context)
{
	const struct ranking *ranking = context;
	struct tp_str a = text_of(ranking->dictionary, *(const uint32_t *)left);
	struct tp_str b = text_of(ranking->dictionary, *(const uint32_t *)right);
	int c = memcmp(a.at, b.at, a.bytes < b.bytes ? a.bytes : b.bytes);
	return c ? c : (int)a.bytes - (int)b.bytes;
}

static uint32_t *rank_make(const struct text_dictionary *dictionary)
{
	uint32_t *sorted = malloc(((uint64_t)dictionary->count + 1) * sizeof(*sorted));
	uint32_t *rank = malloc(((uint64_t)dictionary->count + 1) * sizeof(*rank));
	if (sorted && rank) {
		struct ranking ranking = {.dictionary = dictionary};
		for (uint32_t i = 0; i < dictionary->count; i++)
			sorted[i] = i;
		qsort_r(sorted, dictionary->count, sizeof(*sorted), code_compare, &ranking);
		for (uint32_t i = 0; i < dictionary->count; i++)
			rank[sorted[i]] = i;
	} else {
		free(rank);
		rank = NULL;
	}
	free(sorted);
	return rank;
}

static const uint32_t *key_codes(const struct derive_key *key, uint32_t code[TP_DIMENSIONS])
{
	code[TP_DIM_AD] = key->ad;
	code[TP_DIM_CAMPAIGN] = key->campaign;
	code[TP_DIM_ADVERTISER] = key->advertiser;
	code[TP_DIM_PUBLISHER] = key->publisher;
	code[TP_DIM_REGION] = key->region;
	return code;
}

static int row_compare(const void *left, const void *right, void *context)
{
	static const enum tp_dimension order[] = {TP_DIM_CAMPAIGN, TP_DIM_AD, TP_DIM_ADVERTISER, TP_DIM_PUBLISHER, TP_DIM_REGION};
	const struct ranks *ranks = context;
	const struct derive_key *a = &((const struct derive_row *)left)->key, *b = &((const struct derive_row *)right)->key;
	if (a->minute != b->minute)
		return a->minute < b->minute ? -1 : 1;
	uint32_t x[TP_DIMENSIONS], y[TP_DIMENSIONS];
	key_codes(a, x);
	key_codes(b, y);
	for (int i = 0; i < TP_DIMENSIONS; i++) {
		const uint32_t *rank = ranks->rank[order[i]];
		if (x[order[i]] != y[order[i]])
			return rank[x[order[i]]] < rank[y[order[i]]] ? -1 : 1;
	}
	uint32_t country_a = __builtin_bswap16((uint16_t)a->country_device),
		 country_b = __builtin_bswap16((uint16_t)b->country_device);
	if (country_a != country_b)
		return country_a < country_b ? -1 : 1;
	if (a->country_device != b->country_device)
		return a->country_device < b->country_device ? -1 : 1;
	return memcmp(&a->currency, &b->currency, 3);
}

static int rows_fill(struct segment_memory *memory, const struct segment_rows *rows, const struct derive *derive)
{
	struct buffer heap = {0};
	memory->rollup = aligned_alloc(_Alignof(struct tp_rollup_row), ((uint64_t)derive->rows + 1) * sizeof(*memory->rollup));
	if (!memory->rollup)
		return -ENOMEM;
	memset(memory->rollup, 0, ((uint64_t)derive->rows + 1) * sizeof(*memory->rollup));
	for (uint32_t i = 0; i < derive->rows; i++) {
		const struct derive_key *key = &derive->row[i].key;
		struct tp_rollup_row *to = &memory->rollup[i];
		uint32_t code[TP_DIMENSIONS];
		key_codes(key, code);
		to->minute = key->minute;
		to->string_at = (uint32_t)heap.bytes;
		for (int d = 0; d < TP_DIMENSIONS; d++) {
			struct tp_str text = text_of(&rows->dictionary[dimension_string[d]], code[d]);
			to->string_bytes[d] = (uint8_t)text.bytes;
			buffer_put(&heap, text.at, text.bytes);
		}
		to->device = (uint8_t)(key->country_device >> 16);
		memcpy(to->country, &key->country_device, sizeof(to->country));
		memcpy(to->currency, &key->currency, sizeof(to->currency));
		to->sums = derive->row[i].sums;
	}
	buffer_put(&heap, "", 1);
	memory->heap = (char *)heap.at;
	memory->rollup_rows = derive->rows;
	return heap.failed || heap.bytes > UINT32_MAX ? -ENOMEM : 0;
}

/* Codes and numbers that later steps use as indexes or narrow down. */
static bool block_sane(const struct segment_rows *rows, const uint64_t *const value[DERIVE_COLUMNS], uint32_t count)
{
	uint64_t bad = 0;
	for (int c = 0; c < DERIVE_COLUMNS; c++) {
		uint64_t below = UINT32_MAX;
		if (derive_column[c] >= SEGMENT_TEXT)
			below = rows->dictionary[derive_column[c] - SEGMENT_TEXT].count;
		else if (c == DERIVE_COUNTRY)
			below = 1 << 16;
		else if (c == DERIVE_DEVICE)
			below = TP_DEVICE_TYPES;
		else if (c == DERIVE_TYPE)
			below = TP_EVENT_TYPES;
		else if (c == DERIVE_TIME)
			below = TP_MINUTE_MS * UINT32_MAX;
		else if (c == DERIVE_BID)
			below = (uint64_t)TP_BID_MICROS_MAX + 1;
		for (uint32_t i = 0; i < count; i++)
			bad |= value[c][i] >= below;
	}
	return !bad;
}

static int derive_all(struct segment_rows *rows, struct derive *derive)
{
	const uint64_t *value[DERIVE_COLUMNS];
	for (int d = 0; d < TP_DIMENSIONS && rows->blocks; d++)
		if (!segment_rows_dictionary(rows, dimension_string[d]))
			return -EBADMSG;
	for (uint32_t b = 0; b < rows->blocks; b++) {
		for (int c = 0; c < DERIVE_COLUMNS; c++) {
			value[c] = segment_rows_values(rows, derive_column[c], b);
			if (!value[c])
				return -EBADMSG;
		}
		uint32_t count = segment_rows_count(rows, b);
		if (!block_sane(rows, value, count))
			return segment_damage(rows->segment->sequence, "rows", "values that cannot be");
		int rc = derive_add(derive, value, count);
		if (rc)
			return rc;
	}
	return 0;
}

static int derive_rollup(struct segment *segment)
{
	struct segment_rows rows = {0};
	struct derive derive = {0};
	struct ranks ranks = {0};
	int rc = segment_rows_open(&rows, segment);
	if (rc)
		return rc;
	rc = derive_all(&rows, &derive);
	for (int d = 0; d < TP_DIMENSIONS && !rc && derive.rows; d++) {
		ranks.rank[d] = rank_make(&rows.dictionary[dimension_string[d]]);
		rc = ranks.rank[d] ? 0 : -ENOMEM;
	}
	if (!rc && derive.rows)
		qsort_r(derive.row, derive.rows, sizeof(*derive.row), row_compare, &ranks);
	if (!rc)
		rc = rows_fill(segment->memory, &rows, &derive);
	segment->memory->rollup_derived = !rc;
	for (int d = 0; d < TP_DIMENSIONS; d++)
		free(ranks.rank[d]);
	derive_fini(&derive);
	segment_rows_close(&rows);
	return rc;
}

int segment_rollup(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap)
{
	if (segment->version == 1)
		return segment_v1_rollup(segment, rows, count, heap);
	int rc = stored(segment, rows, count, heap);
	if (rc != -ENOENT)
		return rc;
	if (!segment->memory->rollup_derived) {
		free(segment->memory->rollup);
		free(segment->memory->heap);
		segment->memory->rollup = NULL;
		segment->memory->heap = NULL;
		rc = derive_rollup(segment);
		if (rc)
			return rc;
	}
	*rows = segment->memory->rollup;
	*count = segment->memory->rollup_rows;
	*heap = segment->memory->heap;
	return 0;
}
