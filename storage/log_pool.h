/*
 * Log files that are sealed and may be written over: recycled, a new file needs no zero-filling, no new extents and no journal
 * commits but one rename.
 *
 * Recycling file F into file N, and what a crash leaves after each step:
 *
 *   manifest: F is sealed (synced)      F.log is dead: whatever is in it, the next start removes it
 *   F.log gets N's file block, synced   the same: the name says F, and F is sealed
 *   rename to N.log, folder synced      N.log is an empty log file with a good file block, which nobody uses yet
 *   manifest: N is open (synced)        N.log may be written to, and must not be missing
 *
 * So the manifest record that publishes F's segment (or F's empty end) is the commit point of F's recycling, and no name ever stands for a file whose first block is another's. F's old blocks stay in N.log behind what N writes.
 * They cannot be taken for N's: their file id, salt and thus checksum are F's, and ids are never given out twice.
 *
 * Threads: any; a mutex of its own.
 */
#ifndef STORAGE_LOG_POOL_H
#define STORAGE_LOG_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct sto_store;

enum { LOG_POOL_MAX = 32 };

struct log_pool {
	pthread_mutex_t lock;
	uint64_t file_id[LOG_POOL_MAX]; /* sealed, the file still there under its name */
	uint32_t count;
	uint32_t max; /* one per log writer */
	/* files that were reserved only, and that a shard has written to the end since: the last ones. 0: none */
	uint64_t written[LOG_POOL_MAX];
	uint32_t written_next;
};

/* Takes a sealed file into the pool instead of its removal. False: it is full, remove the file. */
bool log_pool_offer(struct sto_store *store, uint64_t file_id);
/* A file to be recycled, the caller's now; 0: none. */
uint64_t log_pool_take(struct sto_store *store);
/* A file that had only been reserved has been written to its end: no part of it wants a journal commit any more. */
void log_pool_written(struct log_pool *pool, uint64_t file_id);
bool log_pool_is_written(struct log_pool *pool, uint64_t file_id);
/* Removes the pool's files. Returns how many there were. */
uint32_t log_pool_drop(struct sto_store *store);

#endif
