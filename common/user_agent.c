/*
 * Device type from a User-Agent header. Pure; any parser thread, once per event without a `device_type`.
 *
 * The text is searched for some sixty words at once, sixteen places a step: the words are dealt into eight buckets, and for
 * each of the first four letters two tables of sixteen (by low and by high half of the byte) hold the buckets in which some
 * word has that letter there. Eight table look-ups by shuffle, anded, leave a bit where a word of that bucket may begin; there
 * the first four bytes are compared with those of all the bucket's words at once, and of few words the rest. Case does not
 * matter.
 *
 * Each word found adds a sign; the signs decide, in an order that lets the special beat the general (a television also says
 * "Linux", a crawler also says "Mobile", an Android that does not say "Mobile" is a tablet).
 *
 *   text        M o z i l l a / 5 . 0   ( i P h o n e ;  …
 *   candidates  . . . . . . . . . . . . . 4 . . . . . .          bucket 4 holds "iphone", "ipad", …
 *
 * What the words mean is observed practice, not a standard: RFC 9110 section 10.1.5 has the grammar only; the rule for Android is
 * Google's published advice. Source of the search: "Teddy", G. Langdale, in Intel's Hyperscan (the method; the code is ours).
 */
#include "turnpike/event.h"

#include <stdbool.h>
#include <string.h>
#include <tmmintrin.h>

enum sign {
	BOT = 1 << 0,
	TV = 1 << 1,
	TABLET = 1 << 2,
	PHONE = 1 << 3,
	ANDROID = 1 << 4,
	MOBILE = 1 << 5,
	DESKTOP = 1 << 6,
};

enum { BUCKETS = 8, PREFIX = 4, STEP = 16, WINDOW_BYTES = STEP + PREFIX - 1 };

#define CASE_BITS \
	0x20202020u /* set in four bytes: letters lose their case, other signs may meet, which the full comparison tells */

struct word {
	const char *text; /* lower case, at least three bytes */
	uint8_t bytes;
	uint8_t sign;
	bool whole;         /* only where no letter stands before it */
	const char *unless; /* not when this stands before it, or NULL */
};

#define W(text, sign) \
	{ \
		text, sizeof(text) - 1, sign, false, NULL \
	}
#define WHOLE(text, sign) \
	{ \
		text, sizeof(text) - 1, sign, true, NULL \
	}
#define UNLESS(text, sign, before) \
	{ \
		text, sizeof(text) - 1, sign, false, before \
	}

/* Neighbours share a bucket: words that begin alike stand together, so that a bucket's tables stay sparse. */
static const struct word words[] = {
	W("adsbot", BOT),
	W("android", ANDROID),
	W("apple tv", TV),
	W("appletv", TV),
	WHOLE("aftb", TV), /* Fire TV models: AFTB, AFTMM, AFTSSS, AFTT … */
	WHOLE("aftm", TV),
	WHOLE("afts", TV),
	WHOLE("aftt", TV),
	W("blackberry", PHONE),
	UNLESS("bot", BOT, "cu"), /* Cubot makes phones */
	W("bravia", TV),
	W("crawl", BOT),
	W("crkey", TV),
	W("cros ", DESKTOP),
	WHOLE("curl/", BOT),
	W("facebookexternalhit", BOT),
	WHOLE("go-http-client", BOT),
	W("google-inspectiontool", BOT),
	W("googletv", TV),
	W("hbbtv", TV),
	W("headless", BOT),
	W("httpclient", BOT),
	W("iemobile", PHONE),
	W("ipad", TABLET),
	W("iphone", PHONE),
	W("ipod", PHONE),
	WHOLE("java/", BOT),
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
	W("smart_tv", TV),
	W("smarttv", TV),
	W("spider", BOT),
	W("tablet", TABLET),
	W("viera", TV),
	W("web0s", TV),
	W("webos", TV),
	WHOLE("wget", BOT),
	W("windows nt", DESKTOP),
	W("windows phone", PHONE),
	WHOLE("x11", DESKTOP),
	WHOLE("xbox", TV),
};

enum { WORDS = sizeof words / sizeof words[0], BUCKET_WORDS = (WORDS + BUCKETS - 1) / BUCKETS };

/* Bit b of low[p][x]: bucket b has a word whose byte p has x as its lower half; high[] likewise. Filled before main(). */
static uint8_t low[PREFIX][16] __attribute__((aligned(16))), high[PREFIX][16] __attribute__((aligned(16)));

/* The first four bytes of each bucket's words (three where there are no more), to be compared all at once. Filled likewise. */
static struct {
	_Alignas(16) uint32_t mask[BUCKET_WORDS];
	_Alignas(16) uint32_t text[BUCKET_WORDS];
} beginning[BUCKETS];

static bool is_letter(char c)
{
	return (unsigned char)((c | 0x20) - 'a') < 26;
}

