/* Lines of bills as JSON and as CSV. Pure; any thread. */
#ifndef TURNPIKE_CTL_BILLING_TEXT_H
#define TURNPIKE_CTL_BILLING_TEXT_H

#include "ctl_billing_sum.h"
#include "ctl_zone.h"

#include <jansson.h>
#include <stdio.h>

/* Members campaign_id, impressions, clicks, flagged_clicks, spend, currency, and spend_by_currency where several were spent. */
void ctl_billing_line_json(json_t *object, const struct ctl_billing_sum *sum, const struct ctl_billing_line *line);
json_t *ctl_billing_time_json(const struct ctl_zone *zone, uint64_t ms);

/*
 * One field of CSV (RFC 4180), quoted where it has to be. A text that a spreadsheet would take for a formula gets a ' before it (OWASP, CSV
 * injection): whoever may send events chooses the ids.
 */
void ctl_csv_text(FILE *to, struct tp_str text);
/* The fields of ctl_billing_line_json(), separated by commas: spend_by_currency as "EUR=1.500000 USD=0.250000", empty where one was spent. */
void ctl_billing_line_csv(FILE *to, const struct ctl_billing_sum *sum, const struct ctl_billing_line *line);
extern const char ctl_billing_line_csv_header[];

/* "EUR=1.500000 USD=0.250000": every currency that was seen. Returns its length; `to` is cut to `room`. */
size_t ctl_billing_spend_text(const struct ctl_billing_sum *sum, const struct ctl_billing_line *line, char *to, size_t room);

#endif
