/*
 * The event parser against tables of cases: grammar, schema, faults and their order. Every case runs on every variant that this
 * processor has, in a buffer of exactly its size (so that a sanitizer sees a read too far) and as the front of a larger text.
 */
#include "json_parse.h"
#include "json_test.h"

#include "turnpike/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOW = 1700000000000, MAX_FUTURE = 60000 };
static const struct dp_json_limits limits = {.now_ms = NOW, .max_future_ms = MAX_FUTURE};

/* The required fields without the first; FULL(x) is an event with the pairs x added. */
#define REST_BUT_ID \
	"\"event_type\":\"click\",\"timestamp\":1640000000000,\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\""
#define REST    "\"event_id\":\"e1\"," REST_BUT_ID
#define FULL(x) "{" REST "," x "}"

struct sample {
	const char *text;
	size_t bytes; /* 0: strlen */
	enum tp_reject reason;
	enum tp_field field;
	bool syntax;
};

/* clang-format off */
#define OK(t)           {.text = t}
#define BAD(t, r, f)    {.text = t, .reason = TP_##r, .field = TP_FIELD_##f}
#define BROKEN(t)       {.text = t, .reason = TP_MALFORMED, .syntax = true}

static const struct sample samples[] = {
	OK("{" REST "}"),
	OK("{ " REST " }"),
	OK("{\n\t\"event_id\" : \"e1\" ,\r\n" REST_BUT_ID "\n}"),
	OK("{\"event_id\": \"e1\", " REST_BUT_ID "}"),
	OK("{" REST_BUT_ID ",\"event_id\":\"e1\"}"),
	/* not an object */
	BAD("[]", BAD_TYPE, NONE), BAD("[{}]", BAD_TYPE, NONE), BAD("1", BAD_TYPE, NONE), BAD("-0.5e+7", BAD_TYPE, NONE),
	BAD("\"x\"", BAD_TYPE, NONE), BAD("null", BAD_TYPE, NONE), BAD("true", BAD_TYPE, NONE), BAD("false", BAD_TYPE, NONE),
	BAD("\"\xff\"", BAD_TYPE, NONE),
	BROKEN("["), BROKEN("]"), BROKEN("tru"), BROKEN("nul"), BROKEN("NaN"), BROKEN("Infinity"), BROKEN("-"), BROKEN("+1"),
	BROKEN(".5"), BROKEN("\""), BROKEN("\"\\\""), BROKEN("'x'"), BROKEN("[1,]"), BROKEN("[1 2]"), BROKEN("[,]"), BROKEN("x"),
	BROKEN("\xef\xbb\xbf{}"), BROKEN("\v"), BROKEN("[}"), BROKEN("[1}"),
	/* objects that are not */
	BROKEN("{"), BROKEN("{\""), BROKEN("{\"a\""), BROKEN("{\"a\":"), BROKEN("{\"a\":1"), BROKEN("{\"a\":1,"), BROKEN("{\"a\":1,}"),
	BROKEN("{,}"), BROKEN("{a:1}"), BROKEN("{\"a\" 1}"), BROKEN("{\"a\":}"), BROKEN("{\"a\":1 \"b\":2}"), BROKEN("{\"a\":1]"),
	BROKEN("{1:1}"), BROKEN("{\"a\"::1}"), BROKEN("{\"a\":1,,\"b\":2}"), BROKEN("{" REST), BROKEN("{" REST ","),
	BROKEN("{" REST ",}"), BROKEN("{" REST "]"), BROKEN("{//x\n" REST "}"), BROKEN("{" REST " /* */}"), BROKEN("{\"geo\":{"),
	BROKEN("{\"geo\":{,}}"), BROKEN("{\"geo\":{\"city\":\"x\",}}"), BROKEN("{\"geo\":{\"city\":\"x\"}"),
	BROKEN("{\"geo\":{\"city\":\"x\"]}"), BROKEN("{\"geo\":{\"city\" \"x\"}}"),
	BROKEN("{\"ad_id\":\"x\"\"campaign_id\":\"y\"}"), BROKEN("{\"ad_id\"=\"x\"}"), BROKEN("{\"ad_id\":'x'}"),
	BROKEN("{\"timestamp\":1640000000000x}"), BROKEN("{\"timestamp\":1640000000000\x0b}"),
	/* missing */
	BAD("{}", MISSING_FIELD, EVENT_ID), BAD("{ }", MISSING_FIELD, EVENT_ID), BAD("{\n}", MISSING_FIELD, EVENT_ID),
	BAD("{" REST_BUT_ID "}", MISSING_FIELD, EVENT_ID),
	BAD("{\"event_id\":null," REST_BUT_ID "}", MISSING_FIELD, EVENT_ID),
	BAD("{\"event_id\":\"e\",\"timestamp\":1,\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}", MISSING_FIELD, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":\"click\",\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}", MISSING_FIELD,
	    TIMESTAMP),
	BAD("{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":null,\"ad_id\":\"a\",\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}",
	    MISSING_FIELD, TIMESTAMP),
	BAD("{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":1,\"campaign_id\":\"c\",\"advertiser_id\":\"v\"}", MISSING_FIELD, AD_ID),
	BAD("{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\",\"advertiser_id\":\"v\"}", MISSING_FIELD,
	    CAMPAIGN_ID),
	BAD("{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":1,\"ad_id\":\"a\",\"campaign_id\":\"c\"}", MISSING_FIELD,
	    ADVERTISER_ID),
	/* the first fault in the text wins; a missing field comes last, broken grammar before all */
	BAD("{\"user_id\":1}", BAD_TYPE, USER_ID), BAD("{\"user_id\":1,\"ad_id\":\"\"}", BAD_TYPE, USER_ID),
	BAD("{\"ad_id\":\"\",\"user_id\":1}", BAD_VALUE, AD_ID), BROKEN("{\"ad_id\":\"\",\"user_id\":1"),
	BAD("{\"ip_address\":\"x\",\"user_id\":1}", BAD_VALUE, IP_ADDRESS), BAD("{\"user_id\":1,\"ip_address\":\"x\"}", BAD_TYPE, USER_ID),
	BAD("{\"z\":1,\"user_id\":1,\"z\":1}", BAD_TYPE, USER_ID), BAD("{\"z\":1,\"z\":1,\"user_id\":1}", DUPLICATE_KEY, NONE),
	/* duplicates */
	BAD(FULL("\"ad_id\":\"a\""), DUPLICATE_KEY, AD_ID), BAD(FULL("\"\\u0061d_id\":\"a\""), DUPLICATE_KEY, AD_ID),
	BAD(FULL("\"ad_id\":null"), DUPLICATE_KEY, AD_ID), BAD(FULL("\"geo\":null,\"geo\":{}"), DUPLICATE_KEY, GEO),
	BAD(FULL("\"geo\":{},\"geo\":{\"city\":\"x\"}"), DUPLICATE_KEY, GEO), BAD(FULL("\"x\":1,\"x\":2"), DUPLICATE_KEY, NONE),
	BAD(FULL("\"x\":1,\"\\u0078\":2"), DUPLICATE_KEY, NONE), BAD(FULL("\"\":1,\"\":2"), DUPLICATE_KEY, NONE),
	BAD(FULL("\"x\":{\"y\":1,\"y\":1}"), DUPLICATE_KEY, NONE), BAD(FULL("\"x\":[{\"y\":{\"z\":1,\"z\":1}}]"), DUPLICATE_KEY, NONE),
	BAD(FULL("\"geo\":{\"city\":\"x\",\"city\":\"x\"}"), DUPLICATE_KEY, CITY),
	BAD(FULL("\"geo\":{\"c\":\"x\",\"c\":\"x\"}"), DUPLICATE_KEY, NONE), BAD(FULL("\"\xc3\xa9\":1,\"\\u00e9\":2"), DUPLICATE_KEY, NONE),
	BAD(FULL("\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\uDE00\":2"), DUPLICATE_KEY, NONE), BAD(FULL("\"a/\":1,\"a\\/\":2"), DUPLICATE_KEY, NONE),
	BAD(FULL("\"\\n\":1,\"\\u000a\":2"), DUPLICATE_KEY, NONE), BAD(FULL("\"\\u0000\":1,\"\\u0000\":2"), DUPLICATE_KEY, NONE),
	BAD(FULL("\"geo\":{\"ad_id\":1,\"ad_id\":1}"), DUPLICATE_KEY, NONE), BAD("{" REST ",\"timestamp\":1}", DUPLICATE_KEY, TIMESTAMP),
	BAD("{" REST ",\"event_type\":\"click\"}", DUPLICATE_KEY, EVENT_TYPE), BAD("{" REST ",\"event_id\":\"e1\"}", DUPLICATE_KEY, EVENT_ID),
	OK(FULL("\"x\":{\"y\":1},\"z\":{\"y\":1}")), OK(FULL("\"x\":{\"x\":{\"x\":1}}")), OK(FULL("\"city\":\"a\",\"geo\":{\"city\":\"b\"}")),
	OK(FULL("\"X\":1,\"x\":2")), OK(FULL("\"geo\":{\"ad_id\":1}")), OK(FULL("\"x\":[{\"y\":1},{\"y\":1}]")),
	OK(FULL("\"\\\\u0078\":1,\"x\":2")), OK(FULL("\"a\":1,\"aa\":2,\"aaa\":3,\"\":4")), OK(FULL("\"a\\u0000\":1,\"a\":2")),
	OK(FULL("\"x\":1,\"geo\":{\"x\":1,\"city\":\"y\"}")), OK(FULL("\"geo\":{\"x\":1,\"city\":\"y\"},\"x\":1,\"user_id\":\"u\"")),
	BAD(FULL("\"x\":1,\"geo\":{\"x\":1,\"city\":\"y\"},\"x\":1,\"user_id\":\"u\""), DUPLICATE_KEY, NONE),
	OK(FULL("\"Ad_id\":1")), OK(FULL("\"ad_i\":1,\"ad_idx\":2,\"ad_ie\":3")),
	/* a broken value behind a duplicate is still broken */
	BROKEN(FULL("\"ad_id\":tru")), BROKEN(FULL("\"x\":1,\"x\":[1")),
	/* UTF-8 */
	OK(FULL("\"user_id\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"")), OK(FULL("\"user_id\":\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"")),
	BAD(FULL("\"user_id\":\"\xff\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\x80\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xc3\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\xc0\xaf\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xc1\xbf\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\xe0\x9f\xbf\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xed\xa0\x80\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\xed\xbf\xbf\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xf0\x8f\xbf\xbf\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\xf4\x90\x80\x80\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xf5\x80\x80\x80\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\xe2\x82\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xf0\x9f\x98\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\xe2\x28\xa1\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\xfe\xff\""), BAD_UTF8, USER_ID), BAD(FULL("\"x\":\"\xff\""), BAD_UTF8, NONE),
	BAD(FULL("\"\xff\":1"), BAD_UTF8, NONE), BAD(FULL("\"geo\":{\"city\":\"\xe9\"}"), BAD_UTF8, CITY),
	BAD(FULL("\"user_id\":1,\"x\":\"\xff\""), BAD_TYPE, USER_ID), BROKEN(FULL("\"user_id\":\"\xff")), BROKEN("\xff"), BROKEN("{\xff}"),
	/* escapes */
	OK(FULL("\"user_id\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uFFFF\"")), OK(FULL("\"user_id\":\"\\ud83d\\ude00\"")),
	OK(FULL("\"x\":\"\\u0000\"")), OK(FULL("\"\\u0000\":1")), BAD(FULL("\"user_id\":\"a\\u0000\""), BAD_VALUE, USER_ID),
	BAD(FULL("\"geo\":{\"city\":\"\\u0000\"}"), BAD_VALUE, CITY), BAD(FULL("\"trace\":\"\\u0000\""), BAD_VALUE, TRACE),
	BAD(FULL("\"user_id\":\"\\ud83d\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\\ude00\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\\ud83d\\u0041\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\\ud83d\\ud83d\\ude00\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\\ud83dx\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\\ude00\\ud83d\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"user_id\":\"\\ud83d\\uffff\""), BAD_UTF8, USER_ID), BAD(FULL("\"user_id\":\"\\ud83d\\udbff\""), BAD_UTF8, USER_ID),
	BAD(FULL("\"x\":\"\\ud83d\""), BAD_UTF8, NONE), BAD(FULL("\"\\udfff\":1"), BAD_UTF8, NONE),
	BROKEN(FULL("\"user_id\":\"\\x\"")), BROKEN(FULL("\"user_id\":\"\\u12\"")), BROKEN(FULL("\"user_id\":\"\\u12g4\"")),
	BROKEN(FULL("\"user_id\":\"\\U0041\"")), BROKEN(FULL("\"user_id\":\"\\")), BROKEN(FULL("\"user_id\":\"\\u")),
	BROKEN(FULL("\"user_id\":\"\\ud83d\\uzzzz\"")), BROKEN(FULL("\"user_id\":\"\\'\"")), BROKEN(FULL("\"user_id\":\"\\0\"")),
	BROKEN(FULL("\"user_id\":\"a\nb\"")), BROKEN(FULL("\"user_id\":\"a\tb\"")), BROKEN(FULL("\"user_id\":\"\x1f\"")),
	BROKEN(FULL("\"x\":\"\x01\"")), BROKEN(FULL("\"\n\":1")), OK(FULL("\"user_id\":\"\x7f\"")),
	/* known fields under another spelling */
	BAD(FULL("\"\\u0075ser_id\":1"), BAD_TYPE, USER_ID), BAD("{\"\\u0065vent_id\":\"\"," REST_BUT_ID "}", BAD_VALUE, EVENT_ID),
	OK("{\"\\u0065vent_id\":\"e\"," REST_BUT_ID "}"),
	/* types */
	BAD("{\"event_id\":1," REST_BUT_ID "}", BAD_TYPE, EVENT_ID), BAD("{\"event_id\":true," REST_BUT_ID "}", BAD_TYPE, EVENT_ID),
	BAD("{\"event_id\":{}," REST_BUT_ID "}", BAD_TYPE, EVENT_ID), BAD("{\"event_id\":[\"x\"]," REST_BUT_ID "}", BAD_TYPE, EVENT_ID),
	BAD(FULL("\"geo\":1"), BAD_TYPE, GEO), BAD(FULL("\"geo\":\"US\""), BAD_TYPE, GEO), BAD(FULL("\"geo\":[]"), BAD_TYPE, GEO),
	BAD(FULL("\"geo\":[{\"a\":1,\"a\":1}]"), BAD_TYPE, GEO), BROKEN(FULL("\"geo\":[{\"a\":1,}]")),
	BAD(FULL("\"geo\":{\"country\":1}"), BAD_TYPE, COUNTRY), BAD(FULL("\"geo\":{\"region\":[]}"), BAD_TYPE, REGION),
	BAD(FULL("\"geo\":{\"city\":{\"city\":\"x\"}}"), BAD_TYPE, CITY), BAD(FULL("\"user_agent\":0"), BAD_TYPE, USER_AGENT),
	BAD(FULL("\"referer\":false"), BAD_TYPE, REFERER), BAD(FULL("\"ip_address\":1"), BAD_TYPE, IP_ADDRESS),
	BAD(FULL("\"device_type\":1"), BAD_TYPE, DEVICE_TYPE), BAD(FULL("\"currency\":840"), BAD_TYPE, CURRENCY),
	BAD(FULL("\"bid_price\":true"), BAD_TYPE, BID_PRICE), BAD(FULL("\"bid_price\":[1]"), BAD_TYPE, BID_PRICE),
	BAD(FULL("\"click_position\":\"2\""), BAD_TYPE, CLICK_POSITION), BAD(FULL("\"click_position\":1.0"), BAD_TYPE, CLICK_POSITION),
	BAD(FULL("\"click_position\":1e1"), BAD_TYPE, CLICK_POSITION), BAD(FULL("\"timezone_offset_min\":\"0\""), BAD_TYPE, TIMEZONE),
	BAD(FULL("\"mouse_moves\":1.5"), BAD_TYPE, MOUSE_MOVES), BAD(FULL("\"publisher_id\":7"), BAD_TYPE, PUBLISHER_ID),
	/* null is absent */
	OK(FULL("\"publisher_id\":null,\"user_id\":null,\"device_id\":null,\"ip_address\":null,\"user_agent\":null,\"referer\":null,"
		"\"geo\":null,\"device_type\":null,\"bid_price\":null,\"currency\":null,\"click_position\":null,"
		"\"timezone_offset_min\":null,\"mouse_moves\":null,\"trace\":null")),
	OK(FULL("\"geo\":{\"country\":null,\"region\":null,\"city\":null}")), OK(FULL("\"geo\":{}")), OK(FULL("\"geo\": { }")),
	BROKEN(FULL("\"user_id\":nul")), BROKEN(FULL("\"user_id\":nullx")),
	/* lengths */
	BAD("{\"event_id\":\"\"," REST_BUT_ID "}", BAD_VALUE, EVENT_ID), BAD(FULL("\"publisher_id\":\"\",\"ad_id\":1"), DUPLICATE_KEY, AD_ID),
	OK(FULL("\"publisher_id\":\"\",\"user_id\":\"\",\"device_id\":\"\",\"user_agent\":\"\",\"referer\":\"\"")),
	OK(FULL("\"geo\":{\"country\":\"\",\"region\":\"\",\"city\":\"\"}")),
	/* event_type */
	BAD("{\"event_id\":\"e\",\"event_type\":\"Click\"}", BAD_VALUE, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":\"\"}", BAD_VALUE, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":\"clicks\"}", BAD_VALUE, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":\"clic\"}", BAD_VALUE, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":\"impressions\"}", BAD_VALUE, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":\"a very long event type indeed, longer than any\"}", BAD_VALUE, EVENT_TYPE),
	BAD("{\"event_id\":\"e\",\"event_type\":1}", BAD_TYPE, EVENT_TYPE),
	/* click_position, offsets, moves */
	OK(FULL("\"click_position\":0")), OK(FULL("\"click_position\":65535")), BAD(FULL("\"click_position\":65536"), BAD_VALUE, CLICK_POSITION),
	BAD(FULL("\"click_position\":-1"), BAD_VALUE, CLICK_POSITION), OK(FULL("\"click_position\":-0")),
	BAD(FULL("\"click_position\":99999999999999999999"), BAD_VALUE, CLICK_POSITION), BROKEN(FULL("\"click_position\":01")),
	BROKEN(FULL("\"click_position\":")), BROKEN(FULL("\"click_position\":1.")), BROKEN(FULL("\"click_position\":0x1")),
	OK(FULL("\"timezone_offset_min\":-720,\"mouse_moves\":0")), OK(FULL("\"timezone_offset_min\":2147483647,\"mouse_moves\":-2147483648")),
	BAD(FULL("\"timezone_offset_min\":2147483648"), BAD_VALUE, TIMEZONE), BAD(FULL("\"mouse_moves\":-2147483649"), BAD_VALUE, MOUSE_MOVES),
	/* bid_price */
	OK(FULL("\"bid_price\":0")), OK(FULL("\"bid_price\":0.5")), OK(FULL("\"bid_price\":1000000")), OK(FULL("\"bid_price\":1000000.000000")),
	OK(FULL("\"bid_price\":\"1e2\"")), OK(FULL("\"bid_price\":-0")), OK(FULL("\"bid_price\":0.5000000")), OK(FULL("\"bid_price\":1e2")),
	OK(FULL("\"bid_price\":\"0\\u002e5\"")), OK(FULL("\"bid_price\":0.000001")), OK(FULL("\"bid_price\":0.0000010")),
	BAD(FULL("\"bid_price\":0.0000001"), BAD_VALUE, BID_PRICE), BAD(FULL("\"bid_price\":1000000.000001"), BAD_VALUE, BID_PRICE),
	BAD(FULL("\"bid_price\":1000001"), BAD_VALUE, BID_PRICE), BAD(FULL("\"bid_price\":9999999.5"), BAD_VALUE, BID_PRICE),
	BAD(FULL("\"bid_price\":-0.5"), BAD_VALUE, BID_PRICE), BAD(FULL("\"bid_price\":\"\""), BAD_VALUE, BID_PRICE),
	BAD(FULL("\"bid_price\":\" 1\""), BAD_VALUE, BID_PRICE), BAD(FULL("\"bid_price\":\"00\""), BAD_VALUE, BID_PRICE),
	BAD(FULL("\"bid_price\":\"1.\""), BAD_VALUE, BID_PRICE), BAD(FULL("\"bid_price\":\"$1\""), BAD_VALUE, BID_PRICE),
	BROKEN(FULL("\"bid_price\":00.5")), BROKEN(FULL("\"bid_price\":1.")), BROKEN(FULL("\"bid_price\":.5")), BROKEN(FULL("\"bid_price\":1.e2")),
	BROKEN(FULL("\"bid_price\":1e")), BROKEN(FULL("\"bid_price\":1e+")), BROKEN(FULL("\"bid_price\":+1")), BROKEN(FULL("\"bid_price\":1,5")),
	BROKEN(FULL("\"bid_price\":0.5.1")), BROKEN(FULL("\"bid_price\":-")), BROKEN(FULL("\"bid_price\":NaN")), BROKEN(FULL("\"bid_price\":1_0")),
	/* currency, country, device, address */
	OK(FULL("\"currency\":\"EUR\"")), BAD(FULL("\"currency\":\"eur\""), BAD_VALUE, CURRENCY), BAD(FULL("\"currency\":\"EU\""), BAD_VALUE, CURRENCY),
	BAD(FULL("\"currency\":\"EURO\""), BAD_VALUE, CURRENCY), BAD(FULL("\"currency\":\"\""), BAD_VALUE, CURRENCY),
	BAD(FULL("\"currency\":\"EU1\""), BAD_VALUE, CURRENCY), OK(FULL("\"geo\":{\"country\":\"us\"}")),
	BAD(FULL("\"geo\":{\"country\":\"U\"}"), BAD_VALUE, COUNTRY), BAD(FULL("\"geo\":{\"country\":\"USA\"}"), BAD_VALUE, COUNTRY),
	BAD(FULL("\"geo\":{\"country\":\"U1\"}"), BAD_VALUE, COUNTRY), BAD(FULL("\"geo\":{\"country\":\"@[\"}"), BAD_VALUE, COUNTRY),
	BAD(FULL("\"geo\":{\"country\":\"`{\"}"), BAD_VALUE, COUNTRY), BAD(FULL("\"geo\":{\"country\":\"\xc3\xa9\"}"), BAD_VALUE, COUNTRY),
	OK(FULL("\"device_type\":\"toaster\"")), OK(FULL("\"device_type\":\"\"")), OK(FULL("\"ip_address\":\"\"")),
	OK(FULL("\"ip_address\":\"192.0.2.1\"")), OK(FULL("\"ip_address\":\"2001:db8::1\"")), OK(FULL("\"ip_address\":\"192.0.2\\u002e1\"")),
	BAD(FULL("\"ip_address\":\"192.0.2\""), BAD_VALUE, IP_ADDRESS), BAD(FULL("\"ip_address\":\"192.0.2.256\""), BAD_VALUE, IP_ADDRESS),
	BAD(FULL("\"ip_address\":\" 192.0.2.1\""), BAD_VALUE, IP_ADDRESS), BAD(FULL("\"ip_address\":\"unknown\""), BAD_VALUE, IP_ADDRESS),
	BAD(FULL("\"ip_address\":\"2001:db8::1:2:3:4:5:6:7:8:9:0:1:2:3:4:5:6:7:8:9:0:1:2:3:4:5:6:7:8\""), BAD_VALUE, IP_ADDRESS),
	/* unknown fields are validated */
	OK(FULL("\"x\":[1,-0,0.5,1e5,1E-5,true,false,null,\"s\",{\"a\":[]},[],{}]")), OK(FULL("\"x\":[ 1 , [ ] , { \"a\" : 1 , \"b\" : 2 } ]")),
	BROKEN(FULL("\"x\":[1,]")), BROKEN(FULL("\"x\":{\"a\":1,}")), BROKEN(FULL("\"x\":{,}")), BROKEN(FULL("\"x\":[")), BROKEN(FULL("\"x\":{\"a\"")),
	BROKEN(FULL("\"x\":{\"a\":1]")), BROKEN(FULL("\"x\":[1}")), BROKEN(FULL("\"x\":tRue")), BROKEN(FULL("\"x\":-")), BROKEN(FULL("\"x\":01")),
	BROKEN(FULL("\"x\":1.")), BROKEN(FULL("\"x\":1e")), BROKEN(FULL("\"x\":NaN")), BROKEN(FULL("\"x\":-Infinity")), BROKEN(FULL("\"x\":undefined")),
	BROKEN(FULL("\"x\":{a:1}")), BROKEN(FULL("\"x\":{\"a\":}")), BROKEN(FULL("\"x\":\"")), BROKEN(FULL("\"x\":{\"a\" 1}")), BROKEN(FULL("\"x\":{1:2}")),
};
/* clang-format on */

static const char *spell(const struct dp_json_result *r)
{
	static char text[128];
	snprintf(text, sizeof text, "%s %s%s", tp_reject_name(r->reason), tp_field_name(r->field), r->syntax ? " syntax" : "");
	return text;
}

/* Runs a text on one variant: in a buffer of its size, behind which nothing is readable for a sanitizer. */
static struct dp_json_result run(const struct dp_json_variant *variant, const char *text, size_t bytes, struct tp_parsed *parsed)
{
	struct dp_json_scratch *s = json_test_scratch();
	s->variant = variant;
	char *exact = json_test_alloc(bytes);
	memcpy(exact, text, bytes);
	struct dp_json_result result = dp_json_event(s, exact, bytes, &limits, parsed);
	/* What must outlive the parse lies in the text: keep it for the caller's look. */
	json_test_keep(exact);
	return result;
}

static void check(const char *text, size_t bytes, enum tp_reject reason, enum tp_field field, bool syntax)
{
	for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
		struct tp_parsed parsed;
		for (int twice = 0; twice < 2; twice++) { /* the second time, the order of the keys is known */
			struct dp_json_result r = run(*v, text, bytes, &parsed);
			if (r.reason != reason || r.field != field || r.syntax != syntax)
				fail_msg("%s: %.*s: %s, expected %s %s%s", (*v)->name, bytes < 2000 ? (int)bytes : 2000, text,
					 spell(&r), tp_reject_name(reason), tp_field_name(field), syntax ? " syntax" : "");
			if (!syntax && r.used != bytes)
				fail_msg("%s: %.*s: used %zu of %zu", (*v)->name, (int)bytes, text, r.used, bytes);
			if (syntax)
				assert_true(r.used <= bytes);
		}
		/* In place, in a long text, with something behind it. */
		char *longer = json_test_alloc(bytes + DP_JSON_COPY_MAX + 1);
		memcpy(longer, text, bytes);
		memset(longer + bytes, ',', DP_JSON_COPY_MAX + 1);
		if (!syntax && bytes > 0 && (text[bytes - 1] < '0' || text[bytes - 1] > '9')) {
			struct dp_json_result r =
				dp_json_event(json_test_scratch(), longer, bytes + DP_JSON_COPY_MAX + 1, &limits, &parsed);
			if (r.reason != reason || r.field != field || r.syntax || r.used != bytes)
				fail_msg("%s, in place: %.*s: %s", (*v)->name, (int)bytes, text, spell(&r));
		}
		free(longer);
	}
}

static void test_samples(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
		const struct sample *s = &samples[i];
		check(s->text, s->bytes ? s->bytes : strlen(s->text), s->reason, s->field, s->syntax);
	}
	check("", 0, TP_MALFORMED, TP_FIELD_NONE, true);
	check("{\"ad_id\":\"a\0b\"}", 15, TP_MALFORMED, TP_FIELD_NONE, true);
	check("{\0}", 3, TP_MALFORMED, TP_FIELD_NONE, true);
	check("{\"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\":1}", 21, TP_MALFORMED, TP_FIELD_NONE, true);
}

