/*
 * Rollup tables: exact sums per minute × ad × campaign × advertiser × publisher × country × region × device × currency.
 *
 * One table belongs to exactly one log file and holds the sums of exactly the events in it. While the file is open its table
 * lies in shared memory and the control process reads it; when the file has been sealed, the segment carries the same rows and
 * the table is given back. A reader therefore never adds a thing twice: for each log file it takes the segment if the manifest
 * has it, else the table.
 *
 * One writer (the shard core that owns the file). Any number of readers, who never write and never block it:
 *   - rows only get added; a row's key and strings never change once `rows` has been published past it (release/acquire);
 *   - each row has a version, odd while its sums change: read it, copy, read it again (see tp_rollup_read());
 *   - file_id changes when the table is given to another file: check it before and after.
 */
#ifndef TURNPIKE_ROLLUP_H
#define TURNPIKE_ROLLUP_H

#include "turnpike/event.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * A table is bounded, and who invents ad ids must not fill it. Of one minute a table takes TP_ROLLUP_MINUTE_ROWS rows as they come;
 * beyond, an event whose row is not there yet is counted under TP_ROLLUP_OTHER as its region; when that has made TP_ROLLUP_STEP_ROWS
 * rows more, as its publisher too, then as its ad too. Campaign, advertiser, country, device and currency stay what they are, so bills
 * are exact; when these fill the table, its log file ends. Which row an event goes to depends on nothing but the events of its log
 * file up to it, in their order: the shard, recovery and any recount agree.
 */
enum { TP_ROLLUP_MINUTE_ROWS = 65536, TP_ROLLUP_STEP_ROWS = 16384 };

/* No id that was sent: those have no NUL. */
#define TP_ROLLUP_OTHER \
	(struct tp_str) \
	{ \
		.at = "", .bytes = 1 \
	}
static inline bool tp_rollup_is_other(struct tp_str name)
{
	return name.bytes == 1 && name.at[0] == 0;
}

/* The dimensions kept as strings, in the order in which they lie in a table's heap. */
enum tp_dimension { TP_DIM_AD, TP_DIM_CAMPAIGN, TP_DIM_ADVERTISER, TP_DIM_PUBLISHER, TP_DIM_REGION, TP_DIMENSIONS };

struct tp_sums {
	uint64_t impressions;
	uint64_t clicks;         /* valid ones */
	uint64_t flagged_clicks; /* tagged by a fraud rule; not in clicks, not in spend */
	uint64_t conversions;
	uint64_t
		late; /* the revision: events among the above that came after their minute was closed, and clicks that lost their tags */
	uint64_t reserved;
	__int128 spend_micros; /* over valid clicks */
};

struct tp_rollup_row {
	uint64_t key_hash;
	uint32_t minute;    /* since 1970 */
	uint32_t string_at; /* offset of the five strings in the heap */
	uint8_t string_bytes[TP_DIMENSIONS];
	uint8_t device;
	char country[2];
	char currency[3];
	uint8_t pad;
	_Atomic uint32_t version; /* odd while sums change */
	struct tp_sums sums;
	char head[32]; /* in a live table: its strings once more, if they fit; the writer's. Else zero */
};
static_assert(sizeof(struct tp_rollup_row) == 128, "two cache lines; shared memory and segment format");
static_assert(offsetof(struct tp_rollup_row, sums) == 32, "shared memory and segment format");

struct tp_rollup {
	_Atomic uint64_t file_id; /* the log file it belongs to; 0: free */
	_Atomic uint32_t rows;    /* published */
	uint32_t rows_max;
	uint32_t heap_bytes; /* the writer's own */
	uint32_t heap_bytes_max;
	uint32_t index_slots;                            /* power of two, at least twice rows_max */
	uint32_t index_row_mask;                         /* of a slot: which row; see rollup.c */
	uint64_t index_at, minutes_at, rows_at, heap_at; /* byte offsets from this header */
	_Atomic uint64_t minute_min, minute_max;         /* of the rows; hints that let a reader skip the table */
};

/* Bytes that a table of rows_max rows and heap_bytes_max string bytes takes, header included. */
uint64_t tp_rollup_bytes(uint32_t rows_max, uint32_t heap_bytes_max);

/* Lays out an empty table in `at` (64-byte aligned, tp_rollup_bytes() long). Does not touch row pages. */
void tp_rollup_format(struct tp_rollup *at, uint32_t rows_max, uint32_t heap_bytes_max);

/* Empties the table and gives it to a log file (or frees it with 0). Writer only. */
void tp_rollup_reset(struct tp_rollup *table, uint64_t file_id);

/* True if an event that needs a row of its own still fits. When not, the log file is rolled and the next table begins. */
bool tp_rollup_has_room(const struct tp_rollup *table);

/*
 * Adds one event with verdict TP_ACCEPTED or TP_LATE (others add nothing). Clicks with `fraud` != 0 go to flagged_clicks. A
 * TP_AMENDED click without tags moves from flagged_clicks to clicks and spend: its row may show a negative count, modulo 2^64, when
 * the click itself lies in an earlier file; sums over files are exact.
 * True: it was counted under TP_ROLLUP_OTHER.
 * The caller has asked tp_rollup_has_room(). Writer only; no allocation, no system call.
 */
bool tp_rollup_add(struct tp_rollup *table, const struct tp_event *event);

/*
 * The same in steps, for one who has a burst of events: what the row is found by, its place in the index, the row itself, and what that
 * leads to, each step for the whole burst, so that no step waits for memory. Steps but the first and the last may be left out.
 */
struct tp_rollup_key {
	uint64_t hash;
	uint64_t lengths_device_country; /* of the row's bytes from string_bytes[] on */
	uint32_t currency;
	uint32_t minute;
	const char *four, *region; /* ad, campaign, advertiser, publisher side by side, in the event; its region */
	uint32_t four_bytes, region_bytes;
};
struct tp_rollup_seek {
	struct tp_rollup_key key;
	uint64_t folded; /* hash of the row that it is likely to be counted in instead */
	uint32_t level;  /* … and how far that is folded; 0: not */
	bool click;
};

/* For any table. Holds while the event stays where it is; a copy of it may be added. */
void tp_rollup_seek(struct tp_rollup_seek *seek, const struct tp_event *event);
void tp_rollup_prefetch_index(const struct tp_rollup *table, const struct tp_rollup_seek *seek);
void tp_rollup_prefetch_row(const struct tp_rollup *table, struct tp_rollup_seek *seek);
void tp_rollup_prefetch_last(const struct tp_rollup *table, const struct tp_rollup_seek *seek);
bool tp_rollup_add_sought(struct tp_rollup *table, const struct tp_event *event, const struct tp_rollup_seek *seek);

/* The row and heap arrays, for readers and for the segment writer. */
static inline const struct tp_rollup_row *tp_rollup_rows(const struct tp_rollup *table)
{
	return (const struct tp_rollup_row *)(const void *)((const uint8_t *)table + table->rows_at);
}
static inline const char *tp_rollup_heap(const struct tp_rollup *table)
{
	return (const char *)table + table->heap_at;
}

/*
 * Copies row `index` (below an acquired `rows`) with consistent sums into *row. `row->version` is meaningless in the copy.
 * Any process. Spins only while the writer is inside an update of this very row; gives up after a bound and returns false
 * (the writer died in mid-update), with the sums it saw last.
 */
bool tp_rollup_read(const struct tp_rollup *table, uint32_t index, struct tp_rollup_row *row);

/* One string dimension of a row, wherever its heap lies. */
struct tp_str tp_rollup_string(const struct tp_rollup_row *row, const char *heap, enum tp_dimension which);

#endif
