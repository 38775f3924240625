/*
 * Where in the live tables the rows of an id are: so that a question for one campaign reads that campaign's rows and no others. Rows
 * of a table are only added and keep their keys, so the index grows with the table and is never wrong, only short; who asks brings it
 * up to date first.
 *
 *   id ─ hash ─► head[bucket] ─► row 812 ─► next[812] ─► row 97 ─► next[97] … 0         newest first; others of the bucket among them
 *
 * One index per table, log file and dimension, made when it is first asked for, and let go when the file has been sealed.
 *
 * Any thread. Growing takes the lock; walking takes none: a link is written before the head that leads to it (release, acquire), and
 * what is walked is held (ctl_store_index_take) against being let go.
 */
#ifndef TURNPIKE_CTL_STORE_INDEX_H
#define TURNPIKE_CTL_STORE_INDEX_H

#include "turnpike/live.h"

struct ctl_store_index;  /* of all tables */
struct ctl_store_places; /* of one table and dimension */

int ctl_store_index_open(struct ctl_store_index **index); /* 0 or -ENOMEM */
void ctl_store_index_close(struct ctl_store_index *index);

/*
 * The places of a table that belongs to log file file_id, up to date with its first `rows` rows (acquired). NULL: no memory, or too
 * many tables: read all rows instead. If the table went to another file meanwhile, what is walked is of no use, as the table itself.
 */
struct ctl_store_places *ctl_store_index_take(struct ctl_store_index *index, const struct tp_live *live,
					      const struct tp_rollup *table, uint64_t file_id, uint32_t rows,
					      enum tp_dimension dimension);
void ctl_store_index_give(struct ctl_store_index *index, struct ctl_store_places *places);

/* Row numbers + 1, 0: no more. Each row of the id is among them, once. */
uint32_t ctl_store_places_first(const struct ctl_store_places *places, const char *id, size_t bytes);
uint32_t ctl_store_places_next(const struct ctl_store_places *places, uint32_t row);

/* Brings what has been asked for up to date, and lets go what is of no table any more. For a background thread. */
void ctl_store_index_refresh(struct ctl_store_index *index, const struct tp_live *live);

#endif
