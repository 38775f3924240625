/*
 * What there is to ask for: one row per resource. Pure; any thread.
 */
#ifndef TURNPIKE_CTL_ROUTE_H
#define TURNPIKE_CTL_ROUTE_H

#include "ctl_gate.h"
#include "ctl_request.h"

struct ctl;

/* Methods: GET and HEAD always. */
enum { CTL_READS = 0, CTL_POSTS = 1, CTL_DELETES = 2, CTL_FORMS = 4 /* POSTs of HTML forms too */ };

struct ctl_route {
	const char *segment[CTL_SEGMENTS_MAX]; /* "*" is any but an empty one */
	void (*handler)(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
	enum ctl_need need; /* with control.auth: tokens */
	uint32_t takes;     /* CTL_READS, CTL_POSTS, CTL_DELETES */
};

/* NULL: there is nothing. */
const struct ctl_route *ctl_route_find(const struct ctl_target *target);

/* The table by number, for who counts per resource. */
uint32_t ctl_routes(void);
const struct ctl_route *ctl_route_at(uint32_t number);
uint32_t ctl_route_number(const struct ctl_route *route);

#endif
