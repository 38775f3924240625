/*
 * What the command socket tells of ports, connections and single packets (docs/command-socket.md). The command thread; connections
 * are read by the rx cores themselves, a few records a round.
 */
#include "node.h"

#include "turnpike/log.h"
#include "turnpike/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIST_WAIT_MS = 2000, LIST_STEP_US = 200 };

/* ---- words of the form key=value ---- */

/* The value of the next word if its key is `key`, else NULL. */
static const char *value_of(const char *word, const char *key)
{
	size_t bytes = strlen(key);
	return strncmp(word, key, bytes) == 0 && word[bytes] == '=' ? word + bytes + 1 : NULL;
}

static bool number_of(const char *text, uint64_t most, uint64_t *number)
{
	char *end;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *number <= most;
}

static json_t *refused(const char *error)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", error);
}

/* The caller's words are wrong: the tool's exit status 2. */
static json_t *refused_words(const char *error)
{
	return json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error, "code", "bad_argument");
}

/* ---- ports ---- */

static json_t *port_json(const struct dp_port_info *info)
{
	json_t *item = json_pack("{s:i, s:s, s:s, s:s, s:s, s:b, s:I, s:i, s:i, s:i, s:s, s:b, s:b, s:b, s:s, s:i, s:s}", "ingest",
				 info->ingest, "driver", info->driver, "device", info->device, "interface", info->interface, "mac",
				 info->mac, "link", info->link_up, "speed_mbps", (json_int_t)info->speed_mbps, "mtu", info->mtu,
				 "queues", info->queues, "rx_cores", info->rx_cores, "spread", info->spread, "symmetric_rss",
				 info->rss_symmetric, "rx_checksum_offload", info->rx_sums, "tx_checksum_offload", info->tx_sums,
				 "xdp", info->xdp, "card_rules", (int)info->card_rules, "tap", info->tap);
	json_t *traffic = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_packets", (json_int_t)info->rx_packets,
				    "rx_bytes", (json_int_t)info->rx_bytes, "rx_missed", (json_int_t)info->rx_missed, "rx_errors",
				    (json_int_t)info->rx_errors, "rx_no_buffer", (json_int_t)info->rx_no_buffer, "tx_packets",
				    (json_int_t)info->tx_packets, "tx_bytes", (json_int_t)info->tx_bytes, "tx_errors",
				    (json_int_t)info->tx_errors);
	json_t *dropped = json_object();
	for (uint32_t i = 0; i < DP_PORT_VERDICTS; i++) {
		const struct tp_counter_info *row = &tp_counter_info[TP_C_FRAMES_RECEIVED + i];
		if (row->kind == TP_KIND_RECEIVED)
			json_object_set_new(traffic, "frames_received", json_integer((json_int_t)info->verdict[i]));
		else if (row->kind == TP_KIND_ACCEPTED)
			json_object_set_new(traffic, row->label[0] ? row->label : "frames_accepted",
					    json_integer((json_int_t)info->verdict[i]));
		else if (row->kind == TP_KIND_DROPPED)
			json_object_set_new(dropped, row->label, json_integer((json_int_t)info->verdict[i]));
	}
	json_object_set_new(traffic, "dropped", dropped);
	json_object_set_new(item, "traffic", traffic);
	return item;
}

json_t *dp_ports_json(struct dp_node *node)
{
	json_t *items = json_array();
	for (uint32_t i = 0; i < node->config.ingest_count; i++) {
		const struct tp_config_ingest *ingest = &node->config.ingest[i];
		json_t *item;
		struct dp_port_info info;
		if (ingest->driver == TP_DRIVER_DPDK && dp_dpdk_port_info(ingest, &info) == 0) {
			info.ingest = (int)i;
			item = port_json(&info);
		} else {
			char http[TP_ENDPOINT_TEXT_BYTES] = "", udp[TP_ENDPOINT_TEXT_BYTES] = "";
			if (ingest->http.addr.family)
				tp_endpoint_text(&ingest->http, http);
			if (ingest->udp.addr.family)
				tp_endpoint_text(&ingest->udp, udp);
			item = json_pack("{s:i, s:s, s:s, s:s, s:i}", "ingest", (int)i, "driver", "socket", "http", http, "udp",
					 udp, "rx_cores", (int)node->config.rx_count);
		}
		json_array_append_new(items, item);
	}
	return json_pack("{s:b, s:I, s:o}", "ok", 1, "monotonic_ns", (json_int_t)tp_mono_ns(), "items", items);
}