/* Every prefix of a full event is broken, and says so without reading on. */
static void test_truncation(void **state)
{
	(void)state;
	size_t bytes = strlen(json_test_event);
	check(json_test_event, bytes, TP_OK, TP_FIELD_NONE, false);
	for (size_t cut = 0; cut < bytes; cut++)
		check(json_test_event, cut, TP_MALFORMED, TP_FIELD_NONE, true);
}

static void format_check(enum tp_reject reason, enum tp_field field, const char *format, const char *value)
{
	static char text[8192];
	int bytes = snprintf(text, sizeof text, format, value);
	assert_in_range(bytes, 1, sizeof text - 1);
	check(text, (size_t)bytes, reason, field, false);
}

/* Each string at its limit, one over it, plain and with escapes: lengths count after unescaping. */
static void test_lengths(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		enum tp_field field;
		bool geo;
		size_t most;
	} strings[] = {
		{"publisher_id", TP_FIELD_PUBLISHER_ID, false, 64},
		{"user_id", TP_FIELD_USER_ID, false, 64},
		{"device_id", TP_FIELD_DEVICE_ID, false, 64},
		{"user_agent", TP_FIELD_USER_AGENT, false, 1024},
		{"referer", TP_FIELD_REFERER, false, 1024},
		{"device_type", TP_FIELD_DEVICE_TYPE, false, 64},
		{"region", TP_FIELD_REGION, true, 64},
		{"city", TP_FIELD_CITY, true, 128},
		{"event_id", TP_FIELD_EVENT_ID, false, 64},
	};
	static char value[8192], pair[8300];
	for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
		for (size_t over = 0; over < 2; over++) {
			size_t bytes = strings[i].most + over;
			for (int escaped = 0; escaped < 4; escaped++) {
				memset(value, 'x', bytes);
				value[bytes] = 0;
				if (escaped == 1) /* one byte, as an escape at the end */
					strcpy(value + bytes - 1, "\\u0041");
				if (escaped == 2) { /* two bytes as an escape, at the front */
					memset(value, 'y', bytes + 4);
					memcpy(value, "\\u00e9", 6);
					value[bytes + 4] = 0;
				}
				if (escaped == 3) /* four bytes as they are, in the middle */
					memcpy(value + bytes / 2, "\xf0\x9f\x98\x80", 4);
				bool id = strings[i].field == TP_FIELD_EVENT_ID;
				snprintf(pair, sizeof pair, strings[i].geo ? "\"geo\":{\"%s\":\"%s\"}" : "\"%s\":\"%s\"",
					 strings[i].name, value);
				format_check(over ? TP_TOO_LONG : TP_OK, over ? strings[i].field : TP_FIELD_NONE,
					     id ? "{%s," REST_BUT_ID "}" : "{%s," REST "}", pair);
			}
		}
	}
	memset(value, '0', 1025);
	memcpy(value, "0.", 2);
	value[1025] = 0;
	format_check(TP_TOO_LONG, TP_FIELD_BID_PRICE, "{\"bid_price\":\"%s\"}", value);
	format_check(TP_OK, TP_FIELD_NONE, FULL("\"bid_price\":%s"), value);
	value[1024] = 0;
	format_check(TP_OK, TP_FIELD_NONE, FULL("\"bid_price\":\"%s\""), value);
}

