/*
 * Getting the node's large memory from the kernel while other things go on. See memory_touch.c.
 */
#ifndef TURNPIKE_MEMORY_TOUCH_H
#define TURNPIKE_MEMORY_TOUCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { DP_TOUCH_REGIONS = 64, DP_TOUCH_THREADS = 4 };

struct dp_touch {
	uint32_t regions, threads;
	bool made;
	_Atomic bool stop;
	pthread_mutex_t lock;
	pthread_cond_t some; /* some more was got */
	struct dp_touch_region {
		uint8_t *at;
		uint64_t bytes;
		bool later;             /* nobody waits for it */
		_Atomic uint64_t taken; /* parts before are some thread's */
		uint64_t got;           /* under `lock` */
	} region[DP_TOUCH_REGIONS];
	pthread_t thread[DP_TOUCH_THREADS];
};

/* Zeroed at first. Mapped, private memory, that stays until dp_touch_end(). One too many is left to whoever uses it first. */
void dp_touch_add(struct dp_touch *touch, void *at, uint64_t bytes, bool later);
void dp_touch_start(struct dp_touch *touch, uint32_t threads);
void dp_touch_wait(struct dp_touch *touch); /* until all that is not for later is there */
void dp_touch_end(struct dp_touch *touch);  /* however far it has come; also if it was never started */

#endif
