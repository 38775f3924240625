/*
 * The exporter's thread, queue and counters. See ctl_otlp.h.
 *
 *   rings of rx cores ─┐
 *   queue of requests ─┴─► up to BATCH_EVENTS a message ─► POST ─► exported, or dropped
 *
 * The queue has one lock, held for a copy. The thread alone calls libcurl.
 */
#include "ctl_otlp.h"

#include "ctl_exposition.h"
#include "ctl_view.h"
#include "turnpike/log.h"
#include "turnpike/text.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { QUEUE = 256, BATCH_EVENTS = 256, EVERY_MS = 100, LIMIT_MS = 2000, SPANS_OF_EVENT = 6, COLLECTOR_BYTES = 512 };

struct ctl_otlp {
	struct ctl_views *views;
	char url[COLLECTOR_BYTES], node[64], version[64];
	struct ctl_otlp_ids ids;
	CURL *curl;
	struct curl_slist *headers;
	pthread_t thread;
	/* where the thread stands in the rings of one data process */
	uint32_t pid;
	uint64_t started_ms, began_ms, began_ns; /* of that process, and of us; the last by the monotonic clock */
	uint64_t next[TP_CORES_MAX];
	bool failing; /* the last message did not get there */
	/* under the lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	struct ctl_otlp_request queue[QUEUE];
	uint32_t first, queued;
	/* counted by whoever; read for the metrics page */
	_Atomic uint64_t exported, overtaken, queue_full, collector_failed;
};

static void add(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_fetch_add_explicit(figure, n, memory_order_relaxed);
}

void ctl_otlp_request(struct ctl_otlp *otlp, const struct ctl_otlp_request *request)
{
	if (!otlp || !request->trace.given || !(request->trace.flags & TP_TRACE_SAMPLED))
		return;
	pthread_mutex_lock(&otlp->lock);
	bool room = otlp->queued < QUEUE;
	if (room)
		otlp->queue[(otlp->first + otlp->queued++) % QUEUE] = *request;
	pthread_mutex_unlock(&otlp->lock);
	if (!room)
		add(&otlp->queue_full, 1);
}

/* ---- the thread ---- */

static void queue_take(struct ctl_otlp *otlp, json_t *spans, int64_t offset_ns)
{
	struct ctl_otlp_request request;

	for (;;) {
		pthread_mutex_lock(&otlp->lock);
		bool got = otlp->queued != 0;
		if (got) {
			request = otlp->queue[otlp->first];
			otlp->first = (otlp->first + 1) % QUEUE;
			otlp->queued--;
		}
		pthread_mutex_unlock(&otlp->lock);
		if (!got)
			return;
		ctl_otlp_answer(spans, &request, offset_ns, &otlp->ids);
	}
}

/* Spans of the data process, up to BATCH_EVENTS of each core. True: there may be more. */
static bool rings_take(struct ctl_otlp *otlp, json_t *spans, int64_t offset_ns)
{
	struct ctl_look look;
	struct tp_span span;
	bool more = false;

	ctl_look_take(otlp->views, &look);
	const struct tp_live *live = look.now;
	if (live && (live->pid != otlp->pid || live->started_ms != otlp->started_ms)) {
		/* another process: its rings begin anew; what one that ran before us wrote over was not ours to lose */
		for (uint32_t i = 0; i < ctl_live_cores(live); i++) {
			uint64_t written = atomic_load_explicit(&live->core[i].spans.next, memory_order_relaxed);
			otlp->next[i] = live->started_ms < otlp->began_ms && written > TP_SPANS ? written - TP_SPANS : 0;
		}
		otlp->pid = live->pid;
		otlp->started_ms = live->started_ms;
	}
	for (uint32_t i = 0; live && i < ctl_live_cores(live); i++) {
		uint64_t lost = 0;
		uint32_t taken = 0;
		while (taken < BATCH_EVENTS && tp_span_take(&live->core[i].spans, &otlp->next[i], &lost, &span)) {
			taken++;
			if (span.answered_ns >= otlp->began_ns) /* else an exporter before us has had it */
				ctl_otlp_event(spans, &span, offset_ns, &otlp->ids);
		}
		add(&otlp->overtaken, lost * SPANS_OF_EVENT);
		more = more || taken == BATCH_EVENTS;
	}
	ctl_look_give(otlp->views, &look);
	return more;
}

static size_t answer_ignore(char *bytes, size_t size, size_t count, void *context)
{
	(void)bytes;
	(void)context;
	return size * count;
}

/* 0, or what went wrong in words. */
static const char *post(struct ctl_otlp *otlp, const char *text)
{
	long status = 0;

	curl_easy_setopt(otlp->curl, CURLOPT_POSTFIELDS, text);
	curl_easy_setopt(otlp->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
	CURLcode rc = curl_easy_perform(otlp->curl);
	if (rc != CURLE_OK)
		return curl_easy_strerror(rc);
	curl_easy_getinfo(otlp->curl, CURLINFO_RESPONSE_CODE, &status);
	return status >= 200 && status < 300    ? NULL
	       : status == 429 || status == 503 ? "the collector is busy"
						: "the collector refused";
}

static void send_spans(struct ctl_otlp *otlp, json_t *spans)
{
	const size_t count = json_array_size(spans);
	json_t *message = ctl_otlp_message(spans, otlp->node, otlp->version);
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	const char *fault = text ? post(otlp, text) : "no memory";

	free(text);
	json_decref(message);
	add(fault ? &otlp->collector_failed : &otlp->exported, count);
	if (fault && !otlp->failing) /* once, until it works again */
		tp_logf(TP_WARN, "spans do not reach the collector: they are dropped", "collector=%s error=\"%s\"", otlp->url,
			fault);
	else if (!fault && otlp->failing)
		tp_logf(TP_INFO, "spans reach the collector again", "collector=%s", otlp->url);
	otlp->failing = fault != NULL;
}

/* True when told to stop. */
static bool pause_or_stop(struct ctl_otlp *otlp)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += EVERY_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&otlp->lock);
	while (!otlp->stop && pthread_cond_timedwait(&otlp->wake, &otlp->lock, &until) != ETIMEDOUT)
		continue;
	bool stop = otlp->stop;
	pthread_mutex_unlock(&otlp->lock);
	return stop;
}

