/*
 * Properties that hold for any input: splitting it over 1 to 8 shards, which take turns in any order, changes no count and no tag, but
 * which clicks of an address are tagged (how many does not change); nor does what is fetched ahead of the events; and merging sessions, sketches and sources in any order and any
 * tree gives the same.
 *
 * A user keeps to one device here: what one user does on two devices may lie on two shards, and rules then see half of it each.
 */
#include "fraud_testbed.h"
#include "turnpike/distinct.h"
#include "turnpike/rollup.h"
#include "turnpike/session.h"
#include "turnpike/sources.h"

enum { EVENTS = 3000, SHARDS_MAX = 8, ADDRESSES = 30, HOURS = 3, ENTRIES = 1 << 14, ROWS = 4096, MINUTES = 60 * HOURS, ADS = 5 };

static uint64_t random_state;

static uint64_t random_next(uint64_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % below;
}

/* ---- shards ---- */

struct outcome {
	uint32_t tags[EVENTS], amended[EVENTS];
	uint32_t by_address[ADDRESSES + 1][HOURS];
	struct tp_sums sums[MINUTES][ADS];
};

static struct told stream[EVENTS];
static char device[EVENTS][16], user[EVENTS][16], ad[ADS][8];

static void stream_make(void)
{
	for (uint32_t a = 0; a < ADS; a++)
		snprintf(ad[a], sizeof(ad[a]), "ad%u", a);
	for (uint32_t i = 0; i < EVENTS; i++) {
		const uint32_t who = (uint32_t)random_next(200);
		snprintf(device[i], sizeof(device[i]), "device%u", who);
		snprintf(user[i], sizeof(user[i]), "user%u", who);
		stream[i] = (struct told){
			.type = random_next(3) ? TP_CLICK : TP_IMPRESSION,
			.stamp_ms = HOUR_START + i * (HOURS * HOUR) / EVENTS + random_next(2000),
			.received_ms = HOUR_START + i * (HOURS * HOUR) / EVENTS + 2000,
			.address = (uint32_t)random_next(ADDRESSES + 1),
			.ad = ad[random_next(ADS)],
			.device = who % 4 ? device[i] : NULL,
			.user = who % 3 == 0 || who % 4 == 0 ? user[i] : NULL,
		};
		stream[i].stamp_ms -= stream[i].stamp_ms >= HOUR_START + HOURS * HOUR ? 2000 : 0;
		if (i && random_next(4) == 0) { /* the counterpart of the one before, a little later */
			const enum tp_event_type type = stream[i - 1].type == TP_CLICK ? TP_IMPRESSION : TP_CLICK;
			stream[i] = stream[i - 1];
			stream[i].type = type;
			stream[i].received_ms += 1000;
			stream[i].stamp_ms -= type == TP_IMPRESSION && stream[i].stamp_ms > HOUR_START + 3000 ? 3000 : 0;
		}
	}
}

static struct tp_rollup *table_make(void)
{
	struct tp_rollup *table = bed_memory(tp_rollup_bytes(ROWS, ROWS * 64));
	tp_rollup_format(table, ROWS, ROWS * 64);
	tp_rollup_reset(table, 1);
	return table;
}

static void table_sum(const struct tp_rollup *table, struct outcome *outcome)
{
	for (uint32_t r = 0; r < atomic_load(&table->rows); r++) {
		struct tp_rollup_row row;
		assert_true(tp_rollup_read(table, r, &row));
		const uint32_t which = (uint32_t)(tp_rollup_string(&row, tp_rollup_heap(table), TP_DIM_AD).at[2] - '0');
		struct tp_sums *sums = &outcome->sums[row.minute - HOUR_START / 60000][which];
		sums->impressions += row.sums.impressions;
		sums->clicks += row.sums.clicks;
		sums->flagged_clicks += row.sums.flagged_clicks;
		sums->late += row.sums.late;
		sums->spend_micros += row.sums.spend_micros;
	}
}

