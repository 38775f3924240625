/*
 * What a segment is made of, for who scans it: its header's facts, bytes by part, totals by campaign.
 *
 * Threads: the scan's.
 */
#include "scan_state.h"
#include "segment_column.h"

#include <stdio.h>

void sto_scan_facts(const struct sto_scan *scan, struct sto_scan_facts *facts)
{
	const struct segment_header *header = scan->segment.header;
	const struct segment_totals *totals = scan->segment.totals;
	*facts = (struct sto_scan_facts){.version = header->version,
					 .shard = header->shard,
					 .sequence = header->sequence,
					 .file_id = header->file_id,
					 .sealed_ms = header->sealed_ms,
					 .bytes = scan->segment.bytes,
					 .rows = totals->rows,
					 .counted = totals->counted,
					 .late = totals->late,
					 .conflicts = totals->conflicts,
					 .raw_records = scan->segment.footer->raw_records,
					 .from_ms = totals->from_ms,
					 .to_ms = totals->to_ms,
					 .watermark_ms = totals->watermark_ms,
					 .impressions = totals->impressions,
					 .clicks = totals->clicks,
					 .flagged_clicks = totals->flagged_clicks,
					 .conversions = totals->conversions,
					 .spend_micros = totals->spend_micros};
	memcpy(facts->prev_sha256, header->prev_sha256, sizeof(facts->prev_sha256));
}

static const char *section_name(uint32_t kind)
{
	switch (kind) {
	case SEGMENT_IDS:
		return "(ids)";
	case SEGMENT_FILTER:
		return "(id filter)";
	case SEGMENT_ID_INDEX:
		return "(ids)";
	case SEGMENT_ROLLUP:
		return "(rollup)";
	case SEGMENT_ROLLUP_HEAP:
		return "(rollup heap)";
	case SEGMENT_RAW:
		return "(raw records)";
	case SEGMENT_HASHES:
		return "(hashes)";
	case SEGMENT_CAMPAIGNS:
		return "(campaigns)";
	case STO_SECTION_SESSIONS:
		return "(sessions)";
	case STO_SECTION_DISTINCT:
		return "(distinct users)";
	case STO_SECTION_SOURCES:
		return "(sources)";
	default:
		return "(other)";
	}
}

/* "runs 2, planes zstd 1": how the blocks of a column are written. */
static int encodings_text(struct sto_scan *scan, const struct segment_column *column, char *to, size_t room)
{
	uint32_t count[2][COLUMN_ENCODINGS] = {{0}};
	size_t length = 0;
	for (uint32_t b = 0; b < column->blocks; b++) {
		const struct segment_block *block = &scan->segment.block[column->block + b];
		if (!block->count)
			continue;
		const uint8_t *end, *at = segment_rows_stream(&scan->rows, column->column, b, &end);
		if (!at || at == end || *at >= COLUMN_ENCODINGS)
			return -EBADMSG;
		count[block->raw_bytes > 0][*at]++;
	}
	to[0] = 0;
	for (int e = 0; e < 2 * COLUMN_ENCODINGS; e++)
		if (count[e % 2][e / 2] && length < room)
			length += (size_t)snprintf(to + length, room - length, "%s%s%s %u", length ? ", " : "",
						   column_encoding_name((enum column_encoding)(e / 2)), e % 2 ? " zstd" : "",
						   count[e % 2][e / 2]);
	return 0;
}

static uint64_t raw_of(uint64_t bytes, uint64_t raw_bytes)
{
	return raw_bytes ? raw_bytes : bytes;
}

int sto_scan_parts(struct sto_scan *scan, void (*fn)(void *context, const struct sto_scan_part *part), void *context)
{
	const struct segment *segment = &scan->segment;
	uint64_t rest = segment->bytes;
	for (uint32_t i = 0; i < segment->footer->columns; i++) {
		const struct segment_column *column = &segment->column[i];
		char encodings[256];
		struct sto_scan_part part = {
			.name = segment_column_rule[column->column].name, .encodings = encodings, .texts = column->texts};
		if (column->texts) {
			part.dictionary_bytes = column->dictionary.bytes;
			part.raw_bytes = raw_of(column->dictionary.bytes, column->dictionary.raw_bytes);
		}
		part.bytes = part.dictionary_bytes;
		if (column->parent != SEGMENT_NO_PARENT) {
			part.bytes += column->table.bytes;
			part.raw_bytes += raw_of(column->table.bytes, column->table.raw_bytes);
		}
		for (uint32_t b = 0; b < column->blocks; b++) {
			const struct segment_block *block = &segment->block[column->block + b];
			part.bytes += block->bytes;
			part.raw_bytes += raw_of(block->bytes, block->raw_bytes);
		}
		if (encodings_text(scan, column, encodings, sizeof(encodings)))
			return -EBADMSG;
		rest -= part.bytes < rest ? part.bytes : rest;
		fn(context, &part);
	}
	for (uint32_t i = 0; i < segment->footer->sections; i++) {
		const struct segment_place *place = &segment->section[i].place;
		const struct sto_scan_part part = {.name = section_name(segment->section[i].kind),
						   .encodings = "",
						   .bytes = place->bytes,
						   .raw_bytes = raw_of(place->bytes, place->raw_bytes)};
		rest -= part.bytes < rest ? part.bytes : rest;
		fn(context, &part);
	}
	fn(context, &(struct sto_scan_part){.name = "(header, footers, gaps)", .encodings = "", .bytes = rest, .raw_bytes = rest});
	return 0;
}

int sto_scan_campaigns(struct sto_scan *scan, void (*fn)(void *context, const struct sto_scan_campaign *campaign), void *context)
{
	enum { STREAMS = 9 };
	const void *bytes;
	uint64_t length, count = 0;
	int rc = segment_section_read(&scan->segment, SEGMENT_CAMPAIGNS, &bytes, &length);
	for (uint32_t i = 0; i < scan->segment.footer->sections; i++)
		if (scan->segment.section[i].kind == SEGMENT_CAMPAIGNS)
			count = scan->segment.section[i].count;
	if (rc || !count)
		return rc;
	const struct text_dictionary *names = segment_rows_dictionary(&scan->rows, TP_CAMPAIGN_ID);
	if (!names || count > scan->segment.totals->rows)
		return -EBADMSG;
	uint64_t *value = malloc(STREAMS * count * sizeof(*value));
	if (!value)
		return -ENOMEM;
	const uint8_t *at = bytes, *end = at + length;
	for (uint64_t s = 0; s < STREAMS && at; s++)
		at = column_decode_long(at, end, value + s * count, count);
	rc = at == end ? 0 : segment_damage(scan->segment.sequence, "campaigns", "streams that do not decode");
	for (uint64_t i = 0; i < count && !rc; i++) {
		struct sto_scan_campaign one = {.sums = {.impressions = value[2 * count + i],
							 .clicks = value[3 * count + i],
							 .flagged_clicks = value[4 * count + i],
							 .conversions = value[5 * count + i],
							 .late = value[6 * count + i]}};
		one.sums.spend_micros = (__int128)((unsigned __int128)value[8 * count + i] << 64 | value[7 * count + i]);
		if (value[i] >= names->count) {
			rc = segment_damage(scan->segment.sequence, "campaigns", "a code beyond the dictionary");
			break;
		}
		one.campaign = text_of(names, (uint32_t)value[i]);
		memcpy(one.currency, &value[count + i], 3);
		fn(context, &one);
	}
	free(value);
	return rc;
}
