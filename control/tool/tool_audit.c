/*
 * turnpikectl audit: contract section 8. Each layer's received must equal accepted + duplicates + late + conflicts + rejected +
 * dropped + in flight. Every term is counted on its own; none is derived from the others.
 */
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static const char *const kind_key[TP_KINDS] = {
	[TP_KIND_RECEIVED] = "received", [TP_KIND_ACCEPTED] = "accepted",   [TP_KIND_DUPLICATES] = "duplicates",
	[TP_KIND_LATE] = "late",         [TP_KIND_CONFLICTS] = "conflicts", [TP_KIND_IN_FLIGHT] = "in_flight",
};

struct sheet {
	uint64_t of[TP_KINDS];
};

static struct sheet sheet_sum(const struct tp_counters *sum, enum tp_counter_layer layer)
{
	struct sheet sheet = {0};
	for (int c = 0; c < TP_COUNTERS; c++)
		if (tp_counter_info[c].layer == layer)
			sheet.of[tp_counter_info[c].kind] += sum->v[c];
	return sheet;
}

static uint64_t sheet_kept(const struct sheet *sheet)
{
	uint64_t kept = 0;
	for (int kind = 0; kind < TP_KIND_OTHER; kind++)
		if (kind != TP_KIND_RECEIVED)
			kept += sheet->of[kind];
	return kept;
}

static json_t *layer_json(const struct tp_counters *sum, enum tp_counter_layer layer, const struct sheet *sheet)
{
	json_t *out = json_object(), *rejected = json_object(), *dropped = json_object();
	json_object_set_new(out, "layer", json_string(tp_layer_name(layer)));
	for (int kind = 0; kind < TP_KINDS; kind++) {
		if (kind == TP_KIND_REJECTED)
			json_object_set_new(out, "rejected", rejected);
		else if (kind == TP_KIND_DROPPED)
			json_object_set_new(out, "dropped", dropped);
		else if (kind_key[kind])
			json_object_set_new(out, kind_key[kind], json_integer((json_int_t)sheet->of[kind]));
	}
	for (int c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if (info->layer == layer && (info->kind == TP_KIND_REJECTED || info->kind == TP_KIND_DROPPED))
			json_object_set_new(info->kind == TP_KIND_REJECTED ? rejected : dropped, info->label,
					    json_integer((json_int_t)sum->v[c]));
	}
	json_object_set_new(out, "balanced", json_boolean(sheet->of[TP_KIND_RECEIVED] == sheet_kept(sheet)));
	return out;
}

static void layer_print(const struct tp_counters *sum, enum tp_counter_layer layer, const struct sheet *sheet)
{
	printf("%s\n", tp_layer_name(layer));
	for (int c = 0; c < TP_COUNTERS; c++) {
		const struct tp_counter_info *info = &tp_counter_info[c];
		if (info->layer == layer && (sum->v[c] || info->kind == TP_KIND_RECEIVED || info->kind == TP_KIND_ACCEPTED))
			printf("  %-10s %-22s %16" PRIu64 "\n", tp_kind_name(info->kind), info->label, sum->v[c]);
	}
	uint64_t kept = sheet_kept(sheet);
	if (sheet->of[TP_KIND_RECEIVED] == kept)
		printf("  balances\n");
	else
		printf("  DOES NOT BALANCE: received %" PRIu64 ", accounted for %" PRIu64 "\n", sheet->of[TP_KIND_RECEIVED], kept);
}

int ctl_tool_audit(struct ctl_tool *tool, int words, char **word)
{
	(void)word;
	if (words)
		return 2;
	const struct tp_live *live;
	int connection;
	if (ctl_tool_attach(tool, &live, &connection))
		return 1;
	struct tp_counters sum;
	ctl_tool_counters(live, &sum);
	json_t *layers = json_array();
	bool balanced = true;
	for (int layer = 0; layer < TP_LAYER_CORE; layer++) {
		struct sheet sheet = sheet_sum(&sum, (enum tp_counter_layer)layer);
		balanced &= sheet.of[TP_KIND_RECEIVED] == sheet_kept(&sheet);
		if (tool->json)
			json_array_append_new(layers, layer_json(&sum, (enum tp_counter_layer)layer, &sheet));
		else
			layer_print(&sum, (enum tp_counter_layer)layer, &sheet);
	}
	if (tool->json)
		ctl_tool_print(json_pack("{s:O, s:b}", "layers", layers, "balanced", balanced));
	json_decref(layers);
	tp_live_unmap(live);
	close(connection);
	return balanced ? 0 : 1;
}
