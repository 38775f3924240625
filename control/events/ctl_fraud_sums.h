/*
 * Flagged clicks counted by reason and by class, in all and over time.
 *
 * A click with several reasons counts once under each of them, and once under its class; so reasons may sum up to more than the clicks,
 * classes sum up to them exactly. What counts is the last record of a click: with the tags that an amendment left, or not at all.
 *
 * Log files are walked from the newest to the oldest: an amendment is never older than its click, so it is known when the click comes.
 *
 * What segments make up is kept (ctl_cache.h) for as long as the manifest is the same, and while the same amendments that are not sealed
 * reach into them. Such are those whose click is not among the clicks that are not sealed either; most amendments lie beside theirs.
 *
 * Any thread; a question keeps all its state to itself.
 */
#ifndef TURNPIKE_CTL_FRAUD_SUMS_H
#define TURNPIKE_CTL_FRAUD_SUMS_H

#include "ctl_cache.h"
#include "ctl_flagged.h"

enum { CTL_FRAUD_BUCKETS_MAX = 10000, CTL_FRAUD_AMENDED_MAX = 1 << 20 };

struct ctl_fraud_sums {
	uint64_t flagged_clicks;
	uint64_t class[2]; /* by enum tp_fraud_class */
	uint64_t reason[TP_FRAUD_REASONS];
};

struct ctl_fraud_query {
	struct ctl_flagged_filter filter; /* from_ms, to_ms: whole minutes */
	uint32_t step_minutes;            /* buckets begin on whole steps in UTC */
	uint64_t work_max;                /* rows to look at; 0: the usual */
};

struct ctl_fraud_answer {
	struct ctl_fraud_sums totals;
	struct ctl_fraud_sums *bucket;
	uint64_t first_ms; /* where the first bucket starts */
	uint32_t buckets;
	struct ctl_events_facts facts;
};

/* How many buckets a query has; at most CTL_FRAUD_BUCKETS_MAX is answered. */
uint64_t ctl_fraud_buckets(const struct ctl_fraud_query *query);

/*
 * 0; -E2BIG: too much to read, or too many amendments: narrow it; or as ctl_events_ask(). The answer is to be freed in any case. `cache` may
 * be NULL.
 */
int ctl_fraud_sum(struct ctl_events *events, struct ctl_cache *cache, const struct ctl_fraud_query *query,
		  struct ctl_fraud_answer *answer);
void ctl_fraud_free(struct ctl_fraud_answer *answer);

#endif
