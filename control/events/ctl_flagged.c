/* Flagged clicks, newest first; the rules are in ctl_flagged.h. */
#include "ctl_flagged.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLACK = 16, /* entries of clicks that turn out not to be listed */
	TRIES_MAX = 100,
	WORK_OPEN = 1024, /* rows that the opening of a segment stands for */
};
#define WORK_MAX  (UINT64_C(32) << 20)
#define WORK_HARD (UINT64_C(512) << 20)

/* A record that may be listed, or that says that a click is not. */
struct entry {
	struct ctl_flagged_key key;
	uint64_t file_id, order;
	uint32_t fraud;
	uint32_t segment;       /* in gather.segment, where event is NULL */
	uint64_t row, offset;   /* offset: not sealed */
	struct tp_event *event; /* a copy; NULL: still in the segment */
};

/*
 * The newest records, by key: at most `keep` after settling. Below `floor` something was dropped, so nothing is known there.
 */
struct gather {
	struct ctl_events *events;
	const struct ctl_flagged_query *query;
	struct entry *entry;
	uint32_t count, max, keep;
	bool has_floor;
	struct ctl_flagged_key floor;
	struct sto_segment_info *segment; /* in which entries lie */
	uint32_t segments, segments_max;
	struct sto_scan *scan;
	uint64_t work;
	bool cut; /* too much work: nothing is known before cut_ms */
	uint64_t cut_ms;
};

/* ---- the order ---- */

static int key_compare(const struct ctl_flagged_key *a, const struct ctl_flagged_key *b)
{
	if (a->timestamp_ms != b->timestamp_ms)
		return a->timestamp_ms < b->timestamp_ms ? -1 : 1;
	if (a->id.hi != b->id.hi)
		return a->id.hi < b->id.hi ? -1 : 1;
	return a->id.lo == b->id.lo ? 0 : a->id.lo < b->id.lo ? -1 : 1;
}

/* Newest first; of one click, the last record first. */
static int entry_compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	int c = key_compare(&b->key, &a->key);
	if (c)
		return c;
	if (a->file_id != b->file_id)
		return a->file_id < b->file_id ? 1 : -1;
	return a->order == b->order ? 0 : a->order < b->order ? 1 : -1;
}

void ctl_flagged_cursor_text(const struct ctl_flagged_key *key, char *to)
{
	snprintf(to, CTL_CURSOR_TEXT_BYTES, "f%016" PRIx64 "%016" PRIx64 "%016" PRIx64, key->timestamp_ms, key->id.hi, key->id.lo);
}

bool ctl_flagged_cursor_parse(const char *text, size_t bytes, struct ctl_flagged_key *key)
{
	uint64_t *const part[] = {&key->timestamp_ms, &key->id.hi, &key->id.lo};
	if (bytes != 49 || text[0] != 'f' || strspn(text + 1, "0123456789abcdef") != 48)
		return false;
	for (int i = 0; i < 3; i++) {
		char piece[17] = {0};
		memcpy(piece, text + 1 + 16 * i, 16);
		*part[i] = strtoull(piece, NULL, 16);
	}
	return true;
}

/* ---- the filter ---- */

static bool text_fits(struct tp_str wanted, struct tp_str text)
{
	return !wanted.at || (text.bytes == wanted.bytes && memcmp(text.at, wanted.at, text.bytes) == 0);
}

bool ctl_flagged_fits(const struct ctl_flagged_filter *filter, const struct tp_event *event)
{
	return event->type == TP_CLICK && (tp_verdict_counts(event->verdict) || event->verdict == TP_AMENDED) &&
	       event->timestamp_ms >= filter->from_ms && (!filter->to_ms || event->timestamp_ms < filter->to_ms) &&
	       text_fits(filter->advertiser, tp_event_string(event, TP_ADVERTISER_ID)) &&
	       text_fits(filter->campaign, tp_event_string(event, TP_CAMPAIGN_ID)) &&
	       text_fits(filter->ad, tp_event_string(event, TP_AD_ID)) &&
	       text_fits(filter->publisher, tp_event_string(event, TP_PUBLISHER_ID));
}

bool ctl_flagged_tags_fit(const struct ctl_flagged_filter *filter, uint32_t fraud)
{
	return fraud && (!filter->reasons || (fraud & filter->reasons)) &&
	       (!filter->has_class || tp_fraud_class_of(fraud) == filter->class);
}

