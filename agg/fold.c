/*
 * Taking events into a fold: one item an event, each string kept once. See fold.h for who enters. Memory is one arena, laid out at
 * the start: items, names, their hashes, the index, orders of the items, the strings.
 */
#include "fold.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { NAMES_PER_EVENT = FOLD_FIELDS, SLOTS_FIRST = 1024 };

static const enum tp_string string_of[FOLD_FIELDS] = {
	[FOLD_USER] = TP_USER_ID, [FOLD_CAMPAIGN] = TP_CAMPAIGN_ID, [FOLD_AD] = TP_AD_ID, [FOLD_PUBLISHER] = TP_PUBLISHER_ID};

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
	       aligned(events * sizeof(uint64_t)) + aligned(names * sizeof(uint32_t)) +
	       FOLD_FIELDS * aligned(events * sizeof(uint32_t)) + aligned(record_bytes);
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
	for (int f = 0; f < FOLD_FIELDS; f++) {
		fold->known[f] = (uint32_t *)(void *)at;
		at += aligned(events * sizeof(uint32_t));
	}
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

/* What an event adds beside its names. False: it adds nothing. */
static bool item_make(const struct tp_event *event, struct fold_item *item)
{
	if (event->verdict != TP_ACCEPTED && event->verdict != TP_LATE && event->verdict != TP_AMENDED)
		return false;
	*item = (struct fold_item){
		.timestamp_ms = event->timestamp_ms,
		.type = event->type,
		.has_ip = (event->flags & TP_HAS_IP) != 0,
		.flagged = event->type == TP_CLICK && event->fraud != 0,
		.amended = event->verdict == TP_AMENDED,
	};
	memcpy(item->ip, event->ip, sizeof(item->ip));
	return true;
}

/* False: no room. */
static bool item_put(struct agg_fold *fold, struct fold_item *item, const uint32_t name[FOLD_FIELDS])
{
	if (fold->items == fold->items_max)
		return false;
	for (int f = 0; f < FOLD_FIELDS; f++)
		if (name[f] == UINT32_MAX)
			return false;
	item->user = name[FOLD_USER];
	item->campaign = name[FOLD_CAMPAIGN];
	item->ad = name[FOLD_AD];
	item->publisher = name[FOLD_PUBLISHER];
	fold->item[fold->items++] = *item;
	return true;
}

bool agg_fold_show(struct agg_fold *fold, const struct tp_event *event)
{
	struct fold_item item;
	uint32_t name[FOLD_FIELDS] = {0};
	if (!item_make(event, &item))
		return true;
	/* only sessions need ads and publishers */
	for (int f = 0; f < FOLD_FIELDS; f++)
		if (f < FOLD_AD || name[FOLD_USER])
			name[f] = name_number(fold, tp_event_string(event, string_of[f]));
	return item_put(fold, &item, name);
}

/* The number of a string of which somebody else has another one. */
static uint32_t name_known(struct agg_fold *fold, enum fold_field field, uint32_t number, const struct tp_event *event)
{
	uint32_t *known = fold->known[field];
	if (number >= fold->items_max)
		return name_number(fold, tp_event_string(event, string_of[field]));
	for (; fold->known_count[field] <= number; fold->known_count[field]++)
		known[fold->known_count[field]] = 0;
	if (!known[number]) {
		const uint32_t name = name_number(fold, tp_event_string(event, string_of[field]));
		if (name == UINT32_MAX)
			return name;
		known[number] = name; /* 0 for the empty one, which costs nothing to ask again */
	}
	return known[number];
}

bool agg_fold_show_numbered(struct agg_fold *fold, const struct tp_event *const *event, uint32_t count,
			    const uint32_t *const string[TP_STRINGS])
{
	for (int f = 0; f < FOLD_AD; f++)
		for (uint32_t i = 0; i < count; i++)
			if (string[string_of[f]][i] < fold->known_count[f])
				__builtin_prefetch(&fold->known[f][string[string_of[f]][i]]);
	for (uint32_t i = 0; i < count; i++) {
		struct fold_item item;
		uint32_t name[FOLD_FIELDS] = {0};
		if (!item_make(event[i], &item))
			continue;
		for (int f = 0; f < FOLD_FIELDS; f++)
			if (f < FOLD_AD || name[FOLD_USER])
				name[f] = name_known(fold, (enum fold_field)f, string[string_of[f]][i], event[i]);
		if (!item_put(fold, &item, name))
			return false;
	}
	return true;
}
