/*
 * Log files that somebody takes away, empties, cuts or exchanges: a start is refused and names them, until they are back or given up.
 * What an older version left is read; a full disk and a backup are no loss. On the simulated disk.
 */
#include "io_sim.h"
#include "log_format.h"
#include "log_lost.h"
#include "manifest_format.h"
#include "sample.h"
#include "store_state.h"
#include "turnpike/backup.h"
#include "turnpike/log.h"
#include "turnpike/wal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LOG_FILE_BYTES = 1 << 16, EVENTS = 5 };

#define OPEN_LOG  "data/log/0000000000000001.log"
#define SPARE_LOG "data/log/0000000000000002.log"

static const struct sto_store_options options = {.data_dir = "data", .log_file_bytes = LOG_FILE_BYTES, .preallocate = true};
static const struct sto_wal_options wal_options = {.shard = 2, .block_bytes_max = 8192, .writes_in_flight = 2};

/* A node that was killed: file 1 has events, file 2 is a spare. */
static struct sim_disk *killed(uint64_t seed, bool grows)
{
	struct sim_disk *disk = sim_disk_new(seed);
	struct sto_store_options own = options;
	struct sto_store *store;
	struct sto_wal *wal;
	own.preallocate = !grows;
	assert_int_equal(store_open(&store, &own, sim_disk_io(disk)), 0);
	assert_int_equal(sto_wal_open(&wal, store, &wal_options), 0);
	assert_int_equal(sto_wal_spare_give(wal), 0);
	for (uint64_t n = 0; n < EVENTS; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, n);
		void *at = sto_wal_reserve(wal, event->bytes);
		memcpy(at, event, event->bytes);
		sto_wal_append(wal, event->bytes, 0);
		assert_int_equal(sto_wal_flush(wal, 0, 1000 + n, true), 1);
		while (sto_wal_durable(wal) != sto_wal_appended(wal))
			assert_true(sto_wal_poll(wal) >= 0);
	}
	sim_crash_at(disk, sim_operations(disk));
	sto_wal_close(wal);
	sto_store_close(store);
	sim_restart(disk, SIM_POWER, seed);
	return disk;
}

static int start(struct sim_disk *disk)
{
	struct sto_store *store;
	int rc = store_open(&store, &options, sim_disk_io(disk));
	if (!rc)
		sto_store_close(store);
	return rc;
}

/* Events that are found by a start. */
static uint64_t found(struct sim_disk *disk)
{
	struct sto_store *store;
	uint64_t *ids, events = 0;
	uint32_t count;
	assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
	assert_int_equal(sto_store_unsealed(store, &ids, &count), 0);
	for (uint32_t i = 0; i < count; i++) {
		struct sto_log_facts facts;
		assert_int_equal(sto_log_read(store, ids[i], NULL, NULL, &facts), 0);
		events += facts.events;
	}
	free(ids);
	sto_store_close(store);
	return events;
}

struct kept {
	uint8_t bytes[LOG_FILE_BYTES];
	uint64_t length;
};

static void keep(struct sim_disk *disk, const char *path, struct kept *kept)
{
	const uint8_t *file = sim_file(disk, path, &kept->length);
	assert_non_null(file);
	assert_true(kept->length <= sizeof(kept->bytes));
	memcpy(kept->bytes, file, kept->length);
}

static void put(struct sim_disk *disk, const char *path, const void *bytes, uint64_t length)
{
	assert_int_equal(sim_file_put(disk, path, bytes, length), 0);
}

struct told {
	uint32_t count;
	uint64_t file_id;
	uint32_t shard;
	char found[80];
};

static void on_lost(void *context, uint64_t file_id, uint32_t shard, const char *what)
{
	struct told *told = context;
	told->count++;
	told->file_id = file_id;
	told->shard = shard;
	snprintf(told->found, sizeof(told->found), "%s", what);
}

static void on_fault(void *context, const char *path, const char *what)
{
	(void)what;
	struct told *told = context;
	told->count++;
	snprintf(told->found, sizeof(told->found), "%s", path);
}

/* Refused, and named by the check and the list, with its shard. */
static void expect_lost(struct sim_disk *disk, uint64_t file_id, const char *what)
{
	const struct sto_io *io = sim_disk_io(disk);
	struct told told = {0}, verified = {0};
	char name[32];
	assert_int_equal(start(disk), -EBADMSG);
	assert_int_equal(start(disk), -EBADMSG); /* and the attempt changes nothing */
	assert_int_equal(logs_lost(io, "data", on_lost, &told), 1);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.file_id, file_id);
	assert_int_equal(told.shard, 2);
	assert_non_null(strstr(told.found, what));
	assert_true(store_verify("data", on_fault, &verified, io) >= 1);
	snprintf(name, sizeof(name), "%016lx.log", file_id);
	assert_non_null(strstr(verified.found, name));
}

