/*
 * The HTTP worker: many keep-alive connections in one epoll loop, each with up to --pipeline requests under way.
 *
 *   free ──events due, a connection has room──► under way ──2xx──► free, its events are acknowledged
 *    parcels                                    │  │  └────4xx──► free, its events have failed
 *                                               │  └──503, 429──► waiting, then under way again
 *                                               └──answer lost──► --retry: waiting, the very same bytes again. Else: failed
 *
 * One thread. A parcel is a request with its bytes: what is sent again is what was sent before, so a copy whose first answer was lost
 * is a duplicate and nothing else. There are as many parcels as connections times pipeline, so memory is bounded by itself.
 * An answer that is longer under way than the request timeout counts as lost: a node that was killed below its user-space TCP does
 * not even send a reset.
 */
#include "blast.h"
#include "blast_answer.h"

#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { INPUT_BYTES_MIN = 16 << 10, INPUT_BYTES_MAX = 8 << 20, HEAD_ROOM = 4096, WRITE_BURST = 64, EPOLL_BURST = 256 };
#define MS               1000000ULL
#define PAUSE_NS_MIN     (50 * MS)
#define PAUSE_NS_MAX     (1000 * MS)
#define RECONNECT_NS_MIN (10 * MS)
#define RECONNECT_NS_MAX (500 * MS)
#define TIMEOUT_CHECK_NS (20 * MS)

struct parcel {
	struct parcel *next;
	char *bytes;
	uint32_t begin, end, room; /* the request is bytes[begin..end): the head is written in front of the body, right-aligned */
	uint32_t events, sends;
	uint64_t due_ns;   /* latency counts from here */
	uint64_t sent_ns;  /* when it was last given to a connection */
	uint64_t again_ns; /* waiting: not before this */
	uint64_t pause_ns;
	struct blast_lines lines;
};

struct parcel_queue {
	struct parcel *head, **tail;
	uint32_t count;
};

struct conn {
	int fd;                   /* -1: closed */
	bool connecting, writing; /* writing: epoll waits for room too */
	bool listed;              /* in the list of those with room */
	struct conn *next;
	struct parcel_queue under_way; /* in order of their answers */
	struct parcel *unsent;         /* the first of them that is not fully written; NULL: all are */
	uint32_t unsent_at;            /* how much of it is */
	uint64_t reconnect_at_ns, reconnect_pause_ns;
	char *in;
	size_t in_bytes, in_room;
};

struct http {
	struct blast_worker *worker;
	const struct blast_options *options;
	struct blast_tally *tally;
	int epoll;
	struct conn *conn;
	struct parcel *parcel;
	struct parcel *free;
	struct parcel_queue waiting;
	struct conn *room_head, **room_tail; /* connections that can take a parcel, longest idle first */
	uint64_t now_ns, check_at_ns;
	uint64_t owed; /* parcels not free */
	bool said;     /* the first failure was printed */
	char head[HEAD_ROOM - 64];
};

static void queue_init(struct parcel_queue *queue)
{
	*queue = (struct parcel_queue){.tail = &queue->head};
}

static void queue_put(struct parcel_queue *queue, struct parcel *parcel)
{
	parcel->next = NULL;
	*queue->tail = parcel;
	queue->tail = &parcel->next;
	queue->count++;
}

static struct parcel *queue_take(struct parcel_queue *queue)
{
	struct parcel *parcel = queue->head;
	if (!parcel)
		return NULL;
	queue->head = parcel->next;
	if (!queue->head)
		queue->tail = &queue->head;
	queue->count--;
	return parcel;
}

static void say_once(struct http *http, const char *what, const char *detail, size_t detail_bytes)
{
	if (http->said)
		return;
	http->said = true;
	fprintf(stderr, "turnpike-blast: %s%.*s\n", what, (int)(detail_bytes < 400 ? detail_bytes : 400), detail);
}

/* ---- parcels ---- */

static void parcel_free(struct http *http, struct parcel *parcel)
{
	parcel->next = http->free;
	http->free = parcel;
	http->owed--;
}

static void parcel_fail(struct http *http, struct parcel *parcel)
{
	blast_add(&http->tally->failed, parcel->events);
	parcel_free(http, parcel);
}

static void parcel_wait(struct http *http, struct parcel *parcel, uint64_t pause_ns_min)
{
	parcel->pause_ns = parcel->pause_ns ? 2 * parcel->pause_ns : PAUSE_NS_MIN;
	if (parcel->pause_ns > PAUSE_NS_MAX)
		parcel->pause_ns = PAUSE_NS_MAX;
	if (parcel->pause_ns < pause_ns_min)
		parcel->pause_ns = pause_ns_min;
	parcel->again_ns = http->now_ns + parcel->pause_ns;
	queue_put(&http->waiting, parcel);
}

