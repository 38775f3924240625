/*
 * Facts, and the bytes that carry them: JSON by hand, UDP batches by the client library's encoder. Names are made of numbers, so that
 * whoever reads a segment can tell the fact again.
 */
#include "encode.h"
#include "sim.h"

static const char *const countries[COUNTRIES] = {"", "DE", "us"};
static const char *const currencies[CURRENCIES] = {"", "EUR", "JPY"};
static const char *const devices[DEVICES] = {"", "mobile", "desktop", "tv"};

const char *script_country(uint32_t n)
{
	static const char *const kept[COUNTRIES] = {"", "DE", "US"};
	return kept[n];
}

const char *script_currency(uint32_t n)
{
	return n ? currencies[n] : "USD";
}

/* A user agent, and the device that it tells of. */
static const struct {
	const char *text, *told;
} agents[AGENTS] = {
	{"", "other"},
	{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", "mobile"},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/128.0", "desktop"},
	{"Mozilla/5.0 (compatible; Googlebot/2.1)", "bot"},
	{"Mozilla/5.0 (SMART-TV; Tizen 6.0)", "tv"},
};

const char *script_agent(uint32_t n)
{
	return agents[n].text;
}

const char *script_device(const struct fact *f)
{
	return f->device ? devices[f->device] : agents[f->agent].told;
}

void script_name(char *to, size_t bytes, const char *kind, uint32_t n)
{
	snprintf(to, bytes, "%s-%u", kind, n);
}

uint32_t script_id_text(const struct world *w, uint32_t id, char to[65])
{
	if (w->identity[id].uuid)
		return (uint32_t)snprintf(to, 65, "0000abcd-0000-4000-8000-%012x", id);
	return (uint32_t)snprintf(to, 65, "event/%u", id);
}

static uint64_t stamp_pick(struct world *w)
{
	const uint64_t now_ms = wall_ms(w), lateness = w->node.config.lateness_ms, horizon = w->node.config.horizon_ms;
	switch (dice(w, 12)) {
	case 0: /* around the end of a minute that is about to close */
		return now_ms - lateness - dice(w, 3000) + dice(w, 1500);
	case 1:
		return now_ms - dice(w, 2 * lateness);
	case 2:
		return now_ms + dice(w, 30000);
	case 3:
		if (w->faults & FAULT_OLD)
			return now_ms - dice(w, 4 * horizon);
		/* fall through */
	case 4: /* on the edge of a minute */
		return (now_ms - dice(w, lateness)) / 60000 * 60000 - (dice(w, 2));
	default:
		return now_ms - dice(w, 4000);
	}
}

static uint32_t fact_add(struct world *w, uint32_t id)
{
	struct fact *fact = &w->fact[w->facts];
	*fact = (struct fact){
		.id = id,
		.type = (uint8_t)(dice(w, 8) < 5 ? 1
				  : dice(w, 6)   ? 0
						 : 2),
		.ad = (uint8_t)dice(w, ADS),
		.publisher = (uint8_t)dice(w, PUBLISHERS),
		.country = (uint8_t)dice(w, COUNTRIES),
		.region = (uint8_t)dice(w, REGIONS),
		.device = (uint8_t)dice(w, DEVICES),
		.currency = (uint8_t)(dice(w, 4) ? 0 : dice(w, CURRENCIES)),
		.who = (uint32_t)(dice(w, 3)   ? 1 + dice(w, 30)
				  : dice(w, 2) ? 100 + w->facts
					       : 0),
		.user = (uint32_t)(dice(w, 2) ? 1 + dice(w, 40) : 0),
		.ip = (uint32_t)(dice(w, 4) ? 1 + dice(w, dice(w, 2) ? 4 : 200) : 0),
		.agent = (uint8_t)(dice(w, 3) ? 0 : dice(w, AGENTS)),
		.mouse = (uint8_t)(dice(w, 3) ? 0 : dice(w, 3)),
		.stamp_ms = stamp_pick(w),
		.micros = (int64_t)(dice(w, 8)   ? dice(w, 2000000)
				    : dice(w, 2) ? 0
						 : 999999000001),
	};
	/* usually an ad has its campaign; sometimes it turns up under another */
	fact->campaign = (uint8_t)(dice(w, 10) ? fact->ad % CAMPAIGNS : dice(w, CAMPAIGNS));
	fact->advertiser = (uint8_t)(fact->campaign % ADVERTISERS);
	w->identity[id].fact[w->identity[id].facts++] = w->facts;
	return w->facts++;
}

