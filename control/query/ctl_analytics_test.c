/*
 * Every analytics endpoint against a slow model, over sealed and live rows, while files are sealed beside the questions: all filters,
 * zones, steps, orders; an advertiser's scope; answers that are kept, and must not be kept for too long.
 */
#include "ctl_analytics.h"

#include "ctl.h"
#include "ctl_folds.h"
#include "stand_in.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The clocks of Berlin change in the middle: 2026-03-29. */
#define FROM_MS 1774566000000ULL /* 2026-03-26T23:00Z, midnight there */
#define DAYS    5
#define HOUR_MS 3600000ULL
#define SPAN_MS (DAYS * 24 * HOUR_MS)

enum { EVENTS = 1500, QUERIES = 250, RACE_QUERIES = 300 };

static struct stand_in stand_in;
static struct ctl ctl;
static struct stand_in_event event[EVENTS];
static unsigned seed = 4711;

static uint32_t any(uint32_t below)
{
	return (uint32_t)rand_r(&seed) % below;
}

static const char *const campaigns[] = {"c1", "c2", "c,3:%", "c4"}, *const ads[] = {"a1", "a2", "a3"},
			 *const advertisers[] = {"v1", "v2", "v3"}, *const publishers[] = {"p1", "p2", ""},
			 *const countries[] = {"US", "DE", "FR"}, *const regions[] = {"r1", ""},
			 *const users[] = {"u1", "u2", "u3"};

static struct stand_in_event event_any(void)
{
	struct stand_in_event made = stand_in_click();

	made.type = any(3) ? TP_IMPRESSION : any(4) ? TP_CLICK : TP_CONVERSION;
	made.timestamp_ms = FROM_MS + (uint64_t)any(DAYS * 24 * 60) * 60000 + any(60000);
	made.campaign = campaigns[any(4)];
	made.ad = ads[any(3)];
	made.advertiser = advertisers[any(3)];
	made.publisher = publishers[any(3)];
	made.country = countries[any(3)];
	made.region = regions[any(2)];
	made.user = users[any(3)];
	made.device = any(2) ? TP_MOBILE : TP_DESKTOP;
	made.currency = any(5) ? "USD" : "EUR";
	made.bid_micros = any(3000000);
	made.flagged = any(5) == 0;
	made.verdict = any(20) ? TP_ACCEPTED : TP_LATE;
	return made;
}

static int opened(void **state)
{
	(void)state;
	tp_log_level_set(TP_ERROR);
	stand_in_open(&stand_in);
	ctl.config.data_dir = stand_in.data_dir;
	ctl.config.log_file_bytes = 4 << 20;
	ctl.config.session_gap_ms = 1800000;
	if (ctl_views_open(&ctl.views, stand_in.data_dir) || ctl_store_pool_open(&ctl.stores, stand_in.data_dir, ctl.views) ||
	    ctl_folds_open(&ctl.folds, stand_in.data_dir, ctl.config.log_file_bytes, ctl.config.session_gap_ms))
		return -1;
	/* a third of the events in segments and rollup files, a third in a segment, a third live */
	for (int i = 0; i < EVENTS; i++) {
		event[i] = event_any();
		stand_in_add(&stand_in, &event[i]);
		if (i % (EVENTS / 9) == 0 && i < 2 * EVENTS / 3)
			stand_in_seal(&stand_in);
	}
	stand_in_commit(&stand_in);
	return 0;
}

static int closed(void **state)
{
	(void)state;
	ctl_folds_close(ctl.folds);
	ctl_store_pool_close(ctl.stores);
	ctl_views_close(ctl.views);
	stand_in_close(&stand_in);
	return 0;
}

/* ---- asking ---- */

static json_t *ask(const char *text, const char *only, uint16_t status)
{
	struct ctl_target target;
	struct ctl_reply reply = {0};

	assert_int_equal(ctl_target_parse(text, &target), 0);
	target.only = only;
	if (strncmp(text, "/api/v1/analytics/sessions", 26) == 0)
		ctl_sessions(&ctl, &target, &reply);
	else if (strncmp(text, "/api/v1/analytics/trending", 26) == 0)
		ctl_trending(&ctl, &target, &reply);
	else
		ctl_analytics(&ctl, &target, &reply);
	if (reply.status != status)
		fail_msg("%s for %s: %u %s", text, only ? only : "all", reply.status, reply.body);
	json_error_t error;
	json_t *answer = json_loads(reply.body, JSON_REJECT_DUPLICATES, &error);
	if (!answer)
		fail_msg("%s: %s in %s", text, error.text, reply.body);
	free(reply.body);
	ctl_target_free(&target);
	return answer;
}

