/*
 * The UDP batch format, versions 1 and 2, as docs/protocol.md specifies it: offsets, checks, answers. Pure: bytes in, verdict out.
 * All integers are little endian and unaligned. Every datagram begins alike:
 *
 *   0      4      5      6      8        16       24     26      28       32
 *   │ magic│version│kind │flags │ source │ number │bytes │events │checksum│ [tag] │ body
 *
 * The tag, where flags say that there is one, has 8 bytes in version 1 (batches only) and 16 in version 2 (all kinds). Offsets of a body count
 * from behind it. Bodies:
 *
 *   batch            events end to end
 *   acknowledgement  batch_checksum 4, accepted 2, duplicates 2, late 2, conflicts 2, rejected 2, listed 2,
 *                    version 2: window 2, core 2, zero 4,   then the listed rejects
 *   later            batch_checksum 4, window 2, wait_ms 2, why 1, zero 7                          version 2 only
 *   hello            128 zero bytes                                                                version 2 only
 *   layout           shards 2, cores 2, core 2, window 2, datagram_bytes 2, hash 1, zero 5, core of each shard   version 2 only
 *
 * The checksum is CRC-32C over the whole datagram with its own four bytes taken as zero. An event is a fixed part of 28 bytes, the
 * optional numbers that its flags name, and its strings end to end:
 *
 *   0      2     3       5        6      8          16       18       27        28
 *   │bytes │type │device │ flags  │agent │ timestamp│referer │ 9 lengths │ zero │ ip? bid? currency? … │ id │ ad │ campaign │ …
 *          (device is one byte at 3, flags two bytes at 4, the user agent's length two bytes at 6)
 */
#ifndef TURNPIKE_BATCH_FORMAT_H
#define TURNPIKE_BATCH_FORMAT_H

#include "crc32c.h"
#include "json_event.h"
#include "turnpike/event.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	DP_BATCH_MAGIC_FIRST = 0x9e, /* no text begins with it: neither ASCII nor the first byte of a UTF-8 sequence */
	DP_BATCH_VERSION = 2,        /* the highest that we speak */
	DP_BATCH_HEADER_BYTES = 32,
	DP_BATCH_TAG_BYTES = 8, /* of version 1 */
	DP_BATCH_WIDE_TAG_BYTES = 16,
	DP_BATCH_EVENT_FIXED_BYTES = 28,
	DP_BATCH_BYTES_MIN = 64, /* header and the shortest valid event; no acknowledgement without rejects is longer */
	DP_BATCH_BYTES_MAX = 65507,
	DP_BATCH_ACK_BODY_BYTES = 16, /* of version 1, before the rejects */
	DP_BATCH_WIDE_ACK_BODY_BYTES = 24,
	DP_BATCH_LATER_BODY_BYTES = 16,
	DP_BATCH_HELLO_BODY_BYTES = 128,
	DP_BATCH_LAYOUT_BODY_BYTES = 16, /* before the shards' cores */
	DP_BATCH_SHARDS_MAX = 64,
	DP_BATCH_ACK_BYTES = DP_BATCH_HEADER_BYTES + DP_BATCH_ACK_BODY_BYTES,
	DP_BATCH_REJECT_BYTES = 4,
	DP_BATCH_REJECTS_LISTED = 32,
	DP_BATCH_ACK_BYTES_MAX = DP_BATCH_HEADER_BYTES + DP_BATCH_WIDE_TAG_BYTES + DP_BATCH_WIDE_ACK_BODY_BYTES +
				 DP_BATCH_REJECTS_LISTED * DP_BATCH_REJECT_BYTES,
};

static const uint8_t dp_batch_magic[4] = {DP_BATCH_MAGIC_FIRST, 'T', 'P', 'B'};

enum dp_batch_kind {
	DP_BATCH_KIND_EVENTS = 1,
	DP_BATCH_KIND_ACK = 2,
	/* version 2 */
	DP_BATCH_KIND_LATER = 3,
	DP_BATCH_KIND_HELLO = 4,
	DP_BATCH_KIND_LAYOUT = 5,
};

