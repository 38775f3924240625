/*
 * Scans, for the files that make them: what is inside.
 */
#ifndef STORAGE_SCAN_STATE_H
#define STORAGE_SCAN_STATE_H

#include "segment_rows.h"
#include "turnpike/scan.h"

enum { SCAN_CODES = 3, SCAN_WORDS = SEGMENT_BLOCK_ROWS / 64 };
static const enum tp_string scan_code_string[SCAN_CODES] = {TP_ADVERTISER_ID, TP_CAMPAIGN_ID, TP_AD_ID};

struct sto_scan {
	struct segment segment;
	struct segment_rows rows;
	struct sto_scan_filter filter;
	bool wants_code[SCAN_CODES];
	uint64_t code[SCAN_CODES];
	bool nothing; /* the segment cannot hold a wanted row */
	uint32_t next, block;
	bool loaded, prepared; /* for whole records */
	bool fetched;          /* what is likely to be read is on its way */
	/* what was read of the segment before: columns and dictionaries as segment_rows.used has them */
	uint64_t used, used_texts;
	bool all; /* every row of the block is wanted */
	uint32_t selected;
	/* memory for blocks of `room` rows; that of the next segment, too */
	uint32_t room;
	uint32_t *selection;
	uint64_t wanted[SCAN_WORDS]; /* a bit a row; not kept when all are */
	uint64_t *run_value[2];
	uint64_t *picked[SEGMENT_COLUMNS];   /* values of the wanted rows … */
	uint32_t picked_of[SEGMENT_COLUMNS]; /* … of this block, + 1 */
};

/* Selects rows of scan->block (scan_select.c). 1: some; 0: none; -EBADMSG. */
int scan_select(struct sto_scan *scan);
/* False: the zones of the block say that no row is wanted. */
bool scan_zones_want(const struct sto_scan *scan, uint32_t block);

/* scan_fetch.c */
void scan_fetch_texts(struct sto_scan *scan);
void scan_fetch(struct sto_scan *scan);

#endif
