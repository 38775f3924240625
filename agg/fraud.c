/*
 * Fraud rules on velocity and on the time since the impression. A shard core enters agg_fraud_judge() for its own shard; the
 * table of addresses is the one thing that shards share.
 *
 *   addresses (shared)    key: address and hour             value: hour, clicks          16-byte compare-and-swap
 *   devices (own)         key: device id and hour           value: hour, clicks          plain
 *   impressions (own)     key: user or device id, and ad    value: stamp of the latest   plain
 *
 *   entry    0       8      12      16         a set is 8 entries, two cache lines side by side
 *            ├─ key ─┼ clicks ┼ hour ┤         read as one number, a later hour is larger, then more clicks
 *
 * Invariants
 *  1. A click count is never above the number of clicks shown with that key: an entry's key and value change together, so an
 *     increment cannot fall into an entry that was given to another key meanwhile. Tags err to the side of fewer.
 *  2. A full set gives up its smallest value: the oldest hour (or stamp), among equals the fewest clicks; unless what comes is
 *     older still, then that is not kept.
 *  3. What does not come from the event and the tables does not matter: no clock, no order among shards except through 1.
 *
 * Keys are hashed under the node's secret, so that nobody can choose ids that push another's counts out of its set.
 * Source: contract section 4 and 7 (`fraud`), design section 4 (shared nothing but ids and addresses).
 */
#include "turnpike/fraud.h"

#include <stdbool.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { WAYS = 8, CAS_ROUNDS_MAX = 16 };

#define HOUR_MS UINT64_C(3600000)

struct entry {
	_Alignas(16) uint64_t key; /* 0: empty */
	uint64_t value;            /* hour << 32 | clicks; or a stamp in ms */
};

struct set {
	_Alignas(64) struct entry entry[WAYS];
};

static_assert(sizeof(struct set) == 128, "a set is two cache lines");

struct agg_fraud_ip {
	_Alignas(64) uint64_t seed;
	uint32_t sets; /* a power of two */
	struct set set[];
};

struct agg_fraud_shard {
	_Alignas(64) uint64_t seed;
	struct agg_fraud_ip *shared;
	uint32_t sets; /* of each table, a power of two */
	struct set *devices, *impressions;
	struct set set[];
};

static uint32_t sets_of(uint32_t entries)
{
	assert((entries & (entries - 1)) == 0); /* a power of two: the header's promise to us */
	return entries > WAYS ? entries / WAYS : 1;
}

uint64_t agg_fraud_ip_bytes(uint32_t entries)
{
	return sizeof(struct agg_fraud_ip) + (uint64_t)sets_of(entries) * sizeof(struct set);
}

uint64_t agg_fraud_shard_bytes(uint32_t entries)
{
	return sizeof(struct agg_fraud_shard) + 2 * (uint64_t)sets_of(entries) * sizeof(struct set);
}

/* Through the id hash, which knows the node's secret. */
static uint64_t secret_seed(void)
{
	int uuid;
	return tp_id_from_text("agg_fraud", 9, &uuid).lo;
}

struct agg_fraud_ip *agg_fraud_ip_init(void *memory, uint32_t entries)
{
	struct agg_fraud_ip *ip = memory;
	ip->seed = secret_seed();
	ip->sets = sets_of(entries);
	return ip;
}

struct agg_fraud_shard *agg_fraud_shard_init(void *memory, uint32_t entries, struct agg_fraud_ip *shared)
{
	struct agg_fraud_shard *shard = memory;
	shard->seed = secret_seed();
	shard->shared = shared;
	shard->sets = sets_of(entries);
	shard->devices = shard->set;
	shard->impressions = shard->set + shard->sets;
	return shard;
}

/* ---- tables ---- */

static inline uint64_t key_of(uint64_t seed, uint64_t context, const void *bytes, size_t count)
{
	uint64_t key = XXH3_64bits_withSeed(bytes, count, seed ^ context * 0x9e3779b97f4a7c15ULL);
	return key ? key : 1; /* zero marks an empty entry */
}

