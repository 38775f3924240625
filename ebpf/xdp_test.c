/*
 * The loader side of the XDP program on a veth pair in a network namespace of this process, which goes with it. Needs root; exits 77
 * without. The program's verdicts: xdp_verdict_test.c.
 */
#include "xdp_testbed.h"

#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

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

static struct eb_block block_of(const char *text, uint32_t slot, bool count_only)
{
	return (struct eb_block){.prefix = prefix_of(text), .slot = slot, .count_only = count_only};
}

static void blocklist_holds_exactly_the_list(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	struct eb_block list[4] = {block_of("192.0.2.77/24", 3, false), block_of("2001:db8::9/33", 70, false),
				   block_of("192.0.2.99/24", 4, false), block_of("192.0.2.50", 5, true)};
	uint64_t counters[EB_COUNTERS], hits[100] = {0};
	struct eb_xdp *xdp;

	(void)state;
	attach(object, XDP_FLAGS_UPDATE_IF_NOEXIST);
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	assert_string_equal(eb_xdp_mode(xdp), "native");
	/* Host bits do not matter, and one prefix said twice is one. */
	assert_int_equal(eb_xdp_blocklist(xdp, list, 4), 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "192.0.2.50"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:7fff::1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "2001:db8:8000::1"), VERDICT_PASS);
	list[0] = block_of("198.51.100.0/25", 6, false);
	assert_int_equal(eb_xdp_blocklist(xdp, list, 2), 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.1"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "198.51.100.127"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "198.51.100.128"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:7fff::1"), VERDICT_DROP);
	/* The same prefix with another mode and slot. */
	list[0] = block_of("198.51.100.0/25", 99, true);
	assert_int_equal(eb_xdp_blocklist(xdp, list, 2), 0);
	assert_int_equal(verdict(fd, 0, "198.51.100.127"), VERDICT_PASS);
	assert_int_equal(eb_xdp_counters(xdp, counters), 0);
	assert_int_equal(counters[EB_BLOCKLISTED], 4);
	assert_int_equal(counters[EB_PASSED], 5);
	hits[70] = 1000; /* what others have counted is added to */
	assert_int_equal(eb_xdp_hits(xdp, hits, 100), 0);
	assert_int_equal(hits[3] + hits[4], 1);
	assert_int_equal(hits[5], 1);
	assert_int_equal(hits[6], 1);
	assert_int_equal(hits[70], 1002);
	assert_int_equal(hits[99], 1);
	eb_xdp_close(xdp);
	/* A new handle finds what the trie holds, and can empty it. */
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	assert_int_equal(eb_xdp_blocklist(xdp, NULL, 0), 0);
	assert_int_equal(verdict(fd, 0, "198.51.100.127"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:7fff::1"), VERDICT_PASS);
	memset(hits, 0, sizeof(hits));
	assert_int_equal(eb_xdp_hits(xdp, hits, 100), 0);
	assert_int_equal(hits[99], 1);
	eb_xdp_close(xdp);
	assert_int_equal(eb_stale_detach(ifname), 0);
	bpf_object__close(object);
}

static void long_lists_replace_each_other(void **state)
{
	struct bpf_object *object = object_load();
	struct eb_block *list = calloc(2 * EB_PREFIXES_MAX, sizeof(*list));
	uint64_t *hits = calloc(EB_SLOTS_MAX, sizeof(*hits));
	const int fd = program_fd(object);
	struct eb_xdp *xdp;

	(void)state;
	assert_non_null(list);
	assert_non_null(hits);
	for (uint32_t i = 0; i < 2 * EB_PREFIXES_MAX; i++) {
		const uint8_t four[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
		list[i] = (struct eb_block){.prefix = {.addr = tp_addr_v4(four), .bits = 32}, .slot = i};
	}
	attach(object, XDP_FLAGS_UPDATE_IF_NOEXIST);
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	assert_int_equal(eb_xdp_blocklist(xdp, list, 1), 0);
	assert_int_equal(eb_xdp_blocklist(xdp, list, EB_PREFIXES_MAX + 1), -E2BIG);
	assert_int_equal(verdict(fd, 0, "10.0.0.0"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "10.0.0.1"), VERDICT_PASS);
	assert_int_equal(eb_xdp_blocklist(xdp, list, EB_PREFIXES_MAX), 0);
	/* One more and one less while the list is full; then a full list for another, which never opens what both hold. */
	assert_int_equal(eb_xdp_blocklist(xdp, list + 1, EB_PREFIXES_MAX), 0);
	assert_int_equal(verdict(fd, 0, "10.0.0.0"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "10.0.0.1"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "10.2.0.0"), VERDICT_DROP);
	assert_int_equal(eb_xdp_blocklist(xdp, list + EB_PREFIXES_MAX, EB_PREFIXES_MAX), 0);
	assert_int_equal(verdict(fd, 0, "10.0.0.1"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "10.3.255.255"), VERDICT_DROP);
	assert_int_equal(eb_xdp_hits(xdp, hits, EB_SLOTS_MAX), 0);
	assert_int_equal(hits[0], 1);
	assert_int_equal(hits[1], 1);
	assert_int_equal(hits[EB_PREFIXES_MAX], 1);
	assert_int_equal(hits[EB_SLOTS_MAX - 1], 1);
	eb_xdp_close(xdp);
	assert_int_equal(eb_stale_detach(ifname), 0);
	bpf_object__close(object);
	free(list);
	free(hits);
}

static void the_packet_rate_is_set_and_taken_back(void **state)
{
	struct bpf_object *object = object_load();
	const uint32_t only = 0;
	struct eb_settings settings;
	struct eb_xdp *xdp;

	(void)state;
	attach(object, XDP_FLAGS_UPDATE_IF_NOEXIST);
	assert_int_equal(eb_xdp_open(&xdp, ifname), 0);
	const struct {
		uint32_t rate;
		uint64_t interval_ns, burst_ns;
	} row[] = {{1000, 1000000, 100000000}, {2, 500000000, 500000000}, {UINT32_MAX, 1, 100000000}, {0, 0, 0}};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		assert_int_equal(eb_xdp_packet_rate(xdp, row[i].rate), 0);
		assert_int_equal(bpf_map_lookup_elem(map_fd(object, EB_MAP_SETTINGS), &only, &settings), 0);
		assert_int_equal(settings.interval_ns, row[i].interval_ns);
		assert_int_equal(settings.burst_ns, row[i].burst_ns);
	}
	eb_xdp_close(xdp);
	assert_int_equal(eb_stale_detach(ifname), 0);
	bpf_object__close(object);
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
		cmocka_unit_test(stale_program_is_detached),
		cmocka_unit_test(foreign_program_is_left_alone),
		cmocka_unit_test(blocklist_holds_exactly_the_list),
		cmocka_unit_test(long_lists_replace_each_other),
		cmocka_unit_test(the_packet_rate_is_set_and_taken_back),
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
