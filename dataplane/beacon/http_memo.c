/*
 * Heads that were parsed before: see http_memo.h. Hot.
 */
#include "http_memo.h"

#include <emmintrin.h>
#include <nmmintrin.h>
#include <string.h>

/* What the parser sets of a head without X-Forwarded-For. */
enum { HEAD_BYTES = offsetof(struct dp_http_head, forwarded) };

static __m128i load(const char *at)
{
	return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* Takes as long whatever differs: a head may hold a token. */
static bool same(const char *a, const char *b, size_t bytes)
{
	if (bytes < 16) {
		unsigned other = 0;
		for (size_t i = 0; i < bytes; i++)
			other |= (unsigned)(a[i] ^ b[i]);
		return other == 0;
	}
	const size_t last = bytes - 16;
	__m128i other = _mm_xor_si128(load(a + last), load(b + last));
	for (size_t at = 0; at < last; at += 16)
		other = _mm_or_si128(other, _mm_xor_si128(load(a + at), load(b + at)));
	return _mm_movemask_epi8(_mm_cmpeq_epi8(other, _mm_setzero_si128())) == 0xffff;
}

bool dp_memo_find(const struct dp_http_memo *memo, uint16_t place, struct dp_http_head *head, const char *bytes, size_t count)
{
	const struct dp_memo_head *noted = &memo->place[place];
	const size_t all = noted->head.bytes, digits_at = noted->head.length_at, digits = noted->head.length_bytes;
	if (all == 0 || count < all || !same(noted->text, bytes, digits ? digits_at : all))
		return false;
	uint64_t length = 0;
	for (size_t i = 0; i < digits; i++) {
		const unsigned digit = (unsigned char)bytes[digits_at + i] - (unsigned)'0';
		if (digit > 9)
			return false;
		length = length * 10 + digit;
	}
	if (digits && !same(noted->text + digits_at + digits, bytes + digits_at + digits, all - digits_at - digits))
		return false;
	memcpy(head, &noted->head, HEAD_BYTES);
	head->content_length = length;
	return true;
}

/* Only has to spread. */
static uint32_t hash(uint32_t seed, const char *at, size_t bytes)
{
	uint64_t value = seed, word;
	for (; bytes >= 8; at += 8, bytes -= 8) {
		memcpy(&word, at, 8);
		value = _mm_crc32_u64(value, word);
	}
	for (; bytes > 0; at++, bytes--)
		value = _mm_crc32_u8((uint32_t)value, (uint8_t)*at);
	return (uint32_t)value;
}

uint16_t dp_memo_note(struct dp_http_memo *memo, uint16_t place, const struct dp_http_head *head, const char *bytes)
{
	const size_t all = head->bytes, digits = head->length_bytes, behind = head->length_at + digits;
	if (all > DP_MEMO_TEXT_BYTES || digits > DP_MEMO_DIGITS_MAX || head->forwarded_count != 0 || head->traceparent.at != 0)
		return place;
	const uint32_t front = hash((uint32_t)digits, bytes, digits ? head->length_at : all);
	place = (digits ? hash(front, bytes + behind, all - behind) : front) % DP_MEMO_PLACES;
	struct dp_memo_head *noted = &memo->place[place];
	memcpy(&noted->head, head, HEAD_BYTES);
	memcpy(noted->text, bytes, all);
	return place;
}
