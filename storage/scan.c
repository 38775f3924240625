/*
 * Scans: turnpike/scan.h over segment_rows.h.
 *
 * Threads: each scan belongs to the thread that uses it; opening reads the reader and changes nothing in it.
 */
#include "turnpike/scan.h"

#include "id_filter.h"
#include "reader_state.h"
#include "segment_column.h"
#include "segment_rows.h"
#include "segment_state.h"

#include <fcntl.h>
#include <stdio.h>

static_assert((int)STO_COLUMN_BID == (int)SEGMENT_BID && (int)STO_COLUMN_TEXT == (int)SEGMENT_TEXT &&
		      (int)STO_COLUMN_COUNTRY == (int)SEGMENT_COUNTRY,
	      "the public numbers are the format's");

enum { CODES = 3 };
static const enum tp_string code_string[CODES] = {TP_ADVERTISER_ID, TP_CAMPAIGN_ID, TP_AD_ID};

struct sto_scan {
	struct segment segment;
	struct segment_rows rows;
	struct sto_scan_filter filter;
	bool wants_code[CODES];
	uint64_t code[CODES];
	bool nothing; /* the segment cannot hold a wanted row */
	uint32_t next, block;
	bool loaded, prepared; /* for whole records */
	bool all;              /* every row of the block is wanted */
	uint32_t selected;
	uint32_t *selection;
	uint64_t *run_value[2];
};

/* ---- opening ---- */

/* The code of a text in a dictionary that is sorted by bytes. False: it is not there. */
static bool code_find(const struct text_dictionary *dictionary, struct tp_str wanted, uint64_t *code)
{
	uint32_t low = 0, high = dictionary->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct tp_str text = text_of(dictionary, middle);
		int c = memcmp(text.at, wanted.at, text.bytes < wanted.bytes ? text.bytes : wanted.bytes);
		c = c ? c : (int)text.bytes - (int)wanted.bytes;
		if (!c) {
			*code = middle;
			return true;
		}
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* UUIDs come behind the other texts, so that such an id may lie out of the order: look at all. */
	for (uint32_t i = 0; i < dictionary->count; i++) {
		struct tp_str text = text_of(dictionary, i);
		if (text.bytes == wanted.bytes && !memcmp(text.at, wanted.at, text.bytes)) {
			*code = i;
			return true;
		}
	}
	return false;
}

static int filter_take(struct sto_scan *scan, const struct sto_scan_filter *filter)
{
	const struct segment_totals *totals = scan->segment.totals;
	if (filter)
		scan->filter = *filter;
	if (!scan->filter.to_ms)
		scan->filter.to_ms = UINT64_MAX;
	const struct tp_str wanted[CODES] = {scan->filter.advertiser, scan->filter.campaign, scan->filter.ad};
	for (int i = 0; i < CODES && totals->rows; i++) {
		scan->wants_code[i] = wanted[i].at;
		if (!wanted[i].at)
			continue;
		const struct text_dictionary *dictionary = segment_rows_dictionary(&scan->rows, code_string[i]);
		if (!dictionary)
			return -EBADMSG;
		scan->nothing |= !code_find(dictionary, wanted[i], &scan->code[i]);
	}
	scan->filter.advertiser.at = scan->filter.campaign.at = scan->filter.ad.at = NULL;
	return 0;
}

/* A new scan, or the one that is there without its segment. NULL: no memory. */
static struct sto_scan *scan_make(struct sto_scan **scan)
{
	struct sto_scan *made = *scan;
	*scan = NULL;
	if (!made)
		return calloc(1, sizeof(*made));
	segment_close(&made->segment);
	struct sto_scan kept = {.rows = made->rows};
	free(made->selection);
	free(made->run_value[0]);
	free(made->run_value[1]);
	*made = kept;
	return made;
}

static int scan_begin(struct sto_scan **scan, struct sto_scan *made, int rc, const struct sto_scan_filter *filter)
{
	if (!rc && made->segment.version == 1)
		rc = -ENOTSUP;
	if (!rc)
		rc = segment_rows_open(&made->rows, &made->segment);
	if (!rc)
		rc = filter_take(made, filter);
	if (!rc && !(made->selection = malloc(((uint64_t)made->rows.block_rows + 1) * sizeof(*made->selection))))
		rc = -ENOMEM;
	if (rc)
		sto_scan_close(made);
	else
		*scan = made;
	return rc;
}

