/* See ctl_billing_why.h. */
#include "ctl_billing_why.h"

#include "ctl_billing_param.h"
#include "ctl_billing_text.h"
#include "ctl_ledger_report.h"

#include <string.h>

enum { REPORTS_MAX = 16 }; /* hours, days and months, in a zone or two */

static json_t *report_json(const struct ctl_report *report)
{
	const struct ctl_zone *zone = ctl_zone_find(report->zone, strlen(report->zone));

	zone = zone ? zone : ctl_zone_utc();
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:I}", "id", report->id, "period",
			 ctl_billing_period_name((enum ctl_billing_period)report->period), "tz", report->zone, "start",
			 ctl_billing_time_json(zone, report->start_ms), "end", ctl_billing_time_json(zone, report->end_ms),
			 "revision", (json_int_t)report->revision);
}

json_t *ctl_billing_why(void *context, const struct ctl_why_line *line)
{
	struct ctl_report report[REPORTS_MAX];
	uint32_t count = 0;

	if (!context || ctl_ledger_reports_at(context, line->advertiser.at, line->advertiser.bytes, line->timestamp_ms, report,
					      REPORTS_MAX, &count) != 0)
		return NULL;
	json_t *reports = json_array();
	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(reports, report_json(&report[i]));
	return reports;
}
