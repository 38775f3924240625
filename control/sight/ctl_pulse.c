/* The pulse thread; see ctl_pulse.h. `lock` guards the message, the history and `stopping`; the rest is the thread's own. */
#include "ctl_pulse.h"

#include "ctl_refused.h"
#include "ctl_sample.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ABSENT_TICKS = 5 };

#define TICK_NS   1000000000ULL
#define RETAKE_NS (5 * TICK_NS) /* a quiet node's campaigns still leave the window */

struct moment {
	uint64_t time_ms;
	double clicks, flagged, impressions, conversions, received; /* per second; NAN: not known */
	double p50_ms, p99_ms, lag_ms, log_bytes;
	float refused[TP_COUNTERS];        /* per second, of counters of what was rejected or dropped */
	float way[TP_LIVE_PORTS][TP_WAYS]; /* events per second */
};

struct ctl_pulse {
	struct ctl_views *views;
	struct ctl_tally *tally;
	pthread_t thread;
	bool started;
	struct ctl_sample *late, *early;
	json_t *top;
	uint64_t taken_ns; /* when the tally was last taken */
	int last_error;
	uint64_t sequence;
	struct ctl_refused *refused;  /* has a lock of its own */
	char port[TP_LIVE_PORTS][48]; /* under the lock below, too */
	uint32_t ports;

	pthread_mutex_t lock;
	pthread_cond_t news;
	bool stopping;
	struct ctl_message *message;
	struct moment history[CTL_HISTORY_MAX];
	uint32_t history_at, history_count;
};

/* ---- messages ---- */

static void give_locked(struct ctl_message *message)
{
	if (message && --message->held == 0)
		free(message);
}

void ctl_message_give(struct ctl_pulse *pulse, struct ctl_message *message)
{
	pthread_mutex_lock(&pulse->lock);
	give_locked(message);
	pthread_mutex_unlock(&pulse->lock);
}

static struct timespec after(uint64_t ns)
{
	struct timespec when;
	clock_gettime(CLOCK_MONOTONIC, &when);
	ns += (uint64_t)when.tv_nsec;
	when.tv_sec += (time_t)(ns / 1000000000);
	when.tv_nsec = (long)(ns % 1000000000);
	return when;
}

struct ctl_message *ctl_pulse_wait(struct ctl_pulse *pulse, uint64_t sequence, uint32_t wait_ms, bool *stopped)
{
	struct timespec until = after(wait_ms * 1000000ULL);
	struct ctl_message *message = NULL;

	pthread_mutex_lock(&pulse->lock);
	while (!pulse->stopping && (!pulse->message || pulse->message->sequence <= sequence)) {
		if (pthread_cond_timedwait(&pulse->news, &pulse->lock, &until) == ETIMEDOUT)
			break;
	}
	*stopped = pulse->stopping;
	if (!pulse->stopping && pulse->message && pulse->message->sequence > sequence) {
		message = pulse->message;
		message->held++;
	}
	pthread_mutex_unlock(&pulse->lock);
	return message;
}

static struct ctl_message *message_make(uint64_t sequence, json_t *value)
{
	char *json = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
	size_t room = json ? strlen(json) + 64 : 0;
	struct ctl_message *message = json ? malloc(sizeof(*message) + room) : NULL;

	if (message) {
		message->held = 1;
		message->sequence = sequence;
		message->bytes =
			(size_t)snprintf(message->text, room, "id: %llu\ndata: %s\n\n", (unsigned long long)sequence, json);
	}
	free(json);
	return message;
}

/* ---- sampling ---- */

static uint64_t counted(const struct ctl_sample *sample)
{
	return sample->sum.v[TP_C_EVENTS_ACCEPTED] + sample->sum.v[TP_C_EVENTS_LATE];
}

