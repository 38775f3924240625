/*
 * Turns the loaded file into struct tp_config: units, addresses, defaults. The defaults are those of the contract's example
 * (section 3); the four keys that it does not show are in docs/tuning.md.
 *
 * Cold code, any thread. Every error is printed, so one run shows all.
 */
#include "config_fill.h"

#include "turnpike/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS                  1000000ULL
#define SEC                 (1000 * MS)
#define MIN                 (60 * SEC)
#define HOUR                (60 * MIN)
#define DAY                 (24 * HOUR)
#define YEAR                (365 * DAY)
#define KIB                 1024ULL
#define MIB                 (1024 * 1024ULL)
#define NODE_NAME_BYTES_MAX 63
#define HTTP_PORT           80
#define UDP_PORT            7771

enum { COLLECTOR_BYTES_MAX = 400 };
enum { CONNECTIONS_PER_SOURCE = 8192, BATCH_WINDOW = 1024, BATCH_WINDOW_MAX = 4096 };

struct fill {
	const struct config_tree *tree;
	struct config_errors *errors;
	bool no_memory;
};

enum { CONNECTIONS_LEAST = 64, CONNECTIONS_MOST = 4194304, DLQ_PER_SECOND_MOST = 100000 };

static void say(struct fill *fill, const char *dotted, const char *text)
{
	char room[80];
	config_error(fill->errors, config_tree_line(fill->tree, dotted), dotted, "expected %s, found %s",
		     tp_config_expected(dotted), config_quote(text, strlen(text), room));
}

static void *array(struct fill *fill, uint32_t count, size_t each)
{
	void *made = calloc(count ? count : 1, each);
	if (!made)
		fill->no_memory = true;
	return made;
}

static char *copy(struct fill *fill, const char *text)
{
	char *made = strdup(text);
	if (!made)
		fill->no_memory = true;
	return made;
}

/* A duration in `unit_ns`, of which it must be a whole number, between least and most. */
static void duration(struct fill *fill, const char *text, const char *dotted, uint64_t preset_ns, uint64_t unit_ns,
		     uint64_t least_ns, const char *least, uint64_t most_ns, const char *most, uint64_t *to)
{
	uint64_t ns;
	char room[80];

	*to = preset_ns / unit_ns;
	if (!text)
		return;
	int rc = tp_duration_parse(text, strlen(text), &ns);
	if (rc == -EINVAL) {
		say(fill, dotted, text);
	} else if (rc != 0 || ns < least_ns || ns > most_ns || ns % unit_ns != 0) {
		config_error(fill->errors, config_tree_line(fill->tree, dotted), dotted,
			     "expected a duration from %s to %s%s, found %s", least, most, unit_ns == MS ? " in whole ms" : "",
			     config_quote(text, strlen(text), room));
	} else {
		*to = ns / unit_ns;
	}
}

/* A size between least and most, a multiple of `step`, or a power of two where step is 0. */
static void size(struct fill *fill, const char *text, const char *dotted, uint64_t preset, uint64_t least, uint64_t most,
		 uint64_t step, const char *rule, uint64_t *to)
{
	uint64_t bytes;
	char room[80];

	*to = preset;
	if (!text)
		return;
	if (tp_size_parse(text, strlen(text), &bytes) != 0)
		say(fill, dotted, text);
	else if (bytes < least || bytes > most || (step ? bytes % step != 0 : (bytes & (bytes - 1)) != 0))
		config_error(fill->errors, config_tree_line(fill->tree, dotted), dotted, "expected %s, found %s", rule,
			     config_quote(text, strlen(text), room));
	else
		*to = bytes;
}

static void endpoint(struct fill *fill, const char *text, const char *dotted, struct tp_endpoint *to)
{
	if (text && tp_endpoint_parse(text, strlen(text), to) != 0) {
		*to = (struct tp_endpoint){0};
		say(fill, dotted, text);
	}
}

