/*
 * Traces to a collector: OTLP over HTTP, JSON encoding (opentelemetry-proto 1.0, OTLP 1.0 "OTLP/HTTP"). Off without
 * tracing.collector. A thread of its own takes the spans of sampled events from the data process' rings (turnpike/span.h) and those of
 * our own sampled requests from a bounded queue, and posts them a few times a second. It never holds anybody up: what finds no room,
 * or no collector, is dropped and counted.
 */
#ifndef TURNPIKE_CTL_OTLP_H
#define TURNPIKE_CTL_OTLP_H

#include "turnpike/span.h"

#include <jansson.h>
#include <stdio.h>

struct ctl_otlp;
struct ctl_views;

/* A request that the control process answered. */
struct ctl_otlp_request {
	struct tp_trace trace;
	uint64_t began_ns, answered_ns; /* monotonic */
	uint16_t status;
	char method[8];
	char route[160]; /* "/api/v1/analytics/{}/{}": low cardinality, as the convention asks */
};

/* collector: "http://127.0.0.1:4318" or with a path. node names the resource. 0 or -errno. All but `views` are copied. */
int ctl_otlp_open(struct ctl_otlp **otlp, const char *collector, const char *node, const char *version, struct ctl_views *views);
/* Sends what is there, waits at most for the collector's time limit. May be NULL. */
void ctl_otlp_close(struct ctl_otlp *otlp);
/* Any thread. otlp may be NULL; what is not sampled is left. */
void ctl_otlp_request(struct ctl_otlp *otlp, const struct ctl_otlp_request *request);
void ctl_otlp_print(struct ctl_otlp *otlp, FILE *to); /* its counters, for the metrics page */

/* ---- pure, for the tests ---- */

/* What makes span ids: any state but 0; xorshift, for ids need only differ. */
struct ctl_otlp_ids {
	uint64_t state;
};
/* Appends an event's spans: the event itself, and receive, parse, shard, durable, answer below it. */
void ctl_otlp_event(json_t *spans, const struct tp_span *span, int64_t wall_offset_ns, struct ctl_otlp_ids *ids);
void ctl_otlp_answer(json_t *spans, const struct ctl_otlp_request *request, int64_t wall_offset_ns, struct ctl_otlp_ids *ids);
/* The message around spans; takes the array over. NULL: no memory. */
json_t *ctl_otlp_message(json_t *spans, const char *node, const char *version);

#endif