struct sto_scan_filter ctl_flagged_scan_filter(const struct ctl_flagged_filter *filter)
{
	return (struct sto_scan_filter){
		.from_ms = filter->from_ms,
		.to_ms = filter->to_ms,
		.advertiser = filter->advertiser,
		.campaign = filter->campaign,
		.ad = filter->ad,
		.types = 1u << TP_CLICK,
		.verdicts = 1u << TP_ACCEPTED | 1u << TP_LATE | 1u << TP_AMENDED,
		.tagged = true,
	};
}

/* ---- the newest records ---- */

static void gather_begin(void *context)
{
	struct gather *gather = context;
	for (uint32_t i = 0; i < gather->count; i++)
		free(gather->entry[i].event);
	gather->count = gather->segments = 0;
	gather->has_floor = gather->cut = false;
	gather->work = 0;
}

/* Sorts, keeps the last record of each click, and no more clicks than are asked for. */
static void settle(struct gather *gather)
{
	uint32_t kept = 0;
	if (gather->count)
		qsort(gather->entry, gather->count, sizeof(*gather->entry), entry_compare);
	for (uint32_t i = 0; i < gather->count; i++) {
		struct entry *entry = &gather->entry[i];
		bool again = kept && key_compare(&gather->entry[kept - 1].key, &entry->key) == 0;
		if (again || kept == gather->keep) {
			if (!again && kept == gather->keep) {
				gather->has_floor = true;
				gather->floor = gather->entry[kept - 1].key;
			}
			free(entry->event);
			continue;
		}
		gather->entry[kept++] = *entry;
	}
	gather->count = kept;
}

static bool key_wanted(const struct gather *gather, const struct ctl_flagged_key *key)
{
	const struct ctl_flagged_query *query = gather->query;
	return (!query->after || key_compare(key, &query->cursor) < 0) &&
	       (!gather->has_floor || key_compare(key, &gather->floor) >= 0);
}

/* Whether a record says anything: an amendment always does, also that a click is not to be listed any more. */
static bool record_wanted(const struct gather *gather, uint64_t verdict, uint64_t fraud)
{
	return verdict == TP_AMENDED || ctl_flagged_tags_fit(&gather->query->filter, (uint32_t)fraud);
}

static int entry_add(struct gather *gather, const struct entry *entry, const struct tp_event *event)
{
	if (!key_wanted(gather, &entry->key))
		return 0;
	if (gather->count == gather->max) {
		settle(gather);
		if (!key_wanted(gather, &entry->key))
			return 0;
	}
	struct entry *made = &gather->entry[gather->count];
	*made = *entry;
	if (event) {
		made->event = malloc(event->bytes);
		if (!made->event)
			return -ENOMEM;
		memcpy(made->event, event, event->bytes);
	}
	gather->count++;
	return 0;
}

/* The segment's place in gather->segment; UINT32_MAX: no memory. */
static uint32_t segment_note(struct gather *gather, const struct sto_segment_info *segment)
{
	if (gather->segments && gather->segment[gather->segments - 1].sequence == segment->sequence)
		return gather->segments - 1;
	if (gather->segments == gather->segments_max) {
		uint32_t max = gather->segments_max ? 2 * gather->segments_max : 16;
		struct sto_segment_info *larger = realloc(gather->segment, max * sizeof(*larger));
		if (!larger)
			return UINT32_MAX;
		gather->segment = larger;
		gather->segments_max = max;
	}
	gather->segment[gather->segments] = *segment;
	return gather->segments++;
}

static int record_add(void *context, const struct ctl_place *place, const struct tp_event *event)
{
	struct gather *gather = context;
	gather->work++;
	if (!ctl_flagged_fits(&gather->query->filter, event) || !record_wanted(gather, event->verdict, event->fraud))
		return 0;
	struct entry entry = {
		.key = {event->timestamp_ms, event->id},
		.file_id = place->file_id,
		.order = place->order,
		.fraud = event->fraud,
		.segment = UINT32_MAX,
		.row = place->row,
		.offset = place->offset,
	};
	if (place->sealed && (entry.segment = segment_note(gather, &place->segment)) == UINT32_MAX)
		return -ENOMEM;
	return entry_add(gather, &entry, event);
}

