/*
 * The event parser against others, on generated and mutated texts.
 *
 *   - Every variant against the scalar one: the whole result and every field must be the same, and the record that of a plain finish.
 *   - Against jansson: "is this well-formed JSON without duplicate keys" must have the same answer.
 *
 * Known differences to jansson, which are left out of the comparison: it refuses numbers that a double or 64 bits cannot hold, NUL in
 * keys, and nesting beyond 2048 where we refuse it beyond 64; and it loses a raw NUL that follows a number. What runs into one of
 * these is skipped.
 *
 * The seed is fixed, so that a failure repeats; JSON_SEED=n tries another, JSON_ROUNDS=n goes on longer.
 */
#include "json_parse.h"
#include "json_test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 16384 };

static const struct dp_json_limits limits = {.now_ms = 1700000000000, .max_future_ms = 60000};

static uint64_t random_state;

static uint64_t random_next(void)
{
	/* splitmix64 */
	uint64_t z = random_state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint32_t below(uint32_t limit)
{
	return (uint32_t)((random_next() >> 32) * limit >> 32);
}

#define PICK(list) (list)[below(sizeof(list) / sizeof(list)[0])]

struct text {
	char at[TEXT_BYTES_MAX];
	size_t bytes;
};

static void put(struct text *t, const char *what)
{
	size_t bytes = strlen(what);
	if (t->bytes + bytes > sizeof t->at)
		bytes = sizeof t->at - t->bytes;
	memcpy(t->at + t->bytes, what, bytes);
	t->bytes += bytes;
}

static void put_space(struct text *t)
{
	static const char *const spaces[] = {"", "", "", "", "", "", " ", "  ", "\n", "\r\n\t"};
	put(t, PICK(spaces));
}

static void put_string(struct text *t)
{
	static const char *const parts[] = {"a",
					    "xyz",
					    "0123456789abcdef",
					    "\\n",
					    "\\\"",
					    "\\\\",
					    "\\/",
					    "\\u0041",
					    "\\u00e9",
					    "\\ud83d\\ude00",
					    "\\ud83d",
					    "\\uffff",
					    "\\udc00",
					    "\\u0000",
					    "\xc3\xa9",
					    "\xe2\x82\xac",
					    "\xf0\x9f\x98\x80",
					    "\xff",
					    "\xc3",
					    "\xed\xa0\x80",
					    "\x7f",
					    " ",
					    "the quick brown fox jumps over"};
	unsigned count = below(8) ? below(5) : below(60);
	bool plain = below(4);
	put(t, "\"");
	for (unsigned i = 0; i < count; i++)
		put(t, plain ? parts[below(3)] : PICK(parts));
	put(t, "\"");
}

static void put_value(struct text *t, unsigned depth);

static void put_key(struct text *t)
{
	static const char *const keys[] = {"\"event_id\"",
					   "\"event_type\"",
					   "\"timestamp\"",
					   "\"ad_id\"",
					   "\"campaign_id\"",
					   "\"advertiser_id\"",
					   "\"user_id\"",
					   "\"device_id\"",
					   "\"ip_address\"",
					   "\"user_agent\"",
					   "\"geo\"",
					   "\"country\"",
					   "\"region\"",
					   "\"city\"",
					   "\"bid_price\"",
					   "\"currency\"",
					   "\"click_position\"",
					   "\"timezone_offset_min\"",
					   "\"mouse_moves\"",
					   "\"trace\"",
					   "\"device_type\"",
					   "\"publisher_id\"",
					   "\"referer\"",
					   "\"a\"",
					   "\"\\u0061\"",
					   "\"\\u0061d_id\"",
					   "\"\"",
					   "\"timezone_offset_mix\""};
	if (below(4))
		put(t, PICK(keys));
	else
		put_string(t);
}

static void put_object(struct text *t, unsigned depth)
{
	unsigned count = below(3) ? below(4) : below(12);
	put(t, "{");
	put_space(t);
	for (unsigned i = 0; i < count; i++) {
		put_key(t);
		put_space(t);
		put(t, ":");
		put_space(t);
		put_value(t, depth + 1);
		put_space(t);
		if (i + 1 < count) {
			put(t, ",");
			put_space(t);
		}
	}
	put(t, "}");
}

static void put_value(struct text *t, unsigned depth)
{
	static const char *const plain[] = {"0",
					    "-0",
					    "1",
					    "65535",
					    "-12",
					    "0.5",
					    "12.340",
					    "1e2",
					    "1E-2",
					    "-0.1e+3",
					    "true",
					    "false",
					    "null",
					    "1640000000000",
					    "1700000060001",
					    "\"click\"",
					    "\"US\"",
					    "\"192.0.2.1\"",
					    "\"USD\"",
					    "\"0.25\"",
					    "1e",
					    "01",
					    "1.",
					    "tru",
					    "\"de\"",
					    "\"2001:db8::1\"",
					    "\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"",
					    "\"123e4567-e89b-12d3-a456-426614174000\""};
	unsigned kind = below(10);
	if (kind == 0 && depth < 8) {
		put_object(t, depth);
	} else if (kind == 1 && depth < 8) {
		unsigned count = below(4);
		put(t, "[");
		for (unsigned i = 0; i < count; i++) {
			put_value(t, depth + 1);
			put_space(t);
			if (i + 1 < count)
				put(t, ",");
		}
		put(t, "]");
	} else if (kind < 5) {
		put_string(t);
	} else {
		put(t, PICK(plain));
	}
}

static void mutate(struct text *t)
{
	static const char bytes[] = "\"\\{}[]:,0123456789.eE+-tfn \n\t\r\0\x01\x1f\x7f\x80\xc3\xe2\xed\xf0\xffu/";
	unsigned count = 1 + below(3);
	for (unsigned i = 0; i < count && t->bytes > 0; i++) {
		size_t at = below((uint32_t)t->bytes);
		switch (below(6)) {
		case 0:
			t->at[at] = (char)random_next();
			break;
		case 1:
			t->at[at] = bytes[below(sizeof bytes - 1)];
			break;
		case 2: /* away */
			memmove(t->at + at, t->at + at + 1, t->bytes - at - 1);
			t->bytes--;
			break;
		case 3: /* one more */
			if (t->bytes == sizeof t->at)
				break;
			memmove(t->at + at + 1, t->at + at, t->bytes - at);
			t->at[at] = bytes[below(sizeof bytes - 1)];
			t->bytes++;
			break;
		case 4: /* a piece over another */
		{
			size_t from = below((uint32_t)t->bytes), most = t->bytes - (from > at ? from : at);
			memmove(t->at + at, t->at + from, below((uint32_t)(most < 24 ? most : 24) + 1));
			break;
		}
		default:
			t->bytes = at;
		}
	}
}

static void generate(struct text *t)
{
	t->bytes = 0;
	switch (below(4)) {
	case 0:
		put_object(t, 1);
		break;
	case 1: /* long enough for every tier of the parser */
		put(t, "{\"x\":[");
		for (unsigned i = below(40); i > 0; i--) {
			put_string(t);
			put(t, i > 1 ? "," : "");
		}
		put(t, "],");
		put(t, json_test_event + 1);
		break;
	default:
		put(t, json_test_event);
	}
	if (below(8))
		mutate(t);
}

/* Fails with a message and the text, which is too long for cmocka's own messages; what is not printable as \xNN. */
static void fail_with(const struct text *t, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputs(": ", stderr);
	for (size_t i = 0; i < t->bytes; i++) {
		unsigned char c = (unsigned char)t->at[i];
		fprintf(stderr, c >= 0x20 && c < 0x7f ? "%c" : "\\x%02x", c);
	}
	fputc('\n', stderr);
	fail();
}

static struct dp_json_result run(const struct dp_json_variant *variant, char *exact, size_t bytes, struct tp_parsed *parsed)
{
	json_test_scratch()->variant = variant;
	return dp_json_event(json_test_scratch(), exact, bytes, &limits, parsed);
}

/* Fields and strings, by content; the strings of `a` were kept before `b` was parsed. */
static bool same(const struct tp_parsed *a, const struct tp_parsed *b, const char *a_strings)
{
	if (memcmp(&a->fixed, &b->fixed, sizeof a->fixed) != 0)
		return false;
	for (int i = 0; i < TP_STRINGS; i++) {
		if (a->string[i].bytes != b->string[i].bytes ||
		    memcmp(a_strings, b->string[i].at ? b->string[i].at : "", a->string[i].bytes))
			return false;
		a_strings += a->string[i].bytes;
	}
	return true;
}

/* What finishing with the parser's scratch made is what finishing without makes. */
static bool plain_same(const struct tp_parsed *parsed)
{
	static _Alignas(8) char record[2][TP_EVENT_BYTES_MAX];
	struct tp_parsed plain = *parsed;
	plain.lie = TP_STRINGS_APART;
	tp_event_finish(&plain);
	tp_event_encode(parsed, (struct tp_event *)(void *)record[0]);
	tp_event_encode(&plain, (struct tp_event *)(void *)record[1]);
	return memcmp(record[0], record[1], tp_event_encoded_bytes(&plain)) == 0;
}

static void variants_check(const struct text *t)
{
	static char strings[TP_EVENT_BYTES_MAX];
	char *exact = json_test_alloc(t->bytes);
	memcpy(exact, t->at, t->bytes);
	struct tp_parsed oracle, parsed;
	struct dp_json_result expected = run(&dp_json_scalar, exact, t->bytes, &oracle);
	uint32_t faults = json_test_scratch()->faults;
	if (expected.reason == TP_OK) {
		size_t used = 0;
		for (int i = 0; i < TP_STRINGS; i++) {
			if (oracle.string[i].bytes)
				memcpy(strings + used, oracle.string[i].at, oracle.string[i].bytes);
			used += oracle.string[i].bytes;
		}
	}
	for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
		struct dp_json_result r = run(*v, exact, t->bytes, &parsed);
		bool equal = r.reason == expected.reason && r.field == expected.field && r.syntax == expected.syntax &&
			     r.used == expected.used && r.bad_trace == expected.bad_trace &&
			     (r.syntax || json_test_scratch()->faults == faults);
		if (equal && r.reason == TP_OK)
			equal = same(&oracle, &parsed, strings) && plain_same(&parsed);
		if (!equal)
			fail_with(t, "%s: %s %s at %zu, scalar: %s %s at %zu", (*v)->name, tp_reject_name(r.reason),
				  tp_field_name(r.field), r.used, tp_reject_name(expected.reason), tp_field_name(expected.field),
				  expected.used);
	}
	free(exact);
}

