/*
 * The UDP batch format, version 1, as docs/protocol.md specifies it: offsets, checks, acknowledgements. Pure: bytes in, verdict out.
 * All integers are little endian and unaligned. Batch and acknowledgement begin alike:
 *
 *   0      4      5      6      8        16       24     26      28       32        40
 *   │ magic│version│kind │flags │ source │ number │bytes │events │checksum│ [tag]   │ events …            batch
 *   │      1       2     …                                                │ batch_checksum, counts, rejects   acknowledgement
 *                                                                        32                       48
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

#include "json_event.h"
#include "turnpike/event.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	DP_BATCH_MAGIC_FIRST = 0x9e, /* no text begins with it: neither ASCII nor the first byte of a UTF-8 sequence */
	DP_BATCH_VERSION = 1,
	DP_BATCH_HEADER_BYTES = 32,
	DP_BATCH_TAG_BYTES = 8,
	DP_BATCH_EVENT_FIXED_BYTES = 28,
	DP_BATCH_BYTES_MIN = 64, /* header and the shortest valid event; no acknowledgement without rejects is longer */
	DP_BATCH_BYTES_MAX = 65507,
	DP_BATCH_ACK_BYTES = 48,
	DP_BATCH_REJECT_BYTES = 4,
	DP_BATCH_REJECTS_LISTED = 32,
	DP_BATCH_ACK_BYTES_MAX = DP_BATCH_ACK_BYTES + DP_BATCH_REJECTS_LISTED * DP_BATCH_REJECT_BYTES,
};

static const uint8_t dp_batch_magic[4] = {DP_BATCH_MAGIC_FIRST, 'T', 'P', 'B'};

enum dp_batch_kind { DP_BATCH_KIND_EVENTS = 1, DP_BATCH_KIND_ACK = 2 };

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
	/* acknowledgement only */
	DP_BATCH_AT_BATCH_CHECKSUM = 32,
	DP_BATCH_AT_ACCEPTED = 36,
	DP_BATCH_AT_DUPLICATES = 38,
	DP_BATCH_AT_LATE = 40,
	DP_BATCH_AT_CONFLICTS = 42,
	DP_BATCH_AT_REJECTED = 44,
	DP_BATCH_AT_LISTED = 46,
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
};

/*
 * Checks everything but the inside of the events: magic, version, kind, flags, lengths, checksum, and that the chain of event
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

/* How many rejects an answer to a batch of `request_bytes` may list, so that it is never larger than the batch. */
uint32_t dp_batch_ack_room(uint32_t request_bytes);

/* Writes the acknowledgement of `batch`, listing `listed` rejects; `to` has room for DP_BATCH_ACK_BYTES_MAX. Returns its length. */
size_t dp_batch_ack(uint8_t *to, const struct dp_batch *batch, const struct dp_batch_counts *counts,
		    const struct dp_batch_reject *rejects, uint32_t listed);

/* CRC-32C (RFC 3720 appendix B.4): reflected 0x1EDC6F41, initial value and final xor all ones. Start with crc = 0. */
uint32_t dp_crc32c(uint32_t crc, const void *bytes, size_t count);

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
