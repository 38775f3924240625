/*
 * Log files from birth to hand-over: opening and closing a log writer, and the housekeeping thread's side of it (spares in,
 * finished files out). The shard's side is wal.c; who owns what when is in wal_state.h.
 *
 * A file is made whole before anybody uses it: created under its final name, given its room, its file block written, the file and
 * the folder synced, and its making put on record in the manifest, synced. So a file that holds an acknowledged event can always be
 * found again, has a good file block, and is missed when somebody takes it away.
 *
 * With `preallocate` a spare is filled with zeros, not only fallocate'd: a synced write into a fallocate'd extent must convert it
 * (a journal commit each time), which halves the throughput of 256 KiB blocks (1.0 against 2.2 GB/s measured on the reference
 * machine) and doubles their latency; and a commit waits for whatever else the file system commits, such as the spare's filling. The
 * first file of a run is filled as far as FIRST_FILL_MS lets it be, so that a start does not wait long: 64 MiB take 50 ms; it ends where
 * it is filled, because the next one will be there. Nor is a flood kept waiting: when the shard's file is three quarters full, its spare
 * is handed over as far as it has been filled. Such a file is recycled only if the shard has written it to the end.
 */
#include "log_format.h"
#include "store_state.h"
#include "turnpike/log.h"
#include "wal_state.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_BYTES = 2 << 20, FILL_BYTES = 1 << 20, FIRST_FILL_MS = 100, CREATE_TRIES = 16, CLOSE_TRIES = 50, CLOSE_WAIT_MS = 100 };

/* A file system that refuses O_DIRECT gets buffered writes; RWF_DSYNC makes them stable all the same. */
static int log_create(struct sto_store *store, const char *path)
{
	const struct sto_io *io = store->io;
	int flags = O_RDWR | O_CREAT | O_EXCL;
	if (!store->direct_refused) {
		int fd = io->open(io, path, flags | O_DIRECT, 0640);
		if (fd != -EINVAL)
			return fd;
		/* The kernel may have made the file before it refused the flag. */
		io->unlink(io, path);
		store->direct_refused = true;
		tp_logf(TP_WARN, "the file system refuses O_DIRECT, the log goes through the page cache", "path=%s", path);
	}
	return io->open(io, path, flags, 0640);
}

/* Gives the file its room, and fills it until `fill_ms` have passed, or until the shard cannot wait for it any longer. */
static int log_room(const struct sto_wal *wal, struct wal_file *file, uint64_t fill_ms, const char *path)
{
	struct sto_store *store = wal->store;
	const struct sto_io *io = store->io;
	int fd = file->fd;
	file->room = 0;
	if (!store->preallocate || store->allocate_refused)
		return 0;
	int rc = io->allocate(io, fd, store->log_file_bytes);
	if (rc == -EOPNOTSUPP) {
		store->allocate_refused = true;
		tp_logf(TP_WARN, "the file system cannot preallocate, log files grow as they are written", "path=%s", path);
		return 0;
	}
	if (rc)
		return rc;
	file->room = store->log_file_bytes;
	uint8_t *zeros = aligned_alloc(LOG_UNIT, FILL_BYTES);
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, FILL_BYTES);
	const uint64_t began_ms = io->now_ms(io);
	uint64_t at = 0;
	for (; at < file->room && !rc && io->now_ms(io) - began_ms <= fill_ms &&
	       !atomic_load_explicit(&wal->hurry, memory_order_relaxed);
	     at += FILL_BYTES)
		rc = io->write(io, fd, zeros, file->room - at < FILL_BYTES ? file->room - at : FILL_BYTES, at);
	free(zeros);
	file->made = at < file->room ? LOG_RESERVED : LOG_FILLED;
	/* A file shorter than twice the reserve would have the node refuse beacons until the next one is there. */
	if (fill_ms != UINT64_MAX && at < file->room && at >= 2 * wal->options.reserve_bytes &&
	    at >= 2 * LOG_UNIT + (uint64_t)wal->options.block_bytes_max)
		file->bytes = at;
	return rc;
}

static int log_file_block(struct sto_store *store, struct wal_file *file, uint32_t shard)
{
	struct log_block *block = aligned_alloc(LOG_UNIT, LOG_UNIT);
	if (!block)
		return -ENOMEM;
	memset(block, 0, LOG_UNIT);
	block->shard = shard;
	block->kind = LOG_FILE;
	block->block_bytes = LOG_UNIT;
	block->file_bytes = file->room;
	wal_block_seal(block, file, 0);
	int rc = store->io->write(store->io, file->fd, block, LOG_UNIT, 0);
	file->previous = block->checksum;
	file->offset = LOG_UNIT;
	file->sequence = 1;
	free(block);
	return rc;
}

