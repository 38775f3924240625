/* Reading sessions out of a section, and merging partial ones. Pure; any thread. See session.h. */
#include "turnpike/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const struct agg_session_entry *entries_of(const void *section)
{
	return (const struct agg_session_entry *)(const void *)((const char *)section + sizeof(struct agg_session_head));
}

static const char *heap_of(const void *section)
{
	const struct agg_session_head *head = section;
	return (const char *)(entries_of(section) + head->sessions);
}

static bool names_fit(const char *heap, uint64_t heap_bytes, uint32_t at, uint32_t count)
{
	uint64_t here = at;
	for (uint32_t i = 0; i < count; i++) {
		if (here >= heap_bytes || heap_bytes - here - 1 < (uint8_t)heap[here])
			return false;
		here += 1 + (uint64_t)(uint8_t)heap[here];
	}
	return true;
}

int agg_sessions_check(const void *section, uint64_t bytes)
{
	const struct agg_session_head *head = section;
	if (bytes < sizeof(*head) || ((uintptr_t)section & 7) || head->version != AGG_SESSION_VERSION)
		return -EBADMSG;
	uint64_t entries_bytes = (uint64_t)head->sessions * sizeof(struct agg_session_entry);
	if (bytes - sizeof(*head) < entries_bytes || bytes - sizeof(*head) - entries_bytes != head->heap_bytes)
		return -EBADMSG;
	const struct agg_session_entry *entry = entries_of(section);
	const char *heap = heap_of(section);
	for (uint32_t i = 0; i < head->sessions; i++) {
		if (entry[i].ads > AGG_SESSION_NAMES_MAX || entry[i].publishers > AGG_SESSION_NAMES_MAX ||
		    entry[i].user_bytes == 0 || entry[i].start_ms > entry[i].end_ms || entry[i].user_at > head->heap_bytes ||
		    head->heap_bytes - entry[i].user_at < entry[i].user_bytes ||
		    !names_fit(heap, head->heap_bytes, entry[i].names_at, (uint32_t)entry[i].ads + entry[i].publishers))
			return -EBADMSG;
		if (i > 0 && entry[i].user_hash < entry[i - 1].user_hash)
			return -EBADMSG;
	}
	return 0;
}

uint32_t agg_sessions_count(const void *section)
{
	return ((const struct agg_session_head *)section)->sessions;
}

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
	int rc = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
	return rc ? rc : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

uint32_t agg_sessions_find(const void *section, const char *user, size_t user_bytes, uint32_t *first)
{
	const struct agg_session_head *head = section;
	const struct agg_session_entry *entry = entries_of(section);
	const char *heap = heap_of(section);
	uint64_t hash = XXH3_64bits(user, user_bytes);
	uint32_t low = 0, high = head->sessions;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct agg_session_entry *at = &entry[middle];
		bool before = at->user_hash < hash ||
			      (at->user_hash == hash && compare(heap + at->user_at, at->user_bytes, user, user_bytes) < 0);
		if (before)
			low = middle + 1;
		else
			high = middle;
	}
	*first = low;
	uint32_t count = 0;
	while (low + count < head->sessions && entry[low + count].user_hash == hash &&
	       compare(heap + entry[low + count].user_at, entry[low + count].user_bytes, user, user_bytes) == 0)
		count++;
	return count;
}

static const char *names_get(const char *at, uint32_t count, struct tp_str *names)
{
	for (uint32_t i = 0; i < count; i++) {
		names[i] = (struct tp_str){.at = at + 1, .bytes = (uint8_t)at[0]};
		at += 1 + names[i].bytes;
	}
	return at;
}

