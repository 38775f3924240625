/*
 * The heavy hitters among addresses: from a fold, in a section, merged. Pure; see sources.h for the bounds and fold.h for who enters.
 */
#include "turnpike/sources.h"

#include "fold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct section_head {
	uint32_t version, minutes;
	uint64_t zero;
};

struct section_minute {
	uint32_t minute, sources;
	uint64_t missed, at;
};

struct section_source {
	uint8_t ip[16];
	uint64_t clicks;
};

static_assert(sizeof(struct section_head) == 16 && sizeof(struct section_minute) == 24 && sizeof(struct section_source) == 24,
	      "disk format");

/* Most clicks first, then by address: one order for all, so that equal input gives equal bytes. */
static int by_clicks(const void *first, const void *second)
{
	const struct agg_source *a = first, *b = second;
	if (a->clicks != b->clicks)
		return a->clicks > b->clicks ? -1 : 1;
	return memcmp(a->ip, b->ip, sizeof(a->ip));
}

/* Takes a counted address into a list that is kept in order. */
static void source_put(struct agg_sources *sources, const struct agg_source *source)
{
	uint32_t at = sources->count;
	if (at == AGG_SOURCES) {
		struct agg_source *last = &sources->source[AGG_SOURCES - 1];
		const struct agg_source *out = by_clicks(source, last) < 0 ? last : source;
		if (out->clicks + out->over > sources->missed)
			sources->missed = out->clicks + out->over;
		if (out == source)
			return;
		at--;
	} else {
		sources->count++;
	}
	for (; at > 0 && by_clicks(source, &sources->source[at - 1]) < 0; at--)
		sources->source[at] = sources->source[at - 1];
	sources->source[at] = *source;
}

void agg_sources_merge(struct agg_sources *into, const struct agg_sources *from)
{
	struct agg_sources old = *into;
	bool used[AGG_SOURCES] = {0};
	into->count = 0;
	/* An address that neither side has may have missed both. */
	into->missed = old.missed + from->missed;
	for (uint32_t i = 0; i < old.count; i++) {
		struct agg_source one = old.source[i];
		uint32_t k = 0;
		while (k < from->count && memcmp(from->source[k].ip, one.ip, sizeof(one.ip)) != 0)
			k++;
		if (k < from->count) {
			used[k] = true;
			one.clicks += from->source[k].clicks;
			one.over += from->source[k].over;
		} else {
			one.over += from->missed;
		}
		source_put(into, &one);
	}
	for (uint32_t k = 0; k < from->count; k++) {
		struct agg_source one = from->source[k];
		one.over += old.missed;
		if (!used[k])
			source_put(into, &one);
	}
}

/* ---- from a fold ---- */

/* The minute that begins at place `from`; returns where the next one does. */
static uint64_t minute_sum(const struct agg_fold *fold, uint64_t from, struct agg_sources *sources)
{
	const uint64_t minute = fold_at(fold, from)->timestamp_ms / TP_MINUTE_MS;
	sources->count = 0;
	sources->missed = 0;
	while (from < fold->ordered) {
		const struct fold_item *item = fold_at(fold, from);
		struct agg_source one = {0};
		if (item->timestamp_ms / TP_MINUTE_MS != minute)
			break;
		memcpy(one.ip, item->ip, sizeof(one.ip));
		do {
			one.clicks++;
			from++;
		} while (from < fold->ordered && (item = fold_at(fold, from))->timestamp_ms / TP_MINUTE_MS == minute &&
			 memcmp(item->ip, one.ip, sizeof(one.ip)) == 0);
		source_put(sources, &one);
	}
	return from;
}

uint64_t agg_fold_sources(struct agg_fold *fold, void *to)
{
	fold_order(fold, FOLD_BY_MINUTE);
	uint32_t minutes = 0;
	uint64_t all = 0;
	struct agg_sources sources;
	for (uint64_t at = 0; at < fold->ordered; minutes++) {
		at = minute_sum(fold, at, &sources);
		all += sources.count;
	}
	if (minutes == 0)
		return 0;
	uint64_t offset = sizeof(struct section_head) + minutes * sizeof(struct section_minute);
	uint64_t bytes = offset + all * sizeof(struct section_source);
	if (!to)
		return bytes;
	*(struct section_head *)to = (struct section_head){.version = AGG_SOURCES_VERSION, .minutes = minutes};
	struct section_minute *row = (void *)((char *)to + sizeof(struct section_head));
	for (uint64_t at = 0; at < fold->ordered; row++) {
		row->minute = (uint32_t)(fold_at(fold, at)->timestamp_ms / TP_MINUTE_MS);
		at = minute_sum(fold, at, &sources);
		row->sources = sources.count;
		row->missed = sources.missed;
		row->at = offset;
		struct section_source *one = (void *)((char *)to + offset);
		for (uint32_t i = 0; i < sources.count; i++, one++, offset += sizeof(*one)) {
			memcpy(one->ip, sources.source[i].ip, sizeof(one->ip));
			one->clicks = sources.source[i].clicks;
		}
	}
	return bytes;
}

uint32_t agg_fold_sources_take(struct agg_fold *fold, uint32_t from_minute, uint32_t to_minute, struct agg_sources *into)
{
	uint32_t found = 0;
	fold_order(fold, FOLD_BY_MINUTE);
	for (uint64_t at = 0; at < fold->ordered;) {
		struct agg_sources sources;
		uint64_t minute = fold_at(fold, at)->timestamp_ms / TP_MINUTE_MS;
		at = minute_sum(fold, at, &sources);
		if (minute < from_minute || minute >= to_minute)
			continue;
		agg_sources_merge(into, &sources);
		found++;
	}
	return found;
}

/* ---- reading ---- */

int agg_sources_check(const void *section, uint64_t bytes)
{
	const struct section_head *head = section;
	if (bytes < sizeof(*head) || ((uintptr_t)section & 7) || head->version != AGG_SOURCES_VERSION ||
	    (bytes - sizeof(*head)) / sizeof(struct section_minute) < head->minutes)
		return -EBADMSG;
	const struct section_minute *row = (const void *)((const char *)section + sizeof(*head));
	for (uint32_t i = 0; i < head->minutes; i++)
		if (row[i].sources > AGG_SOURCES || row[i].at > bytes || row[i].at % 8 ||
		    bytes - row[i].at < row[i].sources * sizeof(struct section_source) ||
		    (i > 0 && row[i].minute <= row[i - 1].minute))
			return -EBADMSG;
	return 0;
}

uint32_t agg_sources_take(const void *section, uint32_t from_minute, uint32_t to_minute, struct agg_sources *into)
{
	const struct section_head *head = section;
	const struct section_minute *row = (const void *)((const char *)section + sizeof(*head));
	uint32_t found = 0;
	for (uint32_t i = 0; i < head->minutes; i++) {
		if (row[i].minute < from_minute || row[i].minute >= to_minute)
			continue;
		struct agg_sources sources = {.count = row[i].sources, .missed = row[i].missed};
		const struct section_source *one = (const void *)((const char *)section + row[i].at);
		for (uint32_t k = 0; k < sources.count; k++) {
			memcpy(sources.source[k].ip, one[k].ip, sizeof(one[k].ip));
			sources.source[k].clicks = one[k].clicks;
		}
		agg_sources_merge(into, &sources);
		found++;
	}
	return found;
}
