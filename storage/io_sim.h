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
 * And a disk that is broken in ways that only checksums find: one operation lies (sim_lie_at), a read fails or brings a flipped bit
 * (sim_read_fault_at). Not modelled: a sector torn inside, which no disk does that keeps its own error-correcting code.
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
/* How a write may lie: it reports success, is stable, and yet … */
enum sim_lie {
	SIM_LOST,        /* nothing was written */
	SIM_TORN,        /* some of its sectors were */
	SIM_MISDIRECTED, /* it went to another place of the file */
	SIM_DUPLICATED,  /* it went to another place as well */
	SIM_FLIPPED,     /* one bit is wrong */
	SIM_LIES
};
/* Operation number `operation`, if it is a write, lies so. */
void sim_lie_at(struct sim_disk *disk, uint64_t operation, enum sim_lie lie);
/* Read number `read` (see sim_reads()) fails with `error`, or with 0 brings one flipped bit. Mapping a file is a read, too. */
void sim_read_fault_at(struct sim_disk *disk, uint64_t read, int error);
uint64_t sim_reads(const struct sim_disk *disk);
/* True once a lie or a read fault that was asked for has happened. */
bool sim_faulted(const struct sim_disk *disk);
/* Of 100 chances that a write in flight has to complete, how many it takes; 66 unless told. */
void sim_speed_set(struct sim_disk *disk, uint32_t percent);

/* Bytes that files may take together before -ENOSPC. */
void sim_space_set(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_space_used(const struct sim_disk *disk);
void sim_clock_set(struct sim_disk *disk, uint64_t now_ms);

/* The bytes of a file as programs see them, to be looked at and spoiled. NULL: no such file. */
uint8_t *sim_file(struct sim_disk *disk, const char *path, uint64_t *bytes);
/* Of all names and bytes as programs see them: equal for two runs that wrote the same. */
uint64_t sim_digest(const struct sim_disk *disk);
/* Writes a whole file, synced. */
int sim_file_put(struct sim_disk *disk, const char *path, const void *from, uint64_t bytes);

#endif
