/*
 * What a recount remembers of a window: which ids it has counted, and what came together for each line. Fixed memory.
 *
 *   ids    (id, minute) ─► counted, flagged, amended        open addressing under a random key, 24 bytes an entry
 *   names  advertisers and campaigns, each once             so that a line is compared by two numbers
 *   lines  (advertiser, campaign, minute, currency) ─► three sets of sums: raw, and what was reported before and after
 *
 * Belongs to the recount alone: nothing here is shared with rollups or queries, because it is to find their faults.
 * Owned by one thread.
 */
#ifndef TURNPIKE_CTL_RECOUNT_TABLE_H
#define TURNPIKE_CTL_RECOUNT_TABLE_H

#include "ctl_recount.h"

enum { RECOUNT_COUNTED = 1, RECOUNT_FLAGGED = 2, RECOUNT_AMENDED = 4 };

struct recount_id {
	uint64_t hi, lo;
	uint32_t minute, state; /* 0: a free slot */
};
static_assert(sizeof(struct recount_id) == 24, "the memory of a recount is a number of these");

struct recount_line {
	uint32_t advertiser, campaign; /* numbers of names */
	uint32_t minute;
	char currency[4];
	struct ctl_recount_sums raw, before, after;
};

struct recount_name {
	uint32_t at;
	uint16_t bytes;
};

struct recount_table {
	struct recount_id *id;
	uint64_t id_slots, ids, ids_max;
	struct recount_line *line;
	uint32_t *line_index; /* 0: free, else line + 1 */
	uint32_t line_slots, lines, lines_max;
	struct recount_name *name;
	uint32_t *name_index;
	uint32_t name_slots, names, names_max;
	char *text;
	uint32_t text_bytes, text_bytes_max;
	uint64_t key[2]; /* random: nobody can send ids that meet in one slot */
};

/* 0 or -ENOMEM. Takes no more than `bytes`. */
int recount_table_open(struct recount_table *table, uint64_t bytes);
void recount_table_close(struct recount_table *table);
/* Forgets all, or the ids alone. */
void recount_table_clear(struct recount_table *table);
void recount_table_clear_ids(struct recount_table *table);

uint64_t recount_id_hash(const struct recount_table *table, struct tp_id id, uint32_t minute);
/* Brings the slot closer. */
static inline void recount_id_prefetch(const struct recount_table *table, uint64_t hash)
{
	__builtin_prefetch(&table->id[hash & (table->id_slots - 1)], 1);
}
/* The entry, made if it is not there: its state is 0 then, to be set. NULL: full. */
struct recount_id *recount_id_find(struct recount_table *table, struct tp_id id, uint32_t minute, uint64_t hash);

/* The number of a name. False: full. */
bool recount_name_find(struct recount_table *table, struct tp_str name, uint32_t *number);
struct tp_str recount_name_text(const struct recount_table *table, uint32_t number);

/* The line, made if it is not there; valid until the table is cleared. NULL: full. */
struct recount_line *recount_line_find(struct recount_table *table, uint32_t advertiser, uint32_t campaign, uint32_t minute,
				       const char currency[3]);
/* By minute, advertiser, campaign, currency; nothing can be found any more until the table is cleared. */
void recount_table_sort(struct recount_table *table);

#endif
