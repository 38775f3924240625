/*
 * Decoding the columns of a mapped segment, a block at a time: what events, look-ups and scans are made from.
 *
 * Each user has one of its own; any number of threads may decode one segment at the same time, since the mapping never changes.
 * Every block is checked by its checksum before it is decoded, every value against what it may be.
 */
#ifndef STORAGE_SEGMENT_ROWS_H
#define STORAGE_SEGMENT_ROWS_H

#include "column_cursor.h"
#include "column_text.h"
#include "segment.h"

struct ZSTD_DCtx_s;

struct segment_rows {
	const struct segment *segment;
	const struct segment_column *column[SEGMENT_COLUMNS]; /* NULL: zero in all rows */
	uint32_t blocks;                                      /* of rows */
	uint32_t block_rows;                                  /* the most rows that a block has */
	uint32_t room;                                        /* … for which value[] and zeros have memory */
	uint64_t *value[SEGMENT_COLUMNS];                     /* of the block in held[] */
	uint32_t held[SEGMENT_COLUMNS];                       /* block number + 1; 0: none */
	uint32_t checked[SEGMENT_COLUMNS];                    /* the block whose checksum was right last, + 1 */
	uint64_t *table[SEGMENT_COLUMNS];
	uint64_t used, used_texts; /* bit set: columns whose blocks, and whose dictionaries, were asked for */
	struct text_dictionary dictionary[TP_STRINGS];
	uint64_t *zeros; /* a block of a column that is not there */
	uint64_t *pick;  /* what cursors need: two values a row of a block */
	struct buffer raw;
	struct ZSTD_DCtx_s *zstd; /* made when it is needed */
	/* for segment_rows_event() only; segment_rows_prepare() sets them */
	const struct tp_id *id; /* of each row; NULL: all rows that are asked for have `one_id` */
	struct tp_id one_id;
	const struct segment_hash *hash; /* rows whose hashes do not follow from their payload */
	uint64_t hashes;
	uint32_t evidence_row, evidence_entry; /* evidence of the rows before this one */
	struct tp_id *own_id;                  /* `id`, if the file does not have them in the order of the rows */
	uint64_t own_ids;                      /* room */
};

/* `rows` is zeroed, or was used for another segment, whose memory it then uses again. 0 or -ENOMEM; closed then. */
int segment_rows_open(struct segment_rows *rows, const struct segment *segment);
void segment_rows_close(struct segment_rows *rows);

uint32_t segment_rows_count(const struct segment_rows *rows, uint32_t block);

/* The values of a row column in a block; valid until the next block of that column. NULL: damage, logged (or no memory). */
const uint64_t *segment_rows_values(struct segment_rows *rows, uint32_t column, uint32_t block);
/*
 * A cursor at the block's first value; one at a time, valid until the next call for these rows. 1; 0: take the values, because the column is
 * zero, depends on another one, or is decoded already; -EBADMSG: damage, logged.
 */
int segment_rows_cursor(struct segment_rows *rows, uint32_t column, uint32_t block, struct column_cursor *cursor);
/* Sets bit i of `bits` (as many words as the block's rows need) if row i has a wanted value, else clears it. 0; -EBADMSG: damage, logged. */
int segment_rows_match(struct segment_rows *rows, uint32_t column, uint32_t block, const struct column_want *want, uint64_t *bits);
/*
 * The values of `count` rows of the block, ascending, in `to`; where it can be, without decoding the others. What is not read is not held
 * against the zone map: segment_verify() does that. 0; -EBADMSG: damage, logged.
 */
int segment_rows_gather(struct segment_rows *rows, uint32_t column, uint32_t block, const uint32_t *row, uint32_t count,
			uint64_t *to);
/* The block's place and zone map; NULL for a column that is zero in all rows. */
const struct segment_block *segment_rows_zone(const struct segment_rows *rows, uint32_t column, uint32_t block);
/* Its bytes, checked and decompressed: one stream. NULL: damage. *end is where they end. */
const uint8_t *segment_rows_stream(struct segment_rows *rows, uint32_t column, uint32_t block, const uint8_t **end);
/* The dictionary of a column of texts. NULL: damage. */
const struct text_dictionary *segment_rows_dictionary(struct segment_rows *rows, enum tp_string string);

/* Checks what records need besides columns; the segment's owner only. 0, -EBADMSG or -ENOMEM. */
int segment_rows_prepare(struct segment_rows *rows, struct segment *segment);
/* The same for rows that all have this id, without reading other ids. */
int segment_rows_prepare_one(struct segment_rows *rows, struct segment *segment, struct tp_id id);
/* All columns of the block for segment_rows_event(). 0 or -EBADMSG. */
int segment_rows_load(struct segment_rows *rows, uint32_t block);
/* Rebuilds the record of row `row` of the loaded block in `to` (TP_EVENT_BYTES_MAX, 8-byte aligned). 0 or -EBADMSG. */
int segment_rows_event(struct segment_rows *rows, uint32_t block, uint32_t row, struct tp_event *to);

/* Checked bytes of a place: in the mapping, or decompressed into `memory`. 0, -EBADMSG or -ENOMEM. */
int segment_place_read(const struct segment *segment, const struct segment_place *place, struct buffer *memory, const uint8_t **at,
		       uint64_t *bytes);

#endif
