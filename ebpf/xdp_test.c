/*
 * The XDP program in the kernel: verdicts through BPF_PROG_TEST_RUN, and the loader side on a veth pair in a network namespace of
 * this process, which goes with it. Needs root; exits 77 without.
 */
#include "turnpike/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { VERDICT_DROP = 1, VERDICT_PASS = 2, VERDICT_REDIRECT = 4 }; /* of the kernel's enum xdp_action */

static struct bpf_object *object_load(void)
{
	struct bpf_object *object;
	char path[64];
	const int fd = eb_object_fd();

	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	object = bpf_object__open_file(path, NULL);
	assert_non_null(object);
	assert_int_equal(bpf_object__load(object), 0);
	close(fd);
	return object;
}

static int program_fd(struct bpf_object *object)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, EB_PROGRAM_NAME);

	assert_non_null(program);
	return bpf_program__fd(program);
}

static struct tp_prefix prefix_of(const char *text)
{
	struct tp_prefix prefix;

	assert_int_equal(tp_prefix_parse(text, strlen(text), &prefix), 0);
	return prefix;
}

/* A frame of 64 bytes: up to three VLAN tags, then IPv4 or IPv6 with this source. */
static size_t frame_build(uint8_t frame[128], uint32_t vlan_tags, const char *source)
{
	struct tp_addr addr;
	size_t at = 12;

	memset(frame, 0, 128);
	for (uint32_t i = 0; i < vlan_tags; i++, at += 4) {
		frame[at] = 0x81;
		frame[at + 3] = 7;
	}
	assert_int_equal(tp_addr_parse(source, strlen(source), &addr), 0);
	if (addr.family == 4) {
		frame[at] = 0x08;
		frame[at + 2] = 0x45;
		memcpy(frame + at + 2 + 12, addr.byte + 12, 4);
	} else {
		frame[at] = 0x86;
		frame[at + 1] = 0xdd;
		frame[at + 2] = 0x60;
		memcpy(frame + at + 2 + 8, addr.byte, 16);
	}
	return at + 2 + 48;
}

static uint32_t verdict_of(int fd, const uint8_t *frame, size_t bytes)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = (uint32_t)bytes, .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
	return run.retval;
}

static uint32_t verdict(int fd, uint32_t vlan_tags, const char *source)
{
	uint8_t frame[128];
	const size_t bytes = frame_build(frame, vlan_tags, source);

	return verdict_of(fd, frame, bytes);
}

static uint64_t counter_sum(struct bpf_object *object, uint32_t which)
{
	uint64_t values[1024], sum = 0;
	const int cpus = libbpf_num_possible_cpus();

	assert_in_range(cpus, 1, 1024);
	assert_int_equal(bpf_map_lookup_elem(bpf_object__find_map_fd_by_name(object, EB_MAP_COUNTERS), &which, values), 0);
	for (int cpu = 0; cpu < cpus; cpu++)
		sum += values[cpu];
	return sum;
}

static void block_v4(struct bpf_object *object, const char *text)
{
	const struct tp_prefix prefix = prefix_of(text);
	struct eb_key_v4 key = {.bits = prefix.bits};
	const uint32_t value = 1;

	memcpy(key.addr, prefix.addr.byte + 12, 4);
	assert_int_equal(bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, EB_MAP_V4), &key, &value, BPF_ANY), 0);
}

static void block_v6(struct bpf_object *object, const char *text)
{
	const struct tp_prefix prefix = prefix_of(text);
	struct eb_key_v6 key = {.bits = prefix.bits};
	const uint32_t value = 1;

	memcpy(key.addr, prefix.addr.byte, 16);
	assert_int_equal(bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, EB_MAP_V6), &key, &value, BPF_ANY), 0);
}

static void blocked_sources_are_dropped(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);

	(void)state;
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	block_v4(object, "192.0.2.0/24");
	block_v4(object, "198.51.100.7/32");
	block_v6(object, "2001:db8:5::/48");
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 1, "192.0.2.255"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "192.0.3.5"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "198.51.100.7"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "198.51.100.6"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:5::1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 1, "2001:db8:5:ffff::1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 1, "2001:db8:6::1"), VERDICT_PASS);
	/* More than one tag is for the stack to refuse. */
	assert_int_equal(verdict(fd, 2, "192.0.2.5"), VERDICT_PASS);
	assert_int_equal(counter_sum(object, EB_BLOCKLISTED), 5);
	assert_int_equal(counter_sum(object, EB_PASSED), 5);
	assert_int_equal(counter_sum(object, EB_REDIRECTED), 0);
	bpf_object__close(object);
}

