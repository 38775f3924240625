/*
 * The pure parsers of HTTP by themselves: what heads mean, chunks, X-Forwarded-For, routes. That a head's outcome does not depend on how
 * it is cut is tried here for each row; what a client sees is http_test.c's.
 */
#include "forwarded.h"
#include "http_chunk.h"
#include "http_route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Parses `text` from memory of exactly that size, byte by byte or whole. */
static enum dp_http_step parse(struct dp_http_head *head, const char *text, size_t count, bool whole)
{
	enum dp_http_step step = DP_HTTP_MORE;
	dp_http_head_reset(head);
	for (size_t n = whole ? count : 0; n <= count && step == DP_HTTP_MORE; n++) {
		char *exact = malloc(n + 1);
		memcpy(exact, text, n);
		step = dp_http_head_parse(head, n == 0 ? exact : memmove(exact + 1, exact, n), n); /* another place each time */
		free(exact);
	}
	return step;
}

static void assert_span(const char *text, struct dp_http_span span, const char *expect)
{
	if (span.bytes != strlen(expect) || memcmp(text + span.at, expect, span.bytes) != 0)
		fail_msg("expected \"%s\", got \"%.*s\"", expect, (int)span.bytes, text + span.at);
}

static void test_head_means(void **state)
{
	(void)state;
	static const char text[] = "\r\nPOST http://tp.example:8080/api/v1/clicks?a=b?c HTTP/1.1\r\n"
				   "hOST:\t tp.example \r\n"
				   "X-Forwarded-For: 192.0.2.1,\t10.0.0.1\r\n"
				   "Content-Length:  0017 \r\n"
				   "Content-Type: TEXT/plain ; charset=utf-8\r\n"
				   "Content-Encoding: identity, GZIP\r\n"
				   "Expect: 100-CONTINUE\r\n"
				   "Authorization: Bearer a.b-c\r\n"
				   "Unknown-Field:\r\n"
				   "X-FORWARDED-FOR:\r\n"
				   "\r\nbody";
	for (int whole = 0; whole < 2; whole++) {
		struct dp_http_head head;
		assert_int_equal(parse(&head, text, sizeof(text) - 1, whole), DP_HTTP_DONE);
		assert_int_equal(head.bytes, sizeof(text) - 5);
		assert_int_equal(head.method, DP_HTTP_POST);
		assert_int_equal(head.minor, 1);
		assert_span(text, head.path, "/api/v1/clicks");
		assert_true(head.has_query);
		assert_span(text, head.query, "a=b?c");
		assert_true(head.has_length && !head.chunked);
		assert_int_equal(head.content_length, 17);
		assert_int_equal(head.content, DP_HTTP_CONTENT_TEXT);
		assert_int_equal(head.coding, DP_HTTP_GZIP);
		assert_true(head.expect_continue && !head.expect_other && head.keep_alive);
		assert_span(text, head.authorization, "Bearer a.b-c");
		assert_int_equal(head.forwarded_count, 2);
		assert_span(text, head.forwarded[0], "192.0.2.1,\t10.0.0.1");
		assert_span(text, head.forwarded[1], "");
	}
}

