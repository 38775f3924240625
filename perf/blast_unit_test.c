/*
 * The parts of turnpike-blast that can be looked at alone: histogram, answers, reports, the generator's shares, pace, ledger lines.
 */
#include "blast.h"
#include "blast_answer.h"
#include "blast_synth.h"
#include "json_event.h"
#include "turnpike/event.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_histogram_buckets(void **state)
{
	(void)state;
	uint32_t last = 0;
	for (uint64_t value = 0; value < 100000; value++) {
		uint32_t bucket = blast_histogram_bucket(value);
		assert_true(bucket == last || bucket == last + 1);
		assert_true(blast_histogram_upper(bucket) >= value);
		assert_true(bucket == 0 || blast_histogram_upper(bucket - 1) < value);
		last = bucket;
	}
	assert_int_equal(blast_histogram_bucket(UINT64_MAX), BLAST_BUCKETS - 1);
	assert_true(blast_histogram_upper(BLAST_BUCKETS - 1) == UINT64_MAX);
}

static void test_histogram_percentiles(void **state)
{
	(void)state;
	struct blast_histogram *h = calloc(2, sizeof *h);
	assert_int_equal(blast_histogram_at(h, 0.5), 0);
	for (uint64_t i = 1; i <= 1000; i++)
		blast_histogram_add(h, i * 1000);
	struct {
		double share;
		double want;
	} rows[] = {{0, 1000}, {0.5, 500000}, {0.99, 990000}, {0.999, 999000}, {1, 1000000}};
	for (size_t i = 0; i < 5; i++) {
		double got = (double)blast_histogram_at(h, rows[i].share);
		assert_true(got >= rows[i].want && got <= rows[i].want * 1.035);
	}
	assert_int_equal(blast_histogram_mean(h), 500500);
	blast_histogram_merge(h + 1, h);
	blast_histogram_merge(h + 1, h);
	assert_int_equal(blast_histogram_count(h + 1), 2000);
	assert_int_equal(blast_histogram_at(h + 1, 1), 1000000);
	free(h);
}

static void test_answers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int result;
		uint32_t status;
		uint32_t body_bytes;
	} rows[] = {
		{"HTTP/1.1 204 No Content\r\n\r\n", 1, 204, 0},
		{"HTTP/1.1 204 No Content\r\n\r", 0, 0, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 1, 200, 3},
		{"HTTP/1.1 200 OK\r\ncontent-LENGTH:3\r\n\r\nab", 0, 200, 3},
		{"HTTP/1.1 200 OK\r\n\r\nabc", -EPROTO, 0, 0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", -EPROTO, 0, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", -EPROTO, 0, 0},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", -EPROTO, 0, 0},
		{"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", -EPROTO, 0, 0},
		{"HTTP/1.1 100 Continue\r\n\r\n", 1, 100, 0},
		{"hello\r\n\r\n", -EPROTO, 0, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct blast_answer answer;
		size_t bytes = strlen(rows[i].text);
		assert_int_equal(blast_answer_read(rows[i].text, bytes, &answer), rows[i].result);
		if (rows[i].result == 1) {
			assert_int_equal(answer.status, rows[i].status);
			assert_int_equal(answer.body_bytes, rows[i].body_bytes);
			assert_int_equal(answer.bytes, bytes);
		}
	}
	struct blast_answer answer;
	static const char closing[] = "HTTP/1.1 503 No\r\nRetry-After: 7\r\nConnection: Close\r\nContent-Length: 0\r\n\r\nHTTP/1.1";
	assert_int_equal(blast_answer_read(closing, sizeof closing - 1, &answer), 1);
	assert_true(answer.close);
	assert_int_equal(answer.retry_after_s, 7);
	assert_int_equal(answer.bytes, sizeof closing - 1 - 8);
}

static void test_reports(void **state)
{
	(void)state;
	struct blast_report report;
	static const char text[] = "{\"accepted\":1,\"duplicates\":2,\"late\":3,\"conflicts\":4,\"rejected\":["
				   "{\"index\":9,\"reason\":\"future\",\"detail\":\"d\"},{\"index\":5,\"reason\":\"x\"}]}";
	assert_int_equal(blast_report_read(text, sizeof text - 1, &report), 0);
	assert_true(report.accepted == 1 && report.duplicates == 2 && report.late == 3 && report.conflicts == 4);
	assert_true(report.rejected == 2 && report.index[0] == 5 && report.index[1] == 9);
	assert_string_equal(report.first, "future: d");
	free(report.index);
	assert_int_equal(blast_report_read("{\"status\":\"ok\"}", 15, &report), -EPROTO);
	assert_int_equal(blast_report_read("<html>", 6, &report), -EPROTO);
}

