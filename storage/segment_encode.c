/*
 * From sorted rows to the bytes of a segment file: segment_build.h, segment_format.h.
 *
 *   each column ─ block by block ─► stream ─ zstd if it saves a tenth ─► body
 *   sections ─────────────────────────────────────────────────────────► body
 *   header, front footer, body, footer, tail ──────────────────────────► file
 *
 * Everything is made in memory, about a fifteenth of the log file, so that the front footer can say where things lie before they are
 * written, and the file is written from front to back once.
 *
 * Threads: one at a time.
 */
#include "id_filter.h"
#include "segment_build.h"
#include "segment_column.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

enum { BLOCK_ALIGN = 8, ZSTD_BYTES_MIN = 256, RAW_RATIO_MAX = 256 };

struct encoding {
	struct segment_build *build;
	int zstd_level;
	struct column_scratch *scratch;
	ZSTD_CCtx *zstd;
	struct buffer body; /* offsets in it become offsets in the file at the end */
	struct buffer stream, planes, squeezed;
	struct segment_section section[16 + STO_EXTRAS_MAX];
	struct segment_column column[SEGMENT_COLUMNS];
	uint32_t sections, columns;
	struct buffer blocks;       /* struct segment_block */
	uint64_t *value, *position; /* of a block */
};

static void give_way(const struct encoding *e)
{
	if (e->build->yield.fn)
		e->build->yield.fn(e->build->yield.context);
}

static void align(struct buffer *buffer, uint64_t to)
{
	buffer_zeros(buffer, -buffer->bytes % to);
}

/* Compresses into e->squeezed. False: it does not pay. */
static bool squeeze(struct encoding *e, const struct buffer *from, uint64_t than)
{
	if (from->bytes < ZSTD_BYTES_MIN || from->failed)
		return false;
	uint64_t bound = ZSTD_compressBound(from->bytes);
	e->squeezed.bytes = 0;
	uint8_t *to = buffer_reserve(&e->squeezed, bound);
	if (!to)
		return false;
	size_t bytes = ZSTD_compressCCtx(e->zstd, to, bound, from->at, from->bytes, e->zstd_level);
	if (ZSTD_isError(bytes) || bytes > than - than / 10 || from->bytes > RAW_RATIO_MAX * bytes)
		return false;
	e->squeezed.bytes = bytes;
	return true;
}

/* Puts bytes into the body, in their compressed form if there is one. */
static void place_put_as(struct encoding *e, struct segment_place *place, const struct buffer *from, const struct buffer *squeezed)
{
	const struct buffer *bytes = squeezed ? squeezed : from;
	align(&e->body, SEGMENT_ALIGN);
	*place = (struct segment_place){.offset = e->body.bytes,
					.bytes = bytes->bytes,
					.raw_bytes = squeezed ? from->bytes : 0,
					.checksum = XXH3_64bits(bytes->at, bytes->bytes)};
	buffer_put(&e->body, bytes->at, bytes->bytes);
}

/* Puts bytes into the body, compressed if that pays. */
static void place_put(struct encoding *e, struct segment_place *place, const struct buffer *from, bool may_squeeze)
{
	place_put_as(e, place, from, may_squeeze && squeeze(e, from, from->bytes) ? &e->squeezed : NULL);
}

static void section_put(struct encoding *e, uint32_t kind, uint64_t count, const struct buffer *from, bool may_squeeze)
{
	struct segment_section *section = &e->section[e->sections++];
	*section = (struct segment_section){.kind = kind, .count = count};
	place_put(e, &section->place, from, may_squeeze);
}

/* ---- blocks ---- */

