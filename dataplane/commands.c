/*
 * The command thread: answers the command socket (docs/command-socket.md), keeps the blocklist in time, beats the heart of the live
 * view, watches free space, and decides whether beacons are taken. One thread; each command is short. Only "seal" takes
 * time: who asked for it is answered when it is done, and the others meanwhile.
 */
#include "node.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	TICK_MS = 50,
	CLIENTS_MAX = 64,
	LINE_BYTES = 4096,
	SEAL_WAIT_MS = 60000,
	SEAL_TICK_MS = 2, /* while somebody waits for one */
	EXPIRE_EVERY_MS = 500,
	SYNCHRONIZE_STEP_US = 50,
};

void dp_cores_synchronize(void *context)
{
	struct dp_node *node = context;
	if (!node->cores_run)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t i = 0; i < node->cores; i++) {
		struct dp_core *core = &node->core[i];
		uint64_t rounds = atomic_load_explicit(&core->rounds, memory_order_acquire);
		while (!atomic_load_explicit(&core->sleeping, memory_order_acquire) &&
		       atomic_load_explicit(&core->rounds, memory_order_acquire) < rounds + 2 &&
		       !atomic_load_explicit(&core->stop, memory_order_relaxed))
			usleep(SYNCHRONIZE_STEP_US);
	}
}

/*
 * Tells early that space will run out, while nothing hurts yet: with less than 16 log files' worth left, on a small disk with less than
 * a fifth of it. Taken back with a quarter more.
 */
static void space_warn(struct dp_node *node, uint64_t available, uint64_t total, uint64_t need)
{
	bool warned = atomic_load_explicit(&node->live->space_low, memory_order_relaxed) != 0;
	uint64_t early = need + 16 * node->log_file_bytes;
	early = early < total / 5 ? early : total / 5;
	early = early > 2 * need ? early : 2 * need;
	bool low = available < (warned ? early + early / 4 : early);
	if (low == warned)
		return;
	tp_logf(low ? TP_WARN : TP_INFO,
		low ? "disk space is running low: free some or shorten retention, at needed_bytes beacons are refused"
		    : "there is enough disk space again",
		"free_bytes=%" PRIu64 " warn_bytes=%" PRIu64 " needed_bytes=%" PRIu64 " data_dir=%s", available, early, need,
		node->config.data_dir);
	atomic_store_explicit(&node->live->space_low, low, memory_order_relaxed);
}

static void space_watch(struct dp_node *node)
{
	struct statvfs fs;
	if (statvfs(node->config.data_dir, &fs))
		return;
	uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
	atomic_store_explicit(&node->live->free_bytes, available, memory_order_relaxed);
	atomic_store_explicit(&node->live->total_bytes, (uint64_t)fs.f_blocks * fs.f_frsize, memory_order_relaxed);
	/*
	 * Refuse while there is still room to seal what has been taken: a log file's segment needs about its size. Taken up again with a
	 * quarter more, so that the node does not flap at the edge.
	 */
	bool low = atomic_load_explicit(&node->low_space, memory_order_relaxed);
	uint64_t need = node->log_file_bytes + (4 << 20);
	space_warn(node, available, (uint64_t)fs.f_blocks * fs.f_frsize, need);
	bool now_low = available < (low ? need + need / 4 : need);
	if (now_low != low) {
		tp_logf(now_low ? TP_ERROR : TP_INFO,
			now_low ? "too little disk space: refusing beacons" : "disk space is back: taking beacons",
			"free_bytes=%" PRIu64 " needed_bytes=%" PRIu64 " data_dir=%s", available, need, node->config.data_dir);
		atomic_store_explicit(&node->low_space, now_low, memory_order_relaxed);
	}
}

/* The XDP programs count each frame in one place; what they received is the sum. */
static void xdp_counters_take(struct tp_counters *counters)
{
	static const uint16_t place[EB_COUNTERS] = {
		[EB_REDIRECTED] = TP_C_XDP_REDIRECTED,
		[EB_PASSED] = TP_C_XDP_PASSED,
		[EB_BLOCKLISTED] = TP_C_XDP_BLOCKLISTED,
		[EB_RATE_LIMITED] = TP_C_XDP_RATE_LIMITED,
		[EB_TRUNCATED] = TP_C_XDP_TRUNCATED,
		[EB_BAD_IPV4] = TP_C_XDP_BAD_IPV4,
		[EB_BAD_IPV6] = TP_C_XDP_BAD_IPV6,
		[EB_BAD_SOURCE] = TP_C_XDP_BAD_SOURCE,
		[EB_BAD_EXTENSIONS] = TP_C_XDP_BAD_EXTENSIONS,
		[EB_BAD_TCP] = TP_C_XDP_BAD_TCP,
		[EB_BAD_UDP] = TP_C_XDP_BAD_UDP,
	};
	uint64_t xdp[EB_COUNTERS], received = 0;

	if (dp_dpdk_xdp_counters(xdp))
		return;
	for (uint32_t i = 0; i < EB_COUNTERS; i++) {
		counters->v[place[i]] = xdp[i];
		received += xdp[i];
	}
	counters->v[TP_C_XDP_RECEIVED] = received;
}

