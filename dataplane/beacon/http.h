/*
 * The inside of HTTP: what its files share. Private to http*.c and their tests.
 *
 *   http.c         the stream's calls, connections' lives
 *   http_receive.c bytes to requests: one connection's receive machine
 *   http_serve.c   a complete request to its answer: route, body, intake
 *   http_send.c    answers in order, out through the stream
 *   http_timer.c   deadlines, connections that wait for room, dp_http_poll()
 *
 * Receive, per connection (phase):
 *
 *        first byte        head parsed           body complete
 *   HEAD ───────────► HEAD ────────────► BODY ──────────────────► READY ──► HEAD     (served: an exchange is queued)
 *                      │                  │                         │
 *                      └── bad, timeout ──┴── queues an error ──────┴──► DRAIN        (nothing is parsed any more, input is thrown away)
 *
 * READY is only kept when the request could not be handed over: no request slot, a full ring, no buffer. Then the connection waits in
 * `stalled`, takes no input, and so closes the peer's TCP window. It is tried again from dp_http_poll().
 *
 * Answer, per exchange:   WAITING (its events are with the intake) ──► READY ──► sent, in the order of the requests
 *
 * Invariants
 *   - Requests layer: RECEIVED = answered by status + ABANDONED + IN_FLIGHT at any moment. A request is received at its first byte, and
 *     answered when the last byte of its answer is with the transport.
 *   - An exchange with `request` set is the request's `user`; when the connection goes, `user` becomes NULL and the request closes
 *     itself when its events are back.
 *   - Without a buffer no byte of a body is kept; with one, `used` bytes of it are.
 *   - What a client sees depends on its bytes, never on how they were cut into segments.
 *
 * One rx core enters. Nothing is allocated after dp_http_create().
 */
#ifndef TURNPIKE_HTTP_H
#define TURNPIKE_HTTP_H

#include "beacon_state.h"
#include "gzip_body.h"
#include "http_answer.h"
#include "http_chunk.h"
#include "http_memo.h"
#include "http_parser.h"
#include "http_route.h"
#include "pixel.h"
#include "stream.h"
#include "tally.h"

/* ---- intrusive lists: an element not in a list points to itself ---- */

struct dp_link {
	struct dp_link *next, *previous;
};

static inline void dp_link_init(struct dp_link *link)
{
	link->next = link->previous = link;
}

static inline bool dp_link_in(const struct dp_link *link)
{
	return link->next != link;
}

static inline void dp_link_remove(struct dp_link *link)
{
	link->next->previous = link->previous;
	link->previous->next = link->next;
	dp_link_init(link);
}

static inline void dp_link_append(struct dp_link *list, struct dp_link *link)
{
	link->next = list;
	link->previous = list->previous;
	list->previous->next = link;
	list->previous = link;
}

#define DP_LINK_OWNER(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* ---- exchanges ---- */

enum { DP_EXCHANGE_REJECTS = 8 }; /* that need no buffer */

struct dp_exchange {
	struct dp_exchange *next;
	struct dp_http_connection *connection;
	struct dp_request *request; /* its events are with the intake; NULL: the answer is READY */
	bool report;                /* ?report=1 */
	bool own;                   /* is its connection's own */
	bool seen;                  /* somebody looked when it began */
	bool rejects_large;         /* which pool answer.reject came from, when it is not few[] */
	uint64_t answer_bytes, sent_bytes;
	struct dp_answer answer;
	struct dp_body_reject few[DP_EXCHANGE_REJECTS];
	/* what is shown of it; filled only while somebody looks (turnpike/sight.h) */
	uint8_t seen_method, seen_path_bytes;
	uint64_t seen_began_ns, seen_parsed_ns, seen_decided_ns; /* decided: 0 when no event went to a shard */
	char seen_path[TP_SIGHT_PATH_BYTES];
};

/* ---- connections ---- */

enum dp_http_phase { DP_HTTP_IN_HEAD, DP_HTTP_IN_BODY, DP_HTTP_READY, DP_HTTP_DRAIN };

/* Deadlines: each has one constant duration, so its list is in order of deadline by itself. Durations in http_limits.h. */
enum dp_http_timer {
	DP_TIMER_IDLE,   /* no request begun, none owed: close */
	DP_TIMER_HEAD,   /* a head is not complete: 408 */
	DP_TIMER_BODY,   /* a body has not got on: 408 */
	DP_TIMER_STALL,  /* a request waits for room of ours: 503 */
	DP_TIMER_SEND,   /* the peer takes none of what we send: reset */
	DP_TIMER_LINGER, /* after our FIN: reset */
	DP_TIMERS,
	DP_TIMER_NONE = DP_TIMERS /* answers are owed that wait for durability */
};

/* Why a connection took less than it was offered. */
enum dp_http_wait {
	DP_WAIT_NONE,
	DP_WAIT_ROOM,     /* a buffer, an exchange, a request slot or ring space */
	DP_WAIT_PIPELINE, /* its own answers: DP_HTTP_PIPELINE_MAX are owed */
};

/* What is known of the request that is being received once its head is parsed. */
struct dp_http_current {
	uint16_t status; /* not 0: the answer is this error, whatever the body */
	uint8_t route;   /* enum dp_route */
	uint8_t method;
	uint8_t coding; /* enum dp_http_coding; IDENTITY once the body is decoded */
	bool report;
	bool head_only;
	bool close;      /* after its answer */
	bool keep_alive; /* to be told so */
	bool accept_gzip;
	bool has_body; /* by its framing; it may still be empty */
	bool chunked;
	bool keep_body; /* else it is read and thrown away */
	const char *why;
	struct dp_body_source source;
	struct tp_trace trace; /* of the header; given only while traces are wanted */
	struct dp_http_span query;
	uint8_t seen_path_bytes; /* of it in dp_http_connection.seen_path; while somebody looks */
};

