/*
 * The manifest: which log files are sealed and which segments are published. Append-only; the append, once synced, is the commit
 * point of every publication and deletion. Bytes in manifest_format.h.
 */
#ifndef STORAGE_MANIFEST_H
#define STORAGE_MANIFEST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MANIFEST_VERSION = 1, MANIFEST_UNIT = 128 };

enum manifest_kind { MANIFEST_SEGMENT = 1, MANIFEST_LOG_EMPTY = 2, MANIFEST_RETIRED = 3 };

/* What a record says about a segment. */
struct manifest_segment {
	uint64_t sequence; /* of the segment: its name */
	uint64_t file_id;  /* of the log file it was made from */
	uint64_t rows;
	uint64_t late;
	uint64_t from_ms, to_ms;         /* of the counted events, half-open; 0,0 without any */
	uint32_t minute_min, minute_max; /* of the counted events; UINT32_MAX,0 without any */
	uint64_t watermark_ms;
	uint64_t sealed_ms;
	uint64_t bytes;
	uint64_t hash; /* XXH3-64 of the file */
};

struct manifest_record {
	enum manifest_kind kind;
	uint64_t file_id;                /* MANIFEST_LOG_EMPTY */
	struct manifest_segment segment; /* MANIFEST_SEGMENT; MANIFEST_RETIRED: only .sequence */
};

/* A half-open range of log file ids that are sealed. */
struct manifest_range {
	uint64_t from, to;
};

/* What has been read so far. Zeroed is empty. */
struct manifest {
	uint8_t node_id[16];
	uint64_t bytes;                    /* read and good */
	uint64_t sequence;                 /* of the last record */
	uint64_t previous;                 /* its checksum */
	uint64_t watermark_ms;             /* the highest of all segments, retired ones too */
	uint64_t file_id_max, segment_max; /* ever named */
	struct manifest_range *sealed;     /* sorted, apart from each other */
	uint32_t sealed_ranges, sealed_max;
};

void manifest_fini(struct manifest *manifest);

/* The first MANIFEST_UNIT bytes of a new manifest. */
void manifest_header_write(uint8_t to[MANIFEST_UNIT], const uint8_t node_id[16]);
/* The bytes of `record` as the next one behind what `manifest` has read. */
void manifest_record_write(uint8_t to[MANIFEST_UNIT], const struct manifest *manifest, const struct manifest_record *record);

typedef int (*manifest_fn)(void *context, const struct manifest_record *record);

/*
 * Takes in `from[0..bytes)`, which follows on what was read before; calls fn for each record in it. Stops at the first that is not
 * whole or not good; `manifest->bytes` tells how far it came. Returns 1 if bytes are left over that can only be an append that was
 * never synced (at most one record), 0 if all was taken, -EBADMSG when what is left over proves damage, else what fn returned or
 * -ENOMEM.
 */
int manifest_feed(struct manifest *manifest, const uint8_t *from, uint64_t bytes, manifest_fn fn, void *context);

bool manifest_sealed(const struct manifest *manifest, uint64_t file_id);

#endif
