/*
 * One connection's receive machine: see http.h for its phases. Bytes go from the transport's memory straight to the parsers wherever a
 * piece of the request is there as a whole; only what is cut by the end of an offer is copied to a buffer. Entered by the rx core.
 * Source: RFC 9112.
 */
#include "http.h"

#include <errno.h>
#include <string.h>

/* How much of an offer is copied at a time while a head's end is not in sight; what lies behind the end is given back. */
enum { HEAD_SLICE_BYTES = 4096 };

enum progress {
	GO,    /* got on; there may be more to do */
	NEED,  /* all input is used */
	STALL, /* no room: c->wait says which */
};

/* ---- buffers ---- */

static size_t buffer_capacity(const struct dp_http_connection *c)
{
	return c->buffer == NULL ? 0 : c->buffer_large ? DP_HTTP_LARGE_BUFFER_BYTES : DP_HTTP_SMALL_BUFFER_BYTES;
}

void dp_http_give_buffer(struct dp_http_connection *c)
{
	if (c->buffer == NULL)
		return;
	dp_pool_give(c->buffer_large ? &c->http->beacon->large : &c->http->beacon->small, c->buffer);
	c->buffer = NULL;
	c->used = 0;
}

/* Makes sure of a buffer for `bytes` that keeps what it holds. False: none is free. */
static bool need_buffer(struct dp_http_connection *c, size_t bytes)
{
	if (c->buffer != NULL && buffer_capacity(c) >= bytes)
		return true;
	struct dp_beacon *beacon = c->http->beacon;
	bool large = bytes > DP_HTTP_SMALL_BUFFER_BYTES || beacon->small.free_count == 0;
	uint8_t *buffer = dp_pool_take(large ? &beacon->large : &beacon->small);
	if (buffer == NULL)
		return false;
	uint32_t used = c->used;
	if (c->buffer != NULL) {
		memcpy(buffer, c->buffer, used);
		dp_http_give_buffer(c);
	}
	c->buffer = buffer;
	c->buffer_large = large;
	c->used = used;
	return true;
}

/* ---- life of a request ---- */

static enum progress stall(struct dp_http_connection *c)
{
	c->wait = DP_WAIT_ROOM;
	c->request_stalled = true;
	if (!dp_link_in(&c->stalled_link))
		dp_link_append(&c->http->stalled, &c->stalled_link);
	return STALL;
}

/* Reception got on: deadlines begin anew. */
static void got_on(struct dp_http_connection *c)
{
	c->rearm_in = true;
	if (c->request_stalled) { /* it was us who were slow */
		c->body_began_ns = dp_http_now_ns(c);
		c->body_taken = 0;
	}
	c->request_stalled = false;
}

/* A body that trickles holds a connection and a buffer for little: over some seconds it must come at a rate that any line has. */
static bool too_slow(const struct dp_http_connection *c, size_t more)
{
	uint64_t now_ns = dp_http_now_ns(c), took_ns = now_ns - c->body_began_ns;
	return now_ns - c->began_ns > DP_HTTP_REQUEST_NS ||
	       (took_ns > DP_HTTP_GRACE_NS && (c->body_taken + more) * DP_HTTP_SECOND_NS < took_ns * DP_HTTP_BODY_RATE);
}

static void count_begun(struct dp_http_connection *c)
{
	if (c->begun)
		return;
	struct tp_counters *counters = dp_http_counters(c);
	TP_COUNT(counters, REQUESTS_RECEIVED);
	TP_COUNT(counters, REQUESTS_IN_FLIGHT);
	c->begun = true;
	c->began_ns = dp_http_now_ns(c);
	got_on(c);
}

/* The first byte of a request is here. False: its sender has been blocked meanwhile, and the connection is cut. */
static bool begin_request(struct dp_http_connection *c)
{
	if (c->begun)
		return true;
	if (dp_beacon_blocked(c->http->beacon, &c->stream->peer.addr)) {
		TP_COUNT(dp_http_counters(c), CONNECTIONS_BLOCKLISTED);
		dp_http_abort(c);
		return false;
	}
	count_begun(c);
	return true;
}

