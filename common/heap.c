/*
 * How the allocator behaves in a process with busy cores: turnpike/heap.h.
 *
 * Threads: the main one, before others start.
 */
#include "turnpike/heap.h"

#include <malloc.h>

void tp_heap_keep(void)
{
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, -1);
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TOP_PAD, 16 << 20);
}
