/* The thread that counts again; see ctl_reconcile.h. */
#include "ctl_reconcile.h"

#include "ctl.h"
#include "ctl_ledger.h"
#include "ctl_recount.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	TICK_S = 1,
	TICKS_MAX = 10, /* without a look */
	PATH_BYTES = 4096,
	HOUR = 60,
	DAY = 1440,
	HOURS_BACK = 48, /* hours are counted by themselves so far back; older ones with their day */
	DAYS_BACK = 31,
	AGAIN_MS = 600000, /* the same hour or day, when late events keep coming */
	TURN_WAIT_S = 5,
	LOGGED_MAX = 20, /* differing keys of a run that get a line each */
	NICE = 19,
	IDLE_CLASS = 3 << 13, /* IOPRIO_CLASS_IDLE */
};

#define MEMORY_BYTES (UINT64_C(128) << 20)

enum period { PERIOD_HOUR, PERIOD_DAY, PERIODS };
static const struct {
	const char *name;
	uint64_t minutes, back;
} periods[PERIODS] = {{"hour", HOUR, HOURS_BACK}, {"day", DAY, DAYS_BACK}};

enum { TRIED = 64 };

struct ctl_reconcile {
	struct ctl *ctl;
	pthread_t thread;
	pthread_mutex_t lock, turn;
	pthread_cond_t wake;
	_Atomic bool stop;
	struct {
		uint64_t number, at_ms;
	} tried[PERIODS][TRIED]; /* the thread's own, as the next two */
	struct {
		ino_t inode;
		off_t bytes;
		uint64_t hour;
		uint32_t ticks;
	} seen;
	bool busy;
	/* written by the thread, read by /metrics */
	_Atomic uint64_t runs[PERIODS], failures, events, differences, busy_ns;
	_Atomic uint64_t differing[PERIODS]; /* keys, in the last run */
	_Atomic uint64_t equal_at_ms;
};

/* ---- one run ---- */

struct finding {
	struct ctl_reconcile *reconcile;
	struct ctl_ledger_difference *difference;
	uint32_t kept;
	uint64_t found;
};

static struct ctl_ledger_figures figures_of(const struct ctl_recount_sums *sums)
{
	return (struct ctl_ledger_figures){.impressions = sums->impressions,
					   .clicks = sums->clicks,
					   .flagged_clicks = sums->flagged_clicks,
					   .conversions = sums->conversions,
					   .spend_micros = sums->spend_micros};
}

static void figures_add(struct ctl_ledger_figures *to, const struct ctl_recount_sums *sums)
{
	to->impressions += sums->impressions;
	to->clicks += sums->clicks;
	to->flagged_clicks += sums->flagged_clicks;
	to->conversions += sums->conversions;
	to->spend_micros += sums->spend_micros;
}

static void alert(const struct ctl_recount_line *line)
{
	char minute[32], raw[64], reported[64], campaign[3 * TP_ID_BYTES_MAX + 1];
	size_t at = 0;

	/* what a beacon sent, as a value of a log line */
	for (uint16_t i = 0; i < line->campaign.bytes && at + 4 < sizeof(campaign); i++) {
		unsigned char c = (unsigned char)line->campaign.at[i];
		if (c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '%')
			campaign[at++] = (char)c;
		else
			at += (size_t)snprintf(campaign + at, sizeof(campaign) - at, "%%%02x", c);
	}
	campaign[at] = '\0';
	tp_time_text((uint64_t)line->minute * TP_MINUTE_MS, minute);
	tp_micros_text(line->raw.spend_micros, raw);
	tp_micros_text(line->reported.spend_micros, reported);
	tp_logf(TP_ERROR, "reconciliation: a reported figure is not what the raw rows say",
		"minute=%s campaign=\"%s\" currency=%s impressions=%" PRIu64 "/%" PRIu64 " clicks=%" PRIu64 "/%" PRIu64
		" flagged_clicks=%" PRIu64 "/%" PRIu64 " conversions=%" PRIu64 "/%" PRIu64 " spend=%s/%s order=raw/reported",
		minute, campaign, line->currency, line->raw.impressions, line->reported.impressions, line->raw.clicks,
		line->reported.clicks, line->raw.flagged_clicks, line->reported.flagged_clicks, line->raw.conversions,
		line->reported.conversions, raw, reported);
}

