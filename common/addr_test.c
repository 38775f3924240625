/* Addresses, prefixes and endpoints against a table, against the C library, and there and back. */
#include "turnpike/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct tp_addr *addr)
{
	size_t bytes = strlen(text);
	char *copy = malloc(bytes ? bytes : 1); /* exact, so that the address sanitizer sees a read behind it */
	memcpy(copy, text, bytes);
	int status = tp_addr_parse(copy, bytes, addr);
	free(copy);
	return status;
}

static void good_addresses_come_out_canonical(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
		int family;
	} row[] = {
		{"192.0.2.1", "192.0.2.1", 4},
		{"0.0.0.0", "0.0.0.0", 4},
		{"255.255.255.255", "255.255.255.255", 4},
		{"1.2.3.4", "1.2.3.4", 4},
		{"::ffff:192.0.2.1", "192.0.2.1", 4},
		{"::FFFF:c000:0201", "192.0.2.1", 4},
		{"0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1", 4},
		{"::", "::", 6},
		{"::1", "::1", 6},
		{"1::", "1::", 6},
		{"2001:db8::1", "2001:db8::1", 6},
		{"2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1", 6},
		{"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1", 6},    /* the first of equal runs */
		{"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1", 6}, /* a lone zero group stays */
		{"2001:0:0:1:0:0:0:1", "2001:0:0:1::1", 6},          /* the longest run */
		{"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", 6},
		{"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0", 6},
		{"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8", 6},
		{"fe80::", "fe80::", 6},
		{"64:ff9b::192.0.2.33", "64:ff9b::c000:221", 6},
		{"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304", 6},
		{"::1.2.3.4", "::102:304", 6},
		{"abcd:ef01:2345:6789:abcd:ef01:2345:6789", "abcd:ef01:2345:6789:abcd:ef01:2345:6789", 6},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		struct tp_addr addr;
		char text[TP_ADDR_TEXT_BYTES];
		if (parse(row[i].in, &addr))
			fail_msg("%s was refused", row[i].in);
		assert_int_equal(addr.family, row[i].family);
		assert_int_equal(tp_addr_text(&addr, text), strlen(row[i].out));
		assert_string_equal(text, row[i].out);
	}
}

static void bad_addresses_are_refused(void **state)
{
	(void)state;
	static const char *const text[] = {
		"",
		"1",
		"1.2.3",
		"1.2.3.4.",
		".1.2.3.4",
		"1.2.3.4.5",
		"256.1.1.1",
		"1.2.3.256",
		"01.2.3.4",
		"1.2.3.04",
		"00.0.0.0",
		"1..2.3",
		"1.2.3.",
		"1.2.3.a",
		" 1.2.3.4",
		"1.2.3.4 ",
		"+1.2.3.4",
		"1.2.3.-4",
		"0x1.2.3.4",
		"1.2.3.1000",
		":",
		":::",
		"1:",
		":1",
		"1:2",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"1:2:3:4:5:6:7:8::",
		"::1:2:3:4:5:6:7:8",
		"1::2::3",
		"12345::",
		"g::",
		"::g",
		"[::1]",
		"::1%eth0",
		"fe80::1%1",
		"::1.2.3",
		"::1.2.3.4.5",
		"::1.2.3.4:1",
		"1:2:3:4:5:6:7:1.2.3.4",
		"1:2:3:4:5:1.2.3.4",
		"::256.0.0.1",
		"::01.2.3.4",
		"1.2.3.4::",
		"1:::2",
		"::1 ",
		" ::1",
		"::1/128",
		"1.2.3.4/8",
		"::ffff:",
		"00000::",
		"::00001",
		"1.2.3.4\n",
		"٣.2.3.4",
	};
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
		struct tp_addr addr = {.family = 77};
		if (parse(text[i], &addr) != -EINVAL)
			fail_msg("%s was taken", text[i]);
		assert_int_equal(addr.family, 77); /* untouched */
	}
	struct tp_addr addr;
	assert_int_equal(tp_addr_parse("1.2.3.4\0", 8, &addr), -EINVAL);
	assert_int_equal(tp_addr_parse("1.2\0.3.4", 8, &addr), -EINVAL);
}

