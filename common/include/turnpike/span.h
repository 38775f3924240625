/*
 * Spans: when a sampled event passed each step, from an rx core to whoever exports traces (control/sight/ctl_otlp.c). One ring per rx core in
 * the live view. The core writes over the oldest and never waits; a slot's stamp is odd while it is written and 2 · (number + 1)
 * afterwards, so a reader sees that it was overtaken, and counts what it lost (as turnpike/sight.h).
 *
 * An event is sampled if its trace context says so (W3C Trace Context, section 3.2.2.2: bit 0 of the flags), whether it came in the
 * event's field `trace`, in a batch, or in the request's header traceparent. Off without tracing.collector.
 */
#ifndef TURNPIKE_SPAN_H
#define TURNPIKE_SPAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { TP_SPANS = 256, TP_TRACE_SAMPLED = 1 };

/* A trace context: who asked. */
struct tp_trace {
	uint8_t trace_id[16], span_id[8];
	uint8_t flags;
	bool given;
};

/* One event's way. Monotonic clock, ns; each not before the one above. */
struct tp_span {
	uint8_t trace_id[16], parent_id[8];
	uint64_t received_ns; /* its first byte */
	uint64_t complete_ns; /* its request was whole, and parsing began */
	uint64_t parsed_ns;   /* given to its shard */
	uint64_t decided_ns;  /* by the shard, and put into the log */
	uint64_t durable_ns;  /* seen to be on stable storage */
	uint64_t answered_ns; /* its answer was written, if it was its request's last event; else as durable_ns */
	uint16_t cpu;         /* of the rx core */
	uint16_t shard;
	uint8_t verdict; /* enum tp_verdict */
	uint8_t pad[3];
};

struct tp_span_slot {
	_Atomic uint64_t stamp;
	struct tp_span span;
};

struct tp_span_ring {
	_Alignas(64) _Atomic uint64_t next; /* number of the span that comes next */
	struct tp_span_slot slot[TP_SPANS];
};

/* The ring's owner alone. */
void tp_span_put(struct tp_span_ring *ring, const struct tp_span *span);
/* Any reader: 1 and *next moved on when a span was there; 0: not yet. What was written over meanwhile is skipped and added to *lost. */
int tp_span_take(const struct tp_span_ring *ring, uint64_t *next, uint64_t *lost, struct tp_span *to);

/*
 * Reads a traceparent: version "-" trace-id "-" parent-id "-" flags, 2, 32, 16 and 2 lower-case hex digits. Version ff is invalid; 00 is
 * exactly that long; later versions may go on after another "-". False, and *trace untouched: invalid. Source: W3C Trace Context, section 3.2.
 */
bool tp_trace_parse(const char *text, uint64_t bytes, struct tp_trace *trace);

#endif
