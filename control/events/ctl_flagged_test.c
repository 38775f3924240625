/*
 * Flagged clicks, their sums, and all records of one id against a slow model: random events, amendments and conflicts, sealed and not,
 * over kills; then the same questions while another thread seals.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl_fraud_sums.h"
#include "ctl_why.h"
#include "stand_in.h"
#include "turnpike/text.h"

#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SEEDS = 3, STEPS = 400, SEALS = 30 };
#else
enum { SEEDS = 6, STEPS = 700, SEALS = 60 };
#endif
enum { ASKED = 4, RECORDS_MAX = 4096, NAMES = 3, SPAN_MS = 240000 };
#define START_MS UINT64_C(1767225600000)

/* ---- the model: every record that was written ---- */

struct record {
	struct tp_event *event;
	bool last; /* of its click: its tags hold */
};

struct model {
	struct ctl_cache *cache;
	struct ctl_fraud_query asked[ASKED];
	struct stand_in stand_in;
	uint64_t seed;
	struct record record[RECORDS_MAX];
	uint32_t count, unsealed;
};

static uint64_t draw(struct model *model, uint64_t below)
{
	model->seed ^= model->seed << 13;
	model->seed ^= model->seed >> 7;
	model->seed ^= model->seed << 17;
	return (model->seed >> 11) % below;
}

static const char *const names[4][NAMES] = {
	{"adv-1", "adv-2", "adv-3"}, {"camp-1", "camp-2", "camp-3"}, {"ad-1", "ad-2", "ad-3"}, {"pub-1", "pub-2", ""}};

static struct tp_str str(const char *text)
{
	return (struct tp_str){.at = text, .bytes = (uint16_t)strlen(text)};
}

static void tags_set(struct tp_event *event, uint32_t fraud)
{
	struct tp_evidence evidence[TP_FRAUD_REASONS];
	uint32_t count = 0;
	for (uint8_t r = 0; r < TP_FRAUD_REASONS; r++)
		if (fraud & TP_FRAUD_BIT(r))
			evidence[count++] = (struct tp_evidence){.reason = r, .seen = r + 7, .limit = r};
	event->bytes -= event->evidence_count * (uint32_t)sizeof(evidence[0]);
	event->evidence_count = 0;
	event->fraud = fraud;
	event->rule_version = 9;
	tp_event_evidence_add(event, evidence, count);
}

static uint32_t tags_draw(struct model *model)
{
	uint32_t tags = 0;
	for (uint64_t n = draw(model, 4); n > 0; n--)
		tags |= TP_FRAUD_BIT(draw(model, TP_FRAUD_REASONS));
	return tags;
}

static void record_put(struct model *model, const struct tp_event *event)
{
	struct tp_event *copy = malloc(event->bytes);
	assert_non_null(copy);
	assert_true(model->count < RECORDS_MAX);
	memcpy(copy, event, event->bytes);
	stand_in_add_record(&model->stand_in, copy);
	model->unsealed++;
	model->record[model->count++] = (struct record){.event = copy, .last = copy->verdict != TP_CONFLICT};
}

