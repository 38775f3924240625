/*
 * The issuer: a thread that writes bills into the ledger once their period has ended, and corrections of those that late events changed.
 * docs/billing.md says what an operator sees of it.
 */
#ifndef TURNPIKE_CTL_BILLING_ISSUE_H
#define TURNPIKE_CTL_BILLING_ISSUE_H

#include "ctl_ledger.h"
#include "ctl_view.h"
#include "turnpike/config.h"

struct ctl_issuer;

/* Starts the thread; all three must outlive it. 0 or -errno. */
int ctl_issuer_open(struct ctl_issuer **issuer, const struct tp_config *config, struct ctl_ledger *ledger, struct ctl_views *views);
void ctl_issuer_close(struct ctl_issuer *issuer); /* may be NULL */

/* ---- one round at a time, no thread: for the tool and tests ---- */

struct ctl_store;
struct ctl_issued {
	uint32_t bills, corrections;
};
struct ctl_issuing {
	const struct tp_config *config;
	struct ctl_ledger *ledger;
	struct ctl_store *store;         /* its own */
	uint64_t now_ms;                 /* what has ended */
	uint64_t (*clock_ms)(void);      /* the date of each bill and correction: a round may take long; NULL: now_ms */
	bool (*stopping)(void *context); /* looked at between steps; NULL: never */
	void *context;
	struct ctl_issued *issued; /* counts what was; NULL: nobody wants to know */
};
static inline uint64_t ctl_issuing_date(const struct ctl_issuing *issuing)
{
	return issuing->clock_ms ? issuing->clock_ms() : issuing->now_ms;
}
/*
 * Takes in the segments that are new, corrects, and issues what has ended. `live` NULL: nothing is issued, because nobody can say how
 * far time is. 0 or -errno; what was done stays.
 */
int ctl_issuing_round(const struct ctl_issuing *issuing, const struct tp_live *live);

#endif
