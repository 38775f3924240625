/*
 * Damaged log files: what is ignored, what is refused, and what the cleaning at start may take away. On the simulated disk.
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

enum { LOG_FILE_BYTES = 1 << 16 };

#define LOG_PATH    "data/log/0000000000000001.log"
#define SECOND_PATH "data/log/0000000000000002.log"

static const struct sto_store_options options = {.data_dir = "data", .log_file_bytes = LOG_FILE_BYTES, .preallocate = true};

struct seen {
	uint64_t next;
};

static int expect_next(void *context, const struct tp_event *event)
{
	struct seen *seen = context;
	assert_int_equal(sample_number(event), seen->next);
	seen->next++;
	return 0;
}

/* A disk with log file 1: `blocks` blocks of one event each; `ended`: with its end block. The writer just dies otherwise. */
static struct sim_disk *disk_with_log(int blocks, bool ended)
{
	struct sim_disk *disk = sim_disk_new(5);
	struct sto_store *store;
	struct sto_wal *wal;
	const struct sto_wal_options wal_options = {.shard = 2, .block_bytes_max = 8192, .writes_in_flight = 2};
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
	assert_int_equal(sto_wal_open(&wal, store, &wal_options), 0);
	for (int n = 0; n < blocks; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, (uint64_t)n);
		void *at = sto_wal_reserve(wal, event->bytes);
		memcpy(at, event, event->bytes);
		sto_wal_append(wal, event->bytes, 0);
		assert_int_equal(sto_wal_flush(wal, 0, 1000 + (uint64_t)n, true), 1);
		while (sto_wal_durable(wal) != sto_wal_appended(wal))
			assert_true(sto_wal_poll(wal) >= 0);
	}
	if (!ended)
		sim_crash_at(disk, sim_operations(disk));
	sto_wal_close(wal);
	sto_store_close(store);
	sim_restart(disk, SIM_POWER, 1);
	return disk;
}

static int scan(struct sim_disk *disk, struct sto_log_facts *facts, uint64_t *events)
{
	struct seen seen = {0};
	int rc = log_scan(sim_disk_io(disk), LOG_PATH, 1, true, expect_next, &seen, facts, NULL);
	*events = seen.next;
	return rc;
}

static void test_whole(void **state)
{
	(void)state;
	for (int ended = 0; ended < 2; ended++) {
		struct sim_disk *disk = disk_with_log(5, ended);
		struct sto_log_facts facts;
		uint64_t events;
		assert_int_equal(scan(disk, &facts, &events), 0);
		assert_int_equal(events, 5);
		assert_int_equal(facts.events, 5);
		assert_int_equal(facts.blocks, 5);
		assert_int_equal(facts.shard, 2);
		assert_int_equal(facts.watermark_ms, 1004);
		assert_int_equal(facts.tail_bytes_ignored, 0);
		sim_disk_free(disk);
	}
}

