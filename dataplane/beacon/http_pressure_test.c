/*
 * HTTP short of something: ring space, request slots, buffers, time, a peer that reads, a peer that stays. Nothing may be lost, stuck or
 * counted twice, and the answers must be what they would have been.
 */
#include "http_testbed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HOST   "Host: tp\r\n"
#define HEALTH "GET /healthz HTTP/1.1\r\n" HOST "\r\n"
#define S      1000000000ULL

enum { TEXT_BYTES = 1 << 21 };
static char text[TEXT_BYTES];

/* One event; devices spread over the shards. */
static int event(char *to, const char *ad, int device)
{
	return sprintf(
		to,
		"{\"event_id\":\"e%d\",\"event_type\":\"click\",\"timestamp\":1700000000000,\"ad_id\":\"%s\",\"campaign_id\":\"c\","
		"\"advertiser_id\":\"a\",\"device_id\":\"d%d\"}",
		device, ad, device);
}

static int post(char *to, const char *ad, int device, const char *query, const char *fields)
{
	char body[512];
	int n = event(body, ad, device);
	return sprintf(to, "POST /api/v1/clicks%s HTTP/1.1\r\n" HOST "%sContent-Length: %d\r\n\r\n%s", query, fields, n, body);
}

static const char *summary(const struct bed_stream *s)
{
	static char line[4096];
	bed_summary(s, false, line, sizeof(line));
	return line;
}

/* ---- pipelines ---- */

static void test_a_hundred_pipelined_in_order(void **state)
{
	(void)state;
	static const char *const ads[] = {"one", "dup", "late", "conflict"};
	for (int way = 0; way < 6; way++) {
		bed_open();
		srand((unsigned)way);
		struct bed_stream s;
		assert_true(bed_connect(&s, 1));
		size_t n = 0;
		for (int i = 0; i < 100; i++)
			n += (size_t)post(text + n, ads[i % 4], i, "?report=1", "");
		for (size_t at = 0; at < n;) {
			size_t piece = way == 0 ? n : 1 + (size_t)rand() % (way * 400);
			piece = piece < n - at ? piece : n - at;
			bed_input(&s, text + at, piece);
			at += piece;
			if (rand() % 4 == 0)
				bed_shard_turn((uint32_t)rand() % BED_SHARDS); /* any shard first */
			if (rand() % 3 == 0)
				bed_round(1000);
			bed_transport_turn(&s, SIZE_MAX);
			assert_in_range(bed.counters.v[TP_C_EVENTS_IN_FLIGHT], 0, DP_HTTP_PIPELINE_MAX);
		}
		bed_settle(&s);
		const char *at = s.sent;
		struct bed_answer answer = {0};
		for (int i = 0; i < 100; i++) {
			char expect[128];
			sprintf(expect, "{\"accepted\":%d,\"duplicates\":%d,\"late\":%d,\"conflicts\":%d,\"rejected\":[]}",
				i % 4 == 0, i % 4 == 1, i % 4 == 2, i % 4 == 3);
			assert_true(bed_next_answer(&at, s.sent + s.sent_bytes, false, &answer));
			assert_int_equal(answer.status, 200);
			assert_true(bed_body_has(&answer, expect));
		}
		assert_ptr_equal(at, s.sent + s.sent_bytes);
		assert_int_equal(bed.counters.v[TP_C_REQUESTS_ACCEPTED], 100);
		bed_disconnect(&s);
		bed_shut();
	}
}

