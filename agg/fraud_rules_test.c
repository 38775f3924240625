/* Each rule beyond the first three: at its exact limit, off, and what it must not take for fraud. Data behind rules are made by hand. */
#include "fraud_testbed.h"

enum { ENTRIES = 1 << 12 };

static struct bed *bed;

static int setup(void **state)
{
	(void)state;
	bed = bed_open(ENTRIES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bed_close(bed);
	return 0;
}

#define SHOW(...) bed_show(bed, (struct told){__VA_ARGS__})

static void a_judged_click_says_by_which_rules_and_why(void **state)
{
	(void)state;
	bed->rules.clicks_per_ip_hour = 1;
	bed->rules.clicks_per_device_hour = 1;
	bed->rules.min_ms_since_impression = 500;
	SHOW(TP_IMPRESSION, HOUR_START, .device = "d");
	assert_int_equal(bed_event(bed)->rule_version, 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 1000, .address = 7, .device = "d"), 0);
	assert_int_equal(bed_event(bed)->rule_version, 7);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 120, .address = 7, .device = "d"),
			 BIT(IP_VELOCITY) | BIT(DEVICE_VELOCITY) | BIT(TOO_SOON));
	struct tp_evidence soon = bed_evidence(bed, TP_FRAUD_TOO_SOON), ip = bed_evidence(bed, TP_FRAUD_IP_VELOCITY);
	assert_int_equal(soon.seen, 120);
	assert_int_equal(soon.limit, 500);
	assert_int_equal(ip.seen, 2);
	assert_int_equal(ip.limit, 1);
	assert_int_equal(bed->counters.v[TP_C_SHARD_FLAGGED], 1);
	assert_int_equal(bed->counters.v[TP_C_FRAUD_TOO_SOON], 1);
	assert_int_equal(bed->counters.v[TP_C_FRAUD_MODEL], 0);
	SHOW(TP_CONVERSION, HOUR_START, .device = "d");
	assert_int_equal(bed_event(bed)->rule_version, 0);
}

static void without_rules_nothing_is_judged(void **state)
{
	(void)state;
	agg_fraud_rules_set(bed->shard, NULL);
	for (int n = 0; n < 100; n++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 7, .device = "d", .user = "u"), 0);
	assert_int_equal(bed_event(bed)->rule_version, 0);
}

static void new_rules_hold_from_the_next_event(void **state)
{
	(void)state;
	struct agg_fraud_rules strict = {.version = 8, .clicks_per_device_hour = 2};
	bed->rules.clicks_per_device_hour = 5;
	for (int n = 0; n < 3; n++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), 0);
	agg_fraud_rules_set(bed->shard, &strict);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), BIT(DEVICE_VELOCITY));
	assert_int_equal(bed_event(bed)->rule_version, 8);
	agg_fraud_rules_set(bed->shard, &bed->rules);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), BIT(DEVICE_VELOCITY));
}

/* ---- lists ---- */

static bool lists_seven(const void *context, const struct tp_addr *addr)
{
	(void)context;
	return addr->family == 4 && addr->byte[12] == 7;
}

static void an_address_on_the_blocklist(void **state)
{
	(void)state;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 7), 0);
	bed->rules.blocklisted = true; /* but nobody to ask */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 7), 0);
	bed->rules.listed = lists_seven;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 7), BIT(BLOCKLISTED));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 8), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), 0);
	bed->rules.blocklisted = false;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 7), 0);
}

static void systems_are_found_exactly(void **state)
{
	(void)state;
	static const uint32_t asn[] = {1, 5, 64496, UINT32_MAX};
	const struct agg_asns asns = {.asn = asn, .count = 4};
	for (uint32_t i = 0; i < 4; i++)
		assert_true(agg_asns_have(&asns, asn[i]));
	assert_false(agg_asns_have(&asns, 2));
	assert_false(agg_asns_have(&asns, 64497));
	assert_false(agg_asns_have(&(struct agg_asns){0}, 0));
}

/* ---- the device ---- */

