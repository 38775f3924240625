/*
 * What HTTP is tested in: a beacon over the real intake and real hop rings, with shards, a transport and a clock that the test plays.
 * For tests and fuzzers only; one testbed per process.
 *
 *   The shards take events when told to, decide by ad_id ("dup", "late", "conflict", "refuse", else accepted), in any order among them.
 *   The transport keeps to stream.h: what was not taken is offered again only after resume(), and with nothing behind it until then;
 *   send() takes as much as the test lets it.
 *   bed_check() holds the books: received = everything else, in requests and events; nothing leaks from a pool.
 */
#ifndef TURNPIKE_HTTP_TESTBED_H
#define TURNPIKE_HTTP_TESTBED_H

#include "http.h"
#include "turnpike/hop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BED_SHARDS = 4, BED_EVENTS_KEPT = 64 };

#define BED_NOW_MS 1700000000000ULL

/* A failed check of the testbed itself: a fuzzer has no cmocka. */
#define BED_CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

struct bed_options {
	uint32_t connections, requests, small, large;
	uint64_t hop_bytes;
};

static struct bed {
	struct tp_config config;
	struct tp_config_ingest ingest;
	struct tp_prefix trusted;
	struct dp_beacon *beacon;
	struct dp_intake *intake;
	struct tp_hop hop[BED_SHARDS];
	struct dp_late_ring late[BED_SHARDS];
	struct tp_counters counters;
	_Atomic uint32_t refusing;
	_Atomic uint64_t latency[64], latency_sum;
	uint64_t now_ns;
	bool blocked;
	uint64_t events; /* that shards have seen */
	struct {
		struct tp_event fixed;
		char strings[4096];
	} seen[BED_EVENTS_KEPT]; /* the last of them */
} bed;

/* One connection with its transport and its client. */
struct bed_stream {
	struct dp_stream stream;
	char *sent;
	size_t sent_bytes, sent_capacity;
	size_t send_room; /* SIZE_MAX: takes all */
	bool open, blocked, paused, resumed, close_called, abort_called;
	uint8_t *held; /* offered, and not taken */
	size_t held_bytes;
	bool eof_sent;
	bool close_in_send; /* the connection breaks while an answer is being sent */
};

/* ---- the transport ---- */

static void bed_gone(struct bed_stream *s)
{
	if (!s->open)
		return;
	s->open = false;
	dp_stream_closed(&s->stream);
}

static size_t bed_send(struct dp_stream *stream, const void *bytes, size_t count)
{
	struct bed_stream *s = (struct bed_stream *)(void *)stream;
	BED_CHECK(s->open && !s->close_called && !s->abort_called && count > 0);
	if (s->close_in_send) {
		bed_gone(s);
		return 0;
	}
	size_t n = count < s->send_room ? count : s->send_room;
	if (s->sent_bytes + n + 1 > s->sent_capacity) {
		s->sent_capacity = 2 * (s->sent_bytes + n + 1);
		s->sent = realloc(s->sent, s->sent_capacity);
	}
	memcpy(s->sent + s->sent_bytes, bytes, n);
	s->sent_bytes += n;
	s->sent[s->sent_bytes] = 0;
	if (s->send_room != SIZE_MAX)
		s->send_room -= n;
	s->blocked = n < count;
	return n;
}

static void bed_close(struct dp_stream *stream)
{
	struct bed_stream *s = (struct bed_stream *)(void *)stream;
	BED_CHECK(s->open && !s->close_called && !s->abort_called);
	s->close_called = true;
}

static void bed_abort(struct dp_stream *stream)
{
	struct bed_stream *s = (struct bed_stream *)(void *)stream;
	BED_CHECK(s->open && !s->abort_called);
	s->abort_called = true;
	bed_gone(s);
}

static void bed_resume(struct dp_stream *stream)
{
	struct bed_stream *s = (struct bed_stream *)(void *)stream;
	BED_CHECK(s->open && s->paused);
	s->resumed = true;
}

static const struct dp_stream_ops bed_ops = {.send = bed_send, .close = bed_close, .abort = bed_abort, .resume = bed_resume};

