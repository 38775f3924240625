/*
 * Answers in the order of their requests: see http.h. Several go out in one send; what the transport does not take stays where it is,
 * as an exchange, and is rendered again from there. Entered by the rx core.
 */
#include "http.h"

#include <assert.h>
#include <string.h>

/* ---- what is shown of an exchange while somebody looks ---- */

void dp_exchange_see(struct dp_exchange *exchange, bool judged)
{
	const struct dp_http_connection *c = exchange->connection;
	exchange->seen_method = judged ? c->current.method : DP_HTTP_OTHER_METHOD;
	exchange->seen_path_bytes = judged ? c->current.seen_path_bytes : 0;
	memcpy(exchange->seen_path, c->seen_path, exchange->seen_path_bytes);
	exchange->seen_began_ns = c->began_ns;
	exchange->seen_parsed_ns = dp_http_now_ns(c);
	exchange->seen_decided_ns = 0;
}

static void exchange_show(const struct dp_http_connection *c, const struct dp_exchange *exchange)
{
	const struct dp_beacon_options *options = &c->http->beacon->options;
	const struct dp_answer *answer = &exchange->answer;
	uint64_t now_ns = dp_http_now_ns(c), decided_ns = exchange->seen_decided_ns;
	const struct tp_sight_record record = {
		.kind = TP_SIGHT_REQUEST,
		.ingest = (uint8_t)c->stream->ingest,
		.verdict = answer->status < 300 ? TP_C_REQUESTS_ACCEPTED : TP_C_REQUESTS_RECEIVED,
		.status = answer->status,
		.method = exchange->seen_method,
		.waited_ns = now_ns - exchange->seen_began_ns,
		.durable_ns = decided_ns ? decided_ns - exchange->seen_parsed_ns + 1 : 0,
		.accepted = answer->accepted,
		.duplicates = answer->duplicates,
		.late = answer->late,
		.conflicts = answer->conflicts,
		.rejected = answer->rejects,
		.reason = answer->rejects ? answer->reject[0].reason : answer->reason,
		.field = answer->rejects ? answer->reject[0].field : answer->field,
		.peer = c->stream->peer,
	};
	tp_sight_request(options->sight, options->rx, &record, exchange->seen_path, exchange->seen_path_bytes, now_ns);
}

/* ---- exchanges ---- */

struct dp_exchange *dp_exchange_take(struct dp_http_connection *c)
{
	struct dp_http *http = c->http;
	struct dp_exchange *exchange = &c->own;
	bool own = !c->own_used;
	if (!own) {
		exchange = http->free_exchange;
		if (exchange == NULL)
			return NULL;
		http->free_exchange = exchange->next;
	}
	c->own_used = true;
	exchange->next = NULL;
	exchange->connection = c;
	exchange->request = NULL;
	exchange->report = false;
	exchange->own = own;
	exchange->answer_bytes = exchange->sent_bytes = 0;
	exchange->answer.reject = NULL;
	exchange->seen = tp_sight_on(http->beacon->options.sight, TP_SIGHT_REQUEST);
	if (__builtin_expect(exchange->seen, 0))
		dp_exchange_see(exchange, c->phase != DP_HTTP_IN_HEAD);
	return exchange;
}

void dp_exchange_give(struct dp_exchange *exchange)
{
	struct dp_http_connection *c = exchange->connection;
	struct dp_beacon *beacon = c->http->beacon;
	if (exchange->answer.reject != NULL && exchange->answer.reject != exchange->few)
		dp_pool_give(exchange->rejects_large ? &beacon->large : &beacon->small,
			     (uint8_t *)(uintptr_t)exchange->answer.reject);
	exchange->connection = NULL;
	if (exchange->own) {
		c->own_used = false;
		return;
	}
	exchange->next = c->http->free_exchange;
	c->http->free_exchange = exchange;
}

void dp_exchange_queue(struct dp_exchange *exchange)
{
	struct dp_http_connection *c = exchange->connection;
	if (c->last == NULL)
		c->first = exchange;
	else
		c->last->next = exchange;
	c->last = exchange;
	c->owed++;
}

