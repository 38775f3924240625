/*
 * The intake: hop rings on one side, requests on the other. Entered by its rx core only.
 *
 * A request slot is named in the ring by its index and generation, so that a slot's events can never be taken for another request's.
 * The books of the events layer: whoever parses counts received and rejected; here, commit adds to in flight, and each verdict that
 * comes back moves one event from in flight to accepted, duplicates, late, conflicts or dropped.
 */
#include "intake.h"

#include "turnpike/live.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = UINT32_MAX };

struct dp_intake {
	struct tp_counters *counters;
	struct tp_meter *meter;
	const _Atomic uint32_t *refusing;
	uint64_t now_ms, now_ns;
	uint64_t staged_shards; /* bit set: hops with staged, uncommitted slots */
	uint64_t given;
	uint64_t in_flight; /* events */
	uint32_t shards;
	uint32_t requests_max, requests_open;
	uint32_t free;       /* head of the free list */
	uint32_t empty_head; /* committed without events: done at the next poll */
	struct tp_hop **hop;
	struct dp_late_ring **late;
	_Atomic uint64_t *ack_latency, *ack_ns_sum;
	struct tp_span_ring *spans; /* NULL: off */
	uint16_t cpu;
	struct dp_request *request;
	struct dp_dead dead;
	struct tp_meter no_meter; /* never on */
	uint32_t dead_shard;
};

int dp_intake_create(struct dp_intake **out, const struct dp_intake_options *options)
{
	struct dp_intake *intake = calloc(1, sizeof(*intake));
	if (!intake)
		return -ENOMEM;
	intake->request = calloc(options->requests_max, sizeof(*intake->request));
	intake->hop = calloc(options->shards, sizeof(*intake->hop));
	intake->late = calloc(options->shards, sizeof(struct dp_late_ring *));
	if (!intake->request || !intake->hop || !intake->late) {
		dp_intake_destroy(intake);
		return -ENOMEM;
	}
	intake->shards = options->shards;
	memcpy(intake->hop, options->hop, options->shards * sizeof(*intake->hop));
	memcpy(intake->late, options->late, options->shards * sizeof(*intake->late));
	intake->refusing = options->refusing;
	intake->counters = options->counters;
	intake->meter = options->meter ? options->meter : &intake->no_meter;
	intake->ack_latency = options->ack_latency;
	intake->ack_ns_sum = options->ack_ns_sum;
	intake->spans = options->spans;
	intake->cpu = options->cpu;
	intake->requests_max = options->requests_max;
	intake->empty_head = NONE;
	intake->dead_shard = options->dead_shard;
	dp_dead_init(&intake->dead, options->dead, options->counters, options->dead_second, options->dead_bytes);
	for (uint32_t i = 0; i < options->requests_max; i++) {
		intake->request[i].generation = 1;
		intake->request[i].next_free = i + 1 < options->requests_max ? i + 1 : NONE;
	}
	*out = intake;
	return 0;
}

void dp_intake_destroy(struct dp_intake *intake)
{
	if (!intake)
		return;
	free(intake->request);
	free(intake->hop);
	free(intake->late);
	free(intake);
}

void dp_intake_clock(struct dp_intake *intake, uint64_t now_ms, uint64_t now_ns)
{
	intake->now_ms = now_ms;
	intake->now_ns = now_ns;
}

uint64_t dp_intake_given(struct dp_intake *intake)
{
	uint64_t given = intake->given;
	intake->given = 0;
	return given;
}

uint64_t dp_intake_in_flight(const struct dp_intake *intake)
{
	return intake->in_flight + intake->requests_open + intake->dead.in_flight;
}

bool dp_intake_refusing(const struct dp_intake *intake)
{
	return atomic_load_explicit(intake->refusing, memory_order_relaxed) != TP_TAKING;
}

bool dp_intake_traces(const struct dp_intake *intake)
{
	return intake->spans != NULL;
}

uint64_t dp_intake_now_ms(const struct dp_intake *intake)
{
	return intake->now_ms;
}

uint64_t dp_intake_now_ns(const struct dp_intake *intake)
{
	return intake->now_ns;
}

struct tp_counters *dp_intake_counters(struct dp_intake *intake)
{
	return intake->counters;
}

struct tp_meter *dp_intake_meter(struct dp_intake *intake)
{
	return intake->meter;
}

