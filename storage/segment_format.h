/*
 * The segment file, version 3, byte by byte (also docs/segment-format.md). Little endian. Immutable once it has its name.
 *
 *   header ─ front footer ─ sections and column blocks ─ footer ─ tail        each starts at a multiple of 64, zeros between
 *
 *   header, 192 bytes:
 *      0  u64 magic "tpseg001"        8  u32 version 3        12  u32 shard
 *     16  u64 segment sequence       24  u64 log file id      32  node id, 16 bytes
 *     48  u64 sealed_ms              56  u64 XXH3-64 of bytes 0..55           (up to here as in version 1)
 *     64  32 bytes: SHA-256 of the segment published before, as it was published first; zeros: there was none
 *     96  u64 offset of the front footer   104  u64 footer bytes   112  u64 XXH3-64 of the footer   120  u64 file bytes
 *    128  u32 hashing: how fingerprints and shard hashes follow from a payload (1)    132  u32 rows a block (65,536)
 *    136  48 bytes of zero           184  u64 XXH3-64 of bytes 64..183
 *   footer: fixed part (192 bytes), then its sections, columns and blocks; twice the same bytes
 *   tail, 64 bytes, the last of the file: where the footer lies
 *
 * Rows lie sorted by advertiser, campaign, ad (byte for byte), time, place in the log. A column is cut into blocks of 65,536 rows;
 * each block is one stream of column.h, alone or compressed by zstd. A column that is zero in all rows is left out. A column of texts
 * has a dictionary (column_text.h) for the segment.
 *
 * A reader checks header, tail and a footer when it opens the file, and each block and section by its checksum before use. If tail
 * or footer are damaged, the front footer serves. Unknown section kinds are skipped; an unknown column or encoding, or another
 * version than 1 to 3, is refused. Version 2 has its ids in another way: sections 1 and 2 instead of 8. Version 1: segment_v1.h.
 */
#ifndef STORAGE_SEGMENT_FORMAT_H
#define STORAGE_SEGMENT_FORMAT_H

#include "turnpike/event.h"
#include "turnpike/rollup.h"

#define SEGMENT_MAGIC     0x3130306765737074ULL /* "tpseg001" */
#define SEGMENT_MAGIC_END 0x646e656765737074ULL /* "tpsegend" */

enum {
	SEGMENT_VERSION = 3,
	SEGMENT_VERSION_OLD_IDS = 2,
	SEGMENT_ALIGN = 64,
	SEGMENT_BLOCK_ROWS = 65536,
	SEGMENT_HASHING = 1,
	SEGMENT_NO_PARENT = 0xffff
};

/* Sections below STO_SECTION_FIRST. Stable on disk. */
enum segment_section_kind {
	SEGMENT_IDS = 1,         /* version 2: 16 bytes a row: tp_event.id */
	SEGMENT_FILTER = 2,      /* version 2: id_filter.h over (id, minute) of the counted rows */
	SEGMENT_ROLLUP = 3,      /* struct tp_rollup_row; left out when they follow from the rows */
	SEGMENT_ROLLUP_HEAP = 4, /* … and their strings */
	SEGMENT_RAW = 5,         /* records of other kinds than events, as they lay in the log, in its order */
	SEGMENT_HASHES = 6,      /* struct segment_hash: rows whose hashes do not follow from their payload */
	SEGMENT_CAMPAIGNS = 7,   /* totals per campaign and currency */
	SEGMENT_ID_INDEX = 8,    /* id_index.h: tp_event.id of the rows */
};

/* Columns. Stable on disk. What a value is stands in segment_column.c. */
enum segment_column_id {
	SEGMENT_TIME,
	SEGMENT_LAG, /* zigzag(received_ms - timestamp_ms) */
	SEGMENT_TYPE,
	SEGMENT_VERDICT,
	SEGMENT_FRAUD,
	SEGMENT_FLAGS,
	SEGMENT_DEVICE,
	SEGMENT_COUNTRY,
	SEGMENT_CURRENCY,
	SEGMENT_BID,
	SEGMENT_POSITION,
	SEGMENT_TIMEZONE, /* zigzag */
	SEGMENT_MOUSE,    /* zigzag */
	SEGMENT_IP_HIGH,  /* the first eight bytes, big endian */
	SEGMENT_IP_LOW, /* the last eight; with 0xffff00000000 flipped if TP_HAS_IP and the first are zero: an IPv4 address is itself */
	SEGMENT_TRACE_HIGH,
	SEGMENT_TRACE_LOW,
	SEGMENT_SPAN,
	SEGMENT_TRACE_FLAGS,
	SEGMENT_RULE_VERSION,
	SEGMENT_RESERVED,
	SEGMENT_EVIDENCE, /* how many entries of evidence the row has */
	SEGMENT_ROW_NUMBERS,
	/* a value per entry of evidence, row after row: a block has as many as its rows' counts sum up to */
	SEGMENT_EVIDENCE_REASON = SEGMENT_ROW_NUMBERS,
	SEGMENT_EVIDENCE_TEXT,
	SEGMENT_EVIDENCE_DETAIL,
	SEGMENT_EVIDENCE_LIMIT,
	SEGMENT_EVIDENCE_SEEN, /* zigzag, or the eight bytes as they are where is_text */
	SEGMENT_NUMBERS,
	SEGMENT_TEXT = 32, /* + enum tp_string: codes */
	SEGMENT_COLUMNS = SEGMENT_TEXT + TP_STRINGS,
};

