/*
 * The control process: what its parts share, and who may touch it.
 *
 *   main thread        waits for a signal
 *   view thread        ctl_view: attaches to the data process, again and again
 *   pulse thread       ctl_pulse: once a second a sample and the message for all who watch
 *   issuer             ctl_billing_issue: bills of periods that have ended, corrections; the only one who writes bills
 *   watch thread       ctl_watch: lets those who watch go on when there is news
 *   library threads    ctl_http: connections, who may ask, sending
 *   CTL_WORKERS        ctl_http_pool: handlers
 *   reaper thread      ctl_http_seat: ends connections that are over their time
 *
 * It reads the data process's folder and shared memory and writes to neither; it makes its own state_dir and nothing else.
 */
#ifndef TURNPIKE_CTL_H
#define TURNPIKE_CTL_H

#include "ctl_request.h"
#include "ctl_store.h"
#include "ctl_store_pool.h"
#include "ctl_view.h"
#include "turnpike/config.h"

#include <pthread.h>

struct ctl_pulse;
struct ctl_watch;
struct ctl_gate;
struct ctl_meter;
struct ctl_otlp;
struct ctl_folds;
struct ctl_events;
struct ctl_ledger;
struct ctl_issuer;
struct ctl_reconcile;

struct ctl {
	struct tp_config config;
	struct ctl_views *views;
	struct ctl_store_pool *stores; /* for queries: take one, ask, give it back */
	struct ctl_folds *folds;       /* what sums do not tell */
	struct ctl_events *events;     /* single records */
	struct ctl_pulse *pulse;
	struct ctl_ledger *ledger;
	struct ctl_issuer *issuer;
	struct ctl_gate *gate;   /* NULL without control.auth: tokens */
	struct ctl_meter *meter; /* what was answered, and how fast; NULL: not counted */
	const char *version;
	struct ctl_otlp *otlp; /* NULL without tracing.collector */
	struct ctl_reconcile *reconcile;
	struct ctl_watch *watch;
};

/* ---- ctl_http.c ---- */

struct ctl_http;
/* Listens on the configured address. 0 or -errno, logged; text gets the address with the port that was got. */
int ctl_http_open(struct ctl_http **http, struct ctl *ctl, char text[TP_ENDPOINT_TEXT_BYTES]);
/* For --check: whether the files of control.tls serve. 0 or -errno, logged. */
int ctl_tls_check(const struct tp_config *config);
/* SIGHUP: reads the certificates anew. 0 or -errno, logged; then those read last stay. */
int ctl_http_reload(struct ctl_http *http);
/* Ends all connections and threads. ctl_watch_close() comes first, so that no watcher is parked. */
void ctl_http_close(struct ctl_http *http);

/* The JSON of a group's key: what was sent, or "(other)" for what a full table no longer told apart. */
json_t *ctl_json_key(struct tp_str name);

/* ---- handlers: fill the reply ---- */

void ctl_analytics(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
/* A user's sessions, and what is most clicked just now. */
void ctl_sessions(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_trending(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
struct ctl_facts;
/* Says why ctl_folds_ask() failed. */
void ctl_folds_fail(struct ctl_reply *reply, int rc, const struct ctl_facts *facts);
struct ctl_query;
/* Distinct users of a campaign over whole hours. 0; -ENODATA: not to be told for this question; or as ctl_folds_ask(). */
int ctl_users(struct ctl *ctl, struct ctl_store *store, const struct ctl_query *query, const struct tp_live *live, uint64_t *users,
	      struct ctl_facts *facts);
/* Rejected and conflicting events with their bytes. */
void ctl_dlq(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
/* Flagged clicks, what they sum up to, and all records of one event. */
void ctl_fraud_flagged(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_fraud_summary(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_event(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
/* GET, POST and DELETE of the data process's blocklist. */
void ctl_blocklist(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
/* Sealed segments, their files, and counting them again. */
void ctl_pull_list(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_pull_file(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_reconcile_totals(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_reconcile_runs(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
/* The bills of an advertiser as they are now; one as it was issued. */
void ctl_billing_reports(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_billing_report(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_metrics(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_healthz(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_readyz(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_live(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_live_refused(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
void ctl_live_history(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);
/* A file of web/, by its path segment; "" is the dashboard. 404 when there is none. */
void ctl_web(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply);

#endif