/* A new file under the next free name. */
static int file_create(struct sto_wal *wal, uint64_t fill_ms, struct wal_file *file)
{
	struct sto_store *store = wal->store;
	const struct sto_io *io = store->io;
	char path[STORE_PATH_BYTES], folder[STORE_PATH_BYTES];
	int rc = folder_path(folder, store->data_dir, "log");
	/* A file of that name is what an attempt that failed could not take away: the next start looks into it. */
	for (int i = 0; i < CREATE_TRIES && !rc; i++) {
		file->id = store_file_id_take(store);
		rc = folder_log_path(path, store->data_dir, file->id);
		file->fd = rc ? rc : log_create(store, path);
		if (file->fd != -EEXIST)
			break;
	}
	if (rc || file->fd < 0)
		return rc ? rc : file->fd;
	rc = log_room(wal, file, fill_ms, path);
	if (!rc)
		rc = log_file_block(store, file, wal->options.shard);
	bool synced = !rc;
	if (!rc)
		rc = io->sync(io, file->fd);
	if (!rc)
		rc = io->sync_folder(io, folder);
	if (!rc)
		return 0;
	io->close(io, file->fd);
	io->unlink(io, path);
	/* A sync that failed is a failed disk, whatever it calls it. */
	return synced ? -EIO : rc;
}

/* The size of the log file old_id, if it is one that is worth recycling: all its room was written before. Else 0, or -errno. */
static int64_t recyclable(struct sto_store *store, int fd, uint64_t old_id)
{
	uint64_t bytes;
	int rc = store->io->size(store->io, fd, &bytes);
	if (rc)
		return rc;
	struct log_block *block = aligned_alloc(LOG_UNIT, LOG_UNIT);
	if (!block)
		return -ENOMEM;
	int64_t got = store->io->read(store->io, fd, block, LOG_UNIT, 0);
	bool good = got == LOG_UNIT && bytes == store->log_file_bytes && block->magic == LOG_MAGIC &&
		    block->version == LOG_VERSION && block->kind == LOG_FILE && block->file_id == old_id && block->offset == 0 &&
		    block->block_bytes == LOG_UNIT && !block->payload_bytes && block->checksum == log_checksum(block) &&
		    (block->made != LOG_RESERVED || log_pool_is_written(&store->pool, old_id));
	free(block);
	return got < 0 ? got : good ? (int64_t)bytes : 0;
}

/*
 * Makes the sealed log file old_id the next one; the order is that of log_pool.h. -EAGAIN: it is not fit for it, and removed. Other
 * errors leave it removed, too.
 */
static int file_recycle(struct sto_wal *wal, uint64_t old_id, struct wal_file *file)
{
	struct sto_store *store = wal->store;
	const struct sto_io *io = store->io;
	char from[STORE_PATH_BYTES], path[STORE_PATH_BYTES], folder[STORE_PATH_BYTES];
	uint64_t identity[2];
	int rc = folder_log_path(from, store->data_dir, old_id);
	if (!rc)
		rc = folder_path(folder, store->data_dir, "log");
	int there = 0;
	for (int i = 0; i < CREATE_TRIES && !rc && !there; i++) {
		file->id = store_file_id_take(store);
		rc = folder_log_path(path, store->data_dir, file->id);
		there = rc ? rc : io->identity(io, path, -1, identity);
	}
	if (rc || there != -ENOENT)
		return rc ? rc : there ? there : -EEXIST;
	file->fd = io->open(io, from, O_RDWR | (store->direct_refused ? 0 : O_DIRECT), 0);
	if (file->fd < 0)
		return file->fd == -ENOENT ? -EAGAIN : file->fd;
	int64_t bytes = recyclable(store, file->fd, old_id);
	rc = bytes > 0 ? 0 : bytes == 0 ? -EAGAIN : (int)bytes;
	file->made = LOG_RECYCLED;
	file->room = rc ? 0 : (uint64_t)bytes;
	if (!rc)
		rc = log_file_block(store, file, wal->options.shard);
	bool written = !rc;
	if (!rc)
		rc = io->sync(io, file->fd);
	if (!rc)
		rc = io->rename(io, from, path);
	if (!rc)
		rc = io->sync_folder(io, folder);
	if (!rc)
		return 0;
	io->close(io, file->fd);
	io->unlink(io, from);
	return written ? -EIO : rc;
}

