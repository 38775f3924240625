/*
 * The query engine: sums rollup rows into totals, a series of time buckets and groups. Pure: rows and times are arguments, so a
 * test can hold it against a model. One thread per answer.
 *
 * Times are whole minutes since 1970, because a rollup row knows no less. A bucket is a run of slots; a slot is `slide` minutes:
 *
 *   slots    ├──┼──┼──┼──┼──┼──┤            floor(from) … ceil(to), on whole slides
 *   buckets  ├────────┤                     step = 3 × slide: bucket i sums slots i, i+1, i+2, clipped to [from, to)
 *               ├────────┤
 *
 * With local_days a slot is a day of query.zone, of 23 to 25 hours or whatever that zone has; such windows do not slide.
 *
 * Answers to one query add up (ctl_answer_merge): so what is sealed may be kept, and only what is live read anew.
 */
#ifndef TURNPIKE_CTL_QUERY_H
#define TURNPIKE_CTL_QUERY_H

#include "ctl_zone.h"
#include "turnpike/reader.h"
#include "turnpike/rollup.h"

#include <stdbool.h>

/* The string dimensions of a row have the numbers of enum tp_dimension; the other three follow. */
enum ctl_dimension {
	CTL_AD = TP_DIM_AD,
	CTL_CAMPAIGN = TP_DIM_CAMPAIGN,
	CTL_ADVERTISER = TP_DIM_ADVERTISER,
	CTL_PUBLISHER = TP_DIM_PUBLISHER,
	CTL_REGION = TP_DIM_REGION,
	CTL_COUNTRY,
	CTL_DEVICE,
	CTL_CURRENCY,
	CTL_DIMENSIONS
};
/* "ad", "campaign", …: the names of group_by. */
const char *ctl_dimension_name(enum ctl_dimension dimension);

enum { CTL_BUCKETS_MAX = 50000, CTL_GROUPS_MAX = 20000, CTL_TOP_GROUPS_MAX = 1 << 18, CTL_FILTERS_MAX = 32 };

/* Rows that one question may read: a second or two of work. */
#define CTL_ROWS_MAX 40000000ULL

/* What groups are ordered by; the first is the order when none is asked for. */
enum ctl_measure {
	CTL_GROSS_CLICKS,
	CTL_CLICKS,
	CTL_FLAGGED_CLICKS,
	CTL_IMPRESSIONS,
	CTL_CONVERSIONS,
	CTL_SPEND,
	CTL_CTR,
	CTL_MEASURES
};
const char *ctl_measure_name(enum ctl_measure measure);

/* One value that a dimension may have; in ctl_query.filter_text. Several of one dimension: any of them. */
struct ctl_filter {
	uint8_t dimension; /* enum ctl_dimension */
	uint8_t bytes;
	uint16_t at;
};

struct ctl_query {
	bool filtered; /* only rows whose `filter` is `id` */
	enum ctl_dimension filter;
	char *id; /* not terminated: ids may hold any byte but NUL, and may be longer than any row's */
	size_t id_bytes;
	uint64_t from_minute, to_minute; /* half-open */
	uint32_t step_minutes;           /* 0: no series */
	uint32_t slide_minutes;          /* divides step_minutes; equal to it unless windows slide */
	uint8_t group[CTL_DIMENSIONS];
	uint32_t group_count; /* 0: no groups */
	uint32_t groups_max;  /* 0: CTL_GROUPS_MAX */
	enum ctl_measure order;
	bool ascending;
	uint32_t limit; /* groups that are shown; 0: all */
	const struct ctl_zone *zone;
	bool local_days;                            /* slots are days of `zone`, which is not NULL then */
	bool compare;                               /* with the period before */
	struct ctl_filter filters[CTL_FILTERS_MAX]; /* those of one dimension follow each other */
	uint32_t filter_count;
	char filter_text[CTL_FILTERS_MAX * 128];
	const char *only;  /* rows of this advertiser alone, whatever else is asked; NULL: of all */
	uint64_t rows_max; /* 0: CTL_ROWS_MAX */
};

