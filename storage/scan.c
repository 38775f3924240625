/*
 * Scans: turnpike/scan.h over segment_rows.h.
 *
 * Threads: each scan belongs to the thread that uses it; opening reads the reader and changes nothing in it.
 */
#include "id_filter.h"
#include "reader_state.h"
#include "scan_state.h"
#include "segment_state.h"

#include <fcntl.h>

static_assert((int)STO_COLUMN_BID == (int)SEGMENT_BID && (int)STO_COLUMN_TEXT == (int)SEGMENT_TEXT &&
		      (int)STO_COLUMN_COUNTRY == (int)SEGMENT_COUNTRY,
	      "the public numbers are the format's");

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
	const struct tp_str wanted[SCAN_CODES] = {scan->filter.advertiser, scan->filter.campaign, scan->filter.ad};
	for (int i = 0; i < SCAN_CODES && totals->rows; i++) {
		scan->wants_code[i] = wanted[i].at;
		if (!wanted[i].at)
			continue;
		const struct text_dictionary *dictionary = segment_rows_dictionary(&scan->rows, scan_code_string[i]);
		if (!dictionary)
			return -EBADMSG;
		scan->nothing |= !code_find(dictionary, wanted[i], &scan->code[i]);
	}
	scan->filter.advertiser.at = scan->filter.campaign.at = scan->filter.ad.at = NULL;
	return 0;
}

static void memory_free(struct sto_scan *scan)
{
	free(scan->selection);
	scan->selection = NULL;
	for (int i = 0; i < 2; i++) {
		free(scan->run_value[i]);
		scan->run_value[i] = NULL;
	}
	for (int c = 0; c < SEGMENT_COLUMNS; c++) {
		free(scan->picked[c]);
		scan->picked[c] = NULL;
	}
	scan->room = 0;
}

/* For the blocks of this segment. */
static int memory_reserve(struct sto_scan *scan)
{
	if (scan->room < scan->rows.block_rows)
		memory_free(scan);
	if (!scan->selection && !(scan->selection = malloc(((uint64_t)scan->rows.room + 1) * sizeof(*scan->selection))))
		return -ENOMEM;
	scan->room = scan->rows.room;
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
	struct sto_scan kept = {.rows = made->rows,
				.room = made->room,
				.selection = made->selection,
				.used = made->fetched ? made->rows.used : 0,
				.used_texts = made->fetched ? made->rows.used_texts : 0};
	memcpy(kept.run_value, made->run_value, sizeof(kept.run_value));
	memcpy(kept.picked, made->picked, sizeof(kept.picked));
	*made = kept;
	return made;
}

static int scan_begin(struct sto_scan **scan, struct sto_scan *made, int rc, const struct sto_scan_filter *filter)
{
	if (!rc && made->segment.version == 1)
		rc = -ENOTSUP;
	if (!rc)
		rc = segment_rows_open(&made->rows, &made->segment);
	if (!rc) {
		scan_fetch_texts(made);
		rc = filter_take(made, filter);
	}
	if (!rc)
		rc = memory_reserve(made);
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
		segment_fetch_ends(io, base, bytes);
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
	memory_free(scan);
	free(scan);
}

/* ---- blocks ---- */

int sto_scan_next(struct sto_scan *scan)
{
	int rc = 0;
	if (!scan->fetched)
		scan_fetch(scan);
	while (!rc && !scan->nothing && scan->next < scan->rows.blocks) {
		scan->block = scan->next++;
		scan->loaded = false;
		rc = scan_select(scan);
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

const uint64_t *sto_scan_picked(struct sto_scan *scan, uint32_t column)
{
	uint64_t **to = &scan->picked[column];
	if (scan->all || !scan->rows.column[column])
		return sto_scan_values(scan, column);
	if (scan->picked_of[column] == scan->block + 1)
		return *to;
	if (!*to && !(*to = malloc(scan->room * sizeof(**to))))
		return NULL;
	scan->picked_of[column] = 0;
	if (segment_rows_gather(&scan->rows, column, scan->block, scan->selection, scan->selected, *to))
		return NULL;
	scan->picked_of[column] = scan->block + 1;
	return *to;
}

uint32_t sto_scan_runs(struct sto_scan *scan, uint32_t column, const uint64_t **value, const uint64_t **length)
{
	if (!scan->rows.column[column])
		return 0;
	for (int i = 0; i < 2; i++)
		if (!scan->run_value[i] && !(scan->run_value[i] = malloc(scan->room * sizeof(uint64_t))))
			return 0;
	const uint8_t *end, *at = segment_rows_stream(&scan->rows, column, scan->block, &end);
	*value = scan->run_value[0];
	*length = scan->run_value[1];
	uint32_t runs = at ? column_decode_runs(at, end, scan->run_value[0], scan->run_value[1], sto_scan_rows(scan)) : 0;
	const struct segment_block *zone = segment_rows_zone(&scan->rows, column, scan->block);
	return column_within(scan->run_value[0], runs, zone->min, zone->max) ? runs : 0;
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
