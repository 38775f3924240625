/*
 * UDP beacons over the real intake and a real hop ring; the test plays the shard (decides, makes durable) and the network.
 * After every test the books of the layers datagrams, batches and events must balance.
 */
#include "batch_format.h"
#include "batch_tag.h"
#include "beacon_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW_MS_BASE = 1700000000, SENT_MAX = 64 };
static const uint64_t now_ms = NOW_MS_BASE * 1000ULL;

struct sent {
	uint8_t bytes[256];
	size_t count;
	struct tp_endpoint to;
};

static struct node {
	struct tp_config config;
	struct tp_config_ingest ingest;
	struct dp_beacon beacon;
	struct dp_intake *intake;
	struct tp_hop hop;
	struct dp_late_ring late;
	struct tp_counters counters;
	_Atomic uint32_t refusing;
	_Atomic uint64_t latency[64], latency_sum;
	struct dp_datagram_path path;
	bool blocked;
	struct sent sent[SENT_MAX];
	uint32_t sent_count;
} node;

static void path_send(const struct dp_datagram_path *path, const void *bytes, size_t count)
{
	struct sent *sent = &node.sent[node.sent_count++ % SENT_MAX];
	assert_true(count <= sizeof sent->bytes);
	memcpy(sent->bytes, bytes, count);
	sent->count = count;
	sent->to = path->peer;
}

static bool peer_blocked(void *context, const struct tp_addr *peer)
{
	(void)context;
	(void)peer;
	return node.blocked;
}

static void node_open(uint32_t requests_max, uint64_t hop_bytes)
{
	memset(&node, 0, sizeof node);
	assert_int_equal(tp_hop_init(&node.hop, hop_bytes), 0);
	struct tp_hop *hops[] = {&node.hop};
	struct dp_late_ring *late[] = {&node.late};
	struct dp_intake_options options = {.hop = hops,
					    .late = late,
					    .shards = 1,
					    .requests_max = requests_max,
					    .refusing = &node.refusing,
					    .counters = &node.counters,
					    .ack_latency = node.latency,
					    .ack_ns_sum = &node.latency_sum};
	assert_int_equal(dp_intake_create(&node.intake, &options), 0);
	dp_intake_clock(node.intake, now_ms, 1);
	static struct tp_prefix trusted = {.addr = {.byte = {[10] = 0xff, [11] = 0xff, [12] = 10}, .family = 4}, .bits = 8};
	node.ingest = (struct tp_config_ingest){.trusted = &trusted, .trusted_count = 1, .batch_window = 64};
	node.config = (struct tp_config){.ingest = &node.ingest, .ingest_count = 1, .max_future_ms = 60000};
	node.beacon.options.config = &node.config;
	node.beacon.options.blocked = peer_blocked;
	node.beacon.intake = node.intake;
	node.beacon.counters = &node.counters;
	node.beacon.meter = dp_intake_meter(node.intake);
	node.beacon.json = dp_json_scratch_new();
	node.beacon.rejects = malloc(DP_BODY_EVENTS_MAX * sizeof(struct dp_body_reject));
	assert_int_equal(dp_datagram_create(&node.beacon), 0);
	node.path = (struct dp_datagram_path){.send = path_send,
					      .peer = {.addr = tp_addr_v4((const uint8_t[]){198, 51, 100, 7}), .port = 4711}};
}

/* received = everything else, in each layer that datagrams pass. */
static void books_check(void)
{
	static const enum tp_counter_layer layers[] = {TP_LAYER_DATAGRAMS, TP_LAYER_BATCHES, TP_LAYER_EVENTS};
	for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
		uint64_t received = 0, placed = 0;
		for (int c = 0; c < TP_COUNTERS; c++) {
			const struct tp_counter_info *info = &tp_counter_info[c];
			if (info->layer != layers[i] || info->kind == TP_KIND_OTHER)
				continue;
			*(info->kind == TP_KIND_RECEIVED ? &received : &placed) += node.counters.v[c];
		}
		if (received != placed)
			fail_msg("%s: received %llu, placed %llu", tp_layer_name(layers[i]), (unsigned long long)received,
				 (unsigned long long)placed);
	}
}

