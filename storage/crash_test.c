/*
 * Crashes at every operation of a short life of a data folder, on the simulated disk: process death, power loss, a disk that fails,
 * a disk that is full. After each one, and after a second crash in mid-recovery:
 *
 *   acknowledged ⊆ recovered ⊆ appended, in order, each once; recovering again finds the same.
 */
#include "crash_rig.h"
#include "turnpike/log.h"
#include "turnpike/reader.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* With the address sanitizer one seed takes as long as three without. */
#if defined(__SANITIZE_ADDRESS__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifdef SLOW
enum { SEEDS = 1 };
#else
enum { SEEDS = 3 };
#endif

enum { LIVES = 3 };

static void check(struct ledger *ledger, const char *where, uint64_t at, uint64_t seed)
{
	uint64_t lost = rig_lost(ledger);
	if (lost != UINT64_MAX)
		fail_msg("%s at %lu seed %lu: event %lu was acknowledged and is lost", where, at, seed, lost);
	for (uint64_t n = ledger->appended; n < EVENTS_MAX; n++)
		assert_false(ledger->found[n]);
}

static int event_add(void *context, const struct tp_event *event)
{
	struct tp_sums *sums = context;
	if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE)
		return 0;
	sums->late += event->verdict == TP_LATE;
	sums->impressions += event->type == TP_IMPRESSION;
	sums->conversions += event->type == TP_CONVERSION;
	sums->flagged_clicks += event->type == TP_CLICK && event->fraud;
	sums->clicks += event->type == TP_CLICK && !event->fraud;
	sums->spend_micros += event->type == TP_CLICK && !event->fraud ? event->bid_micros : 0;
	return 0;
}

static bool row_add(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct tp_sums *sums = context;
	(void)heap;
	sums->impressions += row->sums.impressions;
	sums->clicks += row->sums.clicks;
	sums->flagged_clicks += row->sums.flagged_clicks;
	sums->conversions += row->sums.conversions;
	sums->late += row->sums.late;
	sums->spend_micros += row->sums.spend_micros;
	return true;
}

/* Whatever became of rollup files on the way: their sums and those of the segments are the sums of the events. */
static void check_sums(struct sto_reader *reader)
{
	struct tp_sums expected = {0};
	for (uint32_t i = 0; i < sto_reader_segments(reader); i++)
		assert_int_equal(sto_reader_events(reader, i, event_add, &expected), 0);
	for (enum sto_grain grain = STO_MINUTES; grain <= STO_DAYS; grain++) {
		struct tp_sums found = {0};
		const struct sto_sums_query all = {.to_minute = UINT32_MAX, .grain = grain};
		assert_int_equal(sto_reader_sums(reader, &all, row_add, &found, NULL), 0);
		assert_memory_equal(&found, &expected, sizeof(found));
	}
}

static void on_fault(void *context, const char *path, const char *what)
{
	snprintf(context, 256, "%s: %s", path, what);
}

/* The reader sees just what the segments of the store hold. */
static void check_reader(struct sim_disk *disk, struct ledger *ledger)
{
	static struct ledger seen;
	struct sto_reader *reader;
	memset(&seen, 0, sizeof(seen));
	seen.appended = ledger->appended;
	assert_int_equal(reader_open(&reader, "var/data", sim_disk_io(disk)), 0);
	assert_true(sto_reader_refresh(reader) >= 0);
	for (uint32_t i = 0; i < sto_reader_segments(reader); i++) {
		seen.last = 0;
		assert_int_equal(sto_reader_events(reader, i, rig_event_found, &seen), 0);
		assert_true(sto_reader_sealed(reader, sto_reader_segment(reader, i)->file_id));
	}
	assert_memory_equal(seen.found, ledger->found, sizeof(seen.found));
	check_sums(reader);
	sto_reader_close(reader);
	char found[256];
	if (store_verify("var/data", on_fault, found, sim_disk_io(disk)))
		fail_msg("a folder that is whole has a fault: %s", found);
}

/* A life that ends before operation `at`, then recovery, crashed once itself, then whole. False: it ended before `at`. */
static bool story(uint64_t at, enum sim_end end, uint64_t seed)
{
	static struct ledger ledger, again;
	memset(&ledger, 0, sizeof(ledger));
	struct sim_disk *disk = sim_disk_new(seed);
	uint64_t random = sample_mix(seed * 1000003 + at);
	struct run run = {.disk = disk, .ledger = &ledger, .random = seed};
	sim_crash_at(disk, at);
	for (int i = 0; i < LIVES && !sim_crashed(disk); i++) {
		run.told = 0;
		run.now_ns = 0;
		int rc = rig_life(&run);
		if (rc && !sim_crashed(disk))
			fail_msg("life %d at %lu seed %lu: error %d", i, at, seed, rc);
		rig_life_end(&run);
		if (!sim_crashed(disk))
			sim_restart(disk, SIM_KILL, i), sim_crash_at(disk, at);
	}
	bool reached = sim_crashed(disk);
	sim_restart(disk, end, random);
	/* A process that died, another that goes on with what it finds, then the power. */
	if (end == SIM_KILL) {
		run.told = 0;
		int rc = rig_life(&run);
		if (rc)
			fail_msg("life after %lu: error %d", at, rc);
		rig_life_end(&run);
		sim_restart(disk, SIM_POWER, random + 3);
	}

	/* Recovery, interrupted at some operation by a power failure … */
	if (random % 2) {
		sim_crash_at(disk, sim_operations(disk) + random / 2 % 40);
		int rc = rig_look(disk, &ledger, true);
		if (rc && !sim_crashed(disk))
			fail_msg("first recovery at %lu seed %lu: error %d", at, seed, rc);
		bool whole = !sim_crashed(disk);
		if (whole)
			check(&ledger, "first recovery", at, seed);
		again = ledger;
		sim_restart(disk, SIM_POWER, random + 1);
		/* … what the first one told the world must be there after the second. */
		if (whole)
			memcpy(ledger.acknowledged, again.found, sizeof(ledger.acknowledged));
	}
	/* Looked at without sealing, the power fails, then sealed: the same each time. */
	if (rig_look(disk, &ledger, false))
		fail_msg("recovery at %lu seed %lu", at, seed);
	check(&ledger, "recovery", at, seed);
	again = ledger;
	sim_restart(disk, SIM_POWER, random + 2);
	if (rig_look(disk, &ledger, true))
		fail_msg("second recovery at %lu seed %lu", at, seed);
	if (memcmp(again.found, ledger.found, sizeof(again.found)) != 0)
		fail_msg("at %lu seed %lu: recovering twice is not recovering once", at, seed);
	check_reader(disk, &ledger);
	assert_false(ledger.broken);
	sim_disk_free(disk);
	return reached;
}

