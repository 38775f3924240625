/* New segments into the ledger, and what they change in bills that were issued. The issuer's thread. */
#ifndef TURNPIKE_CTL_BILLING_CORRECT_H
#define TURNPIKE_CTL_BILLING_CORRECT_H

#include "ctl_billing_issue.h"
#include "ctl_billing_param.h"

/* Takes in all segments of the store that the ledger does not know. 0 or -errno. */
int ctl_issuing_segments(const struct ctl_issuing *issuing);

/*
 * Issues the bills of the period that begins there for all who are billed in the zone. Who has one already keeps it. Refreshes the store.
 * `version`: of the ledger, from before whatever called for it was read. 0; -EALREADY: another issuer has written since; -EINTR: stopped;
 * another -errno. In ctl_billing_issue.c.
 */
int ctl_issuing_period(const struct ctl_issuing *issuing, uint64_t version, enum ctl_billing_period period,
		       const struct ctl_zone *zone, uint64_t start_ms);
enum { CTL_ISSUING_TRIES = 100 }; /* against another issuer; each time it has got on with the same work */
/* Whether the configuration wants bills of that period issued. */
bool ctl_issuing_wants(const struct ctl_issuing *issuing, enum ctl_billing_period period);

#endif