/* Writes one event behind what the parcel's body has. */
static void body_add(struct parcel *parcel, const char *json, uint32_t bytes)
{
	if (parcel->end + bytes + 1 > parcel->room) {
		parcel->room = 2 * (parcel->end + bytes + 1);
		parcel->bytes = blast_alloc(parcel->bytes, parcel->room);
	}
	memcpy(parcel->bytes + parcel->end, json, bytes);
	parcel->bytes[parcel->end + bytes] = '\n';
	parcel->end += bytes + 1;
}

/* How many events the next parcel takes, and when the last of them is due. */
static uint32_t batch_want(const struct http *http, uint64_t *due_ns)
{
	const struct blast_pace *pace = &http->worker->pace;
	uint64_t left = pace->limit - pace->given;
	uint32_t want = left < http->options->batch ? (uint32_t)left : http->options->batch;
	*due_ns = pace->begin_ns + (uint64_t)((double)(pace->given + want - 1) * pace->ns_per_event);
	if (*due_ns > pace->until_ns)
		*due_ns = pace->until_ns - 1; /* the end of the time makes a short batch */
	return want;
}

/* Fills a free parcel with a batch of events, once the last of them is due. NULL: not yet, or there is none. */
static struct parcel *parcel_make(struct http *http)
{
	struct blast_worker *worker = http->worker;
	struct parcel *parcel = http->free;
	uint64_t due_ns;
	if (!parcel || !blast_pace_due(worker, http->now_ns))
		return NULL;
	uint32_t want = batch_want(http, &due_ns);
	const bool paced = worker->pace.ns_per_event > 0;
	if (paced && due_ns > http->now_ns)
		return NULL;

	parcel->begin = parcel->end = HEAD_ROOM;
	parcel->events = parcel->sends = 0;
	parcel->pause_ns = 0;
	blast_lines_clear(&parcel->lines);
	struct blast_item item;
	while (parcel->events < want && (!paced || blast_pace_due(worker, http->now_ns)) && blast_worker_next(worker, &item)) {
		body_add(parcel, item.json, item.json_bytes);
		blast_lines_add(&parcel->lines, item.ledger, item.ledger_bytes);
		parcel->events++;
	}
	if (parcel->events == 0)
		return NULL;
	char length[64];
	int length_bytes = snprintf(length, sizeof length, "Content-Length: %" PRIu32 "\r\n\r\n", parcel->end - parcel->begin);
	size_t head_bytes = strlen(http->head);
	parcel->begin -= (uint32_t)length_bytes;
	memcpy(parcel->bytes + parcel->begin, length, (size_t)length_bytes);
	parcel->begin -= (uint32_t)head_bytes;
	memcpy(parcel->bytes + parcel->begin, http->head, head_bytes);
	parcel->due_ns = paced ? due_ns : http->now_ns;
	http->free = parcel->next;
	http->owed++;
	return parcel;
}

static void acknowledged(struct http *http, struct parcel *parcel, const struct blast_report *report)
{
	uint32_t rejected = report ? report->rejected : 0;
	blast_lines_commit(&parcel->lines, http->worker, report ? report->index : NULL, rejected);
	blast_add(&http->tally->acked, parcel->events - rejected);
	blast_add(&http->tally->rejected, rejected);
	if (report) {
		blast_add(&http->tally->accepted, report->accepted);
		blast_add(&http->tally->duplicates, report->duplicates);
		blast_add(&http->tally->late, report->late);
		blast_add(&http->tally->conflicts, report->conflicts);
		if (rejected > 0)
			say_once(http, "an event was rejected: ", report->first, strlen(report->first));
	}
	blast_histogram_add(&http->tally->latency, http->now_ns - parcel->due_ns);
	parcel_free(http, parcel);
}

