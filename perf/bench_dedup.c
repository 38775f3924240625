/*
 * Exact inserts of random 16-byte ids into the id table, one core, in bursts of 64 with prefetch, as a shard does it. Prints inserts per
 * second. bench_dedup [table MiB, default 1024] [million ids, default: until 60% of a generation]
 */
#include "turnpike/dedup.h"
#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BURST = 64 };

static uint64_t state = 0x9e3779b97f4a7c15;

static uint64_t next(void)
{
	state += 0x9e3779b97f4a7c15;
	uint64_t z = state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

int main(int argc, char **argv)
{
	uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) << 20;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	madvise(memory, bytes, MADV_HUGEPAGE);
	memset(memory, 0, bytes);
	struct agg_dedup *dedup = agg_dedup_create(memory, bytes);
	uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) * 1000000 : agg_dedup_ids_max(dedup) / 10 * 6;
	struct tp_id id[BURST];
	uint64_t fresh = 0, began_ns = tp_mono_ns();
	for (uint64_t done = 0; done < count; done += BURST) {
		for (int i = 0; i < BURST; i++) {
			id[i] = (struct tp_id){next(), next()};
			agg_dedup_prefetch(dedup, id[i]);
		}
		for (int i = 0; i < BURST; i++)
			fresh += agg_dedup_insert(dedup, id[i], id[i].lo, 1000, 0, false) == AGG_NEW;
	}
	uint64_t took_ns = tp_mono_ns() - began_ns;
	if (fresh < count)
		return 1;
	printf("%.0f inserts/s table_mib=%" PRIu64 " ids=%" PRIu64 "\n", (double)fresh * 1e9 / (double)took_ns, bytes >> 20, fresh);
	return 0;
}
