/*
 * The issuer against a slow model: events in time and late, segments, rounds that are stopped in the middle, ledgers that are opened again.
 * Whatever the order was: a bill exists for everybody who had a sealed event in a period that was issued, its revisions add up to exactly those
 * events, and what was said once stays.
 */
#include "ctl_billing_issue.h"
#include "ctl_billing_param.h"
#include "ctl_billing_read.h"
#include "ctl_ledger_report.h"
#include "ctl_store.h"
#include "stand_in.h"
#include "turnpike/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW_MS  1774872000000ULL /* 2026-03-30T12:00:00Z: behind the day on which Berlin has 23 hours */
#define HOUR_MS 3600000ULL
#define DAY_MS  (24 * HOUR_MS)

enum { ADVERTISERS = 3, CAMPAIGNS = 3, EVENTS_MAX = 8000, REPORTS_MAX = 4096, STEPS = 160 };

static const struct tp_config_billing_zone zones[] = {{(char *)"adv1", (char *)"Europe/Berlin"},
						      {(char *)"adv2", (char *)"Asia/Kolkata"}};
static const char *const zone_of[ADVERTISERS] = {"UTC", "Europe/Berlin", "Asia/Kolkata"};
static const char *const advertiser_name[ADVERTISERS] = {"adv0", "adv1", "adv2"}, *const campaign_name[CAMPAIGNS] = {"c0", "c1",
														     "c2"};

struct fact {
	uint64_t ms;
	uint32_t advertiser, campaign;
	int64_t micros;
	bool click, flagged, euro;
};

/* Revision 1 of a bill as it was first seen. */
struct said {
	char id[CTL_REPORT_ID_BYTES + 1];
	uint64_t revision;
	int64_t clicks, lines;
};

struct world {
	struct stand_in stand_in;
	struct tp_config config;
	struct ctl_ledger *ledger;
	struct ctl_store *store;
	struct fact *fact;
	uint32_t facts, sealed; /* of the facts */
	struct said *said;
	uint32_t saids;
	uint64_t watermark_ms;
	uint32_t stop_after; /* looks at `stopping` */
	bool busy;           /* events come during a round */
	struct rival *rival; /* another issuer, who has a whole round during one */
};

/* Another process: its own connection to the ledger, its own store. */
struct rival {
	struct ctl_ledger *ledger;
	struct ctl_store *store;
	uint32_t after; /* this many looks at `stopping` */
	bool issues;    /* else it only takes in segments, as one does that has no view of the data process */
	uint64_t ms;    /* of what is sealed before its round */
	uint32_t rounds;
};

static void events_add(struct world *world, uint32_t count);
static void seal(struct world *world);
static uint32_t pick(uint32_t count);
static void rival_run(struct world *world);

/* Looked at between steps: now and then another thread has sealed a log file there. */
static bool stopping(void *context)
{
	struct world *world = context;

	if (world->busy && pick(6) == 0) {
		events_add(world, 1 + pick(20));
		seal(world);
	}
	if (world->rival && world->rival->after && --world->rival->after == 0)
		rival_run(world);
	return world->stop_after && --world->stop_after == 0;
}

static void ledger_open(struct world *world)
{
	assert_int_equal(ctl_ledger_open(&world->ledger, world->stand_in.folder), 0);
}

static void round_run(struct world *world, uint32_t stop_after)
{
	const struct ctl_issuing issuing = {.config = &world->config,
					    .ledger = world->ledger,
					    .store = world->store,
					    .now_ms = NOW_MS,
					    .stopping = stopping,
					    .context = world};

	world->stop_after = stop_after;
	atomic_store(&world->stand_in.live->watermark_ms, world->watermark_ms);
	assert_int_equal(ctl_issuing_round(&issuing, world->stand_in.live), 0);
}

static void event_add(struct world *world, const struct fact *fact);

/* The log file that is sealed now, and somebody else who is quicker with it. */
static void rival_run(struct world *world)
{
	struct rival *rival = world->rival;
	const struct ctl_issuing issuing = {
		.config = &world->config, .ledger = rival->ledger, .store = rival->store, .now_ms = NOW_MS};

	event_add(world, &(struct fact){.ms = rival->ms, .micros = 7, .click = true});
	seal(world);
	assert_int_equal(ctl_issuing_round(&issuing, rival->issues ? world->stand_in.live : NULL), 0);
	rival->rounds++;
}

