/*
 * The issuer: see ctl_billing_issue.h. A thread of its own, with a store of its own, at a low priority.
 *
 *   a period is issued once
 *     its end is behind the watermark        nothing that is in time can come any more
 *     no open log file reaches below its end what came in time is sealed, so that the bill can name its segments
 *                                            (or it has waited for long: then what is missing comes as a correction)
 *
 * Invariants: a bill has every row of its period in segments up to its sequence and none of later ones; the schedule goes on only after all
 * bills of a period are stored. So a kill at any moment leaves bills that are whole, and the rest is issued by the next round. Nothing is
 * stored that was read before another issuer wrote (ctl_ledger_hold_if()): the step is done again.
 */
#include "ctl_billing_issue.h"

#include "ctl_billing_correct.h"
#include "ctl_billing_read.h"
#include "ctl_billing_zone.h"
#include "ctl_ledger_report.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
	LINES_MAX = 1 << 20, /* in memory at once, some 150 bytes each; more advertisers are taken in parts */
	PARTS_MAX = 4096,
	TOGETHER = 64, /* bills of one transaction: others wait for the ledger meanwhile */
	NICE = 10,
};

#define HOUR_MS 3600000ULL
#define DAY_MS  (24 * HOUR_MS)

/* How far back the first round of a new ledger begins. */
static const uint64_t back_ms[CTL_BILLING_PERIODS] = {
	[CTL_HOURLY] = 7 * DAY_MS, [CTL_DAILY] = 35 * DAY_MS, [CTL_MONTHLY] = 62 * DAY_MS};

bool ctl_issuing_wants(const struct ctl_issuing *issuing, enum ctl_billing_period period)
{
	const struct tp_config *config = issuing->config;

	return period == CTL_HOURLY  ? config->billing_issue_hourly
	       : period == CTL_DAILY ? config->billing_issue_daily
				     : config->billing_issue_monthly;
}

static bool stops(const struct ctl_issuing *issuing)
{
	return issuing->stopping && issuing->stopping(issuing->context);
}

/* ---- one period ---- */

/* The bills of one part of the advertisers, who are sorted. */
static int part_put(const struct ctl_issuing *issuing, uint64_t version, struct ctl_report *report, const struct ctl_zone *zone,
		    const struct ctl_billing_sum *sum, uint32_t *issued)
{
	uint32_t together = 0, end;
	int rc = 0;

	for (uint32_t first = 0; first < sum->lines && rc == 0; first = end) {
		struct tp_str advertiser = ctl_billing_advertiser(sum, &sum->line[first]);
		for (end = first + 1; end < sum->lines; end++) {
			struct tp_str next = ctl_billing_advertiser(sum, &sum->line[end]);
			if (next.bytes != advertiser.bytes || memcmp(next.at, advertiser.at, next.bytes) != 0)
				break;
		}
		if (advertiser.bytes > CTL_REPORT_ADVERTISER_BYTES ||
		    ctl_billing_zone_of(issuing->config, advertiser.at, advertiser.bytes) != zone)
			continue;
		memcpy(report->advertiser, advertiser.at, advertiser.bytes);
		report->advertiser_bytes = advertiser.bytes;
		ctl_report_name(report);
		if (!together++)
			rc = ctl_ledger_hold_if(issuing->ledger, version);
		if (rc != 0)
			return rc;
		rc = ctl_ledger_report_put(issuing->ledger, report, ctl_issuing_date(issuing), sum, first, end - first);
		*issued += rc == 0;
		if (rc == -EEXIST)
			rc = 0;
		if (rc != 0 || together == TOGETHER) {
			rc = ctl_ledger_release(issuing->ledger, rc);
			together = 0;
		}
	}
	return together ? ctl_ledger_release(issuing->ledger, rc) : rc;
}

