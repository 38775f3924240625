/*
 * The DPDK driver on a real veth pair: net_af_xdp, our XDP program, our stack; Linux's TCP and UDP on the other side. Needs root;
 * exits 77 with the reason where something cannot be had.
 *
 *   namespace A: tp<pid> ═ veth ═ tq<pid> :namespace B
 *   node processes, one per test,             this process: plain sockets
 *   since EAL starts once per process
 *
 * Both namespaces belong to this process and go with it. A node and the test talk through one shared page.
 */
#include "device.h"
#include "echo_app.h"

#include "turnpike/text.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { NODE_STARTING, NODE_READY, NODE_FAILED };
enum { HTTP_PORT = 80, UDP_PORT = 7771, CORES_MAX = 3 };

struct shared {
	_Atomic int state;   /* the node writes */
	_Atomic int result;  /* of the call that failed */
	_Atomic int stop;    /* the test writes */
	_Atomic int block;   /* the test writes: entries that the blocklist shall have, 0 or 1 */
	_Atomic int blocked; /* the node writes: entries that it has, after the call */
	_Atomic uint64_t xdp[EB_COUNTERS];
	_Atomic uint64_t frames_received, frames_accepted, frames_sent, xdp_result;
	_Atomic uint64_t opened[3], sent[3]; /* connections, frames given to the queue; per core */
	_Atomic int fd;
	char describe[128];
};

static struct shared *shared;
static int namespace_a = -1;
static char ifname[16], peer_name[16], device_text[64];

/* ---- the node ---- */

static void block_apply(const struct eb_block *peers, uint32_t count)
{
	const int wanted = atomic_load(&shared->block);

	if (wanted == atomic_load(&shared->blocked))
		return;
	if (dp_dpdk_blocklist(peers, wanted ? count : 0) != 0)
		_exit(3);
	atomic_store(&shared->blocked, wanted);
}

static void publish(const struct tp_counters *counters)
{
	uint64_t xdp[EB_COUNTERS];
	const int result = dp_dpdk_xdp_counters(xdp);

	for (uint32_t i = 0; result == 0 && i < EB_COUNTERS; i++)
		atomic_store(&shared->xdp[i], xdp[i]);
	struct tp_counters sum = {0};

	for (uint16_t core = 0; core < CORES_MAX; core++) {
		for (uint32_t i = 0; i < TP_COUNTERS; i++)
			sum.v[i] += counters[core].v[i];
		atomic_store(&shared->opened[core], counters[core].v[TP_C_CONNECTIONS_OPENED]);
		atomic_store(&shared->sent[core], counters[core].v[TP_C_FRAMES_SENT]);
	}
	atomic_store(&shared->frames_received, sum.v[TP_C_FRAMES_RECEIVED]);
	atomic_store(&shared->frames_accepted, sum.v[TP_C_FRAMES_ACCEPTED]);
	atomic_store(&shared->frames_sent, sum.v[TP_C_FRAMES_SENT]);
}

static void prefix_set(struct tp_prefix *prefix, const char *text)
{
	if (tp_prefix_parse(text, strlen(text), prefix) != 0)
		_exit(4);
}

struct node {
	struct tp_config_ingest ingest;
	struct tp_config config;
	struct tp_prefix address[2];
	struct tp_counters counters[CORES_MAX];
	char device[64];
	uint16_t cores;
	struct dp_port *port[CORES_MAX];
};

/* One thread polls all "cores" in turn. */
static void no_wake(void *context, uint32_t rx_core)
{
	(void)context;
	if (rx_core >= CORES_MAX)
		_exit(5);
}

