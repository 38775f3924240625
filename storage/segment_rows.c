/*
 * Decoding the columns of a mapped segment: segment_rows.h.
 *
 * A MAPPED column asks its parent's block first; segment_take() has made sure that parents are real columns of texts, and that no
 * chain of them comes back.
 */
#include "segment_rows.h"

#include "segment_column.h"
#include "segment_state.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

/* Everything but the memory that the next segment needs as well. */
static void rows_empty(struct segment_rows *rows)
{
	for (int c = 0; c < SEGMENT_COLUMNS; c++) {
		free(rows->table[c]);
		rows->table[c] = NULL;
		rows->column[c] = NULL;
		rows->held[c] = rows->checked[c] = 0;
	}
	for (int s = 0; s < TP_STRINGS; s++)
		text_dictionary_fini(&rows->dictionary[s]);
	rows->used = rows->used_texts = 0;
	rows->id = NULL;
	rows->hash = NULL;
	rows->hashes = 0;
}

int segment_rows_open(struct segment_rows *rows, const struct segment *segment)
{
	rows_empty(rows);
	rows->segment = segment;
	rows->blocks = (uint32_t)((segment->totals->rows + SEGMENT_BLOCK_ROWS - 1) / SEGMENT_BLOCK_ROWS);
	for (uint32_t i = 0; i < segment->footer->columns; i++)
		rows->column[segment->column[i].column] = &segment->column[i];
	rows->block_rows = segment->totals->rows < SEGMENT_BLOCK_ROWS ? (uint32_t)segment->totals->rows : SEGMENT_BLOCK_ROWS;
	if (rows->room < rows->block_rows || !rows->zeros) {
		for (int c = 0; c < SEGMENT_COLUMNS; c++) {
			free(rows->value[c]);
			rows->value[c] = NULL;
		}
		free(rows->zeros);
		free(rows->pick);
		rows->pick = NULL;
		rows->zeros = calloc((uint64_t)rows->block_rows + 1, sizeof(*rows->zeros));
		rows->room = rows->block_rows;
	}
	if (rows->zeros)
		return 0;
	segment_rows_close(rows);
	return -ENOMEM;
}

void segment_rows_close(struct segment_rows *rows)
{
	rows_empty(rows);
	for (int c = 0; c < SEGMENT_COLUMNS; c++)
		free(rows->value[c]);
	free(rows->zeros);
	free(rows->pick);
	free(rows->own_id);
	buffer_fini(&rows->raw);
	ZSTD_freeDCtx(rows->zstd);
	*rows = (struct segment_rows){0};
}

uint32_t segment_rows_count(const struct segment_rows *rows, uint32_t block)
{
	uint64_t left = rows->segment->totals->rows - (uint64_t)block * SEGMENT_BLOCK_ROWS;
	return left < SEGMENT_BLOCK_ROWS ? (uint32_t)left : SEGMENT_BLOCK_ROWS;
}

static void refuse(const struct segment_rows *rows, uint32_t column, const char *what)
{
	segment_damage(rows->segment->sequence, segment_column_rule[column].name, what);
}

/* ---- bytes ---- */

static const uint8_t *inflate(ZSTD_DCtx *zstd, struct buffer *memory, const uint8_t *at, uint64_t bytes, uint64_t raw_bytes)
{
	memory->bytes = 0;
	uint8_t *to = buffer_reserve(memory, raw_bytes + COLUMN_SLACK);
	if (!to)
		return NULL;
	size_t got = ZSTD_decompressDCtx(zstd, to, raw_bytes, at, bytes);
	if (ZSTD_isError(got) || got != raw_bytes)
		return NULL;
	memset(to + raw_bytes, 0, COLUMN_SLACK);
	memory->bytes = raw_bytes;
	return to;
}

static int place_read(const struct segment *segment, const struct segment_place *place, ZSTD_DCtx **zstd, struct buffer *memory,
		      const uint8_t **at, uint64_t *bytes)
{
	*at = segment->base + place->offset;
	*bytes = place->bytes;
	if (XXH3_64bits(*at, place->bytes) != place->checksum)
		return -EBADMSG;
	if (!place->raw_bytes)
		return 0;
	if (!*zstd && !(*zstd = ZSTD_createDCtx()))
		return -ENOMEM;
	*at = inflate(*zstd, memory, *at, place->bytes, place->raw_bytes);
	*bytes = place->raw_bytes;
	return *at ? 0 : memory->failed ? -ENOMEM : -EBADMSG;
}

