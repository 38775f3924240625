/*
 * Building and asking a binary fuse filter: id_filter.h.
 *
 *   fingerprints: ├ segment 0 ┼ segment 1 ┼ segment 2 ┼ … ┼ segment s+1 ┤
 *   a key's three places lie in three segments side by side; the xor of what lies there is the key's fingerprint
 *
 * Building peels: a place that only one key uses belongs to that key; take the key out, and other places become free. Backwards from
 * the last one taken out, each key sets its own place. It fails for a few seeds in a hundred; then the next one is taken.
 *
 * Threads: any.
 */
#include "id_filter.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SEEDS_MAX = 256, SEGMENT_LENGTH_MAX = 1 << 18 };

uint64_t id_filter_key(uint64_t hi, uint64_t lo, uint32_t minute)
{
	uint8_t bytes[20];
	memcpy(bytes, &hi, 8);
	memcpy(bytes + 8, &lo, 8);
	memcpy(bytes + 16, &minute, 4);
	return XXH3_64bits(bytes, sizeof(bytes));
}

/* The finaliser of MurmurHash3: a bijection. */
static inline uint64_t mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 33;
}

struct shape {
	uint32_t length, mask, segments;
};

static inline uint32_t place(const struct shape *shape, uint64_t hash, uint32_t which)
{
	uint64_t first = (uint64_t)(((unsigned __int128)hash * ((uint64_t)shape->segments * shape->length)) >> 64);
	uint64_t at = first + (uint64_t)which * shape->length;
	return (uint32_t)(which == 0 ? at : at ^ (hash >> (which == 1 ? 18 : 0) & shape->mask));
}

static inline uint8_t fingerprint(uint64_t hash)
{
	return (uint8_t)(hash ^ hash >> 32);
}

/* log2 in 1/256, good to a tenth: that is enough for a size. */
static uint32_t log2_256(uint32_t n)
{
	uint32_t whole = 31 - (uint32_t)__builtin_clz(n);
	return whole * 256 + (uint32_t)(((uint64_t)n << 8 >> whole) - 256);
}

/* Segment length 2^⌊log n / log 3.33 + 2.25⌋, room for max(1.125, 0.875 + 0.25 log 10^6 / log n) places a key. */
static struct shape shape_make(uint32_t count)
{
	uint32_t log = count > 1 ? log2_256(count) : 256;
	uint32_t power = (log * 147 / 256 + 576) / 256;
	struct shape shape = {.length = power < 18 ? 1u << power : SEGMENT_LENGTH_MAX};
	uint64_t permille = 875 + (uint64_t)4983 * 256 / log;
	uint64_t places = (uint64_t)count * (permille > 1125 ? permille : 1125) / 1000 + 1;
	uint64_t segments = (places + shape.length - 1) / shape.length;
	shape.segments = segments > 3 ? (uint32_t)segments - 2 : 1;
	shape.mask = shape.length - 1;
	return shape;
}

struct peeling {
	uint64_t *hashes; /* per place: xor of the hashes that use it */
	uint8_t *uses;    /* 4 × how many, and the xor of which of a key's three it is */
	uint32_t *alone;  /* places to look at */
	uint64_t *order;  /* hashes in the order in which they were taken out */
	uint8_t *which;   /* and the place that each of them owns */
};

/* Takes all keys out. False: not with this seed. */
static bool peel(const struct peeling *p, const struct shape *shape, const uint64_t *keys, uint32_t count, uint64_t seed)
{
	uint32_t places = (shape->segments + 2) * shape->length;
	memset(p->hashes, 0, places * sizeof(*p->hashes));
	memset(p->uses, 0, places);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t hash = mix(keys[i] + seed);
		for (uint32_t w = 0; w < 3; w++) {
			uint32_t at = place(shape, hash, w);
			if (p->uses[at] >= 252)
				return false; /* the count would run over */
			p->hashes[at] ^= hash;
			p->uses[at] = (uint8_t)((p->uses[at] + 4) ^ w);
		}
	}
	uint32_t waiting = 0, taken = 0;
	for (uint32_t at = 0; at < places; at++)
		if (p->uses[at] >> 2 == 1)
			p->alone[waiting++] = at;
	while (waiting) {
		uint32_t at = p->alone[--waiting];
		if (p->uses[at] >> 2 != 1)
			continue;
		uint64_t hash = p->hashes[at];
		uint32_t owner = p->uses[at] & 3;
		p->order[taken] = hash;
		p->which[taken++] = (uint8_t)owner;
		for (uint32_t w = 0; w < 3; w++) {
			uint32_t other = place(shape, hash, w);
			p->hashes[other] ^= hash;
			p->uses[other] = (uint8_t)((p->uses[other] - 4) ^ w);
			if (w != owner && p->uses[other] >> 2 == 1)
				p->alone[waiting++] = other;
		}
	}
	return taken == count;
}

bool id_filter_build(struct buffer *out, const uint64_t *keys, uint32_t count)
{
	const struct shape shape = shape_make(count);
	uint64_t places = ((uint64_t)shape.segments + 2) * shape.length;
	struct peeling p = {
		.hashes = malloc(places * sizeof(*p.hashes)),
		.uses = malloc(places),
		.alone = malloc((places + 3 * (uint64_t)count) * sizeof(*p.alone)),
		.order = malloc((uint64_t)count * sizeof(*p.order)),
		.which = malloc(count),
	};
	struct id_filter_head head = {.segment_length = shape.length, .segments = shape.segments};
	bool done = false;
	if (p.hashes && p.uses && p.alone && p.order && p.which)
		for (int tries = 0; tries < SEEDS_MAX && !done; tries++) {
			head.seed = mix(head.seed + 0x9e3779b97f4a7c15ULL);
			done = peel(&p, &shape, keys, count, head.seed);
		}
	uint8_t *to = NULL;
	if (done) {
		buffer_put(out, &head, sizeof(head));
		to = buffer_reserve(out, places);
		buffer_zeros(out, places);
	}
	for (uint32_t i = count; to && i-- > 0;) {
		uint64_t hash = p.order[i];
		uint8_t value = fingerprint(hash);
		for (uint32_t w = 0; w < 3; w++)
			if (w != p.which[i])
				value ^= to[place(&shape, hash, w)];
		to[place(&shape, hash, p.which[i])] = value;
	}
	free(p.hashes);
	free(p.uses);
	free(p.alone);
	free(p.order);
	free(p.which);
	return to && !out->failed;
}

bool id_filter_sane(const uint8_t *filter, uint64_t bytes)
{
	struct id_filter_head head;
	if (bytes < sizeof(head))
		return false;
	memcpy(&head, filter, sizeof(head));
	return head.segments && head.segment_length && !(head.segment_length & (head.segment_length - 1)) &&
	       head.segment_length <= SEGMENT_LENGTH_MAX &&
	       bytes - sizeof(head) == ((uint64_t)head.segments + 2) * head.segment_length && bytes <= UINT32_MAX;
}

bool id_filter_maybe(const uint8_t *filter, uint64_t key)
{
	struct id_filter_head head;
	memcpy(&head, filter, sizeof(head));
	const struct shape shape = {.length = head.segment_length, .mask = head.segment_length - 1, .segments = head.segments};
	const uint8_t *at = filter + sizeof(head);
	uint64_t hash = mix(key + head.seed);
	return (uint8_t)(at[place(&shape, hash, 0)] ^ at[place(&shape, hash, 1)] ^ at[place(&shape, hash, 2)]) == fingerprint(hash);
}