static uint32_t pick(uint32_t count)
{
	return (uint32_t)random() % count;
}

static void event_add(struct world *world, const struct fact *fact)
{
	struct stand_in_event event = stand_in_click();

	event.timestamp_ms = fact->ms;
	event.type = fact->click ? TP_CLICK : TP_IMPRESSION;
	event.verdict = fact->ms < world->watermark_ms ? TP_LATE : TP_ACCEPTED;
	event.advertiser = advertiser_name[fact->advertiser];
	event.campaign = campaign_name[fact->campaign];
	event.currency = fact->euro ? "EUR" : "USD";
	event.bid_micros = fact->micros;
	event.flagged = fact->click && fact->flagged;
	stand_in_add(&world->stand_in, &event);
	world->fact[world->facts++] = *fact;
}

static void events_add(struct world *world, uint32_t count)
{
	for (uint32_t i = 0; i < count && world->facts < EVENTS_MAX; i++) {
		struct fact fact = {.advertiser = pick(ADVERTISERS),
				    .campaign = pick(CAMPAIGNS),
				    .micros = pick(1000000),
				    .click = pick(4) != 0,
				    .flagged = pick(5) == 0,
				    .euro = pick(2)};
		/* most in time: around the watermark; some anywhere in the days before */
		fact.ms = pick(3) ? world->watermark_ms + pick(HOUR_MS) : NOW_MS - 5 * DAY_MS + (uint64_t)pick(5 * 24 * 60) * 60000;
		if (fact.ms > NOW_MS)
			fact.ms = NOW_MS;
		/* an advertiser who is seldom there: bills are missing, and come late */
		if (fact.advertiser == 0 && pick(20))
			fact.advertiser = 1;
		event_add(world, &fact);
	}
}

/* An empty file is not sealed. */
static void seal(struct world *world)
{
	if (world->sealed != world->facts)
		stand_in_seal(&world->stand_in);
	world->sealed = world->facts;
}

/* ---- the model ---- */

struct expectation {
	int64_t impressions, clicks, flagged;
	__int128 micros[2];
	bool any;
};

static uint32_t expected(const struct world *world, uint32_t advertiser, uint64_t start_ms, uint64_t end_ms,
			 struct expectation campaign[CAMPAIGNS])
{
	uint32_t events = 0;

	memset(campaign, 0, CAMPAIGNS * sizeof(*campaign));
	for (uint32_t i = 0; i < world->sealed; i++) {
		const struct fact *fact = &world->fact[i];
		if (fact->advertiser != advertiser || fact->ms < start_ms || fact->ms >= end_ms)
			continue;
		struct expectation *one = &campaign[fact->campaign];
		events++;
		one->any = true;
		one->impressions += !fact->click;
		one->flagged += fact->click && fact->flagged;
		one->clicks += fact->click && !fact->flagged;
		if (fact->click && !fact->flagged)
			one->micros[fact->euro ? 0 : 1] += fact->micros;
	}
	return events;
}

static void lines_check(const struct ctl_billing_sum *sum, const struct expectation campaign[CAMPAIGNS])
{
	struct expectation found[CAMPAIGNS] = {0};

	for (uint32_t i = 0; i < sum->lines; i++) {
		const struct ctl_billing_line *line = &sum->line[i];
		struct tp_str name = ctl_billing_campaign(sum, line);
		assert_true(name.bytes == 2 && name.at[0] == 'c' && name.at[1] < '0' + CAMPAIGNS);
		struct expectation *one = &found[name.at[1] - '0'];
		one->any = true;
		one->impressions += line->counts.impressions;
		one->clicks += line->counts.clicks;
		one->flagged += line->counts.flagged_clicks;
		for (uint32_t at = line->spend; at; at = sum->spend[at - 1].next)
			one->micros[strcmp(sum->spend[at - 1].currency, "EUR") != 0] += sum->spend[at - 1].micros;
	}
	for (uint32_t i = 0; i < CAMPAIGNS; i++) {
		assert_int_equal(found[i].any, campaign[i].any);
		assert_int_equal(found[i].impressions, campaign[i].impressions);
		assert_int_equal(found[i].clicks, campaign[i].clicks);
		assert_int_equal(found[i].flagged, campaign[i].flagged);
		assert_true(found[i].micros[0] == campaign[i].micros[0] && found[i].micros[1] == campaign[i].micros[1]);
	}
}

