/*
 * The columnar segment on its own, in memory: every record comes back byte for byte, in the promised orders; damage anywhere is seen;
 * one damaged footer costs nothing; archiving keeps everything; the rollup that follows from the rows is that of the live table. What
 * version 2 does in another way is run over files of both versions.
 */
#include "io_sim.h"
#include "segment_rows.h"
#include "segment_sample.h"
#include "segment_state.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* More than two blocks; fewer where each step costs more. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MANY = 66000 };
#else
enum { MANY = 140000 };
#endif

struct seen {
	uint64_t count, received_ms;
	uint8_t *found; /* by number */
	bool by_receipt;
	_Alignas(8) uint8_t before[TP_EVENT_BYTES_MAX];
};

static uint64_t number_of(const struct tp_event *event)
{
	struct tp_str text = tp_event_string(event, TP_EVENT_ID);
	char room[TP_ID_BYTES_MAX + 1] = {0};
	uint64_t n;
	if (!text.bytes)
		return event->id.lo - 1;
	memcpy(room, text.at, text.bytes);
	return sscanf(room, "event/%lu/", &n) == 1 ? n : UINT64_MAX;
}

static int compare(const struct tp_event *a, const struct tp_event *b, enum tp_string which)
{
	struct tp_str x = tp_event_string(a, which), y = tp_event_string(b, which);
	int c = memcmp(x.at, y.at, x.bytes < y.bytes ? x.bytes : y.bytes);
	return c ? c : (int)x.bytes - (int)y.bytes;
}

static int event_see(void *context, const struct tp_event *event)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct seen *seen = context;
	uint64_t n = number_of(event);
	assert_true(n < MANY && !seen->found[n]);
	const struct tp_event *expected = rich_event(room, n), *before = (const struct tp_event *)(const void *)seen->before;
	assert_int_equal(event->bytes, expected->bytes);
	if (memcmp(event, expected, event->bytes) != 0)
		for (uint32_t i = 0; i < event->bytes; i++)
			if (((const uint8_t *)event)[i] != room[i])
				fail_msg("event %lu differs at byte %u", n, i);
	if (seen->count && seen->by_receipt) {
		assert_true(event->received_ms >= before->received_ms);
	} else if (seen->count) {
		int c = compare(before, event, TP_ADVERTISER_ID);
		c = c ? c : compare(before, event, TP_CAMPAIGN_ID);
		c = c ? c : compare(before, event, TP_AD_ID);
		assert_true(c < 0 || (c == 0 && before->timestamp_ms <= event->timestamp_ms));
	}
	memcpy(seen->before, event, event->bytes);
	seen->found[n] = 1;
	seen->count++;
	return 0;
}

static void events_check(struct segment *segment, uint64_t count)
{
	for (int order = 0; order < 2; order++) {
		struct seen seen = {.by_receipt = order, .found = calloc(1, MANY)};
		assert_int_equal((order ? segment_events : segment_events_sorted)(segment, event_see, &seen), 0);
		assert_int_equal(seen.count, count);
		free(seen.found);
	}
}

static void test_round_trip(void **state)
{
	static const uint64_t counts[] = {0, 1, 2, 3, 17, 1000, MANY};
	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint64_t bytes;
		uint8_t *file = rich_segment(counts[i], NULL, 0, &bytes);
		struct segment segment;
		assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
		assert_int_equal(segment.version, sample_old_ids ? 2 : 3);
		assert_int_equal(segment.totals->rows, counts[i]);
		events_check(&segment, counts[i]);
		const struct manifest_segment facts = {.hash = XXH3_64bits(file, bytes)};
		assert_int_equal(segment_verify(&segment, &facts, SEGMENT_VERIFY_ALL), 0);
		segment_close(&segment);
		free(file);
	}
}

static int raw_see(void *context, const struct tp_event *event)
{
	uint64_t *n = context;
	assert_int_equal(event->bytes, 16 + *n % 6 * 8);
	assert_int_equal(((const uint8_t *)event)[15], (uint8_t)*n);
	++*n;
	return 0;
}

