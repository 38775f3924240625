/*
 * Latencies as counts by size: each bucket is an eighth of a power of two wide, so a figure is at most an eighth too high. No allocation.
 */
#include "client_state.h"

static uint32_t bucket_of(uint64_t ns)
{
	if (ns < 8)
		return (uint32_t)ns;
	uint32_t high = 63 - (uint32_t)__builtin_clzll(ns);
	return (high - 2) * 8 + (uint32_t)(ns >> (high - 3) & 7);
}

/* The largest value of a bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
	if (bucket < 8)
		return bucket;
	uint32_t high = bucket / 8 + 2;
	return ((uint64_t)(8 + bucket % 8 + 1) << (high - 3)) - 1;
}

void tpc_latency_add(struct latency *latency, uint64_t ns)
{
	latency->count[bucket_of(ns)]++;
	latency->total++;
	if (ns > latency->max_ns)
		latency->max_ns = ns;
}

uint64_t tpc_latency_at(const struct latency *latency, uint32_t share)
{
	uint64_t want = (latency->total * share + 999) / 1000, seen = 0;
	for (uint32_t i = 0; i < 64 * 8 && latency->total > 0; i++) {
		seen += latency->count[i];
		if (seen >= want)
			return bucket_end(i) < latency->max_ns ? bucket_end(i) : latency->max_ns;
	}
	return 0;
}
