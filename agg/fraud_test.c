/* The fraud rules: limits per clock hour of event time, too soon after the impression, full sets, and what each rule needs. */
#include "turnpike/fraud.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ENTRIES = 1 << 14, HOUR_MS = 3600000 };

#define HOUR_START (UINT64_C(500000) * HOUR_MS)

static const struct agg_fraud_rules limits = {
	.version = 1, .clicks_per_ip_hour = 10, .clicks_per_device_hour = 5, .min_ms_since_impression = 500};

static void *ip_memory, *shard_memory[2];
static struct agg_fraud_ip *ip;
static struct agg_fraud_shard *shard, *other_shard;

static void *memory_zeroed(uint64_t bytes)
{
	void *memory = aligned_alloc(64, (bytes + 63) & ~UINT64_C(63));
	assert_non_null(memory);
	memset(memory, 0, bytes);
	return memory;
}

static void tables_open(uint32_t entries)
{
	ip_memory = memory_zeroed(agg_fraud_ip_bytes(entries));
	ip = agg_fraud_ip_init(ip_memory, entries);
	for (int i = 0; i < 2; i++)
		shard_memory[i] = memory_zeroed(agg_fraud_shard_bytes(entries));
	shard = agg_fraud_shard_init(shard_memory[0], entries, ip, NULL);
	other_shard = agg_fraud_shard_init(shard_memory[1], entries, ip, NULL);
}

static void tables_close(void)
{
	free(ip_memory);
	free(shard_memory[0]);
	free(shard_memory[1]);
}

static int setup(void **state)
{
	(void)state;
	tables_open(ENTRIES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tables_close();
	return 0;
}

/* What a test says of an event; empty strings and a zero address are absent. */
struct told {
	enum tp_event_type type;
	uint64_t timestamp_ms;
	uint32_t address;
	const char *ad, *user, *device;
};

static uint32_t judge_by(struct agg_fraud_shard *by, const struct agg_fraud_rules *with, struct told told)
{
	_Alignas(8) static char record[TP_EVENT_BYTES_MAX];
	struct tp_parsed parsed = {.fixed = {.type = (uint8_t)told.type, .id = {1, 1}, .timestamp_ms = told.timestamp_ms}};
	const char *text[TP_STRINGS] = {
		[TP_EVENT_ID] = "some-event",      [TP_AD_ID] = told.ad ? told.ad : "ad", [TP_CAMPAIGN_ID] = "campaign",
		[TP_ADVERTISER_ID] = "advertiser", [TP_PUBLISHER_ID] = "publisher",       [TP_USER_ID] = told.user,
		[TP_DEVICE_ID] = told.device,      [TP_REFERER] = "https://example.org/"};
	for (int i = 0; i < TP_STRINGS; i++)
		if (text[i])
			parsed.string[i] = (struct tp_str){.at = text[i], .bytes = (uint16_t)strlen(text[i])};
	if (told.address) {
		parsed.fixed.flags = TP_HAS_IP;
		parsed.fixed.ip[10] = parsed.fixed.ip[11] = 0xff;
		memcpy(parsed.fixed.ip + 12, &told.address, 4);
	}
	tp_event_encode(&parsed, (struct tp_event *)(void *)record);
	agg_fraud_rules_set(by, with);
	struct agg_findings findings;
	return agg_fraud_judge(by, (const struct tp_event *)(const void *)record, &findings, NULL);
}

static uint32_t judge(struct told told)
{
	return judge_by(shard, &limits, told);
}

static void the_click_over_the_address_limit_is_tagged(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 30; n++)
		assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + n, .address = 7}),
				 n > 10 ? TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) : 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .address = 8}), 0);
	/* the clock hour of event time: its last millisecond is in, the next is not; the hour before counts by itself */
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + HOUR_MS - 1, .address = 7}),
			 TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + HOUR_MS, .address = 7}), 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START - 1, .address = 7}), 0);
}

static void addresses_count_over_all_shards(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 20; n++)
		assert_int_equal(judge_by(n % 2 ? shard : other_shard, &limits, (struct told){TP_CLICK, HOUR_START, .address = 7}),
				 n > 10 ? TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) : 0);
}

static void the_click_over_the_device_limit_is_tagged(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 20; n++)
		assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + n, .device = "d"}),
				 n > 5 ? TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY) : 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .device = "e"}), 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + HOUR_MS, .device = "d"}), 0);
	assert_int_equal(judge_by(other_shard, &limits, (struct told){TP_CLICK, HOUR_START, .device = "d"}), 0);
}

static void reasons_add_up(void **state)
{
	(void)state;
	uint32_t reasons = 0;
	judge((struct told){TP_IMPRESSION, HOUR_START, .device = "d"});
	for (int n = 0; n < 11; n++)
		reasons = judge((struct told){TP_CLICK, HOUR_START, .address = 7, .device = "d"});
	assert_int_equal(reasons, TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY) |
					  TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
}

static void without_address_or_device_no_rule_applies(void **state)
{
	(void)state;
	for (int n = 0; n < 100; n++)
		assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .user = "u"}), 0);
	for (int n = 0; n < 100; n++)
		assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .address = 0}), 0);
}

