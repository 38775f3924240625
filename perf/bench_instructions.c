/*
 * What one event costs in instructions, stage by stage: for valgrind, whose counts are the same in every run, on every machine and under
 * every load. tests/instructions.py runs it under callgrind and holds the counts against tests/instructions.toml.
 *
 *   valgrind --tool=callgrind --callgrind-out-file=OUT --zero-before=measure_begin --dump-before=measure_end bench_instructions FOLDER
 *
 * Each stage is a loop over the same EVENTS events of a fixed seed (perf/make_events.h), and ends in a dump of the counters: OUT.1,
 * OUT.2, … in the order in which the program prints its stages. Nothing of the measured work depends on the clock, on random numbers or on where memory lies. The log's
 * blocks go nowhere (null_disk.h). The vector variant is the widest that valgrind knows, AVX2; the program prints its name.
 *
 *   parse    JSON to fields                              shard    dp_shard_poll(), all of what follows in one
 *   finish   id, address, fingerprint, shard hash        dedup    the id table alone
 *   stage    the record into the hop, and its request    fraud    the default rules alone
 *   answer   verdicts back, counted, the request done    rollup   the minute's sums alone
 *                                                        log      a record into the log block, checksum and hand-over
 */
#include "../dataplane/shard.h"
#include "../storage/store_state.h"
#include "json_parse.h"
#include "make_events.h"
#include "null_disk.h"
#include "turnpike/fraud.h"
#include "turnpike/log.h"
#include "turnpike/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	EVENTS = 8192,
	BURST = 64,
	DEDUP_BYTES = 16 << 20,
	FRAUD_ENTRIES = 1 << 15,
	HOP_BYTES = 16 << 20,
	LOG_FILE_BYTES = 64 << 20
};

static struct {
	struct perf_events text;
	struct dp_json_scratch *scratch;
	struct tp_parsed parsed[EVENTS];
	uint8_t *record[EVENTS];
	uint64_t row_hash[EVENTS];
	struct tp_hop hop;
	struct dp_late_ring late;
	struct tp_counters counters;
	struct dp_intake *intake;
	struct sto_wal *wal;
	struct tp_live *live;
	struct dp_shard shard;
	struct agg_machine fraud;
	uint64_t done;
} bench;

static const struct dp_json_limits limits = {.now_ms = PERF_EVENTS_NOW_MS, .max_future_ms = 60000};

/* Where every stage begins and ends: callgrind is told to zero its counters at the one and to dump them at the other. */
static __attribute__((noinline)) void measure_begin(void)
{
	__asm__ volatile("# begin" ::: "memory"); /* not the same bytes as measure_end(), or the two become one */
}

static __attribute__((noinline)) void measure_end(void)
{
	__asm__ volatile("# end" ::: "memory");
}

static void measured(const char *stage)
{
	printf("stage %s\n", stage); /* the dumps are numbered in this order */
}

static void must(bool fine, const char *what)
{
	if (fine)
		return;
	fprintf(stderr, "bench_instructions: %s\n", what);
	exit(1);
}

static void *memory(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	must(at != MAP_FAILED, "no memory");
	return at;
}

static bool nobody(const void *context, const struct tp_addr *addr)
{
	(void)context, (void)addr;
	return false;
}

static struct agg_machine fraud_new(void)
{
	static const struct agg_fraud_rules rules = {.version = 1,
						     .clicks_per_ip_hour = 10,
						     .clicks_per_device_hour = 5,
						     .min_ms_since_impression = 500,
						     .impression_lookback_ms = 1800000,
						     .impression_wait_ms = 5000,
						     .regular_timing_gaps = 5,
						     .blocklisted = true,
						     .listed = nobody};
	struct agg_fraud_ip *addresses = agg_fraud_ip_init(memory(agg_fraud_ip_bytes(FRAUD_ENTRIES)), FRAUD_ENTRIES);
	struct agg_fraud_shard *fraud =
		agg_fraud_shard_init(memory(agg_fraud_shard_bytes(FRAUD_ENTRIES)), FRAUD_ENTRIES, addresses, &bench.counters);
	agg_fraud_rules_set(fraud, &rules);
	return agg_fraud_machine(fraud);
}

