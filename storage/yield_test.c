/*
 * Sealing gives way: however much there is to seal, no long stretch of work lies between two calls of its yield. Measured in the thread's
 * own processor time and as a part of the whole, so that neither a slow machine nor a busy one matters; on a real file system.
 */
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/wal.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { EVENTS = 60000, TRIES = 3, PARTS_MIN = 8, LOG_FILE_BYTES = 64 << 20 };

static char folder[64];

static uint64_t worked_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct way {
	uint64_t calls, last_ns, longest_ns;
};

static void given(void *context)
{
	struct way *way = context;
	uint64_t now_ns = worked_ns(), stretch_ns = now_ns - way->last_ns;
	way->calls++;
	way->longest_ns = stretch_ns > way->longest_ns ? stretch_ns : way->longest_ns;
	way->last_ns = worked_ns();
}

/* Fills the writer's file and finishes it; its id. */
static uint64_t file_fill(struct sto_wal *wal, struct tp_rollup *rollup, uint64_t first)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	uint64_t file_id = sto_wal_file_id(wal);
	tp_rollup_reset(rollup, file_id);
	for (uint64_t n = first; n < first + EVENTS; n++) {
		const struct tp_event *event = sample_event(room, n);
		void *at;
		while (!(at = sto_wal_reserve(wal, event->bytes))) {
			assert_true(sto_wal_flush(wal, 1, SAMPLE_MS, true) >= 0);
			assert_true(sto_wal_poll(wal) >= 0);
		}
		memcpy(at, event, event->bytes);
		sto_wal_append(wal, event->bytes, 1);
		tp_rollup_add(rollup, event);
	}
	while (sto_wal_durable(wal) != sto_wal_appended(wal) || sto_wal_busy(wal)) {
		assert_true(sto_wal_flush(wal, 1, SAMPLE_MS, true) >= 0);
		assert_true(sto_wal_poll(wal) >= 0);
	}
	assert_int_equal(sto_wal_spare_give(wal), 0);
	assert_int_equal(sto_wal_roll(wal), 0);
	while (!sto_wal_finished_take(wal))
		assert_true(sto_wal_poll(wal) >= 0);
	return file_id;
}

/* A stretch may be long once because the kernel did something for us; what the code does is long each time. */
static void test_no_long_stretch(void **state)
{
	(void)state;
	const struct sto_store_options options = {.data_dir = folder, .log_file_bytes = LOG_FILE_BYTES};
	const struct sto_wal_options wal_options = {.shard = 1};
	struct sto_store *store;
	struct sto_wal *wal;
	double longest = 1;
	assert_int_equal(sto_store_open(&store, &options), 0);
	assert_int_equal(sto_wal_open(&wal, store, &wal_options), 0);
	for (uint64_t i = 0; i < TRIES; i++) {
		struct tp_rollup *rollup = sample_rollup(0);
		uint64_t file_id = file_fill(wal, rollup, i * EVENTS);
		struct way way = {.last_ns = worked_ns()};
		const struct sto_seal_options seal = {.yield = given, .yield_context = &way};
		uint64_t began_ns = worked_ns();
		assert_int_equal(sto_seal(store, file_id, rollup, &seal), 0);
		given(&way); /* what is behind the last call counts as well */
		double part = (double)way.longest_ns / (double)(way.last_ns - began_ns);
		longest = part < longest ? part : longest;
		/* Reading, at least, is in pieces of some thousand rows. */
		assert_true(way.calls > EVENTS / 4096);
		assert_int_equal(sto_log_delete(store, file_id), 0);
		free(rollup);
	}
	sto_wal_close(wal);
	sto_store_close(store);
	if (longest > 1.0 / PARTS_MIN)
		fail_msg("one stretch of sealing %d events takes %.0f%% of the whole", EVENTS, 100 * longest);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_long_stretch)};
	const char *base = getenv("TURNPIKE_TEST_DIR");
	snprintf(folder, sizeof(folder), "%s/yield_test.XXXXXX", base ? base : "/var/tmp");
	if (!mkdtemp(folder))
		return 1;
	tp_log_level_set(TP_ERROR + 1);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return rc;
}
