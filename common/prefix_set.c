/*
 * An immutable set of prefixes with longest-prefix match. Built by a cold thread, read by any number of others without locks; the
 * builder's own hand-over (a pointer published with release) makes it visible.
 *
 * Prefixes nest or are disjoint, so a set of n cuts the address space into at most 2n + 1 intervals, each with one answer. A look-up
 * finds the interval that holds the address: from the first 16 bits to the intervals that begin there, then by halves. Nesting and
 * the number of lengths in use cost nothing; what costs is how many prefixes share their first 16 bits.
 *
 *   10.0.0.0/8 (a), 10.1.0.0/16 (b)     start  0.0.0.0  10.0.0.0  10.1.0.0  10.2.0.0  11.0.0.0
 *                                       index     -1        a         b         a        -1
 *
 * Invariants: start[0] is 0 and starts ascend strictly; root[t] is the interval that holds the first address whose top 16 bits are t,
 * root[65536] the last interval. Of equal prefixes the first of the list stands.
 */
#include "turnpike/addr.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 wide;

enum { TOPS = 65536, ROOT_FROM = 64, DEPTH_MAX = 129 };

struct entry {
	wide first; /* the address as a number, IPv4 in the top 32 bits, host bits cleared */
	uint32_t index;
	uint8_t bits;
};

/* One family's intervals. */
struct plane {
	uint32_t count; /* 0: no prefix of this family */
	uint32_t *root; /* TOPS + 1; NULL where halving alone is as fast */
	uint32_t *start4;
	wide *start6;
	int32_t *index;
};

struct tp_prefix_set {
	struct plane plane[2]; /* [0]: version 4, [1]: version 6 */
};

static wide addr_wide(const struct tp_addr *addr)
{
	uint64_t hi, lo;

	if (addr->family == 4) {
		uint32_t four;
		memcpy(&four, addr->byte + 12, sizeof(four));
		return (wide)__builtin_bswap32(four) << 96;
	}
	memcpy(&hi, addr->byte, sizeof(hi));
	memcpy(&lo, addr->byte + 8, sizeof(lo));
	return (wide)__builtin_bswap64(hi) << 64 | __builtin_bswap64(lo);
}

/* The bits behind the first `bits`; a shift by 128 is undefined. */
static wide host_bits(uint8_t bits)
{
	return bits == 0 ? ~(wide)0 : ((wide)1 << (128 - bits)) - 1;
}

/* By first address, the outer before the inner, then by place in the list. */
static int entry_compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->bits != b->bits)
		return a->bits < b->bits ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

/* The entries of one family, sorted, each prefix once. Returns how many. */
static uint32_t entries_take(const struct tp_prefix *list, uint32_t count, uint8_t family, struct entry *entry)
{
	uint32_t used = 0, kept = 0;
	bool sorted = true;

	for (uint32_t i = 0; i < count; i++) {
		if (list[i].addr.family != family || list[i].bits > (family == 4 ? 32 : 128))
			continue;
		entry[used] = (struct entry){
			.first = addr_wide(&list[i].addr) & ~host_bits(list[i].bits), .index = i, .bits = list[i].bits};
		sorted = sorted && (used == 0 || entry_compare(&entry[used - 1], &entry[used]) < 0);
		used++;
	}
	if (!sorted)
		qsort(entry, used, sizeof(*entry), entry_compare);
	for (uint32_t i = 0; i < used; i++)
		if (kept == 0 || entry[kept - 1].first != entry[i].first || entry[kept - 1].bits != entry[i].bits)
			entry[kept++] = entry[i];
	return kept;
}

static wide start_of(const struct plane *plane, uint32_t i)
{
	return plane->start4 ? (wide)plane->start4[i] << 96 : plane->start6[i];
}

/* From here on the answer is `index`. A later word about the same address replaces an earlier one. */
static void interval_add(struct plane *plane, wide start, int32_t index)
{
	if (plane->count > 0 && start_of(plane, plane->count - 1) == start)
		plane->count--;
	if (plane->count > 0 && plane->index[plane->count - 1] == index)
		return;
	if (plane->start4)
		plane->start4[plane->count] = (uint32_t)(start >> 96);
	else
		plane->start6[plane->count] = start;
	plane->index[plane->count++] = index;
}

