/*
 * Reading rollup files by mapping. Everything in the file is foreign until its checksum has been checked, once, before its first use;
 * and what a good checksum covers may still be nonsense, so every place, length and code is checked when it is used.
 *
 * A question for one string goes: dictionary (binary search) → the blocks that have it → the keys of these blocks that match → their
 * rows. Values are unpacked one at a time, where they lie.
 *
 * A page of a mapped file that the disk cannot read ends the process by SIGBUS: for the data process that is the fail-stop it wants.
 *
 * Threads: a struct rollup_file belongs to one.
 */
#include "rollup_file.h"

#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int damage(const struct rollup_file *file, const char *where, const char *what)
{
	tp_logf(TP_ERROR, "rollup file is damaged, refusing it", "rollup=%016" PRIx64 " part=\"%s\" found=\"%s\"", file->sequence,
		where, what);
	return -EBADMSG;
}

/* ---- dictionaries ---- */

struct tp_str rollup_dictionary_string(const struct rollup_dictionary *dictionary, uint32_t code)
{
	uint32_t from = code ? dictionary->end[code - 1] : 0;
	return (struct tp_str){.at = dictionary->heap + from, .bytes = (uint16_t)(dictionary->end[code] - from)};
}

static int bytes_compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
	int c = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
	return c ? c : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

uint32_t rollup_dictionary_find(const struct rollup_dictionary *dictionary, const char *bytes, size_t count)
{
	uint32_t low = 0, high = dictionary->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct tp_str at = rollup_dictionary_string(dictionary, middle);
		int c = bytes_compare(at.at, at.bytes, bytes, count);
		if (c == 0)
			return middle;
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return UINT32_MAX;
}

/* ---- taking a file ---- */

static int dictionary_take(struct rollup_file *file, const struct rollup_section *section, uint32_t dimension)
{
	if (section->count > UINT32_MAX - 1 || section->count * sizeof(uint32_t) > section->bytes)
		return damage(file, "dictionary", "more strings than bytes");
	struct rollup_dictionary *dictionary = &file->dictionary[dimension];
	uint64_t heap_bytes = section->bytes - section->count * sizeof(uint32_t);
	dictionary->count = (uint32_t)section->count;
	/* In a mapping that nobody may write to; the struct also serves those who made theirs. */
	dictionary->end = (uint32_t *)(uintptr_t)(file->base + section->offset);
	dictionary->heap = (char *)(uintptr_t)(file->base + section->offset + section->count * sizeof(uint32_t));
	for (uint32_t i = 0; i < dictionary->count; i++) {
		uint32_t from = i ? dictionary->end[i - 1] : 0, end = dictionary->end[i];
		if (end < from || end > heap_bytes || end - from > TP_ID_BYTES_MAX)
			return damage(file, "dictionary", "strings that cannot be");
		if (i) {
			struct tp_str a = rollup_dictionary_string(dictionary, i - 1), b = rollup_dictionary_string(dictionary, i);
			if (bytes_compare(a.at, a.bytes, b.at, b.bytes) >= 0)
				return damage(file, "dictionary", "strings out of order");
		}
	}
	if ((dictionary->count ? dictionary->end[dictionary->count - 1] : 0) != heap_bytes)
		return damage(file, "dictionary", "more bytes than its strings");
	return 0;
}

static int places_take(struct rollup_file *file, const struct rollup_section *section, uint32_t dimension)
{
	if (section->count > UINT32_MAX || section->count * sizeof(uint32_t) > section->bytes)
		return damage(file, "places", "more strings than bytes");
	file->places[dimension].end = (const uint32_t *)(const void *)(file->base + section->offset);
	file->places[dimension].byte = file->base + section->offset + section->count * sizeof(uint32_t);
	file->places[dimension].bytes = section->bytes - section->count * sizeof(uint32_t);
	return 0;
}

