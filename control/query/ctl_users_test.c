/* Distinct users: what is kept of sealed segments is added to, used, and no longer used once it is not of these segments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl.h"
#include "ctl_folds.h"
#include "ctl_query.h"
#include "ctl_users_kept.h"
#include "stand_in.h"

#include <stdio.h>

enum { LOG_BYTES = 64 << 20, GAP_MS = 1800000, HOUR_MINUTES = 60, EACH = 20, ASKED_MAX = 16, ENDED_MAX = 4 * ASKED_MAX };

struct fixture {
	struct stand_in stand_in;
	struct ctl_store *store;
	struct ctl_query query;
	struct agg_distinct truth;
	uint32_t users, asked;
	struct ctl_folds *folds[ASKED_MAX];
};

/* Folds of tests that have ended: open until all have, so that no two have one address. What is told within half a second goes by it. */
static struct ctl_folds *ended[ENDED_MAX];
static uint32_t endeds;

/* EACH users more, durable; the first ones of each lot are those of the lot before. */
static void users_send(struct fixture *fixture)
{
	for (uint32_t i = 0; i < EACH; i++) {
		struct stand_in_event event = stand_in_click();
		char user[32];
		int bytes = snprintf(user, sizeof(user), "user-%u", fixture->users + i - (fixture->users ? EACH / 4 : 0));
		event.campaign = "crowd";
		event.user = user;
		stand_in_add(&fixture->stand_in, &event);
		agg_distinct_add(&fixture->truth, user, (size_t)bytes);
	}
	fixture->users += EACH;
	stand_in_commit(&fixture->stand_in);
}

/* Through folds of its own: nothing is told again because it was told within half a second. */
static uint64_t users_ask(struct fixture *fixture)
{
	struct ctl ctl = {0};
	struct ctl_facts facts;
	uint64_t users = 0;

	assert_true(fixture->asked < ASKED_MAX);
	assert_int_equal(ctl_folds_open(&ctl.folds, fixture->stand_in.data_dir, LOG_BYTES, GAP_MS), 0);
	fixture->folds[fixture->asked++] = ctl.folds;
	assert_int_equal(ctl_users(&ctl, fixture->store, &fixture->query, NULL, &users, &facts), 0);
	return users;
}

static struct ctl_cache_facts counted(void)
{
	struct ctl_cache_facts facts;
	ctl_users_kept_facts(&facts);
	return facts;
}

static void fixture_open(struct fixture *fixture)
{
	stand_in_open(&fixture->stand_in);
	assert_int_equal(ctl_store_open(&fixture->store, fixture->stand_in.data_dir), 0);
	uint64_t hour = stand_in_click().timestamp_ms / TP_MINUTE_MS / HOUR_MINUTES;
	fixture->query = (struct ctl_query){.filtered = true,
					    .filter = CTL_CAMPAIGN,
					    .id = (char *)(uintptr_t) "crowd",
					    .id_bytes = 5,
					    .from_minute = (hour - 1) * HOUR_MINUTES,
					    .to_minute = (hour + 3) * HOUR_MINUTES};
}

static void fixture_close(struct fixture *fixture)
{
	while (fixture->asked) {
		assert_true(endeds < ENDED_MAX);
		ended[endeds++] = fixture->folds[--fixture->asked];
	}
	ctl_store_close(fixture->store);
	stand_in_close(&fixture->stand_in);
}

static void what_was_sealed_is_read_once(void **state)
{
	(void)state;
	static struct fixture fixture;
	fixture_open(&fixture);
	for (int i = 0; i < 3; i++) {
		users_send(&fixture);
		stand_in_seal(&fixture.stand_in);
	}
	struct ctl_cache_facts before = counted();
	assert_int_equal(users_ask(&fixture), agg_distinct_estimate(&fixture.truth));
	assert_int_equal(counted().misses, before.misses + 1);
	assert_int_equal(counted().entries, before.entries + 1);
	assert_int_equal(users_ask(&fixture), agg_distinct_estimate(&fixture.truth));
	assert_int_equal(counted().hits, before.hits + 1);
	/* with some that are not sealed, then sealed and more of them */
	users_send(&fixture);
	assert_int_equal(users_ask(&fixture), agg_distinct_estimate(&fixture.truth));
	stand_in_seal(&fixture.stand_in);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(users_ask(&fixture), agg_distinct_estimate(&fixture.truth));
		users_send(&fixture);
		stand_in_seal(&fixture.stand_in);
	}
	assert_int_equal(users_ask(&fixture), agg_distinct_estimate(&fixture.truth));
	assert_int_equal(counted().hits, before.hits + 5);
	assert_int_equal(counted().misses, before.misses + 1);
	fixture_close(&fixture);
}

/* Another node's files under the same name and range, with the same sequences. */
static void what_is_kept_of_other_segments_is_not_used(void **state)
{
	(void)state;
	static struct fixture node[2];
	for (int i = 0; i < 2; i++) {
		fixture_open(&node[i]);
		node[i].users = i ? 1000 : 0;
		node[i].query.from_minute -= HOUR_MINUTES; /* not what the test before was told, whose folds had these addresses */
		for (int lots = 0; lots <= i; lots++)
			users_send(&node[i]);
		stand_in_seal(&node[i].stand_in);
		assert_int_equal(users_ask(&node[i]), agg_distinct_estimate(&node[i].truth));
	}
	assert_int_not_equal(agg_distinct_estimate(&node[0].truth), agg_distinct_estimate(&node[1].truth));
	for (int i = 0; i < 2; i++)
		fixture_close(&node[i]);
}

static void kept_and_taken(void **state)
{
	(void)state;
	static struct agg_distinct users, got;
	const XXH128_hash_t one = {.low64 = 1, .high64 = 1}, meets = {.low64 = 1 + CTL_USERS_KEPT_MAX, .high64 = 1};
	const struct ctl_folds_sealed sealed = {.to_sequence = 9, .segments = 4, .sum = 77};
	struct ctl_folds_sealed found, other = sealed;

	agg_distinct_add(&users, "u", 1);
	assert_false(ctl_users_kept_find(one, &found));
	ctl_users_kept_put(one, &(struct ctl_folds_sealed){0}, &users); /* of nothing: not worth it */
	assert_false(ctl_users_kept_find(one, &found));
	ctl_users_kept_put(one, &sealed, &users);
	assert_true(ctl_users_kept_find(one, &found));
	assert_int_equal(found.to_sequence, 9);
	other.sum++;
	assert_false(ctl_users_kept_take(one, &other, &got));
	other = sealed, other.segments--;
	assert_false(ctl_users_kept_take(one, &other, &got));
	assert_false(ctl_users_kept_take(meets, &sealed, &got));
	assert_int_equal(agg_distinct_estimate(&got), 0);
	assert_true(ctl_users_kept_take(one, &sealed, &got));
	assert_memory_equal(&got, &users, sizeof(got));
	ctl_users_kept_put(meets, &sealed, &users);
	assert_false(ctl_users_kept_find(one, &found));
}

static int folds_close(void **state)
{
	(void)state;
	while (endeds)
		ctl_folds_close(ended[--endeds]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_sealed_is_read_once),
		cmocka_unit_test(what_is_kept_of_other_segments_is_not_used),
		cmocka_unit_test(kept_and_taken),
	};
	return cmocka_run_group_tests(tests, NULL, folds_close);
}
