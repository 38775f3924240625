/*
 * State machines of a shard: how a rule, a window, or a later kind of event plugs into the shard loop without the loop knowing of it.
 *
 *   slot ─► dedup ─► copy in the log block ─► show() of each machine, in order ─► sums ─► append
 *                                                │
 *                                                └─ may leave records of its own: record() ─► sums ─► append ─► recorded()
 *
 * A machine is pure: no system call, no clock, no allocation; its memory is given to it at start, and bounded. It is shown every new
 * event (TP_ACCEPTED, TP_LATE) of its shard exactly once, in the order of the log. What it decides it writes into the record, before
 * the record is appended: recovery, sealing and replay take it from there and decide nothing anew.
 *
 * After a restart it is shown the last hours again: in no promised order (segments are sorted otherwise than logs), with what the
 * record says of the decision, so that it can build its state. Amendments (TP_AMENDED) are shown then too.
 *
 * Threads: the shard core; before it runs, the main thread.
 */
#ifndef TURNPIKE_MACHINE_H
#define TURNPIKE_MACHINE_H

#include "turnpike/event.h"

#include <stdbool.h>

/* How far back in event time a machine is shown the log again after a restart. */
#define AGG_AGAIN_MS UINT64_C(7200000)

struct agg_machine_ops {
	const char *name;
	/*
	 * An event that will soon be shown, or turn out not to be new: brings closer what show() will look at, and may keep what it found out
	 * on the way. A hint: no decision depends on it. NULL: nothing to bring.
	 */
	void (*prefetch)(void *self, const struct tp_event *event);
	/*
	 * A new event, on its way into the log. The machine may write its own fields of the record (tags, rule_version), and append
	 * evidence: behind event->bytes there is room for TP_EVIDENCE_BYTES_MAX. One machine owns a field. True: it has left records.
	 */
	bool (*show)(void *self, struct tp_event *event);
	/* A record of the log from before the restart; then, once, the end of them. NULL: the machine keeps nothing over a restart. */
	void (*again)(void *self, const struct tp_event *event);
	void (*again_end)(void *self);
	/*
	 * The next record that belongs into the log besides the events: TP_AMENDED, with all its fields. NULL (the function too): none.
	 * It stays the same until recorded(). The shard appends it before it decides another event; an answer to the event that
	 * brought it about waits for it as well. `waiting` is how many there are. All three, or none.
	 */
	const struct tp_event *(*record)(void *self);
	void (*recorded)(void *self);
	uint64_t (*waiting)(const void *self);
	/*
	 * For a machine whose state belongs to a log file, as the rollup table does (docs/decisions/0001). roll(): the records from now
	 * on go to file_id; false: not now, the shard waits and asks again (nothing may have changed). has_room(): false ends the log
	 * file early, before the next event. NULL: the machine does not care.
	 */
	bool (*roll)(void *self, uint64_t file_id);
	bool (*has_room)(const void *self);
};

struct agg_machine {
	const struct agg_machine_ops *ops;
	void *self;
};

#endif
