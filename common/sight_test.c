/* Sight: filters, limits, rings that are overtaken, a reader beside a writer. */
#include "turnpike/sight.h"
#include "turnpike/text.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* 10.77.0.2:40000 > 10.77.0.1:80, TCP with SYN */
static const uint8_t syn[] = {
	0x02, 0, 0, 0,  0,  1, 0x02, 0,    0,    0, 0,  2, 0x08, 0x00, 0x45, 0, 0, 40, 0, 0,    0x40, 0,    64,   6, 0, 0, 10,
	77,   0, 2, 10, 77, 0, 1,    0x9c, 0x40, 0, 80, 0, 0,    0,    1,    0, 0, 0,  0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
};
static const uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,  0,  0, 0, 2, 0x08, 0x06, 0, 1, 8, 0,  6,  4, 0,
				1,    2,    0,    0,    0,    0,    2, 10, 77, 0, 2, 0, 0,    0,    0, 0, 0, 10, 77, 0, 1};

static struct tp_sight *sight;

static int setup(void **state)
{
	const int fd = tp_sight_create(&sight, 2);
	(void)state;
	close(fd);
	return fd < 0;
}

static int teardown(void **state)
{
	(void)state;
	tp_sight_unmap(sight);
	return 0;
}

static void start(const struct tp_sight_filter *filter, uint32_t records)
{
	tp_sight_stop(sight);
	tp_sight_start(sight, filter, records, 60, 2000);
}

static void see(uint32_t core)
{
	if (tp_sight_on(sight, TP_SIGHT_FRAME_IN))
		tp_sight_frame(sight, core, TP_SIGHT_FRAME_IN, 0, syn, sizeof(syn), TP_C_FRAMES_ACCEPTED, tp_mono_ns());
}

