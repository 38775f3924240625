/*
 * Dead letters through log and segment: between events, alone in a file, after a crash, archived; events neither see them nor lose by
 * them, and a damaged one is told.
 */
#include "io_sim.h"
#include "log_format.h"
#include "log_read.h"
#include "reader_state.h"
#include "sample.h"
#include "turnpike/wal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LOG_FILE_BYTES = 1 << 20 };

struct bench {
	struct sim_disk *disk;
	struct sto_store *store;
	struct sto_wal *wal;
};

static void bench_open(struct bench *bench)
{
	const struct sto_store_options options = {.data_dir = "data", .log_file_bytes = LOG_FILE_BYTES};
	const struct sto_wal_options wal_options = {.block_bytes_max = 16384};
	assert_int_equal(store_open(&bench->store, &options, sim_disk_io(bench->disk)), 0);
	assert_int_equal(sto_wal_open(&bench->wal, bench->store, &wal_options), 0);
}

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	bench->disk = sim_disk_new(7);
	sim_clock_set(bench->disk, 1000);
	*state = bench;
	bench_open(bench);
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	sto_wal_close(bench->wal);
	sto_store_close(bench->store);
	sim_disk_free(bench->disk);
	free(bench);
	return 0;
}

/* Letter n: its number in its bytes, of every length that may be. */
static struct tp_dead_letter *letter_make(void *room, uint32_t n)
{
	struct tp_dead_letter *letter = room;
	uint32_t kept = n * 397 % (TP_DEAD_KEPT_BYTES_MAX + 1);
	memset(room, 0, TP_RECORD_BYTES_MAX);
	*letter = (struct tp_dead_letter){
		.bytes = tp_dead_letter_record_bytes(kept),
		.type = TP_RECORD_DEAD_LETTER,
		.reason = (uint8_t)(1 + n % (TP_REJECTS - 1)),
		.received_ms = n,
		.sent_bytes = kept,
		.kept_bytes = kept,
	};
	memset(letter + 1, (int)n, kept);
	return letter;
}

static void append(struct bench *bench, const void *record, uint32_t bytes)
{
	void *at;
	while (!(at = sto_wal_reserve(bench->wal, bytes))) {
		assert_true(sto_wal_flush(bench->wal, 1, SAMPLE_MS, true) >= 0);
		assert_true(sto_wal_poll(bench->wal) >= 0);
	}
	memcpy(at, record, bytes);
	sto_wal_append(bench->wal, bytes, 1);
}

/* Of every four records one is an event, if events are wanted. The rollup of these, to be freed. */
static struct tp_rollup *fill(struct bench *bench, uint32_t letters, bool events)
{
	_Alignas(8) uint8_t room[TP_RECORD_BYTES_MAX];
	struct tp_rollup *rollup = sample_rollup(sto_wal_file_id(bench->wal));
	for (uint32_t n = 0; n < letters; n++) {
		const struct tp_dead_letter *letter = letter_make(room, n);
		append(bench, letter, letter->bytes);
		if (events && n % 3 == 2) {
			const struct tp_event *event = sample_event(room, n / 3);
			append(bench, event, event->bytes);
			tp_rollup_add(rollup, event);
		}
	}
	while (sto_wal_durable(bench->wal) != sto_wal_appended(bench->wal)) {
		assert_true(sto_wal_flush(bench->wal, 1, SAMPLE_MS, true) >= 0);
		assert_true(sto_wal_poll(bench->wal) >= 0);
	}
	return rollup;
}

static uint64_t finish(struct bench *bench)
{
	uint64_t file_id;
	assert_int_equal(sto_wal_spare_give(bench->wal), 0);
	while (sto_wal_roll(bench->wal) == -EAGAIN)
		assert_true(sto_wal_poll(bench->wal) >= 0);
	while (!(file_id = sto_wal_finished_take(bench->wal)))
		assert_true(sto_wal_poll(bench->wal) >= 0);
	return file_id;
}

struct seen {
	uint32_t events, letters;
};

static int see_event(void *context, const struct tp_event *event)
{
	struct seen *seen = context;
	assert_int_equal(sample_number(event), seen->events);
	seen->events++;
	return 0;
}

static int see_letter(void *context, const struct tp_dead_letter *letter)
{
	_Alignas(8) uint8_t room[TP_RECORD_BYTES_MAX];
	struct seen *seen = context;
	assert_non_null(letter);
	assert_memory_equal(letter, letter_make(room, seen->letters), letter->bytes);
	seen->letters++;
	return 0;
}

static int see_other(void *context, const struct tp_event *record)
{
	return see_letter(context, tp_dead_letter_of(record));
}

static int count_event(void *context, const struct tp_event *event)
{
	assert_true(event->type < TP_EVENT_TYPES);
	++*(uint32_t *)context;
	return 0;
}

