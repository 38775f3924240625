/*
 * Folds against slow models: sessions, distinct users, sources. Each property is tried over seeds: whatever the order of events, and
 * however they are spread over log files, the merged answer is the same.
 */
#include "fold.h"

#include "turnpike/distinct.h"
#include "turnpike/fold.h"
#include "turnpike/session.h"
#include "turnpike/sources.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GAP_MS  UINT64_C(1800000)
#define BASE_MS UINT64_C(1700000000000)

enum { EVENTS_MAX = 4000, PARTS_MAX = 8 };

struct told {
	uint64_t timestamp_ms;
	uint32_t user, ad, publisher, campaign, address; /* 0: none */
	uint8_t type, flagged, verdict;
};

static uint64_t random_state;

static uint64_t random_next(uint64_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % below;
}

static const struct tp_event *event_of(const struct told *told)
{
	static _Alignas(8) char record[TP_EVENT_BYTES_MAX];
	static char text[TP_STRINGS][32];
	struct tp_parsed parsed = {
		.fixed = {.type = told->type, .id = {1, told->timestamp_ms}, .timestamp_ms = told->timestamp_ms}};
	const uint32_t number[TP_STRINGS] = {[TP_AD_ID] = told->ad,
					     [TP_CAMPAIGN_ID] = told->campaign,
					     [TP_ADVERTISER_ID] = 1,
					     [TP_PUBLISHER_ID] = told->publisher,
					     [TP_USER_ID] = told->user};
	for (int i = 0; i < TP_STRINGS; i++)
		if (number[i])
			parsed.string[i] =
				(struct tp_str){text[i], (uint16_t)snprintf(text[i], sizeof(text[i]), "%d-%u", i, number[i])};
	if (told->address) {
		parsed.fixed.flags = TP_HAS_IP;
		memcpy(parsed.fixed.ip + 12, &told->address, 4);
	}
	struct tp_event *event = (struct tp_event *)(void *)record;
	tp_event_encode(&parsed, event);
	event->verdict = told->verdict;
	event->fraud = told->flagged;
	return event;
}

/* A fold of `count` events, with the section that `make` writes: the caller frees both. */
static void *section_of(const struct told *told, uint32_t count, uint64_t (*make)(struct agg_fold *, void *), uint64_t *bytes)
{
	uint64_t memory_bytes = agg_fold_bytes(count, count * 300);
	void *memory = aligned_alloc(64, (memory_bytes + 63) & ~UINT64_C(63));
	memset(memory, 0xa5, memory_bytes); /* used before */
	struct agg_fold *fold = agg_fold_init(memory, count, count * 300, GAP_MS);
	for (uint32_t i = 0; i < count; i++)
		assert_true(agg_fold_show(fold, event_of(&told[i])));
	*bytes = make(fold, NULL);
	void *section = *bytes ? malloc(*bytes) : NULL;
	if (section)
		assert_int_equal(make(fold, section), *bytes);
	free(memory);
	return section;
}

/* ---- sessions ---- */

struct model_session {
	uint64_t start, end;
	uint32_t impressions, clicks, flagged, conversions;
};

static int by_time(const void *a, const void *b)
{
	const struct told *x = a, *y = b;
	return (x->timestamp_ms > y->timestamp_ms) - (x->timestamp_ms < y->timestamp_ms);
}

static uint32_t model_sessions(struct told *told, uint32_t count, uint32_t user, struct model_session *to)
{
	uint32_t sessions = 0;
	qsort(told, count, sizeof(*told), by_time);
	for (uint32_t i = 0; i < count; i++) {
		if (told[i].user != user || told[i].verdict == TP_CONFLICT)
			continue;
		if (sessions == 0 || told[i].timestamp_ms - to[sessions - 1].end >= GAP_MS)
			to[sessions++] = (struct model_session){.start = told[i].timestamp_ms};
		struct model_session *session = &to[sessions - 1];
		session->end = told[i].timestamp_ms;
		session->impressions += told[i].type == TP_IMPRESSION;
		session->conversions += told[i].type == TP_CONVERSION;
		session->clicks += told[i].type == TP_CLICK && !told[i].flagged;
		session->flagged += told[i].type == TP_CLICK && told[i].flagged;
	}
	return sessions;
}

