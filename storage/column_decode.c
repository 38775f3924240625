/*
 * Decoding integer streams: column.h has the bytes. Nothing in a stream is believed: every length is checked against what is there
 * before it is used.
 *
 * Threads: any, no state.
 */
#include "column_cursor_state.h"

static const char *const encoding_name[COLUMN_ENCODINGS] = {"frame", "patched", "delta", "runs", "dictionary", "planes", "mapped"};

const char *column_encoding_name(enum column_encoding encoding)
{
	return (unsigned)encoding < COLUMN_ENCODINGS ? encoding_name[encoding] : NULL;
}

static const uint8_t *head_read(const uint8_t *at, const uint8_t *end, struct column_head *head)
{
	if (!at || (uint64_t)(end - at) < sizeof(*head))
		return NULL;
	memcpy(head, at, sizeof(*head));
	return head->zero ? NULL : at + sizeof(*head);
}

/* ---- FRAME, PATCHED and DELTA ---- */

static bool plain_open(struct column_cursor *cursor, const struct column_head *head, const uint8_t *at, const uint8_t *end)
{
	uint64_t bytes = column_packed_bytes(cursor->count, head->width);
	if (head->width > 64 || bytes > (uint64_t)(end - at))
		return false;
	cursor->packed = at;
	cursor->width = head->width;
	cursor->base = head->base;
	at += bytes;
	if (head->encoding == COLUMN_PATCHED) {
		if (head->extra > cursor->count || (uint64_t)(end - at) < 2 * (uint64_t)head->extra || head->width > 63 ||
		    head->width_patch > 64 - head->width)
			return false;
		cursor->patches = head->extra;
		cursor->width_patch = head->width_patch;
		cursor->position = at;
		cursor->high = at += 2 * (uint64_t)head->extra;
		bytes = column_packed_bytes(head->extra, head->width_patch);
		if ((uint64_t)(end - at) < bytes)
			return false;
		at += bytes;
	}
	cursor->end = at;
	return true;
}

/* FRAME, PATCHED or DELTA. */
static bool inner_open(struct column_cursor *cursor, const uint8_t *at, const uint8_t *end)
{
	struct column_head head;
	at = head_read(at, end, &head);
	if (at && head.encoding == COLUMN_DELTA) {
		cursor->delta = true;
		cursor->zigzag = head.extra;
		cursor->value = head.base;
		at = head_read(at, end, &head);
	}
	return at && head.encoding <= COLUMN_PATCHED && plain_open(cursor, &head, at, end);
}

uint64_t column_patch(const struct column_cursor *cursor, uint32_t patch)
{
	return cursor->width_patch ? column_packed_at(cursor->high, cursor->width_patch, patch) << cursor->width : 0;
}

/* Of the next `count` values. */
static bool patches_add(struct column_cursor *cursor, uint64_t *to, uint32_t count)
{
	const uint64_t until = (uint64_t)cursor->done + count;
	uint64_t next = cursor->done;
	for (; cursor->patch < cursor->patches; cursor->patch++) {
		uint32_t position = column_patch_position(cursor, cursor->patch);
		if (position < next)
			return false; /* they ascend */
		if (position >= until)
			break;
		to[position - cursor->done] += column_patch(cursor, cursor->patch);
		next = (uint64_t)position + 1;
	}
	return until < cursor->count || cursor->patch == cursor->patches;
}

static void deltas_sum(struct column_cursor *cursor, uint64_t *to, uint32_t count)
{
	/* the first difference means nothing */
	if (!cursor->done)
		to[0] = 0;
	cursor->value = column_add_up(to, count, cursor->value, cursor->zigzag);
}

bool column_plain_next(struct column_cursor *cursor, uint64_t *to, uint32_t count)
{
	column_unpack(cursor->packed + (uint64_t)cursor->done / 8 * cursor->width, cursor->width, cursor->base, to, count);
	if (cursor->patches && !patches_add(cursor, to, count))
		return false;
	if (cursor->delta)
		deltas_sum(cursor, to, count);
	cursor->done += count;
	return true;
}

