/*
 * HTTP as a client sees it: every script must get the same answers however it is cut, and the books must balance after each.
 */
#include "http_testbed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include <cmocka.h>

#define HOST "Host: tp\r\n"
#define EVENT(ad) \
	"{\"event_id\":\"e1\",\"event_type\":\"click\",\"timestamp\":1700000000000,\"ad_id\":\"" ad \
	"\",\"campaign_id\":\"c\",\"advertiser_id\":\"a\"}"
#define NO_AD \
	"{\"event_id\":\"e1\",\"event_type\":\"click\",\"timestamp\":1700000000000,\"campaign_id\":\"c\",\"advertiser_id\":\"a\"}"
#define EVENT_LENGTH  "Content-Length: 116\r\n"
#define POST(more)    "POST /api/v1/clicks HTTP/1.1\r\n" HOST more "\r\n"
#define POST_OK       POST(EVENT_LENGTH) EVENT("one")
#define PIXEL         "/api/v1/pixel.gif?event_type=click&ad_id=1&campaign_id=2&advertiser_id=3"
#define HEALTH(more)  "GET /healthz HTTP/1.1\r\n" HOST more "\r\n"
#define CHUNKED(body) POST("Transfer-Encoding: chunked\r\n") body
#define EVENT_CHUNK   "74\r\n" EVENT("one") "\r\n"

static_assert(sizeof(EVENT("one")) - 1 == 0x74, "the lengths above");

static void *room_for(size_t bytes)
{
	void *room = malloc(bytes);
	if (room == NULL)
		abort();
	return room;
}

struct script {
	const char *name;
	const char *bytes;
	const char *expect; /* as bed_summary() has it */
	const char *text;   /* that must be somewhere in the answers, or NULL */
	bool heads;         /* the answers are to HEAD */
};

