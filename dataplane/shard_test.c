/*
 * The shard between its neighbours: a real log on a real disk, a real intake, no ports. What must hold: no answer before the block is
 * stable, duplicates behind their original, conflicts kept, late events through the lane, files and tables that change together.
 */
#include "shard_rig.h"

static void nothing_is_answered_before_it_is_stable(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	for (int i = 0; i < 200; i++) {
		char id[16];
		snprintf(id, sizeof(id), "e%d", i);
		struct tp_parsed one = rig_event(id, rig->now_ms, 500000);
		rig_send(rig, &one, 1);
		/* Taken and decided, the block perhaps submitted, but no completion was reaped: no answer may be there. */
		uint64_t durable = sto_wal_durable(rig->wal[0]);
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		if (sto_wal_durable(rig->wal[0]) == durable)
			assert_int_equal(dp_intake_poll(rig->intake[0]), 0);
		/* A duplicate right behind it waits for the original's block as well. */
		rig_send(rig, &one, 1);
		while (rig->answers < 2U * (uint32_t)(i + 1))
			rig_answer_wait(rig);
		assert_int_equal(rig->rx_counters[0].v[TP_C_EVENTS_ACCEPTED], i + 1);
		assert_int_equal(rig->rx_counters[0].v[TP_C_EVENTS_DUPLICATES], i + 1);
	}
	rig_free(rig);
}

static void copies_are_duplicates_and_other_payloads_conflicts(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 2, 1024);
	struct tp_parsed burst[] = {rig_event("a", rig->now_ms, 1), rig_event("a", rig->now_ms, 1), rig_event("a", rig->now_ms, 2),
				    rig_event("a", rig->now_ms, 1), rig_event("b", rig->now_ms, 1)};
	rig_send(rig, burst, 5);
	const struct dp_request *answer = rig_answer_wait(rig);
	assert_int_equal(answer->accepted, 2);
	assert_int_equal(answer->duplicates, 2);
	assert_int_equal(answer->conflicts, 1);
	uint64_t clicks = 0;
	for (uint32_t s = 0; s < 2; s++)
		for (uint32_t r = 0; rig->shard[s].table && r < atomic_load(&rig->shard[s].table->rows); r++)
			clicks += tp_rollup_rows(rig->shard[s].table)[r].sums.clicks;
	assert_int_equal(clicks, 2);
	rig_free(rig);
}

static void late_events_are_judged_at_once_inside_a_burst(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	struct tp_parsed burst[] = {rig_event("new", rig->now_ms, 1), rig_event("old", rig->now_ms - 600000, 1),
				    rig_event("recent", rig->now_ms - 30000, 1)};
	rig_send(rig, burst, 3);
	const struct dp_request *answer = rig_answer_wait(rig);
	assert_int_equal(answer->accepted, 2);
	assert_int_equal(answer->late, 1);
	rig_free(rig);
}

/* Rounds until all that was given to the lane has left its slots. */
static void slots_back(struct rig *rig)
{
	const struct tp_hop *hop = rig->shard[0].hop[0];
	/* However long the disk takes. */
	for (int i = 0; i < 50 || hop->tail != atomic_load(&hop->head); i++) {
		assert_true(i < 100000);
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		dp_intake_poll(rig->intake[0]);
		usleep(100);
	}
}

static void below_the_floor_the_lane_decides(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	struct dp_late_lane *lane = &rig->shard[0].lane;
	agg_dedup_floor_set(rig->dedup, (uint32_t)((rig->now_ms - 900000) / 60000));
	struct tp_parsed burst[] = {rig_event("now", rig->now_ms, 1), rig_event("gone", rig->now_ms - 7200000, 1),
				    rig_event("gone", rig->now_ms - 7200000, 1), rig_event("seen", rig->now_ms - 7200000, 1),
				    rig_event("other", rig->now_ms - 7200000, 1)};
	rig_send(rig, burst, 5);
	slots_back(rig);
	assert_int_equal(rig->answers, 0);
	assert_int_equal(atomic_load(&lane->given), 4);
	static const int lookup[] = {STO_ABSENT, STO_ABSENT, STO_SAME, STO_OTHER};
	for (int i = 0; i < 4; i++)
		lane->entry[i].lookup = lookup[i];
	atomic_store(&lane->looked, 4);
	const struct dp_request *answer = rig_answer_wait(rig);
	assert_int_equal(answer->accepted, 1);
	assert_int_equal(answer->late, 1);
	assert_int_equal(answer->duplicates, 2);
	assert_int_equal(answer->conflicts, 1);
	assert_true(dp_shard_settled(&rig->shard[0]));
	rig_free(rig);
}

