/*
 * The inside of a store: the folder's paths, the manifest, what is published, the mapped segments.
 *
 * Locks, in the order in which they are taken. Nothing but the append itself is waited for under commit_lock; no input or output at
 * all happens under `lock`:
 *
 *   map_lock ──► lock         look-ups: which segments are mapped. A look-up waits for look-ups only
 *   merge_lock ──► commit_lock ──► lock    one merge at a time, and no rollup file is deleted under it
 *   commit_lock ──► lock      one append at a time. The manifest's state changes under both, so either is enough to read it
 *
 * Who looks through the segments takes the view, an unchanging list: a publication or deletion makes a new one beside it, and what
 * is gone from the list stays mapped until the last view that names it is given back.
 */
#ifndef STORAGE_STORE_STATE_H
#define STORAGE_STORE_STATE_H

#include "io.h"
#include "log_pool.h"
#include "manifest.h"
#include "segment.h"
#include "turnpike/reader.h"
#include "turnpike/store.h"

#include <pthread.h>
#include <stdatomic.h>

enum { STORE_PATH_BYTES = 4096, STORE_MAPPED_MAX = 4096, STORE_SEALS_MAX = 64, FOLDER_NAME_BYTES = 64 };

/* A published segment: what the manifest says, and its file once it was needed. Freed with the last view that names it. */
struct store_segment {
	struct manifest_segment facts;
	_Atomic uint32_t held; /* views that name it */
	_Atomic uint32_t gone; /* retired or replaced: its file may be missing */
	struct segment file;   /* under map_lock; file.base NULL: not mapped now */
	uint64_t used;         /* under map_lock: store->clock at the last use */
};

/* The published segments at one moment, in the order of publication, which is that of their sequences. */
struct store_view {
	_Atomic uint32_t held;
	uint32_t segments;
	struct store_segment *segment[];
};

/* A log file that may be sealed: found at open, or finished in this run. */
struct store_log {
	uint64_t file_id;
	uint64_t records; /* that sealing must find; UINT64_MAX: not known */
	bool sealing;     /* somebody is at it */
};

struct sto_store {
	/* set at open */
	const struct sto_io *io;
	char *data_dir;
	uint64_t log_file_bytes;
	bool preallocate;
	int lock_fd;
	uint8_t node_id[16];

	struct log_pool pool; /* has its own lock */

	/* under commit_lock */
	pthread_mutex_t commit_lock;
	int manifest_fd;
	bool manifest_failed; /* a sync failed: nothing is appended any more */
	bool manifest_torn;   /* at open: its last record was never synced and is still there */

	/* changed under commit_lock and lock, read under either */
	struct manifest manifest;
	uint64_t manifest_records;    /* in the file */
	uint64_t compact_records_min; /* before it is written anew; tests make it small */
	struct store_view *view;
	uint32_t segments_max;          /* room in the view */
	struct manifest_rollup *rollup; /* by class, then from_segment */
	uint32_t rollups, rollups_max;

	/* under lock */
	pthread_mutex_t lock;
	uint64_t next_file_id, next_sequence, next_rollup;
	struct store_log *unsealed; /* oldest first */
	uint32_t unsealed_count, unsealed_max;
	/* Segments are published in the order of their sequences: who has written a later one waits for the earlier. */
	pthread_cond_t seal_turn;
	uint64_t sealing[STORE_SEALS_MAX]; /* sequences being written, any order; 0: free */

	pthread_mutex_t merge_lock;

	/* under map_lock */
	pthread_mutex_t map_lock;
	_Atomic uint32_t mapped;
	uint64_t clock;
	struct segment_recalls recalls; /* of look-ups */
	bool recall_making;             /* somebody makes a table for them, outside of the lock */

	/* the log writers' opening thread's */
	_Atomic bool direct_refused, allocate_refused; /* told once */
};

/* sto_store_open() on any io table. The table outlives the store. */
int store_open(struct sto_store **store, const struct sto_store_options *options, const struct sto_io *io);

/* The same for sto_reader_open() and sto_verify(). */
int reader_open(struct sto_reader **reader, const char *data_dir, const struct sto_io *io);
int store_verify(const char *data_dir, sto_fault_fn fn, void *context, const struct sto_io *io);
/* By up to 64 threads; `io` must bear them. The same faults in the same order. */
int store_verify_threads(const char *data_dir, sto_fault_fn fn, void *context, const struct sto_io *io, uint32_t threads);
struct sto_backup_result;
int store_backup(const char *data_dir, const char *dir, struct sto_backup_result *result, const struct sto_io *io);

