/*
 * What a request for bills asks for, and the periods that it means. Pure; the clock is an argument.
 */
#ifndef TURNPIKE_CTL_BILLING_PARAM_H
#define TURNPIKE_CTL_BILLING_PARAM_H

#include "ctl_request.h"
#include "ctl_zone.h"
#include "turnpike/config.h"

enum ctl_billing_period { CTL_HOURLY, CTL_DAILY, CTL_MONTHLY, CTL_BILLING_PERIODS };

/* "hourly", … */
const char *ctl_billing_period_name(enum ctl_billing_period period);
enum ctl_zone_unit ctl_billing_unit(enum ctl_billing_period period);

/* The most periods, and rows (periods × campaigns), of one answer. 768 hours are 32 days. */
enum { CTL_BILLING_PERIODS_MAX = 768, CTL_BILLING_ROWS_MAX = 50000 };

struct ctl_billing_ask {
	const char *advertiser; /* in the target, or its scope */
	size_t advertiser_bytes;
	enum ctl_billing_period period;
	const struct ctl_zone *zone;
	uint32_t periods;
	uint64_t bound_ms[CTL_BILLING_PERIODS_MAX + 1]; /* period i is [bound_ms[i], bound_ms[i + 1]) */
	bool csv;
};

/*
 * Reads advertiser, period, from, to, tz and format. False: *reply is the problem to send.
 *
 * Bills are of whole periods: every period that [from, to) touches. Without `from`: the last 24 hours, 31 days or 12 months up to `to`, the
 * running one among them. Without `to`: now. `accept` is the Accept header, or NULL. `zone` is that of an advertiser who names none.
 */
bool ctl_billing_param(const struct ctl_target *target, const char *accept, uint64_t now_ms, const struct tp_config *config,
		       struct ctl_billing_ask *ask, struct ctl_reply *reply);

/* Whether the header wants CSV rather than JSON (RFC 9110 section 12.5.1). JSON when it does not care. */
bool ctl_accept_csv(const char *accept);

#endif
