/*
 * Log files that the manifest says were made and are not done with, and that are not there as they were made. What was in them nobody
 * knows, so it is for a person to say that they are given up.
 */
#ifndef STORAGE_LOG_LOST_H
#define STORAGE_LOG_LOST_H

#include "io.h"
#include "manifest.h"
#include "turnpike/log_show.h"

/* Calls fn for each such file below data_dir. Returns how many, or -errno. Any thread. */
int log_lost_each(const struct sto_io *io, const char *data_dir, const struct manifest *manifest, sto_log_lost_fn fn,
		  void *context);

/* sto_logs_lost() and sto_log_give_up() on any disk. */
int logs_lost(const struct sto_io *io, const char *data_dir, sto_log_lost_fn fn, void *context);
int log_give_up(const struct sto_io *io, const char *data_dir, uint64_t file_id);

#endif
