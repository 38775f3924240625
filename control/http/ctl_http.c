/*
 * HTTP for the control process: what the library calls, replies on the wire, listening. The library is libmicrohttpd, with epoll in a few
 * threads of its own: they read requests, say who may not, and send what is ready, and never wait for anything else.
 *
 *   request_begin ─► answer: head ─► body ─► whole: suspended, queued ─► a worker runs the handler ─► resumed ─► answer: reply ─► request_end
 *
 * So ten thousand connections take ten thousand seats (ctl_http_seat.h) and no thread; a long query takes one worker of several.
 *
 * The raw target is taken from the library before it decodes anything, and decoded in ctl_request.c: an escaped slash stays part of
 * an id. Source: RFC 9110, RFC 9112; contract section 7.
 */
#include "ctl_http.h"
#include "ctl_meter.h"
#include "ctl_otlp.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	IDLE_S = 60,
	BACKLOG = 4096,
	MEMORY_BYTES = 32 * 1024,
	BODY_BYTES_MAX = 16 * 1024,
	THREADS = 2,
	UNACKED_MS = 30000, /* what was sent and is not acknowledged, or not taken */
	OWN_FILES = 256,    /* descriptors that are not connections */
};

/* ---- the wire ---- */

static struct MHD_Response *response_make(struct ctl_reply *reply)
{
	if (reply->stream)
		return reply->stream;
	if (!reply->body)
		return MHD_create_response_from_buffer(reply->body_bytes, (void *)(uintptr_t)reply->fixed, MHD_RESPMEM_PERSISTENT);
	struct MHD_Response *response = MHD_create_response_from_buffer(reply->body_bytes, reply->body, MHD_RESPMEM_MUST_FREE);
	if (response)
		reply->body = NULL; /* the library frees it */
	return response;
}

static void header(struct MHD_Response *response, const char *name, const char *value)
{
	if (value)
		MHD_add_response_header(response, name, value);
}

static enum MHD_Result reply_send(struct MHD_Connection *connection, struct ctl_reply *reply, bool closes)
{
	struct MHD_Response *response = response_make(reply);

	free(reply->body); /* only if no response was made */
	if (!response)
		return MHD_NO;
	header(response, "Content-Type", reply->type);
	header(response, "Cache-Control", reply->cache ? reply->cache : "no-store");
	header(response, "ETag", reply->etag);
	header(response, "Content-Security-Policy", reply->policy ? reply->policy : "default-src 'none'; frame-ancestors 'none'");
	header(response, "X-Content-Type-Options", "nosniff");
	/* not "no-referrer": a browser then says Origin: null when it sends the login form, and is refused */
	header(response, "Referrer-Policy", "same-origin");
	for (uint32_t i = 0; i < reply->headers; i++)
		header(response, reply->header[i].name, reply->header[i].value);
	if (reply->status == 401)
		header(response, "WWW-Authenticate", "Bearer");
	if (reply->status == 405)
		header(response, "Allow", reply->allow);
	if (reply->status == 503 && !MHD_get_response_header(response, "Retry-After"))
		header(response, "Retry-After", "1");
	if (closes)
		header(response, "Connection", "close");
	enum MHD_Result result = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return result;
}

/* RFC 9110 section 13.1.2, for the one strong tag that we send. */
static void if_none_match(struct MHD_Connection *connection, struct ctl_reply *reply)
{
	const char *tags = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-None-Match");

	if (reply->status != 200 || !reply->etag || !tags)
		return;
	if (strcmp(tags, "*") == 0 || strstr(tags, reply->etag)) {
		reply->status = 304;
		reply->fixed = "";
		reply->body_bytes = 0;
	}
}

static void body_take(struct ctl_exchange *exchange, const char *bytes, size_t count)
{
	char *more = count == 0 || exchange->body_bytes + count > BODY_BYTES_MAX
			     ? NULL
			     : realloc(exchange->body, exchange->body_bytes + count);

	exchange->body_too_large = exchange->body_too_large || (count > 0 && !more);
	if (!more)
		return;
	memcpy(more + exchange->body_bytes, bytes, count);
	exchange->body = more;
	exchange->body_bytes += count;
}

