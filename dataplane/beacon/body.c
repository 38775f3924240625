/*
 * A beacon's body to staged events.
 *
 *     body ─ trim ─┬─ nothing, or a byte-order mark ───────────────────────────► REFUSED malformed
 *                  ├─ "[" … "]" whole ── each element ─► staged, or rejected alone     a syntax error ► REFUSED malformed
 *                  ├─ one other value whole ─► staged, or REFUSED with its reason
 *                  └─ else line by line ─► staged, or rejected alone       all lines broken ► REFUSED malformed
 *
 * Nothing is staged before it is sure which of these the body is: an array that has line ends in it is first looked through for
 * where it ends (an array on one line cannot be lines, so the common case is parsed once).
 *
 * The books. Each event found is received, and is then exactly one of: rejected (by reason), rolled back (it was staged, but the
 * body was refused), or staged (the intake counts it, in flight, when the request is committed). So for each final outcome
 *
 *     EVENTS_RECEIVED = sum of EVENTS_<reason> + EVENTS_ROLLED_BACK + events staged and committed
 *
 * A refused body in which no event could be told apart (empty, a byte-order mark, no JSON) counts as one malformed event. What lies
 * behind the place where a body was refused was never found, and is counted nowhere. FULL counts nothing: the same body comes again.
 * Without a request (the debug endpoint) nothing is counted at all.
 *
 * One rx core; state is on the stack. Source: contract section 5, `POST /api/v1/clicks`.
 */
#include "body.h"

#include "json_parse.h"

#include <assert.h>
#include <string.h>

struct body {
	struct dp_intake *intake;
	struct dp_json_scratch *scratch;
	struct dp_request *request;
	const struct dp_json_limits *limits;
	const struct dp_body_source *source;
	struct dp_body_reject *rejects;
	const char *text;
	size_t bytes; /* without the white space at its end */
	struct dp_body_result result;
	uint32_t staged;
	uint32_t bad_traces;
};

static const uint16_t reject_counter[TP_REJECTS] = {
	[TP_MALFORMED] = TP_C_EVENTS_MALFORMED, [TP_MISSING_FIELD] = TP_C_EVENTS_MISSING_FIELD,
	[TP_BAD_TYPE] = TP_C_EVENTS_BAD_TYPE,   [TP_BAD_VALUE] = TP_C_EVENTS_BAD_VALUE,
	[TP_TOO_LONG] = TP_C_EVENTS_TOO_LONG,   [TP_DUPLICATE_KEY] = TP_C_EVENTS_DUPLICATE_KEY,
	[TP_BAD_UTF8] = TP_C_EVENTS_BAD_UTF8,   [TP_FUTURE] = TP_C_EVENTS_FUTURE,
	[TP_TOO_LARGE] = TP_C_EVENTS_TOO_LARGE,
};

static bool space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* A rejected event's bytes, [at, end) of the text. They go nowhere before the body's fate is final. */
static void dead_event(struct body *b, enum tp_reject reason, enum tp_field field, size_t at, size_t end)
{
	if (!b->request)
		return;
	while (end > at && space(b->text[end - 1]))
		end--;
	const struct dp_dead_what what = {.reason = reason, .field = field, .part = TP_DEAD_EVENT, .index = b->result.events};
	dp_dead_stage(dp_intake_dead(b->intake), dp_intake_now_ms(b->intake), &what, b->text + at, end - at);
}

/* The one dead letter of a body that is refused: the body, which may be a single event. */
static void dead_body(struct body *b, const struct dp_body_reject *why)
{
	struct dp_dead *dead = dp_intake_dead(b->intake);
	const struct dp_dead_what what = {
		.reason = (enum tp_reject)why->reason,
		.field = (enum tp_field)why->field,
		.part = b->result.form == DP_BODY_SINGLE ? TP_DEAD_EVENT : TP_DEAD_BODY,
		.index = why->index,
	};
	dp_dead_rollback(dead); /* what was rejected alone is part of it */
	dp_dead_stage(dead, dp_intake_now_ms(b->intake), &what, b->text, b->bytes);
	dp_intake_dead_commit(b->intake);
}

/* The final outcome of a body that is taken. */
static struct dp_body_result taken(struct body *b)
{
	b->result.outcome = DP_BODY_STAGED;
	if (b->request) {
		struct tp_counters *counters = dp_intake_counters(b->intake);
		assert(b->result.events == b->result.rejects + b->staged);
		TP_COUNT_ADD(counters, EVENTS_RECEIVED, b->result.events);
		for (uint32_t i = 0; i < b->result.rejects; i++)
			counters->v[reject_counter[b->rejects[i].reason]]++;
		TP_COUNT_ADD(counters, EVENTS_BAD_TRACE, b->bad_traces);
		dp_intake_dead_commit(b->intake);
	}
	return b->result;
}

