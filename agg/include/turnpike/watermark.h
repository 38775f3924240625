/*
 * Event time. Pure: the clock is an argument.
 *
 * The watermark is the smaller of the clock and the highest stamp seen, less lateness; it never falls. An old log therefore
 * replays by its own time. A node without any event for `lateness` of clock time lets the highest stamp flow on with the clock
 * (never past it), so that the last minutes before a silence become final too. Before the first event nothing moves.
 *
 * A minute is closed when the watermark has reached its end. Source: contract sections 3 and 4, design section 4.
 */
#ifndef TURNPIKE_WATERMARK_H
#define TURNPIKE_WATERMARK_H

#include <stdbool.h>
#include <stdint.h>

struct agg_watermark {
	uint64_t lateness_ms;
	uint64_t high_ms;       /* highest stamp seen */
	uint64_t high_clock_ms; /* the clock when the last event was seen */
	uint64_t watermark_ms;
};

void agg_watermark_init(struct agg_watermark *w, uint64_t lateness_ms, uint64_t watermark_ms);
/* An event with this stamp was seen now. Returns nothing: ask agg_watermark_advance() once a burst. */
void agg_watermark_see(struct agg_watermark *w, uint64_t timestamp_ms, uint64_t clock_ms);
/* Recomputes and returns the watermark, event time in ms. */
uint64_t agg_watermark_advance(struct agg_watermark *w, uint64_t clock_ms);

static inline bool agg_minute_closed(uint64_t timestamp_ms, uint64_t watermark_ms)
{
	return timestamp_ms - timestamp_ms % 60000 + 60000 <= watermark_ms;
}

#endif
