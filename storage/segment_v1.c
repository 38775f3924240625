/*
 * Reading segments of version 1: segment_v1.h. Each part is checked once, before its first use.
 *
 * Threads: a struct segment belongs to one.
 */
#include "segment_v1.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

static const char *const part_name[SEGMENT_V1_PARTS] = {"rows", "id index", "rollup", "rollup heap"};

static bool footer_sane(const struct segment_v1_footer *footer, uint64_t bytes)
{
	static const uint64_t each[SEGMENT_V1_PARTS] = {0, sizeof(struct segment_v1_index_entry), sizeof(struct tp_rollup_row), 1};
	uint64_t behind = SEGMENT_HEADER_V1_BYTES;
	for (int i = 0; i < SEGMENT_V1_PARTS; i++) {
		const struct segment_v1_place *place = &footer->part[i];
		if (place->offset < behind || place->offset % SEGMENT_ALIGN || place->offset > bytes ||
		    place->bytes > bytes - place->offset)
			return false;
		if (each[i] && (place->bytes % each[i] || place->bytes / each[i] != place->count))
			return false;
		behind = place->offset + place->bytes;
	}
	const struct segment_totals *totals = &footer->totals;
	return behind <= bytes - sizeof(*footer) && footer->part[SEGMENT_V1_ROWS].count == totals->rows &&
	       footer->part[SEGMENT_V1_INDEX].count == totals->counted && totals->counted <= totals->rows &&
	       totals->conflicts <= totals->rows - totals->counted && footer->part[SEGMENT_V1_ROLLUP].count <= UINT32_MAX &&
	       totals->rows <= bytes / TP_EVENT_FIXED_BYTES;
}

int segment_v1_take(struct segment *segment)
{
	uint64_t bytes = segment->bytes;
	if (bytes < SEGMENT_HEADER_V1_BYTES + sizeof(struct segment_v1_footer) ||
	    (bytes - sizeof(struct segment_v1_footer)) % SEGMENT_ALIGN)
		return segment_damage(segment->sequence, "file", "its length");
	const struct segment_v1_footer *footer =
		(const struct segment_v1_footer *)(const void *)(segment->base + bytes - sizeof(struct segment_v1_footer));
	if (footer->magic != SEGMENT_MAGIC_END || footer->bytes != sizeof(*footer) || footer->version != 1 ||
	    footer->checksum != XXH3_64bits(footer, offsetof(struct segment_v1_footer, checksum)))
		return segment_damage(segment->sequence, "footer", "its checksum");
	if (!footer_sane(footer, bytes))
		return segment_damage(segment->sequence, "footer", "sections that cannot be");
	segment->v1 = footer;
	segment->totals = &footer->totals;
	return 0;
}

/* ---- inner checks, once per section ---- */

static const uint8_t *section_at(const struct segment *segment, enum segment_v1_part section)
{
	return segment->base + segment->v1->part[section].offset;
}

/* The record at offset `at` of the rows, or NULL when there is none that is whole. */
static const struct tp_event *row_at(const struct segment *segment, uint64_t at)
{
	uint64_t room = segment->v1->part[SEGMENT_V1_ROWS].bytes;
	if (at > room || room - at < TP_EVENT_FIXED_BYTES || at % 8)
		return NULL;
	const struct tp_event *event = (const struct tp_event *)(const void *)(section_at(segment, SEGMENT_V1_ROWS) + at);
	return tp_event_valid(event, room - at) ? event : NULL;
}

static const char *rows_check(const struct segment *segment)
{
	uint64_t at = 0;
	for (uint64_t i = 0; i < segment->v1->totals.rows; i++) {
		const struct tp_event *event = row_at(segment, at);
		if (!event)
			return "a malformed row";
		if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE && event->verdict != TP_CONFLICT)
			return "a row with a verdict that does not belong into a segment";
		at += event->bytes;
	}
	return at == segment->v1->part[SEGMENT_V1_ROWS].bytes ? NULL : "more bytes than its rows";
}