static void events_make(struct told *told, uint32_t count, uint64_t span_ms)
{
	for (uint32_t i = 0; i < count; i++)
		told[i] = (struct told){
			.timestamp_ms =
				BASE_MS + (random_next(3) ? random_next(span_ms) : random_next(span_ms / GAP_MS + 1) * GAP_MS),
			.user = (uint32_t)random_next(12),
			.ad = 1 + (uint32_t)random_next(6),
			.publisher = (uint32_t)random_next(3),
			.campaign = 1 + (uint32_t)random_next(3),
			.address = (uint32_t)random_next(40),
			.type = (uint8_t)random_next(TP_EVENT_TYPES),
			.flagged = random_next(5) == 0,
			.verdict = random_next(9) ? (random_next(6) ? TP_ACCEPTED : TP_LATE) : TP_CONFLICT,
		};
}

static void test_sessions_equal_the_model(void **state)
{
	(void)state;
	static struct told told[EVENTS_MAX];
	for (uint64_t seed = 1; seed <= 60; seed++) {
		random_state = seed;
		uint32_t count = 1 + (uint32_t)random_next(400), parts = 1 + (uint32_t)random_next(PARTS_MAX);
		events_make(told, count, GAP_MS * 20);
		void *section[PARTS_MAX] = {0};
		/* parts as shards and log files make them: any event anywhere */
		static struct told part[EVENTS_MAX];
		uint32_t dealt[PARTS_MAX] = {0};
		for (uint32_t p = 0; p < parts; p++) {
			uint64_t keep = random_state;
			random_state = seed * 977;
			for (uint32_t i = 0; i < count; i++)
				if (random_next(parts) == p)
					part[dealt[p]++] = told[i];
			random_state = keep;
			uint64_t bytes = 0;
			if (dealt[p])
				section[p] = section_of(part, dealt[p], agg_fold_sessions, &bytes);
			if (section[p])
				assert_int_equal(agg_sessions_check(section[p], bytes), 0);
		}
		for (uint32_t user = 1; user < 12; user++) {
			static struct agg_session found[EVENTS_MAX];
			static struct model_session expected[EVENTS_MAX];
			char name[32];
			size_t name_bytes = (size_t)snprintf(name, sizeof(name), "%d-%u", TP_USER_ID, user);
			uint32_t many = 0;
			for (uint32_t p = 0; p < parts; p++) {
				uint32_t first, n = section[p] ? agg_sessions_find(section[p], name, name_bytes, &first) : 0;
				for (uint32_t i = 0; i < n; i++) {
					struct tp_str who;
					agg_sessions_get(section[p], first + i, &found[many++], &who);
					assert_int_equal(who.bytes, name_bytes);
					assert_memory_equal(who.at, name, name_bytes);
				}
			}
			many = agg_sessions_merge(found, many, GAP_MS);
			uint32_t sessions = model_sessions(told, count, user, expected);
			assert_int_equal(many, sessions);
			for (uint32_t i = 0; i < many; i++) {
				assert_int_equal(found[i].start_ms, expected[i].start);
				assert_int_equal(found[i].end_ms, expected[i].end);
				assert_int_equal(found[i].impressions, expected[i].impressions);
				assert_int_equal(found[i].conversions, expected[i].conversions);
				assert_int_equal(found[i].clicks, expected[i].clicks);
				assert_int_equal(found[i].flagged_clicks, expected[i].flagged);
				assert_true(found[i].ads >= 1 && found[i].ads <= 6 && !found[i].more_ads);
			}
		}
		for (uint32_t p = 0; p < parts; p++)
			free(section[p]);
	}
}

struct gathered {
	struct agg_session session[EVENTS_MAX];
	uint32_t count;
};

static bool gather(void *context, const struct agg_session *session)
{
	struct gathered *gathered = context;
	gathered->session[gathered->count++] = *session;
	return true;
}

static void same_sessions(const struct agg_fold *fold, const void *section)
{
	static struct gathered asked;
	static struct agg_session part[EVENTS_MAX];
	for (uint32_t user = 1; user < 13; user++) {
		char name[32];
		size_t bytes = (size_t)snprintf(name, sizeof(name), "%d-%u", TP_USER_ID, user);
		asked.count = 0;
		assert_true(agg_fold_user(fold, name, bytes, gather, &asked));
		uint32_t first, many = agg_sessions_find(section, name, bytes, &first);
		for (uint32_t i = 0; i < many; i++)
			agg_sessions_get(section, first + i, &part[i], NULL);
		assert_int_equal(agg_sessions_merge(asked.session, asked.count, GAP_MS), many);
		for (uint32_t i = 0; i < many; i++) {
			const struct agg_session *a = &asked.session[i], *b = &part[i];
			assert_true(a->start_ms == b->start_ms && a->end_ms == b->end_ms);
			assert_true(a->clicks == b->clicks && a->flagged_clicks == b->flagged_clicks);
			assert_true(a->impressions == b->impressions && a->conversions == b->conversions);
			assert_true(a->ads == b->ads && a->publishers == b->publishers);
		}
	}
}

