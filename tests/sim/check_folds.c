/*
 * What lies folded in the segments, against the facts that count: each user's sessions, distinct users of a campaign, the addresses with
 * most clicks. The sections of all segments are merged, however events were spread over shards, log files and merges.
 */
#include "sim.h"

#include "turnpike/distinct.h"
#include "turnpike/fold.h"
#include "turnpike/session.h"
#include "turnpike/sources.h"

#include <errno.h>

enum { USERS = 41, SESSIONS_MAX = 4096, ADDRESSES = 256 };

#define HOUR_MS UINT64_C(3600000)

enum { SESSIONS, DISTINCT, SOURCES, KINDS };

/* The sections of one segment; NULL: it has none of the kind. */
struct folded {
	const void *kind[KINDS];
	void *made; /* from its events, where a failing disk had it sealed without */
};

struct refold {
	struct agg_fold *fold;
	uint64_t events, bytes;
};

static int refold_count(void *context, const struct tp_event *event)
{
	struct refold *refold = context;
	refold->events++;
	refold->bytes += event->bytes;
	return 0;
}

static int refold_show(void *context, const struct tp_event *event)
{
	struct refold *refold = context;
	return agg_fold_show(refold->fold, event) ? 0 : -E2BIG;
}

/* As the control process does with such a segment: its events are asked. */
static int fold_again(struct world *w, struct sto_reader *reader, uint32_t segment, struct folded *to)
{
	static uint64_t (*const make[KINDS])(struct agg_fold *, void *) = {agg_fold_sessions, agg_fold_distinct, agg_fold_sources};
	struct refold refold = {0};
	int rc = sto_reader_events(reader, segment, refold_count, &refold);
	const uint64_t bytes = (agg_fold_bytes(refold.events, refold.bytes) + 63) & ~UINT64_C(63);
	void *memory = aligned_alloc(64, bytes);
	memset(memory, 0, bytes);
	refold.fold = agg_fold_init(memory, refold.events, refold.bytes, w->node.config.session_gap_ms);
	rc = rc ? rc : sto_reader_events(reader, segment, refold_show, &refold);
	uint64_t all = 0;
	for (int k = 0; k < KINDS; k++)
		all += make[k](refold.fold, NULL);
	uint8_t *at = to->made = malloc(all);
	for (int k = 0; k < KINDS; k++) {
		uint64_t length = make[k](refold.fold, at);
		to->kind[k] = length ? at : NULL;
		at += length;
	}
	free(memory);
	return rc;
}

static void folded_read(struct world *w, struct sto_reader *reader, uint32_t segment, struct folded *to)
{
	static const uint32_t kind[KINDS] = {STO_SECTION_SESSIONS, STO_SECTION_DISTINCT, STO_SECTION_SOURCES};
	static int (*const check[KINDS])(const void *, uint64_t) = {agg_sessions_check, agg_distinct_check, agg_sources_check};
	for (int k = 0; k < KINDS; k++) {
		uint64_t length;
		int rc = sto_reader_section(reader, segment, kind[k], &to->kind[k], &length);
		if (rc == -ENOENT && k == SESSIONS && w->faults & FAULT_DISK) {
			rc = fold_again(w, reader, segment, to);
			if (rc)
				complain(w, "segment %u: its events cannot be folded: %s", segment, strerror(-rc));
			return;
		}
		if (rc == -ENOENT && k != SESSIONS)
			to->kind[k] = NULL;
		else if (rc || check[k](to->kind[k], length))
			complain(w, "segment %u: section %#x: %s", segment, kind[k], rc ? strerror(-rc) : "is none");
	}
}

/* ---- sessions ---- */

struct run {
	uint64_t stamp_ms;
	const struct counted *counted;
};

static int by_stamp(const void *a, const void *b)
{
	const struct run *x = a, *y = b;
	return (x->stamp_ms > y->stamp_ms) - (x->stamp_ms < y->stamp_ms);
}

static bool name_there(const struct tp_str *name, uint32_t names, const char *kind, uint32_t n)
{
	char want[40];
	script_name(want, sizeof(want), kind, n);
	for (uint32_t i = 0; i < names; i++)
		if (name[i].bytes == strlen(want) && memcmp(name[i].at, want, name[i].bytes) == 0)
			return true;
	return false;
}

