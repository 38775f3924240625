/*
 * Exact inserts of random 16-byte ids into the id table, in bursts of 64 with prefetch, as a shard does it; one thread or several on one
 * table. Prints inserts per second of processor time, of all threads together, and the memory of a million ids.
 *
 * bench_dedup [table MiB, default 1024] [million ids, default 0: until 60% of a generation] [threads, default 1] [apart | same | life]
 *
 *   apart   each thread has ids of its own (the default)
 *   same    all threads offer the same ids at the same time: each must be new to exactly one; counted is what was offered
 *   life    the previous generation is as full as it gets, as it is when a node has run for a while
 *
 * Exits with 1 when an id was found that had not been inserted, or one was new twice.
 */
#include "turnpike/dedup.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BURST = 64, THREADS_MAX = 64, MILLION = 1000000 };

static struct agg_dedup *dedup;
static pthread_barrier_t start;

struct worker {
	pthread_t thread;
	uint64_t seed, count, fresh, took_ns;
};

static uint64_t next(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15;
	uint64_t z = *state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static uint64_t insert(uint64_t seed, uint64_t count)
{
	struct tp_id id[BURST];
	uint64_t hash[BURST], state = seed, fresh = 0;
	for (uint64_t done = 0; done < count; done += BURST) {
		for (int i = 0; i < BURST; i++) {
			id[i].hi = next(&state);
			id[i].lo = next(&state);
			hash[i] = agg_dedup_prefetch(dedup, id[i]);
		}
		for (int i = 0; i < BURST; i++)
			agg_dedup_prefetch_chain(dedup, hash[i]);
		for (int i = 0; i < BURST; i++)
			fresh += agg_dedup_insert(dedup, id[i], id[i].lo, 1000, 0, false) == AGG_NEW;
	}
	return fresh;
}

/* Of this thread: what others do on the core in between does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	pthread_barrier_wait(&start);
	const uint64_t began_ns = cpu_ns();
	worker->fresh = insert(worker->seed, worker->count);
	worker->took_ns = cpu_ns() - began_ns;
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) << 20;
	uint64_t count = (argc > 2 ? strtoull(argv[2], NULL, 10) : 0) * MILLION;
	uint32_t threads = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1;
	const char *mode = argc > 4 ? argv[4] : "apart";
	const bool same = strcmp(mode, "same") == 0, life = strcmp(mode, "life") == 0;
	if (!bytes || !threads || threads > THREADS_MAX || (!same && !life && strcmp(mode, "apart") != 0))
		return 2;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	madvise(memory, bytes, MADV_HUGEPAGE);
	memset(memory, 0, bytes);
	dedup = agg_dedup_create(memory, bytes);
	const uint64_t ids_max = agg_dedup_ids_max(dedup);
	if (!count)
		count = ids_max / 10 * 6;
	const uint64_t each = (same ? count : count / threads) / BURST * BURST;
	if ((same ? each : each * threads) > ids_max) {
		fprintf(stderr, "a generation of this table holds %" PRIu64 " ids\n", ids_max);
		return 2;
	}
	if (life) {
		insert(1, (ids_max - BURST) / BURST * BURST);
		agg_dedup_rotate(dedup);
	}

	struct worker worker[THREADS_MAX];
	pthread_barrier_init(&start, NULL, threads);
	for (uint32_t t = 0; t < threads; t++) {
		/* seeds far apart in the one sequence that the generator goes through */
		worker[t] = (struct worker){.seed = 0x5851f42d4c957f2d + (same ? 0 : (uint64_t)t << 56), .count = each};
		if (pthread_create(&worker[t].thread, NULL, work, &worker[t]))
			return 1;
	}
	uint64_t fresh = 0;
	double rate = 0;
	for (uint32_t t = 0; t < threads; t++) {
		pthread_join(worker[t].thread, NULL);
		fresh += worker[t].fresh;
		rate += (double)each * 1e9 / (double)worker[t].took_ns;
	}
	if (fresh != (same ? each : each * threads))
		return 1;
	/* Right after a rotation only the previous generation holds ids: what is sure is one generation's worth. */
	printf("%.0f inserts/s table_mib=%" PRIu64 " threads=%u mode=%s ids=%" PRIu64 " mib_per_million_ids=%.1f\n", rate,
	       bytes >> 20, threads, mode, fresh, (double)bytes / (double)ids_max * MILLION / (1 << 20));
	return 0;
}
