/*
 * UDP beacons: text (fire and forget) and binary batches (acknowledged once durable). Entered by its rx core only.
 *
 *   datagram ─┬─ empty, blocked, unauthorised, refusing, no slot ─► counted, silence
 *             ├─ first byte 0x9e ─► dp_batch_open() ─┬─ fault ─► counted, silence
 *             │                                      └─ events decoded and staged ─┬─ ring full ─► rolled back, counted, silence
 *             │                                                                   └─ committed … durable ─► acknowledgement
 *             └─ anything else ─► dp_body_stage() ─► staged; nobody is told
 *
 * Invariants: a batch is acknowledged only when each of its events is durable or rejected, by a datagram no larger than itself;
 * any doubt is silence, and the client sends again. A batch that comes again while its first copy is in flight is simply handled
 * again: events are deduplicated by id. No answer to a text datagram, ever. Memory is fixed at start.
 *
 * The books: every datagram given is counted received and in exactly one other place of its layer. Text that is no event at all
 * went on to the events layer and is rejected there. A batch enters its layer when it is committed; a batch turned away for a full
 * ring has its events counted as received and dropped (they were seen), one turned away earlier has not (they were not).
 * Source: docs/protocol.md, contract section 6.
 */
#include "batch_format.h"
#include "beacon_state.h"

#include <errno.h>
#include <stdlib.h>

enum { BATCHES_MAX = 4096, NO_BATCH = UINT32_MAX };

/* A batch between commit and acknowledgement. */
struct pending_batch {
	struct dp_datagram_path path;
	struct dp_beacon *beacon;
	struct dp_batch batch;
	uint16_t rejected, listed;
	uint32_t next_free;
	struct dp_batch_reject reject[DP_BATCH_REJECTS_LISTED];
};

struct dp_datagram_state {
	uint32_t free; /* head of the free list */
	uint32_t owed;
	struct pending_batch batch[BATCHES_MAX];
};

static_assert(TP_C_EVENTS_TOO_LARGE - TP_C_EVENTS_MALFORMED == TP_TOO_LARGE - TP_MALFORMED,
	      "one counter per reason, in their order");
static_assert(sizeof(struct dp_datagram_path) <= 64, "copied once per batch");

int dp_datagram_create(struct dp_beacon *beacon)
{
	struct dp_datagram_state *state = malloc(sizeof *state);
	if (!state)
		return -ENOMEM;
	memset(state, 0, sizeof *state); /* touched now, not in the first burst */
	for (uint32_t i = 0; i < BATCHES_MAX; i++)
		state->batch[i].next_free = i + 1 < BATCHES_MAX ? i + 1 : NO_BATCH;
	beacon->datagram = state;
	return 0;
}

void dp_datagram_destroy(struct dp_beacon *beacon)
{
	free(beacon->datagram);
	beacon->datagram = NULL;
}

uint32_t dp_datagram_poll(struct dp_beacon *beacon)
{
	(void)beacon; /* nothing waits here: acknowledgements leave from batch_done(), what cannot be taken is dropped */
	return 0;
}

uint32_t dp_datagram_owed(const struct dp_beacon *beacon)
{
	return beacon->datagram->owed;
}

static struct pending_batch *pending_take(struct dp_datagram_state *state)
{
	if (state->free == NO_BATCH)
		return NULL;
	struct pending_batch *pending = &state->batch[state->free];
	state->free = pending->next_free;
	return pending;
}

static void pending_give(struct dp_datagram_state *state, struct pending_batch *pending)
{
	pending->next_free = state->free;
	state->free = (uint32_t)(pending - state->batch);
}

