/*
 * A drive with a volatile write cache, for tests of power failures: one file, served through /dev/fuse, on which a loop device and a real
 * file system are put. So the real kernel's journal, its barriers, O_DIRECT, O_DSYNC and io_uring of the program under test all count.
 *
 *   program ─ ext4 ─ loop device ─ FUSE ─ this process:   written  ─ flush, or a write with O_DSYNC ─►  stable (the image file)
 *                                                         volatile, by sectors of 512 bytes
 *
 *   volatile_disk [--lie] IMAGE FILE     IMAGE: bytes on stable storage, made by the caller; FILE: an empty file, mounted over
 *
 * Commands on standard input, a line each; answers on standard output:
 *   lose SEED    the power fails: of the sectors that were written and not flushed since, a random part becomes stable (none, some or
 *                all, by the seed), the rest is gone, and from now on nothing is read or written. "lost N of M sectors"
 *   end of file  unmounts and ends
 * --lie: flushes report success and do nothing, as a broken drive does. Whoever proves that acknowledged data survives must notice.
 *
 * A sector that is written again before it was flushed may have reached the medium in between: half of them do.
 *
 * The protocol is spoken without a library, there is so little of it: linux/fuse.h, and Documentation/filesystems/fuse.rst. One thread.
 * As root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SECTOR_BYTES = 512, WRITE_BYTES_MAX = 1 << 20, REQUEST_BYTES = WRITE_BYTES_MAX + 8192, PAGES_MAX = 256 };

struct disk {
	int fuse;
	uint64_t bytes;
	uint8_t *written;  /* what a program reads: a private mapping of the image */
	uint8_t *stable;   /* the image */
	uint8_t *dirty;    /* a byte a sector: written, and not flushed since */
	uint32_t *waiting; /* the sectors that are */
	uint32_t waitings;
	uint64_t random;
	bool lies, dead;
};

static uint64_t dice(struct disk *disk, uint64_t sides)
{
	uint64_t z = disk->random += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % sides;
}

static void destage(struct disk *disk, uint64_t sector)
{
	memcpy(disk->stable + sector * SECTOR_BYTES, disk->written + sector * SECTOR_BYTES, SECTOR_BYTES);
}

/* All that is volatile becomes stable. */
static void flush(struct disk *disk)
{
	for (uint32_t i = 0; i < disk->waitings && !disk->lies; i++) {
		destage(disk, disk->waiting[i]);
		disk->dirty[disk->waiting[i]] = 0;
	}
	disk->waitings = disk->lies ? disk->waitings : 0;
}

static void lose(struct disk *disk, uint64_t seed)
{
	disk->random = seed;
	/* Nothing survives, everything does, or some: all are drives that there are. */
	static const uint32_t percents[] = {0, 10, 50, 90, 100};
	uint32_t percent = disk->lies ? 0 : percents[dice(disk, sizeof(percents) / sizeof(percents[0]))], lost = 0;
	for (uint32_t i = 0; i < disk->waitings; i++) {
		if (dice(disk, 100) < percent)
			destage(disk, disk->waiting[i]);
		else
			lost++;
	}
	disk->dead = true;
	printf("lost %u of %u sectors\n", lost, disk->waitings);
	fflush(stdout);
}

static int disk_write(struct disk *disk, const struct fuse_write_in *in, const uint8_t *from)
{
	if (disk->dead)
		return -EIO;
	if (in->offset % SECTOR_BYTES || in->size % SECTOR_BYTES || in->offset > disk->bytes || in->size > disk->bytes - in->offset)
		return -EINVAL;
	for (uint32_t done = 0; done < in->size; done += SECTOR_BYTES) {
		uint64_t sector = (in->offset + done) / SECTOR_BYTES;
		if (disk->dirty[sector] && dice(disk, 2))
			destage(disk, sector);
		memcpy(disk->written + sector * SECTOR_BYTES, from + done, SECTOR_BYTES);
		if (!disk->dirty[sector])
			disk->waiting[disk->waitings++] = (uint32_t)sector;
		disk->dirty[sector] = 1;
	}
	/* A drive that writes through takes the rest along; that is allowed. */
	if (in->flags & (O_DSYNC | O_SYNC))
		flush(disk);
	return 0;
}

/* ---- the protocol ---- */

static void reply(const struct disk *disk, const struct fuse_in_header *in, int error, const void *body, size_t bytes)
{
	struct fuse_out_header out = {.len = (uint32_t)(sizeof(out) + (error ? 0 : bytes)), .error = error, .unique = in->unique};
	const struct iovec parts[2] = {{&out, sizeof(out)}, {(void *)(uintptr_t)body, error ? 0 : bytes}};
	/* ENOENT: the request was given up meanwhile. */
	if (writev(disk->fuse, parts, 2) < 0 && errno != ENOENT)
		perror("volatile_disk: /dev/fuse");
}

static void attributes(const struct disk *disk, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr){.ino = FUSE_ROOT_ID,
				   .size = disk->bytes,
				   .blocks = disk->bytes / SECTOR_BYTES,
				   .mode = S_IFREG | 0600,
				   .nlink = 1,
				   .blksize = 4096};
}