/* The request is an exchange now; reception goes on with the next one, or ends. */
static void end_request(struct dp_http_connection *c)
{
	dp_http_give_buffer(c);
	dp_http_head_reset(&c->head);
	c->begun = false;
	c->wait = DP_WAIT_NONE;
	c->phase = c->current.close ? DP_HTTP_DRAIN : DP_HTTP_IN_HEAD;
	got_on(c);
}

void dp_http_abort(struct dp_http_connection *c)
{
	c->phase = DP_HTTP_DRAIN;
	c->closing = true;
	if (!c->gone)
		c->stream->ops->abort(c->stream);
}

void dp_http_fail(struct dp_http_connection *c, uint16_t status, const char *why)
{
	count_begun(c);
	struct dp_exchange *exchange = dp_exchange_take(c);
	if (exchange == NULL) {
		dp_http_abort(c); /* counted as abandoned */
		return;
	}
	bool in_head = c->phase == DP_HTTP_IN_HEAD;
	bool head_only = in_head ? c->head.fields_at != 0 && c->head.method == DP_HTTP_HEAD : c->current.head_only;
	exchange->answer =
		(struct dp_answer){.kind = DP_ANSWER_PROBLEM, .status = status, .why = why, .close = true, .head_only = head_only};
	dp_exchange_queue(exchange);
	dp_exchange_ready(exchange);
	c->current.close = true;
	end_request(c);
}

/* ---- body complete ---- */

/* Replaces a gzip body by what it decodes to, in a buffer. STALL: no buffer. GO: decoded, or c->current.status tells the error. */
static enum progress decode_body(struct dp_http_connection *c, const char *body, size_t bytes)
{
	struct dp_beacon *beacon = c->http->beacon;
	uint8_t *to = dp_pool_take(&beacon->large);
	if (to == NULL)
		return stall(c);
	size_t written = 0;
	int result = dp_gzip_decode(c->http->gzip, (const uint8_t *)body, bytes, to, DP_HTTP_BODY_BYTES_MAX, DP_HTTP_GZIP_RATIO_MAX,
				    DP_HTTP_GZIP_FREE_BYTES, &written);
	dp_http_give_buffer(c);
	c->buffer = to;
	c->buffer_large = true;
	c->used = (uint32_t)written;
	c->current.coding = DP_HTTP_IDENTITY;
	c->phase = DP_HTTP_READY;
	if (result == -EFBIG) {
		c->current.status = 413;
		c->current.why = "the gzip body is larger than 1 MiB, or than 128 times its compressed size";
	} else if (result != 0) {
		c->current.status = 400;
		c->current.why = "the body is not valid gzip";
	}
	return GO;
}

/*
 * All of the request is here: its body at `body`, its query, if it matters, at `query`. STALL: nothing happened, but that the body may
 * have moved to the buffer (then the phase is READY).
 */
static enum progress complete(struct dp_http_connection *c, const char *query, const char *body, size_t bytes)
{
	struct dp_http_current *current = &c->current;
	bool refusing = current->route == DP_ROUTE_CLICKS && dp_intake_refusing(c->http->beacon->intake); /* 503, unread */
	if (current->coding == DP_HTTP_GZIP && current->keep_body && !refusing) {
		if (decode_body(c, body, bytes) == STALL)
			return STALL;
		body = (const char *)c->buffer;
		bytes = c->used;
	}
	if (!dp_http_serve(c, query, body, bytes))
		return stall(c);
	end_request(c);
	return GO;
}

bool dp_http_retry(struct dp_http_connection *c)
{
	const char *buffer = (const char *)c->buffer;
	const char *query = buffer == NULL ? NULL : buffer + c->current.query.at;
	return complete(c, query, buffer, c->used) == GO;
}

static enum progress complete_buffered(struct dp_http_connection *c)
{
	c->phase = DP_HTTP_READY;
	return dp_http_retry(c) ? GO : STALL;
}

/* ---- body ---- */

