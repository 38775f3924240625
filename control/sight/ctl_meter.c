/* How long answers took, by resource. See ctl_meter.h. */
#include "ctl_meter.h"

#include "ctl_exposition.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = 6, FIRST = 13, STEP = 2 }; /* from 16 µs, each bound four times the one before */

struct line {
	_Atomic uint64_t bucket[TP_LATENCY_BUCKETS], ns_sum;
	_Atomic uint64_t answered[CLASSES]; /* by the first digit of the status; 0: any other */
};

struct ctl_meter {
	uint32_t routes;
	_Atomic uint64_t turned[CTL_TURNEDS];
	struct line line[]; /* one per route, and one for what there is not */
};

int ctl_meter_open(struct ctl_meter **meter)
{
	const uint32_t routes = ctl_routes();
	struct ctl_meter *made = calloc(1, sizeof(*made) + (routes + 1) * sizeof(made->line[0]));

	if (!made)
		return -ENOMEM;
	made->routes = routes;
	*meter = made;
	return 0;
}

void ctl_meter_close(struct ctl_meter *meter)
{
	free(meter);
}

static void add(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_fetch_add_explicit(figure, n, memory_order_relaxed);
}

void ctl_meter_count(struct ctl_meter *meter, const struct ctl_route *route, uint32_t status, uint64_t ns)
{
	if (!meter)
		return;
	struct line *line = &meter->line[route ? ctl_route_number(route) : meter->routes];
	uint32_t b = 63 - (uint32_t)__builtin_clzll(ns | 1);
	add(&line->bucket[b < TP_LATENCY_BUCKETS ? b : TP_LATENCY_BUCKETS - 1], 1);
	add(&line->ns_sum, ns);
	add(&line->answered[status >= 100 && status < 600 ? status / 100 : 0], 1);
}

void ctl_meter_turn(struct ctl_meter *meter, enum ctl_turned what)
{
	if (meter)
		add(&meter->turned[what], 1);
}

static void turned_print(const struct ctl_meter *meter, FILE *to)
{
	static const struct {
		enum ctl_turned what;
		const char *reason;
	} ended[] = {{CTL_TURNED_SHED, "shed"}, {CTL_TURNED_SLOW, "slow"}, {CTL_TURNED_FULL, "full"}},
	  throttled[] = {{CTL_THROTTLED_TOKEN, "token"}, {CTL_THROTTLED_SOURCE, "source"}};

	ctl_family(to, "http_connections_ended_total", "counter",
		   "Connections that the control process ended: to seat a newcomer, for being slow, for want of any seat");
	for (size_t i = 0; i < sizeof(ended) / sizeof(ended[0]); i++)
		fprintf(to, "turnpike_http_connections_ended_total{reason=\"%s\"} %" PRIu64 "\n", ended[i].reason,
			atomic_load_explicit(&meter->turned[ended[i].what], memory_order_relaxed));
	ctl_family(to, "http_throttled_total", "counter",
		   "Requests that the control process answered 429: a token over its rate, an address that guesses tokens");
	for (size_t i = 0; i < sizeof(throttled) / sizeof(throttled[0]); i++)
		fprintf(to, "turnpike_http_throttled_total{by=\"%s\"} %" PRIu64 "\n", throttled[i].reason,
			atomic_load_explicit(&meter->turned[throttled[i].what], memory_order_relaxed));
}

void ctl_endpoint_text(const struct ctl_route *route, char text[CTL_ENDPOINT_BYTES])
{
	size_t at = 0;

	snprintf(text, CTL_ENDPOINT_BYTES, "%s", route ? "" : "none");
	for (uint32_t i = 0; route && i < CTL_SEGMENTS_MAX && route->segment[i] && at < CTL_ENDPOINT_BYTES; i++)
		at += (size_t)snprintf(text + at, CTL_ENDPOINT_BYTES - at, "/%s", route->segment[i]);
}

static void endpoint_text(const struct ctl_meter *meter, uint32_t number, char text[CTL_ENDPOINT_BYTES])
{
	ctl_endpoint_text(number < meter->routes ? ctl_route_at(number) : NULL, text);
}

void ctl_meter_print(const struct ctl_meter *meter, FILE *to)
{
	static const char *const class[CLASSES] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
	char endpoint[CTL_ENDPOINT_BYTES], labels[CTL_ENDPOINT_BYTES + 16];
	uint64_t bucket[TP_LATENCY_BUCKETS];

	ctl_family(to, "http_requests_total", "counter",
		   "Requests that the control process answered, by resource and class of status");
	for (uint32_t r = 0; r <= meter->routes; r++) {
		endpoint_text(meter, r, endpoint);
		for (uint32_t c = 0; c < CLASSES; c++) {
			uint64_t answered = atomic_load_explicit(&meter->line[r].answered[c], memory_order_relaxed);
			if (answered || c == 2) /* the others are there once they happened */
				fprintf(to, "turnpike_http_requests_total{endpoint=\"%s\",code=\"%s\"} %" PRIu64 "\n", endpoint,
					class[c], answered);
		}
	}
	turned_print(meter, to);
	ctl_family(to, "query_latency_seconds", "histogram",
		   "Time in which the control process made its answer, by resource; the way over the network not included");
	for (uint32_t r = 0; r <= meter->routes; r++) {
		uint64_t all = 0;
		for (uint32_t b = 0; b < TP_LATENCY_BUCKETS; b++)
			all += bucket[b] = atomic_load_explicit(&meter->line[r].bucket[b], memory_order_relaxed);
		if (!all)
			continue; /* dozens of series that say nothing; a histogram begins with its first answer */
		endpoint_text(meter, r, endpoint);
		snprintf(labels, sizeof(labels), "endpoint=\"%s\"", endpoint);
		ctl_histogram(to, "query_latency_seconds", labels, bucket,
			      atomic_load_explicit(&meter->line[r].ns_sum, memory_order_relaxed), FIRST, STEP);
	}
}