/* A fold that is asked while it grows says what its sections say. */
static void test_asking_equals_the_sections(void **state)
{
	(void)state;
	static struct told told[EVENTS_MAX];
	static struct agg_sources thrown, top_fold, top_section;
	static struct agg_distinct by_fold, by_section;
	for (uint64_t seed = 1; seed <= 30; seed++) {
		random_state = seed;
		uint32_t count = 1 + (uint32_t)random_next(300);
		events_make(told, count, GAP_MS * 20);
		uint64_t memory_bytes = agg_fold_bytes(count, count * 300), bytes;
		void *memory = aligned_alloc(64, (memory_bytes + 63) & ~UINT64_C(63));
		memset(memory, 0xa5, memory_bytes); /* used before */
		struct agg_fold *fold = agg_fold_init(memory, count, count * 300, GAP_MS);
		for (uint32_t i = 0; i < count; i++) {
			assert_true(agg_fold_show(fold, event_of(&told[i])));
			if (random_next(50) == 0) /* reorders, between two events */
				agg_fold_sources_take(fold, 0, UINT32_MAX, &thrown);
		}
		void *sessions = section_of(told, count, agg_fold_sessions, &bytes);
		same_sessions(fold, sessions);
		free(sessions);

		uint32_t hour = (uint32_t)(BASE_MS / 3600000);
		char campaign[32];
		size_t campaign_bytes =
			(size_t)snprintf(campaign, sizeof(campaign), "%d-%u", TP_CAMPAIGN_ID, 1 + (uint32_t)random_next(3));
		void *distinct = section_of(told, count, agg_fold_distinct, &bytes);
		memset(&by_fold, 0, sizeof(by_fold));
		memset(&by_section, 0, sizeof(by_section));
		agg_fold_distinct_take(fold, campaign, campaign_bytes, hour + 1, hour + 5, &by_fold);
		if (distinct)
			agg_distinct_take(distinct, campaign, campaign_bytes, hour + 1, hour + 5, &by_section);
		assert_memory_equal(&by_fold, &by_section, sizeof(by_fold));
		free(distinct);

		uint32_t minute = (uint32_t)(BASE_MS / TP_MINUTE_MS) + (uint32_t)random_next(60);
		void *sources = section_of(told, count, agg_fold_sources, &bytes);
		memset(&top_fold, 0, sizeof(top_fold));
		memset(&top_section, 0, sizeof(top_section));
		agg_fold_sources_take(fold, minute, minute + 200, &top_fold);
		if (sources)
			agg_sources_take(sources, minute, minute + 200, &top_section);
		assert_int_equal(top_fold.count, top_section.count);
		assert_int_equal(top_fold.missed, top_section.missed);
		for (uint32_t i = 0; i < top_fold.count; i++) {
			assert_memory_equal(top_fold.source[i].ip, top_section.source[i].ip, 16);
			assert_int_equal(top_fold.source[i].clicks, top_section.source[i].clicks);
		}
		free(sources);
		free(memory);
	}
}