static void node_close(void)
{
	books_check();
	assert_int_equal(dp_datagram_owed(&node.beacon), node.counters.v[TP_C_BATCHES_IN_FLIGHT]);
	dp_datagram_destroy(&node.beacon);
	dp_json_scratch_free(node.beacon.json);
	free(node.beacon.rejects);
	dp_intake_destroy(node.intake);
	tp_hop_fini(&node.hop);
}

/* The shard: decides every published event, the verdicts given in turn, and makes all durable. Returns how many there were. */
static uint32_t shard_turn(const char *verdicts)
{
	uint32_t count = 0;
	for (struct tp_slot *slot; (slot = tp_hop_take(&node.hop)) != NULL; count++) {
		assert_true(tp_event_valid(&slot->event, slot->bytes - TP_SLOT_HEADER_BYTES));
		uint8_t verdict;
		switch (verdicts[count % strlen(verdicts)]) {
		case 'd':
			verdict = TP_DUPLICATE;
			break;
		case 'l':
			verdict = TP_LATE;
			break;
		case 'c':
			verdict = TP_CONFLICT;
			break;
		case 'r':
			verdict = TP_REFUSED;
			break;
		default:
			verdict = TP_ACCEPTED;
		}
		tp_hop_decide(&node.hop, node.hop.taken_slots - 1, verdict);
	}
	tp_hop_durable(&node.hop, node.hop.taken);
	return count;
}

/* Signs, if there is a key, and sets the checksum. */
static void batch_seal(uint8_t *to, uint32_t bytes, const uint64_t *key)
{
	memset(to + DP_BATCH_AT_CHECKSUM, 0, 4);
	if (key) {
		uint64_t tag[2];
		dp_tag_compute(key, to, bytes, DP_BATCH_AT_TAG, true, tag);
		memcpy(to + DP_BATCH_AT_TAG, tag, 16);
	}
	uint32_t crc = dp_crc32c(0, to, bytes);
	memcpy(to + DP_BATCH_AT_CHECKSUM, &crc, 4);
}

/* A batch of events with ids "<first>", "<first + 1>", …; `bad` is a letter per event: '.' valid, 'f' stamped in the future. */
static uint32_t batch_make(uint8_t *to, uint64_t number, uint32_t first, const char *bad)
{
	uint32_t events = (uint32_t)strlen(bad), at = DP_BATCH_HEADER_BYTES;
	memset(to, 0, DP_BATCH_HEADER_BYTES);
	memcpy(to, dp_batch_magic, 4);
	to[4] = 1;
	to[5] = 1;
	uint64_t source = 99;
	memcpy(to + DP_BATCH_AT_SOURCE, &source, 8);
	memcpy(to + DP_BATCH_AT_NUMBER, &number, 8);
	for (uint32_t i = 0; i < events; i++) {
		uint8_t *event = to + at;
		memset(event, 0, DP_BATCH_EVENT_FIXED_BYTES);
		int id_bytes = sprintf((char *)event + DP_BATCH_EVENT_FIXED_BYTES, "%uABC", first + i) - 3;
		uint16_t bytes = (uint16_t)(DP_BATCH_EVENT_FIXED_BYTES + id_bytes + 3);
		uint64_t stamp = bad[i] == 'f' ? now_ms + 60001 : now_ms - 1000;
		memcpy(event, &bytes, 2);
		event[DP_BATCH_EVENT_AT_TYPE] = TP_CLICK;
		memcpy(event + DP_BATCH_EVENT_AT_TIMESTAMP, &stamp, 8);
		event[DP_BATCH_EVENT_AT_LENGTHS] = (uint8_t)id_bytes;
		memset(event + DP_BATCH_EVENT_AT_LENGTHS + 1, 1, 3);
		at += bytes;
	}
	uint16_t bytes16 = (uint16_t)at, events16 = (uint16_t)events;
	memcpy(to + DP_BATCH_AT_BYTES, &bytes16, 2);
	memcpy(to + DP_BATCH_AT_EVENTS, &events16, 2);
	uint32_t crc = dp_crc32c(0, to, at);
	memcpy(to + DP_BATCH_AT_CHECKSUM, &crc, 4);
	return at;
}

static void input(const void *bytes, size_t count)
{
	uint8_t *exact = malloc(count + 1); /* freed at once: nothing may point into it later */
	memcpy(exact, bytes, count);
	dp_datagram_input(&node.beacon, &node.path, exact, count);
	memset(exact, 0xee, count);
	free(exact);
}

