/*
 * A complete request to its answer: see http.h. What can be answered at once is; beacons go to the intake, and their exchange waits for
 * on_done(). Entered by the rx core.
 *
 * The order of checks is the contract's: path, method, permission, rate, expectation, length, size, coding, type.
 */
#include "http.h"

#include "forwarded.h"

#include <assert.h>
#include <string.h>

enum served { ANSWERED, WITH_INTAKE, NO_ROOM };

/* ---- the head's judgement ---- */

static bool same_letters(const char *text, const char *lower, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if ((text[i] | 0x20) != lower[i])
			return false;
	return true;
}

/* `Authorization: Bearer TOKEN` names somebody who may send. Who that is goes to *who. */
static bool authorised(const struct dp_http_connection *c, const char *bytes, uint64_t *who)
{
	struct dp_beacon *beacon = c->http->beacon;
	const char *value = bytes + c->head.authorization.at;
	size_t count = c->head.authorization.bytes;
	struct dp_permit permit;
	if (count <= 7 || !same_letters(value, "bearer", 6) || value[6] != ' ')
		return false;
	for (value += 7, count -= 7; count > 0 && *value == ' '; value++)
		count--; /* RFC 9110 section 11.4: one or more spaces */
	if (!dp_permits_ask(beacon->permits, value, count, dp_intake_now_ms(beacon->intake), &permit))
		return false;
	*who = permit.who;
	return true;
}

/* Within what its source may send: the user where a trusted proxy names one, else the peer. */
static bool source_allows(const struct dp_http_connection *c)
{
	const struct tp_addr *user = &c->current.source.ip;
	return dp_beacon_rate_allows(c->http->beacon, c->stream->ingest, c->current.source.has_ip ? user : &c->stream->peer.addr);
}

/* 401, 429 or 0: whether the sender of a beacon may send it, and now. */
static uint16_t judge_sender(struct dp_http_connection *c, const char *bytes)
{
	struct dp_http_current *current = &c->current;
	struct tp_counters *counters = dp_http_counters(c);
	bool tokens = dp_beacon_ingest(c->http->beacon, c->stream->ingest)->auth_tokens;
	uint64_t who = 0;
	if (tokens && !authorised(c, bytes, &who))
		return 401;
	if (c->request_stalled) /* it is looked at once more, and was counted before */
		return 0;
	if (!source_allows(c)) {
		TP_COUNT(counters, RATE_LIMITED_SOURCE);
		return 429;
	}
	if (tokens && !dp_beacon_who_allows(c->http->beacon, c->stream->ingest, who)) {
		TP_COUNT(counters, RATE_LIMITED_TOKEN);
		current->why = "more requests a second than this token may send";
		return 429;
	}
	return 0;
}

/* The error that the head alone earns, or 0. */
static uint16_t judge_status(struct dp_http_connection *c, const char *bytes)
{
	const struct dp_http_head *head = &c->head;
	struct dp_http_current *current = &c->current;
	if (current->route == DP_ROUTE_NONE)
		return 404;
	if (!dp_route_allows((enum dp_route)current->route, (enum dp_http_method)head->method))
		return 405;
	bool beacon = current->route == DP_ROUTE_CLICKS || current->route == DP_ROUTE_PIXEL || current->route == DP_ROUTE_DEBUG;
	uint16_t sender = beacon && head->method != DP_HTTP_OPTIONS ? judge_sender(c, bytes) : 0;
	if (sender != 0)
		return sender;
	if (head->expect_other)
		return 417;
	if (head->method == DP_HTTP_POST && !head->chunked && !head->has_length)
		return 411;
	if (head->content_length > DP_HTTP_BODY_BYTES_MAX)
		return 413;
	if (head->method == DP_HTTP_POST && head->coding == DP_HTTP_OTHER_CODING) {
		current->accept_gzip = true;
		current->why = "the content coding must be gzip, identity or none";
		return 415;
	}
	if (head->method == DP_HTTP_POST && head->content == DP_HTTP_CONTENT_OTHER)
		return 415;
	if (head->expect_continue && beacon && dp_intake_refusing(c->http->beacon->intake))
		return 503;
	return 0;
}

