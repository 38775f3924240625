/*
 * The io table by plain system calls, and the log's write queue without io_uring: one pwritev2(RWF_DSYNC) at a time. The queue is
 * the stand-in where io_uring is forbidden (seccomp in containers, sysctl io_uring_disabled); correct, but the shard waits for
 * the disk.
 *
 * Threads: any. The queue: its owner.
 */
#include "io.h"

#include "turnpike/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int system_open(const struct sto_io *io, const char *path, int flags, uint32_t mode)
{
	(void)io;
	int fd;
	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static void system_close(const struct sto_io *io, int fd)
{
	(void)io;
	close(fd);
}

static int64_t system_read(const struct sto_io *io, int fd, void *to, uint64_t bytes, uint64_t offset)
{
	(void)io;
	uint64_t done = 0;
	while (done < bytes) {
		ssize_t got = pread(fd, (char *)to + done, bytes - done, (off_t)(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		done += (uint64_t)got;
	}
	return (int64_t)done;
}

static void system_prefetch(const struct sto_io *io, int fd, uint64_t bytes, uint64_t offset)
{
	(void)io;
	posix_fadvise(fd, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
}

static int system_write(const struct sto_io *io, int fd, const void *from, uint64_t bytes, uint64_t offset)
{
	(void)io;
	uint64_t done = 0;
	while (done < bytes) {
		ssize_t put = pwrite(fd, (const char *)from + done, bytes - done, (off_t)(offset + done));
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		if (put == 0)
			return -EIO;
		done += (uint64_t)put;
	}
	return 0;
}

static int system_allocate(const struct sto_io *io, int fd, uint64_t bytes)
{
	(void)io;
	int rc;
	do
		rc = fallocate(fd, 0, 0, (off_t)bytes);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int system_truncate(const struct sto_io *io, int fd, uint64_t bytes)
{
	(void)io;
	return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int system_sync(const struct sto_io *io, int fd)
{
	(void)io;
	/* A data sync: it also writes the size, and whatever else is needed to read the data back. */
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int system_size(const struct sto_io *io, int fd, uint64_t *bytes)
{
	(void)io;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int system_identity(const struct sto_io *io, const char *path, int fd, uint64_t id[2])
{
	(void)io;
	struct stat st;
	if ((path ? stat(path, &st) : fstat(fd, &st)) < 0)
		return -errno;
	id[0] = st.st_dev;
	id[1] = st.st_ino;
	return 0;
}

static int system_lock(const struct sto_io *io, int fd)
{
	(void)io;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static int system_rename(const struct sto_io *io, const char *from, const char *to)
{
	(void)io;
	return rename(from, to) < 0 ? -errno : 0;
}

static int system_unlink(const struct sto_io *io, const char *path)
{
	(void)io;
	return unlink(path) < 0 ? -errno : 0;
}

static int system_mkdir(const struct sto_io *io, const char *path, uint32_t mode)
{
	(void)io;
	struct stat st;
	if (mkdir(path, mode) == 0)
		return 1;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int system_sync_folder(const struct sto_io *io, const char *path)
{
	(void)io;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int system_list(const struct sto_io *io, const char *path, sto_name_fn fn, void *context)
{
	(void)io;
	DIR *folder = opendir(path);
	if (!folder)
		return -errno;
	int rc = 0;
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(folder);
		if (!entry) {
			rc = -errno;
			break;
		}
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		rc = fn(context, entry->d_name);
		if (rc)
			break;
	}
	closedir(folder);
	return rc;
}

static int system_map(const struct sto_io *io, int fd, uint64_t bytes, const uint8_t **base)
{
	(void)io;
	void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*base = at;
	return 0;
}

static void system_unmap(const struct sto_io *io, const uint8_t *base, uint64_t bytes)
{
	(void)io;
	munmap((void *)(uintptr_t)base, bytes);
}

static void system_fetch(const struct sto_io *io, const uint8_t *at, uint64_t bytes)
{
	(void)io;
	const uintptr_t page = (uintptr_t)at & ~(uintptr_t)4095;
	madvise((void *)page, (uintptr_t)at + bytes - page, MADV_WILLNEED);
}

static int system_random(const struct sto_io *io, void *to, uint64_t bytes)
{
	(void)io;
	for (uint64_t done = 0; done < bytes;) {
		ssize_t got = getrandom((char *)to + done, bytes - done, 0);
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0)
			done += (uint64_t)got;
	}
	return 0;
}

static uint64_t system_now_ms(const struct sto_io *io)
{
	(void)io;
	return tp_now_ms();
}

static int system_queue_open(const struct sto_io *io, void *buffers, uint64_t buffer_bytes, uint32_t depth,
			     struct sto_queue **queue)
{
	(void)io;
	return sto_queue_uring_open(buffers, buffer_bytes, depth, STO_STABLE_ASK, queue);
}

const struct sto_io *sto_io_system(void)
{
	static const struct sto_io system = {
		.open = system_open,
		.close = system_close,
		.read = system_read,
		.prefetch = system_prefetch,
		.write = system_write,
		.allocate = system_allocate,
		.truncate = system_truncate,
		.sync = system_sync,
		.size = system_size,
		.identity = system_identity,
		.lock = system_lock,
		.rename = system_rename,
		.unlink = system_unlink,
		.mkdir = system_mkdir,
		.sync_folder = system_sync_folder,
		.list = system_list,
		.map = system_map,
		.unmap = system_unmap,
		.fetch = system_fetch,
		.random = system_random,
		.now_ms = system_now_ms,
		.queue_open = system_queue_open,
		.reads_open = sto_reads_uring_open,
	};
	return &system;
}

/* ---- the queue without io_uring ---- */

struct sync_queue {
	struct sto_queue queue;
	int event_fd; /* readable while done[] is not empty */
	uint32_t depth, count;
	struct sto_done done[];
};

static int sync_queue_attach(struct sto_queue *queue, int fd)
{
	(void)queue;
	return fd;
}

static void sync_queue_detach(struct sto_queue *queue, int handle)
{
	(void)queue;
	(void)handle;
}

static int sync_queue_write(struct sto_queue *queue, int fd, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct sync_queue *q = (struct sync_queue *)queue;
	if (q->count == q->depth)
		return -EBUSY;
	struct iovec piece = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
	ssize_t put;
	do
		put = pwritev2(fd, &piece, 1, (off_t)offset, RWF_DSYNC);
	while (put < 0 && errno == EINTR);
	q->done[q->count++] = (struct sto_done){.tag = tag, .result = put < 0 ? -errno : (int32_t)put};
	uint64_t one = 1;
	return write(q->event_fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

static int sync_queue_reap(struct sto_queue *queue, struct sto_done *done, uint32_t max)
{
	struct sync_queue *q = (struct sync_queue *)queue;
	uint32_t count = q->count < max ? q->count : max;
	if (!count)
		return 0;
	memcpy(done, q->done, count * sizeof(*done));
	memmove(q->done, q->done + count, (q->count - count) * sizeof(*done));
	q->count -= count;
	uint64_t sum;
	if (!q->count && read(q->event_fd, &sum, sizeof(sum)) != sizeof(sum))
		return -errno;
	return (int)count;
}

static bool sync_queue_waiting(const struct sto_queue *queue)
{
	(void)queue;
	return false;
}

static int sync_queue_fd(const struct sto_queue *queue)
{
	return ((const struct sync_queue *)queue)->event_fd;
}

static void sync_queue_close(struct sto_queue *queue)
{
	close(((struct sync_queue *)queue)->event_fd);
	free(queue);
}

int sto_queue_sync_open(uint32_t depth, struct sto_queue **queue)
{
	static const struct sto_queue_ops ops = {.attach = sync_queue_attach,
						 .detach = sync_queue_detach,
						 .write = sync_queue_write,
						 .reap = sync_queue_reap,
						 .waiting = sync_queue_waiting,
						 .fd = sync_queue_fd,
						 .close = sync_queue_close};
	struct sync_queue *q = calloc(1, sizeof(*q) + depth * sizeof(q->done[0]));
	if (!q)
		return -ENOMEM;
	q->queue.ops = &ops;
	q->depth = depth;
	q->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->event_fd < 0) {
		int rc = -errno;
		free(q);
		return rc;
	}
	*queue = &q->queue;
	return 0;
}