static void test_pipeline_is_bounded(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	size_t n = 0;
	for (int i = 0; i < 100; i++)
		n += (size_t)post(text + n, "one", i, "", "");
	bed_input(&s, text, n);
	assert_int_equal(bed.counters.v[TP_C_EVENTS_IN_FLIGHT], DP_HTTP_PIPELINE_MAX);
	assert_true(s.paused);
	assert_int_equal(dp_beacon_owed(bed.beacon), 1);
	bed_round(20 * S); /* nobody is to blame: no timeout while answers wait for durability */
	assert_true(s.paused && s.sent_bytes == 0);
	bed_settle(&s);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_ACCEPTED], 100);
	assert_true(s.held_bytes == 0);

	/* immediate answers are no reason to wait */
	bed_text(&s, HEALTH);
	size_t one = s.sent_bytes;
	n = 0;
	for (int i = 0; i < 200; i++)
		n += (size_t)sprintf(text + n, HEALTH);
	bed_input(&s, text, n);
	assert_true(!s.paused && s.sent_bytes > one);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_ACCEPTED], 301);

	/* … unless the peer takes none of them */
	s.send_room = 100;
	bed_input(&s, text, n);
	assert_true(s.paused);
	assert_in_range(bed.counters.v[TP_C_REQUESTS_IN_FLIGHT], 1, DP_HTTP_PIPELINE_MAX + 1);
	while (s.paused || s.blocked)
		bed_transport_turn(&s, 1000);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_ACCEPTED], 501);
	bed_disconnect(&s);
	bed_shut();
}

/* ---- rings, slots, buffers ---- */

static void test_full_ring_waits_and_goes_on(void **state)
{
	(void)state;
	bed_open_with(&(struct bed_options){.connections = 16, .requests = 512, .small = 8, .large = 2, .hop_bytes = 64 << 10});
	struct bed_stream s[8];
	for (int i = 0; i < 8; i++) {
		assert_true(bed_connect(&s[i], (uint8_t)i));
		/* an array of 100 events of one device: 8 of these are more than its shard's ring holds */
		size_t n = 1;
		char *body = text + 4096;
		body[0] = '[';
		for (int e = 0; e < 100; e++) {
			n += (size_t)event(body + n, "one", 7);
			body[n++] = e == 99 ? ']' : ',';
		}
		size_t head =
			(size_t)sprintf(text, "POST /api/v1/clicks?report=1 HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", n);
		memmove(text + head, body, n);
		if (i % 2 == 0) {
			bed_input(&s[i], text, head + n); /* in the transport's memory */
		} else {
			bed_input(&s[i], text, 100); /* in a buffer of ours */
			bed_input(&s[i], text + 100, head + n - 100);
		}
	}
	uint64_t before = bed.counters.v[TP_C_EVENTS_IN_FLIGHT];
	assert_in_range(before, 100, 700);
	assert_int_equal(before % 100, 0);
	for (int i = 0; i < 100; i++)
		bed_round(1000000); /* the ring stays full */
	assert_int_equal(bed.counters.v[TP_C_EVENTS_IN_FLIGHT], before);
	for (int turn = 0; turn < 20; turn++) {
		for (uint32_t shard = 0; shard < BED_SHARDS; shard++)
			bed_shard_turn(shard);
		bed_round(50000);
		for (int i = 0; i < 8; i++)
			bed_transport_turn(&s[i], SIZE_MAX);
	}
	for (int i = 0; i < 8; i++) {
		assert_string_equal(summary(&s[i]), "200");
		assert_non_null(strstr(s[i].sent, "{\"accepted\":100,"));
		bed_disconnect(&s[i]);
	}
	assert_int_equal(bed.counters.v[TP_C_EVENTS_RECEIVED], 800);
	bed_shut();
}

