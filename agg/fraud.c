/*
 * The fraud machine: looks at an event once, lets each family of rules see it, and writes what they found into the record. Shard core.
 *
 *   impression  ─► noted for its clicks, may save some ─► profile, places, publisher
 *   click       ─► address, device, impression, lists, user agent, profile, places ─► model ─► tags, evidence, rule_version
 *   other       ─► nothing
 *
 * Invariants
 *  1. What does not come from the event, the tables and the rules does not matter: no clock, no order among shards except through the
 *     shared counts of addresses.
 *  2. Forgetting never tags: see fraud_state.h for each table.
 *  3. After a restart nothing is judged anew: events seen again only build the tables; their tags stand in the log.
 */
#include "fraud_state.h"

uint64_t agg_fraud_ip_bytes(uint32_t entries)
{
	return sizeof(struct agg_fraud_ip) + (uint64_t)(entries > WAYS ? entries / WAYS : 1) * sizeof(struct set);
}

static uint32_t sets_of(uint32_t entries)
{
	assert((entries & (entries - 1)) == 0); /* a power of two: the header's promise to us */
	return entries > WAYS ? entries / WAYS : 1;
}

/* As many bytes as entries of 16 would take. */
static uint32_t impression_sets_of(uint32_t entries)
{
	return entries > 4 ? entries / 4 : 1;
}

static uint32_t profile_sets_of(uint32_t entries)
{
	return entries > 4 * PROFILE_WAYS ? entries / 4 / PROFILE_WAYS : 1;
}

/* One array behind the other. By pairs of cache lines, which is what a set is, and what processors like to fetch. */
enum { LAY_BYTES = 128 };
static uint64_t lay(uint64_t *at, uint64_t bytes)
{
	uint64_t here = *at;
	*at += (bytes + LAY_BYTES - 1) & ~(uint64_t)(LAY_BYTES - 1);
	return here;
}

struct layout {
	uint64_t devices, impressions, profiles, publishers, places, waiting, signals, bytes;
};

static struct layout layout_of(uint32_t entries)
{
	struct layout layout;
	uint64_t at = 0, sets = sets_of(entries);
	lay(&at, sizeof(struct agg_fraud_shard));
	layout.devices = lay(&at, sets * sizeof(struct set));
	layout.impressions = lay(&at, impression_sets_of(entries) * sizeof(struct impression_set));
	layout.profiles = lay(&at, (uint64_t)profile_sets_of(entries) * PROFILE_WAYS * sizeof(struct profile));
	layout.publishers = lay(&at, PUBLISHERS * sizeof(struct publisher));
	layout.places = lay(&at, PLACES * sizeof(struct place_entry));
	layout.waiting = lay(&at, fraud_waiting_bytes(entries));
	layout.signals = lay(&at, SIGNALS * sizeof(struct agg_signal));
	layout.bytes = at;
	return layout;
}

uint64_t agg_fraud_shard_bytes(uint32_t entries)
{
	return layout_of(entries).bytes;
}