/* What revision 1 said is what it says. */
static void said_check(struct world *world, const struct ctl_report *report, const struct ctl_billing_sum *sum)
{
	struct said now = {.revision = report->revision};
	uint32_t at = 0;

	memcpy(now.id, report->id, sizeof(now.id));
	for (uint32_t i = 0; i < sum->lines; i++) {
		assert_true(sum->line[i].period >= 1 && sum->line[i].period <= report->revision);
		now.lines += sum->line[i].period == 1;
		now.clicks += sum->line[i].period == 1 ? sum->line[i].counts.clicks : 0;
	}
	assert_true(now.lines > 0);
	while (at < world->saids && strcmp(world->said[at].id, now.id) != 0)
		at++;
	if (at < world->saids) {
		assert_int_equal(world->said[at].clicks, now.clicks);
		assert_int_equal(world->said[at].lines, now.lines);
		assert_true(world->said[at].revision <= now.revision);
		world->said[at].revision = now.revision;
		return;
	}
	assert_true(world->saids < REPORTS_MAX);
	world->said[world->saids++] = now;
}

static bool count_one(void *context, const struct ctl_report_issue *issue)
{
	uint64_t *issues = context;

	assert_int_equal(issue->revision, ++*issues);
	return true;
}

static bool sequence_see(void *context, uint64_t sequence, const uint8_t sha256[32])
{
	static const uint8_t zeros[32];
	uint64_t *last = context;

	assert_true(sequence > *last);
	assert_memory_not_equal(sha256, zeros, sizeof(zeros));
	*last = sequence;
	return true;
}

static bool segments_see(void *context, const struct ctl_report_issue *issue)
{
	((struct ctl_report_issue *)context)[0] = *issue;
	return true;
}

enum { SAID, SUMS, WHOLE }; /* what was said stays; and the sums are the model's; and nothing is missing */

static uint32_t bills_check(struct world *world, int how)
{
	uint32_t bills = 0;

	for (uint32_t advertiser = 0; advertiser < ADVERTISERS; advertiser++) {
		const struct ctl_zone *zone = ctl_zone_find(zone_of[advertiser], strlen(zone_of[advertiser]));
		assert_non_null(zone);
		for (enum ctl_billing_period period = 0; period < CTL_BILLING_PERIODS; period++) {
			const enum ctl_zone_unit unit = ctl_billing_unit(period);
			uint64_t from = 0, until = 0;
			(void)ctl_ledger_schedule(world->ledger, period, zone_of[advertiser], &from, &until);
			if (how == WHOLE)
				assert_true(ctl_zone_next(zone, unit, until) > world->watermark_ms);
			for (uint64_t start = ctl_zone_floor(zone, unit, NOW_MS - 6 * DAY_MS); start <= NOW_MS;
			     start = ctl_zone_next(zone, unit, start)) {
				struct ctl_report report = {
					.period = period, .start_ms = start, .end_ms = ctl_zone_next(zone, unit, start)};
				struct expectation campaign[CAMPAIGNS];
				struct ctl_billing_sum sum = {.lines_max = 1000};
				uint64_t issues = 0, last = 0;
				strcpy(report.advertiser, advertiser_name[advertiser]);
				report.advertiser_bytes = strlen(report.advertiser);
				strcpy(report.zone, zone_of[advertiser]);
				ctl_report_name(&report);
				uint32_t events = expected(world, advertiser, report.start_ms, report.end_ms, campaign);
				bool there = ctl_ledger_report(world->ledger, report.id, &report) == 0;
				if (how == WHOLE)
					assert_int_equal(there, events > 0 && report.start_ms >= from && report.start_ms < until);
				if (!there)
					continue;
				bills++;
				assert_int_equal(ctl_ledger_lines(world->ledger, report.id, &sum), 0);
				if (how >= SUMS)
					lines_check(&sum, campaign);
				said_check(world, &report, &sum);
				assert_int_equal(ctl_ledger_issues(world->ledger, report.id, count_one, &issues), 0);
				assert_int_equal(issues, report.revision);
				struct ctl_report_issue issue;
				assert_int_equal(ctl_ledger_issues(world->ledger, report.id, segments_see, &issue), 0);
				assert_int_equal(ctl_ledger_report_segments(world->ledger, &report, &issue, sequence_see, &last),
						 0);
				assert_true(how == SAID || (last > 0 && last <= issue.sequence));
				ctl_billing_sum_fini(&sum);
			}
		}
	}
	return bills;
}