static int64_t number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	if (!json_is_integer(value))
		fail_msg("%s is no number", name);
	return json_integer_value(value);
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	if (!text)
		fail_msg("%s is no text", name);
	return text;
}

/* ---- the model ---- */

struct model {
	int64_t impressions, clicks, flagged, conversions, late;
	__int128 usd, eur;
};

/* What is asked, once more and simply. NULL: any. */
struct wanted {
	const char *kind, *id, *only;
	const char *country[2], *device, *region; /* filters */
	uint64_t from_ms, to_ms;
	const char *group[3]; /* values of publisher, country, device */
};

static const char *device_of(const struct stand_in_event *one)
{
	return one->device == TP_MOBILE ? "mobile" : "desktop";
}

static bool is(const char *value, const char *wish)
{
	return !wish || strcmp(value, wish) == 0;
}

static struct model model_of(const struct wanted *wanted)
{
	struct model model = {0};

	for (int i = 0; i < EVENTS; i++) {
		const struct stand_in_event *one = &event[i];
		const char *id = wanted->kind[0] == 'c'      ? one->campaign
				 : wanted->kind[0] == 'p'    ? one->publisher
				 : strlen(wanted->kind) == 3 ? one->ad
							     : one->advertiser;
		bool in_country = !wanted->country[0] || is(one->country, wanted->country[0]) ||
				  (wanted->country[1] && is(one->country, wanted->country[1]));
		if (one->timestamp_ms < wanted->from_ms || one->timestamp_ms >= wanted->to_ms || !is(id, wanted->id) ||
		    !is(one->advertiser, wanted->only) || !in_country || !is(device_of(one), wanted->device) ||
		    !is(one->region, wanted->region) || !is(one->publisher, wanted->group[0]) ||
		    !is(one->country, wanted->group[1]) || !is(device_of(one), wanted->group[2]))
			continue;
		model.late += one->verdict == TP_LATE;
		model.impressions += one->type == TP_IMPRESSION;
		model.conversions += one->type == TP_CONVERSION;
		if (one->type != TP_CLICK)
			continue;
		model.flagged += one->flagged;
		model.clicks += !one->flagged;
		if (!one->flagged)
			*(one->currency[0] == 'U' ? &model.usd : &model.eur) += one->bid_micros;
	}
	return model;
}

static void assert_sums(const json_t *sums, const struct model *model, const char *about)
{
	char text[64];
	bool good = number(sums, "impressions") == model->impressions && number(sums, "clicks") == model->clicks &&
		    number(sums, "flagged_clicks") == model->flagged && number(sums, "conversions") == model->conversions &&
		    number(sums, "gross_clicks") == model->clicks + model->flagged;

	if (!good)
		fail_msg("%s: %s, expected %lld impressions, %lld clicks, %lld flagged, %lld conversions", about,
			 json_dumps(sums, JSON_COMPACT), (long long)model->impressions, (long long)model->clicks,
			 (long long)model->flagged, (long long)model->conversions);
	if (model->usd && model->eur) {
		const json_t *each = json_object_get(sums, "spend_by_currency");
		assert_true(json_is_null(json_object_get(sums, "spend")));
		tp_micros_text(model->usd, text);
		assert_string_equal(text_of(each, "USD"), text);
		tp_micros_text(model->eur, text);
		assert_string_equal(text_of(each, "EUR"), text);
	} else {
		tp_micros_text(model->usd + model->eur, text);
		assert_string_equal(text_of(sums, "spend"), text);
	}
	const json_t *ctr = json_object_get(sums, "ctr");
	if (model->impressions) {
		double difference = json_real_value(ctr) - (double)model->clicks / (double)model->impressions;
		assert_true(json_is_real(ctr) && difference < 1e-11 && difference > -1e-11);
	} else {
		assert_true(json_is_null(ctr));
	}
}

