/*
 * The model: what the clients know, and what must follow. Slow and obvious; nothing here is the product's.
 *
 * Per id: which of its payloads were delivered, whether a copy was acknowledged, which payload is known to be the one that counts.
 * Bounds where the product may choose (which of two payloads came first), exact where it may not.
 */
#include "sim.h"

enum { ACCEPTED, DUPLICATES, LATE, CONFLICTS, REJECTED };

static bool first_of_id(const struct world *w, const struct message *m, uint32_t i)
{
	for (uint32_t k = 0; k < i; k++)
		if (w->fact[m->part[k]].id == w->fact[m->part[i]].id)
			return false;
	return true;
}

void model_delivered(struct world *w, struct message *m)
{
	for (uint32_t i = 0; i < m->parts; i++) {
		struct fact *fact = &w->fact[m->part[i]];
		struct identity *id = &w->identity[fact->id];
		if (!m->deliveries)
			m->known[i] = id->acked;
		if (!fact->copies)
			fact->first_delivered_ns = w->now_ns;
		if (fact->flaw)
			continue;
		fact->copies++;
		id->copies++;
		w->tally_copies++;
	}
	if (!m->deliveries++ || m->wall_ms_low > wall_ms(w))
		m->wall_ms_low = wall_ms(w);
	m->closed_ms = w->clock_stepped ? 0 : w->sure_watermark_ms;
}

void model_rejected(struct world *w, struct message *m)
{
	if (m->parts != 1 || (!w->fact[m->part[0]].flaw && !ahead(w, m, &w->fact[m->part[0]])))
		complain(w, "a valid event is answered 400: message of %u, first is fact %u", m->parts, m->part[0]);
}

static void acked(struct world *w, uint32_t n)
{
	struct identity *id = &w->identity[w->fact[n].id];
	if (!id->acked) {
		id->acked = true;
		id->acked_ns = w->now_ns;
		id->life = w->life;
	}
}

static uint64_t minute_end(const struct fact *fact)
{
	return fact->stamp_ms / 60000 * 60000 + 60000;
}

/* One event, told exactly. */
static void verdict_single(struct world *w, struct message *m, uint32_t verdict)
{
	const uint32_t n = m->part[0];
	struct fact *fact = &w->fact[n];
	struct identity *id = &w->identity[fact->id];
	switch (verdict) {
	case ACCEPTED:
	case LATE:
		if (++id->news > 1)
			complain(w, "id %u is told to be new twice", fact->id);
		if (id->counted != NONE && id->counted != n)
			complain(w, "id %u counts with two payloads", fact->id);
		id->counted = n;
		id->told_late = verdict == LATE;
		if (verdict == LATE && minute_end(fact) + w->node.config.lateness_ms > w->wall_ms_max)
			complain(w, "id %u is late, and its minute cannot have been closed", fact->id);
		if (verdict == ACCEPTED && minute_end(fact) <= m->closed_ms)
			complain(w, "id %u is in time, and its minute was closed before", fact->id);
		if (verdict == ACCEPTED && !w->clock_stepped) {
			uint64_t reached = fact->stamp_ms < wall_ms(w) ? fact->stamp_ms : wall_ms(w);
			w->high_ms = reached > w->high_ms ? reached : w->high_ms;
			uint64_t sure = reached - w->node.config.lateness_ms;
			w->sure_watermark_ms = sure > w->sure_watermark_ms ? sure : w->sure_watermark_ms;
		}
		break;
	case DUPLICATES:
		if (id->counted != NONE && id->counted != n)
			complain(w, "id %u: a conflict is told to be a duplicate", fact->id);
		if (id->copies == 1)
			complain(w, "id %u: the only copy is told to be a duplicate", fact->id);
		id->counted = n;
		break;
	case CONFLICTS:
		if (id->counted == n)
			complain(w, "id %u: a duplicate is told to be a conflict", fact->id);
		break;
	}
}

void model_answered(struct world *w, struct message *m, bool report, const uint64_t verdict[5])
{
	uint32_t flawed = 0, early = 0, unknown = 0, contested = 0, fresh = 0;
	bool only = m->deliveries == 1;
	for (uint32_t i = 0; i < m->parts; i++) {
		const struct fact *fact = &w->fact[m->part[i]];
		if (fact->flaw) {
			flawed++;
			continue;
		}
		early += ahead(w, m, fact);
		const struct identity *id = &w->identity[fact->id];
		unknown += first_of_id(w, m, i) && !m->known[i];
		contested += id->facts > 1;
		uint32_t here = 0;
		for (uint32_t k = 0; k < m->parts; k++)
			here += w->fact[m->part[k]].id == fact->id;
		fresh += first_of_id(w, m, i) && only && id->copies == here && !ahead(w, m, fact);
	}
	if (report) {
		uint64_t sum = verdict[0] + verdict[1] + verdict[2] + verdict[3] + verdict[4];
		if (sum != m->parts || verdict[REJECTED] < flawed || verdict[REJECTED] > flawed + early)
			complain(w, "a report of %" PRIu64 " verdicts, %" PRIu64 " rejected, for %u events, %u flawed", sum,
				 verdict[REJECTED], m->parts, flawed);
		m->news += (uint32_t)(verdict[ACCEPTED] + verdict[LATE]);
		if (m->news > unknown)
			complain(w, "%u events are told to be new, %u could be", m->news, unknown);
		if (verdict[ACCEPTED] + verdict[LATE] < fresh)
			complain(w, "%u events were never sent before, %" PRIu64 " are told to be new", fresh,
				 verdict[ACCEPTED] + verdict[LATE]);
		if (verdict[CONFLICTS] > contested)
			complain(w, "%" PRIu64 " conflicts, %u events have another payload", verdict[CONFLICTS], contested);
		w->tally_late += verdict[LATE];
		w->tally_conflicts += verdict[CONFLICTS];
		if (m->parts == 1 && !flawed && !verdict[REJECTED] && (m->way != WAY_BATCH || m->deliveries == 1))
			for (uint32_t v = ACCEPTED; v <= CONFLICTS; v++)
				if (verdict[v])
					verdict_single(w, m, v);
	} else if (flawed) {
		complain(w, "a message with %u flawed events gets a bare yes", flawed);
	}
	for (uint32_t i = 0; i < m->parts; i++)
		if (!w->fact[m->part[i]].flaw && !ahead(w, m, &w->fact[m->part[i]]))
			acked(w, m->part[i]);
}

