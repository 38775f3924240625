/*
 * The shard between its neighbours: a real log on a real disk, a real intake, no ports. What must hold: no answer before the block is
 * stable, duplicates behind their original, conflicts kept, late events through the lane, files and tables that change together.
 */
#include "shard.h"

#include "turnpike/fraud.h"
#include "turnpike/reader.h"
#include "turnpike/store.h"
#include "turnpike/text.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SHARDS_MAX = 2, RX_MAX = 2, DEDUP_BYTES = 8 << 20, FRAUD_ENTRIES = 1 << 12, TABLES = 8, HOP_BYTES = 1 << 20 };
enum { NOW_MS = 1700000000 }; /* times 1000 */

struct rig {
	char folder[64];
	struct sto_store *store;
	struct tp_live *live;
	int live_fd;
	uint32_t rx_count, shards;
	struct sto_wal *wal[SHARDS_MAX];
	struct tp_hop hop[RX_MAX][SHARDS_MAX];
	struct dp_late_ring late[RX_MAX][SHARDS_MAX];
	struct dp_shard shard[SHARDS_MAX];
	struct tp_hop *shard_hop[SHARDS_MAX][RX_MAX];
	struct dp_late_ring *shard_late[SHARDS_MAX][RX_MAX];
	struct tp_counters counters[SHARDS_MAX], rx_counters[RX_MAX];
	struct dp_intake *intake[RX_MAX];
	_Atomic uint64_t latency[RX_MAX][TP_LATENCY_BUCKETS], latency_sum[RX_MAX];
	_Atomic uint32_t refusing;
	void *dedup_memory, *fraud_memory[SHARDS_MAX], *ip_memory;
	struct agg_fraud_shard *fraud[SHARDS_MAX];
	struct agg_dedup *dedup;
	uint64_t now_ms;
	uint32_t next_table;
	/* of the last request that was answered */
	struct dp_request answer;
	uint32_t answers;
};

static struct rig *rig_now;

static int file_remove(const char *path, const struct stat *info, int kind, struct FTW *where)
{
	(void)info, (void)kind, (void)where;
	return remove(path);
}

static void *zeroed(uint64_t bytes)
{
	void *at = aligned_alloc(64, (bytes + 63) / 64 * 64);
	assert_non_null(at);
	memset(at, 0, bytes);
	return at;
}

/* A spare file and table for each shard that lacks one: housekeeping's part. */
static void rig_keep(struct rig *rig)
{
	for (uint32_t s = 0; s < rig->shards; s++) {
		if (sto_wal_spare_wanted(rig->wal[s]))
			assert_int_equal(sto_wal_spare_give(rig->wal[s]), 0);
		if (!atomic_load(&rig->shard[s].spare_table)) {
			assert_true(rig->next_table < rig->live->rollup_count);
			uint64_t at = rig->live->rollup_at + rig->next_table++ * rig->live->rollup_bytes;
			atomic_store(&rig->shard[s].spare_table, (struct tp_rollup *)(void *)((uint8_t *)rig->live + at));
		}
	}
}