/* Makes a batch of version 2 from one of version 1, with room for a tag if there is a key. */
static uint32_t batch_widen(uint8_t *to, uint32_t bytes, uint64_t source, const uint64_t *key)
{
	to[DP_BATCH_AT_VERSION] = 2;
	memcpy(to + DP_BATCH_AT_SOURCE, &source, 8);
	if (key) {
		memmove(to + DP_BATCH_HEADER_BYTES + 16, to + DP_BATCH_HEADER_BYTES, bytes - DP_BATCH_HEADER_BYTES);
		to[DP_BATCH_AT_FLAGS] = DP_BATCH_FLAG_TAG;
		bytes += 16;
	}
	uint16_t bytes16 = (uint16_t)bytes;
	memcpy(to + DP_BATCH_AT_BYTES, &bytes16, 2);
	batch_seal(to, bytes, key);
	return bytes;
}

static uint32_t hello_make(uint8_t *to, uint64_t source, const uint64_t *key)
{
	uint32_t bytes = DP_BATCH_HEADER_BYTES + DP_BATCH_HELLO_BODY_BYTES;
	uint64_t number = 77;
	memset(to, 0, bytes + 16);
	memcpy(to, dp_batch_magic, 4);
	to[DP_BATCH_AT_KIND] = DP_BATCH_KIND_HELLO;
	memcpy(to + DP_BATCH_AT_NUMBER, &number, 8);
	return batch_widen(to, bytes, source, key);
}

/* The last answer is whole, of this kind, and signed by this key; its body. */
static const uint8_t *answer_check(enum dp_batch_kind kind, uint64_t source, uint64_t number, const uint64_t *key,
				   size_t request_bytes)
{
	static uint8_t copy[256];
	const struct sent *sent = &node.sent[(node.sent_count - 1) % SENT_MAX];
	assert_true(node.sent_count > 0 && sent->count <= request_bytes);
	assert_memory_equal(sent->bytes, dp_batch_magic, 4);
	assert_int_equal(sent->bytes[DP_BATCH_AT_VERSION], 2);
	assert_int_equal(sent->bytes[DP_BATCH_AT_KIND], kind);
	assert_int_equal(dp_batch_u16(sent->bytes + DP_BATCH_AT_FLAGS), key ? 1 : 0);
	assert_true(dp_batch_u64(sent->bytes + DP_BATCH_AT_SOURCE) == source &&
		    dp_batch_u64(sent->bytes + DP_BATCH_AT_NUMBER) == number);
	assert_int_equal(dp_batch_u16(sent->bytes + DP_BATCH_AT_BYTES), sent->count);
	memcpy(copy, sent->bytes, sent->count);
	batch_seal(copy, (uint32_t)sent->count, key);
	assert_memory_equal(copy, sent->bytes, sent->count);
	return sent->bytes + DP_BATCH_HEADER_BYTES + (key ? 16 : 0);
}

static const struct sent *ack_check(uint64_t number, const uint16_t counts[5])
{
	const struct sent *sent = &node.sent[(node.sent_count - 1) % SENT_MAX];
	assert_true(sent->count >= DP_BATCH_ACK_BYTES);
	assert_int_equal(sent->bytes[DP_BATCH_AT_KIND], DP_BATCH_KIND_ACK);
	assert_int_equal(dp_batch_u64(sent->bytes + DP_BATCH_AT_SOURCE), 99);
	assert_int_equal(dp_batch_u64(sent->bytes + DP_BATCH_AT_NUMBER), number);
	for (int i = 0; i < 5; i++)
		assert_int_equal(dp_batch_u16(sent->bytes + DP_BATCH_AT_ACCEPTED + 2 * i), counts[i]);
	assert_memory_equal(&sent->to, &node.path.peer, sizeof sent->to);
	return sent;
}

static uint8_t batch[65536];

static void test_batch_is_acknowledged_when_durable(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	uint32_t bytes = batch_make(batch, 7, 1, "....");
	input(batch, bytes);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 0);
	assert_int_equal(dp_datagram_owed(&node.beacon), 1);
	books_check();
	assert_int_equal(shard_turn("adlc"), 4);
	assert_int_equal(node.sent_count, 0);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 1);
	ack_check(7, (const uint16_t[]){1, 1, 1, 1, 0});
	assert_int_equal(node.counters.v[TP_C_BATCHES_ACCEPTED], 1);
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_ACCEPTED], 1);
	assert_int_equal(dp_datagram_owed(&node.beacon), 0);
	node_close();
}