int sto_scan_open(struct sto_scan **scan, const struct sto_reader *reader, uint32_t index, const struct sto_scan_filter *filter)
{
	const struct manifest_segment *facts = &reader->segment[index].facts;
	char path[STORE_PATH_BYTES];
	struct sto_scan *made = scan_make(scan);
	if (!made)
		return -ENOMEM;
	int rc = folder_segment_path(path, reader->data_dir, facts->sequence, facts->generation);
	if (!rc)
		rc = segment_open(&made->segment, reader->io, path, facts);
	return scan_begin(scan, made, rc == -ENOENT ? -ESTALE : rc, filter);
}

int sto_scan_open_file(struct sto_scan **scan, const char *path, const struct sto_scan_filter *filter)
{
	const struct sto_io *io = sto_io_system();
	struct segment_header header;
	struct sto_scan *made = scan_make(scan);
	if (!made)
		return -ENOMEM;
	const uint8_t *base;
	uint64_t bytes = 0;
	int fd = io->open(io, path, O_RDONLY, 0);
	int rc = fd < 0 ? fd : io->size(io, fd, &bytes);
	if (!rc &&
	    (bytes < SEGMENT_HEADER_V1_BYTES || io->read(io, fd, &header, SEGMENT_HEADER_V1_BYTES, 0) < SEGMENT_HEADER_V1_BYTES))
		rc = -EBADMSG;
	if (!rc)
		rc = io->map(io, fd, bytes, &base);
	if (fd >= 0)
		io->close(io, fd);
	if (!rc) {
		rc = segment_take(&made->segment, base, bytes, header.sequence);
		made->segment.io = io;
	}
	return scan_begin(scan, made, rc, filter);
}

void sto_scan_close(struct sto_scan *scan)
{
	if (!scan)
		return;
	segment_rows_close(&scan->rows);
	segment_close(&scan->segment);
	free(scan->selection);
	free(scan->run_value[0]);
	free(scan->run_value[1]);
	free(scan);
}

/* ---- blocks ---- */

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

/* Narrows the selection to rows with from <= value < to, or with their bit in `set`. */
static void select_range(struct sto_scan *scan, const uint64_t *value, uint64_t from, uint64_t to, uint32_t set)
{
	uint32_t kept = 0, count = scan->all ? segment_rows_count(&scan->rows, scan->block) : scan->selected;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t row = scan->all ? i : scan->selection[i];
		bool wanted = set ? value[row] < 32 && set >> value[row] & 1 : value[row] >= from && value[row] < to;
		scan->selection[kept] = row;
		kept += wanted;
	}
	scan->selected = kept;
	scan->all = false;
}

/* 1: rows are wanted; 0: none; -EBADMSG. */
static int narrow(struct sto_scan *scan, uint32_t column, enum zone zone, uint64_t from, uint64_t to, uint32_t set)
{
	if (zone != ZONE_LOOK)
		return zone == ZONE_ALL;
	const uint64_t *value = segment_rows_values(&scan->rows, column, scan->block);
	if (!value)
		return -EBADMSG;
	select_range(scan, value, from, to, set);
	return scan->selected > 0;
}

static bool zone_tagged(const struct segment_rows *rows, uint32_t block)
{
	const struct segment_block *fraud = segment_rows_zone(rows, SEGMENT_FRAUD, block),
				   *verdict = segment_rows_zone(rows, SEGMENT_VERDICT, block);
	return (fraud && fraud->max) || (verdict && verdict->max >= TP_AMENDED);
}

/* As narrow(). */
static int narrow_tagged(struct sto_scan *scan)
{
	const uint64_t *fraud = segment_rows_values(&scan->rows, SEGMENT_FRAUD, scan->block);
	const uint64_t *verdict = fraud ? segment_rows_values(&scan->rows, SEGMENT_VERDICT, scan->block) : NULL;
	if (!verdict)
		return -EBADMSG;
	uint32_t kept = 0, count = scan->all ? segment_rows_count(&scan->rows, scan->block) : scan->selected;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t row = scan->all ? i : scan->selection[i];
		scan->selection[kept] = row;
		kept += fraud[row] != 0 || verdict[row] == TP_AMENDED;
	}
	scan->selected = kept;
	scan->all = false;
	return kept > 0;
}