static void log_open(const char *folder)
{
	struct sto_store *store;
	const struct sto_store_options store_options = {.data_dir = folder, .log_file_bytes = LOG_FILE_BYTES};
	const struct sto_wal_options options = {.commit_interval_ns = 1000000, .reserve_bytes = 1 << 20};
	tp_log_level_set(TP_WARN);
	must(!store_open(&store, &store_options, null_disk_io()), "cannot open the folder");
	null_disk_begin();
	must(!sto_wal_open(&bench.wal, store, &options) && !sto_wal_spare_give(bench.wal), "cannot open the log");
}

static void request_done(struct dp_request *request)
{
	bench.done += request->accepted;
	dp_intake_close(bench.intake, request);
}

static void start(const char *folder)
{
	static _Atomic uint64_t latency[TP_LATENCY_BUCKETS], latency_sum;
	static _Atomic uint32_t refusing;
	static struct tp_hop *hops[] = {&bench.hop};
	static struct dp_late_ring *lates[] = {&bench.late};
	const struct dp_intake_options intake = {.hop = hops,
						 .late = lates,
						 .shards = 1,
						 .requests_max = EVENTS,
						 .refusing = &refusing,
						 .counters = &bench.counters,
						 .ack_latency = latency,
						 .ack_ns_sum = &latency_sum};
	bench.scratch = dp_json_scratch_new();
	must(bench.scratch && !perf_events_make(&bench.text, 1, EVENTS), "no memory");
	bench.scratch->hash_seed = 1;
	must(!tp_hop_init(&bench.hop, HOP_BYTES) && !dp_intake_create(&bench.intake, &intake), "no memory");
	dp_intake_clock(bench.intake, PERF_EVENTS_NOW_MS, 1000000000);
	log_open(folder);
	must(tp_live_create(&bench.live, 2, 16384, 4 << 20) >= 0, "no memory");
	bench.live->shards = 1;
	bench.shard = (struct dp_shard){.rx_count = 1,
					.shards = 1,
					.hop = hops,
					.late_ring = lates,
					.wal = bench.wal,
					.live = bench.live,
					.counters = &bench.counters,
					.horizon_ms = 900000,
					.machine = {fraud_new()},
					.machines = 1};
	bench.shard.dedup = agg_dedup_create(memory(DEDUP_BYTES), DEDUP_BYTES);
	agg_watermark_init(&bench.shard.watermark, 900000, 0); /* none of the events is late */
	must(!dp_shard_init(&bench.shard), "no memory");
	atomic_store(&bench.shard.spare_table, (struct tp_rollup *)(void *)((uint8_t *)bench.live + bench.live->rollup_at));
	printf("variant %s\n", bench.scratch->variant->name);
}

/* ---- the rx core's stages ---- */

static struct dp_json_result event_read(uint32_t i, bool fields_only)
{
	const char *text = bench.text.text + bench.text.start[i];
	size_t bytes = bench.text.start[i + 1] - bench.text.start[i] - 1;
	return fields_only ? dp_json_fields_only(bench.scratch, text, bytes, &limits, &bench.parsed[i])
			   : dp_json_event(bench.scratch, text, bytes, &limits, &bench.parsed[i]);
}

static void parse(void)
{
	uint32_t bad = 0;
	measure_begin();
	for (uint32_t i = 0; i < EVENTS; i++)
		bad += event_read(i, true).reason != TP_OK;
	measure_end();
	measured("parse");
	must(bad == 0, "an event was rejected");
	/* With what comes after the fields: the check takes `parse` off and calls the rest `finish`. */
	measure_begin();
	for (uint32_t i = 0; i < EVENTS; i++)
		bad += event_read(i, false).reason != TP_OK;
	measure_end();
	measured("event");
	must(bad == 0, "an event was rejected");
}

/* One event a request, as a beacon from a page comes. */
static void stage(void)
{
	bool fine = true;
	measure_begin();
	for (uint32_t i = 0; i < EVENTS; i++) {
		struct dp_request *request = dp_intake_open(bench.intake, request_done, NULL);
		fine = fine && request && dp_intake_stage(bench.intake, request, &bench.parsed[i], 0) == 0;
		dp_intake_commit(bench.intake, request);
	}
	measure_end();
	measured("stage");
	must(fine, "the hop is full");
}

static void answer(void)
{
	measure_begin();
	dp_intake_poll(bench.intake);
	measure_end();
	measured("answer");
	must(bench.done == EVENTS, "not every event was accepted and answered");
}

/* ---- the shard's, together and alone ---- */

