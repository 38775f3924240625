/* Device types of real user agents, and that the wide search finds a word at every place and reads nothing behind the text. */
#include "turnpike/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	enum tp_device_type type;
	const char *text;
} agents[] = {
	{TP_DESKTOP,
	 "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"},
	{TP_DESKTOP,
	 "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_2) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Safari/605.1.15"},
	{TP_DESKTOP, "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"},
	{TP_DESKTOP,
	 "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36"},
	{TP_MOBILE, "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 "
		    "Mobile/15E148 Safari/604.1"},
	{TP_MOBILE, "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.43 Mobile "
		    "Safari/537.36"},
	{TP_MOBILE,
	 "Mozilla/5.0 (Linux; Android 10; CUBOT X30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0 Mobile Safari/537.36"},
	{TP_MOBILE, "Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/113.0 Firefox/113.0"},
	{TP_MOBILE, "Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950) AppleWebKit/537.36 Edge/15.15254"},
	{TP_MOBILE, "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10"},
	{TP_TABLET, "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"},
	{TP_TABLET,
	 "Mozilla/5.0 (Linux; Android 13; SM-X906C) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"},
	{TP_TABLET, "Mozilla/5.0 (Linux; Android 9; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/108.4.6 like Chrome/108.0 "
		    "Safari/537.36"},
	{TP_TV,
	 "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.5) AppleWebKit/537.36 (KHTML, like Gecko) 85.0.4183.93/6.5 TV Safari/537.36"},
	{TP_TV, "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 "
		"WebAppManager"},
	{TP_TV, "Mozilla/5.0 (Linux; Android 9; AFTKA Build/PS7624; AFTMM) AppleWebKit/537.36 (KHTML, like Gecko) Mobile"},
	{TP_TV, "Roku/DVP-12.5 (12.5.0.4178-88)"},
	{TP_TV, "AppleTV11,1/11.1"},
	{TP_BOT,
	 "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile "
	 "Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
	{TP_BOT, "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"},
	{TP_BOT,
	 "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.6099.28 Safari/537.36"},
	{TP_BOT, "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"},
	{TP_BOT, "curl/7.88.1"},
	{TP_BOT, "python-requests/2.31.0"},
	{TP_BOT, "Wget/1.21.3"},
	{TP_BOT, "Go-http-client/2.0"},
	{TP_OTHER, ""},
	{TP_OTHER, "Mozilla/5.0"},
	{TP_OTHER, "craftbeer/1.0 (xx11)"},
	{TP_OTHER, "bo"},
};

static void real_agents_are_told_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof agents / sizeof agents[0]; i++) {
		enum tp_device_type got = tp_device_from_user_agent(agents[i].text, strlen(agents[i].text));
		if (got != agents[i].type)
			fail_msg("%s: got %s, expected %s", agents[i].text, tp_device_name(got), tp_device_name(agents[i].type));
	}
}

static void case_does_not_matter(void **state)
{
	(void)state;
	assert_int_equal(tp_device_from_user_agent("IPHONE", 6), TP_MOBILE);
	assert_int_equal(tp_device_from_user_agent("iphone", 6), TP_MOBILE);
	assert_int_equal(tp_device_from_user_agent("SMART_TV", 8), TP_TV);
	assert_int_equal(tp_device_from_user_agent("smart\x7ftv", 8), TP_OTHER); /* '_' has no other case */
}

static void a_word_is_found_at_every_place(void **state)
{
	(void)state;
	static const char *const word[] = {"bot", "x11", "iPad", "facebookexternalhit"};
	static const enum tp_device_type type[] = {TP_BOT, TP_DESKTOP, TP_TABLET, TP_BOT};
	for (size_t w = 0; w < sizeof word / sizeof word[0]; w++) {
		size_t word_bytes = strlen(word[w]);
		for (size_t bytes = word_bytes; bytes < 70; bytes++) {
			for (size_t at = 0; at + word_bytes <= bytes; at++) {
				char *text = malloc(bytes); /* exact, so that the address sanitizer sees a read behind it */
				assert_non_null(text);
				memset(text, '.', bytes);
				memcpy(text + at, word[w], word_bytes);
				assert_int_equal(tp_device_from_user_agent(text, bytes), type[w]);
				assert_int_equal(tp_device_from_user_agent(text, at + word_bytes - 1), TP_OTHER); /* cut off */
				free(text);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_agents_are_told_apart),
		cmocka_unit_test(case_does_not_matter),
		cmocka_unit_test(a_word_is_found_at_every_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