static const struct {
	const char *fields;
	int status; /* 0: fine */
	const char *what;
} field_rows[] = {
	{"", 0, "close=0 chunked=0 content=0 coding=0 expect=00"},
	{"Connection: close\r\n", 0, "close=1 chunked=0 content=0 coding=0 expect=00"},
	{"Connection: keep-alive, Close\r\n", 0, "close=1 chunked=0 content=0 coding=0 expect=00"},
	{"Connection: upgrade\r\nConnection: close\r\n", 0, "close=1 chunked=0 content=0 coding=0 expect=00"},
	{"Connection: closed\r\n", 0, "close=0 chunked=0 content=0 coding=0 expect=00"},
	{"Transfer-Encoding: Chunked\r\n", 0, "close=0 chunked=1 content=0 coding=0 expect=00"},
	{"Transfer-Encoding: ,chunked,\r\n", 0, "close=0 chunked=1 content=0 coding=0 expect=00"},
	{"Transfer-Encoding: chunked;q=1\r\n", 501, NULL},
	{"Transfer-Encoding: xchunked\r\n", 501, NULL},
	{"Transfer-Encoding: ,\r\n", 400, NULL},
	{"Transfer-Encoding:\r\n", 400, NULL},
	{"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501, NULL},
	{"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", 400, NULL},
	{"Transfer-Encoding: gzip\r\nContent-Length: 1\r\n", 400, NULL},
	{"Content-Length: 1 1\r\n", 400, NULL},
	{"Content-Length: 1\t\r\n", 0, "close=0 chunked=0 content=0 coding=0 expect=00"},
	{"Content-Length: 1.0\r\n", 400, NULL},
	{"Content-Length: \xc2\xb2\r\n", 400, NULL},
	{"Content_Length: 1\r\nContent_Length: 2\r\n", 0, "close=0 chunked=0 content=0 coding=0 expect=00"},
	{"Content-Length\t: 1\r\n", 400, NULL},
	{"Content-Type: application/json\r\n", 0, "close=0 chunked=0 content=1 coding=0 expect=00"},
	{"Content-Type: application/jsonp\r\n", 0, "close=0 chunked=0 content=2 coding=0 expect=00"},
	{"Content-Type: application/xjson\r\n", 0, "close=0 chunked=0 content=2 coding=0 expect=00"},
	{"Content-Type: applications/json\r\n", 0, "close=0 chunked=0 content=2 coding=0 expect=00"},
	{"Content-Type: text-plain\r\n", 0, "close=0 chunked=0 content=2 coding=0 expect=00"},
	{"Content-Type: text/plain\r\nContent-Type: text/html\r\n", 0, "close=0 chunked=0 content=2 coding=0 expect=00"},
	{"Content-Type:\r\n", 0, "close=0 chunked=0 content=2 coding=0 expect=00"},
	{"Content-Encoding: gzip\r\n", 0, "close=0 chunked=0 content=0 coding=1 expect=00"},
	{"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", 0, "close=0 chunked=0 content=0 coding=2 expect=00"},
	{"Content-Encoding: gzip, br\r\n", 0, "close=0 chunked=0 content=0 coding=2 expect=00"},
	{"Content-Encoding:\r\n", 0, "close=0 chunked=0 content=0 coding=0 expect=00"},
	{"Expect: 100-continue, x\r\n", 0, "close=0 chunked=0 content=0 coding=0 expect=11"},
	{"Expect: 100-continues\r\n", 0, "close=0 chunked=0 content=0 coding=0 expect=01"},
	{"Host: again\r\n", 400, NULL},
	{"A\rB: c\r\n", 400, NULL},
	{"A: b\r\r\n", 400, NULL},
	{"A: b\r\n\tc\r\n", 400, NULL},
	{"A(: b\r\n", 400, NULL},
	{"A: \x01\r\n", 400, NULL},
	{"\xc3\xbc: b\r\n", 400, NULL},
};

static void test_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(field_rows) / sizeof(field_rows[0]); i++) {
		for (int whole = 0; whole < 2; whole++) {
			char text[512], what[128];
			int n = sprintf(text, "GET / HTTP/1.1\r\nHost:\r\n%s\r\n", field_rows[i].fields);
			struct dp_http_head head;
			enum dp_http_step step = parse(&head, text, (size_t)n, whole);
			if (step == DP_HTTP_DONE)
				sprintf(what, "close=%d chunked=%d content=%d coding=%d expect=%d%d", !head.keep_alive,
					head.chunked, head.content, head.coding, head.expect_continue, head.expect_other);
			int status = step == DP_HTTP_BAD ? head.status : step == DP_HTTP_DONE ? 0 : -1;
			if (status != field_rows[i].status || (status == 0 && strcmp(what, field_rows[i].what) != 0))
				fail_msg("%s: status %d, %s", field_rows[i].fields, status, status == 0 ? what : head.why);
		}
	}
}

