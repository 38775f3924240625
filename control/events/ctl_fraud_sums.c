/* Flagged clicks by reason, class and time; the rules are in ctl_fraud_sums.h. */
#include "ctl_fraud_sums.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS_FIRST = 256, WORK_OPEN = 1024 };
#define WORK_MAX (UINT64_C(1) << 30)

/* The last amendment of a click. */
struct amended {
	struct ctl_flagged_key key;
	uint64_t file_id, order;
	uint32_t fraud;
	bool used;
	bool sealed;
	bool met; /* not sealed, and neither is its click: no segment has anything of it */
};

struct summing {
	struct ctl_events *events;
	const struct ctl_fraud_query *query;
	struct ctl_fraud_answer *answer; /* what is not sealed makes, and in the end all */
	struct ctl_fraud_answer *into;   /* where what comes now goes */
	struct ctl_fraud_answer sealed;
	struct ctl_cache *cache;
	const struct ctl_kept *kept; /* held */
	struct ctl_flight *flight;
	struct amended *slot; /* open addressing */
	uint32_t slots, amended;
	struct sto_scan *scan;
	uint64_t work;
};

uint64_t ctl_fraud_buckets(const struct ctl_fraud_query *query)
{
	uint64_t step_ms = query->step_minutes * TP_MINUTE_MS, first = query->filter.from_ms / step_ms;
	return query->filter.to_ms > query->filter.from_ms ? (query->filter.to_ms + step_ms - 1) / step_ms - first : 0;
}

/* ---- amendments ---- */

static struct amended *slot_of(const struct summing *s, const struct ctl_flagged_key *key)
{
	uint64_t hash = (key->id.lo ^ key->id.hi ^ key->timestamp_ms) * UINT64_C(0x9e3779b97f4a7c15);
	uint32_t at = (uint32_t)(hash >> 32) & (s->slots - 1);
	while (s->slot[at].used && memcmp(&s->slot[at].key, key, sizeof(*key)) != 0)
		at = (at + 1) & (s->slots - 1);
	return &s->slot[at];
}

static int slots_grow(struct summing *s)
{
	struct summing larger = *s;
	larger.slots = s->slots ? 2 * s->slots : SLOTS_FIRST;
	larger.slot = calloc(larger.slots, sizeof(*larger.slot));
	if (!larger.slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->slots; i++)
		if (s->slot[i].used)
			*slot_of(&larger, &s->slot[i].key) = s->slot[i];
	free(s->slot);
	*s = larger;
	return 0;
}

static int amendment_put(struct summing *s, const struct amended *amended)
{
	if (s->amended == CTL_FRAUD_AMENDED_MAX)
		return -E2BIG;
	if (2 * s->amended >= s->slots) {
		int rc = slots_grow(s);
		if (rc)
			return rc;
	}
	struct amended *slot = slot_of(s, &amended->key);
	if (slot->used && (slot->file_id > amended->file_id || (slot->file_id == amended->file_id && slot->order > amended->order)))
		return 0;
	s->amended += !slot->used;
	*slot = *amended;
	return 0;
}

/* ---- counting ---- */

static void sums_add(struct ctl_fraud_sums *sums, uint32_t fraud)
{
	sums->flagged_clicks++;
	sums->class[tp_fraud_class_of(fraud)]++;
	for (uint32_t left = fraud & (TP_FRAUD_BIT(TP_FRAUD_REASONS) - 1); left; left &= left - 1)
		sums->reason[__builtin_ctz(left)]++;
}

static void click_count(const struct summing *s, struct ctl_fraud_answer *to, uint64_t timestamp_ms, uint32_t fraud)
{
	if (!ctl_flagged_tags_fit(&s->query->filter, fraud))
		return;
	sums_add(&to->totals, fraud);
	uint64_t bucket = (timestamp_ms - to->first_ms) / (s->query->step_minutes * TP_MINUTE_MS);
	if (bucket < to->buckets)
		sums_add(&to->bucket[bucket], fraud);
}