static void world_free(struct world *world)
{
	char path[160];

	ctl_ledger_close(world->ledger);
	ctl_store_close(world->store);
	snprintf(path, sizeof(path), "%s/ledger.db", world->stand_in.folder);
	unlink(path);
	stand_in_close(&world->stand_in);
	free(world->fact);
	free(world->said);
	free(world);
}

static void bills_are_what_was_sealed_whatever_the_order(void **state)
{
	(void)state;
	struct world *world = calloc(1, sizeof(*world));
	uint32_t bills = 0, revised = 0;

	assert_non_null(world);
	world->fact = calloc(EVENTS_MAX, sizeof(*world->fact));
	world->said = calloc(REPORTS_MAX, sizeof(*world->said));
	world->config = (struct tp_config){.billing_zone = (char *)"UTC",
					   .billing_zones = (struct tp_config_billing_zone *)zones,
					   .billing_zone_count = 2,
					   .billing_issue_hourly = true,
					   .billing_issue_daily = true,
					   .billing_issue_monthly = true,
					   .seal_after_ms = 300000};
	stand_in_open(&world->stand_in);
	assert_int_equal(ctl_store_open(&world->store, world->stand_in.data_dir), 0);
	ledger_open(world);
	world->watermark_ms = NOW_MS - 5 * DAY_MS;
	srandom(11);
	for (int step = 0; step < STEPS; step++) {
		switch (pick(8)) {
		case 0:
		case 1:
		case 2:
			events_add(world, 1 + pick(60));
			break;
		case 3:
		case 4:
			seal(world);
			break;
		case 5:
			world->watermark_ms += pick(6 * HOUR_MS);
			if (world->watermark_ms > NOW_MS)
				world->watermark_ms = NOW_MS;
			break;
		case 6:
			world->busy = true;
			round_run(world, 1 + pick(30));
			world->busy = false;
			bills_check(world, SAID);
			break;
		default:
			ctl_ledger_close(world->ledger);
			ledger_open(world);
			round_run(world, 0);
			bills_check(world, SUMS);
		}
	}
	/* nothing is open, time has come to its end: all is there */
	world->watermark_ms = NOW_MS;
	seal(world);
	round_run(world, 0);
	bills = bills_check(world, WHOLE);
	/* a round more changes nothing */
	round_run(world, 0);
	assert_int_equal(bills_check(world, WHOLE), bills);
	for (uint32_t i = 0; i < world->saids; i++)
		revised += world->said[i].revision > 1;
	/* the test has seen what it is for */
	assert_true(bills > 100 && revised > 20);
	world_free(world);
}

/*
 * Hour by hour: its events are sealed, its end passes, a round issues its bill; between two steps of that round, one further on each time, more
 * of the hour is sealed, and the other issuer takes it in. Neither may the bill lack it, nor may it have it twice.
 */
