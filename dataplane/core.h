/*
 * A core: one pinned thread that runs an rx role, a shard role, or both in turn, as the configuration says. It polls while there is
 * work; with `idle: sleep` it sleeps when there is none, until a descriptor, a wake-up from another core, or a deadline.
 *
 * Wake-ups: a core that made work for another looks at the other's `sleeping` flag behind a full fence; a core about to sleep sets
 * the flag, then a full fence, then looks for work once more. So one of the two always sees the other.
 */
#ifndef TURNPIKE_CORE_H
#define TURNPIKE_CORE_H

#include "background.h"
#include "port/port.h"
#include "shard.h"
#include "turnpike/meter.h"

#include <pthread.h>

enum { DP_PORTS_MAX = 16 };

struct dp_core_port {
	const struct dp_port_driver *driver;
	struct dp_port *port;
};

struct dp_core {
	uint32_t cpu;
	int32_t rx;             /* number among the rx cores, -1: not one */
	struct dp_shard *shard; /* NULL: not one */
	bool idle_sleep;
	struct dp_core_port port[DP_PORTS_MAX];
	uint32_t ports;
	struct dp_intake *intake;
	struct dp_beacon *beacon;
	const struct tp_hop *dead; /* this rx core's ring of dead letters */
	struct tp_live_core *live;
	struct dp_core **rx_cores;     /* all rx cores by number: whom a shard wakes */
	struct dp_core **shard_cores;  /* all shard cores by shard number: whom an rx core wakes */
	struct dp_worker *late_worker; /* whom a shard with late events wakes */
	uint32_t rx_count, shard_count;
	pthread_t thread;
	int wake_fd;
	_Alignas(64) struct tp_counters counters; /* private to the core */
	struct tp_meter meter;                    /* its intake and its shard have it too */
	uint64_t published_ns;
	struct dp_connection_list *listing; /* what list_port and list_cursor are about */
	uint32_t list_port, list_cursor;
	/* the core writes, others read */
	_Alignas(64) _Atomic uint32_t sleeping;
	_Atomic uint64_t rounds;   /* grows each round: a reader that took a pointer has let it go when this moved */
	_Atomic uint32_t draining; /* what the ports still have to finish, datagrams queued by the kernel too */
	_Atomic uint64_t owed;     /* requests and events not answered yet */
	_Atomic int failed;        /* -errno: the disk; the node must end */
	/* main writes */
	/*
	 * The command thread asks for the connections; the core fills the list, some records a round, and takes it off when it is done.
	 * The asker may take it off, too, and then waits until the core has begun another round.
	 */
	_Atomic(struct dp_connection_list *) asked;
	_Atomic uint32_t drain; /* stop taking connections and datagrams */
	_Atomic uint32_t stop;  /* leave the loop */
};

/* One turn of the loop: ports, beacons, shard. Clocks are arguments, so a simulator can turn cores in any order from one thread. */
uint32_t dp_core_round(struct dp_core *core, uint64_t now_ms, uint64_t now_ns);
int dp_core_start(struct dp_core *core); /* makes wake_fd and the thread, pinned. 0 or -errno */
void dp_core_join(struct dp_core *core);
void dp_core_wake(struct dp_core *core); /* any thread; a system call only if the core sleeps */

#endif
