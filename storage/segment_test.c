/*
 * Segments and the store around them: round trip, look-ups, cross-check of the sums, damage, retention, the reader of another
 * process, and what a start clears away. On the simulated disk.
 */
#include "io_sim.h"
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/reader.h"
#include "turnpike/wal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LOG_FILE_BYTES = 1 << 18 };

static const struct sto_store_options options = {.data_dir = "data", .log_file_bytes = LOG_FILE_BYTES, .preallocate = true};

struct bench {
	struct sim_disk *disk;
	struct sto_store *store;
	struct sto_wal *wal;
};

static int setup(void **state)
{
	static struct bench bench;
	const struct sto_wal_options wal_options = {.shard = 4, .block_bytes_max = 16384};
	bench = (struct bench){.disk = sim_disk_new(9)};
	assert_int_equal(store_open(&bench.store, &options, sim_disk_io(bench.disk)), 0);
	assert_int_equal(sto_wal_open(&bench.wal, bench.store, &wal_options), 0);
	*state = &bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	sto_wal_close(bench->wal);
	sto_store_close(bench->store);
	sim_disk_free(bench->disk);
	return 0;
}

static void reopen(struct bench *bench, int expected)
{
	sto_wal_close(bench->wal);
	sto_store_close(bench->store);
	bench->wal = NULL;
	bench->store = NULL;
	sim_restart(bench->disk, SIM_POWER, 3);
	assert_int_equal(store_open(&bench->store, &options, sim_disk_io(bench->disk)), expected);
}

/* Events [from, to) as one finished log file, and their sums. Returns its id. */
static uint64_t log_file(struct bench *bench, uint64_t from, uint64_t to, struct tp_rollup **rollup)
{
	struct sto_wal *wal = bench->wal;
	uint64_t id = sto_wal_file_id(wal);
	*rollup = sample_rollup(id);
	for (uint64_t n = from; n < to; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, n);
		void *at;
		while (!(at = sto_wal_reserve(wal, event->bytes)))
			assert_true(sto_wal_poll(wal) >= 0);
		memcpy(at, event, event->bytes);
		sto_wal_append(wal, event->bytes, 0);
		tp_rollup_add(*rollup, event);
	}
	assert_true(sto_wal_flush(wal, 0, 5000000 + to, true) >= 0);
	assert_int_equal(sto_wal_spare_give(wal), 0);
	while (sto_wal_roll(wal) == -EAGAIN)
		assert_true(sto_wal_poll(wal) >= 0);
	uint64_t done;
	while (!(done = sto_wal_finished_take(wal)))
		assert_true(sto_wal_poll(wal) >= 0);
	assert_int_equal(done, id);
	return id;
}

static void sealed(struct bench *bench, uint64_t from, uint64_t to)
{
	struct tp_rollup *rollup;
	uint64_t id = log_file(bench, from, to, &rollup);
	assert_int_equal(sto_seal(bench->store, id, rollup, NULL), 0);
	assert_int_equal(sto_log_delete(bench->store, id), 0);
	free(rollup);
}

static int expect_next(void *context, const struct tp_event *event)
{
	uint64_t *next = context;
	assert_int_equal(sample_number(event), *next);
	++*next;
	return 0;
}

static int count_id(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	uint32_t *count = context;
	const struct tp_event *event = sample_event(room, id.lo - 1);
	assert_int_equal(event->fingerprint, fingerprint);
	assert_int_equal(event->timestamp_ms / TP_MINUTE_MS, minute);
	++*count;
	return 0;
}

static void test_round_trip(void **state)
{
	struct bench *bench = *state;
	sim_clock_set(bench->disk, 777);
	assert_int_equal(sto_segments_watermark(bench->store), 0);
	sealed(bench, 0, 300);
	sealed(bench, 300, 500);
	assert_int_equal(sto_segments_watermark(bench->store), 5000500);
	uint64_t next = 0;
	assert_int_equal(sto_segments_events(bench->store, 0, expect_next, &next), 0);
	assert_int_equal(next, 500);
	uint32_t ids = 0, counted = 0;
	for (uint64_t n = 0; n < 500; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, n);
		uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
		bool counts = event->verdict != TP_CONFLICT;
		counted += counts;
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute, event->fingerprint),
				 counts ? STO_SAME : STO_ABSENT);
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute, event->fingerprint + 1),
				 counts ? STO_OTHER : STO_ABSENT);
		/* The id alone is not enough: under another minute it is another event. */
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute + 1, event->fingerprint), STO_ABSENT);
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute - 1, event->fingerprint), STO_ABSENT);
		const struct tp_id other = {.hi = event->id.hi, .lo = event->id.lo + 5000};
		assert_int_equal(sto_segments_lookup(bench->store, other, minute, event->fingerprint), STO_ABSENT);
	}
	assert_int_equal(sto_segments_ids(bench->store, 0, count_id, &ids), 0);
	assert_int_equal(ids, counted);
	ids = 0;
	assert_int_equal(sto_segments_ids(bench->store, UINT32_MAX, count_id, &ids), 0);
	assert_int_equal(ids, 0);
	/* All of it again after a power loss. */
	reopen(bench, 0);
	next = 0;
	assert_int_equal(sto_segments_events(bench->store, 0, expect_next, &next), 0);
	assert_int_equal(next, 500);
	assert_int_equal(sto_segments_watermark(bench->store), 5000500);
}