/* Parts of every length and at every limit, in all places. */
static void quads_are_judged_as_by_the_library(void **state)
{
	(void)state;
	static const char *const part[] = {"0",   "1",   "9",  "10", "99",  "100", "199",  "249", "255", "256", "260",
					   "999", "256", "00", "01", "010", "",    "1000", "a",   "1:",  "/",   "\x80"};
	enum { PARTS = sizeof part / sizeof part[0] };
	uint32_t taken = 0;
	for (uint32_t i = 0; i < PARTS * PARTS * PARTS * PARTS; i++) {
		char text[32];
		snprintf(text, sizeof text, "%s.%s.%s.%s", part[i % PARTS], part[i / PARTS % PARTS],
			 part[i / PARTS / PARTS % PARTS], part[i / PARTS / PARTS / PARTS]);
		uint8_t four[4];
		bool theirs = inet_pton(AF_INET, text, four) == 1;
		struct tp_addr addr;
		if ((parse(text, &addr) == 0) != theirs)
			fail_msg("%s: the library says %d", text, theirs);
		if (!theirs)
			continue;
		struct tp_addr expected = tp_addr_v4(four);
		assert_true(tp_addr_equal(&addr, &expected));
		taken++;
	}
	assert_int_equal(taken, 9 * 9 * 9 * 9);
}

static uint32_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

/* Random text of the right letters: we take it exactly when the C library does, and mean the same. */
static void random_text_is_judged_as_by_the_library(void **state)
{
	(void)state;
	static const char letter[] = "0123456789abcdefABF:::::::::.....";
	static const char *const start[] = {"", "::", "1.2.3.", "2001:db8::", "1:2:3:4:5:6:", "::ffff:1.2."};
	uint64_t seed = 7;
	int taken[2] = {0};
	for (int i = 0; i < 300000; i++) {
		char text[64];
		strcpy(text, start[random_next(&seed) % 6]);
		size_t bytes = strlen(text), more = random_next(&seed) % 12;
		while (more-- > 0)
			text[bytes++] = letter[random_next(&seed) % (sizeof letter - 1)];
		text[bytes] = 0;
		uint8_t four[4], sixteen[16];
		bool is4 = inet_pton(AF_INET, text, four) == 1, is6 = inet_pton(AF_INET6, text, sixteen) == 1;
		struct tp_addr addr;
		int status = tp_addr_parse(text, bytes, &addr);
		if ((status == 0) != (is4 || is6))
			fail_msg("%s: %d, the library says %d", text, status, is4 || is6);
		if (status)
			continue;
		taken[is6]++;
		struct tp_addr expected = is4 ? tp_addr_v4(four) : tp_addr_v6(sixteen);
		assert_true(tp_addr_equal(&addr, &expected));
		char out[TP_ADDR_TEXT_BYTES];
		struct tp_addr back;
		size_t out_bytes = tp_addr_text(&addr, out);
		assert_int_equal(tp_addr_parse(out, out_bytes, &back), 0);
		assert_true(tp_addr_equal(&addr, &back));
	}
	assert_true(taken[0] > 100 && taken[1] > 1000);
}

static void every_pattern_of_zero_groups_comes_back(void **state)
{
	(void)state;
	for (unsigned pattern = 0; pattern < 256; pattern++) {
		uint8_t sixteen[16] = {0};
		for (int i = 0; i < 8; i++)
			if (pattern >> i & 1)
				sixteen[2 * i + i % 2] = (uint8_t)(0x10 + i);
		struct tp_addr addr = tp_addr_v6(sixteen), back;
		char text[TP_ADDR_TEXT_BYTES], library[64];
		size_t bytes = tp_addr_text(&addr, text);
		assert_int_equal(bytes, strlen(text));
		assert_int_equal(tp_addr_parse(text, bytes, &back), 0);
		assert_true(tp_addr_equal(&addr, &back));
		inet_ntop(AF_INET6, sixteen, library, sizeof library);
		if (!strchr(library, '.')) /* glibc writes ::a.b.c.d for the deprecated compatible addresses */
			assert_string_equal(text, library);
	}
}

static void prefixes_hold_what_they_should(void **state)
{
	(void)state;
	static const struct {
		const char *prefix, *addr;
		bool in;
	} row[] = {
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.6", false},
		{"0.0.0.0/0", "255.1.2.3", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "1.2.3.4", false},
		{"192.0.2.128/25", "192.0.2.129", true},
		{"192.0.2.128/25", "192.0.2.127", false},
		{"192.0.2.77/25", "192.0.2.1", true}, /* host bits do not matter */
		{"2001:db8::/32", "2001:db8:ffff::", true},
		{"2001:db8::/32", "2001:db9::", false},
		{"2001:db8::/127", "2001:db8::1", true},
		{"2001:db8::/127", "2001:db8::2", false},
		{"2001:db8::/64", "2001:db8:0:0:1::", true},
		{"2001:db8::/64", "2001:db8:0:1::", false},
		{"::ffff:10.0.0.0/104", "10.9.8.7", true},
		{"::ffff:10.0.0.0/104", "11.9.8.7", false},
	};
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		struct tp_prefix prefix;
		struct tp_addr addr;
		assert_int_equal(tp_prefix_parse(row[i].prefix, strlen(row[i].prefix), &prefix), 0);
		assert_int_equal(parse(row[i].addr, &addr), 0);
		if (tp_prefix_has(&prefix, &addr) != row[i].in)
			fail_msg("%s in %s", row[i].addr, row[i].prefix);
	}
	struct tp_prefix prefix;
	char text[TP_PREFIX_TEXT_BYTES];
	static const char *const good[] = {"10.0.0.1/24", "::/0", "0.0.0.0/0", "2001:db8::1/64", "192.0.2.1/32"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(tp_prefix_parse(good[i], strlen(good[i]), &prefix), 0);
		assert_int_equal(tp_prefix_text(&prefix, text), strlen(good[i]));
		assert_string_equal(text, good[i]);
	}
	static const char *const bad[] = {"10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1",  "10.0.0.0/08", "10.0.0.0/1x",
					  "/8",          "",       "10.0.0/8",  "10.0.0.0/8/8", "10.0.0.0 /8", "::/99999999999",
					  "10.0.0.0/ 8"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(tp_prefix_parse(bad[i], strlen(bad[i]), &prefix), -EINVAL);
}