static uint64_t ms_of(const json_t *object, const char *name)
{
	const char *text = text_of(object, name);
	uint64_t ms;
	assert_int_equal(tp_time_parse(text, strlen(text), &ms), 0);
	return ms;
}

static void assert_series(const json_t *answer, const struct wanted *wanted, const struct ctl_zone *zone, bool days,
			  const char *about)
{
	const json_t *series = json_object_get(answer, "series"), *bucket;
	size_t i;
	uint64_t at = 0;
	uint64_t step_ms = strcmp(text_of(answer, "step"), "1h") == 0 ? HOUR_MS : 24 * HOUR_MS;

	json_array_foreach((json_t *)(uintptr_t)series, i, bucket)
	{
		struct wanted part = *wanted;
		uint64_t start = ms_of(bucket, "start");
		uint64_t end = days ? ctl_zone_next(zone, CTL_ZONE_DAY, start) : start + step_ms;
		if (days)
			assert_int_equal(ctl_zone_floor(zone, CTL_ZONE_DAY, start), start);
		if (i)
			assert_int_equal(start, at); /* no gap */
		else
			assert_true(start <= wanted->from_ms && end > wanted->from_ms);
		at = end;
		part.from_ms = start > wanted->from_ms ? start : wanted->from_ms;
		part.to_ms = end < wanted->to_ms ? end : wanted->to_ms;
		struct model model = model_of(&part);
		assert_sums(bucket, &model, about);
	}
	assert_true(wanted->from_ms == wanted->to_ms || at >= wanted->to_ms);
}

static double measure(const json_t *group, const char *name)
{
	const json_t *value = json_object_get(group, name);
	if (json_is_string(value))
		return atof(json_string_value(value));
	return json_is_null(value) ? -1 : json_number_value(value);
}

static void assert_groups(const json_t *answer, const struct wanted *wanted, const char *order, bool down, uint32_t limit,
			  const char *about)
{
	const json_t *groups = json_object_get(answer, "groups"), *group;
	struct model sum = {0};
	size_t i;
	double before = 0;

	json_array_foreach((json_t *)(uintptr_t)groups, i, group)
	{
		struct wanted part = *wanted;
		part.group[0] = text_of(group, "publisher");
		part.group[1] = text_of(group, "country");
		part.group[2] = text_of(group, "device");
		struct model model = model_of(&part);
		assert_sums(group, &model, about);
		sum.impressions += model.impressions;
		sum.clicks += model.clicks;
		double value = measure(group, order);
		if (i && value >= 0)
			assert_true(down ? value <= before : value >= before && before >= 0);
		before = value;
	}
	size_t total = (size_t)number(answer, "groups_total"), shown = json_array_size(groups);
	assert_int_equal(shown, limit && limit < total ? limit : total);
	if (shown == total) {
		assert_int_equal(sum.impressions, number(json_object_get(answer, "totals"), "impressions"));
		assert_int_equal(sum.clicks, number(json_object_get(answer, "totals"), "clicks"));
	}
}

