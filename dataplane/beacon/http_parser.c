/*
 * The head of an HTTP/1.x request: see http_parser.h. A line is found by looking for its first control character, 16 bytes at a time:
 * that must be the CR of its end, so the search is the check as well. Pure; any thread.
 * Source: RFC 9112 (syntax), RFC 9110 section 5 (fields).
 */
#include "http_parser.h"

#include <emmintrin.h>
#include <string.h>

enum transfer { TRANSFER_NONE, TRANSFER_CHUNKED, TRANSFER_UNKNOWN };

/* A request line without its end: method SP target SP "HTTP/1.1". */
enum { LINE_BYTES_MAX = DP_HTTP_METHOD_BYTES_MAX + 1 + DP_HTTP_TARGET_BYTES_MAX + 1 + 8 };

enum { TOKEN = 1, TARGET = 2, HOST = 4 };

/* clang-format off */
static const uint8_t char_class[256] = {
	['!'] = TOKEN | TARGET | HOST, ['"'] = TARGET, ['$'] = TOKEN | TARGET | HOST, ['%'] = TOKEN | TARGET | HOST,
	['&'] = TOKEN | TARGET | HOST, ['\''] = TOKEN | TARGET | HOST, ['('] = TARGET | HOST, [')'] = TARGET | HOST,
	['*'] = TOKEN | TARGET | HOST, ['+'] = TOKEN | TARGET | HOST, [','] = TARGET | HOST, ['-'] = TOKEN | TARGET | HOST,
	['.'] = TOKEN | TARGET | HOST, ['/'] = TARGET, ['0' ... '9'] = TOKEN | TARGET | HOST, [':'] = TARGET | HOST,
	[';'] = TARGET | HOST, ['<'] = TARGET, ['='] = TARGET | HOST, ['>'] = TARGET, ['?'] = TARGET, ['@'] = TARGET,
	['A' ... 'Z'] = TOKEN | TARGET | HOST, ['['] = TARGET | HOST, ['\\'] = TARGET, [']'] = TARGET | HOST,
	['^'] = TOKEN | TARGET, ['_'] = TOKEN | TARGET | HOST, ['`'] = TOKEN | TARGET, ['a' ... 'z'] = TOKEN | TARGET | HOST,
	['{'] = TARGET, ['|'] = TOKEN | TARGET, ['}'] = TARGET, ['~'] = TOKEN | TARGET | HOST, ['#'] = TOKEN,
};
/* clang-format on */

static bool has_class(char c, uint8_t class)
{
	return (char_class[(uint8_t)c] & class) != 0;
}

static bool all_class(const char *text, size_t bytes, uint8_t class)
{
	for (size_t i = 0; i < bytes; i++)
		if (!has_class(text[i], class))
			return false;
	return true;
}

/* `lower` is lower case and has only letters and '-', which both survive the OR. */
static bool same_word(const char *text, size_t bytes, const char *lower, size_t lower_bytes)
{
	if (bytes != lower_bytes)
		return false;
	for (size_t i = 0; i < bytes; i++)
		if ((text[i] | 0x20) != lower[i])
			return false;
	return true;
}

#define SAME_WORD(text, bytes, lower) same_word(text, bytes, lower, sizeof(lower) - 1)

/* Offset of the first control character but HTAB in [at, end), or end. */
static size_t find_control(const char *bytes, size_t at, size_t end)
{
	const __m128i top = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
	for (; at + 16 <= end; at += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(bytes + at));
		__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, top), x);
		__m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), low), _mm_cmpeq_epi8(x, del));
		int mask = _mm_movemask_epi8(bad);
		if (mask != 0)
			return at + (size_t)__builtin_ctz((unsigned)mask);
	}
	for (; at < end; at++) {
		uint8_t c = (uint8_t)bytes[at];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return at;
	}
	return end;
}

static enum dp_http_step bad(struct dp_http_head *head, uint16_t status, const char *why)
{
	head->status = status;
	head->why = why;
	return DP_HTTP_BAD;
}

