/*
 * A store in the hands of several threads at once, on a real file system: one seals after another, two look ids up, one merges, one
 * deletes by retention and replaces segments, one makes log files, and a reader asks. Meant for the thread sanitizer; the counts at the end
 * are exact all the same.
 */
#include "reader_state.h"
#include "sample.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/wal.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

enum { SHARDS = 2, ROUNDS = 25, EACH = 30 };

/*
 * Asked by the thread sanitizer. liburing maps a reader's ring by bare system calls, so that the sanitizer takes what lay at that
 * address before, a ring or file of another thread that is gone, for the same memory. This hides what happens in liburing's inline
 * functions and in those that call them (io_read.c), nothing else.
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:liburing.h\nrace:^uring_\n";
}

static char folder[64];

struct bench {
	struct sto_store *store;
	_Atomic uint64_t sealed; /* events */
	_Atomic uint32_t stop;
	_Atomic uint64_t found, absent, asked, merged, replaced, retired;
};

struct sealer {
	struct bench *bench;
	uint32_t shard;
};

static void *seal_main(void *context)
{
	struct sealer *sealer = context;
	struct bench *bench = sealer->bench;
	const struct sto_wal_options options = {.shard = sealer->shard, .block_bytes_max = 16384, .writes_in_flight = 4};
	struct sto_wal *wal;
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	if (sto_wal_open(&wal, bench->store, &options))
		abort();
	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint64_t file_id = sto_wal_file_id(wal), first = (2 * round + sealer->shard) * EACH;
		struct tp_rollup *rollup = sample_rollup(file_id);
		for (uint64_t n = first; n < first + EACH; n++) {
			const struct tp_event *event = sample_event(room, n);
			void *at;
			while (!(at = sto_wal_reserve(wal, event->bytes)))
				if (sto_wal_flush(wal, 1, SAMPLE_MS, true) < 0 || sto_wal_poll(wal) < 0)
					abort();
			memcpy(at, event, event->bytes);
			sto_wal_append(wal, event->bytes, 1);
			tp_rollup_add(rollup, event);
		}
		if (sto_wal_spare_give(wal))
			abort();
		while (sto_wal_durable(wal) != sto_wal_appended(wal) || sto_wal_busy(wal))
			if (sto_wal_flush(wal, 1, SAMPLE_MS, true) < 0 || sto_wal_poll(wal) < 0)
				abort();
		if (sto_wal_roll(wal))
			abort();
		while (!sto_wal_finished_take(wal))
			if (sto_wal_poll(wal) < 0)
				abort();
		if (sto_seal(bench->store, file_id, rollup, NULL) || sto_log_delete(bench->store, file_id))
			abort();
		free(rollup);
		atomic_fetch_add(&bench->sealed, EACH);
	}
	sto_wal_close(wal);
	return NULL;
}

static void *look_main(void *context)
{
	struct bench *bench = context;
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	for (uint64_t i = 0; !atomic_load(&bench->stop); i++) {
		uint64_t n = sample_mix(i) % (SHARDS * ROUNDS * EACH);
		const struct tp_event *event = sample_event(room, n);
		int rc = sto_segments_lookup(bench->store, event->id, (uint32_t)(event->timestamp_ms / TP_MINUTE_MS),
					     event->fingerprint);
		if (rc != STO_ABSENT && rc != STO_SAME)
			abort();
		atomic_fetch_add(rc == STO_SAME ? &bench->found : &bench->absent, 1);
	}
	return NULL;
}

static void *merge_main(void *context)
{
	struct bench *bench = context;
	const struct sto_merge_options now = {.now = true};
	for (uint32_t i = 0; !atomic_load(&bench->stop); i++) {
		int rc = sto_merge_step(bench->store, &now);
		if (rc < 0)
			abort();
		atomic_fetch_add(&bench->merged, (uint64_t)rc);
		usleep(300);
	}
	return NULL;
}

/* Segments get the same bytes under a new name; some of those that are covered go. */
static void *keep_main(void *context)
{
	struct bench *bench = context;
	for (uint64_t i = 0; !atomic_load(&bench->stop); i++) {
		struct store_view *view = store_view_take(bench->store);
		if (view->segments) {
			const struct manifest_segment facts = view->segment[sample_mix(i) % view->segments]->facts;
			char from[STORE_PATH_BYTES], to[STORE_PATH_BYTES], command[2 * STORE_PATH_BYTES + 16];
			folder_segment_path(from, folder, facts.sequence, facts.generation);
			folder_segment_temporary(to, folder, facts.sequence);
			snprintf(command, sizeof(command), "cp %s %s", from, to);
			if (system(command) || store_replace(bench->store, &facts))
				abort();
			atomic_fetch_add(&bench->replaced, 1);
		}
		store_view_give(bench->store, view);
		struct sto_retained retained;
		const struct sto_retention keep = {.raw_ms = 150, .minute_ms = UINT64_MAX};
		if (i % 8 == 7 && sto_retain(bench->store, &keep, tp_now_ms(), &retained))
			abort();
		usleep(2000);
	}
	return NULL;
}

static bool row_add(void *context, const struct tp_rollup_row *row, const char *heap)
{
	uint64_t *events = context;
	(void)heap;
	*events += row->sums.impressions + row->sums.clicks + row->sums.flagged_clicks + row->sums.conversions;
	return true;
}

