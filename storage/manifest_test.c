/*
 * The manifest: records there and back, torn ends, damage, the set of sealed files.
 */
#include "manifest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

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
		manifest_write(at, &manifest, record, 1);
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
		assert_int_equal(manifest.facts.watermark_ms, 1000);
		assert_memory_equal(manifest.node_id, node_id, sizeof(node_id));
		for (uint64_t id = 1; id <= manifest.facts.file_id_max; id++)
			assert_true(manifest_sealed(&manifest, id));
		assert_false(manifest_sealed(&manifest, manifest.facts.file_id_max + 1));
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
	/* Left over behind a whole end: what one transaction may have is torn, more proves damage. */
	memcpy(book.bytes + 5 * MANIFEST_UNIT, kept, MANIFEST_UNIT);
	uint64_t end = (RECORDS + 1 - MANIFEST_PARTS_MAX) * MANIFEST_UNIT;
	memset(book.bytes + end, 0, MANIFEST_PARTS_MAX * MANIFEST_UNIT);
	assert_int_equal(manifest_feed(&manifest, book.bytes, sizeof(book.bytes), NULL, NULL), 1);
	assert_int_equal(manifest.bytes, end);
	manifest_fini(&manifest);
	memset(book.bytes + end - MANIFEST_UNIT, 0, MANIFEST_UNIT);
	assert_int_equal(manifest_feed(&manifest, book.bytes, sizeof(book.bytes), NULL, NULL), -EBADMSG);
	manifest_fini(&manifest);
}

/* ---- transactions ---- */

static int count_record(void *context, const struct manifest_record *record)
{
	(void)record;
	++*(uint32_t *)context;
	return 0;
}

/* A header, one segment, then a merge of three files into one; then another segment if `more`. Bytes written. */
static uint64_t merge_write(uint8_t *to, bool more)
{
	struct manifest manifest = {0};
	struct manifest_record record[4] = {{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 9, .file_id = 9}}};
	uint64_t at = MANIFEST_UNIT;
	manifest_header_write(to, node_id);
	assert_int_equal(manifest_feed(&manifest, to, at, NULL, NULL), 0);
	manifest_write(to + at, &manifest, record, 1);
	assert_int_equal(manifest_feed(&manifest, to + at, MANIFEST_UNIT, NULL, NULL), 0);
	at += MANIFEST_UNIT;
	for (uint64_t i = 0; i < 4; i++)
		record[i] = (struct manifest_record){.kind = i < 3 ? MANIFEST_ROLLUP_GONE : MANIFEST_ROLLUP,
						     .rollup = {.sequence = i + 1,
								.from_segment = i + 1,
								.to_segment = i + 1,
								.reason = i < 3 ? MANIFEST_MERGED : 0}};
	manifest.facts.rollup_max = 3;
	manifest_write(to + at, &manifest, record, 4);
	assert_int_equal(manifest_feed(&manifest, to + at, 4 * MANIFEST_UNIT, NULL, NULL), 0);
	assert_int_equal(manifest.facts.rollup_max, 4);
	at += 4 * MANIFEST_UNIT;
	if (more) {
		record[0] = (struct manifest_record){.kind = MANIFEST_SEGMENT, .segment = {.sequence = 10, .file_id = 10}};
		manifest_write(to + at, &manifest, record, 1);
		at += MANIFEST_UNIT;
	}
	manifest_fini(&manifest);
	return at;
}

/* A transaction of which any sectors are missing is none; it is all there or not at all. */
static void test_transactions(void **state)
{
	(void)state;
	uint8_t whole[7 * MANIFEST_UNIT], torn[7 * MANIFEST_UNIT];
	for (int more = 0; more < 2; more++) {
		uint64_t bytes = merge_write(whole, more);
		for (uint32_t lost = 0; lost < 16; lost++) {
			struct manifest manifest = {.facts.rollup_max = 3};
			uint32_t count = 0;
			memcpy(torn, whole, bytes);
			for (int i = 0; i < 4; i++)
				if (lost >> i & 1)
					memset(torn + (2 + i) * MANIFEST_UNIT, i % 2 ? 0xff : 0, MANIFEST_UNIT);
			int rc = manifest_feed(&manifest, torn, bytes, count_record, &count);
			/* What came after it proves that it had been whole. */
			assert_int_equal(rc, !lost ? 0 : more ? -EBADMSG : 1);
			assert_int_equal(count, lost ? 1 : more ? 6 : 5);
			assert_int_equal(manifest.bytes, lost ? 2 * MANIFEST_UNIT : bytes);
			manifest_fini(&manifest);
		}
		/* And cut anywhere. */
		for (uint64_t cut = 2 * MANIFEST_UNIT + 1; cut < 6 * MANIFEST_UNIT; cut++) {
			struct manifest manifest = {.facts.rollup_max = 3};
			uint32_t count = 0;
			assert_int_equal(manifest_feed(&manifest, whole, cut, count_record, &count), 1);
			assert_int_equal(count, 1);
			manifest_fini(&manifest);
		}
	}
}

