/*
 * Why an event is counted, flagged, billed or not: all records with one id, where each lies, and which line of a report it is in.
 *
 * Any thread. Needs neither the control process nor a running data process, so the tool uses it too.
 */
#ifndef TURNPIKE_CTL_WHY_H
#define TURNPIKE_CTL_WHY_H

#include "ctl_events.h"

#include <jansson.h>

enum { CTL_WHY_RECORDS_MAX = 1000 };

struct ctl_why_record {
	struct ctl_place place;
	struct tp_event *event;
};

struct ctl_why {
	struct ctl_why_record *record; /* as they were received; an amendment behind what it amends */
	uint32_t count, max;
	bool more; /* than CTL_WHY_RECORDS_MAX: conflicts, as a rule */
	struct ctl_events_facts facts;
};

/* The line of a report in UTC that an event is in. Texts are the event's. */
struct ctl_why_line {
	struct tp_str advertiser, campaign;
	uint64_t hour_ms, day_ms, month_ms; /* where each starts */
	uint64_t timestamp_ms;
};
struct ctl_why_line ctl_why_line(const struct tp_event *event);

/*
 * The bills that such a line is in, to be put beside it. A new reference, or NULL: it cannot be said. Billing gives it (ctl_billing_why.h);
 * `report` of ctl_why_json() may be NULL.
 */
struct ctl_why_report {
	json_t *(*line)(void *context, const struct ctl_why_line *line);
	void *context;
};

/* 0, also when nothing was found; or as ctl_events_find(). To be freed in any case. */
int ctl_why_find(struct ctl_events *events, const char *id, size_t id_bytes, uint64_t from_ms, uint64_t to_ms, struct ctl_why *why);
void ctl_why_free(struct ctl_why *why);

/* The answer. `only`: records of this advertiser alone; NULL: all. NULL: there is none of them. */
json_t *ctl_why_json(const struct ctl_why *why, const char *only, const struct ctl_why_report *report);

/* Tags as JSON: an array of names; and of {"reason","seen","limit","detail"}. */
json_t *ctl_reasons_json(uint32_t fraud);
json_t *ctl_evidence_json(const struct tp_event *event);

#endif
