/*
 * The shard's side of the write-ahead log: records into blocks, blocks to disk, completions to "durable". Hot: no allocation, no
 * lock, no system call but the submission of a block. States are drawn in wal_state.h, bytes in log_format.h.
 *
 * Invariants
 *   1. durable <= appended; durable counts the records of the blocks before `tail`, all of which are stable: never past a hole.
 *   2. A block's buffer does not change from submission until it is free again, so writing it once more writes the same bytes.
 *   3. Only "no room" is ever tried again (the block was not accepted, nobody was told anything). Any other failure stops the log
 *      for good: sto_wal_poll() says so from then on.
 *   4. Blocks of a file are submitted in order of sequence; its end block after all of them are stable.
 *
 * Threads: the shard core; see wal_state.h for what crosses over to housekeeping.
 */
#include "wal_state.h"

#include "turnpike/log.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define RETRY_NS   (100 * 1000 * 1000ULL)
#define WITNESS_NS (20 * 1000 * 1000ULL)

enum {
	REAP_MAX = 16,
	AHEAD_BYTES = 1024,
	HURRY_SHARE = 4, /* of a file: when less is left, the spare is wanted as it is */
};

static struct wal_buffer *buffer_at(struct sto_wal *wal, uint64_t index)
{
	return &wal->buffer[index % wal->buffers];
}

static uint32_t in_flight(const struct sto_wal *wal)
{
	return (uint32_t)(wal->head - wal->tail);
}

/* Bytes that blocks may still take in the current file, the open block excluded. The end block's room is kept. */
static uint64_t file_left(const struct wal_file *file)
{
	return file->bytes - LOG_UNIT - file->offset;
}

void wal_block_seal(struct log_block *block, const struct wal_file *file, uint64_t offset)
{
	block->magic = LOG_MAGIC;
	block->version = LOG_VERSION;
	block->file_id = file->id;
	block->salt = file->salt;
	block->sequence = file->sequence;
	block->previous = file->previous;
	block->durable_sequence = file->durable_sequence;
	block->first_record = file->submitted_records;
	block->offset = offset;
	block->made = block->kind == LOG_FILE ? file->made : 0;
	memset(block->reserved, 0, sizeof(block->reserved));
	uint8_t *payload = (uint8_t *)block + LOG_HEADER_BYTES;
	memset(payload + block->payload_bytes, 0, block->block_bytes - LOG_HEADER_BYTES - block->payload_bytes);
	block->checksum = log_checksum(block);
}

static int fail(struct sto_wal *wal, int error, const char *what, uint64_t file_id, uint64_t offset)
{
	if (!wal->failed) {
		wal->failed = error;
		tp_logf(TP_ERROR, "the log cannot be written, stopping",
			"shard=%u file=%016" PRIx64 " offset=%" PRIu64 " what=\"%s\" error=\"%s\"", wal->options.shard, file_id,
			offset, what, strerror(-error));
	}
	return wal->failed;
}

static int write_start(struct sto_wal *wal, const struct wal_file *file, const struct log_block *block, uint64_t offset,
		       uint64_t tag)
{
	int rc = wal->queue->ops->write(wal->queue, file->handle, block, block->block_bytes, offset, tag);
	if (rc < 0)
		return fail(wal, rc, "submitting a block", file->id, offset);
	wal->outstanding++;
	return 0;
}

/* Whoever fills the next file with zeros is to stop and hand it over: a file that was only reserved is slower, none at all is a stall. */
static void __attribute__((noinline)) spare_hurry(struct sto_wal *wal)
{
	if (!atomic_load_explicit(&wal->spare, memory_order_relaxed) && !atomic_load_explicit(&wal->hurry, memory_order_relaxed))
		atomic_store_explicit(&wal->hurry, true, memory_order_relaxed);
}

