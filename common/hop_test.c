/* Hop rings: the double mapping, staging and rollback, full rings, and two threads through one ring. */
#include "turnpike/hop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { CAPACITY = 4096 };

static void a_bad_size_is_refused(void **state)
{
	(void)state;
	struct tp_hop hop;
	assert_int_equal(tp_hop_init(&hop, 0), -EINVAL);
	assert_int_equal(tp_hop_init(&hop, 2048), -EINVAL);
	assert_int_equal(tp_hop_init(&hop, CAPACITY + 8), -EINVAL);
	assert_int_equal(tp_hop_init(&hop, 3 * CAPACITY), -EINVAL);
	assert_int_equal(tp_hop_init(&hop, UINT64_C(1) << 63), -EINVAL);
}

static void both_halves_are_one_memory(void **state)
{
	(void)state;
	struct tp_hop hop;
	assert_int_equal(tp_hop_init(&hop, CAPACITY), 0);
	for (size_t i = 0; i < CAPACITY; i++)
		hop.base[CAPACITY + i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < CAPACITY; i++)
		assert_int_equal(hop.base[i], (uint8_t)(i * 7));
	tp_hop_fini(&hop);
	assert_null(hop.base);
	tp_hop_fini(&hop); /* twice does no harm */
}

static void a_slot_over_the_end_is_whole(void **state)
{
	(void)state;
	struct tp_hop hop;
	assert_int_equal(tp_hop_init(&hop, CAPACITY), 0);
	/* 3 of 1200 leave 496 to the end: the next one of 1200 runs over it */
	for (int round = 0; round < 20; round++) {
		struct tp_slot *slot = tp_hop_stage(&hop, 1200 - TP_SLOT_HEADER_BYTES, (uint64_t)round);
		assert_non_null(slot);
		if (slot) /* for the compiler, which does not know that the assertion leaves */
			memset(&slot->event, round, 1200 - TP_SLOT_HEADER_BYTES);
		tp_hop_commit(&hop);
		struct tp_slot *taken = tp_hop_take(&hop);
		assert_ptr_equal(taken, slot);
		assert_int_equal(taken->bytes, 1200);
		const uint8_t *byte = (const uint8_t *)&taken->event;
		for (int i = 0; i < 1200 - TP_SLOT_HEADER_BYTES; i++)
			assert_int_equal(byte[i], round);
		assert_null(tp_hop_take(&hop));
		uint64_t owner;
		uint8_t verdict;
		assert_false(tp_hop_reap(&hop, &owner, &verdict));
		tp_hop_decide(&hop, hop.taken_slots - 1, (uint8_t)(round + 1));
		tp_hop_durable(&hop, hop.taken);
		assert_true(tp_hop_reap(&hop, &owner, &verdict));
		assert_int_equal(owner, round);
		assert_int_equal(verdict, round + 1);
		assert_false(tp_hop_reap(&hop, &owner, &verdict));
	}
	tp_hop_fini(&hop);
}

static void full_refuses_and_rollback_frees(void **state)
{
	(void)state;
	struct tp_hop hop;
	assert_int_equal(tp_hop_init(&hop, CAPACITY), 0);
	for (int i = 0; i < CAPACITY / 512; i++)
		assert_non_null(tp_hop_stage(&hop, 512 - TP_SLOT_HEADER_BYTES, 0));
	assert_null(tp_hop_stage(&hop, 8, 0)); /* exactly full */
	assert_null(tp_hop_take(&hop));        /* nothing was published */
	tp_hop_rollback(&hop);
	assert_null(tp_hop_take(&hop));
	assert_non_null(tp_hop_stage(&hop, 512 - TP_SLOT_HEADER_BYTES, 0));
	tp_hop_commit(&hop);
	assert_non_null(tp_hop_stage(&hop, 512 - TP_SLOT_HEADER_BYTES, 0));
	tp_hop_rollback(&hop); /* back to what was committed, not to nothing */
	assert_non_null(tp_hop_take(&hop));
	assert_null(tp_hop_take(&hop));
	/* taken but not durable still takes room */
	assert_null(tp_hop_stage(&hop, CAPACITY - TP_SLOT_HEADER_BYTES, 0));
	tp_hop_durable(&hop, hop.taken);
	assert_null(tp_hop_stage(&hop, CAPACITY - TP_SLOT_HEADER_BYTES, 0));
	uint64_t owner;
	uint8_t verdict;
	assert_true(tp_hop_reap(&hop, &owner, &verdict));
	assert_non_null(tp_hop_stage(&hop, CAPACITY - TP_SLOT_HEADER_BYTES, 0));
	tp_hop_fini(&hop);
}

