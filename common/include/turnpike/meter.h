/*
 * Where a core's cycles go: the time-stamp counter, read where one stage hands over to the next, in one loop round of TP_METER_ROUNDS. All
 * other rounds pay one load and one branch, always the same way, at each of these places.
 *
 *   core loop:  tp_meter_begin() ─ stages, one inside the other ─ tp_meter_end()
 *   a stage:    before = tp_meter_enter(meter, TP_STAGE_PARSE); …; tp_meter_leave(meter, before);
 *
 * Cycles belong to the innermost stage, so the stages of a round add up to the round. A sampled round that found no work is forgotten. What is
 * left goes into the core's counters (STAGE_…), with how many events its rounds had: turnpikectl perf divides the one by the other.
 *
 * One meter for each core, entered by that core only.
 */
#ifndef TURNPIKE_METER_H
#define TURNPIKE_METER_H

#include "turnpike/counter.h"

#include <assert.h>
#include <string.h>
#include <x86intrin.h>

enum { TP_METER_ROUNDS = 64 }; /* a power of two */

/* In the order of the counters STAGE_…_CYCLES. */
enum tp_stage {
	TP_STAGE_RECEIVE, /* the port's driver and our TCP, sending included */
	TP_STAGE_BEACON,  /* HTTP, datagrams, batches: all around the events */
	TP_STAGE_PARSE,   /* bytes to a finished event */
	TP_STAGE_STAGE,   /* the record into the hop ring */
	TP_STAGE_ANSWER,  /* verdicts back, requests done */
	TP_STAGE_DECIDE,  /* the shard's loop and the id table */
	TP_STAGE_MACHINES,
	TP_STAGE_ROLLUP,
	TP_STAGE_LOG, /* records into blocks, their checksums, submission, what is durable */
	TP_STAGES
};

struct tp_meter {
	uint32_t on; /* this round is sampled */
	uint32_t stage;
	uint64_t at; /* since when the stage runs */
	uint64_t rounds;
	uint64_t cycles[TP_STAGES];       /* of this round */
	uint64_t read, decided, answered; /* the core's counters when the round began */
};

static inline uint64_t tp_meter_answered(const struct tp_counters *c)
{
	return c->v[TP_C_EVENTS_ACCEPTED] + c->v[TP_C_EVENTS_DUPLICATES] + c->v[TP_C_EVENTS_LATE] + c->v[TP_C_EVENTS_CONFLICTS];
}

static inline void tp_meter_begin(struct tp_meter *meter, const struct tp_counters *counters)
{
	if (__builtin_expect(++meter->rounds & (TP_METER_ROUNDS - 1), 1))
		return;
	memset(meter->cycles, 0, sizeof(meter->cycles));
	meter->read = counters->v[TP_C_EVENTS_RECEIVED];
	meter->decided = counters->v[TP_C_SHARD_TAKEN];
	meter->answered = tp_meter_answered(counters);
	meter->stage = TP_STAGE_RECEIVE;
	meter->on = 1;
	meter->at = __rdtsc();
}

/* Returns the stage that was interrupted, for tp_meter_leave(). */
static inline uint32_t tp_meter_enter(struct tp_meter *meter, uint32_t stage)
{
	if (__builtin_expect(!meter->on, 1))
		return 0;
	const uint64_t now = __rdtsc();
	const uint32_t before = meter->stage;
	meter->cycles[before] += now - meter->at;
	meter->at = now;
	meter->stage = stage;
	return before;
}

static inline void tp_meter_leave(struct tp_meter *meter, uint32_t before)
{
	tp_meter_enter(meter, before);
}

/* `worked`: the round found something to do. */
static inline void tp_meter_end(struct tp_meter *meter, struct tp_counters *counters, bool worked)
{
	if (__builtin_expect(!meter->on, 1))
		return;
	tp_meter_enter(meter, TP_STAGE_RECEIVE);
	meter->on = 0;
	if (!worked)
		return;
	for (uint32_t s = 0; s < TP_STAGES; s++)
		counters->v[TP_C_STAGE_RECEIVE_CYCLES + s] += meter->cycles[s];
	counters->v[TP_C_STAGE_READ] += counters->v[TP_C_EVENTS_RECEIVED] - meter->read;
	counters->v[TP_C_STAGE_DECIDED] += counters->v[TP_C_SHARD_TAKEN] - meter->decided;
	counters->v[TP_C_STAGE_ANSWERED] += tp_meter_answered(counters) - meter->answered;
}

static_assert(TP_C_STAGE_LOG_CYCLES - TP_C_STAGE_RECEIVE_CYCLES == TP_STAGE_LOG, "the counters are in the order of the stages");

#endif
