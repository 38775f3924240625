/*
 * Whose turn it is on a CPU that several threads want. From Linux 6.12 on a thread has a time slice of its own, and one that wakes takes the CPU
 * from one with a longer slice; else it waits for the next tick of the kernel's clock, 4 ms with 250 Hz. So the shorter what is waited for:
 *
 *   the kernel's workers, clients     default, 1 to 3 ms   the worker that starts a flush for the log needs 5 us, and a shard's answers wait for it
 *   cores                             20 ms
 *   background that is waited for     50 ms                the next log file, late look-ups
 *   background that nobody waits for  100 ms, SCHED_BATCH  sealing, merging
 *
 * A slice is no share of the CPU; that is niceness. Older kernels ignore slices. No privilege is needed, and nothing is worth failing for.
 * And none with a long slice calls sched_yield(2): it gives away what is left of it (Linux 6.18), at nice 19 seven seconds of a busy CPU.
 * Source: Linux 6.12, kernel/sched/fair.c (PREEMPT_SHORT); sched_setattr(2).
 */
#ifndef TURNPIKE_TURNS_H
#define TURNPIKE_TURNS_H

#include <stdbool.h>

/* Of the calling thread; after its niceness has been set. */
void dp_turns_core(void);
/* False on an older kernel: who wakes waits for the next tick, unless this thread gives the CPU up. */
bool dp_turns_background(bool awaited);

#endif