uint32_t agg_fraud_entries_for(uint64_t bytes)
{
	uint32_t entries = 64;
	while (entries < 1u << 30 && agg_fraud_shard_bytes(2 * entries) <= bytes)
		entries *= 2;
	return entries;
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

struct agg_fraud_shard *agg_fraud_shard_init(void *memory, uint32_t entries, struct agg_fraud_ip *shared,
					     struct tp_counters *counters)
{
	const struct layout layout = layout_of(entries);
	struct agg_fraud_shard *shard = memory;
	uint8_t *base = memory;
	shard->seed = secret_seed();
	shard->shared = shared;
	shard->counters = counters ? counters : &shard->none;
	shard->sets = sets_of(entries);
	shard->impression_sets = impression_sets_of(entries);
	shard->profile_sets = profile_sets_of(entries);
	shard->devices = (struct set *)(void *)(base + layout.devices);
	shard->impressions = (struct impression_set *)(void *)(base + layout.impressions);
	shard->profiles = (struct profile *)(void *)(base + layout.profiles);
	shard->publishers = (struct publisher *)(void *)(base + layout.publishers);
	shard->places = (struct place_entry *)(void *)(base + layout.places);
	shard->signals = (struct agg_signal *)(void *)(base + layout.signals);
	fraud_waiting_init(&shard->waiting, base + layout.waiting, entries);
	return shard;
}

void agg_fraud_rules_set(struct agg_fraud_shard *shard, const struct agg_fraud_rules *rules)
{
	/* release: the shard core sees what the rules point to */
	atomic_store_explicit(&shard->rules, rules, memory_order_release);
}

const struct agg_fraud_rules *agg_fraud_rules_get(const struct agg_fraud_shard *shard)
{
	return atomic_load_explicit(&shard->rules, memory_order_acquire);
}

/* ---- signals ---- */

void fraud_signal(struct agg_fraud_shard *shard, const struct agg_signal *signal)
{
	if (shard->quiet)
		return;
	uint64_t given = atomic_load_explicit(&shard->signals_given, memory_order_relaxed);
	/* acquire: the taker has copied what it freed */
	if (given - atomic_load_explicit(&shard->signals_taken, memory_order_acquire) == SIGNALS) {
		TP_COUNT(shard->counters, FRAUD_SIGNALS_LOST);
		return;
	}
	shard->signals[given % SIGNALS] = *signal;
	/* release: the taker sees the whole signal */
	atomic_store_explicit(&shard->signals_given, given + 1, memory_order_release);
}

bool agg_fraud_signal_take(struct agg_fraud_shard *shard, struct agg_signal *signal)
{
	uint64_t taken = atomic_load_explicit(&shard->signals_taken, memory_order_relaxed);
	if (taken == atomic_load_explicit(&shard->signals_given, memory_order_acquire))
		return false;
	*signal = shard->signals[taken % SIGNALS];
	atomic_store_explicit(&shard->signals_taken, taken + 1, memory_order_release);
	return true;
}

/* ---- the event ---- */

static inline bool profile_asked(const struct subject *subject)
{
	const struct agg_fraud_rules *rules = subject->rules;
	return rules->regular_timing_ms | rules->addresses_per_device_hour | rules->agents_per_device_hour | rules->travel_kmh ||
	       subject->features;
}

static inline bool impressions_asked(const struct subject *subject)
{
	return subject->rules->min_ms_since_impression || subject->rules->no_impression || subject->features;
}

/* Does any rule look this event's viewer up? */
static inline bool viewer_asked(const struct subject *subject)
{
	return impressions_asked(subject) || profile_asked(subject) || (subject->click && subject->rules->clicks_per_device_hour);
}

/* Does any rule want more of an impression than that it was? */
static inline bool impression_is_all(const struct agg_fraud_rules *rules)
{
	return !(rules->regular_timing_ms | rules->addresses_per_device_hour | rules->agents_per_device_hour | rules->travel_kmh |
		 rules->ctr_deviations) &&
	       !rules->model;
}

/* The strings that rules look at, found in one pass. `rules`, and whether somebody wants features, are known already. */
static inline void subject_fill(struct subject *subject)
{
	static_assert(TP_AD_ID == 1 && TP_PUBLISHER_ID + 1 == TP_USER_ID && TP_USER_ID + 1 == TP_DEVICE_ID &&
			      TP_DEVICE_ID < TP_USER_AGENT && TP_USER_AGENT + 1 == TP_REFERER,
		      "found in this order");
	const struct tp_event *event = subject->event;
	const uint16_t *bytes = event->string_bytes;
	const char *at = (const char *)(event + 1) + bytes[TP_EVENT_ID];
	subject->ad = (struct tp_str){at, bytes[TP_AD_ID]};
	at += (uint32_t)bytes[TP_AD_ID] + bytes[TP_CAMPAIGN_ID] + bytes[TP_ADVERTISER_ID];
	subject->publisher = (struct tp_str){at, bytes[TP_PUBLISHER_ID]};
	at += bytes[TP_PUBLISHER_ID];
	subject->user = (struct tp_str){at, bytes[TP_USER_ID]};
	at += bytes[TP_USER_ID];
	subject->device = (struct tp_str){at, bytes[TP_DEVICE_ID]};
	at += (uint32_t)bytes[TP_DEVICE_ID] + bytes[TP_REGION] + bytes[TP_CITY];
	subject->agent = (struct tp_str){at, bytes[TP_USER_AGENT]};
	subject->referer = (struct tp_str){at + bytes[TP_USER_AGENT], bytes[TP_REFERER]};

	subject->click = event->type == TP_CLICK;
	subject->features |= subject->rules->model != NULL;
	subject->stamp_ms = event->timestamp_ms;
	subject->hour = event->timestamp_ms / HOUR_MS;
	subject->bot_word = -1;
}

#define USERS 0xe7037ed1a0b428dbULL

/* For events whose viewer a rule looks up, and no others. */
static inline __attribute__((always_inline)) struct viewer viewer_hash(const struct agg_fraud_shard *shard,
								       const struct tp_event *event)
{
	const uint16_t *bytes = event->string_bytes;
	const uint32_t user_bytes = bytes[TP_USER_ID], device_bytes = bytes[TP_DEVICE_ID];
	const char *ad = (const char *)(event + 1) + bytes[TP_EVENT_ID];
	const char *user = ad + bytes[TP_AD_ID] + bytes[TP_CAMPAIGN_ID] + bytes[TP_ADVERTISER_ID] + bytes[TP_PUBLISHER_ID];
	struct viewer viewer = {0};
	if (!(user_bytes | device_bytes))
		return viewer;
	const uint64_t ad_hash = hash_bytes(shard->seed, ad, bytes[TP_AD_ID]);
	if (user_bytes) {
		/* a user and a device of the same name are not the same */
		viewer.user_hash = hash_bytes(shard->seed, user, user_bytes) ^ USERS;
		viewer.user_key = hash_mix(viewer.user_hash, ad_hash);
	}
	if (device_bytes) {
		viewer.device_hash = hash_bytes(shard->seed, user + user_bytes, device_bytes);
		viewer.device_key = hash_mix(viewer.device_hash, ad_hash);
	}
	return viewer;
}

/* The same for an event that will be shown, kept until then. */
static inline const struct viewer *viewer_carry(struct agg_fraud_shard *shard, const struct tp_event *event)
{
	struct carried *carried = &shard->carried[shard->carried_in++ % CARRIED];
	if (shard->carried_in - shard->carried_out > CARRIED)
		shard->carried_out = shard->carried_in - CARRIED;
	carried->fingerprint = event->fingerprint;
	carried->viewer = viewer_hash(shard, event);
	return &carried->viewer;
}

/* Who was carried, or, in `room`, who it is. */
static inline const struct viewer *viewer_of(struct agg_fraud_shard *shard, const struct tp_event *event, struct viewer *room)
{
	for (uint32_t n = shard->carried_out; n != shard->carried_in; n++) {
		const struct carried *carried = &shard->carried[n % CARRIED];
		if (__builtin_expect(carried->fingerprint == event->fingerprint, 1)) {
			shard->carried_out = n + 1;
			return &carried->viewer;
		}
	}
	*room = viewer_hash(shard, event);
	return room;
}

static void impression_see(struct agg_fraud_shard *shard, struct subject *subject)
{
	if (impressions_asked(subject))
		fraud_impression_note(shard, subject->rules, subject->event, &subject->viewer);
	else if (shard->unseen_ms < subject->stamp_ms)
		shard->unseen_ms = subject->stamp_ms;
	if (__builtin_expect(profile_asked(subject), 0))
		fraud_profile_judge(shard, subject);
	if (__builtin_expect(subject->rules->travel_kmh, 0))
		fraud_place_judge(shard, subject);
	if (__builtin_expect(subject->rules->ctr_deviations, 0))
		fraud_publisher_see(shard, subject);
}

static void click_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	const struct agg_fraud_rules *rules = subject->rules;
	fraud_address_judge(shard, subject);
	fraud_device_count(shard, subject);
	fraud_impression_judge(shard, subject);
	fraud_lists_judge(shard, subject);
	fraud_agent_judge(shard, subject);
	if (__builtin_expect(profile_asked(subject), 0))
		fraud_profile_judge(shard, subject);
	if (__builtin_expect(rules->geo_mismatch || rules->travel_kmh || subject->features, 0))
		fraud_place_judge(shard, subject);
	if (__builtin_expect(rules->ctr_deviations, 0))
		fraud_publisher_see(shard, subject);
}

