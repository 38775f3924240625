/*
 * Making a segment: rows come in one by one and go into columns in memory; then they are sorted, encoded, and the file's bytes made.
 *
 *   segment_build_new ─► segment_build_event(s) (many) ─► segment_build_sort ─► segment_build_file ─► segment_build_free
 *
 * Threads: one at a time. Memory: about 200 bytes a row and each distinct string once, a bit more than half of what the log file takes.
 */
#ifndef STORAGE_SEGMENT_BUILD_H
#define STORAGE_SEGMENT_BUILD_H

#include "column_text.h"
#include "id_index.h"
#include "segment_format.h"

#include "turnpike/rollup.h"
#include "turnpike/store.h"

/* Called now and then with what it needs, to let go of the core. */
struct segment_yield {
	void (*fn)(void *context); /* may be NULL */
	void *context;
};

/* A row whose hashes are not what its payload says. */
struct build_hash {
	uint32_t row; /* of the log */
	uint64_t fingerprint, shard_hash;
};

struct segment_build {
	uint32_t rows, rows_max;
	uint64_t seed;                /* of hash tables */
	struct segment_totals totals; /* watermark_ms is the caller's */
	struct segment_yield yield;
	struct tp_id *id; /* by arrival */
	/* by arrival, after the sort by place; a column of numbers that was zero so far is NULL */
	uint64_t *wide[SEGMENT_ROW_NUMBERS];   /* the columns that need 64 bits … */
	uint32_t *narrow[SEGMENT_ROW_NUMBERS]; /* … and the others */
	uint32_t *text[TP_STRINGS];            /* index into texts[]; after the sort: code */
	uint32_t *evidence_at;                 /* first entry of the row, by arrival; NULL while there is none */
	struct text_collection texts[TP_STRINGS];
	uint8_t order[TP_STRINGS]; /* enum text_order of the codes */
	struct buffer evidence;    /* struct tp_evidence */
	struct build_hash *hash;
	uint32_t hashes, hashes_max;
	struct buffer raw;
	uint64_t raw_records;
	/* after the sort: the row that lies at each place; columns that may follow from one another, by arrival; ids with their places */
	uint32_t *place;
	void *arrived[SEGMENT_COLUMNS]; /* as wide as the column; others are NULL */
	struct id_place *sorted;
};

struct segment_build *segment_build_new(const struct segment_yield *yield); /* NULL: no memory */
void segment_build_free(struct segment_build *build);

/* ---- segment_take.c ---- */

enum { SEGMENT_TAKE_BURST = TEXT_BURST };

/* Room for so many rows at once, for who knows how many will come. 0, -ENOMEM or -EOVERFLOW. */
int segment_build_reserve(struct segment_build *build, uint64_t rows);

/*
 * Takes records of a log or of another segment, up to SEGMENT_TAKE_BURST. 0 or -ENOMEM, -EOVERFLOW (2^30 rows). Events are rows build->rows and
 * following: text[][row] has the indexes of their texts.
 */
int segment_build_events(struct segment_build *build, const struct tp_event *const *event, uint32_t count);
/* One record, of any kind. */
int segment_build_event(struct segment_build *build, const struct tp_event *event);

/* ---- segment_build.c ---- */

/* Sorts, gives codes their order, moves columns to their places. 0, -ENOMEM, or -EEXIST: an id was counted twice in one minute. */
int segment_build_sort(struct segment_build *build);

/* Value of a column of numbers, or code of a column of texts, of the row that arrived as `row`-th; after the sort, of that place. */
static inline uint64_t build_value(const struct segment_build *build, uint32_t column, uint32_t row)
{
	if (column >= SEGMENT_TEXT)
		return build->text[column - SEGMENT_TEXT][row];
	if (build->wide[column])
		return build->wide[column][row];
	return build->narrow[column] ? build->narrow[column][row] : 0;
}

/* Values of a column at places [from, from + count), after the sort. */
void segment_build_gather(const struct segment_build *build, uint32_t column, uint32_t from, uint32_t count, uint64_t *to);

/* ---- segment_encode.c ---- */

struct segment_build_options {
	uint32_t shard;
	uint64_t sequence, file_id, sealed_ms;
	const uint8_t *node_id;     /* 16 */
	const uint8_t *prev_sha256; /* 32; NULL: zeros */
	int zstd_level;
	bool old_ids;                       /* a file of version 2: for tests of what reads them */
	bool with_rollup;                   /* the rows below go in as they are: they do not follow from the events */
	const struct tp_rollup_row *rollup; /* sorted; string_at points into `heap` */
	uint32_t rollup_rows;
	const char *heap;
	const struct sto_extra *extra;
	uint32_t extras;
};

/* Appends the whole file to `out`. 0 or -ENOMEM. */
int segment_build_file(struct segment_build *build, const struct segment_build_options *options, struct buffer *out);

/* Puts the chain into the bytes of a file. */
void segment_chain(struct buffer *file, const uint8_t prev_sha256[32]);

/* ---- segment_derive.c ---- */

/* The campaigns section: streams of campaign code, currency, five counts, low and high half of spend. 0 or -ENOMEM. */
int segment_build_campaigns(struct segment_build *build, struct column_scratch *scratch, struct buffer *out, uint64_t *count);
/* Do the rows of this table follow from the events? 1, 0 or -ENOMEM. */
int segment_build_follows(struct segment_build *build, const struct tp_rollup_row *rows, uint32_t count, const char *heap);

/* ---- totals: what sealing and verifying compare ---- */
void segment_totals_init(struct segment_totals *totals);
void segment_totals_add(struct segment_totals *totals, const struct tp_event *event);

#endif
