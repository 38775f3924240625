/*
 * The log writer on a real disk: what was acknowledged is read back, files roll, full files are ended, spares come and go. The
 * crash cases are in crash_test.c.
 */
#include "log_format.h"
#include "log_read.h"
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/wal.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

struct bench {
	char folder[64];
	struct sto_store *store;
	struct sto_wal *wal;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static void bench_open(struct bench *bench, uint64_t log_file_bytes, bool preallocate)
{
	const struct sto_store_options options = {
		.data_dir = bench->folder, .log_file_bytes = log_file_bytes, .preallocate = preallocate};
	const struct sto_wal_options wal_options = {
		.shard = 3, .commit_interval_ns = 1000000, .block_bytes_max = 16384, .writes_in_flight = 4, .reserve_bytes = 32768};
	assert_int_equal(sto_store_open(&bench->store, &options), 0);
	assert_int_equal(sto_wal_open(&bench->wal, bench->store, &wal_options), 0);
}

static int setup(void **state)
{
	static struct bench bench;
	/* The build folder: /tmp is often a tmpfs, without O_DIRECT. */
	snprintf(bench.folder, sizeof(bench.folder), "wal_test.XXXXXX");
	tp_log_level_set(TP_ERROR + 1);
	*state = &bench;
	return mkdtemp(bench.folder) ? 0 : -1;
}

static int teardown(void **state)
{
	return nftw(((struct bench *)*state)->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(struct sto_wal *wal, uint64_t n, uint64_t now_ns)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	const struct tp_event *event = sample_event(room, n);
	void *at;
	while (!(at = sto_wal_reserve(wal, event->bytes))) {
		assert_true(sto_wal_flush(wal, now_ns, 0, false) >= 0);
		assert_true(sto_wal_poll(wal) >= 0);
	}
	memcpy(at, event, event->bytes);
	sto_wal_append(wal, event->bytes, now_ns);
}

static void settle(struct sto_wal *wal)
{
	while (sto_wal_durable(wal) != sto_wal_appended(wal) || sto_wal_busy(wal)) {
		assert_true(sto_wal_flush(wal, tp_mono_ns(), SAMPLE_MS, true) >= 0);
		struct pollfd fd = {.fd = sto_wal_fd(wal), .events = POLLIN};
		if (sto_wal_busy(wal))
			assert_int_equal(poll(&fd, 1, 10000), 1); /* a sleeping shard is woken */
		assert_true(sto_wal_poll(wal) >= 0);
	}
}

static int expect_next(void *context, const struct tp_event *event)
{
	uint64_t *next = context;
	assert_int_equal(sample_number(event), *next);
	++*next;
	return 0;
}

/* Housekeeping and the shard in one thread. */
static void roll_if_due(struct bench *bench)
{
	if (!sto_wal_must_roll(bench->wal))
		return;
	uint64_t before = sto_wal_file_id(bench->wal);
	int rc;
	while ((rc = sto_wal_roll(bench->wal)) == -EAGAIN) {
		assert_true(sto_wal_poll(bench->wal) >= 0);
		if (sto_wal_spare_wanted(bench->wal))
			assert_int_equal(sto_wal_spare_give(bench->wal), 0);
	}
	assert_int_equal(rc, 0);
	assert_int_not_equal(sto_wal_file_id(bench->wal), before);
}

static void test_many_files(void **state, bool preallocate)
{
	struct bench *bench = *state;
	enum { EVENTS = 5000 };
	bench_open(bench, 1 << 18, preallocate);
	assert_true(sto_wal_spare_wanted(bench->wal));
	assert_int_equal(sto_wal_spare_give(bench->wal), 0);
	assert_false(sto_wal_spare_wanted(bench->wal));
	assert_false(sto_wal_no_space(bench->wal));
	uint64_t finished[64];
	uint32_t files = 0;
	for (uint64_t n = 0; n < EVENTS; n++) {
		roll_if_due(bench);
		put(bench->wal, n, tp_mono_ns());
		if (n % 64 == 0) {
			assert_true(sto_wal_flush(bench->wal, tp_mono_ns(), SAMPLE_MS + n, false) >= 0);
			assert_true(sto_wal_poll(bench->wal) >= 0);
		}
		assert_true(sto_wal_durable(bench->wal) <= sto_wal_appended(bench->wal));
		for (uint64_t id; (id = sto_wal_finished_take(bench->wal)); files++)
			finished[files] = id;
	}
	settle(bench->wal);
	assert_int_equal(sto_wal_durable(bench->wal), EVENTS);
	struct sto_wal_stats stats;
	sto_wal_stats(bench->wal, &stats);
	assert_true(files >= 3 && stats.rolls >= files);
	sto_wal_close(bench->wal);
	for (uint32_t i = 1; i < files; i++)
		assert_true(finished[i] > finished[i - 1]);

	/* All the files, in the order of their ids, hold all the events in order, each once. */
	uint64_t *ids, next = 0, blocks = 0;
	uint32_t count;
	assert_int_equal(sto_store_unsealed(bench->store, &ids, &count), 0);
	assert_true(count > files);
	for (uint32_t i = 0; i < count; i++) {
		struct sto_log_facts facts;
		uint64_t before = next;
		assert_int_equal(sto_log_read(bench->store, ids[i], expect_next, &next, &facts), 0);
		assert_int_equal(facts.events, next - before);
		assert_int_equal(facts.shard, 3);
		assert_int_equal(facts.tail_bytes_ignored, 0);
		blocks += facts.blocks;
	}
	assert_int_equal(next, EVENTS);
	assert_int_equal(blocks, stats.blocks);
	free(ids);
	sto_store_close(bench->store);

	/* And so they do for the next process. */
	bench_open(bench, 1 << 18, preallocate);
	assert_int_equal(sto_store_unsealed(bench->store, &ids, &count), 0);
	next = 0;
	for (uint32_t i = 0; i < count; i++) {
		assert_true(ids[i] < sto_wal_file_id(bench->wal)); /* no id twice */
		assert_int_equal(sto_log_read(bench->store, ids[i], expect_next, &next, NULL), 0);
	}
	assert_int_equal(next, EVENTS);
	free(ids);
	sto_wal_close(bench->wal);
	sto_store_close(bench->store);
}

static void test_preallocated(void **state)
{
	test_many_files(state, true);
}

static void test_growing(void **state)
{
	test_many_files(state, false);
}

static void test_commit_interval(void **state)
{
	struct bench *bench = *state;
	bench_open(bench, 1 << 20, true);
	struct sto_wal *wal = bench->wal;
	uint64_t t = tp_mono_ns();
	assert_int_equal(sto_wal_deadline_ns(wal), UINT64_MAX);
	put(wal, 0, t);
	put(wal, 1, t + 500000);
	assert_int_equal(sto_wal_deadline_ns(wal), t + 1000000); /* of the first event */
	assert_int_equal(sto_wal_flush(wal, t + 999999, 1, false), 0);
	assert_false(sto_wal_busy(wal));
	assert_int_equal(sto_wal_flush(wal, t + 1000000, 1, false), 1);
	assert_true(sto_wal_busy(wal));
	assert_int_equal(sto_wal_deadline_ns(wal), UINT64_MAX);
	/* Submitted is not durable. */
	assert_int_equal(sto_wal_durable(wal), 0);
	put(wal, 2, t + 1100000);
	assert_int_equal(sto_wal_flush(wal, t + 1100000, 1, true), 1);
	settle(wal);
	assert_int_equal(sto_wal_durable(wal), 3);
	/* A reservation without an append is nothing. */
	assert_non_null(sto_wal_reserve(wal, 400));
	assert_int_equal(sto_wal_flush(wal, t + 9000000, 1, true), 0);
	assert_int_equal(sto_wal_appended(wal), 3);
	/* Rolling without a spare changes nothing; without records neither. */
	assert_int_equal(sto_wal_roll(wal), -EAGAIN);
	uint64_t id = sto_wal_file_id(wal);
	put(wal, 3, t);
	assert_int_equal(sto_wal_spare_give(wal), 0);
	assert_int_equal(sto_wal_roll(wal), 0);
	assert_int_not_equal(sto_wal_file_id(wal), id);
	id = sto_wal_file_id(wal);
	assert_int_equal(sto_wal_file_records(wal), 0);
	assert_int_equal(sto_wal_spare_give(wal), 0);
	assert_int_equal(sto_wal_roll(wal), 0);
	assert_int_equal(sto_wal_file_id(wal), id);
	settle(wal);
	put(wal, 4, t);
	settle(wal);
	assert_int_equal(sto_wal_finish(wal), 0);
	assert_int_equal(sto_wal_file_id(wal), 0);
	assert_true(sto_wal_must_roll(wal));
	assert_null(sto_wal_reserve(wal, 400));
	assert_int_equal(sto_wal_roll(wal), 0);
	assert_int_not_equal(sto_wal_file_id(wal), 0);
	sto_wal_close(wal);
	sto_store_close(bench->store);
}

/* With all writes on their way there is no buffer, and never more than the limit. */
static void test_back_pressure(void **state)
{
	struct bench *bench = *state;
	bench_open(bench, 1 << 20, true);
	struct sto_wal *wal = bench->wal;
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	uint64_t n = 0;
	for (;;) {
		const struct tp_event *event = sample_event(room, n);
		void *at = sto_wal_reserve(wal, event->bytes);
		if (!at)
			break;
		memcpy(at, event, event->bytes);
		sto_wal_append(wal, event->bytes, 0);
		n++;
	}
	struct sto_wal_stats stats;
	sto_wal_stats(wal, &stats);
	assert_int_equal(stats.blocks, 4);
	assert_false(sto_wal_must_roll(wal)); /* room there is, only no buffer */
	assert_int_equal(sto_wal_durable(wal), 0);
	settle(wal);
	assert_int_equal(sto_wal_durable(wal), n);
	put(wal, n, 0);
	settle(wal);
	sto_wal_close(wal);
	uint64_t next = 0;
	assert_int_equal(sto_log_read(bench->store, 1, expect_next, &next, NULL), 0);
	assert_int_equal(next, n + 1);
	sto_store_close(bench->store);
}

/* The stand-in where io_uring is forbidden. */
static void test_sync_queue(void **state)
{
	struct bench *bench = *state;
	char path[128];
	snprintf(path, sizeof(path), "%s/file", bench->folder);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	struct sto_queue *queue;
	assert_int_equal(sto_queue_sync_open(4, &queue), 0);
	struct pollfd wait = {.fd = queue->ops->fd(queue), .events = POLLIN};
	struct sto_done done[4];
	char text[4096] = "block";
	assert_int_equal(poll(&wait, 1, 0), 0);
	assert_int_equal(queue->ops->reap(queue, done, 4), 0);
	assert_int_equal(queue->ops->write(queue, fd, text, 4096, 0, 7), 0);
	assert_int_equal(queue->ops->write(queue, fd, text, 4096, 4096, 8), 0);
	assert_int_equal(queue->ops->write(queue, -1, text, 4096, 4096, 9), 0);
	assert_int_equal(poll(&wait, 1, 0), 1);
	assert_int_equal(queue->ops->reap(queue, done, 2), 2);
	assert_int_equal(done[0].tag, 7);
	assert_int_equal(done[0].result, 4096);
	assert_int_equal(poll(&wait, 1, 0), 1);
	assert_int_equal(queue->ops->reap(queue, done, 2), 1);
	assert_int_equal(done[0].tag, 9);
	assert_int_equal(done[0].result, -EBADF);
	assert_int_equal(poll(&wait, 1, 0), 0);
	queue->ops->close(queue);
	close(fd);
}

/* ---- the first file of a run ---- */

enum { FIRST_FILE_BYTES = 16 << 20, FILL_PIECE_BYTES = 1 << 20 };

static uint64_t first_filled;   /* bytes, in writes so large that they are no blocks */
static uint64_t first_piece_ms; /* what such a write takes */
static uint64_t first_now_ms;

static int first_write(const struct sto_io *io, int fd, const void *from, uint64_t bytes, uint64_t offset)
{
	(void)io;
	if (bytes >= FILL_PIECE_BYTES) {
		first_filled = offset + bytes;
		first_now_ms += first_piece_ms;
	}
	return sto_io_system()->write(sto_io_system(), fd, from, bytes, offset);
}

static uint64_t first_clock(const struct sto_io *io)
{
	(void)io;
	return SAMPLE_MS + first_now_ms;
}

static int into_rollup(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

/* As many events as the current file takes. Returns the bytes of its blocks. */
static uint64_t file_write(struct bench *bench, uint64_t *n)
{
	struct sto_wal_stats before, after;
	sto_wal_stats(bench->wal, &before);
	while (!sto_wal_must_roll(bench->wal))
		put(bench->wal, (*n)++, tp_mono_ns());
	settle(bench->wal);
	sto_wal_stats(bench->wal, &after);
	return after.bytes - before.bytes;
}

/*
 * Where a disk does not fill it in time, no block is written behind what is filled, unless that is too little to go on with. A file of
 * which a part was never written is not the next one's, either.
 */
static void test_first_file(void **state)
{
	struct bench *bench = *state;
	const struct sto_store_options options = {
		.data_dir = bench->folder, .log_file_bytes = FIRST_FILE_BYTES, .preallocate = true};
	const struct sto_wal_options wal_options = {.block_bytes_max = 65536, .writes_in_flight = 4, .reserve_bytes = 1 << 20};
	const struct {
		uint64_t piece_ms, filled, least, most; /* what it then takes */
	} cases[] = {
		{21, 5 << 20, 4 << 20, 5 << 20},
		{1, FIRST_FILE_BYTES, FIRST_FILE_BYTES - (1 << 20), FIRST_FILE_BYTES},
		{101, 1 << 20, FIRST_FILE_BYTES - (1 << 20), FIRST_FILE_BYTES},
	};
	uint64_t n = 0, next = 0;
	static struct sto_io io;
	io = *sto_io_system();
	io.write = first_write;
	io.now_ms = first_clock;
	for (uint32_t i = 0; i < 3; i++) {
		first_piece_ms = cases[i].piece_ms;
		assert_int_equal(store_open(&bench->store, &options, &io), 0);
		assert_int_equal(sto_wal_open(&bench->wal, bench->store, &wal_options), 0);
		assert_int_equal(first_filled, cases[i].filled);
		assert_int_equal(sto_wal_spare_give(bench->wal), 0);
		assert_int_equal(first_filled, FIRST_FILE_BYTES); /* time or not */
		assert_in_range(file_write(bench, &n), cases[i].least, cases[i].most);
		assert_int_equal(sto_wal_roll(bench->wal), 0);
		settle(bench->wal);
		uint64_t id = sto_wal_finished_take(bench->wal);
		assert_int_not_equal(id, 0);
		assert_int_equal(sto_log_read(bench->store, id, expect_next, &next, NULL), 0);
		assert_int_equal(next, n);
		struct tp_rollup *rollup = sample_rollup(id);
		assert_int_equal(sto_log_read(bench->store, id, into_rollup, rollup, NULL), 0);
		assert_int_equal(sto_seal(bench->store, id, rollup, NULL), 0);
		free(rollup);
		assert_int_equal(sto_log_delete(bench->store, id), 0);
		first_filled = 0;
		assert_int_equal(sto_wal_spare_give(bench->wal), 0);
		assert_int_equal(first_filled, cases[i].most < FIRST_FILE_BYTES ? FIRST_FILE_BYTES : 0);
		sto_wal_close(bench->wal);
		sto_store_close(bench->store);
	}
}

/* A second process is refused. */
static void test_lock(void **state)
{
	struct bench *bench = *state;
	bench_open(bench, 1 << 20, true);
	struct sto_store *second;
	const struct sto_store_options options = {.data_dir = bench->folder, .log_file_bytes = 1 << 20};
	assert_int_equal(sto_store_open(&second, &options), -EBUSY);
	sto_wal_close(bench->wal);
	sto_store_close(bench->store);
	assert_int_equal(sto_store_open(&second, &options), 0);
	sto_store_close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_preallocated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_growing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_commit_interval, setup, teardown),
		cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