/* Beyond the horizon an id counts once in each minute: the same id, many times in one segment. */
static void test_one_id_many_minutes(void **state)
{
	struct bench *bench = *state;
	enum { MINUTES = 30 };
	uint64_t file_id = sto_wal_file_id(bench->wal), done;
	struct tp_rollup *rollup = sample_rollup(file_id);
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = sample_event(room, 1);
	uint32_t minute = (uint32_t)(event->timestamp_ms / TP_MINUTE_MS);
	for (uint32_t i = 0; i < MINUTES; i++) {
		uint32_t shuffled = i * 7 % MINUTES;
		event->timestamp_ms = (uint64_t)(minute + 2 * shuffled) * TP_MINUTE_MS;
		event->fingerprint = shuffled;
		memcpy(sto_wal_reserve(bench->wal, event->bytes), event, event->bytes);
		sto_wal_append(bench->wal, event->bytes, 0);
		tp_rollup_add(rollup, event);
	}
	assert_int_equal(sto_wal_finish(bench->wal), 0);
	while (!(done = sto_wal_finished_take(bench->wal)))
		assert_true(sto_wal_poll(bench->wal) >= 0);
	assert_int_equal(sto_seal(bench->store, done, rollup, NULL), 0);
	for (uint32_t i = 0; i < MINUTES; i++) {
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute + 2 * i, i), STO_SAME);
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute + 2 * i, i + 1), STO_OTHER);
		assert_int_equal(sto_segments_lookup(bench->store, event->id, minute + 2 * i + 1, i), STO_ABSENT);
	}
	free(rollup);
}

