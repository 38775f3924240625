/*
 * The data folder: who may use it, which files are in it, and what is true.
 *
 *   <data_dir>/lock            flock'ed by the data process
 *   <data_dir>/node            node id and the id secret, written once
 *   <data_dir>/manifest        append-only: the one commit point of every publication and deletion
 *   <data_dir>/log/<id>.log    write-ahead log files, <id> = 16 hex digits, growing
 *   <data_dir>/segments/<seq>.seg   immutable
 *   <data_dir>/rollups/<seq>.rol    immutable: the segments' sums, merged, by minute, hour and day
 *
 * The life of a log file: created by the housekeeping thread (spare) and put on record → taken by a shard's log writer (open) → finished → sealed
 * into exactly one segment, published by one manifest append → deleted. At start every log file that the manifest does not call
 * sealed is recovered and then sealed like the rest; writing never goes on in an old file.
 *
 * Threads: after sto_store_open() any thread may call any function, several at once, except where one says otherwise. No function
 * holds a lock over long work: a look-up never waits for a seal, a merge or a deletion, and nothing here waits for a shard core. What
 * they wait for: sto_seal() for the seals that began before it; whatever publishes or deletes, for the one append and sync of another.
 */
#ifndef TURNPIKE_STORE_H
#define TURNPIKE_STORE_H

#include "turnpike/event.h"
#include "turnpike/rollup.h"

#include <stdbool.h>

struct sto_store;

struct sto_store_options {
	const char *data_dir;
	uint64_t log_file_bytes;
	bool preallocate;
};

/*
 * Opens (and creates) the folder, takes the lock, loads the manifest, removes leftovers of unfinished work (spare logs, segment
 * files that the manifest does not know, logs that it calls sealed). Sets the id secret (tp_id_secret_set).
 * -EBUSY: another process has it. -EBADMSG: damage, logged in detail. Other -errno as they come.
 */
int sto_store_open(struct sto_store **store, const struct sto_store_options *options);
/* Only when no other thread is in the store, and no log writer is open. */
void sto_store_close(struct sto_store *store);

/* ---- recovery ---- */

/*
 * Log files that are not sealed and that no log writer has: those found at open, oldest first, then those that writers finished.
 * The array is the caller's to free().
 */
int sto_store_unsealed(struct sto_store *store, uint64_t **file_ids, uint32_t *count);

typedef int (*sto_event_fn)(void *context, const struct tp_event *event); /* non-zero stops and is returned */

/*
 * What is called for the records of a log, in its order; each may be NULL. `other` gets those that are no events, of which only `bytes`
 * and `type` are then to be looked at: see turnpike/dead_letter.h.
 */
struct sto_record_fns {
	sto_event_fn event, other;
	void *context;
	/* Records given since the last call go away now: until then they stay where they are. Non-zero stops and is returned. NULL: nobody minds. */
	int (*gone)(void *context);
};

struct sto_log_facts {
	uint64_t file_id;
	uint32_t shard;  /* that wrote it */
	uint64_t events; /* in the provable prefix */
	uint64_t others; /* records in it that are no events */
	uint64_t blocks;
	uint64_t watermark_ms;       /* the newest that its blocks carry */
	uint64_t tail_bytes_ignored; /* written but not provable: never acknowledged */
};

/*
 * Reads a finished or recovered log file to the end of its provable prefix (checksums, chain), each event once, in order. -EBADMSG
 * when a block is damaged although a later block proves that it had been acknowledged: nothing may be guessed then. Any thread.
 */
int sto_log_read(struct sto_store *store, uint64_t file_id, sto_event_fn fn, void *context, struct sto_log_facts *facts);

/*
 * How much there is to read in an unsealed log file: never too little. `closely`: by its blocks' headers, unchecked, a read for each; else
 * by its size alone. Any thread.
 */
struct sto_log_size {
	uint64_t bytes;      /* of the file */
	uint64_t events_max; /* at most so many events will be found */
};
int sto_log_size(struct sto_store *store, uint64_t file_id, bool closely, struct sto_log_size *size);

/* ---- sealing ---- */

/*
 * What the segment carries besides events and rollup: made by other modules from what lies beside the rollup table, found again by
 * its kind (sto_reader_section). Readers skip kinds that they do not know.
 */
enum sto_section_kind {
	STO_SECTION_FIRST = 0x100,    /* below: the segment's own */
	STO_SECTION_SESSIONS = 0x100, /* agg/include/turnpike/session.h */
	STO_SECTION_DISTINCT = 0x101, /* …/distinct.h */
	STO_SECTION_SOURCES = 0x102,  /* …/sources.h */
};

struct sto_extra {
	uint32_t kind; /* each at most once */
	const void *bytes;
	uint64_t length;
};

