/*
 * Recycled log files, and the block that bears witness for the last one. On the simulated disk.
 */
#include "io_sim.h"
#include "log_format.h"
#include "log_read.h"
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/wal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LOG_FILE_BYTES = 1 << 16, WITNESS_NS_MAX = 1000000000 };

static const struct sto_store_options options = {.data_dir = "data", .log_file_bytes = LOG_FILE_BYTES, .preallocate = true};
static const struct sto_wal_options wal_options = {.shard = 2, .block_bytes_max = 8192, .writes_in_flight = 2};

struct bench {
	struct sim_disk *disk;
	struct sto_store *store;
	struct sto_wal *wal;
	uint64_t next; /* event */
	uint64_t now_ns;
};

static void bench_open(struct bench *bench, uint64_t seed)
{
	*bench = (struct bench){.disk = sim_disk_new(seed)};
	assert_int_equal(store_open(&bench->store, &options, sim_disk_io(bench->disk)), 0);
	assert_int_equal(sto_wal_open(&bench->wal, bench->store, &wal_options), 0);
}

static void bench_close(struct bench *bench)
{
	if (bench->wal)
		sto_wal_close(bench->wal);
	if (bench->store)
		sto_store_close(bench->store);
	sim_disk_free(bench->disk);
}

static void settle(struct bench *bench)
{
	while (sto_wal_durable(bench->wal) != sto_wal_appended(bench->wal) || sto_wal_busy(bench->wal)) {
		assert_true(sto_wal_flush(bench->wal, bench->now_ns, 1000, true) >= 0);
		assert_true(sto_wal_poll(bench->wal) >= 0);
	}
}

static void put(struct bench *bench)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	const struct tp_event *event = sample_event(room, bench->next++);
	void *at = sto_wal_reserve(bench->wal, event->bytes);
	assert_non_null(at);
	memcpy(at, event, event->bytes);
	sto_wal_append(bench->wal, event->bytes, bench->now_ns);
	settle(bench);
}

