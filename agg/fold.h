/* What a fold holds. Private to fold*.c. */
#ifndef AGG_FOLD_H
#define AGG_FOLD_H

#include "turnpike/fold.h"

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
	uint32_t order; /* by which equal items keep their places */
};

/* How the items lie, so that who measures first and writes then sorts once. */
enum fold_order { FOLD_UNSORTED, FOLD_BY_USER, FOLD_BY_CAMPAIGN, FOLD_BY_MINUTE };

struct agg_fold {
	uint64_t gap_ms;
	enum fold_order order;
	uint64_t items, items_max;
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

#endif
