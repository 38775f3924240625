/*
 * The manifest: from bytes to what is published, and back. Bytes and the rule for torn ends: manifest_format.h.
 *
 * Pure: no input or output here. Any thread, one at a time on one struct.
 */
#include "manifest_format.h"
#include "manifest_logs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

const char *manifest_class_name(enum manifest_class class)
{
	static const char *const name[MANIFEST_CLASSES] = {"minute", "hour", "day"};
	return name[class];
}

uint32_t manifest_class_minutes(enum manifest_class class)
{
	static const uint32_t minutes[MANIFEST_CLASSES] = {1, 60, 1440};
	return minutes[class];
}

static uint64_t unit_checksum(const void *unit, uint32_t bytes)
{
	return XXH3_64bits((const uint8_t *)unit + 8, bytes - 8);
}

void manifest_fini(struct manifest *manifest)
{
	free(manifest->sealed);
	free(manifest->open);
	*manifest = (struct manifest){0};
}

/* ---- writing ---- */

void manifest_header_write(uint8_t to[MANIFEST_UNIT], const uint8_t node_id[16])
{
	struct manifest_header_unit unit = {.magic = MANIFEST_MAGIC, .version = MANIFEST_VERSION};
	memcpy(unit.node_id, node_id, sizeof(unit.node_id));
	unit.checksum = unit_checksum(&unit, MANIFEST_UNIT);
	memcpy(to, &unit, sizeof(unit));
}

static void segment_write_to(struct manifest_record_unit *unit, const struct manifest_segment *s)
{
	unit->file.first = s->file_id;
	unit->file.rows = s->rows;
	unit->file.late = s->late;
	unit->file.from_ms = s->from_ms;
	unit->file.to_ms = s->to_ms;
	unit->file.minute_min = s->minute_min;
	unit->file.minute_max = s->minute_max;
	unit->file.watermark_ms = s->watermark_ms;
	unit->file.sealed_ms = s->sealed_ms;
	unit->file.bytes = s->bytes;
	unit->file.hash = s->hash;
	unit->file.last = s->generation;
	memcpy(unit->file.sha256, s->sha256, MANIFEST_HASH_BYTES);
	memcpy(unit->file.chain_sha256, s->chain_sha256, MANIFEST_HASH_BYTES);
	memcpy(unit->file.prev_sha256, s->prev_sha256, MANIFEST_HASH_BYTES);
}

static void rollup_write_to(struct manifest_record_unit *unit, const struct manifest_rollup *r)
{
	unit->class = r->class;
	unit->level = r->level;
	unit->reason = r->reason;
	unit->file.first = r->from_segment;
	unit->file.last = r->to_segment;
	unit->file.rows = r->rows;
	unit->file.minute_min = r->minute_min;
	unit->file.minute_max = r->minute_max;
	unit->file.sealed_ms_min = r->sealed_ms_min;
	unit->file.sealed_ms = r->sealed_ms_max;
	unit->file.bytes = r->bytes;
	unit->file.hash = r->hash;
	memcpy(unit->file.sha256, r->sha256, MANIFEST_HASH_BYTES);
}

static void state_write_to(struct manifest_record_unit *unit, const struct manifest_facts *facts)
{
	unit->state.watermark_ms = facts->watermark_ms;
	unit->state.file_id_max = facts->file_id_max;
	unit->state.segment_max = facts->segment_max;
	unit->state.rollup_max = facts->rollup_max;
	unit->state.covered = facts->covered;
	memcpy(unit->state.minute_gone, facts->minute_gone, sizeof(facts->minute_gone));
	memcpy(unit->state.chain_sha256, facts->chain_sha256, MANIFEST_HASH_BYTES);
}

