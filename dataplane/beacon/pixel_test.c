/*
 * The pixel's query: each field, how it is spelled, what is minted; and that the event is the one that JSON would have made.
 */
#include "pixel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW_MS 1700000000123ULL
#define LEAST  "event_type=click&ad_id=1&campaign_id=2&advertiser_id=3"
#define STAMP  "&timestamp=1700000000000"

static struct dp_pixel_scratch pixel;
static struct dp_json_scratch *json;
static const struct dp_json_limits limits = {.now_ms = NOW_MS, .max_future_ms = 60000};

static int set_up(void **state)
{
	(void)state;
	json = dp_json_scratch_new();
	return dp_pixel_mint_init(&pixel.mint);
}

static int tear_down(void **state)
{
	(void)state;
	dp_json_scratch_free(json);
	return 0;
}

static struct dp_pixel_result parse_at(uint64_t now_ms, const char *query, struct tp_parsed *parsed)
{
	struct dp_json_limits then = limits;
	then.now_ms = now_ms;
	size_t bytes = strlen(query);
	char *exact = malloc(bytes + 1);
	memcpy(exact, query, bytes);
	struct dp_pixel_result result = dp_pixel_parse(&pixel, json, exact, bytes, &then, parsed);
	free(exact); /* nothing of *parsed may point into it */
	return result;
}

static struct dp_pixel_result parse(const char *query, struct tp_parsed *parsed)
{
	return parse_at(NOW_MS, query, parsed);
}

static void test_same_event_as_json(void **state)
{
	(void)state;
	static const char query[] =
		"event_id=0191d2a4-0000-7000-8000-00000000abcd&event_type=conversion" STAMP
		"&ad_id=a%20d&campaign_id=c%22%5c&advertiser_id=%C3%BC&publisher_id=p+q&user_id=u%0a&device_id=d&ip_address=2001:"
		"db8::1"
		"&user_agent=Mozilla%2F5.0&referer=https%3a//a/?b%3Dc%26d&country=de&region=BE&city=K%C3%B6ln&device_type=tv"
		"&bid_price=1.250000&currency=EUR&click_position=7&timezone_offset_min=-120&mouse_moves=0"
		"&trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	static const char text[] =
		"{\"event_id\":\"0191d2a4-0000-7000-8000-00000000abcd\",\"event_type\":\"conversion\",\"timestamp\":1700000000000,"
		"\"ad_id\":\"a d\",\"campaign_id\":\"c\\\"\\\\\",\"advertiser_id\":\"\xc3\xbc\",\"publisher_id\":\"p "
		"q\",\"user_id\":\"u\\n\","
		"\"device_id\":\"d\",\"ip_address\":\"2001:db8::1\",\"user_agent\":\"Mozilla/5.0\",\"referer\":\"https://a/"
		"?b=c&d\","
		"\"geo\":{\"country\":\"DE\",\"region\":\"BE\",\"city\":\"K\xc3\xb6ln\"},\"device_type\":\"tv\",\"bid_price\":1.25,"
		"\"currency\":\"EUR\",\"click_position\":7,\"timezone_offset_min\":-120,\"mouse_moves\":0,"
		"\"trace\":\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"}";
	static uint64_t one[TP_EVENT_BYTES_MAX / 8], other[TP_EVENT_BYTES_MAX / 8];
	struct tp_parsed parsed;
	struct dp_pixel_result result = parse(query, &parsed);
	assert_int_equal(result.reason, TP_OK);
	assert_false(result.minted || result.bad_trace);
	uint32_t bytes = tp_event_encoded_bytes(&parsed);
	tp_event_encode(&parsed, (struct tp_event *)(void *)one);
	struct dp_json_result expect = dp_json_event(json, text, sizeof(text) - 1, &limits, &parsed);
	assert_int_equal(expect.reason, TP_OK);
	assert_int_equal(tp_event_encoded_bytes(&parsed), bytes);
	tp_event_encode(&parsed, (struct tp_event *)(void *)other);
	assert_memory_equal(one, other, bytes);
}

