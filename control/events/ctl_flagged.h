/*
 * The list of flagged clicks, newest first, page by page: by stamp, then id, both descending.
 *
 * A click is listed by the last record of it: with the tags that an amendment left, or not at all if it left none. Segments are looked at
 * by how late their events reach, so a page ends once what is left is older than what it shows.
 *
 * A page costs what it costs: when too much had to be read it ends early, with a cursor from where to go on; so a page may be short, even
 * empty, and only one without a cursor is the last. The cursor is a place in the order and nothing else: it means the same after
 * sealing, a restart, and new arrivals.
 *
 * Any thread; a question keeps all its state to itself.
 */
#ifndef TURNPIKE_CTL_FLAGGED_H
#define TURNPIKE_CTL_FLAGGED_H

#include "ctl_events.h"

enum { CTL_FLAGGED_MAX = 1000, CTL_CURSOR_TEXT_BYTES = 64 };

/* A place in the order. */
struct ctl_flagged_key {
	uint64_t timestamp_ms;
	struct tp_id id;
};

/* Which clicks; also what sums are asked by (ctl_fraud_sums.h). Texts are the caller's. */
struct ctl_flagged_filter {
	uint64_t from_ms, to_ms;                           /* half-open; to_ms 0: no end */
	struct tp_str advertiser, campaign, ad, publisher; /* at NULL: any */
	uint32_t reasons;                                  /* with at least one of these bits; 0: any */
	bool has_class;
	enum tp_fraud_class class;
};

struct ctl_flagged_query {
	struct ctl_flagged_filter filter;
	uint32_t limit; /* 1 to CTL_FLAGGED_MAX */
	bool after;     /* only what comes after `cursor` */
	struct ctl_flagged_key cursor;
	uint64_t work_max;  /* rows to look at before a page ends early; 0: the usual */
	uint64_t work_hard; /* before it fails, where it cannot: the segments that are left all reach beyond it; 0: the usual */
};

struct ctl_flagged_item {
	struct tp_event *event;
	struct ctl_place place;
};

struct ctl_flagged_page {
	struct ctl_flagged_item *item;
	uint32_t count;
	bool more;
	struct ctl_flagged_key next; /* with more: the cursor */
	struct ctl_events_facts facts;
};

/* 0; -E2BIG: too much to read in one place, narrow it; or as ctl_events_ask(). The page is to be freed in any case. */
int ctl_flagged_list(struct ctl_events *events, const struct ctl_flagged_query *query, struct ctl_flagged_page *page);
void ctl_flagged_free(struct ctl_flagged_page *page);

/* A cursor as text and back; `to` has CTL_CURSOR_TEXT_BYTES. False: it is none. */
void ctl_flagged_cursor_text(const struct ctl_flagged_key *key, char *to);
bool ctl_flagged_cursor_parse(const char *text, size_t bytes, struct ctl_flagged_key *key);

/* Whether a click's record fits but for its tags; whether its tags fit. */
bool ctl_flagged_fits(const struct ctl_flagged_filter *filter, const struct tp_event *event);
bool ctl_flagged_tags_fit(const struct ctl_flagged_filter *filter, uint32_t fraud);
/* What a scan can do of it. */
struct sto_scan_filter ctl_flagged_scan_filter(const struct ctl_flagged_filter *filter);

#endif
