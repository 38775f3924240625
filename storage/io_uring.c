/*
 * The log's write queue through io_uring: each block is one write with RWF_DSYNC from a registered buffer to a registered file. RWF_DSYNC makes the
 * kernel see to it that the block is stable when the completion comes: on a drive with a volatile cache it uses FUA or flushes the
 * cache, on one without it costs nothing.
 *
 * The ring is made by the thread that opens and used by the shard's thread, one after the other: so neither SINGLE_ISSUER nor
 * DEFER_TASKRUN. COOP_TASKRUN stays off too: with it a completion would need a system call to become visible, while now the
 * kernel puts it into the ring by itself and a busy shard finds it with one load. A sleeping shard polls the ring's descriptor.
 */
#include "io.h"

#include "turnpike/log.h"

#include <liburing.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum { SLOTS = 32, SLOT_FLAG = 1 << 30 }; /* a handle at or above the flag is a slot, below it a descriptor */

struct uring_queue {
	struct sto_queue queue;
	struct io_uring ring;
	bool registered;
	_Atomic uint64_t slots; /* of registered files, a bit each; all set: none can be registered */
	bool unsubmitted;       /* the kernel had no room: submit again at the next call */
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

/* Registering changes a table of the kernel's under its lock; the ring is not touched, so any thread may. */
static int uring_queue_attach(struct sto_queue *queue, int fd)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	uint64_t slots = atomic_load_explicit(&q->slots, memory_order_relaxed);
	int slot;
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

static int uring_queue_write(struct sto_queue *queue, int handle, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
	if (!sqe)
		return -EBUSY; /* more than `depth` in flight: the caller's bug, but never a lost block */
	int fd = handle < SLOT_FLAG ? handle : handle - SLOT_FLAG;
	if (q->registered)
		io_uring_prep_write_fixed(sqe, fd, from, bytes, offset, 0);
	else
		io_uring_prep_write(sqe, fd, from, bytes, offset);
	sqe->rw_flags = RWF_DSYNC;
	if (handle >= SLOT_FLAG)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, tag);
	return uring_submit(q);
}

static int uring_queue_reap(struct sto_queue *queue, struct sto_done *done, uint32_t max)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	if (q->unsubmitted) {
		int rc = uring_submit(q);
		if (rc < 0)
			return rc;
	}
	uint32_t count = 0;
	unsigned head;
	struct io_uring_cqe *cqe;
	io_uring_for_each_cqe(&q->ring, head, cqe)
	{
		if (count == max)
			break;
		done[count++] = (struct sto_done){.tag = cqe->user_data, .result = cqe->res};
	}
	io_uring_cq_advance(&q->ring, count);
	return (int)count;
}

static bool uring_queue_waiting(const struct sto_queue *queue)
{
	return ((const struct uring_queue *)queue)->unsubmitted;
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

int sto_queue_uring_open(void *buffers, uint64_t buffer_bytes, uint32_t depth, struct sto_queue **queue)
{
	static const struct sto_queue_ops ops = {.attach = uring_queue_attach,
						 .detach = uring_queue_detach,
						 .write = uring_queue_write,
						 .reap = uring_queue_reap,
						 .waiting = uring_queue_waiting,
						 .fd = uring_queue_fd,
						 .close = uring_queue_close};
	struct uring_queue *q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->queue.ops = &ops;
	int rc = io_uring_queue_init(depth, &q->ring, 0);
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
