/*
 * A click and its impression: too soon after it, or none at all. Impressions are noted under the user and under the device, each with
 * the ad: a click may name only one of them. The table keeps the latest stamp.
 *
 *   no_impression    click ── none found, and none forgotten ──► tagged, logged, waits
 *                      │                                            │ impression within wait_ms of receipt
 *                      ▼                                            ▼
 *                    valid                                       saved ──► TP_AMENDED in the log, without the tag ──► done
 *
 * Absence is evidence only where the table cannot have forgotten: each set remembers the newest stamp that it had to give up, and a
 * click whose look-back reaches that far is not tagged. Nor is one for which no slot is free to wait in. So a full table tags fewer.
 *
 * Waiting clicks lie in a ring in the order of the log, their records in a ring of bytes beside it; two chains of buckets find them by
 * user and by device. All of it is bounded; the time that counts is the one of receipt, which stands in the record.
 *
 * After a restart the last clicks and impressions are seen again, in any order: a click that was tagged waits again, unless its
 * amendment is seen too; at the end those whose impression is in the table are saved. An amendment that a crash cut off is so made up.
 */
#include "fraud_state.h"

#include <emmintrin.h>

enum { RECORD_BYTES_USUAL = 512 };

static uint32_t waiting_slots(uint32_t entries)
{
	uint32_t slots = entries / 16;
	return slots < 64 ? 64 : slots > 1 << 20 ? 1 << 20 : slots;
}

static uint64_t arena_bytes(uint32_t entries)
{
	uint64_t bytes = (uint64_t)waiting_slots(entries) * RECORD_BYTES_USUAL;
	return bytes < 4 * TP_EVENT_BYTES_MAX ? 4 * (uint64_t)TP_EVENT_BYTES_MAX : bytes;
}

uint64_t fraud_waiting_bytes(uint32_t entries)
{
	uint64_t slots = waiting_slots(entries);
	return slots * sizeof(struct pending) + 2 * slots * sizeof(uint64_t) + arena_bytes(entries);
}

void fraud_waiting_init(struct waiting *waiting, void *memory, uint32_t entries)
{
	static_assert(sizeof(struct pending) % 8 == 0, "arrays behind it stay aligned");
	waiting->slots = waiting_slots(entries);
	waiting->slot = memory;
	waiting->user_bucket = (uint64_t *)(void *)(waiting->slot + waiting->slots);
	waiting->device_bucket = waiting->user_bucket + waiting->slots;
	waiting->arena = (uint8_t *)(waiting->device_bucket + waiting->slots);
	waiting->arena_bytes = arena_bytes(entries) & ~UINT64_C(7);
}

/* ---- the ring of clicks that wait ---- */

static inline struct pending *slot_at(const struct waiting *waiting, uint64_t number)
{
	return &waiting->slot[number & (waiting->slots - 1)];
}

static inline uint64_t *bucket_of(const struct waiting *waiting, uint64_t *buckets, uint64_t key)
{
	return &buckets[key >> 20 & (waiting->slots - 1)];
}

static inline struct tp_event *record_of(const struct waiting *waiting, const struct pending *pending)
{
	/* positions only grow; a record never wraps, so its place is its position in the ring of bytes */
	return (struct tp_event *)(void *)(waiting->arena + pending->at % waiting->arena_bytes);
}

/*
 * Frees slots at the old end: done, or nobody can save them any more. One that is done without a record stands for a click that a
 * restart has yet to show, and stays its time.
 */
static void ring_expire(struct waiting *waiting, uint64_t wait_ms)
{
	while (waiting->first != waiting->next) {
		const struct pending *pending = slot_at(waiting, waiting->first);
		const bool done = pending->state == PENDING_DONE && pending->at != pending->end;
		if (pending->state == PENDING_SAVED || (!done && pending->received_ms + wait_ms >= waiting->newest_ms))
			return;
		waiting->arena_first = pending->end;
		waiting->first++;
	}
}