static struct blast_options options_make(void)
{
	struct blast_options options;
	char *argv[] = {"blast", "--to", "http://127.0.0.1:1", "--seed", "9", "--stamp", "fixed", NULL};
	assert_int_equal(blast_options_parse(&options, 7, argv), 0);
	return options;
}

/* The shares that were asked for come out, copies are exact, ids are version 4 and different. */
static void test_generator_shares(void **state)
{
	(void)state;
	struct blast_options options = options_make();
	options.clicks = 0.2;
	options.conversions = 0.02;
	options.duplicates = 0.05;
	options.ads = 1000;
	struct blast_synth *synth = blast_synth_open(&options, 0);
	enum { EVENTS = 200000 };
	uint64_t types[3] = {0}, copies = 0, first_ads = 0;
	for (int i = 0; i < EVENTS; i++) {
		struct blast_event event;
		bool copy;
		blast_synth_next(synth, 0, &event, &copy);
		copies += copy;
		types[event.type]++;
		first_ads += event.ad == 0;
		assert_true(event.ad < 1000 && event.stamp_ms <= options.start_ms + EVENTS / 10);
		assert_int_equal(event.id[0] >> 12 & 15, 4);
		assert_int_equal(event.id[1] >> 62, 2);
	}
	assert_true(copies > EVENTS * 0.045 && copies < EVENTS * 0.055);
	assert_true(types[1] > EVENTS * 0.19 && types[1] < EVENTS * 0.21);
	assert_true(types[2] > EVENTS * 0.018 && types[2] < EVENTS * 0.022);
	/* the first of 1,000 ads has 1 / (1 + 1/2 + … + 1/1000) = 13.4% */
	assert_true(first_ads > EVENTS * 0.124 && first_ads < EVENTS * 0.144);
	blast_synth_close(synth);
}

static void test_threads_have_different_events(void **state)
{
	(void)state;
	struct blast_options options = options_make();
	struct blast_event a, b, again;
	bool copy;
	struct blast_synth *first = blast_synth_open(&options, 0), *second = blast_synth_open(&options, 1);
	blast_synth_next(first, 0, &a, &copy);
	blast_synth_next(second, 0, &b, &copy);
	assert_memory_not_equal(a.id, b.id, 16);
	blast_synth_close(first);
	first = blast_synth_open(&options, 0);
	blast_synth_next(first, 0, &again, &copy);
	assert_memory_equal(&a, &again, sizeof a);
	blast_synth_close(first);
	blast_synth_close(second);
}

