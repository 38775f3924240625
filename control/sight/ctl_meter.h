/*
 * How long the control process took to answer, by resource, and with what. Counted by connection threads with relaxed atomics; read
 * by whoever prints the metrics page. What is asked for that does not exist counts under the endpoint "none": a stranger cannot
 * make series.
 */
#ifndef TURNPIKE_CTL_METER_H
#define TURNPIKE_CTL_METER_H

#include "ctl_route.h"

#include <stdio.h>

struct ctl_meter;

int ctl_meter_open(struct ctl_meter **meter); /* 0 or -ENOMEM */
void ctl_meter_close(struct ctl_meter *meter);
/* A request was answered with `status` after `ns`; route NULL: it was for nothing. meter may be NULL. */
void ctl_meter_count(struct ctl_meter *meter, const struct ctl_route *route, uint32_t status, uint64_t ns);
/* What was turned away, or ended, before or instead of an answer. */
enum ctl_turned {
	CTL_TURNED_SHED,      /* a connection that gave its seat to a newcomer */
	CTL_TURNED_SLOW,      /* one that was over its time: to ask, to send its request, to take the answer */
	CTL_TURNED_FULL,      /* one that found no seat at all */
	CTL_THROTTLED_TOKEN,  /* 429: a token's rate */
	CTL_THROTTLED_SOURCE, /* 429: an address that guesses tokens */
	CTL_TURNEDS
};
void ctl_meter_turn(struct ctl_meter *meter, enum ctl_turned what); /* meter may be NULL */
/* "/api/v1/live": a resource as it is named where it is counted, with * for any word; "none" without a route. */
enum { CTL_ENDPOINT_BYTES = 160 };
void ctl_endpoint_text(const struct ctl_route *route, char text[CTL_ENDPOINT_BYTES]);
void ctl_meter_print(const struct ctl_meter *meter, FILE *to);

#endif
