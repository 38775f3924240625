/*
 * What one device does: gaps between its clicks, how many addresses and user agents it shows in an hour, what its user agent says.
 * A device is its device_id, or without one its user_id. Its profile is three cache lines; impressions feed it, clicks are judged.
 *
 * regular_timing   k gaps between consecutive clicks whose deviation is below the limit: k·Σg² − (Σg)² < (k·limit)², without division.
 *                  A gap of an hour or more, or a click out of order, begins anew.
 * device_spread    distinct addresses, or user agents, in the clock hour. Short hashes: two that meet count as one.
 * device_mismatch  the user agent's family of devices against the one that was sent. Only what cannot be both: an iPad calls itself a
 *                  Macintosh, a phone asked for the desktop page calls itself Linux.
 * no_mouse         mouse_moves was sent, and is 0, on a device that has a pointer.
 */
#include "fraud_state.h"

enum { GAP_MS_MAX = 3600000 };

static struct profile *profile_of(struct agg_fraud_shard *shard, uint64_t key, uint64_t stamp_ms)
{
	struct profile *set = &shard->profiles[(key >> 32 & (shard->profile_sets - 1)) * PROFILE_WAYS], *oldest = set;
	for (int i = 0; i < PROFILE_WAYS; i++) {
		if (set[i].key == key)
			return &set[i];
		if (oldest->key && (!set[i].key || set[i].last_ms < oldest->last_ms))
			oldest = &set[i];
	}
	if (oldest->key && oldest->last_ms > stamp_ms)
		return NULL; /* the set holds newer ones only */
	*oldest = (struct profile){.key = key, .last_ms = stamp_ms};
	return oldest;
}

void fraud_profile_prefetch(const struct agg_fraud_shard *shard, uint64_t key)
{
	const struct profile *set = &shard->profiles[(key >> 32 & (shard->profile_sets - 1)) * PROFILE_WAYS];
	for (int i = 0; i < PROFILE_WAYS; i++) /* the keys; which profile it is is not known yet */
		__builtin_prefetch(&set[i], 1);
}

/* Adds to a small set of hashes; how many there are. */
static uint8_t spread_add(uint32_t *hash, uint8_t count, uint32_t count_max, uint32_t one)
{
	for (uint8_t i = 0; i < count; i++)
		if (hash[i] == one)
			return count;
	if (count == count_max)
		return count;
	hash[count] = one;
	return count + 1;
}

static void spread_see(struct agg_fraud_shard *shard, struct subject *subject, struct profile *profile)
{
	const struct tp_event *event = subject->event;
	if ((uint32_t)subject->hour < profile->hour)
		return; /* an hour that is gone */
	if ((uint32_t)subject->hour > profile->hour) {
		profile->hour = (uint32_t)subject->hour;
		profile->addresses = profile->agents = 0;
	}
	if (event->flags & TP_HAS_IP)
		profile->addresses = spread_add(profile->address, profile->addresses, AGG_ADDRESSES_MAX + 1,
						(uint32_t)hash_bytes(shard->seed, event->ip, sizeof(event->ip)));
	if (subject->agent.bytes)
		profile->agents = spread_add(profile->agent, profile->agents, AGG_AGENTS_MAX + 1,
					     (uint32_t)hash_bytes(shard->seed, subject->agent.at, subject->agent.bytes));
	const struct agg_fraud_rules *rules = subject->rules;
	if (!subject->click)
		return;
	if (rules->addresses_per_device_hour && profile->addresses > rules->addresses_per_device_hour)
		find(subject->findings, TP_FRAUD_DEVICE_SPREAD, profile->addresses, rules->addresses_per_device_hour, 0);
	else if (rules->agents_per_device_hour && profile->agents > rules->agents_per_device_hour)
		find(subject->findings, TP_FRAUD_DEVICE_SPREAD, profile->agents, rules->agents_per_device_hour, 1);
}