/* Where a record of `bytes` would lie in the arena, or UINT64_MAX. */
static uint64_t arena_place(const struct waiting *waiting, uint32_t bytes)
{
	uint64_t at = waiting->arena_next, left = waiting->arena_bytes - at % waiting->arena_bytes;
	if (left < bytes)
		at += left;
	return at + bytes - waiting->arena_first <= waiting->arena_bytes ? at : UINT64_MAX;
}

static bool ring_has_room(struct waiting *waiting, uint64_t wait_ms, uint32_t bytes)
{
	ring_expire(waiting, wait_ms);
	return waiting->next - waiting->first < waiting->slots && arena_place(waiting, bytes) != UINT64_MAX;
}

static void ring_add(struct waiting *waiting, const struct subject *subject, enum pending_state state)
{
	const struct tp_event *event = subject->event;
	const uint64_t number = waiting->next++;
	struct pending *pending = slot_at(waiting, number);
	*pending = (struct pending){.user_key = subject->viewer.user_key,
				    .device_key = subject->viewer.device_key,
				    .received_ms = event->received_ms,
				    .stamp_ms = event->timestamp_ms,
				    .id = event->id,
				    .at = waiting->arena_next,
				    .end = waiting->arena_next,
				    .state = state};
	if (state == PENDING_WAITS) {
		pending->at = arena_place(waiting, event->bytes);
		pending->end = waiting->arena_next = pending->at + event->bytes;
		memcpy(record_of(waiting, pending), event, event->bytes);
	}
	if (pending->user_key) {
		uint64_t *bucket = bucket_of(waiting, waiting->user_bucket, pending->user_key);
		pending->next_user = *bucket;
		*bucket = number + 1;
	}
	if (pending->device_key) {
		uint64_t *bucket = bucket_of(waiting, waiting->device_bucket, pending->device_key);
		pending->next_device = *bucket;
		*bucket = number + 1;
	}
}

static void save(struct waiting *waiting, uint64_t number)
{
	struct pending *pending = slot_at(waiting, number);
	pending->state = PENDING_SAVED;
	if (waiting->out_last)
		slot_at(waiting, waiting->out_last - 1)->next_out = number + 1;
	else
		waiting->out_first = number + 1;
	waiting->out_last = number + 1;
	waiting->saved++;
}

/* ---- the outbox: amendments on their way into the log ---- */

/* Takes reason and evidence out of a record. */
static void tag_remove(struct tp_event *event, enum tp_fraud_reason reason)
{
	struct tp_evidence kept[TP_FRAUD_REASONS];
	const struct tp_evidence *evidence = tp_event_evidence(event);
	uint32_t count = 0;
	for (uint32_t i = 0; i < event->evidence_count; i++)
		if (evidence[i].reason != reason)
			kept[count++] = evidence[i];
	event->bytes -= event->evidence_count * (uint32_t)sizeof(struct tp_evidence);
	event->evidence_count = 0;
	event->fraud &= ~TP_FRAUD_BIT(reason);
	tp_event_evidence_add(event, kept, count);
}

static void outbox_drop(struct waiting *waiting)
{
	struct pending *pending = slot_at(waiting, waiting->out_first - 1);
	waiting->out_first = pending->next_out;
	if (!waiting->out_first)
		waiting->out_last = 0;
}

const struct tp_event *fraud_record(void *self)
{
	struct agg_fraud_shard *shard = self;
	struct waiting *waiting = &shard->waiting;
	while (waiting->out_first && slot_at(waiting, waiting->out_first - 1)->state != PENDING_SAVED)
		outbox_drop(waiting); /* its amendment turned out to be in the log */
	if (!waiting->out_first)
		return NULL;
	struct tp_event *event = record_of(waiting, slot_at(waiting, waiting->out_first - 1));
	if (event->verdict != TP_AMENDED) {
		event->verdict = TP_AMENDED;
		tag_remove(event, TP_FRAUD_NO_IMPRESSION);
	}
	return event;
}

void fraud_recorded(void *self)
{
	struct agg_fraud_shard *shard = self;
	struct waiting *waiting = &shard->waiting;
	slot_at(waiting, waiting->out_first - 1)->state = PENDING_DONE;
	outbox_drop(waiting);
	waiting->saved--;
	TP_COUNT(shard->counters, FRAUD_AMENDED);
}

