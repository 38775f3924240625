/*
 * Counts per source: see tally.h.
 */
#include "tally.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

int dp_tally_create(struct dp_tally *tally, uint32_t things_max)
{
	uint32_t buckets = 16;
	memset(tally, 0, sizeof *tally);
	while (buckets < 2 * things_max)
		buckets *= 2;
	tally->source = malloc(things_max * sizeof *tally->source);
	tally->bucket = malloc(buckets * sizeof *tally->bucket);
	if (!tally->source || !tally->bucket) {
		dp_tally_destroy(tally);
		return -ENOMEM;
	}
	memset(tally->bucket, 0xff, buckets * sizeof *tally->bucket); /* written, so that no page is missing later */
	for (uint32_t i = 0; i < things_max; i++)
		tally->source[i] = (struct dp_tally_source){.next = i + 1 < things_max ? i + 1 : DP_TALLY_NONE};
	tally->mask = buckets - 1;
	if (getrandom(&tally->secret, sizeof tally->secret, 0) != sizeof tally->secret) {
		int error = errno;
		dp_tally_destroy(tally);
		return -error;
	}
	return 0;
}

void dp_tally_destroy(struct dp_tally *tally)
{
	free(tally->source);
	free(tally->bucket);
	memset(tally, 0, sizeof *tally);
}

/* The finaliser of MurmurHash3, twice, with the secret between: which keys meet in a bucket cannot be told from outside. */
static uint32_t *bucket_of(const struct dp_tally *tally, uint64_t key)
{
	uint64_t h = key ^ tally->secret;
	h = (h ^ h >> 33) * 0xff51afd7ed558ccdULL;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ULL;
	h = (h ^ h >> 33 ^ tally->secret >> 17) * 0xff51afd7ed558ccdULL;
	return &tally->bucket[(h ^ h >> 32) & tally->mask];
}

uint32_t dp_tally_take(struct dp_tally *tally, uint64_t key, uint32_t most)
{
	uint32_t *head = bucket_of(tally, key);
	for (uint32_t at = *head; at != DP_TALLY_NONE; at = tally->source[at].next) {
		struct dp_tally_source *source = &tally->source[at];
		if (source->key != key)
			continue;
		if (source->count >= most)
			return DP_TALLY_NONE;
		source->count++;
		return at;
	}
	uint32_t at = tally->free;
	assert(at != DP_TALLY_NONE); /* no more sources than things */
	if (most == 0)
		return DP_TALLY_NONE;
	tally->free = tally->source[at].next;
	tally->source[at] = (struct dp_tally_source){.key = key, .count = 1, .next = *head};
	*head = at;
	tally->sources++;
	return at;
}

void dp_tally_give(struct dp_tally *tally, uint32_t place)
{
	struct dp_tally_source *source = &tally->source[place];
	assert(source->count > 0);
	if (--source->count > 0)
		return;
	uint32_t *link = bucket_of(tally, source->key);
	while (*link != place)
		link = &tally->source[*link].next;
	*link = source->next;
	tally->sources--;
	source->next = tally->free;
	tally->free = place;
}