/* Every event of a batch is back. */
static void batch_done(struct dp_request *request)
{
	struct pending_batch *pending = request->user;
	struct dp_beacon *beacon = pending->beacon;
	struct tp_counters *counters = beacon->counters;

	counters->v[TP_C_BATCHES_IN_FLIGHT]--;
	beacon->datagram->owed--;
	if (request->refused > 0) {
		TP_COUNT(counters, BATCHES_REFUSED);
	} else {
		struct dp_batch_counts counts = {
			.accepted = (uint16_t)request->accepted,
			.duplicates = (uint16_t)request->duplicates,
			.late = (uint16_t)request->late,
			.conflicts = (uint16_t)request->conflicts,
			.rejected = pending->rejected,
		};
		assert(request->accepted + request->duplicates + request->late + request->conflicts + pending->rejected ==
		       pending->batch.events);
		uint8_t ack[DP_BATCH_ACK_BYTES_MAX];
		size_t bytes = dp_batch_ack(ack, &pending->batch, &counts, pending->reject, pending->listed);
		assert(bytes <= pending->batch.bytes);
		pending->path.send(&pending->path, ack, bytes);
		TP_COUNT(counters, BATCHES_ACCEPTED);
	}
	pending_give(beacon->datagram, pending);
	dp_intake_close(beacon->intake, request);
}

static void text_done(struct dp_request *request)
{
	struct dp_beacon *beacon = request->user;
	dp_intake_close(beacon->intake, request);
}

/* The address that an event gets when it brings none: the peer's, unless the peer is a trusted source, which is no user. */
static struct dp_body_source source_of(const struct dp_beacon *beacon, const struct dp_datagram_path *path)
{
	if (path->peer.addr.family == 0 || dp_beacon_trusted(beacon, path->ingest, &path->peer.addr))
		return (struct dp_body_source){.has_ip = false};
	return (struct dp_body_source){.has_ip = true, .ip = path->peer.addr};
}

/* What one batch will add to the books if it is committed. */
struct batch_books {
	uint16_t rejected[TP_REJECTS];
	uint16_t bad_traces;
};

/* Decodes and stages all events of a batch that dp_batch_open() let pass. -EAGAIN: a ring is full. */
static int batch_stage(struct dp_beacon *beacon, struct dp_request *request, struct pending_batch *pending, const uint8_t *bytes,
		       const struct dp_body_source *source, struct batch_books *books)
{
	const struct dp_json_limits limits = dp_beacon_json_limits(beacon);
	const uint32_t list_max = dp_batch_ack_room(pending->batch.bytes);
	const uint8_t *at = bytes + pending->batch.events_at;
	struct tp_parsed parsed;
	for (uint32_t i = 0; i < pending->batch.events; i++) {
		struct dp_batch_event event = dp_batch_event(at, &limits, &parsed);
		at += event.bytes;
		books->bad_traces += event.bad_trace;
		if (event.reason != TP_OK) {
			books->rejected[event.reason]++;
			pending->rejected++;
			if (pending->listed < list_max)
				pending->reject[pending->listed++] = (struct dp_batch_reject){
					.index = (uint16_t)i, .reason = (uint8_t)event.reason, .field = (uint8_t)event.field};
			continue;
		}
		if (!(parsed.fixed.flags & TP_HAS_IP) && source->has_ip) {
			memcpy(parsed.fixed.ip, source->ip.byte, sizeof parsed.fixed.ip);
			parsed.fixed.flags |= TP_HAS_IP;
		}
		tp_event_finish(&parsed);
		int fault = dp_intake_stage(beacon->intake, request, &parsed, i);
		if (fault)
			return fault;
	}
	return 0;
}