static struct rig *rig_make(uint32_t rx_count, uint32_t shards, uint32_t table_rows)
{
	struct rig *rig = zeroed(sizeof(*rig));
	snprintf(rig->folder, sizeof(rig->folder), "/var/tmp/shard_test.XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	rig->rx_count = rx_count;
	rig->shards = shards;
	rig->now_ms = NOW_MS * 1000ULL;
	struct sto_store_options options = {.data_dir = rig->folder, .log_file_bytes = 4 << 20, .preallocate = false};
	assert_int_equal(sto_store_open(&rig->store, &options), 0);
	rig->live_fd = tp_live_create(&rig->live, TABLES, table_rows, 1 << 20);
	assert_true(rig->live_fd >= 0);
	rig->live->shards = shards;
	rig->dedup_memory = zeroed(DEDUP_BYTES);
	rig->dedup = agg_dedup_create(rig->dedup_memory, DEDUP_BYTES);
	rig->ip_memory = zeroed(agg_fraud_ip_bytes(FRAUD_ENTRIES));
	struct agg_fraud_ip *ip = agg_fraud_ip_init(rig->ip_memory, FRAUD_ENTRIES);
	for (uint32_t q = 0; q < rx_count; q++)
		for (uint32_t s = 0; s < shards; s++)
			assert_int_equal(tp_hop_init(&rig->hop[q][s], HOP_BYTES), 0);
	for (uint32_t s = 0; s < shards; s++) {
		struct sto_wal_options wal = {.shard = s, .commit_interval_ns = 1000000, .reserve_bytes = HOP_BYTES};
		assert_int_equal(sto_wal_open(&rig->wal[s], rig->store, &wal), 0);
		rig->fraud_memory[s] = zeroed(agg_fraud_shard_bytes(FRAUD_ENTRIES));
		for (uint32_t q = 0; q < rx_count; q++) {
			rig->shard_hop[s][q] = &rig->hop[q][s];
			rig->shard_late[s][q] = &rig->late[q][s];
		}
		rig->shard[s] = (struct dp_shard){
			.number = s,
			.rx_count = rx_count,
			.shards = shards,
			.hop = rig->shard_hop[s],
			.late_ring = rig->shard_late[s],
			.wal = rig->wal[s],
			.dedup = rig->dedup,
			.horizon_ms = 900000,
			.live = rig->live,
			.counters = &rig->counters[s],
		};
		rig->fraud[s] = agg_fraud_shard_init(rig->fraud_memory[s], FRAUD_ENTRIES, ip, &rig->counters[s]);
		rig->shard[s].machine[rig->shard[s].machines++] = agg_fraud_machine(rig->fraud[s]);
		agg_watermark_init(&rig->shard[s].watermark, 60000, 0);
		assert_int_equal(dp_shard_init(&rig->shard[s]), 0);
	}
	for (uint32_t q = 0; q < rx_count; q++) {
		struct tp_hop *hop[SHARDS_MAX];
		struct dp_late_ring *late[SHARDS_MAX];
		for (uint32_t s = 0; s < shards; s++) {
			hop[s] = &rig->hop[q][s];
			late[s] = &rig->late[q][s];
		}
		struct dp_intake_options intake = {.hop = hop,
						   .late = late,
						   .shards = shards,
						   .requests_max = 256,
						   .refusing = &rig->refusing,
						   .counters = &rig->rx_counters[q],
						   .ack_latency = rig->latency[q],
						   .ack_ns_sum = &rig->latency_sum[q]};
		assert_int_equal(dp_intake_create(&rig->intake[q], &intake), 0);
		dp_intake_clock(rig->intake[q], rig->now_ms, tp_mono_ns());
	}
	rig_keep(rig);
	rig_now = rig;
	return rig;
}

static void rig_free(struct rig *rig)
{
	for (uint32_t s = 0; s < rig->shards; s++) {
		sto_wal_close(rig->wal[s]);
		dp_shard_fini(&rig->shard[s]);
		free(rig->fraud_memory[s]);
		for (uint32_t q = 0; q < rig->rx_count; q++)
			tp_hop_fini(&rig->hop[q][s]);
	}
	for (uint32_t q = 0; q < rig->rx_count; q++)
		dp_intake_destroy(rig->intake[q]);
	sto_store_close(rig->store);
	tp_live_unmap(rig->live);
	close(rig->live_fd);
	free(rig->dedup_memory);
	free(rig->ip_memory);
	nftw(rig->folder, file_remove, 16, FTW_DEPTH | FTW_PHYS);
	free(rig);
}

static void answered(struct dp_request *request)
{
	rig_now->answer = *request;
	rig_now->answers++;
	dp_intake_close(rig_now->intake[0], request);
}

static struct tp_parsed event(const char *id, uint64_t timestamp_ms, int64_t micros)
{
	struct tp_parsed parsed = {0};
	int uuid;
	parsed.fixed.type = TP_CLICK;
	parsed.fixed.timestamp_ms = timestamp_ms;
	parsed.fixed.bid_micros = micros;
	parsed.fixed.flags = TP_HAS_BID;
	parsed.fixed.id = tp_id_from_text(id, strlen(id), &uuid);
	parsed.string[TP_EVENT_ID] = (struct tp_str){id, (uint16_t)strlen(id)};
	parsed.string[TP_AD_ID] = (struct tp_str){id, (uint16_t)strlen(id)};
	parsed.string[TP_CAMPAIGN_ID] = (struct tp_str){"camp", 4};
	parsed.string[TP_ADVERTISER_ID] = (struct tp_str){"adv", 3};
	tp_event_finish(&parsed);
	return parsed;
}

static void send(struct rig *rig, const struct tp_parsed *events, uint32_t count)
{
	struct dp_request *request = dp_intake_open(rig->intake[0], answered, NULL);
	assert_non_null(request);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(dp_intake_stage(rig->intake[0], request, &events[i], i), 0);
	dp_intake_commit(rig->intake[0], request);
}

/* Rounds until the next answer. On the way: an answer may come only when all that was appended is stable. */
static const struct dp_request *answer_wait(struct rig *rig)
{
	uint32_t before = rig->answers;
	for (int i = 0; rig->answers == before; i++) {
		assert_true(i < 100000);
		uint64_t appended = 0, durable = 0;
		for (uint32_t s = 0; s < rig->shards; s++) {
			dp_shard_poll(&rig->shard[s], rig->now_ms, tp_mono_ns());
			assert_int_equal(rig->shard[s].failed, 0);
			appended += sto_wal_appended(rig->wal[s]);
			durable += sto_wal_durable(rig->wal[s]);
		}
		/* With two shards one may be through while the other's block is still on its way. */
		if (dp_intake_poll(rig->intake[0]) && rig->shards == 1)
			assert_true(durable == appended);
		if (i > 100)
			usleep(100);
	}
	return &rig->answer;
}

static void nothing_is_answered_before_it_is_stable(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	for (int i = 0; i < 200; i++) {
		char id[16];
		snprintf(id, sizeof(id), "e%d", i);
		struct tp_parsed one = event(id, rig->now_ms, 500000);
		send(rig, &one, 1);
		/* Taken and decided, the block perhaps submitted, but no completion was reaped: no answer may be there. */
		uint64_t durable = sto_wal_durable(rig->wal[0]);
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		if (sto_wal_durable(rig->wal[0]) == durable)
			assert_int_equal(dp_intake_poll(rig->intake[0]), 0);
		/* A duplicate right behind it waits for the original's block as well. */
		send(rig, &one, 1);
		while (rig->answers < 2U * (uint32_t)(i + 1))
			answer_wait(rig);
		assert_int_equal(rig->rx_counters[0].v[TP_C_EVENTS_ACCEPTED], i + 1);
		assert_int_equal(rig->rx_counters[0].v[TP_C_EVENTS_DUPLICATES], i + 1);
	}
	rig_free(rig);
}

static void copies_are_duplicates_and_other_payloads_conflicts(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 2, 1024);
	struct tp_parsed burst[] = {event("a", rig->now_ms, 1), event("a", rig->now_ms, 1), event("a", rig->now_ms, 2),
				    event("a", rig->now_ms, 1), event("b", rig->now_ms, 1)};
	send(rig, burst, 5);
	const struct dp_request *answer = answer_wait(rig);
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
	struct tp_parsed burst[] = {event("new", rig->now_ms, 1), event("old", rig->now_ms - 600000, 1),
				    event("recent", rig->now_ms - 30000, 1)};
	send(rig, burst, 3);
	const struct dp_request *answer = answer_wait(rig);
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
	struct tp_parsed burst[] = {event("now", rig->now_ms, 1), event("gone", rig->now_ms - 7200000, 1),
				    event("gone", rig->now_ms - 7200000, 1), event("seen", rig->now_ms - 7200000, 1),
				    event("other", rig->now_ms - 7200000, 1)};
	send(rig, burst, 5);
	slots_back(rig);
	assert_int_equal(rig->answers, 0);
	assert_int_equal(atomic_load(&lane->given), 4);
	static const int lookup[] = {STO_ABSENT, STO_ABSENT, STO_SAME, STO_OTHER};
	for (int i = 0; i < 4; i++)
		lane->entry[i].lookup = lookup[i];
	atomic_store(&lane->looked, 4);
	const struct dp_request *answer = answer_wait(rig);
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
	send(rig, late, 1);
	slots_back(rig);
	assert_int_equal(atomic_load(&lane->given), given + 1);
	for (int i = 0; i < rotations; i++) {
		agg_dedup_rotate(rig->dedup);
		agg_dedup_clear_spare(rig->dedup);
	}
	lane->entry[given].lookup = STO_ABSENT;
	atomic_store(&lane->looked, given + 1);
	return answer_wait(rig);
}