static int node_open(struct node *node, const char *device, uint16_t queues)
{
	static uint16_t http = HTTP_PORT, udp = UDP_PORT;
	struct dp_port_options options = {
		.config = &node->config,
		.ingest = &node->ingest,
		.queues = queues,
		.wake = no_wake,
		.http_port = &http,
		.udp_port = &udp,
	};
	int result;

	snprintf(node->device, sizeof(node->device), "%s", device);
	prefix_set(&node->address[0], "10.77.0.1/24");
	prefix_set(&node->address[1], "fd00:77::1/64");
	node->ingest = (struct tp_config_ingest){.driver = TP_DRIVER_DPDK,
						 .device = node->device,
						 .address = node->address,
						 .address_count = 2,
						 .http_port = HTTP_PORT,
						 .udp_port = UDP_PORT};
	node->config = (struct tp_config){.ingest = &node->ingest, .ingest_count = 1, .rx_count = queues};
	echo_app_reset();
	result = dp_dpdk_init(&node->config);
	if (result != 0)
		return result;
	for (uint16_t core = 0; core < queues; core++) {
		options.queue = core;
		options.counters = &node->counters[core];
		result = dp_port_dpdk.open(&node->port[core], &options);
		if (result != 0) {
			dp_dpdk_fini();
			return result;
		}
		node->cores++;
	}
	return 0;
}

/* Serves until told to stop, asleep when there is nothing to do. */
static void node_run(const char *device, uint16_t queues)
{
	static struct node node;
	struct eb_block peers[2] = {{.slot = 0}, {.slot = 1}};
	struct eb_xdp *left;
	int result;

	prefix_set(&peers[0].prefix, "10.77.0.2/32");
	prefix_set(&peers[1].prefix, "fd00:77::2/128");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (setns(namespace_a, CLONE_NEWNET) != 0)
		_exit(2);
	result = node_open(&node, device, queues);
	if (result != 0) {
		atomic_store(&shared->result, result);
		atomic_store(&shared->state, NODE_FAILED);
		_exit(0);
	}
	snprintf(shared->describe, sizeof(shared->describe), "%s", dp_dpdk_describe());
	atomic_store(&shared->fd, dp_port_dpdk.fd(node.port[0]));
	for (uint16_t core = 1; core < queues; core++)
		if (dp_port_dpdk.fd(node.port[core]) != DP_PORT_FD_WAKE)
			_exit(8);
	atomic_store(&shared->state, NODE_READY);
	while (!atomic_load(&shared->stop)) {
		struct pollfd wait = {.fd = dp_port_dpdk.fd(node.port[0]), .events = POLLIN};
		uint32_t done = 0;

		block_apply(peers, 2);
		for (uint16_t core = 0; core < queues; core++)
			done += dp_port_dpdk.poll(node.port[core], tp_mono_ns());
		for (uint16_t core = 0; core < queues; core++)
			done += dp_port_dpdk.waits(node.port[core]);
		if (done == 0) {
			publish(node.counters);
			poll(&wait, 1, 5);
		}
	}
	for (uint16_t core = 0; core < queues; core++)
		dp_port_dpdk.close(node.port[core]);
	dp_dpdk_fini();
	/* What a start had to detach was ours; now nothing is there. */
	if (eb_xdp_open(&left, ifname) != -ENOENT && strstr(device, "af_xdp") != NULL)
		_exit(6);
	_exit(echo_app.opened == echo_app.closed ? 0 : 7);
}

static pid_t node_start(const char *device, uint16_t queues)
{
	pid_t child;

	memset(shared, 0, sizeof(*shared));
	child = fork();
	if (child == 0)
		node_run(device, queues);
	assert_true(child > 0);
	while (atomic_load(&shared->state) == NODE_STARTING) {
		int status;

		assert_int_equal(waitpid(child, &status, WNOHANG), 0);
		usleep(1000);
	}
	return child;
}

