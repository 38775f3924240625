/*
 * See null_disk.h. The manifest and the lock are real files, so that a store opens as always; from null_disk_begin() on log files are
 * empty ones, and their blocks go nowhere. The queue belongs to the shard's thread, like the real ones.
 */
#include "null_disk.h"

#include <stdlib.h>

enum { IN_FLIGHT_MAX = 256 }; /* a power of two, above what any log has in flight */

struct null_queue {
	struct sto_queue queue;
	uint32_t started, reaped;
	struct sto_done done[IN_FLIGHT_MAX];
};

static int null_attach(struct sto_queue *queue, int fd)
{
	(void)queue;
	return fd;
}

static void null_detach(struct sto_queue *queue, int handle)
{
	(void)queue, (void)handle;
}

static int null_write(struct sto_queue *queue, int handle, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct null_queue *null = (struct null_queue *)queue;
	(void)handle, (void)from, (void)offset;
	if (null->started - null->reaped == IN_FLIGHT_MAX)
		return -EBUSY;
	null->done[null->started++ % IN_FLIGHT_MAX] = (struct sto_done){.tag = tag, .result = (int32_t)bytes};
	return 0;
}

static int null_reap(struct sto_queue *queue, struct sto_done *done, uint32_t max)
{
	struct null_queue *null = (struct null_queue *)queue;
	uint32_t count = 0;
	while (count < max && null->reaped != null->started)
		done[count++] = null->done[null->reaped++ % IN_FLIGHT_MAX];
	return (int)count;
}

static bool null_waiting(const struct sto_queue *queue)
{
	(void)queue;
	return false;
}

static int null_fd(const struct sto_queue *queue)
{
	(void)queue;
	return -1;
}

static void null_close(struct sto_queue *queue)
{
	free(queue);
}

static int null_queue_open(const struct sto_io *io, void *buffers, uint64_t buffer_bytes, uint32_t depth, struct sto_queue **queue)
{
	static const struct sto_queue_ops ops = {.attach = null_attach,
						 .detach = null_detach,
						 .write = null_write,
						 .reap = null_reap,
						 .waiting = null_waiting,
						 .fd = null_fd,
						 .close = null_close};
	(void)io, (void)buffers, (void)buffer_bytes;
	struct null_queue *null = depth < IN_FLIGHT_MAX ? calloc(1, sizeof(*null)) : NULL;
	if (!null)
		return -ENOMEM;
	null->queue.ops = &ops;
	*queue = &null->queue;
	return 0;
}

static int null_file_write(const struct sto_io *io, int fd, const void *from, uint64_t bytes, uint64_t offset)
{
	(void)io, (void)fd, (void)from, (void)bytes, (void)offset;
	return 0;
}

static int null_allocate(const struct sto_io *io, int fd, uint64_t bytes)
{
	(void)io, (void)fd, (void)bytes;
	return 0;
}

static int null_sync(const struct sto_io *io, int fd)
{
	(void)io, (void)fd;
	return 0;
}

static int null_sync_folder(const struct sto_io *io, const char *path)
{
	(void)io, (void)path;
	return 0;
}

static struct sto_io disk;

const struct sto_io *null_disk_io(void)
{
	disk = *sto_io_system();
	return &disk;
}

void null_disk_begin(void)
{
	disk.write = null_file_write;
	disk.allocate = null_allocate;
	disk.sync = null_sync;
	disk.sync_folder = null_sync_folder;
	disk.queue_open = null_queue_open;
}
