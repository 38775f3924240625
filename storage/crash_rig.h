/*
 * A short life of a data folder on the simulated disk, and what a client and a look afterwards know of it. Shared by the tests that
 * crash it, fill it and lie to it. Tests only.
 *
 *   acknowledged ⊆ recovered ⊆ appended, in order, each once
 */
#ifndef STORAGE_CRASH_RIG_H
#define STORAGE_CRASH_RIG_H

#include "io_sim.h"
#include "sample.h"
#include "store_state.h"
#include "turnpike/wal.h"

enum { EVENTS_MAX = 1 << 15, RIG_LIFE_EVENTS = 60, RIG_LOG_FILE_BYTES = 32768 };

/* What a client knows, and what is found. */
struct ledger {
	uint64_t appended; /* numbers 0 .. appended-1 were given to a log */
	uint8_t acknowledged[EVENTS_MAX];
	uint8_t found[EVENTS_MAX];
	uint64_t last; /* order within one log file or segment: number + 1 of the one before */
	bool broken;
};

struct run {
	struct sim_disk *disk;
	struct ledger *ledger;
	struct sto_store *store;
	struct sto_wal *wal;
	uint64_t base; /* number of the first event of this life */
	uint64_t told; /* acknowledged up to here */
	uint64_t now_ns;
	uint64_t random;
};

uint64_t rig_random(struct run *run);
/* Seals every log file that waits for it. */
int rig_seal_unsealed(struct sto_store *store);
/* The shard's poll: what is durable is acknowledged to the client. */
int rig_completions(struct run *run);
/* Spares in, finished files sealed. */
int rig_housekeep(struct run *run);
int rig_append(struct run *run);
/* Opens, recovers, appends RIG_LIFE_EVENTS, waits until they are durable. */
int rig_life(struct run *run);
/* Closing does what it can on a disk that may be gone; what becomes durable on the way counts as told. */
void rig_life_end(struct run *run);
/* A sto_event_fn on a ledger. -EPROTO: an event that was never appended, twice, or out of order. */
int rig_event_found(void *ledger, const struct tp_event *event);
/* Everything that a restarted node has: logs and segments. May be cut short by a crash again. */
int rig_look(struct sim_disk *disk, struct ledger *ledger, bool seal);
/* The first event that was acknowledged and is not found; UINT64_MAX: none. */
uint64_t rig_lost(const struct ledger *ledger);

#endif