struct dp_http_connection {
	struct dp_stream *stream; /* NULL: the object is free, or about to be */
	struct dp_http *http;

	/* receive */
	uint8_t phase;
	uint8_t wait;
	bool begun;     /* the request that is being received is counted */
	bool took_less; /* than was offered: resume() is due */
	bool eof;       /* the peer's FIN came */
	bool buffer_large;
	bool request_stalled;     /* the request has met a lack of room and not got on since */
	bool rearm_in, rearm_out; /* reception, sending got on: the deadline begins anew */
	uint8_t *buffer;          /* from a pool, or NULL */
	uint32_t used;            /* bytes in it */
	uint32_t left;            /* of a body with Content-Length */
	uint32_t source;          /* its place in http->sources; DP_TALLY_NONE: not counted there */
	uint64_t began_ns;
	uint64_t body_began_ns; /* of the body, or since we had room for more of it */
	uint64_t body_taken;    /* bytes since then, of its framing too */
	uint16_t memo_place;    /* of its last head: http_memo.h */
	struct dp_http_head head;
	struct dp_chunked chunked;
	struct dp_http_current current;

	/* send */
	bool send_blocked; /* until dp_stream_writable() */
	bool closing;      /* ops->close() was called */
	bool owing;        /* counted in http->owing */
	bool own_used;
	bool gone; /* dp_stream_closed() came while one of our calls was on the stack */
	uint16_t entered;
	uint16_t owed; /* exchanges queued */
	struct dp_exchange *first, *last;

	uint8_t timer; /* enum dp_http_timer */
	uint64_t deadline_ns;
	struct dp_link timer_link, ready_link, stalled_link;
	struct dp_http_connection *next_free;
	struct dp_exchange own;
	char seen_path[TP_SIGHT_PATH_BYTES];
};

enum { DP_HTTP_OUT_BYTES = 32 * 1024 };

struct dp_http {
	struct dp_beacon *beacon;
	struct dp_gzip *gzip;
	struct dp_http_connection *connection; /* connections_max of them */
	struct dp_http_connection *free_connection;
	struct dp_exchange *exchange; /* beyond each connection's own */
	struct dp_exchange *free_exchange;
	struct dp_link timers[DP_TIMERS];
	struct dp_link ready;   /* connections with answers that became ready in dp_intake_poll() */
	struct dp_link stalled; /* connections with wait == DP_WAIT_ROOM */
	uint64_t stalled_tried_ns;
	uint32_t owing;          /* connections with a request begun and not answered */
	struct dp_tally sources; /* connections of each source that is not trusted */
	struct dp_pixel_scratch pixel;
	struct dp_http_memo memo;
	char out[DP_HTTP_OUT_BYTES];
};

/* ---- http.c ---- */

/*
 * Around everything that may call into the stream: only the outermost leave frees a connection that has gone, and sets its books and
 * its timer, and asks the transport for what it holds back.
 */
void dp_http_enter(struct dp_http_connection *c);
void dp_http_leave(struct dp_http_connection *c);

/* ---- http_receive.c ---- */

/* Takes what it can of an offer; returns how much. Less than `count` only when c->wait says what for. */
size_t dp_http_receive(struct dp_http_connection *c, const char *bytes, size_t count);
void dp_http_give_buffer(struct dp_http_connection *c);
/* Ends reception with an error answer; the connection closes after it. */
void dp_http_fail(struct dp_http_connection *c, uint16_t status, const char *why);
/* Resets the connection, now. */
void dp_http_abort(struct dp_http_connection *c);
/* Hands a request in phase READY over once more. True: it is on its way. */
bool dp_http_retry(struct dp_http_connection *c);

/* ---- http_serve.c ---- */

/* Sets c->current from c->head, which was parsed from `bytes`. */
void dp_http_judge(struct dp_http_connection *c, const char *bytes);
/*
 * Hands a complete request over; its answer is then queued or will be. `query` is the target's query. False: no room, try again with
 * the same request; nothing happened.
 */
bool dp_http_serve(struct dp_http_connection *c, const char *query, const char *body, size_t bytes);

/* ---- http_send.c ---- */

/* A fresh exchange of the connection, or NULL when none is free. Queue it, or give it back. */
struct dp_exchange *dp_exchange_take(struct dp_http_connection *c);
void dp_exchange_give(struct dp_exchange *exchange);
/* Keeps of the request what is shown to somebody who looks. Not judged: its head is broken, and nothing of it is sure. */
void dp_exchange_see(struct dp_exchange *exchange, bool judged);
/* Puts it behind the others: its answer goes out after theirs. */
void dp_exchange_queue(struct dp_exchange *exchange);
/* The answer is complete: it may be sent in its turn. Before or after it is queued. */
void dp_exchange_ready(struct dp_exchange *exchange);
/* Sends what is ready, in order. Closes the connection after an answer that says so. */
void dp_http_flush(struct dp_http_connection *c);
/* Forgets all exchanges of a connection that is gone. */
void dp_http_abandon(struct dp_http_connection *c);

/* ---- http_timer.c ---- */

/* Puts the connection under the deadline that fits its state. */
void dp_http_timer_set(struct dp_http_connection *c);

static inline uint64_t dp_http_now_ns(const struct dp_http_connection *c)
{
	return dp_intake_now_ns(c->http->beacon->intake);
}

static inline struct tp_counters *dp_http_counters(const struct dp_http_connection *c)
{
	return c->http->beacon->counters;
}

#endif