/* Puts the stream in e->stream, or a compressed form of the values, into `to`, and what is to know about it into the table. */
static void block_put(struct encoding *e, const uint64_t *values, uint32_t count, bool hot, struct buffer *to, struct buffer *table)
{
	const struct buffer *bytes = &e->stream;
	struct segment_block block = {.count = count};
	column_extremes(values, count, &block.min, &block.max);
	if (!hot && e->stream.bytes > ZSTD_BYTES_MIN) {
		const struct column_head *head = (const struct column_head *)(const void *)e->stream.at;
		const struct buffer *source = &e->stream;
		/* Packed bits hide what repeats; whole bytes show it. */
		if (head->encoding != COLUMN_MAPPED) {
			e->planes.bytes = 0;
			column_encode_planes(&e->planes, values, count);
			source = &e->planes;
		}
		if (squeeze(e, source, e->stream.bytes)) {
			block.raw_bytes = (uint32_t)source->bytes;
			bytes = &e->squeezed;
		}
	}
	align(to, BLOCK_ALIGN);
	block.offset = to->bytes;
	block.bytes = (uint32_t)bytes->bytes;
	block.checksum = XXH3_64bits(bytes->at, bytes->bytes);
	buffer_put(to, bytes->at, bytes->bytes);
	buffer_put(table, &block, sizeof(block));
	to->failed |= bytes->failed;
}

static bool column_empty(const struct segment_build *build, uint32_t column)
{
	return column < SEGMENT_TEXT && !build->wide[column] && !build->narrow[column];
}

static void column_plain(struct encoding *e, uint32_t column, struct buffer *to, struct buffer *table)
{
	for (uint32_t from = 0; from < e->build->rows; from += SEGMENT_BLOCK_ROWS) {
		uint32_t count = e->build->rows - from < SEGMENT_BLOCK_ROWS ? e->build->rows - from : SEGMENT_BLOCK_ROWS;
		segment_build_gather(e->build, column, from, count, e->value);
		e->stream.bytes = 0;
		column_encode(e->scratch, &e->stream, e->value, count);
		block_put(e, e->value, count, segment_column_rule[column].hot, to, table);
		give_way(e);
	}
}

/* ---- a column as a function of another ---- */

/* How many rows are looked at between two questions whether it is worth going on. */
enum { VOTE_PIECE = 4096 };

/*
 * The value that most rows of each code of the parent have (Boyer and Moore's vote, rows as they arrived), for columns of either width.
 * Returns how many rows are others, or `enough` and more where there are as many.
 */