/* All of a stream within a stream. Where it ends, or NULL. */
static const uint8_t *inner_read(const uint8_t *at, const uint8_t *end, uint64_t *to, uint32_t count)
{
	struct column_cursor inner = {.count = count};
	return at && inner_open(&inner, at, end) && column_plain_next(&inner, to, count) ? inner.end : NULL;
}

/* ---- RUNS and DICTIONARY ---- */

/* Reads `runs` runs, whose lengths less one must sum up to `count` values. */
static const uint8_t *runs_read(const uint8_t *at, const uint8_t *end, uint32_t runs, uint64_t *value, uint64_t *length,
				uint32_t count)
{
	uint32_t filled = 0;
	if (!runs || runs > count)
		return NULL;
	at = inner_read(at, end, value, runs);
	at = inner_read(at, end, length, runs);
	for (uint32_t r = 0; at && r < runs; r++) {
		if (length[r] >= count - filled)
			return NULL;
		filled += (uint32_t)length[r] + 1;
	}
	return filled == count ? at : NULL;
}

uint32_t column_decode_runs(const uint8_t *at, const uint8_t *end, uint64_t *value, uint64_t *length, uint32_t count)
{
	struct column_head head;
	at = head_read(at, end, &head);
	if (!at || head.encoding != COLUMN_RUNS || !runs_read(at, end, head.extra, value, length, count))
		return 0;
	for (uint32_t r = 0; r < head.extra; r++)
		length[r]++;
	return head.extra;
}

COLUMN_VECTORISED static void fill_long(uint64_t *to, uint64_t value, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] = value;
}

static inline void fill(uint64_t *to, uint64_t value, uint32_t count)
{
	enum { LONG = 32 };
	if (count >= LONG)
		fill_long(to, value, count);
	else
		for (uint32_t i = 0; i < count; i++)
			to[i] = value;
}

static void runs_next(struct column_cursor *cursor, uint64_t *to, uint32_t count)
{
	uint32_t filled = 0;
	while (filled < count) {
		uint64_t left = cursor->length[cursor->run] + 1 - cursor->run_done;
		uint32_t piece = left < count - filled ? (uint32_t)left : count - filled;
		fill(to + filled, cursor->entry[cursor->run], piece);
		filled += piece;
		cursor->run_done += piece;
		if (piece == left) {
			cursor->run++;
			cursor->run_done = 0;
		}
	}
	cursor->done += count;
}

COLUMN_VECTORISED static uint64_t codes_most(const uint64_t *code, uint32_t count)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < count; i++)
		most = code[i] > most ? code[i] : most;
	return most;
}

COLUMN_VECTORISED static void codes_replace(uint64_t *code, const uint64_t *entry, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		code[i] = entry[code[i]];
}

bool column_codes_look_up(uint64_t *code, uint32_t count, const uint64_t *entry, uint64_t entries)
{
	if (count && codes_most(code, count) >= entries)
		return false;
	codes_replace(code, entry, count);
	return true;
}

/* ---- PLANES ---- */

COLUMN_VECTORISED static void plane_add(const uint8_t *at, uint32_t shift, uint64_t *to, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] += (uint64_t)at[i] << shift;
}

static void planes_next(struct column_cursor *cursor, uint64_t *to, uint32_t count)
{
	fill(to, cursor->base, count);
	for (uint32_t plane = 0; plane < cursor->width; plane++)
		plane_add(cursor->packed + (uint64_t)plane * cursor->count + cursor->done, 8 * plane, to, count);
	cursor->done += count;
}

/* ---- cursors ---- */

uint32_t column_cursor_room(const uint8_t *at, const uint8_t *end, uint32_t count)
{
	struct column_head head;
	if (!head_read(at, end, &head) || head.extra > count)
		return 0;
	return head.encoding == COLUMN_RUNS ? 2 * head.extra : head.encoding == COLUMN_DICTIONARY ? head.extra : 0;
}

