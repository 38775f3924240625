/*
 * Reading a stream of column.h piece by piece, so that what is read next lies in the first-level cache; and, without reading all of it:
 * which rows have a wanted value, and the values of some rows.
 *
 * Threads: any; all state is the caller's.
 */
#ifndef STORAGE_COLUMN_CURSOR_H
#define STORAGE_COLUMN_CURSOR_H

#include "column.h"

enum { COLUMN_PIECE = 1024 /* values; a multiple of 64, so that pieces start at whole bytes and words of bits */ };

struct column_cursor {
	const uint8_t *end; /* of the stream */
	uint32_t count, done;
	uint8_t encoding;
	bool delta, zigzag;
	/* FRAME, PATCHED: of the values, the differences or the codes; PLANES: `width` planes at `packed` */
	uint32_t width;
	uint64_t base;
	const uint8_t *packed;
	uint32_t width_patch, patches, patch; /* patch: the next one */
	const uint8_t *position, *high;
	uint64_t value;         /* DELTA: the one before */
	uint32_t entries;       /* DICTIONARY: in room; RUNS: how many */
	const uint64_t *entry;  /* … of a dictionary; the values of runs */
	const uint64_t *length; /* of runs, less one; they sum up to `count` */
	uint32_t run, run_done;
};

/* How many values of `room` column_cursor_open() needs, at most twice `count`. */
uint32_t column_cursor_room(const uint8_t *at, const uint8_t *end, uint32_t count);
/*
 * At the first of `count` values; as column_decode(), but no MAPPED stream. `room` stays the cursor's. False: not well-formed as far as that can be
 * said without reading all; then, or with NULL, nothing may be asked of it. cursor->end is where the stream ends.
 */
bool column_cursor_open(struct column_cursor *cursor, const uint8_t *at, const uint8_t *end, uint32_t count, uint64_t *room);
/* The next `count` values: a multiple of COLUMN_PIECE, or all that are left. False: not well-formed. */
bool column_cursor_next(struct column_cursor *cursor, uint64_t *to, uint32_t count);

/* Which values are wanted. */
struct column_want {
	uint64_t from, span; /* value - from < span … */
	uint32_t set;        /* … or, if not 0, value < 32 with its bit in here */
};

/*
 * Sets bit i of `bits` (whole words of 64) if value i is wanted, else clears it. Reads all values, each of which must be within [min, max].
 * `cursor` is newly opened. False: not well-formed, or a value outside.
 */
bool column_match(struct column_cursor *cursor, const struct column_want *want, uint64_t min, uint64_t max, uint64_t *bits);
/* The same of values that are there. */
void column_match_values(const uint64_t *value, uint32_t count, const struct column_want *want, uint64_t *bits);
/* Are all values within [min, max]? */
bool column_within(const uint64_t *value, uint32_t count, uint64_t min, uint64_t max);

/*
 * The values of `rows` rows of the stream, ascending, reading no more than that takes. `cursor` is newly opened. False: not well-formed.
 */
bool column_gather(struct column_cursor *cursor, const uint32_t *row, uint32_t rows, uint64_t *to);

#endif
