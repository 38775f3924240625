/*
 * The event record: encoding, checking, and the fingerprint that tells a retry from a conflict.
 *
 * Any parser thread enters tp_event_finish() and tp_event_encode(), once per event; readers of logs and segments enter
 * tp_event_valid(). No state but the hashing key (key.h) and what an rx core gives to tp_event_finish_with().
 *
 * The fingerprint is XXH3-64, under the node's key, of one packed buffer:
 *
 *   ├ fixed fields, 88 bytes: lengths of all strings, numbers, flags, … ┤ event_id │ ad │ campaign │ … │ referer │ zeros ┤
 *
 * All lengths come first, so a byte cannot move from one string to its neighbour unseen. A field that was not sent is zero and
 * has its flag clear; what was derived from the connection or from another field (address, device) is zero unless it was sent,
 * and `trace` and the receive time are left out: a retry over another path has other ones. The strings in it lie as they do in the
 * record, so on an rx core they are copied together once, and the record takes them from there with the zeros behind them.
 * Source: contract section 4 ("Counting").
 */
#include "turnpike/event.h"

#include "key.h"
#include "turnpike/event_scratch.h"

#include <emmintrin.h>
#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Lengths that each string may have. */
static const uint16_t string_bytes_max[TP_STRINGS] = {
	[TP_EVENT_ID] = TP_ID_BYTES_MAX,      [TP_AD_ID] = TP_ID_BYTES_MAX,        [TP_CAMPAIGN_ID] = TP_ID_BYTES_MAX,
	[TP_ADVERTISER_ID] = TP_ID_BYTES_MAX, [TP_PUBLISHER_ID] = TP_ID_BYTES_MAX, [TP_USER_ID] = TP_ID_BYTES_MAX,
	[TP_DEVICE_ID] = TP_ID_BYTES_MAX,     [TP_REGION] = TP_ID_BYTES_MAX,       [TP_CITY] = TP_CITY_BYTES_MAX,
	[TP_USER_AGENT] = TP_TEXT_BYTES_MAX,  [TP_REFERER] = TP_TEXT_BYTES_MAX,
};

enum { STRING_BYTES_SUM_MAX = TP_SENT_BYTES_MAX - TP_EVENT_FIXED_BYTES };
static_assert(TP_SENT_BYTES_MAX % 8 == 0, "the longest record needs no padding");