static void filters_match(void **state)
{
	static const struct {
		struct tp_sight_filter filter;
		const char *prefix;
		bool syn, arp;
	} row[] = {
		{{0}, NULL, true, true},
		{{.type = TP_SIGHT_TCP}, NULL, true, false},
		{{.type = TP_SIGHT_ARP}, NULL, false, true},
		{{.type = TP_SIGHT_UDP}, NULL, false, false},
		{{.port = 80}, NULL, true, false},
		{{.port = 40000}, NULL, true, false},
		{{.port = 81}, NULL, false, false},
		{{0}, "10.77.0.2", true, true},
		{{0}, "10.77.0.0/24", true, true},
		{{0}, "10.77.1.0/24", false, false},
		{{0}, "fd00::/8", false, false},
		{{.type = TP_SIGHT_TCP, .port = 80}, "10.77.0.1", true, false},
		{{.path = "/api"}, NULL, false, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct tp_sight_filter filter = row[i].filter;
		filter.has_prefix = row[i].prefix != NULL;
		if (filter.has_prefix)
			assert_int_equal(tp_prefix_parse(row[i].prefix, strlen(row[i].prefix), &filter.prefix), 0);
		if (tp_sight_frame_matches(&filter, syn, sizeof(syn)) != row[i].syn ||
		    tp_sight_frame_matches(&filter, arp, sizeof(arp)) != row[i].arp)
			fail_msg("row %zu", i);
	}
	/* any cut of a frame is looked at without reading past it (the sanitizer watches) */
	struct tp_sight_filter all = {.type = TP_SIGHT_TCP, .port = 80};
	for (uint32_t bytes = 0; bytes <= sizeof(syn); bytes++) {
		uint8_t *cut = test_malloc(bytes + 1);
		memcpy(cut, syn, bytes);
		assert_int_equal(tp_sight_frame_matches(&all, cut, bytes), bytes >= 38);
		test_free(cut);
	}
}

static void a_session_ends_by_count_and_by_time(void **state)
{
	const struct tp_sight_filter filter = {.kinds = 1 << TP_SIGHT_FRAME_IN};
	struct tp_sight_slot slot;
	uint64_t next[2] = {0}, lost = 0;
	(void)state;
	assert_false(tp_sight_on(sight, TP_SIGHT_FRAME_IN));
	see(0);
	start(&filter, 3);
	assert_false(tp_sight_on(sight, TP_SIGHT_FRAME_OUT));
	for (int i = 0; i < 5; i++)
		see(i & 1);
	assert_false(tp_sight_on(sight, TP_SIGHT_FRAME_IN));
	assert_int_equal(tp_sight_read(sight, 0, &next[0], &lost, &slot), 1);
	assert_int_equal(slot.record.bytes, sizeof(syn));
	assert_memory_equal(slot.data, syn, sizeof(syn));
	assert_int_equal(tp_sight_read(sight, 0, &next[0], &lost, &slot), 1);
	assert_int_equal(tp_sight_read(sight, 0, &next[0], &lost, &slot), 0);
	assert_int_equal(tp_sight_read(sight, 1, &next[1], &lost, &slot), 1);
	assert_int_equal(tp_sight_read(sight, 1, &next[1], &lost, &slot), 0);
	assert_int_equal(lost, 0);

	start(&filter, 3);
	assert_true(tp_sight_running(sight, sight->ends_ns - 1));
	tp_sight_frame(sight, 0, TP_SIGHT_FRAME_IN, 0, syn, sizeof(syn), TP_C_FRAMES_ACCEPTED, sight->ends_ns + 1);
	assert_false(tp_sight_on(sight, TP_SIGHT_FRAME_IN));
	start(&filter, 3);
	assert_false(tp_sight_running(sight, sight->ends_ns + 1));
	assert_false(tp_sight_on(sight, TP_SIGHT_FRAME_IN));
}

static void an_overtaken_reader_says_what_it_lost(void **state)
{
	const struct tp_sight_filter filter = {.kinds = 1 << TP_SIGHT_FRAME_IN};
	struct tp_sight_slot slot;
	uint64_t next = 0, lost = 0, got = 0;
	(void)state;
	start(&filter, 100000);
	for (int i = 0; i < TP_SIGHT_SLOTS + 10; i++)
		see(0);
	while (tp_sight_read(sight, 0, &next, &lost, &slot))
		got++;
	assert_int_equal(got, TP_SIGHT_SLOTS);
	assert_int_equal(lost, 10);
}

static void requests_match_by_path_and_peer(void **state)
{
	struct tp_sight_filter filter = {.kinds = 1 << TP_SIGHT_REQUEST, .path = "/api/v1/clicks"};
	struct tp_sight_record record = {.kind = TP_SIGHT_REQUEST, .status = 204, .peer = {.port = 40000}};
	struct tp_sight_slot slot;
	uint64_t next = 0, lost = 0;
	(void)state;
	tp_addr_parse("10.77.0.2", 9, &record.peer.addr);
	start(&filter, 10);
	tp_sight_request(sight, 0, &record, "/healthz", 8, tp_mono_ns());
	tp_sight_request(sight, 0, &record, "/api/v1/clicks", 14, tp_mono_ns());
	assert_int_equal(tp_sight_read(sight, 0, &next, &lost, &slot), 1);
	assert_memory_equal(slot.data, "/api/v1/clicks", 14);
	assert_int_equal(slot.record.status, 204);
	assert_int_equal(tp_sight_read(sight, 0, &next, &lost, &slot), 0);
	filter = (struct tp_sight_filter){.kinds = 1 << TP_SIGHT_REQUEST, .has_prefix = true};
	tp_prefix_parse("10.78.0.0/16", 12, &filter.prefix);
	start(&filter, 10);
	next = 0;
	tp_sight_request(sight, 0, &record, "/", 1, tp_mono_ns());
	assert_int_equal(tp_sight_read(sight, 0, &next, &lost, &slot), 0);
}

enum { WRITES = 200000 };

static void *writer(void *context)
{
	uint8_t frame[200];
	(void)context;
	for (uint32_t i = 0; i < WRITES; i++) {
		memset(frame, (int)(i & 0xff), sizeof(frame));
		tp_sight_frame(sight, 0, TP_SIGHT_FRAME_IN, 0, frame, 100 + i % 100, TP_C_FRAMES_ACCEPTED, 1);
	}
	return NULL;
}

static void a_reader_beside_a_writer_sees_whole_records(void **state)
{
	const struct tp_sight_filter filter = {.kinds = 1 << TP_SIGHT_FRAME_IN};
	struct tp_sight_slot slot;
	uint64_t next = 0, lost = 0, got = 0;
	pthread_t thread;
	(void)state;
	start(&filter, WRITES);
	assert_int_equal(pthread_create(&thread, NULL, writer, NULL), 0);
	while (next < WRITES) {
		if (!tp_sight_read(sight, 0, &next, &lost, &slot))
			continue;
		got++;
		for (uint32_t i = 1; i < slot.record.kept; i++)
			assert_int_equal(slot.data[i], slot.data[0]);
		assert_int_equal(slot.record.bytes, slot.record.kept);
	}
	pthread_join(thread, NULL);
	assert_int_equal(got + lost, WRITES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters_match),
		cmocka_unit_test(a_session_ends_by_count_and_by_time),
		cmocka_unit_test(an_overtaken_reader_says_what_it_lost),
		cmocka_unit_test(requests_match_by_path_and_peer),
		cmocka_unit_test(a_reader_beside_a_writer_sees_whole_records),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
