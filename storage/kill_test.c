/*
 * kill -9 on a real file system: a child appends, tells its parent through a pipe which events are durable, and is killed at a
 * random moment; the parent then opens the folder and looks for each of them. Ten times (or TURNPIKE_KILLS) over the same folder, so that each child
 * also recovers what the ones before left.
 */
#include "sample.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turnpike/wal.h"

#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROUNDS = 10, EVENTS_MAX = 1 << 24 };

/* TURNPIKE_KILLS: more of them, for make sim. */
static unsigned rounds(void)
{
	const char *wanted = getenv("TURNPIKE_KILLS");
	return wanted ? (unsigned)strtoul(wanted, NULL, 10) : ROUNDS;
}

static char folder[64];
static uint8_t found[EVENTS_MAX];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int into_rollup(void *context, const struct tp_event *event)
{
	tp_rollup_add(context, event);
	return 0;
}

static void seal_one(struct sto_store *store, uint64_t id)
{
	struct tp_rollup *rollup = sample_rollup(id);
	if (sto_log_read(store, id, into_rollup, rollup, NULL) || sto_seal(store, id, rollup, NULL) || sto_log_delete(store, id))
		abort();
	free(rollup);
}

static struct sto_store *open_store(void)
{
	const struct sto_store_options options = {.data_dir = folder, .log_file_bytes = 1 << 19, .preallocate = true};
	struct sto_store *store;
	int rc = sto_store_open(&store, &options);
	if (rc)
		fail_msg("the folder does not open: %d", rc);
	return store;
}

/* Never returns. Writes its durable count to the pipe, in numbers of events. */
static void child(int pipe_fd, uint64_t n)
{
	const struct sto_wal_options options = {.commit_interval_ns = 100000, .block_bytes_max = 16384, .writes_in_flight = 4};
	struct sto_store *store = open_store();
	struct sto_wal *wal;
	uint64_t *ids, base = n, told = 0;
	uint32_t count;
	if (sto_store_unsealed(store, &ids, &count))
		abort();
	for (uint32_t i = 0; i < count; i++)
		seal_one(store, ids[i]);
	if (sto_wal_open(&wal, store, &options))
		abort();
	for (;;) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		uint64_t now = tp_mono_ns();
		if (sto_wal_spare_wanted(wal) && sto_wal_spare_give(wal))
			abort();
		for (uint64_t id; (id = sto_wal_finished_take(wal));)
			seal_one(store, id);
		for (int i = 0; i < 50; i++) {
			const struct tp_event *event = sample_event(room, n);
			if (sto_wal_must_roll(wal) && sto_wal_roll(wal))
				break;
			void *at = sto_wal_reserve(wal, event->bytes);
			if (!at)
				break;
			memcpy(at, event, event->bytes);
			sto_wal_append(wal, event->bytes, now);
			n++;
		}
		if (sto_wal_flush(wal, now, SAMPLE_MS, false) < 0 || sto_wal_poll(wal) < 0)
			abort();
		if (sto_wal_durable(wal) != told) {
			told = sto_wal_durable(wal);
			uint64_t until = base + told;
			if (write(pipe_fd, &until, sizeof(until)) != sizeof(until))
				_exit(1);
		}
	}
}

static int mark(void *context, const struct tp_event *event)
{
	uint64_t n = sample_number(event), *highest = context;
	assert_true(n < EVENTS_MAX);
	assert_int_equal(found[n], 0); /* once */
	found[n] = 1;
	*highest = n >= *highest ? n + 1 : *highest;
	return 0;
}

/* Everything in the folder. Returns one more than the highest number. */
static uint64_t look(void)
{
	uint64_t *ids, highest = 0;
	uint32_t count;
	memset(found, 0, sizeof(found));
	struct sto_store *store = open_store();
	assert_int_equal(sto_segments_events(store, 0, mark, &highest), 0);
	assert_int_equal(sto_store_unsealed(store, &ids, &count), 0);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(sto_log_read(store, ids[i], mark, &highest, NULL), 0);
	free(ids);
	sto_store_close(store);
	return highest;
}

static void test_kill(void **state)
{
	(void)state;
	static uint8_t acknowledged[EVENTS_MAX];
	uint64_t next = 0, told = 0;
	for (unsigned round = 0; round < rounds(); round++) {
		int ends[2];
		assert_int_equal(pipe(ends), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(ends[0]);
			child(ends[1], next);
		}
		close(ends[1]);
		/* Some life, counted in acknowledgements rather than in time. */
		uint64_t until = 0, wanted = 1 + sample_mix((uint64_t)getpid() + round) % 60;
		for (uint64_t i = 0; i < wanted; i++)
			if (read(ends[0], &until, sizeof(until)) != sizeof(until))
				break;
		kill(pid, SIGKILL);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		while (read(ends[0], &until, sizeof(until)) == sizeof(until))
			;
		close(ends[0]);
		assert_true(until > next && until < EVENTS_MAX);
		for (uint64_t n = next; n < until; n++, told++)
			acknowledged[n] = 1;
		uint64_t highest = look();
		for (uint64_t n = 0; n < until; n++)
			if (acknowledged[n] && !found[n])
				fail_msg("round %u: event %lu was acknowledged and is lost", round, n);
		next = highest > until ? highest : until;
	}
	assert_true(told > rounds());
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "kill_test.XXXXXX");
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
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_kill, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
