/*
 * The head of an HTTP/1.x request: see http_parser.h. A line is found by looking for its first control character, 16 bytes at a time:
 * that must be the CR of its end, so the search is the check as well. Pure; any thread.
 * Source: RFC 9112 (syntax), RFC 9110 section 5 (fields).
 */
#include "http_parser.h"

#include "http_scan.h"

#include <string.h>

enum transfer { TRANSFER_NONE, TRANSFER_CHUNKED, TRANSFER_UNKNOWN };

/* A request line without its end: method SP target SP "HTTP/1.1". */
enum { LINE_BYTES_MAX = DP_HTTP_METHOD_BYTES_MAX + 1 + DP_HTTP_TARGET_BYTES_MAX + 1 + 8 };

static enum dp_http_step bad(struct dp_http_head *head, uint16_t status, const char *why)
{
	head->status = status;
	head->why = why;
	return DP_HTTP_BAD;
}

/* ---- request line ---- */

static uint8_t method_of(const char *text, size_t bytes)
{
	if (bytes == 4 && memcmp(text, "POST", 4) == 0)
		return DP_HTTP_POST;
	if (bytes == 3 && memcmp(text, "GET", 3) == 0)
		return DP_HTTP_GET;
	if (bytes == 4 && memcmp(text, "HEAD", 4) == 0)
		return DP_HTTP_HEAD;
	if (bytes == 7 && memcmp(text, "OPTIONS", 7) == 0)
		return DP_HTTP_OPTIONS;
	return DP_HTTP_OTHER_METHOD;
}

/* The target is [at, end). */
static enum dp_http_step parse_target(struct dp_http_head *head, const char *bytes, size_t at, size_t end, size_t readable,
				      bool connect)
{
	const char *target = bytes + at;
	size_t count = end - at;
	if (dp_scan_class(bytes, at, end, readable, &dp_target_char) != end)
		return bad(head, 400, "the request target has a byte that no target may have");
	if (connect || (count == 1 && target[0] == '*')) {
		if (!connect && head->method != DP_HTTP_OPTIONS)
			return bad(head, 400, "the request target * is for OPTIONS only");
		head->asterisk = true;
		return DP_HTTP_DONE;
	}
	if (target[0] != '/') { /* absolute-form: scheme "://" authority [path] */
		size_t authority = at;
		if (count > 7 && DP_SAME_WORD(target, 4, "http") && memcmp(target + 4, "://", 3) == 0)
			authority += 7;
		else if (count > 8 && DP_SAME_WORD(target, 5, "https") && memcmp(target + 5, "://", 3) == 0)
			authority += 8;
		else
			return bad(head, 400, "the request target is neither a path nor an http URL");
		at = dp_scan_class(bytes, authority, end, readable, &dp_host_char);
		if (at == authority || (at < end && bytes[at] != '/' && bytes[at] != '?'))
			return bad(head, 400, "the authority in the request target is not valid");
	}
	size_t question = dp_scan_byte(bytes, at, end, readable, '?');
	head->path = (struct dp_http_span){(uint32_t)at, (uint32_t)(question - at)};
	head->has_query = question != end;
	if (head->has_query)
		head->query = (struct dp_http_span){(uint32_t)question + 1, (uint32_t)(end - question - 1)};
	return DP_HTTP_DONE;
}

/* The line is [at, end), without its line end. */
static enum dp_http_step parse_request_line(struct dp_http_head *head, const char *bytes, size_t at, size_t end, size_t readable)
{
	size_t space = dp_scan_class(bytes, at, end, readable, &dp_token_char);
	size_t method_bytes = space - at;
	if (space == end || bytes[space] != ' ' || method_bytes == 0 || method_bytes > DP_HTTP_METHOD_BYTES_MAX)
		return bad(head, 400, "the request line does not begin with a method");
	head->method = method_of(bytes + at, method_bytes);
	bool connect = method_bytes == 7 && memcmp(bytes + at, "CONNECT", 7) == 0;

