/*
 * docs/protocol.md, the client and the server say the same: the page's examples byte for byte, its tables of codes, and many random
 * events that the client encodes, the server decodes, and JSON must agree with, fingerprint included.
 *
 *     protocol_test docs/protocol.md
 */
#include "batch_format.h"
#include "checksum.h"
#include "encode.h"
#include "protocol_sample.h"
#include "turnpike/addr.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *page;
static const struct dp_json_limits limits = {.now_ms = 1700000000000, .max_future_ms = 60000};

static void page_read(const char *path)
{
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	page = calloc(1, 1 << 20);
	assert_true(fread(page, 1, (1 << 20) - 1, file) > 1000);
	fclose(file);
}

/* The bytes of the fenced block that begins with ```name. */
static size_t page_hex(const char *name, uint8_t *to)
{
	char fence[64];
	snprintf(fence, sizeof fence, "\n```%s\n", name);
	const char *line = strstr(page, fence);
	assert_non_null(line);
	size_t count = 0;
	for (line += strlen(fence); *line != '`'; line = strchr(line, '\n') + 1) {
		unsigned at, byte;
		int used, more;
		assert_int_equal(sscanf(line, "%x%n", &at, &used), 1);
		assert_int_equal(at, count);
		for (const char *p = line + used; *p != '\n' && sscanf(p, " %2x%n", &byte, &more) == 1; p += more)
			to[count++] = (uint8_t)byte;
	}
	return count;
}

static const struct tpc_event page_event[2] = {
	{.event_id = "123e4567-e89b-12d3-a456-426614174000",
	 .type = 1,
	 .timestamp_ms = 1640000000000,
	 .ad_id = "ad_123",
	 .campaign_id = "camp_456",
	 .advertiser_id = "adv_789",
	 .publisher_id = "pub_001",
	 .user_id = "user_hash",
	 .device_id = "device_hash",
	 .ip_address = "192.168.1.1",
	 .user_agent = "Mozilla/5.0",
	 .country = "US",
	 .region = "CA",
	 .city = "San Francisco",
	 .referer = "https://publisher.com/page",
	 .has_bid = true,
	 .bid_micros = 500000,
	 .has_position = true,
	 .click_position = 2},
	{.event_id = "i-1",
	 .type = 0,
	 .timestamp_ms = 1640000000001,
	 .ad_id = "ad_123",
	 .campaign_id = "camp_456",
	 .advertiser_id = "adv_789"},
};

static uint32_t client_batch_of(int version, uint8_t *to, const struct tpc_event *events, uint32_t count, const uint8_t *key)
{
	uint32_t at = tpc_batch_begin(version, key);
	for (uint32_t i = 0; i < count; i++) {
		struct tpc_plan plan;
		assert_int_equal(tpc_plan(&plan, &events[i]), 0);
		tpc_encode(&plan, to + at);
		at += plan.bytes;
	}
	tpc_batch_seal(to, version, at, 0x1122334455667788, 1, count, key);
	return at;
}

static uint32_t client_batch(uint8_t *to, const struct tpc_event *events, uint32_t count, const uint8_t *key)
{
	return client_batch_of(1, to, events, count, key);
}

static void seal_again(uint8_t *datagram, size_t bytes)
{
	memset(datagram + 28, 0, 4);
	uint32_t crc = tpc_crc32c(0, datagram, bytes);
	memcpy(datagram + 28, &crc, 4);
}

static void test_page_batch(void **state)
{
	(void)state;
	uint8_t shown[4096], made[4096];
	size_t bytes = page_hex("batch", shown);
	assert_int_equal(client_batch(made, page_event, 2, NULL), bytes);
	assert_memory_equal(made, shown, bytes);

	struct dp_batch batch;
	struct tp_parsed parsed;
	assert_int_equal(dp_batch_open(shown, bytes, &batch), DP_BATCH_OK);
	assert_true(batch.source == 0x1122334455667788 && batch.number == 1 && batch.events == 2 && batch.events_at == 32);
	struct dp_batch_event event = dp_batch_event(shown + 32, &limits, &parsed);
	assert_int_equal(event.reason, TP_OK);
	assert_int_equal(parsed.fixed.type, TP_CLICK);
	assert_true(parsed.fixed.timestamp_ms == 1640000000000 && parsed.fixed.bid_micros == 500000);
	assert_memory_equal(parsed.string[TP_CITY].at, "San Francisco", 13);
	assert_memory_equal(parsed.string[TP_REFERER].at, "https://publisher.com/page", 26);
	assert_int_equal(parsed.string[TP_EVENT_ID].bytes, 0);
	event = dp_batch_event(shown + 32 + event.bytes, &limits, &parsed);
	assert_int_equal(event.reason, TP_OK);
	assert_int_equal(parsed.fixed.type, TP_IMPRESSION);
	assert_memory_equal(parsed.string[TP_EVENT_ID].at, "i-1", 3);

	char count[64];
	snprintf(count, sizeof count, "textual id. %zu bytes.", bytes);
	assert_non_null(strstr(page, count));
}

