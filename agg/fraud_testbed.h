/* What tests of fraud rules share: one shard with its tables, and events said in a line. Only for cmocka tests. */
#ifndef AGG_FRAUD_TESTBED_H
#define AGG_FRAUD_TESTBED_H

#include "turnpike/fraud.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOUR       UINT64_C(3600000)
#define HOUR_START (UINT64_C(500000) * HOUR)
#define BIT(name)  TP_FRAUD_BIT(TP_FRAUD_##name)

struct bed {
	void *ip_memory, *shard_memory;
	struct agg_fraud_ip *ip;
	struct agg_fraud_shard *shard;
	struct agg_machine machine;
	struct agg_fraud_rules rules;
	struct tp_counters counters;
	uint64_t ids;
	/* the last event that was shown, as the log would have it */
	_Alignas(8) char record[TP_EVENT_BYTES_MAX];
};

/* What a test says of an event; what it does not say is absent. */
struct told {
	enum tp_event_type type;
	uint64_t stamp_ms;
	uint32_t address;
	const char *ad, *user, *device, *publisher, *agent, *country;
	uint64_t received_ms; /* 0: at its stamp */
	enum tp_device_type sent;
	bool has_sent, has_mouse, has_zone;
	int32_t mouse, zone;
};

static inline void *bed_memory(uint64_t bytes)
{
	void *memory = aligned_alloc(64, (bytes + 63) & ~UINT64_C(63));
	assert_non_null(memory);
	return memset(memory, 0, (bytes + 63) & ~UINT64_C(63));
}

static inline struct bed *bed_open(uint32_t entries)
{
	struct bed *bed = bed_memory(sizeof(*bed));
	bed->ip_memory = bed_memory(agg_fraud_ip_bytes(entries));
	bed->shard_memory = bed_memory(agg_fraud_shard_bytes(entries));
	bed->ip = agg_fraud_ip_init(bed->ip_memory, entries);
	bed->shard = agg_fraud_shard_init(bed->shard_memory, entries, bed->ip, &bed->counters);
	bed->machine = agg_fraud_machine(bed->shard);
	bed->rules = (struct agg_fraud_rules){.version = 7, .impression_lookback_ms = 1800000, .impression_wait_ms = 5000};
	agg_fraud_rules_set(bed->shard, &bed->rules);
	return bed;
}

static inline void bed_close(struct bed *bed)
{
	free(bed->ip_memory);
	free(bed->shard_memory);
	free(bed);
}

static inline struct tp_event *bed_event(struct bed *bed)
{
	return (struct tp_event *)(void *)bed->record;
}

static inline void bed_encode(struct bed *bed, struct told told)
{
	struct tp_parsed parsed = {.fixed = {.type = (uint8_t)told.type,
					     .id = {1, ++bed->ids},
					     .timestamp_ms = told.stamp_ms,
					     .received_ms = told.received_ms ? told.received_ms : told.stamp_ms,
					     .bid_micros = 500000,
					     .flags = TP_HAS_BID}};
	const char *text[TP_STRINGS] = {[TP_AD_ID] = told.ad ? told.ad : "ad",
					[TP_CAMPAIGN_ID] = "campaign",
					[TP_ADVERTISER_ID] = "advertiser",
					[TP_PUBLISHER_ID] = told.publisher,
					[TP_USER_ID] = told.user,
					[TP_DEVICE_ID] = told.device,
					[TP_USER_AGENT] = told.agent,
					[TP_REFERER] = "https://example.org/"};
	for (int i = 0; i < TP_STRINGS; i++)
		if (text[i])
			parsed.string[i] = (struct tp_str){.at = text[i], .bytes = (uint16_t)strlen(text[i])};
	struct tp_event *fixed = &parsed.fixed;
	if (told.address) {
		fixed->flags |= TP_HAS_IP;
		fixed->ip[10] = fixed->ip[11] = 0xff;
		memcpy(fixed->ip + 12, &told.address, 4);
	}
	if (told.country)
		memcpy(fixed->country, told.country, 2);
	if (told.has_sent) {
		fixed->flags |= TP_DEVICE_SENT;
		fixed->device = (uint8_t)told.sent;
	}
	if (told.has_mouse) {
		fixed->flags |= TP_HAS_MOUSE;
		fixed->mouse_moves = told.mouse;
	}
	if (told.has_zone) {
		fixed->flags |= TP_HAS_TIMEZONE;
		fixed->timezone_offset_min = told.zone;
	}
	tp_event_finish(&parsed);
	tp_event_encode(&parsed, bed_event(bed));
	bed_event(bed)->verdict = TP_ACCEPTED;
}

/* Shows it to the machine, as the shard does; the tags that it got. The evidence agrees with them. */
static inline uint32_t bed_show(struct bed *bed, struct told told)
{
	bed_encode(bed, told);
	struct tp_event *event = bed_event(bed);
	bed->machine.ops->show(bed->machine.self, event);
	assert_true(tp_event_valid(event, sizeof(bed->record)));
	assert_int_equal(event->evidence_count, __builtin_popcount(event->fraud));
	for (uint32_t i = 1; i < event->evidence_count; i++)
		assert_true(tp_event_evidence(event)[i - 1].reason < tp_event_evidence(event)[i].reason);
	return event->fraud;
}

/* The evidence of one reason, of the last event. */
static inline struct tp_evidence bed_evidence(struct bed *bed, enum tp_fraud_reason reason)
{
	const struct tp_event *event = bed_event(bed);
	for (uint32_t i = 0; i < event->evidence_count; i++)
		if (tp_event_evidence(event)[i].reason == reason)
			return tp_event_evidence(event)[i];
	fail_msg("no evidence for %s", tp_fraud_reason_name(reason));
	return (struct tp_evidence){0};
}

#endif