void dp_exchange_ready(struct dp_exchange *exchange)
{
	exchange->answer_bytes = dp_answer_begin(&exchange->answer);
}

static void count_answered(struct tp_counters *counters, uint16_t status)
{
	static const struct {
		uint16_t status, counter;
	} rows[] = {
#define ROW(status) {status, TP_C_REQUESTS_##status}
		ROW(400), ROW(401), ROW(404), ROW(405), ROW(408), ROW(411), ROW(413), ROW(414),
		ROW(415), ROW(417), ROW(429), ROW(431), ROW(501), ROW(503), ROW(505),
#undef ROW
	};
	counters->v[TP_C_REQUESTS_IN_FLIGHT]--;
	if (status < 300) {
		TP_COUNT(counters, REQUESTS_ACCEPTED);
		return;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].status == status) {
			counters->v[rows[i].counter]++;
			return;
		}
	}
	assert(!"a status without a counter");
}

static struct dp_exchange *unqueue_first(struct dp_http_connection *c)
{
	struct dp_exchange *exchange = c->first;
	c->first = exchange->next;
	if (c->first == NULL)
		c->last = NULL;
	c->owed--;
	return exchange;
}

/* `count` more bytes of the answers are with the transport. */
static void sent(struct dp_http_connection *c, size_t count)
{
	while (count > 0) {
		struct dp_exchange *exchange = c->first;
		uint64_t rest = exchange->answer_bytes - exchange->sent_bytes;
		if (count < rest) {
			exchange->sent_bytes += count;
			return;
		}
		count -= rest;
		unqueue_first(c);
		if (exchange->answer.kind != DP_ANSWER_CONTINUE)
			count_answered(dp_http_counters(c), exchange->answer.status);
		if (__builtin_expect(exchange->seen, 0) && exchange->answer.kind != DP_ANSWER_CONTINUE)
			exchange_show(c, exchange);
		dp_exchange_give(exchange);
	}
}

/* As many bytes of ready answers, in order, as fit. */
static size_t render(struct dp_http_connection *c, char *out, size_t room)
{
	size_t filled = 0;
	for (struct dp_exchange *exchange = c->first; exchange != NULL && exchange->answer_bytes != 0; exchange = exchange->next) {
		uint64_t rest = exchange->answer_bytes - exchange->sent_bytes;
		size_t want = rest < room - filled ? (size_t)rest : room - filled;
		size_t n = dp_answer_render(&exchange->answer, exchange->sent_bytes, out + filled, want);
		assert(n == want); /* its length was measured */
		filled += n;
		if (filled == room)
			break;
	}
	return filled;
}

void dp_http_flush(struct dp_http_connection *c)
{
	while (!c->gone && !c->closing && !c->send_blocked && c->first != NULL && c->first->answer_bytes != 0) {
		char *out = c->http->out;
		size_t filled = render(c, out, DP_HTTP_OUT_BYTES);
		size_t taken = c->stream->ops->send(c->stream, out, filled);
		if (c->gone)
			return;
		sent(c, taken);
		c->rearm_out |= taken != 0;
		c->send_blocked = taken < filled;
	}
	bool no_more_requests = c->phase == DP_HTTP_DRAIN || (c->eof && c->phase == DP_HTTP_IN_HEAD && !c->begun && !c->took_less);
	if (!c->gone && !c->closing && c->owed == 0 && no_more_requests) {
		c->phase = DP_HTTP_DRAIN;
		c->closing = true;
		c->stream->ops->close(c->stream);
	}
}

void dp_http_abandon(struct dp_http_connection *c)
{
	struct tp_counters *counters = dp_http_counters(c);
	while (c->first != NULL) {
		struct dp_exchange *exchange = unqueue_first(c);
		if (exchange->request != NULL)
			exchange->request->user = NULL;
		if (exchange->answer.kind != DP_ANSWER_CONTINUE || exchange->request != NULL) {
			TP_COUNT(counters, REQUESTS_ABANDONED);
			counters->v[TP_C_REQUESTS_IN_FLIGHT]--;
		}
		dp_exchange_give(exchange);
	}
}