static void *otlp_main(void *context)
{
	struct ctl_otlp *otlp = context;
	bool stop = false;

	pthread_setname_np(pthread_self(), "traces");
	while (!stop) {
		stop = pause_or_stop(otlp);
		bool more;
		do {
			const int64_t offset_ns = (int64_t)(tp_now_ms() * 1000000) - (int64_t)tp_mono_ns();
			json_t *spans = json_array();
			queue_take(otlp, spans, offset_ns);
			more = rings_take(otlp, spans, offset_ns);
			if (json_array_size(spans))
				send_spans(otlp, spans);
			else
				json_decref(spans);
		} while (more && !stop);
	}
	return NULL;
}

/* ---- open and close ---- */

static int curl_make(struct ctl_otlp *otlp)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return -ENOMEM;
	otlp->curl = curl_easy_init();
	otlp->headers = curl_slist_append(NULL, "Content-Type: application/json");
	if (!otlp->curl || !otlp->headers)
		return -ENOMEM;
	curl_easy_setopt(otlp->curl, CURLOPT_URL, otlp->url);
	curl_easy_setopt(otlp->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(otlp->curl, CURLOPT_HTTPHEADER, otlp->headers);
	curl_easy_setopt(otlp->curl, CURLOPT_POST, 1L);
	curl_easy_setopt(otlp->curl, CURLOPT_WRITEFUNCTION, answer_ignore);
	curl_easy_setopt(otlp->curl, CURLOPT_TIMEOUT_MS, (long)LIMIT_MS);
	curl_easy_setopt(otlp->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(otlp->curl, CURLOPT_NOPROXY, "*"); /* what is configured is meant */
	return 0;
}

int ctl_otlp_open(struct ctl_otlp **out, const char *collector, const char *node, const char *version, struct ctl_views *views)
{
	struct ctl_otlp *otlp = calloc(1, sizeof(*otlp));
	pthread_condattr_t attributes;

	if (!otlp)
		return -ENOMEM;
	const char *authority = strstr(collector, "://");
	const bool path = authority && strchr(authority + 3, '/');
	snprintf(otlp->url, sizeof(otlp->url), "%s%s", collector, path ? "" : "/v1/traces");
	snprintf(otlp->node, sizeof(otlp->node), "%s", node);
	snprintf(otlp->version, sizeof(otlp->version), "%s", version);
	otlp->views = views;
	otlp->began_ms = tp_now_ms();
	otlp->began_ns = tp_mono_ns();
	if (getrandom(&otlp->ids.state, sizeof(otlp->ids.state), 0) != sizeof(otlp->ids.state) || !otlp->ids.state)
		otlp->ids.state = tp_mono_ns() | 1;
	pthread_mutex_init(&otlp->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&otlp->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	int rc = curl_make(otlp);
	if (rc == 0)
		rc = -pthread_create(&otlp->thread, NULL, otlp_main, otlp);
	if (rc != 0) {
		otlp->thread = 0;
		ctl_otlp_close(otlp);
		return rc;
	}
	*out = otlp;
	return 0;
}

void ctl_otlp_close(struct ctl_otlp *otlp)
{
	if (!otlp)
		return;
	pthread_mutex_lock(&otlp->lock);
	otlp->stop = true;
	pthread_cond_signal(&otlp->wake);
	pthread_mutex_unlock(&otlp->lock);
	if (otlp->thread)
		pthread_join(otlp->thread, NULL);
	curl_easy_cleanup(otlp->curl);
	curl_slist_free_all(otlp->headers);
	curl_global_cleanup();
	pthread_cond_destroy(&otlp->wake);
	pthread_mutex_destroy(&otlp->lock);
	free(otlp);
}

void ctl_otlp_print(struct ctl_otlp *otlp, FILE *to)
{
	ctl_family(to, "spans_total", "counter",
		   "Spans of sampled events and requests: sent to tracing.collector, or dropped and why");
	fprintf(to, "turnpike_spans_total{state=\"exported\"} %" PRIu64 "\n", otlp ? atomic_load(&otlp->exported) : 0);
	fprintf(to, "turnpike_spans_total{state=\"dropped\",reason=\"overtaken\"} %" PRIu64 "\n",
		otlp ? atomic_load(&otlp->overtaken) : 0);
	fprintf(to, "turnpike_spans_total{state=\"dropped\",reason=\"queue_full\"} %" PRIu64 "\n",
		otlp ? atomic_load(&otlp->queue_full) : 0);
	fprintf(to, "turnpike_spans_total{state=\"dropped\",reason=\"collector\"} %" PRIu64 "\n",
		otlp ? atomic_load(&otlp->collector_failed) : 0);
}
