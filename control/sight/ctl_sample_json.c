/* The message of the live stream, made of two samples; see ctl_sample.h. Pure. */
#include "ctl_request.h"
#include "ctl_sample.h"
#include "turnpike/text.h"

#include <math.h>
#include <string.h>

enum { TIME_BYTES = 32 };

struct span {
	const struct ctl_sample *late, *early; /* early is NULL when there is nothing to compare with */
	double seconds;
};

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* One decimal; more would only be noise. Null without `early`. */
static json_t *rate(const struct span *span, uint64_t late, uint64_t early)
{
	if (!span->early)
		return json_null();
	/* what a killed data process had summed but not made durable is not there after its restart */
	return json_real(late <= early ? 0 : round(10 * (double)(late - early) / span->seconds) / 10);
}

static json_t *counted(const struct span *span, enum tp_counter counter)
{
	return rate(span, span->late->sum.v[counter], span->early ? span->early->sum.v[counter] : 0);
}

static uint64_t of_kind(const struct ctl_sample *sample, enum tp_counter_layer layer, enum tp_counter_kind kind)
{
	uint64_t sum = 0;
	for (uint32_t c = 0; sample && c < TP_COUNTERS; c++)
		if (tp_counter_info[c].layer == layer && tp_counter_info[c].kind == kind)
			sum += sample->sum.v[c];
	return sum;
}

static void events_into(json_t *message, const struct span *span)
{
	json_t *totals = json_object(), *per_second = json_object();

	for (int kind = TP_KIND_RECEIVED; kind <= TP_KIND_IN_FLIGHT; kind++) {
		const char *name = tp_kind_name((enum tp_counter_kind)kind);
		uint64_t late = of_kind(span->late, TP_LAYER_EVENTS, (enum tp_counter_kind)kind);
		json_object_set_new(totals, name, number(late));
		if (kind == TP_KIND_IN_FLIGHT)
			continue;
		uint64_t early = of_kind(span->early, TP_LAYER_EVENTS, (enum tp_counter_kind)kind);
		json_object_set_new(per_second, name, rate(span, late, early));
	}
	static const struct ctl_types none;
	const struct ctl_types *late = &span->late->types, *early = span->early ? &span->early->types : &none;
#define TYPE(field) \
	do { \
		json_object_set_new(totals, #field, number(late->field)); \
		json_object_set_new(per_second, #field, rate(span, late->field, early->field)); \
	} while (0)
	TYPE(impressions);
	TYPE(clicks);
	TYPE(flagged_clicks);
	TYPE(conversions);
#undef TYPE
	json_object_set_new(message, "totals", totals);
	json_object_set_new(message, "per_second", per_second);
}

static json_t *core_json(const struct span *span, uint32_t index)
{
	static const struct tp_counters zero;
	const struct ctl_core_sample *core = &span->late->core[index];
	const struct tp_counters *late = &core->counters, *early = span->early ? &span->early->core[index].counters : &zero;
	double busy = (double)(late->v[TP_C_CORE_BUSY_NS] - early->v[TP_C_CORE_BUSY_NS]);
	double idle = (double)(late->v[TP_C_CORE_IDLE_NS] - early->v[TP_C_CORE_IDLE_NS]);
	json_t *load_share = span->early && busy + idle > 0 ? json_real(round(1000 * busy / (busy + idle)) / 1000) : json_null();
	uint64_t done = late->v[TP_C_EVENTS_RECEIVED] + late->v[TP_C_SHARD_TAKEN] - early->v[TP_C_EVENTS_RECEIVED] -
			early->v[TP_C_SHARD_TAKEN];
	json_t *event_ns = span->early && done > 0 ? json_real(round(busy / (double)done)) : json_null();

	return json_pack("{s:I, s:b, s:b, s:o, s:o, s:I, s:o, s:o}", "cpu", (json_int_t)core->cpu, "rx", (int)core->is_rx, "shard",
			 (int)core->is_shard, "busy", load_share, "event_ns", event_ns, "in_flight",
			 (json_int_t)late->v[TP_C_EVENTS_IN_FLIGHT], "received_per_second",
			 rate(span, late->v[TP_C_EVENTS_RECEIVED], early->v[TP_C_EVENTS_RECEIVED]), "sharded_per_second",
			 rate(span, late->v[TP_C_SHARD_TAKEN], early->v[TP_C_SHARD_TAKEN]));
}

/* Every way in which something was turned away, as far as it has happened. */
static json_t *refusals_json(const struct span *span)
{
	json_t *list = json_array();

	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if ((info->kind != TP_KIND_REJECTED && info->kind != TP_KIND_DROPPED) || span->late->sum.v[c] == 0)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:I, s:o}", "layer",
						      tp_layer_name((enum tp_counter_layer)info->layer), "state",
						      tp_kind_name((enum tp_counter_kind)info->kind), "reason", info->label, "help",
						      info->help, "total", (json_int_t)span->late->sum.v[c], "per_second",
						      rate(span, span->late->sum.v[c], span->early ? span->early->sum.v[c] : 0)));
	}
	return list;
}

