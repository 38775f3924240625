/*
 * The inside of a store: the folder's paths, the manifest, the mapped segments. Belongs to the housekeeping thread, but for the
 * parts that are set at open and never change.
 */
#ifndef STORAGE_STORE_STATE_H
#define STORAGE_STORE_STATE_H

#include "io.h"
#include "manifest.h"
#include "segment.h"
#include "turnpike/reader.h"
#include "turnpike/store.h"

enum { STORE_PATH_BYTES = 4096, STORE_MAPPED_MAX = 4096 };

/* A published segment: what the manifest says, and its file once it was needed. */
struct store_segment {
	struct manifest_segment facts;
	struct segment file; /* file.base NULL: not mapped now */
	uint64_t used;       /* store->clock at the last use */
	bool retired;        /* to be taken out by store_segments_compact() */
};

/* A log file that may be sealed: found at open, or finished in this run. */
struct store_log {
	uint64_t file_id;
	uint64_t records; /* that sealing must find; UINT64_MAX: not known */
};

struct sto_store {
	/* set at open */
	const struct sto_io *io;
	char *data_dir;
	uint64_t log_file_bytes;
	bool preallocate;
	int lock_fd;
	uint8_t node_id[16];

	/* housekeeping's own */
	struct manifest manifest;
	int manifest_fd;
	bool manifest_failed;          /* a sync failed: nothing is appended any more */
	bool manifest_torn;            /* its last record was never synced and is still there */
	struct store_segment *segment; /* in the order of publication, which is that of their sequences */
	uint32_t segments, segments_max;
	uint32_t mapped;
	uint64_t clock;
	uint64_t next_file_id, next_sequence;
	struct store_log *unsealed; /* oldest first */
	uint32_t unsealed_count, unsealed_max;
	bool direct_refused, allocate_refused; /* told once */
};

/* sto_store_open() on any io table. The table outlives the store. */
int store_open(struct sto_store **store, const struct sto_store_options *options, const struct sto_io *io);

/* The same for sto_reader_open() and sto_verify(). */
int reader_open(struct sto_reader **reader, const char *data_dir, const struct sto_io *io);
int store_verify(const char *data_dir, sto_fault_fn fn, void *context, const struct sto_io *io);

/* Paths below data_dir. `to` has STORE_PATH_BYTES. 0 or -ENAMETOOLONG. */
int folder_path(char *to, const char *data_dir, const char *name);
int folder_log_path(char *to, const char *data_dir, uint64_t file_id);
int folder_segment_path(char *to, const char *data_dir, uint64_t sequence, bool temporary);
/* "00000000000000a1.log" to 0xa1; 0: not such a name. */
uint64_t folder_name_number(const char *name, const char *suffix);

/* The node file: reads it, or makes it when `may_make`. -ENOENT, -EBADMSG (logged) or other -errno. */
int node_file_load(const struct sto_io *io, const char *data_dir, bool may_make, uint8_t id[16], uint64_t secret[2]);

/* Appends one record to the manifest and syncs it: the commit point. -ENOSPC leaves all as it was. */
int store_commit(struct sto_store *store, struct manifest_record *record);
/* Takes a committed or loaded segment into the list. */
int store_segment_add(struct sto_store *store, const struct manifest_segment *facts);
/* The segment of that sequence, or NULL. */
struct store_segment *store_segment_find(const struct sto_store *store, uint64_t sequence);
/* Takes out those marked as retired. */
void store_segments_compact(struct sto_store *store);
/* Maps the segment if it is not mapped. */
int store_segment_use(struct sto_store *store, struct store_segment *segment);
void store_segment_drop(struct sto_store *store, struct store_segment *segment);

/* This log file may be sealed from now on. */
int store_unsealed_add(struct sto_store *store, uint64_t file_id, uint64_t records);

#endif
