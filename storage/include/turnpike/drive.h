/*
 * What lies under the data folder, as far as the kernel tells: so that "durable" means what the operator thinks it means.
 *
 * Each log block is one O_DIRECT write, stable when it is done. What that costs, and what it is worth, depends on the drive's cache:
 *
 *   write through          no volatile cache, or one that a battery or capacitors keep: a completed write is stable; DSYNC costs nothing
 *   write back, with FUA   the kernel sends the write with "force unit access": only this block passes through the cache
 *   write back, no FUA     the whole cache is flushed, once for all blocks that were written since the last flush began
 *
 * What a drive does behind its answers cannot be seen from here. A drive that says "write through" and loses data at a power failure
 * cannot be helped; neither can a hypervisor that ignores flushes.
 */
#ifndef TURNPIKE_DRIVE_H
#define TURNPIKE_DRIVE_H

#include <stdbool.h>
#include <stdint.h>

enum sto_drive_cache {
	STO_DRIVE_UNKNOWN, /* no single block device (a network or stacked file system): whether a sync reaches a disk is for that to say */
	STO_DRIVE_MEMORY,  /* tmpfs, ramfs, zram, a RAM disk: nothing outlives the power */
	STO_DRIVE_THROUGH, /* "write through" */
	STO_DRIVE_BACK,    /* "write back", must be flushed */
	STO_DRIVE_FUA,     /* "write back", with FUA */
};
const char *sto_drive_cache_name(enum sto_drive_cache cache); /* for people */

struct sto_drive {
	enum sto_drive_cache cache;
	char device[32]; /* "nvme0n1", "vda"; "" when unknown */
};

/* Of the file system that `path` lies on. 0 or -errno. */
int sto_drive_look(const char *path, struct sto_drive *drive);
/* The same for a device number, below `root` instead of /sys/dev/block. */
void sto_drive_read(const char *root, uint32_t major, uint32_t minor, struct sto_drive *drive);

#endif