static void test_session_edges(void **state)
{
	(void)state;
	struct told told[] = {
		{.timestamp_ms = BASE_MS, .user = 1, .type = TP_CLICK, .campaign = 1, .ad = 1, .verdict = TP_ACCEPTED},
		{.timestamp_ms = BASE_MS + GAP_MS - 1, .user = 1, .campaign = 1, .ad = 2, .verdict = TP_ACCEPTED},
		{.timestamp_ms = BASE_MS + 2 * GAP_MS - 1, .user = 1, .campaign = 1, .ad = 1, .verdict = TP_LATE}};
	uint64_t bytes;
	void *section = section_of(told, 3, agg_fold_sessions, &bytes);
	assert_int_equal(agg_sessions_count(section), 2); /* GAP_MS - 1 joins, GAP_MS ends */
	free(section);
	/* an amendment moves a tagged click to the valid ones, whichever file it lies in */
	struct agg_session both[2];
	told[0].flagged = 1;
	agg_session_of(event_of(&told[0]), &both[0]);
	told[0].flagged = 0;
	told[0].verdict = TP_AMENDED;
	agg_session_of(event_of(&told[0]), &both[1]);
	assert_int_equal(agg_sessions_merge(both, 2, GAP_MS), 1);
	assert_int_equal(both[0].clicks, 1);
	assert_int_equal(both[0].flagged_clicks, 0);
	/* more names than are kept */
	static struct told many[100];
	for (uint32_t i = 0; i < 100; i++)
		many[i] = (struct told){
			.timestamp_ms = BASE_MS + i, .user = 1, .campaign = 1, .ad = 1 + i % 50, .verdict = TP_ACCEPTED};
	section = section_of(many, 100, agg_fold_sessions, &bytes);
	struct agg_session session;
	agg_sessions_get(section, 0, &session, NULL);
	assert_int_equal(session.ads, AGG_SESSION_NAMES_MAX);
	assert_true(session.more_ads);
	assert_false(session.more_publishers);
	assert_int_equal(session.impressions, 100);
	/* every byte wrong: an error or the same shape, never a read beyond (ASan looks) */
	for (uint64_t at = 0; at < bytes; at++) {
		((uint8_t *)section)[at] ^= 0xff;
		if (!agg_sessions_check(section, bytes))
			for (uint32_t i = 0; i < agg_sessions_count(section); i++)
				agg_sessions_get(section, i, &session, NULL);
		((uint8_t *)section)[at] ^= 0xff;
	}
	assert_int_equal(agg_sessions_check(section, bytes - 8), -EBADMSG);
	free(section);
}

/* ---- distinct ---- */

static void test_distinct_error_is_as_stated(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {1, 10, 100, 200, 1000, 5000, 20000, 100000, 1000000};
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t rounds = sizes[s] > 100000 ? 4 : 40;
		double squares = 0;
		for (uint32_t seed = 0; seed < rounds; seed++) {
			static struct agg_distinct distinct;
			memset(&distinct, 0, sizeof(distinct));
			for (uint32_t i = 0; i < sizes[s]; i++) {
				char user[32];
				agg_distinct_add(&distinct, user, (size_t)snprintf(user, sizeof(user), "%u/%u", seed, i));
			}
			double error = ((double)agg_distinct_estimate(&distinct) - sizes[s]) / sizes[s];
			assert_true(fabs(error) < 5 * 0.0163 || fabs(error) * sizes[s] <= 2);
			squares += error * error;
		}
		/* the standard error over all rounds: 1.63%, with room for so few rounds */
		assert_true(sqrt(squares / rounds) < 0.0163 * (rounds > 10 ? 1.4 : 2.5));
	}
	static const struct agg_distinct nobody;
	assert_int_equal(agg_distinct_estimate(&nobody), 0);
}

static void test_distinct_merges_exactly(void **state)
{
	(void)state;
	static struct told told[EVENTS_MAX];
	for (uint32_t users = 300; users <= 3000; users += 2700) { /* sparse and dense */
		random_state = users;
		for (uint32_t i = 0; i < EVENTS_MAX; i++)
			told[i] = (struct told){.timestamp_ms = BASE_MS + random_next(3) * 3600000,
						.user = (uint32_t)random_next(users),
						.campaign = 1 + (uint32_t)random_next(2),
						.ad = 1,
						.verdict = TP_ACCEPTED};
		static struct agg_distinct expected, found;
		memset(&expected, 0, sizeof(expected));
		memset(&found, 0, sizeof(found));
		uint32_t hour = (uint32_t)(BASE_MS / 3600000) + 1;
		for (uint32_t i = 0; i < EVENTS_MAX; i++) {
			char user[32];
			if (told[i].campaign == 2 && told[i].timestamp_ms / 3600000 == hour && told[i].user)
				agg_distinct_add(&expected, user,
						 (size_t)snprintf(user, sizeof(user), "%d-%u", TP_USER_ID, told[i].user));
		}
		uint32_t cut = 700, entries = 0;
		char campaign[32];
		size_t campaign_bytes = (size_t)snprintf(campaign, sizeof(campaign), "%d-2", TP_CAMPAIGN_ID);
		for (uint32_t from = 0; from < EVENTS_MAX; from += cut, cut = EVENTS_MAX - from) {
			uint64_t bytes;
			void *section = section_of(told + from, cut, agg_fold_distinct, &bytes);
			assert_int_equal(agg_distinct_check(section, bytes), 0);
			assert_int_equal(agg_distinct_check(section, bytes - 8), -EBADMSG);
			entries += agg_distinct_take(section, campaign, campaign_bytes, hour, hour + 1, &found);
			assert_int_equal(agg_distinct_take(section, "nobody", 6, 0, UINT32_MAX, &found), 0);
			free(section);
		}
		assert_int_equal(entries, 2);
		assert_memory_equal(&found, &expected, sizeof(found));
	}
}

