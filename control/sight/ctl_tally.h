/*
 * Running totals by type over all figures, and the busiest campaigns of the last minutes: what the dashboard shows and no counter has.
 *
 * Segments are immutable, so each is summed once, when it first appears; the live tables are summed anew each time. A segment that
 * retention removes stays in the totals: they only grow, as long as this process lives.
 */
#ifndef TURNPIKE_CTL_TALLY_H
#define TURNPIKE_CTL_TALLY_H

#include "ctl_query.h"
#include "ctl_store.h"

#include <jansson.h>

struct ctl_types {
	uint64_t impressions, clicks, flagged_clicks, conversions;
};

enum { CTL_TOP_MINUTES = 5, CTL_TOP_CAMPAIGNS = 8 };

struct ctl_tally;
struct ctl_tally *ctl_tally_open(const char *data_dir); /* NULL: said in the log */
void ctl_tally_close(struct ctl_tally *tally);

/* Takes a snapshot. The minutes of the campaigns end with the one of high_ms. 0 or as ctl_store_scan(). */
int ctl_tally_take(struct ctl_tally *tally, const struct tp_live *live, uint64_t high_ms, struct ctl_types *types);
/* The campaigns of the last snapshot: [{"campaign","clicks","flagged_clicks","impressions","ctr","spend","currency"}]. */
json_t *ctl_tally_top(const struct ctl_tally *tally);

#endif
