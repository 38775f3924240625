/*
 * The log-linear histogram. Values below 32 have a bucket each; above, the highest five bits behind the leading one choose the step:
 *
 *     value   0 … 31 │ 32 … 63 by 1 │ 64 … 127 by 2 │ 128 … 255 by 4 │ …
 */
#include "blast_histogram.h"

enum { STEPS = 1 << BLAST_STEP_BITS };

uint32_t blast_histogram_bucket(uint64_t value)
{
	if (value < STEPS)
		return (uint32_t)value;
	uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - BLAST_STEP_BITS;
	return shift * STEPS + (uint32_t)(value >> shift);
}

uint64_t blast_histogram_upper(uint32_t bucket)
{
	if (bucket < 2 * STEPS)
		return bucket;
	uint32_t shift = bucket / STEPS - 1;
	uint64_t lower = (uint64_t)(bucket % STEPS + STEPS) << shift;
	return lower + ((1ULL << shift) - 1);
}

static uint64_t get(const _Atomic uint64_t *at)
{
	return atomic_load_explicit(at, memory_order_relaxed);
}

static void add(_Atomic uint64_t *at, uint64_t n)
{
	/* one writer: no read-modify-write needed */
	atomic_store_explicit(at, get(at) + n, memory_order_relaxed);
}

void blast_histogram_add(struct blast_histogram *histogram, uint64_t value)
{
	add(&histogram->bucket[blast_histogram_bucket(value)], 1);
	add(&histogram->sum, value);
	if (value > get(&histogram->max))
		atomic_store_explicit(&histogram->max, value, memory_order_relaxed);
}

void blast_histogram_merge(struct blast_histogram *to, const struct blast_histogram *from)
{
	for (uint32_t i = 0; i < BLAST_BUCKETS; i++)
		add(&to->bucket[i], get(&from->bucket[i]));
	add(&to->sum, get(&from->sum));
	if (get(&from->max) > get(&to->max))
		atomic_store_explicit(&to->max, get(&from->max), memory_order_relaxed);
}

uint64_t blast_histogram_count(const struct blast_histogram *histogram)
{
	uint64_t count = 0;
	for (uint32_t i = 0; i < BLAST_BUCKETS; i++)
		count += get(&histogram->bucket[i]);
	return count;
}

uint64_t blast_histogram_mean(const struct blast_histogram *histogram)
{
	uint64_t count = blast_histogram_count(histogram);
	return count ? get(&histogram->sum) / count : 0;
}

uint64_t blast_histogram_at(const struct blast_histogram *histogram, double share)
{
	uint64_t count = blast_histogram_count(histogram), max = get(&histogram->max);
	uint64_t want = (uint64_t)(share * (double)count + 0.5), seen = 0;
	if (want == 0)
		want = 1;
	for (uint32_t i = 0; i < BLAST_BUCKETS && count > 0; i++) {
		seen += get(&histogram->bucket[i]);
		if (seen >= want)
			return blast_histogram_upper(i) < max ? blast_histogram_upper(i) : max;
	}
	return max;
}
