/*
 * The event record: encoding, checking, and the fingerprint that tells a retry from a conflict.
 *
 * Any parser thread enters tp_event_finish() and tp_event_encode(), once per event; readers of logs and segments enter
 * tp_event_valid(). No state but the hashing key (key.h).
 *
 * tp_event_finish() is the plain way: event_finish.h has the one for many events, which has to come to the same.
 * Source: contract section 4 ("Counting").
 */
#include "turnpike/event.h"

#include "event_payload.h"

/* Lengths that each string may have. */
const uint16_t tp_string_bytes_max[TP_STRINGS] = {
	[TP_EVENT_ID] = TP_ID_BYTES_MAX,      [TP_AD_ID] = TP_ID_BYTES_MAX,        [TP_CAMPAIGN_ID] = TP_ID_BYTES_MAX,
	[TP_ADVERTISER_ID] = TP_ID_BYTES_MAX, [TP_PUBLISHER_ID] = TP_ID_BYTES_MAX, [TP_USER_ID] = TP_ID_BYTES_MAX,
	[TP_DEVICE_ID] = TP_ID_BYTES_MAX,     [TP_REGION] = TP_ID_BYTES_MAX,       [TP_CITY] = TP_CITY_BYTES_MAX,
	[TP_USER_AGENT] = TP_TEXT_BYTES_MAX,  [TP_REFERER] = TP_TEXT_BYTES_MAX,
};

uint32_t tp_event_encoded_bytes(const struct tp_parsed *parsed)
{
	if (parsed->lie == TP_STRINGS_PACKED)
		return TP_EVENT_FIXED_BYTES + tp_padded(parsed->packed_bytes);
	uint32_t bytes = TP_EVENT_FIXED_BYTES;
	for (int i = 0; i < TP_STRINGS; i++)
		bytes += parsed->string[i].bytes;
	return tp_padded(bytes);
}

/* The strings end to end from `to`; notes their lengths in fixed.string_bytes, returns the sum. */
static inline uint32_t strings_pack(const struct tp_parsed *parsed, uint16_t string_bytes[TP_STRINGS], char *to)
{
	char *at = to;
	for (int i = 0; i < TP_STRINGS; i++) {
		uint16_t bytes = parsed->string[i].bytes;
		assert(bytes <= tp_string_bytes_max[i]); /* the parser's promise; the room behind `to` rests on it */
		string_bytes[i] = bytes;
		if (bytes > 0)
			memcpy(at, parsed->string[i].at, bytes);
		at += bytes;
	}
	return (uint32_t)(at - to);
}

void tp_event_encode(const struct tp_parsed *parsed, struct tp_event *to)
{
	*to = parsed->fixed;
	char *const strings = (char *)(to + 1);
	if (parsed->lie == TP_STRINGS_PACKED) {
		to->bytes = TP_EVENT_FIXED_BYTES + tp_padded(parsed->packed_bytes);
		memcpy(strings, parsed->packed, tp_padded(parsed->packed_bytes));
	} else {
		uint32_t unpadded = strings_pack(parsed, to->string_bytes, strings);
		memset(strings + unpadded, 0, tp_padded(unpadded) - unpadded);
		to->bytes = TP_EVENT_FIXED_BYTES + tp_padded(unpadded);
	}
	to->verdict = TP_UNDECIDED;
	to->fraud = 0;
	to->rule_version = 0;
	to->evidence_count = 0;
	memset(to->reserved, 0, sizeof to->reserved);
}

void tp_event_finish(struct tp_parsed *parsed)
{
	struct tp_event *fixed = &parsed->fixed;
	struct tp_payload payload; /* 2.8 KiB of stack, of which only what is hashed is ever touched */
	tp_defaults_fill(fixed);
	const struct tp_str *agent = &parsed->string[TP_USER_AGENT];
	if (!(fixed->flags & TP_DEVICE_SENT))
		fixed->device = (uint8_t)tp_device_from_user_agent(agent->at, agent->bytes);
	uint32_t string_bytes = strings_pack(parsed, fixed->string_bytes, payload.strings);
	tp_payload_fill(&payload, fixed);
	fixed->fingerprint = tp_fingerprint(&payload, string_bytes);
	fixed->shard_hash = tp_shard_hash(parsed);
}

void tp_event_hashes(const struct tp_event *event, uint64_t *fingerprint_of, uint64_t *shard_hash_of)
{
	struct tp_parsed parsed = {.fixed = *event};
	struct tp_payload payload;
	const char *at = (const char *)(event + 1);
	for (int i = 0; i < TP_STRINGS; i++) {
		assert(event->string_bytes[i] <= tp_string_bytes_max[i]); /* tp_event_valid() */
		parsed.string[i] = (struct tp_str){.at = at, .bytes = event->string_bytes[i]};
		at += event->string_bytes[i];
	}
	uint32_t string_bytes = (uint32_t)(at - (const char *)(event + 1));
	memcpy(payload.strings, event + 1, string_bytes);
	tp_payload_fill(&payload, event);
	*fingerprint_of = tp_fingerprint(&payload, string_bytes);
	*shard_hash_of = tp_shard_hash(&parsed);
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
	return TP_EVENT_FIXED_BYTES + tp_padded(strings);
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
		if (event->string_bytes[i] > tp_string_bytes_max[i])
			return 0;
		unpadded += event->string_bytes[i];
	}
	if (event->evidence_count > TP_FRAUD_REASONS || event->fraud >= TP_FRAUD_BIT(TP_FRAUD_REASONS))
		return 0;
	if (event->bytes != TP_EVENT_FIXED_BYTES + tp_padded(unpadded) + event->evidence_count * sizeof(struct tp_evidence))
		return 0;
	const struct tp_evidence *evidence = tp_event_evidence(event);
	for (uint32_t i = 0; i < event->evidence_count; i++)
		if (evidence[i].reason >= TP_FRAUD_REASONS || !(event->fraud & TP_FRAUD_BIT(evidence[i].reason)))
			return 0;
	const char *strings = (const char *)(event + 1);
	for (uint32_t i = unpadded; i < tp_padded(unpadded); i++)
		if (strings[i] != 0)
			return 0;
	return 1;
}
