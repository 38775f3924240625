/*
 * A simulated disk behind the io table: everything in memory, every operation counted, crashes and faults at will, all from one
 * seed.
 *
 * Each file has two images: `now`, what programs see, and `stable`, what survives a power failure. A write changes `now` and marks
 * the 512-byte sectors it touched; a sync copies marked sectors to `stable`. Folders work alike: a name that was made, renamed or
 * removed is only `now` until its folder is synced.
 *
 * A crash comes before operation number `crash_at`: from there on every operation fails with -ESHUTDOWN, until sim_restart():
 *   SIM_KILL   the process died: what was written stays, writes in flight have happened in part (any subset of their sectors)
 *   SIM_POWER  and of what was not synced, any subset of sectors, sizes and names has reached the disk
 *
 * The queue completes writes in any order, some late. It checks that a buffer does not change while its write is in flight.
 *
 * Not modelled: a sector torn inside, a disk that lies about a sync, blocks that change places (tests do that by sim_file()).
 *
 * Threads: one.
 */
#ifndef STORAGE_IO_SIM_H
#define STORAGE_IO_SIM_H

#include "io.h"

struct sim_disk;

enum sim_end { SIM_KILL, SIM_POWER };

struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk *disk);
const struct sto_io *sim_disk_io(struct sim_disk *disk);

/* Operations that change something, so far. */
uint64_t sim_operations(const struct sim_disk *disk);
/* The operation with this number and all after it fail until sim_restart(). UINT64_MAX: none. */
void sim_crash_at(struct sim_disk *disk, uint64_t operation);
bool sim_crashed(const struct sim_disk *disk);
/* Ends the run: open files, locks and queues are gone, the disk is as the crash left it. The caller has closed what it had. */
void sim_restart(struct sim_disk *disk, enum sim_end end, uint64_t seed);

/* Operation number `operation` fails once with `error` (a write may have happened in part). */
void sim_fail_at(struct sim_disk *disk, uint64_t operation, int error);
/* Bytes that files may take together before -ENOSPC. */
void sim_space_set(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_space_used(const struct sim_disk *disk);
void sim_clock_set(struct sim_disk *disk, uint64_t now_ms);

/* The bytes of a file as programs see them, to be looked at and spoiled. NULL: no such file. */
uint8_t *sim_file(struct sim_disk *disk, const char *path, uint64_t *bytes);
/* Writes a whole file, synced. */
int sim_file_put(struct sim_disk *disk, const char *path, const void *from, uint64_t bytes);

#endif