/* NUL cannot stand in a table of strings; every control character is bad, wherever it is. */
static void test_control_characters(void **state)
{
	(void)state;
	static const char text[] = "GET /a HTTP/1.1\r\nHost: b\r\nName: value of some length, more than 16\r\n\r\n";
	for (size_t at = 0; at < sizeof(text) - 3; at++) {
		for (int c = 0; c < 256; c++) {
			if ((c >= 0x20 && c != 0x7f) || text[at] == '\r' || text[at] == '\n')
				continue;
			char copy[sizeof(text)];
			memcpy(copy, text, sizeof(text));
			copy[at] = (char)c;
			struct dp_http_head head;
			enum dp_http_step step = parse(&head, copy, sizeof(text) - 1, true);
			bool value = c == '\t' && (at == 22 || at == 23 || at > 30); /* in or around a value a tab is fine */
			if (step != DP_HTTP_BAD && !value)
				fail_msg("byte %d at %zu was taken", c, at);
			if (step == DP_HTTP_BAD)
				assert_int_equal(head.status, 400);
		}
	}
}

static void test_many_forwarded_lines_keep_the_last(void **state)
{
	(void)state;
	char text[4096];
	int n = sprintf(text, "GET / HTTP/1.1\r\nHost:\r\n");
	for (int i = 0; i < 40; i++)
		n += sprintf(text + n, "X-Forwarded-For: 192.0.2.%d\r\n", i);
	n += sprintf(text + n, "\r\n");
	struct dp_http_head head;
	assert_int_equal(parse(&head, text, (size_t)n, true), DP_HTTP_DONE);
	assert_int_equal(head.forwarded_count, DP_HTTP_FORWARDED_LINES_MAX);
	assert_span(text, head.forwarded[0], "192.0.2.24");
	assert_span(text, head.forwarded[15], "192.0.2.39");
}

/* ---- X-Forwarded-For ---- */