/* The stream through `shards` shards. Each takes its events in order; which one is next, the dice say. */
static void stream_run(const struct agg_fraud_rules *rules, uint32_t shards, struct outcome *outcome)
{
	static uint32_t queue[SHARDS_MAX][EVENTS];
	uint32_t queued[SHARDS_MAX] = {0}, taken[SHARDS_MAX] = {0};
	struct agg_fraud_shard *shard[SHARDS_MAX];
	struct tp_rollup *table[SHARDS_MAX];
	struct bed *bed = bed_open(ENTRIES); /* its address table is the one that all share */
	memset(outcome, 0, sizeof(*outcome));
	for (uint32_t s = 0; s < shards; s++) {
		shard[s] = agg_fraud_shard_init(bed_memory(agg_fraud_shard_bytes(ENTRIES)), ENTRIES, bed->ip, NULL);
		agg_fraud_rules_set(shard[s], rules);
		table[s] = table_make();
	}
	for (uint32_t i = 0; i < EVENTS; i++) {
		bed_encode(bed, stream[i]);
		const uint32_t s = (uint32_t)(bed_event(bed)->shard_hash % shards);
		queue[s][queued[s]++] = i;
	}
	for (uint32_t left = EVENTS; left;) {
		const uint32_t s = (uint32_t)random_next(shards);
		if (taken[s] == queued[s])
			continue;
		const uint32_t i = queue[s][taken[s]++];
		const struct agg_machine machine = agg_fraud_machine(shard[s]);
		left--;
		bed->ids = i; /* an event has its id on whatever shard */
		bed_encode(bed, stream[i]);
		struct tp_event *event = bed_event(bed);
		machine.ops->show(machine.self, event);
		outcome->tags[i] = event->fraud & ~BIT(IP_VELOCITY);
		if (event->fraud & BIT(IP_VELOCITY))
			outcome->by_address[stream[i].address][(stream[i].stamp_ms - HOUR_START) / HOUR]++;
		tp_rollup_add(table[s], event);
		const struct tp_event *left_record;
		while ((left_record = machine.ops->record(machine.self)) != NULL) {
			outcome->amended[left_record->id.lo - 1]++;
			tp_rollup_add(table[s], left_record);
			machine.ops->recorded(machine.self);
		}
	}
	for (uint32_t s = 0; s < shards; s++) {
		table_sum(table[s], outcome);
		free(table[s]);
		free(shard[s]);
	}
	bed_close(bed);
}

static void splitting_never_matters(void **state)
{
	(void)state;
	static struct outcome whole, split;
	static const struct agg_fraud_rules all = {.version = 1,
						   .clicks_per_device_hour = 3,
						   .min_ms_since_impression = 2500,
						   .no_impression = true,
						   .impression_lookback_ms = 1800000,
						   .impression_wait_ms = 5000,
						   .addresses_per_device_hour = 3,
						   .regular_timing_ms = 400000,
						   .regular_timing_gaps = 3};
	uint32_t tagged = 0, amended = 0, of_addresses = 0;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		random_state = seed;
		stream_make();
		/* without the shared limit every figure is the same; with it, how many clicks of an address are tagged */
		for (uint32_t limit = 0; limit <= 10; limit += 10) {
			struct agg_fraud_rules rules = all;
			rules.clicks_per_ip_hour = limit;
			stream_run(&rules, 1, &whole);
			for (uint32_t shards = 2; shards <= SHARDS_MAX; shards++) {
				stream_run(&rules, shards, &split);
				assert_memory_equal(split.tags, whole.tags, sizeof(whole.tags));
				assert_memory_equal(split.amended, whole.amended, sizeof(whole.amended));
				assert_memory_equal(split.by_address, whole.by_address, sizeof(whole.by_address));
				if (!limit)
					assert_memory_equal(split.sums, whole.sums, sizeof(whole.sums));
			}
			for (uint32_t i = 0; i < EVENTS; i++) {
				tagged += whole.tags[i] != 0;
				amended += whole.amended[i];
			}
			for (uint32_t a = 0; a <= ADDRESSES; a++)
				of_addresses += whole.by_address[a][0];
		}
	}
	assert_true(tagged > 1000 && amended > 100 && of_addresses > 100); /* else nothing was tried */
}

/* ---- fetching ahead ---- */

