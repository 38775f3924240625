/*
 * IP addresses, prefixes and endpoints: text to bytes and back. Pure; any thread. tp_addr_parse() runs once per event that
 * names an address, so it is written out by hand: no copy, and a dotted quad without a loop.
 *
 * Text form in: RFC 4291 section 2.2 (all three forms) and dotted quads without leading zeros. Zones ("%eth0"), brackets and
 * spaces are no part of an address. Text form out: RFC 5952.
 */
#include "turnpike/addr.h"

#include <errno.h>
#include <smmintrin.h>
#include <string.h>

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

/* text[0..bytes) and zeros behind it; 7 to 15 bytes, nothing else is read. */
static inline __m128i v4_load(const char *text, size_t bytes)
{
	uint64_t front, back;
	if (bytes >= 8) {
		memcpy(&front, text, 8);
		memcpy(&back, text + bytes - 8, 8);
		back = back >> 8 * (15 - bytes) >> 8; /* without those that stand in front too */
	} else {
		uint32_t four[2];
		memcpy(&four[0], text, 4);
		memcpy(&four[1], text + 3, 4);
		front = four[0] | (uint64_t)four[1] << 24;
		back = 0;
	}
	return _mm_set_epi64x((int64_t)back, (int64_t)front);
}

/*
 * Dotted quad in text[0..bytes), the whole of it, to four bytes. Where parts begin and end is worked out for all four at once, their last
 * three digits are shuffled to places of their own, and a part is good if its value has as many digits as its text:
 *
 *   "192.0.2.17"   ends 3 5 7 10, starts 0 4 6 8   ─►  _192 ___0 ___2 __17   ─►   192 0 2 17
 */
static inline int v4_parse(const char *text, size_t bytes, uint8_t out[4])
{
	if (bytes < 7 || bytes > 15)
		return -EINVAL;
	const __m128i part = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	const __m128i place = _mm_setr_epi8(-4, -3, -2, -1, -4, -3, -2, -1, -4, -3, -2, -1, -4, -3, -2, -1);
	const __m128i raw = v4_load(text, bytes);
	unsigned dots = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(raw, _mm_set1_epi8('.')));
	if (__builtin_popcount(dots) != 3)
		return -EINVAL;
	uint32_t ends = (uint32_t)bytes << 24;
	ends |= (uint32_t)__builtin_ctz(dots);
	dots &= dots - 1;
	ends |= (uint32_t)__builtin_ctz(dots) << 8;
	dots &= dots - 1;
	ends |= (uint32_t)__builtin_ctz(dots) << 16;
	const uint32_t starts = (ends << 8) + 0x01010100;
	const __m128i from = _mm_add_epi8(_mm_shuffle_epi8(_mm_cvtsi32_si128((int)ends), part), place);
	const __m128i before = _mm_cmpgt_epi8(_mm_shuffle_epi8(_mm_cvtsi32_si128((int)starts), part), from);
	const __m128i digit = _mm_shuffle_epi8(_mm_sub_epi8(raw, _mm_set1_epi8('0')), _mm_or_si128(from, before));
	const __m128i hundreds = _mm_maddubs_epi16(digit, _mm_set1_epi32(0x010a6400)); /* 100 b, 10 c + d: a is of no number */
	const __m128i value = _mm_madd_epi16(hundreds, _mm_set1_epi16(1));
	/* one digit, and one more for each of these that is less; comparisons are -1 */
	const __m128i more = _mm_add_epi32(_mm_cmpgt_epi32(value, _mm_set1_epi32(9)), _mm_cmpgt_epi32(value, _mm_set1_epi32(99)));
	const __m128i digits = _mm_sub_epi32(_mm_set1_epi32(1), more);
	__m128i bad = _mm_xor_si128(digits, _mm_cvtepu8_epi32(_mm_cvtsi32_si128((int)(ends - starts))));
	bad = _mm_or_si128(bad, _mm_cmpgt_epi32(value, _mm_set1_epi32(255)));
	bad = _mm_or_si128(bad, _mm_subs_epu8(digit, _mm_set1_epi8(9)));
	if (!_mm_testz_si128(bad, bad))
		return -EINVAL;
	const __m128i lowest = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
	const int four = _mm_cvtsi128_si32(_mm_shuffle_epi8(value, lowest));
	memcpy(out, &four, 4);
	return 0;
}

