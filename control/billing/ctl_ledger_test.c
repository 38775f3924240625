/* The ledger: its file, segments, runs of the reconciliation, and which minutes they make reconciled. */
#include "ctl_ledger_report.h"
#include "turnpike/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char folder[64], path[96];
	struct ctl_ledger *ledger;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->folder, "ledger_test.XXXXXX");
	assert_non_null(mkdtemp(place->folder));
	snprintf(place->path, sizeof(place->path), "%s/ledger.db", place->folder);
	assert_int_equal(ctl_ledger_open(&place->ledger, place->folder), 0);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	static const char *const suffix[] = {"", "-wal", "-shm"};
	char path[128];

	ctl_ledger_close(place->ledger);
	for (size_t i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", place->path, suffix[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(place->folder), 0);
	free(place);
	return 0;
}

static void reopen(struct place *place)
{
	ctl_ledger_close(place->ledger);
	place->ledger = NULL;
	assert_int_equal(ctl_ledger_open(&place->ledger, place->folder), 0);
}

/* ---- what it is told ---- */

static int64_t run_store(struct ctl_ledger *ledger, uint64_t from, uint64_t to, uint64_t sequence)
{
	struct ctl_ledger_recount run = {
		.from_minute = from, .to_minute = to, .at_ms = 1000 * to, .sequence = sequence, .events = 7};

	memset(run.chain_sha256, (int)sequence, sizeof(run.chain_sha256));
	assert_int_equal(ctl_ledger_recount_store(ledger, &run), 0);
	return run.id;
}

static void segment_store(struct ctl_ledger *ledger, uint64_t sequence, uint32_t hour)
{
	const struct ctl_ledger_segment segment = {
		.sequence = sequence, .from_minute = hour * 60, .to_minute = hour * 60 + 60, .hour = &hour, .hours = 1};

	assert_int_equal(ctl_ledger_segment_store(ledger, &segment), 0);
}

static enum ctl_reconciled verdict(struct ctl_ledger *ledger, uint64_t from, uint64_t to)
{
	enum ctl_reconciled reconciled;

	assert_int_equal(ctl_ledger_reconciled(ledger, from, to, NULL, 0, &reconciled), 0);
	return reconciled;
}

static void a_union_of_runs_reconciles(void **state)
{
	struct ctl_ledger *ledger = ((struct place *)*state)->ledger;

	assert_int_equal(verdict(ledger, 600, 600), CTL_RECONCILED_YES);
	assert_int_equal(verdict(ledger, 600, 720), CTL_RECONCILED_NO);
	run_store(ledger, 600, 660, 5);
	assert_int_equal(verdict(ledger, 600, 660), CTL_RECONCILED_YES);
	assert_int_equal(verdict(ledger, 600, 661), CTL_RECONCILED_NO);
	assert_int_equal(verdict(ledger, 599, 660), CTL_RECONCILED_NO);
	run_store(ledger, 720, 780, 6);
	assert_int_equal(verdict(ledger, 600, 780), CTL_RECONCILED_NO);
	run_store(ledger, 650, 730, 7); /* over both ends */
	assert_int_equal(verdict(ledger, 600, 780), CTL_RECONCILED_YES);
	assert_int_equal(verdict(ledger, 0, UINT64_MAX), CTL_RECONCILED_NO);
}

static void a_later_segment_undoes_it_until_the_next_run(void **state)
{
	struct ctl_ledger *ledger = ((struct place *)*state)->ledger;
	uint64_t last = 99;

	assert_int_equal(ctl_ledger_segment_last(ledger, &last), 0);
	assert_int_equal(last, 0);
	segment_store(ledger, 3, 10);
	run_store(ledger, 600, 720, 3);
	assert_int_equal(verdict(ledger, 600, 720), CTL_RECONCILED_YES);
	segment_store(ledger, 4, 12); /* another hour */
	assert_int_equal(verdict(ledger, 600, 720), CTL_RECONCILED_YES);
	segment_store(ledger, 5, 11);
	assert_int_equal(verdict(ledger, 600, 660), CTL_RECONCILED_YES);
	assert_int_equal(verdict(ledger, 600, 720), CTL_RECONCILED_NO);
	run_store(ledger, 660, 720, 5);
	assert_int_equal(verdict(ledger, 600, 720), CTL_RECONCILED_YES);
	/* told again, and out of order: no step back */
	segment_store(ledger, 3, 11);
	assert_int_equal(verdict(ledger, 600, 720), CTL_RECONCILED_YES);
	assert_int_equal(ctl_ledger_segment_last(ledger, &last), 0);
	assert_int_equal(last, 5);
}