static void answered(struct http *http, struct parcel *parcel, const struct blast_answer *answer, const char *body)
{
	blast_add(&http->tally->status[answer->status], 1);
	if (answer->status >= 200 && answer->status < 300) {
		struct blast_report report;
		bool has_report = answer->body_bytes > 0 && blast_report_read(body, answer->body_bytes, &report) == 0;
		acknowledged(http, parcel, has_report ? &report : NULL);
		if (has_report)
			free(report.index);
	} else if (answer->status == 503 || answer->status == 429 || (answer->status >= 500 && http->options->retry)) {
		uint64_t least_ns = answer->retry_after_s * 1000 * MS;
		parcel_wait(http, parcel, least_ns < PAUSE_NS_MAX ? least_ns : PAUSE_NS_MAX);
	} else {
		char what[64];
		snprintf(what, sizeof what, "HTTP %" PRIu32 ": ", answer->status);
		say_once(http, what, body, answer->body_bytes);
		parcel_fail(http, parcel);
	}
}

/* ---- connections ---- */

static void room_check(struct http *http, struct conn *conn)
{
	if (conn->fd < 0 || conn->connecting || conn->listed || conn->under_way.count >= http->options->pipeline)
		return;
	conn->listed = true;
	conn->next = NULL;
	*http->room_tail = conn;
	http->room_tail = &conn->next;
}

static struct conn *room_take(struct http *http)
{
	for (;;) {
		struct conn *conn = http->room_head;
		if (!conn)
			return NULL;
		http->room_head = conn->next;
		if (!http->room_head)
			http->room_tail = &http->room_head;
		conn->listed = false;
		if (conn->fd >= 0 && !conn->connecting)
			return conn;
	}
}

static void epoll_set(struct http *http, struct conn *conn, int operation)
{
	struct epoll_event event = {.events = EPOLLIN | (conn->writing ? (uint32_t)EPOLLOUT : 0), .data.ptr = conn};
	(void)epoll_ctl(http->epoll, operation, conn->fd, &event);
}

/* The connection is of no use any more. What it owes is lost: sent again, or failed. */
static void conn_close(struct http *http, struct conn *conn, const char *why, int error)
{
	bool owed = conn->under_way.count > 0;
	if (owed || conn->connecting) {
		blast_add(&http->tally->lost, 1);
		if (!http->options->retry)
			say_once(http, why, error ? strerror(error) : "", error ? strlen(strerror(error)) : 0);
	}
	close(conn->fd);
	conn->fd = -1;
	conn->connecting = conn->writing = false;
	conn->unsent = NULL;
	conn->in_bytes = 0;
	for (struct parcel *parcel; (parcel = queue_take(&conn->under_way)) != NULL;) {
		if (http->options->retry)
			parcel_wait(http, parcel, 0);
		else
			parcel_fail(http, parcel);
	}
	conn->reconnect_pause_ns = conn->reconnect_pause_ns ? 2 * conn->reconnect_pause_ns : RECONNECT_NS_MIN;
	if (conn->reconnect_pause_ns > RECONNECT_NS_MAX)
		conn->reconnect_pause_ns = RECONNECT_NS_MAX;
	conn->reconnect_at_ns = http->now_ns + conn->reconnect_pause_ns;
}

static void conn_open(struct http *http, struct conn *conn)
{
	int fd = blast_connect(&http->options->to, SOCK_STREAM);
	conn->connecting = true;
	if (fd < 0) {
		conn->fd = -1;
		conn->connecting = false;
		conn->reconnect_at_ns = http->now_ns + RECONNECT_NS_MAX;
		blast_add(&http->tally->lost, 1);
		if (!http->options->retry) {
			say_once(http, "cannot connect: ", strerror(-fd), strlen(strerror(-fd)));
			atomic_store(&http->worker->broken, true);
		}
		return;
	}
	conn->fd = fd;
	conn->writing = true;
	conn->reconnect_at_ns = http->now_ns + http->options->request_timeout_ns; /* when it has taken too long */
	epoll_set(http, conn, EPOLL_CTL_ADD);
}

static void conn_connected(struct http *http, struct conn *conn)
{
	int error = 0;
	socklen_t bytes = sizeof error;
	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) || error) {
		if (!http->options->retry)
			atomic_store(&http->worker->broken, true);
		conn_close(http, conn, "cannot connect: ", error);
		return;
	}
	conn->connecting = false;
	conn->reconnect_pause_ns = 0;
	conn->writing = false;
	epoll_set(http, conn, EPOLL_CTL_MOD);
	room_check(http, conn);
}

