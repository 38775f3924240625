/*
 * Looking into the memo of user agents (turnpike/agent_memo.h): once for each event without a `device_type`. Entered by the rx core that owns
 * the memo; no other state. Private to common, and inline: it is compiled once per instruction set, with event_finish.h.
 *
 *   text ─ hash ─► place ─┬─ the same text ─► its device
 *                         └─ another, or none ─► tp_device_from_user_agent(), put there
 *
 * The hash only has to spread: two CRC-32C side by side, each over every other eight bytes, so that neither waits for the other. The last
 * sixteen bytes of a text are taken once more, whatever of them was taken before, and so nothing behind the text is read.
 */
#ifndef TP_AGENT_MEMO_H
#define TP_AGENT_MEMO_H

#include "turnpike/agent_memo.h"

#include <nmmintrin.h>
#include <stdbool.h>
#include <string.h>

static_assert((TP_AGENT_PLACES & (TP_AGENT_PLACES - 1)) == 0, "a place is a mask away");

static inline uint64_t agent_word(const char *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof word);
	return word;
}

static inline uint32_t agent_place(const char *text, size_t bytes)
{
	uint64_t even = bytes, odd = 0;
	const char *const last = text + bytes - 16;
	for (const char *at = text; at < last; at += 16) {
		even = _mm_crc32_u64(even, agent_word(at));
		odd = _mm_crc32_u64(odd, agent_word(at + 8));
	}
	even = _mm_crc32_u64(even, agent_word(last));
	odd = _mm_crc32_u64(odd, agent_word(last + 8));
	return (uint32_t)(even + 5 * odd) & (TP_AGENT_PLACES - 1);
}

static inline bool agent_same(const char *a, const char *b, size_t bytes)
{
	const size_t last = bytes - 16;
	__m128i other = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(a + last)), _mm_loadu_si128((const __m128i *)(b + last)));
	for (size_t at = 0; at < last; at += 16)
		other = _mm_or_si128(other, _mm_xor_si128(_mm_loadu_si128((const __m128i *)(a + at)),
							  _mm_loadu_si128((const __m128i *)(b + at))));
	return _mm_testz_si128(other, other);
}

static inline enum tp_device_type agent_memo_device(struct tp_agent_memo *memo, const char *text, size_t bytes)
{
	if (bytes < TP_AGENT_BYTES_LEAST || bytes > TP_AGENT_BYTES_MOST)
		return tp_device_from_user_agent(text, bytes);
	struct tp_agent *agent = &memo->agent[agent_place(text, bytes)];
	if (__builtin_expect(agent->bytes != bytes || !agent_same(agent->text, text, bytes), 0)) {
		agent->device = (uint8_t)tp_device_from_user_agent(text, bytes);
		agent->bytes = (uint16_t)bytes;
		memcpy(agent->text, text, bytes);
	}
	return (enum tp_device_type)agent->device;
}

#endif
