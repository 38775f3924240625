/*
 * Writing a rollup file: rows come in order, are gathered to blocks, and each block's columns are packed as tightly as their values
 * allow. Set after set: the main one, then those by one dimension alone. Format: rollup_format.h.
 *
 * Threads: a writer belongs to one. Memory: one block, 40 bytes a block, 8 bytes for each string of a block.
 */
#include "rollup_file.h"
#include "store_state.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum {
	OUT_BYTES = 1 << 20,
	WIDTH_PACKED_MAX = 56, /* a value may start at any bit of the 8 bytes that are loaded */
	BLOCK_BYTES_MAX = sizeof(struct rollup_block_head) + ROLLUP_SLACK_BYTES +
			  ROLLUP_COLUMNS * (sizeof(struct rollup_column_head) + 8 * ROLLUP_BLOCK_ROWS + 8),
};

struct place {
	uint32_t code, block;
};

struct rollup_writer {
	const struct sto_io *io;
	char *path;
	int fd;
	const struct rollup_dictionary *dictionary;
	struct manifest_rollup facts;
	uint32_t unit; /* minutes a bucket */
	/* output */
	uint8_t *buffer;
	uint64_t filled, offset;
	XXH3_state_t *hash;
	int failed;
	/* the row that may still grow, and the open block */
	struct rollup_item open;
	bool has_open;
	uint32_t rows, keys;
	struct rollup_item last;
	uint64_t *column[ROLLUP_COLUMNS];
	uint8_t *packed;
	/* what the sections are made of */
	uint32_t set;               /* being written */
	struct rollup_block *block; /* of all sets, one after the other */
	uint32_t blocks, blocks_max;
	uint32_t set_blocks[ROLLUP_SETS]; /* where each ends in block[] */
	struct tp_sums set_totals;
	struct place *place[TP_DIMENSIONS];
	uint64_t places[TP_DIMENSIONS], places_max[TP_DIMENSIONS];
	uint32_t *seen[TP_DIMENSIONS]; /* last block + 1 of each string */
	struct rollup_footer footer;
};

static const enum rollup_column code_column[TP_DIMENSIONS] = {
	[TP_DIM_AD] = ROLLUP_AD,
	[TP_DIM_CAMPAIGN] = ROLLUP_CAMPAIGN,
	[TP_DIM_ADVERTISER] = ROLLUP_ADVERTISER,
	[TP_DIM_PUBLISHER] = ROLLUP_PUBLISHER,
	[TP_DIM_REGION] = ROLLUP_REGION,
};

int rollup_key_compare(const struct rollup_item *left, const struct rollup_item *right)
{
	static const enum tp_dimension order[TP_DIMENSIONS] = {TP_DIM_CAMPAIGN, TP_DIM_AD, TP_DIM_ADVERTISER, TP_DIM_PUBLISHER,
							       TP_DIM_REGION};
	for (int i = 0; i < TP_DIMENSIONS; i++) {
		uint32_t a = left->code[order[i]], b = right->code[order[i]];
		if (a != b)
			return a < b ? -1 : 1;
	}
	if (left->country != right->country)
		return left->country < right->country ? -1 : 1;
	if (left->device != right->device)
		return left->device < right->device ? -1 : 1;
	return left->currency < right->currency ? -1 : left->currency > right->currency;
}

uint32_t rollup_class_sets(enum manifest_class class)
{
	/* By minutes a single dimension has nearly as many rows as all of them together. */
	return class == MANIFEST_MINUTE ? 1 : ROLLUP_SETS;
}

void rollup_item_project(struct rollup_item *item, uint32_t set)
{
	if (set == ROLLUP_MAIN)
		return;
	for (uint32_t d = 0; d < TP_DIMENSIONS; d++)
		if (d + 1 != set)
			item->code[d] = 0;
	item->country = 0;
	item->device = 0;
}

int rollup_item_compare(const struct rollup_item *left, const struct rollup_item *right)
{
	int c = rollup_key_compare(left, right);
	return c ? c : left->minute < right->minute ? -1 : left->minute > right->minute;
}

int rollup_sums_add(struct tp_sums *sums, const struct tp_sums *more)
{
	sums->impressions += more->impressions;
	sums->clicks += more->clicks;
	sums->flagged_clicks += more->flagged_clicks;
	sums->conversions += more->conversions;
	sums->late += more->late;
	sums->reserved += more->reserved;
	return __builtin_add_overflow(sums->spend_micros, more->spend_micros, &sums->spend_micros) ? -EOVERFLOW : 0;
}