static void init_answer(const struct disk *disk, const struct fuse_in_header *in, const struct fuse_init_in *wanted)
{
	const struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
					  .minor = wanted->minor < FUSE_KERNEL_MINOR_VERSION ? wanted->minor
											     : FUSE_KERNEL_MINOR_VERSION,
					  .max_readahead = wanted->max_readahead,
					  .flags = wanted->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_ASYNC_READ),
					  .max_background = 64,
					  .congestion_threshold = 48,
					  .max_write = WRITE_BYTES_MAX,
					  .time_gran = 1,
					  .max_pages = PAGES_MAX};
	reply(disk, in, 0, &out, sizeof(out));
}

/* False: the file system was unmounted. */
static bool answer(struct disk *disk, const struct fuse_in_header *in, const void *body)
{
	switch (in->opcode) {
	case FUSE_INIT:
		init_answer(disk, in, body);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR: { /* times; the size is what it is */
		struct fuse_attr_out out = {.attr_valid = 3600};
		attributes(disk, &out.attr);
		reply(disk, in, 0, &out, sizeof(out));
		break;
	}
	case FUSE_OPEN: {
		/* Each read and write comes to us as it was asked for, past the page cache. */
		const struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};
		reply(disk, in, 0, &out, sizeof(out));
		break;
	}
	case FUSE_READ: {
		const struct fuse_read_in *read_in = body;
		uint64_t left = read_in->offset < disk->bytes ? disk->bytes - read_in->offset : 0;
		reply(disk, in, disk->dead ? -EIO : 0, disk->written + read_in->offset,
		      read_in->size < left ? read_in->size : left);
		break;
	}
	case FUSE_WRITE: {
		const struct fuse_write_in *write_in = body;
		const struct fuse_write_out out = {.size = write_in->size};
		reply(disk, in, disk_write(disk, write_in, (const uint8_t *)(write_in + 1)), &out, sizeof(out));
		break;
	}
	case FUSE_FSYNC:
		if (!disk->dead)
			flush(disk);
		reply(disk, in, disk->dead ? -EIO : 0, NULL, 0);
		break;
	case FUSE_STATFS: {
		const struct fuse_statfs_out out = {.st = {.bsize = 4096, .frsize = 4096, .namelen = 255}};
		reply(disk, in, 0, &out, sizeof(out));
		break;
	}
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_ACCESS:
		reply(disk, in, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break; /* no answer is wanted */
	case FUSE_DESTROY:
		reply(disk, in, 0, NULL, 0);
		return false;
	default:
		reply(disk, in, -ENOSYS, NULL, 0);
	}
	return true;
}

static int serve(struct disk *disk)
{
	uint8_t *request = malloc(REQUEST_BYTES);
	char line[64];
	struct pollfd wait[2] = {{.fd = disk->fuse, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
	while (request && poll(wait, 2, -1) >= 0) {
		if (wait[1].revents) {
			unsigned long long seed;
			if (!fgets(line, sizeof(line), stdin))
				break;
			if (sscanf(line, "lose %llu", &seed) == 1)
				lose(disk, seed);
		}
		if (!wait[0].revents)
			continue;
		ssize_t got = read(disk->fuse, request, REQUEST_BYTES);
		if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (got < (ssize_t)sizeof(struct fuse_in_header)) /* ENODEV: unmounted */
			break;
		const struct fuse_in_header *in = (const struct fuse_in_header *)(const void *)request;
		if (!answer(disk, in, in + 1))
			break;
	}
	free(request);
	return 0;
}

static int fail(const char *what)
{
	fprintf(stderr, "volatile_disk: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int arguments, char **argument)
{
	struct disk disk = {.lies = arguments == 4 && !strcmp(argument[1], "--lie")};
	struct stat st;
	char options[96];
	if (arguments != 3 + disk.lies) {
		fprintf(stderr, "usage: volatile_disk [--lie] IMAGE FILE\n");
		return 2;
	}
	const char *image = argument[1 + disk.lies], *place = argument[2 + disk.lies];
	int fd = open(image, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return fail(image);
	disk.bytes = (uint64_t)st.st_size / SECTOR_BYTES * SECTOR_BYTES;
	disk.stable = mmap(NULL, disk.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	/* A page of it that was written to stays as it is, whatever becomes of the image; one that was not shows the image. */
	disk.written = mmap(NULL, disk.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	disk.dirty = calloc(disk.bytes / SECTOR_BYTES + 1, 1);
	disk.waiting = calloc(disk.bytes / SECTOR_BYTES + 1, sizeof(*disk.waiting));
	if (disk.stable == MAP_FAILED || disk.written == MAP_FAILED || !disk.dirty || !disk.waiting)
		return fail("memory");
	disk.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (disk.fuse < 0)
		return fail("/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other", disk.fuse, S_IFREG | 0600);
	if (mount("volatile_disk", place, "fuse", MS_NOSUID | MS_NODEV, options))
		return fail(place);
	printf("ready\n");
	fflush(stdout);
	int rc = serve(&disk);
	umount2(place, MNT_DETACH);
	close(disk.fuse);
	return rc;
}
