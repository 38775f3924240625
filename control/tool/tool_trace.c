/*
 * turnpikectl trace: the next packets and requests that match, each with its verdict at every step. Frames that our XDP program
 * drops never reach the rx core; how many those were meanwhile is told at the end, from the counters.
 */
#include "tool_sight.h"

#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const method_name[] = {"GET", "HEAD", "POST", "OPTIONS", "?"};

static void flags_text(uint8_t flags, char *to)
{
	static const char letters[] = "FSRPA";
	for (int bit = 0; bit < 5; bit++)
		if (flags & 1 << bit)
			*to++ = letters[bit];
	*to = '\0';
}

/* "10.0.0.2:4000 > 10.0.0.1:80 tcp SA" */
static void flow_text(const struct tp_sight_slot *slot, char *to, size_t bytes)
{
	struct tp_sight_flow flow;
	char from[TP_ENDPOINT_TEXT_BYTES] = "", target[TP_ENDPOINT_TEXT_BYTES] = "", flags[8];
	tp_sight_flow(slot->data, slot->record.kept, &flow);
	if (flow.has_ports) {
		tp_endpoint_text(&flow.from, from);
		tp_endpoint_text(&flow.to, target);
	} else if (flow.has_addresses) {
		tp_addr_text(&flow.from.addr, from);
		tp_addr_text(&flow.to.addr, target);
	}
	flags_text(flow.tcp_flags, flags);
	if (flow.type == TP_SIGHT_ANY && !flow.has_addresses)
		snprintf(to, bytes, "ethertype 0x%04x", flow.ethertype);
	else
		snprintf(to, bytes, "%s > %s %s %s", from, target, flow.type == TP_SIGHT_ANY ? "ip" : tp_sight_type_name(flow.type),
			 flags);
}

static void subject_text(const struct tp_sight_slot *slot, char *to, size_t bytes)
{
	const struct tp_sight_record *record = &slot->record;
	char peer[TP_ENDPOINT_TEXT_BYTES];
	if (record->kind == TP_SIGHT_FRAME_IN || record->kind == TP_SIGHT_FRAME_OUT) {
		flow_text(slot, to, bytes);
		return;
	}
	tp_endpoint_text(&record->peer, peer);
	if (record->kind == TP_SIGHT_REQUEST)
		snprintf(to, bytes, "%s %s %.*s", peer, method_name[record->method <= 4 ? record->method : 4], (int)record->kept,
			 (const char *)slot->data);
	else
		snprintf(to, bytes, "%s", peer);
}

static void record_print(const struct tp_sight_slot *slot)
{
	const struct tp_sight_record *record = &slot->record;
	char subject[256], verdict[512];
	const time_t seconds = (time_t)(record->wall_ns / 1000000000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	subject_text(slot, subject, sizeof(subject));
	for (char *at = subject; *at; at++) /* a path may hold anything */
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	ctl_sight_verdict(slot, verdict, sizeof(verdict));
	printf("%02d:%02d:%02d.%06u core %u %-8s %s", tm.tm_hour, tm.tm_min, tm.tm_sec,
	       (unsigned)(record->wall_ns % 1000000000 / 1000), record->core, tp_sight_kind_name((enum tp_sight_kind)record->kind),
	       subject);
	if (record->kind != TP_SIGHT_REQUEST)
		printf(" %u bytes", record->bytes);
	printf("  %s\n", verdict);
	fflush(stdout);
}

static void record_json(const struct tp_sight_slot *slot)
{
	const struct tp_sight_record *record = &slot->record;
	const struct tp_counter_info *info = &tp_counter_info[record->verdict];
	char subject[256];
	subject_text(slot, subject, sizeof(subject));
	json_t *item = json_pack("{s:I, s:s, s:i, s:i, s:o}", "time_ns", (json_int_t)record->wall_ns, "kind",
				 tp_sight_kind_name((enum tp_sight_kind)record->kind), "core", record->core, "ingest",
				 record->ingest, "steps", ctl_sight_steps(slot));
	json_t *text = json_string(subject);
	json_object_set_new(item, "subject", text ? text : json_null()); /* null: a path that is no UTF-8 */
	if (record->kind == TP_SIGHT_REQUEST) {
		json_object_set_new(item, "status", json_integer(record->status));
		json_object_set_new(item, "waited_ns", json_integer((json_int_t)record->waited_ns));
	} else {
		json_object_set_new(item, "bytes", json_integer(record->bytes));
		json_object_set_new(item, "verdict",
				    json_string(info->kind == TP_KIND_DROPPED || info->kind == TP_KIND_REJECTED ? info->label
						: record->kind == TP_SIGHT_FRAME_OUT                            ? "sent"
						: info->label[0]                                                ? info->label
														: "accepted"));
	}
	ctl_tool_print(item);
}

/* How the counters of our XDP program and of dropped frames have moved. */
static void xdp_print(const struct tp_counters *before, const struct tp_counters *after)
{
	for (uint32_t c = 0; c < TP_COUNTERS; c++) {
		uint64_t grown = after->v[c] - before->v[c];
		const struct tp_counter_info *info = &tp_counter_info[c];
		if (grown && info->layer == TP_LAYER_XDP)
			printf("meanwhile: xdp %-10s %-24s %12" PRIu64 "\n", tp_kind_name((enum tp_counter_kind)info->kind),
			       info->label, grown);
	}
}

int ctl_tool_trace(struct ctl_tool *tool, int words, char **word)
{
	struct ctl_sight_options options = {.kinds = "in,request,datagram", .records = 20, .seconds = 10};
	struct ctl_sight session;
	struct tp_counters before, after;
	const struct tp_live *live;
	int connection;
	int rc = ctl_sight_arguments(&options, &words, word);
	if (rc)
		return rc;
	if (words == 1 && !strcmp(word[0], "--packets"))
		options.kinds = "in,out";
	else if (words == 1 && !strcmp(word[0], "--requests"))
		options.kinds = "request,datagram";
	else if (words)
		return 2;
	if (ctl_tool_attach(tool, &live, &connection))
		return 1;
	ctl_tool_counters(live, &before);
	rc = ctl_sight_open(&session, tool, &options);
	if (!rc) {
		struct tp_sight_slot slot;
		while (ctl_sight_next(&session, &slot))
			tool->json ? record_json(&slot) : record_print(&slot);
		ctl_sight_close(&session);
		ctl_tool_counters(live, &after);
		if (!tool->json)
			xdp_print(&before, &after);
	}
	tp_live_unmap(live);
	close(connection);
	return rc;
}
