/*
 * One check of turnpikectl doctor: it looks at files under a root folder ("" is the machine itself, a test gives a recorded tree) or
 * asks through a table of functions, and adds one finding or more. What would help stands in the finding as a shell command, with the
 * command that takes it back. One thread.
 */
#ifndef TURNPIKE_DOCTOR_CHECK_H
#define TURNPIKE_DOCTOR_CHECK_H

#include "turnpike/config.h"

#include <stdio.h>

enum doctor_status { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD, DOCTOR_UNKNOWN, DOCTOR_STATUSES };

enum { DOCTOR_FINDINGS_MAX = 96, DOCTOR_TEXT_BYTES = 320, DOCTOR_CPUS_MAX = 1024 };

struct doctor_finding {
	const char *check; /* "governor" */
	enum doctor_status status;
	char found[DOCTOR_TEXT_BYTES];
	char cost[DOCTOR_TEXT_BYTES]; /* what it costs; "" with ok */
	char fix[DOCTOR_TEXT_BYTES];  /* shell commands; "": none that a script should run */
	char undo[DOCTOR_TEXT_BYTES];
};

struct doctor_rings {
	uint32_t rx, rx_max, tx, tx_max;
};

/* What cannot be read from files. All return 0 or -errno. */
struct doctor_ops {
	int (*rings)(const char *interface, struct doctor_rings *rings);
	/* Large receive offload, and in how many queues the indirection table spreads flows, of how many there are. */
	int (*lro)(const char *interface, bool *on);
	int (*spread)(const char *interface, uint32_t *queues, uint32_t *used);
	/* Is the clock kept by something, and how far off may it be? adjtimex(2). */
	int (*clock)(bool *synchronised, uint64_t *error_us);
	int (*device)(const char *path, uint32_t *major, uint32_t *minor); /* of the file system with path */
	/* Median and worst of synced 4 KiB writes in a folder; leaves nothing there. */
	int (*sync_ns)(const char *folder, uint64_t *median, uint64_t *worst);
	/* Log files of the data folder that ought to be there and are not: how many, or -errno; the first one's id. */
	int (*logs_lost)(const char *data_dir, uint64_t *first);
};

extern const struct doctor_ops doctor_machine;

struct doctor {
	const char *root; /* before every path */
	const struct doctor_ops *ops;
	const struct tp_config *config;
	uint32_t pid; /* of the data process, 0: none runs; its limits are looked at instead of ours */
	struct doctor_finding finding[DOCTOR_FINDINGS_MAX];
	uint32_t findings;
};

/* ---- the checks, by file ---- */

void doctor_cpu(struct doctor *doctor);     /* kernel, CPUs, isolation, governor, NUMA, siblings */
void doctor_memory(struct doctor *doctor);  /* hugepages, THP, swap, limits */
void doctor_network(struct doctor *doctor); /* per interface: interrupts, rings, offloads, spread, XDP */
void doctor_disk(struct doctor *doctor);    /* volatile cache, sync, log files that are missing */
void doctor_time(struct doctor *doctor);    /* clock source, synchronised */

/* ---- for the checks ---- */

/* Adds a finding; NULL when there are too many, which it says in the last. */
struct doctor_finding *doctor_add(struct doctor *doctor, const char *check, enum doctor_status status);
void doctor_say(char to[DOCTOR_TEXT_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first line of a file under the root, without its end. 0 or -errno. */
int doctor_read(const struct doctor *doctor, char *text, size_t bytes, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The last name of what a link under the root points to. 0 or -errno. */
int doctor_link(const struct doctor *doctor, char *text, size_t bytes, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
FILE *doctor_open(const struct doctor *doctor, const char *path);
/* Is a CPU in a kernel list such as "0-3,8"? */
bool doctor_list_has(const char *list, uint32_t cpu);
/* Calls with every CPU of cores.rx and cores.shard, once each. */
void doctor_cores(const struct doctor *doctor, void (*each)(struct doctor *doctor, uint32_t cpu, void *context), void *context);
bool doctor_uses_dpdk(const struct doctor *doctor);

#endif