static void event_put(struct model *model)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	char text[32];
	int uuid;
	uint64_t n = draw(model, 400), type = draw(model, 8);
	struct tp_parsed parsed = {.fixed = {.type = type == 0   ? TP_IMPRESSION
						     : type == 1 ? TP_CONVERSION
								 : TP_CLICK,
					     .flags = TP_HAS_BID,
					     .timestamp_ms = START_MS + draw(model, SPAN_MS / 8) * 8,
					     .bid_micros = 250000}};
	/* few ids and stamps, so that the same id comes under another stamp, and others under the same */
	parsed.fixed.received_ms = START_MS + SPAN_MS + model->count;
	memcpy(parsed.fixed.currency, "USD", 3);
	snprintf(text, sizeof(text), n % 4 ? "00000000-0000-0001-0000-%012lx" : "text/%lu", (unsigned long)n + 1);
	parsed.fixed.id = tp_id_from_text(text, strlen(text), &uuid);
	if (!uuid)
		parsed.string[TP_EVENT_ID] = str(text);
	parsed.string[TP_ADVERTISER_ID] = str(names[0][draw(model, NAMES)]);
	parsed.string[TP_CAMPAIGN_ID] = str(names[1][draw(model, NAMES)]);
	parsed.string[TP_AD_ID] = str(names[2][draw(model, NAMES)]);
	parsed.string[TP_PUBLISHER_ID] = str(names[3][draw(model, NAMES)]);
	tp_event_finish(&parsed);
	tp_event_encode(&parsed, event);
	event->verdict = draw(model, 20) == 0 ? TP_LATE : TP_ACCEPTED;
	for (uint32_t i = 0; i < model->count; i++) {
		const struct tp_event *old = model->record[i].event;
		if (old->id.lo == event->id.lo && old->id.hi == event->id.hi &&
		    old->timestamp_ms / TP_MINUTE_MS == event->timestamp_ms / TP_MINUTE_MS)
			event->verdict = TP_CONFLICT;
	}
	if (event->verdict == TP_CONFLICT && draw(model, 3))
		return; /* most files have none */
	if (event->type == TP_CLICK && event->verdict != TP_CONFLICT && draw(model, 4))
		tags_set(event, tags_draw(model));
	record_put(model, event);
}

static void amendment_put(struct model *model)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	struct record *record = &model->record[draw(model, model->count)];
	if (!record->last || record->event->type != TP_CLICK)
		return;
	memcpy(event, record->event, record->event->bytes);
	event->verdict = TP_AMENDED;
	tags_set(event, draw(model, 2) ? 0 : tags_draw(model));
	record->last = false;
	record_put(model, event);
}

static void model_free(struct model *model)
{
	for (uint32_t i = 0; i < model->count; i++)
		free(model->record[i].event);
	model->count = model->unsealed = 0;
}

/* ---- questions ---- */

static bool model_fits(const struct record *record, const struct ctl_flagged_filter *filter)
{
	const struct tp_event *event = record->event;
	const enum tp_string which[] = {TP_ADVERTISER_ID, TP_CAMPAIGN_ID, TP_AD_ID, TP_PUBLISHER_ID};
	const struct tp_str wanted[] = {filter->advertiser, filter->campaign, filter->ad, filter->publisher};
	bool fits = record->last && event->type == TP_CLICK && event->fraud && event->timestamp_ms >= filter->from_ms &&
		    (!filter->to_ms || event->timestamp_ms < filter->to_ms);
	for (int i = 0; i < 4; i++) {
		struct tp_str text = tp_event_string(event, which[i]);
		fits = fits && (!wanted[i].at || (text.bytes == wanted[i].bytes && !memcmp(text.at, wanted[i].at, text.bytes)));
	}
	return fits && (!filter->reasons || (event->fraud & filter->reasons)) &&
	       (!filter->has_class || tp_fraud_class_of(event->fraud) == filter->class);
}

static struct ctl_flagged_filter filter_draw(struct model *model)
{
	struct ctl_flagged_filter filter = {0};
	struct tp_str *const text[] = {&filter.advertiser, &filter.campaign, &filter.ad, &filter.publisher};
	for (int i = 0; i < 4; i++)
		if (draw(model, 5) == 0)
			*text[i] = draw(model, 10) ? str(names[i][draw(model, NAMES)]) : str("nobody");
	if (draw(model, 3) == 0)
		filter.from_ms = START_MS + draw(model, SPAN_MS);
	if (draw(model, 3) == 0)
		filter.to_ms = START_MS + draw(model, SPAN_MS);
	if (draw(model, 3) == 0)
		filter.reasons = tags_draw(model);
	filter.has_class = draw(model, 4) == 0;
	filter.class = draw(model, 2) ? TP_SIVT : TP_GIVT;
	return filter;
}

static int newest_first(const void *left, const void *right)
{
	const struct tp_event *a = *(const struct tp_event *const *)left, *b = *(const struct tp_event *const *)right;
	if (a->timestamp_ms != b->timestamp_ms)
		return a->timestamp_ms < b->timestamp_ms ? 1 : -1;
	if (a->id.hi != b->id.hi)
		return a->id.hi < b->id.hi ? 1 : -1;
	return a->id.lo < b->id.lo ? 1 : -1;
}