static uint64_t high_of(const struct tp_live *live, uint64_t now_ms)
{
	uint64_t high_ms = 0;

	for (uint32_t i = 0; live && i < ctl_live_shards(live); i++) {
		uint64_t shard_ms = atomic_load_explicit(&live->shard[i].high_ms, memory_order_relaxed);
		if (shard_ms > high_ms)
			high_ms = shard_ms;
	}
	return high_ms ? high_ms : now_ms;
}

/* The types and campaigns need a walk over the live tables, which a quiet node is spared. */
static void tally(struct ctl_pulse *pulse, const struct ctl_look *look)
{
	struct ctl_sample *late = pulse->late;
	const struct ctl_sample *early = pulse->early;

	late->types = early->types;
	if (pulse->top && ctl_sample_follows(late, early) && counted(late) == counted(early) &&
	    late->mono_ns - pulse->taken_ns < RETAKE_NS)
		return;
	struct ctl_types types;
	int rc = ctl_tally_take(pulse->tally, look->figures, high_of(look->figures, late->now_ms), &types);
	if (rc != 0) {
		if (rc != pulse->last_error)
			tp_logf(TP_WARN, "the totals cannot be read", "error=\"%s\"", strerror(-rc));
		pulse->last_error = rc;
		return;
	}
	pulse->last_error = 0;
	pulse->taken_ns = late->mono_ns;
	late->types = types;
	json_decref(pulse->top);
	pulse->top = ctl_tally_top(pulse->tally);
}

static double per_second(uint64_t late, uint64_t early, double seconds)
{
	return late <= early ? 0 : (double)(late - early) / seconds;
}

static bool is_refusal(uint32_t counter)
{
	return tp_counter_info[counter].kind == TP_KIND_REJECTED || tp_counter_info[counter].kind == TP_KIND_DROPPED;
}

/* The views' thread needs a moment to find the data process: not before then is it called absent. */
static enum ctl_why why_of(const struct ctl_sample *late, const struct ctl_sample *early, uint64_t sequence)
{
	static const struct {
		const char *state;
		enum ctl_why why;
	} rows[] = {
		{"no_space", CTL_WHY_NO_SPACE}, {"starting", CTL_WHY_STARTING}, {"stopping", CTL_WHY_STOPPING},
		{"stalled", CTL_WHY_STALLED},   {"gone", CTL_WHY_GONE},         {"absent", CTL_WHY_GONE},
	};
	const char *state = ctl_sample_state(late);

	if (!late->attached && sequence < ABSENT_TICKS)
		return CTL_WHY_UNKNOWN;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].state, state) == 0)
			return rows[i].why;
	return ctl_sample_shed(late, early) ? CTL_WHY_SHED : CTL_WHY_NONE;
}

static struct moment moment_of(const struct ctl_sample *late, const struct ctl_sample *early)
{
	struct moment moment = {
		.time_ms = late->now_ms,
		.clicks = NAN,
		.flagged = NAN,
		.impressions = NAN,
		.conversions = NAN,
		.received = NAN,
		.p50_ms = NAN,
		.p99_ms = NAN,
		.lag_ms = NAN,
		.log_bytes = NAN,
	};

	if (!late->connected || !ctl_sample_follows(late, early))
		return moment;
	double seconds = (double)(late->mono_ns - early->mono_ns) / 1e9;
	moment.clicks = per_second(late->types.clicks + late->types.flagged_clicks,
				   early->types.clicks + early->types.flagged_clicks, seconds);
	moment.flagged = per_second(late->types.flagged_clicks, early->types.flagged_clicks, seconds);
	moment.impressions = per_second(late->types.impressions, early->types.impressions, seconds);
	moment.conversions = per_second(late->types.conversions, early->types.conversions, seconds);
	moment.received = per_second(late->sum.v[TP_C_EVENTS_RECEIVED], early->sum.v[TP_C_EVENTS_RECEIVED], seconds);
	struct ctl_ack ack = ctl_sample_ack(late, early);
	moment.p50_ms = ack.p50_ms;
	moment.p99_ms = ack.p99_ms;
	if (late->watermark_ms)
		moment.lag_ms = (double)late->now_ms - (double)late->watermark_ms;
	moment.log_bytes = per_second(late->sum.v[TP_C_LOG_BYTES], early->sum.v[TP_C_LOG_BYTES], seconds);
	for (uint32_t c = 0; c < TP_COUNTERS; c++)
		if (is_refusal(c))
			moment.refused[c] = (float)per_second(late->sum.v[c], early->sum.v[c], seconds);
	for (uint32_t p = 0; p < late->ports; p++)
		for (uint32_t w = 0; w < TP_WAYS; w++)
			moment.way[p][w] = (float)per_second(late->way_events[p][w], early->way_events[p][w], seconds);
	return moment;
}