void manifest_write(uint8_t *to, const struct manifest *manifest, const struct manifest_record *record, uint32_t count)
{
	assert(count && count <= MANIFEST_PARTS_MAX && manifest->version == MANIFEST_VERSION);
	uint64_t previous = manifest->previous;
	for (uint32_t i = 0; i < count; i++) {
		struct manifest_record_unit unit;
		memset(&unit, 0, sizeof(unit));
		unit.sequence = manifest->sequence + 1 + i;
		unit.previous = previous;
		unit.kind = (uint16_t)record[i].kind;
		unit.part = (uint8_t)i;
		unit.parts = (uint8_t)count;
		switch (record[i].kind) {
		case MANIFEST_SEGMENT:
		case MANIFEST_REPLACED:
			segment_write_to(&unit, &record[i].segment);
			unit.file.name = record[i].segment.sequence;
			break;
		case MANIFEST_RETIRED:
			unit.file.name = record[i].segment.sequence;
			break;
		case MANIFEST_ROLLUP:
		case MANIFEST_ROLLUP_GONE:
			rollup_write_to(&unit, &record[i].rollup);
			unit.file.name = record[i].rollup.sequence;
			break;
		case MANIFEST_LOG_EMPTY:
			unit.file.first = record[i].file_id;
			break;
		case MANIFEST_LOG_LEFT:
			unit.file.first = record[i].file_id;
			unit.reason = (uint8_t)record[i].left;
			break;
		case MANIFEST_LOG_OPENED:
			unit.file.first = record[i].log.file_id;
			unit.file.bytes = record[i].log.bytes;
			unit.file.hash = record[i].log.salt;
			unit.file.last = record[i].log.shard;
			break;
		case MANIFEST_SEALED_RANGE:
			unit.file.first = record[i].file_id;
			unit.file.last = record[i].file_id_end;
			break;
		case MANIFEST_STATE:
			state_write_to(&unit, &record[i].facts);
			break;
		}
		previous = unit.checksum = unit_checksum(&unit, MANIFEST_UNIT);
		memcpy(to + (uint64_t)i * MANIFEST_UNIT, &unit, sizeof(unit));
	}
}

/* ---- reading ---- */

static bool file_id_sane(uint64_t file_id)
{
	return file_id && file_id < UINT64_MAX;
}

static bool record_sane(const struct manifest *manifest, const struct manifest_record *record)
{
	const struct manifest_facts *facts = &manifest->facts;
	const struct manifest_segment *s = &record->segment;
	const struct manifest_rollup *r = &record->rollup;
	switch (record->kind) {
	case MANIFEST_SEGMENT:
		/*
		 * A compacted manifest names segments that were published in the order of their sequences, below the highest, and
		 * its ranges have their log files already: only the highest ever tells what is new.
		 */
		return s->sequence && s->sequence < UINT64_MAX && file_id_sane(s->file_id) &&
		       (s->sequence <= facts->segment_max) == manifest_sealed(manifest, s->file_id);
	case MANIFEST_LOG_EMPTY:
		return file_id_sane(record->file_id) && !manifest_sealed(manifest, record->file_id);
	case MANIFEST_LOG_OPENED:
		return file_id_sane(record->log.file_id) && !manifest_sealed(manifest, record->log.file_id) &&
		       !manifest_opened(manifest, record->log.file_id);
	case MANIFEST_LOG_LEFT:
		return manifest_opened(manifest, record->file_id) && record->left <= MANIFEST_GIVEN_UP;
	case MANIFEST_RETIRED:
	case MANIFEST_REPLACED:
		return s->sequence && s->sequence <= facts->segment_max;
	case MANIFEST_ROLLUP:
		return r->sequence && r->sequence < UINT64_MAX && r->class < MANIFEST_CLASSES && r->from_segment &&
		       r->from_segment <= r->to_segment && r->to_segment <= facts->segment_max;
	case MANIFEST_ROLLUP_GONE:
		return r->sequence && r->sequence <= facts->rollup_max && r->class < MANIFEST_CLASSES &&
		       r->reason <= MANIFEST_MERGED;
	case MANIFEST_STATE:
		return !manifest->begun && record->facts.covered <= record->facts.segment_max &&
		       record->facts.segment_max < UINT64_MAX && record->facts.rollup_max < UINT64_MAX &&
		       record->facts.file_id_max < UINT64_MAX;
	case MANIFEST_SEALED_RANGE:
		return file_id_sane(record->file_id) && record->file_id < record->file_id_end &&
		       record->file_id_end - 1 <= facts->file_id_max &&
		       !manifest_sealed_meets(manifest, record->file_id, record->file_id_end) &&
		       !manifest_open_meets(manifest, record->file_id, record->file_id_end);
	}
	return false;
}