/* Strings of every length at every place: no boundary of vectors, words or blocks hides a quote. */
static void test_string_ends(void **state)
{
	(void)state;
	for (size_t before = 0; before < 65; before++) {
		for (size_t bytes = 0; bytes < 200; bytes++) {
			static char text[1024];
			int used = snprintf(text, sizeof text, "{%*s\"user_agent\":\"%0*d\"," REST "}", (int)before, "", (int)bytes,
					    0);
			if (bytes == 0) /* "%0*d" makes at least one digit */
				used = snprintf(text, sizeof text, "{%*s\"user_agent\":\"\"," REST "}", (int)before, "");
			for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
				struct tp_parsed p;
				struct dp_json_result r = run(*v, text, (size_t)used, &p);
				assert_int_equal(r.reason, TP_OK);
				assert_int_equal(p.string[TP_USER_AGENT].bytes, bytes);
				assert_int_equal(p.string[TP_ADVERTISER_ID].bytes, 1);
			}
		}
	}
}

static void test_timestamp(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		enum tp_reject reason;
	} stamps[] = {
		{"0", TP_OK},
		{"-0", TP_OK},
		{"1", TP_OK},
		{"1700000060000", TP_OK},
		{"1700000060001", TP_FUTURE},
		{"9223372036854775807", TP_FUTURE},
		{"9223372036854775808", TP_BAD_VALUE},
		{"99999999999999999999999999", TP_BAD_VALUE},
		{"999999999999999", TP_FUTURE},
		{"9999999999999999", TP_FUTURE},
		{"99999999999999999", TP_FUTURE},
		{"-1", TP_BAD_VALUE},
		{"-99999999999999999999999999", TP_BAD_VALUE},
		{"1.0", TP_BAD_TYPE},
		{"1e3", TP_BAD_TYPE},
		{"1E3", TP_BAD_TYPE},
		{"-1.5", TP_BAD_TYPE},
		{"1640000000000.0", TP_BAD_TYPE},
		{"1640000000000e0", TP_BAD_TYPE},
		{"\"1640000000000\"", TP_BAD_TYPE},
		{"true", TP_BAD_TYPE},
		{"{}", TP_BAD_TYPE},
	};
	for (size_t i = 0; i < sizeof stamps / sizeof stamps[0]; i++) {
		enum tp_field field = stamps[i].reason ? TP_FIELD_TIMESTAMP : TP_FIELD_NONE;
		format_check(stamps[i].reason, field,
			     "{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":%s,\"ad_id\":\"a\",\"campaign_id\":\"c\","
			     "\"advertiser_id\":\"v\"}",
			     stamps[i].value);
		format_check(stamps[i].reason, field,
			     "{\"timestamp\":%s,\"event_id\":\"e\",\"event_type\":\"click\",\"ad_id\":\"a\",\"campaign_id\":\"c\","
			     "\"advertiser_id\":\"v\"}",
			     stamps[i].value);
	}
	/* A clock at the end of time does not wrap round. */
	struct tp_parsed parsed;
	struct dp_json_limits late = {.now_ms = UINT64_MAX - 5, .max_future_ms = 10};
	const char *text = "{\"event_id\":\"e\",\"event_type\":\"click\",\"timestamp\":9223372036854775807,\"ad_id\":\"a\","
			   "\"campaign_id\":\"c\","
			   "\"advertiser_id\":\"v\"}";
	assert_int_equal(dp_json_event(json_test_scratch(), text, strlen(text), &late, &parsed).reason, TP_OK);
	assert_true(parsed.fixed.timestamp_ms == INT64_MAX);
}

