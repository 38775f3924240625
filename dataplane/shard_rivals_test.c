/*
 * Conflicts across shards: the answer waits for the event that has the id, wherever that lies. Whoever fails is played by not polling it.
 */
#include "shard_rig.h"

static struct tp_parsed from_device(const char *device, int64_t micros)
{
	struct tp_parsed parsed = rig_event("contested", NOW_MS * 1000ULL, micros);
	parsed.string[TP_DEVICE_ID] = (struct tp_str){device, (uint16_t)strlen(device)};
	tp_event_finish(&parsed);
	return parsed;
}

/* A copy of the id for the given shard of two. */
static struct tp_parsed copy_for(uint32_t shard, int64_t micros)
{
	static const char device[][4] = {"d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"};
	for (uint32_t i = 0; i < 10; i++) {
		struct tp_parsed parsed = from_device(device[i], micros);
		if ((uint32_t)(((unsigned __int128)parsed.fixed.shard_hash * 2) >> 64) == shard)
			return parsed;
	}
	fail();
	return (struct tp_parsed){0};
}

static void shard_poll(struct rig *rig, uint32_t s)
{
	dp_shard_poll(&rig->shard[s], rig->now_ms, tp_mono_ns());
	assert_int_equal(rig->shard[s].failed, 0);
}

/* Rounds of one shard until all that it appended is durable, and some more. */
static void shard_alone(struct rig *rig, uint32_t s)
{
	for (int i = 0, after = 0; after < 20; i++) {
		assert_true(i < 100000);
		shard_poll(rig, s);
		dp_intake_poll(rig->intake[0]);
		after += sto_wal_durable(rig->wal[s]) == sto_wal_appended(rig->wal[s]) && !sto_wal_busy(rig->wal[s]);
		usleep(100);
	}
}

/* Shard `s` decides what it was given, and its block is not known to be durable. */
static void shard_decide(struct rig *rig, uint32_t s)
{
	const uint64_t taken = rig->counters[s].v[TP_C_SHARD_TAKEN];
	shard_poll(rig, s);
	assert_true(rig->counters[s].v[TP_C_SHARD_TAKEN] > taken);
	assert_true(sto_wal_durable(rig->wal[s]) < sto_wal_appended(rig->wal[s]));
}

static void a_conflict_waits_for_the_rival_s_disk(void **state)
{
	(void)state;
	for (uint32_t first = 0; first < 2; first++) {
		struct rig *rig = rig_make(1, 2, 1024);
		const uint32_t second = 1 - first;
		const struct tp_parsed a = copy_for(first, 1), b = copy_for(second, 2);
		rig_send(rig, &a, 1);
		shard_decide(rig, first);
		rig_send(rig, &b, 1);
		shard_alone(rig, second);
		/* The conflict is durable, what it conflicts with is not: nobody is told anything. */
		assert_int_equal(sto_wal_durable(rig->wal[second]), 1);
		assert_int_equal(rig->answers, 0);
		assert_true(dp_rivals_waiting(&rig->shard[second].rivals));
		assert_false(dp_shard_settled(&rig->shard[second]));
		shard_alone(rig, first);
		assert_int_equal(rig->answers, 1);
		assert_int_equal(rig->answer.accepted, 1);
		shard_poll(rig, second);
		dp_intake_poll(rig->intake[0]);
		assert_int_equal(rig->answers, 2);
		assert_int_equal(rig->answer.conflicts, 1);
		assert_false(dp_rivals_waiting(&rig->shard[second].rivals));
		assert_true(dp_shard_settled(&rig->shard[second]));
		/* Once it is durable nobody waits for it. */
		const struct tp_parsed c = copy_for(second, 3);
		rig_send(rig, &c, 1);
		shard_alone(rig, second);
		assert_int_equal(rig->answers, 3);
		rig_free(rig);
	}
}

/* What comes behind a conflict waits with it, what came before does not. */
static void answers_keep_their_order(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 2, 1024);
	struct tp_parsed before = copy_for(1, 5), behind = copy_for(1, 6);
	before.fixed.id.lo ^= 1;
	behind.fixed.id.lo ^= 2;
	const struct tp_parsed a = copy_for(0, 1), b = copy_for(1, 2);
	rig_send(rig, &before, 1);
	shard_decide(rig, 1);
	rig_send(rig, &a, 1);
	shard_decide(rig, 0);
	rig_send(rig, &b, 1);
	shard_poll(rig, 1);
	rig_send(rig, &behind, 1);
	shard_alone(rig, 1);
	assert_int_equal(sto_wal_durable(rig->wal[1]), 3);
	assert_int_equal(rig->answers, 1);
	shard_alone(rig, 0);
	shard_alone(rig, 1);
	assert_int_equal(rig->answers, 4);
	rig_free(rig);
}

/* An event that comes out of the late lane as a conflict. */
static void a_late_conflict_waits_as_well(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 2, 1024);
	struct dp_late_lane *lane = &rig->shard[1].lane;
	const struct tp_parsed a = copy_for(0, 1), b = copy_for(1, 2);
	agg_dedup_floor_set(rig->dedup, (uint32_t)(rig->now_ms / 60000) + 1);
	rig_send(rig, &b, 1);
	shard_alone(rig, 1);
	assert_int_equal(atomic_load(&lane->given), 1);
	/* The other payload is new meanwhile, and its block on its way. */
	agg_dedup_floor_set(rig->dedup, 0);
	rig_send(rig, &a, 1);
	shard_decide(rig, 0);
	lane->entry[0].lookup = STO_ABSENT;
	atomic_store(&lane->looked, 1);
	shard_alone(rig, 1);
	assert_int_equal(sto_wal_durable(rig->wal[1]), 1);
	assert_int_equal(rig->answers, 0);
	shard_alone(rig, 0);
	assert_int_equal(rig->answers, 1);
	shard_alone(rig, 1);
	assert_int_equal(rig->answers, 2);
	assert_int_equal(rig->answer.conflicts, 1);
	rig_free(rig);
}