/* ---- folder.c: paths below data_dir. `to` has STORE_PATH_BYTES. 0 or -ENAMETOOLONG. Any thread ---- */
int folder_path(char *to, const char *data_dir, const char *name);
int folder_log_path(char *to, const char *data_dir, uint64_t file_id);
/* segments/<sequence>.seg; after a replacement <sequence>.<generation>.seg */
int folder_segment_path(char *to, const char *data_dir, uint64_t sequence, uint32_t generation);
void folder_segment_name(char to[FOLDER_NAME_BYTES], uint64_t sequence, uint32_t generation); /* the same, below data_dir */
int folder_segment_temporary(char *to, const char *data_dir, uint64_t sequence);
int folder_rollup_path(char *to, const char *data_dir, uint64_t sequence, bool temporary);
/* "00000000000000a1.log" to 0xa1; 0: not such a name. */
uint64_t folder_name_number(const char *name, const char *suffix);
/* "00000000000000a1.seg", "00000000000000a1.2.seg"; 0: not such a name. */
uint64_t folder_segment_number(const char *name, uint32_t *generation);

/* The node file: reads it, or makes it when `may_make`. -ENOENT, -EBADMSG (logged) or other -errno. */
int node_file_load(const struct sto_io *io, const char *data_dir, bool may_make, uint8_t id[16], uint64_t secret[2]);

/* Takes the lock of a data folder that is there. 0, -EBUSY or other -errno; *fd is to be closed if it is not negative. */
int folder_lock(const struct sto_io *io, const char *data_dir, int *fd);

/* ---- store_logs.c: opening thread ---- */
/* -EBADMSG (logged): a log file that was made is missing, or another one is in its place. */
int store_logs_check(struct sto_store *store);
/* Of the log files with these ids, ascending: removes what is done with or holds nothing, remembers the rest as unsealed. */
int store_logs_clear(struct sto_store *store, const uint64_t *id, uint32_t count);

/* ---- store_manifest.c ---- */
/* A manifest without records, by temporary name and rename. Opening thread. */
int store_manifest_make(struct sto_store *store, const char *path);
int store_manifest_load(struct sto_store *store, const char *path);
/* Cuts off a torn end, and writes a manifest of an older version anew. Opening thread. */
int store_manifest_ready(struct sto_store *store);

/*
 * Appends the records as one transaction and syncs it: the commit point. Segments get their place in the chain. -ENOSPC leaves all
 * as it was. Any thread.
 */
int store_commit(struct sto_store *store, struct manifest_record *record, uint32_t count);

/* Writes the manifest anew when most of its records are dead. Any thread. 1: done; 0: not worth it; -ENOSPC or other -errno. */
int store_manifest_compact(struct sto_store *store);

/* The list of segments as it is. Any thread; to be given back. */
struct store_view *store_view_take(struct sto_store *store);
void store_view_give(struct sto_store *store, struct store_view *view);
/* The segment of that sequence, or NULL. */
struct store_segment *store_view_find(const struct store_view *view, uint64_t sequence);

/* ---- store_work.c ---- */
/* Maps the segment if it is not mapped. Under map_lock. -ESTALE: it was deleted meanwhile. */
int store_segment_use(struct sto_store *store, struct store_view *view, struct store_segment *segment);

/* This log file may be sealed from now on. Any thread. */
int store_unsealed_add(struct sto_store *store, uint64_t file_id, uint64_t records);

/*
 * An id for a new log file, never given out before. One that was not used, by a file that was never made, may be given back, and is
 * then given out again if no later one was. Any thread.
 */
uint64_t store_file_id_take(struct sto_store *store);
void store_file_id_give(struct sto_store *store, uint64_t file_id);

/* ---- store_replace.c ---- */
/*
 * Publishes the file at folder_segment_temporary() (complete, synced) as the new file of segment facts->sequence, whose generation
 * was facts->generation when it was made; bytes and hashes are those of the new file. -EAGAIN: it has been replaced meanwhile;
 * -ENOENT: retired; -ENOSPC: later; other -errno: the disk failed. Any thread, one at a time for one segment.
 */
int store_replace(struct sto_store *store, const struct manifest_segment *facts);

/* ---- store_merge.c ---- */
/* Which adjacent rollup files (sorted by class and coverage) are merged next: how many from *first on; 0: none. Pure. */
uint32_t store_merge_choose(const struct manifest_rollup *rollup, uint32_t count, uint32_t *first);

/* SHA-256 of a file. Any thread. */
int file_sha256(const struct sto_io *io, const char *path, uint8_t sha256[MANIFEST_HASH_BYTES]);

#endif