static void node_stop(pid_t child)
{
	int status;

	atomic_store(&shared->stop, 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static bool record_exists(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/run/turnpike/hugepages.%d", (int)pid);
	return access(path, F_OK) == 0;
}

/* Runs something in namespace A, in a process of its own. */
static int in_namespace_a(int (*run)(void))
{
	const pid_t child = fork();
	int status;

	if (child == 0)
		_exit(setns(namespace_a, CLONE_NEWNET) == 0 ? run() : 99);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int program_attached(void)
{
	uint32_t id = 0;

	return bpf_xdp_query_id((int)if_nametoindex(ifname), 0, &id) == 0 && id != 0;
}

static int foreign_attach(void)
{
	const struct bpf_insn pass[] = {{.code = 0xb7, .imm = 2}, {.code = 0x95}}; /* r0 = XDP_PASS; exit */
	const int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_else", "GPL", pass, 2, NULL);

	return fd >= 0 && bpf_xdp_attach((int)if_nametoindex(ifname), fd, 0, NULL) == 0;
}

static int foreign_detach(void)
{
	return bpf_xdp_detach((int)if_nametoindex(ifname), 0, NULL) == 0;
}

/* ---- clients ---- */

static int dial(const char *text, uint16_t port, int type)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	const bool six = strchr(text, ':') != NULL;
	const int fd = socket(six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, text, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr), 1);
	assert_int_equal(connect(fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof(v6) : sizeof(v4)), 0);
	return fd;
}

static void tcp_echo(const char *address, size_t bytes)
{
	const int fd = dial(address, HTTP_PORT, SOCK_STREAM);
	uint8_t *out = malloc(bytes), *in = malloc(bytes);
	size_t sent = 0, got = 0;

	assert_true(out != NULL && in != NULL);
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
	out[0] = 'E';
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (got < bytes) {
		struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < bytes ? POLLOUT : 0))};
		ssize_t n;

		assert_int_equal(poll(&wait, 1, -1), 1);
		if (sent < bytes && (n = send(fd, out + sent, bytes - sent, MSG_NOSIGNAL)) > 0)
			sent += (size_t)n;
		if ((n = recv(fd, in + got, bytes - got, 0)) > 0)
			got += (size_t)n;
		else
			assert_true(n < 0 && errno == EAGAIN);
	}
	assert_memory_equal(out, in, bytes);
	free(out);
	free(in);
	close(fd);
}

static void udp_echo(int fd)
{
	uint8_t out[1000] = {1, 2, 3}, in[2000];

	assert_int_equal(send(fd, out, sizeof(out), 0), sizeof(out));
	assert_int_equal(recv(fd, in, sizeof(in), 0), sizeof(out));
	assert_memory_equal(out, in, sizeof(out));
}

/* ---- tests ---- */

static void linux_talks_to_our_stack(void **state)
{
	const pid_t node = node_start(device_text, 2);
	char expected[128];
	int fd;

	(void)state;
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	snprintf(expected, sizeof(expected), "net_af_xdp0 on %s, XDP native, our program", ifname);
	assert_string_equal(shared->describe, expected);
	assert_true(atomic_load(&shared->fd) >= 0); /* there is something to sleep on */
	tcp_echo("10.77.0.1", 1);
	tcp_echo("10.77.0.1", 300000);
	tcp_echo("fd00:77::1", 300000);
	fd = dial("10.77.0.1", UDP_PORT, SOCK_DGRAM);
	for (int i = 0; i < 100; i++)
		udp_echo(fd);
	close(fd);
	fd = dial("fd00:77::1", UDP_PORT, SOCK_DGRAM);
	udp_echo(fd);
	close(fd);
	/* The node publishes its counters once it has nothing to do. */
	while (atomic_load(&shared->frames_received) < 300 || atomic_load(&shared->frames_sent) < 200)
		usleep(1000);
	while (atomic_load(&shared->xdp[EB_REDIRECTED]) < atomic_load(&shared->frames_received))
		usleep(1000);
	assert_int_equal(atomic_load(&shared->xdp[EB_BLOCKLISTED]), 0);
	node_stop(node);
	assert_false(in_namespace_a(program_attached));
	assert_false(record_exists(node));
}