/* What is hashed, and behind it zeros. No hidden padding in the fixed part: every byte of it is set. */
struct payload {
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

static_assert(offsetof(struct payload, strings) == TP_PAYLOAD_FIXED_BYTES, "no hidden padding in the bytes that are hashed");
static_assert(sizeof(struct payload) == sizeof(((struct tp_event_scratch *)NULL)->payload), "the room that an rx core has for it");

static inline uint32_t padded(uint32_t bytes)
{
	return (bytes + 7) & ~7u;
}

static inline char upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

uint32_t tp_event_encoded_bytes(const struct tp_parsed *parsed)
{
	if (parsed->lie == TP_STRINGS_PACKED)
		return TP_EVENT_FIXED_BYTES + padded(parsed->packed_bytes);
	uint32_t bytes = TP_EVENT_FIXED_BYTES;
	for (int i = 0; i < TP_STRINGS; i++)
		bytes += parsed->string[i].bytes;
	return padded(bytes);
}

/* The strings end to end from `to`; notes their lengths in fixed.string_bytes, returns the sum. */
static inline uint32_t strings_pack(const struct tp_parsed *parsed, uint16_t string_bytes[TP_STRINGS], char *to)
{
	char *at = to;
	for (int i = 0; i < TP_STRINGS; i++) {
		uint16_t bytes = parsed->string[i].bytes;
		assert(bytes <= string_bytes_max[i]); /* the parser's promise; the room behind `to` rests on it */
		string_bytes[i] = bytes;
		if (bytes > 0)
			memcpy(at, parsed->string[i].at, bytes);
		at += bytes;
	}
	return (uint32_t)(at - to);
}

/* The same in whole vectors, reading and writing up to one too far, which spares the branches on what a length is not a multiple of. */
static inline uint32_t strings_pack_slack(const struct tp_parsed *parsed, uint16_t string_bytes[TP_STRINGS], char *to)
{
	char *at = to;
	for (int i = 0; i < TP_STRINGS; i++) {
		const char *from = parsed->string[i].at;
		uint16_t bytes = parsed->string[i].bytes;
		assert(bytes <= string_bytes_max[i]);
		string_bytes[i] = bytes;
		char *const end = at + bytes;
		for (; at < end; at += TP_SLACK_BYTES, from += TP_SLACK_BYTES)
			_mm_storeu_si128((__m128i *)at, _mm_loadu_si128((const __m128i *)from));
		at = end;
	}
	return (uint32_t)(at - to);
}
static_assert(TP_SLACK_BYTES == sizeof(__m128i), "one vector too far");

void tp_event_encode(const struct tp_parsed *parsed, struct tp_event *to)
{
	*to = parsed->fixed;
	char *const strings = (char *)(to + 1);
	if (parsed->lie == TP_STRINGS_PACKED) {
		to->bytes = TP_EVENT_FIXED_BYTES + padded(parsed->packed_bytes);
		memcpy(strings, parsed->packed, padded(parsed->packed_bytes));
	} else {
		uint32_t unpadded = strings_pack(parsed, to->string_bytes, strings);
		memset(strings + unpadded, 0, padded(unpadded) - unpadded);
		to->bytes = TP_EVENT_FIXED_BYTES + padded(unpadded);
	}
	to->verdict = TP_UNDECIDED;
	to->fraud = 0;
	to->rule_version = 0;
	to->evidence_count = 0;
	memset(to->reserved, 0, sizeof to->reserved);
}

/* Puts what was not sent to its one canonical value, so that records and fingerprints depend on nothing that a parser left over. */
static inline void defaults_fill(struct tp_event *fixed)
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
	fixed->country[0] = upper(fixed->country[0]);
	fixed->country[1] = upper(fixed->country[1]);
	if (fixed->currency[0] == 0)
		memcpy(fixed->currency, "USD", 3);
}

/* The fixed part of the payload, from defaults and lengths that are in place. */
static inline void payload_fill(struct payload *payload, const struct tp_event *fixed)
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

static inline uint64_t fingerprint(const struct payload *payload, uint32_t string_bytes)
{
	return XXH3_64bits_withSecret(payload, TP_PAYLOAD_FIXED_BYTES + (size_t)string_bytes, tp_key, TP_KEY_BYTES);
}

/*
 * Not keyed: a client may compute it to aim at a shard, and an attacker gains nothing that sending one device over and over would
 * not give. Only fields of the payload go in, so a copy with the same payload meets its original whatever way it came.
 */
static uint64_t shard_hash(const struct tp_parsed *parsed)
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

void tp_event_finish(struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
	struct payload payload; /* 2.8 KiB of stack, of which only what is hashed is ever touched */
	defaults_fill(fixed);
	const struct tp_str *agent = &parsed->string[TP_USER_AGENT];
	if (!(fixed->flags & TP_DEVICE_SENT))
		fixed->device = (uint8_t)tp_device_from_user_agent(agent->at, agent->bytes);
	uint32_t string_bytes = strings_pack(parsed, fixed->string_bytes, payload.strings);
	payload_fill(&payload, fixed);
	fixed->fingerprint = fingerprint(&payload, string_bytes);
	fixed->shard_hash = shard_hash(parsed);
}

void tp_event_finish_with(struct tp_event_scratch *scratch, struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
	struct payload *payload = (struct payload *)(void *)scratch->payload;
	uint32_t string_bytes = parsed->packed_bytes;
	if (parsed->lie == TP_STRINGS_TOGETHER)
		memcpy(payload->strings, parsed->packed, string_bytes);
	else if (parsed->lie == TP_STRINGS_SLACK)
		string_bytes = strings_pack_slack(parsed, fixed->string_bytes, payload->strings);
	else
		string_bytes = strings_pack(parsed, fixed->string_bytes, payload->strings);
	memset(payload->strings + string_bytes, 0, 8); /* the most that a record is padded */
	parsed->packed = payload->strings;
	parsed->packed_bytes = (uint16_t)string_bytes;
	parsed->lie = TP_STRINGS_PACKED;
	defaults_fill(fixed);
	const struct tp_str *agent = &parsed->string[TP_USER_AGENT];
	if (!(fixed->flags & TP_DEVICE_SENT))
		fixed->device = (uint8_t)tp_agent_memo_device(&scratch->agents, agent->at, agent->bytes);
	payload_fill(payload, fixed);
	fixed->fingerprint = fingerprint(payload, string_bytes);
	fixed->shard_hash = shard_hash(parsed);
}

