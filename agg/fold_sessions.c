/*
 * Sessions from a fold: its items by user and time, cut at the gaps, write the section of session.h. A background thread enters, or a
 * reader; see fold.h. An amendment lies at its click's stamp; where no tag is left, it moves the click
 * from flagged to valid.
 */
#include "fold.h"
#include "turnpike/session.h"

#include <stdlib.h>
#include <string.h>

/* Where a section is being written; with no memory behind it, only lengths are summed. */
struct writer {
	struct agg_session_entry *entry;
	char *heap;
	uint32_t sessions;
	uint64_t heap_bytes;
	uint32_t user_before, user_at; /* users follow each other: each name is written once */
};

static void heap_put(struct writer *writer, const void *from, size_t bytes)
{
	if (writer->heap && bytes)
		memcpy(writer->heap + writer->heap_bytes, from, bytes);
	writer->heap_bytes += bytes;
}

/* Distinct numbers, in the order in which they come. */
struct numbers {
	uint32_t number[AGG_SESSION_NAMES_MAX];
	uint8_t count;
	bool more;
};

static void numbers_add(struct numbers *numbers, uint32_t number)
{
	if (number == 0)
		return;
	for (uint32_t i = 0; i < numbers->count; i++)
		if (numbers->number[i] == number)
			return;
	if (numbers->count == AGG_SESSION_NAMES_MAX)
		numbers->more = true;
	else
		numbers->number[numbers->count++] = number;
}

static void names_put(struct writer *writer, const struct agg_fold *fold, const struct numbers *numbers)
{
	for (uint32_t i = 0; i < numbers->count; i++) {
		struct tp_str name = fold_string(fold, numbers->number[i]);
		uint8_t bytes = (uint8_t)name.bytes;
		heap_put(writer, &bytes, 1);
		heap_put(writer, name.at, name.bytes);
	}
}

/* Puts the session that begins at place `from`, items of one user in order of time. Returns where it ends. */
static uint64_t session_put(struct writer *writer, const struct agg_fold *fold, uint64_t from)
{
	const struct fold_item *item = fold_at(fold, from);
	const uint32_t user = item->user;
	struct agg_session_entry entry = {.start_ms = item->timestamp_ms, .end_ms = item->timestamp_ms};
	struct numbers ads, publishers;
	uint64_t at = from;
	ads.count = publishers.count = 0;
	ads.more = publishers.more = false;
	for (; at < fold->ordered; at++) {
		item = fold_at(fold, at);
		if (item->user != user || item->timestamp_ms - entry.end_ms >= fold->gap_ms)
			break;
		entry.end_ms = item->timestamp_ms;
		if (item->amended) {
			entry.clicks += !item->flagged;
			entry.flagged_clicks -= !item->flagged;
			continue;
		}
		entry.impressions += item->type == TP_IMPRESSION;
		entry.conversions += item->type == TP_CONVERSION;
		entry.clicks += item->type == TP_CLICK && !item->flagged;
		entry.flagged_clicks += item->type == TP_CLICK && item->flagged;
		numbers_add(&ads, item->ad);
		numbers_add(&publishers, item->publisher);
	}
	struct tp_str name = fold_string(fold, user);
	if (user != writer->user_before) {
		writer->user_before = user;
		writer->user_at = (uint32_t)writer->heap_bytes;
		heap_put(writer, name.at, name.bytes);
	}
	entry.user_hash = fold->hash[user];
	entry.user_at = writer->user_at;
	entry.user_bytes = (uint8_t)name.bytes;
	entry.names_at = (uint32_t)writer->heap_bytes;
	entry.ads = ads.count;
	entry.publishers = publishers.count;
	entry.more = (ads.more ? AGG_MORE_ADS : 0) | (publishers.more ? AGG_MORE_PUBLISHERS : 0);
	names_put(writer, fold, &ads);
	names_put(writer, fold, &publishers);
	if (writer->entry)
		writer->entry[writer->sessions] = entry;
	writer->sessions++;
	return at;
}

static void sessions_put(struct writer *writer, const struct agg_fold *fold)
{
	uint64_t at = 0;
	while (at < fold->ordered && !fold_at(fold, at)->user)
		at++;
	for (uint64_t piece = 0; at < fold->ordered;) {
		at = session_put(writer, fold, at);
		piece = fold_give_way(fold, piece, at);
	}
}

uint64_t agg_fold_sessions(struct agg_fold *fold, void *to)
{
	fold_order(fold, FOLD_BY_USER);
	if (!fold->measured.done) {
		struct writer measuring = {0};
		sessions_put(&measuring, fold);
		fold->measured = (struct fold_measured){.done = true, .entries = measuring.sessions, .bytes = measuring.heap_bytes};
	}
	const struct fold_measured measured = fold->measured;
	uint64_t entries_bytes = measured.entries * sizeof(struct agg_session_entry);
	uint64_t heap_bytes = (measured.bytes + 7) & ~UINT64_C(7);
	if (to) {
		char *heap = (char *)to + sizeof(struct agg_session_head) + entries_bytes;
		struct writer writer = {.entry = (void *)((char *)to + sizeof(struct agg_session_head)), .heap = heap};
		sessions_put(&writer, fold);
		memset(heap + writer.heap_bytes, 0, heap_bytes - writer.heap_bytes);
		*(struct agg_session_head *)to = (struct agg_session_head){.version = AGG_SESSION_VERSION,
									   .sessions = (uint32_t)measured.entries,
									   .gap_ms = fold->gap_ms,
									   .heap_bytes = heap_bytes};
	}
	return sizeof(struct agg_session_head) + entries_bytes + heap_bytes;
}