static void only_clicks_count_and_are_tagged(void **state)
{
	(void)state;
	for (int n = 0; n < 100; n++) {
		assert_int_equal(judge((struct told){TP_IMPRESSION, HOUR_START, .address = 7, .device = "d"}), 0);
		assert_int_equal(judge((struct told){TP_CONVERSION, HOUR_START, .address = 7, .device = "d"}), 0);
	}
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 500, .address = 7, .device = "d"}), 0);
}

static void a_click_right_after_its_impression_is_too_soon(void **state)
{
	(void)state;
	judge((struct told){TP_IMPRESSION, HOUR_START, .user = "u"});
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .user = "u"}), TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 499, .user = "u"}), TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 500, .user = "u"}), 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START - 1, .user = "u"}), 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .user = "v"}), 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .user = "u", .ad = "another"}), 0);
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .device = "u"}), 0); /* a device is no user */
	/* the latest impression is the one that matters, also when an older one comes after it */
	judge((struct told){TP_IMPRESSION, HOUR_START + 2000, .user = "u"});
	judge((struct told){TP_IMPRESSION, HOUR_START + 1000, .user = "u"});
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 2100, .user = "u"}), TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
}

static void user_or_device_links_a_click_to_its_impression(void **state)
{
	(void)state;
	judge((struct told){TP_IMPRESSION, HOUR_START, .user = "u", .device = "d"});
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .user = "u", .device = "d"}),
			 TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .user = "u"}), TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .device = "d"}), TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .user = "u", .device = "e"}),
			 TP_FRAUD_BIT(TP_FRAUD_TOO_SOON));
	assert_int_equal(judge((struct told){TP_CLICK, HOUR_START + 1, .user = "v", .device = "e"}), 0);
}

static void a_rule_that_is_off_tags_nothing(void **state)
{
	(void)state;
	const struct agg_fraud_rules off = {.version = 1};
	judge_by(shard, &off, (struct told){TP_IMPRESSION, HOUR_START, .address = 7, .user = "u", .device = "d"});
	for (int n = 0; n < 100; n++) {
		struct told told = {TP_CLICK, HOUR_START, .address = 7, .user = "u", .device = "d"};
		assert_int_equal(judge_by(shard, &off, told), 0);
	}
}

static void a_limit_of_one_tags_the_second(void **state)
{
	(void)state;
	const struct agg_fraud_rules one = {.version = 1, .clicks_per_ip_hour = 1, .clicks_per_device_hour = 1};
	struct told told = {TP_CLICK, HOUR_START, .address = 7, .device = "d"};
	assert_int_equal(judge_by(shard, &one, told), 0);
	assert_int_equal(judge_by(shard, &one, told), TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY));
}

/* Tables far too small: counts are lost, but nobody innocent is tagged, and the heavy ones are still caught. */
static void a_full_table_forgets_but_never_accuses(void **state)
{
	(void)state;
	tables_close();
	tables_open(64);
	char name[16];
	uint32_t caught = 0;
	for (int n = 0; n < 20000; n++) {
		uint64_t stamp = HOUR_START + (uint64_t)n * 700; /* over some hours */
		snprintf(name, sizeof name, "device-%d", n);
		judge((struct told){TP_IMPRESSION, stamp - 600, .device = name});
		assert_int_equal(judge((struct told){TP_CLICK, stamp, .address = 1000 + (uint32_t)n, .device = name}), 0);
		if (n % 4 == 0)
			caught += judge((struct told){TP_CLICK, stamp, .address = 7, .device = "heavy"}) ==
				  (TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY));
	}
	assert_in_range(caught, 4500, 5000);
}

static void an_old_hour_does_not_push_out_a_newer_one(void **state)
{
	(void)state;
	tables_close();
	tables_open(8); /* one set */
	char name[16];
	for (int d = 0; d < 8; d++) {
		snprintf(name, sizeof name, "%d", d);
		for (int n = 0; n < 5; n++)
			assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .address = 1 + (uint32_t)d, .device = name}), 0);
	}
	for (int n = 0; n < 20; n++)
		assert_int_equal(judge((struct told){TP_CLICK, HOUR_START - 1, .address = 99, .device = "late"}), 0);
	for (int d = 0; d < 8; d++) {
		snprintf(name, sizeof name, "%d", d);
		assert_int_equal(judge((struct told){TP_CLICK, HOUR_START, .address = 1 + (uint32_t)d, .device = name}),
				 TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_click_over_the_address_limit_is_tagged),
		TEST(addresses_count_over_all_shards),
		TEST(the_click_over_the_device_limit_is_tagged),
		TEST(reasons_add_up),
		TEST(without_address_or_device_no_rule_applies),
		TEST(only_clicks_count_and_are_tagged),
		TEST(a_click_right_after_its_impression_is_too_soon),
		TEST(user_or_device_links_a_click_to_its_impression),
		TEST(a_rule_that_is_off_tags_nothing),
		TEST(a_limit_of_one_tags_the_second),
		TEST(a_full_table_forgets_but_never_accuses),
		TEST(an_old_hour_does_not_push_out_a_newer_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