/* Records of later kinds, other modules' sections, and sections that nobody knows. */
static void test_sections(void **state)
{
	static uint8_t sessions[100000], odd[] = "x";
	const struct sto_extra extra[] = {{.kind = STO_SECTION_SESSIONS, .bytes = sessions, .length = sizeof(sessions)},
					  {.kind = 0x7777, .bytes = odd, .length = 1},
					  {.kind = STO_SECTION_DISTINCT, .bytes = odd, .length = 0}};
	const struct segment_build_options options = {.extra = extra, .extras = 3};
	uint64_t bytes, length, n = 0;
	const void *at;
	(void)state;
	for (size_t i = 0; i < sizeof(sessions); i++)
		sessions[i] = (uint8_t)(i / 100);
	uint8_t *file = rich_segment(50, &options, 30, &bytes);
	struct segment segment;
	assert_true(bytes < sizeof(sessions) / 2); /* it was worth compressing */
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	assert_int_equal(segment_section_read(&segment, STO_SECTION_SESSIONS, &at, &length), 0);
	assert_int_equal(length, sizeof(sessions));
	assert_memory_equal(at, sessions, length);
	assert_int_equal(segment_section_read(&segment, STO_SECTION_DISTINCT, &at, &length), 0);
	assert_int_equal(length, 0);
	assert_int_equal(segment_section_read(&segment, 0x7778, &at, &length), -ENOENT);
	assert_int_equal(segment_raw(&segment, raw_see, &n), 0);
	assert_int_equal(n, 30);
	events_check(&segment, 50);
	segment_close(&segment);
	free(file);
}

/* Any byte spoiled: the check says so; what is read is right or refused. Either footer alone is enough to read on. */
static void test_damage(void **state)
{
	enum { EVENTS = 40 };
	uint64_t bytes;
	uint32_t front = 0;
	(void)state;
	uint8_t *file = rich_segment(EVENTS, NULL, 3, &bytes);
	const struct manifest_segment facts = {.hash = XXH3_64bits(file, bytes)};
	for (uint64_t at = 0; at < bytes; at += 1) {
		struct segment segment;
		file[at] ^= 0x10;
		int rc = segment_take(&segment, file, bytes, 1);
		if (!rc) {
			front += segment.footer_damaged;
			assert_int_equal(segment_verify(&segment, &facts, SEGMENT_VERIFY_BYTES), -EBADMSG);
			/* Without the whole file's hash the parts' own checksums find it, too, unless it lies in the gaps between them. */
			struct seen seen = {.found = calloc(1, MANY)};
			rc = segment_events_sorted(&segment, event_see, &seen);
			assert_true(rc == -EBADMSG || (rc == 0 && seen.count == EVENTS));
			free(seen.found);
		}
		segment_close(&segment);
		file[at] ^= 0x10;
	}
	assert_true(front > 500); /* the footer behind and the tail */
	/* Both. */
	struct segment segment;
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	uint64_t behind = (uint64_t)((const uint8_t *)segment.footer - file);
	segment_close(&segment);
	file[behind + 20] ^= 1;
	file[sizeof(struct segment_header) + 20] ^= 1;
	assert_int_equal(segment_take(&segment, file, bytes, 1), -EBADMSG);
	segment_close(&segment);
	free(file);
}

/* A version that nobody knows yet is said to be that, not damage. */
static void test_version(void **state)
{
	uint64_t bytes;
	(void)state;
	uint8_t *file = rich_segment(3, NULL, 0, &bytes);
	struct segment_header *header = (struct segment_header *)(void *)file;
	struct segment segment;
	header->version = SEGMENT_VERSION + 1;
	assert_int_equal(segment_take(&segment, file, bytes, 1), -EBADMSG);
	header->checksum = XXH3_64bits(header, offsetof(struct segment_header, checksum));
	assert_int_equal(segment_take(&segment, file, bytes, 1), -ENOTSUP);
	free(file);
}

