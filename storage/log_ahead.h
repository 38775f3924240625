/*
 * A file read from front to back, fetched ahead of where it is looked at: a ring of pieces, several of them on their way. One thread.
 */
#ifndef STORAGE_LOG_AHEAD_H
#define STORAGE_LOG_AHEAD_H

#include "io.h"

struct log_ahead;

/* The file at `path`, of so many bytes, not 0; `fd` is the same file, the caller's, open for as long. 0 or -errno. */
int log_ahead_open(struct log_ahead **ahead, const struct sto_io *io, const char *path, int fd, uint64_t bytes);
void log_ahead_close(struct log_ahead *ahead); /* NULL does nothing */

/*
 * Where bytes [offset, offset + bytes) of the file lie in memory, until the next call. Offsets never fall. NULL with *rc 0: not side by side
 * (log_ahead_copy() has them); -E2BIG: more than the ring holds; -ENODATA: the file is shorter than it was; or -errno of the read.
 */
const uint8_t *log_ahead_look(struct log_ahead *ahead, uint64_t offset, uint64_t bytes, int *rc);

/* The same, copied from both ends of the ring. 0 or such an error. */
int log_ahead_copy(struct log_ahead *ahead, void *to, uint64_t offset, uint64_t bytes);

/* How many bytes from `offset` on lie in one piece: so many log_ahead_look() finds side by side. Not 0. */
uint64_t log_ahead_span(const struct log_ahead *ahead, uint64_t offset);

#endif
