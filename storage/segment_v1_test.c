/*
 * Segments of version 1: this test has the writer that nothing else has any more. They are read like new ones, damage is seen, and
 * archiving makes them version 3.
 */
#include "io_sim.h"
#include "segment_sample.h"
#include "segment_v1.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { EVENTS = 200 };

static void align(struct buffer *file)
{
	buffer_zeros(file, -file->bytes % SEGMENT_ALIGN);
}

static void part_end(const struct buffer *file, struct segment_v1_place *place, uint64_t count)
{
	place->bytes = file->bytes - place->offset;
	place->count = count;
	place->checksum = XXH3_64bits(file->at + place->offset, place->bytes);
}

static int entry_compare(const void *left, const void *right)
{
	const struct segment_v1_index_entry *a = left, *b = right;
	if (a->id.hi != b->id.hi)
		return a->id.hi < b->id.hi ? -1 : 1;
	return a->id.lo < b->id.lo ? -1 : a->id.lo > b->id.lo;
}

/* Rich events [0, EVENTS) as a file of version 1. Amendments came after it, so they are accepted ones here. */
static struct tp_event *old_event(void *to, uint64_t n)
{
	struct tp_event *event = rich_event(to, n);
	if (event->verdict == TP_AMENDED)
		event->verdict = TP_ACCEPTED;
	return event;
}

static uint8_t *v1_write(uint64_t *bytes)
{
	static struct segment_v1_index_entry entry[EVENTS];
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct segment_v1_footer footer;
	struct buffer file = {0};
	struct segment_header header = {.magic = SEGMENT_MAGIC, .version = 1, .sequence = 1, .file_id = 2, .sealed_ms = 3};
	uint64_t entries = 0;
	struct tp_rollup *table = aligned_alloc(64, (tp_rollup_bytes(4096, 1 << 20) + 63) / 64 * 64);
	tp_rollup_format(table, 4096, 1 << 20);
	tp_rollup_reset(table, 2);
	memset(&footer, 0, sizeof(footer));
	segment_totals_init(&footer.totals);
	header.checksum = XXH3_64bits(&header, offsetof(struct segment_header, checksum));
	buffer_put(&file, &header, SEGMENT_HEADER_V1_BYTES);
	footer.part[SEGMENT_V1_ROWS].offset = file.bytes;
	for (uint64_t n = 0; n < EVENTS; n++) {
		const struct tp_event *event = old_event(room, n);
		if (event->verdict != TP_CONFLICT)
			entry[entries++] =
				(struct segment_v1_index_entry){.id = event->id,
								.fingerprint = event->fingerprint,
								.minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
								.row_at = file.bytes - footer.part[SEGMENT_V1_ROWS].offset};
		segment_totals_add(&footer.totals, event);
		tp_rollup_add(table, event);
		buffer_put(&file, event, event->bytes);
	}
	part_end(&file, &footer.part[SEGMENT_V1_ROWS], EVENTS);
	align(&file);
	qsort(entry, entries, sizeof(entry[0]), entry_compare);
	footer.id_first = entry[0].id.hi;
	footer.id_last = entry[entries - 1].id.hi;
	footer.part[SEGMENT_V1_INDEX].offset = file.bytes;
	buffer_put(&file, entry, entries * sizeof(entry[0]));
	part_end(&file, &footer.part[SEGMENT_V1_INDEX], entries);
	align(&file);
	/* By minute is enough for the reader: its rows are few, and few minutes. */
	uint32_t count = atomic_load(&table->rows), heap_bytes = 0;
	struct buffer heap = {0};
	footer.part[SEGMENT_V1_ROLLUP].offset = file.bytes;
	for (uint32_t minute = footer.totals.minute_min; minute <= footer.totals.minute_max; minute++)
		for (uint32_t i = 0; i < count; i++) {
			struct tp_rollup_row row;
			uint32_t strings = 0;
			assert_true(tp_rollup_read(table, i, &row));
			if (row.minute != minute)
				continue;
			for (int d = 0; d < TP_DIMENSIONS; d++)
				strings += row.string_bytes[d];
			buffer_put(&heap, tp_rollup_heap(table) + row.string_at, strings);
			row.string_at = heap_bytes;
			heap_bytes += strings;
			atomic_store(&row.version, 0);
			buffer_put(&file, &row, sizeof(row));
		}
	part_end(&file, &footer.part[SEGMENT_V1_ROLLUP], count);
	align(&file);
	footer.part[SEGMENT_V1_HEAP].offset = file.bytes;
	buffer_put(&file, heap.at, heap.bytes);
	part_end(&file, &footer.part[SEGMENT_V1_HEAP], heap.bytes);
	align(&file);
	footer.bytes = sizeof(footer);
	footer.version = 1;
	footer.magic = SEGMENT_MAGIC_END;
	footer.checksum = XXH3_64bits(&footer, offsetof(struct segment_v1_footer, checksum));
	buffer_put(&file, &footer, sizeof(footer));
	uint8_t *made = aligned_alloc(64, (file.bytes + 63) / 64 * 64);
	memcpy(made, file.at, *bytes = file.bytes);
	buffer_fini(&file);
	buffer_fini(&heap);
	free(table);
	return made;
}

