/*
 * HTTP framing against a second parser: slow, simple, over whole strings, written from docs/http.md and RFC 9112, and sharing nothing with the
 * real one. Streams of requests are generated, some of them wrong, then damaged, and fed in random pieces; both must see the same requests:
 * the same answers in the same order, and the connection closed or not.
 *
 * Most requests go to a path that is not there, so that an answer says where a request was seen and nothing else.
 */
#include "http_testbed.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the reference ---- */

struct seen {
	int status; /* 0: not complete */
	bool go_on; /* "100 Continue" before it */
	bool head_only, close;
	size_t next; /* where the next request begins */
	bool begun;
	bool elsewhere; /* to one of the resources whose answer depends on more than framing */
};

enum { TARGET_MAX = 8192, FIELDS_MAX = 16384, METHOD_MAX = 32, BODY_MAX = 1 << 20, LINE_MAX = METHOD_MAX + 1 + TARGET_MAX + 1 + 8 };

static bool is_token(unsigned char c)
{
	return c != 0 && c < 0x80 && (isalnum(c) || strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_control(unsigned char c)
{
	return (c < ' ' && c != '\t') || c == 0x7f;
}

static bool is_host(unsigned char c)
{
	return c != 0 && c < 0x80 && (isalnum(c) || strchr("-._~!$&'()*+,;=%[]:", c));
}

static bool word_is(const char *at, size_t bytes, const char *word)
{
	return bytes == strlen(word) && strncasecmp(at, word, bytes) == 0;
}

/* What has been read of a head. */
struct ref {
	const char *text;
	size_t count;
	char method[METHOD_MAX + 1];
	int minor;
	const char *path;
	size_t path_bytes;
	bool asterisk;
	int hosts, lengths, codings;
	bool chunked, unknown_coding, close, keep_alive, go_on, other_expectation;
	unsigned long long length;
};

/* The end of the line that begins at `at`, by its CR. *status: 0 and -1: not there yet; else the error. */
static long line_end(const struct ref *ref, size_t at, size_t limit, int too_long, int *status)
{
	*status = 0;
	for (size_t i = at; i < ref->count; i++) {
		if (i >= limit) {
			*status = too_long;
			return -1;
		}
		unsigned char c = (unsigned char)ref->text[i];
		if (!is_control(c))
			continue;
		if (c != '\r') {
			*status = 400;
			return -1;
		}
		if (i + 1 == ref->count)
			return -1;
		if (ref->text[i + 1] == '\n')
			return (long)i;
		*status = 400;
		return -1;
	}
	if (ref->count >= limit)
		*status = too_long;
	return -1;
}

static int target_read(struct ref *ref, const char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)at[i] <= ' ' || (unsigned char)at[i] >= 0x7f || at[i] == '#')
			return 400;
	if (strcmp(ref->method, "CONNECT") == 0 || (bytes == 1 && *at == '*')) {
		ref->asterisk = true;
		return strcmp(ref->method, "CONNECT") == 0 || strcmp(ref->method, "OPTIONS") == 0 ? 0 : 400;
	}
	if (*at != '/') {
		size_t scheme = bytes > 7 && strncasecmp(at, "http", 4) == 0 && strncmp(at + 4, "://", 3) == 0    ? 7
				: bytes > 8 && strncasecmp(at, "https", 5) == 0 && strncmp(at + 5, "://", 3) == 0 ? 8
														  : 0;
		size_t end = scheme;
		while (end < bytes && is_host((unsigned char)at[end]))
			end++;
		if (scheme == 0 || end == scheme || (end < bytes && at[end] != '/' && at[end] != '?'))
			return 400;
		at += end;
		bytes -= end;
	}
	const char *question = bytes ? memchr(at, '?', bytes) : NULL;
	ref->path = at;
	ref->path_bytes = question ? (size_t)(question - at) : bytes;
	return 0;
}

