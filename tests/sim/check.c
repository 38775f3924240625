/*
 * Holds what the product says against the model: looks at a running node through the control process' query engine, the counters, and
 * in the end every event and every figure of the sealed folder.
 */
#include "sim.h"

static struct ctl_store *store_look(struct world *w)
{
	struct sto_reader *reader;
	struct ctl_store *store;
	int rc = reader_open(&reader, "var/data", sim_disk_io(w->disk));
	if (rc || ctl_store_open_reader(&store, reader)) {
		complain(w, "the reader does not open: %s", strerror(-rc));
		return NULL;
	}
	return store;
}

static void begin(void *answer)
{
	ctl_answer_reset(answer);
}

static bool row(void *answer, const struct tp_rollup_row *r, const char *heap)
{
	return ctl_answer_add(answer, r, heap);
}

/* Asks the engine as the control process does. */
static bool ask(struct world *w, struct ctl_store *store, const struct tp_live *live, const struct ctl_query *query,
		struct ctl_answer *answer)
{
	struct ctl_facts facts;
	if (ctl_answer_init(answer, query))
		abort();
	const struct ctl_scan scan = {
		.context = answer,
		.from_minute = query->from_minute,
		.to_minute = query->to_minute,
		.grain = ctl_query_grain(query),
		.dimension = query->filtered && query->filter < CTL_COUNTRY ? (enum tp_dimension)query->filter : TP_DIM_AD,
		.id = query->filtered && query->filter < CTL_COUNTRY ? query->id : NULL,
		.id_bytes = query->id_bytes,
		.begin = begin,
		.row = row,
	};
	int rc = ctl_store_scan(store, live, &scan, &facts);
	if (rc && !sim_crashed(w->disk))
		complain(w, "a question fails: %s", strerror(-rc));
	w->tally_queries++;
	return rc == 0;
}

static uint64_t all_of(const struct ctl_sums *sums)
{
	return sums->impressions + sums->clicks + sums->flagged_clicks + sums->conversions;
}

void check_live(struct world *w)
{
	struct ctl_store *store = store_look(w);
	if (!store)
		return;
	const struct ctl_query query = {.to_minute = UINT32_MAX, .group = {CTL_CAMPAIGN, CTL_COUNTRY}, .group_count = 2};
	struct ctl_answer answer;
	if (ask(w, store, w->node.live, &query, &answer)) {
		uint64_t all = all_of(&answer.totals), groups = 0, acked = model_acked(w), sent = model_sent(w);
		for (uint32_t g = 0; g < answer.groups; g++)
			groups += all_of(&answer.group[g].sums);
		if (all < acked || all > sent)
			complain(w, "%" PRIu64 " events are shown, %" PRIu64 " acknowledged, %" PRIu64 " sent", all, acked, sent);
		if (all < w->seen_all)
			complain(w, "%" PRIu64 " events are shown, and %" PRIu64 " were before", all, w->seen_all);
		if (groups != all)
			complain(w, "the groups are %" PRIu64 " together, the total is %" PRIu64, groups, all);
		w->seen_all = all;
	}
	ctl_answer_fini(&answer);
	ctl_store_close(store);
}

/* Nothing is in flight: each layer's received is the sum of all else. */
void check_books(struct world *w)
{
	uint64_t sheet[TP_LAYERS][TP_KINDS] = {0};
	for (uint32_t c = 0; c < w->node.cores; c++)
		for (int i = 0; i < TP_COUNTERS; i++)
			sheet[tp_counter_info[i].layer][tp_counter_info[i].kind] += w->node.core[c].counters.v[i];
	for (int layer = 0; layer < TP_LAYER_CORE; layer++) {
		uint64_t out = 0;
		for (int kind = 0; kind < TP_KIND_OTHER; kind++)
			if (kind != TP_KIND_RECEIVED)
				out += sheet[layer][kind];
		if (sheet[layer][TP_KIND_RECEIVED] != out)
			complain(w, "the books of %s: %" PRIu64 " received, %" PRIu64 " accounted for",
				 tp_layer_name((enum tp_counter_layer)layer), sheet[layer][TP_KIND_RECEIVED], out);
	}
	if (sheet[TP_LAYER_EVENTS][TP_KIND_IN_FLIGHT])
		complain(w, "%" PRIu64 " events in flight when nothing is owed", sheet[TP_LAYER_EVENTS][TP_KIND_IN_FLIGHT]);
}

/* ---- the end ---- */

