/*
 * Reconciliation in the control process: a thread of the least priority counts every closed hour again once all its rows are sealed,
 * and every closed day; hours that get late events are counted anew. What it finds goes into the ledger (ctl_ledger.h), into the log
 * and the metrics. Also the answers that count on demand.
 *
 *   hour closed and sealed, not reconciled ─► recount ─► ledger ─ equal ──► reports say reconciled
 *                                                           └ differs ─► alert: log lines with the keys, metric; reports say so
 *
 * Threads: its own; the functions below from any.
 */
#ifndef TURNPIKE_CTL_RECONCILE_H
#define TURNPIKE_CTL_RECONCILE_H

#include <stdbool.h>
#include <stdio.h>

struct ctl;
struct ctl_reconcile;

/* Starts the thread. 0 or -errno. Views, ledger and configuration outlive it. */
int ctl_reconcile_open(struct ctl_reconcile **reconcile, struct ctl *ctl);
/* Ends a recount in the middle, and the thread. May be NULL. */
void ctl_reconcile_close(struct ctl_reconcile *reconcile);

/* Its lines of /metrics. */
void ctl_reconcile_metrics(struct ctl_reconcile *reconcile, FILE *to);

/* One recount on demand at a time: waits a few seconds for its turn. False: somebody else is still at it. */
bool ctl_reconcile_turn_take(struct ctl_reconcile *reconcile);
void ctl_reconcile_turn_give(struct ctl_reconcile *reconcile);

#endif