static void test_same_batch_while_in_flight(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	uint32_t bytes = batch_make(batch, 7, 1, "..");
	input(batch, bytes);
	input(batch, bytes);
	assert_int_equal(dp_datagram_owed(&node.beacon), 2);
	assert_int_equal(shard_turn("aadd"), 4);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 2);
	ack_check(7, (const uint16_t[]){0, 2, 0, 0, 0});
	node_close();
}

static void test_invalid_events_are_named(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	uint32_t bytes = batch_make(batch, 8, 1, ".f.f");
	input(batch, bytes);
	assert_int_equal(shard_turn("a"), 2);
	dp_intake_poll(node.intake);
	const struct sent *sent = ack_check(8, (const uint16_t[]){2, 0, 0, 0, 2});
	assert_int_equal(sent->count, DP_BATCH_ACK_BYTES + 8);
	assert_int_equal(dp_batch_u16(sent->bytes + DP_BATCH_AT_LISTED), 2);
	assert_memory_equal(sent->bytes + DP_BATCH_ACK_BYTES, ((const uint8_t[]){1, 0, TP_FUTURE, TP_FIELD_TIMESTAMP, 3, 0}), 6);
	assert_int_equal(node.counters.v[TP_C_EVENTS_FUTURE], 2);
	node_close();
}

static void test_nothing_valid_is_answered_too(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	char bad[101];
	memset(bad, 'f', 100);
	bad[100] = 0;
	for (uint32_t events = 1; events <= 100; events++) {
		uint32_t bytes = batch_make(batch, events, 1000, bad + 100 - events);
		input(batch, bytes);
		dp_intake_poll(node.intake);
		assert_int_equal(node.sent_count, events);
		const struct sent *sent = ack_check(events, (const uint16_t[]){0, 0, 0, 0, (uint16_t)events});
		assert_true(sent->count <= bytes);
		assert_int_equal(dp_batch_u16(sent->bytes + DP_BATCH_AT_LISTED), events < 32 ? events : 32);
	}
	node_close();
}

static void test_refused_events_mean_silence(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	input(batch, batch_make(batch, 9, 1, "..."));
	assert_int_equal(shard_turn("ara"), 3);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 0);
	assert_int_equal(node.counters.v[TP_C_BATCHES_REFUSED], 1);
	node_close();
}

static void test_full_ring_takes_nothing_of_a_batch(void **state)
{
	(void)state;
	node_open(16, 4096);
	char many[41];
	memset(many, '.', 40);
	many[40] = 0;
	enum { TIMES = 5000 }; /* more than there are places for batches: none is lost */
	for (uint64_t i = 0; i < TIMES; i++)
		input(batch, batch_make(batch, 1, 1, many));
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_RING_FULL], TIMES);
	assert_int_equal(node.counters.v[TP_C_EVENTS_RING_FULL], 40 * TIMES);
	assert_int_equal(shard_turn("a"), 0);
	input("{\"event_id\":\"a\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_"
	      "id\":\"v\"}",
	      101);
	assert_int_equal(node.counters.v[TP_C_EVENTS_RECEIVED], 40 * TIMES + 1);
	input(batch, batch_make(batch, 2, 1, ".."));
	assert_int_equal(shard_turn("a"), 3);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 1);
	node_close();
}

static void test_full_ring_takes_nothing_of_a_text(void **state)
{
	(void)state;
	node_open(16, 4096);
	char text[8192];
	size_t count = 0;
	for (int i = 0; i < 40; i++)
		count += (size_t)sprintf(text + count,
					 "{\"event_id\":\"%d\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\","
					 "\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}\n",
					 i);
	input(text, count);
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_RING_FULL], 1);
	assert_int_equal(node.counters.v[TP_C_EVENTS_RECEIVED], 0);
	assert_int_equal(shard_turn("a"), 0);
	node_close();
}

static void test_tables_are_bounded(void **state)
{
	(void)state;
	node_open(2, 1 << 20);
	for (uint64_t i = 0; i < 5; i++)
		input(batch, batch_make(batch, i, (uint32_t)i, "."));
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_NO_REQUEST], 3);
	assert_int_equal(shard_turn("a"), 2);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 2);
	for (uint32_t i = 0; i < 10000; i++) { /* slots come back */
		input(batch, batch_make(batch, i, i, "."));
		shard_turn("a");
		dp_intake_poll(node.intake);
	}
	assert_int_equal(node.sent_count, 10002);
	node_close();
}