/* Writes at text + *at, and moves it. */
static void append(char *text, size_t *at, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	int bytes = vsnprintf(text + *at, 256, format, list);
	va_end(list);
	assert_in_range(bytes, 0, 255);
	*at += (size_t)bytes;
}

static void test_depth(void **state)
{
	(void)state;
	for (int object = 0; object < 2; object++) {
		for (unsigned containers = 60; containers < 70; containers++) { /* inside the event, which is depth 1 */
			static char text[4096];
			size_t at = 0;
			append(text, &at, "{" REST ",\"x\":");
			for (unsigned i = 0; i < containers; i++)
				append(text, &at, "%s", object ? "{\"a\":" : "[");
			append(text, &at, "1");
			for (unsigned i = 0; i < containers; i++)
				text[at++] = object ? '}' : ']';
			text[at++] = '}';
			bool deep = containers + 1 > DP_JSON_DEPTH_MAX;
			check(text, at, deep ? TP_MALFORMED : TP_OK, TP_FIELD_NONE, deep);
		}
	}
	/* geo is a level of its own, for members of a wrong type as for unknown ones */
	for (int known = 0; known < 2; known++) {
		for (unsigned containers = 61; containers < 64; containers++) {
			static char text[4096];
			size_t at = 0;
			append(text, &at, "{" REST ",\"geo\":{\"%s\":", known ? "city" : "x");
			memset(text + at, '[', containers);
			memset(text + at + containers, ']', containers);
			at += 2 * (size_t)containers;
			append(text, &at, "}}");
			bool deep = containers + 2 > DP_JSON_DEPTH_MAX;
			check(text, at,
			      deep    ? TP_MALFORMED
			      : known ? TP_BAD_TYPE
				      : TP_OK,
			      known && !deep ? TP_FIELD_CITY : TP_FIELD_NONE, deep);
		}
	}
	/* not a stack's worth of recursion */
	size_t bytes = 1 << 20;
	char *deep = json_test_alloc(bytes);
	memset(deep, '[', bytes);
	check(deep, bytes, TP_MALFORMED, TP_FIELD_NONE, true);
	free(deep);
}

