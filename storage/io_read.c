/*
 * Reads of one file, several on their way at once: through io_uring, past the page cache; or, where that is not to be had, one after the
 * other when they are waited for (io_sync.c's read, and the simulated disk's).
 *
 * Past the page cache, because a log of gigabytes is read once: filling the cache costs a page of memory for each page read, and with it
 * what others have in there. Where pages must first be got from a hypervisor that took them back, that was 2.4 s of processor time a GiB,
 * against 0.04 s (and 0.75 s of waiting for the disk).
 *
 * Threads: its owner.
 */
#include "io.h"

#include <assert.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>

enum { READS_MAX = 64, CLOSE_TRIES = 30000, CLOSE_WAIT_US = 1000 };

/* ---- one after the other ---- */

struct plain_reader {
	struct sto_reads reader;
	const struct sto_io *io;
	int fd;
	uint32_t waiting, depth;
	struct plain_read {
		void *to;
		uint64_t bytes, offset;
		uint32_t tag;
	} read[];
};

static int plain_start(struct sto_reads *reader, void *to, uint64_t bytes, uint64_t offset, uint32_t tag)
{
	struct plain_reader *r = (struct plain_reader *)reader;
	assert(r->waiting < r->depth);
	if (r->io->prefetch)
		r->io->prefetch(r->io, r->fd, bytes, offset);
	r->read[r->waiting++] = (struct plain_read){.to = to, .bytes = bytes, .offset = offset, .tag = tag};
	return 0;
}

/* The youngest first: who waits must not rely on an order. */
static int64_t plain_wait(struct sto_reads *reader, uint32_t *tag)
{
	struct plain_reader *r = (struct plain_reader *)reader;
	assert(r->waiting > 0);
	const struct plain_read *read = &r->read[--r->waiting];
	*tag = read->tag;
	return r->io->read(r->io, r->fd, read->to, read->bytes, read->offset);
}

static bool plain_close(struct sto_reads *reader)
{
	struct plain_reader *r = (struct plain_reader *)reader;
	r->io->close(r->io, r->fd);
	free(r);
	return true;
}

int sto_reads_plain_open(const struct sto_io *io, const char *path, uint32_t depth, struct sto_reads **reader)
{
	static const struct sto_reads_ops ops = {.start = plain_start, .wait = plain_wait, .close = plain_close};
	struct plain_reader *r = calloc(1, sizeof(*r) + depth * sizeof(r->read[0]));
	if (!r)
		return -ENOMEM;
	*r = (struct plain_reader){.reader.ops = &ops, .io = io, .depth = depth};
	r->fd = io->open(io, path, O_RDONLY, 0);
	if (r->fd < 0) {
		int rc = r->fd;
		free(r);
		return rc;
	}
	*reader = &r->reader;
	return 0;
}

/* ---- io_uring ---- */

struct uring_reader {
	struct sto_reads reader;
	const struct sto_io *io;
	struct io_uring ring;
	int fd;
	uint32_t flying;
};

static int uring_start(struct sto_reads *reader, void *to, uint64_t bytes, uint64_t offset, uint32_t tag)
{
	struct uring_reader *r = (struct uring_reader *)reader;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
	if (!sqe)
		return -EBUSY; /* more than `depth` on their way: the caller's bug */
	io_uring_prep_read(sqe, r->fd, to, (unsigned)bytes, offset);
	io_uring_sqe_set_data64(sqe, tag);
	r->flying++;
	/* What the kernel has no room for now goes with the next call. */
	int rc = io_uring_submit(&r->ring);
	return rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY ? rc : 0;
}

static int64_t uring_wait(struct sto_reads *reader, uint32_t *tag)
{
	struct uring_reader *r = (struct uring_reader *)reader;
	struct io_uring_cqe *cqe;
	*tag = UINT32_MAX;
	if (io_uring_peek_cqe(&r->ring, &cqe)) {
		int rc;
		do
			rc = io_uring_submit_and_wait(&r->ring, 1);
		while (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
		if (rc >= 0)
			rc = io_uring_peek_cqe(&r->ring, &cqe);
		if (rc)
			return rc;
	}
	int64_t got = cqe->res;
	*tag = (uint32_t)cqe->user_data;
	io_uring_cqe_seen(&r->ring, cqe);
	r->flying--;
	return got;
}

/*
 * What is on its way writes into the caller's buffers: it is waited for. If the kernel refuses to wait, completions come all the same, into the
 * ring that is mapped here: so it is looked at until they are there. What the kernel has never taken stays where it is.
 */
static bool uring_close(struct sto_reads *reader)
{
	struct uring_reader *r = (struct uring_reader *)reader;
	uint32_t tag = 0;
	while (r->flying && tag != UINT32_MAX)
		uring_wait(reader, &tag);
	const uint32_t never = io_uring_sq_ready(&r->ring);
	for (uint32_t i = 0; r->flying > never && i < CLOSE_TRIES; i++) {
		struct io_uring_cqe *cqe;
		for (; io_uring_peek_cqe(&r->ring, &cqe) == 0; r->flying--)
			io_uring_cqe_seen(&r->ring, cqe);
		if (r->flying > never)
			usleep(CLOSE_WAIT_US);
	}
	const bool over = r->flying <= never;
	io_uring_queue_exit(&r->ring);
	r->io->close(r->io, r->fd);
	free(r);
	return over;
}

int sto_reads_uring_open(const struct sto_io *io, const char *path, uint32_t depth, struct sto_reads **reader)
{
	static const struct sto_reads_ops ops = {.start = uring_start, .wait = uring_wait, .close = uring_close};
	assert(depth <= READS_MAX);
	struct uring_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->reader.ops = &ops;
	r->io = io;
	if (io_uring_queue_init(depth, &r->ring, 0) < 0) {
		free(r);
		return sto_reads_plain_open(io, path, depth, reader);
	}
	r->fd = io->open(io, path, O_RDONLY | O_DIRECT, 0);
	if (r->fd == -EINVAL) /* the file system refuses O_DIRECT */
		r->fd = io->open(io, path, O_RDONLY, 0);
	if (r->fd < 0) {
		int rc = r->fd;
		io_uring_queue_exit(&r->ring);
		free(r);
		return rc;
	}
	*reader = &r->reader;
	return 0;
}
