/*
 * Who may reach each resource, as ctl_access_test.c holds the table of ctl_route.c to it: X(row of the table, a target that reaches it, who may).
 *
 *   ALL        anybody, without a token
 *   OWNERS     admin, read, and read:advertiser:a/1, whose handler shows its rows alone: the target must be one that it may see
 *   READERS    admin and read
 *   ADMINS     admin
 *
 * A new resource gets a line here; its own test shows what OWNERS see.
 */
X("/healthz", "/healthz", ALL)
X("/readyz", "/readyz", ALL)
X("/login", "/login", ALL)
X("/logout", "/logout", ALL)
X("/", "/", LOGIN_PAGE)
X("/*", "/app.js", OWNERS)
X("/api/v1/whoami", "/api/v1/whoami", OWNERS)
X("/api/v1/audit-log", "/api/v1/audit-log", ADMINS)
X("/api/v1/analytics/sessions", "/api/v1/analytics/sessions?user=x", OWNERS)
X("/api/v1/analytics/trending", "/api/v1/analytics/trending", OWNERS)
X("/api/v1/analytics/*/*", "/api/v1/analytics/advertisers/a%2F1?window=1h", OWNERS)
X("/api/v1/analytics/*", "/api/v1/analytics/advertisers?id=a%2F1&window=1h", OWNERS)
X("/metrics", "/metrics", READERS)
X("/api/v1/live", "/api/v1/live", READERS)
X("/api/v1/live/history", "/api/v1/live/history", READERS)
X("/api/v1/blocklist", "/api/v1/blocklist", ADMINS)
X("/api/v1/blocklist/*", "/api/v1/blocklist/192.0.2.0%2F24", ADMINS)
X("/api/v1/live/refused", "/api/v1/live/refused", OWNERS)
X("/api/v1/reconcile/segments", "/api/v1/reconcile/segments", READERS)
X("/api/v1/reconcile/segments/*", "/api/v1/reconcile/segments/1", READERS)
X("/api/v1/reconcile/totals", "/api/v1/reconcile/totals?window=1h", OWNERS)
X("/api/v1/reconcile/runs", "/api/v1/reconcile/runs", READERS)
X("/api/v1/billing/reports", "/api/v1/billing/reports?advertiser=a%2F1", OWNERS)
X("/api/v1/billing/reports/*", "/api/v1/billing/reports/00112233445566778899", OWNERS)
X("/api/v1/dlq", "/api/v1/dlq", OWNERS)
X("/api/v1/fraud/flagged", "/api/v1/fraud/flagged", OWNERS)
X("/api/v1/fraud/summary", "/api/v1/fraud/summary", OWNERS)
X("/api/v1/events/*", "/api/v1/events/x", OWNERS)