/* What a state and ranges say stands for the records that were left out; segments of before come back without being new. */
static void test_state(void **state)
{
	(void)state;
	struct manifest manifest = {0};
	uint8_t unit[MANIFEST_UNIT];
	const struct manifest_record records[] = {
		{.kind = MANIFEST_STATE,
		 .facts = {.watermark_ms = 77,
			   .file_id_max = 30,
			   .segment_max = 20,
			   .rollup_max = 6,
			   .covered = 19,
			   .minute_gone = {5, 60, 1440},
			   .chain_sha256 = "the end of the chain"}},
		{.kind = MANIFEST_SEALED_RANGE, .file_id = 1, .file_id_end = 10},
		{.kind = MANIFEST_SEALED_RANGE, .file_id = 12, .file_id_end = 31},
		{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 18, .file_id = 14, .watermark_ms = 3}},
		{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 21, .file_id = 31, .watermark_ms = 78}},
	};
	manifest_header_write(unit, node_id);
	assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
		manifest_write(unit, &manifest, &records[i], 1);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		if (i == 3)
			assert_memory_equal(&manifest.facts, &records[0].facts, sizeof(manifest.facts));
	}
	assert_int_equal(manifest.facts.watermark_ms, 78);
	assert_int_equal(manifest.facts.segment_max, 21);
	assert_int_equal(manifest.sealed_ranges, 2);
	assert_false(manifest_sealed(&manifest, 10));
	assert_true(manifest_sealed(&manifest, 31));
	/* A second state, a range that meets another, one beyond the highest, a segment of old whose file is not done with. */
	const struct manifest_record bad[] = {
		records[0],
		{.kind = MANIFEST_SEALED_RANGE, .file_id = 9, .file_id_end = 12},
		{.kind = MANIFEST_SEALED_RANGE, .file_id = 40, .file_id_end = 41},
		{.kind = MANIFEST_SEGMENT, .segment = {.sequence = 17, .file_id = 10}},
		{.kind = MANIFEST_ROLLUP, .rollup = {.sequence = 7, .from_segment = 1, .to_segment = 22}},
		{.kind = MANIFEST_ROLLUP, .rollup = {.sequence = 7, .class = 3, .from_segment = 1, .to_segment = 2}},
		{.kind = MANIFEST_ROLLUP_GONE, .rollup = {.sequence = 7}},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		manifest_write(unit, &manifest, &bad[i], 1);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), -EBADMSG);
	}
	manifest_fini(&manifest);
}

/* What an expired file had is gone, what was merged is not. */
static void test_gone(void **state)
{
	(void)state;
	struct manifest manifest = {0};
	uint8_t unit[MANIFEST_UNIT];
	manifest_header_write(unit, node_id);
	assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
	manifest.facts.rollup_max = 9;
	struct manifest_record record = {
		.kind = MANIFEST_ROLLUP_GONE,
		.rollup = {.sequence = 1, .class = MANIFEST_HOUR, .minute_min = 60, .minute_max = 600, .reason = MANIFEST_MERGED}};
	manifest_write(unit, &manifest, &record, 1);
	assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
	assert_int_equal(manifest.facts.minute_gone[MANIFEST_HOUR], 0);
	record.rollup.reason = MANIFEST_EXPIRED;
	manifest_write(unit, &manifest, &record, 1);
	assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
	assert_int_equal(manifest.facts.minute_gone[MANIFEST_HOUR], 660);
	assert_int_equal(manifest.facts.minute_gone[MANIFEST_MINUTE], 0);
	manifest_fini(&manifest);
}

/* ---- version 1: what its writer made ---- */

static void version_1_seal(uint8_t unit[MANIFEST_UNIT_V1])
{
	uint64_t checksum = XXH3_64bits(unit + 8, MANIFEST_UNIT_V1 - 8);
	memcpy(unit, &checksum, sizeof(checksum));
}

static void put(uint8_t *unit, uint32_t at, uint64_t value, uint32_t bytes)
{
	memcpy(unit + at, &value, bytes);
}

