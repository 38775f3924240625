/*
 * The shard path on one core: events of about 490 bytes of JSON, already parsed, staged into a hop ring, then decided (dedup, fraud
 * rules as in a file without `fraud:`, minute sums), logged and made durable by dp_shard_poll(), and reaped by the intake. Rx and shard
 * roles in turn, on the calling core; housekeeping, in its own thread, makes log files, but nothing is sealed. One event in ten is a
 * click; a million devices, each with a user and an address, in random order.
 *
 * Prints durable events per second of both roles together, then per second of processor time in dp_shard_poll() alone, where a poll that
 * found nothing to do does not count. `null`: blocks of the log go nowhere and are done at once; then all is processor time.
 *
 * bench_shard FOLDER [million events, default 2] [disk | null]
 */
#include "../dataplane/shard.h"
#include "../storage/store_state.h"
#include "null_disk.h"
#include "turnpike/fraud.h"
#include "turnpike/store.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { TEMPLATES = 4096, PER_REQUEST = 16, DEDUP_BYTES = 512 << 20, FRAUD_ENTRIES = 1 << 20, DEVICES = 1000000, TABLES = 6 };

static _Atomic bool stop;
static struct sto_wal *wal;
static struct dp_shard shard;
static struct tp_live *live;

static void *housekeeping(void *unused)
{
	(void)unused;
	uint32_t next = 1;
	while (!atomic_load(&stop)) {
		if (sto_wal_spare_wanted(wal) && sto_wal_spare_give(wal))
			exit(1);
		if (!atomic_load(&shard.spare_table)) {
			/* Nothing is sealed here, so the oldest table is simply used again. */
			struct tp_rollup *table = (struct tp_rollup *)(void *)((uint8_t *)live + live->rollup_at +
									       (next++ % TABLES) * live->rollup_bytes);
			atomic_store_explicit(&shard.spare_table, table, memory_order_release);
		}
		sto_wal_finished_take(wal);
		struct timespec nap = {.tv_nsec = 200000};
		nanosleep(&nap, NULL);
	}
	return NULL;
}

static uint64_t done_events;

static struct dp_intake *intake;

static void request_done(struct dp_request *request)
{
	done_events += request->accepted + request->duplicates + request->late;
	if (request->conflicts || request->refused)
		abort();
	dp_intake_close(intake, request);
}

static void *touched(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		exit(1);
	madvise(at, bytes, MADV_HUGEPAGE);
	memset(at, 0, bytes);
	return at;
}

/* Of this thread: what others do on the core in between does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* An empty blocklist. */
static bool nobody(const void *context, const struct tp_addr *addr)
{
	(void)context, (void)addr;
	return false;
}

