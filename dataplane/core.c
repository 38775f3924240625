/*
 * The core loop. Source: design section 4 (roles).
 */
#include "core.h"

#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turns.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	PUBLISH_NS = 5000000,     /* how often counters go to the live view under load */
	SPIN_NS = 30000,          /* how long a core without work looks on before it sleeps */
	POLLED_SLEEP_NS = 500000, /* longest sleep with a port that only polling can look at */
	LIST_STEP = 64,           /* records of a connection table looked at a round while somebody asks */
	SLEEP_NS_MAX = 100000000, /* longest sleep at all: event time and timers go on */
};

/* A few more records of the connection tables into the list that somebody asked for. */
static void core_list(struct dp_core *core, struct dp_connection_list *list)
{
	if (core->listing != list) {
		core->listing = list;
		core->list_port = core->list_cursor = 0;
	}
	list->core = (uint16_t)core->rx;
	if (core->list_port < core->ports) {
		const struct dp_core_port *port = &core->port[core->list_port];
		if (!port->driver->list || port->driver->list(port->port, list, &core->list_cursor, LIST_STEP)) {
			core->list_port++;
			core->list_cursor = 0;
		}
		return;
	}
	core->listing = NULL;
	/* release: the asker sees the filled list; it may have withdrawn meanwhile, which is the same */
	atomic_store_explicit(&core->asked, NULL, memory_order_release);
}

uint32_t dp_core_round(struct dp_core *core, uint64_t now_ms, uint64_t now_ns)
{
	uint32_t done = 0;
	tp_meter_begin(&core->meter, &core->counters);
	if (core->rx >= 0) {
		dp_intake_clock(core->intake, now_ms, now_ns);
		bool drain = atomic_load_explicit(&core->drain, memory_order_relaxed);
		uint32_t left = 0;
		for (uint32_t i = 0; i < core->ports; i++) {
			done += core->port[i].driver->poll(core->port[i].port, now_ns);
			if (drain)
				left += core->port[i].driver->drain(core->port[i].port, now_ns);
		}
		tp_meter_enter(&core->meter, TP_STAGE_ANSWER);
		done += dp_intake_poll(core->intake);
		done += dp_beacon_poll(core->beacon);
		if (drain) {
			atomic_store_explicit(&core->draining, left, memory_order_relaxed);
			atomic_store_explicit(&core->owed, dp_beacon_owed(core->beacon) + dp_intake_in_flight(core->intake),
					      memory_order_relaxed);
		}
		struct dp_connection_list *asked = atomic_load_explicit(&core->asked, memory_order_acquire);
		if (__builtin_expect(asked != NULL, 0)) {
			core_list(core, asked);
			done++;
		} else {
			core->listing = NULL;
		}
		uint64_t given = dp_intake_given(core->intake);
		if (given) {
			atomic_thread_fence(memory_order_seq_cst);
			for (; given; given &= given - 1)
				dp_core_wake(core->shard_cores[__builtin_ctzll(given)]);
		}
	}
	if (core->shard) {
		tp_meter_enter(&core->meter, TP_STAGE_DECIDE);
		done += dp_shard_poll(core->shard, now_ms, now_ns);
		uint64_t woke = core->shard->woke;
		if (woke) {
			core->shard->woke = 0;
			atomic_thread_fence(memory_order_seq_cst);
			for (; woke; woke &= woke - 1)
				dp_core_wake(core->rx_cores[__builtin_ctzll(woke)]);
		}
		if (core->shard->lane_given) {
			core->shard->lane_given = false;
			atomic_thread_fence(memory_order_seq_cst);
			dp_worker_wake(core->late_worker);
		}
		if (core->shard->failed)
			atomic_store_explicit(&core->failed, core->shard->failed, memory_order_release);
	}
	tp_meter_end(&core->meter, &core->counters, done != 0);
	return done;
}

/* True if verdicts wait in a hop or late ring of this rx core. */
static bool answers_wait(const struct dp_core *core)
{
	for (uint32_t s = 0; s < core->shard_count; s++) {
		const struct dp_shard *shard = core->shard_cores[s]->shard;
		const struct tp_hop *hop = shard->hop[core->rx];
		const struct dp_late_ring *ring = shard->late_ring[core->rx];
		if (hop->tail != atomic_load_explicit(&hop->durable, memory_order_acquire) ||
		    atomic_load_explicit(&ring->head, memory_order_acquire) !=
			    atomic_load_explicit(&ring->tail, memory_order_relaxed))
			return true;
	}
	const struct tp_hop *dead = core->dead;
	return dead && dead->tail != atomic_load_explicit(&dead->durable, memory_order_acquire);
}

static void core_publish(struct dp_core *core, uint64_t now_ns)
{
	tp_counters_publish(&core->live->counters, &core->counters);
	core->published_ns = now_ns;
}

