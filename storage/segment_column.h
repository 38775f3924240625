/*
 * The columns of a segment: names, and which of them may be written as a function of which other.
 *
 * Threads: any; constants only.
 */
#ifndef STORAGE_SEGMENT_COLUMN_H
#define STORAGE_SEGMENT_COLUMN_H

#include "segment_format.h"

enum { SEGMENT_PARENTS_MAX = 3 };

struct segment_column_rule {
	const char *name;
	bool hot;                             /* scans read it: never compressed by zstd, never a function of another */
	uint8_t order;                        /* enum text_order; TEXT_ORDERS: the writer's choice */
	uint16_t texts_bytes_max;             /* of one text */
	uint16_t parent[SEGMENT_PARENTS_MAX]; /* candidates, 0: none (column 0 is no parent); parents have no path back to here */
};

/* name NULL: no such column. */
extern const struct segment_column_rule segment_column_rule[SEGMENT_COLUMNS];

bool segment_parent_may(uint16_t column, uint16_t parent);
/* May this column be a function of another, or another of it? */
bool segment_column_follows(uint32_t column);

#endif