/* Ids that take no room to speak of: one after the other. */
static void test_counted_ids(void **state)
{
	enum { EVENTS = 3000 };
	static const uint8_t node_id[16] = "node";
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct segment_build *build = segment_build_new(NULL);
	const struct segment_build_options options = {
		.sequence = 1, .file_id = 2, .sealed_ms = 3, .node_id = node_id, .zstd_level = SEGMENT_ZSTD_LEVEL};
	struct buffer file = {0};
	struct segment segment;
	(void)state;
	for (uint64_t n = 0; n < EVENTS; n++) {
		struct tp_event *event = rich_event(room, 1);
		event->id = (struct tp_id){.hi = 0, .lo = n + 1};
		event->verdict = TP_ACCEPTED;
		tp_event_hashes(event, &event->fingerprint, &event->shard_hash);
		assert_int_equal(segment_build_event(build, event), 0);
	}
	assert_int_equal(segment_build_sort(build), 0);
	assert_int_equal(segment_build_file(build, &options, &file), 0);
	segment_build_free(build);
	assert_true(file.bytes < EVENTS * sizeof(struct tp_id));
	uint8_t *at = aligned_alloc(64, file.bytes);
	memcpy(at, file.at, file.bytes);
	assert_int_equal(segment_take(&segment, at, file.bytes, 1), 0);
	const struct manifest_segment facts = {.hash = XXH3_64bits(at, file.bytes)};
	assert_int_equal(segment_verify(&segment, &facts, SEGMENT_VERIFY_ALL), 0);
	const struct tp_event *event = rich_event(room, 1);
	const uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	for (uint64_t n = 0; n < 100; n++)
		assert_int_equal(segment_lookup(&segment, NULL, (struct tp_id){.lo = EVENTS + 1 + n}, minute, 5), STO_ABSENT);
	assert_int_equal(segment_lookup(&segment, NULL, (struct tp_id){.lo = EVENTS}, minute, 5), STO_OTHER);
	assert_int_equal(segment_lookup(&segment, NULL, (struct tp_id){.lo = EVENTS + 1}, minute, 5), STO_ABSENT);
	segment_close(&segment);
	free(at);
	buffer_fini(&file);
}

/* One row of the segment below: an id that others have too. */
static void copy_add(struct segment_build *build, const char *ad, uint64_t at_ms, uint8_t verdict, uint64_t fingerprint)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_parsed parsed;
	memset(&parsed, 0, sizeof(parsed));
	parsed.fixed.id = (struct tp_id){.hi = 5, .lo = 6};
	parsed.fixed.type = TP_CLICK;
	parsed.fixed.timestamp_ms = parsed.fixed.received_ms = at_ms;
	parsed.string[TP_CAMPAIGN_ID] = parsed.string[TP_ADVERTISER_ID] = (struct tp_str){"x", 1};
	parsed.string[TP_AD_ID] = (struct tp_str){ad, (uint16_t)strlen(ad)};
	tp_event_finish(&parsed);
	struct tp_event *event = (struct tp_event *)(void *)room;
	tp_event_encode(&parsed, event);
	event->verdict = verdict;
	event->fingerprint = fingerprint;
	assert_int_equal(segment_build_event(build, event), 0);
}

