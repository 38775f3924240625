/*
 * The state behind the fraud rules. Private to agg/fraud*.c; each file has one family of rules:
 *
 *   fraud.c             the machine: one look at the event, the families in turn, evidence
 *   fraud_velocity.c    clicks per address (shared by the shards) and per device, in the clock hour
 *   fraud_impression.c  too soon after the impression; none at all, and the clicks that wait for one
 *   fraud_device.c      what one device does: gaps, addresses, user agents, contradictions
 *   fraud_place.c       where an address is, against what the event says and where the device was before
 *   fraud_publisher.c   click-through rates against their own history
 *
 * Keys are hashes under the node's secret, so that nobody can choose ids that push another's entries out of a set.
 */
#ifndef AGG_FRAUD_STATE_H
#define AGG_FRAUD_STATE_H

#include "turnpike/fraud.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define HOUR_MS UINT64_C(3600000)

enum {
	WAYS = 8,
	PROFILE_WAYS = 4,
	SIGNALS = 256,
	PLACES = 4096,
	PUBLISHERS = 4096,
	PUBLISHER_WAYS = 4,
	CARRIED = 64, /* a burst of the shard */
};

/*
 * A table of clicks or stamps.
 *   entry    0       8      12      16         a set is 8 entries, two cache lines side by side
 *            ├─ key ─┼ clicks ┼ hour ┤         read as one number, a later hour is larger, then more clicks
 * A full set gives up its smallest value: the oldest hour (or stamp), among equals the fewest clicks; unless what comes is older
 * still, then that is not kept.
 */
struct entry {
	_Alignas(16) uint64_t key; /* 0: empty */
	uint64_t value;            /* hour << 32 | clicks; or a stamp in ms */
};

struct set {
	_Alignas(64) struct entry entry[WAYS];
};
static_assert(sizeof(struct set) == 128, "a set is two cache lines");

/*
 * Of a viewer with an ad, the newest stamp; five in a cache line, because every event needs two sets, and to fetch lines is what it costs.
 *   tag    48 upper bits of the key, 0: empty; the lower ones choose the set
 *   stamp  48 bits of ms
 * `forgot_s` is the newest stamp that the set had to give up, in seconds, rounded up: it only makes fewer clicks tagged.
 */
enum { IMPRESSION_WAYS = 5 };
struct impression_set {
	_Alignas(64) uint32_t forgot_s;
	uint32_t tag_low[IMPRESSION_WAYS], stamp_low[IMPRESSION_WAYS];
	uint16_t tag_high[IMPRESSION_WAYS], stamp_high[IMPRESSION_WAYS];
};
static_assert(sizeof(struct impression_set) == 64, "a set is one cache line");

struct agg_fraud_ip {
	_Alignas(64) uint64_t seed;
	uint32_t sets; /* a power of two */
	struct set set[];
};

/* What is known of one device (or, without one, user). Three cache lines. A newer `last_ms` outlives an older one in its set. */
struct profile {
	_Alignas(64) uint64_t key;     /* 0: empty */
	uint64_t last_ms;              /* newest stamp */
	uint64_t click_ms;             /* newest click's; 0: none */
	uint32_t gap_ms[AGG_GAPS_MAX]; /* between clicks in order; a ring */
	uint32_t hour;                 /* of the two sets below */
	uint8_t gaps, gap_next;
	uint8_t addresses, agents;               /* distinct ones this hour */
	uint32_t address[AGG_ADDRESSES_MAX + 1]; /* short hashes: two that meet are one, which counts less */
	uint32_t agent[AGG_AGENTS_MAX + 1];
	float point[3], radius_km; /* where it was last */
	uint64_t place_ms;         /* when; 0: never */
	uint8_t pad[8];
};
static_assert(sizeof(struct profile) == 192, "three cache lines");

struct publisher {
	_Alignas(64) uint64_t key;
	uint32_t window; /* open one, number since 1970 */
	uint32_t impressions, clicks;
	uint8_t past, past_next, text_bytes;
	uint8_t pad[9];
	uint32_t rate[24]; /* of past windows, millionths; a ring */
	char text[TP_ID_BYTES_MAX];
};
static_assert(sizeof(struct publisher) == 192, "three cache lines");

struct place_entry {
	_Alignas(64) uint64_t key;
	struct agg_place place;
};

/*
 * A click tagged no_impression whose impression may still come. Slots have numbers that only grow; a chain runs from newer to older
 * numbers and ends at the first that is no longer in the ring, so nothing is ever taken out of a chain.
 */