static uint32_t id_add(struct world *w)
{
	w->identity[w->ids] = (struct identity){.uuid = chance(w, 2), .counted = NONE};
	return w->ids++;
}

/* The same id with another payload, in the same minute: whichever is durable first counts. */
static uint32_t variant_add(struct world *w, uint32_t id)
{
	const struct fact old = w->fact[w->identity[id].fact[0]];
	uint32_t n = fact_add(w, id);
	struct fact *fact = &w->fact[n];
	fact->stamp_ms = old.stamp_ms;
	fact->micros = old.micros + 1 + w->identity[id].facts;
	fact->flaw = FLAW_NONE;
	if (chance(w, 2)) /* on the same shard */
		fact->who = old.who, fact->user = old.user, fact->ip = old.ip;
	return n;
}

/* A click of a run keeps its place: nobody sends it alone before the run has arrived. */
static bool of_run(const struct world *w, uint32_t id)
{
	return w->fact[w->identity[id].fact[0]].who >= RUN_WHO && !w->identity[id].acked;
}

static uint32_t part_pick(struct world *w)
{
	uint32_t id;
	switch (w->ids && w->facts < FACTS_MAX - PARTS_MAX ? dice(w, 16) : 15) {
	case 0: /* again, some time later */
		id = (uint32_t)dice(w, w->ids);
		return of_run(w, id) ? fact_add(w, id_add(w)) : w->identity[id].fact[dice(w, w->identity[id].facts)];
	case 1:
		id = w->ids > 40 ? w->ids - 1 - (uint32_t)dice(w, 40) : (uint32_t)dice(w, w->ids);
		return of_run(w, id) ? fact_add(w, id_add(w)) : w->identity[id].fact[dice(w, w->identity[id].facts)];
	case 2:
		id = w->ids > 10 ? w->ids - 1 - (uint32_t)dice(w, 10) : (uint32_t)dice(w, w->ids);
		if (of_run(w, id))
			return fact_add(w, id_add(w));
		if (w->identity[id].facts < VARIANTS_MAX && !w->fact[w->identity[id].fact[0]].flaw)
			return variant_add(w, id);
		return w->identity[id].fact[0];
	case 3: { /* a click right after its impression, by somebody who does nothing else */
		const struct fact *before = &w->fact[w->facts - 1];
		if (before->type != 0 || before->flaw || before->who < 100)
			return fact_add(w, id_add(w));
		const struct fact old = *before;
		uint32_t n = fact_add(w, id_add(w));
		struct fact *fact = &w->fact[n];
		fact->type = 1;
		fact->ad = old.ad;
		fact->who = old.who;
		fact->user = 0;
		fact->stamp_ms = old.stamp_ms + dice(w, 2 * w->soon_max);
		return n;
	}
	case 5: { /* an impression that comes after its click, mostly soon enough to save it */
		const struct fact *before = &w->fact[w->facts - 1 - (w->facts > 1 ? dice(w, 2) : 0)];
		if (!w->also.no_impression || before->type != 1 || before->flaw || before->who < 100 || before->who >= RUN_WHO)
			return fact_add(w, id_add(w));
		const struct fact old = *before;
		uint32_t n = fact_add(w, id_add(w));
		struct fact *fact = &w->fact[n];
		fact->type = 0;
		fact->ad = old.ad;
		fact->who = old.who;
		fact->user = dice(w, 2) ? old.user : 0;
		fact->stamp_ms = old.stamp_ms + w->also.impression_wait_ms + dice(w, 1000) - dice(w, 12000);
		return n;
	}
	case 4: { /* broken */
		uint32_t n = fact_add(w, id_add(w));
		w->fact[n].flaw = (uint8_t)(1 + dice(w, FLAWS - 1));
		if (w->fact[n].flaw == FLAW_FUTURE)
			w->fact[n].stamp_ms = WORLD_MS + UINT64_C(86400000) * 400;
		return n;
	}
	default:
		return fact_add(w, id_add(w));
	}
}