/* The id alone decides nothing: of its rows, the counted one of the asked minute answers, wherever it lies and whatever lies before. */
static void test_lookup_of_an_id_with_several_rows(void **state)
{
	static const uint8_t node_id[16] = "node";
	static const uint64_t minute = SAMPLE_MS / TP_MINUTE_MS;
	static const struct {
		uint64_t minute, fingerprint;
		int expected;
	} table[] = {
		{minute, 20, STO_SAME},      {minute, 10, STO_OTHER},      {minute, 40, STO_OTHER},      {minute, 60, STO_OTHER},
		{minute + 2, 40, STO_SAME},  {minute + 2, 20, STO_OTHER},  {minute + 2, 50, STO_OTHER},  {minute + 4, 60, STO_SAME},
		{minute + 4, 20, STO_OTHER}, {minute + 1, 20, STO_ABSENT}, {minute + 3, 60, STO_ABSENT},
	};
	struct segment_build *build = segment_build_new(NULL);
	struct segment_build_options options = {.sequence = 1,
						.file_id = 2,
						.sealed_ms = 3,
						.node_id = node_id,
						.zstd_level = SEGMENT_ZSTD_LEVEL,
						.old_ids = sample_old_ids};
	struct buffer file = {0};
	(void)state;
	copy_add(build, "a", SAMPLE_MS + 1, TP_CONFLICT, 10);
	copy_add(build, "b", SAMPLE_MS + 2, TP_ACCEPTED, 20);
	copy_add(build, "c", SAMPLE_MS + 2, TP_AMENDED, 30);
	copy_add(build, "d", SAMPLE_MS + 2 * TP_MINUTE_MS, TP_LATE, 40);
	copy_add(build, "e", SAMPLE_MS + 2 * TP_MINUTE_MS, TP_CONFLICT, 50);
	copy_add(build, "f", SAMPLE_MS + 4 * TP_MINUTE_MS, TP_ACCEPTED, 60);
	assert_int_equal(segment_build_sort(build), 0);
	assert_int_equal(segment_build_file(build, &options, &file), 0);
	segment_build_free(build);
	uint8_t *at = aligned_alloc(64, file.bytes);
	memcpy(at, file.at, file.bytes);
	for (int remembered = 0; remembered < 2; remembered++) {
		struct segment segment;
		struct segment_recalls recalls = {0};
		const struct tp_id id = {.hi = 5, .lo = 6};
		assert_int_equal(segment_take(&segment, at, file.bytes, 1), 0);
		for (int i = 0; remembered && !recalls.recall[0]; i++) {
			assert_true(i < 100);
			assert_int_equal(segment_lookup(&segment, &recalls, id, (uint32_t)minute, 20), STO_SAME);
		}
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			int found = segment_lookup(&segment, remembered ? &recalls : NULL, id, (uint32_t)table[i].minute,
						   table[i].fingerprint);
			if (found != table[i].expected)
				fail_msg("%s: minute +%lu, fingerprint %lu: expected %d, found %d",
					 remembered ? "from the table" : "from its rows", table[i].minute - minute,
					 table[i].fingerprint, table[i].expected, found);
		}
		segment_recalls_fini(&recalls);
		segment_close(&segment);
	}
	free(at);
	buffer_fini(&file);
}

static void test_lookup(void **state)
{
	enum { EVENTS = 3000 };
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	uint64_t bytes;
	struct segment_recalls recalls = {0};
	(void)state;
	uint8_t *file = rich_segment(EVENTS, NULL, 0, &bytes);
	for (uint64_t sequence = 1; sequence <= 2; sequence++) { /* the second one comes from what is remembered */
		struct segment segment;
		assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
		for (uint64_t n = 0; n < EVENTS; n++) {
			const struct tp_event *event = rich_event(room, n);
			uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
			bool counts = event->verdict == TP_ACCEPTED || event->verdict == TP_LATE;
			assert_int_equal(segment_lookup(&segment, &recalls, event->id, minute, event->fingerprint),
					 counts ? STO_SAME : STO_ABSENT);
			assert_int_equal(segment_lookup(&segment, &recalls, event->id, minute, ~event->fingerprint),
					 counts ? STO_OTHER : STO_ABSENT);
			assert_int_equal(segment_lookup(&segment, &recalls, event->id, minute + 1, event->fingerprint), STO_ABSENT);
			const struct tp_id other = {.hi = event->id.hi, .lo = event->id.lo ^ 1ULL << 50};
			assert_int_equal(segment_lookup(&segment, &recalls, other, minute, event->fingerprint), STO_ABSENT);
		}
		if (sequence == 1) {
			const struct tp_event *event = rich_event(room, 1);
			assert_int_equal(segment_lookup(&segment, NULL, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
							event->fingerprint),
					 STO_SAME);
		}
		segment_close(&segment);
	}
	/* One look-up a segment never makes a table; one after the other gets the same answers as from the table. */
	for (uint64_t n = 0; n < EVENTS; n += 37) {
		struct segment segment;
		struct segment_recalls one = {0};
		const struct tp_event *event = rich_event(room, n);
		uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
		bool counts = event->verdict == TP_ACCEPTED || event->verdict == TP_LATE;
		assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
		assert_int_equal(segment_lookup(&segment, &one, event->id, minute, event->fingerprint),
				 counts ? STO_SAME : STO_ABSENT);
		assert_int_equal(segment_lookup(&segment, &one, event->id, minute, ~event->fingerprint),
				 counts ? STO_OTHER : STO_ABSENT);
		assert_null(one.recall[0]);
		segment_recalls_fini(&one);
		segment_close(&segment);
	}
	/* More segments than are remembered. */
	for (uint64_t sequence = 1; sequence < 3 * SEGMENT_RECALLS; sequence++) {
		struct segment segment;
		assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
		segment.sequence = sequence;
		const struct tp_event *event = rich_event(room, 1);
		assert_int_equal(segment_lookup(&segment, &recalls, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
						event->fingerprint),
				 STO_SAME);
		segment_close(&segment);
	}
	segment_recalls_fini(&recalls);
	free(file);
}