static struct tp_event *stream_event(struct bed *bed, uint32_t i)
{
	bed->ids = i;
	bed_encode(bed, stream[i]);
	return bed_event(bed);
}

/*
 * The stream through one shard, in bursts of which not every event is new, and some are not fetched. With `ahead` as the shard does it:
 * each burst is fetched first, and some bursts again, since they found no room.
 */
static void stream_show(const struct agg_fraud_rules *rules, bool ahead, uint32_t tags[EVENTS])
{
	struct bed *bed = bed_open(ENTRIES);
	agg_fraud_rules_set(bed->shard, rules);
	for (uint32_t from = 0, bursts = 0; from < EVENTS; bursts++) {
		uint32_t end = from + 1 + bursts * 7 % 64;
		end = end < EVENTS ? end : EVENTS;
		for (uint32_t times = ahead ? 1 + (bursts % 5 == 0) : 0; times; times--)
			for (uint32_t i = from; i < end; i++)
				if (i % 11 != 5)
					bed->machine.ops->prefetch(bed->machine.self, stream_event(bed, i));
		for (; from < end; from++) {
			if (from % 7 == 3)
				continue;
			struct tp_event *event = stream_event(bed, from);
			bed->machine.ops->show(bed->machine.self, event);
			tags[from] = event->fraud;
			while (bed->machine.ops->record(bed->machine.self) != NULL)
				bed->machine.ops->recorded(bed->machine.self);
		}
	}
	bed_close(bed);
}

static void fetching_ahead_never_matters(void **state)
{
	(void)state;
	static const struct agg_fraud_rules rules[] = {
		{.version = 1, .clicks_per_ip_hour = 10, .clicks_per_device_hour = 5, .min_ms_since_impression = 2500},
		{.version = 1, .clicks_per_device_hour = 5},
		{.version = 1,
		 .min_ms_since_impression = 2500,
		 .no_impression = true,
		 .impression_lookback_ms = 1800000,
		 .impression_wait_ms = 5000,
		 .addresses_per_device_hour = 3},
	};
	static uint32_t tags[EVENTS], tags_ahead[EVENTS];
	random_state = 7;
	stream_make();
	for (size_t r = 0; r < sizeof(rules) / sizeof(rules[0]); r++) {
		uint32_t tagged = 0;
		stream_show(&rules[r], false, tags);
		stream_show(&rules[r], true, tags_ahead);
		assert_memory_equal(tags, tags_ahead, sizeof(tags));
		for (uint32_t i = 0; i < EVENTS; i++)
			tagged += tags[i] != 0;
		assert_true(tagged > 20); /* else nothing was tried */
	}
}

/* ---- merges ---- */

enum { PARTS = 24, USERS = 400 };

/* Merges two parts that the dice choose, until one is left. */
#define TREE(parts, count, merge) \
	for (uint32_t left = (count); left > 1; left--) { \
		const uint32_t into = (uint32_t)random_next(left - 1), from = left - 1; \
		merge(&(parts)[into], &(parts)[from]); \
		const uint32_t swap = (uint32_t)random_next(left - 1); \
		__typeof__((parts)[0]) kept = (parts)[swap]; \
		(parts)[swap] = (parts)[0]; \
		(parts)[0] = kept; \
	}

static void distinct_users_merge_in_any_tree(void **state)
{
	(void)state;
	static struct agg_distinct part[PARTS], whole;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		random_state = seed;
		memset(part, 0, sizeof(part));
		memset(&whole, 0, sizeof(whole));
		for (uint32_t i = 0; i < 3000; i++) {
			char name[16];
			size_t bytes = (size_t)snprintf(name, sizeof(name), "u%u", (uint32_t)random_next(USERS));
			agg_distinct_add(&part[random_next(PARTS)], name, bytes);
			agg_distinct_add(&whole, name, bytes);
		}
		TREE(part, PARTS, agg_distinct_merge);
		assert_memory_equal(&part[0], &whole, sizeof(whole));
	}
}