static void test_silence(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	struct tp_counters *counters = &node.counters;
	uint32_t bytes = batch_make(batch, 1, 1, "..");

	input("", 0);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_EMPTY], 1);
	input(batch, bytes - 1);
	input(batch, 1);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_MALFORMED], 2);
	batch[4] = 3;
	input(batch, bytes);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_BAD_VERSION], 1);
	batch[4] = 1;
	batch[50] ^= 1;
	input(batch, bytes);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_BAD_CHECKSUM], 1);
	batch[50] ^= 1;
	node.blocked = true;
	input(batch, bytes);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_BLOCKLISTED], 1);
	node.blocked = false;
	node.ingest.auth_tokens = true;
	input(batch, bytes);
	input("{}", 2);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_UNAUTHORISED], 2);
	node.ingest.auth_tokens = false;
	node.refusing = 1;
	input(batch, bytes);
	input("{}", 2);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_REFUSING], 2);
	node.refusing = 0;

	assert_int_equal(shard_turn("a"), 0);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 0);
	assert_int_equal(counters->v[TP_C_EVENTS_RECEIVED], 0);
	input(batch, bytes);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_ACCEPTED], 1);
	assert_int_equal(counters->v[TP_C_DATAGRAMS_RECEIVED], 11);
	node_close();
}

static void test_text(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
#define EVENT(id) \
	"{\"event_id\":\"" id \
	"\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}"
	static const char one[] = EVENT("1"), lines[] = EVENT("2") "\n{\"event_id\":5}\n" EVENT("3") "\n", rubbish[] = "hello";
	input(one, sizeof one - 1);
	input(lines, sizeof lines - 1);
	input(rubbish, sizeof rubbish - 1);
	books_check();
	assert_int_equal(shard_turn("a"), 3);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 0);
	assert_int_equal(node.counters.v[TP_C_EVENTS_ACCEPTED], 3);
	assert_int_equal(node.counters.v[TP_C_EVENTS_RECEIVED], 5);
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_ACCEPTED], 3);
	assert_int_equal(dp_intake_in_flight(node.intake), 0);
	node_close();
}

/* An event without an address gets the sender's, unless the sender is a trusted source. */
static void test_address_of_the_sender(void **state)
{
	(void)state;
	static const char text[] = EVENT("1");
	for (int trusted = 0; trusted < 2; trusted++) {
		node_open(16, 1 << 20);
		if (trusted)
			node.path.peer.addr = tp_addr_v4((const uint8_t[]){10, 1, 2, 3});
		input(text, sizeof text - 1);
		input(batch, batch_make(batch, 1, 2, "."));
		for (int i = 0; i < 2; i++) {
			struct tp_slot *slot = tp_hop_take(&node.hop);
			assert_non_null(slot);
			assert_int_equal(slot->event.flags & (TP_HAS_IP | TP_IP_SENT), trusted ? 0 : TP_HAS_IP);
			if (!trusted)
				assert_memory_equal(slot->event.ip, node.path.peer.addr.byte, 16);
			tp_hop_decide(&node.hop, node.hop.taken_slots - 1, TP_ACCEPTED);
		}
		tp_hop_durable(&node.hop, node.hop.taken);
		dp_intake_poll(node.intake);
		node_close();
	}
}

/* ---- keys, windows, layouts ---- */

static const uint64_t key_7[2] = {7, 70}, key_8[2] = {8, 80};
static struct dp_source_key source_entry[2] = {{.source = 7, .key = {7, 70}}, {.source = 8, .key = {8, 80}}};
static uint32_t source_slot[16];
static struct dp_source_keys source_keys = {.count = 2, .mask = 15, .slot = source_slot, .entry = source_entry};

static const struct dp_source_keys *keys_ask(void *context, uint16_t ingest)
{
	(void)context;
	assert_int_equal(ingest, 0);
	return &source_keys;
}

static void node_keyed(void)
{
	memset(source_slot, 0, sizeof source_slot);
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t slot = dp_source_slot(source_entry[i].source, source_keys.mask);
		while (source_slot[slot])
			slot = (slot + 1) & source_keys.mask;
		source_slot[slot] = i + 1;
	}
	node.ingest.source_keys = (char *)(uintptr_t) "a file";
	node.beacon.options.source_keys = keys_ask;
}