#define TABLE_VOTE(name, type) \
	struct name##_vote { \
		type value; \
		uint32_t votes; \
	}; \
	static uint32_t name(const type *from, const uint32_t *code, uint32_t rows, struct name##_vote *vote, uint32_t enough) \
	{ \
		for (uint32_t row = 0; row < rows; row++) { \
			struct name##_vote *one = &vote[code[row]]; \
			const bool same = one->value == from[row], first = !one->votes; \
			one->value = first ? from[row] : one->value; \
			one->votes += first || same ? 1u : UINT32_MAX; \
		} \
		uint32_t others = 0; \
		for (uint32_t at = 0; at < rows && others < enough; at += VOTE_PIECE) \
			for (uint32_t row = at; row < rows && row < at + VOTE_PIECE; row++) \
				others += vote[code[row]].value != from[row]; \
		return others; \
	}
TABLE_VOTE(vote_narrow, uint32_t)
TABLE_VOTE(vote_wide, uint64_t)

/* The values by code, if so few rows have others that this may pay. 1, 0 or -ENOMEM. */
static int table_make(const struct segment_build *build, uint32_t column, uint32_t parent, uint64_t *table)
{
	const uint32_t entries = build->texts[parent - SEGMENT_TEXT].count, *code = build->arrived[parent];
	const uint32_t enough = build->rows / 4;
	const bool wide = column < SEGMENT_TEXT && build->wide[column];
	void *votes = calloc(entries, wide ? sizeof(struct vote_wide_vote) : sizeof(struct vote_narrow_vote));
	if (!votes)
		return -ENOMEM;
	uint32_t others;
	if (wide) {
		const struct vote_wide_vote *vote = votes;
		others = vote_wide(build->arrived[column], code, build->rows, votes, enough);
		for (uint32_t i = 0; i < entries && others < enough; i++)
			table[i] = vote[i].value;
	} else {
		const struct vote_narrow_vote *vote = votes;
		others = vote_narrow(build->arrived[column], code, build->rows, votes, enough);
		for (uint32_t i = 0; i < entries && others < enough; i++)
			table[i] = vote[i].value;
	}
	free(votes);
	return others < enough;
}

static void mapped_stream(struct encoding *e, uint32_t column, uint32_t parent, const uint64_t *table, uint32_t from,
			  uint32_t count)
{
	struct column_head head = {.encoding = COLUMN_MAPPED};
	const uint32_t *code = e->build->text[parent - SEGMENT_TEXT] + from;
	segment_build_gather(e->build, column, from, count, e->value);
	uint64_t *position = e->position;
	uint32_t others = 0;
	for (uint32_t i = 0; i < count; i++) {
		position[others] = i;
		others += table[code[i]] != e->value[i];
	}
	head.extra = others;
	e->stream.bytes = 0;
	buffer_put(&e->stream, &head, sizeof(head));
	if (!others)
		return;
	column_encode_plain(e->scratch, &e->stream, position, others);
	for (uint32_t i = 0; i < others; i++)
		position[i] = e->value[position[i]];
	column_encode_plain(e->scratch, &e->stream, position, others);
}

struct candidate {
	struct buffer blocks, table_of_blocks, table, table_squeezed; /* the last one is empty where it does not pay */
	uint32_t parent;
	uint64_t bytes;
};

static void candidate_fini(struct candidate *candidate)
{
	buffer_fini(&candidate->blocks);
	buffer_fini(&candidate->table_of_blocks);
	buffer_fini(&candidate->table);
	buffer_fini(&candidate->table_squeezed);
	*candidate = (struct candidate){.bytes = UINT64_MAX};
}

/* Tries one parent. False: no memory. */
static bool candidate_try(struct encoding *e, uint32_t column, uint32_t parent, struct candidate *best)
{
	const struct segment_build *build = e->build;
	uint64_t entries = build->texts[parent - SEGMENT_TEXT].count;
	if (entries < 2 || entries > build->rows)
		return true;
	uint64_t *table = malloc(entries * sizeof(*table));
	struct candidate tried = {.parent = parent};
	const int may = table ? table_make(build, column, parent, table) : -ENOMEM;
	bool good = may >= 0;
	give_way(e);
	if (may > 0) {
		column_encode_long(e->scratch, &tried.table, table, entries);
		if (squeeze(e, &tried.table, tried.table.bytes))
			buffer_put(&tried.table_squeezed, e->squeezed.at, e->squeezed.bytes);
		const uint64_t table_bytes = tried.table_squeezed.bytes ? tried.table_squeezed.bytes : tried.table.bytes;
		for (uint32_t from = 0; from < build->rows && table_bytes < best->bytes; from += SEGMENT_BLOCK_ROWS) {
			uint32_t count = build->rows - from < SEGMENT_BLOCK_ROWS ? build->rows - from : SEGMENT_BLOCK_ROWS;
			mapped_stream(e, column, parent, table, from, count);
			block_put(e, e->value, count, false, &tried.blocks, &tried.table_of_blocks);
			give_way(e);
		}
		tried.bytes = tried.blocks.bytes + table_bytes + sizeof(struct segment_place);
		good = !tried.blocks.failed && !tried.table.failed && !tried.table_squeezed.failed && !tried.table_of_blocks.failed;
		if (good && table_bytes < best->bytes && tried.bytes < best->bytes) {
			candidate_fini(best);
			*best = tried;
			tried = (struct candidate){0};
		}
	}
	candidate_fini(&tried);
	free(table);
	return good;
}

/* ---- columns ---- */

/* Blocks that were put elsewhere go to the body; their table to the whole one. */
static void blocks_take(struct encoding *e, const struct candidate *from)
{
	align(&e->body, SEGMENT_ALIGN);
	for (uint64_t at = 0; at < from->table_of_blocks.bytes; at += sizeof(struct segment_block)) {
		struct segment_block block;
		memcpy(&block, from->table_of_blocks.at + at, sizeof(block));
		block.offset += e->body.bytes;
		buffer_put(&e->blocks, &block, sizeof(block));
	}
	buffer_put(&e->body, from->blocks.at, from->blocks.bytes);
}

static uint32_t blocks_so_far(const struct encoding *e)
{
	return (uint32_t)(e->blocks.bytes / sizeof(struct segment_block));
}

static int column_put(struct encoding *e, uint32_t column)
{
	const struct segment_column_rule *rule = &segment_column_rule[column];
	struct segment_build *build = e->build;
	if (!build->rows || column_empty(build, column))
		return 0;
	struct segment_column *entry = &e->column[e->columns++];
	*entry = (struct segment_column){.column = (uint16_t)column, .parent = SEGMENT_NO_PARENT, .block = blocks_so_far(e)};
	struct candidate best = {0};
	column_plain(e, column, &best.blocks, &best.table_of_blocks);
	best.bytes = best.blocks.bytes;
	bool good = true;
	for (int i = 0; i < SEGMENT_PARENTS_MAX && rule->parent[i] && good; i++)
		if (best.bytes > build->rows / 16 + 256)
			good = candidate_try(e, column, rule->parent[i], &best);
	if (best.parent) {
		entry->parent = (uint16_t)best.parent;
		place_put_as(e, &entry->table, &best.table, best.table_squeezed.bytes ? &best.table_squeezed : NULL);
	}
	blocks_take(e, &best);
	entry->blocks = blocks_so_far(e) - entry->block;
	good &= !best.blocks.failed && !best.table_of_blocks.failed;
	candidate_fini(&best);
	if (column >= SEGMENT_TEXT && good) {
		struct text_collection *texts = &build->texts[column - SEGMENT_TEXT];
		entry->texts = texts->count;
		e->stream.bytes = 0;
		good = !text_dictionary_put(texts, e->scratch, &e->stream);
		place_put(e, &entry->dictionary, &e->stream, true);
	}
	give_way(e);
	return good ? 0 : -ENOMEM;
}

static uint64_t evidence_value(const struct tp_evidence *evidence, uint32_t column)
{
	switch (column) {
	case SEGMENT_EVIDENCE_REASON:
		return evidence->reason;
	case SEGMENT_EVIDENCE_TEXT:
		return evidence->is_text;
	case SEGMENT_EVIDENCE_DETAIL:
		return evidence->detail;
	case SEGMENT_EVIDENCE_LIMIT:
		return evidence->limit;
	default:
		return evidence->is_text ? (uint64_t)evidence->seen : column_zigzag((uint64_t)evidence->seen);
	}
}

/* A value per entry: as many in a block as its rows have, in streams one after the other where they are more than a stream holds. */
static int evidence_put(struct encoding *e, uint32_t column)
{
	const struct segment_build *build = e->build;
	const struct tp_evidence *all = (const struct tp_evidence *)(const void *)build->evidence.at;
	if (!build->evidence.bytes)
		return 0;
	struct segment_column *entry = &e->column[e->columns++];
	*entry = (struct segment_column){.column = (uint16_t)column, .parent = SEGMENT_NO_PARENT, .block = blocks_so_far(e)};
	struct buffer values = {0};
	for (uint32_t from = 0; from < build->rows; from += SEGMENT_BLOCK_ROWS) {
		values.bytes = 0;
		struct segment_block block = {.min = UINT64_MAX};
		for (uint32_t p = from; p < build->rows && p - from < SEGMENT_BLOCK_ROWS; p++) {
			uint32_t row = build->place[p], count = (uint32_t)build_value(build, SEGMENT_EVIDENCE, p);
			for (uint32_t i = 0; i < count; i++) {
				uint64_t value = evidence_value(&all[build->evidence_at[row] + i], column);
				block.min = value < block.min ? value : block.min;
				block.max = value > block.max ? value : block.max;
				buffer_put(&values, &value, sizeof(value));
			}
		}
		block.count = (uint32_t)(values.bytes / sizeof(uint64_t));
		block.min = block.count ? block.min : 0;
		e->stream.bytes = 0;
		if (!values.failed)
			column_encode_long(e->scratch, &e->stream, (const uint64_t *)(const void *)values.at, block.count);
		align(&e->body, BLOCK_ALIGN);
		block.offset = e->body.bytes;
		block.bytes = (uint32_t)e->stream.bytes;
		block.checksum = XXH3_64bits(e->stream.at, e->stream.bytes);
		buffer_put(&e->body, e->stream.at, e->stream.bytes);
		buffer_put(&e->blocks, &block, sizeof(block));
	}
	entry->blocks = blocks_so_far(e) - entry->block;
	bool failed = values.failed;
	buffer_fini(&values);
	return failed ? -ENOMEM : 0;
}

/* ---- sections ---- */

static bool row_counts(const struct segment_build *build, uint32_t place)
{
	uint64_t verdict = build_value(build, SEGMENT_VERDICT, place);
	return verdict == TP_ACCEPTED || verdict == TP_LATE;
}

static int key_compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

static int ids_put(struct encoding *e)
{
	struct buffer bytes = {0};
	id_index_put(&bytes, e->build->sorted, e->build->rows);
	section_put(e, SEGMENT_ID_INDEX, e->build->rows, &bytes, false);
	bool failed = bytes.failed;
	buffer_fini(&bytes);
	give_way(e);
	return failed ? -ENOMEM : 0;
}

/* As version 2 had them. */
static int old_ids_put(struct encoding *e)
{
	const struct segment_build *build = e->build;
	struct buffer bytes = {0};
	for (uint32_t p = 0; p < build->rows; p++)
		buffer_put(&bytes, &build->id[build->place[p]], sizeof(struct tp_id));
	section_put(e, SEGMENT_IDS, build->rows, &bytes, false);
	bytes.bytes = 0;
	give_way(e);
	for (uint32_t p = 0; p < build->rows; p++) {
		if (!row_counts(build, p))
			continue;
		const struct tp_id *id = &build->id[build->place[p]];
		uint64_t minute = build_value(build, SEGMENT_TIME, p) / TP_MINUTE_MS;
		uint64_t key = id_filter_key(id->hi, id->lo, (uint32_t)minute);
		buffer_put(&bytes, &key, sizeof(key));
	}
	struct buffer filter = {0};
	bool good = !bytes.failed;
	uint32_t keys = (uint32_t)(bytes.bytes / sizeof(uint64_t));
	uint64_t *key = (uint64_t *)(void *)bytes.at;
	if (good && build->totals.counted) {
		/* Two ids may share a key once in a blue moon; the filter wants it once. Sorted keys build faster, too. */
		qsort(key, keys, sizeof(*key), key_compare);
		uint32_t kept = 1;
		for (uint32_t i = 1; i < keys; i++)
			if (key[i] != key[kept - 1])
				key[kept++] = key[i];
		good = id_filter_build(&filter, key, kept);
		section_put(e, SEGMENT_FILTER, kept, &filter, false);
	}
	give_way(e);
	buffer_fini(&filter);
	buffer_fini(&bytes);
	return good ? 0 : -ENOMEM;
}

static int hash_compare(const void *left, const void *right)
{
	const struct segment_hash *a = left, *b = right;
	return a->row < b->row ? -1 : a->row > b->row;
}

static int hashes_put(struct encoding *e)
{
	const struct segment_build *build = e->build;
	if (!build->hashes)
		return 0;
	uint32_t *place_of = malloc((uint64_t)build->rows * sizeof(*place_of));
	struct buffer bytes = {0};
	if (!place_of)
		return -ENOMEM;
	for (uint32_t p = 0; p < build->rows; p++)
		place_of[build->place[p]] = p;
	for (uint32_t i = 0; i < build->hashes; i++) {
		const struct segment_hash hash = {.row = place_of[build->hash[i].row],
						  .fingerprint = build->hash[i].fingerprint,
						  .shard_hash = build->hash[i].shard_hash};
		buffer_put(&bytes, &hash, sizeof(hash));
	}
	if (bytes.at)
		qsort(bytes.at, build->hashes, sizeof(struct segment_hash), hash_compare);
	section_put(e, SEGMENT_HASHES, build->hashes, &bytes, false);
	bool failed = bytes.failed;
	buffer_fini(&bytes);
	free(place_of);
	return failed ? -ENOMEM : 0;
}

static int campaigns_put(struct encoding *e)
{
	struct buffer bytes = {0};
	uint64_t count;
	int rc = segment_build_campaigns(e->build, e->scratch, &bytes, &count);
	if (!rc)
		section_put(e, SEGMENT_CAMPAIGNS, count, &bytes, true);
	buffer_fini(&bytes);
	return rc;
}

static void rollup_put(struct encoding *e, const struct segment_build_options *options)
{
	struct buffer rows = {0}, heap = {0};
	for (uint32_t i = 0; i < options->rollup_rows; i++) {
		struct tp_rollup_row row = options->rollup[i];
		uint32_t strings = 0;
		for (int d = 0; d < TP_DIMENSIONS; d++)
			strings += row.string_bytes[d];
		buffer_put(&heap, options->heap + row.string_at, strings);
		row.string_at = (uint32_t)(heap.bytes - strings);
		row.key_hash = 0;
		buffer_put(&rows, &row, sizeof(row));
	}
	section_put(e, SEGMENT_ROLLUP, options->rollup_rows, &rows, true);
	section_put(e, SEGMENT_ROLLUP_HEAP, heap.bytes, &heap, true);
	e->body.failed |= rows.failed | heap.failed;
	buffer_fini(&rows);
	buffer_fini(&heap);
}

static void extras_put(struct encoding *e, const struct segment_build_options *options)
{
	if (e->build->raw_records)
		section_put(e, SEGMENT_RAW, e->build->raw_records, &e->build->raw, true);
	for (uint32_t i = 0; i < options->extras; i++) {
		const struct buffer bytes = {.at = (uint8_t *)(uintptr_t)options->extra[i].bytes,
					     .bytes = options->extra[i].length};
		section_put(e, options->extra[i].kind, 1, &bytes, true);
	}
}

/* ---- the file ---- */

static uint64_t header_checksum_two(const struct segment_header *header)
{
	return XXH3_64bits(header->prev_sha256, sizeof(*header) - SEGMENT_HEADER_V1_BYTES - sizeof(header->checksum_two));
}

void segment_chain(struct buffer *file, const uint8_t prev_sha256[32])
{
	struct segment_header *header = (struct segment_header *)(void *)file->at;
	memcpy(header->prev_sha256, prev_sha256, sizeof(header->prev_sha256));
	header->checksum_two = header_checksum_two(header);
}

static void file_put(struct encoding *e, const struct segment_build_options *options, struct buffer *out)
{
	uint64_t footer_bytes = sizeof(struct segment_footer) + e->sections * sizeof(struct segment_section) +
				e->columns * sizeof(struct segment_column) + e->blocks.bytes;
	align(&e->body, SEGMENT_ALIGN);
	uint64_t front_at = sizeof(struct segment_header);
	uint64_t body_at = (front_at + footer_bytes + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
	uint64_t footer_at = body_at + e->body.bytes;
	uint64_t tail_at = (footer_at + footer_bytes + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
	uint64_t file_bytes = tail_at + sizeof(struct segment_tail);

	for (uint32_t i = 0; i < e->sections; i++)
		e->section[i].place.offset += body_at;
	for (uint32_t i = 0; i < e->columns; i++) {
		if (e->column[i].texts)
			e->column[i].dictionary.offset += body_at;
		if (e->column[i].parent != SEGMENT_NO_PARENT)
			e->column[i].table.offset += body_at;
	}
	struct segment_block *block = (struct segment_block *)(void *)e->blocks.at;
	for (uint32_t i = 0; i < blocks_so_far(e); i++)
		block[i].offset += body_at;

	const uint32_t version = options->old_ids ? SEGMENT_VERSION_OLD_IDS : SEGMENT_VERSION;
	struct segment_footer fixed;
	memset(&fixed, 0, sizeof(fixed));
	fixed.bytes = (uint32_t)footer_bytes;
	fixed.version = version;
	fixed.file_bytes = file_bytes;
	fixed.totals = e->build->totals;
	fixed.raw_records = e->build->raw_records;
	fixed.sections = e->sections;
	fixed.columns = e->columns;
	fixed.blocks = blocks_so_far(e);
	struct buffer footer = {0};
	buffer_put(&footer, &fixed, sizeof(fixed));
	buffer_put(&footer, e->section, e->sections * sizeof(e->section[0]));
	buffer_put(&footer, e->column, e->columns * sizeof(e->column[0]));
	buffer_put(&footer, e->blocks.at, e->blocks.bytes);

	struct segment_header header = {.magic = SEGMENT_MAGIC,
					.version = version,
					.shard = options->shard,
					.sequence = options->sequence,
					.file_id = options->file_id,
					.sealed_ms = options->sealed_ms,
					.footer_offset = front_at,
					.footer_bytes = footer_bytes,
					.footer_checksum = footer.failed ? 0 : XXH3_64bits(footer.at, footer.bytes),
					.file_bytes = file_bytes,
					.hashing = SEGMENT_HASHING,
					.block_rows = SEGMENT_BLOCK_ROWS};
	memcpy(header.node_id, options->node_id, sizeof(header.node_id));
	if (options->prev_sha256)
		memcpy(header.prev_sha256, options->prev_sha256, sizeof(header.prev_sha256));
	header.checksum = XXH3_64bits(&header, offsetof(struct segment_header, checksum));
	header.checksum_two = header_checksum_two(&header);
	struct segment_tail tail = {.magic = SEGMENT_MAGIC_END,
				    .footer_offset = footer_at,
				    .footer_bytes = footer_bytes,
				    .footer_checksum = header.footer_checksum,
				    .file_bytes = file_bytes,
				    .version = version};
	tail.checksum = XXH3_64bits(&tail, offsetof(struct segment_tail, checksum));

	out->failed |= footer.failed | e->body.failed;
	buffer_put(out, &header, sizeof(header));
	buffer_put(out, footer.at, footer.bytes);
	align(out, SEGMENT_ALIGN);
	buffer_put(out, e->body.at, e->body.bytes);
	buffer_put(out, footer.at, footer.bytes);
	align(out, SEGMENT_ALIGN);
	buffer_put(out, &tail, sizeof(tail));
	buffer_fini(&footer);
	assert(out->failed || out->bytes == file_bytes);
}

int segment_build_file(struct segment_build *build, const struct segment_build_options *options, struct buffer *out)
{
	struct encoding *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->build = build;
	e->zstd_level = options->zstd_level;
	uint64_t block_rows = build->rows < SEGMENT_BLOCK_ROWS ? build->rows : SEGMENT_BLOCK_ROWS;
	e->scratch = column_scratch_new();
	e->zstd = ZSTD_createCCtx();
	e->value = malloc((2 * block_rows + 1) * sizeof(*e->value));
	e->position = e->value + block_rows;
	int rc = e->scratch && e->zstd && e->value ? 0 : -ENOMEM;
	for (uint32_t c = 0; c < SEGMENT_COLUMNS && !rc; c++) {
		if (c >= SEGMENT_EVIDENCE_REASON && c < SEGMENT_NUMBERS)
			rc = evidence_put(e, c);
		else if (segment_column_rule[c].name)
			rc = column_put(e, c);
	}
	if (!rc && build->rows)
		rc = options->old_ids ? old_ids_put(e) : ids_put(e);
	if (!rc)
		rc = hashes_put(e);
	if (!rc)
		rc = campaigns_put(e);
	if (!rc) {
		if (options->with_rollup)
			rollup_put(e, options);
		extras_put(e, options);
		file_put(e, options, out);
		rc = out->failed || e->stream.failed || e->planes.failed || e->blocks.failed ? -ENOMEM : 0;
	}
	column_scratch_free(e->scratch);
	ZSTD_freeCCtx(e->zstd);
	free(e->value);
	buffer_fini(&e->body);
	buffer_fini(&e->stream);
	buffer_fini(&e->planes);
	buffer_fini(&e->squeezed);
	buffer_fini(&e->blocks);
	free(e);
	return rc;
}
