/*
 * Who asks, and whether he may: framing, method, Host, Origin, token or cookie, rates. The library's threads; a worker runs the handler.
 *
 * Ambiguous framing is refused and ends the connection, so that nothing behind it is taken for a request: two lengths, a length beside
 * Transfer-Encoding, another coding than chunked, a body on GET. Source: RFC 9112 sections 3.2, 6.1, 6.3 and 11.2; RFC 9110 section 9.
 */
#include "ctl_http.h"
#include "ctl_login.h"
#include "ctl_meter.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

static const char *request_header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

const char *ctl_http_header(void *connection, const char *name)
{
	return request_header(connection, name);
}

/* ---- framing ---- */

/* Lines that may come once only, and what came. */
struct heads {
	uint32_t host, length, coding, authorization, type, origin;
	const char *length_value, *coding_value;
	bool bad; /* a name that is no token (RFC 9110 section 5.6.2), or a value with a control character */
};

static const char token_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";

static enum MHD_Result head_count(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct heads *heads = context;

	(void)kind;
	heads->bad = heads->bad || name[0] == '\0' || name[strspn(name, token_letters)] != '\0';
	heads->host += strcasecmp(name, "Host") == 0;
	heads->authorization += strcasecmp(name, "Authorization") == 0;
	heads->type += strcasecmp(name, "Content-Type") == 0;
	heads->origin += strcasecmp(name, "Origin") == 0;
	if (strcasecmp(name, "Content-Length") == 0) {
		heads->length++;
		heads->length_value = value;
	}
	if (strcasecmp(name, "Transfer-Encoding") == 0) {
		heads->coding++;
		heads->coding_value = value;
	}
	for (const char *at = value ? value : ""; *at; at++)
		heads->bad = heads->bad || ((unsigned char)*at < 0x20 && *at != '\t') || *at == 0x7f;
	return MHD_YES;
}

static bool framing_check(struct ctl_exchange *exchange, bool reads, const char *version)
{
	struct heads heads = {0};
	const char *what = NULL;

	MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, head_count, &heads);
	bool is_old = strcmp(version, "HTTP/1.0") == 0;
	if (heads.host > 1 || (heads.host == 0 && !is_old))
		what = "expected one Host line";
	else if (heads.length > 1)
		what = "expected one Content-Length line at most";
	else if (heads.length && heads.coding)
		what = "expected Content-Length or Transfer-Encoding, found both";
	else if (heads.length &&
		 (heads.length_value[0] == '\0' || strspn(heads.length_value, "0123456789") != strlen(heads.length_value)))
		what = "expected Content-Length to be digits";
	else if (heads.coding && is_old)
		what = "HTTP/1.0 has no Transfer-Encoding";
	else if (reads && (heads.coding || (heads.length && strspn(heads.length_value, "0") != strlen(heads.length_value))))
		what = "expected no body with GET or HEAD";
	else if (heads.authorization > 1 || heads.type > 1 || heads.origin > 1)
		what = "expected Authorization, Content-Type and Origin once at most";
	else if (heads.bad)
		what = "expected a token as the name of a header line, and no control character in its value";
	if (!what && !(heads.coding && strcasecmp(heads.coding_value, "chunked") != 0))
		return true;
	exchange->closes = true;
	if (what)
		ctl_reply_problem(&exchange->reply, 400, "bad-request", NULL, "%s", what);
	else
		ctl_reply_problem(&exchange->reply, 501, "not-implemented", NULL,
				  "expected Transfer-Encoding: chunked, found %.64s", heads.coding_value);
	return false;
}

/* ---- methods ---- */

static bool method_check(struct ctl_exchange *exchange, const char *method)
{
	static const char *const allow[2][2] = {{"GET, HEAD", "GET, HEAD, DELETE"}, {"GET, HEAD, POST", "GET, HEAD, POST, DELETE"}};
	const uint32_t takes = exchange->route ? exchange->route->takes : 0;

	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return true;
	if ((takes & CTL_POSTS) && strcmp(method, "POST") == 0) {
		exchange->target.method = CTL_POST;
		return true;
	}
	if ((takes & CTL_DELETES) && strcmp(method, "DELETE") == 0) {
		exchange->target.method = CTL_DELETE;
		return true;
	}
	const char *methods = allow[(takes & CTL_POSTS) != 0][(takes & CTL_DELETES) != 0];
	ctl_reply_problem(&exchange->reply, 405, "method-not-allowed", NULL, "expected one of %s, found %.32s", methods, method);
	exchange->reply.allow = methods;
	return false;
}