static int request_line_read(struct ref *ref, const char *at, size_t bytes)
{
	size_t method = 0;
	while (method < bytes && is_token((unsigned char)at[method]))
		method++;
	if (method == 0 || method > METHOD_MAX || method == bytes || at[method] != ' ')
		return 400;
	memcpy(ref->method, at, method);
	ref->method[method] = 0;
	const char *target = at + method + 1, *space = memchr(target, ' ', bytes - method - 1);
	if (!space || space == target)
		return 400;
	const char *version = space + 1;
	if (at + bytes - version != 8 || memcmp(version, "HTTP/", 5) != 0 || !isdigit((unsigned char)version[5]) ||
	    version[6] != '.' || !isdigit((unsigned char)version[7]))
		return 400;
	if (version[5] != '1')
		return 505;
	ref->minor = version[7] == '0' ? 0 : 1;
	if (space - target > TARGET_MAX)
		return 414;
	return target_read(ref, target, (size_t)(space - target));
}

/* Calls `element` for each element of a list, without the white space around it. Stops at the first that it calls an error. */
static int list_read(struct ref *ref, const char *at, size_t bytes, int (*element)(struct ref *, const char *, size_t))
{
	for (const char *end = at + bytes;; at++) {
		const char *stop = at;
		while (stop < end && *stop != ',')
			stop++;
		const char *from = at, *to = stop;
		while (from < to && (*from == ' ' || *from == '\t'))
			from++;
		while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
			to--;
		int status = to > from ? element(ref, from, (size_t)(to - from)) : 0;
		if (status || stop == end)
			return status;
		at = stop;
	}
}

static int coding_read(struct ref *ref, const char *at, size_t bytes)
{
	if (ref->chunked)
		return 400;
	ref->codings++;
	if (word_is(at, bytes, "chunked"))
		ref->chunked = true;
	else
		ref->unknown_coding = true;
	return 0;
}

static int connection_read(struct ref *ref, const char *at, size_t bytes)
{
	ref->close |= word_is(at, bytes, "close");
	ref->keep_alive |= word_is(at, bytes, "keep-alive");
	return 0;
}

static int expect_read(struct ref *ref, const char *at, size_t bytes)
{
	if (word_is(at, bytes, "100-continue"))
		ref->go_on = true;
	else
		ref->other_expectation = true;
	return 0;
}

static int field_read(struct ref *ref, const char *at, size_t bytes)
{
	size_t name = 0;
	while (name < bytes && is_token((unsigned char)at[name]))
		name++;
	if (name == 0 || name == bytes || at[name] != ':')
		return 400;
	const char *value = at + name + 1, *end = at + bytes;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	size_t count = (size_t)(end - value);
	if (word_is(at, name, "host")) {
		for (size_t i = 0; i < count; i++)
			if (!is_host((unsigned char)value[i]))
				return 400;
		return ref->hosts++ ? 400 : 0;
	}
	if (word_is(at, name, "content-length")) {
		if (ref->lengths++ || count == 0)
			return 400;
		for (size_t i = 0; i < count; i++) {
			if (!isdigit((unsigned char)value[i]))
				return 400;
			if (ref->length < 1ULL << 40)
				ref->length = ref->length * 10 + (unsigned)(value[i] - '0');
		}
		return 0;
	}
	if (word_is(at, name, "transfer-encoding")) {
		int before = ref->codings, status = list_read(ref, value, count, coding_read);
		return status ? status : ref->codings == before ? 400 : 0;
	}
	if (word_is(at, name, "connection"))
		return list_read(ref, value, count, connection_read);
	if (word_is(at, name, "expect"))
		return list_read(ref, value, count, expect_read);
	return 0;
}