static void test_full_for_too_long_is_503(void **state)
{
	(void)state;
	bed_open_with(&(struct bed_options){.connections = 16, .requests = 1, .small = 8, .large = 2, .hop_bytes = 64 << 10});
	struct bed_stream s[4];
	for (int i = 0; i < 4; i++)
		assert_true(bed_connect(&s[i], (uint8_t)i));
	size_t n = (size_t)post(text, "one", 1, "", "");
	bed_input(&s[0], text, n); /* has the only slot */
	bed_input(&s[1], text, n);
	bed_input(&s[2], text, 50);
	bed_input(&s[2], text + 50, n - 50);
	n = (size_t)sprintf(text, "GET /api/v1/pixel.gif?event_type=click&ad_id=1&campaign_id=2&advertiser_id=3 HTTP/1.1\r\n" HOST
				  "\r\n");
	bed_input(&s[3], text, n);
	assert_int_equal(dp_beacon_owed(bed.beacon), 4);
	for (int i = 0; i < 50; i++) {
		bed_round(S / 11);
		for (int j = 1; j < 4; j++) {
			bed_transport_turn(&s[j], SIZE_MAX);
			assert_int_equal(s[j].sent_bytes, 0); /* not before 5 s */
		}
	}
	for (int i = 0; i < 10; i++) {
		bed_round(S / 10);
		for (int j = 1; j < 4; j++)
			bed_transport_turn(&s[j], SIZE_MAX);
	}
	for (int j = 1; j < 4; j++)
		assert_string_equal(summary(&s[j]), "503!.");
	assert_int_equal(bed.counters.v[TP_C_EVENTS_RECEIVED], 1);
	bed_settle(&s[0]);
	assert_string_equal(summary(&s[0]), "204");
	for (int j = 0; j < 4; j++)
		bed_disconnect(&s[j]);
	bed_shut();
}

static void test_no_slot_then_one(void **state)
{
	(void)state;
	bed_open_with(&(struct bed_options){.connections = 16, .requests = 1, .small = 8, .large = 2, .hop_bytes = 64 << 10});
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	size_t n = 0;
	for (int i = 0; i < 40; i++)
		n += (size_t)post(text + n, "one", i, "", i % 2 ? "Expect: 100-continue\r\n" : "");
	bed_input(&s, text, n);
	for (int i = 0; i < 200; i++)
		bed_settle(&s);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_ACCEPTED], 40);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_RECEIVED], 40);
	bed_disconnect(&s);
	bed_shut();
}

static void test_no_buffers_then_some(void **state)
{
	(void)state;
	bed_open_with(&(struct bed_options){.connections = 16, .requests = 64, .small = 2, .large = 1, .hop_bytes = 1 << 20});
	struct bed_stream s[8];
	size_t n = (size_t)post(text, "one", 1, "", "");
	for (int i = 0; i < 8; i++) {
		assert_true(bed_connect(&s[i], (uint8_t)i));
		bed_input(&s[i], text, n / 2 + (size_t)i); /* the first three get a buffer */
	}
	assert_int_equal(bed.beacon->small.free_count + bed.beacon->large.free_count, 0);
	assert_true(s[7].paused && !s[2].paused);
	/* a whole request needs none */
	struct bed_stream whole;
	assert_true(bed_connect(&whole, 99));
	bed_input(&whole, text, n);
	bed_settle(&whole);
	assert_string_equal(summary(&whole), "204");
	bed_disconnect(&whole);
	for (int i = 0; i < 8; i++)
		bed_input(&s[i], text + n / 2 + i, n - n / 2 - (size_t)i);
	for (int turn = 0; turn < 40; turn++)
		for (int i = 0; i < 8; i++)
			bed_settle(&s[i]);
	for (int i = 0; i < 8; i++) {
		assert_string_equal(summary(&s[i]), "204");
		bed_disconnect(&s[i]);
	}
	bed_shut();
}

/* ---- reports ---- */

