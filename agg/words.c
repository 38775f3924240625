/* The automaton that finds words, and the look-up of autonomous systems. Any thread; shard cores once a click. */
#include "turnpike/fraud_data.h"

int32_t agg_words_find(const struct agg_words *words, const char *text, uint32_t bytes)
{
	const uint16_t *next = words->next, *found = words->found;
	const uint32_t classes = words->classes;
	uint32_t state = 0;
	for (uint32_t i = 0; i < bytes; i++) {
		state = next[state * classes + words->class_of[(uint8_t)text[i]]];
		if (__builtin_expect(found[state] != 0, 0))
			return found[state] - 1;
	}
	return -1;
}

bool agg_asns_have(const struct agg_asns *asns, uint32_t asn)
{
	uint32_t low = 0, high = asns->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (asns->asn[middle] < asn)
			low = middle + 1;
		else
			high = middle;
	}
	return low < asns->count && asns->asn[low] == asn;
}