/* Never less than what was sealed before, never more than what was sealed after. */
static void *ask_main(void *context)
{
	struct bench *bench = context;
	struct sto_reader *reader;
	uint64_t last = 0;
	if (sto_reader_open(&reader, folder))
		abort();
	while (!atomic_load(&bench->stop)) {
		if (sto_reader_refresh(reader) < 0)
			abort();
		for (enum sto_grain grain = STO_MINUTES; grain <= STO_DAYS; grain++) {
			uint64_t events = 0;
			const struct sto_sums_query all = {.to_minute = UINT32_MAX, .grain = grain};
			if (sto_reader_sums(reader, &all, row_add, &events, NULL) || events < last)
				abort();
			last = events;
		}
		atomic_fetch_add(&bench->asked, 1);
	}
	sto_reader_close(reader);
	return NULL;
}

static void test_all_at_once(void **state)
{
	(void)state;
	struct bench bench = {0};
	const struct sto_store_options options = {.data_dir = folder, .log_file_bytes = 1 << 19};
	assert_int_equal(sto_store_open(&bench.store, &options), 0);
	bench.store->compact_records_min = 20;
	struct sealer sealer[SHARDS];
	pthread_t seal[SHARDS], other[5];
	void *(*const work[])(void *) = {look_main, look_main, merge_main, keep_main, ask_main};
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(pthread_create(&other[i], NULL, work[i], &bench), 0);
	for (uint32_t i = 0; i < SHARDS; i++) {
		sealer[i] = (struct sealer){.bench = &bench, .shard = i};
		assert_int_equal(pthread_create(&seal[i], NULL, seal_main, &sealer[i]), 0);
	}
	for (uint32_t i = 0; i < SHARDS; i++)
		pthread_join(seal[i], NULL);
	while (!atomic_load(&bench.asked) || !atomic_load(&bench.merged))
		usleep(1000);
	atomic_store(&bench.stop, 1);
	for (uint32_t i = 0; i < 5; i++)
		pthread_join(other[i], NULL);
	uint64_t expected = 0, events = 0;
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	for (uint64_t n = 0; n < SHARDS * ROUNDS * EACH; n++)
		expected += sample_event(room, n)->verdict != TP_CONFLICT;
	struct sto_reader *reader;
	const struct sto_sums_query all = {.to_minute = UINT32_MAX, .grain = STO_DAYS};
	assert_int_equal(sto_reader_open(&reader, folder), 0);
	assert_true(sto_reader_refresh(reader) >= 0);
	assert_int_equal(sto_reader_sums(reader, &all, row_add, &events, NULL), 0);
	assert_int_equal(events, expected);
	/* One publication after another, whichever thread was first. */
	for (uint32_t i = 1; i < sto_reader_segments(reader); i++)
		if (sto_reader_segment(reader, i)->sequence == sto_reader_segment(reader, i - 1)->sequence + 1)
			assert_memory_equal(sto_reader_segment(reader, i)->prev_sha256,
					    sto_reader_segment(reader, i - 1)->chain_sha256, 32);
	sto_reader_close(reader);
	assert_true(atomic_load(&bench.replaced) > 0 && atomic_load(&bench.found) + atomic_load(&bench.absent) > 0);
	sto_store_close(bench.store);
	assert_int_equal(sto_verify(folder, NULL, NULL), 0);
}

struct faults {
	char text[4096];
};

static void fault_note(void *context, const char *path, const char *what)
{
	struct faults *faults = context;
	if (strlen(faults->text) + strlen(path) + strlen(what) + 3 > sizeof(faults->text))
		return;
	strcat(strcat(strcat(strcat(faults->text, path), " "), what), "\n");
}

/* However many threads check the segments: the same faults, in the order of the segments. */
static void test_verify_by_many(void **state)
{
	static const uint32_t spoilt[] = {3, 4, 17, 18, 30, 49}, many[] = {1, 2, 5, 64};
	struct bench bench = {0};
	struct sealer sealer = {.bench = &bench};
	const struct sto_store_options options = {.data_dir = folder, .log_file_bytes = 1 << 19};
	struct faults expected = {""};
	char path[STORE_PATH_BYTES];
	(void)state;
	assert_int_equal(sto_store_open(&bench.store, &options), 0);
	for (sealer.shard = 0; sealer.shard < SHARDS; sealer.shard++)
		seal_main(&sealer);
	sto_store_close(bench.store);
	for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
		struct faults found = {""};
		assert_int_equal(store_verify_threads(folder, fault_note, &found, sto_io_system(), many[i]), 0);
		assert_string_equal(found.text, "");
	}
	for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
		const bool missing = i % 3 == 2;
		uint8_t byte;
		folder_segment_path(path, folder, spoilt[i], 0);
		fault_note(&expected, path, missing ? "missing" : "damaged");
		if (missing) {
			assert_int_equal(unlink(path), 0);
			continue;
		}
		FILE *file = fopen(path, "r+");
		assert_non_null(file);
		assert_int_equal(fseek(file, 900, SEEK_SET), 0);
		assert_int_equal(fread(&byte, 1, 1, file), 1);
		byte ^= 1;
		assert_int_equal(fseek(file, 900, SEEK_SET), 0);
		assert_int_equal(fwrite(&byte, 1, 1, file), 1);
		fclose(file);
	}
	for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
		struct faults found = {""};
		assert_int_equal(store_verify_threads(folder, fault_note, &found, sto_io_system(), many[i]),
				 sizeof(spoilt) / sizeof(spoilt[0]));
		assert_string_equal(found.text, expected.text);
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "store_threads.XXXXXX");
	tp_log_level_set(TP_ERROR + 1);
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_all_at_once, setup, teardown),
					   cmocka_unit_test_setup_teardown(test_verify_by_many, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
