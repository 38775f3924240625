/*
 * The recount against a store of its own: equal when all is well, whatever the memory and wherever the rows lie; and every kind of
 * fault that is planted is found, with its key. Also ranges of HTTP, which are beside it in the library only.
 */
#include "ctl.h"
#include "ctl_ledger.h"
#include "ctl_pull.h"
#include "ctl_reconcile.h"
#include "ctl_recount.h"
#include "stand_in.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINES_MAX = 16, HOUR = 60 };

static const uint64_t NOON = UINT64_C(1700049600000) / 3600000 * 3600000; /* an hour's start */

struct found {
	uint64_t lines, differing;
	uint32_t minute_before;
	struct {
		char campaign[72], advertiser[72], currency[4];
		uint32_t minute;
		struct ctl_recount_sums raw, reported;
	} line[LINES_MAX];
	struct ctl_recount_sums raw;
	struct ctl_recount_facts facts;
};

static void text_take(char *to, struct tp_str from)
{
	assert_true(from.bytes < 72);
	memcpy(to, from.at, from.bytes);
	to[from.bytes] = '\0';
}

static void line_take(void *context, const struct ctl_recount_line *line)
{
	struct found *found = context;

	found->lines++;
	assert_true(line->minute >= found->minute_before); /* they come in order */
	found->minute_before = line->minute;
	found->raw.impressions += line->raw.impressions;
	found->raw.clicks += line->raw.clicks;
	found->raw.flagged_clicks += line->raw.flagged_clicks;
	found->raw.conversions += line->raw.conversions;
	found->raw.late += line->raw.late;
	found->raw.spend_micros += line->raw.spend_micros;
	if (!line->differs || found->differing == LINES_MAX)
		return;
	uint64_t i = found->differing++;
	text_take(found->line[i].campaign, line->campaign);
	text_take(found->line[i].advertiser, line->advertiser);
	memcpy(found->line[i].currency, line->currency, 4);
	found->line[i].minute = line->minute;
	found->line[i].raw = line->raw;
	found->line[i].reported = line->reported;
}

static int recount(const struct stand_in *stand_in, const struct tp_live *live, uint64_t memory, struct found *found)
{
	const struct ctl_recount_ask ask = {.data_dir = stand_in->data_dir,
					    .to_minute = UINT32_MAX,
					    .live = live,
					    .settle_ms = 1,
					    .memory_bytes = memory,
					    .context = found,
					    .line = line_take};

	memset(found, 0, sizeof(*found));
	return ctl_recount_run(&ask, &found->facts);
}

static void equal(const struct stand_in *stand_in, const struct tp_live *live, uint64_t events)
{
	struct found found;

	assert_int_equal(recount(stand_in, live, 0, &found), 0);
	assert_int_equal(found.facts.rows, events);
	assert_int_equal(found.facts.differing, 0);
	assert_int_equal(found.facts.duplicates, 0);
	assert_int_equal(found.facts.moving, 0);
}

/* The next event gets the id of the one before. */
static void same_id(struct stand_in *stand_in)
{
	atomic_fetch_sub(&stand_in->next, 1);
}

static struct stand_in_event event_at(uint64_t ms, enum tp_event_type type)
{
	struct stand_in_event event = stand_in_click();

	event.timestamp_ms = ms;
	event.type = type;
	return event;
}

/* ---- when all is well ---- */

static const char *const campaigns[] = {"camp-a", "camp-b", "camp-c", "c"}, *const advertisers[] = {"adv-a", "adv-b"},
			 *const currencies[] = {"USD", "EUR", "JPY"};

/* Events of several hours in files that overlap, some late, some flagged. Returns how many. */
static uint64_t fill(struct stand_in *stand_in, uint32_t files, uint32_t each)
{
	uint64_t state = 7;

	for (uint32_t f = 0; f < files; f++) {
		for (uint32_t i = 0; i < each; i++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			uint32_t random = (uint32_t)(state >> 33);
			struct stand_in_event event = event_at(NOON + random % (5 * 3600000), (enum tp_event_type)(random / 7 % 3));
			event.campaign = campaigns[random / 11 % 4];
			event.advertiser = advertisers[random / 13 % 2];
			event.currency = currencies[random / 17 % 3];
			event.bid_micros = random % 1000;
			event.flagged = random / 19 % 5 == 0;
			event.verdict = random / 23 % 9 ? TP_ACCEPTED : TP_LATE;
			stand_in_add(stand_in, &event);
		}
		if (f + 1 < files)
			stand_in_seal(stand_in);
	}
	stand_in_commit(stand_in);
	return (uint64_t)files * each;
}

