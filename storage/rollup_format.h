/*
 * The rollup file, version 1, byte by byte (also docs/storage.md). Little endian. Immutable once it has its name.
 *
 *   header ─ blocks ─ sections ─ section table ─ footer          each at a multiple of 8, the footer of 16; zeros between
 *
 * It holds the sums of a run of segments for one class of buckets (minutes, hours or days): one row for each ad × campaign ×
 * advertiser × publisher × region × country × device × currency × bucket that had events. Rows are sorted by campaign, ad,
 * advertiser, publisher, region, country, device, currency and bucket, so what is asked for together lies together. Strings are kept
 * once, in one sorted dictionary a dimension; rows have their places in it. Equal rows of two files add up, modulo 2^64 (spend:
 * modulo 2^128, and no sum overflows): a correction in a later file may be negative.
 *
 * Files of hours and days also hold the same sums by one dimension alone: one row for each campaign × currency × bucket, and so for
 * ads, advertisers and publishers. These are sets of rows of their own, each with blocks and a block table like the main set; what
 * they leave out is 0 there. So one campaign's month is some hundred rows, however many ads and publishers it has.
 *
 *   header, 64 bytes: struct rollup_header
 *   block, up to 4096 rows and as many keys (a key is all of a row but its bucket):
 *      0  u32 rows    4  u32 keys    then 18 columns, each 24 bytes and its values:
 *         u64 base    u64 scale    u8 width (0 to 56, or 64)    7 zero bytes    values of `width` bits, the lowest bit first,
 *         filled up to a multiple of 8 bytes
 *      value i = base + scale × packed i, modulo 2^64. Columns, `keys` values each: campaign, ad, advertiser, publisher, region
 *      (places in the dictionaries), country (its two bytes as a big-endian number), device, currency (three bytes, likewise), the
 *      key's first row; then `rows` values each: bucket (since 1970), impressions, clicks, flagged clicks, conversions, late,
 *      reserved, low and high 64 bits of the spend in micros. The last 8 bytes of a block are zero.
 *   sections, by kind:
 *      1 + d   dictionary of dimension d (enum tp_dimension): u32 ends[count], then the strings in ascending order, one after the other
 *     17 + d   blocks of each string of dimension d (all but the region): u32 ends[count] into the bytes behind them, there for each
 *              string the numbers of its blocks, ascending: LEB128, the first as it is, each other as the difference less one
 *     32       block table of the main set: struct rollup_block a block
 *     33 + d   block table of the set by dimension d alone (all but the region)
 *     64 …     what a later program adds: passed over by readers that do not know it
 *   section table: struct rollup_section a section
 *   footer, 192 bytes, the last of the file: struct rollup_footer
 *
 * Checksums are XXH3-64, one a block, one a section; a reader checks each before its first use.
 */
#ifndef STORAGE_ROLLUP_FORMAT_H
#define STORAGE_ROLLUP_FORMAT_H

#include "turnpike/rollup.h"

#define ROLLUP_MAGIC     0x3130306c6f727074ULL /* "tprol001" */
#define ROLLUP_MAGIC_END 0x646e656c6f727074ULL /* "tprolend" */

enum {
	ROLLUP_VERSION = 1,
	ROLLUP_BLOCK_ROWS = 4096,
	ROLLUP_SECTIONS_MAX = 64,
	ROLLUP_FOOTER_ALIGN = 16,
	ROLLUP_SLACK_BYTES = 8, /* behind the last column: values are loaded 8 bytes at a time */
};

enum rollup_section_kind {
	ROLLUP_DICTIONARY = 1, /* + enum tp_dimension */
	ROLLUP_PLACES = 17,    /* + enum tp_dimension */
	ROLLUP_BLOCKS = 32,    /* + set */
};

/* Sets of rows: the main one has all dimensions, set 1 + d only dimension d. */
enum { ROLLUP_MAIN = 0, ROLLUP_SETS = 1 + TP_DIM_REGION };
static_assert(TP_DIM_REGION == TP_DIMENSIONS - 1, "the region is the one that has no set");

enum rollup_column {
	ROLLUP_CAMPAIGN,
	ROLLUP_AD,
	ROLLUP_ADVERTISER,
	ROLLUP_PUBLISHER,
	ROLLUP_REGION,
	ROLLUP_COUNTRY,
	ROLLUP_DEVICE,
	ROLLUP_CURRENCY,
	ROLLUP_FIRST_ROW,
	ROLLUP_KEY_COLUMNS,
	ROLLUP_BUCKET = ROLLUP_KEY_COLUMNS,
	ROLLUP_IMPRESSIONS,
	ROLLUP_CLICKS,
	ROLLUP_FLAGGED_CLICKS,
	ROLLUP_CONVERSIONS,
	ROLLUP_LATE,
	ROLLUP_RESERVED,
	ROLLUP_SPEND_LOW,
	ROLLUP_SPEND_HIGH,
	ROLLUP_COLUMNS
};
static_assert(ROLLUP_COLUMNS == 18, "disk format");

struct rollup_header {
	uint64_t magic;
	uint32_t version;
	uint32_t class; /* enum manifest_class */
	uint64_t sequence;
	uint64_t from_segment, to_segment;
	uint8_t node_id[16];
	uint64_t checksum; /* of bytes 0..55 */
};
static_assert(sizeof(struct rollup_header) == 64, "disk format");

struct rollup_block_head {
	uint32_t rows, keys;
};

struct rollup_column_head {
	uint64_t base, scale;
	uint8_t width;
	uint8_t zeros[7];
};
static_assert(sizeof(struct rollup_column_head) == 24, "disk format");

struct rollup_block {
	uint64_t offset;
	uint32_t bytes;
	uint32_t rows;
	uint32_t minute_min, minute_max; /* where its first and last bucket start */
	uint32_t code_min, code_max;     /* places in the dictionary of what the set is sorted by first */
	uint64_t checksum;
};
static_assert(sizeof(struct rollup_block) == 40, "disk format");

struct rollup_section {
	uint32_t kind;
	uint32_t zero;
	uint64_t offset, bytes, count, checksum;
};
static_assert(sizeof(struct rollup_section) == 40, "disk format");

struct rollup_footer {
	uint64_t rows;
	uint64_t blocks;
	uint32_t minute_min, minute_max; /* UINT32_MAX,0 without rows */
	uint64_t sections_at;            /* of the section table */
	uint32_t sections;
	uint32_t zero;
	uint64_t sections_checksum;
	struct tp_sums totals; /* of all rows; spends of all currencies in one: a control total, not an amount */
	uint64_t zeros[7];
	uint32_t bytes; /* of the footer */
	uint32_t version;
	uint64_t magic;
	uint64_t checksum; /* of the footer before this */
};
static_assert(offsetof(struct rollup_footer, totals) == 48, "disk format");
static_assert(offsetof(struct rollup_footer, bytes) == 168, "disk format");
static_assert(sizeof(struct rollup_footer) == 192, "disk format");

#endif