static int blocks_take(struct rollup_file *file, const struct rollup_section *section, uint32_t set)
{
	uint64_t behind = sizeof(struct rollup_header), rows = 0;
	if (section->count * sizeof(struct rollup_block) != section->bytes ||
	    (set == ROLLUP_MAIN && section->count != file->footer->blocks) || file->set[set].block)
		return damage(file, "block table", "its length");
	file->set[set].block = (const struct rollup_block *)(const void *)(file->base + section->offset);
	file->set[set].blocks = section->count;
	for (uint64_t i = 0; i < section->count; i++) {
		const struct rollup_block *block = &file->set[set].block[i];
		if (block->offset < behind || block->offset % 8 || block->offset > file->bytes ||
		    block->bytes > file->bytes - block->offset || !block->rows || block->rows > ROLLUP_BLOCK_ROWS ||
		    block->bytes < sizeof(struct rollup_block_head) + ROLLUP_SLACK_BYTES || block->code_min > block->code_max ||
		    (i && block->code_min < block[-1].code_max))
			return damage(file, "block table", "blocks that cannot be");
		behind = block->offset + block->bytes;
		rows += block->rows;
	}
	if (set == ROLLUP_MAIN && rows != file->footer->rows)
		return damage(file, "block table", "another number of rows");
	file->set[set].checked = calloc(section->count + 1, 1);
	return file->set[set].checked ? 0 : -ENOMEM;
}

static int section_take(struct rollup_file *file, const struct rollup_section *section)
{
	if (section->offset % 8 || section->offset > file->bytes || section->bytes > file->bytes - section->offset ||
	    section->count > file->bytes)
		return damage(file, "section table", "sections that cannot be");
	bool dictionary = section->kind >= ROLLUP_DICTIONARY && section->kind < ROLLUP_DICTIONARY + TP_DIMENSIONS;
	bool places = section->kind >= ROLLUP_PLACES && section->kind < ROLLUP_PLACES + TP_DIMENSIONS;
	bool blocks = section->kind >= ROLLUP_BLOCKS && section->kind < ROLLUP_BLOCKS + ROLLUP_SETS;
	if (!dictionary && !places && !blocks)
		return 0; /* of a later program */
	if (section->checksum != XXH3_64bits(file->base + section->offset, section->bytes))
		return damage(file, dictionary ? "dictionary" : places ? "places" : "block table", "its checksum");
	return dictionary ? dictionary_take(file, section, section->kind - ROLLUP_DICTIONARY)
	       : places   ? places_take(file, section, section->kind - ROLLUP_PLACES)
			  : blocks_take(file, section, section->kind - ROLLUP_BLOCKS);
}

static int sections_take(struct rollup_file *file)
{
	const struct rollup_footer *footer = file->footer;
	uint64_t bytes = footer->sections * sizeof(struct rollup_section);
	if (footer->sections > ROLLUP_SECTIONS_MAX || footer->sections_at % 8 ||
	    footer->sections_at > file->bytes - sizeof(*footer) || bytes > file->bytes - sizeof(*footer) - footer->sections_at)
		return damage(file, "footer", "a section table that cannot be");
	const struct rollup_section *section = (const struct rollup_section *)(const void *)(file->base + footer->sections_at);
	if (footer->sections_checksum != XXH3_64bits(section, bytes))
		return damage(file, "section table", "its checksum");
	int rc = 0;
	for (uint32_t i = 0; i < footer->sections && !rc; i++)
		rc = section_take(file, &section[i]);
	for (int d = 0; d < TP_DIMENSIONS && !rc; d++)
		if (!file->dictionary[d].end)
			rc = damage(file, "section table", "a dictionary is missing");
	if (!rc && !file->set[ROLLUP_MAIN].block)
		rc = damage(file, "section table", "the block table is missing");
	for (int d = 0; d < TP_DIMENSIONS && !rc; d++)
		if (file->places[d].end &&
		    (file->places[d].byte - (const uint8_t *)file->places[d].end) / 4 != (ptrdiff_t)file->dictionary[d].count)
			rc = damage(file, "places", "another number of strings than the dictionary");
	return rc;
}

