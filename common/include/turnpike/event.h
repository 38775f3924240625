/*
 * The event: one impression, click or conversion, from the parser to the segment file.
 *
 * A parser fills a `struct tp_parsed`: fixed fields, and strings that point into the beacon's own bytes. When the request is
 * accepted for processing, tp_event_encode() writes it once, as a `struct tp_event` followed by its strings. That record is the
 * slot of the hop ring, the record of the write-ahead log, and the row of a first-generation segment: the same bytes all the way.
 *
 *   0                    160                                      bytes
 *   ├── struct tp_event ──┼─ event_id ─ ad ─ campaign ─ … ─ referer ─ zero padding to 8 ─┼─ evidence ─┤
 *
 * Strings lie in the order of enum tp_string, without terminators; string_bytes[] has their lengths. Evidence is what the shard
 * adds to a tagged click: evidence_count entries of struct tp_evidence. What comes from a parser has none.
 * Source: contract section 4.
 */
#ifndef TURNPIKE_EVENT_H
#define TURNPIKE_EVENT_H

#include "turnpike/fraud_reason.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum tp_event_type { TP_IMPRESSION, TP_CLICK, TP_CONVERSION, TP_EVENT_TYPES };

enum tp_device_type { TP_OTHER, TP_DESKTOP, TP_MOBILE, TP_TABLET, TP_TV, TP_BOT, TP_DEVICE_TYPES };

enum tp_string {
	TP_EVENT_ID, /* empty in a tp_event when the id was a canonical UUID: id[] says it all */
	TP_AD_ID,
	TP_CAMPAIGN_ID,
	TP_ADVERTISER_ID,
	TP_PUBLISHER_ID,
	TP_USER_ID,
	TP_DEVICE_ID,
	TP_REGION,
	TP_CITY,
	TP_USER_AGENT,
	TP_REFERER,
	TP_STRINGS
};

/* tp_event.flags: which optional fields were sent, and how the id is kept. */
enum {
	TP_HAS_IP = 1 << 0,  /* ip[] is the user's address, sent or derived */
	TP_IP_SENT = 1 << 1, /* … and it came in the payload itself */
	TP_HAS_BID = 1 << 2,
	TP_HAS_POSITION = 1 << 3,
	TP_HAS_TIMEZONE = 1 << 4,
	TP_HAS_MOUSE = 1 << 5,
	TP_HAS_TRACE = 1 << 6,
	TP_DEVICE_SENT = 1 << 7, /* device_type came in the payload; else it was derived from the user agent */
};

/* What the shard decided. Written into the slot, kept in the log, told to the client. Stable on disk. */
enum tp_verdict {
	TP_UNDECIDED,
	TP_ACCEPTED,
	TP_DUPLICATE, /* same id, same payload: never in the log */
	TP_LATE,      /* new, but its minute was closed already: counted, the minute gets a new revision */
	TP_CONFLICT,  /* same id, another payload: in the log for inspection, counts nothing */
	TP_REFUSED,   /* no room to make it durable or to look it up: not in the log, the client must retry */
	TP_DEFERRED,  /* slot only: the late lane has it; the answer comes through the late ring */
	TP_AMENDED,   /* log only: no event of its own; the click of this id, shown again with the tags that hold from now on */
	TP_VERDICTS
};

/* Why a beacon's event was rejected; names in tp_reject_name(). Stable in the API. */
enum tp_reject {
	TP_OK,
	TP_MALFORMED,
	TP_MISSING_FIELD,
	TP_BAD_TYPE,
	TP_BAD_VALUE,
	TP_TOO_LONG,
	TP_DUPLICATE_KEY,
	TP_BAD_UTF8,
	TP_FUTURE,
	TP_TOO_LARGE,
	TP_REJECTS
};

/* The fields of the schema, for "which one was wrong". Names in tp_field_name(). */
enum tp_field {
	TP_FIELD_NONE,
	TP_FIELD_EVENT_ID,
	TP_FIELD_EVENT_TYPE,
	TP_FIELD_TIMESTAMP,
	TP_FIELD_AD_ID,
	TP_FIELD_CAMPAIGN_ID,
	TP_FIELD_ADVERTISER_ID,
	TP_FIELD_PUBLISHER_ID,
	TP_FIELD_USER_ID,
	TP_FIELD_DEVICE_ID,
	TP_FIELD_IP_ADDRESS,
	TP_FIELD_USER_AGENT,
	TP_FIELD_REFERER,
	TP_FIELD_GEO,
	TP_FIELD_COUNTRY,
	TP_FIELD_REGION,
	TP_FIELD_CITY,
	TP_FIELD_DEVICE_TYPE,
	TP_FIELD_BID_PRICE,
	TP_FIELD_CURRENCY,
	TP_FIELD_CLICK_POSITION,
	TP_FIELD_TIMEZONE,
	TP_FIELD_MOUSE_MOVES,
	TP_FIELD_TRACE,
	TP_FIELDS
};

