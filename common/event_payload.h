/*
 * What finishing an event is made of, private to event.c and to the copies of event_finish.h, one per instruction set: the payload that is
 * hashed, defaults, shard hash. Pure; any parser thread.
 *
 * The fingerprint is XXH3-64, under the node's key, of one packed buffer:
 *
 *   ├ fixed fields, 88 bytes: lengths of all strings, numbers, flags, … ┤ event_id │ ad │ campaign │ … │ referer ┤
 *
 * All lengths come first, so a byte cannot move from one string to its neighbour unseen. A field that was not sent is zero and
 * has its flag clear; what was derived from the connection or from another field (address, device) is zero unless it was sent,
 * and `trace` and the receive time are left out: a retry over another path has other ones. Logs hold fingerprints: they stay as they are.
 * Source: contract section 4 ("Counting").
 */
#ifndef TP_EVENT_PAYLOAD_H
#define TP_EVENT_PAYLOAD_H

#include "key.h"
#include "turnpike/event_scratch.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Lengths that each string may have. */
extern const uint16_t tp_string_bytes_max[TP_STRINGS];

enum { STRING_BYTES_SUM_MAX = TP_SENT_BYTES_MAX - TP_EVENT_FIXED_BYTES };
static_assert(TP_SENT_BYTES_MAX % 8 == 0, "the longest record needs no padding");

/* What is hashed, and room behind it. No hidden padding in the fixed part: every byte of it is set. */
struct tp_payload {
	struct tp_id id;
	uint64_t timestamp_ms;
	int64_t bid_micros;
	uint8_t ip[16];
	uint16_t string_bytes[TP_STRINGS];
	uint16_t click_position;
	int32_t timezone_offset_min;
	int32_t mouse_moves;
	char country[2];
	char currency[3];
	uint8_t type;
	uint8_t device;
	uint8_t flags;
	char strings[STRING_BYTES_SUM_MAX + 2 * TP_SLACK_BYTES];
};

static_assert(offsetof(struct tp_payload, strings) == TP_PAYLOAD_FIXED_BYTES, "no hidden padding in the bytes that are hashed");
static_assert(sizeof(struct tp_payload) == sizeof(((struct tp_event_scratch *)NULL)->payload),
	      "the room that an rx core has for it");

static inline uint32_t tp_padded(uint32_t bytes)
{
	return (bytes + 7) & ~7u;
}

static inline char tp_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* Puts what was not sent to its one canonical value, so that records and fingerprints depend on nothing that a parser left over. */
static inline void tp_defaults_fill(struct tp_event *fixed)
{
	if (!(fixed->flags & TP_HAS_IP)) {
		fixed->flags &= (uint8_t)~TP_IP_SENT;
		memset(fixed->ip, 0, sizeof fixed->ip);
	}
	if (!(fixed->flags & TP_HAS_BID))
		fixed->bid_micros = 0;
	if (!(fixed->flags & TP_HAS_POSITION))
		fixed->click_position = 0;
	if (!(fixed->flags & TP_HAS_TIMEZONE))
		fixed->timezone_offset_min = 0;
	if (!(fixed->flags & TP_HAS_MOUSE))
		fixed->mouse_moves = 0;
	if (!(fixed->flags & TP_HAS_TRACE)) {
		memset(fixed->trace_id, 0, sizeof fixed->trace_id);
		memset(fixed->span_id, 0, sizeof fixed->span_id);
		fixed->trace_flags = 0;
	}
	fixed->country[0] = tp_upper(fixed->country[0]);
	fixed->country[1] = tp_upper(fixed->country[1]);
	if (fixed->currency[0] == 0)
		memcpy(fixed->currency, "USD", 3);
}

/* The fixed part of the payload, from defaults and lengths that are in place. */
static inline void tp_payload_fill(struct tp_payload *payload, const struct tp_event *fixed)
{
	bool ip_sent = fixed->flags & TP_IP_SENT;
	uint8_t derived = TP_HAS_TRACE | (ip_sent ? 0 : TP_HAS_IP);
	payload->id = fixed->id;
	payload->timestamp_ms = fixed->timestamp_ms;
	payload->bid_micros = fixed->bid_micros;
	if (ip_sent)
		memcpy(payload->ip, fixed->ip, sizeof payload->ip);
	else
		memset(payload->ip, 0, sizeof payload->ip);
	memcpy(payload->string_bytes, fixed->string_bytes, sizeof payload->string_bytes);
	payload->click_position = fixed->click_position;
	payload->timezone_offset_min = fixed->timezone_offset_min;
	payload->mouse_moves = fixed->mouse_moves;
	memcpy(payload->country, fixed->country, sizeof payload->country);
	memcpy(payload->currency, fixed->currency, sizeof payload->currency);
	payload->type = fixed->type;
	payload->device = fixed->flags & TP_DEVICE_SENT ? fixed->device : 0;
	payload->flags = fixed->flags & (uint8_t)~derived;
}

static inline uint64_t tp_fingerprint(const struct tp_payload *payload, uint32_t string_bytes)
{
	return XXH3_64bits_withSecret(payload, TP_PAYLOAD_FIXED_BYTES + (size_t)string_bytes, tp_key, TP_KEY_BYTES);
}

/*
 * Not keyed: a client may compute it to aim at a shard, and an attacker gains nothing that sending one device over and over would
 * not give. Only fields of the payload go in, so a copy with the same payload meets its original whatever way it came.
 */
static inline uint64_t tp_shard_hash(const struct tp_parsed *parsed)
{
	const struct tp_str *device = &parsed->string[TP_DEVICE_ID], *user = &parsed->string[TP_USER_ID];
	if (device->bytes > 0)
		return XXH3_64bits(device->at, device->bytes);
	if (user->bytes > 0)
		return XXH3_64bits(user->at, user->bytes);
	if (parsed->fixed.flags & TP_IP_SENT)
		return XXH3_64bits(parsed->fixed.ip, sizeof parsed->fixed.ip);
	return XXH3_64bits(&parsed->fixed.id, sizeof parsed->fixed.id);
}

#endif