/* ---- output ---- */

static uint64_t out_at(const struct rollup_writer *w)
{
	return w->offset + w->filled;
}

static void out_flush(struct rollup_writer *w)
{
	if (w->failed || !w->filled)
		return;
	XXH3_64bits_update(w->hash, w->buffer, w->filled);
	w->failed = w->io->write(w->io, w->fd, w->buffer, w->filled, w->offset);
	w->offset += w->filled;
	w->filled = 0;
}

static void out_put(struct rollup_writer *w, const void *from, uint64_t bytes)
{
	while (bytes && !w->failed) {
		uint64_t piece = OUT_BYTES - w->filled < bytes ? OUT_BYTES - w->filled : bytes;
		memcpy(w->buffer + w->filled, from, piece);
		w->filled += piece;
		from = (const uint8_t *)from + piece;
		bytes -= piece;
		if (w->filled == OUT_BYTES)
			out_flush(w);
	}
}

static void out_align(struct rollup_writer *w, uint64_t to)
{
	static const uint8_t zeros[ROLLUP_FOOTER_ALIGN];
	out_put(w, zeros, -out_at(w) % to);
}

/* ---- blocks ---- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

/* Packs `count` values behind *at. */
static void column_pack(uint8_t **at, const uint64_t *value, uint32_t count)
{
	/* Sums are modulo 2^64, and a small negative one is as near to zero as a small positive one. */
	int64_t least = INT64_MAX;
	for (uint32_t i = 0; i < count; i++)
		least = (int64_t)value[i] < least ? (int64_t)value[i] : least;
	struct rollup_column_head head;
	memset(&head, 0, sizeof(head));
	head.base = count ? (uint64_t)least : 0;
	uint64_t scale = 0, most = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t rest = value[i] - head.base;
		if (scale != 1)
			scale = gcd(rest, scale);
		most = rest > most ? rest : most;
	}
	head.scale = scale ? scale : 1;
	most /= head.scale;
	head.width = most ? (uint8_t)(64 - __builtin_clzll(most)) : 0;
	if (head.width > WIDTH_PACKED_MAX)
		head.width = 64;
	memcpy(*at, &head, sizeof(head));
	*at += sizeof(head);
	uint64_t bytes = ((uint64_t)head.width * count + 63) / 64 * 8;
	memset(*at, 0, bytes + ROLLUP_SLACK_BYTES);
	for (uint32_t i = 0; i < count && head.width; i++) {
		uint64_t bit = (uint64_t)head.width * i, word;
		memcpy(&word, *at + bit / 8, sizeof(word));
		word |= (value[i] - head.base) / head.scale << bit % 8;
		memcpy(*at + bit / 8, &word, sizeof(word));
	}
	*at += bytes;
}