/* Hands one event to the lane, lets the table rotate, and gives the look-up's result. */
static const struct dp_request *lane_over_rotations(struct rig *rig, const struct tp_parsed *late, int rotations)
{
	struct dp_late_lane *lane = &rig->shard[0].lane;
	uint64_t given = atomic_load(&lane->given);
	rig_send(rig, late, 1);
	slots_back(rig);
	assert_int_equal(atomic_load(&lane->given), given + 1);
	for (int i = 0; i < rotations; i++) {
		agg_dedup_rotate(rig->dedup);
		agg_dedup_clear_spare(rig->dedup);
	}
	lane->entry[given].lookup = STO_ABSENT;
	atomic_store(&lane->looked, given + 1);
	return rig_answer_wait(rig);
}

static void a_look_up_holds_for_one_rotation(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	agg_dedup_floor_set(rig->dedup, (uint32_t)(rig->now_ms / 60000) + 1);
	struct tp_parsed one = rig_event("one", rig->now_ms, 1), two = rig_event("two", rig->now_ms, 1);
	assert_int_equal(lane_over_rotations(rig, &one, 1)->accepted, 1);
	assert_int_equal(rig->shard[0].watermark.high_ms, rig->now_ms);
	/* Twice: a copy that another shard took meanwhile may have come and gone, whatever the floor says. */
	assert_int_equal(lane_over_rotations(rig, &two, 2)->refused, 1);
	assert_int_equal(lane_over_rotations(rig, &two, 0)->accepted, 1);
	rig_free(rig);
}

static void an_id_of_two_minutes_is_looked_up(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	struct dp_late_lane *lane = &rig->shard[0].lane;
	agg_dedup_floor_set(rig->dedup, (uint32_t)((rig->now_ms - 900000) / 60000));
	struct tp_parsed burst[] = {rig_event("x", rig->now_ms, 1), rig_event("x", rig->now_ms - 7200000, 1),
				    rig_event("x", rig->now_ms, 2)};
	rig_send(rig, burst, 3);
	slots_back(rig);
	assert_int_equal(atomic_load(&lane->given), 1);
	lane->entry[0].lookup = STO_SAME;
	atomic_store(&lane->looked, 1);
	const struct dp_request *answer = rig_answer_wait(rig);
	assert_int_equal(answer->accepted, 1);
	assert_int_equal(answer->duplicates, 1);
	assert_int_equal(answer->conflicts, 1);
	/* Not in the segments either: the id is taken, for the minute that is inside the horizon. */
	rig_send(rig, &burst[1], 1);
	slots_back(rig);
	lane->entry[1].lookup = STO_ABSENT;
	atomic_store(&lane->looked, 2);
	assert_int_equal(rig_answer_wait(rig)->conflicts, 1);
	rig_free(rig);
}

static void what_is_rolled_back_never_was(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 2, 1024);
	struct tp_parsed burst[] = {rig_event("a", rig->now_ms, 1), rig_event("b", rig->now_ms, 1), rig_event("c", rig->now_ms, 1)};
	for (int i = 0; i < 300; i++) { /* more often than there are request slots */
		struct dp_request *request = dp_intake_open(rig->intake[0], rig_answered, NULL);
		assert_non_null(request);
		for (uint32_t k = 0; k < 3; k++)
			assert_int_equal(dp_intake_stage(rig->intake[0], request, &burst[k], k), 0);
		dp_intake_rollback(rig->intake[0], request);
	}
	assert_int_equal(dp_intake_in_flight(rig->intake[0]), 0);
	assert_int_equal(dp_intake_given(rig->intake[0]), 0);
	rig_send(rig, burst, 3);
	assert_int_equal(rig_answer_wait(rig)->accepted, 3);
	assert_int_equal(rig->answers, 1);
	assert_int_equal(rig->counters[0].v[TP_C_SHARD_TAKEN] + rig->counters[1].v[TP_C_SHARD_TAKEN], 3);
	rig_free(rig);
}