bool column_cursor_open(struct column_cursor *cursor, const uint8_t *at, const uint8_t *end, uint32_t count, uint64_t *room)
{
	struct column_head head;
	const uint8_t *inside = head_read(at, end, &head);
	*cursor = (struct column_cursor){.count = count};
	if (!inside || !count || count > COLUMN_VALUES_MAX)
		return false;
	cursor->encoding = head.encoding;
	switch (head.encoding) {
	case COLUMN_FRAME:
	case COLUMN_PATCHED:
	case COLUMN_DELTA:
		return inner_open(cursor, at, end);
	case COLUMN_RUNS:
		if (!room || head.extra > count)
			return false;
		cursor->entries = head.extra;
		cursor->entry = room;
		cursor->length = room + head.extra;
		cursor->end = runs_read(inside, end, head.extra, room, room + head.extra, count);
		return cursor->end;
	case COLUMN_DICTIONARY:
		if (!room || !head.extra || head.extra > count)
			return false;
		cursor->entries = head.extra;
		cursor->entry = room;
		inside = inner_read(inside, end, room, head.extra);
		return inside && inner_open(cursor, inside, end);
	case COLUMN_PLANES:
		if (head.width > 8 || (uint64_t)(end - inside) < (uint64_t)head.width * count)
			return false;
		cursor->packed = inside;
		cursor->width = head.width;
		cursor->base = head.base;
		cursor->end = inside + (uint64_t)head.width * count;
		return true;
	default:
		return false;
	}
}

bool column_cursor_next(struct column_cursor *cursor, uint64_t *to, uint32_t count)
{
	assert(count <= cursor->count - cursor->done && (count % COLUMN_PIECE == 0 || count == cursor->count - cursor->done));
	if (cursor->encoding == COLUMN_RUNS)
		runs_next(cursor, to, count);
	else if (cursor->encoding == COLUMN_PLANES)
		planes_next(cursor, to, count);
	else if (!column_plain_next(cursor, to, count))
		return false;
	return cursor->encoding != COLUMN_DICTIONARY || column_codes_look_up(to, count, cursor->entry, cursor->entries);
}

/* ---- whole streams ---- */

static const uint8_t *mapped_read(const uint8_t *at, const uint8_t *end, uint32_t others, const struct column_map *map,
				  uint64_t *to, uint32_t count)
{
	if (!map || others > count)
		return NULL;
	memcpy(to, map->parent, count * sizeof(*to));
	if (!column_codes_look_up(to, count, map->table, map->entries))
		return NULL;
	if (!others)
		return at;
	uint64_t *position = malloc(2 * (uint64_t)others * sizeof(*position));
	if (!position)
		return NULL;
	uint64_t *value = position + others;
	at = inner_read(at, end, position, others);
	at = inner_read(at, end, value, others);
	for (uint32_t i = 0; at && i < others; i++) {
		if (position[i] >= count)
			at = NULL;
		else
			to[position[i]] = value[i];
	}
	free(position);
	return at;
}

const uint8_t *column_decode(const uint8_t *at, const uint8_t *end, const struct column_map *map, uint64_t *values, uint32_t count)
{
	struct column_head head;
	struct column_cursor cursor;
	const uint8_t *inside = head_read(at, end, &head);
	if (!inside || !count || count > COLUMN_VALUES_MAX)
		return NULL;
	if (head.encoding == COLUMN_MAPPED)
		return mapped_read(inside, end, head.extra, map, values, count);
	uint32_t needed = column_cursor_room(at, end, count);
	uint64_t *room = needed ? malloc(needed * sizeof(*room)) : NULL;
	bool good = column_cursor_open(&cursor, at, end, count, room) && column_cursor_next(&cursor, values, count);
	free(room);
	return good ? cursor.end : NULL;
}

const uint8_t *column_decode_long(const uint8_t *at, const uint8_t *end, uint64_t *values, uint64_t count)
{
	for (uint64_t done = 0; at && done < count; done += COLUMN_VALUES_MAX)
		at = column_decode(at, end, NULL, values + done,
				   (uint32_t)(count - done < COLUMN_VALUES_MAX ? count - done : COLUMN_VALUES_MAX));
	return at;
}
