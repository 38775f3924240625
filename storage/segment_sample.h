/*
 * Events of every kind for the tests of segments, and segments made of them in memory: number n always makes the same event.
 */
#ifndef STORAGE_SEGMENT_SAMPLE_H
#define STORAGE_SEGMENT_SAMPLE_H

#include "sample.h"
#include "segment.h"

/* Texts of many lengths, drawn from `kinds` of them. */
static inline struct tp_str rich_text(char *room, const char *stem, uint64_t draw, uint64_t kinds, int bytes_max)
{
	int bytes = snprintf(room, TP_TEXT_BYTES_MAX, "%s-%lu-%0*d", stem, draw % kinds, (int)(draw % kinds % 40), 7);
	return (struct tp_str){room, (uint16_t)(bytes < bytes_max ? bytes : bytes_max)};
}

/* `to`: TP_EVENT_BYTES_MAX, 8-byte aligned. */
static inline struct tp_event *rich_event(void *to, uint64_t n)
{
	static char room[TP_STRINGS][TP_TEXT_BYTES_MAX];
	struct tp_parsed parsed;
	uint64_t r = sample_mix(n), q = sample_mix(r);
	memset(&parsed, 0, sizeof(parsed));
	struct tp_event *fixed = &parsed.fixed;
	fixed->type = (uint8_t)(r % TP_EVENT_TYPES);
	fixed->timestamp_ms = SAMPLE_MS + (q >> 20) % 180000;
	fixed->received_ms = SAMPLE_MS + 200000 + n / 3;
	if (n % 3) {
		fixed->id = (struct tp_id){.hi = r, .lo = n + 1};
	} else {
		int uuid;
		parsed.string[TP_EVENT_ID] =
			(struct tp_str){room[TP_EVENT_ID], (uint16_t)snprintf(room[TP_EVENT_ID], 64, "event/%lu/%lu", n, r % 1000)};
		fixed->id = tp_id_from_text(room[TP_EVENT_ID], parsed.string[TP_EVENT_ID].bytes, &uuid);
	}
	parsed.string[TP_AD_ID] = rich_text(room[TP_AD_ID], "ad", r >> 8, 50, 64);
	parsed.string[TP_CAMPAIGN_ID] = rich_text(room[TP_CAMPAIGN_ID], "campaign", (r >> 8) % 50, 11, 64);
	parsed.string[TP_ADVERTISER_ID] = rich_text(room[TP_ADVERTISER_ID], "a", (r >> 8) % 50 % 11, 3, 64);
	if (n % 4)
		parsed.string[TP_PUBLISHER_ID] = rich_text(room[TP_PUBLISHER_ID], "p", q, 30, 64);
	uint64_t device = sample_mix(q >> 10) % 3000;
	if (n % 5) {
		char *text = room[TP_DEVICE_ID];
		int bytes = device % 2 ? snprintf(text, 64, "device-%lu", device)
				       : snprintf(text, 64, "%08lx-1234-4abc-8def-%012lx", device, device * 77);
		parsed.string[TP_DEVICE_ID] = (struct tp_str){text, (uint16_t)bytes};
		parsed.string[TP_USER_ID] = rich_text(room[TP_USER_ID], "user", device + (q % 100 == 0), 5000, 64);
	}
	parsed.string[TP_CITY] = rich_text(room[TP_CITY], "city", device, 100, TP_CITY_BYTES_MAX);
	parsed.string[TP_REGION] = rich_text(room[TP_REGION], "region", device % 100, 20, 64);
	if (n % 6)
		parsed.string[TP_USER_AGENT] =
			rich_text(room[TP_USER_AGENT], "Mozilla/5.0 (X11; Linux)", device, 40, TP_TEXT_BYTES_MAX);
	parsed.string[TP_REFERER] = rich_text(room[TP_REFERER], "https://example.org/", q, 200, TP_TEXT_BYTES_MAX);
	fixed->country[0] = (char)('A' + device % 20 % 5);
	fixed->country[1] = 'X';
	if (r % 7) {
		fixed->flags |= TP_HAS_IP | (r % 2 ? TP_IP_SENT : 0);
		if (device % 10 == 3) {
			for (int i = 0; i < 16; i++)
				fixed->ip[i] = (uint8_t)(sample_mix(device) >> i);
		} else {
			fixed->ip[10] = fixed->ip[11] = 0xff;
			memcpy(fixed->ip + 12, &q, 4);
		}
	}
	if (r % 8) {
		fixed->flags |= TP_HAS_BID;
		fixed->bid_micros = (int64_t)(r % 50 * 10000);
	}
	if (r % 9 == 0) {
		fixed->flags |= TP_HAS_POSITION;
		fixed->click_position = (uint16_t)q;
	}
	if (r % 10 == 0) {
		fixed->flags |= TP_HAS_TIMEZONE | TP_HAS_MOUSE;
		fixed->timezone_offset_min = (int32_t)(q % 1440) - 720;
		fixed->mouse_moves = (int32_t)(q >> 40) - (1 << 23);
	}
	if (r % 11 == 0) {
		fixed->flags |= TP_HAS_TRACE;
		memcpy(fixed->trace_id, &r, 8);
		memcpy(fixed->trace_id + 8, &q, 8);
		memcpy(fixed->span_id, &q, 8);
		fixed->trace_flags = 1;
	}
	if (r % 12 == 0) {
		fixed->flags |= TP_DEVICE_SENT;
		fixed->device = (uint8_t)(q % TP_DEVICE_TYPES);
	}
	memcpy(fixed->currency, r % 40 ? "EUR" : "JPY", 3);
	tp_event_finish(&parsed);
	struct tp_event *event = to;
	tp_event_encode(&parsed, event);
	event->verdict = n % 17 == 3 ? TP_CONFLICT : n % 19 == 5 ? TP_LATE : n % 23 == 7 ? TP_AMENDED : TP_ACCEPTED;
	if (event->type == TP_CLICK && q % 3 == 0) {
		struct tp_evidence evidence[2] = {
			{.reason = TP_FRAUD_IP_VELOCITY, .detail = (uint16_t)n, .limit = 10, .seen = (int64_t)(q % 99)},
			{.reason = TP_FRAUD_GEO_MISMATCH, .is_text = 1, .seen = (int64_t)(0x4544 + r % 3)}};
		event->fraud = TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_GEO_MISMATCH);
		event->rule_version = 3;
		tp_event_evidence_add(event, evidence, (uint32_t)(q % 9 / 3));
	}
	if (n % 101 == 50)
		event->fingerprint ^= n; /* as another version of this program might have made it */
	if (n % 103 == 50)
		event->reserved[1] = 9;
	return event;
}