/* ---- sources ---- */

static void test_sources_keep_their_bounds(void **state)
{
	(void)state;
	static struct told told[EVENTS_MAX];
	for (uint64_t seed = 1; seed <= 30; seed++) {
		random_state = seed;
		uint32_t addresses = 1 + (uint32_t)random_next(seed % 3 ? 1000 : 100);
		uint32_t truth[1001] = {0};
		for (uint32_t i = 0; i < EVENTS_MAX; i++) {
			uint32_t a = (uint32_t)random_next(addresses), b = (uint32_t)random_next(addresses);
			told[i] = (struct told){.timestamp_ms = BASE_MS - BASE_MS % 60000 + random_next(180000),
						.address = 1 + (a < b ? a : b),
						.campaign = 1,
						.ad = 1,
						.type = TP_CLICK,
						.flagged = random_next(2) != 0,
						.verdict = TP_ACCEPTED};
			truth[told[i].address]++;
		}
		static struct agg_sources found;
		memset(&found, 0, sizeof(found));
		for (uint32_t from = 0; from < EVENTS_MAX; from += 1000) {
			uint64_t bytes;
			void *section = section_of(told + from, 1000, agg_fold_sources, &bytes);
			assert_int_equal(agg_sources_check(section, bytes), 0);
			assert_int_equal(agg_sources_take(section, 0, UINT32_MAX, &found), 3);
			free(section);
		}
		bool there[1001] = {0};
		for (uint32_t i = 0; i < found.count; i++) {
			uint32_t address;
			memcpy(&address, found.source[i].ip + 12, 4);
			there[address] = true;
			assert_true(found.source[i].clicks <= truth[address]);
			assert_true(truth[address] <= found.source[i].clicks + found.source[i].over);
		}
		for (uint32_t address = 1; address <= addresses; address++)
			assert_true(there[address] || truth[address] <= found.missed);
		if (addresses < AGG_SOURCES)
			assert_true(found.missed == 0 && found.source[0].over == 0);
	}
}

static void test_bounds(void **state)
{
	(void)state;
	uint64_t bytes = agg_fold_bytes(1, 300);
	void *memory = aligned_alloc(64, (bytes + 63) & ~UINT64_C(63));
	memset(memory, 0, bytes);
	struct agg_fold *fold = agg_fold_init(memory, 1, 300, GAP_MS);
	const struct told one = {.timestamp_ms = BASE_MS, .user = 1, .ad = 1, .campaign = 1, .verdict = TP_ACCEPTED};
	struct told conflict = one;
	conflict.verdict = TP_CONFLICT;
	assert_true(agg_fold_show(fold, event_of(&conflict)));
	/* none, and that is said */
	_Alignas(8) uint8_t empty[sizeof(struct agg_session_head)];
	assert_int_equal(agg_fold_sessions(fold, empty), sizeof(empty));
	assert_int_equal(agg_sessions_check(empty, sizeof(empty)), 0);
	assert_int_equal(agg_sessions_count(empty), 0);
	assert_int_equal(agg_fold_distinct(fold, NULL), 0);
	assert_int_equal(agg_fold_sources(fold, NULL), 0);
	assert_true(agg_fold_show(fold, event_of(&one)));
	assert_false(agg_fold_show(fold, event_of(&one)));
	free(memory);
}

/* The memory is kept from one log file to the next; events without a user have name 0. */
static void test_nothing_is_left_of_what_lay_there(void **state)
{
	(void)state;
	uint64_t memory_bytes = agg_fold_bytes(1, 300);
	void *memory = aligned_alloc(64, (memory_bytes + 63) & ~UINT64_C(63));
	memset(memory, 0xa5, memory_bytes);
	struct agg_fold *fold = agg_fold_init(memory, 1, 300, GAP_MS);
	assert_int_equal(fold->hash[0], 0);
	assert_int_equal(fold->name[0].bytes, 0);
	free(memory);
}

