/* What state machines may do beside a shard, and two rx cores with two shards at once. */
#include "shard_rig.h"

#include <pthread.h>

/* ---- machines ---- */

static struct tp_parsed viewed(const char *id, enum tp_event_type type, uint64_t timestamp_ms, uint64_t received_ms)
{
	struct tp_parsed parsed = rig_event(id, timestamp_ms, 250000);
	parsed.fixed.type = (uint8_t)type;
	parsed.fixed.received_ms = received_ms;
	parsed.string[TP_AD_ID] = (struct tp_str){"ad", 2};
	parsed.string[TP_USER_ID] = (struct tp_str){"u", 1};
	tp_event_finish(&parsed);
	return parsed;
}

static struct tp_sums sums_of(const struct tp_rollup *table)
{
	struct tp_sums sum = {0};
	for (uint32_t r = 0; r < atomic_load(&table->rows); r++) {
		const struct tp_sums *row = &tp_rollup_rows(table)[r].sums;
		sum.impressions += row->impressions;
		sum.clicks += row->clicks;
		sum.flagged_clicks += row->flagged_clicks;
		sum.late += row->late;
		sum.spend_micros += row->spend_micros;
	}
	return sum;
}

/* The click lies in one file, what takes its tag off in the next: the sums over both are right, in memory and sealed. */
static void an_amendment_moves_the_sums_and_the_answer_waits(void **state)
{
	(void)state;
	static const struct agg_fraud_rules rules = {
		.version = 3, .no_impression = true, .impression_lookback_ms = 60000, .impression_wait_ms = 5000};
	struct rig *rig = rig_make(1, 1, 1024);
	agg_fraud_rules_set(rig->fraud[0], &rules);
	const struct tp_parsed click = viewed("click", TP_CLICK, rig->now_ms, 1000),
			       impression = viewed("impression", TP_IMPRESSION, rig->now_ms - 10, 2000);
	rig_send(rig, &click, 1);
	assert_int_equal(rig_answer_wait(rig)->accepted, 1);
	const struct tp_rollup *first = rig->shard[0].table;
	struct tp_sums sums = sums_of(first);
	assert_int_equal(sums.flagged_clicks, 1);
	assert_int_equal(sums.clicks, 0);
	assert_true(sums.spend_micros == 0);

	const uint64_t first_file = sto_wal_file_id(rig->wal[0]);
	rig_roll(rig);
	rig_send(rig, &impression, 1);
	assert_int_equal(rig_answer_wait(rig)->accepted, 1); /* answer_wait: with all that was appended durable */
	assert_int_equal(sto_wal_appended(rig->wal[0]), 3);
	sums = sums_of(rig->shard[0].table);
	assert_true(sums.flagged_clicks == UINT64_MAX); /* less one */
	assert_int_equal(sums.clicks, 1);
	assert_int_equal(sums.late, 1);
	assert_true(sums.spend_micros == 250000);
	assert_true(dp_shard_settled(&rig->shard[0]));
	/* the copy of an event amends nothing again */
	rig_send(rig, &impression, 1);
	assert_int_equal(rig_answer_wait(rig)->duplicates, 1);
	assert_int_equal(sto_wal_appended(rig->wal[0]), 3);

	const uint64_t second_file = sto_wal_file_id(rig->wal[0]);
	sto_wal_close(rig->wal[0]);
	rig->wal[0] = NULL;
	assert_int_equal(sto_seal(rig->store, first_file, first, NULL), 0);
	assert_int_equal(sto_seal(rig->store, second_file, rig->shard[0].table, NULL), 0);
	struct sto_reader *reader;
	assert_int_equal(sto_reader_open(&reader, rig->folder), 0);
	assert_true(sto_reader_refresh(reader) >= 0);
	assert_int_equal(sto_reader_segments(reader), 2);
	sums = (struct tp_sums){0};
	for (uint32_t s = 0; s < 2; s++) {
		const struct tp_rollup_row *row;
		const char *heap;
		uint32_t rows;
		assert_int_equal(sto_reader_rollup(reader, s, &row, &rows, &heap), 0);
		for (uint32_t r = 0; r < rows; r++) {
			sums.clicks += row[r].sums.clicks;
			sums.flagged_clicks += row[r].sums.flagged_clicks;
			sums.spend_micros += row[r].sums.spend_micros;
		}
	}
	assert_int_equal(sums.clicks, 1);
	assert_int_equal(sums.flagged_clicks, 0);
	assert_true(sums.spend_micros == 250000);
	sto_reader_close(reader);
	rig_free(rig);
}

