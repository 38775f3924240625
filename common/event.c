/*
 * The event record: encoding, checking, and the fingerprint that tells a retry from a conflict.
 *
 * Any parser thread enters tp_event_finish() and tp_event_encode(), once per event; readers of logs and segments enter
 * tp_event_valid(). No state but the hashing key (key.h).
 *
 * The fingerprint is XXH3-64, under the node's key, of one packed buffer:
 *
 *   ├ fixed fields, 88 bytes: lengths of all strings, numbers, flags, … ┤ event_id │ ad │ campaign │ … │ referer ┤
 *
 * All lengths come first, so a byte cannot move from one string to its neighbour unseen. A field that was not sent is zero and
 * has its flag clear; what was derived from the connection or from another field (address, device) is zero unless it was sent,
 * and `trace` and the receive time are left out: a retry over another path has other ones.
 * Source: contract section 4 ("Counting").
 */
#include "turnpike/event.h"

#include "key.h"

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

/* The fixed part of what is hashed. No padding: every byte is set. */
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
	char strings[STRING_BYTES_SUM_MAX];
};

enum { PAYLOAD_FIXED_BYTES = offsetof(struct payload, strings) };
static_assert(PAYLOAD_FIXED_BYTES == 88, "no hidden padding in the bytes that are hashed");

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
	uint32_t bytes = TP_EVENT_FIXED_BYTES;
	for (int i = 0; i < TP_STRINGS; i++)
		bytes += parsed->string[i].bytes;
	return padded(bytes);
}

void tp_event_encode(const struct tp_parsed *parsed, struct tp_event *to)
{
	*to = parsed->fixed;
	char *const strings = (char *)(to + 1);
	char *at = strings;
	for (int i = 0; i < TP_STRINGS; i++) {
		uint16_t bytes = parsed->string[i].bytes;
		assert(bytes <= string_bytes_max[i]); /* the parser's promise; the room behind `to` rests on it */
		to->string_bytes[i] = bytes;
		if (bytes > 0)
			memcpy(at, parsed->string[i].at, bytes);
		at += bytes;
	}
	uint32_t unpadded = (uint32_t)(at - strings);
	memset(at, 0, padded(unpadded) - unpadded);
	to->bytes = TP_EVENT_FIXED_BYTES + padded(unpadded);
	to->verdict = TP_UNDECIDED;
	to->fraud = 0;
	to->rule_version = 0;
	to->evidence_count = 0;
	memset(to->reserved, 0, sizeof to->reserved);
}

/* Puts what was not sent to its one canonical value, so that records and fingerprints depend on nothing that a parser left over. */
static void defaults_fill(struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
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
	if (!(fixed->flags & TP_DEVICE_SENT)) {
		struct tp_str agent = parsed->string[TP_USER_AGENT];
		fixed->device = (uint8_t)tp_device_from_user_agent(agent.at, agent.bytes);
	}
}

static uint64_t fingerprint(const struct tp_parsed *parsed)
{
	const struct tp_event *fixed = &parsed->fixed;
	bool ip_sent = fixed->flags & TP_IP_SENT;
	uint8_t derived = TP_HAS_TRACE | (ip_sent ? 0 : TP_HAS_IP);
	struct payload payload; /* 2.8 KiB of stack, of which only what is hashed is ever touched */
	payload.id = fixed->id;
	payload.timestamp_ms = fixed->timestamp_ms;
	payload.bid_micros = fixed->bid_micros;
	memset(payload.ip, 0, sizeof payload.ip);
	if (ip_sent)
		memcpy(payload.ip, fixed->ip, sizeof payload.ip);
	payload.click_position = fixed->click_position;
	payload.timezone_offset_min = fixed->timezone_offset_min;
	payload.mouse_moves = fixed->mouse_moves;
	memcpy(payload.country, fixed->country, sizeof payload.country);
	memcpy(payload.currency, fixed->currency, sizeof payload.currency);
	payload.type = fixed->type;
	payload.device = fixed->flags & TP_DEVICE_SENT ? fixed->device : 0;
	payload.flags = fixed->flags & (uint8_t)~derived;
	char *at = payload.strings;
	for (int i = 0; i < TP_STRINGS; i++) {
		uint16_t bytes = parsed->string[i].bytes;
		assert(bytes <= string_bytes_max[i]); /* the parser's promise; the size of the buffer rests on it */
		payload.string_bytes[i] = bytes;
		if (bytes > 0)
			memcpy(at, parsed->string[i].at, bytes);
		at += bytes;
	}
	return XXH3_64bits_withSecret(&payload, PAYLOAD_FIXED_BYTES + (size_t)(at - payload.strings), tp_key, TP_KEY_BYTES);
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
	defaults_fill(parsed);
	parsed->fixed.fingerprint = fingerprint(parsed);
	parsed->fixed.shard_hash = shard_hash(parsed);
}

void tp_event_hashes(const struct tp_event *event, uint64_t *fingerprint_of, uint64_t *shard_hash_of)
{
	struct tp_parsed parsed = {.fixed = *event};
	const char *at = (const char *)(event + 1);
	for (int i = 0; i < TP_STRINGS; i++) {
		parsed.string[i] = (struct tp_str){.at = at, .bytes = event->string_bytes[i]};
		at += event->string_bytes[i];
	}
	*fingerprint_of = fingerprint(&parsed);
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
