/*
 * The log's write queue through io_uring: each block is one write with RWF_DSYNC from a registered buffer. RWF_DSYNC makes the
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
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

struct uring_queue {
	struct sto_queue queue;
	struct io_uring ring;
	bool registered;
	bool unsubmitted; /* the kernel had no room: submit again at the next call */
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

static int uring_queue_write(struct sto_queue *queue, int fd, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag)
{
	struct uring_queue *q = (struct uring_queue *)queue;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
	if (!sqe)
		return -EBUSY; /* more than `depth` in flight: the caller's bug, but never a lost block */
	if (q->registered)
		io_uring_prep_write_fixed(sqe, fd, from, bytes, offset, 0);
	else
		io_uring_prep_write(sqe, fd, from, bytes, offset);
	sqe->rw_flags = RWF_DSYNC;
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
	static const struct sto_queue_ops ops = {.write = uring_queue_write,
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
	*queue = &q->queue;
	return 0;
}
