/*
 * Which rows of a block a scan wants: zone maps first, then one column after the other, each as a bit a row, without decoding more than
 * that takes (column_cursor.h).
 *
 * Threads: the scan's.
 */
#include "scan_state.h"

/* What a zone says of a condition: no row, all rows, or look. */
enum zone { ZONE_NONE, ZONE_ALL, ZONE_LOOK };

static enum zone zone_range(const struct segment_block *zone, uint64_t from, uint64_t to)
{
	uint64_t min = zone ? zone->min : 0, max = zone ? zone->max : 0;
	return max < from || min >= to ? ZONE_NONE : min >= from && max < to ? ZONE_ALL : ZONE_LOOK;
}

static enum zone zone_set(const struct segment_block *zone, uint32_t set)
{
	uint64_t min = zone ? zone->min : 0, max = zone ? zone->max : 0;
	if (!set)
		return ZONE_ALL;
	if (max > 31)
		return ZONE_LOOK;
	uint32_t span = (uint32_t)((2ULL << max) - (1ULL << min));
	return !(set & span) ? ZONE_NONE : (set & span) == span ? ZONE_ALL : ZONE_LOOK;
}

static uint32_t words_of(const struct sto_scan *scan)
{
	return (segment_rows_count(&scan->rows, scan->block) + 63) / 64;
}

/* Keeps of the wanted rows those whose bit is set in `bits`. */
static void selection_and(struct sto_scan *scan, const uint64_t *bits)
{
	const uint32_t words = words_of(scan);
	for (uint32_t w = 0; w < words; w++)
		scan->wanted[w] &= bits[w];
}

/* 1: rows may be wanted; 0: none; -EBADMSG. */
static int narrow(struct sto_scan *scan, uint32_t column, enum zone zone, const struct column_want *want)
{
	uint64_t bits[SCAN_WORDS];
	if (zone != ZONE_LOOK)
		return zone == ZONE_ALL;
	int rc = segment_rows_match(&scan->rows, column, scan->block, want, bits);
	if (rc)
		return rc;
	selection_and(scan, bits);
	scan->all = false;
	return 1;
}

static enum zone zone_tagged(const struct segment_rows *rows, uint32_t block)
{
	const struct segment_block *fraud = segment_rows_zone(rows, SEGMENT_FRAUD, block),
				   *verdict = segment_rows_zone(rows, SEGMENT_VERDICT, block);
	if (fraud && fraud->min)
		return ZONE_ALL;
	return (fraud && fraud->max) || (verdict && verdict->max >= TP_AMENDED) ? ZONE_LOOK : ZONE_NONE;
}

/* As narrow(): tags, or an amendment. */
static int narrow_tagged(struct sto_scan *scan, enum zone zone)
{
	static const struct column_want tags = {.from = 1, .span = UINT64_MAX}, amended = {.set = 1u << TP_AMENDED};
	uint64_t bits[SCAN_WORDS], more[SCAN_WORDS];
	if (zone != ZONE_LOOK)
		return zone == ZONE_ALL;
	int rc = segment_rows_match(&scan->rows, SEGMENT_FRAUD, scan->block, &tags, bits);
	if (!rc)
		rc = segment_rows_match(&scan->rows, SEGMENT_VERDICT, scan->block, &amended, more);
	if (rc)
		return rc;
	const uint32_t words = words_of(scan);
	for (uint32_t w = 0; w < words; w++)
		bits[w] |= more[w];
	selection_and(scan, bits);
	scan->all = false;
	return 1;
}

/* The numbers of the rows that are left. 1: there are some, 0. */
static int selection_list(struct sto_scan *scan)
{
	const uint32_t words = words_of(scan);
	uint32_t count = 0;
	if (scan->all)
		return 1;
	for (uint32_t w = 0; w < words; w++)
		for (uint64_t word = scan->wanted[w]; word; word &= word - 1)
			scan->selection[count++] = 64 * w + (uint32_t)__builtin_ctzll(word);
	scan->selected = count;
	scan->all = count == segment_rows_count(&scan->rows, scan->block);
	return count > 0;
}

static struct column_want within(uint64_t from, uint64_t to)
{
	return (struct column_want){.from = from, .span = to > from ? to - from : 0};
}

struct condition {
	uint32_t column;
	enum zone zone;
	struct column_want want;
};
enum { CONDITIONS_MAX = SCAN_CODES + 4 };

/* What the scan wants of a block, and what its zones say of that. How many conditions. */
static uint32_t conditions_of(const struct sto_scan *scan, uint32_t block, struct condition condition[CONDITIONS_MAX])
{
	const struct segment_rows *rows = &scan->rows;
	const struct sto_scan_filter *filter = &scan->filter;
	uint32_t conditions = 0;
	/* zones first: they cost nothing; the order is that of what costs little and leaves few */
	for (int i = 0; i < SCAN_CODES; i++)
		if (scan->wants_code[i]) {
			uint32_t column = SEGMENT_TEXT + (uint32_t)scan_code_string[i];
			condition[conditions++] = (struct condition){
				column, zone_range(segment_rows_zone(rows, column, block), scan->code[i], scan->code[i] + 1),
				within(scan->code[i], scan->code[i] + 1)};
		}
	condition[conditions++] =
		(struct condition){SEGMENT_TYPE, zone_set(segment_rows_zone(rows, SEGMENT_TYPE, block), filter->types),
				   (struct column_want){.set = filter->types}};
	condition[conditions++] =
		(struct condition){SEGMENT_VERDICT, zone_set(segment_rows_zone(rows, SEGMENT_VERDICT, block), filter->verdicts),
				   (struct column_want){.set = filter->verdicts}};
	if (filter->untagged)
		condition[conditions++] = (struct condition){
			SEGMENT_FRAUD, zone_range(segment_rows_zone(rows, SEGMENT_FRAUD, block), 0, 1), within(0, 1)};
	condition[conditions++] = (struct condition){
		SEGMENT_TIME, zone_range(segment_rows_zone(rows, SEGMENT_TIME, block), filter->from_ms, filter->to_ms),
		within(filter->from_ms, filter->to_ms)};
	return conditions;
}

bool scan_zones_want(const struct sto_scan *scan, uint32_t block)
{
	struct condition condition[CONDITIONS_MAX];
	const uint32_t conditions = conditions_of(scan, block, condition);
	bool wants = !scan->filter.tagged || zone_tagged(&scan->rows, block) != ZONE_NONE;
	for (uint32_t i = 0; i < conditions; i++)
		wants = wants && condition[i].zone != ZONE_NONE;
	return wants;
}

int scan_select(struct sto_scan *scan)
{
	struct condition condition[CONDITIONS_MAX];
	const uint32_t conditions = conditions_of(scan, scan->block, condition);
	const enum zone tagged = scan->filter.tagged ? zone_tagged(&scan->rows, scan->block) : ZONE_ALL;
	scan->all = true;
	int rc = tagged != ZONE_NONE;
	for (uint32_t i = 0; i < conditions; i++)
		rc = rc && condition[i].zone != ZONE_NONE;
	if (!rc)
		return 0;
	memset(scan->wanted, 0xff, words_of(scan) * sizeof(scan->wanted[0]));
	for (uint32_t i = 0; i < conditions && rc == 1; i++)
		rc = narrow(scan, condition[i].column, condition[i].zone, &condition[i].want);
	if (rc == 1)
		rc = narrow_tagged(scan, tagged);
	return rc == 1 ? selection_list(scan) : rc;
}
