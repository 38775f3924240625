/*
 * Judges sealed clicks again under other rules, and says what would change. Reads only. A tool's work: it takes as much memory as the
 * events of its time range, up to a limit that the caller sets.
 *
 * The events of two hours before `from` are shown first, so that counts of hours and impressions are what they were. The order is that
 * of receipt, to the millisecond; within one the order of the shards' logs is not known any more, so where a limit is hit in the middle
 * of a millisecond, how many clicks are tagged is right, which ones may differ.
 */
#ifndef TURNPIKE_REPLAY_H
#define TURNPIKE_REPLAY_H

#include "turnpike/config.h"
#include "turnpike/event.h"

#include <jansson.h>

struct rpl_options {
	const char *data_dir;
	const struct tp_config_fraud *rules;
	uint64_t from_ms, to_ms; /* event time, half-open */
	uint64_t memory_bytes_max;
};

/*
 * What would change: {"rule_version", "events", "clicks", "reasons":[…], "campaigns":[…]}, the caller's. 0 or -errno, said on stderr:
 * -ENOMEM: the range needs more memory than allowed.
 */
int rpl_replay(const struct rpl_options *options, json_t **result);

/*
 * The features of each click in the range, as CSV with a header, label first. `labels` (NULL: a click that is tagged is 1) is a file of
 * lines "EVENT_ID,0|1"; clicks that are not in it are left out.
 */
int rpl_features(const struct rpl_options *options, const char *labels, FILE *to);

#endif