static void a_click_without_mouse(void **state)
{
	(void)state;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_mouse = true), 0);
	bed->rules.no_mouse = true;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_mouse = true), BIT(NO_MOUSE));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_mouse = true, .mouse = 1), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .mouse = 0), 0); /* not sent */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_mouse = true, .has_sent = true, .sent = TP_DESKTOP), BIT(NO_MOUSE));
	static const enum tp_device_type touched[] = {TP_MOBILE, TP_TABLET, TP_TV};
	for (int i = 0; i < 3; i++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_mouse = true, .has_sent = true, .sent = touched[i]), 0);
	assert_int_equal(SHOW(TP_IMPRESSION, HOUR_START, .has_mouse = true), 0);
}

static const char windows[] = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/119 Safari/537.36",
		  macintosh[] = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.0 Safari/605.1.15",
		  phone[] = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
		  robot[] = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

static void a_user_agent_of_another_kind_of_device(void **state)
{
	(void)state;
	static const struct {
		enum tp_device_type sent;
		const char *agent;
		bool tagged;
	} row[] = {
		{TP_DESKTOP, windows, false},  {TP_DESKTOP, macintosh, false}, {TP_DESKTOP, phone, true},
		{TP_DESKTOP, robot, true},     {TP_MOBILE, windows, true},     {TP_MOBILE, phone, false},
		{TP_MOBILE, macintosh, false}, {TP_TABLET, macintosh, false},  {TP_TABLET, phone, false},
		{TP_TABLET, windows, true},    {TP_TV, phone, true},           {TP_TV, windows, true},
		{TP_BOT, windows, false},      {TP_OTHER, robot, false},       {TP_DESKTOP, "curl/8.5", false},
		{TP_MOBILE, "", false},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		bed->rules.device_mismatch = true;
		uint32_t got = SHOW(TP_CLICK, HOUR_START, .has_sent = true, .sent = row[i].sent, .agent = row[i].agent);
		enum tp_device_type told = tp_device_from_user_agent(row[i].agent, strlen(row[i].agent));
		bool bot_word = told == TP_BOT && row[i].sent != TP_BOT && row[i].sent != TP_OTHER;
		if (got != (row[i].tagged || bot_word ? BIT(DEVICE_MISMATCH) : 0))
			fail_msg("sent %s, agent %s: %x", tp_device_name(row[i].sent), row[i].agent, got);
		bed->rules.device_mismatch = false;
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_sent = true, .sent = row[i].sent, .agent = row[i].agent), 0);
	}
	bed->rules.device_mismatch = true;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .agent = phone), 0); /* derived, not sent: it cannot contradict itself */
}

static uint32_t clicks_with_gaps(const char *device, const uint32_t *gap, int gaps)
{
	uint64_t at = HOUR_START;
	uint32_t tags = SHOW(TP_CLICK, at, .device = device);
	for (int i = 0; i < gaps; i++) {
		assert_int_equal(tags, 0);
		tags = SHOW(TP_CLICK, at += gap[i], .device = device);
	}
	return tags;
}

static void clicks_like_clockwork(void **state)
{
	(void)state;
	/* the deviation of {a, a, a, b} is |b - a| · √3 / 4 */
	static const uint32_t same[] = {1000, 1000, 1000, 1000}, under[] = {1000, 1000, 1000, 1046},
			      over[] = {1000, 1000, 1000, 1047}, zero[] = {0, 0, 0, 0}, human[] = {900, 4000, 100, 2500},
			      fall[] = {1000, 1000, 1000, 954};
	assert_int_equal(clicks_with_gaps("off", same, 4), 0);
	bed->rules.regular_timing_ms = 20;
	bed->rules.regular_timing_gaps = 4;
	assert_int_equal(clicks_with_gaps("same", same, 4), BIT(REGULAR_TIMING));
	assert_int_equal(bed_evidence(bed, TP_FRAUD_REGULAR_TIMING).seen, 0);
	assert_int_equal(clicks_with_gaps("few", same, 3), 0);
	assert_int_equal(clicks_with_gaps("under", under, 4), BIT(REGULAR_TIMING));
	assert_int_equal(bed_evidence(bed, TP_FRAUD_REGULAR_TIMING).seen, 19);
	assert_int_equal(bed_evidence(bed, TP_FRAUD_REGULAR_TIMING).limit, 20);
	assert_int_equal(clicks_with_gaps("fall", fall, 4), BIT(REGULAR_TIMING));
	assert_int_equal(clicks_with_gaps("over", over, 4), 0);
	assert_int_equal(clicks_with_gaps("zero", zero, 4), BIT(REGULAR_TIMING));
	assert_int_equal(clicks_with_gaps("human", human, 4), 0);
	/* the last gaps count, not those before */
	static const uint32_t then_regular[] = {5000, 70, 900, 1000, 1000, 1000, 1000};
	assert_int_equal(clicks_with_gaps("then", then_regular, 7), BIT(REGULAR_TIMING));
	/* an hour of silence, and a click out of order, begin anew or do not count */
	static const uint32_t pause[] = {1000, 1000, 1000, 3600000, 1000, 1000, 1000};
	assert_int_equal(clicks_with_gaps("pause", pause, 7), 0);
	static const uint32_t hourly[] = {3600000, 3600000, 3600000, 3600000, 3600000},
			      nearly[] = {3599999, 3599999, 3599999, 3599999};
	assert_int_equal(clicks_with_gaps("hourly", hourly, 5), 0);
	assert_int_equal(clicks_with_gaps("nearly", nearly, 4), BIT(REGULAR_TIMING));
	SHOW(TP_CLICK, HOUR_START - 1, .device = "few");
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 4000, .device = "few"), BIT(REGULAR_TIMING));
	/* the user stands in for a device that is not named; impressions have no rhythm */
	for (uint64_t n = 0; n < 4; n++)
		SHOW(TP_CLICK, HOUR_START + 1000 * n, .user = "u");
	for (uint64_t n = 0; n < 40; n++)
		assert_int_equal(SHOW(TP_IMPRESSION, HOUR_START + 100 * n, .user = "u"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 4000, .user = "u"), BIT(REGULAR_TIMING));
}

