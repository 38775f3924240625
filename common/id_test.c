/* Event ids: canonical UUIDs as they are, everything else hashed under the secret, and back to text. */
#include "turnpike/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char uuid_text[] = "123e4567-e89b-12d3-a456-4266141740ff";

static struct tp_id id_of(const char *text, int *uuid)
{
	/* an exact copy, so that the address sanitizer sees a read behind it */
	size_t bytes = strlen(text);
	char *copy = malloc(bytes);
	memcpy(copy, text, bytes);
	struct tp_id id = tp_id_from_text(copy, bytes, uuid);
	free(copy);
	return id;
}

static int equal(struct tp_id a, struct tp_id b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

static void a_canonical_uuid_is_its_bytes(void **state)
{
	(void)state;
	static const uint8_t expected[16] = {0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3,
					     0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0xff};
	int uuid = 0;
	struct tp_id id = id_of(uuid_text, &uuid);
	assert_int_equal(uuid, 1);
	assert_memory_equal(&id, expected, 16);
	id = id_of("ffffffff-ffff-ffff-ffff-ffffffffffff", &uuid);
	assert_int_equal(uuid, 1);
	assert_true(id.hi == UINT64_MAX && id.lo == UINT64_MAX);
}

static void each_wrong_byte_makes_it_text(void **state)
{
	(void)state;
	int uuid;
	struct tp_id original = id_of(uuid_text, &uuid);
	for (size_t at = 0; at < 36; at++) {
		for (int c = 1; c < 256; c++) {
			char text[37];
			memcpy(text, uuid_text, 37);
			text[at] = (char)c;
			int dash = at == 8 || at == 13 || at == 18 || at == 23;
			int fits = dash ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
			struct tp_id id = id_of(text, &uuid);
			assert_int_equal(uuid, fits);
			assert_int_equal(equal(id, original), c == (unsigned char)uuid_text[at]);
		}
	}
	assert_int_equal((id_of("123e4567-e89b-12d3-a456-4266141740f", &uuid), uuid), 0);
	assert_int_equal((id_of("123e4567-e89b-12d3-a456-4266141740ff0", &uuid), uuid), 0);
	assert_int_equal((id_of("123E4567-E89B-12D3-A456-4266141740FF", &uuid), uuid), 0);
	assert_int_equal((id_of("{23e4567-e89b-12d3-a456-4266141740f}", &uuid), uuid), 0);
}

static void the_zero_uuid_is_hashed(void **state)
{
	(void)state;
	int uuid = 1;
	struct tp_id id = id_of("00000000-0000-0000-0000-000000000000", &uuid);
	assert_int_equal(uuid, 0);
	assert_true(id.hi != 0 && id.lo != 0);
	id = id_of("00000000-0000-0000-0000-000000000001", &uuid);
	assert_int_equal(uuid, 1);
	id = id_of("10000000-0000-0000-0000-000000000000", &uuid);
	assert_int_equal(uuid, 1);
}

static void texts_of_all_lengths_differ(void **state)
{
	(void)state;
	char text[TP_ID_BYTES_MAX + 1] = {0};
	struct tp_id seen[TP_ID_BYTES_MAX + 1];
	for (size_t bytes = 1; bytes <= TP_ID_BYTES_MAX; bytes++) {
		int uuid = 1;
		text[bytes - 1] = 'a';
		seen[bytes] = id_of(text, &uuid);
		assert_int_equal(uuid, 0);
		assert_true(equal(seen[bytes], id_of(text, &uuid)));
		for (size_t before = 1; before < bytes; before++)
			assert_false(equal(seen[bytes], seen[before]));
	}
}

static void the_hash_depends_on_both_words_of_the_secret(void **state)
{
	(void)state;
	int uuid;
	struct tp_id id[5];
	static const uint64_t secret[5][2] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {1ULL << 63, 0}};
	for (int i = 0; i < 5; i++) {
		tp_id_secret_set(secret[i]);
		id[i] = id_of("click-1", &uuid);
		for (int k = 0; k < i; k++)
			assert_true(id[i].hi != id[k].hi && id[i].lo != id[k].lo);
		static const uint8_t first[4] = {0x12, 0x3e, 0x45, 0x67};
		struct tp_id plain = id_of(uuid_text, &uuid); /* UUIDs do not depend on it */
		assert_memory_equal(&plain, first, 4);
	}
	tp_id_secret_set(secret[1]);
	assert_true(equal(id_of("click-1", &uuid), id[1]));

	/* fingerprints are under it too */
	struct tp_parsed parsed = {.fixed = {.id = {1, 2}}};
	tp_event_finish(&parsed);
	uint64_t before = parsed.fixed.fingerprint, shard = parsed.fixed.shard_hash;
	tp_id_secret_set(secret[2]);
	tp_event_finish(&parsed);
	assert_true(parsed.fixed.fingerprint != before);
	assert_true(parsed.fixed.shard_hash == shard); /* a client may compute it */
}

static void the_text_comes_back(void **state)
{
	(void)state;
	static const char *const text[] = {uuid_text, "ffffffff-0000-ffff-0000-000000000001",
					   "00000000-0000-0000-0000-000000000000", "a",
					   "0123456789012345678901234567890123456789012345678901234567890123"};
	_Alignas(8) char record[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)record;
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
		struct tp_parsed parsed = {0};
		int uuid;
		parsed.fixed.id = tp_id_from_text(text[i], strlen(text[i]), &uuid);
		if (!uuid)
			parsed.string[TP_EVENT_ID] = (struct tp_str){.at = text[i], .bytes = (uint16_t)strlen(text[i])};
		parsed.string[TP_AD_ID] = (struct tp_str){.at = "ad", .bytes = 2};
		tp_event_finish(&parsed);
		tp_event_encode(&parsed, event);
		char back[TP_ID_BYTES_MAX + 1];
		assert_int_equal(tp_event_id_text(event, back), strlen(text[i]));
		assert_string_equal(back, text[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_canonical_uuid_is_its_bytes),
		cmocka_unit_test(each_wrong_byte_makes_it_text),
		cmocka_unit_test(the_zero_uuid_is_hashed),
		cmocka_unit_test(texts_of_all_lengths_differ),
		cmocka_unit_test(the_hash_depends_on_both_words_of_the_secret),
		cmocka_unit_test(the_text_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
