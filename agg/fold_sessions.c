/*
 * Sessions from a fold: sort by user and time, cut at the gaps, write the section of session.h. A background thread enters, or a
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

static int by_user(const void *first, const void *second, void *context)
{
	const struct agg_fold *fold = context;
	const struct fold_item *a = first, *b = second;
	if (a->user != b->user) {
		uint64_t hash_a = fold->hash[a->user], hash_b = fold->hash[b->user];
		if (hash_a != hash_b)
			return hash_a < hash_b ? -1 : 1;
		struct tp_str name_a = fold_string(fold, a->user), name_b = fold_string(fold, b->user);
		int rc = memcmp(name_a.at, name_b.at, name_a.bytes < name_b.bytes ? name_a.bytes : name_b.bytes);
		return rc ? rc : name_a.bytes - name_b.bytes;
	}
	if (a->timestamp_ms != b->timestamp_ms)
		return a->timestamp_ms < b->timestamp_ms ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

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

/* One session: items [from, to), one user's, in order of time. */
static void session_put(struct writer *writer, const struct agg_fold *fold, uint64_t from, uint64_t to)
{
	struct agg_session_entry entry = {.start_ms = fold->item[from].timestamp_ms, .end_ms = fold->item[to - 1].timestamp_ms};
	struct numbers ads = {0}, publishers = {0};
	for (uint64_t i = from; i < to; i++) {
		const struct fold_item *item = &fold->item[i];
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
	uint32_t user = fold->item[from].user;
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
}

static void sessions_put(struct writer *writer, const struct agg_fold *fold)
{
	for (uint64_t from = 0, to; from < fold->items; from = to) {
		to = from + 1;
		while (to < fold->items && fold->item[to].user == fold->item[from].user &&
		       fold->item[to].timestamp_ms - fold->item[to - 1].timestamp_ms < fold->gap_ms)
			to++;
		if (fold->item[from].user)
			session_put(writer, fold, from, to);
	}
}

uint64_t agg_fold_sessions(struct agg_fold *fold, void *to)
{
	if (fold->items && fold->order != FOLD_BY_USER)
		qsort_r(fold->item, fold->items, sizeof(*fold->item), by_user, fold);
	fold->order = FOLD_BY_USER;
	struct writer measured = {0};
	sessions_put(&measured, fold);
	uint64_t entries_bytes = measured.sessions * sizeof(struct agg_session_entry);
	uint64_t heap_bytes = (measured.heap_bytes + 7) & ~UINT64_C(7);
	if (to) {
		char *heap = (char *)to + sizeof(struct agg_session_head) + entries_bytes;
		struct writer writer = {.entry = (void *)((char *)to + sizeof(struct agg_session_head)), .heap = heap};
		sessions_put(&writer, fold);
		memset(heap + writer.heap_bytes, 0, heap_bytes - writer.heap_bytes);
		*(struct agg_session_head *)to = (struct agg_session_head){.version = AGG_SESSION_VERSION,
									   .sessions = measured.sessions,
									   .gap_ms = fold->gap_ms,
									   .heap_bytes = heap_bytes};
	}
	return sizeof(struct agg_session_head) + entries_bytes + heap_bytes;
}