/* ---- two threads ---- */

enum { SLOTS = 60000 };

static _Atomic bool stopped; /* the producer saw a fault: the consumer must not wait for more */

static uint32_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

static uint32_t record_bytes(uint64_t number)
{
	uint64_t seed = number;
	random_next(&seed);
	return TP_EVENT_FIXED_BYTES + random_next(&seed) % 80 * 8;
}

static uint8_t verdict_of(uint64_t number)
{
	return (uint8_t)(1 + number % 5);
}

static void *consume(void *argument)
{
	struct tp_hop *hop = argument;
	uint64_t seed = 2, number = 0;
	while (number < SLOTS && !stopped) {
		/* decides a burst, then publishes it: sometimes only a part, as the log's durable prefix does */
		uint64_t position = hop->taken, burst = 1 + random_next(&seed) % 16;
		struct tp_slot *slot;
		while (burst-- > 0 && (slot = tp_hop_take(hop))) {
			if (slot->owner != number || slot->bytes != TP_SLOT_HEADER_BYTES + record_bytes(number) ||
			    slot->event.timestamp_ms != number * 3)
				return (void *)(uintptr_t)(number + 1);
			uint64_t last;
			memcpy(&last, (uint8_t *)slot + slot->bytes - 8, 8);
			if (last != ~number)
				return (void *)(uintptr_t)(number + 1);
			tp_hop_decide(hop, number, verdict_of(number));
			number++;
		}
		if (position != hop->taken)
			tp_hop_durable(hop, hop->taken);
		else
			sched_yield();
	}
	return NULL;
}

static void two_threads_lose_nothing(void **state)
{
	(void)state;
	static struct tp_hop hop;
	assert_int_equal(tp_hop_init(&hop, 4 * CAPACITY), 0);
	pthread_t consumer;
	assert_int_equal(pthread_create(&consumer, NULL, consume, &hop), 0);
	uint64_t seed = 1, sent = 0, told = 0;
	bool broken = false;
	while (told < SLOTS && !broken) {
		/* a request of some events: all staged or none; every eighth is a broken one, rolled back */
		uint64_t count = 1 + random_next(&seed) % 8, staged = 0;
		bool bad = random_next(&seed) % 8 == 0;
		while (staged < count && sent + staged < SLOTS) {
			uint64_t number = sent + staged;
			struct tp_slot *slot = tp_hop_stage(&hop, record_bytes(number), bad ? UINT64_MAX : number);
			if (!slot)
				break;
			slot->event.timestamp_ms = number * 3;
			uint64_t last = ~number;
			memcpy((uint8_t *)slot + slot->bytes - 8, &last, 8);
			staged++;
		}
		if (bad) {
			tp_hop_rollback(&hop);
		} else {
			tp_hop_commit(&hop);
			sent += staged;
		}
		uint64_t owner;
		uint8_t verdict;
		while (tp_hop_reap(&hop, &owner, &verdict)) {
			broken |= owner != told || verdict != verdict_of(told);
			told++;
		}
		if (staged == 0)
			sched_yield();
	}
	stopped = broken;
	void *wrong;
	pthread_join(consumer, &wrong);
	assert_null(wrong);
	assert_false(broken); /* a slot came back with another owner or verdict */
	assert_int_equal(told, SLOTS);
	tp_hop_fini(&hop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bad_size_is_refused),        cmocka_unit_test(both_halves_are_one_memory),
		cmocka_unit_test(a_slot_over_the_end_is_whole), cmocka_unit_test(full_refuses_and_rollback_frees),
		cmocka_unit_test(two_threads_lose_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
