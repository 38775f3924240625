/*
 * The heap of a process whose cores must not be disturbed.
 *
 * An unmapping, or a protection that gets stricter, makes the kernel interrupt every CPU that runs a thread of the process: their
 * translations may be stale. So a background thread that gives large buffers back to the kernel stalls the cores, as often as it does
 * so, and pays for each page again when it wants the next buffer. tp_heap_keep() makes malloc() keep what it has got once: the heap
 * grows to what sealing and merging need at most, and stays.
 */
#ifndef TURNPIKE_HEAP_H
#define TURNPIKE_HEAP_H

/* Once, at the start of the process. With another allocator (sanitizers) it does nothing. */
void tp_heap_keep(void);

#endif
