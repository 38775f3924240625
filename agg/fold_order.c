/*
 * The orders in which a fold's items are gone through. Items lie as they came, 48 bytes each; what is sorted are their numbers, by radix, and
 * where names decide, by the names' places among each other: each name is compared a few times, not each item.
 *
 *   by stamp ─┬─ by the rank of the user      ─► FOLD_BY_USER
 *             └─ by the rank of the campaign  ─► FOLD_BY_CAMPAIGN
 *   clicks with an address ─ by address ─ by minute ─► FOLD_BY_MINUTE
 *
 * Whoever sends events can choose stamps, addresses and names, but not make this slower than a pass for each eleven bits, or n log n where all
 * hashes of names fall together.
 *
 * Entered by who entered fold.h.
 */
#include "fold.h"

#include <stdlib.h>
#include <string.h>

enum { INSERTION_MAX = 24 };

/* Number 0, the empty name, comes first, whatever the hashes. */
static bool name_less(const struct agg_fold *fold, uint32_t a, uint32_t b)
{
	if (fold->hash[a] != fold->hash[b])
		return fold->hash[a] < fold->hash[b];
	struct tp_str x = fold_string(fold, a), y = fold_string(fold, b);
	int c = memcmp(x.at, y.at, x.bytes < y.bytes ? x.bytes : y.bytes);
	return c ? c < 0 : x.bytes < y.bytes;
}

static int name_compare(const void *left, const void *right, void *fold)
{
	const uint32_t *a = left, *b = right;
	return name_less(fold, *a, *b) ? -1 : name_less(fold, *b, *a);
}

static void names_sort_few(const struct agg_fold *fold, uint32_t *name, uint32_t count)
{
	if (count > INSERTION_MAX) {
		qsort_r(name, count, sizeof(*name), name_compare, (void *)(uintptr_t)fold);
		return;
	}
	for (uint32_t i = 1; i < count; i++) {
		const uint32_t one = name[i];
		uint32_t at = i;
		for (; at && name_less(fold, one, name[at - 1]); at--)
			name[at] = name[at - 1];
		name[at] = one;
	}
}

/* Sorts names by hash: those with the same first bits lie together at once, and there is about one of each. `to` gets them. */
static void names_sort(const struct agg_fold *fold, const uint32_t *name, uint32_t count, uint32_t *to, uint32_t *start)
{
	uint32_t bits = 1;
	while ((1u << bits) < count)
		bits++;
	const uint32_t buckets = 1u << bits;
	memset(start, 0, buckets * sizeof(*start));
	for (uint32_t i = 0; i < count; i++)
		start[fold->hash[name[i]] >> (64 - bits)]++;
	for (uint32_t b = 0, before = 0; b < buckets; b++) {
		const uint32_t here = start[b];
		start[b] = before;
		before += here;
	}
	uint64_t piece = 0;
	for (uint32_t i = 0; i < count; i++) {
		to[start[fold->hash[name[i]] >> (64 - bits)]++] = name[i];
		piece = fold_give_way(fold, piece, i);
	}
	piece = 0;
	for (uint32_t b = 0, from = 0; b < buckets; from = start[b++]) {
		if (start[b] - from > 1)
			names_sort_few(fold, to + from, start[b] - from);
		piece = fold_give_way(fold, piece, b);
	}
}

static uint32_t campaign_of(const struct fold_item *item)
{
	return item->campaign;
}

static uint32_t user_of(const struct fold_item *item)
{
	return item->user;
}

