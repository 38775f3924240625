/*
 * The dead letter: the bytes of an event that was rejected, with why, when, from whom and by which way. It goes the way of an event (ring
 * to the shard, log, raw records of the segment), but is none: nobody counts it, no id is looked at, no answer waits for it.
 *
 *   0                          64                                        bytes
 *   ├── struct tp_dead_letter ──┼─ the first kept_bytes as they came ─┼─ zero padding to 8 ─┤
 *
 * Its first five bytes are laid out as those of a struct tp_event, so that one look at `type` tells them apart. Numbers from
 * TP_RECORD_DEAD_LETTER on are for records that are no events; kinds of events are counted up from 0.
 * Source: contract section 7 (`/api/v1/dlq`); docs/dead-letters.md has the bytes.
 */
#ifndef TURNPIKE_DEAD_LETTER_H
#define TURNPIKE_DEAD_LETTER_H

#include "turnpike/event.h"

#include <stdbool.h>

enum { TP_RECORD_DEAD_LETTER = 128 };

/* What the bytes are. Stable on disk. */
enum tp_dead_part {
	TP_DEAD_EVENT, /* one event of a beacon, or the one that it was */
	TP_DEAD_BODY,  /* a body that was refused as a whole */
	TP_DEAD_PARTS
};

enum {
	/* any record, event or not: what fits into the smallest block of a log behind its header */
	TP_RECORD_BYTES_MAX = 3968,
	TP_DEAD_FIXED_BYTES = 64,
	TP_DEAD_KEPT_BYTES_MAX = TP_RECORD_BYTES_MAX - TP_DEAD_FIXED_BYTES,
};

/* The record. Host byte order (little endian); 8-byte aligned wherever it lies. */
struct tp_dead_letter {
	uint32_t bytes; /* the whole record with its bytes and padding; multiple of 8 */
	uint8_t type;   /* TP_RECORD_DEAD_LETTER */
	uint8_t reason; /* enum tp_reject, never TP_OK */
	uint8_t field;  /* enum tp_field */
	uint8_t way;    /* enum tp_way */
	uint64_t received_ms;
	uint32_t sent_bytes; /* how long it was */
	uint32_t kept_bytes; /* how much of it is here: all, or TP_DEAD_KEPT_BYTES_MAX */
	uint32_t index;      /* which event of its beacon, from 0 */
	uint16_t ingest;     /* entry of the configuration that it came to */
	uint16_t peer_port;
	uint8_t peer[16];    /* who sent it, network order; IPv4 as ::ffff:a.b.c.d */
	uint8_t peer_family; /* 4, 6; 0: not known */
	uint8_t part;        /* enum tp_dead_part */
	uint8_t reserved[14];
};
static_assert(sizeof(struct tp_dead_letter) == TP_DEAD_FIXED_BYTES, "the record is a disk format");
static_assert(offsetof(struct tp_dead_letter, type) == offsetof(struct tp_event, type), "one look at the type tells them apart");
static_assert(offsetof(struct tp_dead_letter, peer) == 32, "the record is a disk format");
static_assert((int)TP_RECORD_BYTES_MAX >= (int)TP_EVENT_BYTES_MAX && TP_RECORD_BYTES_MAX % 8 == 0, "events are records");

static inline uint32_t tp_dead_letter_record_bytes(uint32_t kept_bytes)
{
	return TP_DEAD_FIXED_BYTES + ((kept_bytes + 7) & ~7U);
}

static inline const uint8_t *tp_dead_letter_bytes(const struct tp_dead_letter *letter)
{
	return (const uint8_t *)(letter + 1);
}

/* True if `letter` with `room` bytes behind it is a well-formed record. For readers of disks; any bytes may stand there. */
bool tp_dead_letter_valid(const struct tp_dead_letter *letter, uint64_t room);

/* The record as a dead letter, NULL if it is of another kind. */
static inline const struct tp_dead_letter *tp_dead_letter_of(const struct tp_event *record)
{
	return record->type == TP_RECORD_DEAD_LETTER ? (const struct tp_dead_letter *)(const void *)record : NULL;
}

#endif
