/*
 * GET /api/v1/analytics/sessions?user=…: runs of one user's activity, newest first. docs/queries.md has the fields.
 *
 * Partial sessions come from the folds and sections of ctl_folds.h and are merged (session.h). A session that touches the range is
 * shown whole, so the range is widened until nothing outside of it can belong to what it shows: a part that was not looked at lies
 * outside of the widened range, and joins a session only if it is less than a gap away from it.
 *
 * An advertiser's token sees sessions made of its own events alone: these are read one by one, in the segments in which the user is.
 *
 * Entered by connection threads, each with a store of its own.
 */
#include "ctl.h"
#include "ctl_folds.h"
#include "ctl_param.h"
#include "turnpike/session.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_FIRST = 64, PARTS_MAX = 65536, TIME_BYTES = 32, NAMES_BYTES = 1 << 16 };

/* Names out of folds, which are only valid while they are shown. */
struct names {
	struct names *next;
	uint32_t used;
	char byte[NAMES_BYTES];
};

struct collecting {
	const struct ctl_sessions_query *query;
	uint64_t from_ms, to_ms; /* widened */
	uint64_t gap_ms;
	struct agg_session *part;
	uint32_t parts, max;
	struct names *names;
	const char *only; /* events of this advertiser; NULL: of all */
	int rc;           /* why it ended */
};

static void names_free(struct collecting *c)
{
	for (struct names *next; c->names; c->names = next) {
		next = c->names->next;
		free(c->names);
	}
}

static bool name_copy(struct collecting *c, struct tp_str *name)
{
	if (!c->names || NAMES_BYTES - c->names->used < name->bytes) {
		struct names *more = malloc(sizeof(*more));
		if (!more) {
			c->rc = -ENOMEM;
			return false;
		}
		more->next = c->names;
		more->used = 0;
		c->names = more;
	}
	char *to = c->names->byte + c->names->used;
	memcpy(to, name->at, name->bytes);
	c->names->used += name->bytes;
	name->at = to;
	return true;
}

static void begin(void *context)
{
	struct collecting *c = context;
	c->parts = 0;
	names_free(c);
}

static bool part_add(void *context, const struct agg_session *part)
{
	struct collecting *c = context;
	if (part->end_ms < c->from_ms || part->start_ms >= c->to_ms)
		return true;
	if (c->parts == c->max) {
		c->parts = agg_sessions_merge(c->part, c->parts, c->gap_ms);
		if (c->parts > c->max / 2) {
			uint32_t max = c->max ? 2 * c->max : PARTS_FIRST;
			struct agg_session *larger = max <= PARTS_MAX ? realloc(c->part, max * sizeof(*larger)) : NULL;
			if (!larger) {
				c->rc = max <= PARTS_MAX ? -ENOMEM : -E2BIG;
				return false;
			}
			c->part = larger;
			c->max = max;
		} else if (c->max == 0) {
			c->part = malloc(PARTS_FIRST * sizeof(*c->part));
			c->max = c->part ? PARTS_FIRST : 0;
			c->rc = c->part ? 0 : -ENOMEM;
			if (c->rc)
				return false;
		}
	}
	c->part[c->parts++] = *part;
	return true;
}

static bool section(void *context, const void *bytes)
{
	struct collecting *c = context;
	uint32_t first, count = agg_sessions_find(bytes, c->query->user, c->query->user_bytes, &first);
	if (c->only)
		return count != 0;
	for (uint32_t i = 0; i < count; i++) {
		struct agg_session part;
		agg_sessions_get(bytes, first + i, &part, NULL);
		if (!part_add(c, &part))
			return false;
	}
	return true;
}

/* One event as a session, out of a fold. */
static bool event_add(void *context, const struct agg_session *event)
{
	struct collecting *c = context;
	struct agg_session part = *event;
	bool kept = true;
	if (part.end_ms < c->from_ms || part.start_ms >= c->to_ms)
		return true;
	for (uint32_t i = 0; i < part.ads && kept; i++)
		kept = name_copy(c, &part.ad[i]);
	for (uint32_t i = 0; i < part.publishers && kept; i++)
		kept = name_copy(c, &part.publisher[i]);
	return kept && part_add(c, &part);
}

static bool fold(void *context, struct agg_fold *made)
{
	struct collecting *c = context;
	return agg_fold_user(made, c->query->user, c->query->user_bytes, event_add, c);
}

static bool want(void *context, const struct tp_event *event)
{
	const struct collecting *c = context;
	struct tp_str user = tp_event_string(event, TP_USER_ID);
	if (user.bytes != c->query->user_bytes || memcmp(user.at, c->query->user, user.bytes) != 0)
		return false;
	struct tp_str advertiser = tp_event_string(event, TP_ADVERTISER_ID);
	return !c->only || (advertiser.bytes == strlen(c->only) && memcmp(advertiser.at, c->only, advertiser.bytes) == 0);
}

static bool touches(const struct collecting *c, const struct agg_session *session)
{
	return session->start_ms < c->query->to_ms && session->end_ms >= c->query->from_ms;
}

/* Whether what was looked at is enough; else the range is wider now. */
static bool enough(struct collecting *c, uint32_t round)
{
	uint64_t from_ms = c->from_ms, to_ms = c->to_ms, more = c->gap_ms << (round < 20 ? round : 20);
	for (uint32_t i = 0; i < c->parts; i++) {
		const struct agg_session *one = &c->part[i];
		if (!touches(c, one))
			continue;
		if (c->from_ms && one->start_ms < c->from_ms + c->gap_ms)
			from_ms = c->from_ms > more ? c->from_ms - more : 0;
		if (one->end_ms + c->gap_ms > c->to_ms)
			to_ms = one->end_ms + more;
	}
	bool same = from_ms >= c->from_ms && to_ms <= c->to_ms;
	c->from_ms = from_ms < c->from_ms ? from_ms : c->from_ms;
	c->to_ms = to_ms > c->to_ms ? to_ms : c->to_ms;
	return same;
}