static void grow(uint64_t *highest, uint64_t value)
{
	*highest = value > *highest ? value : *highest;
}

static int record_apply(struct manifest *manifest, const struct manifest_record *record)
{
	struct manifest_facts *facts = &manifest->facts;
	const struct manifest_segment *s = &record->segment;
	const struct manifest_rollup *r = &record->rollup;
	manifest->begun = true;
	switch (record->kind) {
	case MANIFEST_SEGMENT:
		grow(&facts->watermark_ms, s->watermark_ms);
		if (s->sequence <= facts->segment_max)
			return 0;
		facts->segment_max = s->sequence;
		memcpy(facts->chain_sha256, s->chain_sha256, MANIFEST_HASH_BYTES);
		grow(&facts->file_id_max, s->file_id);
		manifest_open_remove(manifest, s->file_id);
		return manifest_sealed_add(manifest, s->file_id, s->file_id + 1);
	case MANIFEST_LOG_EMPTY:
	case MANIFEST_LOG_LEFT:
		grow(&facts->file_id_max, record->file_id);
		manifest_open_remove(manifest, record->file_id);
		return manifest_sealed_add(manifest, record->file_id, record->file_id + 1);
	case MANIFEST_LOG_OPENED:
		grow(&facts->file_id_max, record->log.file_id);
		return manifest_open_add(manifest, &record->log);
	case MANIFEST_ROLLUP:
		grow(&facts->rollup_max, r->sequence);
		grow(&facts->covered, r->to_segment);
		return 0;
	case MANIFEST_ROLLUP_GONE:
		if (r->reason == MANIFEST_EXPIRED && r->minute_min <= r->minute_max) {
			uint64_t end = (uint64_t)r->minute_max + manifest_class_minutes((enum manifest_class)r->class);
			if (end > facts->minute_gone[r->class])
				facts->minute_gone[r->class] = end > UINT32_MAX ? UINT32_MAX : (uint32_t)end;
		}
		return 0;
	case MANIFEST_STATE:
		*facts = record->facts;
		return 0;
	case MANIFEST_SEALED_RANGE:
		return manifest_sealed_add(manifest, record->file_id, record->file_id_end);
	case MANIFEST_RETIRED:
	case MANIFEST_REPLACED:
		return 0;
	}
	return -EBADMSG;
}

