/*
 * The Yahoo streaming benchmark: views of ads, counted per campaign and window of ten seconds of event time.
 *
 *     event ─► filter: is it a view? ─► project: ad, time ─► join: ad to campaign ─► count in (campaign, window) ─► closed windows
 *
 * 100 campaigns of 10 ads each; an event is user_id, page_id, ad_id, ad_type, event_type, event_time, ip_address, the ids random UUIDs. What
 * the original's generator draws, ysb_stream.c draws: any ad, one of five ad types, one of three event types, 10 ms of event time from
 * one event to the next; and, as with its flag `--with-skew`, up to 50 ms too early or too late, one in 100,000 up to a minute late.
 *
 * What is production code here: tp_id_from_text(), tp_addr_parse(), and the JSON parser's vector sweep, strings, escapes, skipping and duplicate
 * keys (ysb_json.c). What is only in the manner of it: bursts of 64, a pass for each stage, an open-addressing table of 16-byte
 * ids that is prefetched for the burst, sums with one writer which a reader may copy at any time under a version. Not in it: hop
 * rings, dedup, fraud rules, log, acknowledgement. Those are mode D, which is the node itself (perf/ysb_node).
 *
 * Source: github.com/yahoo/streaming-benchmarks, data/src/setup/core.clj (schema, generator, check).
 */
#ifndef TURNPIKE_YSB_H
#define TURNPIKE_YSB_H

#include "turnpike/event.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

enum {
	YSB_CAMPAIGNS = 100,
	YSB_ADS_EACH = 10,
	YSB_ADS = YSB_CAMPAIGNS * YSB_ADS_EACH,
	YSB_WINDOW_MS = 10000,
	YSB_STEP_MS = 10, /* of event time, from one event to the next */
	YSB_SKEW_MS = 50,
	YSB_LATE_ONE_IN = 100000,
	YSB_LATE_MS_MAX = 60000,
	YSB_BURST = 64,
	/* Windows that still count: the newest, six for a minute of lateness, one for the skew. */
	YSB_WINDOWS_OPEN = 8,
};

enum ysb_event_type { YSB_VIEW, YSB_CLICK, YSB_PURCHASE, YSB_EVENT_TYPES };
enum ysb_ad_type { YSB_BANNER, YSB_MODAL, YSB_SPONSORED_SEARCH, YSB_MAIL, YSB_MOBILE, YSB_AD_TYPES };

extern const char *const ysb_event_type_name[YSB_EVENT_TYPES], *const ysb_ad_type_name[YSB_AD_TYPES];

/* An event with every field of the original, typed, nothing left out: one cache line. */
struct ysb_tuple {
	struct tp_id user, page, ad;
	uint64_t time_ms;
	uint8_t ip[4];
	uint8_t ad_type, event_type;
	uint8_t pad[2];
};
static_assert(sizeof(struct ysb_tuple) == 64, "a cache line");

/* ---- ysb_stream.c: the generator. Same seed, same events ---- */

struct ysb_stream {
	uint64_t random;
	uint64_t time_us, step_us; /* of event time, before skew */
	struct tp_id ad[YSB_ADS];  /* of campaign i / YSB_ADS_EACH */
	struct tp_id campaign[YSB_CAMPAIGNS];
};

enum { YSB_JSON_BYTES_MAX = 320 };

void ysb_stream_begin(struct ysb_stream *stream, uint64_t seed, uint64_t start_ms, uint64_t step_us);
/* The next event; returns its campaign, which is not in the event. */
uint32_t ysb_stream_next(struct ysb_stream *stream, struct ysb_tuple *tuple);
/* 64 random bits more. */
uint64_t ysb_stream_draw(struct ysb_stream *stream);
/* 36 characters, no terminator. */
char *ysb_id_text(struct tp_id id, char *to);
/* The event as the original writes it, to the byte. Returns the length, at most YSB_JSON_BYTES_MAX. */
uint32_t ysb_tuple_json(const struct ysb_tuple *tuple, char *to);
/* `count` events as lines that our node takes (mode D; the mapping stands in docs/performance.md), one in 100 of them twice. */
int ysb_beacons_write(FILE *to, uint64_t seed, uint64_t count, uint64_t start_ms, uint64_t step_us);

/* ---- ysb_count.c: filter, project, join, count ---- */

struct ysb_counter;

/* A window that has closed, with its counts by campaign. Each at most once, in rising order; one that a leap of time passed over never opened. */
typedef void ysb_closed(void *context, uint64_t window, const uint64_t count[YSB_CAMPAIGNS]);

/* NULL: no memory. `start_ms`: nothing is earlier than YSB_WINDOWS_OPEN - 1 windows before its own. */
struct ysb_counter *ysb_counter_new(const struct tp_id ad[YSB_ADS], uint64_t start_ms, ysb_closed *closed, void *context);
void ysb_counter_free(struct ysb_counter *counter);
/* `count` <= YSB_BURST events, whose times are to be taken as `shift_ms` later. One thread: the writer. */
void ysb_count(struct ysb_counter *counter, const struct ysb_tuple *tuple, uint32_t count, uint64_t shift_ms);
/* Closes what is open. */
void ysb_counter_flush(struct ysb_counter *counter);
/* What counted nothing: views of windows that had closed, views of ads that nobody knows. */
uint64_t ysb_counter_late(const struct ysb_counter *counter);
uint64_t ysb_counter_unknown(const struct ysb_counter *counter);
/* Copies an open window's counts as they are at one moment between two closings. Any thread. False: it is not open. */
bool ysb_counter_read(const struct ysb_counter *counter, uint64_t window, uint64_t count[YSB_CAMPAIGNS]);

/* ---- ysb_json.c: the original's bytes to a tuple ---- */

struct ysb_parser;

struct ysb_parser *ysb_parser_new(void);
void ysb_parser_free(struct ysb_parser *parser);
/*
 * One event that is all of text[0..bytes). Validates as dp_json_event() does: RFC 8259 to the letter, UTF-8, duplicate keys at any depth,
 * depth 64, keys in any order, unknown ones checked and skipped; every field is required, typed and checked.
 * `fast` false: the general case alone, the oracle of the other.
 */
enum tp_reject ysb_parse(struct ysb_parser *parser, const char *text, size_t bytes, bool fast, struct ysb_tuple *tuple);

#endif