/* `with_length`: a port must know what is on its link, so an address alone is not taken for a host. */
static struct tp_prefix *prefixes(struct fill *fill, char **text, uint32_t count, const char *key, bool with_length)
{
	struct tp_prefix *made = array(fill, count, sizeof(*made));

	for (uint32_t i = 0; made && i < count; i++) {
		char dotted[CONFIG_DOTTED_BYTES];
		snprintf(dotted, sizeof(dotted), "%s[%u]", key, i);
		if (tp_prefix_parse(text[i], strlen(text[i]), &made[i]) != 0 || (with_length && !strchr(text[i], '/')))
			say(fill, dotted, text[i]);
	}
	return made;
}

/* "10.77.0.2" or "10.77.0.2, fd00:77::2". */
static void gateway(struct fill *fill, const char *text, const char *dotted, struct tp_config_ingest *to)
{
	to->gateway = array(fill, 2, sizeof(*to->gateway));
	if (!text || !to->gateway)
		return;
	for (const char *at = text;;) {
		at += strspn(at, " ");
		size_t bytes = strcspn(at, ", ");
		const char *next = at + bytes + strspn(at + bytes, " ");
		struct tp_addr addr;
		if (tp_addr_parse(at, bytes, &addr) != 0 || (*next != '\0' && *next != ',') || to->gateway_count == 2 ||
		    (to->gateway_count == 1 && to->gateway[0].family == addr.family)) {
			say(fill, dotted, text);
			return;
		}
		to->gateway[to->gateway_count++] = addr;
		if (*next == '\0')
			return;
		at = next + 1;
	}
}

/* A limit, or "off", which is 0. */
static void limit(struct fill *fill, const char *text, const char *dotted, uint32_t preset, uint32_t *to)
{
	*to = text ? 0 : preset;
	if (!text || strcmp(text, "off") == 0)
		return;
	uint64_t value = 0;
	size_t bytes = strlen(text);
	bool good = bytes > 0 && bytes <= 10 && strspn(text, "0123456789") == bytes && text[0] != '0';
	if (good)
		value = strtoull(text, NULL, 10);
	if (!good || value > UINT32_MAX)
		say(fill, dotted, text);
	else
		*to = (uint32_t)value;
}

static void fill_ingest(struct fill *fill, const struct raw_ingest *raw, uint32_t index, struct tp_config_ingest *to)
{
	char dotted[CONFIG_DOTTED_BYTES];
#define KEY(name) (snprintf(dotted, sizeof(dotted), "ingest[%u]." name, index), dotted)
	to->driver = (enum tp_driver)raw->driver;
	endpoint(fill, raw->http, KEY("http"), &to->http);
	endpoint(fill, raw->udp, KEY("udp"), &to->udp);
	to->device = raw->device ? copy(fill, raw->device) : NULL;
	to->address_count = raw->address_count;
	to->address = prefixes(fill, raw->address, raw->address_count, KEY("address"), true);
	gateway(fill, raw->gateway, KEY("gateway"), to);
	to->tap = raw->tap ? copy(fill, raw->tap) : NULL;
	bool dpdk = to->driver == TP_DRIVER_DPDK;
	to->http_port = raw->http_port ? *raw->http_port : dpdk ? HTTP_PORT : 0;
	to->udp_port = raw->udp_port ? *raw->udp_port : dpdk ? UDP_PORT : 0;
	to->auth_tokens = raw->auth == RAW_SEND_TOKENS;
	limit(fill, raw->rate_limit, KEY("rate_limit"), 0, &to->rate_limit);
	limit(fill, raw->packet_rate_limit, KEY("packet_rate_limit"), 0, &to->packet_rate_limit);
	limit(fill, raw->token_rate_limit, KEY("token_rate_limit"), 0, &to->token_rate_limit);
	limit(fill, raw->connections_per_source, KEY("connections_per_source"), CONNECTIONS_PER_SOURCE,
	      &to->connections_per_source);
	to->batch_window = raw->batch_window ? *raw->batch_window : BATCH_WINDOW;
	if (to->batch_window < 1 || to->batch_window > BATCH_WINDOW_MAX) {
		char text[16];
		snprintf(text, sizeof(text), "%u", to->batch_window);
		say(fill, KEY("batch_window"), text);
	}
	to->source_keys = raw->source_keys ? copy(fill, raw->source_keys) : NULL;
	if (raw->source_keys && raw->source_keys[0] == '\0')
		say(fill, KEY("source_keys"), "");
	/* an empty list trusts nobody, which is not the same as no list */
	if (config_tree_line(fill->tree, KEY("trusted"))) {
		to->trusted_count = raw->trusted_count;
		to->trusted = prefixes(fill, raw->trusted, raw->trusted_count, dotted, false);
		return;
	}
#undef KEY
	const struct tp_prefix *preset = tp_private_prefixes(&to->trusted_count);
	to->trusted = array(fill, to->trusted_count, sizeof(*to->trusted));
	if (to->trusted)
		memcpy(to->trusted, preset, to->trusted_count * sizeof(*preset));
}