/* Where a chunked body ends; 0: not yet; below 0: the error's status. */
static long chunked_read(const struct ref *ref, size_t at)
{
	unsigned long long total = 0;
	size_t overhead = 0, trailers = 0;
	const char *t = ref->text;
	for (;;) {
		unsigned long long size = 0;
		int digits = 0;
		for (; at < ref->count && isxdigit((unsigned char)t[at]); at++) {
			if (++digits > 16)
				return -400;
			size = size >> 40 ? size : size * 16 + (unsigned)strtoul((char[]){t[at], 0}, NULL, 16);
		}
		if (at == ref->count)
			return 0;
		if (digits == 0)
			return -400;
		while (at < ref->count && (t[at] == ' ' || t[at] == '\t')) {
			if (++overhead > FIELDS_MAX)
				return -400;
			at++;
		}
		if (at == ref->count)
			return 0;
		bool spaces = t[at - 1] == ' ' || t[at - 1] == '\t';
		if (t[at] == ';') {
			for (at++; at < ref->count && t[at] != '\r'; at++)
				if (is_control((unsigned char)t[at]) || ++overhead > FIELDS_MAX)
					return -400;
		} else if (t[at] != '\r' || spaces) {
			return -400;
		}
		if (at + 1 >= ref->count)
			return 0;
		if (t[at + 1] != '\n')
			return -400;
		at += 2;
		total += size;
		if (total > BODY_MAX)
			return -413;
		if (size == 0)
			break;
		if (ref->count - at <= size)
			return 0;
		at += size;
		if (t[at] != '\r')
			return -400;
		if (at + 1 == ref->count)
			return 0;
		if (t[at + 1] != '\n')
			return -400;
		at += 2;
	}
	for (;;) { /* trailer lines, up to the empty one */
		size_t line = at;
		bool value = false;
		for (; at < ref->count; at++) {
			unsigned char c = (unsigned char)t[at];
			if (++trailers > FIELDS_MAX)
				return -431;
			if (at == line && c == '\r')
				break;
			if (!value && at > line && c == ':')
				value = true;
			else if (!value && !is_token(c))
				return -400;
			else if (value && c == '\r')
				break;
			else if (value && is_control(c))
				return -400;
		}
		if (at + 1 >= ref->count)
			return 0;
		if (++trailers > FIELDS_MAX)
			return -431;
		if (t[at + 1] != '\n')
			return -400;
		bool last = at == line;
		at += 2;
		if (last)
			return (long)at;
	}
}

static bool path_is(const struct ref *ref, const char *path)
{
	return ref->path_bytes == strlen(path) && memcmp(ref->path, path, ref->path_bytes) == 0;
}

/* The status that a complete head earns. */
static int judge(const struct ref *ref, struct seen *seen)
{
	bool get = strcmp(ref->method, "GET") == 0 || strcmp(ref->method, "HEAD") == 0,
	     options = strcmp(ref->method, "OPTIONS") == 0;
	if (!ref->asterisk && !path_is(ref, "/healthz")) {
		seen->elsewhere =
			path_is(ref, "/api/v1/clicks") || path_is(ref, "/api/v1/pixel.gif") || path_is(ref, "/api/v1/debug/clicks");
		return 404;
	}
	if (!options && (ref->asterisk || !get))
		return 405;
	if (ref->other_expectation)
		return 417;
	if (ref->length > BODY_MAX)
		return 413;
	return options ? 204 : 200;
}

static struct seen failed(struct seen seen, int status)
{
	seen.status = status;
	seen.close = true;
	return seen;
}

