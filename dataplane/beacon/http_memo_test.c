/*
 * The memo of heads against the parser: whatever is done to a head that was noted, the memo either does not know it, or says what the
 * parser says of it. Every byte is replaced by every other one, every byte is left out, and every length of what is there is tried.
 */
#include "http_memo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SET_BYTES = offsetof(struct dp_http_head, forwarded) };

static struct dp_http_memo memo;

static const char *const heads[] = {
	"POST /api/v1/clicks HTTP/1.1\r\nHost: a\r\nContent-Length: 490\r\n\r\n",
	"POST /api/v1/clicks HTTP/1.1\r\nContent-Length:  7 \r\nHost: 10.77.0.1:8080\r\nUser-Agent: x\r\nConnection: close\r\n\r\n",
	("POST /api/v1/clicks?report=1 HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: 1234567\r\n"
	 "Authorization: Bearer abc\r\n\r\n"),
	"GET /healthz HTTP/1.1\r\nHost: c\r\n\r\n",
	"GET /api/v1/pixel.gif?event_id=1&event_type=click HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"POST /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
	"POST /x HTTP/1.1\r\nContent-Length: 0\r\nhost: e\r\nContent-Encoding: gzip\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost:f\r\n\r\n",
};
enum { HEADS = sizeof(heads) / sizeof(heads[0]) };

/* Memory of exactly that size, so that a sanitizer sees what is read behind it. */
static char *exact(const char *text, size_t count)
{
	char *copy = malloc(count ? count : 1);
	assert_non_null(copy);
	memcpy(copy, text, count);
	return copy;
}

/* True if the memo knew it. */
static bool ask(uint16_t place, const char *text, size_t count)
{
	char *bytes = exact(text, count);
	struct dp_http_head found, parsed;
	memset(&found, 0, sizeof(found));
	memset(&parsed, 0, sizeof(parsed));
	const bool hit = dp_memo_find(&memo, place, &found, bytes, count);
	if (hit) {
		if (dp_http_head_parse(&parsed, bytes, count) != DP_HTTP_DONE)
			fail_msg("the memo knows what is no head: %.*s", (int)count, text);
		if (memcmp(&found, &parsed, SET_BYTES) != 0)
			fail_msg("the memo has another opinion than the parser: %.*s", (int)count, text);
	} else {
		static const struct dp_http_head fresh;
		assert_memory_equal(&found, &fresh, SET_BYTES); /* a miss leaves the head as it was */
	}
	free(bytes);
	return hit;
}

static uint16_t note(const char *text, uint16_t place)
{
	struct dp_http_head head;
	memset(&head, 0, sizeof(head));
	assert_int_equal(dp_http_head_parse(&head, text, strlen(text)), DP_HTTP_DONE);
	return dp_memo_note(&memo, place, &head, text);
}

static void test_known(void **state)
{
	(void)state;
	for (int i = 0; i < HEADS; i++) {
		memset(&memo, 0, sizeof(memo));
		const size_t bytes = strlen(heads[i]);
		assert_false(ask(0, heads[i], bytes));
		const uint16_t place = note(heads[i], 0);
		assert_true(ask(place, heads[i], bytes));
		char more[512];
		snprintf(more, sizeof(more), "%s{\"event_id\":1}", heads[i]);
		assert_true(ask(place, more, strlen(more)));
		for (size_t n = 0; n < bytes; n++)
			assert_false(ask(place, heads[i], n));
	}
}

static void test_changed(void **state)
{
	(void)state;
	for (int i = 0; i < HEADS; i++) {
		memset(&memo, 0, sizeof(memo));
		const size_t bytes = strlen(heads[i]);
		const uint16_t place = note(heads[i], 0);
		uint32_t hits = 0, digits = 0;
		for (size_t at = 0; at < bytes; at++) {
			char text[512];
			memcpy(text, heads[i], bytes);
			for (int c = 0; c < 256; c++) {
				text[at] = (char)c;
				hits += c != (uint8_t)heads[i][at] && ask(place, text, bytes);
			}
			memmove(text + at, heads[i] + at + 1, bytes - at - 1); /* left out, and something behind the head */
			text[bytes - 1] = '{';
			assert_false(ask(place, text, bytes));
			memcpy(text, heads[i], at + 1); /* twice */
			memcpy(text + at + 1, heads[i] + at, bytes - at);
			assert_int_equal(ask(place, text, bytes + 1), at == bytes - 1); /* behind the head: not looked at */
		}
		struct dp_http_head head;
		memset(&head, 0, sizeof(head));
		dp_http_head_parse(&head, heads[i], bytes);
		digits = head.length_bytes;
		assert_int_equal(hits, digits * 9); /* another digit, and nothing else */
	}
}

static void test_length(void **state)
{
	(void)state;
	memset(&memo, 0, sizeof(memo));
	const uint16_t place = note(heads[0], 0);
	struct dp_http_head head;
	memset(&head, 0, sizeof(head));
	const char *other = "POST /api/v1/clicks HTTP/1.1\r\nHost: a\r\nContent-Length: 512\r\n\r\n";
	assert_true(dp_memo_find(&memo, place, &head, other, strlen(other)));
	assert_int_equal(head.content_length, 512);
	assert_int_equal(note(other, 0), place); /* one place for all lengths */
}

/* What is not worth a place, or has none, leaves the connection's as it is. */
static void test_not_noted(void **state)
{
	(void)state;
	memset(&memo, 0, sizeof(memo));
	assert_int_equal(note("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", 777), 777);
	assert_int_equal(note("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-1-2-01\r\n\r\n", 777), 777);
	assert_int_equal(note("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12345678\r\n\r\n", 777), 777);
	char text[2048];
	for (int over = 0; over < 2; over++) {
		const int pad = DP_MEMO_TEXT_BYTES + over - (int)strlen("GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n");
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nA: %0*d\r\n\r\n", pad, 0);
		const uint16_t place = note(text, 777);
		assert_int_equal(place == 777, over);
		assert_true(over || ask(place, text, strlen(text)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_not_noted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