static inline int hex_value(char c)
{
	if ((unsigned char)(c - '0') < 10)
		return c - '0';
	unsigned char lower = (unsigned char)((c | 0x20) - 'a');
	return lower < 6 ? lower + 10 : -1;
}

static inline int v6_parse(const char *text, size_t bytes, uint8_t out[16])
{
	if (bytes < 2 || bytes > TP_ADDR_TEXT_BYTES - 1)
		return -EINVAL;
	uint8_t group[16] = {0};
	unsigned filled = 0; /* bytes of group[] */
	int gap = -1;        /* where "::" stands, in bytes of group[] */
	size_t at = 0;
	if (text[0] == ':') {
		if (text[1] != ':')
			return -EINVAL;
		gap = 0;
		at = 2;
	}
	while (at < bytes) {
		size_t start = at;
		unsigned value = 0;
		int digit;
		while (at < bytes && at - start < 4 && (digit = hex_value(text[at])) >= 0) {
			value = value << 4 | (unsigned)digit;
			at++;
		}
		if (at < bytes && text[at] == '.') { /* the last 32 bits as a dotted quad */
			if (filled > 12 || v4_parse(text + start, bytes - start, group + filled))
				return -EINVAL;
			filled += 4;
			at = bytes;
			break;
		}
		if (at == start || filled > 14)
			return -EINVAL;
		group[filled++] = (uint8_t)(value >> 8);
		group[filled++] = (uint8_t)value;
		if (at == bytes)
			break;
		if (text[at] != ':')
			return -EINVAL;
		at++;
		if (at == bytes)
			return -EINVAL; /* a single colon at the end */
		if (text[at] == ':') {
			if (gap >= 0)
				return -EINVAL;
			gap = (int)filled;
			at++;
		}
	}
	if (gap < 0) {
		if (filled != 16)
			return -EINVAL;
		memcpy(out, group, 16);
		return 0;
	}
	if (filled > 14)
		return -EINVAL; /* "::" stands for one group of zeros at least */
	memset(out, 0, 16);
	memcpy(out, group, (size_t)gap);
	memcpy(out + 16 - (filled - (unsigned)gap), group + gap, filled - (unsigned)gap);
	return 0;
}

int tp_addr_parse(const char *text, size_t bytes, struct tp_addr *addr)
{
	struct tp_addr parsed;
	if (v4_parse(text, bytes, parsed.byte + 12) == 0) {
		memcpy(parsed.byte, v4_mapped, sizeof v4_mapped);
		parsed.family = 4;
	} else {
		if (v6_parse(text, bytes, parsed.byte))
			return -EINVAL;
		parsed.family = memcmp(parsed.byte, v4_mapped, sizeof v4_mapped) == 0 ? 4 : 6;
	}
	*addr = parsed;
	return 0;
}

/* Plain decimal without leading zeros, at most `max`. */
static int decimal_parse(const char *text, size_t bytes, unsigned max, unsigned *value)
{
	if (bytes == 0 || bytes > 5 || (text[0] == '0' && bytes > 1))
		return -EINVAL;
	unsigned sum = 0;
	for (size_t i = 0; i < bytes; i++) {
		if ((unsigned char)(text[i] - '0') >= 10)
			return -EINVAL;
		sum = sum * 10 + (unsigned)(text[i] - '0');
	}
	if (sum > max)
		return -EINVAL;
	*value = sum;
	return 0;
}

