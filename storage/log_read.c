/*
 * Reading a log file: the longest provable prefix, and whether something beyond it proves damage. Bytes from disk are foreign:
 * every length is checked before use. Format and rules: log_format.h.
 *
 * Who reads a whole file has it fetched ahead of where it looks (log_ahead.h); what lies in that ring is looked at where it lies.
 *
 * Threads: any; all state is the caller's.
 */
#include "log_read.h"

#include "log_ahead.h"
#include "log_format.h"
#include "turnpike/follow.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where a full file's end block is looked for: its last block of events was too large for what was left. */
enum { LAST_BYTES = 1 << 20 };

struct scan {
	const struct sto_io *io;
	const char *path;
	int fd;
	uint64_t file_id;
	uint64_t bytes;          /* of the file */
	struct log_ahead *ahead; /* of who reads a whole file, else NULL */
	const uint8_t *at;       /* what was read last: in the ring of `ahead`, or in `buffer` */
	uint8_t *buffer;
	uint64_t buffer_bytes;
	uint32_t made;         /* enum log_made, once the file block was read */
	struct log_block last; /* the last good one */
	uint64_t offset;       /* behind it */
};

static int damage(const struct scan *scan, uint64_t offset, const char *what)
{
	tp_logf(TP_ERROR, "log file is damaged, refusing it", "file=%s offset=%" PRIu64 " found=\"%s\"", scan->path, offset, what);
	return -EBADMSG;
}

/* Brings [offset, offset + bytes) to scan->at, in the buffer. Returns bytes read or -errno. */
static int64_t fill(struct scan *scan, uint64_t bytes, uint64_t offset)
{
	if (bytes > scan->buffer_bytes) {
		uint8_t *larger = realloc(scan->buffer, bytes);
		if (!larger)
			return -ENOMEM;
		scan->buffer = larger;
		scan->buffer_bytes = bytes;
	}
	scan->at = scan->buffer;
	if (scan->ahead) {
		int rc = log_ahead_copy(scan->ahead, scan->buffer, offset, bytes);
		if (rc != -E2BIG)
			return rc ? rc == -ENODATA ? 0 : rc : (int64_t)bytes;
	}
	return scan->io->read(scan->io, scan->fd, scan->buffer, bytes, offset);
}

/* The same, where it lies if that can be. Within the file as it was when it was opened. */
static int64_t bring(struct scan *scan, uint64_t bytes, uint64_t offset)
{
	int rc = 0;
	const uint8_t *at = scan->ahead ? log_ahead_look(scan->ahead, offset, bytes, &rc) : NULL;
	if (!at)
		return rc && rc != -E2BIG ? rc == -ENODATA ? 0 : rc : fill(scan, bytes, offset);
	scan->at = at;
	return (int64_t)bytes;
}

/* What scan->at points to, as a block. */
static const struct log_block *block_of(const struct scan *scan)
{
	return (const struct log_block *)(const void *)scan->at;
}

/* Could `block` be a block of this file at `offset`? Says nothing about its checksum yet. */
static bool plausible(const struct scan *scan, const struct log_block *block, uint64_t offset)
{
	return block->magic == LOG_MAGIC && block->version == LOG_VERSION && block->file_id == scan->file_id &&
	       block->kind >= LOG_FILE && block->kind <= LOG_END && block->block_bytes >= LOG_UNIT &&
	       block->block_bytes <= LOG_BLOCK_BYTES_MAX && block->block_bytes % LOG_UNIT == 0 &&
	       block->block_bytes <= scan->bytes - offset && block->payload_bytes <= block->block_bytes - LOG_HEADER_BYTES;
}

