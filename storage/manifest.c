/*
 * The manifest, byte by byte. Little endian, units of 128 bytes, so that no record ever lies across two sectors.
 *
 *   header:                                      record n (n = 1, 2, …) at 128 n:
 *     0  u64 checksum of bytes 8..127              0  u64 checksum of bytes 8..127
 *     8  u64 magic "tpmanif1"                      8  u64 n
 *    16  u32 version 1                            16  u64 checksum of the unit before
 *    20  u32 zero                                 24  u32 kind: 1 segment published, 2 log file ended empty, 3 segment retired
 *    24  node id, 16 bytes                        28  u32 zero
 *    40  zeros                                    32  u64 segment sequence         (1, 3)
 *                                                 40  u64 log file id              (1, 2)
 *                                                 48  u64 rows                     (1, and the rest below)
 *                                                 56  u64 late events
 *                                                 64  u64 from_ms      72  u64 to_ms
 *                                                 80  u32 minute_min   84  u32 minute_max
 *                                                 88  u64 watermark_ms
 *                                                 96  u64 sealed_ms
 *                                                104  u64 segment bytes
 *                                                112  u64 XXH3-64 of the segment file
 *                                                120  u64 zero
 *
 * Checksums are XXH3-64. One record is appended at a time and synced before the next. So at most one record can be unsynced: bytes
 * beyond the first bad record prove that it had been synced, and then it is damaged; else it is the torn end of an append that
 * nobody acted upon, and the data process cuts it off at the next start.
 *
 * Pure: no input or output here. Any thread, one at a time on one struct.
 */
#include "manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MANIFEST_MAGIC 0x3166696e616d7074ULL /* "tpmanif1" */

struct manifest_header_unit {
	uint64_t checksum;
	uint64_t magic;
	uint32_t version;
	uint32_t zero;
	uint8_t node_id[16];
	uint8_t zeros[88];
};
static_assert(sizeof(struct manifest_header_unit) == MANIFEST_UNIT, "disk format");

struct manifest_record_unit {
	uint64_t checksum;
	uint64_t sequence;
	uint64_t previous;
	uint32_t kind;
	uint32_t zero;
	uint64_t segment;
	uint64_t file_id;
	uint64_t rows;
	uint64_t late;
	uint64_t from_ms, to_ms;
	uint32_t minute_min, minute_max;
	uint64_t watermark_ms;
	uint64_t sealed_ms;
	uint64_t bytes;
	uint64_t hash;
	uint64_t zero_too;
};
static_assert(sizeof(struct manifest_record_unit) == MANIFEST_UNIT, "disk format");
static_assert(offsetof(struct manifest_record_unit, minute_min) == 80, "disk format");
static_assert(offsetof(struct manifest_record_unit, hash) == 112, "disk format");

static uint64_t unit_checksum(const void *unit)
{
	return XXH3_64bits((const uint8_t *)unit + 8, MANIFEST_UNIT - 8);
}

void manifest_fini(struct manifest *manifest)
{
	free(manifest->sealed);
	*manifest = (struct manifest){0};
}

void manifest_header_write(uint8_t to[MANIFEST_UNIT], const uint8_t node_id[16])
{
	struct manifest_header_unit unit = {.magic = MANIFEST_MAGIC, .version = MANIFEST_VERSION};
	memcpy(unit.node_id, node_id, sizeof(unit.node_id));
	unit.checksum = unit_checksum(&unit);
	memcpy(to, &unit, sizeof(unit));
}

void manifest_record_write(uint8_t to[MANIFEST_UNIT], const struct manifest *manifest, const struct manifest_record *record)
{
	const struct manifest_segment *s = &record->segment;
	struct manifest_record_unit unit = {
		.sequence = manifest->sequence + 1,
		.previous = manifest->previous,
		.kind = record->kind,
		.segment = record->kind == MANIFEST_LOG_EMPTY ? 0 : s->sequence,
		.file_id = record->kind == MANIFEST_LOG_EMPTY ? record->file_id : 0,
	};
	if (record->kind == MANIFEST_SEGMENT) {
		unit.file_id = s->file_id;
		unit.rows = s->rows;
		unit.late = s->late;
		unit.from_ms = s->from_ms;
		unit.to_ms = s->to_ms;
		unit.minute_min = s->minute_min;
		unit.minute_max = s->minute_max;
		unit.watermark_ms = s->watermark_ms;
		unit.sealed_ms = s->sealed_ms;
		unit.bytes = s->bytes;
		unit.hash = s->hash;
	}
	unit.checksum = unit_checksum(&unit);
	memcpy(to, &unit, sizeof(unit));
}

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

