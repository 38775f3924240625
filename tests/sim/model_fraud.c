/*
 * The model's account of fraud: which clicks must be tagged with what, from the facts alone. Nothing here is the product's.
 *
 *   exact     blocklisted, bot_address, bot_user_agent, device_mismatch, geo_mismatch, no_mouse, model: the click alone decides
 *   how many  ip_velocity, device_velocity: which ones depends on the order of arrival
 *   bounds    too_soon, no_impression and its amendments, regular_timing, device_spread: what may have been seen before the click, and
 *             what had been acknowledged before it was sent
 */
#include "sim.h"

#include <math.h>

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
		uint32_t clicks = 0, tagged = 0, again = 0;
		bool first = true;
		for (uint32_t k = 0; k < list->count && first; k++) {
			const struct fact *other = &w->fact[list->at[k].fact];
			if (other->type != 1 || (address ? other->ip : other->who) != key ||
			    other->stamp_ms / HOUR_MS != f->stamp_ms / HOUR_MS)
				continue;
			first = k >= i; /* each key and hour once */
			clicks++;
			tagged += (list->at[k].tags & bit) != 0;
			again += !w->identity[other->id].acked || w->identity[other->id].life != other->first_life;
		}
		if (!first)
			continue;
		uint64_t most = clicks > limit_min ? clicks - limit_min : 0, least = clicks > limit_max ? clicks - limit_max : 0;
		/*
		 * Shards share addresses, not logs: clicks that one shard lost in a crash, before they were acknowledged, were counted
		 * for those that another one tagged and kept. Sent again, they come over the limit as well.
		 */
		most += address ? again : 0;
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

/* ---- rules that look at the click alone ---- */

bool model_listed(uint32_t ip)
{
	return ip % 16 == 3;
}

uint32_t model_place(uint32_t ip)
{
	return ip / 2 % COUNTRIES;
}

uint32_t model_system(uint32_t ip)
{
	return ip % 8 == 5 ? MODEL_BOT_ASN : 64000;
}

static bool bot_address(const struct world *w, const struct fact *f)
{
	const bool listed = w->also.bot_addresses && ((f->ip >= 64 && f->ip < 96) || f->ip == 2);
	return f->ip && (listed || (w->also.bot_asns && w->also.places && model_system(f->ip) == MODEL_BOT_ASN));
}

/* The address' country and the event's are both known, and two. */
static bool elsewhere(const struct world *w, const struct fact *f)
{
	return w->also.geo_mismatch && w->also.places && f->ip && f->country && model_place(f->ip) &&
	       model_place(f->ip) != f->country;
}

/* The tree of sim.c: a mouse that did not move, and a bid below half a unit. */
static bool model_says(const struct world *w, const struct fact *f)
{
	return w->also.model && f->mouse == 1 && f->micros && f->micros < 500000;
}

/* The agents of script.c: 1 a phone, 2 Windows, 3 a crawler, 4 a television. Devices: 1 mobile, 2 desktop, 3 tv. */
static bool mismatch(uint32_t device, uint32_t agent)
{
	static const bool table[DEVICES][AGENTS] = {
		[1] = {[2] = true, [3] = true, [4] = true},
		[2] = {[1] = true, [3] = true, [4] = true},
		[3] = {[1] = true, [2] = true, [3] = true},
	};
	return table[device][agent];
}

static void alone(struct world *w, const struct counted *c)
{
	const struct fact *f = &w->fact[c->fact];
	const bool handheld = f->device == 1 || f->device == 3 || (!f->device && (f->agent == 1 || f->agent == 4));
	const struct {
		enum tp_fraud_reason reason;
		bool want;
	} rule[] = {
		{TP_FRAUD_BLOCKLISTED, w->also.blocklisted && f->ip && model_listed(f->ip)},
		{TP_FRAUD_NO_MOUSE, w->also.no_mouse && f->mouse == 1 && !handheld},
		{TP_FRAUD_BOT_USER_AGENT, w->also.bot_user_agents && f->agent == 3},
		{TP_FRAUD_DEVICE_MISMATCH, w->also.device_mismatch && mismatch(f->device, f->agent)},
		{TP_FRAUD_BOT_ADDRESS, bot_address(w, f)},
		{TP_FRAUD_GEO_MISMATCH, elsewhere(w, f)},
		{TP_FRAUD_MODEL, model_says(w, f)},
	};
	for (size_t i = 0; i < sizeof(rule) / sizeof(rule[0]); i++)
		if (rule[i].want != ((c->tags & TP_FRAUD_BIT(rule[i].reason)) != 0))
			complain(w, "id %u is %s %s", f->id, rule[i].want ? "not tagged" : "tagged",
				 tp_fraud_reason_name(rule[i].reason));
}

/* Was this one acknowledged before the other was sent? */
static bool known_before(const struct world *w, const struct fact *f, const struct fact *other)
{
	const struct identity *id = &w->identity[f->id];
	return id->acked && id->acked_ns < other->first_delivered_ns;
}

/* ---- no_impression ---- */