/* Whoever has numbered the strings gets the same sections. */
static void test_numbered_equals_shown(void **state)
{
	(void)state;
	enum { EVENTS = 3000, USERS = 400, BURST = 32 };
	static uint64_t (*const make[])(struct agg_fold *, void *) = {agg_fold_sessions, agg_fold_distinct, agg_fold_sources};
	static _Alignas(8) char record[BURST][TP_EVENT_BYTES_MAX];
	static struct told told[EVENTS];
	uint64_t bytes = agg_fold_bytes(EVENTS, EVENTS * 300);
	void *memory[2];
	struct agg_fold *fold[2];
	for (int f = 0; f < 2; f++) {
		memory[f] = aligned_alloc(64, (bytes + 63) & ~UINT64_C(63));
		memset(memory[f], 0xa5, bytes);
		fold[f] = agg_fold_init(memory[f], EVENTS, EVENTS * 300, GAP_MS);
	}
	/* numbers as they come, 0 for "not seen"; the empty string has one, too */
	uint32_t number[TP_STRINGS][USERS + 1] = {{0}}, seen[TP_STRINGS] = {0};
	random_state = 77;
	for (uint32_t from = 0; from < EVENTS; from += BURST) {
		const struct tp_event *event[BURST];
		uint32_t of[TP_STRINGS][BURST], count = EVENTS - from < BURST ? EVENTS - from : BURST;
		const uint32_t *string[TP_STRINGS];
		for (uint32_t i = 0; i < count; i++) {
			struct told *one = &told[from + i];
			*one = (struct told){.timestamp_ms = BASE_MS + random_next(3 * GAP_MS),
					     .user = (uint32_t)random_next(USERS),
					     .ad = 1 + (uint32_t)random_next(50),
					     .publisher = (uint32_t)random_next(9),
					     .campaign = 1 + (uint32_t)random_next(20),
					     .address = 1 + (uint32_t)random_next(90),
					     .type = (uint8_t)random_next(TP_EVENT_TYPES),
					     .verdict = random_next(9) ? TP_ACCEPTED : TP_CONFLICT};
			const uint32_t told_string[TP_STRINGS] = {[TP_AD_ID] = one->ad,
								  [TP_CAMPAIGN_ID] = one->campaign,
								  [TP_PUBLISHER_ID] = one->publisher,
								  [TP_USER_ID] = one->user};
			for (int s = 0; s < TP_STRINGS; s++) {
				if (!number[s][told_string[s]])
					number[s][told_string[s]] = ++seen[s];
				of[s][i] = number[s][told_string[s]] - 1;
			}
			const struct tp_event *made = event_of(one);
			memcpy(record[i], made, made->bytes);
			event[i] = (const struct tp_event *)(const void *)record[i];
			assert_true(agg_fold_show(fold[0], event[i]));
		}
		for (int s = 0; s < TP_STRINGS; s++)
			string[s] = of[s];
		assert_true(agg_fold_show_numbered(fold[1], event, count, string));
		for (int m = 0; m < 3 && from == 32 * BURST; m++) /* in between, as a reader asks: what comes then belongs to it */
			assert_int_equal(make[m](fold[0], NULL), make[m](fold[1], NULL));
	}
	for (int m = 0; m < 3; m++) {
		uint64_t length = make[m](fold[0], NULL);
		char *section[2] = {malloc(length), malloc(length)};
		for (int f = 0; f < 2; f++)
			assert_int_equal(make[m](fold[f], section[f]), length);
		assert_memory_equal(section[0], section[1], length);
		free(section[0]);
		free(section[1]);
	}
	free(memory[0]);
	free(memory[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbered_equals_shown),
		cmocka_unit_test(test_sessions_equal_the_model),
		cmocka_unit_test(test_session_edges),
		cmocka_unit_test(test_asking_equals_the_sections),
		cmocka_unit_test(test_distinct_error_is_as_stated),
		cmocka_unit_test(test_distinct_merges_exactly),
		cmocka_unit_test(test_sources_keep_their_bounds),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_nothing_is_left_of_what_lay_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