static struct ctl_ledger_difference differing(uint64_t minute, const char *campaign)
{
	struct ctl_ledger_difference difference = {.minute = minute,
						   .campaign = campaign,
						   .campaign_bytes = strlen(campaign),
						   .currency = "EUR",
						   .raw = {1, 2, 3, 4, ((__int128)1 << 100) + 5},
						   .reported = {UINT64_MAX, 0, 3, 4, -((__int128)1 << 100) - 7}};
	return difference;
}

static bool difference_see(void *context, const struct ctl_ledger_difference *found)
{
	uint32_t *seen = context;
	const struct ctl_ledger_difference want = differing(*seen ? 650 : 605, *seen ? "b" : "a");

	assert_int_equal(found->minute, want.minute);
	assert_int_equal(found->campaign_bytes, want.campaign_bytes);
	assert_memory_equal(found->campaign, want.campaign, want.campaign_bytes);
	assert_string_equal(found->currency, "EUR");
	assert_int_equal(found->raw.flagged_clicks, 3);
	assert_int_equal(found->reported.impressions, UINT64_MAX);
	assert_true(found->raw.spend_micros == want.raw.spend_micros);
	assert_true(found->reported.spend_micros == want.reported.spend_micros);
	(*seen)++;
	return true;
}

static void a_difference_counts_where_it_is(void **state)
{
	struct place *place = *state;
	const struct ctl_ledger_difference difference[] = {differing(650, "b"), differing(605, "a")};
	struct ctl_ledger_recount run = {
		.from_minute = 600, .to_minute = 660, .sequence = 1, .differences = 2, .kept = 2, .difference = difference};
	enum ctl_reconciled reconciled;
	uint32_t seen = 0;

	assert_int_equal(ctl_ledger_recount_store(place->ledger, &run), 0);
	reopen(place);
	assert_int_equal(ctl_ledger_differences(place->ledger, run.id, difference_see, &seen), 0);
	assert_int_equal(seen, 2);
	assert_int_equal(verdict(place->ledger, 600, 660), CTL_RECONCILED_DIFFERS);
	assert_int_equal(verdict(place->ledger, 606, 650), CTL_RECONCILED_YES);
	assert_int_equal(verdict(place->ledger, 606, 661), CTL_RECONCILED_DIFFERS); /* stronger than a gap */
	assert_int_equal(ctl_ledger_reconciled(place->ledger, 600, 650, "b", 1, &reconciled), 0);
	assert_int_equal(reconciled, CTL_RECONCILED_YES);
	assert_int_equal(ctl_ledger_reconciled(place->ledger, 600, 650, "a", 1, &reconciled), 0);
	assert_int_equal(reconciled, CTL_RECONCILED_DIFFERS);
	/* counted again, and equal now */
	run_store(place->ledger, 600, 620, 2);
	assert_int_equal(verdict(place->ledger, 600, 650), CTL_RECONCILED_YES);
	assert_int_equal(verdict(place->ledger, 600, 660), CTL_RECONCILED_DIFFERS);
	/* more than were kept: any key may be among them */
	struct ctl_ledger_recount many = {.from_minute = 600, .to_minute = 620, .sequence = 3, .differences = 5};
	assert_int_equal(ctl_ledger_recount_store(place->ledger, &many), 0);
	assert_int_equal(ctl_ledger_reconciled(place->ledger, 600, 620, "z", 1, &reconciled), 0);
	assert_int_equal(reconciled, CTL_RECONCILED_DIFFERS);
}

/* ---- against a model: the newest run over each minute decides ---- */

