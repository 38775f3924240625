/*
 * What the tests of the JSON parser share: a scratch, one event with all fields, and texts that live until the next parse.
 */
#ifndef TURNPIKE_JSON_TEST_H
#define TURNPIKE_JSON_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "json_parse.h"

static const char *const json_test_event =
	"{\"event_id\":\"123e4567-e89b-12d3-a456-426614174000\",\"event_type\":\"click\",\"timestamp\":1640000000000,\"ad_id\":"
	"\"ad_123\","
	"\"campaign_id\":\"camp_456\",\"advertiser_id\":\"adv_789\",\"publisher_id\":\"pub_001\",\"user_id\":\"user_hash\","
	"\"device_id\":\"device_hash\",\"ip_address\":\"192.168.1.1\",\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64) "
	"Chrome/120.0\","
	"\"geo\":{\"country\":\"US\",\"region\":\"CA\",\"city\":\"San Francisco\"},\"referer\":\"https://publisher.com/page\","
	"\"bid_price\":0.50,\"click_position\":2}";

static struct dp_json_scratch *json_test_one;
static char *json_test_kept;

static inline struct dp_json_scratch *json_test_scratch(void)
{
	if (!json_test_one)
		json_test_one = dp_json_scratch_new();
	assert_non_null(json_test_one);
	return json_test_one;
}

/* At least a byte; never NULL, and the compiler knows. */
static inline char *json_test_alloc(size_t bytes)
{
	char *text = malloc(bytes ? bytes : 1);
	if (!text)
		abort();
	return text;
}

static inline void json_test_keep(char *text)
{
	free(json_test_kept);
	json_test_kept = text;
}

static inline int json_test_end(void **state)
{
	(void)state;
	dp_json_scratch_free(json_test_one);
	free(json_test_kept);
	return 0;
}

#endif