int rollup_file_take(struct rollup_file *file, const uint8_t *base, uint64_t bytes, uint64_t sequence)
{
	*file = (struct rollup_file){.base = base, .bytes = bytes, .sequence = sequence};
	if (bytes < sizeof(struct rollup_header) + sizeof(struct rollup_footer) || bytes % ROLLUP_FOOTER_ALIGN)
		return damage(file, "file", "its length");
	const struct rollup_header *header = (const struct rollup_header *)(const void *)base;
	const struct rollup_footer *footer =
		(const struct rollup_footer *)(const void *)(base + bytes - sizeof(struct rollup_footer));
	if (header->magic != ROLLUP_MAGIC || header->checksum != XXH3_64bits(header, offsetof(struct rollup_header, checksum)))
		return damage(file, "header", "its checksum");
	if (header->version != ROLLUP_VERSION)
		return damage(file, "header", "a version that this program does not know");
	if (header->sequence != sequence || header->class >= MANIFEST_CLASSES)
		return damage(file, "header", "another file's sequence, or an unknown class");
	if (footer->magic != ROLLUP_MAGIC_END || footer->bytes != sizeof(*footer) || footer->version != ROLLUP_VERSION ||
	    footer->checksum != XXH3_64bits(footer, offsetof(struct rollup_footer, checksum)))
		return damage(file, "footer", "its checksum");
	file->header = header;
	file->footer = footer;
	return sections_take(file);
}

int rollup_file_open(struct rollup_file *file, const struct sto_io *io, const char *path, const struct manifest_rollup *facts)
{
	*file = (struct rollup_file){.sequence = facts->sequence};
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	uint64_t bytes;
	const uint8_t *base = NULL;
	int rc = io->size(io, fd, &bytes);
	if (!rc && bytes != facts->bytes)
		rc = damage(file, "file", "a length other than the manifest's");
	if (!rc)
		rc = io->map(io, fd, bytes, &base);
	io->close(io, fd);
	if (rc)
		return rc;
	rc = rollup_file_take(file, base, bytes, facts->sequence);
	file->io = io;
	if (!rc && (file->header->class != facts->class || file->footer->rows != facts->rows ||
		    file->header->from_segment != facts->from_segment || file->header->to_segment != facts->to_segment))
		rc = damage(file, "header", "another class, coverage or row count than the manifest's");
	if (rc)
		rollup_file_close(file);
	return rc;
}

void rollup_file_close(struct rollup_file *file)
{
	for (int set = 0; set < ROLLUP_SETS; set++)
		free(file->set[set].checked);
	if (file->base && file->io)
		file->io->unmap(file->io, file->base, file->bytes);
	*file = (struct rollup_file){0};
}

/* ---- blocks ---- */

static inline uint64_t column_at(const struct rollup_open_column *column, uint32_t index)
{
	uint64_t bit = (uint64_t)column->width * index, word;
	memcpy(&word, column->packed + bit / 8, sizeof(word));
	return column->base + column->scale * (word >> bit % 8 & column->mask);
}

