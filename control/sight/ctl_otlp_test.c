/* Spans as OTLP's JSON, and the rings that they come from. */
#include "ctl_otlp.h"
#include "turnpike/event.h"

#include <inttypes.h>
#include <setjmp.h> /* cmocka */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct tp_span example = {
	.trace_id = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36},
	.parent_id = {0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7},
	.received_ns = 1000,
	.complete_ns = 1500,
	.parsed_ns = 2000,
	.decided_ns = 3000,
	.durable_ns = 500000,
	.answered_ns = 500700,
	.cpu = 3,
	.shard = 1,
	.verdict = TP_DUPLICATE,
};

static const char *text_of(json_t *span, const char *key)
{
	const char *text = json_string_value(json_object_get(span, key));
	assert_non_null(text);
	return text;
}

/* The event's span has the sender's as its parent; the steps follow each other without a gap and lie inside it. */
static void an_event_becomes_six_spans(void **state)
{
	static const char *const name[] = {"event", "receive", "parse", "shard", "durable", "answer"};
	struct ctl_otlp_ids ids = {42};
	json_t *spans = json_array();

	(void)state;
	ctl_otlp_event(spans, &example, 1700000000000000000LL, &ids);
	assert_int_equal(json_array_size(spans), 6);
	json_t *root = json_array_get(spans, 0);
	assert_string_equal(text_of(root, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
	assert_string_equal(text_of(root, "parentSpanId"), "00f067aa0ba902b7");
	assert_string_equal(text_of(root, "startTimeUnixNano"), "1700000000000001000");
	assert_string_equal(text_of(root, "endTimeUnixNano"), "1700000000000500700");
	assert_int_equal(json_integer_value(json_object_get(root, "kind")), 2);
	const char *until = text_of(root, "startTimeUnixNano");
	for (size_t i = 0; i < 6; i++) {
		json_t *span = json_array_get(spans, i);
		assert_string_equal(text_of(span, "name"), name[i]);
		assert_string_equal(text_of(span, "traceId"), text_of(root, "traceId"));
		assert_int_equal(strlen(text_of(span, "spanId")), 16);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(text_of(span, "spanId"), text_of(json_array_get(spans, k), "spanId"));
		if (i == 0)
			continue;
		assert_string_equal(text_of(span, "parentSpanId"), text_of(root, "spanId"));
		assert_string_equal(text_of(span, "startTimeUnixNano"), until);
		until = text_of(span, "endTimeUnixNano");
	}
	assert_string_equal(until, text_of(root, "endTimeUnixNano"));
	json_t *message = ctl_otlp_message(spans, "edge-1", "0.1.0");
	assert_non_null(message);
	char *text = json_dumps(message, JSON_COMPACT);
	assert_non_null(strstr(
		text, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":"
		      "\"turnpike\"}}"));
	assert_non_null(strstr(text, "{\"key\":\"turnpike.verdict\",\"value\":{\"stringValue\":\"duplicate\"}}"));
	assert_non_null(strstr(text, "{\"key\":\"turnpike.shard\",\"value\":{\"intValue\":\"1\"}}"));
	free(text);
	json_decref(message);
}

static void a_request_becomes_one_span(void **state)
{
	struct ctl_otlp_request request = {
		.began_ns = 5, .answered_ns = 9, .status = 503, .method = "GET", .route = "/api/v1/live"};
	struct ctl_otlp_ids ids = {7};
	json_t *spans = json_array();

	(void)state;
	assert_true(tp_trace_parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 55, &request.trace));
	ctl_otlp_answer(spans, &request, 0, &ids);
	json_t *span = json_array_get(spans, 0);
	assert_string_equal(text_of(span, "name"), "GET /api/v1/live");
	assert_string_equal(text_of(span, "parentSpanId"), "00f067aa0ba902b7");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(span, "status"), "code")), 2);
	json_decref(spans);
}

static void contexts_are_read_strictly(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} row[] = {
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true},
		{"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false},
		{"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
		{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", false},
		{"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
		{"", false},
	};
	struct tp_trace trace;

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (tp_trace_parse(row[i].text, strlen(row[i].text), &trace) != row[i].good)
			fail_msg("%s", row[i].text);
}

/* A reader that is too slow is told how many it lost, and gets the newest TP_SPANS whole. */
static void a_ring_is_written_over_and_says_so(void **state)
{
	static struct tp_span_ring ring;
	struct tp_span span = example, got;
	uint64_t next = 0, lost = 0, taken = 0;

	(void)state;
	assert_int_equal(tp_span_take(&ring, &next, &lost, &got), 0);
	for (uint64_t i = 0; i < TP_SPANS + 40; i++) {
		span.received_ns = i;
		tp_span_put(&ring, &span);
	}
	while (tp_span_take(&ring, &next, &lost, &got))
		assert_int_equal(got.received_ns, 40 + taken++);
	assert_int_equal(taken, TP_SPANS);
	assert_int_equal(lost, 40);
	/* a slot in mid-write is not taken for a span */
	tp_span_put(&ring, &span);
	atomic_fetch_sub(&ring.slot[(TP_SPANS + 40) & (TP_SPANS - 1)].stamp, 1);
	assert_int_equal(tp_span_take(&ring, &next, &lost, &got), 0);
	assert_int_equal(lost, 41);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_becomes_six_spans),
		cmocka_unit_test(a_request_becomes_one_span),
		cmocka_unit_test(contexts_are_read_strictly),
		cmocka_unit_test(a_ring_is_written_over_and_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
