/*
 * The parts of the metrics page: ctl_metrics.c prints what the counter table says, ctl_metrics_node.c the rest. Connection threads.
 */
#ifndef TURNPIKE_CTL_METRICS_H
#define TURNPIKE_CTL_METRICS_H

#include "turnpike/live.h"

#include <stdio.h>

struct ctl;

/* The two lines before a family's samples; `name` without its prefix turnpike_. */
void ctl_family(FILE *to, const char *name, const char *type, const char *help);
/*
 * One histogram's samples from buckets of powers of two (struct tp_live_core). `labels` as they stand between the braces, or "".
 * Every `step`th bound is shown, from bucket `first` on; the counts are cumulative, so nothing is lost.
 */
void ctl_histogram(FILE *to, const char *name, const char *labels, const uint64_t bucket[TP_LATENCY_BUCKETS], uint64_t ns_sum,
		   uint32_t first, uint32_t step);

/* The node's gauges, rings, cores and process. `core`: the counters of each. */
void ctl_metrics_node(FILE *to, const struct tp_live *live, const struct tp_counters *core, bool connected);
/* What the control process does itself. */
void ctl_metrics_control(FILE *to, const struct ctl *ctl);

#endif
