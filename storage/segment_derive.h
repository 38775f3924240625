/*
 * The rollup of a segment, derived from its rows: the rule is part of the format, so it stands here and not with the live tables.
 *
 *   accepted and late rows: impressions, conversions and clicks count by type; a click with any fraud bit is a flagged one, else its
 *   bid adds to spend; late rows count as late, too. An amended click without fraud bits: flagged_clicks - 1, clicks + 1, late + 1,
 *   spend. All else adds nothing. Counts are modulo 2^64.
 *
 * Threads: any; all state is the caller's.
 */
#ifndef STORAGE_SEGMENT_DERIVE_H
#define STORAGE_SEGMENT_DERIVE_H

#include "buffer.h"
#include "segment_format.h"

enum derive_column {
	DERIVE_TIME,
	DERIVE_TYPE,
	DERIVE_VERDICT,
	DERIVE_FRAUD,
	DERIVE_FLAGS,
	DERIVE_DEVICE,
	DERIVE_COUNTRY,
	DERIVE_CURRENCY,
	DERIVE_BID,
	DERIVE_AD,
	DERIVE_CAMPAIGN,
	DERIVE_ADVERTISER,
	DERIVE_PUBLISHER,
	DERIVE_REGION,
	DERIVE_COLUMNS
};

/* Which column of the segment each of them is. */
extern const uint16_t derive_column[DERIVE_COLUMNS];

struct derive_key {
	uint32_t minute, ad, campaign, advertiser, publisher, region;
	uint32_t country_device;
	uint32_t currency;
};
static_assert(sizeof(struct derive_key) == 32, "hashed as bytes");

struct derive_row {
	struct derive_key key;
	struct tp_sums sums;
};

/* Zeroed is empty. */
struct derive {
	struct derive_row *row;
	uint32_t rows, rows_max;
	uint64_t *slot; /* high half of the key's hash, index of its row plus one; 0: free */
	uint32_t slots; /* a power of two */
};

uint64_t derive_hash(const struct derive_key *key);
/* What derive_find() will look at first. */
static inline void derive_prefetch(const struct derive *derive, uint64_t hash)
{
	if (derive->slots)
		__builtin_prefetch(&derive->slot[(uint32_t)hash & (derive->slots - 1)]);
}

/* Adds rows. 0 or -ENOMEM. */
int derive_add(struct derive *derive, const uint64_t *const value[DERIVE_COLUMNS], uint32_t count);
const struct derive_row *derive_find(const struct derive *derive, const struct derive_key *key, uint64_t hash);
void derive_fini(struct derive *derive);

#endif