static void short_frames_are_not_judged(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	uint8_t frame[128];

	(void)state;
	block_v4(object, "0.0.0.0/0");
	block_v6(object, "::/0");
	for (uint32_t tags = 0; tags < 2; tags++) {
		/* Everything from the source's last byte on drops, everything shorter passes; never a fault. */
		const size_t v4_needs = 14 + tags * 4 + 16, v6_needs = 14 + tags * 4 + 24;

		for (size_t bytes = 14; bytes <= 64; bytes++) {
			frame_build(frame, tags, "192.0.2.5");
			assert_int_equal(verdict_of(fd, frame, bytes), bytes >= v4_needs ? VERDICT_DROP : VERDICT_PASS);
			frame_build(frame, tags, "2001:db8::1");
			assert_int_equal(verdict_of(fd, frame, bytes), bytes >= v6_needs ? VERDICT_DROP : VERDICT_PASS);
		}
	}
	memset(frame, 0, sizeof(frame));
	frame[12] = 0x08;
	frame[13] = 0x06; /* ARP */
	assert_int_equal(verdict_of(fd, frame, 64), VERDICT_PASS);
	bpf_object__close(object);
}

static void frames_go_to_the_socket_of_their_queue(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	const int sock = socket(AF_XDP, SOCK_RAW, 0);
	const uint32_t queue = 0;

	(void)state;
	assert_true(sock >= 0);
	assert_int_equal(bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, EB_MAP_SOCKETS), &queue, &sock, BPF_ANY), 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_REDIRECT);
	assert_int_equal(counter_sum(object, EB_REDIRECTED), 1);
	block_v4(object, "192.0.2.5/32");
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_DROP);
	close(sock);
	bpf_object__close(object);
}

static char ifname[IFNAMSIZ];

static void attach(struct bpf_object *object, uint32_t flags)
{
	assert_int_equal(bpf_xdp_attach((int)if_nametoindex(ifname), program_fd(object), flags, NULL), 0);
}

static uint32_t attached_id(void)
{
	uint32_t id = 0;

	assert_int_equal(bpf_xdp_query_id((int)if_nametoindex(ifname), 0, &id), 0);
	return id;
}

static void stale_program_is_detached(void **state)
{
	(void)state;
	assert_int_equal(eb_stale_detach("no-such-if"), -ENODEV);
	assert_int_equal(eb_stale_detach(ifname), 0);
	for (uint32_t mode = 0; mode < 2; mode++) {
		struct bpf_object *object = object_load();

		attach(object, mode == 0 ? XDP_FLAGS_UPDATE_IF_NOEXIST : XDP_FLAGS_SKB_MODE);
		bpf_object__close(object); /* as a kill does: the interface alone holds it now */
		assert_int_not_equal(attached_id(), 0);
		assert_int_equal(eb_stale_detach(ifname), 0);
		assert_int_equal(attached_id(), 0);
	}
}

static void foreign_program_is_left_alone(void **state)
{
	const struct bpf_insn pass[] = {{.code = 0xb7, .imm = VERDICT_PASS}, {.code = 0x95}}; /* r0 = XDP_PASS; exit */
	const int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_else", "GPL", pass, 2, NULL);
	struct eb_xdp *xdp;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(bpf_xdp_attach((int)if_nametoindex(ifname), fd, 0, NULL), 0);
	assert_int_equal(eb_stale_detach(ifname), -EEXIST);
	assert_int_equal(eb_xdp_open(&xdp, ifname), -ENOENT);
	assert_null(xdp);
	assert_int_not_equal(attached_id(), 0);
	assert_int_equal(bpf_xdp_detach((int)if_nametoindex(ifname), 0, NULL), 0);
	close(fd);
}

