/*
 * The manifest: records there and back, torn ends, damage, the set of sealed files.
 */
#include "manifest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RECORDS = 40 };

static const uint8_t node_id[16] = "the node's own";

struct book {
	uint8_t bytes[(RECORDS + 1) * MANIFEST_UNIT];
	struct manifest_record record[RECORDS];
};

struct seen {
	uint32_t count;
	const struct book *book;
};

static void book_write(struct book *book)
{
	struct manifest manifest = {0};
	uint64_t file_id = 1, sequence = 1;
	manifest_header_write(book->bytes, node_id);
	assert_int_equal(manifest_feed(&manifest, book->bytes, MANIFEST_UNIT, NULL, NULL), 0);
	for (int i = 0; i < RECORDS; i++) {
		struct manifest_record *record = &book->record[i];
		memset(record, 0, sizeof(*record));
		if (i % 5 == 4) {
			record->kind = MANIFEST_LOG_EMPTY;
			record->file_id = file_id++;
		} else if (i % 7 == 6) {
			record->kind = MANIFEST_RETIRED;
			record->segment.sequence = sequence / 2;
		} else {
			record->kind = MANIFEST_SEGMENT;
			record->segment = (struct manifest_segment){.sequence = sequence++,
								    .file_id = file_id++,
								    .rows = 10,
								    .late = 1,
								    .from_ms = 60000,
								    .to_ms = 120001,
								    .minute_min = 1,
								    .minute_max = 2,
								    .watermark_ms = 1000 - (uint64_t)i,
								    .sealed_ms = 5,
								    .bytes = 4096,
								    .hash = 0x1234};
			record->file_id = record->segment.file_id;
		}
		uint8_t *at = book->bytes + (i + 1) * MANIFEST_UNIT;
		manifest_record_write(at, &manifest, record);
		assert_int_equal(manifest_feed(&manifest, at, MANIFEST_UNIT, NULL, NULL), 0);
	}
	manifest_fini(&manifest);
}

static int expect_next(void *context, const struct manifest_record *record)
{
	struct seen *seen = context;
	assert_memory_equal(record, &seen->book->record[seen->count], sizeof(*record));
	seen->count++;
	return 0;
}

static void test_round_trip(void **state)
{
	(void)state;
	static struct book book;
	book_write(&book);
	/* In pieces of any whole size. */
	for (uint64_t piece = 1; piece < RECORDS; piece++) {
		struct manifest manifest = {0};
		struct seen seen = {.book = &book};
		while (manifest.bytes < sizeof(book.bytes)) {
			uint64_t left = sizeof(book.bytes) - manifest.bytes, take = piece * MANIFEST_UNIT;
			assert_int_equal(manifest_feed(&manifest, book.bytes + manifest.bytes, take < left ? take : left,
						       expect_next, &seen),
					 0);
		}
		assert_int_equal(seen.count, RECORDS);
		assert_int_equal(manifest.watermark_ms, 1000);
		assert_memory_equal(manifest.node_id, node_id, sizeof(node_id));
		for (uint64_t id = 1; id <= manifest.file_id_max; id++)
			assert_true(manifest_sealed(&manifest, id));
		assert_false(manifest_sealed(&manifest, manifest.file_id_max + 1));
		assert_false(manifest_sealed(&manifest, 0));
		assert_int_equal(manifest.sealed_ranges, 1);
		manifest_fini(&manifest);
	}
}

/* Cut anywhere: all whole records, and the rest left over. */
static void test_torn(void **state)
{
	(void)state;
	static struct book book;
	book_write(&book);
	for (uint64_t bytes = MANIFEST_UNIT; bytes < sizeof(book.bytes); bytes++) {
		struct manifest manifest = {0};
		struct seen seen = {.book = &book};
		assert_int_equal(manifest_feed(&manifest, book.bytes, bytes, expect_next, &seen), bytes % MANIFEST_UNIT != 0);
		assert_int_equal(manifest.bytes, bytes / MANIFEST_UNIT * MANIFEST_UNIT);
		assert_int_equal(seen.count, bytes / MANIFEST_UNIT - 1);
		manifest_fini(&manifest);
	}
}

