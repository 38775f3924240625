/*
 * What a mapped segment keeps in memory besides its mapping; shared by the files that read segments.
 */
#ifndef STORAGE_SEGMENT_STATE_H
#define STORAGE_SEGMENT_STATE_H

#include "segment.h"

enum { SEGMENT_SECTIONS_MAX = 64 };

struct segment_memory {
	struct buffer section[SEGMENT_SECTIONS_MAX]; /* what was decompressed */
	uint64_t good, bad;                          /* bit per section: checked; damaged and told */
	struct tp_rollup_row *rollup;                /* derived from the rows */
	char *heap;
	uint32_t rollup_rows;
	bool rollup_derived;
};

/* The copy of the footer behind the header, when the one at the end serves. */
bool segment_front_footer_good(const struct segment *segment);

#endif
