/*
 * The Prometheus text format 0.0.4: what every part of the metrics page prints its samples with. No state; any thread.
 * Source: prometheus.io/docs/instrumenting/exposition_formats.
 */
#ifndef TURNPIKE_CTL_EXPOSITION_H
#define TURNPIKE_CTL_EXPOSITION_H

#include "turnpike/live.h"

#include <stdint.h>
#include <stdio.h>

/* The two lines before a family's samples; `name` without its prefix turnpike_. */
void ctl_family(FILE *to, const char *name, const char *type, const char *help);
/*
 * One histogram's samples from buckets of powers of two (struct tp_live_core). `labels` as they stand between the braces, or "".
 * Every `step`th bound is shown, from bucket `first` on; the counts are cumulative, so nothing is lost.
 */
void ctl_histogram(FILE *to, const char *name, const char *labels, const uint64_t bucket[TP_LATENCY_BUCKETS], uint64_t ns_sum,
		   uint32_t first, uint32_t step);

#endif