/* By which door it came in. Stable on disk (turnpike/dead_letter.h); names in tp_way_name(). */
enum tp_way { TP_WAY_HTTP, TP_WAY_PIXEL, TP_WAY_UDP_TEXT, TP_WAY_UDP_BATCH, TP_WAYS };

enum {
	TP_ID_BYTES_MAX = 64,
	TP_CITY_BYTES_MAX = 128,
	TP_TEXT_BYTES_MAX = 1024, /* user agent, referer */
	TP_EVENT_FIXED_BYTES = 160,
	/* what a parser may make, and with it the longest slot of a hop */
	TP_SENT_BYTES_MAX = TP_EVENT_FIXED_BYTES + 8 * TP_ID_BYTES_MAX + TP_CITY_BYTES_MAX + 2 * TP_TEXT_BYTES_MAX,
	TP_EVIDENCE_BYTES_MAX = TP_FRAUD_REASONS * sizeof(struct tp_evidence),
	TP_EVENT_BYTES_MAX = TP_SENT_BYTES_MAX + TP_EVIDENCE_BYTES_MAX,
};

#define TP_BID_MICROS_MAX (1000000LL * 1000000LL)
#define TP_MINUTE_MS      60000ULL

/* A 128-bit event id: in memory the 16 bytes of a canonical UUID in their order, else a keyed hash of the text. Never all zero. */
struct tp_id {
	uint64_t hi, lo;
};

/* The record. Host byte order (little endian, asserted at build); 8-byte aligned wherever it lies. */
struct tp_event {
	uint32_t bytes;  /* the whole record with strings and padding; multiple of 8 */
	uint8_t type;    /* enum tp_event_type */
	uint8_t device;  /* enum tp_device_type */
	uint8_t flags;   /* TP_HAS_… */
	uint8_t verdict; /* enum tp_verdict; the one field that the shard writes */
	struct tp_id id;
	uint64_t fingerprint; /* of the payload: equal fingerprints are equal payloads */
	uint64_t shard_hash;  /* of device_id, else user_id, else the sent ip_address, else the event id */
	uint64_t timestamp_ms;
	uint64_t received_ms;
	int64_t bid_micros;
	uint8_t ip[16]; /* network order; IPv4 as ::ffff:a.b.c.d */
	uint16_t string_bytes[TP_STRINGS];
	char country[2]; /* upper case, or two zero bytes */
	char currency[3];
	uint8_t trace_flags;
	uint16_t click_position;
	int32_t timezone_offset_min;
	int32_t mouse_moves;
	uint32_t fraud; /* TP_FRAUD_BIT()s, written by the shard */
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint32_t rule_version;  /* of the fraud rules that judged it; written by the shard, 0 where none did */
	uint8_t evidence_count; /* entries behind the strings, in the order of their reasons */
	uint8_t reserved[3];
};

static_assert(sizeof(struct tp_event) == TP_EVENT_FIXED_BYTES, "the record is a disk format");
static_assert(offsetof(struct tp_event, string_bytes) == 80, "the record is a disk format");
static_assert(offsetof(struct tp_event, fraud) == 120, "the record is a disk format");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little endian");

/* A run of bytes that somebody else owns. */
struct tp_str {
	const char *at;
	uint16_t bytes;
};

/* How the strings of a tp_parsed lie. */
enum tp_strings_lie {
	TP_STRINGS_APART,    /* each where string[] says */
	TP_STRINGS_SLACK,    /* … and TP_SLACK_BYTES from behind each may be read, whatever they hold */
	TP_STRINGS_TOGETHER, /* end to end from `packed`, in their order; fixed.string_bytes is set */
	TP_STRINGS_PACKED,   /* … with zeros behind them as a record has them: tp_event_finish_with() made that */
};
enum { TP_SLACK_BYTES = 64 };

/* What a parser hands on. Strings point into the beacon or the parser's scratch: valid until the next parse. */
struct tp_parsed {
	struct tp_event fixed;            /* .bytes, .verdict, .string_bytes, .fraud are not set yet */
	struct tp_str string[TP_STRINGS]; /* TP_EVENT_ID has bytes == 0 when the id was a canonical UUID */
	const char *packed;               /* NULL where they lie apart */
	uint16_t packed_bytes;
	uint8_t lie; /* enum tp_strings_lie */
};