/* The ledger's keys have no advertiser: lines of one campaign under two come together. */
static struct ctl_ledger_difference *difference_find(struct finding *finding, const struct ctl_recount_line *line)
{
	for (uint32_t i = finding->kept; i-- > 0 && finding->difference[i].minute == line->minute;) {
		struct ctl_ledger_difference *one = &finding->difference[i];
		if (one->campaign_bytes == line->campaign.bytes && !memcmp(one->campaign, line->campaign.at, one->campaign_bytes) &&
		    !memcmp(one->currency, line->currency, 3))
			return one;
	}
	return NULL;
}

static void line_take(void *context, const struct ctl_recount_line *line)
{
	struct finding *finding = context;

	if (!line->differs)
		return;
	if (finding->found++ < LOGGED_MAX)
		alert(line);
	struct ctl_ledger_difference *there = difference_find(finding, line);
	if (there) {
		figures_add(&there->raw, &line->raw);
		figures_add(&there->reported, &line->reported);
		finding->found--;
		return;
	}
	char *campaign = finding->kept < CTL_LEDGER_DIFFERENCES_MAX ? malloc(line->campaign.bytes + 1U) : NULL;
	if (!campaign)
		return;
	memcpy(campaign, line->campaign.at, line->campaign.bytes);
	struct ctl_ledger_difference *one = &finding->difference[finding->kept++];
	*one = (struct ctl_ledger_difference){.minute = line->minute,
					      .campaign = campaign,
					      .campaign_bytes = line->campaign.bytes,
					      .raw = figures_of(&line->raw),
					      .reported = figures_of(&line->reported)};
	memcpy(one->currency, line->currency, sizeof(one->currency));
}

static bool may_go_on(void *context)
{
	struct finding *finding = context;
	return !atomic_load_explicit(&finding->reconcile->stop, memory_order_relaxed);
}

static int recount_store(struct ctl_reconcile *reconcile, const struct ctl_recount_ask *ask, const struct ctl_recount_facts *facts,
			 const struct finding *finding)
{
	struct ctl_ledger_recount recount = {
		.from_minute = ask->from_minute,
		.to_minute = ask->to_minute,
		.at_ms = tp_now_ms(),
		.sequence = facts->segment_last,
		.segments = facts->segments,
		.events = facts->rows,
		.differences = finding->found,
		.difference = finding->difference,
		.kept = finding->kept,
	};

	memcpy(recount.chain_sha256, facts->chain_sha256, sizeof(recount.chain_sha256));
	return ctl_ledger_recount_store(reconcile->ctl->ledger, &recount);
}

static void run_count(struct ctl_reconcile *reconcile, enum period period, const struct ctl_recount_facts *facts,
		      uint64_t differing)
{
	atomic_fetch_add(&reconcile->runs[period], 1);
	atomic_fetch_add(&reconcile->events, facts->rows);
	atomic_fetch_add(&reconcile->differences, differing);
	atomic_fetch_add(&reconcile->busy_ns, facts->elapsed_ns);
	atomic_store(&reconcile->differing[period], differing);
	if (!differing)
		atomic_store(&reconcile->equal_at_ms, tp_now_ms());
}

static void run(struct ctl_reconcile *reconcile, enum period period, uint64_t from_minute, uint64_t to_minute)
{
	struct finding finding = {.reconcile = reconcile};
	struct ctl_recount_facts facts = {0};
	const struct ctl_recount_ask ask = {.data_dir = reconcile->ctl->config.data_dir,
					    .from_minute = from_minute,
					    .to_minute = to_minute,
					    .memory_bytes = MEMORY_BYTES,
					    .context = &finding,
					    .line = line_take,
					    .go_on = may_go_on};
	char from[32], to[32];

	tp_time_text(from_minute * TP_MINUTE_MS, from);
	tp_time_text(to_minute * TP_MINUTE_MS, to);
	finding.difference = malloc(CTL_LEDGER_DIFFERENCES_MAX * sizeof(*finding.difference));
	int rc = finding.difference ? ctl_recount_run(&ask, &facts) : -ENOMEM;
	if (!rc)
		rc = recount_store(reconcile, &ask, &facts, &finding);
	if (!rc) {
		run_count(reconcile, period, &facts, finding.found);
		tp_logf(finding.found ? TP_ERROR : TP_INFO, finding.found ? "reconciliation found differences" : "reconciled",
			"period=%s from=%s to=%s events=%" PRIu64 " keys=%" PRIu64 " differences=%" PRIu64 " segments=%" PRIu64
			" ms=%" PRIu64,
			periods[period].name, from, to, facts.rows, facts.lines, finding.found, facts.segments,
			facts.elapsed_ns / 1000000);
	} else if (rc != -ECANCELED) {
		atomic_fetch_add(&reconcile->failures, 1);
		tp_logf(TP_ERROR, "cannot reconcile", "period=%s from=%s to=%s error=\"%s\" damaged_%s=%" PRIu64,
			periods[period].name, from, to, strerror(-rc), facts.damaged_rollup ? "rollup" : "segment",
			facts.damaged_sequence);
	}
	for (uint32_t i = 0; i < finding.kept; i++)
		free((void *)(uintptr_t)finding.difference[i].campaign);
	free(finding.difference);
}

