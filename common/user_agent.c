/*
 * Device type from a User-Agent header. Pure; any parser thread, once per event without a `device_type`.
 *
 * One pass over the text: at every letter that can begin a known word (a 256-bit set) the words of that letter are compared, without
 * case. Each word found adds a bit; the bits decide, in an order that lets the special beat the general ("Android" without "Mobile"
 * is a tablet, a television also says "Linux", a crawler also says "Mobile").
 *
 * What the words mean is observed practice, not a standard: RFC 9110 section 10.1.5 only has the product grammar; the phone/tablet
 * rule for Android is Google's published advice to web developers.
 */
#include "turnpike/event.h"

#include <string.h>

enum sign {
	BOT = 1 << 0,
	TV = 1 << 1,
	TABLET = 1 << 2,
	PHONE = 1 << 3,
	ANDROID = 1 << 4,
	MOBILE = 1 << 5,
	DESKTOP = 1 << 6,
	NOT_BOT = 1 << 7, /* "cubot" is a make of phones */
};

struct word {
	const char *text; /* lower case */
	uint8_t bytes;
	uint8_t sign;
};

#define W(text, sign) \
	{ \
		text, sizeof(text) - 1, sign \
	}
static const struct word words[] = {
	W("adsbot", BOT),
	W("android", ANDROID),
	W("appletv", TV),
	W("apple tv", TV),
	W("aftb", TV), /* Amazon Fire TV models: AFTB, AFTM, AFTS, AFTT … */
	W("aftm", TV),
	W("afts", TV),
	W("aftt", TV),
	W("bot", BOT),
	W("bravia", TV),
	W("blackberry", PHONE),
	W("crawl", BOT),
	W("crkey", TV),
	W("cros ", DESKTOP),
	W("cubot", NOT_BOT),
	W("curl/", BOT),
	W("facebookexternalhit", BOT),
	W("go-http-client", BOT),
	W("googletv", TV),
	W("google-inspectiontool", BOT),
	W("headless", BOT),
	W("hbbtv", TV),
	W("httpclient", BOT),
	W("iemobile", PHONE),
	W("ipad", TABLET),
	W("iphone", PHONE),
	W("ipod", PHONE),
	W("kindle", TABLET),
	W("libwww", BOT),
	W("linux", DESKTOP),
	W("macintosh", DESKTOP),
	W("mediapartners", BOT),
	W("mobile", MOBILE),
	W("netcast", TV),
	W("okhttp", BOT),
	W("opera mini", PHONE),
	W("phantomjs", BOT),
	W("playbook", TABLET),
	W("playstation", TV),
	W("python", BOT),
	W("roku", TV),
	W("scrapy", BOT),
	W("silk/", TABLET),
	W("slurp", BOT),
	W("smart-tv", TV),
	W("smarttv", TV),
	W("smart_tv", TV),
	W("spider", BOT),
	W("tablet", TABLET),
	W("tizen tv", TV),
	W("viera", TV),
	W("webos", TV),
	W("web0s", TV),
	W("wget", BOT),
	W("windows nt", DESKTOP),
	W("windows phone", PHONE),
	W("x11", DESKTOP),
	W("xbox", TV),
};

/* first[c] .. first[c + 1] are the words that begin with letter 'a' + c; the table above is in that order. */
static uint8_t first[27];

static void __attribute__((constructor)) words_index(void)
{
	size_t at = 0;
	for (int c = 0; c < 26; c++) {
		first[c] = (uint8_t)at;
		while (at < sizeof words / sizeof words[0] && words[at].text[0] == 'a' + c)
			at++;
	}
	first[26] = (uint8_t)at;
	assert(at == sizeof words / sizeof words[0]); /* sorted by first letter, or words would be skipped */
}

static inline unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static inline int starts(const char *text, size_t bytes, const struct word *word)
{
	if (bytes < word->bytes)
		return 0;
	for (size_t i = 1; i < word->bytes; i++)
		if (lower(text[i]) != (unsigned char)word->text[i])
			return 0;
	return 1;
}

enum tp_device_type tp_device_from_user_agent(const char *text, size_t bytes)
{
	unsigned signs = 0;
	for (size_t i = 0; i < bytes; i++) {
		unsigned letter = (unsigned)lower(text[i]) - 'a';
		if (letter >= 26)
			continue;
		for (unsigned w = first[letter]; w < first[letter + 1]; w++) {
			if (!starts(text + i, bytes - i, &words[w]))
				continue;
			signs |= words[w].sign;
			if (words[w].sign == NOT_BOT)
				i += words[w].bytes - 1;
			break;
		}
	}
	if (signs & BOT)
		return TP_BOT;
	if (signs & TV)
		return TP_TV;
	if (signs & PHONE)
		return TP_MOBILE;
	if (signs & TABLET)
		return TP_TABLET;
	if (signs & ANDROID)
		return signs & MOBILE ? TP_MOBILE : TP_TABLET;
	if (signs & MOBILE)
		return TP_MOBILE;
	return signs & DESKTOP ? TP_DESKTOP : TP_OTHER;
}