static enum progress take_fixed(struct dp_http_connection *c, const char *bytes, size_t count, size_t *used)
{
	struct dp_http_current *current = &c->current;
	size_t n = count < c->left ? count : c->left;
	if (!current->keep_body) {
		*used = n;
		c->left -= (uint32_t)n;
		if (n > 0)
			got_on(c);
		return c->left == 0 ? complete_buffered(c) : NEED;
	}
	if (c->used == 0 && count >= c->left) { /* all of it at once: no copy */
		enum progress progress = complete(c, NULL, bytes, c->left);
		if (progress == GO || c->phase == DP_HTTP_READY)
			*used = n;
		return progress;
	}
	if (n == 0)
		return NEED;
	if (!need_buffer(c, c->used + c->left))
		return stall(c);
	memcpy(c->buffer + c->used, bytes, n);
	c->used += (uint32_t)n;
	c->left -= (uint32_t)n;
	*used = n;
	got_on(c);
	return c->left == 0 ? complete_buffered(c) : NEED;
}

static enum progress take_chunked(struct dp_http_connection *c, const char *bytes, size_t count, size_t *used)
{
	bool keep = c->current.keep_body;
	if (count == 0)
		return NEED;
	if (keep) {
		if (!need_buffer(c, c->used + 1))
			return stall(c);
		size_t room = buffer_capacity(c) - c->used;
		count = count < room ? count : room;
	}
	const char *data = NULL;
	size_t data_bytes = 0;
	enum dp_chunk_step step = dp_chunk_next(&c->chunked, bytes, count, used, &data, &data_bytes);
	got_on(c);
	switch (step) {
	case DP_CHUNK_DATA:
		if (keep) {
			memcpy(c->buffer + c->used, data, data_bytes);
			c->used += (uint32_t)data_bytes;
		}
		return GO;
	case DP_CHUNK_DONE:
		return complete_buffered(c);
	case DP_CHUNK_BAD:
		dp_http_fail(c, c->chunked.status, c->chunked.why);
		return GO;
	default:
		return GO;
	}
}

static enum progress take_body(struct dp_http_connection *c, const char *bytes, size_t count, size_t *used)
{
	if (count > 0 && too_slow(c, count)) {
		dp_http_fail(c, 408, NULL);
		return GO;
	}
	enum progress progress = c->current.chunked ? take_chunked(c, bytes, count, used) : take_fixed(c, bytes, count, used);
	c->body_taken += *used;
	return progress;
}

/* ---- head ---- */

/* 100 Continue, in its place among the answers. Without an exchange to spare it is left out, as RFC 9110 section 10.1.1 allows. */
static void queue_continue(struct dp_http_connection *c)
{
	struct dp_exchange *exchange = dp_exchange_take(c);
	if (exchange == NULL)
		return;
	exchange->answer = (struct dp_answer){.kind = DP_ANSWER_CONTINUE, .status = 100};
	dp_exchange_queue(exchange);
	dp_exchange_ready(exchange);
}

/*
 * The head is parsed, from `bytes` (in the buffer, or not). GO: it is used up. STALL: as if it had not been looked at, or, from the
 * buffer, READY.
 */
static enum progress head_done(struct dp_http_connection *c, const char *bytes)
{
	struct dp_http_current *current = &c->current;
	bool buffered = c->buffer != NULL;
	dp_http_judge(c, bytes);
	bool pixel = current->route == DP_ROUTE_PIXEL && current->status == 0;
	if (!pixel)
		c->used = 0; /* nothing of the head is needed any more */
	if (!current->has_body) {
		if (buffered)
			return complete_buffered(c);
		if (complete(c, bytes + current->query.at, NULL, 0) == GO)
			return GO;
		dp_http_head_reset(&c->head);
		return STALL;
	}
	if (pixel && !buffered) { /* its query must outlive a body that nobody wants */
		if (!need_buffer(c, c->head.bytes)) {
			dp_http_head_reset(&c->head);
			return stall(c);
		}
		memcpy(c->buffer, bytes, c->head.bytes);
		c->used = c->head.bytes;
	}
	if (c->head.expect_continue && current->status == 0)
		queue_continue(c);
	c->phase = DP_HTTP_IN_BODY;
	c->body_began_ns = dp_http_now_ns(c);
	c->body_taken = 0;
	c->left = (uint32_t)c->head.content_length;
	c->chunked = (struct dp_chunked){0};
	got_on(c);
	return GO;
}