/* The last `count` gaps: their number times the sum of squares less the square of the sum, which is count² times the variance. */
static uint64_t gaps_spread(const struct profile *profile, uint32_t count)
{
	uint64_t sum = 0, squares = 0;
	for (uint32_t i = 1; i <= count; i++) {
		uint64_t gap = profile->gap_ms[(profile->gap_next - i) & (AGG_GAPS_MAX - 1)];
		sum += gap;
		squares += gap * gap; /* below 2^44: no overflow */
	}
	return count * squares - sum * sum;
}

static void timing_see(struct subject *subject, struct profile *profile)
{
	static_assert((AGG_GAPS_MAX & (AGG_GAPS_MAX - 1)) == 0, "a ring by mask");
	const struct agg_fraud_rules *rules = subject->rules;
	const uint64_t stamp_ms = subject->stamp_ms, before_ms = profile->click_ms;
	if (before_ms && stamp_ms < before_ms)
		return;
	profile->click_ms = stamp_ms;
	if (!before_ms)
		return;
	if (stamp_ms - before_ms >= GAP_MS_MAX) {
		profile->gaps = 0;
		return;
	}
	profile->gap_ms[profile->gap_next & (AGG_GAPS_MAX - 1)] = (uint32_t)(stamp_ms - before_ms);
	profile->gap_next = (uint8_t)((profile->gap_next + 1) & (AGG_GAPS_MAX - 1));
	if (profile->gaps < AGG_GAPS_MAX)
		profile->gaps++;
	const uint32_t count = rules->regular_timing_gaps;
	if (!rules->regular_timing_ms || profile->gaps < count)
		return;
	const uint64_t spread = gaps_spread(profile, count), limit = (uint64_t)rules->regular_timing_ms * count;
	if (spread < limit * limit)
		find(subject->findings, TP_FRAUD_REGULAR_TIMING, (int64_t)(sqrt((double)spread) / count), rules->regular_timing_ms,
		     (uint16_t)count);
}

void fraud_profile_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	const struct agg_fraud_rules *rules = subject->rules;
	uint64_t key = subject->viewer.device_hash ? subject->viewer.device_hash : subject->viewer.user_hash;
	struct profile *profile = key ? profile_of(shard, key, subject->stamp_ms) : NULL;
	subject->profile = profile;
	if (!profile)
		return;
	if (profile->last_ms < subject->stamp_ms)
		profile->last_ms = subject->stamp_ms;
	if ((rules->addresses_per_device_hour | rules->agents_per_device_hour || subject->features) && subject->viewer.device_hash)
		spread_see(shard, subject, profile);
	if (subject->click && (rules->regular_timing_ms || subject->features))
		timing_see(subject, profile);
}

/* ---- the user agent ---- */

static bool agent_says(struct tp_str agent, const char *word, size_t bytes)
{
	return memmem(agent.at, agent.bytes, word, bytes) != NULL;
}

/* Families of devices that no honest user agent confuses. */
static bool contradicts(enum tp_device_type sent, enum tp_device_type told, struct tp_str agent)
{
	const bool handheld = told == TP_MOBILE || told == TP_TABLET;
	switch (sent) {
	case TP_DESKTOP:
		return handheld || told == TP_TV || told == TP_BOT;
	case TP_MOBILE:
	case TP_TABLET:
		/* handhelds asked for a desktop page say Macintosh or Linux; none says Windows */
		return told == TP_TV || told == TP_BOT || (told == TP_DESKTOP && agent_says(agent, "Windows NT", 10));
	case TP_TV:
		return told == TP_MOBILE || told == TP_BOT || (told == TP_DESKTOP && agent_says(agent, "Windows NT", 10));
	default:
		return false;
	}
}