static void test_page_signed(void **state)
{
	(void)state;
	uint8_t key[16], made[4096];
	for (int i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	uint32_t bytes = client_batch(made, page_event, 2, key);
	char tag[32] = "", checksum[16] = "";
	for (int i = 0; i < 8; i++)
		sprintf(tag + 3 * i, "%02x ", made[32 + i]);
	tag[23] = '`';
	for (int i = 0; i < 4; i++)
		sprintf(checksum + 3 * i, "%02x ", made[28 + i]);
	checksum[11] = '`';
	assert_non_null(strstr(page, tag));
	assert_non_null(strstr(page, checksum));

	struct dp_batch batch;
	assert_int_equal(dp_batch_open(made, bytes, &batch), DP_BATCH_OK);
	assert_int_equal(batch.events_at, 40);
	memset(made + 32, 0xee, 8); /* a server without keys ignores the tag's value */
	seal_again(made, bytes);
	assert_int_equal(dp_batch_open(made, bytes, &batch), DP_BATCH_OK);
}

static void test_page_acknowledgement(void **state)
{
	(void)state;
	uint8_t shown[4096], batch_bytes[4096], made[DP_BATCH_ACK_BYTES_MAX];
	size_t bytes = page_hex("acknowledgement", shown);
	struct dp_batch batch;
	assert_int_equal(dp_batch_open(batch_bytes, page_hex("batch", batch_bytes), &batch), DP_BATCH_OK);
	struct dp_batch_counts counts = {.accepted = 1, .rejected = 1};
	struct dp_batch_reject reject = {.index = 1, .reason = TP_FUTURE, .field = TP_FIELD_TIMESTAMP};
	assert_int_equal(dp_batch_ack(made, &batch, &counts, NULL, &reject, 1, NULL), bytes);
	assert_memory_equal(made, shown, bytes);

	struct tpc_answer answer;
	assert_int_equal(tpc_answer_read(shown, bytes, NULL, &answer), 0);
	assert_true(answer.source == batch.source && answer.ack.batch == batch.number && answer.kind == TPC_ANSWER_ACK);
	assert_int_equal(answer.batch_checksum, batch.checksum);
	assert_true(answer.ack.accepted == 1 && answer.ack.rejected == 1 && answer.ack.listed == 1);
	struct tpc_reject told = tpc_answer_reject(shown, &answer, 0);
	assert_true(told.index == 1 && told.reason == TP_FUTURE && told.field == TP_FIELD_TIMESTAMP);
	/* an acknowledgement that comes to the server is no batch */
	assert_int_equal(dp_batch_open(shown, bytes, &batch), DP_BATCH_MALFORMED);
}

/* ---- version 2 ---- */

static const uint8_t page_key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint64_t page_key64[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

/* The client's batch and hello, and the server's three answers, are the page's bytes; and each reads the other's. */
static void test_page_version_2(void **state)
{
	(void)state;
	uint8_t shown[4096], made[4096], hello[4096];
	struct dp_batch batch;
	struct tpc_answer answer;
	struct dp_batch_counts counts = {.accepted = 1, .rejected = 1};
	struct dp_batch_reject reject = {.index = 1, .reason = TP_FUTURE, .field = TP_FIELD_TIMESTAMP};
	size_t bytes = page_hex("batch-2", shown);
	assert_int_equal(client_batch_of(2, made, page_event, 2, page_key), bytes);
	assert_memory_equal(made, shown, bytes);
	assert_int_equal(dp_batch_open(shown, bytes, &batch), DP_BATCH_OK);
	assert_true(batch.tagged && batch.version == 2 && batch.events_at == 48 && batch.kind == DP_BATCH_KIND_EVENTS);

	bytes = page_hex("acknowledgement-2", shown);
	struct dp_batch_told told = {.window = 1024, .core = 0};
	assert_int_equal(dp_batch_ack(made, &batch, &counts, &told, &reject, 1, page_key64), bytes);
	assert_memory_equal(made, shown, bytes);
	assert_int_equal(tpc_answer_read(shown, bytes, page_key, &answer), 0);
	assert_true(answer.kind == TPC_ANSWER_ACK && answer.window == 1024 && answer.batch_checksum == batch.checksum);
	struct tpc_reject named = tpc_answer_reject(shown, &answer, 0);
	assert_true(named.index == 1 && named.reason == TP_FUTURE && named.field == TP_FIELD_TIMESTAMP);

	bytes = page_hex("later-2", shown);
	told.window = 512;
	assert_int_equal(dp_batch_later(made, &batch, &told, 20, DP_BATCH_WHY_FULL, page_key64), bytes);
	assert_memory_equal(made, shown, bytes);
	assert_int_equal(tpc_answer_read(shown, bytes, page_key, &answer), 0);
	assert_true(answer.kind == TPC_ANSWER_LATER && answer.window == 512 && answer.wait_ms == 20 &&
		    answer.batch_checksum == batch.checksum);

	bytes = page_hex("hello-2", hello);
	assert_int_equal(tpc_hello_make(made, 0x1122334455667788, 0x0102030405060708, page_key), bytes);
	assert_memory_equal(made, hello, bytes);
	assert_int_equal(dp_batch_open(hello, bytes, &batch), DP_BATCH_OK);
	assert_int_equal(batch.kind, DP_BATCH_KIND_HELLO);
	bytes = page_hex("layout-2", shown);
	told = (struct dp_batch_told){.window = 1024, .core = 1};
	struct dp_batch_layout layout = {.shards = 2, .cores = 2, .datagram_bytes = 65507, .shard_core = (const uint8_t[]){0, 1}};
	assert_int_equal(dp_batch_layout(made, &batch, &told, &layout, page_key64), bytes);
	assert_memory_equal(made, shown, bytes);
	assert_int_equal(tpc_answer_read(shown, bytes, page_key, &answer), 0);
	assert_true(answer.kind == TPC_ANSWER_LAYOUT && answer.shards == 2 && answer.cores == 2 && answer.core == 1 &&
		    answer.hash_known);
	assert_true(answer.datagram_bytes == 65507 && answer.shard_core[0] == 0 && answer.shard_core[1] == 1);

	char row[64];
	snprintf(row, sizeof row, "of `a` `0x%016llx`", (unsigned long long)tpc_xxh3("a", 1));
	assert_non_null(strstr(page, row));
	snprintf(row, sizeof row, "`0x%016llx`", (unsigned long long)tpc_xxh3("123e4567-e89b-12d3-a456-426614174000", 36));
	assert_non_null(strstr(page, row));
}

/* No changed answer is taken by a client with the key, whatever its checksum says; nor is one without a tag, nor another's. */
static void test_answers_are_signed(void **state)
{
	(void)state;
	static const char *const blocks[] = {"acknowledgement-2", "later-2", "layout-2"};
	uint8_t shown[4096], other[16];
	struct tpc_answer answer;
	memcpy(other, page_key, 16);
	other[15] ^= 0x80;
	for (int block = 0; block < 3; block++) {
		size_t bytes = page_hex(blocks[block], shown);
		assert_int_equal(tpc_answer_read(shown, bytes, page_key, &answer), 0);
		assert_int_equal(tpc_answer_read(shown, bytes, other, &answer), -EINVAL);
		assert_int_equal(tpc_answer_read(shown, bytes, NULL, &answer), -EINVAL);
		for (size_t bit = 0; bit < 8 * bytes; bit++) {
			if (bit / 8 == 4)
				continue; /* another version */
			shown[bit / 8] ^= (uint8_t)(1 << bit % 8);
			seal_again(shown, bytes);
			bool checksum = bit / 8 >= 28 && bit / 8 < 32; /* repaired by the sealing */
			assert_int_equal(tpc_answer_read(shown, bytes, page_key, &answer), checksum ? 0 : -EINVAL);
			shown[bit / 8] ^= (uint8_t)(1 << bit % 8);
			seal_again(shown, bytes);
		}
		for (size_t shorter = 0; shorter < bytes; shorter++)
			assert_int_equal(tpc_answer_read(shown, shorter, page_key, &answer), -EINVAL);
	}
}

static void test_page_codes(void **state)
{
	(void)state;
	char row[128];
	for (int reason = TP_MALFORMED; reason < TP_REJECTS; reason++) {
		snprintf(row, sizeof row, "\n| %d | `%s` |", reason, tp_reject_name((enum tp_reject)reason));
		assert_non_null(strstr(page, row));
	}
	for (int field = TP_FIELD_EVENT_ID; field < TP_FIELDS; field++) {
		const char *name = tp_field_name((enum tp_field)field);
		const char *dot = strrchr(name, '.');
		snprintf(row, sizeof row, "\n| %d | `%s` |", field, dot ? dot + 1 : name);
		assert_non_null(strstr(page, row));
	}
}

static void test_page_checksums(void **state)
{
	(void)state;
	uint8_t zeros[32] = {0}, ones[32], count[32];
	memset(ones, 0xff, 32);
	for (int i = 0; i < 32; i++)
		count[i] = (uint8_t)i;
	const struct {
		const void *bytes;
		size_t count;
		const char *row;
	} vectors[] = {
		{"", 0, "| nothing | `0x%08x` |"}, {"123456789", 9, "`123456789` | `0x%08x` |"},
		{zeros, 32, "`00` | `0x%08x` |"},  {ones, 32, "`ff` | `0x%08x` |"},
		{count, 32, "1f` | `0x%08x` |"},
	};
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		char row[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(row, sizeof row, vectors[i].row, dp_crc32c(0, vectors[i].bytes, vectors[i].count));
#pragma GCC diagnostic pop
		assert_non_null(strstr(page, row));
	}
	uint8_t long_one[4096];
	for (size_t i = 0; i < sizeof long_one; i++)
		long_one[i] = (uint8_t)sample_draw(256);
	for (size_t n = 0; n <= sizeof long_one; n += n < 2000 ? 1 : 61) { /* and so do the fast way and the plain one */
		assert_int_equal(dp_crc32c((uint32_t)n, long_one, n), dp_crc32c_plain((uint32_t)n, long_one, n));
		assert_int_equal(dp_crc32c(0, long_one, n), tpc_crc32c(0, long_one, n));
	}
	for (uint32_t n = 0; n < 32; n++) /* every length and a split: the two implementations agree */
		assert_int_equal(dp_crc32c(dp_crc32c(0, count, n), count + n, 32 - n), tpc_crc32c(0, count, 32));
}

/* ---- random events ---- */

static void parsed_equal(const struct tp_parsed *a, const struct tp_parsed *b)
{
	uint64_t record_a[TP_EVENT_BYTES_MAX / 8], record_b[TP_EVENT_BYTES_MAX / 8];
	assert_int_equal(tp_event_encoded_bytes(a), tp_event_encoded_bytes(b));
	tp_event_encode(a, (struct tp_event *)record_a);
	tp_event_encode(b, (struct tp_event *)record_b);
	assert_memory_equal(record_a, record_b, tp_event_encoded_bytes(a));
}

/* The client's bytes, decoded by the server, are the record that the same event makes as JSON: every field and the fingerprint. */
static void test_client_server_and_json_agree(void **state)
{
	(void)state;
	struct dp_json_scratch *scratch = dp_json_scratch_new();
	struct sample *s = malloc(sizeof *s);
	sample_seed(20260101);
	uint32_t aimed = 0;
	for (int round = 0; round < 20000; round++) {
		sample_make(s);
		uint8_t bytes[8192];
		uint32_t count = client_batch(bytes, &s->event, 1, NULL);
		uint8_t *exact = malloc(count); /* so that the sanitizer sees a read past the end */
		memcpy(exact, bytes, count);
		struct dp_batch batch;
		assert_int_equal(dp_batch_open(exact, count, &batch), DP_BATCH_OK);
		struct tp_parsed binary, json;
		struct dp_batch_event event = dp_batch_event(exact + batch.events_at, &limits, &binary);
		assert_int_equal(event.reason, TP_OK);
		assert_int_equal(event.bytes + batch.events_at, count);
		struct tp_parsed packed = binary; /* as an rx core goes on */
		tp_event_finish(&binary);
		tp_event_finish_with(dp_json_scratch_finish(scratch), &packed);
		parsed_equal(&binary, &packed);
		assert_true(!s->event.ip_address == !(binary.fixed.flags & TP_IP_SENT));

		struct dp_json_result result = dp_json_event(scratch, s->json, strlen(s->json), &limits, &json);
		if (result.reason != TP_OK)
			fail_msg("JSON refused, %s of %s: %s", tp_reject_name(result.reason), tp_field_name(result.field), s->json);
		struct tpc_plan plan;
		uint64_t hash;
		assert_int_equal(tpc_plan(&plan, &s->event), 0);
		bool decided = tpc_shard_hash(&plan, &hash);
		assert_int_equal(decided,
				 binary.string[TP_DEVICE_ID].bytes || binary.string[TP_USER_ID].bytes || s->event.ip_address);
		assert_true(!decided || hash == binary.fixed.shard_hash); /* what the server spreads by is what the page says */
		aimed += decided;
		if (binary.fixed.fingerprint != json.fixed.fingerprint)
			fail_msg("another fingerprint: %s", s->json);
		parsed_equal(&binary, &json);
		free(exact);
	}
	assert_true(aimed > 10000);
	free(s);
	dp_json_scratch_free(scratch);
}

/* No single flipped bit passes. */
static void test_damage_is_found(void **state)
{
	(void)state;
	uint8_t bytes[4096];
	uint32_t count = client_batch(bytes, page_event, 2, NULL);
	struct dp_batch batch;
	for (uint32_t bit = 0; bit < 8 * count; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(dp_batch_open(bytes, count, &batch), DP_BATCH_OK);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (uint32_t shorter = 0; shorter < count; shorter++)
		assert_int_not_equal(dp_batch_open(bytes, shorter, &batch), DP_BATCH_OK);
	bytes[4] = 3;
	seal_again(bytes, count);
	assert_int_equal(dp_batch_open(bytes, count, &batch), DP_BATCH_BAD_VERSION);
	bytes[4] = 1;
	bytes[40] ^= 1;
	assert_int_equal(dp_batch_open(bytes, count, &batch), DP_BATCH_BAD_CHECKSUM);
}

/* A datagram that is whole but breaks a rule of its header or of the chain of lengths. */
static void test_header_rules(void **state)
{
	(void)state;
	static const struct {
		uint16_t at;
		uint8_t value;
	} bad[] = {
		{0, '{'}, {1, 't'}, {5, 2},  {5, 0},  {6, 2},   {7, 1},  {24, 0xf3}, {25, 1},
		{26, 0},  {26, 1},  {26, 3}, {27, 1}, {32, 27}, {33, 1}, {192, 51},  {192, 53},
	};
	uint8_t bytes[4096];
	struct dp_batch batch;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		uint32_t count = client_batch(bytes, page_event, 2, NULL);
		bytes[bad[i].at] = bad[i].value;
		seal_again(bytes, count);
		assert_int_equal(dp_batch_open(bytes, count, &batch), DP_BATCH_MALFORMED);
	}
}

/* One event broken at a time; the datagram around it stays whole. Offsets are into the page's first event, at 32. */
static void test_event_rules(void **state)
{
	(void)state;
	static const struct {
		uint16_t at;
		uint16_t value; /* one byte, or two where above 255 */
		enum tp_reject reason;
		enum tp_field field;
	} bad[] = {
		{2, 3, TP_BAD_VALUE, TP_FIELD_EVENT_TYPE},
		{3, 7, TP_BAD_VALUE, TP_FIELD_DEVICE_TYPE},
		{4, 0x37, TP_MALFORMED, TP_FIELD_NONE}, /* both addresses */
		{5, 0x02, TP_MALFORMED, TP_FIELD_NONE}, /* unknown flag */
		{4, 0x34, TP_MALFORMED, TP_FIELD_NONE}, /* parts do not fill it */
		{6, 12, TP_MALFORMED, TP_FIELD_NONE},
		{13, 2, TP_FUTURE, TP_FIELD_TIMESTAMP},
		{15, 0xff, TP_FUTURE, TP_FIELD_TIMESTAMP},
		{27, 1, TP_MALFORMED, TP_FIELD_NONE},
		{37, 0xff, TP_BAD_VALUE, TP_FIELD_BID_PRICE},
		{40, '1', TP_BAD_VALUE, TP_FIELD_COUNTRY},
		{41, 0, TP_BAD_VALUE, TP_FIELD_COUNTRY},
		{60, 0, TP_BAD_VALUE, TP_FIELD_AD_ID},
		{60, 0xff, TP_BAD_UTF8, TP_FIELD_AD_ID},
		{65, 0xc3, TP_BAD_UTF8, TP_FIELD_AD_ID}, /* a sequence that goes on in the next string */
		{159, 0x80, TP_BAD_UTF8, TP_FIELD_REFERER},
	};
	uint8_t bytes[4096];
	struct tp_parsed parsed;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		client_batch(bytes, page_event, 2, NULL);
		bytes[32 + bad[i].at] = (uint8_t)bad[i].value;
		struct dp_batch_event event = dp_batch_event(bytes + 32, &limits, &parsed);
		if (event.reason != bad[i].reason || event.field != bad[i].field)
			fail_msg("row %zu: %s of %s", i, tp_reject_name(event.reason), tp_field_name(event.field));
		assert_int_equal(event.bytes, 160);
	}

	/* lengths moved from one string to another: the sum stays right */
	static const struct {
		uint8_t from, to, bytes;
		enum tp_reject reason;
		enum tp_field field;
	} moved[] = {
		{19, 20, 6, TP_MISSING_FIELD, TP_FIELD_AD_ID},
		{21, 22, 7, TP_MISSING_FIELD, TP_FIELD_ADVERTISER_ID},
		{16, 24, 26, TP_OK, TP_FIELD_NONE},
	};
	for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
		client_batch(bytes, page_event, 2, NULL);
		bytes[32 + moved[i].from] = (uint8_t)(bytes[32 + moved[i].from] - moved[i].bytes);
		bytes[32 + moved[i].to] = (uint8_t)(bytes[32 + moved[i].to] + moved[i].bytes);
		struct dp_batch_event event = dp_batch_event(bytes + 32, &limits, &parsed);
		assert_int_equal(event.reason, moved[i].reason);
		assert_int_equal(event.field, moved[i].field);
	}

	/* too long, for each string by its own limit */
	static const struct {
		uint8_t at;
		uint16_t bytes;
		enum tp_field field;
	} length[] = {
		{18, 65, TP_FIELD_EVENT_ID},  {19, 65, TP_FIELD_AD_ID}, {22, 65, TP_FIELD_PUBLISHER_ID},
		{25, 65, TP_FIELD_REGION},    {26, 129, TP_FIELD_CITY}, {6, 1025, TP_FIELD_USER_AGENT},
		{16, 1025, TP_FIELD_REFERER},
	};
	for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
		for (uint32_t over = 0; over < 2; over++) {
			uint16_t bytes16 = (uint16_t)(length[i].bytes - 1 + over);
			memset(bytes, 0, sizeof bytes);
			memset(bytes + 28, 'x', sizeof bytes - 28);
			bytes[18] = bytes[19] = bytes[20] = bytes[21] = 1;
			uint32_t sum = 28 + 4 + bytes16;
			if (length[i].at >= 18) {
				sum -= bytes[length[i].at];
				bytes[length[i].at] = (uint8_t)bytes16;
			} else {
				memcpy(bytes + length[i].at, &bytes16, 2);
			}
			memcpy(bytes, &sum, 2);
			struct dp_batch_event event = dp_batch_event(bytes, &limits, &parsed);
			assert_int_equal(event.reason, over ? TP_TOO_LONG : TP_OK);
			assert_int_equal(event.field, over ? length[i].field : TP_FIELD_NONE);
		}
	}
}