static int into_rollup(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

/* Fills the current file with `events`, moves on, and seals it. Returns its id. */
static uint64_t file_through(struct bench *bench, int events)
{
	if (sto_wal_spare_wanted(bench->wal))
		assert_int_equal(sto_wal_spare_give(bench->wal), 0);
	for (int i = 0; i < events; i++)
		put(bench);
	assert_int_equal(sto_wal_roll(bench->wal), 0);
	uint64_t id;
	while (!(id = sto_wal_finished_take(bench->wal)))
		assert_true(sto_wal_poll(bench->wal) >= 0);
	struct tp_rollup *rollup = sample_rollup(id);
	assert_int_equal(sto_log_read(bench->store, id, into_rollup, rollup, NULL), 0);
	assert_int_equal(sto_seal(bench->store, id, rollup, NULL), 0);
	assert_int_equal(sto_log_delete(bench->store, id), 0);
	free(rollup);
	return id;
}

static const struct log_block *file_block(struct bench *bench, uint64_t id, uint64_t block)
{
	char path[64];
	uint64_t bytes;
	snprintf(path, sizeof(path), "data/log/%016lx.log", id);
	const uint8_t *file = sim_file(bench->disk, path, &bytes);
	return file ? (const struct log_block *)(const void *)(file + block * LOG_UNIT) : NULL;
}

struct seen {
	uint64_t next, from;
};

static int expect_next(void *context, const struct tp_event *event)
{
	struct seen *seen = context;
	assert_int_equal(sample_number(event), seen->next);
	seen->next++;
	return 0;
}

/* Brings the bench to a current file that is recycled: file 1 was only reserved, 2 filled, 3 filled, 4 recycled from 2. */
static void to_recycled(struct bench *bench)
{
	assert_int_equal(file_through(bench, 5), 1);
	assert_int_equal(file_through(bench, 10), 2);
	assert_int_equal(sto_wal_file_id(bench->wal), 3);
	assert_int_equal(sto_wal_spare_give(bench->wal), 0);
	assert_int_equal(file_through(bench, 1), 3);
	assert_int_equal(sto_wal_file_id(bench->wal), 4);
}

static void test_recycled(void **state)
{
	(void)state;
	struct bench bench;
	bench_open(&bench, 1);
	to_recycled(&bench);
	assert_int_equal(file_block(&bench, 4, 0)->made, LOG_RECYCLED);
	assert_int_equal(file_block(&bench, 4, 0)->file_bytes, LOG_FILE_BYTES);
	assert_null(file_block(&bench, 2, 0));
	assert_null(file_block(&bench, 1, 0)); /* only reserved: not worth it */
	assert_int_equal(file_block(&bench, 4, 5)->file_id, 2);
	/* Whatever lies behind it, only what was written to file 4 is in file 4. */
	struct seen seen = {.next = bench.next};
	for (int events = 0; events <= 9; events++) {
		struct seen again = seen;
		struct sto_log_facts facts;
		assert_int_equal(sto_log_read(bench.store, 4, expect_next, &again, &facts), 0);
		assert_int_equal(again.next, bench.next);
		assert_int_equal(facts.events, events);
		assert_int_equal(facts.tail_bytes_ignored, 0);
		assert_int_equal(file_block(&bench, 4, 10)->file_id, 2);
		put(&bench);
	}
	bench_close(&bench);
}

/* A torn block in a recycled file: the old bytes in its place prove nothing; a later block of the new file does. */
static void test_recycled_damage(void **state)
{
	(void)state;
	struct bench bench;
	bench_open(&bench, 2);
	to_recycled(&bench);
	struct seen seen = {.next = bench.next};
	for (int i = 0; i < 4; i++)
		put(&bench);
	uint64_t bytes;
	uint8_t *file = sim_file(bench.disk, "data/log/0000000000000004.log", &bytes);
	struct sto_log_facts facts;
	file[4 * LOG_UNIT + 200] ^= 1; /* the last one */
	assert_int_equal(sto_log_read(bench.store, 4, NULL, NULL, &facts), 0);
	assert_int_equal(facts.events, 3);
	assert_int_equal(facts.tail_bytes_ignored, LOG_UNIT);
	file[4 * LOG_UNIT] ^= 1; /* with its header, even */
	file[4 * LOG_UNIT + 24] ^= 1;
	assert_int_equal(sto_log_read(bench.store, 4, NULL, NULL, &facts), 0);
	assert_int_equal(facts.tail_bytes_ignored, 0);
	file[3 * LOG_UNIT + 200] ^= 1; /* nobody is left to prove the third */
	assert_int_equal(sto_log_read(bench.store, 4, NULL, NULL, &facts), 0);
	file[4 * LOG_UNIT + 200] ^= 1;
	file[4 * LOG_UNIT + 24] ^= 1;
	file[4 * LOG_UNIT] ^= 1;
	assert_int_equal(sto_log_read(bench.store, 4, NULL, NULL, &facts), -EBADMSG);
	file[3 * LOG_UNIT + 200] ^= 1;
	/* The file block of its earlier life is damage under this name, for no crash leaves it so. */
	assert_int_equal(sto_log_read(bench.store, 4, expect_next, &seen, &facts), 0);
	uint8_t kept[LOG_UNIT];
	memcpy(kept, file, LOG_UNIT);
	file[24] = 2;
	assert_int_equal(sto_log_read(bench.store, 4, NULL, NULL, &facts), -EBADMSG);
	memcpy(file, kept, LOG_UNIT);
	bench_close(&bench);
}

/* Power lost at every operation of a recycling, every way the disk may come back: never a doubtful file, never a lost segment. */
static void test_crash_while_recycling(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		for (uint64_t at = 0;; at++) {
			struct bench bench;
			bench_open(&bench, seed);
			file_through(&bench, 5);
			file_through(&bench, 10);
			uint64_t begin = sim_operations(bench.disk), events = bench.next;
			sim_crash_at(bench.disk, begin + at);
			int rc = sto_wal_spare_give(bench.wal);
			bool over = rc == 0;
			sim_crash_at(bench.disk, 0);
			sto_wal_close(bench.wal);
			sto_store_close(bench.store);
			bench.wal = NULL;
			sim_restart(bench.disk, seed % 2 ? SIM_KILL : SIM_POWER, seed);
			assert_int_equal(store_open(&bench.store, &options, sim_disk_io(bench.disk)), 0);
			uint64_t *ids;
			uint32_t count;
			assert_int_equal(sto_store_unsealed(bench.store, &ids, &count), 0);
			assert_int_equal(count, 0);
			free(ids);
			uint64_t seen = 0;
			for (uint32_t i = 0; i < bench.store->view->segments; i++)
				seen += bench.store->view->segment[i]->facts.rows;
			assert_int_equal(seen, events);
			bench_close(&bench);
			if (over)
				break;
		}
	}
}

/* An id that stands in the way is not written over. */
static void test_name_taken(void **state)
{
	(void)state;
	struct bench bench;
	bench_open(&bench, 3);
	file_through(&bench, 5);
	file_through(&bench, 10);
	static const char foreign[LOG_UNIT] = "precious";
	char path[64];
	snprintf(path, sizeof(path), "data/log/%016lx.log", bench.store->next_file_id);
	assert_int_equal(sim_file_put(bench.disk, path, foreign, sizeof(foreign)), 0);
	assert_int_equal(sto_wal_spare_give(bench.wal), 0);
	uint64_t bytes;
	assert_memory_equal(sim_file(bench.disk, path, &bytes), foreign, sizeof(foreign));
	bench_close(&bench);
}

