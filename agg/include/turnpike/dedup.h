/*
 * The id table: exact deduplication over the horizon, one table for all shards. Pure: no system call, no clock.
 *
 *   generation "current"    generation "previous"    spare (being cleared by housekeeping)
 *   inserts and look-ups     look-ups only
 *
 * An entry is 32 bytes: the 16-byte id, claimed by a 16-byte compare-and-swap; the payload fingerprint; the event's minute with a
 * valid bit, published last. Two entries a cache line, linear probing inside and across lines, filled to 70% at most.
 *
 * An entry counts only while its minute is inside the horizon (minute end > watermark - horizon) or equals the asked minute: within
 * the horizon the id alone decides; beyond it, id and minute. All events with minute >= floor are in the table; what is not found
 * and is older than the floor may be in a sealed segment, and the caller asks the late lane.
 *
 * A conflict is told only when the event that has the id is durable, which may be in another shard's log: the caller sees to it.
 *
 * Threads: any shard core inserts. Rotation happens only while every shard core is parked (the caller sees to it).
 */
#ifndef TURNPIKE_DEDUP_H
#define TURNPIKE_DEDUP_H

#include "turnpike/event.h"

#include <stdbool.h>

struct agg_dedup;

enum agg_dedup_result {
	AGG_NEW,         /* inserted by this call: count it */
	AGG_SAME,        /* there, same fingerprint: duplicate */
	AGG_OTHER,       /* there, other fingerprint (or being inserted by another shard this moment): conflict */
	AGG_BELOW_FLOOR, /* not there, but older than the table reaches, nothing inserted: ask the segments */
	AGG_FULL,        /* the current generation is full, nothing inserted: wait for a rotation */
};

/* Bytes of memory for the three generations; rounded down to what the layout can use. At least 32 KiB. */
struct agg_dedup *agg_dedup_create(void *memory, uint64_t bytes); /* memory: 64-byte aligned, zeroed; owned by the caller */
uint64_t agg_dedup_struct_bytes(void);                            /* the control part lies at the start of `memory` */
/*
 * From now on one thread at most inserts (true), and no locked instruction is needed; or several may (false, as after create). To be said
 * while nobody inserts, and seen by who does next, as by a thread that is created later.
 */
void agg_dedup_alone(struct agg_dedup *dedup, bool alone);
/* So many bytes from the start of `memory` hold the control part and the first current generation; the others are read only until rotated. */
uint64_t agg_dedup_current_bytes(const struct agg_dedup *dedup);

/*
 * Brings the cache line that `id` will probe first (in both generations) closer. For a whole burst before the first of it is inserted, not
 * in turn with inserts: their locked instruction waits for all that is being fetched (half the rate). Another thread may rotate meanwhile.
 */
uint64_t agg_dedup_prefetch(const struct agg_dedup *dedup, struct tp_id id);
/* The same for the line after, where the first is full: for each id of a burst, with what the above returned, once all of them had it. */
void agg_dedup_prefetch_chain(const struct agg_dedup *dedup, uint64_t hash);

/*
 * Looks `id` up and inserts it if absent. `minute` is the event's; `horizon_minute` is the first minute still inside the
 * horizon, from the caller's watermark. With `ignore_floor` an absent id is inserted even below the floor (the late lane has
 * already searched the segments; or recovery is loading).
 */
enum agg_dedup_result agg_dedup_insert(struct agg_dedup *dedup, struct tp_id id, uint64_t fingerprint, uint32_t minute,
				       uint32_t horizon_minute, bool ignore_floor);

/* Fill of the current generation: ids, and how many it can hold. Racy by design (per-call relaxed reads). */
uint64_t agg_dedup_ids(const struct agg_dedup *dedup);
uint64_t agg_dedup_ids_max(const struct agg_dedup *dedup);
/* The first minute that the table covers wholly. */
uint32_t agg_dedup_floor(const struct agg_dedup *dedup);
/* At start, after recovery loaded everything with minute >= floor. */
void agg_dedup_floor_set(struct agg_dedup *dedup, uint32_t minute);

/* True once the spare generation has been cleared. */
bool agg_dedup_can_rotate(const struct agg_dedup *dedup);
/*
 * current becomes previous, the spare becomes current, the old previous becomes the spare to be cleared, and the floor rises past
 * the newest minute that the old previous held. Only while all shard cores are parked, and only when every log file that held an
 * id of the old previous generation has been sealed.
 */
void agg_dedup_rotate(struct agg_dedup *dedup);
/* Rotations so far. What was inserted since this was n is still in the table while it is at most n + 1. */
uint32_t agg_dedup_rotations(const struct agg_dedup *dedup);
/* Clears the spare. A background thread, after a rotation; takes milliseconds per 100 MiB. */
void agg_dedup_clear_spare(struct agg_dedup *dedup);

#endif
