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
 * `memory`: agg_fold_bytes() of the same numbers, 64-byte aligned, whatever is in it; the caller frees it. gap_ms: a session ends when its user
 * does nothing for this long, > 0.
 */
struct agg_fold *agg_fold_init(void *memory, uint64_t events, uint64_t record_bytes, uint64_t gap_ms);

/* Sections of many events take a while to write: `fn` is called now and then meanwhile, to let go of the core. */
void agg_fold_yield_set(struct agg_fold *fold, void (*fn)(void *context), void *context);

/* False: more than the memory was made for; the event is not taken in. */
bool agg_fold_show(struct agg_fold *fold, const struct tp_event *event);

/*
 * The same for several events, by somebody who has numbered the strings of all that he shows, conflicts too: string[s][i] is the number of the string s
 * of event i, from 0 on as they came; equal numbers are equal strings. So each string is looked up once. False: some of them are not taken in.
 */
bool agg_fold_show_numbered(struct agg_fold *fold, const struct tp_event *const *event, uint32_t count,
			    const uint32_t *const string[TP_STRINGS]);

/*
 * Each writes its section to `to` and returns its length, 0 when there is nothing to write; with `to` NULL only the length that is
 * enough. They may be called in any order. The sessions are always written, though there be none: a
 * segment without that section was made without a fold, and who asks must read its events.
 */
uint64_t agg_fold_sessions(struct agg_fold *fold, void *to);
uint64_t agg_fold_distinct(struct agg_fold *fold, void *to);
uint64_t agg_fold_sources(struct agg_fold *fold, void *to);

/* ---- asking a fold that goes on taking events, for what is not sealed yet ---- */

/* Bytes of memory that it has touched by now, about. */
uint64_t agg_fold_used(const struct agg_fold *fold);

/* Calls fn with a session of one event for each event of the user; its names point into the fold. False ends the walk. */
struct agg_session;
typedef bool (*agg_fold_session_fn)(void *context, const struct agg_session *session);
bool agg_fold_user(const struct agg_fold *fold, const char *user, size_t bytes, agg_fold_session_fn fn, void *context);

/* As agg_distinct_take(): returns how many events there were. */
struct agg_distinct;
uint64_t agg_fold_distinct_take(const struct agg_fold *fold, const char *campaign, size_t bytes, uint32_t from_hour,
				uint32_t to_hour, struct agg_distinct *into);

/* As agg_sources_take(). */
struct agg_sources;
uint32_t agg_fold_sources_take(struct agg_fold *fold, uint32_t from_minute, uint32_t to_minute, struct agg_sources *into);

#endif