/* Another viewer: user, device and address. Eight digits behind each string's first letter. */
static void viewer_set(struct tp_parsed *parsed, char (*text)[16], uint64_t n)
{
	uint32_t who = (uint32_t)((n * 0x9e3779b97f4a7c15 >> 32) * DEVICES >> 32), left = who;
	char digits[8];
	for (int i = 0; i < 8; i++, left >>= 4)
		digits[i] = "0123456789abcdef"[left & 15];
	memcpy(text[TP_USER_ID] + 1, digits, sizeof(digits));
	memcpy(text[TP_DEVICE_ID] + 1, digits, sizeof(digits));
	memset(parsed->fixed.ip, 0, 12);
	parsed->fixed.ip[10] = parsed->fixed.ip[11] = 0xff;
	memcpy(parsed->fixed.ip + 12, &who, 4);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	uint64_t count = (argc > 2 ? strtoull(argv[2], NULL, 10) : 2) * 1000000;
	const bool null = argc > 3 && strcmp(argv[3], "null") == 0;
	struct sto_store *store;
	struct sto_store_options store_options = {.data_dir = argv[1], .log_file_bytes = 256 << 20, .preallocate = true};
	if (store_open(&store, &store_options, null_disk_io()))
		return 1;
	if (null)
		null_disk_begin();
	struct sto_wal_options wal_options = {.commit_interval_ns = 1000000, .reserve_bytes = 8 << 20};
	if (sto_wal_open(&wal, store, &wal_options) || sto_wal_spare_give(wal))
		return 1;
	if (tp_live_create(&live, TABLES, 262144, 24 << 20) < 0)
		return 1;
	live->shards = 1;
	for (uint32_t i = 0; i < TABLES; i++)
		for (uint32_t part = 0; tp_live_rollup_touch(live, i, part); part++)
			; /* as the spares thread does */

	static struct tp_hop hop;
	static struct dp_late_ring late;
	static struct tp_counters counters;
	static _Atomic uint64_t latency[TP_LATENCY_BUCKETS], latency_sum;
	static _Atomic uint32_t refusing;
	struct tp_hop *hops[] = {&hop};
	struct dp_late_ring *lates[] = {&late};
	if (tp_hop_init(&hop, 8 << 20))
		return 1;
	struct dp_intake_options options = {.hop = hops,
					    .late = lates,
					    .shards = 1,
					    .requests_max = 65536,
					    .refusing = &refusing,
					    .counters = &counters,
					    .ack_latency = latency,
					    .ack_ns_sum = &latency_sum};
	if (dp_intake_create(&intake, &options))
		return 1;
	shard = (struct dp_shard){
		.rx_count = 1,
		.shards = 1,
		.hop = hops,
		.late_ring = lates,
		.wal = wal,
		.live = live,
		.counters = &counters,
		.horizon_ms = 900000,
	};
	shard.dedup = agg_dedup_create(touched(DEDUP_BYTES), DEDUP_BYTES);
	agg_dedup_alone(shard.dedup, true); /* as a node with one shard has it */
	static const struct agg_fraud_rules rules = {.version = 1,
						     .clicks_per_ip_hour = 10,
						     .clicks_per_device_hour = 5,
						     .min_ms_since_impression = 500,
						     .impression_lookback_ms = 1800000,
						     .impression_wait_ms = 5000,
						     .regular_timing_gaps = 5,
						     .blocklisted = true,
						     .listed = nobody};
	struct agg_fraud_ip *addresses = agg_fraud_ip_init(touched(agg_fraud_ip_bytes(FRAUD_ENTRIES)), FRAUD_ENTRIES);
	struct agg_fraud_shard *fraud =
		agg_fraud_shard_init(touched(agg_fraud_shard_bytes(FRAUD_ENTRIES)), FRAUD_ENTRIES, addresses, &counters);
	agg_fraud_rules_set(fraud, &rules);
	shard.machine[shard.machines++] = agg_fraud_machine(fraud);
	agg_watermark_init(&shard.watermark, 60000, 0);
	if (dp_shard_init(&shard))
		return 1;
	atomic_store(&shard.spare_table, (struct tp_rollup *)(void *)((uint8_t *)live + live->rollup_at));

	/* The events: distinct ids made as we go, everything else from templates. */
	static struct tp_parsed parsed[TEMPLATES];
	static char text[TEMPLATES][TP_STRINGS][16];
	static const char agent[] =
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119 Safari/537.36";
	uint64_t now_ms = tp_now_ms();
	for (uint32_t i = 0; i < TEMPLATES; i++) {
		struct tp_parsed *p = &parsed[i];
		for (int s = TP_AD_ID; s <= TP_CITY; s++) {
			uint32_t spread = s == TP_AD_ID          ? 1000
					  : s == TP_CAMPAIGN_ID  ? 100
					  : s == TP_PUBLISHER_ID ? 20
					  : s == TP_REGION       ? 4
								 : 4096;
			p->string[s].at = text[i][s];
			p->string[s].bytes = (uint16_t)snprintf(text[i][s], sizeof(text[i][s]), "%c%08u", 'a' + s, i % spread);
		}
		p->string[TP_USER_AGENT] = (struct tp_str){agent, sizeof(agent) - 1};
		p->string[TP_REFERER] = (struct tp_str){agent, 40};
		p->fixed.type = i % 10 ? TP_IMPRESSION : TP_CLICK;
		p->fixed.timestamp_ms = now_ms;
		p->fixed.bid_micros = 500000;
		p->fixed.flags = TP_HAS_BID | TP_HAS_IP;
		memcpy(p->fixed.country, "US", 2);
		memcpy(p->fixed.currency, "USD", 3);
	}

	pthread_t thread;
	if (pthread_create(&thread, NULL, housekeeping, NULL))
		return 1;
	uint64_t began_ns = null ? cpu_ns() : tp_mono_ns(), sent = 0, shard_ns = 0;
	while (done_events < count) {
		uint64_t now_ns = tp_mono_ns();
		dp_intake_clock(intake, now_ms, now_ns);
		for (int r = 0; r < 8 && sent < count; r++) {
			struct dp_request *request = dp_intake_open(intake, request_done, NULL);
			if (!request)
				break;
			bool full = false;
			for (uint32_t e = 0; e < PER_REQUEST && !full; e++) {
				struct tp_parsed *p = &parsed[(sent + e) % TEMPLATES];
				viewer_set(p, text[(sent + e) % TEMPLATES], sent + e);
				p->fixed.id = (struct tp_id){(sent + e + 1) * 0x9e3779b97f4a7c15, sent + e};
				tp_event_finish(p);
				full = dp_intake_stage(intake, request, p, e) != 0;
			}
			if (full) {
				dp_intake_rollback(intake, request);
				break;
			}
			dp_intake_commit(intake, request);
			sent += PER_REQUEST;
		}
		dp_intake_given(intake);
		uint64_t polled_ns = cpu_ns();
		if (dp_shard_poll(&shard, now_ms, now_ns))
			shard_ns += cpu_ns() - polled_ns;
		if (shard.failed)
			return 1;
		dp_intake_poll(intake);
	}
	uint64_t took_ns = (null ? cpu_ns() : tp_mono_ns()) - began_ns;
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	printf("%.0f events/s of both roles, %.0f shard-events/s; durable=%" PRIu64 " flagged=%" PRIu64
	       " log_bytes_per_event=%.0f blocks=%" PRIu64 " stalls=%" PRIu64 "\n",
	       (double)done_events * 1e9 / (double)took_ns, (double)done_events * 1e9 / (double)shard_ns, done_events,
	       counters.v[TP_C_SHARD_FLAGGED], (double)counters.v[TP_C_LOG_BYTES] / (double)done_events,
	       counters.v[TP_C_LOG_BLOCKS], counters.v[TP_C_SHARD_STALLS]);
	return 0;
}