struct gather {
	struct world *world;
	struct counted_list list;
	uint8_t *seen; /* by id */
	struct amendment {
		uint32_t fact, left, count;
	} * amendment; /* by id */
};

static bool is(struct tp_str have, const char *kind, uint32_t n, bool optional)
{
	char want[40] = "";
	if (n || !optional)
		script_name(want, sizeof(want), kind, n);
	return have.bytes == strlen(want) && memcmp(have.at, want, have.bytes) == 0;
}

static bool is_text(struct tp_str have, const char *want)
{
	return have.bytes == strlen(want) && memcmp(have.at, want, have.bytes) == 0;
}

/* Is this record that fact, in every field? */
static bool same(const struct fact *f, const struct tp_event *e)
{
	const char *currency = script_currency(f->currency), *country = script_country(f->country);
	return e->type == f->type && e->timestamp_ms == f->stamp_ms && e->bid_micros == f->micros &&
	       is(tp_event_string(e, TP_AD_ID), "ad", f->ad, false) &&
	       is(tp_event_string(e, TP_CAMPAIGN_ID), "campaign", f->campaign, false) &&
	       is(tp_event_string(e, TP_ADVERTISER_ID), "advertiser", f->advertiser, false) &&
	       is(tp_event_string(e, TP_PUBLISHER_ID), "publisher", f->publisher, true) &&
	       is(tp_event_string(e, TP_DEVICE_ID), "device", f->who, true) &&
	       is(tp_event_string(e, TP_USER_ID), "user", f->user, true) &&
	       is(tp_event_string(e, TP_REGION), "region", f->region, true) && memcmp(e->currency, currency, 3) == 0 &&
	       (f->country ? memcmp(e->country, country, 2) == 0 : e->country[0] == 0) &&
	       strcmp(tp_device_name((enum tp_device_type)e->device), script_device(f)) == 0 &&
	       is_text(tp_event_string(e, TP_USER_AGENT), script_agent(f->agent)) && !(e->flags & TP_HAS_MOUSE) == !f->mouse &&
	       (!f->mouse || e->mouse_moves == (f->mouse == 2 ? 17 : 0)) && !(e->flags & TP_HAS_IP) == !f->ip &&
	       (!f->ip || (e->ip[14] == (f->ip >> 8) && e->ip[15] == (f->ip & 255)));
}

/*
 * May this payload lie there as a conflict, and count all the same? Yes, where another one of its id was with another shard, and a crash took
 * that before it was durable, but not the record of the conflict with it. Nobody was told so then: the answer would have waited for the rival.
 */
static bool rival_lost(const struct world *w, const struct identity *id, uint32_t n)
{
	for (uint32_t v = 0; v < id->facts; v++) {
		const struct fact *rival = &w->fact[id->fact[v]], *f = &w->fact[n];
		uint32_t life = rival->first_life > f->first_life ? rival->first_life : f->first_life;
		if (id->fact[v] == n || !rival->copies)
			continue;
		for (; life < w->life && life < 256; life++)
			if (w->crashed_apart[life])
				return true;
	}
	return false;
}

static int record(void *context, const struct tp_event *event)
{
	struct gather *g = context;
	struct world *w = g->world;
	char text[TP_ID_BYTES_MAX + 1];
	uint32_t n = NONE;
	tp_event_id_text(event, text);
	uint32_t id = text[0] == 'e' ? (uint32_t)strtoul(text + 6, NULL, 10) : (uint32_t)strtoul(text + 24, NULL, 16);
	for (uint32_t v = 0; id < w->ids && v < w->identity[id].facts; v++)
		if (same(&w->fact[w->identity[id].fact[v]], event))
			n = w->identity[id].fact[v];
	if (n == NONE || w->fact[n].flaw || !w->fact[n].copies) {
		complain(w, "a record that nobody sent: %s, stamp %" PRIu64, text, event->timestamp_ms);
		return 0;
	}
	const struct identity *identity = &w->identity[id];
	if (event->verdict == TP_CONFLICT && identity->counted == n && !rival_lost(w, identity, n))
		complain(w, "id %u: the payload that counts lies there as a conflict", id);
	if (event->verdict == TP_AMENDED)
		g->amendment[id] = (struct amendment){n, event->fraud, g->amendment[id].count + 1};
	if (!tp_verdict_counts(event->verdict))
		return 0;
	if (g->seen[id]++)
		complain(w, "id %u is counted twice", id);
	if (identity->counted != NONE && identity->counted != n)
		complain(w, "id %u counts with another payload than was told", id);
	if (w->fact[n].contradicted)
		complain(w, "id %u counts with a payload that was told to be a conflict", id);
	if (identity->news && identity->told_late != (event->verdict == TP_LATE))
		complain(w, "id %u was told %s", id, identity->told_late ? "late" : "in time");
	if (g->list.count < FACTS_MAX)
		g->list.at[g->list.count++] = (struct counted){.fact = n, .tags = event->fraud, .late = event->verdict == TP_LATE};
	return 0;
}