static void it_is_equal_wherever_rows_lie(void **state)
{
	(void)state;
	struct stand_in stand_in;

	stand_in_open(&stand_in);
	equal(&stand_in, stand_in.live, 0);
	uint64_t events = fill(&stand_in, 6, 500);
	equal(&stand_in, stand_in.live, events);
	equal(&stand_in, NULL, events - 500); /* what is sealed */
	stand_in_seal(&stand_in);
	equal(&stand_in, stand_in.live, events);
	equal(&stand_in, NULL, events);
	/* a conflict is in the log and counts nothing */
	struct stand_in_event conflict = event_at(NOON, TP_CLICK);
	conflict.verdict = TP_CONFLICT;
	same_id(&stand_in);
	stand_in_add(&stand_in, &conflict);
	stand_in_commit(&stand_in);
	equal(&stand_in, stand_in.live, events);
	stand_in_seal(&stand_in);
	equal(&stand_in, NULL, events);
	stand_in_close(&stand_in);
}

/* Windows get narrower, then minutes are taken in passes: the answer stays. */
static void little_memory_changes_nothing(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct found wide, narrow;

	stand_in_open(&stand_in);
	fill(&stand_in, 4, 500);
	struct stand_in_event event = event_at(NOON + 60000, TP_CLICK);
	for (int i = 0; i < 1500; i++) /* a minute that is too much for the small ones */
		stand_in_add(&stand_in, &event);
	stand_in_seal(&stand_in);
	assert_int_equal(recount(&stand_in, NULL, 0, &wide), 0);
	assert_int_equal(wide.facts.rows, 3500);
	for (uint64_t memory = 1 << 20; memory >= 16 << 10; memory /= 4) {
		assert_int_equal(recount(&stand_in, NULL, memory, &narrow), 0);
		assert_int_equal(narrow.lines, wide.lines);
		assert_int_equal(narrow.facts.rows, wide.facts.rows);
		assert_int_equal(narrow.facts.differing, 0);
		assert_true(ctl_recount_same(&narrow.raw, &wide.raw));
	}
	assert_true(narrow.facts.rows_read > wide.facts.rows_read); /* it was more work: the limits were met */
	/* more lines in a minute than there is room for cannot be counted */
	for (int i = 0; i < 200; i++) {
		char name[16];
		snprintf(name, sizeof(name), "many-%d", i);
		event.campaign = name;
		stand_in_add(&stand_in, &event);
	}
	stand_in_seal(&stand_in);
	assert_int_equal(recount(&stand_in, NULL, 16 << 10, &narrow), -E2BIG);
	assert_int_equal(recount(&stand_in, NULL, 0, &narrow), 0);
	stand_in_close(&stand_in);
}

/* An amendment moves its click once, in whatever file it lies, and before or behind it. */
static void amendments_move_clicks(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct found found;

	stand_in_open(&stand_in);
	struct stand_in_event click = event_at(NOON, TP_CLICK), amendment = click;
	click.flagged = true;
	amendment.verdict = TP_AMENDED;
	stand_in_add(&stand_in, &click);
	stand_in_seal(&stand_in);
	assert_int_equal(recount(&stand_in, NULL, 0, &found), 0);
	assert_int_equal(found.raw.flagged_clicks, 1);
	same_id(&stand_in);
	stand_in_add(&stand_in, &amendment);
	stand_in_seal(&stand_in);
	/* tags that stay move nothing */
	amendment.flagged = true;
	same_id(&stand_in);
	stand_in_add(&stand_in, &amendment);
	stand_in_seal(&stand_in);
	assert_int_equal(recount(&stand_in, NULL, 0, &found), 0);
	assert_int_equal(found.facts.differing, 0);
	assert_int_equal(found.raw.flagged_clicks, 0);
	assert_int_equal(found.raw.clicks, 1);
	assert_int_equal(found.raw.late, 1);
	assert_true(found.raw.spend_micros == 1000000);
	/* taken back twice: the reported figures have moved twice */
	amendment.flagged = false;
	same_id(&stand_in);
	stand_in_add(&stand_in, &amendment);
	stand_in_seal(&stand_in);
	assert_int_equal(recount(&stand_in, NULL, 0, &found), 0);
	assert_int_equal(found.differing, 1);
	assert_int_equal(found.line[0].raw.clicks, 1);
	assert_int_equal(found.line[0].reported.clicks, 2);
	stand_in_close(&stand_in);
}

