/*
 * Getting the node's large memory from the kernel, beside everything else that a start does. A page that nobody has touched yet costs the
 * first who does: clearing it takes 0.13 s a GiB, and up to 2.6 s where a hypervisor has taken free memory back and must find it again.
 *
 * Regions are got in the order in which they were added, part by part, by several threads at once. dp_touch_wait() waits for those that
 * are needed for taking beacons; the rest, of which shards only read zeros until the id table is rotated for the first time, comes after,
 * at a lower priority. No part is ever got by a core: what is written there was waited for, and reading what is not there yet is
 * answered with the kernel's page of zeros.
 *
 * That there is enough was asked when the regions were mapped (node_memory.c).
 *
 * Threads: the main thread makes, waits and ends; the touching threads only take the next part.
 */
#include "memory_touch.h"

#include "turnpike/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { PART_BYTES = 8 << 20, PAGE_BYTES = 4096, LATER_NICE = 5 };

void dp_touch_add(struct dp_touch *touch, void *at, uint64_t bytes, bool later)
{
	/* whole pages inside: the rest of the first and last one belongs to somebody else as well */
	uint64_t from = ((uintptr_t)at + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES,
		 to = ((uintptr_t)at + bytes) / PAGE_BYTES * PAGE_BYTES;
	if (touch->regions == DP_TOUCH_REGIONS || from >= to)
		return;
	touch->region[touch->regions++] = (struct dp_touch_region){.at = (uint8_t *)from, .bytes = to - from, .later = later};
}

/* Of an older kernel: a write that changes nothing, whoever else writes there. */
static void pages_write(uint8_t *at, uint64_t bytes)
{
	for (uint64_t page = 0; page < bytes; page += PAGE_BYTES)
		__atomic_fetch_add(at + page, 0, __ATOMIC_RELAXED);
}

static void part_get(uint8_t *at, uint64_t bytes)
{
	if (madvise(at, bytes, MADV_POPULATE_WRITE) == 0)
		return;
	if (errno == EINVAL)
		pages_write(at, bytes);
	else
		tp_logf(TP_WARN, "memory cannot be had now, it is asked for again when it is used",
			"bytes=%" PRIu64 " error=\"%s\"", bytes, strerror(errno));
}

static void *touch_main(void *self)
{
	struct dp_touch *touch = self;
	bool nice = false;
	for (uint32_t r = 0; r < touch->regions; r++) {
		struct dp_touch_region *region = &touch->region[r];
		if (region->later && !nice) {
			setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), LATER_NICE);
			nice = true;
		}
		for (;;) {
			uint64_t from = atomic_fetch_add_explicit(&region->taken, PART_BYTES, memory_order_relaxed);
			if (from >= region->bytes || atomic_load_explicit(&touch->stop, memory_order_relaxed))
				break;
			uint64_t bytes = region->bytes - from < PART_BYTES ? region->bytes - from : PART_BYTES;
			part_get(region->at + from, bytes);
			pthread_mutex_lock(&touch->lock);
			region->got += bytes;
			pthread_cond_signal(&touch->some);
			pthread_mutex_unlock(&touch->lock);
		}
	}
	return NULL;
}

void dp_touch_start(struct dp_touch *touch, uint32_t threads)
{
	pthread_mutex_init(&touch->lock, NULL);
	pthread_cond_init(&touch->some, NULL);
	touch->made = true;
	for (; touch->threads < threads && touch->threads < DP_TOUCH_THREADS; touch->threads++)
		if (pthread_create(&touch->thread[touch->threads], NULL, touch_main, touch))
			break;
	/* without any, whoever uses a page first gets it */
}

void dp_touch_wait(struct dp_touch *touch)
{
	pthread_mutex_lock(&touch->lock);
	for (uint32_t r = 0; r < touch->regions && touch->threads; r++)
		while (!touch->region[r].later && touch->region[r].got < touch->region[r].bytes)
			pthread_cond_wait(&touch->some, &touch->lock);
	pthread_mutex_unlock(&touch->lock);
}

void dp_touch_end(struct dp_touch *touch)
{
	if (!touch->made)
		return;
	atomic_store_explicit(&touch->stop, true, memory_order_relaxed);
	while (touch->threads)
		pthread_join(touch->thread[--touch->threads], NULL);
	pthread_cond_destroy(&touch->some);
	pthread_mutex_destroy(&touch->lock);
	touch->made = false;
}