static int block_select(struct sto_scan *scan)
{
	struct segment_rows *rows = &scan->rows;
	const struct sto_scan_filter *filter = &scan->filter;
	enum zone zone[3 + CODES];
	scan->all = true;
	if (filter->tagged && !zone_tagged(rows, scan->block))
		return 0;
	/* zones first: they cost nothing */
	zone[0] = zone_range(segment_rows_zone(rows, SEGMENT_TIME, scan->block), filter->from_ms, filter->to_ms);
	zone[1] = zone_set(segment_rows_zone(rows, SEGMENT_TYPE, scan->block), filter->types);
	zone[2] = zone_set(segment_rows_zone(rows, SEGMENT_VERDICT, scan->block), filter->verdicts);
	for (int i = 0; i < CODES; i++)
		zone[3 + i] = scan->wants_code[i]
				      ? zone_range(segment_rows_zone(rows, SEGMENT_TEXT + (uint32_t)code_string[i], scan->block),
						   scan->code[i], scan->code[i] + 1)
				      : ZONE_ALL;
	for (int i = 0; i < 3 + CODES; i++)
		if (zone[i] == ZONE_NONE)
			return 0;
	int rc = 1;
	for (int i = 0; i < CODES && rc == 1; i++)
		rc = narrow(scan, SEGMENT_TEXT + (uint32_t)code_string[i], zone[3 + i], scan->code[i], scan->code[i] + 1, 0);
	if (rc == 1)
		rc = narrow(scan, SEGMENT_TIME, zone[0], filter->from_ms, filter->to_ms, 0);
	if (rc == 1)
		rc = narrow(scan, SEGMENT_TYPE, zone[1], 0, 0, filter->types);
	if (rc == 1)
		rc = narrow(scan, SEGMENT_VERDICT, zone[2], 0, 0, filter->verdicts);
	if (rc == 1 && filter->tagged)
		rc = narrow_tagged(scan);
	return rc;
}

int sto_scan_next(struct sto_scan *scan)
{
	int rc = 0;
	while (!rc && !scan->nothing && scan->next < scan->rows.blocks) {
		scan->block = scan->next++;
		scan->loaded = false;
		rc = block_select(scan);
	}
	return rc;
}

uint32_t sto_scan_rows(const struct sto_scan *scan)
{
	return segment_rows_count(&scan->rows, scan->block);
}

const uint32_t *sto_scan_selected(const struct sto_scan *scan, uint32_t *count)
{
	*count = scan->all ? sto_scan_rows(scan) : scan->selected;
	return scan->all ? NULL : scan->selection;
}

const uint64_t *sto_scan_values(struct sto_scan *scan, uint32_t column)
{
	return segment_rows_values(&scan->rows, column, scan->block);
}

uint32_t sto_scan_runs(struct sto_scan *scan, uint32_t column, const uint64_t **value, const uint64_t **length)
{
	if (!scan->rows.column[column])
		return 0;
	for (int i = 0; i < 2; i++)
		if (!scan->run_value[i] && !(scan->run_value[i] = malloc(scan->rows.block_rows * sizeof(uint64_t))))
			return 0;
	const uint8_t *end, *at = segment_rows_stream(&scan->rows, column, scan->block, &end);
	*value = scan->run_value[0];
	*length = scan->run_value[1];
	return at ? column_decode_runs(at, end, scan->run_value[0], scan->run_value[1], sto_scan_rows(scan)) : 0;
}

bool sto_scan_constant(const struct sto_scan *scan, uint32_t column, uint64_t *value)
{
	const struct segment_block *zone = segment_rows_zone(&scan->rows, column, scan->block);
	*value = zone ? zone->min : 0;
	return !zone || zone->min == zone->max;
}

uint32_t sto_scan_texts(struct sto_scan *scan, enum tp_string string)
{
	const struct text_dictionary *dictionary = segment_rows_dictionary(&scan->rows, string);
	return dictionary ? dictionary->count : 0;
}