/* The period before that of the query, as long; in whole local days where the query's is. The series begins anew with it. */
void ctl_query_previous(const struct ctl_query *query, struct ctl_query *previous);
/* Adds a filter; false: no room, or a value longer than any row's. Filters may come in any order. */
bool ctl_query_filter(struct ctl_query *query, enum ctl_dimension dimension, const char *value, size_t bytes);

/* The coarsest buckets that its slots are made of: a row of such a bucket lies in one slot as a whole. */
enum sto_grain ctl_query_grain(const struct ctl_query *query);

/* How many slots the series of a query takes. */
uint64_t ctl_query_slots(const struct ctl_query *query);

/* Money of one currency. */
struct ctl_spend {
	struct ctl_spend *next;
	char currency[4];
	__int128 micros;
};

struct ctl_sums {
	uint64_t impressions, clicks, flagged_clicks, conversions, late;
	struct ctl_spend *spend; /* one per currency that was seen, in order of the alphabet */
};

/*
 * What to say about money: exactly one currency has spend, or several do (then they are never added), or none does. A currency in
 * which nothing was spent does not count: an impression without a price does not make a EUR campaign a mixed one.
 */
struct ctl_money {
	bool several;
	char currency[4]; /* the only one; "" when nothing was spent and several, or none, were seen */
	__int128 micros;
};
struct ctl_money ctl_sums_money(const struct ctl_sums *sums);

struct ctl_group {
	uint32_t key_at, key_bytes; /* in ctl_answer.key: for each dimension of the query a length byte and the bytes */
	uint64_t hash;
	struct ctl_sums sums;
};

struct ctl_answer {
	const struct ctl_query *query;
	struct ctl_sums totals;
	struct ctl_sums *slot; /* slots */
	uint32_t slots;
	uint64_t slot_from; /* minute where slot 0 begins */
	uint64_t *border;   /* with local_days: where each slot begins, and the end of the last */
	struct ctl_group *group;
	uint32_t groups, groups_max;
	uint32_t *index; /* hash index over groups, 0 or group + 1 */
	uint32_t index_slots;
	char *key;
	uint32_t key_bytes, key_bytes_max;
	struct ctl_arena *arena; /* of the spends */
	uint64_t rows;
	bool foreign; /* a row was of the id and not of query.only */
	bool no_memory, too_many_groups, too_many_rows;
};

/* 0 or -ENOMEM. The query must outlive the answer. */
int ctl_answer_init(struct ctl_answer *answer, const struct ctl_query *query);
void ctl_answer_fini(struct ctl_answer *answer);
/* Back to zeros: for a snapshot that starts over. */
void ctl_answer_reset(struct ctl_answer *answer);
/* Takes a row in, if it is of the query. False when there is no sense in going on: no_memory or too_many_…. */
bool ctl_answer_add(struct ctl_answer *answer, const struct tp_rollup_row *row, const char *heap);
/* Adds an answer to the same query. False: no_memory or too_many_groups. */
bool ctl_answer_merge(struct ctl_answer *answer, const struct ctl_answer *more);
/* About what it takes of memory. */
size_t ctl_answer_bytes(const struct ctl_answer *answer);
/* Sorts the groups by query.order, then by clicks (with flagged ones), impressions, key. A rate of nothing comes last. */
void ctl_answer_sort(struct ctl_answer *answer);
/* Sums of bucket `index` (0 … slots-1) into *sums, whose spends live as long as the answer. False: no_memory. */
bool ctl_answer_bucket(struct ctl_answer *answer, uint32_t index, struct ctl_sums *sums);
/* Minutes where bucket `index` begins and where it ends, as if it were not clipped. */
uint64_t ctl_answer_bucket_start(const struct ctl_answer *answer, uint32_t index);
uint64_t ctl_answer_bucket_end(const struct ctl_answer *answer, uint32_t index);
/* One dimension's value of a group; `nth` counts the query's group dimensions. */
struct tp_str ctl_answer_group_value(const struct ctl_answer *answer, const struct ctl_group *group, uint32_t nth);

#endif
