/*
 * What the XDP program costs for each verdict, in the kernel through BPF_PROG_TEST_RUN, on one core: bench_xdp [PREFIXES]. Needs root.
 * The kernel times the program alone, without driver and without the frame's copy to a socket: the most that one core can drop.
 */
#include "turnpike/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REPEAT = 2000000, ROUNDS = 5, FRAME_BYTES = 64, BATCH = 4096 };

static int map(struct bpf_object *object, const char *name)
{
	return bpf_object__find_map_fd_by_name(object, name);
}

static struct bpf_object *object_load(int *program)
{
	struct bpf_object *object;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", eb_object_fd());
	object = bpf_object__open_file(path, NULL);
	if (!object || bpf_object__load(object) != 0)
		return NULL;
	*program = bpf_program__fd(bpf_object__find_program_by_name(object, EB_PROGRAM_NAME));
	return object;
}

/* 11.0.0.0/24 and so on, and as many /48 of IPv6: disjoint, as published lists are. */
static void list_fill(struct bpf_object *object, uint32_t prefixes)
{
	for (uint32_t i = 0; i < prefixes; i++) {
		const struct eb_key_v4 four = {.bits = 24, .addr = {11 + (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
		const struct eb_key_v6 six = {.bits = 48, .addr = {0x20, 1, 0xd, 0xb8, (uint8_t)(i >> 8), (uint8_t)i}};
		const struct eb_value value = {.slot = i};

		bpf_map_update_elem(map(object, EB_MAP_V4), &four, &value, BPF_ANY);
		if (i < 65536)
			bpf_map_update_elem(map(object, EB_MAP_V6), &six, &value, BPF_ANY);
	}
}

/* A UDP packet of 64 bytes. */
static void frame_build(uint8_t frame[FRAME_BYTES], bool six, uint8_t first, uint8_t second)
{
	uint8_t *ip = frame + 14;

	memset(frame, 0, FRAME_BYTES);
	frame[12] = six ? 0x86 : 0x08;
	frame[13] = six ? 0xdd : 0;
	if (six) {
		memcpy(ip, (const uint8_t[8]){0x60, 0, 0, 0, 0, 10, 17, 64}, 8);
		memcpy(ip + 8, (const uint8_t[6]){0x20, 1, 0xd, first, second, 7}, 6);
		ip[39] = 1;
		ip[45] = 10;
	} else {
		memcpy(ip, (const uint8_t[10]){0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17}, 10);
		memcpy(ip + 12, (const uint8_t[4]){first, second, 2, 1}, 4);
		memcpy(ip + 16, (const uint8_t[4]){10, 0, 0, 1}, 4);
		ip[25] = 30;
	}
}

static void measure(int program, const char *what, const uint8_t frame[FRAME_BYTES])
{
	uint32_t best = UINT32_MAX, verdict = 0;

	for (int round = 0; round < ROUNDS; round++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = FRAME_BYTES, .repeat = REPEAT);

		if (bpf_prog_test_run_opts(program, &run) != 0)
			return;
		best = run.duration < best ? run.duration : best;
		verdict = run.retval;
	}
	printf("%-44s %-5s %4u ns  %6.1f Mpps\n", what, verdict == 1 ? "drop" : "pass", best, 1e3 / best);
}

int main(int words, char **word)
{
	const uint32_t prefixes = words > 1 ? (uint32_t)strtoul(word[1], NULL, 10) : 100000;
	const uint32_t only = 0;
	uint8_t frame[FRAME_BYTES];
	int program = -1;
	struct bpf_object *object = object_load(&program);

	if (!object || prefixes > EB_PREFIXES_MAX) {
		fputs("bench_xdp: the program cannot be loaded (root?), or more prefixes than it takes\n", stderr);
		return 1;
	}
	printf("XDP program, one core, best of %d times %d runs\n", ROUNDS, REPEAT);
	frame_build(frame, false, 192, 0);
	measure(program, "IPv4, empty list", frame);
	frame_build(frame, true, 0xb8, 0);
	measure(program, "IPv6, empty list", frame);
	frame[14] = 0x50;
	measure(program, "IPv6, malformed", frame);
	frame_build(frame, false, 192, 0);
	frame[17] = 200;
	measure(program, "IPv4, malformed", frame);
	list_fill(object, prefixes);
	printf("with %u prefixes:\n", prefixes);
	frame_build(frame, false, 11, 0);
	measure(program, "IPv4, blocklisted", frame);
	frame_build(frame, false, 192, 0);
	measure(program, "IPv4, not listed", frame);
	frame_build(frame, true, 0xb8, 0);
	measure(program, "IPv6, blocklisted", frame);
	frame_build(frame, true, 0xb9, 0);
	measure(program, "IPv6, not listed", frame);
	const struct eb_settings slow = {.interval_ns = 1000000000000ULL, .burst_ns = 0},
				 fast = {.interval_ns = 1, .burst_ns = 1000000};
	frame_build(frame, false, 192, 0);
	bpf_map_update_elem(map(object, EB_MAP_SETTINGS), &only, &fast, BPF_ANY);
	measure(program, "IPv4, not listed, within its rate", frame);
	bpf_map_update_elem(map(object, EB_MAP_SETTINGS), &only, &slow, BPF_ANY);
	measure(program, "IPv4, not listed, beyond its rate", frame);
	bpf_object__close(object);
	return 0;
}
