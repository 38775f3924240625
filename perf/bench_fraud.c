/*
 * What each fraud rule costs: nanoseconds per event, each rule alone, the three default ones, and all together, over what the machine costs
 * with no rule on. Events are encoded records in memory, one in `share` a click, of many devices, so that tables are cold as in life.
 * Then memory per million devices and addresses.
 *
 * bench_fraud [million events a round, default 2] [million devices, default 1] [clicks: one event in N, default 10] [DATABASE.mmdb]
 */
#include "turnpike/rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RECORDS = 1 << 10, RECORD_BYTES = 448, ENTRIES = 1 << 21, ROUNDS = 5 };

static uint8_t *record;
static uint32_t devices, clicks_one_in;

static void *touched(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		exit(1);
	madvise(at, bytes, MADV_HUGEPAGE);
	memset(at, 0, bytes);
	return at;
}

/* Of this thread: what others do on the core in between does not count, though what they do to the caches does. */
static uint64_t cpu_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static const char *const agent[] = {
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36",
	("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 "
	 "Mobile/15E148"),
	"Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/119.0",
	"Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36",
};

static void records_make(void)
{
	record = touched((uint64_t)RECORDS * RECORD_BYTES);
	for (uint32_t i = 0; i < RECORDS; i++) {
		struct tp_parsed parsed = {
			.fixed = {.type = i % clicks_one_in ? TP_IMPRESSION : TP_CLICK,
				  .id = {i + 1, i + 1},
				  .flags = TP_HAS_IP | TP_HAS_BID | TP_HAS_MOUSE | TP_HAS_TIMEZONE | TP_DEVICE_SENT,
				  .device = i % 2 ? TP_MOBILE : TP_DESKTOP,
				  .bid_micros = 500000,
				  .mouse_moves = 12,
				  .timezone_offset_min = 300,
				  .country = "US"}};
		char ad[16];
		snprintf(ad, sizeof(ad), "ad%08u", i % 1000);
		const char *text[TP_STRINGS] = {[TP_AD_ID] = ad,
						[TP_CAMPAIGN_ID] = "campaign01",
						[TP_ADVERTISER_ID] = "advertiser",
						[TP_PUBLISHER_ID] = i % 2 ? "publisher1" : "publisher2",
						[TP_USER_ID] = "user-00000000",
						[TP_DEVICE_ID] = "device-00000000",
						[TP_REGION] = "CA",
						[TP_USER_AGENT] = agent[i % 4],
						[TP_REFERER] = "https://example.org/page"};
		for (int s = 0; s < TP_STRINGS; s++)
			if (text[s])
				parsed.string[s] = (struct tp_str){text[s], (uint16_t)strlen(text[s])};
		if (tp_event_encoded_bytes(&parsed) > RECORD_BYTES)
			exit(1);
		tp_event_encode(&parsed, (struct tp_event *)(void *)(record + (uint64_t)i * RECORD_BYTES));
	}
}

/* Eight hexadecimal digits in place: what makes it another user or device. */
static void digits(char *at, uint32_t number)
{
	for (int i = 0; i < 8; i++, number >>= 4)
		at[i] = "0123456789abcdef"[number & 15];
}

enum { BURST = 64 };

static void event_make(struct tp_event *event, uint64_t n, uint64_t *seed)
{
	const struct tp_event *from = (const struct tp_event *)(const void *)(record + n % RECORDS * RECORD_BYTES);
	memcpy(event, from, from->bytes);
	uint32_t who = (uint32_t)(next(seed) % devices);
	char *user = (char *)(event + 1) + 10 + 10 + 10 + 10;
	digits(user + 5, who);
	digits(user + 13 + 7, who);
	memset(event->ip, 0, 12);
	event->ip[10] = event->ip[11] = 0xff;
	memcpy(event->ip + 12, &who, 4);
	event->timestamp_ms = event->received_ms = 1700000000000 + n / 1000;
	event->fingerprint = n;
}