static void test_keyed_entry_takes_signed_batches_only(void **state)
{
	(void)state;
	node_open(16, 1 << 20);
	node_keyed();
	struct tp_counters *counters = &node.counters;
	for (int tokens = 0; tokens < 2; tokens++) { /* a key is as good as a token */
		node.ingest.auth_tokens = tokens;
		uint32_t answered = node.sent_count;
		uint64_t rejected = counters->v[TP_C_DATAGRAMS_BAD_TAG], unknown = counters->v[TP_C_DATAGRAMS_UNKNOWN_SOURCE];
		uint64_t without = counters->v[TP_C_DATAGRAMS_UNAUTHORISED];
		input("{}", 2);
		input(batch, batch_make(batch, 1, 1, ".."));                                /* source 99, no tag */
		input(batch, batch_widen(batch, batch_make(batch, 1, 1, ".."), 7, NULL));   /* no tag */
		input(batch, batch_widen(batch, batch_make(batch, 1, 1, ".."), 7, key_8));  /* another's key */
		input(batch, batch_widen(batch, batch_make(batch, 1, 1, ".."), 99, key_8)); /* nobody */
		uint32_t bytes = batch_widen(batch, batch_make(batch, 1, 1, ".."), 7, key_7);
		rejected += 2;
		for (uint32_t bit = 8 * DP_BATCH_AT_NUMBER; bit < 8 * bytes;
		     bit++) { /* changed by somebody who can seal, but not sign */
			uint32_t at = bit / 8;
			if ((at >= DP_BATCH_AT_BYTES && at < DP_BATCH_AT_TAG) || at == 48 || at == 49 || at == 80 || at == 81)
				continue; /* lengths: these are no batch any more */
			batch[at] ^= (uint8_t)(1 << bit % 8);
			batch_seal(batch, bytes, NULL);
			input(batch, bytes);
			batch[at] ^= (uint8_t)(1 << bit % 8);
			rejected++;
		}
		assert_int_equal(node.sent_count, answered);
		assert_int_equal(counters->v[TP_C_DATAGRAMS_UNAUTHORISED], without + 1);
		assert_int_equal(counters->v[TP_C_DATAGRAMS_UNKNOWN_SOURCE], unknown + 2);
		assert_int_equal(counters->v[TP_C_DATAGRAMS_BAD_TAG], rejected);
		assert_int_equal(counters->v[TP_C_EVENTS_RECEIVED], 2 * (uint64_t)tokens);

		bytes = batch_widen(batch, batch_make(batch, 1, 1, "f."), 7, key_7);
		input(batch, bytes);
		assert_int_equal(shard_turn("a"), 1);
		dp_intake_poll(node.intake);
		assert_int_equal(node.sent_count, answered + 1);
		const uint8_t *body = answer_check(DP_BATCH_KIND_ACK, 7, 1, key_7, bytes);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_IN_ACCEPTED), 1);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_IN_REJECTED), 1);
	}
	node_close();
}

/* Whoever signs a batch of version 2 to a server without keys gets answers of the form that he expects, unsigned. */
static void test_tag_without_keys(void **state)
{
	(void)state;
	static const uint8_t zero[16];
	node_open(16, 1 << 20);
	uint32_t bytes = batch_widen(batch, batch_make(batch, 1, 1, "."), 7, key_7);
	input(batch, bytes);
	assert_int_equal(shard_turn("a"), 1);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 1);
	assert_int_equal(node.sent[0].count, 72);
	assert_memory_equal(node.sent[0].bytes + DP_BATCH_AT_TAG, zero, 16);
	node_close();
}