static void test_taken_away(void **state)
{
	(void)state;
	for (int grows = 0; grows < 2; grows++) {
		struct sim_disk *disk = killed(1, grows);
		const struct sto_io *io = sim_disk_io(disk);
		struct kept open, spare;
		uint8_t zeros[LOG_FILE_BYTES] = {0};
		keep(disk, OPEN_LOG, &open);
		keep(disk, SPARE_LOG, &spare);
		assert_int_equal(logs_lost(io, "data", NULL, NULL), 0);
		assert_int_equal(io->unlink(io, OPEN_LOG), 0);
		expect_lost(disk, 1, "missing");
		put(disk, OPEN_LOG, open.bytes, 0);
		expect_lost(disk, 1, "first block");
		put(disk, OPEN_LOG, zeros, sizeof(zeros));
		expect_lost(disk, 1, "first block");
		put(disk, OPEN_LOG, spare.bytes, spare.length);
		expect_lost(disk, 1, "first block"); /* it names another file */
		put(disk, OPEN_LOG, open.bytes, open.length);
		/* A spare has no events, but who takes it away cannot know. */
		assert_int_equal(io->unlink(io, SPARE_LOG), 0);
		expect_lost(disk, 2, "missing");
		put(disk, SPARE_LOG, spare.bytes, spare.length);
		assert_int_equal(found(disk), EVENTS);
		assert_int_equal(found(disk), EVENTS); /* the spare is gone now, by us */
		sim_disk_free(disk);
	}
}

/* The same name, and a file that another node, or the same one in an earlier life, made under it. */
static void test_exchanged(void **state)
{
	(void)state;
	struct sim_disk *disk = killed(1, false), *other = killed(2, false);
	struct kept open;
	keep(other, OPEN_LOG, &open);
	put(disk, OPEN_LOG, open.bytes, open.length);
	expect_lost(disk, 1, "another file");
	sim_disk_free(disk);
	sim_disk_free(other);
}

/* Cut short anywhere: the store tells, or whoever reads the file is told. */
static void test_cut(void **state)
{
	(void)state;
	struct sim_disk *disk = killed(1, false);
	struct kept open;
	keep(disk, OPEN_LOG, &open);
	for (uint64_t length = 0; length < open.length; length += 1024) {
		put(disk, OPEN_LOG, open.bytes, length);
		if (length < LOG_UNIT) {
			expect_lost(disk, 1, "first block");
			continue;
		}
		struct sto_store *store;
		assert_int_equal(store_open(&store, &options, sim_disk_io(disk)), 0);
		assert_int_equal(sto_log_read(store, 1, NULL, NULL, NULL), -EBADMSG);
		sto_store_close(store);
	}
	sim_disk_free(disk);
}

static void test_give_up(void **state)
{
	(void)state;
	struct sim_disk *disk = killed(1, false);
	const struct sto_io *io = sim_disk_io(disk);
	assert_int_equal(log_give_up(io, "data", 1), -EEXIST);
	assert_int_equal(log_give_up(io, "data", 3), -EINVAL);
	assert_int_equal(io->unlink(io, OPEN_LOG), 0);
	assert_int_equal(log_give_up(io, "data", 1), 0);
	assert_int_equal(log_give_up(io, "data", 1), -EINVAL);
	assert_int_equal(store_verify("data", on_fault, &(struct told){0}, io), 0);
	struct sto_store *store;
	assert_int_equal(store_open(&store, &options, io), 0);
	assert_int_equal(log_give_up(io, "data", 2), -EBUSY);
	assert_true(store->next_file_id > 2);
	sto_store_close(store);
	assert_int_equal(found(disk), 0);
	sim_disk_free(disk);
}

/* The manifest as version 2 had it: without records of files that were made. */
static void to_version_2(struct sim_disk *disk)
{
	uint64_t bytes, sequence = 0, previous;
	uint8_t *file = sim_file(disk, "data/manifest", &bytes), *made = malloc(bytes);
	struct manifest_header_unit *header = (struct manifest_header_unit *)(void *)made;
	uint64_t length = MANIFEST_UNIT;
	memcpy(made, file, MANIFEST_UNIT);
	header->version = 2;
	previous = header->checksum = XXH3_64bits(made + 8, MANIFEST_UNIT - 8);
	for (uint64_t at = MANIFEST_UNIT; at < bytes; at += MANIFEST_UNIT) {
		struct manifest_record_unit *unit = (struct manifest_record_unit *)(void *)(made + length);
		memcpy(unit, file + at, MANIFEST_UNIT);
		if (unit->kind >= MANIFEST_LOG_OPENED)
			continue;
		unit->sequence = ++sequence;
		unit->previous = previous;
		previous = unit->checksum = XXH3_64bits((uint8_t *)unit + 8, MANIFEST_UNIT - 8);
		length += MANIFEST_UNIT;
	}
	put(disk, "data/manifest", made, length);
	free(made);
}

