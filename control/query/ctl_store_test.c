/*
 * The snapshot over segments and live tables: each event exactly once, also while files are being sealed, across a kill and a restart.
 */
#include "ctl_query.h"
#include "ctl_store.h"
#include "ctl_tally.h"
#include "ctl_view.h"
#include "stand_in.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void begin(void *context)
{
	ctl_answer_reset(context);
}

static bool row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	return ctl_answer_add(context, one, heap);
}

/* Gross clicks of all that the store can see. */
static uint64_t clicks_of(struct ctl_store *store, const struct tp_live *live, struct ctl_facts *facts)
{
	static const struct ctl_query all = {.to_minute = UINT64_MAX};
	struct ctl_answer answer;
	const struct ctl_scan scan = {.context = &answer, .to_minute = UINT64_MAX, .begin = begin, .row = row};

	assert_int_equal(ctl_answer_init(&answer, &all), 0);
	assert_int_equal(ctl_store_scan(store, live, &scan, facts), 0);
	uint64_t clicks = answer.totals.clicks + answer.totals.flagged_clicks;
	if (answer.totals.clicks)
		assert_true(ctl_sums_money(&answer.totals).micros == (__int128)answer.totals.clicks * 1000000);
	ctl_answer_fini(&answer);
	return clicks;
}

static void each_event_counts_once_on_its_way(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct ctl_store *store;
	struct ctl_facts facts;
	struct stand_in_event click = stand_in_click();

	stand_in_open(&stand_in);
	assert_int_equal(ctl_store_open(&store, stand_in.data_dir), 0);
	assert_int_equal(clicks_of(store, stand_in.live, &facts), 0);
	for (uint64_t round = 1; round <= 5; round++) {
		stand_in_add(&stand_in, &click);
		assert_int_equal(clicks_of(store, stand_in.live, &facts), 2 * round - 1);
		click.flagged = true;
		stand_in_add(&stand_in, &click);
		click.flagged = false;
		assert_int_equal(clicks_of(store, stand_in.live, &facts), 2 * round);
		stand_in_seal(&stand_in);
		stand_in_seal(&stand_in); /* nothing came: nothing happens */
		assert_int_equal(clicks_of(store, stand_in.live, &facts), 2 * round);
		assert_int_equal(clicks_of(store, NULL, &facts), 2 * round);
	}
	/* nothing new, and nothing at all: an empty file makes no segment */
	stand_in_add(&stand_in, &click);
	assert_int_equal(clicks_of(store, NULL, &facts), 10);
	assert_int_equal(clicks_of(store, stand_in.live, &facts), 11);
	atomic_store(&stand_in.live->watermark_ms, 77000);
	clicks_of(store, stand_in.live, &facts);
	assert_int_equal(facts.watermark_ms, 77000);
	ctl_store_close(store);
	stand_in_close(&stand_in);
}

/* A table whose file was sealed, and which has not been given back yet, is not read. */
static void a_sealed_table_is_left_out(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct ctl_store *store;
	struct ctl_facts facts;
	struct stand_in_event click = stand_in_click();

	stand_in_open(&stand_in);
	assert_int_equal(ctl_store_open(&store, stand_in.data_dir), 0);
	stand_in_add(&stand_in, &click);
	struct tp_rollup *finished = stand_in.table;
	uint64_t file_id = atomic_load(&finished->file_id);
	stand_in_seal(&stand_in);
	/* as it was in the moment between the manifest's append and the giving back */
	struct tp_rollup *ghost = NULL;
	for (uint32_t i = 0; i < STAND_IN_TABLES && !ghost; i++) {
		struct tp_rollup *table = (struct tp_rollup *)(uintptr_t)tp_live_rollup(stand_in.live, i);
		if (atomic_load(&table->file_id) == 0)
			ghost = table;
	}
	assert_non_null(ghost);
	tp_rollup_reset(ghost, file_id);
	_Alignas(8) uint8_t record[TP_EVENT_BYTES_MAX] = {0};
	struct tp_event *event = (struct tp_event *)(void *)record;
	event->type = TP_CLICK;
	event->verdict = TP_ACCEPTED;
	tp_rollup_add(ghost, event);
	assert_int_equal(clicks_of(store, stand_in.live, &facts), 1);
	ctl_store_close(store);
	stand_in_close(&stand_in);
}

/* ---- a table that goes to another file while it is read ---- */

struct switching {
	struct tp_rollup *table;
	uint32_t begun;
	uint64_t clicks;
};

static void event_into(struct tp_rollup *table, uint64_t minute)
{
	_Alignas(8) uint8_t record[TP_EVENT_BYTES_MAX] = {0};
	struct tp_event *event = (struct tp_event *)(void *)record;

	event->type = TP_CLICK;
	event->verdict = TP_ACCEPTED;
	event->timestamp_ms = minute * TP_MINUTE_MS;
	tp_rollup_add(table, event);
}