static void another_issuer_between_any_two_steps_changes_nothing(void **state)
{
	(void)state;
	enum { PLACES = 10, HOURS = 2 * PLACES };
	struct world *world = calloc(1, sizeof(*world));
	struct rival rival = {0};

	assert_non_null(world);
	world->fact = calloc(EVENTS_MAX, sizeof(*world->fact));
	world->said = calloc(REPORTS_MAX, sizeof(*world->said));
	world->config = (struct tp_config){.billing_zone = (char *)"UTC", .billing_issue_hourly = true, .seal_after_ms = 300000};
	stand_in_open(&world->stand_in);
	assert_int_equal(ctl_store_open(&world->store, world->stand_in.data_dir), 0);
	ledger_open(world);
	assert_int_equal(ctl_ledger_open(&rival.ledger, world->stand_in.folder), 0);
	assert_int_equal(ctl_store_open(&rival.store, world->stand_in.data_dir), 0);
	world->watermark_ms = NOW_MS - HOURS * HOUR_MS;
	round_run(world, 0);
	for (uint32_t hour = 0; hour < HOURS; hour++) {
		/* some for a bill that was issued already: a correction is on its way as well */
		event_add(world, &(struct fact){.ms = world->watermark_ms + 60000, .micros = 1000, .click = true});
		if (hour)
			event_add(world, &(struct fact){.ms = world->watermark_ms - HOUR_MS, .micros = 50, .click = true});
		seal(world);
		rival.ms = hour % 4 < 2 ? world->watermark_ms : world->watermark_ms - HOUR_MS;
		rival.after = hour / 2 + 1;
		rival.issues = hour % 2;
		world->watermark_ms += HOUR_MS;
		world->rival = &rival;
		round_run(world, 0);
		world->rival = NULL;
		/* what was sealed after its last step is for the next one */
		round_run(world, 0);
		bills_check(world, SUMS);
	}
	/* every place there is, and one behind the last */
	assert_true(rival.rounds >= PLACES && rival.rounds < HOURS);

	ctl_ledger_close(rival.ledger);
	ctl_store_close(rival.store);
	world_free(world);
}

/* ---- two processes at once ---- */

enum { ISSUERS = 2, ISSUER_STEPS = 50, ISSUER_LOOK_US = 200 };

/* Lies in memory that all processes share. */
struct issuers {
	_Atomic uint32_t stop;
	_Atomic uint32_t rounds[ISSUERS]; /* done */
};

/* Exit status 0: every round went well. */
static void issuer_process(const struct world *world, struct issuers *issuers, unsigned which)
{
	struct ctl_issuing issuing = {.config = &world->config, .now_ms = NOW_MS};
	int rc = ctl_ledger_open(&issuing.ledger, world->stand_in.folder);

	rc = rc ? rc : ctl_store_open(&issuing.store, world->stand_in.data_dir);
	while (rc == 0 && !atomic_load(&issuers->stop)) {
		rc = ctl_issuing_round(&issuing, world->stand_in.live);
		if (rc == 0)
			atomic_fetch_add(&issuers->rounds[which], 1);
	}
	if (rc != 0)
		fprintf(stderr, "issuer %u: after %u rounds: %s\n", which, atomic_load(&issuers->rounds[which]), strerror(-rc));
	_exit(rc != 0);
}

/* Waits until an issuer has done a round more than `before`, or has ended. */
static void issuer_await(const struct issuers *issuers, const pid_t issuer[ISSUERS], unsigned which, uint32_t before)
{
	siginfo_t ended = {0};

	while (atomic_load(&issuers->rounds[which]) == before && ended.si_pid == 0) {
		usleep(ISSUER_LOOK_US);
		assert_int_equal(waitid(P_PID, (id_t)issuer[which], &ended, WEXITED | WNOHANG | WNOWAIT), 0);
	}
}

