/*
 * Those who watch the live stream: between two messages their connections are parked, which takes no thread. A thread of its own waits
 * for the pulse and lets them all go on when it beats.
 */
#ifndef TURNPIKE_CTL_WATCH_H
#define TURNPIKE_CTL_WATCH_H

#include "ctl_pulse.h"

struct ctl_watch;
struct MHD_Connection;

enum { CTL_WATCHERS_MAX = 512, CTL_WATCH_QUIET_MS = 10000 /* after which parked ones are let go without news */ };

int ctl_watch_open(struct ctl_watch **watch, struct ctl_pulse *pulse); /* 0 or -errno */
/* After ctl_pulse_stop(): parked ones go on, and none parks any more. Both may get NULL; close comes when no watcher is left. */
void ctl_watch_stop(struct ctl_watch *watch);
void ctl_watch_close(struct ctl_watch *watch);

/* A place for one more. False: there are CTL_WATCHERS_MAX. */
bool ctl_watch_take(struct ctl_watch *watch);
void ctl_watch_give(struct ctl_watch *watch);

/*
 * Parks the connection, from its content reader, which then returns 0. False: there is news already, newer than `sequence`, or
 * no more will come.
 */
bool ctl_watch_park(struct ctl_watch *watch, struct MHD_Connection *connection, uint64_t sequence);

#endif