static const struct script scripts[] = {
	/* what is right */
	{"one event", POST_OK, "204", "Access-Control-Allow-Origin: *\r\n", false},
	{"duplicate", POST(EVENT_LENGTH) EVENT("dup"), "204", NULL, false},
	{"late", POST("Content-Length: 117\r\n") EVENT("late"), "204", NULL, false},
	{"conflict", POST("Content-Length: 121\r\n") EVENT("conflict"), "204", NULL, false},
	{"two pipelined", POST_OK POST_OK, "204 204", NULL, false},
	{"close", POST("Connection: foo, Close\r\n" EVENT_LENGTH) EVENT("one") POST_OK, "204!.", NULL, false},
	{"report", "POST /api/v1/clicks?x&report=1 HTTP/1.1\r\n" HOST EVENT_LENGTH "\r\n" EVENT("dup"), "200",
	 "{\"accepted\":0,\"duplicates\":1,\"late\":0,\"conflicts\":0,\"rejected\":[]}", false},
	{"batch", POST("Content-Length: 235\r\n") "[" EVENT("one") "," EVENT("dup") "]", "204", NULL, false},
	{"batch with a reject", POST("Content-Length: 129\r\n") "[" EVENT("one") ",{\"a\":[1]} ]", "200",
	 "{\"accepted\":1,\"duplicates\":0,\"late\":0,\"conflicts\":0,\"rejected\":[{\"index\":1,\"reason\":\"missing_field\","
	 "\"detail\":\"",
	 false},
	{"empty array", POST("Content-Length: 2\r\n") "[]", "204", NULL, false},
	{"invalid single", POST("Content-Length: 102\r\n") NO_AD, "400", "\"detail\":\"ad_id: ", false},
	{"invalid single, report", "POST /api/v1/clicks?report=1 HTTP/1.1\r\n" HOST "Content-Length: 102\r\n\r\n" NO_AD, "400",
	 "\"reason\":\"missing_field\"", false},
	{"no JSON", POST("Content-Length: 5\r\n") "hello" POST_OK, "400 204", "urn:turnpike:problem:malformed", false},
	{"empty body", POST("Content-Length: 0\r\n") POST_OK, "400 204", NULL, false},
	{"refused", POST("Content-Length: 119\r\n") EVENT("refuse"), "503", "Retry-After: 1\r\n", false},
	{"content types",
	 POST("Content-Type: application/json; charset=utf-8\r\n" EVENT_LENGTH) EVENT("one")
		 POST("content-type:Text/Plain;charset=UTF-8\r\n" EVENT_LENGTH) EVENT("one")
			 POST("Content-Type: application/x-ndjson\r\n" EVENT_LENGTH) EVENT("one"),
	 "204 204 204", NULL, false},
	{"wrong content type", POST("Content-Type: text/html\r\n" EVENT_LENGTH) EVENT("one") POST_OK, "415 204", NULL, false},
	{"unknown content coding", POST("Content-Encoding: br\r\n" EVENT_LENGTH) EVENT("one") POST_OK, "415 204",
	 "Accept-Encoding: gzip\r\n", false},
	{"identity", POST("Content-Encoding: identity\r\n" EVENT_LENGTH) EVENT("one"), "204", NULL, false},
	{"gzip that is none", POST("Content-Encoding: gzip\r\n" EVENT_LENGTH) EVENT("one") POST_OK, "400 204", "gzip", false},
	{"absolute-form", "POST http://other:80/api/v1/clicks HTTP/1.1\r\n" HOST EVENT_LENGTH "\r\n" EVENT("one"), "204", NULL,
	 false},
	{"empty lines first", "\r\n\r\n" POST_OK "\r\n" POST_OK "\r\n", "204 204", NULL, false},
	{"HTTP/1.0", "POST /api/v1/clicks HTTP/1.0\r\n" EVENT_LENGTH "\r\n" EVENT("one") POST_OK, "204!.", NULL, false},
	{"HTTP/1.0 keep-alive",
	 "POST /api/v1/clicks HTTP/1.0\r\nConnection: Keep-Alive\r\n" EVENT_LENGTH "\r\n" EVENT("one") POST_OK, "204 204",
	 "Connection: keep-alive\r\n", false},
	{"HTTP/1.2", "GET /healthz HTTP/1.2\r\n" HOST "\r\n", "200", NULL, false},
	/* chunks */
	{"chunked", CHUNKED(EVENT_CHUNK "0\r\n\r\n") POST_OK, "204 204", NULL, false},
	{"chunks",
	 CHUNKED("1\r\n[\r\n" EVENT_CHUNK "0001\r\n,\r\n" EVENT_CHUNK "1 ; a=b;c=\"d\"\r\n]\r\n000;last\r\nA: b\r\nC:\r\n\r\n")
		 POST_OK,
	 "204 204", NULL, false},
	{"chunked with nothing", CHUNKED("0\r\n\r\n"), "400", NULL, false},
	{"bad chunk size", CHUNKED("x\r\n"), "400!.", NULL, false},
	{"chunk size with a sign", CHUNKED("+1\r\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk size in 0x", CHUNKED("0x1\r\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk size, then a space", CHUNKED("1 \r\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk longer than its size", CHUNKED("1\r\n12\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk ends with LF", CHUNKED("1\r\n1\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk size ends with LF", CHUNKED("1\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk extension with a bare CR", CHUNKED("1;a\rb\r\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk extension with LF", CHUNKED("1;a\nb\r\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk of 17 digits", CHUNKED("00000000000000001\r\n1\r\n0\r\n\r\n"), "400!.", NULL, false},
	{"chunk too large", CHUNKED("100001\r\n"), "413!.", NULL, false},
	{"chunk absurdly large", CHUNKED("ffffffffffffffff\r\n"), "413!.", NULL, false},
	{"bad trailer", CHUNKED("0\r\nA b: c\r\n\r\n"), "400!.", NULL, false},
	{"folded trailer", CHUNKED("0\r\nA: b\r\n c\r\n\r\n"), "400!.", NULL, false},
	{"end with LF", CHUNKED("0\r\n\n"), "400!.", NULL, false},
	/* resources and methods */
	{"health", HEALTH(""), "200", "ok\n", false},
	{"HEAD", "HEAD /healthz HTTP/1.1\r\n" HOST "\r\nHEAD " PIXEL " HTTP/1.1\r\n" HOST "\r\n", "200 200",
	 "Content-Length: 43\r\n", true},
	{"HEAD of a bad pixel", "HEAD /api/v1/pixel.gif HTTP/1.1\r\n" HOST "\r\n", "400", NULL, true},
	{"not there", "GET / HTTP/1.1\r\n" HOST "\r\nPOST /api/v1/click HTTP/1.1\r\n" HOST EVENT_LENGTH "\r\n" EVENT("one") POST_OK,
	 "404 404 204", "urn:turnpike:problem:not-found", false},
	{"wrong method", "GET /api/v1/clicks HTTP/1.1\r\n" HOST "\r\n", "405", "Allow: POST, OPTIONS\r\n", false},
	{"unknown method", "BREW /healthz HTTP/1.1\r\n" HOST "\r\n", "405", "Allow: GET, HEAD, OPTIONS\r\n", false},
	{"CONNECT", "CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", "405", NULL, false},
	{"methods are case-sensitive", "get /healthz HTTP/1.1\r\n" HOST "\r\n", "405", NULL, false},
	{"preflight", "OPTIONS /api/v1/clicks HTTP/1.1\r\n" HOST "Origin: https://a\r\nAccess-Control-Request-Method: POST\r\n\r\n",
	 "204", "Access-Control-Allow-Methods: POST, OPTIONS\r\n", false},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "204", NULL, false},
	{"pixel", "GET " PIXEL " HTTP/1.1\r\n" HOST "\r\n", "200", "Cache-Control: no-store\r\n", false},
	{"pixel with a body", "GET " PIXEL " HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" POST_OK, "200 204", "GIF89a", false},
	{"pixel with chunks", "GET " PIXEL " HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" POST_OK,
	 "200 204", "GIF89a", false},
	{"bad pixel", "GET /api/v1/pixel.gif?event_type=click HTTP/1.1\r\n" HOST "\r\n", "400", "ad_id", false},
	{"debug", "POST /api/v1/debug/clicks HTTP/1.1\r\n" HOST "Content-Length: 120\r\n\r\n[" EVENT("one") ",1]", "200",
	 "{\"form\":\"array\",\"refused\":false,\"valid\":1,\"rejected\":1,\"events\":[{\"index\":0,\"verdict\":\"valid\"},{"
	 "\"index\":1,"
	 "\"verdict\":\"rejected\",\"reason\":\"bad_type\",",
	 false},
	{"debug of no JSON", "POST /api/v1/debug/clicks HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n[x", "200", "\"refused\":true",
	 false},
	/* lengths */
	{"no length", POST("") POST_OK, "411!.", NULL, false},
	{"two lengths", POST("Content-Length: 5\r\nContent-Length: 6\r\n") "hello", "400!.", NULL, false},
	{"two equal lengths", POST("Content-Length: 5\r\nContent-Length: 5\r\n") "hello", "400!.", NULL, false},
	{"a list of lengths", POST("Content-Length: 5, 5\r\n") "hello", "400!.", NULL, false},
	{"both lengths", POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n", "400!.", NULL, false},
	{"both lengths, the other way", POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") "0\r\n\r\n", "400!.", NULL,
	 false},
	{"negative length", POST("Content-Length: -1\r\n"), "400!.", NULL, false},
	{"length with a plus", POST("Content-Length: +5\r\n") "hello", "400!.", NULL, false},
	{"hex length", POST("Content-Length: 0x5\r\n") "hello", "400!.", NULL, false},
	{"empty length", POST("Content-Length: \r\n"), "400!.", NULL, false},
	{"too long a body", POST("Content-Length: 1048577\r\n") "hello", "413!.", NULL, false},
	{"absurdly long a body", POST("Content-Length: 99999999999999999999999999\r\n") "hello", "413!.", NULL, false},
	{"unknown transfer coding", POST("Transfer-Encoding: gzip, chunked\r\n") "0\r\n\r\n", "501!.", NULL, false},
	{"identity transfer coding", POST("Transfer-Encoding: identity\r\n") "0\r\n\r\n", "501!.", NULL, false},
	{"chunked twice", POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n", "400!.", NULL, false},
	{"chunked not last", POST("Transfer-Encoding: chunked, gzip\r\n") "0\r\n\r\n", "400!.", NULL, false},
	{"chunked with a vertical tab", POST("Transfer-Encoding: \vchunked\r\n") "0\r\n\r\n", "400!.", NULL, false},
	{"chunked in HTTP/1.0", "POST /api/v1/clicks HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400!.", NULL,
	 false},
	/* heads */
	{"no Host", "GET /healthz HTTP/1.1\r\n\r\n", "400!.", NULL, false},
	{"two Hosts", "GET /healthz HTTP/1.1\r\n" HOST HOST "\r\n", "400!.", NULL, false},
	{"bad Host", "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", "400!.", NULL, false},
	{"space before the colon", "GET /healthz HTTP/1.1\r\n" HOST "A : b\r\n\r\n", "400!.", NULL, false},
	{"folded line", "GET /healthz HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", "400!.", NULL, false},
	{"space before the first line", "GET /healthz HTTP/1.1\r\n " HOST "\r\n", "400!.", NULL, false},
	{"no colon", "GET /healthz HTTP/1.1\r\n" HOST "A\r\n\r\n", "400!.", NULL, false},
	{"no name", "GET /healthz HTTP/1.1\r\n" HOST ": b\r\n\r\n", "400!.", NULL, false},
	{"bare LF", "GET /healthz HTTP/1.1\r\n" HOST "A: b\nB: c\r\n\r\n", "400!.", NULL, false},
	{"LF after the request line", "GET /healthz HTTP/1.1\n" HOST "\r\n", "400!.", NULL, false},
	{"bare CR", "GET /healthz HTTP/1.1\r\n" HOST "A: b\rB: c\r\n\r\n", "400!.", NULL, false},
	{"DEL", "GET /healthz HTTP/1.1\r\n" HOST "A: \x7f\r\n\r\n", "400!.", NULL, false},
	{"tab in a value", "GET /healthz HTTP/1.1\r\n" HOST "A:\tb\tc\t\r\nB: \xc3\xbc\r\n\r\n", "200", NULL, false},
	{"bad method", "G\"T /healthz HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"space first", " GET /healthz HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"two spaces", "GET  /healthz HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"tab for a space", "GET\t/healthz HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"space in the target", "GET /health z HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"fragment", "GET /healthz#a HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"no slash", "GET healthz HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"user in the authority", "GET http://a@b/healthz HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"GET *", "GET * HTTP/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"HTTP/0.9", "GET /healthz\r\n", "400!.", NULL, false},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505!.", NULL, false},
	{"HTTP/3", "GET /healthz HTTP/3.0\r\n" HOST "\r\n", "505!.", NULL, false},
	{"bad version", "GET /healthz http/1.1\r\n" HOST "\r\n", "400!.", NULL, false},
	{"version and a space", "GET /healthz HTTP/1.1 \r\n" HOST "\r\n", "400!.", NULL, false},
	{"TLS", "\x16\x03\x01\x02", "400!.", NULL, false},
	{"the second is bad", POST_OK "GET /healthz HTTP/1.1\r\n\r\n" POST_OK, "204 400!.", NULL, false},
	/* expectations */
	{"100-continue", POST("Expect: 100-Continue\r\n" EVENT_LENGTH) EVENT("one") POST_OK, "100 204 204", NULL, false},
	{"100-continue and nothing to come", "GET /healthz HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n", "200", NULL, false},
	{"100-continue of HTTP/1.0", "POST /api/v1/clicks HTTP/1.0\r\nExpect: 100-continue\r\n" EVENT_LENGTH "\r\n" EVENT("one"),
	 "204!.", NULL, false},
	{"100-continue in vain", "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n" EVENT_LENGTH "\r\n" EVENT("one"), "404!.",
	 NULL, false},
	{"other expectation", POST("Expect: 200-ok\r\n" EVENT_LENGTH) EVENT("one"), "417!.", NULL, false},
};

static void run(const struct script *script, size_t count, const size_t *cuts, size_t cut_count, size_t send_piece,
		struct bed_stream *s)
{
	assert_true(bed_connect(s, 1));
	if (send_piece != 0)
		s->send_room = send_piece;
	size_t at = 0;
	for (size_t i = 0; i <= cut_count; i++) {
		size_t stop = i < cut_count ? cuts[i] : count;
		if (stop > at)
			bed_input(s, script->bytes + at, stop - at);
		at = stop;
		if (send_piece != 0)
			bed_transport_turn(s, send_piece);
	}
	if (send_piece != 0)
		for (int i = 0; i < 100000 && (s->blocked || i < 4); i++) {
			for (uint32_t shard = 0; shard < BED_SHARDS; shard++)
				bed_shard_turn(shard);
			bed_round(1000);
			bed_transport_turn(s, send_piece);
		}
	bed_settle(s);
	bed_check();
}

static void assert_same(const struct script *script, const struct bed_stream *s, const struct bed_stream *whole, size_t cut)
{
	if (s->sent_bytes != whole->sent_bytes || memcmp(s->sent, whole->sent, s->sent_bytes) != 0 ||
	    s->close_called != whole->close_called || s->abort_called != whole->abort_called)
		fail_msg("%s, cut %zu:\n%.*s\n--- whole:\n%.*s", script->name, cut, (int)s->sent_bytes, s->sent,
			 (int)whole->sent_bytes, whole->sent);
}

static void test_scripts_however_they_are_cut(void **state)
{
	(void)state;
	bed_open();
	srand(7);
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		const struct script *script = &scripts[i];
		size_t count = strlen(script->bytes);
		struct bed_stream whole, s;
		run(script, count, NULL, 0, 0, &whole);
		char summary[256];
		bed_summary(&whole, script->heads, summary, sizeof(summary));
		if (strcmp(summary, script->expect) != 0)
			fail_msg("%s: expected %s, got %s\n%.*s", script->name, script->expect, summary, (int)whole.sent_bytes,
				 whole.sent);
		if (script->text != NULL && memmem(whole.sent, whole.sent_bytes, script->text, strlen(script->text)) == NULL)
			fail_msg("%s: no %s in\n%.*s", script->name, script->text, (int)whole.sent_bytes, whole.sent);

		size_t cuts[2048];
		for (size_t cut = 1; cut < count; cut++) {
			run(script, count, &cut, 1, 0, &s);
			assert_same(script, &s, &whole, cut);
			bed_disconnect(&s);
			cuts[cut - 1] = cut;
		}
		run(script, count, cuts, count - 1, 0, &s); /* byte by byte */
		assert_same(script, &s, &whole, 0);
		bed_disconnect(&s);
		for (size_t round = 0; round < 20; round++) { /* random pieces, and a peer that takes little */
			size_t n = 0, at = 0;
			while ((at += 1 + (size_t)rand() % 60) < count)
				cuts[n++] = at;
			run(script, count, cuts, n, 1 + (size_t)rand() % 50, &s);
			assert_same(script, &s, &whole, round);
			bed_disconnect(&s);
		}
		bed_disconnect(&whole);
	}
	bed_shut();
}

/* Limits on the byte, cut and whole. */
static void long_script(const char *what, char *bytes, size_t count, const char *expect)
{
	const struct script script = {.name = what, .bytes = bytes, .expect = expect};
	struct bed_stream s;
	for (int way = 0; way < 3; way++) {
		size_t cuts[64], n = 0;
		for (size_t i = 1; way > 0 && i < 64; i++)
			cuts[n++] = way == 1 ? i * count / 64 : (size_t)((count - 64) + i);
		run(&script, count, cuts, n, 0, &s);
		char summary[64];
		bed_summary(&s, false, summary, sizeof(summary));
		if (strcmp(summary, expect) != 0)
			fail_msg("%s, way %d: expected %s, got %s", what, way, expect, summary);
		bed_disconnect(&s);
	}
	free(bytes);
}

static void test_limits_of_heads(void **state)
{
	(void)state;
	bed_open();
	for (int over = 0; over < 2; over++) {
		char *text = room_for(65536);
		int n = sprintf(text, "GET /healthz?%0*d HTTP/1.1\r\n" HOST "\r\n", 8192 - 9 + over, 0);
		long_script("target", text, (size_t)n, over ? "414!." : "200");

		text = room_for(65536);
		n = sprintf(text, "GET /healthz HTTP/1.1\r\n" HOST "A:%0*d\r\n\r\n", 16384 - 10 - 4 + over, 0);
		long_script("headers", text, (size_t)n, over ? "431!." : "200");

		text = room_for(65536);
		n = sprintf(text, "GET /healthz?%0*d HTTP/1.1\r\n" HOST "A:%0*d\r\n\r\n", 8192 - 9, 0, 16384 - 10 - 4 + over, 0);
		long_script("both", text, (size_t)n, over ? "431!." : "200");

		text = room_for(65536);
		n = sprintf(text, "%.*s /healthz HTTP/1.1\r\n" HOST "\r\n", 32 + over,
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOP");
		long_script("method", text, (size_t)n, over ? "400!." : "405");
	}
	char *endless = room_for(65536);
	memset(endless, 'A', 65536);
	long_script("endless", endless, 65536, "400!.");
	endless = room_for(65536);
	memset(endless, 'A', 65536);
	memcpy(endless, "GET /", 5);
	long_script("endless target", endless, 65536, "414!.");
	endless = room_for(65536);
	for (int i = 0; i < 65536; i += 4)
		memcpy(endless + i, "a:\r\n", 4);
	memcpy(endless, "GET / HTTP/1.1\r\n", 16);
	long_script("endless headers", endless, 65536, "431!.");
	endless = room_for(65536);
	for (int i = 0; i < 65536; i += 2)
		memcpy(endless + i, "\r\n", 2);
	long_script("endless empty lines", endless, 65536, "");
	bed_shut();
}

/* A body of exactly `bytes`: one event with white space behind it. */
static size_t padded_event(char *to, size_t bytes)
{
	memset(to, ' ', bytes);
	memcpy(to, EVENT("one"), 0x74);
	return bytes;
}

static size_t chunk_it(char *to, const char *body, size_t bytes, size_t chunk)
{
	size_t n = 0;
	for (size_t at = 0; at < bytes; at += chunk) {
		size_t run_bytes = bytes - at < chunk ? bytes - at : chunk;
		n += (size_t)sprintf(to + n, "%zx\r\n", run_bytes);
		memcpy(to + n, body + at, run_bytes);
		n += run_bytes;
		n += (size_t)sprintf(to + n, "\r\n");
	}
	return n + (size_t)sprintf(to + n, "0\r\n\r\n");
}

static void test_limits_of_bodies(void **state)
{
	(void)state;
	bed_open();
	static const size_t sizes[] = {16384, 16385, 1048576, 1048577};
	static char body[1 << 21];
	for (size_t i = 0; i < 4; i++) {
		padded_event(body, sizes[i]);
		bool over = sizes[i] > 1048576;
		char *text = room_for(1 << 23);
		int n = sprintf(text, POST("Content-Length: %zu\r\n"), sizes[i]);
		memcpy(text + n, body, sizes[i]);
		long_script("length", text, (size_t)n + sizes[i], over ? "413!." : "204");
		text = room_for(1 << 23);
		n = sprintf(text, CHUNKED(""));
		size_t coded = chunk_it(text + n, body, sizes[i], 4000);
		long_script("chunks", text, (size_t)n + coded, over ? "413!." : "204");
	}
	/* extensions: 16 KiB in all, then it is an attack */
	for (int over = 0; over < 2; over++) {
		char *text = room_for(1 << 20);
		int n = sprintf(text, CHUNKED(""));
		for (int i = 0; i < 16; i++)
			n += sprintf(text + n, "1;%0*d\r\n1\r\n", 1024 + (i == 15 ? over : 0), 0);
		n += sprintf(text + n, "0\r\n\r\n");
		long_script("extensions", text, (size_t)n, over ? "400!." : "400");
	}
	bed_shut();
}

/* ---- gzip ---- */

static size_t gzip_it(const void *bytes, size_t count, uint8_t *to, size_t room, int level)
{
	z_stream stream = {
		.next_in = (uint8_t *)(uintptr_t)bytes, .avail_in = (unsigned)count, .next_out = to, .avail_out = (unsigned)room};
	assert_int_equal(deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	size_t written = room - stream.avail_out;
	deflateEnd(&stream);
	return written;
}

static void gzip_script(const char *what, const uint8_t *zipped, size_t count, const char *expect)
{
	char *text = room_for(count + 1024);
	int n = sprintf(text, POST("Content-Encoding: gzip\r\nContent-Length: %zu\r\n"), count);
	memcpy(text + n, zipped, count);
	size_t m = (size_t)n + count;
	m += (size_t)sprintf(text + m, HEALTH(""));
	long_script(what, text, m, expect);
	text = room_for(2 * count + 4096);
	n = sprintf(text, POST("Content-Encoding: x-gzip\r\nTransfer-Encoding: chunked\r\n"));
	m = (size_t)n + chunk_it(text + n, (const char *)zipped, count, 1000);
	m += (size_t)sprintf(text + m, HEALTH(""));
	long_script(what, text, m, expect);
}

static void test_gzip(void **state)
{
	(void)state;
	bed_open();
	static char body[1 << 22];
	static uint8_t zipped[1 << 22];
	size_t n = gzip_it(EVENT("one"), 0x74, zipped, sizeof(zipped), 6);
	gzip_script("good", zipped, n, "204 200");
	gzip_script("cut short", zipped, n - 1, "400 200");
	zipped[n] = 0;
	gzip_script("something behind", zipped, n + 1, "400 200");
	size_t two = n + gzip_it("\n" EVENT("two"), 0x75, zipped + n, sizeof(zipped) - n, 6);
	gzip_script("two members", zipped, two, "204 200");
	zipped[n - 5] ^= 1;
	gzip_script("checksum", zipped, n, "400 200");
	/* 1 MiB of what does not compress much: event, then random letters inside a string of an unknown field */
	for (int over = 0; over < 2; over++) {
		size_t bytes = 1048576 + (size_t)over;
		srand(3);
		memcpy(body, EVENT("one"), 0x74);
		memcpy(body + 0x73, ",\"x\":\"", 6);
		for (size_t i = 0x79; i < bytes - 2; i++)
			body[i] = (char)('A' + rand() % 26);
		memcpy(body + bytes - 2, "\"}", 2);
		n = gzip_it(body, bytes, zipped, sizeof(zipped), 1);
		assert_true(n < 1048576);
		gzip_script("1 MiB", zipped, n, over ? "413 200" : "204 200");
	}
	/* bombs: by size, and by ratio alone */
	memset(body, ' ', sizeof(body));
	n = gzip_it(body, sizeof(body), zipped, sizeof(zipped), 9);
	gzip_script("4 MiB of spaces", zipped, n, "413 200");
	padded_event(body, 1000000);
	n = gzip_it(body, 1000000, zipped, sizeof(zipped), 9);
	assert_true(n * DP_HTTP_GZIP_RATIO_MAX < 1000000);
	gzip_script("1 MB of spaces", zipped, n, "413 200");
	n = gzip_it(body, 60000, zipped, sizeof(zipped), 9);
	assert_true(n * DP_HTTP_GZIP_RATIO_MAX < 60000);
	gzip_script("60 KB of spaces", zipped, n, "204 200");
	uint8_t member[64];
	size_t member_bytes = gzip_it("", 0, member, sizeof(member), 6);
	for (size_t i = 0; i < 1000; i++)
		memcpy(zipped + i * member_bytes, member, member_bytes);
	gzip_script("1000 members", zipped, 1000 * member_bytes, "400 200");
	bed_shut();
}

/* ---- what reaches the shards ---- */

static void test_address_of_an_event(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	assert_true(bed_connect(&s, 9));
	bed_text(&s, POST("X-Forwarded-For: 198.51.100.1\r\n" EVENT_LENGTH) EVENT("one"));
	bed_settle(&s);
	assert_int_equal(bed_last_event()->ip[15], 9); /* not a trusted peer: its own */
	assert_int_equal(bed_last_event()->flags & (TP_HAS_IP | TP_IP_SENT), TP_HAS_IP);
	bed_disconnect(&s);

	assert_true(bed_connect(&s, 1));
	s.stream.peer.addr = tp_addr_v4((const uint8_t[]){10, 1, 2, 3});
	bed_text(&s,
		 POST("X-Forwarded-For: 6.6.6.6, 198.51.100.77:8080\r\nX-Forwarded-For: 10.0.0.1\r\n" EVENT_LENGTH) EVENT("one"));
	bed_settle(&s);
	assert_int_equal(bed_last_event()->ip[15], 77);
	bed_text(&s, POST(EVENT_LENGTH) EVENT("one"));
	bed_settle(&s);
	assert_int_equal(bed_last_event()->flags & TP_HAS_IP, 0); /* a proxy is never taken for a user */
	bed_text(&s, "GET " PIXEL "&city=A%20b+c HTTP/1.1\r\n" HOST "X-Forwarded-For: 198.51.100.78\r\n\r\n");
	bed_settle(&s);
	assert_int_equal(bed_last_event()->ip[15], 78);
	struct tp_str city = tp_event_string(bed_last_event(), TP_CITY);
	assert_int_equal(city.bytes, 5);
	assert_memory_equal(city.at, "A b c", 5);
	assert_in_range(bed_last_event()->timestamp_ms, BED_NOW_MS, BED_NOW_MS + 100000); /* minted: now */
	assert_int_equal(bed.counters.v[TP_C_EVENTS_MINTED], 1);
	bed_text(&s, "GET " PIXEL "&ip_address=2001:db8::5 HTTP/1.1\r\n" HOST "X-Forwarded-For: 198.51.100.78\r\n\r\n");
	bed_settle(&s);
	assert_int_equal(bed_last_event()->flags & TP_IP_SENT, TP_IP_SENT);
	assert_int_equal(bed_last_event()->ip[15], 5);
	bed_disconnect(&s);
	bed_shut();
}

static void test_debug_leaves_no_trace(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	bed_text(&s, "POST /api/v1/debug/clicks HTTP/1.1\r\n" HOST "Content-Length: 120\r\n\r\n[" EVENT("one") ",1]");
	bed_text(&s, "HEAD " PIXEL " HTTP/1.1\r\n" HOST "\r\n");
	bed_settle(&s);
	assert_int_equal(bed.events, 0);
	for (int c = 0; c < TP_COUNTERS; c++)
		if (tp_counter_info[c].layer == TP_LAYER_EVENTS)
			assert_int_equal(bed.counters.v[c], 0);
	bed_disconnect(&s);
	bed_shut();
}

static void test_tokens(void **state)
{
	(void)state;
	bed_open();
	bed.ingest.auth_tokens = true;
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	bed_text(&s, POST_OK POST("Authorization: Bearer secret\r\n" EVENT_LENGTH) EVENT("one")
			     POST("Authorization: bearer wrong\r\n" EVENT_LENGTH) EVENT("one") HEALTH(""));
	bed_settle(&s);
	char summary[64];
	bed_summary(&s, false, summary, sizeof(summary));
	assert_string_equal(summary, "401 204 401 200");
	bed_disconnect(&s);
	bed_shut();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts_however_they_are_cut),
		cmocka_unit_test(test_limits_of_heads),
		cmocka_unit_test(test_limits_of_bodies),
		cmocka_unit_test(test_gzip),
		cmocka_unit_test(test_address_of_an_event),
		cmocka_unit_test(test_debug_leaves_no_trace),
		cmocka_unit_test(test_tokens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
