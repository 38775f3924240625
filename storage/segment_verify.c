/*
 * Checking a segment: every byte by checksums, and, when asked, all that is in it against each other.
 *
 * Threads: the segment's owner.
 */
#include "column_text.h"
#include "id_filter.h"
#include "segment_column.h"
#include "segment_rows.h"
#include "segment_state.h"
#include "segment_v1.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static int places_check(struct segment *segment)
{
	for (uint32_t i = 0; i < segment->footer->sections; i++) {
		const struct segment_place *place = &segment->section[i].place;
		if (XXH3_64bits(segment->base + place->offset, place->bytes) != place->checksum)
			return segment_damage(segment->sequence, "section", "its checksum");
	}
	for (uint32_t i = 0; i < segment->footer->columns; i++) {
		const struct segment_column *column = &segment->column[i];
		const char *name = segment_column_rule[column->column].name;
		const struct segment_place *place[] = {column->texts ? &column->dictionary : NULL,
						       column->parent != SEGMENT_NO_PARENT ? &column->table : NULL};
		for (int p = 0; p < 2; p++)
			if (place[p] && XXH3_64bits(segment->base + place[p]->offset, place[p]->bytes) != place[p]->checksum)
				return segment_damage(segment->sequence, name, "the checksum of its dictionary or table");
		for (uint32_t b = 0; b < column->blocks; b++) {
			const struct segment_block *block = &segment->block[column->block + b];
			if (XXH3_64bits(segment->base + block->offset, block->bytes) != block->checksum)
				return segment_damage(segment->sequence, name, "a block's checksum");
		}
	}
	return 0;
}

struct checking {
	struct segment *segment;
	struct segment_totals found;
	const uint8_t *filter; /* version 2 */
	struct tp_event *before;
};

static int text_compare(const struct tp_event *a, const struct tp_event *b, enum tp_string which)
{
	struct tp_str x = tp_event_string(a, which), y = tp_event_string(b, which);
	int c = memcmp(x.at, y.at, x.bytes < y.bytes ? x.bytes : y.bytes);
	return c ? c : (int)x.bytes - (int)y.bytes;
}

static bool in_order(const struct tp_event *a, const struct tp_event *b)
{
	int c = text_compare(a, b, TP_ADVERTISER_ID);
	if (!c)
		c = text_compare(a, b, TP_CAMPAIGN_ID);
	if (!c)
		c = text_compare(a, b, TP_AD_ID);
	return c < 0 || (c == 0 && a->timestamp_ms <= b->timestamp_ms);
}

static int row_check(void *context, const struct tp_event *event)
{
	struct checking *checking = context;
	uint64_t sequence = checking->segment->sequence;
	if (checking->found.rows && !in_order(checking->before, event))
		return segment_damage(sequence, "rows", "rows out of order");
	memcpy(checking->before, event, event->bytes);
	segment_totals_add(&checking->found, event);
	if (checking->segment->version == SEGMENT_VERSION_OLD_IDS && (event->verdict == TP_ACCEPTED || event->verdict == TP_LATE) &&
	    (!checking->filter ||
	     !id_filter_maybe(checking->filter,
			      id_filter_key(event->id.hi, event->id.lo, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS)))))
		return segment_damage(sequence, "id filter", "an id that it does not know");
	return 0;
}

static int rows_check(struct segment *segment)
{
	_Alignas(8) uint8_t before[TP_EVENT_BYTES_MAX];
	struct checking checking = {.segment = segment, .before = (struct tp_event *)(void *)before};
	const struct segment_totals *told = segment->totals;
	const void *filter;
	uint64_t bytes;
	int rc = -ENOENT;
	if (segment->version == SEGMENT_VERSION_OLD_IDS)
		rc = segment_section_read(segment, SEGMENT_FILTER, &filter, &bytes);
	if (!rc && !id_filter_sane(filter, bytes))
		return segment_damage(segment->sequence, "id filter", "none that can be");
	checking.filter = rc ? NULL : filter;
	segment_totals_init(&checking.found);
	if (!rc || rc == -ENOENT)
		rc = segment_events_sorted(segment, row_check, &checking);
	if (rc)
		return rc;
	checking.found.watermark_ms = told->watermark_ms;
	if (memcmp(&checking.found, told, sizeof(*told)) != 0)
		return segment_damage(segment->sequence, "footer", "totals other than those of its rows");
	return 0;
}

static int rollup_check(struct segment *segment)
{
	const struct segment_totals *told = segment->totals;
	const struct tp_rollup_row *row;
	const char *heap;
	uint32_t count;
	struct tp_sums sum = {0};
	int rc = segment_rollup(segment, &row, &count, &heap);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < count; i++, row++) {
		sum.impressions += row->sums.impressions;
		sum.clicks += row->sums.clicks;
		sum.flagged_clicks += row->sums.flagged_clicks;
		sum.conversions += row->sums.conversions;
		sum.late += row->sums.late;
		sum.spend_micros += row->sums.spend_micros;
	}
	if (sum.impressions != told->impressions || sum.clicks != told->clicks || sum.flagged_clicks != told->flagged_clicks ||
	    sum.conversions != told->conversions || sum.late != told->late || sum.spend_micros != told->spend_micros)
		return segment_damage(segment->sequence, "rollup", "sums other than those of the rows");
	return 0;
}

static int nothing(void *context, const struct tp_event *event)
{
	(void)context, (void)event;
	return 0;
}

int segment_verify(struct segment *segment, const struct manifest_segment *facts, enum segment_verify how)
{
	if (XXH3_64bits(segment->base, segment->bytes) != facts->hash)
		return segment_damage(segment->sequence, "file", "another hash than the manifest's");
	if (segment->version == 1)
		return segment_v1_verify(segment);
	if (segment->footer_damaged || !segment_front_footer_good(segment))
		return segment_damage(segment->sequence, "footer", "one of its two copies");
	int rc = places_check(segment);
	if (rc || how == SEGMENT_VERIFY_BYTES)
		return rc;
	rc = rows_check(segment);
	if (!rc)
		rc = rollup_check(segment);
	return rc ? rc : segment_raw(segment, nothing, NULL);
}
