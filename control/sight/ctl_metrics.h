/*
 * The parts of the metrics page: ctl_metrics.c prints what the counter table says, ctl_metrics_node.c the rest. Connection threads.
 */
#ifndef TURNPIKE_CTL_METRICS_H
#define TURNPIKE_CTL_METRICS_H

#include "turnpike/live.h"

#include <stdio.h>

struct ctl;

/* The node's gauges, rings, cores and process. `core`: the counters of each. */
void ctl_metrics_node(FILE *to, const struct tp_live *live, const struct tp_counters *core, bool connected);
/* What the control process does itself. */
void ctl_metrics_control(FILE *to, const struct ctl *ctl);

#endif