/* Ranks the names that items have in one field, from 1 on, and makes them the items' keys. Returns how many there are. */
static inline uint32_t names_rank(struct agg_fold *fold, uint32_t (*name_of)(const struct fold_item *item))
{
	uint32_t *found = fold->spare, *sorted = fold->place, names = 0;
	uint64_t piece = 0;
	memset(fold->rank, 0, fold->names * sizeof(*fold->rank));
	for (uint64_t i = 0; i < fold->items; i++) {
		const uint32_t name = name_of(&fold->item[i]);
		if (name && !fold->rank[name]) {
			fold->rank[name] = 1;
			found[names++] = name;
		}
		piece = fold_give_way(fold, piece, i);
	}
	/* at most twice as many buckets as names, of four bytes each: there is room for that many keys, or two of the least */
	names_sort(fold, found, names, sorted, (uint32_t *)(void *)fold->key);
	for (uint32_t i = 0; i < names; i++)
		fold->rank[sorted[i]] = i + 1;
	piece = 0;
	for (uint64_t i = 0; i < fold->items; i++) {
		fold->key[i] = fold->rank[name_of(&fold->item[i])];
		piece = fold_give_way(fold, piece, i);
	}
	return names;
}

/* All bits up to the highest one. */
static uint64_t bits_below(uint64_t highest)
{
	return highest ? UINT64_MAX >> __builtin_clzll(highest) : 0;
}

static void by_time_make(struct agg_fold *fold)
{
	if (fold->timed == fold->items)
		return;
	const uint64_t first = fold->item[0].timestamp_ms;
	uint64_t differ = 0;
	for (uint64_t i = 0; i < fold->items; i++) {
		fold->key[i] = fold->item[i].timestamp_ms;
		differ |= fold->key[i] ^ first;
		fold->by_time[i] = (uint32_t)i;
	}
	tp_radix_sort(&fold->by_time, &fold->spare, (uint32_t)fold->items, fold->key, differ, &fold->yield);
	fold->timed = fold->items;
}

static void by_name_make(struct agg_fold *fold, uint32_t names)
{
	memcpy(fold->place, fold->by_time, fold->items * sizeof(*fold->place));
	tp_radix_sort(&fold->place, &fold->spare, (uint32_t)fold->items, fold->key, bits_below(names), &fold->yield);
	fold->ordered = fold->items;
}

static void by_key_make(struct agg_fold *fold)
{
	uint64_t differ = 0;
	for (uint64_t i = 1; i < fold->ordered; i++)
		differ |= fold->key[fold->place[i]] ^ fold->key[fold->place[0]];
	tp_radix_sort(&fold->place, &fold->spare, (uint32_t)fold->ordered, fold->key, differ, &fold->yield);
}

/* Least significant first: the low half of the address, the high one, the minute. */
static void by_minute_make(struct agg_fold *fold)
{
	fold->ordered = 0;
	for (uint64_t i = 0; i < fold->items; i++) {
		const struct fold_item *item = &fold->item[i];
		if (item->type == TP_CLICK && !item->amended && item->has_ip)
			fold->place[fold->ordered++] = (uint32_t)i;
	}
	for (int half = 1; half >= -1; half--) {
		for (uint64_t i = 0; i < fold->ordered; i++) {
			const struct fold_item *item = &fold->item[fold->place[i]];
			uint64_t part = item->timestamp_ms / TP_MINUTE_MS;
			if (half >= 0) {
				memcpy(&part, item->ip + 8 * half, sizeof(part));
				part = __builtin_bswap64(part);
			}
			fold->key[fold->place[i]] = part;
		}
		by_key_make(fold);
	}
}

void fold_order(struct agg_fold *fold, enum fold_order order)
{
	if (fold->order == order && fold->order_items == fold->items)
		return;
	fold->ordered = 0;
	if (fold->items && order == FOLD_BY_MINUTE) {
		by_minute_make(fold);
	} else if (fold->items) {
		by_time_make(fold);
		by_name_make(fold, order == FOLD_BY_USER ? names_rank(fold, user_of) : names_rank(fold, campaign_of));
	}
	/* what is fetched ahead, behind the end */
	memset(fold->place + fold->ordered, 0, FOLD_AHEAD * sizeof(*fold->place));
	fold->order = order;
	fold->order_items = fold->items;
	fold->measured.done = false;
}
