/*
 * Reading a log file to the end of its provable prefix. See log_format.h for the rules.
 */
#ifndef STORAGE_LOG_READ_H
#define STORAGE_LOG_READ_H

#include "io.h"
#include "manifest.h"
#include "turnpike/follow.h"
#include "turnpike/store.h"

enum log_state {
	LOG_OPEN,    /* ends without an end block: a crash, or still being written */
	LOG_ENDED,   /* has its end block */
	LOG_NOTHING, /* no good file block, and nothing else in it either: its creation was cut short */
};

/*
 * Reads the file at `path`, which must belong to log file `file_id`. `stabilise` syncs it first: what this pass finds is then
 * acted upon, and must not be lost by a power failure later (a killed process may leave blocks in the page cache or in the
 * drive's). fn may be NULL. Returns 0, what fn returned, -EBADMSG on damage (logged), or -errno. *state may be NULL.
 */
int log_scan(const struct sto_io *io, const char *path, uint64_t file_id, bool stabilise, sto_event_fn fn, void *context,
	     struct sto_log_facts *facts, enum log_state *state);

/* The same for who wants dead letters too. `fns` is not NULL, any of its functions may be. */
int log_scan_records(const struct sto_io *io, const char *path, uint64_t file_id, bool stabilise, const struct sto_record_fns *fns,
		     struct sto_log_facts *facts, enum log_state *state);

/*
 * A quick look: is there a good block with records right behind the first? Then the file is not empty, and reading it to its end can wait.
 * 1, 0 (it may be empty, damaged, or anything else: log_scan() tells), or -errno.
 */
int log_begun(const struct sto_io *io, const char *path, uint64_t file_id);

/* See sto_log_size(). */
int log_size(const struct sto_io *io, const char *path, uint64_t file_id, bool closely, struct sto_log_size *size);

/* What its file block says. 1; 0, and zeros: it has none that is readable (log_scan() tells whether that is damage); or -errno. */
int log_birth(const struct sto_io *io, const char *path, uint64_t file_id, struct manifest_log *birth);

/* sto_follow_open() of any path and disk. */
int log_follow_open(struct sto_follow **follow, const struct sto_io *io, const char *path, uint64_t file_id);

#endif