/* One question of random make, twice: the second one out of what was kept. */
static void question(void)
{
	static const char *const kinds[] = {"campaigns", "ads", "advertisers", "publishers"},
				 *const zones[] = {"UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"},
				 *const orders[] = {"clicks", "impressions", "gross_clicks",
						    "ctr",    "conversions", "flagged_clicks"};
	struct wanted wanted = {.kind = kinds[any(4)]};
	char text[1024], escaped[32], filter[128] = "";
	const char *zone_name = zones[any(4)], *order = orders[any(6)];
	const struct ctl_zone *zone = ctl_zone_find(zone_name, strlen(zone_name));
	bool grouped = any(2), down = any(2), step_days = any(2), compare = any(3) == 0;
	uint32_t limit = any(2) ? 1 + any(8) : 0;

	wanted.id = wanted.kind[0] == 'c'             ? campaigns[any(4)]
		    : wanted.kind[0] == 'p'           ? publishers[any(2)]
		    : strcmp(wanted.kind, "ads") == 0 ? ads[any(3)]
						      : advertisers[any(3)];
	if (any(2)) {
		wanted.only = advertisers[any(3)];
		if (strcmp(wanted.kind, "advertisers") == 0)
			wanted.only = wanted.id;
	}
	wanted.from_ms = FROM_MS + (uint64_t)any(DAYS * 24 * 60) * 60000;
	wanted.to_ms = wanted.from_ms + (uint64_t)any(DAYS * 24 * 60) * 60000;
	if (any(3) == 0) { /* whole days */
		wanted.from_ms = ctl_zone_floor(zone, CTL_ZONE_DAY, wanted.from_ms);
		wanted.to_ms = ctl_zone_floor(zone, CTL_ZONE_DAY, wanted.to_ms);
	}
	if (any(2)) {
		wanted.country[0] = countries[any(3)];
		wanted.country[1] = any(2) ? countries[any(3)] : NULL;
		wanted.device = any(2) ? "mobile" : NULL;
		wanted.region = any(3) ? NULL : "";
		snprintf(filter, sizeof(filter), "&filter=country:%s%s%s%s%s", wanted.country[0],
			 wanted.device ? ",device:mobile" : "", wanted.country[1] ? ",country:" : "",
			 wanted.country[1] ? wanted.country[1] : "", wanted.region ? ",region:" : "");
	}
	snprintf(escaped, sizeof(escaped), "%s", strcmp(wanted.id, "c,3:%") ? wanted.id : "c,3:%25");
	snprintf(text, sizeof(text), "/api/v1/analytics/%s/%s?from=%llu&to=%llu&step=%s&tz=%s%s%s&order=%s%s%s", wanted.kind,
		 escaped, (unsigned long long)wanted.from_ms, (unsigned long long)wanted.to_ms, step_days ? "1d" : "1h", zone_name,
		 grouped ? "&group_by=publisher,country,device" : "", filter, down ? "-" : "", order,
		 compare ? "&compare=previous" : "");
	if (limit)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "&limit=%u", limit);
	for (int turn = 0; turn < 2; turn++) {
		json_t *answer = ask(text, wanted.only, 200);
		struct model model = model_of(&wanted);
		int64_t late = model.late;
		assert_string_equal(text_of(answer, "id"), wanted.id);
		assert_sums(json_object_get(answer, "totals"), &model, text);
		assert_series(answer, &wanted, zone, step_days && strcmp(zone_name, "UTC") != 0, text);
		if (grouped)
			assert_groups(answer, &wanted, order, down, limit, text);
		if (compare) {
			const json_t *previous = json_object_get(answer, "previous");
			struct wanted then = wanted;
			then.from_ms = ms_of(previous, "from");
			then.to_ms = ms_of(previous, "to");
			assert_int_equal(then.to_ms, wanted.from_ms);
			struct model was = model_of(&then);
			late += was.late;
			assert_sums(json_object_get(previous, "totals"), &was, text);
			const json_t *change = json_object_get(json_object_get(answer, "change"), "impressions");
			if (was.impressions) {
				double want = (double)(model.impressions - was.impressions) / (double)was.impressions;
				assert_true(json_real_value(change) - want < 1e-9 && want - json_real_value(change) < 1e-9);
			} else {
				assert_true(json_is_null(change));
			}
		}
		assert_int_equal(number(answer, "revision"), 1 + late);
		uint64_t watermark = ms_of(answer, "watermark");
		assert_int_equal(watermark, atomic_load(&stand_in.live->watermark_ms));
		assert_int_equal(json_is_true(json_object_get(answer, "final")), wanted.to_ms <= watermark);
		json_decref(answer);
	}
}

static void answers_are_the_models(void **state)
{
	(void)state;
	atomic_store(&stand_in.live->watermark_ms, FROM_MS + 2 * 24 * HOUR_MS);
	for (int i = 0; i < QUERIES; i++)
		question();
	struct ctl_cache_facts facts;
	ctl_cache_facts(ctl_store_pool_cache(ctl.stores), &facts);
	assert_true(facts.hits >= QUERIES / 2);
	/* and once all that was live is sealed */
	stand_in_seal(&stand_in);
	for (int i = 0; i < QUERIES / 2; i++)
		question();
}

