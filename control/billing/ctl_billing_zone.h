/* In which zone an advertiser is billed: the configuration's billing.zone and billing.zones. Any thread. */
#ifndef TURNPIKE_CTL_BILLING_ZONE_H
#define TURNPIKE_CTL_BILLING_ZONE_H

#include "ctl_zone.h"
#include "turnpike/config.h"

/* Whether every zone of the configuration is one; else logged. */
bool ctl_billing_zones_check(const struct tp_config *config);
/* Never NULL, once the above was true. */
const struct ctl_zone *ctl_billing_zone_of(const struct tp_config *config, const char *advertiser, size_t bytes);

#endif
