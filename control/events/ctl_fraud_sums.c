/* Flagged clicks by reason, class and time; the rules are in ctl_fraud_sums.h. */
#include "ctl_fraud_sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 256, WORK_OPEN = 1024 };
#define WORK_MAX (UINT64_C(1) << 30)

/* The last amendment of a click. */
struct amended {
	struct ctl_flagged_key key;
	uint64_t file_id, order;
	uint32_t fraud;
	bool used;
};

struct summing {
	struct ctl_events *events;
	const struct ctl_fraud_query *query;
	struct ctl_fraud_answer *answer;
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

static void click_count(struct summing *s, uint64_t timestamp_ms, uint32_t fraud)
{
	if (!ctl_flagged_tags_fit(&s->query->filter, fraud))
		return;
	sums_add(&s->answer->totals, fraud);
	uint64_t bucket = (timestamp_ms - s->answer->first_ms) / (s->query->step_minutes * TP_MINUTE_MS);
	if (bucket < s->answer->buckets)
		sums_add(&s->answer->bucket[bucket], fraud);
}

static void begin(void *context)
{
	struct summing *s = context;
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
				    .used = true};
	s->work++;
	if (!ctl_flagged_fits(&s->query->filter, event))
		return 0;
	if (event->verdict == TP_AMENDED)
		return amendment_put(s, &one);
	if (event->fraud && (!s->amended || !slot_of(s, &one.key)->used))
		click_count(s, event->timestamp_ms, event->fraud);
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
		click_count(s, time, fraud);
		return 0;
	}
	const struct tp_id *ids = sto_scan_ids(s->scan);
	if (!ids)
		return -EBADMSG;
	const struct amended one = {.key = {time, ids[row]},
				    .file_id = segment->file_id,
				    .order = sto_scan_first_row(s->scan) + row,
				    .fraud = fraud,
				    .used = true};
	if (amendments)
		return amendment_put(s, &one);
	if (!slot_of(s, &one.key)->used)
		click_count(s, time, fraud);
	return 0;
}

static int block_count(struct summing *s, const struct sto_segment_info *segment, bool amendments)
{
	struct sto_scan *scan = s->scan;
	const struct tp_str publisher = s->query->filter.publisher;
	const uint64_t *time = sto_scan_values(scan, STO_COLUMN_TIME), *fraud = sto_scan_values(scan, STO_COLUMN_FRAUD);
	const uint64_t *code = NULL;
	if (publisher.at && sto_scan_texts(scan, TP_PUBLISHER_ID))
		code = sto_scan_values(scan, STO_COLUMN_TEXT + TP_PUBLISHER_ID);
	if (!time || !fraud || (publisher.at && !code))
		return -EBADMSG;
	uint32_t count;
	const uint32_t *selected = sto_scan_selected(scan, &count);
	int rc = 0;
	for (uint32_t i = 0; i < count && !rc; i++) {
		uint32_t row = selected ? selected[i] : i;
		if (code) {
			struct tp_str text = sto_scan_text(scan, TP_PUBLISHER_ID, (uint32_t)code[row]);
			if (text.bytes != publisher.bytes || memcmp(text.at, publisher.at, text.bytes) != 0)
				continue;
		}
		rc = row_count(s, segment, row, time[row], (uint32_t)fraud[row], amendments);
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

int ctl_fraud_sum(struct ctl_events *events, const struct ctl_fraud_query *query, struct ctl_fraud_answer *answer)
{
	struct summing s = {.events = events, .query = query, .answer = answer};
	const struct ctl_events_ask ask = {.context = &s,
					   .from_ms = query->filter.from_ms,
					   .to_ms = query->filter.to_ms,
					   .order = CTL_EVENTS_BY_FILE,
					   .begin = begin,
					   .kept = record_count,
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
			click_count(&s, s.slot[i].key.timestamp_ms, s.slot[i].fraud);
	free(s.slot);
	sto_scan_close(s.scan);
	return rc;
}

void ctl_fraud_free(struct ctl_fraud_answer *answer)
{
	free(answer->bucket);
	answer->bucket = NULL;
}
