/*
 * Adding up a column by the texts of another, a block at a time: turnpike/scan.h.
 *
 * Sums go into an array by the code of the text, which is a number of the segment's own; nothing is hashed. Where the block has the codes as
 * runs (rows are sorted by advertiser, campaign and ad), a run is one sum. Values are read in pieces that stay in the first-level cache,
 * or, if few rows are wanted, only those.
 *
 * Threads: the scan's.
 */
#include "scan_state.h"

/* The runs of the block, and where in them the next row is. */
struct runs {
	const uint64_t *code, *length;
	uint32_t count, at;
	uint64_t end; /* the row behind run `at` */
};

/* Wraps around, which small enough values do not. */
COLUMN_VECTORISED static int64_t sum_narrow(const uint64_t *value, uint32_t count)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += value[i];
	return (int64_t)sum;
}

static __int128 sum_of(const uint64_t *value, uint32_t count, bool narrow)
{
	__int128 sum = 0;
	if (narrow && count >= 16)
		return sum_narrow(value, count);
	for (uint32_t i = 0; i < count; i++)
		sum += (int64_t)value[i];
	return sum;
}

/* Rows [from, from + count) have these values. */
static void runs_add(struct runs *runs, const uint64_t *value, uint64_t from, uint32_t count, bool narrow, __int128 *sum)
{
	const uint64_t until = from + count;
	while (from < until) {
		uint32_t piece = (uint32_t)((runs->end < until ? runs->end : until) - from);
		sum[runs->code[runs->at]] += sum_of(value, piece, narrow);
		value += piece;
		from += piece;
		if (from == runs->end && ++runs->at < runs->count)
			runs->end += runs->length[runs->at];
	}
}

static int whole_block(struct sto_scan *scan, uint32_t column, struct runs *runs, bool narrow, __int128 *sum)
{
	uint64_t piece[COLUMN_PIECE];
	const struct segment_block *zone = segment_rows_zone(&scan->rows, column, scan->block);
	const uint32_t rows = sto_scan_rows(scan);
	struct column_cursor cursor;
	int rc = segment_rows_cursor(&scan->rows, column, scan->block, &cursor);
	if (rc < 0)
		return rc;
	if (!rc) {
		const uint64_t *value = sto_scan_values(scan, column);
		if (value)
			runs_add(runs, value, 0, rows, narrow, sum);
		return value ? 0 : -EBADMSG;
	}
	for (uint32_t done = 0; done < rows; done += COLUMN_PIECE) {
		uint32_t count = rows - done < COLUMN_PIECE ? rows - done : COLUMN_PIECE;
		if (!column_cursor_next(&cursor, piece, count) || !column_within(piece, count, zone->min, zone->max))
			return segment_damage(scan->segment.sequence, "a column that is summed", "a block that does not decode");
		runs_add(runs, piece, done, count, narrow, sum);
	}
	return 0;
}

/* Only the wanted rows' values. */
static void few_rows(const struct sto_scan *scan, const uint64_t *value, const struct runs *runs, __int128 *sum)
{
	const uint32_t *row = scan->selection;
	uint64_t end = 0;
	for (uint32_t r = 0, i = 0; r < runs->count; r++) {
		__int128 one = 0;
		for (end += runs->length[r]; i < scan->selected && row[i] < end; i++)
			one += (int64_t)value[i];
		sum[runs->code[r]] += one;
	}
}

/* No runs: codes row by row. */
static int row_by_row(struct sto_scan *scan, uint32_t by, uint32_t column, __int128 *sum)
{
	uint32_t count;
	(void)sto_scan_selected(scan, &count);
	const uint64_t *code = sto_scan_picked(scan, by), *value = code ? sto_scan_picked(scan, column) : NULL;
	if (!value)
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++)
		sum[code[i]] += (int64_t)value[i];
	return 0;
}

int sto_scan_sum(struct sto_scan *scan, enum tp_string by, uint32_t column, __int128 *sum)
{
	const uint32_t group = SEGMENT_TEXT + (uint32_t)by;
	const struct segment_block *codes = segment_rows_zone(&scan->rows, group, scan->block),
				   *zone = segment_rows_zone(&scan->rows, column, scan->block);
	if (!codes || codes->max >= sto_scan_texts(scan, by))
		return segment_damage(scan->segment.sequence, "zones", "a code beyond the dictionary");
	if (!zone)
		return 0; /* all zeros */
	/* then not even a whole block's sum leaves 64 bits */
	const bool narrow = zone->max <= INT64_MAX / SEGMENT_BLOCK_ROWS;
	struct runs runs = {0};
	runs.count = sto_scan_runs(scan, group, &runs.code, &runs.length);
	if (!runs.count)
		return row_by_row(scan, group, column, sum);
	runs.end = runs.length[0];
	if (scan->all)
		return whole_block(scan, column, &runs, narrow, sum);
	const uint64_t *value = sto_scan_picked(scan, column);
	if (value)
		few_rows(scan, value, &runs, sum);
	return value ? 0 : -EBADMSG;
}
