/*
 * The log's write queue through io_uring: each block is a write from a registered buffer to a registered file. A write is done when the block is
 * stable. How it becomes that depends on the drive (turnpike/drive.h), asked for when the first file is attached:
 *
 *   each for itself   RWF_DSYNC. On a drive without a volatile cache, or with FUA, the interrupt completes the write. Also where the drive
 *                     cannot be known.
 *   together          On a drive whose cache must be flushed, RWF_DSYNC makes the kernel flush after each write, from a worker that it
 *                     binds to the CPU that took the interrupt. If that is a busy shard's CPU, the worker waits there for a time slice:
 *                     4 ms of a block's way. So blocks are written without it, and those that are written meanwhile share a flush, which
 *                     a worker of io_uring's does wherever a CPU is free.
 *
 *   FREE ─ write() ─► WRITING ─ completion ─► WRITTEN ─ fdatasync started ─► FLUSHING ─ completion ─► DONE ─ reap() ─► FREE
 *                        └─ each for itself, failed or in part ──────────────────────────────────────►┘
 *
 * A flush covers what was WRITTEN to its file before it started, and nothing else; a file has one on its way at a time. One that fails fails all
 * that it covers.
 *
 * The ring is made by the thread that opens and used by the shard's thread, one after the other: so neither SINGLE_ISSUER nor
 * DEFER_TASKRUN. COOP_TASKRUN stays off too: with it a completion would need a system call to become visible, while now the
 * kernel puts it into the ring by itself and a busy shard finds it with one load. A sleeping shard polls the ring's descriptor.
 */
#include "io.h"

#include "turnpike/drive.h"
#include "turnpike/log.h"

#include <assert.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

enum { SLOTS = 32, SLOT_FLAG = 1 << 30 }; /* a handle at or above the flag is a slot, below it a descriptor */
enum { WRITES_MAX = 128 };

#define FLUSH_FLAG (1ULL << 32) /* of an entry's user data: a flush of the handle in its lower half; else the index of a write */

enum write_state { WRITE_FREE, WRITE_WRITING, WRITE_WRITTEN, WRITE_FLUSHING, WRITE_DONE };

struct uring_write {
	uint64_t tag;
	int32_t result;
	int handle;
	enum write_state state;
};

struct uring_queue {
	struct sto_queue queue;
	struct io_uring ring;
	bool registered;
	bool attached;          /* a file has been: `stable` stands */
	enum sto_stable stable; /* each for itself or together */
	_Atomic uint64_t slots; /* of registered files, a bit each; all set: none can be registered */
	bool unsubmitted;       /* the kernel had no room: submit again at the next call */
	uint32_t depth;
	uint32_t written, done; /* writes in these states */
	struct uring_write write[WRITES_MAX];
};

/* The kernel may be short of memory or of completion room for a moment: the entries stay queued and go with the next call. */
static int uring_submit(struct uring_queue *q)
{
	int rc = io_uring_submit(&q->ring);
	q->unsubmitted = io_uring_sq_ready(&q->ring) != 0;
	if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
		return rc;
	return 0;
}

/* The first file is attached before the shard runs. */
static void stable_choose(struct uring_queue *q, int fd)
{
	struct stat st;
	struct sto_drive drive = {0};
	if (q->attached)
		return;
	q->attached = true;
	if (q->stable != STO_STABLE_ASK)
		return;
	if (fstat(fd, &st) == 0)
		sto_drive_read("/sys/dev/block", major(st.st_dev), minor(st.st_dev), &drive);
	q->stable = drive.cache == STO_DRIVE_BACK ? STO_STABLE_TOGETHER : STO_STABLE_EACH;
}

/* Registering changes a table of the kernel's under its lock; the ring is not touched, so any thread may. */
static int uring_queue_attach(struct sto_queue *queue, int fd)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	uint64_t slots = atomic_load_explicit(&q->slots, memory_order_relaxed);
	int slot;
	stable_choose(q, fd);
	do {
		if (slots == UINT64_MAX)
			return fd;
		slot = __builtin_ctzll(~slots);
		/* acquire: the slot was emptied before its bit was cleared */
	} while (!atomic_compare_exchange_weak_explicit(&q->slots, &slots, slots | 1ULL << slot, memory_order_acquire,
							memory_order_relaxed));
	if (io_uring_register_files_update(&q->ring, (unsigned)slot, &fd, 1) == 1)
		return SLOT_FLAG + slot;
	atomic_fetch_and_explicit(&q->slots, ~(1ULL << slot), memory_order_release);
	return fd;
}

static void uring_queue_detach(struct sto_queue *queue, int handle)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	int none = -1, slot = handle - SLOT_FLAG;
	if (handle < SLOT_FLAG)
		return;
	/* A slot that cannot be emptied is not used again. */
	if (io_uring_register_files_update(&q->ring, (unsigned)slot, &none, 1) == 1)
		atomic_fetch_and_explicit(&q->slots, ~(1ULL << slot), memory_order_release);
}

static void entry_file(struct io_uring_sqe *sqe, int handle)
{
	if (handle < SLOT_FLAG)
		return;
	sqe->fd = handle - SLOT_FLAG;
	sqe->flags |= IOSQE_FIXED_FILE;
}