static const char *rollup_check(const struct segment *segment)
{
	const struct tp_rollup_row *row = (const struct tp_rollup_row *)(const void *)section_at(segment, SEGMENT_V1_ROLLUP);
	uint64_t heap_bytes = segment->v1->part[SEGMENT_V1_HEAP].bytes;
	uint32_t minute = 0;
	for (uint64_t i = 0; i < segment->v1->part[SEGMENT_V1_ROLLUP].count; i++, row++) {
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

static int part_check(struct segment *segment, enum segment_v1_part section)
{
	uint8_t bit = (uint8_t)(1u << section);
	if (segment->checked & bit)
		return 0;
	if (segment->damaged & bit)
		return -EBADMSG;
	const struct segment_v1_place *place = &segment->v1->part[section];
	const char *found = NULL;
	if (place->checksum != XXH3_64bits(section_at(segment, section), place->bytes))
		found = "its checksum";
	else if (section == SEGMENT_V1_ROWS)
		found = rows_check(segment);
	else if (section == SEGMENT_V1_ROLLUP)
		found = rollup_check(segment);
	if (found) {
		segment->damaged |= bit;
		return segment_damage(segment->sequence, part_name[section], found);
	}
	segment->checked |= bit;
	return 0;
}

/* ---- use ---- */

int segment_v1_events(struct segment *segment, sto_event_fn fn, void *context)
{
	int rc = part_check(segment, SEGMENT_V1_ROWS);
	const uint8_t *at = section_at(segment, SEGMENT_V1_ROWS);
	for (uint64_t i = 0; i < segment->v1->totals.rows && !rc; i++) {
		const struct tp_event *event = (const struct tp_event *)(const void *)at;
		at += event->bytes;
		rc = fn(context, event);
	}
	return rc;
}

int segment_v1_ids(struct segment *segment, sto_id_fn fn, void *context)
{
	int rc = part_check(segment, SEGMENT_V1_INDEX);
	const struct segment_v1_index_entry *entry =
		(const struct segment_v1_index_entry *)(const void *)section_at(segment, SEGMENT_V1_INDEX);
	for (uint64_t i = 0; i < segment->v1->totals.counted && !rc; i++, entry++)
		rc = fn(context, entry->id, entry->fingerprint, entry->minute);
	return rc;
}

static bool entry_before(const struct segment_v1_index_entry *entry, struct tp_id id, uint32_t minute)
{
	if (entry->id.hi != id.hi)
		return entry->id.hi < id.hi;
	if (entry->id.lo != id.lo)
		return entry->id.lo < id.lo;
	return entry->minute < minute;
}

int segment_v1_lookup(struct segment *segment, struct tp_id id, uint32_t minute, uint64_t fingerprint)
{
	if (!segment->v1->totals.counted || id.hi < segment->v1->id_first || id.hi > segment->v1->id_last)
		return STO_ABSENT;
	int rc = part_check(segment, SEGMENT_V1_INDEX);
	if (rc)
		return rc;
	const struct segment_v1_index_entry *entry =
		(const struct segment_v1_index_entry *)(const void *)section_at(segment, SEGMENT_V1_INDEX);
	uint64_t low = 0, high = segment->v1->totals.counted;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (entry_before(&entry[middle], id, minute))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == segment->v1->totals.counted || entry[low].id.hi != id.hi || entry[low].id.lo != id.lo ||
	    entry[low].minute != minute)
		return STO_ABSENT;
	return entry[low].fingerprint == fingerprint ? STO_SAME : STO_OTHER;
}

int segment_v1_rollup(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap)
{
	int rc = part_check(segment, SEGMENT_V1_HEAP);
	if (!rc)
		rc = part_check(segment, SEGMENT_V1_ROLLUP);
	if (rc)
		return rc;
	*rows = (const struct tp_rollup_row *)(const void *)section_at(segment, SEGMENT_V1_ROLLUP);
	*count = (uint32_t)segment->v1->part[SEGMENT_V1_ROLLUP].count;
	*heap = (const char *)section_at(segment, SEGMENT_V1_HEAP);
	return 0;
}

static int totals_take(void *context, const struct tp_event *event)
{
	segment_totals_add(context, event);
	return 0;
}

int segment_v1_verify(struct segment *segment)
{
	for (enum segment_v1_part s = 0; s < SEGMENT_V1_PARTS; s++) {
		int rc = part_check(segment, s);
		if (rc)
			return rc;
	}
	const struct segment_totals *told = &segment->v1->totals;
	struct segment_totals found;
	segment_totals_init(&found);
	int rc = segment_v1_events(segment, totals_take, &found);
	if (rc)
		return rc;
	found.watermark_ms = told->watermark_ms;
	if (memcmp(&found, told, sizeof(found)))
		return segment_damage(segment->sequence, "footer", "totals other than those of its rows");
	const struct segment_v1_index_entry *entry =
		(const struct segment_v1_index_entry *)(const void *)section_at(segment, SEGMENT_V1_INDEX);
	for (uint64_t i = 0; i < told->counted; i++) {
		const struct tp_event *event = row_at(segment, entry[i].row_at);
		if (!event || event->verdict == TP_CONFLICT || memcmp(&event->id, &entry[i].id, sizeof(event->id)) ||
		    event->fingerprint != entry[i].fingerprint || event->timestamp_ms / TP_MINUTE_MS != entry[i].minute ||
		    (i && !entry_before(&entry[i - 1], entry[i].id, entry[i].minute)))
			return segment_damage(segment->sequence, "id index", "an entry that is not its row's");
	}
	struct tp_sums sum = {0};
	const struct tp_rollup_row *row = (const struct tp_rollup_row *)(const void *)section_at(segment, SEGMENT_V1_ROLLUP);
	for (uint64_t i = 0; i < segment->v1->part[SEGMENT_V1_ROLLUP].count; i++, row++) {
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
