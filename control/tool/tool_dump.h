/*
 * A segment's events as text.
 */
#ifndef TURNPIKE_TOOL_DUMP_H
#define TURNPIKE_TOOL_DUMP_H

#include "turnpike/scan.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

struct ctl_dump {
	const struct sto_scan_filter *filter;
	FILE *to;
	bool csv;    /* else JSON lines */
	bool headed; /* the names of a CSV were written */
};

/* Writes the wanted rows of the scan; before the first row of a CSV its names. 0, -EBADMSG or -EIO (the output failed). */
int ctl_dump(struct ctl_dump *dump, struct sto_scan *scan);
/* Writes one event, if the filter wants it: an sto_event_fn, for segments without columns. 0 or -EIO. */
int ctl_dump_event(void *dump, const struct tp_event *event);

#endif