/* From here on the file must not be missing. Without room for the record it is not used. */
static int file_record(struct sto_wal *wal, const struct wal_file *file)
{
	struct sto_store *store = wal->store;
	struct manifest_record record = {
		.kind = MANIFEST_LOG_OPENED,
		.log = {.file_id = file->id, .salt = file->salt, .bytes = file->room, .shard = wal->options.shard}};
	int rc = store_commit(store, &record, 1);
	if (!rc)
		return 0;
	char path[STORE_PATH_BYTES];
	store->io->close(store->io, file->fd);
	/* After any other error it may be on record all the same: only a restart finds out. */
	if (rc == -ENOSPC && !folder_log_path(path, store->data_dir, file->id))
		store->io->unlink(store->io, path);
	return rc;
}

/* Makes a log file, complete and stable: recycled if there is one to be had. The spares thread (or the opening one). */
static int log_file_make(struct sto_wal *wal, uint64_t fill_ms, struct wal_file **made)
{
	struct sto_store *store = wal->store;
	struct wal_file *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->bytes = store->log_file_bytes;
	int rc = store->io->random(store->io, &file->salt, sizeof(file->salt));
	uint64_t old_id = rc ? 0 : log_pool_take(store);
	if (old_id)
		rc = file_recycle(wal, old_id, file);
	if (rc == -EAGAIN)
		store_file_id_give(store, file->id);
	if ((!rc && !old_id) || rc == -EAGAIN) {
		file->made = LOG_RESERVED;
		rc = file_create(wal, fill_ms, file);
	}
	if (!rc)
		rc = file_record(wal, file);
	if (rc) {
		/* An id that was never handed out may be tried again. */
		if (file->id)
			store_file_id_give(store, file->id);
		free(file);
		return sto_io_full(rc) ? -ENOSPC : rc;
	}
	file->handle = wal->queue->ops->attach(wal->queue, file->fd);
	*made = file;
	return 0;
}

static void file_close(struct sto_wal *wal, struct wal_file *file)
{
	wal->queue->ops->detach(wal->queue, file->handle);
	wal->io->close(wal->io, file->fd);
}

/*
 * Memory for blocks, touched now: a page fault is not for the shard to take. In huge pages if there is enough of it: the shard's writes then
 * miss fewer translations, and what the kernel hands to the drive is one piece a block instead of one every 4 KiB.
 */
static uint8_t *arena_map(uint64_t bytes)
{
	const uint64_t align = bytes < HUGE_BYTES ? LOG_UNIT : HUGE_BYTES;
	uint8_t *room = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return NULL;
	const uint64_t before = -(uintptr_t)room & (align - 1);
	if (before)
		munmap(room, before);
	munmap(room + before + bytes, align - before);
	if (align == HUGE_BYTES)
		madvise(room + before, bytes, MADV_HUGEPAGE);
	return memset(room + before, 0, bytes);
}

int sto_wal_open(struct sto_wal **wal, struct sto_store *store, const struct sto_wal_options *options)
{
	struct sto_wal_options own = *options;
	own.block_bytes_max = own.block_bytes_max ? own.block_bytes_max : 256 * 1024;
	own.writes_in_flight = own.writes_in_flight ? own.writes_in_flight : 16;
	if (own.block_bytes_max % LOG_UNIT || own.block_bytes_max > LOG_BLOCK_BYTES_MAX || own.writes_in_flight > WAL_WRITES_MAX ||
	    store->log_file_bytes < 2 * LOG_UNIT + (uint64_t)own.block_bytes_max)
		return -EINVAL;
	struct sto_wal *w = aligned_alloc(64, (sizeof(*w) + 63) & ~63UL);
	if (!w)
		return -ENOMEM;
	memset(w, 0, sizeof(*w));
	w->store = store;
	w->io = store->io;
	w->options = own;
	w->buffers = own.writes_in_flight + 1;
	uint64_t blocks_bytes = (uint64_t)w->buffers * own.block_bytes_max;
	w->arena_bytes = blocks_bytes + WAL_FINISHING_MAX * LOG_UNIT;
	if (w->arena_bytes >= HUGE_BYTES)
		w->arena_bytes = (w->arena_bytes + HUGE_BYTES - 1) & ~(uint64_t)(HUGE_BYTES - 1);
	w->arena = arena_map(w->arena_bytes);
	if (!w->arena) {
		free(w);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < w->buffers; i++)
		w->buffer[i].block = (struct log_block *)(void *)(w->arena + (uint64_t)i * own.block_bytes_max);
	for (uint32_t i = 0; i < WAL_FINISHING_MAX; i++)
		w->end[i].block = (struct log_block *)(void *)(w->arena + blocks_bytes + i * LOG_UNIT);
	int rc = w->io->queue_open(w->io, w->arena, w->arena_bytes, own.writes_in_flight + WAL_FINISHING_MAX, &w->queue);
	if (!rc) {
		rc = log_file_make(w, FIRST_FILL_MS, &w->file);
		if (!rc || rc == -ENOSPC) {
			pthread_mutex_lock(&store->pool.lock);
			store->pool.max++;
			pthread_mutex_unlock(&store->pool.lock);
			*wal = w;
			return 0;
		}
		w->queue->ops->close(w->queue);
	}
	munmap(w->arena, w->arena_bytes);
	free(w);
	return rc;
}

