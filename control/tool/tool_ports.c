/*
 * turnpikectl ports, connections: through the command socket. The names of the reasons come from the counter table.
 */
#include "tool.h"

#include "turnpike/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 512 };

static long long integer_of(const json_t *item, const char *key)
{
	return (long long)json_integer_value(json_object_get(item, key));
}

static const char *text_of(const json_t *item, const char *key)
{
	const char *text = json_string_value(json_object_get(item, key));
	return text ? text : "";
}

/* ---- ports ---- */

static void rate_print(const char *name, long long now, long long before, double seconds)
{
	printf("  %-14s %16lld", name, now);
	if (seconds > 0)
		printf(" %12.0f/s", (double)(now - before) / seconds);
	printf("\n");
}

static void port_print(const json_t *item, const json_t *before, double seconds)
{
	static const char *const shown[] = {"rx_packets",      "rx_bytes",        "tx_packets",   "tx_bytes",
					    "rx_missed",       "rx_errors",       "rx_no_buffer", "tx_errors",
					    "frames_received", "frames_accepted", "to_tap"};
	if (!strcmp(text_of(item, "driver"), "socket")) {
		printf("ingest %lld  kernel sockets  http %s  udp %s\n", integer_of(item, "ingest"), text_of(item, "http"),
		       text_of(item, "udp"));
		return;
	}
	printf("ingest %lld  %s  driver %s%s%s  mac %s  link %s", integer_of(item, "ingest"), text_of(item, "device"),
	       text_of(item, "driver"), text_of(item, "interface")[0] ? "  interface " : "", text_of(item, "interface"),
	       text_of(item, "mac"), json_is_true(json_object_get(item, "link")) ? "up" : "down");
	if (integer_of(item, "speed_mbps"))
		printf(" %lld Mb/s", integer_of(item, "speed_mbps"));
	printf("\n  queues %lld for %lld rx cores, flows spread by %s%s  checksums rx %s, tx %s  mtu %lld",
	       integer_of(item, "queues"), integer_of(item, "rx_cores"), text_of(item, "spread"),
	       json_is_true(json_object_get(item, "symmetric_rss")) ? " (symmetric key)" : "",
	       json_is_true(json_object_get(item, "rx_checksum_offload")) ? "device" : "software",
	       json_is_true(json_object_get(item, "tx_checksum_offload")) ? "device" : "software", integer_of(item, "mtu"));
	if (text_of(item, "xdp")[0])
		printf("  XDP %s", text_of(item, "xdp"));
	if (integer_of(item, "card_rules"))
		printf("  %lld drop rules in the card", integer_of(item, "card_rules"));
	if (text_of(item, "tap")[0])
		printf("  tap %s", text_of(item, "tap"));
	printf("\n");
	const json_t *traffic = json_object_get(item, "traffic"), *earlier = json_object_get(before, "traffic");
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		rate_print(shown[i], integer_of(traffic, shown[i]), integer_of(earlier, shown[i]), seconds);
	const char *reason;
	json_t *count;
	json_object_foreach(json_object_get(traffic, "dropped"), reason, count)
	{
		char name[64];
		snprintf(name, sizeof(name), "drop %s", reason);
		if (json_integer_value(count))
			rate_print(name, (long long)json_integer_value(count),
				   integer_of(json_object_get(earlier, "dropped"), reason), seconds);
	}
}

int ctl_tool_ports(struct ctl_tool *tool, int words, char **word)
{
	double interval = tool->json ? 0 : 1;
	if (words == 2 && !strcmp(word[0], "--interval")) {
		char *end;
		interval = strtod(word[1], &end);
		if (*end || !(interval >= 0 && interval <= 3600))
			return 2;
	} else if (words) {
		return 2;
	}
	json_t *before = ctl_tool_command(tool, "ports");
	if (!before)
		return 1;
	json_t *now = before;
	if (interval > 0) {
		usleep((useconds_t)(interval * 1e6));
		now = ctl_tool_command(tool, "ports");
		if (!now) {
			json_decref(before);
			return 1;
		}
	}
	double seconds = (double)(integer_of(now, "monotonic_ns") - integer_of(before, "monotonic_ns")) / 1e9;
	if (tool->json) {
		json_object_del(now, "ok");
		if (now != before)
			json_decref(before);
		return ctl_tool_print(now);
	}
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(now, "items"), i, item)
		port_print(item, json_array_get(json_object_get(before, "items"), i), seconds);
	if (now != before)
		json_decref(now);
	json_decref(before);
	return 0;
}

/* ---- connections ---- */

static int connections_line(int words, char **word, char *line, size_t bytes)
{
	size_t used = (size_t)snprintf(line, bytes, "connections");
	for (int i = 0; i < words; i++) {
		const char *key = !strcmp(word[i], "--limit")   ? "limit"
				  : !strcmp(word[i], "--peer")  ? "peer"
				  : !strcmp(word[i], "--state") ? "state"
								: NULL;
		if (!key || i + 1 == words || strpbrk(word[i + 1], " \n"))
			return 2;
		used += (size_t)snprintf(line + used, bytes - used, " %s=%s", key, word[++i]);
		if (used >= bytes)
			return 2;
	}
	return 0;
}

int ctl_tool_connections(struct ctl_tool *tool, int words, char **word)
{
	char line[LINE_BYTES];
	if (connections_line(words, word, line, sizeof(line)))
		return 2;
	int status;
	json_t *answer = ctl_tool_ask(tool, line, &status);
	if (!answer)
		return status;
	json_object_del(answer, "ok");
	if (tool->json)
		return ctl_tool_print(answer);
	const char *state;
	json_t *count, *item;
	size_t i;
	json_object_foreach(json_object_get(answer, "states"), state, count)
		printf("%-12s %" JSON_INTEGER_FORMAT "\n", state, json_integer_value(count));
	printf("\n%-46s %-12s %4s %10s %10s %9s %12s %12s\n", "PEER", "STATE", "CORE", "AGE s", "IDLE s", "SRTT ms", "IN bytes",
	       "OUT bytes");
	json_array_foreach(json_object_get(answer, "items"), i, item) printf(
		"%-46s %-12s %4lld %10.1f %10.1f %9.3f %12lld %12lld\n", text_of(item, "peer"), text_of(item, "state"),
		integer_of(item, "rx_core"), (double)integer_of(item, "age_ms") / 1e3, (double)integer_of(item, "idle_ms") / 1e3,
		(double)integer_of(item, "srtt_us") / 1e3, integer_of(item, "in_bytes"), integer_of(item, "out_bytes"));
	long long matched = integer_of(answer, "matched"), shown = (long long)json_array_size(json_object_get(answer, "items"));
	if (matched > shown)
		printf("… %lld more, see --limit and --peer\n", matched - shown);
	if (!json_is_true(json_object_get(answer, "whole")))
		printf("not whole: an rx core was too busy to look at all of its connections\n");
	json_decref(answer);
	return 0;
}