void dp_http_judge(struct dp_http_connection *c, const char *bytes)
{
	const struct dp_http_head *head = &c->head;
	struct dp_http_current *current = &c->current;
	*current = (struct dp_http_current){
		.route = (uint8_t)dp_http_route(head, bytes),
		.method = head->method,
		.head_only = head->method == DP_HTTP_HEAD,
		.close = !head->keep_alive,
		.keep_alive = head->keep_alive && head->minor == 0,
		.chunked = head->chunked,
		.has_body = head->chunked || head->content_length != 0,
		.query = head->query,
	};
	if (tp_sight_on(c->http->beacon->options.sight, TP_SIGHT_REQUEST)) {
		current->seen_path_bytes =
			(uint8_t)(head->path.bytes < TP_SIGHT_PATH_BYTES ? head->path.bytes : TP_SIGHT_PATH_BYTES);
		memcpy(c->seen_path, bytes + head->path.at, current->seen_path_bytes);
	}
	if (current->route == DP_ROUTE_CLICKS || current->route == DP_ROUTE_PIXEL || current->route == DP_ROUTE_DEBUG)
		current->source = dp_forwarded_source(dp_beacon_ingest(c->http->beacon, c->stream->ingest), &c->stream->peer.addr,
						      head, bytes);
	if (head->traceparent.bytes != 0 && dp_intake_traces(c->http->beacon->intake))
		(void)tp_trace_parse(bytes + head->traceparent.at, head->traceparent.bytes, &current->trace);
	current->status = judge_status(c, bytes);
	current->keep_body = head->method == DP_HTTP_POST && current->status == 0;
	current->coding = current->keep_body ? head->coding : DP_HTTP_IDENTITY;
	current->report = current->route == DP_ROUTE_CLICKS && dp_http_wants_report(head, bytes);
	/*
	 * An error is told after its body was read and thrown away, and the connection lives on; but not when the body is one that we
	 * would not read, or that the client only sends when told so, or that may come although none was announced.
	 */
	bool unread = head->content_length > DP_HTTP_BODY_BYTES_MAX || head->expect_continue || head->expect_other;
	if (current->status == 411 || (current->status != 0 && current->has_body && unread)) {
		current->close = true;
		current->has_body = false;
	}
}

/* ---- answers ---- */

static void answer_problem(struct dp_exchange *exchange, uint16_t status, const char *why)
{
	exchange->answer.kind = DP_ANSWER_PROBLEM;
	exchange->answer.status = status;
	exchange->answer.why = why;
}

static void answer_invalid(struct dp_exchange *exchange, uint8_t reason, uint8_t field)
{
	answer_problem(exchange, 400, NULL);
	exchange->answer.reason = reason;
	exchange->answer.field = field;
}

static void answer_kind(struct dp_exchange *exchange, enum dp_answer_kind kind, uint16_t status)
{
	exchange->answer.kind = (uint8_t)kind;
	exchange->answer.status = status;
}

/* What the answer to beacons is, once all their events are decided. */
static void answer_decided(struct dp_exchange *exchange)
{
	if (exchange->answer.route == DP_ROUTE_PIXEL)
		answer_kind(exchange, DP_ANSWER_GIF, 200);
	else if (exchange->report || exchange->answer.rejects != 0)
		answer_kind(exchange, DP_ANSWER_REPORT, 200);
	else
		answer_kind(exchange, DP_ANSWER_EMPTY, 204);
}