static void switching_begin(void *context)
{
	struct switching *switching = context;
	switching->begun++;
	switching->clicks = 0;
}

static bool switching_row(void *context, const struct tp_rollup_row *one, const char *heap)
{
	struct switching *switching = context;

	(void)heap;
	switching->clicks += one->sums.clicks;
	if (switching->begun == 1) {
		tp_rollup_reset(switching->table, 2000);
		event_into(switching->table, 100);
		event_into(switching->table, 100);
		event_into(switching->table, 100);
	}
	return true;
}

static void a_table_given_away_is_read_anew(void **state)
{
	(void)state;
	struct tp_live *live;
	struct ctl_store *store;
	struct ctl_facts facts;
	int fd = tp_live_create(&live, 1, 16, 4096);

	assert_true(fd >= 0);
	struct switching switching = {.table = (struct tp_rollup *)(uintptr_t)tp_live_rollup(live, 0)};
	const struct ctl_scan scan = {
		.context = &switching, .to_minute = UINT64_MAX, .begin = switching_begin, .row = switching_row};
	tp_rollup_reset(switching.table, 1000);
	event_into(switching.table, 50);
	assert_int_equal(ctl_store_open(&store, "there-is-no-such-folder"), 0);
	assert_int_equal(ctl_store_scan(store, live, &scan, &facts), 0);
	assert_int_equal(switching.begun, 2);
	assert_int_equal(switching.clicks, 3);
	ctl_store_close(store);
	tp_live_unmap(live);
	close(fd);
}

/* ---- while files are sealed ---- */

struct race {
	struct stand_in stand_in;
	_Atomic uint64_t begun, acknowledged;
	_Atomic bool done;
};

static void *writer(void *context)
{
	struct race *race = context;
	struct stand_in_event click = stand_in_click();
	unsigned seed = 3;

	for (int file = 0; file < 60; file++) {
		int count = rand_r(&seed) % 20;
		for (int i = 0; i < count; i++) {
			click.timestamp_ms = 1700000000000ULL + (uint64_t)(rand_r(&seed) % 600000);
			click.ad = i % 2 ? "ad-1" : "ad-2";
			atomic_fetch_add(&race->begun, 1);
			stand_in_add(&race->stand_in, &click);
			if (rand_r(&seed) % 4)
				continue;
			stand_in_commit(&race->stand_in);
			atomic_store(&race->acknowledged, atomic_load(&race->begun));
		}
		if (count == 0)
			continue; /* an empty file does not roll */
		stand_in_commit(&race->stand_in);
		atomic_store(&race->acknowledged, atomic_load(&race->begun));
		stand_in_seal(&race->stand_in);
	}
	atomic_store(&race->done, true);
	return NULL;
}

static void no_look_misses_or_doubles_at_the_hand_over(void **state)
{
	(void)state;
	static struct race race;
	struct ctl_store *store;
	struct ctl_facts facts;
	pthread_t thread;
	uint64_t last = 0, looks = 0;

	stand_in_open(&race.stand_in);
	assert_int_equal(ctl_store_open(&store, race.stand_in.data_dir), 0);
	assert_int_equal(pthread_create(&thread, NULL, writer, &race), 0);
	while (!atomic_load(&race.done)) {
		uint64_t acknowledged = atomic_load(&race.acknowledged);
		uint64_t clicks = clicks_of(store, race.stand_in.live, &facts);
		assert_true(clicks >= acknowledged);
		assert_true(clicks <= atomic_load(&race.begun));
		assert_true(clicks >= last);
		last = clicks;
		looks++;
	}
	pthread_join(thread, NULL);
	assert_int_equal(clicks_of(store, race.stand_in.live, &facts), atomic_load(&race.begun));
	assert_true(looks > 10);
	ctl_store_close(store);
	stand_in_close(&race.stand_in);
}

/* ---- the data process goes and comes back ---- */

static uint64_t look_at(struct ctl_views *views, struct ctl_store *store, uint32_t *pid, bool *connected)
{
	struct ctl_look look;
	struct ctl_facts facts;

	ctl_look_take(views, &look);
	uint64_t clicks = clicks_of(store, look.figures, &facts);
	*pid = look.now ? look.now->pid : 0;
	*connected = look.connected;
	ctl_look_give(views, &look);
	return clicks;
}