/* Writes what is not written yet, several requests at once. */
static void conn_write(struct http *http, struct conn *conn)
{
	while (conn->unsent) {
		struct iovec part[WRITE_BURST];
		int parts = 0;
		uint32_t at = conn->unsent_at;
		for (struct parcel *p = conn->unsent; p && parts < WRITE_BURST; p = p->next, at = 0)
			part[parts++] = (struct iovec){.iov_base = p->bytes + p->begin + at, .iov_len = p->end - p->begin - at};
		struct msghdr message = {.msg_iov = part, .msg_iovlen = (size_t)parts};
		ssize_t wrote = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0 && errno == EAGAIN)
			break;
		if (wrote < 0) {
			conn_close(http, conn, "the connection broke: ", errno);
			return;
		}
		for (size_t left = (size_t)wrote; left > 0;) {
			struct parcel *p = conn->unsent;
			uint32_t rest = p->end - p->begin - conn->unsent_at;
			if (left < rest) {
				conn->unsent_at += (uint32_t)left;
				break;
			}
			left -= rest;
			conn->unsent = p->next;
			conn->unsent_at = 0;
		}
	}
	bool writing = conn->unsent != NULL;
	if (writing != conn->writing) {
		conn->writing = writing;
		epoll_set(http, conn, EPOLL_CTL_MOD);
	}
}

static void conn_give(struct http *http, struct conn *conn, struct parcel *parcel)
{
	parcel->sent_ns = http->now_ns;
	blast_add(&http->tally->sends, 1);
	blast_add(&http->tally->retries, parcel->sends > 0);
	parcel->sends++;
	queue_put(&conn->under_way, parcel);
	if (!conn->unsent) {
		conn->unsent = parcel;
		conn->unsent_at = 0;
	}
}

/* Takes the answers that have come. */
static void answers_take(struct http *http, struct conn *conn)
{
	size_t at = 0;
	while (at < conn->in_bytes) {
		struct blast_answer answer;
		int whole = blast_answer_read(conn->in + at, conn->in_bytes - at, &answer);
		if (whole == 0 && conn->in_bytes - at < INPUT_BYTES_MAX)
			break;
		struct parcel *asked = conn->under_way.head;
		bool early = whole > 0 && asked && asked == conn->unsent && answer.status >= 400; /* said no before all was sent */
		if (whole <= 0 || !asked || (asked == conn->unsent && !early)) {
			if (whole > 0)
				blast_add(&http->tally->status[answer.status], 1);
			conn_close(http, conn, whole > 0 ? "an answer that nothing asked for" : "an answer that is no HTTP/1.1", 0);
			return;
		}
		answer.close |= early;
		const char *body = conn->in + at + answer.body_at;
		at += answer.bytes;
		if (answer.status >= 200)
			answered(http, queue_take(&conn->under_way), &answer, body);
		if (answer.close) {
			conn_close(http, conn, "the node closed the connection", 0);
			conn->reconnect_at_ns = http->now_ns;
			return;
		}
	}
	memmove(conn->in, conn->in + at, conn->in_bytes - at);
	conn->in_bytes -= at;
	room_check(http, conn);
}

static void conn_read(struct http *http, struct conn *conn)
{
	for (;;) {
		if (conn->in_bytes == conn->in_room) {
			conn->in_room = conn->in_room ? 2 * conn->in_room : INPUT_BYTES_MIN;
			conn->in = blast_alloc(conn->in, conn->in_room);
		}
		size_t room = conn->in_room - conn->in_bytes;
		ssize_t got = recv(conn->fd, conn->in + conn->in_bytes, room, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			conn_close(http, conn, "the connection ended before the answer: ", got < 0 ? errno : 0);
			return;
		}
		conn->in_bytes += (size_t)got;
		answers_take(http, conn);
		if (conn->fd < 0 || (size_t)got < room)
			return;
	}
}

/* ---- the loop ---- */

/* Gives parcels to connections while there are both. */
static void feed(struct http *http)
{
	while (http->room_head) {
		struct parcel *parcel = NULL;
		if (http->waiting.head && http->waiting.head->again_ns <= http->now_ns)
			parcel = queue_take(&http->waiting);
		if (!parcel)
			parcel = parcel_make(http);
		if (!parcel)
			return;
		struct conn *conn = room_take(http);
		if (!conn) {
			queue_put(&http->waiting, parcel); /* again_ns has passed, or is 0 */
			return;
		}
		conn_give(http, conn, parcel);
		room_check(http, conn);
		if (conn->under_way.count >= http->options->pipeline || conn->under_way.count >= WRITE_BURST)
			conn_write(http, conn);
	}
}

