/* The record, its fingerprint, its shard and its names. */
#include "turnpike/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static _Alignas(8) char record[TP_EVENT_BYTES_MAX + 8];
static struct tp_event *const event = (struct tp_event *)(void *)record;

static struct tp_str str(const char *text)
{
	return (struct tp_str){.at = text, .bytes = (uint16_t)strlen(text)};
}

static struct tp_parsed sample(void)
{
	struct tp_parsed parsed = {
		.fixed = {.type = TP_CLICK,
			  .flags = TP_HAS_BID | TP_HAS_IP | TP_IP_SENT | TP_HAS_POSITION | TP_HAS_TIMEZONE | TP_HAS_MOUSE |
				   TP_HAS_TRACE,
			  .id = {3, 4},
			  .timestamp_ms = 1795303530000,
			  .received_ms = 1795303530123,
			  .bid_micros = 2500000,
			  .ip = {[10] = 0xff, 0xff, 203, 0, 113, 9},
			  .country = {'D', 'E'},
			  .currency = {'E', 'U', 'R'},
			  .trace_flags = 1,
			  .click_position = 3,
			  .timezone_offset_min = -60,
			  .mouse_moves = 17,
			  .trace_id = {1, 2, 3},
			  .span_id = {4, 5, 6}},
		.string = {[TP_AD_ID] = str("ad_1"),
			   [TP_CAMPAIGN_ID] = str("camp_2"),
			   [TP_ADVERTISER_ID] = str("adv_3"),
			   [TP_PUBLISHER_ID] = str("pub_4"),
			   [TP_USER_ID] = str("user_5"),
			   [TP_DEVICE_ID] = str("device_6"),
			   [TP_REGION] = str("BE"),
			   [TP_CITY] = str("Berlin"),
			   [TP_USER_AGENT] = str("Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) Mobile"),
			   [TP_REFERER] = str("https://example.org/page")},
	};
	return parsed;
}

static uint64_t print_of(struct tp_parsed parsed)
{
	tp_event_finish(&parsed);
	return parsed.fixed.fingerprint;
}

static void a_record_holds_what_was_parsed(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	parsed.fixed.verdict = 77; /* left-overs of a parser must not get out */
	parsed.fixed.fraud = 99;
	parsed.fixed.rule_version = 5;
	tp_event_finish(&parsed);
	memset(record, 0xaa, sizeof record);
	uint32_t bytes = tp_event_encoded_bytes(&parsed);
	tp_event_encode(&parsed, event);
	assert_int_equal(event->bytes, bytes);
	assert_int_equal(bytes % 8, 0);
	assert_int_equal((uint8_t)record[bytes], 0xaa); /* and not a byte more */
	assert_int_equal(event->verdict, TP_UNDECIDED);
	assert_int_equal(event->fraud, 0);
	assert_int_equal(event->rule_version, 0);
	assert_int_equal(event->device, TP_MOBILE);
	assert_int_equal(event->timestamp_ms, 1795303530000);
	for (int i = 0; i < TP_STRINGS; i++) {
		struct tp_str got = tp_event_string(event, (enum tp_string)i);
		assert_int_equal(got.bytes, parsed.string[i].bytes);
		if (got.bytes)
			assert_memory_equal(got.at, parsed.string[i].at, got.bytes);
	}
	assert_true(tp_event_valid(event, bytes));
	assert_true(tp_event_valid(event, bytes + 100));
	assert_false(tp_event_valid(event, bytes - 8));
}

static void the_longest_record_fits(void **state)
{
	(void)state;
	static char text[TP_TEXT_BYTES_MAX];
	memset(text, 'x', sizeof text);
	struct tp_parsed parsed = sample();
	for (int i = 0; i < TP_STRINGS; i++)
		parsed.string[i] = (struct tp_str){.at = text, .bytes = TP_ID_BYTES_MAX};
	parsed.string[TP_CITY].bytes = TP_CITY_BYTES_MAX;
	parsed.string[TP_USER_AGENT].bytes = parsed.string[TP_REFERER].bytes = TP_TEXT_BYTES_MAX;
	/* region shares the limit of ids */
	tp_event_finish(&parsed);
	assert_int_equal(tp_event_encoded_bytes(&parsed), TP_SENT_BYTES_MAX);
	tp_event_encode(&parsed, event);
	assert_true(tp_event_valid(event, TP_SENT_BYTES_MAX));
}

