/*
 * A segment's events as text.
 */
#ifndef TURNPIKE_TOOL_DUMP_H
#define TURNPIKE_TOOL_DUMP_H

#include "turnpike/scan.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

/*
 * Writes the wanted rows of the scan, as JSON lines or CSV; before the first row of a CSV its names, and *head goes to false. 0,
 * -EBADMSG or -EIO (the output failed).
 */
int ctl_dump(struct sto_scan *scan, bool csv, bool *head, FILE *to);

#endif