static int collect(struct ctl *ctl, struct ctl_store *store, const struct tp_live *live, struct collecting *c,
		   struct ctl_facts *facts)
{
	const uint64_t gap_ms = c->gap_ms;
	c->from_ms = c->query->from_ms > 2 * gap_ms ? c->query->from_ms - 2 * gap_ms : 0;
	c->to_ms = c->query->to_ms + 2 * gap_ms;
	for (uint32_t round = 1;; round++) {
		const struct ctl_folds_ask ask = {
			.context = c,
			.from_ms = c->from_ms,
			.to_ms = c->to_ms,
			.kind = STO_SECTION_SESSIONS,
			.begin = begin,
			.section = section,
			.fold = fold,
			.want = want,
			.narrow = c->only != NULL,
		};
		int rc = ctl_folds_ask(ctl->folds, store, live, &ask, facts);
		if (rc)
			return rc == -ECANCELED && c->rc ? c->rc : rc;
		c->parts = agg_sessions_merge(c->part, c->parts, gap_ms);
		if (enough(c, round))
			return 0;
	}
}

static json_t *time_json(uint64_t ms)
{
	char text[TIME_BYTES];
	return json_stringn(text, tp_time_text(ms, text));
}

static json_t *names_json(const struct tp_str *name, uint32_t count)
{
	json_t *names = json_array();
	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(names, ctl_json_text(name[i].at, name[i].bytes));
	return names;
}

static json_t *session_json(const struct agg_session *one, bool open)
{
	json_t *object = json_object();
	json_object_set_new(object, "start", time_json(one->start_ms));
	json_object_set_new(object, "end", time_json(one->end_ms));
	json_object_set_new(object, "impressions", json_integer(one->impressions));
	json_object_set_new(object, "clicks", json_integer(one->clicks));
	json_object_set_new(object, "flagged_clicks", json_integer(one->flagged_clicks));
	json_object_set_new(object, "conversions", json_integer(one->conversions));
	json_object_set_new(object, "ads", names_json(one->ad, one->ads));
	json_object_set_new(object, "publishers", names_json(one->publisher, one->publishers));
	if (one->more_ads || one->more_publishers) /* names beyond the first 32 of a kind */
		json_object_set_new(object, "more_names", json_true());
	json_object_set_new(object, "open", json_boolean(open));
	return object;
}

static json_t *answer_json(const struct collecting *c, const struct ctl_facts *facts)
{
	const struct ctl_sessions_query *query = c->query;
	json_t *object = json_object(), *items = json_array();
	bool more = false;
	uint32_t shown = 0;

	for (uint32_t i = c->parts; i-- > 0;) {
		const struct agg_session *one = &c->part[i];
		if (!touches(c, one))
			continue;
		more = shown == query->limit;
		if (more)
			break;
		json_array_append_new(items, session_json(one, one->end_ms + c->gap_ms > facts->watermark_ms));
		shown++;
	}
	json_object_set_new(object, "user", json_stringn(query->user, query->user_bytes));
	json_object_set_new(object, "from", time_json(query->from_ms));
	json_object_set_new(object, "to", time_json(query->to_ms));
	json_object_set_new(object, "items", items);
	json_object_set_new(object, "more", json_boolean(more));
	json_object_set_new(object, "watermark", time_json(facts->watermark_ms));
	return object;
}

void ctl_folds_fail(struct ctl_reply *reply, int rc, const struct ctl_facts *facts)
{
	if (rc == -E2BIG)
		ctl_reply_problem(reply, 422, "too-many-sessions", "from", "from: more than %d sessions: ask for a shorter range",
				  PARTS_MAX / 2);
	else if (rc == -EOVERFLOW) /* events to be read one by one */
		ctl_reply_problem(reply, 503, "too-much-unsealed", "from",
				  "more events would have to be read than there is memory for: ask for a shorter range, or again "
				  "when more log files have been sealed");
	else if (rc == -ENOMEM)
		ctl_reply_problem(reply, 500, "no-memory", NULL, "not enough memory for this answer");
	else if (rc == -EBADMSG && facts->damaged_sequence)
		ctl_reply_problem(reply, 500, "damaged-segment", NULL, "segment %llu is damaged: see turnpikectl segments verify",
				  (unsigned long long)facts->damaged_sequence);
	else
		ctl_reply_problem(reply, 503, "no-snapshot", NULL, "the data folder cannot be read now: %s", strerror(-rc));
}

void ctl_sessions(struct ctl *ctl, const struct ctl_target *target, struct ctl_reply *reply)
{
	struct ctl_sessions_query query;
	struct ctl_facts facts = {0};
	struct ctl_look look;

	if (!ctl_param_sessions(target, tp_now_ms(), &query, reply))
		return;
	struct collecting c = {.query = &query, .gap_ms = ctl->config.session_gap_ms, .only = target->only};
	struct ctl_store *store;
	json_t *object = NULL;
	int rc = ctl_store_pool_take(ctl->stores, &store);
	if (rc == 0) {
		ctl_look_take(ctl->views, &look);
		rc = collect(ctl, store, look.figures, &c, &facts);
		/* names of sections lie in the store's files */
		if (rc == 0)
			object = answer_json(&c, &facts);
		ctl_look_give(ctl->views, &look);
		ctl_store_pool_give(ctl->stores, store);
	}
	names_free(&c);
	free(c.part);
	if (rc == 0)
		ctl_reply_json(reply, object);
	else
		ctl_folds_fail(reply, rc, &facts);
}