/* ---- what is due ---- */

static bool covers(void *context, const struct ctl_ledger_recount *recount)
{
	uint64_t *range = context;

	if (recount->from_minute <= range[0] && recount->to_minute >= range[1])
		range[2] = 1;
	return !range[2];
}

/* Whether these minutes want counting: never counted, or events came since; a day also wants one run over all of it. */
static bool is_due(struct ctl_reconcile *reconcile, enum period period, uint64_t from, uint64_t to)
{
	enum ctl_reconciled reconciled;
	uint64_t range[3] = {from, to, 0};
	struct ctl_ledger *ledger = reconcile->ctl->ledger;

	if (ctl_ledger_reconciled(ledger, from, to, NULL, 0, &reconciled) != 0)
		return false; /* said by the ledger */
	if (reconciled == CTL_RECONCILED_NO)
		return true;
	return period == PERIOD_DAY && ctl_ledger_recounts(ledger, from, to, 1000, covers, range) == 0 && !range[2];
}

static bool tried_lately(struct ctl_reconcile *reconcile, enum period period, uint64_t number)
{
	const uint64_t now_ms = tp_now_ms(), at = number % TRIED;

	if (reconcile->tried[period][at].number == number && now_ms - reconcile->tried[period][at].at_ms < AGAIN_MS)
		return true;
	reconcile->tried[period][at].number = number;
	reconcile->tried[period][at].at_ms = now_ms;
	return false;
}

/* Counts one hour or day that is due, the newest first. False: nothing is. */
static bool period_run(struct ctl_reconcile *reconcile, enum period period, const struct ctl_recount_range *range)
{
	const uint64_t minutes = periods[period].minutes, last = range->sealed_minute / minutes;

	for (uint64_t back = 1; back <= periods[period].back && back <= last; back++) {
		const uint64_t number = last - back;
		uint64_t from = number * minutes, to = from + minutes;
		if (to <= range->from_minute)
			break;
		if (from < range->whole_minute)
			from = range->whole_minute; /* the rest of it can no longer be counted */
		if (from >= to || !is_due(reconcile, period, from, to) || tried_lately(reconcile, period, number))
			continue;
		run(reconcile, period, from, to);
		return true;
	}
	return false;
}

/* Whether something may have become due: the manifest or the clock's hour changed; and now and then in any case. */
static bool is_worth_a_look(struct ctl_reconcile *reconcile)
{
	char path[PATH_BYTES];
	struct stat stat_now = {0};
	const uint64_t hour = tp_now_ms() / TP_MINUTE_MS / HOUR;

	snprintf(path, sizeof(path), "%s/manifest", reconcile->ctl->config.data_dir);
	(void)stat(path, &stat_now); /* not there: all zeros */
	const bool same = stat_now.st_ino == reconcile->seen.inode && stat_now.st_size == reconcile->seen.bytes &&
			  hour == reconcile->seen.hour;
	if (same && ++reconcile->seen.ticks < TICKS_MAX)
		return false;
	reconcile->seen.inode = stat_now.st_ino;
	reconcile->seen.bytes = stat_now.st_size;
	reconcile->seen.hour = hour;
	reconcile->seen.ticks = 0;
	return true;
}

/* True: something was done, there may be more. */
static bool tick(struct ctl_reconcile *reconcile)
{
	struct ctl_recount_range range;
	struct ctl_look look;

	if (!reconcile->busy && !is_worth_a_look(reconcile))
		return false;
	ctl_look_take(reconcile->ctl->views, &look);
	int rc = ctl_recount_range(reconcile->ctl->config.data_dir, look.figures, reconcile->ctl->config.max_future_ms, &range);
	ctl_look_give(reconcile->ctl->views, &look);
	reconcile->busy = !rc && (period_run(reconcile, PERIOD_HOUR, &range) || period_run(reconcile, PERIOD_DAY, &range));
	return reconcile->busy;
}