/* Several ids: what each alone gives, in the order asked. */
static void several_ids_are_answered_together(void **state)
{
	(void)state;
	char text[256], range[64];

	snprintf(range, sizeof(range), "from=%llu&to=%llu&step=1d", (unsigned long long)FROM_MS,
		 (unsigned long long)(FROM_MS + SPAN_MS));
	snprintf(text, sizeof(text), "/api/v1/analytics/campaigns?%s&id=c2&id=c,3:%%25&id=none", range);
	json_t *answer = ask(text, NULL, 200), *items = json_object_get(answer, "items");
	static const char *const ids[] = {"c2", "c,3:%25", "none"};
	assert_int_equal(json_array_size(items), 3);
	for (size_t i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "/api/v1/analytics/campaigns/%s?%s", ids[i], range);
		json_t *alone = ask(text, NULL, 200);
		assert_true(json_equal(alone, json_array_get(items, i)));
		json_decref(alone);
	}
	json_decref(answer);
	json_decref(ask("/api/v1/analytics/campaigns", NULL, 400));
	json_decref(ask("/api/v1/analytics/campaigns/c1?id=c2", NULL, 400));
	json_decref(ask(
		"/api/v1/analytics/campaigns?id=1&id=2&id=3&id=4&id=5&id=6&id=7&id=8&id=9&id=10&id=11&id=12&id=13&id=14&id=15&id="
		"16&id=17",
		NULL, 400));
}

/* ---- an advertiser's scope ---- */

static int64_t sum_of(const json_t *items, const char *name)
{
	const json_t *item;
	size_t i;
	int64_t sum = 0;

	json_array_foreach((json_t *)(uintptr_t)items, i, item) sum += number(item, name);
	return sum;
}

/* Every endpoint with an advertiser's token: its own rows, and nothing of others', not even as a sum. */
static void an_advertiser_sees_its_own_rows_alone(void **state)
{
	(void)state;
	char range[96], text[320];

	snprintf(range, sizeof(range), "from=%llu&to=%llu", (unsigned long long)FROM_MS, (unsigned long long)(FROM_MS + SPAN_MS));
	static const struct {
		const char *target, *kind, *id;
	} sums[] = {{"campaigns/c1?step=1d&", "campaigns", "c1"},
		    {"ads/a2?step=1d&", "ads", "a2"},
		    {"publishers/p1?step=1d&group_by=advertiser,publisher&", "publishers", "p1"},
		    {"advertisers/v1?step=1d&", "advertisers", "v1"},
		    {"campaigns/c1?step=1d&filter=advertiser:v1&compare=previous&", "campaigns", "c1"}};
	for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
		const struct wanted wanted = {
			.kind = sums[i].kind, .id = sums[i].id, .only = "v1", .from_ms = FROM_MS, .to_ms = FROM_MS + SPAN_MS};
		snprintf(text, sizeof(text), "/api/v1/analytics/%s%s", sums[i].target, range);
		json_t *answer = ask(text, "v1", 200);
		struct model model = model_of(&wanted);
		assert_true(model.impressions > 0);
		assert_sums(json_object_get(answer, "totals"), &model, text);
		/* users are counted over all advertisers: not told where there are others */
		if (strcmp(sums[i].kind, "campaigns") == 0)
			assert_true(json_is_null(json_object_get(json_object_get(answer, "totals"), "users")));
		json_decref(answer);
		/* one that has nothing there has zeros */
		if (strcmp(sums[i].kind, "advertisers") != 0 && !strstr(sums[i].target, "filter")) {
			answer = ask(text, "v", 200);
			assert_int_equal(number(json_object_get(answer, "totals"), "impressions"), 0);
			assert_int_equal(number(answer, "revision"), 1);
			assert_int_equal(json_array_size(json_object_get(answer, "groups")), 0);
			json_decref(answer);
		}
	}
	static const char *const others[] = {"advertisers/v2?",
					     "advertisers/v?",
					     "advertisers/v11?",
					     "advertisers?id=v1&id=v2&",
					     "campaigns/c1?filter=advertiser:v2&",
					     "campaigns/c1?filter=advertiser:v1,advertiser:v2&"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		snprintf(text, sizeof(text), "/api/v1/analytics/%s%s", others[i], range);
		json_decref(ask(text, "v1", 403));
	}

	/* sessions: of this user, the events with this advertiser */
	for (int u = 0; u < 3; u++) {
		int64_t impressions = 0, clicks = 0, all = 0;
		for (int i = 0; i < EVENTS; i++) {
			bool his = strcmp(event[i].user, users[u]) == 0, own = strcmp(event[i].advertiser, "v2") == 0;
			impressions += his && own && event[i].type == TP_IMPRESSION;
			clicks += his && own && event[i].type == TP_CLICK && !event[i].flagged;
			all += his && event[i].type == TP_IMPRESSION;
		}
		snprintf(text, sizeof(text), "/api/v1/analytics/sessions?user=%s&limit=1000&%s", users[u], range);
		json_t *answer = ask(text, "v2", 200);
		assert_int_equal(sum_of(json_object_get(answer, "items"), "impressions"), impressions);
		assert_int_equal(sum_of(json_object_get(answer, "items"), "clicks"), clicks);
		json_decref(answer);
		answer = ask(text, NULL, 200);
		assert_int_equal(sum_of(json_object_get(answer, "items"), "impressions"), all);
		assert_true(all > impressions);
		json_decref(answer);
		answer = ask(text, "nobody", 200);
		assert_int_equal(json_array_size(json_object_get(answer, "items")), 0);
		json_decref(answer);
	}

	/* trending, by sums and by addresses: a day at most */
	int64_t own = 0, all = 0;
	for (int i = 0; i < EVENTS; i++) {
		if (event[i].type != TP_CLICK || event[i].timestamp_ms >= FROM_MS + 24 * HOUR_MS)
			continue;
		own += strcmp(event[i].advertiser, "v3") == 0;
		all++;
	}
	assert_true(own > 0 && own < all);
	snprintf(range, sizeof(range), "from=%llu&to=%llu", (unsigned long long)FROM_MS,
		 (unsigned long long)(FROM_MS + 24 * HOUR_MS));
	static const char *const bys[] = {"ad", "campaign", "publisher", "source"};
	for (size_t i = 0; i < 4; i++) {
		const char *measured = i == 3 ? "gross_clicks_max" : "gross_clicks";
		snprintf(text, sizeof(text), "/api/v1/analytics/trending?by=%s&limit=100&%s", bys[i], range);
		json_t *answer = ask(text, "v3", 200);
		assert_int_equal(sum_of(json_object_get(answer, "items"), measured), own);
		json_decref(answer);
		answer = ask(text, NULL, 200);
		assert_int_equal(sum_of(json_object_get(answer, "items"), measured), all);
		json_decref(answer);
		answer = ask(text, "nobody", 200);
		assert_int_equal(json_array_size(json_object_get(answer, "items")), 0);
		json_decref(answer);
	}
}