/* A port with one queue serves three cores: each connection lives on one of them, and all of them get some. */
static void flows_spread_over_the_cores(void **state)
{
	const pid_t node = node_start(device_text, 3);
	uint64_t opened, least;

	(void)state;
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	for (int i = 0; i < 24; i++)
		tcp_echo(i & 1 ? "fd00:77::1" : "10.77.0.1", 20000);
	for (int i = 0; i < 12; i++) {
		const int fd = dial(i & 1 ? "fd00:77::1" : "10.77.0.1", UDP_PORT, SOCK_DGRAM);

		udp_echo(fd);
		close(fd);
	}
	do {
		usleep(1000);
		opened = least = atomic_load(&shared->opened[0]);
		for (int core = 1; core < 3; core++) {
			opened += atomic_load(&shared->opened[core]);
			least = least < atomic_load(&shared->opened[core]) ? least : atomic_load(&shared->opened[core]);
		}
	} while (opened < 24);
	assert_int_equal(opened, 24);
	assert_true(least >= 1);
	/* the one queue is its owner's alone */
	assert_true(atomic_load(&shared->sent[0]) > 24 && atomic_load(&shared->sent[1]) == 0 && atomic_load(&shared->sent[2]) == 0);
	node_stop(node);
}

static void xdp_drops_blocked_sources(void **state)
{
	const pid_t node = node_start(device_text, 1);
	uint8_t byte = 1;
	int v4, v6;

	(void)state;
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	v4 = dial("10.77.0.1", UDP_PORT, SOCK_DGRAM);
	v6 = dial("fd00:77::1", UDP_PORT, SOCK_DGRAM);
	udp_echo(v4);
	udp_echo(v6);
	atomic_store(&shared->block, 1);
	while (atomic_load(&shared->blocked) != 1)
		usleep(1000);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(send(v4, &byte, 1, 0), 1);
		assert_int_equal(send(v6, &byte, 1, 0), 1);
	}
	while (atomic_load(&shared->xdp[EB_BLOCKLISTED]) < 20)
		usleep(1000);
	assert_int_equal(recv(v4, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(recv(v6, &byte, 1, MSG_DONTWAIT), -1);
	atomic_store(&shared->block, 0);
	while (atomic_load(&shared->blocked) != 0)
		usleep(1000);
	udp_echo(v4);
	udp_echo(v6);
	close(v4);
	close(v6);
	node_stop(node);
}

static void a_killed_node_is_followed_by_the_next(void **state)
{
	pid_t first = node_start(device_text, 1), second;

	(void)state;
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	tcp_echo("10.77.0.1", 1000);
	kill(first, SIGKILL);
	assert_int_equal(waitpid(first, NULL, 0), first);
	assert_true(in_namespace_a(program_attached)); /* the kernel takes it for somebody's wish */
	second = node_start(device_text, 1);
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	assert_false(record_exists(first));
	tcp_echo("10.77.0.1", 1000);
	node_stop(second);
	assert_false(in_namespace_a(program_attached));
}

static void an_interface_serves_one_node(void **state)
{
	const pid_t node = node_start(device_text, 1);
	struct shared *second = mmap(NULL, sizeof(*second), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct shared *first = shared;

	(void)state;
	assert_ptr_not_equal(second, MAP_FAILED);
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	shared = second;
	const pid_t other = node_start(device_text, 1);
	assert_int_equal(atomic_load(&shared->state), NODE_FAILED);
	assert_int_equal(atomic_load(&shared->result), -EBUSY);
	waitpid(other, NULL, 0);
	shared = first;
	tcp_echo("10.77.0.1", 1000); /* the first is none the worse */
	node_stop(node);
	munmap(second, sizeof(*second));
}

static void another_s_program_is_left_alone(void **state)
{
	pid_t node;

	(void)state;
	assert_true(in_namespace_a(foreign_attach));
	node = node_start(device_text, 1);
	assert_int_equal(atomic_load(&shared->state), NODE_FAILED);
	assert_int_equal(atomic_load(&shared->result), -EEXIST);
	waitpid(node, NULL, 0);
	assert_true(in_namespace_a(program_attached));
	assert_true(in_namespace_a(foreign_detach));
}

static void other_devices_work_too(void **state)
{
	/* Endless frames of zeros: nothing but received and refused. No descriptor tells of them. */
	const pid_t node = node_start("net_null0,copy=1", 1);

	(void)state;
	assert_int_equal(atomic_load(&shared->state), NODE_READY);
	assert_string_equal(shared->describe, "net_null0");
	assert_int_equal(atomic_load(&shared->fd), -1);
	node_stop(node);
	node_start("net_no_such_driver0", 1);
	assert_int_equal(atomic_load(&shared->state), NODE_FAILED);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/* ---- the two namespaces ---- */

static int run(const char *format, const char *first, const char *second, int number)
{
	char command[256];

	snprintf(command, sizeof(command), format, first, second, number);
	return system(command);
}

/* 0, or what could not be had. */
static const char *namespaces_make(void)
{
	char path[64];
	int fd, up[2];
	pid_t holder;
	char byte;

	snprintf(ifname, sizeof(ifname), "tp%d", (int)getpid());
	snprintf(peer_name, sizeof(peer_name), "tq%d", (int)getpid());
	snprintf(device_text, sizeof(device_text), "net_af_xdp0,iface=%s", ifname);
	if (unshare(CLONE_NEWNET) != 0 || (namespace_a = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
		return "no network namespace can be made here";
	if (run("ip link add %s numtxqueues 1 numrxqueues 1 type veth peer name %s numtxqueues 1 numrxqueues 1", ifname, peer_name,
		0) != 0)
		return "no veth pair can be made here";
	if (run("ip link set %s up && ip link set %s up", ifname, peer_name, 0) != 0)
		return "the veth pair does not come up";
	if (pipe(up) != 0 || (holder = fork()) < 0)
		return "no process";
	if (holder == 0) {
		if (unshare(CLONE_NEWNET) == 0 && write(up[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(up[1]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)holder);
	if (read(up[0], &byte, 1) != 1 || run("ip link set %s netns %s%d", peer_name, "", holder) != 0 ||
	    (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 || setns(fd, CLONE_NEWNET) != 0)
		return "the second namespace cannot be made";
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	close(fd);
	close(up[0]);
	if (run("ethtool -K %s tx off gso off tso off >/dev/null && ip link set %s up", peer_name, peer_name, 0) != 0 ||
	    run("ip addr add 10.77.0.2/24 dev %s && ip -6 addr add fd00:77::2/64 dev %s nodad", peer_name, peer_name, 0) != 0)
		return "the interface cannot be set up";
	return NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linux_talks_to_our_stack),     cmocka_unit_test(flows_spread_over_the_cores),
		cmocka_unit_test(xdp_drops_blocked_sources),    cmocka_unit_test(a_killed_node_is_followed_by_the_next),
		cmocka_unit_test(an_interface_serves_one_node), cmocka_unit_test(another_s_program_is_left_alone),
		cmocka_unit_test(other_devices_work_too),
	};
	const char *missing;
	pid_t node;

	if (geteuid() != 0) {
		printf("skipped: an XDP program, hugepages and namespaces need root\n");
		return 77;
	}
	missing = namespaces_make();
	if (missing != NULL) {
		printf("skipped: %s\n", missing);
		return 77;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	node = node_start(device_text, 1);
	if (atomic_load(&shared->state) == NODE_FAILED && atomic_load(&shared->result) == -ENOMEM) {
		printf("skipped: no hugepages can be had here\n");
		return 77;
	}
	atomic_store(&shared->stop, 1);
	waitpid(node, NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
