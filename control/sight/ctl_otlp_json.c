/*
 * Spans as OTLP's JSON: ExportTraceServiceRequest with ids in hex and 64-bit numbers as strings. Pure.
 * Source: opentelemetry-proto trace.proto, and "JSON Protobuf Encoding" of the OTLP specification.
 */
#include "ctl_otlp.h"
#include "turnpike/event.h"

#include <inttypes.h>
#include <string.h>

enum { KIND_INTERNAL = 1, KIND_SERVER = 2, STATUS_ERROR = 2, SPAN_ID_BYTES = 8 };

struct part {
	const char *name;
	uint64_t from_ns, to_ns; /* monotonic */
	int kind;
};

static void id_make(struct ctl_otlp_ids *ids, uint8_t id[SPAN_ID_BYTES])
{
	ids->state ^= ids->state << 13;
	ids->state ^= ids->state >> 7;
	ids->state ^= ids->state << 17;
	memcpy(id, &ids->state, SPAN_ID_BYTES);
}

static json_t *hex(const uint8_t *bytes, size_t count)
{
	char text[33];

	for (size_t i = 0; i < count; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static json_t *nanoseconds(uint64_t monotonic_ns, int64_t wall_offset_ns)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, monotonic_ns + (uint64_t)wall_offset_ns);
	return json_string(text);
}

static void text_attribute(json_t *attributes, const char *key, const char *value)
{
	json_array_append_new(attributes, json_pack("{s:s, s:{s:s}}", "key", key, "value", "stringValue", value));
}

static void number_attribute(json_t *attributes, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	json_array_append_new(attributes, json_pack("{s:s, s:{s:s}}", "key", key, "value", "intValue", text));
}

/* Appends one span; `id` gets its id. Attributes are taken over. */
static void span_add(json_t *spans, const struct part *part, const uint8_t trace_id[16], const uint8_t parent[SPAN_ID_BYTES],
		     int64_t wall_offset_ns, json_t *attributes, bool failed, struct ctl_otlp_ids *ids, uint8_t id[SPAN_ID_BYTES])
{
	const uint64_t to_ns = part->to_ns > part->from_ns ? part->to_ns : part->from_ns;
	json_t *span = json_object();

	id_make(ids, id);
	json_object_set_new(span, "traceId", hex(trace_id, 16));
	json_object_set_new(span, "spanId", hex(id, SPAN_ID_BYTES));
	json_object_set_new(span, "parentSpanId", hex(parent, SPAN_ID_BYTES));
	json_object_set_new(span, "name", json_string(part->name));
	json_object_set_new(span, "kind", json_integer(part->kind));
	json_object_set_new(span, "startTimeUnixNano", nanoseconds(part->from_ns, wall_offset_ns));
	json_object_set_new(span, "endTimeUnixNano", nanoseconds(to_ns, wall_offset_ns));
	json_object_set_new(span, "attributes", attributes ? attributes : json_array());
	json_object_set_new(span, "status", failed ? json_pack("{s:i}", "code", STATUS_ERROR) : json_object());
	json_array_append_new(spans, span);
}

static const char *verdict_name(uint8_t verdict)
{
	static const char *const name[TP_VERDICTS] = {
		[TP_ACCEPTED] = "accepted", [TP_DUPLICATE] = "duplicate", [TP_LATE] = "late",
		[TP_CONFLICT] = "conflict", [TP_REFUSED] = "refused",
	};
	return verdict < TP_VERDICTS && name[verdict] ? name[verdict] : "unknown";
}

void ctl_otlp_event(json_t *spans, const struct tp_span *span, int64_t wall_offset_ns, struct ctl_otlp_ids *ids)
{
	const struct part whole = {"event", span->received_ns, span->answered_ns, KIND_SERVER};
	const struct part part[] = {
		{"receive", span->received_ns, span->complete_ns, KIND_INTERNAL},
		{"parse", span->complete_ns, span->parsed_ns, KIND_INTERNAL},
		{"shard", span->parsed_ns, span->decided_ns, KIND_INTERNAL},
		{"durable", span->decided_ns, span->durable_ns, KIND_INTERNAL},
		{"answer", span->durable_ns, span->answered_ns, KIND_INTERNAL},
	};
	json_t *attributes = json_array();
	uint8_t id[SPAN_ID_BYTES], below[SPAN_ID_BYTES];

	text_attribute(attributes, "turnpike.verdict", verdict_name(span->verdict));
	number_attribute(attributes, "turnpike.rx_cpu", span->cpu);
	number_attribute(attributes, "turnpike.shard", span->shard);
	span_add(spans, &whole, span->trace_id, span->parent_id, wall_offset_ns, attributes, span->verdict == TP_REFUSED, ids, id);
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		span_add(spans, &part[i], span->trace_id, id, wall_offset_ns, NULL, false, ids, below);
}

void ctl_otlp_answer(json_t *spans, const struct ctl_otlp_request *request, int64_t wall_offset_ns, struct ctl_otlp_ids *ids)
{
	char name[192];
	uint8_t id[SPAN_ID_BYTES];
	json_t *attributes = json_array();

	snprintf(name, sizeof(name), "%s %s", request->method, request->route);
	const struct part part = {name, request->began_ns, request->answered_ns, KIND_SERVER};
	text_attribute(attributes, "http.request.method", request->method);
	text_attribute(attributes, "http.route", request->route);
	number_attribute(attributes, "http.response.status_code", request->status);
	span_add(spans, &part, request->trace.trace_id, request->trace.span_id, wall_offset_ns, attributes, request->status >= 500,
		 ids, id);
}

json_t *ctl_otlp_message(json_t *spans, const char *node, const char *version)
{
	json_t *resource = json_array();

	text_attribute(resource, "service.name", "turnpike");
	text_attribute(resource, "service.instance.id", node);
	text_attribute(resource, "service.version", version);
	return json_pack("{s:[{s:{s:o}, s:[{s:{s:s, s:s}, s:o}]}]}", "resourceSpans", "resource", "attributes", resource,
			 "scopeSpans", "scope", "name", "turnpike", "version", version, "spans", spans);
}
