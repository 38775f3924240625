/*
 * The pulse: once a second one sample of the node, made into one message for all who watch, and a history of ten minutes for those
 * who begin to. A thread of its own; watchers wait for its messages in theirs.
 */
#ifndef TURNPIKE_CTL_PULSE_H
#define TURNPIKE_CTL_PULSE_H

#include "ctl_view.h"

#include <jansson.h>

struct ctl_pulse;

enum { CTL_HISTORY_MAX = 600 };

/* One event of the stream: "id: …\ndata: …\n\n". Counted references. */
struct ctl_message {
	uint32_t held;
	uint64_t sequence;
	size_t bytes;
	char text[];
};

/* 0 or -errno. The periods of refusal are kept in state_dir. */
int ctl_pulse_open(struct ctl_pulse **pulse, const char *data_dir, const char *state_dir, struct ctl_views *views);
/* Lets all watchers go: ctl_pulse_wait() returns NULL from now on. */
void ctl_pulse_stop(struct ctl_pulse *pulse);
void ctl_pulse_close(struct ctl_pulse *pulse);

/*
 * The newest message, once it is newer than `sequence` (0: at once, if there is one). NULL: after stop, or when none came for
 * `wait_ms`; *stopped tells which. Give it back with ctl_message_give().
 */
struct ctl_message *ctl_pulse_wait(struct ctl_pulse *pulse, uint64_t sequence, uint32_t wait_ms, bool *stopped);
void ctl_message_give(struct ctl_pulse *pulse, struct ctl_message *message);

/*
 * {"step_ms":1000,"fields":[…],"samples":[[…]],"refused":{"layer reason":[[time_ms,rate]]},"ways":{"port way":[[time_ms,rate]]}},
 * oldest first; a rate that is not known is null, and the last two leave out what was zero.
 */
json_t *ctl_pulse_history(struct ctl_pulse *pulse);
struct ctl_refused;
struct ctl_refused *ctl_pulse_refused(struct ctl_pulse *pulse);

#endif