/* The reader of another process, refreshed as segments come and go. */
static void test_reader(void **state)
{
	struct bench *bench = *state;
	struct sto_reader *reader;
	assert_int_equal(reader_open(&reader, "nowhere", sim_disk_io(bench->disk)), 0);
	assert_int_equal(sto_reader_refresh(reader), 0);
	assert_int_equal(sto_reader_segments(reader), 0);
	sto_reader_close(reader);

	assert_int_equal(reader_open(&reader, "data", sim_disk_io(bench->disk)), 0);
	assert_int_equal(sto_reader_refresh(reader), 0);
	uint64_t first = sto_wal_file_id(bench->wal);
	assert_false(sto_reader_sealed(reader, first));
	sim_clock_set(bench->disk, 1000);
	sealed(bench, 0, 200);
	assert_false(sto_reader_sealed(reader, first)); /* a view of one moment */
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_refresh(reader), 0);
	assert_true(sto_reader_sealed(reader, first));
	assert_int_equal(sto_reader_segments(reader), 1);
	const struct sto_segment_info *info = sto_reader_segment(reader, 0);
	assert_int_equal(info->rows, 200);
	assert_int_equal(info->file_id, first);
	assert_int_equal(info->sealed_ms, 1000);
	assert_int_equal(info->watermark_ms, 5000200);
	uint64_t next = 0;
	assert_int_equal(sto_reader_events(reader, 0, expect_next, &next), 0);
	assert_int_equal(next, 200);

	/* The rollup says what the events say, sorted by minute, with its strings. */
	const struct tp_rollup_row *rows;
	const char *heap;
	uint32_t count;
	assert_int_equal(sto_reader_rollup(reader, 0, &rows, &count, &heap), 0);
	struct tp_sums expected = {0}, sum = {0};
	uint64_t late = 0, low = UINT64_MAX, high = 0;
	for (uint64_t n = 0; n < 200; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, n);
		if (event->verdict == TP_CONFLICT)
			continue;
		low = event->timestamp_ms < low ? event->timestamp_ms : low;
		high = event->timestamp_ms > high ? event->timestamp_ms : high;
		late += event->verdict == TP_LATE;
		expected.impressions += event->type == TP_IMPRESSION;
		expected.conversions += event->type == TP_CONVERSION;
		expected.flagged_clicks += event->type == TP_CLICK && event->fraud;
		expected.clicks += event->type == TP_CLICK && !event->fraud;
		expected.spend_micros += event->type == TP_CLICK && !event->fraud ? event->bid_micros : 0;
	}
	assert_int_equal(info->from_ms, low);
	assert_int_equal(info->to_ms, high + 1);
	assert_int_equal(info->late, late);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(i == 0 || rows[i].minute >= rows[i - 1].minute);
		sum.impressions += rows[i].sums.impressions;
		sum.clicks += rows[i].sums.clicks;
		sum.flagged_clicks += rows[i].sums.flagged_clicks;
		sum.conversions += rows[i].sums.conversions;
		sum.spend_micros += rows[i].sums.spend_micros;
		struct tp_str text = tp_rollup_string(&rows[i], heap, TP_DIM_ADVERTISER);
		assert_int_equal(text.bytes, 3);
		assert_memory_equal(text.at, "adv", 3);
		text = tp_rollup_string(&rows[i], heap, TP_DIM_AD);
		assert_memory_equal(text.at, "ad-", 3);
	}
	expected.late = sum.late = 0;
	assert_memory_equal(&sum, &expected, sizeof(sum));

	/* Retention: what the reader holds stays readable until it refreshes; a newer segment stays. */
	sim_clock_set(bench->disk, 2000);
	sealed(bench, 200, 250);
	struct sto_retention keep = {.raw_ms = 500};
	struct sto_retained retained;
	const struct sto_merge_options now = {.now = true};
	/* Not before its sums are in rollup files, and not before its time. */
	assert_int_equal(sto_retain(bench->store, &keep, 1500, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_RAW], 0);
	assert_int_equal(sto_merge_step(bench->store, &now), 1);
	assert_int_equal(sto_retain(bench->store, &keep, 1499, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_RAW], 0);
	assert_int_equal(sto_retain(bench->store, &keep, 1500, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_RAW], 1);
	assert_true(retained.bytes[STO_RETAIN_RAW] > 0);
	next = 0;
	assert_int_equal(sto_reader_events(reader, 0, expect_next, &next), 0);
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_segments(reader), 1);
	assert_true(sto_reader_sealed(reader, first)); /* also when retired since */
	assert_int_equal(sto_reader_watermark(reader), 5000250);
	next = 200;
	assert_int_equal(sto_reader_events(reader, 0, expect_next, &next), 0);
	assert_int_equal(next, 250);
	keep.raw_ms = 0;
	assert_int_equal(sto_retain(bench->store, &keep, 2000, &retained), 0);
	assert_int_equal(retained.files[STO_RETAIN_RAW], 1);
	assert_int_equal(sto_segments_watermark(bench->store), 5000250); /* time does not go back */
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_int_equal(sto_reader_segments(reader), 0);
	sto_reader_close(reader);
	reopen(bench, 0);
	assert_int_equal(reader_open(&reader, "data", sim_disk_io(bench->disk)), 0);
	assert_int_equal(sto_segments_watermark(bench->store), 5000250);
	next = 0;
	assert_int_equal(sto_segments_events(bench->store, 0, expect_next, &next), 0);
	assert_int_equal(next, 0);

	/* The folder was restored under the reader: it begins anew. */
	assert_int_equal(sto_reader_refresh(reader), 1);
	uint64_t bytes;
	uint8_t *manifest = sim_file(bench->disk, "data/manifest", &bytes), kept[MANIFEST_UNIT];
	memcpy(kept, manifest, sizeof(kept));
	assert_int_equal(sim_disk_io(bench->disk)->unlink(sim_disk_io(bench->disk), "data/manifest"), 0);
	assert_int_equal(sto_reader_refresh(reader), 0);
	assert_int_equal(sim_file_put(bench->disk, "data/manifest", kept, sizeof(kept)), 0);
	assert_int_equal(sto_reader_refresh(reader), 1);
	assert_false(sto_reader_sealed(reader, first));
	sto_reader_close(reader);
}

/* The hashes in the files are those of the manifest, which are those of the files. */
static void test_chain(void **state)
{
	struct bench *bench = *state;
	uint8_t previous[32] = {0};
	for (uint64_t s = 0; s < 3; s++)
		sealed(bench, s * 50, s * 50 + 50);
	for (uint32_t s = 0; s < 3; s++) {
		struct store_segment *segment = bench->store->view->segment[s];
		char path[STORE_PATH_BYTES];
		uint8_t sha256[32];
		assert_int_equal(folder_segment_path(path, "data", segment->facts.sequence, 0), 0);
		assert_int_equal(file_sha256(sim_disk_io(bench->disk), path, sha256), 0);
		assert_memory_equal(segment->facts.sha256, sha256, 32);
		assert_memory_equal(segment->facts.prev_sha256, previous, 32);
		assert_int_equal(store_segment_use(bench->store, bench->store->view, segment), 0);
		assert_memory_equal(segment->file.header->prev_sha256, previous, 32);
		memcpy(previous, sha256, 32);
	}
}

