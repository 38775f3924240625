/*
 * Decoding integer streams: column.h has the bytes. Nothing in a stream is believed: every length is checked against what is there
 * before it is used. Speed: eight values of `width` bits fill exactly `width` bytes, so a group of eight needs only constant shifts.
 *
 * Threads: any, no state.
 */
#include "column.h"

static const char *const encoding_name[COLUMN_ENCODINGS] = {"frame", "patched", "delta", "runs", "dictionary", "planes", "mapped"};

const char *column_encoding_name(enum column_encoding encoding)
{
	return (unsigned)encoding < COLUMN_ENCODINGS ? encoding_name[encoding] : NULL;
}

static inline uint64_t load64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

/* Widths up to 56: a value lies within the eight bytes that start where its first bit lies. */
#define UNPACK_NARROW(W) \
	for (uint32_t i = 0; i < count; i += 8, at += (W)) { \
		for (uint32_t j = 0; j < 8; j++) \
			to[i + j] = base + (load64(at + j * (W) / 8) >> (j * (W) % 8) & (((uint64_t)1 << (W)) - 1)); \
	}

#define CASE(W) \
	case W: \
		UNPACK_NARROW(W) \
		break;

/* Up to width 56 `count` is a multiple of eight. */
COLUMN_VECTORISED static void unpack(const uint8_t *at, uint32_t width, uint64_t base, uint64_t *to, uint32_t count)
{
	switch (width) {
	case 0:
		for (uint32_t i = 0; i < count; i++)
			to[i] = base;
		break;
		CASE(1)
		CASE(2)
		CASE(3)
		CASE(4)
		CASE(5)
		CASE(6)
		CASE(7)
		CASE(8)
		CASE(9)
		CASE(10)
		CASE(11)
		CASE(12)
		CASE(13)
		CASE(14)
		CASE(15)
		CASE(16)
		CASE(17)
		CASE(18)
		CASE(19)
		CASE(20)
		CASE(21)
		CASE(22)
		CASE(23)
		CASE(24)
	default:
		if (width <= 56) {
			UNPACK_NARROW(width)
			break;
		}
		for (uint32_t i = 0; i < count; i++) {
			uint64_t bit = (uint64_t)i * width;
			unsigned __int128 two = (unsigned __int128)load64(at + bit / 8 + 8) << 64 | load64(at + bit / 8);
			uint64_t value = (uint64_t)(two >> bit % 8);
			to[i] = base + (width == 64 ? value : value & (((uint64_t)1 << width) - 1));
		}
	}
}

/*
 * Bits that lie above 64 fall away by the shift, as they must: a group of eight may read up to 7 * width / 8 + 8 bytes from its
 * start, at most 15 bytes beyond the last packed byte.
 */
static const uint8_t *packed_read(const uint8_t *at, const uint8_t *end, uint32_t width, uint64_t base, uint64_t *to,
				  uint32_t count)
{
	uint64_t bytes = column_packed_bytes(count, width);
	if (width > 64 || bytes > (uint64_t)(end - at))
		return NULL;
	/* The last group of eight alone, so that nothing is read further out than promised. */
	uint32_t whole = width <= 56 ? count & ~7u : count;
	unpack(at, width, base, to, whole);
	if (whole < count) {
		uint8_t last[64 + COLUMN_SLACK] = {0};
		uint64_t eight[8], done = (uint64_t)whole / 8 * width;
		memcpy(last, at + done, bytes - done);
		unpack(last, width, base, eight, 8);
		memcpy(to + whole, eight, (count - whole) * sizeof(*to));
	}
	return at + bytes;
}

static const uint8_t *patches_read(const uint8_t *at, const uint8_t *end, const struct column_head *head, uint64_t *to,
				   uint32_t count)
{
	uint64_t high[256];
	uint32_t patches = head->extra;
	if (patches > count || (uint64_t)(end - at) < 2 * (uint64_t)patches || head->width > 63 ||
	    head->width_patch > 64 - head->width)
		return NULL;
	const uint8_t *position = at;
	at += 2 * (uint64_t)patches;
	if ((uint64_t)(end - at) < column_packed_bytes(patches, head->width_patch))
		return NULL;
	const uint8_t *after = at + column_packed_bytes(patches, head->width_patch);
	for (uint32_t done = 0; done < patches; done += 256) {
		uint32_t piece = patches - done < 256 ? patches - done : 256;
		/* 256 values are whole bytes at any width */
		if (!packed_read(at + (uint64_t)done / 8 * head->width_patch, end, head->width_patch, 0, high, piece))
			return NULL;
		for (uint32_t i = 0; i < piece; i++) {
			uint16_t where;
			memcpy(&where, position + 2 * (uint64_t)(done + i), sizeof(where));
			if (where >= count)
				return NULL;
			to[where] += high[i] << head->width;
		}
	}
	return after;
}

static const uint8_t *plain_read(const uint8_t *at, const uint8_t *end, const struct column_head *head, uint64_t *to,
				 uint32_t count)
{
	at = packed_read(at, end, head->width, head->base, to, count);
	return at && head->encoding == COLUMN_PATCHED ? patches_read(at, end, head, to, count) : at;
}

static const uint8_t *head_read(const uint8_t *at, const uint8_t *end, struct column_head *head)
{
	if (!at || (uint64_t)(end - at) < sizeof(*head))
		return NULL;
	memcpy(head, at, sizeof(*head));
	return head->zero ? NULL : at + sizeof(*head);
}

