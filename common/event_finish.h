/*
 * Finishing events on an rx core, compiled once per instruction set: event_finish_sse.c, event_finish_avx2.c and event_finish_avx512.c name the
 * function and a vector, and include this file. No include guard, on purpose. event_finish.c chooses at start.
 *
 *   parsed ─► strings end to end in the scratch ─► defaults, device ─► fixed part before them ─► fingerprint, shard hash
 *                                                                                    the record takes the strings from there
 *
 * Invariant: what tp_event_finish() makes, byte by byte. Entered by the rx core that owns the scratch.
 *
 *   FINISH        the function's name
 *   FINISH_BYTES  of a vector: 16, 32 or 64
 *   FINISH_END()  what makes the way free for SSE: gcc 12 leaves it out where the last thing that a function does is a call to another, and
 *                 then all code that comes after, which is compiled for SSE, waits for the upper halves: a whole event took 1.6 times as long
 */
#include "agent_memo.h"
#include "event_payload.h"

typedef uint64_t finish_vector __attribute__((vector_size(FINISH_BYTES), aligned(1), may_alias));
static_assert(FINISH_BYTES <= TP_SLACK_BYTES, "a vector too far is allowed for");

/* Copies whole vectors: reads and writes up to one too far, which spares the branches on what a length is not a multiple of. */
static inline void finish_copy(char *to, const char *from, uint32_t bytes)
{
	for (char *const end = to + bytes; to < end; to += FINISH_BYTES, from += FINISH_BYTES)
		*(finish_vector *)(void *)to = *(const finish_vector *)(const void *)from;
}

/* The strings end to end from `to`; notes their lengths in fixed.string_bytes, returns the sum. */
static inline uint32_t finish_pack(struct tp_parsed *parsed, char *to, bool slack)
{
	char *at = to;
	for (int i = 0; i < TP_STRINGS; i++) {
		uint16_t bytes = parsed->string[i].bytes;
		assert(bytes <= tp_string_bytes_max[i]); /* the parser's promise; the room behind `to` rests on it */
		parsed->fixed.string_bytes[i] = bytes;
		if (slack)
			finish_copy(at, parsed->string[i].at, bytes);
		else if (bytes > 0)
			memcpy(at, parsed->string[i].at, bytes);
		at += bytes;
	}
	return (uint32_t)(at - to);
}

void FINISH(struct tp_event_scratch *scratch, struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
	struct tp_payload *payload = (struct tp_payload *)(void *)scratch->payload;
	uint32_t string_bytes = parsed->packed_bytes;
	if (parsed->lie == TP_STRINGS_TOGETHER)
		memcpy(payload->strings, parsed->packed, string_bytes);
	else if (parsed->lie == TP_STRINGS_SLACK)
		string_bytes = finish_pack(parsed, payload->strings, true);
	else
		string_bytes = finish_pack(parsed, payload->strings, false);
	memset(payload->strings + string_bytes, 0, 8); /* the most that a record is padded */
	parsed->packed = payload->strings;
	parsed->packed_bytes = (uint16_t)string_bytes;
	parsed->lie = TP_STRINGS_PACKED;
	tp_defaults_fill(fixed);
	const struct tp_str *agent = &parsed->string[TP_USER_AGENT];
	if (!(fixed->flags & TP_DEVICE_SENT))
		fixed->device = (uint8_t)agent_memo_device(&scratch->agents, agent->at, agent->bytes);
	tp_payload_fill(payload, fixed);
	fixed->fingerprint = tp_fingerprint(payload, string_bytes);
	fixed->shard_hash = tp_shard_hash(parsed);
	FINISH_END();
}