/* Segments of rich events are of version 2. */
static bool sample_old_ids;

/* A segment of rich events [0, count), in memory. `file` owns the bytes; free(file). */
static inline uint8_t *rich_segment(uint64_t count, const struct segment_build_options *more, uint64_t raw_records, uint64_t *bytes)
{
	static const uint8_t node_id[16] = "node";
	_Alignas(8) uint8_t room[TP_EVENT_BYTES_MAX];
	struct segment_build_options options = {0};
	struct segment_build *build = segment_build_new(NULL);
	struct buffer out = {0};
	if (more)
		options = *more;
	options.old_ids = sample_old_ids;
	options.sequence = 1;
	options.file_id = 2;
	options.sealed_ms = 3;
	options.node_id = node_id;
	options.zstd_level = SEGMENT_ZSTD_LEVEL;
	for (uint64_t n = 0; n < count; n++)
		if (segment_build_event(build, rich_event(room, n)))
			abort();
	for (uint64_t n = 0; n < raw_records; n++) {
		struct tp_event *raw = (struct tp_event *)(void *)room;
		memset(room, (int)n, 64);
		raw->bytes = (uint32_t)(16 + n % 6 * 8);
		raw->type = TP_EVENT_TYPES;
		if (segment_build_event(build, raw))
			abort();
	}
	if (segment_build_sort(build) || segment_build_file(build, &options, &out))
		abort();
	segment_build_free(build);
	uint8_t *file = aligned_alloc(64, out.bytes);
	memcpy(file, out.at, *bytes = out.bytes);
	buffer_fini(&out);
	return file;
}

#endif
