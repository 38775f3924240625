/*
 * Hugepages for DPDK: reserve what lacks, remember it, give it back. Main thread.
 *
 *   dp_hugepages_take(bytes) ─ rte_eal_init() maps them ─ dp_hugepages_settle() ─ … ─ dp_hugepages_give()
 *
 * The kernel keeps one number of pages for the whole machine, and pages that were added stay when their user is killed. So what a
 * process has added is written to a file of its own in `run`, locked for as long as the process lives. A file whose lock is free was
 * left by a killed process: the next start gives those pages back first. The folder's own lock makes each step one at a time, and is
 * held from take to settle, so that two starting processes never count on the same free pages.
 *
 *   <run>/hugepages.<pid>   "adding PAGES BEFORE" while the kernel is being asked, then "added PAGES 0"
 */
#ifndef TURNPIKE_HUGEPAGES_H
#define TURNPIKE_HUGEPAGES_H

#include <stdint.h>

struct dp_hugepages {
	const char *sysfs;   /* "/sys/kernel/mm/hugepages" */
	const char *run;     /* "/run/turnpike", made and removed here */
	const char *compact; /* "/proc/sys/vm/compact_memory", or NULL */
	uint64_t added;      /* pages of 2 MiB that we added */
	int folder_fd;       /* locked between take and settle, else -1 */
	int record_fd;       /* our record, locked while we live, else -1 */
};

/* Fills in the machine's paths. */
void dp_hugepages_init(struct dp_hugepages *hugepages);
/*
 * Makes sure that at least `bytes` of hugepages are free, adding 2 MiB pages if need be. 0; -ENOMEM or -EACCES when they cannot be
 * had, with the command that would help in the log; nothing is left behind then. After success call settle, at the end give.
 */
int dp_hugepages_take(struct dp_hugepages *hugepages, uint64_t bytes);
/* Our memory is mapped now: others may count free pages again. */
void dp_hugepages_settle(struct dp_hugepages *hugepages);
/* Gives back what was added. Pages that are still mapped go when their process ends. */
void dp_hugepages_give(struct dp_hugepages *hugepages);

#endif