uint64_t fraud_waiting(const void *self)
{
	const struct agg_fraud_shard *shard = self;
	return shard->waiting.saved;
}

/* ---- impressions ---- */

static inline uint64_t entry_tag(const struct impression_set *set, int way)
{
	return (uint64_t)set->tag_high[way] << 32 | set->tag_low[way];
}

static inline uint64_t entry_stamp(const struct impression_set *set, int way)
{
	return (uint64_t)set->stamp_high[way] << 32 | set->stamp_low[way];
}

static inline uint64_t tag_of(uint64_t key)
{
	uint64_t tag = key >> 16;
	return tag ? tag : 1; /* zero marks an empty entry */
}

/* Which entries have this tag, a bit each. All are compared at once: in which one it is, or whether in any, cannot be foretold. */
static inline uint32_t entries_find(const struct impression_set *set, uint64_t tag)
{
	static_assert(IMPRESSION_WAYS == 5 && offsetof(struct impression_set, tag_high) + 16 <= sizeof(*set),
		      "four and one; eight that are there");
	const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)set->tag_low);
	const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)set->tag_high);
	const __m128i low_same = _mm_cmpeq_epi32(low, _mm_set1_epi32((int32_t)tag));
	const __m128i high_same = _mm_cmpeq_epi16(high, _mm_set1_epi16((int16_t)(tag >> 32)));
	return ((uint32_t)_mm_movemask_ps(_mm_castsi128_ps(low_same)) | (uint32_t)(set->tag_low[4] == (uint32_t)tag) << 4) &
	       (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(high_same, _mm_setzero_si128()));
}

/* The entry of `tag`; -1: there is none. */
static inline int entry_find(const struct impression_set *set, uint64_t tag)
{
	const uint32_t found = entries_find(set, tag);
	return found ? __builtin_ctz(found) : -1;
}

/* The one to give away: an empty one, or that with the oldest stamp. */
static inline int entry_oldest(const struct impression_set *set)
{
	const uint32_t empty = entries_find(set, 0);
	if (empty)
		return __builtin_ctz(empty);
	int oldest = 0;
	for (int way = 1; way < IMPRESSION_WAYS; way++)
		oldest = entry_stamp(set, way) < entry_stamp(set, oldest) ? way : oldest;
	return oldest;
}

/* A stamp that the table does not keep any more. */
static inline void forget(struct impression_set *set, uint64_t stamp_ms)
{
	uint64_t seconds = stamp_ms / 1000 + 1;
	uint32_t forgot_s = seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
	if (set->forgot_s < forgot_s)
		set->forgot_s = forgot_s;
}

static void impression_put(struct agg_fraud_shard *shard, uint64_t key, uint64_t stamp_ms)
{
	struct impression_set *set = impression_set_of(shard, key);
	const uint64_t tag = tag_of(key);
	int way = entry_find(set, tag);
	if (way < 0) {
		way = entry_oldest(set);
		if (entry_tag(set, way)) {
			if (entry_stamp(set, way) > stamp_ms) {
				forget(set, stamp_ms);
				return;
			}
			forget(set, entry_stamp(set, way));
		}
		set->tag_low[way] = (uint32_t)tag;
		set->tag_high[way] = (uint16_t)(tag >> 32);
	} else if (entry_stamp(set, way) >= stamp_ms) {
		return;
	}
	set->stamp_low[way] = (uint32_t)stamp_ms;
	set->stamp_high[way] = (uint16_t)(stamp_ms >> 32);
}