static inline bool bed_connect_from(struct bed_stream *s, const struct tp_addr *addr, uint16_t port)
{
	*s = (struct bed_stream){.stream = {.ops = &bed_ops, .beacon = bed.beacon}, .send_room = SIZE_MAX};
	s->stream.peer = (struct tp_endpoint){.addr = *addr, .port = port};
	s->open = dp_stream_opened(&s->stream);
	return s->open;
}

static inline bool bed_connect(struct bed_stream *s, uint8_t last_byte)
{
	struct tp_addr addr = tp_addr_v4((const uint8_t[]){203, 0, 113, last_byte});
	return bed_connect_from(s, &addr, 4711);
}

/* What is held is offered from memory of exactly that size, which is poisoned and freed behind the call. */
static inline void bed_offer(struct bed_stream *s)
{
	if (!s->open || s->paused || s->held_bytes == 0)
		return;
	uint8_t *exact = malloc(s->held_bytes);
	memcpy(exact, s->held, s->held_bytes);
	size_t taken = dp_stream_input(&s->stream, exact, s->held_bytes);
	memset(exact, 0xee, s->held_bytes);
	free(exact);
	BED_CHECK(taken <= s->held_bytes);
	s->held_bytes -= taken;
	memmove(s->held, s->held + taken, s->held_bytes);
	s->paused = s->held_bytes != 0 && s->open;
}

/* The client sends. */
static inline void bed_input(struct bed_stream *s, const void *bytes, size_t count)
{
	s->held = realloc(s->held, s->held_bytes + count + 1);
	memcpy(s->held + s->held_bytes, bytes, count);
	s->held_bytes += count;
	bed_offer(s);
}

static inline void bed_text(struct bed_stream *s, const char *text)
{
	bed_input(s, text, strlen(text));
}

static inline void bed_eof(struct bed_stream *s)
{
	if (s->open && !s->eof_sent) {
		s->eof_sent = true;
		dp_stream_eof(&s->stream);
	}
}

/* The connection breaks, or was closed; its memory goes. */
static inline void bed_disconnect(struct bed_stream *s)
{
	bed_gone(s);
	free(s->sent);
	free(s->held);
	s->sent = NULL;
	s->held = NULL;
}

/* The transport's turn: what it may send again, what it may offer again. */
static inline void bed_transport_turn(struct bed_stream *s, size_t room)
{
	if (s->open && s->blocked && !s->close_called) {
		s->send_room = room;
		s->blocked = false;
		dp_stream_writable(&s->stream);
	}
	if (s->resumed) {
		s->resumed = false;
		s->paused = false;
		bed_offer(s);
	}
}

/* ---- the shards ---- */

/* Decides all events of one shard and makes them durable. */
static inline uint32_t bed_shard_turn(uint32_t shard)
{
	uint32_t count = 0;
	struct tp_hop *hop = &bed.hop[shard];
	for (struct tp_slot *slot; (slot = tp_hop_take(hop)) != NULL; count++) {
		BED_CHECK(tp_event_valid(&slot->event, slot->bytes - TP_SLOT_HEADER_BYTES));
		struct tp_str ad = tp_event_string(&slot->event, TP_AD_ID);
#define IS(text) (ad.bytes == sizeof(text) - 1 && memcmp(ad.at, text, ad.bytes) == 0)
		uint8_t verdict = IS("dup")        ? TP_DUPLICATE
				  : IS("late")     ? TP_LATE
				  : IS("conflict") ? TP_CONFLICT
				  : IS("refuse")   ? TP_REFUSED
						   : TP_ACCEPTED;
#undef IS
		tp_hop_decide(hop, hop->taken_slots - 1, verdict);
		memcpy(&bed.seen[bed.events++ % BED_EVENTS_KEPT], &slot->event,
		       slot->event.bytes < sizeof(bed.seen[0]) ? slot->event.bytes : sizeof(bed.seen[0]));
	}
	tp_hop_durable(hop, hop->taken);
	return count;
}

/* The event that a shard saw last. */
static inline const struct tp_event *bed_last_event(void)
{
	return &bed.seen[(bed.events - 1) % BED_EVENTS_KEPT].fixed;
}