static void same_event(const struct tp_event *got, const struct tp_event *wanted)
{
	assert_int_equal(got->bytes, wanted->bytes);
	assert_int_equal(got->verdict, wanted->verdict);
	assert_memory_equal(&got->id, &wanted->id, sizeof(got->id));
	assert_int_equal(got->timestamp_ms, wanted->timestamp_ms);
	assert_int_equal(got->fraud, wanted->fraud);
	assert_int_equal(got->rule_version, wanted->rule_version);
	assert_memory_equal(got + 1, wanted + 1, wanted->bytes - sizeof(*wanted)); /* texts and evidence */
}

static void list_check(struct model *model, struct ctl_events *events)
{
	const struct tp_event *wanted[RECORDS_MAX];
	uint32_t count = 0, at = 0, pages = 0;
	struct ctl_flagged_query query = {.filter = filter_draw(model),
					  .limit = 1 + (uint32_t)draw(model, draw(model, 2) ? 20 : 200)};
	query.work_max = draw(model, 2) ? 1 + draw(model, 3000) : 0;
	for (uint32_t i = 0; i < model->count; i++)
		if (model_fits(&model->record[i], &query.filter))
			wanted[count++] = model->record[i].event;
	qsort(wanted, count, sizeof(wanted[0]), newest_first);
	for (bool more = true; more; pages++) {
		struct ctl_flagged_page page;
		char text[CTL_CURSOR_TEXT_BYTES];
		assert_true(pages < 10000);
		assert_int_equal(ctl_flagged_list(events, &query, &page), 0);
		assert_true(page.count <= query.limit);
		for (uint32_t i = 0; i < page.count; i++) {
			assert_true(at < count);
			same_event(page.item[i].event, wanted[at++]);
		}
		more = page.more;
		assert_true(!more || !query.after || page.next.timestamp_ms <= query.cursor.timestamp_ms);
		query.after = true;
		ctl_flagged_cursor_text(&page.next, text);
		assert_true(ctl_flagged_cursor_parse(text, strlen(text), &query.cursor));
		ctl_flagged_free(&page);
	}
	assert_int_equal(at, count);
}

static void sums_add(struct ctl_fraud_sums *sums, uint32_t fraud)
{
	bool sophisticated = false;
	for (int r = 0; r < TP_FRAUD_REASONS; r++) {
		if (!(fraud & TP_FRAUD_BIT(r)))
			continue;
		sums->reason[r]++;
		sophisticated = sophisticated || tp_fraud_reason_class((enum tp_fraud_reason)r) == TP_SIVT;
	}
	sums->class[sophisticated ? TP_SIVT : TP_GIVT]++;
	sums->flagged_clicks++;
}

/* With and without what is kept. */
static void sums_are(struct model *model, struct ctl_events *events, const struct ctl_fraud_query *query, struct ctl_cache *cache)
{
	struct ctl_fraud_answer answer;
	struct ctl_fraud_sums totals = {0}, bucket[SPAN_MS / TP_MINUTE_MS + 61];
	memset(bucket, 0, sizeof(bucket));
	assert_int_equal(ctl_fraud_sum(events, cache, query, &answer), 0);
	for (uint32_t i = 0; i < model->count; i++)
		if (model_fits(&model->record[i], &query->filter)) {
			sums_add(&totals, model->record[i].event->fraud);
			sums_add(&bucket[(model->record[i].event->timestamp_ms - answer.first_ms) /
					 (query->step_minutes * TP_MINUTE_MS)],
				 model->record[i].event->fraud);
		}
	assert_memory_equal(&answer.totals, &totals, sizeof(totals));
	assert_true(answer.buckets <= sizeof(bucket) / sizeof(bucket[0]));
	for (uint32_t i = 0; i < answer.buckets; i++)
		assert_memory_equal(&answer.bucket[i], &bucket[i], sizeof(bucket[i]));
	ctl_fraud_free(&answer);
}