static uint32_t millionths(float score)
{
	return (uint32_t)(score * 1e6f + 0.5f);
}

uint32_t agg_fraud_judge(struct agg_fraud_shard *shard, const struct tp_event *event, struct agg_findings *findings, float *feature)
{
	struct subject subject = {.event = event, .findings = findings, .rules = agg_fraud_rules_get(shard)};
	findings->reasons = 0;
	if ((event->type != TP_CLICK && event->type != TP_IMPRESSION) || !subject.rules)
		return 0;
	subject.features = feature != NULL;
	subject_fill(&subject);
	if (viewer_asked(&subject))
		subject.viewer = *viewer_of(shard, event, &subject.viewer);
	if (!subject.click) {
		impression_see(shard, &subject);
		return 0;
	}
	click_judge(shard, &subject);
	if (__builtin_expect(subject.features, 0)) {
		float own[AGG_FEATURES];
		float *seen = feature ? feature : own;
		fraud_features(shard, &subject, seen);
		if (subject.rules->model) {
			uint32_t score = millionths(agg_model_score(subject.rules->model, seen));
			if (score > subject.rules->model_threshold)
				find(findings, TP_FRAUD_MODEL, score, subject.rules->model_threshold, 0);
		}
	}
	return findings->reasons;
}

/* ---- the machine ---- */

