/*
 * Folds: aggregates that nobody needs at line rate. They are made from a log file's events when it is sealed, lie in the segment as
 * sections, and merge: the aggregate of many files is the merge of theirs, whatever the order. A reader that wants what is not
 * sealed yet shows the log's events to a fold of its own. So the shard core pays nothing for them, an attacker cannot fill a table
 * that honest users need, and replay gives the same bytes.
 *
 *   sessions   partial sessions of each user: agg_session_*, session.h
 *   distinct   users per campaign and hour, as HyperLogLog: agg_distinct_*, distinct.h
 *   sources    the addresses with most clicks, per minute: agg_sources_*, sources.h
 *
 * Shown: counted events and amendments, once each, in any order. Conflicts and what else a log has are passed over.
 *
 * Pure: memory is the caller's, no system call, no clock. One thread.
 */
#ifndef TURNPIKE_FOLD_H
#define TURNPIKE_FOLD_H

#include "turnpike/event.h"

#include <stdbool.h>

struct agg_fold;

/* Memory for `events` events whose records have `record_bytes` together. Only what is used is touched. */
uint64_t agg_fold_bytes(uint64_t events, uint64_t record_bytes);

/*
 * `memory`: agg_fold_bytes() of the same numbers, 64-byte aligned, zeroed; the caller frees it. gap_ms: a session ends when its user
 * does nothing for this long, > 0.
 */
struct agg_fold *agg_fold_init(void *memory, uint64_t events, uint64_t record_bytes, uint64_t gap_ms);

/* False: more than the memory was made for; the event is not taken in. */
bool agg_fold_show(struct agg_fold *fold, const struct tp_event *event);

/*
 * Each writes its section to `to` and returns its length, 0 when there is nothing to write; with `to` NULL only the length that is
 * enough. They may be called in any order, and reorder what the fold holds.
 */
uint64_t agg_fold_sessions(struct agg_fold *fold, void *to);
uint64_t agg_fold_distinct(struct agg_fold *fold, void *to);
uint64_t agg_fold_sources(struct agg_fold *fold, void *to);

#endif