enum { MODEL_MINUTES = 600, MODEL_RUNS = 60, MODEL_ROUNDS = 40 };

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void any_runs_give_what_a_slow_model_gives(void **state)
{
	struct place *place = *state;
	uint64_t seed = 0x9e3779b97f4a7c15, run_of[MODEL_MINUTES] = {0}, touch[MODEL_MINUTES / 60] = {0};

	for (uint64_t sequence = 1; sequence <= MODEL_RUNS; sequence++) {
		if (next_random(&seed) % 4 == 0) {
			uint32_t hour = (uint32_t)(next_random(&seed) % (MODEL_MINUTES / 60));
			segment_store(place->ledger, sequence, hour);
			touch[hour] = sequence;
		} else {
			uint64_t from = next_random(&seed) % MODEL_MINUTES,
				 to = from + next_random(&seed) % (MODEL_MINUTES - from) + 1;
			run_store(place->ledger, from, to, sequence);
			for (uint64_t at = from; at < to; at++)
				run_of[at] = sequence;
		}
		for (int round = 0; round < MODEL_ROUNDS; round++) {
			uint64_t from = next_random(&seed) % MODEL_MINUTES,
				 to = from + next_random(&seed) % (MODEL_MINUTES - from) + 1;
			bool want = true;
			for (uint64_t at = from; at < to; at++)
				want = want && run_of[at] && run_of[at] >= touch[at / 60];
			/* an hour counts as a whole: the model's own touch of the minutes asked for says the same */
			assert_int_equal(verdict(place->ledger, from, to), want ? CTL_RECONCILED_YES : CTL_RECONCILED_NO);
		}
	}
}

/* ---- runs, listed ---- */

static bool run_see(void *context, const struct ctl_ledger_recount *run)
{
	uint64_t *last = context;

	assert_true(run->sequence < *last);
	assert_int_equal(run->chain_sha256[31], run->sequence);
	assert_int_equal(run->at_ms, 1000 * run->to_minute);
	assert_int_equal(run->events, 7);
	*last = run->sequence;
	return true;
}

static void runs_are_listed_newest_first(void **state)
{
	struct place *place = *state;
	uint64_t last = 100;

	for (uint64_t i = 1; i <= 5; i++)
		run_store(place->ledger, 60 * i, 60 * i + 60, i);
	reopen(place);
	assert_int_equal(ctl_ledger_recounts(place->ledger, 0, UINT64_MAX, 3, run_see, &last), 0);
	assert_int_equal(last, 3);
	last = 100;
	assert_int_equal(ctl_ledger_recounts(place->ledger, 120, 180, 9, run_see, &last), 0);
	assert_int_equal(last, 2);
}

/* ---- the file ---- */

static void write_over(const char *path, long at, const void *bytes, size_t count)
{
	FILE *file = fopen(path, "r+b");

	assert_non_null(file);
	assert_int_equal(fseek(file, at, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, count, file), count);
	assert_int_equal(fclose(file), 0);
}

static void what_it_cannot_read_is_refused(void **state)
{
	struct place *place = *state;
	struct ctl_ledger *ledger = NULL;
	static const uint8_t later[] = {0, 0, 0, 200}, nobody[] = {1, 2, 3, 4};

	assert_int_equal(ctl_ledger_open(&ledger, "no/such/folder"), -ENOENT);
	run_store(place->ledger, 0, 60, 1);
	ctl_ledger_close(place->ledger);
	place->ledger = NULL;
	/* offsets of the database header: sqlite.org/fileformat.html, section 1.3 */
	write_over(place->path, 60, later, sizeof(later));
	assert_int_equal(ctl_ledger_open(&ledger, place->folder), -EPROTONOSUPPORT);
	write_over(place->path, 68, nobody, sizeof(nobody));
	assert_int_equal(ctl_ledger_open(&ledger, place->folder), -EBADMSG);
	write_over(place->path, 0, "not SQLite at all", 17);
	assert_int_equal(ctl_ledger_open(&ledger, place->folder), -EBADMSG);
	assert_null(ledger);
}

/* ---- when its file goes while it is open ---- */

static int64_t runs_now(struct ctl_ledger *ledger, uint64_t at_ms)
{
	struct ctl_ledger_recount run = {.from_minute = 0, .to_minute = 60, .at_ms = at_ms};
	int rc = ctl_ledger_recount_store(ledger, &run);

	return rc ? rc : run.id;
}

