/*
 * Events as an edge node gets them, as records: for figures about segments. Number n always makes the same event.
 *
 * A million devices, visited by Zipf; each has one address, browser and place, half have a user. 2,000 ads of 200 campaigns of 40
 * advertisers by Zipf, 4,000 referring pages of 300 publishers by Zipf, 3,000 user agents, 2,000 cities of 300 regions of 40 countries,
 * 60 prices. Random UUIDs; 50,000 events a second that come 20 to 500 ms after their stamp; 5% clicks, of which 4% are tagged.
 */
#ifndef PERF_SEGMENT_MIX_H
#define PERF_SEGMENT_MIX_H

#include "turnpike/event.h"

#include <stdio.h>

struct perf_mix;

struct perf_mix *perf_mix_new(void); /* NULL: no memory */
void perf_mix_free(struct perf_mix *mix);
/* `to`: TP_EVENT_BYTES_MAX, 8-byte aligned. */
struct tp_event *perf_mix_event(struct perf_mix *mix, uint64_t n, void *to);
/* The event as a line of JSON as a client sends it, or of tab-separated values in the order of perf/clickhouse_segments. */
void perf_mix_json(FILE *to, const struct tp_event *event);
void perf_mix_tsv(FILE *to, const struct tp_event *event);

#endif
