/*
 * Who may send UDP batches: tags against published vectors, the file of keys, and what tokens an rx core remembers.
 */
#include "batch_format.h"
#include "batch_tag.h"
#include "permit.h"
#include "source_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const uint64_t key_0f[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

/* The vectors of the authors' reference code, key 00 … 0f, of 0, 1, 8, 15 and 63 bytes 00 01 02 …. */
static void test_siphash_vectors(void **state)
{
	(void)state;
	static const struct {
		size_t bytes;
		uint64_t narrow;
		uint8_t wide[16];
	} vector[] = {
		{0,
		 0x726fdb47dd0e0e31,
		 {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93}},
		{1,
		 0x74f839c593dc67fd,
		 {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45}},
		{8, 0x93f5f5799a932462, {0}},
		{15, 0xa129ca6149be45e5, {0}},
	};
	uint8_t bytes[64];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof vector / sizeof *vector; i++) {
		uint64_t tag[2];
		dp_tag_compute(key_0f, bytes, vector[i].bytes, 1000, false, tag);
		assert_true(tag[0] == vector[i].narrow && tag[1] == 0);
		dp_tag_compute(key_0f, bytes, vector[i].bytes, 1000, true, tag);
		if (vector[i].wide[0])
			assert_memory_equal(tag, vector[i].wide, 16);
	}
}

/* The tag covers every bit but its own and the checksum's. */
static void test_what_a_tag_covers(void **state)
{
	(void)state;
	for (int wide = 0; wide < 2; wide++) {
		uint8_t bytes[103];
		uint64_t tag[2], other[2];
		size_t tag_end = DP_BATCH_AT_TAG + (wide ? 16 : 8);
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = (uint8_t)(i * 29);
		dp_tag_compute(key_0f, bytes, sizeof bytes, DP_BATCH_AT_TAG, wide, tag);
		for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
			size_t at = bit / 8;
			bool outside = (at >= DP_BATCH_AT_CHECKSUM && at < DP_BATCH_AT_CHECKSUM + 4) ||
				       (at >= DP_BATCH_AT_TAG && at < tag_end);
			bytes[at] ^= (uint8_t)(1 << bit % 8);
			dp_tag_compute(key_0f, bytes, sizeof bytes, DP_BATCH_AT_TAG, wide, other);
			assert_int_equal(memcmp(tag, other, sizeof tag) == 0, outside);
			bytes[at] ^= (uint8_t)(1 << bit % 8);
		}
		dp_tag_compute(key_0f, bytes, sizeof bytes - 1, DP_BATCH_AT_TAG, wide, other);
		assert_memory_not_equal(tag, other, sizeof tag);
	}
}

/* ---- the file ---- */

static char path[64];

static int file_make(void **state)
{
	(void)state;
	strcpy(path, "/tmp/source-keys-XXXXXX");
	int fd = mkstemp(path);
	close(fd);
	return fd < 0;
}

static int file_remove(void **state)
{
	(void)state;
	return unlink(path);
}

static int load(const char *text, struct dp_source_keys **keys, char error[DP_SOURCE_KEYS_ERROR_BYTES])
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	*keys = NULL;
	error[0] = 0;
	return dp_source_keys_load(keys, path, error);
}

#define A "000102030405060708090a0b0c0d0e0f"
#define B "ffeeddccbbaa99887766554433221100"

static uint8_t signed_batch[256];

/* A valid batch of one event, signed. */
static struct dp_batch batch_make(uint8_t version, uint64_t source, const uint64_t *key)
{
	uint16_t tag = key ? (version == 1 ? 8 : 16) : 0;
	uint16_t bytes = (uint16_t)(DP_BATCH_HEADER_BYTES + tag + DP_BATCH_EVENT_FIXED_BYTES + 4), one = 1;
	uint16_t event_bytes = DP_BATCH_EVENT_FIXED_BYTES + 4;
	struct dp_batch batch;
	uint64_t wide[2];
	memset(signed_batch, 0, sizeof signed_batch);
	memcpy(signed_batch, dp_batch_magic, 4);
	signed_batch[DP_BATCH_AT_VERSION] = version;
	signed_batch[DP_BATCH_AT_KIND] = DP_BATCH_KIND_EVENTS;
	signed_batch[DP_BATCH_AT_FLAGS] = key != NULL;
	memcpy(signed_batch + DP_BATCH_AT_SOURCE, &source, 8);
	memcpy(signed_batch + DP_BATCH_AT_BYTES, &bytes, 2);
	memcpy(signed_batch + DP_BATCH_AT_EVENTS, &one, 2);
	memcpy(signed_batch + DP_BATCH_HEADER_BYTES + tag, &event_bytes, 2);
	if (key) {
		dp_tag_compute(key, signed_batch, bytes, DP_BATCH_AT_TAG, version != 1, wide);
		memcpy(signed_batch + DP_BATCH_AT_TAG, wide, tag);
	}
	uint32_t crc = dp_crc32c(0, signed_batch, bytes);
	memcpy(signed_batch + DP_BATCH_AT_CHECKSUM, &crc, 4);
	assert_int_equal(dp_batch_open(signed_batch, bytes, &batch), DP_BATCH_OK);
	return batch;
}