/* Counts the answer, and makes a span of it when the asker wants one. */
static void answered(const struct ctl_exchange *exchange)
{
	static const char *const method[] = {[CTL_GET] = "GET", [CTL_POST] = "POST", [CTL_DELETE] = "DELETE"};
	const struct ctl *ctl = exchange->http->ctl;
	const uint32_t status = exchange->reply.status;
	const uint64_t now_ns = tp_mono_ns();
	const char *trace = ctl->otlp ? MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "traceparent") : NULL;
	struct ctl_otlp_request request = {.began_ns = exchange->began_ns, .answered_ns = now_ns, .status = (uint16_t)status};

	ctl_meter_count(ctl->meter, exchange->route, status, now_ns - exchange->began_ns);
	if (!trace || !tp_trace_parse(trace, strlen(trace), &request.trace))
		return;
	ctl_endpoint_text(exchange->route, request.route);
	snprintf(request.method, sizeof(request.method), "%s", method[exchange->target.method]);
	ctl_otlp_request(ctl->otlp, &request);
}

/* Sends what is in exchange->reply. */
static enum MHD_Result reply_now(struct ctl_exchange *exchange)
{
	struct ctl_reply *reply = &exchange->reply;
	const size_t bytes = reply->body ? reply->body_bytes : 0;

	if_none_match(exchange->connection, reply);
	if (bytes && !ctl_seats_have_room(exchange->http->seats, bytes))
		ctl_reply_problem(reply, 503, "busy", NULL, "too many large answers are being sent: ask again");
	if (exchange->seat)
		ctl_seat_move(exchange->http->seats, exchange->seat, reply->stream ? CTL_SEAT_STREAMING : CTL_SEAT_SENDING,
			      reply->body ? reply->body_bytes : 0);
	exchange->stage = CTL_STAGE_ANSWERED;
	answered(exchange);
	enum MHD_Result result = reply_send(exchange->connection, reply, exchange->closes || exchange->http->closing);
	*reply = (struct ctl_reply){0};
	return result;
}

static void job_run(struct ctl_job *job)
{
	struct ctl_exchange *exchange = (struct ctl_exchange *)job;

	if (exchange->http->closing)
		ctl_reply_problem(&exchange->reply, 503, "stopping", NULL, "the control process is stopping");
	else
		ctl_http_handle(exchange);
	exchange->stage = CTL_STAGE_ANSWERED;
	MHD_resume_connection(exchange->connection); /* from here on it is the library's */
}

/*
 * The same, in another call of the library's. With epoll it looks at a connection anew when that goes on after a stop, and only so sees the end of
 * a client that sent it along with the request: else it would keep the connection for its idle time.
 */
static enum MHD_Result reply_soon(struct ctl_exchange *exchange)
{
	exchange->stage = CTL_STAGE_ANSWERED;
	MHD_suspend_connection(exchange->connection);
	MHD_resume_connection(exchange->connection);
	return MHD_YES;
}

/* The request is whole: a worker's, or answered here when that takes no time, so that a probe waits for no query. */
static enum MHD_Result request_run(struct ctl_exchange *exchange)
{
	struct ctl_http *http = exchange->http;
	uint64_t who = 0;