int segment_place_read(const struct segment *segment, const struct segment_place *place, struct buffer *memory, const uint8_t **at,
		       uint64_t *bytes)
{
	ZSTD_DCtx *zstd = NULL;
	int rc = place_read(segment, place, &zstd, memory, at, bytes);
	ZSTD_freeDCtx(zstd);
	return rc;
}

const struct segment_block *segment_rows_zone(const struct segment_rows *rows, uint32_t column, uint32_t block)
{
	const struct segment_column *entry = rows->column[column];
	return entry ? &rows->segment->block[entry->block + block] : NULL;
}

const uint8_t *segment_rows_stream(struct segment_rows *rows, uint32_t column, uint32_t block, const uint8_t **end)
{
	const struct segment_block *place = segment_rows_zone(rows, column, block);
	const uint8_t *at = rows->segment->base + place->offset;
	*end = at + place->bytes;
	/* once for all that is asked of a block in a row */
	if (rows->checked[column] != block + 1 && XXH3_64bits(at, place->bytes) != place->checksum) {
		refuse(rows, column, "a block's checksum");
		return NULL;
	}
	rows->checked[column] = block + 1;
	rows->used |= UINT64_C(1) << column;
	if (!place->raw_bytes)
		return at;
	if (!rows->zstd && !(rows->zstd = ZSTD_createDCtx()))
		return NULL;
	at = inflate(rows->zstd, &rows->raw, at, place->bytes, place->raw_bytes);
	if (!at)
		refuse(rows, column, "a block that does not decompress");
	else
		*end = at + place->raw_bytes;
	return at;
}

/* ---- dictionaries and tables ---- */

const struct text_dictionary *segment_rows_dictionary(struct segment_rows *rows, enum tp_string string)
{
	struct text_dictionary *dictionary = &rows->dictionary[string];
	const struct segment_column *entry = rows->column[SEGMENT_TEXT + string];
	if (dictionary->end)
		return dictionary;
	rows->used_texts |= UINT64_C(1) << string;
	struct buffer memory = {0};
	const uint8_t *at;
	uint64_t bytes;
	int rc = entry ? place_read(rows->segment, &entry->dictionary, &rows->zstd, &memory, &at, &bytes) : -EBADMSG;
	if (!rc)
		rc = text_dictionary_read(dictionary, at, bytes, entry->texts,
					  segment_column_rule[SEGMENT_TEXT + string].texts_bytes_max);
	buffer_fini(&memory);
	if (rc)
		refuse(rows, SEGMENT_TEXT + (uint32_t)string, "its dictionary");
	return rc ? NULL : dictionary;
}

static const uint64_t *table_of(struct segment_rows *rows, uint32_t column)
{
	const struct segment_column *entry = rows->column[column];
	uint32_t entries = rows->column[entry->parent]->texts;
	if (rows->table[column])
		return rows->table[column];
	struct buffer memory = {0};
	const uint8_t *at;
	uint64_t bytes, *table = malloc((uint64_t)entries * sizeof(*table));
	int rc = table ? place_read(rows->segment, &entry->table, &rows->zstd, &memory, &at, &bytes) : -ENOMEM;
	if (!rc && column_decode_long(at, at + bytes, table, entries) != at + bytes)
		rc = -EBADMSG;
	buffer_fini(&memory);
	if (rc) {
		refuse(rows, column, "its table");
		free(table);
		return NULL;
	}
	rows->table[column] = table;
	return table;
}

/* ---- blocks ---- */

static bool values_read(struct segment_rows *rows, uint32_t column, uint32_t block, uint64_t *to, uint32_t count)
{
	const struct segment_column *entry = rows->column[column];
	struct column_map map = {0};
	if (entry->parent != SEGMENT_NO_PARENT) {
		/* before the block's own bytes, because both may need rows->raw */
		map.parent = segment_rows_values(rows, entry->parent, block);
		map.table = map.parent ? table_of(rows, column) : NULL;
		map.entries = rows->column[entry->parent]->texts;
		if (!map.table)
			return false;
	}
	const uint8_t *end, *at = segment_rows_stream(rows, column, block, &end);
	if (!at)
		return false;
	if (column_decode(at, end, map.parent ? &map : NULL, to, count) != end) {
		refuse(rows, column, "a block that does not decode");
		return false;
	}
	const struct segment_block *zone = segment_rows_zone(rows, column, block);
	bool inside = column_within(to, count, zone->min, zone->max);
	if (!inside)
		refuse(rows, column, "values outside their zone");
	return inside;
}

