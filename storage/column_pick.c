/*
 * Which rows have a wanted value, and the values of some rows, without reading all of a stream to memory: column_cursor.h.
 *
 * A predicate looks at each run once, at a constant once, and else at pieces that lie in the first-level cache; its answer is a bit a row,
 * so that several are one AND. What few rows are wanted then costs their own values only: bit-packed ones lie where their number says.
 *
 * Threads: any, no state.
 */
#include "column_cursor_state.h"

enum { WORD = 64 };
static_assert(COLUMN_PIECE % WORD == 0, "pieces are whole words of bits");

static inline bool is_wanted(const struct column_want *want, uint64_t value)
{
	return want->set ? value < 32 && want->set >> value & 1 : value - want->from < want->span;
}

COLUMN_VECTORISED static void words_by_range(const uint64_t *value, uint32_t words, uint64_t from, uint64_t span, uint64_t *bits)
{
	for (uint32_t w = 0; w < words; w++, value += WORD) {
		uint64_t word = 0;
		for (uint32_t i = 0; i < WORD; i++)
			word |= (uint64_t)(value[i] - from < span) << i;
		bits[w] = word;
	}
}

COLUMN_VECTORISED static void words_by_set(const uint64_t *value, uint32_t words, uint64_t set, uint64_t *bits)
{
	for (uint32_t w = 0; w < words; w++, value += WORD) {
		uint64_t word = 0;
		for (uint32_t i = 0; i < WORD; i++)
			word |= (set >> (value[i] < 32 ? value[i] : 63) & 1) << i;
		bits[w] = word;
	}
}

void column_match_values(const uint64_t *value, uint32_t count, const struct column_want *want, uint64_t *bits)
{
	uint32_t words = count / WORD, rest = count % WORD;
	if (want->set)
		words_by_set(value, words, want->set, bits);
	else
		words_by_range(value, words, want->from, want->span, bits);
	if (!rest)
		return;
	bits[words] = 0;
	for (uint32_t i = 0; i < rest; i++)
		bits[words] |= (uint64_t)is_wanted(want, value[words * WORD + i]) << i;
}

static void bits_set(uint64_t *bits, uint64_t from, uint64_t count)
{
	uint64_t word = from / WORD, left = WORD - from % WORD;
	if (count <= left) {
		bits[word] |= (count == WORD ? UINT64_MAX : ((uint64_t)1 << count) - 1) << from % WORD;
		return;
	}
	bits[word++] |= UINT64_MAX << from % WORD;
	for (count -= left; count >= WORD; count -= WORD)
		bits[word++] = UINT64_MAX;
	if (count)
		bits[word] |= ((uint64_t)1 << count) - 1;
}

static void bits_put(uint64_t *bits, uint32_t i, bool on)
{
	uint64_t bit = (uint64_t)1 << i % WORD;
	bits[i / WORD] = on ? bits[i / WORD] | bit : bits[i / WORD] & ~bit;
}

static bool match_runs(const struct column_cursor *cursor, const struct column_want *want, uint64_t min, uint64_t max,
		       uint64_t *bits)
{
	uint64_t at = 0, outside = 0;
	memset(bits, 0, (cursor->count + WORD - 1) / WORD * sizeof(*bits));
	for (uint32_t r = 0; r < cursor->entries; r++) {
		uint64_t value = cursor->entry[r], length = cursor->length[r] + 1;
		outside |= (uint64_t)(value - min > max - min);
		if (is_wanted(want, value))
			bits_set(bits, at, length);
		at += length;
	}
	return !outside;
}

/* One value, but for the patches. */
static bool match_constant(const struct column_cursor *cursor, const struct column_want *want, uint64_t min, uint64_t max,
			   uint64_t *bits)
{
	uint64_t outside = cursor->patches < cursor->count && cursor->base - min > max - min;
	uint32_t next = 0;
	memset(bits, 0, (cursor->count + WORD - 1) / WORD * sizeof(*bits));
	if (is_wanted(want, cursor->base))
		bits_set(bits, 0, cursor->count);
	for (uint32_t p = 0; p < cursor->patches; p++) {
		uint32_t position = column_patch_position(cursor, p);
		uint64_t value = cursor->base + column_patch(cursor, p);
		if (position < next || position >= cursor->count)
			return false;
		outside |= (uint64_t)(value - min > max - min);
		bits_put(bits, position, is_wanted(want, value));
		next = position + 1;
	}
	return !outside;
}

