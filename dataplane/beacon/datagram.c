/*
 * UDP beacons: text (fire and forget) and binary batches (acknowledged once durable). Entered by its rx core only.
 *
 *   datagram ─┬─ empty, blocked, unauthorised, over its rate, refusing ─► counted, silence
 *             ├─ first byte 0x9e ─► dp_batch_open(), dp_tag_check() ─┬─ fault ─► counted, silence
 *             │                                                      ├─ hello ─► layout
 *             │                                                      ├─ window or tables full ─► counted, "later"
 *             │                                                      └─ events decoded and staged ─┬─ ring full ─► rolled back, "later"
 *             │                                                                                    └─ committed … durable ─► ack
 *             └─ anything else ─► dp_body_stage() ─► staged; nobody is told
 *
 * Back-pressure: each source may have `batch_window` batches between commit and acknowledgement. What it is told is a share of that: halved
 * when a ring or a table was full, and growing back while none is; and never more than the table has places for each of the sources that
 * were there lately, so that many sources that keep to what they are told do not meet a full table. "Later" is for version 2; version 1 knows only silence.
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
#include "batch_tag.h"
#include "beacon_state.h"
#include "tally.h"

#include <errno.h>
#include <stdlib.h>

enum {
	BATCHES_MAX = DP_BATCHES_MAX,
	NO_BATCH = UINT32_MAX,
	SHARE_WHOLE = 256,
	SHARE_STEP = 8,
	LATER_MS = 20,
	MS_NS = 1000000,
	HALVE_NS = 5 * MS_NS,
	CROWD_NS = 100 * MS_NS,
	ROOM_EACH_MIN = 16, /* whatever crowd somebody pretends to be: the others keep a window to work with */
	SOCKET_DATAGRAM_BYTES = 65507,
	DPDK_DATAGRAM_BYTES = 1500 - 20 - 8,
	DPDK_DATAGRAM6_BYTES = 1500 - 40 - 8,
};

/* A batch between commit and acknowledgement. */
struct pending_batch {
	struct dp_datagram_path path;
	struct dp_beacon *beacon;
	struct dp_batch batch;
	uint64_t key[2]; /* what the batch was signed with, where that was checked */
	bool keyed;
	uint16_t rejected, listed;
	uint32_t source; /* its place in the tally */
	uint32_t next_free;
	struct dp_batch_reject reject[DP_BATCH_REJECTS_LISTED];
};

struct dp_datagram_state {
	uint32_t free; /* head of the free list */
	uint32_t owed;
	uint32_t share; /* of its window that a source is told, of SHARE_WHOLE */
	uint64_t halved_ns, grown_ns;
	uint32_t crowd[2];       /* most sources at once in this period of CROWD_NS, and in the one before */
	uint32_t room_each;      /* places of the table for each of them */
	uint64_t crowd_ns;       /* when this period began */
	struct dp_tally sources; /* batches of each between commit and acknowledgement */
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
	state->share = SHARE_WHOLE;
	state->room_each = BATCHES_MAX;
	beacon->datagram = state;
	return dp_tally_create(&state->sources, BATCHES_MAX);
}