static struct agg_session session_of(uint64_t stamp_ms, uint32_t i)
{
	return (struct agg_session){.start_ms = stamp_ms,
				    .end_ms = stamp_ms,
				    .impressions = i % 3 == 0,
				    .clicks = i % 3 == 1,
				    .flagged_clicks = i % 3 == 2,
				    .ads = 1,
				    .ad[0] = {ad[i % ADS], 3}};
}

/* Some are merged first, in groups, the groups in any order: the same sessions as of all at once. */
static void sessions_merge_in_any_order(void **state)
{
	(void)state;
	static struct agg_session whole[USERS], part[USERS], group[USERS];
	for (uint32_t a = 0; a < ADS; a++)
		snprintf(ad[a], sizeof(ad[a]), "ad%u", a);
	for (uint64_t seed = 1; seed <= 60; seed++) {
		random_state = seed;
		const uint32_t count = 2 + (uint32_t)random_next(100);
		uint32_t parts = 0;
		for (uint32_t i = 0; i < count; i++)
			whole[i] = session_of(HOUR_START + random_next(20) * 900000 + random_next(2) * random_next(900000), i);
		for (uint32_t g = 0, at = 0; at < count; g++) {
			uint32_t members = 1 + (uint32_t)random_next(9);
			members = members < count - at ? members : count - at;
			memcpy(group, whole + at, members * sizeof(*group));
			at += members;
			members = agg_sessions_merge(group, members, 1800000);
			memcpy(part + parts, group, members * sizeof(*group));
			parts += members;
		}
		for (uint32_t i = parts; i > 1; i--) {
			const uint32_t k = (uint32_t)random_next(i);
			struct agg_session kept = part[k];
			part[k] = part[i - 1];
			part[i - 1] = kept;
		}
		const uint32_t want = agg_sessions_merge(whole, count, 1800000);
		assert_int_equal(agg_sessions_merge(part, parts, 1800000), want);
		for (uint32_t i = 0; i < want; i++) {
			assert_true(part[i].start_ms == whole[i].start_ms && part[i].end_ms == whole[i].end_ms);
			assert_int_equal(part[i].impressions, whole[i].impressions);
			assert_int_equal(part[i].clicks, whole[i].clicks);
			assert_int_equal(part[i].flagged_clicks, whole[i].flagged_clicks);
			assert_int_equal(part[i].ads, whole[i].ads);
		}
	}
}

/* Exact while all fit; beyond, the bounds hold in every tree. */
static void sources_merge_in_any_tree(void **state)
{
	(void)state;
	static struct agg_sources part[PARTS];
	for (uint64_t seed = 1; seed <= 40; seed++) {
		random_state = seed;
		const uint32_t addresses = seed % 2 ? AGG_SOURCES : 4 * AGG_SOURCES;
		uint64_t truth[4 * AGG_SOURCES] = {0};
		memset(part, 0, sizeof(part));
		for (uint32_t p = 0; p < PARTS; p++) {
			uint64_t clicks = 1000;
			const uint32_t first = (uint32_t)random_next(addresses);
			for (uint32_t i = 0; i < AGG_SOURCES / 2; i++) {
				const uint32_t a = (first + i) % addresses;
				struct agg_source *source = &part[p].source[part[p].count++];
				clicks -= random_next(9);
				memcpy(source->ip + 12, &a, 4);
				source->clicks = clicks;
				truth[a] += clicks;
			}
		}
		TREE(part, PARTS, agg_sources_merge);
		bool there[4 * AGG_SOURCES] = {false};
		for (uint32_t i = 0; i < part[0].count; i++) {
			const struct agg_source *source = &part[0].source[i];
			uint32_t a;
			memcpy(&a, source->ip + 12, 4);
			there[a] = true;
			assert_true(source->clicks <= truth[a] && truth[a] <= source->clicks + source->over);
			assert_true(addresses > AGG_SOURCES || source->clicks == truth[a]);
		}
		for (uint32_t a = 0; a < addresses; a++)
			assert_true(there[a] || truth[a] <= part[0].missed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splitting_never_matters),          cmocka_unit_test(fetching_ahead_never_matters),
		cmocka_unit_test(distinct_users_merge_in_any_tree), cmocka_unit_test(sessions_merge_in_any_order),
		cmocka_unit_test(sources_merge_in_any_tree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