static int block_open(struct rollup_file *file, uint32_t set, uint64_t number, struct rollup_open_block *block)
{
	const struct rollup_block *entry = &file->set[set].block[number];
	const uint8_t *at = file->base + entry->offset, *end = at + entry->bytes - ROLLUP_SLACK_BYTES;
	if (!file->set[set].checked[number]) {
		if (entry->checksum != XXH3_64bits(at, entry->bytes))
			return damage(file, "block", "its checksum");
		file->set[set].checked[number] = 1;
	}
	struct rollup_block_head head;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	if (head.rows != entry->rows || !head.keys || head.keys > head.rows)
		return damage(file, "block", "rows or keys that cannot be");
	block->rows = head.rows;
	block->keys = head.keys;
	for (int c = 0; c < ROLLUP_COLUMNS; c++) {
		struct rollup_column_head column;
		if (end - at < (ptrdiff_t)sizeof(column))
			return damage(file, "block", "columns beyond its end");
		memcpy(&column, at, sizeof(column));
		at += sizeof(column);
		uint64_t count = c < ROLLUP_KEY_COLUMNS ? head.keys : head.rows;
		uint64_t bytes = (column.width * count + 63) / 64 * 8;
		if ((column.width > 56 && column.width != 64) || (uint64_t)(end - at) < bytes)
			return damage(file, "block", "columns beyond its end");
		block->column[c] =
			(struct rollup_open_column){.packed = at,
						    .base = column.base,
						    .scale = column.scale,
						    .mask = column.width == 64 ? UINT64_MAX : ((uint64_t)1 << column.width) - 1,
						    .width = column.width};
		at += bytes;
	}
	return at == end ? 0 : damage(file, "block", "more bytes than its columns");
}

static const enum rollup_column code_column[TP_DIMENSIONS] = {
	[TP_DIM_AD] = ROLLUP_AD,
	[TP_DIM_CAMPAIGN] = ROLLUP_CAMPAIGN,
	[TP_DIM_ADVERTISER] = ROLLUP_ADVERTISER,
	[TP_DIM_PUBLISHER] = ROLLUP_PUBLISHER,
	[TP_DIM_REGION] = ROLLUP_REGION,
};

/* The rows of a key: [*from, *to). */
static int key_rows(const struct rollup_file *file, const struct rollup_open_block *block, uint32_t key, uint32_t *from,
		    uint32_t *to)
{
	uint64_t first = column_at(&block->column[ROLLUP_FIRST_ROW], key);
	uint64_t next = key + 1 < block->keys ? column_at(&block->column[ROLLUP_FIRST_ROW], key + 1) : block->rows;
	if (first >= next || next > block->rows || (key == 0 && first))
		return damage(file, "block", "keys without rows");
	*from = (uint32_t)first;
	*to = (uint32_t)next;
	return 0;
}

static int key_read(const struct rollup_file *file, const struct rollup_open_block *block, uint32_t key, struct rollup_item *item)
{
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		uint64_t code = column_at(&block->column[code_column[d]], key);
		if (code >= file->dictionary[d].count)
			return damage(file, "block", "a string that is not in the dictionary");
		item->code[d] = (uint32_t)code;
	}
	uint64_t country = column_at(&block->column[ROLLUP_COUNTRY], key);
	uint64_t device = column_at(&block->column[ROLLUP_DEVICE], key);
	uint64_t currency = column_at(&block->column[ROLLUP_CURRENCY], key);
	if (country > UINT16_MAX || device >= TP_DEVICE_TYPES || currency >= 1 << 24)
		return damage(file, "block", "a country, device or currency that cannot be");
	item->country = (uint16_t)country;
	item->device = (uint8_t)device;
	item->currency = (uint32_t)currency;
	return 0;
}

static void sums_read(const struct rollup_open_block *block, uint32_t row, struct tp_sums *sums)
{
	sums->impressions = column_at(&block->column[ROLLUP_IMPRESSIONS], row);
	sums->clicks = column_at(&block->column[ROLLUP_CLICKS], row);
	sums->flagged_clicks = column_at(&block->column[ROLLUP_FLAGGED_CLICKS], row);
	sums->conversions = column_at(&block->column[ROLLUP_CONVERSIONS], row);
	sums->late = column_at(&block->column[ROLLUP_LATE], row);
	sums->reserved = column_at(&block->column[ROLLUP_RESERVED], row);
	unsigned __int128 high = column_at(&block->column[ROLLUP_SPEND_HIGH], row);
	sums->spend_micros = (__int128)(high << 64 | column_at(&block->column[ROLLUP_SPEND_LOW], row));
}