static const char *value_of(const struct fact *f, enum ctl_dimension dimension, char to[40])
{
	to[0] = 0;
	switch (dimension) {
	case CTL_AD:
		script_name(to, 40, "ad", f->ad);
		break;
	case CTL_CAMPAIGN:
		script_name(to, 40, "campaign", f->campaign);
		break;
	case CTL_ADVERTISER:
		script_name(to, 40, "advertiser", f->advertiser);
		break;
	case CTL_PUBLISHER:
		if (f->publisher)
			script_name(to, 40, "publisher", f->publisher);
		break;
	case CTL_REGION:
		if (f->region)
			script_name(to, 40, "region", f->region);
		break;
	case CTL_COUNTRY:
		return script_country(f->country);
	case CTL_DEVICE:
		return script_device(f);
	case CTL_CURRENCY:
		return script_currency(f->currency);
	default:
		abort();
	}
	return to;
}

static void tally_add(struct tally *t, const struct fact *f, const struct counted *c)
{
	t->late += c->late + (c->amended && !c->left); /* what an amendment changes, a revision tells */
	if (f->type == 0)
		t->impressions++;
	else if (f->type == 2)
		t->conversions++;
	else if (tags_left(c))
		t->flagged++;
	else {
		t->clicks++;
		t->micros[f->currency == 1 ? 1 : f->currency == 2 ? 2 : 0] += f->micros;
	}
}

static void tally_compare(struct world *w, const char *what, uint64_t which, const struct tally *want, const struct ctl_sums *got)
{
	__int128 micros[CURRENCIES] = {0};
	for (const struct ctl_spend *s = got->spend; s; s = s->next)
		for (uint32_t c = 0; c < CURRENCIES; c++)
			micros[c] += strcmp(s->currency, script_currency(c)) == 0 ? s->micros : 0;
	if (want->impressions != got->impressions || want->clicks != got->clicks || want->flagged != got->flagged_clicks ||
	    want->conversions != got->conversions || want->late != got->late)
		complain(w,
			 "%s %" PRIu64 ": impressions %" PRIu64 " (should be %" PRIu64 "), clicks %" PRIu64 " (%" PRIu64
			 "), flagged %" PRIu64 " (%" PRIu64 "), conversions %" PRIu64 " (%" PRIu64 "), late %" PRIu64 " (%" PRIu64
			 ")",
			 what, which, got->impressions, want->impressions, got->clicks, want->clicks, got->flagged_clicks,
			 want->flagged, got->conversions, want->conversions, got->late, want->late);
	for (uint32_t c = 0; c < CURRENCIES; c++)
		if (micros[c] != want->micros[c])
			complain(w, "%s %" PRIu64 ": spend in %s is %" PRId64 " micros, should be %" PRId64, what, which,
				 script_currency(c), (int64_t)micros[c], (int64_t)want->micros[c]);
}

static bool matches(const struct ctl_query *q, const struct fact *f, uint64_t from, uint64_t to)
{
	char text[40];
	uint64_t minute = f->stamp_ms / 60000;
	if (minute < from || minute >= to || minute < q->from_minute || minute >= q->to_minute)
		return false;
	return !q->filtered || strcmp(value_of(f, q->filter, text), q->id) == 0;
}

