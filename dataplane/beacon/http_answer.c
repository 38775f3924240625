/*
 * Answers: see http_answer.h. Everything goes through a `struct sink`, a window over the answer's text: bytes before the window are
 * passed over, and it says when it is full. Pure; no allocation, no printf.
 * Source: RFC 9110 (fields), RFC 9457 (problems), the Fetch standard (CORS), contract section 5.
 */
#include "http_answer.h"

#include <string.h>

struct sink {
	char *to;
	size_t room, used;
	uint64_t skip;  /* bytes of the text before the window */
	uint64_t total; /* bytes of the text so far */
};

static void put(struct sink *sink, const char *bytes, size_t count)
{
	sink->total += count;
	if (sink->skip >= count) {
		sink->skip -= count;
		return;
	}
	bytes += sink->skip;
	count -= sink->skip;
	sink->skip = 0;
	size_t fits = sink->room - sink->used < count ? sink->room - sink->used : count;
	memcpy(sink->to + sink->used, bytes, fits);
	sink->used += fits;
}

#define PUT(sink, literal) put(sink, literal, sizeof(literal) - 1)

static void put_text(struct sink *sink, const char *text)
{
	put(sink, text, strlen(text));
}

static void put_number(struct sink *sink, uint64_t number)
{
	char text[20];
	size_t at = sizeof(text);
	do {
		text[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number != 0);
	put(sink, text + at, sizeof(text) - at);
}

/* Our own texts, which have no control characters. */
static void put_json_text(struct sink *sink, const char *text)
{
	PUT(sink, "\"");
	for (const char *stop; (stop = strpbrk(text, "\"\\")) != NULL; text = stop + 1) {
		put(sink, text, (size_t)(stop - text));
		PUT(sink, "\\");
		put(sink, stop, 1);
	}
	put_text(sink, text);
	PUT(sink, "\"");
}

/* One transparent pixel, GIF89a, 43 bytes. */
static const char gif[] =
	"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\x21\xf9\x04\x01\x00\x00\x00\x00\x2c\x00\x00\x00\x00"
	"\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

static const struct problem {
	uint16_t status;
	const char *title; /* and the reason phrase */
	const char *type;
	const char *detail; /* when nobody knows better */
} problems[] = {
	{400, "Bad Request", "malformed", "the request is malformed"},
	{401, "Unauthorized", "unauthorized", "a bearer token with the scope ingest is required"},
	{404, "Not Found", "not-found", "there is nothing at this path"},
	{405, "Method Not Allowed", "method-not-allowed", "the method is not one of those that Allow names"},
	{408, "Request Timeout", "timeout", "the request did not arrive in time"},
	{411, "Length Required", "length-required", "a POST needs Content-Length or Transfer-Encoding: chunked"},
	{413, "Content Too Large", "too-large", "the body is larger than 1 MiB"},
	{414, "URI Too Long", "target-too-long", "the request target is longer than 8192 bytes"},
	{415, "Unsupported Media Type", "unsupported-media-type",
	 "the content type must be application/json, application/x-ndjson, text/plain or none"},
	{417, "Expectation Failed", "expectation-failed", "the only expectation met here is 100-continue"},
	{429, "Too Many Requests", "rate-limited", "more requests a second than this source may send"},
	{431, "Request Header Fields Too Large", "headers-too-large", "the header lines are longer than 16384 bytes"},
	{501, "Not Implemented", "not-implemented", "the only transfer coding spoken here is chunked"},
	{503, "Service Unavailable", "unavailable", "events cannot be made durable now; sending them again is safe"},
	{505, "HTTP Version Not Supported", "version-not-supported", "only HTTP/1.1 and HTTP/1.0 are spoken here"},
};

static const struct problem *problem_of(uint16_t status)
{
	for (size_t i = 0; i < sizeof(problems) / sizeof(problems[0]); i++)
		if (problems[i].status == status)
			return &problems[i];
	return &problems[0];
}

/* ---- bodies ---- */

static void put_problem(struct sink *sink, const struct dp_answer *answer)
{
	const struct problem *problem = problem_of(answer->status);
	PUT(sink, "{\"type\":\"urn:turnpike:problem:");
	put_text(sink, problem->type);
	PUT(sink, "\",\"title\":\"");
	put_text(sink, problem->title);
	PUT(sink, "\",\"status\":");
	put_number(sink, answer->status);
	PUT(sink, ",\"detail\":");
	put_json_text(sink, answer->reason != TP_OK ? tp_reject_detail((enum tp_reject)answer->reason, (enum tp_field)answer->field)
			    : answer->why != NULL   ? answer->why
						    : problem->detail);
	if (answer->reason != TP_OK) { /* an extension member, RFC 9457 section 3.2 */
		PUT(sink, ",\"reason\":");
		put_json_text(sink, tp_reject_name((enum tp_reject)answer->reason));
	}
	PUT(sink, "}\n");
}

static void put_reject(struct sink *sink, const struct dp_body_reject *reject)
{
	PUT(sink, "\"reason\":");
	put_json_text(sink, tp_reject_name((enum tp_reject)reject->reason));
	PUT(sink, ",\"detail\":");
	put_json_text(sink, tp_reject_detail((enum tp_reject)reject->reason, (enum tp_field)reject->field));
	PUT(sink, "}");
}

static void put_report_begin(struct sink *sink, const struct dp_answer *answer)
{
	PUT(sink, "{\"accepted\":");
	put_number(sink, answer->accepted);
	PUT(sink, ",\"duplicates\":");
	put_number(sink, answer->duplicates);
	PUT(sink, ",\"late\":");
	put_number(sink, answer->late);
	PUT(sink, ",\"conflicts\":");
	put_number(sink, answer->conflicts);
	PUT(sink, ",\"rejected\":[");
}

static void put_report_item(struct sink *sink, const struct dp_answer *answer, uint32_t item)
{
	const struct dp_body_reject *reject = &answer->reject[item];
	if (item != 0)
		PUT(sink, ",");
	PUT(sink, "{\"index\":");
	put_number(sink, reject->index);
	PUT(sink, ",");
	put_reject(sink, reject);
}

static void put_verdict_begin(struct sink *sink, const struct dp_answer *answer)
{
	static const char *const forms[] = {[DP_BODY_SINGLE] = "single", [DP_BODY_ARRAY] = "array", [DP_BODY_LINES] = "lines"};
	PUT(sink, "{\"form\":");
	put_json_text(sink, forms[answer->form]);
	PUT(sink, ",\"refused\":");
	put_text(sink, answer->refused_whole ? "true" : "false");
	PUT(sink, ",\"valid\":");
	put_number(sink, answer->refused_whole ? 0 : answer->events - answer->rejects);
	PUT(sink, ",\"rejected\":");
	put_number(sink, answer->rejects);
	PUT(sink, ",\"events\":[");
}

/* *next_reject is the first one not told yet. */
static void put_verdict_item(struct sink *sink, const struct dp_answer *answer, uint32_t item, uint32_t *next_reject)
{
	const struct dp_body_reject *reject = *next_reject < answer->rejects ? &answer->reject[*next_reject] : NULL;
	uint32_t index = answer->refused_whole && reject != NULL ? reject->index : item;
	if (item != 0)
		PUT(sink, ",");
	PUT(sink, "{\"index\":");
	put_number(sink, index);
	if (reject != NULL && reject->index == index) {
		++*next_reject;
		PUT(sink, ",\"verdict\":\"rejected\",");
		put_reject(sink, reject);
	} else {
		PUT(sink, ",\"verdict\":\"valid\"}");
	}
}

static uint32_t items_of(const struct dp_answer *answer)
{
	if (answer->kind == DP_ANSWER_REPORT || answer->refused_whole)
		return answer->rejects;
	return answer->events;
}

static void put_list_begin(struct sink *sink, const struct dp_answer *answer)
{
	if (answer->kind == DP_ANSWER_REPORT)
		put_report_begin(sink, answer);
	else
		put_verdict_begin(sink, answer);
}

/* The body's bytes from `from` on. The walk begins with the last item that is known to begin at or before `from`. */
static void put_list(struct sink *sink, struct dp_answer *answer, uint64_t from)
{
	if (answer->item_at == 0) {
		struct sink measure = {.skip = UINT64_MAX};
		put_list_begin(&measure, answer);
		answer->item_at = measure.total;
	}
	if (from < answer->item_at)
		put_list_begin(sink, answer);
	else
		sink->skip = from - answer->item_at;

	uint32_t next_reject = answer->item_reject;
	uint64_t at = answer->item_at;
	for (uint32_t item = answer->item, items = items_of(answer); item < items; item++) {
		if (sink->room != 0 && sink->used == sink->room)
			return;
		uint64_t before = sink->total;
		if (answer->kind == DP_ANSWER_REPORT)
			put_report_item(sink, answer, item);
		else
			put_verdict_item(sink, answer, item, &next_reject);
		at += sink->total - before;
		if (at <= from) { /* the peer's transport has all of this item: never again */
			answer->item = item + 1;
			answer->item_reject = next_reject;
			answer->item_at = at;
		}
	}
	PUT(sink, "]}\n");
}

static void put_body(struct sink *sink, struct dp_answer *answer, uint64_t from)
{
	switch (answer->kind) {
	case DP_ANSWER_GIF:
		put(sink, gif, sizeof(gif) - 1);
		break;
	case DP_ANSWER_HEALTH:
		PUT(sink, "ok\n");
		break;
	case DP_ANSWER_REPORT:
	case DP_ANSWER_VERDICT:
		put_list(sink, answer, from);
		break;
	case DP_ANSWER_PROBLEM:
		put_problem(sink, answer);
		break;
	default:
		break;
	}
}

/* ---- heads ---- */

static void put_problem_fields(struct sink *sink, const struct dp_answer *answer)
{
	if (answer->status == 401)
		PUT(sink, "WWW-Authenticate: Bearer\r\n");
	if (answer->status == 405) {
		PUT(sink, "Allow: ");
		put_text(sink, dp_route_methods((enum dp_route)answer->route));
		PUT(sink, "\r\n");
	}
	if (answer->status == 415 && answer->accept_gzip)
		PUT(sink, "Accept-Encoding: gzip\r\n");
	if (answer->status == 503 || answer->status == 429) {
		PUT(sink, "Retry-After: ");
		put_number(sink, DP_HTTP_RETRY_AFTER_S);
		PUT(sink, "\r\n");
	}
}

static void put_head(struct sink *sink, const struct dp_answer *answer)
{
	switch (answer->kind) {
	case DP_ANSWER_CONTINUE:
		PUT(sink, "HTTP/1.1 100 Continue\r\n\r\n");
		return;
	case DP_ANSWER_EMPTY:
		PUT(sink, "HTTP/1.1 204 No Content\r\n");
		break;
	case DP_ANSWER_PREFLIGHT:
		PUT(sink, "HTTP/1.1 204 No Content\r\nAllow: ");
		put_text(sink, dp_route_methods((enum dp_route)answer->route));
		PUT(sink, "\r\nAccess-Control-Allow-Methods: ");
		put_text(sink, dp_route_methods((enum dp_route)answer->route));
		PUT(sink, "\r\nAccess-Control-Allow-Headers: Authorization, Content-Encoding, Content-Type\r\n"
			  "Access-Control-Max-Age: ");
		put_number(sink, DP_HTTP_PREFLIGHT_AGE_S);
		PUT(sink, "\r\n");
		break;
	case DP_ANSWER_GIF:
		PUT(sink, "HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nCache-Control: no-store\r\n");
		break;
	case DP_ANSWER_HEALTH:
		PUT(sink, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n");
		break;
	case DP_ANSWER_REPORT:
	case DP_ANSWER_VERDICT:
		PUT(sink, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n");
		break;
	default:
		PUT(sink, "HTTP/1.1 ");
		put_number(sink, answer->status);
		PUT(sink, " ");
		put_text(sink, problem_of(answer->status)->title);
		PUT(sink, "\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n");
		put_problem_fields(sink, answer);
		break;
	}
	PUT(sink, "Access-Control-Allow-Origin: *\r\n");
	if (answer->close)
		PUT(sink, "Connection: close\r\n");
	else if (answer->keep_alive)
		PUT(sink, "Connection: keep-alive\r\n");
	if (answer->kind != DP_ANSWER_EMPTY && answer->kind != DP_ANSWER_PREFLIGHT) { /* RFC 9110 section 8.6: never with 204 */
		PUT(sink, "Content-Length: ");
		put_number(sink, answer->body_bytes);
		PUT(sink, "\r\n");
	}
	PUT(sink, "\r\n");
}

/* What nearly every beacon gets. Any other is put together by put_head(), as this one is where it stays open or closes by word. */
static const char plain[] = "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n";

static bool is_plain(const struct dp_answer *answer)
{
	return answer->kind == DP_ANSWER_EMPTY && !answer->close && !answer->keep_alive;
}

uint64_t dp_answer_begin(struct dp_answer *answer)
{
	if (is_plain(answer))
		return sizeof(plain) - 1;
	answer->item = answer->item_reject = 0;
	answer->item_at = 0;
	struct sink body = {.skip = UINT64_MAX};
	put_body(&body, answer, 0);
	answer->body_bytes = body.total;
	answer->item = answer->item_reject = 0;
	answer->item_at = 0;
	struct sink head = {.skip = UINT64_MAX};
	put_head(&head, answer);
	return head.total + (answer->head_only ? 0 : answer->body_bytes);
}

size_t dp_answer_render(struct dp_answer *answer, uint64_t from, char *to, size_t room)
{
	struct sink sink = {.to = to, .room = room, .skip = from};
	if (is_plain(answer)) {
		put(&sink, plain, sizeof(plain) - 1);
		return sink.used;
	}
	put_head(&sink, answer);
	uint64_t head_bytes = sink.total;
	if (answer->head_only || sink.used == room)
		return sink.used;
	put_body(&sink, answer, from > head_bytes ? from - head_bytes : 0);
	return sink.used;
}
