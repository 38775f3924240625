/*
 * Finishing with a scratch against finishing without: the same events, field by field and byte by byte, however their strings lie; and the
 * memo of user agents against reading each.
 */
#include "agent_memo.h"
#include "event_finish_all.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 20000 };

static struct tp_event_scratch *scratch;
static uint64_t random_state = 1;

static uint64_t random_next(void)
{
	/* splitmix64 */
	uint64_t z = random_state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint32_t below(uint32_t limit)
{
	return (uint32_t)((random_next() >> 32) * limit >> 32);
}

static const uint16_t bytes_max[TP_STRINGS] = {TP_ID_BYTES_MAX,   TP_ID_BYTES_MAX,   TP_ID_BYTES_MAX,  TP_ID_BYTES_MAX,
					       TP_ID_BYTES_MAX,   TP_ID_BYTES_MAX,   TP_ID_BYTES_MAX,  TP_ID_BYTES_MAX,
					       TP_CITY_BYTES_MAX, TP_TEXT_BYTES_MAX, TP_TEXT_BYTES_MAX};

static uint16_t length(int which)
{
	switch (below(4)) {
	case 0:
		return 0;
	case 1: /* around the size of a vector */
		return (uint16_t)(below(36) < bytes_max[which] ? below(36) : bytes_max[which]);
	case 2:
		return bytes_max[which];
	default:
		return (uint16_t)below(bytes_max[which] + 1u);
	}
}

/* The strings in memory of exactly their size, and of TP_SLACK_BYTES more where they may be read on, so that the sanitizer sees the rest. */
static char *text_new(uint16_t bytes, uint32_t slack)
{
	char *text = malloc(bytes + slack ? bytes + slack : 1);
	if (!text)
		abort();
	for (uint32_t i = 0; i < bytes + slack; i++)
		text[i] = (char)random_next();
	return text;
}

static struct tp_parsed event_new(enum tp_strings_lie lie, char *memory[TP_STRINGS])
{
	struct tp_parsed parsed = {.lie = (uint8_t)lie};
	for (size_t i = 0; i < sizeof parsed.fixed; i++)
		((uint8_t *)&parsed.fixed)[i] = (uint8_t)random_next();
	parsed.fixed.type = (uint8_t)below(TP_EVENT_TYPES);
	parsed.fixed.device = (uint8_t)below(TP_DEVICE_TYPES);
	if (below(2))
		parsed.fixed.currency[0] = 0;
	uint32_t sum = 0;
	for (int i = 0; i < TP_STRINGS; i++) {
		uint16_t bytes = length(i);
		memory[i] = text_new(bytes, lie == TP_STRINGS_SLACK ? TP_SLACK_BYTES : 0);
		parsed.string[i] = (struct tp_str){.at = bytes || below(2) ? memory[i] : NULL, .bytes = bytes};
		sum += bytes;
	}
	if (lie != TP_STRINGS_TOGETHER)
		return parsed;
	char *at = text_new((uint16_t)sum, 0);
	parsed.packed = at;
	parsed.packed_bytes = (uint16_t)sum;
	for (int i = 0; i < TP_STRINGS; i++) {
		parsed.fixed.string_bytes[i] = parsed.string[i].bytes;
		parsed.string[i].at = at;
		at += parsed.string[i].bytes;
	}
	return parsed;
}

static char record[2][TP_EVENT_BYTES_MAX] __attribute__((aligned(8)));

static void the_same_record(tp_event_finish_fn finish, const struct tp_parsed *parsed)
{
	struct tp_parsed with = *parsed, without = *parsed;
	without.lie = TP_STRINGS_APART;
	tp_event_finish(&without);
	finish(scratch, &with);
	assert_memory_equal(&with.fixed, &without.fixed, sizeof with.fixed);
	uint32_t bytes = tp_event_encoded_bytes(&without);
	assert_int_equal(tp_event_encoded_bytes(&with), bytes);
	memset(record, 0xaa, sizeof record);
	tp_event_encode(&without, (struct tp_event *)(void *)record[0]);
	tp_event_encode(&with, (struct tp_event *)(void *)record[1]);
	assert_memory_equal(record[0], record[1], sizeof record[0]); /* and nothing behind the record */
	uint64_t fingerprint, shard_hash;
	tp_event_hashes((const struct tp_event *)(void *)record[1], &fingerprint, &shard_hash);
	assert_true(fingerprint == with.fixed.fingerprint && shard_hash == with.fixed.shard_hash);
}

static void with_and_without_a_scratch_are_the_same(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		char *memory[TP_STRINGS];
		struct tp_parsed parsed = event_new((enum tp_strings_lie)below(TP_STRINGS_PACKED), memory);
		for (const tp_event_finish_fn *finish = tp_event_finish_all(); *finish; finish++)
			the_same_record(*finish, &parsed);
		for (int i = 0; i < TP_STRINGS; i++)
			free(memory[i]);
		free((char *)(uintptr_t)parsed.packed);
	}
}