static void sums_check(struct model *model, struct ctl_events *events)
{
	struct ctl_fraud_query *query = &model->asked[draw(model, ASKED)];
	if (!query->step_minutes || draw(model, 4) == 0) { /* else one that was asked in an earlier state */
		*query = (struct ctl_fraud_query){.filter = filter_draw(model), .step_minutes = draw(model, 4) ? 1 : 60};
		query->filter.from_ms -= query->filter.from_ms % TP_MINUTE_MS;
		if (!query->filter.from_ms)
			query->filter.from_ms = START_MS;
		query->filter.to_ms =
			query->filter.to_ms ? query->filter.to_ms - query->filter.to_ms % TP_MINUTE_MS : START_MS + SPAN_MS;
	}
	sums_are(model, events, query, NULL);
	sums_are(model, events, query, model->cache);
	sums_are(model, events, query, model->cache);
}

static void why_check(struct model *model, struct ctl_events *events)
{
	char id[TP_ID_BYTES_MAX + 1];
	const struct tp_event *one = model->record[draw(model, model->count)].event;
	size_t id_bytes = tp_event_id_text(one, id);
	struct ctl_why why;
	uint32_t at = 0;
	assert_int_equal(ctl_why_find(events, id, id_bytes, 0, 0, &why), 0);
	/* the order of receipt, and an amendment behind its click, which has the same time of receipt */
	for (uint32_t i = 0; i < model->count; i++) {
		const struct tp_event *event = model->record[i].event;
		if (event->id.lo != one->id.lo || event->id.hi != one->id.hi)
			continue;
		bool there = false;
		for (uint32_t k = 0; k < why.count && !there; k++) {
			const struct tp_event *got = why.record[k].event;
			there = got->bytes == event->bytes && got->timestamp_ms == event->timestamp_ms &&
				got->verdict == event->verdict && got->fraud == event->fraud &&
				memcmp(got + 1, event + 1, event->bytes - sizeof(*event)) == 0;
		}
		assert_true(there);
		at++;
	}
	assert_int_equal(why.count, at);
	uint32_t counted = 0;
	for (uint32_t k = 0; k < why.count; k++)
		counted += tp_verdict_counts(why.record[k].event->verdict) != 0;
	json_t *answer = ctl_why_json(&why, NULL, NULL), *entry;
	size_t i;
	assert_int_equal(json_array_size(json_object_get(answer, "records")), at);
	assert_int_equal(json_array_size(json_object_get(answer, "counted")), counted);
	json_array_foreach(json_object_get(answer, "counted"), i, entry)
	{
		const char *stamp = json_string_value(json_object_get(entry, "timestamp"));
		uint64_t ms = 0;
		assert_int_equal(tp_time_parse(stamp, strlen(stamp), &ms), 0);
		for (uint32_t k = 0; k < model->count; k++) {
			const struct record *record = &model->record[k];
			if (record->last && record->event->id.lo == one->id.lo && record->event->id.hi == one->id.hi &&
			    record->event->timestamp_ms == ms)
				assert_true(json_is_true(json_object_get(entry, "billed")) ==
					    (record->event->type == TP_CLICK && !record->event->fraud));
		}
	}
	json_decref(answer);
	ctl_why_free(&why);
	/* an id that never was */
	assert_int_equal(ctl_why_find(events, "never", 5, 0, 0, &why), 0);
	assert_int_equal(why.count, 0);
	assert_null(ctl_why_json(&why, NULL, NULL));
	ctl_why_free(&why);
}

