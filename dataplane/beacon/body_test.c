/*
 * Bodies: one value, array or lines; what is staged, what is rejected, what is refused, and whether the books balance. The intake
 * here is a list of what was staged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dp_intake {
	struct tp_counters counters;
	uint32_t room; /* so many events, then -EAGAIN */
	uint32_t staged;
	char ids[4096]; /* of the staged, with a space behind each */
	struct tp_event last;
	struct dp_dead dead;
};

static struct tp_hop dead_ring;

int dp_intake_stage(struct dp_intake *intake, struct dp_request *request, const struct tp_parsed *parsed, uint32_t index)
{
	(void)index;
	assert_non_null(request);
	if (intake->room == 0)
		return -EAGAIN;
	intake->room--;
	intake->staged++;
	size_t used = strlen(intake->ids);
	const struct tp_str *id = &parsed->string[TP_EVENT_ID];
	if (used + id->bytes + 2 < sizeof intake->ids)
		snprintf(intake->ids + used, sizeof intake->ids - used, "%.*s ", id->bytes, id->at);
	intake->last = parsed->fixed;
	return 0;
}

struct tp_meter *dp_intake_meter(struct dp_intake *intake)
{
	static struct tp_meter never;
	(void)intake;
	return &never;
}

struct tp_counters *dp_intake_counters(struct dp_intake *intake)
{
	return &intake->counters;
}

uint64_t dp_intake_now_ms(const struct dp_intake *intake)
{
	(void)intake;
	return 1700000000000;
}

struct dp_dead *dp_intake_dead(struct dp_intake *intake)
{
	if (!intake->dead.ring) { /* a new intake: the ring is empty */
		tp_hop_fini(&dead_ring);
		assert_int_equal(tp_hop_init(&dead_ring, 1 << 20), 0);
		dp_dead_init(&intake->dead, &dead_ring, &intake->counters, 100000, 1 << 30);
	}
	return &intake->dead;
}

void dp_intake_dead_commit(struct dp_intake *intake)
{
	dp_dead_commit(dp_intake_dead(intake));
}

static struct dp_json_scratch *scratch;
static struct dp_body_reject *rejects;
static const struct dp_json_limits limits = {.now_ms = 1700000000000, .max_future_ms = 60000};
static const struct dp_body_source no_source;

static const uint16_t reject_counters[] = {TP_C_EVENTS_MALFORMED, TP_C_EVENTS_MISSING_FIELD, TP_C_EVENTS_BAD_TYPE,
					   TP_C_EVENTS_BAD_VALUE, TP_C_EVENTS_TOO_LONG,      TP_C_EVENTS_DUPLICATE_KEY,
					   TP_C_EVENTS_BAD_UTF8,  TP_C_EVENTS_FUTURE,        TP_C_EVENTS_TOO_LARGE};

static uint64_t rejected(const struct dp_intake *intake)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < sizeof reject_counters / sizeof reject_counters[0]; i++)
		sum += intake->counters.v[reject_counters[i]];
	return sum;
}

/* A letter per event that was rejected alone, one for a body that was refused, none for one that comes again. */
static void letters_check(struct dp_intake *intake, const struct dp_body_result *result)
{
	uint32_t letters = 0;
	dp_intake_dead(intake);
	for (struct tp_slot *slot; (slot = tp_hop_take(&dead_ring)) != NULL; letters++) {
		const struct tp_dead_letter *letter = tp_dead_letter_of(&slot->event);
		assert_true(letter && tp_dead_letter_valid(letter, letter->bytes));
		assert_int_equal(letter->reason, rejects[letters].reason);
		assert_int_equal(letter->index, rejects[letters].index);
		assert_int_equal(letter->part, result->outcome == DP_BODY_REFUSED && result->form != DP_BODY_SINGLE
						       ? TP_DEAD_BODY
						       : TP_DEAD_EVENT);
	}
	uint32_t wanted = result->outcome == DP_BODY_REFUSED ? 1 : result->outcome == DP_BODY_STAGED ? result->rejects : 0;
	assert_int_equal(letters + intake->counters.v[TP_C_DEAD_RING_FULL], wanted);
	assert_int_equal(intake->counters.v[TP_C_DEAD_RECEIVED], wanted);
}

