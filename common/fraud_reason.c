/* Names and classes of fraud reasons. Pure; any thread. Source: contract section 7; MRC, "Invalid Traffic Detection", section 1. */
#include "turnpike/fraud_reason.h"

#include <stddef.h>

static const struct {
	const char *name;
	enum tp_fraud_class kind;
} reasons_known[TP_FRAUD_REASONS] = {
	[TP_FRAUD_IP_VELOCITY] = {"ip_velocity", TP_GIVT},
	[TP_FRAUD_DEVICE_VELOCITY] = {"device_velocity", TP_GIVT},
	[TP_FRAUD_TOO_SOON] = {"too_soon", TP_GIVT},
	[TP_FRAUD_NO_IMPRESSION] = {"no_impression", TP_SIVT},
	[TP_FRAUD_BOT_USER_AGENT] = {"bot_user_agent", TP_GIVT},
	[TP_FRAUD_BOT_ADDRESS] = {"bot_address", TP_GIVT},
	[TP_FRAUD_BLOCKLISTED] = {"blocklisted", TP_GIVT},
	[TP_FRAUD_NO_MOUSE] = {"no_mouse", TP_SIVT},
	[TP_FRAUD_REGULAR_TIMING] = {"regular_timing", TP_GIVT},
	[TP_FRAUD_DEVICE_SPREAD] = {"device_spread", TP_SIVT},
	[TP_FRAUD_DEVICE_MISMATCH] = {"device_mismatch", TP_SIVT},
	[TP_FRAUD_GEO_MISMATCH] = {"geo_mismatch", TP_SIVT},
	[TP_FRAUD_IMPOSSIBLE_TRAVEL] = {"impossible_travel", TP_SIVT},
	[TP_FRAUD_MODEL] = {"model", TP_SIVT},
};

const char *tp_fraud_reason_name(enum tp_fraud_reason reason)
{
	return (uint32_t)reason < TP_FRAUD_REASONS ? reasons_known[reason].name : NULL;
}

enum tp_fraud_class tp_fraud_reason_class(enum tp_fraud_reason reason)
{
	return (uint32_t)reason < TP_FRAUD_REASONS ? reasons_known[reason].kind : TP_SIVT;
}

enum tp_fraud_class tp_fraud_class_of(uint32_t reasons)
{
	for (uint32_t reason = 0; reason < 32; reason++)
		if (reasons & TP_FRAUD_BIT(reason) && tp_fraud_reason_class((enum tp_fraud_reason)reason) == TP_SIVT)
			return TP_SIVT;
	return TP_GIVT;
}

const char *tp_fraud_class_name(enum tp_fraud_class which)
{
	return which == TP_GIVT ? "GIVT" : "SIVT";
}