/* Brings the block at `offset` whole. 1: good by its own checksum, 0: not, or -errno. */
static int block_read(struct scan *scan, uint64_t offset)
{
	if (offset > scan->bytes || scan->bytes - offset < LOG_UNIT)
		return 0;
	int64_t got = bring(scan, LOG_UNIT, offset);
	if (got < 0)
		return (int)got;
	struct log_block head;
	memcpy(&head, scan->at, sizeof(head));
	if (got < LOG_UNIT || !plausible(scan, &head, offset))
		return 0;
	if (head.block_bytes > LOG_UNIT) {
		got = bring(scan, head.block_bytes, offset);
		if (got < 0)
			return (int)got;
		/* The header again: the file may be in use by a writer, and what is checked must be what is used. */
		memcpy(&head, scan->at, sizeof(head));
		if ((uint64_t)got < head.block_bytes || !plausible(scan, &head, offset))
			return 0;
	}
	const struct log_block *block = block_of(scan);
	return block->checksum == log_checksum(block);
}

/* Does the good block at hand follow from the last one? */
static bool follows(const struct scan *scan, const struct log_block *block)
{
	return block->offset == scan->offset && block->salt == scan->last.salt && block->sequence == scan->last.sequence + 1 &&
	       block->previous == scan->last.checksum && block->kind != LOG_FILE && block->shard == scan->last.shard &&
	       block->first_record == scan->last.first_record + scan->last.records &&
	       block->watermark_ms >= scan->last.watermark_ms;
}

/* Is the good block at hand a file's first? */
static bool begins(const struct log_block *block)
{
	return block->kind == LOG_FILE && block->offset == 0 && block->sequence == 0 && block->block_bytes == LOG_UNIT &&
	       !block->records && !block->payload_bytes;
}

/* Passes the file block. 1: passed, and it is scan->last; 0: not there; or -errno. */
static int first_pass(struct scan *scan)
{
	int good = block_read(scan, 0);
	if (good <= 0)
		return good;
	if (!begins(block_of(scan)))
		return 0;
	scan->last = *block_of(scan);
	scan->offset = LOG_UNIT;
	return 1;
}

static void scan_close(struct scan *scan)
{
	log_ahead_close(scan->ahead);
	scan->io->close(scan->io, scan->fd);
	free(scan->buffer);
}

/* What kind of record begins there, and whether it is whole. */
enum record { RECORD_BAD, RECORD_EVENT, RECORD_OTHER };

static enum record record_look(const struct tp_event *record, uint32_t room)
{
	if (room >= TP_DEAD_FIXED_BYTES && record->type == TP_RECORD_DEAD_LETTER)
		return tp_dead_letter_valid(tp_dead_letter_of(record), room) ? RECORD_OTHER : RECORD_BAD;
	return room >= TP_EVENT_FIXED_BYTES && tp_event_valid(record, room) ? RECORD_EVENT : RECORD_BAD;
}

/* Hands on the records of the good block at hand. *others: how many of them are no events. */
static int records_give(const struct scan *scan, const struct sto_record_fns *fns, uint64_t *others)
{
	const struct log_block *block = block_of(scan);
	uint32_t at = 0;
	for (uint32_t i = 0; i < block->records; i++) {
		uint32_t room = block->payload_bytes - at;
		const struct tp_event *event = (const struct tp_event *)(const void *)(scan->at + LOG_HEADER_BYTES + at);
		enum record record = record_look(event, room);
		if (record == RECORD_BAD)
			return damage(scan, scan->offset, "a record of the block is malformed");
		if (record == RECORD_EVENT && !tp_verdict_logged(event->verdict))
			return damage(scan, scan->offset, "a record with a verdict that does not belong into a log");
		at += event->bytes;
		*others += record == RECORD_OTHER;
		sto_event_fn fn = record == RECORD_OTHER ? fns->other : fns->event;
		if (fn) {
			int rc = fn(fns->context, event);
			if (rc)
				return rc;
		}
	}
	if (at != block->payload_bytes)
		return damage(scan, scan->offset, "payload longer than its records");
	return fns->gone ? fns->gone(fns->context) : 0;
}