void dp_datagram_destroy(struct dp_beacon *beacon)
{
	if (beacon->datagram)
		dp_tally_destroy(&beacon->datagram->sources);
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

/* ---- back-pressure ---- */

/* A ring or a table was full. Many times at once are one time. */
static void share_halve(struct dp_beacon *beacon)
{
	struct dp_datagram_state *state = beacon->datagram;
	uint64_t now_ns = dp_intake_now_ns(beacon->intake);
	if (state->share > 1 && now_ns - state->halved_ns >= HALVE_NS) {
		state->share /= 2;
		state->halved_ns = now_ns;
	}
}

/* A source that is new, or a period that is over: what each may have of the table. Divides only when the answer may be another one. */
static void crowd_look(struct dp_datagram_state *state, uint64_t now_ns)
{
	const uint32_t sources = state->sources.sources;
	const bool over = now_ns - state->crowd_ns >= CROWD_NS;
	if (__builtin_expect(!over && sources <= state->crowd[0], 1))
		return;
	if (over) {
		state->crowd[1] = now_ns - state->crowd_ns < 2ULL * CROWD_NS ? state->crowd[0] : 0;
		state->crowd_ns = now_ns;
		state->crowd[0] = 0;
	}
	state->crowd[0] = sources > state->crowd[0] ? sources : state->crowd[0];
	const uint32_t most = state->crowd[0] > state->crowd[1] ? state->crowd[0] : state->crowd[1];
	const uint32_t each = BATCHES_MAX / (most ? most : 1);
	state->room_each = each > ROOM_EACH_MIN ? each : ROOM_EACH_MIN;
}

static struct dp_batch_told told(const struct dp_beacon *beacon, uint16_t ingest)
{
	struct dp_datagram_state *state = beacon->datagram;
	uint64_t now_ns = dp_intake_now_ns(beacon->intake);
	if (state->share < SHARE_WHOLE && now_ns - state->halved_ns >= HALVE_NS && now_ns - state->grown_ns >= MS_NS) {
		state->share = state->share + SHARE_STEP < SHARE_WHOLE ? state->share + SHARE_STEP : SHARE_WHOLE;
		state->grown_ns = now_ns;
	}
	uint32_t window = dp_beacon_ingest(beacon, ingest)->batch_window * state->share / SHARE_WHOLE;
	crowd_look(state, now_ns);
	window = window < state->room_each ? window : state->room_each;
	return (struct dp_batch_told){.window = (uint16_t)(window ? window : 1), .core = beacon->options.rx};
}

/* Tells the sender of a batch that was not taken when to come again, if it knows the word. */
static void later(struct dp_beacon *beacon, const struct dp_datagram_path *path, const struct dp_batch *batch, const uint64_t *key,
		  enum dp_batch_why why)
{
	uint8_t answer[DP_BATCH_ACK_BYTES_MAX];
	if (why == DP_BATCH_WHY_FULL)
		share_halve(beacon);
	if (batch->version == 1)
		return;
	struct dp_batch_told now = told(beacon, path->ingest);
	path->send(path, answer, dp_batch_later(answer, batch, &now, LATER_MS, why, key));
	TP_COUNT(beacon->counters, BATCH_LATERS);
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
		struct dp_batch_told now = told(beacon, pending->path.ingest);
		size_t bytes = dp_batch_ack(ack, &pending->batch, &counts, &now, pending->reject, pending->listed,
					    pending->keyed ? pending->key : NULL);
		assert(bytes <= pending->batch.bytes);
		pending->path.send(&pending->path, ack, bytes);
		TP_COUNT(counters, BATCHES_ACCEPTED);
	}
	dp_tally_give(&beacon->datagram->sources, pending->source);
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
static int batch_read(struct dp_beacon *beacon, struct dp_request *request, struct pending_batch *pending, const uint8_t *bytes,
		      const struct dp_body_source *source, struct batch_books *books)
{
	const struct dp_json_limits limits = dp_beacon_json_limits(beacon);
	const uint32_t list_max = dp_batch_ack_room(&pending->batch);
	const uint8_t *at = bytes + pending->batch.events_at;
	struct tp_event_scratch *finish = dp_json_scratch_finish(beacon->json);
	struct tp_parsed parsed;
	for (uint32_t i = 0; i < pending->batch.events; i++) {
		struct dp_batch_event event = dp_batch_event(at, &limits, &parsed);
		at += event.bytes;
		books->bad_traces += event.bad_trace;
		if (event.reason != TP_OK) {
			const struct dp_dead_what what = {.reason = event.reason, .field = event.field, .index = i};
			dp_dead_stage(dp_intake_dead(beacon->intake), limits.now_ms, &what, at - event.bytes, event.bytes);
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
		tp_event_finish_with(finish, &parsed);
		int fault = dp_intake_stage(beacon->intake, request, &parsed, i);
		if (fault)
			return fault;
	}
	return 0;
}

static int batch_stage(struct dp_beacon *beacon, struct dp_request *request, struct pending_batch *pending, const uint8_t *bytes,
		       const struct dp_body_source *source, struct batch_books *books)
{
	const uint32_t before = tp_meter_enter(beacon->meter, TP_STAGE_PARSE);
	const int rc = batch_read(beacon, request, pending, bytes, source, books);
	tp_meter_leave(beacon->meter, before);
	return rc;
}

/* The answer to a hello: how the node spreads events, and which core this flow came to. */
static void hello_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const struct dp_batch *hello,
			const uint64_t *key)
{
	uint8_t answer[DP_BATCH_HEADER_BYTES + DP_BATCH_WIDE_TAG_BYTES + DP_BATCH_LAYOUT_BODY_BYTES + DP_BATCH_SHARDS_MAX];
	bool dpdk = dp_beacon_ingest(beacon, path->ingest)->driver == TP_DRIVER_DPDK;
	struct dp_batch_layout layout = {
		.shards = beacon->options.shards,
		.cores = beacon->options.rx_count,
		.shard_core = beacon->options.shard_core,
		.datagram_bytes = !dpdk                         ? SOCKET_DATAGRAM_BYTES
				  : path->peer.addr.family == 6 ? DPDK_DATAGRAM6_BYTES
								: DPDK_DATAGRAM_BYTES,
	};
	struct dp_batch_told now = told(beacon, path->ingest);
	path->send(path, answer, dp_batch_layout(answer, hello, &now, &layout, key));
	TP_COUNT(beacon->counters, DATAGRAMS_ACCEPTED);
	TP_COUNT(beacon->counters, BATCH_HELLOS);
}

static enum tp_counter fault_counter(enum dp_batch_fault fault)
{
	switch (fault) {
	case DP_BATCH_BAD_VERSION:
		return TP_C_DATAGRAMS_BAD_VERSION;
	case DP_BATCH_BAD_CHECKSUM:
		return TP_C_DATAGRAMS_BAD_CHECKSUM;
	default:
		return TP_C_DATAGRAMS_MALFORMED;
	}
}

/* True if the batch is signed as its entry asks, and within the rate of its source; else it is counted. */
static bool batch_may(struct dp_beacon *beacon, const struct dp_datagram_path *path, const struct dp_batch *batch,
		      const uint8_t *bytes, uint64_t key[2])
{
	const struct dp_beacon_options *options = &beacon->options;
	const struct dp_source_keys *keys =
		options->source_keys ? options->source_keys(options->source_context, path->ingest) : NULL;
	enum dp_tag_fault fault = keys ? dp_tag_check(keys, batch, bytes, &path->peer.addr, key) : DP_TAG_UNKNOWN;
	if (fault == DP_TAG_UNKNOWN)
		TP_COUNT(beacon->counters, DATAGRAMS_UNKNOWN_SOURCE);
	else if (fault == DP_TAG_BAD)
		TP_COUNT(beacon->counters, DATAGRAMS_BAD_TAG);
	else if (!dp_beacon_who_allows(beacon, path->ingest, batch->source))
		TP_COUNT(beacon->counters, DATAGRAMS_RATE_LIMITED);
	else
		return true;
	return false;
}

/* Places for the batch in all tables, or NULL: then its sender has been told, and it is counted. */
static struct pending_batch *batch_begin(struct dp_beacon *beacon, const struct dp_datagram_path *path,
					 const struct dp_batch *batch, const uint64_t *key, struct dp_request **request)
{
	struct dp_datagram_state *state = beacon->datagram;
	struct pending_batch *pending = pending_take(state);
	*request = pending ? dp_intake_open(beacon->intake, batch_done, pending) : NULL;
	if (!*request) {
		if (pending)
			pending_give(state, pending);
		TP_COUNT(beacon->counters, DATAGRAMS_NO_REQUEST);
		later(beacon, path, batch, key, DP_BATCH_WHY_FULL);
		return NULL;
	}
	/* sources of different entries are different ones: their numbers need not be agreed upon */
	uint64_t source = batch->source ^ (uint64_t)(path->ingest + 1) * 0x9e3779b97f4a7c15ULL;
	pending->source = dp_tally_take(&state->sources, source, dp_beacon_ingest(beacon, path->ingest)->batch_window);
	if (pending->source != DP_TALLY_NONE)
		return pending;
	pending_give(state, pending);
	dp_intake_rollback(beacon->intake, *request);
	TP_COUNT(beacon->counters, DATAGRAMS_WINDOW_FULL);
	later(beacon, path, batch, key, DP_BATCH_WHY_WINDOW);
	return NULL;
}

static void batch_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	struct tp_counters *counters = beacon->counters;
	struct dp_batch batch;
	enum dp_batch_fault fault = dp_batch_open(bytes, count, &batch);
	if (fault != DP_BATCH_OK) {
		counters->v[fault_counter(fault)]++;
		return;
	}
	uint64_t own_key[2];
	const uint64_t *key = dp_beacon_ingest(beacon, path->ingest)->source_keys ? own_key : NULL;
	if (key && !batch_may(beacon, path, &batch, bytes, own_key))
		return;
	if (batch.kind == DP_BATCH_KIND_HELLO) {
		hello_input(beacon, path, &batch, key);
		return;
	}

	struct dp_request *request;
	struct pending_batch *pending = batch_begin(beacon, path, &batch, key, &request);
	if (!pending)
		return;
	pending->path = *path;
	pending->beacon = beacon;
	pending->batch = batch;
	pending->keyed = key != NULL;
	if (key)
		memcpy(pending->key, own_key, sizeof own_key);
	pending->rejected = pending->listed = 0;

	struct dp_body_source source = source_of(beacon, path);
	struct batch_books books = {0};
	TP_COUNT_ADD(counters, EVENTS_RECEIVED, batch.events);
	dp_beacon_count_way(beacon, path->ingest, TP_WAY_UDP_BATCH, batch.events);
	dp_dead_origin(dp_intake_dead(beacon->intake), TP_WAY_UDP_BATCH, path->ingest, &path->peer);
	if (batch_stage(beacon, request, pending, bytes, &source, &books)) {
		dp_dead_rollback(dp_intake_dead(beacon->intake));
		dp_intake_rollback(beacon->intake, request);
		dp_tally_give(&beacon->datagram->sources, pending->source);
		pending_give(beacon->datagram, pending);
		TP_COUNT(counters, DATAGRAMS_RING_FULL);
		TP_COUNT_ADD(counters, EVENTS_RING_FULL, batch.events);
		later(beacon, path, &batch, key, DP_BATCH_WHY_FULL);
		return;
	}
	for (int reason = TP_MALFORMED; reason < TP_REJECTS; reason++)
		counters->v[TP_C_EVENTS_MALFORMED + reason - TP_MALFORMED] += books.rejected[reason];
	TP_COUNT_ADD(counters, EVENTS_BAD_TRACE, books.bad_traces);
	TP_COUNT(counters, DATAGRAMS_ACCEPTED);
	TP_COUNT(counters, BATCHES_RECEIVED);
	TP_COUNT(counters, BATCHES_IN_FLIGHT);
	beacon->datagram->owed++;
	dp_intake_dead_commit(beacon->intake);
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
	dp_dead_origin(dp_intake_dead(beacon->intake), TP_WAY_UDP_TEXT, path->ingest, &path->peer);
	struct dp_body_result result =
		dp_body_stage(beacon->intake, beacon->json, request, (const char *)bytes, count, &limits, &source, beacon->rejects);
	if (result.outcome != DP_BODY_FULL)
		dp_beacon_count_way(beacon, path->ingest, TP_WAY_UDP_TEXT, result.events);
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

static void input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	struct tp_counters *counters = beacon->counters;
	const struct tp_config_ingest *entry = dp_beacon_ingest(beacon, path->ingest);
	bool is_batch = count > 0 && bytes[0] == DP_BATCH_MAGIC_FIRST;
	if (count == 0)
		TP_COUNT(counters, DATAGRAMS_EMPTY);
	else if (dp_beacon_blocked(beacon, &path->peer.addr))
		TP_COUNT(counters, DATAGRAMS_BLOCKLISTED);
	else if (entry->source_keys ? !is_batch
				    : entry->auth_tokens) /* text has no place for a tag, and without keys nothing proves a tag */
		TP_COUNT(counters, DATAGRAMS_UNAUTHORISED);
	else if (!dp_beacon_rate_allows(beacon, path->ingest, &path->peer.addr))
		TP_COUNT(counters, DATAGRAMS_RATE_LIMITED);
	else if (dp_intake_refusing(beacon->intake))
		TP_COUNT(counters, DATAGRAMS_REFUSING);
	else if (is_batch)
		batch_input(beacon, path, bytes, count);
	else
		text_input(beacon, path, bytes, count);
}

