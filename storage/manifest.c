/*
 * The manifest: from bytes to what is published, and back. Bytes and the rule for torn ends: manifest_format.h.
 *
 * Pure: no input or output here. Any thread, one at a time on one struct.
 */
#include "manifest_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

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