static void test_version_1(void **state)
{
	(void)state;
	uint8_t book[5 * MANIFEST_UNIT_V1] = {0};
	memcpy(book + 8, "tpmanif1", 8);
	put(book, 16, 1, 4);
	memcpy(book + 24, node_id, sizeof(node_id));
	version_1_seal(book);
	for (uint64_t n = 1; n < 5; n++) {
		uint8_t *unit = book + n * MANIFEST_UNIT_V1;
		put(unit, 8, n, 8);
		memcpy(unit + 16, unit - MANIFEST_UNIT_V1, 8);
		put(unit, 24, n == 3 ? 2 : n == 4 ? 3 : 1, 4); /* two segments, an empty log, the first segment retired */
		put(unit, 32, n == 3 ? 0 : n == 4 ? 1 : n, 8);
		put(unit, 40, n == 4 ? 0 : 10 + n, 8);
		if (n < 3) {
			put(unit, 48, 100 + n, 8);
			put(unit, 88, 5000 + n, 8);
			put(unit, 96, 6000 + n, 8);
			put(unit, 104, 4096, 8);
		}
		version_1_seal(unit);
	}
	for (uint64_t cut = MANIFEST_UNIT_V1; cut <= sizeof(book); cut++) {
		struct manifest manifest = {0};
		uint32_t count = 0;
		assert_int_equal(manifest_feed(&manifest, book, cut, count_record, &count), cut % MANIFEST_UNIT_V1 != 0);
		assert_int_equal(count, cut / MANIFEST_UNIT_V1 - 1);
		if (cut == sizeof(book)) {
			assert_int_equal(manifest.version, 1);
			assert_int_equal(manifest.facts.watermark_ms, 5002);
			assert_int_equal(manifest.facts.segment_max, 2);
			assert_true(manifest_sealed(&manifest, 11) && manifest_sealed(&manifest, 13));
		}
		manifest_fini(&manifest);
	}
	/* A later version: said so, not called damage. */
	struct manifest manifest = {0};
	uint8_t header[MANIFEST_UNIT];
	manifest_header_write(header, node_id);
	put(header, 16, MANIFEST_VERSION + 1, 4);
	uint64_t checksum = XXH3_64bits(header + 8, MANIFEST_UNIT - 8);
	memcpy(header, &checksum, sizeof(checksum));
	assert_int_equal(manifest_feed(&manifest, header, sizeof(header), NULL, NULL), -ENOTSUP);
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
		{.kind = 11},
		{.kind = MANIFEST_LOG_OPENED, .log = {.file_id = 7}}, /* done with */
		{.kind = MANIFEST_LOG_OPENED, .log = {.file_id = 9}}, /* twice */
		{.kind = MANIFEST_LOG_OPENED, .log = {.file_id = 0}},
		{.kind = MANIFEST_LOG_LEFT, .file_id = 8}, /* never made */
		{.kind = MANIFEST_LOG_LEFT, .file_id = 9, .left = (enum manifest_left)2},
		{.kind = MANIFEST_SEALED_RANGE, .file_id = 8, .file_id_end = 10},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct manifest manifest = {0};
		const struct manifest_record first = {.kind = MANIFEST_SEGMENT, .segment = {.sequence = 1, .file_id = 7}};
		uint8_t unit[MANIFEST_UNIT];
		manifest_header_write(unit, node_id);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		manifest_write(unit, &manifest, &first, 1);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		const struct manifest_record open = {.kind = MANIFEST_LOG_OPENED, .log = {.file_id = 9, .salt = 5}};
		manifest_write(unit, &manifest, &open, 1);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		manifest_write(unit, &manifest, &bad[i], 1);
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
			manifest_write(unit, &manifest, &record, 1);
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

/* A log file is waited for from its record on until it is done with, in whatever way. */
static void test_opened(void **state)
{
	(void)state;
	enum { IDS = 60 };
	for (unsigned seed = 1; seed < 10; seed++) {
		struct manifest manifest = {0};
		uint8_t unit[MANIFEST_UNIT];
		uint64_t salt[IDS + 1] = {0}, sequence = 0;
		bool done[IDS + 1] = {0};
		manifest_header_write(unit, node_id);
		assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
		unsigned random = seed;
		for (int i = 0; i < 4 * IDS; i++) {
			uint64_t id = 1 + (uint64_t)rand_r(&random) % IDS;
			struct manifest_record record = {0};
			if (done[id])
				continue;
			int how = salt[id] ? rand_r(&random) % 3 : 3;
			done[id] = how < 3;
			if (how == 0)
				record = (struct manifest_record){.kind = MANIFEST_LOG_EMPTY, .file_id = id};
			else if (how == 1)
				record = (struct manifest_record){
					.kind = MANIFEST_LOG_LEFT, .file_id = id, .left = MANIFEST_GIVEN_UP};
			else if (how == 2)
				record = (struct manifest_record){.kind = MANIFEST_SEGMENT,
								  .segment = {.sequence = ++sequence, .file_id = id}};
			else
				record = (struct manifest_record){.kind = MANIFEST_LOG_OPENED,
								  .log = {.file_id = id,
									  .salt = salt[id] = (uint64_t)rand_r(&random) + 1,
									  .bytes = 8192,
									  .shard = 3}};
			manifest_write(unit, &manifest, &record, 1);
			assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
			assert_true(manifest.facts.file_id_max >= id);
			uint32_t open = 0;
			for (uint64_t j = 1; j <= IDS; j++) {
				const struct manifest_log *log = manifest_opened(&manifest, j);
				assert_int_equal(log != NULL, salt[j] && !done[j]);
				assert_int_equal(manifest_sealed(&manifest, j), done[j]);
				if (!log)
					continue;
				open++;
				assert_true(log->file_id == j && log->salt == salt[j] && log->bytes == 8192 && log->shard == 3);
			}
			assert_int_equal(open, manifest.opens);
		}
		manifest_fini(&manifest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_torn),       cmocka_unit_test(test_flips),
		cmocka_unit_test(test_order),        cmocka_unit_test(test_impossible), cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_transactions), cmocka_unit_test(test_state),      cmocka_unit_test(test_gone),
		cmocka_unit_test(test_version_1),    cmocka_unit_test(test_opened),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