static void test_window_of_a_source(void **state)
{
	(void)state;
	node_open(256, 1 << 20);
	uint32_t bytes = 0;
	for (uint64_t i = 0; i < 64; i++)
		input(batch, bytes = batch_widen(batch, batch_make(batch, i, (uint32_t)i, "."), 5, NULL));
	assert_int_equal(node.sent_count, 0);
	input(batch, bytes = batch_widen(batch, batch_make(batch, 64, 64, "."), 5, NULL)); /* one more than it may */
	assert_int_equal(node.sent_count, 1);
	const uint8_t *body = answer_check(DP_BATCH_KIND_LATER, 5, 64, NULL, bytes);
	assert_int_equal(dp_batch_u32(body + DP_BATCH_IN_CHECKSUM), dp_batch_u32(batch + DP_BATCH_AT_CHECKSUM));
	assert_int_equal(dp_batch_u16(body + DP_BATCH_LATER_IN_WINDOW), 64);
	assert_true(dp_batch_u16(body + DP_BATCH_LATER_IN_WAIT) > 0);
	assert_int_equal(body[DP_BATCH_LATER_IN_WHY], DP_BATCH_WHY_WINDOW);
	input(batch, batch_make(batch, 1, 65, "."));                              /* another source is not held up */
	input(batch, batch_widen(batch, batch_make(batch, 1, 66, "."), 6, NULL)); /* and another */
	assert_int_equal(node.sent_count, 1);
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_WINDOW_FULL], 1);
	assert_int_equal(shard_turn("a"), 66);
	dp_intake_poll(node.intake);
	assert_int_equal(node.sent_count, 67);
	input(batch, bytes = batch_widen(batch, batch_make(batch, 64, 64, "."), 5, NULL));
	assert_int_equal(shard_turn("a"), 1);
	dp_intake_poll(node.intake);
	answer_check(DP_BATCH_KIND_ACK, 5, 64, NULL, bytes);
	node_close();
}

/* A lone batch's window, as its acknowledgement has it, after so many ns more. */
static uint16_t window_after(uint64_t *now_ns, uint64_t more_ns)
{
	dp_intake_clock(node.intake, now_ms, *now_ns += more_ns);
	uint32_t bytes = batch_widen(batch, batch_make(batch, 1, 1, "."), 5, NULL);
	input(batch, bytes);
	shard_turn("a");
	dp_intake_poll(node.intake);
	return dp_batch_u16(answer_check(DP_BATCH_KIND_ACK, 5, 1, NULL, bytes) + DP_BATCH_IN_WINDOW);
}

/* Many sources share the places that there are for batches, also for a while after the most of them have nothing to send. */
static void test_many_sources_share(void **state)
{
	(void)state;
	const uint16_t each = DP_BATCHES_MAX / 128;
	uint64_t now_ns = 1000000000;
	node_open(1024, 1 << 20);
	assert_int_equal(window_after(&now_ns, 0), 64);
	for (uint64_t source = 0; source < 128; source++)
		input(batch, batch_widen(batch, batch_make(batch, source, 1, "."), 5 + source, NULL));
	assert_int_equal(shard_turn("a"), 128);
	dp_intake_poll(node.intake);
	assert_int_equal(window_after(&now_ns, 1000000), each);
	assert_int_equal(window_after(&now_ns, 120000000), each);
	assert_int_equal(window_after(&now_ns, 120000000), 64);
	for (uint64_t source = 0; source < 128; source++)
		input(batch, batch_widen(batch, batch_make(batch, source, 1, "."), 5 + source, NULL));
	assert_int_equal(shard_turn("a"), 128);
	dp_intake_poll(node.intake);
	assert_int_equal(window_after(&now_ns, 1000000000), 64); /* a pause is no crowd */
	for (uint64_t source = 0; source < 512; source++)        /* who has many names does not take the others' window */
		input(batch, batch_widen(batch, batch_make(batch, source, 1, "."), 5 + source, NULL));
	assert_int_equal(shard_turn("a"), 512);
	dp_intake_poll(node.intake);
	assert_int_equal(window_after(&now_ns, 1000000), 16);
	node_close();
}