struct pending {
	uint64_t user_key, device_key;   /* viewer and ad, as in the impression table; 0: none */
	uint64_t next_user, next_device; /* 1 + number of the next older one in the same bucket; 0: none */
	uint64_t received_ms, stamp_ms;
	struct tp_id id;
	uint64_t at, end;  /* its record, positions in the arena; equal: none is kept */
	uint64_t next_out; /* 1 + number of the next in the outbox */
	uint32_t state;    /* enum pending_state */
	uint32_t pad;
};

/* waits ─► saved, in the outbox ─► done. Done may also be the first state: its amendment was seen before it. */
enum pending_state { PENDING_WAITS, PENDING_SAVED, PENDING_DONE };

struct waiting {
	uint32_t slots;       /* a power of two, the number of buckets too */
	uint64_t first, next; /* in use: [first, next) */
	uint64_t arena_first, arena_next, arena_bytes;
	uint64_t saved;               /* in the outbox */
	uint64_t out_first, out_last; /* 1 + number */
	uint64_t newest_ms;           /* newest received_ms seen */
	struct pending *slot;
	uint64_t *user_bucket, *device_bucket; /* 1 + number of the newest */
	uint8_t *arena;
};

/* Whose event it is, hashed under the secret; 0 where the string is empty. */
struct viewer {
	uint64_t user_hash, device_hash;
	uint64_t user_key, device_key; /* with the ad: the impression table's */
};

/*
 * What prefetch() hashed, for show(): a ring in the order of the events, some of which are not shown. They are told by their fingerprints,
 * which no two payloads share; what is not found is hashed again.
 */
struct carried {
	uint64_t fingerprint;
	struct viewer viewer;
};

struct agg_fraud_shard {
	_Alignas(64) uint64_t seed;
	struct agg_fraud_ip *shared;
	struct tp_counters *counters;
	_Atomic(const struct agg_fraud_rules *) rules;
	uint32_t sets;            /* of devices */
	uint32_t impression_sets; /* all powers of two */
	uint32_t profile_sets;
	struct set *devices;
	struct impression_set *impressions;
	uint64_t unseen_ms; /* newest stamp while impressions were not noted: absence up to then proves nothing */
	uint64_t newest_ms; /* newest stamp seen again after a restart */
	bool quiet;         /* events are seen again: nobody is told */
	struct profile *profiles;
	struct publisher *publishers;
	struct place_entry *places;
	struct waiting waiting;
	uint32_t carried_in, carried_out; /* only growing */
	struct carried carried[CARRIED];
	struct tp_counters none; /* counts of a shard without counters */
	struct agg_signal *signals;
	_Alignas(64) _Atomic uint64_t signals_given; /* shard core */
	_Alignas(64) _Atomic uint64_t signals_taken; /* the taker */
};

/* One event, looked at once. */
struct subject {
	const struct tp_event *event;
	const struct agg_fraud_rules *rules;
	uint64_t stamp_ms, hour;
	struct tp_str ad, publisher, user, device, agent, referer;
	struct viewer viewer;
	struct profile *profile;       /* of the device or user, if a rule asked for it */
	const struct agg_place *place; /* of the address, if a rule asked for it */
	struct agg_findings *findings;
	/* what the model sees beside the event */
	uint32_t ip_clicks, device_clicks;
	uint64_t impression_ms; /* 0: none known */
	int32_t bot_word;       /* -1: none */
	bool click, features;
};

static inline uint64_t multiply_fold(uint64_t a, uint64_t b)
{
	const unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t read_64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint64_t read_32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

/*
 * A string of at least a byte under a secret seed. Ids are short, and an event has several, so this is short, too: a multiplication for
 * each 16 bytes. Both factors are mixed with what nobody outside knows. The step is that of wyhash (Wang Yi, public domain).
 */
static inline __attribute__((always_inline)) uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t count)
{
	const uint64_t other = seed * 0x9e3779b97f4a7c15ULL ^ 0xff51afd7ed558ccdULL;
	const uint8_t *at = bytes, *end = at + count;
	uint64_t first, second, state = seed + count;
	if (count > 16) {
		for (; end - at > 16; at += 16)
			state = multiply_fold(read_64(at) ^ other, read_64(at + 8) ^ state);
		first = read_64(end - 16);
		second = read_64(end - 8);
	} else if (count >= 8) {
		first = read_64(at);
		second = read_64(end - 8);
	} else if (count >= 4) {
		first = read_32(at);
		second = read_32(end - 4);
	} else {
		first = (uint64_t)at[0] << 16 | (uint64_t)at[count >> 1] << 8 | end[-1];
		second = 0;
	}
	const uint64_t key = multiply_fold(first ^ other, second ^ state);
	return key ? key : 1; /* zero marks an empty entry */
}

