/* The parameters of what is asked about single events, read into queries. Pure; the clock is an argument. */
#ifndef TURNPIKE_CTL_FRAUD_PARAM_H
#define TURNPIKE_CTL_FRAUD_PARAM_H

#include "ctl_fraud_sums.h"
#include "ctl_request.h"

/*
 * Reads campaign, advertiser, publisher, ad, reason, class, from, to, window, limit, cursor. False: *reply is the problem to send. A filter
 * that target->only does not allow is 403; without one it is set.
 */
bool ctl_fraud_param_flagged(const struct ctl_target *target, uint64_t now_ms, struct ctl_flagged_query *query,
			     struct ctl_reply *reply);
/* The same filters; step; by default the last day. The range is widened to whole minutes, an end that was not given to whole steps. */
bool ctl_fraud_param_summary(const struct ctl_target *target, uint64_t now_ms, struct ctl_fraud_query *query,
			     struct ctl_reply *reply);
/* from and to alone; to_ms 0: no end. */
bool ctl_fraud_param_event(const struct ctl_target *target, uint64_t *from_ms, uint64_t *to_ms, struct ctl_reply *reply);

#endif