/* An impression of the click's viewer and ad, which the look-back does not leave out. */
static bool impression_of(const struct world *w, const struct fact *f, const struct fact *click)
{
	return f->type == 0 && f->ad == click->ad && ((f->who && f->who == click->who) || (f->user && f->user == click->user)) &&
	       f->stamp_ms + w->also.impression_lookback_ms >= click->stamp_ms;
}

static void no_impression(struct world *w, const struct counted_list *list, const struct counted *c)
{
	const struct fact *click = &w->fact[c->fact];
	const struct identity *click_id = &w->identity[click->id];
	const uint32_t bit = TP_FRAUD_BIT(TP_FRAUD_NO_IMPRESSION);
	const uint64_t wait_ns = w->also.impression_wait_ms * UINT64_C(1000000);
	bool any = false, before = false, saver = false, saves = false;
	for (uint32_t k = 0; k < list->count; k++) {
		const struct fact *f = &w->fact[list->at[k].fact];
		const struct identity *id = &w->identity[f->id];
		if (!impression_of(w, f, click))
			continue;
		const bool one_shard = f->who && f->who == click->who;
		any = true; /* a later one as well: the latest alone is kept, and there may have been others before it */
		before |= one_shard && known_before(w, f, click);
		if (f->stamp_ms > click->stamp_ms + w->also.impression_wait_ms)
			continue;
		/* received in time: not before the click can have been, and not too long after it must have been */
		saver |= w->step_ms_ever || !click_id->acked || f->first_delivered_ns <= click_id->acked_ns + wait_ns;
		saves |= one_shard && !w->step_ms_ever && id->acked && click_id->acked &&
			 f->first_delivered_ns > click_id->acked_ns && id->acked_ns < click->first_delivered_ns + wait_ns;
	}
	if (c->amended && (!(c->tags & bit) || c->left != (c->tags & ~bit)))
		complain(w, "id %u: an amendment makes %#x of %#x", click->id, c->left, c->tags);
	if (c->amended && !saver)
		complain(w, "id %u is saved, and no impression came in time", click->id);
	if (c->tags & bit && before)
		complain(w, "id %u is tagged no_impression, and one was acknowledged before it was sent", click->id);
	if (c->tags & bit && saves && !c->amended)
		complain(w, "id %u: its impression came in time, and does not save it", click->id);
	if (!(c->tags & bit) && !any && (click->who || click->user) && !w->waiting_full &&
	    click->stamp_ms + UINT64_C(5300000) > w->wall_ms_max)
		complain(w, "id %u is not tagged no_impression, and there is none", click->id);
	w->tally_amended += c->amended;
}

/* ---- regular_timing ---- */

static bool same_viewer(const struct fact *a, const struct fact *b)
{
	return a->who ? a->who == b->who : !b->who && a->user && a->user == b->user;
}

static double deviation(const double *gap, uint32_t count)
{
	double mean = 0, squares = 0;
	for (uint32_t i = 0; i < count; i++)
		mean += gap[i] / count;
	for (uint32_t i = 0; i < count; i++)
		squares += (gap[i] - mean) * (gap[i] - mean) / count;
	return sqrt(squares);
}