struct dp_dead *dp_intake_dead(struct dp_intake *intake)
{
	return &intake->dead;
}

void dp_intake_dead_commit(struct dp_intake *intake)
{
	if (dp_dead_commit(&intake->dead))
		intake->given |= 1ULL << intake->dead_shard;
}

struct dp_request *dp_intake_open(struct dp_intake *intake, void (*done)(struct dp_request *), void *user)
{
	if (intake->free == NONE)
		return NULL;
	struct dp_request *request = &intake->request[intake->free];
	intake->free = request->next_free;
	intake->requests_open++;
	uint32_t generation = request->generation;
	*request = (struct dp_request){.done = done,
				       .user = user,
				       .began_ns = intake->now_ns,
				       .opened_ns = intake->now_ns,
				       .generation = generation,
				       .next_free = NONE};
	return request;
}

void dp_intake_close(struct dp_intake *intake, struct dp_request *request)
{
	request->generation++;
	request->done = NULL;
	request->next_free = intake->free;
	intake->free = (uint32_t)(request - intake->request);
	intake->requests_open--;
}

static bool sampled(const struct tp_event *event)
{
	return (event->flags & TP_HAS_TRACE) && (event->trace_flags & TP_TRACE_SAMPLED);
}

/* An event's own context goes before its request's. */
static void event_trace(struct dp_request *request, struct tp_event *event)
{
	const struct tp_trace *trace = request->trace;
	if (trace && !(event->flags & TP_HAS_TRACE)) {
		memcpy(event->trace_id, trace->trace_id, sizeof(event->trace_id));
		memcpy(event->span_id, trace->span_id, sizeof(event->span_id));
		event->trace_flags = trace->flags;
		event->flags |= TP_HAS_TRACE;
	}
	request->traced |= sampled(event);
}

static int event_stage(struct dp_intake *intake, struct dp_request *request, const struct tp_parsed *parsed, uint32_t index)
{
	uint32_t shard = (uint32_t)(((unsigned __int128)parsed->fixed.shard_hash * intake->shards) >> 64);
	uint64_t owner = (uint64_t)request->generation << 32 | (uint32_t)(request - intake->request);
	struct tp_slot *slot = tp_hop_stage(intake->hop[shard], tp_event_encoded_bytes(parsed), owner);
	if (!slot)
		return -EAGAIN;
	slot->index = index;
	tp_event_encode(parsed, &slot->event);
	slot->event.received_ms = intake->now_ms;
	slot->event.verdict = TP_UNDECIDED;
	slot->event.fraud = 0;
	if (__builtin_expect(intake->spans != NULL, 0))
		event_trace(request, &slot->event);
	intake->staged_shards |= 1ULL << shard;
	request->pending++;
	return 0;
}

int dp_intake_stage(struct dp_intake *intake, struct dp_request *request, const struct tp_parsed *parsed, uint32_t index)
{
	const uint32_t before = tp_meter_enter(intake->meter, TP_STAGE_STAGE);
	const int rc = event_stage(intake, request, parsed, index);
	tp_meter_leave(intake->meter, before);
	return rc;
}

void dp_intake_commit(struct dp_intake *intake, struct dp_request *request)
{
	if (__builtin_expect(request->traced, 0))
		request->staged_ns = tp_mono_ns();
	for (uint64_t staged = intake->staged_shards; staged; staged &= staged - 1)
		tp_hop_commit(intake->hop[__builtin_ctzll(staged)]);
	intake->given |= intake->staged_shards;
	intake->staged_shards = 0;
	intake->in_flight += request->pending;
	intake->counters->v[TP_C_EVENTS_IN_FLIGHT] += request->pending;
	if (!request->pending) {
		request->next_free = intake->empty_head;
		intake->empty_head = (uint32_t)(request - intake->request);
	}
}

void dp_intake_rollback(struct dp_intake *intake, struct dp_request *request)
{
	for (uint64_t staged = intake->staged_shards; staged; staged &= staged - 1)
		tp_hop_rollback(intake->hop[__builtin_ctzll(staged)]);
	intake->staged_shards = 0;
	dp_intake_close(intake, request);
}