uint64_t model_acked(const struct world *w)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < w->ids; i++)
		n += w->identity[i].acked;
	return n;
}

uint64_t model_sent(const struct world *w)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < w->ids; i++)
		n += w->identity[i].copies != 0;
	return n;
}

/* ---- fraud ---- */

enum { HOUR_MS = 3600000 };

/* Clicks of an hour by one key: how many must be tagged. A restart may have shown the rules less than all of the hour. */
static void velocity(struct world *w, const struct counted_list *list, bool address, uint32_t bit, uint32_t limit_min,
		     uint32_t limit_max)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct fact *f = &w->fact[list->at[i].fact];
		uint32_t key = address ? f->ip : f->who;
		if (f->type != 1 || !key)
			continue;
		uint32_t clicks = 0, tagged = 0;
		bool first = true;
		for (uint32_t k = 0; k < list->count && first; k++) {
			const struct fact *other = &w->fact[list->at[k].fact];
			if (other->type != 1 || (address ? other->ip : other->who) != key ||
			    other->stamp_ms / HOUR_MS != f->stamp_ms / HOUR_MS)
				continue;
			first = k >= i; /* each key and hour once */
			clicks++;
			tagged += (list->at[k].tags & bit) != 0;
		}
		if (!first)
			continue;
		uint64_t most = clicks > limit_min ? clicks - limit_min : 0, least = clicks > limit_max ? clicks - limit_max : 0;
		/* an address is counted only until it is over the limit of then: a higher limit later lets that many more pass */
		uint64_t slack = address ? (uint64_t)w->rule_changes * (limit_max - limit_min) : 0;
		least = least > slack ? least - slack : 0;
		/* what a start did not show again was counted from zero: two hours of event time are shown */
		for (uint32_t life = 1; life < w->life && life < 256; life++)
			if (f->stamp_ms / HOUR_MS * HOUR_MS + UINT64_C(7000000) < w->life_from_watermark_ms[life])
				least = 0;
		if (tagged > most || tagged < least)
			complain(w, "%s %u: %u clicks in the hour, %u tagged, limit %u to %u", address ? "address" : "device", key,
				 clicks, tagged, limit_min, limit_max);
	}
}

/* Impressions of the click's ad by the same device or user that make it too soon. */
static void too_soon(struct world *w, const struct counted_list *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct fact *click = &w->fact[list->at[i].fact];
		const bool tagged = list->at[i].tags & TP_FRAUD_BIT(TP_FRAUD_TOO_SOON);
		if (click->type != 1)
			continue;
		bool may = false, must = false;
		uint32_t seen = 0;
		for (uint32_t k = 0; k < list->count; k++) {
			const struct fact *f = &w->fact[list->at[k].fact];
			const bool who = f->who && f->who == click->who, user = f->user && f->user == click->user;
			if (f->type != 0 || f->ad != click->ad || !(who || user))
				continue;
			seen++;
			if (f->stamp_ms > click->stamp_ms)
				continue;
			uint64_t gap = click->stamp_ms - f->stamp_ms;
			const struct identity *id = &w->identity[f->id];
			may |= gap < w->soon_max;
			must |= who && gap < w->soon_min && id->acked && id->acked_ns < click->first_delivered_ns &&
				f->stamp_ms + UINT64_C(6000000) > w->wall_ms_max;
		}
		if (tagged && !may)
			complain(w, "id %u is tagged too_soon without such an impression", click->id);
		if (!tagged && must && seen == 1)
			complain(w, "id %u came too soon after its impression, and is not tagged", click->id);
	}
}

void model_tags(struct world *w, const struct counted_list *list)
{
	const uint32_t known =
		TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_TOO_SOON);
	for (uint32_t i = 0; i < list->count; i++) {
		w->tally_flagged += list->at[i].tags != 0;
		if (list->at[i].tags & ~known || (list->at[i].tags && w->fact[list->at[i].fact].type != 1))
			complain(w, "id %u has tags of rules that are off: %#x", w->fact[list->at[i].fact].id, list->at[i].tags);
	}
	velocity(w, list, true, TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY), w->ip_limit_min, w->ip_limit_max);
	velocity(w, list, false, TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY), w->device_limit_min, w->device_limit_max);
	too_soon(w, list);
}