void agg_sessions_get(const void *section, uint32_t index, struct agg_session *session, struct tp_str *user)
{
	const struct agg_session_entry *entry = &entries_of(section)[index];
	const char *heap = heap_of(section);
	session->start_ms = entry->start_ms;
	session->end_ms = entry->end_ms;
	session->impressions = entry->impressions;
	session->conversions = entry->conversions;
	session->clicks = entry->clicks;
	session->flagged_clicks = entry->flagged_clicks;
	session->ads = entry->ads;
	session->publishers = entry->publishers;
	session->more_ads = entry->more & AGG_MORE_ADS;
	session->more_publishers = entry->more & AGG_MORE_PUBLISHERS;
	const char *at = names_get(heap + entry->names_at, entry->ads, session->ad);
	names_get(at, entry->publishers, session->publisher);
	if (user)
		*user = (struct tp_str){.at = heap + entry->user_at, .bytes = entry->user_bytes};
}

void agg_session_of(const struct tp_event *event, struct agg_session *session)
{
	bool flagged = event->type == TP_CLICK && event->fraud != 0;
	session->start_ms = session->end_ms = event->timestamp_ms;
	session->impressions = session->conversions = session->clicks = session->flagged_clicks = 0;
	session->ads = session->publishers = 0;
	session->more_ads = session->more_publishers = false;
	if (event->verdict == TP_AMENDED) {
		session->clicks += !flagged;
		session->flagged_clicks -= !flagged;
		return;
	}
	session->impressions = event->type == TP_IMPRESSION;
	session->conversions = event->type == TP_CONVERSION;
	session->clicks = event->type == TP_CLICK && !flagged;
	session->flagged_clicks = flagged;
	struct tp_str ad = tp_event_string(event, TP_AD_ID), publisher = tp_event_string(event, TP_PUBLISHER_ID);
	if (ad.bytes)
		session->ad[session->ads++] = ad;
	if (publisher.bytes)
		session->publisher[session->publishers++] = publisher;
}

bool agg_session_joins(const struct agg_session *a, const struct agg_session *b, uint64_t gap_ms)
{
	if (a->start_ms > b->start_ms)
		return agg_session_joins(b, a, gap_ms);
	return b->start_ms <= a->end_ms || b->start_ms - a->end_ms < gap_ms;
}

static void names_merge(struct tp_str *into, uint32_t *count, bool *more, const struct tp_str *from, uint32_t from_count)
{
	for (uint32_t i = 0; i < from_count; i++) {
		uint32_t k = 0;
		while (k < *count && compare(into[k].at, into[k].bytes, from[i].at, from[i].bytes) != 0)
			k++;
		if (k < *count)
			continue;
		if (*count == AGG_SESSION_NAMES_MAX)
			*more = true;
		else
			into[(*count)++] = from[i];
	}
}

void agg_session_merge(struct agg_session *into, const struct agg_session *from)
{
	if (from->start_ms < into->start_ms)
		into->start_ms = from->start_ms;
	if (from->end_ms > into->end_ms)
		into->end_ms = from->end_ms;
	into->impressions += from->impressions;
	into->conversions += from->conversions;
	into->clicks += from->clicks;
	into->flagged_clicks += from->flagged_clicks;
	into->more_ads |= from->more_ads;
	into->more_publishers |= from->more_publishers;
	names_merge(into->ad, &into->ads, &into->more_ads, from->ad, from->ads);
	names_merge(into->publisher, &into->publishers, &into->more_publishers, from->publisher, from->publishers);
}

static int by_start(const void *first, const void *second)
{
	const struct agg_session *a = first, *b = second;
	if (a->start_ms != b->start_ms)
		return a->start_ms < b->start_ms ? -1 : 1;
	return (a->end_ms > b->end_ms) - (a->end_ms < b->end_ms);
}

uint32_t agg_sessions_merge(struct agg_session *sessions, uint32_t count, uint64_t gap_ms)
{
	if (count == 0)
		return 0;
	qsort(sessions, count, sizeof(*sessions), by_start);
	uint32_t left = 0;
	for (uint32_t i = 1; i < count; i++) {
		if (agg_session_joins(&sessions[left], &sessions[i], gap_ms))
			agg_session_merge(&sessions[left], &sessions[i]);
		else if (++left != i)
			sessions[left] = sessions[i];
	}
	return left + 1;
}