/* Full rings shrink what sources are told, and it grows back. Nobody is told a window of none. */
static void test_pressure_is_told(void **state)
{
	(void)state;
	char many[41];
	uint64_t now_ns = 1000000000;
	memset(many, '.', 40);
	many[40] = 0;
	node_open(16, 4096);
	uint16_t window = 64;
	for (int i = 0; i < 12; i++) {
		now_ns += 5000000;
		dp_intake_clock(node.intake, now_ms, now_ns);
		uint32_t bytes = 0;
		for (int again = 0; again < 3; again++) /* three of one moment count as one */
			input(batch, bytes = batch_widen(batch, batch_make(batch, 1, 1, many), 5, NULL));
		const uint8_t *body = answer_check(DP_BATCH_KIND_LATER, 5, 1, NULL, bytes);
		assert_int_equal(body[DP_BATCH_LATER_IN_WHY], DP_BATCH_WHY_FULL);
		window = window > 1 ? window / 2 : 1;
		assert_int_equal(dp_batch_u16(body + DP_BATCH_LATER_IN_WINDOW), window);
	}
	input(batch, batch_make(batch, 1, 1, many)); /* version 1 knows no such word */
	assert_int_equal(node.sent_count, 36);
	uint16_t last = 1;
	for (int i = 0; i < 60; i++) {
		now_ns += 5000000;
		dp_intake_clock(node.intake, now_ms, now_ns);
		uint32_t bytes = batch_widen(batch, batch_make(batch, 1, 1, "."), 5, NULL);
		input(batch, bytes);
		shard_turn("a");
		dp_intake_poll(node.intake);
		uint16_t now = dp_batch_u16(answer_check(DP_BATCH_KIND_ACK, 5, 1, NULL, bytes) + DP_BATCH_IN_WINDOW);
		assert_true(now >= last && now <= last + 3);
		last = now;
	}
	assert_int_equal(last, 64);
	node_close();
}

static void test_hello_is_told_the_layout(void **state)
{
	(void)state;
	node_open(16, 4096);
	node.beacon.options.rx = 1;
	node.beacon.options.rx_count = 2;
	node.beacon.options.shards = 3;
	memcpy(node.beacon.options.shard_core, "\x01\xff\x00", 3);
	for (int keyed = 0; keyed < 2; keyed++) {
		if (keyed)
			node_keyed();
		const uint64_t *key = keyed ? key_8 : NULL;
		uint32_t bytes = hello_make(batch, 8, key);
		input(batch, bytes);
		const uint8_t *body = answer_check(DP_BATCH_KIND_LAYOUT, 8, 77, key, bytes);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_LAYOUT_IN_SHARDS), 3);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_LAYOUT_IN_CORES), 2);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_LAYOUT_IN_CORE), 1);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_LAYOUT_IN_WINDOW), 64);
		assert_int_equal(dp_batch_u16(body + DP_BATCH_LAYOUT_IN_BYTES), 65507);
		assert_int_equal(body[DP_BATCH_LAYOUT_IN_HASH], DP_BATCH_HASH_XXH3);
		assert_memory_equal(body + DP_BATCH_LAYOUT_BODY_BYTES, "\x01\xff\x00", 3);
	}
	assert_int_equal(node.sent_count, 2);
	input(batch, hello_make(batch, 8, key_7)); /* not signed by 8 */
	input(batch, hello_make(batch, 8, NULL));
	uint32_t bytes = hello_make(batch, 8, key_8);
	batch[bytes - 1] = 1; /* its body must be zero */
	batch_seal(batch, bytes, key_8);
	input(batch, bytes);
	batch[bytes - 1] = 0;
	batch[DP_BATCH_AT_VERSION] = 1; /* version 1 has none */
	batch_seal(batch, bytes, NULL);
	input(batch, bytes);
	assert_int_equal(node.sent_count, 2);
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_BAD_TAG], 2);
	assert_int_equal(node.counters.v[TP_C_DATAGRAMS_MALFORMED], 2);
	assert_int_equal(node.counters.v[TP_C_BATCH_HELLOS], 2);
	node_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keyed_entry_takes_signed_batches_only),
		cmocka_unit_test(test_tag_without_keys),
		cmocka_unit_test(test_window_of_a_source),
		cmocka_unit_test(test_many_sources_share),
		cmocka_unit_test(test_pressure_is_told),
		cmocka_unit_test(test_hello_is_told_the_layout),
		cmocka_unit_test(test_batch_is_acknowledged_when_durable),
		cmocka_unit_test(test_same_batch_while_in_flight),
		cmocka_unit_test(test_invalid_events_are_named),
		cmocka_unit_test(test_nothing_valid_is_answered_too),
		cmocka_unit_test(test_refused_events_mean_silence),
		cmocka_unit_test(test_full_ring_takes_nothing_of_a_batch),
		cmocka_unit_test(test_full_ring_takes_nothing_of_a_text),
		cmocka_unit_test(test_tables_are_bounded),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_address_of_the_sender),
	};
	return cmocka_run_group_tests_name("datagram", tests, NULL, NULL);
}
