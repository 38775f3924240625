/*
 * Fetching ahead for scans whose files are not in the page cache. A fault on a mapping reads around itself what no scan wants, and nothing
 * else until it is there; so what a scan will read of a segment is asked for at once, and nothing but that.
 *
 * Which columns that will be, the segment before has told: a scan reads of each what it read of the last. Of the first one only its ends are
 * asked for. Blocks whose zones rule them out are left out.
 *
 * Threads: the scan's.
 */
#include "scan_state.h"

/* Bytes of the mapping that are asked for together. */
struct span {
	uint64_t from, to;
};

enum { SPAN_GAP = 16384 }; /* less than this between two is read with them: it costs less than another read */

static void span_fetch(const struct segment *segment, struct span *span)
{
	if (span->to > span->from)
		segment->io->fetch(segment->io, segment->base + span->from, span->to - span->from);
	*span = (struct span){0};
}

static void span_add(const struct segment *segment, struct span *span, uint64_t offset, uint64_t bytes)
{
	if (span->to && offset >= span->from && offset <= span->to + SPAN_GAP) {
		span->to = offset + bytes > span->to ? offset + bytes : span->to;
		return;
	}
	span_fetch(segment, span);
	*span = (struct span){.from = offset, .to = offset + bytes};
}

static bool can_fetch(const struct sto_scan *scan)
{
	return scan->segment.io && scan->segment.io->fetch;
}

/* Dictionaries, before any is looked into. */
void scan_fetch_texts(struct sto_scan *scan)
{
	struct span span = {0};
	for (int s = 0; s < TP_STRINGS && can_fetch(scan); s++) {
		const struct segment_column *column = scan->rows.column[SEGMENT_TEXT + s];
		if (column && scan->used_texts >> s & 1)
			span_add(&scan->segment, &span, column->dictionary.offset, column->dictionary.bytes);
	}
	span_fetch(&scan->segment, &span);
}

/* Blocks of columns, once it is known which rows are wanted. */
void scan_fetch(struct sto_scan *scan)
{
	struct span span = {0};
	scan->fetched = true;
	for (uint32_t c = 0; c < SEGMENT_COLUMNS && can_fetch(scan) && !scan->nothing; c++) {
		const struct segment_column *column = scan->rows.column[c];
		if (!column || !(scan->used >> c & 1))
			continue;
		if (column->parent != SEGMENT_NO_PARENT)
			span_add(&scan->segment, &span, column->table.offset, column->table.bytes);
		for (uint32_t b = 0; b < scan->rows.blocks; b++) {
			const struct segment_block *block = segment_rows_zone(&scan->rows, c, b);
			if (scan_zones_want(scan, b))
				span_add(&scan->segment, &span, block->offset, block->bytes);
		}
	}
	span_fetch(&scan->segment, &span);
}