static void crash_everywhere(enum sim_end end)
{
	uint64_t points = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		for (uint64_t at = 0; story(at, end, seed); at++)
			points++;
	assert_true(points > SEEDS * 100);
}

static void test_kill(void **state)
{
	(void)state;
	crash_everywhere(SIM_KILL);
}

static void test_power(void **state)
{
	(void)state;
	crash_everywhere(SIM_POWER);
}

/* An error of the disk at every operation: the run ends or goes on, and nothing acknowledged is lost either way. */
static void fail_everywhere(int error)
{
	static struct ledger ledger;
	for (uint64_t at = 0;; at++) {
		memset(&ledger, 0, sizeof(ledger));
		struct sim_disk *disk = sim_disk_new(at);
		struct run run = {.disk = disk, .ledger = &ledger, .random = at};
		sim_fail_at(disk, at, error);
		int rc = rig_life(&run);
		rig_life_end(&run);
		bool reached = sim_operations(disk) > at;
		if (rc && !reached)
			fail_msg("at %lu: error %d out of nothing", at, rc);
		sim_restart(disk, SIM_POWER, at);
		rc = rig_look(disk, &ledger, true);
		if (rc)
			fail_msg("recovery after an error at %lu: %d", at, rc);
		check(&ledger, "disk error", at, 0);
		sim_disk_free(disk);
		if (!reached)
			break;
	}
}

static void test_error(void **state)
{
	(void)state;
	fail_everywhere(-EIO);
}

static void test_no_room_once(void **state)
{
	(void)state;
	fail_everywhere(-ENOSPC);
}

/* A full disk stops the taking of events, and room brings it back, in the same process. */
static void test_full_disk(void **state)
{
	(void)state;
	static struct ledger ledger;
	for (uint64_t seed = 0; seed < 40; seed++) {
		memset(&ledger, 0, sizeof(ledger));
		struct sim_disk *disk = sim_disk_new(seed);
		struct run run = {.disk = disk, .ledger = &ledger, .random = seed};
		const struct sto_store_options options = {
			.data_dir = "var/data", .log_file_bytes = RIG_LOG_FILE_BYTES, .preallocate = seed % 2};
		const struct sto_wal_options wal_options = {.shard = 1,
							    .commit_interval_ns = 1000,
							    .block_bytes_max = 8192,
							    .writes_in_flight = 3,
							    .reserve_bytes = 4096};
		assert_int_equal(store_open(&run.store, &options, sim_disk_io(disk)), 0);
		sim_space_set(disk, seed * 3000);
		int rc = sto_wal_open(&run.wal, run.store, &wal_options);
		assert_int_equal(rc, 0);
		bool was_full = sto_wal_no_space(run.wal);
		for (int i = 0; i < 400; i++) {
			if (i == 250)
				sim_space_set(disk, 1 << 30);
			rc = rig_append(&run);
			assert_true(rc == 0 || rc == -EAGAIN || rc == -ENOSPC);
			was_full |= sto_wal_no_space(run.wal);
			rc = sto_wal_flush(run.wal, run.now_ns += 200000000, SAMPLE_MS, true);
			assert_true(rc >= 0);
			rc = rig_housekeep(&run);
			assert_true(rc == 0 || rc == -ENOSPC);
		}
		assert_true(was_full);
		for (int i = 0; i < 100 && sto_wal_durable(run.wal) != sto_wal_appended(run.wal); i++) {
			assert_true(sto_wal_flush(run.wal, run.now_ns += 200000000, 0, true) >= 0);
			assert_int_equal(rig_completions(&run), 0);
		}
		assert_int_equal(sto_wal_durable(run.wal), sto_wal_appended(run.wal));
		assert_true(sto_wal_appended(run.wal) > 50);
		rig_life_end(&run);
		sim_restart(disk, SIM_POWER, seed);
		assert_int_equal(rig_look(disk, &ledger, true), 0);
		check(&ledger, "full disk", seed, seed);
		sim_disk_free(disk);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),         cmocka_unit_test(test_power),     cmocka_unit_test(test_error),
		cmocka_unit_test(test_no_room_once), cmocka_unit_test(test_full_disk),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
