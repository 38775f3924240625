/* The live message's parts that tell of ports, XDP, the layers and the log; see ctl_sample.h. Pure. */
#include "ctl_sample.h"

#include "ctl_request.h"

#include <string.h>

/* What is compared, and over how long. */
struct span {
	const struct ctl_sample *late, *early; /* early may be NULL */
	double seconds;
};

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *counted(const struct span *span, enum tp_counter counter)
{
	return ctl_sample_rate(span->early, span->late->sum.v[counter], span->early ? span->early->sum.v[counter] : 0,
			       span->seconds);
}

static uint64_t of_kind(const struct ctl_sample *sample, enum tp_counter_layer layer, enum tp_counter_kind kind)
{
	uint64_t sum = 0;
	for (uint32_t c = 0; sample && c < TP_COUNTERS; c++)
		if (tp_counter_info[c].layer == layer && tp_counter_info[c].kind == kind)
			sum += sample->sum.v[c];
	return sum;
}

/* [{"port","ways":{"http":{"total","per_second"},…}}]: events by where and how they came in */
static json_t *ports_json(const struct span *span)
{
	json_t *ports = json_array();

	for (uint32_t p = 0; p < span->late->ports; p++) {
		json_t *ways = json_object();
		for (uint32_t w = 0; w < TP_WAYS; w++) {
			uint64_t late = span->late->way_events[p][w], early = span->early ? span->early->way_events[p][w] : 0;
			json_object_set_new(ways, tp_way_name((enum tp_way)w),
					    json_pack("{s:I, s:o}", "total", (json_int_t)late, "per_second",
						      ctl_sample_rate(span->early, late, early, span->seconds)));
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
			json_object_set_new(one, tp_kind_name(kinds[k]),
					    json_pack("{s:I, s:o}", "total", (json_int_t)late, "per_second",
						      ctl_sample_rate(span->early, late, early, span->seconds)));
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

void ctl_sample_parts_into(json_t *message, const struct ctl_sample *late, const struct ctl_sample *early, double seconds)
{
	const struct span span = {late, early, seconds};

	json_object_set_new(message, "ports", ports_json(&span));
	json_object_set_new(message, "layers", layers_json(&span));
	json_object_set_new(message, "log", log_json(&span));
	json_object_set_new(message, "shards", shards_json(late));
	json_object_set_new(message, "connections", connections_json(&span));
}

uint64_t ctl_sample_shed(const struct ctl_sample *late, const struct ctl_sample *early)
{
	static const enum tp_counter shed[] = {TP_C_REQUESTS_503, TP_C_EVENTS_RING_FULL, TP_C_EVENTS_NO_SPACE,
					       TP_C_DATAGRAMS_RING_FULL, TP_C_DATAGRAMS_NO_REQUEST};
	uint64_t sum = 0;

	if (!ctl_sample_follows(late, early))
		return 0;
	for (size_t i = 0; i < sizeof(shed) / sizeof(shed[0]); i++)
		sum += late->sum.v[shed[i]] - early->sum.v[shed[i]];
	return sum;
}
