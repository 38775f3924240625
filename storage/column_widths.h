/*
 * How many values of a stream need how many bits: above the least one, as differences of neighbours above the least difference, and as
 * zigzag of the differences (column.h). What the writer chooses an encoding by; counted in the widest vectors there are.
 */
#ifndef STORAGE_COLUMN_WIDTHS_H
#define STORAGE_COLUMN_WIDTHS_H

#include <stdint.h>

enum column_widths_of { COLUMN_WIDTHS_ABOVE, COLUMN_WIDTHS_RISE, COLUMN_WIDTHS_ZIGZAG, COLUMN_WIDTHS };

struct column_widths {
	uint32_t count[65];
};

/* Of values [1, count), each with the one before it. `count` at least one. Sets all of widths[]. */
void column_widths(const uint64_t *values, uint32_t count, uint64_t min, uint64_t delta_min,
		   struct column_widths widths[COLUMN_WIDTHS]);

/* Neighbours mostly have the same width, and adding to what was just written waits for it: a table for each of some neighbours. */
enum { COLUMN_WIDTH_TABLES = 4 };
struct column_width_tables {
	struct column_widths of[COLUMN_WIDTHS][COLUMN_WIDTH_TABLES];
};

/* How it is done, eight values at a time; values[-1] is there. */
struct column_width_vectors {
	const char *name;
	void (*count)(const uint64_t *values, uint32_t groups, uint64_t min, uint64_t delta_min, struct column_width_tables *to);
};
/* For tests: what this processor can, the widest first; a name of NULL ends them. */
const struct column_width_vectors *column_width_vectors_all(void);
/* Makes that the one in use. Not while another thread encodes. */
void column_width_vectors_choose(const struct column_width_vectors *vectors);

#endif