const uint64_t *segment_rows_values(struct segment_rows *rows, uint32_t column, uint32_t block)
{
	if (!rows->column[column])
		return rows->zeros;
	if (rows->held[column] == block + 1)
		return rows->value[column];
	if (!rows->value[column])
		rows->value[column] = malloc(rows->room * sizeof(uint64_t));
	rows->held[column] = 0;
	if (!rows->value[column] || !values_read(rows, column, block, rows->value[column], segment_rows_count(rows, block)))
		return NULL;
	rows->held[column] = block + 1;
	return rows->value[column];
}

int segment_rows_cursor(struct segment_rows *rows, uint32_t column, uint32_t block, struct column_cursor *cursor)
{
	const struct segment_column *entry = rows->column[column];
	if (!entry || rows->held[column] == block + 1 || entry->parent != SEGMENT_NO_PARENT)
		return 0;
	if (!rows->pick && !(rows->pick = malloc(2 * (uint64_t)rows->room * sizeof(*rows->pick))))
		return -ENOMEM;
	const uint8_t *end, *at = segment_rows_stream(rows, column, block, &end);
	if (!at)
		return -EBADMSG;
	if (!column_cursor_open(cursor, at, end, segment_rows_count(rows, block), rows->pick) || cursor->end != end) {
		refuse(rows, column, "a block that does not decode");
		return -EBADMSG;
	}
	return 1;
}

static int block_refused(struct segment_rows *rows, uint32_t column)
{
	refuse(rows, column, "a block that does not decode, or values outside their zone");
	return -EBADMSG;
}

int segment_rows_match(struct segment_rows *rows, uint32_t column, uint32_t block, const struct column_want *want, uint64_t *bits)
{
	const struct segment_block *zone = segment_rows_zone(rows, column, block);
	struct column_cursor cursor;
	int rc = segment_rows_cursor(rows, column, block, &cursor);
	if (rc < 0)
		return rc;
	if (rc) {
		if (column_match(&cursor, want, zone->min, zone->max, bits))
			return 0;
		return block_refused(rows, column);
	}
	const uint64_t *value = segment_rows_values(rows, column, block);
	if (!value)
		return -EBADMSG;
	column_match_values(value, segment_rows_count(rows, block), want, bits);
	return 0;
}

int segment_rows_gather(struct segment_rows *rows, uint32_t column, uint32_t block, const uint32_t *row, uint32_t count,
			uint64_t *to)
{
	const struct segment_block *zone = segment_rows_zone(rows, column, block);
	struct column_cursor cursor;
	int rc = segment_rows_cursor(rows, column, block, &cursor);
	if (rc < 0)
		return rc;
	if (rc) {
		if (column_gather(&cursor, row, count, to) && column_within(to, count, zone->min, zone->max))
			return 0;
		return block_refused(rows, column);
	}
	const uint64_t *value = segment_rows_values(rows, column, block);
	if (!value)
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++)
		to[i] = value[row[i]];
	return 0;
}

/* ---- evidence ---- */

/* As many values as the counts of the block's rows sum up to. */
static int evidence_load(struct segment_rows *rows, uint32_t block)
{
	uint32_t count = segment_rows_count(rows, block);
	uint64_t entries = 0, *counts = rows->value[SEGMENT_EVIDENCE];
	for (uint32_t i = 0; i < count; i++) {
		if (counts[i] > TP_FRAUD_REASONS)
			return -EBADMSG;
		entries += counts[i];
	}
	for (uint32_t c = SEGMENT_EVIDENCE_REASON; c < SEGMENT_NUMBERS; c++) {
		const struct segment_block *zone = segment_rows_zone(rows, c, block);
		if (!zone || zone->count != entries)
			return -EBADMSG;
		if (rows->held[c] == block + 1)
			continue;
		rows->held[c] = 0;
		free(rows->value[c]);
		rows->value[c] = malloc((entries + 1) * sizeof(uint64_t));
		const uint8_t *end, *at = rows->value[c] ? segment_rows_stream(rows, c, block, &end) : NULL;
		if (!at || column_decode_long(at, end, rows->value[c], entries) != end)
			return -EBADMSG;
		rows->held[c] = block + 1;
	}
	return 0;
}

/* Rows whose hashes are stored. */
static int hashes_prepare(struct segment_rows *rows, struct segment *segment)
{
	const void *at = NULL;
	uint64_t bytes = 0;
	int rc = segment_section_read(segment, SEGMENT_HASHES, &at, &bytes);
	rows->hash = at;
	rows->hashes = rc ? 0 : bytes / sizeof(struct segment_hash);
	return rc == -ENOENT ? 0 : rc;
}

