/*
 * Fuzzes segment files: everything that a reader does with one. Three ways, by the first byte:
 *
 *   0  the bytes are the file
 *   1  the bytes are the file, with the checksums of header, tail and footer put right, so that what they say is what must hold
 *   2  a good segment, of this version or the one before, into which the bytes are written as changes (u16 position by sixteenths of the file, u8 value); then all checksums
 *      of blocks, dictionaries, tables, sections, footers and header are put right, so that the streams themselves are what must hold
 */
#include "segment.h"
#include "segment_rows.h"
#include "segment_sample.h"
#include "segment_state.h"
#include "segment_v1.h"
#include "turnpike/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_event(void *context, const struct tp_event *event)
{
	assert(tp_event_valid(event, event->bytes));
	*(uint64_t *)context += event->bytes;
	return 0;
}

static int on_raw(void *context, const struct tp_event *event)
{
	*(uint64_t *)context += event->bytes;
	return 0;
}

static int on_id(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	*(uint64_t *)context += id.hi + fingerprint + minute;
	return 0;
}

/* ---- putting checksums right ---- */

static uint64_t hash_of(const uint8_t *file, uint64_t bytes, uint64_t offset, uint64_t length)
{
	return offset <= bytes && length <= bytes - offset ? XXH3_64bits(file + offset, length) : 0;
}

