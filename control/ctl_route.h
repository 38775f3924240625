/*
 * What there is to ask for: one row per resource. Pure; any thread.
 */
#ifndef TURNPIKE_CTL_ROUTE_H
#define TURNPIKE_CTL_ROUTE_H

#include "ctl_gate.h"
#include "ctl_request.h"

struct ctl;

struct ctl_route {
	const char *segment[CTL_SEGMENTS_MAX]; /* "*" is any but an empty one */
	void (*handler)(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
	enum ctl_need need;            /* with control.auth: tokens */
	bool takes_post, takes_delete; /* beside GET and HEAD */
};

/* NULL: there is nothing. */
const struct ctl_route *ctl_route_find(const struct ctl_target *target);

#endif
