/* The bills that an event is in: for `why` (ctl_why.h), of the API and of the tool. Any thread. */
#ifndef TURNPIKE_CTL_BILLING_WHY_H
#define TURNPIKE_CTL_BILLING_WHY_H

#include "ctl_ledger.h"
#include "ctl_why.h"

/*
 * The bills of the line's advertiser that were issued for a period with its time in it: id, period, tz, start, end, revision. A new array, empty
 * when there are none; NULL: the ledger cannot be read. `context` is the ledger, NULL: there is none.
 */
json_t *ctl_billing_why(void *context, const struct ctl_why_line *line);

#endif