/* ---- the notes alone ---- */

struct notes {
	struct dp_shard_turns at[3];
	const struct dp_shard_turns *turns[3];
	struct dp_rivals rivals; /* of shard 1 */
};

static void notes_make(struct notes *notes)
{
	memset(notes, 0, sizeof(*notes));
	for (uint32_t s = 0; s < 3; s++)
		notes->turns[s] = &notes->at[s];
	assert_int_equal(dp_rivals_init(&notes->rivals, 1, 3, notes->turns), 0);
}

static void decides(struct notes *notes, uint32_t s, uint64_t appended)
{
	dp_turn_begin(&notes->at[s]);
	dp_turn_end(&notes->at[s], appended);
}

static void a_claim_in_mid_turn_is_waited_for(void **state)
{
	(void)state;
	struct notes notes;
	notes_make(&notes);
	decides(&notes, 2, 7);
	atomic_store(&notes.at[2].durable, 7);
	assert_int_equal(dp_rivals_note(&notes.rivals), 0); /* nobody owes anything; its own log is no matter here */
	decides(&notes, 1, 100);
	assert_int_equal(dp_rivals_note(&notes.rivals), 0);
	/* Claimed, and not appended yet: all that was appended is durable, and it is not enough. */
	dp_turn_begin(&notes.at[2]);
	const uint64_t note = dp_rivals_note(&notes.rivals);
	assert_int_equal(note, 1);
	assert_false(dp_rivals_settled(&notes.rivals, note));
	dp_turn_end(&notes.at[2], 8);
	assert_false(dp_rivals_settled(&notes.rivals, note));
	/* Later turns do not put it off: what they append was not there when the note was taken. */
	decides(&notes, 2, 50);
	dp_turn_begin(&notes.at[2]);
	atomic_store(&notes.at[2].durable, 8);
	assert_true(dp_rivals_settled(&notes.rivals, note));
	assert_true(dp_rivals_settled(&notes.rivals, 0));
	dp_rivals_fini(&notes.rivals);
}

/* The note's turn has long ended when it is looked at for the first time, and another is under way. */
static void a_turn_missed_takes_the_later_count(void **state)
{
	(void)state;
	struct notes notes;
	notes_make(&notes);
	dp_turn_begin(&notes.at[0]);
	const uint64_t note = dp_rivals_note(&notes.rivals);
	dp_turn_end(&notes.at[0], 3);
	decides(&notes, 0, 9);
	dp_turn_begin(&notes.at[0]);
	atomic_store(&notes.at[0].durable, 3);
	assert_false(dp_rivals_settled(&notes.rivals, note));
	atomic_store(&notes.at[0].durable, 9);
	assert_true(dp_rivals_settled(&notes.rivals, note));
	dp_rivals_fini(&notes.rivals);
}

static void too_many_notes_become_one(void **state)
{
	(void)state;
	struct notes notes;
	notes_make(&notes);
	uint64_t last = 0;
	for (uint64_t i = 1; i <= DP_RIVAL_NOTES + 10; i++) {
		decides(&notes, i % 2 ? 0 : 2, i);
		last = dp_rivals_note(&notes.rivals);
		assert_int_equal(last, i < DP_RIVAL_NOTES ? i : DP_RIVAL_NOTES);
	}
	for (uint64_t i = 1; i < DP_RIVAL_NOTES; i++) {
		atomic_store(&notes.at[0].durable, i);
		atomic_store(&notes.at[2].durable, i);
		assert_true(dp_rivals_settled(&notes.rivals, i));
		assert_false(dp_rivals_settled(&notes.rivals, i + 1));
	}
	/* The last one stands for the eleven that were taken since. */
	atomic_store(&notes.at[0].durable, DP_RIVAL_NOTES + 9);
	atomic_store(&notes.at[2].durable, DP_RIVAL_NOTES + 9);
	assert_false(dp_rivals_settled(&notes.rivals, last));
	atomic_store(&notes.at[2].durable, DP_RIVAL_NOTES + 10);
	assert_true(dp_rivals_settled(&notes.rivals, last));
	assert_false(dp_rivals_waiting(&notes.rivals));
	/* The ring goes on. */
	decides(&notes, 0, 1000);
	assert_int_equal(dp_rivals_note(&notes.rivals), DP_RIVAL_NOTES + 1);
	assert_false(dp_rivals_settled(&notes.rivals, DP_RIVAL_NOTES + 1));
	dp_rivals_fini(&notes.rivals);
}

static void one_shard_has_no_rivals(void **state)
{
	(void)state;
	struct dp_rivals rivals;
	assert_int_equal(dp_rivals_init(&rivals, 0, 1, NULL), 0);
	assert_int_equal(dp_rivals_note(&rivals), 0);
	assert_true(dp_rivals_settled(&rivals, 0));
	dp_rivals_fini(&rivals);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_conflict_waits_for_the_rival_s_disk),
		cmocka_unit_test(answers_keep_their_order),
		cmocka_unit_test(a_late_conflict_waits_as_well),
		cmocka_unit_test(a_claim_in_mid_turn_is_waited_for),
		cmocka_unit_test(a_turn_missed_takes_the_later_count),
		cmocka_unit_test(too_many_notes_become_one),
		cmocka_unit_test(one_shard_has_no_rivals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