/*
 * The main thread says that beacons are taken, and only then that the start is over: until it has, this thread leaves that and
 * everything that is still being built alone.
 */
static bool started(const struct dp_node *node)
{
	/* acquire: all that the main thread built */
	return atomic_load_explicit(&node->live->ready, memory_order_acquire) != 0;
}

static void live_update(struct dp_node *node)
{
	struct tp_live *live = node->live;
	dp_taking_update(node);
	struct tp_counters *counters = &node->counters;
	counters->v[TP_C_SEGMENTS_SEALED] = atomic_load_explicit(&node->segments_sealed, memory_order_relaxed);
	counters->v[TP_C_LATE_LOOKUPS] = atomic_load_explicit(&node->late_lookups, memory_order_relaxed);
	counters->v[TP_C_BLOCKLIST_BAD_LINES] = dp_blocklist_bad_lines(node->blocklist);
	if (node->dpdk)
		xdp_counters_take(counters);
	tp_counters_publish(&live->housekeeping, counters);
	atomic_store_explicit(&live->heartbeat_ms, tp_now_ms(), memory_order_relaxed);
}

/* What of a reloaded configuration is this thread's. What cannot be read leaves the former list in force, and is in the log. */
static void reload_take(struct dp_node *node)
{
	struct tp_config *fresh = atomic_exchange_explicit(&node->reloaded, NULL, memory_order_acq_rel);
	if (!fresh)
		return;
	(void)dp_blocklist_files(node->blocklist, fresh->blocklist_file, fresh->blocklist_files);
	if (node->dpdk)
		dp_dpdk_packet_rates(fresh);
	tp_config_free(fresh);
	free(fresh);
}

static void tick(struct dp_node *node)
{
	uint64_t now_ms = tp_now_ms();
	if (!started(node)) {
		atomic_store_explicit(&node->live->heartbeat_ms, now_ms, memory_order_relaxed);
		return;
	}
	reload_take(node);
	if (now_ms - node->expired_ms >= EXPIRE_EVERY_MS) {
		node->expired_ms = now_ms;
		dp_blocklist_tick(node->blocklist, now_ms);
		atomic_store_explicit(&node->live->blocklist_entries, dp_blocklist_entries(node->blocklist), memory_order_relaxed);
		dp_access_refresh(node->access, atomic_exchange_explicit(&node->access_reload, 0, memory_order_acquire));
		space_watch(node);
		dp_fraud_signals(node);
	}
	live_update(node);
}

/* ---- commands: each returns the answer, the caller's ---- */

static json_t *refused(const char *error)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", error);
}

static json_t *result(int rc)
{
	return rc ? refused(strerror(-rc)) : json_pack("{s:b}", "ok", 1);
}

/* Somebody who waits until what was in the open log files is published. */
struct sealing {
	int fd; /* -1: nobody */
	uint64_t until_ms;
	uint64_t file[TP_SHARDS_MAX];
};

/* Finishes the open log file of every shard. */
static void seal_begin(struct dp_node *node, struct sealing *sealing, int fd)
{
	sealing->fd = fd;
	sealing->until_ms = tp_mono_ns() / 1000000 + SEAL_WAIT_MS;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		sealing->file[s] = atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire);
		atomic_store_explicit(&node->shard[s].roll_wanted, 1, memory_order_relaxed);
		atomic_thread_fence(memory_order_seq_cst);
		dp_core_wake(node->shard_cores[s]);
	}
}

/* The answer, once there is one. */
static json_t *seal_look(struct dp_node *node, const struct sealing *sealing)
{
	bool sealed = true;
	for (uint32_t s = 0; s < node->config.shard_count; s++) {
		if (atomic_load_explicit(&node->shard[s].roll_wanted, memory_order_relaxed))
			sealed = false;
		else if (sealing->file[s] != atomic_load_explicit(&node->live->shard[s].file_id, memory_order_acquire) &&
			 atomic_load_explicit(&node->keeping[s].sealed_file, memory_order_acquire) < sealing->file[s])
			sealed = false;
	}
	if (sealed)
		return result(0);
	if (atomic_load_explicit(&node->stop_commands, memory_order_acquire))
		return refused("the node is stopping");
	if (tp_mono_ns() / 1000000 > sealing->until_ms)
		return refused("sealing takes too long; it goes on in the background");
	return NULL;
}

