/*
 * The manifest, byte by byte. Little endian, units of 128 bytes, so that no record ever lies across two sectors.
 *
 *   header:                                      record n (n = 1, 2, …) at 128 n:
 *     0  u64 checksum of bytes 8..127              0  u64 checksum of bytes 8..127
 *     8  u64 magic "tpmanif1"                      8  u64 n
 *    16  u32 version 1                            16  u64 checksum of the unit before
 *    20  u32 zero                                 24  u32 kind: 1 segment published, 2 log file ended empty, 3 segment retired
 *    24  node id, 16 bytes                        28  u32 zero
 *    40  zeros                                    32  u64 segment sequence         (1, 3)
 *                                                 40  u64 log file id              (1, 2)
 *                                                 48  u64 rows                     (1, and the rest below)
 *                                                 56  u64 late events
 *                                                 64  u64 from_ms      72  u64 to_ms
 *                                                 80  u32 minute_min   84  u32 minute_max
 *                                                 88  u64 watermark_ms
 *                                                 96  u64 sealed_ms
 *                                                104  u64 segment bytes
 *                                                112  u64 XXH3-64 of the segment file
 *                                                120  u64 zero
 *
 * Checksums are XXH3-64. One record is appended at a time and synced before the next. So at most one record can be unsynced: bytes
 * beyond the first bad record prove that it had been synced, and then it is damaged; else it is the torn end of an append that
 * nobody acted upon, and the data process cuts it off at the next start.
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
	uint8_t zeros[88];
};
static_assert(sizeof(struct manifest_header_unit) == MANIFEST_UNIT, "disk format");

struct manifest_record_unit {
	uint64_t checksum;
	uint64_t sequence;
	uint64_t previous;
	uint32_t kind;
	uint32_t zero;
	uint64_t segment;
	uint64_t file_id;
	uint64_t rows;
	uint64_t late;
	uint64_t from_ms, to_ms;
	uint32_t minute_min, minute_max;
	uint64_t watermark_ms;
	uint64_t sealed_ms;
	uint64_t bytes;
	uint64_t hash;
	uint64_t zero_too;
};
static_assert(sizeof(struct manifest_record_unit) == MANIFEST_UNIT, "disk format");
static_assert(offsetof(struct manifest_record_unit, minute_min) == 80, "disk format");
static_assert(offsetof(struct manifest_record_unit, hash) == 112, "disk format");

#endif