static void blocklist_holds_exactly_the_list(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	struct tp_prefix list[3] = {prefix_of("192.0.2.77/24"), prefix_of("2001:db8::9/33"), prefix_of("192.0.2.99/24")};
	uint64_t counters[EB_COUNTERS];
	struct eb_xdp *xdp;

	(void)state;
	attach(object, XDP_FLAGS_UPDATE_IF_NOEXIST);
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	assert_string_equal(eb_xdp_mode(xdp), "native");
	/* Host bits do not matter, and one prefix said twice is one. */
	assert_int_equal(eb_xdp_blocklist(xdp, list, 3), 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "2001:db8:7fff::1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "2001:db8:8000::1"), VERDICT_PASS);
	list[0] = prefix_of("198.51.100.0/25");
	assert_int_equal(eb_xdp_blocklist(xdp, list, 2), 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.1"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "198.51.100.127"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "198.51.100.128"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:7fff::1"), VERDICT_DROP);
	assert_int_equal(eb_xdp_counters(xdp, counters), 0);
	assert_int_equal(counters[EB_BLOCKLISTED], 4);
	assert_int_equal(counters[EB_PASSED], 3);
	eb_xdp_close(xdp);
	/* A new handle finds what the trie holds, and can empty it. */
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	assert_int_equal(eb_xdp_blocklist(xdp, NULL, 0), 0);
	assert_int_equal(verdict(fd, 0, "198.51.100.127"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:7fff::1"), VERDICT_PASS);
	eb_xdp_close(xdp);
	assert_int_equal(eb_stale_detach(ifname), 0);
	bpf_object__close(object);
}

static void long_lists_replace_each_other(void **state)
{
	struct bpf_object *object = object_load();
	struct tp_prefix *list = calloc(EB_PREFIXES_MAX + 1, sizeof(*list));
	const int fd = program_fd(object);
	struct eb_xdp *xdp;

	(void)state;
	assert_non_null(list);
	for (uint32_t i = 0; i <= EB_PREFIXES_MAX; i++)
		list[i] = (struct tp_prefix){
			.addr = tp_addr_v4((const uint8_t[4]){10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}), .bits = 32};
	attach(object, XDP_FLAGS_UPDATE_IF_NOEXIST);
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	assert_int_equal(eb_xdp_blocklist(xdp, list, 1), 0);
	assert_int_equal(eb_xdp_blocklist(xdp, list, EB_PREFIXES_MAX + 1), -E2BIG);
	assert_int_equal(verdict(fd, 0, "10.0.0.0"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "10.0.0.1"), VERDICT_PASS);
	assert_int_equal(eb_xdp_blocklist(xdp, list, EB_PREFIXES_MAX), 0);
	/* One more and one less while the trie is full. */
	assert_int_equal(eb_xdp_blocklist(xdp, list + 1, EB_PREFIXES_MAX), 0);
	assert_int_equal(verdict(fd, 0, "10.0.0.0"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "10.0.0.1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "10.1.0.0"), VERDICT_DROP);
	eb_xdp_close(xdp);
	assert_int_equal(eb_stale_detach(ifname), 0);
	bpf_object__close(object);
	free(list);
}

static void claim_ends_with_its_process(void **state)
{
	int ready[2], second;
	char byte;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		if (eb_interface_claim(ifname) >= 0 && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(eb_interface_claim(ifname), -EBUSY);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	second = eb_interface_claim(ifname);
	assert_true(second >= 0);
	close(second);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocked_sources_are_dropped),
		cmocka_unit_test(short_frames_are_not_judged),
		cmocka_unit_test(frames_go_to_the_socket_of_their_queue),
		cmocka_unit_test(stale_program_is_detached),
		cmocka_unit_test(foreign_program_is_left_alone),
		cmocka_unit_test(blocklist_holds_exactly_the_list),
		cmocka_unit_test(long_lists_replace_each_other),
		cmocka_unit_test(claim_ends_with_its_process),
	};
	char command[128];

	if (geteuid() != 0) {
		printf("skipped: loading an XDP program needs root\n");
		return 77;
	}
	if (unshare(CLONE_NEWNET) != 0) {
		printf("skipped: no network namespace can be made here: %s\n", strerror(errno));
		return 77;
	}
	snprintf(ifname, sizeof(ifname), "xt%d", (int)getpid());
	snprintf(command, sizeof(command), "ip link add %s type veth peer name %sp", ifname, ifname);
	if (system(command) != 0) {
		printf("skipped: no veth pair can be made here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