static void record_read(struct manifest_record *record, const struct manifest_record_unit *unit)
{
	memset(record, 0, sizeof(*record));
	record->kind = (enum manifest_kind)unit->kind;
	switch (record->kind) {
	case MANIFEST_SEGMENT:
	case MANIFEST_REPLACED:
		record->file_id = unit->file.first;
		record->segment = (struct manifest_segment){
			.sequence = unit->file.name,
			.file_id = unit->file.first,
			.rows = unit->file.rows,
			.late = unit->file.late,
			.from_ms = unit->file.from_ms,
			.to_ms = unit->file.to_ms,
			.minute_min = unit->file.minute_min,
			.minute_max = unit->file.minute_max,
			.watermark_ms = unit->file.watermark_ms,
			.sealed_ms = unit->file.sealed_ms,
			.bytes = unit->file.bytes,
			.hash = unit->file.hash,
			.generation = (uint32_t)unit->file.last,
		};
		memcpy(record->segment.sha256, unit->file.sha256, MANIFEST_HASH_BYTES);
		memcpy(record->segment.chain_sha256, unit->file.chain_sha256, MANIFEST_HASH_BYTES);
		memcpy(record->segment.prev_sha256, unit->file.prev_sha256, MANIFEST_HASH_BYTES);
		break;
	case MANIFEST_ROLLUP:
	case MANIFEST_ROLLUP_GONE:
		record->rollup = (struct manifest_rollup){
			.sequence = unit->file.name,
			.class = unit->class,
			.level = unit->level,
			.from_segment = unit->file.first,
			.to_segment = unit->file.last,
			.rows = unit->file.rows,
			.minute_min = unit->file.minute_min,
			.minute_max = unit->file.minute_max,
			.sealed_ms_min = unit->file.sealed_ms_min,
			.sealed_ms_max = unit->file.sealed_ms,
			.bytes = unit->file.bytes,
			.hash = unit->file.hash,
			.reason = unit->reason,
		};
		memcpy(record->rollup.sha256, unit->file.sha256, MANIFEST_HASH_BYTES);
		break;
	case MANIFEST_LOG_EMPTY:
		record->file_id = unit->file.first;
		break;
	case MANIFEST_LOG_LEFT:
		record->file_id = unit->file.first;
		record->left = (enum manifest_left)unit->reason;
		break;
	case MANIFEST_LOG_OPENED:
		record->log = (struct manifest_log){.file_id = unit->file.first,
						    .salt = unit->file.hash,
						    .bytes = unit->file.bytes,
						    .shard = (uint32_t)unit->file.last};
		break;
	case MANIFEST_SEALED_RANGE:
		record->file_id = unit->file.first;
		record->file_id_end = unit->file.last;
		break;
	case MANIFEST_STATE:
		record->facts = (struct manifest_facts){
			.watermark_ms = unit->state.watermark_ms,
			.file_id_max = unit->state.file_id_max,
			.segment_max = unit->state.segment_max,
			.rollup_max = unit->state.rollup_max,
			.covered = unit->state.covered,
		};
		memcpy(record->facts.minute_gone, unit->state.minute_gone, sizeof(record->facts.minute_gone));
		memcpy(record->facts.chain_sha256, unit->state.chain_sha256, MANIFEST_HASH_BYTES);
		break;
	case MANIFEST_RETIRED:
		record->segment.sequence = unit->file.name;
		break;
	}
}

static uint32_t unit_bytes(const struct manifest *manifest)
{
	return manifest->version == 1 ? MANIFEST_UNIT_V1 : MANIFEST_UNIT;
}

/* The unit at `from` as of this version. False: its checksum is not right, or no unit of the file's version can be so. */
static bool unit_take(const struct manifest *manifest, const uint8_t *from, struct manifest_record_unit *unit)
{
	uint32_t bytes = unit_bytes(manifest);
	memset(unit, 0, sizeof(*unit));
	memcpy(unit, from, bytes);
	if (unit->checksum != unit_checksum(from, bytes))
		return false;
	if (manifest->version == 1) {
		/* Its kind was a u32, so class, reason, part and level are zeros in what it may say. */
		uint32_t kind;
		memcpy(&kind, from + 24, sizeof(kind));
		if (kind < MANIFEST_SEGMENT || kind > MANIFEST_RETIRED)
			unit->kind = UINT16_MAX;
		unit->part = 0;
		unit->parts = 1;
	}
	/* What a version did not have yet is no record of it. */
	if (manifest->version == 2 && unit->kind > MANIFEST_SEALED_RANGE)
		return false;
	return unit->parts && unit->parts <= MANIFEST_PARTS_MAX && unit->part < unit->parts;
}

