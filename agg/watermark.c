/*
 * Event time of one shard. Pure; only the shard's own core enters it.
 *
 *        stamps seen ──► high_ms ─┐
 *                                 ├─ smaller ── less lateness ── never falling ──► watermark_ms
 *        the clock ───────────────┘
 *
 * After `lateness` of clock time without any event, high_ms counts as if it had moved on with the clock since the last event;
 * so a minute before a silence closes as late as it would have closed in steady traffic, not never. Before the first event
 * there is no highest stamp, and nothing moves: an old log that comes first sets its own time.
 *
 * Invariants: watermark_ms never falls; watermark_ms + lateness_ms never passes the clock, except where it was set at init.
 * Source: contract section 3 and 4; T. Akidau et al., "The Dataflow Model", VLDB 2015, section 2.3 (watermarks).
 */
#include "turnpike/watermark.h"

void agg_watermark_init(struct agg_watermark *w, uint64_t lateness_ms, uint64_t watermark_ms)
{
	*w = (struct agg_watermark){.lateness_ms = lateness_ms, .watermark_ms = watermark_ms};
	/* a watermark above zero was earned by a stamp that is now in the log; at zero nothing was seen yet */
	if (watermark_ms > 0 && __builtin_add_overflow(watermark_ms, lateness_ms, &w->high_ms))
		w->high_ms = UINT64_MAX;
}

void agg_watermark_see(struct agg_watermark *w, uint64_t timestamp_ms, uint64_t clock_ms)
{
	if (timestamp_ms > w->high_ms)
		w->high_ms = timestamp_ms;
	w->high_clock_ms = clock_ms;
}

uint64_t agg_watermark_advance(struct agg_watermark *w, uint64_t clock_ms)
{
	/* zero: no event yet since init, so the silence begins now; ahead: the clock was set back, so it begins anew */
	if (w->high_clock_ms == 0 || w->high_clock_ms > clock_ms)
		w->high_clock_ms = clock_ms;
	if (w->high_ms == 0)
		return w->watermark_ms;
	uint64_t reached = w->high_ms, silence = clock_ms - w->high_clock_ms;
	if (reached > clock_ms)
		reached = clock_ms;
	else if (silence >= w->lateness_ms)
		reached += silence < clock_ms - reached ? silence : clock_ms - reached;
	uint64_t watermark = reached > w->lateness_ms ? reached - w->lateness_ms : 0;
	if (watermark > w->watermark_ms)
		w->watermark_ms = watermark;
	return w->watermark_ms;
}