static void __attribute__((constructor)) tables_fill(void)
{
	for (int b = 0; b < BUCKETS; b++)
		for (int i = 0; i < BUCKET_WORDS; i++)
			beginning[b].text[i] = 1; /* no word: with an empty mask never met */
	for (int w = 0; w < WORDS; w++) {
		uint8_t bucket = (uint8_t)(1 << w / BUCKET_WORDS);
		uint32_t *mask = &beginning[w / BUCKET_WORDS].mask[w % BUCKET_WORDS];
		uint32_t *begin = &beginning[w / BUCKET_WORDS].text[w % BUCKET_WORDS];
		*mask = words[w].bytes >= PREFIX ? UINT32_MAX : UINT32_MAX >> 8;
		memcpy(begin, words[w].text, sizeof *begin); /* its NUL, if it has three */
		*begin = (*begin | CASE_BITS) & *mask;
		for (int p = 0; p < PREFIX; p++) {
			if (p == words[w].bytes) { /* a word of three: any fourth */
				for (int half = 0; half < 16; half++) {
					low[p][half] |= bucket;
					high[p][half] |= bucket;
				}
				break;
			}
			unsigned char c = (unsigned char)words[w].text[p];
			low[p][c & 15] |= bucket;
			high[p][c >> 4] |= bucket;
			if (is_letter((char)c))
				high[p][(c & ~0x20) >> 4] |= bucket; /* the capital differs in its upper half only */
		}
	}
}

static bool word_at(const struct word *word, const char *text, size_t bytes, size_t at)
{
	if (bytes - at < word->bytes)
		return false;
	for (size_t i = 0; i < word->bytes; i++) {
		char c = text[at + i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c != word->text[i])
			return false;
	}
	if (word->whole && at > 0 && is_letter(text[at - 1]))
		return false;
	if (word->unless) {
		size_t before = strlen(word->unless);
		bool there = at >= before;
		for (size_t i = 0; there && i < before; i++)
			there = (text[at - before + i] | 0x20) == word->unless[i];
		return !there;
	}
	return true;
}

/* Signs of the bucket's words at text[at]; `begin` is the four bytes there, zeros behind the end. */
static inline unsigned bucket_signs(unsigned bucket, uint32_t begin, const char *text, size_t bytes, size_t at)
{
	static_assert(BUCKET_WORDS == 8, "two vectors of four beginnings");
	const __m128i four = _mm_set1_epi32((int)(begin | CASE_BITS));
	const __m128i *mask = (const __m128i *)beginning[bucket].mask, *text4 = (const __m128i *)beginning[bucket].text;
	__m128i front = _mm_cmpeq_epi32(_mm_and_si128(four, mask[0]), text4[0]);
	__m128i back = _mm_cmpeq_epi32(_mm_and_si128(four, mask[1]), text4[1]);
	unsigned found = (unsigned)_mm_movemask_ps(_mm_castsi128_ps(front)) | (unsigned)_mm_movemask_ps(_mm_castsi128_ps(back))
										      << 4;
	unsigned signs = 0;
	for (; found; found &= found - 1) {
		const struct word *word = &words[bucket * BUCKET_WORDS + (unsigned)__builtin_ctz(found)];
		if (word_at(word, text, bytes, at))
			signs |= word->sign;
	}
	return signs;
}

/* Which buckets have a word whose p-th byte may be each of the sixteen. */
static inline __m128i bucket_mask(__m128i bytes, int p)
{
	const __m128i half = _mm_set1_epi8(15);
	__m128i by_low = _mm_shuffle_epi8(_mm_load_si128((const __m128i *)low[p]), _mm_and_si128(bytes, half));
	__m128i by_high = _mm_shuffle_epi8(_mm_load_si128((const __m128i *)high[p]), _mm_and_si128(_mm_srli_epi16(bytes, 4), half));
	return _mm_and_si128(by_low, by_high);
}

/* Signs of the words that begin at the sixteen places from `at`. `window` is WINDOW_BYTES from there, zeros behind the end. */
static inline unsigned step_signs(const char *window, const char *text, size_t bytes, size_t at)
{
	__m128i mask = bucket_mask(_mm_loadu_si128((const __m128i *)window), 0);
	mask = _mm_and_si128(mask, bucket_mask(_mm_loadu_si128((const __m128i *)(window + 1)), 1));
	mask = _mm_and_si128(mask, bucket_mask(_mm_loadu_si128((const __m128i *)(window + 2)), 2));
	mask = _mm_and_si128(mask, bucket_mask(_mm_loadu_si128((const __m128i *)(window + 3)), 3));
	unsigned places = ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(mask, _mm_setzero_si128())) & 0xffff;
	if (!places)
		return 0;
	uint8_t buckets[STEP];
	_mm_storeu_si128((__m128i *)buckets, mask);
	unsigned signs = 0;
	for (; places; places &= places - 1) {
		unsigned place = (unsigned)__builtin_ctz(places);
		uint32_t begin;
		memcpy(&begin, window + place, sizeof begin);
		for (unsigned rest = buckets[place]; rest; rest &= rest - 1)
			signs |= bucket_signs((unsigned)__builtin_ctz(rest), begin, text, bytes, at + place);
	}
	return signs;
}

enum tp_device_type tp_device_from_user_agent(const char *text, size_t bytes)
{
	unsigned signs = 0;
	size_t at = 0;
	for (; at + WINDOW_BYTES <= bytes; at += STEP)
		signs |= step_signs(text + at, text, bytes, at);
	if (at < bytes) { /* fewer than 19: padded with zeros, which no word holds, so that nothing behind the text is read */
		char rest[STEP + WINDOW_BYTES] = {0};
		memcpy(rest, text + at, bytes - at);
		signs |= step_signs(rest, text, bytes, at);
		if (bytes - at > STEP)
			signs |= step_signs(rest + STEP, text, bytes, at + STEP);
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