/* Very many unknown keys: right, and not quadratic (this would take minutes). */
static void test_many_keys(void **state)
{
	(void)state;
	size_t room = 1 << 20;
	char *text = json_test_alloc(room + 512);
	static const unsigned counts[] = {2, 23, 24, 25, 26, 300, 70000};
	for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
		for (int twist = 0; twist < 3; twist++) {
			size_t at = 0;
			append(text, &at, "{" REST);
			for (unsigned i = 0; i < counts[c]; i++)
				append(text, &at, ",\"k%x\":0", i);
			if (twist == 1)
				append(text, &at, ",\"k%x\":0", counts[c] / 2);
			if (twist == 2)
				append(text, &at, ",\"\\u006b%x\":0", counts[c] - 1);
			text[at++] = '}';
			assert_true(at < room);
			check(text, at, twist ? TP_DUPLICATE_KEY : TP_OK, TP_FIELD_NONE, false);
		}
	}
	/* the same key over and over, and the place of the first repetition */
	size_t at = 0;
	append(text, &at, "{" REST);
	while (at < room - 512)
		append(text, &at, ",\"\":0");
	text[at++] = '}';
	check(text, at, TP_DUPLICATE_KEY, TP_FIELD_NONE, false);
	assert_int_equal(json_test_scratch()->fault_at, strlen("{" REST ",\"\":0,\""));
	/* many small objects, each with its own keys */
	at = 0;
	append(text, &at, "{" REST ",\"x\":[0");
	while (at < room - 512)
		append(text, &at, ",{\"a\":{\"a\":0,\"b\":0},\"b\":0}");
	append(text, &at, "]}");
	check(text, at, TP_OK, TP_FIELD_NONE, false);
	free(text);
}