static int place_note(struct rollup_writer *w, int dimension, uint32_t code)
{
	if (w->set != ROLLUP_MAIN || !w->seen[dimension] || w->seen[dimension][code] == w->blocks + 1)
		return 0;
	if (w->places[dimension] == w->places_max[dimension]) {
		uint64_t max = w->places_max[dimension] ? 2 * w->places_max[dimension] : 1024;
		struct place *larger = realloc(w->place[dimension], max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		w->place[dimension] = larger;
		w->places_max[dimension] = max;
	}
	w->seen[dimension][code] = w->blocks + 1;
	w->place[dimension][w->places[dimension]++] = (struct place){.code = code, .block = w->blocks};
	return 0;
}

static int block_end(struct rollup_writer *w)
{
	if (!w->rows)
		return 0;
	if (w->blocks == w->blocks_max) {
		uint32_t max = w->blocks_max ? 2 * w->blocks_max : 64;
		struct rollup_block *larger = realloc(w->block, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		w->block = larger;
		w->blocks_max = max;
	}
	struct rollup_block *block = &w->block[w->blocks];
	memset(block, 0, sizeof(*block));
	uint64_t bucket_min = UINT64_MAX, bucket_max = 0;
	for (uint32_t i = 0; i < w->rows; i++) {
		uint64_t bucket = w->column[ROLLUP_BUCKET][i];
		bucket_min = bucket < bucket_min ? bucket : bucket_min;
		bucket_max = bucket > bucket_max ? bucket : bucket_max;
	}
	for (uint32_t i = 0; i < w->keys; i++)
		for (int d = 0; d < TP_DIMENSIONS; d++) {
			int rc = place_note(w, d, (uint32_t)w->column[code_column[d]][i]);
			if (rc)
				return rc;
		}
	const struct rollup_block_head head = {.rows = w->rows, .keys = w->keys};
	uint8_t *at = w->packed;
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	for (int c = 0; c < ROLLUP_COLUMNS; c++)
		column_pack(&at, w->column[c], c < ROLLUP_KEY_COLUMNS ? w->keys : w->rows);
	memset(at, 0, ROLLUP_SLACK_BYTES);
	at += ROLLUP_SLACK_BYTES;
	block->offset = out_at(w);
	block->bytes = (uint32_t)(at - w->packed);
	block->rows = w->rows;
	block->minute_min = (uint32_t)(bucket_min * w->unit);
	block->minute_max = (uint32_t)(bucket_max * w->unit);
	enum rollup_column first = w->set == ROLLUP_MAIN ? ROLLUP_CAMPAIGN : code_column[w->set - 1];
	block->code_min = (uint32_t)w->column[first][0];
	block->code_max = (uint32_t)w->column[first][w->keys - 1];
	block->checksum = XXH3_64bits(w->packed, block->bytes);
	out_put(w, w->packed, block->bytes);
	if (block->minute_min < w->footer.minute_min)
		w->footer.minute_min = block->minute_min;
	if (block->minute_max > w->footer.minute_max)
		w->footer.minute_max = block->minute_max;
	if (w->set == ROLLUP_MAIN)
		w->footer.rows += w->rows;
	w->blocks++;
	w->rows = w->keys = 0;
	return w->failed;
}

/* The open row is complete. */
static int row_end(struct rollup_writer *w)
{
	if (!w->has_open)
		return 0;
	const struct rollup_item *item = &w->open;
	int rc = rollup_sums_add(&w->set_totals, &item->sums);
	if (!rc && w->rows == ROLLUP_BLOCK_ROWS)
		rc = block_end(w);
	if (rc)
		return rc;
	if (!w->keys || rollup_key_compare(&w->last, item)) {
		uint32_t k = w->keys++;
		for (int d = 0; d < TP_DIMENSIONS; d++)
			w->column[code_column[d]][k] = item->code[d];
		w->column[ROLLUP_COUNTRY][k] = item->country;
		w->column[ROLLUP_DEVICE][k] = item->device;
		w->column[ROLLUP_CURRENCY][k] = item->currency;
		w->column[ROLLUP_FIRST_ROW][k] = w->rows;
	}
	uint32_t r = w->rows++;
	w->column[ROLLUP_BUCKET][r] = item->minute / w->unit;
	w->column[ROLLUP_IMPRESSIONS][r] = item->sums.impressions;
	w->column[ROLLUP_CLICKS][r] = item->sums.clicks;
	w->column[ROLLUP_FLAGGED_CLICKS][r] = item->sums.flagged_clicks;
	w->column[ROLLUP_CONVERSIONS][r] = item->sums.conversions;
	w->column[ROLLUP_LATE][r] = item->sums.late;
	w->column[ROLLUP_RESERVED][r] = item->sums.reserved;
	w->column[ROLLUP_SPEND_LOW][r] = (uint64_t)item->sums.spend_micros;
	w->column[ROLLUP_SPEND_HIGH][r] = (uint64_t)(item->sums.spend_micros >> 64);
	w->last = *item;
	w->has_open = false;
	return 0;
}

int rollup_writer_add(struct rollup_writer *w, const struct rollup_item *item)
{
	struct rollup_item row = *item;
	row.minute -= row.minute % w->unit;
	if (w->has_open) {
		int c = rollup_item_compare(&w->open, &row);
		if (c == 0)
			return rollup_sums_add(&w->open.sums, &row.sums);
		assert(c < 0);
		int rc = row_end(w);
		if (rc)
			return rc;
	}
	w->open = row;
	w->has_open = true;
	return w->failed;
}

/* All rows of the set are there. */
static int set_end(struct rollup_writer *w)
{
	int rc = row_end(w);
	if (!rc)
		rc = block_end(w);
	if (rc)
		return rc;
	/* Each set is another way to the same totals. */
	if (w->set == ROLLUP_MAIN)
		w->footer.totals = w->set_totals;
	else if (memcmp(&w->footer.totals, &w->set_totals, sizeof(w->set_totals)) != 0)
		return -EBADMSG;
	w->set_blocks[w->set] = w->blocks;
	memset(&w->set_totals, 0, sizeof(w->set_totals));
	return 0;
}

int rollup_writer_next_set(struct rollup_writer *w)
{
	int rc = set_end(w);
	w->set++;
	assert(w->set < rollup_class_sets((enum manifest_class)w->facts.class));
	return rc;
}

/* ---- sections ---- */

static void section_put(struct rollup_writer *w, struct rollup_section *section, uint32_t kind, uint64_t count, const void *first,
			uint64_t first_bytes, const void *second, uint64_t second_bytes)
{
	out_align(w, 8);
	memset(section, 0, sizeof(*section));
	section->kind = kind;
	section->offset = out_at(w);
	section->bytes = first_bytes + second_bytes;
	section->count = count;
	XXH3_state_t *hash = XXH3_createState();
	if (!hash) {
		w->failed = w->failed ? w->failed : -ENOMEM;
		return;
	}
	XXH3_64bits_reset(hash);
	if (first_bytes)
		XXH3_64bits_update(hash, first, first_bytes);
	if (second_bytes)
		XXH3_64bits_update(hash, second, second_bytes);
	section->checksum = XXH3_64bits_digest(hash);
	XXH3_freeState(hash);
	out_put(w, first, first_bytes);
	out_put(w, second, second_bytes);
}

/* Which blocks have a string: the notes sorted by string (they are by block already), then written as differences. */
static int places_put(struct rollup_writer *w, struct rollup_section *section, int dimension)
{
	uint32_t count = w->dictionary[dimension].count;
	uint64_t places = w->places[dimension], bytes = 0;
	uint32_t *end = calloc((uint64_t)count + 1, sizeof(*end));
	uint64_t *next = calloc((uint64_t)count + 1, sizeof(*next));
	uint32_t *sorted = malloc((places + 1) * sizeof(*sorted));
	uint8_t *list = malloc(5 * places + 1);
	int rc = end && next && sorted && list ? 0 : -ENOMEM;
	if (!rc) {
		for (uint64_t i = 0; i < places; i++)
			next[w->place[dimension][i].code + 1]++;
		for (uint32_t c = 0; c < count; c++)
			next[c + 1] += next[c];
		for (uint64_t i = 0; i < places; i++)
			sorted[next[w->place[dimension][i].code]++] = w->place[dimension][i].block;
		/* now next[c] is where the blocks of c end */
		for (uint64_t i = 0, c = 0; c < count; c++) {
			for (uint64_t first = i; i < next[c]; i++) {
				uint32_t value = i == first ? sorted[i] : sorted[i] - sorted[i - 1] - 1;
				for (; value >= 0x80; value >>= 7)
					list[bytes++] = (uint8_t)(value | 0x80);
				list[bytes++] = (uint8_t)value;
			}
			end[c] = (uint32_t)bytes;
		}
		if (bytes > UINT32_MAX)
			rc = -EOVERFLOW;
		else
			section_put(w, section, ROLLUP_PLACES + (uint32_t)dimension, count, end, count * sizeof(*end), list, bytes);
	}
	free(end);
	free(next);
	free(sorted);
	free(list);
	return rc;
}

static int sections_put(struct rollup_writer *w)
{
	struct rollup_section table[ROLLUP_SECTIONS_MAX];
	uint32_t sections = 0;
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		const struct rollup_dictionary *dictionary = &w->dictionary[d];
		section_put(w, &table[sections++], ROLLUP_DICTIONARY + (uint32_t)d, dictionary->count, dictionary->end,
			    dictionary->count * sizeof(uint32_t), dictionary->heap,
			    dictionary->count ? dictionary->end[dictionary->count - 1] : 0);
	}
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		if (!w->seen[d])
			continue;
		int rc = places_put(w, &table[sections++], d);
		if (rc)
			return rc;
	}
	for (uint32_t set = 0, from = 0; set <= w->set; from = w->set_blocks[set++]) {
		uint32_t count = w->set_blocks[set] - from;
		section_put(w, &table[sections++], ROLLUP_BLOCKS + set, count, w->block ? w->block + from : NULL,
			    count * sizeof(*w->block), NULL, 0);
	}
	out_align(w, 8);
	struct rollup_footer *footer = &w->footer;
	footer->blocks = w->set_blocks[ROLLUP_MAIN];
	footer->sections_at = out_at(w);
	footer->sections = sections;
	footer->sections_checksum = XXH3_64bits(table, sections * sizeof(table[0]));
	out_put(w, table, sections * sizeof(table[0]));
	out_align(w, ROLLUP_FOOTER_ALIGN);
	footer->bytes = sizeof(*footer);
	footer->version = ROLLUP_VERSION;
	footer->magic = ROLLUP_MAGIC_END;
	footer->checksum = XXH3_64bits(footer, offsetof(struct rollup_footer, checksum));
	out_put(w, footer, sizeof(*footer));
	out_flush(w);
	return w->failed;
}

