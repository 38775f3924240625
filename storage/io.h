/*
 * Input and output of the storage module: one small table of functions.
 *
 *   sto_io_system()   plain system calls; block writes of the log through io_uring (io_sync.c, io_uring.c)
 *   sim_disk_io()     a simulated disk with crashes and faults, for tests (io_sim.c)
 *
 * Everything that touches a file goes through here, so that the simulator sees every write, sync and directory change. All
 * functions return 0 (or what they say) or -errno. A queue is for one thread; everything else may be called by any thread.
 */
#ifndef STORAGE_IO_H
#define STORAGE_IO_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sto_io;

/* A completed block write: bytes written, or -errno. */
struct sto_done {
	uint64_t tag;
	int32_t result;
};

/*
 * Block writes of one log: each is on stable storage when it completes (a drive whose cache is volatile has been flushed, or wrote with
 * FUA). Buffers stay the caller's and must not change until the write is done.
 */
struct sto_queue {
	const struct sto_queue_ops *ops;
};

struct sto_queue_ops {
	/*
	 * Makes an open file known to the queue and takes it out again; nothing may be in flight to it then, and it stays open in
	 * between. Any thread. Returns the handle that write() wants; never fails (what cannot be registered is used by its
	 * descriptor).
	 */
	int (*attach)(struct sto_queue *queue, int fd);
	void (*detach)(struct sto_queue *queue, int handle);
	/* Starts a write. 0, or -errno when the queue is broken. Never more in flight than `depth`. */
	int (*write)(struct sto_queue *queue, int handle, const void *from, uint32_t bytes, uint64_t offset, uint64_t tag);
	/* Takes up to `max` completions, in any order. Returns how many, or -errno. Does not block. */
	int (*reap)(struct sto_queue *queue, struct sto_done *done, uint32_t max);
	/* True while the kernel has not taken all writes yet, or reap() has more to tell: call it again, and do not sleep. */
	bool (*waiting)(const struct sto_queue *queue);
	/* A descriptor that is readable while completions wait. */
	int (*fd)(const struct sto_queue *queue);
	void (*close)(struct sto_queue *queue);
};

/*
 * Reads of one file that are on their way, several at once, past the page cache where that can be. For one thread. Places in the file,
 * lengths and buffers are multiples of 4096.
 */
struct sto_reads {
	const struct sto_reads_ops *ops;
};

struct sto_reads_ops {
	/* 0 or -errno. Never more on their way than `depth`. The buffer is theirs until this read was waited for. */
	int (*start)(struct sto_reads *reads, void *to, uint64_t bytes, uint64_t offset, uint32_t tag);
	/*
	 * Waits for one of those on their way, whichever, and says which: bytes read, or that one's -errno. Fewer bytes than were asked for
	 * are no proof of the file's end. *tag UINT32_MAX: nothing more will come.
	 */
	int64_t (*wait)(struct sto_reads *reads, uint32_t *tag);
	/* Waits for all that are on their way. False: some may still come, so that their buffers must never be freed. */
	bool (*close)(struct sto_reads *reads);
};

typedef int (*sto_name_fn)(void *context, const char *name); /* non-zero stops and is returned */

struct sto_io {
	void *context;
	int (*open)(const struct sto_io *io, const char *path, int flags, uint32_t mode); /* fd or -errno; O_CLOEXEC is added */
	void (*close)(const struct sto_io *io, int fd);
	int64_t (*read)(const struct sto_io *io, int fd, void *to, uint64_t bytes, uint64_t offset); /* short only at the end */
	/* These bytes are read soon: starts to fetch them, waits for nothing. NULL: there is nothing to gain. */
	void (*prefetch)(const struct sto_io *io, int fd, uint64_t bytes, uint64_t offset);
	int (*write)(const struct sto_io *io, int fd, const void *from, uint64_t bytes, uint64_t offset); /* all, or an error */
	int (*allocate)(const struct sto_io *io, int fd, uint64_t bytes); /* reserves room and sets the size */
	int (*truncate)(const struct sto_io *io, int fd, uint64_t bytes);
	int (*sync)(const struct sto_io *io, int fd);
	int (*size)(const struct sto_io *io, int fd, uint64_t *bytes);
	int (*identity)(const struct sto_io *io, const char *path, int fd,
			uint64_t id[2]);              /* of a path, or of fd if path is NULL */
	int (*lock)(const struct sto_io *io, int fd); /* -EBUSY: another process has it */
	int (*rename)(const struct sto_io *io, const char *from, const char *to);
	int (*unlink)(const struct sto_io *io, const char *path);
	int (*mkdir)(const struct sto_io *io, const char *path, uint32_t mode); /* 0 also when it is there; 1 when it was made */
	int (*sync_folder)(const struct sto_io *io, const char *path);
	int (*list)(const struct sto_io *io, const char *path, sto_name_fn fn, void *context);
	int (*map)(const struct sto_io *io, int fd, uint64_t bytes, const uint8_t **base); /* read only */
	void (*unmap)(const struct sto_io *io, const uint8_t *base, uint64_t bytes);
	/* These bytes of a mapping are read soon: starts to fetch them, and nothing around them. NULL: there is nothing to gain. */
	void (*fetch)(const struct sto_io *io, const uint8_t *at, uint64_t bytes);
	int (*random)(const struct sto_io *io, void *to, uint64_t bytes);
	uint64_t (*now_ms)(const struct sto_io *io); /* real time */
	/* All writes of the queue come from buffers[0..buffer_bytes). */
	int (*queue_open)(const struct sto_io *io, void *buffers, uint64_t buffer_bytes, uint32_t depth, struct sto_queue **queue);
	int (*reads_open)(const struct sto_io *io, const char *path, uint32_t depth, struct sto_reads **reads);
};

const struct sto_io *sto_io_system(void);

/* The two ways in which the system's queue is made: io_uring, or (where a kernel forbids it) one plain write at a time. */
enum sto_stable {
	STO_STABLE_ASK,
	STO_STABLE_EACH,
	STO_STABLE_TOGETHER
}; /* see io_uring.c; ASK: as the drive of the first file has it */
int sto_queue_uring_open(void *buffers, uint64_t buffer_bytes, uint32_t depth, enum sto_stable stable, struct sto_queue **queue);
int sto_queue_sync_open(uint32_t depth, struct sto_queue **queue);

/* The two ways to read (io_read.c): through io_uring, else by io->read() when they are waited for. */
int sto_reads_uring_open(const struct sto_io *io, const char *path, uint32_t depth, struct sto_reads **reads);
int sto_reads_plain_open(const struct sto_io *io, const char *path, uint32_t depth, struct sto_reads **reads);

/* Not a failed disk: room may come back. */
static inline bool sto_io_full(int64_t error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

#endif
