/*
 * Rate limits of sources: see rate_limit.h. A virtual scheduler (GCRA, ITU-T I.371 annex A) needs one number per source: the time when it
 * would be done if it had sent evenly. Each request moves that time on by 1 s / limit; more than a second ahead of the clock is too much.
 *
 *   table   16,384 sources in sets of 8, found by a keyed hash of ingest entry and source
 *
 *        key   done_ns        done_ns <= now: the source has its whole allowance, as one that is not there: the place is free
 *
 * When all places of a set are in use, the one that is done first gives way, and its source begins anew: a flood from many sources loosens
 * the limit, and never refuses an honest one. The hash has a secret, so that nobody can choose whom he pushes out.
 */
#include "rate_limit.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

enum { SETS = 2048, WAYS = 8 };

#define SECOND_NS 1000000000ULL

struct place {
	uint64_t key; /* 0: never used */
	uint64_t done_ns;
};

/* 1 s / limit; 0: no limit */
struct step {
	uint64_t source_ns, who_ns;
};

struct dp_rate {
	uint64_t secret;
	uint32_t entries;
	struct step *step; /* per ingest entry */
	struct place place[SETS][WAYS];
};

int dp_rate_create(struct dp_rate **out, const struct tp_config *config)
{
	bool limited = false;
	for (uint32_t i = 0; i < config->ingest_count; i++)
		limited = limited || config->ingest[i].rate_limit != 0 || config->ingest[i].token_rate_limit != 0;
	*out = NULL;
	if (!limited)
		return 0;
	struct dp_rate *rate = aligned_alloc(64, (sizeof(*rate) + 63) / 64 * 64);
	if (rate == NULL)
		return -ENOMEM;
	memset(rate, 0, sizeof(*rate)); /* written, so that no page is missing later */
	rate->entries = config->ingest_count;
	rate->step = calloc(config->ingest_count, sizeof(*rate->step));
	if (rate->step == NULL) {
		dp_rate_destroy(rate);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < config->ingest_count; i++) {
		const struct tp_config_ingest *entry = &config->ingest[i];
		rate->step[i].source_ns = entry->rate_limit != 0 ? SECOND_NS / entry->rate_limit : 0;
		rate->step[i].who_ns = entry->token_rate_limit != 0 ? SECOND_NS / entry->token_rate_limit : 0;
	}
	if (getrandom(&rate->secret, sizeof(rate->secret), 0) != sizeof(rate->secret)) {
		int error = errno;
		dp_rate_destroy(rate);
		return -error;
	}
	*out = rate;
	return 0;
}

void dp_rate_destroy(struct dp_rate *rate)
{
	if (rate == NULL)
		return;
	free(rate->step);
	free(rate);
}

/* `kind` keeps addresses and tokens apart, which may have the same bytes. */
static uint64_t place_key(const struct dp_rate *rate, uint16_t ingest, uint16_t kind, const void *bytes, size_t count)
{
	uint8_t text[20] = {0};
	memcpy(text, bytes, count);
	memcpy(text + 16, &ingest, sizeof(ingest));
	memcpy(text + 18, &kind, sizeof(kind));
	uint64_t key = XXH3_64bits_withSeed(text, sizeof(text), rate->secret);
	return key != 0 ? key : 1;
}

/* The source's place, or the one that it may take. */
static struct place *find_place(struct place *set, uint64_t key)
{
	struct place *first = set;
	for (int i = 0; i < WAYS; i++) {
		if (set[i].key == key)
			return &set[i];
		if (set[i].done_ns < first->done_ns)
			first = &set[i];
	}
	*first = (struct place){.key = key};
	return first;
}

static bool allows(struct dp_rate *rate, uint64_t key, uint64_t step_ns, uint64_t now_ns)
{
	struct place *place = find_place(rate->place[key % SETS], key);
	uint64_t done_ns = (place->done_ns > now_ns ? place->done_ns : now_ns) + step_ns;
	if (done_ns > now_ns + SECOND_NS)
		return false;
	place->done_ns = done_ns;
	return true;
}

bool dp_rate_allows(struct dp_rate *rate, uint16_t ingest, const struct tp_addr *source, uint64_t now_ns)
{
	if (rate == NULL || ingest >= rate->entries || rate->step[ingest].source_ns == 0)
		return true;
	uint64_t key = place_key(rate, ingest, 0, source->byte, source->family == 6 ? 8 : 16);
	return allows(rate, key, rate->step[ingest].source_ns, now_ns);
}

bool dp_rate_allows_who(struct dp_rate *rate, uint16_t ingest, uint64_t who, uint64_t now_ns)
{
	if (rate == NULL || ingest >= rate->entries || rate->step[ingest].who_ns == 0)
		return true;
	return allows(rate, place_key(rate, ingest, 1, &who, sizeof(who)), rate->step[ingest].who_ns, now_ns);
}