/* Sums of another way through the code that do not agree: nothing is published. */
static void test_disagreement(void **state)
{
	struct bench *bench = *state;
	for (int fault = 0; fault < 4; fault++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		struct tp_rollup *rollup;
		uint64_t id = log_file(bench, 0, 100, &rollup);
		struct tp_rollup_row *row = (struct tp_rollup_row *)(uintptr_t)tp_rollup_rows(rollup);
		if (fault == 0)
			row->sums.spend_micros++;
		else if (fault == 1)
			tp_rollup_add(rollup, sample_event(room, 1000));
		else if (fault == 2)
			row->sums.impressions--;
		else
			atomic_store(&rollup->file_id, id + 1);
		assert_int_equal(sto_seal(bench->store, id, rollup, NULL), -EBADMSG);
		assert_int_equal(bench->store->view->segments, 0);
		assert_int_equal(sto_log_delete(bench->store, id), -EINVAL);
		free(rollup);
	}
	/* A log that lost its end since it was acknowledged. */
	struct tp_rollup *rollup;
	uint64_t bytes, id = log_file(bench, 2, 4, &rollup); /* the last is a conflict: no sum misses it */
	char path[STORE_PATH_BYTES];
	assert_int_equal(folder_log_path(path, "data", id), 0);
	uint8_t *file = sim_file(bench->disk, path, &bytes);
	memset(file + 8192, 0, bytes - 8192);
	assert_int_equal(sto_seal(bench->store, id, rollup, NULL), -EBADMSG);
	free(rollup);
	/* A file that a writer still has. */
	rollup = sample_rollup(sto_wal_file_id(bench->wal));
	assert_int_equal(sto_seal(bench->store, sto_wal_file_id(bench->wal), rollup, NULL), -EINVAL);
	free(rollup);
}

static void on_fault(void *context, const char *path, const char *what)
{
	(void)what;
	snprintf(context, 256, "%s", path);
}

/* Every byte of a segment and of the manifest, spoiled: the check names the file; readers refuse or are right. */
static void test_damage(void **state)
{
	struct bench *bench = *state;
	sealed(bench, 0, 40);
	reopen(bench, 0);
	sto_store_close(bench->store);
	bench->store = NULL;
	const struct sto_io *io = sim_disk_io(bench->disk);
	static const char *const names[] = {"data/segments/0000000000000001.seg", "data/manifest", "data/node"};
	char found[256];
	assert_int_equal(store_verify("data", on_fault, found, io), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t bytes;
		uint8_t *file = sim_file(bench->disk, names[i], &bytes);
		/* The manifest's last record, of an empty log file, may be taken for one that was never synced: nothing hangs on it. */
		uint64_t end = i == 1 ? bytes - MANIFEST_UNIT : bytes;
		for (uint64_t at = 0; at < end; at += i == 0 ? 3 : 1) {
			file[at] ^= 0x10;
			found[0] = 0;
			int rc = store_verify("data", on_fault, found, io);
			if (rc < 1 || strcmp(found, names[i]) != 0)
				fail_msg("%s byte %lu: %d faults, \"%s\"", names[i], at, rc, found);
			struct sto_reader *reader;
			uint64_t next = 0;
			assert_int_equal(reader_open(&reader, "data", io), 0);
			rc = sto_reader_refresh(reader);
			if (rc >= 0 && sto_reader_segments(reader)) {
				rc = sto_reader_events(reader, 0, expect_next, &next);
				assert_true(rc == -EBADMSG || (rc == 0 && next == 40));
			}
			sto_reader_close(reader);
			file[at] ^= 0x10;
		}
	}
	assert_int_equal(store_verify("data", on_fault, found, io), 0);
	/* Cut short. A segment whose log file is gone shows that the manifest had a record of it. */
	for (size_t i = 0; i < 2; i++) {
		uint64_t bytes;
		const uint8_t *file = sim_file(bench->disk, names[i], &bytes);
		uint8_t *kept = malloc(bytes);
		memcpy(kept, file, bytes);
		uint64_t end = i == 1 ? bytes - MANIFEST_UNIT : bytes;
		for (uint64_t length = 0; length < end; length += 61) {
			assert_int_equal(sim_file_put(bench->disk, names[i], kept, length), 0);
			assert_true(store_verify("data", on_fault, found, io) >= 1);
			assert_string_equal(found, names[i]);
		}
		assert_int_equal(sim_file_put(bench->disk, names[i], kept, bytes), 0);
		free(kept);
	}
	assert_int_equal(store_verify("data", on_fault, found, io), 0);
}

