/*
 * JSON to an event: begins a parse, drives it (json_parse.h has the picture), and ends it with what needs the whole event.
 *
 *     copy ─► pairs (fast, general, fast, …) ─► address, trace ─► missing fields? ─► id, tp_event_finish()
 *
 * One rx core per scratch (json_scratch.c makes it and chooses the variant).
 *
 * Source: contract section 4; W3C Trace Context, section 3.2 (traceparent).
 */
#include "json_parse.h"

#include "turnpike/addr.h"
#include "turnpike/span.h"

#include <assert.h>
#include <string.h>

enum {
	REQUIRED = 1 << TP_FIELD_EVENT_ID | 1 << TP_FIELD_EVENT_TYPE | 1 << TP_FIELD_TIMESTAMP | 1 << TP_FIELD_AD_ID |
		   1 << TP_FIELD_CAMPAIGN_ID | 1 << TP_FIELD_ADVERTISER_ID,
};
static_assert(TP_FIELDS <= 32, "one bit per field in `seen`");

size_t dp_json_skip_space(const char *text, size_t at, size_t bytes)
{
	return (size_t)(dp_json_space(text + at, text + bytes) - text);
}

void dp_json_fault(struct dp_json_scratch *s, enum tp_reject reason, unsigned field, const char *at)
{
	uint32_t offset = (uint32_t)(at - s->text);
	s->faults |= 1u << reason;
	if (s->fault != TP_OK && s->fault_at <= offset)
		return;
	s->fault = reason;
	s->field = field < TP_FIELDS ? field : TP_FIELD_NONE;
	s->fault_at = offset;
}

/* The text to parse: all of it where it is, or the first `copied` bytes of it as a copy. */
static inline void begin(struct dp_json_scratch *s, const char *text, size_t bytes, size_t copied)
{
	if (bytes > DP_JSON_BYTES_MAX)
		bytes = DP_JSON_BYTES_MAX;
	if (copied) {
		s->variant->copy(s, text, copied);
		text = s->copy;
		bytes = copied;
	}
	s->text = s->at = text;
	s->end = text + bytes;
	s->seen = s->absent = 0;
	s->previous = DP_JSON_OPEN;
	s->ip.at = s->trace.at = NULL;
	s->fault = TP_OK;
	s->field = TP_FIELD_NONE;
	s->faults = 0;
	s->store_used = 0;
	s->keys_count = 0;
}

static struct dp_json_result syntax(const struct dp_json_scratch *s)
{
	/* Cut off by our own limit: it may be well-formed, but nobody will look. */
	bool cut = s->end - s->text == DP_JSON_BYTES_MAX && s->at == s->end;
	return (struct dp_json_result){
		.reason = cut ? TP_TOO_LARGE : TP_MALFORMED,
		.syntax = true,
		.used = (size_t)(s->at - s->text),
	};
}

static inline struct dp_json_result verdict(const struct dp_json_scratch *s)
{
	return (struct dp_json_result){
		.reason = (enum tp_reject)s->fault,
		.field = (enum tp_field)s->field,
		.used = (size_t)(s->at - s->text),
	};
}

static struct dp_json_result other_value(struct dp_json_scratch *s)
{
	dp_json_fault(s, TP_BAD_TYPE, TP_FIELD_NONE, s->at);
	const char *end = dp_json_skip(s, s->at, 0);
	if (!end)
		return syntax(s);
	s->at = end;
	return verdict(s);
}

/* Parses an object, up to its closing brace. */
static inline enum dp_json_state object(struct dp_json_scratch *s, struct tp_parsed *parsed, bool fast)
{
	enum dp_json_state state = DP_JSON_KEY;
	tp_parsed_clear(parsed);
	s->at++;
	for (;;) {
		if (fast) {
			state = s->variant->run(s, parsed, state);
			if (state == DP_JSON_DONE)
				return state;
		}
		state = dp_json_pair(s, parsed, state);
		if (state == DP_JSON_DONE || state == DP_JSON_BROKEN)
			return state;
	}
}

