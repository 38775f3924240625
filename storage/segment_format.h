/*
 * The segment file, version 1, byte by byte (also docs/segment-format.md). Little endian. Immutable once it has its name.
 *
 *   header ─ rows ─ id index ─ rollup rows ─ rollup heap ─ footer        each starts at a multiple of 64, zeros between
 *
 *   header, 64 bytes:
 *      0  u64 magic "tpseg001"        8  u32 version 1        12  u32 shard
 *     16  u64 segment sequence       24  u64 log file id      32  node id, 16 bytes
 *     48  u64 sealed_ms              56  u64 XXH3-64 of bytes 0..55
 *   rows: the tp_event records of the log, in its order; counted ones and conflicts. Unknown verdicts are refused.
 *   id index, 40 bytes an entry, sorted by (id.hi, id.lo, minute); the counted events only:
 *      0  u64 id.hi   8  u64 id.lo   16  u64 fingerprint   24  u32 minute   28  u32 zero   32  u64 offset of its row in the rows
 *   rollup rows: struct tp_rollup_row, 128 bytes, version 0, sorted by minute, then campaign, ad, advertiser, publisher, region,
 *     country, device, currency (strings byte for byte); string_at is an offset into the rollup heap
 *   rollup heap: each row's five strings in the order of enum tp_dimension, row after row
 *   footer, 320 bytes, the last of the file:
 *      0  4 × {u64 offset, u64 bytes, u64 count, u64 XXH3-64 of the bytes}: rows, id index, rollup rows, heap
 *    128  u64 rows, counted, late, conflicts
 *    160  u64 from_ms, to_ms (stamps of counted events, half-open; 0,0 without any)
 *    176  u32 minute_min, minute_max (UINT32_MAX,0 without any)
 *    184  u64 watermark_ms
 *    192  u64 impressions, clicks, flagged_clicks, conversions
 *    224  i128 spend in micros over the valid clicks, all currencies in one: a control total, not an amount
 *    240  u64 id.hi of the first and of the last index entry (0,0 without any)
 *    256  40 bytes of zero
 *    296  u32 footer bytes (320)    300  u32 version 1
 *    304  u64 magic "tpsegend"      312  u64 XXH3-64 of footer bytes 0..311
 *
 * A reader checks header and footer when it opens the file, and each section's checksum and inner lengths before its first use.
 * Version 1 is the rows as they came; a columnar version follows under the same header, footer and manifest.
 */
#ifndef STORAGE_SEGMENT_FORMAT_H
#define STORAGE_SEGMENT_FORMAT_H

#include "turnpike/event.h"
#include "turnpike/rollup.h"

#define SEGMENT_MAGIC     0x3130306765737074ULL /* "tpseg001" */
#define SEGMENT_MAGIC_END 0x646e656765737074ULL /* "tpsegend" */

enum { SEGMENT_VERSION = 1, SEGMENT_ALIGN = 64 };

enum segment_section { SEGMENT_ROWS, SEGMENT_INDEX, SEGMENT_ROLLUP, SEGMENT_HEAP, SEGMENT_SECTIONS };

struct segment_header {
	uint64_t magic;
	uint32_t version;
	uint32_t shard;
	uint64_t sequence;
	uint64_t file_id;
	uint8_t node_id[16];
	uint64_t sealed_ms;
	uint64_t checksum;
};
static_assert(sizeof(struct segment_header) == 64, "disk format");

struct segment_index_entry {
	struct tp_id id;
	uint64_t fingerprint;
	uint32_t minute;
	uint32_t zero;
	uint64_t row_at;
};
static_assert(sizeof(struct segment_index_entry) == 40, "disk format");

struct segment_place {
	uint64_t offset, bytes, count, checksum;
};

struct segment_totals {
	uint64_t rows, counted, late, conflicts;
	uint64_t from_ms, to_ms;
	uint32_t minute_min, minute_max;
	uint64_t watermark_ms;
	uint64_t impressions, clicks, flagged_clicks, conversions;
	__int128 spend_micros;
};

struct segment_footer {
	struct segment_place section[SEGMENT_SECTIONS];
	struct segment_totals totals;
	uint64_t id_first, id_last;
	uint64_t zeros[5];
	uint32_t bytes;
	uint32_t version;
	uint64_t magic;
	uint64_t checksum;
};
static_assert(offsetof(struct segment_footer, totals) == 128, "disk format");
static_assert(offsetof(struct segment_footer, totals.spend_micros) == 224, "disk format");
static_assert(offsetof(struct segment_footer, id_first) == 240, "disk format");
static_assert(offsetof(struct segment_footer, bytes) == 296, "disk format");
static_assert(sizeof(struct segment_footer) == 320, "disk format");

#endif
