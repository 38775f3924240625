/*
 * The addresses with most clicks (flagged ones too) per minute: a mergeable summary of the heavy hitters.
 *
 * A log file's clicks are counted exactly by (minute, address); the summary keeps the AGG_SOURCES most, and `missed`: the most clicks
 * that any address not in it can have. Merging adds counts, and for an address that only one side has, the other side's `missed` to
 * its upper bound; then cuts back. So for each address in a merged summary: clicks <= true count <= clicks + over, and no address
 * outside has more than `missed`: the bounds of Space-Saving, and with fewer than AGG_SOURCES addresses all counts are exact.
 * Source: Metwally et al., "Space-Saving", 2005; Agarwal et al., "Mergeable Summaries", 2012.
 *
 * The section, little endian, 8-byte aligned:
 *
 *   u32 version 1   u32 minutes   u64 zero
 *   minutes × {u32 minute, u32 sources, u64 missed, u64 at}, ascending; `at` is an offset from the section's start
 *   sources × {16 bytes address, u64 clicks}, most clicks first, then by address
 */
#ifndef TURNPIKE_SOURCES_H
#define TURNPIKE_SOURCES_H

#include "turnpike/event.h"

#include <stdbool.h>

enum { AGG_SOURCES = 128, AGG_SOURCES_VERSION = 1 };

struct agg_source {
	uint8_t ip[16];
	uint64_t clicks; /* at least */
	uint64_t over;   /* and at most this many more */
};

struct agg_sources {
	uint32_t count;
	uint64_t missed;
	struct agg_source source[AGG_SOURCES]; /* most clicks first */
};

void agg_sources_merge(struct agg_sources *into, const struct agg_sources *from);

/* 0, or -EBADMSG. */
int agg_sources_check(const void *section, uint64_t bytes);
/* Merges what a checked section has of the minutes [from, to). Returns how many minutes it found. */
uint32_t agg_sources_take(const void *section, uint32_t from_minute, uint32_t to_minute, struct agg_sources *into);

#endif