/* Strings are valid here exactly when they are in JSON: short runs of the bytes around which UTF-8 decides. */
static void test_text_rules_are_those_of_json(void **state)
{
	(void)state;
	static const uint8_t edge[] = {'a',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf,
				       0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
	enum { EDGES = sizeof edge, CITY_AT = 32 + 110, CITY_BYTES = 13 };
	struct dp_json_scratch *scratch = dp_json_scratch_new();
	uint8_t bytes[4096];
	client_batch(bytes, page_event, 2, NULL);
	assert_memory_equal(bytes + CITY_AT, "San Francisco", CITY_BYTES);
	uint32_t good = 0;
	for (uint32_t combination = 0; combination < EDGES * EDGES * EDGES * EDGES; combination++) {
		uint32_t rest = combination;
		for (int i = 0; i < 4; i++, rest /= EDGES)
			bytes[CITY_AT + CITY_BYTES - 4 + i] = edge[rest % EDGES];
		char json[512];
		int count = snprintf(
			json, sizeof json,
			"{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\",\"campaign_id\":\"c\","
			"\"advertiser_id\":\"v\",\"geo\":{\"city\":\"%.*s\"}}",
			CITY_BYTES, (const char *)bytes + CITY_AT);
		struct tp_parsed parsed;
		struct dp_batch_event event = dp_batch_event(bytes + 32, &limits, &parsed);
		struct dp_json_result result = dp_json_event(scratch, json, (size_t)count, &limits, &parsed);
		assert_int_equal(event.reason, result.reason);
		assert_int_equal(event.field, result.reason == TP_OK ? TP_FIELD_NONE : TP_FIELD_CITY);
		good += event.reason == TP_OK;
	}
	assert_true(good > 100);
	dp_json_scratch_free(scratch);
}

/* A trace without a trace id or span id is left out, and the event counts. */
static void test_bad_trace(void **state)
{
	(void)state;
	struct tpc_event event = page_event[1];
	event.trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	uint8_t bytes[4096];
	struct tp_parsed parsed;
	client_batch(bytes, &event, 1, NULL);
	uint8_t *trace = bytes + 32 + 28;
	assert_int_equal(dp_batch_event(bytes + 32, &limits, &parsed).bad_trace, false);
	assert_true(parsed.fixed.flags & TP_HAS_TRACE);
	assert_memory_equal(parsed.fixed.trace_id, trace, 16);
	assert_memory_equal(parsed.fixed.span_id, trace + 16, 8);
	assert_int_equal(parsed.fixed.trace_flags, 1);
	for (int part = 0; part < 2; part++) {
		client_batch(bytes, &event, 1, NULL);
		memset(trace + (part ? 16 : 0), 0, part ? 8 : 16);
		struct dp_batch_event got = dp_batch_event(bytes + 32, &limits, &parsed);
		assert_true(got.reason == TP_OK && got.bad_trace);
		assert_false(parsed.fixed.flags & TP_HAS_TRACE);
	}
}

static void test_future_limit_is_inclusive(void **state)
{
	(void)state;
	uint8_t bytes[4096];
	struct tp_parsed parsed;
	for (uint64_t over = 0; over < 2; over++) {
		client_batch(bytes, page_event, 2, NULL);
		uint64_t stamp = limits.now_ms + limits.max_future_ms + over;
		memcpy(bytes + 32 + 8, &stamp, 8);
		assert_int_equal(dp_batch_event(bytes + 32, &limits, &parsed).reason, over ? TP_FUTURE : TP_OK);
	}
}

/* The vectors that look for what is not plain leave no byte out, wherever the text ends. */
static void test_no_byte_is_overlooked(void **state)
{
	(void)state;
	char referer[151];
	for (size_t length = 1; length < sizeof referer; length++) {
		memset(referer, 'x', length);
		referer[length] = 0;
		struct tpc_event sent = {.event_id = "e",
					 .timestamp_ms = 1,
					 .ad_id = "a",
					 .campaign_id = "c",
					 .advertiser_id = "v",
					 .referer = referer};
		uint8_t bytes[512];
		struct tpc_plan plan;
		struct tp_parsed parsed;
		assert_int_equal(tpc_plan(&plan, &sent), 0);
		tpc_encode(&plan, bytes);
		assert_int_equal(dp_batch_event(bytes, &limits, &parsed).reason, TP_OK);
		for (uint32_t at = plan.bytes - (uint32_t)length; at < plan.bytes; at++) {
			static const uint8_t wrong[] = {0, 0x80, 0xff};
			for (size_t w = 0; w < sizeof wrong; w++) {
				bytes[at] = wrong[w];
				struct dp_batch_event event = dp_batch_event(bytes, &limits, &parsed);
				assert_int_equal(event.reason, wrong[w] ? TP_BAD_UTF8 : TP_BAD_VALUE);
				assert_int_equal(event.field, TP_FIELD_REFERER);
			}
			bytes[at] = 'x';
		}
	}
}

/* An id may be a UUID as text, too: the same event as with its sixteen bytes. And the zero one is text, as in JSON. */
static void test_uuid_as_text(void **state)
{
	(void)state;
	static const char *const id[] = {"123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000"};
	struct dp_json_scratch *scratch = dp_json_scratch_new();
	for (int i = 0; i < 2; i++) {
		struct tpc_event sent = {.event_id = id[i],
					 .timestamp_ms = 1,
					 .ad_id = "ad",
					 .campaign_id = "campaign",
					 .advertiser_id = "adv",
					 .device_id = "device",
					 .referer = "https://example.org/"};
		uint8_t raw[512], text[512];
		struct tpc_plan plan;
		assert_int_equal(tpc_plan(&plan, &sent), 0);
		tpc_encode(&plan, raw);
		uint16_t bytes = (uint16_t)plan.bytes;
		uint32_t id_at = DP_BATCH_EVENT_FIXED_BYTES;
		memcpy(text, raw, bytes);
		if (raw[DP_BATCH_EVENT_AT_LENGTHS] == 0) {
			memcpy(text + id_at, id[i], 36);
			memcpy(text + id_at + 36, raw + id_at + 16, bytes - id_at - 16);
			text[DP_BATCH_EVENT_AT_LENGTHS] = 36;
			bytes += 20;
			memcpy(text, &bytes, 2);
		} else { /* the client sends the zero one as text */
			memset(raw + id_at, 0, 16);
			memmove(raw + id_at + 16, raw + id_at + 36, bytes - id_at - 36);
			raw[DP_BATCH_EVENT_AT_LENGTHS] = 0;
			bytes -= 20;
			memcpy(raw, &bytes, 2);
		}
		struct tp_parsed from_raw, from_text, packed;
		assert_int_equal(dp_batch_event(raw, &limits, &from_raw).reason, TP_OK);
		assert_int_equal(dp_batch_event(text, &limits, &from_text).reason, TP_OK);
		assert_int_equal(from_text.string[TP_EVENT_ID].bytes, i == 0 ? 0 : 36);
		packed = from_text;
		tp_event_finish(&from_raw);
		tp_event_finish_with(dp_json_scratch_finish(scratch), &packed);
		parsed_equal(&from_raw, &packed);
		packed = from_text;
		tp_event_finish(&packed);
		parsed_equal(&from_raw, &packed);
	}
	dp_json_scratch_free(scratch);
}

static void test_answer_is_never_larger(void **state)
{
	(void)state;
	static const struct {
		uint8_t version;
		bool tagged;
		uint32_t plain;
	} form[] = {{1, false, 48}, {1, true, 48}, {2, false, 56}, {2, true, 72}};
	for (size_t f = 0; f < sizeof form / sizeof *form; f++) {
		for (uint32_t bytes = DP_BATCH_BYTES_MIN + (form[f].tagged ? 16 : 0); bytes < 1000; bytes++) {
			struct dp_batch batch = {
				.version = form[f].version, .tagged = form[f].tagged, .bytes = (uint16_t)bytes, .events = 1};
			uint32_t room = dp_batch_ack_room(&batch);
			assert_true(form[f].plain + 4 * room <= bytes);
			assert_true(room == DP_BATCH_REJECTS_LISTED || form[f].plain + 4 * (room + 1) > bytes);
		}
	}
}

/* Whole datagrams with nonsense inside: every string of what passes lies within the datagram and within its limits. */
static void test_nonsense_inside(void **state)
{
	(void)state;
	struct dp_json_scratch *scratch = dp_json_scratch_new();
	sample_seed(7);
	uint32_t good = 0, refused = 0;
	for (int round = 0; round < 50000; round++) {
		uint8_t bytes[4096];
		uint32_t count = client_batch(bytes, page_event, 2, NULL);
		for (uint32_t i = 1 + sample_draw(3); i > 0; i--)
			bytes[32 + sample_draw(sample_draw(2) ? 28 : count - 32)] =
				(uint8_t)(sample_draw(2) ? sample_draw(256) : sample_draw(8));
		seal_again(bytes, count);
		struct dp_batch batch;
		if (dp_batch_open(bytes, count, &batch) != DP_BATCH_OK)
			continue;
		const uint8_t *at = bytes + batch.events_at;
		for (uint32_t i = 0; i < batch.events; i++) {
			struct tp_parsed parsed;
			struct dp_batch_event event = dp_batch_event(at, &limits, &parsed);
			if (event.reason == TP_OK) {
				good++;
				for (int s = 0; s < TP_STRINGS; s++)
					assert_true(parsed.string[s].bytes == 0 ||
						    ((const uint8_t *)parsed.string[s].at >= at &&
						     (const uint8_t *)parsed.string[s].at + parsed.string[s].bytes <=
							     at + event.bytes));
				struct tp_parsed packed = parsed;
				tp_event_finish(&parsed);
				uint64_t record[TP_EVENT_BYTES_MAX / 8];
				tp_event_encode(&parsed, (struct tp_event *)record);
				assert_true(tp_event_valid((struct tp_event *)record, sizeof record));
				tp_event_finish_with(dp_json_scratch_finish(scratch), &packed);
				parsed_equal(&parsed, &packed);
			} else {
				refused++;
			}
			at += event.bytes;
		}
		assert_ptr_equal(at, bytes + count);
	}
	assert_true(good > 10000 && refused > 10000);
	dp_json_scratch_free(scratch);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s docs/protocol.md\n", argv[0]);
		return 2;
	}
	page_read(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_batch),
		cmocka_unit_test(test_page_signed),
		cmocka_unit_test(test_page_acknowledgement),
		cmocka_unit_test(test_page_version_2),
		cmocka_unit_test(test_answers_are_signed),
		cmocka_unit_test(test_page_codes),
		cmocka_unit_test(test_page_checksums),
		cmocka_unit_test(test_client_server_and_json_agree),
		cmocka_unit_test(test_damage_is_found),
		cmocka_unit_test(test_header_rules),
		cmocka_unit_test(test_event_rules),
		cmocka_unit_test(test_text_rules_are_those_of_json),
		cmocka_unit_test(test_bad_trace),
		cmocka_unit_test(test_future_limit_is_inclusive),
		cmocka_unit_test(test_no_byte_is_overlooked),
		cmocka_unit_test(test_uuid_as_text),
		cmocka_unit_test(test_answer_is_never_larger),
		cmocka_unit_test(test_nonsense_inside),
	};
	int failed = cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
	free(page);
	return failed;
}