static void string_check(const struct tp_parsed *parsed, enum tp_string which, const char *expected)
{
	assert_int_equal(parsed->string[which].bytes, strlen(expected));
	if (*expected)
		assert_memory_equal(parsed->string[which].at, expected, strlen(expected));
}

/* Every field arrives where it belongs. */
static void test_values(void **state)
{
	(void)state;
	const char *text =
		"{\"event_id\":\"123e4567-e89b-12d3-a456-426614174000\",\"event_type\":\"impression\",\"timestamp\":1640000000123,"
		"\"ad_id\":\"ad_123\",\"campaign_id\":\"camp\\u005f456\",\"advertiser_id\":\"adv "
		"\xc3\xa9\",\"publisher_id\":\"pub_001\","
		"\"user_id\":\"\\ud83d\\ude00\",\"device_id\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"ip_address\":\"192.168.1.1\","
		"\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0\","
		"\"geo\":{\"country\":\"uS\",\"region\":\"CA\",\"city\":\"San "
		"Francisco\"},\"referer\":\"https://publisher.com/page\","
		"\"device_type\":\"tablet\",\"bid_price\":0.50,\"currency\":\"EUR\",\"click_position\":2,\"timezone_offset_min\":-"
		"60,"
		"\"mouse_moves\":17,\"trace\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}";
	for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
		struct tp_parsed p;
		struct dp_json_result r = run(*v, text, strlen(text), &p);
		assert_int_equal(r.reason, TP_OK);
		assert_false(r.bad_trace);
		string_check(&p, TP_EVENT_ID, "");
		char id[TP_ID_BYTES_MAX + 1];
		p.fixed.string_bytes[TP_EVENT_ID] = 0;
		assert_int_equal(tp_event_id_text(&p.fixed, id), 36);
		assert_memory_equal(id, "123e4567-e89b-12d3-a456-426614174000", 36);
		string_check(&p, TP_AD_ID, "ad_123");
		string_check(&p, TP_CAMPAIGN_ID, "camp_456");
		string_check(&p, TP_ADVERTISER_ID, "adv \xc3\xa9");
		string_check(&p, TP_PUBLISHER_ID, "pub_001");
		string_check(&p, TP_USER_ID, "\xf0\x9f\x98\x80");
		string_check(&p, TP_DEVICE_ID, "\"\\/\b\f\n\r\t");
		string_check(&p, TP_REGION, "CA");
		string_check(&p, TP_CITY, "San Francisco");
		string_check(&p, TP_USER_AGENT,
			     "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0");
		string_check(&p, TP_REFERER, "https://publisher.com/page");
		assert_int_equal(p.fixed.type, TP_IMPRESSION);
		assert_int_equal(p.fixed.device, TP_TABLET);
		assert_int_equal(p.fixed.flags, TP_HAS_IP | TP_IP_SENT | TP_HAS_BID | TP_HAS_POSITION | TP_HAS_TIMEZONE |
							TP_HAS_MOUSE | TP_HAS_TRACE | TP_DEVICE_SENT);
		assert_true(p.fixed.timestamp_ms == 1640000000123);
		assert_true(p.fixed.bid_micros == 500000);
		static const uint8_t ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 1};
		assert_memory_equal(p.fixed.ip, ip, 16);
		assert_memory_equal(p.fixed.country, "US", 2);
		assert_memory_equal(p.fixed.currency, "EUR", 3);
		assert_int_equal(p.fixed.click_position, 2);
		assert_int_equal(p.fixed.timezone_offset_min, -60);
		assert_int_equal(p.fixed.mouse_moves, 17);
		assert_int_equal(p.fixed.trace_id[0], 0x0a);
		assert_int_equal(p.fixed.trace_id[15], 0x9c);
		assert_int_equal(p.fixed.span_id[7], 0x31);
		assert_int_equal(p.fixed.trace_flags, 1);
		assert_true(p.fixed.fingerprint != 0);

		r = run(*v, "{" REST "}", strlen("{" REST "}"), &p);
		assert_int_equal(r.reason, TP_OK);
		string_check(&p, TP_EVENT_ID, "e1");
		assert_int_equal(p.fixed.flags, 0);
		assert_memory_equal(p.fixed.currency, "USD", 3);
		assert_int_equal(p.fixed.country[0], 0);
	}
}