/* One round over `events`, in bursts as a shard takes them; ns per event. With rules NULL: what making the events costs. */
static double round_run(const struct agg_fraud_rules *rules, struct agg_fraud_shard *shard, uint64_t events)
{
	struct agg_machine machine = agg_fraud_machine(shard);
	uint64_t seed = 88172645463325252ULL;
	agg_fraud_rules_set(shard, rules);
	static _Alignas(64) uint8_t room[BURST][RECORD_BYTES + TP_EVIDENCE_BYTES_MAX];
	uint64_t began_ns = cpu_ns();
	for (uint64_t n = 0; n < events; n += BURST) {
		for (uint32_t i = 0; i < BURST; i++)
			event_make((struct tp_event *)(void *)room[i], n + i, &seed);
		for (uint32_t i = 0; rules && i < BURST; i++)
			machine.ops->prefetch(machine.self, (const struct tp_event *)(const void *)room[i]);
		for (uint32_t i = 0; rules && i < BURST; i++)
			if (machine.ops->show(machine.self, (struct tp_event *)(void *)room[i]))
				while (machine.ops->record(machine.self))
					machine.ops->recorded(machine.self);
	}
	return (double)(cpu_ns() - began_ns) / (double)events;
}

static int ascending(const void *left, const void *right)
{
	return (*(const double *)left > *(const double *)right) - (*(const double *)left < *(const double *)right);
}

static uint64_t shard_bytes, ip_bytes;
static void *shard_memory, *ip_memory;

static double rule_cost(const struct agg_fraud_rules *rules, uint64_t events)
{
	double took[ROUNDS];
	for (int r = 0; r < ROUNDS; r++) {
		memset(shard_memory, 0, shard_bytes);
		memset(ip_memory, 0, ip_bytes);
		struct agg_fraud_shard *shard =
			agg_fraud_shard_init(shard_memory, ENTRIES, agg_fraud_ip_init(ip_memory, ENTRIES), NULL);
		took[r] = round_run(rules, shard, events) - round_run(NULL, shard, events);
	}
	qsort(took, ROUNDS, sizeof(took[0]), ascending);
	return took[ROUNDS / 2];
}

static bool listed(const void *context, const struct tp_addr *addr)
{
	return tp_prefix_set_match(context, addr) >= 0;
}

/* Lists as large as people have them: 2,000 words, 100,000 prefixes. */
static struct rul_rules *lists_load(const char *database)
{
	char words[] = "/tmp/bench_fraud_words.XXXXXX", ranges[] = "/tmp/bench_fraud_ranges.XXXXXX";
	FILE *out = fdopen(mkstemp(words), "w");
	for (int i = 0; out && i < 2000; i++)
		fprintf(out, "%c%ccrawler%04d\n", 'a' + i % 26, 'a' + i / 26 % 26, i);
	if (out)
		fclose(out);
	out = fdopen(mkstemp(ranges), "w");
	for (int i = 0; out && i < 100000; i++)
		fprintf(out, "%d.%d.%d.0/24\n", 100 + i / 65536, i / 256 % 256, i % 256);
	if (out)
		fclose(out);
	char *list[] = {ranges};
	struct tp_config_fraud config = {.bot_user_agents = words,
					 .bot_addresses = list,
					 .bot_address_count = 1,
					 .geo_database = (char *)(uintptr_t)database};
	struct rul_rules *rules;
	int rc = rul_load(&rules, &(struct rul_options){.config = &config});
	unlink(words);
	unlink(ranges);
	if (rc)
		exit(1);
	return rules;
}

/* 100 trees of depth 6 on all features. */
static struct agg_model *model_make(void)
{
	enum { TREES = 100, NODES = 127 };
	static struct agg_model_node node[TREES * NODES];
	static uint32_t root[TREES];
	static struct agg_model model = {.node = node, .root = root, .trees = TREES, .nodes = TREES * NODES};
	uint64_t seed = 5;
	for (uint32_t t = 0; t < TREES; t++) {
		root[t] = t * NODES;
		for (uint32_t i = 0; i < NODES; i++)
			node[t * NODES + i] = (struct agg_model_node){.value = i < 63 ? (float)(next(&seed) % 100) : 0.001f,
								      .left = i < 63 ? t * NODES + 2 * i + 1 : 0,
								      .feature = (uint16_t)(next(&seed) % AGG_FEATURES),
								      .missing_left = next(&seed) & 1};
	}
	return &model;
}

