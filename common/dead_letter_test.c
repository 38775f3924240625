/* The record of a dead letter: what is well-formed, and each way in which one is not. */
#include "turnpike/dead_letter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *page_path;

struct room {
	_Alignas(8) uint8_t at[TP_RECORD_BYTES_MAX + 8];
};

static struct tp_dead_letter *letter_make(struct room *room, uint32_t sent)
{
	uint32_t kept = sent < TP_DEAD_KEPT_BYTES_MAX ? sent : TP_DEAD_KEPT_BYTES_MAX;
	memset(room, 0, sizeof(*room));
	struct tp_dead_letter *letter = (struct tp_dead_letter *)(void *)room->at;
	*letter = (struct tp_dead_letter){
		.bytes = tp_dead_letter_record_bytes(kept),
		.type = TP_RECORD_DEAD_LETTER,
		.reason = TP_BAD_VALUE,
		.field = TP_FIELD_BID_PRICE,
		.way = TP_WAY_PIXEL,
		.received_ms = 1,
		.sent_bytes = sent,
		.kept_bytes = kept,
		.peer_family = 4,
	};
	memset(letter + 1, 'x', kept);
	return letter;
}

static void test_lengths(void **state)
{
	(void)state;
	struct room room;
	for (uint32_t sent = 0; sent < TP_DEAD_KEPT_BYTES_MAX + 20; sent++) {
		struct tp_dead_letter *letter = letter_make(&room, sent);
		assert_true(letter->bytes <= TP_RECORD_BYTES_MAX && letter->bytes % 8 == 0);
		assert_true(tp_dead_letter_valid(letter, letter->bytes));
		assert_true(tp_dead_letter_valid(letter, sizeof(room)));
		assert_false(tp_dead_letter_valid(letter, letter->bytes - 1));
		assert_ptr_equal(tp_dead_letter_of((struct tp_event *)(void *)letter), letter);
		/* never an event as well */
		assert_false(tp_event_valid((struct tp_event *)(void *)letter, sizeof(room)));
	}
}

static void test_damage(void **state)
{
	(void)state;
	struct room room;
	struct tp_dead_letter *letter;
#define DAMAGED(what) \
	do { \
		letter = letter_make(&room, 13); \
		assert_true(tp_dead_letter_valid(letter, sizeof(room))); \
		what; \
		assert_false(tp_dead_letter_valid(letter, sizeof(room))); \
	} while (0)
	DAMAGED(letter->bytes += 8);
	DAMAGED(letter->bytes -= 8);
	DAMAGED(letter->bytes = 0);
	DAMAGED(letter->bytes = UINT32_MAX);
	DAMAGED(letter->type++);
	DAMAGED(letter->type = TP_CLICK);
	DAMAGED(letter->reason = TP_OK);
	DAMAGED(letter->reason = TP_REJECTS);
	DAMAGED(letter->field = TP_FIELDS);
	DAMAGED(letter->way = TP_WAYS);
	DAMAGED(letter->part = TP_DEAD_PARTS);
	DAMAGED(letter->peer_family = 5);
	DAMAGED(letter->kept_bytes = UINT32_MAX);
	DAMAGED(letter->kept_bytes = 17);
	DAMAGED(letter->kept_bytes = 14);
	DAMAGED(letter->sent_bytes = 12);
	DAMAGED(letter->sent_bytes = 14);
	DAMAGED(letter->reserved[13] = 1);
	DAMAGED(room.at[TP_DEAD_FIXED_BYTES + 13] = 1);
	DAMAGED(room.at[TP_DEAD_FIXED_BYTES + 15] = 1);
#undef DAMAGED
	letter = letter_make(&room, 0);
	assert_false(tp_dead_letter_valid(letter, 0));
	assert_false(tp_dead_letter_valid(letter, TP_DEAD_FIXED_BYTES - 1));
	assert_true(tp_dead_letter_valid(letter, TP_DEAD_FIXED_BYTES));
	letter->type = TP_CLICK;
	assert_null(tp_dead_letter_of((struct tp_event *)(void *)letter));
}

static void test_names(void **state)
{
	(void)state;
	for (int way = 0; way < TP_WAYS; way++)
		assert_non_null(tp_way_name((enum tp_way)way));
	assert_string_equal(tp_way_name(TP_WAY_UDP_BATCH), "udp_batch");
	assert_string_equal(tp_way_name(TP_WAYS), "unknown");
}

/* The table of docs/dead-letters.md, field by field. */
static void test_page(void **state)
{
	static const struct {
		const char *name;
		size_t at, bytes;
	} field[] = {
#define F(name) {#name, offsetof(struct tp_dead_letter, name), sizeof(((struct tp_dead_letter *)0)->name)}
		F(bytes), F(type),   F(reason),    F(field), F(way),         F(received_ms), F(sent_bytes), F(kept_bytes),
		F(index), F(ingest), F(peer_port), F(peer),  F(peer_family), F(part),        F(reserved),
#undef F
	};
	const size_t fields = sizeof(field) / sizeof(field[0]);
	char line[1024], name[64];
	size_t next = 0, at, bytes;
	(void)state;
	if (!page_path) {
		print_message("no page was named: dead_letter_test docs/dead-letters.md\n");
		skip();
	}
	FILE *page = fopen(page_path, "re");
	assert_non_null(page);
	while (fgets(line, sizeof(line), page)) {
		if (sscanf(line, "| %zu | %zu | %63[^ ] |", &at, &bytes, name) != 3)
			continue;
		assert_true(next < fields);
		assert_string_equal(name, field[next].name);
		assert_int_equal(at, field[next].at);
		assert_int_equal(bytes, field[next].bytes);
		next++;
	}
	fclose(page);
	assert_int_equal(next, fields);
}

int main(int argc, char **argv)
{
	page_path = argc > 1 ? argv[1] : NULL;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