static void test_space_release(void **state)
{
	(void)state;
	struct bench bench;
	bench_open(&bench, 4);
	file_through(&bench, 5);
	file_through(&bench, 10);
	assert_non_null(file_block(&bench, 2, 0));
	assert_int_equal(sto_store_space_release(bench.store), 1);
	assert_int_equal(sto_store_space_release(bench.store), 0);
	assert_null(file_block(&bench, 2, 0));
	assert_int_equal(sto_wal_spare_give(bench.wal), 0);
	bench_close(&bench);
}

/* What the file block of the next spare says when it is asked for after `events`; the current file has room for 14. */
static uint32_t spare_made_after(struct bench *bench, int events)
{
	const uint64_t current = sto_wal_file_id(bench->wal);
	for (int i = 0; i < events; i++)
		put(bench);
	assert_int_equal(sto_wal_spare_give(bench->wal), 0);
	return file_block(bench, current + 1, 0)->made;
}

/* A shard that will soon need its spare does not wait for the zeros; with the next file all is as before. */
static void test_hurry(void **state)
{
	(void)state;
	struct bench bench;
	bench_open(&bench, 6);
	assert_int_equal(spare_made_after(&bench, 10), LOG_FILLED);
	bench_close(&bench);
	bench_open(&bench, 6);
	assert_int_equal(spare_made_after(&bench, 11), LOG_RESERVED);
	assert_int_equal(sto_wal_roll(bench.wal), 0);
	assert_int_equal(spare_made_after(&bench, 1), LOG_FILLED);
	bench_close(&bench);
}

/* A file that was only reserved is worth keeping once it has been written to its end, and not before. */
static void test_written(void **state)
{
	(void)state;
	for (int events = 11; events <= 12; events++) {
		struct bench bench;
		bench_open(&bench, 7);
		assert_int_equal(spare_made_after(&bench, 11), LOG_RESERVED);
		assert_int_equal(file_through(&bench, 0), 1);
		assert_int_equal(spare_made_after(&bench, 0), LOG_RECYCLED); /* file 3, of what was file 1 */
		assert_int_equal(file_through(&bench, events), 2);
		assert_int_equal(sto_wal_spare_give(bench.wal), 0);
		assert_int_equal(file_block(&bench, 4, 0)->made, events == 12 ? LOG_RECYCLED : LOG_FILLED);
		bench_close(&bench);
	}
}

/* Once the log has been quiet for a moment, damage to its last acknowledged block is told from a write that was never finished. */
static void test_witness(void **state)
{
	(void)state;
	struct bench bench;
	bench_open(&bench, 5);
	assert_int_equal(sto_wal_deadline_ns(bench.wal), UINT64_MAX);
	put(&bench);
	assert_int_equal(sto_wal_flush(bench.wal, bench.now_ns = 1000, 1000, false), 0);
	uint64_t due = sto_wal_deadline_ns(bench.wal), bytes;
	assert_true(due > 1000 && due < WITNESS_NS_MAX); /* a sleeping core wakes for it */
	assert_int_equal(sto_wal_flush(bench.wal, due - 1, 1000, false), 0);
	uint8_t *file = sim_file(bench.disk, "data/log/0000000000000001.log", &bytes);
	struct sto_log_facts facts;
	file[LOG_UNIT + 200] ^= 1;
	assert_int_equal(sto_log_read(bench.store, 1, NULL, NULL, &facts), 0); /* not to be known yet */
	assert_int_equal(facts.events, 0);
	file[LOG_UNIT + 200] ^= 1;
	bench.now_ns = due;
	assert_int_equal(sto_wal_flush(bench.wal, due, 1000, false), 1);
	settle(&bench);
	assert_int_equal(sto_wal_deadline_ns(bench.wal), UINT64_MAX); /* once is enough */
	assert_int_equal(sto_wal_flush(bench.wal, due + WITNESS_NS_MAX, 1000, false), 0);
	assert_int_equal(sto_log_read(bench.store, 1, NULL, NULL, &facts), 0);
	assert_int_equal(facts.events, 1);
	file[LOG_UNIT + 200] ^= 1;
	assert_int_equal(sto_log_read(bench.store, 1, NULL, NULL, &facts), -EBADMSG);
	file[LOG_UNIT + 200] ^= 1;
	/* Records go on behind it. */
	put(&bench);
	struct seen seen = {0};
	assert_int_equal(sto_log_read(bench.store, 1, expect_next, &seen, &facts), 0);
	assert_int_equal(facts.events, 2);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recycled),
		cmocka_unit_test(test_recycled_damage),
		cmocka_unit_test(test_crash_while_recycling),
		cmocka_unit_test(test_name_taken),
		cmocka_unit_test(test_space_release),
		cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_witness),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