/* One session of the product beside the events [from, to) of the model. */
static void session_check(struct world *w, uint32_t user, const struct agg_session *s, const struct run *run, uint32_t count)
{
	uint32_t impressions = 0, clicks = 0, flagged = 0, conversions = 0;
	bool ads[ADS] = {false}, publishers[PUBLISHERS] = {false};
	for (uint32_t i = 0; i < count; i++) {
		const struct fact *f = &w->fact[run[i].counted->fact];
		impressions += f->type == 0;
		conversions += f->type == 2;
		clicks += f->type == 1 && !tags_left(run[i].counted);
		flagged += f->type == 1 && tags_left(run[i].counted);
		ads[f->ad] = true;
		publishers[f->publisher] |= f->publisher != 0;
	}
	uint32_t ad_count = 0, publisher_count = 0;
	bool named = true;
	for (uint32_t i = 0; i < ADS; i++) {
		ad_count += ads[i];
		named &= !ads[i] || name_there(s->ad, s->ads, "ad", i);
	}
	for (uint32_t i = 0; i < PUBLISHERS; i++) {
		publisher_count += publishers[i];
		named &= !publishers[i] || name_there(s->publisher, s->publishers, "publisher", i);
	}
	if (s->start_ms != run[0].stamp_ms || s->end_ms != run[count - 1].stamp_ms || s->impressions != impressions ||
	    s->clicks != clicks || s->flagged_clicks != flagged || s->conversions != conversions)
		complain(w,
			 "user %u: a session from %" PRIu64 " to %" PRIu64
			 ": %u impressions (should be %u), %u clicks (%u), %u flagged "
			 "(%u), %u conversions (%u)",
			 user, s->start_ms, s->end_ms, s->impressions, impressions, s->clicks, clicks, s->flagged_clicks, flagged,
			 s->conversions, conversions);
	if (!named || s->ads != ad_count || s->publishers != publisher_count)
		complain(w, "user %u: a session names %u ads and %u publishers, should be %u and %u", user, s->ads, s->publishers,
			 ad_count, publisher_count);
}

static void sessions(struct world *w, const struct folded *folded, uint32_t segments, const struct counted_list *list,
		     uint32_t user)
{
	static struct agg_session found[SESSIONS_MAX];
	static struct run run[FACTS_MAX];
	char name[40];
	script_name(name, sizeof(name), "user", user);
	uint32_t many = 0, runs = 0, session = 0;
	for (uint32_t i = 0; i < segments; i++) {
		const void *bytes = folded[i].kind[SESSIONS];
		uint32_t first, count = bytes ? agg_sessions_find(bytes, name, strlen(name), &first) : 0;
		for (uint32_t k = 0; k < count && many < SESSIONS_MAX; k++)
			agg_sessions_get(bytes, first + k, &found[many++], NULL);
	}
	many = agg_sessions_merge(found, many, w->node.config.session_gap_ms);
	for (uint32_t i = 0; i < list->count; i++)
		if (w->fact[list->at[i].fact].user == user)
			run[runs++] = (struct run){w->fact[list->at[i].fact].stamp_ms, &list->at[i]};
	qsort(run, runs, sizeof(*run), by_stamp);
	for (uint32_t from = 0, to; from < runs && !w->broken; from = to, session++) {
		for (to = from + 1; to < runs && run[to].stamp_ms - run[to - 1].stamp_ms < w->node.config.session_gap_ms; to++)
			;
		if (session < many)
			session_check(w, user, &found[session], run + from, to - from);
	}
	if (session != many)
		complain(w, "user %u has %u sessions, should be %u", user, many, session);
}

/* ---- distinct users ---- */

