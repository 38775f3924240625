/*
 * Segments: one log file's events as an immutable file. Bytes in segment_format.h.
 */
#ifndef STORAGE_SEGMENT_H
#define STORAGE_SEGMENT_H

#include "io.h"
#include "manifest.h"
#include "segment_format.h"
#include "turnpike/store.h"

/* ---- reading (segment_read.c) ---- */

/* A mapped segment. Read only; checks each section before its first use. Owned by one thread. */
struct segment {
	const struct sto_io *io;
	const uint8_t *base; /* NULL: not open */
	uint64_t bytes;
	const struct segment_header *header;
	const struct segment_footer *footer;
	uint64_t sequence;
	uint8_t checked; /* bit per section: good */
	uint8_t damaged; /* bit per section: told, refused */
};

/* Takes `bytes` at `base` (64-byte aligned) as segment `sequence`. -EBADMSG (logged) if header or footer are not right. */
int segment_take(struct segment *segment, const uint8_t *base, uint64_t bytes, uint64_t sequence);
/* Opens, maps and takes a file, which must be what the manifest says. */
int segment_open(struct segment *segment, const struct sto_io *io, const char *path, const struct manifest_segment *facts);
void segment_close(struct segment *segment);

/* Does `file` look like segment `sequence`, and of which log file is it? Header only, no mapping. 0, -EBADMSG or -errno. */
int segment_peek(const struct sto_io *io, const char *path, uint64_t sequence, uint64_t *file_id);

/* Checks one section, once. 0 or -EBADMSG (logged the first time). */
int segment_check(struct segment *segment, enum segment_section section);

int segment_events(struct segment *segment, sto_event_fn fn, void *context);
int segment_ids(struct segment *segment, sto_id_fn fn, void *context);
/* enum sto_lookup or -EBADMSG */
int segment_lookup(struct segment *segment, struct tp_id id, uint32_t minute, uint64_t fingerprint);
int segment_rollup(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap);
/* The bytes of an extra section. 0, -ENOENT or -EBADMSG. */
int segment_section(struct segment *segment, uint32_t kind, const void **bytes, uint64_t *length);
/* All sections, the whole file against the manifest's hash, and the totals against the rows. 0 or -EBADMSG (logged). */
int segment_verify(struct segment *segment, const struct manifest_segment *facts);

/* ---- totals: what sealing and verifying compare ---- */
void segment_totals_init(struct segment_totals *totals);
void segment_totals_add(struct segment_totals *totals, const struct tp_event *event);

/* ---- writing (segment_write.c) ---- */

struct segment_source {
	const char *log_path;
	uint64_t file_id;
	uint64_t expected_records;      /* UINT64_MAX: not known */
	const struct tp_rollup *rollup; /* the sums of exactly these events */
	const uint8_t *node_id;
	uint64_t sealed_ms;
	const struct sto_seal_options *options; /* may be NULL */
};

/*
 * Writes log file `source` as segment facts->sequence to `path` and syncs it; fills the rest of *facts. 1: written; 0: the log file
 * holds no event, nothing was written; -EBADMSG: damaged log, or the rollup does not sum up to its events (logged); -ENOSPC: no
 * room, later; -EIO and other -errno.
 */
int segment_write(const struct sto_io *io, const char *path, const struct segment_source *source, struct manifest_segment *facts);

#endif
