/*
 * One consistent view of all figures: the sealed segments and the live tables together, each log file exactly once.
 *
 *   refresh manifest ─► rows of live tables whose file is not sealed ─► refresh again ─ changed? start over
 *                                                                          └ same ─► rows of the sealed files (immutable)
 *
 * Sealed files are the rollup files (minutes, hours, days) and the segments that they do not cover yet: which is which is in the same
 * manifest.
 *
 * Why nothing is counted twice or missed at the hand-over: a file's table is given back only after the manifest has its segment. If
 * the manifest did not change around the reading of the tables, every file was on one side for the whole time. A table that is
 * given to another file while it is read shows by its file_id.
 *
 * A store belongs to one thread at a time: its users share it under a lock of theirs, or have one each.
 */
#ifndef TURNPIKE_CTL_STORE_H
#define TURNPIKE_CTL_STORE_H

#include "turnpike/live.h"
#include "turnpike/reader.h"

struct ctl_store;

int ctl_store_open(struct ctl_store **store, const char *data_dir); /* 0 or -errno; the folder need not exist yet */
/* Over a reader that is open already, and the store's from then on. 0 or -ENOMEM. */
int ctl_store_open_reader(struct ctl_store **store, struct sto_reader *reader);
void ctl_store_close(struct ctl_store *store);
struct ctl_store_index;
/* Finds the rows of an id in live tables by this index from now on, which other stores may use too. NULL: reads them all. */
void ctl_store_index_use(struct ctl_store *store, struct ctl_store_index *index);
/* What it reads with, for questions beyond sums: the store's own, under the same lock. */
struct sto_reader *ctl_store_reader(struct ctl_store *store);

struct ctl_scan {
	void *context;
	uint64_t from_minute, to_minute; /* half-open; rows outside may come too */
	/* What the caller will do with the rows, so that less has to be read; rows that do not fit may come all the same. */
	enum sto_grain grain;        /* the coarsest buckets that serve: a row's minute is where its bucket starts */
	enum tp_dimension dimension; /* with `id`: only rows that have it there */
	const char *id;              /* NULL: all */
	size_t id_bytes;
	bool alone; /* with `id`: the other dimensions are not looked at, and may be empty */
	/* The tables are read anew: forget what row() brought. Called at least once, before any row. */
	void (*begin)(void *context);
	/* Segment by segment, each by minutes: false leaves one out. NULL: from rollup files where there are. */
	bool (*want)(void *context, const struct sto_segment_info *info);
	/*
	 * Before the first row of sealed files: true leaves all of these out, because the caller has what they make up, as of this
	 * state (sto_reader_state). NULL: they come. Not with `want`.
	 */
	bool (*sealed)(void *context, const uint64_t state[STO_READER_STATE]);
	/* One row; valid during the call. False ends the scan (-ECANCELED). */
	bool (*row)(void *context, const struct tp_rollup_row *row, const char *heap);
};

struct ctl_facts {
	uint64_t watermark_ms;     /* read before the rows: what it calls final is in them */
	uint64_t damaged_sequence; /* with -EBADMSG: the segment, or the rollup file */
	bool damaged_rollup;
};

/*
 * Calls back for each row of the one snapshot. `live` may be NULL. 0; -ECANCELED; -EBADMSG: a segment is damaged; -EAGAIN: the
 * manifest changed so often that no snapshot came about; another -errno: the manifest cannot be read.
 */
int ctl_store_scan(struct ctl_store *store, const struct tp_live *live, const struct ctl_scan *scan, struct ctl_facts *facts);

#endif