/* A machine whose state belongs to a log file, and that has no room now and then. */
struct filed {
	uint64_t file_id;
	uint32_t shown, refusals, files;
};

static bool filed_show(void *self, struct tp_event *one)
{
	struct filed *filed = self;
	assert_int_equal(filed->file_id, sto_wal_file_id(rig_now->wal[0])); /* told before the first event of a file */
	one->rule_version = ++filed->shown;
	return false;
}

static bool filed_roll(void *self, uint64_t file_id)
{
	struct filed *filed = self;
	if (filed->refusals) {
		filed->refusals--;
		return false;
	}
	assert_int_not_equal(file_id, filed->file_id); /* once a file */
	filed->file_id = file_id;
	filed->files++;
	return true;
}

static bool filed_has_room(const void *self)
{
	const struct filed *filed = self;
	return filed->shown == 0 || filed->shown % 4 != 0 || filed->files == filed->shown / 4 + 1;
}

static void a_machine_may_hold_and_end_a_file(void **state)
{
	(void)state;
	static const struct agg_machine_ops ops = {
		.name = "filed", .show = filed_show, .roll = filed_roll, .has_room = filed_has_room};
	struct rig *rig = rig_make(1, 1, 1024);
	struct filed filed = {.refusals = 5};
	rig->shard[0].machine[rig->shard[0].machines++] = (struct agg_machine){.ops = &ops, .self = &filed};
	for (int i = 0; i < 12; i++) {
		char id[16];
		snprintf(id, sizeof(id), "e%d", i);
		struct tp_parsed one = rig_event(id, rig->now_ms, 1);
		filed.refusals += i == 8 ? 3 : 0;
		rig_send(rig, &one, 1);
		assert_int_equal(rig_answer_wait(rig)->accepted, 1);
		rig_keep(rig);
	}
	assert_int_equal(filed.shown, 12);
	assert_int_equal(filed.files, 3);
	assert_int_equal(filed.refusals, 0);
	rig_free(rig);
}

/* A machine that leaves a record for each event, and ends a file after four. */
struct debtor {
	uint8_t record[TP_EVENT_BYTES_MAX] __attribute__((aligned(8)));
	uint64_t file_from, files, shown, owed, early;
};

static bool debtor_roll(void *self, uint64_t file_id)
{
	(void)file_id;
	struct debtor *debtor = self;
	debtor->file_from = sto_wal_appended(rig_now->wal[0]);
	debtor->files++;
	return true;
}

static bool debtor_has_room(const void *self)
{
	const struct debtor *debtor = self;
	return debtor->shown < 4 * debtor->files;
}

static bool debtor_show(void *self, struct tp_event *one)
{
	struct debtor *debtor = self;
	memcpy(debtor->record, one, one->bytes);
	((struct tp_event *)(void *)debtor->record)->verdict = TP_AMENDED;
	debtor->shown++;
	debtor->owed++;
	return true;
}

static const struct tp_event *debtor_record(void *self)
{
	struct debtor *debtor = self;
	debtor->early += debtor->owed && sto_wal_durable(rig_now->wal[0]) < debtor->file_from;
	return debtor->owed ? (const struct tp_event *)(const void *)debtor->record : NULL;
}

static void debtor_recorded(void *self)
{
	struct debtor *debtor = self;
	assert_true(sto_wal_durable(rig_now->wal[0]) >= debtor->file_from);
	debtor->owed--;
}

static uint64_t debtor_waiting(const void *self)
{
	const struct debtor *debtor = self;
	return debtor->owed;
}

/* What such a record means may lie in the file before: a crash must not keep the record and lose that. */
static void a_left_record_waits_for_the_file_before(void **state)
{
	(void)state;
	static const struct agg_machine_ops ops = {.name = "debtor",
						   .show = debtor_show,
						   .roll = debtor_roll,
						   .has_room = debtor_has_room,
						   .record = debtor_record,
						   .recorded = debtor_recorded,
						   .waiting = debtor_waiting};
	struct rig *rig = rig_make(1, 1, 1024);
	struct debtor debtor = {0};
	rig->shard[0].machine[rig->shard[0].machines++] = (struct agg_machine){.ops = &ops, .self = &debtor};
	char id[24][16];
	for (uint32_t round = 0; round < 6; round++) {
		struct tp_parsed four[4];
		for (uint32_t i = 0; i < 4; i++) {
			snprintf(id[4 * round + i], sizeof(id[0]), "e%u", 4 * round + i);
			four[i] = rig_event(id[4 * round + i], rig->now_ms, 1);
		}
		rig_keep(rig);
		/* the first three end a file that the last of the round before began: not yet stable when the fourth comes */
		rig_send(rig, four, round ? 4 : 3);
		assert_int_equal(rig_answer_wait(rig)->accepted, round ? 4 : 3);
	}
	assert_int_equal(debtor.shown, 23);
	assert_int_equal(debtor.files, 6);
	assert_int_equal(debtor.owed, 0);
	assert_true(debtor.early > 0); /* else nothing was tried */
	rig_free(rig);
}

