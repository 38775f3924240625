/*
 * Dead letters and conflicts out of the data folder: the newest that fit a question, from log files that are not sealed and from segments
 * together. Reads only; a stopped node's folder is as good as a running one's.
 *
 * Each has a name that stays: the number of its log file, which its segment keeps, and its place among the file's dead letters ("3-17"); of
 * conflicts, whose order the segment does not keep, a hash of their record ("3-c90a1…"). So a cursor holds over sealing and restart.
 * Conflicts of one file that are alike to the millisecond are one entry with a number of copies.
 *
 * The order is by time of receipt, newest first, then by file and place. A segment is opened only while it may still hold something newer than
 * the oldest wanted: nothing in it was received after it was sealed, give or take CTL_DLQ_STEP_MS by which a clock may be set back.
 *
 * Threads: any, one at a time per call; it opens what it reads with, and closes it. Memory: at most 2 × limit records.
 */
#ifndef TURNPIKE_CTL_DLQ_READ_H
#define TURNPIKE_CTL_DLQ_READ_H

#include "turnpike/dead_letter.h"

enum { CTL_DLQ_LIMIT = 100, CTL_DLQ_LIMIT_MAX = 1000, CTL_DLQ_STEP_MS = 60000, CTL_DLQ_NAME_BYTES = 48, CTL_DLQ_CURSOR_BYTES = 80 };

/* ctl_dlq_query.reasons: 1 << enum tp_reject, and this bit. */
enum { CTL_DLQ_CONFLICT = 1u << TP_REJECTS };

/* Where an entry stands in the order. */
struct ctl_dlq_key {
	uint64_t received_ms;
	uint64_t file_id;
	uint64_t place; /* of a dead letter, or hash of a conflict */
	bool conflict;
};

struct ctl_dlq_query {
	uint64_t from_ms, to_ms; /* of receipt, half-open; to_ms 0: no end */
	uint32_t reasons;        /* 0: all */
	uint32_t limit;
	const char *advertiser; /* conflicts of this advertiser and nothing else; NULL: all */
	bool has_before;
	struct ctl_dlq_key before; /* only what comes behind it */
	bool has_only;
	struct ctl_dlq_key only; /* this one alone; its received_ms is not looked at */
};

struct ctl_dlq_entry {
	struct ctl_dlq_key key;
	uint64_t copies;         /* of a conflict that came more than once in a millisecond; else 1 */
	struct tp_event *record; /* a conflict, or a struct tp_dead_letter */
};

struct ctl_dlq {
	struct ctl_dlq_entry *entry; /* newest first */
	uint32_t count;
	bool more;         /* there are older ones */
	uint64_t sequence; /* with -EBADMSG: the segment that is damaged; 0: a log file */
};

/*
 * Fills *found, to be freed with ctl_dlq_free() whatever is returned. 0; -EBADMSG; -EAGAIN: the manifest changed so often that no snapshot
 * came about; -ENOMEM; other -errno.
 */
int ctl_dlq_read(const char *data_dir, const struct ctl_dlq_query *query, struct ctl_dlq *found);
void ctl_dlq_free(struct ctl_dlq *found);

/* "3-17", "3-c90a1b2c3d4e5f607": the name of an entry. `to` has room for CTL_DLQ_NAME_BYTES. */
void ctl_dlq_name(const struct ctl_dlq_key *key, char *to);
/* The same as a place in the order, with the time of receipt: a cursor. `to` has room for CTL_DLQ_CURSOR_BYTES. */
void ctl_dlq_cursor(const struct ctl_dlq_key *key, char *to);
/* The other way round; false: it is none. */
bool ctl_dlq_name_parse(const char *text, struct ctl_dlq_key *key);
bool ctl_dlq_cursor_parse(const char *text, struct ctl_dlq_key *key);

/* "malformed", …, "conflict" to its bit; 0: there is no such reason. */
uint32_t ctl_dlq_reason(const char *text);

#endif
