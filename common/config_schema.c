/*
 * The schema of the configuration file (contract section 3), in libcyaml's terms. It is the one list of keys: config_tree.c checks
 * the document against it, libcyaml loads by it. Every key is optional here; config_fill.c has the defaults.
 */
#include "config_schema.h"

#include "turnpike/config.h"

#include <string.h>

#define OPTIONAL CYAML_FLAG_OPTIONAL
#define POINTER  (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

#define TEXT(type, member)          CYAML_FIELD_STRING_PTR(#member, POINTER, struct type, member, 0, CYAML_UNLIMITED)
#define WHOLE(type, member)         CYAML_FIELD_UINT_PTR(#member, POINTER, struct type, member)
#define FLAG(type, member)          CYAML_FIELD_BOOL_PTR(#member, POINTER, struct type, member)
#define LIST(type, member, entry)   CYAML_FIELD_SEQUENCE(#member, POINTER, struct type, member, entry, 0, CYAML_UNLIMITED)
#define CHOICE(type, member, names) CYAML_FIELD_ENUM(#member, OPTIONAL, struct type, member, names, CYAML_ARRAY_LEN(names))
#define SECTION(member)             CYAML_FIELD_MAPPING(#member, OPTIONAL, struct raw_config, member, member##_fields)

static const cyaml_schema_value_t text_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};
static const cyaml_schema_value_t cpu_value = {CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, uint32_t)};

static const cyaml_strval_t driver_names[] = {{"socket", TP_DRIVER_SOCKET}, {"dpdk", TP_DRIVER_DPDK}};
static const cyaml_strval_t ingest_auth_names[] = {{"none", RAW_SEND_NONE}, {"tokens", RAW_SEND_TOKENS}};
static const cyaml_strval_t control_auth_names[] = {{"tokens", RAW_READ_TOKENS}, {"none", RAW_READ_NONE}};
static const cyaml_strval_t idle_names[] = {{"poll", RAW_IDLE_POLL}, {"sleep", RAW_IDLE_SLEEP}};

static const cyaml_schema_field_t node_fields[] = {
	TEXT(raw_node, name),
	TEXT(raw_node, data_dir),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t ingest_fields[] = {
	CHOICE(raw_ingest, driver, driver_names),
	TEXT(raw_ingest, http),
	TEXT(raw_ingest, udp),
	TEXT(raw_ingest, device),
	LIST(raw_ingest, address, &text_value),
	TEXT(raw_ingest, gateway),
	TEXT(raw_ingest, tap),
	WHOLE(raw_ingest, http_port),
	WHOLE(raw_ingest, udp_port),
	LIST(raw_ingest, trusted, &text_value),
	CHOICE(raw_ingest, auth, ingest_auth_names),
	TEXT(raw_ingest, rate_limit),
	TEXT(raw_ingest, packet_rate_limit),
	TEXT(raw_ingest, token_rate_limit),
	TEXT(raw_ingest, connections_per_source),
	WHOLE(raw_ingest, batch_window),
	TEXT(raw_ingest, source_keys),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t ingest_value = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_ingest, ingest_fields)};