bool ctl_http_head_check(struct ctl_exchange *exchange, const char *method, const char *version)
{
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	if (!framing_check(exchange, reads, version))
		return false;
	if (!exchange->parsed) {
		ctl_reply_problem(&exchange->reply, 400, "bad-target", NULL,
				  "the request target has a bad escape, too many parts, or is no path");
		return false;
	}
	exchange->route = ctl_route_find(&exchange->target);
	return method_check(exchange, method);
}

/* ---- who ---- */

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

static bool content_is(struct MHD_Connection *connection, const char *want)
{
	const char *type = request_header(connection, "Content-Type");
	size_t bytes = strlen(want);

	return type && strncasecmp(type, want, bytes) == 0 && (type[bytes] == '\0' || type[bytes] == ';' || type[bytes] == ' ');
}

static bool content_is_right(const struct ctl_exchange *exchange)
{
	if (content_is(exchange->connection, "application/json"))
		return true;
	return (exchange->route->takes & CTL_FORMS) && content_is(exchange->connection, "application/x-www-form-urlencoded");
}

static bool is_root(const struct ctl_target *target)
{
	return target->segments == 1 && target->segment[0].bytes == 0;
}

/* What there is, is nobody's business without a token: a path that is not there needs one too. */
static bool gate_check(struct ctl_exchange *exchange)
{
	struct ctl *ctl = exchange->http->ctl;
	struct ctl_reply *reply = &exchange->reply;
	const struct ctl_plea plea = {request_header(exchange->connection, "Authorization"),
				      request_header(exchange->connection, "Cookie")};
	uint32_t wait_ms = 0;

	switch (ctl_gate_ask(ctl->gate, &plea, exchange->route ? exchange->route->need : CTL_NEED_READ, &exchange->asker,
			     &wait_ms)) {
	case CTL_MAY:
		if (exchange->asker.known && exchange->asker.token.scope == TP_SCOPE_READ_ADVERTISER)
			exchange->target.only = exchange->asker.token.advertiser;
		return true;
	case CTL_UNKNOWN:
		if (is_root(&exchange->target))
			ctl_login_page(reply, 200, NULL);
		else
			ctl_reply_problem(reply, 401, "unauthorized", NULL, "a token is needed: Authorization: Bearer …");
		return false;
	case CTL_NARROW:
		ctl_reply_problem(reply, 403, "forbidden", NULL, "the token's scope does not reach this");
		return false;
	default:
		ctl_meter_turn(ctl->meter, exchange->asker.known ? CTL_THROTTLED_TOKEN : CTL_THROTTLED_SOURCE);
		ctl_reply_problem(reply, 429, "too-many-requests", NULL,
				  exchange->asker.known ? "the token's rate is exceeded"
							: "too many refused requests from your address");
		ctl_reply_header(reply, "Retry-After", "%u", (wait_ms + 999) / 1000);
		return false;
	}
}

bool ctl_http_asker_check(struct ctl_exchange *exchange)
{
	struct ctl *ctl = exchange->http->ctl;
	struct ctl_reply *reply = &exchange->reply;
	const char *host = request_header(exchange->connection, "Host");

	if (!ctl->gate && !host_is_ours(host)) {
		ctl_reply_problem(reply, 421, "misdirected", NULL,
				  "without tokens only requests to an IP address or localhost are answered, found Host: %.64s",
				  host);
		return false;
	}
	if (ctl->gate && !gate_check(exchange))
		return false;
	if (!exchange->route) {
		ctl_reply_problem(reply, 404, "not-found", NULL, "there is nothing here; /openapi.json names what there is");
		return false;
	}
	if (exchange->target.method == CTL_GET)
		return true;
	if (!origin_is_ours(exchange->connection)) {
		ctl_reply_problem(reply, 403, "foreign-origin", NULL, "the request comes from a page of another origin");
		return false;
	}
	if (exchange->target.method == CTL_POST && !content_is_right(exchange)) {
		ctl_reply_problem(reply, 415, "unsupported-media-type", NULL, "expected Content-Type: application/json%s",
				  exchange->route->takes & CTL_FORMS ? " or application/x-www-form-urlencoded" : "");
		return false;
	}
	return true;
}

void ctl_http_handle(struct ctl_exchange *exchange)
{
	const struct ctl_route *route = exchange->route;
	struct ctl_target *target = &exchange->target;

	target->body = exchange->body;
	target->body_bytes = exchange->body_bytes;
	if (target->method != CTL_GET && route->need == CTL_NEED_ADMIN)
		ctl_act_run(exchange->http->ctl, target, &exchange->reply, route->handler);
	else
		route->handler(exchange->http->ctl, target, &exchange->reply);
}