static void sums_merge(struct ctl_fraud_sums *sums, const struct ctl_fraud_sums *more)
{
	sums->flagged_clicks += more->flagged_clicks;
	for (int c = TP_GIVT; c <= TP_SIVT; c++)
		sums->class[c] += more->class[c];
	for (int r = 0; r < TP_FRAUD_REASONS; r++)
		sums->reason[r] += more->reason[r];
}

static void answer_merge(struct ctl_fraud_answer *answer, const struct ctl_fraud_answer *more)
{
	sums_merge(&answer->totals, &more->totals);
	for (uint32_t i = 0; i < answer->buckets; i++)
		sums_merge(&answer->bucket[i], &more->bucket[i]);
}

/* ---- what is kept of segments ---- */

enum { KEY_BYTES_MAX = 512 };

static char *number_put(char *to, uint64_t number)
{
	memcpy(to, &number, sizeof(number));
	return to + sizeof(number);
}

static char *text_put(char *to, struct tp_str text)
{
	to = number_put(to, text.at ? text.bytes : UINT64_MAX);
	memcpy(to, text.at ? text.at : "", text.at ? text.bytes : 0);
	return to + (text.at ? text.bytes : 0);
}

static_assert(KEY_BYTES_MAX >= 4 * TP_ID_BYTES_MAX + 16 * sizeof(uint64_t), "a key has room");

/* The amendments that reach into segments, in whatever order they lie. */
static void reach_sum(const struct summing *s, uint64_t sum[2])
{
	sum[0] = sum[1] = 0;
	for (uint32_t i = 0; i < s->slots; i++) {
		const struct amended *one = &s->slot[i];
		if (!one->used || one->met)
			continue;
		XXH128_hash_t hash = XXH3_128bits(&one->key, sizeof(one->key));
		sum[0] += hash.low64;
		sum[1] += hash.high64;
	}
}

/* All that decides about what segments make up, but for their state. */
static size_t key_make(const struct summing *s, char key[KEY_BYTES_MAX])
{
	const struct ctl_flagged_filter *filter = &s->query->filter;
	uint64_t reach[2];
	char *to = key;

	reach_sum(s, reach);
	*to++ = 'f'; /* not a key of ctl_cache_key(), which begins with a minute and has no such length */
	to = number_put(to, filter->from_ms);
	to = number_put(to, filter->to_ms);
	to = number_put(to, s->query->step_minutes);
	to = number_put(to, s->query->work_max);
	to = number_put(to, (uint64_t)filter->reasons << 8 | (uint64_t)filter->has_class << 4 | (uint64_t)filter->class);
	to = number_put(to, reach[0]);
	to = number_put(to, reach[1]);
	to = text_put(to, filter->advertiser);
	to = text_put(to, filter->campaign);
	to = text_put(to, filter->ad);
	to = text_put(to, filter->publisher);
	return (size_t)(to - key);
}

static void answer_free(void *answer)
{
	ctl_fraud_free(answer);
	free(answer);
}

static void sealed_drop(struct summing *s)
{
	ctl_fraud_free(&s->sealed);
	if (s->kept)
		ctl_cache_give(s->cache, s->kept);
	if (s->flight)
		ctl_cache_fail(s->cache, s->flight);
	s->kept = NULL;
	s->flight = NULL;
	s->into = s->answer;
}

static bool sealed(void *context, const uint64_t state[STO_READER_STATE])
{
	struct summing *s = context;
	char key[KEY_BYTES_MAX];

	s->kept = ctl_cache_take(s->cache, key, key_make(s, key), state, &s->flight);
	if (s->kept)
		return true;
	s->sealed = (struct ctl_fraud_answer){.first_ms = s->answer->first_ms, .buckets = s->answer->buckets};
	s->sealed.bucket = s->flight ? calloc(s->sealed.buckets, sizeof(*s->sealed.bucket)) : NULL;
	if (s->sealed.bucket)
		s->into = &s->sealed;
	return false;
}