/* Shows a datagram to somebody who looks: its verdict is the counter of its layer that has grown, and so with its events' reasons. */
static void input_shown(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	const struct tp_counters before = *beacon->counters;
	struct tp_sight_record record = {.kind = TP_SIGHT_DATAGRAM,
					 .ingest = (uint8_t)path->ingest,
					 .verdict = TP_C_DATAGRAMS_RECEIVED,
					 .bytes = (uint32_t)count,
					 .peer = path->peer};
	input(beacon, path, bytes, count);
	for (uint32_t c = TP_C_DATAGRAMS_RECEIVED + 1; c < TP_COUNTERS && tp_counter_info[c].layer == TP_LAYER_DATAGRAMS; c++)
		if (beacon->counters->v[c] != before.v[c])
			record.verdict = (uint16_t)c;
	for (uint32_t c = TP_C_EVENTS_MALFORMED; c < TP_C_EVENTS_MALFORMED + TP_REJECTS - TP_MALFORMED; c++) {
		uint64_t events = beacon->counters->v[c] - before.v[c];
		if (events && !record.reason)
			record.reason = (uint8_t)(TP_MALFORMED + c - TP_C_EVENTS_MALFORMED);
		record.rejected += (uint32_t)events;
	}
	tp_sight_request(beacon->options.sight, beacon->options.rx, &record, bytes, (uint32_t)count,
			 dp_intake_now_ns(beacon->intake));
}

void dp_datagram_input(struct dp_beacon *beacon, const struct dp_datagram_path *path, const uint8_t *bytes, size_t count)
{
	const uint32_t before = tp_meter_enter(beacon->meter, TP_STAGE_BEACON);
	TP_COUNT(beacon->counters, DATAGRAMS_RECEIVED);
	if (tp_sight_on(beacon->options.sight, TP_SIGHT_DATAGRAM))
		input_shown(beacon, path, bytes, count);
	else
		input(beacon, path, bytes, count);
	tp_meter_leave(beacon->meter, before);
}
