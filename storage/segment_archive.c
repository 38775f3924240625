/*
 * Writing a segment anew, as small as it gets: the same rows in the same order, the same other sections, compressed harder. The chain
 * of hashes stays as it was published: the header keeps prev_sha256, and what follows in the chain keeps naming the first file.
 *
 * Threads: the segment's owner, in the background.
 */
#include "segment.h"

#include <string.h>

static int row_take(void *context, const struct tp_event *event)
{
	return segment_build_event(context, event);
}

/* Sections that are not the segment's own, or that would not follow from the rows. */
static int extras_find(struct segment *segment, struct sto_extra extra[STO_EXTRAS_MAX], uint32_t *extras)
{
	*extras = 0;
	for (uint32_t i = 0; segment->version != 1 && i < segment->footer->sections; i++) {
		uint32_t kind = segment->section[i].kind;
		const void *bytes;
		if (kind < STO_SECTION_FIRST)
			continue;
		if (*extras == STO_EXTRAS_MAX)
			return -EOVERFLOW;
		int rc = segment_section_read(segment, kind, &bytes, &extra[*extras].length);
		if (rc)
			return rc;
		extra[*extras].kind = kind;
		extra[(*extras)++].bytes = bytes;
	}
	return 0;
}

int segment_archive(struct segment *segment, const char *path, const struct segment_yield *yield, struct manifest_segment *facts)
{
	struct segment_build_options options = {
		.shard = segment->header->shard,
		.sequence = segment->header->sequence,
		.file_id = segment->header->file_id,
		.sealed_ms = segment->header->sealed_ms,
		.node_id = segment->header->node_id,
		.prev_sha256 = segment->version == 1 ? facts->prev_sha256 : segment->header->prev_sha256,
		.zstd_level = SEGMENT_ZSTD_LEVEL_ARCHIVE,
	};
	struct sto_extra extra[STO_EXTRAS_MAX];
	struct buffer file = {0};
	struct segment_build *build = segment_build_new(yield);
	int rc = build ? segment_events_sorted(segment, row_take, build) : -ENOMEM;
	if (!rc)
		rc = segment_raw(segment, row_take, build);
	if (!rc && build->totals.rows != segment->totals->rows)
		rc = segment_damage(segment->sequence, "rows", "fewer than its footer says");
	if (!rc) {
		build->totals.watermark_ms = segment->totals->watermark_ms;
		rc = segment_build_sort(build);
	}
	if (!rc)
		rc = extras_find(segment, extra, &options.extras);
	options.extra = extra;
	if (!rc)
		rc = segment_rollup(segment, &options.rollup, &options.rollup_rows, &options.heap);
	if (!rc) {
		rc = segment_build_follows(build, options.rollup, options.rollup_rows, options.heap);
		options.with_rollup = rc == 0;
		rc = rc < 0 ? rc : 0;
	}
	if (!rc)
		rc = segment_build_file(build, &options, &file);
	if (!rc)
		rc = segment_file_write(segment->io, path, &file, yield, facts);
	buffer_fini(&file);
	segment_build_free(build);
	return rc;
}