/* ---- planted faults ---- */

static void a_row_that_is_there_twice_is_found(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct found found;

	stand_in_open(&stand_in);
	fill(&stand_in, 2, 300);
	stand_in_seal(&stand_in);
	struct stand_in_event click = event_at(NOON + 90000, TP_CLICK);
	click.campaign = "camp-twice";
	click.advertiser = "adv-b";
	click.currency = "EUR";
	stand_in_add(&stand_in, &click);
	stand_in_seal(&stand_in);
	same_id(&stand_in);
	stand_in_add(&stand_in, &click);
	for (int sealed = 0; sealed < 2; sealed++) {
		stand_in_commit(&stand_in);
		assert_int_equal(recount(&stand_in, sealed ? NULL : stand_in.live, 0, &found), 0);
		assert_int_equal(found.facts.duplicates, 1);
		assert_int_equal(found.differing, 1);
		assert_string_equal(found.line[0].campaign, "camp-twice");
		assert_string_equal(found.line[0].advertiser, "adv-b");
		assert_string_equal(found.line[0].currency, "EUR");
		assert_int_equal(found.line[0].minute, NOON / 60000 + 1);
		assert_int_equal(found.line[0].raw.clicks, 1);
		assert_int_equal(found.line[0].reported.clicks, 2);
		if (!sealed)
			stand_in_seal(&stand_in);
	}
	/* the same id under another minute is another event */
	click.timestamp_ms += 60000;
	same_id(&stand_in);
	stand_in_add(&stand_in, &click);
	stand_in_commit(&stand_in);
	assert_int_equal(recount(&stand_in, stand_in.live, 0, &found), 0);
	assert_int_equal(found.facts.duplicates, 1);
	stand_in_close(&stand_in);
}

/* Two faults that cancel out in every total but the minute's. */
static void a_table_that_was_added_up_wrong_is_found(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct found found;

	stand_in_open(&stand_in);
	struct stand_in_event click = event_at(NOON, TP_CLICK);
	stand_in_add(&stand_in, &click);
	click.timestamp_ms = NOON + 60000;
	stand_in_add(&stand_in, &click);
	stand_in_commit(&stand_in);
	equal(&stand_in, stand_in.live, 2);
	/* the click of one minute is moved into the other's row */
	struct tp_rollup_row *rows = (struct tp_rollup_row *)(uintptr_t)tp_rollup_rows(stand_in.table);
	rows[0].sums.clicks = 0;
	rows[0].sums.spend_micros = 0;
	rows[1].sums.clicks = 2;
	rows[1].sums.spend_micros = 2000000;
	assert_int_equal(recount(&stand_in, stand_in.live, 0, &found), 0);
	assert_int_equal(found.differing, 2);
	assert_int_equal(found.line[0].minute, NOON / 60000);
	assert_int_equal(found.line[0].reported.clicks, 0);
	assert_int_equal(found.line[1].reported.clicks, 2);
	/* a micro of money */
	rows[0].sums.clicks = rows[1].sums.clicks = 1;
	rows[0].sums.spend_micros = 1000000;
	rows[1].sums.spend_micros = 1000001;
	assert_int_equal(recount(&stand_in, stand_in.live, 0, &found), 0);
	assert_int_equal(found.differing, 1);
	rows[1].sums.spend_micros = 1000000;
	equal(&stand_in, stand_in.live, 2);
	/* an event in the log that no table has */
	rows[0].sums.clicks = 0;
	rows[0].sums.spend_micros = 0;
	assert_int_equal(recount(&stand_in, stand_in.live, 0, &found), 0);
	assert_int_equal(found.differing, 1);
	assert_int_equal(found.line[0].raw.clicks, 1);
	stand_in_close(&stand_in);
}

/* ---- the thread ---- */

struct runs {
	uint32_t count, equal;
	struct ctl_ledger_recount last;
};

