/*
 * Taking events into a fold: one item an event, each string kept once. See fold.h for who enters. Memory is one arena, laid out at
 * the start: items, names, their hashes, the index, orders of the items, the strings.
 */
#include "fold.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { NAMES_PER_EVENT = 4, SLOTS_FIRST = 1024 };

static uint64_t aligned(uint64_t bytes)
{
	return (bytes + 63) & ~UINT64_C(63);
}

static uint32_t slots_for(uint64_t names)
{
	uint32_t slots = SLOTS_FIRST;
	while (slots < 2 * names)
		slots *= 2;
	return slots;
}

uint64_t agg_fold_bytes(uint64_t events, uint64_t record_bytes)
{
	uint64_t names = events * NAMES_PER_EVENT + 1;
	return aligned(sizeof(struct agg_fold)) + aligned(events * sizeof(struct fold_item)) +
	       aligned(names * sizeof(struct fold_name)) + aligned(names * sizeof(uint64_t)) +
	       aligned(slots_for(names) * sizeof(uint64_t)) + 3 * aligned((events + FOLD_AHEAD) * sizeof(uint32_t)) +
	       aligned(events * sizeof(uint64_t)) + aligned(names * sizeof(uint32_t)) + aligned(record_bytes);
}

struct agg_fold *agg_fold_init(void *memory, uint64_t events, uint64_t record_bytes, uint64_t gap_ms)
{
	assert(((uintptr_t)memory & 63) == 0 && gap_ms > 0 && events < UINT32_MAX / NAMES_PER_EVENT && record_bytes <= UINT32_MAX);
	struct agg_fold *fold = memory;
	uint64_t names = events * NAMES_PER_EVENT + 1;
	memset(fold, 0, sizeof(*fold));
	fold->gap_ms = gap_ms;
	fold->items_max = events;
	fold->names_max = (uint32_t)names;
	fold->slots = SLOTS_FIRST;
	fold->slots_max = slots_for(names);
	fold->heap_bytes_max = record_bytes;
	uint8_t *at = (uint8_t *)memory + aligned(sizeof(*fold));
	fold->item = (struct fold_item *)(void *)at;
	at += aligned(events * sizeof(struct fold_item));
	fold->name = (struct fold_name *)(void *)at;
	at += aligned(names * sizeof(struct fold_name));
	fold->hash = (uint64_t *)(void *)at;
	at += aligned(names * sizeof(uint64_t));
	fold->slot = (uint64_t *)(void *)at;
	at += aligned(fold->slots_max * sizeof(uint64_t));
	uint32_t **const order[] = {&fold->by_time, &fold->place, &fold->spare};
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		*order[i] = (uint32_t *)(void *)at;
		at += aligned((events + FOLD_AHEAD) * sizeof(uint32_t));
	}
	fold->key = (uint64_t *)(void *)at;
	at += aligned(events * sizeof(uint64_t));
	fold->rank = (uint32_t *)(void *)at;
	at += aligned(names * sizeof(uint32_t));
	fold->heap = (char *)at;
	memset(fold->slot, 0, fold->slots * sizeof(uint64_t));
	/* the empty one, in memory that may have held other names before */
	fold->names = 1;
	fold->name[0] = (struct fold_name){0};
	fold->hash[0] = 0;
	return fold;
}

void agg_fold_yield_set(struct agg_fold *fold, void (*fn)(void *context), void *context)
{
	fold->yield = (struct tp_radix_yield){.fn = fn, .context = context};
}

static void slots_grow(struct agg_fold *fold)
{
	fold->slots *= 2;
	memset(fold->slot, 0, fold->slots * sizeof(uint64_t));
	for (uint32_t number = 1; number < fold->names; number++) {
		uint32_t slot = (uint32_t)fold->hash[number] & (fold->slots - 1);
		while (fold->slot[slot])
			slot = (slot + 1) & (fold->slots - 1);
		fold->slot[slot] = fold_slot(fold->hash[number], number);
	}
}

/* The number of a string, the same for equal ones. UINT32_MAX: no room. */
static uint32_t name_number(struct agg_fold *fold, struct tp_str string)
{
	if (string.bytes == 0)
		return 0;
	if (2 * (uint64_t)fold->names > fold->slots && fold->slots < fold->slots_max)
		slots_grow(fold);
	uint64_t hash = XXH3_64bits(string.at, string.bytes);
	uint32_t slot = (uint32_t)hash & (fold->slots - 1);
	for (;; slot = (slot + 1) & (fold->slots - 1)) {
		uint32_t number = (uint32_t)fold->slot[slot];
		if (number == 0)
			break;
		if (fold->slot[slot] == fold_slot(hash, number) && fold->name[number].bytes == string.bytes &&
		    memcmp(fold->heap + fold->name[number].at, string.at, string.bytes) == 0)
			return number;
	}
	if (fold->names == fold->names_max || fold->heap_bytes_max - fold->heap_bytes < string.bytes)
		return UINT32_MAX;
	uint32_t number = fold->names++;
	fold->slot[slot] = fold_slot(hash, number);
	fold->hash[number] = hash;
	fold->name[number] = (struct fold_name){.at = (uint32_t)fold->heap_bytes, .bytes = (uint8_t)string.bytes};
	memcpy(fold->heap + fold->heap_bytes, string.at, string.bytes);
	fold->heap_bytes += string.bytes;
	return number;
}

bool agg_fold_show(struct agg_fold *fold, const struct tp_event *event)
{
	if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE && event->verdict != TP_AMENDED)
		return true;
	if (fold->items == fold->items_max)
		return false;
	struct fold_item item = {
		.timestamp_ms = event->timestamp_ms,
		.user = name_number(fold, tp_event_string(event, TP_USER_ID)),
		.campaign = name_number(fold, tp_event_string(event, TP_CAMPAIGN_ID)),
		.type = event->type,
		.has_ip = (event->flags & TP_HAS_IP) != 0,
		.flagged = event->type == TP_CLICK && event->fraud != 0,
		.amended = event->verdict == TP_AMENDED,
	};
	if (item.user) { /* only sessions need them */
		item.ad = name_number(fold, tp_event_string(event, TP_AD_ID));
		item.publisher = name_number(fold, tp_event_string(event, TP_PUBLISHER_ID));
	}
	if (item.user == UINT32_MAX || item.campaign == UINT32_MAX || item.ad == UINT32_MAX || item.publisher == UINT32_MAX)
		return false;
	memcpy(item.ip, event->ip, sizeof(item.ip));
	fold->item[fold->items++] = item;
	return true;
}