/* Each row that comes into a live table is found by its id at once, and what a file's table held is not looked for in the next one. */
static void rows_that_come_are_found_by_their_ids(void **state)
{
	(void)state;
	struct stand_in_event click = stand_in_click();
	static const char *const kinds[] = {"campaigns/grow", "ads/grow", "advertisers/grow", "publishers/grow"};
	char text[256];

	click.campaign = click.ad = click.advertiser = click.publisher = "grow";
	for (int i = 1; i <= 60; i++) {
		click.timestamp_ms = FROM_MS + (uint64_t)i * 60000;
		stand_in_add(&stand_in, &click);
		snprintf(text, sizeof(text), "/api/v1/analytics/%s?from=%llu&to=%llu&step=1h", kinds[i % 4],
			 (unsigned long long)FROM_MS, (unsigned long long)(FROM_MS + 24 * HOUR_MS));
		json_t *answer = ask(text, NULL, 200);
		assert_int_equal(number(json_object_get(answer, "totals"), "clicks"), i);
		json_decref(answer);
		if (i % 25 == 0)
			stand_in_seal(&stand_in);
	}
}

/* ---- beside a writer ---- */

struct race {
	_Atomic uint64_t done, begun;
	_Atomic bool stop;
	bool failed;
};

static void *add_and_seal(void *context)
{
	struct race *race = context;
	struct stand_in_event click = stand_in_click();

	click.campaign = "race";
	click.timestamp_ms = FROM_MS + 90 * 60000;
	for (int i = 0; !atomic_load(&race->stop); i++) {
		click.ad = ads[i % 3];
		atomic_fetch_add(&race->begun, 1);
		stand_in_add(&stand_in, &click);
		atomic_fetch_add(&race->done, 1);
		if (i % 23 == 22)
			stand_in_seal(&stand_in);
	}
	return NULL;
}