/* What jansson cannot say: a number too large for it, NUL in a key, nesting between 64 and 2048. */
static bool jansson_abstains(const json_error_t *error)
{
	return strstr(error->text, "too big") || strstr(error->text, "overflow") || strstr(error->text, "NUL byte in object key");
}

static void jansson_check(const struct text *t)
{
	if (memchr(t->at, 0, t->bytes))
		return;
	struct tp_parsed parsed;
	struct dp_json_scratch *s = json_test_scratch();
	s->variant = dp_json_variants()[0];
	struct dp_json_result r = dp_json_event(s, t->at, t->bytes, &limits, &parsed);
	bool ours = !r.syntax && !(s->faults & (1u << TP_BAD_UTF8 | 1u << TP_DUPLICATE_KEY)) &&
		    dp_json_skip_space(t->at, r.used, t->bytes) == t->bytes;
	json_error_t error;
	json_t *value = json_loadb(t->at, t->bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
	bool theirs = value;
	json_decref(value);
	if (ours != theirs && !(!theirs && jansson_abstains(&error)))
		fail_with(t, "jansson %s, we %s (%s %s)", theirs ? "takes it" : error.text, ours ? "take it" : "do not",
			  tp_reject_name(r.reason), r.syntax ? "syntax" : "");
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_differ(void **state)
{
	(void)state;
	random_state = number_from("JSON_SEED", 1);
	uint64_t rounds = number_from("JSON_ROUNDS", 60000);
	static struct text text;
	unsigned valid = 0, well_formed = 0;
	for (uint64_t i = 0; i < rounds; i++) {
		generate(&text);
		variants_check(&text);
		if (text.bytes > 0 && text.at[0] == '{') { /* the event parser skips no white space before the value */
			jansson_check(&text);
			struct tp_parsed parsed;
			struct dp_json_result r = dp_json_event(json_test_scratch(), text.at, text.bytes, &limits, &parsed);
			valid += r.reason == TP_OK;
			well_formed += !r.syntax;
		}
	}
	/* A generator that makes only rubbish would test nothing. */
	assert_in_range(valid, rounds / 50, rounds);
	assert_in_range(well_formed, rounds / 5, rounds * 9 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_differ)};
	return cmocka_run_group_tests(tests, NULL, json_test_end);
}
