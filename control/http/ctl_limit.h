/*
 * Rate limits of many who ask, in fixed memory: a virtual-scheduling leaky bucket each (ITU-T I.371, GCRA), found by a 64-bit key. A full
 * row forgets whom it has not seen for longest, who then begins with a full burst. Pure but for its memory; the caller locks.
 */
#ifndef TURNPIKE_CTL_LIMIT_H
#define TURNPIKE_CTL_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct ctl_limit;

/* Room for 4 × 2^bits keys; one each `interval_ns`, `burst` at once. NULL: no memory. Free with free(). */
struct ctl_limit *ctl_limit_make(uint32_t bits, uint64_t interval_ns, uint32_t burst);
/* Takes one. 0: it was there; else how many ns until there is one. `now_ns` never falls. */
uint64_t ctl_limit_take(struct ctl_limit *limit, uint64_t key, uint64_t now_ns);
/* The same without taking. */
uint64_t ctl_limit_ask(struct ctl_limit *limit, uint64_t key, uint64_t now_ns);

#endif