/* The same id twice in one minute, counted both times: never sealed. As conflict or in another minute: fine. */
static void test_twice(void **state)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct segment_build *build = segment_build_new(NULL);
		struct tp_event *event = rich_event(room, 1);
		event->verdict = TP_ACCEPTED;
		assert_int_equal(segment_build_event(build, event), 0);
		event->verdict = how == 1 ? TP_CONFLICT : TP_LATE;
		event->timestamp_ms += how == 2 ? TP_MINUTE_MS : 0;
		assert_int_equal(segment_build_event(build, event), 0);
		assert_int_equal(segment_build_sort(build), how == 0 ? -EEXIST : 0);
		segment_build_free(build);
	}
}

static int into_table(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

static bool row_same(const struct tp_rollup_row *a, const char *a_heap, const struct tp_rollup_row *b, const char *b_heap)
{
	uint32_t strings = 0;
	for (int d = 0; d < TP_DIMENSIONS; d++)
		strings += a->string_bytes[d];
	return a->minute == b->minute && a->device == b->device && !memcmp(a->country, b->country, 2) &&
	       !memcmp(a->currency, b->currency, 3) && !memcmp(a->string_bytes, b->string_bytes, TP_DIMENSIONS) &&
	       !memcmp(a_heap + a->string_at, b_heap + b->string_at, strings) && !memcmp(&a->sums, &b->sums, sizeof(a->sums));
}

/* What follows from the rows is what the live table had, row by row; and a table that does not follow is kept as it is. */
static void test_rollup(void **state)
{
	enum { EVENTS = 2000, ROWS = 4096 };
	uint64_t bytes;
	(void)state;
	struct tp_rollup *table = aligned_alloc(64, (tp_rollup_bytes(ROWS, 1 << 20) + 63) / 64 * 64);
	tp_rollup_format(table, ROWS, 1 << 20);
	tp_rollup_reset(table, 2);
	uint8_t *file = rich_segment(EVENTS, NULL, 0, &bytes);
	struct segment segment;
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	assert_int_equal(segment_events(&segment, into_table, table), 0);
	const struct tp_rollup_row *rows;
	const char *heap;
	uint32_t count, table_count = atomic_load(&table->rows);
	assert_int_equal(segment_rollup(&segment, &rows, &count, &heap), 0);
	assert_int_equal(count, table_count);
	for (uint32_t i = 0; i < table_count; i++) {
		struct tp_rollup_row row;
		uint32_t same = 0;
		assert_true(tp_rollup_read(table, i, &row));
		for (uint32_t k = 0; k < count; k++)
			same += row_same(&row, tp_rollup_heap(table), &rows[k], heap);
		assert_int_equal(same, 1);
	}
	for (uint32_t k = 1; k < count; k++)
		assert_true(rows[k].minute >= rows[k - 1].minute);
	/* Kept in the file: the same rows but for one that was changed. */
	struct tp_rollup_row *changed = malloc(count * sizeof(*changed));
	memcpy(changed, rows, count * sizeof(*changed));
	changed[count / 2].sums.impressions += 5;
	const struct segment_build_options options = {.with_rollup = true, .rollup = changed, .rollup_rows = count, .heap = heap};
	uint64_t kept_bytes;
	uint8_t *kept_file = rich_segment(EVENTS, &options, 0, &kept_bytes);
	struct segment kept;
	const struct tp_rollup_row *kept_rows;
	const char *kept_heap;
	uint32_t kept_count;
	assert_int_equal(segment_take(&kept, kept_file, kept_bytes, 1), 0);
	assert_int_equal(segment_rollup(&kept, &kept_rows, &kept_count, &kept_heap), 0);
	assert_int_equal(kept_count, count);
	for (uint32_t k = 0; k < count; k++)
		assert_true(row_same(&changed[k], heap, &kept_rows[k], kept_heap));
	segment_close(&kept);
	segment_close(&segment);
	free(kept_file);
	free(changed);
	free(file);
	free(table);
}

static void test_archive(void **state)
{
	static const char *const path = "data/archived";
	static uint8_t sessions[1000] = "sessions";
	const struct sto_extra extra = {.kind = STO_SECTION_SESSIONS, .bytes = sessions, .length = sizeof(sessions)};
	uint8_t prev_sha256[32] = "before";
	const struct segment_build_options options = {.extra = &extra, .extras = 1, .prev_sha256 = prev_sha256};
	struct sim_disk *disk = sim_disk_new(4);
	const struct sto_io *io = sim_disk_io(disk);
	struct manifest_segment facts = {.sequence = 1, .file_id = 2, .rows = 20000};
	uint64_t bytes, length, n = 0;
	const void *at;
	(void)state;
	assert_true(io->mkdir(io, "data", 0755) >= 0);
	uint8_t *file = rich_segment(20000, &options, 9, &bytes);
	struct segment segment, archived;
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	segment.io = io;
	assert_int_equal(segment_archive(&segment, path, NULL, &facts), 0);
	assert_true(facts.bytes < bytes);
	assert_int_equal(segment_open(&archived, io, path, &facts), 0);
	assert_int_equal(segment_verify(&archived, &facts, SEGMENT_VERIFY_ALL), 0);
	assert_int_equal(archived.version, 3);
	assert_memory_equal(archived.header->prev_sha256, prev_sha256, 32);
	assert_memory_equal(archived.totals, segment.totals, sizeof(*segment.totals));
	events_check(&archived, 20000);
	assert_int_equal(segment_raw(&archived, raw_see, &n), 0);
	assert_int_equal(n, 9);
	assert_int_equal(segment_section_read(&archived, STO_SECTION_SESSIONS, &at, &length), 0);
	assert_memory_equal(at, sessions, sizeof(sessions));
	segment_close(&archived);
	segment.io = NULL;
	segment_close(&segment);
	free(file);
	sim_disk_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_sections),
		cmocka_unit_test(test_damage),     cmocka_unit_test(test_version),
		cmocka_unit_test(test_lookup),     cmocka_unit_test(test_lookup_of_an_id_with_several_rows),
		cmocka_unit_test(test_twice),      cmocka_unit_test(test_rollup),
		cmocka_unit_test(test_archive),    cmocka_unit_test(test_counted_ids),
	};
	const struct CMUnitTest old[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_archive),
		cmocka_unit_test(test_lookup_of_an_id_with_several_rows),
	};
	tp_log_level_set(TP_ERROR + 1);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	sample_old_ids = true;
	return failed + cmocka_run_group_tests_name("version 2", old, NULL, NULL);
}