void fraud_agent_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	(void)shard;
	const struct agg_fraud_rules *rules = subject->rules;
	const struct tp_event *event = subject->event;
	if (rules->bot_user_agents && subject->agent.bytes) {
		subject->bot_word = agg_words_find(rules->bot_user_agents, subject->agent.at, subject->agent.bytes);
		if (subject->bot_word >= 0)
			find_text(subject->findings, TP_FRAUD_BOT_USER_AGENT, rules->bot_user_agents->name[subject->bot_word], 8,
				  (uint16_t)subject->bot_word);
	}
	if (rules->no_mouse && event->flags & TP_HAS_MOUSE && event->mouse_moves == 0 && event->device != TP_MOBILE &&
	    event->device != TP_TABLET && event->device != TP_TV)
		find(subject->findings, TP_FRAUD_NO_MOUSE, 0, 1, 0);
	if (rules->device_mismatch && event->flags & TP_DEVICE_SENT && subject->agent.bytes) {
		enum tp_device_type told = tp_device_from_user_agent(subject->agent.at, subject->agent.bytes);
		if (contradicts((enum tp_device_type)event->device, told, subject->agent))
			find_text(subject->findings, TP_FRAUD_DEVICE_MISMATCH, tp_device_name(told), strlen(tp_device_name(told)),
				  event->device);
	}
}

/* ---- what the model sees ---- */

void fraud_features(const struct agg_fraud_shard *shard, const struct subject *subject, float *feature)
{
	(void)shard;
	const struct tp_event *event = subject->event;
	const struct profile *profile = subject->profile;
	const float unknown = NAN;
	feature[AGG_F_IP_CLICKS] = event->flags & TP_HAS_IP ? (float)subject->ip_clicks : unknown;
	feature[AGG_F_DEVICE_CLICKS] = subject->viewer.device_hash ? (float)subject->device_clicks : unknown;
	feature[AGG_F_MS_SINCE_IMPRESSION] = subject->impression_ms ? (float)(subject->stamp_ms - subject->impression_ms) : unknown;
	feature[AGG_F_MOUSE_MOVES] = event->flags & TP_HAS_MOUSE ? (float)event->mouse_moves : unknown;
	feature[AGG_F_CLICK_POSITION] = event->flags & TP_HAS_POSITION ? (float)event->click_position : unknown;
	feature[AGG_F_BID] = event->flags & TP_HAS_BID ? (float)event->bid_micros * 1e-6f : unknown;
	feature[AGG_F_DEVICE_TYPE] = (float)event->device;
	feature[AGG_F_DEVICE_SENT] = event->flags & TP_DEVICE_SENT ? 1 : 0;
	feature[AGG_F_AGENT_BYTES] = (float)subject->agent.bytes;
	feature[AGG_F_BOT_AGENT] = subject->rules->bot_user_agents ? subject->bot_word >= 0 : unknown;
	feature[AGG_F_REFERER_BYTES] = (float)subject->referer.bytes;
	feature[AGG_F_HAS_USER] = subject->user.bytes != 0;
	feature[AGG_F_HAS_DEVICE] = subject->device.bytes != 0;
	feature[AGG_F_HOUR_OF_DAY] = (float)(subject->hour % 24);
	feature[AGG_F_TIMEZONE_OFFSET] = event->flags & TP_HAS_TIMEZONE ? (float)event->timezone_offset_min : unknown;
	feature[AGG_F_COUNTRY_DIFFERS] = subject->place && subject->place->has_country && event->country[0]
						 ? memcmp(subject->place->country, event->country, 2) != 0
						 : unknown;
	feature[AGG_F_ADDRESSES] = profile && subject->viewer.device_hash ? (float)profile->addresses : unknown;
	feature[AGG_F_AGENTS] = profile && subject->viewer.device_hash ? (float)profile->agents : unknown;
	bool gaps = profile && profile->gaps >= 2;
	feature[AGG_F_GAP_MS] = gaps ? (float)profile->gap_ms[(profile->gap_next - 1) & (AGG_GAPS_MAX - 1)] : unknown;
	feature[AGG_F_GAP_DEVIATION_MS] =
		gaps ? (float)(sqrt((double)gaps_spread(profile, profile->gaps)) / profile->gaps) : unknown;
	feature[AGG_F_DELAY_MS] = event->received_ms >= event->timestamp_ms ? (float)(event->received_ms - event->timestamp_ms) : 0;
}