static void balance_check(struct dp_intake *intake, const struct dp_body_result *result)
{
	const uint64_t *v = intake->counters.v;
	letters_check(intake, result);
	switch (result->outcome) {
	case DP_BODY_STAGED:
		assert_int_equal(v[TP_C_EVENTS_RECEIVED], rejected(intake) + intake->staged);
		assert_int_equal(v[TP_C_EVENTS_ROLLED_BACK], 0);
		assert_int_equal(rejected(intake), result->rejects);
		break;
	case DP_BODY_REFUSED:
		assert_int_equal(v[TP_C_EVENTS_RECEIVED], rejected(intake) + v[TP_C_EVENTS_ROLLED_BACK]);
		assert_int_equal(v[TP_C_EVENTS_ROLLED_BACK], intake->staged);
		assert_in_range(rejected(intake), 1, UINT32_MAX);
		break;
	default:
		assert_int_equal(v[TP_C_EVENTS_RECEIVED] + rejected(intake) + v[TP_C_EVENTS_ROLLED_BACK], 0);
		return;
	}
	assert_int_equal(v[TP_C_EVENTS_RECEIVED], result->events);
}

/* E(id) is a valid event; the others are wrong in one way each. */
#define E(id) \
	"{\"event_id\":\"" id \
	"\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}"
#define PRETTY(id) \
	"{\n  \"event_id\": \"" id "\",\n  \"event_type\": \"click\",\r\n  \"timestamp\": 1,\n  \"ad_id\": \"a\",\n" \
	"  \"campaign_id\": \"c\",\n  \"advertiser_id\": \"v\"\n}"
#define MISSING   "{\"event_type\":\"click\"}"
#define DUPLICATE "{\"x\":1,\"x\":1}"

struct sample {
	const char *body;
	enum dp_body_outcome outcome;
	enum dp_body_form form;
	uint32_t events;
	const char *staged;  /* "id id " */
	const char *rejects; /* "index:reason index:reason " */
};

