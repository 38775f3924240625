/* Names, cursors and JSON of dead letters: what was written is read back, and nothing else is. What is read from a folder: tests/integration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl_dlq_json.h"

#include <string.h>

static void test_names(void **state)
{
	(void)state;
	static const struct ctl_dlq_key keys[] = {
		{.received_ms = 1, .file_id = 1, .place = 0},
		{.received_ms = 1790000000000, .file_id = 0xfedcba9876543210, .place = 1000000000000},
		{.received_ms = 0, .file_id = 0, .place = 0, .conflict = true},
		{.received_ms = 5, .file_id = 0xc0, .place = UINT64_MAX, .conflict = true},
	};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		char name[CTL_DLQ_NAME_BYTES], cursor[CTL_DLQ_CURSOR_BYTES];
		struct ctl_dlq_key again;
		ctl_dlq_name(&keys[i], name);
		assert_true(ctl_dlq_name_parse(name, &again));
		assert_int_equal(again.file_id, keys[i].file_id);
		assert_int_equal(again.place, keys[i].place);
		assert_int_equal(again.conflict, keys[i].conflict);
		ctl_dlq_cursor(&keys[i], cursor);
		assert_true(ctl_dlq_cursor_parse(cursor, &again));
		assert_int_equal(again.received_ms, keys[i].received_ms);
		assert_int_equal(again.place, keys[i].place);
		assert_false(ctl_dlq_name_parse(cursor, &again) && strchr(strchr(cursor, '-') + 1, '-'));
	}
	static const char *const wrong[] = {"",
					    "-",
					    "1",
					    "1-",
					    "-1",
					    "1-1 ",
					    " 1-1",
					    "1-1-1",
					    "x-1",
					    "1-x",
					    "1-c",
					    "1-cg",
					    "1-1c",
					    "1-C1",
					    "1--1",
					    "11111111111111111-1",
					    "1-12345678901234567890"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct ctl_dlq_key key;
		assert_false(ctl_dlq_name_parse(wrong[i], &key));
	}
	assert_int_equal(ctl_dlq_reason("conflict"), CTL_DLQ_CONFLICT);
	assert_int_equal(ctl_dlq_reason("future"), 1 << TP_FUTURE);
	assert_int_equal(ctl_dlq_reason("ok"), 0);
	assert_int_equal(ctl_dlq_reason(""), 0);
}

struct room {
	_Alignas(8) uint8_t at[TP_RECORD_BYTES_MAX];
};

static void encoding_check(const char *bytes, size_t count, const char *encoding, const char *data)
{
	struct room room = {{0}};
	struct tp_dead_letter *letter = (struct tp_dead_letter *)(void *)room.at;
	*letter = (struct tp_dead_letter){
		.bytes = tp_dead_letter_record_bytes((uint32_t)count),
		.type = TP_RECORD_DEAD_LETTER,
		.reason = TP_MALFORMED,
		.sent_bytes = (uint32_t)count,
		.kept_bytes = (uint32_t)count,
	};
	memcpy(letter + 1, bytes, count);
	assert_true(tp_dead_letter_valid(letter, sizeof(room)));
	const struct ctl_dlq_entry entry = {.copies = 1, .record = (struct tp_event *)(void *)letter};
	json_t *json = ctl_dlq_entry_json(&entry);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "encoding")), encoding);
	assert_int_equal(json_string_length(json_object_get(json, "data")),
			 strlen(data) + (strlen(data) < count && *encoding == 't'));
	assert_string_equal(json_string_value(json_object_get(json, "data")), data);
	json_decref(json);
}

static void test_encodings(void **state)
{
	(void)state;
	encoding_check("", 0, "text", "");
	encoding_check("\xc3\xbc\n\x7f", 4, "text", "\xc3\xbc\n\x7f");
	encoding_check("a\0", 2, "text", "a");
	encoding_check("\xff", 1, "base64", "/w==");
	encoding_check("\xff\xfe", 2, "base64", "//4=");
	encoding_check("\xff\xfe\xfd", 3, "base64", "//79");
	encoding_check("abc\xc3", 4, "base64", "YWJjww==");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_encodings)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
