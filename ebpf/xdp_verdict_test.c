/*
 * The XDP program's verdicts, frame by frame, in the kernel through BPF_PROG_TEST_RUN. Needs root; exits 77 without.
 */
#include "xdp_testbed.h"

#include <sys/socket.h>
#include <time.h>

static uint64_t hits_of(struct bpf_object *object, uint32_t slot)
{
	uint64_t values[1024], sum = 0;
	const int cpus = libbpf_num_possible_cpus();

	assert_in_range(cpus, 1, 1024);
	assert_int_equal(bpf_map_lookup_elem(map_fd(object, EB_MAP_HITS), &slot, values), 0);
	for (int cpu = 0; cpu < cpus; cpu++)
		sum += values[cpu];
	return sum;
}

static void blocked_sources_are_dropped(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);

	(void)state;
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	block(object, "192.0.2.0/24", 0, false);
	block(object, "198.51.100.7/32", 1, false);
	block(object, "2001:db8:5::/48", EB_SLOTS_MAX - 1, false);
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
	const struct eb_counts counts = counts_read(object);
	assert_int_equal(counts.v[EB_BLOCKLISTED], 5);
	assert_int_equal(counts.v[EB_PASSED], 5);
	assert_int_equal(counts.v[EB_REDIRECTED], 0);
	assert_int_equal(hits_of(object, 0), 2);
	assert_int_equal(hits_of(object, 1), 1);
	assert_int_equal(hits_of(object, EB_SLOTS_MAX - 1), 2);
	bpf_object__close(object);
}

/* Of prefixes that hold a source the longest alone decides and counts. */
static void the_longest_prefix_decides(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);

	(void)state;
	block(object, "192.0.2.0/24", 0, false);
	block(object, "192.0.2.9/32", 1, true); /* an exception */
	block(object, "2001:db8::/32", 2, true);
	block(object, "2001:db8:0:1::/64", 3, false); /* and the other way round */
	assert_int_equal(verdict(fd, 0, "192.0.2.8"), VERDICT_DROP);
	assert_int_equal(verdict(fd, 0, "192.0.2.9"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8::9"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "2001:db8:0:1::9"), VERDICT_DROP);
	for (uint32_t slot = 0; slot < 4; slot++)
		assert_int_equal(hits_of(object, slot), 1);
	const struct eb_counts counts = counts_read(object);
	assert_int_equal(counts.v[EB_BLOCKLISTED], 2);
	assert_int_equal(counts.v[EB_PASSED], 2);
	bpf_object__close(object);
}

static void frames_go_to_the_socket_of_their_queue(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	const int sock = socket(AF_XDP, SOCK_RAW, 0);
	const uint32_t queue = 0;
	uint8_t arp[64] = {[12] = 0x08, [13] = 0x06};

	(void)state;
	assert_true(sock >= 0);
	assert_int_equal(verdict_of(fd, arp, sizeof(arp)), VERDICT_PASS);
	assert_int_equal(bpf_map_update_elem(map_fd(object, EB_MAP_SOCKETS), &queue, &sock, BPF_ANY), 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_REDIRECT);
	assert_int_equal(verdict_of(fd, arp, sizeof(arp)), VERDICT_REDIRECT);
	assert_int_equal(counts_read(object).v[EB_REDIRECTED], 2);
	block(object, "192.0.2.5/32", 0, false);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_DROP);
	close(sock);
	bpf_object__close(object);
}

/* ---- malformed frames ---- */

/* Puts `byte` at `at` bytes into the IP header, or cuts the frame to so many bytes from there. */
struct change {
	const char *what, *source;
	uint8_t protocol;
	struct {
		int16_t at; /* -1: none further */
		uint8_t byte;
	} put[6];
	int16_t cut;      /* bytes from the IP header on; 0: whole */
	int8_t reason;    /* of the eb counters; -1: passes */
	uint16_t payload; /* after the transport header */
};

#define END \
	{ \
		-1, 0 \
	}

enum { PASSES = -1 };

