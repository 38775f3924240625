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
			fact->first_delivered_ns = w->now_ns, fact->first_life = w->life;
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
		if (fact->contradicted)
			complain(w, "id %u counts with a payload that was told to be a conflict", fact->id);
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
		if (fact->contradicted)
			complain(w, "id %u: what was told to be a conflict is told to be a duplicate", fact->id);
		id->counted = n;
		break;
	case CONFLICTS:
		if (id->counted == n)
			complain(w, "id %u: a duplicate is told to be a conflict", fact->id);
		fact->contradicted = true;
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