static const struct {
	const char *query;
	enum tp_reject reason;
	enum tp_field field;
} rows[] = {
	{LEAST, TP_OK, TP_FIELD_NONE},
	{LEAST "&", TP_OK, TP_FIELD_NONE},
	{"&&" LEAST "&=&=x&x&x=&cb=123&cb=124", TP_OK, TP_FIELD_NONE}, /* unknown ones are nobody's business */
	{LEAST "&country=&region=&city=&publisher_id=&click_position=&timestamp=", TP_OK, TP_FIELD_NONE},
	{LEAST "&country=US", TP_OK, TP_FIELD_NONE},
	{LEAST "&region=x", TP_OK, TP_FIELD_NONE},
	{"", TP_MISSING_FIELD, TP_FIELD_EVENT_TYPE},
	{"event_type=click&ad_id=1&campaign_id=2", TP_MISSING_FIELD, TP_FIELD_ADVERTISER_ID},
	{"event_type=click&ad_id=&campaign_id=2&advertiser_id=3", TP_MISSING_FIELD, TP_FIELD_AD_ID},
	{LEAST "&ad_id=1", TP_DUPLICATE_KEY, TP_FIELD_AD_ID},
	{LEAST "&city=1&city=2", TP_DUPLICATE_KEY, TP_FIELD_CITY},
	{LEAST "&user_id=%", TP_MALFORMED, TP_FIELD_USER_ID},
	{LEAST "&user_id=%4", TP_MALFORMED, TP_FIELD_USER_ID},
	{LEAST "&user_id=%4g", TP_MALFORMED, TP_FIELD_USER_ID},
	{LEAST "&city=%zz", TP_MALFORMED, TP_FIELD_CITY},
	{LEAST "&user_id=%ff", TP_BAD_UTF8, TP_FIELD_USER_ID},
	{LEAST "&user_id=%00", TP_BAD_VALUE, TP_FIELD_USER_ID},
	{LEAST "&timestamp=soon", TP_BAD_TYPE, TP_FIELD_TIMESTAMP},
	{LEAST "&timestamp=-1", TP_BAD_VALUE, TP_FIELD_TIMESTAMP},
	{LEAST "&timestamp=1700000060123", TP_OK, TP_FIELD_NONE},
	{LEAST "&timestamp=1700000060124", TP_FUTURE, TP_FIELD_TIMESTAMP},
	{LEAST "&click_position=65536", TP_BAD_VALUE, TP_FIELD_CLICK_POSITION},
	{LEAST "&click_position=%36553%35&timezone_offset_min=%2D480", TP_OK, TP_FIELD_NONE},
	{LEAST "&click_position=%36553%36", TP_BAD_VALUE, TP_FIELD_CLICK_POSITION},
	{LEAST "&click_position=1%2C", TP_BAD_TYPE, TP_FIELD_CLICK_POSITION},
	{LEAST "&click_position=01", TP_BAD_TYPE, TP_FIELD_CLICK_POSITION},
	{LEAST "&bid_price=0.0000001", TP_BAD_VALUE, TP_FIELD_BID_PRICE},
	{LEAST "&country=USA", TP_BAD_VALUE, TP_FIELD_COUNTRY},
	{LEAST "&event_id=12345678901234567890123456789012345678901234567890123456789012345", TP_TOO_LONG, TP_FIELD_EVENT_ID},
	{"event_type=view&ad_id=1&campaign_id=2&advertiser_id=3", TP_BAD_VALUE, TP_FIELD_EVENT_TYPE},
};

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tp_parsed parsed;
		struct dp_pixel_result result = parse(rows[i].query, &parsed);
		if (result.reason != rows[i].reason || (result.reason != TP_OK && result.field != rows[i].field))
			fail_msg("%s: %s, %s", rows[i].query, tp_reject_name(result.reason), tp_field_name(result.field));
	}
}

static void test_minted(void **state)
{
	(void)state;
	struct tp_parsed parsed;
	struct tp_id seen[1000];
	for (int i = 0; i < 1000; i++) {
		struct dp_pixel_result result = parse(LEAST, &parsed);
		assert_int_equal(result.reason, TP_OK);
		assert_true(result.minted);
		assert_int_equal(parsed.fixed.timestamp_ms, NOW_MS);
		assert_int_equal(parsed.string[TP_EVENT_ID].bytes, 0); /* a canonical UUID … */
		const uint8_t *id = (const uint8_t *)&parsed.fixed.id;
		assert_int_equal(id[6] >> 4, 4); /* … of version 4 */
		assert_int_equal(id[8] >> 6, 2);
		seen[i] = parsed.fixed.id;
		for (int j = 0; j < i; j++)
			assert_true(seen[j].hi != seen[i].hi && seen[j].lo != seen[i].lo);
	}
	assert_true(parse(LEAST STAMP, &parsed).minted);
	assert_true(parse(LEAST "&event_id=x", &parsed).minted);
	assert_false(parse(LEAST "&event_id=x" STAMP, &parsed).minted);
	/* A retry is minted another stamp and is a copy all the same; another payload is not. */
	parse(LEAST "&event_id=x", &parsed);
	uint64_t fingerprint = parsed.fixed.fingerprint;
	parse_at(NOW_MS + 1000, LEAST "&event_id=x", &parsed);
	assert_int_equal(parsed.fixed.timestamp_ms, NOW_MS + 1000);
	assert_true(parsed.fixed.fingerprint == fingerprint);
	parse(LEAST "&event_id=x&city=y", &parsed);
	assert_true(parsed.fixed.fingerprint != fingerprint);
	assert_true(parse(LEAST "&event_id=x&trace=y" STAMP, &parsed).bad_trace);
}

/* The longest query that HTTP lets through, in the spelling that grows most. */
static void test_longest_query_has_room(void **state)
{
	(void)state;
	static const char *const units[] = {"\"", "\\", "%01", "%00", "&ad_id=1", "&city=1"};
	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
		char query[DP_HTTP_TARGET_BYTES_MAX + 1] = "user_agent=";
		while (strlen(query) + strlen(units[u]) <= DP_HTTP_TARGET_BYTES_MAX)
			strcat(query, units[u]);
		struct tp_parsed parsed;
		struct dp_pixel_result result = parse(query, &parsed);
		assert_true(result.reason != TP_OK && result.reason != TP_TOO_LARGE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_event_as_json),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_minted),
		cmocka_unit_test(test_longest_query_has_room),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
