/*
 * Which resource a request is for, and what may be done with it. Pure; any thread. Source: contract section 5.
 */
#ifndef TURNPIKE_HTTP_ROUTE_H
#define TURNPIKE_HTTP_ROUTE_H

#include "http_parser.h"

enum dp_route {
	DP_ROUTE_NONE,   /* 404 */
	DP_ROUTE_SERVER, /* OPTIONS * */
	DP_ROUTE_CLICKS,
	DP_ROUTE_PIXEL,
	DP_ROUTE_DEBUG,
	DP_ROUTE_HEALTH,
	DP_ROUTES
};

/* `bytes` is what `head` was parsed from. */
enum dp_route dp_http_route(const struct dp_http_head *head, const char *bytes);
bool dp_route_allows(enum dp_route route, enum dp_http_method method);
/* The value of Allow, "POST, OPTIONS". */
const char *dp_route_methods(enum dp_route route);
/* True if the query has the parameter report=1. */
bool dp_http_wants_report(const struct dp_http_head *head, const char *bytes);

#endif