/* A loop round of the rx core, `ns` later. */
static inline void bed_round(uint64_t ns)
{
	bed.now_ns += ns;
	dp_intake_clock(bed.intake, BED_NOW_MS + bed.now_ns / 1000000, bed.now_ns);
	dp_intake_poll(bed.intake);
	dp_beacon_poll(bed.beacon);
}

/* Everybody works until nothing changes: shards at once, sends whole. */
static inline void bed_settle(struct bed_stream *s)
{
	for (int i = 0; i < 400; i++) {
		for (uint32_t shard = 0; shard < BED_SHARDS; shard++)
			bed_shard_turn(shard);
		bed_round(50000);
		bed_transport_turn(s, SIZE_MAX);
		if (i > 3 && !s->paused && !s->resumed && !s->blocked && dp_beacon_owed(bed.beacon) == 0)
			break;
	}
}

/* ---- all of it ---- */

static bool bed_is_blocked(void *context, const struct tp_addr *peer)
{
	(void)context;
	(void)peer;
	return bed.blocked;
}

static bool bed_is_authorised(void *context, const char *token, size_t bytes, uint64_t now_ms, struct dp_permit *permit)
{
	(void)context;
	(void)now_ms;
	*permit = (struct dp_permit){.who = 1, .until_ms = UINT64_MAX};
	return bytes == 6 && memcmp(token, "secret", 6) == 0;
}

static inline void bed_open_with(const struct bed_options *o)
{
	memset(&bed, 0, sizeof(bed));
	struct tp_hop *hops[BED_SHARDS];
	struct dp_late_ring *late[BED_SHARDS];
	for (int i = 0; i < BED_SHARDS; i++) {
		BED_CHECK(tp_hop_init(&bed.hop[i], o->hop_bytes) == 0);
		hops[i] = &bed.hop[i];
		late[i] = &bed.late[i];
	}
	bed.now_ns = 1000000000;
	struct dp_intake_options options = {.hop = hops,
					    .late = late,
					    .shards = BED_SHARDS,
					    .requests_max = o->requests,
					    .refusing = &bed.refusing,
					    .counters = &bed.counters,
					    .ack_latency = bed.latency,
					    .ack_ns_sum = &bed.latency_sum};
	BED_CHECK(dp_intake_create(&bed.intake, &options) == 0);
	dp_intake_clock(bed.intake, BED_NOW_MS, bed.now_ns);
	bed.trusted = (struct tp_prefix){.addr = tp_addr_v4((const uint8_t[]){10, 0, 0, 0}), .bits = 8};
	bed.ingest = (struct tp_config_ingest){.trusted = &bed.trusted, .trusted_count = 1};
	bed.config = (struct tp_config){.ingest = &bed.ingest, .ingest_count = 1, .max_future_ms = 60000};
	struct dp_beacon_options beacon = {.config = &bed.config,
					   .intake = bed.intake,
					   .connections_max = o->connections,
					   .small_buffers = o->small,
					   .large_buffers = o->large,
					   .blocked = bed_is_blocked,
					   .permits.ask = bed_is_authorised};
	BED_CHECK(dp_beacon_create(&bed.beacon, &beacon) == 0);
}

static inline void bed_open(void)
{
	bed_open_with(&(struct bed_options){.connections = 64, .requests = 512, .small = 16, .large = 4, .hop_bytes = 4 << 20});
}

static inline void bed_check(void)
{
	static const enum tp_counter_layer layers[] = {TP_LAYER_REQUESTS, TP_LAYER_EVENTS};
	for (size_t i = 0; i < 2; i++) {
		uint64_t received = 0, placed = 0;
		for (int c = 0; c < TP_COUNTERS; c++) {
			const struct tp_counter_info *info = &tp_counter_info[c];
			if (info->layer != layers[i] || info->kind == TP_KIND_OTHER)
				continue;
			*(info->kind == TP_KIND_RECEIVED ? &received : &placed) += bed.counters.v[c];
		}
		if (received != placed)
			fprintf(stderr, "%s: received %llu, placed %llu\n", tp_layer_name(layers[i]), (unsigned long long)received,
				(unsigned long long)placed);
		BED_CHECK(received == placed);
	}
}

