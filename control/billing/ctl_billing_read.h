/* From the data folder to the sums of a bill. */
#ifndef TURNPIKE_CTL_BILLING_READ_H
#define TURNPIKE_CTL_BILLING_READ_H

#include "ctl_billing_sum.h"
#include "ctl_store.h"

/*
 * Adds the rows of the sum's periods up; `live` may be NULL: what is sealed alone. The caller has the store. 0; -ECANCELED: the sum says why; or
 * as ctl_store_scan().
 *
 * A period's figures are those of one snapshot. Periods that begin on whole UTC days, and hours that begin on whole UTC hours, are read
 * together; those of other zones one by one, so that rollups of days and hours serve for all but their ends.
 */
int ctl_billing_read(struct ctl_store *store, const struct tp_live *live, struct ctl_billing_sum *sum, struct ctl_facts *facts);

/*
 * Marks the periods of `bound` that may hold events of log files which are not sealed, or of segments after `sequence`: nobody can have
 * reconciled those. Right after ctl_billing_read(), with the store.
 */
void ctl_billing_fresh(struct ctl_store *store, const struct tp_live *live, uint64_t sequence, const uint64_t *bound,
		       uint32_t periods, bool *fresh);

#endif