/* Submits the open block. The caller has seen to it that fewer than writes_in_flight are on their way. */
static int block_submit(struct sto_wal *wal)
{
	struct wal_file *file = wal->file;
	struct wal_buffer *buffer = buffer_at(wal, wal->head);
	struct log_block *block = buffer->block;
	block->shard = wal->options.shard;
	block->watermark_ms = wal->watermark_ms;
	block->kind = LOG_EVENTS;
	block->payload_bytes = wal->payload_bytes;
	block->block_bytes = log_round_up(LOG_HEADER_BYTES + wal->payload_bytes);
	block->records = wal->records;
	block->file_bytes = 0;
	wal_block_seal(block, file, file->offset);
	buffer->file = file;
	buffer->offset = file->offset;
	buffer->sequence = file->sequence;
	buffer->bytes = block->block_bytes;
	buffer->appended = wal->appended;
	buffer->stable = buffer->again = false;

	int rc = write_start(wal, file, block, file->offset, wal->head % wal->buffers);
	if (rc < 0)
		return rc;
	file->offset += block->block_bytes;
	file->sequence++;
	file->previous = block->checksum;
	file->submitted_records += block->records;
	wal->stats.blocks++;
	wal->stats.bytes += block->block_bytes;
	wal->stats.event_bytes += block->payload_bytes;
	if (__builtin_expect(file_left(file) < file->bytes / HURRY_SHARE, 0))
		spare_hurry(wal);
	wal->head++;
	wal->unproven = block->records != 0;
	wal->quiet_ns = 0;
	wal->payload_bytes = wal->payload_max = wal->records = 0;
	return 0;
}

static bool may_submit(const struct sto_wal *wal)
{
	return in_flight(wal) < wal->options.writes_in_flight && !wal->full && !wal->failed;
}

void *sto_wal_reserve(struct sto_wal *wal, uint32_t bytes)
{
	assert(bytes <= TP_RECORD_BYTES_MAX && bytes % 8 == 0);
	if (wal->payload_max - wal->payload_bytes < bytes) {
		if (!wal->file || wal->failed)
			return NULL;
		if (wal->records && (!may_submit(wal) || block_submit(wal) < 0))
			return NULL;
		/* A full block is submitted even when it is the file's last: the caller then sees sto_wal_must_roll(). */
		uint64_t left = file_left(wal->file);
		if (left < LOG_UNIT)
			return NULL;
		uint64_t block_bytes = left < wal->options.block_bytes_max ? left : wal->options.block_bytes_max;
		/* head - tail <= writes_in_flight < buffers: this buffer is free */
		wal->payload_max = (uint32_t)block_bytes - LOG_HEADER_BYTES;
		wal->payload_bytes = wal->records = 0;
		wal->payload = (uint8_t *)buffer_at(wal, wal->head)->block + LOG_HEADER_BYTES;
	}
	return wal->payload + wal->payload_bytes;
}

void sto_wal_append(struct sto_wal *wal, uint32_t bytes, uint64_t now_ns)
{
	assert(wal->payload_max - wal->payload_bytes >= bytes);
	if (!wal->records)
		wal->opened_ns = now_ns;
	wal->payload_bytes += bytes;
	wal->records++;
	wal->appended++;
	wal->file->records++;
	/* What comes next lies in memory that a drive has read since it was written last: asked for now, it is this core's in time. */
	uint8_t *next = wal->payload + wal->payload_bytes + AHEAD_BYTES;
	for (uint32_t at = 0; at < bytes; at += 64)
		__builtin_prefetch(next + at, 1, 3);
}

bool sto_wal_must_roll(const struct sto_wal *wal)
{
	const struct wal_file *file = wal->file;
	if (!file)
		return true;
	if (wal->payload_max - wal->payload_bytes >= TP_RECORD_BYTES_MAX)
		return false;
	uint64_t open = wal->records ? log_round_up(LOG_HEADER_BYTES + wal->payload_bytes) : 0;
	return file_left(file) < open + LOG_UNIT;
}

/* ---- finishing a file ---- */

static int end_submit(struct sto_wal *wal, uint64_t index)
{
	struct wal_end *end = &wal->end[index % WAL_FINISHING_MAX];
	end->again = false;
	end->submitted = true;
	return write_start(wal, end->file, end->block, end->offset, WAL_END_TAG + index % WAL_FINISHING_MAX);
}

/* Starts the end blocks of files whose blocks are all stable, and hands ended files over. */
static int finishing_advance(struct sto_wal *wal)
{
	for (uint64_t i = wal->end_tail; i != wal->end_head; i++) {
		struct wal_end *end = &wal->end[i % WAL_FINISHING_MAX];
		struct wal_file *file = end->file;
		if (end->submitted || file->durable_sequence + 1 != file->sequence || wal->full)
			continue;
		struct log_block *block = end->block;
		block->shard = wal->options.shard;
		block->watermark_ms = wal->watermark_ms;
		block->kind = LOG_END;
		block->block_bytes = LOG_UNIT;
		block->payload_bytes = block->records = 0;
		block->file_bytes = 0;
		end->offset = file->offset;
		wal_block_seal(block, file, file->offset);
		int rc = end_submit(wal, i);
		if (rc < 0)
			return rc;
	}
	while (wal->end_tail != wal->end_head) {
		struct wal_end *end = &wal->end[wal->end_tail % WAL_FINISHING_MAX];
		uint64_t head = atomic_load_explicit(&wal->done_head, memory_order_relaxed);
		/* acquire: housekeeping has read the slot that is written next; pairs with its release */
		if (!end->stable || head - atomic_load_explicit(&wal->done_tail, memory_order_acquire) == WAL_DONE_MAX)
			break;
		wal->done[head % WAL_DONE_MAX] = end->file;
		/* release: housekeeping sees the slot and the file's last state */
		atomic_store_explicit(&wal->done_head, head + 1, memory_order_release);
		end->file = NULL;
		wal->end_tail++;
	}
	return 0;
}

