/*
 * Sums of a bill: rollup rows to one line per period, advertiser and campaign, with money by currency. Pure: rows and periods are
 * arguments. One thread per sum.
 *
 * Invariants: the lines of a period add up to all rows of it; money is micros in __int128, and that of two currencies never meets; memory is
 * bounded by lines_max and the currencies seen.
 */
#ifndef TURNPIKE_CTL_BILLING_SUM_H
#define TURNPIKE_CTL_BILLING_SUM_H

#include "turnpike/rollup.h"

/* What of the events counts; signed, because a correction may take away. */
struct ctl_billing_counts {
	int64_t impressions, clicks, flagged_clicks, conversions, late;
};

struct ctl_billing_spend {
	uint32_t next; /* of the same line, by currency in order of the alphabet; index + 1, 0: the last */
	char currency[4];
	__int128 micros;
};

struct ctl_billing_line {
	uint64_t hash;
	uint32_t period; /* index of its period */
	uint32_t key_at; /* advertiser, then campaign */
	uint8_t advertiser_bytes, campaign_bytes;
	uint32_t spend; /* index + 1; 0: none */
	struct ctl_billing_counts counts;
};

struct ctl_billing_sum {
	/* set by the caller */
	const uint64_t *bound; /* periods + 1 minutes, rising: period i is [bound[i], bound[i + 1]) */
	uint32_t periods;
	const char *advertiser; /* NULL: all */
	size_t advertiser_bytes;
	uint32_t part, parts; /* only advertisers whose hash falls into this part; parts 0: all */
	uint32_t lines_max;   /* more is too_many */
	/* results */
	struct ctl_billing_line *line;
	struct ctl_billing_spend *spend;
	char *key;
	uint32_t lines, spends;
	uint64_t key_bytes;
	bool too_many, no_memory;
	/* inside */
	uint32_t line_room, spend_room, index_slots, last;
	uint64_t key_room;
	uint32_t *index; /* hash index over lines, 0 or line + 1 */
	bool sorted;     /* the index is gone */
};

/* Lets go of what it holds; what the caller has set stays. */
void ctl_billing_sum_fini(struct ctl_billing_sum *sum);

/* Where it stands, and back to there: for a snapshot that starts over. Not after a sort. */
struct ctl_billing_mark {
	uint32_t lines, spends;
	uint64_t key_bytes;
};
struct ctl_billing_mark ctl_billing_sum_mark(const struct ctl_billing_sum *sum);
void ctl_billing_sum_reset(struct ctl_billing_sum *sum, struct ctl_billing_mark mark);

/* Takes a row in, if it is of a period and of the advertiser. False: too_many or no_memory says why; there is no sense in going on. */
bool ctl_billing_sum_add(struct ctl_billing_sum *sum, const struct tp_rollup_row *row, const char *heap);
/* The line of a key, made if it is new; NULL as above. `period` may be any number. */
struct ctl_billing_line *ctl_billing_line_find(struct ctl_billing_sum *sum, uint32_t period, struct tp_str advertiser,
					       struct tp_str campaign);
/* Adds what a row counts. False: no_memory. The line is one of `sum`, found just now. */
bool ctl_billing_line_add(struct ctl_billing_sum *sum, struct ctl_billing_line *line, const struct tp_sums *sums,
			  const char *currency);
/* Adds to the money alone. */
bool ctl_billing_spend_add(struct ctl_billing_sum *sum, struct ctl_billing_line *line, const char *currency, __int128 micros);

/* By period, advertiser, campaign. Nothing may be added afterwards. */
void ctl_billing_sum_sort(struct ctl_billing_sum *sum);

static inline struct tp_str ctl_billing_advertiser(const struct ctl_billing_sum *sum, const struct ctl_billing_line *line)
{
	return (struct tp_str){.at = sum->key + line->key_at, .bytes = line->advertiser_bytes};
}
static inline struct tp_str ctl_billing_campaign(const struct ctl_billing_sum *sum, const struct ctl_billing_line *line)
{
	return (struct tp_str){.at = sum->key + line->key_at + line->advertiser_bytes, .bytes = line->campaign_bytes};
}

/* What to say about the money of a line: as ctl_sums_money() in ctl_query.h. */
struct ctl_billing_money {
	bool several;
	char currency[4]; /* the only one; "" when nothing was spent and several, or none, were seen */
	__int128 micros;
};
struct ctl_billing_money ctl_billing_line_money(const struct ctl_billing_sum *sum, const struct ctl_billing_line *line);

#endif
