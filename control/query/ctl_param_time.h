/* A time as a parameter of a request: one way to read it, for all resources. Pure; any thread. */
#ifndef TURNPIKE_CTL_PARAM_TIME_H
#define TURNPIKE_CTL_PARAM_TIME_H

#include "ctl_request.h"
#include "ctl_zone.h"

/*
 * Reads an RFC 3339 time, milliseconds since 1970, or, with a zone, a date: where that day begins there. A "+02:00" that came as " 02:00",
 * because it was not escaped, is understood. Beyond CTL_TIME_MS_MAX is refused. False: *reply is the problem. Absent: true, *given is
 * false, and *ms stays. `given` may be NULL.
 */
bool ctl_param_time(const struct ctl_target *target, const char *name, const struct ctl_zone *zone, uint64_t *ms, bool *given,
		    struct ctl_reply *reply);

#endif
