/* Rate limits; see ctl_limit.h. A slot's time is when its bucket will be full again; a slot of the past is as good as none. */
#include "ctl_limit.h"

#include <stdlib.h>

enum { WAYS = 4 };

struct slot {
	uint64_t key, full_ns;
};

struct ctl_limit {
	uint64_t interval_ns, tolerance_ns;
	uint32_t mask;
	struct slot slot[][WAYS];
};

struct ctl_limit *ctl_limit_make(uint32_t bits, uint64_t interval_ns, uint32_t burst)
{
	struct ctl_limit *limit = calloc(1, sizeof(*limit) + (sizeof(limit->slot[0]) << bits));

	if (!limit)
		return NULL;
	limit->interval_ns = interval_ns;
	limit->tolerance_ns = interval_ns * (burst - 1);
	limit->mask = (1U << bits) - 1;
	return limit;
}

/* The key's slot, or the one of its row that is soonest forgotten. */
static struct slot *slot_of(struct ctl_limit *limit, uint64_t key)
{
	struct slot *row = limit->slot[key & limit->mask], *oldest = &row[0];

	for (int i = 0; i < WAYS; i++) {
		if (row[i].key == key)
			return &row[i];
		if (row[i].full_ns < oldest->full_ns)
			oldest = &row[i];
	}
	return oldest;
}

static uint64_t ask(const struct ctl_limit *limit, const struct slot *slot, uint64_t key, uint64_t now_ns)
{
	uint64_t full_ns = slot->key == key && slot->full_ns > now_ns ? slot->full_ns : now_ns;

	return full_ns - now_ns > limit->tolerance_ns ? full_ns - now_ns - limit->tolerance_ns : 0;
}

uint64_t ctl_limit_ask(struct ctl_limit *limit, uint64_t key, uint64_t now_ns)
{
	return ask(limit, slot_of(limit, key), key, now_ns);
}

uint64_t ctl_limit_take(struct ctl_limit *limit, uint64_t key, uint64_t now_ns)
{
	struct slot *slot = slot_of(limit, key);
	uint64_t wait_ns = ask(limit, slot, key, now_ns);

	if (wait_ns)
		return wait_ns;
	uint64_t full_ns = slot->key == key && slot->full_ns > now_ns ? slot->full_ns : now_ns;
	*slot = (struct slot){key, full_ns + limit->interval_ns};
	return 0;
}