	exchange->began_ns = tp_mono_ns(); /* how long it was sent is not our time */
	if (exchange->route->need == CTL_NEED_NONE && exchange->target.method == CTL_GET) {
		ctl_http_handle(exchange);
		return reply_soon(exchange);
	}
	if (exchange->asker.known)
		memcpy(&who, exchange->asker.token.hash, sizeof(who));
	else
		for (int i = 0; i < 16; i++)
			who = who * 31 + exchange->asker.from.byte[i];
	exchange->stage = CTL_STAGE_WORKING;
	if (exchange->seat)
		ctl_seat_move(http->seats, exchange->seat, CTL_SEAT_WORKING, 0);
	MHD_suspend_connection(exchange->connection);
	if (ctl_pool_put(http->pool, &exchange->job, who))
		return MHD_YES;
	ctl_reply_problem(&exchange->reply, 503, "busy", NULL, "too many requests of yours wait already: ask again");
	exchange->stage = CTL_STAGE_ANSWERED;
	MHD_resume_connection(exchange->connection);
	return MHD_YES;
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *upload, size_t *upload_bytes, void **state)
{
	struct ctl_exchange *exchange = *state;
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	(void)context;
	(void)connection;
	(void)url;
	if (!exchange)
		return MHD_NO;
	if (exchange->stage == CTL_STAGE_ANSWERED)
		return reply_now(exchange);
	/*
	 * The library keeps a connection only if the reply comes after its first call. A request that may have a body gets its refusal at
	 * once, so that the body need not be read.
	 */
	if (exchange->stage == CTL_STAGE_NEW) {
		exchange->began_ns = tp_mono_ns();
		exchange->target.head = strcmp(method, "HEAD") == 0;
		bool fine = ctl_http_head_check(exchange, method, version) && ctl_http_asker_check(exchange);
		if (!fine && (!reads || exchange->closes))
			return reply_now(exchange);
		exchange->stage = fine ? CTL_STAGE_BODY : CTL_STAGE_REFUSED;
		return MHD_YES;
	}
	if (exchange->stage == CTL_STAGE_REFUSED)
		return reply_soon(exchange);
	if (*upload_bytes) {
		body_take(exchange, upload, *upload_bytes);
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (!exchange->body_too_large)
		return request_run(exchange);
	ctl_reply_problem(&exchange->reply, 413, "body-too-large", NULL, "expected at most %d bytes", BODY_BYTES_MAX);
	return reply_now(exchange);
}

static struct ctl_seat *seat_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

/* The library's first word of a request: its raw target. */
static void *request_begin(void *context, const char *target, struct MHD_Connection *connection)
{
	struct ctl_http *http = context;
	struct ctl_exchange *exchange = calloc(1, sizeof(*exchange));

	if (!exchange)
		return NULL;
	exchange->job.run = job_run;
	exchange->http = http;
	exchange->connection = connection;
	exchange->seat = seat_of(connection);
	if (exchange->seat) {
		exchange->asker.from = exchange->seat->from;
		ctl_seat_move(http->seats, exchange->seat, CTL_SEAT_READING, 0);
	}
	exchange->parsed = ctl_target_parse(target, &exchange->target) == 0;
	exchange->target.header = ctl_http_header;
	exchange->target.connection = connection;
	exchange->target.asker = &exchange->asker;
	return exchange;
}

static void request_end(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
	struct ctl_exchange *exchange = *state;

	(void)context;
	(void)connection;
	(void)how;
	if (exchange) {
		assert(exchange->stage != CTL_STAGE_WORKING);
		if (exchange->seat)
			ctl_seat_move(exchange->http->seats, exchange->seat, CTL_SEAT_WAITING, 0);
		ctl_target_free(&exchange->target);
		free(exchange->reply.body); /* an answer that was not sent any more */
		if (exchange->reply.stream)
			MHD_destroy_response(exchange->reply.stream);
		free(exchange->body);
	}
	free(exchange);
	*state = NULL;
}

/* ---- connections ---- */

static void address_of(const struct sockaddr *address, struct tp_addr *to)
{
	*to = (struct tp_addr){0};
	if (address->sa_family == AF_INET)
		*to = tp_addr_v4((const uint8_t *)&((const struct sockaddr_in *)(const void *)address)->sin_addr);
	else if (address->sa_family == AF_INET6)
		*to = tp_addr_v6((const uint8_t *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* A peer that vanished, or takes nothing, is found out by the kernel. */
static void socket_prepare(int fd)
{
	const int one = 1, idle_s = 30, unacked_ms = UNACKED_MS;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof(unacked_ms));
}

static void connection_change(void *context, struct MHD_Connection *connection, void **seat,
			      enum MHD_ConnectionNotificationCode what)
{
	struct ctl_http *http = context;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*seat)
			ctl_seat_give(http->seats, *seat);
		*seat = NULL;
		return;
	}
	int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	struct tp_addr from;
	address_of(MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr, &from);
	socket_prepare(fd);
	*seat = ctl_seat_take(http->seats, fd, &from);
	if (!*seat)
		shutdown(fd, SHUT_RDWR);
	if (http->tls)
		ctl_tls_begin(http->tls, connection);
}

/* The library's own decoding, of what we do not use. */
static size_t leave_as_is(void *context, struct MHD_Connection *connection, char *text)
{
	(void)context;
	(void)connection;
	return strlen(text);
}

static void library_log(void *context, const char *format, va_list arguments)
{
	char line[256];

	(void)context;
	vsnprintf(line, sizeof(line), format, arguments);
	line[strcspn(line, "\r\n")] = '\0';
	tp_logf(TP_DEBUG, "http", "said=\"%s\"", line);
}

/* ---- listening ---- */

static int listen_on(const struct tp_endpoint *endpoint, char text[TP_ENDPOINT_TEXT_BYTES])
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(endpoint->port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(endpoint->port)};
	bool is_four = endpoint->addr.family == 4;
	struct sockaddr *address = is_four ? (struct sockaddr *)&four : (struct sockaddr *)&six;
	socklen_t bytes = is_four ? sizeof(four) : sizeof(six);
	const int one = 1;

	memcpy(&four.sin_addr, endpoint->addr.byte + 12, 4);
	memcpy(&six.sin6_addr, endpoint->addr.byte, 16);
	int fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 || bind(fd, address, bytes) != 0 ||
	    listen(fd, BACKLOG) != 0 || getsockname(fd, address, &bytes) != 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	struct tp_endpoint got = *endpoint;
	got.port = ntohs(is_four ? four.sin_port : six.sin6_port);
	tp_endpoint_text(&got, text);
	return fd;
}

