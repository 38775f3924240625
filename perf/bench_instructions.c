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
 *   batch    a UDP batch: checksum, events, finish       fraud    the default rules alone
 *   stage    the record into the hop, and its request    rollup   the minute's sums alone
 *   answer   verdicts back, counted, the request done    log      a record into the log block, checksum and hand-over
 */
#include "../client/encode.h"
#include "../dataplane/shard.h"
#include "../storage/store_state.h"
#include "batch_format.h"
#include "json_parse.h"
#include "make_events.h"
#include "null_disk.h"
#include "turnpike/addr.h"
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
	LOG_FILE_BYTES = 64 << 20,
	DATAGRAM_BYTES = 1472, /* of UDP in a frame of 1500 bytes */
	TEXT_BYTES_MAX = 128   /* of any string of make_events.h, its NUL included */
};

static struct {
	struct perf_events text;
	struct dp_json_scratch *scratch;
	struct tp_parsed parsed[EVENTS];
	char kept[EVENTS][TP_STRINGS]
		 [TEXT_BYTES_MAX];                /* their strings, which a parser's own memory has until the next event only */
	char packed[EVENTS][4 * TEXT_BYTES_MAX];  /* … and all of each */
	uint8_t datagram[EVENTS][DATAGRAM_BYTES]; /* the same events */
	uint32_t datagram_bytes[EVENTS];
	uint32_t datagrams;
	uint8_t *record[EVENTS];
	struct tp_rollup_seek seek[EVENTS];
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
	agg_dedup_alone(bench.shard.dedup, true);              /* as a node with one shard has it */
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

static void strings_keep(uint32_t i)
{
	struct tp_parsed *parsed = &bench.parsed[i];
	for (int k = 0; k < TP_STRINGS; k++) {
		must(parsed->string[k].bytes < TEXT_BYTES_MAX, "a string is too long");
		if (parsed->string[k].bytes > 0)
			memcpy(bench.kept[i][k], parsed->string[k].at, parsed->string[k].bytes);
		parsed->string[k].at = bench.kept[i][k];
	}
	must(parsed->packed_bytes <= sizeof(bench.packed[i]) - 8, "the strings are too long");
	memcpy(bench.packed[i], parsed->packed, parsed->packed_bytes + 8u);
	parsed->packed = bench.packed[i];
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
	for (uint32_t i = 0; i < EVENTS; i++) {
		event_read(i, false);
		strings_keep(i);
	}
}

/* The same events as an ad server sends them. */
static void datagrams_make(void)
{
	uint32_t at = 0, events = 0;
	for (uint32_t i = 0; i <= EVENTS; i++) {
		uint8_t one[DATAGRAM_BYTES];
		struct tpc_plan plan = {.bytes = DATAGRAM_BYTES}; /* behind the last event: the datagram is full */
		if (i < EVENTS) {
			const struct tp_parsed *parsed = &bench.parsed[i];
			const char(*text)[TEXT_BYTES_MAX] = bench.kept[i];
			char id[TP_ID_BYTES_MAX + 1], ip[TP_ADDR_TEXT_BYTES];
			const char country[3] = {parsed->fixed.country[0], parsed->fixed.country[1]};
			struct tp_addr addr = {.family = 4};
			memcpy(addr.byte, parsed->fixed.ip, sizeof(addr.byte));
			tp_addr_text(&addr, ip);
			tp_event_id_text(&(struct tp_event){.id = parsed->fixed.id}, id);
			const struct tpc_event fields = {.event_id = id,
							 .type = parsed->fixed.type,
							 .timestamp_ms = parsed->fixed.timestamp_ms,
							 .ad_id = text[TP_AD_ID],
							 .campaign_id = text[TP_CAMPAIGN_ID],
							 .advertiser_id = text[TP_ADVERTISER_ID],
							 .publisher_id = text[TP_PUBLISHER_ID],
							 .user_id = text[TP_USER_ID],
							 .device_id = text[TP_DEVICE_ID],
							 .ip_address = ip,
							 .user_agent = text[TP_USER_AGENT],
							 .referer = text[TP_REFERER],
							 .country = country,
							 .region = text[TP_REGION],
							 .city = text[TP_CITY],
							 .has_bid = true,
							 .bid_micros = parsed->fixed.bid_micros,
							 .has_position = true,
							 .click_position = parsed->fixed.click_position};
			must(!tpc_plan(&plan, &fields), "an event has no place in a batch");
			tpc_encode(&plan, one);
		}
		uint8_t *datagram = bench.datagram[bench.datagrams];
		if (events > 0 && at + plan.bytes > DATAGRAM_BYTES) {
			tpc_batch_seal(datagram, 2, at, 1, bench.datagrams + 1, events, NULL);
			bench.datagram_bytes[bench.datagrams++] = at;
			datagram += DATAGRAM_BYTES;
			events = 0;
		}
		if (events == 0)
			at = tpc_batch_begin(2, NULL);
		if (i < EVENTS)
			memcpy(datagram + at, one, plan.bytes);
		at += plan.bytes;
		events++;
	}
}

static void batch(void)
{
	uint32_t bad = 0, events = 0;
	measure_begin();
	for (uint32_t d = 0; d < bench.datagrams; d++) {
		struct dp_batch head;
		bad += dp_batch_open(bench.datagram[d], bench.datagram_bytes[d], &head) != DP_BATCH_OK;
		const uint8_t *at = bench.datagram[d] + head.events_at;
		for (uint32_t i = 0; i < head.events; i++) {
			struct tp_parsed parsed;
			struct dp_batch_event event = dp_batch_event(at, &limits, &parsed);
			at += event.bytes;
			bad += event.reason != TP_OK;
			tp_event_finish_with(&bench.scratch->finish, &parsed);
			bad += parsed.fixed.fingerprint != bench.parsed[events++].fixed.fingerprint;
		}
	}
	measure_end();
	measured("batch");
	must(bad == 0 && events == EVENTS, "a batch does not have the events that JSON has");
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
	uint64_t hash[BURST];
	uint32_t fresh = 0;
	measure_begin();
	for (uint32_t at = 0; at < EVENTS; at += BURST) {
		for (uint32_t i = at; i < at + BURST; i++)
			hash[i - at] = agg_dedup_prefetch(table, record_at(i)->id);
		for (uint32_t i = 0; i < BURST; i++)
			agg_dedup_prefetch_chain(table, hash[i]);
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
			tp_rollup_seek(&bench.seek[i], record_at(i));
			tp_rollup_prefetch_index(table, &bench.seek[i]);
		}
		for (uint32_t i = at; i < at + BURST; i++)
			tp_rollup_prefetch_row(table, &bench.seek[i]);
		for (uint32_t i = at; i < at + BURST; i++)
			tp_rollup_prefetch_last(table, &bench.seek[i]);
		for (uint32_t i = at; i < at + BURST; i++)
			other += tp_rollup_add_sought(table, record_at(i), &bench.seek[i]);
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
	datagrams_make();
	batch();
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