static const struct change changes[] = {
	{"TCP over IPv4", "192.0.2.5", TCP, {END}, 0, PASSES, 0},
	{"UDP over IPv4", "192.0.2.5", UDP, {END}, 0, PASSES, 8},
	{"TCP over IPv6", "2001:db8::5", TCP, {END}, 0, PASSES, 0},
	{"UDP over IPv6", "2001:db8::5", UDP, {END}, 0, PASSES, 8},
	{"ICMP", "192.0.2.5", UDP, {{9, 1}, END}, 0, PASSES, 0},
	/* headers cut off */
	{"IPv4 header cut", "192.0.2.5", TCP, {END}, 19, EB_TRUNCATED, 0},
	{"IPv6 header cut", "2001:db8::5", TCP, {END}, 39, EB_TRUNCATED, 0},
	{"TCP header that does not fit the packet", "192.0.2.5", TCP, {{3, 39}, END}, 0, EB_TRUNCATED, 0},
	{"UDP header that does not fit the packet", "192.0.2.5", UDP, {{3, 27}, END}, 0, EB_TRUNCATED, 0},
	{"TCP header that does not fit the packet, IPv6", "2001:db8::5", TCP, {{5, 19}, END}, 0, EB_TRUNCATED, 0},
	/* IPv4 */
	{"version 5", "192.0.2.5", TCP, {{0, 0x55}, END}, 0, EB_BAD_IPV4, 0},
	{"version 6 under IPv4's type", "192.0.2.5", TCP, {{0, 0x65}, END}, 0, EB_BAD_IPV4, 0},
	{"header length of four words", "192.0.2.5", TCP, {{0, 0x44}, END}, 0, EB_BAD_IPV4, 0},
	{"header longer than the packet", "192.0.2.5", TCP, {{0, 0x4f}, END}, 0, EB_BAD_IPV4, 0},
	{"total length below the header", "192.0.2.5", TCP, {{3, 19}, END}, 0, EB_BAD_IPV4, 0},
	{"total length beyond the frame", "192.0.2.5", TCP, {{3, 41}, END}, 0, EB_BAD_IPV4, 0},
	{"total length zero", "192.0.2.5", TCP, {{3, 0}, END}, 0, EB_BAD_IPV4, 0},
	{"options", "192.0.2.5", UDP, {{0, 0x46}, {28, 0}, {29, 24}, END}, 0, PASSES, 20},
	/* IPv6 */
	{"version 4 under IPv6's type", "2001:db8::5", TCP, {{0, 0x40}, END}, 0, EB_BAD_IPV6, 0},
	{"payload beyond the frame", "2001:db8::5", TCP, {{5, 21}, END}, 0, EB_BAD_IPV6, 0},
	{"payload of 65535", "2001:db8::5", TCP, {{4, 255}, {5, 255}, END}, 0, EB_BAD_IPV6, 0},
	/* sources */
	{"loopback", "127.0.0.1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"multicast", "224.0.0.1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"class E", "240.0.0.1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"broadcast", "255.255.255.255", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"this network", "0.0.0.1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"0.0.0.0 asks for an address", "0.0.0.0", UDP, {END}, 0, PASSES, 0},
	{"223.255.255.255", "223.255.255.255", UDP, {END}, 0, PASSES, 0},
	{"from itself", "10.77.0.1", TCP, {END}, 0, EB_BAD_SOURCE, 0},
	{"loopback, IPv6", "::1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"multicast, IPv6", "ff02::1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{"from itself, IPv6", "fd00::1", UDP, {END}, 0, EB_BAD_SOURCE, 0},
	{":: looks for duplicates", "::", UDP, {END}, 0, PASSES, 0},
	{"link-local", "fe80::5", UDP, {END}, 0, PASSES, 0},
	/* TCP, whose header begins at 20: length in the byte at 32, flags at 33 */
	{"TCP header of four words", "192.0.2.5", TCP, {{32, 0x40}, END}, 0, EB_BAD_TCP, 0},
	{"TCP options beyond the packet", "192.0.2.5", TCP, {{32, 0x60}, END}, 0, EB_BAD_TCP, 0},
	{"TCP options", "192.0.2.5", TCP, {{32, 0x60}, END}, 0, PASSES, 4},
	{"no flags", "192.0.2.5", TCP, {{33, 0}, END}, 0, EB_BAD_TCP, 0},
	{"URG and PSH alone", "192.0.2.5", TCP, {{33, 0x28}, END}, 0, EB_BAD_TCP, 0},
	{"SYN and FIN", "192.0.2.5", TCP, {{33, 0x03}, END}, 0, EB_BAD_TCP, 0},
	{"SYN and RST", "192.0.2.5", TCP, {{33, 0x06}, END}, 0, EB_BAD_TCP, 0},
	{"SYN, FIN and ACK", "2001:db8::5", TCP, {{53, 0x13}, END}, 0, EB_BAD_TCP, 0},
	{"FIN alone", "192.0.2.5", TCP, {{33, 0x01}, END}, 0, EB_BAD_TCP, 0},
	{"SYN with ECN", "192.0.2.5", TCP, {{33, 0xc2}, END}, 0, PASSES, 0},
	{"SYN and ACK", "192.0.2.5", TCP, {{33, 0x12}, END}, 0, PASSES, 0},
	{"RST alone", "192.0.2.5", TCP, {{33, 0x04}, END}, 0, PASSES, 0},
	{"FIN and ACK", "192.0.2.5", TCP, {{33, 0x11}, END}, 0, PASSES, 0},
	{"PSH and ACK", "192.0.2.5", TCP, {{33, 0x18}, END}, 0, PASSES, 40},
	/* UDP, its length at 24 */
	{"UDP length below its header", "192.0.2.5", UDP, {{25, 7}, END}, 0, EB_BAD_UDP, 8},
	{"UDP length beyond the packet", "192.0.2.5", UDP, {{25, 17}, END}, 0, EB_BAD_UDP, 8},
	{"UDP length below the packet's", "192.0.2.5", UDP, {{25, 12}, END}, 0, PASSES, 8},
	{"UDP length beyond the packet, IPv6", "2001:db8::5", UDP, {{45, 17}, END}, 0, EB_BAD_UDP, 8},
	/* fragments are the stack's to count; their inside is not looked at */
	{"first fragment", "192.0.2.5", TCP, {{6, 0x20}, {33, 0}, END}, 0, PASSES, 0},
	{"last fragment", "192.0.2.5", UDP, {{7, 2}, {25, 99}, END}, 0, PASSES, 0},
	{"do not fragment", "192.0.2.5", TCP, {{6, 0x40}, {33, 0}, END}, 0, EB_BAD_TCP, 0},
	/* extension headers: what stands at 40 takes 8 bytes of the UDP packet's room */
	{"fragment header", "2001:db8::5", UDP, {{6, 44}, {40, TCP}, END}, 0, PASSES, 8},
	{"hop-by-hop, then UDP", "2001:db8::5", UDP, {{6, 0}, {40, UDP}, {41, 0}, {53, 16}, END}, 0, PASSES, 16},
	{"hop-by-hop, then bad UDP", "2001:db8::5", UDP, {{6, 0}, {40, UDP}, {41, 0}, {53, 17}, END}, 0, EB_BAD_UDP, 16},
	{"extension longer than the packet", "2001:db8::5", UDP, {{6, 60}, {40, UDP}, {41, 9}, END}, 0, EB_BAD_EXTENSIONS, 16},
	{"extension cut off", "2001:db8::5", UDP, {{5, 7}, {6, 60}, {40, UDP}, END}, 0, EB_BAD_EXTENSIONS, 0},
	{"hop-by-hop not first", "2001:db8::5", UDP, {{6, 60}, {40, 0}, {41, 0}, END}, 0, EB_BAD_EXTENSIONS, 16},
	{"authentication, then UDP", "2001:db8::5", UDP, {{6, 51}, {40, UDP}, {41, 1}, {57, 12}, END}, 0, PASSES, 16},
	{"no next header", "2001:db8::5", UDP, {{6, 59}, END}, 0, PASSES, 0},
};

static void what_is_malformed_is_dropped_by_reason(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);

	(void)state;
	for (uint32_t tags = 0; tags < 2; tags++) {
		for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
			const struct change *change = &changes[i];
			const struct eb_counts before = counts_read(object);
			uint8_t frame[FRAME_BYTES_MAX];
			size_t ip, bytes = frame_build(frame, tags, change->source, change->protocol, change->payload, &ip);

			for (int k = 0; k < 6 && change->put[k].at >= 0 && (k == 0 || change->put[k].at > 0); k++)
				frame[ip + (size_t)change->put[k].at] = change->put[k].byte;
			if (change->cut)
				bytes = ip + (size_t)change->cut;
			const uint32_t got = verdict_of(fd, frame, bytes);
			const struct eb_counts after = counts_read(object);
			const int counted = change->reason == PASSES ? EB_PASSED : change->reason;
			for (int which = 0; which < EB_COUNTERS; which++)
				if (after.v[which] != before.v[which] + (which == counted))
					fail_msg("%s, %u tags: counter %d grew by %llu, verdict %u", change->what, tags, which,
						 after.v[which] - before.v[which], got);
			assert_int_equal(got, change->reason == PASSES ? VERDICT_PASS : VERDICT_DROP);
		}
	}
	bpf_object__close(object);
}

