/*
 * The inside of the JSON event parser: what its files share. Private to json_*.c, their tests and fuzzers.
 *
 *     json_event.c    begins and ends a parse, converts id, address and trace, chooses the variant by the processor
 *     json_fast.h     the common case of one "key":value pair, compiled per instruction set (json_sse.c, json_avx2.c, json_avx512.c)
 *     json_pair.c     the general case of one pair: everything RFC 8259 allows, every check of the schema
 *     json_skip.c     validates a value that nobody wants; numbers, literals, white space
 *     json_string.c   strings: escapes, UTF-8, surrogates
 *     json_key.c      which field a key is; duplicate keys among unknown ones
 *
 * A parse is a loop over pairs. The fast case takes as many as it can and stops *before* the first thing that surprises it, without
 * side effects; the general case takes that one; and so on. The general case alone is a whole parser: the scalar variant, which is the
 * oracle of the others.
 *
 * The fast case works on a copy of the text, made together with a bit map of the bytes that end or complicate a string. A text
 * that is longer than an event usually is (the rest of an array) is first tried by its first kilobyte, then by its first four, and
 * then parsed where it is, by the general case.
 *
 *           ┌──────────── "," ─────────────┐
 *           ▼                              │            "}" of geo: stays SEPARATOR, one level up
 *     ─► DP_JSON_KEY ── key ":" value ─► DP_JSON_SEPARATOR ── "}" ─► DP_JSON_DONE
 *           └────────────── bad grammar ───┴─► DP_JSON_BROKEN
 *
 * Invariants: text <= at <= end. `previous` names the pair before `at` and with it the object we are in, and whether it is still
 * empty. Faults keep the one that starts first in the text. A key enters `seen` before its value is looked at.
 *
 * One rx core owns a scratch; nothing here is shared but constant tables.
 */
#ifndef TURNPIKE_JSON_PARSE_H
#define TURNPIKE_JSON_PARSE_H

#include "json_event.h"
#include "turnpike/event_scratch.h"

enum {
	/* A body is at most 1 MiB; the rest is room for whoever embeds one. */
	DP_JSON_BYTES_MAX = (1 << 20) + (64 << 10),
	/* Unknown keys of all open objects: all but the first of each cost at least 5 bytes (`"":0,`). */
	DP_JSON_KEYS_MAX = DP_JSON_BYTES_MAX / 5 + 2 * DP_JSON_DEPTH_MAX,
	DP_JSON_COPY_MAX = 4096,   /* the fast case works on a copy of up to this many bytes of the text */
	DP_JSON_COPY_FIRST = 1024, /* … at first; seldom is an event longer */
	DP_JSON_SLACK = 128,       /* how far the fast case may read past the copy's end */
	DP_JSON_STORE_MAX = 8192,  /* unescaped known strings of one event; the sum of their limits is below */
	DP_JSON_BID_TEXT_MAX = 1024,
};

/* What `previous` can be besides an enum tp_field: the states in which a key was not the schema's, or there was none yet. */
enum {
	DP_JSON_UNKNOWN = TP_FIELDS, /* an unknown key of the event */
	DP_JSON_UNKNOWN_GEO,         /* an unknown key of geo */
	DP_JSON_OPEN,                /* behind the event's "{" */
	DP_JSON_OPEN_GEO,            /* behind geo's "{" */
	DP_JSON_PREVIOUS
};

enum dp_json_kind {
	DP_JSON_STRING,
	DP_JSON_ID, /* a string that is nearly always 36 bytes */
	DP_JSON_TYPE,
	DP_JSON_TIMESTAMP,
	DP_JSON_IP,
	DP_JSON_GEO,
	DP_JSON_COUNTRY,
	DP_JSON_DEVICE,
	DP_JSON_BID,
	DP_JSON_CURRENCY,
	DP_JSON_POSITION,
	DP_JSON_INT32,
	DP_JSON_TRACE,
	DP_JSON_NEVER, /* no field: matches no key */
};

/* A field of the schema: one cache line. The first half is for the fast case, in the shape that it needs. */
struct dp_json_field {
	char pattern[16];   /* the key with its quotes and colon, as much of it as fits */
	uint32_t counts;    /* bit per byte of the pattern that counts */
	uint32_t bit;       /* in `seen` */
	uint32_t behind;    /* bytes from the opening quote to behind the colon */
	uint32_t string_at; /* where in struct tp_parsed the string goes */
	uint8_t kind;       /* enum dp_json_kind */
	uint8_t geo;        /* 1: a member of geo, else of the event */
	uint8_t string;     /* enum tp_string, for the strings kept as such */
	uint8_t name_bytes;
	const char *name;
	uint16_t bytes_min, bytes_max; /* of a string value, escapes undone */
} __attribute__((aligned(64)));
static_assert(sizeof(struct dp_json_field) == 64, "the table is indexed by a shift");
static_assert(offsetof(struct dp_json_field, pattern) % 16 == 0, "an aligned load");

extern const struct dp_json_field dp_json_fields[DP_JSON_PREVIOUS];

/* The field that a key names in the event (geo == false) or in geo, or DP_JSON_UNKNOWN / _GEO. */
unsigned dp_json_field_find(const char *name, size_t bytes, bool geo);

/* By length and first letter: the only field that a key can be, or TP_FIELD_NONE. */
enum { DP_JSON_NAME_MAX = 19 };
extern const uint8_t dp_json_field_guess[DP_JSON_NAME_MAX + 1][32];