/* The two ways to write an event down are the same event to the node's own parser. */
static void test_json_and_fields_agree(void **state)
{
	(void)state;
	struct blast_options options = options_make();
	struct blast_synth *synth = blast_synth_open(&options, 0);
	struct dp_json_scratch *scratch = dp_json_scratch_new();
	const struct dp_json_limits limits = {.now_ms = options.start_ms + 100000};
	for (int i = 0; i < 2000; i++) {
		struct blast_event event;
		bool copy;
		char json[BLAST_JSON_MAX], line[BLAST_LEDGER_LINE_MAX], id[TP_ID_BYTES_MAX + 1];
		blast_synth_next(synth, 0, &event, &copy);
		uint32_t bytes = blast_event_json(&options, &event, json);
		assert_true(bytes < BLAST_JSON_MAX);
		struct tp_parsed parsed;
		assert_int_equal(dp_json_event(scratch, json, bytes, &limits, &parsed).reason, TP_OK);
		struct blast_event_text text;
		struct tpc_event fields;
		blast_event_fields(&options, &event, &text, &fields);
#define SAME(which, field) \
	assert_true(parsed.string[which].bytes == strlen(field) && memcmp(parsed.string[which].at, field, strlen(field)) == 0)
		SAME(TP_AD_ID, fields.ad_id);
		SAME(TP_CAMPAIGN_ID, fields.campaign_id);
		SAME(TP_ADVERTISER_ID, fields.advertiser_id);
		SAME(TP_PUBLISHER_ID, fields.publisher_id);
		SAME(TP_USER_ID, fields.user_id);
		SAME(TP_DEVICE_ID, fields.device_id);
		SAME(TP_REGION, fields.region);
		SAME(TP_CITY, fields.city);
		SAME(TP_USER_AGENT, fields.user_agent);
		SAME(TP_REFERER, fields.referer);
		assert_true(parsed.fixed.type == fields.type && parsed.fixed.timestamp_ms == fields.timestamp_ms);
		assert_true(parsed.fixed.bid_micros == fields.bid_micros && parsed.fixed.click_position == fields.click_position);
		struct tp_addr ip;
		assert_int_equal(tp_addr_parse(fields.ip_address, strlen(fields.ip_address), &ip), 0);
		assert_memory_equal(ip.byte, parsed.fixed.ip, 16);
		parsed.fixed.string_bytes[TP_EVENT_ID] = 0;
		tp_event_id_text(&parsed.fixed, id);
		assert_string_equal(id, fields.event_id);
		char expected[BLAST_LEDGER_LINE_MAX];
		uint32_t line_bytes = blast_event_ledger(&options, &event, line);
		snprintf(expected, sizeof expected, "%s %s %s %llu %lld\n", id, tp_event_type_name(parsed.fixed.type),
			 fields.campaign_id, (unsigned long long)event.stamp_ms / 60000 * 60000, (long long)fields.bid_micros);
		assert_int_equal(line_bytes, strlen(expected));
		assert_memory_equal(line, expected, line_bytes);
	}
	dp_json_scratch_free(scratch);
	blast_synth_close(synth);
}

static void test_pace(void **state)
{
	(void)state;
	_Atomic bool stop = false;
	struct blast_options options = options_make();
	options.rate = 1000;
	options.threads = 2;
	options.events = 5;
	options.duration_ns = 10000000;
	struct blast_worker worker = {.options = &options, .stop = &stop, .thread = 0};
	blast_pace_init(&worker, 1000);
	assert_int_equal(worker.pace.limit, 3);
	assert_true(blast_pace_due(&worker, 1000));
	worker.pace.given = 1;
	assert_false(blast_pace_due(&worker, 1000 + 1999999));
	assert_true(blast_pace_due(&worker, 1000 + 2000000));
	assert_false(worker.pace.ended);
	assert_false(blast_pace_due(&worker, 1000 + 10000000));
	assert_true(worker.pace.ended);
	worker.thread = 1;
	blast_pace_init(&worker, 0);
	assert_int_equal(worker.pace.limit, 2);
	worker.pace.given = 2;
	assert_false(blast_pace_due(&worker, 5));
	assert_true(worker.pace.ended);
}

static void test_lines_without_the_rejected(void **state)
{
	(void)state;
	struct blast_worker worker = {.ledger_fd = 1};
	struct blast_lines lines = {0};
	blast_lines_add(&lines, "a\n", 2);
	blast_lines_add(&lines, NULL, 0); /* a copy */
	blast_lines_add(&lines, "b\n", 2);
	blast_lines_add(&lines, "c\n", 2);
	blast_lines_commit(&lines, &worker, NULL, 0);
	blast_lines_commit(&lines, &worker, (const uint32_t[]){0, 2}, 2);
	blast_lines_commit(&lines, &worker, (const uint32_t[]){0, 1, 2, 3, 77}, 5);
	blast_lines_commit(&lines, &worker, (const uint32_t[]){1, 3}, 2);
	assert_int_equal(worker.ledger_bytes, 12);
	assert_memory_equal(worker.ledger, "a\nb\nc\nc\na\nb\n", 12);
	blast_lines_free(&lines);
	free(worker.ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histogram_buckets),
		cmocka_unit_test(test_histogram_percentiles),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_reports),
		cmocka_unit_test(test_generator_shares),
		cmocka_unit_test(test_threads_have_different_events),
		cmocka_unit_test(test_json_and_fields_agree),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_lines_without_the_rejected),
	};
	return cmocka_run_group_tests_name("blast", tests, NULL, NULL);
}