/* Walks the entries in order with those around the present address on a stack. */
static void intervals_fill(struct plane *plane, const struct entry *entry, uint32_t count)
{
	const struct entry *around[DEPTH_MAX];
	uint32_t depth = 0;

	interval_add(plane, 0, -1);
	for (uint32_t i = 0; i <= count; i++) {
		while (depth > 0) {
			const wide last = around[depth - 1]->first | host_bits(around[depth - 1]->bits);
			if (i < count && entry[i].first <= last)
				break;
			depth--;
			if (last != ~(wide)0 && !(plane->start4 && last >> 96 == UINT32_MAX))
				interval_add(plane, last + 1, depth > 0 ? (int32_t)around[depth - 1]->index : -1);
		}
		if (i < count) {
			interval_add(plane, entry[i].first, (int32_t)entry[i].index);
			around[depth++] = &entry[i];
		}
	}
}

static bool root_fill(struct plane *plane)
{
	uint32_t at = 0;

	plane->root = malloc((TOPS + 1) * sizeof(*plane->root));
	if (!plane->root)
		return false;
	for (uint32_t top = 0; top < TOPS; top++) {
		while (at + 1 < plane->count && start_of(plane, at + 1) <= (wide)top << 112)
			at++;
		plane->root[top] = at;
	}
	plane->root[TOPS] = plane->count - 1;
	return true;
}

static bool plane_build(struct plane *plane, const struct tp_prefix *list, uint32_t count, uint8_t family, struct entry *room)
{
	const uint32_t entries = entries_take(list, count, family, room);
	const size_t most = 2 * (size_t)entries + 1;

	if (entries == 0)
		return true;
	if (family == 4)
		plane->start4 = malloc(most * sizeof(*plane->start4));
	else
		plane->start6 = malloc(most * sizeof(*plane->start6));
	plane->index = malloc(most * sizeof(*plane->index));
	if ((!plane->start4 && !plane->start6) || !plane->index)
		return false;
	intervals_fill(plane, room, entries);
	return plane->count < ROOT_FROM || root_fill(plane);
}

struct tp_prefix_set *tp_prefix_set_build(const struct tp_prefix *list, uint32_t count)
{
	struct tp_prefix_set *set = calloc(1, sizeof(*set));
	struct entry *room = malloc((count ? count : 1) * sizeof(*room));

	if (!set || !room || !plane_build(&set->plane[0], list, count, 4, room) ||
	    !plane_build(&set->plane[1], list, count, 6, room)) {
		tp_prefix_set_free(set);
		set = NULL;
	}
	free(room);
	return set;
}

void tp_prefix_set_free(struct tp_prefix_set *set)
{
	for (int i = 0; set && i < 2; i++) {
		free(set->plane[i].root);
		free(set->plane[i].start4);
		free(set->plane[i].start6);
		free(set->plane[i].index);
	}
	free(set);
}

int64_t tp_prefix_set_match(const struct tp_prefix_set *set, const struct tp_addr *addr)
{
	if (addr->family != 4 && addr->family != 6)
		return -1;
	const struct plane *plane = &set->plane[addr->family == 6];
	if (plane->count == 0)
		return -1;
	const wide key = addr_wide(addr);
	uint32_t base = 0, left = plane->count; /* the interval is in [base, base + left) */
	if (plane->root) {
		const uint32_t top = (uint32_t)(key >> 112);
		base = plane->root[top];
		left = plane->root[top + 1] - base + 1;
	}
	/* halves by conditional moves, not jumps: which half is a coin toss */
	if (plane->start4) {
		const uint32_t four = (uint32_t)(key >> 96);
		while (left > 1) {
			const uint32_t half = left / 2;
			base = plane->start4[base + half] <= four ? base + half : base;
			left -= half;
		}
	} else {
		while (left > 1) {
			const uint32_t half = left / 2;
			base = plane->start6[base + half] <= key ? base + half : base;
			left -= half;
		}
	}
	return plane->index[base];
}