/* The current file gets no more records: it goes to finishing. -EAGAIN when that is not possible this moment. */
static int file_finish(struct sto_wal *wal)
{
	if (wal->end_head - wal->end_tail == WAL_FINISHING_MAX)
		return -EAGAIN;
	if (wal->records) {
		if (!may_submit(wal))
			return -EAGAIN;
		int rc = block_submit(wal);
		if (rc < 0)
			return rc;
	}
	wal->payload_bytes = wal->payload_max = 0; /* an open block without records was laid out for the old file */
	wal->unproven = false;                     /* the end block will say it */
	struct wal_end *end = &wal->end[wal->end_head++ % WAL_FINISHING_MAX];
	end->file = wal->file;
	end->submitted = end->again = end->stable = false;
	wal->file = NULL;
	wal->stats.rolls++;
	return finishing_advance(wal);
}

int sto_wal_roll(struct sto_wal *wal)
{
	if (wal->failed)
		return wal->failed;
	if (wal->file && !wal->file->records)
		return 0;
	/* acquire: the file as housekeeping made it */
	if (!atomic_load_explicit(&wal->spare, memory_order_acquire))
		return -EAGAIN;
	if (wal->file) {
		int rc = file_finish(wal);
		if (rc < 0)
			return rc;
	}
	/* Only housekeeping fills the slot and only when it is empty, so the spare seen above is still there. */
	wal->file = atomic_exchange_explicit(&wal->spare, NULL, memory_order_acq_rel);
	atomic_store_explicit(&wal->hurry, false, memory_order_relaxed);
	return 0;
}

int sto_wal_finish(struct sto_wal *wal)
{
	if (wal->failed)
		return wal->failed;
	if (!wal->file || !wal->file->records)
		return 0;
	return file_finish(wal);
}

/* ---- disk ---- */

