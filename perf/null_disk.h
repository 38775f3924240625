/*
 * A disk that keeps nothing: what the store asks for once null_disk_begin() was called succeeds at once, and each block of the log is
 * done by the next reap. Shows what the code in front of a disk costs. For benchmarks only.
 */
#ifndef PERF_NULL_DISK_H
#define PERF_NULL_DISK_H

#include "../storage/io.h"

/* The system's table, as a store wants it that is to be opened before null_disk_begin(). One at a time. */
const struct sto_io *null_disk_io(void);
/* From now on nothing is written any more. Before a log is opened. */
void null_disk_begin(void);

#endif