static int sealed_add(struct manifest *manifest, uint64_t file_id)
{
	if (manifest->sealed_ranges == manifest->sealed_max) {
		uint32_t max = manifest->sealed_max ? 2 * manifest->sealed_max : 16;
		struct manifest_range *larger = realloc(manifest->sealed, max * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		manifest->sealed = larger;
		manifest->sealed_max = max;
	}
	uint32_t at = range_find(manifest, file_id);
	struct manifest_range *range = &manifest->sealed[at];
	struct manifest_range *end = manifest->sealed + manifest->sealed_ranges;
	if (range < end && range->to == file_id) {
		range->to++;
		if (range + 1 < end && range[1].from == range->to) {
			range->to = range[1].to;
			memmove(range + 1, range + 2, (size_t)(end - range - 2) * sizeof(*range));
			manifest->sealed_ranges--;
		}
	} else if (range < end && range->from == file_id + 1) {
		range->from = file_id;
	} else {
		memmove(range + 1, range, (size_t)(end - range) * sizeof(*range));
		*range = (struct manifest_range){.from = file_id, .to = file_id + 1};
		manifest->sealed_ranges++;
	}
	return 0;
}

static bool record_sane(const struct manifest *manifest, const struct manifest_record_unit *unit)
{
	switch (unit->kind) {
	case MANIFEST_SEGMENT:
		return unit->segment && unit->segment < UINT64_MAX && unit->file_id && unit->file_id < UINT64_MAX &&
		       !manifest_sealed(manifest, unit->file_id) && unit->segment > manifest->segment_max;
	case MANIFEST_LOG_EMPTY:
		return unit->file_id && unit->file_id < UINT64_MAX && !manifest_sealed(manifest, unit->file_id);
	case MANIFEST_RETIRED:
		return unit->segment && unit->segment <= manifest->segment_max;
	default:
		return false;
	}
}

static int record_take(struct manifest *manifest, const struct manifest_record_unit *unit, manifest_fn fn, void *context)
{
	struct manifest_record record = {.kind = unit->kind, .file_id = unit->file_id, .segment.sequence = unit->segment};
	if (unit->kind == MANIFEST_SEGMENT) {
		record.segment = (struct manifest_segment){
			.sequence = unit->segment,
			.file_id = unit->file_id,
			.rows = unit->rows,
			.late = unit->late,
			.from_ms = unit->from_ms,
			.to_ms = unit->to_ms,
			.minute_min = unit->minute_min,
			.minute_max = unit->minute_max,
			.watermark_ms = unit->watermark_ms,
			.sealed_ms = unit->sealed_ms,
			.bytes = unit->bytes,
			.hash = unit->hash,
		};
		manifest->segment_max = unit->segment;
		if (unit->watermark_ms > manifest->watermark_ms)
			manifest->watermark_ms = unit->watermark_ms;
	}
	if (unit->kind != MANIFEST_RETIRED) {
		int rc = sealed_add(manifest, unit->file_id);
		if (rc)
			return rc;
		if (unit->file_id > manifest->file_id_max)
			manifest->file_id_max = unit->file_id;
	}
	manifest->sequence = unit->sequence;
	manifest->previous = unit->checksum;
	return fn ? fn(context, &record) : 0;
}

int manifest_feed(struct manifest *manifest, const uint8_t *from, uint64_t bytes, manifest_fn fn, void *context)
{
	uint64_t at = 0;
	if (!manifest->bytes && bytes >= MANIFEST_UNIT) {
		/* The header was stable before the manifest got its name: it is never torn. */
		struct manifest_header_unit unit;
		memcpy(&unit, from, sizeof(unit));
		if (unit.magic != MANIFEST_MAGIC || unit.version != MANIFEST_VERSION || unit.checksum != unit_checksum(&unit))
			return -EBADMSG;
		memcpy(manifest->node_id, unit.node_id, sizeof(manifest->node_id));
		manifest->previous = unit.checksum;
		manifest->bytes = at = MANIFEST_UNIT;
	}
	while (manifest->bytes && bytes - at >= MANIFEST_UNIT) {
		struct manifest_record_unit unit;
		memcpy(&unit, from + at, sizeof(unit));
		if (unit.checksum != unit_checksum(&unit) || unit.sequence != manifest->sequence + 1 ||
		    unit.previous != manifest->previous)
			break;
		if (!record_sane(manifest, &unit))
			return -EBADMSG; /* whole, and yet impossible */
		int rc = record_take(manifest, &unit, fn, context);
		if (rc)
			return rc;
		at += MANIFEST_UNIT;
		manifest->bytes += MANIFEST_UNIT;
	}
	if (at == bytes)
		return 0;
	if (!manifest->bytes || bytes - at > MANIFEST_UNIT)
		return -EBADMSG;
	return 1;
}