static int old_ids_prepare(struct segment_rows *rows, struct segment *segment)
{
	const void *at = NULL;
	uint64_t bytes = 0;
	int rc = segment_section_read(segment, SEGMENT_IDS, &at, &bytes);
	if (!rc && bytes != segment->totals->rows * sizeof(struct tp_id))
		rc = -ENOENT;
	rows->id = at;
	return rc == -ENOENT ? segment_damage(segment->sequence, "ids", "other than one a row") : rc;
}

static int ids_prepare(struct segment_rows *rows, struct segment *segment)
{
	const uint64_t count = segment->totals->rows;
	const struct id_index *index;
	int rc = segment_id_index(segment, &index);
	if (rc)
		return rc;
	if (rows->own_ids < count) {
		free(rows->own_id);
		rows->own_id = malloc(count * sizeof(*rows->own_id));
		rows->own_ids = rows->own_id ? count : 0;
	}
	if (!rows->own_id)
		return -ENOMEM;
	if (!id_index_all(index, rows->own_id))
		return segment_damage(segment->sequence, "id index", "rows without an id, or ids out of order");
	rows->id = rows->own_id;
	return 0;
}

int segment_rows_prepare(struct segment_rows *rows, struct segment *segment)
{
	if (!segment->totals->rows)
		return 0;
	int rc = segment->version == SEGMENT_VERSION_OLD_IDS ? old_ids_prepare(rows, segment) : ids_prepare(rows, segment);
	return rc ? rc : hashes_prepare(rows, segment);
}

int segment_rows_prepare_one(struct segment_rows *rows, struct segment *segment, struct tp_id id)
{
	rows->id = NULL;
	rows->one_id = id;
	return hashes_prepare(rows, segment);
}

int segment_rows_load(struct segment_rows *rows, uint32_t block)
{
	for (uint32_t c = 0; c < SEGMENT_COLUMNS; c++) {
		if (c >= SEGMENT_EVIDENCE_REASON && c < SEGMENT_NUMBERS)
			continue;
		if (c >= SEGMENT_TEXT && !segment_rows_dictionary(rows, (enum tp_string)(c - SEGMENT_TEXT)))
			return -EBADMSG;
		if (rows->column[c] && !segment_rows_values(rows, c, block))
			return -EBADMSG;
	}
	rows->evidence_row = rows->evidence_entry = 0;
	int rc = rows->column[SEGMENT_EVIDENCE] ? evidence_load(rows, block) : 0;
	if (rc)
		refuse(rows, SEGMENT_EVIDENCE, "entries that are not there");
	return rc;
}

/* ---- records ---- */

static inline uint64_t value_of(const struct segment_rows *rows, uint32_t column, uint32_t row)
{
	return rows->column[column] ? rows->value[column][row] : 0;
}

static void store_big_endian(uint8_t *to, uint64_t value)
{
	value = __builtin_bswap64(value);
	memcpy(to, &value, sizeof(value));
}

static uint32_t evidence_rebuild(struct segment_rows *rows, uint32_t row, struct tp_evidence *to)
{
	const uint64_t *counts = rows->value[SEGMENT_EVIDENCE];
	uint32_t count = (uint32_t)counts[row];
	if (!count)
		return 0;
	/* rows are mostly asked for one after the other */
	if (row < rows->evidence_row)
		rows->evidence_row = rows->evidence_entry = 0;
	for (; rows->evidence_row < row; rows->evidence_row++)
		rows->evidence_entry += (uint32_t)counts[rows->evidence_row];
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = rows->evidence_entry + i;
		bool is_text = rows->value[SEGMENT_EVIDENCE_TEXT][at];
		uint64_t seen = rows->value[SEGMENT_EVIDENCE_SEEN][at];
		to[i] = (struct tp_evidence){.reason = (uint8_t)rows->value[SEGMENT_EVIDENCE_REASON][at],
					     .is_text = (uint8_t)rows->value[SEGMENT_EVIDENCE_TEXT][at],
					     .detail = (uint16_t)rows->value[SEGMENT_EVIDENCE_DETAIL][at],
					     .limit = (uint32_t)rows->value[SEGMENT_EVIDENCE_LIMIT][at],
					     .seen = (int64_t)(is_text ? seen : column_unzigzag(seen))};
	}
	return count;
}

