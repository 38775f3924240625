/* Where the parts of a rollup table lie: for rollup.c and rollup_add.c only. The picture is at the top of rollup.c. */
#ifndef TURNPIKE_ROLLUP_OWN_H
#define TURNPIKE_ROLLUP_OWN_H

#include "turnpike/rollup.h"

enum { ROLLUP_MINUTES = 1024 };

static inline uint32_t *rollup_index(const struct tp_rollup *table)
{
	return (uint32_t *)((uintptr_t)table + table->index_at);
}

static inline uint32_t *rollup_minutes(const struct tp_rollup *table)
{
	return (uint32_t *)((uintptr_t)table + table->minutes_at);
}

static inline struct tp_rollup_row *rollup_rows(const struct tp_rollup *table)
{
	return (struct tp_rollup_row *)((uintptr_t)table + table->rows_at);
}

#endif
