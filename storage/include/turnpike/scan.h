/*
 * Scanning segments by column: blocks of up to 65,536 rows, their columns decoded into arrays, predicates by zone maps first.
 *
 *   for each segment:  sto_scan_open ─► sto_scan_next (1) ─► sto_scan_values / _runs / _event ─► …, at the end sto_scan_close
 *
 * A scan maps its segment for itself, so that a deletion never surprises it, and shares nothing with other scans: threads take segments
 * each their own. Every block is checked by its checksum before it is decoded.
 */
#ifndef TURNPIKE_SCAN_H
#define TURNPIKE_SCAN_H

#include "turnpike/reader.h"

/* The columns that scans read; numbers are those of the format (docs/segment-format.md). */
enum sto_column {
	STO_COLUMN_TIME, /* ms */
	STO_COLUMN_LAG,
	STO_COLUMN_TYPE,    /* enum tp_event_type */
	STO_COLUMN_VERDICT, /* enum tp_verdict */
	STO_COLUMN_FRAUD,   /* TP_FRAUD_BIT()s */
	STO_COLUMN_FLAGS,
	STO_COLUMN_DEVICE,
	STO_COLUMN_COUNTRY,  /* the two letters, the first lowest */
	STO_COLUMN_CURRENCY, /* the three letters, the first lowest */
	STO_COLUMN_BID,      /* micros */
	STO_COLUMN_TEXT = 32 /* + enum tp_string: codes of sto_scan_text() */
};

/* Which rows. Zeroed: all. */
struct sto_scan_filter {
	uint64_t from_ms, to_ms;                /* event time, half-open; to_ms 0: no end */
	struct tp_str advertiser, campaign, ad; /* at NULL: any */
	uint32_t types;                         /* 1 << enum tp_event_type; 0: all */
	uint32_t verdicts;                      /* 1 << enum tp_verdict; 0: all */
	bool tagged;                            /* only rows with fraud tags, and amendments, which may have lost theirs */
	bool untagged;                          /* only rows without fraud tags */
};

struct sto_scan;

/*
 * Opens segment `index` of the reader's last refresh; the reader must not be refreshed or closed meanwhile, afterwards it may. Any
 * number of threads at a time. -ESTALE: it is gone since; -ENOTSUP: a version 1 segment has no columns; -EBADMSG; other -errno.
 * The filter is copied, its strings are only read here. *scan is NULL, or a scan that is not needed any more: its memory is used
 * again, which makes many segments cheaper. On an error *scan is NULL.
 */
int sto_scan_open(struct sto_scan **scan, const struct sto_reader *reader, uint32_t index, const struct sto_scan_filter *filter);
/* A segment file wherever it lies. */
int sto_scan_open_file(struct sto_scan **scan, const char *path, const struct sto_scan_filter *filter);
void sto_scan_close(struct sto_scan *scan);

/* On to the next block that may hold wanted rows, and selects them. 1; 0: no more; -EBADMSG or -ENOMEM. */
int sto_scan_next(struct sto_scan *scan);

/* Of the block: its rows, and how many are wanted. */
uint32_t sto_scan_rows(const struct sto_scan *scan);
/* The numbers of the wanted rows in the block, ascending; NULL: all. */
const uint32_t *sto_scan_selected(const struct sto_scan *scan, uint32_t *count);

/* A column of the block, one value per row; valid until sto_scan_next(). NULL: damage, logged. */
const uint64_t *sto_scan_values(struct sto_scan *scan, uint32_t column);
/*
 * The values of the wanted rows alone: entry i is that of row i of sto_scan_selected(). Where few rows are wanted it costs little more
 * than them. Valid until sto_scan_next(). NULL: damage, logged.
 */
const uint64_t *sto_scan_picked(struct sto_scan *scan, uint32_t column);
/*
 * The same as runs of equal values, where the block is stored so (advertiser, campaign and ad are, as a rule): how many, or 0 when it is
 * not: then take the values. Lengths sum up to the block's rows.
 */
uint32_t sto_scan_runs(struct sto_scan *scan, uint32_t column, const uint64_t **value, const uint64_t **length);
/* True if all rows of the block have one value in the column, without decoding it. */
bool sto_scan_constant(const struct sto_scan *scan, uint32_t column, uint64_t *value);

/* Distinct texts of a column in this segment; codes are below. 0: damage. */
uint32_t sto_scan_texts(struct sto_scan *scan, enum tp_string string);
struct tp_str sto_scan_text(struct sto_scan *scan, enum tp_string string, uint32_t code); /* after sto_scan_texts() */

/*
 * Adds up a column of the block's wanted rows by the texts of another: sum[code] grows, one entry for each of sto_scan_texts(). Values are
 * signed, as bids are. The fast way to "sum of … grouped by …". 0; -EBADMSG: damage, logged; the sums mean nothing then.
 */
int sto_scan_sum(struct sto_scan *scan, enum tp_string by, uint32_t column, __int128 *sum);

/* The event ids of the block's rows, in their order; valid as long as the segment is open. NULL: damage, logged. */
const struct tp_id *sto_scan_ids(struct sto_scan *scan);

/* The whole record of a row, in `to` (TP_EVENT_BYTES_MAX, 8-byte aligned). 0 or -EBADMSG. */
int sto_scan_event(struct sto_scan *scan, uint32_t row, struct tp_event *to);

/* The number in its segment of the block's first row. */
uint64_t sto_scan_first_row(const struct sto_scan *scan);

/* ---- single rows, by their number in the segment ---- */

/*
 * The rows with this id, ascending: counted events, conflicts, amendments. Where the id filter covers all rows, a segment that has not got the
 * id costs microseconds; else its ids are walked through. Returns how many there are, of which at most `room` are told; or -EBADMSG.
 * The scan's filter does not matter.
 */
int64_t sto_scan_find(struct sto_scan *scan, struct tp_id id, uint64_t *row, uint32_t room);
/* The whole record of a row, as sto_scan_event(). Takes the place of the block that sto_scan_next() chose. */
int sto_scan_record(struct sto_scan *scan, uint64_t row, struct tp_event *to);

/* ---- what a segment is made of ---- */

struct sto_scan_facts {
	uint32_t version, shard;
	uint64_t sequence, file_id, sealed_ms, bytes;
	uint64_t rows, counted, late, conflicts, raw_records;
	uint64_t from_ms, to_ms, watermark_ms;
	uint64_t impressions, clicks, flagged_clicks, conversions;
	__int128 spend_micros;
	uint8_t prev_sha256[32];
};

void sto_scan_facts(const struct sto_scan *scan, struct sto_scan_facts *facts);

/* Calls fn for each column, section and the rest: name, bytes in the file, and what they are when not compressed by zstd. */
struct sto_scan_part {
	const char *name;
	const char *encodings; /* of its blocks, "runs 2, delta zstd 1"; empty: no column */
	uint64_t bytes, raw_bytes;
	uint64_t dictionary_bytes, texts; /* included in bytes */
};
int sto_scan_parts(struct sto_scan *scan, void (*fn)(void *context, const struct sto_scan_part *part), void *context);

/* Totals of one campaign in one currency; calls fn for each, without decoding rows. 0 or -EBADMSG. */
struct sto_scan_campaign {
	struct tp_str campaign;
	char currency[4];
	struct tp_sums sums;
};
int sto_scan_campaigns(struct sto_scan *scan, void (*fn)(void *context, const struct sto_scan_campaign *campaign), void *context);

#endif
