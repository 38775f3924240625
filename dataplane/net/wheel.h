/*
 * A timer wheel of two levels: 256 slots of 4.2 ms (1.07 s), 256 slots of 1.07 s (275 s). One rx core. No allocation: nodes are
 * inside what they time. Setting and cancelling are O(1); advancing costs the slots passed plus the nodes due, never a scan.
 *
 * A deadline beyond the wheel is carried round until it comes near. An owner whose deadline moves away may leave the node where it
 * is, look at the deadline when it fires and set it again: then moving costs nothing.
 */
#ifndef TURNPIKE_WHEEL_H
#define TURNPIKE_WHEEL_H

#include <stdint.h>

enum { DP_WHEEL_TICK_BITS = 22, DP_WHEEL_SLOTS = 256 };

struct dp_wheel_node {
	struct dp_wheel_node *next, **link; /* link NULL: not set */
	uint64_t due_ns;
	uint8_t kind; /* the owner's */
};

struct dp_wheel {
	uint64_t tick; /* all slots up to here have fired */
	struct dp_wheel_node *near[DP_WHEEL_SLOTS], *far[DP_WHEEL_SLOTS];
};

void dp_wheel_init(struct dp_wheel *wheel, uint64_t now_ns);
/* Sets or moves a node. It fires in the first advance at or after due_ns rounded up to a tick. */
void dp_wheel_set(struct dp_wheel *wheel, struct dp_wheel_node *node, uint64_t due_ns);
void dp_wheel_cancel(struct dp_wheel_node *node);
/* Fires what is due. `fire` may set and cancel any node. Returns how many fired. */
uint32_t dp_wheel_advance(struct dp_wheel *wheel, uint64_t now_ns, void (*fire)(void *context, struct dp_wheel_node *node),
			  void *context);

#endif