/* Are there clicks before `last`, whatever those between, whose gaps are as regular as that? */
static bool regular(const struct world *w, const uint64_t *stamp, uint32_t last, double *gap, uint32_t gaps)
{
	if (gaps == w->also.regular_timing_gaps)
		return deviation(gap, gaps) < w->also.regular_timing_ms;
	for (uint32_t i = last; i-- > 0;) {
		gap[gaps] = (double)(stamp[last] - stamp[i]);
		/* gaps further apart than this cannot deviate so little */
		if (gap[gaps] >= 3600000 || (gaps && gap[gaps] > gap[0] + 3.0 * w->also.regular_timing_ms))
			return false;
		if ((!gaps || gap[gaps] > gap[0] - 3.0 * w->also.regular_timing_ms) && regular(w, stamp, i, gap, gaps + 1))
			return true;
	}
	return false;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void regular_timing(struct world *w, const struct counted_list *list, const struct counted *c)
{
	static uint64_t stamp[FACTS_MAX];
	const struct fact *click = &w->fact[c->fact];
	const bool tagged = c->tags & TP_FRAUD_BIT(TP_FRAUD_REGULAR_TIMING);
	if (!tagged && click->who < RUN_WHO)
		return;
	uint32_t clicks = 0, earlier = 0, all = 0;
	bool undisturbed = w->id_bytes == 1 << 20; /* a full id table asks the late lane, which answers in an order of its own */
	for (uint32_t k = 0; k < list->count; k++) {
		const struct fact *f = &w->fact[list->at[k].fact];
		if (f->type != 1 || !same_viewer(click, f))
			continue;
		const struct identity *id = &w->identity[f->id];
		const struct identity *own = &w->identity[click->id];
		undisturbed &= !list->at[k].late && f->first_life == id->life && id->acked_ns == own->acked_ns &&
			       f->first_delivered_ns == click->first_delivered_ns;
		earlier += f->stamp_ms < click->stamp_ms;
		all++;
		if (f->stamp_ms <= click->stamp_ms && f != click)
			stamp[clicks++] = f->stamp_ms;
	}
	qsort(stamp, clicks, sizeof(*stamp), by_number);
	stamp[clicks] = click->stamp_ms;
	double gap[AGG_GAPS_MAX];
	const bool may = regular(w, stamp, clicks, gap, 0);
	if (tagged && !may)
		complain(w, "id %u is tagged regular_timing, and no gaps before it are regular", click->id);
	if (!tagged && click->who >= RUN_WHO && undisturbed && all == RUN_CLICKS && earlier >= w->also.regular_timing_gaps)
		complain(w, "id %u came like clockwork, and is not tagged regular_timing", click->id);
}

/* ---- device_spread ---- */

static void device_spread(struct world *w, const struct counted_list *list, const struct counted *c)
{
	const struct fact *click = &w->fact[c->fact];
	const bool tagged = c->tags & TP_FRAUD_BIT(TP_FRAUD_DEVICE_SPREAD);
	uint32_t known[AGG_ADDRESSES_MAX + 1], knowns = 0, all[AGG_ADDRESSES_MAX + 1], alls = 0;
	bool later = false;
	for (uint32_t k = 0; k < list->count && click->who; k++) {
		const struct fact *f = &w->fact[list->at[k].fact];
		if (f->type == 2 || f->who != click->who)
			continue;
		later |= f->stamp_ms / HOUR_MS > click->stamp_ms / HOUR_MS;
		if (f->stamp_ms / HOUR_MS != click->stamp_ms / HOUR_MS || !f->ip)
			continue;
		uint32_t i = 0;
		while (i < alls && all[i] != f->ip)
			i++;
		if (i == alls && alls <= AGG_ADDRESSES_MAX)
			all[alls++] = f->ip;
		/* shown before the click was, in this life or after a restart */
		if (f != click && (!known_before(w, f, click) || f->stamp_ms + UINT64_C(6900000) < w->wall_ms_max))
			continue;
		for (i = 0; i < knowns && known[i] != f->ip; i++)
			;
		if (i == knowns && knowns <= AGG_ADDRESSES_MAX)
			known[knowns++] = f->ip;
	}
	if (tagged && alls <= w->also.addresses_per_device_hour)
		complain(w, "id %u is tagged device_spread, and its device has %u addresses in the hour", click->id, alls);
	if (!tagged && !later && knowns > w->also.addresses_per_device_hour)
		complain(w, "id %u is not tagged device_spread, and its device had %u addresses in the hour", click->id, knowns);
}

void model_tags(struct world *w, const struct counted_list *list)
{
	uint32_t known =
		TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY) | TP_FRAUD_BIT(TP_FRAUD_TOO_SOON);
	known |= w->also.no_impression ? TP_FRAUD_BIT(TP_FRAUD_NO_IMPRESSION) : 0;
	known |= w->also.blocklisted ? TP_FRAUD_BIT(TP_FRAUD_BLOCKLISTED) : 0;
	known |= w->also.no_mouse ? TP_FRAUD_BIT(TP_FRAUD_NO_MOUSE) : 0;
	known |= w->also.bot_user_agents ? TP_FRAUD_BIT(TP_FRAUD_BOT_USER_AGENT) : 0;
	known |= w->also.bot_addresses || w->also.bot_asns ? TP_FRAUD_BIT(TP_FRAUD_BOT_ADDRESS) : 0;
	known |= w->also.geo_mismatch ? TP_FRAUD_BIT(TP_FRAUD_GEO_MISMATCH) : 0;
	known |= w->also.model ? TP_FRAUD_BIT(TP_FRAUD_MODEL) : 0;
	known |= w->also.device_mismatch ? TP_FRAUD_BIT(TP_FRAUD_DEVICE_MISMATCH) : 0;
	known |= w->also.regular_timing_ms ? TP_FRAUD_BIT(TP_FRAUD_REGULAR_TIMING) : 0;
	known |= w->also.addresses_per_device_hour ? TP_FRAUD_BIT(TP_FRAUD_DEVICE_SPREAD) : 0;
	for (uint32_t i = 0; i < list->count; i++) {
		const struct counted *c = &list->at[i];
		w->tally_flagged += c->tags != 0;
		for (int r = 0; r < TP_FRAUD_REASONS; r++)
			w->tally_reasons[r] += c->tags >> r & 1;
		if (c->tags & ~known || ((c->tags || c->amended) && w->fact[c->fact].type != 1))
			complain(w, "id %u has tags of rules that are off: %#x", w->fact[c->fact].id, c->tags);
		if (w->fact[c->fact].type != 1)
			continue;
		alone(w, c);
		if (w->also.no_impression)
			no_impression(w, list, c);
		if (w->also.regular_timing_ms)
			regular_timing(w, list, c);
		if (w->also.addresses_per_device_hour)
			device_spread(w, list, c);
	}
	velocity(w, list, true, TP_FRAUD_BIT(TP_FRAUD_IP_VELOCITY), w->ip_limit_min, w->ip_limit_max);
	velocity(w, list, false, TP_FRAUD_BIT(TP_FRAUD_DEVICE_VELOCITY), w->device_limit_min, w->device_limit_max);
	too_soon(w, list);
}