/* All ways to write a price give the micros that tp_micros_parse() gives, in the fast case and in the general one. */
static void test_prices(void **state)
{
	(void)state;
	static const char *const prices[] = {"0",    "1",         "12",        "1234567",  "999999", "1000000",
					     "0.5",  "0.50",      "0.05",      "0.123456", "12.34",  "999999.999999",
					     "0.0",  "1.000000",  "1.0000000", "1e2",      "1E+2",   "0.5e1",
					     "5e-1", "100000e-5", "0e0",       "0.000001", "10.10",  "7654321.5"};
	for (size_t i = 0; i < sizeof prices / sizeof prices[0]; i++) {
		int64_t expected = -1;
		int error = tp_micros_parse(prices[i], strlen(prices[i]), &expected);
		for (int form = 0; form < 4; form++) {
			static const char *const forms[] = {FULL("\"bid_price\":%s"), FULL("\"bid_price\":%s,\"user_id\":\"u\""),
							    FULL("\"bid_price\": %s ,\"user_id\":\"u\""),
							    "{\"bid_price\":%s," REST "}"};
			static char text[1024];
			snprintf(text, sizeof text, forms[form], prices[i]);
			for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
				struct tp_parsed p;
				struct dp_json_result r = run(*v, text, strlen(text), &p);
				assert_int_equal(r.reason, error ? TP_BAD_VALUE : TP_OK);
				if (!error && p.fixed.bid_micros != expected)
					fail_msg("%s: %s gave %lld", (*v)->name, text, (long long)p.fixed.bid_micros);
			}
		}
	}
}