/* Tries again what found no room. */
static int full_retry(struct sto_wal *wal, uint64_t now_ns)
{
	if (now_ns < wal->retry_ns)
		return 0;
	wal->full = false;
	wal->retry_ns = now_ns + RETRY_NS;
	for (uint64_t i = wal->tail; i != wal->head; i++) {
		struct wal_buffer *buffer = buffer_at(wal, i);
		if (!buffer->again)
			continue;
		buffer->again = false;
		int rc = write_start(wal, buffer->file, buffer->block, buffer->offset, i % wal->buffers);
		if (rc < 0)
			return rc;
	}
	for (uint64_t i = wal->end_tail; i != wal->end_head; i++) {
		int rc = wal->end[i % WAL_FINISHING_MAX].again ? end_submit(wal, i) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/*
 * The last block before a pause has no block behind it that says "this one was stable": damaged, it would look like a write that was
 * never finished. So once the log has been quiet for a moment, an empty block is written to bear witness.
 */
static int witness_submit(struct sto_wal *wal, uint64_t now_ns)
{
	if (!wal->unproven || in_flight(wal) || !wal->file || file_left(wal->file) < LOG_UNIT)
		return 0;
	if (!wal->quiet_ns)
		wal->quiet_ns = now_ns;
	if (now_ns - wal->quiet_ns < WITNESS_NS || now_ns < wal->quiet_ns)
		return 0;
	int rc = block_submit(wal);
	return rc < 0 ? rc : 1;
}

int sto_wal_flush(struct sto_wal *wal, uint64_t now_ns, uint64_t watermark_ms, bool force)
{
	if (wal->failed)
		return wal->failed;
	if (watermark_ms > wal->watermark_ms)
		wal->watermark_ms = watermark_ms;
	if (wal->full) {
		int rc = full_retry(wal, now_ns);
		if (rc < 0)
			return rc;
	}
	if (!may_submit(wal))
		return 0;
	if (!wal->records)
		return witness_submit(wal, now_ns);
	bool due = now_ns - wal->opened_ns >= wal->options.commit_interval_ns && now_ns >= wal->opened_ns;
	if (!force && !due && wal->payload_max - wal->payload_bytes >= TP_EVENT_FIXED_BYTES)
		return 0;
	int rc = block_submit(wal);
	return rc < 0 ? rc : 1;
}

/* One completion. */
static int completed(struct sto_wal *wal, const struct sto_done *done)
{
	wal->outstanding--;
	bool is_end = done->tag >= WAL_END_TAG;
	struct wal_end *end = is_end ? &wal->end[done->tag - WAL_END_TAG] : NULL;
	struct wal_buffer *buffer = is_end ? NULL : &wal->buffer[done->tag];
	const struct wal_file *file = is_end ? end->file : buffer->file;
	uint64_t offset = is_end ? end->offset : buffer->offset;
	uint32_t bytes = is_end ? LOG_UNIT : buffer->bytes;
	/*
	 * Written in part: a file system that ran out of room in mid-block says so this way. The rest of the block is not stable,
	 * and nobody was told anything; the same bytes to the same place later are no lie.
	 */
	if (sto_io_full(done->result) || (done->result >= 0 && (uint32_t)done->result < bytes)) {
		if (!wal->full_told)
			tp_logf(TP_WARN, "no room for a log block, trying again", "shard=%u file=%016" PRIx64, wal->options.shard,
				file->id);
		wal->full = wal->full_told = true;
		*(is_end ? &end->again : &buffer->again) = true;
		return 0;
	}
	if (done->result < 0)
		return fail(wal, done->result, "writing a block", file->id, offset);
	*(is_end ? &end->stable : &buffer->stable) = true;
	wal->full_told = wal->full;
	return 0;
}

int sto_wal_poll(struct sto_wal *wal)
{
	if (wal->failed)
		return wal->failed;
	if (!wal->outstanding && wal->end_tail == wal->end_head)
		return 0;
	struct sto_done done[REAP_MAX];
	int count = wal->queue->ops->reap(wal->queue, done, REAP_MAX);
	if (count < 0)
		return fail(wal, count, "reaping completions", 0, 0);
	for (int i = 0; i < count; i++) {
		int rc = completed(wal, &done[i]);
		if (rc < 0)
			return rc;
	}
	while (wal->tail != wal->head && buffer_at(wal, wal->tail)->stable) {
		struct wal_buffer *buffer = buffer_at(wal, wal->tail++);
		buffer->file->durable_sequence = buffer->sequence;
		wal->durable = buffer->appended;
	}
	int rc = finishing_advance(wal);
	return rc < 0 ? rc : count;
}

/* ---- figures ---- */

uint64_t sto_wal_appended(const struct sto_wal *wal)
{
	return wal->appended;
}

uint64_t sto_wal_durable(const struct sto_wal *wal)
{
	return wal->durable;
}

uint64_t sto_wal_file_id(const struct sto_wal *wal)
{
	return wal->file ? wal->file->id : 0;
}

uint64_t sto_wal_file_records(const struct sto_wal *wal)
{
	return wal->file ? wal->file->records : 0;
}

uint64_t sto_wal_deadline_ns(const struct sto_wal *wal)
{
	if (wal->queue->ops->waiting(wal->queue))
		return 0;
	if (wal->full)
		return wal->retry_ns;
	/* With all writes on their way only a completion helps, and that makes sto_wal_fd() readable. */
	if (!wal->records && wal->unproven && wal->quiet_ns && may_submit(wal) && wal->file && file_left(wal->file) >= LOG_UNIT)
		return wal->quiet_ns + WITNESS_NS;
	return wal->records && may_submit(wal) ? wal->opened_ns + wal->options.commit_interval_ns : UINT64_MAX;
}

int sto_wal_fd(const struct sto_wal *wal)
{
	return wal->queue->ops->fd(wal->queue);
}

bool sto_wal_busy(const struct sto_wal *wal)
{
	return wal->outstanding != 0;
}

bool sto_wal_no_space(const struct sto_wal *wal)
{
	if (wal->full)
		return true;
	if (atomic_load_explicit(&wal->spare, memory_order_relaxed))
		return false;
	if (!wal->file)
		return true;
	uint64_t open = log_round_up(LOG_HEADER_BYTES + wal->payload_bytes);
	uint64_t left = file_left(wal->file);
	return left < open || left - open < wal->options.reserve_bytes;
}

void sto_wal_stats(const struct sto_wal *wal, struct sto_wal_stats *stats)
{
	*stats = wal->stats;
}
