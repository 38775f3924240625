/*
 * The stream's calls from the transport, and the life of connections: see http.h. Entered by the rx core, but for create and destroy.
 * Source: dataplane/beacon/stream.h.
 */
#include "http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the stream's calls ---- */

void dp_http_enter(struct dp_http_connection *c)
{
	c->entered++;
}

static void release(struct dp_http_connection *c)
{
	struct dp_http *http = c->http;
	if (c->begun) {
		TP_COUNT(dp_http_counters(c), REQUESTS_ABANDONED);
		dp_http_counters(c)->v[TP_C_REQUESTS_IN_FLIGHT]--;
	}
	dp_http_abandon(c);
	dp_http_give_buffer(c);
	if (c->source != DP_TALLY_NONE)
		dp_tally_give(&http->sources, c->source);
	dp_link_remove(&c->timer_link);
	dp_link_remove(&c->ready_link);
	dp_link_remove(&c->stalled_link);
	http->owing -= c->owing;
	c->next_free = http->free_connection;
	http->free_connection = c;
}

void dp_http_leave(struct dp_http_connection *c)
{
	if (c->entered == 1 && !c->gone && c->took_less) {
		if (c->phase == DP_HTTP_DRAIN || (c->wait == DP_WAIT_PIPELINE && c->owed < DP_HTTP_PIPELINE_MAX))
			c->wait = DP_WAIT_NONE;
		if (c->wait == DP_WAIT_NONE) {
			c->took_less = false;
			c->stream->ops->resume(c->stream);
		}
	}
	if (--c->entered != 0)
		return;
	if (c->gone) {
		release(c);
		return;
	}
	if (c->wait != DP_WAIT_ROOM && dp_link_in(&c->stalled_link))
		dp_link_remove(&c->stalled_link);
	bool owing = c->begun || c->owed != 0;
	c->http->owing += (uint32_t)owing - (uint32_t)c->owing;
	c->owing = owing;
	dp_http_timer_set(c);
}

/* An IPv4 address or an IPv6 /64, at one ingest entry. */
static uint64_t source_key(const struct dp_stream *stream)
{
	const struct tp_addr *addr = &stream->peer.addr;
	uint64_t key;
	memcpy(&key, addr->byte + (addr->family == 6 ? 0 : 8), sizeof(key));
	return key ^ (uint64_t)stream->ingest << 16 ^ addr->family;
}

/*
 * Counts the connection for its source. False: the source has as many as it may. A trusted peer speaks for many users and has no limit.
 */
static bool source_take(struct dp_http *http, const struct dp_stream *stream, uint32_t *place)
{
	uint32_t most = dp_beacon_ingest(http->beacon, stream->ingest)->connections_per_source;
	*place = DP_TALLY_NONE;
	if (most == 0 || dp_beacon_trusted(http->beacon, stream->ingest, &stream->peer.addr))
		return true;
	*place = dp_tally_take(&http->sources, source_key(stream), most);
	if (*place == DP_TALLY_NONE)
		TP_COUNT(http->beacon->counters, CONNECTIONS_SOURCE_FULL);
	return *place != DP_TALLY_NONE;
}

bool dp_stream_opened(struct dp_stream *stream)
{
	struct dp_beacon *beacon = stream->beacon;
	struct dp_http *http = beacon->http;
	stream->app = NULL;
	if (dp_beacon_blocked(beacon, &stream->peer.addr)) {
		TP_COUNT(beacon->counters, CONNECTIONS_BLOCKLISTED);
		return false;
	}
	struct dp_http_connection *c = http->free_connection;
	uint32_t source;
	if (c == NULL || !source_take(http, stream, &source))
		return false;
	http->free_connection = c->next_free;
	c->stream = stream;
	c->source = source;
	c->phase = DP_HTTP_IN_HEAD;
	c->wait = DP_WAIT_NONE;
	c->begun = c->took_less = c->eof = c->buffer_large = c->request_stalled = false;
	c->rearm_in = c->rearm_out = false;
	c->buffer = NULL;
	c->used = 0;
	dp_http_head_reset(&c->head);
	c->current = (struct dp_http_current){0};
	c->send_blocked = c->closing = c->owing = c->own_used = c->gone = false;
	c->entered = c->owed = 0;
	c->first = c->last = NULL;
	c->timer = DP_TIMER_NONE;
	stream->app = c;
	dp_http_timer_set(c);
	return true;
}