static void answers_are_the_models(void **state)
{
	(void)state;
	static struct model model;
	uint64_t asked = 0, hits = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct ctl_events *events;
		model.seed = seed * UINT64_C(0x9e3779b97f4a7c15);
		stand_in_open(&model.stand_in);
		memset(model.asked, 0, sizeof(model.asked));
		assert_int_equal(ctl_cache_open(&model.cache, 16 << 20, 1000), 0);
		assert_int_equal(ctl_events_open(&events, model.stand_in.data_dir), 0);
		for (int step = 0; step < STEPS; step++) {
			uint64_t what = draw(&model, 100);
			if (what < (seed % 3 ? 86 : 55) || !model.count) { /* every third has many amendments */
				event_put(&model);
			} else if (what < 93) {
				amendment_put(&model);
			} else if (what < 96) {
				if (model.unsealed) /* an empty log file is not ended */
					stand_in_seal(&model.stand_in);
				model.unsealed = 0;
			} else if (what < 97) {
				stand_in_commit(&model.stand_in);
				stand_in_stop(&model.stand_in);
				stand_in_start(&model.stand_in);
				model.unsealed = 0;
			} else {
				stand_in_commit(&model.stand_in);
				list_check(&model, events);
				sums_check(&model, events);
				why_check(&model, events);
			}
		}
		struct ctl_cache_facts facts;
		ctl_cache_facts(model.cache, &facts);
		asked += facts.hits + facts.misses;
		hits += facts.hits;
		ctl_cache_close(model.cache);
		ctl_events_close(events);
		model_free(&model);
		stand_in_close(&model.stand_in);
	}
	/* each second question of the same, and some of a state that had not changed for them */
	assert_true(hits > asked / 2 && hits < asked);
}

static uint64_t hits_of(struct ctl_cache *cache)
{
	struct ctl_cache_facts facts;
	ctl_cache_facts(cache, &facts);
	return facts.hits;
}

/* Asks, and says whether what segments make was kept; the answer is the model's in any case. */
static bool was_kept(struct model *model, struct ctl_events *events, const struct ctl_fraud_query *query)
{
	uint64_t before = hits_of(model->cache);
	stand_in_commit(&model->stand_in);
	sums_are(model, events, query, model->cache);
	return hits_of(model->cache) > before;
}

static void tagged_put(struct model *model, uint64_t n, enum tp_verdict verdict, uint32_t tags)
{
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	struct tp_parsed parsed = {.fixed = {.type = TP_CLICK, .timestamp_ms = START_MS + n, .id = {.hi = 9, .lo = n}}};
	memcpy(parsed.fixed.currency, "USD", 3);
	parsed.string[TP_ADVERTISER_ID] = str(names[0][0]);
	parsed.string[TP_CAMPAIGN_ID] = str(names[1][0]);
	parsed.string[TP_AD_ID] = str(names[2][0]);
	parsed.string[TP_PUBLISHER_ID] = str(names[3][0]);
	tp_event_finish(&parsed);
	tp_event_encode(&parsed, event);
	event->verdict = verdict;
	tags_set(event, tags);
	if (verdict == TP_AMENDED)
		for (uint32_t i = 0; i < model->count; i++)
			model->record[i].last = model->record[i].last && model->record[i].event->id.lo != n;
	record_put(model, event);
}

/* Traffic beside it changes nothing for what is kept; what reaches into segments, and another question, does. */
static void sums_of_segments_are_kept(void **state)
{
	(void)state;
	static struct model model;
	struct ctl_events *events;
	struct ctl_fraud_query query = {.filter = {.from_ms = START_MS, .to_ms = START_MS + TP_MINUTE_MS}, .step_minutes = 1};
	const struct ctl_fraud_query plain = query;
	stand_in_open(&model.stand_in);
	assert_int_equal(ctl_cache_open(&model.cache, 16 << 20, 1000), 0);
	assert_int_equal(ctl_events_open(&events, model.stand_in.data_dir), 0);
	for (uint64_t n = 1; n <= 20; n++)
		tagged_put(&model, n, TP_ACCEPTED, 1 + (uint32_t)n % 3);
	stand_in_seal(&model.stand_in);
	assert_false(was_kept(&model, events, &query));
	assert_true(was_kept(&model, events, &query));

	tagged_put(&model, 21, TP_ACCEPTED, 1);
	assert_true(was_kept(&model, events, &query));
	tagged_put(&model, 21, TP_AMENDED, 0); /* of a click beside it */
	assert_true(was_kept(&model, events, &query));
	tagged_put(&model, 7, TP_AMENDED, 2); /* of a sealed one */
	assert_false(was_kept(&model, events, &query));
	assert_true(was_kept(&model, events, &query));
	stand_in_seal(&model.stand_in);
	assert_false(was_kept(&model, events, &query));
	assert_true(was_kept(&model, events, &query));

	struct ctl_flagged_filter *filter = &query.filter;
	filter->advertiser = str(names[0][1]);
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->campaign = str(names[1][1]);
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->ad = str(names[2][1]);
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->publisher = str(names[3][1]);
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->reasons = TP_FRAUD_BIT(1);
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->has_class = true;
	assert_false(was_kept(&model, events, &query));
	filter->class = TP_SIVT;
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->from_ms -= TP_MINUTE_MS;
	assert_false(was_kept(&model, events, &query));
	query = plain, filter->to_ms += TP_MINUTE_MS;
	assert_false(was_kept(&model, events, &query));
	query = plain, query.step_minutes = 60;
	assert_false(was_kept(&model, events, &query));
	assert_true(was_kept(&model, events, &plain));
	ctl_cache_close(model.cache);
	ctl_events_close(events);
	model_free(&model);
	stand_in_close(&model.stand_in);
}

