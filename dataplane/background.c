/*
 * The background threads themselves: start, stop, sleep, priority, placement. The work is in spares.c, late_lane.c, keeping.c,
 * sealing.c and merging.c.
 *
 * Priority. With CPUs of their own the background threads disturb nobody; they are a little nicer than the rest only so that other
 * programs on the machine come first. Where they must share a CPU with a core, the kernel divides it by weight: a core's 1024 stand
 * against 335 (nice 5) for the short work that cores and clients wait for, and against 15 (nice 19) for sealing, so that a busy core
 * keeps 98% of its CPU while a segment is written. Sealing cannot starve all the same: a shard whose tables are all waiting to be
 * sealed takes no events, sleeps, and so leaves its CPU to the sealing. Not SCHED_IDLE: its weight of 3 would let a core in
 * `idle: poll` hold the sealing up for minutes. Niceness is about shares; who waits how long for its turn is in turns.h.
 */
#include "background.h"

#include "node.h"
#include "turnpike/log.h"
#include "turnpike/text.h"
#include "turns.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const struct {
	const char *name;
	dp_step_fn step;
	int nice_own, nice_shared; /* with a CPU of its own, without */
	bool awaited;              /* cores or clients wait for it */
	int io_level;              /* best effort, 7 is last; only I/O schedulers that know priorities care */
} kinds[DP_BACKGROUNDS] = {
	[DP_SPARES] = {"spares", dp_spares_step, 5, 5, true, 4}, [DP_LATE] = {"late", dp_late_step, 5, 5, true, 4},
	[DP_KEEP] = {"keep", dp_keep_step, 5, 5, true, 4},       [DP_SEAL] = {"seal", dp_seal_step, 10, 19, false, 7},
	[DP_MERGE] = {"merge", dp_merge_step, 15, 19, false, 7},
};

enum { WAITED_NS = 1000000, GIVEN_NS = 50000 };
enum { IOPRIO_WHO_PROCESS_ = 1, IOPRIO_CLASS_BE_ = 2, IOPRIO_CLASS_SHIFT_ = 13 }; /* linux/ioprio.h, which not every libc has */

static bool listed(const uint32_t *cpus, uint32_t count, uint32_t cpu)
{
	for (uint32_t i = 0; i < count; i++)
		if (cpus[i] == cpu)
			return true;
	return false;
}

/* The CPUs for background work. True if no core runs on any of them. */
static bool cpus_choose(const struct tp_config *config, cpu_set_t *set)
{
	CPU_ZERO(set);
	for (uint32_t i = 0; i < config->background_count; i++)
		if (!listed(config->rx, config->rx_count, config->background[i]) &&
		    !listed(config->shard, config->shard_count, config->background[i]))
			CPU_SET(config->background[i], set);
	if (CPU_COUNT(set))
		return true;
	for (uint32_t i = 0; i < config->background_count; i++)
		CPU_SET(config->background[i], set);
	return false;
}

static void give_way(struct dp_worker *worker)
{
	cpu_set_t set;
	bool own = cpus_choose(&worker->node->config, &set);
	worker->shares = !own;
	/* Of this thread only: Linux keeps all three per thread. None is worth failing for. */
	id_t self = (id_t)syscall(SYS_gettid);
	if (CPU_COUNT(&set))
		sched_setaffinity(0, sizeof(set), &set);
	setpriority(PRIO_PROCESS, self, own ? kinds[worker->kind].nice_own : kinds[worker->kind].nice_shared);
	worker->sliced = dp_turns_background(kinds[worker->kind].awaited);
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS_, self, IOPRIO_CLASS_BE_ << IOPRIO_CLASS_SHIFT_ | kinds[worker->kind].io_level);
}

