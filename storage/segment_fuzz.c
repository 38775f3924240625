/*
 * Fuzzes segment files: everything that a reader does with one. With the first bit set, the section checksums, the header's and the
 * footer's are put right first, so that the inner lengths are what must hold.
 */
#include "segment.h"
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

static int on_id(void *context, struct tp_id id, uint64_t fingerprint, uint32_t minute)
{
	*(uint64_t *)context += id.hi + fingerprint + minute;
	return 0;
}

static void repair(uint8_t *file, uint64_t bytes)
{
	struct segment_header *header = (struct segment_header *)(void *)file;
	struct segment_footer *footer = (struct segment_footer *)(void *)(file + bytes - sizeof(*footer));
	static const uint64_t each[SEGMENT_SECTIONS] = {0, sizeof(struct segment_index_entry), sizeof(struct tp_rollup_row), 1};
	uint64_t at = sizeof(*header), end = bytes - sizeof(*footer);
	header->magic = SEGMENT_MAGIC;
	header->version = SEGMENT_VERSION;
	header->sequence = 1;
	header->checksum = XXH3_64bits(header, offsetof(struct segment_header, checksum));
	footer->magic = SEGMENT_MAGIC_END;
	footer->version = SEGMENT_VERSION;
	footer->bytes = sizeof(*footer);
	for (int i = 0; i < SEGMENT_SECTIONS; i++) {
		struct segment_place *place = &footer->section[i];
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
	footer->totals.counted = footer->section[SEGMENT_INDEX].count;
	footer->totals.rows = footer->section[SEGMENT_ROWS].count;
	footer->totals.conflicts = footer->totals.rows - footer->totals.counted;
	footer->checksum = XXH3_64bits(footer, offsetof(struct segment_footer, checksum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 20)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	uint64_t bytes = data[0] & 1 ? (size - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN : size - 1;
	/* Of exactly this size, so that the sanitizer sees a step over its end. */
	uint8_t *file = aligned_alloc(64, bytes ? (bytes + 63) / 64 * 64 : 64);
	memcpy(file, data + 1, bytes);
	if ((data[0] & 1) && bytes >= sizeof(struct segment_header) + sizeof(struct segment_footer))
		repair(file, bytes);
	struct segment segment;
	if (segment_take(&segment, file, bytes, 1) == 0) {
		uint64_t sum = 0;
		const struct tp_rollup_row *rows;
		const char *heap;
		uint32_t count;
		const struct manifest_segment facts = {.sequence = 1};
		segment_events(&segment, on_event, &sum);
		segment_ids(&segment, on_id, &sum);
		segment_lookup(&segment, (struct tp_id){.hi = sum, .lo = 1}, 5, 5);
		if (segment.footer->totals.counted)
			segment_lookup(&segment, (struct tp_id){.hi = segment.footer->id_first, .lo = 1}, 5, 5);
		if (segment_rollup(&segment, &rows, &count, &heap) == 0)
			for (uint32_t i = 0; i < count; i++)
				for (enum tp_dimension d = 0; d < TP_DIMENSIONS; d++) {
					struct tp_str text = tp_rollup_string(&rows[i], heap, d);
					for (uint16_t at = 0; at < text.bytes; at++)
						sum += (uint8_t)text.at[at];
				}
		segment_verify(&segment, &facts);
	}
	free(file);
	return 0;
}