static int block_add(struct gather *gather, const struct sto_segment_info *segment)
{
	struct sto_scan *scan = gather->scan;
	const struct tp_str publisher = gather->query->filter.publisher;
	const uint64_t *time = sto_scan_picked(scan, STO_COLUMN_TIME), *fraud = sto_scan_picked(scan, STO_COLUMN_FRAUD);
	const uint64_t *verdict = sto_scan_picked(scan, STO_COLUMN_VERDICT), *code = NULL;
	if (publisher.at && sto_scan_texts(scan, TP_PUBLISHER_ID))
		code = sto_scan_picked(scan, STO_COLUMN_TEXT + TP_PUBLISHER_ID);
	if (!time || !fraud || !verdict || (publisher.at && !code))
		return -EBADMSG;
	uint32_t count;
	const uint32_t *selected = sto_scan_selected(scan, &count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t row = selected ? selected[i] : i;
		if ((gather->has_floor && time[i] < gather->floor.timestamp_ms) || !record_wanted(gather, verdict[i], fraud[i]) ||
		    (code && !text_fits(publisher, sto_scan_text(scan, TP_PUBLISHER_ID, (uint32_t)code[i]))))
			continue;
		const struct tp_id *ids = sto_scan_ids(scan);
		struct entry entry = {
			.file_id = segment->file_id,
			.order = sto_scan_first_row(scan) + row,
			.row = sto_scan_first_row(scan) + row,
			.fraud = (uint32_t)fraud[i],
		};
		if (!ids)
			return -EBADMSG;
		entry.key = (struct ctl_flagged_key){time[i], ids[row]};
		entry.segment = segment_note(gather, segment);
		if (entry.segment == UINT32_MAX)
			return -ENOMEM;
		int rc = entry_add(gather, &entry, NULL);
		if (rc)
			return rc;
	}
	return 0;
}

/* The stamp before which clicks are asked for. */
static uint64_t end_of(const struct ctl_flagged_query *query)
{
	uint64_t to_ms = query->filter.to_ms ? query->filter.to_ms : UINT64_MAX;
	if (!query->after || query->cursor.timestamp_ms >= to_ms)
		return to_ms;
	/* no id is before zero: a page that was cut at this stamp is done with it */
	return query->cursor.timestamp_ms + (query->cursor.id.hi || query->cursor.id.lo);
}

static int segment_add(void *context, const struct sto_segment_info *segment)
{
	struct gather *gather = context;
	const uint64_t work_max = gather->query->work_max ? gather->query->work_max : WORK_MAX;
	if (gather->has_floor && segment->to_ms <= gather->floor.timestamp_ms)
		return 1;
	/* those before are done, and with them all stamps from here on */
	if (gather->work > work_max && segment->to_ms < end_of(gather->query)) {
		gather->cut = true;
		gather->cut_ms = segment->to_ms;
		return 1;
	}
	if (gather->work > (gather->query->work_hard ? gather->query->work_hard : WORK_HARD))
		return -E2BIG;
	struct sto_scan_filter filter = ctl_flagged_scan_filter(&gather->query->filter);
	filter.to_ms = end_of(gather->query);
	if (gather->has_floor && gather->floor.timestamp_ms > filter.from_ms)
		filter.from_ms = gather->floor.timestamp_ms;
	gather->work += WORK_OPEN;
	int rc = ctl_events_scan(gather->events, segment, &filter, &gather->scan);
	if (rc == -ENOTSUP)
		return ctl_events_rows(gather->events, segment, record_add, gather);
	while (!rc && (rc = sto_scan_next(gather->scan)) == 1) {
		gather->work += sto_scan_rows(gather->scan);
		rc = block_add(gather, segment);
	}
	return rc;
}

/* ---- the page ---- */

static bool by_place(const struct ctl_flagged_item *a, const struct ctl_flagged_item *b)
{
	return a->place.segment.sequence != b->place.segment.sequence ? a->place.segment.sequence < b->place.segment.sequence
								      : a->place.row < b->place.row;
}

static int place_compare(const void *left, const void *right)
{
	const struct ctl_flagged_item *const *a = left, *const *b = right;
	return by_place(*a, *b) ? -1 : by_place(*b, *a);
}