static void tick(struct ctl_pulse *pulse)
{
	struct ctl_look look;
	struct ctl_sample *swap = pulse->early;

	pulse->early = pulse->late;
	pulse->late = swap;
	ctl_look_take(pulse->views, &look);
	ctl_sample_take(pulse->late, &look, tp_now_ms(), tp_mono_ns());
	tally(pulse, &look);
	ctl_look_give(pulse->views, &look);
	ctl_refused_note(pulse->refused, pulse->late->now_ms, why_of(pulse->late, pulse->early, pulse->sequence));

	json_t *value = ctl_sample_json(pulse->late, pulse->early, pulse->top ? json_incref(pulse->top) : json_array());
	struct ctl_message *message = message_make(++pulse->sequence, value);
	json_decref(value);
	struct moment moment = moment_of(pulse->late, pulse->early);

	pthread_mutex_lock(&pulse->lock);
	pulse->ports = pulse->late->ports;
	memcpy(pulse->port, pulse->late->port, sizeof(pulse->port));
	pulse->history[pulse->history_at] = moment;
	pulse->history_at = (pulse->history_at + 1) % CTL_HISTORY_MAX;
	if (pulse->history_count < CTL_HISTORY_MAX)
		pulse->history_count++;
	if (message) {
		give_locked(pulse->message);
		pulse->message = message;
		pthread_cond_broadcast(&pulse->news);
	}
	pthread_mutex_unlock(&pulse->lock);
}

static void *beat(void *context)
{
	struct ctl_pulse *pulse = context;
	struct timespec next = after(0);

	for (;;) {
		tick(pulse);
		next.tv_sec++;
		struct timespec now = after(0);
		if (now.tv_sec > next.tv_sec)
			next = now; /* a slow disk: no burst to catch up */
		pthread_mutex_lock(&pulse->lock);
		int rc = 0;
		while (!pulse->stopping && rc != ETIMEDOUT)
			rc = pthread_cond_timedwait(&pulse->news, &pulse->lock, &next);
		bool stopping = pulse->stopping;
		pthread_mutex_unlock(&pulse->lock);
		if (stopping)
			return NULL;
	}
}

static json_t *known(double value)
{
	return isnan(value) ? json_null() : json_real(round(1000 * value) / 1000);
}

static void series_add(json_t *series, const char *name, uint64_t time_ms, float value)
{
	json_t *list = json_object_get(series, name);

	if (!list) {
		list = json_array();
		json_object_set_new(series, name, list);
	}
	json_array_append_new(list, json_pack("[I, f]", (json_int_t)time_ms, round(10 * (double)value) / 10));
}

/* What is mostly zero: [[time_ms, per_second], …] by layer and reason, and by port and way. */
static void sparse_add(json_t *refused, json_t *ways, const struct moment *moment, const char (*port)[48], uint32_t ports)
{
	char name[128];

	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		if (!(moment->refused[c] > 0))
			continue;
		snprintf(name, sizeof(name), "%s %s", tp_layer_name((enum tp_counter_layer)tp_counter_info[c].layer),
			 tp_counter_info[c].label);
		series_add(refused, name, moment->time_ms, moment->refused[c]);
	}
	for (uint32_t p = 0; p < ports; p++) {
		for (uint32_t w = 0; w < TP_WAYS; w++) {
			if (!(moment->way[p][w] > 0))
				continue;
			snprintf(name, sizeof(name), "%.48s %s", port[p], tp_way_name((enum tp_way)w));
			series_add(ways, name, moment->time_ms, moment->way[p][w]);
		}
	}
}

