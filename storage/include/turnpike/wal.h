/*
 * The write-ahead log of one shard: group commit through io_uring, O_DIRECT, blocks with checksums.
 *
 *   append ─► open block (in memory) ─ full, or commit_interval passed ─► write in flight ─► complete ─► unbroken prefix: durable
 *
 * Threads: one shard core calls everything here, except sto_wal_spare_*() which the housekeeping thread calls to put new files in
 * and take finished ones out (two single-slot or SPSC hand-overs, no lock).
 *
 * Positions are record counts of this run: `appended` and `durable`. No allocation and no blocking system call after open.
 * A failed write or sync: sto_wal_poll() returns -errno, and from then on nothing becomes durable (invariant 7).
 */
#ifndef TURNPIKE_WAL_H
#define TURNPIKE_WAL_H

#include "turnpike/event.h"
#include "turnpike/store.h"

#include <stdbool.h>

struct sto_wal;

struct sto_wal_options {
	uint32_t shard;
	uint64_t commit_interval_ns;
	uint32_t block_bytes_max;  /* default 256 KiB; multiple of 4096 */
	uint32_t writes_in_flight; /* default 8 */
	uint64_t reserve_bytes;    /* what may still be in the hop rings: with less room than this and no spare file, no_space */
};

int sto_wal_open(struct sto_wal **wal, struct sto_store *store,
		 const struct sto_wal_options *options); /* cold; needs a first spare */
void sto_wal_close(struct sto_wal *wal);                 /* cold; call after everything is durable */

/*
 * Room for `bytes` in the open block. Writes the record there, then sto_wal_append(). NULL: no buffer is free (writes in flight),
 * or no file (wait for a spare): stop taking events for now, poll, try again.
 */
void *sto_wal_reserve(struct sto_wal *wal, uint32_t bytes);
void sto_wal_append(struct sto_wal *wal, uint32_t bytes, uint64_t now_ns);

/* Submits the open block if it is full, or has waited commit_interval, or `force`. watermark_ms goes into the block header. */
int sto_wal_flush(struct sto_wal *wal, uint64_t now_ns, uint64_t watermark_ms, bool force);

/* Reaps completions; returns how many blocks completed, or -errno when the disk failed. */
int sto_wal_poll(struct sto_wal *wal);

uint64_t sto_wal_appended(const struct sto_wal *wal);     /* records */
uint64_t sto_wal_durable(const struct sto_wal *wal);      /* records: the unbroken prefix */
uint64_t sto_wal_file_id(const struct sto_wal *wal);      /* where the next append goes; 0: no file yet */
uint64_t sto_wal_file_records(const struct sto_wal *wal); /* appended to that file so far */
/* When the next flush is due (monotonic ns), UINT64_MAX when nothing waits: for sleeping cores. */
uint64_t sto_wal_deadline_ns(const struct sto_wal *wal);
int sto_wal_fd(const struct sto_wal *wal);    /* pollable: readable when completions wait */
bool sto_wal_busy(const struct sto_wal *wal); /* writes in flight */

/*
 * Finishes the current file after the open block (a reserve that finds it full does this by itself). The next append goes to the
 * spare, whose id sto_wal_file_id() tells at once. -EAGAIN: no spare is there yet. No-op on a file without records.
 */
int sto_wal_roll(struct sto_wal *wal);

/* True while what is left of the file, without a spare, would not hold reserve_bytes: the node must refuse new beacons. */
bool sto_wal_no_space(const struct sto_wal *wal);

/* Figures since open, for counters. */
struct sto_wal_stats {
	uint64_t blocks, bytes, event_bytes, rolls;
};
void sto_wal_stats(const struct sto_wal *wal, struct sto_wal_stats *stats);

/* ---- housekeeping side ---- */
bool sto_wal_spare_wanted(const struct sto_wal *wal);
/* Creates and preallocates a file and hands it over. -ENOSPC is not an error of the disk: try again later. */
int sto_wal_spare_give(struct sto_wal *wal);
/* A finished file whose blocks are all durable: its id, ready for sto_seal(); 0 when there is none. */
uint64_t sto_wal_finished_take(struct sto_wal *wal);

#endif