static void a_look_up_holds_for_one_rotation(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	agg_dedup_floor_set(rig->dedup, (uint32_t)(rig->now_ms / 60000) + 1);
	struct tp_parsed one = event("one", rig->now_ms, 1), two = event("two", rig->now_ms, 1);
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
	struct tp_parsed burst[] = {event("x", rig->now_ms, 1), event("x", rig->now_ms - 7200000, 1), event("x", rig->now_ms, 2)};
	send(rig, burst, 3);
	slots_back(rig);
	assert_int_equal(atomic_load(&lane->given), 1);
	lane->entry[0].lookup = STO_SAME;
	atomic_store(&lane->looked, 1);
	const struct dp_request *answer = answer_wait(rig);
	assert_int_equal(answer->accepted, 1);
	assert_int_equal(answer->duplicates, 1);
	assert_int_equal(answer->conflicts, 1);
	/* Not in the segments either: the id is taken, for the minute that is inside the horizon. */
	send(rig, &burst[1], 1);
	slots_back(rig);
	lane->entry[1].lookup = STO_ABSENT;
	atomic_store(&lane->looked, 2);
	assert_int_equal(answer_wait(rig)->conflicts, 1);
	rig_free(rig);
}

static void what_is_rolled_back_never_was(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 2, 1024);
	struct tp_parsed burst[] = {event("a", rig->now_ms, 1), event("b", rig->now_ms, 1), event("c", rig->now_ms, 1)};
	for (int i = 0; i < 300; i++) { /* more often than there are request slots */
		struct dp_request *request = dp_intake_open(rig->intake[0], answered, NULL);
		assert_non_null(request);
		for (uint32_t k = 0; k < 3; k++)
			assert_int_equal(dp_intake_stage(rig->intake[0], request, &burst[k], k), 0);
		dp_intake_rollback(rig->intake[0], request);
	}
	assert_int_equal(dp_intake_in_flight(rig->intake[0]), 0);
	assert_int_equal(dp_intake_given(rig->intake[0]), 0);
	send(rig, burst, 3);
	assert_int_equal(answer_wait(rig)->accepted, 3);
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
		struct tp_parsed one = event(id, rig->now_ms, 1);
		send(rig, &one, 1);
		assert_int_equal(answer_wait(rig)->accepted, 1);
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
	struct tp_parsed one = event("one", rig->now_ms - 5000, 1);
	send(rig, &one, 1);
	assert_int_equal(answer_wait(rig)->accepted, 1);
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
		struct tp_parsed one = event(id, rig->now_ms, 500000);
		letter_send(&letters, rig);
		assert_int_equal(dp_shard_deadline_ns(&rig->shard[0]), 0);
		assert_false(dp_shard_settled(&rig->shard[0]));
		if (i % 2) /* alone, or with events */
			send(rig, &one, 1);
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
			answer_wait(rig);
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
	struct tp_parsed one = event("one", rig->now_ms, 1);
	send(rig, &one, 1);
	assert_int_equal(answer_wait(rig)->accepted, 1);
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
		burst[i] = event(id[i], rig->now_ms, 1);
	}
	send(rig, burst, 12);
	for (int i = 0; i < 50; i++) {
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
		dp_intake_poll(rig->intake[0]);
		usleep(100);
	}
	assert_int_equal(rig->answers, 0);
	assert_true(rig->shard[0].stalled);
	rig_keep(rig);
	assert_int_equal(answer_wait(rig)->accepted, 12);
	rig_free(rig);
}