COLUMN_VECTORISED bool column_within(const uint64_t *value, uint32_t count, uint64_t min, uint64_t max)
{
	uint64_t outside = 0;
	for (uint32_t i = 0; i < count; i++)
		outside |= (uint64_t)(value[i] - min > max - min);
	return !outside;
}

bool column_match(struct column_cursor *cursor, const struct column_want *want, uint64_t min, uint64_t max, uint64_t *bits)
{
	uint64_t piece[COLUMN_PIECE];
	if (cursor->encoding == COLUMN_RUNS)
		return match_runs(cursor, want, min, max, bits);
	if (cursor->encoding <= COLUMN_PATCHED && !cursor->width)
		return match_constant(cursor, want, min, max, bits);
	for (uint32_t done = 0; done < cursor->count; done += COLUMN_PIECE) {
		uint32_t count = cursor->count - done < COLUMN_PIECE ? cursor->count - done : COLUMN_PIECE;
		if (!column_cursor_next(cursor, piece, count) || !column_within(piece, count, min, max))
			return false;
		column_match_values(piece, count, want, bits + done / WORD);
	}
	return true;
}

/* ---- the values of some rows ---- */

static void gather_runs(const struct column_cursor *cursor, const uint32_t *row, uint32_t rows, uint64_t *to)
{
	uint64_t end = cursor->length[0] + 1;
	uint32_t run = 0;
	for (uint32_t i = 0; i < rows; i++) {
		while (row[i] >= end)
			end += cursor->length[++run] + 1;
		to[i] = cursor->entry[run];
	}
}

static bool gather_plain(struct column_cursor *cursor, const uint32_t *row, uint32_t rows, uint64_t *to)
{
	const uint64_t base = cursor->base;
	const uint8_t *at = cursor->packed;
	const uint32_t width = cursor->width;
	if (!width)
		for (uint32_t i = 0; i < rows; i++)
			to[i] = base;
	else
		for (uint32_t i = 0; i < rows; i++)
			to[i] = base + column_packed_at(at, width, row[i]);
	uint32_t next = 0, i = 0;
	for (uint32_t p = 0; p < cursor->patches; p++) {
		uint32_t position = column_patch_position(cursor, p);
		if (position < next || position >= cursor->count)
			return false;
		while (i < rows && row[i] < position)
			i++;
		if (i < rows && row[i] == position)
			to[i] += column_patch(cursor, p);
		next = position + 1;
	}
	return true;
}

/* What has to be read in turn: piece by piece, up to the last one that is wanted. */
static bool gather_in_turn(struct column_cursor *cursor, const uint32_t *row, uint32_t rows, uint64_t *to)
{
	uint64_t piece[COLUMN_PIECE];
	for (uint32_t i = 0; i < rows;) {
		const uint32_t first = cursor->done, left = cursor->count - first,
			       count = left < COLUMN_PIECE ? left : COLUMN_PIECE;
		if (!(cursor->encoding == COLUMN_PLANES ? column_cursor_next : column_plain_next)(cursor, piece, count))
			return false;
		for (; i < rows && row[i] - first < count; i++)
			to[i] = piece[row[i] - first];
	}
	return true;
}

bool column_gather(struct column_cursor *cursor, const uint32_t *row, uint32_t rows, uint64_t *to)
{
	if (cursor->encoding == COLUMN_RUNS) {
		gather_runs(cursor, row, rows, to);
		return true;
	}
	bool in_turn = cursor->delta || cursor->encoding == COLUMN_PLANES;
	return (in_turn ? gather_in_turn : gather_plain)(cursor, row, rows, to) &&
	       (cursor->encoding != COLUMN_DICTIONARY || column_codes_look_up(to, rows, cursor->entry, cursor->entries));
}