/* The final outcome of a body that is not: what was staged will be rolled back by the caller. `why` ends up in rejects[0]. */
static struct dp_body_result refused(struct body *b, struct dp_body_reject why)
{
	b->result.outcome = DP_BODY_REFUSED;
	b->result.events = b->result.rejects + b->staged + 1;
	if (b->request) {
		struct tp_counters *counters = dp_intake_counters(b->intake);
		TP_COUNT_ADD(counters, EVENTS_RECEIVED, b->result.events);
		TP_COUNT_ADD(counters, EVENTS_ROLLED_BACK, b->staged);
		for (uint32_t i = 0; i < b->result.rejects; i++)
			counters->v[reject_counter[b->rejects[i].reason]]++;
		counters->v[reject_counter[why.reason]]++;
		dead_body(b, &why);
	}
	b->result.rejects = 1;
	b->rejects[0] = why;
	return b->result;
}

static struct dp_body_result refused_malformed(struct body *b)
{
	return refused(b, (struct dp_body_reject){.index = b->result.events, .reason = TP_MALFORMED});
}

/* The event is [at, end) of the text. */
static void reject(struct body *b, enum tp_reject reason, enum tp_field field, size_t at, size_t end)
{
	dead_event(b, reason, field, at, end);
	b->rejects[b->result.rejects++] = (struct dp_body_reject){
		.index = b->result.events,
		.reason = (uint8_t)reason,
		.field = (uint8_t)field,
	};
}

/* Stages what was just parsed. False: a ring is full. */
static bool stage(struct body *b, struct tp_parsed *parsed, const struct dp_json_result *json)
{
	b->bad_traces += json->bad_trace;
	if (!(parsed->fixed.flags & TP_HAS_IP) && b->source->has_ip) {
		memcpy(parsed->fixed.ip, b->source->ip.byte, sizeof parsed->fixed.ip);
		parsed->fixed.flags |= TP_HAS_IP;
	}
	if (b->request && dp_intake_stage(b->intake, b->request, parsed, b->result.events) != 0)
		return false;
	b->staged++;
	return true;
}

static struct dp_body_result full(struct body *b)
{
	b->result.outcome = DP_BODY_FULL;
	if (b->request)
		dp_dead_rollback(dp_intake_dead(b->intake));
	return b->result;
}

/* Parses the value at `at`, which ends before `end` at the latest. */
static struct dp_json_result value(struct body *b, size_t at, size_t end, struct tp_parsed *parsed)
{
	return dp_json_event(b->scratch, b->text + at, end - at, b->limits, parsed);
}

/* True if the array at the start of the body is not the whole of it, so that the body is lines. */
static bool array_is_a_line(struct body *b)
{
	/* It would have to end on a line of its own, so without a line end there is nothing to look for. */
	if (!memchr(b->text, '\n', b->bytes))
		return false;
	struct dp_json_result array = dp_json_value(b->scratch, b->text, b->bytes);
	return !array.syntax && array.used < b->bytes;
}

static struct dp_body_result array(struct body *b)
{
	b->result.form = DP_BODY_ARRAY;
	size_t at = dp_json_skip_space(b->text, 1, b->bytes);
	if (at < b->bytes && b->text[at] == ']') {
		if (at + 1 != b->bytes)
			return refused_malformed(b);
		return taken(b);
	}
	for (;;) {
		if (b->result.events == DP_BODY_EVENTS_MAX)
			return refused(b, (struct dp_body_reject){.index = b->result.events, .reason = TP_TOO_LARGE});
		struct tp_parsed parsed;
		struct dp_json_result json = value(b, at, b->bytes, &parsed);
		if (json.syntax)
			return refused(b, (struct dp_body_reject){.index = b->result.events, .reason = (uint8_t)json.reason});
		if (json.reason != TP_OK)
			reject(b, json.reason, json.field, at, at + json.used);
		else if (!stage(b, &parsed, &json))
			return full(b);
		b->result.events++;
		at = dp_json_skip_space(b->text, at + json.used, b->bytes);
		if (at == b->bytes)
			return refused_malformed(b);
		if (b->text[at] == ']')
			break;
		if (b->text[at] != ',')
			return refused_malformed(b);
		at = dp_json_skip_space(b->text, at + 1, b->bytes);
	}
	if (at + 1 != b->bytes)
		return refused_malformed(b);
	return taken(b);
}