static void *ask_many(void *context)
{
	struct race *race = context;
	char text[256];
	int64_t before = 0;

	snprintf(text, sizeof(text), "/api/v1/analytics/campaigns/race?from=%llu&to=%llu&step=1h&group_by=ad",
		 (unsigned long long)FROM_MS, (unsigned long long)(FROM_MS + 24 * HOUR_MS));
	for (int i = 0; i < RACE_QUERIES; i++) {
		int64_t least = (int64_t)atomic_load(&race->done);
		json_t *answer = ask(text, NULL, 200);
		int64_t clicks = number(json_object_get(answer, "totals"), "clicks");
		int64_t grouped = sum_of(json_object_get(answer, "groups"), "clicks");
		int64_t summed = sum_of(json_object_get(answer, "series"), "clicks");
		/* what was there before the question is in it; nothing is twice; nothing falls; all parts tell the same */
		if (clicks < least || clicks > (int64_t)atomic_load(&race->begun) || clicks < before || grouped != clicks ||
		    summed != clicks) {
			print_error("%lld clicks, %lld by ad, %lld by hour; before %lld, at least %lld\n", (long long)clicks,
				    (long long)grouped, (long long)summed, (long long)before, (long long)least);
			race->failed = true;
			break;
		}
		before = clicks;
		json_decref(answer);
	}
	return NULL;
}

/* Four askers at once beside a writer that seals all the time. */
static void no_figure_falls_while_files_are_sealed(void **state)
{
	(void)state;
	struct race race = {0};
	pthread_t writer, asker[4];

	assert_int_equal(pthread_create(&writer, NULL, add_and_seal, &race), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&asker[i], NULL, ask_many, &race), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(asker[i], NULL);
	atomic_store(&race.stop, true);
	pthread_join(writer, NULL);
	assert_false(race.failed);
}

/* ---- costs ---- */

/* A store that is held by a slow question holds up nobody; a question that reads too much says how to narrow it. */
static void a_slow_question_holds_up_nobody(void **state)
{
	(void)state;
	struct ctl_store *held[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(ctl_store_pool_take(ctl.stores, &held[i]), 0);
	question();
	json_decref(ask("/api/v1/analytics/sessions?user=u1", NULL, 200));
	for (int i = 0; i < 4; i++)
		ctl_store_pool_give(ctl.stores, held[i]);

	struct ctl_query query = {.to_minute = UINT32_MAX, .rows_max = 10};
	struct ctl_answer answer;
	struct ctl_facts facts;
	struct ctl_analytics_source source = {.cache = ctl_store_pool_cache(ctl.stores)};
	assert_int_equal(ctl_answer_init(&answer, &query), 0);
	assert_int_equal(ctl_store_pool_take(ctl.stores, &source.store), 0);
	assert_int_equal(ctl_analytics_ask(&source, &query, &answer, &facts), -ECANCELED);
	assert_true(answer.too_many_rows);
	ctl_store_pool_give(ctl.stores, source.store);
	ctl_answer_fini(&answer);
}

static void spends_of_several_currencies_have_no_order(void **state)
{
	(void)state;
	char text[256];

	snprintf(text, sizeof(text), "/api/v1/analytics/campaigns/c1?from=%llu&to=%llu&step=1d&group_by=publisher&order=-spend",
		 (unsigned long long)FROM_MS, (unsigned long long)(FROM_MS + SPAN_MS));
	json_decref(ask(text, NULL, 422));
	strcat(text, "&filter=currency:usd");
	json_decref(ask(text, NULL, 200));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_the_models),
		cmocka_unit_test(several_ids_are_answered_together),
		cmocka_unit_test(an_advertiser_sees_its_own_rows_alone),
		cmocka_unit_test(a_slow_question_holds_up_nobody),
		cmocka_unit_test(spends_of_several_currencies_have_no_order),
		cmocka_unit_test(rows_that_come_are_found_by_their_ids),
		cmocka_unit_test(no_figure_falls_while_files_are_sealed),
	};
	return cmocka_run_group_tests_name("ctl_analytics", tests, opened, closed);
}