static void a_full_table_ends_its_file(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 8);
	uint64_t first = 0;
	for (int i = 0; i < 20; i++) {
		char id[16];
		snprintf(id, sizeof(id), "key%d", i);
		struct tp_parsed one = rig_event(id, rig->now_ms, 1);
		rig_send(rig, &one, 1);
		assert_int_equal(rig_answer_wait(rig)->accepted, 1);
		if (!first)
			first = sto_wal_file_id(rig->wal[0]);
		rig_keep(rig);
	}
	assert_int_not_equal(sto_wal_file_id(rig->wal[0]), first);
	assert_int_equal(atomic_load(&rig->shard[0].table->file_id), sto_wal_file_id(rig->wal[0]));
	assert_int_equal(rig->counters[0].v[TP_C_LOG_ROLLS], 2);
	rig_free(rig);
}

/* What the next start knows of event time. */
static void the_log_carries_the_watermark(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	struct tp_parsed one = rig_event("one", rig->now_ms - 5000, 1);
	rig_send(rig, &one, 1);
	assert_int_equal(rig_answer_wait(rig)->accepted, 1);
	uint64_t file_id = sto_wal_file_id(rig->wal[0]);
	struct sto_log_facts facts;
	assert_int_equal(sto_log_read(rig->store, file_id, NULL, NULL, &facts), 0);
	assert_int_equal(facts.events, 1);
	assert_int_equal(facts.watermark_ms, rig->now_ms - 65000);
	rig_free(rig);
}

/* A ring of dead letters to the first shard of a rig. */
struct letters {
	struct tp_hop ring;
	struct dp_dead dead;
	struct tp_counters counters;
	struct dp_shard_dead side;
};

static void letters_open(struct letters *letters, struct rig *rig)
{
	*letters = (struct letters){0};
	assert_int_equal(tp_hop_init(&letters->ring, DP_DEAD_RING_BYTES), 0);
	dp_dead_init(&letters->dead, &letters->ring, &letters->counters, 100000, 1 << 30);
	letters->side.ring = &letters->ring;
	rig->shard[0].dead = &letters->side;
	rig->shard[0].deads = 1;
}

static void letter_send(struct letters *letters, struct rig *rig)
{
	static char text[TP_DEAD_KEPT_BYTES_MAX];
	const struct dp_dead_what what = {.reason = TP_MALFORMED};
	dp_dead_stage(&letters->dead, rig->now_ms, &what, text, sizeof(text));
	assert_true(dp_dead_commit(&letters->dead));
}

static void dead_letters_wait_for_the_disk_and_not_for_events(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	struct letters letters;
	letters_open(&letters, rig);
	for (uint64_t i = 0; i < 100; i++) {
		char id[16];
		snprintf(id, sizeof(id), "e%d", (int)i);
		struct tp_parsed one = rig_event(id, rig->now_ms, 500000);
		letter_send(&letters, rig);
		assert_int_equal(dp_shard_deadline_ns(&rig->shard[0]), 0);
		assert_false(dp_shard_settled(&rig->shard[0]));
		if (i % 2) /* alone, or with events */
			rig_send(rig, &one, 1);
		for (int rounds = 0; letters.counters.v[TP_C_DEAD_KEPT] == i; rounds++) {
			assert_true(rounds < 100000);
			uint64_t durable = sto_wal_durable(rig->wal[0]);
			dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
			bool moved = sto_wal_durable(rig->wal[0]) != durable;
			uint32_t back = dp_dead_poll(&letters.dead);
			assert_true(moved || !back);
			if (rounds > 100)
				usleep(100);
		}
		while (i % 2 && rig->answers < (i + 1) / 2)
			rig_answer_wait(rig);
	}
	assert_int_equal(letters.counters.v[TP_C_DEAD_KEPT], 100);
	assert_int_equal(letters.counters.v[TP_C_DEAD_IN_FLIGHT], 0);
	assert_true(dp_shard_settled(&rig->shard[0]));
	struct sto_log_facts facts;
	assert_int_equal(sto_log_read(rig->store, sto_wal_file_id(rig->wal[0]), NULL, NULL, &facts), 0);
	assert_int_equal(facts.events, 50);
	assert_int_equal(facts.others, 100);
	assert_int_equal(rig->counters[0].v[TP_C_SHARD_TAKEN], 50);
	rig_free(rig);
	tp_hop_fini(&letters.ring);
}