static void two_processes_issue_at_once(void **state)
{
	(void)state;
	struct world *world = calloc(1, sizeof(*world));
	struct issuers *issuers = mmap(NULL, sizeof(*issuers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t issuer[ISSUERS];
	uint32_t revised = 0;

	assert_non_null(world);
	assert_true(issuers != MAP_FAILED);
	world->fact = calloc(EVENTS_MAX, sizeof(*world->fact));
	world->said = calloc(REPORTS_MAX, sizeof(*world->said));
	world->config = (struct tp_config){.billing_zone = (char *)"UTC",
					   .billing_zones = (struct tp_config_billing_zone *)zones,
					   .billing_zone_count = 2,
					   .billing_issue_hourly = true,
					   .billing_issue_daily = true,
					   .seal_after_ms = 300000};
	stand_in_open(&world->stand_in);
	assert_int_equal(ctl_store_open(&world->store, world->stand_in.data_dir), 0);
	world->watermark_ms = NOW_MS - 5 * DAY_MS;
	srandom(17);
	for (unsigned i = 0; i < ISSUERS; i++) {
		issuer[i] = fork();
		assert_true(issuer[i] >= 0);
		if (issuer[i] == 0)
			issuer_process(world, issuers, i);
	}
	/* they go on all the time; a step waits for a round of each, so that there are as many on a busy machine */
	for (int step = 0; step < ISSUER_STEPS; step++) {
		uint32_t before[ISSUERS];
		for (unsigned i = 0; i < ISSUERS; i++)
			before[i] = atomic_load(&issuers->rounds[i]);
		events_add(world, 1 + pick(20));
		seal(world);
		world->watermark_ms += pick(2 * HOUR_MS);
		atomic_store(&world->stand_in.live->watermark_ms, world->watermark_ms);
		for (unsigned i = 0; i < ISSUERS; i++)
			issuer_await(issuers, issuer, i, before[i]);
	}
	atomic_store(&issuers->stop, 1);
	for (unsigned i = 0; i < ISSUERS; i++) {
		int status = -1;
		assert_int_equal(waitpid(issuer[i], &status, 0), issuer[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	ledger_open(world);
	round_run(world, 0);
	assert_true(bills_check(world, SUMS) > 20);
	for (uint32_t i = 0; i < world->saids; i++)
		revised += world->said[i].revision > 1;
	assert_true(revised > 10);

	world_free(world);
	munmap(issuers, sizeof(*issuers));
}

static uint64_t later(void)
{
	return NOW_MS + HOUR_MS;
}

static bool issue_take(void *context, const struct ctl_report_issue *issue)
{
	uint64_t *issued_ms = context;

	if (issue->revision <= 2)
		issued_ms[issue->revision - 1] = issue->issued_ms;
	return true;
}

/* An open log file with events of the period holds the bill back, and not for ever. */
static void what_is_not_sealed_is_waited_for(void **state)
{
	(void)state;
	struct world *world = calloc(1, sizeof(*world));
	struct ctl_report report = {.period = CTL_DAILY, .zone = "UTC", .advertiser = "adv0", .advertiser_bytes = 4};
	char path[160];

	assert_non_null(world);
	world->config = (struct tp_config){.billing_zone = (char *)"UTC", .billing_issue_daily = true, .seal_after_ms = 300000};
	stand_in_open(&world->stand_in);
	assert_int_equal(ctl_store_open(&world->store, world->stand_in.data_dir), 0);
	ledger_open(world);
	report.start_ms = ctl_zone_floor(ctl_zone_utc(), CTL_ZONE_DAY, NOW_MS - HOUR_MS * 13);
	ctl_report_name(&report);
	struct stand_in_event event = stand_in_click();
	event.advertiser = "adv0";
	event.timestamp_ms = NOW_MS - 13 * HOUR_MS;
	stand_in_add(&world->stand_in, &event);
	/* its end is not behind the watermark */
	world->watermark_ms = NOW_MS - 13 * HOUR_MS;
	round_run(world, 0);
	assert_int_not_equal(ctl_ledger_report(world->ledger, report.id, &report), 0);
	stand_in_seal(&world->stand_in);
	round_run(world, 0);
	assert_int_not_equal(ctl_ledger_report(world->ledger, report.id, &report), 0);
	/* it is, but a log file with its minutes is open; midnight was twelve hours ago, so patience is over */
	stand_in_add(&world->stand_in, &event);
	world->watermark_ms = NOW_MS;
	struct ctl_issuing issuing = {
		.config = &world->config, .ledger = world->ledger, .store = world->store, .now_ms = NOW_MS - 11 * HOUR_MS};
	atomic_store(&world->stand_in.live->watermark_ms, NOW_MS);
	assert_int_equal(ctl_issuing_round(&issuing, world->stand_in.live), 0);
	assert_int_not_equal(ctl_ledger_report(world->ledger, report.id, &report), 0);
	/* without a view nothing is issued */
	issuing.now_ms = NOW_MS;
	assert_int_equal(ctl_issuing_round(&issuing, NULL), 0);
	assert_int_not_equal(ctl_ledger_report(world->ledger, report.id, &report), 0);
	assert_int_equal(ctl_issuing_round(&issuing, world->stand_in.live), 0);
	assert_int_equal(ctl_ledger_report(world->ledger, report.id, &report), 0);
	assert_int_equal(report.revision, 1);
	/* what was open then is a correction, with the date of the moment it was made and not that of the round's begin */
	stand_in_seal(&world->stand_in);
	issuing.clock_ms = later;
	assert_int_equal(ctl_issuing_round(&issuing, world->stand_in.live), 0);
	assert_int_equal(ctl_ledger_report(world->ledger, report.id, &report), 0);
	assert_int_equal(report.revision, 2);
	uint64_t issued_ms[2] = {0};
	assert_int_equal(ctl_ledger_issues(world->ledger, report.id, issue_take, issued_ms), 0);
	assert_int_equal(issued_ms[0], NOW_MS);
	assert_int_equal(issued_ms[1], NOW_MS + HOUR_MS);

	ctl_ledger_close(world->ledger);
	ctl_store_close(world->store);
	snprintf(path, sizeof(path), "%s/ledger.db", world->stand_in.folder);
	unlink(path);
	stand_in_close(&world->stand_in);
	free(world);
}

/* Sums of segments, of rollup files by minutes, hours and days, and of live tables: the periods of any zone get their own events. */
static void periods_are_read_from_whatever_rollups_there_are(void **state)
{
	(void)state;
	static const char *const zone_name[] = {"UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"};
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->fact = calloc(EVENTS_MAX, sizeof(*world->fact));
	world->watermark_ms = NOW_MS - 5 * DAY_MS;
	stand_in_open(&world->stand_in);
	assert_int_equal(ctl_store_open(&world->store, world->stand_in.data_dir), 0);
	srandom(5);
	/* four sealed files, of which rollup files have been made, and one that is open */
	for (int i = 0; i < 5; i++) {
		events_add(world, 300);
		if (i < 4)
			seal(world);
	}
	world->sealed = world->facts; /* the model's: live ones count too */
	for (size_t z = 0; z < sizeof(zone_name) / sizeof(zone_name[0]); z++) {
		const struct ctl_zone *zone = ctl_zone_find(zone_name[z], strlen(zone_name[z]));
		assert_non_null(zone);
		for (enum ctl_billing_period period = 0; period < CTL_BILLING_PERIODS; period++) {
			uint64_t bound[CTL_BILLING_PERIODS_MAX + 1],
				at = ctl_zone_floor(zone, ctl_billing_unit(period), NOW_MS - 6 * DAY_MS);
			struct ctl_billing_sum sum = {
				.bound = bound, .advertiser = "adv1", .advertiser_bytes = 4, .lines_max = 10000};
			struct ctl_facts facts;
			bound[0] = at / TP_MINUTE_MS;
			while (at <= NOW_MS) {
				at = ctl_zone_next(zone, ctl_billing_unit(period), at);
				bound[++sum.periods] = at / TP_MINUTE_MS;
			}
			assert_int_equal(ctl_billing_read(world->store, world->stand_in.live, &sum, &facts), 0);
			ctl_billing_sum_sort(&sum);
			for (uint32_t i = 0, line = 0; i < sum.periods; i++) {
				struct expectation campaign[CAMPAIGNS];
				struct ctl_billing_sum part = sum;
				expected(world, 1, bound[i] * TP_MINUTE_MS, bound[i + 1] * TP_MINUTE_MS, campaign);
				part.line = sum.line + line;
				for (part.lines = 0; line < sum.lines && sum.line[line].period == i; line++)
					part.lines++;
				lines_check(&part, campaign);
			}
			ctl_billing_sum_fini(&sum);
		}
	}
	ctl_store_close(world->store);
	stand_in_close(&world->stand_in);
	free(world->fact);
	free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bills_are_what_was_sealed_whatever_the_order),
		cmocka_unit_test(another_issuer_between_any_two_steps_changes_nothing),
		cmocka_unit_test(two_processes_issue_at_once),
		cmocka_unit_test(what_is_not_sealed_is_waited_for),
		cmocka_unit_test(periods_are_read_from_whatever_rollups_there_are),
	};
	tp_log_level_set(TP_ERROR);
	return cmocka_run_group_tests_name("ctl_billing_issue", tests, NULL, NULL);
}
