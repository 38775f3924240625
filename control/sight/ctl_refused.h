/*
 * When beacons were refused: periods, so that every chart can mark them. The pulse thread notes the node's state once a second; any thread
 * may ask. Kept over restarts in <state_dir>/refused, a small text file that is replaced by rename:
 *
 *   turnpike refused 1 LAST_MS        the last moment that somebody watched
 *   FROM_MS TO_MS REASON              oldest first; TO_MS is 0 while it lasts
 *
 * Nobody watches while the control process is down. If that took longer than CTL_UNWATCHED_MS it is a period of its own, "unwatched":
 * then beacons may have been refused or not. A file that cannot be read begins anew; it is no data that anybody bills by.
 */
#ifndef TURNPIKE_CTL_REFUSED_H
#define TURNPIKE_CTL_REFUSED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { CTL_REFUSED_MAX = 512, CTL_REFUSED_JOIN_MS = 5000, CTL_UNWATCHED_MS = 30000 };

enum ctl_why {
	CTL_WHY_NONE,      /* beacons are taken */
	CTL_WHY_UNKNOWN,   /* just begun: neither begins nor ends a period */
	CTL_WHY_NO_SPACE,  /* the disk is full */
	CTL_WHY_STARTING,  /* the log is being read back */
	CTL_WHY_STOPPING,  /* SIGTERM */
	CTL_WHY_GONE,      /* no data process */
	CTL_WHY_STALLED,   /* it does not move */
	CTL_WHY_SHED,      /* single beacons were answered 503, or dropped: rings or request slots were full */
	CTL_WHY_UNWATCHED, /* not known: this process was not there */
	CTL_WHYS
};
const char *ctl_why_name(enum ctl_why why);

struct ctl_refused;

/* 0 or -ENOMEM; state_dir must outlive it. now_ms: the real-time clock. */
int ctl_refused_open(struct ctl_refused **refused, const char *state_dir, uint64_t now_ms);
void ctl_refused_close(struct ctl_refused *refused); /* may be NULL */

/* What holds now. A period that begins soon after one of the same reason goes on with it. One thread. */
void ctl_refused_note(struct ctl_refused *refused, uint64_t now_ms, enum ctl_why why);

/* {"items":[{"from_ms","to_ms","reason"}],"watched_ms"}: what touches [from_ms, to_ms), oldest first; to_ms null while it lasts. Any thread. */
json_t *ctl_refused_json(struct ctl_refused *refused, uint64_t from_ms, uint64_t to_ms);

#endif