/* Every bit flipped: in the last record it may be a torn append, before that it is damage. Never a record that is not there. */
static void test_flips(void **state)
{
	(void)state;
	static struct book book;
	book_write(&book);
	for (uint64_t bit = 0; bit < sizeof(book.bytes) * 8; bit++) {
		struct manifest manifest = {0};
		struct seen seen = {.book = &book};
		book.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int rc = manifest_feed(&manifest, book.bytes, sizeof(book.bytes), expect_next, &seen);
		book.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		uint64_t record = bit / 8 / MANIFEST_UNIT;
		assert_int_equal(rc, record == RECORDS ? 1 : -EBADMSG);
		assert_int_equal(seen.count, record ? record - 1 : 0);
		manifest_fini(&manifest);
	}
}

/* Records out of order, doubled, left out. */
static void test_order(void **state)
{
	(void)state;
	static struct book book;
	uint8_t kept[MANIFEST_UNIT];
	struct manifest manifest = {0};
	book_write(&book);
	memcpy(kept, book.bytes + 5 * MANIFEST_UNIT, MANIFEST_UNIT);
	memcpy(book.bytes + 5 * MANIFEST_UNIT, book.bytes + 6 * MANIFEST_UNIT, MANIFEST_UNIT);
	assert_int_equal(manifest_feed(&manifest, book.bytes, sizeof(book.bytes), NULL, NULL), -EBADMSG);
	assert_int_equal(manifest.bytes, 5 * MANIFEST_UNIT);
	manifest_fini(&manifest);
	/* Left over behind a whole end: one unit may be torn, two prove damage. */
	memcpy(book.bytes + 5 * MANIFEST_UNIT, kept, MANIFEST_UNIT);
	memset(book.bytes + (RECORDS - 1) * MANIFEST_UNIT, 0, 2 * MANIFEST_UNIT);
	assert_int_equal(manifest_feed(&manifest, book.bytes, sizeof(book.bytes) - MANIFEST_UNIT, NULL, NULL), 1);
	manifest_fini(&manifest);
	assert_int_equal(manifest_feed(&manifest, book.bytes, sizeof(book.bytes), NULL, NULL), -EBADMSG);
	manifest_fini(&manifest);
}

/* Whole, and yet impossible. */
static void test_impossible(void **state)
{
	(void)state;
	const struct manifest_record bad[] = {
		{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 5, .file_id = 7}}, /* the file is sealed already */
		{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 1, .file_id = 8}}, /* sequences grow */
		{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 5, .file_id = 0}},
		{.kind = MANIFEST_LOG_EMPTY, .file_id = 7},
		{.kind = MANIFEST_LOG_EMPTY, .file_id = 0},
		{.kind = MANIFEST_RETIRED, .segment = {.sequence = 2}}, /* never published */
		{.kind = 9},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct manifest manifest = {0};
		const struct manifest_record first = {.kind = MANIFEST_SEGMENT, .segment = {.sequence = 1, .file_id = 7}};
		uint8_t unit[MANIFEST_UNIT];
		manifest_header_write(unit, node_id);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		manifest_record_write(unit, &manifest, &first);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		manifest_record_write(unit, &manifest, &bad[i]);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), -EBADMSG);
		manifest_fini(&manifest);
	}
}

/* Files are sealed in any order; the ranges always say the same as a plain list. */
static void test_ranges(void **state)
{
	(void)state;
	enum { IDS = 200 };
	for (unsigned seed = 1; seed < 20; seed++) {
		struct manifest manifest = {0};
		uint8_t unit[MANIFEST_UNIT];
		bool sealed[IDS + 2] = {0};
		manifest_header_write(unit, node_id);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		unsigned random = seed;
		for (int i = 0; i < 2 * IDS; i++) {
			uint64_t id = 1 + (uint64_t)rand_r(&random) % IDS;
			if (sealed[id])
				continue;
			const struct manifest_record record = {.kind = MANIFEST_LOG_EMPTY, .file_id = id};
			manifest_record_write(unit, &manifest, &record);
			assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
			sealed[id] = true;
			for (uint64_t j = 0; j < IDS + 2; j++)
				assert_int_equal(manifest_sealed(&manifest, j), sealed[j]);
		}
		for (uint32_t r = 1; r < manifest.sealed_ranges; r++)
			assert_true(manifest.sealed[r].from > manifest.sealed[r - 1].to);
		manifest_fini(&manifest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_torn),       cmocka_unit_test(test_flips),
		cmocka_unit_test(test_order),      cmocka_unit_test(test_impossible), cmocka_unit_test(test_ranges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