static int uring_queue_write(struct sto_queue *queue, int handle, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	uint32_t index = 0;
	while (index < q->depth && q->write[index].state != WRITE_FREE)
		index++;
	struct io_uring_sqe *sqe = index < q->depth ? io_uring_get_sqe(&q->ring) : NULL;
	if (!sqe)
		return -EBUSY; /* more than `depth` in flight: the caller's bug, but never a lost block */
	q->write[index] = (struct uring_write){.tag = tag, .handle = handle, .state = WRITE_WRITING};
	if (q->registered)
		io_uring_prep_write_fixed(sqe, handle, from, bytes, offset, 0);
	else
		io_uring_prep_write(sqe, handle, from, bytes, offset);
	entry_file(sqe, handle);
	sqe->rw_flags = q->stable == STO_STABLE_TOGETHER ? 0 : RWF_DSYNC;
	io_uring_sqe_set_data64(sqe, index);
	return uring_submit(q);
}

static void write_done(struct uring_queue *q, struct uring_write *write, int32_t result)
{
	write->result = result;
	write->state = WRITE_DONE;
	q->done++;
}

/* One completion, of a write or of a flush. */
static void completed(struct uring_queue *q, uint64_t data, int32_t result)
{
	if (data & FLUSH_FLAG) {
		for (uint32_t i = 0; i < q->depth; i++)
			if (q->write[i].state == WRITE_FLUSHING && q->write[i].handle == (int)(uint32_t)data)
				write_done(q, &q->write[i], result < 0 ? result : q->write[i].result);
		return;
	}
	struct uring_write *write = &q->write[data];
	assert(data < q->depth && write->state == WRITE_WRITING);
	if (q->stable != STO_STABLE_TOGETHER || result <= 0) {
		write_done(q, write, result);
		return;
	}
	write->result = result;
	write->state = WRITE_WRITTEN;
	q->written++;
}

static bool flush_on_its_way(const struct uring_queue *q, int handle)
{
	for (uint32_t i = 0; i < q->depth; i++)
		if (q->write[i].state == WRITE_FLUSHING && q->write[i].handle == handle)
			return true;
	return false;
}

/* Starts a flush for each file that has written blocks and none on its way. */
static int flushes_start(struct uring_queue *q)
{
	bool started = false;
	for (uint32_t i = 0; i < q->depth && q->written; i++) {
		const int handle = q->write[i].handle;
		if (q->write[i].state != WRITE_WRITTEN || flush_on_its_way(q, handle))
			continue;
		struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
		if (!sqe)
			break;
		io_uring_prep_fsync(sqe, handle, IORING_FSYNC_DATASYNC);
		entry_file(sqe, handle);
		io_uring_sqe_set_data64(sqe, FLUSH_FLAG | (uint32_t)handle);
		started = true;
		for (uint32_t k = i; k < q->depth; k++) {
			if (q->write[k].state != WRITE_WRITTEN || q->write[k].handle != handle)
				continue;
			q->write[k].state = WRITE_FLUSHING;
			q->written--;
		}
	}
	return started ? uring_submit(q) : 0;
}

static int uring_queue_reap(struct sto_queue *queue, struct sto_done *done, uint32_t max)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	if (q->unsubmitted) {
		int rc = uring_submit(q);
		if (rc < 0)
			return rc;
	}
	uint32_t seen = 0, count = 0;
	unsigned head;
	struct io_uring_cqe *cqe;
	io_uring_for_each_cqe(&q->ring, head, cqe)
	{
		completed(q, cqe->user_data, cqe->res);
		seen++;
	}
	io_uring_cq_advance(&q->ring, seen);
	if (q->written) {
		int rc = flushes_start(q);
		if (rc < 0)
			return rc;
	}
	for (uint32_t i = 0; q->done && count < max; i++) {
		if (q->write[i].state != WRITE_DONE)
			continue;
		done[count++] = (struct sto_done){.tag = q->write[i].tag, .result = q->write[i].result};
		q->write[i].state = WRITE_FREE;
		q->done--;
	}
	return (int)count;
}

static bool uring_queue_waiting(const struct sto_queue *queue)
{
	const struct uring_queue *q = (const struct uring_queue *)queue;
	return q->unsubmitted || q->done;
}

static int uring_queue_fd(const struct sto_queue *queue)
{
	return ((const struct uring_queue *)queue)->ring.ring_fd;
}

static void uring_queue_close(struct sto_queue *queue)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	io_uring_queue_exit(&q->ring);
	free(q);
}

int sto_queue_uring_open(void *buffers, uint64_t buffer_bytes, uint32_t depth, enum sto_stable stable, struct sto_queue **queue)
{
	static const struct sto_queue_ops ops = {.attach = uring_queue_attach,
						 .detach = uring_queue_detach,
						 .write = uring_queue_write,
						 .reap = uring_queue_reap,
						 .waiting = uring_queue_waiting,
						 .fd = uring_queue_fd,
						 .close = uring_queue_close};
	assert(depth <= WRITES_MAX);
	struct uring_queue *q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->queue.ops = &ops;
	q->depth = depth;
	q->stable = stable;
	int rc = io_uring_queue_init(2 * depth, &q->ring, 0); /* a write and a flush each, at most */
	if (rc < 0) {
		free(q);
		tp_logf(TP_WARN, "io_uring is not to be had, the log is written one block at a time", "error=\"%s\"",
			strerror(-rc));
		return sto_queue_sync_open(depth, queue);
	}
	/* Registered buffers spare the kernel pinning pages at each write. Beyond RLIMIT_MEMLOCK it works without. */
	struct iovec all = {.iov_base = buffers, .iov_len = buffer_bytes};
	q->registered = io_uring_register_buffers(&q->ring, &all, 1) == 0;
	/* Registered files spare it a look-up and two reference counts. */
	atomic_init(&q->slots, io_uring_register_files_sparse(&q->ring, SLOTS) == 0 ? ~(~0ULL >> (64 - SLOTS)) : UINT64_MAX);
	*queue = &q->queue;
	return 0;
}
