/*
 * How many of something each source has now: connections of an address, batches of an ad server. Exact, and bounded: as many sources can be
 * known at once as there can be things. One rx core enters; nothing is allocated after dp_tally_create().
 *
 *   bucket[hash of the key] ──► source ──► source …       a source is there only while its count is not zero
 *
 * The hash has a secret, so that nobody can choose keys that make one chain long.
 */
#ifndef TURNPIKE_TALLY_H
#define TURNPIKE_TALLY_H

#include <stdint.h>

enum { DP_TALLY_NONE = UINT32_MAX };

struct dp_tally_source {
	uint64_t key;
	uint32_t count;
	uint32_t next; /* in its chain, or among the free ones */
};

struct dp_tally {
	struct dp_tally_source *source;
	uint32_t *bucket;
	uint64_t secret;
	uint32_t mask, free;
	uint32_t sources; /* that have something now */
};

int dp_tally_create(struct dp_tally *tally, uint32_t things_max); /* cold; 0 or -errno */
void dp_tally_destroy(struct dp_tally *tally);                    /* also one that is all zero */

/* One more of `key`, unless it has `most` already: then DP_TALLY_NONE. Else the place to give back. At most things_max may be taken. */
uint32_t dp_tally_take(struct dp_tally *tally, uint64_t key, uint32_t most);
/* One less; `place` is what take returned. */
void dp_tally_give(struct dp_tally *tally, uint32_t place);

static inline uint32_t dp_tally_count(const struct dp_tally *tally, uint32_t place)
{
	return tally->source[place].count;
}

#endif
