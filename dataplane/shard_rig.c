/* See shard_rig.h. */
#include "shard_rig.h"

#include <ftw.h>
#include <sys/stat.h>

struct rig *rig_now;

static int file_remove(const char *path, const struct stat *info, int kind, struct FTW *where)
{
	(void)info, (void)kind, (void)where;
	return remove(path);
}

static char base[32]; /* the folders of all */

/* At the end, after a test that failed too. */
static void base_remove(void)
{
	nftw(base, file_remove, 16, FTW_DEPTH | FTW_PHYS);
}

void *rig_zeroed(uint64_t bytes)
{
	void *at = aligned_alloc(64, (bytes + 63) / 64 * 64);
	assert_non_null(at);
	memset(at, 0, bytes);
	return at;
}

void rig_keep(struct rig *rig)
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

struct rig *rig_make(uint32_t rx_count, uint32_t shards, uint32_t table_rows)
{
	static uint32_t number;
	struct rig *rig = rig_zeroed(sizeof(*rig));
	if (!number) {
		snprintf(base, sizeof(base), "/var/tmp/shard_test.XXXXXX");
		assert_non_null(mkdtemp(base));
		assert_int_equal(atexit(base_remove), 0);
	}
	snprintf(rig->folder, sizeof(rig->folder), "%s/%u", base, ++number);
	assert_int_equal(mkdir(rig->folder, 0700), 0);
	rig->rx_count = rx_count;
	rig->shards = shards;
	rig->now_ms = NOW_MS * 1000ULL;
	struct sto_store_options options = {.data_dir = rig->folder, .log_file_bytes = 4 << 20, .preallocate = false};
	assert_int_equal(sto_store_open(&rig->store, &options), 0);
	rig->live_fd = tp_live_create(&rig->live, TABLES, table_rows, 1 << 20);
	assert_true(rig->live_fd >= 0);
	rig->live->shards = shards;
	rig->dedup_memory = rig_zeroed(DEDUP_BYTES);
	rig->dedup = agg_dedup_create(rig->dedup_memory, DEDUP_BYTES);
	rig->ip_memory = rig_zeroed(agg_fraud_ip_bytes(FRAUD_ENTRIES));
	struct agg_fraud_ip *ip = agg_fraud_ip_init(rig->ip_memory, FRAUD_ENTRIES);
	for (uint32_t q = 0; q < rx_count; q++)
		for (uint32_t s = 0; s < shards; s++)
			assert_int_equal(tp_hop_init(&rig->hop[q][s], HOP_BYTES), 0);
	for (uint32_t s = 0; s < shards; s++) {
		struct sto_wal_options wal = {.shard = s, .commit_interval_ns = 1000000, .reserve_bytes = HOP_BYTES};
		assert_int_equal(sto_wal_open(&rig->wal[s], rig->store, &wal), 0);
		rig->fraud_memory[s] = rig_zeroed(agg_fraud_shard_bytes(FRAUD_ENTRIES));
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
			.turns = rig->turns,
		};
		rig->turns[s] = &rig->shard[s].own_turns;
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

void rig_free(struct rig *rig)
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

void rig_answered(struct dp_request *request)
{
	rig_now->answer = *request;
	rig_now->answers++;
	dp_intake_close(rig_now->intake[0], request);
}

struct tp_parsed rig_event(const char *id, uint64_t timestamp_ms, int64_t micros)
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

void rig_send(struct rig *rig, const struct tp_parsed *events, uint32_t count)
{
	struct dp_request *request = dp_intake_open(rig->intake[0], rig_answered, NULL);
	assert_non_null(request);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(dp_intake_stage(rig->intake[0], request, &events[i], i), 0);
	dp_intake_commit(rig->intake[0], request);
}

const struct dp_request *rig_answer_wait(struct rig *rig)
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

void rig_roll(struct rig *rig)
{
	rig_keep(rig);
	uint64_t file_id = sto_wal_file_id(rig->wal[0]);
	atomic_store(&rig->shard[0].roll_wanted, 1);
	for (int i = 0; i < 1000 && sto_wal_file_id(rig->wal[0]) == file_id; i++)
		dp_shard_poll(&rig->shard[0], rig->now_ms, tp_mono_ns());
	assert_int_not_equal(sto_wal_file_id(rig->wal[0]), file_id);
	rig_keep(rig);
}