static void *reconcile_thread(void *context)
{
	struct ctl_reconcile *reconcile = context;

	/* after everybody else; where the kernel does not allow it, as anybody */
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	(void)syscall(SYS_ioprio_set, 1, 0, IDLE_CLASS);
	pthread_mutex_lock(&reconcile->lock);
	while (!reconcile->stop) {
		struct timespec until;
		pthread_mutex_unlock(&reconcile->lock);
		bool more = tick(reconcile);
		pthread_mutex_lock(&reconcile->lock);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += TICK_S;
		if (!reconcile->stop && !more)
			pthread_cond_timedwait(&reconcile->wake, &reconcile->lock, &until);
	}
	pthread_mutex_unlock(&reconcile->lock);
	return NULL;
}

/* ---- from outside ---- */

int ctl_reconcile_open(struct ctl_reconcile **reconcile, struct ctl *ctl)
{
	struct ctl_reconcile *made = calloc(1, sizeof(*made));
	pthread_condattr_t attributes;

	if (!made)
		return -ENOMEM;
	made->ctl = ctl;
	pthread_mutex_init(&made->lock, NULL);
	pthread_mutex_init(&made->turn, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&made->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	int rc = pthread_create(&made->thread, NULL, reconcile_thread, made);
	if (rc) {
		free(made);
		return -rc;
	}
	*reconcile = made;
	return 0;
}

void ctl_reconcile_close(struct ctl_reconcile *reconcile)
{
	if (!reconcile)
		return;
	pthread_mutex_lock(&reconcile->lock);
	reconcile->stop = true;
	pthread_cond_signal(&reconcile->wake);
	pthread_mutex_unlock(&reconcile->lock);
	pthread_join(reconcile->thread, NULL);
	pthread_cond_destroy(&reconcile->wake);
	pthread_mutex_destroy(&reconcile->turn);
	pthread_mutex_destroy(&reconcile->lock);
	free(reconcile);
}

bool ctl_reconcile_turn_take(struct ctl_reconcile *reconcile)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += TURN_WAIT_S;
	return pthread_mutex_clocklock(&reconcile->turn, CLOCK_MONOTONIC, &until) == 0;
}

void ctl_reconcile_turn_give(struct ctl_reconcile *reconcile)
{
	pthread_mutex_unlock(&reconcile->turn);
}

static void metric_head(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP turnpike_control_reconcile_%s %s\n# TYPE turnpike_control_reconcile_%s %s\n", name, help, name, type);
}

void ctl_reconcile_metrics(struct ctl_reconcile *reconcile, FILE *to)
{
	if (!reconcile)
		return;
	metric_head(to, "runs_total", "counter", "Recounts from raw segments that came to an end");
	for (int i = 0; i < PERIODS; i++)
		fprintf(to, "turnpike_control_reconcile_runs_total{period=\"%s\"} %" PRIu64 "\n", periods[i].name,
			atomic_load(&reconcile->runs[i]));
	metric_head(to, "differing_keys", "gauge", "Keys (minute, campaign, currency) that differed in the last recount");
	for (int i = 0; i < PERIODS; i++)
		fprintf(to, "turnpike_control_reconcile_differing_keys{period=\"%s\"} %" PRIu64 "\n", periods[i].name,
			atomic_load(&reconcile->differing[i]));
	metric_head(to, "differences_total", "counter", "Differing keys that recounts found");
	fprintf(to, "turnpike_control_reconcile_differences_total %" PRIu64 "\n", atomic_load(&reconcile->differences));
	metric_head(to, "failures_total", "counter", "Recounts that could not be done");
	fprintf(to, "turnpike_control_reconcile_failures_total %" PRIu64 "\n", atomic_load(&reconcile->failures));
	metric_head(to, "events_total", "counter", "Events that recounts counted");
	fprintf(to, "turnpike_control_reconcile_events_total %" PRIu64 "\n", atomic_load(&reconcile->events));
	metric_head(to, "busy_seconds_total", "counter", "Time that recounts took");
	fprintf(to, "turnpike_control_reconcile_busy_seconds_total %.3f\n", (double)atomic_load(&reconcile->busy_ns) / 1e9);
	metric_head(to, "equal_time_seconds", "gauge", "When a recount last found all equal, in seconds since 1970; 0: not yet");
	fprintf(to, "turnpike_control_reconcile_equal_time_seconds %.3f\n", (double)atomic_load(&reconcile->equal_at_ms) / 1e3);
}