static void a_paused_shard_takes_nothing(void **state)
{
	(void)state;
	struct rig *rig = rig_make(1, 1, 1024);
	atomic_store(&rig->shard[0].pause_wanted, 1);
	dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
	assert_int_equal(atomic_load(&rig->shard[0].paused), 1);
	struct tp_parsed one = event("x", rig->now_ms, 1);
	send(rig, &one, 1);
	for (int i = 0; i < 10; i++)
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
	assert_int_equal(agg_dedup_ids(rig->dedup), 0);
	atomic_store(&rig->shard[0].pause_wanted, 0);
	assert_int_equal(answer_wait(rig)->accepted, 1);
	rig_free(rig);
}

/* ---- machines ---- */

static struct tp_parsed viewed(const char *id, enum tp_event_type type, uint64_t timestamp_ms, uint64_t received_ms)
{
	struct tp_parsed parsed = event(id, timestamp_ms, 250000);
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

static void rig_roll(struct rig *rig)
{
	rig_keep(rig);
	uint64_t file_id = sto_wal_file_id(rig->wal[0]);
	atomic_store(&rig->shard[0].roll_wanted, 1);
	for (int i = 0; i < 1000 && sto_wal_file_id(rig->wal[0]) == file_id; i++)
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
	assert_int_not_equal(sto_wal_file_id(rig->wal[0]), file_id);
	rig_keep(rig);
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
	send(rig, &click, 1);
	assert_int_equal(answer_wait(rig)->accepted, 1);
	const struct tp_rollup *first = rig->shard[0].table;
	struct tp_sums sums = sums_of(first);
	assert_int_equal(sums.flagged_clicks, 1);
	assert_int_equal(sums.clicks, 0);
	assert_true(sums.spend_micros == 0);

	const uint64_t first_file = sto_wal_file_id(rig->wal[0]);
	rig_roll(rig);
	send(rig, &impression, 1);
	assert_int_equal(answer_wait(rig)->accepted, 1); /* answer_wait: with all that was appended durable */
	assert_int_equal(sto_wal_appended(rig->wal[0]), 3);
	sums = sums_of(rig->shard[0].table);
	assert_true(sums.flagged_clicks == UINT64_MAX); /* less one */
	assert_int_equal(sums.clicks, 1);
	assert_int_equal(sums.late, 1);
	assert_true(sums.spend_micros == 250000);
	assert_true(dp_shard_settled(&rig->shard[0]));
	/* the copy of an event amends nothing again */
	send(rig, &impression, 1);
	assert_int_equal(answer_wait(rig)->duplicates, 1);
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
		struct tp_parsed one = event(id, rig->now_ms, 1);
		filed.refusals += i == 8 ? 3 : 0;
		send(rig, &one, 1);
		assert_int_equal(answer_wait(rig)->accepted, 1);
		rig_keep(rig);
	}
	assert_int_equal(filed.shown, 12);
	assert_int_equal(filed.files, 3);
	assert_int_equal(filed.refusals, 0);
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
				struct tp_parsed one = event(id, rig_now->now_ms, 1);
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
		cmocka_unit_test(an_amendment_moves_the_sums_and_the_answer_waits),
		cmocka_unit_test(a_machine_may_hold_and_end_a_file),
		cmocka_unit_test(cores_meet_without_a_race),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
