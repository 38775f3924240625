/*
 * Event ids: text to 128 bits and back.
 *
 * Any parser thread enters tp_id_from_text(); tp_id_secret_set() is called once, before any of them starts.
 *
 *   "123e4567-e89b-12d3-a456-426614174000"   canonical: the 16 bytes 12 3e 45 … 00, in this order, in struct tp_id
 *   anything else of 1 to 64 bytes           XXH3-128 of the text under the node's secret
 *
 * Invariants: the result is never all zero (zero marks an empty slot in the tables); equal texts give equal ids for as long as
 * the secret stays the same; only lower-case UUIDs are taken as such, because ids compare byte for byte.
 * Source: contract section 4; RFC 9562 section 4 (text form); XXH3 of xxHash 0.8.
 */
#include "key.h"

#include "turnpike/event.h"

#include <string.h>
#include <tmmintrin.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static unsigned char own_key[TP_KEY_BYTES] __attribute__((aligned(64)));

/* Before a secret is set (tools that only read): the published key of XXH3. */
const unsigned char *tp_key = (const unsigned char *)XXH3_kSecret;
static_assert(sizeof(XXH3_kSecret) == TP_KEY_BYTES, "the built-in key has the size of ours");

/* One step of splitmix64 (Steele, Lea, Flood 2014): a bijection with full avalanche. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

void tp_id_secret_set(const uint64_t secret[2])
{
	uint64_t a = secret[0], b = secret[1];
	for (size_t i = 0; i < TP_KEY_BYTES / 8; i++) {
		/* two chained counters: every word of the key depends on both words of the secret */
		a += 0x9e3779b97f4a7c15ULL;
		b = mix(b + a);
		uint64_t word = mix(a ^ mix(b));
		memcpy(own_key + 8 * i, &word, 8);
	}
	tp_key = own_key;
}

/*
 * What each byte is as a lower-case hex digit, by its two halves: 0 none, DIGIT, LETTER. So (byte + class) & 15 is its value.
 *
 *   '0' … '9'  30 … 39    'a' … 'f'  61 … 66
 */
enum { DIGIT = 0x10, LETTER = 0x09, BOTH = DIGIT | LETTER };
static inline __m128i hex_class(__m128i c)
{
	const __m128i by_low = _mm_setr_epi8(DIGIT, BOTH, BOTH, BOTH, BOTH, BOTH, BOTH, DIGIT, DIGIT, DIGIT, 0, 0, 0, 0, 0, 0);
	const __m128i by_high = _mm_setr_epi8(0, 0, 0, DIGIT, 0, 0, LETTER, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	const __m128i high = _mm_and_si128(_mm_srli_epi16(c, 4), _mm_set1_epi8(15));
	return _mm_and_si128(_mm_shuffle_epi8(by_low, c), _mm_shuffle_epi8(by_high, high)); /* above 0x7f the first is 0 */
}

/* Pairs of hex digits to numbers, two bytes each. */
static inline __m128i hex_pairs(__m128i c, __m128i class)
{
	__m128i nibble = _mm_and_si128(_mm_add_epi8(c, class), _mm_set1_epi8(15));
	return _mm_maddubs_epi16(nibble, _mm_set1_epi16(0x0110)); /* even digit * 16 + odd digit */
}

static inline int uuid_parse(const char *text, struct tp_id *id)
{
	/*
	 * 0       8 9  13 14  18 19  23 24         36
	 * xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
	 */
	const __m128i front = _mm_loadu_si128((const __m128i *)text);         /* 0..15 */
	const __m128i front2 = _mm_loadu_si128((const __m128i *)(text + 2));  /* 2..17 */
	const __m128i back = _mm_loadu_si128((const __m128i *)(text + 19));   /* 19..34 */
	const __m128i back20 = _mm_loadu_si128((const __m128i *)(text + 20)); /* 20..35 */
	const __m128i high = _mm_or_si128(
		_mm_shuffle_epi8(front, _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, -1, -1, -1, -1)),
		_mm_shuffle_epi8(front2, _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 12, 13, 14, 15)));
	const __m128i low = _mm_or_si128(
		_mm_shuffle_epi8(back, _mm_setr_epi8(0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, -1)),
		_mm_shuffle_epi8(back20, _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 15)));
	const __m128i high_class = hex_class(high), low_class = hex_class(low), zero = _mm_setzero_si128();
	const __m128i none = _mm_or_si128(_mm_cmpeq_epi8(high_class, zero), _mm_cmpeq_epi8(low_class, zero));
	const __m128i both = _mm_packus_epi16(hex_pairs(high, high_class), hex_pairs(low, low_class));
	memcpy(id, &both, sizeof *id);
	return text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' && _mm_movemask_epi8(none) == 0 &&
	       (id->hi | id->lo) != 0;
}

struct tp_id tp_id_from_text(const char *text, size_t bytes, int *uuid)
{
	struct tp_id id;
	if (bytes == 36 && uuid_parse(text, &id)) {
		*uuid = 1;
		return id;
	}
	*uuid = 0;
	XXH128_hash_t hash = XXH3_128bits_withSecret(text, bytes, tp_key, TP_KEY_BYTES);
	id.hi = hash.high64;
	id.lo = hash.low64;
	if ((id.hi | id.lo) == 0)
		id.lo = 1;
	return id;
}

size_t tp_event_id_text(const struct tp_event *event, char *to)
{
	struct tp_str kept = tp_event_string(event, TP_EVENT_ID);
	if (kept.bytes > 0) {
		memcpy(to, kept.at, kept.bytes);
		to[kept.bytes] = 0;
		return kept.bytes;
	}
	static const char digit[] = "0123456789abcdef";
	uint8_t byte[16];
	memcpy(byte, &event->id, 16);
	char *at = to;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = digit[byte[i] >> 4];
		*at++ = digit[byte[i] & 15];
	}
	*at = 0;
	return (size_t)(at - to);
}
