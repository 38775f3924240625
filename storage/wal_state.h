/*
 * The inside of a log writer, shared by its two halves: wal.c (the shard's side) and wal_files.c (opening, and the housekeeping
 * side).
 *
 *   blocks, a ring:    tail ────────────────► head              head: the open block (or a free buffer)
 *                      oldest in flight   newest in flight      tail .. head-1: submitted, completing in any order
 *
 *   files:   housekeeping ─ spare ─► current ─ roll ─► finishing (blocks, then end block become stable) ─ done ─► housekeeping
 *
 * A buffer is free again only when its block and all before it are stable, so `tail` is the durable prefix.
 */
#ifndef STORAGE_WAL_STATE_H
#define STORAGE_WAL_STATE_H

#include "io.h"
#include "log_format.h"
#include "turnpike/wal.h"

#include <stdatomic.h>

enum {
	WAL_WRITES_MAX = 64,
	WAL_FINISHING_MAX = 4, /* rolled, not yet ended */
	WAL_DONE_MAX = 16,     /* ended, not yet taken by housekeeping; a power of two */
	WAL_END_TAG = 1 << 16, /* tags of end blocks; those of the ring are its indices */
};

/* A log file in use. Made and freed by housekeeping; in between it belongs to the shard. */
struct wal_file {
	uint64_t id;
	uint64_t salt;
	uint64_t bytes; /* what it may grow to */
	uint64_t room;  /* the size that it was made with; 0: it grows */
	int fd;
	int handle;    /* of fd in the queue */
	uint32_t made; /* enum log_made */
	/* the shard's */
	uint64_t offset;           /* of the next block */
	uint64_t sequence;         /* of the next block */
	uint64_t previous;         /* checksum of the block before */
	uint64_t durable_sequence; /* blocks up to this one are stable */
	uint64_t records;          /* appended, the open block included */
	uint64_t submitted_records;
};

struct wal_buffer {
	struct log_block *block; /* in memory, block_bytes_max long */
	struct wal_file *file;
	uint64_t offset;
	uint64_t sequence;
	uint64_t appended; /* position behind its last record */
	uint32_t bytes;    /* on disk */
	bool stable;       /* written, perhaps behind a hole */
	bool again;        /* the disk was full: to be written again */
};

struct wal_end {
	struct wal_file *file;
	struct log_block *block; /* LOG_UNIT long */
	uint64_t offset;
	bool submitted, again, stable;
};

struct sto_wal {
	/* set at open */
	struct sto_store *store;
	const struct sto_io *io;
	struct sto_queue *queue;
	struct sto_wal_options options;
	uint8_t *arena; /* all block buffers, one after the other */
	uint64_t arena_bytes;

	/* the shard's own */
	struct wal_file *file; /* current; NULL: none yet */
	struct wal_buffer buffer[WAL_WRITES_MAX + 1];
	uint32_t buffers;
	uint64_t head, tail;
	uint8_t *payload;                    /* of the open block */
	uint32_t payload_bytes, payload_max; /* of the open block; payload_max 0: no open block */
	uint32_t records;                    /* in the open block */
	uint64_t opened_ns;                  /* when its first record came */
	uint64_t appended, durable;
	uint64_t watermark_ms;
	struct wal_end end[WAL_FINISHING_MAX];
	uint64_t end_head, end_tail;
	uint32_t outstanding; /* writes that the queue has */
	bool full;            /* a write found no room; waits to be tried again */
	bool full_told;       /* … and the log says so already */
	uint64_t retry_ns;
	bool unproven;     /* the file's last block has records, and no later block says that it was stable */
	uint64_t quiet_ns; /* since when all of it has been stable; 0: not yet */
	int failed;        /* -errno once the disk failed: nothing becomes durable any more */
	struct sto_wal_stats stats;

	/* housekeeping puts a file in when it is NULL, the shard takes it by exchange */
	_Alignas(64) _Atomic(struct wal_file *) spare;
	_Atomic bool hurry; /* the shard's: its file ends soon, and there is no spare */
	/* the shard writes done[] and done_head, housekeeping done_tail */
	_Alignas(64) _Atomic uint64_t done_head;
	struct wal_file *done[WAL_DONE_MAX];
	_Alignas(64) _Atomic uint64_t done_tail;
};

/* Makes the block at `block` complete: header, checksum, zeros behind the payload. `block->payload_bytes` etc. are set. */
void wal_block_seal(struct log_block *block, const struct wal_file *file, uint64_t offset);

#endif
