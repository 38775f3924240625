/*
 * One consistent view of single records: the sealed segments and the log files that are not sealed yet, each file exactly once.
 *
 *   under a lock:  refresh manifest ─► follow what is not sealed ─► refresh again ─ changed? start over
 *                                                                       └ same ─► what was kept of the followed files, newest first
 *   without:       the segments of that manifest, one after the other, each opened by who asks (scan.h) ─ one is gone? start over
 *
 * The rule is that of ctl_store.h with log files in the place of live tables: if the manifest did not change around the following, every
 * file was on one side for the whole time. So an acknowledged event shows at once, and exactly once while files are sealed.
 *
 * Of the files that are followed, tagged clicks and amendments are kept in memory, so that an answer reads only what came since the last
 * one; at most CTL_EVENTS_KEPT_BYTES together, beyond: -EOVERFLOW until files have been sealed. Other records are found by
 * ctl_events_find(), which reads the unsealed files anew.
 *
 * Any thread. The lock is held while log is read that nobody has read yet, and while kept records are shown; never while segments are.
 */
#ifndef TURNPIKE_CTL_EVENTS_H
#define TURNPIKE_CTL_EVENTS_H

#include "turnpike/reader.h"
#include "turnpike/scan.h"

#define CTL_EVENTS_KEPT_BYTES (UINT64_C(256) << 20)

struct ctl_events;

int ctl_events_open(struct ctl_events **events, const char *data_dir); /* 0 or -errno; the folder need not exist yet */
void ctl_events_close(struct ctl_events *events);                      /* may be NULL */

/* Where a record lies. */
struct ctl_place {
	bool sealed;
	uint64_t file_id; /* the log file in which it was made durable */
	uint64_t order;   /* in that file, whether sealed or not, among records of one event: the later one is larger */
	/* not sealed */
	uint64_t offset; /* where the block that holds it begins in the file */
	/* sealed */
	struct sto_segment_info segment;
	uint64_t row;
};

enum ctl_events_order {
	CTL_EVENTS_BY_TIME, /* segments whose events reach latest first: by to_ms, descending */
	CTL_EVENTS_BY_FILE, /* the newest log file first: an amendment before what it amends, or in the same file */
};

struct ctl_events_ask {
	void *context;
	uint64_t from_ms, to_ms; /* segments that have counted events or amendments in this range, half-open; to_ms 0: no end */
	enum ctl_events_order order;
	/* Files are read anew: forget what came. Called at least once, first. */
	void (*begin)(void *context);
	/* A tagged click or an amendment that is not sealed, of any time; newest first. Valid during the call. 0, or -errno ends the asking. */
	int (*kept)(void *context, const struct ctl_place *place, const struct tp_event *event);
	/*
	 * Before the first segment: true leaves all of them out, because the caller has what they make up, as of this state
	 * (sto_reader_state). NULL: they come.
	 */
	bool (*sealed)(void *context, const uint64_t state[STO_READER_STATE]);
	/* A segment: 0: on to the next, 1: enough; -ESTALE: it is gone, start over; other -errno. */
	int (*segment)(void *context, const struct sto_segment_info *segment);
};

struct ctl_events_facts {
	uint64_t watermark_ms;     /* of the segments */
	uint64_t damaged_sequence; /* with -EBADMSG: the segment */
};

/*
 * 0; what kept() or segment() returned; -EOVERFLOW as above; -EBADMSG: damage; -EAGAIN: the manifest changed so often that no view came
 * about; other -errno.
 */
int ctl_events_ask(struct ctl_events *events, const struct ctl_events_ask *ask, struct ctl_events_facts *facts);

/* Within segment(): opens it for reading, as sto_scan_open(). -ENOTSUP: version 1, see ctl_events_rows(). */
int ctl_events_scan(const struct ctl_events *events, const struct sto_segment_info *segment, const struct sto_scan_filter *filter,
		    struct sto_scan **scan);
/* Within segment(): its rows one by one, of any version, under the lock; place->row counts them. For the few old ones. */
/* 0, or -errno, which ends it. */
typedef int (*ctl_events_fn)(void *context, const struct ctl_place *place, const struct tp_event *event);
int ctl_events_rows(struct ctl_events *events, const struct sto_segment_info *segment, ctl_events_fn fn, void *context);

/*
 * Every record with this id: of counted events, conflicts, amendments; unsealed files first, newest file first, within a file in its order.
 * The range narrows which segments are looked at; conflicts stand in segments of any range. begin() as above. Holds the lock while it reads
 * unsealed files: who asks beside others has a ctl_events of its own.
 */
int ctl_events_find(struct ctl_events *events, const char *id, size_t id_bytes, uint64_t from_ms, uint64_t to_ms,
		    void (*begin)(void *context), ctl_events_fn fn, void *context, struct ctl_events_facts *facts);

#endif