/* The clicks of this viewer and ad that wait, and that this impression came in time for. */
static void waiting_save(struct waiting *waiting, const struct agg_fraud_rules *rules, const struct tp_event *event, uint64_t key,
			 bool user)
{
	const uint64_t received_ms = event->received_ms, stamp_ms = event->timestamp_ms;
	uint64_t link = *bucket_of(waiting, user ? waiting->user_bucket : waiting->device_bucket, key);
	while (link > waiting->first) {
		struct pending *pending = slot_at(waiting, link - 1);
		if (pending->state == PENDING_WAITS && (user ? pending->user_key : pending->device_key) == key &&
		    received_ms >= pending->received_ms && received_ms - pending->received_ms <= rules->impression_wait_ms &&
		    stamp_ms <= pending->stamp_ms + rules->impression_wait_ms &&
		    stamp_ms + rules->impression_lookback_ms >= pending->stamp_ms)
			save(waiting, link - 1);
		link = user ? pending->next_user : pending->next_device;
	}
}

void fraud_impression_note(struct agg_fraud_shard *shard, const struct agg_fraud_rules *rules, const struct tp_event *event,
			   const struct viewer *viewer)
{
	if (viewer->user_key)
		impression_put(shard, viewer->user_key, event->timestamp_ms);
	if (viewer->device_key)
		impression_put(shard, viewer->device_key, event->timestamp_ms);
	struct waiting *waiting = &shard->waiting;
	if (__builtin_expect(waiting->first == waiting->next, 1))
		return;
	if (waiting->newest_ms < event->received_ms)
		waiting->newest_ms = event->received_ms;
	if (viewer->user_key)
		waiting_save(waiting, rules, event, viewer->user_key, true);
	if (viewer->device_key)
		waiting_save(waiting, rules, event, viewer->device_key, false);
}

/* ---- clicks ---- */

/* What the table has of one key. */
struct seen {
	uint64_t stamp_ms; /* 0: nothing */
	uint64_t forgot_ms;
};

static struct seen impression_look(const struct agg_fraud_shard *shard, uint64_t key)
{
	if (!key)
		return (struct seen){0};
	const struct impression_set *set = impression_set_of(shard, key);
	const int way = entry_find(set, tag_of(key));
	return (struct seen){.stamp_ms = way < 0 ? 0 : entry_stamp(set, way), .forgot_ms = set->forgot_s * UINT64_C(1000)};
}

/* Surely no impression of this viewer and ad from `lookback` before the click to `wait` after it. */
static bool surely_none(const struct agg_fraud_shard *shard, const struct subject *subject, struct seen user, struct seen device)
{
	const uint64_t lookback_ms = subject->rules->impression_lookback_ms, stamp_ms = subject->stamp_ms;
	uint64_t known_ms = user.forgot_ms > device.forgot_ms ? user.forgot_ms : device.forgot_ms;
	if (known_ms < shard->unseen_ms)
		known_ms = shard->unseen_ms;
	if (known_ms && known_ms + lookback_ms >= stamp_ms)
		return false;
	/* the latest stamp alone is kept: one after the click says nothing of those before */
	return user.stamp_ms + lookback_ms < stamp_ms && device.stamp_ms + lookback_ms < stamp_ms;
}

static bool in_time(const struct subject *subject, uint64_t impression_ms)
{
	return impression_ms && impression_ms <= subject->stamp_ms + subject->rules->impression_wait_ms &&
	       impression_ms + subject->rules->impression_lookback_ms >= subject->stamp_ms;
}

void fraud_impression_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	const struct agg_fraud_rules *rules = subject->rules;
	const uint32_t min_ms = rules->min_ms_since_impression;
	if (!(subject->viewer.user_key | subject->viewer.device_key) || (!min_ms && !rules->no_impression && !subject->features))
		return;
	const struct seen user = impression_look(shard, subject->viewer.user_key),
			  device = impression_look(shard, subject->viewer.device_key);
	const uint64_t stamp_ms = subject->stamp_ms;
	uint64_t latest = user.stamp_ms <= stamp_ms ? user.stamp_ms : 0;
	if (device.stamp_ms <= stamp_ms && device.stamp_ms > latest)
		latest = device.stamp_ms;
	subject->impression_ms = latest;
	if (min_ms && latest && stamp_ms - latest < min_ms)
		find(subject->findings, TP_FRAUD_TOO_SOON, (int64_t)(stamp_ms - latest), min_ms, 0);
	if (!rules->no_impression || !surely_none(shard, subject, user, device))
		return;
	struct waiting *waiting = &shard->waiting;
	if (waiting->newest_ms < subject->event->received_ms)
		waiting->newest_ms = subject->event->received_ms;
	if (ring_has_room(waiting, rules->impression_wait_ms, subject->event->bytes + TP_EVIDENCE_BYTES_MAX))
		find(subject->findings, TP_FRAUD_NO_IMPRESSION, 0, rules->impression_lookback_ms, 0);
	else
		TP_COUNT(shard->counters, FRAUD_WAITING_FULL);
}