int ctl_issuing_period(const struct ctl_issuing *issuing, uint64_t version, enum ctl_billing_period period,
		       const struct ctl_zone *zone, uint64_t start_ms)
{
	uint64_t end_ms = ctl_zone_next(zone, ctl_billing_unit(period), start_ms);
	const uint64_t bound[] = {start_ms / TP_MINUTE_MS, end_ms / TP_MINUTE_MS};
	struct sto_reader *reader = ctl_store_reader(issuing->store);
	struct ctl_report report = {.period = period, .start_ms = start_ms, .end_ms = end_ms};
	uint32_t parts = 1, issued = 0;
	int rc = 0;

	strncpy(report.zone, ctl_zone_name(zone), sizeof(report.zone) - 1);
	for (uint32_t part = 0; part < parts && rc == 0;) {
		struct ctl_billing_sum sum = {.bound = bound, .periods = 1, .part = part, .parts = parts, .lines_max = LINES_MAX};
		struct ctl_facts facts;
		rc = ctl_billing_read(issuing->store, NULL, &sum, &facts);
		if (sum.too_many && parts < PARTS_MAX) {
			parts *= 2;
			part = 0;
			rc = 0;
		} else if (sum.too_many) {
			tp_logf(TP_ERROR, "bills were not issued: an advertiser has too many campaigns",
				"period=%s start_ms=%" PRIu64 " campaigns_max=%d", ctl_billing_period_name(period), start_ms,
				LINES_MAX);
			part++;
			rc = 0;
		} else if (rc == 0) {
			/* what was read is the snapshot that the reader has now */
			uint32_t segments = sto_reader_segments(reader);
			report.sequence = segments ? sto_reader_segment(reader, segments - 1)->sequence : 0;
			ctl_billing_sum_sort(&sum);
			rc = stops(issuing) ? -EINTR : part_put(issuing, version, &report, zone, &sum, &issued);
			part++;
		}
		ctl_billing_sum_fini(&sum);
	}
	if (issuing->issued)
		issuing->issued->bills += issued;
	if (issued)
		tp_logf(TP_INFO, "bills were issued", "period=%s zone=%s start_ms=%" PRIu64 " bills=%u",
			ctl_billing_period_name(period), ctl_zone_name(zone), start_ms, issued);
	return rc;
}

/* ---- the schedule ---- */

/* Whether an open log file has events of before the end. */
static bool open_before(const struct ctl_issuing *issuing, const struct tp_live *live, uint64_t end_ms)
{
	const uint64_t bound[] = {0, end_ms / TP_MINUTE_MS};
	bool fresh = false;

	ctl_billing_fresh(issuing->store, live, UINT64_MAX, bound, 1, &fresh);
	return fresh;
}

static int schedule_put(const struct ctl_issuing *issuing, uint64_t version, enum ctl_billing_period period,
			const struct ctl_zone *zone, uint64_t from_ms, uint64_t until_ms)
{
	int rc = ctl_ledger_hold_if(issuing->ledger, version);
	if (rc != 0)
		return rc;
	return ctl_ledger_release(issuing->ledger,
				  ctl_ledger_schedule_put(issuing->ledger, period, ctl_zone_name(zone), from_ms, until_ms));
}

static int schedule_run(const struct ctl_issuing *issuing, const struct tp_live *live, enum ctl_billing_period period,
			const struct ctl_zone *zone)
{
	const struct tp_config *config = issuing->config;
	const enum ctl_zone_unit unit = ctl_billing_unit(period);
	uint64_t version, from, until, now = issuing->now_ms;
	uint32_t tries = 0;
	int rc = 0;
	/* longer than a log file stays open and its sealing takes */
	uint64_t patience_ms = HOUR_MS + 2 * config->seal_after_ms;

	while (rc == 0 && !stops(issuing)) {
		rc = ctl_ledger_version(issuing->ledger, &version);
		if (rc == 0)
			rc = ctl_ledger_schedule(issuing->ledger, period, ctl_zone_name(zone), &from, &until);
		if (rc == -ENOENT) {
			from = until = ctl_zone_floor(zone, unit, now > back_ms[period] ? now - back_ms[period] : 0);
			rc = schedule_put(issuing, version, period, zone, from, until);
		}
		if (rc == -EALREADY && tries++ < CTL_ISSUING_TRIES) {
			rc = 0;
			continue;
		}
		if (rc != 0)
			break;
		uint64_t end = ctl_zone_next(zone, unit, until);
		/* acquire: what it calls final is in the tables and segments read below */
		if (end > atomic_load_explicit(&live->watermark_ms, memory_order_acquire))
			break;
		rc = sto_reader_refresh(ctl_store_reader(issuing->store));
		if (rc < 0 || (open_before(issuing, live, end) && now < end + patience_ms))
			return rc < 0 ? rc : 0;
		rc = ctl_issuing_period(issuing, version, period, zone, until);
		/* segments that came meanwhile are in those bills, and the ledger has to know them by their hash */
		if (rc == 0)
			rc = ctl_issuing_segments(issuing);
		if (rc == 0)
			rc = schedule_put(issuing, version, period, zone, from, end);
		if (rc == -EALREADY && tries++ < CTL_ISSUING_TRIES)
			rc = 0;
	}
	return rc;
}