/* 20000 lines, many of them broken, and a peer that takes the long report in crumbs. */
static void test_long_report(void **state)
{
	(void)state;
	bed_open_with(&(struct bed_options){.connections = 16, .requests = 64, .small = 2, .large = 3, .hop_bytes = 4 << 20});
	size_t n = 0;
	static char body[TEXT_BYTES];
	for (int i = 0; i < 16000; i++) {
		n += (size_t)(i % 1000 == 0 ? event(body + n, "one", i) : sprintf(body + n, "{\"a\":%d}", i));
		body[n++] = '\n';
	}
	size_t head = (size_t)sprintf(text, "POST /api/v1/clicks HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", n);
	memcpy(text + head, body, n);
	struct bed_stream whole, s;
	assert_true(bed_connect(&whole, 1));
	bed_input(&whole, text, head + n);
	bed_settle(&whole);
	assert_string_equal(summary(&whole), "200");
	assert_non_null(strstr(
		whole.sent, "{\"accepted\":16,\"duplicates\":0,\"late\":0,\"conflicts\":0,\"rejected\":[{\"index\":1,\"reason\":"));
	assert_non_null(strstr(whole.sent, ",{\"index\":15999,\"reason\":"));
	assert_true(whole.sent_bytes > 1 << 20);

	assert_true(bed_connect(&s, 1));
	s.send_room = 10;
	srand(5);
	for (size_t at = 0; at < head + n; at += 30000)
		bed_input(&s, text + at, head + n - at < 30000 ? head + n - at : 30000);
	for (int i = 0; i < 100000 && (s.blocked || i < 10); i++) {
		for (uint32_t shard = 0; shard < BED_SHARDS; shard++)
			bed_shard_turn(shard);
		bed_round(1000);
		bed_transport_turn(&s, (size_t)rand() % 3000 + 1);
	}
	assert_int_equal(s.sent_bytes, whole.sent_bytes);
	assert_memory_equal(s.sent, whole.sent, s.sent_bytes);
	bed_disconnect(&s);
	bed_disconnect(&whole);
	bed_shut();
}

/* ---- time ---- */

static void step(uint64_t ns)
{
	bed_round(ns);
}

static void test_deadlines(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream idle, half_line, head, body, trickle, chunk, drip, drip_chunks;
	assert_true(bed_connect(&idle, 1) && bed_connect(&half_line, 2) && bed_connect(&head, 3));
	assert_true(bed_connect(&body, 4) && bed_connect(&trickle, 5) && bed_connect(&chunk, 6));
	assert_true(bed_connect(&drip, 7) && bed_connect(&drip_chunks, 8));
	bed_text(&half_line, "\r");
	bed_text(&head, "GET /healthz HT");
	bed_text(&body, "POST /api/v1/clicks HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\n{");
	/* one comes at the least rate that is borne, one a byte a second */
	char second[DP_HTTP_BODY_RATE + 1];
	memset(second, ' ', DP_HTTP_BODY_RATE);
	second[DP_HTTP_BODY_RATE] = 0;
	bed_text(&trickle, "POST /api/v1/clicks HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n{");
	bed_text(&drip, "POST /api/v1/clicks HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n{");
	bed_text(&drip_chunks, "POST /api/v1/clicks HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
	bed_text(&chunk, "POST /api/v1/clicks HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\n");
	for (int i = 0; i < 9; i++) {
		step(S);
		bed_text(&head, "T");
		bed_text(&trickle, second);
		bed_text(&drip, " ");
		bed_text(&drip_chunks, "1\r\n \r\n");
	}
	assert_int_equal(head.sent_bytes + body.sent_bytes + chunk.sent_bytes, 0);
	assert_int_equal(drip.sent_bytes + drip_chunks.sent_bytes, 0);
	step(S + 1);
	bed_text(&trickle, second);
	bed_text(&drip, " ");
	bed_text(&drip_chunks, "1\r\n \r\n");
	assert_string_equal(summary(&drip), "408!.");
	assert_string_equal(summary(&drip_chunks), "408!.");
	assert_string_equal(summary(&head), "408!.");
	assert_string_equal(summary(&body), "408!.");
	assert_string_equal(summary(&chunk), "408!.");
	for (int i = 0; i < 109; i++) {
		step(S);
		bed_text(&trickle, second);
		if (i == 63)
			assert_true(!idle.close_called && !half_line.close_called);
		if (i == 66)
			assert_true(idle.close_called && half_line.close_called);
	}
	assert_int_equal(trickle.sent_bytes, 0);
	step(2 * S);
	bed_text(&trickle, " ");
	assert_string_equal(summary(&trickle), "408!.");
	assert_int_equal(idle.sent_bytes + half_line.sent_bytes, 0);
	assert_true(idle.abort_called); /* it never answered our FIN */
	bed_disconnect(&idle);
	bed_disconnect(&half_line);
	bed_disconnect(&head);
	bed_disconnect(&body);
	bed_disconnect(&trickle);
	bed_disconnect(&chunk);
	bed_disconnect(&drip);
	bed_disconnect(&drip_chunks);
	bed_shut();
}

/* Ten thousand connections of one house do not take the places of all others. */
static void test_connections_of_one_source_are_bounded(void **state)
{
	(void)state;
	bed_open();
	bed.ingest.connections_per_source = 4;
	static const char *const address[] = {"198.51.100.7", "198.51.100.8", "2001:db8:1:2::1", "2001:db8:1:2:ffff::", "10.1.2.3"};
	static struct bed_stream s[5][8];
	uint32_t open[5] = {0};
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 8; i++) {
			for (int a = 0; a < 5; a++) {
				struct tp_addr addr;
				assert_int_equal(tp_addr_parse(address[a], strlen(address[a]), &addr), 0);
				if (bed_connect_from(&s[a][open[a]], &addr, (uint16_t)i))
					open[a]++;
			}
		}
		assert_int_equal(open[0], 4);
		assert_int_equal(open[1], 4);
		assert_int_equal(open[2] + open[3], 4); /* a /64 is one source */
		assert_int_equal(open[4], 8);           /* a trusted proxy speaks for many */
		assert_int_equal(bed.counters.v[TP_C_CONNECTIONS_SOURCE_FULL], 20 * (round + 1));
		for (int a = 0; a < 5; a++)
			while (open[a] > 0)
				bed_disconnect(&s[a][--open[a]]); /* each gives its place back */
	}
	bed_shut();
}