static void test_log(void **state)
{
	struct bench *bench = *state;
	const char *path = "data/log/0000000000000001.log";
	struct seen seen = {0};
	struct sto_log_facts facts;
	struct sto_follow *follow;
	free(fill(bench, 30, true));
	assert_int_equal(log_scan(sim_disk_io(bench->disk), path, 1, false, see_event, &seen, &facts, NULL), 0);
	assert_int_equal(seen.events, 10);
	assert_int_equal(seen.letters, 0);
	assert_int_equal(facts.events, 10);
	assert_int_equal(facts.others, 30);
	const struct sto_record_fns fns = {.event = see_event, .other = see_other, .context = &seen};
	seen = (struct seen){0};
	assert_int_equal(log_follow_open(&follow, sim_disk_io(bench->disk), path, 1), 0);
	assert_int_equal(sto_follow_records(follow, &fns), 40);
	assert_int_equal(sto_follow_records(follow, &fns), 0);
	sto_follow_close(follow);
	assert_int_equal(seen.events, 10);
	assert_int_equal(seen.letters, 30);
	seen = (struct seen){0};
	assert_int_equal(log_follow_open(&follow, sim_disk_io(bench->disk), path, 1), 0);
	assert_int_equal(sto_follow_next(follow, see_event, &seen), 10); /* who wants events sees no letter */
	sto_follow_close(follow);
}

/* A block that checks out with a letter in it that cannot be. */
static void test_damage(void **state)
{
	struct bench *bench = *state;
	const char *path = "data/log/0000000000000001.log";
	uint64_t bytes;
	free(fill(bench, 1, false));
	uint8_t *file = sim_file(bench->disk, path, &bytes);
	struct log_block *block = (struct log_block *)(void *)(file + LOG_UNIT);
	struct tp_dead_letter *letter = (struct tp_dead_letter *)(void *)(file + LOG_UNIT + LOG_HEADER_BYTES);
	const struct tp_dead_letter good = *letter;
	assert_int_equal(letter->type, TP_RECORD_DEAD_LETTER);
	for (int i = 0; i < 5; i++) {
		*letter = good;
		letter->reason = i == 0 ? TP_REJECTS : letter->reason;
		letter->type = i == 1 ? TP_RECORD_DEAD_LETTER + 1 : letter->type;
		letter->kept_bytes += i == 2;
		letter->reserved[0] = i == 3;
		block->checksum = log_checksum(block);
		assert_int_equal(log_scan(sim_disk_io(bench->disk), path, 1, false, NULL, NULL, NULL, NULL), i < 4 ? -EBADMSG : 0);
	}
}

static void reader_check(struct bench *bench, uint32_t letters, uint32_t events)
{
	struct sto_reader *reader;
	struct seen seen = {0};
	uint32_t rows = 0;
	assert_int_equal(reader_open(&reader, "data", sim_disk_io(bench->disk)), 0);
	assert_true(sto_reader_refresh(reader) >= 0);
	assert_int_equal(sto_reader_segments(reader), 1);
	assert_int_equal(sto_reader_dead_letters(reader, 0, see_letter, &seen), 0);
	assert_int_equal(seen.letters, letters);
	assert_int_equal(sto_reader_events(reader, 0, count_event, &rows), 0);
	assert_int_equal(rows, events);
	assert_int_equal(sto_reader_segment(reader, 0)->rows, events);
	sto_reader_close(reader);
}

static void sealed_and_archived(struct bench *bench, uint32_t letters, bool events)
{
	const struct sto_merge_options merge_now = {.now = true};
	struct tp_rollup *rollup = fill(bench, letters, events);
	uint64_t file_id = finish(bench), bytes;
	assert_int_equal(sto_seal(bench->store, file_id, rollup, NULL), 0);
	assert_int_equal(sto_log_delete(bench->store, file_id), 0);
	free(rollup);
	reader_check(bench, letters, events ? letters / 3 : 0);
	assert_true(sto_archive(bench->store, 1, NULL, &bytes) >= 0);
	reader_check(bench, letters, events ? letters / 3 : 0);
	while (sto_merge_step(bench->store, &merge_now) > 0)
		;
	assert_int_equal(sto_covered(bench->store), 1);
	reader_check(bench, letters, events ? letters / 3 : 0);
}

static void test_sealed_with_events(void **state)
{
	sealed_and_archived(*state, 90, true);
}

static void test_sealed_alone(void **state)
{
	sealed_and_archived(*state, 90, false);
}

/* Power fails; the next start finds them, as it finds events, and seals them. */
static void test_crash(void **state)
{
	struct bench *bench = *state;
	uint64_t *file_id;
	uint32_t count;
	struct seen seen = {0};
	struct sto_log_facts facts;
	struct tp_rollup *rollup = fill(bench, 60, true);
	sim_crash_at(bench->disk, sim_operations(bench->disk));
	sto_wal_close(bench->wal);
	sto_store_close(bench->store);
	sim_restart(bench->disk, SIM_POWER, 1);
	bench_open(bench);
	assert_int_equal(sto_store_unsealed(bench->store, &file_id, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(sto_log_read(bench->store, file_id[0], see_event, &seen, &facts), 0);
	assert_int_equal(seen.events, 20);
	assert_int_equal(facts.others, 60);
	assert_int_equal(sto_seal(bench->store, file_id[0], rollup, NULL), 0);
	free(file_id);
	free(rollup);
	reader_check(bench, 60, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sealed_with_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sealed_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