/* Whatever is cut wherever: a verdict, never a fault; and what is shorter than its headers is dropped. */
static void frames_of_every_length_get_a_verdict(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	uint8_t frame[FRAME_BYTES_MAX];
	size_t ip;

	(void)state;
	for (uint32_t tags = 0; tags < 2; tags++)
		for (int six = 0; six < 2; six++) {
			const size_t whole = frame_build(frame, tags, six ? "2001:db8::5" : "192.0.2.5", TCP, 12, &ip);

			for (size_t bytes = 14; bytes <= whole + 20; bytes++)
				assert_int_equal(verdict_of(fd, frame, bytes), bytes >= whole ? VERDICT_PASS : VERDICT_DROP);
		}
	bpf_object__close(object);
}

/* Nine headers of one kind, then UDP: one more than we follow. */
static void a_chain_of_extensions_has_an_end(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);

	(void)state;
	for (uint16_t headers = 7; headers <= 10; headers++) {
		uint8_t frame[FRAME_BYTES_MAX];
		size_t ip;
		const size_t bytes = frame_build(frame, 0, "2001:db8::5", UDP, (uint16_t)(headers * 8), &ip);

		frame[ip + 6] = 60;
		for (uint16_t i = 0; i < headers; i++) {
			memset(frame + ip + 40 + i * 8, 0, 8);
			frame[ip + 40 + i * 8] = i + 1 < headers ? 60 : UDP;
		}
		memset(frame + ip + 40 + headers * 8, 0, 8);
		frame[ip + 45 + headers * 8] = 8;
		assert_int_equal(verdict_of(fd, frame, bytes), headers <= EB_EXTENSIONS_MAX ? VERDICT_PASS : VERDICT_DROP);
	}
	assert_int_equal(counts_read(object).v[EB_BAD_EXTENSIONS], 2);
	bpf_object__close(object);
}

