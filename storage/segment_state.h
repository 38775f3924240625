/*
 * What a mapped segment keeps in memory besides its mapping; shared by the files that read segments.
 */
#ifndef STORAGE_SEGMENT_STATE_H
#define STORAGE_SEGMENT_STATE_H

#include "id_index.h"
#include "segment.h"

enum { SEGMENT_SECTIONS_MAX = 64 };

struct segment_memory {
	struct buffer section[SEGMENT_SECTIONS_MAX]; /* what was decompressed */
	uint64_t good, bad;                          /* bit per section: checked; damaged and told */
	struct id_index id_index;                    /* count 0: not open yet */
	struct tp_rollup_row *rollup;                /* derived from the rows */
	char *heap;
	uint32_t rollup_rows;
	bool rollup_derived;
};

/* The index of the ids, of version 3 and with rows; checked. 0, -EBADMSG or -ENOMEM. */
int segment_id_index(struct segment *segment, const struct id_index **index);

/* The copy of the footer behind the header, when the one at the end serves. */
bool segment_front_footer_good(const struct segment *segment);

#endif
