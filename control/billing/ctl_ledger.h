/*
 * The ledger: what the control process has said about money, and has to stand by. <state_dir>/ledger.db, SQLite.
 *
 *   segment    every segment that was published: its hash, and the minutes that it reaches over
 *   touch      for each hour of event time the last segment with rows in it
 *   recount    runs of the reconciliation, and the keys that differed
 *   report     bills that were issued, their lines, what they came from; corrections are lines of a later revision
 *
 * Figures never come from here: those are sums of the data folder at any time. Who deletes the file loses what was issued and
 * reconciled, not a single click.
 *
 * A file that was deleted, moved or replaced while it is open is one that no restart will find: what SQLite would still write into it is
 * lost without a word. So it is looked at before each transaction and before its commit; then every call is -EIDRM until the same file is
 * back, or the process is started again.
 *
 * One connection under a mutex: any thread; every call is one transaction, on stable storage when it returns. turnpikectl may have
 * the same file open; SQLite's locks keep them apart.
 */
#ifndef TURNPIKE_CTL_LEDGER_H
#define TURNPIKE_CTL_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ctl_ledger;

/* What -EIDRM means, for people. */
#define CTL_LEDGER_GONE \
	"the ledger of bills was deleted, moved or replaced: put it back, or restart turnpike-control to begin a new one"

/*
 * Opens the file in the folder, which exists; makes it when it is not there. 0; -errno, logged: the file is damaged (-EBADMSG), comes from a
 * later program (-EPROTONOSUPPORT), or cannot be read or written.
 */
int ctl_ledger_open(struct ctl_ledger **ledger, const char *state_dir);
void ctl_ledger_close(struct ctl_ledger *ledger); /* may be NULL */
/* Whether the file is still where a restart would find it. Takes no lock. NULL is not there. */
bool ctl_ledger_there(const struct ctl_ledger *ledger);

/* Sums of one key. Spend is of valid clicks. */
struct ctl_ledger_figures {
	uint64_t impressions, clicks, flagged_clicks, conversions;
	__int128 spend_micros;
};

/* ---- segments: told by the issuer (ctl_billing_issue.c), in order of their sequence ---- */

struct ctl_ledger_segment {
	uint64_t sequence;
	uint8_t sha256[32];              /* of its file as it was published: what the next one has as its previous */
	uint64_t from_minute, to_minute; /* half-open; equal when it has no rows */
	const uint32_t *hour;            /* of event time that it has rows in; hours since 1970 */
	uint32_t hours;
};
/* 0 or -errno; what is there already stays. */
int ctl_ledger_segment_store(struct ctl_ledger *ledger, const struct ctl_ledger_segment *segment);
/* The last sequence that was stored, 0 for none. 0 or -errno. */
int ctl_ledger_segment_last(struct ctl_ledger *ledger, uint64_t *sequence);

/* ---- reconciliation ---- */

struct ctl_ledger_difference {
	uint64_t minute;
	const char *campaign; /* not terminated */
	size_t campaign_bytes;
	char currency[4];
	struct ctl_ledger_figures raw, reported;
};

struct ctl_ledger_recount {
	int64_t id;                      /* given by the store */
	uint64_t from_minute, to_minute; /* half-open */
	uint64_t at_ms;                  /* when it ran */
	uint64_t sequence;               /* of the last segment of its snapshot, whether it has rows of the range or not */
	uint64_t segments;               /* how many it read */
	uint8_t chain_sha256[32];        /* of the segment `sequence` */
	uint64_t events;                 /* counted ones among what it read */
	uint64_t differences;            /* keys (minute, campaign, currency) that differed */
	const struct ctl_ledger_difference *difference;
	uint32_t kept; /* of them; the store takes the first CTL_LEDGER_DIFFERENCES_MAX */
};

enum { CTL_LEDGER_DIFFERENCES_MAX = 10000 };

/* Stores a run with its differing keys; recount->id is set. 0 or -errno. */
int ctl_ledger_recount_store(struct ctl_ledger *ledger, struct ctl_ledger_recount *recount);
/* Runs that touch the minutes [from, to), newest first, at most `limit`; `difference` is NULL, `kept` is right. fn false: enough. 0 or -errno. */
typedef bool (*ctl_ledger_recount_fn)(void *context, const struct ctl_ledger_recount *recount);
int ctl_ledger_recounts(struct ctl_ledger *ledger, uint64_t from_minute, uint64_t to_minute, uint32_t limit,
			ctl_ledger_recount_fn fn, void *context);
/* The differing keys of a run that were kept, by minute, campaign, currency. Valid inside fn; fn false: enough. 0 or -errno. */
typedef bool (*ctl_ledger_difference_fn)(void *context, const struct ctl_ledger_difference *difference);
int ctl_ledger_differences(struct ctl_ledger *ledger, int64_t recount, ctl_ledger_difference_fn fn, void *context);

enum ctl_reconciled {
	CTL_RECONCILED_NO,      /* some minute was never counted again, or has got events since */
	CTL_RECONCILED_YES,     /* every minute was, and was found equal */
	CTL_RECONCILED_DIFFERS, /* the last run over some minute found another figure there */
};

/*
 * Whether the minutes [from, to) are reconciled: each by the last run over it, which has to be newer than the last segment with rows in that
 * hour. `campaign` (NULL: all): only its differences count. An empty range is reconciled. 0 or -errno.
 */
int ctl_ledger_reconciled(struct ctl_ledger *ledger, uint64_t from_minute, uint64_t to_minute, const char *campaign,
			  size_t campaign_bytes, enum ctl_reconciled *reconciled);

#endif
