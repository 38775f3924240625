/*
 * Where an address is, and which lists it is on. Places come from a database behind struct agg_places; a small cache by address keeps
 * what was found, because walking a database costs some 200 ns and clicks come in runs from the same address.
 *
 * geo_mismatch        the address' country is another than the event's; or its clock (timezone_offset_min) runs in no zone of the
 *                     country. Which way round the offset is signed is not for us to know (JavaScript counts westward): either will do.
 * impossible_travel   a device was seen at two places, and the way between them, less how far off both may be, would have taken a speed
 *                     above the limit. Without a database the countries' rough places serve: that finds other continents only.
 */
#include "fraud_state.h"

enum { TRAVEL_KM_MIN = 100 };

const struct agg_place *fraud_place_of(struct agg_fraud_shard *shard, struct subject *subject)
{
	const struct agg_places *places = subject->rules->places;
	const struct tp_event *event = subject->event;
	if (subject->place || !places || !(event->flags & TP_HAS_IP))
		return subject->place;
	/* other rules may mean another database */
	uint64_t key = hash_bytes(shard->seed ^ subject->rules->version, event->ip, sizeof(event->ip));
	struct place_entry *entry = &shard->places[key >> 20 & (PLACES - 1)];
	if (entry->key != key) {
		entry->key = key;
		entry->place = (struct agg_place){0};
		places->find(places->context, event->ip, &entry->place);
	}
	subject->place = &entry->place;
	return subject->place;
}

static bool country_is(const char country[2])
{
	return country[0] >= 'A' && country[0] <= 'Z' && country[1] >= 'A' && country[1] <= 'Z';
}

/* "FR/US": what the address says, what the event says. */
static void country_judge(struct subject *subject)
{
	const struct agg_place *place = subject->place;
	const char *told = subject->event->country;
	/* only what is a country on both sides: databases also know continents and blocs */
	if (!place || !place->has_country || !country_is(told) || memcmp(place->country, told, 2) == 0 ||
	    !agg_country_find(place->country) || !agg_country_find(told))
		return;
	const char text[5] = {place->country[0], place->country[1], '/', told[0], told[1]};
	find_text(subject->findings, TP_FRAUD_GEO_MISMATCH, text, sizeof(text), 0);
}

static void clock_judge(struct subject *subject)
{
	const struct tp_event *event = subject->event;
	if (!(event->flags & TP_HAS_TIMEZONE) || subject->findings->reasons & TP_FRAUD_BIT(TP_FRAUD_GEO_MISMATCH))
		return;
	const char *code = country_is(event->country) ? event->country : NULL;
	if (!code && subject->place && subject->place->has_country)
		code = subject->place->country;
	const struct agg_country *country = code ? agg_country_find(code) : NULL;
	if (!country)
		return;
	const int32_t offset = event->timezone_offset_min;
	if ((offset < country->offset_min || offset > country->offset_max) &&
	    (-(int64_t)offset < country->offset_min || -(int64_t)offset > country->offset_max))
		find(subject->findings, TP_FRAUD_GEO_MISMATCH, offset, 0, 1);
}

/* Where the event was: by its address, else by its country. */
static bool point_of(const struct subject *subject, float point[3], float *radius_km)
{
	const struct agg_place *place = subject->place;
	if (place && place->has_point) {
		memcpy(point, place->point, sizeof(place->point));
		*radius_km = place->radius_km;
		return true;
	}
	const char *code = place && place->has_country ? place->country : subject->event->country;
	const struct agg_country *country = country_is(code) ? agg_country_find(code) : NULL;
	if (!country)
		return false;
	memcpy(point, country->point, sizeof(country->point));
	*radius_km = country->radius_km;
	return true;
}

static void travel_judge(struct subject *subject)
{
	struct profile *profile = subject->profile;
	float point[3], radius_km;
	if (!profile || !point_of(subject, point, &radius_km))
		return;
	const uint64_t stamp_ms = subject->stamp_ms;
	const uint32_t limit = subject->rules->travel_kmh;
	if (profile->place_ms) {
		double km = agg_distance_km(point, profile->point) - radius_km - profile->radius_km;
		uint64_t ms = stamp_ms > profile->place_ms ? stamp_ms - profile->place_ms : profile->place_ms - stamp_ms;
		if (km >= TRAVEL_KM_MIN && km * HOUR_MS > (double)limit * (double)ms) {
			if (!subject->click)
				return; /* where it was stays: a click from there will show the same jump, one from here none */
			double kmh = ms ? km * HOUR_MS / (double)ms : 1e9;
			find(subject->findings, TP_FRAUD_IMPOSSIBLE_TRAVEL, (int64_t)(kmh < 1e9 ? kmh : 1e9), limit,
			     (uint16_t)(km < UINT16_MAX ? km : UINT16_MAX));
		}
	}
	if (stamp_ms < profile->place_ms)
		return;
	memcpy(profile->point, point, sizeof(point));
	profile->radius_km = radius_km;
	profile->place_ms = stamp_ms;
}

void fraud_place_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	fraud_place_of(shard, subject);
	if (subject->click && subject->rules->geo_mismatch) {
		country_judge(subject);
		clock_judge(subject);
	}
	if (subject->rules->travel_kmh)
		travel_judge(subject);
}

/* ---- lists ---- */

void fraud_lists_judge(struct agg_fraud_shard *shard, struct subject *subject)
{
	const struct agg_fraud_rules *rules = subject->rules;
	const struct tp_event *event = subject->event;
	if (!(event->flags & TP_HAS_IP))
		return;
	const struct tp_addr addr = tp_addr_v6(event->ip); /* v4-mapped becomes IPv4 */
	if (rules->blocklisted && rules->listed && rules->listed(rules->listed_context, &addr))
		find(subject->findings, TP_FRAUD_BLOCKLISTED, 1, 0, 0);
	if (rules->bot_addresses) {
		int64_t at = tp_prefix_set_match(rules->bot_addresses->set, &addr);
		if (at >= 0) {
			uint16_t list = rules->bot_addresses->list_of[at];
			find_text(subject->findings, TP_FRAUD_BOT_ADDRESS, rules->bot_addresses->name[list], 8, list);
			return;
		}
	}
	if (rules->bot_asns) {
		const struct agg_place *place = fraud_place_of(shard, subject);
		if (place && place->asn && agg_asns_have(rules->bot_asns, place->asn))
			find(subject->findings, TP_FRAUD_BOT_ADDRESS, place->asn, 0, UINT16_MAX);
	}
}