/* What a start does with what it finds beside the manifest. */
static void test_leftovers(void **state)
{
	struct bench *bench = *state;
	sealed(bench, 0, 40);
	struct tp_rollup *rollup;
	uint64_t bytes, unsealed = log_file(bench, 40, 60, &rollup);
	free(rollup);
	assert_int_equal(sim_file_put(bench->disk, "data/segments/0000000000000002.tmp", "x", 1), 0);
	assert_int_equal(sim_file_put(bench->disk, "data/log/notes.txt", "x", 1), 0);
	reopen(bench, 0);
	assert_null(sim_file(bench->disk, "data/segments/0000000000000002.tmp", &bytes));
	assert_non_null(sim_file(bench->disk, "data/log/notes.txt", &bytes)); /* not ours */
	uint64_t *ids;
	uint32_t count;
	assert_int_equal(sto_store_unsealed(bench->store, &ids, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(ids[0], unsealed);
	free(ids);

	/* The manifest's last record is damaged, its log is gone: its segment must not be taken for a stray one. */
	uint8_t *manifest = sim_file(bench->disk, "data/manifest", &bytes);
	assert_true(bytes > 2 * MANIFEST_UNIT);
	uint8_t *kept = malloc(bytes);
	memcpy(kept, manifest, bytes);
	uint64_t kept_bytes = bytes;
	uint8_t spoiled[2 * MANIFEST_UNIT];
	memcpy(spoiled, manifest, sizeof(spoiled));
	spoiled[MANIFEST_UNIT + 60] ^= 1;
	assert_int_equal(sim_file_put(bench->disk, "data/manifest", spoiled, sizeof(spoiled)), 0);
	reopen(bench, -EBADMSG);
	assert_non_null(sim_file(bench->disk, "data/segments/0000000000000001.seg", &bytes));
	sim_file(bench->disk, "data/manifest", &bytes);
	assert_int_equal(bytes, 2 * MANIFEST_UNIT); /* nothing was cut off */

	/* Without a manifest, a node file, or a published segment: refused, and nothing is touched. */
	const struct sto_io *io = sim_disk_io(bench->disk);
	assert_int_equal(io->unlink(io, "data/manifest"), 0);
	reopen(bench, -EBADMSG);
	assert_int_equal(sim_file_put(bench->disk, "data/manifest", kept, kept_bytes), 0);
	reopen(bench, 0);
	uint8_t node[256];
	const uint8_t *node_file = sim_file(bench->disk, "data/node", &bytes);
	uint64_t node_bytes = bytes;
	memcpy(node, node_file, bytes);
	assert_int_equal(io->unlink(io, "data/node"), 0);
	reopen(bench, -EBADMSG);
	assert_int_equal(sim_file_put(bench->disk, "data/node", node, node_bytes), 0);
	reopen(bench, 0);
	assert_int_equal(io->unlink(io, "data/segments/0000000000000001.seg"), 0);
	reopen(bench, -EBADMSG);
	free(kept);
}

/* Segments that hold conflicts only, and an empty log file. */
static void test_nothing_counted(void **state)
{
	struct bench *bench = *state;
	sealed(bench, 3, 4); /* a conflict */
	assert_int_equal(bench->store->view->segments, 1);
	const struct manifest_segment *facts = &bench->store->view->segment[0]->facts;
	assert_int_equal(facts->rows, 1);
	assert_int_equal(facts->from_ms, 0);
	assert_int_equal(facts->to_ms, 0);
	uint64_t next = 3;
	assert_int_equal(store_segment_use(bench->store, bench->store->view, bench->store->view->segment[0]), 0);
	assert_int_equal(segment_events(&bench->store->view->segment[0]->file, expect_next, &next), 0);
	assert_int_equal(next, 4);
	uint32_t ids = 0;
	assert_int_equal(sto_segments_ids(bench->store, 0, count_id, &ids), 0);
	assert_int_equal(ids, 0);
	const struct tp_rollup_row *rows;
	const char *heap;
	uint32_t count;
	assert_int_equal(segment_rollup(&bench->store->view->segment[0]->file, &rows, &count, &heap), 0);
	assert_int_equal(count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_id_many_minutes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disagreement, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_counted, setup, teardown),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
