/*
 * Clicks per clock hour of event time, of an address and of a device.
 *
 * The address table is the one thing that shards share: relaxed reads, a 16-byte compare-and-swap to change key and value together,
 * so that an increment cannot fall into an entry that was given to another key meanwhile. A count is therefore never above the number
 * of clicks shown with that key. It is incremented only until it is past what any rule asks for: a hot address costs the shards no
 * cache misses.
 *
 * Source: contract section 4 and 7 (`fraud`), design section 4 (shared nothing but ids and addresses).
 */
#include "fraud_state.h"

enum { CAS_ROUNDS_MAX = 16 };

static inline uint64_t value_make(uint32_t hour, uint32_t clicks)
{
	return (uint64_t)hour << 32 | clicks;
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

/* The entry of `key`, or else the one to give to it, as they are at this moment. */
static inline struct entry *address_find(struct set *set, uint64_t key)
{
	for (int i = 0; i < WAYS; i++)
		if (__atomic_load_n(&set->entry[i].key, __ATOMIC_RELAXED) == key)
			return &set->entry[i];
	struct entry *smallest = &set->entry[0];
	uint64_t value = UINT64_MAX;
	for (int i = 0; i < WAYS; i++) {
		const struct entry next = entry_load(&set->entry[i]);
		if (next.key == 0 || next.key == key) /* another shard may have put it there meanwhile */
			return &set->entry[i];
		if (next.value < value) {
			smallest = &set->entry[i];
			value = next.value;
		}
	}
	return smallest;
}

/* Counts one click of an address unless it is over `most` already; the clicks so far, with this one. *counted: it was counted. */
static uint32_t address_click(struct agg_fraud_ip *ip, uint64_t key, uint32_t hour, uint32_t most, bool *counted)
{
	struct set *set = set_of(ip->set, ip->sets, key);
	*counted = false;
	/* each lost round means that another shard's click went into this set */
	for (int round = 0; round < CAS_ROUNDS_MAX; round++) {
		struct entry *found = address_find(set, key);
		struct entry seen = entry_load(found);
		if (seen.key == key) {
			uint32_t clicks = (uint32_t)seen.value;
			if (clicks > most && __atomic_load_n(&found->key, __ATOMIC_RELAXED) == key)
				return clicks;
			if (entry_swap(found, seen, (struct entry){.key = key, .value = seen.value + 1})) {
				*counted = true;
				return clicks + 1;
			}
			continue;
		}
		struct entry fresh = {.key = key, .value = value_make(hour, 1)};
		if (seen.key != 0 && seen.value > fresh.value)
			return 1;
		if (entry_swap(found, seen, fresh)) {
			*counted = true;
			return 1;
		}
	}
	return 1; /* so much traffic in one set that the click goes uncounted: it is not tagged */
}

void fraud_address_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	const struct agg_fraud_rules *rules = subject->rules;
	const struct tp_event *event = subject->event;
	const uint32_t limit = rules->clicks_per_ip_hour;
	if (!(event->flags & TP_HAS_IP) || (!limit && !subject->features))
		return;
	enum { FEATURE_CLICKS_MAX = 1000 };
	uint64_t most = limit;
	const uint64_t attack = (uint64_t)limit * rules->blocklist_over_times;
	if (attack > most)
		most = attack;
	if (subject->features && most < FEATURE_CLICKS_MAX)
		most = FEATURE_CLICKS_MAX;
	if (most > UINT32_MAX - 1)
		most = UINT32_MAX - 1;
	uint64_t key = hash_mix(hash_bytes(shard->shared->seed, event->ip, sizeof(event->ip)), subject->hour);
	bool counted;
	subject->ip_clicks = address_click(shard->shared, key, (uint32_t)subject->hour, (uint32_t)most, &counted);
	if (!limit || subject->ip_clicks <= limit)
		return;
	find(subject->findings, TP_FRAUD_IP_VELOCITY, subject->ip_clicks, limit, 0);
	/* exactly one click of the hour is the first beyond the multiple, on whatever shard */
	if (attack && counted && subject->ip_clicks == attack + 1) {
		struct agg_signal signal = {.kind = AGG_SIGNAL_ATTACKER,
					    .limit = limit,
					    .when_ms = subject->hour * HOUR_MS,
					    .seen = subject->ip_clicks,
					    .usual = attack};
		memcpy(signal.ip, event->ip, sizeof(signal.ip));
		fraud_signal(shard, &signal);
	}
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

void fraud_device_count(struct agg_fraud_shard *shard, struct subject *subject)
{
	const uint32_t limit = subject->rules->clicks_per_device_hour;
	if (!subject->viewer.device_hash || (!limit && !subject->features))
		return;
	subject->device_clicks = device_click(shard, hash_mix(subject->viewer.device_hash, subject->hour), (uint32_t)subject->hour);
	if (limit && subject->device_clicks > limit)
		find(subject->findings, TP_FRAUD_DEVICE_VELOCITY, subject->device_clicks, limit, 0);
}