/* The intake's call, from dp_intake_poll(): every event of the request is decided and stable. */
static void on_done(struct dp_request *request)
{
	struct dp_exchange *exchange = request->user;
	struct dp_beacon *beacon = (struct dp_beacon *)(uintptr_t)request->user_tag;
	if (exchange == NULL) { /* its connection has gone, and was counted then */
		dp_intake_close(beacon->intake, request);
		return;
	}
	if (__builtin_expect(exchange->seen, 0))
		exchange->seen_decided_ns = dp_intake_now_ns(beacon->intake);
	exchange->answer.accepted = request->accepted;
	exchange->answer.duplicates = request->duplicates;
	exchange->answer.late = request->late;
	exchange->answer.conflicts = request->conflicts;
	if (request->refused != 0)
		answer_problem(exchange, 503, NULL); /* what was accepted will be a duplicate next time */
	else
		answer_decided(exchange);
	dp_intake_close(beacon->intake, request);
	exchange->request = NULL;
	dp_exchange_ready(exchange);
	struct dp_http_connection *c = exchange->connection;
	if (!dp_link_in(&c->ready_link))
		dp_link_append(&c->http->ready, &c->ready_link);
}

static struct dp_request *open_request(struct dp_http_connection *c, struct dp_exchange *exchange)
{
	struct dp_beacon *beacon = c->http->beacon;
	struct dp_request *request = dp_intake_open(beacon->intake, on_done, exchange);
	if (request == NULL)
		return NULL;
	request->user_tag = (uint64_t)(uintptr_t)beacon;
	request->began_ns = c->began_ns;
	request->trace = c->current.trace.given ? &c->current.trace : NULL;
	return request;
}

static enum served commit(struct dp_http_connection *c, struct dp_exchange *exchange, struct dp_request *request)
{
	exchange->request = request;
	dp_intake_commit(c->http->beacon->intake, request);
	return WITH_INTAKE;
}

/* ---- what was rejected, kept for the report ---- */

/* How many rejects of one request could be kept now. */
static uint32_t rejects_room(const struct dp_beacon *beacon)
{
	if (beacon->large.free_count != 0)
		return DP_BODY_EVENTS_MAX;
	if (beacon->small.free_count != 0)
		return DP_HTTP_SMALL_BUFFER_BYTES / sizeof(struct dp_body_reject);
	return DP_EXCHANGE_REJECTS;
}

static_assert(DP_BODY_EVENTS_MAX * sizeof(struct dp_body_reject) <= DP_HTTP_LARGE_BUFFER_BYTES, "a report's rejects fit a buffer");

/* False: no room; nothing happened. */
static bool keep_rejects(struct dp_beacon *beacon, struct dp_exchange *exchange, uint32_t rejects)
{
	if (rejects > rejects_room(beacon))
		return false;
	size_t bytes = rejects * sizeof(struct dp_body_reject);
	struct dp_body_reject *to = exchange->few;
	if (rejects > DP_EXCHANGE_REJECTS) {
		bool large = bytes > DP_HTTP_SMALL_BUFFER_BYTES || beacon->small.free_count == 0;
		to = (struct dp_body_reject *)(void *)dp_pool_take(large ? &beacon->large : &beacon->small);
		exchange->rejects_large = large;
	}
	memcpy(to, beacon->rejects, bytes);
	exchange->answer.reject = to;
	exchange->answer.rejects = rejects;
	return true;
}

/*
 * True if the rejects of this body can surely be kept. Staging cannot be undone once its rejects are counted, so it is asked before:
 * by the body's length, since no event takes less than two bytes; and where that is not enough, by a parse that leaves no trace.
 */
static bool rejects_fit(struct dp_http_connection *c, const char *body, size_t bytes, const struct dp_json_limits *limits)
{
	struct dp_beacon *beacon = c->http->beacon;
	uint32_t room = rejects_room(beacon);
	if (room == DP_BODY_EVENTS_MAX || bytes / 2 + 1 <= room)
		return true;
	struct dp_body_result trial =
		dp_body_stage(beacon->intake, beacon->json, NULL, body, bytes, limits, &c->current.source, beacon->rejects);
	return trial.rejects <= room;
}

