/*
 * HTTP for the control process: listening, methods, routes, who may ask, and replies on the wire. The library is libmicrohttpd with a
 * thread per connection, so that a long query or a watcher of the live stream holds up nobody else.
 *
 * The raw target is taken from the library before it decodes anything, and decoded in ctl_request.c: an escaped slash stays part of
 * an id. Source: RFC 9110, RFC 9112; contract section 7.
 */
#include "ctl.h"
#include "ctl_gate.h"
#include "ctl_meter.h"
#include "ctl_route.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IDLE_S = 60, BACKLOG = 128, MEMORY_BYTES = 64 * 1024, BODY_BYTES_MAX = 16 * 1024 };

struct ctl_http {
	struct MHD_Daemon *daemon;
	struct ctl *ctl;
};

/* What is known of one request between the library's calls. */
struct exchange {
	bool begun;  /* the library has called before */
	bool parsed; /* the target is well formed */
	struct ctl_target target;
	char *body; /* of a request that changes something */
	size_t body_bytes;
	bool body_too_large;
};

/* ---- who asks ---- */

static const char *request_header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

const char *ctl_target_header(const struct ctl_target *target, const char *name)
{
	return request_header(target->connection, name);
}

/*
 * Without tokens anybody on this machine may read. A web page elsewhere can make a visitor's browser ask under the page's own name
 * (DNS rebinding), so only names that cannot be a stranger's are answered: an address, or localhost.
 */
static bool host_is_ours(const char *host)
{
	char name[256];
	struct tp_addr addr;

	if (!host)
		return true; /* HTTP/1.0: no browser */
	size_t bytes = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	if (bytes >= sizeof(name) || bytes > strlen(host))
		return false;
	memcpy(name, host, bytes);
	name[bytes] = '\0';
	if (strcasecmp(name, "localhost") == 0)
		return true;
	if (name[0] == '[')
		return tp_addr_parse(name + 1, bytes - 2, &addr) == 0;
	return tp_addr_parse(name, bytes, &addr) == 0;
}

/*
 * Whether a request that changes something comes from where it may: with a browser in between, from a page of ours. A page of a
 * stranger can send a form or plain text without asking, but says so in Origin, and has to ask before it sends JSON.
 */
static bool origin_is_ours(struct MHD_Connection *connection)
{
	const char *origin = request_header(connection, "Origin"), *host = request_header(connection, "Host");
	const char *name = origin ? strstr(origin, "://") : NULL;

	return !origin || (name && host && strcasecmp(name + 3, host) == 0);
}

static bool content_is_json(struct MHD_Connection *connection)
{
	const char *type = request_header(connection, "Content-Type");

	return type && strncasecmp(type, "application/json", 16) == 0 && (type[16] == '\0' || type[16] == ';' || type[16] == ' ');
}

static void dispatch(struct ctl *ctl, struct ctl_target *target, struct MHD_Connection *connection, struct ctl_reply *reply)
{
	bool closed = ctl->config.control_auth_tokens;
	const char *host = request_header(connection, "Host");
	const struct ctl_route *route = ctl_route_find(target);
	enum ctl_verdict verdict = CTL_MAY;
	struct tp_token token = {0};

	if (!closed && !host_is_ours(host)) {
		ctl_reply_problem(reply, 421, "misdirected", NULL,
				  "without tokens only requests to an IP address or localhost are answered, found Host: %.64s",
				  host);
		return;
	}
	/* what there is, is nobody's business without a token */
	if (closed)
		verdict = ctl_gate_ask(ctl->gate, request_header(connection, "Authorization"), route ? route->need : CTL_NEED_READ,
				       &token);
	target->only = verdict == CTL_MAY && closed && token.scope == TP_SCOPE_READ_ADVERTISER ? token.advertiser : NULL;
	if (verdict == CTL_UNKNOWN && target->segments == 1 && target->segment[0].bytes == 0)
		ctl_web_closed(ctl, target, reply);
	else if (verdict == CTL_UNKNOWN)
		ctl_reply_problem(reply, 401, "unauthorized", NULL, "a token is needed: Authorization: Bearer …");
	else if (verdict == CTL_NARROW)
		ctl_reply_problem(reply, 403, "forbidden", NULL, "the token's scope does not reach this");
	else if (target->method != CTL_GET && !origin_is_ours(connection))
		ctl_reply_problem(reply, 403, "foreign-origin", NULL, "the request comes from a page of another origin");
	else if (target->method == CTL_POST && !content_is_json(connection))
		ctl_reply_problem(reply, 415, "unsupported-media-type", NULL, "expected Content-Type: application/json");
	else if (route)
		route->handler(ctl, target, reply);
	else
		ctl_reply_problem(reply, 404, "not-found", NULL, "there is nothing here; /openapi.json names what there is");
}

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

static enum MHD_Result reply_send(struct MHD_Connection *connection, struct ctl_reply *reply)
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
	header(response, "Referrer-Policy", "no-referrer");
	for (uint32_t i = 0; i < reply->headers; i++)
		header(response, reply->header[i].name, reply->header[i].value);
	if (reply->status == 401)
		header(response, "WWW-Authenticate", "Bearer");
	if (reply->status == 405)
		header(response, "Allow", reply->allow);
	if (reply->status == 503)
		header(response, "Retry-After", "1");
	enum MHD_Result result = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return result;
}

