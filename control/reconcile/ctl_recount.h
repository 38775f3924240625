/*
 * The recount: counts events again from the raw rows, and holds what was reported against it, key by key. Nothing of it goes through
 * rollup tables, rollup files or the query engine on the raw side: own deduplication by id, own sums, so that a fault of theirs shows.
 *
 *   raw        segments (turnpike/scan.h) + log files not sealed yet (turnpike/follow.h) ─► dedup by (id, minute) ─► sums
 *   reported   ctl_store_scan(): rollup files, segments' rollups, live tables: what every query adds up
 *   compared   per advertiser, campaign, minute and currency; never by totals alone
 *
 * Equal means equal: both sides are one snapshot of the manifest. While a node runs, its unsealed log files are followed between two
 * looks at its tables: a line that the looks agree on must be what the rows say; one that moved meanwhile is marked as moving, and only
 * what neither look allows is a difference. Without a node (`live` NULL) both sides are what is sealed.
 *
 * What must hold for a counted event: it is in the raw rows once. A second row of the same id and minute is a duplicate that was
 * counted: it adds nothing here, so the reported figure is too high by it. A click's tag may be taken back by an amendment, in whatever
 * file: here it moves the click only if the click is there, was flagged, and was not amended before.
 *
 * Memory is fixed: `memory_bytes`. The range is taken in windows of minutes as wide as fit; a single minute that does not fit is
 * taken in passes, each for a part of the ids. More distinct lines in one minute than fit: -E2BIG.
 *
 * Threads: any; all state is the call's own. It reads the data folder and writes nothing.
 */
#ifndef TURNPIKE_CTL_RECOUNT_H
#define TURNPIKE_CTL_RECOUNT_H

#include "turnpike/live.h"
#include "turnpike/reader.h"

#include <stdbool.h>

struct ctl_recount_sums {
	uint64_t impressions, clicks, flagged_clicks, conversions, late;
	__int128 spend_micros;
};
bool ctl_recount_same(const struct ctl_recount_sums *one, const struct ctl_recount_sums *other);

/* A key where something was counted or reported. Texts are valid during the call. */
struct ctl_recount_line {
	struct tp_str advertiser, campaign;
	char currency[4];
	uint32_t minute;
	struct ctl_recount_sums raw, reported;
	bool moving;  /* reported figures changed while it was counted */
	bool differs; /* raw and reported cannot both be right */
};

#define CTL_RECOUNT_BYTES (UINT64_C(256) << 20)

struct ctl_recount_ask {
	const char *data_dir;
	uint64_t from_minute, to_minute; /* half-open */
	const struct tp_live *live;      /* NULL: what is sealed */
	uint64_t settle_ms;       /* with `live`: how long a counted event may take into the log; see ctl_recount_settle_ms() */
	struct tp_str advertiser; /* at NULL: all */
	uint64_t memory_bytes;    /* 0: CTL_RECOUNT_BYTES */
	uint64_t rows_max;        /* of the files that have to be read; beyond, -EFBIG before any is. 0: no limit */
	void *context;
	/* Each line, by minute, then advertiser, campaign, currency. NULL: none. */
	void (*line)(void *context, const struct ctl_recount_line *line);
	bool (*go_on)(void *context); /* asked a few times a second; false ends it with -ECANCELED. NULL: always */
};

struct ctl_recount_facts {
	uint64_t lines, differing, moving;
	uint64_t rows;       /* raw rows of the range that counted */
	uint64_t duplicates; /* … and those that were there twice */
	uint64_t rows_read;  /* work: rows looked at, narrowing and passes included */
	uint64_t segments, segment_last;
	uint8_t chain_sha256[32]; /* of segment_last: what the figures were counted from */
	uint64_t logs;            /* unsealed log files that were followed */
	uint64_t elapsed_ns;
	uint64_t damaged_sequence; /* with -EBADMSG; 0: not known */
	bool damaged_rollup;
};

/* 0; -ECANCELED; -EFBIG; -E2BIG; -EBADMSG: damage; -EAGAIN: the folder kept changing; -ENOMEM; another -errno. *facts is set always. */
int ctl_recount_run(const struct ctl_recount_ask *ask, struct ctl_recount_facts *facts);

struct ctl_recount_range {
	uint64_t whole_minute;  /* from here on all raw rows are there: retention has taken no segment that reached so far */
	uint64_t from_minute;   /* the same, and not before the first event; equal to to_minute: none */
	uint64_t to_minute;     /* before it minutes are final */
	uint64_t sealed_minute; /* … and every row lies in a segment; at least from_minute */
};

/*
 * Which minutes can be reconciled. `live` may be NULL. Retention deletes segments oldest first, and none holds an event stamped later
 * than when it was sealed and `max_future_ms`. 0 or -errno.
 */
int ctl_recount_range(const char *data_dir, const struct tp_live *live, uint64_t max_future_ms, struct ctl_recount_range *range);

/* For ctl_recount_ask.settle_ms, from durability.commit_interval. */
uint64_t ctl_recount_settle_ms(uint64_t commit_interval_ns);

#endif