static enum dp_tag_fault check(const struct dp_source_keys *keys, uint8_t version, uint64_t source, const uint64_t *key,
			       const char *from)
{
	struct tp_addr peer;
	uint64_t used[2] = {0};
	assert_int_equal(tp_addr_parse(from, strlen(from), &peer), 0);
	struct dp_batch batch = batch_make(version, source, key);
	enum dp_tag_fault fault = dp_tag_check(keys, &batch, signed_batch, &peer, used);
	if (fault == DP_TAG_OK)
		assert_memory_equal(used, key, sizeof used);
	return fault;
}

static void test_keys_say_who_may_send(void **state)
{
	(void)state;
	char error[DP_SOURCE_KEYS_ERROR_BYTES];
	struct dp_source_keys *keys;
	uint64_t b[2], wrong[2] = {key_0f[0], key_0f[1] ^ 1ULL << 63};
	memcpy(b, "\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x77\x66\x55\x44\x33\x22\x11\x00", 16);
	assert_int_equal(load("# all of them\n\n7 " A "  192.0.2.0/24,2001:db8::/32 # near\n0xffffffffffffffff\t" A "\r\n"
			      "0x10 " A "\n16 " B "\n  18446744073709551614 " B,
			      &keys, error),
			 0);
	assert_int_equal(keys->count, 5);
	for (uint8_t version = 1; version <= 2; version++) {
		assert_int_equal(check(keys, version, 7, key_0f, "192.0.2.9"), DP_TAG_OK);
		assert_int_equal(check(keys, version, 7, key_0f, "2001:db8::9"), DP_TAG_OK);
		assert_int_equal(check(keys, version, 7, key_0f, "192.0.3.9"), DP_TAG_UNKNOWN);
		assert_int_equal(check(keys, version, 7, b, "192.0.2.9"), DP_TAG_BAD);
		assert_int_equal(check(keys, version, 7, wrong, "192.0.2.9"), DP_TAG_BAD);
		assert_int_equal(check(keys, version, 7, NULL, "192.0.2.9"), DP_TAG_BAD);
		assert_int_equal(check(keys, version, 8, key_0f, "192.0.2.9"), DP_TAG_UNKNOWN);
		assert_int_equal(check(keys, version, UINT64_MAX, key_0f, "::1"), DP_TAG_OK);
		assert_int_equal(check(keys, version, UINT64_MAX - 1, b, "::1"), DP_TAG_OK);
		assert_int_equal(check(keys, version, 16, key_0f, "10.0.0.1"), DP_TAG_OK); /* either key, while it is changed */
		assert_int_equal(check(keys, version, 16, b, "10.0.0.1"), DP_TAG_OK);
		assert_int_equal(check(keys, version, 16, wrong, "10.0.0.1"), DP_TAG_BAD);
	}
	/* every single bit of the tag counts */
	for (int bit = 0; bit < 128; bit++) {
		struct dp_batch batch = batch_make(2, 16, key_0f);
		struct tp_addr peer = {.family = 6};
		uint64_t used[2];
		signed_batch[DP_BATCH_AT_TAG + bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(dp_tag_check(keys, &batch, signed_batch, &peer, used), DP_TAG_BAD);
	}
	dp_source_keys_free(keys);
	assert_int_equal(load("", &keys, error), 0); /* an empty list lets nobody in */
	assert_int_equal(check(keys, 2, 0, key_0f, "::1"), DP_TAG_UNKNOWN);
	dp_source_keys_free(keys);
}

static void test_many_sources(void **state)
{
	(void)state;
	char error[DP_SOURCE_KEYS_ERROR_BYTES], *text = malloc(4000 * 64), *at = text;
	struct dp_source_keys *keys;
	for (uint64_t i = 0; i < 4000; i++)
		at += sprintf(at, "%llu %016llx%016llx\n", (unsigned long long)(i * 0x100000000ULL), (unsigned long long)i, 0ULL);
	assert_int_equal(load(text, &keys, error), 0);
	for (uint64_t i = 0; i < 4000; i++) {
		uint64_t key[2] = {__builtin_bswap64(i), 0};
		assert_int_equal(check(keys, 2, i * 0x100000000ULL, key, "::1"), DP_TAG_OK);
		assert_int_equal(check(keys, 2, i * 0x100000000ULL + 1, key, "::1"), DP_TAG_UNKNOWN);
	}
	dp_source_keys_free(keys);
	free(text);
}

static void test_files_that_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *says;
	} row[] = {
		{"7", "line 1: expected a key of 32 hex digits"},
		{"7 " A "\n\n8 0011", "line 3: expected a key of 32 hex digits"},
		{"7 " A "0", "line 1: expected a key"},
		{"7 0x0102030405060708090a0b0c0d0e0f", "line 1: expected a key"},
		{"x " A, "line 1: expected a source number"},
		{"-1 " A, "line 1: expected a source number"},
		{"0x " A, "line 1: expected a source number"},
		{"18446744073709551616 " A, "line 1: expected a source number"},
		{"7 " A " 192.0.2.0/33", "line 1: expected prefixes"},
		{"7 " A " 192.0.2.0/24,", "line 1: expected prefixes"},
		{"7 " A " 192.0.2.0/24 more", "line 1: expected prefixes"},
		{"7 " A "\n7 " B "\n7 " A "\n7 " B "\n7 " A, "expected at most four keys for a source"},
	};
	char error[DP_SOURCE_KEYS_ERROR_BYTES];
	struct dp_source_keys *keys;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		assert_int_equal(load(row[i].text, &keys, error), -EBADMSG);
		if (strstr(error, row[i].says) != error)
			fail_msg("\"%s\": %s", row[i].text, error);
		assert_null(strstr(error, "0102030405")); /* a key is in no message */
	}
	assert_int_equal(load("7 " A, &keys, error), 0);
	dp_source_keys_free(keys);
	chmod(path, 0644);
	assert_int_equal(dp_source_keys_load(&keys, path, error), -EPERM);
	assert_non_null(strstr(error, "found mode 0644"));
	chmod(path, 0640);
	assert_int_equal(dp_source_keys_load(&keys, path, error), 0);
	dp_source_keys_free(keys);
	assert_int_equal(dp_source_keys_load(&keys, "/nowhere/keys", error), -ENOENT);
}