/* ---- two rx cores and two shards at once ---- */

static _Atomic bool threads_stop;
static _Atomic uint64_t counted, duplicated;

static void answered_in_thread(struct dp_request *request)
{
	atomic_fetch_add(&counted, request->accepted);
	atomic_fetch_add(&duplicated, request->duplicates);
	assert(!request->conflicts && !request->refused && !request->late);
	dp_intake_close(request->user, request);
}

static void *shard_thread(void *context)
{
	struct dp_shard *shard = context;
	while (!atomic_load(&threads_stop) || !dp_shard_settled(shard))
		dp_shard_poll(shard, rig_now->now_ms, tp_mono_ns());
	return NULL;
}

enum { THREAD_EVENTS = 20000 };

/* Both rx cores send the same ids: each id is counted once, and found to be a copy once. */
static void *rx_thread(void *context)
{
	struct dp_intake *intake = context;
	uint32_t sent = 0;
	char id[16];
	while (sent < THREAD_EVENTS || dp_intake_in_flight(intake)) {
		dp_intake_clock(intake, rig_now->now_ms, tp_mono_ns());
		struct dp_request *request = sent < THREAD_EVENTS ? dp_intake_open(intake, answered_in_thread, intake) : NULL;
		if (request) {
			uint32_t k = 0;
			for (; k < 10; k++) {
				snprintf(id, sizeof(id), "e%u", sent + k);
				struct tp_parsed one = rig_event(id, rig_now->now_ms, 1);
				one.string[TP_AD_ID] = (struct tp_str){"ad", 2};
				tp_event_finish(&one);
				if (dp_intake_stage(intake, request, &one, k))
					break;
			}
			if (k == 10) {
				dp_intake_commit(intake, request);
				sent += 10;
			} else {
				dp_intake_rollback(intake, request);
			}
		}
		dp_intake_poll(intake);
	}
	return NULL;
}

static int event_count(void *context, const struct tp_event *event)
{
	*(uint64_t *)context += event->verdict == TP_ACCEPTED;
	return 0;
}

static void cores_meet_without_a_race(void **state)
{
	(void)state;
	struct rig *rig = rig_make(2, 2, 1024);
	pthread_t rx[2], shard[2];
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&shard[i], NULL, shard_thread, &rig->shard[i]), 0);
		assert_int_equal(pthread_create(&rx[i], NULL, rx_thread, rig->intake[i]), 0);
	}
	/* Meanwhile: housekeeping gives spares, pauses the shards and lets them go on. */
	for (int i = 0; i < 20; i++) {
		rig_keep(rig);
		for (uint32_t s = 0; s < 2; s++)
			atomic_store(&rig->shard[s].pause_wanted, (uint32_t)(i % 2));
		usleep(2000);
	}
	for (uint32_t s = 0; s < 2; s++)
		atomic_store(&rig->shard[s].pause_wanted, 0);
	for (uint32_t i = 0; i < 2; i++)
		pthread_join(rx[i], NULL);
	atomic_store(&threads_stop, true);
	for (uint32_t i = 0; i < 2; i++)
		pthread_join(shard[i], NULL);
	assert_int_equal(atomic_load(&counted), THREAD_EVENTS);
	assert_int_equal(atomic_load(&duplicated), THREAD_EVENTS);
	/* What was said is what is in the logs. */
	uint64_t in_logs = 0;
	for (uint32_t s = 0; s < 2; s++) {
		sto_wal_close(rig->wal[s]);
		rig->wal[s] = NULL;
	}
	uint64_t *file_id;
	uint32_t files;
	assert_int_equal(sto_store_unsealed(rig->store, &file_id, &files), 0);
	for (uint32_t i = 0; i < files; i++) {
		struct sto_log_facts facts;
		assert_int_equal(sto_log_read(rig->store, file_id[i], event_count, &in_logs, &facts), 0);
	}
	free(file_id);
	assert_int_equal(in_logs, THREAD_EVENTS);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_amendment_moves_the_sums_and_the_answer_waits),
		cmocka_unit_test(a_machine_may_hold_and_end_a_file),
		cmocka_unit_test(a_left_record_waits_for_the_file_before),
		cmocka_unit_test(cores_meet_without_a_race),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