static void test_version_2(void **state)
{
	(void)state;
	struct sim_disk *disk = killed(1, false);
	const struct sto_io *io = sim_disk_io(disk);
	to_version_2(disk);
	assert_int_equal(logs_lost(io, "data", NULL, NULL), 0);
	assert_int_equal(store_verify("data", on_fault, &(struct told){0}, io), 0);
	/* That version could not know. */
	assert_int_equal(io->unlink(io, SPARE_LOG), 0);
	assert_int_equal(found(disk), EVENTS);
	/* What it left is on record from the first start on. */
	assert_int_equal(io->unlink(io, OPEN_LOG), 0);
	expect_lost(disk, 1, "missing");
	sim_disk_free(disk);
}

/* A version 2 manifest with a record of ours is no manifest of version 2. */
static void test_version_2_kinds(void **state)
{
	(void)state;
	struct sim_disk *disk = killed(1, false);
	uint64_t bytes;
	const struct manifest_record record = {.kind = MANIFEST_LOG_OPENED, .log = {.file_id = 4}};
	to_version_2(disk);
	uint8_t unit[MANIFEST_UNIT];
	struct manifest manifest = {0};
	assert_int_equal(manifest_feed(&manifest, sim_file(disk, "data/manifest", &bytes), MANIFEST_UNIT, NULL, NULL), 0);
	manifest.version = MANIFEST_VERSION;
	manifest_write(unit, &manifest, &record, 1);
	manifest.version = 2;
	assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 1);
	manifest.version = MANIFEST_VERSION;
	assert_int_equal(manifest_feed(&manifest, unit, sizeof(unit), NULL, NULL), 0);
	manifest_fini(&manifest);
	sim_disk_free(disk);
}

/* Written anew, the manifest still knows the open files. */
static void test_compacted(void **state)
{
	(void)state;
	struct sim_disk *disk = killed(1, false);
	const struct sto_io *io = sim_disk_io(disk);
	struct sto_store *store;
	assert_int_equal(store_open(&store, &options, io), 0);
	for (int i = 0; i < 50; i++) {
		struct manifest_record record = {.kind = MANIFEST_LOG_EMPTY, .file_id = store_file_id_take(store)};
		assert_int_equal(store_commit(store, &record, 1), 0);
	}
	store->compact_records_min = 10;
	assert_int_equal(store_manifest_compact(store), 1);
	assert_int_equal(store->manifest.opens, 1);
	assert_int_equal(store->manifest.open[0].shard, 2);
	sto_store_close(store);
	assert_int_equal(found(disk), EVENTS);
	assert_int_equal(io->unlink(io, OPEN_LOG), 0);
	expect_lost(disk, 1, "missing");
	sim_disk_free(disk);
}

/*
 * No room to put the spare's end on record: it must not be missing then, and gives its room back all the same. Power lost at every
 * operation, ever so little room: the next start is never refused.
 */
static void test_full_disk(void **state)
{
	(void)state;
	uint32_t shrunk = 0;
	for (uint64_t seed = 0; seed < 24; seed++) {
		uint64_t room = seed % 3 * MANIFEST_UNIT;
		for (uint64_t at = 0;; at++) {
			struct sim_disk *disk = killed(1, false);
			struct sto_store *store = NULL;
			uint64_t begin = sim_operations(disk), bytes;
			sim_space_set(disk, sim_space_used(disk) + room);
			sim_crash_at(disk, begin + at);
			int rc = store_open(&store, &options, sim_disk_io(disk));
			bool over = !sim_crashed(disk);
			assert_true(!rc || !over);
			if (!rc)
				sto_store_close(store);
			sim_restart(disk, SIM_POWER, seed);
			shrunk += sim_file(disk, SPARE_LOG, &bytes) && bytes == 2 * LOG_UNIT;
			assert_int_equal(start(disk), 0); /* as full as before */
			sim_space_set(disk, 1 << 30);
			assert_int_equal(found(disk), EVENTS);
			sim_disk_free(disk);
			if (over)
				break;
		}
	}
	assert_true(shrunk > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_away), cmocka_unit_test(test_exchanged), cmocka_unit_test(test_cut),
		cmocka_unit_test(test_give_up),    cmocka_unit_test(test_version_2), cmocka_unit_test(test_version_2_kinds),
		cmocka_unit_test(test_compacted),  cmocka_unit_test(test_full_disk),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
