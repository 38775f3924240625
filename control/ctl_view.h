/*
 * The live views of the data process: attached over its command socket, kept when it dies, replaced when it is back.
 *
 *   data process A runs          A is gone                 B replays A's log          B takes beacons
 *   now = figures = A            now = figures = A (old)   now = B, figures = A       now = figures = B
 *
 * `now` tells state and counters. `figures` is where the rollup tables of unsealed log files are read: while B starts, A's tables
 * still have what B has not sealed yet, and a table whose file has been sealed is skipped by its id. So no figure falls when the
 * data process restarts.
 *
 * A thread of its own attaches and watches, because a stuck peer may take 5 s to give up on. Looks are counted references: a
 * mapping goes when the last one that looks at it is given back. Any thread may take one.
 */
#ifndef TURNPIKE_CTL_VIEW_H
#define TURNPIKE_CTL_VIEW_H

#include "turnpike/live.h"

struct ctl_views;
struct ctl_mapping;

struct ctl_look {
	const struct tp_live *now;     /* NULL: never attached */
	const struct tp_live *figures; /* NULL: none was ready yet */
	bool connected;                /* the data process behind `now` lives */
	struct ctl_mapping *now_held, *figures_held;
};

/* Starts the watching thread. 0 or -errno. data_dir must outlive it. */
int ctl_views_open(struct ctl_views **views, const char *data_dir);
void ctl_views_close(struct ctl_views *views);

void ctl_look_take(struct ctl_views *views, struct ctl_look *look);
void ctl_look_give(struct ctl_views *views, struct ctl_look *look);

/* The header is another process's memory: what bounds an array of ours is checked at each use. */
static inline uint32_t ctl_live_cores(const struct tp_live *live)
{
	return live->cores < TP_CORES_MAX ? live->cores : TP_CORES_MAX;
}
static inline uint32_t ctl_live_shards(const struct tp_live *live)
{
	return live->shards < TP_SHARDS_MAX ? live->shards : TP_SHARDS_MAX;
}

#endif