static void one_device_with_many_addresses(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 40; n++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "off", .address = n), 0);
	bed->rules.addresses_per_device_hour = 3;
	for (uint32_t round = 0; round < 3; round++)
		for (uint32_t n = 1; n <= 3; n++)
			assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .address = n), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .address = 4), BIT(DEVICE_SPREAD));
	assert_int_equal(bed_evidence(bed, TP_FRAUD_DEVICE_SPREAD).seen, 4);
	assert_int_equal(bed_evidence(bed, TP_FRAUD_DEVICE_SPREAD).limit, 3);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + HOUR - 1, .device = "d", .address = 1), BIT(DEVICE_SPREAD));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + HOUR, .device = "d", .address = 5), 0);
	/* impressions show addresses too */
	for (uint32_t n = 1; n <= 4; n++)
		assert_int_equal(SHOW(TP_IMPRESSION, HOUR_START, .device = "e", .address = n), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "e", .address = 1), BIT(DEVICE_SPREAD));
	/* a user behind many addresses is a traveller, not a device */
	for (uint32_t n = 1; n <= 20; n++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "u", .address = n), 0);
	/* the largest limit */
	bed->rules.addresses_per_device_hour = AGG_ADDRESSES_MAX;
	for (uint32_t n = 1; n <= AGG_ADDRESSES_MAX; n++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "f", .address = n), 0);
	for (uint32_t n = AGG_ADDRESSES_MAX + 1; n <= 100; n++)
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "f", .address = n), BIT(DEVICE_SPREAD));
}

static void one_device_with_many_user_agents(void **state)
{
	(void)state;
	bed->rules.agents_per_device_hour = AGG_AGENTS_MAX;
	char agent[32];
	for (int n = 1; n <= 20; n++) {
		snprintf(agent, sizeof(agent), "agent %d", n);
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .agent = agent),
				 n > AGG_AGENTS_MAX ? BIT(DEVICE_SPREAD) : 0);
	}
	assert_int_equal(bed_evidence(bed, TP_FRAUD_DEVICE_SPREAD).detail, 1);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + HOUR, .device = "d", .agent = agent), 0);
}

/* ---- places ---- */

static uint32_t asked;

/* The address' last byte names a place. */
static void place_find(const void *context, const uint8_t ip[16], struct agg_place *place)
{
	(void)context;
	static const struct agg_place known[] = {
		[1] = {.point = {0.6573f, 0.0268f, 0.7532f},
		       .radius_km = 50,
		       .country = "FR",
		       .has_country = true,
		       .has_point = true},
		[2] = {.point = {0.2078f, -0.7308f, 0.6502f},
		       .radius_km = 50,
		       .country = "US",
		       .has_country = true,
		       .has_point = true},
		[3] = {.country = "US", .has_country = true},
		[4] = {.asn = 64496},
		[5] = {.country = "EU", .has_country = true},
	};
	asked++;
	if (ip[12] < sizeof(known) / sizeof(known[0]))
		*place = known[ip[12]];
}

