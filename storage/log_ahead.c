/*
 * Reading ahead. See log_ahead.h.
 *
 *   file   ──┬───────┬───────┬───────┬───────┬───────┬──►      pieces; piece n lies in slot n % PIECES of the ring
 *            │ first │       │       │ next  │
 *              └ looked at: everything before is let go, and its slots are asked for again
 *                      └ there, or on their way, in any order
 *
 * Threads: its owner.
 *
 * Invariants: first <= next <= first + PIECES; a slot on its way belongs to the kernel, and nobody looks at it.
 */
#include "log_ahead.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PIECES = 4, FILE_PIECES = 16, UNIT = 4096, PIECE_BYTES_MAX = 1 << 20 };

/* What a slot holds: bytes read, -errno, or this. */
#define ON_ITS_WAY INT64_MAX

struct log_ahead {
	const struct sto_io *io;
	struct sto_reads *reads;
	int fd; /* the caller's, for what a read left out */
	uint64_t bytes, piece_bytes;
	uint64_t first, next, pieces; /* numbers of pieces; how many the file has */
	int64_t got[PIECES];
	uint8_t *ring;
};

int log_ahead_open(struct log_ahead **out, const struct sto_io *io, const char *path, int fd, uint64_t bytes)
{
	struct log_ahead *ahead = calloc(1, sizeof(*ahead));
	if (!ahead)
		return -ENOMEM;
	/* Small files get small pieces: their ring is smaller than they are. */
	uint64_t piece = (bytes / FILE_PIECES + UNIT) / UNIT * UNIT;
	*ahead = (struct log_ahead){
		.io = io, .fd = fd, .bytes = bytes, .piece_bytes = piece < PIECE_BYTES_MAX ? piece : PIECE_BYTES_MAX};
	ahead->pieces = (bytes + ahead->piece_bytes - 1) / ahead->piece_bytes;
	ahead->ring = aligned_alloc(UNIT, PIECES * ahead->piece_bytes);
	int rc = ahead->ring ? io->reads_open(io, path, PIECES, &ahead->reads) : -ENOMEM;
	if (rc) {
		log_ahead_close(ahead);
		return rc;
	}
	*out = ahead;
	return 0;
}

void log_ahead_close(struct log_ahead *ahead)
{
	if (!ahead)
		return;
	/* The kernel may still write into the ring where its reads cannot be waited for: rather that memory is lost. */
	if (!ahead->reads || ahead->reads->ops->close(ahead->reads))
		free(ahead->ring);
	free(ahead);
}

static uint64_t piece_bytes(const struct log_ahead *ahead, uint64_t piece)
{
	uint64_t left = ahead->bytes - piece * ahead->piece_bytes;
	return left < ahead->piece_bytes ? left : ahead->piece_bytes;
}

static uint8_t *piece_at(const struct log_ahead *ahead, uint64_t piece)
{
	return ahead->ring + piece % PIECES * ahead->piece_bytes;
}

/* Waits until the slot is nobody's but ours; what came of its read stands in got[]. 0, or -errno: no read can be waited for. */
static int slot_wait(struct log_ahead *ahead, uint64_t slot)
{
	while (ahead->got[slot] == ON_ITS_WAY) {
		uint32_t which;
		int64_t result = ahead->reads->ops->wait(ahead->reads, &which);
		if (which >= PIECES)
			return result < 0 ? (int)result : -EIO;
		ahead->got[which] = result;
	}
	return 0;
}

/* Lets go what lies before `piece`, and asks for as much as there is room for. */
static int fetch(struct log_ahead *ahead, uint64_t piece)
{
	/* Pieces that nobody looked at (a block larger than the ring) may still be on their way. */
	int rc = 0;
	for (; ahead->first < piece && ahead->first < ahead->next && !rc; ahead->first++)
		rc = slot_wait(ahead, ahead->first % PIECES);
	if (rc)
		return rc;
	if (ahead->first < piece)
		ahead->first = ahead->next = piece;
	for (; ahead->next < ahead->pieces && ahead->next < ahead->first + PIECES; ahead->next++) {
		const uint32_t slot = (uint32_t)(ahead->next % PIECES);
		/* whole pages: behind the end of the file there is nothing that could come */
		uint64_t bytes = (piece_bytes(ahead, ahead->next) + UNIT - 1) / UNIT * UNIT;
		rc = ahead->reads->ops->start(ahead->reads, piece_at(ahead, ahead->next), bytes, ahead->next * ahead->piece_bytes,
					      slot);
		if (rc)
			return rc;
		ahead->got[slot] = ON_ITS_WAY;
	}
	return 0;
}

/* Until the piece is there, whole. */
static int piece_wait(struct log_ahead *ahead, uint64_t piece)
{
	int64_t *got = &ahead->got[piece % PIECES];
	const int64_t want = (int64_t)piece_bytes(ahead, piece);
	int rc = slot_wait(ahead, piece % PIECES);
	if (rc || *got < 0)
		return rc ? rc : (int)*got;
	if (*got < want) {
		int64_t rest = ahead->io->read(ahead->io, ahead->fd, piece_at(ahead, piece) + *got, (uint64_t)(want - *got),
					       piece * ahead->piece_bytes + (uint64_t)*got);
		if (rest < 0)
			return (int)rest;
		*got += rest;
	}
	return *got < want ? -ENODATA : 0;
}

/* All pieces from the one of `offset` on that `bytes` reach into. */
static int range_wait(struct log_ahead *ahead, uint64_t offset, uint64_t bytes)
{
	const uint64_t first = offset / ahead->piece_bytes, last = (offset + bytes - 1) / ahead->piece_bytes;
	int rc = last - first >= PIECES ? -E2BIG : fetch(ahead, first);
	for (uint64_t piece = first; piece <= last && !rc; piece++)
		rc = piece_wait(ahead, piece);
	return rc;
}

static uint64_t ring_at(const struct log_ahead *ahead, uint64_t offset)
{
	return offset % (PIECES * ahead->piece_bytes);
}

const uint8_t *log_ahead_look(struct log_ahead *ahead, uint64_t offset, uint64_t bytes, int *rc)
{
	assert(offset < ahead->bytes && bytes && bytes <= ahead->bytes - offset);
	*rc = range_wait(ahead, offset, bytes);
	if (*rc || ring_at(ahead, offset) + bytes > PIECES * ahead->piece_bytes)
		return NULL;
	return ahead->ring + ring_at(ahead, offset);
}

int log_ahead_copy(struct log_ahead *ahead, void *to, uint64_t offset, uint64_t bytes)
{
	assert(offset < ahead->bytes && bytes && bytes <= ahead->bytes - offset);
	int rc = range_wait(ahead, offset, bytes);
	if (rc)
		return rc;
	const uint64_t at = ring_at(ahead, offset), left = PIECES * ahead->piece_bytes - at, head = bytes < left ? bytes : left;
	memcpy(to, ahead->ring + at, head);
	memcpy((uint8_t *)to + head, ahead->ring, bytes - head);
	return 0;
}

uint64_t log_ahead_span(const struct log_ahead *ahead, uint64_t offset)
{
	uint64_t left = ahead->piece_bytes - offset % ahead->piece_bytes;
	return left < ahead->bytes - offset ? left : ahead->bytes - offset;
}
