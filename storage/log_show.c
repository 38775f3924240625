/*
 * Looking into a log file. What is damage and what is not is decided by log_scan() alone; this file only shows the blocks on the way.
 *
 * Threads: any; all state is on the stack and in one buffer.
 */
#include "turnpike/log_show.h"

#include "log_format.h"
#include "log_read.h"
#include "store_state.h"
#include "turnpike/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct show {
	const struct sto_io *io;
	int fd;
	uint64_t file_id, bytes;
	sto_log_block_fn fn;
	void *context;
	struct sto_log_summary *summary;
	uint8_t *buffer; /* LOG_BLOCK_BYTES_MAX */
};

const char *sto_block_state_name(enum sto_block_state state)
{
	static const char *const name[] = {[STO_BLOCK_GOOD] = "good",
					   [STO_BLOCK_DAMAGED] = "damaged",
					   [STO_BLOCK_MISSING] = "missing",
					   [STO_BLOCK_BEYOND] = "beyond"};
	return name[state];
}

static const char *kind_name(const struct log_block *block)
{
	switch (block->kind) {
	case LOG_FILE:
		return "file";
	case LOG_EVENTS:
		return block->records ? "events" : "witness";
	default:
		return "end";
	}
}

/* 1: a header of this file whose block is whole; 0: a header, but the block does not check out; -ENOENT: none. Else -errno. */
static int block_look(const struct show *show, uint64_t at, struct log_block *head)
{
	if (show->bytes - at < LOG_UNIT)
		return -ENOENT;
	int64_t got = show->io->read(show->io, show->fd, show->buffer, LOG_UNIT, at);
	if (got < 0)
		return (int)got;
	memcpy(head, show->buffer, sizeof(*head));
	if (got < LOG_UNIT || head->magic != LOG_MAGIC || head->file_id != show->file_id || head->kind < LOG_FILE ||
	    head->kind > LOG_END || head->block_bytes < LOG_UNIT || head->block_bytes > LOG_BLOCK_BYTES_MAX ||
	    head->block_bytes % LOG_UNIT || head->block_bytes > show->bytes - at ||
	    head->payload_bytes > head->block_bytes - LOG_HEADER_BYTES)
		return -ENOENT;
	got = show->io->read(show->io, show->fd, show->buffer, head->block_bytes, at);
	if (got < 0)
		return (int)got;
	if ((uint64_t)got < head->block_bytes || memcmp(head, show->buffer, sizeof(*head)) != 0)
		return 0; /* being written this moment */
	return log_checksum((const struct log_block *)(const void *)show->buffer) == head->checksum;
}

static void give(const struct show *show, enum sto_block_state state, const struct log_block *head, uint64_t at)
{
	if (!show->fn)
		return;
	struct sto_log_block block = {.state = state, .kind = "", .offset = at};
	if (state != STO_BLOCK_MISSING) {
		block.kind = kind_name(head);
		block.bytes = head->block_bytes;
		block.payload_bytes = head->payload_bytes;
		block.records = head->records;
		block.sequence = head->sequence;
		block.first_record = head->first_record;
		block.watermark_ms = head->watermark_ms;
		block.durable_sequence = head->durable_sequence;
	}
	show->fn(show->context, &block);
}

static int blocks_show(struct show *show)
{
	struct log_block head, last = {0};
	bool prefix = true;
	for (uint64_t at = 0; at < show->bytes;) {
		int whole = block_look(show, at, &head);
		if (whole < 0 && whole != -ENOENT)
			return whole;
		bool follows =
			at == 0 ? head.kind == LOG_FILE && head.sequence == 0
				: head.salt == last.salt && head.sequence == last.sequence + 1 && head.previous == last.checksum;
		if (whole == 1 && head.durable_sequence > show->summary->proven)
			show->summary->proven = head.durable_sequence;
		if (prefix && whole == 1 && follows && head.offset == at) {
			give(show, STO_BLOCK_GOOD, &head, at);
			last = head;
			at += head.block_bytes;
			if (head.kind == LOG_END)
				return 0;
			continue;
		}
		if (prefix) {
			show->summary->unreadable = at ? last.sequence + 1 : 0;
			show->summary->unreadable_at = at;
			give(show, whole >= 0 ? STO_BLOCK_DAMAGED : STO_BLOCK_MISSING, &head, at);
		} else if (whole >= 0) {
			give(show, whole ? STO_BLOCK_BEYOND : STO_BLOCK_DAMAGED, &head, at);
		}
		prefix = false;
		at += whole == 1 ? head.block_bytes : LOG_UNIT;
	}
	return 0;
}

/* The name's, else that of the first block. 0: neither. */
static uint64_t file_id_find(struct show *show, const char *path)
{
	const char *slash = strrchr(path, '/');
	uint64_t id = folder_name_number(slash ? slash + 1 : path, ".log");
	struct log_block head;
	if (!id && show->io->read(show->io, show->fd, &head, sizeof(head), 0) == (int64_t)sizeof(head) && head.magic == LOG_MAGIC)
		id = head.file_id;
	return id;
}

int sto_log_show(const char *path, sto_log_block_fn fn, void *context, struct sto_log_summary *summary)
{
	static const char *const made[] = {[LOG_RESERVED] = "reserved", [LOG_FILLED] = "filled", [LOG_RECYCLED] = "recycled"};
	static const char *const state_name[] = {[LOG_OPEN] = "open", [LOG_ENDED] = "ended", [LOG_NOTHING] = "empty"};
	*summary = (struct sto_log_summary){.made = "reserved", .state = "damaged"};
	struct show show = {.io = sto_io_system(), .fn = fn, .context = context, .summary = summary};
	show.fd = show.io->open(show.io, path, O_RDONLY, 0);
	if (show.fd < 0)
		return show.fd;
	int rc = show.io->size(show.io, show.fd, &show.bytes);
	show.file_id = rc ? 0 : file_id_find(&show, path);
	if (!rc && !show.file_id)
		rc = -EINVAL;
	show.buffer = rc ? NULL : malloc(LOG_BLOCK_BYTES_MAX);
	if (!rc && !show.buffer)
		rc = -ENOMEM;
	struct log_block head;
	if (!rc && block_look(&show, 0, &head) == 1 && head.made <= LOG_RECYCLED)
		summary->made = made[head.made];
	if (!rc)
		rc = blocks_show(&show);
	enum log_state state = LOG_NOTHING;
	if (!rc) {
		rc = log_scan(show.io, path, show.file_id, false, NULL, NULL, &summary->facts, &state);
		bool empty = state == LOG_OPEN && !summary->facts.blocks && !summary->facts.tail_bytes_ignored;
		if (!rc)
			summary->state = empty ? "empty" : state_name[state];
		rc = rc == -EBADMSG ? 0 : rc;
	}
	summary->bytes = show.bytes;
	show.io->close(show.io, show.fd);
	free(show.buffer);
	return rc;
}