int tp_prefix_parse(const char *text, size_t bytes, struct tp_prefix *prefix)
{
	struct tp_prefix parsed;
	const char *slash = memchr(text, '/', bytes);
	size_t addr_bytes = slash ? (size_t)(slash - text) : bytes;
	if (tp_addr_parse(text, addr_bytes, &parsed.addr))
		return -EINVAL;
	/* "::ffff:192.0.2.0/120" counts its bits in version 6; inside, the address is of family 4 */
	bool mapped = parsed.addr.family == 4 && memchr(text, ':', addr_bytes) != NULL;
	unsigned bits_max = parsed.addr.family == 4 && !mapped ? 32 : 128;
	unsigned bits = bits_max;
	if (slash && decimal_parse(slash + 1, bytes - addr_bytes - 1, bits_max, &bits))
		return -EINVAL;
	if (mapped) {
		if (bits < 96)
			parsed.addr.family = 6; /* wider than all of IPv4: stays what it was written as */
		else
			bits -= 96;
	}
	parsed.bits = (uint8_t)bits;
	*prefix = parsed;
	return 0;
}

int tp_endpoint_parse(const char *text, size_t bytes, struct tp_endpoint *endpoint)
{
	struct tp_endpoint parsed;
	const char *addr = text;
	size_t addr_bytes;
	const char *colon;
	bool brackets = bytes > 0 && text[0] == '[';
	if (brackets) {
		const char *close = memchr(text, ']', bytes);
		if (!close)
			return -EINVAL;
		addr = text + 1;
		addr_bytes = (size_t)(close - addr);
		colon = close + 1;
		if (!memchr(addr, ':', addr_bytes))
			return -EINVAL;
	} else {
		colon = memchr(text, ':', bytes);
		addr_bytes = colon ? (size_t)(colon - text) : 0;
	}
	if (!colon || colon >= text + bytes || *colon != ':')
		return -EINVAL;
	unsigned port;
	if (tp_addr_parse(addr, addr_bytes, &parsed.addr))
		return -EINVAL;
	if (decimal_parse(colon + 1, (size_t)(text + bytes - colon - 1), 65535, &port))
		return -EINVAL;
	parsed.port = (uint16_t)port;
	*endpoint = parsed;
	return 0;
}

static char *decimal_put(char *to, unsigned value)
{
	char digit[10];
	int count = 0;
	do
		digit[count++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	while (count > 0)
		*to++ = digit[--count];
	return to;
}

static char *v4_put(char *to, const uint8_t four[4])
{
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			*to++ = '.';
		to = decimal_put(to, four[i]);
	}
	return to;
}

static char *v6_put(char *to, const uint8_t sixteen[16])
{
	static const char hex[] = "0123456789abcdef";
	unsigned group[8];
	int best = -1, best_count = 1; /* a lone zero group is not shortened: RFC 5952 section 4.2.2 */
	for (int i = 0; i < 8; i++)
		group[i] = (unsigned)sixteen[2 * i] << 8 | sixteen[2 * i + 1];
	for (int i = 0; i < 8; i++) {
		int end = i;
		while (end < 8 && group[end] == 0)
			end++;
		if (end - i > best_count) { /* the first of equals: section 4.2.3 */
			best = i;
			best_count = end - i;
		}
		if (end > i)
			i = end - 1;
	}
	for (int i = 0; i < 8; i++) {
		if (i == best) {
			*to++ = ':';
			*to++ = ':';
			i += best_count - 1;
			continue;
		}
		if (i > 0 && i != best + best_count)
			*to++ = ':';
		else if (best < 0 && i > 0)
			*to++ = ':';
		for (int shift = 12; shift >= 0; shift -= 4)
			if (group[i] >> shift || shift == 0)
				*to++ = hex[group[i] >> shift & 15];
	}
	return to;
}

