/*
 * Distinct users from a fold: its items by campaign and hour, each register's largest rank, written as the section of
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

static void data_put(struct writer *writer, const void *from, size_t bytes)
{
	if (writer->data)
		memcpy(writer->data + writer->data_bytes, from, bytes);
	writer->data_bytes += bytes;
}

/* Puts the users of the campaign and hour of the item at place `from`. Returns where the next ones begin. */
static uint64_t entry_put(struct writer *writer, const struct agg_fold *fold, uint64_t from)
{
	const struct fold_item *item = fold_at(fold, from);
	const uint32_t campaign = item->campaign;
	const uint64_t hour = item->timestamp_ms / HOUR_MS;
	struct agg_distinct ranks = {0};
	uint64_t at = from;
	uint32_t used = 0;
	for (; at < fold->ordered; at++) {
		item = fold_at(fold, at);
		if (item->campaign != campaign || item->timestamp_ms / HOUR_MS != hour)
			break;
		if (!item->user)
			continue;
		uint64_t hash = fold->hash[item->user];
		uint8_t *rank = &ranks.rank[distinct_register(hash)];
		used += *rank == 0;
		if (distinct_rank(hash) > *rank)
			*rank = distinct_rank(hash);
	}
	if (used == 0)
		return at;
	struct tp_str name = fold_string(fold, campaign);
	if (campaign != writer->campaign_before) {
		writer->campaign_before = campaign;
		writer->name_at = (uint32_t)writer->data_bytes;
		data_put(writer, name.at, name.bytes);
	}
	struct agg_distinct_entry entry = {
		.campaign_hash = fold->hash[campaign],
		.hour = (uint32_t)hour,
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
	return at;
}

static void entries_put(struct writer *writer, const struct agg_fold *fold)
{
	for (uint64_t at = 0, piece = 0; at < fold->ordered;) {
		at = entry_put(writer, fold, at);
		piece = fold_give_way(fold, piece, at);
	}
}

uint64_t agg_fold_distinct(struct agg_fold *fold, void *to)
{
	fold_order(fold, FOLD_BY_CAMPAIGN);
	if (!fold->measured.done) {
		struct writer measuring = {0};
		entries_put(&measuring, fold);
		fold->measured = (struct fold_measured){.done = true, .entries = measuring.entries, .bytes = measuring.data_bytes};
	}
	const struct fold_measured measured = fold->measured;
	if (measured.entries == 0)
		return 0;
	uint64_t entries_bytes = measured.entries * sizeof(struct agg_distinct_entry);
	uint64_t data_bytes = (measured.bytes + 7) & ~UINT64_C(7);
	if (to) {
		uint8_t *data = (uint8_t *)to + sizeof(struct section_head) + entries_bytes;
		struct writer writer = {.entry = (void *)((char *)to + sizeof(struct section_head)), .data = data};
		entries_put(&writer, fold);
		memset(data + writer.data_bytes, 0, data_bytes - writer.data_bytes);
		*(struct section_head *)to = (struct section_head){
			.version = AGG_DISTINCT_VERSION, .entries = (uint32_t)measured.entries, .data_bytes = data_bytes};
	}
	return sizeof(struct section_head) + entries_bytes + data_bytes;
}