static void request_done(struct dp_intake *intake, struct dp_request *request)
{
	if (!request->refused) {
		uint64_t ns = intake->now_ns > request->began_ns ? intake->now_ns - request->began_ns : 1;
		tp_latency_count(intake->ack_latency, intake->ack_ns_sum, ns);
	}
	request->done(request);
}

/* One event is decided and stable: count it, and complete its request when it was the last. */
static void event_back(struct dp_intake *intake, uint64_t owner, uint32_t verdict)
{
	struct dp_request *request = &intake->request[(uint32_t)owner];
	assert(request->generation == (uint32_t)(owner >> 32) && request->pending);
	struct tp_counters *counters = intake->counters;
	switch (verdict) {
	case TP_ACCEPTED:
		request->accepted++;
		TP_COUNT(counters, EVENTS_ACCEPTED);
		break;
	case TP_DUPLICATE:
		request->duplicates++;
		TP_COUNT(counters, EVENTS_DUPLICATES);
		break;
	case TP_LATE:
		request->late++;
		TP_COUNT(counters, EVENTS_LATE);
		break;
	case TP_CONFLICT:
		request->conflicts++;
		TP_COUNT(counters, EVENTS_CONFLICTS);
		break;
	default:
		assert(verdict == TP_REFUSED);
		request->refused++;
		TP_COUNT(counters, EVENTS_NO_SPACE);
	}
	counters->v[TP_C_EVENTS_IN_FLIGHT]--;
	intake->in_flight--;
	if (--request->pending == 0)
		request_done(intake, request);
}

/*
 * As event_back(), and notes when the event was where. The shard left the lower half of the time of its decision in the slot's index.
 * What the late lane answers has left its slot, and its trace with it: it has no spans.
 */
static void event_back_traced(struct dp_intake *intake, const struct tp_slot *slot, uint32_t shard, uint64_t owner, uint8_t verdict)
{
	const struct dp_request *request = &intake->request[(uint32_t)owner];
	struct tp_span span = {
		.received_ns = request->began_ns,
		.complete_ns = request->opened_ns,
		.parsed_ns = request->staged_ns,
		.durable_ns = tp_mono_ns(),
		.cpu = intake->cpu,
		.shard = (uint16_t)shard,
		.verdict = verdict,
	};
	memcpy(span.trace_id, slot->event.trace_id, sizeof(span.trace_id));
	memcpy(span.parent_id, slot->event.span_id, sizeof(span.parent_id));
	span.decided_ns = span.durable_ns - (uint32_t)((uint32_t)span.durable_ns - slot->index);
	const bool last = request->pending == 1;
	event_back(intake, owner, verdict);
	span.answered_ns = last ? tp_mono_ns() : span.durable_ns;
	tp_span_put(intake->spans, &span);
}

uint32_t dp_intake_poll(struct dp_intake *intake)
{
	uint32_t back = dp_dead_poll(&intake->dead);
	while (intake->empty_head != NONE) {
		struct dp_request *request = &intake->request[intake->empty_head];
		intake->empty_head = request->next_free;
		request_done(intake, request);
		back++;
	}
	for (uint32_t s = 0; s < intake->shards; s++) {
		struct tp_hop *hop = intake->hop[s];
		uint64_t owner;
		uint8_t verdict;
		for (;; back++) {
			/* a reaped slot stays as it is until this core, its only writer, stages the next */
			const struct tp_slot *slot = tp_hop_at(hop, hop->tail);
			if (!tp_hop_reap(hop, &owner, &verdict))
				break;
			if (verdict == TP_DEFERRED)
				continue;
			if (__builtin_expect(intake->spans != NULL, 0) && sampled(&slot->event))
				event_back_traced(intake, slot, s, owner, verdict);
			else
				event_back(intake, owner, verdict);
		}
		struct dp_late_ring *late = intake->late[s];
		uint64_t tail = atomic_load_explicit(&late->tail, memory_order_relaxed);
		/* acquire: the answer behind head is whole; pairs with the shard's release */
		uint64_t head = atomic_load_explicit(&late->head, memory_order_acquire);
		for (; tail != head; tail++, back++) {
			struct dp_late_answer answer = late->answer[tail % DP_LATE_ANSWERS];
			/* release: the entry has been read and may be written again */
			atomic_store_explicit(&late->tail, tail + 1, memory_order_release);
			event_back(intake, answer.owner, answer.verdict);
		}
	}
	return back;
}