	size_t target = space + 1;
	size_t target_end = dp_scan_byte(bytes, target, end, readable, ' ');
	if (target_end == end || target_end == target)
		return bad(head, 400, "the request line is not: method, target and version, one space apart");
	const char *version = bytes + target_end + 1;
	if (end - target_end != 9 || memcmp(version, "HTTP/", 5) != 0 || version[5] < '0' || version[5] > '9' ||
	    version[6] != '.' || version[7] < '0' || version[7] > '9')
		return bad(head, 400, "the request line does not end with an HTTP version");
	if (version[5] != '1')
		return bad(head, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	head->minor = version[7] == '0' ? 0 : 1; /* a higher minor version is answered as the highest that we speak */
	if (target_end - target > DP_HTTP_TARGET_BYTES_MAX)
		return bad(head, 414, "the request target is longer than 8192 bytes");
	return parse_target(head, bytes, target, target_end, readable, connect);
}

/* ---- header lines ---- */

/* Takes the next element of a comma-separated list off *text; false at its end. Empty elements come out empty (RFC 9110 5.6.1). */
static bool next_element(const char **text, size_t *bytes, const char **element, size_t *element_bytes)
{
	if (*text == NULL)
		return false;
	const char *comma = *bytes == 0 ? NULL : memchr(*text, ',', *bytes);
	size_t n = comma == NULL ? *bytes : (size_t)(comma - *text);
	const char *at = *text;
	if (comma == NULL) {
		*text = NULL;
	} else {
		*bytes -= n + 1;
		*text = comma + 1;
	}
	while (n > 0 && (*at == ' ' || *at == '\t'))
		at++, n--;
	while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t'))
		n--;
	*element = at;
	*element_bytes = n;
	return true;
}

static const char *field_content_length(struct dp_http_head *head, size_t at, const char *value, size_t bytes)
{
	if (head->length_lines++ != 0)
		return "more than one Content-Length";
	if (bytes == 0)
		return "Content-Length is empty";
	uint64_t length = 0;
	for (size_t i = 0; i < bytes; i++) {
		if (value[i] < '0' || value[i] > '9')
			return "Content-Length is not a number";
		/* saturates: too large is too large, however many digits it has */
		length = length > UINT64_MAX / 16 ? UINT64_MAX / 16 : length * 10 + (uint64_t)(value[i] - '0');
	}
	head->content_length = length;
	head->has_length = true;
	head->length_at = (uint32_t)at;
	head->length_bytes = (uint32_t)bytes;
	return NULL;
}

/* Codings over all Transfer-Encoding lines: chunked must come once, and last. */
static const char *field_transfer_encoding(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	bool any = false;
	while (next_element(&value, &bytes, &element, &n)) {
		if (n == 0)
			continue;
		any = true;
		if (head->chunked)
			return "chunked is not the last transfer coding, or there twice";
		if (DP_SAME_WORD(element, n, "chunked"))
			head->chunked = true;
		else
			head->transfer = TRANSFER_UNKNOWN;
	}
	if (!any)
		return "Transfer-Encoding is empty";
	if (head->transfer == TRANSFER_NONE)
		head->transfer = TRANSFER_CHUNKED;
	return NULL;
}

static const char *field_host(struct dp_http_head *head, const char *bytes, size_t at, size_t end, size_t readable)
{
	if (head->host_lines++ != 0)
		return "more than one Host";
	if (dp_scan_class(bytes, at, end, readable, &dp_host_char) != end)
		return "Host is not valid";
	return NULL;
}

static void field_connection(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	while (next_element(&value, &bytes, &element, &n)) {
		if (DP_SAME_WORD(element, n, "close"))
			head->connection_close = true;
		else if (DP_SAME_WORD(element, n, "keep-alive"))
			head->connection_keep_alive = true;
	}
}

static void field_expect(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	while (next_element(&value, &bytes, &element, &n)) {
		if (n == 12 && memcmp(element, "100-", 4) == 0 && DP_SAME_WORD(element + 4, 8, "continue"))
			head->expect_continue = true;
		else if (n != 0)
			head->expect_other = true;
	}
}

static void field_content_type(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *semicolon = bytes == 0 ? NULL : memchr(value, ';', bytes);
	size_t n = semicolon == NULL ? bytes : (size_t)(semicolon - value);
	while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
		n--;
	bool ours = (n > 12 && DP_SAME_WORD(value, 11, "application") && value[11] == '/' &&
		     (DP_SAME_WORD(value + 12, n - 12, "json") || DP_SAME_WORD(value + 12, n - 12, "x-ndjson"))) ||
		    (n == 10 && DP_SAME_WORD(value, 4, "text") && value[4] == '/' && DP_SAME_WORD(value + 5, 5, "plain"));
	head->content = ours && head->content == DP_HTTP_CONTENT_NONE ? DP_HTTP_CONTENT_TEXT : DP_HTTP_CONTENT_OTHER;
}

static void field_content_encoding(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	while (next_element(&value, &bytes, &element, &n)) {
		if (n == 0 || DP_SAME_WORD(element, n, "identity"))
			continue;
		bool gzip = DP_SAME_WORD(element, n, "gzip") || DP_SAME_WORD(element, n, "x-gzip");
		head->coding = gzip && head->coding == DP_HTTP_IDENTITY ? DP_HTTP_GZIP : DP_HTTP_OTHER_CODING;
	}
}

static void field_forwarded(struct dp_http_head *head, size_t at, size_t bytes)
{
	if (head->forwarded_count ==
	    DP_HTTP_FORWARDED_LINES_MAX) { /* the walk goes from the right: the oldest line matters least */
		memmove(head->forwarded, head->forwarded + 1, sizeof(head->forwarded) - sizeof(head->forwarded[0]));
		head->forwarded_count--;
	}
	head->forwarded[head->forwarded_count++] = (struct dp_http_span){(uint32_t)at, (uint32_t)bytes};
}

/* The line is [at, end), without its line end. */
static enum dp_http_step parse_field(struct dp_http_head *head, const char *bytes, size_t at, size_t end, size_t readable)
{
	size_t colon = dp_scan_class(bytes, at, end, readable, &dp_token_char);
	if (colon == at || colon == end || bytes[colon] != ':')
		return bad(head, 400,
			   bytes[at] == ' ' || bytes[at] == '\t' ? "a header line is folded or begins with a space"
								 : "a header line does not begin with a name and a colon");
	size_t value_at = colon + 1;
	while (value_at < end && (bytes[value_at] == ' ' || bytes[value_at] == '\t'))
		value_at++;
	while (end > value_at && (bytes[end - 1] == ' ' || bytes[end - 1] == '\t'))
		end--;
	const char *name = bytes + at, *value = bytes + value_at;
	size_t count = end - value_at;
	const char *why = NULL;
	switch (colon - at) { /* by length first: most lines are none of ours */
	case 4:
		if (DP_SAME_WORD(name, 4, "host"))
			why = field_host(head, bytes, value_at, end, readable);
		break;
	case 6:
		if (DP_SAME_WORD(name, 6, "expect"))
			field_expect(head, value, count);
		break;
	case 10:
		if (DP_SAME_NAME(name, "connection"))
			field_connection(head, value, count);
		break;
	case 11:
		if (DP_SAME_NAME(name, "traceparent")) /* of two none counts */
			head->traceparent =
				(struct dp_http_span){(uint32_t)value_at, head->traceparent.at != 0 ? 0 : (uint32_t)count};
		break;
	case 12:
		if (DP_SAME_NAME(name, "content-type"))
			field_content_type(head, value, count);
		break;
	case 13:
		if (DP_SAME_NAME(name, "authorization")) /* of two nobody knows which one counts: none does */
			head->authorization =
				(struct dp_http_span){(uint32_t)value_at, head->authorization.at != 0 ? 0 : (uint32_t)count};
		break;
	case 14:
		if (DP_SAME_NAME(name, "content-length"))
			why = field_content_length(head, value_at, value, count);
		break;
	case 15:
		if (DP_SAME_NAME(name, "x-forwarded-for"))
			field_forwarded(head, value_at, count);
		break;
	case 16:
		if (DP_SAME_NAME(name, "content-encoding"))
			field_content_encoding(head, value, count);
		break;
	case 17:
		if (DP_SAME_WORD(name, 17, "transfer-encoding"))
			why = field_transfer_encoding(head, value, count);
		break;
	default:
		break;
	}
	return why == NULL ? DP_HTTP_DONE : bad(head, 400, why);
}

/* What no single line can tell. RFC 9112 section 6.3: framing that could be read in two ways ends the connection. */
static enum dp_http_step finish(struct dp_http_head *head)
{
	if (head->minor == 1 && head->host_lines == 0)
		return bad(head, 400, "no Host");
	if (head->transfer != TRANSFER_NONE && head->has_length)
		return bad(head, 400, "both Content-Length and Transfer-Encoding");
	if (head->transfer != TRANSFER_NONE && head->minor == 0)
		return bad(head, 400, "Transfer-Encoding in HTTP/1.0");
	if (head->transfer == TRANSFER_UNKNOWN)
		return bad(head, 501, "the only transfer coding spoken here is chunked");
	head->keep_alive = !head->connection_close && (head->minor == 1 || head->connection_keep_alive);
	if (head->minor == 0)
		head->expect_continue = head->expect_other = false; /* RFC 9110 10.1.1 */
	return DP_HTTP_DONE;
}

/* The request line, from `at` on, has not ended within its limit: more than that of it is there. */
static enum dp_http_step line_too_long(struct dp_http_head *head, const char *bytes, size_t at)
{
	size_t space = dp_scan_class(bytes, at, at + DP_HTTP_METHOD_BYTES_MAX, at + LINE_BYTES_MAX, &dp_token_char);
	if (space == at || bytes[space] != ' ')
		return bad(head, 400, "the request line does not begin with a method");
	return bad(head, 414, "the request target is longer than 8192 bytes");
}

enum dp_http_step dp_http_head_parse(struct dp_http_head *head, const char *bytes, size_t count)
{
	for (;;) {
		bool first = head->fields_at == 0;
		/* Never look past the limit, so that the outcome is the same whether more has arrived or not. */
		size_t window =
			first ? (size_t)head->line_at + LINE_BYTES_MAX + 1 : (size_t)head->fields_at + DP_HTTP_FIELDS_BYTES_MAX + 2;
		size_t end = count < window ? count : window;
		size_t at = head->scanned > head->line_at ? head->scanned : head->line_at;
		size_t found = dp_scan_control(bytes, at, end);
		head->scanned = (uint32_t)found;
		if (found == end) {
			if (end < window)
				return DP_HTTP_MORE;
			return first ? line_too_long(head, bytes, head->line_at)
				     : bad(head, 431, "the header lines are longer than 16384 bytes");
		}
		if (bytes[found] != '\r')
			return bad(head, 400,
				   bytes[found] == '\n' ? "a line ends with a bare LF" : "a control character in the head");
		if (found + 1 == count)
			return DP_HTTP_MORE;
		if (bytes[found + 1] != '\n')
			return bad(head, 400, "a bare CR in the head");

		size_t line_at = head->line_at;
		head->line_at = head->scanned = (uint32_t)found + 2;
		if (first) {
			if (found == line_at)
				continue; /* RFC 9112 section 2.2: empty lines before a request are ignored */
			if (parse_request_line(head, bytes, line_at, found, count) == DP_HTTP_BAD)
				return DP_HTTP_BAD;
			head->fields_at = head->line_at;
		} else if (found == line_at) {
			head->bytes = head->line_at;
			return finish(head);
		} else {
			if (head->line_at - head->fields_at > DP_HTTP_FIELDS_BYTES_MAX)
				return bad(head, 431, "the header lines are longer than 16384 bytes");
			if (parse_field(head, bytes, line_at, found, count) == DP_HTTP_BAD)
				return DP_HTTP_BAD;
		}
	}
}
