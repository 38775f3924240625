/*
 * Asks sysfs about the drive. Cold; any thread. Source: Documentation/ABI/stable/sysfs-block (queue/write_cache, queue/fua).
 */
#include "turnpike/drive.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

enum { RAM_MAJOR = 1, ATTRIBUTE_BYTES = 64 };

const char *sto_drive_cache_name(enum sto_drive_cache cache)
{
	static const char *const name[] = {
		[STO_DRIVE_UNKNOWN] = "unknown",
		[STO_DRIVE_MEMORY] = "memory only",
		[STO_DRIVE_THROUGH] = "write through",
		[STO_DRIVE_BACK] = "write back, flushed after writes",
		[STO_DRIVE_FUA] = "write back, written with FUA",
	};
	return name[cache];
}

/* The first line of folder/name, without its newline. False: it cannot be read. */
static bool attribute(const char *folder, const char *name, char text[ATTRIBUTE_BYTES])
{
	char path[PATH_MAX + 32];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "re");
	bool got = file && fgets(text, ATTRIBUTE_BYTES, file);
	if (file)
		fclose(file);
	if (got)
		text[strcspn(text, "\n")] = 0;
	return got;
}

void sto_drive_read(const char *root, uint32_t major, uint32_t minor, struct sto_drive *drive)
{
	char link[PATH_MAX], folder[PATH_MAX], text[ATTRIBUTE_BYTES];
	*drive = (struct sto_drive){0};
	snprintf(link, sizeof(link), "%s/%u:%u", root, major, minor);
	if (!realpath(link, folder))
		return;
	/* A partition has no queue of its own: its disk is the folder above. */
	bool got = attribute(folder, "queue/write_cache", text);
	if (!got) {
		char *slash = strrchr(folder, '/');
		if (slash)
			*slash = 0;
		got = attribute(folder, "queue/write_cache", text);
	}
	if (!got)
		return;
	const char *slash = strrchr(folder, '/');
	snprintf(drive->device, sizeof(drive->device), "%.31s", slash ? slash + 1 : folder);
	if (major == RAM_MAJOR || !strncmp(drive->device, "zram", 4) || !strncmp(drive->device, "ram", 3))
		drive->cache = STO_DRIVE_MEMORY;
	else if (!strcmp(text, "write through"))
		drive->cache = STO_DRIVE_THROUGH;
	else if (!strcmp(text, "write back"))
		drive->cache = attribute(folder, "queue/fua", text) && !strcmp(text, "1") ? STO_DRIVE_FUA : STO_DRIVE_BACK;
}

int sto_drive_look(const char *path, struct sto_drive *drive)
{
	struct stat st;
	struct statfs fs;
	*drive = (struct sto_drive){0};
	if (stat(path, &st) || statfs(path, &fs))
		return -errno;
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		drive->cache = STO_DRIVE_MEMORY;
	else
		sto_drive_read("/sys/dev/block", major(st.st_dev), minor(st.st_dev), drive);
	return 0;
}