static void shard(void)
{
	uint64_t now_ns = 1000000000;
	measure_begin();
	for (uint32_t i = 0; i < EVENTS / BURST; i++)
		dp_shard_poll(&bench.shard, PERF_EVENTS_NOW_MS, now_ns += 20000);
	measure_end();
	measured("shard");
	for (uint32_t i = 0; i < 1000 && !dp_shard_settled(&bench.shard); i++)
		dp_shard_poll(&bench.shard, PERF_EVENTS_NOW_MS, now_ns += 2000000);
	must(!bench.shard.failed && dp_shard_settled(&bench.shard), "the shard does not settle");
}

static void records_make(void)
{
	for (uint32_t i = 0; i < EVENTS; i++) {
		bench.record[i] = calloc(1, TP_SENT_BYTES_MAX);
		must(bench.record[i] != NULL, "no memory");
		tp_event_encode(&bench.parsed[i], (struct tp_event *)(void *)bench.record[i]);
	}
}

static struct tp_event *record_at(uint32_t i)
{
	return (struct tp_event *)(void *)bench.record[i];
}

static void dedup(void)
{
	struct agg_dedup *table = agg_dedup_create(memory(DEDUP_BYTES), DEDUP_BYTES);
	uint32_t fresh = 0;
	measure_begin();
	for (uint32_t at = 0; at < EVENTS; at += BURST) {
		for (uint32_t i = at; i < at + BURST; i++)
			agg_dedup_prefetch(table, record_at(i)->id);
		for (uint32_t i = at; i < at + BURST; i++) {
			const struct tp_event *event = record_at(i);
			fresh += agg_dedup_insert(table, event->id, event->fingerprint,
						  (uint32_t)(event->timestamp_ms / TP_MINUTE_MS), 0, false) == AGG_NEW;
		}
	}
	measure_end();
	measured("dedup");
	must(fresh == EVENTS, "an id was there before");
}

static void fraud(void)
{
	const struct agg_machine machine = fraud_new();
	measure_begin();
	for (uint32_t at = 0; at < EVENTS; at += BURST) {
		for (uint32_t i = at; i < at + BURST; i++)
			machine.ops->prefetch(machine.self, record_at(i));
		for (uint32_t i = at; i < at + BURST; i++)
			machine.ops->show(machine.self, record_at(i));
	}
	measure_end();
	measured("fraud");
}

static void rollup(void)
{
	struct tp_rollup *table =
		(struct tp_rollup *)(void *)((uint8_t *)bench.live + bench.live->rollup_at + bench.live->rollup_bytes);
	tp_rollup_reset(table, 2);
	uint32_t other = 0;
	measure_begin();
	for (uint32_t at = 0; at < EVENTS; at += BURST) {
		for (uint32_t i = at; i < at + BURST; i++) {
			bench.row_hash[i] = tp_rollup_hash(record_at(i));
			tp_rollup_prefetch(table, bench.row_hash[i]);
		}
		for (uint32_t i = at; i < at + BURST; i++)
			tp_rollup_prefetch_row(table, bench.row_hash[i]);
		for (uint32_t i = at; i < at + BURST; i++)
			other += tp_rollup_add_hashed(table, record_at(i), bench.row_hash[i]);
	}
	measure_end();
	measured("rollup");
	must(other == 0, "the table is full");
}

static void log_append(void)
{
	uint64_t now_ns = 10000000000;
	bool fine = true;
	measure_begin();
	for (uint32_t at = 0; at < EVENTS; at += BURST, now_ns += 20000) {
		sto_wal_poll(bench.wal);
		for (uint32_t i = at; i < at + BURST; i++) {
			const struct tp_event *event = record_at(i);
			void *room = sto_wal_reserve(bench.wal, event->bytes + TP_EVIDENCE_BYTES_MAX);
			fine = fine && room;
			if (!room)
				break;
			memcpy(room, event, event->bytes);
			sto_wal_append(bench.wal, event->bytes, now_ns);
		}
		sto_wal_flush(bench.wal, now_ns, PERF_EVENTS_NOW_MS, false);
	}
	measure_end();
	measured("log");
	must(fine, "the log has no room");
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: bench_instructions FOLDER\n");
		return 2;
	}
	start(argv[1]);
	printf("events %d\n", EVENTS);
	parse();
	stage();
	shard();
	answer();
	records_make();
	dedup();
	fraud();
	rollup();
	log_append();
	return 0;
}