static void worker_sleep(struct dp_worker *worker, uint64_t limit_ns)
{
	struct pollfd fd = {.fd = worker->wake_fd, .events = POLLIN};
	struct timespec limit = {.tv_sec = (time_t)(limit_ns / 1000000000), .tv_nsec = (long)(limit_ns % 1000000000)};
	if (ppoll(&fd, 1, &limit, NULL) > 0) {
		uint64_t count;
		if (read(worker->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			tp_logf(TP_ERROR, "wake-up descriptor failed", "error=\"%s\"", strerror(errno));
	}
}

static void *worker_main(void *context)
{
	struct dp_worker *worker = context;
	dp_step_fn step = kinds[worker->kind].step;
	give_way(worker);
	while (!atomic_load_explicit(&worker->stop, memory_order_acquire)) {
		if (step(worker->node, tp_now_ms(), tp_mono_ns()) == 0)
			continue;
		atomic_store_explicit(&worker->sleeping, 1, memory_order_relaxed);
		/* full fence: who made work before it saw us asleep is seen by the step below; else he sees the flag and wakes us */
		atomic_thread_fence(memory_order_seq_cst);
		uint64_t idle_ns = step(worker->node, tp_now_ms(), tp_mono_ns());
		if (idle_ns && !atomic_load_explicit(&worker->stop, memory_order_acquire))
			worker_sleep(worker, idle_ns);
		atomic_store_explicit(&worker->sleeping, 0, memory_order_relaxed);
	}
	return NULL;
}

/*
 * Who wakes takes the CPU at once where the kernel has slices; what is left is who always wants it: a core that polls or has no end of work,
 * another program. A piece that took longer than it ran shows one. A sleep keeps our share of the CPU, however small it is; sched_yield(2)
 * does not: it gives away the rest of a slice, for which a thread of nice 19 waits seconds, and a small file is not sealed in a minute.
 */
void dp_worker_yield(void *context)
{
	struct dp_worker *worker = context;
	if (!worker->shares)
		return;
	if (!worker->sliced) {
		sched_yield();
		return;
	}
	struct timespec own;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own);
	const uint64_t now_ns = tp_mono_ns(), cpu_ns = (uint64_t)own.tv_sec * 1000000000 + (uint64_t)own.tv_nsec;
	const bool waited = now_ns - worker->piece_ns > cpu_ns - worker->piece_cpu_ns + WAITED_NS;
	worker->piece_ns = now_ns; /* the sleep is part of the next piece: who keeps us waiting behind it still wants the CPU */
	worker->piece_cpu_ns = cpu_ns;
	if (waited)
		nanosleep(&(const struct timespec){.tv_nsec = GIVEN_NS}, NULL);
}

void dp_worker_wake(struct dp_worker *worker)
{
	if (!atomic_load_explicit(&worker->sleeping, memory_order_relaxed))
		return;
	uint64_t one = 1;
	if (write(worker->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		tp_logf(TP_ERROR, "cannot wake a background thread", "thread=%s error=\"%s\"", kinds[worker->kind].name,
			strerror(errno));
}

int dp_background_start(struct dp_node *node)
{
	cpu_set_t set;
	bool own = cpus_choose(&node->config, &set);
	tp_logf(TP_INFO, own ? "background work has CPUs of its own" : "background work shares CPUs with cores, and gives way",
		"cpus=%d", CPU_COUNT(&set));
	for (int kind = 0; kind < DP_BACKGROUNDS; kind++) {
		struct dp_worker *worker = &node->worker[kind];
		worker->node = node;
		worker->kind = (enum dp_background)kind;
		worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		int rc = worker->wake_fd < 0 ? -errno : -pthread_create(&worker->thread, NULL, worker_main, worker);
		if (rc) {
			tp_logf(TP_ERROR, "cannot start a background thread", "thread=%s error=\"%s\"", kinds[kind].name,
				strerror(-rc));
			return rc;
		}
		pthread_setname_np(worker->thread, kinds[kind].name); /* here: a node that is ready shows its threads by name */
		worker->runs = true;
	}
	return 0;
}

void dp_background_stop(struct dp_node *node)
{
	for (int kind = 0; kind < DP_BACKGROUNDS; kind++) {
		atomic_store_explicit(&node->worker[kind].stop, 1, memory_order_release);
		atomic_thread_fence(memory_order_seq_cst);
		if (node->worker[kind].runs)
			dp_worker_wake(&node->worker[kind]);
	}
	for (int kind = 0; kind < DP_BACKGROUNDS; kind++) {
		struct dp_worker *worker = &node->worker[kind];
		if (worker->runs) {
			pthread_join(worker->thread, NULL);
			close(worker->wake_fd);
		}
		worker->runs = false;
	}
}