int ctl_issuing_round(const struct ctl_issuing *issuing, const struct tp_live *live)
{
	const struct tp_config *config = issuing->config;

	int rc = sto_reader_refresh(ctl_store_reader(issuing->store));
	if (rc >= 0)
		rc = ctl_issuing_segments(issuing);
	for (uint32_t i = 0; live && i <= config->billing_zone_count && rc == 0; i++) {
		const char *name = i ? config->billing_zones[i - 1].zone : config->billing_zone;
		const struct ctl_zone *zone = ctl_zone_find(name, strlen(name));
		for (enum ctl_billing_period period = 0; period < CTL_BILLING_PERIODS && rc == 0; period++)
			if (zone && ctl_issuing_wants(issuing, period))
				rc = schedule_run(issuing, live, period, zone);
	}
	return rc == -EINTR ? 0 : rc;
}

/* ---- the thread ---- */

struct ctl_issuer {
	struct ctl_issuing issuing;
	struct ctl_views *views;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool stopping; /* under lock */
	int last_error;
};

static bool issuer_stops(void *context)
{
	struct ctl_issuer *issuer = context;

	pthread_mutex_lock(&issuer->lock);
	bool stopping = issuer->stopping;
	pthread_mutex_unlock(&issuer->lock);
	return stopping;
}

static void one_round(struct ctl_issuer *issuer)
{
	struct ctl_look look;

	issuer->issuing.now_ms = tp_now_ms();
	ctl_look_take(issuer->views, &look);
	int rc = ctl_issuing_round(&issuer->issuing, look.figures);
	ctl_look_give(issuer->views, &look);
	/* once, not every minute */
	if (rc != 0 && rc != issuer->last_error)
		tp_logf(TP_ERROR, "bills cannot be issued now", "error=\"%s\"", strerror(-rc));
	issuer->last_error = rc;
}

static void *issuer_run(void *context)
{
	struct ctl_issuer *issuer = context;

	/* of this thread alone, on Linux: queries come first. It works without, too */
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	while (!issuer_stops(issuer)) {
		struct timespec until;
		one_round(issuer);
		clock_gettime(CLOCK_MONOTONIC, &until);
		uint64_t ns = (uint64_t)until.tv_nsec + issuer->issuing.config->billing_interval_ms * 1000000;
		until.tv_sec += (time_t)(ns / 1000000000);
		until.tv_nsec = (long)(ns % 1000000000);
		pthread_mutex_lock(&issuer->lock);
		while (!issuer->stopping && pthread_cond_timedwait(&issuer->news, &issuer->lock, &until) == 0)
			;
		pthread_mutex_unlock(&issuer->lock);
	}
	return NULL;
}

int ctl_issuer_open(struct ctl_issuer **out, const struct tp_config *config, struct ctl_ledger *ledger, struct ctl_views *views)
{
	struct ctl_issuer *issuer = calloc(1, sizeof(*issuer));
	pthread_condattr_t monotonic;

	if (!issuer)
		return -ENOMEM;
	issuer->issuing = (struct ctl_issuing){
		.config = config, .ledger = ledger, .clock_ms = tp_now_ms, .stopping = issuer_stops, .context = issuer};
	issuer->views = views;
	int rc = ctl_store_open(&issuer->issuing.store, config->data_dir);
	if (rc != 0) {
		free(issuer);
		return rc;
	}
	pthread_mutex_init(&issuer->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&issuer->news, &monotonic);
	pthread_condattr_destroy(&monotonic);
	rc = -pthread_create(&issuer->thread, NULL, issuer_run, issuer);
	if (rc != 0) {
		ctl_store_close(issuer->issuing.store);
		free(issuer);
		return rc;
	}
	*out = issuer;
	return 0;
}

void ctl_issuer_close(struct ctl_issuer *issuer)
{
	if (!issuer)
		return;
	pthread_mutex_lock(&issuer->lock);
	issuer->stopping = true;
	pthread_cond_signal(&issuer->news);
	pthread_mutex_unlock(&issuer->lock);
	pthread_join(issuer->thread, NULL);
	ctl_store_close(issuer->issuing.store);
	pthread_cond_destroy(&issuer->news);
	pthread_mutex_destroy(&issuer->lock);
	free(issuer);
}