static void batch_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	struct tp_counters *counters = beacon->counters;
	struct dp_batch batch;
	switch (dp_batch_open(bytes, count, &batch)) {
	case DP_BATCH_OK:
		break;
	case DP_BATCH_BAD_VERSION:
		TP_COUNT(counters, DATAGRAMS_BAD_VERSION);
		return;
	case DP_BATCH_BAD_CHECKSUM:
		TP_COUNT(counters, DATAGRAMS_BAD_CHECKSUM);
		return;
	default:
		TP_COUNT(counters, DATAGRAMS_MALFORMED);
		return;
	}

	struct pending_batch *pending = pending_take(beacon->datagram);
	struct dp_request *request = pending ? dp_intake_open(beacon->intake, batch_done, pending) : NULL;
	if (!request) {
		if (pending)
			pending_give(beacon->datagram, pending);
		TP_COUNT(counters, DATAGRAMS_NO_REQUEST);
		return;
	}
	pending->path = *path;
	pending->beacon = beacon;
	pending->batch = batch;
	pending->rejected = pending->listed = 0;

	struct dp_body_source source = source_of(beacon, path);
	struct batch_books books = {0};
	TP_COUNT_ADD(counters, EVENTS_RECEIVED, batch.events);
	if (batch_stage(beacon, request, pending, bytes, &source, &books)) {
		dp_intake_rollback(beacon->intake, request);
		pending_give(beacon->datagram, pending);
		TP_COUNT(counters, DATAGRAMS_RING_FULL);
		TP_COUNT_ADD(counters, EVENTS_RING_FULL, batch.events);
		return;
	}
	for (int reason = TP_MALFORMED; reason < TP_REJECTS; reason++)
		counters->v[TP_C_EVENTS_MALFORMED + reason - TP_MALFORMED] += books.rejected[reason];
	TP_COUNT_ADD(counters, EVENTS_BAD_TRACE, books.bad_traces);
	TP_COUNT(counters, DATAGRAMS_ACCEPTED);
	TP_COUNT(counters, BATCHES_RECEIVED);
	TP_COUNT(counters, BATCHES_IN_FLIGHT);
	beacon->datagram->owed++;
	dp_intake_commit(beacon->intake, request);
}

static void text_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	struct tp_counters *counters = beacon->counters;
	struct dp_request *request = dp_intake_open(beacon->intake, text_done, beacon);
	if (!request) {
		TP_COUNT(counters, DATAGRAMS_NO_REQUEST);
		return;
	}
	const struct dp_json_limits limits = dp_beacon_json_limits(beacon);
	const struct dp_body_source source = source_of(beacon, path);
	struct dp_body_result result =
		dp_body_stage(beacon->intake, beacon->json, request, (const char *)bytes, count, &limits, &source, beacon->rejects);
	switch (result.outcome) {
	case DP_BODY_STAGED:
		TP_COUNT(counters, DATAGRAMS_ACCEPTED);
		dp_intake_commit(beacon->intake, request);
		break;
	case DP_BODY_REFUSED:
		TP_COUNT(counters, DATAGRAMS_ACCEPTED);
		dp_intake_rollback(beacon->intake, request);
		break;
	case DP_BODY_FULL:
		TP_COUNT(counters, DATAGRAMS_RING_FULL);
		dp_intake_rollback(beacon->intake, request);
		break;
	}
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	struct tp_counters *counters = beacon->counters;
	TP_COUNT(counters, DATAGRAMS_RECEIVED);
	if (count == 0)
		TP_COUNT(counters, DATAGRAMS_EMPTY);
	else if (dp_beacon_blocked(beacon, &path->peer.addr))
		TP_COUNT(counters, DATAGRAMS_BLOCKLISTED);
	else if (dp_beacon_ingest(beacon, path->ingest)->auth_tokens)
		TP_COUNT(counters, DATAGRAMS_UNAUTHORISED);
	else if (!dp_beacon_rate_allows(beacon, path->ingest, &path->peer.addr))
		TP_COUNT(counters, DATAGRAMS_RATE_LIMITED);
	else if (dp_intake_refusing(beacon->intake))
		TP_COUNT(counters, DATAGRAMS_REFUSING);
	else if (bytes[0] == DP_BATCH_MAGIC_FIRST)
		batch_input(beacon, path, bytes, count);
	else
		text_input(beacon, path, bytes, count);
}
