/*
 * What a manifest says about log files: which are done with, as ranges of ids, and which were made and are not done with yet. See
 * manifest_logs.h.
 */
#include "manifest_logs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- done with ---- */

/* Index of the first range whose end is at or behind file_id. */
static uint32_t range_find(const struct manifest *manifest, uint64_t file_id)
{
	uint32_t low = 0, high = manifest->sealed_ranges;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (manifest->sealed[middle].to < file_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool manifest_sealed(const struct manifest *manifest, uint64_t file_id)
{
	uint32_t at = range_find(manifest, file_id);
	for (; at < manifest->sealed_ranges && manifest->sealed[at].from <= file_id; at++)
		if (file_id < manifest->sealed[at].to)
			return true;
	return false;
}

/* No id of [from, to) is in the set yet. */
int manifest_sealed_add(struct manifest *manifest, uint64_t from, uint64_t to)
{
	if (manifest->sealed_ranges == manifest->sealed_max) {
		uint32_t max = manifest->sealed_max ? 2 * manifest->sealed_max : 16;
		struct manifest_range *larger = realloc(manifest->sealed, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		manifest->sealed = larger;
		manifest->sealed_max = max;
	}
	uint32_t at = range_find(manifest, from);
	struct manifest_range *range = &manifest->sealed[at];
	struct manifest_range *end = manifest->sealed + manifest->sealed_ranges;
	if (range < end && range->to == from) {
		range->to = to;
		if (range + 1 < end && range[1].from == range->to) {
			range->to = range[1].to;
			memmove(range + 1, range + 2, (size_t)(end - range - 2) * sizeof(*range));
			manifest->sealed_ranges--;
		}
	} else if (range < end && range->from == to) {
		range->from = from;
	} else {
		memmove(range + 1, range, (size_t)(end - range) * sizeof(*range));
		*range = (struct manifest_range){.from = from, .to = to};
		manifest->sealed_ranges++;
	}
	return 0;
}

/* ---- made, and not done with ---- */

/* Index of the first whose id is at or behind file_id. There are a few per shard. */
static uint32_t open_find(const struct manifest *manifest, uint64_t file_id)
{
	uint32_t at = manifest->opens;
	while (at && manifest->open[at - 1].file_id >= file_id)
		at--;
	return at;
}

const struct manifest_log *manifest_opened(const struct manifest *manifest, uint64_t file_id)
{
	uint32_t at = open_find(manifest, file_id);
	return at < manifest->opens && manifest->open[at].file_id == file_id ? &manifest->open[at] : NULL;
}

int manifest_open_add(struct manifest *manifest, const struct manifest_log *log)
{
	if (manifest->opens == manifest->opens_max) {
		uint32_t max = manifest->opens_max ? 2 * manifest->opens_max : 16;
		struct manifest_log *larger = realloc(manifest->open, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		manifest->open = larger;
		manifest->opens_max = max;
	}
	uint32_t at = open_find(manifest, log->file_id);
	memmove(&manifest->open[at + 1], &manifest->open[at], (manifest->opens++ - at) * sizeof(manifest->open[0]));
	manifest->open[at] = *log;
	return 0;
}

void manifest_open_remove(struct manifest *manifest, uint64_t file_id)
{
	uint32_t at = open_find(manifest, file_id);
	if (at < manifest->opens && manifest->open[at].file_id == file_id)
		memmove(&manifest->open[at], &manifest->open[at + 1], (--manifest->opens - at) * sizeof(manifest->open[0]));
}

bool manifest_sealed_meets(const struct manifest *manifest, uint64_t from, uint64_t to)
{
	for (uint32_t at = range_find(manifest, from); at < manifest->sealed_ranges && manifest->sealed[at].from < to; at++)
		if (manifest->sealed[at].to > from)
			return true;
	return false;
}

bool manifest_open_meets(const struct manifest *manifest, uint64_t from, uint64_t to)
{
	return open_find(manifest, from) != open_find(manifest, to);
}
