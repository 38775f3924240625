/*
 * Segments: one log file's events as an immutable file. Bytes in segment_format.h; version 1 in segment_v1.h.
 */
#ifndef STORAGE_SEGMENT_H
#define STORAGE_SEGMENT_H

#include "buffer.h"
#include "io.h"
#include "manifest.h"
#include "segment_build.h"
#include "segment_format.h"
#include "turnpike/store.h"

/* ---- reading (segment_read.c) ---- */

/* Memory that a section took when it was decompressed, or a rollup that was derived. */
struct segment_memory;

/* A mapped segment. Read only; checks each part before its first use. Owned by one thread, but for what segment_rows.h says. */
struct segment {
	const struct sto_io *io;
	const uint8_t *base; /* NULL: not open */
	uint64_t bytes;
	uint64_t sequence;
	uint32_t version;
	const struct segment_header *header; /* of version 1: only the first SEGMENT_HEADER_V1_BYTES */
	const struct segment_totals *totals;
	/* version 2 and 3 */
	const struct segment_footer *footer;
	const struct segment_section *section;
	const struct segment_column *column;
	const struct segment_block *block;
	bool footer_damaged; /* the front one serves */
	struct segment_memory *memory;
	/* version 1 */
	const struct segment_v1_footer *v1;
	uint8_t checked; /* bit per part: good */
	uint8_t damaged; /* bit per part: told, refused */
};

/*
 * Takes `bytes` at `base` (64-byte aligned) as segment `sequence`. -EBADMSG (logged) if header or footers are not right, -ENOTSUP
 * (logged) if it is of a version that this program does not know.
 */
int segment_take(struct segment *segment, const uint8_t *base, uint64_t bytes, uint64_t sequence);
/* Opens, maps and takes a file, which must be what the manifest says. */
/* Asks for what opening reads of a mapped file: its first page and its end. */
void segment_fetch_ends(const struct sto_io *io, const uint8_t *base, uint64_t bytes);
int segment_open(struct segment *segment, const struct sto_io *io, const char *path, const struct manifest_segment *facts);
void segment_close(struct segment *segment);

/* Does `file` look like segment `sequence`, and of which log file is it? Header only, no mapping. 0, -EBADMSG or -errno. */
int segment_peek(const struct sto_io *io, const char *path, uint64_t sequence, uint64_t *file_id);

/* Says that a segment is damaged; returns -EBADMSG. */
int segment_damage(uint64_t sequence, const char *where, const char *what);

/* Each row, in the order in which they were received, to the millisecond. Takes about the log file's size in memory meanwhile. */
int segment_events(struct segment *segment, sto_event_fn fn, void *context);
/* Each row in the order of the file. Much cheaper. */
int segment_events_sorted(struct segment *segment, sto_event_fn fn, void *context);
/* Records of other kinds than events, in the order of the log. */
int segment_raw(struct segment *segment, sto_event_fn fn, void *context);
/* (id, fingerprint, minute) of each counted row */
int segment_ids(struct segment *segment, sto_id_fn fn, void *context);
/* Sorted by minute, campaign, ad, advertiser, publisher, region, country, device, currency. Stays until the segment is closed. */
int segment_rollup(struct segment *segment, const struct tp_rollup_row **rows, uint32_t *count, const char **heap);
/* The bytes of the section of that kind, checked; they stay until the segment is closed. 0, -ENOENT or -EBADMSG. */
int segment_section_read(struct segment *segment, uint32_t kind, const void **bytes, uint64_t *length);

enum segment_verify { SEGMENT_VERIFY_BYTES, SEGMENT_VERIFY_ALL };
/*
 * BYTES: both footers, every block's and section's checksum, and the whole file against the manifest's hash. ALL: also decodes
 * everything and holds rows, totals, filter and rollup against each other. 0 or -EBADMSG (logged).
 */
int segment_verify(struct segment *segment, const struct manifest_segment *facts, enum segment_verify how);

/* ---- looking up an id (segment_ids.c) ---- */

/*
 * What look-ups that found an id have learnt of a segment: fingerprints by id, because they are not stored. So a client that sends old
 * batches again costs some milliseconds for each of the first eight copies in a segment, a pass over the segment for the ninth, and a
 * microsecond for each one after it.
 */
enum { SEGMENT_RECALLS = 16 };
struct segment_recall;
struct segment_rows;
struct segment_recalls {
	struct segment_recall *recall[SEGMENT_RECALLS]; /* the one used last comes first */
	struct segment_hits {
		uint64_t sequence;
		uint64_t hits;     /* ids found without a table */
	} hits[SEGMENT_RECALLS];   /* by sequence, modulo their number; who is pushed out starts again */
	struct segment_rows *rows; /* the decoder's memory; of no segment between look-ups */
	/* For who keeps others waiting while it asks: tables are made apart, by segment_recall_make(). */
	bool apart;
	uint64_t wanted; /* sequence of a segment whose table is to be made; 0: none, or somebody is at it */
};
void segment_recalls_fini(struct segment_recalls *recalls);

/* The table of a segment: a tenth of a second. 0, -EBADMSG or -ENOMEM. */
struct segment_recall;
int segment_recall_make(struct segment *segment, struct segment_recall **made);
/* Takes the table that was wanted, or NULL if it could not be made: then the segment is asked without one for a while. */
void segment_recall_keep(struct segment_recalls *recalls, uint64_t sequence, struct segment_recall *recall);

/* enum sto_lookup, -EBADMSG or -ENOMEM. */
int segment_lookup(struct segment *segment, struct segment_recalls *recalls, struct tp_id id, uint32_t minute,
		   uint64_t fingerprint);

/* ---- writing (segment_write.c) ---- */

enum { SEGMENT_ZSTD_LEVEL = 1, SEGMENT_ZSTD_LEVEL_ARCHIVE = 19 };

struct segment_source {
	const char *log_path;
	uint64_t file_id;
	uint64_t expected_records;      /* UINT64_MAX: not known */
	const struct tp_rollup *rollup; /* the sums of exactly these events */
	const uint8_t *node_id;
	/*
	 * Gives the hash of the segment published before this one, when it is this one's turn to be published: everything but the writing of
	 * the file is done then. NULL: there is none, or it is not known. 0 or -errno.
	 */
	int (*prev)(void *context, uint8_t sha256[32]);
	void *prev_context;
	uint64_t sealed_ms;
	const struct sto_seal_options *options; /* may be NULL */
};

/*
 * Writes log file `source` as segment facts->sequence to `path` and syncs it; fills the rest of *facts. 1: written; 0: the log file
 * holds no record, nothing was written; -EBADMSG: damaged log, or the rollup does not sum up to its events (logged); -ENOSPC: no
 * room, later; -EIO and other -errno.
 */
int segment_write(const struct sto_io *io, const char *path, const struct segment_source *source, struct manifest_segment *facts);

/*
 * Writes the segment anew, smaller and slower to write, to `path`: the same rows, sections, header facts and chain; also turns older
 * versions into version 3. Fills bytes, hash and sha256 of *facts. 0, -EBADMSG, -ENOSPC or -errno.
 */
int segment_archive(struct segment *segment, const char *path, const struct segment_yield *yield, struct manifest_segment *facts);

/* Writes the bytes of a segment and syncs them; fills bytes, hash and sha256 of *facts. */
int segment_file_write(const struct sto_io *io, const char *path, const struct buffer *file, const struct segment_yield *yield,
		       struct manifest_segment *facts);

#endif