/* A string between its quotes, as written. */
struct dp_json_raw {
	const char *at, *end;
	bool escaped; /* has a backslash */
	bool nul;     /* has \u0000 */
	bool bad;     /* invalid UTF-8 or a lone surrogate; the fault is recorded */
};

struct dp_json_span {
	const char *at; /* NULL: none */
	uint32_t bytes;
	uint32_t offset; /* of the value in the text */
};

/* An unknown key of an object that is still open. */
struct dp_json_seen_key {
	uint32_t hash;
	uint32_t offset; /* of its first byte behind the quote */
};

enum dp_json_state { DP_JSON_KEY, DP_JSON_SEPARATOR, DP_JSON_DONE, DP_JSON_BROKEN };

/* The code for one instruction set. */
struct dp_json_variant {
	const char *name;
	/* The first byte in [at, end) that is a quote, a backslash, below 0x20 or above 0x7f (a "stop"); `end` if none. */
	const char *(*find_stop)(const char *at, const char *end);
	/* Copies text[0..bytes) to s->copy, with a zero byte behind it, and sets s->stops. NULL: there is no fast case. */
	void (*copy)(struct dp_json_scratch *s, const char *text, size_t bytes);
	/* Takes pairs of the copied text while they are of the common kind. */
	enum dp_json_state (*run)(struct dp_json_scratch *s, struct tp_parsed *parsed, enum dp_json_state state);
};

extern const struct dp_json_variant dp_json_scalar, dp_json_sse, dp_json_avx2, dp_json_avx512;

/* NULL-terminated: those that this processor can run, best first, scalar last. */
const struct dp_json_variant *const *dp_json_variants(void);

struct dp_json_scratch {
	const struct dp_json_variant *variant;

	/* ---- the parse at hand ---- */
	const char *text, *end, *at;
	uint64_t latest_ms; /* a later stamp is a future one */
	uint32_t seen;      /* bit per enum tp_field: its key was there */
	uint32_t absent;    /* … but the value was null, or empty where that counts as absent */
	uint32_t previous;
	uint32_t geo_keys; /* keys_count when geo was opened */
	struct dp_json_span ip, trace;

	uint32_t fault;    /* enum tp_reject of the first fault in the text */
	uint32_t field;    /* enum tp_field */
	uint32_t fault_at; /* its offset */
	uint32_t faults;   /* bit per enum tp_reject: was met anywhere (tests) */

	uint32_t store_used;
	uint32_t keys_count;

	/* ---- over parses ---- */
	uint64_t hash_seed;
	uint8_t next[DP_JSON_PREVIOUS]; /* which field followed this one last time: producers keep an order */

	/* The copy of the text that the fast case works on: it may read a little before and behind it. */
	_Alignas(64) char head[64];
	char copy[DP_JSON_COPY_MAX + DP_JSON_SLACK];
	/* Bit per byte of the copy: it is a stop, or behind the text. Two words more than bytes, so that any 8 bytes can be read. */
	uint64_t stops[DP_JSON_COPY_MAX / 64 + 2];

	/* Known strings without their escapes, and room for reading on behind the last one. */
	char store[DP_JSON_STORE_MAX + TP_SLACK_BYTES];
	struct dp_json_seen_key keys[DP_JSON_KEYS_MAX];
	struct dp_json_seen_key sorted[DP_JSON_KEYS_MAX];
	struct tp_event_scratch finish;
};

/* Records a fault at `at`, if none earlier in the text is known. */
void dp_json_fault(struct dp_json_scratch *s, enum tp_reject reason, unsigned field, const char *at);

/* json_pair.c: one pair, or what stands between two. */
enum dp_json_state dp_json_pair(struct dp_json_scratch *s, struct tp_parsed *parsed, enum dp_json_state state);
uint8_t dp_json_device(const char *text, size_t bytes);

/* json_skip.c. All return where the thing ends, or NULL with s->at at the fault when it is no JSON. */
const char *dp_json_space(const char *at, const char *end);
const char *dp_json_number(struct dp_json_scratch *s, const char *at, bool *integer);
/* `depth` containers are open around the value. Faults inside belong to no field. */
const char *dp_json_skip(struct dp_json_scratch *s, const char *at, unsigned depth);

/* json_string.c. `at` is behind the opening quote; the result behind the closing one. */
const char *dp_json_string(struct dp_json_scratch *s, const char *at, unsigned field, struct dp_json_raw *raw);
/* Undoes escapes of a validated string, writes up to `room` bytes, returns how many there are. */
size_t dp_json_unescape(const struct dp_json_raw *raw, char *to, size_t room);
/* One unit of a validated string: a byte, or an escape (to up to 4 bytes). Moves *at. */
unsigned dp_json_unit(const char **at, const char *end, char to[4]);

/* json_key.c: unknown keys. Push each, then close the object with the count from before its first. */
void dp_json_keys_push(struct dp_json_scratch *s, const struct dp_json_raw *raw);
void dp_json_keys_close(struct dp_json_scratch *s, uint32_t base);

/* The parse alone, without what dp_json_event() does to the fields afterwards; for benchmarks. */
struct dp_json_result dp_json_fields_only(struct dp_json_scratch *scratch, const char *text, size_t bytes,
					  const struct dp_json_limits *limits, struct tp_parsed *parsed);

/* Validates any one value at text[0]: where it ends, or syntax. */
struct dp_json_result dp_json_value(struct dp_json_scratch *scratch, const char *text, size_t bytes);

#endif