static void agent_check(const char *text, size_t bytes)
{
	char *exact = malloc(bytes ? bytes : 1);
	if (!exact)
		abort();
	memcpy(exact, text, bytes);
	enum tp_device_type plain = tp_device_from_user_agent(exact, bytes);
	for (int again = 0; again < 2; again++) /* a miss or a hit, then a hit */
		if (agent_memo_device(&scratch->agents, exact, bytes) != plain)
			fail_msg("%.*s: not what reading it says", (int)bytes, text);
	free(exact);
}

static void a_memo_says_what_reading_says(void **state)
{
	(void)state;
	static const char *const parts[] = {"Mozilla/5.0 ",
					    "(iPhone; ",
					    "(Windows NT 10.0; ",
					    "Android 13; ",
					    "Mobile ",
					    "Safari/604.1",
					    "iPad",
					    "Googlebot/2.1",
					    "AppleWebKit/537.36 ",
					    "x",
					    "; ",
					    "SMART-TV ",
					    "curl/8",
					    "Linux ",
					    "Tablet"};
	for (uint32_t round = 0; round < 3 * ROUNDS; round++) { /* far more different ones than places */
		char text[TP_TEXT_BYTES_MAX] = "";
		for (uint32_t i = below(30); i > 0; i--)
			strcat(text, parts[below(sizeof parts / sizeof parts[0])]);
		agent_check(text, strlen(text));
	}
}

/* Where a text was put, or NULL. */
static struct tp_agent *agent_of(const char *text, size_t bytes)
{
	for (size_t i = 0; i < TP_AGENT_PLACES; i++) {
		struct tp_agent *agent = &scratch->agents.agent[i];
		if (agent->bytes == bytes && memcmp(agent->text, text, bytes) == 0)
			return agent;
	}
	return NULL;
}

static void one_byte_makes_another_agent(void **state)
{
	(void)state;
	char tablet[TP_AGENT_BYTES_MOST + 40], other[sizeof tablet];
	for (size_t bytes = 4; bytes <= sizeof tablet; bytes += bytes < 40 || bytes > 240 ? 1 : 7) {
		for (size_t at = 0; at + 4 <= bytes; at++) {
			memset(tablet, '.', sizeof tablet);
			memcpy(tablet + at, "ipad", 4);
			memcpy(other, tablet, sizeof tablet);
			other[at + below(4)] = '.';
			assert_int_equal(agent_memo_device(&scratch->agents, tablet, bytes), TP_TABLET);
			assert_int_equal(agent_memo_device(&scratch->agents, other, bytes), TP_OTHER);
			struct tp_agent *agent = agent_of(other, bytes);
			assert_true((agent != NULL) == (bytes >= TP_AGENT_BYTES_LEAST && bytes <= TP_AGENT_BYTES_MOST));
			if (!agent)
				continue;
			/* as if both met in one place: only their texts tell them apart */
			*agent = (struct tp_agent){.bytes = (uint16_t)bytes, .device = TP_TABLET};
			memcpy(agent->text, tablet, bytes);
			assert_int_equal(agent_memo_device(&scratch->agents, other, bytes), TP_OTHER);
			assert_int_equal(agent_memo_device(&scratch->agents, other, bytes - 1), TP_OTHER);
		}
	}
}

static int begin(void **state)
{
	(void)state;
	scratch = aligned_alloc(64, (sizeof *scratch + 63) / 64 * 64);
	if (!scratch)
		return -1;
	memset(scratch, 0, sizeof *scratch);
	return 0;
}

static int end(void **state)
{
	(void)state;
	free(scratch);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_and_without_a_scratch_are_the_same),
		cmocka_unit_test(a_memo_says_what_reading_says),
		cmocka_unit_test(one_byte_makes_another_agent),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