static int minute_read(const struct rollup_file *file, const struct rollup_open_block *block, uint32_t row, uint32_t *minute)
{
	uint32_t unit = manifest_class_minutes((enum manifest_class)file->header->class);
	uint64_t bucket = column_at(&block->column[ROLLUP_BUCKET], row);
	if (bucket > UINT32_MAX / unit)
		return damage(file, "block", "a bucket that cannot be");
	*minute = (uint32_t)bucket * unit;
	return 0;
}

/* ---- scanning ---- */

struct scan {
	struct rollup_file *file;
	uint32_t set;
	enum rollup_column column;
	uint32_t code; /* UINT32_MAX: all keys */
	uint64_t from_minute, to_minute;
	sto_sums_fn fn;
	void *context;
};

static void row_begin(const struct rollup_file *file, uint32_t set, const struct rollup_item *item, struct tp_rollup_row *row,
		      char *heap)
{
	memset(row, 0, sizeof(*row));
	for (uint32_t d = 0; d < TP_DIMENSIONS; d++) {
		if (set != ROLLUP_MAIN && d + 1 != set)
			continue;
		struct tp_str string = rollup_dictionary_string(&file->dictionary[d], item->code[d]);
		row->string_bytes[d] = (uint8_t)string.bytes;
		memcpy(heap, string.at, string.bytes);
		heap += string.bytes;
	}
	row->device = item->device;
	row->country[0] = (char)(item->country >> 8);
	row->country[1] = (char)item->country;
	row->currency[0] = (char)(item->currency >> 16);
	row->currency[1] = (char)(item->currency >> 8);
	row->currency[2] = (char)item->currency;
}

/* The first key at or behind `code`, where keys are sorted by that column first. */
static uint32_t key_first(const struct rollup_open_block *block, enum rollup_column column, uint32_t code)
{
	uint32_t low = 0, high = block->keys;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (column_at(&block->column[column], middle) < code)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int block_scan(const struct scan *scan, uint64_t number)
{
	struct rollup_file *file = scan->file;
	const struct rollup_block *entry = &file->set[scan->set].block[number];
	if (entry->minute_max < scan->from_minute || entry->minute_min >= scan->to_minute)
		return 0;
	struct rollup_open_block block;
	int rc = block_open(file, scan->set, number, &block);
	bool sorted = scan->code != UINT32_MAX && (scan->set != ROLLUP_MAIN || scan->column == ROLLUP_CAMPAIGN);
	for (uint32_t key = sorted && !rc ? key_first(&block, scan->column, scan->code) : 0; !rc && key < block.keys; key++) {
		if (scan->code != UINT32_MAX && column_at(&block.column[scan->column], key) != scan->code) {
			if (sorted)
				break;
			continue;
		}
		struct rollup_item item;
		struct tp_rollup_row row;
		char heap[TP_DIMENSIONS * TP_ID_BYTES_MAX];
		uint32_t from, to;
		rc = key_rows(file, &block, key, &from, &to);
		if (!rc)
			rc = key_read(file, &block, key, &item);
		if (rc)
			break;
		bool begun = false;
		for (uint32_t r = from; r < to && !rc; r++) {
			uint32_t minute;
			rc = minute_read(file, &block, r, &minute);
			if (rc || minute < scan->from_minute)
				continue;
			if (minute >= scan->to_minute)
				break;
			if (!begun)
				row_begin(file, scan->set, &item, &row, heap);
			begun = true;
			row.minute = minute;
			sums_read(&block, r, &row.sums);
			rc = scan->fn(scan->context, &row, heap) ? 0 : -ECANCELED;
		}
	}
	return rc;
}

/* The blocks that have the string. */
static int places_scan(const struct scan *scan, enum tp_dimension dimension)
{
	struct rollup_file *file = scan->file;
	uint32_t from = scan->code ? file->places[dimension].end[scan->code - 1] : 0, end = file->places[dimension].end[scan->code];
	if (from > end || end > file->places[dimension].bytes)
		return damage(file, "places", "lists that cannot be");
	uint64_t block = UINT64_MAX;
	for (uint32_t at = from; at < end;) {
		uint64_t step = 0;
		for (uint32_t shift = 0;; shift += 7) {
			if (at == end || shift > 28)
				return damage(file, "places", "lists that cannot be");
			uint8_t byte = file->places[dimension].byte[at++];
			step |= (uint64_t)(byte & 0x7f) << shift;
			if (!(byte & 0x80))
				break;
		}
		block += step + 1;
		if (block >= file->set[ROLLUP_MAIN].blocks)
			return damage(file, "places", "a block that is not there");
		int rc = block_scan(scan, block);
		if (rc)
			return rc;
	}
	return 0;
}

/* The blocks of a set by one dimension that may have the string: they lie together. */
static int set_scan(const struct scan *scan)
{
	const struct rollup_block *block = scan->file->set[scan->set].block;
	uint64_t low = 0, high = scan->file->set[scan->set].blocks, blocks = high;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (block[middle].code_max < scan->code)
			low = middle + 1;
		else
			high = middle;
	}
	int rc = 0;
	for (; low < blocks && block[low].code_min <= scan->code && !rc; low++)
		rc = block_scan(scan, low);
	return rc;
}