/* The peer will send no more, and everything it sent is taken. */
static void settle_eof(struct dp_http_connection *c)
{
	if (c->begun && (c->phase == DP_HTTP_IN_HEAD || c->phase == DP_HTTP_IN_BODY))
		dp_http_fail(c, 400, "the connection ended in the middle of the request");
}

size_t dp_stream_input(struct dp_stream *stream, const uint8_t *input, size_t count)
{
	struct dp_http_connection *c = stream->app;
	if (c == NULL)
		return count;
	struct tp_meter *meter = stream->beacon->meter;
	const uint32_t before = tp_meter_enter(meter, TP_STAGE_BEACON);
	dp_http_enter(c);
	c->wait = DP_WAIT_NONE;
	c->took_less = false;
	size_t at = dp_http_receive(c, (const char *)input, count);
	c->took_less = at < count;
	if (c->eof && !c->took_less && !c->gone)
		settle_eof(c);
	dp_http_flush(c);
	size_t taken = c->gone || c->phase == DP_HTTP_DRAIN ? count : at;
	if (taken == count)
		c->took_less = false;
	dp_http_leave(c);
	tp_meter_leave(meter, before);
	return taken;
}

void dp_stream_eof(struct dp_stream *stream)
{
	struct dp_http_connection *c = stream->app;
	if (c == NULL)
		return;
	dp_http_enter(c);
	c->eof = true;
	if (!c->took_less)
		settle_eof(c);
	dp_http_flush(c);
	dp_http_leave(c);
}

void dp_stream_writable(struct dp_stream *stream)
{
	struct dp_http_connection *c = stream->app;
	if (c == NULL)
		return;
	dp_http_enter(c);
	c->send_blocked = false;
	dp_http_flush(c);
	dp_http_leave(c);
}

void dp_stream_closed(struct dp_stream *stream)
{
	struct dp_http_connection *c = stream->app;
	if (c == NULL)
		return;
	stream->app = NULL;
	c->stream = NULL;
	c->gone = true;
	if (c->entered == 0)
		release(c);
}

/* ---- life of it all ---- */

int dp_http_create(struct dp_beacon *beacon)
{
	uint32_t connections = beacon->options.connections_max;
	uint32_t exchanges = connections + 1024; /* for pipelines; whoever has no request pending uses his own */
	struct dp_http *http = aligned_alloc(64, (sizeof(*http) + 63) / 64 * 64);
	if (http == NULL)
		return -ENOMEM;
	memset(http, 0, sizeof(*http));
	beacon->http = http;
	http->beacon = beacon;
	http->gzip = dp_gzip_new();
	http->connection = malloc(connections * sizeof(*http->connection));
	http->exchange = malloc(exchanges * sizeof(*http->exchange));
	int result = dp_tally_create(&http->sources, connections);
	if (result != 0)
		return result;
	if (http->gzip == NULL || http->connection == NULL || http->exchange == NULL)
		return -ENOMEM;
	memset(http->connection, 0, connections * sizeof(*http->connection)); /* written, so that no page is missing later */
	memset(http->exchange, 0, exchanges * sizeof(*http->exchange));
	for (uint32_t i = connections; i-- > 0;) {
		struct dp_http_connection *c = &http->connection[i];
		c->http = http;
		dp_link_init(&c->timer_link);
		dp_link_init(&c->ready_link);
		dp_link_init(&c->stalled_link);
		c->next_free = http->free_connection;
		http->free_connection = c;
	}
	for (uint32_t i = exchanges; i-- > 0;) {
		http->exchange[i].next = http->free_exchange;
		http->free_exchange = &http->exchange[i];
	}
	for (int i = 0; i < DP_TIMERS; i++)
		dp_link_init(&http->timers[i]);
	dp_link_init(&http->ready);
	dp_link_init(&http->stalled);
	return dp_pixel_mint_init(&http->pixel.mint);
}

void dp_http_destroy(struct dp_beacon *beacon)
{
	struct dp_http *http = beacon->http;
	if (http == NULL)
		return;
	dp_gzip_free(http->gzip);
	dp_tally_destroy(&http->sources);
	free(http->connection);
	free(http->exchange);
	free(http);
	beacon->http = NULL;
}

uint32_t dp_http_owed(const struct dp_beacon *beacon)
{
	return beacon->http->owing;
}