static bool run_take(void *context, const struct ctl_ledger_recount *recount)
{
	struct runs *runs = context;

	if (!runs->count++)
		runs->last = *recount;
	runs->equal += recount->differences == 0;
	return true;
}

static bool difference_take(void *context, const struct ctl_ledger_difference *difference)
{
	uint32_t *count = context;

	assert_int_equal(difference->minute, NOON / 60000);
	assert_memory_equal(difference->campaign, "camp-1", difference->campaign_bytes);
	assert_int_equal(difference->raw.clicks, 1);
	assert_int_equal(difference->reported.clicks, 2);
	(*count)++;
	return true;
}

static void runs_wait(struct ctl_ledger *ledger, uint64_t from, uint64_t to, uint32_t wanted, struct runs *runs)
{
	for (int i = 0; i < 9000; i++) {
		*runs = (struct runs){0};
		assert_int_equal(ctl_ledger_recounts(ledger, from, to, 100, run_take, runs), 0);
		if (runs->count >= wanted)
			return;
		usleep(10000);
	}
	fail_msg("no recount came about");
}

static void hours_are_counted_when_they_close(void **state)
{
	(void)state;
	struct stand_in stand_in;
	struct ctl ctl = {.config = {.max_future_ms = 60000}};
	struct runs runs;
	enum ctl_reconciled reconciled;
	char *text = NULL;
	size_t bytes = 0;
	const uint64_t hour = NOON / 60000;

	stand_in_open(&stand_in);
	char state_dir[128];
	snprintf(state_dir, sizeof(state_dir), "%s/state", stand_in.folder);
	assert_int_equal(mkdir(state_dir, 0700), 0);
	ctl.config.data_dir = stand_in.data_dir;
	struct stand_in_event click = event_at(NOON, TP_CLICK);
	stand_in_add(&stand_in, &click);
	stand_in_seal(&stand_in);
	click.timestamp_ms += 3600000;
	stand_in_add(&stand_in, &click);
	same_id(&stand_in);
	click.timestamp_ms -= 3600000;
	atomic_fetch_sub(&stand_in.next, 1);
	stand_in_add(&stand_in, &click); /* the first one again */
	stand_in_commit(&stand_in);
	atomic_store(&stand_in.live->watermark_ms, NOON + 2 * 3600000);
	assert_int_equal(ctl_views_open(&ctl.views, ctl.config.data_dir), 0);
	assert_int_equal(ctl_ledger_open(&ctl.ledger, state_dir), 0);
	bool there = false;
	for (int i = 0; i < 9000 && !there; i++) { /* without the view nothing tells that a file is not sealed */
		struct ctl_look look;
		ctl_look_take(ctl.views, &look);
		there = look.figures != NULL;
		ctl_look_give(ctl.views, &look);
		usleep(10000);
	}
	assert_true(there);
	assert_int_equal(ctl_reconcile_open(&ctl.reconcile, &ctl), 0);
	usleep(1500000); /* two looks: rows of both hours are not sealed, so nothing may be counted */
	runs = (struct runs){0};
	assert_int_equal(ctl_ledger_recounts(ctl.ledger, hour, hour + 2 * HOUR, 100, run_take, &runs), 0);
	assert_int_equal(runs.count, 0);
	stand_in_seal(&stand_in);
	runs_wait(ctl.ledger, hour + HOUR, hour + 2 * HOUR, 1, &runs);
	assert_int_equal(runs.equal, 1);
	assert_int_equal(runs.last.events, 1);
	runs_wait(ctl.ledger, hour, hour + HOUR, 1, &runs);
	assert_int_equal(runs.equal, 0);
	assert_int_equal(runs.last.differences, 1);
	assert_int_equal(runs.last.sequence, 2);
	uint32_t differences = 0;
	assert_int_equal(ctl_ledger_differences(ctl.ledger, runs.last.id, difference_take, &differences), 0);
	assert_int_equal(differences, 1);
	assert_int_equal(ctl_ledger_reconciled(ctl.ledger, hour + HOUR, hour + 2 * HOUR, NULL, 0, &reconciled), 0);
	assert_int_equal(reconciled, CTL_RECONCILED_YES);
	assert_int_equal(ctl_ledger_reconciled(ctl.ledger, hour, hour + 2 * HOUR, NULL, 0, &reconciled), 0);
	assert_int_equal(reconciled, CTL_RECONCILED_DIFFERS);
	ctl_reconcile_close(ctl.reconcile);
	assert_int_equal(ctl_reconcile_open(&ctl.reconcile, &ctl), 0); /* what is in the ledger is not counted again */
	usleep(1200000);
	FILE *to = open_memstream(&text, &bytes);
	ctl_reconcile_metrics(ctl.reconcile, to);
	fclose(to);
	assert_non_null(strstr(text, "turnpike_control_reconcile_runs_total{period=\"hour\"} 0\n"));
	free(text);
	ctl_reconcile_close(ctl.reconcile);
	ctl_ledger_close(ctl.ledger);
	ctl_views_close(ctl.views);
	stand_in_close(&stand_in);
}

