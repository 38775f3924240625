/* The ring of dead letters: what is kept, what is not and why, what a rollback leaves, and that the books balance at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dead.h"

#include <string.h>

static struct tp_hop ring;
static struct tp_counters counters;
static struct dp_dead dead;
static char long_text[8192];

static const struct dp_dead_what what = {.reason = TP_FUTURE, .field = TP_FIELD_TIMESTAMP, .index = 7};

static void begin(uint32_t per_second, uint64_t bytes_per_second)
{
	const struct tp_endpoint peer = {.addr = tp_addr_v4((const uint8_t[]){192, 0, 2, 1}), .port = 99};
	tp_hop_fini(&ring);
	memset(&counters, 0, sizeof(counters));
	assert_int_equal(tp_hop_init(&ring, DP_DEAD_RING_BYTES), 0);
	dp_dead_init(&dead, &ring, &counters, per_second, bytes_per_second);
	dp_dead_origin(&dead, TP_WAY_PIXEL, 3, &peer);
	memset(long_text, 'l', sizeof(long_text));
}

static void balance_check(void)
{
	uint64_t kept = 0;
	for (int c = 0; c < TP_COUNTERS; c++)
		if (tp_counter_info[c].layer == TP_LAYER_DEAD_LETTERS && tp_counter_info[c].kind != TP_KIND_RECEIVED)
			kept += counters.v[c];
	assert_int_equal(counters.v[TP_C_DEAD_RECEIVED], kept);
	assert_int_equal(counters.v[TP_C_DEAD_IN_FLIGHT], dead.in_flight);
}

static void put(uint64_t now_ms, const char *text, size_t bytes, uint32_t times)
{
	for (uint32_t i = 0; i < times; i++)
		dp_dead_stage(&dead, now_ms, &what, text, bytes);
	dp_dead_commit(&dead);
	balance_check();
}

/* The shard: takes all, and says what became of it. */
static uint32_t shard_takes(uint32_t verdict)
{
	uint32_t taken = 0;
	for (struct tp_slot *slot; (slot = tp_hop_take(&ring)) != NULL; taken++) {
		const struct tp_dead_letter *letter = tp_dead_letter_of(&slot->event);
		assert_true(tp_dead_letter_valid(letter, slot->bytes - TP_SLOT_HEADER_BYTES));
		tp_hop_decide(&ring, ring.taken_slots - 1, (uint8_t)verdict);
	}
	tp_hop_durable(&ring, ring.taken);
	assert_int_equal(dp_dead_poll(&dead), taken);
	balance_check();
	return taken;
}

static void test_record(void **state)
{
	(void)state;
	begin(1000, 1 << 20);
	dp_dead_stage(&dead, 5000, &what, "hello", 5);
	dp_dead_stage(&dead, 5000, &what, long_text, sizeof(long_text));
	assert_null(tp_hop_take(&ring)); /* not before the beacon's fate is known */
	assert_true(dp_dead_commit(&dead));
	const struct tp_dead_letter *letter = tp_dead_letter_of(&tp_hop_take(&ring)->event);
	assert_true(tp_dead_letter_valid(letter, letter->bytes));
	assert_int_equal(letter->bytes, TP_DEAD_FIXED_BYTES + 8);
	assert_memory_equal(tp_dead_letter_bytes(letter), "hello\0\0\0", 8);
	assert_int_equal(letter->reason, TP_FUTURE);
	assert_int_equal(letter->field, TP_FIELD_TIMESTAMP);
	assert_int_equal(letter->way, TP_WAY_PIXEL);
	assert_int_equal(letter->ingest, 3);
	assert_int_equal(letter->index, 7);
	assert_int_equal(letter->received_ms, 5000);
	assert_int_equal(letter->peer_port, 99);
	assert_int_equal(letter->peer_family, 4);
	assert_int_equal(letter->peer[12], 192);
	letter = tp_dead_letter_of(&tp_hop_take(&ring)->event);
	assert_true(tp_dead_letter_valid(letter, letter->bytes));
	assert_int_equal(letter->bytes, TP_RECORD_BYTES_MAX);
	assert_int_equal(letter->sent_bytes, sizeof(long_text));
	assert_int_equal(letter->kept_bytes, TP_DEAD_KEPT_BYTES_MAX);
}

