/*
 * The two threads of a log writer at once: the shard appends and rolls, housekeeping gives spares and seals what is finished. For
 * the thread sanitizer, and for the hand-over's order.
 */
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/wal.h"

#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

enum { EVENTS = 6000 };

static char folder[64];
static struct sto_store *store;
static struct sto_wal *wal;
static _Atomic int stop;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int expect_next(void *context, const struct tp_event *event)
{
	uint64_t *next = context;
	return sample_number(event) == (*next)++ ? 0 : -EPROTO;
}

static int into_rollup(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

static void *shard(void *unused)
{
	(void)unused;
	for (uint64_t n = 0; n < EVENTS;) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		const struct tp_event *event = sample_event(room, n);
		void *at = sto_wal_must_roll(wal) && sto_wal_roll(wal) ? NULL : sto_wal_reserve(wal, event->bytes);
		if (at) {
			memcpy(at, event, event->bytes);
			sto_wal_append(wal, event->bytes, tp_mono_ns());
			n++;
		} else {
			sched_yield();
		}
		if (sto_wal_flush(wal, tp_mono_ns(), SAMPLE_MS, false) < 0 || sto_wal_poll(wal) < 0)
			abort();
	}
	while (sto_wal_finish(wal) || sto_wal_durable(wal) != EVENTS || sto_wal_busy(wal))
		if (sto_wal_flush(wal, tp_mono_ns(), SAMPLE_MS, true) < 0 || sto_wal_poll(wal) < 0)
			abort();
	atomic_store(&stop, 1);
	return NULL;
}

static void test_both_threads(void **state)
{
	(void)state;
	const struct sto_store_options options = {.data_dir = folder, .log_file_bytes = 1 << 18, .preallocate = true};
	const struct sto_wal_options wal_options = {.commit_interval_ns = 100000, .block_bytes_max = 16384, .writes_in_flight = 4};
	assert_int_equal(sto_store_open(&store, &options), 0);
	assert_int_equal(sto_wal_open(&wal, store, &wal_options), 0);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, shard, NULL), 0);
	uint64_t next = 0;
	uint32_t files = 0;
	for (bool last = false;;) {
		bool done = atomic_load(&stop);
		if (sto_wal_spare_wanted(wal) && !done)
			assert_int_equal(sto_wal_spare_give(wal), 0);
		for (uint64_t id; (id = sto_wal_finished_take(wal)); files++) {
			struct tp_rollup *rollup = sample_rollup(id);
			assert_int_equal(sto_log_read(store, id, into_rollup, rollup, NULL), 0);
			assert_int_equal(sto_log_read(store, id, expect_next, &next, NULL), 0);
			assert_int_equal(sto_seal(store, id, rollup, NULL), 0);
			assert_int_equal(sto_log_delete(store, id), 0);
			free(rollup);
		}
		if (last)
			break;
		last = done;
		sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(next, EVENTS);
	assert_true(files > 3);
	next = 0;
	assert_int_equal(sto_segments_events(store, 0, expect_next, &next), 0);
	assert_int_equal(next, EVENTS);
	sto_wal_close(wal);
	sto_store_close(store);
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "wal_threads_test.XXXXXX");
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
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_both_threads, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
