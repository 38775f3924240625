/*
 * A shard: takes events from its hops, decides each one (dedup, late, fraud), writes it to its log and its rollup table, and tells
 * the rx cores what is durable. One shard core enters it, by dp_shard_poll(); housekeeping meets it only in the fields marked so.
 *
 * The loop knows no kinds of event and no rules: it asks agg/ for a verdict, shows the record to its machines (turnpike/machine.h), and
 * hands it on.
 *
 * The order that makes invariant 1 hold: an event is decided and appended before the position after it is marked; a mark is published
 * to the rx core only when the log is durable up to the records appended by then. A duplicate appends nothing, but lies behind its
 * original in the same log, so its mark waits for it. What a conflict conflicts with may be in another shard's log: its mark waits for that
 * one, too (shard_rivals.h).
 */
#ifndef TURNPIKE_SHARD_H
#define TURNPIKE_SHARD_H

#include "beacon/intake.h"
#include "shard_dead.h"
#include "shard_rivals.h"
#include "turnpike/dedup.h"
#include "turnpike/live.h"
#include "turnpike/machine.h"
#include "turnpike/meter.h"
#include "turnpike/wal.h"
#include "turnpike/watermark.h"

enum { DP_LATE_LANE = 1024, DP_SHARD_BURST = 64, DP_SHARD_MARKS = 256, DP_MACHINES_MAX = 8 };

/* An event on its way through the late lane. Written by the shard, `lookup` by the late thread. */
struct dp_late_entry {
	uint64_t owner;
	uint32_t index;
	uint32_t rx;
	uint32_t rotations; /* of the id table when it was handed over */
	int32_t lookup;     /* enum sto_lookup or -errno */
	uint32_t verdict;
	uint64_t record; /* appended count that must be durable before it is answered */
	uint64_t rivals; /* note that must be settled before it is answered; 0: none */
	_Alignas(8) uint8_t event[TP_SENT_BYTES_MAX];
};

/*
 * The late lane of one shard: one ring, three cursors that follow each other.
 *   answered <= decided <= looked <= given
 */
struct dp_late_lane {
	_Alignas(64) _Atomic uint64_t given;     /* shard writes, the late thread reads */
	_Alignas(64) _Atomic uint64_t looked;    /* the late thread writes, shard reads */
	_Alignas(64) uint64_t decided, answered; /* the shard's own */
	struct dp_late_entry *entry;             /* DP_LATE_LANE of them */
};

/* After these hop positions, `appended` records had been written. */
struct dp_mark {
	uint64_t appended;
	uint64_t rivals;     /* the note that a conflict before these positions waits for; 0: none */
	uint64_t decided_ns; /* when its first burst was */
	uint64_t position[]; /* per rx core */
};

struct dp_shard {
	/* set at start */
	uint32_t number, rx_count, shards;
	struct tp_hop **hop;             /* one per rx core, this shard their consumer */
	struct dp_late_ring **late_ring; /* one per rx core */
	struct dp_shard_dead *dead;      /* rings of dead letters that come to this shard */
	uint32_t deads;
	const struct dp_shard_turns *const *turns; /* of all shards, this one's too; with one shard it may be NULL */
	struct sto_wal *wal;
	struct agg_dedup *dedup;
	struct agg_machine machine[DP_MACHINES_MAX]; /* shown each new event, in this order */
	uint32_t machines;
	uint64_t horizon_ms;
	struct tp_live *live;
	struct tp_counters *counters;
	struct tp_meter *meter; /* the core's; NULL before dp_shard_init(): nobody asks where cycles go */
	bool traces;            /* sampled events get the time of their decision */
	/* own state */
	struct agg_watermark watermark;
	uint64_t watermark_ms;
	uint32_t horizon_minute;
	struct tp_rollup *table;
	struct dp_late_lane lane;
	struct dp_mark *mark;
	uint64_t mark_first, mark_next;
	uint32_t mark_bytes;
	uint32_t next_hop;
	struct dp_rivals rivals;
	bool contested;            /* a conflict was found that no note is taken for yet */
	uint64_t file_from;        /* records appended before the open log file was begun */
	uint32_t rolled;           /* machines that know of the open log file */
	uint64_t woke;             /* bit set: rx cores that were told something since asked */
	struct sto_wal_stats told; /* already in the counters */
	int failed;                /* -errno of the disk */
	struct tp_meter no_meter;  /* never on */
	bool stalled;
	bool lane_given; /* since asked: the late thread has work */
	bool owing;      /* a machine may have records for the log; true at start: a restart may have found some missing */
	/* housekeeping writes, the shard reads */
	_Alignas(64) _Atomic(struct tp_rollup *) spare_table; /* the shard sets it to NULL once the table has its file's id */
	_Atomic uint32_t roll_wanted;                         /* set by housekeeping, cleared by the shard once done */
	_Atomic uint32_t pause_wanted;                        /* number of the pause that is asked for; 0: go on */
	/* the shard writes, housekeeping reads */
	_Alignas(64) _Atomic uint32_t paused; /* number of the pause that it keeps: an earlier one's does not count */
	_Atomic uint64_t previous_file;       /* the log file before the open one; 0: none in this run */
	_Atomic uint32_t no_space;            /* the log has no room for what may still be in the hops */
	_Atomic uint32_t rotate_wanted;       /* the id table is too full */
	struct dp_shard_turns own_turns;      /* the shard writes, other shards read */
};

/* One round: returns how much was done. shard->failed tells a disk failure. */
uint32_t dp_shard_poll(struct dp_shard *shard, uint64_t now_ms, uint64_t now_ns);

/* True when nothing waits: all taken, all durable, all answered. The core may end. */
bool dp_shard_settled(struct dp_shard *shard);

/* Work is there, or a deadline: for a core about to sleep. Deadline in monotonic ns, 0: now, UINT64_MAX: none. */
uint64_t dp_shard_deadline_ns(struct dp_shard *shard);

/* Allocates the lane and the marks. Cold. */
int dp_shard_init(struct dp_shard *shard);
void dp_shard_fini(struct dp_shard *shard);

#endif