static void fill_ingests(struct fill *fill, const struct raw_config *raw, struct tp_config *config)
{
	static const struct raw_ingest preset = {.http = (char *)"127.0.0.1:8080", .udp = (char *)"127.0.0.1:7771"};
	bool given = config_tree_line(fill->tree, "ingest") != 0;
	const struct raw_ingest *from = given ? raw->ingest : &preset;
	uint32_t count = given ? raw->ingest_count : 1;

	config->ingest = array(fill, count, sizeof(*config->ingest));
	if (!config->ingest)
		return;
	config->ingest_count = count;
	for (uint32_t i = 0; i < count; i++)
		fill_ingest(fill, &from[i], i, &config->ingest[i]);
}

static void cpus(struct fill *fill, const char *dotted, const uint32_t *from, uint32_t count, uint32_t preset,
		 uint32_t preset_count, uint32_t **to, uint32_t *to_count)
{
	bool given = config_tree_line(fill->tree, dotted) != 0;

	*to_count = given ? count : preset_count;
	*to = array(fill, *to_count, sizeof(**to));
	for (uint32_t i = 0; *to && i < *to_count; i++)
		(*to)[i] = given ? from[i] : preset + i;
}

static void fill_node(struct fill *fill, const struct raw_node *raw, struct tp_config *config)
{
	char host[NODE_NAME_BYTES_MAX + 1] = "";

	if (!raw->name && (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0'))
		memcpy(host, "turnpike", sizeof("turnpike"));
	config->node_name = copy(fill, raw->name ? raw->name : host);
	if (raw->name) {
		size_t bytes = strlen(raw->name);
		bool good = bytes >= 1 && bytes <= NODE_NAME_BYTES_MAX;
		for (size_t i = 0; i < bytes; i++)
			good = good && (unsigned char)raw->name[i] >= ' ' && raw->name[i] != 0x7f;
		if (!good)
			say(fill, "node.name", raw->name);
	}
}

/* Without the slashes at the end, which would make "<data_dir>-control" a folder inside it. */
static char *folder(struct fill *fill, const char *text, const char *dotted, const char *suffix)
{
	size_t bytes = strlen(text);

	if (bytes == 0) {
		say(fill, dotted, text);
		return NULL;
	}
	while (bytes > 1 && text[bytes - 1] == '/')
		bytes--;
	char *made = array(fill, (uint32_t)(bytes + strlen(suffix) + 1), 1);
	if (made)
		sprintf(made, "%.*s%s", (int)bytes, text, suffix);
	return made;
}

static void fill_times(struct fill *fill, const struct raw_config *raw, struct tp_config *config)
{
	duration(fill, raw->durability.commit_interval, "durability.commit_interval", 1 * MS, 1, 0, "0", 1 * SEC, "1s",
		 &config->commit_interval_ns);
	duration(fill, raw->durability.seal_after, "durability.seal_after", 5 * MIN, MS, 1 * SEC, "1s", 1 * DAY, "1d",
		 &config->seal_after_ms);
	duration(fill, raw->time.lateness, "time.lateness", 60 * SEC, MS, 0, "0", 7 * DAY, "7d", &config->lateness_ms);
	duration(fill, raw->time.horizon, "time.horizon", 15 * MIN, MS, 1 * SEC, "1s", 7 * DAY, "7d", &config->horizon_ms);
	duration(fill, raw->time.max_future, "time.max_future", 60 * SEC, MS, 0, "0", 1 * DAY, "1d", &config->max_future_ms);
	duration(fill, raw->windows.session_gap, "windows.session_gap", 30 * MIN, MS, 1 * SEC, "1s", 1 * DAY, "1d",
		 &config->session_gap_ms);
	duration(fill, raw->retention.raw, "retention.raw", 30 * DAY, MS, 1 * SEC, "1s", 100 * YEAR, "100y",
		 &config->retention_raw_ms);
	duration(fill, raw->retention.minute, "retention.minute", 45 * DAY, MS, 1 * SEC, "1s", 100 * YEAR, "100y",
		 &config->retention_minute_ms);
	duration(fill, raw->retention.hour, "retention.hour", 400 * DAY, MS, 1 * SEC, "1s", 100 * YEAR, "100y",
		 &config->retention_hour_ms);
	duration(fill, raw->retention.day, "retention.day", 10 * YEAR, MS, 1 * SEC, "1s", 100 * YEAR, "100y",
		 &config->retention_day_ms);
}

static void fill_sizes(struct fill *fill, const struct raw_config *raw, struct tp_config *config)
{
	size(fill, raw->memory.dedup, "memory.dedup", 256 * MIB, 1 * MIB, UINT64_MAX, 1, "a size of at least 1MiB",
	     &config->memory_dedup_bytes);
	size(fill, raw->memory.hop, "memory.hop", 8 * MIB, 4 * MIB, 256 * MIB, 0,
	     "a size from 4MiB to 256MiB that is a power of two", &config->memory_hop_bytes);
	size(fill, raw->memory.fraud, "memory.fraud", 32 * MIB, 4 * MIB, UINT64_MAX, 1, "a size of at least 4MiB",
	     &config->memory_fraud_bytes);
	config->dlq_per_second = raw->dlq.per_second ? *raw->dlq.per_second : 1000;
	if (config->dlq_per_second > DLQ_PER_SECOND_MOST)
		config_error(fill->errors, config_tree_line(fill->tree, "dlq.per_second"), "dlq.per_second",
			     "expected a whole number from 0 to %d, found %u", DLQ_PER_SECOND_MOST, config->dlq_per_second);
	size(fill, raw->dlq.bytes_per_second, "dlq.bytes_per_second", 1 * MIB, 4 * KIB, 1024 * MIB, 1, "a size from 4KiB to 1GiB",
	     &config->dlq_bytes_per_second);
	config->memory_connections = raw->memory.connections ? *raw->memory.connections : 16384;
	if (config->memory_connections < CONNECTIONS_LEAST || config->memory_connections > CONNECTIONS_MOST)
		config_error(fill->errors, config_tree_line(fill->tree, "memory.connections"), "memory.connections",
			     "expected a whole number from %d to %d, found %u", CONNECTIONS_LEAST, CONNECTIONS_MOST,
			     config->memory_connections);
	/* Sealing takes memory in proportion to the file, and recovery time: both are to be bounded whatever the disk holds. */
	size(fill, raw->durability.log_file, "durability.log_file", 64 * MIB, 16 * MIB, 1024 * MIB, MIB,
	     "a size from 16MiB to 1GiB in whole MiB (a file is sealed as a whole, in memory)", &config->log_file_bytes);
}

/* The config reader runs in several programs with several working folders: a path means the same in all. */
static void list_files(struct fill *fill, char **path, uint32_t count, const char *key, bool count_only, struct tp_config *config)
{
	for (uint32_t i = 0; i < count && config->blocklist_file; i++) {
		char dotted[CONFIG_DOTTED_BYTES];
		snprintf(dotted, sizeof(dotted), "%s[%u]", key, i);
		if (path[i][0] != '/')
			say(fill, dotted, path[i]);
		config->blocklist_file[config->blocklist_files++] =
			(struct tp_config_list_file){.path = copy(fill, path[i]), .count_only = count_only};
	}
}

static void fill_blocklist(struct fill *fill, const struct raw_blocklist *raw, struct tp_config *config)
{
	config->blocklist_file = array(fill, raw->files_count + raw->count_only_files_count, sizeof(*config->blocklist_file));
	list_files(fill, raw->files, raw->files_count, "blocklist.files", false, config);
	list_files(fill, raw->count_only_files, raw->count_only_files_count, "blocklist.count_only_files", true, config);
}

static void fill_control(struct fill *fill, const struct raw_config *raw, struct tp_config *config)
{
	const char *data_dir = raw->node.data_dir ? raw->node.data_dir : "/var/lib/turnpike";

	config->data_dir = folder(fill, data_dir, "node.data_dir", "");
	if (raw->control.state_dir)
		config->control_state_dir = folder(fill, raw->control.state_dir, "control.state_dir", "");
	else if (config->data_dir)
		config->control_state_dir = folder(fill, config->data_dir, "control.state_dir", "-control");
	endpoint(fill, raw->control.listen ? raw->control.listen : "127.0.0.1:8081", "control.listen", &config->control_listen);
	config->control_auth_tokens = raw->control.auth == RAW_READ_TOKENS;
	if (raw->control.tls.certificate)
		config->control_tls_certificate = copy(fill, raw->control.tls.certificate);
	if (raw->control.tls.key)
		config->control_tls_key = copy(fill, raw->control.tls.key);
	if (raw->control.tls.client_ca)
		config->control_tls_client_ca = copy(fill, raw->control.tls.client_ca);
	limit(fill, raw->control.token_rate_limit, "control.token_rate_limit", 2000, &config->control_token_rate_limit);
	duration(fill, raw->control.session, "control.session", 12 * HOUR, MS, 1 * SEC, "1s", 30 * DAY, "30d",
		 &config->control_session_ms);
	config->control_connections = raw->control.connections ? *raw->control.connections : 4096;
	if (config->control_connections < 16 || config->control_connections > 65536)
		config_error(fill->errors, config_tree_line(fill->tree, "control.connections"), "control.connections",
			     "expected a whole number from 16 to 65536, found %u", config->control_connections);
}

/* "adv_1=Europe/Berlin": a zone's name has no '=', an advertiser's may. */
static void fill_billing_zone(struct fill *fill, const char *text, uint32_t index, struct tp_config_billing_zone *to)
{
	const char *equals = strrchr(text, '=');
	char dotted[CONFIG_DOTTED_BYTES];

	snprintf(dotted, sizeof(dotted), "billing.zones[%u]", index);
	if (!equals || equals == text || equals[1] == '\0') {
		say(fill, dotted, text);
		return;
	}
	to->zone = copy(fill, equals + 1);
	to->advertiser = copy(fill, text);
	if (to->advertiser)
		to->advertiser[equals - text] = '\0';
}

static void fill_billing(struct fill *fill, const struct raw_billing *raw, struct tp_config *config)
{
	/* an empty list issues nothing, which is not the same as no list */
	bool given = config_tree_line(fill->tree, "billing.issue") != 0;
	char dotted[CONFIG_DOTTED_BYTES];

	if (raw->zone && raw->zone[0] == '\0')
		say(fill, "billing.zone", raw->zone);
	config->billing_zone = copy(fill, raw->zone ? raw->zone : "UTC");
	config->billing_zones = array(fill, raw->zones_count, sizeof(*config->billing_zones));
	config->billing_zone_count = config->billing_zones ? raw->zones_count : 0;
	for (uint32_t i = 0; i < config->billing_zone_count; i++)
		fill_billing_zone(fill, raw->zones[i], i, &config->billing_zones[i]);
	config->billing_issue_daily = config->billing_issue_monthly = !given;
	for (uint32_t i = 0; given && i < raw->issue_count; i++) {
		bool hourly = strcmp(raw->issue[i], "hourly") == 0, daily = strcmp(raw->issue[i], "daily") == 0;
		bool monthly = strcmp(raw->issue[i], "monthly") == 0;
		config->billing_issue_hourly |= hourly;
		config->billing_issue_daily |= daily;
		config->billing_issue_monthly |= monthly;
		snprintf(dotted, sizeof(dotted), "billing.issue[%u]", i);
		if (!hourly && !daily && !monthly)
			say(fill, dotted, raw->issue[i]);
	}
	duration(fill, raw->interval, "billing.interval", 1 * MIN, MS, 1 * SEC, "1s", 1 * HOUR, "1h", &config->billing_interval_ms);
}

/* An address alone or with a path; no more is known here, and nothing is looked up. */
static void fill_tracing(struct fill *fill, const struct raw_tracing *raw, struct tp_config *config)
{
	const char *text = raw->collector;

	if (!text)
		return;
	size_t scheme = strncmp(text, "http://", 7) == 0 ? 7 : strncmp(text, "https://", 8) == 0 ? 8 : 0;
	bool good = scheme && text[scheme] != '\0' && text[scheme] != '/' && strlen(text) < COLLECTOR_BYTES_MAX;
	for (const char *c = text; *c; c++)
		good = good && *c > ' ' && *c < 0x7f;
	if (good)
		config->tracing_collector = copy(fill, text);
	else
		say(fill, "tracing.collector", text);
}

/* "0.95" in millionths, digit by digit. */
static void millionths(struct fill *fill, const char *text, const char *dotted, uint32_t *to)
{
	size_t bytes = strlen(text), point = strcspn(text, ".");
	uint64_t value = 0;
	bool good = point == 1 && bytes <= 8 && bytes != 2 && strspn(text, "0123456789.") == bytes;
	for (size_t i = 0, digits = 0; good && digits < 7; digits++) {
		char digit = i < bytes ? text[i++] : '0';
		good = digit != '.';
		value = 10 * value + (uint64_t)(digit - '0');
		i += digits == 0 && i < bytes;
	}
	if (!good || value > 1000000)
		say(fill, dotted, text);
	else
		*to = (uint32_t)value;
}

static uint32_t whole(struct fill *fill, const uint32_t *from, const char *dotted, uint32_t preset, uint32_t least, uint32_t most)
{
	if (!from || (*from >= least && *from <= most) || *from == preset)
		return from ? *from : preset;
	config_error(fill->errors, config_tree_line(fill->tree, dotted), dotted,
		     "expected a whole number from %u to %u%s, found %u", least, most, preset ? "" : ", or 0", *from);
	return preset;
}

static void fill_fraud(struct fill *fill, const struct raw_fraud *raw, struct tp_config_fraud *to)
{
#define FILE_OF(key)      (raw->key ? copy(fill, raw->key) : NULL)
#define FLAG(key, preset) (raw->key ? *raw->key : (preset))
	to->clicks_per_ip_hour = raw->clicks_per_ip_hour ? *raw->clicks_per_ip_hour : 10;
	to->clicks_per_device_hour = raw->clicks_per_device_hour ? *raw->clicks_per_device_hour : 5;
	to->min_ms_since_impression = raw->min_ms_since_impression ? *raw->min_ms_since_impression : 500;
	to->no_impression = FLAG(no_impression, false);
	to->blocklisted = FLAG(blocklisted, true);
	to->no_mouse = FLAG(no_mouse, false);
	to->device_mismatch = FLAG(device_mismatch, false);
	to->geo_mismatch = FLAG(geo_mismatch, false);
	to->blocklist_count_only = FLAG(blocklist_count_only, true);
	duration(fill, raw->impression_lookback, "fraud.impression_lookback", 30 * MIN, MS, 1 * SEC, "1s", 1 * HOUR, "1h",
		 &to->impression_lookback_ms);
	duration(fill, raw->blocklist_ttl, "fraud.blocklist_ttl", 1 * HOUR, MS, 1 * SEC, "1s", 30 * DAY, "30d",
		 &to->blocklist_ttl_ms);
	to->regular_timing_ms = whole(fill, raw->regular_timing_ms, "fraud.regular_timing_ms", 0, 1, 60000);
	to->regular_timing_gaps = whole(fill, raw->regular_timing_gaps, "fraud.regular_timing_gaps", 5, 3, 8);
	to->addresses_per_device_hour = whole(fill, raw->addresses_per_device_hour, "fraud.addresses_per_device_hour", 0, 1, 15);
	to->agents_per_device_hour = whole(fill, raw->user_agents_per_device_hour, "fraud.user_agents_per_device_hour", 0, 1, 7);
	to->travel_kmh = whole(fill, raw->travel_kmh, "fraud.travel_kmh", 0, 1, 100000);
	to->ctr_deviations = whole(fill, raw->ctr_deviations, "fraud.ctr_deviations", 0, 1, 1000);
	to->blocklist_over = whole(fill, raw->blocklist_over, "fraud.blocklist_over", 0, 2, 1000000);
	to->bot_user_agents = FILE_OF(bot_user_agents);
	to->bot_asns = FILE_OF(bot_asns);
	to->asn_database = FILE_OF(asn_database);
	to->geo_database = FILE_OF(geo_database);
	to->model = FILE_OF(model);
	to->model_threshold = 900000;
	if (raw->model_threshold)
		millionths(fill, raw->model_threshold, "fraud.model_threshold", &to->model_threshold);
	if (to->bot_asns && !to->asn_database)
		config_error(fill->errors, config_tree_line(fill->tree, "fraud.bot_asns"), "fraud.bot_asns",
			     "expected fraud.asn_database beside it, which tells an address' autonomous system");
	to->bot_address_count = raw->bot_addresses_count;
	to->bot_addresses = array(fill, raw->bot_addresses_count, sizeof(*to->bot_addresses));
	for (uint32_t i = 0; to->bot_addresses && i < raw->bot_addresses_count; i++)
		to->bot_addresses[i] = copy(fill, raw->bot_addresses[i]);
#undef FILE_OF
#undef FLAG
}

int config_fill(const struct raw_config *raw, const struct config_tree *tree, struct tp_config *config,
		struct config_errors *errors)
{
	struct fill fill = {.tree = tree, .errors = errors};
	long here = sysconf(_SC_NPROCESSORS_CONF);
	uint32_t cpu_count = here > 0 ? (uint32_t)here : 1;

	fill_node(&fill, &raw->node, config);
	fill_control(&fill, raw, config);
	fill_tracing(&fill, &raw->tracing, config);
	fill_ingests(&fill, raw, config);
	fill_blocklist(&fill, &raw->blocklist, config);
	const struct raw_cores *cores = &raw->cores;
	cpus(&fill, "cores.rx", cores->rx, cores->rx_count, 0, 1, &config->rx, &config->rx_count);
	cpus(&fill, "cores.shard", cores->shard, cores->shard_count, cpu_count > 1, 1, &config->shard, &config->shard_count);
	cpus(&fill, "cores.background", cores->background, cores->background_count, 0, cpu_count, &config->background,
	     &config->background_count);
	config->idle_sleep = cores->idle == RAW_IDLE_SLEEP;
	config->preallocate = raw->durability.preallocate ? *raw->durability.preallocate : true;
	fill_times(&fill, raw, config);
	fill_sizes(&fill, raw, config);
	fill_fraud(&fill, &raw->fraud, &config->fraud);
	fill_billing(&fill, &raw->billing, config);
	if (fill.no_memory)
		return -ENOMEM;
	return errors->count ? -EINVAL : 0;
}