/* Before an event is parsed. Stores side by side: a compiler's "rep stos" for this size costs as much as parsing two fields. */
static inline void tp_parsed_clear(struct tp_parsed *parsed)
{
	typedef uint64_t vector __attribute__((vector_size(16), aligned(8), may_alias));
	vector *at = (vector *)(void *)parsed;
	_Pragma("GCC unroll 32") for (size_t i = 0; i < sizeof *parsed / sizeof *at; i++) at[i] = (vector){0};
}
static_assert(sizeof(struct tp_parsed) % 16 == 0, "cleared in whole vectors");

/* Length of the record that `parsed` makes. */
uint32_t tp_event_encoded_bytes(const struct tp_parsed *parsed);

/* Writes the record to `to` (8-byte aligned, tp_event_encoded_bytes() long). Any thread. */
void tp_event_encode(const struct tp_parsed *parsed, struct tp_event *to);

/*
 * Completes `parsed` once all its fields are in place: fingerprint (over every known field but `trace` and what was derived
 * from the connection), shard_hash, default currency, device derived from the user agent when none was sent.
 * All parsers (JSON, pixel, binary batch) end here, so the same payload has the same fingerprint by every way in.
 */
void tp_event_finish(struct tp_parsed *parsed);

/*
 * The same, with an rx core's own memory (turnpike/event_scratch.h), for many events: what user agents say is remembered, and the strings are
 * packed there once, for the fingerprint and for tp_event_encode(). `parsed` is good for that until the next call with this scratch.
 */
struct tp_event_scratch;
void tp_event_finish_with(struct tp_event_scratch *scratch, struct tp_parsed *parsed);

/* What tp_event_finish() makes of a record's payload, from the record: for readers of formats that leave it out. */
void tp_event_hashes(const struct tp_event *event, uint64_t *fingerprint, uint64_t *shard_hash);

/* The strings of a record. The result points into `event`. */
struct tp_str tp_event_string(const struct tp_event *event, enum tp_string which);

/* The evidence of a record, evidence_count entries; 8-byte aligned. Points into `event`. */
const struct tp_evidence *tp_event_evidence(const struct tp_event *event);

/*
 * Puts `count` entries behind the strings of a record that has none yet, and makes it that much longer. The room is there:
 * TP_EVIDENCE_BYTES_MAX at least. The shard only, on its own copy.
 */
void tp_event_evidence_add(struct tp_event *event, const struct tp_evidence *evidence, uint32_t count);

/*
 * What a verdict means to those who read logs and segments. Counted: an event, once. Logged: any record that a log may hold; beside
 * the counted ones conflicts, and amendments, which only move sums (tp_rollup_add()).
 */
static inline int tp_verdict_counts(uint8_t verdict)
{
	return verdict == TP_ACCEPTED || verdict == TP_LATE;
}
static inline int tp_verdict_logged(uint8_t verdict)
{
	return tp_verdict_counts(verdict) || verdict == TP_CONFLICT || verdict == TP_AMENDED;
}

/* True if `event` with `room` bytes behind it is a well-formed record (lengths within limits, sum fits). For disk readers. */
int tp_event_valid(const struct tp_event *event, uint64_t room);

/*
 * Text to id. Canonical UUIDs (8-4-4-4-12, lower-case hex) give their 16 bytes, *uuid = 1; all else (upper-case UUIDs too: ids
 * compare byte for byte) a hash under the node's secret, *uuid = 0. The all-zero UUID is hashed like text would be, with
 * *uuid = 0, because zero marks an empty slot in tables. 1 <= bytes <= 64.
 */
struct tp_id tp_id_from_text(const char *text, size_t bytes, int *uuid);

/* The text of an event's id, UUID or kept string. `to` has room for TP_ID_BYTES_MAX + 1. Returns the length. */
size_t tp_event_id_text(const struct tp_event *event, char *to);

/* Sets the secret under which non-UUID ids are hashed. Once, at start, before any thread parses; kept in the data folder. */
void tp_id_secret_set(const uint64_t secret[2]);

/* desktop, mobile, tablet, tv, bot, other from a user agent. Pure. */
enum tp_device_type tp_device_from_user_agent(const char *text, size_t bytes);

const char *tp_reject_name(enum tp_reject reason);
const char *tp_field_name(enum tp_field field);
const char *tp_device_name(enum tp_device_type device);
const char *tp_way_name(enum tp_way way); /* "http", "pixel", "udp_text", "udp_batch" */
const char *tp_event_type_name(enum tp_event_type type);
const char *tp_verdict_name(enum tp_verdict verdict);
/* The detail text for a rejected event, such as "campaign_id: a string of 1 to 64 bytes is required". Static storage. */
const char *tp_reject_detail(enum tp_reject reason, enum tp_field field);

#endif