static void core_sleep(struct dp_core *core, uint64_t now_ns)
{
	struct pollfd fd[DP_PORTS_MAX + 2];
	nfds_t fds = 0;
	uint64_t limit_ns = SLEEP_NS_MAX;

	fd[fds++] = (struct pollfd){.fd = core->wake_fd, .events = POLLIN};
	atomic_store_explicit(&core->sleeping, 1, memory_order_relaxed);
	/* full fence: see the head of core.h */
	atomic_thread_fence(memory_order_seq_cst);
	bool work = atomic_load_explicit(&core->stop, memory_order_relaxed);
	if (core->rx >= 0) {
		work = work || atomic_load_explicit(&core->asked, memory_order_relaxed);
		work = work || answers_wait(core);
		for (uint32_t i = 0; i < core->ports; i++) {
			const struct dp_port_driver *driver = core->port[i].driver;
			int port_fd = driver->fd(core->port[i].port);
			if (port_fd >= 0)
				fd[fds++] = (struct pollfd){.fd = port_fd, .events = POLLIN};
			else if (port_fd != DP_PORT_FD_WAKE && limit_ns > POLLED_SLEEP_NS)
				limit_ns = POLLED_SLEEP_NS;
			work = work || (driver->waits && driver->waits(core->port[i].port));
		}
	}
	if (core->shard) {
		uint64_t deadline = dp_shard_deadline_ns(core->shard);
		if (deadline <= now_ns)
			work = true;
		else if (deadline - now_ns < limit_ns)
			limit_ns = deadline - now_ns;
		fd[fds++] = (struct pollfd){.fd = sto_wal_fd(core->shard->wal), .events = POLLIN};
		if (core->shard->stalled && limit_ns > POLLED_SLEEP_NS)
			limit_ns = POLLED_SLEEP_NS; /* what it waits for (a file, a table, a lane) wakes nobody */
		if (dp_rivals_waiting(&core->shard->rivals) && limit_ns > POLLED_SLEEP_NS)
			limit_ns = POLLED_SLEEP_NS; /* nor does another shard's disk */
	}
	if (!work) {
		struct timespec limit = {.tv_nsec = (long)limit_ns};
		if (ppoll(fd, fds, &limit, NULL) > 0 && fd[0].revents) {
			uint64_t count;
			if (read(core->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
				tp_logf(TP_ERROR, "wake-up descriptor failed", "error=\"%s\"", strerror(errno));
		}
	}
	atomic_store_explicit(&core->sleeping, 0, memory_order_relaxed);
	/* full fence: who swaps a pointer under us and sees us asleep knows that we will load the new one */
	atomic_thread_fence(memory_order_seq_cst);
}

static void *core_main(void *context)
{
	struct dp_core *core = context;
	uint64_t now_ns = tp_mono_ns(), idle_since_ns = now_ns;
	char name[16];
	snprintf(name, sizeof(name), "%s%s-%u", core->rx >= 0 ? "rx" : "", core->shard ? "shard" : "", core->cpu);
	pthread_setname_np(pthread_self(), name);
	dp_turns_core();

	while (!atomic_load_explicit(&core->stop, memory_order_relaxed)) {
		uint32_t done = dp_core_round(core, tp_now_ms(), now_ns);
		/* release: whatever pointer this round took has been let go */
		atomic_store_explicit(&core->rounds, atomic_load_explicit(&core->rounds, memory_order_relaxed) + 1,
				      memory_order_release);
		uint64_t then_ns = now_ns;
		now_ns = tp_mono_ns();
		if (done) {
			TP_COUNT_ADD(&core->counters, CORE_BUSY_NS, now_ns - then_ns);
			TP_COUNT(&core->counters, CORE_ROUNDS);
			idle_since_ns = now_ns;
		} else {
			TP_COUNT_ADD(&core->counters, CORE_IDLE_NS, now_ns - then_ns);
		}
		if (now_ns - core->published_ns > PUBLISH_NS)
			core_publish(core, now_ns);
		/* A shard that waits for its next file or table leaves the CPU to the threads that make them, `idle: poll` or not. */
		bool waits = core->shard && core->shard->stalled;
		if (!done && (core->idle_sleep || waits) && now_ns - idle_since_ns > SPIN_NS) {
			core_publish(core, now_ns);
			core_sleep(core, now_ns);
			then_ns = now_ns;
			now_ns = tp_mono_ns();
			TP_COUNT_ADD(&core->counters, CORE_IDLE_NS, now_ns - then_ns);
		} else if (!done) {
			__builtin_ia32_pause();
		}
	}
	core_publish(core, now_ns);
	return NULL;
}

int dp_core_start(struct dp_core *core)
{
	core->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (core->wake_fd < 0)
		return -errno;
	pthread_attr_t attr;
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core->cpu, &set);
	pthread_attr_init(&attr);
	int rc = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (!rc)
		rc = pthread_create(&core->thread, &attr, core_main, core);
	pthread_attr_destroy(&attr);
	if (rc) {
		close(core->wake_fd);
		core->wake_fd = -1;
	}
	return -rc;
}

void dp_core_join(struct dp_core *core)
{
	atomic_store_explicit(&core->stop, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	dp_core_wake(core);
	pthread_join(core->thread, NULL);
	close(core->wake_fd);
	core->wake_fd = -1;
}

void dp_core_wake(struct dp_core *core)
{
	if (!atomic_load_explicit(&core->sleeping, memory_order_relaxed))
		return;
	uint64_t one = 1;
	if (write(core->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		tp_logf(TP_ERROR, "cannot wake a core", "cpu=%u error=\"%s\"", core->cpu, strerror(errno));
}
