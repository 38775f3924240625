/*
 * A log-linear histogram: 32 linear steps in each power of two, so that a percentile is right within about 3% from 1 ns to 584 years.
 * One writer; readers may look while it is written and see each bucket as it is.
 */
#ifndef TURNPIKE_BLAST_HISTOGRAM_H
#define TURNPIKE_BLAST_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum { BLAST_STEP_BITS = 5, BLAST_BUCKETS = (64 - BLAST_STEP_BITS + 1) << BLAST_STEP_BITS };

struct blast_histogram {
	_Atomic uint64_t bucket[BLAST_BUCKETS];
	_Atomic uint64_t sum, max;
};

void blast_histogram_add(struct blast_histogram *histogram, uint64_t value);
/* Adds what `from` holds to `to`. */
void blast_histogram_merge(struct blast_histogram *to, const struct blast_histogram *from);
uint64_t blast_histogram_count(const struct blast_histogram *histogram);
uint64_t blast_histogram_mean(const struct blast_histogram *histogram);
/* The value below or at which `share` (0 to 1) of all values lie: the upper end of its bucket, not above the maximum. 0 if empty. */
uint64_t blast_histogram_at(const struct blast_histogram *histogram, double share);

uint32_t blast_histogram_bucket(uint64_t value);
uint64_t blast_histogram_upper(uint32_t bucket);

#endif