struct segment_header {
	uint64_t magic;
	uint32_t version;
	uint32_t shard;
	uint64_t sequence;
	uint64_t file_id;
	uint8_t node_id[16];
	uint64_t sealed_ms;
	uint64_t checksum;
	/* from version 2 on */
	uint8_t prev_sha256[32];
	uint64_t footer_offset, footer_bytes, footer_checksum;
	uint64_t file_bytes;
	uint32_t hashing;
	uint32_t block_rows;
	uint64_t zeros[6];
	uint64_t checksum_two;
};
enum { SEGMENT_HEADER_V1_BYTES = 64 };
static_assert(offsetof(struct segment_header, prev_sha256) == SEGMENT_HEADER_V1_BYTES, "disk format");
static_assert(sizeof(struct segment_header) == 192, "disk format");

/* Bytes of the file: as they are, or one zstd frame of raw_bytes. */
struct segment_place {
	uint64_t offset, bytes;
	uint64_t raw_bytes; /* 0: not compressed */
	uint64_t checksum;  /* XXH3-64 of the bytes in the file */
};

/* Sums of what a segment holds; as in version 1. */
struct segment_totals {
	uint64_t rows, counted, late, conflicts;
	uint64_t from_ms, to_ms;
	uint32_t minute_min, minute_max;
	uint64_t watermark_ms;
	uint64_t impressions, clicks, flagged_clicks, conversions;
	__int128 spend_micros;
};
static_assert(sizeof(struct segment_totals) == 112, "disk format");

struct segment_footer {
	uint32_t bytes; /* with all that follows */
	uint32_t version;
	uint64_t file_bytes;
	struct segment_totals totals;
	uint64_t raw_records;
	uint32_t sections, columns, blocks;
	uint32_t zero;
	uint64_t zeros[5];
	/* then: sections × struct segment_section, columns × struct segment_column, blocks × struct segment_block */
};
static_assert(sizeof(struct segment_footer) == 192, "disk format");

struct segment_section {
	uint32_t kind;
	uint32_t zero;
	uint64_t count; /* entries of the kind's own */
	struct segment_place place;
};
static_assert(sizeof(struct segment_section) == 48, "disk format");

struct segment_column {
	uint16_t column; /* enum segment_column_id, ascending */
	uint16_t parent; /* the column by whose code `table` is asked in MAPPED blocks; SEGMENT_NO_PARENT */
	uint32_t block;  /* the first of its blocks */
	uint32_t blocks;
	uint32_t texts; /* in the dictionary; 0: a column of numbers */
	struct segment_place dictionary;
	struct segment_place table; /* one value per text of the parent */
};
static_assert(sizeof(struct segment_column) == 80, "disk format");

/* The zone map: `min` and `max` are of the values, for texts of their codes. */
struct segment_block {
	uint64_t offset;
	uint32_t bytes;
	uint32_t raw_bytes;
	uint32_t count;
	uint32_t zero;
	uint64_t min, max;
	uint64_t checksum;
};
static_assert(sizeof(struct segment_block) == 48, "disk format");

struct segment_tail {
	uint64_t magic;
	uint64_t footer_offset, footer_bytes, footer_checksum;
	uint64_t file_bytes;
	uint32_t version;
	uint32_t zero;
	uint64_t zero_too;
	uint64_t checksum; /* of the 56 bytes before */
};
static_assert(sizeof(struct segment_tail) == 64, "disk format");

struct segment_hash {
	uint64_t row;
	uint64_t fingerprint, shard_hash;
};
static_assert(sizeof(struct segment_hash) == 24, "disk format");

#endif