/* The records that are still in segments; in their order there, so that each block is decoded once. */
static int records_fetch(struct gather *gather, struct ctl_flagged_page *page)
{
	struct ctl_flagged_item *wanted[CTL_FLAGGED_MAX];
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct tp_event *event = (struct tp_event *)(void *)room;
	uint64_t open = UINT64_MAX;
	uint32_t count = 0;
	int rc = 0;
	for (uint32_t i = 0; i < page->count; i++)
		if (!page->item[i].event)
			wanted[count++] = &page->item[i];
	if (count)
		qsort(wanted, count, sizeof(wanted[0]), place_compare);
	for (uint32_t i = 0; i < count && !rc; i++) {
		struct ctl_flagged_item *item = wanted[i];
		if (item->place.segment.sequence != open)
			rc = ctl_events_scan(gather->events, &item->place.segment, NULL, &gather->scan);
		open = item->place.segment.sequence;
		if (!rc)
			rc = sto_scan_record(gather->scan, item->place.row, event);
		if (rc) {
			page->facts.damaged_sequence = rc == -EBADMSG ? open : 0;
			break;
		}
		item->event = malloc(event->bytes);
		if (!item->event)
			return -ENOMEM;
		memcpy(item->event, event, event->bytes);
	}
	return rc;
}

static void item_take(struct gather *gather, struct entry *entry, struct ctl_flagged_item *item)
{
	item->event = entry->event;
	entry->event = NULL;
	item->place = (struct ctl_place){
		.sealed = entry->segment != UINT32_MAX, .file_id = entry->file_id, .order = entry->order, .row = entry->row};
	if (item->place.sealed)
		item->place.segment = gather->segment[entry->segment];
	else
		item->place.offset = entry->offset;
}

static int page_make(struct gather *gather, struct ctl_flagged_page *page)
{
	const struct ctl_flagged_query *query = gather->query;
	settle(gather);
	/* complete down to here */
	struct ctl_flagged_key bound = gather->has_floor ? gather->floor : (struct ctl_flagged_key){0};
	const struct ctl_flagged_key cut = {.timestamp_ms = gather->cut_ms};
	if (gather->cut && key_compare(&cut, &bound) > 0)
		bound = cut;
	page->more = gather->has_floor || gather->cut;
	page->next = bound;
	for (uint32_t i = 0; i < gather->count; i++) {
		struct entry *entry = &gather->entry[i];
		if (key_compare(&entry->key, &bound) < 0 || !ctl_flagged_tags_fit(&query->filter, entry->fraud))
			continue;
		if (page->count == query->limit) {
			page->more = true;
			break;
		}
		item_take(gather, entry, &page->item[page->count++]);
		if (page->count == query->limit)
			page->next = entry->key;
	}
	return records_fetch(gather, page);
}

void ctl_flagged_free(struct ctl_flagged_page *page)
{
	for (uint32_t i = 0; i < page->count; i++)
		free(page->item[i].event);
	free(page->item);
	*page = (struct ctl_flagged_page){0};
}

static int list_once(struct gather *gather, const struct ctl_events_ask *ask, struct ctl_flagged_page *page)
{
	*page = (struct ctl_flagged_page){.item = calloc(gather->query->limit, sizeof(*page->item))};
	if (!page->item)
		return -ENOMEM;
	int rc = ctl_events_ask(gather->events, ask, &page->facts);
	return rc ? rc : page_make(gather, page);
}

int ctl_flagged_list(struct ctl_events *events, const struct ctl_flagged_query *query, struct ctl_flagged_page *page)
{
	assert(query->limit >= 1 && query->limit <= CTL_FLAGGED_MAX);
	struct gather gather = {.events = events, .query = query, .keep = 2 * query->limit + SLACK};
	const struct ctl_events_ask ask = {.context = &gather,
					   .from_ms = query->filter.from_ms,
					   .to_ms = end_of(query),
					   .order = CTL_EVENTS_BY_TIME,
					   .begin = gather_begin,
					   .kept = record_add,
					   .segment = segment_add};
	gather.max = 2 * gather.keep;
	gather.entry = malloc(gather.max * sizeof(*gather.entry));
	*page = (struct ctl_flagged_page){0};
	int rc = gather.entry ? -ESTALE : -ENOMEM;
	for (int tries = 0; tries < TRIES_MAX && rc == -ESTALE; tries++) {
		ctl_flagged_free(page);
		rc = list_once(&gather, &ask, page);
	}
	gather_begin(&gather);
	free(gather.entry);
	free(gather.segment);
	sto_scan_close(gather.scan);
	return rc == -ESTALE ? -EAGAIN : rc;
}