static void v1_repair(uint8_t *file, uint64_t bytes)
{
	struct segment_header *header = (struct segment_header *)(void *)file;
	struct segment_v1_footer *footer = (struct segment_v1_footer *)(void *)(file + bytes - sizeof(*footer));
	static const uint64_t each[SEGMENT_V1_PARTS] = {0, sizeof(struct segment_v1_index_entry), sizeof(struct tp_rollup_row), 1};
	uint64_t at = SEGMENT_HEADER_V1_BYTES, end = bytes - sizeof(*footer);
	header->checksum = XXH3_64bits(header, offsetof(struct segment_header, checksum));
	footer->magic = SEGMENT_MAGIC_END;
	footer->version = 1;
	footer->bytes = sizeof(*footer);
	for (int i = 0; i < SEGMENT_V1_PARTS; i++) {
		struct segment_v1_place *place = &footer->part[i];
		place->offset = at;
		place->bytes = end > at ? place->bytes % (end - at + 1) : 0;
		if (each[i]) {
			place->bytes -= place->bytes % each[i];
			place->count = place->bytes / each[i];
		}
		place->checksum = XXH3_64bits(file + place->offset, place->bytes);
		at += (place->bytes + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
		at = at > end ? end : at;
	}
	footer->totals.counted = footer->part[SEGMENT_V1_INDEX].count;
	footer->totals.rows = footer->part[SEGMENT_V1_ROWS].count;
	footer->totals.conflicts = footer->totals.rows - footer->totals.counted;
	footer->checksum = XXH3_64bits(footer, offsetof(struct segment_v1_footer, checksum));
}

/* The footer at `offset`, if it is one: everything that it names gets the checksum of what lies there. */
static void footer_repair(uint8_t *file, uint64_t bytes, uint64_t offset, uint64_t length)
{
	if (offset % SEGMENT_ALIGN || offset > bytes || length > bytes - offset || length < sizeof(struct segment_footer))
		return;
	struct segment_footer *footer = (struct segment_footer *)(void *)(file + offset);
	uint64_t tables = (uint64_t)footer->sections * sizeof(struct segment_section) +
			  (uint64_t)footer->columns * sizeof(struct segment_column) +
			  (uint64_t)footer->blocks * sizeof(struct segment_block);
	if (tables > length - sizeof(*footer))
		return;
	struct segment_section *section = (struct segment_section *)(footer + 1);
	struct segment_column *column = (struct segment_column *)(section + footer->sections);
	struct segment_block *block = (struct segment_block *)(column + footer->columns);
	for (uint32_t i = 0; i < footer->sections; i++)
		section[i].place.checksum = hash_of(file, bytes, section[i].place.offset, section[i].place.bytes);
	for (uint32_t i = 0; i < footer->columns; i++) {
		column[i].dictionary.checksum = hash_of(file, bytes, column[i].dictionary.offset, column[i].dictionary.bytes);
		column[i].table.checksum = hash_of(file, bytes, column[i].table.offset, column[i].table.bytes);
	}
	for (uint32_t i = 0; i < footer->blocks; i++)
		block[i].checksum = hash_of(file, bytes, block[i].offset, block[i].bytes);
}

static void columnar_repair(uint8_t *file, uint64_t bytes)
{
	if (bytes < sizeof(struct segment_header) + sizeof(struct segment_tail))
		return;
	struct segment_header *header = (struct segment_header *)(void *)file;
	struct segment_tail *tail = (struct segment_tail *)(void *)(file + bytes - sizeof(*tail));
	footer_repair(file, bytes, header->footer_offset, header->footer_bytes);
	footer_repair(file, bytes, tail->footer_offset, tail->footer_bytes);
	header->magic = SEGMENT_MAGIC;
	header->sequence = 1;
	header->hashing = SEGMENT_HASHING;
	header->block_rows = SEGMENT_BLOCK_ROWS;
	header->file_bytes = tail->file_bytes = bytes;
	header->footer_checksum = hash_of(file, bytes, header->footer_offset, header->footer_bytes);
	tail->footer_checksum = hash_of(file, bytes, tail->footer_offset, tail->footer_bytes);
	tail->magic = SEGMENT_MAGIC_END;
	tail->version = header->version;
	header->checksum = XXH3_64bits(header, offsetof(struct segment_header, checksum));
	header->checksum_two =
		XXH3_64bits(header->prev_sha256, sizeof(*header) - SEGMENT_HEADER_V1_BYTES - sizeof(header->checksum_two));
	tail->checksum = XXH3_64bits(tail, offsetof(struct segment_tail, checksum));
}

static void repair(uint8_t *file, uint64_t bytes)
{
	if (bytes < SEGMENT_HEADER_V1_BYTES)
		return;
	struct segment_header *header = (struct segment_header *)(void *)file;
	header->magic = SEGMENT_MAGIC;
	header->sequence = 1;
	header->version = 1 + header->version % SEGMENT_VERSION;
	if (header->version != 1)
		columnar_repair(file, bytes);
	else if (bytes >= SEGMENT_HEADER_V1_BYTES + sizeof(struct segment_v1_footer))
		v1_repair(file, bytes);
}

/* ---- reading ---- */

static void read_all(struct segment *segment)
{
	uint64_t sum = 0;
	const struct tp_rollup_row *rows;
	const char *heap;
	const void *bytes;
	uint64_t length;
	uint32_t count;
	const struct manifest_segment facts = {.sequence = 1, .hash = XXH3_64bits(segment->base, segment->bytes)};
	segment_events(segment, on_event, &sum);
	segment_ids(segment, on_id, &sum);
	segment_raw(segment, on_raw, &sum);
	segment_lookup(segment, NULL, (struct tp_id){.hi = sum, .lo = 1}, segment->totals->minute_min, 5);
	const struct id_index *index;
	uint32_t first;
	if (segment->version == SEGMENT_VERSION && segment->totals->rows && segment_id_index(segment, &index) == 0)
		for (uint32_t rank = 0; rank < index->count; rank += 1 + index->count / 8)
			sum += id_index_row(index, rank) + id_index_find(index, (struct tp_id){sum, rank}, &first);
	for (uint64_t n = 0; n < 40 && segment->version == SEGMENT_VERSION; n++) {
		_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
		segment_lookup(segment, NULL, rich_event(room, n)->id, segment->totals->minute_min, 5);
	}
	if (segment->version == SEGMENT_VERSION_OLD_IDS && segment_section_read(segment, SEGMENT_IDS, &bytes, &length) == 0)
		for (uint64_t at = 0; at + sizeof(struct tp_id) <= length; at += 1 + length / 8 * sizeof(struct tp_id)) {
			struct tp_id id;
			memcpy(&id, (const uint8_t *)bytes + at, sizeof(id));
			segment_lookup(segment, NULL, id, segment->totals->minute_min, 5);
		}
	if (segment_rollup(segment, &rows, &count, &heap) == 0)
		for (uint32_t i = 0; i < count; i++)
			for (enum tp_dimension d = 0; d < TP_DIMENSIONS; d++) {
				struct tp_str text = tp_rollup_string(&rows[i], heap, d);
				for (uint16_t at = 0; at < text.bytes; at++)
					sum += (uint8_t)text.at[at];
			}
	if (segment_section_read(segment, STO_SECTION_SESSIONS, &bytes, &length) == 0)
		for (uint64_t at = 0; at < length; at++)
			sum += ((const uint8_t *)bytes)[at];
	segment_verify(segment, &facts, SEGMENT_VERIFY_ALL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *both[2];
	static uint64_t both_bytes[2];
	if (size < 1 || size > 1 << 20)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	sample_old_ids = data[0] / 3 % 2;
	if (!both[sample_old_ids]) {
		static const uint8_t sessions[600] = "sessions";
		const struct sto_extra extra = {.kind = STO_SECTION_SESSIONS, .bytes = sessions, .length = sizeof(sessions)};
		both[sample_old_ids] = rich_segment(300, &(struct segment_build_options){.extra = &extra, .extras = 1}, 5,
						    &both_bytes[sample_old_ids]);
	}
	const uint8_t *good = both[sample_old_ids];
	const uint64_t good_bytes = both_bytes[sample_old_ids];
	uint64_t bytes = data[0] % 3 == 2 ? good_bytes : data[0] % 3 == 1 ? (size - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN : size - 1;
	/* Of exactly this size, so that the sanitizer sees a step over its end. */
	uint8_t *file = aligned_alloc(64, bytes ? (bytes + 63) / 64 * 64 : 64);
	if (data[0] % 3 == 2) {
		memcpy(file, good, bytes);
		for (size_t at = 1; at + 3 <= size && at < 3000; at += 3) {
			uint64_t where = (data[at] | (uint64_t)data[at + 1] << 8) * bytes >> 16;
			file[where] ^= data[at + 2];
		}
	} else {
		memcpy(file, data + 1, bytes);
	}
	if (data[0] % 3 == 1)
		repair(file, bytes);
	else if (data[0] % 3 == 2)
		columnar_repair(file, bytes);
	struct segment segment;
	if (segment_take(&segment, file, bytes, 1) == 0)
		read_all(&segment);
	segment_close(&segment);
	free(file);
	return 0;
}