json_t *ctl_pulse_history(struct ctl_pulse *pulse)
{
	struct moment *copy = malloc(sizeof(pulse->history));
	json_t *samples = json_array(), *refused = json_object(), *ways = json_object();
	char port[TP_LIVE_PORTS][48];

	if (!copy) {
		json_decref(samples);
		json_decref(refused);
		json_decref(ways);
		return NULL;
	}
	pthread_mutex_lock(&pulse->lock);
	uint32_t count = pulse->history_count, first = (pulse->history_at + CTL_HISTORY_MAX - count) % CTL_HISTORY_MAX;
	uint32_t ports = pulse->ports;
	memcpy(copy, pulse->history, sizeof(pulse->history));
	memcpy(port, pulse->port, sizeof(port));
	pthread_mutex_unlock(&pulse->lock);
	for (uint32_t i = 0; i < count; i++) {
		const struct moment *moment = &copy[(first + i) % CTL_HISTORY_MAX];
		json_array_append_new(samples, json_pack("[I, o, o, o, o, o, o, o, o, o]", (json_int_t)moment->time_ms,
							 known(moment->clicks), known(moment->flagged), known(moment->impressions),
							 known(moment->conversions), known(moment->received), known(moment->p50_ms),
							 known(moment->p99_ms), known(moment->lag_ms), known(moment->log_bytes)));
		sparse_add(refused, ways, moment, (const char(*)[48])port, ports);
	}
	free(copy);
	return json_pack("{s:i, s:[s,s,s,s,s,s,s,s,s,s], s:o, s:o, s:o}", "step_ms", 1000, "fields", "time_ms", "clicks", "flagged",
			 "impressions", "conversions", "received", "p50_ms", "p99_ms", "lag_ms", "log_bytes", "samples", samples,
			 "refused", refused, "ways", ways);
}

struct ctl_refused *ctl_pulse_refused(struct ctl_pulse *pulse)
{
	return pulse->refused;
}

/* ---- life ---- */

int ctl_pulse_open(struct ctl_pulse **pulse, const char *data_dir, const char *state_dir, struct ctl_views *views)
{
	struct ctl_pulse *made = calloc(1, sizeof(*made));
	pthread_condattr_t monotonic;

	if (!made)
		return -ENOMEM;
	made->views = views;
	made->tally = ctl_tally_open(data_dir);
	made->late = calloc(1, sizeof(*made->late));
	made->early = calloc(1, sizeof(*made->early));
	pthread_mutex_init(&made->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&made->news, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int rc = ctl_refused_open(&made->refused, state_dir, tp_now_ms());
	if (rc == 0)
		rc = !made->tally || !made->late || !made->early ? -ENOMEM : -pthread_create(&made->thread, NULL, beat, made);
	made->started = rc == 0;
	if (rc != 0) {
		ctl_pulse_close(made);
		return rc;
	}
	*pulse = made;
	return 0;
}

void ctl_pulse_stop(struct ctl_pulse *pulse)
{
	pthread_mutex_lock(&pulse->lock);
	pulse->stopping = true;
	pthread_cond_broadcast(&pulse->news);
	pthread_mutex_unlock(&pulse->lock);
}

void ctl_pulse_close(struct ctl_pulse *pulse)
{
	if (pulse->started) {
		ctl_pulse_stop(pulse);
		pthread_join(pulse->thread, NULL);
	}
	give_locked(pulse->message);
	json_decref(pulse->top);
	ctl_tally_close(pulse->tally);
	ctl_refused_close(pulse->refused);
	free(pulse->late);
	free(pulse->early);
	pthread_cond_destroy(&pulse->news);
	pthread_mutex_destroy(&pulse->lock);
	free(pulse);
}