static const cyaml_schema_field_t cores_fields[] = {
	LIST(raw_cores, rx, &cpu_value),
	LIST(raw_cores, shard, &cpu_value),
	LIST(raw_cores, background, &cpu_value),
	CHOICE(raw_cores, idle, idle_names),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t durability_fields[] = {
	TEXT(raw_durability, commit_interval),
	CYAML_FIELD_BOOL_PTR("preallocate", POINTER, struct raw_durability, preallocate),
	TEXT(raw_durability, log_file),
	TEXT(raw_durability, seal_after),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t time_fields[] = {
	TEXT(raw_time, lateness),
	TEXT(raw_time, horizon),
	TEXT(raw_time, max_future),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t windows_fields[] = {
	TEXT(raw_windows, session_gap),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t retention_fields[] = {
	TEXT(raw_retention, raw), TEXT(raw_retention, minute), TEXT(raw_retention, hour), TEXT(raw_retention, day), CYAML_FIELD_END,
};

static const cyaml_schema_field_t fraud_fields[] = {
	WHOLE(raw_fraud, clicks_per_ip_hour),
	WHOLE(raw_fraud, clicks_per_device_hour),
	WHOLE(raw_fraud, min_ms_since_impression),
	FLAG(raw_fraud, no_impression),
	TEXT(raw_fraud, impression_lookback),
	FLAG(raw_fraud, blocklisted),
	TEXT(raw_fraud, bot_user_agents),
	LIST(raw_fraud, bot_addresses, &text_value),
	TEXT(raw_fraud, bot_asns),
	TEXT(raw_fraud, asn_database),
	TEXT(raw_fraud, geo_database),
	FLAG(raw_fraud, no_mouse),
	WHOLE(raw_fraud, regular_timing_ms),
	WHOLE(raw_fraud, regular_timing_gaps),
	WHOLE(raw_fraud, addresses_per_device_hour),
	WHOLE(raw_fraud, user_agents_per_device_hour),
	FLAG(raw_fraud, device_mismatch),
	FLAG(raw_fraud, geo_mismatch),
	WHOLE(raw_fraud, travel_kmh),
	TEXT(raw_fraud, model),
	TEXT(raw_fraud, model_threshold),
	WHOLE(raw_fraud, ctr_deviations),
	WHOLE(raw_fraud, blocklist_over),
	TEXT(raw_fraud, blocklist_ttl),
	FLAG(raw_fraud, blocklist_count_only),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t blocklist_fields[] = {
	LIST(raw_blocklist, files, &text_value),
	LIST(raw_blocklist, count_only_files, &text_value),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t tls_fields[] = {
	TEXT(raw_tls, certificate),
	TEXT(raw_tls, key),
	TEXT(raw_tls, client_ca),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t control_fields[] = {
	TEXT(raw_control, listen),
	TEXT(raw_control, state_dir),
	CHOICE(raw_control, auth, control_auth_names),
	CYAML_FIELD_MAPPING("tls", OPTIONAL, struct raw_control, tls, tls_fields),
	TEXT(raw_control, token_rate_limit),
	TEXT(raw_control, session),
	WHOLE(raw_control, connections),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t memory_fields[] = {
	TEXT(raw_memory, dedup), TEXT(raw_memory, hop), TEXT(raw_memory, fraud), WHOLE(raw_memory, connections), CYAML_FIELD_END,
};

static const cyaml_schema_field_t dlq_fields[] = {
	WHOLE(raw_dlq, per_second),
	TEXT(raw_dlq, bytes_per_second),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t billing_fields[] = {
	TEXT(raw_billing, zone),
	LIST(raw_billing, zones, &text_value),
	LIST(raw_billing, issue, &text_value),
	TEXT(raw_billing, interval),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t tracing_fields[] = {
	TEXT(raw_tracing, collector),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t config_fields[] = {
	SECTION(node),    LIST(raw_config, ingest, &ingest_value),
	SECTION(cores),   SECTION(durability),
	SECTION(time),    SECTION(retention),
	SECTION(fraud),   SECTION(control),
	SECTION(memory),  SECTION(blocklist),
	SECTION(windows), SECTION(dlq),
	SECTION(billing), SECTION(tracing),
	CYAML_FIELD_END,
};

const cyaml_schema_value_t tp_config_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, config_fields)};

static const struct {
	const char *dotted, *expected;
} expectation[] = {
	{"node.name", "a name of 1 to 63 printable bytes"},
	{"node.data_dir", "a folder"},
	{"ingest[].http", "an address and port such as 127.0.0.1:8080 or [::1]:8080"},
	{"ingest[].udp", "an address and port such as 127.0.0.1:7771 or [::1]:7771"},
	{"ingest[].device", "an EAL --vdev string such as net_af_xdp0,iface=tp0, or a PCI address"},
	{"ingest[].address", "a list of addresses such as [10.77.0.1/24, \"fd00:77::1/64\"]"},
	{"ingest[].address[]", "an address with its prefix length, such as 10.77.0.1/24 or \"fd00:77::1/64\""},
	{"ingest[].gateway", "an address such as 10.77.0.2, or one per family: \"10.77.0.2, fd00:77::2\""},
	{"ingest[].tap", "a name of 1 to 15 letters, digits, -, _ or . for a new network interface, such as tp-tap0"},
	{"ingest[].trusted", "a list of prefixes such as [10.0.0.0/8, \"fd00::/8\"]"},
	{"ingest[].trusted[]", "a prefix such as 10.0.0.0/8 or \"fd00::/8\""},
	{"ingest[].rate_limit", "a whole number of requests per second from 1 to 4294967295, or off"},
	{"ingest[].token_rate_limit", "a whole number of requests per second from 1 to 4294967295, or off"},
	{"ingest[].connections_per_source", "a whole number of connections from 1 to 4294967295, or off"},
	{"ingest[].batch_window", "a whole number of batches from 1 to 4096"},
	{"ingest[].source_keys", "the path of a file with the keys of batch sources"},
	{"ingest[].packet_rate_limit", "a whole number of packets per second from 1 to 4294967295, or off"},
	{"cores.rx", "a list of CPU numbers such as [0]"},
	{"cores.shard", "a list of CPU numbers such as [1]"},
	{"cores.background", "a list of CPU numbers such as [0, 1]"},
	{"durability.commit_interval", "a duration such as 1ms"},
	{"durability.log_file", "a size such as 256MiB"},
	{"durability.seal_after", "a duration such as 5m"},
	{"time.lateness", "a duration such as 60s"},
	{"time.horizon", "a duration such as 15m"},
	{"time.max_future", "a duration such as 60s"},
	{"windows.session_gap", "a duration such as 30m"},
	{"retention.raw", "a duration such as 30d"},
	{"retention.minute", "a duration such as 45d"},
	{"retention.hour", "a duration such as 400d"},
	{"retention.day", "a duration such as 10y"},
	{"fraud.impression_lookback", "a duration such as 30m"},
	{"fraud.bot_user_agents", "a file with one word per line"},
	{"fraud.bot_addresses", "a list of files with one prefix per line"},
	{"fraud.bot_addresses[]", "a file with one prefix per line"},
	{"fraud.bot_asns", "a file with one autonomous system number per line"},
	{"fraud.asn_database", "a MaxMind database file with autonomous systems"},
	{"fraud.geo_database", "a MaxMind database file with countries or cities"},
	{"fraud.model", "an XGBoost model file in JSON"},
	{"fraud.model_threshold", "a number from 0 to 1 with at most 6 decimals, such as 0.95"},
	{"fraud.blocklist_ttl", "a duration such as 1h"},
	{"blocklist.files", "a list of files such as [/etc/turnpike/drop.txt]"},
	{"blocklist.files[]", "an absolute path such as /etc/turnpike/drop.txt"},
	{"blocklist.count_only_files", "a list of files such as [/etc/turnpike/watch.txt]"},
	{"blocklist.count_only_files[]", "an absolute path such as /etc/turnpike/watch.txt"},
	{"tracing.collector", "the address of an OTLP collector such as http://127.0.0.1:4318"},
	{"control.listen", "an address and port such as 127.0.0.1:8081 or [::1]:8081"},
	{"control.state_dir", "a folder"},
	{"billing.zone", "a time zone such as Europe/Berlin"},
	{"billing.zones", "a list such as [\"adv_1=Europe/Berlin\"]"},
	{"billing.zones[]", "an advertiser and a zone, such as adv_1=Europe/Berlin"},
	{"billing.issue", "a list of hourly, daily and monthly"},
	{"billing.issue[]", "hourly, daily or monthly"},
	{"billing.interval", "a duration such as 1m"},
	{"control.tls.certificate", "a PEM file with the certificate and those above it"},
	{"control.tls.key", "a PEM file with the certificate's private key"},
	{"control.tls.client_ca", "a PEM file with the authorities of clients' certificates"},
	{"control.token_rate_limit", "a whole number of requests per second from 1 to 4294967295, or off"},
	{"control.session", "a duration such as 12h"},
	{"memory.dedup", "a size such as 256MiB"},
	{"memory.hop", "a size such as 8MiB"},
	{"memory.fraud", "a size such as 64MiB"},
	{"dlq.bytes_per_second", "a size such as 1MiB"},
};

/* Compares with any index taken out: "ingest[3].http" is "ingest[].http". */
static bool dotted_is(const char *dotted, const char *pattern)
{
	for (; *dotted != '\0'; dotted++, pattern++) {
		if (*dotted != *pattern)
			return false;
		if (*dotted == '[')
			dotted += strspn(dotted + 1, "0123456789");
	}
	return *pattern == '\0';
}

const char *tp_config_expected(const char *dotted)
{
	for (size_t i = 0; i < CYAML_ARRAY_LEN(expectation); i++) {
		if (dotted_is(dotted, expectation[i].dotted))
			return expectation[i].expected;
	}
	return NULL;
}