int rollup_file_scan(struct rollup_file *file, const struct rollup_filter *filter, uint64_t from_minute, uint64_t to_minute,
		     sto_sums_fn fn, void *context)
{
	struct scan scan = {.file = file, .code = UINT32_MAX, .from_minute = from_minute, .to_minute = to_minute, .fn = fn};
	scan.context = context;
	if (!file->footer->rows || file->footer->minute_max < from_minute || file->footer->minute_min >= to_minute)
		return 0;
	if (filter && filter->id) {
		scan.column = code_column[filter->dimension];
		scan.code = rollup_dictionary_find(&file->dictionary[filter->dimension], filter->id, filter->id_bytes);
		if (scan.code == UINT32_MAX)
			return 0;
		uint32_t set = filter->dimension + 1U;
		if (filter->alone && set < ROLLUP_SETS && file->set[set].block) {
			scan.set = set;
			return set_scan(&scan);
		}
		if (file->places[filter->dimension].end)
			return places_scan(&scan, filter->dimension);
	}
	int rc = 0;
	for (uint64_t i = 0; i < file->footer->blocks && !rc; i++)
		rc = block_scan(&scan, i);
	return rc;
}

/* ---- row by row ---- */

void rollup_cursor_init(struct rollup_cursor *cursor, struct rollup_file *file, uint32_t set)
{
	*cursor = (struct rollup_cursor){.file = file, .set = set};
}

int rollup_cursor_next(struct rollup_cursor *cursor, struct rollup_item *item)
{
	struct rollup_file *file = cursor->file;
	struct rollup_open_block *block = &cursor->open;
	if (cursor->block == file->set[cursor->set].blocks)
		return 0;
	int rc = cursor->row ? 0 : block_open(file, cursor->set, cursor->block, block);
	if (!rc && cursor->row == cursor->key_end) {
		uint32_t from;
		if (cursor->row)
			cursor->key++;
		rc = key_rows(file, block, cursor->key, &from, &cursor->key_end);
		if (!rc && from != cursor->row)
			rc = damage(file, "block", "rows without a key");
		if (!rc)
			rc = key_read(file, block, cursor->key, &cursor->of_key);
	}
	if (!rc) {
		*item = cursor->of_key;
		rc = minute_read(file, block, cursor->row, &item->minute);
	}
	if (rc)
		return rc;
	sums_read(block, cursor->row, &item->sums);
	if (++cursor->row == block->rows) {
		if (cursor->key + 1 != block->keys)
			return damage(file, "block", "keys without rows");
		cursor->block++;
		cursor->row = cursor->key = cursor->key_end = 0;
	}
	return 1;
}

/* ---- checking all ---- */