/* One value as a line of its own, and what came of parsing it. */
struct line {
	size_t at, end; /* without white space before it; up to the line's end */
	struct dp_json_result json;
	struct tp_parsed parsed;
};

static void line_parse(struct body *b, struct line *line)
{
	line->json = value(b, line->at, line->end, &line->parsed);
}

/* Nothing but white space behind the value. */
static bool line_whole(const struct body *b, const struct line *line)
{
	return !line->json.syntax && dp_json_skip_space(b->text, line->at + line->json.used, line->end) == line->end;
}

/* `first` is the first line, parsed already; NULL if it is not. */
static struct dp_body_result lines(struct body *b, struct line *first)
{
	b->result.form = DP_BODY_LINES;
	bool all_broken = true;
	for (size_t at = 0; at < b->bytes;) {
		const char *newline = memchr(b->text + at, '\n', b->bytes - at);
		struct line line = {.end = newline ? (size_t)(newline - b->text) : b->bytes};
		line.at = dp_json_skip_space(b->text, at, line.end);
		at = line.end + 1;
		if (line.at == line.end)
			continue;
		if (b->result.events == DP_BODY_EVENTS_MAX)
			return refused(b, (struct dp_body_reject){.index = b->result.events, .reason = TP_TOO_LARGE});
		struct line *here = first;
		first = NULL;
		if (!here) {
			line_parse(b, &line);
			here = &line;
		}
		if (here->json.syntax) {
			reject(b, here->json.reason, TP_FIELD_NONE, here->at, here->end);
		} else if (!line_whole(b, here)) {
			reject(b, TP_MALFORMED, TP_FIELD_NONE, here->at, here->end);
		} else {
			all_broken = false;
			if (here->json.reason != TP_OK)
				reject(b, here->json.reason, here->json.field, here->at, here->end);
			else if (!stage(b, &here->parsed, &here->json))
				return full(b);
		}
		b->result.events++;
	}
	if (all_broken) {
		/* No JSON at all. The first line speaks for all; the others are counted as they are. */
		struct dp_body_reject why = b->rejects[0];
		b->rejects[0] = b->rejects[--b->result.rejects];
		return refused(b, why);
	}
	return taken(b);
}

/* One value that may be the whole body; lines if it is not. */
static struct dp_body_result single(struct body *b)
{
	const char *newline = memchr(b->text, '\n', b->bytes);
	struct line first = {.end = newline ? (size_t)(newline - b->text) : b->bytes};
	line_parse(b, &first);
	if (newline) {
		/* A first line that is a value by itself, and more behind it: lines for sure. Else a value over many lines, maybe. */
		if (line_whole(b, &first))
			return lines(b, &first);
		first.end = b->bytes;
		line_parse(b, &first);
	}
	if (!line_whole(b, &first))
		return lines(b, NULL);
	b->result.form = DP_BODY_SINGLE;
	if (first.json.reason != TP_OK)
		return refused(b,
			       (struct dp_body_reject){.reason = (uint8_t)first.json.reason, .field = (uint8_t)first.json.field});
	if (!stage(b, &first.parsed, &first.json))
		return full(b);
	b->result.events = 1;
	return taken(b);
}

static struct dp_body_result body_read(struct dp_intake *intake, struct dp_json_scratch *scratch, struct dp_request *request,
				       const char *body, size_t bytes, const struct dp_json_limits *limits,
				       const struct dp_body_source *source, struct dp_body_reject *rejects)
{
	struct body b = {
		.intake = intake,
		.scratch = scratch,
		.request = request,
		.limits = limits,
		.source = source,
		.rejects = rejects,
	};
	size_t at = dp_json_skip_space(body, 0, bytes);
	while (bytes > at && space(body[bytes - 1]))
		bytes--;
	b.text = body + at;
	b.bytes = bytes - at;
	if (b.bytes == 0 || (b.bytes >= 3 && memcmp(b.text, "\xef\xbb\xbf", 3) == 0))
		return refused_malformed(&b);
	if (b.text[0] == '[')
		return array_is_a_line(&b) ? lines(&b, NULL) : array(&b);
	return single(&b);
}

struct dp_body_result dp_body_stage(struct dp_intake *intake, struct dp_json_scratch *scratch, struct dp_request *request,
				    const char *body, size_t bytes, const struct dp_json_limits *limits,
				    const struct dp_body_source *source, struct dp_body_reject *rejects)
{
	struct tp_meter *meter = dp_intake_meter(intake);
	const uint32_t before = tp_meter_enter(meter, TP_STAGE_PARSE);
	const struct dp_body_result result = body_read(intake, scratch, request, body, bytes, limits, source, rejects);
	tp_meter_leave(meter, before);
	return result;
}