/* The request that begins at `at`. */
static struct seen ref_next(const char *text, size_t count, size_t at)
{
	struct ref ref = {.text = text, .count = count};
	struct seen seen = {0};
	int status;
	while (at + 1 < count && text[at] == '\r' && text[at + 1] == '\n')
		at += 2;
	seen.begun = at < count && text[at] != '\r';
	long end = line_end(&ref, at, at + LINE_MAX + 1, 414, &status);
	if (status == 414) { /* but only if it began like a request */
		size_t method = 0;
		while (method < METHOD_MAX && is_token((unsigned char)text[at + method]))
			method++;
		status = method == 0 || text[at + method] != ' ' ? 400 : 414;
	}
	if (status)
		return failed(seen, status);
	if (end < 0)
		return seen;
	seen.begun = true;
	status = request_line_read(&ref, text + at, (size_t)end - at);
	if (status)
		return failed(seen, status);
	seen.head_only = strcmp(ref.method, "HEAD") == 0;
	size_t fields = at = (size_t)end + 2;
	for (;;) {
		end = line_end(&ref, at, fields + FIELDS_MAX + 2, 431, &status);
		if (!status && end < 0)
			return seen;
		if (!status && (size_t)end == at)
			break;
		if (!status && (size_t)end + 2 - fields > FIELDS_MAX)
			status = 431;
		if (!status)
			status = field_read(&ref, text + at, (size_t)end - at);
		if (status)
			return failed(seen, status);
		at = (size_t)end + 2;
	}
	at = (size_t)end + 2;
	bool coded = ref.codings > 0;
	if ((ref.minor == 1 && ref.hosts == 0) || (coded && ref.lengths) || (coded && ref.minor == 0))
		return failed(seen, 400);
	if (ref.unknown_coding)
		return failed(seen, 501);
	if (ref.minor == 0)
		ref.go_on = ref.other_expectation = false;
	seen.close = ref.close || (ref.minor == 0 && !ref.keep_alive);
	status = judge(&ref, &seen);
	bool body = ref.chunked || ref.length > 0;
	if (status >= 400 && body && (ref.length > BODY_MAX || ref.go_on || ref.other_expectation))
		return failed(seen, status); /* the body is not read */
	seen.go_on = body && ref.go_on && status < 400;
	if (ref.chunked) {
		long body_end = chunked_read(&ref, at);
		if (body_end < 0)
			return failed(seen, (int)-body_end);
		if (body_end == 0)
			return seen;
		at = (size_t)body_end;
	} else {
		if (count - at < ref.length)
			return seen;
		at += ref.length;
	}
	seen.status = status;
	seen.next = at;
	return seen;
}

/* "200 404 400!" as bed_summary() has it; false: the stream is not for comparing. */
static bool ref_summary(const char *text, size_t count, bool eof, char *to, bool heads[64], int *answers)
{
	size_t at = 0, used = 0;
	*answers = 0;
	for (;;) {
		struct seen seen = ref_next(text, count, at);
		if (seen.elsewhere || *answers > 60)
			return false;
		if (seen.go_on) {
			used += (size_t)sprintf(to + used, "100 ");
			heads[(*answers)++] = false;
		}
		if (seen.status == 0 && eof && seen.begun)
			seen = failed(seen, 400);
		if (seen.status == 0) {
			strcpy(to + used, eof ? "." : "");
			return true;
		}
		heads[(*answers)++] = seen.head_only;
		used += (size_t)sprintf(to + used, "%d%s ", seen.status, seen.close ? "!" : "");
		if (seen.close) {
			strcpy(to + used, ".");
			return true;
		}
		at = seen.next;
	}
}

/* ---- streams ---- */

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((random_state >> 33) % below);
}

#define PICK(list) list[draw(sizeof(list) / sizeof(list[0]))]