/* Tags and evidence into the record, the evidence in the order of the reasons. */
static void findings_write(struct tp_event *event, const struct agg_findings *findings)
{
	struct tp_evidence evidence[TP_FRAUD_REASONS];
	uint32_t count = 0;
	for (uint32_t left = findings->reasons; left; left &= left - 1)
		evidence[count++] = findings->entry[__builtin_ctz(left)];
	event->fraud = findings->reasons;
	tp_event_evidence_add(event, evidence, count);
}

static_assert(TP_C_FRAUD_MODEL - TP_C_FRAUD_IP_VELOCITY == TP_FRAUD_MODEL - TP_FRAUD_IP_VELOCITY,
	      "a counter for each reason, in their order");

static void reasons_count(struct agg_fraud_shard *shard, uint32_t reasons)
{
	TP_COUNT(shard->counters, SHARD_FLAGGED);
	for (uint32_t left = reasons; left; left &= left - 1)
		shard->counters->v[TP_C_FRAUD_IP_VELOCITY + __builtin_ctz(left)]++;
}

static inline void set_prefetch(const struct set *set)
{
	__builtin_prefetch(set, 1);
	__builtin_prefetch((const uint8_t *)set + 64, 1);
}

static void prefetch(void *self, const struct tp_event *event)
{
	struct agg_fraud_shard *shard = self;
	const struct agg_fraud_rules *rules = agg_fraud_rules_get(shard);
	if ((event->type != TP_CLICK && event->type != TP_IMPRESSION) || !rules)
		return;
	const struct subject subject = {.rules = rules, .features = rules->model != NULL};
	const bool click = event->type == TP_CLICK, impressions = impressions_asked(&subject), profile = profile_asked(&subject);
	const uint64_t hour = event->timestamp_ms / HOUR_MS;
	if (click && event->flags & TP_HAS_IP && (rules->clicks_per_ip_hour || subject.features)) {
		uint64_t key = hash_mix(hash_bytes(shard->shared->seed, event->ip, sizeof(event->ip)), hour);
		set_prefetch(set_of(shard->shared->set, shard->shared->sets, key));
	}
	if (!impressions && !profile && !(click && rules->clicks_per_device_hour))
		return;
	const struct viewer *viewer = viewer_carry(shard, event);
	if (impressions) {
		/* of a key that there is not: the first set, which does no harm */
		__builtin_prefetch(impression_set_of(shard, viewer->user_key), 1);
		__builtin_prefetch(impression_set_of(shard, viewer->device_key), 1);
	}
	if (click && viewer->device_hash && (rules->clicks_per_device_hour || subject.features))
		set_prefetch(set_of(shard->devices, shard->sets, hash_mix(viewer->device_hash, hour)));
	if (__builtin_expect(profile, 0) && (viewer->device_hash | viewer->user_hash))
		fraud_profile_prefetch(shard, viewer->device_hash ? viewer->device_hash : viewer->user_hash);
}

