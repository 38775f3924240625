/*
 * Distinct users of a campaign over whole hours: the sketches of agg/distinct.h, merged. What sealed segments make is kept
 * (ctl_users_kept.h), so that a question reads those that were sealed since the last one; what was found is told again for half a
 * second, so that a page that many look at does not walk all unsealed events for each of them.
 *
 * Entered by connection threads, each with a store of its own.
 */
#include "ctl.h"
#include "ctl_folds.h"
#include "ctl_query.h"
#include "ctl_users_kept.h"
#include "turnpike/distinct.h"

#include "turnpike/text.h"

#include <errno.h>
#include <string.h>

enum { HOUR_MINUTES = 60, TOLD_SLOTS = 4096 };

#define TOLD_NS 500000000ULL

/* What was told lately; under told_lock. */
static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static struct told {
	XXH128_hash_t of; /* campaign and range */
	uint64_t at_ns, users;
} told[TOLD_SLOTS];

/* Of what is kept. What is told for a while is told apart by `folds` too: theirs is what was not sealed. */
static XXH128_hash_t range_key(const struct ctl_query *query, const struct ctl_folds *folds)
{
	const uint64_t seed[] = {query->from_minute, query->to_minute, (uint64_t)(uintptr_t)folds};
	return XXH3_128bits_withSeed(query->id, query->id_bytes, XXH3_64bits(seed, sizeof(seed)));
}

static bool told_find(XXH128_hash_t of, uint64_t *users)
{
	pthread_mutex_lock(&told_lock);
	const struct told *one = &told[of.low64 % TOLD_SLOTS];
	bool found = XXH128_isEqual(one->of, of) && tp_mono_ns() - one->at_ns < TOLD_NS;
	*users = one->users;
	pthread_mutex_unlock(&told_lock);
	return found;
}

/* at_ns: before the reading began. */
static void told_keep(XXH128_hash_t of, uint64_t at_ns, uint64_t users)
{
	pthread_mutex_lock(&told_lock);
	told[of.low64 % TOLD_SLOTS] = (struct told){.of = of, .at_ns = at_ns, .users = users};
	pthread_mutex_unlock(&told_lock);
}

/* Segments without sections that are still worth reading for a figure nobody asked for by name. */
enum { ROWS_MAX = 1000000 };

struct asking {
	const struct ctl_query *query;
	const struct ctl_folds_ask *ask;
	XXH128_hash_t of;
	bool segments;                   /* what comes is of segments */
	struct ctl_folds_sealed sealed;  /* these, once all have come */
	struct agg_distinct live, users; /* of what is not sealed; of segments */
};

static void begin(void *context)
{
	struct asking *asking = context;
	asking->segments = false;
	asking->live = asking->users = (struct agg_distinct){0};
}

static uint64_t kept(void *context, const struct sto_reader *reader)
{
	struct asking *asking = context;
	struct ctl_folds_sealed before, now;

	asking->segments = true;
	ctl_folds_sealed(reader, asking->ask, UINT64_MAX, &asking->sealed);
	if (!asking->sealed.segments)
		return 0;
	bool hit = ctl_users_kept_find(asking->of, &before);
	if (hit) {
		ctl_folds_sealed(reader, asking->ask, before.to_sequence, &now);
		hit = ctl_users_kept_take(asking->of, &now, &asking->users);
	}
	ctl_users_kept_count(hit);
	return hit ? now.to_sequence : 0;
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
			       (uint32_t)(query->to_minute / HOUR_MINUTES), asking->segments ? &asking->users : &asking->live);
	return true;
}

int ctl_users(struct ctl *ctl, struct ctl_store *store, const struct ctl_query *query, const struct tp_live *live, uint64_t *users,
	      struct ctl_facts *facts)
{
	if (!query->filtered || query->filter != CTL_CAMPAIGN || query->from_minute % HOUR_MINUTES ||
	    query->to_minute % HOUR_MINUTES || query->filter_count)
		return -ENODATA;
	XXH128_hash_t of = range_key(query, ctl->folds);
	uint64_t begun_ns = tp_mono_ns();
	if (told_find(of, users))
		return 0;
	struct asking asking = {.query = query, .of = range_key(query, NULL)};
	const struct ctl_folds_ask ask = {
		.context = &asking,
		.from_ms = query->from_minute * TP_MINUTE_MS,
		.to_ms = query->to_minute * TP_MINUTE_MS,
		.kind = STO_SECTION_DISTINCT,
		.rows_max = ROWS_MAX,
		.begin = begin,
		.section = section,
		.fold = fold,
		.kept = kept,
	};
	asking.ask = &ask;
	int rc = ctl_folds_ask(ctl->folds, store, live, &ask, facts);
	if (!rc) {
		ctl_users_kept_put(asking.of, &asking.sealed, &asking.users);
		agg_distinct_merge(&asking.users, &asking.live);
		*users = agg_distinct_estimate(&asking.users);
		told_keep(of, begun_ns, *users);
	}
	return rc == -EOVERFLOW || rc == -ENOMEM ? -ENODATA : rc;
}
