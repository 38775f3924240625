/*
 * Looking into a write-ahead log file, block by block, for people: what is there, in which state, and where it is damaged. Reads
 * only, needs no lock, and takes a file that is being written as it finds it. Any thread.
 */
#ifndef TURNPIKE_LOG_SHOW_H
#define TURNPIKE_LOG_SHOW_H

#include "turnpike/store.h"

enum sto_block_state {
	STO_BLOCK_GOOD,    /* of the provable prefix */
	STO_BLOCK_DAMAGED, /* a header of this file, but the checksum is wrong: damaged, or never finished */
	STO_BLOCK_MISSING, /* the prefix ends here, and there is no header of this file */
	STO_BLOCK_BEYOND,  /* whole, behind the end of the prefix */
};
const char *sto_block_state_name(enum sto_block_state state); /* "good", "damaged", "missing", "beyond" */

struct sto_log_block {
	enum sto_block_state state;
	const char *kind; /* "file", "events", "end", "witness" (events without any), "" when missing */
	uint64_t offset;
	uint32_t bytes, payload_bytes, records;
	uint64_t sequence, first_record, watermark_ms, durable_sequence;
};

struct sto_log_summary {
	struct sto_log_facts facts;
	uint64_t bytes;      /* of the file */
	const char *made;    /* "reserved", "filled", "recycled" */
	const char *state;   /* "ended", "open", "empty", "damaged" */
	uint64_t proven;     /* the highest durable_sequence that any whole block tells */
	uint64_t unreadable; /* when damaged: sequence of the first block that is not readable, and where it should be */
	uint64_t unreadable_at;
};

typedef void (*sto_log_block_fn)(void *context, const struct sto_log_block *block);

/*
 * Goes through the file at `path`. The file id is taken from the name (<16 hex digits>.log), else from the first block. fn may be
 * NULL. 0; -EINVAL: this is no log file; other -errno.
 */
int sto_log_show(const char *path, sto_log_block_fn fn, void *context, struct sto_log_summary *summary);

/* found: "missing", or what is there in its place. */
typedef void (*sto_log_lost_fn)(void *context, uint64_t file_id, uint32_t shard, const char *found);

/*
 * Log files that the manifest says were made and are not done with, and that are not there as they were made: a start is refused then,
 * because they may hold acknowledged events. fn may be NULL. Returns how many, or -errno. Also of a running node.
 */
int sto_logs_lost(const char *data_dir, sto_log_lost_fn fn, void *context);

/*
 * Puts on record that this log file, which is missing, is not waited for any more. For a stopped node. -EBUSY: it runs; -EINVAL: no such
 * file was made, or it is done with; -EEXIST: a file of that name is there; -EAGAIN: the manifest has a torn end, which the next start
 * cuts off; -EBADMSG: the manifest is damaged; other -errno.
 */
int sto_log_give_up(const char *data_dir, uint64_t file_id);

#endif
