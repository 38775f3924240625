/*
 * The sets of log file ids in a struct manifest: those that are done with (sealed, ended empty, left), and those that were made and are
 * not. An id is in at most one of them. For manifest.c, which applies the records.
 *
 * Threads: one at a time on one struct.
 */
#ifndef STORAGE_MANIFEST_LOGS_H
#define STORAGE_MANIFEST_LOGS_H

#include "manifest.h"

/* No id of [from, to) is in the set yet. 0 or -ENOMEM. */
int manifest_sealed_add(struct manifest *manifest, uint64_t from, uint64_t to);
bool manifest_sealed_meets(const struct manifest *manifest, uint64_t from, uint64_t to);

/* Its id is in neither set. 0 or -ENOMEM. */
int manifest_open_add(struct manifest *manifest, const struct manifest_log *log);
/* Also of one that is not there. */
void manifest_open_remove(struct manifest *manifest, uint64_t file_id);
bool manifest_open_meets(const struct manifest *manifest, uint64_t from, uint64_t to);

#endif
