/*
 * One consistent view of what the sums do not tell: sessions, distinct users, sources. Sealed segments have them as sections
 * (agg/fold.h); the log files that are not sealed yet are followed, each into a fold of its own that goes on growing, so that an
 * answer reads only what came since the last one.
 *
 *   refresh manifest ─► bring the folds of unsealed files up to date ─► refresh again ─ changed? start over
 *                                                                          └ same ─► the folds, then the sections of the segments
 *
 * The rule is that of ctl_store.h, with log files in the place of live tables: if the manifest did not change around the following,
 * every file was on one side for the whole time, so nothing shows twice or is missed when a file is sealed.
 *
 * A segment without sections (an older program made it, or its log file was huge) has its rows folded for the one question.
 *
 * Memory: a fold per unsealed file, at most CTL_FOLDS_BYTES_MAX together; beyond, -EOVERFLOW until files have been sealed.
 *
 * A question that is narrow (one advertiser's rows alone) has no use for sections and common folds, which do not tell advertisers
 * apart: its events are read one by one, into folds of its own.
 *
 * Any thread may ask, each with a store that it has to itself. Folds of unsealed files are shared: they are brought up to date under a
 * lock, and shown to many at a time; sections are read without it. What was shown is valid only inside the call that shows it, but for sections, which stay
 * until the store is asked again.
 */
#ifndef TURNPIKE_CTL_FOLDS_H
#define TURNPIKE_CTL_FOLDS_H

#include "ctl_store.h"
#include "turnpike/fold.h"

#define CTL_FOLDS_BYTES_MAX (UINT64_C(2) << 30)

enum { CTL_FOLDS_ROWS_MAX = 20000000 };

struct ctl_folds;

/* 0 or -errno. data_dir outlives it. gap_ms: windows.session_gap. */
int ctl_folds_open(struct ctl_folds **folds, const char *data_dir, uint64_t log_file_bytes, uint64_t gap_ms);
void ctl_folds_close(struct ctl_folds *folds);

struct ctl_folds_ask {
	void *context;
	uint64_t from_ms, to_ms; /* segments and folds with events in this range, half-open; they may show what is outside */
	uint32_t kind;           /* enum sto_section_kind */
	uint64_t rows_max;       /* of segments without sections, together; beyond, -EOVERFLOW. 0: CTL_FOLDS_ROWS_MAX */
	/* Files are read anew: forget what came. Called at least once, first. */
	void (*begin)(void *context);
	/* A checked section of that kind. False: enough (-ECANCELED). */
	bool (*section)(void *context, const void *bytes);
	/* Events without a section. */
	bool (*fold)(void *context, struct agg_fold *fold);
	/* Whether an event can matter, where rows have to be read one by one; NULL: all do. */
	bool (*want)(void *context, const struct tp_event *event);
	/*
	 * Before the first segment, after all folds of unsealed files: up to which sequence the caller has what segments show; these are
	 * left out (ctl_folds_sealed() tells whether they are still the same). NULL: none. Not with `narrow`.
	 */
	uint64_t (*kept)(void *context, const struct sto_reader *reader);
	/* Only events that want() takes may show. section() is asked first, if there is one: false leaves the segment out. */
	bool narrow;
};

/*
 * Which segments a question reads, of those up to a sequence. A segment's events never change, and new ones have higher sequences; so
 * equal sums are equal sets, whatever was archived meanwhile, and any other says that some have been deleted.
 */
struct ctl_folds_sealed {
	uint64_t to_sequence; /* of the last one; 0: none */
	uint64_t segments, sum;
};
void ctl_folds_sealed(const struct sto_reader *reader, const struct ctl_folds_ask *ask, uint64_t to_sequence,
		      struct ctl_folds_sealed *sealed);

/* As ctl_store_scan(), and -EOVERFLOW as above. `live` may be NULL. */
int ctl_folds_ask(struct ctl_folds *folds, struct ctl_store *store, const struct tp_live *live, const struct ctl_folds_ask *ask,
		  struct ctl_facts *facts);

#endif
