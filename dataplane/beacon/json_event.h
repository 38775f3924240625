/*
 * JSON (RFC 8259) to an event, by the schema of contract section 4. Pure: bytes in, verdict out; no allocation, no system call.
 * Strings of the result point into the input or into `scratch`: valid until the next call with it.
 */
#ifndef TURNPIKE_JSON_EVENT_H
#define TURNPIKE_JSON_EVENT_H

#include "turnpike/event.h"

#include <stdbool.h>

enum { DP_JSON_DEPTH_MAX = 64 };

/*
 * Working memory of a parser, one per rx core: 4.2 MiB, nearly all of it for the keys of a 1 MiB body made of keys, and half a MiB to finish
 * events with, which other parsers of the same core may use.
 */
struct dp_json_scratch;
struct dp_json_scratch *dp_json_scratch_new(void); /* cold */
void dp_json_scratch_free(struct dp_json_scratch *scratch);
struct tp_event_scratch *dp_json_scratch_finish(struct dp_json_scratch *scratch);

struct dp_json_limits {
	uint64_t now_ms; /* the clock, for `future` */
	uint64_t max_future_ms;
};

struct dp_json_result {
	enum tp_reject reason; /* TP_OK: *parsed is complete, tp_event_finish() was called */
	enum tp_field field;   /* which field, where one is to blame */
	bool syntax;           /* the text is not JSON: where the value ends is unknown (an array around it is refused whole) */
	bool bad_trace;        /* a trace field was ignored as invalid */
	size_t used;           /* bytes of the value, when !syntax; when syntax: offset of the fault */
};

/*
 * Parses one value that starts at text[0] (no leading white space) and must be an object. When the value is well-formed JSON but no
 * valid event, `reason` tells the first fault in document order (missing fields last), and `used` is right, so a batch goes on.
 *   - duplicate keys at any depth (after unescaping), invalid UTF-8, lone surrogates: not `syntax`, rejected alone.
 *   - nesting deeper than 64 (the event object itself is depth 1), bad grammar, NaN, truncation: `syntax`, TP_MALFORMED.
 *   - a value that has not ended after 1 MiB + 64 KiB: `syntax`, TP_TOO_LARGE.
 *   - a scalar or array in place of the object: TP_BAD_TYPE, not `syntax` if it is itself well-formed.
 * `ip_address` sets TP_HAS_IP | TP_IP_SENT; without it the caller fills in ip[] and TP_HAS_IP from the connection.
 */
struct dp_json_result dp_json_event(struct dp_json_scratch *scratch, const char *text, size_t bytes,
				    const struct dp_json_limits *limits, struct tp_parsed *parsed);

/* First byte at or after `at` that is no JSON white space; `bytes` if none. */
size_t dp_json_skip_space(const char *text, size_t at, size_t bytes);

#endif
