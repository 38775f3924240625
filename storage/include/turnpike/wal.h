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

#include "turnpike/dead_letter.h"
#include "turnpike/store.h"

#include <stdbool.h>

struct sto_wal;

struct sto_wal_options {
	uint32_t shard;
	uint64_t commit_interval_ns;
	uint32_t block_bytes_max;  /* default 256 KiB; multiple of 4096 */
	uint32_t writes_in_flight; /* default 16 */
	uint64_t reserve_bytes;    /* what may still be in the hop rings: with less room than this and no spare file, no_space */
};

/*
 * Cold; the opening thread (the ring is made here, the shard thread may use it). Makes a first file and takes it: sto_wal_file_id()
 * is not 0 afterwards, unless the disk is full; then the log begins with the first spare, by sto_wal_roll(). 0 or -errno; -EINVAL:
 * the store's log_file_bytes does not hold a block of block_bytes_max and 8 KiB more.
 */
int sto_wal_open(struct sto_wal **wal, struct sto_store *store, const struct sto_wal_options *options);
/*
 * Cold; call after everything is durable, with the shard and housekeeping stopped. Ends the current file, so that the next start
 * has proof that nothing is missing; removes files that were never used. Files with records that were not taken by
 * sto_wal_finished_take() are in sto_store_unsealed() then, and may be sealed.
 */
void sto_wal_close(struct sto_wal *wal);

/*
 * Room for `bytes` (at most TP_RECORD_BYTES_MAX, a multiple of 8) in the open block. Write the record there, then sto_wal_append();
 * without an append nothing has happened. Never moves on to another file: see sto_wal_must_roll(). NULL: no buffer is free (writes
 * in flight), or no file: stop taking events for now, poll, try again.
 */
void *sto_wal_reserve(struct sto_wal *wal, uint32_t bytes);
void sto_wal_append(struct sto_wal *wal, uint32_t bytes, uint64_t now_ns);

/*
 * Submits the open block if it is full, or has waited commit_interval, or `force`; but never more than writes_in_flight at once,
 * and then the next call does it. To cut the latency on an idle disk pass force = "nothing more is coming" && !sto_wal_busy().
 * watermark_ms goes into the headers of the blocks from now on; those that sto_wal_reserve() submits because they are full have the
 * last one given. Returns how many blocks it submitted, or -errno when the disk failed.
 */
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
 * True when the current file may not hold another record of maximal size (or there is no file): call sto_wal_roll(), and give the
 * rollup table of the new file its turn at the same record.
 */
bool sto_wal_must_roll(const struct sto_wal *wal);

/*
 * Finishes the current file after the open block. The next append goes to the spare, whose id sto_wal_file_id() tells at once.
 * -EAGAIN: no spare is there yet, or too many writes are in flight; nothing has changed for the caller, try again after polling. 0
 * and the same file when it has no records.
 */
int sto_wal_roll(struct sto_wal *wal);

/* Like sto_wal_roll(), but takes no spare: sto_wal_file_id() is 0 afterwards. For a clean stop on a full disk, too. */
int sto_wal_finish(struct sto_wal *wal);

/*
 * True while what is left of the file, without a spare, would not hold reserve_bytes, and while a block waits for room on a full
 * disk: the node must refuse new beacons.
 */
bool sto_wal_no_space(const struct sto_wal *wal);

/* Figures since open, for counters. */
struct sto_wal_stats {
	uint64_t blocks, bytes, event_bytes, rolls;
};
void sto_wal_stats(const struct sto_wal *wal, struct sto_wal_stats *stats);

/* ---- housekeeping side ---- */
bool sto_wal_spare_wanted(const struct sto_wal *wal);
/*
 * Creates and preallocates a file and hands it over; with preallocate it is written full of zeros, which takes a moment (0.1 to 0.3
 * s for 256 MiB). -ENOSPC is not an error of the disk: try again later. -EIO is.
 */
int sto_wal_spare_give(struct sto_wal *wal);
/* A finished file whose blocks are all durable: its id, ready for sto_seal(); 0 when there is none. */
uint64_t sto_wal_finished_take(struct sto_wal *wal);

#endif
