/* The inside of analytics: one question to one snapshot, and its answer as JSON. Any thread, with a store of its own. */
#ifndef TURNPIKE_CTL_ANALYTICS_H
#define TURNPIKE_CTL_ANALYTICS_H

#include "ctl_cache.h"
#include "ctl_json.h"
#include "ctl_query.h"
#include "ctl_store.h"

struct ctl_analytics_source {
	struct ctl_store *store;
	const struct tp_live *live; /* may be NULL */
	struct ctl_cache *cache;    /* NULL: nothing is kept */
};

/*
 * Fills an answer that was made for the query (ctl_answer_init). 0; -ECANCELED: the answer's too_many_… tell why; -ENOMEM; or as
 * ctl_store_scan().
 */
int ctl_analytics_ask(const struct ctl_analytics_source *source, const struct ctl_query *query, struct ctl_answer *answer,
		      struct ctl_facts *facts);

struct ctl_analytics_parts {
	struct ctl_answer *answer;
	struct ctl_answer *previous; /* NULL: not asked for */
	const struct ctl_facts *facts;
	const uint64_t *users; /* NULL where they are not told */
};

/* Writes the object of contract section 7. False: no memory. */
bool ctl_analytics_json(const struct ctl_analytics_parts *parts, struct ctl_json *json);

#endif