static inline struct dp_json_result parse(struct dp_json_scratch *s, const char *text, size_t bytes,
					  const struct dp_json_limits *limits, struct tp_parsed *parsed)
{
	s->latest_ms = limits->now_ms + limits->max_future_ms;
	if (s->latest_ms < limits->now_ms || s->latest_ms > INT64_MAX)
		s->latest_ms = INT64_MAX;
	if (bytes == 0 || *text != '{') {
		begin(s, text, bytes, 0);
		return bytes == 0 ? syntax(s) : other_value(s);
	}
	/* An object says itself where it ends: if it is whole in the first part of the text, the rest does not matter. */
	bool fast = s->variant->run;
	for (size_t part = DP_JSON_COPY_FIRST; fast && part <= DP_JSON_COPY_MAX; part *= 4) {
		begin(s, text, bytes, bytes < part ? bytes : part);
		if (object(s, parsed, true) == DP_JSON_DONE)
			return verdict(s);
		if (bytes <= part)
			return syntax(s);
	}
	begin(s, text, bytes, 0);
	if (object(s, parsed, false) == DP_JSON_DONE)
		return verdict(s);
	return syntax(s);
}

/* The event's own trace context. */
static bool trace_set(struct tp_event *event, const char *text, size_t bytes)
{
	struct tp_trace trace;
	if (!tp_trace_parse(text, bytes, &trace))
		return false;
	memcpy(event->trace_id, trace.trace_id, sizeof trace.trace_id);
	memcpy(event->span_id, trace.span_id, sizeof trace.span_id);
	event->trace_flags = trace.flags;
	event->flags |= TP_HAS_TRACE;
	return true;
}

static void missing_check(struct dp_json_scratch *s)
{
	uint32_t missing = REQUIRED & ~(s->seen & ~s->absent);
	if (missing && s->fault == TP_OK)
		dp_json_fault(s, TP_MISSING_FIELD, (unsigned)__builtin_ctz(missing), s->end);
}

struct dp_json_result dp_json_event(struct dp_json_scratch *scratch, const char *text, size_t bytes,
				    const struct dp_json_limits *limits, struct tp_parsed *parsed)
{
	struct dp_json_scratch *s = scratch;
	struct dp_json_result result = parse(s, text, bytes, limits, parsed);
	if (result.syntax || *s->text != '{')
		return result;
	if (s->ip.at) {
		struct tp_addr addr;
		if (tp_addr_parse(s->ip.at, s->ip.bytes, &addr) != 0) {
			dp_json_fault(s, TP_BAD_VALUE, TP_FIELD_IP_ADDRESS, s->text + s->ip.offset);
		} else {
			memcpy(parsed->fixed.ip, addr.byte, sizeof addr.byte);
			parsed->fixed.flags |= TP_HAS_IP | TP_IP_SENT;
		}
	}
	bool bad_trace = s->trace.at && !trace_set(&parsed->fixed, s->trace.at, s->trace.bytes);
	missing_check(s);
	result = verdict(s);
	result.bad_trace = bad_trace;
	if (result.reason != TP_OK)
		return result;
	struct tp_str *id = &parsed->string[TP_EVENT_ID];
	int uuid;
	parsed->fixed.id = tp_id_from_text(id->at, id->bytes, &uuid);
	if (uuid)
		*id = (struct tp_str){0};
	if (s->text == s->copy)
		parsed->lie = TP_STRINGS_SLACK; /* all strings are in the copy or in the store */
	tp_event_finish_with(&s->finish, parsed);
	return result;
}

struct dp_json_result dp_json_fields_only(struct dp_json_scratch *scratch, const char *text, size_t bytes,
					  const struct dp_json_limits *limits, struct tp_parsed *parsed)
{
	struct dp_json_result result = parse(scratch, text, bytes, limits, parsed);
	if (result.syntax)
		return result;
	missing_check(scratch);
	return verdict(scratch);
}

struct dp_json_result dp_json_value(struct dp_json_scratch *scratch, const char *text, size_t bytes)
{
	begin(scratch, text, bytes, 0);
	const char *end = dp_json_skip(scratch, scratch->at, 0);
	if (!end)
		return syntax(scratch);
	scratch->at = end;
	return verdict(scratch);
}
