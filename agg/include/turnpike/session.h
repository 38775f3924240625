/*
 * Sessions: runs of one user's activity in event time. A gap of gap_ms or more between two events ends one.
 *
 * A log file holds a part of a user's events, so what its section has are partial sessions. Merging them is exact: two parts belong
 * to the same session if and only if they overlap or lie less than gap_ms apart, and whether events came late or on which shard
 * does not matter. The section, little endian, 8-byte aligned:
 *
 *   u32 version 1   u32 sessions   u64 gap_ms   u64 heap bytes   u64 zero
 *   sessions × struct agg_session_entry, 64 bytes, sorted by (user_hash, user, start_ms)
 *   heap: user names; lists of {u8 bytes, name}, ads first, then publishers
 *
 * Threads: any; a view points into bytes that the caller keeps.
 */
#ifndef TURNPIKE_SESSION_H
#define TURNPIKE_SESSION_H

#include "turnpike/event.h"

#include <stdbool.h>

/* Distinct names that a session keeps of each kind; beyond, only that there were more. */
enum { AGG_SESSION_NAMES_MAX = 32, AGG_SESSION_VERSION = 1 };

struct agg_session_head {
	uint32_t version, sessions;
	uint64_t gap_ms, heap_bytes, zero;
};
static_assert(sizeof(struct agg_session_head) == 32, "disk format");

struct agg_session_entry {
	uint64_t user_hash;        /* XXH3-64 of the user, no secret */
	uint64_t start_ms, end_ms; /* stamps of its first and last event */
	uint32_t impressions, conversions;
	uint32_t clicks, flagged_clicks; /* modulo 2^32: an amendment may lie in another file than its click */
	uint32_t user_at, names_at;      /* in the heap */
	uint8_t user_bytes;
	uint8_t ads, publishers; /* how many names */
	uint8_t more;            /* AGG_MORE_… */
	uint32_t zero[3];
};
static_assert(sizeof(struct agg_session_entry) == 64, "disk format");

enum { AGG_MORE_ADS = 1, AGG_MORE_PUBLISHERS = 2 };

/* A session as it is shown: one or more partial ones. Names point to where the parts lie. */
struct agg_session {
	uint64_t start_ms, end_ms;
	uint32_t impressions, conversions, clicks, flagged_clicks;
	uint32_t ads, publishers;
	bool more_ads, more_publishers;
	struct tp_str ad[AGG_SESSION_NAMES_MAX], publisher[AGG_SESSION_NAMES_MAX];
};

/* 0, or -EBADMSG when the bytes are no section: every offset and length in it is checked, once. */
int agg_sessions_check(const void *section, uint64_t bytes);

/*
 * The partial sessions of `user` in a checked section: the first one's index, and how many follow each other. Zero when there are
 * none.
 */
uint32_t agg_sessions_find(const void *section, const char *user, size_t user_bytes, uint32_t *first);
uint32_t agg_sessions_count(const void *section);
void agg_sessions_get(const void *section, uint32_t index, struct agg_session *session, struct tp_str *user);

/* A session of one event, for events that are not sealed. Zero counts for what counts nothing. */
void agg_session_of(const struct tp_event *event, struct agg_session *session);

/* True if the two belong together. */
bool agg_session_joins(const struct agg_session *a, const struct agg_session *b, uint64_t gap_ms);
void agg_session_merge(struct agg_session *into, const struct agg_session *from);

/*
 * Merges what belongs together among `count` partial sessions of one user, in place. Returns how many are left, ordered by start.
 * What began as amendments alone (their clicks lie elsewhere and were not given) may have counts that wrap: give all parts.
 */
uint32_t agg_sessions_merge(struct agg_session *sessions, uint32_t count, uint64_t gap_ms);

#endif
