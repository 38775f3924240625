/*
 * The configuration file of contract section 3: one YAML file for all programs, schema-checked through libcyaml.
 *
 * tp_config_load() fills every default, so that the rest of the code never asks whether a key was there. Read-only after start;
 * any thread may read. A reload (SIGHUP) loads a second one and compares.
 */
#ifndef TURNPIKE_CONFIG_H
#define TURNPIKE_CONFIG_H

#include "turnpike/addr.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum tp_driver { TP_DRIVER_SOCKET, TP_DRIVER_DPDK };

struct tp_config_ingest {
	enum tp_driver driver;
	/* socket */
	struct tp_endpoint http, udp; /* .port may be 0: pick one; .addr.family 0: not wanted */
	/* dpdk */
	char *device;              /* EAL --vdev string or PCI address */
	struct tp_prefix *address; /* our addresses with their on-link prefix length */
	uint32_t address_count;
	struct tp_addr *gateway; /* optional, at most one per family */
	uint32_t gateway_count;
	char *tap;                    /* interface to make for frames that are not ours; NULL: they are dropped */
	uint16_t http_port, udp_port; /* default 80 and 7771; 0: not wanted */
	/* both */
	struct tp_prefix *trusted; /* default: loopback and private ranges */
	uint32_t trusted_count;
	bool auth_tokens;
	uint32_t rate_limit; /* requests or datagrams per second and source prefix; 0: off */
	/* not in the contract's example; documented in docs/tuning.md */
	uint32_t packet_rate_limit;      /* dpdk over net_af_xdp: packets per second and source, in the XDP program; 0: off */
	uint32_t token_rate_limit;       /* the same per token, or per source that signs its batches; 0: off */
	uint32_t connections_per_source; /* HTTP connections at once of one source prefix on one rx core; 0: off */
	uint32_t batch_window;           /* UDP batches of one source between arrival and acknowledgement on one rx core */
	char *source_keys;               /* file of those who may send UDP batches, and their keys; NULL: anybody may */
};

enum { TP_LIST_FILES_MAX = 32 };

/* A file of prefixes for the blocklist. */
struct tp_config_list_file {
	char *path; /* absolute */
	bool count_only;
};

/* The rules of docs/fraud.md; 0, false or NULL: off. A path is as written in the file. */
struct tp_config_fraud {
	uint32_t clicks_per_ip_hour, clicks_per_device_hour, min_ms_since_impression;
	bool no_impression, blocklisted, no_mouse, device_mismatch, geo_mismatch;
	uint64_t impression_lookback_ms;
	uint32_t regular_timing_ms, regular_timing_gaps, addresses_per_device_hour, agents_per_device_hour, travel_kmh;
	char *bot_user_agents, *bot_asns, *asn_database, *geo_database, *model;
	char **bot_addresses;
	uint32_t bot_address_count;
	uint32_t model_threshold; /* millionths */
	uint32_t ctr_deviations;
	uint32_t blocklist_over; /* times clicks_per_ip_hour */
	uint64_t blocklist_ttl_ms;
	bool blocklist_count_only;
};

/* The zone in which an advertiser is billed. */
struct tp_config_billing_zone {
	char *advertiser, *zone;
};

struct tp_config {
	char *file; /* path it came from, for messages */
	char *node_name;
	char *data_dir;
	struct tp_config_ingest *ingest;
	uint32_t ingest_count;
	uint32_t *rx, *shard, *background; /* CPU numbers */
	uint32_t rx_count, shard_count, background_count;
	bool idle_sleep;
	uint64_t commit_interval_ns;
	bool preallocate;
	uint64_t lateness_ms, horizon_ms, max_future_ms;
	uint64_t retention_raw_ms, retention_minute_ms, retention_hour_ms, retention_day_ms;
	struct tp_config_fraud fraud;
	struct tp_config_list_file *blocklist_file; /* those that drop first, in the order of the file */
	uint32_t blocklist_files;
	struct tp_endpoint control_listen;
	char *control_state_dir;
	bool control_auth_tokens;
	char *billing_zone; /* of all who have none of their own: an IANA name, which the control process looks up */
	struct tp_config_billing_zone *billing_zones;
	uint32_t billing_zone_count;
	bool billing_issue_hourly, billing_issue_daily,
		billing_issue_monthly; /* which reports are issued, default daily and monthly */
	uint64_t billing_interval_ms;  /* how often the issuer looks, default 1m */
	/* not in the contract's example; docs/access.md */
	char *control_tls_certificate, *control_tls_key; /* PEM files, both or neither */
	char *control_tls_client_ca;                     /* who signs clients' certificates; NULL: none are asked for */
	uint32_t control_token_rate_limit;               /* requests per second and token; 0: off */
	uint32_t control_connections;                    /* at once */
	uint64_t control_session_ms;                     /* how long a login lasts */
	/* not in the contract's example; documented in docs/tuning.md */
	char *tracing_collector;       /* tracing.collector: where spans go; NULL: no tracing */
	uint64_t memory_dedup_bytes;   /* memory.dedup, default 256MiB */
	uint32_t memory_connections;   /* memory.connections, TCP connections per rx core and DPDK port, default 16384 */
	uint64_t memory_hop_bytes;     /* memory.hop, per rx × shard ring, default 8MiB, power of two >= 4MiB */
	uint64_t memory_fraud_bytes;   /* memory.fraud, per shard, default 32MiB */
	uint64_t log_file_bytes;       /* durability.log_file, default 64MiB, multiple of 1MiB, >= 4 × memory.hop */
	uint32_t dlq_per_second;       /* dlq.per_second, dead letters kept per rx core, default 1000; 0: none */
	uint64_t dlq_bytes_per_second; /* dlq.bytes_per_second, of their records, default 1MiB */
	uint64_t session_gap_ms;       /* windows.session_gap, default 30m */
	uint64_t seal_after_ms;        /* durability.seal_after: age at which an open log file with events is sealed; default 5m */
};

/*
 * Reads, checks and fills `config`. On error returns -EINVAL (bad content) or -errno (cannot read) and prints to `errors` one line
 * per error found (at least the first), such as
 *   /etc/turnpike.yaml:12: durability.commit_interval: expected a duration such as 1ms, found "1 parsec"
 * On success free with tp_config_free().
 */
int tp_config_load(const char *path, struct tp_config *config, FILE *errors);
void tp_config_free(struct tp_config *config);

#endif