/* clang-format off */
static const struct sample samples[] = {
	/* one value */
	{E("1"), DP_BODY_STAGED, DP_BODY_SINGLE, 1, "1 ", ""},
	{" \t\r\n" E("1") "\r\n \t", DP_BODY_STAGED, DP_BODY_SINGLE, 1, "1 ", ""},
	{PRETTY("1"), DP_BODY_STAGED, DP_BODY_SINGLE, 1, "1 ", ""},
	{PRETTY("1") "\n", DP_BODY_STAGED, DP_BODY_SINGLE, 1, "1 ", ""},
	{MISSING, DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:missing_field "},
	{"{\n\"event_type\":1}", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:bad_type "},
	{DUPLICATE, DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:duplicate_key "},
	{"{}", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:missing_field "},
	{"1", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:bad_type "}, {"\"x\"", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:bad_type "},
	{"null\n", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:bad_type "},
	/* no JSON at all */
	{"", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:malformed "}, {" \r\n\t", DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:malformed "},
	{"\xef\xbb\xbf" E("1"), DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:malformed "},
	{"\xef\xbb\xbf" E("1") "\n" E("2"), DP_BODY_REFUSED, DP_BODY_SINGLE, 1, "", "0:malformed "},
	{"hello", DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "}, {"{", DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "},
	{"a=1&b=2", DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "},
	{"<x>\n</x>\n", DP_BODY_REFUSED, DP_BODY_LINES, 2, "", "0:malformed "},
	{E("1") "x", DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "}, {E("1") E("2"), DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "},
	{E("1") "," E("2"), DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "}, {"nan", DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "},
	/* arrays */
	{"[]", DP_BODY_STAGED, DP_BODY_ARRAY, 0, "", ""}, {" [ \n ] ", DP_BODY_STAGED, DP_BODY_ARRAY, 0, "", ""},
	{"[" E("1") "]", DP_BODY_STAGED, DP_BODY_ARRAY, 1, "1 ", ""},
	{"[" E("1") "," E("2") ", " E("3") " ]", DP_BODY_STAGED, DP_BODY_ARRAY, 3, "1 2 3 ", ""},
	{"[\n" PRETTY("1") ",\n" PRETTY("2") "\n]\n", DP_BODY_STAGED, DP_BODY_ARRAY, 2, "1 2 ", ""},
	{"[" E("1") "," MISSING "," E("2") ",7,null,[" E("x") "]," DUPLICATE "]", DP_BODY_STAGED, DP_BODY_ARRAY, 7, "1 2 ",
	 "1:missing_field 3:bad_type 4:bad_type 5:bad_type 6:duplicate_key "},
	{"[1]", DP_BODY_STAGED, DP_BODY_ARRAY, 1, "", "0:bad_type "}, {"[[]]", DP_BODY_STAGED, DP_BODY_ARRAY, 1, "", "0:bad_type "},
	{"[\"\xff\"]", DP_BODY_STAGED, DP_BODY_ARRAY, 1, "", "0:bad_type "},
	/* a syntax error inside an array refuses the whole body: what was staged is rolled back */
	{"[", DP_BODY_REFUSED, DP_BODY_ARRAY, 1, "", "0:malformed "}, {"[" E("1"), DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "},
	{"[" E("1") ",", DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "}, {"[" E("1") ",]", DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "},
	{"[" E("1") "," MISSING ",tru," E("2") "]", DP_BODY_REFUSED, DP_BODY_ARRAY, 3, "1 ", "2:malformed "},
	{"[" E("1") " " E("2") "]", DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "}, {"[,]", DP_BODY_REFUSED, DP_BODY_ARRAY, 1, "", "0:malformed "},
	{"[" E("1") "}", DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "}, {"[" E("1") "] x", DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "},
	{"[]]", DP_BODY_REFUSED, DP_BODY_ARRAY, 1, "", "0:malformed "}, {"[][]", DP_BODY_REFUSED, DP_BODY_ARRAY, 1, "", "0:malformed "},
	{"[" E("1") "\n" E("2") "]", DP_BODY_REFUSED, DP_BODY_ARRAY, 2, "1 ", "1:malformed "},
	{"[oops\n" E("1") "\n" E("2"), DP_BODY_REFUSED, DP_BODY_ARRAY, 1, "", "0:malformed "},
	/* an array that is only a line */
	{"[" E("1") "]\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 2, "2 ", "0:bad_type "},
	{"[]\n[]", DP_BODY_STAGED, DP_BODY_LINES, 2, "", "0:bad_type 1:bad_type "},
	{"[1] x\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 2, "2 ", "0:malformed "},
	{"[\n" E("1") "]\nx", DP_BODY_REFUSED, DP_BODY_LINES, 3, "", "0:malformed "},
	{"[\n" E("1") "]\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 3, "2 ", "0:malformed 1:malformed "},
	/* lines */
	{E("1") "\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 2, "1 2 ", ""}, {E("1") "\r\n" E("2") "\r\n", DP_BODY_STAGED, DP_BODY_LINES, 2, "1 2 ", ""},
	{"\n\n" E("1") "\n \t\r\n\n " E("2") " \n\n", DP_BODY_STAGED, DP_BODY_LINES, 2, "1 2 ", ""},
	{E("1") "\nbroken\n" E("2") "\n{\"x\":\n" MISSING "\n" E("3") " x\n4\n" E("5"), DP_BODY_STAGED, DP_BODY_LINES, 8, "1 2 5 ",
	 "1:malformed 3:malformed 4:missing_field 5:malformed 6:bad_type "},
	{"broken\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 2, "2 ", "0:malformed "},
	{MISSING "\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 2, "2 ", "0:missing_field "},
	{"1\n2", DP_BODY_STAGED, DP_BODY_LINES, 2, "", "0:bad_type 1:bad_type "}, {MISSING "\n" MISSING, DP_BODY_STAGED, DP_BODY_LINES, 2, "", "0:missing_field 1:missing_field "},
	{E("1") "\n" E("2") "\n{\"event_id\":", DP_BODY_STAGED, DP_BODY_LINES, 3, "1 2 ", "2:malformed "},
	{PRETTY("1") "\n" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 9, "2 ",
	 "0:malformed 1:malformed 2:malformed 3:malformed 4:malformed 5:malformed 6:malformed 7:malformed "},
	{E("1") "\r" E("2"), DP_BODY_REFUSED, DP_BODY_LINES, 1, "", "0:malformed "}, {"x\ny\n\nz", DP_BODY_REFUSED, DP_BODY_LINES, 3, "", "0:malformed "},
	{E("1") "\n" "\xef\xbb\xbf" E("2"), DP_BODY_STAGED, DP_BODY_LINES, 2, "1 ", "1:malformed "},
};
/* clang-format on */

static struct dp_body_result run(struct dp_intake *intake, bool debug, const char *body, size_t bytes,
				 const struct dp_body_source *source)
{
	static struct dp_request request;
	/* exactly its size, so that a sanitizer sees a read behind it */
	char *exact = malloc(bytes ? bytes : 1);
	if (!exact)
		abort();
	memcpy(exact, body, bytes);
	struct dp_body_result result =
		dp_body_stage(debug ? NULL : intake, scratch, debug ? NULL : &request, exact, bytes, &limits, source, rejects);
	free(exact);
	return result;
}

static void rejects_spell(const struct dp_body_result *result, char *text, size_t room)
{
	size_t used = 0;
	text[0] = 0;
	for (uint32_t i = 0; i < result->rejects; i++)
		used += (size_t)snprintf(text + used, room - used, "%u:%s ", rejects[i].index,
					 tp_reject_name((enum tp_reject)rejects[i].reason));
}

static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
		const struct sample *s = &samples[i];
		for (int debug = 0; debug < 2; debug++) {
			struct dp_intake intake = {.room = UINT32_MAX};
			struct dp_body_result result = run(&intake, debug, s->body, strlen(s->body), &no_source);
			char text[1024];
			rejects_spell(&result, text, sizeof text);
			if (result.outcome != s->outcome || result.form != s->form || result.events != s->events ||
			    strcmp(text, s->rejects) || (!debug && strcmp(intake.ids, s->staged)))
				fail_msg("sample %zu (%s): outcome %d form %d events %u staged %s rejects %s", i, s->body,
					 result.outcome, result.form, result.events, intake.ids, text);
			if (!debug)
				balance_check(&intake, &result);
			else
				assert_int_equal(intake.staged, 0);
		}
	}
}

/* Where each sample is cut off does not matter: something sane comes out, and the books balance. */
static void test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
		for (size_t cut = 0; cut < strlen(samples[i].body); cut++) {
			struct dp_intake intake = {.room = UINT32_MAX};
			struct dp_body_result result = run(&intake, false, samples[i].body, cut, &no_source);
			assert_int_not_equal(result.outcome, DP_BODY_FULL);
			balance_check(&intake, &result);
		}
	}
}

static void test_full_ring(void **state)
{
	(void)state;
	static const char *const bodies[] = {"[" E("1") "," MISSING "," E("2") "," E("3") "]",
					     E("1") "\n" MISSING "\n" E("2") "\nx\n" E("3")};
	for (size_t i = 0; i < 2; i++) {
		for (uint32_t room = 0; room < 4; room++) {
			struct dp_intake intake = {.room = room};
			struct dp_body_result result = run(&intake, false, bodies[i], strlen(bodies[i]), &no_source);
			assert_int_equal(result.outcome, room < 3 ? DP_BODY_FULL : DP_BODY_STAGED);
			assert_int_equal(intake.staged, room);
			balance_check(&intake, &result);
		}
	}
	struct dp_intake intake = {.room = 0};
	assert_int_equal(run(&intake, false, E("1"), strlen(E("1")), &no_source).outcome, DP_BODY_FULL);
	/* full before the array turns out to be broken: the body comes again, and is refused then */
	assert_int_equal(run(&intake, false, "[" E("1") ",", strlen("[" E("1") ","), &no_source).outcome, DP_BODY_FULL);
}

/* `count` times `text`, with `between` them. */
static char *repeat(const char *before, const char *text, const char *between, const char *behind, uint32_t count, size_t *bytes)
{
	size_t room = strlen(before) + count * (strlen(text) + strlen(between)) + strlen(behind) + 1;
	char *body = malloc(room);
	if (!body)
		abort();
	size_t at = strlen(before);
	memcpy(body, before, at);
	for (uint32_t i = 0; i < count; i++) {
		memcpy(body + at, text, strlen(text));
		at += strlen(text);
		if (i + 1 < count) {
			memcpy(body + at, between, strlen(between));
			at += strlen(between);
		}
	}
	memcpy(body + at, behind, strlen(behind) + 1);
	*bytes = at + strlen(behind);
	return body;
}

static void test_too_many(void **state)
{
	(void)state;
	for (uint32_t over = 0; over < 2; over++) {
		for (int form = 0; form < 4; form++) {
			size_t bytes;
			const char *text = form < 2 ? E("1") : "7";
			char *body = form % 2 ? repeat("[", text, ",", "]", DP_BODY_EVENTS_MAX + over, &bytes)
					      : repeat("", text, "\n", "\n", DP_BODY_EVENTS_MAX + over, &bytes);
			struct dp_intake intake = {.room = UINT32_MAX};
			struct dp_body_result result = run(&intake, false, body, bytes, &no_source);
			assert_int_equal(result.outcome, over ? DP_BODY_REFUSED : DP_BODY_STAGED);
			if (over) {
				assert_int_equal(rejects[0].reason, TP_TOO_LARGE);
				assert_int_equal(rejects[0].index, DP_BODY_EVENTS_MAX);
				assert_int_equal(intake.counters.v[TP_C_EVENTS_TOO_LARGE], 1);
			}
			assert_int_equal(intake.staged, form < 2 ? DP_BODY_EVENTS_MAX : 0);
			balance_check(&intake, &result);
			free(body);
		}
	}
}

/* Long bodies: events lie across every boundary that the parser may have. */
static void test_long(void **state)
{
	(void)state;
	static const char *const blanks[] = {"", " ", "  ", "       "};
	for (size_t i = 0; i < 4; i++) {
		char between[16];
		size_t bytes;
		struct dp_intake intake = {.room = UINT32_MAX};
		snprintf(between, sizeof between, "%s,%s", blanks[i], blanks[3 - i]);
		char *body = repeat("[", E("id"), between, "]", 3000, &bytes);
		struct dp_body_result result = run(&intake, false, body, bytes, &no_source);
		assert_int_equal(result.outcome, DP_BODY_STAGED);
		assert_int_equal(intake.staged, 3000);
		free(body);
		snprintf(between, sizeof between, "%s\n%s", blanks[i], blanks[3 - i]);
		body = repeat("", E("id"), between, "\r\n", 3000, &bytes);
		result = run(&intake, false, body, bytes, &no_source);
		assert_int_equal(result.outcome, DP_BODY_STAGED);
		assert_int_equal(intake.staged, 6000);
		free(body);
	}
}

static void test_source(void **state)
{
	(void)state;
	static const char with_ip[] =
		"{\"ip_address\":\"192.0.2.9\",\"event_id\":\"1\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\","
		"\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}";
	struct dp_body_source source = {.has_ip = true};
	assert_int_equal(tp_addr_parse("203.0.113.7", 11, &source.ip), 0);
	struct dp_intake intake = {.room = UINT32_MAX};

	run(&intake, false, E("1"), strlen(E("1")), &source);
	assert_int_equal(intake.last.flags & (TP_HAS_IP | TP_IP_SENT), TP_HAS_IP);
	assert_memory_equal(intake.last.ip, source.ip.byte, 16);
	uint64_t fingerprint = intake.last.fingerprint;

	run(&intake, false, E("1"), strlen(E("1")), &no_source);
	assert_int_equal(intake.last.flags & (TP_HAS_IP | TP_IP_SENT), 0);
	assert_true(intake.last.fingerprint == fingerprint); /* the same payload by another way */

	run(&intake, false, with_ip, strlen(with_ip), &source);
	assert_int_equal(intake.last.flags & (TP_HAS_IP | TP_IP_SENT), TP_HAS_IP | TP_IP_SENT);
	assert_int_equal(intake.last.ip[15], 9);
}

static void test_trace(void **state)
{
	(void)state;
	static const char bad[] = "{\"trace\":\"?\",\"event_id\":\"1\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\","
				  "\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}";
	char body[1024];
	struct dp_intake intake = {.room = UINT32_MAX};
	snprintf(body, sizeof body, "[%s,%s,%s]", bad, E("2"), bad);
	assert_int_equal(run(&intake, false, body, strlen(body), &no_source).outcome, DP_BODY_STAGED);
	assert_int_equal(intake.counters.v[TP_C_EVENTS_BAD_TRACE], 2);
	assert_int_equal(intake.staged, 3);
}

static int begin(void **state)
{
	(void)state;
	scratch = dp_json_scratch_new();
	rejects = malloc(DP_BODY_EVENTS_MAX * sizeof *rejects);
	return !scratch || !rejects;
}

static int end(void **state)
{
	(void)state;
	dp_json_scratch_free(scratch);
	free(rejects);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),  cmocka_unit_test(test_cut),  cmocka_unit_test(test_full_ring),
		cmocka_unit_test(test_too_many), cmocka_unit_test(test_long), cmocka_unit_test(test_source),
		cmocka_unit_test(test_trace),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