static void answer_send(int fd, json_t *answer, int passed_fd)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	json_decref(answer);
	if (text)
		tp_command_answer(fd, text, passed_fd);
	free(text);
}

/* Answers whose seal is done; how many wait still. */
static uint32_t seals_answer(struct dp_node *node, struct sealing *sealing)
{
	uint32_t waiting = 0;
	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		json_t *answer = sealing[i].fd >= 0 ? seal_look(node, &sealing[i]) : NULL;
		waiting += sealing[i].fd >= 0 && !answer;
		if (!answer)
			continue;
		answer_send(sealing[i].fd, answer, -1);
		sealing[i].fd = -1;
	}
	return waiting;
}

/* The place of the one who waits, or a free one with `fd` -1. There are as many as clients. */
static struct sealing *sealing_of(struct sealing *sealing, int fd)
{
	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		if (sealing[i].fd == fd)
			return &sealing[i];
	return NULL;
}

static void command_answer(struct dp_node *node, struct sealing *sealing, int fd, char *line)
{
	json_t *answer;
	int passed_fd = -1;
	if (!strcmp(line, "ping")) {
		answer = result(0);
	} else if (!strcmp(line, "attach")) {
		passed_fd = node->live_fd;
		answer = json_pack("{s:b, s:I}", "ok", 1, "pid", (json_int_t)getpid());
	} else if (!started(node)) {
		answer = refused("the node is starting");
	} else if (!strcmp(line, "seal")) {
		if (!sealing_of(sealing, fd)) /* else that one's answer is this one's, too */
			seal_begin(node, sealing_of(sealing, -1), fd);
		return;
	} else if (!strncmp(line, "blocklist ", 10)) {
		answer = dp_blocklist_command(node->blocklist, line + 10);
	} else if (!strcmp(line, "ports")) {
		answer = dp_ports_json(node);
	} else if (!strncmp(line, "connections", 11) && (line[11] == ' ' || !line[11])) {
		answer = dp_connections_json(node, line + 11);
	} else if (!strncmp(line, "sight start", 11) && (line[11] == ' ' || !line[11])) {
		answer = dp_sight_start(node, fd, line + 11, &passed_fd);
	} else if (!strcmp(line, "sight stop")) {
		dp_sight_client_gone(node, fd);
		answer = result(0);
	} else {
		answer = refused("unknown command");
	}
	answer_send(fd, answer, passed_fd);
}

void *dp_commands_main(void *context)
{
	struct dp_node *node = context;
	struct pollfd fd[CLIENTS_MAX + 1] = {{.fd = node->command_listen_fd, .events = POLLIN}};
	static struct sealing sealing[CLIENTS_MAX];
	nfds_t fds = 1;
	char line[LINE_BYTES];

	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		sealing[i].fd = -1;
	pthread_setname_np(pthread_self(), "commands");
	while (!atomic_load_explicit(&node->stop_commands, memory_order_acquire)) {
		tick(node);
		fd[0].events = fds <= CLIENTS_MAX ? POLLIN : 0;
		uint32_t waiting = seals_answer(node, sealing);
		if (poll(fd, fds, waiting ? SEAL_TICK_MS : TICK_MS) <= 0)
			continue;
		for (nfds_t i = fds - 1; i > 0; i--) {
			if (!fd[i].revents)
				continue;
			int got = tp_command_receive(fd[i].fd, line, sizeof(line));
			if (got > 0) {
				command_answer(node, sealing, fd[i].fd, line);
			} else if (got != -EAGAIN) {
				struct sealing *waits = sealing_of(sealing, fd[i].fd);
				if (waits)
					waits->fd = -1;
				dp_sight_client_gone(node, fd[i].fd);
				close(fd[i].fd);
				fd[i] = fd[--fds];
			}
		}
		if (fd[0].revents) {
			int client = accept4(node->command_listen_fd, NULL, NULL, SOCK_CLOEXEC);
			if (client >= 0)
				fd[fds++] = (struct pollfd){.fd = client, .events = POLLIN};
		}
	}
	seals_answer(node, sealing);
	for (nfds_t i = 1; i < fds; i++)
		close(fd[i].fd);
	tick(node);
	return NULL;
}