static int event_next(void *context, const struct tp_event *event)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	uint64_t *n = context;
	const struct tp_event *expected = old_event(room, *n);
	assert_int_equal(event->bytes, expected->bytes);
	assert_memory_equal(event, expected, event->bytes);
	++*n;
	return 0;
}

static void lookups_check(struct segment *segment)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct segment_recalls recalls = {0};
	for (uint64_t n = 0; n < EVENTS; n++) {
		const struct tp_event *event = old_event(room, n);
		uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
		bool counts = event->verdict != TP_CONFLICT;
		assert_int_equal(segment_lookup(segment, &recalls, event->id, minute, event->fingerprint),
				 counts ? STO_SAME : STO_ABSENT);
		assert_int_equal(segment_lookup(segment, &recalls, event->id, minute, ~event->fingerprint),
				 counts ? STO_OTHER : STO_ABSENT);
		assert_int_equal(segment_lookup(segment, &recalls, event->id, minute + 1, event->fingerprint), STO_ABSENT);
	}
	segment_recalls_fini(&recalls);
}

static int event_count(void *context, const struct tp_event *event)
{
	uint64_t *bytes = context;
	*bytes += event->bytes;
	return 0;
}

static void test_read(void **state)
{
	uint64_t bytes, n = 0;
	const struct tp_rollup_row *rows;
	const char *heap;
	const void *at;
	uint32_t count;
	struct segment segment;
	(void)state;
	uint8_t *file = v1_write(&bytes);
	const struct manifest_segment facts = {.hash = XXH3_64bits(file, bytes)};
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	assert_int_equal(segment.version, 1);
	assert_int_equal(segment.totals->rows, EVENTS);
	assert_int_equal(segment_events(&segment, event_next, &n), 0);
	assert_int_equal(n, EVENTS);
	lookups_check(&segment);
	assert_int_equal(segment_rollup(&segment, &rows, &count, &heap), 0);
	assert_true(count > 0);
	assert_int_equal(segment_section_read(&segment, STO_SECTION_SESSIONS, &at, &n), -ENOENT);
	assert_int_equal(segment_verify(&segment, &facts, SEGMENT_VERIFY_ALL), 0);
	segment_close(&segment);
	/* Any byte spoiled: refused by the check; what reads, reads right. */
	for (uint64_t i = 0; i < bytes; i += 17) {
		file[i] ^= 4;
		int rc = segment_take(&segment, file, bytes, 1);
		if (!rc) {
			assert_int_equal(segment_verify(&segment, &facts, SEGMENT_VERIFY_ALL), -EBADMSG);
			n = 0;
			rc = segment_events(&segment, event_next, &n);
			assert_true(rc == -EBADMSG || (rc == 0 && n == EVENTS));
		}
		segment_close(&segment);
		file[i] ^= 4;
	}
	free(file);
}

static void test_archive(void **state)
{
	struct sim_disk *disk = sim_disk_new(4);
	const struct sto_io *io = sim_disk_io(disk);
	struct manifest_segment facts = {.sequence = 1, .file_id = 2, .rows = EVENTS};
	struct segment segment, archived;
	uint64_t bytes, before = 0, after = 0;
	const struct tp_rollup_row *rows[2];
	const char *heap[2];
	uint32_t count[2];
	(void)state;
	assert_true(io->mkdir(io, "data", 0755) >= 0);
	uint8_t *file = v1_write(&bytes);
	assert_int_equal(segment_take(&segment, file, bytes, 1), 0);
	segment.io = io;
	assert_int_equal(segment_archive(&segment, "data/1", NULL, &facts), 0);
	assert_int_equal(segment_open(&archived, io, "data/1", &facts), 0);
	assert_int_equal(archived.version, 3);
	assert_int_equal(segment_verify(&archived, &facts, SEGMENT_VERIFY_ALL), 0);
	assert_memory_equal(archived.totals, segment.totals, sizeof(*segment.totals));
	assert_int_equal(segment_events(&segment, event_count, &before), 0);
	assert_int_equal(segment_events(&archived, event_count, &after), 0);
	assert_int_equal(before, after);
	lookups_check(&archived);
	assert_int_equal(segment_rollup(&segment, &rows[0], &count[0], &heap[0]), 0);
	assert_int_equal(segment_rollup(&archived, &rows[1], &count[1], &heap[1]), 0);
	assert_int_equal(count[0], count[1]);
	segment_close(&archived);
	segment.io = NULL;
	segment_close(&segment);
	free(file);
	sim_disk_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_archive)};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
