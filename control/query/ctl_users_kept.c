/* Sketches that are kept; see ctl_users_kept.h. */
#include "ctl_users_kept.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all below */
static struct ctl_cache_facts counted;
static struct slot {
	XXH128_hash_t of;
	struct ctl_folds_sealed sealed; /* no segments: free */
	struct agg_distinct users;
} slot[CTL_USERS_KEPT_MAX];

static struct slot *slot_of(XXH128_hash_t of)
{
	return &slot[of.low64 % CTL_USERS_KEPT_MAX];
}

static bool is_of(const struct slot *one, XXH128_hash_t of)
{
	return one->sealed.segments && XXH128_isEqual(one->of, of);
}

bool ctl_users_kept_find(XXH128_hash_t of, struct ctl_folds_sealed *sealed)
{
	pthread_mutex_lock(&lock);
	const struct slot *one = slot_of(of);
	bool found = is_of(one, of);
	*sealed = one->sealed;
	pthread_mutex_unlock(&lock);
	return found;
}

bool ctl_users_kept_take(XXH128_hash_t of, const struct ctl_folds_sealed *sealed, struct agg_distinct *into)
{
	pthread_mutex_lock(&lock);
	const struct slot *one = slot_of(of);
	bool same = is_of(one, of) && one->sealed.to_sequence == sealed->to_sequence && one->sealed.segments == sealed->segments &&
		    one->sealed.sum == sealed->sum;
	if (same)
		agg_distinct_merge(into, &one->users);
	pthread_mutex_unlock(&lock);
	return same;
}

void ctl_users_kept_put(XXH128_hash_t of, const struct ctl_folds_sealed *sealed, const struct agg_distinct *users)
{
	if (!sealed->segments)
		return;
	pthread_mutex_lock(&lock);
	struct slot *one = slot_of(of);
	if (!one->sealed.segments) {
		counted.entries++;
		counted.bytes += sizeof(*one);
	}
	/* may be of an older state than what was there, from a slower question: then the next one reads a little more */
	*one = (struct slot){.of = of, .sealed = *sealed, .users = *users};
	pthread_mutex_unlock(&lock);
}

void ctl_users_kept_count(bool hit)
{
	pthread_mutex_lock(&lock);
	*(hit ? &counted.hits : &counted.misses) += 1;
	pthread_mutex_unlock(&lock);
}

void ctl_users_kept_facts(struct ctl_cache_facts *facts)
{
	pthread_mutex_lock(&lock);
	*facts = counted;
	pthread_mutex_unlock(&lock);
}