enum { STO_SHOW_MAX = 32 };
struct sto_seal_options {
	const struct sto_extra *extra;
	uint32_t extras;
	/*
	 * For sections that are made from the events, in the one reading of the log file: `show` sees each event in the order of the log, then
	 * `sections` gives them, up to STO_EXTRAS_MAX, to stay until sto_seal() returns. Instead of `extra`; NULL: none. Events come up to
	 * STO_SHOW_MAX at a time; string[s][i] numbers the string s of the i-th, from 0 in the order in which they come: equal numbers are equal
	 * strings of this file.
	 */
	void (*show)(void *context, const struct tp_event *const *event, uint32_t count, const uint32_t *const string[TP_STRINGS]);
	uint32_t (*sections)(void *context, const struct sto_extra **extra);
	void *show_context;
	/* Called every few hundred microseconds of work, so that a thread that shares a core can give way. NULL: never. */
	void (*yield)(void *context);
	void *yield_context;
};

enum { STO_EXTRAS_MAX = 16 };

/*
 * Writes the segment of log file `file_id` (rows from the log itself; `rollup` has the sums of exactly these events, made by the
 * caller; options may be NULL), publishes it in the manifest, synced. After this returns 0, readers find it. An empty log file makes no segment: its end
 * is recorded in the manifest. The log file itself is removed by sto_log_delete() once the live table was given back.
 *
 * -ENOSPC: try again later. -EBADMSG: the log is damaged or does not agree with `rollup` (logged); nothing was published.
 * -EALREADY: it is sealed. -EINVAL: no such file in sto_store_unsealed(), or somebody is sealing it. -EBUSY: more than 64 seals at
 * once. Anything else: the disk failed, stop.
 */
int sto_seal(struct sto_store *store, uint64_t file_id, const struct tp_rollup *rollup, const struct sto_seal_options *options);
/* The log file is of no more use: it is kept to be recycled into the next spare, or removed. -EINVAL: not sealed. */
int sto_log_delete(struct sto_store *store, uint64_t file_id);
/* Removes the files that are kept to be recycled: for a disk that gets full. Returns how many there were. Any thread. */
uint32_t sto_store_space_release(struct sto_store *store);

/*
 * Writes segment `sequence` anew, compressed as hard as it gets: seconds of work for some percent of space. Older versions become
 * version 3. Any thread. 1: done, *bytes is its size now; 0: it would not get smaller; -ENOENT: no such segment; -EBADMSG; -ENOSPC; -errno.
 */
int sto_archive(struct sto_store *store, uint64_t sequence, const struct sto_seal_options *options, uint64_t *bytes);

/* ---- the late lane and recovery of the horizon ---- */

enum sto_lookup { STO_ABSENT, STO_SAME, STO_OTHER };
/* Is (id, minute) among the counted events of a sealed segment? Result or -errno. */
int sto_segments_lookup(struct sto_store *store, struct tp_id id, uint32_t minute, uint64_t fingerprint);

/* Calls fn for (id, fingerprint, minute) of each counted event, in segments that have events at or after minute_min. */
typedef int (*sto_id_fn)(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute);
int sto_segments_ids(struct sto_store *store, uint32_t minute_min, sto_id_fn fn, void *context);

/* Like sto_log_read over the rows of every segment with an event stamped at or after min_ms, oldest segment first. */
int sto_segments_events(struct sto_store *store, uint64_t min_ms, sto_event_fn fn, void *context);

/* The highest watermark that any segment ever had, retired ones too; 0 without segments. */
uint64_t sto_segments_watermark(struct sto_store *store);

/* ---- rollup files ---- */

struct sto_merge_options {
	bool now;                     /* cover segments at once, however few and new they are */
	void (*yield)(void *context); /* as in sto_seal_options */
	void *yield_context;
};

/*
 * One unit of the work that keeps questions cheap: sums of new segments into rollup files, rollup files merged into larger ones, the
 * manifest written anew when most of it is dead. 1: something was done, there may be more; 0: nothing to do (or another thread is at
 * it); -ENOSPC: later; -EBADMSG: a file is damaged (logged), it stays as it is; another -errno: the disk failed, stop. options may be
 * NULL. For a background thread: it takes as long as it takes.
 */
int sto_merge_step(struct sto_store *store, const struct sto_merge_options *options);

/* Segments up to this sequence are in rollup files. */
uint64_t sto_covered(struct sto_store *store);

/* ---- retention ---- */

enum sto_retention_class { STO_RETAIN_RAW, STO_RETAIN_MINUTE, STO_RETAIN_HOUR, STO_RETAIN_DAY, STO_RETENTION_CLASSES };

struct sto_retention {
	uint64_t raw_ms, minute_ms, hour_ms, day_ms;
};
/* The ages that count: a class is kept at least as long as the finer ones. */
void sto_retention_effective(const struct sto_retention *wanted, uint64_t age_ms[STO_RETENTION_CLASSES]);

struct sto_retained {
	uint32_t files[STO_RETENTION_CLASSES];
	uint64_t bytes[STO_RETENTION_CLASSES];
};
/*
 * Deletes what is beyond its age: each file by manifest append, then unlink. *retained: what went, also after an error. 0, -ENOSPC
 * or another -errno.
 */
int sto_retain(struct sto_store *store, const struct sto_retention *retention, uint64_t now_ms, struct sto_retained *retained);

#endif
