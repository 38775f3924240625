/*
 * Seeded click events as JSON lines, for benchmarks: the schema of the seed documents, about 490 bytes each, values that vary in
 * content and length as they do in the field. The same seed gives the same bytes everywhere.
 */
#ifndef TURNPIKE_MAKE_EVENTS_H
#define TURNPIKE_MAKE_EVENTS_H

#include <stddef.h>
#include <stdint.h>

struct perf_events {
	char *text;      /* events, each with a line end behind it; `padding` zero bytes behind all */
	uint64_t *start; /* count + 1 of them: event i is text[start[i] .. start[i + 1] - 1), without its line end */
	uint32_t count;
	uint64_t bytes; /* of all, line ends included */
};

enum { PERF_EVENTS_PADDING = 256 };

/* The clock that goes with the stamps: none of the events is in its future. */
#define PERF_EVENTS_NOW_MS 1700000000000ULL

/* 0 or -ENOMEM. Free with perf_events_free(). */
int perf_events_make(struct perf_events *events, uint64_t seed, uint32_t count);
void perf_events_free(struct perf_events *events);

#endif