static void padding_is_zero_at_every_length(void **state)
{
	(void)state;
	for (uint16_t bytes = 0; bytes <= 64; bytes++) {
		struct tp_parsed parsed = sample();
		parsed.string[TP_REFERER] =
			(struct tp_str){.at = "0123456789012345678901234567890123456789012345678901234567890123", .bytes = bytes};
		tp_event_finish(&parsed);
		memset(record, 0xaa, sizeof record);
		tp_event_encode(&parsed, event);
		assert_true(tp_event_valid(event, event->bytes));
		if (record[event->bytes - 1] == 0) { /* a padding byte that is not zero is damage */
			record[event->bytes - 1] = 1;
			assert_false(tp_event_valid(event, event->bytes));
		}
	}
}

static void damage_is_seen(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	tp_event_finish(&parsed);
#define DAMAGED(change) \
	do { \
		memset(record, 0, sizeof record); \
		tp_event_encode(&parsed, event); \
		assert_true(tp_event_valid(event, sizeof record)); \
		change; \
		assert_false(tp_event_valid(event, sizeof record)); \
	} while (0)
	DAMAGED(event->bytes += 8);
	DAMAGED(event->bytes -= 8);
	DAMAGED(event->bytes += 1);
	DAMAGED(event->bytes = 0);
	DAMAGED(event->bytes = UINT32_MAX);
	DAMAGED(event->type = TP_EVENT_TYPES);
	DAMAGED(event->device = TP_DEVICE_TYPES);
	DAMAGED(event->verdict = TP_VERDICTS);
	DAMAGED((event->id = (struct tp_id){0}));
	DAMAGED(event->bid_micros = -1);
	DAMAGED(event->bid_micros = TP_BID_MICROS_MAX + 1);
	DAMAGED(event->string_bytes[TP_AD_ID] = 65);
	DAMAGED(event->string_bytes[TP_CITY] = 129);
	DAMAGED(event->string_bytes[TP_REFERER] = UINT16_MAX);
	DAMAGED(event->string_bytes[TP_REFERER] += 8);
#undef DAMAGED
	tp_event_encode(&parsed, event);
	assert_false(tp_event_valid(event, 0));
	assert_false(tp_event_valid(event, TP_EVENT_FIXED_BYTES - 1));
	assert_false(tp_event_valid(event, TP_EVENT_FIXED_BYTES));
}

/* Every single-byte change of a record's lengths and size is caught or leaves a record that can be read within its room. */
static void test_evidence(void **state)
{
	(void)state;
	static _Alignas(8) char room[TP_EVENT_BYTES_MAX];
	struct tp_event *tagged = (struct tp_event *)(void *)room;
	*tagged = (struct tp_event){.bytes = TP_EVENT_FIXED_BYTES, .type = TP_CLICK, .id = {1, 2}, .verdict = TP_ACCEPTED};
	const struct tp_evidence found[] = {{.reason = TP_FRAUD_IP_VELOCITY, .limit = 10, .seen = 11},
					    {.reason = TP_FRAUD_GEO_MISMATCH, .is_text = 1, .seen = 'D' | 'E' << 8}};
	tagged->fraud = TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_GEO_MISMATCH);
	tp_event_evidence_add(tagged, found, 2);
	assert_int_equal(tagged->bytes, TP_EVENT_FIXED_BYTES + sizeof found);
	assert_true(tp_event_valid(tagged, sizeof room));
	assert_false(tp_event_valid(tagged, tagged->bytes - 1));
	assert_memory_equal(tp_event_evidence(tagged), found, sizeof found);
	tagged->fraud = TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY); /* evidence for a reason that is not among the tags */
	assert_false(tp_event_valid(tagged, sizeof room));
	tagged->fraud = TP_FRAUD_BIT(TP_FRAUD_REASONS);
	assert_false(tp_event_valid(tagged, sizeof room));

	for (uint32_t i = 0; i < TP_FRAUD_REASONS; i++) {
		assert_non_null(tp_fraud_reason_name((enum tp_fraud_reason)i));
		for (uint32_t j = 0; j < i; j++)
			assert_string_not_equal(tp_fraud_reason_name((enum tp_fraud_reason)i),
						tp_fraud_reason_name((enum tp_fraud_reason)j));
	}
	assert_null(tp_fraud_reason_name(TP_FRAUD_REASONS));
	assert_string_equal(tp_fraud_class_name(tp_fraud_class_of(TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY))), "GIVT");
	assert_string_equal(
		tp_fraud_class_name(tp_fraud_class_of(TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_MODEL))), "SIVT");
}

