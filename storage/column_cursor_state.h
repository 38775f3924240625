/*
 * Cursors, for the files that read streams: what is inside of them.
 */
#ifndef STORAGE_COLUMN_CURSOR_STATE_H
#define STORAGE_COLUMN_CURSOR_STATE_H

#include "column_cursor.h"
#include "column_unpack.h"

/* What patch number `patch` adds to its value, and where that stands. */
uint64_t column_patch(const struct column_cursor *cursor, uint32_t patch);

static inline uint32_t column_patch_position(const struct column_cursor *cursor, uint32_t patch)
{
	uint16_t position;
	memcpy(&position, cursor->position + 2 * (uint64_t)patch, sizeof(position));
	return position;
}

/* As column_cursor_next(), but of a DICTIONARY the codes, and of RUNS and PLANES nothing. */
bool column_plain_next(struct column_cursor *cursor, uint64_t *to, uint32_t count);

/* Codes become what they stand for. False: a code beyond the entries; nothing was changed. */
bool column_codes_look_up(uint64_t *code, uint32_t count, const uint64_t *entry, uint64_t entries);

#endif