/* A device that clicks every so many seconds, to some milliseconds; all in one message, in order. */
static void run_add(struct world *w, struct message *message)
{
	const uint64_t gap_ms = 2000 + dice(w, 4000), end_ms = wall_ms(w);
	const uint32_t who = RUN_WHO + w->runs++;
	for (uint32_t i = 0; i < RUN_CLICKS; i++) {
		uint32_t n = fact_add(w, id_add(w));
		struct fact *fact = &w->fact[n];
		fact->type = 1;
		fact->who = who;
		fact->user = 0;
		fact->stamp_ms = end_ms - (RUN_CLICKS - 1 - i) * gap_ms + dice(w, 5);
		message->part[message->parts++] = n;
	}
}

uint32_t script_message(struct world *w)
{
	struct message *message = &w->message[w->messages];
	*message = (struct message){.way = (uint8_t)(dice(w, 8) < 5 ? WAY_HTTP
						     : dice(w, 3)   ? WAY_BATCH
								    : WAY_TEXT),
				    .form = (uint8_t)dice(w, 2),
				    .report = chance(w, 2),
				    .due_ns = w->now_ns};
	uint32_t parts = chance(w, 2) ? 1 : 1 + (uint32_t)dice(w, PARTS_MAX);
	if (message->way == WAY_TEXT && parts > 4)
		parts = 4;
	if (w->also.regular_timing_ms && message->way != WAY_TEXT && chance(w, 12)) {
		run_add(w, message);
		parts = RUN_CLICKS;
	}
	while (message->parts < parts) {
		uint32_t n = part_pick(w);
		/* the batch format cannot even say most of what is wrong, and a flawed JSON value would take its neighbours along */
		if (w->fact[n].flaw && message->way == WAY_BATCH)
			continue;
		message->part[message->parts++] = n;
	}
	if (message->way == WAY_BATCH)
		message->number = ++w->batches;
	return w->messages++;
}

uint32_t script_retry(struct world *w, uint32_t id)
{
	struct message *message = &w->message[w->messages];
	*message = (struct message){.way = WAY_HTTP, .report = true, .due_ns = w->now_ns, .parts = 1};
	message->part[0] = w->identity[id].fact[0];
	return w->messages++;
}

uint32_t script_json(const struct world *w, const struct fact *f, char *to, size_t bytes)
{
	static const char *const types[] = {"impression", "click", "conversion"};
	char id[65];
	script_id_text(w, f->id, id);
	int at = snprintf(to, bytes, "{\"event_id\":\"%s\",\"event_type\":\"%s\",\"timestamp\":%" PRIu64, id, types[f->type],
			  f->stamp_ms);
#define ADD(...) at += snprintf(to + at, bytes - (size_t)at, __VA_ARGS__)
	if (f->flaw != FLAW_NO_AD)
		ADD(",\"ad_id\":\"ad-%u\"", f->ad);
	ADD(",\"campaign_id\":\"campaign-%u\",\"advertiser_id\":\"advertiser-%u\"", f->campaign, f->advertiser);
	if (f->publisher)
		ADD(",\"publisher_id\":\"publisher-%u\"", f->publisher);
	if (f->who)
		ADD(",\"device_id\":\"device-%u\"", f->who);
	if (f->user)
		ADD(",\"user_id\":\"user-%u\"", f->user);
	if (f->ip)
		ADD(",\"ip_address\":\"198.51.%u.%u\"", f->ip >> 8, f->ip & 255);
	if (f->country && f->region)
		ADD(",\"geo\":{\"country\":\"%s\",\"region\":\"region-%u\"}", countries[f->country], f->region);
	else if (f->country)
		ADD(",\"geo\":{\"country\":\"%s\"}", countries[f->country]);
	else if (f->region)
		ADD(",\"geo\":{\"region\":\"region-%u\"}", f->region);
	if (f->device)
		ADD(",\"device_type\":\"%s\"", devices[f->device]);
	if (f->agent)
		ADD(",\"user_agent\":\"%s\"", agents[f->agent].text);
	if (f->mouse)
		ADD(",\"mouse_moves\":%u", f->mouse == 1 ? 0 : 17);
	if (f->currency)
		ADD(",\"currency\":\"%s\"", currencies[f->currency]);
	if (f->flaw == FLAW_TWICE)
		ADD(",\"ad_id\":\"again\"");
	if (f->flaw == FLAW_PRICE)
		ADD(",\"bid_price\":0.0000001");
	else if (f->micros)
		ADD(",\"bid_price\":%" PRId64 ".%06" PRId64, f->micros / 1000000, f->micros % 1000000);
	ADD("}");
#undef ADD
	return (uint32_t)at;
}

