/*
 * Routes: see http_route.h. Paths are compared byte for byte: nobody has a reason to spell ours with percent signs. Pure.
 */
#include "http_route.h"

#include <string.h>

static const struct {
	const char *path;
	const char *methods;
	uint8_t path_bytes;
	uint8_t allowed; /* bit per enum dp_http_method */
} routes[DP_ROUTES] = {
#define BIT(method)      (1 << DP_HTTP_##method)
#define ROUTE(path, ...) path, __VA_ARGS__, sizeof(path) - 1
	[DP_ROUTE_NONE] = {"", "", 0, 0},
	[DP_ROUTE_SERVER] = {"", "GET, HEAD, POST, OPTIONS", 0, BIT(OPTIONS)},
	[DP_ROUTE_CLICKS] = {ROUTE("/api/v1/clicks", "POST, OPTIONS"), BIT(POST) | BIT(OPTIONS)},
	[DP_ROUTE_PIXEL] = {ROUTE("/api/v1/pixel.gif", "GET, HEAD, OPTIONS"), BIT(GET) | BIT(HEAD) | BIT(OPTIONS)},
	[DP_ROUTE_DEBUG] = {ROUTE("/api/v1/debug/clicks", "POST, OPTIONS"), BIT(POST) | BIT(OPTIONS)},
	[DP_ROUTE_HEALTH] = {ROUTE("/healthz", "GET, HEAD, OPTIONS"), BIT(GET) | BIT(HEAD) | BIT(OPTIONS)},
#undef ROUTE
#undef BIT
};

enum dp_route dp_http_route(const struct dp_http_head *head, const char *bytes)
{
	if (head->asterisk)
		return DP_ROUTE_SERVER;
	for (int route = DP_ROUTE_CLICKS; route < DP_ROUTES; route++)
		if (routes[route].path_bytes == head->path.bytes &&
		    memcmp(routes[route].path, bytes + head->path.at, head->path.bytes) == 0)
			return (enum dp_route)route;
	return DP_ROUTE_NONE;
}

bool dp_route_allows(enum dp_route route, enum dp_http_method method)
{
	return method != DP_HTTP_OTHER_METHOD && (routes[route].allowed & 1 << method) != 0;
}

const char *dp_route_methods(enum dp_route route)
{
	return routes[route].methods;
}

bool dp_http_wants_report(const struct dp_http_head *head, const char *bytes)
{
	if (!head->has_query)
		return false;
	const char *at = bytes + head->query.at, *end = at + head->query.bytes;
	while (at < end) {
		const char *stop = memchr(at, '&', (size_t)(end - at));
		if (stop == NULL)
			stop = end;
		if (stop - at == 8 && memcmp(at, "report=1", 8) == 0)
			return true;
		at = stop + 1;
	}
	return false;
}