/* Why a batch is told "later". */
enum dp_batch_why { DP_BATCH_WHY_FULL = 1, DP_BATCH_WHY_WINDOW = 2 };

/* How a layout says that events spread over shards. */
enum { DP_BATCH_HASH_XXH3 = 1, DP_BATCH_NO_CORE = 0xff };

enum { DP_BATCH_FLAG_TAG = 1 << 0 };

/* Where the fields of both kinds lie. */
enum {
	DP_BATCH_AT_VERSION = 4,
	DP_BATCH_AT_KIND = 5,
	DP_BATCH_AT_FLAGS = 6,
	DP_BATCH_AT_SOURCE = 8,
	DP_BATCH_AT_NUMBER = 16,
	DP_BATCH_AT_BYTES = 24,
	DP_BATCH_AT_EVENTS = 26,
	DP_BATCH_AT_CHECKSUM = 28,
	DP_BATCH_AT_TAG = 32,
};

/* Where those of an answer's body lie. */
enum {
	DP_BATCH_IN_CHECKSUM = 0,
	DP_BATCH_IN_ACCEPTED = 4,
	DP_BATCH_IN_DUPLICATES = 6,
	DP_BATCH_IN_LATE = 8,
	DP_BATCH_IN_CONFLICTS = 10,
	DP_BATCH_IN_REJECTED = 12,
	DP_BATCH_IN_LISTED = 14,
	DP_BATCH_IN_WINDOW = 16, /* version 2, like the next */
	DP_BATCH_IN_CORE = 18,
	DP_BATCH_LATER_IN_WINDOW = 4,
	DP_BATCH_LATER_IN_WAIT = 6,
	DP_BATCH_LATER_IN_WHY = 8,
	DP_BATCH_LAYOUT_IN_SHARDS = 0,
	DP_BATCH_LAYOUT_IN_CORES = 2,
	DP_BATCH_LAYOUT_IN_CORE = 4,
	DP_BATCH_LAYOUT_IN_WINDOW = 6,
	DP_BATCH_LAYOUT_IN_BYTES = 8,
	DP_BATCH_LAYOUT_IN_HASH = 10,
	/* those of version 1, which has no tag before them */
	DP_BATCH_AT_BATCH_CHECKSUM = DP_BATCH_HEADER_BYTES + DP_BATCH_IN_CHECKSUM,
	DP_BATCH_AT_ACCEPTED = DP_BATCH_HEADER_BYTES + DP_BATCH_IN_ACCEPTED,
	DP_BATCH_AT_LISTED = DP_BATCH_HEADER_BYTES + DP_BATCH_IN_LISTED,
};

/* An event's fixed part. */
enum {
	DP_BATCH_EVENT_AT_BYTES = 0,
	DP_BATCH_EVENT_AT_TYPE = 2,
	DP_BATCH_EVENT_AT_DEVICE = 3,
	DP_BATCH_EVENT_AT_FLAGS = 4,
	DP_BATCH_EVENT_AT_AGENT_BYTES = 6,
	DP_BATCH_EVENT_AT_TIMESTAMP = 8,
	DP_BATCH_EVENT_AT_REFERER_BYTES = 16,
	DP_BATCH_EVENT_AT_LENGTHS = 18, /* event id (0: 16 raw bytes), ad … city, one byte each */
	DP_BATCH_EVENT_AT_ZERO = 27,
};

/* An event's flags: which optional numbers follow the fixed part, in this order. */
enum {
	DP_BATCH_HAS_IPV4 = 1 << 0,     /* 4 bytes, network order */
	DP_BATCH_HAS_IPV6 = 1 << 1,     /* 16 bytes, network order */
	DP_BATCH_HAS_BID = 1 << 2,      /* u64 micros */
	DP_BATCH_HAS_CURRENCY = 1 << 3, /* 3 letters */
	DP_BATCH_HAS_COUNTRY = 1 << 4,  /* 2 letters */
	DP_BATCH_HAS_POSITION = 1 << 5, /* u16 */
	DP_BATCH_HAS_TIMEZONE = 1 << 6, /* i32 */
	DP_BATCH_HAS_MOUSE = 1 << 7,    /* i32 */
	DP_BATCH_HAS_TRACE = 1 << 8,    /* 16 bytes trace id, 8 bytes span id, 1 byte flags */
	DP_BATCH_EVENT_FLAGS = (1 << 9) - 1,
};

