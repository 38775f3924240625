/*
 * Events for the tests of this module: number n always makes the same event, with strings of many lengths.
 */
#ifndef STORAGE_SAMPLE_H
#define STORAGE_SAMPLE_H

#include "turnpike/event.h"
#include "turnpike/rollup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_MS 1700000040000ULL /* a whole minute */

enum { SAMPLE_ROWS = 512, SAMPLE_HEAP_BYTES = 1 << 16 };

static inline uint64_t sample_mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* `to`: TP_EVENT_BYTES_MAX, 8-byte aligned. Every 7th is a conflict, every 11th late. */
static inline struct tp_event *sample_event(void *to, uint64_t n)
{
	struct tp_parsed parsed;
	char ad[32], campaign[32], agent[TP_TEXT_BYTES_MAX];
	memset(&parsed, 0, sizeof(parsed));
	struct tp_event *fixed = &parsed.fixed;
	fixed->type = (uint8_t)(n % TP_EVENT_TYPES);
	fixed->id = (struct tp_id){.hi = sample_mix(n), .lo = n + 1};
	fixed->timestamp_ms = SAMPLE_MS + n * 997 % 600000;
	fixed->received_ms = SAMPLE_MS + 600000 + n;
	fixed->bid_micros = (int64_t)(n * 31 % 2000000);
	fixed->flags = TP_HAS_BID;
	memset(agent, 'a' + (int)(n % 26), sizeof(agent));
	parsed.string[TP_AD_ID] = (struct tp_str){ad, (uint16_t)snprintf(ad, sizeof(ad), "ad-%d", (int)(n % 5))};
	parsed.string[TP_CAMPAIGN_ID] =
		(struct tp_str){campaign, (uint16_t)snprintf(campaign, sizeof(campaign), "c%d", (int)(n % 3))};
	parsed.string[TP_ADVERTISER_ID] = (struct tp_str){"adv", 3};
	parsed.string[TP_USER_AGENT] = (struct tp_str){agent, (uint16_t)(sample_mix(n) % (n % 50 ? 200 : TP_TEXT_BYTES_MAX))};
	tp_event_finish(&parsed);
	struct tp_event *event = to;
	tp_event_encode(&parsed, event);
	event->verdict = n % 7 == 3 ? TP_CONFLICT : n % 11 == 5 ? TP_LATE : TP_ACCEPTED;
	event->fraud = event->verdict != TP_CONFLICT && n % 13 == 4 && event->type == TP_CLICK;
	return event;
}

/* The number of a sample event; UINT64_MAX when it is none, or is not whole. */
static inline uint64_t sample_number(const struct tp_event *event)
{
	_Alignas(8) uint8_t again[TP_EVENT_BYTES_MAX];
	uint64_t n = event->id.lo - 1;
	const struct tp_event *expected = sample_event(again, n);
	return expected->bytes == event->bytes && !memcmp(expected, event, event->bytes) ? n : UINT64_MAX;
}

static inline struct tp_rollup *sample_rollup(uint64_t file_id)
{
	struct tp_rollup *table = aligned_alloc(64, (tp_rollup_bytes(SAMPLE_ROWS, SAMPLE_HEAP_BYTES) + 63) / 64 * 64);
	if (!table)
		abort();
	tp_rollup_format(table, SAMPLE_ROWS, SAMPLE_HEAP_BYTES);
	tp_rollup_reset(table, file_id);
	return table;
}

#endif