/* All connections must be gone. */
static inline void bed_shut(void)
{
	for (uint32_t shard = 0; shard < BED_SHARDS; shard++)
		bed_shard_turn(shard);
	bed_round(50000);
	bed_check();
	BED_CHECK(bed.counters.v[TP_C_REQUESTS_IN_FLIGHT] == 0 && bed.counters.v[TP_C_EVENTS_IN_FLIGHT] == 0);
	BED_CHECK(dp_beacon_owed(bed.beacon) == 0 && dp_intake_in_flight(bed.intake) == 0);
	BED_CHECK(bed.beacon->small.free_count == bed.beacon->small.count &&
		  bed.beacon->large.free_count == bed.beacon->large.count);
	uint32_t connections = 0, exchanges = 0;
	for (struct dp_http_connection *c = bed.beacon->http->free_connection; c != NULL; c = c->next_free)
		connections++;
	for (struct dp_exchange *e = bed.beacon->http->free_exchange; e != NULL; e = e->next)
		exchanges++;
	BED_CHECK(connections == bed.beacon->options.connections_max && exchanges == connections + 1024);
	dp_beacon_destroy(bed.beacon);
	dp_intake_destroy(bed.intake);
	for (int i = 0; i < BED_SHARDS; i++)
		tp_hop_fini(&bed.hop[i]);
}

/* ---- reading answers ---- */

struct bed_answer {
	int status;
	const char *head; /* with its last CRLF CRLF */
	size_t head_bytes;
	const char *body;
	size_t body_bytes;
};

/* The answer at *at, moving it on; false at the end, or when there is only part of one. `head_only`: it is to a HEAD. */
static inline bool bed_next_answer(const char **at, const char *end, bool head_only, struct bed_answer *answer)
{
	const char *stop = *at >= end ? NULL : memmem(*at, (size_t)(end - *at), "\r\n\r\n", 4);
	if (stop == NULL)
		return false;
	BED_CHECK(end - *at > 13 && memcmp(*at, "HTTP/1.1 ", 9) == 0);
	*answer = (struct bed_answer){.status = atoi(*at + 9), .head = *at, .head_bytes = (size_t)(stop + 4 - *at)};
	answer->body = stop + 4;
	const char *length = memmem(answer->head, answer->head_bytes, "\r\nContent-Length: ", 18);
	bool none = answer->status == 204 || answer->status == 100;
	BED_CHECK((length == NULL) == none);
	if (!none && !head_only)
		answer->body_bytes = strtoul(length + 18, NULL, 10);
	if ((size_t)(end - answer->body) < answer->body_bytes)
		return false;
	*at = answer->body + answer->body_bytes;
	return true;
}

static inline bool bed_head_has(const struct bed_answer *answer, const char *text)
{
	return memmem(answer->head, answer->head_bytes, text, strlen(text)) != NULL;
}

static inline bool bed_body_has(const struct bed_answer *answer, const char *text)
{
	return memmem(answer->body, answer->body_bytes, text, strlen(text)) != NULL;
}

/*
 * All answers of a stream as text: "204 400!" and so on: '!' says Connection: close. `heads`: the answers are to HEAD. Bytes that are
 * no whole answer end it with "?"; a closed stream with "." and a reset one with "x".
 */
static inline void bed_summary(const struct bed_stream *s, bool heads, char *to, size_t room)
{
	const char *at = s->sent, *end = s->sent + s->sent_bytes;
	struct bed_answer answer = {0};
	size_t used = 0;
	to[0] = 0;
	while (used + 16 < room && s->sent_bytes != 0 && bed_next_answer(&at, end, heads, &answer))
		used += (size_t)sprintf(to + used, "%s%d%s", used == 0 ? "" : " ", answer.status,
					bed_head_has(&answer, "\r\nConnection: close\r\n") ? "!" : "");
	sprintf(to + used, "%s%s", at != end ? "?" : "", s->abort_called ? "x" : s->close_called ? "." : "");
}

#endif
