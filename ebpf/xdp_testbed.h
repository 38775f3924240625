/*
 * What the tests of the XDP program share: the program loaded from this binary, frames to run it on, its maps by name. Needs root.
 */
#ifndef TURNPIKE_XDP_TESTBED_H
#define TURNPIKE_XDP_TESTBED_H

#include "turnpike/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { VERDICT_DROP = 1, VERDICT_PASS = 2, VERDICT_REDIRECT = 4 }; /* of the kernel's enum xdp_action */
enum { FRAME_BYTES_MAX = 256, TCP = 6, UDP = 17 };

static inline struct bpf_object *object_load(void)
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

static inline int program_fd(struct bpf_object *object)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, EB_PROGRAM_NAME);

	assert_non_null(program);
	return bpf_program__fd(program);
}

static inline int map_fd(struct bpf_object *object, const char *name)
{
	const int fd = bpf_object__find_map_fd_by_name(object, name);

	assert_true(fd >= 0);
	return fd;
}

static inline struct tp_prefix prefix_of(const char *text)
{
	struct tp_prefix prefix;

	assert_int_equal(tp_prefix_parse(text, strlen(text), &prefix), 0);
	return prefix;
}

/*
 * A well-formed frame: up to three VLAN tags, IPv4 or IPv6 by the source, then TCP (a SYN) or UDP with `payload` bytes. *ip is where
 * the IP header begins. Returns the length.
 */
static inline size_t frame_build(uint8_t frame[FRAME_BYTES_MAX], uint32_t vlan_tags, const char *source, uint8_t protocol,
				 uint16_t payload, size_t *ip)
{
	const uint16_t transport = (uint16_t)((protocol == TCP ? 20 : 8) + payload);
	struct tp_addr addr;
	size_t at = 12;

	memset(frame, 0, FRAME_BYTES_MAX);
	for (uint32_t i = 0; i < vlan_tags; i++, at += 4) {
		frame[at] = 0x81;
		frame[at + 3] = 7;
	}
	assert_int_equal(tp_addr_parse(source, strlen(source), &addr), 0);
	frame[at] = addr.family == 4 ? 0x08 : 0x86;
	frame[at + 1] = addr.family == 4 ? 0x00 : 0xdd;
	*ip = at + 2;
	uint8_t *header = frame + *ip, *next;
	if (addr.family == 4) {
		header[0] = 0x45;
		header[2] = (uint8_t)((20 + transport) >> 8);
		header[3] = (uint8_t)(20 + transport);
		header[8] = 64;
		header[9] = protocol;
		memcpy(header + 12, addr.byte + 12, 4);
		memcpy(header + 16, (const uint8_t[4]){10, 77, 0, 1}, 4);
		next = header + 20;
	} else {
		header[0] = 0x60;
		header[4] = (uint8_t)(transport >> 8);
		header[5] = (uint8_t)transport;
		header[6] = protocol;
		header[7] = 64;
		memcpy(header + 8, addr.byte, 16);
		header[24] = 0xfd;
		header[39] = 1;
		next = header + 40;
	}
	if (protocol == TCP) {
		next[12] = 0x50;
		next[13] = 0x02;
	} else {
		next[4] = (uint8_t)(transport >> 8);
		next[5] = (uint8_t)transport;
	}
	return (size_t)(next - frame) + transport;
}

static inline uint32_t verdict_of(int fd, const uint8_t *frame, size_t bytes)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = (uint32_t)bytes, .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
	return run.retval;
}

static inline uint32_t verdict(int fd, uint32_t vlan_tags, const char *source)
{
	uint8_t frame[FRAME_BYTES_MAX];
	size_t ip;
	const size_t bytes = frame_build(frame, vlan_tags, source, UDP, 32, &ip);

	return verdict_of(fd, frame, bytes);
}

/* Sums over CPUs. */
static inline struct eb_counts counts_read(struct bpf_object *object)
{
	static struct eb_counts values[1024];
	struct eb_counts sum = {0};
	const int cpus = libbpf_num_possible_cpus();
	const uint32_t only = 0;

	assert_in_range(cpus, 1, 1024);
	assert_int_equal(bpf_map_lookup_elem(map_fd(object, EB_MAP_COUNTERS), &only, values), 0);
	for (int cpu = 0; cpu < cpus; cpu++)
		for (int which = 0; which < EB_COUNTERS; which++)
			sum.v[which] += values[cpu].v[which];
	return sum;
}

static inline void block(struct bpf_object *object, const char *text, uint32_t slot, bool count_only)
{
	const struct tp_prefix prefix = prefix_of(text);
	const struct eb_value value = {.slot = slot, .count_only = count_only};
	struct eb_key_v4 four = {.bits = prefix.bits};
	struct eb_key_v6 six = {.bits = prefix.bits};

	memcpy(four.addr, prefix.addr.byte + 12, 4);
	memcpy(six.addr, prefix.addr.byte, 16);
	if (prefix.addr.family == 4)
		assert_int_equal(bpf_map_update_elem(map_fd(object, EB_MAP_V4), &four, &value, BPF_ANY), 0);
	else
		assert_int_equal(bpf_map_update_elem(map_fd(object, EB_MAP_V6), &six, &value, BPF_ANY), 0);
}

#endif