void tp_event_hashes(const struct tp_event *event, uint64_t *fingerprint_of, uint64_t *shard_hash_of)
{
	struct tp_parsed parsed = {.fixed = *event};
	struct payload payload;
	const char *at = (const char *)(event + 1);
	for (int i = 0; i < TP_STRINGS; i++) {
		assert(event->string_bytes[i] <= string_bytes_max[i]); /* tp_event_valid() */
		parsed.string[i] = (struct tp_str){.at = at, .bytes = event->string_bytes[i]};
		at += event->string_bytes[i];
	}
	uint32_t string_bytes = (uint32_t)(at - (const char *)(event + 1));
	memcpy(payload.strings, event + 1, string_bytes);
	payload_fill(&payload, event);
	*fingerprint_of = fingerprint(&payload, string_bytes);
	*shard_hash_of = shard_hash(&parsed);
}

struct tp_str tp_event_string(const struct tp_event *event, enum tp_string which)
{
	const char *at = (const char *)(event + 1);
	for (int i = 0; i < (int)which; i++)
		at += event->string_bytes[i];
	return (struct tp_str){.at = at, .bytes = event->string_bytes[which]};
}

static uint32_t sent_bytes(const struct tp_event *event)
{
	uint32_t strings = 0;
	for (int i = 0; i < TP_STRINGS; i++)
		strings += event->string_bytes[i];
	return TP_EVENT_FIXED_BYTES + padded(strings);
}

const struct tp_evidence *tp_event_evidence(const struct tp_event *event)
{
	return (const struct tp_evidence *)(const void *)((const char *)event + sent_bytes(event));
}

void tp_event_evidence_add(struct tp_event *event, const struct tp_evidence *evidence, uint32_t count)
{
	assert(event->evidence_count == 0 && count <= TP_FRAUD_REASONS && event->bytes == sent_bytes(event));
	memcpy((char *)event + event->bytes, evidence, count * sizeof *evidence);
	event->evidence_count = (uint8_t)count;
	event->bytes += count * (uint32_t)sizeof *evidence;
}

int tp_event_valid(const struct tp_event *event, uint64_t room)
{
	if (room < TP_EVENT_FIXED_BYTES || event->bytes > room || event->bytes > TP_EVENT_BYTES_MAX)
		return 0;
	if (event->type >= TP_EVENT_TYPES || event->device >= TP_DEVICE_TYPES || event->verdict >= TP_VERDICTS)
		return 0;
	if ((event->id.hi | event->id.lo) == 0 || event->bid_micros < 0 || event->bid_micros > TP_BID_MICROS_MAX)
		return 0;
	uint32_t unpadded = 0;
	for (int i = 0; i < TP_STRINGS; i++) {
		if (event->string_bytes[i] > string_bytes_max[i])
			return 0;
		unpadded += event->string_bytes[i];
	}
	if (event->evidence_count > TP_FRAUD_REASONS || event->fraud >= TP_FRAUD_BIT(TP_FRAUD_REASONS))
		return 0;
	if (event->bytes != TP_EVENT_FIXED_BYTES + padded(unpadded) + event->evidence_count * sizeof(struct tp_evidence))
		return 0;
	const struct tp_evidence *evidence = tp_event_evidence(event);
	for (uint32_t i = 0; i < event->evidence_count; i++)
		if (evidence[i].reason >= TP_FRAUD_REASONS || !(event->fraud & TP_FRAUD_BIT(evidence[i].reason)))
			return 0;
	const char *strings = (const char *)(event + 1);
	for (uint32_t i = unpadded; i < padded(unpadded); i++)
		if (strings[i] != 0)
			return 0;
	return 1;
}