static json_t *known_ms(double ms)
{
	return isnan(ms) ? json_null() : json_real(round(ms * 1000) / 1000);
}

static json_t *ack_json(const struct span *span)
{
	struct ctl_ack ack = {.p50_ms = NAN, .p99_ms = NAN};

	if (span->early)
		ack = ctl_sample_ack(span->late, span->early);
	return json_pack("{s:o, s:o, s:o}", "p50_ms", known_ms(ack.p50_ms), "p99_ms", known_ms(ack.p99_ms), "per_second",
			 rate(span, ack.count, 0));
}

static void node_into(json_t *message, const struct ctl_sample *sample)
{
	char text[TIME_BYTES];
	json_t *watermark = sample->watermark_ms ? json_stringn(text, tp_time_text(sample->watermark_ms, text)) : json_null();
	json_t *lag = sample->watermark_ms ? json_integer((json_int_t)(sample->now_ms - sample->watermark_ms)) : json_null();

	json_object_set_new(message, "node", ctl_json_text(sample->node, strlen(sample->node)));
	json_object_set_new(message, "state", json_string(ctl_sample_state(sample)));
	json_object_set_new(message, "refusing",
			    sample->attached ? json_string(tp_refusing_name((enum tp_refusing)sample->refusing)) : json_null());
	json_object_set_new(message, "connected", json_boolean(sample->connected));
	json_object_set_new(message, "pid", number(sample->pid));
	json_object_set_new(message, "started_ms", number(sample->started_ms));
	json_object_set_new(message, "http", ctl_json_text(sample->http, strlen(sample->http)));
	json_object_set_new(message, "udp", ctl_json_text(sample->udp, strlen(sample->udp)));
	json_object_set_new(message, "receive_path", ctl_json_text(sample->receive_path, strlen(sample->receive_path)));
	json_object_set_new(message, "watermark", watermark);
	json_object_set_new(message, "watermark_lag_ms", lag);
	json_object_set_new(message, "free_bytes", number(sample->free_bytes));
	json_object_set_new(message, "total_bytes", number(sample->total_bytes));
	json_object_set_new(message, "ids", number(sample->ids));
	json_object_set_new(message, "ids_max", number(sample->ids_max));
	json_object_set_new(message, "blocklist_entries", number(sample->blocklist_entries));
}

/* [{"port","ways":{"http":{"total","per_second"},…}}]: events by where and how they came in */
static json_t *ports_json(const struct span *span)
{
	json_t *ports = json_array();

	for (uint32_t p = 0; p < span->late->ports; p++) {
		json_t *ways = json_object();
		for (uint32_t w = 0; w < TP_WAYS; w++) {
			uint64_t late = span->late->way_events[p][w], early = span->early ? span->early->way_events[p][w] : 0;
			json_object_set_new(
				ways, tp_way_name((enum tp_way)w),
				json_pack("{s:I, s:o}", "total", (json_int_t)late, "per_second", rate(span, late, early)));
		}
		json_array_append_new(ports,
				      json_pack("{s:o, s:o}", "port",
						ctl_json_text(span->late->port[p], strlen(span->late->port[p])), "ways", ways));
	}
	return ports;
}

