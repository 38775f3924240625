/*
 * A JSON parser's working memory: made and freed at start and end, on the main thread. It chooses the widest variant of the fast case that
 * this processor has.
 */
#include "json_parse.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const struct dp_json_variant *const *dp_json_variants(void)
{
	static const struct dp_json_variant *const with_avx512[] = {&dp_json_avx512, &dp_json_avx2, &dp_json_sse, &dp_json_scalar,
								    NULL};
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
		return with_avx512 + 2;
	if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
		return with_avx512 + 1;
	return with_avx512;
}

struct dp_json_scratch *dp_json_scratch_new(void)
{
	struct dp_json_scratch *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
	if (!s)
		return NULL;
	memset(s, 0, sizeof *s); /* touched now, so that no page fault comes later */
	s->variant = dp_json_variants()[0];
	/* Unpredictable from outside is enough: it keeps a client from making keys that collide. */
	if (getrandom(&s->hash_seed, sizeof s->hash_seed, GRND_NONBLOCK) != sizeof s->hash_seed) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		s->hash_seed = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15 ^ (uint64_t)(uintptr_t)s;
	}
	/* The order of the schema, to begin with. */
	static const uint8_t order[] = {
		DP_JSON_OPEN,         TP_FIELD_EVENT_ID,       TP_FIELD_EVENT_TYPE,   TP_FIELD_TIMESTAMP, TP_FIELD_AD_ID,
		TP_FIELD_CAMPAIGN_ID, TP_FIELD_ADVERTISER_ID,  TP_FIELD_PUBLISHER_ID, TP_FIELD_USER_ID,   TP_FIELD_DEVICE_ID,
		TP_FIELD_IP_ADDRESS,  TP_FIELD_USER_AGENT,     TP_FIELD_GEO,          TP_FIELD_REFERER,   TP_FIELD_BID_PRICE,
		TP_FIELD_CURRENCY,    TP_FIELD_CLICK_POSITION,
	};
	for (size_t i = 0; i + 1 < sizeof order; i++)
		s->next[order[i]] = order[i + 1];
	s->next[DP_JSON_OPEN_GEO] = TP_FIELD_COUNTRY;
	s->next[TP_FIELD_COUNTRY] = TP_FIELD_REGION;
	s->next[TP_FIELD_REGION] = TP_FIELD_CITY;
	return s;
}

void dp_json_scratch_free(struct dp_json_scratch *scratch)
{
	free(scratch);
}

struct tp_event_scratch *dp_json_scratch_finish(struct dp_json_scratch *scratch)
{
	return &scratch->finish;
}