static void sealed_put(struct summing *s)
{
	struct ctl_fraud_answer *kept = malloc(sizeof(*kept));

	if (!kept)
		return; /* sealed_drop() ends the flight */
	*kept = s->sealed;
	s->sealed.bucket = NULL;
	ctl_cache_put(s->cache, s->flight, kept, sizeof(*kept) + kept->buckets * sizeof(*kept->bucket), answer_free);
	s->flight = NULL;
}

/* ---- records ---- */

static void begin(void *context)
{
	struct summing *s = context;
	sealed_drop(s);
	memset(&s->answer->totals, 0, sizeof(s->answer->totals));
	if (s->answer->buckets)
		memset(s->answer->bucket, 0, s->answer->buckets * sizeof(*s->answer->bucket));
	if (s->slots)
		memset(s->slot, 0, s->slots * sizeof(*s->slot));
	s->amended = 0;
	s->work = 0;
}

static int record_count(void *context, const struct ctl_place *place, const struct tp_event *event)
{
	struct summing *s = context;
	const struct amended one = {.key = {event->timestamp_ms, event->id},
				    .file_id = place->file_id,
				    .order = place->order,
				    .fraud = event->fraud,
				    .used = true,
				    .sealed = place->sealed};
	s->work++;
	if (!ctl_flagged_fits(&s->query->filter, event))
		return 0;
	if (event->verdict == TP_AMENDED)
		return amendment_put(s, &one);
	if (!event->fraud)
		return 0;
	struct amended *slot = s->amended ? slot_of(s, &one.key) : NULL;
	if (!slot || !slot->used)
		click_count(s, s->into, event->timestamp_ms, event->fraud);
	else if (!place->sealed)
		slot->met = true;
	return 0;
}

/* The rows of a version 1 file come in the order of the log, its amendments behind their clicks: twice. */
struct pass {
	struct summing *summing;
	bool amendments;
};

static int old_row_count(void *context, const struct ctl_place *place, const struct tp_event *event)
{
	const struct pass *pass = context;
	return (event->verdict == TP_AMENDED) == pass->amendments ? record_count(pass->summing, place, event) : 0;
}

static int old_segment_count(struct summing *s, const struct sto_segment_info *segment)
{
	struct pass pass = {.summing = s, .amendments = true};
	int rc = ctl_events_rows(s->events, segment, old_row_count, &pass);
	pass.amendments = false;
	return rc ? rc : ctl_events_rows(s->events, segment, old_row_count, &pass);
}

static int row_count(struct summing *s, const struct sto_segment_info *segment, uint32_t row, uint64_t time, uint32_t fraud,
		     bool amendments)
{
	if (!amendments && !s->amended) {
		click_count(s, s->into, time, fraud);
		return 0;
	}
	const struct tp_id *ids = sto_scan_ids(s->scan);
	if (!ids)
		return -EBADMSG;
	const struct amended one = {.key = {time, ids[row]},
				    .file_id = segment->file_id,
				    .order = sto_scan_first_row(s->scan) + row,
				    .fraud = fraud,
				    .used = true,
				    .sealed = true};
	if (amendments)
		return amendment_put(s, &one);
	if (!slot_of(s, &one.key)->used)
		click_count(s, s->into, time, fraud);
	return 0;
}

static int block_count(struct summing *s, const struct sto_segment_info *segment, bool amendments)
{
	struct sto_scan *scan = s->scan;
	const struct tp_str publisher = s->query->filter.publisher;
	const uint64_t *time = sto_scan_picked(scan, STO_COLUMN_TIME), *fraud = sto_scan_picked(scan, STO_COLUMN_FRAUD);
	const uint64_t *code = NULL;
	if (publisher.at && sto_scan_texts(scan, TP_PUBLISHER_ID))
		code = sto_scan_picked(scan, STO_COLUMN_TEXT + TP_PUBLISHER_ID);
	if (!time || !fraud || (publisher.at && !code))
		return -EBADMSG;
	uint32_t count;
	const uint32_t *selected = sto_scan_selected(scan, &count);
	int rc = 0;
	for (uint32_t i = 0; i < count && !rc; i++) {
		uint32_t row = selected ? selected[i] : i;
		if (code) {
			struct tp_str text = sto_scan_text(scan, TP_PUBLISHER_ID, (uint32_t)code[i]);
			if (text.bytes != publisher.bytes || memcmp(text.at, publisher.at, text.bytes) != 0)
				continue;
		}
		rc = row_count(s, segment, row, time[i], (uint32_t)fraud[i], amendments);
	}
	return rc;
}