/* Two numbers, the first of them hashed under a secret already, into one key. */
static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
	const uint64_t key = multiply_fold(a ^ 0xff51afd7ed558ccdULL, b ^ 0x9e3779b97f4a7c15ULL);
	return key ? key : 1;
}

static inline struct set *set_of(struct set *table, uint32_t sets, uint64_t key)
{
	return &table[key >> 32 & (sets - 1)];
}

static inline struct impression_set *impression_set_of(const struct agg_fraud_shard *shard, uint64_t key)
{
	return &shard->impressions[key & (shard->impression_sets - 1)];
}

/* The entry of `key`, or else the one to give to it (still with its old content): an empty one, or the smallest. */
static inline struct entry *set_find(struct set *set, uint64_t key)
{
	for (int i = 0; i < WAYS; i++)
		if (set->entry[i].key == key)
			return &set->entry[i];
	struct entry *smallest = &set->entry[0];
	for (int i = 0; i < WAYS && smallest->key != 0; i++)
		if (set->entry[i].key == 0 || set->entry[i].value < smallest->value)
			smallest = &set->entry[i];
	return smallest;
}

static inline void find(struct agg_findings *findings, enum tp_fraud_reason reason, int64_t seen, uint32_t limit, uint16_t detail)
{
	findings->reasons |= TP_FRAUD_BIT(reason);
	findings->entry[reason] = (struct tp_evidence){.reason = (uint8_t)reason, .detail = detail, .limit = limit, .seen = seen};
}

/* Text as evidence: its first eight bytes. */
static inline void find_text(struct agg_findings *findings, enum tp_fraud_reason reason, const char *text, size_t bytes,
			     uint16_t detail)
{
	int64_t seen = 0;
	memcpy(&seen, text, bytes < sizeof(seen) ? bytes : sizeof(seen));
	find(findings, reason, seen, 0, detail);
	findings->entry[reason].is_text = 1;
}

/* ---- families; each is entered for impressions and clicks, unless it says otherwise ---- */

void fraud_address_judge(struct agg_fraud_shard *shard, struct subject *subject); /* clicks: velocity of the address */
void fraud_device_count(struct agg_fraud_shard *shard, struct subject *subject);  /* clicks: velocity of the device */
/* Impressions: noted, and clicks that wait are saved. */
void fraud_impression_note(struct agg_fraud_shard *shard, const struct agg_fraud_rules *rules, const struct tp_event *event,
			   const struct viewer *viewer);
void fraud_impression_judge(struct agg_fraud_shard *shard, struct subject *subject); /* clicks */
/* A tagged click, as it goes into the log: it waits for its impression. There is room, or it would not have been tagged. */
void fraud_pending_add(struct agg_fraud_shard *shard, const struct subject *subject);
void fraud_again(struct agg_fraud_shard *shard, const struct subject *subject);
void fraud_amended(struct agg_fraud_shard *shard, const struct subject *subject);
void fraud_again_end(struct agg_fraud_shard *shard);
const struct tp_event *fraud_record(void *self);
void fraud_recorded(void *self);
uint64_t fraud_waiting(const void *self);
void fraud_profile_prefetch(const struct agg_fraud_shard *shard, uint64_t key);
void fraud_profile_judge(struct agg_fraud_shard *shard, struct subject *subject);
void fraud_agent_judge(struct agg_fraud_shard *shard, struct subject *subject); /* clicks: bots, contradictions, no mouse */
void fraud_place_judge(struct agg_fraud_shard *shard, struct subject *subject);
void fraud_lists_judge(struct agg_fraud_shard *shard, struct subject *subject); /* clicks: blocklist, ranges, systems */
void fraud_publisher_see(struct agg_fraud_shard *shard, struct subject *subject);
void fraud_features(const struct agg_fraud_shard *shard, const struct subject *subject, float *feature);
void fraud_signal(struct agg_fraud_shard *shard, const struct agg_signal *signal);
const struct agg_place *fraud_place_of(struct agg_fraud_shard *shard, struct subject *subject);

/* How many bytes the waiting clicks' memory takes, and its layout. */
uint64_t fraud_waiting_bytes(uint32_t entries);
void fraud_waiting_init(struct waiting *waiting, void *memory, uint32_t entries);

#endif