/* ---- connections ---- */

/* Those that rows have: half-open and waiting connections are only counted. */
static bool state_known(const char *name)
{
	static const char *const known[] = {"established", "fin_wait_1", "fin_wait_2", "close_wait", "closing", "last_ack"};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	return false;
}

static const char *list_arguments(struct dp_connection_list *list, char *arguments)
{
	char *save = NULL;
	for (char *word = strtok_r(arguments, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		const char *value;
		uint64_t number;
		if ((value = value_of(word, "limit"))) {
			if (!number_of(value, DP_CONNECTION_ROWS_MAX, &number))
				return "limit: expected a number from 0 to 1000";
			list->rows_max = (uint32_t)number;
		} else if ((value = value_of(word, "peer"))) {
			if (tp_prefix_parse(value, strlen(value), &list->prefix))
				return "peer: expected a prefix such as 192.0.2.0/24";
			list->has_prefix = true;
		} else if ((value = value_of(word, "state"))) {
			if (!state_known(value))
				return "state: expected established, fin_wait_1, fin_wait_2, close_wait, closing or last_ack";
			list->state = value;
		} else {
			return "expected limit=N, peer=PREFIX or state=NAME";
		}
	}
	return NULL;
}

/* Lets one rx core fill the list. False: it did not get to the end in time. */
static bool core_ask(struct dp_node *node, struct dp_core *core, struct dp_connection_list *list)
{
	uint64_t until_ns = tp_mono_ns() + LIST_WAIT_MS * 1000000ULL;
	atomic_store_explicit(&core->asked, list, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	dp_core_wake(core);
	while (atomic_load_explicit(&core->asked, memory_order_acquire) && tp_mono_ns() < until_ns)
		usleep(LIST_STEP_US);
	if (!atomic_load_explicit(&core->asked, memory_order_acquire))
		return true;
	atomic_store_explicit(&core->asked, NULL, memory_order_release);
	dp_cores_synchronize(node); /* from here on it has let go of the list */
	return false;
}

static json_t *connection_json(const struct dp_connection *row)
{
	char peer[TP_ENDPOINT_TEXT_BYTES];
	tp_endpoint_text(&row->peer, peer);
	return json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "peer", peer, "state", row->state, "ingest",
			 row->ingest, "rx_core", row->core, "age_ms", (json_int_t)row->age_ms, "idle_ms", (json_int_t)row->idle_ms,
			 "srtt_us", (json_int_t)row->srtt_us, "in_bytes", (json_int_t)row->in_bytes, "out_bytes",
			 (json_int_t)row->out_bytes, "unacknowledged", (json_int_t)row->unacknowledged);
}

json_t *dp_connections_json(struct dp_node *node, char *arguments)
{
	struct dp_connection_list *list = node->cores_run ? calloc(1, sizeof(*list)) : NULL;
	if (!list)
		return refused(node->cores_run ? strerror(ENOMEM) : "the node is starting");
	list->state = "";
	list->rows_max = 100;
	const char *error = list_arguments(list, arguments);
	if (error) {
		free(list);
		return refused_words(error);
	}
	bool whole = true;
	for (uint32_t q = 0; q < node->config.rx_count; q++)
		whole = core_ask(node, node->rx_cores[q], list) && whole;
	json_t *states = json_object(), *items = json_array();
	for (uint32_t i = 0; i < DP_CONNECTION_STATES && list->states[i].state; i++)
		json_object_set_new(states, list->states[i].state, json_integer((json_int_t)list->states[i].count));
	for (uint32_t i = 0; i < list->rows; i++)
		json_array_append_new(items, connection_json(&list->row[i]));
	json_t *answer = json_pack("{s:b, s:b, s:o, s:I, s:o}", "ok", 1, "whole", whole, "states", states, "matched",
				   (json_int_t)list->matched, "items", items);
	free(list);
	return answer;
}

/* ---- trace and capture ---- */

struct sight_request {
	struct tp_sight_filter filter;
	uint64_t records, seconds, snap;
};

static const char *kinds_parse(const char *text, uint32_t *kinds)
{
	*kinds = 0;
	while (*text) {
		size_t bytes = strcspn(text, ",");
		uint32_t kind = 0;
		while (kind < TP_SIGHT_KINDS &&
		       (strncmp(text, tp_sight_kind_name(kind), bytes) != 0 || tp_sight_kind_name(kind)[bytes] != 0))
			kind++;
		if (kind == TP_SIGHT_KINDS)
			return "kinds: expected some of in,out,request,datagram";
		*kinds |= 1U << kind;
		text += bytes + (text[bytes] == ',');
	}
	return *kinds ? NULL : "kinds: expected some of in,out,request,datagram";
}

static const char *type_parse(const char *text, uint8_t *type)
{
	for (*type = 0; *type < TP_SIGHT_TYPES; ++*type)
		if (strcmp(text, tp_sight_type_name(*type)) == 0)
			return NULL;
	return "type: expected any, arp, icmp, tcp or udp";
}

static const char *sight_arguments(struct sight_request *request, char *arguments)
{
	char *save = NULL;
	for (char *word = strtok_r(arguments, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		const char *value, *error = NULL;
		uint64_t number;
		if ((value = value_of(word, "kinds"))) {
			error = kinds_parse(value, &request->filter.kinds);
		} else if ((value = value_of(word, "type"))) {
			error = type_parse(value, &request->filter.type);
		} else if ((value = value_of(word, "records"))) {
			if (!number_of(value, TP_SIGHT_RECORDS_MAX, &request->records) || !request->records)
				error = "records: expected a number from 1 to 1000000";
		} else if ((value = value_of(word, "seconds"))) {
			if (!number_of(value, TP_SIGHT_SECONDS_MAX, &request->seconds) || !request->seconds)
				error = "seconds: expected a number from 1 to 600";
		} else if ((value = value_of(word, "snap"))) {
			if (!number_of(value, 65535, &request->snap))
				error = "snap: expected a number of bytes up to 65535";
		} else if ((value = value_of(word, "port"))) {
			if (!number_of(value, 65535, &number))
				error = "port: expected a number up to 65535";
			request->filter.port = (uint16_t)number;
		} else if ((value = value_of(word, "prefix"))) {
			request->filter.has_prefix = true;
			if (tp_prefix_parse(value, strlen(value), &request->filter.prefix))
				error = "prefix: expected an address or prefix such as 192.0.2.0/24";
		} else if ((value = value_of(word, "path"))) {
			if (strlen(value) >= sizeof(request->filter.path))
				error = "path: expected at most 63 bytes";
			else
				strcpy(request->filter.path, value);
		} else {
			error = "expected kinds=, type=, records=, seconds=, snap=, port=, prefix= or path=";
		}
		if (error)
			return error;
	}
	return NULL;
}

json_t *dp_sight_start(struct dp_node *node, int client, char *arguments, int *passed_fd)
{
	struct sight_request request = {.filter.kinds = (1U << TP_SIGHT_KINDS) - 1, .records = 100, .seconds = 10, .snap = 65535};
	const char *error = sight_arguments(&request, arguments);
	if (error)
		return refused_words(error);
	if (!node->cores_run)
		return refused("the node is starting");
	if (node->sight_client >= 0 && node->sight_client != client && tp_sight_running(node->sight, tp_mono_ns()))
		return refused("somebody else traces or captures; it ends by itself");
	tp_sight_stop(node->sight);
	dp_cores_synchronize(node);
	tp_sight_start(node->sight, &request.filter, (uint32_t)request.records, (uint32_t)request.seconds, (uint32_t)request.snap);
	node->sight_client = client;
	*passed_fd = node->sight_fd;
	return json_pack("{s:b, s:I}", "ok", 1, "session",
			 (json_int_t)atomic_load_explicit(&node->sight->session, memory_order_relaxed));
}

void dp_sight_client_gone(struct dp_node *node, int client)
{
	if (client != node->sight_client)
		return;
	tp_sight_stop(node->sight);
	node->sight_client = -1;
}