static bool all_zero(const uint8_t *at, uint64_t bytes)
{
	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/*
 * Looks through everything from `from` on: where the last byte that is not zero lies, and whether a good block proves that block
 * `missing` had been stable. `missing` 0: any good block of this file id proves it.
 */
static int tail_search(struct scan *scan, uint64_t from, uint64_t missing, uint64_t *tail_bytes)
{
	/* What was zero and is not any more was written by this file's writer. In a recycled file only its headers tell. */
	bool recycled = missing && scan->made == LOG_RECYCLED;
	uint64_t end = from;
	int rc = 0;
	uint64_t got;
	for (uint64_t at = from; at < scan->bytes && !rc; at += got) {
		got = log_ahead_span(scan->ahead, at);
		const uint8_t *piece = log_ahead_look(scan->ahead, at, got, &rc);
		if (rc == -ENODATA)
			rc = damage(scan, at, "the file became shorter while it was read");
		if (rc)
			break;
		for (uint64_t unit = 0; unit < got && !rc; unit += LOG_UNIT) {
			uint64_t here = got - unit < LOG_UNIT ? got - unit : LOG_UNIT;
			if (all_zero(piece + unit, here))
				continue;
			if (!recycled)
				end = at + unit + here;
			struct log_block head;
			if (here < LOG_UNIT)
				continue;
			memcpy(&head, piece + unit, sizeof(head));
			if (!plausible(scan, &head, at + unit) || (missing && head.salt != scan->last.salt))
				continue;
			if (recycled && at + unit + head.block_bytes > end)
				end = at + unit + head.block_bytes;
			if (head.durable_sequence < missing)
				continue;
			int good = block_read(scan, at + unit);
			if (good < 0)
				rc = good;
			else if (good)
				rc = damage(
					scan, from,
					"a block that a later one proves to have been written and acknowledged is not readable");
		}
	}
	*tail_bytes = end - from;
	return rc;
}

static int scan_blocks(struct scan *scan, const struct sto_record_fns *fns, struct sto_log_facts *facts, enum log_state *state)
{
	int good = first_pass(scan);
	if (good < 0)
		return good;
	if (!good) {
		/* The file block is stable before the file is used, so without one nothing was ever appended; unless it rotted. */
		*state = LOG_NOTHING;
		int rc = tail_search(scan, 0, 0, &facts->tail_bytes_ignored);
		if (!rc && facts->tail_bytes_ignored > LOG_UNIT)
			rc = damage(scan, 0, "the first block is not readable, but others are in the file");
		return rc;
	}
	scan->made = scan->last.made;
	const uint64_t planned = scan->last.file_bytes;
	facts->shard = scan->last.shard;
	*state = LOG_OPEN;
	while (*state == LOG_OPEN) {
		good = block_read(scan, scan->offset);
		if (good < 0)
			return good;
		if (!good || !follows(scan, block_of(scan)))
			break;
		const struct log_block head = *block_of(scan);
		if (head.kind == LOG_END) {
			*state = LOG_ENDED;
		} else {
			uint64_t others = 0;
			int rc = records_give(scan, fns, &others);
			if (rc)
				return rc;
			facts->blocks++;
			facts->events += head.records - others;
			facts->others += others;
		}
		if (head.watermark_ms > facts->watermark_ms)
			facts->watermark_ms = head.watermark_ms;
		scan->last = head;
		scan->offset += head.block_bytes;
	}
	if (*state == LOG_ENDED)
		return 0; /* nothing is ever written behind the end block */
	if (scan->bytes < planned)
		return damage(scan, scan->bytes, "the file is shorter than it was made");
	return tail_search(scan, scan->offset, scan->last.sequence + 1, &facts->tail_bytes_ignored);
}

int log_scan(const struct sto_io *io, const char *path, uint64_t file_id, bool stabilise, sto_event_fn fn, void *context,
	     struct sto_log_facts *facts, enum log_state *state)
{
	return log_scan_records(io, path, file_id, stabilise, &(struct sto_record_fns){.event = fn, .context = context}, facts,
				state);
}

int log_scan_records(const struct sto_io *io, const char *path, uint64_t file_id, bool stabilise, const struct sto_record_fns *fns,
		     struct sto_log_facts *facts, enum log_state *state)
{
	struct sto_log_facts own_facts;
	enum log_state own_state;
	facts = facts ? facts : &own_facts;
	state = state ? state : &own_state;
	*facts = (struct sto_log_facts){.file_id = file_id};
	*state = LOG_NOTHING;
	struct scan scan = {.io = io, .path = path, .file_id = file_id};
	scan.fd = io->open(io, path, O_RDONLY, 0);
	if (scan.fd < 0)
		return scan.fd;
	int rc = stabilise ? io->sync(io, scan.fd) : 0;
	if (!rc)
		rc = io->size(io, scan.fd, &scan.bytes);
	/* An empty one says so without. */
	if (!rc && scan.bytes)
		rc = log_ahead_open(&scan.ahead, io, path, scan.fd, scan.bytes);
	if (!rc)
		rc = scan_blocks(&scan, fns, facts, state);
	scan_close(&scan);
	return rc;
}

/*
 * Opens a file and passes its first block, as who recovers it, follows it or only wants to know what it is. 1: scan->last is that block;
 * 0: there is none that is readable; or -errno, and then scan->fd is not open.
 */
static int first_open(struct scan *scan)
{
	scan->fd = scan->io->open(scan->io, scan->path, O_RDONLY, 0);
	if (scan->fd < 0)
		return scan->fd;
	int rc = scan->io->size(scan->io, scan->fd, &scan->bytes);
	if (!rc)
		rc = first_pass(scan);
	if (rc < 0)
		scan_close(scan);
	return rc;
}

/*
 * A file that was ended and full has its end block within the last LAST_BYTES, and that says how many records came before. True: found. What is
 * found is only an upper bound for who reads the file later, and is told then if it was wrong; so a block that checks out is enough.
 */
static bool size_by_end(struct scan *scan, struct sto_log_size *size)
{
	const uint64_t from = scan->bytes > LAST_BYTES ? (scan->bytes - LAST_BYTES) / LOG_UNIT * LOG_UNIT : 0;
	uint8_t *last = malloc(LAST_BYTES + LOG_UNIT);
	int64_t got = last ? scan->io->read(scan->io, scan->fd, last, scan->bytes - from, from) : 0;
	bool found = false;
	for (int64_t at = got / LOG_UNIT * LOG_UNIT - LOG_UNIT; at >= 0 && !found; at -= LOG_UNIT) {
		struct log_block head;
		memcpy(&head, last + at, sizeof(head));
		if (head.kind != LOG_END || head.block_bytes != LOG_UNIT || head.payload_bytes || head.salt != scan->last.salt ||
		    head.offset != from + (uint64_t)at || !plausible(scan, &head, head.offset))
			continue;
		found = head.checksum == log_checksum(&head);
		size->events_max = head.first_record;
	}
	free(last);
	return found;
}

int log_size(const struct sto_io *io, const char *path, uint64_t file_id, bool closely, struct sto_log_size *size)
{
	struct scan scan = {.io = io, .path = path, .file_id = file_id};
	*size = (struct sto_log_size){0};
	int rc = first_open(&scan);
	if (rc < 0)
		return rc;
	size->bytes = scan.bytes;
	size->events_max = closely ? 0 : scan.bytes / TP_EVENT_FIXED_BYTES;
	bool begun = rc == 1;
	rc = 0;
	if (closely && begun && !size_by_end(&scan, size)) {
		size->events_max = 0;
		for (uint64_t at = LOG_UNIT; at < scan.bytes && scan.bytes - at >= LOG_UNIT;) {
			struct log_block head;
			int64_t got = io->read(io, scan.fd, &head, sizeof(head), at);
			if (got < (int64_t)sizeof(head) || !plausible(&scan, &head, at)) {
				rc = got < 0 ? (int)got : 0;
				break;
			}
			size->events_max += head.records;
			at += head.block_bytes;
		}
	}
	scan_close(&scan);
	return rc;
}

int log_birth(const struct sto_io *io, const char *path, uint64_t file_id, struct manifest_log *birth)
{
	struct scan scan = {.io = io, .path = path, .file_id = file_id};
	*birth = (struct manifest_log){0};
	int rc = first_open(&scan);
	if (rc < 0)
		return rc;
	if (rc)
		*birth = (struct manifest_log){
			.file_id = file_id, .salt = scan.last.salt, .bytes = scan.last.file_bytes, .shard = scan.last.shard};
	scan_close(&scan);
	return rc;
}

int log_begun(const struct sto_io *io, const char *path, uint64_t file_id)
{
	struct scan scan = {.io = io, .path = path, .file_id = file_id};
	int rc = first_open(&scan);
	if (rc < 0)
		return rc;
	if (rc)
		rc = block_read(&scan, scan.offset);
	if (rc == 1)
		rc = follows(&scan, block_of(&scan)) && block_of(&scan)->records;
	scan_close(&scan);
	return rc;
}

/* ---- following a file that is being written ---- */

struct sto_follow {
	struct scan scan;
	bool begun; /* the file block was there */
	bool ended; /* the end block was */
	char path[];
};

int log_follow_open(struct sto_follow **out, const struct sto_io *io, const char *path, uint64_t file_id)
{
	size_t path_bytes = strlen(path) + 1;
	struct sto_follow *follow = calloc(1, sizeof(*follow) + path_bytes);
	if (!follow)
		return -ENOMEM;
	memcpy(follow->path, path, path_bytes);
	follow->scan = (struct scan){.io = io, .path = follow->path, .file_id = file_id};
	follow->scan.fd = io->open(io, path, O_RDONLY, 0);
	if (follow->scan.fd < 0) {
		int rc = follow->scan.fd;
		free(follow);
		return rc;
	}
	*out = follow;
	return 0;
}

void sto_follow_close(struct sto_follow *follow)
{
	if (!follow)
		return;
	scan_close(&follow->scan);
	free(follow);
}

uint64_t sto_follow_file_id(const struct sto_follow *follow)
{
	return follow->scan.file_id;
}

uint64_t sto_follow_offset(const struct sto_follow *follow)
{
	return follow->scan.offset;
}

int64_t sto_follow_next(struct sto_follow *follow, sto_event_fn fn, void *context)
{
	return sto_follow_records(follow, &(struct sto_record_fns){.event = fn, .context = context});
}

int64_t sto_follow_records(struct sto_follow *follow, const struct sto_record_fns *fns)
{
	struct scan *scan = &follow->scan;
	int64_t given = 0;
	/* Without preallocation the file grows. */
	int rc = scan->io->size(scan->io, scan->fd, &scan->bytes);
	if (!rc && !follow->begun) {
		rc = first_pass(scan);
		if (rc <= 0)
			return rc;
		follow->begun = true;
		rc = 0;
	}
	while (!rc && !follow->ended) {
		int good = block_read(scan, scan->offset);
		if (good < 0)
			return good;
		if (!good)
			break;
		const struct log_block *block = block_of(scan);
		if (!follows(scan, block))
			break;
		struct log_block head = *block;
		if (head.kind == LOG_END) {
			follow->ended = true;
			break;
		}
		uint64_t others = 0;
		rc = records_give(scan, fns, &others);
		given += (int64_t)(head.records - (fns->other ? 0 : others));
		scan->last = head;
		scan->offset += head.block_bytes;
	}
	return rc ? rc : given;
}
