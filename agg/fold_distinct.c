/*
 * Distinct users from a fold: sort by campaign, hour and register, keep each register's largest rank, write the section of
 * distinct.h. See fold.h for who enters.
 */
#include "distinct_rank.h"
#include "fold.h"

#include <stdlib.h>
#include <string.h>

enum { SPARSE_ENTRY_BYTES = 3, SPARSE_MAX = 1200 }; /* beyond, the dense form is about as small, and faster to merge */

#define HOUR_MS UINT64_C(3600000)

struct section_head {
	uint32_t version, entries;
	uint64_t data_bytes;
};

struct writer {
	struct agg_distinct_entry *entry;
	uint8_t *data;
	uint32_t entries;
	uint64_t data_bytes;
	uint32_t campaign_before, name_at;
};

static int by_campaign(const void *first, const void *second, void *context)
{
	const struct agg_fold *fold = context;
	const struct fold_item *a = first, *b = second;
	if (a->campaign != b->campaign) {
		uint64_t hash_a = fold->hash[a->campaign], hash_b = fold->hash[b->campaign];
		if (hash_a != hash_b)
			return hash_a < hash_b ? -1 : 1;
		struct tp_str name_a = fold_string(fold, a->campaign), name_b = fold_string(fold, b->campaign);
		int rc = memcmp(name_a.at, name_b.at, name_a.bytes < name_b.bytes ? name_a.bytes : name_b.bytes);
		return rc ? rc : name_a.bytes - name_b.bytes;
	}
	uint64_t hour_a = a->timestamp_ms / HOUR_MS, hour_b = b->timestamp_ms / HOUR_MS;
	if (hour_a != hour_b)
		return hour_a < hour_b ? -1 : 1;
	uint64_t user_a = fold->hash[a->user], user_b = fold->hash[b->user];
	return user_a < user_b ? -1 : user_a > user_b;
}

static void data_put(struct writer *writer, const void *from, size_t bytes)
{
	if (writer->data)
		memcpy(writer->data + writer->data_bytes, from, bytes);
	writer->data_bytes += bytes;
}

/* Items [from, to) of one campaign and hour, by user hash: so registers ascend. */
static void entry_put(struct writer *writer, const struct agg_fold *fold, uint64_t from, uint64_t to)
{
	struct agg_distinct ranks = {0};
	uint32_t used = 0;
	for (uint64_t i = from; i < to; i++) {
		if (!fold->item[i].user)
			continue;
		uint64_t hash = fold->hash[fold->item[i].user];
		uint8_t *rank = &ranks.rank[distinct_register(hash)];
		used += *rank == 0;
		if (distinct_rank(hash) > *rank)
			*rank = distinct_rank(hash);
	}
	if (used == 0)
		return;
	uint32_t campaign = fold->item[from].campaign;
	struct tp_str name = fold_string(fold, campaign);
	if (campaign != writer->campaign_before) {
		writer->campaign_before = campaign;
		writer->name_at = (uint32_t)writer->data_bytes;
		data_put(writer, name.at, name.bytes);
	}
	struct agg_distinct_entry entry = {
		.campaign_hash = fold->hash[campaign],
		.hour = (uint32_t)(fold->item[from].timestamp_ms / HOUR_MS),
		.name_at = writer->name_at,
		.name_bytes = (uint8_t)name.bytes,
		.ranks_at = (uint32_t)writer->data_bytes,
		.ranks = (uint16_t)(used > SPARSE_MAX ? AGG_DISTINCT_REGISTERS : used),
	};
	if (used > SPARSE_MAX)
		data_put(writer, ranks.rank, sizeof(ranks.rank));
	for (uint32_t i = 0; used <= SPARSE_MAX && i < AGG_DISTINCT_REGISTERS; i++) {
		uint8_t one[SPARSE_ENTRY_BYTES] = {(uint8_t)i, (uint8_t)(i >> 8), ranks.rank[i]};
		if (ranks.rank[i])
			data_put(writer, one, sizeof(one));
	}
	if (writer->entry)
		writer->entry[writer->entries] = entry;
	writer->entries++;
}

static void entries_put(struct writer *writer, const struct agg_fold *fold)
{
	for (uint64_t from = 0, to; from < fold->items; from = to) {
		const struct fold_item *first = &fold->item[from];
		to = from + 1;
		while (to < fold->items && fold->item[to].campaign == first->campaign &&
		       fold->item[to].timestamp_ms / HOUR_MS == first->timestamp_ms / HOUR_MS)
			to++;
		entry_put(writer, fold, from, to);
	}
}

uint64_t agg_fold_distinct(struct agg_fold *fold, void *to)
{
	if (fold->items && fold->order != FOLD_BY_CAMPAIGN)
		qsort_r(fold->item, fold->items, sizeof(*fold->item), by_campaign, fold);
	fold->order = FOLD_BY_CAMPAIGN;
	struct writer measured = {0};
	entries_put(&measured, fold);
	if (measured.entries == 0)
		return 0;
	uint64_t entries_bytes = measured.entries * sizeof(struct agg_distinct_entry);
	uint64_t data_bytes = (measured.data_bytes + 7) & ~UINT64_C(7);
	if (to) {
		uint8_t *data = (uint8_t *)to + sizeof(struct section_head) + entries_bytes;
		struct writer writer = {.entry = (void *)((char *)to + sizeof(struct section_head)), .data = data};
		entries_put(&writer, fold);
		memset(data + writer.data_bytes, 0, data_bytes - writer.data_bytes);
		*(struct section_head *)to = (struct section_head){
			.version = AGG_DISTINCT_VERSION, .entries = measured.entries, .data_bytes = data_bytes};
	}
	return sizeof(struct section_head) + entries_bytes + data_bytes;
}