uint32_t script_body(const struct world *w, const struct message *m, char *to, size_t bytes)
{
	uint32_t at = 0;
	bool array = m->way == WAY_HTTP && m->parts > 1 && m->form == 0;
	if (array)
		to[at++] = '[';
	for (uint32_t i = 0; i < m->parts; i++) {
		if (i)
			to[at++] = array ? ',' : '\n';
		at += script_json(w, &w->fact[m->part[i]], to + at, bytes - at);
	}
	if (array)
		to[at++] = ']';
	return at;
}

uint32_t script_batch(const struct world *w, struct message *m, uint8_t *to, size_t bytes)
{
	uint32_t at = tpc_batch_begin(1, NULL), events = 0;
	for (uint32_t i = 0; i < m->parts; i++) {
		const struct fact *f = &w->fact[m->part[i]];
		char id[65], ad[32], campaign[32], advertiser[32], publisher[32], who[32], user[32], ip[32], region[32];
		script_id_text(w, f->id, id);
		script_name(ad, sizeof(ad), "ad", f->ad);
		script_name(campaign, sizeof(campaign), "campaign", f->campaign);
		script_name(advertiser, sizeof(advertiser), "advertiser", f->advertiser);
		script_name(publisher, sizeof(publisher), "publisher", f->publisher);
		script_name(who, sizeof(who), "device", f->who);
		script_name(user, sizeof(user), "user", f->user);
		script_name(region, sizeof(region), "region", f->region);
		snprintf(ip, sizeof(ip), "198.51.%u.%u", f->ip >> 8, f->ip & 255);
		const struct tpc_event event = {
			.event_id = id,
			.type = f->type,
			.timestamp_ms = f->stamp_ms,
			.ad_id = ad,
			.campaign_id = campaign,
			.advertiser_id = advertiser,
			.publisher_id = f->publisher ? publisher : NULL,
			.device_id = f->who ? who : NULL,
			.user_id = f->user ? user : NULL,
			.ip_address = f->ip ? ip : NULL,
			.country = f->country ? countries[f->country] : NULL,
			.region = f->region ? region : NULL,
			.user_agent = f->agent ? agents[f->agent].text : NULL,
			.has_mouse = f->mouse != 0,
			.mouse_moves = f->mouse == 2 ? 17 : 0,
			.device_type = f->device ? devices[f->device] : NULL,
			.currency = f->currency ? currencies[f->currency] : NULL,
			.has_bid = f->micros != 0,
			.bid_micros = f->micros,
		};
		struct tpc_plan plan;
		if (tpc_plan(&plan, &event) || at + plan.bytes > bytes)
			abort();
		tpc_encode(&plan, to + at);
		at += plan.bytes;
		events++;
	}
	tpc_batch_seal(to, 1, at, 77, m->number, events, NULL);
	return at;
}