/* As many connections as the configuration wants, if so many files may be open. */
static uint32_t connections_max(const struct ctl *ctl)
{
	struct rlimit files;
	uint32_t wanted = ctl->config.control_connections;
	rlim_t needed = (rlim_t)wanted + wanted / 4 + OWN_FILES;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= needed)
		return wanted;
	files.rlim_cur = files.rlim_max < needed ? files.rlim_max : needed;
	(void)setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur >= needed)
		return wanted;
	uint32_t fits = files.rlim_cur > 2 * OWN_FILES ? (uint32_t)((files.rlim_cur - OWN_FILES) * 4 / 5) : OWN_FILES / 2;
	tp_logf(TP_WARN, "fewer connections than control.connections: too few files may be open",
		"connections=%u wanted=%u RLIMIT_NOFILE=%llu", fits, wanted, (unsigned long long)files.rlim_cur);
	return fits;
}

static int parts_open(struct ctl_http *http)
{
	const struct ctl *ctl = http->ctl;
	int rc = ctl_seats_open(&http->seats, connections_max(ctl), ctl->meter);

	if (rc == 0)
		rc = ctl_pool_open(&http->pool);
	if (rc == 0 && ctl->config.control_tls_certificate)
		rc = ctl_tls_open(&http->tls, &ctl->config);
	return rc;
}

static void parts_close(struct ctl_http *http)
{
	if (http->pool)
		ctl_pool_close(http->pool);
	if (http->seats)
		ctl_seats_close(http->seats);
	ctl_tls_close(http->tls);
	free(http);
}

static struct MHD_Daemon *daemon_start(struct ctl_http *http, int fd)
{
	const unsigned flags = MHD_USE_EPOLL_INTERNALLY | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG |
			       (http->tls ? MHD_USE_TLS : 0);
	static const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};

	/* seats, not the library, decide on how many there are: at its own limit it would stop taking honest ones */
	return MHD_start_daemon(
		flags, 0, NULL, NULL, answer, http, MHD_OPTION_EXTERNAL_LOGGER, library_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS, MHD_OPTION_URI_LOG_CALLBACK, request_begin, http,
		MHD_OPTION_NOTIFY_COMPLETED, request_end, NULL, MHD_OPTION_NOTIFY_CONNECTION, connection_change, http,
		MHD_OPTION_UNESCAPE_CALLBACK, leave_as_is, NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)(1 << 20),
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, http->tls ? ctl_tls_options(http->tls) : none, MHD_OPTION_END);
}

int ctl_http_open(struct ctl_http **http, struct ctl *ctl, char text[TP_ENDPOINT_TEXT_BYTES])
{
	struct ctl_http *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->ctl = ctl;
	int rc = parts_open(made);
	if (rc != 0) {
		parts_close(made);
		return rc;
	}
	int fd = listen_on(&ctl->config.control_listen, text);
	if (fd < 0) {
		tp_endpoint_text(&ctl->config.control_listen, text);
		tp_logf(TP_ERROR, "cannot listen", "control.listen=%s error=\"%s\"", text, strerror(-fd));
		parts_close(made);
		return fd;
	}
	made->daemon = daemon_start(made, fd);
	if (!made->daemon) {
		tp_logf(TP_ERROR, "cannot start the HTTP server", "listen=%s", text);
		close(fd);
		parts_close(made);
		return -EIO;
	}
	*http = made;
	return 0;
}

int ctl_http_reload(struct ctl_http *http)
{
	return http->tls ? ctl_tls_reload(http->tls) : 0;
}

void ctl_http_close(struct ctl_http *http)
{
	http->closing = true;
	/* the library must find no connection suspended: what waits is answered, and nothing more is queued */
	ctl_pool_close(http->pool);
	http->pool = NULL;
	MHD_stop_daemon(http->daemon);
	parts_close(http);
}