/* Segments that all reach to the same stamp have no place between them where a page may end. */
static void too_much_is_refused(void **state)
{
	(void)state;
	static struct stand_in stand_in;
	struct ctl_events *events;
	struct ctl_flagged_page page;
	struct ctl_fraud_answer answer;
	struct stand_in_event click = stand_in_click();
	click.flagged = true;
	click.timestamp_ms = START_MS;
	stand_in_open(&stand_in);
	for (int i = 0; i < 3; i++) {
		stand_in_add(&stand_in, &click);
		stand_in_seal(&stand_in);
	}
	assert_int_equal(ctl_events_open(&events, stand_in.data_dir), 0);
	struct ctl_flagged_query query = {.filter = {.to_ms = START_MS + 1}, .limit = 10, .work_max = 1, .work_hard = 1};
	assert_int_equal(ctl_flagged_list(events, &query, &page), -E2BIG);
	ctl_flagged_free(&page);
	query.work_hard = 0;
	assert_int_equal(ctl_flagged_list(events, &query, &page), 0);
	assert_int_equal(page.count, 3);
	assert_false(page.more);
	ctl_flagged_free(&page);
	struct ctl_fraud_query sums = {
		.filter = {.from_ms = START_MS, .to_ms = START_MS + TP_MINUTE_MS}, .step_minutes = 1, .work_max = 2000};
	assert_int_equal(ctl_fraud_sum(events, NULL, &sums, &answer), -E2BIG);
	ctl_fraud_free(&answer);
	sums.work_max = 0;
	assert_int_equal(ctl_fraud_sum(events, NULL, &sums, &answer), 0);
	assert_int_equal(answer.totals.flagged_clicks, 3);
	ctl_fraud_free(&answer);
	ctl_events_close(events);
	stand_in_close(&stand_in);
}

/* ---- beside a thread that seals ---- */

struct sealing {
	struct model model;
	_Atomic uint64_t durable, begun;
	_Atomic bool done;
};

static void *seal(void *context)
{
	struct sealing *sealing = context;
	struct stand_in_event click = stand_in_click();
	click.flagged = true;
	for (int i = 0; i < SEALS; i++) {
		atomic_fetch_add(&sealing->begun, 4);
		for (int k = 0; k < 4; k++, click.timestamp_ms++)
			stand_in_add(&sealing->model.stand_in, &click);
		stand_in_commit(&sealing->model.stand_in);
		atomic_fetch_add(&sealing->durable, 4);
		stand_in_seal(&sealing->model.stand_in);
	}
	atomic_store(&sealing->done, true);
	return NULL;
}

/* Walks the list in small pages; what was durable at its beginning is seen, nothing twice. */
static void walk_check(struct ctl_events *events, uint64_t least, struct sealing *sealing)
{
	struct ctl_flagged_query query = {.limit = 37};
	uint64_t seen = 0, last_ms = UINT64_MAX;
	for (bool more = true; more;) {
		struct ctl_flagged_page page;
		assert_int_equal(ctl_flagged_list(events, &query, &page), 0);
		for (uint32_t i = 0; i < page.count; i++, seen++) {
			assert_true(page.item[i].event->timestamp_ms < last_ms);
			last_ms = page.item[i].event->timestamp_ms;
		}
		more = page.more;
		query.after = true;
		query.cursor = page.next;
		ctl_flagged_free(&page);
	}
	assert_true(seen >= least);
	assert_true(seen <= atomic_load(&sealing->begun));
}