static int places_verify(struct rollup_file *file, enum tp_dimension dimension)
{
	/* A scan by each string finds all rows there are, and none twice. */
	if (!file->places[dimension].end)
		return 0;
	uint32_t *last = calloc((uint64_t)file->dictionary[dimension].count + 1, sizeof(*last));
	uint64_t pairs = 0, listed = 0;
	int rc = last ? 0 : -ENOMEM;
	for (uint64_t b = 0; b < file->footer->blocks && !rc; b++) {
		struct rollup_open_block block;
		rc = block_open(file, ROLLUP_MAIN, b, &block);
		for (uint32_t k = 0; !rc && k < block.keys; k++) {
			uint64_t code = column_at(&block.column[code_column[dimension]], k);
			if (last[code] == b + 1)
				continue;
			last[code] = (uint32_t)b + 1;
			pairs++;
		}
	}
	free(last);
	const uint32_t *end = file->places[dimension].end;
	uint64_t bytes = file->dictionary[dimension].count ? end[file->dictionary[dimension].count - 1] : 0;
	if (!rc && bytes != file->places[dimension].bytes)
		rc = damage(file, "places", "its length");
	for (uint64_t i = 0; i < bytes && !rc; i++)
		listed += !(file->places[dimension].byte[i] & 0x80);
	return rc ? rc : listed == pairs ? 0 : damage(file, "places", "other blocks than those of the strings");
}

/* Rows in order, of nothing that the set leaves out, within what the block table says, with the file's totals. */
static int set_verify(struct rollup_file *file, uint32_t set)
{
	struct rollup_cursor cursor;
	struct rollup_item item, last;
	struct tp_sums totals = {0};
	uint64_t rows = 0;
	uint32_t minute_min = UINT32_MAX, minute_max = 0;
	uint32_t first = set == ROLLUP_MAIN ? TP_DIM_CAMPAIGN : set - 1;
	rollup_cursor_init(&cursor, file, set);
	for (;;) {
		const struct rollup_block *block = &file->set[set].block[cursor.block];
		int rc = rollup_cursor_next(&cursor, &item);
		if (rc < 0)
			return rc;
		if (rc == 0)
			break;
		struct rollup_item projected = item;
		rollup_item_project(&projected, set);
		if (rollup_key_compare(&projected, &item) || (rows++ && rollup_item_compare(&last, &item) >= 0))
			return damage(file, "block", "rows out of order");
		if (item.minute < block->minute_min || item.minute > block->minute_max || item.code[first] < block->code_min ||
		    item.code[first] > block->code_max)
			return damage(file, "block table", "other bounds than those of the rows");
		if (rollup_sums_add(&totals, &item.sums))
			return damage(file, "block", "sums beyond all bounds");
		minute_min = item.minute < minute_min ? item.minute : minute_min;
		minute_max = item.minute > minute_max ? item.minute : minute_max;
		last = item;
	}
	if (memcmp(&totals, &file->footer->totals, sizeof(totals)) != 0 || (set == ROLLUP_MAIN && rows != file->footer->rows))
		return damage(file, "footer", "other totals than those of the rows");
	if (minute_min != file->footer->minute_min || minute_max != file->footer->minute_max)
		return damage(file, "footer", "other buckets than those of the rows");
	return 0;
}

int rollup_file_verify(struct rollup_file *file, const struct manifest_rollup *facts)
{
	int rc = 0;
	for (uint32_t set = 0; set < ROLLUP_SETS && !rc; set++) {
		bool wanted = set < rollup_class_sets((enum manifest_class)file->header->class);
		if (wanted != (file->set[set].block != NULL))
			return damage(file, "section table", "other sets of rows than its class has");
		if (wanted)
			rc = set_verify(file, set);
	}
	for (int d = 0; d < TP_DIMENSIONS && !rc; d++)
		rc = places_verify(file, (enum tp_dimension)d);
	if (!rc && facts && XXH3_64bits(file->base, file->bytes) != facts->hash)
		rc = damage(file, "file", "another hash than the manifest's");
	return rc;
}