/* ---- the resources ---- */

static enum served serve_clicks(struct dp_http_connection *c, struct dp_exchange *exchange, const char *body, size_t bytes)
{
	struct dp_beacon *beacon = c->http->beacon;
	struct dp_json_limits limits = dp_beacon_json_limits(beacon);
	if (!rejects_fit(c, body, bytes, &limits))
		return NO_ROOM;
	struct dp_request *request = open_request(c, exchange);
	if (request == NULL)
		return NO_ROOM;
	dp_dead_origin(dp_intake_dead(beacon->intake), TP_WAY_HTTP, c->stream->ingest, &c->stream->peer);
	struct dp_body_result result =
		dp_body_stage(beacon->intake, beacon->json, request, body, bytes, &limits, &c->current.source, beacon->rejects);
	if (result.outcome == DP_BODY_FULL) {
		dp_intake_rollback(beacon->intake, request);
		return NO_ROOM;
	}
	dp_beacon_count_way(beacon, c->stream->ingest, TP_WAY_HTTP, result.events);
	if (result.outcome == DP_BODY_REFUSED || (result.form == DP_BODY_SINGLE && result.rejects != 0)) {
		dp_intake_rollback(beacon->intake, request);
		answer_invalid(exchange, beacon->rejects[0].reason, beacon->rejects[0].field);
		return ANSWERED;
	}
	exchange->report = c->current.report;
	bool kept = keep_rejects(beacon, exchange, result.rejects);
	assert(kept); /* rejects_fit() said so */
	(void)kept;
	if (request->pending == 0) { /* nothing to wait for: `[]`, or every event was rejected */
		dp_intake_rollback(beacon->intake, request);
		answer_decided(exchange);
		return ANSWERED;
	}
	return commit(c, exchange, request);
}

static enum served serve_debug(struct dp_http_connection *c, struct dp_exchange *exchange, const char *body, size_t bytes)
{
	struct dp_beacon *beacon = c->http->beacon;
	struct dp_json_limits limits = dp_beacon_json_limits(beacon);
	struct dp_body_result result =
		dp_body_stage(beacon->intake, beacon->json, NULL, body, bytes, &limits, &c->current.source, beacon->rejects);
	bool refused = result.outcome == DP_BODY_REFUSED;
	if (!keep_rejects(beacon, exchange, refused ? 1 : result.rejects))
		return NO_ROOM;
	answer_kind(exchange, DP_ANSWER_VERDICT, 200);
	exchange->answer.form = (uint8_t)result.form;
	exchange->answer.events = result.events;
	exchange->answer.refused_whole = refused;
	return ANSWERED;
}

static_assert(TP_C_EVENTS_TOO_LARGE - TP_C_EVENTS_MALFORMED == TP_TOO_LARGE - TP_MALFORMED, "reasons and counters in one order");

/* A rejected pixel's bytes are its query. */
static void dead_pixel(struct dp_http_connection *c, const struct dp_pixel_result *result, const char *query)
{
	struct dp_intake *intake = c->http->beacon->intake;
	struct dp_dead *dead = dp_intake_dead(intake);
	const struct dp_dead_what what = {.reason = result->reason, .field = result->field};
	dp_dead_origin(dead, TP_WAY_PIXEL, c->stream->ingest, &c->stream->peer);
	dp_dead_stage(dead, dp_intake_now_ms(intake), &what, query, c->current.query.bytes);
	dp_intake_dead_commit(intake);
}