static void test_idle_begins_anew_after_each_request(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	for (int i = 0; i < 10; i++) {
		bed_text(&s, HEALTH);
		bed_text(&s, "\r\n"); /* says nothing, and changes nothing */
		step(70 * S);
		assert_true(!s.close_called);
	}
	step(6 * S);
	assert_true(s.close_called);
	bed_disconnect(&s);
	bed_shut();
}

static void test_peer_that_takes_nothing_is_reset(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	s.send_room = 3;
	bed_text(&s, HEALTH HEALTH);
	for (int i = 0; i < 20; i++) {
		step(10 * S);
		bed_transport_turn(&s, 1);
		assert_true(!s.abort_called);
	}
	step(29 * S);
	assert_true(!s.abort_called);
	step(2 * S);
	assert_true(s.abort_called);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_ABANDONED], 2);
	bed_disconnect(&s);
	bed_shut();
}

/* ---- ends ---- */

static void test_connection_gone_in_any_state(void **state)
{
	(void)state;
	bed_open();
	size_t n = (size_t)post(text, "one", 1, "", "Expect: 100-continue\r\n");
	n += (size_t)post(text + n, "one", 2, "?report=1", "");
	for (size_t cut = 0; cut <= n; cut++) {
		for (int way = 0; way < 4; way++) {
			struct bed_stream s;
			assert_true(bed_connect(&s, 1));
			if (way == 3)
				s.send_room = 7;
			s.close_in_send = way == 2;
			if (cut > 0)
				bed_input(&s, text, cut);
			if (way == 1)
				bed_settle(&s);
			bed_disconnect(&s);
			bed_check();
			for (uint32_t shard = 0; shard < BED_SHARDS; shard++)
				bed_shard_turn(shard);
			bed_round(50000);
			bed_check();
			assert_int_equal(bed.counters.v[TP_C_REQUESTS_IN_FLIGHT], 0);
			assert_int_equal(dp_beacon_owed(bed.beacon), 0);
		}
	}
	bed_shut();
}