static const char *find_byte(const char *text, size_t bytes, char c)
{
	return bytes == 0 ? NULL : memchr(text, c, bytes);
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

static enum dp_http_step parse_target(struct dp_http_head *head, const char *bytes, size_t at, size_t count, bool connect)
{
	const char *target = bytes + at;
	if (!all_class(target, count, TARGET))
		return bad(head, 400, "the request target has a byte that no target may have");
	size_t path_at = 0;
	if (connect || (count == 1 && target[0] == '*')) {
		if (!connect && head->method != DP_HTTP_OPTIONS)
			return bad(head, 400, "the request target * is for OPTIONS only");
		head->asterisk = true;
		return DP_HTTP_DONE;
	}
	if (target[0] != '/') { /* absolute-form: scheme "://" authority [path] */
		size_t scheme = 0;
		if (count > 7 && SAME_WORD(target, 4, "http") && memcmp(target + 4, "://", 3) == 0)
			scheme = 7;
		else if (count > 8 && SAME_WORD(target, 5, "https") && memcmp(target + 5, "://", 3) == 0)
			scheme = 8;
		else
			return bad(head, 400, "the request target is neither a path nor an http URL");
		path_at = scheme;
		while (path_at < count && target[path_at] != '/' && target[path_at] != '?')
			path_at++;
		if (path_at == scheme || !all_class(target + scheme, path_at - scheme, HOST))
			return bad(head, 400, "the authority in the request target is not valid");
	}
	const char *question = find_byte(target + path_at, count - path_at, '?');
	size_t path_end = question == NULL ? count : (size_t)(question - target);
	head->path = (struct dp_http_span){(uint32_t)(at + path_at), (uint32_t)(path_end - path_at)};
	head->has_query = question != NULL;
	if (question != NULL)
		head->query = (struct dp_http_span){(uint32_t)(at + path_end + 1), (uint32_t)(count - path_end - 1)};
	return DP_HTTP_DONE;
}

static enum dp_http_step parse_request_line(struct dp_http_head *head, const char *bytes, size_t at, size_t count)
{
	const char *line = bytes + at;
	const char *space = find_byte(line, count, ' ');
	size_t method = space == NULL ? count : (size_t)(space - line);
	if (space == NULL || method == 0 || method > DP_HTTP_METHOD_BYTES_MAX || !all_class(line, method, TOKEN))
		return bad(head, 400, "the request line does not begin with a method");
	head->method = method_of(line, method);
	bool connect = method == 7 && memcmp(line, "CONNECT", 7) == 0;

	const char *target = space + 1;
	const char *end = find_byte(target, count - method - 1, ' ');
	if (end == NULL || end == target)
		return bad(head, 400, "the request line is not: method, target and version, one space apart");
	const char *version = end + 1;
	size_t version_bytes = count - (size_t)(version - line);
	if (version_bytes != 8 || memcmp(version, "HTTP/", 5) != 0 || version[5] < '0' || version[5] > '9' || version[6] != '.' ||
	    version[7] < '0' || version[7] > '9')
		return bad(head, 400, "the request line does not end with an HTTP version");
	if (version[5] != '1')
		return bad(head, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	head->minor = version[7] == '0' ? 0 : 1; /* a higher minor version is answered as the highest that we speak */
	if ((size_t)(end - target) > DP_HTTP_TARGET_BYTES_MAX)
		return bad(head, 414, "the request target is longer than 8192 bytes");
	return parse_target(head, bytes, at + method + 1, (size_t)(end - target), connect);
}

/* ---- header lines ---- */

/* Name and trimmed value of one header line, as offsets into it. NULL if fine, else why not. */
static const char *split_field(const char *line, size_t bytes, struct dp_http_span *name, struct dp_http_span *value)
{
	if (bytes == 0 || line[0] == ' ' || line[0] == '\t')
		return "a header line is folded or begins with a space";
	size_t colon = 0;
	while (colon < bytes && has_class(line[colon], TOKEN))
		colon++;
	if (colon == bytes || line[colon] != ':' || colon == 0)
		return "a header line does not begin with a name and a colon";
	size_t begin = colon + 1, end = bytes;
	while (begin < end && (line[begin] == ' ' || line[begin] == '\t'))
		begin++;
	while (end > begin && (line[end - 1] == ' ' || line[end - 1] == '\t'))
		end--;
	*name = (struct dp_http_span){0, (uint32_t)colon};
	*value = (struct dp_http_span){(uint32_t)begin, (uint32_t)(end - begin)};
	return NULL;
}

/* Takes the next element of a comma-separated list off *text; false at its end. Empty elements come out empty (RFC 9110 5.6.1). */
static bool next_element(const char **text, size_t *bytes, const char **element, size_t *element_bytes)
{
	if (*text == NULL)
		return false;
	const char *comma = find_byte(*text, *bytes, ',');
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

static const char *field_content_length(struct dp_http_head *head, const char *value, size_t bytes)
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
		if (SAME_WORD(element, n, "chunked"))
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

static const char *field_host(struct dp_http_head *head, const char *value, size_t bytes)
{
	if (head->host_lines++ != 0)
		return "more than one Host";
	if (!all_class(value, bytes, HOST))
		return "Host is not valid";
	return NULL;
}

static void field_connection(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	while (next_element(&value, &bytes, &element, &n)) {
		if (SAME_WORD(element, n, "close"))
			head->connection_close = true;
		else if (SAME_WORD(element, n, "keep-alive"))
			head->connection_keep_alive = true;
	}
}

static void field_expect(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	while (next_element(&value, &bytes, &element, &n)) {
		if (n == 12 && memcmp(element, "100-", 4) == 0 && SAME_WORD(element + 4, 8, "continue"))
			head->expect_continue = true;
		else if (n != 0)
			head->expect_other = true;
	}
}

static void field_content_type(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *semicolon = find_byte(value, bytes, ';');
	size_t n = semicolon == NULL ? bytes : (size_t)(semicolon - value);
	while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
		n--;
	bool ours = (n > 12 && SAME_WORD(value, 11, "application") && value[11] == '/' &&
		     (SAME_WORD(value + 12, n - 12, "json") || SAME_WORD(value + 12, n - 12, "x-ndjson"))) ||
		    (n == 10 && SAME_WORD(value, 4, "text") && value[4] == '/' && SAME_WORD(value + 5, 5, "plain"));
	head->content = ours && head->content == DP_HTTP_CONTENT_NONE ? DP_HTTP_CONTENT_TEXT : DP_HTTP_CONTENT_OTHER;
}

static void field_content_encoding(struct dp_http_head *head, const char *value, size_t bytes)
{
	const char *element;
	size_t n;
	while (next_element(&value, &bytes, &element, &n)) {
		if (n == 0 || SAME_WORD(element, n, "identity"))
			continue;
		bool gzip = SAME_WORD(element, n, "gzip") || SAME_WORD(element, n, "x-gzip");
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

static enum dp_http_step parse_field(struct dp_http_head *head, const char *bytes, size_t at, size_t count)
{
	struct dp_http_span name, value;
	const char *why = split_field(bytes + at, count, &name, &value);
	if (why != NULL)
		return bad(head, 400, why);
	const char *n = bytes + at;
	const char *v = bytes + at + value.at;
	switch (name.bytes) { /* by length first: most lines are none of ours */
	case 4:
		if (SAME_WORD(n, 4, "host"))
			why = field_host(head, v, value.bytes);
		break;
	case 6:
		if (SAME_WORD(n, 6, "expect"))
			field_expect(head, v, value.bytes);
		break;
	case 10:
		if (SAME_WORD(n, 10, "connection"))
			field_connection(head, v, value.bytes);
		break;
	case 12:
		if (SAME_WORD(n, 12, "content-type"))
			field_content_type(head, v, value.bytes);
		break;
	case 13:
		if (SAME_WORD(n, 13, "authorization"))
			head->authorization = (struct dp_http_span){(uint32_t)at + value.at, value.bytes};
		break;
	case 14:
		if (SAME_WORD(n, 14, "content-length"))
			why = field_content_length(head, v, value.bytes);
		break;
	case 15:
		if (SAME_WORD(n, 15, "x-forwarded-for"))
			field_forwarded(head, at + value.at, value.bytes);
		break;
	case 16:
		if (SAME_WORD(n, 16, "content-encoding"))
			field_content_encoding(head, v, value.bytes);
		break;
	case 17:
		if (SAME_WORD(n, 17, "transfer-encoding"))
			why = field_transfer_encoding(head, v, value.bytes);
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

/* The request line has not ended within its limit. */
static enum dp_http_step line_too_long(struct dp_http_head *head, const char *line)
{
	const char *space = find_byte(line, DP_HTTP_METHOD_BYTES_MAX + 1, ' ');
	if (space == NULL || space == line || !all_class(line, (size_t)(space - line), TOKEN))
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
		size_t found = find_control(bytes, at, end);
		head->scanned = (uint32_t)found;
		if (found == end) {
			if (end < window)
				return DP_HTTP_MORE;
			return first ? line_too_long(head, bytes + head->line_at)
				     : bad(head, 431, "the header lines are longer than 16384 bytes");
		}
		if (bytes[found] != '\r')
			return bad(head, 400,
				   bytes[found] == '\n' ? "a line ends with a bare LF" : "a control character in the head");
		if (found + 1 == count)
			return DP_HTTP_MORE;
		if (bytes[found + 1] != '\n')
			return bad(head, 400, "a bare CR in the head");

		size_t line_at = head->line_at, line_bytes = found - head->line_at;
		head->line_at = head->scanned = (uint32_t)found + 2;
		if (first) {
			if (line_bytes == 0)
				continue; /* RFC 9112 section 2.2: empty lines before a request are ignored */
			if (parse_request_line(head, bytes, line_at, line_bytes) == DP_HTTP_BAD)
				return DP_HTTP_BAD;
			head->fields_at = head->line_at;
		} else if (line_bytes == 0) {
			head->bytes = head->line_at;
			return finish(head);
		} else {
			if (head->line_at - head->fields_at > DP_HTTP_FIELDS_BYTES_MAX)
				return bad(head, 431, "the header lines are longer than 16384 bytes");
			if (parse_field(head, bytes, line_at, line_bytes) == DP_HTTP_BAD)
				return DP_HTTP_BAD;
		}
	}
}