/* Device types on the wire: 0 is "derive it from the user agent". */
enum { DP_BATCH_DEVICE_OTHER = 6 };

enum dp_batch_fault {
	DP_BATCH_OK,
	DP_BATCH_MALFORMED,
	DP_BATCH_BAD_VERSION,
	DP_BATCH_BAD_CHECKSUM,
};

struct dp_batch {
	uint64_t source, number;
	uint32_t checksum;
	uint16_t bytes, events;
	uint16_t events_at; /* offset of the first event */
	uint8_t version;
	uint8_t kind; /* EVENTS or HELLO */
	bool tagged;
};

/*
 * Checks everything but the tag and the inside of the events: magic, version, kind, flags, lengths, checksum, and that the chain of event
 * lengths ends exactly at the end. Any bytes may be given.
 */
enum dp_batch_fault dp_batch_open(const uint8_t *bytes, size_t count, struct dp_batch *batch);

struct dp_batch_event {
	enum tp_reject reason; /* TP_OK: *parsed is complete, tp_event_finish() still has to be called */
	enum tp_field field;
	bool bad_trace; /* a trace of zeros was ignored */
	uint16_t bytes; /* of this event: the next one begins behind */
};

/*
 * Decodes the event at `at`; dp_batch_open() has checked that its length is at least 28 and lies within the datagram. Strings of the
 * result point into the datagram. ip[] is set only when sent.
 */
struct dp_batch_event dp_batch_event(const uint8_t *at, const struct dp_json_limits *limits, struct tp_parsed *parsed);

struct dp_batch_reject {
	uint16_t index;
	uint8_t reason; /* enum tp_reject */
	uint8_t field;  /* enum tp_field */
};

struct dp_batch_counts {
	uint16_t accepted, duplicates, late, conflicts, rejected;
};

/* How many rejects an answer to this batch may list, so that it is never larger than the batch. */
uint32_t dp_batch_ack_room(const struct dp_batch *batch);

/* What version 2 tells with its answers. */
struct dp_batch_told {
	uint16_t window; /* how many batches of the source may be unacknowledged */
	uint16_t core;   /* which rx core took this one */
};

/*
 * Writes the acknowledgement of `batch`, listing `listed` rejects, signed with `key` if that is not NULL and the version can; `to` has room
 * for DP_BATCH_ACK_BYTES_MAX. Returns its length.
 */
size_t dp_batch_ack(uint8_t *to, const struct dp_batch *batch, const struct dp_batch_counts *counts,
		    const struct dp_batch_told *told, const struct dp_batch_reject *rejects, uint32_t listed, const uint64_t *key);

/* Writes "later": the batch was not taken, for reason `why`, and should not come again before wait_ms. Version 2 only. Likewise. */
size_t dp_batch_later(uint8_t *to, const struct dp_batch *batch, const struct dp_batch_told *told, uint16_t wait_ms,
		      enum dp_batch_why why, const uint64_t *key);

struct dp_batch_layout {
	uint16_t shards, cores; /* at most DP_BATCH_SHARDS_MAX shards */
	uint16_t datagram_bytes;
	const uint8_t *shard_core; /* the rx core on the CPU of each shard, or DP_BATCH_NO_CORE */
};

/* Writes the answer to a hello. Likewise. */
size_t dp_batch_layout(uint8_t *to, const struct dp_batch *hello, const struct dp_batch_told *told,
		       const struct dp_batch_layout *layout, const uint64_t *key);

static inline uint16_t dp_batch_u16(const uint8_t *at)
{
	uint16_t v;
	memcpy(&v, at, sizeof v);
	return v;
}

static inline uint32_t dp_batch_u32(const uint8_t *at)
{
	uint32_t v;
	memcpy(&v, at, sizeof v);
	return v;
}

static inline uint64_t dp_batch_u64(const uint8_t *at)
{
	uint64_t v;
	memcpy(&v, at, sizeof v);
	return v;
}

#endif