static const struct agg_places places = {.find = place_find};

static void the_address_is_in_another_country(void **state)
{
	(void)state;
	bed->rules.places = &places;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "US"), 0);
	bed->rules.geo_mismatch = true;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "FI"), BIT(GEO_MISMATCH));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "GR"), BIT(GEO_MISMATCH));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "US"), BIT(GEO_MISMATCH));
	struct tp_evidence evidence = bed_evidence(bed, TP_FRAUD_GEO_MISMATCH);
	assert_true(evidence.is_text);
	assert_memory_equal(&evidence.seen, "FR/US\0\0\0", 8);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "FR"), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1), 0);                  /* the event says nothing */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 9, .country = "FR"), 0); /* the database says nothing */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .country = "FR"), 0);               /* no address */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 5, .country = "FR"), 0); /* no country */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "ZZ"), 0);
}

static void what_was_looked_up_is_remembered_until_the_rules_change(void **state)
{
	(void)state;
	bed->rules.places = &places;
	bed->rules.geo_mismatch = true;
	asked = 0;
	for (int n = 0; n < 10; n++)
		SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "US");
	assert_int_equal(asked, 1);
	bed->rules.version++;
	SHOW(TP_CLICK, HOUR_START, .address = 1, .country = "US");
	assert_int_equal(asked, 2);
}

static void the_clock_runs_in_no_zone_of_the_country(void **state)
{
	(void)state;
	bed->rules.geo_mismatch = true; /* without any database */
	static const struct {
		const char *country;
		int32_t zone;
		bool tagged;
	} row[] = {
		{"FR", 60, false},   {"FR", 120, false},      {"FR", -60, false},      {"FR", 59, true},  {"FR", 121, true},
		{"FR", 0, true},     {"US", 300, false},      {"US", -300, false},     {"US", 0, true},   {"IN", 330, false},
		{"IN", -330, false}, {"IN", 300, true},       {"GB", 0, false},        {"GB", 60, false}, {"ZZ", 999, false},
		{NULL, 999, false},  {"FR", INT32_MIN, true}, {"FR", INT32_MAX, true},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (SHOW(TP_CLICK, HOUR_START, .country = row[i].country, .has_zone = true, .zone = row[i].zone) !=
		    (row[i].tagged ? BIT(GEO_MISMATCH) : 0))
			fail_msg("%s %d", row[i].country, row[i].zone);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .country = "FR"), 0); /* not sent */
	bed->rules.places = &places;                                      /* the country from the address */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1, .has_zone = true, .zone = 600), BIT(GEO_MISMATCH));
	assert_int_equal(bed_evidence(bed, TP_FRAUD_GEO_MISMATCH).seen, 600);
}

static void faster_than_a_plane(void **state)
{
	(void)state;
	bed->rules.places = &places;
	const double km =
		agg_distance_km((const float[]){0.6573f, 0.0268f, 0.7532f}, (const float[]){0.2078f, -0.7308f, 0.6502f}) - 100;
	assert_true(km > 5500 && km < 6000);
	const uint64_t way_ms = (uint64_t)(km / 1000 * 3600000);
	SHOW(TP_CLICK, HOUR_START, .device = "off", .address = 1);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 1, .device = "off", .address = 2), 0);
	bed->rules.travel_kmh = 1000;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .address = 1), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + way_ms - 1000, .device = "d", .address = 2), BIT(IMPOSSIBLE_TRAVEL));
	assert_in_range(bed_evidence(bed, TP_FRAUD_IMPOSSIBLE_TRAVEL).seen, 1000, 1001);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "e", .address = 1), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + way_ms + 1000, .device = "e", .address = 2), 0);
	/* the impression says where it was; out of order is a distance in time too; the same place is no way */
	SHOW(TP_IMPRESSION, HOUR_START + 1000, .device = "f", .address = 1);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "f", .address = 2), BIT(IMPOSSIBLE_TRAVEL));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 1000, .device = "f", .address = 1), 0);
	/* an impression from afar moves nothing: the click from there is the one that jumps, the click from here is not */
	SHOW(TP_CLICK, HOUR_START, .device = "k", .address = 1);
	SHOW(TP_IMPRESSION, HOUR_START + 1000, .device = "k", .address = 2);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 2000, .device = "k", .address = 1), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 2000, .device = "k", .address = 2), BIT(IMPOSSIBLE_TRAVEL));
	/* another device is elsewhere, a user is as good as a device */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "g", .address = 2), 0);
	SHOW(TP_CLICK, HOUR_START, .user = "u", .address = 1);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .user = "u", .address = 2), BIT(IMPOSSIBLE_TRAVEL));
	/* without a point the country serves, with all of its width: from France to the United States says nothing, to New Zealand does */
	SHOW(TP_CLICK, HOUR_START, .device = "h", .country = "FR");
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 1000, .device = "h", .address = 3, .country = "US"), 0);
	SHOW(TP_CLICK, HOUR_START, .device = "i", .country = "FR");
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 60000, .device = "i", .country = "NZ"), BIT(IMPOSSIBLE_TRAVEL));
	assert_int_equal(SHOW(TP_CLICK, HOUR_START + 60000, .device = "j", .country = "NZ"), 0);
}