static size_t request_make(char *to)
{
	static const char *const methods[] = {"GET",     "GET", "POST", "POST",    "POST", "HEAD",
					      "OPTIONS", "PUT", "get",  "CONNECT", "P(",   "AVERYLONGMETHODTHATNOBODYHASEVERSEENX"};
	static const char *const targets[] = {
		"/healthz", "/nothing", "/nothing", "/nothing?x=1", "http://a/nothing",    "https://a:1?b", "*",
		"/",        "/a#b",     "x",        "/\xc3\xa9",    "HTTP://[::1]/healthz"};
	static const char *const versions[] = {"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1",
					       "HTTP/1.1", "HTTP/1.0", "HTTP/1.9", "HTTP/2.0", "http/1.1", "HTTP/1.10"};
	static const char *const fields[] = {
		"X: y",
		"X:y",
		"X:",
		"X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"Connection: keep-alive",
		"Connection: close",
		"connection: foo, CLOSE",
		"Expect: 100-continue",
		"Expect: 100-Continue, x",
		"Host: b",
		"X : y",
		" X: y",
		"X: a\tb",
		"X: \xff",
		"Transfer-Encoding: gzip",
		"Transfer-Encoding: gzip, chunked",
		"Transfer-Encoding:",
		"Content-Length: 0",
		"Content-Length: 3",
		"Content-Length: 99999999999999999999",
		"Content-Length: 1, 1",
		"X",
		": y",
		"Content-Length : 3",
		"Transfer-Encoding: chunked;q=1",
		"Transfer-Encoding: , chunked ,"};
	char *at = to;
	if (draw(8) == 0)
		at += sprintf(at, "\r\n");
	at += sprintf(at, "%s %s %s\r\n", PICK(methods), PICK(targets), PICK(versions));
	if (draw(12))
		at += sprintf(at, "Host: a\r\n");
	for (uint32_t i = draw(4); i > 0; i--)
		at += sprintf(at, "%s\r\n", draw(3) ? fields[draw(8)] : PICK(fields));
	switch (draw(4)) {
	case 0: {
		uint32_t bytes = draw(40);
		at += sprintf(at, "Content-Length: %u\r\n\r\n", bytes);
		memset(at, 'b', bytes);
		return (size_t)(at + bytes - to);
	}
	case 1:
		at += sprintf(at, "Transfer-Encoding: %s\r\n\r\n", draw(4) ? "chunked" : "CHUNKED , ");
		for (uint32_t i = draw(4); i > 0; i--) {
			static const char *const extensions[] = {"", "", ";a=b", " ;x", ";", "\t;\"q\"", " "};
			uint32_t bytes = 1 + draw(30);
			at += sprintf(at, draw(2) ? "%x%s\r\n" : "0%X%s\r\n", bytes, draw(3) ? "" : PICK(extensions));
			memset(at, 'c', bytes);
			at += bytes;
			at += sprintf(at, "\r\n");
		}
		at += sprintf(at, "0\r\n%s\r\n", draw(4) ? "" : draw(2) ? "T: u\r\n" : "T : u\r\n");
		return (size_t)(at - to);
	default:
		at += sprintf(at, "\r\n");
		return (size_t)(at - to);
	}
}

/* Changes, drops, doubles or inserts a few bytes. */
static size_t damage(char *text, size_t count)
{
	static const char bytes[] = "\r\n\r\n :,;\t0123fgGET/H\x01\x7f\x80#*";
	for (uint32_t i = 1 + draw(3); i > 0 && count > 0; i--) {
		size_t at = draw((uint32_t)count), more = 1 + draw(4);
		switch (draw(4)) {
		case 0:
			text[at] = draw(4) ? bytes[draw(sizeof bytes)] : (char)draw(256);
			break;
		case 1:
			more = more < count - at ? more : count - at;
			memmove(text + at, text + at + more, count - at - more);
			count -= more;
			break;
		case 2:
			memmove(text + at + 1, text + at, count - at);
			text[at] = bytes[draw(sizeof bytes)];
			count++;
			break;
		default: {
			size_t from = draw((uint32_t)count), run = draw(40);
			run = run < count - from ? run : count - from;
			char piece[40];
			memcpy(piece, text + from, run);
			memmove(text + at + run, text + at, count - at);
			memcpy(text + at, piece, run);
			count += run;
		}
		}
	}
	return count;
}

/* What came back, as ref_summary() tells it. */
static void bed_told(const struct bed_stream *s, const bool *heads, int answers, char *to)
{
	const char *at = s->sent, *end = s->sent + s->sent_bytes;
	struct bed_answer answer;
	size_t used = 0;
	int which = 0;
	to[0] = 0;
	while (s->sent_bytes != 0 && which < 64 && bed_next_answer(&at, end, which < answers && heads[which], &answer)) {
		used += (size_t)sprintf(to + used, "%d%s ", answer.status,
					bed_head_has(&answer, "\r\nConnection: close\r\n") ? "!" : "");
		which++;
	}
	sprintf(to + used, "%s%s", at != end ? "?" : "", s->abort_called ? "x" : s->close_called ? "." : "");
}

