/*
 * Following a log file that another process is still writing, or left unsealed: for answers that must show single events (sessions,
 * flagged clicks, dead letters) within a second, where a rollup table says too little and a segment comes too late.
 *
 * A follower gives each record once, in log order, and remembers where it stopped. It never writes, locks or syncs. What it sees is
 * whole (checksum and chain of each block), and may run ahead of the acknowledgement by the blocks that are being synced just then.
 *
 * A log file may be sealed and recycled at any moment. The file that a follower holds then shows no more blocks, so who needs all of
 * it does as with rollup tables: refresh the reader, follow what is not sealed, refresh again, and start over for files that have
 * been sealed meanwhile.
 *
 * Threads: a follower belongs to one thread at a time.
 */
#ifndef TURNPIKE_FOLLOW_H
#define TURNPIKE_FOLLOW_H

#include "turnpike/reader.h"

struct sto_follow;

/* 0 or -errno; -ENOENT: there is no such file. An empty spare is fine: it may begin any time. */
int sto_follow_open(struct sto_follow **follow, const char *data_dir, uint64_t file_id);
void sto_follow_close(struct sto_follow *follow);

/*
 * Calls fn for each event that was not given yet, and returns how many; or what fn returned if that was not 0 (close the follower
 * then: the rest of that block is not given again); or -EBADMSG: a block whose checksum is right holds malformed records; or -errno.
 */
int64_t sto_follow_next(struct sto_follow *follow, sto_event_fn fn, void *context);

/* The same for who wants dead letters too; returns how many records were given, of both kinds where fns->other is set. */
int64_t sto_follow_records(struct sto_follow *follow, const struct sto_record_fns *fns);

uint64_t sto_follow_file_id(const struct sto_follow *follow);
/* Within fn: where in the file the block begins that holds the record. */
uint64_t sto_follow_offset(const struct sto_follow *follow);

/*
 * The log files of the folder that the reader's last refresh does not call sealed, oldest first; spares are among them. The array is
 * the caller's to free(). 0 or -errno; a folder that is not there yet has none.
 */
int sto_follow_files(const struct sto_reader *reader, const char *data_dir, uint64_t **file_ids, uint32_t *count);

#endif