/* FRAME, PATCHED or DELTA. */
static const uint8_t *inner_read(const uint8_t *at, const uint8_t *end, uint64_t *to, uint32_t count)
{
	struct column_head head, inner;
	at = head_read(at, end, &head);
	if (!at)
		return NULL;
	if (head.encoding != COLUMN_DELTA)
		return head.encoding <= COLUMN_PATCHED ? plain_read(at, end, &head, to, count) : NULL;
	at = head_read(at, end, &inner);
	if (!at || inner.encoding > COLUMN_PATCHED)
		return NULL;
	at = plain_read(at, end, &inner, to, count);
	if (!at)
		return NULL;
	uint64_t value = to[0] = head.base; /* the first difference means nothing */
	if (head.extra)
		for (uint32_t i = 1; i < count; i++)
			to[i] = value += column_unzigzag(to[i]);
	else
		for (uint32_t i = 1; i < count; i++)
			to[i] = value += to[i];
	return at;
}

static const uint8_t *runs_read(const uint8_t *at, const uint8_t *end, uint32_t runs, uint64_t *to, uint32_t count)
{
	if (!runs || runs > count)
		return NULL;
	uint64_t *value = malloc(2 * (uint64_t)runs * sizeof(*value)), *length = value + runs;
	if (!value)
		return NULL;
	at = inner_read(at, end, value, runs);
	if (at)
		at = inner_read(at, end, length, runs);
	uint32_t filled = 0;
	for (uint32_t r = 0; at && r < runs; r++) {
		if (length[r] >= count - filled) {
			at = NULL;
			break;
		}
		for (uint32_t i = 0; i <= length[r]; i++)
			to[filled + i] = value[r];
		filled += (uint32_t)length[r] + 1;
	}
	free(value);
	return filled == count ? at : NULL;
}

uint32_t column_decode_runs(const uint8_t *at, const uint8_t *end, uint64_t *value, uint64_t *length, uint32_t count)
{
	struct column_head head;
	at = head_read(at, end, &head);
	if (!at || head.encoding != COLUMN_RUNS || !head.extra || head.extra > count)
		return 0;
	at = inner_read(at, end, value, head.extra);
	if (at)
		at = inner_read(at, end, length, head.extra);
	uint64_t filled = 0;
	for (uint32_t r = 0; at && r < head.extra; r++) {
		if (length[r] >= count - filled)
			return 0;
		filled += ++length[r];
	}
	return at && filled == count ? head.extra : 0;
}

static const uint8_t *dictionary_read(const uint8_t *at, const uint8_t *end, uint32_t entries, uint64_t *to, uint32_t count)
{
	if (!entries || entries > count)
		return NULL;
	uint64_t *entry = malloc((uint64_t)entries * sizeof(*entry));
	if (!entry)
		return NULL;
	at = inner_read(at, end, entry, entries);
	if (at)
		at = inner_read(at, end, to, count);
	for (uint32_t i = 0; at && i < count; i++) {
		if (to[i] >= entries)
			at = NULL;
		else
			to[i] = entry[to[i]];
	}
	free(entry);
	return at;
}

static const uint8_t *planes_read(const uint8_t *at, const uint8_t *end, const struct column_head *head, uint64_t *to,
				  uint32_t count)
{
	if (head->width > 8 || (uint64_t)(end - at) < (uint64_t)head->width * count)
		return NULL;
	for (uint32_t i = 0; i < count; i++)
		to[i] = head->base;
	for (uint32_t plane = 0; plane < head->width; plane++, at += count)
		for (uint32_t i = 0; i < count; i++)
			to[i] += (uint64_t)at[i] << 8 * plane;
	return at;
}

static const uint8_t *mapped_read(const uint8_t *at, const uint8_t *end, uint32_t others, const struct column_map *map,
				  uint64_t *to, uint32_t count)
{
	if (!map || others > count)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		if (map->parent[i] >= map->entries)
			return NULL;
		to[i] = map->table[map->parent[i]];
	}
	if (!others)
		return at;
	uint64_t *position = malloc(2 * (uint64_t)others * sizeof(*position));
	if (!position)
		return NULL;
	uint64_t *value = position + others;
	at = inner_read(at, end, position, others);
	if (at)
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
	const uint8_t *inside = head_read(at, end, &head);
	if (!inside || !count || count > COLUMN_VALUES_MAX)
		return NULL;
	switch (head.encoding) {
	case COLUMN_FRAME:
	case COLUMN_PATCHED:
	case COLUMN_DELTA:
		return inner_read(at, end, values, count);
	case COLUMN_RUNS:
		return runs_read(inside, end, head.extra, values, count);
	case COLUMN_DICTIONARY:
		return dictionary_read(inside, end, head.extra, values, count);
	case COLUMN_PLANES:
		return planes_read(inside, end, &head, values, count);
	case COLUMN_MAPPED:
		return mapped_read(inside, end, head.extra, map, values, count);
	default:
		return NULL;
	}
}

const uint8_t *column_decode_long(const uint8_t *at, const uint8_t *end, uint64_t *values, uint64_t count)
{
	for (uint64_t done = 0; at && done < count; done += COLUMN_VALUES_MAX)
		at = column_decode(at, end, NULL, values + done,
				   (uint32_t)(count - done < COLUMN_VALUES_MAX ? count - done : COLUMN_VALUES_MAX));
	return at;
}