void fraud_pending_add(struct agg_fraud_shard *shard, const struct subject *subject)
{
	ring_add(&shard->waiting, subject, PENDING_WAITS);
}

/* ---- after a restart ---- */

static struct pending *pending_find(const struct waiting *waiting, const struct subject *subject)
{
	bool user = subject->viewer.user_key != 0;
	uint64_t key = user ? subject->viewer.user_key : subject->viewer.device_key;
	uint64_t link = key ? *bucket_of(waiting, user ? waiting->user_bucket : waiting->device_bucket, key) : 0;
	while (link > waiting->first) {
		struct pending *pending = slot_at(waiting, link - 1);
		if (pending->id.hi == subject->event->id.hi && pending->id.lo == subject->event->id.lo)
			return pending;
		link = user ? pending->next_user : pending->next_device;
	}
	return NULL;
}

void fraud_again(struct agg_fraud_shard *shard, const struct subject *subject)
{
	struct waiting *waiting = &shard->waiting;
	const struct tp_event *event = subject->event;
	const uint64_t wait_ms = subject->rules->impression_wait_ms;
	if (shard->newest_ms < subject->stamp_ms)
		shard->newest_ms = subject->stamp_ms;
	if (waiting->newest_ms < event->received_ms)
		waiting->newest_ms = event->received_ms;
	if (!subject->click || !(event->fraud & TP_FRAUD_BIT(TP_FRAUD_NO_IMPRESSION)) || !subject->rules->no_impression ||
	    event->received_ms + wait_ms < waiting->newest_ms || pending_find(waiting, subject))
		return;
	if (ring_has_room(waiting, wait_ms, event->bytes))
		ring_add(waiting, subject, PENDING_WAITS);
	else
		TP_COUNT(shard->counters, FRAUD_WAITING_FULL);
}

void fraud_amended(struct agg_fraud_shard *shard, const struct subject *subject)
{
	struct waiting *waiting = &shard->waiting;
	struct pending *pending = pending_find(waiting, subject);
	if (pending) {
		waiting->saved -= pending->state == PENDING_SAVED;
		pending->state = PENDING_DONE;
	} else if (subject->event->received_ms + subject->rules->impression_wait_ms >= waiting->newest_ms &&
		   ring_has_room(waiting, subject->rules->impression_wait_ms, 0)) {
		ring_add(waiting, subject, PENDING_DONE);
	}
}

void fraud_again_end(struct agg_fraud_shard *shard)
{
	const struct agg_fraud_rules *rules = agg_fraud_rules_get(shard);
	struct waiting *waiting = &shard->waiting;
	/* what lies before what was shown is not known */
	if (shard->newest_ms > AGG_AGAIN_MS && shard->unseen_ms < shard->newest_ms - AGG_AGAIN_MS)
		shard->unseen_ms = shard->newest_ms - AGG_AGAIN_MS;
	for (uint64_t number = waiting->first; rules && number != waiting->next; number++) {
		struct pending *pending = slot_at(waiting, number);
		if (pending->state != PENDING_WAITS || pending->received_ms + rules->impression_wait_ms < waiting->newest_ms)
			continue;
		struct subject subject = {.rules = rules, .stamp_ms = pending->stamp_ms};
		if (in_time(&subject, impression_look(shard, pending->user_key).stamp_ms) ||
		    in_time(&subject, impression_look(shard, pending->device_key).stamp_ms))
			save(waiting, number);
	}
}