/* Most events are impressions that nobody asks more of. */
static inline void impression_show(struct agg_fraud_shard *shard, const struct agg_fraud_rules *rules, const struct tp_event *event)
{
	if (rules->min_ms_since_impression || rules->no_impression) {
		struct viewer room;
		fraud_impression_note(shard, rules, event, viewer_of(shard, event, &room));
	} else if (shard->unseen_ms < event->timestamp_ms) {
		shard->unseen_ms = event->timestamp_ms;
	}
}

static bool show(void *self, struct tp_event *event)
{
	struct agg_fraud_shard *shard = self;
	const struct agg_fraud_rules *rules = agg_fraud_rules_get(shard);
	if (event->type == TP_IMPRESSION && rules && impression_is_all(rules)) {
		impression_show(shard, rules, event);
		return shard->waiting.saved != 0;
	}
	struct agg_findings findings;
	uint32_t reasons = agg_fraud_judge(shard, event, &findings, NULL);
	if (event->type == TP_CLICK && rules) {
		event->rule_version = rules->version;
		if (__builtin_expect(reasons != 0, 0)) {
			findings_write(event, &findings);
			reasons_count(shard, reasons);
			if (reasons & TP_FRAUD_BIT(TP_FRAUD_NO_IMPRESSION)) {
				struct subject subject = {.event = event, .rules = rules};
				subject_fill(&subject);
				subject.viewer = viewer_hash(shard, event);
				fraud_pending_add(shard, &subject);
			}
		}
	}
	return shard->waiting.saved != 0;
}

static void again(void *self, const struct tp_event *event)
{
	struct agg_fraud_shard *shard = self;
	struct agg_findings findings = {0};
	struct subject subject = {.event = event, .findings = &findings, .rules = agg_fraud_rules_get(shard)};
	if ((event->type != TP_CLICK && event->type != TP_IMPRESSION) || !subject.rules)
		return;
	subject_fill(&subject);
	subject.viewer = *viewer_of(shard, event, &subject.viewer);
	if (event->verdict == TP_AMENDED) {
		fraud_amended(shard, &subject);
		return;
	}
	if (!tp_verdict_counts(event->verdict))
		return;
	shard->quiet = true;
	if (subject.click)
		click_judge(shard, &subject);
	else
		impression_see(shard, &subject);
	shard->quiet = false;
	fraud_again(shard, &subject);
}

static void again_end(void *self)
{
	fraud_again_end(self);
}

struct agg_machine agg_fraud_machine(struct agg_fraud_shard *shard)
{
	static const struct agg_machine_ops ops = {
		.name = "fraud",
		.prefetch = prefetch,
		.show = show,
		.again = again,
		.again_end = again_end,
		.record = fraud_record,
		.recorded = fraud_recorded,
		.waiting = fraud_waiting,
	};
	return (struct agg_machine){.ops = &ops, .self = shard};
}
