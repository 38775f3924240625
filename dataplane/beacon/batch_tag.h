/*
 * Authentication of UDP batches: whose key a datagram must be signed with, and whether it is. Pure; rx cores.
 *
 * A tag is SipHash-2-4 of the datagram with the tag's own bytes and the checksum's taken as zero: 64 bits in version 1 of the format, 128 bits
 * in version 2. Source: docs/protocol.md; Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
 */
#ifndef TURNPIKE_BATCH_TAG_H
#define TURNPIKE_BATCH_TAG_H

#include "turnpike/addr.h"

#include <stddef.h>
#include <stdint.h>

struct dp_batch;

struct dp_source_key {
	uint64_t source;
	uint64_t key[2];
	uint32_t prefix_at, prefix_count; /* 0 prefixes: from anywhere */
};

/* The keys of one file: immutable, swapped whole. */
struct dp_source_keys {
	uint32_t count;
	uint32_t mask;               /* slots - 1 */
	uint32_t *slot;              /* open addressing by source: index of its first key + 1; 0: empty */
	struct dp_source_key *entry; /* by source: all keys of one together */
	struct tp_prefix *prefix;
};

enum dp_tag_fault {
	DP_TAG_OK,
	DP_TAG_UNKNOWN, /* no key for this source, or not from this address */
	DP_TAG_BAD,     /* no tag, or a wrong one */
};

/*
 * Whether a datagram that dp_batch_open() let pass comes from who it says. The key that it was signed with goes to `key`, to sign the answer.
 * `bytes` are those of the datagram.
 */
enum dp_tag_fault dp_tag_check(const struct dp_source_keys *keys, const struct dp_batch *batch, const uint8_t *bytes,
			       const struct tp_addr *peer, uint64_t key[2]);

/* The tag of a datagram whose tag lies at `tag_at`, a multiple of 8, and whose checksum at 28. `wide`: 128 bits, else tag[1] is 0. */
void dp_tag_compute(const uint64_t key[2], const uint8_t *bytes, size_t count, size_t tag_at, bool wide, uint64_t tag[2]);

/* The slot where the look-up of a source begins. */
static inline uint32_t dp_source_slot(uint64_t source, uint32_t mask)
{
	uint64_t h = (source ^ source >> 32) * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(h >> 32) & mask;
}

#endif
