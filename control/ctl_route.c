/* The table of resources. The first row that fits is taken. See ctl_route.h; what each means: contract section 7. */
#include "ctl_route.h"

#include "ctl.h"
#include "ctl_login.h"

#include <string.h>

static const struct ctl_route routes[] = {
	/* whether it lives */
	{{"healthz"}, ctl_healthz, CTL_NEED_NONE, CTL_READS},
	{{"readyz"}, ctl_readyz, CTL_NEED_NONE, CTL_READS},

	/* what is counted */
	{{"api", "v1", "analytics", "sessions"}, ctl_sessions, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "analytics", "trending"}, ctl_trending, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "analytics", "*"}, ctl_analytics, CTL_NEED_OWN, CTL_READS}, /* ?id=…&id=… */
	{{"api", "v1", "analytics", "*", "*"}, ctl_analytics, CTL_NEED_OWN, CTL_READS},

	/* single events */
	{{"api", "v1", "fraud", "flagged"}, ctl_fraud_flagged, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "fraud", "summary"}, ctl_fraud_summary, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "events", "*"}, ctl_event, CTL_NEED_OWN, CTL_READS},

	/* what the node does */
	{{"metrics"}, ctl_metrics, CTL_NEED_READ, CTL_READS},
	{{"api", "v1", "live"}, ctl_live, CTL_NEED_READ, CTL_READS},
	{{"api", "v1", "live", "history"}, ctl_live_history, CTL_NEED_READ, CTL_READS},
	{{"api", "v1", "live", "refused"}, ctl_live_refused, CTL_NEED_OWN, CTL_READS}, /* of the node, nobody's rows */

	/* raw segments for a central system, and counting them again */
	{{"api", "v1", "reconcile", "segments"}, ctl_pull_list, CTL_NEED_READ, CTL_READS},
	{{"api", "v1", "reconcile", "segments", "*"}, ctl_pull_file, CTL_NEED_READ, CTL_READS},
	{{"api", "v1", "reconcile", "totals"}, ctl_reconcile_totals, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "reconcile", "runs"}, ctl_reconcile_runs, CTL_NEED_READ, CTL_READS},

	/* what is billed */
	{{"api", "v1", "billing", "reports"}, ctl_billing_reports, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "billing", "reports", "*"}, ctl_billing_report, CTL_NEED_OWN, CTL_READS},

	/* what was rejected */
	{{"api", "v1", "dlq"}, ctl_dlq, CTL_NEED_OWN, CTL_READS},

	/* who is kept out */
	{{"api", "v1", "blocklist"}, ctl_blocklist, CTL_NEED_ADMIN, CTL_POSTS | CTL_DELETES},
	{{"api", "v1", "blocklist", "*"}, ctl_blocklist, CTL_NEED_ADMIN, CTL_DELETES},

	/* who is let in, and what they did */
	{{"login"}, ctl_login, CTL_NEED_NONE, CTL_POSTS | CTL_FORMS},
	{{"logout"}, ctl_logout, CTL_NEED_NONE, CTL_POSTS | CTL_FORMS},
	{{"api", "v1", "whoami"}, ctl_whoami, CTL_NEED_OWN, CTL_READS},
	{{"api", "v1", "audit-log"}, ctl_audit_log, CTL_NEED_ADMIN, CTL_READS},

	/* the dashboard's files: they show what the token may see */
	{{""}, ctl_web, CTL_NEED_OWN, CTL_READS},
	{{"*"}, ctl_web, CTL_NEED_OWN, CTL_READS},
};

static bool route_is(const struct ctl_route *route, const struct ctl_target *target)
{
	for (uint32_t i = 0; i < target->segments; i++) {
		const char *want = route->segment[i];
		if (!want)
			return false;
		if (strcmp(want, "*") == 0 ? target->segment[i].bytes == 0 : !ctl_text_is(&target->segment[i], want))
			return false;
	}
	return target->segments == CTL_SEGMENTS_MAX || !route->segment[target->segments];
}

const struct ctl_route *ctl_route_find(const struct ctl_target *target)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (route_is(&routes[i], target))
			return &routes[i];
	return NULL;
}

uint32_t ctl_routes(void)
{
	return sizeof(routes) / sizeof(routes[0]);
}

const struct ctl_route *ctl_route_at(uint32_t number)
{
	return &routes[number];
}

uint32_t ctl_route_number(const struct ctl_route *route)
{
	return (uint32_t)(route - routes);
}