static void distinct(struct world *w, const struct folded *folded, uint32_t segments, const struct counted_list *list,
		     uint32_t campaign)
{
	const uint32_t from = (uint32_t)(wall_ms(w) / HOUR_MS - dice(w, 4)), to = from + 1 + (uint32_t)dice(w, 4);
	static struct agg_distinct merged;
	bool seen[USERS] = {false};
	char name[40];
	uint32_t users = 0;
	memset(&merged, 0, sizeof(merged));
	script_name(name, sizeof(name), "campaign", campaign);
	for (uint32_t i = 0; i < segments; i++) {
		const void *bytes = folded[i].kind[DISTINCT];
		if (bytes)
			agg_distinct_take(bytes, name, strlen(name), from, to, &merged);
	}
	for (uint32_t i = 0; i < list->count; i++) {
		const struct fact *f = &w->fact[list->at[i].fact];
		if (f->campaign != campaign || f->stamp_ms / HOUR_MS < from || f->stamp_ms / HOUR_MS >= to || !f->user)
			continue;
		users += !seen[f->user];
		seen[f->user] = true;
	}
	/* so few users meet in a register once in ten thousand pairs; 4.9% are three standard errors */
	const uint64_t estimate = agg_distinct_estimate(&merged), slack = users * 49 / 1000 + (users > 1);
	if (estimate > users + slack || estimate + slack < users)
		complain(w, "campaign %u: %" PRIu64 " distinct users are estimated, %u there are", campaign, estimate, users);
}

/* ---- sources ---- */

static void sources(struct world *w, const struct folded *folded, uint32_t segments, const struct counted_list *list)
{
	const uint32_t now = (uint32_t)(wall_ms(w) / 60000), from = chance(w, 2) ? 0 : now - (uint32_t)dice(w, 120);
	const uint32_t to = chance(w, 2) ? UINT32_MAX : from + (uint32_t)dice(w, 120);
	static struct agg_sources merged;
	uint32_t clicks[ADDRESSES] = {0};
	bool there[ADDRESSES] = {false};
	memset(&merged, 0, sizeof(merged));
	for (uint32_t i = 0; i < segments; i++) {
		const void *bytes = folded[i].kind[SOURCES];
		if (bytes)
			agg_sources_take(bytes, from, to, &merged);
	}
	uint32_t addresses = 0;
	for (uint32_t i = 0; i < list->count; i++) {
		const struct fact *f = &w->fact[list->at[i].fact];
		if (f->type != 1 || !f->ip || f->stamp_ms / 60000 < from || f->stamp_ms / 60000 >= to)
			continue;
		addresses += clicks[f->ip]++ == 0;
	}
	for (uint32_t i = 0; i < merged.count; i++) {
		const struct agg_source *s = &merged.source[i];
		const uint32_t ip = s->ip[15];
		there[ip] = true;
		if (s->clicks > clicks[ip] || clicks[ip] > s->clicks + s->over)
			complain(w, "address %u: %" PRIu64 " clicks and up to %" PRIu64 " more, should be %u", ip, s->clicks,
				 s->over, clicks[ip]);
		if (i && s->clicks > merged.source[i - 1].clicks)
			complain(w, "sources do not descend");
	}
	for (uint32_t ip = 1; ip < ADDRESSES; ip++)
		if (!there[ip] && clicks[ip] > merged.missed)
			complain(w, "address %u has %u clicks, and is missed; at most %" PRIu64 " may be", ip, clicks[ip],
				 merged.missed);
	if (addresses <= AGG_SOURCES && (merged.count != addresses || merged.missed))
		complain(w, "%u sources, %" PRIu64 " missed, and %u there are", merged.count, merged.missed, addresses);
}

void check_folds(struct world *w, struct sto_reader *reader, const struct counted_list *list)
{
	const uint32_t segments = sto_reader_segments(reader);
	struct folded *folded = calloc(segments + 1, sizeof(*folded));
	for (uint32_t i = 0; i < segments && !w->broken; i++)
		folded_read(w, reader, i, &folded[i]);
	for (uint32_t user = 1; user < USERS && !w->broken; user++)
		sessions(w, folded, segments, list, user);
	for (uint32_t campaign = 0; campaign < CAMPAIGNS && !w->broken; campaign++)
		distinct(w, folded, segments, list, campaign);
	for (int i = 0; i < 3 && !w->broken; i++)
		sources(w, folded, segments, list);
	for (uint32_t i = 0; i < segments; i++)
		free(folded[i].made);
	free(folded);
}