static inline struct set *set_of(struct set *table, uint32_t sets, uint64_t key)
{
	return &table[key >> 32 & (sets - 1)];
}

static inline uint64_t value_make(uint32_t hour, uint32_t clicks)
{
	return (uint64_t)hour << 32 | clicks;
}

/* The entry of `key`, or else the one to give to it (still with its old content): an empty one, or the smallest. */
static inline struct entry *set_find(struct set *set, uint64_t key)
{
	struct entry *smallest = &set->entry[0];
	for (int i = 0; i < WAYS; i++) {
		struct entry *entry = &set->entry[i];
		if (entry->key == key)
			return entry;
		if (smallest->key != 0 && (entry->key == 0 || entry->value < smallest->value))
			smallest = entry;
	}
	return smallest;
}

/* Counts one click; the clicks so far, with this one. */
static uint32_t device_click(struct agg_fraud_shard *shard, uint64_t key, uint32_t hour)
{
	struct entry *entry = set_find(set_of(shard->devices, shard->sets, key), key);
	if (entry->key == key) {
		if ((uint32_t)entry->value < UINT32_MAX)
			entry->value++;
		return (uint32_t)entry->value;
	}
	uint64_t value = value_make(hour, 1);
	if (entry->key == 0 || entry->value <= value)
		*entry = (struct entry){.key = key, .value = value};
	return 1;
}

static void impression_note(struct agg_fraud_shard *shard, uint64_t key, uint64_t timestamp_ms)
{
	struct entry *entry = set_find(set_of(shard->impressions, shard->sets, key), key);
	if (entry->key == 0 || entry->value <= timestamp_ms)
		*entry = (struct entry){.key = key, .value = timestamp_ms};
}

static bool click_too_soon(struct agg_fraud_shard *shard, uint64_t key, uint64_t timestamp_ms, uint32_t min_ms)
{
	const struct entry *entry = set_find(set_of(shard->impressions, shard->sets, key), key);
	return entry->key == key && entry->value <= timestamp_ms && timestamp_ms - entry->value < min_ms;
}

static inline struct entry entry_load(const struct entry *entry)
{
	/*
	 * The halves may be of two moments. Where the pair is acted on, a compare-and-swap over both tells; acquire keeps this order,
	 * for the one place that reads the key a second time.
	 */
	struct entry seen;
	seen.key = __atomic_load_n(&entry->key, __ATOMIC_ACQUIRE);
	seen.value = __atomic_load_n(&entry->value, __ATOMIC_ACQUIRE);
	return seen;
}

static inline bool entry_swap(struct entry *entry, struct entry from, struct entry to)
{
	unsigned __int128 old = (unsigned __int128)from.value << 64 | from.key, new = (unsigned __int128)to.value << 64 | to.key;
	return __sync_bool_compare_and_swap((unsigned __int128 *)(void *)entry, old, new);
}

/* Counts one click of an address unless it is over the limit already; the clicks so far, with this one. */
static uint32_t address_click(struct agg_fraud_ip *ip, uint64_t key, uint32_t hour, uint32_t limit)
{
	struct set *set = set_of(ip->set, ip->sets, key);
	/* each lost round means that another shard's click went into this set */
	for (int round = 0; round < CAS_ROUNDS_MAX; round++) {
		struct entry *found = &set->entry[0];
		struct entry seen = entry_load(found);
		for (int i = 1; i < WAYS && seen.key != key; i++) {
			struct entry next = entry_load(&set->entry[i]);
			if (next.key == key || (seen.key != 0 && (next.key == 0 || next.value < seen.value))) {
				found = &set->entry[i];
				seen = next;
			}
		}
		if (seen.key == key) {
			uint32_t clicks = (uint32_t)seen.value;
			/* over the limit nothing is written, so a hot address costs the shards no cache misses */
			if (clicks > limit && __atomic_load_n(&found->key, __ATOMIC_RELAXED) == key)
				return clicks;
			if (entry_swap(found, seen, (struct entry){.key = key, .value = seen.value + 1}))
				return clicks + 1;
			continue;
		}
		struct entry fresh = {.key = key, .value = value_make(hour, 1)};
		if (seen.key != 0 && seen.value > fresh.value)
			return 1;
		if (entry_swap(found, seen, fresh))
			return 1;
	}
	return 1; /* so much traffic in one set that the click goes uncounted: it is not tagged */
}