static enum served serve_pixel(struct dp_http_connection *c, struct dp_exchange *exchange, const char *query)
{
	struct dp_beacon *beacon = c->http->beacon;
	struct dp_json_limits limits = dp_beacon_json_limits(beacon);
	bool get = c->current.method == DP_HTTP_GET; /* HEAD tells what GET would say, and counts nothing */
	struct dp_request *request = get ? open_request(c, exchange) : NULL;
	if (get && request == NULL)
		return NO_ROOM;
	struct tp_parsed parsed;
	struct dp_pixel_result result =
		dp_pixel_parse(&c->http->pixel, beacon->json, query, c->current.query.bytes, &limits, &parsed);
	if (result.reason != TP_OK) {
		answer_invalid(exchange, (uint8_t)result.reason, (uint8_t)result.field);
		if (get) {
			dp_intake_rollback(beacon->intake, request);
			TP_COUNT(beacon->counters, EVENTS_RECEIVED);
			dp_beacon_count_way(beacon, c->stream->ingest, TP_WAY_PIXEL, 1);
			beacon->counters->v[TP_C_EVENTS_MALFORMED + result.reason - TP_MALFORMED]++;
			dead_pixel(c, &result, query);
		}
		return ANSWERED;
	}
	if (!get) {
		answer_decided(exchange);
		return ANSWERED;
	}
	if ((parsed.fixed.flags & TP_HAS_IP) == 0 && c->current.source.has_ip) {
		memcpy(parsed.fixed.ip, c->current.source.ip.byte, sizeof(parsed.fixed.ip));
		parsed.fixed.flags |= TP_HAS_IP;
	}
	if (dp_intake_stage(beacon->intake, request, &parsed, 0) != 0) {
		dp_intake_rollback(beacon->intake, request);
		return NO_ROOM;
	}
	TP_COUNT(beacon->counters, EVENTS_RECEIVED);
	dp_beacon_count_way(beacon, c->stream->ingest, TP_WAY_PIXEL, 1);
	TP_COUNT_ADD(beacon->counters, EVENTS_MINTED, result.minted);
	TP_COUNT_ADD(beacon->counters, EVENTS_BAD_TRACE, result.bad_trace);
	return commit(c, exchange, request);
}

static enum served serve(struct dp_http_connection *c, struct dp_exchange *exchange, const char *query, const char *body,
			 size_t bytes)
{
	const struct dp_http_current *current = &c->current;
	bool takes_beacons = current->route == DP_ROUTE_CLICKS || current->route == DP_ROUTE_PIXEL;
	if (current->status != 0) {
		answer_problem(exchange, current->status, current->why);
		exchange->answer.accept_gzip = current->accept_gzip;
		return ANSWERED;
	}
	if (current->method == DP_HTTP_OPTIONS) {
		answer_kind(exchange, DP_ANSWER_PREFLIGHT, 204);
		return ANSWERED;
	}
	if ((takes_beacons || current->route == DP_ROUTE_HEALTH) && dp_intake_refusing(c->http->beacon->intake)) {
		answer_problem(exchange, 503, NULL);
		return ANSWERED;
	}
	switch (current->route) {
	case DP_ROUTE_CLICKS:
		return serve_clicks(c, exchange, body, bytes);
	case DP_ROUTE_PIXEL:
		return serve_pixel(c, exchange, query);
	case DP_ROUTE_DEBUG:
		return serve_debug(c, exchange, body, bytes);
	default:
		answer_kind(exchange, DP_ANSWER_HEALTH, 200);
		return ANSWERED;
	}
}

bool dp_http_serve(struct dp_http_connection *c, const char *query, const char *body, size_t bytes)
{
	struct dp_exchange *exchange = dp_exchange_take(c);
	if (exchange == NULL)
		return false;
	if (__builtin_expect(exchange->seen, 0))
		dp_exchange_see(exchange, true);
	exchange->answer = (struct dp_answer){
		.route = c->current.route,
		.head_only = c->current.head_only,
		.close = c->current.close,
		.keep_alive = c->current.keep_alive,
	};
	switch (serve(c, exchange, query, body == NULL ? "" : body, bytes)) {
	case NO_ROOM:
		dp_exchange_give(exchange);
		return false;
	case ANSWERED:
		dp_exchange_queue(exchange);
		dp_exchange_ready(exchange);
		return true;
	default:
		dp_exchange_queue(exchange);
		return true;
	}
}
