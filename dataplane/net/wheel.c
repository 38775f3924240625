/*
 * The timer wheel. One rx core. Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 6 with a second level.
 *
 *   near[t mod 256]         nodes due at tick t, less than 256 ticks ahead
 *   far[(t / 256) mod 256]  nodes due later; moved to near when the block of 256 ticks that holds them begins
 */
#include "wheel.h"

#include <stddef.h>
#include <string.h>

enum { NEAR_MASK = DP_WHEEL_SLOTS - 1, SPAN = (DP_WHEEL_SLOTS - 1) * DP_WHEEL_SLOTS };

void dp_wheel_init(struct dp_wheel *wheel, uint64_t now_ns)
{
	memset(wheel, 0, sizeof(*wheel));
	wheel->tick = now_ns >> DP_WHEEL_TICK_BITS;
}

void dp_wheel_cancel(struct dp_wheel_node *node)
{
	if (!node->link)
		return;
	*node->link = node->next;
	if (node->next)
		node->next->link = node->link;
	node->link = NULL;
}

static void slot_add(struct dp_wheel_node **slot, struct dp_wheel_node *node)
{
	node->next = *slot;
	node->link = slot;
	if (node->next)
		node->next->link = &node->next;
	*slot = node;
}

void dp_wheel_set(struct dp_wheel *wheel, struct dp_wheel_node *node, uint64_t due_ns)
{
	dp_wheel_cancel(node);
	node->due_ns = due_ns;
	uint64_t tick = (due_ns >> DP_WHEEL_TICK_BITS) + 1;
	if (tick <= wheel->tick)
		tick = wheel->tick + 1;
	uint64_t ahead = tick - wheel->tick;
	if (ahead < DP_WHEEL_SLOTS) {
		slot_add(&wheel->near[tick & NEAR_MASK], node);
		return;
	}
	if (ahead > SPAN)
		tick = wheel->tick + SPAN;
	slot_add(&wheel->far[(tick >> 8) & NEAR_MASK], node);
}

/* Takes a whole slot away, so that what `fire` sets meanwhile cannot join the list being walked. */
static void slot_detach(struct dp_wheel_node **slot, struct dp_wheel_node **list)
{
	*list = *slot;
	*slot = NULL;
	if (*list)
		(*list)->link = list;
}

/* Spreads the far slot of the block of ticks that begins with the next one over the near slots. */
static void cascade(struct dp_wheel *wheel)
{
	uint64_t block = (wheel->tick + 1) >> 8;
	struct dp_wheel_node *list;
	slot_detach(&wheel->far[block & NEAR_MASK], &list);
	while (list) {
		struct dp_wheel_node *node = list;
		uint64_t tick = (node->due_ns >> DP_WHEEL_TICK_BITS) + 1;
		if (tick <= wheel->tick)
			tick = wheel->tick + 1;
		if (tick >> 8 == block) {
			dp_wheel_cancel(node);
			slot_add(&wheel->near[tick & NEAR_MASK], node);
		} else {
			dp_wheel_set(wheel, node, node->due_ns); /* was clamped to the wheel's end */
		}
	}
}

uint32_t dp_wheel_advance(struct dp_wheel *wheel, uint64_t now_ns, void (*fire)(void *context, struct dp_wheel_node *node),
			  void *context)
{
	uint64_t target = now_ns >> DP_WHEEL_TICK_BITS;
	uint32_t fired = 0;
	struct dp_wheel_node *list;
	while (wheel->tick < target) {
		if (((wheel->tick + 1) & NEAR_MASK) == 0)
			cascade(wheel);
		wheel->tick++;
		slot_detach(&wheel->near[wheel->tick & NEAR_MASK], &list);
		while (list) {
			struct dp_wheel_node *node = list;
			dp_wheel_cancel(node);
			fire(context, node);
			fired++;
		}
		/* After a long sleep one turn of both levels reaches every node: do not spin through the rest. */
		if (target - wheel->tick > SPAN + DP_WHEEL_SLOTS)
			wheel->tick = target - (SPAN + DP_WHEEL_SLOTS);
	}
	return fired;
}