static void query_check(struct world *w, const struct counted_list *list, const struct ctl_query *q, const struct ctl_answer *a)
{
	struct tally total = {0};
	for (uint32_t i = 0; i < list->count; i++)
		if (matches(q, &w->fact[list->at[i].fact], 0, UINT64_MAX))
			tally_add(&total, &w->fact[list->at[i].fact], &list->at[i]);
	tally_compare(w, "total", 0, &total, &a->totals);
	for (uint32_t s = 0; s < a->slots; s++) {
		struct tally want = {0};
		struct ctl_sums got;
		uint64_t from = a->slot_from + (uint64_t)s * q->slide_minutes;
		for (uint32_t i = 0; i < list->count; i++)
			if (matches(q, &w->fact[list->at[i].fact], from, from + q->step_minutes))
				tally_add(&want, &w->fact[list->at[i].fact], &list->at[i]);
		if (!ctl_answer_bucket((struct ctl_answer *)(uintptr_t)a, s, &got))
			abort();
		tally_compare(w, "bucket at minute", from, &want, &got);
	}
	for (uint32_t g = 0; g < a->groups; g++) {
		struct tally want = {0};
		for (uint32_t i = 0; i < list->count; i++) {
			const struct fact *f = &w->fact[list->at[i].fact];
			bool in = matches(q, f, 0, UINT64_MAX);
			for (uint32_t d = 0; d < q->group_count && in; d++) {
				char text[40];
				const char *value = value_of(f, (enum ctl_dimension)q->group[d], text);
				struct tp_str have = ctl_answer_group_value(a, &a->group[g], d);
				in = have.bytes == strlen(value) && memcmp(have.at, value, have.bytes) == 0;
			}
			if (in)
				tally_add(&want, f, &list->at[i]);
		}
		tally_compare(w, "group", g, &want, &a->group[g].sums);
	}
}

static void queries(struct world *w, struct ctl_store *store, const struct counted_list *list)
{
	static const uint32_t steps[] = {0, 1, 5, 60, 1440}, slides[] = {0, 1, 1, 15, 1440};
	for (int i = 0; i < 6 && !w->broken; i++) {
		char id[40];
		uint32_t which = (uint32_t)dice(w, 5);
		uint64_t now = wall_ms(w) / 60000, span = steps[which] >= 60 ? 6000 : 120;
		struct ctl_query q = {.to_minute = UINT32_MAX};
		if (steps[which] || chance(w, 2)) {
			q.from_minute = now - dice(w, span);
			q.to_minute = q.from_minute + dice(w, span);
			q.step_minutes = steps[which];
			q.slide_minutes = chance(w, 2) ? slides[which] : steps[which];
		}
		while (q.group_count < CTL_DIMENSIONS && chance(w, 2))
			q.group[q.group_count++] = (uint8_t)dice(w, CTL_DIMENSIONS);
		if (list->count && chance(w, 2)) {
			q.filtered = true;
			q.filter = (enum ctl_dimension)dice(w, CTL_PUBLISHER + 1);
			char text[40];
			strcpy(id, value_of(&w->fact[list->at[dice(w, list->count)].fact], q.filter, text));
			q.id = id;
			q.id_bytes = strlen(id);
		}
		struct ctl_answer answer;
		if (ask(w, store, NULL, &q, &answer))
			query_check(w, list, &q, &answer);
		ctl_answer_fini(&answer);
	}
}

void check_end(struct world *w)
{
	struct gather gather = {.world = w, .list.at = calloc(FACTS_MAX, sizeof(struct counted)), .seen = calloc(IDS_MAX, 1)};
	gather.amendment = calloc(IDS_MAX, sizeof(*gather.amendment));
	struct sto_reader *reader;
	int rc = reader_open(&reader, "var/data", sim_disk_io(w->disk));
	if (!rc)
		rc = sto_reader_refresh(reader);
	for (uint32_t i = 0; rc >= 0 && i < sto_reader_segments(reader); i++)
		rc = sto_reader_events(reader, i, record, &gather);
	if (rc < 0)
		complain(w, "the segments cannot be read: %s", strerror(-rc));
	for (uint32_t i = 0; i < gather.list.count; i++) {
		struct counted *c = &gather.list.at[i];
		struct amendment *a = &gather.amendment[w->fact[c->fact].id];
		if (a->count > 1 || (a->count && a->fact != c->fact))
			complain(w, "id %u: %u amendments, of fact %u for fact %u", w->fact[c->fact].id, a->count, a->fact,
				 c->fact);
		c->amended = a->count != 0;
		c->left = a->left;
		a->count = 0;
	}
	for (uint32_t id = 0; id < w->ids; id++)
		if (gather.amendment[id].count)
			complain(w, "id %u: an amendment of a click that is not there", id);
	if (rc >= 0)
		check_folds(w, reader, &gather.list);
	sto_reader_close(reader);
	for (uint32_t id = 0; id < w->ids; id++)
		if (w->identity[id].acked && !gather.seen[id])
			complain(w, "id %u was acknowledged, and is lost", id);
	w->tally_events += gather.list.count;
	model_tags(w, &gather.list);
	struct ctl_store *store = store_look(w);
	if (store) {
		queries(w, store, &gather.list);
		ctl_store_close(store);
	}
	free(gather.list.at);
	free(gather.seen);
	free(gather.amendment);
}
