/*
 * Fraud reasons: why a click was tagged, its class of invalid traffic, and the evidence that was seen. The names are the API's
 * (contract section 7), the numbers are a disk format. The rules that find them are agg/'s; readers of segments need only this.
 */
#ifndef TURNPIKE_FRAUD_REASON_H
#define TURNPIKE_FRAUD_REASON_H

#include <assert.h>
#include <stdint.h>

/* Bit numbers in tp_event.fraud. Stable on disk. */
enum tp_fraud_reason {
	TP_FRAUD_IP_VELOCITY,
	TP_FRAUD_DEVICE_VELOCITY,
	TP_FRAUD_TOO_SOON,
	TP_FRAUD_NO_IMPRESSION,
	TP_FRAUD_BOT_USER_AGENT,
	TP_FRAUD_BOT_ADDRESS,
	TP_FRAUD_BLOCKLISTED,
	TP_FRAUD_NO_MOUSE,
	TP_FRAUD_REGULAR_TIMING,
	TP_FRAUD_DEVICE_SPREAD,
	TP_FRAUD_DEVICE_MISMATCH,
	TP_FRAUD_GEO_MISMATCH,
	TP_FRAUD_IMPOSSIBLE_TRAVEL,
	TP_FRAUD_MODEL,
	TP_FRAUD_REASONS
};

#define TP_FRAUD_BIT(reason) (1u << (reason))

/* General and sophisticated invalid traffic, as the Media Rating Council's guidelines tell them apart. */
enum tp_fraud_class { TP_GIVT, TP_SIVT };

/*
 * One rule's finding, 16 bytes, as it lies behind the strings of a tagged click. `seen` and `limit` are in the rule's own unit:
 * clicks, milliseconds, addresses, km/h, millionths of a score; where text was seen (a country, a pattern's name), its first
 * eight bytes, zero-padded, in memory order. limit 0: the rule has none.
 */
struct tp_evidence {
	uint8_t reason; /* enum tp_fraud_reason */
	uint8_t is_text;
	uint16_t detail; /* the rule's own: which list, which feature; 0 when unused */
	uint32_t limit;
	int64_t seen;
};
static_assert(sizeof(struct tp_evidence) == 16, "disk format");

const char *tp_fraud_reason_name(enum tp_fraud_reason reason); /* "ip_velocity", …; NULL for an unknown number */
enum tp_fraud_class tp_fraud_reason_class(enum tp_fraud_reason reason);
/* GIVT if every reason in the set is; one sophisticated reason makes it SIVT. */
enum tp_fraud_class tp_fraud_class_of(uint32_t reasons);
const char *tp_fraud_class_name(enum tp_fraud_class which); /* "GIVT", "SIVT" */

#endif