static const struct {
	const char *lines[3];
	const char *expect; /* "": unknown */
} forwarded_rows[] = {
	{{"198.51.100.1"}, "198.51.100.1"},
	{{"203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
	{{"198.51.100.1, 10.0.0.1"}, "198.51.100.1"},
	{{"198.51.100.1", "10.0.0.1, 10.0.0.2"}, "198.51.100.1"},
	{{"203.0.113.9", "198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
	{{"10.0.0.1"}, ""},
	{{""}, ""},
	{{" , ,"}, ""},
	{{"198.51.100.1, , "}, "198.51.100.1"},
	{{"198.51.100.1:1234"}, "198.51.100.1"},
	{{"198.51.100.1:"}, ""},
	{{"198.51.100.1:65536"}, ""},
	{{"198.51.100.1:123456"}, ""},
	{{"198.51.100.1:8o"}, ""},
	{{"[2001:db8::1]"}, "2001:db8::1"},
	{{"[2001:db8::1]:443"}, "2001:db8::1"},
	{{"[2001:db8::1]443"}, ""},
	{{"[2001:db8::1"}, ""},
	{{"[198.51.100.1]"}, ""},
	{{"[]"}, ""},
	{{"2001:db8::1"}, "2001:db8::1"},
	{{"::ffff:198.51.100.1"}, "198.51.100.1"},
	{{"::ffff:10.0.0.1"}, ""},
	{{"198.51.100.1, unknown"}, ""},
	{{"198.51.100.1, unknown, 10.0.0.1"}, ""},
	{{"unknown, 198.51.100.1"}, "198.51.100.1"},
	{{"unknown, 198.51.100.1, 10.0.0.1"}, "198.51.100.1"},
	{{"198.51.100.1 198.51.100.2"}, ""},
	{{"\"198.51.100.1\""}, ""},
	{{"198.51.100.01"}, ""},
};

static void test_forwarded(void **state)
{
	(void)state;
	static struct tp_prefix trusted;
	trusted = (struct tp_prefix){.addr = tp_addr_v4((const uint8_t[]){10, 0, 0, 0}), .bits = 8};
	const struct tp_config_ingest ingest = {.trusted = &trusted, .trusted_count = 1};
	struct tp_addr proxy = tp_addr_v4((const uint8_t[]){10, 9, 9, 9}), user = tp_addr_v4((const uint8_t[]){203, 0, 113, 200});
	for (size_t i = 0; i < sizeof(forwarded_rows) / sizeof(forwarded_rows[0]); i++) {
		char text[512];
		int n = sprintf(text, "GET / HTTP/1.1\r\nHost:\r\n");
		for (int line = 0; line < 3 && forwarded_rows[i].lines[line] != NULL; line++)
			n += sprintf(text + n, "X-Forwarded-For: %s\r\n", forwarded_rows[i].lines[line]);
		n += sprintf(text + n, "\r\n");
		struct dp_http_head head;
		dp_http_head_reset(&head);
		char *exact = malloc((size_t)n);
		memcpy(exact, text, (size_t)n);
		assert_int_equal(dp_http_head_parse(&head, exact, (size_t)n), DP_HTTP_DONE);
		struct dp_body_source source = dp_forwarded_source(&ingest, &proxy, &head, exact);
		char addr[TP_ADDR_TEXT_BYTES] = "";
		if (source.has_ip)
			tp_addr_text(&source.ip, addr);
		if (strcmp(addr, forwarded_rows[i].expect) != 0)
			fail_msg("%s: expected \"%s\", got \"%s\"", forwarded_rows[i].lines[0], forwarded_rows[i].expect, addr);
		source = dp_forwarded_source(&ingest, &user, &head, exact);
		assert_true(source.has_ip && tp_addr_equal(&source.ip, &user));
		free(exact);
	}
}

/* ---- chunks ---- */

static const struct {
	const char *bytes;
	int status;       /* 0: complete */
	const char *body; /* when complete */
	size_t rest;      /* bytes behind the body */
} chunk_rows[] = {
	{"0\r\n\r\n", 0, "", 0},
	{"5\r\nhello\r\n0\r\n\r\nGET", 0, "hello", 3},
	{"A\r\n0123456789\r\n0a\r\n0123456789\r\n00\r\n\r\n", 0, "01234567890123456789", 0},
	{"1;a\r\nx\r\n2;b=\"c;d\"\r\nyz\r\n0;e\r\n\r\n", 0, "xyz", 0},
	{"1 ;a\r\nx\r\n0\t;\r\n\r\n", 0, "x", 0},
	{"0\r\nA: b\r\nC:\td\r\nE:\r\n\r\n", 0, "", 0},
	{"\r\n", 400, NULL, 0},
	{"g\r\n", 400, NULL, 0},
	{"-1\r\n", 400, NULL, 0},
	{"1\r\nxy", 400, NULL, 0},
	{"1\r\nx\ry", 400, NULL, 0},
	{"1\rx", 400, NULL, 0},
	{"1 \r", 400, NULL, 0},
	{"1 2\r\n", 400, NULL, 0},
	{"1;\x01", 400, NULL, 0},
	{"0\r\nA\r\n", 400, NULL, 0},
	{"0\r\n: b\r\n", 400, NULL, 0},
	{"0\r\nA: \x7f\r\n", 400, NULL, 0},
	{"0\r\nA: b\rc", 400, NULL, 0},
	{"0\r\n\rx", 400, NULL, 0},
	{"100000\r\n", -1, NULL, 0}, /* exactly 1 MiB may come */
	{"100001\r\n", 413, NULL, 0},
	{"fffffffffffffff0\r\n", 413, NULL, 0},
	{"10000000000000000\r\n", 400, NULL, 0},
	{"80000\r\n", -1, NULL, 0},
};

static int run_chunks(struct dp_chunked *chunked, const char *bytes, size_t count, size_t piece, char *body, size_t *body_bytes,
		      size_t *used)
{
	*body_bytes = *used = 0;
	*chunked = (struct dp_chunked){0};
	while (*used < count) {
		size_t n = piece < count - *used ? piece : count - *used, taken = 0, data_bytes = 0;
		const char *data = NULL;
		enum dp_chunk_step step = dp_chunk_next(chunked, bytes + *used, n, &taken, &data, &data_bytes);
		*used += taken;
		if (step == DP_CHUNK_DATA) {
			memcpy(body + *body_bytes, data, data_bytes);
			*body_bytes += data_bytes;
		} else if (step == DP_CHUNK_DONE) {
			return 0;
		} else if (step == DP_CHUNK_BAD) {
			return chunked->status;
		}
	}
	return -1;
}

static void test_chunks(void **state)
{
	(void)state;
	static char body[1 << 16];
	for (size_t i = 0; i < sizeof(chunk_rows) / sizeof(chunk_rows[0]); i++) {
		for (size_t piece = 1; piece < 40; piece += piece < 4 ? 1 : 12) {
			struct dp_chunked chunked;
			size_t body_bytes, used, count = strlen(chunk_rows[i].bytes);
			int status = run_chunks(&chunked, chunk_rows[i].bytes, count, piece, body, &body_bytes, &used);
			if (status != chunk_rows[i].status)
				fail_msg("%s, pieces of %zu: %d", chunk_rows[i].bytes, piece, status);
			if (status == 0) {
				assert_int_equal(body_bytes, strlen(chunk_rows[i].body));
				assert_memory_equal(body, chunk_rows[i].body, body_bytes);
				assert_int_equal(count - used, chunk_rows[i].rest);
			}
		}
	}
	/* sums over chunks, extensions and trailers have limits too */
	static char text[1 << 20];
	struct dp_chunked chunked;
	size_t body_bytes, used;
	for (int over = 0; over < 2; over++) {
		int n = sprintf(text, "0\r\n");
		for (int i = 0; i < 16; i++)
			n += sprintf(text + n, "a:%0*d\r\n", 1020 - 2 * (i == 0) + over * (i == 0), 0);
		n += sprintf(text + n, "\r\n");
		assert_int_equal(run_chunks(&chunked, text, (size_t)n, 77, body, &body_bytes, &used), over ? 431 : 0);
		n = sprintf(text, "1%*s;\r\nx\r\n0\r\n\r\n", 16383 + over, "");
		assert_int_equal(run_chunks(&chunked, text, (size_t)n, 77, body, &body_bytes, &used), over ? 400 : 0);
	}
}

/* ---- routes ---- */

static void test_routes(void **state)
{
	(void)state;
	static const struct {
		const char *target;
		enum dp_route route;
		bool report;
	} rows[] = {
		{"/api/v1/clicks", DP_ROUTE_CLICKS, false},
		{"/api/v1/clicks?", DP_ROUTE_CLICKS, false},
		{"/api/v1/clicks?report=1", DP_ROUTE_CLICKS, true},
		{"/api/v1/clicks?a&report=1&b", DP_ROUTE_CLICKS, true},
		{"/api/v1/clicks?report=10", DP_ROUTE_CLICKS, false},
		{"/api/v1/clicks?xreport=1", DP_ROUTE_CLICKS, false},
		{"/api/v1/clicks?report=0&report=1", DP_ROUTE_CLICKS, true},
		{"/api/v1/clicks/", DP_ROUTE_NONE, false},
		{"/api/v1/click", DP_ROUTE_NONE, false},
		{"//api/v1/clicks", DP_ROUTE_NONE, false},
		{"/api/v1/debug/clicks", DP_ROUTE_DEBUG, false},
		{"/api/v1/pixel.gif", DP_ROUTE_PIXEL, false},
		{"/healthz", DP_ROUTE_HEALTH, false},
		{"http://a", DP_ROUTE_NONE, false},
		{"HTTPS://a:1/healthz", DP_ROUTE_HEALTH, false},
		{"http://[::1]/healthz?x", DP_ROUTE_HEALTH, false},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[256];
		int n = sprintf(text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].target);
		struct dp_http_head head;
		assert_int_equal(parse(&head, text, (size_t)n, true), DP_HTTP_DONE);
		assert_int_equal(dp_http_route(&head, text), rows[i].route);
		assert_int_equal(dp_http_wants_report(&head, text), rows[i].report);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head_means),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_control_characters),
		cmocka_unit_test(test_many_forwarded_lines_keep_the_last),
		cmocka_unit_test(test_forwarded),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_routes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
