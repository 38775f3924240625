/* See turns.h. Cold: each thread once, at its start. */
#include "turns.h"

#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CORE_NS = 20000000, AWAITED_NS = 50000000, LEISURE_NS = 100000000 }; /* the kernel takes 0.1 to 100 ms */
enum { RESET_ON_FORK = 1 };                                                 /* SCHED_FLAG_RESET_ON_FORK */

/* The first version of the kernel's struct sched_attr, which not every libc has. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t slice_ns, deadline_ns, period_ns;
};

/* Whether the kernel has taken it. */
static bool slice_set(uint32_t policy, uint64_t flags, uint64_t slice_ns)
{
	struct attributes attributes = {.size = sizeof(attributes),
					.policy = policy,
					.flags = flags,
					.nice = getpriority(PRIO_PROCESS, 0), /* Linux: of this thread */
					.slice_ns = slice_ns};
	if (syscall(SYS_sched_setattr, 0, &attributes, 0))
		return false;
	attributes.slice_ns = 0;
	return syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) == 0 && attributes.slice_ns == slice_ns;
}

void dp_turns_core(void)
{
	/* The workers that the kernel makes for this thread's rings are its children: they get the default slice. */
	slice_set(SCHED_OTHER, RESET_ON_FORK, CORE_NS);
}

bool dp_turns_background(bool awaited)
{
	return awaited ? slice_set(SCHED_OTHER, 0, AWAITED_NS) : slice_set(SCHED_BATCH, 0, LEISURE_NS);
}