static void test_rate(void **state)
{
	(void)state;
	begin(10, 1 << 20);
	put(1000000, "x", 1, 25);
	assert_int_equal(counters.v[TP_C_DEAD_OVER_RATE], 15);
	assert_int_equal(shard_takes(DP_DEAD_LOGGED), 10);
	put(1000050, "x", 1, 1); /* half a letter has come back */
	assert_int_equal(counters.v[TP_C_DEAD_OVER_RATE], 16);
	put(1000100, "x", 1, 2);
	assert_int_equal(counters.v[TP_C_DEAD_OVER_RATE], 17);
	put(900000, "x", 1, 1); /* a clock that was set back gives nothing */
	assert_int_equal(counters.v[TP_C_DEAD_OVER_RATE], 18);
	put(9000000, "x", 1, 20); /* never more than a second's worth */
	assert_int_equal(counters.v[TP_C_DEAD_OVER_RATE], 28);
	assert_int_equal(shard_takes(DP_DEAD_LOGGED), 11);
	assert_int_equal(counters.v[TP_C_DEAD_KEPT], 21);
	begin(0, 1 << 20);
	put(1000, "x", 1, 3);
	assert_int_equal(counters.v[TP_C_DEAD_OVER_RATE], 3);
}

static void test_bytes(void **state)
{
	(void)state;
	begin(1000, 4096);
	put(1000, long_text, sizeof(long_text), 2);
	assert_int_equal(counters.v[TP_C_DEAD_OVER_BYTES], 1);
	put(1000, "x", 1, 2); /* 128 bytes were left: one more of 72 */
	assert_int_equal(counters.v[TP_C_DEAD_OVER_BYTES], 2);
	assert_int_equal(shard_takes(DP_DEAD_LOGGED), 2);
}

static void test_rollback(void **state)
{
	(void)state;
	begin(2, 1 << 20);
	for (int i = 0; i < 1000; i++) { /* costs nothing, however often the same beacon comes again */
		dp_dead_stage(&dead, 1000, &what, "x", 1);
		dp_dead_stage(&dead, 1000, &what, "x", 1);
		dp_dead_stage(&dead, 1000, &what, "x", 1);
		dp_dead_rollback(&dead);
		balance_check();
	}
	assert_int_equal(counters.v[TP_C_DEAD_RECEIVED], 0);
	assert_false(dp_dead_commit(&dead));
	assert_null(tp_hop_take(&ring));
	put(1000, "x", 1, 3);
	assert_int_equal(shard_takes(DP_DEAD_LOGGED), 2);
}

static void test_ring(void **state)
{
	(void)state;
	begin(100000, 1 << 30);
	put(1000, long_text, sizeof(long_text), 1000);
	uint64_t full = counters.v[TP_C_DEAD_RING_FULL];
	assert_in_range(full, 1, 999);
	assert_int_equal(shard_takes(DP_DEAD_REFUSED), 1000 - full);
	assert_int_equal(counters.v[TP_C_DEAD_NO_SPACE], 1000 - full);
	assert_int_equal(counters.v[TP_C_DEAD_KEPT], 0);
	put(2000, long_text, sizeof(long_text), 10);
	assert_int_equal(shard_takes(DP_DEAD_LOGGED), 10);
	assert_int_equal(counters.v[TP_C_DEAD_IN_FLIGHT], 0);
}

static void test_none(void **state)
{
	(void)state;
	begin(10, 1 << 20);
	dp_dead_init(&dead, NULL, &counters, 10, 1 << 20);
	put(1000, "x", 1, 3);
	assert_int_equal(dp_dead_poll(&dead), 0);
	assert_int_equal(counters.v[TP_C_DEAD_RECEIVED], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record),   cmocka_unit_test(test_rate), cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_rollback), cmocka_unit_test(test_ring), cmocka_unit_test(test_none),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	tp_hop_fini(&ring);
	return failed;
}
