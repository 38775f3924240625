/*
 * An immutable set of prefixes with longest-prefix match. Built by a cold thread, read by any number of others without locks; the
 * builder's own hand-over (a pointer published with release) makes it visible.
 *
 *   per family:  lengths in use, longest first    ┌ /32: 10.0.0.1 │ 10.0.0.9 │ …      sorted masked addresses, binary search
 *                                                 ├ /24: 192.0.2.0 │ …
 *                                                 └ /8 : 10.0.0.0
 *
 * Invariant: entries of one length are sorted by masked address, unique; of equal prefixes the first of the list stands.
 * A blocklist has few lengths, so a look-up costs a handful of binary searches.
 */
#include "turnpike/addr.h"

#include <stdlib.h>
#include <string.h>

struct key {
	uint64_t hi, lo; /* the address as a big-endian number, host bits cleared */
};

struct entry {
	struct key key;
	uint32_t index;
	uint8_t family;
	uint8_t bits; /* of 128 */
};

struct run {
	uint32_t start, count;
	uint8_t bits; /* of 128 */
};

struct tp_prefix_set {
	struct run run[2][129]; /* [0]: version 4, [1]: version 6; longest first */
	uint32_t runs[2];
	struct entry entry[];
};

static struct key key_of(const uint8_t byte[16], unsigned bits)
{
	struct key key;
	memcpy(&key.hi, byte, 8);
	memcpy(&key.lo, byte + 8, 8);
	key.hi = __builtin_bswap64(key.hi);
	key.lo = __builtin_bswap64(key.lo);
	/* a shift by 64 is undefined, hence the cases */
	key.hi &= bits == 0 ? 0 : bits >= 64 ? ~0ULL : ~0ULL << (64 - bits);
	key.lo &= bits <= 64 ? 0 : bits >= 128 ? ~0ULL : ~0ULL << (128 - bits);
	return key;
}

static int key_compare(const struct key *a, const struct key *b)
{
	if (a->hi != b->hi)
		return a->hi < b->hi ? -1 : 1;
	return a->lo < b->lo ? -1 : a->lo > b->lo;
}

/* By family, then longest first, then address, then place in the list. */
static int entry_compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (a->bits != b->bits)
		return a->bits > b->bits ? -1 : 1;
	int order = key_compare(&a->key, &b->key);
	return order ? order : a->index < b->index ? -1 : a->index > b->index;
}

struct tp_prefix_set *tp_prefix_set_build(const struct tp_prefix *list, uint32_t count)
{
	struct tp_prefix_set *set = calloc(1, sizeof *set + (size_t)count * sizeof set->entry[0]);
	if (!set)
		return NULL;
	uint32_t used = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (list[i].addr.family != 4 && list[i].addr.family != 6)
			continue;
		unsigned bits = list[i].bits + (list[i].addr.family == 4 ? 96u : 0u);
		if (bits > 128)
			continue;
		set->entry[used++] = (struct entry){
			.key = key_of(list[i].addr.byte, bits), .index = i, .family = list[i].addr.family, .bits = (uint8_t)bits};
	}
	qsort(set->entry, used, sizeof set->entry[0], entry_compare);
	uint32_t kept = 0;
	for (uint32_t i = 0; i < used; i++) {
		const struct entry *last = kept > 0 ? &set->entry[kept - 1] : NULL;
		const struct entry *entry = &set->entry[i];
		bool same_run = last && last->family == entry->family && last->bits == entry->bits;
		if (same_run && key_compare(&last->key, &entry->key) == 0)
			continue;
		unsigned family = entry->family == 6;
		if (!same_run)
			set->run[family][set->runs[family]++] = (struct run){.start = kept, .count = 0, .bits = entry->bits};
		set->run[family][set->runs[family] - 1].count++;
		set->entry[kept++] = *entry;
	}
	return set;
}

void tp_prefix_set_free(struct tp_prefix_set *set)
{
	free(set);
}

int64_t tp_prefix_set_match(const struct tp_prefix_set *set, const struct tp_addr *addr)
{
	if (addr->family != 4 && addr->family != 6)
		return -1;
	unsigned family = addr->family == 6;
	for (uint32_t r = 0; r < set->runs[family]; r++) {
		const struct run *run = &set->run[family][r];
		struct key key = key_of(addr->byte, run->bits);
		const struct entry *base = set->entry + run->start;
		uint32_t count = run->count;
		while (count > 1) { /* the last entry not above the key is in base[0..count) */
			uint32_t half = count / 2;
			if (key_compare(&base[half].key, &key) <= 0) {
				base += half;
				count -= half;
			} else {
				count = half;
			}
		}
		if (key_compare(&base->key, &key) == 0)
			return base->index;
	}
	return -1;
}