/* ---- the packet rate ---- */

static void settings_write(struct bpf_object *object, uint64_t interval_ns, uint64_t burst_ns)
{
	const uint32_t only = 0;
	const struct eb_settings settings = {.interval_ns = interval_ns, .burst_ns = burst_ns};

	assert_int_equal(bpf_map_update_elem(map_fd(object, EB_MAP_SETTINGS), &only, &settings, BPF_ANY), 0);
}

/* An hour between packets and a burst of four: no clock matters. */
static void a_source_beyond_its_rate_is_dropped(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	const uint64_t hour_ns = 3600000000000ULL;

	(void)state;
	for (int i = 0; i < 20; i++) /* off */
		assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	settings_write(object, hour_ns, 4 * hour_ns);
	for (int i = 0; i < 8; i++) {
		const uint32_t expected = i < 5 ? VERDICT_PASS : VERDICT_DROP;

		assert_int_equal(verdict(fd, 0, "192.0.2.5"), expected);
		assert_int_equal(verdict(fd, i % 2, "192.0.2.6"), expected); /* each for itself */
		/* the /64 is the source, whatever the rest */
		char text[64];
		snprintf(text, sizeof(text), "2001:db8:0:7::%x", i + 1);
		assert_int_equal(verdict(fd, 0, text), expected);
		snprintf(text, sizeof(text), "2001:db8:0:%x::1", i + 100);
		assert_int_equal(verdict(fd, 0, text), VERDICT_PASS);
	}
	assert_int_equal(counts_read(object).v[EB_RATE_LIMITED], 9);
	settings_write(object, 0, 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	bpf_object__close(object);
}

/* After a pause longer than the interval one more may come, and not more than the burst after any pause. */
static void a_source_is_forgiven_with_time(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	const struct timespec pause = {.tv_nsec = 120000000};

	(void)state;
	settings_write(object, 100000000, 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	nanosleep(&pause, NULL);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	settings_write(object, 3600000000000ULL, 0);
	nanosleep(&pause, NULL);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_DROP);
	bpf_object__close(object);
}

/* More sources than can be remembered, each seen once, each get through; who was seen often is not forgotten for them. */
static void a_flood_of_sources_hides_nobody(void **state)
{
	struct bpf_object *object = object_load();
	const int fd = program_fd(object);
	uint8_t frame[FRAME_BYTES_MAX];
	size_t ip;
	const size_t bytes = frame_build(frame, 0, "100.64.0.0", UDP, 8, &ip);

	(void)state;
	settings_write(object, 3600000000000ULL, 0);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_PASS);
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_DROP);
	for (uint32_t i = 0; i < EB_SOURCES_MAX + EB_SOURCES_MAX / 2; i++) {
		frame[ip + 13] = (uint8_t)(64 + (i >> 16));
		frame[ip + 14] = (uint8_t)(i >> 8);
		frame[ip + 15] = (uint8_t)i;
		assert_int_equal(verdict_of(fd, frame, bytes), VERDICT_PASS);
	}
	assert_int_equal(verdict(fd, 0, "192.0.2.5"), VERDICT_DROP);
	bpf_object__close(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocked_sources_are_dropped),
		cmocka_unit_test(the_longest_prefix_decides),
		cmocka_unit_test(frames_go_to_the_socket_of_their_queue),
		cmocka_unit_test(what_is_malformed_is_dropped_by_reason),
		cmocka_unit_test(frames_of_every_length_get_a_verdict),
		cmocka_unit_test(a_chain_of_extensions_has_an_end),
		cmocka_unit_test(a_source_beyond_its_rate_is_dropped),
		cmocka_unit_test(a_source_is_forgiven_with_time),
		cmocka_unit_test(a_flood_of_sources_hides_nobody),
	};

	if (geteuid() != 0) {
		printf("skipped: loading an XDP program needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