struct tp_str sto_scan_text(struct sto_scan *scan, enum tp_string string, uint32_t code)
{
	const struct text_dictionary *dictionary = &scan->rows.dictionary[string];
	return code < dictionary->count ? text_of(dictionary, code) : (struct tp_str){.at = "", .bytes = 0};
}

/* What records need besides columns, their ids among it. */
static int prepare(struct sto_scan *scan)
{
	int rc = scan->prepared ? 0 : segment_rows_prepare(&scan->rows, &scan->segment);
	scan->prepared = !rc;
	return rc;
}

const struct tp_id *sto_scan_ids(struct sto_scan *scan)
{
	return prepare(scan) ? NULL : scan->rows.id + (uint64_t)scan->block * scan->rows.block_rows;
}

int sto_scan_event(struct sto_scan *scan, uint32_t row, struct tp_event *to)
{
	int rc = prepare(scan);
	if (!rc && !scan->loaded) {
		rc = segment_rows_load(&scan->rows, scan->block);
		scan->loaded = !rc;
	}
	return rc ? rc : segment_rows_event(&scan->rows, scan->block, row, to);
}

uint64_t sto_scan_first_row(const struct sto_scan *scan)
{
	return (uint64_t)scan->block * SEGMENT_BLOCK_ROWS;
}

/* ---- single rows ---- */

/* Version 2. 1: maybe; 0: surely not; -EBADMSG. The filter holds (id, minute) of counted rows, so each minute has to be asked for. */
static int filter_ask(struct sto_scan *scan, struct tp_id id)
{
	enum { MINUTES_MAX = 64 }; /* beyond, so many wrong yeses that the ids are walked through all the same */
	const struct segment_totals *totals = scan->segment.totals;
	const void *filter;
	uint64_t bytes;
	if (totals->counted < totals->rows || totals->minute_max - totals->minute_min >= MINUTES_MAX)
		return 1;
	int rc = segment_section_read(&scan->segment, SEGMENT_FILTER, &filter, &bytes);
	if (!rc && !id_filter_sane(filter, bytes))
		rc = -ENOENT;
	if (rc)
		return rc == -ENOENT ? segment_damage(scan->segment.sequence, "id filter", "none that can be") : rc;
	for (uint32_t minute = totals->minute_min; minute <= totals->minute_max; minute++)
		if (id_filter_maybe(filter, id_filter_key(id.hi, id.lo, minute)))
			return 1;
	return 0;
}

static int64_t old_ids_find(struct sto_scan *scan, struct tp_id id, uint64_t *row, uint32_t room)
{
	const uint64_t rows = scan->segment.totals->rows;
	int64_t found = 0;
	int rc = rows ? filter_ask(scan, id) : 0;
	if (rc == 1)
		rc = prepare(scan);
	else if (!rc)
		return 0;
	for (uint64_t i = 0; i < rows && !rc; i++) {
		if (scan->rows.id[i].lo != id.lo || scan->rows.id[i].hi != id.hi)
			continue;
		if (found < room)
			row[found] = i;
		found++;
	}
	return rc ? rc : found;
}

int64_t sto_scan_find(struct sto_scan *scan, struct tp_id id, uint64_t *row, uint32_t room)
{
	const uint64_t rows = scan->segment.totals->rows;
	const struct id_index *index;
	uint32_t first;
	if (!rows)
		return 0;
	if (scan->segment.version == SEGMENT_VERSION_OLD_IDS)
		return old_ids_find(scan, id, row, room);
	int rc = segment_id_index(&scan->segment, &index);
	if (rc)
		return rc;
	uint32_t found = id_index_find(index, id, &first);
	for (uint32_t i = 0; i < found && i < room; i++)
		row[i] = id_index_row(index, first + i);
	return found;
}

int sto_scan_record(struct sto_scan *scan, uint64_t row, struct tp_event *to)
{
	uint32_t block = (uint32_t)(row / SEGMENT_BLOCK_ROWS);
	if (row >= scan->segment.totals->rows || block >= scan->rows.blocks)
		return -EINVAL;
	if (block != scan->block) {
		scan->block = block;
		scan->loaded = false;
	}
	return sto_scan_event(scan, (uint32_t)(row % SEGMENT_BLOCK_ROWS), to);
}

/* ---- what a segment is made of ---- */

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