/* {"frames":{"received","received_per_second","dropped",…},…}: what each layer took and turned away */
static json_t *layers_json(const struct span *span)
{
	json_t *layers = json_object();
	static const enum tp_counter_kind kinds[] = {TP_KIND_RECEIVED, TP_KIND_ACCEPTED, TP_KIND_REJECTED, TP_KIND_DROPPED};

	for (int layer = TP_LAYER_XDP; layer < TP_LAYER_EVENTS; layer++) {
		json_t *one = json_object();
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			uint64_t late = of_kind(span->late, (enum tp_counter_layer)layer, kinds[k]);
			uint64_t early = of_kind(span->early, (enum tp_counter_layer)layer, kinds[k]);
			json_object_set_new(
				one, tp_kind_name(kinds[k]),
				json_pack("{s:I, s:o}", "total", (json_int_t)late, "per_second", rate(span, late, early)));
		}
		json_object_set_new(layers, tp_layer_name((enum tp_counter_layer)layer), one);
	}
	return layers;
}

/* [{"ring_used_bytes","ring_bytes","log_waiting"}]: what is on its way through each shard */
static json_t *shards_json(const struct ctl_sample *sample)
{
	json_t *shards = json_array();

	for (uint32_t s = 0; s < sample->shards; s++)
		json_array_append_new(shards,
				      json_pack("{s:o, s:o, s:o}", "ring_used_bytes", number(sample->ring_used[s]), "ring_bytes",
						number(sample->ring_bytes[s]), "log_waiting", number(sample->log_waiting[s])));
	return shards;
}

static json_t *log_json(const struct span *span)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I}", "bytes_per_second", counted(span, TP_C_LOG_BYTES),
			 "event_bytes_per_second", counted(span, TP_C_LOG_EVENT_BYTES), "blocks_per_second",
			 counted(span, TP_C_LOG_BLOCKS), "stalls_per_second", counted(span, TP_C_SHARD_STALLS), "rolls",
			 (json_int_t)span->late->sum.v[TP_C_LOG_ROLLS], "segments_sealed",
			 (json_int_t)span->late->sum.v[TP_C_SEGMENTS_SEALED]);
}

static json_t *connections_json(const struct span *span)
{
	uint64_t opened = span->late->sum.v[TP_C_CONNECTIONS_OPENED], closed = span->late->sum.v[TP_C_CONNECTIONS_CLOSED];

	return json_pack("{s:I, s:o, s:o}", "open", (json_int_t)(opened > closed ? opened - closed : 0), "opened_per_second",
			 counted(span, TP_C_CONNECTIONS_OPENED), "refused_per_second", counted(span, TP_C_CONNECTIONS_REFUSED));
}

json_t *ctl_sample_json(const struct ctl_sample *late, const struct ctl_sample *early, json_t *top)
{
	struct span span = {.late = late};
	char text[TIME_BYTES];
	json_t *message = json_object(), *cores = json_array();

	/* of a data process that is gone nothing is known, not even that it does nothing */
	if (early && late->connected && ctl_sample_follows(late, early)) {
		span.early = early;
		span.seconds = (double)(late->mono_ns - early->mono_ns) / 1e9;
	}
	json_object_set_new(message, "time", json_stringn(text, tp_time_text(late->now_ms, text)));
	json_object_set_new(message, "time_ms", number(late->now_ms));
	node_into(message, late);
	events_into(message, &span);
	for (uint32_t i = 0; i < late->cores; i++)
		json_array_append_new(cores, core_json(&span, i));
	json_object_set_new(message, "cores", cores);
	json_object_set_new(message, "ack", ack_json(&span));
	json_object_set_new(message, "refusals", refusals_json(&span));
	json_object_set_new(message, "ports", ports_json(&span));
	json_object_set_new(message, "layers", layers_json(&span));
	json_object_set_new(message, "log", log_json(&span));
	json_object_set_new(message, "shards", shards_json(late));
	json_object_set_new(message, "connections", connections_json(&span));
	json_object_set_new(message, "top_minutes", json_integer(CTL_TOP_MINUTES));
	json_object_set_new(message, "top", top);
	return message;
}