/* ---- ranges of HTTP ---- */

static void ranges_are_those_of_the_rfc(void **state)
{
	(void)state;
	static const struct {
		const char *header;
		uint64_t bytes;
		enum ctl_range kind;
		uint64_t first, last;
	} cases[] = {
		{NULL, 10, CTL_RANGE_WHOLE, 0, 9},
		{"bytes=0-0", 10, CTL_RANGE_PART, 0, 0},
		{"bytes=9-", 10, CTL_RANGE_PART, 9, 9},
		{"bytes=-3", 10, CTL_RANGE_PART, 7, 9},
		{"bytes=-30", 10, CTL_RANGE_PART, 0, 9},
		{"Bytes= 3-4 ", 10, CTL_RANGE_PART, 3, 4},
		{"bytes=3-400", 10, CTL_RANGE_PART, 3, 9},
		{"bytes=10-", 10, CTL_RANGE_NONE, 0, 0},
		{"bytes=-0", 10, CTL_RANGE_NONE, 0, 0},
		{"bytes=0-", 0, CTL_RANGE_NONE, 0, 0},
		{"bytes=18446744073709551616-", 10, CTL_RANGE_NONE, 0, 0},
		{"bytes=0-18446744073709551616", 10, CTL_RANGE_PART, 0, 9},
		{"bytes=4-3", 10, CTL_RANGE_WHOLE, 0, 9},
		{"bytes=1-2,3-4", 10, CTL_RANGE_WHOLE, 0, 9},
		{"bytes=+1-2", 10, CTL_RANGE_WHOLE, 0, 9},
		{"bytes=1", 10, CTL_RANGE_WHOLE, 0, 9},
		{"bytes=", 10, CTL_RANGE_WHOLE, 0, 9},
		{"items=1-2", 10, CTL_RANGE_WHOLE, 0, 9},
	};
	uint64_t first, last, sequence;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(ctl_range_read(cases[i].header, cases[i].bytes, &first, &last), cases[i].kind);
		if (cases[i].kind != CTL_RANGE_PART)
			continue;
		assert_int_equal(first, cases[i].first);
		assert_int_equal(last, cases[i].last);
	}
	assert_true(ctl_tag_listed("\"a\", W/\"b,c\" ,\"d\"", "\"d\""));
	assert_true(ctl_tag_listed("\"a\", W/\"b,c\"", "\"b,c\""));
	assert_false(ctl_tag_listed("\"a\", \"dd\"", "\"d\""));
	assert_false(ctl_tag_listed("\"xd\"", "d\""));
	assert_false(ctl_tag_listed("", "\"d\""));
	assert_true(ctl_pull_id("00000000000000ff", 16, &sequence));
	assert_int_equal(sequence, 255);
	assert_false(ctl_pull_id("00000000000000fF", 16, &sequence));
	assert_false(ctl_pull_id("0000000000000000ff", 18, &sequence));
	assert_false(ctl_pull_id("", 0, &sequence));
	assert_false(ctl_pull_id("../../../../node", 16, &sequence));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_equal_wherever_rows_lie),
		cmocka_unit_test(little_memory_changes_nothing),
		cmocka_unit_test(amendments_move_clicks),
		cmocka_unit_test(a_row_that_is_there_twice_is_found),
		cmocka_unit_test(a_table_that_was_added_up_wrong_is_found),
		cmocka_unit_test(hours_are_counted_when_they_close),
		cmocka_unit_test(ranges_are_those_of_the_rfc),
	};
	tp_log_level_set(TP_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
