/*
 * Distinct users of a campaign over whole hours: the sketches of agg/distinct.h, merged. Entered by connection threads, with the lock
 * of the store.
 */
#include "ctl.h"
#include "ctl_folds.h"
#include "ctl_query.h"
#include "turnpike/distinct.h"

#include <errno.h>

enum { HOUR_MINUTES = 60 };

/* Segments without sections that are still worth reading for a figure nobody asked for by name. */
enum { ROWS_MAX = 1000000 };

struct asking {
	const struct ctl_query *query;
	struct agg_distinct users;
};

static void begin(void *context)
{
	struct asking *asking = context;
	asking->users = (struct agg_distinct){0};
}

static bool section(void *context, const void *bytes)
{
	struct asking *asking = context;
	const struct ctl_query *query = asking->query;
	agg_distinct_take(bytes, query->id, query->id_bytes, (uint32_t)(query->from_minute / HOUR_MINUTES),
			  (uint32_t)(query->to_minute / HOUR_MINUTES), &asking->users);
	return true;
}

static bool fold(void *context, struct agg_fold *made)
{
	struct asking *asking = context;
	const struct ctl_query *query = asking->query;
	agg_fold_distinct_take(made, query->id, query->id_bytes, (uint32_t)(query->from_minute / HOUR_MINUTES),
			       (uint32_t)(query->to_minute / HOUR_MINUTES), &asking->users);
	return true;
}

int ctl_users(struct ctl *ctl, const struct ctl_query *query, const struct tp_live *live, uint64_t *users, struct ctl_facts *facts)
{
	if (!query->filtered || query->filter != CTL_CAMPAIGN || query->from_minute % HOUR_MINUTES ||
	    query->to_minute % HOUR_MINUTES)
		return -ENODATA;
	struct asking asking = {.query = query};
	const struct ctl_folds_ask ask = {
		.context = &asking,
		.from_ms = query->from_minute * TP_MINUTE_MS,
		.to_ms = query->to_minute * TP_MINUTE_MS,
		.kind = STO_SECTION_DISTINCT,
		.rows_max = ROWS_MAX,
		.begin = begin,
		.section = section,
		.fold = fold,
	};
	int rc = ctl_folds_ask(ctl->folds, live, &ask, facts);
	if (!rc)
		*users = agg_distinct_estimate(&asking.users);
	return rc == -EOVERFLOW || rc == -ENOMEM ? -ENODATA : rc;
}