static void a_listed_system(void **state)
{
	(void)state;
	static const uint32_t asn[] = {64496};
	const struct agg_asns asns = {.asn = asn, .count = 1};
	bed->rules.places = &places;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 4), 0);
	bed->rules.bot_asns = &asns;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 4), BIT(BOT_ADDRESS));
	assert_int_equal(bed_evidence(bed, TP_FRAUD_BOT_ADDRESS).seen, 64496);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 1), 0);
}

/* ---- the model ---- */

static void a_score_over_the_threshold(void **state)
{
	(void)state;
	/* device_clicks < 3 ? -2 : (mouse_moves < 1, unknown goes right ? 4 : 0); then referer_bytes < 1000 ? 0.5 : 0 */
	static const struct agg_model_node node[] = {
		{.value = 3, .left = 1, .feature = AGG_F_DEVICE_CLICKS, .missing_left = 1},
		{.value = -2},
		{.value = 1, .left = 3, .feature = AGG_F_MOUSE_MOVES},
		{.value = 4},
		{.value = 0},
		{.value = 1000, .left = 6, .feature = AGG_F_REFERER_BYTES},
		{.value = 0.5f},
		{.value = 0},
	};
	static const uint32_t root[] = {0, 5};
	const struct agg_model model = {.node = node, .root = root, .trees = 2, .nodes = 8, .base = 0};
	bed->rules.model = &model;
	bed->rules.model_threshold = 900000;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .has_mouse = true), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .has_mouse = true), 0);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .has_mouse = true), BIT(MODEL));
	assert_in_range(bed_evidence(bed, TP_FRAUD_MODEL).seen, 989012, 989014); /* 1 / (1 + e^-4.5) */
	assert_int_equal(bed_evidence(bed, TP_FRAUD_MODEL).limit, 900000);
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d"), 0);     /* mouse_moves unknown: right */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .has_mouse = true), 0); /* device_clicks unknown: left */
	bed->rules.model_threshold = 989013;                                /* over, not at */
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .has_mouse = true), 0);
	bed->rules.model_threshold = 989012;
	assert_int_equal(SHOW(TP_CLICK, HOUR_START, .device = "d", .has_mouse = true), BIT(MODEL));
}

