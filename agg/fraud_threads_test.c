/* The shared table of addresses under four shards: no click is counted twice, and in a table with room none is lost. */
#include "turnpike/fraud.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 4, ADDRESSES = 64, CLICKS = 40000, LIMIT = 1000, ENTRIES = 1 << 12, SMALL_ENTRIES = 16 };

static const struct agg_fraud_rules limits = {.version = 1, .clicks_per_ip_hour = LIMIT};
static pthread_barrier_t start;

struct worker {
	struct agg_fraud_shard *shard;
	uint32_t number;
	uint32_t clean[ADDRESSES]; /* clicks that were not tagged, per address */
};

static void *click(void *argument)
{
	struct worker *worker = argument;
	struct tp_event event = {.type = TP_CLICK, .flags = TP_HAS_IP, .timestamp_ms = 3600000};
	struct agg_findings findings;
	uint64_t seed = worker->number;
	pthread_barrier_wait(&start);
	for (int i = 0; i < CLICKS; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		uint32_t address = (uint32_t)(seed >> 33) % ADDRESSES;
		event.ip[15] = (uint8_t)address;
		worker->clean[address] += agg_fraud_judge(worker->shard, &event, &findings, NULL) == 0;
	}
	return NULL;
}

/* Runs all; the clicks per address that were not tagged. */
static void shards_run(uint32_t entries, uint32_t clean[ADDRESSES])
{
	struct worker worker[THREADS];
	void *shard_memory[THREADS];
	pthread_t thread[THREADS];
	uint64_t ip_bytes = (agg_fraud_ip_bytes(entries) + 63) & ~UINT64_C(63);
	uint64_t shard_bytes = (agg_fraud_shard_bytes(entries) + 63) & ~UINT64_C(63);
	void *ip_memory = aligned_alloc(64, ip_bytes);
	assert_non_null(ip_memory);
	memset(ip_memory, 0, ip_bytes);
	struct agg_fraud_ip *ip = agg_fraud_ip_init(ip_memory, entries);
	assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
	for (int t = 0; t < THREADS; t++) {
		shard_memory[t] = aligned_alloc(64, shard_bytes);
		assert_non_null(shard_memory[t]);
		memset(shard_memory[t], 0, shard_bytes);
		worker[t] =
			(struct worker){.shard = agg_fraud_shard_init(shard_memory[t], entries, ip, NULL), .number = (uint32_t)t};
		agg_fraud_rules_set(worker[t].shard, &limits);
		assert_int_equal(pthread_create(&thread[t], NULL, click, &worker[t]), 0);
	}
	memset(clean, 0, ADDRESSES * sizeof clean[0]);
	for (int t = 0; t < THREADS; t++) {
		pthread_join(thread[t], NULL);
		for (int a = 0; a < ADDRESSES; a++)
			clean[a] += worker[t].clean[a];
		free(shard_memory[t]);
	}
	pthread_barrier_destroy(&start);
	free(ip_memory);
}

static void with_room_each_click_counts_once(void **state)
{
	(void)state;
	uint32_t clean[ADDRESSES];
	shards_run(ENTRIES, clean);
	for (int a = 0; a < ADDRESSES; a++)
		assert_int_equal(clean[a], LIMIT);
}

static void without_room_counts_are_lost_but_never_made_up(void **state)
{
	(void)state;
	uint32_t clean[ADDRESSES];
	shards_run(SMALL_ENTRIES, clean);
	for (int a = 0; a < ADDRESSES; a++)
		assert_true(clean[a] >= LIMIT); /* fewer would mean that a click of another address counted */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_room_each_click_counts_once),
		cmocka_unit_test(without_room_counts_are_lost_but_never_made_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