static void figures_stay_over_a_kill_and_a_restart(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct ctl_views *views;
	struct ctl_store *store;
	struct stand_in_event click = stand_in_click();
	uint32_t pid;
	bool connected;

	stand_in_open(&stand_in);
	assert_int_equal(ctl_views_open(&views, stand_in.data_dir), 0);
	assert_int_equal(ctl_store_open(&store, stand_in.data_dir), 0);
	uint64_t added = 0;
	for (int run = 0; run < 3; run++) {
		uint32_t expected_pid = stand_in.pid;
		do {
			/* while the new one is found: never less than before */
			assert_true(look_at(views, store, &pid, &connected) >= added);
			usleep(1000);
		} while (!connected || pid != expected_pid);
		for (int i = 0; i < 10; i++) {
			stand_in_add(&stand_in, &click);
			if (i == 4)
				stand_in_seal(&stand_in);
		}
		stand_in_commit(&stand_in);
		added += 10;
		/* the watcher may have to see first that this run is ready */
		for (int tries = 0; look_at(views, store, &pid, &connected) != added && tries < 5000; tries++)
			usleep(1000);
		assert_int_equal(look_at(views, store, &pid, &connected), added);
		stand_in_stop(&stand_in);
		do {
			assert_int_equal(look_at(views, store, &pid, &connected), added);
			usleep(1000);
		} while (connected);
		assert_int_equal(look_at(views, store, &pid, &connected), added);
		stand_in_start(&stand_in);
	}
	ctl_views_close(views);
	ctl_store_close(store);
	stand_in_close(&stand_in);
}

static void a_damaged_segment_is_told(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct ctl_store *store;
	struct ctl_facts facts;
	struct stand_in_event click = stand_in_click();
	char command[256];

	stand_in_open(&stand_in);
	stand_in_add(&stand_in, &click);
	stand_in_seal(&stand_in);
	/* every byte but the first page and the last 4 KiB is overwritten */
	snprintf(command, sizeof(command),
		 "for f in %s/segments/*; do n=$(stat -c %%s $f); "
		 "head -c $((n / 2)) /dev/zero | tr '\\0' x | dd of=$f conv=notrunc status=none; done",
		 stand_in.data_dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(ctl_store_open(&store, stand_in.data_dir), 0);
	static const struct ctl_query all = {.to_minute = UINT64_MAX};
	struct ctl_answer answer;
	const struct ctl_scan scan = {.context = &answer, .to_minute = UINT64_MAX, .begin = begin, .row = row};
	assert_int_equal(ctl_answer_init(&answer, &all), 0);
	int rc = ctl_store_scan(store, stand_in.live, &scan, &facts);
	assert_int_equal(rc, -EBADMSG);
	ctl_answer_fini(&answer);
	ctl_store_close(store);
	stand_in_close(&stand_in);
}

static void the_tally_only_grows(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct ctl_types types;
	struct stand_in_event event = stand_in_click();

	stand_in_open(&stand_in);
	struct ctl_tally *tally = ctl_tally_open(stand_in.data_dir);
	assert_non_null(tally);
	uint64_t high_ms = event.timestamp_ms;
	for (uint64_t round = 1; round <= 6; round++) {
		event.type = TP_CLICK;
		stand_in_add(&stand_in, &event);
		event.type = TP_IMPRESSION;
		stand_in_add(&stand_in, &event);
		stand_in_add(&stand_in, &event);
		event.type = TP_CONVERSION;
		stand_in_add(&stand_in, &event);
		assert_int_equal(ctl_tally_take(tally, stand_in.live, high_ms, &types), 0);
		assert_int_equal(types.clicks, round);
		assert_int_equal(types.impressions, 2 * round);
		assert_int_equal(types.conversions, round);
		if (round % 2)
			stand_in_seal(&stand_in);
		assert_int_equal(ctl_tally_take(tally, stand_in.live, high_ms, &types), 0);
		assert_int_equal(types.clicks, round);
	}
	json_t *top = ctl_tally_top(tally);
	assert_int_equal(json_array_size(top), 1);
	json_t *first = json_array_get(top, 0);
	assert_string_equal(json_string_value(json_object_get(first, "campaign")), "camp-1");
	assert_int_equal(json_integer_value(json_object_get(first, "clicks")), 6);
	assert_string_equal(json_string_value(json_object_get(first, "spend")), "6.000000");
	json_decref(top);
	/* ten minutes on, the campaigns have left the window, the totals have not */
	assert_int_equal(ctl_tally_take(tally, stand_in.live, high_ms + 600000, &types), 0);
	assert_int_equal(types.clicks, 6);
	top = ctl_tally_top(tally);
	assert_int_equal(json_array_size(top), 0);
	json_decref(top);
	ctl_tally_close(tally);
	stand_in_close(&stand_in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_event_counts_once_on_its_way),
		cmocka_unit_test(a_sealed_table_is_left_out),
		cmocka_unit_test(a_table_given_away_is_read_anew),
		cmocka_unit_test(no_look_misses_or_doubles_at_the_hand_over),
		cmocka_unit_test(figures_stay_over_a_kill_and_a_restart),
		cmocka_unit_test(a_damaged_segment_is_told),
		cmocka_unit_test(the_tally_only_grows),
	};
	tp_log_level_set(TP_ERROR + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