static int pass_count(struct summing *s, const struct sto_segment_info *segment, bool amendments)
{
	struct sto_scan_filter filter = ctl_flagged_scan_filter(&s->query->filter);
	filter.verdicts = amendments ? 1u << TP_AMENDED : 1u << TP_ACCEPTED | 1u << TP_LATE;
	int rc = ctl_events_scan(s->events, segment, &filter, &s->scan);
	while (!rc && (rc = sto_scan_next(s->scan)) == 1) {
		s->work += sto_scan_rows(s->scan);
		rc = block_count(s, segment, amendments);
	}
	return rc;
}

static bool has_amendments(const struct sto_scan *scan)
{
	struct sto_scan_facts facts;
	sto_scan_facts(scan, &facts);
	return facts.rows != facts.counted + facts.conflicts;
}

static int segment_count(void *context, const struct sto_segment_info *segment)
{
	struct summing *s = context;
	s->work += WORK_OPEN;
	if (s->work > (s->query->work_max ? s->query->work_max : WORK_MAX))
		return -E2BIG;
	/* opened for its facts; opening it again costs microseconds */
	int rc = ctl_events_scan(s->events, segment, NULL, &s->scan);
	if (rc == -ENOTSUP)
		return old_segment_count(s, segment);
	if (!rc && has_amendments(s->scan))
		rc = pass_count(s, segment, true);
	return rc ? rc : pass_count(s, segment, false);
}

int ctl_fraud_sum(struct ctl_events *events, struct ctl_cache *cache, const struct ctl_fraud_query *query,
		  struct ctl_fraud_answer *answer)
{
	struct summing s = {.events = events, .cache = cache, .query = query, .answer = answer, .into = answer};
	const struct ctl_events_ask ask = {.context = &s,
					   .from_ms = query->filter.from_ms,
					   .to_ms = query->filter.to_ms,
					   .order = CTL_EVENTS_BY_FILE,
					   .begin = begin,
					   .kept = record_count,
					   .sealed = cache ? sealed : NULL,
					   .segment = segment_count};
	const uint64_t step_ms = query->step_minutes * TP_MINUTE_MS;
	*answer = (struct ctl_fraud_answer){.first_ms = query->filter.from_ms / step_ms * step_ms,
					    .buckets = (uint32_t)ctl_fraud_buckets(query)};
	if (ctl_fraud_buckets(query) > CTL_FRAUD_BUCKETS_MAX)
		return -E2BIG;
	if (query->filter.from_ms >= query->filter.to_ms)
		return 0;
	answer->bucket = calloc(answer->buckets, sizeof(*answer->bucket));
	int rc = answer->bucket ? ctl_events_ask(events, &ask, &answer->facts) : -ENOMEM;
	for (uint32_t i = 0; i < s.slots && !rc; i++)
		if (s.slot[i].used && s.slot[i].fraud)
			click_count(&s, s.slot[i].sealed ? s.into : answer, s.slot[i].key.timestamp_ms, s.slot[i].fraud);
	if (!rc && s.into == &s.sealed) {
		answer_merge(answer, &s.sealed);
		sealed_put(&s);
	} else if (!rc && s.kept) {
		answer_merge(answer, s.kept->value);
	}
	sealed_drop(&s);
	free(s.slot);
	sto_scan_close(s.scan);
	return rc;
}

void ctl_fraud_free(struct ctl_fraud_answer *answer)
{
	free(answer->bucket);
	answer->bucket = NULL;
}