static void numbers_rebuild(const struct segment_rows *rows, uint32_t row, struct tp_event *to)
{
	to->type = (uint8_t)value_of(rows, SEGMENT_TYPE, row);
	to->device = (uint8_t)value_of(rows, SEGMENT_DEVICE, row);
	to->flags = (uint8_t)value_of(rows, SEGMENT_FLAGS, row);
	to->verdict = (uint8_t)value_of(rows, SEGMENT_VERDICT, row);
	to->timestamp_ms = value_of(rows, SEGMENT_TIME, row);
	to->received_ms = to->timestamp_ms + column_unzigzag(value_of(rows, SEGMENT_LAG, row));
	to->bid_micros = (int64_t)value_of(rows, SEGMENT_BID, row);
	uint64_t ip_high = value_of(rows, SEGMENT_IP_HIGH, row), ip_low = value_of(rows, SEGMENT_IP_LOW, row);
	if (to->flags & TP_HAS_IP && !ip_high)
		ip_low ^= 0xffff00000000;
	store_big_endian(to->ip, ip_high);
	store_big_endian(to->ip + 8, ip_low);
	uint64_t country = value_of(rows, SEGMENT_COUNTRY, row), currency = value_of(rows, SEGMENT_CURRENCY, row);
	uint64_t reserved = value_of(rows, SEGMENT_RESERVED, row);
	memcpy(to->country, &country, sizeof(to->country));
	memcpy(to->currency, &currency, sizeof(to->currency));
	memcpy(to->reserved, &reserved, sizeof(to->reserved));
	to->click_position = (uint16_t)value_of(rows, SEGMENT_POSITION, row);
	to->timezone_offset_min = (int32_t)column_unzigzag(value_of(rows, SEGMENT_TIMEZONE, row));
	to->mouse_moves = (int32_t)column_unzigzag(value_of(rows, SEGMENT_MOUSE, row));
	to->fraud = (uint32_t)value_of(rows, SEGMENT_FRAUD, row);
	to->rule_version = (uint32_t)value_of(rows, SEGMENT_RULE_VERSION, row);
	to->trace_flags = (uint8_t)value_of(rows, SEGMENT_TRACE_FLAGS, row);
	uint64_t trace[3] = {value_of(rows, SEGMENT_TRACE_HIGH, row), value_of(rows, SEGMENT_TRACE_LOW, row),
			     value_of(rows, SEGMENT_SPAN, row)};
	memcpy(to->trace_id, trace, sizeof(to->trace_id));
	memcpy(to->span_id, &trace[2], sizeof(to->span_id));
}

/* What the log said, where the payload does not. */
static void hashes_rebuild(const struct segment_rows *rows, uint64_t row, struct tp_event *to)
{
	uint64_t low = 0, high = rows->hashes;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (rows->hash[middle].row < row)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < rows->hashes && rows->hash[low].row == row) {
		to->fingerprint = rows->hash[low].fingerprint;
		to->shard_hash = rows->hash[low].shard_hash;
	} else {
		tp_event_hashes(to, &to->fingerprint, &to->shard_hash);
	}
}

int segment_rows_event(struct segment_rows *rows, uint32_t block, uint32_t row, struct tp_event *to)
{
	memset(to, 0, sizeof(*to));
	numbers_rebuild(rows, row, to);
	char *const strings = (char *)(to + 1);
	char *at = strings;
	for (int s = 0; s < TP_STRINGS; s++) {
		uint64_t code = value_of(rows, SEGMENT_TEXT + (uint32_t)s, row);
		if (code >= rows->dictionary[s].count) {
			refuse(rows, SEGMENT_TEXT + (uint32_t)s, "a code beyond the dictionary");
			return -EBADMSG;
		}
		struct tp_str text = text_of(&rows->dictionary[s], (uint32_t)code);
		memcpy(at, text.at, text.bytes);
		to->string_bytes[s] = text.bytes;
		at += text.bytes;
	}
	uint32_t unpadded = (uint32_t)(at - strings), padded = (unpadded + 7) & ~7u;
	memset(at, 0, padded - unpadded);
	to->bytes = TP_EVENT_FIXED_BYTES + padded;
	uint64_t index = (uint64_t)block * SEGMENT_BLOCK_ROWS + row;
	to->id = rows->id ? rows->id[index] : rows->one_id;
	if (rows->column[SEGMENT_EVIDENCE]) {
		struct tp_evidence evidence[TP_FRAUD_REASONS];
		uint32_t count = evidence_rebuild(rows, row, evidence);
		memcpy((char *)to + to->bytes, evidence, count * sizeof(evidence[0]));
		to->evidence_count = (uint8_t)count;
		to->bytes += count * (uint32_t)sizeof(evidence[0]);
	}
	if (!tp_event_valid(to, to->bytes) ||
	    (to->verdict != TP_ACCEPTED && to->verdict != TP_LATE && to->verdict != TP_CONFLICT && to->verdict != TP_AMENDED)) {
		segment_damage(rows->segment->sequence, "rows", "a malformed row");
		return -EBADMSG;
	}
	hashes_rebuild(rows, index, to);
	return 0;
}