static char *addr_put(char *to, const struct tp_addr *addr)
{
	if (addr->family == 4)
		return v4_put(to, addr->byte + 12);
	if (addr->family == 6)
		return v6_put(to, addr->byte);
	memcpy(to, "none", 4); /* so that a log line stays readable */
	return to + 4;
}

size_t tp_addr_text(const struct tp_addr *addr, char *to)
{
	char *end = addr_put(to, addr);
	*end = 0;
	return (size_t)(end - to);
}

size_t tp_prefix_text(const struct tp_prefix *prefix, char *to)
{
	char *end = addr_put(to, &prefix->addr);
	*end++ = '/';
	end = decimal_put(end, prefix->bits);
	*end = 0;
	return (size_t)(end - to);
}

size_t tp_endpoint_text(const struct tp_endpoint *endpoint, char *to)
{
	char *end = to;
	bool brackets = endpoint->addr.family == 6;
	if (brackets)
		*end++ = '[';
	end = addr_put(end, &endpoint->addr);
	if (brackets)
		*end++ = ']';
	*end++ = ':';
	end = decimal_put(end, endpoint->port);
	*end = 0;
	return (size_t)(end - to);
}

struct tp_addr tp_addr_v4(const uint8_t four[4])
{
	struct tp_addr addr = {.family = 4};
	memcpy(addr.byte, v4_mapped, sizeof v4_mapped);
	memcpy(addr.byte + 12, four, 4);
	return addr;
}

struct tp_addr tp_addr_v6(const uint8_t sixteen[16])
{
	struct tp_addr addr;
	memcpy(addr.byte, sixteen, 16);
	addr.family = memcmp(sixteen, v4_mapped, sizeof v4_mapped) == 0 ? 4 : 6;
	return addr;
}

bool tp_addr_equal(const struct tp_addr *a, const struct tp_addr *b)
{
	return a->family == b->family && (a->family == 0 || memcmp(a->byte, b->byte, 16) == 0);
}

bool tp_prefix_has(const struct tp_prefix *prefix, const struct tp_addr *addr)
{
	if (prefix->addr.family != addr->family || addr->family == 0)
		return false;
	unsigned bits = prefix->bits + (addr->family == 4 ? 96u : 0u);
	unsigned whole = bits / 8;
	if (memcmp(prefix->addr.byte, addr->byte, whole) != 0)
		return false;
	unsigned rest = bits % 8;
	return rest == 0 || (prefix->addr.byte[whole] ^ addr->byte[whole]) >> (8 - rest) == 0;
}

bool tp_prefix_list_has(const struct tp_prefix *list, uint32_t count, const struct tp_addr *addr)
{
	for (uint32_t i = 0; i < count; i++)
		if (tp_prefix_has(&list[i], addr))
			return true;
	return false;
}

#define V4(a, b, c, d, bits_) \
	{ \
		.addr = {.byte = {[10] = 0xff, 0xff, a, b, c, d}, .family = 4}, .bits = bits_ \
	}

const struct tp_prefix *tp_private_prefixes(uint32_t *count)
{
	static const struct tp_prefix list[] = {
		V4(127, 0, 0, 0, 8),                                             /* loopback, RFC 1122 */
		V4(10, 0, 0, 0, 8),                                              /* RFC 1918 */
		V4(172, 16, 0, 0, 12),                                           /* RFC 1918 */
		V4(192, 168, 0, 0, 16),                                          /* RFC 1918 */
		V4(169, 254, 0, 0, 16),                                          /* link-local, RFC 3927 */
		{.addr = {.byte = {[15] = 1}, .family = 6}, .bits = 128},        /* loopback, RFC 4291 */
		{.addr = {.byte = {[0] = 0xfe, 0x80}, .family = 6}, .bits = 10}, /* link-local, RFC 4291 */
		{.addr = {.byte = {[0] = 0xfc}, .family = 6}, .bits = 7},        /* unique local, RFC 4193 */
	};
	*count = sizeof list / sizeof list[0];
	return list;
}