/* Nothing is taken that a restart would not find: the file, its log, or their folder may go, or another come in their place. */
static void a_ledger_that_is_gone_takes_nothing(void **state)
{
	struct place *place = *state;
	static const char *const suffix[] = {"", "-wal"};
	char from[128], to[128];
	uint64_t sequence;

	assert_false(ctl_ledger_there(NULL));
	for (size_t i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++) {
		snprintf(from, sizeof(from), "%s%s", place->path, suffix[i]);
		snprintf(to, sizeof(to), "%s%s.away", place->path, suffix[i]);
		assert_true(runs_now(place->ledger, 1) > 0);
		assert_true(ctl_ledger_there(place->ledger));
		/* moved away */
		assert_int_equal(rename(from, to), 0);
		assert_false(ctl_ledger_there(place->ledger));
		assert_int_equal(runs_now(place->ledger, 2), -EIDRM);
		assert_int_equal(ctl_ledger_segment_last(place->ledger, &sequence), -EIDRM);
		/* another one in its place */
		FILE *other = fopen(from, "w");
		assert_non_null(other);
		fclose(other);
		assert_false(ctl_ledger_there(place->ledger));
		assert_int_equal(runs_now(place->ledger, 3), -EIDRM);
		/* back again */
		assert_int_equal(rename(to, from), 0);
		assert_true(ctl_ledger_there(place->ledger));
		assert_true(runs_now(place->ledger, 4) > 0);
	}
	/* a transaction that began before */
	struct ctl_ledger_segment segment = {.sequence = 7, .from_minute = 0, .to_minute = 60};
	assert_int_equal(ctl_ledger_hold(place->ledger), 0);
	assert_int_equal(ctl_ledger_schedule_put(place->ledger, 0, "UTC", 1, 2), 0);
	assert_int_equal(unlink(place->path), 0);
	assert_int_equal(ctl_ledger_release(place->ledger, 0), -EIDRM);
	assert_int_equal(ctl_ledger_segment_store(place->ledger, &segment), -EIDRM);
	/* opened anew it is an empty one, and whole */
	reopen(place);
	assert_int_equal(ctl_ledger_segment_last(place->ledger, &sequence), 0);
	assert_int_equal(sequence, 0);
	assert_int_equal(runs_now(place->ledger, 1), 1);
	assert_true(ctl_ledger_there(place->ledger));
}

struct opener {
	pthread_t thread;
	pthread_barrier_t *start;
	const char *folder;
	struct ctl_ledger *ledger;
	int rc;
};

static void *opener_run(void *context)
{
	struct opener *opener = context;

	pthread_barrier_wait(opener->start);
	opener->rc = ctl_ledger_open(&opener->ledger, opener->folder);
	return NULL;
}

/* The control process starts while an operator's tool does: whoever comes first makes the schema. */
static void a_new_one_is_opened_by_two_at_once(void **state)
{
	enum { ROUNDS = 60, OPENERS = 2 };
	struct place *place = *state;
	pthread_barrier_t start;

	assert_int_equal(pthread_barrier_init(&start, NULL, OPENERS), 0);
	for (int round = 0; round < ROUNDS; round++) {
		struct opener opener[OPENERS] = {0};
		uint64_t before, after;
		ctl_ledger_close(place->ledger);
		place->ledger = NULL;
		assert_int_equal(unlink(place->path), 0);
		for (int i = 0; i < OPENERS; i++) {
			opener[i].start = &start;
			opener[i].folder = place->folder;
			assert_int_equal(pthread_create(&opener[i].thread, NULL, opener_run, &opener[i]), 0);
		}
		for (int i = 0; i < OPENERS; i++)
			pthread_join(opener[i].thread, NULL);
		for (int i = 0; i < OPENERS; i++)
			assert_int_equal(opener[i].rc, 0);
		/* what the one writes, the other notices; what it writes itself is no news */
		assert_int_equal(ctl_ledger_version(opener[0].ledger, &before), 0);
		assert_true(runs_now(opener[0].ledger, 1) > 0);
		assert_int_equal(ctl_ledger_hold_if(opener[0].ledger, before), 0);
		assert_int_equal(ctl_ledger_release(opener[0].ledger, 0), 0);
		assert_true(runs_now(opener[1].ledger, 2) > 0);
		assert_int_equal(ctl_ledger_hold_if(opener[0].ledger, before), -EALREADY);
		assert_int_equal(ctl_ledger_version(opener[0].ledger, &after), 0);
		assert_int_equal(ctl_ledger_hold_if(opener[0].ledger, after), 0);
		assert_int_equal(ctl_ledger_release(opener[0].ledger, 0), 0);
		ctl_ledger_close(opener[1].ledger);
		place->ledger = opener[0].ledger;
	}
	pthread_barrier_destroy(&start);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_union_of_runs_reconciles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_later_segment_undoes_it_until_the_next_run, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_difference_counts_where_it_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(any_runs_give_what_a_slow_model_gives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(runs_are_listed_newest_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_it_cannot_read_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_new_one_is_opened_by_two_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_ledger_that_is_gone_takes_nothing, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("ctl_ledger", tests, NULL, NULL);
}