/* ---- life ---- */

static void writer_free(struct rollup_writer *w)
{
	if (w->fd >= 0)
		w->io->close(w->io, w->fd);
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		free(w->place[d]);
		free(w->seen[d]);
	}
	for (int c = 0; c < ROLLUP_COLUMNS; c++)
		free(w->column[c]);
	XXH3_freeState(w->hash);
	free(w->block);
	free(w->packed);
	free(w->buffer);
	free(w->path);
	free(w);
}

int rollup_writer_open(struct rollup_writer **writer, const struct sto_io *io, const char *path, const uint8_t node_id[16],
		       const struct rollup_dictionary *dictionary, const struct manifest_rollup *facts)
{
	/* aligned: it has a 16-byte sum in it */
	struct rollup_writer *w = aligned_alloc(64, (sizeof(*w) + 63) / 64 * 64);
	if (!w)
		return -ENOMEM;
	memset(w, 0, sizeof(*w));
	w->io = io;
	w->fd = -1;
	w->dictionary = dictionary;
	w->facts = *facts;
	w->unit = manifest_class_minutes((enum manifest_class)facts->class);
	w->footer.minute_min = UINT32_MAX;
	w->path = strdup(path);
	w->buffer = malloc(OUT_BYTES);
	w->packed = malloc(BLOCK_BYTES_MAX);
	w->hash = XXH3_createState();
	bool memory = w->path && w->buffer && w->packed && w->hash;
	for (int c = 0; c < ROLLUP_COLUMNS; c++)
		memory &= (w->column[c] = malloc(ROLLUP_BLOCK_ROWS * sizeof(uint64_t))) != NULL;
	for (int d = 0; d < TP_DIMENSIONS; d++)
		if (d != TP_DIM_REGION)
			memory &= (w->seen[d] = calloc((uint64_t)dictionary[d].count + 1, sizeof(uint32_t))) != NULL;
	int rc = memory ? 0 : -ENOMEM;
	if (!rc) {
		XXH3_64bits_reset(w->hash);
		w->fd = io->open(io, path, O_RDWR | O_CREAT | O_TRUNC, 0640);
		rc = w->fd < 0 ? w->fd : 0;
	}
	if (rc) {
		writer_free(w);
		return rc;
	}
	struct rollup_header header = {.magic = ROLLUP_MAGIC,
				       .version = ROLLUP_VERSION,
				       .class = facts->class,
				       .sequence = facts->sequence,
				       .from_segment = facts->from_segment,
				       .to_segment = facts->to_segment};
	memcpy(header.node_id, node_id, sizeof(header.node_id));
	header.checksum = XXH3_64bits(&header, offsetof(struct rollup_header, checksum));
	out_put(w, &header, sizeof(header));
	*writer = w;
	return 0;
}

int rollup_writer_finish(struct rollup_writer *w, struct manifest_rollup *facts)
{
	int rc = set_end(w);
	assert(rc || w->set + 1 == rollup_class_sets((enum manifest_class)w->facts.class));
	if (!rc)
		rc = sections_put(w);
	if (!rc)
		rc = w->io->sync(w->io, w->fd);
	if (!rc) {
		facts->rows = w->footer.rows;
		facts->minute_min = w->footer.minute_min;
		facts->minute_max = w->footer.minute_max;
		facts->bytes = w->offset;
		facts->hash = XXH3_64bits_digest(w->hash);
		rc = file_sha256(w->io, w->path, facts->sha256);
	}
	if (rc)
		rollup_writer_abandon(w);
	else
		writer_free(w);
	return rc;
}

void rollup_writer_abandon(struct rollup_writer *w)
{
	w->io->unlink(w->io, w->path);
	writer_free(w);
}