/* ---- the rules ---- */

/* The strings that rules look at, found in one pass. */
struct subject {
	struct tp_str ad, user, device;
};

static inline struct subject subject_of(const struct tp_event *event)
{
	static_assert(TP_AD_ID < TP_USER_ID && TP_USER_ID + 1 == TP_DEVICE_ID, "found in this order");
	struct subject subject;
	const char *at = (const char *)(event + 1) + event->string_bytes[TP_EVENT_ID];
	subject.ad = (struct tp_str){.at = at, .bytes = event->string_bytes[TP_AD_ID]};
	for (int i = TP_AD_ID; i < TP_USER_ID; i++)
		at += event->string_bytes[i];
	subject.user = (struct tp_str){.at = at, .bytes = event->string_bytes[TP_USER_ID]};
	subject.device = (struct tp_str){.at = at + subject.user.bytes, .bytes = event->string_bytes[TP_DEVICE_ID]};
	return subject;
}

/*
 * Impressions are noted under the user and under the device, each with the ad: a click may name only one of them.
 * `kind` keeps a user and a device of the same name apart.
 */
static inline uint64_t viewer_key(const struct agg_fraud_shard *shard, struct tp_str viewer, uint64_t kind, uint64_t ad_hash)
{
	return key_of(shard->seed, ad_hash + kind, viewer.at, viewer.bytes);
}

uint32_t agg_fraud_judge(struct agg_fraud_shard *shard, const struct agg_fraud_limits *limits, const struct tp_event *event)
{
	if (event->type != TP_CLICK && event->type != TP_IMPRESSION)
		return 0;
	const struct subject subject = subject_of(event);
	const uint64_t stamp = event->timestamp_ms, hour = stamp / HOUR_MS;
	uint64_t user_key = 0, device_key = 0;
	if (limits->min_ms_since_impression > 0 && subject.user.bytes + subject.device.bytes > 0) {
		uint64_t ad_hash = key_of(shard->seed, 0, subject.ad.at, subject.ad.bytes);
		if (subject.user.bytes > 0)
			user_key = viewer_key(shard, subject.user, 1, ad_hash);
		if (subject.device.bytes > 0)
			device_key = viewer_key(shard, subject.device, 2, ad_hash);
	}
	if (event->type == TP_IMPRESSION) {
		if (user_key)
			impression_note(shard, user_key, stamp);
		if (device_key)
			impression_note(shard, device_key, stamp);
		return 0;
	}
	uint32_t reasons = 0;
	if (limits->clicks_per_ip_hour > 0 && event->flags & TP_HAS_IP) {
		uint64_t key = key_of(shard->shared->seed, hour, event->ip, sizeof event->ip);
		if (address_click(shard->shared, key, (uint32_t)hour, limits->clicks_per_ip_hour) > limits->clicks_per_ip_hour)
			reasons |= TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY);
	}
	if (limits->clicks_per_device_hour > 0 && subject.device.bytes > 0) {
		uint64_t key = key_of(shard->seed, hour, subject.device.at, subject.device.bytes);
		if (device_click(shard, key, (uint32_t)hour) > limits->clicks_per_device_hour)
			reasons |= TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY);
	}
	if (user_key && click_too_soon(shard, user_key, stamp, limits->min_ms_since_impression))
		reasons |= TP_FRAUD_BIT(TP_FRAUD_TOO_SOON);
	if (device_key && click_too_soon(shard, device_key, stamp, limits->min_ms_since_impression))
		reasons |= TP_FRAUD_BIT(TP_FRAUD_TOO_SOON);
	return reasons;
}
