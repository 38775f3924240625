/*
 * The manifest, byte by byte. Little endian, units of 256 bytes, so that no record ever lies across two sectors.
 *
 *   header:                                      record n (n = 1, 2, …) at 256 n:
 *     0  u64 checksum of bytes 8..255              0  u64 checksum of bytes 8..255
 *     8  u64 magic "tpmanif1"                      8  u64 n
 *    16  u32 version 3                            16  u64 checksum of the unit before
 *    20  u32 zero                                 24  u16 kind (enum manifest_kind)
 *    24  node id, 16 bytes                        26  u8 class of a rollup file: 0 minute, 1 hour, 2 day
 *    40  zeros                                    27  u8 reason (5): 0 expired, 1 merged; (10) 0 not in
 *                                                        this copy, 1 given up
 *                                                 28  u8 part, u8 parts of its transaction     30  u16 level (4, 5)
 *                                                 32  u64 sequence of the segment or rollup file
 *                                                 40  u64 log file id (1, 2, 8, 9, 10); first segment (4, 5)
 *                                                 48  u64 rows                 56  u64 late events
 *                                                 64  u64 from_ms              72  u64 to_ms
 *                                                 80  u32 minute_min           84  u32 minute_max
 *                                                 88  u64 watermark_ms
 *                                                 96  u64 sealed_ms (of the newest source)
 *                                                104  u64 bytes of the file   112  u64 XXH3-64 of the file; (9) its salt
 *                                                120  u64 generation of the segment's file (1, 6); last segment (4, 5);
 *                                                     end of the range of log file ids (8); shard (9)
 *                                                128  SHA-256 of the file, 32 bytes
 *                                                160  chain SHA-256, 32 bytes (1, 6)
 *                                                192  previous chain SHA-256, 32 bytes (1, 6)
 *                                                224  u64 sealed_ms of the oldest source (4, 5)
 *                                                232  zeros
 *   record of kind 7 (state), from byte 32:
 *    32  u64 watermark_ms   40  u64 highest log file id   48  u64 highest segment   56  u64 highest rollup file
 *    64  u64 covered: segments up to here are in rollup files
 *    72  3 × u32 minute_gone of minute, hour, day         84  u32 zero
 *    88  SHA-256 of the chain's end, 32 bytes             120  zeros
 *
 * Checksums are XXH3-64. One transaction is appended at a time and synced before the next. So at most one transaction can be
 * unsynced: a good record behind a bad one that is of a later transaction proves that the bad one had been synced, and so do more
 * bytes than a transaction has; then it is damaged. Else it is the torn end of an append that nobody acted upon, and the data
 * process cuts it off at the next start.
 *
 * Version 1 had units of 128 bytes: the first 128 bytes of the above, with a u32 kind at 24, kinds 1 to 3 only, one record a
 * transaction and no SHA-256. Version 2 had kinds 1 to 8 only. They are read; the data process writes them anew as version 3 at its first
 * start.
 *
 * A segment's chain: prev is the chain hash of the segment that was published before it, whatever became of that since. Replacing a
 * file changes its SHA-256, not its chain hash, so the chain stays whole. A retired segment's hash stays in the next one's prev.
 */
#ifndef STORAGE_MANIFEST_FORMAT_H
#define STORAGE_MANIFEST_FORMAT_H

#include "manifest.h"

#define MANIFEST_MAGIC 0x3166696e616d7074ULL /* "tpmanif1" */

struct manifest_header_unit {
	uint64_t checksum;
	uint64_t magic;
	uint32_t version;
	uint32_t zero;
	uint8_t node_id[16];
	uint8_t zeros[216];
};
static_assert(sizeof(struct manifest_header_unit) == MANIFEST_UNIT, "disk format");

struct manifest_record_unit {
	uint64_t checksum;
	uint64_t sequence;
	uint64_t previous;
	uint16_t kind;
	uint8_t class;
	uint8_t reason;
	uint8_t part, parts;
	uint16_t level;
	union {
		struct {
			uint64_t name;
			uint64_t first; /* log file id, or first segment */
			uint64_t rows;
			uint64_t late;
			uint64_t from_ms, to_ms;
			uint32_t minute_min, minute_max;
			uint64_t watermark_ms;
			uint64_t sealed_ms;
			uint64_t bytes;
			uint64_t hash; /* of a log file: its salt */
			uint64_t last; /* generation, last segment, end of the log file ids, or shard */
			uint8_t sha256[MANIFEST_HASH_BYTES];
			uint8_t chain_sha256[MANIFEST_HASH_BYTES];
			uint8_t prev_sha256[MANIFEST_HASH_BYTES];
			uint64_t sealed_ms_min;
			uint8_t zeros[24];
		} file;
		struct {
			uint64_t watermark_ms;
			uint64_t file_id_max, segment_max, rollup_max;
			uint64_t covered;
			uint32_t minute_gone[MANIFEST_CLASSES];
			uint32_t zero;
			uint8_t chain_sha256[MANIFEST_HASH_BYTES];
			uint8_t zeros[136];
		} state;
	};
};
static_assert(sizeof(struct manifest_record_unit) == MANIFEST_UNIT, "disk format");
static_assert(offsetof(struct manifest_record_unit, file.minute_min) == 80, "disk format");
static_assert(offsetof(struct manifest_record_unit, file.hash) == 112, "disk format");
static_assert(offsetof(struct manifest_record_unit, file.sha256) == 128, "disk format");
static_assert(offsetof(struct manifest_record_unit, file.sealed_ms_min) == 224, "disk format");
static_assert(offsetof(struct manifest_record_unit, state.chain_sha256) == 88, "disk format");

#endif
