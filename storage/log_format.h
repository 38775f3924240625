/*
 * The write-ahead log file, byte by byte (also docs/log-format.md). Little endian.
 *
 *   0         4096                                                     log_file_bytes
 *   ├─ file ───┼─ block 1 ──┼─ block 2 ───────┼─ block 3 ─┼─ end ─┼─ zeros ─┤      each a multiple of 4096
 *   block:
 *     0   u64 checksum          XXH3-64 of bytes 8 .. 128 + payload_bytes, seed below
 *     8   u64 magic             "tplogblk"
 *    16   u32 version           1
 *    20   u32 shard
 *    24   u64 file_id           as in the file's name
 *    32   u64 salt              random, one per file, the same in each of its blocks
 *    40   u64 sequence          in the file: 0 the file block, then 1, 2, …
 *    48   u64 previous          checksum of the block before; 0 in the file block
 *    56   u64 watermark_ms      of the shard when the block was submitted, never falling
 *    64   u64 durable_sequence  blocks up to this one were on stable storage when this block was submitted
 *    72   u32 kind              1 file, 2 events, 3 end
 *    76   u32 block_bytes       with header and padding; multiple of 4096
 *    80   u32 payload_bytes
 *    84   u32 records
 *    88   u64 file_bytes        size that the file was made with; 0: it grows as it is written
 *    96   u64 first_record      records in the file before this block
 *   104   u64 offset            of the block in the file
 *   112   u32 made             in the file block: 1 the file was full of zeros, 2 it was recycled and has old blocks in it; else 0
 *   116   12 bytes of zero
 *   128   payload: tp_event and tp_dead_letter records, one after the other; then zeros to block_bytes
 *
 * The seed is XXH3-64 of {file_id, salt, offset}. A block that an earlier file left there does not check out; one that was written
 * to the wrong place is no part of the prefix, but still a witness for rule 2.
 *
 * Blocks are submitted in order and complete in any order; an event is acknowledged when its block and all before it are stable.
 * So after a crash the acknowledged events lie in the longest run of good blocks from the start ("the provable prefix"):
 *
 *   1. The prefix ends at the first block that is missing, damaged, or does not follow from the one before.
 *   2. What lies beyond was never acknowledged, unless a good block beyond says durable_sequence >= the missing one's sequence.
 *      Then the missing block had been stable and is damaged now: the file is refused, nothing is guessed.
 *   3. The end block is written once all others are stable, by a roll or a clean stop: behind it nothing comes, and a block that is
 *      missing before it is damage by rule 2.
 */
#ifndef STORAGE_LOG_FORMAT_H
#define STORAGE_LOG_FORMAT_H

#include "log_hash.h"
#include "turnpike/dead_letter.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LOG_MAGIC 0x6b6c62676f6c7074ULL /* "tplogblk" */

enum { LOG_VERSION = 1, LOG_UNIT = 4096, LOG_HEADER_BYTES = 128, LOG_BLOCK_BYTES_MAX = 16 << 20 };

/* What a file's blocks lie on. Reserved room alone takes a journal commit with each synced write. */
enum log_made { LOG_RESERVED = 0, LOG_FILLED = 1, LOG_RECYCLED = 2 };

enum log_kind { LOG_FILE = 1, LOG_EVENTS = 2, LOG_END = 3 };

struct log_block {
	uint64_t checksum;
	uint64_t magic;
	uint32_t version;
	uint32_t shard;
	uint64_t file_id;
	uint64_t salt;
	uint64_t sequence;
	uint64_t previous;
	uint64_t watermark_ms;
	uint64_t durable_sequence;
	uint32_t kind;
	uint32_t block_bytes;
	uint32_t payload_bytes;
	uint32_t records;
	uint64_t file_bytes;
	uint64_t first_record;
	uint64_t offset;
	uint32_t made;
	uint32_t reserved[3];
};
static_assert(sizeof(struct log_block) == LOG_HEADER_BYTES, "disk format");
static_assert(offsetof(struct log_block, sequence) == 40, "disk format");
static_assert(offsetof(struct log_block, kind) == 72, "disk format");
static_assert(offsetof(struct log_block, first_record) == 96, "disk format");
static_assert(LOG_HEADER_BYTES + TP_RECORD_BYTES_MAX == LOG_UNIT, "any record fits into the smallest block");

static inline uint32_t log_round_up(uint32_t bytes)
{
	return (bytes + LOG_UNIT - 1) & ~(uint32_t)(LOG_UNIT - 1);
}

/* Of a block with its payload in memory. */
static inline uint64_t log_checksum(const struct log_block *block)
{
	const uint64_t place[3] = {block->file_id, block->salt, block->offset};
	const uint8_t *from = (const uint8_t *)block + sizeof(block->checksum);
	return log_hash(from, LOG_HEADER_BYTES - sizeof(block->checksum) + block->payload_bytes, XXH3_64bits(place, sizeof(place)));
}

#endif
