/*
 * Deadlines, and connections that wait: see http.h. A deadline's list is in order because everybody enters it at its end with the same
 * duration; so a look at the first element tells if anything is due, and nothing is ever scanned. Entered by the rx core.
 */
#include "http.h"

enum {
	STALLED_A_ROUND = 64,     /* connections that are tried again in one loop round */
	STALLED_PAUSE_NS = 20000, /* between such rounds: a try costs a parse */
};

static const uint64_t duration_ns[DP_TIMERS] = {
	[DP_TIMER_IDLE] = DP_HTTP_IDLE_NS,   [DP_TIMER_HEAD] = DP_HTTP_HEAD_NS, [DP_TIMER_BODY] = DP_HTTP_BODY_NS,
	[DP_TIMER_STALL] = DP_HTTP_STALL_NS, [DP_TIMER_SEND] = DP_HTTP_SEND_NS, [DP_TIMER_LINGER] = DP_HTTP_LINGER_NS,
};

static enum dp_http_timer timer_of(const struct dp_http_connection *c)
{
	if (c->closing)
		return DP_TIMER_LINGER;
	if (c->send_blocked)
		return DP_TIMER_SEND;
	if (c->request_stalled)
		return DP_TIMER_STALL;
	if (c->begun)
		return c->phase == DP_HTTP_IN_HEAD ? DP_TIMER_HEAD : DP_TIMER_BODY;
	return c->owed != 0 ? DP_TIMER_NONE : DP_TIMER_IDLE;
}

void dp_http_timer_set(struct dp_http_connection *c)
{
	enum dp_http_timer timer = timer_of(c);
	bool rearm = timer == DP_TIMER_SEND ? c->rearm_out : timer != DP_TIMER_LINGER && c->rearm_in;
	c->rearm_in = c->rearm_out = false;
	if (timer == c->timer && !rearm)
		return;
	dp_link_remove(&c->timer_link);
	c->timer = (uint8_t)timer;
	if (timer == DP_TIMER_NONE)
		return;
	c->deadline_ns = dp_http_now_ns(c) + duration_ns[timer];
	dp_link_append(&c->http->timers[timer], &c->timer_link);
}

static void expire(struct dp_http_connection *c, enum dp_http_timer timer)
{
	switch (timer) {
	case DP_TIMER_IDLE:
		c->phase = DP_HTTP_DRAIN; /* and so closes, owing nothing */
		break;
	case DP_TIMER_HEAD:
	case DP_TIMER_BODY:
		dp_http_fail(c, 408, NULL);
		break;
	case DP_TIMER_STALL:
		dp_http_fail(c, 503, NULL);
		break;
	default:
		dp_http_abort(c);
		break;
	}
	dp_http_flush(c);
}

static uint32_t poll_timers(struct dp_http *http, uint64_t now_ns)
{
	uint32_t done = 0;
	for (int timer = 0; timer < DP_TIMERS; timer++) {
		struct dp_link *list = &http->timers[timer];
		while (dp_link_in(list)) {
			struct dp_http_connection *c = DP_LINK_OWNER(list->next, struct dp_http_connection, timer_link);
			if (c->deadline_ns > now_ns)
				break;
			dp_link_remove(&c->timer_link); /* whatever happens, not twice */
			c->timer = DP_TIMER_NONE;
			dp_http_enter(c);
			expire(c, (enum dp_http_timer)timer);
			dp_http_leave(c);
			done++;
		}
	}
	return done;
}

/* Answers that became ready in dp_intake_poll(): one send for all of a connection's. */
static uint32_t poll_ready(struct dp_http *http)
{
	uint32_t done = 0;
	while (dp_link_in(&http->ready)) {
		struct dp_http_connection *c = DP_LINK_OWNER(http->ready.next, struct dp_http_connection, ready_link);
		dp_link_remove(&c->ready_link);
		dp_http_enter(c);
		dp_http_flush(c);
		dp_http_leave(c);
		done++;
	}
	return done;
}

static uint32_t poll_stalled(struct dp_http *http, uint64_t now_ns)
{
	if (!dp_link_in(&http->stalled) || now_ns - http->stalled_tried_ns < STALLED_PAUSE_NS)
		return 0;
	http->stalled_tried_ns = now_ns;
	struct dp_link tried;
	dp_link_init(&tried);
	for (int i = 0; i < STALLED_A_ROUND && dp_link_in(&http->stalled); i++) {
		struct dp_link *link = http->stalled.next;
		dp_link_remove(link);
		dp_link_append(&tried, link);
	}
	uint32_t done = 0;
	while (dp_link_in(&tried)) {
		struct dp_http_connection *c = DP_LINK_OWNER(tried.next, struct dp_http_connection, stalled_link);
		dp_link_remove(&c->stalled_link);
		dp_http_enter(c);
		c->wait = DP_WAIT_NONE;
		if (c->phase == DP_HTTP_READY && dp_http_retry(c)) {
			dp_http_flush(c);
			done++;
		}
		dp_http_leave(c); /* asks the transport for what it holds, where the request itself is still there */
	}
	return done;
}

uint32_t dp_http_poll(struct dp_beacon *beacon)
{
	struct dp_http *http = beacon->http;
	uint64_t now_ns = dp_intake_now_ns(beacon->intake);
	return poll_ready(http) + poll_stalled(http, now_ns) + poll_timers(http, now_ns);
}