/* RFC 9110 section 13.1.2, for the one strong tag that we send. */
static void if_none_match(struct MHD_Connection *connection, struct ctl_reply *reply)
{
	const char *tags = request_header(connection, "If-None-Match");

	if (reply->status != 200 || !reply->etag || !tags)
		return;
	if (strcmp(tags, "*") == 0 || strstr(tags, reply->etag)) {
		reply->status = 304;
		reply->fixed = "";
		reply->body_bytes = 0;
	}
}

/* True if the resource takes this method, which is then noted. */
static bool method_changes(struct exchange *exchange, const char *method)
{
	const struct ctl_route *route = ctl_route_find(&exchange->target);
	const bool post = strcmp(method, "POST") == 0;

	if (!route || !(post ? route->takes & CTL_POSTS : (route->takes & CTL_DELETES) && strcmp(method, "DELETE") == 0))
		return false;
	exchange->target.method = post ? CTL_POST : CTL_DELETE;
	return true;
}

static void method_refuse(const struct exchange *exchange, const char *method, struct ctl_reply *reply)
{
	static const char *const allow[] = {"GET, HEAD", "GET, HEAD, POST", "GET, HEAD, DELETE", "GET, HEAD, POST, DELETE"};
	const struct ctl_route *route = exchange->parsed ? ctl_route_find(&exchange->target) : NULL;
	const char *methods = allow[route ? route->takes : CTL_READS];

	ctl_reply_problem(reply, 405, "method-not-allowed", NULL, "expected one of %s, found %.32s", methods, method);
	reply->allow = methods;
}

static void body_take(struct exchange *exchange, const char *bytes, size_t count)
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
	exchange->target.body = more;
	exchange->target.body_bytes = exchange->body_bytes;
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *upload, size_t *upload_bytes, void **state)
{
	struct ctl_http *http = context;
	struct exchange *exchange = *state;
	struct ctl_reply reply = {0};

	(void)url;
	(void)version;
	if (!exchange)
		return MHD_NO;
	const uint64_t began_ns = tp_mono_ns();
	exchange->target.head = strcmp(method, "HEAD") == 0;
	bool readable = strcmp(method, "GET") == 0 || exchange->target.head;
	/*
	 * The library keeps a connection only if the reply comes after its first call. A method that may have a body gets its
	 * refusal at once, so that the body need not be read.
	 */
	if (!readable && exchange->parsed && method_changes(exchange, method)) {
		readable = true;
		body_take(exchange, upload, *upload_bytes);
	}
	if (readable && (!exchange->begun || *upload_bytes)) {
		exchange->begun = true;
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (exchange->body_too_large)
		ctl_reply_problem(&reply, 413, "body-too-large", NULL, "expected at most %d bytes", BODY_BYTES_MAX);
	else if (!readable)
		method_refuse(exchange, method, &reply);
	else if (!exchange->parsed)
		ctl_reply_problem(&reply, 400, "bad-target", NULL, "the request target has a bad escape or too many parts");
	else
		dispatch(http->ctl, &exchange->target, connection, &reply);
	ctl_meter_count(http->ctl->meter, exchange->parsed ? ctl_route_find(&exchange->target) : NULL, reply.status,
			tp_mono_ns() - began_ns);
	if_none_match(connection, &reply);
	return reply_send(connection, &reply);
}

/* The library's first word of a request: its raw target. */
static void *request_begin(void *context, const char *target, struct MHD_Connection *connection)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	(void)context;
	if (!exchange)
		return NULL;
	exchange->parsed = ctl_target_parse(target, &exchange->target) == 0;
	exchange->target.connection = connection;
	return exchange;
}

static void request_end(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
	struct exchange *exchange = *state;

	(void)context;
	(void)connection;
	(void)how;
	if (exchange) {
		ctl_target_free(&exchange->target);
		free(exchange->body);
	}
	free(exchange);
	*state = NULL;
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

int ctl_http_open(struct ctl_http **http, struct ctl *ctl, char text[TP_ENDPOINT_TEXT_BYTES])
{
	struct ctl_http *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->ctl = ctl;
	int fd = listen_on(&ctl->config.control_listen, text);
	if (fd < 0) {
		tp_endpoint_text(&ctl->config.control_listen, text);
		tp_logf(TP_ERROR, "cannot listen", "control.listen=%s error=\"%s\"", text, strerror(-fd));
		free(made);
		return fd;
	}
	made->daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0,
		NULL, NULL, answer, made, MHD_OPTION_EXTERNAL_LOGGER, library_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_URI_LOG_CALLBACK, request_begin, NULL, MHD_OPTION_NOTIFY_COMPLETED, request_end, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, leave_as_is, NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CTL_CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!made->daemon) {
		tp_logf(TP_ERROR, "cannot start the HTTP server", "listen=%s", text);
		close(fd);
		free(made);
		return -EIO;
	}
	*http = made;
	return 0;
}

void ctl_http_close(struct ctl_http *http)
{
	MHD_stop_daemon(http->daemon);
	free(http);
}