static void a_letter_without_room_waits_and_events_come_first(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	struct letters letters;
	letters_open(&letters, rig);
	struct tp_rollup *table = atomic_exchange(&rig->shard[0].spare_table, NULL);
	letter_send(&letters, rig);
	letter_send(&letters, rig);
	for (int i = 0; i < 10; i++) {
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		assert_int_equal(dp_dead_poll(&letters.dead), 0);
		assert_int_not_equal(dp_shard_deadline_ns(&rig->shard[0]), 0); /* it does not spin meanwhile */
	}
	atomic_store(&rig->shard[0].spare_table, table);
	for (int i = 0; letters.counters.v[TP_C_DEAD_KEPT] < 2; i++) {
		assert_true(i < 100000);
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		dp_dead_poll(&letters.dead);
		if (i > 100)
			usleep(100);
	}
	/* Tables but no more files: what is left of the last one is for events. */
	for (int i = 0; letters.counters.v[TP_C_DEAD_NO_SPACE] == 0; i++) {
		assert_true(i < 100000);
		if (!atomic_load(&rig->shard[0].spare_table) && rig->next_table < rig->live->rollup_count) {
			uint64_t at = rig->live->rollup_at + rig->next_table++ * rig->live->rollup_bytes;
			atomic_store(&rig->shard[0].spare_table, (struct tp_rollup *)(void *)((uint8_t *)rig->live + at));
		}
		letter_send(&letters, rig);
		for (int rounds = 0; letters.dead.in_flight; rounds++) {
			assert_true(rounds < 100000);
			dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
			dp_dead_poll(&letters.dead);
			if (rounds > 100)
				usleep(100);
		}
	}
	assert_true(sto_wal_no_space(rig->wal[0]));
	struct tp_parsed one = rig_event("one", rig->now_ms, 1);
	rig_send(rig, &one, 1);
	assert_int_equal(rig_answer_wait(rig)->accepted, 1);
	rig_free(rig);
	tp_hop_fini(&letters.ring);
}

static void without_a_table_the_shard_waits(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 8);
	struct tp_parsed burst[12];
	char id[12][16];
	for (int i = 0; i < 12; i++) {
		snprintf(id[i], sizeof(id[i]), "key%d", i);
		burst[i] = rig_event(id[i], rig->now_ms, 1);
	}
	rig_send(rig, burst, 12);
	for (int i = 0; i < 50; i++) {
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		dp_intake_poll(rig->intake[0]);
		usleep(100);
	}
	assert_int_equal(rig->answers, 0);
	assert_true(rig->shard[0].stalled);
	rig_keep(rig);
	assert_int_equal(rig_answer_wait(rig)->accepted, 12);
	rig_free(rig);
}

static void a_paused_shard_takes_nothing(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	atomic_store(&rig->shard[0].pause_wanted, 1);
	dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
	assert_int_equal(atomic_load(&rig->shard[0].paused), 1);
	struct tp_parsed one = rig_event("x", rig->now_ms, 1);
	rig_send(rig, &one, 1);
	for (int i = 0; i < 10; i++)
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
	assert_int_equal(agg_dedup_ids(rig->dedup), 0);
	atomic_store(&rig->shard[0].pause_wanted, 0);
	assert_int_equal(rig_answer_wait(rig)->accepted, 1);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_answered_before_it_is_stable),
		cmocka_unit_test(copies_are_duplicates_and_other_payloads_conflicts),
		cmocka_unit_test(late_events_are_judged_at_once_inside_a_burst),
		cmocka_unit_test(below_the_floor_the_lane_decides),
		cmocka_unit_test(a_look_up_holds_for_one_rotation),
		cmocka_unit_test(an_id_of_two_minutes_is_looked_up),
		cmocka_unit_test(what_is_rolled_back_never_was),
		cmocka_unit_test(a_full_table_ends_its_file),
		cmocka_unit_test(the_log_carries_the_watermark),
		cmocka_unit_test(dead_letters_wait_for_the_disk_and_not_for_events),
		cmocka_unit_test(a_letter_without_room_waits_and_events_come_first),
		cmocka_unit_test(without_a_table_the_shard_waits),
		cmocka_unit_test(a_paused_shard_takes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