static void features_are_what_the_page_says(void **state)
{
	(void)state;
	float f[AGG_FEATURES];
	struct agg_findings findings;
	bed->rules.places = &places;
	bed->rules.min_ms_since_impression = 500;
	SHOW(TP_IMPRESSION, HOUR_START, .user = "u", .device = "d");
	for (uint32_t n = 0; n < 3; n++) {
		bed_encode(bed, (struct told){TP_CLICK, HOUR_START + 700 + 1000 * n, .user = "u", .device = "d", .address = 1,
					      .country = "US", .agent = windows, .has_mouse = true, .mouse = 12, .has_zone = true,
					      .zone = 60, .received_ms = HOUR_START + 700 + 1000 * n + 30});
		agg_fraud_judge(bed->shard, bed_event(bed), &findings, f);
	}
	assert_true(f[AGG_F_IP_CLICKS] == 3 && f[AGG_F_DEVICE_CLICKS] == 3 && f[AGG_F_MS_SINCE_IMPRESSION] == 2700);
	assert_true(f[AGG_F_MOUSE_MOVES] == 12 && f[AGG_F_BID] == 0.5f && f[AGG_F_DEVICE_TYPE] == TP_DESKTOP &&
		    f[AGG_F_DEVICE_SENT] == 0);
	assert_true(f[AGG_F_AGENT_BYTES] == sizeof(windows) - 1 && f[AGG_F_REFERER_BYTES] == 20 && f[AGG_F_HAS_USER] == 1 &&
		    f[AGG_F_HAS_DEVICE] == 1);
	assert_true(f[AGG_F_HOUR_OF_DAY] == 500000 % 24 && f[AGG_F_TIMEZONE_OFFSET] == 60 && f[AGG_F_COUNTRY_DIFFERS] == 1);
	assert_true(f[AGG_F_ADDRESSES] == 1 && f[AGG_F_AGENTS] == 1 && f[AGG_F_GAP_MS] == 1000 && f[AGG_F_GAP_DEVIATION_MS] == 0);
	assert_true(f[AGG_F_DELAY_MS] == 30);
	assert_true(f[AGG_F_CLICK_POSITION] != f[AGG_F_CLICK_POSITION] && f[AGG_F_BOT_AGENT] != f[AGG_F_BOT_AGENT]);
	for (int i = 0; i < AGG_FEATURES; i++)
		assert_non_null(agg_feature_name((enum agg_feature)i));
}

/* ---- what is told, not tagged ---- */

static void an_attacker_is_told_once_an_hour(void **state)
{
	(void)state;
	bed->rules.clicks_per_ip_hour = 3;
	bed->rules.blocklist_over_times = 2;
	struct agg_signal signal;
	for (uint32_t n = 1; n <= 20; n++) {
		assert_int_equal(SHOW(TP_CLICK, HOUR_START, .address = 9), n > 3 ? BIT(IP_VELOCITY) : 0);
		assert_int_equal(agg_fraud_signal_take(bed->shard, &signal), n == 7);
	}
	assert_int_equal(signal.kind, AGG_SIGNAL_ATTACKER);
	assert_int_equal(signal.seen, 7);
	assert_int_equal(signal.limit, 3);
	assert_int_equal(signal.ip[12], 9);
	for (uint32_t n = 1; n <= 7; n++)
		SHOW(TP_CLICK, HOUR_START + HOUR, .address = 9);
	assert_true(agg_fraud_signal_take(bed->shard, &signal));
	/* nor again when a restart shows the hour again */
	for (uint32_t n = 1; n <= 20; n++) {
		bed_encode(bed, (struct told){TP_CLICK, HOUR_START + 2 * HOUR, .address = 9});
		bed->machine.ops->again(bed->machine.self, bed_event(bed));
	}
	assert_false(agg_fraud_signal_take(bed->shard, &signal));
	bed->rules.blocklist_over_times = 0;
	for (uint32_t n = 1; n <= 20; n++)
		SHOW(TP_CLICK, HOUR_START, .address = 10);
	assert_false(agg_fraud_signal_take(bed->shard, &signal));
	/* nobody takes them: what does not fit is counted */
	bed->rules.blocklist_over_times = 2;
	for (uint32_t a = 0; a < 300; a++)
		for (uint32_t n = 1; n <= 7; n++)
			SHOW(TP_CLICK, HOUR_START, .address = 1000 + a);
	assert_int_equal(bed->counters.v[TP_C_FRAUD_SIGNALS_LOST], 300 - 256);
}

static void window_of(uint32_t window, uint32_t clicks)
{
	uint64_t at = HOUR_START + window * 300000ULL;
	for (uint32_t n = 0; n < 1000; n++)
		SHOW(TP_IMPRESSION, at + n, .publisher = "pub");
	for (uint32_t n = 0; n < clicks; n++)
		assert_int_equal(SHOW(TP_CLICK, at + n, .publisher = "pub"), 0);
}

