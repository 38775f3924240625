/*
 * The background threads: what has to be done beside the beacons, each kind of work in a thread of its own, so that none waits for
 * another.
 *
 *   spares   a shard's next log file and table                     a shard that has none waits
 *   late     looks late events up in the segments                  a client's answer waits
 *   keep     age of open files, rotation of the id table, retention
 *   seal     makes segments of finished log files                  long; gives way to all else
 *   merge    sums of segments into rollup files                    nobody waits for it
 *
 * Each is a step function without a clock of its own: time comes in, one unit of work is done, and what it returns is how long
 * nothing needs to be done, in ns; 0: there may be more at once. So a simulator can call the steps in any order from one thread.
 * Steps of one kind never run at the same time; steps of different kinds may.
 *
 * Where they run: on the CPUs of `cores.background` that no rx or shard core has, when there are such; else on all of
 * `cores.background`, and then with a niceness that gives the cores the better part (see background.c), and in short pieces.
 */
#ifndef TURNPIKE_BACKGROUND_H
#define TURNPIKE_BACKGROUND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct dp_node;

enum dp_background { DP_SPARES, DP_LATE, DP_KEEP, DP_SEAL, DP_MERGE, DP_BACKGROUNDS };

typedef uint64_t (*dp_step_fn)(struct dp_node *node, uint64_t now_ms, uint64_t now_ns);

struct dp_worker {
	struct dp_node *node;
	enum dp_background kind;
	pthread_t thread;
	bool runs;
	bool shares;                     /* its CPUs with rx or shard cores; before it runs: false */
	bool sliced;                     /* the kernel gives the CPU to who wakes, by itself (turns.h) */
	uint64_t piece_ns, piece_cpu_ns; /* when its piece of work began: on the clock, and of its own CPU time */
	int wake_fd;
	_Alignas(64) _Atomic uint32_t sleeping; /* the worker writes; who made work for it reads */
	_Atomic uint32_t stop;
};

void dp_spares_first(struct dp_node *node);                                      /* spares.c; before any other thread runs */
uint64_t dp_spares_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns); /* spares.c */
uint64_t dp_late_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns);   /* late_lane.c */
uint64_t dp_keep_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns);   /* keeping.c */
uint64_t dp_seal_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns);   /* sealing.c */
uint64_t dp_merge_step(struct dp_node *node, uint64_t now_ms, uint64_t now_ns);  /* merging.c */

/* Main thread. 0 or -errno; after an error dp_background_stop() is due all the same. */
int dp_background_start(struct dp_node *node);
void dp_background_stop(struct dp_node *node);

/*
 * The yield of sto_seal_options and sto_merge_options, called every few hundred microseconds of work; the context is a struct dp_worker.
 * A worker that shares its CPU sleeps for a moment if somebody else wanted that CPU long: niceness decides how much a core gets, this how
 * long it waits for it, which would else be a time slice of some milliseconds. The worker's own thread.
 */
void dp_worker_yield(void *worker);

/* Any thread, behind a full fence after the work was made. A system call only if the worker sleeps. */
void dp_worker_wake(struct dp_worker *worker);

#endif