/* Every single bit of an ended file (a sample of them): never a wrong event, and never fewer than all without an error. */
static void test_flips_ended(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(4, true);
	uint64_t bytes, events, refused = 0;
	struct sto_log_facts facts;
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	for (uint64_t bit = 0; bit < 6 * 4096 * 8; bit += bit % 4096 < 1200 ? 7 : 101) {
		file[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int rc = scan(disk, &facts, &events);
		file[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(rc == -EBADMSG || (rc == 0 && events == 4));
		refused += rc != 0;
	}
	assert_true(refused > 100);
	sim_disk_free(disk);
}

/* Without an end block the last one may be lost (it was perhaps never written); those before are proven by what follows. */
static void test_flips_open(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(4, false);
	uint64_t bytes, events;
	struct sto_log_facts facts;
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	for (int block = 1; block <= 4; block++) {
		file[block * 4096 + 200] ^= 1;
		int rc = scan(disk, &facts, &events);
		file[block * 4096 + 200] ^= 1;
		if (block < 4) {
			assert_int_equal(rc, -EBADMSG);
		} else {
			assert_int_equal(rc, 0);
			assert_int_equal(events, 3);
			assert_int_equal(facts.tail_bytes_ignored, 4096);
		}
	}
	sim_disk_free(disk);
}

/* Blocks in the wrong place, twice, swapped, of another file. */
static void test_misplaced(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(4, false);
	uint64_t bytes, events;
	struct sto_log_facts facts;
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes), kept[LOG_FILE_BYTES];
	memcpy(kept, file, bytes);
	/* A write that went to the place behind: the block is missing where it belongs, and is no block where it lies. */
	memcpy(file + 5 * 4096, file + 4 * 4096, 4096);
	memset(file + 4 * 4096, 0, 4096);
	assert_int_equal(scan(disk, &facts, &events), 0);
	assert_int_equal(events, 3);
	memcpy(file, kept, bytes);
	/* … or over an acknowledged one. */
	memcpy(file + 2 * 4096, file + 4 * 4096, 4096);
	assert_int_equal(scan(disk, &facts, &events), -EBADMSG);
	memcpy(file, kept, bytes);
	/* … even when nothing else behind it tells: the misplaced block itself knows that the second one had been stable. */
	memcpy(file + 2 * 4096, file + 4 * 4096, 4096);
	memset(file + 3 * 4096, 0, 2 * 4096);
	assert_int_equal(scan(disk, &facts, &events), -EBADMSG);
	assert_int_equal(events, 1);
	memcpy(file, kept, bytes);
	/* A good copy of the last block behind it is not a fifth block. */
	memcpy(file + 5 * 4096, file + 4 * 4096, 4096);
	assert_int_equal(scan(disk, &facts, &events), 0);
	assert_int_equal(events, 4);
	assert_int_equal(facts.tail_bytes_ignored, 4096);
	memcpy(file, kept, bytes);
	/* The file under another id's name. */
	struct seen seen = {0};
	assert_int_equal(sim_file_put(disk, "data/log/0000000000000009.log", kept, bytes), 0);
	int rc = log_scan(sim_disk_io(disk), "data/log/0000000000000009.log", 9, true, expect_next, &seen, &facts, NULL);
	assert_int_equal(rc, -EBADMSG);
	assert_int_equal(seen.next, 0);
	sim_disk_free(disk);
}

/* Blocks of an earlier use of the same place, with the same id even: the salt tells them apart. */
static void test_stale(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(4, false), *other = sim_disk_new(77);
	struct sto_store *store;
	struct sto_wal *wal;
	const struct sto_wal_options wal_options = {.shard = 2, .block_bytes_max = 8192, .writes_in_flight = 2};
	assert_int_equal(store_open(&store, &options, sim_disk_io(other)), 0);
	assert_int_equal(sto_wal_open(&wal, store, &wal_options), 0);
	uint64_t bytes, other_bytes, events;
	const uint8_t *fresh = sim_file(other, LOG_PATH, &other_bytes);
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	memcpy(file, fresh, 4096);
	struct sto_log_facts facts;
	assert_int_equal(scan(disk, &facts, &events), 0);
	assert_int_equal(events, 0);
	assert_int_equal(facts.tail_bytes_ignored, 4 * 4096);
	sto_wal_close(wal);
	sto_store_close(store);
	sim_disk_free(other);
	sim_disk_free(disk);
}

/* Every read that the scan needs fails once: never fewer events, always the error. */
static void test_read_errors(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(4, false);
	struct sto_log_facts facts;
	uint64_t events, reads = sim_reads(disk);
	assert_int_equal(scan(disk, &facts, &events), 0);
	reads = sim_reads(disk) - reads;
	assert_true(reads >= 6);
	for (uint64_t at = 0; at < reads; at++) {
		sim_read_fault_at(disk, sim_reads(disk) + at, -EIO);
		assert_int_equal(scan(disk, &facts, &events), -EIO);
	}
	sim_disk_free(disk);
}

static void test_cut(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(4, false);
	uint64_t bytes, events;
	struct sto_log_facts facts;
	const uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	uint8_t kept[LOG_FILE_BYTES];
	memcpy(kept, file, bytes);
	for (uint64_t length = 4096; length < 7 * 4096; length += 1000) {
		assert_int_equal(sim_file_put(disk, LOG_PATH, kept, length), 0);
		assert_int_equal(scan(disk, &facts, &events), -EBADMSG);
	}
	assert_int_equal(sim_file_put(disk, LOG_PATH, kept, bytes), 0);
	assert_int_equal(scan(disk, &facts, &events), 0);
	sim_disk_free(disk);
}

/* The header is gone: of a file that was made that is damage; of one whose making was cut short it is nothing. */
static void test_no_file_block(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(2, false);
	uint64_t bytes, events;
	struct sto_log_facts facts;
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	file[30] ^= 1;
	assert_int_equal(scan(disk, &facts, &events), -EBADMSG);
	struct sto_store *store;
	uint64_t *ids;
	uint32_t count;
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), -EBADMSG);
	memset(file + 4096, 0, bytes - 4096);
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), -EBADMSG);
	assert_non_null(sim_file(disk, LOG_PATH, &bytes));
	file[30] ^= 1;

	/* Another one, of which no record tells: with blocks it stays, and whoever reads it is told. */
	uint8_t unfinished[3 * 4096];
	memcpy(unfinished, file, 4096);
	memset(unfinished + 4096, 1, sizeof(unfinished) - 4096);
	unfinished[30] ^= 1;
	assert_int_equal(sim_file_put(disk, SECOND_PATH, unfinished, sizeof(unfinished)), 0);
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
	assert_int_equal(sto_store_unsealed(store, &ids, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(ids[0], 2);
	assert_int_equal(sto_log_read(store, ids[0], NULL, NULL, NULL), -EBADMSG);
	struct tp_rollup *rollup = sample_rollup(2);
	assert_int_equal(sto_seal(store, 2, rollup, NULL), -EBADMSG);
	assert_int_equal(sto_log_delete(store, 2), -EINVAL);
	free(rollup);
	free(ids);
	sto_store_close(store);
	assert_non_null(sim_file(disk, SECOND_PATH, &bytes));

	assert_int_equal(sim_file_put(disk, SECOND_PATH, unfinished, 4096), 0);
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
	assert_int_equal(sto_store_unsealed(store, &ids, &count), 0);
	assert_int_equal(count, 0);
	assert_null(sim_file(disk, SECOND_PATH, &bytes));
	assert_true(store->next_file_id > 2); /* the id stays used */
	free(ids);
	sto_store_close(store);
	sim_disk_free(disk);
}

/* A block that was being written and never stable: nothing to tell, but the file is not thrown away at start either. */
static void test_torn_first_block(void **state)
{
	(void)state;
	struct sim_disk *disk = disk_with_log(1, false);
	uint64_t bytes;
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	file[4096 + 300] ^= 1;
	struct sto_store *store;
	uint64_t *ids;
	uint32_t count;
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
	assert_int_equal(sto_store_unsealed(store, &ids, &count), 0);
	assert_int_equal(count, 1);
	struct sto_log_facts facts;
	assert_int_equal(sto_log_read(store, 1, NULL, NULL, &facts), 0);
	assert_int_equal(facts.events, 0);
	assert_int_equal(facts.tail_bytes_ignored, 4096);
	struct tp_rollup *rollup = sample_rollup(1);
	assert_int_equal(sto_seal(store, 1, rollup, NULL), 0);
	assert_int_equal(sto_seal(store, 1, rollup, NULL), -EALREADY);
	assert_int_equal(sto_log_delete(store, 1), 0);
	assert_int_equal(store->view->segments, 0);
	free(rollup);
	free(ids);
	sto_store_close(store);
	sim_disk_free(disk);
}

/* Records that no writer of ours makes, under good checksums. */
static void test_foreign_records(void **state)
{
	(void)state;
	static const struct {
		uint32_t at;
		uint8_t value;
	} spoil[] = {{0, 7}, {7, TP_DUPLICATE}, {7, TP_UNDECIDED}, {7, 99}, {4, 77}, {81, 0xff}, {1, 0xff}};
	for (size_t i = 0; i < sizeof(spoil) / sizeof(spoil[0]); i++) {
		struct sim_disk *disk = disk_with_log(1, true);
		uint64_t bytes, events;
		struct sto_log_facts facts;
		uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
		file[4096 + LOG_HEADER_BYTES + spoil[i].at] = spoil[i].value;
		struct log_block *block = (struct log_block *)(void *)(file + 4096);
		_Alignas(8) uint8_t copy[4096];
		memcpy(copy, block, 4096);
		block->checksum = log_checksum((const struct log_block *)(const void *)copy);
		assert_int_equal(scan(disk, &facts, &events), -EBADMSG);
		assert_int_equal(events, 0);
		sim_disk_free(disk);
	}
}

/* A follower sees each block once it is whole, in steps of any size, and nothing of a file that another one has become. */
static void test_follow(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new(6);
	struct sto_store *store;
	struct sto_wal *wal;
	const struct sto_wal_options wal_options = {.shard = 2, .block_bytes_max = 8192, .writes_in_flight = 2};
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
	assert_int_equal(sto_wal_open(&wal, store, &wal_options), 0);
	struct sto_follow *follow;
	assert_int_equal(log_follow_open(&follow, sim_disk_io(disk), LOG_PATH, 1), 0);
	struct seen seen = {0};
	assert_int_equal(sto_follow_next(follow, expect_next, &seen), 0);
	for (uint64_t n = 0; n < 6; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, n);
		memcpy(sto_wal_reserve(wal, event->bytes), event, event->bytes);
		sto_wal_append(wal, event->bytes, 0);
		assert_int_equal(sto_wal_flush(wal, 0, 1000, true), 1);
		while (sto_wal_durable(wal) != sto_wal_appended(wal))
			assert_true(sto_wal_poll(wal) >= 0);
		if (n % 3 == 2)
			assert_int_equal(sto_follow_next(follow, expect_next, &seen), 3);
	}
	assert_int_equal(seen.next, 6);
	assert_int_equal(sto_follow_next(follow, expect_next, &seen), 0);
	sto_follow_close(follow);

	/* A block that is half there is not given, and given once it is whole. */
	uint64_t bytes;
	uint8_t *file = sim_file(disk, LOG_PATH, &bytes);
	file[4 * LOG_UNIT + 300] ^= 1;
	seen.next = 0;
	assert_int_equal(log_follow_open(&follow, sim_disk_io(disk), LOG_PATH, 1), 0);
	assert_int_equal(sto_follow_next(follow, expect_next, &seen), 3);
	file[4 * LOG_UNIT + 300] ^= 1;
	assert_int_equal(sto_follow_next(follow, expect_next, &seen), 3);
	sto_wal_close(wal);
	assert_int_equal(sto_follow_next(follow, expect_next, &seen), 0); /* the end block */
	sto_follow_close(follow);
	assert_int_equal(log_follow_open(&follow, sim_disk_io(disk), LOG_PATH, 7), 0); /* under another id there is nothing */
	assert_int_equal(sto_follow_next(follow, expect_next, &seen), 0);
	sto_follow_close(follow);
	sto_store_close(store);
	sim_disk_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_follow),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_flips_ended),
		cmocka_unit_test(test_flips_open),
		cmocka_unit_test(test_misplaced),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_read_errors),
		cmocka_unit_test(test_no_file_block),
		cmocka_unit_test(test_torn_first_block),
		cmocka_unit_test(test_foreign_records),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