static void endpoints_there_and_back(void **state)
{
	(void)state;
	struct tp_endpoint endpoint;
	char text[TP_ENDPOINT_TEXT_BYTES];
	static const char *const good[] = {"127.0.0.1:8080", "[::1]:80", "0.0.0.0:0", "[2001:db8::1]:65535",
					   "[abcd:ef01:2345:6789:abcd:ef01:2345:6789]:65535"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(tp_endpoint_parse(good[i], strlen(good[i]), &endpoint), 0);
		assert_int_equal(tp_endpoint_text(&endpoint, text), strlen(good[i]));
		assert_string_equal(text, good[i]);
	}
	assert_int_equal(tp_endpoint_parse("[::1]:80", 8, &endpoint), 0);
	assert_int_equal(endpoint.port, 80);
	static const char *const bad[] = {"",
					  ":80",
					  "127.0.0.1",
					  "127.0.0.1:",
					  "127.0.0.1:65536",
					  "127.0.0.1:-1",
					  "127.0.0.1:080",
					  "::1:80",
					  "[::1]",
					  "[::1]80",
					  "[::1",
					  "[127.0.0.1]:80",
					  "[]:80",
					  "127.0.0.1:80 ",
					  "[::1]:",
					  "127.0.0.1:x",
					  "localhost:80",
					  "[",
					  "]:80",
					  "[::1]]:80",
					  "127.0.0.1:123456"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (tp_endpoint_parse(bad[i], strlen(bad[i]), &endpoint) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
}

static void private_addresses_are_known(void **state)
{
	(void)state;
	static const char *const inside[] = {"127.0.0.1",   "10.1.2.3",    "172.16.0.1", "172.31.255.255",
					     "192.168.9.9", "169.254.1.1", "::1",        "fe80::1",
					     "febf::1",     "fd00::1",     "fc00::1",    "::ffff:10.0.0.1"};
	static const char *const outside[] = {
		"126.255.255.255", "11.0.0.0",    "172.15.255.255", "172.32.0.0", "192.169.0.0", "8.8.8.8", "::2",
		"fec0::1",         "2001:db8::1", "fe00::1",        "::",         "0.0.0.0"};
	uint32_t count;
	const struct tp_prefix *list = tp_private_prefixes(&count);
	struct tp_addr addr;
	for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
		assert_int_equal(parse(inside[i], &addr), 0);
		if (!tp_prefix_list_has(list, count, &addr))
			fail_msg("%s is private", inside[i]);
	}
	for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
		assert_int_equal(parse(outside[i], &addr), 0);
		if (tp_prefix_list_has(list, count, &addr))
			fail_msg("%s is not private", outside[i]);
	}
}

static void no_address_is_no_address(void **state)
{
	(void)state;
	struct tp_addr none = {0}, any6;
	char text[TP_ADDR_TEXT_BYTES];
	assert_int_equal(parse("::", &any6), 0);
	assert_false(tp_addr_equal(&none, &any6));
	assert_true(tp_addr_equal(&none, &none));
	tp_addr_text(&none, text);
	assert_string_equal(text, "none");
	struct tp_prefix all = {.addr = none, .bits = 0};
	assert_false(tp_prefix_has(&all, &none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_addresses_come_out_canonical),
		cmocka_unit_test(bad_addresses_are_refused),
		cmocka_unit_test(quads_are_judged_as_by_the_library),
		cmocka_unit_test(random_text_is_judged_as_by_the_library),
		cmocka_unit_test(every_pattern_of_zero_groups_comes_back),
		cmocka_unit_test(prefixes_hold_what_they_should),
		cmocka_unit_test(endpoints_there_and_back),
		cmocka_unit_test(private_addresses_are_known),
		cmocka_unit_test(no_address_is_no_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