static void a_publisher_whose_rate_leaves_its_history(void **state)
{
	(void)state;
	struct agg_signal signal;
	bed->rules.ctr_deviations = 6;
	uint32_t window = 0;
	for (; window < 8; window++)
		window_of(window, 10 + window % 3);
	window_of(window++, 100);
	assert_false(agg_fraud_signal_take(bed->shard, &signal)); /* its window is still open */
	window_of(window++, 11);
	assert_true(agg_fraud_signal_take(bed->shard, &signal));
	assert_int_equal(signal.kind, AGG_SIGNAL_PUBLISHER);
	assert_int_equal(signal.seen, 100000);
	assert_int_equal(signal.usual, 11000);
	assert_int_equal(signal.text_bytes, 3);
	assert_memory_equal(signal.text, "pub", 3);
	assert_int_equal(signal.when_ms, HOUR_START + 8 * 300000ULL);
	/* what chance does is not told: 11 expected, six deviations are some 20 more */
	window_of(window++, 25);
	window_of(window++, 11);
	assert_false(agg_fraud_signal_take(bed->shard, &signal));
	/* without a history of eight windows nothing is unusual, nor with too few impressions */
	for (uint32_t n = 0; n < 100; n++) {
		for (uint32_t i = 0; i < 199; i++)
			SHOW(TP_IMPRESSION, HOUR_START + n * 300000ULL, .publisher = "small");
		for (uint32_t i = 0; n == 50 && i < 199; i++)
			SHOW(TP_CLICK, HOUR_START + n * 300000ULL, .publisher = "small");
	}
	assert_false(agg_fraud_signal_take(bed->shard, &signal));
}

/* All rules on, tables far too small, everybody honest: nobody is tagged. */
static void a_full_table_never_accuses(void **state)
{
	(void)state;
	bed_close(bed);
	bed = bed_open(64);
	static const uint32_t asn[] = {64496};
	static const struct agg_asns asns = {.asn = asn, .count = 1};
	bed->rules = (struct agg_fraud_rules){.version = 1,
					      .clicks_per_ip_hour = 10,
					      .clicks_per_device_hour = 5,
					      .min_ms_since_impression = 500,
					      .no_impression = true,
					      .impression_lookback_ms = 1800000,
					      .impression_wait_ms = 5000,
					      .no_mouse = true,
					      .device_mismatch = true,
					      .geo_mismatch = true,
					      .regular_timing_ms = 20,
					      .regular_timing_gaps = 3,
					      .addresses_per_device_hour = 2,
					      .agents_per_device_hour = 2,
					      .travel_kmh = 1000,
					      .bot_asns = &asns,
					      .places = &places};
	uint64_t seed = 1;
	char device[16], user[16], ad[16];
	for (uint64_t n = 0; n < 30000; n++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		uint32_t who = (uint32_t)(seed >> 33) % 5000, which = (uint32_t)(seed >> 50) % 100;
		snprintf(device, sizeof(device), "d%u", who);
		snprintf(user, sizeof(user), "u%u", who);
		snprintf(ad, sizeof(ad), "a%u", which);
		uint64_t at = HOUR_START + n * 1500;
		struct told told = {TP_IMPRESSION,     at,
				    .ad = ad,          .device = device,
				    .user = user,      .address = who << 8 | 0x80,
				    .agent = windows,  .country = "US",
				    .has_mouse = true, .mouse = 5,
				    .has_zone = true,  .zone = 300};
		assert_int_equal(bed_show(bed, told), 0);
		told.type = TP_CLICK;
		told.stamp_ms = at + 600 + (seed >> 40) % 900;
		if (bed_show(bed, told) != 0)
			fail_msg("an honest click was tagged %x", bed_event(bed)->fraud);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_judged_click_says_by_which_rules_and_why),
		TEST(without_rules_nothing_is_judged),
		TEST(new_rules_hold_from_the_next_event),
		TEST(an_address_on_the_blocklist),
		TEST(systems_are_found_exactly),
		TEST(a_click_without_mouse),
		TEST(a_user_agent_of_another_kind_of_device),
		TEST(clicks_like_clockwork),
		TEST(one_device_with_many_addresses),
		TEST(one_device_with_many_user_agents),
		TEST(the_address_is_in_another_country),
		TEST(what_was_looked_up_is_remembered_until_the_rules_change),
		TEST(the_clock_runs_in_no_zone_of_the_country),
		TEST(faster_than_a_plane),
		TEST(a_listed_system),
		TEST(a_score_over_the_threshold),
		TEST(features_are_what_the_page_says),
		TEST(an_attacker_is_told_once_an_hour),
		TEST(a_publisher_whose_rate_leaves_its_history),
		TEST(a_full_table_never_accuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
