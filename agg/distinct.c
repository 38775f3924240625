/*
 * HyperLogLog, and the section of it. Pure; any thread. See distinct.h for the sources.
 */
#include "distinct_rank.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { RANK_MAX = 64 - AGG_DISTINCT_BITS + 1, SPARSE_ENTRY_BYTES = 3 };

struct section_head {
	uint32_t version, entries;
	uint64_t data_bytes;
};
static_assert(sizeof(struct section_head) == 16, "disk format");

void agg_distinct_add(struct agg_distinct *distinct, const char *user, size_t bytes)
{
	uint64_t hash = XXH3_64bits(user, bytes);
	uint8_t *rank = &distinct->rank[distinct_register(hash)];
	if (distinct_rank(hash) > *rank)
		*rank = distinct_rank(hash);
}

void agg_distinct_merge(struct agg_distinct *into, const struct agg_distinct *from)
{
	for (uint32_t i = 0; i < AGG_DISTINCT_REGISTERS; i++)
		if (from->rank[i] > into->rank[i])
			into->rank[i] = from->rank[i];
}

/* x + x² + 2 x⁴ + 4 x⁸ + … */
static double sigma(double x)
{
	if (x == 1)
		return INFINITY;
	double y = 1, z = x, before;
	do {
		x *= x;
		before = z;
		z += x * y;
		y += y;
	} while (z != before);
	return z;
}

static double tau(double x)
{
	if (x == 0 || x == 1)
		return 0;
	double y = 1, z = 1 - x, before;
	do {
		x = sqrt(x);
		before = z;
		y *= 0.5;
		z -= (1 - x) * (1 - x) * y;
	} while (z != before);
	return z / 3;
}

uint64_t agg_distinct_estimate(const struct agg_distinct *distinct)
{
	const double m = AGG_DISTINCT_REGISTERS;
	uint32_t with_rank[RANK_MAX + 1] = {0};
	for (uint32_t i = 0; i < AGG_DISTINCT_REGISTERS; i++)
		with_rank[distinct->rank[i]]++;
	double z = m * tau(1 - with_rank[RANK_MAX] / m);
	for (int k = RANK_MAX - 1; k >= 1; k--)
		z = 0.5 * (z + with_rank[k]);
	z += m * sigma(with_rank[0] / m);
	const double alpha = 0.721347520444481703680; /* 1 / (2 ln 2) */
	return (uint64_t)(alpha * m * m / z + 0.5);
}

/* ---- the section ---- */

static const struct agg_distinct_entry *entries_of(const void *section)
{
	return (const struct agg_distinct_entry *)(const void *)((const char *)section + sizeof(struct section_head));
}

static const uint8_t *data_of(const void *section)
{
	return (const uint8_t *)(entries_of(section) + ((const struct section_head *)section)->entries);
}

static bool ranks_good(const struct agg_distinct_entry *entry, const uint8_t *at)
{
	if (entry->ranks == AGG_DISTINCT_REGISTERS) {
		for (uint32_t i = 0; i < AGG_DISTINCT_REGISTERS; i++)
			if (at[i] > RANK_MAX)
				return false;
		return true;
	}
	for (uint32_t i = 0; i < entry->ranks; i++, at += SPARSE_ENTRY_BYTES)
		if ((at[0] | at[1] << 8) >= AGG_DISTINCT_REGISTERS || at[2] > RANK_MAX)
			return false;
	return true;
}

int agg_distinct_check(const void *section, uint64_t bytes)
{
	const struct section_head *head = section;
	if (bytes < sizeof(*head) || ((uintptr_t)section & 7) || head->version != AGG_DISTINCT_VERSION)
		return -EBADMSG;
	uint64_t entries_bytes = (uint64_t)head->entries * sizeof(struct agg_distinct_entry);
	if (bytes - sizeof(*head) < entries_bytes || bytes - sizeof(*head) - entries_bytes != head->data_bytes)
		return -EBADMSG;
	const struct agg_distinct_entry *entry = entries_of(section);
	const uint8_t *data = data_of(section);
	for (uint32_t i = 0; i < head->entries; i++) {
		uint32_t ranks_bytes =
			entry[i].ranks == AGG_DISTINCT_REGISTERS ? AGG_DISTINCT_REGISTERS : entry[i].ranks * SPARSE_ENTRY_BYTES;
		if (entry[i].ranks > AGG_DISTINCT_REGISTERS || entry[i].name_at > head->data_bytes ||
		    head->data_bytes - entry[i].name_at < entry[i].name_bytes || entry[i].ranks_at > head->data_bytes ||
		    head->data_bytes - entry[i].ranks_at < ranks_bytes || !ranks_good(&entry[i], data + entry[i].ranks_at))
			return -EBADMSG;
		if (i > 0 && entry[i].campaign_hash < entry[i - 1].campaign_hash)
			return -EBADMSG;
	}
	return 0;
}

static void ranks_take(const struct agg_distinct_entry *entry, const uint8_t *at, struct agg_distinct *into)
{
	if (entry->ranks == AGG_DISTINCT_REGISTERS) {
		for (uint32_t i = 0; i < AGG_DISTINCT_REGISTERS; i++)
			if (at[i] > into->rank[i])
				into->rank[i] = at[i];
		return;
	}
	for (uint32_t i = 0; i < entry->ranks; i++, at += SPARSE_ENTRY_BYTES) {
		uint8_t *rank = &into->rank[at[0] | at[1] << 8];
		if (at[2] > *rank)
			*rank = at[2];
	}
}

uint32_t agg_distinct_take(const void *section, const char *campaign, size_t bytes, uint32_t from_hour, uint32_t to_hour,
			   struct agg_distinct *into)
{
	const struct agg_distinct_entry *entry = entries_of(section);
	const uint8_t *data = data_of(section);
	uint32_t entries = ((const struct section_head *)section)->entries, found = 0;
	uint64_t hash = XXH3_64bits(campaign, bytes);
	uint32_t low = 0, high = entries;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (entry[middle].campaign_hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < entries && entry[low].campaign_hash == hash; low++) {
		if (entry[low].hour < from_hour || entry[low].hour >= to_hour || entry[low].name_bytes != bytes ||
		    memcmp(data + entry[low].name_at, campaign, bytes) != 0)
			continue;
		ranks_take(&entry[low], data + entry[low].ranks_at, into);
		found++;
	}
	return found;
}