int main(int argc, char **argv)
{
	const uint64_t events = (argc > 1 ? strtoull(argv[1], NULL, 10) : 2) * 1000000;
	devices = (uint32_t)(argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * 1000000;
	clicks_one_in = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 10;
	const char *database = argc > 4 ? argv[4] : NULL;
	if (!events || !devices || !clicks_one_in)
		return 2;
	records_make();
	shard_bytes = agg_fraud_shard_bytes(ENTRIES);
	ip_bytes = agg_fraud_ip_bytes(ENTRIES);
	shard_memory = touched(shard_bytes);
	ip_memory = touched(ip_bytes);
	struct rul_rules *loaded = lists_load(database);
	const struct agg_fraud_rules *lists = rul_compiled(loaded);

	static const struct agg_fraud_rules none = {
		.version = 1, .impression_lookback_ms = 1800000, .impression_wait_ms = 5000, .regular_timing_gaps = 5};
	struct agg_fraud_rules all = none;
#define RULE(name, ...) \
	do { \
		struct agg_fraud_rules rule = none; \
		struct agg_fraud_rules *on[] = {&rule, &all}; \
		for (int i = 0; i < 2; i++) { \
			struct agg_fraud_rules *r = on[i]; \
			__VA_ARGS__; \
		} \
		printf("%-20s %7.1f ns/event\n", name, rule_cost(&rule, events) - base); \
		fflush(stdout); \
	} while (0)

	const double base = rule_cost(&none, events);
	printf("%" PRIu64 " events, %u devices, one in %u a click; tables of %u entries\n", events, devices, clicks_one_in,
	       ENTRIES);
	printf("%-20s %7.1f ns/event (the machine with no rule on; the rest is beyond it)\n", "none", base);
	RULE("ip_velocity", r->clicks_per_ip_hour = 10);
	RULE("device_velocity", r->clicks_per_device_hour = 5);
	RULE("too_soon", r->min_ms_since_impression = 500);
	struct agg_fraud_rules defaults = none;
	defaults.clicks_per_ip_hour = 10;
	defaults.clicks_per_device_hour = 5;
	defaults.min_ms_since_impression = 500;
	defaults.blocklisted = true;
	printf("%-20s %7.1f ns/event\n", "the default rules", rule_cost(&defaults, events) - base);
	RULE("no_impression", r->no_impression = true);
	RULE("bot_user_agent", r->bot_user_agents = lists->bot_user_agents);
	RULE("bot_address", r->bot_addresses = lists->bot_addresses);
	RULE("blocklisted", r->blocklisted = true; r->listed = listed; r->listed_context = lists->bot_addresses->set);
	RULE("no_mouse", r->no_mouse = true);
	RULE("regular_timing", r->regular_timing_ms = 20);
	RULE("device_spread", r->addresses_per_device_hour = 5; r->agents_per_device_hour = 3);
	RULE("device_mismatch", r->device_mismatch = true);
	RULE("geo_mismatch", r->geo_mismatch = true; r->places = lists->places);
	RULE("impossible_travel", r->travel_kmh = 1000; r->places = lists->places);
	RULE("publisher alerts", r->ctr_deviations = 6);
	RULE("model, 100 trees", r->model = model_make(); r->model_threshold = 999999);
	printf("%-20s %7.1f ns/event\n", "all of them", rule_cost(&all, events) - base);

	const double per_entry = (double)(agg_fraud_shard_bytes(ENTRIES) - agg_fraud_shard_bytes(ENTRIES / 2)) / (ENTRIES / 2.0);
	printf("memory: %.1f MiB per million entries of memory.fraud (devices, impressions, a quarter million profiles, 62,500 "
	       "waiting clicks), and "
	       "%.1f MiB per million addresses for the node\n",
	       per_entry * 1e6 / (1 << 20), (double)sizeof(uint64_t) * 2 * 1e6 / (1 << 20));
	rul_free(loaded);
	return 0;
}
