/*
 * The intake: from parsed events to the shards, and back to the request when they are durable. One per rx core.
 *
 *   dp_intake_open() ─ dp_intake_stage() × n ─┬─ dp_intake_commit() ── … durable … ── request->done(request)
 *                                             └─ dp_intake_rollback() (nothing happened, the request slot is free again)
 *
 * Only one request is staged at a time (open … commit/rollback is not interleaved with another). `done` runs on the same rx core
 * from dp_intake_poll(), after every event of the request is decided and stable; it must call dp_intake_close(), then or later.
 * A request whose connection has gone stays until its events are back: its owner sets `user` to NULL and `done` just closes it.
 */
#ifndef TURNPIKE_INTAKE_H
#define TURNPIKE_INTAKE_H

#include "dead.h"
#include "turnpike/counter.h"
#include "turnpike/event.h"
#include "turnpike/hop.h"
#include "turnpike/meter.h"
#include "turnpike/span.h"

#include <stdbool.h>

struct dp_request {
	uint32_t pending; /* events staged or in flight */
	uint32_t accepted, duplicates, late, conflicts;
	uint32_t refused;  /* TP_REFUSED: could not be made durable; the client must retry */
	uint64_t began_ns; /* monotonic, for the latency histogram; set by open, the owner may set it earlier */
	void (*done)(struct dp_request *request);
	void *user;        /* the owner's */
	uint64_t user_tag; /* the owner's */
	/* The context of events that bring none; the owner's, read until commit. NULL: none. */
	const struct tp_trace *trace;
	bool traced;         /* the intake's own: an event of it is sampled */
	uint64_t opened_ns;  /* the intake's own */
	uint64_t staged_ns;  /* the intake's own, if it is traced */
	uint32_t generation; /* the intake's own */
	uint32_t next_free;  /* the intake's own */
};

struct dp_intake;

/*
 * The way back for events that left their slot (TP_DEFERRED): one per shard and rx core, the shard writes, the rx core reads. An entry
 * is posted once the event is decided and stable.
 */
struct dp_late_answer {
	uint64_t owner;
	uint32_t index;
	uint32_t verdict; /* enum tp_verdict */
};
enum { DP_LATE_ANSWERS = 2048 }; /* power of two, more than the late lane of a shard can hold */
struct dp_late_ring {
	_Alignas(64) _Atomic uint64_t head; /* the shard writes */
	_Alignas(64) _Atomic uint64_t tail; /* the rx core writes */
	_Alignas(64) struct dp_late_answer answer[DP_LATE_ANSWERS];
};

struct dp_intake_options {
	struct tp_hop **hop;        /* one per shard, this rx core their producer */
	struct dp_late_ring **late; /* one per shard */
	uint32_t shards;
	uint32_t requests_max;
	const _Atomic uint32_t *refusing; /* enum tp_refusing; TP_TAKING is 0 */
	struct tp_counters *counters;
	struct tp_meter *meter;        /* the core's; NULL: nobody asks where cycles go */
	_Atomic uint64_t *ack_latency; /* TP_LATENCY_BUCKETS of them, this core the writer */
	_Atomic uint64_t *ack_ns_sum;
	struct tp_span_ring *spans; /* NULL: no traces are wanted */
	uint16_t cpu;               /* for them */
	struct tp_hop *dead;        /* ring of dead letters, this rx core its producer; NULL: none are kept */
	uint32_t dead_shard;        /* its consumer */
	uint32_t dead_second;       /* letters a second that are kept … */
	uint64_t dead_bytes;        /* … and bytes */
};

int dp_intake_create(struct dp_intake **intake, const struct dp_intake_options *options); /* cold */
void dp_intake_destroy(struct dp_intake *intake);

/* Sets the clocks of this loop round. */
void dp_intake_clock(struct dp_intake *intake, uint64_t now_ms, uint64_t now_ns);
/* Bit s is set when shard s was given something since the last call: whom to wake. */
uint64_t dp_intake_given(struct dp_intake *intake);
/* Events, dead letters and requests that are not back yet. */
uint64_t dp_intake_in_flight(const struct dp_intake *intake);

/* Are traces wanted, so that a context is worth reading? */
bool dp_intake_traces(const struct dp_intake *intake);

/* True while beacons must be refused (no space, stopping): HTTP answers 503, UDP is silent. One relaxed load. */
bool dp_intake_refusing(const struct dp_intake *intake);

/* A request slot, or NULL when all are taken (bounded; the caller waits: TCP back-pressure, UDP drop). */
struct dp_request *dp_intake_open(struct dp_intake *intake, void (*done)(struct dp_request *), void *user);

/* Encodes one event straight into its shard's hop ring. -EAGAIN: the ring is full; roll back and try later. Sets received_ms. */
int dp_intake_stage(struct dp_intake *intake, struct dp_request *request, const struct tp_parsed *parsed, uint32_t index);

/* Publishes what was staged. With nothing staged, `done` is called from the next poll all the same. */
void dp_intake_commit(struct dp_intake *intake, struct dp_request *request);
/* Forgets what was staged and frees the slot. */
void dp_intake_rollback(struct dp_intake *intake, struct dp_request *request);
void dp_intake_close(struct dp_intake *intake, struct dp_request *request);

/* Takes verdicts from the hops, counts them, completes requests. Returns how many events came back. Once a loop round. */
uint32_t dp_intake_poll(struct dp_intake *intake);

/*
 * Dead letters of the beacon that is being looked at: see dead.h. dp_intake_dead_commit() and not dp_dead_commit(), for the shard has to
 * be woken.
 */
struct dp_dead *dp_intake_dead(struct dp_intake *intake);
void dp_intake_dead_commit(struct dp_intake *intake);

/* Clocks of this loop round, so that nobody else reads them per event. */
uint64_t dp_intake_now_ms(const struct dp_intake *intake);
uint64_t dp_intake_now_ns(const struct dp_intake *intake);
struct tp_counters *dp_intake_counters(struct dp_intake *intake);
struct tp_meter *dp_intake_meter(struct dp_intake *intake);

#endif
