/* What a fold holds. Private to fold*.c. */
#ifndef AGG_FOLD_H
#define AGG_FOLD_H

#include "turnpike/fold.h"
#include "turnpike/radix.h"

/* A string that was seen, once each. Number 0 is the empty one. */
struct fold_name {
	uint32_t at;
	uint8_t bytes;
};

struct fold_item {
	uint64_t timestamp_ms;
	uint32_t user, ad, publisher, campaign; /* numbers of names */
	uint8_t ip[16];
	uint8_t type;
	uint8_t has_ip;
	uint8_t flagged;
	uint8_t amended;
};

/* Strings of an event that a fold wants. */
enum fold_field { FOLD_USER, FOLD_CAMPAIGN, FOLD_AD, FOLD_PUBLISHER, FOLD_FIELDS };

/* The orders in which items are gone through (fold_order.c). They themselves lie as they came. */
enum fold_order {
	FOLD_UNSORTED,
	FOLD_BY_USER,     /* user, stamp; without a user first */
	FOLD_BY_CAMPAIGN, /* campaign, stamp */
	FOLD_BY_MINUTE    /* of the clicks with an address alone: minute, address */
};

/* What a section needs, of the order that is there. */
struct fold_measured {
	bool done;
	uint64_t entries, bytes;
};

struct agg_fold {
	uint64_t gap_ms;
	struct tp_radix_yield yield;
	/* who measures first and writes then sorts once: the order of the first `ordered` places of `place`, and of how many items it was made */
	enum fold_order order;
	uint64_t order_items, ordered;
	struct fold_measured measured;
	uint64_t timed;          /* items in `by_time`; 0: it is not made */
	uint32_t *by_time;       /* items by their stamps */
	uint32_t *place, *spare; /* an order, and room to make it */
	uint64_t *key;           /* of each item */
	uint32_t *rank;          /* of each name */
	uint64_t items, items_max;
	/* by the numbers that somebody else gives to strings: the number of the name here, 0: not known yet */
	uint32_t *known[FOLD_FIELDS], known_count[FOLD_FIELDS];
	uint32_t names, names_max;
	uint32_t slots, slots_max; /* of the index of names, a power of two that grows with them */
	uint64_t heap_bytes, heap_bytes_max;
	struct fold_item *item;
	struct fold_name *name;
	uint64_t *hash; /* of each name */
	uint64_t *slot; /* high half of a name's hash, its number; 0: empty */
	char *heap;
};

/* What a slot holds for a name. */
static inline uint64_t fold_slot(uint64_t hash, uint32_t number)
{
	return (hash & ~UINT64_C(0xffffffff)) | number;
}

static inline struct tp_str fold_string(const struct agg_fold *fold, uint32_t number)
{
	return (struct tp_str){.at = fold->heap + fold->name[number].at, .bytes = fold->name[number].bytes};
}

/* Makes `order` (not FOLD_UNSORTED), if it is not the one that is there. */
void fold_order(struct agg_fold *fold, enum fold_order order);

enum { FOLD_AHEAD = 16, FOLD_PIECE = 8192 };

/* The item at a place of the order. The one FOLD_AHEAD places behind is fetched. */
static inline const struct fold_item *fold_at(const struct agg_fold *fold, uint64_t place)
{
	const char *next = (const char *)&fold->item[fold->place[place + FOLD_AHEAD]];
	__builtin_prefetch(next);
	__builtin_prefetch(next + sizeof(struct fold_item) - 1);
	return &fold->item[fold->place[place]];
}

/* In long walks, with how far they are: lets go of the core once in FOLD_PIECE places. Returns what it is to be given the next time. */
static inline uint64_t fold_give_way(const struct agg_fold *fold, uint64_t piece, uint64_t at)
{
	if (at - piece < FOLD_PIECE)
		return piece;
	if (fold->yield.fn)
		fold->yield.fn(fold->yield.context);
	return at;
}

#endif