/* More of a head whose beginning is in the buffer. */
static enum progress take_head_buffered(struct dp_http_connection *c, const char *bytes, size_t count, size_t *used)
{
	size_t slice = count < HEAD_SLICE_BYTES ? count : HEAD_SLICE_BYTES;
	if (!need_buffer(c, c->used + slice))
		return stall(c);
	uint32_t before = c->used;
	char *buffer = (char *)c->buffer;
	memcpy(buffer + before, bytes, slice);
	c->used += (uint32_t)slice;
	c->request_stalled = false;
	*used = slice;
	enum dp_http_step step = dp_http_head_parse(&c->head, buffer, c->used);
	if (step == DP_HTTP_MORE && !dp_http_head_begun(&c->head, buffer, c->used)) {
		if (c->head.line_at == c->used) { /* it was only an empty line */
			dp_http_give_buffer(c);
			dp_http_head_reset(&c->head);
		}
		return GO;
	}
	if (!begin_request(c))
		return NEED;
	if (step == DP_HTTP_MORE)
		return GO;
	if (step == DP_HTTP_BAD) {
		dp_http_fail(c, c->head.status, c->head.why);
		return GO;
	}
	*used = c->head.bytes - before; /* what lies behind the head is not ours yet */
	c->used = c->head.bytes;
	return head_done(c, buffer);
}

/* All that is there of a head, and nothing of it is in the buffer. */
static enum dp_http_step head_parse(struct dp_http_connection *c, const char *bytes, size_t count)
{
	struct dp_http_memo *memo = &c->http->memo;
	if (dp_memo_find(memo, c->memo_place, &c->head, bytes, count))
		return DP_HTTP_DONE;
	const enum dp_http_step step = dp_http_head_parse(&c->head, bytes, count);
	if (step == DP_HTTP_DONE)
		c->memo_place = dp_memo_note(memo, c->memo_place, &c->head, bytes);
	return step;
}

static enum progress take_head(struct dp_http_connection *c, const char *bytes, size_t count, size_t *used)
{
	if (count == 0)
		return NEED;
	if (!c->begun && c->owed >= DP_HTTP_PIPELINE_MAX) {
		c->wait = DP_WAIT_PIPELINE;
		return STALL;
	}
	if (c->buffer != NULL)
		return take_head_buffered(c, bytes, count, used);
	while (count - *used >= 2 && bytes[*used] == '\r' && bytes[*used + 1] == '\n')
		*used += 2; /* RFC 9112 section 2.2 */
	if (*used != 0)
		return GO;
	enum dp_http_step step = head_parse(c, bytes, count);
	bool begun = step != DP_HTTP_MORE || dp_http_head_begun(&c->head, bytes, count);
	if (begun && !begin_request(c))
		return NEED;
	if (step == DP_HTTP_DONE) {
		uint32_t head_bytes = c->head.bytes;
		enum progress progress = head_done(c, bytes);
		if (progress == GO)
			*used = head_bytes;
		return progress;
	}
	if (step == DP_HTTP_BAD) {
		dp_http_fail(c, c->head.status, c->head.why);
		return GO;
	}
	if (!need_buffer(c, count)) {
		dp_http_head_reset(&c->head);
		return stall(c);
	}
	memcpy(c->buffer, bytes, count);
	c->used = (uint32_t)count;
	c->request_stalled = false;
	*used = count;
	return NEED;
}

/* ---- the loop over them ---- */

size_t dp_http_receive(struct dp_http_connection *c, const char *bytes, size_t count)
{
	size_t at = 0;
	while (!c->gone) {
		enum progress progress = NEED;
		size_t used = 0;
		switch (c->phase) {
		case DP_HTTP_IN_HEAD:
			progress = take_head(c, bytes + at, count - at, &used);
			break;
		case DP_HTTP_IN_BODY:
			progress = take_body(c, bytes + at, count - at, &used);
			break;
		case DP_HTTP_READY:
			progress = dp_http_retry(c) ? GO : STALL;
			break;
		default:
			used = count - at;
			break;
		}
		at += used;
		if (progress == STALL && c->wait == DP_WAIT_PIPELINE) {
			dp_http_flush(c);
			if (c->owed < DP_HTTP_PIPELINE_MAX) {
				c->wait = DP_WAIT_NONE;
				continue;
			}
		}
		if (progress != GO)
			break;
	}
	return at;
}