static void test_fin_of_the_peer(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	/* owed answers still come */
	assert_true(bed_connect(&s, 1));
	size_t n = (size_t)post(text, "one", 1, "", "");
	n += (size_t)post(text + n, "one", 2, "", "");
	bed_input(&s, text, n);
	bed_eof(&s);
	assert_true(!s.close_called);
	bed_settle(&s);
	assert_string_equal(summary(&s), "204 204.");
	bed_disconnect(&s);
	/* nothing owed */
	assert_true(bed_connect(&s, 1));
	bed_eof(&s);
	assert_true(s.close_called);
	bed_disconnect(&s);
	/* in the middle of a request */
	for (size_t cut = 1; cut < n; cut++) {
		assert_true(bed_connect(&s, 1));
		bed_input(&s, text, cut);
		bed_eof(&s);
		bed_settle(&s);
		assert_string_equal(summary(&s), cut < n / 2 ? "400!." : cut == n / 2 ? "204." : "204 400!.");
		bed_disconnect(&s);
	}
	/* with a request that waits for room */
	atomic_store(&bed.refusing, 0);
	bed_disconnect(&s);
	bed_shut();
	bed_open_with(&(struct bed_options){.connections = 16, .requests = 1, .small = 8, .large = 2, .hop_bytes = 64 << 10});
	assert_true(bed_connect(&s, 1));
	bed_input(&s, text, n);
	bed_eof(&s);
	assert_true(s.paused);
	bed_settle(&s);
	assert_string_equal(summary(&s), "204 204.");
	bed_disconnect(&s);
	bed_shut();
}

static void test_refusing(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s;
	assert_true(bed_connect(&s, 1));
	atomic_store(&bed.refusing, 1);
	size_t n = (size_t)post(text, "one", 1, "", "");
	n += (size_t)sprintf(text + n, HEALTH);
	n += (size_t)sprintf(text + n, "GET /api/v1/pixel.gif?event_type=click HTTP/1.1\r\n" HOST "\r\n");
	bed_input(&s, text, n);
	assert_string_equal(summary(&s), "503 503 503");
	assert_non_null(strstr(s.sent, "Retry-After: 1\r\n"));
	atomic_store(&bed.refusing, 0);
	bed_text(&s, HEALTH);
	assert_string_equal(summary(&s), "503 503 503 200");
	assert_int_equal(bed.counters.v[TP_C_EVENTS_RECEIVED], 0);
	atomic_store(&bed.refusing, 1);
	n = (size_t)post(text, "one", 1, "", "Expect: 100-continue\r\n");
	bed_input(&s, text, n);
	assert_string_equal(summary(&s), "503 503 503 200 503!.");
	bed_disconnect(&s);
	bed_shut();
}

static void test_blocklist(void **state)
{
	(void)state;
	bed_open();
	struct bed_stream s, other;
	assert_true(bed_connect(&s, 1));
	size_t n = (size_t)post(text, "one", 1, "", "");
	bed_input(&s, text, n);
	bed.blocked = true;
	assert_false(bed_connect(&other, 2));
	bed_input(&s, text, n);
	assert_true(s.abort_called);
	assert_int_equal(bed.counters.v[TP_C_CONNECTIONS_BLOCKLISTED], 2);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_RECEIVED], 1);
	assert_int_equal(bed.counters.v[TP_C_REQUESTS_ABANDONED], 1);
	bed_disconnect(&s);
	bed_shut();
}

static void test_no_room_for_a_connection(void **state)
{
	(void)state;
	bed_open_with(&(struct bed_options){.connections = 2, .requests = 1, .small = 1, .large = 1, .hop_bytes = 64 << 10});
	struct bed_stream s[3];
	assert_true(bed_connect(&s[0], 1) && bed_connect(&s[1], 1));
	assert_false(bed_connect(&s[2], 1));
	bed_disconnect(&s[0]);
	assert_true(bed_connect(&s[2], 1));
	bed_disconnect(&s[1]);
	bed_disconnect(&s[2]);
	bed_shut();
}

/* ---- everything at once ---- */