static void no_damage_leads_outside(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	tp_event_finish(&parsed);
	uint32_t bytes = tp_event_encoded_bytes(&parsed);
	struct tp_event *exact = malloc(bytes);
	assert_non_null(exact);
	for (uint32_t at = 0; at < TP_EVENT_FIXED_BYTES; at++) {
		for (int bit = 0; bit < 8; bit++) {
			tp_event_encode(&parsed, exact);
			((uint8_t *)exact)[at] ^= (uint8_t)(1 << bit);
			if (!tp_event_valid(exact, bytes))
				continue;
			uint32_t sum = 0;
			for (int i = 0; i < TP_STRINGS; i++) {
				struct tp_str got = tp_event_string(exact, (enum tp_string)i);
				for (uint16_t k = 0; k < got.bytes; k++)
					sum += (uint8_t)got.at[k];
			}
			assert_true(sum > 0);
		}
	}
	free(exact);
}

static void the_fingerprint_sees_every_payload_field(void **state)
{
	(void)state;
	const uint64_t before = print_of(sample());
	assert_true(before == print_of(sample()));
#define CHANGED(change) \
	do { \
		struct tp_parsed parsed = sample(); \
		struct tp_event *fixed = &parsed.fixed; \
		struct tp_str *string = parsed.string; \
		(void)fixed, (void)string; \
		change; \
		if (print_of(parsed) == before) \
			fail_msg("%s left the fingerprint as it was", #change); \
	} while (0)
	CHANGED(fixed->type = TP_IMPRESSION);
	CHANGED(fixed->id.lo++);
	CHANGED(fixed->timestamp_ms++);
	CHANGED(fixed->bid_micros++);
	CHANGED(fixed->flags &= (uint8_t)~TP_HAS_BID);
	CHANGED(fixed->ip[15]++);
	CHANGED(fixed->flags &= (uint8_t)~TP_IP_SENT);
	CHANGED(fixed->click_position++);
	CHANGED(fixed->flags &= (uint8_t)~TP_HAS_POSITION);
	CHANGED(fixed->timezone_offset_min++);
	CHANGED(fixed->mouse_moves++);
	CHANGED(fixed->country[1] = 'K');
	CHANGED(memset(fixed->country, 0, 2));
	CHANGED(fixed->currency[0] = 'C');
	CHANGED(fixed->flags |= TP_DEVICE_SENT; fixed->device = TP_MOBILE);
	for (int i = 0; i < TP_STRINGS; i++) {
		CHANGED(string[i] = str("something else"));
		if (i != TP_EVENT_ID)
			CHANGED(string[i] = (struct tp_str){0});
	}
	/* bytes that move to the neighbour */
	CHANGED(string[TP_AD_ID] = str("ad_1c"); string[TP_CAMPAIGN_ID] = str("amp_2"));
	CHANGED(string[TP_REGION] = string[TP_CITY]; string[TP_CITY] = str("BE"));
#undef CHANGED
}

static void the_fingerprint_leaves_out_the_way_it_came(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	const uint64_t before = print_of(parsed);
	parsed.fixed.flags &= (uint8_t)~TP_HAS_TRACE;
	parsed.fixed.received_ms++;
	parsed.fixed.fraud = 3;
	parsed.fixed.verdict = TP_LATE;
	assert_true(print_of(parsed) == before);
	parsed.fixed.flags |= TP_HAS_TRACE;
	parsed.fixed.trace_id[0]++;
	parsed.fixed.trace_flags++;
	assert_true(print_of(parsed) == before);

	/* an address that came from the connection, whatever it is, or none at all */
	parsed = sample();
	parsed.fixed.flags &= (uint8_t)~TP_IP_SENT;
	const uint64_t derived = print_of(parsed);
	parsed.fixed.ip[15]++;
	assert_true(print_of(parsed) == derived);
	parsed.fixed.flags &= (uint8_t)~TP_HAS_IP;
	assert_true(print_of(parsed) == derived);

	/* a device type that was not sent */
	parsed = sample();
	parsed.fixed.device = TP_TV;
	assert_true(print_of(parsed) == before);
}

static void equal_values_have_equal_fingerprints(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	memset(parsed.fixed.currency, 0, 3);
	const uint64_t by_default = print_of(parsed);
	memcpy(parsed.fixed.currency, "USD", 3);
	assert_true(print_of(parsed) == by_default);
	memcpy(parsed.fixed.country, "de", 2);
	const uint64_t lower = print_of(parsed);
	memcpy(parsed.fixed.country, "DE", 2);
	assert_true(print_of(parsed) == lower);
	/* what stands in a field that is not there does not matter */
	parsed.fixed.flags = 0;
	const uint64_t bare = print_of(parsed);
	parsed.fixed.bid_micros = 7;
	parsed.fixed.click_position = 7;
	parsed.fixed.timezone_offset_min = 7;
	parsed.fixed.mouse_moves = 7;
	parsed.fixed.ip[3] = 7;
	parsed.fixed.trace_id[3] = 7;
	assert_true(print_of(parsed) == bare);
	tp_event_finish(&parsed);
	assert_int_equal(parsed.fixed.bid_micros, 0);
	assert_int_equal(parsed.fixed.mouse_moves, 0);
	assert_int_equal(parsed.fixed.trace_id[3], 0);
	assert_memory_equal(parsed.fixed.currency, "USD", 3);
}

static uint64_t shard_of(struct tp_parsed parsed)
{
	tp_event_finish(&parsed);
	return parsed.fixed.shard_hash;
}

static void the_shard_comes_from_the_payload_alone(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	const uint64_t by_device = shard_of(parsed);
	parsed.string[TP_USER_ID] = str("another");
	parsed.fixed.ip[15]++;
	parsed.fixed.id.lo++;
	assert_true(shard_of(parsed) == by_device);

	parsed.string[TP_DEVICE_ID].bytes = 0;
	const uint64_t by_user = shard_of(parsed);
	assert_true(by_user != by_device);
	parsed.fixed.ip[15]++;
	assert_true(shard_of(parsed) == by_user);

	parsed.string[TP_USER_ID].bytes = 0;
	const uint64_t by_address = shard_of(parsed);
	parsed.fixed.id.lo++;
	assert_true(shard_of(parsed) == by_address);
	parsed.fixed.ip[15]++;
	assert_true(shard_of(parsed) != by_address);

	/* an address of the connection is not the payload's: the same copy by another way goes to the same shard */
	parsed.fixed.flags &= (uint8_t)~TP_IP_SENT;
	const uint64_t by_id = shard_of(parsed);
	parsed.fixed.ip[15]++;
	assert_true(shard_of(parsed) == by_id);
	parsed.fixed.flags &= (uint8_t)~TP_HAS_IP;
	assert_true(shard_of(parsed) == by_id);
	parsed.fixed.id.lo++;
	assert_true(shard_of(parsed) != by_id);
}

static void a_sent_device_type_stands(void **state)
{
	(void)state;
	struct tp_parsed parsed = sample();
	parsed.fixed.flags |= TP_DEVICE_SENT;
	parsed.fixed.device = TP_TV;
	tp_event_finish(&parsed);
	assert_int_equal(parsed.fixed.device, TP_TV);
}

static void names_are_those_of_the_api(void **state)
{
	(void)state;
	assert_string_equal(tp_reject_name(TP_DUPLICATE_KEY), "duplicate_key");
	assert_string_equal(tp_reject_name(TP_TOO_LARGE), "too_large");
	assert_string_equal(tp_field_name(TP_FIELD_EVENT_ID), "event_id");
	assert_string_equal(tp_device_name(TP_TV), "tv");
	assert_string_equal(tp_event_type_name(TP_CONVERSION), "conversion");
	assert_string_equal(tp_verdict_name(TP_LATE), "late");
	assert_string_equal(tp_reject_detail(TP_MISSING_FIELD, TP_FIELD_CAMPAIGN_ID),
			    "campaign_id: a string of 1 to 64 bytes is required");
	for (int reason = 0; reason < TP_REJECTS; reason++) {
		assert_non_null(tp_reject_name((enum tp_reject)reason));
		for (int field = 0; field < TP_FIELDS; field++) {
			const char *name = tp_field_name((enum tp_field)field);
			const char *detail = tp_reject_detail((enum tp_reject)reason, (enum tp_field)field);
			assert_non_null(name);
			assert_non_null(detail);
			if (reason != TP_OK)
				assert_memory_equal(detail, name, strlen(name)); /* it begins with the field that was wrong */
		}
	}
	for (int i = 0; i < TP_VERDICTS; i++)
		assert_non_null(tp_verdict_name((enum tp_verdict)i));
	for (int i = 0; i < TP_DEVICE_TYPES; i++)
		assert_non_null(tp_device_name((enum tp_device_type)i));
	assert_string_equal(tp_verdict_name((enum tp_verdict)200), "unknown");
	assert_string_equal(tp_reject_detail((enum tp_reject)200, TP_FIELD_NONE), "unknown");
	assert_string_equal(tp_reject_detail(TP_BAD_VALUE, (enum tp_field)200), "unknown");
}

/* Logs hold fingerprints: another version that makes others would take a retry over an upgrade for a conflict. */
static void fingerprints_of_older_versions_hold(void **state)
{
	(void)state;
	char text[TP_TEXT_BYTES_MAX];
	for (int i = 0; i < TP_TEXT_BYTES_MAX; i++)
		text[i] = (char)(i * 31 + 7);
	uint64_t fingerprints = 0, shard_hashes = 0;
	for (int n = 0; n < 64; n++) {
		struct tp_parsed parsed = {.fixed = {.id = {(uint64_t)n + 1, 0},
						     .type = (uint8_t)(n % 3),
						     .flags = (uint8_t)(n * 37),
						     .timestamp_ms = 1700000000000 + (uint64_t)n,
						     .bid_micros = n * 1000,
						     .click_position = (uint16_t)n,
						     .timezone_offset_min = -n,
						     .mouse_moves = 3 * n,
						     .country = {'d', 'E'}}};
		for (int i = 0; i < 16; i++)
			parsed.fixed.ip[i] = (uint8_t)(n + i);
		for (int i = 1; i < TP_STRINGS; i++)
			parsed.string[i] = (struct tp_str){.at = text + n + i,
							   .bytes = (uint16_t)(n * (i + 1) % (i < TP_USER_AGENT ? 65 : 700))};
		tp_event_finish(&parsed);
		fingerprints = fingerprints * 1099511628211 ^ parsed.fixed.fingerprint;
		shard_hashes = shard_hashes * 1099511628211 ^ parsed.fixed.shard_hash;
	}
	assert_true(fingerprints == 0x9dfd796cf64aa8f3);
	assert_true(shard_hashes == 0x6466a8d811b9f81d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_evidence),
		cmocka_unit_test(a_record_holds_what_was_parsed),
		cmocka_unit_test(the_longest_record_fits),
		cmocka_unit_test(padding_is_zero_at_every_length),
		cmocka_unit_test(damage_is_seen),
		cmocka_unit_test(no_damage_leads_outside),
		cmocka_unit_test(the_fingerprint_sees_every_payload_field),
		cmocka_unit_test(the_fingerprint_leaves_out_the_way_it_came),
		cmocka_unit_test(equal_values_have_equal_fingerprints),
		cmocka_unit_test(fingerprints_of_older_versions_hold),
		cmocka_unit_test(the_shard_comes_from_the_payload_alone),
		cmocka_unit_test(a_sent_device_type_stands),
		cmocka_unit_test(names_are_those_of_the_api),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