static void nothing_is_missed_or_shown_twice(void **state)
{
	(void)state;
	static struct sealing sealing;
	struct ctl_events *events;
	pthread_t thread;
	stand_in_open(&sealing.model.stand_in);
	assert_int_equal(ctl_cache_open(&sealing.model.cache, 16 << 20, 1000), 0);
	assert_int_equal(ctl_events_open(&events, sealing.model.stand_in.data_dir), 0);
	assert_int_equal(pthread_create(&thread, NULL, seal, &sealing), 0);
	for (bool last = false; !last;) {
		const struct tp_event one = {.id = {.hi = 1, .lo = 1}}; /* the first event of all */
		char first[TP_ID_BYTES_MAX + 1];
		tp_event_id_text(&one, first);
		struct ctl_fraud_query sums = {.filter = {.to_ms = 1000000000000000}, .step_minutes = UINT32_MAX};
		struct ctl_fraud_answer answer;
		struct ctl_why why;
		last = atomic_load(&sealing.done);
		uint64_t least = atomic_load(&sealing.durable);
		walk_check(events, least, &sealing);
		assert_int_equal(ctl_fraud_sum(events, sealing.model.cache, &sums, &answer), 0);
		assert_true(answer.totals.flagged_clicks >= least && answer.totals.flagged_clicks <= atomic_load(&sealing.begun));
		ctl_fraud_free(&answer);
		assert_int_equal(ctl_why_find(events, first, strlen(first), 0, 0, &why), 0);
		assert_true(why.count <= 1 && why.count >= (least > 0));
		ctl_why_free(&why);
	}
	pthread_join(thread, NULL);
	walk_check(events, 4 * SEALS, &sealing);
	ctl_cache_close(sealing.model.cache);
	ctl_events_close(events);
	stand_in_close(&sealing.model.stand_in);
}

/* ---- text ---- */

static void cursors_are_checked(void **state)
{
	(void)state;
	const struct ctl_flagged_key key = {.timestamp_ms = 1, .id = {UINT64_MAX, 2}};
	struct ctl_flagged_key back;
	char text[CTL_CURSOR_TEXT_BYTES];
	ctl_flagged_cursor_text(&key, text);
	assert_true(ctl_flagged_cursor_parse(text, strlen(text), &back));
	assert_memory_equal(&key, &back, sizeof(key));
	for (size_t bytes = 0; bytes < strlen(text); bytes++)
		assert_false(ctl_flagged_cursor_parse(text, bytes, &back));
	for (size_t at = 0; at < strlen(text); at++) {
		char other[CTL_CURSOR_TEXT_BYTES];
		memcpy(other, text, sizeof(other));
		other[at] = at % 2 ? 'F' : '+';
		assert_false(ctl_flagged_cursor_parse(other, strlen(text), &back));
	}
}

static void report_lines_start_where_they_should(void **state)
{
	(void)state;
	static const struct {
		const char *stamp, *hour, *day, *month;
	} cases[] = {
		{"2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		{"2024-02-29T23:59:59.999Z", "2024-02-29T23:00:00Z", "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z"},
		{"1970-01-31T12:34:56Z", "1970-01-31T12:00:00Z", "1970-01-31T00:00:00Z", "1970-01-01T00:00:00Z"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tp_event event = {0};
		char text[32];
		assert_int_equal(tp_time_parse(cases[i].stamp, strlen(cases[i].stamp), &event.timestamp_ms), 0);
		const struct ctl_why_line line = ctl_why_line(&event);
		tp_time_text(line.hour_ms, text);
		assert_string_equal(text, cases[i].hour);
		tp_time_text(line.day_ms, text);
		assert_string_equal(text, cases[i].day);
		tp_time_text(line.month_ms, text);
		assert_string_equal(text, cases[i].month);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_the_models),    cmocka_unit_test(nothing_is_missed_or_shown_twice),
		cmocka_unit_test(cursors_are_checked),       cmocka_unit_test(too_much_is_refused),
		cmocka_unit_test(sums_of_segments_are_kept), cmocka_unit_test(report_lines_start_where_they_should)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
