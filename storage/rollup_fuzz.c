/*
 * Fuzzes the rollup file reader. With the first bit set, all checksums are put right first, so that what lies behind them is reached.
 * Any bytes give rows or -EBADMSG; what opens can be scanned, walked, checked and merged without harm; and a file whose check is fine
 * has the same sums whichever way it is read.
 */
#include "io_sim.h"
#include "rollup_file.h"
#include "turnpike/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_hash(uint8_t *at, const uint8_t *from, size_t bytes)
{
	uint64_t hash = XXH3_64bits(from, bytes);
	memcpy(at, &hash, sizeof(hash));
}

static bool inside(uint64_t offset, uint64_t bytes, size_t size)
{
	return offset <= size && bytes <= size - offset && offset % 8 == 0;
}

/* From the inside out: blocks, sections, section table, footer, header. */
static void repair(uint8_t *file, size_t size)
{
	if (size < sizeof(struct rollup_header) + sizeof(struct rollup_footer) || size % ROLLUP_FOOTER_ALIGN)
		return;
	struct rollup_header *header = (struct rollup_header *)(void *)file;
	struct rollup_footer *footer = (struct rollup_footer *)(void *)(file + size - sizeof(*footer));
	header->magic = ROLLUP_MAGIC;
	header->version = ROLLUP_VERSION;
	header->sequence = 1;
	footer->magic = ROLLUP_MAGIC_END;
	footer->version = ROLLUP_VERSION;
	footer->bytes = sizeof(*footer);
	uint64_t table_bytes = footer->sections * sizeof(struct rollup_section);
	if (footer->sections <= ROLLUP_SECTIONS_MAX && inside(footer->sections_at, table_bytes, size - sizeof(*footer))) {
		struct rollup_section *section = (struct rollup_section *)(void *)(file + footer->sections_at);
		for (uint32_t i = 0; i < footer->sections; i++) {
			if (!inside(section[i].offset, section[i].bytes, size))
				continue;
			struct rollup_block *block = (struct rollup_block *)(void *)(file + section[i].offset);
			for (uint64_t b = 0; section[i].kind == ROLLUP_BLOCKS && b < section[i].bytes / sizeof(*block); b++)
				if (inside(block[b].offset, block[b].bytes, size))
					put_hash((uint8_t *)&block[b].checksum, file + block[b].offset, block[b].bytes);
			put_hash((uint8_t *)&section[i].checksum, file + section[i].offset, section[i].bytes);
		}
		put_hash((uint8_t *)&footer->sections_checksum, file + footer->sections_at, table_bytes);
	}
	put_hash((uint8_t *)&footer->checksum, (uint8_t *)footer, offsetof(struct rollup_footer, checksum));
	put_hash((uint8_t *)&header->checksum, file, offsetof(struct rollup_header, checksum));
}

static bool row_add(void *context, const struct tp_rollup_row *row, const char *heap)
{
	struct tp_sums *sums = context;
	for (int d = 0; d < TP_DIMENSIONS; d++) {
		struct tp_str string = tp_rollup_string(row, heap, (enum tp_dimension)d);
		assert(string.bytes <= TP_ID_BYTES_MAX);
		sums->reserved += string.bytes ? (uint8_t)string.at[string.bytes - 1] : 0;
	}
	sums->impressions += row->sums.impressions;
	sums->clicks += row->sums.clicks;
	return true;
}

static void use(struct rollup_file *file, const struct sto_io *io)
{
	struct tp_sums whole = {0}, parts = {0};
	const struct rollup_filter all = {0};
	bool good = rollup_file_verify(file, NULL) == 0;
	int rc = rollup_file_scan(file, &all, 0, UINT64_MAX, row_add, &whole);
	assert(rc == 0 || (rc == -EBADMSG && !good));
	assert(!good || whole.impressions == file->footer->totals.impressions);
	/* By each campaign, and in two halves of time. */
	for (uint32_t code = 0; code < file->dictionary[TP_DIM_CAMPAIGN].count && code < 64; code++) {
		struct tp_str id = rollup_dictionary_string(&file->dictionary[TP_DIM_CAMPAIGN], code);
		const struct rollup_filter one = {.dimension = TP_DIM_CAMPAIGN, .id = id.at, .id_bytes = id.bytes};
		uint32_t middle = file->footer->minute_min / 2 + file->footer->minute_max / 2;
		rc = rollup_file_scan(file, &one, 0, middle, row_add, &parts);
		if (!rc)
			rc = rollup_file_scan(file, &one, middle, UINT64_MAX, row_add, &parts);
		assert(rc == 0 || (rc == -EBADMSG && !good));
	}
	if (good && file->dictionary[TP_DIM_CAMPAIGN].count <= 64)
		assert(parts.impressions == whole.impressions && parts.clicks == whole.clicks);
	static const uint8_t node_id[16];
	struct manifest_rollup facts = {.sequence = 2, .class = (uint8_t)file->header->class};
	rc = rollup_merge(io, file, 1, "merged", node_id, &facts, NULL, NULL);
	assert(good ? rc == 0 : rc == 0 || rc == -EBADMSG || rc == -EOVERFLOW);
	if (good)
		assert(facts.rows == file->footer->rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 20)
		return 0;
	tp_log_level_set(TP_ERROR + 1);
	size_t bytes = size - 1;
	uint8_t *copy = aligned_alloc(64, (bytes + 64) / 64 * 64);
	memcpy(copy, data + 1, bytes);
	if (data[0] & 1)
		repair(copy, bytes);
	struct sim_disk *disk = sim_disk_new(1);
	struct rollup_file file;
	int rc = rollup_file_take(&file, copy, bytes, 1);
	assert(rc == 0 || rc == -EBADMSG);
	if (!rc)
		use(&file, sim_disk_io(disk));
	rollup_file_close(&file);
	sim_disk_free(disk);
	free(copy);
	return 0;
}