static void compare(const char *text, size_t count, bool eof, bool cut, uint64_t *compared)
{
	static struct bed_stream s;
	char expected[512], told[1024];
	bool heads[64] = {false};
	int answers;
	if (!ref_summary(text, count, eof, expected, heads, &answers))
		return;
	++*compared;
	assert_true(bed_connect(&s, 1));
	for (size_t at = 0; at < count;) {
		size_t piece = cut ? 1 + draw(draw(4) ? 60 : 4) : count;
		piece = piece < count - at ? piece : count - at;
		bed_input(&s, text + at, piece);
		at += piece;
	}
	if (eof)
		bed_eof(&s);
	bed_settle(&s);
	bed_told(&s, heads, answers, told);
	if (strcmp(expected, told) != 0) {
		fprintf(stderr, "the reference says \"%s\", the parser \"%s\" of:\n", expected, told);
		for (size_t i = 0; i < count; i++)
			fprintf(stderr, isprint((unsigned char)text[i]) && text[i] != '\\' ? "%c" : "\\x%02x%s",
				(unsigned char)text[i], text[i] == '\n' ? "\n" : "");
		fail();
	}
	bed_disconnect(&s);
}

static void test_generated_streams(void **state)
{
	(void)state;
	static char text[1 << 16];
	uint64_t compared = 0;
	const char *rounds = getenv("TURNPIKE_DIFFER_ROUNDS");
	bed_open();
	random_state = 20260102;
	for (long round = rounds ? atol(rounds) : 150000; round > 0; round--) {
		size_t count = 0;
		for (uint32_t i = 1 + draw(4); i > 0; i--)
			count += request_make(text + count);
		if (draw(3))
			count = damage(text, count);
		compare(text, count, draw(2), draw(4), &compared);
	}
	assert_true(compared > (rounds ? 0 : 100000));
	bed_shut();
}

/* Each limit, one byte to either side, in pieces and whole. */
static void test_limits(void **state)
{
	(void)state;
	static char text[1 << 21];
	uint64_t compared = 0;
	bed_open();
	for (int more = -3; more <= 3; more++) {
		for (int cut = 0; cut < 2; cut++) {
			size_t at = (size_t)sprintf(text, "GET /");
			memset(text + at, 'a', TARGET_MAX + 10);
			at += (size_t)(TARGET_MAX - 1 + more);
			at += (size_t)sprintf(text + at, " HTTP/1.1\r\nHost: a\r\n\r\n");
			compare(text, at, false, cut, &compared);
			at = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");
			for (int line = 0; line < 2; line++) {
				size_t bytes = line ? (size_t)(FIELDS_MAX - 9 - 8000 + more) : 8000;
				memset(text + at, 'x', bytes);
				text[at + 1] = ':';
				at += bytes;
				memcpy(text + at - 2, "\r\n", 2);
			}
			at += (size_t)sprintf(text + at, "\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
			compare(text, at, false, cut, &compared);
			at = (size_t)sprintf(text, "%.*s / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD_MAX + more,
					     "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM");
			compare(text, at, false, cut, &compared);
			at = (size_t)sprintf(text, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;");
			memset(text + at, 'e', FIELDS_MAX + 10);
			at += (size_t)(FIELDS_MAX + more);
			at += (size_t)sprintf(text + at, "\r\nx\r\n0\r\n\r\n");
			compare(text, at, false, cut, &compared);
			at = (size_t)sprintf(text, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT:");
			memset(text + at, 't', FIELDS_MAX + 10);
			at += (size_t)(FIELDS_MAX - 6 + more);
			at += (size_t)sprintf(text + at, "\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
			compare(text, at, false, cut, &compared);
			at = (size_t)sprintf(text, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
					     BODY_MAX + more);
			memset(text + at, 'd', (size_t)(BODY_MAX + more));
			at += (size_t)(BODY_MAX + more);
			at += (size_t)sprintf(text + at, "\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
			compare(text, at, false, false, &compared);
		}
	}
	assert_int_equal(compared, 7 * 2 * 6);
	bed_shut();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits), cmocka_unit_test(test_generated_streams)};
	return cmocka_run_group_tests_name("http_differ", tests, NULL, NULL);
}