/* Many clients doing anything; at the end all that lived got an answer for each request, and the books balance at every step. */
static void test_storm(void **state)
{
	(void)state;
	enum { CLIENTS = 24, ROUNDS = 6000 };
	static const char *const ads[] = {"one", "dup", "late", "conflict", "refuse"};
	static const char *const others[] = {
		HEALTH,
		"GET /x HTTP/1.1\r\n" HOST "\r\n",
		"OPTIONS /api/v1/clicks HTTP/1.1\r\n" HOST "\r\n",
		"GET /api/v1/pixel.gif?event_type=click&ad_id=1&campaign_id=2&advertiser_id=3 HTTP/1.1\r\n" HOST "\r\n",
		"POST /api/v1/clicks HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\n{} \r\n0\r\n\r\n",
		"POST /api/v1/clicks HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n[{},{},1]",
	};
	for (unsigned seed = 0; seed < 4; seed++) {
		srand(seed);
		bed_open_with(
			&(struct bed_options){.connections = 20, .requests = 12, .small = 3, .large = 2, .hop_bytes = 8 << 10});
		struct client {
			struct bed_stream s;
			bool connected;
			char script[1 << 16];
			size_t count, at;
		} *client = calloc(CLIENTS, sizeof(*client));
		assert_non_null(client);
		for (int round = 0; round < ROUNDS; round++) {
			struct client *c = &client[rand() % CLIENTS];
			int what = rand() % 100;
			if (!c->connected) {
				c->connected = bed_connect(&c->s, (uint8_t)(rand() % 256));
				c->count = c->at = 0;
				for (int i = rand() % 60; i >= 0; i--)
					c->count += rand() % 2 ? (size_t)post(c->script + c->count, ads[rand() % 5], rand(),
									      rand() % 2 ? "?report=1" : "", "")
							       : (size_t)sprintf(c->script + c->count, "%s", others[rand() % 6]);
				if (!c->connected)
					bed_disconnect(&c->s);
			} else if (what < 2 || !c->s.open) {
				bed_disconnect(&c->s);
				c->connected = false;
			} else if (what < 4) {
				bed_eof(&c->s);
			} else if (what < 20) {
				bed_transport_turn(&c->s, 1 + (size_t)rand() % 1000);
			} else if (what < 30) {
				c->s.send_room = (size_t)rand() % 300;
			} else if (c->at < c->count && !c->s.eof_sent && !c->s.close_called) {
				size_t piece = 1 + (size_t)rand() % (rand() % 8 == 0 ? 9000 : 300);
				piece = piece < c->count - c->at ? piece : c->count - c->at;
				bed_input(&c->s, c->script + c->at, piece);
				c->at += piece;
			}
			if (rand() % 3 == 0)
				bed_shard_turn((uint32_t)rand() % BED_SHARDS);
			bed_round((uint64_t)rand() % (rand() % 500 == 0 ? 6 * S : 1000000));
			bed_check();
		}
		for (int i = 0; i < CLIENTS; i++) {
			if (client[i].connected)
				bed_disconnect(&client[i].s);
		}
		free(client);
		assert_true(bed.counters.v[TP_C_REQUESTS_ACCEPTED] > 100 && bed.counters.v[TP_C_REQUESTS_503] > 0);
		bed_shut();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hundred_pipelined_in_order),
		cmocka_unit_test(test_pipeline_is_bounded),
		cmocka_unit_test(test_full_ring_waits_and_goes_on),
		cmocka_unit_test(test_full_for_too_long_is_503),
		cmocka_unit_test(test_no_slot_then_one),
		cmocka_unit_test(test_no_buffers_then_some),
		cmocka_unit_test(test_long_report),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_connections_of_one_source_are_bounded),
		cmocka_unit_test(test_idle_begins_anew_after_each_request),
		cmocka_unit_test(test_peer_that_takes_nothing_is_reset),
		cmocka_unit_test(test_connection_gone_in_any_state),
		cmocka_unit_test(test_fin_of_the_peer),
		cmocka_unit_test(test_refusing),
		cmocka_unit_test(test_blocklist),
		cmocka_unit_test(test_no_room_for_a_connection),
		cmocka_unit_test(test_storm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
