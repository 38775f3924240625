/*
 * Questions to a fold whose log file is not sealed yet: one walk over its items. A reader enters, between two takings of events; see
 * fold.h. Sources are in sources.c, beside what they need.
 */
#include "distinct_rank.h"
#include "fold.h"
#include "turnpike/session.h"

#include <string.h>

#define HOUR_MS UINT64_C(3600000)

uint64_t agg_fold_used(const struct agg_fold *fold)
{
	/* names lie in an index too, at random: its pages are all touched soon */
	return fold->items * sizeof(struct fold_item) + fold->names * (sizeof(struct fold_name) + sizeof(uint64_t)) +
	       fold->heap_bytes + (fold->names > 1 ? fold->slots * sizeof(uint64_t) : 0) +
	       fold->order_items * (sizeof(*fold->place) + sizeof(*fold->spare) + sizeof(*fold->key)) +
	       fold->timed * sizeof(*fold->by_time);
}

/* The number of a string that was seen; 0: it was not. */
static uint32_t number_find(const struct agg_fold *fold, const char *at, size_t bytes)
{
	uint64_t hash = XXH3_64bits(at, bytes);
	for (uint32_t slot = (uint32_t)hash & (fold->slots - 1);; slot = (slot + 1) & (fold->slots - 1)) {
		uint32_t number = (uint32_t)fold->slot[slot];
		if (number == 0)
			return 0;
		if (fold->slot[slot] == fold_slot(hash, number) && fold->name[number].bytes == bytes &&
		    memcmp(fold->heap + fold->name[number].at, at, bytes) == 0)
			return number;
	}
}

static void session_of(const struct agg_fold *fold, const struct fold_item *item, struct agg_session *session)
{
	session->start_ms = session->end_ms = item->timestamp_ms;
	session->impressions = session->conversions = session->clicks = session->flagged_clicks = 0;
	session->ads = session->publishers = 0;
	session->more_ads = session->more_publishers = false;
	if (item->amended) {
		session->clicks += !item->flagged;
		session->flagged_clicks -= !item->flagged;
		return;
	}
	session->impressions = item->type == TP_IMPRESSION;
	session->conversions = item->type == TP_CONVERSION;
	session->clicks = item->type == TP_CLICK && !item->flagged;
	session->flagged_clicks = item->type == TP_CLICK && item->flagged;
	if (item->ad)
		session->ad[session->ads++] = fold_string(fold, item->ad);
	if (item->publisher)
		session->publisher[session->publishers++] = fold_string(fold, item->publisher);
}

bool agg_fold_user(const struct agg_fold *fold, const char *user, size_t bytes, agg_fold_session_fn fn, void *context)
{
	uint32_t number = bytes ? number_find(fold, user, bytes) : 0;
	for (uint64_t i = 0; number && i < fold->items; i++) {
		struct agg_session session;
		if (fold->item[i].user != number)
			continue;
		session_of(fold, &fold->item[i], &session);
		if (!fn(context, &session))
			return false;
	}
	return true;
}

uint64_t agg_fold_distinct_take(const struct agg_fold *fold, const char *campaign, size_t bytes, uint32_t from_hour,
				uint32_t to_hour, struct agg_distinct *into)
{
	uint32_t number = bytes ? number_find(fold, campaign, bytes) : 0;
	uint64_t found = 0;
	for (uint64_t i = 0; number && i < fold->items; i++) {
		const struct fold_item *item = &fold->item[i];
		uint64_t hour = item->timestamp_ms / HOUR_MS;
		if (item->campaign != number || hour < from_hour || hour >= to_hour)
			continue;
		found++;
		if (!item->user)
			continue;
		uint64_t hash = fold->hash[item->user];
		uint8_t *rank = &into->rank[distinct_register(hash)];
		if (distinct_rank(hash) > *rank)
			*rank = distinct_rank(hash);
	}
	return found;
}
