/*
 * Segments of version 1, which nothing writes any more: rows as they lay in the log, and an index of 40 bytes an id.
 *
 *   header ─ rows ─ id index ─ rollup rows ─ rollup heap ─ footer        each starts at a multiple of 64, zeros between
 *
 *   header: the first 64 bytes of that in segment_format.h, version 1
 *   rows: the tp_event records of the log, in its order
 *   id index, 40 bytes an entry, sorted by (id.hi, id.lo, minute); the counted events only
 *   rollup rows and heap: as in version 2, not compressed
 *   footer, 320 bytes, the last of the file:
 *      0  4 × {u64 offset, u64 bytes, u64 count, u64 XXH3-64 of the bytes}: rows, id index, rollup rows, heap
 *    128  struct segment_totals      240  u64 id.hi of the first and of the last index entry    256  40 bytes of zero
 *    296  u32 footer bytes (320)     300  u32 version 1
 *    304  u64 magic "tpsegend"       312  u64 XXH3-64 of footer bytes 0..311
 */
#ifndef STORAGE_SEGMENT_V1_H
#define STORAGE_SEGMENT_V1_H

#include "segment.h"

enum segment_v1_part { SEGMENT_V1_ROWS, SEGMENT_V1_INDEX, SEGMENT_V1_ROLLUP, SEGMENT_V1_HEAP, SEGMENT_V1_PARTS };

struct segment_v1_index_entry {
	struct tp_id id;
	uint64_t fingerprint;
	uint32_t minute;
	uint32_t zero;
	uint64_t row_at;
};
static_assert(sizeof(struct segment_v1_index_entry) == 40, "disk format");

struct segment_v1_place {
	uint64_t offset, bytes, count, checksum;
};

struct segment_v1_footer {
	struct segment_v1_place part[SEGMENT_V1_PARTS];
	struct segment_totals totals;
	uint64_t id_first, id_last;
	uint64_t zeros[5];
	uint32_t bytes;
	uint32_t version;
	uint64_t magic;
	uint64_t checksum;
};
static_assert(offsetof(struct segment_v1_footer, totals) == 128, "disk format");
static_assert(offsetof(struct segment_v1_footer, id_first) == 240, "disk format");
static_assert(sizeof(struct segment_v1_footer) == 320, "disk format");

/* As their namesakes in segment.h. */
int segment_v1_take(struct segment *segment);
int segment_v1_events(struct segment *segment, sto_event_fn fn, void *context);
int segment_v1_ids(struct segment *segment, sto_id_fn fn, void *context);
int segment_v1_lookup(struct segment *segment, struct tp_id id, uint32_t minute, uint64_t fingerprint);
int segment_v1_rollup(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap);
int segment_v1_verify(struct segment *segment);

#endif