static int header_take(struct manifest *manifest, const uint8_t *from, uint64_t bytes, uint64_t *taken)
{
	struct manifest_header_unit unit;
	memset(&unit, 0, sizeof(unit));
	memcpy(&unit, from, MANIFEST_UNIT_V1);
	if (unit.magic != MANIFEST_MAGIC)
		return -EBADMSG;
	uint32_t length = unit.version == 1 ? MANIFEST_UNIT_V1 : MANIFEST_UNIT;
	if (bytes < length)
		return 0;
	/* The header was stable before the manifest got its name: it is never torn. */
	memcpy(&unit, from, length);
	if (unit.checksum != unit_checksum(from, length))
		return -EBADMSG;
	if (unit.version > MANIFEST_VERSION)
		return -ENOTSUP;
	if (unit.version < 1)
		return -EBADMSG;
	memcpy(manifest->node_id, unit.node_id, sizeof(manifest->node_id));
	manifest->version = unit.version;
	manifest->previous = unit.checksum;
	manifest->bytes = *taken = length;
	return 0;
}

/* The transaction at the start of from[0..bytes): its number of records, or 0 when it is not whole. */
static uint32_t transaction_take(const struct manifest *manifest, const uint8_t *from, uint64_t bytes,
				 struct manifest_record_unit *unit)
{
	uint32_t length = unit_bytes(manifest), parts = 1;
	uint64_t previous = manifest->previous;
	for (uint32_t i = 0; i < parts; i++) {
		if (bytes < (uint64_t)(i + 1) * length || !unit_take(manifest, from + (uint64_t)i * length, &unit[i]))
			return 0;
		if (i == 0)
			parts = unit[0].parts;
		if (unit[i].sequence != manifest->sequence + 1 + i || unit[i].previous != previous || unit[i].part != i ||
		    unit[i].parts != parts)
			return 0;
		previous = unit[i].checksum;
	}
	return parts;
}

/*
 * What is left over does not begin with a whole transaction. True if it can only be an append that was never synced: it is not longer
 * than one can be, and nothing in it is of a later one.
 */
static bool left_is_torn(const struct manifest *manifest, const uint8_t *from, uint64_t bytes)
{
	uint32_t length = unit_bytes(manifest), most = manifest->version == 1 ? 1 : MANIFEST_PARTS_MAX;
	struct manifest_record_unit unit;
	if (bytes > (uint64_t)most * length)
		return false;
	uint64_t whole = (bytes + length - 1) / length;
	for (uint64_t i = 0; (i + 1) * length <= bytes; i++) {
		if (!unit_take(manifest, from + i * length, &unit))
			continue;
		/* The first unsynced record is number sequence + 1; a good one tells where its own transaction began. */
		if (unit.sequence - unit.part != manifest->sequence + 1 || whole > unit.parts)
			return false;
	}
	return true;
}

int manifest_feed(struct manifest *manifest, const uint8_t *from, uint64_t bytes, manifest_fn fn, void *context)
{
	uint64_t at = 0;
	if (!manifest->bytes && bytes >= MANIFEST_UNIT_V1) {
		int rc = header_take(manifest, from, bytes, &at);
		if (rc)
			return rc;
	}
	while (manifest->bytes && at < bytes) {
		struct manifest_record_unit unit[MANIFEST_PARTS_MAX];
		uint32_t parts = transaction_take(manifest, from + at, bytes - at, unit);
		if (!parts)
			break;
		for (uint32_t i = 0; i < parts; i++) {
			struct manifest_record record;
			record_read(&record, &unit[i]);
			if (!record_sane(manifest, &record))
				return -EBADMSG; /* whole, and yet impossible */
			int rc = record_apply(manifest, &record);
			if (!rc && fn)
				rc = fn(context, &record);
			if (rc)
				return rc;
		}
		manifest->sequence += parts;
		manifest->previous = unit[parts - 1].checksum;
		at += (uint64_t)parts * unit_bytes(manifest);
		manifest->bytes += (uint64_t)parts * unit_bytes(manifest);
	}
	if (at == bytes)
		return 0;
	if (!manifest->bytes || !left_is_torn(manifest, from + at, bytes - at))
		return -EBADMSG;
	return 1;
}
