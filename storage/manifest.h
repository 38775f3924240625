/*
 * The manifest: which log files are sealed, which segments and rollup files are published. Append-only; the append, once synced, is
 * the commit point of every publication, replacement, recycling and deletion. Bytes in manifest_format.h.
 *
 * What belongs together is one transaction: several records, written by one append, of which a reader takes all or none. So a merge
 * publishes its result and lets its sources go in one step.
 */
#ifndef STORAGE_MANIFEST_H
#define STORAGE_MANIFEST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MANIFEST_VERSION = 3,
	MANIFEST_UNIT = 256,
	MANIFEST_UNIT_V1 = 128,
	MANIFEST_PARTS_MAX = 16, /* records in one transaction */
	MANIFEST_HASH_BYTES = 32,
};

enum manifest_kind {
	MANIFEST_SEGMENT = 1,      /* published; its log file is done with and may be recycled */
	MANIFEST_LOG_EMPTY = 2,    /* a log file ended without a segment */
	MANIFEST_RETIRED = 3,      /* a segment was deleted */
	MANIFEST_ROLLUP = 4,       /* a rollup file was published */
	MANIFEST_ROLLUP_GONE = 5,  /* … was merged into another, or deleted */
	MANIFEST_REPLACED = 6,     /* a segment has another file now: the same rows in other bytes */
	MANIFEST_STATE = 7,        /* first record of a compacted manifest: what the records left out had said */
	MANIFEST_SEALED_RANGE = 8, /* and the log files that are done with */
	MANIFEST_LOG_OPENED = 9, /* a log file was made: from here on it may hold what was acknowledged, and must not be missing */
	MANIFEST_LOG_LEFT = 10,  /* … is done with although nobody knows what was in it: enum manifest_left */
};

/* Minutes are kept in files of their own, so are hours and days. */
enum manifest_class { MANIFEST_MINUTE, MANIFEST_HOUR, MANIFEST_DAY, MANIFEST_CLASSES };

/* Why a rollup file is gone: only what expired takes figures with it. */
enum manifest_reason { MANIFEST_EXPIRED, MANIFEST_MERGED };

/* Why a log file that was opened is not waited for any more. */
enum manifest_left { MANIFEST_NOT_IN_COPY, MANIFEST_GIVEN_UP };

/* What a record says about a log file that was made. Its first block says the same. */
struct manifest_log {
	uint64_t file_id;
	uint64_t salt;
	uint64_t bytes; /* the size that it was made with; 0: it grows */
	uint32_t shard;
};

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
	uint64_t hash;                             /* XXH3-64 of the file */
	uint32_t generation;                       /* how often its file has been replaced */
	uint8_t sha256[MANIFEST_HASH_BYTES];       /* of the file; zeros: published by version 1, not known */
	uint8_t chain_sha256[MANIFEST_HASH_BYTES]; /* of the file that was published first: what the next one's prev is */
	uint8_t prev_sha256[MANIFEST_HASH_BYTES];  /* chain_sha256 of the segment published before; zeros for the first */
};

/* And about a rollup file. */
struct manifest_rollup {
	uint64_t sequence;                 /* its name */
	uint8_t class;                     /* enum manifest_class */
	uint16_t level;                    /* merges behind it */
	uint64_t from_segment, to_segment; /* the sums of all segments with these sequences, inclusive */
	uint64_t rows;
	uint32_t minute_min, minute_max; /* starts of its first and last bucket; UINT32_MAX,0 without rows */
	uint64_t sealed_ms_min, sealed_ms_max;
	uint64_t bytes;
	uint64_t hash;
	uint8_t sha256[MANIFEST_HASH_BYTES];
	uint8_t reason; /* MANIFEST_ROLLUP_GONE: enum manifest_reason */
};

/* What a manifest says besides the list of files: survives the records that said it. */
struct manifest_facts {
	uint64_t watermark_ms;                         /* the highest of all segments, retired ones too */
	uint64_t file_id_max, segment_max, rollup_max; /* ever named */
	uint64_t covered;                              /* segments up to here are in rollup files */
	uint32_t minute_gone[MANIFEST_CLASSES];        /* buckets that start before this one are not whole in that class */
	uint8_t chain_sha256[MANIFEST_HASH_BYTES];     /* of the last segment published */
};

struct manifest_record {
	enum manifest_kind kind;
	uint64_t file_id;                /* MANIFEST_LOG_EMPTY, _LEFT; MANIFEST_SEALED_RANGE: the first */
	uint64_t file_id_end;            /* MANIFEST_SEALED_RANGE: behind the last */
	struct manifest_segment segment; /* MANIFEST_SEGMENT, MANIFEST_REPLACED; MANIFEST_RETIRED: only .sequence */
	struct manifest_rollup rollup;   /* MANIFEST_ROLLUP; MANIFEST_ROLLUP_GONE: as it was published, and .reason */
	struct manifest_facts facts;     /* MANIFEST_STATE */
	struct manifest_log log;         /* MANIFEST_LOG_OPENED */
	enum manifest_left left;         /* MANIFEST_LOG_LEFT */
};

/* A half-open range of log file ids that are sealed. */
struct manifest_range {
	uint64_t from, to;
};

/* What has been read so far. Zeroed is empty. */
struct manifest {
	uint8_t node_id[16];
	uint32_t version;  /* of the file */
	uint64_t bytes;    /* read and good */
	uint64_t sequence; /* of the last record */
	uint64_t previous; /* its checksum */
	struct manifest_facts facts;
	struct manifest_range *sealed; /* sorted, apart from each other */
	uint32_t sealed_ranges, sealed_max;
	struct manifest_log *open; /* made and not done with, by file id */
	uint32_t opens, opens_max;
	bool begun; /* a record was taken */
};

void manifest_fini(struct manifest *manifest);

/* The first MANIFEST_UNIT bytes of a new manifest. */
void manifest_header_write(uint8_t to[MANIFEST_UNIT], const uint8_t node_id[16]);

/*
 * The bytes of a transaction of `count` records (1 to MANIFEST_PARTS_MAX), count × MANIFEST_UNIT long, that follows on what
 * `manifest` has read, which is of MANIFEST_VERSION.
 */
void manifest_write(uint8_t *to, const struct manifest *manifest, const struct manifest_record *record, uint32_t count);

typedef int (*manifest_fn)(void *context, const struct manifest_record *record);

/*
 * Takes in `from[0..bytes)`, which follows on what was read before; calls fn for each record in it, whole transactions only. Stops
 * at the first that is not whole or not good; `manifest->bytes` tells how far it came. Returns 1 if bytes are left over that can
 * only be an append that was never synced, 0 if all was taken, -EBADMSG when what is left over proves damage, -ENOTSUP for a
 * version that is newer than this program, else what fn returned or -ENOMEM.
 */
int manifest_feed(struct manifest *manifest, const uint8_t *from, uint64_t bytes, manifest_fn fn, void *context);

bool manifest_sealed(const struct manifest *manifest, uint64_t file_id);
/* The log file, if it was made and is not done with; else NULL (an older version did not say). Valid until the next record. */
const struct manifest_log *manifest_opened(const struct manifest *manifest, uint64_t file_id);

/* "minute", "hour", "day"; and how many minutes a bucket of the class has. */
const char *manifest_class_name(enum manifest_class class);
uint32_t manifest_class_minutes(enum manifest_class class);

#endif