/* ---- tokens that an rx core remembers ---- */

static struct {
	uint32_t asked;
	char good[64];
	uint64_t until_ms;
	_Atomic uint64_t version;
} door;

static bool door_ask(void *context, const char *token, size_t bytes, uint64_t now_ms, struct dp_permit *permit)
{
	(void)context;
	door.asked++;
	*permit = (struct dp_permit){.who = 42, .until_ms = door.until_ms};
	return bytes == strlen(door.good) && memcmp(token, door.good, bytes) == 0 && now_ms < door.until_ms;
}

static void test_what_is_remembered_of_tokens(void **state)
{
	(void)state;
	struct dp_permits *permits;
	struct dp_permit permit;
	struct dp_permit_source source = {.ask = door_ask, .version = &door.version};
	memset(&door, 0, sizeof door);
	strcpy(door.good, "tpt_0123456789012345678901234567890123456789abc");
	door.until_ms = 1000;
	assert_int_equal(dp_permits_create(&permits, &source), 0);
#define ASK(text, now) dp_permits_ask(permits, text, strlen(text), now, &permit)
	for (int i = 0; i < 10; i++) {
		assert_true(ASK(door.good, 1));
		assert_int_equal(permit.who, 42);
	}
	assert_int_equal(door.asked, 1);
	assert_true(ASK(door.good, 999));
	assert_false(ASK(door.good, 1000)); /* expired, though remembered */
	char wrong[64];
	for (size_t at = 0; at < strlen(door.good); at++) { /* each bit of what is remembered counts */
		strcpy(wrong, door.good);
		wrong[at] ^= 1;
		assert_false(ASK(wrong, 1));
	}
	for (size_t bytes = 0; bytes < strlen(door.good); bytes++)
		assert_false(dp_permits_ask(permits, door.good, bytes, 1, &permit));
	char old[64];
	strcpy(old, door.good);
	assert_true(ASK(old, 1));
	strcpy(door.good, "another"); /* revoked: it counts until the version moves on, and no longer */
	atomic_fetch_add(&door.version, 1);
	assert_false(ASK(old, 1));
	assert_true(ASK("another", 1));
	memset(door.good, 'x', 60); /* longer than any of ours is asked each time */
	door.good[60] = 0;
	assert_true(ASK(door.good, 1));
	assert_true(ASK(door.good, 1));
	dp_permits_destroy(permits);
	assert_int_equal(dp_permits_create(&permits, &(struct dp_permit_source){0}), 0);
	assert_false(ASK("another", 1)); /* nobody to ask: nobody may */
	dp_permits_destroy(permits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_what_a_tag_covers),
		cmocka_unit_test_setup_teardown(test_keys_say_who_may_send, file_make, file_remove),
		cmocka_unit_test_setup_teardown(test_many_sources, file_make, file_remove),
		cmocka_unit_test_setup_teardown(test_files_that_are_refused, file_make, file_remove),
		cmocka_unit_test(test_what_is_remembered_of_tokens),
	};
	return cmocka_run_group_tests_name("batch_auth", tests, NULL, NULL);
}