/* A file that was never written to: says so in the manifest, so that its id is not given out again, and removes it. */
static void file_discard(struct sto_wal *wal, struct wal_file *file)
{
	struct sto_store *store = wal->store;
	file_close(wal, file);
	struct manifest_record record = {.kind = MANIFEST_LOG_EMPTY, .file_id = file->id};
	char path[STORE_PATH_BYTES];
	if (!wal->failed && !store_commit(store, &record, 1) && !folder_log_path(path, store->data_dir, file->id))
		store->io->unlink(store->io, path);
	free(file);
}

/* A file with records stays. From here on it may be sealed; the store knows how many records must be in it if all are `stable`. */
static void file_leave(struct sto_wal *wal, struct wal_file *file, bool stable)
{
	file_close(wal, file);
	if (file->made == LOG_RESERVED && file->room - file->offset < wal->options.block_bytes_max + 2 * LOG_UNIT)
		log_pool_written(&wal->store->pool, file->id);
	if (store_unsealed_add(wal->store, file->id, stable ? file->records : UINT64_MAX))
		tp_logf(TP_ERROR, "no memory to remember a finished log file: it will be sealed at the next start",
			"file=%016" PRIx64, file->id);
	free(file);
}

void sto_wal_close(struct sto_wal *wal)
{
	if (!wal)
		return;
	/* The end block of the current file, while the disk answers: proof for the next start that nothing is missing. */
	int rc = sto_wal_finish(wal);
	for (int i = 0; i < CLOSE_TRIES && (rc == -EAGAIN || wal->outstanding); i++) {
		int done = sto_wal_poll(wal);
		if (done < 0)
			break;
		if (rc == -EAGAIN)
			rc = sto_wal_finish(wal);
		struct pollfd fd = {.fd = sto_wal_fd(wal), .events = POLLIN};
		if (!done && fd.fd >= 0)
			poll(&fd, 1, CLOSE_WAIT_MS);
	}
	struct wal_file *spare = atomic_load_explicit(&wal->spare, memory_order_acquire);
	if (spare)
		file_discard(wal, spare);
	if (wal->file && wal->file->records)
		file_leave(wal, wal->file, false);
	else if (wal->file)
		file_discard(wal, wal->file);
	for (; wal->end_tail != wal->end_head; wal->end_tail++) {
		const struct wal_end *end = &wal->end[wal->end_tail % WAL_FINISHING_MAX];
		file_leave(wal, end->file, end->stable);
	}
	for (uint64_t i = wal->done_tail; i != wal->done_head; i++)
		file_leave(wal, wal->done[i % WAL_DONE_MAX], true);
	/* Writes still on their way (a disk that hangs or has failed) keep their pages until they end; nobody waits for them. */
	wal->queue->ops->close(wal->queue);
	munmap(wal->arena, wal->arena_bytes);
	free(wal);
}

bool sto_wal_spare_wanted(const struct sto_wal *wal)
{
	return !atomic_load_explicit(&wal->spare, memory_order_relaxed);
}

int sto_wal_spare_give(struct sto_wal *wal)
{
	if (!sto_wal_spare_wanted(wal))
		return 0;
	struct wal_file *file;
	int rc = log_file_make(wal, UINT64_MAX, &file);
	if (rc)
		return rc;
	/* release: the shard sees the file as it was made; pairs with the acquire in sto_wal_roll() */
	atomic_store_explicit(&wal->spare, file, memory_order_release);
	return 0;
}

uint64_t sto_wal_finished_take(struct sto_wal *wal)
{
	uint64_t tail = atomic_load_explicit(&wal->done_tail, memory_order_relaxed);
	/* acquire: the slot and the file's last state; pairs with the release in finishing_advance() */
	if (tail == atomic_load_explicit(&wal->done_head, memory_order_acquire))
		return 0;
	struct wal_file *file = wal->done[tail % WAL_DONE_MAX];
	/* release: the slot has been read */
	atomic_store_explicit(&wal->done_tail, tail + 1, memory_order_release);
	uint64_t id = file->id;
	file_leave(wal, file, true);
	return id;
}