static void check_times(struct http *http)
{
	for (uint32_t i = 0; i < http->options->connections; i++) {
		struct conn *conn = &http->conn[i];
		if (conn->fd < 0 && http->now_ns >= conn->reconnect_at_ns)
			conn_open(http, conn);
		else if (conn->fd >= 0 && conn->connecting && http->now_ns >= conn->reconnect_at_ns)
			conn_close(http, conn, "connecting took too long", 0);
		else if (conn->under_way.head && http->now_ns - conn->under_way.head->sent_ns > http->options->request_timeout_ns)
			conn_close(http, conn, "an answer took too long", 0);
	}
	http->check_at_ns = http->now_ns + TIMEOUT_CHECK_NS;
}

static int wait_ms(const struct http *http)
{
	uint64_t until_ns = http->check_at_ns;
	if (http->room_head && http->waiting.head && http->waiting.head->again_ns < until_ns)
		until_ns = http->waiting.head->again_ns;
	if (!http->worker->pace.ended && http->free && http->room_head) {
		uint64_t due_ns;
		batch_want(http, &due_ns);
		if (due_ns < until_ns)
			until_ns = due_ns;
	}
	return until_ns > http->now_ns ? (int)((until_ns - http->now_ns + MS - 1) / MS) : 0;
}

static void loop(struct http *http)
{
	struct blast_worker *worker = http->worker;
	uint64_t ended_ns = 0;
	while (!atomic_load_explicit(&worker->broken, memory_order_relaxed)) {
		http->now_ns = tp_mono_ns();
		if (http->now_ns >= http->check_at_ns)
			check_times(http);
		feed(http);
		blast_pace_due(worker, http->now_ns); /* that it is over has to be seen without a connection, too */
		for (uint32_t i = 0; i < http->options->connections; i++)
			if (http->conn[i].fd >= 0 && http->conn[i].unsent && !http->conn[i].writing && !http->conn[i].connecting)
				conn_write(http, &http->conn[i]);
		if (worker->pace.ended) {
			if (http->owed == 0)
				return;
			if (!ended_ns)
				ended_ns = http->now_ns;
			if (blast_drain_over(worker, ended_ns, http->now_ns))
				return;
		}
		struct epoll_event event[EPOLL_BURST];
		int count = epoll_wait(http->epoll, event, EPOLL_BURST, wait_ms(http));
		http->now_ns = tp_mono_ns();
		for (int i = 0; i < count; i++) {
			struct conn *conn = event[i].data.ptr;
			if (conn->fd >= 0 && conn->connecting)
				conn_connected(http, conn);
			if (conn->fd >= 0 && !conn->connecting && event[i].events & EPOLLOUT)
				conn_write(http, conn);
			if (conn->fd >= 0 && !conn->connecting && event[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				conn_read(http, conn);
		}
		if (worker->ledger_bytes > 0 && blast_ledger_write(worker))
			return;
	}
}

void blast_http_run(struct blast_worker *worker)
{
	const struct blast_options *options = worker->options;
	struct http http = {.worker = worker, .options = options, .tally = worker->tally, .room_tail = &http.room_head};
	uint32_t parcels = options->connections * options->pipeline;
	char host[TP_ENDPOINT_TEXT_BYTES];
	tp_endpoint_text(&options->to, host);
	snprintf(http.head, sizeof http.head, "POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%s%s%s", options->path,
		 options->report ? "?report=1" : "", host, options->batch > 1 ? "application/x-ndjson" : "application/json",
		 options->token ? "Authorization: Bearer " : "", options->token ? options->token : "",
		 options->token ? "\r\n" : "");
	queue_init(&http.waiting);
	http.conn = blast_alloc(NULL, options->connections * sizeof *http.conn);
	http.parcel = blast_alloc(NULL, parcels * sizeof *http.parcel);
	memset(http.conn, 0, options->connections * sizeof *http.conn);
	memset(http.parcel, 0, parcels * sizeof *http.parcel);
	http.epoll = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < options->connections; i++) {
		http.conn[i].fd = -1;
		queue_init(&http.conn[i].under_way);
	}
	for (uint32_t i = 0; i < parcels; i++) {
		http.parcel[i].next = http.free;
		http.free = &http.parcel[i];
	}
	blast_pace_init(worker, tp_mono_ns());
	loop(&http);

	for (uint32_t i = 0; i < options->connections; i++) {
		if (http.conn[i].fd >= 0)
			close(http.conn[i].fd);
		free(http.conn[i].in);
	}
	for (uint32_t i = 0; i < parcels; i++) {
		free(http.parcel[i].bytes);
		blast_lines_free(&http.parcel[i].lines);
	}
	if (http.epoll >= 0)
		close(http.epoll);
	free(http.conn);
	free(http.parcel);
}