static void test_devices(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		enum tp_device_type type;
		bool sent;
	} devices[] = {{"\"desktop\"", TP_DESKTOP, true}, {"\"mobile\"", TP_MOBILE, true}, {"\"tablet\"", TP_TABLET, true},
		       {"\"tv\"", TP_TV, true},           {"\"bot\"", TP_BOT, true},       {"\"other\"", TP_OTHER, true},
		       {"\"Desktop\"", TP_OTHER, true},   {"\"watch\"", TP_OTHER, true},   {"\"\\u0074v\"", TP_TV, true},
		       {"null", TP_OTHER, false},         {"\"\"", TP_OTHER, false}};
	for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
		static char text[1024];
		snprintf(text, sizeof text, FULL("\"device_type\":%s"), devices[i].name);
		struct tp_parsed p;
		assert_int_equal(dp_json_event(json_test_scratch(), text, strlen(text), &limits, &p).reason, TP_OK);
		if (devices[i].sent)
			assert_int_equal(p.fixed.device, devices[i].type);
		assert_int_equal(!!(p.fixed.flags & TP_DEVICE_SENT), devices[i].sent);
	}
}

static void test_trace(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		bool good;
	} traces[] = {
		{"\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"", true},
		{"\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-\\u00301\"", true},
		{"\"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings\"", true},
		{"\"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"", true},
		{"\"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.x\"", false},
		{"\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x\"", false},
		{"\"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"", false},
		{"\"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"", false},
		{"\"00-00000000000000000000000000000000-b7ad6b7169203331-01\"", false},
		{"\"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01\"", false},
		{"\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\"", false},
		{"\"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"", false},
		{"\"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01\"", false},
		{"\"\"", false},
		{"\"x\"", false},
		{"7", false},
		{"{\"a\":[1]}", false},
	};
	for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++) {
		static char text[1024];
		snprintf(text, sizeof text, FULL("\"trace\":%s"), traces[i].value);
		for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
			struct tp_parsed p;
			struct dp_json_result r = run(*v, text, strlen(text), &p);
			assert_int_equal(r.reason, TP_OK);
			if (r.bad_trace == traces[i].good)
				fail_msg("%s", traces[i].value);
			assert_int_equal(!!(p.fixed.flags & TP_HAS_TRACE), traces[i].good);
			assert_int_equal(p.fixed.trace_id[0] != 0, traces[i].good);
		}
	}
}

/* A text longer than a body may be is refused as such, not taken for a truncated one. */
static void test_too_large(void **state)
{
	(void)state;
	size_t bytes = DP_JSON_BYTES_MAX + 100;
	char *text = json_test_alloc(bytes);
	memset(text, 'x', bytes);
	memcpy(text, "{\"x\":\"", 6);
	memcpy(text + bytes - 2, "\"}", 2);
	for (const struct dp_json_variant *const *v = dp_json_variants(); *v; v++) {
		struct tp_parsed p;
		struct dp_json_result r = run(*v, text, bytes, &p);
		assert_true(r.syntax);
		assert_int_equal(r.reason, TP_TOO_LARGE);
		r = run(*v, text, DP_JSON_BYTES_MAX - 1, &p);
		assert_true(r.syntax);
		assert_int_equal(r.reason, TP_MALFORMED);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),     cmocka_unit_test(test_truncation), cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_string_ends), cmocka_unit_test(test_timestamp),  cmocka_unit_test(test_depth),
		cmocka_unit_test(test_many_keys),   cmocka_unit_test(test_values),     cmocka_unit_test(test_prices),
		cmocka_unit_test(test_devices),     cmocka_unit_test(test_trace),      cmocka_unit_test(test_too_large),
	};
	return cmocka_run_group_tests(tests, NULL, json_test_end);
}
