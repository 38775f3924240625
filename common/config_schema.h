/*
 * The configuration as it stands in the file: libcyaml's schema and the structs that it fills. Private to config*.c.
 *
 * Scalars that YAML has no type for (durations, sizes, addresses) are text here; config_fill.c turns them into struct tp_config.
 * NULL, for a pointer as for text, means that the key is absent. An absent choice is 0, which is the default of each.
 */
#ifndef TURNPIKE_CONFIG_SCHEMA_H
#define TURNPIKE_CONFIG_SCHEMA_H

#include <cyaml/cyaml.h>
#include <stdbool.h>
#include <stdint.h>

struct raw_node {
	char *name, *data_dir;
};

enum raw_ingest_auth { RAW_SEND_NONE, RAW_SEND_TOKENS };

struct raw_ingest {
	int driver; /* enum tp_driver */
	char *http, *udp;
	char *device;
	char **address;
	uint32_t address_count;
	char *gateway;
	char *tap;
	uint16_t *http_port, *udp_port;
	char **trusted;
	uint32_t trusted_count;
	int auth; /* enum raw_ingest_auth */
	char *rate_limit, *packet_rate_limit, *token_rate_limit, *connections_per_source, *source_keys;
	uint32_t *batch_window;
};

enum raw_idle { RAW_IDLE_SLEEP, RAW_IDLE_POLL };

struct raw_cores {
	uint32_t *rx, *shard, *background;
	uint32_t rx_count, shard_count, background_count;
	int idle; /* enum raw_idle */
};

struct raw_durability {
	char *commit_interval, *log_file, *seal_after;
	bool *preallocate;
};

struct raw_time {
	char *lateness, *horizon, *max_future;
};

struct raw_windows {
	char *session_gap;
};

struct raw_retention {
	char *raw, *minute, *hour, *day;
};

struct raw_fraud {
	uint32_t *clicks_per_ip_hour, *clicks_per_device_hour, *min_ms_since_impression;
	bool *no_impression, *blocklisted, *no_mouse, *device_mismatch, *geo_mismatch;
	char *impression_lookback;
	uint32_t *regular_timing_ms, *regular_timing_gaps, *addresses_per_device_hour, *user_agents_per_device_hour, *travel_kmh;
	char *bot_user_agents, *bot_asns, *geo_database, *asn_database, *model, *model_threshold;
	char **bot_addresses;
	uint32_t bot_addresses_count;
	uint32_t *ctr_deviations, *blocklist_over;
	char *blocklist_ttl;
	bool *blocklist_count_only;
};

struct raw_blocklist {
	char **files, **count_only_files;
	uint32_t files_count, count_only_files_count;
};

struct raw_billing {
	char *zone, **zones, **issue, *interval;
	uint32_t zones_count, issue_count;
};

enum raw_control_auth { RAW_READ_TOKENS, RAW_READ_NONE };

struct raw_tls {
	char *certificate, *key, *client_ca;
};

struct raw_control {
	char *listen, *state_dir;
	int auth; /* enum raw_control_auth */
	struct raw_tls tls;
	char *token_rate_limit, *session;
	uint32_t *connections;
};

struct raw_tracing {
	char *collector;
};

struct raw_memory {
	char *dedup, *hop, *fraud;
	uint32_t *connections;
};

struct raw_dlq {
	uint32_t *per_second;
	char *bytes_per_second;
};

struct raw_config {
	struct raw_node node;
	struct raw_ingest *ingest;
	uint32_t ingest_count;
	struct raw_cores cores;
	struct raw_durability durability;
	struct raw_time time;
	struct raw_windows windows;
	struct raw_retention retention;
	struct raw_fraud fraud;
	struct raw_blocklist blocklist;
	struct raw_control control;
	struct raw_memory memory;
	struct raw_tracing tracing;
	struct raw_dlq dlq;
	struct raw_billing billing;
};

extern const cyaml_schema_value_t tp_config_schema; /* a pointer to struct raw_config */

/* What the value of a key has to look like, such as "a duration such as 1ms"; NULL where the type says it all. */
const char *tp_config_expected(const char *dotted);

#endif
